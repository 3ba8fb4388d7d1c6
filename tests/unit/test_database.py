"""``WorkflowDB``: what it keeps, what a plain SQLite reader sees, and what it refuses."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import Flow, Node, Store, WorkflowDB
from pocoflow.db.sql import QUERIES
from pocoflow.errors import (
    CheckpointNotFoundError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseFileError,
    DefinitionError,
    NotSavedError,
    PocoflowError,
    RunExistsError,
    RunNotFoundError,
)

RUN_COLUMNS = {
    "run_id",
    "flow_name",
    "status",
    "started_at",
    "completed_at",
    "total_steps",
    "current_node",
    "error_msg",
}
CHECKPOINT_COLUMNS = {"id", "run_id", "step", "node_name", "store_json", "created_at"}
EVENT_COLUMNS = {
    "id",
    "run_id",
    "step",
    "node_name",
    "event",
    "action",
    "elapsed_ms",
    "error_msg",
    "ts",
}


class Chat(Node):
    """Four turns: a list that grows, a value that is replaced, a key that comes and goes."""

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        turn = store["turn"] = store["turn"] + 1
        store["messages"].append({"turn": turn, "text": f"message {turn}"})
        if turn == 1:
            store["draft"] = "first"
        if turn == 2:
            del store["draft"]
            store["lock"] = threading.Lock()
        if turn == 3:
            store["lock"] = "free"
            store["messages"][0]["text"] = "changed in place"
        return "again" if turn < 4 else "done"


EXPECTED = [
    {"turn": 1, "messages": ["message 1"], "draft": "first"},
    {"turn": 2, "messages": ["message 1", "message 2"]},
    {"turn": 3, "messages": ["changed in place", "message 2", "message 3"], "lock": "free"},
    {
        "turn": 4,
        "messages": ["changed in place", "message 2", "message 3", "message 4"],
        "lock": "free",
    },
]


def chat_flow(path: Path | WorkflowDB, run_id: str | None = None) -> Flow[Any]:
    """A flow of four steps whose every kind of change is in its checkpoints."""
    node = Chat(name="Chat")
    node.then("again", node).then("done", Last(name="Last"))
    return Flow(start=node, flow_name="chat", db_path=path, run_id=run_id)


class Last(Node):
    pass


def chat_store() -> dict[str, Any]:
    """What the chat flow begins with."""
    return {"turn": 0, "messages": []}


def texts(store: dict[str, Any]) -> dict[str, Any]:
    """A store of the chat flow with its messages cut down to their texts."""
    return {**store, "messages": [message["text"] for message in store["messages"]]}


def raw_rows(path: Path, sql: str, *parameters: object) -> list[dict[str, Any]]:
    """What a program that knows nothing of this library reads from the file."""
    with closing(sqlite3.connect(path)) as raw:
        raw.row_factory = sqlite3.Row
        return [dict(row) for row in raw.execute(sql, parameters)]


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content. No database in it may be open in this process."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database can be made."""
    return tmp_path / "runs.db"


@pytest.fixture
def db(path: Path) -> Iterator[WorkflowDB]:
    """An empty database."""
    with WorkflowDB(path) as database:
        yield database


# -- the documented methods ---------------------------------------------------------------------


def test_a_run_can_be_kept_by_hand_from_its_row_to_its_last_status(db: WorkflowDB) -> None:
    """create_run, save_event, save_checkpoint and update_run keep a run that others execute."""
    db.create_run("by-hand", "report")
    created = db.get_run("by-hand")
    db.update_run("by-hand", status="running", current_node="Read")
    db.save_event("by-hand", "node_start", step=0, node_name="Read")
    db.save_event("by-hand", "node_end", step=0, node_name="Read", action="ok", elapsed_ms=12.5)
    db.save_event("by-hand", "node_error", step=1, node_name="Write", error_msg="no paper")
    db.save_checkpoint("by-hand", 0, "Read", Store({"pages": [1, 2]}))
    db.update_run("by-hand", status="failed", total_steps=1, error_msg="no paper")

    assert created is not None
    assert created["status"] == "running"
    assert created["flow_name"] == "report"
    run = db.get_run("by-hand")
    assert run is not None
    assert (run["status"], run["total_steps"], run["error_msg"]) == ("failed", 1, "no paper")
    events = db.get_events("by-hand")
    assert [(e["event"], e["step"], e["node_name"]) for e in events] == [
        ("node_start", 0, "Read"),
        ("node_end", 0, "Read"),
        ("node_error", 1, "Write"),
    ]
    assert (events[1]["action"], events[1]["elapsed_ms"]) == ("ok", 12.5)
    assert events[2]["error_msg"] == "no paper"
    assert db.load_checkpoint("by-hand", step=0).as_dict() == {"pages": [1, 2]}


def test_every_documented_column_is_in_the_rows_that_the_methods_return(db: WorkflowDB) -> None:
    """The rows of runs, checkpoints and events have at least the documented columns."""
    chat_flow(db, "chat-1").run(chat_store())

    (run,) = db.list_runs()
    assert set(run) >= RUN_COLUMNS
    assert db.get_run("chat-1") == run
    for event in db.get_events("chat-1"):
        assert set(event) >= EVENT_COLUMNS
    for row in db.get_checkpoints("chat-1"):
        assert set(row) == CHECKPOINT_COLUMNS
        assert len(dict(row)) == len(CHECKPOINT_COLUMNS)


