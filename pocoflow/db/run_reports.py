"""Reports on stored runs, none of which needs a stored class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocoflow.db.rows import EventRow, is_anything, read_json, read_names
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.db.values import (
    APPENDED,
    CHANGED,
    CODED,
    DELETED,
    INITIAL,
    UNSAVED,
    pieces_of,
    read_mark,
    whole_text,
)
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import DecodeError


@dataclass(frozen=True, slots=True)
class FlowCounts:
    """The number of runs of a flow, by status as a reader sees it.

    Attributes:
        flow_name: The flow.
        by_status: Statuses without runs are left out.
    """

    flow_name: str
    by_status: Mapping[str, int]

    @property
    def total(self) -> int:
        """The number of all runs."""
        return sum(self.by_status.values())

    @property
    def failure_rate(self) -> float | None:
        """The share of failed runs among those that completed or failed; ``None`` without any."""
        failed = self.by_status.get("failed", 0)
        ended = failed + self.by_status.get("completed", 0)
        return failed / ended if ended else None


def flow_counts(database: WorkflowDB) -> list[FlowCounts]:
    """The counts of every flow, sorted by name. An interrupted run counts as failed."""
    by_flow: dict[str, dict[str, int]] = {}
    for name, status, runs in database.connection.rows(QUERIES["counts_by_flow"]):
        by_flow.setdefault(name, {})[status] = runs
    for row in database.connection.rows(QUERIES["runs_with_owner"]):
        counts = by_flow.get(row["flow_name"], {})
        if counts.get("running") and not database.locks.is_held(row["run_no"]):
            counts["running"] -= 1
            counts["failed"] = counts.get("failed", 0) + 1
    return [
        FlowCounts(name, {status: runs for status, runs in counts.items() if runs})
        for name, counts in sorted(by_flow.items())
    ]


def node_began(database: WorkflowDB, run_no: int) -> str | None:
    """The time at which the current node of a run started, as ISO-8601 text in UTC."""
    row = database.connection.row(QUERIES["node_began"], row_ids(run_no))
    return None if row is None else str(row["ts"])


def finished_items(database: WorkflowDB, run_no: int) -> int:
    """The number of finished items of a run's current batches, parallel branches included."""
    row = database.connection.row(QUERIES["items_on_record"], row_ids(run_no))
    return 0 if row is None else int(row[0])


def names_of(event: EventRow) -> tuple[str, ...]:
    """The names of the enclosing flows and branches, and of the node, of an event."""
    path = event["path"]
    return (event["node_name"] or "",) if path is None else read_names(path, "the path of an event")


def runs_beginning(database: WorkflowDB, text: str, limit: int) -> list[str]:
    """The ids, of the newest runs, that start with a text; at most ``limit``."""
    parameters = {"text": text, "limit": limit}
    return [row[0] for row in database.connection.rows(QUERIES["runs_beginning"], parameters)]


def waiting(database: WorkflowDB) -> dict[str, int]:
    """The number of open questions, by the id of the run that asked them."""
    return {row[0]: row[1] for row in database.connection.rows(QUERIES["open_by_run"])}


def forks(database: WorkflowDB, run_id: str) -> list[dict[str, Any]]:
    """The runs that were forked from a run: ``run_id``, ``parent_step``, ``status`` as stored."""
    return [dict(row) for row in database.connection.rows(QUERIES["forks_of_run"], (run_id,))]


@dataclass(slots=True)
class StoredValue:
    """The stored value of a store key.

    Attributes:
        key: The key.
        step: The step that last wrote it; -1 for an initial value.
        text: The value as JSON text, possibly truncated; ``""`` if it was not saved.
        size: The length of the whole text.
        not_saved: Type and reason if the value could not be stored.
    """

    key: str
    step: int
    text: str = ""
    size: int = 0
    not_saved: tuple[str, str] | None = None

    @property
    def json_text(self) -> str:
        """The text as JSON; for a value that was not saved, the reason."""
        if self.not_saved is None:
            return self.text
        return json.dumps({"$type": "not saved", "value": list(self.not_saved)})

    @property
    def is_whole(self) -> bool:
        """Whether ``text`` is complete."""
        return len(self.text) == self.size

    def read(self) -> Any:
        """The value as JSON; for a value that was not saved, the reason.

        Raises:
            DecodeError: It is damaged.
        """
        return read_json(self.json_text, is_anything, f"store key {self.key!r}")


