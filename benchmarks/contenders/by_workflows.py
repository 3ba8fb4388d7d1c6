"""LlamaIndex Workflows, with the SQLite store of its server.

The server's durable runtime is used as the server uses it, without HTTP around it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from llama_agents.server import HandlerQuery, SqliteWorkflowStore
from llama_agents.server.runtime import _DurableWorkflowRuntime
from pydantic import create_model
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from benchmarks.contenders.common import copies, importing, in_processes
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
    timed,
)

logging.disable(logging.INFO)


class Again(Event):
    n: int
    steps: int


class Counting(Workflow):
    """The number goes from event to event."""

    @step
    async def add(self, ev: StartEvent | Again) -> Again | StopEvent:
        n = ev.n + 1
        return Again(n=n, steps=ev.steps) if n < ev.steps else StopEvent(result=n)


def memory(task: Task) -> Measures:
    steps = task.sizes["steps"]

    async def run() -> int:
        n: int = await Counting(timeout=None).run(n=0, steps=steps)
        return n

    with Clock() as clock:
        n = asyncio.run(run())
    expect(n, steps, "steps")
    return clock.each(steps)


def chained(size: int) -> type[Workflow]:
    """A class with a step, and an event for it, for each node."""
    kinds: list[Any] = [StartEvent]
    kinds += [
        create_model(f"Event{number}", __base__=Event, n=(int, 0)) for number in range(1, size)
    ]
    kinds.append(StopEvent)
    body: dict[str, Any] = {}
    for number in range(size):
        last = number + 1 == size
        body[f"step_{number}"] = link(number, kinds[number], kinds[number + 1], last=last)
    return type("Chained", (Workflow,), body)


def link(number: int, taken: Any, given: Any, *, last: bool) -> Any:
    async def add(self: Any, ev: Any) -> Any:
        return given(result=ev.n + 1) if last else given(n=ev.n + 1)

    add.__name__ = f"step_{number}"
    add.__qualname__ = f"Chained.step_{number}"
    add.__annotations__ = {"ev": taken, "return": given}
    return step(add)


def chain(task: Task) -> Measures:
    size = task.sizes["nodes"]
    with Clock() as building:
        workflow: Any = chained(size)(timeout=None)

    async def run() -> int:
        n: int = await workflow.run(n=0)
        return n

    with Clock() as clock:
        n = asyncio.run(run())
    expect(n, size, "nodes")
    return {**clock.each(size), "build_us": building.wall / size * 1e6}


# -- with a database ------------------------------------------------------------------------------


class Tick(Event):
    """Asks for the next step; what is counted is in the store."""


class Stored(Workflow):
    """The number is in the store, beside a text."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Tick:
        async with ctx.store.edit_state() as state:
            state.n, state.steps, state.text = 0, ev.steps, ev.text
        return Tick()

    @step
    async def add(self, ctx: Context, ev: Tick) -> Tick | StopEvent:
        async with ctx.store.edit_state() as state:
            state.n += 1
            return Tick() if state.n < state.steps else StopEvent(result=state.n)


