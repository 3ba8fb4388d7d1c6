"""What a long run costs: bytes, time, memory and descriptors, as a run and its store grow.

    python benchmarks/growth.py
    python benchmarks/growth.py --only long --steps 20000 --synchronous FULL

- ``text``: 200 steps beside a text of 1 MB that does not change
- ``chat``: 1,000 steps, each of which appends a message of 1 kB
- ``long``: 100,000 steps in one run
- ``big``: a value of 50 MB that four steps replace
- ``runs``: reading from a database of 100,000 runs

``by hand`` is sqlite3 with the same two commits a step and the same facts in them; of the store it
writes what it knows to have changed. ``full copy`` writes the whole store as JSON in one commit a
step, as many do. In ``text`` and ``chat`` the variants take turns, round by round. Prints Markdown
tables.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal, TypeAlias

from pocoflow import Flow, Node, Store, WorkflowDB

Synchronous: TypeAlias = Literal["NORMAL", "FULL"]

MEGABYTE = 1_000_000
CASES = ("text", "chat", "long", "big", "runs")


# -- pocoflow -------------------------------------------------------------------------------------


class Add(Node[int, int, str]):
    """Adds one."""

    def prep(self, store: Store[Any]) -> int:
        n: int = store["n"]
        return n

    def exec(self, n: int) -> int:
        return n + 1

    def post(self, store: Store[Any], n: int, result: int) -> str:
        store["n"] = result
        return "again" if result < store["steps"] else "done"


class Say(Node[int, dict[str, str], str]):
    """Appends a message of 1 kB, in place."""

    def prep(self, store: Store[Any]) -> int:
        return len(store["messages"])

    def exec(self, number: int) -> dict[str, str]:
        return message(number)

    def post(self, store: Store[Any], number: int, said: dict[str, str]) -> str:
        store["messages"].append(said)
        return "again" if number + 1 < store["steps"] else "done"


class Replace(Node[None, None, str]):
    """Replaces a value of 50 MB."""

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        store["n"] += 1
        store["big"] = str(store["n"]) * (50 * MEGABYTE)
        return "again" if store["n"] < 4 else "done"


class Keep(Replace):
    """Leaves a value of 50 MB as it is."""

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        store["n"] += 1
        return "again" if store["n"] < 4 else "done"


def message(number: int) -> dict[str, str]:
    """A message of about 1 kB."""
    return {"role": "assistant", "content": f"{number:06} " + "word " * 190}


def with_pocoflow(
    path: Path, node: Node[Any, Any, str], store: dict[str, Any], synchronous: Synchronous
) -> None:
    """Run a node in a loop."""
    node.then("again", node)
    with WorkflowDB(path, synchronous=synchronous) as db:
        Flow(node, db_path=db, run_id="r", max_steps=10**9, flow_name="growth").run(store)


# -- by hand --------------------------------------------------------------------------------------

TABLES = """
CREATE TABLE runs (run_no INTEGER PRIMARY KEY, status TEXT, steps INTEGER, node TEXT);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, run_no INTEGER, step INTEGER, node TEXT, event TEXT, action TEXT,
    elapsed REAL, ts TEXT
);
CREATE TABLE steps (step INTEGER PRIMARY KEY, node TEXT, changed TEXT, next TEXT, ts TEXT);
CREATE TABLE journal (step INTEGER PRIMARY KEY, value TEXT);
INSERT INTO runs VALUES (1, 'running', 0, 'node');
"""

STEP = "INSERT INTO steps VALUES (?, 'node', ?, 'node', ?)"
EVENT = "INSERT INTO events (run_no, step, node, event, action, elapsed, ts) VALUES (1,?,?,?,?,?,?)"


def connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute(f"PRAGMA synchronous = {synchronous}")
    raw.executescript(TABLES)
    return raw


def by_hand(
    path: Path, steps: int, initial: str, work: Callable[[int], Any], synchronous: Synchronous
) -> None:
    """Two commits a step, of what has changed."""
    with closing(connect(path, synchronous)) as raw:
        raw.execute(STEP, (-1, initial, ""))
        for step in range(steps):
            began = perf_counter()
            result = work(step)
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("INSERT INTO journal VALUES (?, ?)", (step, json.dumps(result)))
            raw.execute("COMMIT")
            elapsed, now = perf_counter() - began, datetime.now(UTC).isoformat()
            raw.execute("BEGIN IMMEDIATE")
            raw.execute(STEP, (step, json.dumps(result), now))
            raw.execute(EVENT, (step, "node", "node_end", "again", elapsed, now))
            raw.execute(EVENT, (step + 1, "node", "node_start", None, None, now))
            raw.execute("DELETE FROM journal WHERE step <= ?", (step,))
            raw.execute("UPDATE runs SET steps = ?, node = 'node' WHERE run_no = 1", (step + 1,))
            raw.execute("COMMIT")


def full_copy(
    path: Path,
    steps: int,
    store: dict[str, Any],
    work: Callable[[dict[str, Any], int], object],
    synchronous: Synchronous,
) -> None:
    """One commit a step, of everything."""
    with closing(connect(path, synchronous)) as raw:
        for step in range(steps):
            work(store, step)
            raw.execute(STEP, (step, json.dumps(store), datetime.now(UTC).isoformat()))


# -- text and chat --------------------------------------------------------------------------------


@dataclass
class Variant:
    """One way to take the steps.

    Attributes:
        name: What it is called in the table.
        work: Takes the file and the number of steps.
        times: Milliseconds per step, of each round.
        spent: The same of the processor's time, which other programs disturb less.
        size: The bytes of its file.
    """

    name: str
    work: Callable[[Path, int], object]
    times: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    size: int = 0

    def measure(self, folder: Path, steps: int) -> None:
        path = folder / "growth.db"
        gc.collect()
        began, used = perf_counter(), process_time()
        self.work(path, steps)
        self.times.append((perf_counter() - began) / steps * 1000)
        self.spent.append((process_time() - used) / steps * 1000)
        self.size = path.stat().st_size
        for file in folder.glob("growth.db*"):
            file.unlink()


def text_variants(synchronous: Synchronous) -> list[Variant]:
    text = "word " * (MEGABYTE // 5)

    def count(store: dict[str, Any], step: int) -> None:
        store["n"] = step + 1

    return [
        Variant(
            "by hand",
            lambda path, steps: by_hand(path, steps, text, lambda step: step + 1, synchronous),
        ),
        Variant(
            "pocoflow",
            lambda path, steps: with_pocoflow(
                path, Add(), {"n": 0, "steps": steps, "text": text}, synchronous
            ),
        ),
        Variant(
            "full copy",
            lambda path, steps: full_copy(path, steps, {"text": text}, count, synchronous),
        ),
    ]


def chat_variants(synchronous: Synchronous) -> list[Variant]:
    return [
        Variant("by hand", lambda path, steps: by_hand(path, steps, "", message, synchronous)),
        Variant(
            "pocoflow",
            lambda path, steps: with_pocoflow(
                path, Say(), {"messages": [], "steps": steps}, synchronous
            ),
        ),
        Variant(
            "full copy",
            lambda path, steps: full_copy(
                path,
                steps,
                {"messages": []},
                lambda store, step: store["messages"].append(message(step)),
                synchronous,
            ),
        ),
    ]


def compare(variants: list[Variant], folder: Path, steps: int, rounds: int) -> Iterator[str]:
    for number in range(rounds):
        turn = number % len(variants)
        for variant in variants[turn:] + variants[:turn]:
            variant.measure(folder, steps)
    yield (
        "| variant | ms per step | lowest to highest | ratio | of processor time | ratio "
        "| MB on disk | ratio |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    base = variants[0]
    for one in variants:
        time, spent = statistics.median(one.times), statistics.median(one.spent)
        yield (
            f"| {one.name} | {time:.3f} | {min(one.times):.3f} to {max(one.times):.3f} "
            f"| {time / statistics.median(base.times):.2f} "
            f"| {spent:.3f} | {spent / statistics.median(base.spent):.2f} "
            f"| {one.size / MEGABYTE:.2f} | {one.size / base.size:.2f} |"
        )


def fitted(folder: Path, variants: Sequence[Variant], most: int) -> Iterator[str]:
    """How the bytes grow with the steps: the exponent of a power that fits them."""
    counts = [max(most >> shift, 10) for shift in (3, 2, 1, 0)]
    for variant in variants:
        sizes = []
        for count in counts:
            variant.measure(folder, count)
            sizes.append(variant.size)
        slope = statistics.linear_regression(
            [math.log(count) for count in counts], [math.log(size) for size in sizes]
        ).slope
        shown = ", ".join(
            f"{count}: {size / MEGABYTE:.2f} MB" for count, size in zip(counts, sizes, strict=True)
        )
        yield f"- {variant.name}: bytes grow with the power {slope:.2f} of the steps ({shown})"


def any_step(folder: Path, steps: int) -> Iterator[str]:
    """How long it takes to read the store of any step of the chat."""
    path = folder / "growth.db"
    with_pocoflow(path, Say(), {"messages": [], "steps": steps}, "NORMAL")
    with WorkflowDB(path, read_only=True) as db:
        times = []
        for step in range(0, steps, max(steps // 50, 1)):
            began = perf_counter()
            store = db.load_checkpoint("r", step)
            times.append((perf_counter() - began) * 1000)
            if len(store["messages"]) != step + 1:
                raise SystemExit(f"step {step} has {len(store['messages'])} messages")
        began = perf_counter()
        rows = db.get_checkpoints("r")
        listed = (perf_counter() - began) * 1000
    yield (
        f"- load_checkpoint of any step: {statistics.median(times):.2f} ms, at most "
        f"{max(times):.2f} ms; get_checkpoints: {listed:.2f} ms for {len(rows)} rows"
    )


# -- long -----------------------------------------------------------------------------------------


def resident() -> int:
    """The memory of this process, in bytes."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def descriptors() -> int:
    """How many file descriptors are open."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


class Watched(Add):
    """Looks at the process now and then."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.looks = {*range(0, steps, max(steps // 20, 1)), steps // 100}
        self.seen: list[tuple[int, float, int, int]] = []

    def post(self, store: Store[Any], n: int, result: int) -> str:
        if n in self.looks or result == store["steps"]:
            self.seen.append((n, perf_counter(), resident(), descriptors()))
        return super().post(store, n, result)