def test_each_step_of_a_run_has_its_events_in_order(db: WorkflowDB) -> None:
    """The event log is flow_start, then node_start and node_end per step, then flow_end."""
    chat_flow(db, "chat-1").run(chat_store())

    events = [(e["event"], e["node_name"], e["action"]) for e in db.get_events("chat-1")]

    turns = [
        pair
        for action in ("again", "again", "again", "done")
        for pair in (("node_start", "Chat", None), ("node_end", "Chat", action))
    ]
    last = [("node_start", "Last", None), ("node_end", "Last", "default")]
    assert events == [("flow_start", None, None), *turns, *last, ("flow_end", None, None)]


def test_a_checkpoint_of_every_step_restores_what_the_store_was(db: WorkflowDB) -> None:
    """load_checkpoint gives the store of any step: appended to, replaced, changed in place."""
    chat_flow(db, "chat-1").run(chat_store())

    for step, expected in enumerate(EXPECTED):
        assert texts(db.load_checkpoint("chat-1", step=step).as_dict()) == expected
    assert [row["step"] for row in db.get_checkpoints("chat-1")] == [0, 1, 2, 3, 4]
    assert [row["node_name"] for row in db.get_checkpoints("chat-1")] == ["Chat"] * 4 + ["Last"]


def test_the_store_before_the_first_node_is_kept_but_not_listed(db: WorkflowDB) -> None:
    """load_checkpoint(step=-1) is the input of the run; get_checkpoints begins with step 0."""
    chat_flow(db, "chat-1").run(chat_store())

    assert db.load_checkpoint("chat-1", step=-1).as_dict() == {"turn": 0, "messages": []}
    assert next(row["step"] for row in db.get_checkpoints("chat-1")) == 0


def test_a_value_that_could_not_be_saved_says_so_when_it_is_read_back(db: WorkflowDB) -> None:
    """A restored store raises for a key that was not saved, and names the key and its type."""
    chat_flow(db, "chat-1").run(chat_store())

    store = db.load_checkpoint("chat-1", step=1)

    assert "lock" not in store
    assert store.unsaved["lock"].type_name == "_thread.lock"
    with pytest.raises(NotSavedError, match=r"'lock' was not saved.*_thread\.lock"):
        store["lock"]


def test_a_schema_validates_what_a_checkpoint_brings_back(db: WorkflowDB) -> None:
    """load_checkpoint(schema=) gives a typed store, or refuses values that do not fit."""

    class Report(BaseModel):
        turn: int
        messages: list[dict[str, Any]]
        lock: str = ""

    chat_flow(db, "chat-1").run(chat_store())

    assert db.load_checkpoint("chat-1", step=3, schema=Report).state.lock == "free"
    with pytest.raises(TypeError, match="turn"):
        db.load_checkpoint("chat-1", step=3, schema={"turn": str})


def test_saving_a_checkpoint_again_replaces_that_one_and_no_other(db: WorkflowDB) -> None:
    """save_checkpoint of a step that exists replaces it and leaves its neighbours exact."""
    db.create_run("r")
    stores: list[dict[str, Any]] = [
        {"a": [1]},
        {"a": [1, 2], "b": 1},
        {"a": [1, 2, 3], "b": 1},
        {"b": 1},
    ]
    for step, data in enumerate(stores):
        db.save_checkpoint("r", step, f"N{step}", Store(data))

    db.save_checkpoint("r", 1, "Again", Store({"c": "new", "a": [9]}))

    assert db.load_checkpoint("r", step=1).as_dict() == {"a": [9], "c": "new"}
    for step in (0, 2, 3):
        assert db.load_checkpoint("r", step=step).as_dict() == stores[step]
    assert [row["node_name"] for row in db.get_checkpoints("r")] == ["N0", "Again", "N2", "N3"]


def test_a_checkpoint_saved_for_a_step_of_a_flow_replaces_that_of_the_flow(db: WorkflowDB) -> None:
    """Each step is listed once, with the node that it was, and a fork goes on from there."""
    first = Node(name="first")
    flow = Flow(first, db_path=db).then(first, Node(name="second"))
    flow.run({"a": 1}, run_id="r")
    for text in ("one", "two"):
        db.save_checkpoint("r", 0, "Edited", {"a": text})

    steps = [(row["step"], row["node_name"], row["store_json"]) for row in db.get_checkpoints("r")]
    assert steps == [(0, "first", '{"a":"two"}'), (1, "second", '{"a":1}')]
    assert flow.resume(flow.fork("r", 0)).as_dict() == {"a": "two"}


def test_no_checkpoint_is_saved_for_a_step_that_a_flow_may_come_to(db: WorkflowDB) -> None:
    """The flow writes it itself, as it goes on; the store that it began with may be replaced."""
    flow = Flow(Node(), db_path=db)
    db.create_run("of no flow")
    flow.submit({"a": 1}, run_id="r")
    db.save_checkpoint("of no flow", 0, "Node", {})
    with pytest.raises(DefinitionError, match="run 'r' is queued, and has not finished that step"):
        db.save_checkpoint("r", 0, "Edited", {"a": 2})
    db.save_checkpoint("r", -1, "Edited", {"a": 3})
    assert flow.resume("r").as_dict() == {"a": 3}
    db.save_checkpoint("r", 1, "Later", {"a": 4})
    assert [row["store_json"] for row in db.get_checkpoints("r")] == ['{"a":3}', '{"a":4}']


def test_checkpoints_saved_out_of_order_are_each_exact(db: WorkflowDB) -> None:
    """save_checkpoint of an earlier step does not show through in a later one."""
    db.create_run("r")
    db.save_checkpoint("r", 5, "Late", Store({"a": 1}))
    db.save_checkpoint("r", 2, "Early", Store({"b": 1}))

    assert db.load_checkpoint("r", step=5).as_dict() == {"a": 1}
    assert db.load_checkpoint("r", step=2).as_dict() == {"b": 1}


