"""The write-ahead log: it is copied beside the commits, stays small, and leaves nothing behind."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import pocoflow
from pocoflow import Flow, Node, Store, WorkflowDB
from pocoflow.cleanup import finish
from pocoflow.db import wal
from pocoflow.db.oslocks import identify
from pocoflow.db.wal import LOG_LIMIT, Backfill
from pocoflow.errors import DatabaseFileError

BOUND = 64 << 20
"""Far over what a log needs on a slow disk, far under what is written."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database can be made."""
    return tmp_path / "runs.db"


@pytest.fixture
def db(path: Path) -> Iterator[WorkflowDB]:
    """A database with a run."""
    with WorkflowDB(path, synchronous="NORMAL") as database:
        database.create_run("r")
        yield database


@contextmanager
def backfill(path: Path) -> Iterator[Backfill]:
    """What copies the log of a database that is open."""
    shared = Backfill.share(path, identify(path))
    try:
        yield shared
    finally:
        shared.close()


def commit(db: WorkflowDB, count: int, text: str = "") -> None:
    """Small commits without a pause."""
    for step in range(count):
        db.save_event("r", "tick", step, error_msg=text)


def commit_and_copy(db: WorkflowDB, count: int, text: str = "") -> None:
    """Commits of which at least the first ``count`` are copied when this returns."""
    with backfill(Path(db.path)) as shared:
        commit(db, count, text)
        shared.rest()
        commit(db, 64, text)
        shared.rest()


def copied(path: Path) -> int:
    """How many events are in the file itself, without its log."""
    alone = path.with_name("alone.db")
    while True:
        # In another process: closing a descriptor of the file here would drop SQLite's locks on it.
        subprocess.run(["cp", path, alone], check=True)
        try:
            with closing(sqlite3.connect(alone)) as raw:
                count: int = raw.execute("SELECT count(*) FROM pf_events").fetchone()[0]
        except sqlite3.DatabaseError as exc:
            if "malformed" not in str(exc):
                raise
            continue  # a page was written while the file was copied
        finally:
            for left in path.parent.glob("alone.db*"):
                left.unlink()
        return count


def beginnings(path: Path) -> int:
    """How often the log has begun anew: a number in its header."""
    header = Path(f"{path}-wal").read_bytes()[:16]
    return int.from_bytes(header[12:16], "big")


def log_size(path: Path) -> int:
    """The size of the log."""
    return path.with_name(f"{path.name}-wal").stat().st_size


_earlier: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_of_earlier_tests() -> None:
    """What another test left open does not count."""
    _earlier.clear()
    _earlier.update(threading.enumerate())


def threads() -> int:
    """How many threads copy a log that this test has opened."""
    return sum(one.name == "pocoflow-wal" for one in set(threading.enumerate()) - _earlier)


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A program that finds the same package as this process; warnings are errors in it."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


# -- copying --------------------------------------------------------------------------------------


def test_commits_are_copied_into_the_file_beside_the_flow(db: WorkflowDB, path: Path) -> None:
    """Long before SQLite would do it inside a commit, a thread has copied what was committed."""
    commit_and_copy(db, 100)
    assert copied(path) >= 100
    assert log_size(path) < 1000 * 4096


def test_a_log_that_is_copied_begins_anew(db: WorkflowDB, path: Path) -> None:
    """The log of a writer that pauses begins anew long before it has SQLite's own 1000 pages."""
    for _ in range(20):
        commit_and_copy(db, 32)
    assert beginnings(path) >= 2  # SQLite alone would not have begun anew yet


