"""What becomes of a run whose task is cancelled while its beginning is being written."""

import asyncio
import gc
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, WorkflowDB


class Ask(Node):
    async def exec(self, prep_result: Any) -> None:
        await asyncio.Event().wait()


def test_a_task_cancelled_at_the_start_leaves_no_running_run(tmp_path: Path) -> None:
    """A run that is on record when its task is cancelled is recorded as cancelled."""
    path = tmp_path / "runs.db"
    flow = Flow(start=Ask(), db_path=path, run_id="ask-1")

    async def give_up_at_once() -> None:
        async with asyncio.timeout(0):
            await flow.run_async({})

    with pytest.raises(TimeoutError):
        asyncio.run(give_up_at_once())
    with WorkflowDB(path) as db:
        (run,) = db.list_runs()
        assert run["status"] == "cancelled"
        assert db.get_events("ask-1")[-1]["event"] == "flow_cancelled"


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_loop_closed_at_the_start_leaves_no_running_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the beginning has come to, the run is nobody's afterwards, and no error is told."""
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_value))
    path = tmp_path / "runs.db"
    with WorkflowDB(path) as db:
        for number, steps in enumerate((1, 2, 3, 50)):
            run_id = f"ask-{number}"
            flow = Flow(start=Ask(), db_path=path, run_id=run_id)
            loop = asyncio.new_event_loop()
            task = loop.create_task(flow.run_async({}))
            for _ in range(steps):
                loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            del flow, loop, task
            gc.collect()
            until = time.monotonic() + 60
            while (run := db.get_run(run_id)) is None or run["status"] == "running":
                assert time.monotonic() < until, (run_id, run)
                gc.collect()
            assert run["status"] in ("failed", "cancelled")
    assert told == []
