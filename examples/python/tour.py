"""A tour of the broker: run `cargo run --release -- serve`, then this.

Usage: python tour.py [ADDRESS]
"""

import sys

from sublet_client import AcquireTimeout, BackendError, Sublet


def main(address: str = "127.0.0.1:50051") -> None:
    with Sublet(address, name="tour") as sublet:
        sublet.create_pool("tour", {"echo": {}, "sizing": {"maxSessions": 2}})
        try:
            lease_a_session(sublet)
            run_one_shots(sublet)
            open_a_session(sublet)
            print_statistics(sublet)
        finally:
            sublet.delete_pool("tour", force=True)


def lease_a_session(sublet: Sublet) -> None:
    with sublet.lease("tour", ttl=30) as lease:
        lease.execute("set", {"value": "mine"})
        print(f"lease {lease.id} on session {lease.session_id}: the session remembers {lease.execute('get').value!r}")
        with sublet.lease("tour"):
            try:
                sublet.lease("tour", wait=0)
            except AcquireTimeout as error:
                print(f"both sessions are leased: {error.reason}, executed: {error.executed}")


def run_one_shots(sublet: Sublet) -> None:
    answer = sublet.execute("tour", "echo", {"big": 18446744073709551615})
    print(f"one-shot: {answer.value}, reused session: {answer.info.reused}")
    try:
        sublet.execute("tour", "fail", {"code": "NOT_FOUND", "message": "no such row"})
    except BackendError as error:
        print(f"the backend's own error: {error}")
    items = [event.json_text for event in sublet.stream("tour", "stream", {"count": 3}) if event.json_text]
    print(f"streamed: {' '.join(items)}")


def open_a_session(sublet: Sublet) -> None:
    with sublet.open_session("tour") as session:
        calls = [session.submit("echo", {"n": n}) for n in range(5)]
        print(f"pipelined on one stream: {[call.result().value['n'] for call in calls]}")


def print_statistics(sublet: Sublet) -> None:
    stats = sublet.stats("tour")
    print(f"{stats.granted} grants by {stats.sessions_created} sessions, {stats.reuse_ratio:.0%} reused")


if __name__ == "__main__":
    main(*sys.argv[1:])
