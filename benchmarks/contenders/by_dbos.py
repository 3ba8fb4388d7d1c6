"""DBOS with SQLite. Its model is code whose steps are recorded: the state is the code's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import process_time
from typing import Any

import sqlalchemy
from dbos import DBOS, SetWorkflowID

from benchmarks import growing
from benchmarks.contenders.common import attempts, copies, importing, in_processes
from benchmarks.growing import WAYS
from benchmarks.task import (
    KILOBYTE,
    MEGABYTE,
    Clock,
    Measures,
    Memory,
    Synchronous,
    Task,
    expect,
    growth,
    message,
    text_of,
    timed,
)

ABSENT = {
    **dict.fromkeys(("memory", "chain"), "has no run without a database"),
    "awaits": "has no run without a database; see the journaled one",
    **dict.fromkeys(
        ("many", "untouched-memory", "branches-memory"), "has no run without a database"
    ),
    "blocking": "runs blocking items as workflows of a queue that is polled",
}


@DBOS.step()
def add(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "n": state["n"] + 1}


@DBOS.workflow()
def counting(steps: int, text: str) -> int:
    """The text goes from step to step, as a store would."""
    state: dict[str, Any] = {"n": 0, "text": text}
    while state["n"] < steps:
        state = add(state)
    return int(state["n"])


@DBOS.step()
def increment(n: int) -> int:
    return n + 1


@DBOS.workflow()
def beside(steps: int, text: Any) -> int:
    """The text stays an argument of the workflow."""
    n = 0
    while n < steps:
        n = int(increment(n))
    return n


@DBOS.step()
def say(number: int) -> dict[str, str]:
    return message(number)


@DBOS.workflow()
def talking(steps: int) -> int:
    messages: list[dict[str, str]] = []
    while len(messages) < steps:
        messages.append(say(len(messages)))
    return len(messages)


@DBOS.step()
async def wait(item: int, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return item + 1


@DBOS.workflow()
async def waiting(items: int, seconds: float, concurrency: int, beside: Any = None) -> list[int]:
    room = asyncio.Semaphore(concurrency)

    async def one(item: int) -> int:
        async with room:
            result: int = await wait(item, seconds)
            return result

    return await asyncio.gather(*(one(item) for item in range(items)))


@DBOS.step()
async def change(n: int, size: int) -> str:
    return text_of(n + 1, size)


@DBOS.workflow()
async def changing(steps: int, size: int) -> int:
    """What a step returns is what it changes."""
    n = 0
    while n < steps:
        n = int((await change(n, size))[:6])
    return n


def durable(task: Task) -> Measures:
    """Several workflows at once, on a server."""
    runs, steps = task.sizes["runs"], task.sizes["steps"]
    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": task.variant,
            "executor_id": task.home.name,
            "application_version": "1",
            "log_level": "ERROR",
        }
    )
    DBOS.launch()

    async def main() -> list[int]:
        begun = (changing(steps, task.sizes["bytes"]) for _ in range(runs))
        return list(await asyncio.gather(*begun))

    try:
        with Clock() as clock:
            expect(asyncio.run(main()), [steps] * runs, "steps")
    finally:
        DBOS.destroy()
    return clock.each(runs * steps)


@contextmanager
def launched(path: Path, synchronous: Synchronous, executor: str = "local") -> Iterator[None]:
    """DBOS on a file, with the settings of its own engine and those of the work."""
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")

    @sqlalchemy.event.listens_for(engine, "connect")
    def configure(raw: Any, record: Any) -> None:
        raw.isolation_level = "IMMEDIATE"
        raw.execute("PRAGMA busy_timeout = 30000")
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute(f"PRAGMA synchronous = {synchronous}")

    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": f"sqlite:///{path}",
            "system_database_engine": engine,
            "executor_id": executor,
            "application_version": "1",
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()
        engine.dispose()


def stored(task: Task) -> Measures:
    steps = task.sizes["steps"]
    with launched(task.path, task.synchronous), Clock() as clock:
        expect(counting(steps, KILOBYTE), steps, "steps")
    return clock.each(steps, task.path)


def large(task: Task) -> Measures:
    steps = task.sizes["steps"]
    with launched(task.path, task.synchronous), Clock() as clock:
        expect(beside(steps, MEGABYTE), steps, "steps")
    return clock.each(steps, task.path)


def chat(task: Task) -> Measures:
    took = []

    def talk(path: Path, steps: int) -> None:
        with launched(path, task.synchronous), Clock() as clock:
            expect(talking(steps), steps, "messages")
        took.append(clock)

    found = growth(talk, task)
    return {**found, **took[-1].each(task.sizes["steps"])}


def peak(task: Task) -> Measures:
    document = [message(number) for number in range(100)]
    with launched(task.path, task.synchronous):
        beside(100, document)
        memory = Memory()
        expect(beside(task.sizes["steps"], document), task.sizes["steps"], "steps")
        return {"peak_mb": memory.peak()}


def processes(task: Task) -> Measures:
    with launched(task.path, task.synchronous):
        pass

    def runs(task: Task, number: int) -> int:
        with launched(task.path, task.synchronous, f"process-{number}"):
            return attempts(
                task.sizes["runs"], lambda count: counting(task.sizes["steps"], KILOBYTE)
            )

    return in_processes(task, runs)


def journaled(task: Task) -> Measures:
    seconds, items = task.sizes["milliseconds"] / 1e3, task.sizes["items"]

    async def run() -> tuple[list[int], Clock]:
        with Clock() as clock:
            results = await waiting(items, seconds, task.sizes["concurrency"])
        return results, clock

    with launched(task.path, task.synchronous):
        results, clock = asyncio.run(run())
    expect(sorted(results), list(range(1, items + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


def lists(task: Task) -> Measures:
    path, count = task.home / "runs.db", task.sizes["runs"]
    if not path.exists():
        with launched(path, "NORMAL"), SetWorkflowID("first"):
            counting(10, "")
        ids = {"workflow_status": "workflow_uuid", "operation_outputs": "workflow_uuid"}
        copies(path, ids, count)
    with launched(path, "NORMAL"):
        one = f"run-{count // 2:07}"
        expect(len(DBOS.list_workflows(limit=100, sort_desc=True)), 100, "runs")
        expect(len(DBOS.list_workflow_steps(one)), 10, "steps")
        return {
            "runs_ms": timed(lambda: DBOS.list_workflows(limit=100, sort_desc=True)),
            "runs_events_ms": timed(lambda: DBOS.list_workflow_steps(one)),
        }


# -- what grows -----------------------------------------------------------------------------------

# What a workflow returns is on record, so what it comes to is checked from here.
ended: list[Any] = []
begun: list[float] = []


@DBOS.step()
def write(name: str, number: int, characters: int) -> Any:
    return WAYS[name].added(number, text_of(number, characters))


@DBOS.workflow()
def writing(name: str, steps: int, characters: int) -> None:
    value = WAYS[name].initial()
    for number in range(steps):
        value = WAYS[name].apply(value, write(name, number, characters))
    ended.append(value)


def ways(name: str, task: Task) -> Measures:
    def grow(path: Path, steps: int, characters: int) -> tuple[Clock, Any]:
        with launched(path, task.synchronous), Clock() as clock:
            writing(name, steps, characters)
        return clock, ended.pop()

    return growing.ways(WAYS[name], task, grow)


@DBOS.step()
def turn(n: int, kind: str, append: bool) -> list[Any]:
    begun.append(process_time())
    return [n + 1, *growing.elements(kind, 1 if append else 0)]


@DBOS.workflow()
def turning(steps: int, kind: str, elements: list[Any], append: bool) -> list[int]:
    """The elements are an argument of the workflow."""
    n = 0
    while n < steps:
        n, *added = turn(n, kind, append)
        elements += added
    return [n, len(elements)]


def untouched(task: Task) -> Measures:
    steps = task.sizes["steps"]

    def run(path: Path, kind: str, count: int, append: bool) -> list[float]:
        begun.clear()
        found = turning(steps, kind, growing.elements(kind, count), append)
        expect(found, [steps, count + steps * append], "steps, elements")
        return [*begun]

    with launched(task.path, task.synchronous):
        return growing.untouched(task, run)


@DBOS.workflow()
def each(items: int, beside: Any) -> list[int]:
    return [increment(item) for item in range(items)]


def branches(task: Task) -> Measures:
    items = task.sizes["items"]

    def spread(path: Path, many: int, at_once: int, measured: AbstractContextManager[Any]) -> Any:
        dicts = growing.elements("dicts", many)

        async def run() -> list[int]:
            with measured:
                results: list[int] = await waiting(items, growing.WAITS, at_once, dicts)
            return results

        with launched(path, task.synchronous):
            if at_once > 1:
                return asyncio.run(run())
            with measured:
                return each(items, dicts)

    return growing.branches(task, spread)


@DBOS.workflow()
def texts(items: int, characters: int) -> list[str]:
    return [write("text", item, characters) for item in range(items)]


def batch(task: Task) -> Measures:
    def run(items: Sequence[int]) -> list[str]:
        with launched(task.path, task.synchronous):
            results: list[str] = texts(len(items), task.sizes["characters"])
        return results

    return growing.batch(task, run)


@DBOS.step()
def reply(number: int, turns: dict[str, int]) -> growing.Said | str:
    begun.append(process_time())
    return growing.said(number, turns)


@DBOS.workflow()
def conversing(turns: dict[str, int]) -> None:
    messages: list[growing.Said] = []
    for number in range(sum(turns.values())):
        growing.tell(messages, reply(number, turns))
    ended.append(messages)


def conversation(task: Task) -> Measures:
    def talk(turns: int) -> tuple[list[float], list[Any]]:
        begun.clear()
        with launched(task.path, task.synchronous):
            conversing(dict(task.sizes))
        return [*begun], ended.pop()

    return growing.conversation(task, talk)


WORKERS = {
    "stored": stored,
    "large": large,
    "chat": chat,
    "journaled": journaled,
    "import": importing("import dbos"),
    "processes": processes,
    "lists": lists,
    "peak": peak,
    "durable": durable,
    **growing.workers(
        ways,
        in_memory=False,
        untouched=untouched,
        branches=branches,
        batch=batch,
        conversation=conversation,
    ),
}
