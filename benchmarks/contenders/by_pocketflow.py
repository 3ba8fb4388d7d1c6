"""PocketFlow: a store, prep, exec and post, in memory only."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pocketflow

from benchmarks.contenders.common import importing
from benchmarks.task import Clock, Measures, Memory, Task, expect

ABSENT = {
    **dict.fromkeys(
        ("stored", "journaled", "large", "chat", "processes", "lists", "peak", "slowest"),
        "keeps nothing on disk",
    ),
    "blocking": "has no threads",
    "check": "has no check before a run",
}


class Add(pocketflow.Node):
    def prep(self, shared: dict[str, int]) -> int:
        return shared["n"]

    def exec(self, prep_res: int) -> int:
        return prep_res + 1

    def post(self, shared: dict[str, int], prep_res: int, exec_res: int) -> str | None:
        shared["n"] = exec_res
        return "again" if exec_res < shared["steps"] else None


def memory(task: Task) -> Measures:
    steps, node = task.sizes["steps"], Add()
    node.next(node, "again")
    node.next(pocketflow.Node(), "default")  # without this edge it warns at the end
    shared = {"n": 0, "steps": steps}
    with Clock() as clock:
        pocketflow.Flow(start=node).run(shared)
    expect(shared["n"], steps, "steps")
    return clock.each(steps)


def chain(task: Task) -> Measures:
    size = task.sizes["nodes"]
    with Clock() as building:
        nodes = [Add() for _ in range(size)]
        for one, successor in pairwise(nodes):
            one.next(successor, "again")
        nodes[-1].next(pocketflow.Node(), "default")
    shared = {"n": 0, "steps": size}
    with Clock() as clock:
        pocketflow.Flow(start=nodes[0]).run(shared)
    expect(shared["n"], size, "nodes")
    return {**clock.each(size), "build_us": building.wall / size * 1e6}


class Await(pocketflow.AsyncParallelBatchNode):
    """All at once; the bound on how many is ours."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.seconds = task.sizes["milliseconds"] / 1e3
        self.room = asyncio.Semaphore(task.sizes["concurrency"])

    async def prep_async(self, shared: dict[str, Any]) -> Any:
        return range(shared["items"])

    async def exec_async(self, prep_res: int) -> int:
        async with self.room:
            await asyncio.sleep(self.seconds)
        return prep_res + 1

    async def post_async(self, shared: dict[str, Any], prep_res: Any, exec_res: Any) -> None:
        shared["results"] = exec_res


def awaits(task: Task) -> Measures:
    shared: dict[str, Any] = {"items": task.sizes["items"]}

    async def run() -> None:
        await pocketflow.AsyncFlow(start=Await(task)).run_async(shared)

    with Clock() as clock:
        asyncio.run(run())
    expect(shared["results"], list(range(1, shared["items"] + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


class Begin(pocketflow.AsyncNode):
    async def prep_async(self, shared: dict[str, int]) -> int:
        return shared["n"]

    async def exec_async(self, prep_res: int) -> int:
        return prep_res + 1

    async def post_async(self, shared: dict[str, int], prep_res: int, exec_res: int) -> None:
        shared["n"] = exec_res


class Meet(Begin):
    """Goes on when all runs have come this far."""

    everybody: asyncio.Event
    count = arrived = 0

    async def exec_async(self, prep_res: int) -> int:
        Meet.arrived += 1  # a node is copied for each step
        if Meet.arrived == Meet.count:
            Meet.everybody.set()
        await Meet.everybody.wait()
        return prep_res + 1


def many(task: Task) -> Measures:
    count = task.sizes["runs"]
    stores = [{"n": number} for number in range(count)]

    async def all_of_them() -> None:
        Meet.count, Meet.arrived, Meet.everybody = count, 0, asyncio.Event()
        begin = Begin()
        begin.next(Meet(), "default")
        flow = pocketflow.AsyncFlow(start=begin)
        await asyncio.gather(*(flow.run_async(store) for store in stores))

    memory = Memory()
    with Clock() as clock:
        asyncio.run(all_of_them())
    kb = memory.peak() * 1000 / count
    mixed = sum(store["n"] != number + 2 for number, store in enumerate(stores))
    return {"us": clock.wall / count * 1e6, "kb": kb, "mixed": float(mixed)}


WORKERS = {
    "memory": memory,
    "chain": chain,
    "awaits": awaits,
    "import": importing("import pocketflow"),
    "many": many,
}
