"""SIGKILL in the middle of a batch of 1,000, of a nested flow and of parallel branches.

A child process runs the flow and writes a line for each ``exec`` before it returns, with its
idempotency key. After the kill the database says which of them were finished; none of these may be
executed by the process that resumes, and the result is exact.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from pocoflow import FanOut, Flow, Parallel, WorkflowDB, context, fields, key, node
from pocoflow.db.log import Kind
from pocoflow.node import NodeLike
from pocoflow.reducers import append, item
from tests.rows import row_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

ITEMS = 1000


class Board(BaseModel):
    numbers: list[int] = []
    number: int = 0
    squares: list[int] = []
    log: Annotated[list[str], append] = []


B = fields(Board)


class Ledger:
    """Writes a line for each call and kills the process after some of them."""

    def __init__(self, path: Path, last: int | None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._left = last

    def call(self) -> None:
        """A paid call."""
        os.write(self._file, f"{context().idempotency_key}\n".encode())
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def batch(ledger: Ledger) -> NodeLike[Any]:
    """Squares 1,000 numbers, eight at once."""

    @node(each=B.numbers, writes=B.squares, concurrency=8)
    def square(number: int) -> int:
        ledger.call()
        return number * number

    return square


def say(ledger: Ledger, name: str) -> NodeLike[Any]:
    """A node that appends its place to the log."""

    @node(writes=item(B.log), name=name)
    def step() -> str:
        ledger.call()
        return "/".join((*context().path, name))

    return step


def chain(ledger: Ledger, name: str, count: int) -> Flow[Any]:
    """A flow of some such nodes."""
    steps = [say(ledger, f"{name}{number}") for number in range(count)]
    flow: Flow[Any] = Flow(steps[0], flow_name=name)
    for before, after in pairwise(steps):
        flow.then(before, after)
    return flow


def nested(ledger: Ledger) -> NodeLike[Any]:
    """A flow of flows."""
    inner, last = chain(ledger, "inner", 6), say(ledger, "last")
    outer: Flow[Any] = Flow(inner, flow_name="outer")
    return outer.then(inner, last)


def branches(ledger: Ledger) -> NodeLike[Any]:
    """Three branches of several steps, of which one forks again."""
    deep = Parallel(chain(ledger, "x", 3), chain(ledger, "y", 4), name="deep")
    more: Flow[Any] = Flow(deep, flow_name="more")
    more.then(deep, say(ledger, "joined"))
    return Parallel(chain(ledger, "one", 6), chain(ledger, "two", 8), more, name="fork")


def fan(ledger: Ledger) -> NodeLike[Any]:
    """A branch of three steps for each of 20 items."""
    return FanOut(chain(ledger, "each", 3), each=key("numbers"), as_=key("number"), concurrency=4)


SHAPES: dict[str, tuple[Callable[[Ledger], NodeLike[Any]], int, int]] = {
    "batch": (batch, ITEMS, ITEMS),
    "nested": (nested, 0, 7),
    "branches": (branches, 0, 22),
    "fan": (fan, 20, 60),
}


def run(shape: str, folder: Path, last: int | None) -> None:
    """Run or resume in a child process that is killed after ``last`` calls."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            make, items, _ = SHAPES[shape]
            ledger = Ledger(folder / "ledger", last)
            flow: Flow[Any] = Flow(
                make(ledger), flow_name=shape, schema=Board, db_path=folder / "runs.db", run_id="r"
            )
            with WorkflowDB(folder / "runs.db") as db:
                begun = bool(db.list_runs())
            flow.resume("r") if begun else flow.run(Board(numbers=list(range(items))))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    wanted = 0 if last is None else signal.SIGKILL
    assert (os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)) == wanted


def finished(folder: Path) -> set[str]:
    """The idempotency keys of what the database knows to be finished."""
    found = set()
    with WorkflowDB(folder / "runs.db") as db:
        token = row_of(db, "r")["token"]
        scopes, counts = {0: ""}, Counter[int]()
        for row in db.connection.rows("SELECT kind, line, item, data FROM pf_log ORDER BY id"):
            kind, line = row["kind"], row["line"]
            if kind == Kind.LINE:
                parent, step, number = json.loads(row["data"])
                around = f"{scopes[parent]}/" if parent else ""
                scopes[line] = f"{around}{step}.{number}"
            if kind not in (Kind.RESULT, Kind.ITEM, Kind.STEP, Kind.CAUGHT):
                continue
            place = f"{scopes[line]}-{counts[line]}" if line else f"{counts[0]}"
            found.add(f"{token}-{place}" + (f"-{row['item']}" if kind == Kind.ITEM else ""))
            counts[line] += kind in (Kind.STEP, Kind.CAUGHT)
    return found


def lines(folder: Path) -> list[str]:
    """The keys on the ledger, in the order of the calls."""
    return (folder / "ledger").read_text(encoding="utf-8").split()


def result(shape: str, folder: Path) -> dict[str, Any]:
    """The store at the end."""
    with WorkflowDB(folder / "runs.db") as db:
        row = row_of(db, "r")
        assert row["status"] == "completed"
        return db.load_checkpoint("r", row["total_steps"] - 1, schema=Board).as_dict()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.77, 1.0])
def test_a_kill_in_the_middle_repeats_nothing_that_was_finished(
    shape: str, share: float, tmp_path: Path
) -> None:
    """Killed twice on the way, what was finished is not executed again; the result is exact."""
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    folder.mkdir()
    run(shape, whole, None)
    _, _, calls = SHAPES[shape]
    assert len(lines(whole)) == calls
    done: set[str] = set()
    for last in (max(1, round(calls * share)), max(1, round(calls * (1 - share) / 2))):
        before = len(lines(folder)) if (folder / "ledger").exists() else 0
        run(shape, folder, last)
        assert not done & set(lines(folder)[before:])
        done = finished(folder)
    before = len(lines(folder))
    run(shape, folder, None)
    assert not done & set(lines(folder)[before:])
    assert len(set(lines(folder))) == calls
    assert result(shape, folder) == result(shape, whole)