def test_runs_are_listed_newest_created_first_whatever_the_clock_says(db: WorkflowDB) -> None:
    """list_runs goes by the order of creation, not by times of a clock that was set back."""
    for number in range(5):
        db.create_run(f"run-{number}")
        past = datetime.fromisoformat("2026-01-01T00:00:00+00:00") - timedelta(hours=number)
        db.update_run(f"run-{number}", started_at=past.isoformat())

    assert [run["run_id"] for run in db.list_runs()] == [f"run-{n}" for n in (4, 3, 2, 1, 0)]
    assert [run["run_id"] for run in db.list_runs(limit=2)] == ["run-4", "run-3"]


def test_runs_can_be_listed_by_status_and_flow(db: WorkflowDB) -> None:
    """list_runs(status=, flow_name=) finds the newest matching runs behind any number of others."""
    for number in range(30):
        db.create_run(f"run-{number}", "even" if number % 2 == 0 else "odd")
        db.update_run(f"run-{number}", status="failed" if number < 3 else "completed")

    assert [r["run_id"] for r in db.list_runs(status="failed")] == ["run-2", "run-1", "run-0"]
    assert [r["run_id"] for r in db.list_runs(1, status="failed", flow_name="even")] == ["run-2"]
    assert [r["run_id"] for r in db.list_runs(2, flow_name="odd")] == ["run-29", "run-27"]
    with pytest.raises(ValueError, match=r"status is one of .*'lost'"):
        db.list_runs(status="lost")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"list_runs\(\) got an unexpected keyword argument 'flow'"):
        db.list_runs(flow="odd")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"prune\(\) got an unexpected keyword argument 'flow'"):
        db.prune(keep=0, flow="odd")  # type: ignore[call-arg]


# -- what a plain SQLite reader sees ------------------------------------------------------------


def test_the_documented_tables_have_the_documented_columns(path: Path) -> None:
    """pf_runs, pf_checkpoints and pf_events can be read by any SQLite client."""
    chat_flow(path).run(chat_store())

    for table, columns in (
        ("pf_runs", RUN_COLUMNS),
        ("pf_checkpoints", CHECKPOINT_COLUMNS),
        ("pf_events", EVENT_COLUMNS),
    ):
        assert set(raw_rows(path, f"SELECT * FROM {table}")[0]) >= columns


def work_of(path: Path, sql: str, wanted: Mapping[str, Any] | None = None) -> int:
    """How many instructions SQLite takes for a statement."""
    taken = 0

    def take() -> int:
        nonlocal taken
        taken += 1
        return 0

    with closing(sqlite3.connect(path)) as raw:
        raw.set_progress_handler(take, 1)
        assert raw.execute(sql, wanted or {}).fetchall()
    return taken


@pytest.mark.parametrize("view", ["pf_runs", "pf_checkpoints", "pf_events"])
def test_what_a_run_has_is_found_by_its_id(view: str, path: Path) -> None:
    """However many runs are in the file, what is read of one costs the same."""
    chat_flow(path, "chat-1").run(chat_store())
    alone = work_of(path, f"SELECT * FROM {view} WHERE run_id = 'chat-1'")
    for _ in range(20):
        chat_flow(path).run(chat_store())
    assert work_of(path, f"SELECT * FROM {view} WHERE run_id = 'chat-1'") < 1.1 * alone


def test_the_runs_of_a_rare_status_are_found_by_it(path: Path) -> None:
    """However many completed runs are in the file, listing the failed ones costs the same."""
    filters = dict.fromkeys(("flow", "text", "since", "thread"))
    wanted = {"status": "running", "or_status": "failed", "labels": "{}", "limit": 9, **filters}
    wanted["before"] = 1 << 40
    with WorkflowDB(path) as db:
        for number in range(3):
            db.create_run(f"bad-{number}", "chat")
            db.update_run(f"bad-{number}", status="failed")
        alone = work_of(path, QUERIES["runs_of_status"], wanted)
        for number in range(50):
            db.create_run(f"good-{number}", "chat")
            db.update_run(f"good-{number}", status="completed")
        assert [row["run_id"] for row in db.list_runs(9, status="failed")] == [
            "bad-2",
            "bad-1",
            "bad-0",
        ]
    assert work_of(path, QUERIES["runs_of_status"], wanted) < 1.1 * alone


def test_the_run_row_tells_how_the_run_went(path: Path) -> None:
    """A completed run has its status, times in UTC, step count, last node and no error."""
    chat_flow(path, "chat-1").run(chat_store())

    (run,) = raw_rows(path, "SELECT * FROM pf_runs")

    assert run["run_id"] == "chat-1"
    assert run["flow_name"] == "chat"
    assert (run["status"], run["total_steps"]) == ("completed", 5)
    assert run["current_node"] == "Last"
    assert (run["error_msg"], run["error_type"], run["traceback"]) == (None, None, None)
    began, ended = (datetime.fromisoformat(run[c]) for c in ("started_at", "completed_at"))
    assert began.utcoffset() == ended.utcoffset() == timedelta(0)
    assert began <= ended


def test_store_json_is_the_exact_store_of_its_step(path: Path) -> None:
    """pf_checkpoints puts the whole store together: appends, deletions and not-saved marks."""
    chat_flow(path).run(chat_store())

    rows = raw_rows(path, "SELECT step, store_json FROM pf_checkpoints ORDER BY step")

    stores = [json.loads(row["store_json"]) for row in rows]
    mark = stores[1].pop("lock")
    assert [texts(store) for store in stores[:4]] == EXPECTED
    assert mark["$type"] == "not saved"
    assert mark["value"][0] == "_thread.lock"


