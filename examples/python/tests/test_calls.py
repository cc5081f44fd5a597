"""Calls: answers, failures as typed exceptions, streams, open sessions."""

import uuid

import pytest
from sublet_client import (
    AcquireTimeout,
    BackendError,
    InvalidArgument,
    NotFound,
    PoolExists,
    SessionLost,
    SubletError,
    retry_unexecuted,
)

ONE = {"maxSessions": 1}


def test_a_one_shot_answers_and_says_how_it_was_carried_out(sublet, make_pool):
    pool = make_pool()
    answer = sublet.execute(pool, "echo", {"hello": "world"})
    assert answer.value == {"hello": "world"}
    assert (answer.info.attempt, answer.info.endpoint) == (1, "echo")
    assert sublet.stats(pool).requests_ok == 1


def test_a_repeated_one_shot_runs_once(sublet, make_pool):
    pool = make_pool()
    request_id = str(uuid.uuid4())
    answers = [
        sublet.execute(pool, "sleep", {"duration": "1ms", "id": "once"}, request_id=request_id) for _ in range(2)
    ]
    assert answers[0].info.fence == answers[1].info.fence
    assert sublet.execute(pool, "count", {"scope": "pool"}).value["executed"] == ["once"]


@pytest.mark.parametrize("executed", ["no", "yes", "unknown"])
def test_a_backends_error_keeps_its_code_and_says_whether_it_was_executed(sublet, make_pool, executed):
    params = {"code": "NOT_FOUND", "message": "no such thing", "executed": executed, "retry_after": "2s"}
    with pytest.raises(BackendError) as failed:
        sublet.execute(make_pool(), "fail", params)
    error = failed.value
    assert (error.code, error.executed, error.retry_after) == ("NOT_FOUND", executed, 2.0)
    assert "no such thing" in error.message


def test_a_lost_session_ends_the_lease(sublet, make_pool):
    with sublet.lease(make_pool()) as lease:
        with pytest.raises(SessionLost) as lost:
            lease.execute("drop", {"when": "after"})
        assert lost.value.executed == "unknown"
        with pytest.raises(SessionLost) as gone:
            lease.execute("echo")
        assert gone.value.executed == "no"


def test_faults_come_with_their_fields(sublet):
    with pytest.raises(InvalidArgument) as refused:
        sublet.create_pool("Bad Name", {"sizing": {"minSessions": 5, "maxSessions": 2}})
    paths = [path for path, _ in refused.value.fields]
    assert "pool.name" in paths
    assert any(path.startswith("pool.spec.sizing.") for path in paths)
    assert any(path.startswith("pool.spec") and "sizing" not in path for path in paths), "the missing backend"


def test_names_that_are_absent_or_taken_have_exceptions_of_their_own(sublet, make_pool):
    with pytest.raises(NotFound):
        sublet.lease("nowhere")
    with pytest.raises(PoolExists):
        sublet.create_pool(make_pool(), {"echo": {}})


def test_what_was_not_executed_can_be_retried(sublet, make_pool):
    pool = make_pool(sizing=ONE)
    holder = sublet.lease(pool)
    tries = []

    def call():
        tries.append(1)
        if len(tries) == 2:
            holder.release()
        return sublet.execute(pool, "echo", {"n": len(tries)}, wait=0 if len(tries) == 1 else 5)

    assert retry_unexecuted(call, pause=0.01).value == {"n": 2}


def test_what_was_executed_is_not_retried(sublet, make_pool):
    pool = make_pool()
    tries = []

    def call():
        tries.append(1)
        return sublet.execute(pool, "fail", {"executed": "unknown"})

    with pytest.raises(SubletError):
        retry_unexecuted(call)
    assert len(tries) == 1


def test_a_stream_has_one_beginning_its_items_and_one_end(sublet, make_pool):
    pool = make_pool()
    kinds = [event.WhichOneof("event") for event in sublet.stream(pool, "stream", {"count": 3})]
    assert kinds == ["accepted", "json_text", "json_text", "json_text", "end"]
    with sublet.lease(pool) as lease:
        kinds = [event.WhichOneof("event") for event in lease.stream("stream", {"count": 1})]
        assert kinds == ["accepted", "json_text", "end"]


def test_a_stream_that_is_closed_early_gives_its_session_back(sublet, make_pool):
    pool = make_pool(sizing=ONE)
    events = sublet.stream(pool, "stream", {"count": 1000000, "interval": "1ms"})
    assert next(events).WhichOneof("event") == "accepted"
    events.close()
    assert sublet.execute(pool, "echo", {"a": 1}, wait=30).value == {"a": 1}


def test_an_open_session_runs_pipelined_calls_in_order(sublet, make_pool):
    pool = make_pool(sizing=ONE)
    with sublet.open_session(pool) as session:
        futures = [session.submit("echo", {"n": n}) for n in range(10)]
        assert [future.result(30).value for future in futures] == [{"n": n} for n in range(10)]
        with pytest.raises(AcquireTimeout):
            sublet.lease(pool, wait=0)
    with sublet.lease(pool, wait=5) as lease:
        assert lease.session_id == session.session_id


def test_a_failed_call_in_an_open_session_leaves_the_others_alone(sublet, make_pool):
    with sublet.open_session(make_pool()) as session:
        failed = session.submit("fail", {"code": "ABORTED", "executed": "yes"})
        after = session.submit("echo", {"still": "here"})
        with pytest.raises(BackendError) as error:
            failed.result(30)
        assert (error.value.code, error.value.executed) == ("ABORTED", "yes")
        assert after.result(30).value == {"still": "here"}


def test_calls_behind_a_lost_session_were_not_executed(sublet, make_pool):
    with sublet.open_session(make_pool()) as session:
        dropped = session.submit("drop", {"when": "after"})
        behind = session.submit("echo", {"never": "run"})
        with pytest.raises(SessionLost) as lost:
            dropped.result(30)
        assert lost.value.executed == "unknown"
        with pytest.raises(SessionLost) as unrun:
            behind.result(30)
        assert unrun.value.executed == "no"


def test_opening_a_session_of_no_pool_fails_at_once(sublet):
    with pytest.raises(NotFound):
        sublet.open_session("nowhere")
