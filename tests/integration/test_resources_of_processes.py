"""Resources of a process, in programs of their own and in the processes of pools."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pocoflow

_USES = """
from contextlib import asynccontextmanager, contextmanager
from pocoflow import Flow, node, resource

@contextmanager
def plain():
    yield 1
    print("plain closed", flush=True)

@asynccontextmanager
async def awaited():
    yield 2
    print("awaited closed", flush=True)

a = resource(int, "a", open=plain, per="process")
b = resource(int, "b", open=awaited, per="process")

@node
def use(one: int = a, two: int = b) -> None:
    print("used", one, two, flush=True)
"""

_PROGRAM = f"""
import os
{_USES}
Flow(use).run({{}})
if hasattr(os, "fork") and not os.fork():
    raise SystemExit
"""


def test_a_resource_of_the_process_is_closed_when_the_program_ends() -> None:
    """Once: a forked child does not close what is its parent's."""
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["used 1 2", "awaited closed", "plain closed"]
    assert done.stderr == ""


_POOL = f"""
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
{_USES}
if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context(sys.argv[1])) as pool:
        flow = Flow(use, executor=pool)
        flow.run({{}})
        flow.run({{}})
"""


@pytest.mark.parametrize("how", multiprocessing.get_all_start_methods())
def test_a_resource_of_the_process_is_closed_when_a_worker_of_a_pool_ends(
    tmp_path: Path, how: str
) -> None:
    """Once, however its process was started."""
    program = tmp_path / "pool.py"
    program.write_text(_POOL)
    environment = {**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", str(program), how]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert done.stderr == ""
    used = ["used 1 2"] * 2
    assert done.stdout.splitlines() == [*used, "awaited closed", "plain closed"]