def test_store_json_read_by_sql_and_by_the_library_are_one_text(path: Path) -> None:
    """get_checkpoints, store_json and the view give the same text for every step."""
    chat_flow(path, "chat-1").run(chat_store())

    by_sql = raw_rows(path, "SELECT * FROM pf_checkpoints ORDER BY step")

    with WorkflowDB(path) as db:
        assert [dict(row) for row in db.get_checkpoints("chat-1")] == by_sql
        assert [db.store_json("chat-1", step) for step in range(5)] == [
            row["store_json"] for row in by_sql
        ]


@pytest.mark.parametrize(
    "value",
    [
        [],
        [[]],
        [None],
        [1, 2.5, "x", None, True],
        "text with \"quotes\", 'apostrophes' and ünïcode \u2028 \U0001f986",
        {"nested": {"deep": [1, {"x": [2]}]}},
        9_007_199_254_740_993,
        -(2**63),
        0.1,
        1e300,
        "",
    ],
    ids=repr,
)
def test_store_json_of_plain_values_is_plain_json(path: Path, value: object) -> None:
    """What JSON can say is in store_json as JSON says it, whole or appended to a list."""

    class Put(Node):
        def post(self, store: Store[Any], prep: None, result: None) -> str:
            store["value"] = value
            store["list"].append(value)
            return "again" if len(store["list"]) < 3 else "done"

    node = Put()
    node.then("again", node).then("done", Last())
    Flow(start=node, db_path=path).run({"list": []})

    rows = raw_rows(path, "SELECT store_json FROM pf_checkpoints ORDER BY step")

    stores = [json.loads(row["store_json"]) for row in rows]
    assert stores[0] == {"value": value, "list": [value]}
    assert stores[2] == {"value": value, "list": [value] * 3}


@pytest.mark.parametrize(
    "key", ["", " ", "a'b", 'a"b', "a\nb", "ünï", "$type", "\ud800", "a\0b", "x" * 5000]
)
def test_any_text_is_a_key(db: WorkflowDB, key: str) -> None:
    """A store key is any string: it comes back as it was, and the view can still be read."""
    db.create_run("r")

    db.save_checkpoint("r", 0, "N", Store({key: 1, "other": 2}))

    assert db.load_checkpoint("r", step=0).as_dict() == {key: 1, "other": 2}
    assert json.loads(db.store_json("r", 0))["other"] == 2


def test_a_key_deleted_while_another_one_is_added_is_gone(db: WorkflowDB) -> None:
    """A step that deletes one key and adds another leaves a checkpoint without the first."""

    class Rename(Node):
        def post(self, store: Store[Any], prep: None, result: None) -> None:
            store["new"] = store.pop("old")

    Flow(start=Rename(), db_path=db, run_id="r").run({"old": 1})

    assert db.load_checkpoint("r", step=0).as_dict() == {"new": 1}
    assert json.loads(db.store_json("r", 0)) == {"new": 1}


@pytest.mark.parametrize("number", [2**63, -(10**30)])
def test_a_number_that_no_database_can_hold_is_that_of_nothing(db: WorkflowDB, number: int) -> None:
    """As of a step that somebody typed: it is not there, as any other."""
    flow = chat_flow(db, "r")
    flow.run(chat_store())
    for ask in (db.load_checkpoint, db.store_json, flow.fork):
        with pytest.raises(CheckpointNotFoundError, match=f"step {number}: it has steps 0 to"):
            ask("r", number)
    assert list(db.follow("r", after=abs(number))) == []


@pytest.mark.parametrize("name", ["a\0.db", "\ud83d.db", "n" * 300, "n" * 300 + "/a.db"])
def test_what_cannot_be_the_name_of_a_file_is_an_error_that_names_it(
    tmp_path: Path, name: str
) -> None:
    """To open it, to write and to read alike."""
    for read_only in (False, True):
        with pytest.raises(DatabaseFileError, match=r"n{300}|ud83d|x00"):
            WorkflowDB(f"{tmp_path}/{name}", read_only=read_only)


def test_names_with_lone_surrogates_do_not_break_a_run(
    db: WorkflowDB, caplog: pytest.LogCaptureFixture
) -> None:
    """A file name that Python decoded with surrogates may be in an error message."""
    caplog.set_level(logging.CRITICAL, "pocoflow")  # pytest-xdist cannot hand such text over

    class Fail(Node):
        def exec(self, prep: None) -> None:
            raise FileNotFoundError("no file caf\udce9.txt")

    with pytest.raises(FileNotFoundError):
        Flow(start=Fail(), db_path=db, run_id="r").run({})

    run = db.get_run("r")
    assert run is not None
    assert run["status"] == "failed"
    assert run["error_msg"] == "no file caf\\udce9.txt"


