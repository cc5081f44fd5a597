"""An open session: the crash-safe and fastest way, one stream that is the lease."""

import concurrent.futures
import itertools
import queue
import threading
import types
from collections.abc import Iterable, Mapping
from typing import Any, Self

import grpc
from sublet.v1 import broker_service_pb2 as pb
from sublet.v1 import broker_service_pb2_grpc as rpc

from .answer import Answer, answer, operation
from .errors import ConnectionLost, SubletError, from_rpc, from_status
from .feeder import Feeder, Part


class OpenSession:
    """A session that is held for as long as its stream lives: no ttl, and free at once if this process dies."""

    def __init__(self, stub: rpc.BrokerServiceStub, opening: pb.Open, metadata: tuple[tuple[str, str], ...]) -> None:
        self._sent: queue.SimpleQueue[pb.OpenSessionRequest | None] = queue.SimpleQueue()
        self._sent.put(pb.OpenSessionRequest(open=opening))
        self._ids = itertools.count(1)
        self._sending = threading.Lock()
        self._waiting: dict[int, concurrent.futures.Future[Answer]] = {}
        self._feeders: dict[int, Feeder] = {}
        self._broken: SubletError | None = None
        self._stream = stub.OpenSession(iter(self._sent.get, None), metadata=metadata)
        opened = self._first()
        self.lease_id: str = opened.lease.id
        self.session_id: str = opened.lease.session_id
        self.endpoint: str = opened.lease.endpoint
        self.fence: int = opened.lease.fence
        self.max_queued: int = opened.max_queued_calls
        self._reader = threading.Thread(target=self._read, name="sublet-session", daemon=True)
        self._reader.start()

    def submit(
        self,
        name: str,
        params: Mapping[str, Any] | str | None = None,
        *,
        body: bytes = b"",
        input: Iterable[Part] | Part | None = None,
        timeout: float | None = None,
    ) -> concurrent.futures.Future[Answer]:
        """Sends an operation behind those before it and returns at once. At most `max_queued` may wait.

        `input` is a body in parts, of any size, behind `body`. They are asked for in a thread of their own, once the
        call runs and no faster than the backend takes them; if they raise, the call is cancelled and fails with that.
        """
        future: concurrent.futures.Future[Answer] = concurrent.futures.Future()
        with self._sending:
            if self._broken is not None:
                raise self._broken
            number = next(self._ids)
            self._waiting[number] = future
            work = operation(name, params, body, timeout)
            call = pb.Call(id=number, operation=work, more_input=input is not None)
            self._sent.put(pb.OpenSessionRequest(call=call))
            if input is not None:
                self._feeders[number] = Feeder(number, input, self._sent.put)
        return future

    def execute(
        self,
        name: str,
        params: Mapping[str, Any] | str | None = None,
        *,
        body: bytes = b"",
        input: Iterable[Part] | Part | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Runs an operation and waits for its answer."""
        return self.submit(name, params, body=body, input=input, timeout=timeout).result()

    def close(self, *, discard: bool = False) -> None:
        """Lets the calls that were sent finish and gives the session back; with `discard`, cancels them and closes
        the session."""
        if discard:
            self._stream.cancel()
        else:
            # What goes on feeding needs the stream's sending half.
            with self._sending:
                fed = [self._waiting[number] for number in self._feeders]
            concurrent.futures.wait(fed)
        self._sent.put(None)
        self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def _first(self) -> pb.Opened:
        try:
            response = next(self._stream)
        except grpc.RpcError as error:
            self._sent.put(None)
            raise from_rpc(error) from error
        if response.WhichOneof("message") == "error":
            self._sent.put(None)
            raise from_status(response.error)
        return response.opened

    def _read(self) -> None:
        end = SubletError("the session was given back", reason="LEASE_RELEASED", executed="no")
        try:
            for response in self._stream:
                kind = response.WhichOneof("message")
                if kind == "error" and response.call_id == 0:
                    end = from_status(response.error)
                elif kind in ("error", "result"):
                    self._settle(response)
                elif kind == "input_credit":
                    self._grant(response)
        except grpc.RpcError as error:
            lost = from_rpc(error)
            # What the broker said inside the stream tells more than how the stream ended.
            end = end if isinstance(lost, ConnectionLost) and end.reason != "LEASE_RELEASED" else lost
        with self._sending:
            self._broken = end
            waiting, self._waiting = self._waiting, {}
            feeders, self._feeders = self._feeders, {}
        for feeder in feeders.values():
            feeder.stop()
        for future in waiting.values():
            future.set_exception(end)

    def _grant(self, response: pb.OpenSessionResponse) -> None:
        with self._sending:
            feeder = self._feeders.get(response.call_id)
        if feeder is not None:
            feeder.grant(response.input_credit)

    def _settle(self, response: pb.OpenSessionResponse) -> None:
        with self._sending:
            future = self._waiting.pop(response.call_id, None)
            feeder = self._feeders.pop(response.call_id, None)
        if feeder is not None:
            feeder.stop()
        if future is None:
            return
        if response.WhichOneof("message") == "error":
            future.set_exception(_told(from_status(response.error), feeder))
        else:
            future.set_result(answer(response.result))


def _told(error: SubletError, feeder: Feeder | None) -> BaseException:
    """The input's own exception if that was why the call was cancelled; `error` becomes its cause."""
    if feeder is None or feeder.failure is None:
        return error
    feeder.failure.__cause__ = error
    return feeder.failure
