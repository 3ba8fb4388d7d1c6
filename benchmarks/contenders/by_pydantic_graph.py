"""pydantic-graph, in memory only: since its second major version it persists nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from pydantic_graph import (
    BaseNode,
    End,
    GraphBuilder,
    GraphRunContext,
    StepContext,
    reduce_list_append,
)

from benchmarks.contenders.common import importing
from benchmarks.task import Clock, Measures, Memory, Task, expect

ABSENT = {
    **dict.fromkeys(
        ("stored", "journaled", "large", "chat", "processes", "lists", "peak"),
        "keeps nothing on disk (it did before version 2)",
    ),
    "blocking": "has no threads; a blocking call blocks its event loop",
}


@dataclass
class Count:
    n: int = 0
    steps: int = 0


@dataclass
class Add(BaseNode[Count, None, int]):
    async def run(self, ctx: GraphRunContext[Count, None]) -> Add | End[int]:
        ctx.state.n += 1
        return Add() if ctx.state.n < ctx.state.steps else End(ctx.state.n)


def memory(task: Task) -> Measures:
    steps = task.sizes["steps"]
    builder: Any = GraphBuilder(state_type=Count, output_type=int)
    builder.add(builder.node(Add), builder.edge_from(builder.start_node).transform(first).to(Add))
    graph = builder.build()
    with Clock() as clock:
        n = asyncio.run(graph.run(state=Count(steps=steps)))
    expect(n, steps, "steps")
    return clock.each(steps)


def first(ctx: Any) -> Add:
    return Add()


async def add(ctx: StepContext[Count, None, None]) -> None:
    ctx.state.n += 1


def chain(task: Task) -> Measures:
    size = task.sizes["nodes"]
    with Clock() as building:
        builder: Any = GraphBuilder(state_type=Count)
        steps = [builder.step(add, node_id=f"n{number}") for number in range(size)]
        builder.add_edge(builder.start_node, steps[0])
        for number, one in enumerate(steps):
            successor = steps[number + 1] if number + 1 < size else builder.end_node
            builder.add_edge(one, successor)
        graph = builder.build()
    state = Count()
    with Clock() as clock:
        asyncio.run(graph.run(state=state))
    expect(state.n, size, "nodes")
    return {**clock.each(size), "build_us": building.wall / size * 1e6}


def awaits(task: Task) -> Measures:
    """It maps over all items at once; how many at a time is bounded by the step."""
    seconds, items = task.sizes["milliseconds"] / 1e3, task.sizes["items"]
    builder: Any = GraphBuilder(input_type=int, output_type=list[int])

    async def run() -> list[int]:
        room = asyncio.Semaphore(task.sizes["concurrency"])

        async def give(ctx: Any) -> list[int]:
            return list(range(ctx.inputs))

        async def work(ctx: Any) -> int:
            async with room:
                await asyncio.sleep(seconds)
            return int(ctx.inputs) + 1

        given, worked = builder.step(give), builder.step(work)
        collected = builder.join(reduce_list_append, initial_factory=list)
        builder.add(
            builder.edge_from(builder.start_node).to(given),
            builder.edge_from(given).map().to(worked),
            builder.edge_from(worked).to(collected),
            builder.edge_from(collected).to(builder.end_node),
        )
        results: list[int] = await builder.build().run(inputs=items)
        return results

    with Clock() as clock:
        results = asyncio.run(run())
    expect(sorted(results), list(range(1, items + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


def many(task: Task) -> Measures:
    count = task.sizes["runs"]
    arrived, everybody = 0, asyncio.Event()

    async def meet(ctx: Any) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            everybody.set()
        await everybody.wait()
        ctx.state.n += 1

    builder: Any = GraphBuilder(state_type=Count)
    begun, met = builder.step(add), builder.step(meet)
    builder.add_edge(builder.start_node, begun)
    builder.add_edge(begun, met)
    builder.add_edge(met, builder.end_node)
    graph = builder.build()
    states = [Count(number) for number in range(count)]

    async def all_of_them() -> None:
        await asyncio.gather(*(graph.run(state=state) for state in states))

    memory = Memory()
    with Clock() as clock:
        asyncio.run(all_of_them())
    kb = memory.peak() * 1000 / count
    mixed = sum(state.n != number + 2 for number, state in enumerate(states))
    return {"us": clock.wall / count * 1e6, "kb": kb, "mixed": float(mixed)}


WORKERS = {
    "memory": memory,
    "chain": chain,
    "awaits": awaits,
    "import": importing("import pydantic_graph"),
    "many": many,
}
