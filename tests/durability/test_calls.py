"""Kills inside of an ``exec`` that makes journaled calls: the short form of the command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_kill_repeats_only_the_calls_in_flight() -> None:
    """In every call of a loop, in calls at the same time, in items and branches, and at random."""
    command = [sys.executable, "-m", "tests.durability.calls", "--kills", "12", "--short"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "; 0 were wrong" in done.stdout
