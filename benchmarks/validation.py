"""What validation costs: against the size of a graph, and for each run of a validated flow.

    python benchmarks/validation.py

The first table is the time to draw the graph, and to validate it, for a chain of functions with a
loop back every ten nodes; the time per node stays the same if validation is linear. The second is
what validation adds to each run of a flow that has been validated.
"""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel

from pocoflow import END, Flow, fields, node

SIZES = (10, 100, 1_000, 10_000)


class Document(BaseModel):
    text: str
    summary: str = ""
    score: float


D = fields(Document)


def make(size: int) -> Flow[Document]:
    """A flow of ``size`` functions: most write, every tenth may go back."""
    flow: Flow[Document] | None = None
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
    """How long something takes, without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    finally:
        gc.enable()


def sizes() -> None:
    """Print the table of sizes."""
    print(f"{'nodes':>7} {'graph':>10} {'validation':>11} {'ratio':>6} {'per node':>9}")
    make(10).validate()  # what is imported once is not part of it
    for size in SIZES:
        flow = make(size)
        drawn = seconds(lambda flow=flow: flow.graph)
        proved = seconds(flow.validate)
        per_node = proved / size * 1e6
        print(
            f"{size:>7} {drawn * 1e3:>7.1f} ms {proved * 1e3:>8.1f} ms "
            f"{proved / drawn:>6.1f} {per_node:>6.1f} us"
        )


def per_run(rounds: int = 20_000, repeats: int = 7) -> None:
    """Print what validation adds to a run of a validated flow."""
    flow = make(2)
    flow.then(flow.graph.nodes["step_1"].node, END)
    store = flow.run({"text": "a"})
    graph = flow.graph
    prove: Any = flow._prove

    def proving() -> None:
        for _ in range(rounds):
            prove(graph.start, (), store)

    best = min(seconds(proving) for _ in range(repeats)) / rounds
    runs = [seconds(lambda: flow.run({"text": "a"})) for _ in range(2_000)]
    print(f"\nadded to each run of a validated flow: {best * 1e6:.2f} us")
    print(f"that run, of two nodes under a schema: {statistics.median(runs) * 1e6:.0f} us")


if __name__ == "__main__":
    sizes()
    per_run()
