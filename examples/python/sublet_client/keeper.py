"""Keeps leases alive in the background, over a channel of its own."""

import queue
import threading
import time
from collections.abc import Callable

import grpc
from sublet.v1 import broker_service_pb2 as pb
from sublet.v1 import broker_service_pb2_grpc as rpc

# The broker takes at most this many tokens in one message.
MOST_TOKENS = 500

# Without a local pool of subchannels Python's gRPC shares one socket between channels to the same address, and a large
# answer would stand in the way of a renewal. The pings notice a dead connection long before a ttl has passed.
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
)


class Keeper:
    """One thread and one stream that renew every lease of a client."""

    def __init__(self, open_channel: Callable[[], grpc.Channel]) -> None:
        self._open_channel = open_channel
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._told: dict[str, Callable[[pb.LeaseStatus], None]] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, token: str, renew_after: float, told: Callable[[pb.LeaseStatus], None]) -> None:
        """Renews a lease from now on; `told` is called with its status after each renewal."""
        with self._changed:
            self._due[token] = time.monotonic() + renew_after
            self._told[token] = told
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sublet-keeper", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, token: str) -> None:
        """Stops renewing a lease."""
        with self._changed:
            self._due.pop(token, None)
            self._told.pop(token, None)

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with self._open_channel() as channel:
            stream: _Stream | None = None
            while tokens := self._wait():
                try:
                    stream = stream or _Stream(channel)
                    self._note(tokens, stream.renew(tokens))
                except (grpc.RpcError, StopIteration):
                    # The leases live on until their ttl: another stream may still save them.
                    stream = None
                    self._postpone(tokens)
            if stream is not None:
                stream.close()

    def _wait(self) -> list[str]:
        """The tokens that are due, as soon as there are any; none when closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                due = [token for token, at in self._due.items() if at <= now]
                if due:
                    return due[:MOST_TOKENS]
                self._changed.wait(min(self._due.values()) - now if self._due else None)
            return []

    def _note(self, tokens: list[str], statuses: list[pb.LeaseStatus]) -> None:
        now = time.monotonic()
        for token, status in zip(tokens, statuses, strict=True):
            with self._changed:
                told = self._told.get(token)
                if told is not None and not status.ended:
                    self._due[token] = now + status.renew_after.ToTimedelta().total_seconds()
            if told is None:
                continue
            if status.ended:
                self.remove(token)
            told(status)

    def _postpone(self, tokens: list[str]) -> None:
        again = time.monotonic() + 0.2
        with self._changed:
            self._due.update((token, again) for token in tokens if token in self._due)


class _Stream:
    """A KeepAlive stream, one question and answer at a time."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._questions: queue.SimpleQueue[pb.KeepAliveRequest | None] = queue.SimpleQueue()
        self._answers = rpc.BrokerServiceStub(channel).KeepAlive(iter(self._questions.get, None))

    def renew(self, tokens: list[str]) -> list[pb.LeaseStatus]:
        self._questions.put(pb.KeepAliveRequest(lease_tokens=tokens))
        return list(next(self._answers).statuses)

    def close(self) -> None:
        self._questions.put(None)
        self._answers.cancel()
