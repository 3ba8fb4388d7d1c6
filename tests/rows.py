"""What tests read of a database, and how they keep others from writing to it."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pocoflow import WorkflowDB
from pocoflow.db import RunRow
from pocoflow.db.run_reports import export_run
from pocoflow.db.sqlite import SQLiteConnection
from pocoflow.events import Emitted, EmittedVoid, Followed


def row_of(db: WorkflowDB, run_id: str) -> RunRow:
    """The row of a run that is there."""
    row = db.get_run(run_id)
    assert row is not None, f"there is no run {run_id!r}"
    return row


def known(db: WorkflowDB) -> dict[str, Any]:
    """All that is on record of all runs, but for the numbers that a database gives."""
    found = {}
    for run in reversed(db.list_runs()):
        document: Any = export_run(db, run["run_id"])
        first = run["run_no"] << 33
        for name in ("run_no", "graph_no"):
            del document["run"][name]
        for event in document["events"]:
            event["id"] -= first
        numbers = {one["question"]: place for place, one in enumerate(document["questions"])}
        for one in document["questions"]:
            one["question"] = numbers[one["question"]]
        document["stores"] = [
            db.store_json(run["run_id"], row["step"]) for row in db.get_checkpoints(run["run_id"])
        ]
        found[run["run_id"]] = json.loads(json.dumps(document))
    return found


def run_row(**columns: object) -> RunRow:
    """The row of a run of which only some is known."""
    row: dict[str, object] = dict.fromkeys(RunRow.__annotations__)
    return cast("RunRow", row | columns)


def raw_of(db: WorkflowDB) -> sqlite3.Connection:
    """The connection to SQLite of a database that is a file."""
    assert isinstance(db.connection, SQLiteConnection)
    return db.connection._current()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another program writes to the database, so that what is to be committed waits."""
    WorkflowDB(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def valid(followed: Iterable[Followed]) -> list[object]:
    """The values that were emitted and count, in their order."""
    values: dict[int, object] = {}
    for one in followed:
        if isinstance(one.event, Emitted):
            values[one.number] = one.event.value
        elif isinstance(one.event, EmittedVoid):
            for number in one.event.numbers:
                del values[number]
    return list(values.values())
