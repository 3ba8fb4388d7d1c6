"""Retention: which runs go, what goes with them, and what never does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, Store, WorkflowDB
from pocoflow.errors import DatabaseFileError, RunNotFoundError
from tests.rows import raw_of
from tests.unit.gates import Gate

DAY = timedelta(days=1)
TABLES = ("pf_log", "pf_key", "pf_value", "pf_events")


class Work(Node):
    """Writes a little; fails in post, after its result was journaled, if the store says so."""

    def exec(self, prepared: None) -> str:
        return "result"

    def post(self, store: Store[Any], prepared: None, result: str) -> str:
        if store.get("fail"):
            raise ValueError("told to")
        store["result"] = result
        return "done"


class Other(Work):
    """Another definition, so another graph."""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[WorkflowDB]:
    """A database in a file."""
    with WorkflowDB(tmp_path / "runs.db") as database:
        yield database


def run(db: WorkflowDB, run_id: str, name: str = "work", **values: Any) -> None:
    """A run that is completed, or failed if told to."""
    flow: Flow[Any] = Flow(Work(), db_path=db, flow_name=name, run_id=run_id)
    try:
        flow.run(values)
    except ValueError:
        assert values["fail"]


def ended(db: WorkflowDB, run_id: str, ago: timedelta) -> None:
    """Let a run have ended some time ago."""
    db.update_run(run_id, completed_at=(datetime.now(UTC) - ago).isoformat())


def left(db: WorkflowDB) -> list[str]:
    """The ids of the runs, first created first."""
    return [one["run_id"] for one in reversed(db.list_runs())]


def count(db: WorkflowDB, table: str) -> int:
    """How many rows a table has."""
    return int(db.connection.rows(f"SELECT count(*) FROM {table}")[0][0])


def test_old_runs_go_by_their_age(db: WorkflowDB) -> None:
    """``older_than`` counts from the end of a run, not from its start."""
    for run_id, days in (("a", 40), ("b", 31), ("c", 29), ("d", 0)):
        run(db, run_id)
        db.update_run(run_id, started_at=(datetime.now(UTC) - 99 * DAY).isoformat())
        ended(db, run_id, days * DAY)
    assert db.prune(older_than=30 * DAY) == 2
    assert left(db) == ["c", "d"]
    assert db.prune(older_than=30 * DAY) == 0


def test_the_newest_runs_are_kept_by_their_number(db: WorkflowDB) -> None:
    """``keep`` leaves so many of the newest, by the order of creation and not by the clock."""
    for run_id in "abcde":
        run(db, run_id)
    ended(db, "e", 99 * DAY)
    assert db.prune(keep=2) == 3
    assert left(db) == ["d", "e"]
    assert db.prune(keep=5) == 0
    assert db.prune(keep=0) == 2
    assert left(db) == []


def test_age_and_number_must_both_allow_it(db: WorkflowDB) -> None:
    """With both limits a run goes only if it is old and not among the newest."""
    for run_id in "abc":
        run(db, run_id)
    ended(db, "a", 9 * DAY)
    ended(db, "c", 9 * DAY)
    assert db.prune(older_than=7 * DAY, keep=1) == 1
    assert left(db) == ["b", "c"]


def test_only_runs_of_the_status_and_flow_go(db: WorkflowDB) -> None:
    """``status`` and ``flow_name`` say which runs are meant; ``keep`` counts among those."""
    run(db, "good-1")
    run(db, "bad-1", fail=True)
    run(db, "bad-2", fail=True)
    run(db, "other-bad", "other", fail=True)
    assert db.prune(keep=1, status="failed", flow_name="work") == 1
    assert left(db) == ["good-1", "bad-2", "other-bad"]
    assert db.prune(keep=0, status=["failed", "completed"], flow_name="work") == 2
    assert left(db) == ["other-bad"]


def test_all_that_belongs_to_a_run_goes_with_it(db: WorkflowDB) -> None:
    """Events, checkpoints, positions, journal and a graph that no run has any more are gone."""
    run(db, "old", fail=True)
    assert count(db, "pf_log WHERE kind = 3") == 1
    Flow(Other(), db_path=db, flow_name="other", run_id="new").run({})
    before = {table: count(db, table) for table in TABLES}
    events = db.get_events("new")
    assert count(db, "pf_graphs") == 2
    assert db.prune(keep=1) == 1
    assert all(count(db, table) < before[table] for table in TABLES)
    assert count(db, "pf_graphs") == 1
    assert db.get_events("new") == events
    assert db.load_checkpoint("new", 0)["result"] == "result"
    with pytest.raises(RunNotFoundError):
        db.get_events("old")
    assert [row[0] for row in db.connection.rows("PRAGMA integrity_check")] == ["ok"]
    assert db.connection.rows("PRAGMA foreign_key_check") == []


def test_a_live_run_is_never_removed(db: WorkflowDB) -> None:
    """A run that works is left alone, whatever is asked for; once it has ended it may go."""
    gate = Gate()
    handle = Flow(gate, db_path=db, flow_name="hold").run_background({})
    assert gate.entered.wait(60)
    with WorkflowDB(db.path) as reader:
        for one in (db, reader):
            assert one.prune(keep=0) == 0
            assert one.prune(keep=0, status=["failed", "completed"]) == 0
    gate.opened.set()
    handle.wait()
    assert handle.status == "completed"
    assert db.prune(keep=0) == 1


def test_a_live_run_in_memory_is_never_removed() -> None:
    """In a database in memory, too, a run that works is left alone."""
    gate = Gate()
    with WorkflowDB(":memory:") as db:
        run(db, "ended")
        handle = Flow(gate, db_path=db, run_id="live").run_background({})
        assert gate.entered.wait(60)
        assert db.prune(keep=0) == 1
        assert left(db) == ["live"]
        gate.opened.set()
        handle.wait()


def test_an_interrupted_run_counts_as_failed(db: WorkflowDB) -> None:
    """A run whose process is gone goes like any failed one, by the age of its last event."""
    run(db, "r")
    with db.connection.transaction() as raw:
        raw.execute("UPDATE pf_run SET status = 'running', owned = 1, completed_at = NULL")
    assert db.prune(older_than=DAY) == 0
    assert db.prune(keep=0, status="completed") == 0
    assert db.prune(keep=0, status="failed") == 1


def test_runs_that_wait_are_kept_unless_they_are_named(db: WorkflowDB) -> None:
    """Queued and paused runs wait for somebody: only ``status=`` removes them."""
    for status in ("queued", "paused"):
        db.create_run(status)
        db.update_run(status, status=status)
    assert db.prune(keep=0) == 0
    assert db.prune(keep=0, status="queued") == 1
    assert left(db) == ["paused"]


def test_a_dry_run_counts_and_removes_nothing(db: WorkflowDB) -> None:
    """``dry_run`` tells how many runs would go."""
    for run_id in "abc":
        run(db, run_id)
    assert db.prune(keep=1, dry_run=True) == 2
    assert left(db) == ["a", "b", "c"]


def test_a_fork_outlives_its_parent(db: WorkflowDB) -> None:
    """The runs that were forked from a removed one are whole, and still name it."""
    flow: Flow[Any] = Flow(Work(), db_path=db, run_id="parent")
    flow.run({})
    child = flow.fork("parent", -1)
    flow.resume(child)
    assert db.prune(keep=1) == 1
    found = db.get_run(child)
    assert found is not None
    assert (found["parent_run_id"], found["status"]) == ("parent", "completed")
    assert db.load_checkpoint(child, 0)["result"] == "result"


def test_vacuum_gives_the_room_back(db: WorkflowDB) -> None:
    """Removing runs makes room in the file; vacuum makes the file smaller."""
    path = Path(db.path)
    for number in range(5):
        run(db, f"run-{number}", text=f"{number}" * 200_000)
    db.vacuum()
    before = path.stat().st_size
    db.prune(keep=1)
    db.vacuum()
    assert path.stat().st_size < before / 3
    assert path.with_name("runs.db-wal").stat().st_size == 0
    assert db.load_checkpoint("run-4", 0)["result"] == "result"


def test_new_runs_use_the_room_of_removed_ones(db: WorkflowDB) -> None:
    """Without vacuum the file does not grow while as much is removed as is written."""
    sizes = []
    for number in range(12):
        run(db, f"run-{number}", text=f"{number:02}" * 100_000)
        db.prune(keep=1)
        sizes.append(db.connection.rows("PRAGMA page_count")[0][0])
    assert sizes[-1] <= sizes[3]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "name older_than= or keep="),
        ({"keep": -1}, "not below zero"),
        ({"older_than": -DAY}, "not below zero"),
        ({"keep": 1, "status": "complete"}, "not 'complete'"),
        ({"keep": 1, "status": ["failed", "dead"]}, "not 'dead'"),
    ],
)
def test_a_request_that_makes_no_sense_removes_nothing(
    db: WorkflowDB, given: dict[str, Any], told: str
) -> None:
    """Without a limit, or with a status that there is not, prune refuses and says why."""
    run(db, "r")
    with pytest.raises(ValueError, match=told):
        db.prune(**given)
    assert left(db) == ["r"]


def test_a_read_only_database_is_not_pruned(db: WorkflowDB) -> None:
    """A reader cannot remove anything."""
    run(db, "r")
    with WorkflowDB(db.path, read_only=True) as reader:
        for remove in (lambda: reader.prune(keep=0), reader.vacuum):
            with pytest.raises(DatabaseFileError, match="read-only"):
                remove()
    assert left(db) == ["r"]


def removed_while_read(db: WorkflowDB, of: str) -> Callable[[], int]:
    """Have another process remove all runs once, right before something is read of a table."""
    other, found = WorkflowDB(db.path), list[int]()

    def look(sql: str) -> None:
        if of in sql and not found:
            found.append(0)
            found[0] = other.prune(keep=0, whole_threads=True)
            other.close()

    raw_of(db).set_trace_callback(look)
    return lambda: found[0]


@pytest.mark.parametrize("of", ["FROM pf_value", "FROM pf_graphs", "FROM pf_log"])
@pytest.mark.parametrize(
    "read",
    [
        lambda flow, db: db.load_checkpoint("r", 0),
        lambda flow, db: flow.fork("r", step=0),
        lambda flow, db: db.handle("r").wait(),
    ],
    ids=["load", "fork", "wait"],
)
def test_a_run_that_is_removed_while_it_is_read_is_not_there(
    db: WorkflowDB, read: Callable[[Flow[Any], WorkflowDB], object], of: str
) -> None:
    """No part of it is taken for the whole: not as a store, and not by a fork."""
    flow: Flow[Any] = Flow(Work(), db_path=db, flow_name="work")
    second = Other()
    flow.then(flow.start.when("done"), second)
    flow.run({"given": 1}, run_id="r")
    removed = removed_while_read(db, of)
    with pytest.raises(RunNotFoundError):
        read(flow, db)
    assert removed() == 1
    assert left(db) == []


def test_a_turn_whose_last_run_is_removed_begins_with_its_inputs(db: WorkflowDB) -> None:
    """As if it had been removed before; nothing is half there."""
    flow: Flow[Any] = Flow(Work(), db_path=db, flow_name="work")
    flow.run({"said": "a", "kept": 1}, thread="t")
    removed = removed_while_read(db, "FROM pf_value")
    assert flow.run({"said": "b"}, thread="t").as_dict() == {"said": "b", "result": "result"}
    assert removed() == 1
