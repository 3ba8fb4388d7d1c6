"""What pocoflow is measured for without a peer: its lists, its checks, very long runs."""

from __future__ import annotations

import asyncio
import gc
import resource
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal

from pydantic import BaseModel

from benchmarks.contenders.common import whole_process
from benchmarks.task import KILOBYTE, MEGABYTE, Clock, Measures, Memory, Task, expect, slope, timed
from pocoflow import END, Flow, Node, Store, WorkflowDB, fields, node


async def run_async(flow: Flow[Any], store: dict[str, Any]) -> None:
    await flow.run_async(store)


# -- imports and the command line -----------------------------------------------------------------

IMPORTS = {
    "": "import pocoflow",
    "from pydantic import BaseModel": "from pydantic import BaseModel",
}

PROGRAM = """
from typing import Literal

from pydantic import BaseModel

from pocoflow import END, Flow, fields, node


class Article(BaseModel):
    document: str
    summary: str
    score: float = 0.0


A = fields(Article)


@node(writes=A.summary, max_retries=3)
def summarise(document: str) -> str:
    return document[:100]


@node(writes=A.score)
def grade(text: str = A.summary) -> float:
    return len(text) / 100


@node
def decide(score: float) -> Literal["good", "bad"]:
    return "good" if score > 0.8 else "bad"


flow = Flow(start=summarise, schema=Article, flow_name="article")
flow.then(summarise, grade)
flow.then(grade, decide)
flow.then(decide.when("bad"), summarise)
flow.then(decide.when("good"), END)
"""


def imports(task: Task) -> Measures:
    return whole_process(["-c", IMPORTS[task.variant]])


def check(task: Task) -> Measures:
    """``pocoflow check``, or a process that imports what it has to import."""
    folder = task.home / "program"
    if not folder.exists():
        folder.mkdir()
        (folder / "article.py").write_text(PROGRAM, encoding="utf-8")
    if task.variant == "import pocoflow, article":
        return whole_process(["-c", "import pocoflow, article"], folder)
    return whole_process(["-m", "pocoflow", "check", "article:flow"], folder)


# -- validation -----------------------------------------------------------------------------------


class Document(BaseModel):
    text: str
    summary: str = ""
    score: float


D = fields(Document)


class Step(Node[str, float, Literal["default"]]):
    """One of many nodes of a class."""

    def prep(self, store: Store[Document]) -> str:
        """Read."""
        return store.state.text

    def exec(self, text: str) -> float:
        """Work."""
        return 1.0

    def post(self, store: Store[Document], text: str, score: float) -> Literal["default"]:
        """Write."""
        store.state.score = score
        return "default"


def classes(size: int) -> Flow[Document]:
    """A flow of ``size`` nodes of one class, whose graph is drawn."""
    steps = [Step(name=f"step_{number}") for number in range(size)]
    flow = Flow(start=steps[0], schema=Document)
    for source, target in pairwise(steps):
        flow.then(source, target)
    assert flow.graph.start.node is steps[0]
    return flow


def make(size: int) -> Flow[Document]:
    """A flow of ``size`` functions: most write, every tenth may go back."""
    steps: list[Any] = []
    for number in range(size):
        if number % 10 == 9:

            @node(name=f"route_{number}")
            def route(score: float) -> Literal["on", "back"]:
                return "on" if score else "back"

            steps.append(route)
        else:

            @node(writes=D.score, name=f"step_{number}")
            def step(text: str, summary: str) -> float:
                return 1.0

            steps.append(step)
    flow = Flow(start=steps[0], schema=Document)
    for number, source in enumerate(steps):
        target = steps[number + 1] if number + 1 < size else END
        if number % 10 == 9:
            flow.then(source.when("on"), target).then(source.when("back"), steps[number - 9])
        else:
            flow.then(source, target)
    return flow


