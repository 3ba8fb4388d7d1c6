"""What the rows of a database hold, checked in one place: a file is input, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import Annotated, Any, Literal, NotRequired, TypeAlias, get_args

from pydantic import Field, StrictInt, StrictStr, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from pocoflow.address import Numbered
from pocoflow.db.port import Record
from pocoflow.errors import DatabaseFileError, DecodeError, DefinitionError
from pocoflow.messages import short

Status: TypeAlias = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]

STATUSES: tuple[Status, ...] = get_args(Status)


class RunRow(TypedDict):
    """What ``get_run`` and ``list_runs`` return: plain dicts; times are ISO-8601 text in UTC."""

    run_id: str
    flow_name: str
    status: Status
    started_at: str | None
    completed_at: str | None
    total_steps: int
    current_node: str | None
    error_msg: str | None
    error_type: str | None
    traceback: str | None
    run_no: int
    owned: int
    token: str
    store_name: str
    cancel_requested: int
    parent_run_id: str | None
    parent_step: int | None
    graph_no: int | None
    fence: int
    thread: str | None
    due_at: str | None
    labels: dict[str, str]


class EventRow(TypedDict):
    """What ``get_events`` returns: plain dicts; ``event`` may be what ``save_event`` was given."""

    id: int
    run_id: str
    step: int | None
    node_name: str | None
    event: str
    action: str | None
    elapsed_ms: float | None
    error_msg: str | None
    ts: str
    attempt: int | None
    error_type: str | None
    traceback: str | None
    path: str | None
    note: str | None


_Fits: TypeAlias = Callable[[Any], bool]
_Column: TypeAlias = Collection[Any]
_Holds: TypeAlias = Callable[[_Column], bool]
"""Whether the values of a column are what they should be: asked once for all rows of a read."""

_DEEPEST = 500
_SHOWN = 60


def _texts(values: _Column) -> bool:
    return {str}.issuperset(map(type, values))


def _numbers(least: int, most: int) -> _Holds:
    def hold(values: _Column) -> bool:
        if not {int}.issuperset(map(type, values)):
            return False
        return not values or (least <= min(values) and max(values) <= most)

    return hold


def _or_null(hold: _Holds) -> _Holds:
    return lambda values: hold([value for value in values if value is not None])


def _times(values: _Column) -> bool:
    return all(type(value) in (int, float) and abs(value) < _LONGEST for value in values)


_LONGEST = 1e15  # milliseconds
_SMALL = 1 << 53  # what is a number to every reader of JSON, too
_NUMBERS = _numbers(-_SMALL, _SMALL)
_STEPS = _or_null(_numbers(-1, (1 << 32) - 1))

# By name: a column of a name holds one kind of thing in every table. What may be NULL in one
# table may be here; whoever reads a JSON text refuses NULL anyway.
_COLUMNS: dict[str, tuple[_Holds, str]] = {
    **dict.fromkeys(
        (
            *("run_id", "flow_name", "token", "store_name", "key"),
            *("text", "context", "answer_schema", "asked_at", "graph", "prepared"),
            *("changes", "created_at", "ts", "name", "expression", "tz", "next_at"),
        ),
        (_texts, "a text"),
    ),
    **dict.fromkeys(
        (
            *("started_at", "completed_at", "due_at", "current_node", "error_msg", "error_type"),
            "thread",
            *("traceback", "parent_run_id", "node_name", "action", "value", "deadline"),
            *("default_answer", "answer", "answered_by", "answered_at", "store_json"),
            *("path", "node", "next_node", "next_path", "note", "mark", "data", "event"),
        ),
        (_or_null(_texts), "a text or NULL"),
    ),
    **dict.fromkeys(
        (
            *("total_steps", "owned", "cancel_requested", "closed", "taken", "key_no", "fence"),
            *("id", "kind", "line", "steps", "at", "until"),
        ),
        (_NUMBERS, "a whole number"),
    ),
    **dict.fromkeys(
        ("parent_step", "attempt", "graph_no", "size", "item", "elapsed", "blob"),
        (_or_null(_NUMBERS), "a number or NULL"),
    ),
    "step": (_STEPS, "the number of a step"),
    "run_no": (_numbers(1, (1 << 31) - 1), "the number of a run"),
    "question": (_numbers(1, _SMALL), "the number of a question"),
    "op": (_numbers(0, 4), "a number from 0 to 4"),
    "elapsed_ms": (_or_null(_times), "a number of milliseconds"),
    "status": (frozenset(STATUSES).issuperset, f"one of {', '.join(STATUSES)}"),
}


def check_given(method: str, **given: object) -> None:
    """Refuse what somebody wants to write and whoever reads it would take for damage.

    Raises:
        DefinitionError: Names the argument, and what its column holds.
    """
    for name, value in given.items():
        holds, wanted = _COLUMNS[name]
        if not holds([str.__str__(value) if isinstance(value, str) else value]):
            raise DefinitionError(f"{method}: {name}= is {wanted}, not {short(value)}")


_ANYTHING: tuple[_Holds, str] = (lambda values: True), ""


def checked(rows: list[Record], owner: str) -> list[Record]:
    """The rows, whose columns hold what columns of their names hold.

    Raises:
        DatabaseFileError: One does not, as its file is damaged or was written by something else.
    """
    if not rows:
        return rows
    for name, column in zip(rows[0].keys(), zip(*rows, strict=True), strict=True):
        hold, wanted = _COLUMNS.get(name, _ANYTHING)
        if not hold(column):
            row, value = next(pair for pair in zip(rows, column, strict=True) if not hold(pair[1:]))
            raise DatabaseFileError(
                f"{owner} is damaged: {_whose(row)}{name} is {_shown(value)}, not {wanted}"
            )
    return rows


def as_dict(row: Record) -> dict[str, object]:
    """The row as ``dict(row)`` has it, which looks for each column by its name."""
    return dict(zip(row.keys(), row, strict=True))


def _whose(row: Record) -> str:
    names = row.keys()
    return f"of run {_shown(row['run_id'])}, " if "run_id" in names else ""


def _shown(value: object) -> str:
    if isinstance(value, str | bytes):
        value = value[: _SHOWN + 1]
    return f"{value!r:.{_SHOWN}}"


def read_json(text: object, fits: _Fits, what: str) -> Any:
    """The value of a JSON text.

    Args:
        text: The text, as it is in a row.
        fits: Whether it is of the shape that is wanted.
        what: What it is, for the message.

    Raises:
        DecodeError: It is no JSON, of another shape, or nested too deeply.
    """
    if not isinstance(text, str):
        raise DecodeError(f"{what} cannot be read: it is {_shown(text)}, not a text")
    try:
        value = json.loads(text)
    except RecursionError:
        raise DecodeError(f"{what} cannot be read: it is nested too deeply") from None
    except ValueError as exc:
        raise DecodeError(f"{what} cannot be read: {exc}") from exc
    if _is_deep(value):
        raise DecodeError(f"{what} cannot be read: it is nested too deeply")
    if not fits(value):
        raise DecodeError(f"{what} cannot be read: it is {_shown(text)}")
    return value


def _is_deep(value: object) -> bool:
    level: Sequence[object] = [value]
    for _ in range(_DEEPEST):
        level = [part for one in level if isinstance(one, dict | list) for part in _parts(one)]
        if not level:
            return False
    return True


def _parts(one: dict[str, object] | list[object]) -> Iterable[object]:
    return one.values() if isinstance(one, dict) else one


def is_anything(_: object) -> bool:
    """Any value."""
    return True


def is_object(value: object) -> bool:
    """An object of JSON."""
    return isinstance(value, dict)


def of_type(shape: Any) -> _Fits:
    """What tells whether a value is of a type; JSON has lists where that has tuples."""
    adapter = cache(lambda: TypeAdapter(shape))  # made when it is needed first

    def fits(value: object) -> bool:
        try:
            adapter().validate_python(value)
        except ValidationError:
            return False
        return True

    return fits


_Address: TypeAlias = Annotated[list[StrictStr], Field(min_length=1)]
_Change: TypeAlias = tuple[StrictStr, Annotated[StrictInt, Field(ge=0, le=4)], StrictStr | None]
_Amount: TypeAlias = Annotated[
    StrictStr, Field(pattern=r"^[0-9]{1,100}(\.[0-9]{1,100})?(E[+-]?[0-9]{1,6})?$")
]
_Node = TypedDict("_Node", {"class": StrictStr, "code": StrictStr, "path": _Address})


class _Graph(TypedDict):
    start: StrictStr
    nodes: list[_Node]
    edges: list[tuple[_Address, StrictStr, _Address | None]]
    limits: NotRequired[list[tuple[_Address, StrictStr, StrictInt, _Address | None]]]
    schema: NotRequired[dict[str, object] | None]
    older: NotRequired[list[tuple[StrictInt, dict[StrictStr, StrictStr]]]]


is_mark = of_type(tuple[StrictStr, StrictStr])
"""The type of a value that was not saved, and the reason."""

is_begin = of_type(tuple[StrictInt, StrictInt, StrictInt])
"""The line that a branch began in, the step there, and which branch it is."""

is_taken = of_type(list[tuple[StrictInt, StrictStr, StrictStr, StrictInt]])
"""How often edges with limits were taken: how deep, the source, the action, the number."""

is_input = of_type(tuple[StrictStr | None, list[_Change]])
"""What ``prep`` gave, and what it changed: key, operation and text."""

is_amounts = of_type(dict[StrictStr, _Amount | None])
"""What was spent, as text, by name; nothing for a budget that its line goes on without."""

is_graph = of_type(_Graph)
"""What a flow looked like."""


def _is_path(value: object) -> bool:
    """A list of names, and of names with numbers; asked for each row that is inside of a flow."""
    return isinstance(value, list) and all(
        isinstance(one, str)
        or (isinstance(one, list) and [type(part) for part in one] == [str, int])
        for one in value
    )


def dump_names(names: Iterable[str]) -> str:
    """Names as JSON text: a list of names, and of pairs of name and number."""
    return json.dumps(
        [[one.name, one.number] if isinstance(one, Numbered) else one for one in names]
    )


def read_names(text: object, what: str) -> tuple[str, ...]:
    """The names of the flows and branches around a node, and its own, as they were written.

    Raises:
        DecodeError: They are none.
    """
    parts = read_json(text, _is_path, what)
    return tuple(one if isinstance(one, str) else Numbered(*one) for one in parts)
