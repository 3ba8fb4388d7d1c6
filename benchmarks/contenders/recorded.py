"""The file that one would write by hand: what pocoflow commits, when it commits it, and no more."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.growing import as_json
from benchmarks.task import Synchronous

TABLES = """
CREATE TABLE runs (
    run_no INTEGER PRIMARY KEY, run_id TEXT UNIQUE, status TEXT, steps INTEGER, node TEXT
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, run_no INTEGER, step INTEGER, node TEXT, event TEXT, action TEXT,
    elapsed REAL, ts TEXT
);
CREATE TABLE checkpoints (id INTEGER PRIMARY KEY, node TEXT, store TEXT, next TEXT, ts TEXT);
CREATE TABLE journal (id INTEGER PRIMARY KEY, value TEXT);
"""

# The id of a checkpoint, and of a journaled result, is the run's number and that of the step.
STEP = "INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?)"
EVENT = "INSERT INTO events (run_no, step, node, event, action, elapsed, ts) VALUES (?,?,?,?,?,?,?)"


def connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    raw = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute(f"PRAGMA synchronous = {synchronous}")
    return raw


def create(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    raw = connect(path, synchronous)
    raw.executescript(TABLES)
    return raw


class Recorded:
    """A run in a database: what pocoflow commits, when it commits it, and no more."""

    def __init__(self, raw: sqlite3.Connection, initial: str, run_id: str = "r") -> None:
        self.raw = raw
        raw.execute("BEGIN IMMEDIATE")
        row = raw.execute(
            "INSERT INTO runs (run_id, status, steps, node) VALUES (?, 'running', 0, 'add')",
            (run_id,),
        )
        self.run_no = row.lastrowid or 0
        self.first = self.run_no << 32
        raw.execute(STEP, (self.first, "add", initial, "add", ""))
        raw.execute("COMMIT")

    def journal(self, step: int, result: Any) -> None:
        self.raw.execute("BEGIN IMMEDIATE")
        row = (self.first + step + 1, as_json(result))
        self.raw.execute("INSERT INTO journal VALUES (?, ?)", row)
        self.raw.execute("COMMIT")

    def step(self, step: int, changed: str, action: str, began: float, *, journaled: bool) -> None:
        raw, run_no, number = self.raw, self.run_no, self.first + step + 1
        elapsed, now = perf_counter() - began, datetime.now(UTC).isoformat()
        successor = "add" if action == "again" else None
        raw.execute("BEGIN IMMEDIATE")
        raw.execute(STEP, (number, "add", changed, successor, now))
        raw.execute(EVENT, (run_no, step, "add", "node_end", action, elapsed, now))
        raw.execute(EVENT, (run_no, step + 1, successor, "node_start", None, None, now))
        if journaled:
            raw.execute("DELETE FROM journal WHERE id > ? AND id <= ?", (self.first, number))
        raw.execute(
            "UPDATE runs SET status = ?, steps = ?, node = ? WHERE run_no = ?",
            ("running" if successor else "completed", step + 1, successor, run_no),
        )
        raw.execute("COMMIT")


def of_changes(
    path: Path,
    steps: int,
    initial: str,
    act: Callable[[int], Any],
    synchronous: Synchronous,
    *,
    journal: bool = True,
) -> list[float]:
    """Two commits a step, of what is known to have changed; how long each step took."""
    times = []
    with closing(create(path, synchronous)) as raw:
        record = Recorded(raw, initial)
        for step in range(steps):
            began = perf_counter()
            result = act(step)
            if journal:
                record.journal(step, result)
            action = "again" if step + 1 < steps else "done"
            record.step(step, as_json(result), action, began, journaled=journal)
            times.append(perf_counter() - began)
    return times


def of_everything(
    path: Path,
    steps: int,
    store: dict[str, Any],
    act: Callable[[dict[str, Any], int], Any],
    synchronous: Synchronous,
) -> None:
    """One commit a step, of the whole store."""
    with closing(create(path, synchronous)) as raw:
        record = Recorded(raw, json.dumps(store))
        for step in range(steps):
            began = perf_counter()
            act(store, step)
            action = "again" if step + 1 < steps else "done"
            record.step(step, json.dumps(store), action, began, journaled=False)
