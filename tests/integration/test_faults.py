"""What goes wrong around a database: what one sees, what status the run has, and what is lost.

Each row of the table in docs/explanation/faults.md is kept true by the tests that name it.
"""

from __future__ import annotations

import ast
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

import pocoflow
from pocoflow import Flow, Node, Store, WorkflowDB, context
from pocoflow.cleanup import finish
from pocoflow.errors import (
    DatabaseBusyError,
    DatabaseError,
    DatabaseFileError,
    DecodeError,
    PocoflowError,
)
from tests.integration.conftest import Start
from tests.rows import row_of
from tests.unit.clocks import set_clock
from tests.waiting import wait_for

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "faults.md"

Test = TypeVar("Test", bound=Callable[..., object])

_kept: set[str] = set()


# Kept by tests of two processes, in tests/durability/test_second_process.py.
_KEPT_ELSEWHERE = {
    "The file is written over under a run, as by `cp`",
    "A node reads, copies or packs the folder of the database",
    "An older copy is restored into the file under a run",
    "The log, or its index (`-shm`), is deleted, moved or replaced under a run",
    "The file gets a second name (hard link, mounted by itself)",
    "The lock file is deleted under a run",
    # of runs on a server
    "The server cannot be reached when a flow begins",
    "The server is restarted, or ends a connection, while a run commits nothing",
    "The server is not there at a commit, or is lost in the middle of one",
    "The server gives no connection more",
    "The disk of the server is full",
    "The network is cut",
    "A process is suspended for longer than its lease",
    "A process at a server is killed, or its host is switched off",
    "The clock of a host is wrong",
}


def keeps(*titles: str) -> Callable[[Test], Test]:
    """Mark a test as the one that keeps rows of the page."""
    _kept.update(titles)
    return lambda test: test


