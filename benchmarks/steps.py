"""What a step costs: pocoflow next to PocketFlow, plain Python and plain sqlite3.

    python benchmarks/steps.py
    python benchmarks/steps.py --rounds 15 --steps 50000 --stored-steps 2000

One node in a loop reads a number from the store, adds one and writes it back, and an edge leads
back to it: all that is measured is overhead. The variants take turns, round by round, so that a
machine that gets slower or busier does so for all of them. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeAlias

import pocketflow

import pocoflow
from pocoflow import Flow, Node, Store, WorkflowDB

Synchronous: TypeAlias = Literal["NORMAL", "FULL"]
Work: TypeAlias = Callable[[int], dict[str, Any]]
"""Takes the number of steps, does them, and returns the state, which is checked."""


# -- pocoflow -----------------------------------------------------------------------------------


class Add(Node[int, int, Literal["again", "done"]]):
    """Adds one."""

    def prep(self, store: Store[Any]) -> int:
        n: int = store["n"]
        return n

    def exec(self, n: int) -> int:
        return n + 1

    def post(self, store: Store[Any], n: int, result: int) -> Literal["again", "done"]:
        store["n"] = result
        return "again" if result < store["steps"] else "done"


class AddWithoutJournal(Add):
    journal = False


def with_pocoflow(
    steps: int, db: WorkflowDB | None = None, node: Add | None = None, *, hook: bool = False
) -> dict[str, Any]:
    node = Add() if node is None else node
    node.then("again", node)
    flow: Flow[Any] = Flow(start=node, db_path=db, max_steps=steps, flow_name="bench")
    if hook:
        flow.on("node_end", lambda name, action, elapsed, store: None)
    return flow.run({"n": 0, "steps": steps}).as_dict()


# -- PocketFlow ---------------------------------------------------------------------------------


class PocketAdd(pocketflow.Node):
    def prep(self, shared: dict[str, int]) -> int:
        return shared["n"]

    def exec(self, prep_res: int) -> int:
        return prep_res + 1

    def post(self, shared: dict[str, int], prep_res: int, exec_res: int) -> str | None:
        shared["n"] = exec_res
        return "again" if exec_res < shared["steps"] else None


def with_pocketflow(steps: int) -> dict[str, Any]:
    node = PocketAdd()
    node.next(node, "again")
    node.next(pocketflow.Node(), "default")  # without this edge it warns at the end
    shared = {"n": 0, "steps": steps}
    pocketflow.Flow(start=node).run(shared)
    return shared


# -- by hand ------------------------------------------------------------------------------------


def prep(store: dict[str, Any]) -> int:
    n: int = store["n"]
    return n


def work(n: int) -> int:
    return n + 1


def post(store: dict[str, Any], n: int, result: int) -> str:
    store["n"] = result
    return "again" if result < store["steps"] else "done"


def by_hand(steps: int) -> dict[str, Any]:
    """The loop that one would write without any library: phases, edges, a guard, errors."""
    store = {"n": 0, "steps": steps}
    edges = {"add": {"again": "add"}}
    nodes = {"add": (prep, work, post)}
    step, name = 0, "add"
    while name:
        if step >= steps:
            raise RuntimeError("too many steps")
        first, then, last = nodes[name]
        try:
            prepared = first(store)
            result = then(prepared)
            action = last(store, prepared, result)
        except Exception as exc:
            raise RuntimeError(f"{name} failed") from exc
        name = edges[name].get(action, "")
        step += 1
    return store


TABLES = """
CREATE TABLE runs (run_no INTEGER PRIMARY KEY, status TEXT, steps INTEGER, node TEXT);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, run_no INTEGER, step INTEGER, node TEXT, event TEXT, action TEXT,
    elapsed REAL, ts TEXT
);
CREATE TABLE checkpoints (
    run_no INTEGER, step INTEGER, node TEXT, store TEXT, next TEXT, ts TEXT,
    PRIMARY KEY (run_no, step)
) WITHOUT ROWID;
CREATE TABLE journal (run_no INTEGER, step INTEGER, value TEXT, PRIMARY KEY (run_no, step))
WITHOUT ROWID;
"""

EVENT = "INSERT INTO events (run_no, step, node, event, action, elapsed, ts) VALUES (1,?,?,?,?,?,?)"


def by_hand_stored(path: Path, steps: int, synchronous: Synchronous, *, journal: bool) -> Any:
    """The same loop with sqlite3: what pocoflow commits, when it commits it, and no more."""
    store = {"n": 0, "steps": steps}
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute(f"PRAGMA synchronous = {synchronous}")
        raw.executescript(TABLES)
        raw.execute("INSERT INTO runs VALUES (1, 'running', 0, 'add')")
        step, action = 0, "again"
        while action == "again":
            began = perf_counter()
            prepared = prep(store)
            result = work(prepared)
            if journal:
                raw.execute("BEGIN IMMEDIATE")
                raw.execute("INSERT INTO journal VALUES (1, ?, ?)", (step, json.dumps(result)))
                raw.execute("COMMIT")
            action = post(store, prepared, result)
            elapsed, now = perf_counter() - began, datetime.now(UTC).isoformat()
            following = "add" if action == "again" else None
            raw.execute("BEGIN IMMEDIATE")
            raw.execute(
                "INSERT INTO checkpoints VALUES (1, ?, 'add', ?, ?, ?)",
                (step, json.dumps(store), following, now),
            )
            raw.execute(EVENT, (step, "add", "node_end", action, elapsed, now))
            raw.execute(EVENT, (step + 1, following, "node_start", None, None, now))
            if journal:
                raw.execute("DELETE FROM journal WHERE run_no = 1 AND step <= ?", (step,))
            status = "running" if following else "completed"
            raw.execute(
                "UPDATE runs SET status = ?, steps = ?, node = ? WHERE run_no = 1",
                (status, step + 1, following),
            )
            raw.execute("COMMIT")
            step += 1
    return store


# -- measuring ----------------------------------------------------------------------------------


@dataclass
class Variant:
    """One way to do the steps, and the microseconds per step of each of its rounds."""

    group: str
    name: str
    work: Work
    steps: int
    times: list[float] = field(default_factory=list)

    def measure(self) -> None:
        gc.collect()
        began = perf_counter()
        state = self.work(self.steps)
        elapsed = perf_counter() - began
        if state["n"] != self.steps:
            raise SystemExit(f"{self.name} did {state['n']} steps, not {self.steps}")
        self.times.append(elapsed / self.steps * 1e6)

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def in_memory(steps: int) -> Iterator[Variant]:
    yield Variant("in memory", "by hand", by_hand, steps)
    yield Variant("in memory", "PocketFlow", with_pocketflow, steps)
    yield Variant("in memory", "pocoflow", with_pocoflow, steps)
    yield Variant("in memory", "pocoflow, one hook", lambda n: with_pocoflow(n, hook=True), steps)


def stored(folder: Path, steps: int, synchronous: Synchronous) -> Iterator[Variant]:
    files = iter(range(sys.maxsize))

    def path() -> Path:
        return folder / f"{synchronous}-{next(files)}.db"

    def by_library(node: Callable[[], Add]) -> Work:
        def run(steps: int) -> dict[str, Any]:
            with WorkflowDB(path(), synchronous=synchronous) as db:
                return with_pocoflow(steps, db, node())

        return run

    def by_sqlite(*, journal: bool) -> Work:
        return lambda steps: by_hand_stored(path(), steps, synchronous, journal=journal)

    one, two = (f"SQLite {synchronous}, {n} a step" for n in ("one commit", "two commits"))
    yield Variant(two, "by hand, sqlite3", by_sqlite(journal=True), steps)
    yield Variant(two, "pocoflow", by_library(Add), steps)
    yield Variant(one, "by hand, sqlite3", by_sqlite(journal=False), steps)
    yield Variant(one, "pocoflow, journal = False", by_library(AddWithoutJournal), steps)


def measure(variants: list[Variant], rounds: int) -> None:
    """Let the variants take turns, each round beginning with another one."""
    for variant in variants:  # once, unmeasured, to import and to warm up
        variant.work(min(variant.steps, 100))
    for number in range(rounds):
        turn = number % len(variants)
        for variant in variants[turn:] + variants[:turn]:
            variant.measure()
        print(f"round {number + 1} of {rounds}", file=sys.stderr)


def table(variants: list[Variant]) -> str:
    """The medians as Markdown; the first variant of a group is what the others are compared to."""
    lines = [
        "| | variant | us per step | lowest to highest | ratio |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    bases: dict[str, float] = {}
    for variant in variants:
        group = "" if variant.group in bases else variant.group
        base = bases.setdefault(variant.group, variant.median)
        lines.append(
            f"| {group} | {variant.name} | {variant.median:.2f} "
            f"| {min(variant.times):.2f} to {max(variant.times):.2f} "
            f"| {variant.median / base:.2f} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """What the numbers were measured with."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":")[1] for line in lines if line.startswith("model name")), "")
    return (
        f"{platform.python_implementation()} {platform.python_version()}, SQLite "
        f"{sqlite3.sqlite_version}, pocoflow {pocoflow.__version__}, PocketFlow "
        f"{version('pocketflow')}; {platform.system()} {platform.machine()}, {os.cpu_count()} x"
        f"{model or ' ' + platform.processor()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What a step of a flow costs.")
    parser.add_argument("--rounds", type=int, default=7, help="how often each variant is measured")
    parser.add_argument("--steps", type=int, default=20_000, help="steps of a run in memory")
    parser.add_argument("--stored-steps", type=int, default=1_000, help="steps of a run in SQLite")
    parser.add_argument("--folder", type=Path, help="where the databases go, for another disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        variants = [
            *in_memory(options.steps),
            *stored(Path(folder), options.stored_steps, "NORMAL"),
            *stored(Path(folder), options.stored_steps, "FULL"),
        ]
        measure(variants, options.rounds)
    print(table(variants))
    print()
    print(
        f"Medians of {options.rounds} rounds of {options.steps} steps in memory, "
        f"{options.stored_steps} with SQLite. {machine()}."
    )


if __name__ == "__main__":
    main()
