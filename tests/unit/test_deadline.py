"""The deadline of a run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocoflow import END, Flow, Node, Parallel, RunCancelled, Store, WorkflowDB, context, node
from pocoflow.errors import DeadlineError, DefinitionError
from tests.rows import row_of
from tests.waiting import wait_for

SOON = 0.02
NEVER = 600.0


class Hang(Node):
    """Waits in a way of its own until somebody ends the run."""

    def __init__(self, how: str) -> None:
        super().__init__(name="hang")
        self.how = how
        self.retry_delay = NEVER
        self.max_retries = 2 if how == "delay" else 1

    def exec(self, prepared: None) -> Any:
        if self.how == "await":
            return self._wait()
        if self.how == "delay":
            raise OSError("again later")
        ended = threading.Event()
        context().cancellation.add_callback(ended.set)
        assert ended.wait(60)
        return context().check_cancelled()

    async def _wait(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("how", ["await", "delay", "look"])
@pytest.mark.parametrize("driver", ["run", "run_async", "run_background"])
@pytest.mark.parametrize("place", ["alone", "branch"])
def test_a_late_run_is_stopped_and_fails(how: str, driver: str, place: str, tmp_path: Path) -> None:
    """At its deadline a run stops in an await, a delay, or where ``exec`` looks; it has failed."""
    start: Node[Any, Any, Any] = Hang(how)
    if place == "branch":
        start = Parallel(start, name="fork")
    flow = Flow(start, deadline=SOON, db_path=tmp_path / "runs.db", run_id="late")
    runs: dict[str, Callable[[], object]] = {
        "run": lambda: flow.run({}),
        "run_async": lambda: asyncio.run(flow.run_async({})),
        "run_background": lambda: flow.run_background({}).wait(),
    }
    with pytest.raises(DeadlineError, match=r"run 'late' .* deadline of 0\.02 seconds") as caught:
        runs[driver]()
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value.__cause__, RunCancelled)
    with WorkflowDB(tmp_path / "runs.db") as db:
        row = row_of(db, "late")
    assert (row["status"], row["error_type"]) == ("failed", "pocoflow.errors.DeadlineError")


def test_a_run_in_time_is_left_alone() -> None:
    """A run that ends before its deadline completes, and no thread is left waiting."""
    before = threading.active_count()

    @node
    def work(store: Store[Any]) -> None:
        store["done"] = True

    flow = Flow(work, deadline=NEVER)
    assert flow.run({})["done"]
    assert asyncio.run(flow.run_async({}))["done"]
    wait_for(lambda: threading.active_count() <= before, "a thread is left waiting")


def test_a_late_run_goes_on_with_a_deadline_of_its_own(tmp_path: Path) -> None:
    """A resume has the whole deadline again: it counts from there."""
    hang = Hang("await")
    flow = Flow(hang, deadline=SOON, db_path=tmp_path / "runs.db", run_id="late")
    with pytest.raises(DeadlineError):
        flow.run({})
    with pytest.raises(DeadlineError):
        flow.resume("late")
    again = Flow(hang, deadline=NEVER, flow_name="hang", db_path=tmp_path / "runs.db")
    handle = again.resume_background("late")
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.wait()
    assert handle.status == "cancelled"


def test_a_late_run_is_not_caught() -> None:
    """An edge for every exception does not take a run past its deadline."""
    hang = Hang("await")
    flow: Flow[Any] = Flow(hang, deadline=SOON)
    flow.then(hang, END).then(hang.catch(Exception), END)
    with pytest.raises(DeadlineError):
        flow.run({})


@pytest.mark.parametrize("deadline", [0, -1, True, "5", float("nan"), float("inf")])
def test_a_deadline_without_sense_is_refused(deadline: Any) -> None:
    """A deadline is a finite number of seconds above 0."""
    with pytest.raises(DefinitionError, match=r"Flow\(deadline="):
        Flow(Hang("await"), deadline=deadline)
