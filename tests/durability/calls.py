"""Kill runs inside of an ``exec`` that makes journaled calls, and count what is called again.

    python -m tests.durability.calls --kills 1000

Each process goes on with one run and is killed: by itself when a chosen call begins or is about to
return, or by this process at a random instant. What a call whose result ``exec`` has seen is never
made again, at each kill no more calls are repeated than were in flight, and the account of the run
has each call once that ``exec`` has got.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pocoflow import AsyncNode, BatchNode, FanOut, Flow, Node, Store, WorkflowDB, context, key
from tests.durability.kill import in_child, prepare

__all__ = ["CALLS", "SHAPES", "Book", "kill_in_call", "kill_randomly"]

CALLS = 6
"""How many calls a run makes."""


class Book:
    """A file with a line for what happens to each call: ``begin``, ``end``, and ``seen``."""

    def __init__(self, path: Path, cut: str = "", cost: float = 0.0) -> None:
        self.path, self.cut, self.cost = path, cut, cost

    def write(self, what: str, call: int) -> None:
        """Append a line, and die if it is the chosen one."""
        line = f"{what} {call}"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{line}\n".encode())
        os.close(handle)
        if line == self.cut:
            os.kill(os.getpid(), signal.SIGKILL)

    def pay(self, call: int) -> int:
        """A call that costs."""
        self.write("begin", call)
        context().spend(calls=1)
        time.sleep(self.cost)
        self.write("end", call)
        return call * call

    async def pay_async(self, call: int) -> int:
        """The same, awaited."""
        self.write("begin", call)
        context().spend(calls=1)
        await asyncio.sleep(self.cost)
        self.write("end", call)
        return call * call

    def lines(self) -> list[list[str]]:
        """What was written."""
        text = self.path.read_text() if self.path.exists() else ""
        return [line.split() for line in text.splitlines()]


def _loop(book: Book) -> Node[Any, Any, Any]:
    class Agent(Node):
        def exec(self, prep_result: object) -> list[int]:
            found = []
            for number in range(CALLS):
                found.append(context().call(book.pay, number))
                book.write("seen", number)
            return found

        def post(self, store: Store[Any], prep_result: object, exec_result: list[int]) -> None:
            store["found"] = exec_result

    return Agent()


def _gather(book: Book) -> Node[Any, Any, Any]:
    class Gather(AsyncNode):
        async def exec_async(self, prep_result: object) -> list[int]:
            async def one(number: int) -> int:
                found = await context().call(book.pay_async, number)
                book.write("seen", number)
                return found

            half = await asyncio.gather(*map(one, range(CALLS // 2)))
            return half + await asyncio.gather(*map(one, range(CALLS // 2, CALLS)))

        def post(self, store: Store[Any], prep_result: object, exec_result: list[int]) -> None:
            store["found"] = exec_result

    return Gather()


def _threads(book: Book) -> Node[Any, Any, Any]:
    class Threads(Node):
        def exec(self, prep_result: object) -> list[int]:
            run = context()

            def one(number: int) -> int:
                found = run.call(book.pay, number)
                book.write("seen", number)
                return found

            with ThreadPoolExecutor(3) as pool:
                return list(pool.map(one, range(CALLS)))

        def post(self, store: Store[Any], prep_result: object, exec_result: list[int]) -> None:
            store["found"] = exec_result

    return Threads()


def _items(book: Book) -> Node[Any, Any, Any]:
    class Items(BatchNode):
        concurrency = 2

        def prep(self, store: Store[Any]) -> list[int]:
            return list(range(0, CALLS, 2))

        def exec(self, item: int) -> list[int]:
            found = []
            for number in (item, item + 1):
                found.append(context().call(book.pay, number))
                book.write("seen", number)
            return found

        def post(
            self, store: Store[Any], prep_result: object, exec_result: list[list[int]]
        ) -> None:
            store["found"] = [one for pair in exec_result for one in pair]

    return Items()


def _branches(book: Book) -> Node[Any, Any, Any]:
    class Begin(Node):
        def prep(self, store: Store[Any]) -> int:
            item: int = store["item"]
            return item

        def exec(self, item: int) -> None:
            for number in (item, item + 1):
                context().call(book.pay, number)
                book.write("seen", number)

    class Fan(FanOut):
        def post(
            self, store: Store[Any], prep_result: object, exec_result: object
        ) -> Literal["default", "failed"]:
            store["found"] = [number * number for number in range(CALLS)]
            return "default"

    return Fan(Begin(), each=key("items"), as_=key("item"), concurrency=2)


SHAPES: dict[str, Callable[[Book], Node[Any, Any, Any]]] = {
    "loop": _loop,
    "gather": _gather,
    "threads": _threads,
    "items": _items,
    "branches": _branches,
}


def go_on(shape: str, book: Book, database: Path, is_async: bool = False) -> list[int]:
    """Begin the run, or go on with it."""
    db = WorkflowDB(database, synchronous="NORMAL")
    flow = Flow(SHAPES[shape](book), flow_name="calls", db_path=db, run_id="run")
    known = db.get_run("run")
    if known is not None and known["status"] == "completed":
        last = db.get_checkpoints("run")[-1]["step"]  # of branches, steps come before it
        found: list[int] = db.load_checkpoint("run", last)["found"]
        return found
    given = {"items": list(range(0, CALLS, 2))}
    if is_async:
        ended = asyncio.run(flow.run_async(given) if known is None else flow.resume_async("run"))
    else:
        ended = flow.run(given) if known is None else flow.resume("run")
    return list(ended["found"])


def problems(book: Book, found: object, database: Path) -> list[str]:
    """What is wrong with a run that has ended."""
    if found is None:
        return ["the run has not come to its end"]
    said = []
    with WorkflowDB(database) as db:
        account = db.get_account("run")
    made = sum(what == "begin" for what, _ in book.lines())
    if account != {"calls": CALLS}:
        said.append(f"account {account}, and {made} calls were made")
    if found != [number * number for number in range(CALLS)]:
        said.append(f"found {found}")
    seen: set[str] = set()
    for what, call in book.lines():
        if what == "seen":
            seen.add(call)
        elif what == "begin" and call in seen:
            said.append(f"call {call} was made again, and exec had seen its result")
    if len(seen) != CALLS:
        said.append(f"seen: {sorted(seen)}")
    return said


def repeated(book: Book) -> int:
    """How many calls were made more than once."""
    began = Counter(call for what, call in book.lines() if what == "begin")
    return sum(count - 1 for count in began.values())


def in_flight(book: Book) -> int:
    """How many calls have begun, and ``exec`` has not seen what they returned."""
    lines = book.lines()
    began, seen = ({call for what, call in lines if what == one} for one in ("begin", "seen"))
    return len(began - seen)


def kill_in_call(shape: str, what: str, call: int, folder: Path, is_async: bool) -> list[str]:
    """Kill a process when a call begins, or ends, and finish its run; what is wrong."""
    path, database = folder / "book", folder / "runs.db"
    killed = in_child(partial(go_on, shape, Book(path, f"{what} {call}"), database, is_async))
    at_most = in_flight(Book(path))
    ended = in_child(partial(go_on, shape, Book(path), database, is_async))
    said = problems(Book(path), ended.result, database) + ([ended.error] if ended.error else [])
    if not killed.killed:
        said.append(f"the process was not killed: {killed.error}")
    if repeated(Book(path)) > at_most:
        said.append(f"{repeated(Book(path))} calls were repeated, and {at_most} were in flight")
    return said


def kill_randomly(shape: str, seed: int, kills: int, folder: Path) -> tuple[int, list[str]]:
    """Kill processes at random instants, then finish the run; how many, and what is wrong."""
    chance = random.Random(seed)
    path, database = folder / "book", folder / "runs.db"
    book, allowed, made = Book(path, cost=0.004), 0, 0
    for _ in range(kills):
        is_async = chance.random() < 0.5
        work = partial(go_on, shape, book, database, is_async)
        killed = in_child(work, (chance.uniform(0.0, 0.06), lambda: None))
        if not killed.killed:
            break
        made += 1
        allowed += in_flight(book)
    ended = in_child(partial(go_on, shape, book, database))
    said = problems(book, ended.result, database) + ([ended.error] if ended.error else [])
    if repeated(book) > allowed:
        said.append(f"{repeated(book)} calls were repeated, and {allowed} were in flight")
    return made, said


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill many processes and say what became of their runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000, help="random kills (1000)")
    parser.add_argument(
        "--short", action="store_true", help="every call of a loop, and one of the other shapes"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    args = parser.parse_args(arguments)
    print(f"seed {args.seed}")
    prepare()
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    bad = chosen = kills = trial = 0
    for shape in SHAPES:
        for what in ("begin", "end", "seen"):
            for call in range(CALLS) if shape == "loop" or not args.short else (3,):
                with tempfile.TemporaryDirectory(dir=where) as folder:
                    is_async = bool(call % 2)
                    said = kill_in_call(shape, what, call, Path(folder), is_async)
                chosen += 1
                bad += bool(said)
                if said:
                    print(shape, what, call, is_async, *said, sep="\n  ", flush=True)
    while kills < args.kills:
        shape = list(SHAPES)[trial % len(SHAPES)]
        with tempfile.TemporaryDirectory(dir=where) as folder:
            made, said = kill_randomly(shape, args.seed + trial, 6, Path(folder))
        kills += made
        bad += bool(said)
        if said:
            print(shape, args.seed + trial, *said, sep="\n  ", flush=True)
        trial += 1
    print(f"{chosen} kills in chosen calls, {kills} at random in {trial} runs; {bad} were wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
