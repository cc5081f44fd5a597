"""The broker's errors as exceptions, chosen by the reason in the trailing metadata."""

import contextlib
from collections.abc import Iterator, Mapping

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2


class SubletError(Exception):
    """A call that failed. Every other exception here is one of these.

    `reason` is the broker's word (`ACQUIRE_TIMEOUT`, ...). `executed` says what the backend did: `no` (nothing was
    handed to it: the call may be repeated), `yes` (it answered, with an error perhaps) or `unknown`. `retry_after` is
    in seconds, where waiting helps. `fields` has (path, fault) for bad input.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: str = "",
        executed: str = "",
        retry_after: float | None = None,
        fields: tuple[tuple[str, str], ...] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code
        self.executed = executed
        self.retry_after = retry_after
        self.fields = fields
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        faults = "".join(f"\n  {path}: {fault}" for path, fault in self.fields)
        executed = f" (executed: {self.executed})" if self.executed else ""
        return f"{self.reason or self.code}: {self.message}{executed}{faults}"


class ConnectionLost(SubletError):
    """The broker did not answer: the error was made on this side, and the call may or may not have been executed."""


class InvalidArgument(SubletError):
    """The request makes no sense; `fields` says what is wrong with it."""


class AcquireTimeout(SubletError):
    """No session came free in time."""


class QueueFull(SubletError):
    """Too many wait already."""


class PoolPaused(SubletError):
    """The pool is paused."""


class BackendUnreachable(SubletError):
    """The broker cannot open a session."""


class BrokerDraining(SubletError):
    """The broker is stopping."""


class LeaseEnded(SubletError):
    """The lease is over; a new one is needed."""


class LeaseExpired(LeaseEnded):
    """The lease ran out, or reached its hard limit."""


class LeaseReleased(LeaseEnded):
    """The lease was given back."""


class LeaseRevoked(LeaseEnded):
    """The lease was taken away."""


class SessionLost(LeaseEnded):
    """The session broke, or the broker was restarted; what was set on it is gone."""


class LeaseNotFound(LeaseEnded):
    """The broker knows no such lease."""


class LeaseBusy(SubletError):
    """A call runs on the lease already."""


class AlreadyExecuted(SubletError):
    """The call came before, and its answer is not kept; `executed` tells whether it was carried out."""


class OutcomeUnknown(SubletError):
    """Nobody knows whether the call was executed."""


class ExecuteTimeout(SubletError):
    """The call took too long and was cancelled."""


class NotFound(SubletError):
    """There is no such pool or session."""


class PoolExists(SubletError):
    """The name is taken."""


class BackendError(SubletError):
    """The backend answered with an error; what it said of it beside the message is in `metadata`."""

    @property
    def sqlstate(self) -> str:
        """PostgreSQL's code of the error, such as `23505`; empty for other backends."""
        return self.metadata.get("sqlstate", "")


BY_REASON: dict[str, type[SubletError]] = {
    "INVALID_ARGUMENT": InvalidArgument,
    "ACQUIRE_TIMEOUT": AcquireTimeout,
    "QUEUE_FULL": QueueFull,
    "POOL_PAUSED": PoolPaused,
    "BACKEND_UNREACHABLE": BackendUnreachable,
    "BROKER_DRAINING": BrokerDraining,
    "LEASE_EXPIRED": LeaseExpired,
    "LEASE_RELEASED": LeaseReleased,
    "LEASE_REVOKED": LeaseRevoked,
    "SESSION_LOST": SessionLost,
    "LEASE_NOT_FOUND": LeaseNotFound,
    "LEASE_BUSY": LeaseBusy,
    "ALREADY_EXECUTED": AlreadyExecuted,
    "OUTCOME_UNKNOWN": OutcomeUnknown,
    "EXECUTE_TIMEOUT": ExecuteTimeout,
    "POOL_NOT_FOUND": NotFound,
    "SESSION_NOT_FOUND": NotFound,
    "POOL_EXISTS": PoolExists,
    "BACKEND_ERROR": BackendError,
}


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns a `grpc.RpcError` inside into a `SubletError`."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc(error) from error


def from_rpc(error: grpc.RpcError) -> SubletError:
    """The exception for a failed call. Plain trailing metadata suffices to choose it; details only add to it."""
    trailing = dict(error.trailing_metadata() or ())
    reason = trailing.get("sublet-reason", "")
    message = error.details() or ""
    if not reason:
        return ConnectionLost(message, code=error.code().name, executed="unknown")
    millis = trailing.get("sublet-retry-after-ms")
    fields, metadata = _details(trailing.get("grpc-status-details-bin", b""))
    return BY_REASON.get(reason, SubletError)(
        message,
        reason=reason,
        code=error.code().name,
        executed=trailing.get("sublet-executed", ""),
        retry_after=int(millis) / 1000 if millis else None,
        fields=fields,
        metadata=metadata,
    )


def from_status(status: status_pb2.Status) -> SubletError:
    """The exception for a failure inside a stream, where there is no metadata beside it."""
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    waits = False
    for detail in status.details:
        detail.Unpack(info)
        waits = detail.Unpack(retry) or waits
    fields, metadata = _details(status.SerializeToString())
    return BY_REASON.get(info.reason, SubletError)(
        status.message,
        reason=info.reason,
        code=code_pb2.Code.Name(status.code),
        executed=metadata.get("executed", ""),
        retry_after=retry.retry_delay.ToTimedelta().total_seconds() if waits else None,
        fields=fields,
        metadata=metadata,
    )


def _details(encoded: bytes) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    status = status_pb2.Status.FromString(encoded)
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return tuple((v.field, v.description) for v in bad.field_violations), dict(info.metadata)
