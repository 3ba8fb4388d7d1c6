"""The write-ahead log: it stays small, leaves nothing behind, and no fork is in its way."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import pocoflow
from pocoflow import WorkflowDB
from pocoflow.db import oslocks
from pocoflow.db.sqlite import LOG_LIMIT
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


def commit(db: WorkflowDB, count: int, text: str = "") -> None:
    """Small commits without a pause."""
    for step in range(count):
        db.save_event("r", "tick", step, error_msg=text)


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


def log_size(path: Path) -> int:
    """The size of the log."""
    return path.with_name(f"{path.name}-wal").stat().st_size


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A program that finds the same package as this process; warnings are errors in it."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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
    commit(db, 33)
    assert log_size(path) <= LOG_LIMIT
    assert len(db.get_events("r")) == 538


def test_vacuum_leaves_an_empty_log(db: WorkflowDB, path: Path) -> None:
    """All that is in the log of a file that is written anew is in that file."""
    for _ in range(10):
        commit(db, 64)
        db.vacuum()
        assert log_size(path) == 0


# -- programs that end, and fork ------------------------------------------------------------------


LEAVE = """
import sys
from pocoflow import WorkflowDB
db = WorkflowDB(sys.argv[1], synchronous="NORMAL")
db.create_run("r")
for step in range(100):
    db.save_event("r", "tick", step)
"""


def test_a_program_that_closes_nothing_leaves_no_log(path: Path) -> None:
    """A program that closes nothing ends, and its log is copied and gone."""
    child = run(LEAVE, path)
    output, _ = child.communicate(timeout=300)
    assert (child.returncode, output) == (0, "")
    assert sorted(file.name for file in path.parent.iterdir()) == ["runs.db"]
    assert copied(path) == 100


FORK = """
import os, sys
from pocoflow import WorkflowDB

def commit(who):
    for step in range(100):
        db.save_event(who, "tick", step)

db = WorkflowDB(sys.argv[1], synchronous="NORMAL")
for who in ("parent", "child"):
    db.create_run(who)
for _ in range(20):
    commit("parent")
    child = os.fork()
    if not child:
        commit("child")
        db.close()
        os._exit(0)
    commit("parent")
    assert os.waitpid(child, 0)[1] == 0
db.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_both_sides_of_a_fork_go_on(path: Path) -> None:
    """A database that is open at a fork is written by both sides, and nothing is lost."""
    child = run(FORK, path)
    output, _ = child.communicate(timeout=120)
    assert (child.returncode, output) == (0, "")
    with WorkflowDB(path) as db:
        assert len(db.get_events("parent")) == 4000
        assert len(db.get_events("child")) == 2000
        assert db.connection.rows("PRAGMA integrity_check")[0][0] == "ok"


FORK_AND_CLOSE = """
import os, sqlite3, subprocess, sys
from pocoflow import WorkflowDB

path, how, other = sys.argv[1:]
db = WorkflowDB(path)
db.create_run("parent")
own = sqlite3.connect(path)
if how == "own connection":
    own.execute("SELECT * FROM pf_runs").fetchall()
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.read(reading, 1)
    for name, database in (("child", lambda: WorkflowDB(path)), ("inherited", lambda: db)):
        try:
            with database() as mine:
                mine.create_run(name)
                print(*sorted(run["run_id"] for run in mine.list_runs()), flush=True)
        except Exception as exc:
            print(exc, flush=True)
    os._exit(0)
own.close()
db.close()
if how == "another file":
    os.rename(path, path + ".old")
if how != "closed":
    subprocess.run([sys.executable, "-c", other, path], check=True)
if how not in ("closed", "left"):
    db = WorkflowDB(path)
os.write(writing, b"x")
assert os.waitpid(child, 0)[1] == 0
"""

KILLED = """
import os, sys
from pocoflow import WorkflowDB
db = WorkflowDB(sys.argv[1])
db.create_run("other")
os._exit(0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs locks of open files")
@pytest.mark.parametrize(
    ("how", "before"),
    [
        ("closed", ["parent"]),
        ("left", ["other", "parent"]),
        ("opened anew", ["other", "parent"]),
        ("another file", ["other"]),
    ],
)
def test_a_child_writes_to_the_log_that_is_there(path: Path, how: str, before: list[str]) -> None:
    """Whatever was done since the fork to the log that was open at it, nothing is lost."""
    child = run(FORK_AND_CLOSE, path, how, KILLED)
    output, _ = child.communicate(timeout=300)
    both = [sorted(["child", *before]), sorted(["child", "inherited", *before])]
    assert (child.returncode, output.splitlines()) == (0, [" ".join(runs) for runs in both])
    with WorkflowDB(path) as db:
        assert sorted(run["run_id"] for run in db.list_runs()) == both[1]
        assert db.connection.rows("PRAGMA integrity_check")[0][0] == "ok"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the list of descriptors")
def test_a_child_that_cannot_use_the_log_writes_nothing(path: Path) -> None:
    """A child is refused whose inherited connection, of the program's own, has a log of before."""
    child = run(FORK_AND_CLOSE, path, "own connection", KILLED)
    output, _ = child.communicate(timeout=300)
    assert (child.returncode, output.count("close it before the fork")) == (0, 2)
    with WorkflowDB(path) as db:
        assert sorted(run["run_id"] for run in db.list_runs()) == ["other", "parent"]


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


CLOSE = """
import sys
from pocoflow import WorkflowDB
with WorkflowDB(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs locks of open files")
def test_who_opens_a_file_again_is_seen_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that closes the file while it is opened again here leaves the log alone."""
    share = oslocks.share

    def close_elsewhere(descriptor: int, first: int, length: int) -> bool:
        other.communicate("close", timeout=300)
        monkeypatch.undo()
        return share(descriptor, first, length)

    db = WorkflowDB(path)
    other = run(CLOSE, path)
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    db.close()
    monkeypatch.setattr(oslocks, "share", close_elsewhere)
    with WorkflowDB(path) as db:
        assert other.returncode == 0
        db.create_run("r")
    with WorkflowDB(path) as db:
        assert [one["run_id"] for one in db.list_runs()] == ["r"]


# -- faults ---------------------------------------------------------------------------------------


def test_a_file_that_is_gone_is_not_made_again(db: WorkflowDB, path: Path) -> None:
    """Whoever commits to a database that is deleted is told, and leaves its path alone."""
    commit(db, 31)
    for name in ("runs.db", "runs.db-wal", "runs.db-shm"):
        path.with_name(name).unlink()
    with pytest.raises(DatabaseFileError, match="was deleted"):
        commit(db, 1)
    db.close()
    assert list(path.parent.iterdir()) == []
