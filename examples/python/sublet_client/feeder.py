"""Sends a call's input, as fast as the broker takes it."""

import threading
from collections.abc import Callable, Iterable

from sublet.v1 import broker_service_pb2 as pb

Part = bytes | bytearray | memoryview


class Feeder:
    """A thread for one call's input, so that parts which are slow to come delay nothing else.

    Nothing is asked of the parts before the broker gives credit, which it does when the call starts: input for a call
    that still waits behind others would be refused.
    """

    def __init__(self, call_id: int, parts: Iterable[Part] | Part, send: Callable[[pb.OpenSessionRequest], None]) -> None:
        self._id = call_id
        self._parts = [parts] if isinstance(parts, Part) else parts
        self._send = send
        self._credit = 0
        self._over = False
        self._changed = threading.Condition()
        self.failure: BaseException | None = None
        """What the parts raised, if they did; the call is cancelled then."""
        threading.Thread(target=self._run, name="sublet-input", daemon=True).start()

    def grant(self, credit: int) -> None:
        """So many bytes more may be sent."""
        with self._changed:
            self._credit += credit
            self._changed.notify()

    def stop(self) -> None:
        """Nothing more is to be sent: the call has ended."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def _run(self) -> None:
        if not self._wait_for_credit():
            return
        try:
            for part in self._parts:
                if not self._feed(memoryview(part).cast("B")):
                    return
        except BaseException as error:  # What it is does not matter here: whoever waits for the call will raise it.
            self.failure = error
            self._send(pb.OpenSessionRequest(cancel=pb.CancelCall(call_id=self._id)))
        else:
            self._send(pb.OpenSessionRequest(input=pb.Input(call_id=self._id, last=True)))

    def _feed(self, part: memoryview) -> bool:
        while part:
            room = self._wait_for_credit()
            if not room:
                return False
            piece, part = part[:room], part[room:]
            with self._changed:
                self._credit -= len(piece)
            self._send(pb.OpenSessionRequest(input=pb.Input(call_id=self._id, data=bytes(piece))))
        return True

    def _wait_for_credit(self) -> int:
        """The credit, once there is some; 0 when the call has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._credit > 0)
            return 0 if self._over else self._credit
