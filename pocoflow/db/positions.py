"""Where a stored run goes on: the node that comes next, and what is on record of its step."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from pocoflow.db.clock import utc_now
from pocoflow.db.connection import Connection
from pocoflow.db.lines import StoredBranch
from pocoflow.db.log import Kind, names_at
from pocoflow.db.question_rows import Asked, Pause, questions_of
from pocoflow.db.rows import is_input, read_json
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.db.values import INITIAL, key_of
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import CheckpointNotFoundError, DecodeError
from pocoflow.nodes.counting import ALONE, Begun
from pocoflow.nodes.edges import DEFAULT_ACTION

__all__ = ["INITIAL", "Position", "asked_in", "read_position"]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stored run goes on.

    Attributes:
        step: The last committed step; -1 if none is.
        node: The node that comes next; ``None`` if the run is at its end.
        fork: The step after which that came next: an earlier one if branches of the node that comes
            next have finished steps since.
        path: Names of the flow nodes around it.
        journal: Results of ``exec`` of the next step that are finished, encoded, by item (-1 for
            a node that is not a batch).
        branches: Its branches that have begun, if it is a parallel node, by scope.
        asked: The questions of its step, by item (-1 likewise).
        pause: What it had done before the first row of its step.
        items: What is known of the items of its step, by number (-1 likewise).
        row: The row of the log after which the step began.
        read_at: When it was read; deadlines are held against this one time.
    """

    step: int
    fork: int
    node: str | None
    path: tuple[str, ...]
    journal: Mapping[int, str]
    branches: Mapping[str, StoredBranch]
    asked: Mapping[int, Asked] = field(default_factory=dict)
    pause: Pause | None = None
    items: Mapping[int, Begun] = field(default_factory=dict)
    row: int = 0
    read_at: str = ""


@dataclass(slots=True)
class _Line:
    """What the rows of a line, read in their order, say of it."""

    scope: str
    count: int = 0
    node: str | None = ""
    path: tuple[str, ...] = ()
    action: str = DEFAULT_ACTION
    last: int = 0
    journal: dict[int, str] = field(default_factory=dict)
    items: dict[int, Begun] = field(default_factory=dict)
    pause: Pause | None = None

    def read(self, row: sqlite3.Row) -> None:
        """Take in the next row."""
        kind, item = row["kind"], row["item"]
        if kind in (Kind.STEP, Kind.CAUGHT):
            self.count += 1
            self.node, self.path = _next(row)
            self.action, self.last = _action(row), row["id"]
            self.journal, self.items, self.pause = {}, {}, None
        elif kind == Kind.RESULT:
            self.journal[ALONE] = _data(row)
        elif kind == Kind.ITEM:
            self.journal[item], self.items[item] = _data(row), Begun(row["mark"], 0)
        elif kind == Kind.MARK:
            self.items[item] = Begun(row["mark"], 0)
        elif kind == Kind.RETRY:
            self.items[ALONE if item is None else item] = Begun(row["mark"], row["attempt"])
        elif kind == Kind.PREPARED:
            prepared, changes = read_json(row["data"], is_input, "what prep of a node gave")
            self.pause = Pause(prepared, [tuple(change) for change in changes])

    def forget_attempts(self) -> None:
        """Let everything have all its attempts again."""
        self.items = {number: one._replace(attempts=0) for number, one in self.items.items()}


