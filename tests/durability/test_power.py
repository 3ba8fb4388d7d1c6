"""The power of the disk is cut under running flows.

The short form of ``python -m tests.durability.power --trials 100``.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.durability.power import SKIPPED

ROOT = Path(__file__).parents[2]


def test_a_power_cut_loses_no_acknowledged_step() -> None:
    """What was told to be committed is there after the power was cut, and the run can go on."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.durability.power", "--trials", "3", "--seed", "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 ok, 0 acknowledged steps lost" in done.stdout
