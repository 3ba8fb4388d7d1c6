"""Files that the published 0.2.1 wrote: opened, migrated in place, read without being touched."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import pocoflow
from pocoflow import Flow, Node, Store, WorkflowDB
from pocoflow.cli import main
from pocoflow.db.run_reports import export_run, flow_counts
from pocoflow.errors import DatabaseBusyError, DatabaseFileError, NotSavedError

LAYOUT = """
CREATE TABLE pf_runs (
    run_id       TEXT PRIMARY KEY,
    flow_name    TEXT,
    status       TEXT NOT NULL
                 CHECK(status IN ('queued','running','paused','completed','failed')),
    started_at   TEXT,
    completed_at TEXT,
    total_steps  INTEGER DEFAULT 0,
    current_node TEXT,
    error_msg    TEXT
);
CREATE TABLE pf_checkpoints (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id     TEXT NOT NULL{references},
    step       INTEGER NOT NULL,
    node_name  TEXT,
    store_json TEXT NOT NULL,
    created_at TEXT,
    UNIQUE(run_id, step)
);
CREATE TABLE pf_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id     TEXT NOT NULL{references},
    step       INTEGER,
    node_name  TEXT,
    event      TEXT NOT NULL,
    action     TEXT,
    elapsed_ms REAL,
    error_msg  TEXT,
    ts         TEXT
);
CREATE INDEX idx_events_run ON pf_events(run_id);
CREATE INDEX idx_checkpoints_run ON pf_checkpoints(run_id, step);
"""

# run_id, flow_name, status, started_at, completed_at, total_steps, current_node, error_msg
RUNS: list[tuple[Any, ...]] = [
    ("etl-1", "etl", "completed", "2026-02-17T14:00:00", "2026-02-17T14:00:09", 3, "Load", None),
    ("etl-2", "etl", "failed", "2026-02-17T14:05:00", "2026-02-17T14:05:01", 1, "Load", "no rows"),
    ("etl-3", None, "running", "2026-02-17T14:06:00", None, 1, "Extract", None),
    ("etl-4", "etl", "paused", "2026-02-17T14:07:00", None, 0, None, None),
    ("etl-5", "etl", "queued", "2026-02-17T14:08:00", None, None, None, None),
]

STORES: dict[tuple[str, int], dict[str, Any]] = {
    ("etl-1", 0): {"rows": [1, 2], "client": "<non-serialisable: OpenAI>", "score": math.nan},
    ("etl-1", 1): {"rows": [1, 2, 3], "client": "<non-serialisable: OpenAI>", "score": math.inf},
    ("etl-1", 2): {
        "rows": [1, 2, 3],
        "nested": {"deep": ["ünï", None, True, 2**70, "<non-serialisable: Lock>"]},
        "$type": "looks like ours",
        "text": "about <non-serialisable: things>, in a sentence",
        "typed": {"$type": "tuple", "value": [1]},
    },
    ("etl-2", 0): {"rows": []},
    ("etl-3", 0): {},
}

PLACE_HOLDERS = {("etl-1", 0): ["client"], ("etl-1", 1): ["client"], ("etl-1", 2): ["nested"]}

# run_id, step, node_name, event, action, elapsed_ms, error_msg
EVENTS: list[tuple[Any, ...]] = [
    ("etl-1", None, None, "flow_start", None, None, None),
    ("etl-2", None, None, "flow_start", None, None, None),
    ("etl-1", 0, "Extract", "node_start", None, None, None),
    ("etl-1", 0, "Extract", "node_end", "ok", 1.25, None),
    ("etl-2", 0, "Load", "node_error", None, None, "ValueError: no rows"),
    ("etl-1", 3, None, "flow_end", None, None, None),
]


def write_old_file(path: Path, *, references: bool = False, wal: bool = False) -> None:
    """Write a file as 0.2.1 left it: runs in all of its statuses, checkpoints and events."""
    clause = " REFERENCES pf_runs(run_id)" if references else ""
    with closing(sqlite3.connect(path)) as raw:
        if wal:
            raw.execute("PRAGMA journal_mode = WAL")
        raw.executescript(LAYOUT.format(references=clause))
        raw.executemany("INSERT INTO pf_runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", RUNS)
        raw.executemany(
            "INSERT INTO pf_checkpoints (run_id, step, node_name, store_json, created_at)"
            " VALUES (?, ?, ?, ?, ?)",
            [
                (run_id, step, f"Node{step}", json.dumps(data), f"2026-02-17T14:00:0{step}+00:00")
                for (run_id, step), data in STORES.items()
            ],
        )
        raw.executemany(
            "INSERT INTO pf_events (run_id, step, node_name, event, action, elapsed_ms, error_msg,"
            " ts) VALUES (?, ?, ?, ?, ?, ?, ?, '2026-02-17T14:00:00+00:00')",
            EVENTS,
        )
        raw.commit()


def equal(left: object, right: object) -> bool:
    """Equal with the types in it the same, and NaN equal to NaN."""
    return repr(left) == repr(right)


def layout(path: Path) -> list[tuple[str, str, str]]:
    """Everything that the file defines, without what SQLite keeps for itself."""
    with closing(sqlite3.connect(path)) as raw:
        return sorted(
            raw.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        )


def check_contents(db: WorkflowDB) -> None:
    """All that 0.2.1 wrote is there, and reads as it was written."""
    runs = db.list_runs()
    assert [run["run_id"] for run in runs] == ["etl-5", "etl-4", "etl-3", "etl-2", "etl-1"]
    for run, old in zip(reversed(runs), RUNS, strict=True):
        run_id, flow_name, status, started, completed, steps, node, error = old
        assert run["run_id"] == run_id
        assert run["flow_name"] == (flow_name or "")
        assert run["status"] == status
        assert (run["started_at"], run["completed_at"]) == (started, completed)
        assert run["total_steps"] == (steps or 0)
        assert (run["current_node"], run["error_msg"]) == (node, error)

    for (run_id, step), data in STORES.items():
        store = db.load_checkpoint(run_id, step=step)
        lost = PLACE_HOLDERS.get((run_id, step), [])
        assert equal(store.as_dict(), {k: v for k, v in data.items() if k not in lost})
        assert sorted(store.unsaved) == lost
    rows = db.get_checkpoints("etl-1")
    assert [(row["step"], row["node_name"], row["created_at"]) for row in rows] == [
        (step, f"Node{step}", f"2026-02-17T14:00:0{step}+00:00") for step in range(3)
    ]
    assert json.loads(rows[0]["store_json"])["rows"] == [1, 2]

    for run_id in ("etl-1", "etl-2", "etl-4"):
        events = [
            (e["step"], e["node_name"], e["event"], e["action"], e["elapsed_ms"], e["error_msg"])
            for e in db.get_events(run_id)
        ]
        assert events == [event[1:] for event in EVENTS if event[0] == run_id]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file as 0.2.1 left it."""
    path = tmp_path / "old.db"
    write_old_file(path)
    return path


