"""Repeats what was certainly not executed."""

import threading
from collections.abc import Callable
from typing import TypeVar

from .errors import SubletError

T = TypeVar("T")


def retry_unexecuted(call: Callable[[], T], *, attempts: int = 5, pause: float = 0.1) -> T:
    """Runs `call` until it succeeds, `attempts` times at most, if its failure says that nothing was executed.

    Waits for as long as the broker advises, else `pause` seconds, twice as long each time. Never name Execute in a
    gRPC retry policy instead: gRPC's own UNAVAILABLE does not tell whether the backend has seen the call.
    """
    for attempt in range(attempts - 1):
        try:
            return call()
        except SubletError as error:
            if error.executed != "no":
                raise
            advised = error.retry_after
        threading.Event().wait(pause * 2**attempt if advised is None else advised)
    return call()
