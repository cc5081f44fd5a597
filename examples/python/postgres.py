"""PostgreSQL through the broker: run `cargo run --release -- serve`, have a server at hand, then this.

Usage: python postgres.py [BROKER [SERVER [USER]]]; the user needs no password, and may create a table.
"""

import sys
from collections.abc import Iterator

from sublet_client import BackendError, Lease, Sublet
from sublet_client.postgres import rows, streamed, transaction

POOL = "bank"


def main(broker: str = "127.0.0.1:50051", server: str = "127.0.0.1:5432", user: str = "sublet") -> None:
    with Sublet(broker, name="postgres.py") as sublet:
        spec = {"postgres": {"user": user}, "endpoints": [{"address": server}], "sizing": {"maxSessions": 2}}
        sublet.create_pool(POOL, spec)
        try:
            open_accounts(sublet)
            transfer(sublet)
            meet_a_conflict(sublet)
            copy_in(sublet)
            stream_rows(sublet)
        finally:
            sublet.execute(POOL, "execute", {"sql": "DROP TABLE IF EXISTS account"})
            sublet.delete_pool(POOL, force=True)


def open_accounts(sublet: Sublet) -> None:
    """A batch: one message to the server, and all of its statements or none."""
    insert = "INSERT INTO account VALUES ($1, $2)"
    statements = [
        {"sql": "CREATE TABLE account (owner text PRIMARY KEY, money numeric NOT NULL CHECK (money >= 0))"},
        {"sql": insert, "args": ["ann", "100.00"]},
        {"sql": insert, "args": ["bob", "20.00"]},
    ]
    results = sublet.execute(POOL, "batch", {"atomic": True, "statements": statements}).value
    print("batch:", ", ".join(result["tag"] for result in results))


def transfer(sublet: Sublet) -> None:
    """A transaction lives on a lease; one that fails is rolled back."""
    with sublet.lease(POOL) as lease:
        transaction(lease, lambda _: move(lease, "ann", "bob", "30.00"))
        print("transferred:", balances(sublet))
        try:
            transaction(lease, lambda _: move(lease, "ann", "bob", "1000.00"))
        except BackendError as error:
            print(f"refused by {error.metadata['constraint']} ({error.sqlstate}, executed: {error.executed})")


def meet_a_conflict(sublet: Sublet) -> None:
    """Two transactions want the same row: the server lets one of them win, and the other is done again."""
    with sublet.lease(POOL) as mine, sublet.lease(POOL) as other:
        tries = 0

        def work(_: object) -> None:
            nonlocal tries
            tries += 1
            # A transaction sees the rows as they are at its first statement.
            mine.execute("query", {"sql": "SELECT money FROM account"})
            if tries == 1:
                transaction(other, lambda _: move(other, "bob", "ann", "5.00"))
            move(mine, "bob", "ann", "5.00")

        transaction(mine, work)
        print(f"done after {tries} tries")
    print("both happened:", balances(sublet))


def copy_in(sublet: Sublet) -> None:
    """COPY takes its rows from any iterable of bytes, no faster than the server takes them.

    Each part is a message of its own, so a part should hold many rows.
    """
    with sublet.open_session(POOL) as session:
        done = session.execute("copy_in", {"sql": "COPY account FROM STDIN (FORMAT csv)"}, input=customers(100_000))
        print("copied:", done.attributes["tag"])


def customers(count: int) -> Iterator[bytes]:
    for start in range(0, count, 1000):
        yield "".join(f"customer {number},1.00\n" for number in range(start, start + 1000)).encode()


def stream_rows(sublet: Sublet) -> None:
    """However many rows there are, a frame of them is in memory at a time."""
    query = {"sql": "SELECT owner, money, now() AS seen FROM account"}
    found: Iterator[dict] = streamed(sublet.stream(POOL, "query", query))
    print("streamed:", sum(row["money"] for row in found))


def move(lease: Lease, giver: str, taker: str, amount: str) -> None:
    add = "UPDATE account SET money = money + $1::numeric WHERE owner = $2"
    lease.execute("execute", {"sql": add, "args": [f"-{amount}", giver]})
    lease.execute("execute", {"sql": add, "args": [amount, taker]})


def balances(sublet: Sublet) -> str:
    found = sublet.execute(POOL, "query", {"sql": "SELECT owner, money FROM account ORDER BY owner"})
    return ", ".join(f"{row['owner']} {row['money']}" for row in rows(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
