"""What a client's death and a cut connection leave behind."""

import concurrent.futures
import subprocess
import sys

import grpc
import pytest
from proxy import CuttingProxy
from sublet.v1 import broker_service_pb2, broker_service_pb2_grpc, operation_pb2
from sublet_client import ConnectionLost, Sublet

ONE = {"maxSessions": 1}

HOLDER = """
import sys
from sublet_client import Sublet
sublet = Sublet(sys.argv[1], name="holder")
held = {what}
print(held.session_id, flush=True)
sys.stdin.read()
"""


def killed_holder(broker, what: str) -> str:
    """Lets another process take a session, kills it, and returns the session's id."""
    program = [sys.executable, "-c", HOLDER.format(what=what), broker.address]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        session = holder.stdout.readline().strip()
        holder.kill()
    assert session
    return session


def test_the_lease_of_a_killed_client_ends_with_its_ttl(broker, sublet, make_pool):
    pool = make_pool(sizing=ONE, lease={"minTtl": "0.1s"})
    killed_holder(broker, f"sublet.lease('{pool}', ttl=2)")
    with sublet.lease(pool, wait=30) as lease:
        assert lease.ended is None
    assert sublet.stats(pool).granted == 2


def test_the_open_session_of_a_killed_client_is_free_at_once(broker, sublet, make_pool):
    # With a ttl of ten minutes only the stream's end can free it in time.
    pool = make_pool(sizing=ONE, lease={"minTtl": "600s", "defaultTtl": "600s", "maxTtl": "600s"})
    killed_holder(broker, f"sublet.open_session('{pool}')")
    with sublet.lease(pool, wait=30) as lease:
        assert lease.ended is None


def wait_until_received(sublet: Sublet, pool: str, call_id: str, among: str = "received") -> None:
    """Asks the backend, beside the proxy, until it has seen the call."""
    for _ in range(20_000):
        if call_id in sublet.execute(pool, "count", {"scope": "pool"}).value[among]:
            return
    pytest.fail(f"the backend never {among} {call_id}")


def times_executed(sublet: Sublet, pool: str, call_id: str) -> int:
    record = sublet.execute(pool, "count", {"scope": "pool"}).value
    assert record["received"].count(call_id) == record["executed"].count(call_id)
    return record["executed"].count(call_id)


@pytest.mark.parametrize("moment", ["while it runs", "when it is answered"])
def test_a_numbered_call_whose_connection_is_cut_runs_once(broker, sublet, make_pool, moment):
    pool = make_pool()
    with CuttingProxy(broker.address) as proxy, Sublet(proxy.address) as cut, cut.lease(pool) as lease:
        before = proxy.connections
        with concurrent.futures.ThreadPoolExecutor() as threads:
            if moment == "while it runs":
                call = threads.submit(lease.execute, "sleep", {"duration": "500ms", "id": "numbered"})
                wait_until_received(sublet, pool, "numbered")
            else:
                proxy.mute()
                call = threads.submit(lease.execute, "sleep", {"duration": "1ms", "id": "numbered"})
                wait_until_received(sublet, pool, "numbered", "executed")
            proxy.cut()
            call.result(30)
        assert proxy.connections > before
        assert lease.execute("echo", {"next": "number"}).value == {"next": "number"}
    assert times_executed(sublet, pool, "numbered") == 1


def test_a_one_shot_with_a_request_id_whose_connection_is_cut_runs_once(broker, sublet, make_pool):
    pool = make_pool()
    with CuttingProxy(broker.address) as proxy, Sublet(proxy.address) as cut:
        with concurrent.futures.ThreadPoolExecutor() as threads:
            call = threads.submit(cut.execute, pool, "sleep", {"duration": "500ms", "id": "one-shot"})
            wait_until_received(sublet, pool, "one-shot")
            proxy.cut()
            call.result(30)
    assert times_executed(sublet, pool, "one-shot") == 1


def test_grpcs_own_defaults_do_not_repeat_a_call_whose_connection_is_cut(broker, sublet, make_pool):
    pool = make_pool()
    with CuttingProxy(broker.address) as proxy, grpc.insecure_channel(proxy.address) as channel:
        stub = broker_service_pb2_grpc.BrokerServiceStub(channel)
        params = '{"duration": "500ms", "id": "plain"}'
        operation = operation_pb2.Operation(name="sleep", params_json=params)
        call = stub.Execute.future(broker_service_pb2.ExecuteRequest(pool=pool, operation=operation))
        wait_until_received(sublet, pool, "plain")
        proxy.cut()
        error = call.exception(30)
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert "sublet-reason" not in dict(error.trailing_metadata() or ())
    record = sublet.execute(pool, "count", {"scope": "pool"}).value
    assert record["received"].count("plain") == 1


def test_a_call_that_may_not_be_repeated_says_that_its_outcome_is_unknown(broker, sublet, make_pool):
    pool = make_pool()
    with CuttingProxy(broker.address) as proxy, Sublet(proxy.address) as cut, cut.lease(pool) as lease:
        with concurrent.futures.ThreadPoolExecutor() as threads:
            call = threads.submit(lease.execute, "sleep", {"duration": "500ms", "id": "lost"}, repeats=0)
            wait_until_received(sublet, pool, "lost")
            proxy.cut()
            with pytest.raises(ConnectionLost) as lost:
                call.result(30)
        assert lost.value.executed == "unknown"
        # The next call has the next number: it waits for the lost one's end on the session, or is told it is busy.
        wait_until_received(sublet, pool, "lost", "executed")
        assert lease.execute("echo", {"a": 1}).value == {"a": 1}
    assert times_executed(sublet, pool, "lost") == 1
