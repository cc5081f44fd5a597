"""postgres pools: values, transactions, batches, COPY, and the examples that people copy."""

import contextlib
import datetime
import decimal
import io
import json
import pathlib
import re
import subprocess
import sys
import uuid

import pytest
from sublet_client import BackendError, SubletError
from sublet_client.postgres import rows, streamed, transaction

EXAMPLES = pathlib.Path(__file__).parents[1]
PAGE = EXAMPLES.parents[1] / "docs/backends/postgres.md"


def ask(sublet, pool, sql, *args):
    """What the statement's only row has in its only column."""
    [[value]] = sublet.execute(pool, "query", {"sql": sql, "args": args}).value
    return value


def run(on, sql, *args):
    return on.execute("execute", {"sql": sql, "args": args}).affected


def test_the_example_does_what_it_says(broker, postgres):
    program = [sys.executable, EXAMPLES / "postgres.py", broker.address, postgres]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == [
        "batch: CREATE TABLE, INSERT 0 1, INSERT 0 1",
        "transferred: ann 70.00, bob 50.00",
        "refused by account_money_check (23514, executed: no)",
        "done after 2 tries",
        "both happened: ann 80.00, bob 40.00",
        "copied: COPY 100000",
        "streamed: 100120.00",
    ], done.stderr


def test_the_page_s_blocks_print_what_is_written_behind_them(sublet, postgres):
    sublet.create_pool("db", {"postgres": {"user": "sublet"}, "endpoints": [{"address": postgres}]})
    run_on = {"sublet": sublet}
    table = "CREATE TABLE item (id int8 PRIMARY KEY, name text, price numeric)"
    sublet.execute("db", "simple", {"sql": f"{table}; INSERT INTO item VALUES (1, 'pen', 1.50)"})
    try:
        blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        assert len(blocks) == 4
        for block in blocks:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block, str(PAGE), "exec"), run_on)  # noqa: S102
            assert printed.getvalue().splitlines() == re.findall(r"print\(.*\)  # (.*)$", block, re.MULTILINE), block
        assert ask(sublet, "db", "SELECT price::float8 FROM item WHERE id = 1") == 2.5
    finally:
        sublet.execute("db", "execute", {"sql": "DROP TABLE item"})
        sublet.delete_pool("db", force=True)


VALUES = {
    "true": True,
    "9223372036854775807::int8": 9223372036854775807,
    "1.5::float8": 1.5,
    "12345678901234567890.10": decimal.Decimal("12345678901234567890.10"),
    "'NaN'::numeric": decimal.Decimal("NaN"),
    "'a \"b\"'::text": 'a "b"',
    "'\\x00ff'::bytea": b"\x00\xff",
    "'f47ac10b-58cc-4372-a567-0e02b2c3d479'::uuid": uuid.UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479"),
    "'{\"a\": [1, null]}'::jsonb": {"a": [1, None]},
    "'2026-01-31'::date": datetime.date(2026, 1, 31),
    "'infinity'::date": "infinity",
    "'2026-01-31 12:00:00.25'::timestamp": datetime.datetime(2026, 1, 31, 12, 0, 0, 250_000),
    "'2026-01-31 12:00:00+00'::timestamptz": datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC),
    "'0044-03-15 BC'::date": "0044-03-15 BC",
    "'1 day 2 hours'::interval": "1 day 02:00:00",
    "'{1.10,NULL}'::numeric[]": [decimal.Decimal("1.10"), None],
    "'{{2026-01-31},{NULL}}'::date[]": [[datetime.date(2026, 1, 31)], [None]],
    "NULL::uuid": None,
    "'[1,5)'::int4range": "[1,5)",
}


def test_values_are_what_python_has_for_them(sublet, make_db):
    columns = ", ".join(f"{sql} AS c{number}" for number, sql in enumerate(VALUES))
    answer = sublet.execute(make_db(), "query", {"sql": f"SELECT {columns}"})
    [row] = rows(answer)
    # NaN equals nothing, so it is their texts that are compared.
    assert list(map(repr, row.values())) == list(map(repr, VALUES.values()))
    assert list(row) == [f"c{number}" for number in range(len(VALUES))]
    assert [column.type for column in answer.columns][:4] == ["bool", "int8", "float8", "numeric"]


