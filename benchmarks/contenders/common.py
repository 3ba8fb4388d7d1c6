"""Works that are done by starting processes: the same for every contender."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.task import Measures, Task


def whole_process(command: Sequence[str], folder: Path | None = None, code: int = 0) -> Measures:
    """The wall and processor time of a Python process, from its start to its end."""
    began = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, *command],
        {**os.environ, "PYTHONPATH": path_with(folder)},
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) != code:
        raise RuntimeError(f"python {' '.join(command)} ended with status {status}")
    return {"ms": wall * 1e3, "cpu_ms": (usage.ru_utime + usage.ru_stime) * 1e3}


def path_with(folder: Path | None) -> str:
    known = os.environ.get("PYTHONPATH", "")
    return known if folder is None else os.pathsep.join([str(folder), known])


def importing(statement: str) -> Callable[[Task], Measures]:
    """A worker that times a process that imports something."""
    return lambda task: whole_process(["-c", statement])


def in_processes(task: Task, runs: Callable[[Task, int], int]) -> Measures:
    """Let several processes work on one file at once; the time per step, and the errors."""
    count = task.sizes["processes"]
    context = multiprocessing.get_context("fork")
    ready, errors = context.Barrier(count + 1), context.Array("i", count)

    def work(number: int) -> None:
        errors[number] = task.sizes["runs"]  # unless it gets to the end
        errors[number] = runs_when_ready(task, number, ready, runs)

    children = [context.Process(target=work, args=(number,)) for number in range(count)]
    for child in children:
        child.start()
    ready.wait(60)
    began = time.perf_counter()
    for child in children:
        child.join()
    wall = time.perf_counter() - began
    steps = count * task.sizes["runs"] * task.sizes["steps"]
    return {"us": wall / steps * 1e6, "errors": float(sum(errors[:]))}


def runs_when_ready(task: Task, number: int, ready: Any, runs: Callable[[Task, int], int]) -> int:
    ready.wait(60)
    return runs(task, number)


def attempts(count: int, run: Callable[[int], object]) -> int:
    """How many of the runs raised."""
    errors = 0
    for number in range(count):
        try:
            run(number)
        except Exception as error:  # noqa: BLE001 - counted
            print(f"run {number}: {type(error).__name__}: {error}", file=sys.stderr)
            errors += 1
    return errors


def copies(path: Path, tables: dict[str, str], count: int) -> None:
    """Fill a database with copies of the one run in it, under other ids.

    Args:
        path: The database of a contender.
        tables: The column with the run's id, by table.
        count: How many there shall be.
    """
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA synchronous = OFF")
        raw.execute("CREATE TEMP TABLE numbers (number INTEGER)")
        raw.executemany("INSERT INTO numbers VALUES (?)", ((one,) for one in range(1, count)))
        for table, column in tables.items():
            columns = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
            values = ["printf('run-%07d', number)" if c == column else c for c in columns]
            insert = "INSERT INTO {0} SELECT {1} FROM (SELECT * FROM {0}), numbers"
            raw.execute(insert.format(table, ", ".join(values)))
        raw.commit()
