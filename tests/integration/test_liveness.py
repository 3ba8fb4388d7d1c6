"""Who lives and who is dead: every reader is told at its very read, by the lock of the run."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pocoflow import Flow, Node, WorkflowDB
from pocoflow.cleanup import finish
from pocoflow.errors import DatabaseFileError, ResumeError

if TYPE_CHECKING:
    from tests.integration.conftest import Start

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX signals")


def status(path: Path, *, read_only: bool, run_id: str = "r") -> tuple[str, str | None]:
    """Status and error of a run as a new reader sees them."""
    with WorkflowDB(path, read_only=read_only) as db:
        run = db.get_run(run_id)
        assert run is not None
        (listed,) = (one for one in db.list_runs() if one["run_id"] == run_id)
        assert listed["status"] == run["status"]
        return run["status"], run["error_msg"]


def stored_status(path: Path) -> str:
    """The status as the file has it."""
    with closing(sqlite3.connect(path)) as raw:
        (row,) = raw.execute("SELECT status FROM pf_runs")
        return str(row[0])


def is_interrupted(found: tuple[str, str | None]) -> bool:
    """Whether a run reads as failed because its process is gone."""
    return found[0] == "failed" and str(found[1]).startswith("interrupted: ")


class Hold(Node[None, None, str]):
    """Waits in exec until the test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = threading.Event()
        self.go = threading.Event()

    def exec(self, prep: None) -> None:
        self.inside.set()
        assert self.go.wait(60)


# -- dead ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True], ids=["writer", "read-only"])
def test_a_killed_run_reads_as_interrupted_at_once(
    path: Path, start: Start, read_only: bool
) -> None:
    """The first reader after a kill -9 sees "failed", "interrupted: ...", and no step lost."""
    child = start("hang", path)
    assert child.line() == "in exec"
    assert status(path, read_only=read_only) == ("running", None)

    child.send(signal.SIGKILL)
    child.wait()

    assert is_interrupted(status(path, read_only=read_only))
    assert stored_status(path) == ("running" if read_only else "failed")
    assert is_interrupted(status(path, read_only=True))
    with WorkflowDB(path, read_only=True) as db:
        assert db.load_checkpoint("r", step=0).as_dict() == {"n": 1}
        (run,) = db.list_runs()
        assert (run["total_steps"], run["current_node"]) == (1, "Middle")


def test_the_documented_recipe_finds_a_killed_run(path: Path, start: Start) -> None:
    """Runs with the status "failed" include those whose process is gone; resume finishes them."""
    child = start("hang", path)
    assert child.line() == "in exec"
    child.send(signal.SIGKILL)
    child.wait()

    with WorkflowDB(path) as db:
        failed = [r for r in db.list_runs() if r["status"] == "failed"]
        last = db.get_checkpoints(failed[0]["run_id"])[-1]
        store = db.load_checkpoint(failed[0]["run_id"], step=last["step"])

    assert [run["run_id"] for run in failed] == ["r"]
    assert store.as_dict() == {"n": 1}


def test_an_open_reader_sees_the_death_of_a_run_that_it_saw_alive(path: Path, start: Start) -> None:
    """Readers that are open all the time follow a run from running to interrupted."""
    child = start("hang", path)
    assert child.line() == "in exec"
    with WorkflowDB(path) as db, WorkflowDB(path, read_only=True) as reader:
        assert [r["status"] for r in (*db.list_runs(), *reader.list_runs())] == ["running"] * 2
        child.send(signal.SIGKILL)
        child.wait()
        assert reader.list_runs()[0]["status"] == "failed"
        assert db.list_runs(status="running") == []
        assert [run["run_id"] for run in db.list_runs(status="failed")] == ["r"]


@pytest.mark.parametrize("how", ["fork", "multiprocessing"])
def test_a_child_that_outlives_its_parent_does_not_keep_the_run_alive(
    path: Path, start: Start, how: str
) -> None:
    """A worker forked by a node inherits no lock: the killed parent's run reads as interrupted."""
    child = start("fork", path, how)
    word, orphan = child.line().split()
    assert word == "child"
    assert status(path, read_only=False) == ("running", None)

    child.send(signal.SIGKILL)
    child.wait()

    os.kill(int(orphan), 0)  # the orphan lives
    assert is_interrupted(status(path, read_only=True))
    assert is_interrupted(status(path, read_only=False))


@pytest.mark.parametrize("how", ["exit", "raise", "end"])
def test_a_background_run_ends_with_its_interpreter(path: Path, start: Start, how: str) -> None:
    """An interpreter that leaves with a run in the background does not leave it running."""
    child = start("leave", path, how)
    assert child.line() == "running"
    code, output, errors = child.finish()

    assert code == {"exit": 3, "raise": 1, "end": 0}[how]
    assert output == ""
    assert ("PocoflowError" in errors) == (how == "raise")
    assert is_interrupted(status(path, read_only=True))
    assert is_interrupted(status(path, read_only=False))


