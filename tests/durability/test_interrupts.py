"""A short form of the trial of runs that are interrupted anywhere."""

from __future__ import annotations

import gc
import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, WorkflowDB
from pocoflow.engine import companion
from tests.durability.interrupts import Interrupt, Way, interrupt_everywhere, is_below
from tests.waiting import wait_for


@pytest.mark.parametrize("way", ["run", "background", "awaiting"])
@pytest.mark.parametrize("first", [1, 4])
def test_ctrl_c_at_any_instant_leaves_a_run_that_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, way: Way, first: int
) -> None:
    """Wherever a Ctrl-C strikes: not running, steps and checkpoints agree, the database works."""
    caplog.set_level(logging.CRITICAL, "pocoflow")
    assert interrupt_everywhere(tmp_path, way, first, 7) > 30


class Awaits(Node):
    """Has something to be awaited."""

    async def exec(self, prep_result: object) -> None:
        """Return at once."""


def test_ctrl_c_on_the_way_to_the_loop_leaves_nothing_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Python complains of no coroutine that nobody awaits, and of no task that nobody ends."""
    flow: Flow[Any] = Flow(Awaits())
    flow.on("flow_end", lambda steps, store: None)  # so that it is not handed over as a whole

    def where(frame: Any) -> bool:
        return frame.f_code.co_filename == companion.__file__ and is_below(frame, "_in_task")

    with Interrupt(0, where) as counted:
        flow.run()
    assert counted.places > 3
    for at in range(1, counted.places + 1):
        with Interrupt(at, where), suppress(KeyboardInterrupt):
            flow.run()
    gc.collect()
    assert [one.getMessage() for one in caplog.records if one.name == "asyncio"] == []


def test_ctrl_c_as_a_thread_is_started_leaves_no_run_at_work(tmp_path: Path) -> None:
    """Python keeps a thread that was interrupted before it began; its run has ended, though."""

    def where(frame: Any) -> bool:
        return frame.f_code is threading.Thread.start.__code__

    with WorkflowDB(tmp_path / "runs.db") as db:
        for at in range(1, 6):
            flow: Flow[Any] = Flow(Node(), db_path=db, run_id=f"r{at}")
            with Interrupt(at, where), suppress(KeyboardInterrupt):
                _ = flow.run_background()
            wait_for(lambda: db.list_runs(1)[0]["status"] != "running", "it is at work")
        assert {run["status"] for run in db.list_runs()} <= {"completed", "cancelled", "failed"}
