"""pocoflow: what it does next to its peers.

Values that grow are in ``growing``, and what it alone is measured for in ``alone``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from pydantic import BaseModel

from benchmarks.contenders import alone, growing
from benchmarks.contenders.common import attempts, in_processes
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
    stalls,
    text_of,
    timed,
)
from pocoflow import (
    END,
    AsyncNode,
    BatchNode,
    Flow,
    Node,
    Store,
    WorkflowDB,
    context,
    fields,
    node,
)
from pocoflow.flow.worker import Worker


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


class Watched(Add):
    """Notes when each step was finished."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = [perf_counter()]

    def prep(self, store: Store[Any]) -> int:
        self.ends.append(perf_counter())
        return super().prep(store)


class Say(Node[int, dict[str, str], str]):
    """Appends a message of 1 kB, in place."""

    def prep(self, store: Store[Any]) -> int:
        return len(store["messages"])

    def exec(self, number: int) -> dict[str, str]:
        return message(number)

    def post(self, store: Store[Any], number: int, said: dict[str, str]) -> str:
        store["messages"].append(said)
        return "again" if number + 1 < store["steps"] else "done"


def loop(node: Node[Any, Any, Any], store: dict[str, Any], db: WorkflowDB | None = None) -> None:
    node.then("again", node).then("done", END)
    Flow(node, db_path=db, max_steps=10**9, flow_name="benchmark").run(store)


def loop_in(
    path: Path, synchronous: Synchronous, node: Node[Any, Any, Any], store: dict[str, Any]
) -> None:
    with WorkflowDB(path, synchronous=synchronous) as db:
        loop(node, store, db)


# -- in memory ------------------------------------------------------------------------------------


def memory(task: Task) -> Measures:
    steps = task.sizes["steps"]
    node, store = Add(), {"n": 0, "steps": steps}
    node.then("again", node).then("done", END)
    flow: Flow[Any] = Flow(node, max_steps=steps, flow_name="benchmark")
    if task.variant == "one hook":
        flow.on("node_end", lambda name, action, elapsed, store: None)
    with Clock() as clock:
        flow.run(store)
    expect(store["n"], steps, "steps")
    return clock.each(steps)


def chain(task: Task) -> Measures:
    size = task.sizes["nodes"]
    with Clock() as building:
        nodes = [Add(name=f"n{number}") for number in range(size)]
        for one, successor in pairwise(nodes):
            one.then("again", successor)
        flow: Flow[Any] = Flow(nodes[0], max_steps=size, flow_name="benchmark")
        flow.validate()
    store = {"n": 0, "steps": size}
    with Clock() as clock:
        flow.run(store)
    expect(store["n"], size, "nodes")
    return {**clock.each(size), "build_us": building.wall / size * 1e6}


class AddOne(Add):
    pass


class AddTwo(Add):
    pass


class AddThree(Add):
    pass


def in_turn() -> Flow[Any]:
    """A flow of nodes of four classes, which take turns."""
    nodes: list[Add] = [Add(), AddOne(), AddTwo(), AddThree()]
    for one, successor in pairwise([*nodes, nodes[0]]):
        one.then("again", successor).then("done", END)
    return Flow(nodes[0], flow_name="benchmark")


def short(task: Task) -> Measures:
    runs, steps = task.sizes["runs"], task.sizes["steps"]
    flow, is_new = in_turn(), task.variant == "a new flow"
    store = {"n": 0, "steps": steps}
    flow.run(store)
    with Clock() as clock:
        for _ in range(runs):
            store = {"n": 0, "steps": steps}
            (in_turn() if is_new else flow).run(store)
    expect(store["n"], steps, "steps")
    return clock.each(runs)


class Counted(BaseModel):
    n: int
    steps: int
    name: str = "benchmark"
    share: float = 0.5
    texts: list[str] = ["one text", "another"]


_COUNTED = fields(Counted)


@node(writes=_COUNTED.n)
def add_one(n: int) -> int:
    return n + 1


@node
def enough(n: int, steps: int) -> Literal["again", "done"]:
    return "again" if n < steps else "done"


def typed(task: Task) -> Measures:
    steps = task.sizes["steps"]
    if task.variant == "class":
        add = Add()
        add.then("again", add).then("done", END)
        flow = Flow(add, schema=Counted, max_steps=steps)
    else:
        flow = Flow(add_one, schema=Counted, max_steps=steps * 2)
        flow.then(add_one, enough)
        flow.then(enough.when("again"), add_one).then(enough.when("done"), END)
    flow.run(Store({"n": 0, "steps": 1}, Counted))
    with Clock() as clock:
        done = flow.run(Store({"n": 0, "steps": steps}, Counted))
    expect(done["n"], steps, "steps")
    return clock.each(steps if task.variant == "class" else steps * 2)


class AddAwaited(Node[int, int, str]):
    """Adds one, in asynchronous phases."""

    async def prep(self, store: Store[Any]) -> int:
        return int(store["n"])

    async def exec(self, n: int) -> int:
        return n + 1

    async def post(self, store: Store[Any], n: int, result: int) -> str:
        store["n"] = result
        return "again" if result < store["steps"] else "done"