def test_streamed_rows_come_in_frames_and_have_their_columns(sublet, make_db):
    pool = make_db()
    query = {"sql": "SELECT n, n::numeric / 2 AS half FROM generate_series(1, 1000) AS n"}
    kinds = [event.WhichOneof("event") for event in sublet.stream(pool, "query", query)]
    assert kinds.count("rows") >= 4
    found = list(streamed(sublet.stream(pool, "query", query)))
    assert len(found) == 1000
    assert (found[-1]["n"], found[-1]["half"]) == (1000, decimal.Decimal(500))


def test_a_transaction_that_raises_is_undone_and_one_that_ends_is_kept(sublet, make_db):
    pool = make_db()
    sublet.execute(pool, "execute", {"sql": "CREATE TABLE t (n int PRIMARY KEY)"})
    with sublet.lease(pool) as lease:
        assert transaction(lease, lambda on: run(on, "INSERT INTO t VALUES (1), (2)")) == 2

        def fail(on):
            run(on, "DELETE FROM t")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            transaction(lease, fail)
        tries = []
        with pytest.raises(BackendError) as refused:
            transaction(lease, lambda on: tries.append(1) or run(on, "INSERT INTO t VALUES (3), (1)"))
    error = refused.value
    assert (error.code, error.sqlstate, error.executed) == ("ALREADY_EXISTS", "23505", "no")
    assert error.metadata["constraint"] == "t_pkey"
    assert len(tries) == 1, "only what may fare better is tried again"
    assert ask(sublet, pool, "SELECT array_agg(n ORDER BY n) FROM t") == [1, 2]


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_transaction_that_lost_a_conflict_is_done_again_as_often_as_it_may(sublet, make_db, attempts):
    pool = make_db()
    sublet.execute(pool, "simple", {"sql": "CREATE TABLE t (n int); INSERT INTO t VALUES (0)"})
    seen = []
    with sublet.lease(pool) as winner, sublet.lease(pool) as loser:

        def work(on):
            seen.append(on.execute("query", {"sql": "SELECT n FROM t"}).value[0][0])
            if len(seen) == 1:
                transaction(winner, lambda other: run(other, "UPDATE t SET n = n + 1"))
            run(on, "UPDATE t SET n = $1", seen[-1] + 10)

        if attempts == 1:
            with pytest.raises(BackendError) as lost:
                transaction(loser, work, attempts=attempts)
            assert (lost.value.sqlstate, lost.value.code, lost.value.retry_after) == ("40001", "ABORTED", 0.05)
        else:
            transaction(loser, work, attempts=attempts)
    assert seen == [0, 1][:attempts]
    assert ask(sublet, pool, "SELECT n FROM t") == {1: 1, 2: 11}[attempts]


def test_a_transaction_that_was_left_open_is_rolled_back_before_the_next_holder(sublet, make_db):
    pool = make_db(max_sessions=1)
    sublet.execute(pool, "execute", {"sql": "CREATE TABLE t (n int)"})
    with sublet.open_session(pool) as session:
        session.execute("begin")
        run(session, "INSERT INTO t VALUES (1)")
    assert ask(sublet, pool, "SELECT count(*) FROM t") == 0
    with pytest.raises(SubletError) as left:
        sublet.execute(pool, "execute", {"sql": "BEGIN"})
    assert (left.value.reason, left.value.executed) == ("TRANSACTION_LEFT_OPEN", "no")
    with pytest.raises(SubletError) as left:
        sublet.execute(pool, "simple", {"sql": "BEGIN; INSERT INTO t VALUES (1)"})
    # The broker does not read the text, which may have committed something before.
    assert (left.value.reason, left.value.executed) == ("TRANSACTION_LEFT_OPEN", "yes")
    assert ask(sublet, pool, "SELECT count(*) FROM t") == 0


