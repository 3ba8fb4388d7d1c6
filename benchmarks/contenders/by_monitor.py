"""The monitor of pocoflow, in an environment that has Streamlit and Playwright."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.task import Measures, Task


def monitor(task: Task) -> Measures:
    """``benchmarks.monitor``, in a process of its own."""
    sizes = ["--runs", str(task.sizes["runs"]), "--rounds", str(task.sizes["rounds"])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.monitor", *sizes, "--json"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    measures: Measures = json.loads(done.stdout)
    return measures


WORKERS = {"monitor": monitor}