def test_deleting_a_run_removes_every_row_of_it_and_no_other(path: Path) -> None:
    """DELETE FROM pf_run takes the run's log, keys and values with it."""
    for run_id in ("first", "gone", "last"):
        chat_flow(path, run_id).run(chat_store())
    tables = raw_rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    owned = [
        table["name"]
        for table in tables
        if {"run_no", "run_id"}
        & {column["name"] for column in raw_rows(path, f"PRAGMA table_info({table['name']})")}
        or table["name"] == "pf_log"
    ]

    def counts() -> dict[str, int]:
        return {
            table: raw_rows(path, f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in owned
        }

    before = counts()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute("DELETE FROM pf_run WHERE run_id = 'gone'")
        raw.commit()

    assert {"pf_run", "pf_log", "pf_key", "pf_value"} <= set(owned)
    assert counts() == {table: count * 2 // 3 for table, count in before.items()}
    assert raw_rows(path, "PRAGMA foreign_key_check") == []
    with WorkflowDB(path) as db:
        assert texts(db.load_checkpoint("last", step=3).as_dict()) == EXPECTED[3]
        assert len(db.get_events("first")) == len(db.get_events("last")) == 12


def test_the_connection_of_a_run_keeps_foreign_keys_and_a_log(path: Path) -> None:
    """The file is in WAL mode, so that a monitor can read while a flow writes."""
    chat_flow(path).run(chat_store())

    assert raw_rows(path, "PRAGMA journal_mode") == [{"journal_mode": "wal"}]
    assert raw_rows(path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


# -- errors that say which file, which run and what was meant -----------------------------------


def test_a_run_id_that_is_used_already_is_refused(db: WorkflowDB, path: Path) -> None:
    """A second run of one id is refused, and the first one is left as it is."""
    chat_flow(db, "chat-1").run(chat_store())
    before = (db.list_runs(), db.get_events("chat-1"))

    with pytest.raises(RunExistsError, match="'chat-1'") as by_flow:
        chat_flow(db, "chat-1").run(chat_store())
    with pytest.raises(RunExistsError, match="'chat-1'") as by_hand:
        db.create_run("chat-1")

    for caught in (by_flow, by_hand):
        assert str(path) in str(caught.value)
        assert isinstance(caught.value, ValueError)
    assert (db.list_runs(), db.get_events("chat-1")) == before


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda db: db.save_event("kept", 5), "event= is a text"),
        (lambda db: db.save_event("kept", "e", step="1"), "step= is the number of a step"),
        (lambda db: db.save_event("kept", "e", step=True), "step= is the number of a step"),
        (lambda db: db.save_event("kept", "e", node_name=5), "node_name= is a text"),
        (lambda db: db.save_event("kept", "e", elapsed_ms="1"), "elapsed_ms= is a number"),
        (lambda db: db.save_event("kept", "e", elapsed_ms=math.nan), "elapsed_ms= is a number"),
        (lambda db: db.save_checkpoint("kept", 0, 5, {}), "node_name= is a text"),
        (lambda db: db.save_checkpoint("kept", -2, "n", {}), "step= is the number of a step"),
        (lambda db: db.update_run("kept", total_steps="1"), "total_steps= is a whole number"),
        (lambda db: db.update_run("kept", flow_name=5), "flow_name= is a text"),
    ],
    ids=["event", "step", "bool", "node", "elapsed", "nan", "of", "before", "steps", "flow"],
)
def test_what_a_reader_would_take_for_damage_is_refused_where_it_is_written(
    db: WorkflowDB, write: Callable[[WorkflowDB], object], said: str
) -> None:
    """A value of another type than its column holds is named, and the run can be read after it."""
    db.create_run("kept", "report")
    with pytest.raises(DefinitionError, match=said):
        write(db)
    assert db.get_events("kept") == db.get_checkpoints("kept") == []
    row = db.get_run("kept")
    assert row is not None
    assert (row["flow_name"], row["total_steps"]) == ("report", 0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda db: db.get_events("report-2"),
        lambda db: db.get_checkpoints("report-2"),
        lambda db: db.load_checkpoint("report-2", step=0),
        lambda db: db.save_event("report-2", "node_end"),
        lambda db: db.save_checkpoint("report-2", 0, "N", Store({})),
        lambda db: db.update_run("report-2", status="failed"),
    ],
    ids=["get_events", "get_checkpoints", "load", "save_event", "save_checkpoint", "update_run"],
)
def test_an_unknown_run_names_file_run_and_near_miss(
    db: WorkflowDB, path: Path, ask: Callable[[WorkflowDB], object]
) -> None:
    """A method that is asked for a run that is not there says so, and which one may be meant."""
    db.create_run("report-1")

    with pytest.raises(RunNotFoundError) as caught:
        ask(db)

    assert isinstance(caught.value, KeyError)
    for part in (str(path), "'report-2'", "did you mean 'report-1'?"):
        assert part in str(caught.value)


def test_get_run_of_an_unknown_run_is_none(db: WorkflowDB) -> None:
    """get_run answers None for a run that is not there."""
    assert db.get_run("nobody") is None


@pytest.mark.parametrize("step", [7, 5, -2])
def test_a_checkpoint_that_is_not_there_is_a_key_error_that_lists_what_is(
    db: WorkflowDB, step: int
) -> None:
    """load_checkpoint of a missing step raises KeyError and tells which steps there are."""
    chat_flow(db, "chat-1").run(chat_store())

    with pytest.raises(
        CheckpointNotFoundError, match=f"step {step}: it has steps 0 to 4"
    ) as caught:
        db.load_checkpoint("chat-1", step=step)

    assert isinstance(caught.value, KeyError)


def test_update_run_refuses_unknown_columns_and_statuses(db: WorkflowDB) -> None:
    """update_run names the column it does not know and the statuses that there are."""
    db.create_run("r")

    with pytest.raises(ValueError, match=r"no settable column 'statsu'.*did you mean 'status'"):
        db.update_run("r", statsu="failed")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"one of queued, running.*not 'done'"):
        db.update_run("r", status="done")  # type: ignore[arg-type]
    named: Any = {"status = 'failed' --": 1}
    with pytest.raises(ValueError, match="no settable column"):
        db.update_run("r", **named)

    run = db.get_run("r")
    assert run is not None
    assert run["status"] == "running"


