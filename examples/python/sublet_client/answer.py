"""What goes out with a call, and what comes back."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import duration_pb2, json_format
from sublet.v1 import operation_pb2


@dataclasses.dataclass(frozen=True)
class Info:
    """How a call was carried out; times in seconds."""

    session_id: str
    endpoint: str
    attempt: int
    reused: bool
    fence: int
    waited: float
    elapsed: float


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of rows, with the backend's own name of its type."""

    name: str
    type: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """A call's answer: `value` is what JSON decodes to, a list of rows, or bytes; None where there was no output.

    Rows have `columns`, and `affected` says how many were changed.
    """

    value: Any
    attributes: Mapping[str, str]
    info: Info
    columns: Sequence[Column] = ()
    affected: int = 0


def seconds(value: float | None) -> duration_pb2.Duration | None:
    """`value` as a Duration; None stays None, which leaves the field out."""
    if value is None:
        return None
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(value * 1e9))
    return duration


def operation(
    name: str, params: Mapping[str, Any] | str | None, body: bytes, timeout: float | None
) -> operation_pb2.Operation:
    """An operation. Params go as JSON text, so that big integers and the order of keys survive."""
    text = params if params is None or isinstance(params, str) else json.dumps(params)
    return operation_pb2.Operation(name=name, params_json=text, body=body, timeout=seconds(timeout))


def info(message: operation_pb2.ExecuteInfo) -> Info:
    """An `Info` from its message."""
    return Info(
        session_id=message.session_id,
        endpoint=message.endpoint,
        attempt=message.attempt,
        reused=message.reused,
        fence=message.fence,
        waited=message.waited.ToTimedelta().total_seconds(),
        elapsed=message.elapsed.ToTimedelta().total_seconds(),
    )


def answer(result: operation_pb2.Result) -> Answer:
    """An `Answer` from its message."""
    rows = result.rows
    return Answer(_value(result), dict(result.attributes), info(result.info), columns(rows), rows.affected)


def columns(rows: operation_pb2.Rows) -> tuple[Column, ...]:
    """The columns of a set of rows."""
    return tuple(Column(column.name, column.type) for column in rows.columns)


def cells(rows: operation_pb2.Rows) -> list[list[Any]]:
    """The rows' values, each as its kind has it in Python."""
    return [[_scalar(value) for value in row.values] for row in rows.rows]


def _value(result: operation_pb2.Result) -> Any:
    match result.WhichOneof("output"):
        case "json":
            return json_format.MessageToDict(result.json)
        case "json_text":
            return json.loads(result.json_text)
        case "rows":
            return cells(result.rows)
        case "body":
            return result.body
        case _:
            return None


def _scalar(value: operation_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null":
        return None
    if kind == "list":
        return [_scalar(element) for element in value.list.values]
    return getattr(value, kind)
