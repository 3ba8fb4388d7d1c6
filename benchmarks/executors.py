"""What a call of ``exec`` by an executor costs: ``python -m benchmarks.executors``.

For each executor, microseconds for a call that gives back what it was given: by hand, with
``executor.submit``, and as an item of a flow; one call after the other, and many in flight. The
last column is the processor time of this process for each of the latter.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pocoflow import Flow, fields, node

ENGINES = ("here", "threads", "processes", "loky", "dask")


class Texts(BaseModel):
    given: list[str] = []
    one_by_one: list[str] = []
    at_once: list[str] = []


T = fields(Texts)


def same(text: str) -> str:
    return text


@node(each=T.given, writes=T.one_by_one)
def one_by_one(text: str) -> str:
    return text


@node(each=T.given, writes=T.at_once, concurrency=32)
def at_once(text: str) -> str:
    return text


one = Flow(one_by_one, schema=Texts, flow_name="one")
many = Flow(at_once, schema=Texts, flow_name="many")


@contextmanager
def executor_of(name: str, workers: int) -> Iterator[Executor | None]:
    if name == "threads":
        with ThreadPoolExecutor(workers) as threads:
            yield threads
    elif name == "processes":
        with ProcessPoolExecutor(workers, get_context("spawn")) as processes:
            yield processes
    elif name == "loky":
        made = importlib.import_module("loky").get_reusable_executor(max_workers=workers)
        yield made
        made.shutdown()
    elif name == "dask":
        from tests.integration.clusters import cluster

        connect: Any = importlib.import_module("distributed").Client
        with (
            tempfile.TemporaryDirectory() as folder,
            cluster(Path(folder), workers=workers) as all_,
            connect(all_.address) as client,
        ):
            client.wait_for_workers(workers)
            yield client.get_executor()
    else:
        yield None


def in_flight(executor: Executor, texts: list[str]) -> None:
    room = threading.Semaphore(32)
    futures = []
    for text in texts:
        room.acquire()
        futures.append(executor.submit(same, text))
        futures[-1].add_done_callback(lambda _: room.release())
    for future in futures:
        future.result()


def measured(work: Callable[[], object], calls: int, rounds: int) -> tuple[float, float]:
    """Microseconds of a call: the least by the clock, and of the processor in that round."""
    found = []
    for _ in range(rounds):
        began, used = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - began, time.process_time() - used))
    elapsed, used = min(found)
    return elapsed / calls * 1e6, used / calls * 1e6


def row(name: str, texts: list[str], rounds: int) -> list[float]:
    with executor_of(name, 2) as executor:
        given = Texts(given=texts)
        flows = [
            each if executor is None else each.using(executor=executor) for each in (one, many)
        ]
        works: list[Callable[[], object]] = [
            lambda: flows[0].run(given),
            lambda: flows[1].run(given),
        ]
        if executor is not None:
            pool = executor
            works = [
                lambda: [pool.submit(same, text).result() for text in texts],
                works[0],
                lambda: in_flight(pool, texts),
                works[1],
            ]
        for work in works:
            work()  # what is imported there, is
        found = [measured(work, len(texts), rounds) for work in works]
    elapsed = [each[0] for each in found]
    if executor is None:
        elapsed = [0.0, elapsed[0], 0.0, elapsed[1]]
    return [*elapsed, found[-1][1]]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.executors", description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--bytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(ENGINES), help="executors, with commas")
    options = parser.parse_args(arguments)
    texts = [f"{number:06}".ljust(options.bytes, "x") for number in range(options.calls)]
    print(f"{options.calls} calls of {options.bytes} bytes there and back; us a call")
    heads = ("", "by hand", "flow", "by hand, 32", "flow, 32", "processor")
    print("".join(f"{head:>12}" for head in heads))
    for name in options.only.split(","):
        found = row(name, texts, options.rounds)
        print(f"{name:>12}" + "".join(f"{one:12.0f}" if one else f"{'':12}" for one in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
