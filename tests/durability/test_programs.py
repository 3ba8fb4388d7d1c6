"""Random programs, killed on their way: the short form of the command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_program_does_what_an_interpreter_says_whenever_it_is_killed() -> None:
    """Nodes, items, branches, flows, loops, questions and errors, in each other."""
    command = [sys.executable, "-m", "tests.durability.programs", "8"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "; 0 were wrong" in done.stdout
