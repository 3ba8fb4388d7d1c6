"""Many processes, one file: nobody is refused, nothing is lost, and a reader can watch."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pocoflow import WorkflowDB

if TYPE_CHECKING:
    from tests.integration.conftest import Child, Start

PROCESSES = 8
STEPS = 10


class Watcher:
    """Polls a database from a thread until it is told to stop, and keeps what was wrong."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.polls = 0
        self.wrong: list[object] = []
        self._path, self._read_only = path, read_only
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            with WorkflowDB(self._path, read_only=self._read_only) as db:
                while not self._stop.is_set():
                    self._poll(db)
                    self.polls += 1
        except BaseException as exc:  # noqa: BLE001 - shown by the test
            self.wrong.append(exc)

    def _poll(self, db: WorkflowDB) -> None:
        for run in db.list_runs(limit=PROCESSES):
            if run["status"] not in ("running", "completed"):
                self.wrong.append(run)
            events = db.get_events(run["run_id"])
            ended = [event for event in events if event["event"] == "node_end"]
            checkpoints = db.get_checkpoints(run["run_id"])
            # Read later, so there may be more of each, but never fewer than what was seen before.
            if not run["total_steps"] <= len(ended) <= len(checkpoints):
                self.wrong.append((run, len(ended), len(checkpoints)))
            if checkpoints:
                store = db.load_checkpoint(run["run_id"], checkpoints[-1]["step"])
                if store["n"] != checkpoints[-1]["step"] + 1:
                    self.wrong.append((run, store))

    def stop(self) -> None:
        """Let it finish its last look, and wait for it."""
        self._stop.set()
        self._thread.join(60)


def work_together(path: Path, start: Start, runs: int, synchronous: str) -> list[tuple[Any, ...]]:
    """Let all processes go at once, with two readers; what each process wrote at its end."""
    WorkflowDB(path).close()
    children: list[Child] = [
        start("work", path, f"worker-{number}", runs, STEPS, synchronous)
        for number in range(PROCESSES)
    ]
    for child in children:
        assert child.line() == "ready"
    watchers = [Watcher(path, read_only=read_only) for read_only in (True, False)]
    for child in children:
        child.tell()
    ends = [child.finish() for child in children]
    for watcher in watchers:
        watcher.stop()
        assert watcher.wrong == []
        assert watcher.polls > 0
    return ends


@pytest.mark.parametrize(
    ("runs", "synchronous"),
    [
        pytest.param(8, "NORMAL", id="short"),
        pytest.param(50, "FULL", id="full", marks=pytest.mark.slow),
    ],
)
def test_processes_share_one_file_while_readers_poll(
    path: Path, start: Start, runs: int, synchronous: str
) -> None:
    """Eight processes run flows into one file: no error, every run complete, every step there."""
    ends = work_together(path, start, runs, synchronous)

    assert ends == [(0, "done\n", "")] * PROCESSES
    with WorkflowDB(path, read_only=True) as db:
        found = db.list_runs(limit=10_000)
        assert Counter(run["flow_name"] for run in found) == {
            f"worker-{number}": runs for number in range(PROCESSES)
        }
        for run in found:
            assert (run["status"], run["total_steps"]) == ("completed", STEPS)
            assert len(db.get_events(run["run_id"])) == 2 * STEPS + 2
            store = db.load_checkpoint(run["run_id"], STEPS - 1)
            assert store["worker"] == run["flow_name"]
            assert store["seen"] == list(range(1, STEPS))
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        (steps,) = raw.execute("SELECT count(*) FROM pf_checkpoints").fetchone()
        assert steps == PROCESSES * runs * STEPS
