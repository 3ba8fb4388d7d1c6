"""Processes that share runs: the short form of ``python -m tests.durability.shared``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

ROOT = Path(__file__).parents[2]


def shared(*options: str) -> str:
    """What the command prints, if nothing was wrong."""
    given = {"--starts": "2", "--tries": "1", "--kills": "1"}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    command = [sys.executable, "-W", "error", "-m", "tests.durability.shared"]
    done = subprocess.run(
        [*command, *(word for pair in given.items() for word in pair)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_starts_of_two_processes_are_one_run_for_each_id() -> None:
    """In all five ways, callers get what belongs to their ids, and nothing is done twice."""
    told = shared("--starts", "40")
    assert told.count("40 starts, 0 wrong") == 5


def test_two_writers_on_a_run_thread_lose_no_message() -> None:
    """Two processes that write at once are answered one after the other."""
    assert "40 tries, 0 wrong" in shared("--tries", "40")


def test_a_follower_sees_every_event_of_a_writer_that_dies() -> None:
    """Once, in order, with its number; what the attempts that died have emitted is void."""
    assert "6 kills, 0 wrong" in shared("--kills", "6")