class AddAsync(AsyncNode[int, int, str]):
    """Adds one, and awaits that."""

    def prep(self, store: Store[Any]) -> int:
        return int(store["n"])

    async def exec_async(self, n: int) -> int:
        return n + 1

    def post(self, store: Store[Any], n: int, result: int) -> str:
        store["n"] = result
        return "again" if result < store["steps"] else "done"


class AddInTime(Add):
    timeout = 60.0


def phases_of(kind: type[Node[int, int, Any]]) -> Callable[[Task], Measures]:
    def measure(task: Task) -> Measures:
        steps, node_ = task.sizes["steps"], kind()
        node_.then("again", node_).then("done", END)
        flow, store = Flow(node_, max_steps=steps, flow_name="benchmark"), {"n": 0, "steps": steps}
        with Clock() as clock:
            if task.variant == "run":
                flow.run(store)
            else:
                asyncio.run(flow.run_async(store))
        expect(store["n"], steps, "steps")
        return clock.each(steps)

    return measure


awaited, async_node = phases_of(AddAwaited), phases_of(AddAsync)
beside, limited = phases_of(Add), phases_of(AddInTime)


# -- with a database ------------------------------------------------------------------------------


def stored(task: Task) -> Measures:
    steps = task.sizes["steps"]
    node = AddWithoutJournal() if task.variant == "journal = False" else Add()
    store = {"n": 0, "steps": steps, "text": KILOBYTE}
    with Clock() as clock:
        loop_in(task.path, task.synchronous, node, store)
    expect(store["n"], steps, "steps")
    return clock.each(steps, task.path)


def large(task: Task) -> Measures:
    steps = task.sizes["steps"]
    store = {"n": 0, "steps": steps, "text": MEGABYTE}
    with Clock() as clock:
        loop_in(task.path, task.synchronous, Add(), store)
    expect(store["n"], steps, "steps")
    return clock.each(steps, task.path)


def chat(task: Task) -> Measures:
    def talk(path: Path, steps: int) -> None:
        store: dict[str, Any] = {"messages": [], "steps": steps}
        loop_in(path, task.synchronous, Say(), store)
        expect(len(store["messages"]), steps, "messages")

    found = growth(talk, task)
    steps = task.sizes["steps"]
    with WorkflowDB(task.path, read_only=True) as db:
        run_id = db.list_runs(1)[0]["run_id"]
        step = steps // 2
        expect(len(db.load_checkpoint(run_id, step)["messages"]), step + 1, "messages")
        found["restore_ms"] = timed(lambda: db.load_checkpoint(run_id, step))
    return found


def document(steps: int) -> dict[str, Any]:
    return {"n": 0, "steps": steps, "messages": [message(number) for number in range(100)]}


def peak(task: Task) -> Measures:
    steps = task.sizes["steps"]
    loop_in(task.folder / "warm.db", task.synchronous, Add(), document(100))
    store = document(steps)
    memory = Memory()
    loop_in(task.path, task.synchronous, Add(), store)
    expect(store["n"], steps, "steps")
    return {"peak_mb": memory.peak()}


def slowest(task: Task) -> Measures:
    steps, node = task.sizes["steps"], Watched()
    loop_in(task.path, task.synchronous, node, {"n": 0, "steps": steps, "text": KILOBYTE})
    ends = node.ends[1:]  # a step lasts from its prep to the next one
    times = [after - before for before, after in pairwise(ends)]
    return stalls(times, task)


def processes(task: Task) -> Measures:
    WorkflowDB(task.path, synchronous=task.synchronous).close()
    # What a first run imports, the processes have from here, as they have all that peers import.
    loop_in(task.folder / "warm.db", task.synchronous, Add(), {"n": 0, "steps": 2})

    def runs(task: Task, number: int) -> int:
        with WorkflowDB(task.path, synchronous=task.synchronous) as db:
            node = Add()
            node.then("again", node).then("done", END)
            flow: Flow[Any] = Flow(node, db_path=db, flow_name="benchmark")

            def one(count: int) -> None:
                store = {"n": 0, "steps": task.sizes["steps"], "text": KILOBYTE}
                flow.run(store)
                expect(store["n"], task.sizes["steps"], "steps")

            return attempts(task.sizes["runs"], one)

    found = in_processes(task, runs)
    with WorkflowDB(task.path, read_only=True) as db:
        runs_of_all = task.sizes["processes"] * task.sizes["runs"]
        kept = db.list_runs(runs_of_all + 1)
        found["errors"] += runs_of_all - sum(row["status"] == "completed" for row in kept)
    return found


# -- many items -----------------------------------------------------------------------------------


