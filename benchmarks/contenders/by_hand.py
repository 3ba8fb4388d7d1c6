"""The limit: what one would write by hand, in plain Python and with plain sqlite3."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks import growing
from benchmarks.contenders.common import attempts, importing, in_processes
from benchmarks.contenders.recorded import (
    EVENT,
    Recorded,
    connect,
    create,
    of_changes,
    of_everything,
)
from benchmarks.growing import WAYS, as_json
from benchmarks.task import (
    KILOBYTE,
    MEGABYTE,
    Clock,
    Measures,
    Memory,
    Task,
    expect,
    growth,
    message,
    stalls,
    text_of,
    timed,
)

# -- in memory ------------------------------------------------------------------------------------


def prep(store: dict[str, Any]) -> int:
    n: int = store["n"]
    return n


def work(n: int) -> int:
    return n + 1


def post(store: dict[str, Any], n: int, result: int) -> str:
    store["n"] = result
    return "again" if result < store["steps"] else "done"


def run(nodes: dict[str, Any], edges: dict[str, Any], name: str, store: dict[str, Any]) -> None:
    """The loop that one would write without any library: phases, edges, a guard, errors."""
    step, most = 0, store["steps"]
    while name:
        if step >= most:
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


def loop(steps: int) -> dict[str, Any]:
    store = {"n": 0, "steps": steps}
    run({"add": (prep, work, post)}, {"add": {"again": "add"}}, "add", store)
    return store


def memory(task: Task) -> Measures:
    steps = task.sizes["steps"]
    with Clock() as clock:
        store = loop(steps)
    expect(store["n"], steps, "steps")
    return clock.each(steps)


def chain(task: Task) -> Measures:
    size = task.sizes["nodes"]
    with Clock() as building:
        nodes = {f"n{number}": (prep, work, post) for number in range(size)}
        edges = {f"n{number}": {"again": f"n{number + 1}"} for number in range(size)}
    store = {"n": 0, "steps": size}
    with Clock() as clock:
        run(nodes, edges, "n0", store)
    expect(store["n"], size, "nodes")
    return {**clock.each(size), "build_us": building.wall / size * 1e6}


def short(task: Task) -> Measures:
    runs, steps = task.sizes["runs"], task.sizes["steps"]
    nodes = {f"n{number}": (prep, work, post) for number in range(4)}
    edges = {f"n{number}": {"again": f"n{(number + 1) % 4}"} for number in range(4)}
    store: dict[str, Any] = {}
    with Clock() as clock:
        for _ in range(runs):
            store = {"n": 0, "steps": steps}
            run(nodes, edges, "n0", store)
    expect(store["n"], steps, "steps")
    return clock.each(runs)


typed = awaited = async_node = beside = limited = memory


# -- with sqlite3 ---------------------------------------------------------------------------------


def recorded_loop(
    raw: sqlite3.Connection, store: dict[str, Any], *, journal: bool, run_id: str = "r"
) -> None:
    """The loop with its store, of 1 KB or so, written whole at each step."""
    record = Recorded(raw, json.dumps(store), run_id)
    step, action = 0, "again"
    while action == "again":
        began = perf_counter()
        prepared = prep(store)
        result = work(prepared)
        if journal:
            record.journal(step, result)
        action = post(store, prepared, result)
        record.step(step, json.dumps(store), action, began, journaled=journal)
        step += 1


def stored(task: Task) -> Measures:
    steps = task.sizes["steps"]
    store = {"n": 0, "steps": steps, "text": KILOBYTE}
    with Clock() as clock, closing(create(task.path, task.synchronous)) as raw:
        recorded_loop(raw, store, journal=task.variant != "one commit")
    expect(store["n"], steps, "steps")
    return clock.each(steps, task.path)


def large(task: Task) -> Measures:
    steps = task.sizes["steps"]
    with Clock() as clock:
        if task.variant == "full copy":
            store = {"n": 0, "text": MEGABYTE}
            of_everything(task.path, steps, store, lambda s, n: s.update(n=n + 1), task.synchronous)
        else:
            of_changes(task.path, steps, MEGABYTE, lambda step: step + 1, task.synchronous)
    return clock.each(steps, task.path)


def chat(task: Task) -> Measures:
    def changes(path: Path, steps: int) -> None:
        of_changes(path, steps, "", message, task.synchronous)

    def everything(path: Path, steps: int) -> None:
        store: dict[str, Any] = {"messages": []}
        of_everything(
            path, steps, store, lambda s, n: s["messages"].append(message(n)), task.synchronous
        )

    return growth(everything if task.variant == "full copy" else changes, task)


def peak(task: Task) -> Measures:
    steps = task.sizes["steps"]
    document = json.dumps([message(number) for number in range(100)])
    of_changes(task.folder / "warm.db", 100, document, lambda step: step + 1, task.synchronous)
    memory = Memory()
    of_changes(task.path, steps, document, lambda step: step + 1, task.synchronous)
    return {"peak_mb": memory.peak()}


def slowest(task: Task) -> Measures:
    times = of_changes(
        task.path, task.sizes["steps"], KILOBYTE, lambda step: step + 1, task.synchronous
    )
    return stalls(times, task)


def processes(task: Task) -> Measures:
    create(task.path, task.synchronous).close()

    def runs(task: Task, number: int) -> int:
        with closing(connect(task.path, task.synchronous)) as raw:

            def one(count: int) -> None:
                store = {"n": 0, "steps": task.sizes["steps"], "text": KILOBYTE}
                recorded_loop(raw, store, journal=True, run_id=f"{number}-{count}")

            return attempts(task.sizes["runs"], one)

    return in_processes(task, runs)


# -- many items -----------------------------------------------------------------------------------


async def in_tasks(
    items: int, seconds: float, concurrency: int, raw: sqlite3.Connection | None = None
) -> list[int]:
    """Workers that take one item after another; with a file, what has finished is committed."""
    left, results = iter(range(items)), [0] * items
    waiting: list[tuple[int, str]] = []
    done = asyncio.Event()

    async def take() -> None:
        for item in left:
            await asyncio.sleep(seconds)
            results[item] = item + 1
            if raw is not None:
                waiting.append((item, json.dumps(item + 1)))

    async def write(raw: sqlite3.Connection) -> None:
        while waiting or not done.is_set():
            batch, waiting[:] = waiting[:], []
            if batch:
                await asyncio.to_thread(commit, raw, batch)
            else:
                await asyncio.sleep(0.0005)

    workers = [asyncio.create_task(take()) for _ in range(concurrency)]
    writing = None if raw is None else asyncio.create_task(write(raw))
    await asyncio.gather(*workers)
    done.set()
    if writing is not None:
        await writing
    return results


def awaits(task: Task, *, journaled: bool = False) -> Measures:
    items, seconds = task.sizes["items"], task.sizes["milliseconds"] / 1e3
    concurrency = task.sizes["concurrency"]
    with Clock() as clock:
        if journaled:
            with closing(create(task.path, task.synchronous)) as raw:
                results = asyncio.run(in_tasks(items, seconds, concurrency, raw))
                rows = raw.execute("SELECT count(*) FROM journal").fetchone()[0]
            expect(rows, items, "rows")
        else:
            results = asyncio.run(in_tasks(items, seconds, concurrency))
    expect(results, list(range(1, items + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


def commit(raw: sqlite3.Connection, batch: list[tuple[int, str]]) -> None:
    raw.execute("BEGIN IMMEDIATE")
    raw.executemany("INSERT INTO journal VALUES (?, ?)", batch)
    raw.execute("COMMIT")


def blocking(task: Task) -> Measures:
    seconds = task.sizes["milliseconds"] / 1e3

    def block(item: int) -> int:
        time.sleep(seconds)
        return item + 1

    with Clock() as clock, ThreadPoolExecutor(task.sizes["threads"]) as pool:
        results = list(pool.map(block, range(task.sizes["items"])))
    expect(results, list(range(1, task.sizes["items"] + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


def many(task: Task) -> Measures:
    """Coroutines that are all under way when the first one goes on."""
    count = task.sizes["runs"]
    arrived, everybody = 0, asyncio.Event()

    async def one(number: int) -> dict[str, int]:
        nonlocal arrived
        store = {"n": number}
        store["n"] += 1
        arrived += 1
        if arrived == count:
            everybody.set()
        await everybody.wait()
        store["n"] += 1
        return store

    async def all_of_them() -> list[dict[str, int]]:
        return await asyncio.gather(*(one(number) for number in range(count)))

    memory = Memory()
    with Clock() as clock:
        stores = asyncio.run(all_of_them())
    kb = memory.peak() * 1000 / count
    mixed = sum(store["n"] != number + 2 for number, store in enumerate(stores))
    return {"us": clock.wall / count * 1e6, "kb": kb, "mixed": float(mixed)}


# -- what grows -----------------------------------------------------------------------------------


def ways(name: str, task: Task) -> Measures:
    """Each step writes what it adds, twice, and applies it to the value in memory."""
    way = WAYS[name]

    def grow(path: Path, steps: int, characters: int) -> tuple[Clock, Any]:
        value = way.initial()

        def add(number: int) -> Any:
            nonlocal value
            added = way.added(number, text_of(number, characters))
            value = way.apply(value, added)
            return added

        with Clock() as clock:
            of_changes(path, steps, as_json(value), add, task.synchronous)
        return clock, value

    return growing.ways(way, task, grow)


def untouched(task: Task, *, on_disk: bool = True) -> Measures:
    steps = task.sizes["steps"]

    def run_beside(path: Path, kind: str, count: int, append: bool) -> list[float]:
        store: dict[str, Any] = {"n": 0, "steps": steps, kind: growing.elements(kind, count)}
        begun = []

        def turn(n: int) -> list[Any]:
            begun.append(process_time())
            added = growing.elements(kind, 1) if append else []
            store["n"] += 1
            store[kind] += added
            return [store["n"], *added]

        def post_turn(store: dict[str, Any], n: int, result: Any) -> str:
            return "again" if store["n"] < steps else "done"

        if on_disk:
            of_changes(path, steps, as_json(store), turn, task.synchronous, journal=False)
        else:
            run({"turn": (prep, turn, post_turn)}, {"turn": {"again": "turn"}}, "turn", store)
        expect((store["n"], len(store[kind])), (steps, count + steps * append), "steps, elements")
        return begun

    return growing.untouched(task, run_beside)


def branches(task: Task, *, on_disk: bool = True) -> Measures:
    """A loop, or tasks; on disk each result is committed, and in the end all of them."""
    items = task.sizes["items"]

    def spread(path: Path, many: int, at_once: int, measured: AbstractContextManager[Any]) -> Any:
        store = {"dicts": growing.elements("dicts", many)}
        with closing(create(path, task.synchronous)) as file, measured:
            began = perf_counter()
            record = Recorded(file, as_json(store)) if on_disk else None
            if at_once > 1:
                raw = file if on_disk else None
                results = asyncio.run(in_tasks(items, growing.WAITS, at_once, raw))
            else:
                results = []
                for number in range(items):
                    results.append(work(number))
                    if record is not None:
                        record.journal(number, results[-1])
            if record is not None:
                record.step(items - 1, json.dumps(results), "done", began, journaled=True)
        return results

    return growing.branches(task, spread)


def batch(task: Task) -> Measures:
    """Each result is committed, and in the end all of them."""

    def run_batch(items: Sequence[int]) -> list[str]:
        results = []
        with closing(create(task.path, task.synchronous)) as raw:
            began, record = perf_counter(), Recorded(raw, "{}")
            for item in items:
                results.append(text_of(item, task.sizes["characters"]))
                record.journal(item, results[-1])
            record.step(len(items) - 1, json.dumps(results), "done", began, journaled=True)
        return results

    return growing.batch(task, run_batch)


def conversation(task: Task) -> Measures:
    def talk(turns: int) -> tuple[list[float], list[Any]]:
        begun: list[float] = []
        messages: list[growing.Said] = []

        def turn(number: int) -> growing.Said | str:
            begun.append(process_time())
            change = growing.said(number, task.sizes)
            growing.tell(messages, change)
            return change

        of_changes(task.path, turns, "[]", turn, task.synchronous, journal=False)
        return begun, messages

    return growing.conversation(task, talk)


# -- lists ----------------------------------------------------------------------------------------


def fill(path: Path, runs: int) -> None:
    with closing(create(path, "NORMAL")) as raw:
        raw.execute("BEGIN")
        for run_no in range(1, runs + 1):
            row = (run_no, f"run-{run_no:07}", "completed", 10, "add")
            raw.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", row)
            raw.executemany(
                EVENT, [(run_no, step, "add", "node_end", "done", 0.1, "") for step in range(20)]
            )
        raw.execute("CREATE INDEX events_of_run ON events (run_no)")
        raw.execute("COMMIT")


def lists(task: Task) -> Measures:
    found: Measures = {}
    for name in ("runs", "many"):
        count = task.sizes[name]
        path = task.home / f"{name}.db"
        if not path.exists():
            fill(path, count)
        with closing(connect(path, "NORMAL")) as raw:
            found |= {f"{name}_{what}": took for what, took in reads(raw, count).items()}
    return found


def reads(raw: sqlite3.Connection, count: int) -> Measures:
    def rows(sql: str, *values: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in raw.execute(sql, values)]

    raw.row_factory = sqlite3.Row
    newest = "SELECT * FROM runs ORDER BY run_no DESC LIMIT 100"
    of_run = "SELECT * FROM events WHERE run_no = ?"
    expect(len(rows(newest)), min(count, 100), "runs")
    return {
        "ms": timed(lambda: rows(newest)),
        "events_ms": timed(lambda: rows(of_run, count // 2)),
    }


WORKERS = {
    "memory": memory,
    "chain": chain,
    "short": short,
    "typed": typed,
    "awaited": awaited,
    "async_node": async_node,
    "beside": beside,
    "limited": limited,
    "stored": stored,
    "large": large,
    "chat": chat,
    "awaits": awaits,
    "journaled": lambda task: awaits(task, journaled=True),
    "blocking": blocking,
    "import": importing("pass"),
    "processes": processes,
    "lists": lists,
    "peak": peak,
    "slowest": slowest,
    "many": many,
    **growing.workers(
        ways,
        untouched=untouched,
        branches=branches,
        batch=batch,
        conversation=conversation,
    ),
}