class Chatting(Workflow):
    """Appends a message to a list in the store."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Tick:
        async with ctx.store.edit_state() as state:
            state.messages, state.steps = [], ev.steps
        return Tick()

    @step
    async def say(self, ctx: Context, ev: Tick) -> Tick | StopEvent:
        async with ctx.store.edit_state() as state:
            number = len(state.messages)
            state.messages.append(message(number))
            return Tick() if number + 1 < state.steps else StopEvent(result=number + 1)


@asynccontextmanager
async def durable(path: Path, workflow: Workflow) -> AsyncIterator[Any]:
    store = SqliteWorkflowStore(str(path), poll_interval=0.01)
    runtime = _DurableWorkflowRuntime(workflow_store=store)
    runtime.add_workflow("work", workflow)
    async with runtime:
        yield runtime


async def finished(runtime: Any, handler_id: str, **given: Any) -> Any:
    """Run to the end, as far as the file tells."""
    await runtime.run("work", handler_id=handler_id, **given)
    result = await runtime._active_handlers[handler_id]
    for _ in range(10_000):  # nothing tells when its last write is done
        if (await handler(runtime, handler_id)).status == "completed":
            return result
        await asyncio.sleep(0.001)
    raise RuntimeError(f"{handler_id} has ended, and its file does not say so")


async def handler(runtime: Any, handler_id: str) -> Any:
    found = await runtime._store.query(HandlerQuery(handler_id_in=[handler_id]))
    return found[0]


def counted(path: Path, steps: int, text: Any) -> None:
    async def run() -> Any:
        async with durable(path, Stored(timeout=None)) as runtime:
            return await finished(runtime, "r", steps=steps, text=text)

    expect(asyncio.run(run()), steps, "steps")


def stored(task: Task, text: Any = KILOBYTE) -> Measures:
    steps = task.sizes["steps"]
    with Clock() as clock:
        counted(task.path, steps, text)
    return clock.each(steps, task.path)


def chat(task: Task) -> Measures:
    def talk(path: Path, steps: int) -> None:
        async def run() -> Any:
            async with durable(path, Chatting(timeout=None)) as runtime:
                return await finished(runtime, "r", steps=steps)

        expect(asyncio.run(run()), steps, "messages")

    return growth(talk, task)


def peak(task: Task) -> Measures:
    document = [message(number) for number in range(100)]
    counted(task.folder / "warm.db", 20, document)
    memory = Memory()
    counted(task.path, task.sizes["steps"], document)
    return {"peak_mb": memory.peak()}


def processes(task: Task) -> Measures:
    SqliteWorkflowStore(str(task.path))
    steps = task.sizes["steps"]

    def runs(task: Task, number: int) -> int:
        async def all_of_them() -> int:
            errors = 0
            async with durable(task.path, Stored(timeout=None)) as runtime:
                for count in range(task.sizes["runs"]):
                    try:
                        name = f"{number}-{count}"
                        await finished(runtime, name, steps=steps, text=KILOBYTE)
                    except Exception as error:  # noqa: BLE001 - counted
                        print(f"run {count}: {type(error).__name__}: {error}")
                        errors += 1
            return errors

        return asyncio.run(all_of_them())

    return in_processes(task, runs)


def lists(task: Task) -> Measures:
    """It lists all runs, or those of a status, without a limit."""
    path, count = task.home / "runs.db", task.sizes["runs"]
    if not path.exists():
        counted(path, 10, "")
        copies(path, {"handlers": "handler_id"}, count)
    store = SqliteWorkflowStore(str(path))

    async def everything() -> Any:
        return await store.query(HandlerQuery(status_in=["completed"]))

    with asyncio.Runner() as runner:
        found = runner.run(everything())
        expect(len(found), count, "runs")
        run_id = next(one.run_id for one in found if one.handler_id == "r")
        return {
            "runs_ms": timed(lambda: runner.run(everything()), 5),
            "runs_events_ms": timed(lambda: runner.run(store.query_events(run_id))),
        }


# -- many items -----------------------------------------------------------------------------------


class Item(Event):
    item: int


class Done(Event):
    result: int


def mapping(seconds: float, workers: int, *, blocks: bool) -> type[Workflow]:
    class Mapping(Workflow):
        @step
        async def spread(self, ctx: Context, ev: StartEvent) -> Item | None:
            await ctx.store.set("count", ev.count)
            for item in range(ev.count):
                ctx.send_event(Item(item=item))
            return None

        @step(num_workers=workers)
        async def work(self, ev: Item) -> Done:
            if blocks:
                await asyncio.to_thread(time.sleep, seconds)
            else:
                await asyncio.sleep(seconds)
            return Done(result=ev.item + 1)

        @step
        async def collect(self, ctx: Context, ev: Done) -> StopEvent | None:
            count = await ctx.store.get("count")
            found = ctx.collect_events(ev, [Done] * count)
            return None if found is None else StopEvent(result=[one.result for one in found])

    return Mapping


def awaits(task: Task, *, blocks: bool = False, journaled: bool = False) -> Measures:
    workers = task.sizes["threads" if blocks else "concurrency"]
    kind: Any = mapping(task.sizes["milliseconds"] / 1e3, workers, blocks=blocks)
    items = task.sizes["items"]

    async def run() -> Any:
        if not journaled:
            return await kind(timeout=None).run(count=items)
        async with durable(task.path, kind(timeout=None)) as runtime:
            return await finished(runtime, "r", count=items)

    with Clock() as clock:
        results = asyncio.run(run())
    expect(sorted(results), list(range(1, items + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


class Next(Event):
    n: int


def many(task: Task) -> Measures:
    count = task.sizes["runs"]
    arrived, everybody = 0, asyncio.Event()

    class Meeting(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Next:
            return Next(n=ev.n + 1)

        @step
        async def meet(self, ev: Next) -> StopEvent:
            nonlocal arrived
            arrived += 1
            if arrived == count:
                everybody.set()
            await everybody.wait()
            return StopEvent(result=ev.n + 1)

    async def all_of_them() -> list[int]:
        workflow = Meeting(timeout=None)
        runs = (workflow.run(n=number) for number in range(count))
        found: list[int] = await asyncio.gather(*runs)
        return found

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
    "journaled": lambda task: awaits(task, journaled=True),
    "blocking": lambda task: awaits(task, blocks=True),
    "import": importing("import workflows"),
    "processes": processes,
    "lists": lists,
    "peak": peak,
    "many": many,
}