def seconds(work: Callable[[], object]) -> float:
    """What something takes of the processor, without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        began = process_time()
        work()
        return process_time() - began
    finally:
        gc.enable()


def validation(task: Task) -> Measures:
    """Draw and validate flows of growing size; run a small one that has been validated."""
    make(10).validate()  # what is imported once is not part of it
    most = task.sizes["nodes"]
    counts, times, drawn = [max(most // 10, 10), most], [], 0.0
    for count in counts:
        flow = make(count)
        drawn = seconds(lambda flow=flow: flow.graph)  # type: ignore[misc]
        times.append(seconds(flow.validate))
    kinds = [seconds(classes(count).validate) for count in counts]
    return {
        "draw_us": drawn / most * 1e6,
        "class_us": kinds[-1] / most * 1e6,
        "class_exponent": slope(counts, kinds),
        "validate_us": times[-1] / most * 1e6,
        "exponent": slope(counts, times),
        "added_us": added(),
    }


def added(rounds: int = 5_000, repeats: int = 5) -> float:
    """The microseconds that validation adds to each run of a validated flow."""
    flow = make(2)
    flow.then(flow.graph.nodes["step_1"].node, END)
    store = flow.run({"text": "a"})
    graph, prove = flow.graph, flow._prove

    def proving() -> None:
        for _ in range(rounds):
            prove(graph, graph.start, (), store)

    return min(seconds(proving) for _ in range(repeats)) / rounds * 1e6


# -- long runs and large values -------------------------------------------------------------------


class Long(Node[int, int, str]):
    """Adds one, and looks at the process now and then."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.every = max(steps // 20, 1)
        self.seen: list[float] = []
        self.descriptors = 0

    def prep(self, store: Store[Any]) -> int:
        n: int = store["n"]
        if n % self.every == 0:
            self.seen.append(perf_counter())
            folder = Path("/proc/self/fd")
            known = len(list(folder.iterdir())) if folder.exists() else 0
            self.descriptors = max(self.descriptors, known)
        return n

    def exec(self, n: int) -> int:
        return n + 1

    def post(self, store: Store[Any], n: int, result: int) -> str:
        store["n"] = result
        return "again" if result < store["steps"] else "done"