def test_a_wrong_setting_is_refused(path: Path) -> None:
    """A value of synchronous other than FULL and NORMAL is refused before a file is made."""
    with pytest.raises(DefinitionError, match="'OFF'"):
        WorkflowDB(path, synchronous="OFF")  # type: ignore[arg-type]
    assert not path.exists()


# -- files that are not what they should be -----------------------------------------------------


def test_a_new_database_is_private(path: Path) -> None:
    """The file and the files beside it can be read by nobody else, whatever the umask."""
    before = os.umask(0)
    try:
        with WorkflowDB(path) as db:
            chat_flow(db).run(chat_store())
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert set(modes) >= {"runs.db", "runs.db-wal", "runs.db-shm", "runs.db-lock"}
    assert set(modes.values()) == {0o600}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_lock_file_is_for_those_who_have_the_database(path: Path) -> None:
    """Whoever may look at that sees who is alive; what root does leaves it to its owner."""
    WorkflowDB(path).close()
    path.chmod(0o640)
    owner = (os.getuid(), os.getgid()) if os.getuid() else (65534, 65534)
    os.chown(path, *owner)
    Flow(start=Node(), db_path=path).run({})
    about = path.with_name(f"{path.name}-lock").stat()
    assert (stat.S_IMODE(about.st_mode), (about.st_uid, about.st_gid)) == (0o640, owner)


def test_a_new_database_behind_a_dangling_link_is_private(tmp_path: Path) -> None:
    """A link whose target is not there yet gives a private file at the target."""
    link, target = tmp_path / "link.db", tmp_path / "target.db"
    link.symlink_to(target)

    WorkflowDB(link).close()

    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="POSIX only")
def test_no_file_is_made_behind_a_link_in_the_place_of_the_lock_file(path: Path) -> None:
    """A dangling link that somebody has put where the lock file goes is refused, not followed."""
    (path.parent / f"{path.name}-lock").symlink_to("victim")
    with pytest.raises(DatabaseFileError, match="lock"):
        Flow(start=Node(), db_path=path).run({})
    assert not (path.parent / "victim").exists()