@pytest.fixture
def idle(old: Path) -> Path:
    """A file as 0.2.1 left it, in which no run reads as running."""
    with closing(sqlite3.connect(old)) as raw:
        raw.execute("UPDATE pf_runs SET status = 'failed' WHERE status = 'running'")
        raw.commit()
    return old


def dump(path: Path) -> list[str]:
    """What is in a database, as SQL."""
    with closing(sqlite3.connect(path)) as raw:
        return list(raw.iterdump())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- opening ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wal", [False, True], ids=["rollback journal", "wal"])
@pytest.mark.parametrize("references", [False, True], ids=["plain", "foreign keys"])
def test_an_old_file_opens_with_all_that_is_in_it(
    tmp_path: Path, references: bool, wal: bool
) -> None:
    """Runs of all statuses, checkpoints and events of 0.2.1 are listed and restored exactly."""
    path = tmp_path / "old.db"
    write_old_file(path, references=references, wal=wal)

    with WorkflowDB(path) as db:
        check_contents(db)
    with WorkflowDB(path) as db:
        check_contents(db)


def test_a_place_holder_reads_as_not_saved_and_names_its_key(old: Path) -> None:
    """What 0.2.1 replaced by "<non-serialisable: T>" is never handed out as a string."""
    with WorkflowDB(old) as db:
        first, last = (db.load_checkpoint("etl-1", step=step) for step in (0, 2))

    with pytest.raises(NotSavedError, match=r"'client' was not saved: OpenAI could not be stored"):
        first["client"]
    with pytest.raises(NotSavedError, match=r"'nested' was not saved: Lock"):
        last["nested"]
    assert last["text"] == "about <non-serialisable: things>, in a sentence"


