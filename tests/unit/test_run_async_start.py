"""What becomes of a run whose task is cancelled while its beginning is being written."""

import asyncio
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
