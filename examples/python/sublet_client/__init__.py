"""A client for the Sublet broker: leases, calls, streams and open sessions, with typed exceptions.

    with Sublet("127.0.0.1:50051") as sublet:
        with sublet.lease("demo") as lease:
            print(lease.execute("echo", {"hello": "world"}).value)
"""

from .answer import Answer, Column, Info
from .client import Sublet
from .errors import (
    AcquireTimeout,
    AlreadyExecuted,
    BackendError,
    BackendUnreachable,
    BrokerDraining,
    ConnectionLost,
    ExecuteTimeout,
    InvalidArgument,
    LeaseBusy,
    LeaseEnded,
    LeaseExpired,
    LeaseNotFound,
    LeaseReleased,
    LeaseRevoked,
    NotFound,
    OutcomeUnknown,
    PoolExists,
    PoolPaused,
    QueueFull,
    SessionLost,
    SubletError,
)
from .lease import Lease
from .retry import retry_unexecuted
from .session import OpenSession

__all__ = [
    "AcquireTimeout",
    "AlreadyExecuted",
    "Answer",
    "BackendError",
    "BackendUnreachable",
    "BrokerDraining",
    "Column",
    "ConnectionLost",
    "ExecuteTimeout",
    "Info",
    "InvalidArgument",
    "Lease",
    "LeaseBusy",
    "LeaseEnded",
    "LeaseExpired",
    "LeaseNotFound",
    "LeaseReleased",
    "LeaseRevoked",
    "NotFound",
    "OpenSession",
    "OutcomeUnknown",
    "PoolExists",
    "PoolPaused",
    "QueueFull",
    "SessionLost",
    "Sublet",
    "SubletError",
    "retry_unexecuted",
]