def test_every_fault_of_the_page_is_tested() -> None:
    """The page for users has the rows that are tested here, and no others."""
    cells = re.findall(r"^\| (.+?) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(cells) - {"Fault", "---"} == _kept | _KEPT_ELSEWHERE


# -- the flow that is disturbed -------------------------------------------------------------------


class Work(Node[int, int, str]):
    """Adds 1 five times; something happens in exec of its third step."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self.happens = happens
        self.paid: list[int] = []

    def prep(self, store: Store[Any]) -> int:
        return int(store["n"])

    def exec(self, n: int) -> int:
        if context().step == 2:
            self.happens()
        self.paid.append(context().step)
        return n + 1

    def post(self, store: Store[Any], n: int, result: int) -> str:
        store["n"] = result
        store["texts"].append(f"{result}" * 20_000)
        return "again" if result < 5 else "done"


class Disturbed:
    """A flow of five steps, and what happens in the third."""

    def __init__(
        self, database: Path | WorkflowDB, happens: Callable[[], object] = lambda: None
    ) -> None:
        self.node = Work(happens)
        self.node.then("again", self.node)
        self.flow: Flow[Any] = Flow(self.node, db_path=database, run_id="r", flow_name="disturbed")

    def run(self) -> Store[Any]:
        """From the beginning."""
        return self.flow.run({"n": 0, "texts": []})


def status(path: Path) -> str:
    """What the run reads as, in a new connection."""
    with WorkflowDB(path, read_only=True) as db:
        run = db.get_run("r")
        assert run is not None
        return "interrupted" if run["error_type"] == "Interrupted" else str(run["status"])


def nothing_is_lost(path: Path, steps: int = 2) -> None:
    """The finished steps are there and exact, and the run goes on from them to its end."""
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with WorkflowDB(path) as db:
        assert [one["step"] for one in db.get_checkpoints("r")] == list(range(steps))
        for step in range(-1, steps):
            store = db.load_checkpoint("r", step)
            assert store["n"] == step + 1
            assert store["texts"] == [f"{n + 1}" * 20_000 for n in range(step + 1)]
    again = Disturbed(path)
    assert again.flow.resume("r")["n"] == 5
    assert again.node.paid[0] in (steps, steps + 1)
    assert status(path) == "completed"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database can be made."""
    return tmp_path / "runs.db"


# -- room and permissions -------------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A small file system in memory, or a skipped test where none can be mounted."""
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux to mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a file system: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@keeps("The disk is full")
def test_a_full_disk_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """On a full disk the run ends with an error that names the file; with room it goes on."""
    with mounted(tmp_path / "small", "size=4m") as folder:
        path, filler = folder / "runs.db", folder / "filler"

        def fill() -> None:
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(b"x" * 4096):
                        pass
                except OSError:
                    pass

        with pytest.raises(DatabaseFileError, match=r"the disk is full") as caught:
            Disturbed(path, fill).run()
        assert str(path) in str(caught.value)
        assert status(path) in ("failed", "interrupted")
        filler.unlink()
        nothing_is_lost(path)


@pytest.mark.skipif(sys.platform == "win32", reason="has no modes of files")
def test_a_file_that_may_not_be_read_is_told_so(path: Path) -> None:
    """As one that may not be made, whether it is opened to be read or to be written."""
    WorkflowDB(path).close()
    path.chmod(0)
    as_others: list[str] = []
    if os.geteuid() == 0:
        if not (setpriv := shutil.which("setpriv")):
            pytest.skip("root may read every file")
        as_others = [setpriv, "--inh-caps=-all", "--bounding-set=-all"]
    for command in (["runs", "list"], ["answer", "a"]):
        words = [*as_others, sys.executable, "-m", "pocoflow", *command, "--db", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
        said = f"pocoflow {command[0]}: database {path} cannot be opened (Permission denied)\n"
        assert (done.returncode, done.stderr) == (2, said)


@keeps("The disk is full")
def test_a_limit_on_the_size_of_files_is_like_a_full_disk(path: Path, start: Start) -> None:
    """Where no file may grow any more, the run ends as on a full disk."""
    child = start("full", path)
    lines = child.finish()[1].splitlines()
    assert lines[-1] == "raised DatabaseFileError"
    with WorkflowDB(path) as db:
        (run,) = db.list_runs()
        assert run["status"] == "failed"
        assert db.load_checkpoint(run["run_id"], 0)["n"] == 1


@keeps("The file cannot be written")
def test_a_file_that_cannot_be_written_stops_a_run_before_its_first_node(tmp_path: Path) -> None:
    """A read-only file is an error that names it; no node runs, and nothing is changed."""
    with mounted(tmp_path / "disk", "size=4m") as folder:
        path = folder / "runs.db"
        Disturbed(path).run()
        finish()  # its database is closed
        before = path.read_bytes()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        other = Disturbed(path)
        other.flow.run_id = "other"
        with pytest.raises(DatabaseFileError) as caught:
            other.run()
        assert str(path) in str(caught.value)
        assert other.node.paid == []
        assert path.read_bytes() == before
        with WorkflowDB(path, read_only=True) as db:
            assert db.load_checkpoint("r", 4)["n"] == 5


@keeps("The disk becomes read-only under a run")
def test_a_disk_that_becomes_read_only_ends_the_run(tmp_path: Path) -> None:
    """When a disk can no longer be written, the run ends with an error that names the file."""
    with mounted(tmp_path / "disk", "size=4m") as folder:
        path = folder / "runs.db"
        # A file that is open for writing keeps a file system from being set read-only, so the
        # limit on the size of files stands for it: every write fails.
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with pytest.raises(DatabaseFileError) as caught:
                Disturbed(
                    path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
                ).run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert str(path) in str(caught.value)
        assert status(path) == "interrupted"
        nothing_is_lost(path)


@keeps("A folder is in its place")
def test_a_folder_in_the_place_of_the_file_is_named(path: Path) -> None:
    """A folder where the database should be is refused before any node runs."""
    path.mkdir()
    disturbed = Disturbed(path)
    with pytest.raises(DatabaseFileError, match="is a folder, not a database") as caught:
        disturbed.run()
    assert str(path) in str(caught.value)
    assert disturbed.node.paid == []
    assert list(path.iterdir()) == []


# -- other writers --------------------------------------------------------------------------------


@keeps("Another program locks the file for a while")
def test_a_lock_that_ends_in_time_is_waited_for(path: Path) -> None:
    """A run waits for another writer as long as the busy timeout, and then goes on."""
    WorkflowDB(path).close()
    with closing(sqlite3.connect(path, check_same_thread=False)) as other:
        done = threading.Timer(0.3, other.rollback)

        def lock() -> None:
            other.execute("BEGIN IMMEDIATE")
            done.start()

        assert Disturbed(path, lock).run()["n"] == 5
        done.join()
    assert status(path) == "completed"


@keeps("Another program locks the file for longer than the busy timeout")
def test_a_lock_that_does_not_end_fails_the_run_in_time(path: Path) -> None:
    """Beyond the busy timeout the run ends with an error that says how long it waited."""
    WorkflowDB(path).close()
    with closing(sqlite3.connect(path)) as other, WorkflowDB(path, busy_timeout=0.2) as db:
        with pytest.raises(DatabaseBusyError, match=r"for more than 0\.2 seconds") as caught:
            Disturbed(db, lambda: other.execute("BEGIN IMMEDIATE")).run()
        assert str(path) in str(caught.value)
        assert status(path) == "interrupted"
        other.rollback()
    nothing_is_lost(path)


# -- damage ---------------------------------------------------------------------------------------


def damaged(path: Path, place: int, bytes_: bytes) -> None:
    """Write something into a file."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes_)


def everything(db: WorkflowDB) -> Iterator[object]:
    """All that one can read, piece by piece."""
    yield db.list_runs
    for run_id in ("r", "r2"):
        yield lambda run_id=run_id: db.get_run(run_id)
        yield lambda run_id=run_id: db.get_events(run_id)
        yield lambda run_id=run_id: [dict(row) for row in db.get_checkpoints(run_id)]
        for step in range(-1, 5):
            yield lambda run_id=run_id, step=step: db.load_checkpoint(run_id, step).as_dict()


def read_all(path: Path) -> list[object]:
    """What each of the reads gives: what is there, or the error."""
    results: list[object] = []
    try:
        with WorkflowDB(path, read_only=True) as db:
            for read in everything(db):
                try:
                    results.append(read())  # type: ignore[operator]
                except PocoflowError as exc:
                    results.append(exc)
    except PocoflowError as exc:
        results.append(exc)
    return results


@keeps("A part of the file is damaged")
@pytest.mark.parametrize("with_", ["zeros", "noise"])
def test_damage_is_told_or_does_not_matter(path: Path, tmp_path: Path, with_: str) -> None:
    """With any page destroyed, a read is exact or an error that names the file: never a guess."""
    with WorkflowDB(path) as db:
        disturbed = Disturbed(db)
        disturbed.run()
        disturbed.flow.run_id = "r2"
        disturbed.run()
    truth = read_all(path)
    size = 4096
    noise = random.Random(7)
    told = 0
    for page in range(path.stat().st_size // size):
        copy = tmp_path / "copy.db"
        shutil.copyfile(path, copy)
        damaged(copy, page * size, b"\0" * size if with_ == "zeros" else noise.randbytes(size))
        for number, found in enumerate(read_all(copy)):
            if isinstance(found, PocoflowError):
                told += 1
                assert str(copy) in str(found), (page, found)
            else:
                assert found == truth[number], f"page {page}, read {number}"
    assert told > 50


@keeps("A part of the file is damaged")
def test_a_run_in_a_damaged_file_ends_with_an_error(path: Path) -> None:
    """A flow that meets damage ends with an error that names the file."""
    Disturbed(path).run()
    count = path.stat().st_size // 4096
    for page in range(1, count):
        damaged(path, page * 4096, b"\xff" * 100)
    disturbed = Disturbed(path)
    disturbed.flow.run_id = None
    with pytest.raises(DatabaseError) as caught:
        disturbed.run()
    assert str(path) in str(caught.value)
    assert disturbed.node.paid == []


@keeps("The file is no database, or its beginning is destroyed")
@pytest.mark.parametrize("content", [b"not a database at all, " * 100, b"\0" * 5000, b"SQLite"])
def test_a_file_that_is_no_database_is_left_alone(path: Path, content: bytes) -> None:
    """Another file of that name is refused before any node runs, and keeps every byte."""
    path.write_bytes(content)
    disturbed = Disturbed(path)
    with pytest.raises(DatabaseFileError, match=r"is not a SQLite database|is damaged") as caught:
        disturbed.run()
    assert str(path) in str(caught.value)
    assert disturbed.node.paid == []
    assert path.read_bytes() == content


@keeps("The log beside the file (`-wal`) is damaged or gone")
@pytest.mark.parametrize("how", ["noise", "cut", "deleted"])
def test_a_damaged_log_takes_back_the_last_steps_whole(
    path: Path, tmp_path: Path, start: Start, how: str
) -> None:
    """What a crash left in the log is used up to the damage: a whole number of steps, exact."""
    child = start("hang", path)
    assert child.line() == "in exec"
    child.send(signal.SIGKILL)
    child.wait()
    log = path.with_name("runs.db-wal")
    size = log.stat().st_size
    for place in range(0, size, 4000):
        folder = tmp_path / f"{place}"
        folder.mkdir()
        shutil.copyfile(path, folder / path.name)
        shutil.copyfile(log, folder / log.name)
        damaged_log = folder / log.name
        if how == "noise":
            damaged(damaged_log, place, b"\x55" * 40)
        elif how == "cut":
            os.truncate(damaged_log, place)
        else:
            damaged_log.unlink()
        with WorkflowDB(folder / path.name) as db:
            assert db.connection.rows("PRAGMA integrity_check")[0][0] == "ok"
            for run in db.list_runs():
                assert run["status"] == "failed"
                assert len(db.get_checkpoints("r")) == run["total_steps"]
                for step in range(run["total_steps"]):
                    assert db.load_checkpoint("r", step)["n"] == step + 1


def left_by_a_kill(path: Path) -> Path:
    """A database of two runs as a killed process leaves it, and a copy of the file before them."""
    folder = path.with_name("left")
    folder.mkdir()
    # Not by this process: closing a descriptor of the file would drop SQLite's locks on it.
    copy = partial(subprocess.run, check=True)
    with WorkflowDB(path, synchronous="NORMAL") as db:
        db.create_run("first")
    copy(["cp", path, folder / "older.db"])
    with WorkflowDB(path, synchronous="NORMAL") as db:
        for run_id, text in (("long", "x" * 6_000_000), ("last", "x")):  # which the log has alone
            db.create_run(run_id)
            db.save_event(run_id, "said", error_msg=text)
        for suffix in ("", "-wal"):
            copy(["cp", f"{path}{suffix}", folder / f"{path.name}{suffix}"])
    return folder / path.name


@keeps("An older copy is put in the place of the file, and the log beside it is left")
@pytest.mark.parametrize("read_only", [True, False])
def test_an_older_copy_is_not_opened_with_a_log_that_is_not_its_own(
    path: Path, read_only: bool
) -> None:
    """It would be damaged by it; it is as it was without the log, and so is the file with its."""
    file = left_by_a_kill(path)
    whole, older = file.read_bytes(), file.with_name("older.db").read_bytes()
    file.write_bytes(older)
    log = file.with_name(f"{file.name}-wal")
    kept = log.read_bytes()
    with pytest.raises(DatabaseFileError, match="is older than its log") as caught:
        WorkflowDB(file, read_only=read_only)
    assert str(log) in str(caught.value)
    assert (file.read_bytes(), log.read_bytes()) == (older, kept)
    log.unlink()
    with WorkflowDB(file, read_only=read_only) as db:
        assert [run["run_id"] for run in db.list_runs()] == ["first"]
    file.write_bytes(whole)
    log.write_bytes(kept)
    with WorkflowDB(file, read_only=read_only) as db:
        assert [run["run_id"] for run in db.list_runs()] == ["last", "long", "first"]


def test_a_torn_log_is_no_other_one(path: Path) -> None:
    """A page that was not written whole ends it; what its header says of the file is not read."""
    file = left_by_a_kill(path)
    log = file.with_name(f"{file.name}-wal")
    frame = 24 + 4096
    damaged(log, 32 + frame + 4, (1 << 20).to_bytes(4, "big"))
    with WorkflowDB(file) as db:
        assert "first" in [run["run_id"] for run in db.list_runs()]
        assert db.connection.rows("PRAGMA integrity_check")[0][0] == "ok"


@keeps("The file is deleted, moved or replaced under a run")
def test_the_log_of_a_file_that_was_moved_is_kept(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever makes a new file there tells where it is; with it the moved one has all its steps."""

    def happen() -> None:
        path.rename(path.with_name("moved.db"))
        WorkflowDB(path).close()

    disturbed = Disturbed(path, happen)
    with pytest.raises(DatabaseFileError, match="was deleted, moved or replaced"):
        disturbed.run()
    disturbed.flow.database.close()
    kept = path.with_name("runs.db-wal-left")
    assert str(kept) in caplog.text
    kept.rename(path.with_name("moved.db-wal"))
    with WorkflowDB(path.with_name("moved.db")) as db:
        assert [row["step"] for row in db.get_checkpoints("r")] == [0, 1]


@keeps("The file is deleted, moved or replaced under a run")
@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_file_that_is_gone_is_told_at_the_next_commit(
    path: Path, tmp_path: Path, how: str
) -> None:
    """A run does not go on writing to a file that nobody can find any more."""

    def happen() -> None:
        if how == "deleted":
            for name in ("runs.db", "runs.db-wal", "runs.db-shm"):
                path.with_name(name).unlink()
        elif how == "moved":
            path.rename(tmp_path / "elsewhere.db")
        else:
            path.rename(tmp_path / "elsewhere.db")
            WorkflowDB(path).close()

    disturbed = Disturbed(path, happen)
    with pytest.raises(DatabaseFileError, match="was deleted, moved or replaced") as caught:
        disturbed.run()
    assert str(path) in str(caught.value)
    assert disturbed.node.paid == [0, 1, 2]
    with pytest.raises(DatabaseFileError, match="was deleted, moved or replaced"):
        disturbed.flow.resume("r")
    fresh = Disturbed(path)
    assert fresh.run()["n"] == 5


@keeps("The file is deleted, moved or replaced under a run")
def test_a_reader_follows_a_file_that_is_replaced(path: Path, tmp_path: Path) -> None:
    """A reader that is open shows what is in the file now, or says that there is none."""
    Disturbed(path).run()
    writer = WorkflowDB(path)
    reader = WorkflowDB(path, read_only=True)
    assert [run["run_id"] for run in reader.list_runs()] == ["r"]
    path.rename(tmp_path / "elsewhere.db")
    with pytest.raises(DatabaseFileError, match="there is no database"):
        reader.list_runs()
    with pytest.raises(DatabaseFileError, match="was deleted, moved or replaced"):
        writer.list_runs()
    writer.close()
    with WorkflowDB(path) as other:
        other.create_run("new")
    assert [run["run_id"] for run in reader.list_runs()] == ["new"]
    reader.close()


@keeps("A JSON snapshot is cut")
def test_a_cut_snapshot_is_refused_by_name(tmp_path: Path) -> None:
    """A snapshot of which a part is missing is never taken for a store."""
    file = tmp_path / "step.json"
    store = Store({"n": 1, "texts": ["a", "b"], "when": datetime(2026, 1, 1, tzinfo=UTC)})
    store.snapshot(file)
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(DecodeError) as caught:
            Store.restore(file)
        assert str(file) in str(caught.value)
    file.write_bytes(whole)
    assert Store.restore(file).as_dict() == store.as_dict()


# -- the clock, descriptors -----------------------------------------------------------------------


@keeps("The clock goes back")
def test_a_clock_that_goes_back_changes_no_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs, events and checkpoints keep their order, and times that were taken stay positive."""

    def go_back() -> None:
        early = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        set_clock(monkeypatch, early)

    disturbed = Disturbed(path, go_back)
    disturbed.run()
    disturbed.flow.run_id = "later"
    disturbed.run()
    with WorkflowDB(path) as db:
        assert [run["run_id"] for run in db.list_runs()] == ["later", "r"]
        assert {run["status"] for run in db.list_runs()} == {"completed"}
        run = row_of(db, "r")
        assert (run["completed_at"] or "") < (run["started_at"] or "")
        events = [e for e in db.get_events("r") if e["event"] == "node_end"]
        assert [event["step"] for event in events] == list(range(5))
        assert all((event["elapsed_ms"] or 0) >= 0 for event in events)
        assert [db.load_checkpoint("r", step)["n"] for step in range(5)] == [1, 2, 3, 4, 5]


@keeps("The clock goes back")
@keeps(
    "A process that a C library has forked off the one of the run outlives it (those of `os.fork`, "
    "`subprocess` and `multiprocessing` do no harm)"
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the fork of C")
def test_a_process_that_nobody_knows_of_keeps_the_run(tmp_path: Path, start: Start) -> None:
    """The lock is held as long as it lives; after it the run reads as interrupted."""
    child = start("hang_beside_a_fork_of_c", tmp_path / "runs.db")
    pid = int(child.line().split()[1])
    try:
        child.send(signal.SIGKILL)
        child.wait()
        with WorkflowDB(tmp_path / "runs.db") as db:
            assert row_of(db, "r")["status"] == "running"
    finally:
        os.kill(pid, signal.SIGKILL)
    with WorkflowDB(tmp_path / "runs.db") as db:
        wait_for(lambda: row_of(db, "r")["status"] != "running", "it is running", 60)
        assert row_of(db, "r")["error_type"] == "Interrupted"


def test_the_time_of_day_is_only_ever_written_down() -> None:
    """One place reads the time of day; it decides the age of runs and deadlines of questions alone.

    It is what makes the test above, which replaces that place, a test of the clock.
    """
    readers = set()
    root = Path(pocoflow.__file__).parent
    for file in root.rglob("*.py"):
        if file.relative_to(root).parts[0] in ("cli", "ui", "views"):  # what shows runs
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if call in ("datetime.now", "datetime.utcnow", "time.time", "time.time_ns", "time"):
                readers.add(file.relative_to(root).as_posix())
    assert readers == {"db/clock.py"}


DESCRIPTORS = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from pocoflow import Flow, Node, WorkflowDB
from pocoflow.cleanup import finish

class Step(Node):
    def post(self, store, prepared, result):
        store["n"] = store.get("n", 0) + 1
        if store["n"] == store.get("fails"):
            raise ValueError("told to")
        return "done"

def descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

with WorkflowDB(sys.argv[1], synchronous="NORMAL") as db:
    flow = Flow(Step(), db_path=db)
    flow.run({})
    before = descriptors()
    for number in range(300):
        flow.run({})
    for number in range(150):
        Flow(Step(), db_path=sys.argv[1]).run({})
    for number in range(50):
        try:
            flow.run({"fails": 1})
        except ValueError:
            pass
    for number in range(20):
        flow.run_background({}).wait()
    finish()  # databases of flows that are garbage are closed
    # SQLite keeps the descriptor of a closed connection for the next one while another is open.
    assert descriptors() <= before + 2, (before, descriptors())
    print(len(db.list_runs(1000)), "runs")
"""


@keeps("128 file descriptors (`ulimit -n 128`)")
def test_500_runs_need_no_more_descriptors_than_one(path: Path) -> None:
    """Under ``ulimit -n 128`` hundreds of runs, flows and failures leave no descriptor open."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DESCRIPTORS, str(path)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "521 runs\n", "")


# -- the end of the process -----------------------------------------------------------------------


def goes_on(path: Path) -> None:
    """The run of a program that has ended stands after its first step."""
    with WorkflowDB(path) as db:
        run = db.get_run("r")
        assert run is not None
        assert run["total_steps"] == 1
        assert db.load_checkpoint("r", 0)["n"] == 1


@keeps("Ctrl-C (SIGINT)")
def test_ctrl_c_is_recorded(path: Path, start: Start) -> None:
    """Ctrl-C ends the run with KeyboardInterrupt, which is on record."""
    child = start("hang", path)
    assert child.line() == "in exec"
    child.send(signal.SIGINT)
    assert "raised KeyboardInterrupt" in child.finish()[1]
    assert status(path) == "failed"
    goes_on(path)


@keeps("SIGTERM", "SIGKILL, a crash, the machine is switched off")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_process_is_seen_by_the_next_reader(
    path: Path, start: Start, number: signal.Signals
) -> None:
    """A process that is gone leaves a run that reads as interrupted and can go on."""
    child = start("hang", path)
    assert child.line() == "in exec"
    child.send(number)
    assert child.wait() == -number
    assert status(path) == "interrupted"
    goes_on(path)


@keeps("The interpreter exits while a run goes on in the background")
def test_a_background_run_ends_with_the_interpreter(path: Path, start: Start) -> None:
    """The interpreter does not wait for a background run; that reads as interrupted."""
    child = start("leave", path, "exit")
    assert child.line() == "running"
    assert child.finish()[0] == 3
    assert status(path) == "interrupted"
    goes_on(path)
