"""A flow of many items on a cluster of Dask, whose workers are killed meanwhile.

    python -m tests.durability.executors --items 10000 --workers 4 --kills 2

Each item is a call of ``exec`` by a worker. While the flow runs, workers are killed with SIGKILL
and not started again. Afterwards every item has its one result, in its order and on record, and of
the calls that were made twice there are no more than there were in flight. How long it takes stands
beside the same function called with Dask by hand, without kills: ``client.map`` and ``gather``, and
as many in flight as the flow has.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import BaseModel

from pocoflow import Flow, fields, node
from tests.integration.clusters import Cluster, cluster, wait_for

__all__ = ["Outcome", "trial"]

IN_FLIGHT = 64

_FOLDER = "POCOFLOW_EXECUTORS_TEST"


class Items(BaseModel):
    items: list[int] = []
    squares: list[int] = []


I = fields(Items)  # noqa: E741 - as in the documentation


def square(item: int) -> int:
    """What a worker does: a line in a file, and a little arithmetic."""
    with open(Path(os.environ[_FOLDER]) / "calls", "ab", buffering=0) as calls:
        calls.write(b"%d\n" % item)
    return item * item


@node(each=I.items, writes=I.squares, concurrency=IN_FLIGHT)
def squares(item: int) -> int:
    """The same as a node."""
    return square(item)


flow = Flow(squares, schema=Items, flow_name="squares")


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        problems: What should not have happened.
        killed: How many workers were killed.
        twice: How many calls were made again.
        seconds: How long it took, by what was done.
    """

    problems: list[str] = field(default_factory=list)
    killed: int = 0
    twice: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def trial(items: int, workers: int, kills: int, folder: Path) -> Outcome:
    """Run the flow while workers are killed.

    Args:
        items: How many items it has.
        workers: How many workers the cluster has.
        kills: How many of these are killed, one after the other, as the items are worked on.
        folder: Where all of it is kept.
    """
    dask: Any = importlib.import_module("distributed")
    outcome = Outcome()
    with _calls(folder) as calls, cluster(folder, workers=workers) as around:
        with dask.Client(around.address) as client:
            client.wait_for_workers(workers)
            killer = threading.Thread(target=_kill, args=(around, items, kills, calls, outcome))
            killer.start()
            began = perf_counter()
            kept = flow.using(db_path=folder / "runs.db", executor=client.get_executor())
            store = kept.run(Items(items=[*range(items)]), run_id="killed")
            outcome.seconds["the flow, on disk, with kills"] = perf_counter() - began
            killer.join()
        counts = Counter(map(int, calls.read_text().split()))
    wanted = [one * one for one in range(items)]
    stored = kept.database.load_checkpoint("killed", step=0)
    if store["squares"] != wanted or stored["squares"] != wanted:
        outcome.problems.append("not every item has its result")
    if sorted(counts) != [*range(items)]:
        outcome.problems.append(f"{items - len(counts)} items were never called")
    outcome.twice = sum(counts.values()) - len(counts)
    if outcome.twice > IN_FLIGHT * max(kills, 1):
        outcome.problems.append(f"{outcome.twice} calls were made again")
    return outcome


def compare(items: int, workers: int, folder: Path) -> dict[str, float]:
    """How long the same takes without kills: by flows, and with Dask by hand."""
    dask: Any = importlib.import_module("distributed")
    seconds: dict[str, float] = {}
    given = Items(items=[*range(items)])
    with (
        _calls(folder),
        cluster(folder, workers=workers) as around,
        dask.Client(around.address) as client,
    ):
        client.wait_for_workers(workers)
        executor = client.get_executor()
        client.gather(client.map(square, range(100), pure=False))

        def by_hand() -> None:
            left = iter(range(items))
            first = [client.submit(square, next(left), pure=False) for _ in range(IN_FLIGHT)]
            futures = dask.as_completed(first, with_results=True)
            for _ in futures:
                if (item := next(left, None)) is not None:
                    futures.add(client.submit(square, item, pure=False))

        kept = flow.using(executor=executor, db_path=folder / "compared.db")
        works: dict[str, Callable[[], object]] = {
            "client.map and gather": lambda: client.gather(
                client.map(square, range(items), pure=False)
            ),
            f"client.submit, {IN_FLIGHT} in flight": by_hand,
            f"executor.submit, {IN_FLIGHT} in flight": lambda: _by_executor(executor, items),
            "the flow, in memory": lambda: flow.using(executor=executor).run(given),
            "the flow, on disk": lambda: kept.run(given),
        }
        for what, work in works.items():
            began = perf_counter()
            work()
            seconds[what] = perf_counter() - began
    return seconds


def _by_executor(executor: Any, items: int) -> None:
    room = threading.Semaphore(IN_FLIGHT)
    futures = []
    for item in range(items):
        room.acquire()
        futures.append(executor.submit(square, item))
        futures[-1].add_done_callback(lambda _: room.release())
    for future in futures:
        future.result()


def _kill(around: Cluster, items: int, kills: int, calls: Path, outcome: Outcome) -> None:
    for number, one in enumerate(around.workers[:kills], 1):
        least = items * number // (kills + 2)
        wait_for(partial(_has_lines, calls, least), "calls", 60 + items / 5)
        one.kill()
        outcome.killed += 1


def _has_lines(calls: Path, least: int) -> bool:
    return calls.exists() and calls.read_bytes().count(b"\n") >= least


@contextmanager
def _calls(folder: Path) -> Iterator[Path]:
    """The file in which workers note their calls."""
    before = os.environ.get(_FOLDER)
    os.environ[_FOLDER] = str(folder)
    try:
        yield folder / "calls"
    finally:
        if before is None:
            del os.environ[_FOLDER]
        else:
            os.environ[_FOLDER] = before


def main() -> int:
    """Try it, compare it and print both."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.executors")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = trial(options.items, options.workers, options.kills, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        outcome.seconds |= compare(options.items, options.workers, Path(folder))
    print(f"{options.items} items, {options.workers} workers, {outcome.killed} killed")
    print(f"calls made again: {outcome.twice}; problems: {outcome.problems or 'none'}")
    for what, seconds in outcome.seconds.items():
        print(f"{what:32} {seconds:7.1f} s {options.items / seconds:8.0f} items/s")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