class Items(BatchNode[int, int, str]):
    """Hands out the items, and keeps the results."""

    def __init__(self, task: Task, concurrency: int) -> None:
        super().__init__()
        self.concurrency = concurrency
        self.seconds = task.sizes["milliseconds"] / 1e3

    def prep(self, store: Store[Any]) -> range:
        return range(store["items"])

    def post(self, store: Store[Any], items: Any, results: list[int]) -> str:
        store["results"] = results
        return "done"


class Await(Items):
    async def exec(self, item: int) -> int:
        await asyncio.sleep(self.seconds)
        return item + 1


class Block(Items):
    def exec(self, item: int) -> int:
        time.sleep(self.seconds)
        return item + 1


def awaits(task: Task, *, journaled: bool = False) -> Measures:
    node = Await(task, task.sizes["concurrency"])
    store = {"items": task.sizes["items"]}
    with Clock() as clock:
        if journaled:
            with WorkflowDB(task.path, synchronous=task.synchronous) as db:
                asyncio.run(alone.run_async(Flow(node, db_path=db), store))
        else:
            asyncio.run(alone.run_async(Flow(node), store))
    expect(store["results"], list(range(1, store["items"] + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


def blocking(task: Task) -> Measures:
    node = Block(task, task.sizes["threads"])
    store = {"items": task.sizes["items"]}
    with Clock() as clock:
        Flow(node).run(store)
    expect(store["results"], list(range(1, store["items"] + 1)), "results")
    return {"ms": clock.wall * 1e3, "cpu_ms": clock.cpu * 1e3}


# -- many runs ------------------------------------------------------------------------------------


class Change(Node[int, int, Literal["again", "done"]]):
    """Changes a text of some length; as a program that waits for models does it."""

    async def prep(self, store: Store[Any]) -> int:
        n: int = store["n"]
        return n

    async def exec(self, n: int) -> int:
        return n + 1

    async def post(self, store: Store[Any], n: int, result: int) -> Literal["again", "done"]:
        store["n"], store["text"] = result, text_of(result, store["bytes"])
        return "again" if result < store["steps"] else "done"


def durable(task: Task) -> Measures:
    """Several runs at once, on a file or a server; without a run, looks of an idle worker."""
    runs, sizes = task.sizes["runs"], task.sizes
    node = Change()
    with WorkflowDB(task.variant or task.path, synchronous=task.synchronous) as db:
        flow: Flow[Any] = Flow(node, db_path=db, max_steps=10**9, flow_name="benchmark")
        flow.then(node.when("again"), node).then(node.when("done"), END)
        if not runs:
            with Clock() as clock:
                for _ in range(sizes["steps"]):
                    Worker(flow).run(until_idle=True)
            return clock.each(sizes["steps"])

        async def main() -> list[Store[Any]]:
            given = {"n": 0, "steps": sizes["steps"], "bytes": sizes["bytes"], "text": ""}
            return await asyncio.gather(*(flow.run_async(dict(given)) for _ in range(runs)))

        with Clock() as clock:
            stores = asyncio.run(main())
        expect([store["n"] for store in stores], [sizes["steps"]] * runs, "steps")
    return clock.each(runs * sizes["steps"], None if task.variant else task.path)


class Begin(Node[int, int, str]):
    async def prep(self, store: Store[Any]) -> int:
        n: int = store["n"]
        return n

    async def exec(self, n: int) -> int:
        return n + 1

    async def post(self, store: Store[Any], n: int, result: int) -> str:
        store["n"], store["run_id"] = result, context().run_id
        return "default"


class Meet(Begin):
    """Goes on when all runs have come this far."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count, self.arrived = count, 0
        self.everybody = asyncio.Event()

    async def exec(self, n: int) -> int:
        self.arrived += 1
        if self.arrived == self.count:
            self.everybody.set()
        await self.everybody.wait()
        return n + 1

    async def post(self, store: Store[Any], n: int, result: int) -> str:
        mixed = store["run_id"] != context().run_id
        store["n"], store["mixed"] = result, mixed
        return "default"


def many(task: Task) -> Measures:
    count = task.sizes["runs"]

    async def all_of_them() -> list[Store[Any]]:
        begin, meet = Begin(), Meet(count)
        begin.then("default", meet)
        flow: Flow[Any] = Flow(begin, flow_name="benchmark")
        return await asyncio.gather(*(flow.run_async({"n": number}) for number in range(count)))

    memory = Memory()
    with Clock() as clock:
        stores = asyncio.run(all_of_them())
    kb = memory.peak() * 1000 / count
    mixed = sum(store["n"] != number + 2 or store["mixed"] for number, store in enumerate(stores))
    expect(len({store["run_id"] for store in stores}), count, "run ids")
    return {"us": clock.wall / count * 1e6, "kb": kb, "mixed": float(mixed)}


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
    "import": alone.imports,
    "processes": processes,
    "lists": alone.lists,
    "peak": peak,
    "slowest": slowest,
    "check": alone.check,
    "validation": alone.validation,
    "long": alone.long,
    "big": alone.big,
    "waits": alone.waits,
    "many": many,
    "durable": durable,
    **growing.WORKERS,
}