def long(folder: Path, steps: int, synchronous: Synchronous) -> Iterator[str]:
    path = folder / "growth.db"
    node = Watched(steps)
    with_pocoflow(path, node, {"n": 0, "steps": steps}, synchronous)
    times = [
        (after[1] - before[1]) / (after[0] - before[0]) * 1e6
        for before, after in zip(node.seen[1:], node.seen[2:], strict=False)
    ]
    third = max(len(times) // 3, 1)
    early, late = statistics.median(times[:third]), statistics.median(times[-third:])
    first = next(seen for seen in node.seen if seen[0] >= steps // 100)
    grown = node.seen[-1][2] - first[2]
    yield f"- {path.stat().st_size / steps:.0f} bytes a step on disk"
    yield f"- {grown / MEGABYTE:+.1f} MB of memory between step {first[0]} and the last"
    yield f"- at most {max(seen[3] for seen in node.seen)} descriptors"
    yield f"- {early:.0f} us a step early, {late:.0f} us late: {late / early:.2f}"
    with WorkflowDB(path, read_only=True) as db:
        for name, read in (
            ("get_checkpoints", lambda: db.get_checkpoints("r")),
            ("load_checkpoint of the last step", lambda: db.load_checkpoint("r", steps - 1)),
            ("get_run", lambda: db.get_run("r")),
        ):
            began = perf_counter()
            read()
            yield f"- {name}: {(perf_counter() - began) * 1000:.2f} ms"


# -- big ------------------------------------------------------------------------------------------


def big(folder: Path, synchronous: Synchronous) -> Iterator[str]:
    path = folder / "growth.db"
    for node, what in ((Keep(), "that does not change"), (Replace(), "that each step replaces")):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = perf_counter()
        with_pocoflow(path, node, {"n": 0, "big": "0" * (50 * MEGABYTE)}, synchronous)
        took = perf_counter() - began
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        yield (
            f"- a value of 50 MB {what}, over 4 checkpoints: {path.stat().st_size / MEGABYTE:.0f} "
            f"MB on disk, {took:.2f} s, {peak / MEGABYTE:.0f} MB of memory at its peak"
        )
        for file in folder.glob("growth.db*"):
            file.unlink()


# -- runs -----------------------------------------------------------------------------------------


def fill(path: Path, runs: int) -> None:
    """Write runs of ten steps as finished flows leave them."""
    WorkflowDB(path).close()
    now = datetime.now(UTC).isoformat()
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA synchronous = OFF")
        raw.execute("BEGIN")
        for number in range(1, runs + 1):
            run_id = f"flow-{number:08x}"
            raw.execute(
                "INSERT INTO pf_runs (run_no, run_id, flow_name, status, started_at, completed_at, "
                "total_steps, current_node) VALUES (?, ?, ?, ?, ?, ?, 10, 'Last')",
                (number, run_id, f"flow-{number % 7}", "completed", now, now),
            )
            raw.executemany(
                "INSERT INTO pf_events (id, run_id, step, node_name, event, action, elapsed_ms, ts)"
                " VALUES (?, ?, ?, 'Node', 'node_end', 'done', 1.5, ?)",
                [((number << 32) + one, run_id, one, now) for one in range(20)],
            )
            raw.executemany(
                "INSERT INTO pf_steps VALUES (?, ?, 'Node', ?)",
                [(number, step, now) for step in range(-1, 10)],
            )
        raw.execute("COMMIT")


def many_runs(folder: Path, runs: int) -> Iterator[str]:
    path = folder / "growth.db"
    fill(path, runs)
    yield "| read | median ms | highest |"
    yield "| --- | ---: | ---: |"
    middle = f"flow-{runs // 2:08x}"
    with WorkflowDB(path) as db:
        for name, read in (
            ("list_runs(100)", lambda: db.list_runs(100)),
            ('list_runs(100, status="failed")', lambda: db.list_runs(100, status="failed")),
            ('list_runs(100, flow_name="flow-3")', lambda: db.list_runs(100, flow_name="flow-3")),
            ("get_run", lambda: db.get_run(middle)),
            ("get_events, 20 of them", lambda: db.get_events(middle)),
            ("get_checkpoints, 10 of them", lambda: db.get_checkpoints(middle)),
        ):
            times = []
            for _ in range(50):
                began = perf_counter()
                read()
                times.append((perf_counter() - began) * 1000)
            yield f"| {name} | {statistics.median(times):.3f} | {max(times):.3f} |"
        began = perf_counter()
        removed = db.prune(keep=runs // 2)
        yield f"| prune of {removed} runs | {(perf_counter() - began) * 1000:.0f} | |"


# -- the script -----------------------------------------------------------------------------------


def case(name: str, folder: Path, options: argparse.Namespace) -> Iterator[str]:
    synchronous: Synchronous = options.synchronous
    if name == "text":
        yield f"\n200 steps beside an unchanged text of 1 MB, {synchronous}\n"
        yield from compare(text_variants(synchronous), folder, 200, options.rounds)
    elif name == "chat":
        yield f"\n1,000 steps of a chat that grows by 1 kB, {synchronous}\n"
        yield from compare(chat_variants(synchronous), folder, 1000, options.rounds)
        yield ""
        yield from fitted(folder, chat_variants("NORMAL"), 1600)
        yield from any_step(folder, 1000)
    elif name == "long":
        yield f"\n{options.steps} steps in one run, {synchronous}\n"
        yield from long(folder, options.steps, synchronous)
    elif name == "big":
        yield "\nA large value\n"
        yield from big(folder, synchronous)
    else:
        yield f"\nReading from a database of {options.runs} runs\n"
        yield from many_runs(folder, options.runs)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=CASES, help="one of them (all)")
    parser.add_argument("--rounds", type=int, default=5, help="of text and chat (5)")
    parser.add_argument("--steps", type=int, default=100_000, help="of long (100000)")
    parser.add_argument("--runs", type=int, default=100_000, help="of runs (100000)")
    parser.add_argument("--synchronous", choices=("NORMAL", "FULL"), default="NORMAL")
    parser.add_argument("--folder", type=Path, help="where the databases go, for another disk")
    options = parser.parse_args(arguments)
    if options.only is None:
        # Each in a process of its own, so that none sees the memory of another.
        given = sys.argv[1:] if arguments is None else list(arguments)
        commands = [[sys.executable, __file__, *given, "--only", name] for name in CASES]
        code = max(subprocess.run(command, check=False).returncode for command in commands)
        print(f"\nPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}, ", end="")
        print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors")
        return code
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for line in case(options.only, Path(folder), options):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