def test_an_old_run_keeps_its_status(old: Path) -> None:
    """A running row of 0.2.1 has no owner to ask about, so it stays as it was written."""
    with WorkflowDB(old) as db:
        assert db.list_runs(status="running")[0]["run_id"] == "etl-3"
        assert db.get_run("etl-3") == db.list_runs(status="running")[0]


def test_the_documented_way_to_resume_works_on_an_old_run(idle: Path) -> None:
    """A failed run of 0.2.1 goes on from its last checkpoint with run(store, resume_from=node)."""

    class Load(Node):
        def prep(self, store: Store[Any]) -> list[int]:
            rows: list[int] = store["rows"]
            return rows

        def exec(self, rows: list[int]) -> int:
            return len(rows)

        def post(self, store: Store[Any], rows: list[int], count: int) -> str:
            store["count"] = count
            return "done"

    with WorkflowDB(idle) as db:
        failed = next(run for run in db.list_runs() if run["run_id"] == "etl-2")
        last = db.get_checkpoints(failed["run_id"])[-1]
        store = db.load_checkpoint(failed["run_id"], step=last["step"])
        load = Load()
        Flow(start=load, db_path=db).run(store, resume_from=load)

        assert store["count"] == 0
        assert [run["status"] for run in db.list_runs(limit=1)] == ["completed"]


def test_an_old_checkpoint_is_restored_under_a_schema(old: Path) -> None:
    """load_checkpoint(schema=) validates what 0.2.1 wrote."""

    class Rows(BaseModel):
        rows: list[int]

    with WorkflowDB(old) as db:
        assert db.load_checkpoint("etl-2", step=0, schema=Rows).state.rows == []


def test_new_runs_go_into_a_migrated_file(idle: Path) -> None:
    """A migrated file takes new runs, with the statuses that 0.2.1 did not have."""
    with WorkflowDB(idle) as db:
        Flow(start=Node(name="New"), db_path=db, run_id="new").run({"a": (1, 2)})
        db.update_run("etl-4", status="cancelled")

        assert [run["run_id"] for run in db.list_runs(limit=2)] == ["new", "etl-5"]
        assert db.load_checkpoint("new", step=0)["a"] == (1, 2)


# -- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("references", [False, True], ids=["plain", "foreign keys"])
def test_a_migrated_file_is_laid_out_like_a_new_one(tmp_path: Path, references: bool) -> None:
    """After the migration every table, view, index and trigger is the one of a fresh file."""
    write_old_file(tmp_path / "old.db", references=references)

    for name in ("old.db", "new.db"):
        with WorkflowDB(tmp_path / name) as db:
            db.migrate(close_running=True)

    assert layout(tmp_path / "old.db") == layout(tmp_path / "new.db")
    for sql, expected in (
        ("PRAGMA integrity_check", [("ok",)]),
        ("PRAGMA foreign_key_check", []),
        ("PRAGMA journal_mode", [("wal",)]),
    ):
        with closing(sqlite3.connect(tmp_path / "old.db")) as raw:
            assert raw.execute(sql).fetchall() == expected
    with (
        closing(sqlite3.connect(tmp_path / "old.db")) as migrated,
        closing(sqlite3.connect(tmp_path / "new.db")) as fresh,
    ):
        version = "PRAGMA user_version"
        assert migrated.execute(version).fetchone() == fresh.execute(version).fetchone()


