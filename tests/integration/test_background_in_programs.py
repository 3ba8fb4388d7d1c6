"""Runs in the background, and the loop of asynchronous ones, in programs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pocoflow import WorkflowDB

WAIT = 120.0
"""Seconds after which something that should have happened long ago is given up."""

_LEAVING = """
import sys, threading
from pocoflow import Flow, Node

entered = threading.Event()

class Blocks(Node):
    def exec(self, prep_result):
        entered.set()
        threading.Event().wait({wait})

handle = Flow(Blocks(), db_path=sys.argv[1]).run_background()
entered.wait({wait})
print(handle.run_id)
"""


def test_a_program_may_leave_while_a_run_goes_on(tmp_path: Path) -> None:
    """It leaves at once with its own exit code, and the run reads as failed: interrupted."""
    path = tmp_path / "runs.db"
    program = subprocess.run(
        [sys.executable, "-c", _LEAVING.format(wait=WAIT), str(path)],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )
    assert program.stderr == ""
    with WorkflowDB(path) as db:
        run = db.get_run(program.stdout.strip())
    assert run is not None
    assert run["status"] == "failed"
    assert "interrupted" in (run["error_msg"] or "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_a_loop_of_its_own() -> None:
    """The thread of the parent's loop is not in the child."""
    program = """
import asyncio, os, sys
from pocoflow import Flow, Node
class Ask(Node):
    async def exec(self, given):
        await asyncio.sleep(0)
        return 1
Flow(Ask()).run({})
child = os.fork()
if not child:
    Flow(Ask()).run({})
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
Flow(Ask()).run({})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


FORGOTTEN = """
import threading
from pocoflow import Flow, Node

class Fails(Node):
    def exec(self, prep_result):
        raise LookupError("no such page")

class FailsLater(Node):
    async def exec(self, prep_result):
        raise LookupError("no such page")

ended = threading.Event()

def begin(node, flow=None):
    handle = (flow or Flow(node)).run_background({}, run_id="lost")
    handle.add_done_callback(ended.set)
    assert ended.wait(30)
    return handle
"""

WAYS_TO_FORGET = {
    "asynchronous": "begin(FailsLater())",
    "kept to the end": "kept = begin(Fails())",
}

WAYS_TO_SEE = {
    "wait": "import contextlib\nwith contextlib.suppress(LookupError): begin(Fails()).wait()",
    "await": """
import asyncio
async def main():
    try:
        await begin(Fails())
    except LookupError:
        pass
asyncio.run(main())
""",
    "status": "assert begin(Fails()).status == 'failed'",
    "hook": "begin(None, Flow(Fails()).on('flow_error', lambda exc, store: None))",
    "events": """
import contextlib
with contextlib.suppress(LookupError):
    list(Flow(Fails()).stream({}))
""",
    "cancelled": """
class Waits(Node):
    async def exec(self, prep_result):
        import asyncio
        await asyncio.sleep(60)
handle = Flow(Waits()).run_background({})
handle.cancel()
""",
}


def stderr_of(code: str) -> str:
    """What a program that ends well prints as errors."""
    command = [sys.executable, "-c", FORGOTTEN + code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return ended.stderr


@pytest.mark.parametrize("way", WAYS_TO_FORGET)
def test_a_failure_that_nobody_asks_for_is_logged_once(way: str) -> None:
    """As the program ends at the latest, with what the node raised."""
    told = stderr_of(WAYS_TO_FORGET[way])
    assert told.count("in the background has failed, and nobody asked how it ended") == 1
    assert "run 'lost'" in told
    assert "LookupError: no such page" in told


COLLECTED = """
import gc
import sys
from pocoflow.cleanup import finish
begin(Fails())
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join()
gc.collect()
finish()
sys.stderr.write("still at work")
"""


def test_a_failure_is_logged_once_its_handle_is_gone() -> None:
    """A program that goes on for long does not wait for its end."""
    before, after = stderr_of(COLLECTED).split("still at work")
    assert "nobody asked how it ended" in before
    assert not after


@pytest.mark.parametrize("way", WAYS_TO_SEE)
def test_a_failure_that_was_seen_is_not_logged_again(way: str) -> None:
    """By whoever waits, asks for the status, or is told of the events; nor is a cancellation."""
    assert stderr_of(WAYS_TO_SEE[way]) == ""
