"""A lease: the exclusive right to one session."""

import contextlib
import threading
import types
from collections.abc import Callable, Generator, Mapping
from typing import Any, Self

from sublet.v1 import broker_service_pb2 as pb
from sublet.v1 import broker_service_pb2_grpc as rpc
from sublet.v1 import operation_pb2

from .answer import Answer, answer, operation
from .errors import ConnectionLost, SubletError, translated
from .keeper import Keeper


# How often a call is sent again whose connection died.
REPEATS = 3


class Lease:
    """A leased session. Kept alive in the background until it is released, which leaving a `with` block does.

    Calls run one at a time. Each has a number, so a call whose answer was lost with its connection is sent again
    under the same number, and runs once.
    """

    def __init__(self, stub: rpc.BrokerServiceStub, keeper: Keeper | None, granted: pb.AcquireLeaseResponse) -> None:
        self._stub = stub
        self._keeper = keeper
        self._token = granted.lease_token
        self._next = 1
        self._calling = threading.Lock()
        self._in_doubt = False
        self.id: str = granted.lease.id
        self.session_id: str = granted.lease.session_id
        self.endpoint: str = granted.lease.endpoint
        self.fence: int = granted.lease.fence
        self.ttl: float = granted.lease.ttl.ToTimedelta().total_seconds()
        self.waited: float = granted.lease.waited.ToTimedelta().total_seconds()
        self.reused: bool = granted.lease.reused
        self.renewals = 0
        """Renewals so far."""
        self.ended: str | None = None
        """How the lease ended, once that is known here: `EXPIRED`, `REVOKED`, ..."""
        self.lost = threading.Event()
        """Set when the lease has ended otherwise than by release()."""
        if keeper is not None:
            keeper.add(self._token, granted.lease.renew_after.ToTimedelta().total_seconds(), self._renewed)

    def execute(
        self,
        name: str,
        params: Mapping[str, Any] | str | None = None,
        *,
        body: bytes = b"",
        timeout: float | None = None,
        repeats: int = REPEATS,
    ) -> Answer:
        """Runs an operation. If the connection to the broker dies under it, asks again under the same number."""
        work = operation(name, params, body, timeout)
        return answer(self._numbered(lambda seqno: self._call(work, seqno, repeats)))

    def stream(
        self,
        name: str,
        params: Mapping[str, Any] | str | None = None,
        *,
        body: bytes = b"",
        timeout: float | None = None,
    ) -> Generator[operation_pb2.Event, None, None]:
        """Runs an operation and yields its events, unnumbered. Closing the generator cancels it."""
        request = pb.ExecuteRequest(lease_token=self._token, operation=operation(name, params, body, timeout))
        return events(self._stub, request)

    def release(self, *, discard: bool = False) -> None:
        """Gives the session back; with `discard`, has it closed rather than kept for the next holder."""
        if self._keeper is not None:
            self._keeper.remove(self._token)
        request = pb.ReleaseLeaseRequest(lease_token=self._token, discard=discard)
        released = repeated(lambda: self._stub.ReleaseLease(request))
        self.ended = _word(released.ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if error is None:
            self.release()
            return
        # The exception that is on its way tells more than one about the release would.
        with contextlib.suppress(SubletError):
            self.release()

    def _renewed(self, status: pb.LeaseStatus) -> None:
        if status.ended:
            self.ended = _word(status.ended)
            self.lost.set()
        else:
            self.renewals += 1

    def _call(self, work: operation_pb2.Operation, seqno: int, repeats: int) -> operation_pb2.Result:
        request = pb.ExecuteRequest(lease_token=self._token, operation=work, seqno=seqno)
        return repeated(lambda: self._stub.Execute(request).result, repeats)

    def _numbered(self, call: Callable[[int], operation_pb2.Result]) -> operation_pb2.Result:
        """Runs `call` under the next number, which a call that was not executed does not use up."""
        with self._calling:
            number = self._next + 1 if self._in_doubt else self._next
            try:
                result = call(number)
            except ConnectionLost:
                self._next, self._in_doubt = number, True
                raise
            except SubletError as error:
                if self._in_doubt and error.reason == "SEQNO_GAP":
                    # The call before never arrived, so its number is still free.
                    self._in_doubt = False
                    result = call(self._next)
                    number = self._next
                elif error.executed == "no":
                    raise
                else:
                    self._next, self._in_doubt = number + 1, False
                    raise
            self._next, self._in_doubt = number + 1, False
            return result


def repeated(call: Callable[[], Any], repeats: int = REPEATS) -> Any:
    """Runs `call`, again if its connection died; only for calls that a number or a request id makes safe."""
    for attempt in range(repeats):
        with contextlib.suppress(ConnectionLost), translated():
            return call()
        # For a moment gRPC may still choose the connection that is dead.
        threading.Event().wait(0.05 * 2**attempt)
    with translated():
        return call()


def events(stub: rpc.BrokerServiceStub, request: pb.ExecuteRequest) -> Generator[operation_pb2.Event, None, None]:
    """The events of a streamed call."""
    responses = stub.ExecuteStream(pb.ExecuteStreamRequest(request=request))
    try:
        with translated():
            for response in responses:
                yield response.event
    finally:
        responses.cancel()


def _word(ended: int) -> str:
    return pb.LeaseEnd.Name(ended).removeprefix("LEASE_END_")
