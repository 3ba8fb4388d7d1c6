"""``db.handle(run_id)``: a run is watched, waited for and stopped from any process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocoflow import AskNode, Flow, Node, Question, RunCancelled, RunPaused, Store, WorkflowDB
from pocoflow.db.stored_handle import StoredRunHandle
from pocoflow.errors import RunFailedError, RunNotFoundError
from tests.unit.gates import Gate


class GateThen(Gate):
    """Waits until it is opened, then does what it was told."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.then_do = then

    def exec(self, prep_result: Any) -> None:
        super().exec(prep_result)
        self.then_do()

    def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> str:
        store["done"] = True
        return "done"


class Ask(AskNode[bool]):
    def prep(self, store: Store[Any]) -> Question[bool]:
        return Question("Go on?")


def fail() -> None:
    """End the run with an exception of its own."""
    raise ConnectionError("down")


async def awaited(handle: StoredRunHandle) -> Store[Any]:
    """What awaiting a handle gives."""
    return await handle


WAITS: dict[str, Callable[[StoredRunHandle], Store[Any]]] = {
    "wait": lambda handle: handle.wait(60),
    "await": lambda handle: asyncio.run(awaited(handle)),
}


@pytest.fixture
def db(tmp_path: Path) -> WorkflowDB:
    """A second look at the database of the flow."""
    return WorkflowDB(tmp_path / "runs.db")


@pytest.mark.parametrize("way", WAITS.values(), ids=list(WAITS))
def test_a_run_is_waited_for_that_somebody_else_runs(
    way: Callable[[StoredRunHandle], Store[Any]], db: WorkflowDB
) -> None:
    """The store is that of its last step."""
    gate = GateThen()
    run = Flow(gate, db_path=db.path).run_background({"given": 1})
    handle = db.handle(run.run_id)
    assert (handle.status, handle.is_done) == ("running", False)
    with pytest.raises(TimeoutError, match="is running after 0 seconds"):
        handle.wait(0)
    gate.opened.set()
    assert way(handle).as_dict() == {"given": 1, "done": True}
    assert (handle.status, handle.is_done) == ("completed", True)
    assert run.wait(60)["done"]


@pytest.mark.parametrize("way", WAITS.values(), ids=list(WAITS))
def test_what_ended_a_run_is_raised(
    way: Callable[[StoredRunHandle], Store[Any]], db: WorkflowDB
) -> None:
    """A failure with its type and traceback, a cancellation, a pause with its questions."""
    gate = GateThen(fail)
    gate.opened.set()
    run_id = Flow(gate, db_path=db.path).run_background({}).run_id
    with pytest.raises(RunFailedError, match="down") as caught:
        way(db.handle(run_id))
    error = caught.value
    assert (error.run_id, error.error_type) == (run_id, "ConnectionError")
    assert "in fail" in error.traceback

    gate = GateThen()
    cancelled: Flow[Any] = Flow(gate, db_path=db.path)
    cancelled.then(gate.when("done"), Node())
    run = cancelled.run_background({})
    assert gate.entered.wait(60)
    assert db.handle(run.run_id).cancel()
    gate.opened.set()
    with pytest.raises(RunCancelled, match=run.run_id):
        way(db.handle(run.run_id))

    paused = Flow(Ask(), db_path=db.path).run_background({}).run_id
    with pytest.raises(RunPaused) as waits:
        way(db.handle(paused))
    assert (waits.value.run_id, waits.value.questions) == (paused, (1,))


def test_a_fork_is_waited_for_until_somebody_runs_it(db: WorkflowDB) -> None:
    """``queued`` is no end."""
    gate = GateThen()
    gate.opened.set()
    flow: Flow[Any] = Flow(gate, db_path=db.path)
    flow.run_id = "r"
    flow.run({})
    handle = db.handle(flow.fork("r", -1))
    assert (handle.status, handle.is_done) == ("queued", False)
    with pytest.raises(TimeoutError, match="queued"):
        handle.wait(0)
    _ = flow.resume_background(handle.run_id)
    assert handle.wait(60)["done"]


def test_a_run_that_is_not_there_has_no_handle(db: WorkflowDB) -> None:
    """Neither before nor after it was removed."""
    with pytest.raises(RunNotFoundError, match="'r'"):
        _ = db.handle("r")
    gate = GateThen()
    gate.opened.set()
    flow: Flow[Any] = Flow(gate, db_path=db.path, run_id="r")
    flow.run({})
    handle = db.handle("r")
    db.prune(keep=0)
    with pytest.raises(RunNotFoundError, match="'r'"):
        handle.wait()
