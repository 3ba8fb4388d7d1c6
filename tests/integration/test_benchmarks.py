"""The benchmarks run, so that they still do when somebody needs a number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pocoflow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "steps.py"


def test_the_benchmark_of_steps_prints_its_table(tmp_path: Path) -> None:
    """Every variant does its steps, and the table tells versions and machine."""
    options = ["--rounds", "1", "--steps", "50", "--stored-steps", "5", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), *options],
        env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 12
    assert f"pocoflow {pocoflow.__version__}" in done.stdout
    assert list(tmp_path.iterdir()) == []
