"""The benchmarks run, so that they still do when somebody needs a number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pocoflow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_benchmark_of_steps_prints_its_table(tmp_path: Path) -> None:
    """Every variant does its steps, and the table tells versions and machine."""
    options = ["--rounds", "1", "--steps", "50", "--stored-steps", "5", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(BENCHMARKS / "steps.py"), *options],
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


@pytest.mark.parametrize("only", ["long", "runs"])
def test_the_benchmark_of_growth_prints_what_it_found(tmp_path: Path, only: str) -> None:
    """A long run and a database of many runs are measured, and nothing is left behind."""
    options = ["--only", only, "--steps", "200", "--runs", "20", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(BENCHMARKS / "growth.py"), *options],
        env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "bytes a step on disk" in done.stdout or "list_runs(100)" in done.stdout
    assert list(tmp_path.iterdir()) == []
