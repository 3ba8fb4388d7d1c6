"""LangGraph, with its checkpointer for SQLite."""

from __future__ import annotations

import asyncio
import operator
import sqlite3
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, closing, contextmanager
from pathlib import Path
from time import process_time
from typing import Annotated, Any, TypedDict, cast

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from benchmarks import growing
from benchmarks.contenders.common import attempts, copies, importing, in_processes
from benchmarks.growing import LAST, WAYS, Talk
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


class Count(TypedDict, total=False):
    n: int
    steps: int
    text: Any


def add(state: Count) -> Count:
    return {"n": state["n"] + 1}


def again(state: Any) -> str:
    return "act" if state["n"] < state["steps"] else END


def looping(schema: Any, act: Any, saver: Any = None) -> Any:
    builder = StateGraph(schema)
    builder.add_node("act", act)
    builder.add_edge(START, "act")
    builder.add_conditional_edges("act", again, ["act", END])
    return builder.compile(checkpointer=saver)


def counting(saver: Any = None) -> Any:
    return looping(Count, add, saver)


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


def mapping(work: Any, saver: Any = None, schema: Any = Items) -> Any:
    builder = StateGraph(schema)
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


# -- what grows -----------------------------------------------------------------------------------

# The value with the writes of some steps. A state is not changed in place.
REDUCERS: dict[str, Callable[[Any, Sequence[Any]], Any]] = {
    "list": lambda it, new: [*it, *new],
    "longer": lambda it, new: [*it, *new],
    "dict": lambda it, new: dict(ChainMap(*reversed(new), it)),
    "inner": lambda it, new: {"list": [*it.get("list", ()), *new]},
    "model": lambda it, new: Talk([*it.messages, *new]),
    "text": lambda it, new: it + "".join(new),
    "last": lambda it, new: [*it[:-1], "".join([*it[-1:], *new])],
    "window": lambda it, new: [*it, *new][-LAST:],
}


def ways(name: str, task: Task) -> Measures:
    way, make, annotated = WAYS[name], cast(Any, TypedDict), cast(Any, Annotated)
    it = annotated[type(way.initial()), DeltaChannel(REDUCERS[name])]
    schema = make("Grown", {"it": it, "n": int, "steps": int}, total=False)

    def grow(path: Path, steps: int, characters: int) -> tuple[Clock, Any]:
        def write(state: Any) -> dict[str, Any]:
            n = state["n"]
            return {"n": n + 1, "it": way.added(n, text_of(n, characters))}

        with Clock() as clock, saver(path, task.synchronous) as checkpointer:
            app = looping(schema, write, checkpointer)
            state = invoke(app, {"n": 0, "steps": steps}, steps)
        return clock, state["it"]

    return growing.ways(way, task, grow)


class Beside(Count, total=False):
    dicts: Annotated[list[Any], DeltaChannel(append)]
    models: Annotated[list[Any], DeltaChannel(append)]


def untouched(task: Task, *, on_disk: bool = True) -> Measures:
    steps = task.sizes["steps"]

    def run(path: Path, kind: str, count: int, append: bool) -> list[float]:
        begun = []

        def turn(state: Any) -> dict[str, Any]:
            begun.append(process_time())
            changed = {kind: growing.elements(kind, 1)} if append else {}
            return {"n": state["n"] + 1, **changed}

        given = {"n": 0, "steps": steps, kind: growing.elements(kind, count)}
        if on_disk:
            with saver(path, task.synchronous) as checkpointer:
                state = invoke(looping(Beside, turn, checkpointer), given, steps)
        else:
            state = looping(Beside, turn).invoke(given, config(steps))
        expect((state["n"], len(state[kind])), (steps, count + steps * append), "steps, elements")
        return begun

    return growing.untouched(task, run)


class ItemsBeside(Items, total=False):
    dicts: Annotated[list[Any], DeltaChannel(append)]


def branches(task: Task, *, on_disk: bool = True) -> Measures:
    items = task.sizes["items"]

    def work(state: Items) -> Items:
        return {"results": [state["item"] + 1]}

    async def wait(state: Items) -> Items:
        await asyncio.sleep(growing.WAITS)
        return work(state)

    def spread(path: Path, many: int, at_once: int, measured: AbstractContextManager[Any]) -> Any:
        given = {"items": items, "dicts": growing.elements("dicts", many)}
        asked = config(2, max_concurrency=at_once)
        more: dict[str, Any] = {"durability": "sync"} if on_disk else {}

        async def run() -> Any:
            async with AsyncExitStack() as stack:
                checkpointer = None
                if on_disk:
                    made = AsyncSqliteSaver.from_conn_string(str(path))
                    checkpointer = await stack.enter_async_context(made)
                    await checkpointer.conn.execute(f"PRAGMA synchronous = {task.synchronous}")
                with measured:
                    app = mapping(wait, checkpointer, ItemsBeside)
                    return await app.ainvoke(given, asked, **more)

        if at_once > 1:
            state = asyncio.run(run())
        else:
            with saver(path, task.synchronous) as checkpointer, measured:
                app = mapping(work, checkpointer if on_disk else None, ItemsBeside)
                state = app.invoke(given, asked, **more)
        return sorted(state["results"])

    return growing.branches(task, spread)


def batch(task: Task) -> Measures:
    def work(state: Any) -> dict[str, list[str]]:
        return {"results": [text_of(state["item"], task.sizes["characters"])]}

    def run(items: Sequence[int]) -> list[str]:
        asked = config(2, max_concurrency=1)
        with saver(task.path, task.synchronous) as checkpointer:
            app = mapping(work, checkpointer)
            state = app.invoke({"items": len(items)}, asked, durability="sync")
        return sorted(state["results"])

    return growing.batch(task, run)


def told(messages: list[growing.Said], changes: Sequence[growing.Said | str]) -> list[growing.Said]:
    made = [*messages]
    for change in changes:
        if isinstance(change, str):
            made[-1] = {**made[-1]}
        growing.tell(made, change)
    return made


class Told(TypedDict, total=False):
    messages: Annotated[list[Any], DeltaChannel(told)]
    n: int
    steps: int


def conversation(task: Task) -> Measures:
    def talk(turns: int) -> tuple[list[float], list[Any]]:
        begun = []

        def turn(state: Told) -> dict[str, Any]:
            begun.append(process_time())
            n = state["n"]
            return {"n": n + 1, "messages": growing.said(n, task.sizes)}

        with saver(task.path, task.synchronous) as checkpointer:
            app = looping(Told, turn, checkpointer)
            state = invoke(app, {"n": 0, "steps": turns}, turns)
        return begun, state["messages"]

    return growing.conversation(task, talk)


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
    **growing.workers(
        ways,
        untouched=untouched,
        branches=branches,
        batch=batch,
        conversation=conversation,
    ),
}
