"""Two processes and one database file: another descriptor, another name, another copy of it.

Whatever a program closes, and whatever another process does to the files, a step that was
acknowledged is there, nothing is paid for by two processes for longer than a commit, and a
checkpoint that loads is the true store of its step; or the next commit says what has happened.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pocoflow import WorkflowDB
from pocoflow.errors import DatabaseFileError
from tests import commands
from tests.durability.gated import DEEDS, LAST, flow

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's locks")

AGAIN = ("step", "unjournaled", "retried", "async", "nested", "branches")
"""Shapes of several steps."""


class Gated:
    """A flow in another process that goes from word to word."""

    def __init__(self, shape: str, path: Path, how: str = "run") -> None:
        given, saying = os.pipe()
        hearing, told = os.pipe()
        words = ("-m", "tests.durability.gated", shape, str(path), how)
        self._process = commands.Program(*words, folder=path.parent, files=[given, told, 2])
        os.close(given)
        os.close(told)
        self._says, self._hears = os.fdopen(saying, "w"), os.fdopen(hearing)
        self.said = ""

    def line(self) -> str:
        """The next line that it prints."""
        return self._hears.readline().strip()

    def say(self, word: str) -> str:
        """Give it a word; what it says to that."""
        self._says.write(f"{word}\n")
        self._says.flush()
        self.said = self.line()
        return self.said

    def at(self, n: object) -> None:
        """Let it go on to a step."""
        self.said = self.said or self.line()
        while self.said != f"at {n}":
            assert self.said == "done" or self.said.startswith("at "), self.said
            self.said = self.say("go")

    def end(self) -> str:
        """Let it go on to its end; what ended it."""
        self.said = self.said or self.line()
        while self.said == "done" or self.said.startswith("at "):
            self.said = self.say("go")
        self._process.wait()
        return self.said

    def kill(self) -> None:
        """End it in this instant."""
        self._process.kill()

    def close(self) -> None:
        """End it, and give its pipes back."""
        self.kill()
        self._says.close()
        self._hears.close()


Start = Callable[..., Gated]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database in a folder of its own."""
    (tmp_path / "app").mkdir()
    return tmp_path / "app" / "x.db"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Starts processes that are ended with the test."""
    made: list[Gated] = []

    def begin(shape: str, how: str = "run", file: Path = path) -> Gated:
        made.append(Gated(shape, file, how))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def elsewhere(code: str, path: Path) -> str:
    """What another process prints that has the database open as ``db``, to write."""
    program = f"from pocoflow import WorkflowDB\nwith WorkflowDB({str(path)!r}) as db:\n    {code}"
    done = commands.execute("-c", program, folder=path.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def status(path: Path) -> str:
    """How the run reads to another process, which opens the file to write and closes it."""
    return elsewhere("print(db.get_run('r')['status'])", path)


def check(path: Path) -> int:
    """Every checkpoint is the true store of its step, and the file is whole; how many there are."""
    with WorkflowDB(path) as db:
        assert db.connection.rows("PRAGMA integrity_check")[0][0] == "ok"
        steps = [row["step"] for row in db.get_checkpoints("r")]
        assert steps == list(range(len(steps)))
        for step in steps:
            store = db.load_checkpoint("r", step)
            finished = step + 1 if step < LAST + 1 else LAST + 1  # a merge is a step, too
            if store["n"]:
                assert list(store["log"]) == list(range(store["n"])) == list(range(finished))
    return len(steps)


def backup(path: Path) -> Path:
    """A copy of the database as it is."""
    copy = path.parent.parent / "copy.db"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


# -- another descriptor ---------------------------------------------------------------------------


@pytest.mark.parametrize("deed", [one for one in DEEDS if not one.startswith("fork")])
def test_what_a_node_closes_takes_no_lock_away(start: Start, path: Path, deed: str) -> None:
    """A node may open and close any file: the run reads as running, and no step is lost."""
    first = start("step")
    first.at(3)
    assert first.say(deed) == "done"
    assert status(path) == "running"
    assert start("step", "recover").end() == "found 0"
    first.at(5)
    assert first.say(deed) == "done"
    assert elsewhere("db.create_run('other'); print(len(db.list_runs()))", path) == "2"
    first.at(6)
    first.kill()
    assert status(path) == "failed"
    assert check(path) == 6


def test_what_a_node_closes_does_not_part_the_runs_of_two_processes(
    start: Start, path: Path
) -> None:
    """Two processes that read the folder of their database both get all their steps into it."""
    first = start("step")
    first.at(2)
    first.say("read")
    for number in range(3):
        program = f"print(Flow(Node(), db_path=db, run_id='b{number}').run() is not None)"
        assert elsewhere(f"from pocoflow import Flow, Node; {program}", path) == "True"
        first.at(number + 3)
        first.say("read")
    assert first.end() == "completed"
    assert check(path) == LAST + 1
    with WorkflowDB(path) as db:
        assert {run["status"] for run in db.list_runs()} == {"completed"}
    assert sorted(one.name for one in path.parent.iterdir()) == ["x.db", "x.db-lock"]


def test_a_child_that_outlives_its_parent_does_not_keep_the_run_alive(
    start: Start, path: Path
) -> None:
    """A forked child keeps no run of its parent alive: a killed parent reads as interrupted."""
    first = start("step")
    first.at(3)
    word, child = first.say("fork").split()
    try:
        assert word == "child"
        assert first.line() == "done"
        assert status(path) == "running"
        first.said = "done"
        first.at(4)
        first.kill()
        assert status(path) == "failed"
        second = start("step", "resume")
        second.at(4)
        assert second.end() == "completed"
    finally:
        os.kill(int(child), signal.SIGKILL)
    assert check(path) == LAST + 1


@pytest.mark.parametrize("shape", ["step", "unjournaled", "retried", "nested"])
def test_a_child_that_goes_on_with_the_run_of_its_parent_writes_nothing(
    start: Start, path: Path, shape: str
) -> None:
    """A node that forks and returns twice runs on in the parent only; the child is told."""
    first = start(shape)
    first.at(2)
    assert first.say("fork_and_go_on") == "done"
    assert "not this process's" in (path.parent / "child").read_text()
    assert first.end() == "completed"
    check(path)


# -- the lock file --------------------------------------------------------------------------------


def remove(file: Path) -> None:
    """As rm does."""
    file.unlink()


def move(file: Path) -> None:
    """As mv does."""
    file.rename(file.with_name("moved"))


def replace(file: Path) -> None:
    """As an editor, or rsync, does."""
    new = file.with_name("new")
    new.write_bytes(file.read_bytes())
    new.replace(file)


@pytest.mark.parametrize("removal", [remove, replace])
def test_a_run_that_lives_takes_its_lock_again(
    start: Start, path: Path, removal: Callable[[Path], None]
) -> None:
    """A lock file that is gone is there again with the next commit, and nobody takes the run."""
    first = start("step")
    first.at(2)
    removal(path.with_name("x.db-lock"))
    assert status(path) == "failed"  # what a reader can know
    first.at(4)
    assert status(path) == "running"
    assert start("step", "recover").end() == "found 0"
    assert first.end() == "completed"
    assert check(path) == LAST + 1


@pytest.mark.parametrize(
    ("shape", "removal"),
    [*((shape, remove) for shape in (*AGAIN, "batch")), ("step", move), ("step", replace)],
)
def test_who_lost_a_run_is_turned_away_at_the_next_commit(
    start: Start, path: Path, shape: str, removal: Callable[[Path], None]
) -> None:
    """Of two processes that both took a run for theirs, the one that claimed it later goes on."""
    first = start(shape)
    first.at(3)
    removal(path.with_name("x.db-lock"))
    second = start(shape, "resume")
    second.at(3)
    said = first.say("go")  # what both are at is paid for by both
    if shape == "batch" and said == "at 4":
        said = first.end()
    assert said.startswith("RunLostError: run 'r'")
    second.at(LAST)
    assert second.end() == "completed"
    check(path)
    with WorkflowDB(path) as db:
        assert [run["status"] for run in db.list_runs()] == ["completed"]


@pytest.mark.parametrize("shape", ["retried", "step", "branches"])
def test_who_lost_a_run_records_neither_a_failed_attempt_nor_an_end(
    start: Start, path: Path, shape: str
) -> None:
    """An attempt that fails, or the whole run, in a process that lost the run is not on record."""
    first = start(shape)
    first.at(3)
    path.with_name("x.db-lock").unlink()
    second = start(shape, "resume")
    second.at(3)
    assert not first.say("fail").startswith("at ")
    assert second.end() == "completed"
    with WorkflowDB(path) as db:
        events = {row["event"] for row in db.get_events("r")}
        assert not events & {"node_retry", "node_error", "flow_error"}
        assert [run["status"] for run in db.list_runs()] == ["completed"]


def test_who_lost_a_run_asks_nothing(start: Start, path: Path) -> None:
    """A question of a process that lost the run is not asked, and its run is not paused."""
    first = start("ask")
    first.at("ask")
    path.with_name("x.db-lock").unlink()
    second = start("ask", "resume")
    second.at("ask")
    assert first.say("go").startswith("RunLostError: run 'r'")
    assert second.end().startswith("RunPaused")
    with WorkflowDB(path) as db:
        assert len(db.pending()) == 1


def test_a_run_that_was_removed_says_so(start: Start, path: Path) -> None:
    """A run that is pruned although it lives, as its lock file was removed, writes nothing more."""
    first = start("step")
    first.at(3)
    path.with_name("x.db-lock").unlink()
    assert elsewhere("print(db.prune(keep=0))", path) == "1"
    said = first.end()
    assert said.startswith("RunLostError")
    assert "removed" in said
    with WorkflowDB(path) as db:
        assert db.list_runs() == []


# -- the log and the file -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.db", "x.db-wal", "x.db-shm"])
@pytest.mark.parametrize(
    ("shape", "removal"),
    [("step", remove), ("step", move), ("step", replace), ("batch", remove), ("branches", remove)],
)
def test_the_next_commit_says_that_a_file_was_taken_away(
    start: Start, path: Path, shape: str, name: str, removal: Callable[[Path], None]
) -> None:
    """A run whose database or log has not its name any more stops at its next commit."""
    first = start(shape)
    first.at(2)
    removal(path.with_name(name))
    said = first.end()
    assert said.startswith("DatabaseFileError")
    assert "deleted, moved or replaced" in said


@pytest.mark.parametrize("names", [["x.db-shm"], ["x.db-wal", "x.db-shm"]], ids=len)
def test_who_lost_the_log_leaves_that_of_others_alone(
    start: Start, path: Path, names: list[str]
) -> None:
    """What other processes write after the log, or its index, was removed is there in the end."""
    first = start("step")
    first.at(3)
    for name in names:
        path.with_name(name).unlink()
    made = [elsewhere(f"db.create_run('{one}'); print(len(db.list_runs()))", path) for one in "ab"]
    assert "deleted, moved or replaced" in first.end()
    with WorkflowDB(path) as db:
        assert len(db.list_runs()) == int(made[-1])
        assert db.connection.rows("PRAGMA integrity_check")[0][0] == "ok"


def test_a_second_connection_is_refused_that_would_share_the_lost_log(path: Path) -> None:
    """In one process all connections have one index of the log: the first has to be closed."""
    with WorkflowDB(path) as first:
        first.create_run("first")
        path.with_name("x.db-shm").unlink()
        elsewhere("db.create_run('second')", path)
        with pytest.raises(DatabaseFileError, match="which is to be closed first"):
            WorkflowDB(path)
    with WorkflowDB(path) as db:
        assert [run["run_id"] for run in db.list_runs()] == ["second", "first"]


# -- a copy of the file ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*AGAIN, "batch"])
def test_a_restored_backup_is_noticed_at_the_next_commit(
    start: Start, path: Path, shape: str
) -> None:
    """A run whose steps are not there any more stops, and every checkpoint that is left is true."""
    first = start(shape)
    first.at(0)
    empty = backup(path)
    first.at(3)
    with closing(sqlite3.connect(empty)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    said = first.end()
    assert said.startswith("RunLostError")
    assert "older copy" in said
    assert check(path) == 0
    second = start(shape, "resume")
    second.at(0)
    assert second.end() == "completed"
    check(path)


def test_a_run_that_is_not_in_the_restored_backup_stops(start: Start, path: Path) -> None:
    """A run that began after the backup was made is gone with it, and says so."""
    elsewhere("print()", path)
    empty = backup(path)
    first = start("step")
    first.at(3)
    with closing(sqlite3.connect(empty)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    assert elsewhere("db.create_run('r'); print(db.number('r'))", path) == "1"
    assert first.end().startswith("RunLostError")
    with WorkflowDB(path) as db:
        assert db.get_checkpoints("r") == []


# -- another name ---------------------------------------------------------------------------------


def test_a_hard_link_is_refused(start: Start, path: Path) -> None:
    """The same file under a second name is not written to, and not read while it is in use."""
    first = start("step")
    first.at(3)
    second = path.parent.parent / "second.db"
    second.hardlink_to(path)
    for read_only in (False, True):
        with pytest.raises(DatabaseFileError, match=r"has 2 names \(hard links\)"):
            WorkflowDB(second, read_only=read_only)
    with WorkflowDB(path, read_only=True) as db:
        assert db.handle("r").status == "running"
    assert first.end() == "completed"
    with WorkflowDB(second, read_only=True) as db:
        assert db.handle("r").status == "completed"
    second.unlink()
    assert check(path) == LAST + 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts")
def test_a_file_that_is_mounted_by_itself_is_refused(path: Path) -> None:
    """A database mounted without its folder is not written to: its log would not be with it."""
    WorkflowDB(path).close()
    second = path.parent.parent / "a mount.db"
    second.touch()
    if subprocess.run(["mount", "--bind", path, second], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(DatabaseFileError, match=r"mounted at .* as a single file"):
            WorkflowDB(second)
    finally:
        subprocess.run(["umount", second], check=True)


def test_a_link_to_the_file_or_its_folder_is_the_same_database(start: Start, path: Path) -> None:
    """Symbolic links are followed: what runs under one name is running under the others."""
    first = start("step")
    first.at(3)
    (path.parent / "link.db").symlink_to(path)
    (path.parent.parent / "folder").symlink_to(path.parent)
    assert status(path.parent / "link.db") == "running"
    assert status(path.parent.parent / "folder" / "x.db") == "running"
    assert first.end() == "completed"
    assert check(path) == LAST + 1


def test_a_moved_folder_is_noticed_and_the_run_goes_on_from_there(start: Start, path: Path) -> None:
    """A run whose folder was moved stops at its next commit, and is resumed where the folder is."""
    first = start("step")
    first.at(3)
    shutil.move(path.parent, path.parent.parent / "moved")
    assert first.end().startswith("DatabaseFileError")
    there = path.parent.parent / "moved" / "x.db"
    flow("step", there).database.close()
    second = start("step", "resume", there)
    second.at(3)
    assert second.end() == "completed"
    assert check(there) == LAST + 1
