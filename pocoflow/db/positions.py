"""The position of a stored run: what is recorded of the unfinished steps of its lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pocoflow.db.connection import Connection
from pocoflow.db.expenses import expenses_of
from pocoflow.db.log import Begin, Kind, data_of, names_at, read_begin, read_taken
from pocoflow.db.port import Record
from pocoflow.db.question_rows import questions_of
from pocoflow.db.rows import is_input, read_json
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.db.values import key_of
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import CheckpointNotFoundError, DecodeError
from pocoflow.graph.step_records import ALONE
from pocoflow.graph.unfinished import StartedItem, Unfinished
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.question import Asked
from pocoflow.nodes.spending import Spent
from pocoflow.values.failures import Failure


@dataclass(slots=True)
class _Rows:
    """The rows of a line: that of its last step, or of its start, and those after it."""

    last: Record
    begin: Begin | None = None
    count: int = 0
    open: list[Record] = field(default_factory=list)


def read_unfinished(
    database: WorkflowDB, run_id: str, run_no: int, step: int | None = None
) -> Unfinished:
    """The unfinished step of a run after a step, by default after its last.

    Raises:
        CheckpointNotFoundError: The run has no checkpoint of that step.
    """
    connection = database.connection
    first, end = row_ids(run_no)
    until = end - 1 if step is None else database.row_of_step(run_no, step)
    missing = f"run {run_id!r} in database {database.path} has no checkpoint"
    if until is None:
        raise database.no_checkpoint(run_id, step or 0)
    start = connection.row(QUERIES["line_start"], (first, until))
    if start is None:
        last = connection.row(QUERIES["last_step"], (first, end))
        step = last[0] if step is None and last is not None else step
        if step is None:
            raise CheckpointNotFoundError(missing)
        return Unfinished(names=None, steps=step + 1)
    lines, steps, failed = {0: _Rows(start, count=start["step"] + 1)}, start["step"] + 1, 0
    for row in connection.rows(QUERIES["rows_between"], (start["id"], until)):
        kind, line = row["kind"], row["line"]
        if kind == Kind.LINE:
            lines[line] = _Rows(row, read_begin(row))
        elif line not in lines:
            raise DecodeError(f"run {run_id!r}: row {row['id']} of its log is of no line")
        elif kind in (Kind.STEP, Kind.CAUGHT):
            rows = lines[line]
            rows.last, rows.count, rows.open = row, rows.count + 1, []
            steps = row["step"] + 1
        elif kind == Kind.FAILED:
            failed = row["id"]
        else:
            lines[line].open.append(row)
    unfinished = _Reader(connection, run_no, lines, steps, failed).read(0)
    if step is not None:
        return unfinished  # for a fork, which has spent nothing
    spent = [
        Spent(expense.line, expense.names, {**expense.amounts, **dict.fromkeys(expense.past)})
        for expense in expenses_of(connection, run_no)
    ]
    return replace(unfinished, spent=spent)


class _Reader:
    """Reads the unfinished steps of a run."""

    def __init__(
        self,
        connection: Connection,
        run_no: int,
        lines: Mapping[int, _Rows],
        steps: int,
        failed: int,
    ) -> None:
        self._lines, self._steps, self._failed = lines, steps, failed
        self._now = connection.now()
        self._children: dict[tuple[int, int], dict[int, int]] = {}
        for line, rows in lines.items():
            if rows.begin is not None:
                parent, step, number, _ = rows.begin
                self._children.setdefault((parent, step), {})[number] = line
        self._asked: dict[int, dict[int, Asked]] = {}
        for asked in questions_of(connection, run_no):
            if not asked.is_closed:
                item = ALONE if asked.item is None else asked.item
                self._asked.setdefault(asked.line, {})[item] = asked
        self._values: dict[int, list[list[Any]]] = {}
        branches = [line for line in lines if line]
        if branches:
            parameters = {"run_no": run_no, "first": min(branches), "step": steps - 1}
            for line, *rest in connection.rows(QUERIES["values_of_lines"], parameters):
                self._values.setdefault(line, []).append(rest)

    def read(self, line: int) -> Unfinished:
        """The unfinished step of a line, with its branches, recursively."""
        rows, values = self._lines[line], self._values.get(line, ())
        last = rows.last
        is_new = last["kind"] == Kind.LINE
        results = {}
        changes = given = []
        changed_at = 0
        items: dict[int, StartedItem] = {}
        calls: dict[int, dict[str, str]] = {}
        prepared: tuple[str, ...] = ()
        for row in rows.open:
            kind, item = row["kind"], ALONE if row["item"] is None else row["item"]
            if kind in (Kind.RESULT, Kind.ITEM):
                results[item] = data_of(row)
            if kind in (Kind.ITEM, Kind.MARK):
                items[item] = StartedItem(row["mark"], 0)
            elif kind == Kind.RETRY:
                # A resume of a failed run has all attempts again.
                again = row["id"] > self._failed
                tried = items.get(item, _NEW).errors if again else ()
                tried = (*tried, _failure(row)) if again else ()
                items[item] = StartedItem(row["mark"], row["attempt"] if again else 0, tried)
            elif kind == Kind.CALL:
                returned = calls.setdefault(item, {})
                returned.pop(row["note"], None)
                if row["data"] is not None:
                    returned[row["note"]] = row["data"]
                if item != ALONE:
                    items.setdefault(item, StartedItem(row["mark"], 0))
            elif kind == Kind.PREPARED:
                text, written = read_json(row["data"], is_input, "what prep of a node gave")
                changes, changed_at = [(key, op, value) for key, op, value in written], row["id"]
                if text is None:
                    given = changes
                else:
                    prepared = (text,)
        return Unfinished(
            line=line,
            count=rows.count,
            began=() if rows.begin is None else rows.begin.names,
            names=() if is_new else names_at(last["next_node"], last["next_path"]) or None,
            action=DEFAULT_ACTION if is_new else _action(last),
            taken=() if is_new else read_taken(last["mark"]),
            row=last["id"],
            results=results,
            items=items,
            asked=self._asked.get(line, {}),
            calls=calls,
            prepared=prepared,
            changes=changes,
            changed_at=changed_at,
            given=given,
            keys={key_of(key): key_no for key, key_no, _, _ in values},
            rows=[(key, op, text) for key, _, op, text in values],
            branches={
                number: self.read(child)
                for number, child in self._children.get((line, rows.count), {}).items()
            },
            steps=self._steps,
            read_at=self._now,
        )


_NEW = StartedItem("", 0)


def _failure(row: Record) -> Failure:
    shown = (row["error_type"] or "", row["error_msg"] or "", row["traceback"] or "")
    return Failure(row["node"] or "", *shown)


def _action(row: Record) -> str:
    return str(key_of(row["data"])) if row["data"] is not None else row["action"] or DEFAULT_ACTION
