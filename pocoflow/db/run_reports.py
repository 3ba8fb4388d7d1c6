"""What whoever looks at runs asks of a database; no stored class is needed for any of it."""

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
    read_mark,
    whole_text,
)
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import DecodeError


@dataclass(frozen=True, slots=True)
class FlowCounts:
    """How many runs a flow has, by status as a reader sees it.

    Attributes:
        flow_name: The flow.
        by_status: Statuses without runs are left out.
    """

    flow_name: str
    by_status: Mapping[str, int]

    @property
    def total(self) -> int:
        """All runs."""
        return sum(self.by_status.values())

    @property
    def failure_rate(self) -> float | None:
        """The failed share of the runs that completed or failed; ``None`` if none has."""
        failed = self.by_status.get("failed", 0)
        ended = failed + self.by_status.get("completed", 0)
        return failed / ended if ended else None


def flow_counts(database: WorkflowDB) -> list[FlowCounts]:
    """The counts of every flow, by its name. A run whose process is gone counts as failed."""
    found: dict[str, dict[str, int]] = {}
    for name, status, runs in database.connection.rows(QUERIES["counts_by_flow"]):
        found.setdefault(name, {})[status] = runs
    for row in database.connection.rows(QUERIES["runs_with_owner"]):
        counts = found.get(row["flow_name"], {})
        if counts.get("running") and not database.locks.is_held(row["run_no"]):
            counts["running"] -= 1
            counts["failed"] = counts.get("failed", 0) + 1
    return [
        FlowCounts(name, {status: runs for status, runs in counts.items() if runs})
        for name, counts in sorted(found.items())
    ]


def node_began(database: WorkflowDB, run_no: int) -> str | None:
    """When the node that a run is at began, as ISO-8601 text in UTC."""
    row = database.connection.row(QUERIES["node_began"], row_ids(run_no))
    return None if row is None else str(row["ts"])


def finished_items(database: WorkflowDB, run_no: int) -> int:
    """How many items are finished of the batches that a run is at, parallel branches included."""
    row = database.connection.row(QUERIES["items_on_record"], row_ids(run_no))
    return 0 if row is None else int(row[0])


def names_of(event: EventRow) -> tuple[str, ...]:
    """The names of the flows and branches around the node of an event, and its own."""
    path = event["path"]
    return (event["node_name"] or "",) if path is None else read_names(path, "the path of an event")


def runs_beginning(database: WorkflowDB, text: str, limit: int) -> list[str]:
    """The ids of the newest runs that begin with a text, at most ``limit`` of them."""
    wanted = {"text": text, "limit": limit}
    return [row[0] for row in database.connection.rows(QUERIES["runs_beginning"], wanted)]


def waiting(database: WorkflowDB) -> dict[str, int]:
    """How many questions wait for an answer, by the id of the run that asked them."""
    return {row[0]: row[1] for row in database.connection.rows(QUERIES["open_by_run"])}


def forks(database: WorkflowDB, run_id: str) -> list[dict[str, Any]]:
    """The runs that were forked from a run: ``run_id``, ``parent_step``, ``status`` as stored."""
    return [dict(row) for row in database.connection.rows(QUERIES["forks_of_run"], (run_id,))]


@dataclass(slots=True)
class StoredValue:
    """The value of a store key as it is stored.

    Attributes:
        key: The key.
        step: The step that last wrote it; -1 if it is there from the beginning.
        text: The value as JSON text, perhaps only its beginning; ``""`` if it was not saved.
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
        """The text as JSON; of a value that was not saved, what says why."""
        if self.not_saved is None:
            return self.text
        return json.dumps({"$type": "not saved", "value": list(self.not_saved)})

    @property
    def is_whole(self) -> bool:
        """Whether ``text`` is all of it."""
        return len(self.text) == self.size

    def read(self) -> Any:
        """The value as JSON; one that was not saved says why.

        Raises:
            DecodeError: It is damaged.
        """
        return read_json(self.json_text, is_anything, f"store key {self.key!r}")


def stored_values(
    database: WorkflowDB, run_id: str, step: int, limit: int | None = None
) -> dict[str, StoredValue]:
    """The store after a step, by key, as text; ``step=-1`` is the store before the first node.

    Args:
        database: Where the run is.
        run_id: The run.
        step: The step; one without a checkpoint reads as the one before it.
        limit: Give no more than so many characters of a value.

    Raises:
        RunNotFoundError: There is no such run.
    """
    wanted = {"run_no": database.number(run_id), "step": step, "limit": limit}
    rows = database.connection.rows(QUERIES["stored_at"], wanted)
    if limit is not None and any(row["op"] in (APPENDED, CHANGED) for row in rows):
        rows = database.connection.rows(QUERIES["stored_at"], {**wanted, "limit": None})
    found: dict[str, StoredValue] = {}
    pieces: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        key, op, text = _key(row["key"]), row["op"], row["value"]
        about = f"key {key!r} of run {run_id!r}"
        is_more = op in (APPENDED, CHANGED)
        if op == DELETED:
            continue
        if text is None or (is_more and key not in pieces):
            why = (
                "something was changed in it before it was there" if is_more else "it has no value"
            )
            raise DecodeError(f"{about} cannot be read: {why}")
        if op == UNSAVED:
            found[key] = StoredValue(key, row["step"], not_saved=read_mark(text, about))
            continue
        found[key] = StoredValue(key, row["step"], text[:limit], row["size"])
        pieces.setdefault(key, []).append((op, text))
    for key, parts in pieces.items():
        if len(parts) > 1:
            whole = whole_text(parts)
            found[key].text, found[key].size = whole[:limit], len(whole)
    return found


def _key(text: str) -> str:
    return text.removeprefix(CODED)


_PARTS = {APPENDED: "appended", CHANGED: "changed", UNSAVED: "not_saved"}


def export_run(database: WorkflowDB, run_id: str) -> dict[str, Any]:
    """Everything that is recorded of a run, as one JSON document.

    ``steps`` has what each step changed (step -1: the store before the first node): ``set`` for
    whole values, ``appended`` for what was added to lists and texts, ``changed`` for lists of
    ``[path, operation, value]`` inside of values, ``deleted`` and ``not_saved`` keys, and
    ``branches`` for the same of parallel branches, by their numbers in the log. ``questions`` has
    what was asked and answered, ``expenses`` what was spent.

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
        "questions": [one.as_json() for one in database.get_questions(run_id)],
        "expenses": [one.as_json() for one in database.get_expenses(run_id)],
        "steps": list(steps.values()),
    }
