"""The client: one channel for calls, one for keeping leases alive."""

import types
import uuid
from collections.abc import Generator, Mapping
from typing import Any, Self

import grpc
from google.protobuf import json_format
from sublet.v1 import broker_service_pb2 as pb
from sublet.v1 import broker_service_pb2_grpc as rpc
from sublet.v1 import operation_pb2, pool_pb2, pool_service_pb2, pool_service_pb2_grpc
from sublet.v1 import stats_service_pb2, stats_service_pb2_grpc

from .answer import Answer, answer, operation, seconds
from .errors import translated
from .keeper import OPTIONS, Keeper
from .lease import REPEATS, Lease, events, repeated
from .session import OpenSession


class Sublet:
    """A connection to a broker. `name` is what ListWaiters, ListLeases and the broker's logs call this client."""

    def __init__(self, address: str = "127.0.0.1:50051", *, name: str = "") -> None:
        self._address = address
        self._metadata = (("sublet-client", name),) if name else ()
        self._channel = grpc.insecure_channel(address)
        self._broker = rpc.BrokerServiceStub(self._channel)
        self._keeper = Keeper(lambda: grpc.insecure_channel(address, options=OPTIONS))
        self.pools = pool_service_pb2_grpc.PoolServiceStub(self._channel)
        """The whole PoolService, as gRPC has it."""
        self.statistics = stats_service_pb2_grpc.StatsServiceStub(self._channel)
        """The whole StatsService, as gRPC has it."""

    def lease(
        self,
        pool: str,
        *,
        wait: float | None = None,
        priority: str = "NORMAL",
        endpoint: str = "",
        ttl: float | None = None,
        keep_alive: bool = True,
    ) -> Lease:
        """Waits for a session, of the named `endpoint` if there is one, `wait` seconds at most, and leases it. Use it in a `with` statement."""
        request = pb.AcquireLeaseRequest(
            pool=pool,
            options=_options(wait, priority, endpoint),
            ttl=seconds(ttl),
            request_id=str(uuid.uuid4()),
        )
        granted = repeated(lambda: self._broker.AcquireLease(request, metadata=self._metadata))
        return Lease(self._broker, self._keeper if keep_alive else None, granted)

    def execute(
        self,
        pool: str,
        name: str,
        params: Mapping[str, Any] | str | None = None,
        *,
        body: bytes = b"",
        timeout: float | None = None,
        wait: float | None = None,
        priority: str = "NORMAL",
        endpoint: str = "",
        request_id: str | None = None,
        repeats: int = REPEATS,
    ) -> Answer:
        """Runs one operation on any session of the pool. Its request id makes it run once even if it is sent again,
        which this does if the connection dies; give one yourself to go on repeating it."""
        request = pb.ExecuteRequest(
            pool=pool,
            options=_options(wait, priority, endpoint),
            operation=operation(name, params, body, timeout),
            request_id=request_id or str(uuid.uuid4()),
        )
        return answer(repeated(lambda: self._broker.Execute(request, metadata=self._metadata).result, repeats))

    def stream(
        self,
        pool: str,
        name: str,
        params: Mapping[str, Any] | str | None = None,
        *,
        body: bytes = b"",
        timeout: float | None = None,
        wait: float | None = None,
        priority: str = "NORMAL",
        endpoint: str = "",
    ) -> Generator[operation_pb2.Event, None, None]:
        """Runs one operation and yields its events. Closing the generator cancels it."""
        request = pb.ExecuteRequest(
            pool=pool, options=_options(wait, priority, endpoint), operation=operation(name, params, body, timeout)
        )
        return events(self._broker, request)

    def open_session(
        self, pool: str, *, wait: float | None = None, priority: str = "NORMAL", endpoint: str = ""
    ) -> OpenSession:
        """Leases a session for as long as a stream lives. Use it in a `with` statement."""
        opening = pb.Open(pool=pool, options=_options(wait, priority, endpoint))
        return OpenSession(self._broker, opening, self._metadata)

    def create_pool(self, name: str, spec: Mapping[str, Any], *, validate_only: bool = False) -> pool_pb2.Pool:
        """Creates a pool from its definition as JSON has it: `{"echo": {}, "sizing": {"maxSessions": 2}}`."""
        pool = pool_pb2.Pool(name=name, spec=json_format.ParseDict(dict(spec), pool_pb2.PoolSpec()))
        request = pool_service_pb2.CreatePoolRequest(pool=pool, validate_only=validate_only)
        with translated():
            return self.pools.CreatePool(request).pool

    def get_pool(self, name: str) -> pool_pb2.Pool:
        """A pool with its definition."""
        with translated():
            return self.pools.GetPool(pool_service_pb2.GetPoolRequest(name=name)).pool

    def leases(self, pool: str) -> list[pool_service_pb2.LeaseEntry]:
        """A pool's leases at this moment, the oldest 1000 at most."""
        with translated():
            request = pool_service_pb2.ListLeasesRequest(pool=pool, page_size=1000)
            return list(self.pools.ListLeases(request).leases)

    def delete_pool(self, name: str, *, force: bool = False) -> None:
        """Deletes a pool: once its leases have ended, or, with `force`, now."""
        with translated():
            self.pools.DeletePool(pool_service_pb2.DeletePoolRequest(name=name, force=force))

    def stats(self, pool: str) -> stats_service_pb2.PoolStats:
        """A pool's statistics."""
        with translated():
            return self.statistics.GetPoolStats(stats_service_pb2.GetPoolStatsRequest(pool=pool)).stats

    def close(self) -> None:
        """Ends the keeper and both channels. Leases that were not released live until their ttl has passed."""
        self._keeper.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()


def _options(wait: float | None, priority: str, endpoint: str) -> pb.AcquireOptions:
    priority = pb.Priority.Value(f"PRIORITY_{priority}")
    return pb.AcquireOptions(wait_timeout=seconds(wait), priority=priority, endpoint=endpoint)
