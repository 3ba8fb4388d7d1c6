"""A database that is written over while a run is at work: noticed at the next commit, and said."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, Store, WorkflowDB
from pocoflow.db.oslocks import HAS_OPEN_FILE_LOCKS
from tests.rows import row_of

pytestmark = pytest.mark.skipif(
    not HAS_OPEN_FILE_LOCKS, reason="only descriptors with locks of their own can be kept open"
)

PROGRAM = """
import sys
from pocoflow import Flow, Node

class Work(Node):
    def exec(self, prep_result):
        return sys.stdin.readline() == "on\\n"

    def post(self, store, prep_result, goes_on):
        store["n"] += 1
        store["text"] = str(store["n"] % 10) * 400_000
        print(store["n"], flush=True)
        return "again" if goes_on else "end"

work = Work()
work.then("again", work).then("end", None)
Flow(work, db_path="runs.db", run_id="r", max_steps=10_000).run({"n": 0, "text": ""})
print("completed")
"""

CHECKPOINT = "import sqlite3; c = sqlite3.connect('runs.db'); c.execute('PRAGMA wal_checkpoint')"
COMMITS = """
import sqlite3, sys
raw = sqlite3.connect("runs.db", isolation_level=None)
raw.execute("PRAGMA synchronous = OFF")
for number, _ in enumerate(sys.stdin):
    raw.execute(f"CREATE TABLE other_{number} (x)")
    raw.execute("PRAGMA wal_checkpoint").fetchall()
    print("done", flush=True)
"""
COPY = """
import sqlite3
a, b = sqlite3.connect({0!r}), sqlite3.connect({1!r})
a.backup(b)
"""
BACKUP = COPY.format("runs.db", "backup.db")
RESTORE = COPY.format("backup.db", "runs.db")


class Program:
    """A run in a process of its own, which takes a step when it is told to."""

    def __init__(self, folder: Path) -> None:
        pipe = subprocess.PIPE
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=folder,
            text=True,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )

    def steps(self, count: int = 1) -> None:
        """Let it take some steps, and wait for them."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for _ in range(count):
            self.process.stdin.write("on\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline().strip().isdigit()

    def end(self, said: str = "on\n") -> tuple[int, str, str]:
        """Its exit code, and what it says at last, after one more word."""
        out, errors = self.process.communicate(said, timeout=120)
        return self.process.returncode, out, errors

    def python(self, code: str) -> None:
        """Another process does something to the file."""
        subprocess.run([sys.executable, "-c", code], cwd=self.folder, check=True, timeout=120)

    def cp(self, name: str) -> None:
        """Another file is copied over the database."""
        subprocess.run(["cp", name, "runs.db"], cwd=self.folder, check=True, timeout=300)


@contextmanager
def started(folder: Path) -> Iterator[Program]:
    """A program that is at work."""
    program = Program(folder)
    try:
        program.steps(5)
        yield program
    finally:
        program.process.kill()
        program.process.communicate()


def test_an_older_copy_is_noticed_at_the_next_commit(tmp_path: Path) -> None:
    """Also one of the same size, and the error says what to do; nothing more is written."""
    with started(tmp_path) as program:
        program.python(BACKUP)
        program.steps(10)
        program.python(CHECKPOINT)
        program.steps(2)
        program.cp("backup.db")
        before = (tmp_path / "runs.db").read_bytes()
        code, out, errors = program.end()
        assert (code, out.count("completed")) == (1, 0)
        assert "DatabaseFileError: database runs.db was written over while it was open" in errors
        assert (tmp_path / "runs.db").read_bytes() == before
    for left in ("runs.db-wal", "runs.db-shm"):  # as the message says
        (tmp_path / left).unlink(missing_ok=True)
    with WorkflowDB(tmp_path / "runs.db") as db:
        assert db.load_checkpoint("r", 3)["n"] == 4
        assert row_of(db, "r")["error_type"] == "Interrupted"


def test_another_database_is_noticed_at_the_next_commit(tmp_path: Path) -> None:
    """Whatever is in it."""
    other = Flow(Node(), db_path=tmp_path / "other.db", run_id="other")
    other.run({"text": "x" * 3_000_000})
    other.database.close()
    with started(tmp_path) as program:
        program.cp("other.db")
        _, _, errors = program.end()
        assert "was written over while it was open" in errors


def test_what_is_no_other_content_is_not_taken_for_it(tmp_path: Path) -> None:
    """Another process copies the log into the file, or looks; or only the time is changed."""
    with started(tmp_path) as program:
        for _ in range(3):
            program.python(CHECKPOINT)
            (tmp_path / "runs.db").touch()
            program.steps(5)
            with closing(sqlite3.connect(tmp_path / "runs.db")) as raw:
                raw.execute("SELECT count(*) FROM pf_runs").fetchall()
        program.python("from pocoflow import WorkflowDB; WorkflowDB('runs.db').connection.vacuum()")
        program.steps(100)  # far enough for SQLite to copy the log by itself
        code, out, errors = program.end("off\n")
        assert (code, "completed" in out) == (0, True), errors


def test_a_log_that_is_copied_during_a_look_is_no_other_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever another process commits and copies the log, in between any two reads of one look."""
    with (
        subprocess.Popen(
            [sys.executable, "-c", COMMITS],
            cwd=tmp_path,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other,
        WorkflowDB(tmp_path / "runs.db") as db,
    ):
        chance = random.Random(7)
        commits = 0

        def between(call: Callable[..., Any], *given: object) -> Any:
            nonlocal commits
            if chance.random() < 0.3:
                assert other.stdin is not None
                assert other.stdout is not None
                other.stdin.write("on\n")
                other.stdin.flush()
                assert other.stdout.readline() == "done\n"
                commits += 1
            return call(*given)

        with monkeypatch.context() as patch:
            for name in ("pread", "fstat"):
                patch.setattr(os, name, partial(between, getattr(os, name)))
            while commits < 300:
                assert db.list_runs() == []
        other.communicate(timeout=300)


def test_a_restore_by_sqlite_is_told_as_what_it_is(tmp_path: Path) -> None:
    """It is a commit like any other, so the file is whole, and the run is not this process's."""
    with started(tmp_path) as program:
        program.python(BACKUP)
        program.steps(10)
        program.python(RESTORE)
        code, _, errors = program.end()
        assert code == 1
        assert "RunLostError" in errors
        assert "an older copy of the file was restored" in errors
    with WorkflowDB(tmp_path / "runs.db") as db:
        assert db.load_checkpoint("r", 3)["n"] == 4


def test_two_threads_that_look_at_once_take_no_copied_log_for_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one connection of a process has seen of the log is not missed by the other one."""
    guard = threading.RLock()
    looks = []

    class Turn:
        """Lets the other connection look just before this one has its turn."""

        def __enter__(self) -> None:
            looks.append(1)
            if len(looks) == 1:
                other.get_run("r")
            guard.acquire()

        def __exit__(self, *exc_info: object) -> None:
            guard.release()

    with WorkflowDB(tmp_path / "runs.db") as db, WorkflowDB(tmp_path / "runs.db") as other:
        db.create_run("r")
        db.save_checkpoint("r", 0, "Node", Store({"text": "x" * 1_000_000}))
        db.get_run("r")
        db.prune(keep=0, status="running")
        db.vacuum()
        monkeypatch.setattr("pocoflow.db.shield._PAUSE", 0)
        monkeypatch.setattr("pocoflow.db.shield._guard", Turn())
        assert db.get_run("r") is None
        assert len(looks) > 1
        monkeypatch.undo()
