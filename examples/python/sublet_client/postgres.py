"""For postgres pools: rows as Python values, and transactions that are repeated when the server asks for it."""

import contextlib
import datetime
import decimal
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from sublet.v1 import operation_pb2

from .answer import Answer, Column, cells, columns
from .errors import BackendError, SubletError

T = TypeVar("T")

# Serialization failure and deadlock: nothing of the transaction remains, and a repeat may fare better.
REPEATABLE = ("40001", "40P01")

# From a type's text to Python. What is not here (intervals, ranges, composites, ...) stays the server's text.
DECODERS: dict[str, Callable[[str], Any]] = {
    "numeric": decimal.Decimal,
    "uuid": uuid.UUID,
    "json": json.loads,
    "jsonb": json.loads,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timetz": datetime.time.fromisoformat,
    "timestamp": datetime.datetime.fromisoformat,
    "timestamptz": datetime.datetime.fromisoformat,
}


class Runs(Protocol):
    """A lease or an open session."""

    def execute(self, name: str, params: dict[str, Any] | None = None) -> Answer: ...


def rows(answer: Answer) -> list[dict[str, Any]]:
    """The rows of a `query` by their columns' names, with dates, decimals, UUIDs and JSON as Python has them."""
    return list(_decoded(answer.columns, answer.value or []))


def streamed(events: Iterable[operation_pb2.Event]) -> Iterator[dict[str, Any]]:
    """The same of a streamed `query`, row by row: no more of them than a frame are in memory at once."""
    known: Sequence[Column] = ()
    for event in events:
        if event.WhichOneof("event") == "rows":
            known = columns(event.rows) or known
            yield from _decoded(known, cells(event.rows))


def transaction(
    on: Runs, work: Callable[[Runs], T], *, isolation: str = "serializable", read_only: bool = False, attempts: int = 5
) -> T:
    """Runs `work` in a transaction and commits it; rolls back if it raises.

    When the server reports a serialization failure or a deadlock, everything is done again, `attempts` times at most:
    so `work` must do nothing that a rollback does not undo.
    """
    for attempt in range(attempts):
        try:
            on.execute("begin", {"isolation": isolation, "read_only": read_only})
            result = work(on)
            on.execute("commit")
            return result
        except BaseException as error:
            # A lost session has rolled back by itself, and the exception that is on its way tells more.
            with contextlib.suppress(SubletError):
                on.execute("rollback")
            again = isinstance(error, BackendError) and error.sqlstate in REPEATABLE
            if not again or attempt + 1 == attempts:
                raise
            advised = error.retry_after or 0
        threading.Event().wait(advised * (attempt + 1))
    raise ValueError("attempts must be 1 or more")


def _decoded(known: Sequence[Column], values: Iterable[Sequence[Any]]) -> Iterator[dict[str, Any]]:
    names = [column.name for column in known]
    types = [column.type.removesuffix("[]") for column in known]
    for row in values:
        yield dict(zip(names, map(_decode, types, row), strict=True))


def _decode(kind: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(kind, element) for element in value]
    decoder = DECODERS.get(kind)
    if decoder is None or not isinstance(value, str):
        return value
    try:
        return decoder(value)
    except ValueError:
        # `infinity`, a year that Python does not have, an unusual DateStyle: the text loses nothing.
        return value