def test_a_reader_is_not_held_up_by_a_writer_when_it_finds_a_dead_run(
    path: Path, start: Start
) -> None:
    """A dead run is told also while another program locks the database; it is noted later."""
    child = start("hang", path)
    assert child.line() == "in exec"
    child.send(signal.SIGKILL)
    child.wait()
    locker = start("lock", path)
    locker.tell()
    assert locker.line() == "locked"

    with WorkflowDB(path, busy_timeout=3600) as db:
        assert db.list_runs()[0]["status"] == "failed"
        assert stored_status(path) == "running"
        locker.tell()
        assert locker.line() == "unlocked"
        assert db.list_runs()[0]["status"] == "failed"
        assert stored_status(path) == "failed"


# -- alive --------------------------------------------------------------------------------------


def test_a_suspended_process_is_alive(path: Path, start: Start) -> None:
    """A run whose process is stopped reads as running, and completes when it goes on."""
    child = start("hang", path)
    assert child.line() == "in exec"

    child.send(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert status(path, read_only=False) == ("running", None)
    assert status(path, read_only=True) == ("running", None)
    child.send(signal.SIGCONT)
    child.tell()

    assert child.finish()[:2] == (0, "hook flow_end\nreturned\n")
    assert status(path, read_only=False) == ("completed", None)


@pytest.mark.parametrize("read_only", [False, True], ids=["writer", "read-only"])
@pytest.mark.parametrize("spelling", ["same", "relative", "link"])
def test_a_run_in_another_thread_of_this_process_is_alive(
    path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, read_only: bool
) -> None:
    """A process sees its own runs as running, however it spells the path of the file."""
    monkeypatch.chdir(path.parent)
    Path("link.db").symlink_to("runs.db")
    name = {"same": path, "relative": Path("runs.db"), "link": Path("link.db")}[spelling]
    node = Hold()
    handle = Flow(start=node, db_path=path, run_id="r").run_background({})
    try:
        assert node.inside.wait(60)
        assert handle.status == "running"
        assert status(name, read_only=read_only) == ("running", None)
        assert handle.status == "running"
    finally:
        node.go.set()
    handle.wait()
    assert str(handle.status) == "completed"
    assert status(name, read_only=read_only) == ("completed", None)


def test_a_run_in_a_database_in_memory_is_alive_until_it_ends() -> None:
    """A database that no other process can see tells its runs apart all the same."""
    node = Hold()
    with WorkflowDB(":memory:") as db:
        handle = Flow(start=node, db_path=db, run_id="r").run_background({})
        try:
            assert node.inside.wait(60)
            assert handle.status == db.list_runs()[0]["status"] == "running"
            with pytest.raises(ResumeError, match="'r' is running"):
                Flow(start=node, db_path=db).resume("r")
        finally:
            node.go.set()
        handle.wait()
        assert handle.status == db.list_runs()[0]["status"] == "completed"


def test_readers_that_come_and_go_do_not_end_the_lock_of_a_run(path: Path, start: Start) -> None:
    """Closing a reader in the process of a run leaves it running in the eyes of other processes."""
    node = Hold()
    handle = Flow(start=node, db_path=path, run_id="r").run_background({})
    try:
        assert node.inside.wait(60)
        for read_only in (True, False, True):
            assert status(path, read_only=read_only) == ("running", None)
            child = start("looks", path)
            assert child.line() == "r running"
            assert child.finish()[0] == 0
    finally:
        node.go.set()
    handle.wait()


def test_each_run_of_a_process_has_a_lock_of_its_own(path: Path) -> None:
    """The end of one run says nothing of the others in the same process."""
    nodes = [Hold() for _ in range(3)]
    handles = [
        Flow(start=node, db_path=path, run_id=f"r{number}").run_background({})
        for number, node in enumerate(nodes)
    ]
    with WorkflowDB(path, read_only=True) as reader:
        for number, node in enumerate(nodes):
            found = [run["status"] for run in reader.list_runs()]
            assert found == ["running"] * (3 - number) + ["completed"] * number
            assert node.inside.wait(60)
            node.go.set()
            handles[number].wait()
        assert {run["status"] for run in reader.list_runs()} == {"completed"}


def test_a_run_that_nobody_owns_keeps_its_status(path: Path, start: Start) -> None:
    """What create_run and update_run wrote is told as it was written, after any death."""
    with WorkflowDB(path) as db:
        db.create_run("by-hand")
        db.update_run("by-hand", status="running")
    child = start("hang", path)
    assert child.line() == "in exec"
    child.send(signal.SIGKILL)
    child.wait()

    assert status(path, read_only=True, run_id="by-hand") == ("running", None)
    assert status(path, read_only=False, run_id="by-hand") == ("running", None)
    assert is_interrupted(status(path, read_only=False))


def test_in_a_copy_of_the_file_a_running_run_is_interrupted(path: Path, start: Start) -> None:
    """Nobody runs the copy of a run: a backup shows it as interrupted, the original as running."""
    child = start("hang", path)
    assert child.line() == "in exec"
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)

    assert is_interrupted(status(copy, read_only=True))
    assert status(path, read_only=True) == ("running", None)


