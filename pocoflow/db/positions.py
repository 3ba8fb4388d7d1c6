"""The position of a stored run: what is recorded of the unfinished steps of its lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pocoflow.db.expenses import expenses_of
from pocoflow.db.log import Begin, Kind, data_of, names_at, read_begin, read_taken
from pocoflow.db.port import Record
from pocoflow.db.question_rows import questions_of
from pocoflow.db.rows import is_input, read_json
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.db.values import INITIAL, key_of
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import DecodeError
from pocoflow.graph.step_records import ALONE
from pocoflow.graph.unfinished import StartedItem, Unfinished
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.question import Asked
from pocoflow.nodes.spending import Spent
from pocoflow.values.failures import Failure


@dataclass(slots=True)
class _Line:
    """The rows of a line: that of its last step, or of its start, and those after it.

    Attributes:
        values: Of a branch, its stored values.
        branches: The lines that branched off it, by step and number.
    """

    last: Record
    begin: Begin | None = None
    count: int = 0
    open: list[Record] = field(default_factory=list)
    asked: dict[int, Asked] = field(default_factory=dict)
    values: list[list[Any]] = field(default_factory=list)
    branches: dict[int, dict[int, int]] = field(default_factory=dict)


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
    if until is None:
        raise database.no_checkpoint(run_id, step or 0)
    start = connection.row(QUERIES["line_start"], (first, until))
    if start is None:
        last = connection.row(QUERIES["last_step"], (first, end))
        step = last[0] if step is None and last is not None else step
        if step is None:
            raise database.no_checkpoint(run_id, INITIAL)
        return Unfinished(names=None, steps=step + 1)
    rows = connection.rows(QUERIES["rows_between"], (start["id"], until))
    lines, steps, failed = _lines_of(run_id, start, rows)
    for asked in questions_of(connection, run_no):
        if not asked.is_closed and asked.line in lines:
            lines[asked.line].asked[ALONE if asked.item is None else asked.item] = asked
    if len(lines) > 1:
        parameters = {"run_no": run_no, "first": sorted(lines)[1], "step": steps - 1}
        for number, *value in connection.rows(QUERIES["values_of_lines"], parameters):
            if number in lines:
                lines[number].values.append(value)
    unfinished = _read(lines, 0, failed, Unfinished(steps=steps, read_at=connection.now()))
    if step is not None:
        return unfinished  # for a fork, which has spent nothing
    spent = [
        Spent(expense.line, expense.names, {**expense.amounts, **dict.fromkeys(expense.past)})
        for expense in expenses_of(connection, run_no)
    ]
    return replace(unfinished, spent=spent)


def _lines_of(
    run_id: str, start: Record, rows: Iterable[Record]
) -> tuple[dict[int, _Line], int, int]:
    """The lines of a run, its number of finished steps, and its failure: the id of a row, or 0."""
    lines, steps, failed = {0: _Line(start, count=start["step"] + 1)}, start["step"] + 1, 0
    for row in rows:
        kind = row["kind"]
        begin = read_begin(row) if kind == Kind.LINE else None
        line = lines.get(row["line"] if begin is None else begin.parent)
        if line is None:
            raise DecodeError(f"run {run_id!r}: row {row['id']} of its log is of no line")
        if begin is not None:
            lines[row["line"]] = _Line(row, begin)
            line.branches.setdefault(begin.step, {})[begin.number] = row["line"]
        elif kind in (Kind.STEP, Kind.CAUGHT):
            line.last, line.count, line.open = row, line.count + 1, []
            steps = row["step"] + 1
        elif kind == Kind.FAILED:
            failed = row["id"]
        else:
            line.open.append(row)
    return lines, steps, failed


def _read(lines: Mapping[int, _Line], number: int, failed: int, run: Unfinished) -> Unfinished:
    """The unfinished step of a line, with its branches, recursively.

    Args:
        lines: The lines of the run.
        number: The number of the line.
        failed: The row that says that the run has failed, or 0.
        run: What all lines have in common.
    """
    line = lines[number]
    last = line.last
    is_new = last["kind"] == Kind.LINE
    results = {}
    changes = given = []
    changed_at = 0
    items: dict[int, StartedItem] = {}
    calls: dict[int, dict[str, str]] = {}
    prepared: tuple[str, ...] = ()
    for row in line.open:
        kind, item = row["kind"], ALONE if row["item"] is None else row["item"]
        if kind in (Kind.RESULT, Kind.ITEM):
            results[item] = data_of(row)
        if kind in (Kind.ITEM, Kind.MARK):
            items[item] = StartedItem(row["mark"], 0)
        elif kind == Kind.RETRY:
            # A resume of a failed run has all attempts again.
            again = row["id"] > failed
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
    return replace(
        run,
        line=number,
        count=line.count,
        began=() if line.begin is None else line.begin.names,
        names=() if is_new else names_at(last["next_node"], last["next_path"]) or None,
        action=DEFAULT_ACTION if is_new else _action(last),
        taken=() if is_new else read_taken(last["mark"]),
        row=last["id"],
        results=results,
        items=items,
        asked=line.asked,
        calls=calls,
        prepared=prepared,
        changes=changes,
        changed_at=changed_at,
        given=given,
        keys={key_of(key): key_no for key, key_no, _, _ in line.values},
        rows=[(key, op, text) for key, _, op, text in line.values],
        branches={
            branch: _read(lines, child, failed, run)
            for branch, child in line.branches.get(line.count, {}).items()
        },
    )


_NEW = StartedItem("", 0)


def _failure(row: Record) -> Failure:
    shown = (row["error_type"] or "", row["error_msg"] or "", row["traceback"] or "")
    return Failure(row["node"] or "", *shown)


def _action(row: Record) -> str:
    return str(key_of(row["data"])) if row["data"] is not None else row["action"] or DEFAULT_ACTION
