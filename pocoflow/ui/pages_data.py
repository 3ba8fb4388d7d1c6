"""The data of the monitor: pure functions over a database that is opened read-only."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pocoflow.address import plain
from pocoflow.db import EventRow, RunRow, Status, WorkflowDB
from pocoflow.db.postgres import is_server
from pocoflow.db.run_reports import StoredValue, finished_items, node_began, waiting
from pocoflow.errors import DatabaseFileError, RunNotFoundError
from pocoflow.graph.fingerprint import Fingerprint, edges_of
from pocoflow.nodes.question import Asked
from pocoflow.ui.steps import Step, Walk, steps_of, walk

_databases: dict[str, tuple[tuple[int, int], WorkflowDB]] = {}
_lock = threading.Lock()


def open_database(path: str) -> WorkflowDB:
    """The database of a path, opened read-only once for all sessions.

    Raises:
        DatabaseError: There is no such file, or it is not a database of this library.
    """
    file = path if is_server(path) else os.path.realpath(path)
    try:
        status = os.stat(os.sep if is_server(path) else file)
    except OSError:
        _databases.pop(file, None)
        raise DatabaseFileError(f"there is no database {path}") from None
    identity = (status.st_dev, status.st_ino)
    with _lock:
        # A replaced database is closed when nothing refers to it any more.
        known, database = _databases.pop(file, (identity, None))
        if database is None or known != identity:
            database = WorkflowDB(path, read_only=True)
        _databases[file] = (identity, database)
        return database


# -- runs -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filters:
    """Which runs are listed; ``""`` and ``None`` mean all of them.

    ``found_by`` is a run thread, or labels as ``key=value`` with commas between them.
    """

    text: str = ""
    flow: str | None = None
    status: Status | None = None
    within: timedelta | None = None
    found_by: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """The labels that runs must have."""
        pairs = (pair.partition("=") for pair in self.found_by.split(","))
        return {key.strip(): value.strip() for key, sign, value in pairs if sign}

    @property
    def thread(self) -> str | None:
        """The run thread that they must belong to."""
        return None if self.labels else self.found_by.strip() or None


class ListedRun(RunRow):
    """A run in a list, with the start of its current node and the number of open questions."""

    node_began: str | None
    questions: int


@dataclass(frozen=True, slots=True)
class RunsPage:
    """A page of runs.

    Attributes:
        runs: Their rows, the newest first.
        next_before: The ``before`` of the next page, a ``run_no``; ``None`` on the last page.
    """

    runs: list[ListedRun]
    next_before: int | None


def read_page(
    database: WorkflowDB, filters: Filters, before: int | None, size: int, now: datetime
) -> RunsPage:
    """Read the page of runs that were created before the run ``before``."""
    since = None if filters.within is None else (now - filters.within).isoformat()
    rows = database.list_runs(
        size + 1,
        status=filters.status,
        flow_name=filters.flow,
        text=filters.text or None,
        since=since,
        before=before,
        thread=filters.thread,
        labels=filters.labels,
    )
    open_questions = waiting(database)
    runs: list[ListedRun] = []
    for run in rows[:size]:
        began = node_began(database, run["run_no"]) if run["status"] == "running" else None
        questions = open_questions.get(run["run_id"], 0)
        runs.append({**run, "node_began": began, "questions": questions})
    return RunsPage(runs, runs[-1]["run_no"] if len(rows) > size else None)


# -- a run ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunView:
    """What is shown of a run, except its store and its expenses.

    ``items`` is the number of finished items of the current batch.
    """

    run: RunRow
    events: Sequence[EventRow]
    steps: Sequence[Step]
    graph: Fingerprint | None
    walk: Walk
    stored_steps: Sequence[int]
    questions: Sequence[Asked] = ()
    items: int = 0

    @property
    def open(self) -> list[Asked]:
        """The questions that wait for an answer."""
        if self.run["status"] in ("completed", "cancelled"):
            return []
        return [question for question in self.questions if question.is_open]

    @property
    def began(self) -> str | None:
        """When the current node began, if the run is active."""
        if self.run["status"] != "running":
            return None
        starts = [event["ts"] for event in self.events if event["event"] == "node_start"]
        return starts[-1] if starts else None


def read_run(database: WorkflowDB, run_id: str, now: datetime) -> RunView:
    """Read a run.

    Raises:
        RunNotFoundError: There is no such run.
    """
    run = database.get_run(run_id)
    if run is None:
        database.number(run_id)  # raises an error with the closest id
        raise RunNotFoundError(f"database {database.path} has no run {run_id!r}")
    events = database.get_events(run_id)
    graph = database.get_graph(run_id)
    steps = steps_of(run, events, now)
    path = walk(run, steps, [] if graph is None else edges_of(graph))
    stored = [row["step"] for row in database.get_checkpoints(run_id)]
    questions, items = database.get_questions(run_id), finished_items(database, run["run_no"])
    view = RunView(run, events, steps, graph, path, stored, questions, items)
    # The graph has the branches of a node for items only once.
    path.questions.update(plain(question.path) for question in view.open)
    return view


# -- its store ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changed:
    """A key that differs between two steps.

    Attributes:
        key: The key.
        what: ``added``, ``removed``, ``appended`` or ``changed``.
        before: Its value before, as JSON text.
        after: Its value after; of a list that grew, only what was appended.
    """

    key: str
    what: str
    before: str
    after: str


def changes_between(
    before: Mapping[str, StoredValue], after: Mapping[str, StoredValue]
) -> list[Changed]:
    """The changes between two states of a store, by key."""
    changes = [
        Changed(key, "removed", _shown(old), "") for key, old in before.items() if key not in after
    ]
    for key, new in after.items():
        old = before.get(key)
        if old is None:
            changes.append(Changed(key, "added", "", _shown(new)))
        elif _shown(old) != _shown(new):
            changes.append(_change(key, _shown(old), _shown(new)))
    return changes


def store_text(values: Mapping[str, StoredValue]) -> str:
    """A whole store as the text of one JSON object; a value that was not saved says so."""
    parts = (f"{json.dumps(value.key)}: {value.json_text}" for value in values.values())
    return "{" + ", ".join(parts) + "}"


def _shown(value: StoredValue) -> str:
    return value.text if value.not_saved is None else f"not saved: {value.not_saved[0]}"


def _change(key: str, old: str, new: str) -> Changed:
    if (
        old.startswith("[")
        and new.startswith(old[:-1])
        and (len(old) == 2 or new[len(old) - 1] == ",")
    ):
        return Changed(key, "appended", old, "[" + new[len(old) - 1 :].lstrip(","))
    # Of long texts, only the part from the first difference on is shown.
    start = _common_length(old, new)
    start = max(0, start - 40) if start > 80 else 0
    lead = "… " if start else ""
    return Changed(key, "changed", lead + old[start:], lead + new[start:])


def _common_length(text: str, other: str) -> int:
    """The length of the common beginning of two texts; fast for long ones."""
    step, at, end = 4096, 0, min(len(text), len(other))
    while at < end and text[at : at + step] == other[at : at + step]:
        at += step
    while at < end and text[at] == other[at]:
        at += 1
    return min(at, end)