def test_large_commits_are_copied_sooner(
    db: WorkflowDB, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is told by how much there is to copy, not only by how often was committed."""
    calls = []

    def count(raw: sqlite3.Connection, real: Callable[..., int] = wal._copy_once) -> int:
        calls.append(raw)
        return real(raw)

    monkeypatch.setattr(wal, "_copy_once", count)
    with backfill(path) as shared:
        for _ in range(96):
            commit(db, 1, "x" * 200_000)
            shared.rest()
    assert len(calls) > 4


def test_a_flow_is_copied_while_it_goes_on(path: Path) -> None:
    """What steps commit reaches the file during the run."""
    seen: list[int] = []

    class Work(Node):
        def prep(self, store: Store) -> None:
            if store["n"] in (40, 140):
                with backfill(path) as shared:
                    shared.rest()
                seen.append(copied(path))

        def post(self, store: Store, prepared: None, result: None) -> str:
            store["n"] += 1
            return "again" if store["n"] < 150 else "done"

    node = Work()
    node.then("again", node).then("done", Node())
    Flow(node, db_path=path).run({"n": 0})
    assert seen[0] > 60
    assert seen[1] > 120


# -- bounds ---------------------------------------------------------------------------------------


def test_a_writer_that_never_pauses_has_a_bounded_log(db: WorkflowDB, path: Path) -> None:
    """After 20,000 commits, which are more than 150 MB of log, it has the size of a few."""
    commit(db, 20_000)
    assert log_size(path) < BOUND
    assert len(db.get_events("r")) == 20_000


WRITER = """
import sys
from pocoflow import WorkflowDB
with WorkflowDB(sys.argv[1], synchronous="NORMAL") as db:
    for step in range(2_500):
        db.save_event("r", "tick", step)
"""


def test_eight_processes_have_a_bounded_log(db: WorkflowDB, path: Path) -> None:
    """Processes that write into one file at once keep the log small together, and lose nothing."""
    writers = [run(WRITER, path) for _ in range(8)]
    for writer in writers:
        output, _ = writer.communicate(timeout=300)
        assert (writer.returncode, output) == (0, "")
    assert log_size(path) < BOUND
    assert len(db.get_events("r")) == 20_000
    assert db.connection.rows("PRAGMA integrity_check")[0][0] == "ok"


def test_a_log_that_a_reader_held_is_cut_when_the_reader_has_gone(
    db: WorkflowDB, path: Path
) -> None:
    """While somebody reads an old state the log has to grow; after that it shrinks by itself."""
    commit(db, 5)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM pf_events").fetchone()[0] == 5
        commit(db, 500, "x" * 50_000)
        assert reader.execute("SELECT count(*) FROM pf_events").fetchone()[0] == 5
    assert log_size(path) > LOG_LIMIT
    commit_and_copy(db, 32)
    commit(db, 1)
    assert log_size(path) <= LOG_LIMIT
    assert len(db.get_events("r")) == 602


def test_vacuum_leaves_an_empty_log(db: WorkflowDB, path: Path) -> None:
    """The thread is not in the way of a vacuum that comes in the middle of its work."""
    for _ in range(10):
        commit(db, 64)
        db.vacuum()
        assert log_size(path) == 0


# -- the thread -----------------------------------------------------------------------------------


def test_few_commits_start_no_thread(db: WorkflowDB) -> None:
    """A database with little to copy, as for a short run, works without a thread."""
    commit(db, 10)
    assert threads() == 0


def test_databases_of_one_file_share_a_thread_until_the_last_is_closed(path: Path) -> None:
    """However many objects are open on a path: one thread, and none when all are closed."""
    databases = [WorkflowDB(path, synchronous="NORMAL") for _ in range(5)]
    databases[0].create_run("r")
    for one in databases:
        commit(one, 50)
    assert threads() == 1
    for one in databases[:-1]:
        one.close()
    assert threads() == 1
    commit(databases[-1], 50)
    databases[-1].close()
    assert threads() == 0
    assert sorted(file.name for file in path.parent.iterdir()) == ["runs.db"]


def test_a_database_that_is_garbage_has_no_thread(path: Path) -> None:
    """An object that nobody closed takes its thread with it."""
    db = WorkflowDB(path, synchronous="NORMAL")
    db.create_run("r")
    commit(db, 50)
    assert threads() == 1
    del db
    finish()
    assert threads() == 0


def test_a_reader_has_no_thread(db: WorkflowDB, path: Path) -> None:
    """Who only reads copies nothing, and sees all that is committed, copied or not."""
    with WorkflowDB(path, read_only=True) as reader:
        for count in range(1, 21):
            commit(db, 5)
            assert len(reader.get_events("r")) == 5 * count
        db.close()
        assert threads() == 0
        assert len(reader.get_events("r")) == 100


LEAVE = """
import sys, threading
from pocoflow import WorkflowDB
db = WorkflowDB(sys.argv[1], synchronous="NORMAL")
db.create_run("r")
for step in range(100):
    db.save_event("r", "tick", step)
print([thread.name for thread in threading.enumerate()])
"""


def test_the_interpreter_leaves_while_the_thread_lives(path: Path) -> None:
    """A program that closes nothing ends, and its log is copied and gone."""
    child = run(LEAVE, path)
    output, _ = child.communicate(timeout=60)
    assert (child.returncode, output) == (0, "['MainThread', 'pocoflow-wal']\n")
    assert sorted(file.name for file in path.parent.iterdir()) == ["runs.db"]
    assert copied(path) == 100


FORK = """
import os, sys, threading
from pocoflow import WorkflowDB

def commit(who):
    for step in range(100):
        db.save_event(who, "tick", step)

db = WorkflowDB(sys.argv[1], synchronous="NORMAL")
for who in ("parent", "child"):
    db.create_run(who)
for _ in range(20):
    commit("parent")
    assert threading.active_count() == 2
    child = os.fork()
    assert threading.active_count() == 1
    if not child:
        commit("child")
        assert threading.active_count() == 2
        db.close()
        assert threading.active_count() == 1
        os._exit(0)
    commit("parent")
    assert os.waitpid(child, 0)[1] == 0
db.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_is_not_disturbed_by_the_thread(path: Path) -> None:
    """At a fork no thread is inside SQLite; both sides go on, each with a thread of its own."""
    child = run(FORK, path)
    output, _ = child.communicate(timeout=120)
    assert (child.returncode, output) == (0, "")
    with WorkflowDB(path) as db:
        assert len(db.get_events("parent")) == 4000
        assert len(db.get_events("child")) == 2000
        assert db.connection.rows("PRAGMA integrity_check")[0][0] == "ok"


COMMITTING_FORK = """
import os, sys, threading
from pocoflow import WorkflowDB

db = WorkflowDB(sys.argv[1], synchronous="NORMAL")
db.create_run("r")
inside, forked, ended = threading.Event(), threading.Event(), threading.Event()

def work():
    with db.connection.transaction() as raw:
        raw.execute("UPDATE pf_run SET total_steps = 1")
        inside.set()
        forked.wait(0.2)  # in vain, as the fork waits for this
        ended.set()

thread = threading.Thread(target=work)
thread.start()
inside.wait()
child = os.fork()
if not child:
    with WorkflowDB(sys.argv[1]) as mine:
        os._exit(0 if ended.is_set() and mine.get_run("r")["total_steps"] == 1 else 1)
forked.set()
assert os.waitpid(child, 0)[1] == 0
thread.join()
db.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_waits_for_the_threads_that_commit(path: Path) -> None:
    """At a fork no thread is inside SQLite, whose locks would stay taken for ever in the child."""
    child = run(COMMITTING_FORK, path)
    output, _ = child.communicate(timeout=120)
    assert (child.returncode, output) == (0, "")


# -- faults ---------------------------------------------------------------------------------------


def test_without_a_thread_sqlite_keeps_the_log_small(
    db: WorkflowDB, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started, commits go on and the log is bounded all the same."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    commit(db, 10_000)
    assert threads() == 0
    assert log_size(path) < 2000 * 4096


def test_copying_that_fails_disturbs_nobody(
    db: WorkflowDB, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while the log is copied is no error of a step; the next copying makes up for it."""
    real = wal._copy_once
    failed = []

    def fail(raw: sqlite3.Connection) -> int:
        failed.append(raw)
        raise sqlite3.OperationalError("database or disk is full")

    with backfill(path) as shared:
        monkeypatch.setattr(wal, "_copy_once", fail)
        commit(db, 40)
        shared.rest()
        assert failed
        monkeypatch.setattr(wal, "_copy_once", real)
    commit_and_copy(db, 32)
    assert copied(path) >= 72


def test_a_file_that_is_gone_is_not_made_again(db: WorkflowDB, path: Path) -> None:
    """The thread leaves the path of a deleted database alone."""
    commit(db, 31)  # the next one would start the thread
    for name in ("runs.db", "runs.db-wal", "runs.db-shm"):
        path.with_name(name).unlink()
    with pytest.raises(DatabaseFileError, match="was deleted"):
        commit(db, 1)
    db.connection._backfill.committed()  # type: ignore[union-attr]
    db.close()
    assert list(path.parent.iterdir()) == []
