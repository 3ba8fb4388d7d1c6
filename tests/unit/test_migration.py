"""Files that the published 0.2.1 wrote: opened, migrated in place, read without being touched."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import pocoflow
from pocoflow import Flow, Node, Store, WorkflowDB
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
        db.update_run("etl-3", status="failed")
        assert db.list_runs(status="running") == []


def test_the_documented_way_to_resume_works_on_an_old_run(old: Path) -> None:
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

    with WorkflowDB(old) as db:
        failed = next(run for run in db.list_runs() if run["status"] == "failed")
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


def test_new_runs_go_into_a_migrated_file(old: Path) -> None:
    """A migrated file takes new runs, with the statuses that 0.2.1 did not have."""
    with WorkflowDB(old) as db:
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
        WorkflowDB(tmp_path / name).close()

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


@pytest.mark.parametrize("wal", [False, True], ids=["rollback journal", "wal"])
def test_reading_an_old_file_does_not_change_a_byte(tmp_path: Path, wal: bool) -> None:
    """A read-only database shows all of an old file and leaves it, and its folder, as they were."""
    path = tmp_path / "old.db"
    write_old_file(path, wal=wal)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    with WorkflowDB(path, read_only=True) as db:
        check_contents(db)

    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_reading_an_old_file_follows_the_program_that_writes_it(old: Path) -> None:
    """A reader of an old file sees what a program of 0.2.1 writes to it meanwhile."""
    with WorkflowDB(old, read_only=True) as db, closing(sqlite3.connect(old)) as raw:
        assert len(db.list_runs()) == 5
        raw.execute("INSERT INTO pf_runs (run_id, status) VALUES ('etl-6', 'queued')")
        raw.commit()
        assert len(db.list_runs()) == 6


def test_a_checkpoint_that_is_no_json_is_named_and_the_file_left_alone(old: Path) -> None:
    """A migration that cannot read a checkpoint says which one, and changes nothing."""
    with closing(sqlite3.connect(old)) as raw:
        raw.execute("UPDATE pf_checkpoints SET store_json = '{cut' WHERE run_id = 'etl-2'")
        raw.commit()
    before = layout(old)

    with pytest.raises(DatabaseFileError, match=r"step 0 of run 'etl-2'") as caught:
        WorkflowDB(old)

    assert str(old) in str(caught.value)
    assert layout(old) == before


def test_a_locked_old_file_is_not_migrated(old: Path) -> None:
    """A program of 0.2.1 in the middle of a write makes the migration wait, then give up."""
    before = layout(old)
    with closing(sqlite3.connect(old)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusyError, match="locked"):
            WorkflowDB(old, busy_timeout=0.05)
    assert layout(old) == before
    with WorkflowDB(old) as db:
        check_contents(db)


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
    WorkflowDB(path).close()
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
        output, _ = process.communicate(timeout=60)
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
    ("how", "share"), [("kill", 0.3), ("kill", 0.6), ("kill", 0.9), ("raise", 0.8)]
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
    WorkflowDB(old.parent / "new.db").close()
    assert layout(old) == layout(old.parent / "new.db")


# Opens a database when it is told to, and says what it found.
RACE = """
import sys
from pocoflow import WorkflowDB

print("ready", flush=True)
sys.stdin.readline()
with WorkflowDB(sys.argv[1]) as db:
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


def test_processes_that_open_an_old_file_at_once_migrate_it_once(old: Path) -> None:
    """Of several processes that open an old file at once, one migrates it and all can use it."""
    assert race(old, RACE, 4) == ["['etl-5', 'etl-4', 'etl-3', 'etl-2', 'etl-1'] 3\n"] * 4
    with WorkflowDB(old) as db:
        check_contents(db)


def test_processes_that_make_a_new_file_at_once_share_it(tmp_path: Path) -> None:
    """Of several processes that make one file at once, each finds the run of its own in it."""
    code = RACE.replace('db.get_checkpoints("etl-1")', "db.path").replace(
        "    print(", "    db.create_run(str(__import__('os').getpid()))\n    print("
    )
    race(tmp_path / "new.db", code, 4)
    with WorkflowDB(tmp_path / "new.db") as db:
        assert len(db.list_runs()) == 4
