"""File descriptors of databases, and what opening one more does to those that are open."""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import pocoflow
from pocoflow import Flow, Node, WorkflowDB
from pocoflow.cleanup import finish


class Last(Node):
    """Does nothing."""


def in_another_process(code: str, *arguments: object) -> str:
    """What a short program prints; it finds the same package that this process uses."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(pocoflow.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_a_second_opening_in_the_process_does_not_take_the_log_from_the_first(path: Path) -> None:
    """What a first connection commits is seen by others after a second one was opened here.

    On POSIX, closing any descriptor of a file drops the locks that SQLite holds on it; another
    process would then delete the log under the first connection at its close.
    """
    listing = (
        "import sys\nfrom pocoflow import WorkflowDB\n"
        "with WorkflowDB(sys.argv[1]) as db: print([r['run_id'] for r in db.list_runs()])"
    )
    with WorkflowDB(path) as first:
        first.create_run("one")
        with WorkflowDB(path) as second, WorkflowDB(path, read_only=True) as reader:
            assert in_another_process(listing, path) == "['one']\n"
            first.create_run("two")
            assert in_another_process(listing, path) == "['two', 'one']\n"
            assert len(second.list_runs()) == len(reader.list_runs()) == 2
        first.create_run("three")
        assert in_another_process(listing, path) == "['three', 'two', 'one']\n"
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def collect() -> None:
    """Collect garbage, and wait until what it leaves open is closed."""
    gc.collect()
    finish()


def test_a_database_that_is_dropped_closes_itself(path: Path) -> None:
    """A WorkflowDB or Flow that nobody refers to any more gives its descriptors back."""
    WorkflowDB(path).close()
    collect()  # what earlier tests have dropped
    before = descriptors()

    db = WorkflowDB(path)
    assert descriptors() > before
    del db
    collect()
    assert descriptors() == before

    Flow(start=Last(), db_path=path).run({})
    collect()
    assert descriptors() == before


def test_descriptors_do_not_grow_with_flows_runs_and_failures(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """200 flows, half of them failing, leave as many descriptors as none."""
    caplog.set_level(logging.CRITICAL, "pocoflow")  # pytest keeps what is logged, and its traceback

    class Fail(Node):
        def exec(self, prep: None) -> None:
            raise OSError("no")

    def both() -> None:
        Flow(start=Last(), db_path=path).run({})
        with pytest.raises(OSError, match="no"):
            Flow(start=Fail(), db_path=path).run({})

    both()
    collect()
    before = descriptors()
    peak = 0
    for number in range(100):
        both()
        if number % 10 == 0:
            collect()
        peak = max(peak, descriptors())
    collect()

    assert descriptors() == before
    assert peak - before <= 12 * 10
    with WorkflowDB(path) as db:
        assert len(db.list_runs(limit=1000)) == 202


def test_one_flow_keeps_a_fixed_number_of_descriptors(path: Path) -> None:
    """200 runs of one flow use one connection."""
    flow = Flow(start=Last(), db_path=WorkflowDB(path, synchronous="NORMAL"))
    before = descriptors()
    for _ in range(200):
        flow.run({})
    # The log, its index and its lock; the database and the log again.
    assert descriptors() - before <= 5