def long(task: Task) -> Measures:
    steps = task.sizes["steps"]
    looking = Long(steps)
    looking.then("again", looking).then("done", END)
    memory, store = Memory(), {"n": 0, "steps": steps}
    with WorkflowDB(task.path, synchronous=task.synchronous) as db:
        Flow(looking, db_path=db, run_id="r", max_steps=10**9).run(store)
        expect(store["n"], steps, "steps")
    times = [(after - before) / looking.every * 1e6 for before, after in pairwise(looking.seen)]
    third = max(len(times) // 3, 1)
    return {
        "early_us": sorted(times[:third])[third // 2],
        "late_us": sorted(times[-third:])[third // 2],
        "bytes": task.path.stat().st_size / steps,
        "peak_mb": memory.peak(),
        "descriptors": float(looking.descriptors),
    }


class Keep(Node[None, None, str]):
    """Leaves a large value as it is."""

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        store["n"] += 1
        return "again" if store["n"] < 4 else "done"


class Replace(Keep):
    """Replaces it."""

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        store["big"] = str(store["n"]) * len(store["big"])
        return super().post(store, prepared, result)


def big(task: Task) -> Measures:
    """A large value over four checkpoints, once as it is and once replaced at each."""
    found: Measures = {}
    for name, one in (("kept", Keep()), ("replaced", Replace())):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        one.then("again", one).then("done", END)
        path = task.folder / f"{name}.db"
        store = {"n": 0, "big": "0" * (task.sizes["megabytes"] * len(MEGABYTE))}
        with Clock() as clock, WorkflowDB(path, synchronous=task.synchronous) as db:
            Flow(one, db_path=db).run(store)
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6
        found |= {
            f"{name}_s": clock.wall,
            f"{name}_mb": path.stat().st_size / 1e6,
            f"{name}_peak_mb": peak,
        }
    return found


class Changes(Node[int, None, str]):
    """Changes a part of a large value at each step, in a phase that awaits."""

    def __init__(self, change: Callable[[Any, int], object]) -> None:
        super().__init__(name="changes")
        self.change = change

    async def exec(self, n: int) -> None:
        await asyncio.sleep(0.01)

    async def post(self, store: Store[Any], prepared: int, result: None) -> str:
        store["n"] += 1
        self.change(store, store["n"])
        return "again" if store["n"] < store["steps"] else "done"


def replace_text(store: Any, n: int) -> None:
    store["big"] = str(n % 10) * len(store["big"])


CHANGES: dict[str, Callable[[Any, int], object]] = {
    "element": lambda store, n: store["big"][n].update(text=str(n)),
    "append": lambda store, n: store["big"].append({"text": str(n)}),
    "text": replace_text,
}


async def longest(work: Coroutine[Any, Any, object]) -> float:
    """How many seconds of its process's CPU time the loop had to wait for at most.

    Not of the wall clock: what other processes take from this one is none of its doing.
    """
    waits: list[float] = []

    async def watch() -> None:
        while True:
            before = process_time()
            await asyncio.sleep(0.001)
            waits.append(process_time() - before)

    watching = asyncio.create_task(watch())
    await work
    watching.cancel()
    return max(waits)


def waits(task: Task) -> Measures:
    """How long an event loop waits while a run on it writes what changed in a large value."""
    size, text = task.sizes["kilobytes"], "0" * len(KILOBYTE)

    def once(name: str, number: int) -> float:
        big: Any = [{"text": text, "n": n} for n in range(max(size, 30))]
        store = {"n": 0, "steps": 20, "big": text * size if name == "text" else big}
        one = Changes(CHANGES[name])
        one.then("again", one).then("done", END)
        with WorkflowDB(task.folder / f"{name}{number}.db", synchronous=task.synchronous) as db:
            flow: Flow[Any] = Flow(one, db_path=db, flow_name="waits")
            found = asyncio.run(longest(run_async(flow, store)))
        expect(store["n"], 20, "steps")
        return found * 1e3

    # The least of some, as a machine that is busy takes the processor from either thread.
    return {f"{name}_ms": min(once(name, number) for number in range(4)) for name in CHANGES}


# -- lists ----------------------------------------------------------------------------------------


def fill(path: Path, runs: int) -> None:
    """Write runs of ten steps as finished flows leave them."""
    WorkflowDB(path).close()
    began = datetime.now(UTC)
    now, at = began.isoformat(), int(began.timestamp() * 1e6)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA synchronous = OFF")
        raw.execute("BEGIN")
        for number in range(1, runs + 1):
            run_id = f"flow-{number:08x}"
            raw.execute(
                "INSERT INTO pf_run (run_no, run_id, flow_name, status, started_at, completed_at, "
                "total_steps, current_node) VALUES (?, ?, ?, ?, ?, ?, 10, 'Last')",
                (number, run_id, f"flow-{number % 7}", "completed", now, now),
            )
            raw.executemany(
                "INSERT INTO pf_log (id, kind, line, steps, step, at, node, action, elapsed,"
                " attempt, next_node) VALUES (?, ?, 0, ?, ?, ?, 'Node', 'done', 1500, 1, ?)",
                [
                    (
                        (number << 32) + row,
                        1 if row else 0,
                        row,
                        row - 1,
                        at,
                        "" if row == 10 else "Node",
                    )
                    for row in range(11)
                ],
            )
        raw.execute("COMMIT")


def lists(task: Task) -> Measures:
    found: Measures = {}
    for name in ("runs", "many"):
        count = task.sizes[name]
        path = task.home / f"{name}.db"
        if not path.exists():
            fill(path, count)
        with WorkflowDB(path) as db:
            found |= {f"{name}_{what}": took for what, took in reads(db, count).items()}
    return found


def reads(db: WorkflowDB, count: int) -> Measures:
    middle = f"flow-{count // 2:08x}"
    expect(len(db.list_runs(100)), min(count, 100), "runs")
    expect(len(db.get_events(middle)), 22, "events")
    return {
        "ms": timed(lambda: db.list_runs(100)),
        "events_ms": timed(lambda: db.get_events(middle)),
        "flow_ms": timed(lambda: db.list_runs(100, flow_name="flow-3")),
        "status_ms": timed(lambda: db.list_runs(100, status="failed"), 5),
        "run_ms": timed(lambda: db.get_run(middle)),
        "checkpoints_ms": timed(lambda: db.get_checkpoints(middle)),
    }