def read_position(
    database: WorkflowDB, run_id: str, run_no: int, step: int | None = None
) -> Position:
    """Where the run goes on after a step; after its last one by default.

    Raises:
        CheckpointNotFoundError: The run has no checkpoint of that step.
        ResumeError: It was written by a version that did not record where a run goes on.
    """
    connection = database.connection
    first, end = row_ids(run_no)
    until = end - 1
    if step is not None:
        found = database.row_of_step(run_no, step)
        if found is None:
            raise CheckpointNotFoundError(
                f"run {run_id!r} in database {database.path} has no checkpoint of step {step}"
            )
        until = found
    start = connection.row(QUERIES["line_start"], (first, until))
    if start is None:
        last = connection.row(QUERIES["last_step"], (first, end))
        step = last[0] if step is None and last is not None else step
        if step is None:
            raise CheckpointNotFoundError(
                f"run {run_id!r} in database {database.path} has no checkpoint"
            )
        return Position(step, step, None, (), {}, {})
    node, path = _next(start)
    own = _Line("", node=node, path=path)
    lines = {0: own}
    finished = start["step"]
    for row in connection.rows(QUERIES["rows_between"], (start["id"], until)):
        if row["kind"] == Kind.LINE:
            lines[row["line"]] = _Line(_data(row), last=row["id"])
        if row["line"] not in lines:
            raise DecodeError(f"run {run_id!r}: row {row['id']} of its log is of no line")
        lines[row["line"]].read(row)
        if row["kind"] == Kind.FAILED:
            # Whoever goes on with a run that has failed for good has all attempts again.
            for line in lines.values():
                line.forget_attempts()
        if row["kind"] in (Kind.STEP, Kind.CAUGHT):
            finished = row["step"]
    asked = _asked(connection, run_no)
    values = _values(connection, run_no, lines, finished)
    local = ("", start["step"] + 1)
    return Position(
        finished,
        start["step"],
        own.node,
        own.path,
        own.journal,
        _branches(lines, values, asked),
        asked.get(local, {}),
        own.pause,
        own.items,
        start["id"],
        utc_now(),
    )


def _next(row: sqlite3.Row) -> tuple[str | None, tuple[str, ...]]:
    """The node that comes next after a step, and the names of the flows around it."""
    names = names_at(row["next_node"], row["next_path"])
    return (names[-1], names[:-1]) if names else (None, ())


def _action(row: sqlite3.Row) -> str:
    return str(key_of(row["data"])) if row["data"] is not None else row["action"] or DEFAULT_ACTION


def _data(row: sqlite3.Row) -> str:
    if not isinstance(row["data"], str):
        raise DecodeError(f"row {row['id']} of the log cannot be read: it has no data")
    return row["data"]


def _asked(connection: Connection, run_no: int) -> dict[tuple[str, int], dict[int, Asked]]:
    """The questions whose steps are not finished, by line and step."""
    asked: dict[tuple[str, int], dict[int, Asked]] = {}
    for one in questions_of(connection, run_no):
        if not one.is_closed:
            item = -1 if one.item is None else one.item
            asked.setdefault((one.scope, one.step), {})[item] = one
    return asked


def _values(
    connection: Connection, run_no: int, lines: Mapping[int, _Line], step: int
) -> dict[int, list[Sequence[Any]]]:
    """What the branches have of their own, by line."""
    begun = [line for line in lines if line]
    found: dict[int, list[Sequence[Any]]] = {}
    if begun:
        wanted = {"run_no": run_no, "first": min(begun), "step": step}
        for line, *rest in connection.rows(QUERIES["values_of_lines"], wanted):
            found.setdefault(line, []).append(rest)
    return found


def _branches(
    lines: Mapping[int, _Line],
    values: Mapping[int, Sequence[Sequence[Any]]],
    asked: Mapping[tuple[str, int], Mapping[int, Asked]],
) -> dict[str, StoredBranch]:
    """The branches that had begun, and those that these are inside of."""
    found: dict[str, StoredBranch] = {}
    for number, line in lines.items():
        if number:
            own = values.get(number, ())
            found[line.scope] = StoredBranch(
                line.count,
                line.node,
                line.path,
                line.action,
                line.journal,
                {key_of(key): key_no for key, key_no, _, _ in own},
                [(key, op, text) for key, _, op, text in own],
                asked.get((line.scope, line.count), {}),
                line.pause,
                line.items,
                number,
                line.last,
            )
    for scope in tuple(found):
        while scope := scope.rpartition("/")[0]:
            # Its first node is parallel, too, and has not ended.
            found.setdefault(scope, StoredBranch(0, "", ()))
    return found


def asked_in(position: Position) -> list[Asked]:
    """Every question that a run waits for, those of its branches included."""
    branches = (branch.asked.values() for branch in position.branches.values())
    return [*position.asked.values(), *chain.from_iterable(branches)]