# -- asking a run to stop from outside ----------------------------------------------------------


def test_another_process_can_ask_a_run_to_stop(path: Path, start: Start) -> None:
    """cancel_requested, set in the database, ends the run after the node that runs now."""
    child = start("hang", path)
    assert child.line() == "in exec"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE pf_run SET cancel_requested = 1")
        raw.commit()
    child.tell()

    assert child.finish()[1] == "hook flow_cancelled\nraised RunCancelled\n"
    assert status(path, read_only=True)[0] == "cancelled"


# -- what it costs ------------------------------------------------------------------------------


def open_files(path: Path) -> list[str]:
    """Names of the files of a database that this process has open."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
        if target.startswith(str(path)):
            names.append(target.removeprefix(str(path)))
    return sorted(names)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_all_openings_of_a_file_share_one_descriptor_of_its_lock_file(path: Path) -> None:
    """A process opens the lock file once for all its databases and closes it with the last."""
    node = Hold()
    handle = Flow(start=node, db_path=(db := WorkflowDB(path))).run_background({})
    assert node.inside.wait(60)
    databases = [WorkflowDB(path) for _ in range(5)]
    for other in databases:
        other.list_runs()
    assert open_files(path).count("-lock") == 1
    for other in databases:
        other.close()
    assert open_files(path).count("-lock") == 1
    node.go.set()
    handle.wait()
    db.close()
    assert open_files(path) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_a_reader_of_finished_runs_opens_no_lock_file(path: Path) -> None:
    """Where nothing runs there is nothing to ask: only the database is open."""
    Flow(start=Node(), db_path=path).run({})
    finish()
    with WorkflowDB(path, read_only=True) as db:
        db.list_runs()
        assert "-lock" not in open_files(path)


# -- forks --------------------------------------------------------------------------------------


def test_a_forked_child_uses_the_database_of_its_parent(path: Path, start: Start) -> None:
    """Flows and databases that were open at a fork work on both sides of it, sync and async."""
    child = start("fork_and_use", path)
    code, output, errors = child.finish()

    assert errors == ""
    words = [line for line in output.splitlines() if not line.startswith("hook")]
    assert words == ["child sees 4", "child ended 0", "parent sees 5"]
    assert code == 0
    with WorkflowDB(path) as db:
        assert {run["status"] for run in db.list_runs()} == {"completed"}
        assert {run["total_steps"] for run in db.list_runs()} == {3}
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(
    ("database", "how", "end"),
    [
        ("runs.db", "exit", "raised SystemExit"),
        ("runs.db", "raise", "raised PocoflowError"),
        ("runs.db", "go on", "raised RunLostError"),
        ("", "go on", "returned"),
    ],
)
def test_a_child_that_a_node_forked_ends(
    path: Path, start: Start, database: str, how: str, end: str
) -> None:
    """A child waits for nothing that a thread of its parent does, however it leaves the run."""
    child = start("fork_in_a_node", database and path, how)
    said = [line for line in child.finish()[1].splitlines() if not line.startswith("hook")]

    assert said == [end, "child ended 0", "returned"]


@pytest.mark.parametrize("how", ["exit", "raise", "go on"])
def test_a_child_that_was_forked_on_the_loop_ends(path: Path, start: Start, how: str) -> None:
    """A child that has only the thread of the loop ends with what its node does there."""
    child = start("fork_on_the_loop", path, how)
    said = [line for line in child.finish()[1].splitlines() if not line.startswith("hook")]

    assert said == ["child ended 0", "returned"]


# -- what keeps the lock from being released ----------------------------------------------------


def test_a_run_whose_lock_file_is_gone_goes_on(path: Path) -> None:
    """Deleting the files beside the database under a run does not end it."""
    node = Hold()
    handle = Flow(start=node, db_path=path, run_id="r").run_background({})
    assert node.inside.wait(60)
    path.with_name("runs.db-lock").unlink()
    node.go.set()
    handle.wait()
    assert handle.status == "completed"


def test_a_lock_file_that_cannot_be_opened_is_an_error_before_the_first_node(path: Path) -> None:
    """A run that cannot hold its lock does not begin: the error names the lock file."""
    WorkflowDB(path).close()
    folder = path.with_name("runs.db-lock")
    folder.mkdir()
    node = Hold()
    node.go.set()

    with pytest.raises(DatabaseFileError, match=r"lock file .*runs\.db-lock: Is a directory"):
        Flow(start=node, db_path=path, run_id="r").run({})

    assert not node.inside.is_set()
    folder.rmdir()
    with WorkflowDB(path) as db:
        assert db.list_runs() == []