def test_a_file_of_0_2_1_without_any_run_is_migrated(tmp_path: Path) -> None:
    """An old file whose tables are empty becomes an empty new one."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(LAYOUT.format(references=""))
    with WorkflowDB(path) as db:
        assert db.list_runs() == []


LOOKS: dict[str, Callable[[WorkflowDB], object]] = {
    "get_run": lambda db: db.get_run("etl-3"),
    "list_runs": lambda db: db.list_runs(status="failed", flow_name="etl", text="rows"),
    "get_events": lambda db: db.get_events("etl-1"),
    "get_checkpoints": lambda db: [dict(row) for row in db.get_checkpoints("etl-1")],
    "load_checkpoint": lambda db: db.load_checkpoint("etl-1", 1).as_dict(),
    "get_questions": lambda db: db.get_questions("etl-1"),
    "pending": lambda db: db.pending(),
    "get_graph": lambda db: db.get_graph("etl-1"),
    "runs_to_recover": lambda db: db.runs_to_recover("etl"),
    "export_run": lambda db: export_run(db, "etl-2"),
    "flow_counts": flow_counts,
    "request_cancel": lambda db: db.request_cancel("etl-1"),
    "prune": lambda db: db.prune(keep=0, dry_run=True),
}


@pytest.mark.parametrize("read_only", [False, True], ids=["", "read-only"])
@pytest.mark.parametrize("wal", [False, True], ids=["rollback journal", "wal"])
def test_looking_at_an_old_file_does_not_change_a_byte(
    tmp_path: Path, wal: bool, read_only: bool
) -> None:
    """Whatever is looked at in an old file, it and its folder stay as they were."""
    path = tmp_path / "old.db"
    write_old_file(path, wal=wal)
    before = contents(tmp_path)

    with WorkflowDB(path, read_only=read_only) as db:
        check_contents(db)
        if not read_only:
            for look in LOOKS.values():
                look(db)
    for command in (["runs", "list"], ["runs", "show", "etl-1"], ["questions"]):
        assert main([*command, "--db", str(path)]) == 0

    assert contents(tmp_path) == before


def test_looking_leaves_the_log_of_a_program_that_was_killed(tmp_path: Path) -> None:
    """What a killed program of 0.2.1 left in a write-ahead log is shown, and stays there."""
    path = tmp_path / "old.db"
    write_old_file(path, wal=True)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("INSERT INTO pf_runs (run_id, status) VALUES ('etl-6', 'queued')")
        raw.commit()
        left = contents(tmp_path)
    assert "old.db-wal" in left
    for name, content in left.items():
        if not name.endswith("-shm"):
            (tmp_path / name).write_bytes(content)
    before = contents(tmp_path)

    with WorkflowDB(path) as db:
        assert [run["run_id"] for run in db.list_runs(limit=1)] == ["etl-5"]
        assert db.get_run("etl-6") is not None

    assert {**contents(tmp_path), "old.db-shm": b""} == {**before, "old.db-shm": b""}


@pytest.mark.parametrize("read_only", [False, True], ids=["", "read-only"])
def test_looking_at_an_old_file_follows_the_program_that_writes_it(
    old: Path, read_only: bool
) -> None:
    """Who looks at an old file sees what a program of 0.2.1 writes to it meanwhile."""
    with WorkflowDB(old, read_only=read_only) as db, closing(sqlite3.connect(old)) as raw:
        assert len(db.list_runs()) == 5
        raw.execute("INSERT INTO pf_runs (run_id, status) VALUES ('etl-6', 'queued')")
        raw.commit()
        assert len(db.list_runs()) == 6


def test_a_checkpoint_that_is_no_json_is_named_and_the_file_left_alone(old: Path) -> None:
    """A migration that cannot read a checkpoint says which one, and changes nothing."""
    with closing(sqlite3.connect(old)) as raw:
        raw.execute("UPDATE pf_checkpoints SET store_json = '{cut' WHERE run_id = 'etl-2'")
        raw.commit()
    before = contents(old.parent)

    with WorkflowDB(old) as db:
        with pytest.raises(DatabaseFileError, match=r"step 0 of run 'etl-2'") as caught:
            db.migrate(close_running=True)
        store = db.load_checkpoint("etl-2", 0)
        assert [run["run_id"] for run in db.list_runs(limit=1)] == ["etl-5"]

    with pytest.raises(NotSavedError, match=r"step 0 of run 'etl-2' cannot be read"):
        store["store_json"]
    assert str(old) in str(caught.value)
    assert contents(old.parent) == before


def test_a_locked_old_file_is_not_migrated(old: Path) -> None:
    """A program of 0.2.1 in the middle of a write makes the migration wait, then give up."""
    before = contents(old.parent)
    with closing(sqlite3.connect(old)) as raw, WorkflowDB(old, busy_timeout=0.05) as db:
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusyError, match="locked"):
            db.migrate(close_running=True)
        raw.rollback()
        assert contents(old.parent) == before
        check_contents(db)


WRITES: dict[str, Callable[[WorkflowDB], object]] = {
    "migrate": lambda db: db.migrate(),
    "create_run": lambda db: db.create_run("new"),
    "update_run": lambda db: db.update_run("etl-2", status="completed"),
    "save_event": lambda db: db.save_event("etl-2", "note"),
    "save_checkpoint": lambda db: db.save_checkpoint("etl-2", 1, "Load", {"rows": [1]}),
    "request_cancel": lambda db: db.request_cancel("etl-4"),
    "prune": lambda db: db.prune(keep=0),
    "vacuum": lambda db: db.vacuum(),
    "run": lambda db: Flow(start=Node(name="New"), db_path=db).run({}),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_is_refused_while_an_old_run_may_be_alive(
    old: Path, write: Callable[[WorkflowDB], object]
) -> None:
    """As long as a row of 0.2.1 reads as running, a write names the command that closes it."""
    before = contents(old.parent)
    with WorkflowDB(old) as db:
        with pytest.raises(DatabaseFileError, match=r"'etl-3'.*migrate-db --close-running") as told:
            write(db)
        assert str(old) in str(told.value)
        check_contents(db)
    assert {k: v for k, v in contents(old.parent).items() if k != "old.db-lock"} == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_migrates_an_old_file_and_keeps_a_private_copy(
    idle: Path, write: Callable[[WorkflowDB], object]
) -> None:
    """The first write finds an old file as it was, beside it, for its owner only."""
    (idle.parent / "old.db-0.2.1").write_text("mine")
    before = dump(idle)

    with WorkflowDB(idle) as db, WorkflowDB(idle) as other:
        assert len(other.list_runs()) == 5
        write(db)
        assert other.list_runs() == db.list_runs()

    copy = idle.parent / "old.db-0.2.1.2"
    assert (idle.parent / "old.db-0.2.1").read_text() == "mine"
    assert dump(copy) == before
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    WorkflowDB(idle.parent / "new.db").close()
    assert layout(idle) == layout(idle.parent / "new.db")


def test_the_command_migrates_once_and_closes_what_reads_as_running(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``pocoflow migrate-db`` refuses, closes on request, and has nothing to do the second time."""
    before = dump(old)
    assert main(["migrate-db", str(old)]) == 1
    assert "--close-running" in capsys.readouterr().err
    assert [path.name for path in old.parent.iterdir()] == ["old.db"]

    assert main(["migrate-db", "--close-running", str(old)]) == 0
    assert main(["migrate-db", "--close-running", str(old)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("old.db-0.2.1")
    assert "already" in second
    assert dump(old.parent / "old.db-0.2.1") == before
    with WorkflowDB(old) as db:
        run = db.get_run("etl-3")
        assert run is not None
        assert (run["status"], run["error_type"]) == ("failed", "Interrupted")
        assert db.runs_to_recover("") == db.runs_to_recover("etl") == []
        assert db.migrate() is None


def test_a_file_that_is_not_there_is_named_as_the_command_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``pocoflow migrate-db`` has no ``--db``, and advises none."""
    assert main(["migrate-db", str(tmp_path / "none.db")]) == 2
    assert "; name it with FILE" in capsys.readouterr().err


def test_tables_and_views_of_other_people_survive(idle: Path) -> None:
    """A migration leaves other tables, their rows and indexes, and views of ours, as they are."""
    with closing(sqlite3.connect(idle)) as raw:
        raw.executescript(
            """
            CREATE TABLE notes (run_id TEXT REFERENCES pf_runs (run_id) ON DELETE CASCADE, note);
            CREATE INDEX notes_by_run ON notes (run_id);
            CREATE VIEW failed AS SELECT run_id FROM pf_runs WHERE status = 'failed';
            INSERT INTO notes VALUES ('etl-2', 'look at it');
            """
        )
    with WorkflowDB(idle) as db:
        db.create_run("new")
    with closing(sqlite3.connect(idle)) as raw:
        assert raw.execute("SELECT * FROM notes").fetchall() == [("etl-2", "look at it")]
        assert raw.execute("SELECT * FROM failed").fetchall() == [("etl-2",), ("etl-3",)]
        assert ("index", "notes_by_run") in raw.execute("SELECT type, name FROM sqlite_master")
        assert raw.execute("PRAGMA foreign_key_list(notes)").fetchone()[2] == "pf_runs"


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write")
def test_a_folder_that_cannot_be_written_lets_an_old_file_be_read(idle: Path) -> None:
    """In a read-only folder an old file is listed; a write says that no copy can be kept."""
    idle.parent.chmod(0o500)
    try:
        with WorkflowDB(idle) as db:
            assert len(db.list_runs()) == 5
            with pytest.raises(DatabaseFileError, match="no copy of it"):
                db.create_run("new")
    finally:
        idle.parent.chmod(0o700)


# -- crashes and races --------------------------------------------------------------------------

# Opens a database, tells of it, and does as it is told at the Nth statement of the migration.
OPEN = """
import os, signal, sqlite3, sys
from pocoflow import WorkflowDB

path, at, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
seen = 0

class Interruption(Exception):
    pass

class Watched(sqlite3.Connection):
    def execute(self, *arguments):
        global seen
        seen += 1
        if seen == at:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise Interruption
        return super().execute(*arguments)

connect = sqlite3.connect
sqlite3.connect = lambda *a, **k: connect(*a, **{**k, "factory": Watched})
try:
    WorkflowDB(path).migrate(close_running=True)
except Interruption:
    print("interrupted", flush=True)
else:
    print("opened", seen, flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program that finds the same package that this process uses."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What the program printed, once it has ended."""
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    return output


@pytest.fixture(scope="module")
def statements(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many statements it takes to open an old file."""
    path = tmp_path_factory.mktemp("count") / "old.db"
    write_old_file(path)
    word, count = finish(start(OPEN, path, 0, "count")).split()
    assert word == "opened"
    return int(count)


@pytest.mark.parametrize(
    ("how", "share"), [("kill", 0.3), ("kill", 0.6), ("kill", 0.75), ("raise", 0.75)]
)
def test_a_crash_in_the_migration_leaves_the_old_file(
    old: Path, statements: int, how: str, share: float
) -> None:
    """A process that dies in the middle of a migration has changed nothing; the next does it."""
    before = layout(old)
    at = round(statements * share)

    process = start(OPEN, old, at, how)
    output = finish(process)

    if how == "kill":
        assert process.returncode == -signal.SIGKILL
    else:
        assert output == "interrupted\n"
    assert layout(old) == before
    with WorkflowDB(old) as db:
        check_contents(db)
        db.migrate(close_running=True)
    WorkflowDB(old.parent / "new.db").close()
    assert layout(old) == layout(old.parent / "new.db")


# Opens a database when it is told to, and says what it found.
RACE = """
import sys
from pocoflow import WorkflowDB

print("ready", flush=True)
sys.stdin.readline()
with WorkflowDB(sys.argv[1]) as db:
    db.migrate()
    print([run["run_id"] for run in db.list_runs()], len(db.get_checkpoints("etl-1")), flush=True)
"""


def race(path: Path, code: str, count: int) -> list[str]:
    """What programs print that open a file at the same time."""
    processes = [start(code, path) for _ in range(count)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [finish(process) for process in processes]


def test_processes_that_migrate_an_old_file_at_once_do_it_once(idle: Path) -> None:
    """Of several processes that migrate a file at once, one does, and all can use it."""
    assert race(idle, RACE, 4) == ["['etl-5', 'etl-4', 'etl-3', 'etl-2', 'etl-1'] 3\n"] * 4
    assert sorted(path.name for path in idle.parent.glob("old.db-0.2.1*")) == ["old.db-0.2.1"]


def test_processes_that_make_a_new_file_at_once_share_it(tmp_path: Path) -> None:
    """Of several processes that make one file at once, each finds the run of its own in it."""
    code = RACE.replace('db.get_checkpoints("etl-1")', "db.path").replace(
        "    print(", "    db.create_run(str(__import__('os').getpid()))\n    print("
    )
    race(tmp_path / "new.db", code, 4)
    with WorkflowDB(tmp_path / "new.db") as db:
        assert len(db.list_runs()) == 4
