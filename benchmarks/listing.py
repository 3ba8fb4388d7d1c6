"""What it costs to find runs: ``python -m benchmarks.listing``.

A file of many runs, each with a run thread and labels; then the time of ``list_runs`` by thread,
by a rare label, by one that half of the runs have, by two labels, and of a page without filters.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pocoflow import WorkflowDB
from pocoflow.db import RunRow

GOAL = 1.0
"""Milliseconds that a listing by thread or label may take."""

_USERS = 10_000
_ROUNDS = 200


def fill(path: Path, runs: int) -> None:
    """Write many completed runs, without a log."""
    with WorkflowDB(path, synchronous="NORMAL") as db, db.writing() as raw:
        for number in range(runs):
            user = f"user {number % _USERS}"
            row = {"run_id": f"run {number}", "flow_name": "chat", "status": "completed"}
            run_no = db.insert_run({**row, "thread": user}, raw)
            labels = {"user": user, "even": str(number % 2)}
            raw.executemany(
                "INSERT INTO pf_labels (run_no, key, value) VALUES (?, ?, ?)",
                [(run_no, *label) for label in labels.items()],
            )


def measure(path: Path) -> dict[str, tuple[int, float]]:
    """How many runs each listing finds, and its median time in milliseconds."""
    found = {}
    with WorkflowDB(path) as db:
        asked: dict[str, Callable[[], list[RunRow]]] = {
            "by thread": lambda: db.list_runs(10, thread="user 77"),
            "by label": lambda: db.list_runs(10, labels={"user": "user 77"}),
            "by a common label": lambda: db.list_runs(10, labels={"even": "0"}),
            "by two labels": lambda: db.list_runs(10, labels={"user": "user 77", "even": "1"}),
            "by thread and status": lambda: db.list_runs(10, thread="user 77", status="completed"),
            "the newest": lambda: db.list_runs(10),
        }
        for what, ask in asked.items():
            times = []
            for _ in range(_ROUNDS):
                began = time.perf_counter()
                ask()
                times.append(time.perf_counter() - began)
            found[what] = (len(ask()), statistics.median(times) * 1000)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print a table; 1 if a listing takes longer than it may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100_000, help="runs in the file (100,000)")
    given = parser.parse_args(arguments)
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        fill(path, given.runs)
        for what, (count, took) in measure(path).items():
            slow |= took > GOAL
            print(f"{what:22}{count:4} of {given.runs:,} runs  {took:6.3f} ms")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