@pytest.mark.parametrize("atomic", [True, False])
def test_a_batch_stands_together_or_each_for_itself(sublet, make_db, atomic):
    pool = make_db()
    sublet.execute(pool, "execute", {"sql": "CREATE TABLE t (n int PRIMARY KEY)"})
    insert = "INSERT INTO t VALUES ($1)"
    statements = [{"sql": insert, "args": [n]} for n in (1, 1, 2)]
    if atomic:
        with pytest.raises(BackendError) as refused:
            sublet.execute(pool, "batch", {"atomic": True, "statements": statements})
        assert refused.value.sqlstate == "23505"
        assert "statements[1]" in refused.value.message
    else:
        done = sublet.execute(pool, "batch", {"statements": statements}).value
        assert [result.get("affected", 0) for result in done] == [1, 0, 1]
        assert (done[1]["error"]["sqlstate"], done[1]["error"]["executed"]) == ("23505", "no")
    assert ask(sublet, pool, "SELECT count(*) FROM t") == (0 if atomic else 2)


def test_a_copy_is_whole_or_leaves_nothing(sublet, make_db):
    pool = make_db()
    sublet.execute(pool, "execute", {"sql": "CREATE TABLE t (n int, name text)"})
    copy = {"sql": "COPY t FROM STDIN (FORMAT csv)"}

    def lines(last):
        for start in range(0, 20_000, 100):
            yield "".join(f"{number},{'x' * 90}\n" for number in range(start, start + 100)).encode()
        yield last()

    def broken():
        raise ZeroDivisionError

    with sublet.open_session(pool) as session:
        with pytest.raises(BackendError) as refused:
            session.execute("copy_in", copy, input=lines(lambda: b"no number,\n"))
        assert (refused.value.sqlstate, refused.value.executed) == ("22P02", "no")
        with pytest.raises(ZeroDivisionError):
            session.execute("copy_in", copy, input=lines(broken))
        assert ask(sublet, pool, "SELECT count(*) FROM t") == 0
        assert session.execute("copy_in", copy, input=lines(lambda: b"-1,\n")).affected == 20_001
        text = session.execute("copy_out", {"sql": "COPY (SELECT n FROM t ORDER BY n LIMIT 2) TO STDOUT"}).value
    assert text == b"-1\n0\n"


COMMITS_FIRST = {
    "a text that commits before it opens a transaction": ("simple", {"sql": "{insert}; COMMIT; BEGIN"}),
    "a batch of single statements": ("batch", {"statements": [{"sql": "{insert}"}, {"sql": "BEGIN"}]}),
    "an atomic batch that commits in its middle": (
        "batch",
        {"atomic": True, "statements": [{"sql": "{insert}"}, {"sql": "COMMIT"}, {"sql": "SELECT 1/0"}]},
    ),
    "statements behind a copy": ("copy_in", {"sql": "COPY t FROM STDIN; {insert}; COMMIT; SELECT 1/0"}),
    "a block that commits": ("execute", {"sql": "/* a */ -- b\nDO $$BEGIN {insert}; COMMIT; PERFORM 1/0; END$$"}),
}


@pytest.mark.parametrize("what", COMMITS_FIRST)
def test_no_error_hides_what_was_committed_before_it(sublet, make_db, what):
    pool = make_db()
    sublet.execute(pool, "execute", {"sql": "CREATE TABLE t (n int)"})
    name, params = COMMITS_FIRST[what]
    with pytest.raises(SubletError) as failed:
        sublet.execute(pool, name, json.dumps(params).replace("{insert}", "INSERT INTO t VALUES (1)"))
    assert failed.value.executed == "yes"
    assert ask(sublet, pool, "SELECT count(*) FROM t") == 1


def test_a_batch_s_part_that_commits_by_itself_is_told_as_executed(sublet, make_db):
    pool = make_db()
    block = "DO $$BEGIN CREATE TABLE t (n int); COMMIT; PERFORM 1/0; END$$"
    [done] = sublet.execute(pool, "batch", {"statements": [{"sql": block}]}).value
    assert (done["error"]["sqlstate"], done["error"]["executed"]) == ("22012", "yes")
    assert ask(sublet, pool, "SELECT count(*) FROM t") == 0


def test_a_row_larger_than_any_message_is_copied_out_in_frames(sublet, make_db):
    copy = {"sql": "COPY (SELECT repeat('0123456789', 500000)) TO STDOUT"}
    frames = [event.data for event in sublet.stream(make_db(), "copy_out", copy) if event.data]
    assert b"".join(frames) == b"0123456789" * 500_000 + b"\n"
    assert max(map(len, frames)) == 64 * 1024
