"""Programs that end after they left a stream of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pocoflow import WorkflowDB

LEFT = """
import asyncio, sys, time
from pocoflow import Flow, Node
from pocoflow.events import NodeStarted


class Slow(Node):
    def exec(self, prep_result):
        time.sleep(SECONDS)

    def post(self, store, prep_result, result):
        return "again"


node = Slow()
flow = Flow(node.then("again", node), db_path="runs.db", run_id="r")


def first(events):
    for event in events:
        if isinstance(event, NodeStarted):
            return event


def leaves():
    for event in flow.stream({}):
        break


def raises():
    for event in flow.stream({}):
        raise ValueError("of the reader")


def exits():
    for event in flow.stream({}):
        sys.exit(1)


def closes():
    events = flow.stream({})
    first(events)
    events.close()


def keeps():
    globals()["kept"] = flow.stream({})
    first(kept)


def cancels():
    flow.run_background({}).cancel()


async def leaves_async():
    async for event in flow.stream_async({}):
        if isinstance(event, NodeStarted):
            break


async def keeps_async():
    globals()["kept"] = flow.stream_async({})
    await anext(kept)


how = globals()[HOW]
asyncio.run(how()) if HOW.endswith("_async") else how()
"""


@pytest.mark.parametrize("seconds", [0.01, 600])
@pytest.mark.parametrize("how", ["leaves", "raises", "exits", "closes", "keeps", "cancels"])
def test_a_program_that_ends_after_it_left_a_stream_leaves_no_running_run(
    how: str, seconds: float, tmp_path: Path
) -> None:
    """The run is recorded as cancelled, and an exec in flight does not hold the program up."""
    text = f"HOW, SECONDS = {how!r}, {seconds}\n{LEFT}"
    ended = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    assert ended.returncode == (how in ("raises", "exits"))
    with WorkflowDB(tmp_path / "runs.db", read_only=True) as db:
        assert db.handle("r").status == "cancelled"


@pytest.mark.parametrize("how", ["leaves_async", "keeps_async"])
def test_a_program_that_ends_after_it_left_an_asynchronous_stream(how: str, tmp_path: Path) -> None:
    """The run is recorded as cancelled, and nothing is written to stderr."""
    text = f"HOW, SECONDS = {how!r}, 0.01\n{LEFT}"
    ended = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    with WorkflowDB(tmp_path / "runs.db", read_only=True) as db:
        assert db.handle("r").status == "cancelled"