def stored_values(
    database: WorkflowDB, run_id: str, step: int, limit: int | None = None
) -> dict[str, StoredValue]:
    """The store after a step, by key, as text; ``step=-1`` is the store before the first node.

    Args:
        database: The database of the run.
        run_id: The run.
        step: The step; without a checkpoint, the last step before it counts.
        limit: The maximum number of characters of a value.

    Raises:
        RunNotFoundError: There is no such run.
    """
    parameters = {"run_no": database.number(run_id), "step": step, "limit": limit}
    rows = database.connection.rows(QUERIES["stored_at"], parameters)
    if limit is not None and any(row["op"] in (APPENDED, CHANGED) for row in rows):
        rows = database.connection.rows(QUERIES["stored_at"], {**parameters, "limit": None})
    values: dict[str, StoredValue] = {}
    last = {row["key"]: row for row in rows}
    for stored_key, pieces in pieces_of(rows).items():
        key, row, (op, text) = _key(stored_key), last[stored_key], pieces[0]
        about = f"key {key!r} of run {run_id!r}"
        if row["value"] is None and op != DELETED:
            raise DecodeError(f"{about} cannot be read: it has no value")
        if op == UNSAVED:
            values[key] = StoredValue(key, row["step"], not_saved=read_mark(text, about))
        elif op != DELETED:
            whole = whole_text(pieces)
            size = row["size"] if len(pieces) == 1 else len(whole)
            values[key] = StoredValue(key, row["step"], whole[:limit], size)
    return values


def _key(text: str) -> str:
    return text.removeprefix(CODED)


_PARTS = {APPENDED: "appended", CHANGED: "changed", UNSAVED: "not_saved"}


def export_run(database: WorkflowDB, run_id: str) -> dict[str, Any]:
    """Everything recorded of a run, as one JSON document.

    ``steps`` has the changes of each step (step -1: the store before the first node): ``set`` for
    whole values, ``appended`` for what was appended to lists and texts, ``changed`` for lists of
    ``[path, operation, value]`` inside values, ``deleted`` and ``not_saved`` keys, and
    ``branches`` for the same of parallel branches, by their numbers in the log. ``questions`` has
    the questions and answers, ``expenses`` the expenses.

    Raises:
        RunNotFoundError: There is no such run.
    """
    number = database.number(run_id)
    steps: dict[int, dict[str, Any]] = {INITIAL: {"step": INITIAL, "node": "", "created_at": ""}}
    for row in database.get_checkpoints(run_id):
        about = {"node": row["node_name"], "created_at": row["created_at"]}
        steps[row["step"]] = {"step": row["step"], **about}
    for step, line, text, op, value in database.connection.rows(
        QUERIES["changes_of_run"], (number,)
    ):
        key, owner = _key(text), steps.setdefault(step, {"step": step})
        if line:
            owner = owner.setdefault("branches", {}).setdefault(str(line), {})
        if op == DELETED:
            owner.setdefault("deleted", []).append(key)
        else:
            part = _PARTS.get(op, "set")
            owner.setdefault(part, {})[key] = read_json(
                value, is_anything, f"key {key!r} of run {run_id!r}"
            )
    return {
        "format": "pocoflow-run/1",
        "run": database.get_run(run_id),
        "graph": database.get_graph(run_id),
        "events": database.get_events(run_id),
        "questions": [asked.as_json() for asked in database.get_questions(run_id)],
        "expenses": [expense.as_json() for expense in database.get_expenses(run_id)],
        "steps": list(steps.values()),
    }
