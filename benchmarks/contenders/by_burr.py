"""Burr (apache-burr), with its persister for SQLite."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from burr.core import ApplicationBuilder, State, action, expr
from burr.core.parallelism import MapStates
from burr.core.persistence import SQLitePersister

from benchmarks.contenders.common import attempts, copies, importing, in_processes
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
    timed,
)

ABSENT = {"journaled": "keeps the state when all items have ended, not each result"}


@action(reads=["n"], writes=["n"])
def add(state: State) -> State:
    return state.update(n=state["n"] + 1)


@action(reads=[], writes=[])
def end(state: State) -> State:
    return state


def counting(persister: Any = None, app_id: str = "r", **state: Any) -> Any:
    builder = (
        ApplicationBuilder()
        .with_actions(add, end)
        .with_transitions(("add", "add", expr("n < steps")), ("add", "end"))
        .with_state(n=0, **state)
        .with_entrypoint("add")
        .with_identifiers(app_id=app_id)
    )
    if persister is not None:
        builder = builder.with_state_persister(persister)
    return builder.build()


@contextmanager
def persister(path: Path, synchronous: Synchronous) -> Iterator[SQLitePersister]:
    kept = SQLitePersister(str(path), connect_kwargs={"timeout": 30})
    kept.connection.execute("PRAGMA journal_mode = WAL")
    kept.connection.execute(f"PRAGMA synchronous = {synchronous}")
    kept.initialize()
    try:
        yield kept
    finally:
        kept.cleanup()


def until_end(app: Any) -> Any:
    return app.run(halt_before=["end"])[2]


# -- in memory ------------------------------------------------------------------------------------


def memory(task: Task) -> Measures:
    steps = task.sizes["steps"]
    app = counting(steps=steps)
    with Clock() as clock:
        state = until_end(app)
    expect(state["n"], steps, "steps")
    return clock.each(steps)


def chain(task: Task) -> Measures:
    size = task.sizes["nodes"]
    names = [f"n{number}" for number in range(size)]
    with Clock() as building:
        app: Any = (
            ApplicationBuilder()
            .with_actions(**dict.fromkeys(names, add), end=end)
            .with_transitions(*zip(names, [*names[1:], "end"], strict=True))
            .with_state(n=0)
            .with_entrypoint("n0")
            .build()
        )
    with Clock() as clock:
        state = until_end(app)
    expect(state["n"], size, "nodes")
    return {**clock.each(size), "build_us": building.wall / size * 1e6}


# -- with a database ------------------------------------------------------------------------------


def stored(task: Task, text: Any = KILOBYTE) -> Measures:
    steps = task.sizes["steps"]
    with Clock() as clock, persister(task.path, task.synchronous) as kept:
        state = until_end(counting(kept, steps=steps, text=text))
    expect(state["n"], steps, "steps")
    return clock.each(steps, task.path)


@action(reads=["messages"], writes=["messages", "n"])
def say(state: State) -> State:
    number = len(state["messages"])
    return state.append(messages=message(number)).update(n=number + 1)


def chat(task: Task) -> Measures:
    def talk(path: Path, steps: int) -> None:
        with persister(path, task.synchronous) as kept:
            app = (
                ApplicationBuilder()
                .with_actions(say, end)
                .with_transitions(("say", "say", expr("n < steps")), ("say", "end"))
                .with_state(n=0, messages=[], steps=steps)
                .with_entrypoint("say")
                .with_state_persister(kept)
                .build()
            )
            expect(len(until_end(app)["messages"]), steps, "messages")

    return growth(talk, task)


def peak(task: Task) -> Measures:
    document = [message(number) for number in range(100)]

    def run(path: Path, steps: int) -> None:
        with persister(path, task.synchronous) as kept:
            app = counting(kept, steps=steps, text=document)
            expect(until_end(app)["n"], steps, "steps")

    run(task.folder / "warm.db", 100)
    memory = Memory()
    run(task.path, task.sizes["steps"])
    return {"peak_mb": memory.peak()}


def processes(task: Task) -> Measures:
    with persister(task.path, task.synchronous):
        pass

    def runs(task: Task, number: int) -> int:
        with persister(task.path, task.synchronous) as kept:

            def one(count: int) -> None:
                sizes = {"steps": task.sizes["steps"], "text": KILOBYTE}
                until_end(counting(kept, f"{number}-{count}", **sizes))

            return attempts(task.sizes["runs"], one)

    return in_processes(task, runs)


def lists(task: Task) -> Measures:
    """It lists the ids of all runs, and loads the newest state of one."""
    path, count = task.home / "runs.db", task.sizes["runs"]
    if not path.exists():
        with persister(path, "NORMAL") as kept:
            until_end(counting(kept, steps=10))
        copies(path, {"burr_state": "app_id"}, count)
    with persister(path, "NORMAL") as kept:
        expect(len(kept.list_app_ids(None)), count, "runs")
        one = f"run-{count // 2:07}"
        return {
            "runs_ms": timed(lambda: kept.list_app_ids(None)[:100], 5),
            "runs_events_ms": timed(lambda: kept.load(None, one)),
        }


# -- many items -----------------------------------------------------------------------------------


class Blocks(MapStates):
    """Maps an action over copies of the state, in threads."""

    def __init__(self, work: Any) -> None:
        super().__init__()
        self.work = work

    def action(self, state: State, inputs: dict[str, Any]) -> Any:
        return self.work

    def states(self, state: State, context: Any, inputs: dict[str, Any]) -> Iterator[State]:
        for item in range(state["items"]):
            yield state.update(item=item)

    def reduce(self, state: State, results: Iterator[State]) -> State:
        return state.update(results=[one["result"] for one in results])

    @property
    def reads(self) -> list[str]:
        return ["items"]

    @property
    def writes(self) -> list[str]:
        return ["results"]


class Awaits(Blocks):
    """The same as tasks; how many run at once is bounded by the action."""

    def is_async(self) -> bool:
        return True

    async def states(  # type: ignore[override]
        self, state: State, context: Any, inputs: dict[str, Any]
    ) -> AsyncIterator[State]:
        for one in super().states(state, context, inputs):
            yield one

    async def reduce(  # type: ignore[override]
        self, state: State, results: AsyncIterator[State]
    ) -> State:
        return state.update(results=[one["result"] async for one in results])


def mapping(spread: Any, items: int) -> Any:
    return (
        ApplicationBuilder()
        .with_actions(spread=spread, end=end)
        .with_transitions(("spread", "end"))
        .with_state(items=items)
        .with_entrypoint("spread")
    )


def awaits(task: Task) -> Measures:
    seconds, items = task.sizes["milliseconds"] / 1e3, task.sizes["items"]

    async def run() -> Any:
        room = asyncio.Semaphore(task.sizes["concurrency"])

        @action(reads=["item"], writes=["result"])
        async def work(state: State) -> State:
            async with room:
                await asyncio.sleep(seconds)
            return state.update(result=state["item"] + 1)

        app = await mapping(Awaits(work), items).abuild()
        return (await app.arun(halt_before=["end"]))[2]

    with Clock() as clock:
        state = asyncio.run(run())
    expect(sorted(state["results"]), list(range(1, items + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


def blocking(task: Task) -> Measures:
    seconds, items = task.sizes["milliseconds"] / 1e3, task.sizes["items"]

    @action(reads=["item"], writes=["result"])
    def work(state: State) -> State:
        time.sleep(seconds)
        return state.update(result=state["item"] + 1)

    with Clock() as clock:
        app = (
            mapping(Blocks(work), items)
            .with_parallel_executor(lambda: ThreadPoolExecutor(task.sizes["threads"]))
            .build()
        )
        state = until_end(app)
    expect(sorted(state["results"]), list(range(1, items + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


def many(task: Task) -> Measures:
    count = task.sizes["runs"]
    arrived, everybody = 0, asyncio.Event()

    @action(reads=["n"], writes=["n"])
    async def begin(state: State) -> State:
        return state.update(n=state["n"] + 1)

    @action(reads=["n"], writes=["n"])
    async def meet(state: State) -> State:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            everybody.set()
        await everybody.wait()
        return state.update(n=state["n"] + 1)

    async def one(number: int) -> int:
        app: Any = await (
            ApplicationBuilder()
            .with_actions(begin, meet, end)
            .with_transitions(("begin", "meet"), ("meet", "end"))
            .with_state(n=number)
            .with_entrypoint("begin")
            .abuild()
        )
        n: int = (await app.arun(halt_before=["end"]))[2]["n"]
        return n

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(one(number) for number in range(count)))

    memory = Memory()
    with Clock() as clock:
        ends = asyncio.run(all_of_them())
    kb = memory.peak() * 1000 / count
    mixed = sum(n != number + 2 for number, n in enumerate(ends))
    return {"us": clock.wall / count * 1e6, "kb": kb, "mixed": float(mixed)}


WORKERS = {
    "memory": memory,
    "chain": chain,
    "stored": stored,
    "large": lambda task: stored(task, MEGABYTE),
    "chat": chat,
    "awaits": awaits,
    "blocking": blocking,
    "import": importing("import burr.core"),
    "processes": processes,
    "lists": lists,
    "peak": peak,
    "many": many,
}