def test_a_newer_layout_is_refused_and_left_alone(path: Path) -> None:
    """A file of a later version is refused with both numbers; not a byte of it changes."""
    WorkflowDB(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 999")
    before = files(path.parent)

    for read_only in (False, True):
        with pytest.raises(DatabaseFileError, match=r"layout 999.*upgrade") as caught:
            WorkflowDB(path, read_only=read_only)
        assert str(path) in str(caught.value)
    assert files(path.parent) == before


@pytest.mark.parametrize("version", [0, 1, 7])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_foreign_sqlite_database_is_refused_and_left_alone(
    path: Path, version: int, read_only: bool
) -> None:
    """Another program's SQLite file is refused, whatever its version number; it is not touched."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE bookmarks (url TEXT)")
        raw.execute(f"PRAGMA user_version = {version}")
    before = files(path.parent)

    with pytest.raises(DatabaseFileError, match=r"not of pocoflow.*bookmarks") as caught:
        WorkflowDB(path, read_only=read_only)

    assert str(path) in str(caught.value)
    assert files(path.parent) == before


PLANTED = {
    "trigger": """CREATE TRIGGER yes AFTER UPDATE OF answer ON pf_questions BEGIN
        UPDATE pf_questions SET answer = 'true' WHERE question = new.question; END""",
    "trigger on a view": "CREATE TRIGGER t INSTEAD OF DELETE ON pf_checkpoints BEGIN SELECT 1; END",
    "trigger, PF_RUNS": "CREATE TRIGGER t AFTER INSERT ON PF_RUN BEGIN SELECT 1; END",
    "our trigger is gone": "DROP TRIGGER pf_run_delete",
    "our trigger does nothing": """DROP TRIGGER pf_run_delete;
        CREATE TRIGGER pf_run_delete AFTER DELETE ON pf_run BEGIN SELECT 1; END""",
    "view for a table": """ALTER TABLE pf_graphs RENAME TO g;
        CREATE VIEW pf_graphs AS SELECT 1 AS graph_no, 'x' AS graph""",
    "another view": """DROP VIEW pf_checkpoints;
        CREATE VIEW pf_checkpoints AS SELECT 1 AS id""",
    "column": "ALTER TABLE pf_run ADD COLUMN more TEXT",
    "generated column": "ALTER TABLE pf_run ADD COLUMN more AS (upper(run_id))",
    "index": "CREATE UNIQUE INDEX one_of_each ON pf_run (flow_name)",
    "index is gone": "DROP INDEX pf_run_by_flow",
    "table is gone": "DROP TABLE pf_blob",
    "table": "CREATE TABLE pf_more (a)",
    "virtual table": "CREATE VIRTUAL TABLE pf_more USING fts5 (a)",
    "view": "CREATE VIEW Pf_More AS SELECT 1",
}


@pytest.mark.parametrize("sql", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_whose_objects_are_not_ours_is_refused(
    path: Path, sql: str, read_only: bool
) -> None:
    """Whatever is named pf_*, or is on such a table, is exactly ours, or the file is not used."""
    WorkflowDB(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(sql)
    before = files(path.parent)

    with pytest.raises(DatabaseFileError, match=re.escape(str(path))):
        WorkflowDB(path, read_only=read_only)

    assert files(path.parent) == before


def test_tables_of_other_people_in_the_file_are_left_alone(path: Path) -> None:
    """Their tables, indexes, triggers, and views and keys on our tables do not matter."""
    WorkflowDB(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(
            """
            CREATE TABLE notes (run_id TEXT REFERENCES pf_runs (run_id) ON DELETE CASCADE, note);
            CREATE INDEX notes_by_run ON notes (run_id);
            CREATE TRIGGER noted AFTER INSERT ON notes BEGIN SELECT 1; END;
            CREATE VIEW failed AS SELECT run_id FROM pf_runs WHERE status = 'failed';
            CREATE TABLE pfx_own (a);
            """
        )
    with WorkflowDB(path) as db:
        Flow(start=Node(), db_path=db, run_id="r").run({})
        assert db.prune(keep=0) == 1
    with WorkflowDB(path, read_only=True) as db:
        assert db.list_runs() == []


def test_a_file_runs_none_of_its_own_code(path: Path) -> None:
    """The schema of a file may call no function that does more than compute."""
    with WorkflowDB(path) as db:
        assert [tuple(row) for row in db.connection.rows("PRAGMA trusted_schema")] == [(0,)]
    with WorkflowDB(path, read_only=True) as db:
        assert [tuple(row) for row in db.connection.rows("PRAGMA trusted_schema")] == [(0,)]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, read_only: bool) -> None:
    """A text file is refused by name; it is not touched."""
    path.write_bytes(b"run,status\n1,completed\n" * 100)
    before = files(path.parent)

    with pytest.raises(DatabaseFileError, match="is not a SQLite database") as caught:
        WorkflowDB(path, read_only=read_only)

    assert str(path) in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert files(path.parent) == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_folder_in_its_place_is_refused(tmp_path: Path, read_only: bool) -> None:
    """A path that is a folder is refused by name."""
    with pytest.raises(DatabaseFileError, match=r"is a folder") as caught:
        WorkflowDB(tmp_path, read_only=read_only)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    """As for snapshots; a folder that cannot be made is told, and to look makes none."""
    path = tmp_path / "new" / "folder" / "runs.db"
    with pytest.raises(DatabaseFileError, match="there is no database"):
        WorkflowDB(path, read_only=True)
    assert not path.parent.exists()
    with WorkflowDB(path) as made:
        assert made.list_runs() == []
    with pytest.raises(DatabaseFileError, match=r"cannot be made") as caught:
        WorkflowDB(path / "below" / "runs.db")
    assert str(path / "below") in str(caught.value)


def test_a_flow_with_a_bad_database_runs_no_node(tmp_path: Path) -> None:
    """A database that cannot be opened stops the run before its first node."""
    ran = []

    class Mark(Node):
        def exec(self, prep: None) -> None:
            ran.append(1)

    with pytest.raises(DatabaseFileError):
        Flow(start=Mark(), db_path=tmp_path).run({})
    assert ran == []


def test_a_damaged_file_is_reported_by_name(path: Path) -> None:
    """A database whose pages were overwritten raises an error that names the file."""
    chat_flow(path, "chat-1").run({**chat_store(), "big": "x" * 200_000})
    content = bytearray(path.read_bytes())
    content[8192:-4096] = b"\xff" * (len(content) - 8192 - 4096)
    path.write_bytes(content)

    def read_all() -> None:
        with WorkflowDB(path) as db:
            for row in db.get_checkpoints("chat-1"):
                db.load_checkpoint("chat-1", step=row["step"])
            db.get_events("chat-1")

    with pytest.raises(DatabaseError) as caught:
        read_all()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["file:odd.db", "with space.db", "q?x=1#f%20.db", "ünï.db"])
def test_any_file_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A name that looks like a URI is a name; it is the same file for a writer and a reader."""
    monkeypatch.chdir(tmp_path)
    with WorkflowDB(name) as db:
        db.create_run("r")
        with WorkflowDB(name, read_only=True) as reader:
            assert len(reader.list_runs()) == 1
    with WorkflowDB(name, read_only=True) as reader:
        assert len(reader.list_runs()) == 1
    assert {p.name for p in tmp_path.iterdir()} == {name}


def test_a_change_of_the_working_folder_does_not_lead_astray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means the folder in which the database was opened."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with WorkflowDB("runs.db") as db:
        monkeypatch.chdir("elsewhere")
        chat_flow(db, "chat-1").run(chat_store())
        run = db.get_run("chat-1")
    assert run is not None
    assert run["status"] == "completed"
    assert list((tmp_path / "elsewhere").iterdir()) == []


# -- read-only ----------------------------------------------------------------------------------


def test_read_only_never_creates_a_file(tmp_path: Path) -> None:
    """A read-only database that is not there is an error, and still not there."""
    with pytest.raises(DatabaseFileError, match=r"there is no database .*runs\.db"):
        WorkflowDB(tmp_path / "runs.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_read_only_of_an_empty_file_says_that_nothing_was_written(path: Path) -> None:
    """An empty file is no error of SQLite's, but has nothing to show; it stays empty."""
    path.touch()
    with pytest.raises(DatabaseFileError, match="is empty"):
        WorkflowDB(path, read_only=True)
    assert files(path.parent) == {"runs.db": b""}


def test_read_only_leaves_every_byte_and_the_folder_as_they_were(path: Path) -> None:
    """Reading everything through a read-only database changes no file and makes none."""
    with WorkflowDB(path) as db:
        chat_flow(db, "chat-1").run(chat_store())
    before = files(path.parent)

    with WorkflowDB(path, read_only=True) as db:
        assert db.list_runs()[0]["status"] == "completed"
        assert len(db.get_events("chat-1")) == 12
        assert texts(db.load_checkpoint("chat-1", step=2).as_dict()) == EXPECTED[2]
        assert json.loads(db.store_json("chat-1", 0))["turn"] == 1
        during = {p.name for p in path.parent.iterdir()}

    assert during == set(before)
    assert files(path.parent) == before


def test_read_only_follows_what_others_write_afterwards(path: Path) -> None:
    """A reader that was opened while nobody wrote sees the runs of a writer that came later."""
    with WorkflowDB(path) as db:
        db.create_run("first")
    with WorkflowDB(path, read_only=True) as reader:
        assert [run["run_id"] for run in reader.list_runs()] == ["first"]
        with WorkflowDB(path) as writer:
            writer.create_run("second")
            assert [run["run_id"] for run in reader.list_runs()] == ["second", "first"]
            writer.create_run("third")
            assert len(reader.list_runs()) == 3
        with WorkflowDB(path) as writer:
            writer.create_run("fourth")
        assert len(reader.list_runs()) == 4


@pytest.mark.parametrize(
    "write",
    [
        lambda db: db.create_run("new"),
        lambda db: db.update_run("r", status="failed"),
        lambda db: db.save_event("r", "node_end"),
        lambda db: db.save_checkpoint("r", 0, "N", Store({})),
        lambda db: Flow(start=Last(), db_path=db).run({}),
    ],
    ids=["create_run", "update_run", "save_event", "save_checkpoint", "flow.run"],
)
def test_read_only_refuses_to_write(path: Path, write: Callable[[WorkflowDB], object]) -> None:
    """Every way to write through a read-only database is an error that names it."""
    with WorkflowDB(path) as db:
        db.create_run("r")
    before = files(path.parent)

    with WorkflowDB(path, read_only=True) as db:
        with pytest.raises(DatabaseFileError, match="read-only") as caught:
            write(db)
        assert str(path) in str(caught.value)

    assert files(path.parent) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_read_only_works_in_a_folder_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    """A database on a read-only file system can be read."""
    with WorkflowDB(path) as db:
        chat_flow(db, "chat-1").run(chat_store())
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount = ["mount", "--bind", "-o", "ro", str(tmp_path), str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mount is not allowed here")
    try:
        with WorkflowDB(folder / "runs.db", read_only=True) as db:
            assert db.list_runs()[0]["status"] == "completed"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# -- several openings ---------------------------------------------------------------------------


def test_threads_share_one_database(db: WorkflowDB) -> None:
    """Threads may use one WorkflowDB at once: every run of theirs is there and complete."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                chat_flow(db, f"run-{number}-{turn}").run(chat_store())
                db.list_runs()
        except BaseException as exc:  # noqa: BLE001 - shown by the assert below
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    runs = db.list_runs()
    assert len(runs) == 40
    assert {run["status"] for run in runs} == {"completed"}
    assert {len(db.get_events(run["run_id"])) for run in runs} == {12}


def test_a_writer_that_waits_in_vain_is_told_who_and_how_long(path: Path) -> None:
    """A database locked for longer than the busy timeout is a TimeoutError that names the file."""
    with WorkflowDB(path, busy_timeout=0.05) as db, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusyError, match=r"locked .* 0\.05 seconds") as caught:
            db.create_run("r")
        assert str(path) in str(caught.value)
        assert isinstance(caught.value, TimeoutError)
        assert db.list_runs() == []
        other.rollback()
        db.create_run("r")
        assert len(db.list_runs()) == 1


def test_two_databases_in_memory_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database ":memory:" belongs to its object, runs flows as a file does, leaves no file."""
    monkeypatch.chdir(tmp_path)
    with WorkflowDB(":memory:") as first, WorkflowDB(":memory:") as second:
        chat_flow(first, "chat-1").run(chat_store())

        assert texts(first.load_checkpoint("chat-1", step=2).as_dict()) == EXPECTED[2]
        assert first.list_runs()[0]["status"] == "completed"
        assert second.list_runs() == []
    assert list(tmp_path.iterdir()) == []


# -- closing ------------------------------------------------------------------------------------


def test_a_closed_database_says_so(path: Path) -> None:
    """Every use after close() is an error that names the file; closing twice is none."""
    db = WorkflowDB(path)
    db.create_run("r")
    db.close()
    db.close()

    for use in (db.list_runs, lambda: db.create_run("s"), lambda: db.get_events("r")):
        with pytest.raises(DatabaseError, match="is closed") as caught:
            use()
        assert str(path) in str(caught.value)


def test_closing_leaves_one_file_and_its_lock_file(path: Path) -> None:
    """After the last close the log is folded into the file, so that it can be copied by itself."""
    with WorkflowDB(path) as db:
        chat_flow(db).run(chat_store())
    assert {p.name for p in path.parent.iterdir()} == {"runs.db", "runs.db-lock"}


def test_every_error_of_the_database_is_ours(path: Path, db: WorkflowDB) -> None:
    """No sqlite3 error leaves the library: what SQLite says comes as a PocoflowError."""
    db.create_run("r")
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TABLE pf_log")
        raw.commit()
    with pytest.raises(PocoflowError, match="pf_log") as caught:
        db.store_json("r", 0)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, sqlite3.Error)


@pytest.mark.parametrize("query", QUERIES)
def test_no_statement_mixes_numbers_and_places_of_values(query: str) -> None:
    """``?1`` is a named parameter to Python, which from 3.14 on takes no sequence for it."""
    assert not re.search(r"\?\d", QUERIES[query])
