"""LangGraph, with its checkpointer for SQLite."""

from __future__ import annotations

import asyncio
import operator
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

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


class Count(TypedDict, total=False):
    n: int
    steps: int
    text: Any


def add(state: Count) -> Count:
    return {"n": state["n"] + 1}


def again(state: Count) -> str:
    return "add" if state["n"] < state["steps"] else END


def counting(saver: Any = None) -> Any:
    builder = StateGraph(Count)
    builder.add_node("add", add)
    builder.add_edge(START, "add")
    builder.add_conditional_edges("add", again, ["add", END])
    return builder.compile(checkpointer=saver)


def config(steps: int, thread: str = "r", **more: Any) -> dict[str, Any]:
    return {"recursion_limit": steps + 2, "configurable": {"thread_id": thread}, **more}


@contextmanager
def saver(path: Path, synchronous: Synchronous) -> Iterator[SqliteSaver]:
    with closing(sqlite3.connect(path, check_same_thread=False, timeout=30)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute(f"PRAGMA synchronous = {synchronous}")
        yield SqliteSaver(raw)


def invoke(app: Any, state: Any, steps: int, thread: str = "r") -> Any:
    return app.invoke(state, config(steps, thread), durability="sync")


# -- in memory ------------------------------------------------------------------------------------


def memory(task: Task) -> Measures:
    steps, app = task.sizes["steps"], counting()
    with Clock() as clock:
        state = app.invoke({"n": 0, "steps": steps}, config(steps))
    expect(state["n"], steps, "steps")
    return clock.each(steps)


def chain(task: Task) -> Measures:
    size = task.sizes["nodes"]
    with Clock() as building:
        builder = StateGraph(Count)
        for number in range(size):
            builder.add_node(f"n{number}", add)
            builder.add_edge(f"n{number - 1}" if number else START, f"n{number}")
        app = builder.compile()
    with Clock() as clock:
        state = app.invoke({"n": 0}, config(size))
    expect(state["n"], size, "nodes")
    return {**clock.each(size), "build_us": building.wall / size * 1e6}


# -- with a database ------------------------------------------------------------------------------


def stored(task: Task, text: Any = KILOBYTE) -> Measures:
    steps = task.sizes["steps"]
    with Clock() as clock, saver(task.path, task.synchronous) as checkpointer:
        given = {"n": 0, "steps": steps, "text": text}
        state = invoke(counting(checkpointer), given, steps)
    expect(state["n"], steps, "steps")
    return clock.each(steps, task.path)


def append(messages: list[Any], updates: Any) -> list[Any]:
    return [*messages, *(one for update in updates for one in update)]


class Chat(TypedDict):
    messages: Annotated[list[Any], operator.add]
    steps: int


class DeltaChat(TypedDict):
    messages: Annotated[list[Any], DeltaChannel(append)]
    steps: int


def say(state: Any) -> dict[str, Any]:
    return {"messages": [message(len(state["messages"]))]}


def more(state: Any) -> str:
    return "say" if len(state["messages"]) < state["steps"] else END


def chat(task: Task) -> Measures:
    def talk(path: Path, steps: int) -> None:
        builder = StateGraph(DeltaChat if task.variant == "DeltaChannel" else Chat)
        builder.add_node("say", say)
        builder.add_edge(START, "say")
        builder.add_conditional_edges("say", more, ["say", END])
        with saver(path, task.synchronous) as checkpointer:
            app = builder.compile(checkpointer=checkpointer)
            state = invoke(app, {"messages": [], "steps": steps}, steps)
        expect(len(state["messages"]), steps, "messages")

    return growth(talk, task)


def peak(task: Task) -> Measures:
    document = [message(number) for number in range(100)]

    def run(path: Path, steps: int) -> None:
        with saver(path, task.synchronous) as checkpointer:
            given = {"n": 0, "steps": steps, "text": document}
            expect(invoke(counting(checkpointer), given, steps)["n"], steps, "steps")

    run(task.folder / "warm.db", 100)
    memory = Memory()
    run(task.path, task.sizes["steps"])
    return {"peak_mb": memory.peak()}


def processes(task: Task) -> Measures:
    steps = task.sizes["steps"]
    with saver(task.path, task.synchronous) as checkpointer:
        checkpointer.setup()

    def runs(task: Task, number: int) -> int:
        with saver(task.path, task.synchronous) as checkpointer:
            app = counting(checkpointer)
            given = {"n": 0, "steps": steps, "text": KILOBYTE}
            return attempts(
                task.sizes["runs"], lambda count: invoke(app, given, steps, f"{number}-{count}")
            )

    return in_processes(task, runs)


def lists(task: Task) -> Measures:
    """It lists checkpoints; the newest one of each run is asked for by SQL."""
    path, count = task.home / "runs.db", task.sizes["runs"]
    if not path.exists():
        with saver(path, "NORMAL") as checkpointer:
            invoke(counting(checkpointer), {"n": 0, "steps": 10}, 10)
        copies(path, {"checkpoints": "thread_id", "writes": "thread_id"}, count)
    with saver(path, "NORMAL") as checkpointer:
        found = list(checkpointer.list(None, limit=100))
        expect(len(found), 100, "checkpoints")
        one = {"configurable": {"thread_id": f"run-{count // 2:07}"}}
        expect(len(list(checkpointer.list(one))), 12, "checkpoints")
        return {
            "runs_ms": timed(lambda: list(checkpointer.list(None, limit=100)), 5),
            "runs_events_ms": timed(lambda: list(checkpointer.list(one))),
        }


# -- many items -----------------------------------------------------------------------------------


class Items(TypedDict, total=False):
    items: int
    item: int
    results: Annotated[list[int], operator.add]


def spread(state: Items) -> list[Send]:
    return [Send("work", {"item": item}) for item in range(state["items"])]


def mapping(work: Any, saver: Any = None) -> Any:
    builder = StateGraph(Items)
    builder.add_node("work", work)
    builder.add_conditional_edges(START, spread, ["work"])
    return builder.compile(checkpointer=saver)


def awaits(task: Task, *, journaled: bool = False) -> Measures:
    seconds, items = task.sizes["milliseconds"] / 1e3, task.sizes["items"]

    async def work(state: Items) -> Items:
        await asyncio.sleep(seconds)
        return {"results": [state["item"] + 1]}

    async def run() -> Items:
        asked = config(2, max_concurrency=task.sizes["concurrency"])
        if not journaled:
            found: Items = await mapping(work).ainvoke({"items": items}, asked)
            return found
        async with AsyncSqliteSaver.from_conn_string(str(task.path)) as checkpointer:
            await checkpointer.conn.execute(f"PRAGMA synchronous = {task.synchronous}")
            app = mapping(work, checkpointer)
            found = await app.ainvoke({"items": items}, asked, durability="sync")
            return found

    with Clock() as clock:
        state = asyncio.run(run())
    expect(sorted(state["results"]), list(range(1, items + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


def blocking(task: Task) -> Measures:
    seconds, items = task.sizes["milliseconds"] / 1e3, task.sizes["items"]

    def work(state: Items) -> Items:
        time.sleep(seconds)
        return {"results": [state["item"] + 1]}

    with Clock() as clock:
        asked = config(2, max_concurrency=task.sizes["threads"])
        state = mapping(work).invoke({"items": items}, asked)
    expect(sorted(state["results"]), list(range(1, items + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


def many(task: Task) -> Measures:
    count = task.sizes["runs"]
    arrived, everybody = 0, asyncio.Event()

    async def begin(state: Count) -> Count:
        return {"n": state["n"] + 1}

    async def meet(state: Count) -> Count:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            everybody.set()
        await everybody.wait()
        return {"n": state["n"] + 1}

    builder = StateGraph(Count)
    builder.add_node("begin", begin)
    builder.add_node("meet", meet)
    builder.add_edge(START, "begin")
    builder.add_edge("begin", "meet")
    app: Any = builder.compile()

    async def all_of_them() -> list[Count]:
        runs = (app.ainvoke({"n": number}) for number in range(count))
        found: list[Count] = await asyncio.gather(*runs)
        return found

    memory = Memory()
    with Clock() as clock:
        states = asyncio.run(all_of_them())
    kb = memory.peak() * 1000 / count
    mixed = sum(state["n"] != number + 2 for number, state in enumerate(states))
    return {"us": clock.wall / count * 1e6, "kb": kb, "mixed": float(mixed)}


WORKERS = {
    "memory": memory,
    "chain": chain,
    "stored": stored,
    "large": lambda task: stored(task, MEGABYTE),
    "chat": chat,
    "awaits": awaits,
    "journaled": lambda task: awaits(task, journaled=True),
    "blocking": blocking,
    "import": importing("import langgraph.graph"),
    "processes": processes,
    "lists": lists,
    "peak": peak,
    "many": many,
}
