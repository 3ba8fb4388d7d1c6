"""The checks of the rows of a database: a file is untrusted input, whoever wrote it."""

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
    """A row of ``get_run`` and ``list_runs``, a plain dict; times are ISO-8601 text in UTC."""

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
    """A row of ``get_events``, a plain dict; ``event`` may be any text passed to ``save_event``."""

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
"""Whether the values of a column are valid: called once for all rows of a read."""

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


def _or_null(is_valid: _Holds) -> _Holds:
    return lambda values: is_valid([value for value in values if value is not None])


def _times(values: _Column) -> bool:
    return all(type(value) in (int, float) and abs(value) < _LONGEST for value in values)


_LONGEST = 1e15  # milliseconds
_SMALL = 1 << 53  # exact for every reader of JSON
_NUMBERS = _numbers(-_SMALL, _SMALL)
_STEPS = _or_null(_numbers(-1, (1 << 32) - 1))

# By name: columns of the same name have the same type in every table. A column that may be NULL in
# one table may be NULL here; reading a JSON text refuses NULL in any case.
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
    """Refuse values to be written that a reader would report as damage.

    Raises:
        DefinitionError: Names the argument, and the type of its column.
    """
    for name, value in given.items():
        is_valid, wanted = _COLUMNS[name]
        if not is_valid([str.__str__(value) if isinstance(value, str) else value]):
            raise DefinitionError(f"{method}: {name}= is {wanted}, not {short(value)}")


_ANYTHING: tuple[_Holds, str] = (lambda values: True), ""


def checked(rows: list[Record], owner: str) -> list[Record]:
    """The rows, after checking the type of each column by its name.

    Raises:
        DatabaseFileError: One is wrong: the file is damaged, or was written by another program.
    """
    if not rows:
        return rows
    for name, column in zip(rows[0].keys(), zip(*rows, strict=True), strict=True):
        fits, wanted = _COLUMNS.get(name, _ANYTHING)
        if not fits(column):
            row, value = next(pair for pair in zip(rows, column, strict=True) if not fits(pair[1:]))
            raise DatabaseFileError(
                f"{owner} is damaged: {_whose(row)}{name} is {_shown(value)}, not {wanted}"
            )
    return rows


def as_dict(row: Record) -> dict[str, object]:
    """The same as ``dict(row)``, which is slower, as it searches each column by name."""
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
        text: The text from a row.
        fits: Whether the value has the expected shape.
        what: A description of the value, for the message.

    Raises:
        DecodeError: It is not JSON, has another shape, or is nested too deeply.
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
        level = [part for tree in level if isinstance(tree, dict | list) for part in _parts(tree)]
        if not level:
            return False
    return True


def _parts(tree: dict[str, object] | list[object]) -> Iterable[object]:
    return tree.values() if isinstance(tree, dict) else tree


def is_anything(_: object) -> bool:
    """Accept any value."""
    return True


def is_object(value: object) -> bool:
    """Whether a value is a JSON object."""
    return isinstance(value, dict)


def of_type(shape: Any) -> _Fits:
    """A check whether a value is of a type; a tuple of the type is a list in JSON."""
    adapter = cache(lambda: TypeAdapter(shape))  # created on first use

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
"""Whether it is the type of a value that was not saved, and the reason."""

is_begin = of_type(tuple[StrictInt, StrictInt, StrictInt])
"""Whether it is the parent line of a branch, the step there, and the number of the branch."""

is_taken = of_type(list[tuple[StrictInt, StrictStr, StrictStr, StrictInt]])
"""Whether it is a list of counts of edges with limits: depth, source, action, count."""

is_input = of_type(tuple[StrictStr | None, list[_Change]])
"""Whether it is what ``prep`` returned, and what it changed: key, operation and text."""

is_amounts = of_type(dict[StrictStr, _Amount | None])
"""Whether it is amounts, as text, by name; ``None`` for a budget that no longer binds its line."""

is_graph = of_type(_Graph)
"""Whether it is the graph of a flow."""


def _is_path(value: object) -> bool:
    """Whether it is a list of names, and of names with numbers; hot, as called for each row."""
    return isinstance(value, list) and all(
        isinstance(name, str)
        or (isinstance(name, list) and [type(part) for part in name] == [str, int])
        for name in value
    )


def dump_names(names: Iterable[str]) -> str:
    """Names as JSON text: a list of names, and of pairs of name and number."""
    return json.dumps(
        [[name.name, name.number] if isinstance(name, Numbered) else name for name in names]
    )


def read_names(text: object, what: str) -> tuple[str, ...]:
    """The names of the enclosing flows and branches, and of the node, from their JSON text.

    Raises:
        DecodeError: They are damaged.
    """
    parts = read_json(text, _is_path, what)
    return tuple(part if isinstance(part, str) else Numbered(*part) for part in parts)
