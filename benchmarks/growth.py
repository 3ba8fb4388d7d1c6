"""What a step costs that changes a value that grows: ``python -m benchmarks.growth``.

For each way in which values grow: bytes on disk and time of a step at several numbers of steps, and
the exponent of the bytes, for elements of several sizes. Then the time of a step beside data that
nobody touches, and of one that appends to a list of 5,000; of a branch beside such data; how long
it takes to restore a step; a long conversation; and a batch of many results.

    python -m benchmarks.growth --only ways --steps 300,600 --characters 100,1000,10000
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import logging
import math
import sqlite3
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator

from benchmarks.task import Memory, numbers
from pocoflow import (
    END,
    BatchNode,
    FanOut,
    Flow,
    Node,
    Store,
    WorkflowDB,
    fields,
    node,
    values as codec,
)
from pocoflow.reducers import extend

ALLOWED = 400
"""Bytes that a step may cost beside twice what it adds."""

EMPTY = 150_000
"""Bytes of a database with a run that has done nothing, at most."""

MANY = 5000
"""Elements that nobody touches, or that one is appended to."""

_PLACES: Sequence[tuple[bool, Literal["FULL", "NORMAL"]]]
_PLACES = (False, "NORMAL"), (True, "NORMAL"), (True, "FULL")

WAITS = 0.2
"""Seconds for which an asynchronous branch waits."""


class Message(BaseModel):
    """An element of a list in a model."""

    content: str = ""


class Talk(BaseModel):
    """A model with a list of models."""

    messages: list[Message] = []


class State(BaseModel):
    """A typed store."""

    it: Talk = Talk()
    turn: int = 0
    dicts: list[dict[str, str]] = []
    models: list[Message] = []
    numbers: list[int] = []
    number: int = 0
    results: Annotated[list[int], extend] = []


Change = Callable[[Any, str], object]


def _next(it: list[str], said: str) -> str:
    number = int(it[-1].partition(" ")[0]) + 1 if it else 0
    return f"{number} {said}"


WAYS: dict[str, tuple[Any, Change, Any]] = {
    "append to a list": ([], lambda it, said: it.append([said]), None),
    "a list that is one longer": ([], lambda it, said: [*it, [said]], None),
    "add a key to a dict": ({}, lambda it, said: it.update({f"key {len(it)}": said}), None),
    "append to a list in a dict": ({"list": []}, lambda it, said: it["list"].append(said), None),
    "append a model to a list in a model": (
        Talk(),
        lambda it, said: it.messages.append(Message(content=said)),
        State,
    ),
    "append to a text": ("", lambda it, said: it + said, None),
    "extend the last element": ([""], lambda it, said: it.append(it.pop() + said), None),
    "the last 50 elements": ([], lambda it, said: [*it, _next(it, said)][-50:], None),
}


class _Turn(Node):
    """Changes something in each step, and notes when each step begins."""

    def __init__(self, steps: int, change: Callable[[Store[Any]], object] | None) -> None:
        super().__init__()
        self.steps, self.change = steps, change
        self.begun: list[float] = []
        self.then("again", self).then("done", END)

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        self.begun.append(time.process_time())
        store["turn"] += 1
        if self.change is not None:
            self.change(store)
        return "again" if store["turn"] < self.steps else "done"

    def times(self) -> list[float]:
        """Microseconds of CPU of each step, but the last."""
        return [(later - one) * 1e6 for one, later in pairwise(self.begun)]


_files = count()


def _run(
    folder: Path | None,
    steps: int,
    initial: dict[str, Any],
    schema: Any,
    change: Callable[[Store[Any]], object] | None,
    synchronous: Literal["FULL", "NORMAL"] = "NORMAL",
) -> tuple[list[float], Path]:
    """Take steps, on disk if there is a folder; how long each took, and the database."""
    turn = _Turn(steps, change)
    path = (folder or Path()) / f"{next(_files)}.db"
    database = None if folder is None else WorkflowDB(path, synchronous=synchronous)
    flow = Flow(
        start=turn, schema=schema, db_path=database, run_id="r", max_steps=steps, strict=False
    )
    flow.run({**copy.deepcopy(initial), "turn": 0})
    if database is not None:
        database.close()
        with closing(sqlite3.connect(path)) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return turn.times(), path


def ways(folder: Path, steps: Sequence[int], characters: Sequence[int]) -> Iterator[str]:
    """Bytes and time of a step, for each way to grow."""
    yield f"on disk, after {', '.join(map(str, steps))} steps"
    for size in characters:
        said = "x" * size
        for way, (initial, change, schema) in WAYS.items():

            def turn(store: Store[Any], change: Change = change, said: str = said) -> None:
                made = change(store["it"], said)
                if made is not None:
                    store["it"] = made

            found = []
            for one in steps:
                times, path = _run(folder, one, {"it": initial}, schema, turn)
                found.append((path.stat().st_size, statistics.median(times)))
                path.unlink()
            power = math.log(found[-1][0] / found[0][0]) / math.log(steps[-1] / steps[0])
            most = [EMPTY + (2 * size + ALLOWED) * one for one in steps]
            good = all(bytes_ <= own for (bytes_, _), own in zip(found, most, strict=True))
            shown = " ".join(f"{bytes_ / 1e6:7.2f} MB{took:6.0f} us" for bytes_, took in found)
            verdict = "ok" if good and power <= 1.05 else "TOO MUCH"
            yield f"{size:6} B  {way:36}{shown}  exponent {power:4.2f}  {verdict}"


def _several(key: str, many: int) -> dict[str, Any]:
    element = {"role": "user", "content": ""} if key == "dicts" else Message()
    made = [copy.copy(element) for _ in range(many)]
    for number, one in enumerate(made):
        if isinstance(one, dict):
            one["content"] = f"said {number}"
        else:
            one.content = f"said {number}"
    return {key: made}


def many(folder: Path, steps: int, elements: int = MANY) -> Iterator[str]:
    """The time of a step beside many elements that nobody touches, and of one that appends one."""
    for where, synchronous in _PLACES:
        for schema in (None, State):
            for key in ("dicts", "models"):
                own = f"on disk ({synchronous})" if where else "in memory"
                label = f"{own}, {'untyped' if schema is None else 'typed'}, {elements} {key}"
                (one,) = _several(key, 1)[key]

                def add(store: Store[Any], key: str = key, one: Any = one) -> None:
                    store[key].append(copy.copy(one))

                times = {}
                for name, change in (("touch", None), ("append", add)):
                    for size in (0, elements):
                        initial = {"it": Talk(), **_several(key, size)}
                        path = folder if where else None
                        found, _ = _run(path, steps, initial, schema, change, synchronous)
                        times[name, size] = statistics.mean(found), statistics.median(found)
                beside, alone = times["touch", elements], times["touch", 0]
                more = (times["append", elements][1] - times["append", 0][1]) / 1e3
                yield (
                    f"{label:40}beside them: {beside[1]:6.1f} us a step, mean {beside[0]:6.1f}; "
                    f"without: {alone[1]:6.1f}, {alone[0]:6.1f}; "
                    f"an append takes {more:5.2f} ms more than to none"
                )


_S = fields(State)


@node(writes=_S.results)
def _work(number: int) -> list[int]:
    return [number + 1]


@node(writes=_S.results)
async def _wait(number: int) -> list[int]:
    await asyncio.sleep(WAITS)
    return [number + 1]


def branches(folder: Path, items: int, elements: int = MANY) -> Iterator[str]:
    """The time and the memory of a branch beside many elements that nobody touches.

    The store has accepted them before: that copies what comes from outside, once, and is no part of
    what branches cost. Of asynchronous branches that wait, what is over the time that they wait.
    """
    for work, at_once, clock in ((_work, 1, time.process_time), (_wait, 100, time.perf_counter)):
        for where in (None, folder):
            found = []
            for size in (0, elements):
                path = None if where is None else where / f"{next(_files)}.db"
                fan = FanOut(work, each=_S.numbers, as_=_S.number, concurrency=at_once)
                initial = {"numbers": list(range(items)), **_several("dicts", size)}
                flow = Flow(start=fan, schema=State, db_path=path, max_steps=items + 10)
                waits = WAITS * math.ceil(items / at_once) if work is _wait else 0
                took = []
                for _ in range(5):
                    store = Store(dict(initial), schema=State)
                    seconds = _seconds(flow, store, work is _wait, clock)
                    took.append((seconds - waits) / items * 1e6)
                store = Store(dict(initial), schema=State)
                tracemalloc.start()
                _seconds(flow, store, work is _wait, clock)
                found.append((min(took), tracemalloc.get_traced_memory()[1] / 1e6))
                tracemalloc.stop()
            (alone, least), (beside, most) = found
            yield (
                f"FanOut of {items}, {at_once:3} at once, "
                f"{'in memory' if where is None else 'on disk':10}"
                f"beside {elements} dicts: {beside:6.0f} us a branch, {most:5.1f} MB; "
                f"without {alone:6.0f} us, {least:5.1f} MB"
            )


def _seconds(flow: Flow, store: Store[Any], awaits: bool, clock: Callable[[], float]) -> float:
    """The time of a run, without the ``repr`` of the store that ``asyncio.run`` asks for."""

    async def run() -> float:
        began = clock()
        await flow.run_async(store)
        return clock() - began

    if awaits:
        return asyncio.run(run())
    began = clock()
    flow.run(store)
    return clock() - began


def restoring(folder: Path, steps: int) -> Iterator[str]:
    """How long it takes to restore steps of a nested value that grows."""

    def grow(store: Store[Any]) -> None:
        tree = store["it"]
        tree["turns"].append({"said": f"said in {store['turn']} " * 4, "tools": [store["turn"]]})
        tree["by name"][f"{store['turn'] % 50}"] = store["turn"]

    initial = {"it": {"turns": [], "by name": {}, "notes": "a note " * 100}}
    _, path = _run(folder, steps, initial, None, grow)
    with WorkflowDB(path, read_only=True) as db:
        found = _least(partial(db.load_checkpoint, "r", -1))
        for step in (steps // 100, steps // 10, steps // 2, steps * 3 // 4, steps - 1):
            value = db.load_checkpoint("r", step)["it"]
            text = codec.dumps(value)
            expected = _least(partial(codec.loads, text))
            took = _least(partial(db.load_checkpoint, "r", step))
            yield (
                f"step {step:6} of {steps}: restored in {took:7.2f} ms; without the {found:.2f} "
                f"that finding a step takes, {(took - found) / expected:4.1f} times decoding it "
                f"({expected:6.2f} ms)"
            )


def _least(call: Callable[[], object]) -> float:
    took = []
    for _ in range(7):
        began = time.process_time()
        call()
        took.append(time.process_time() - began)
    return min(took) * 1e3


class Asked(BaseModel):
    """What a person said."""

    kind: Literal["user"] = "user"
    content: str = ""


class Answered(BaseModel):
    """What a model said, and the tools that it called."""

    kind: Literal["assistant"] = "assistant"
    content: str = ""
    calls: list[dict[str, str]] = []


class ToolResult(BaseModel):
    """What a tool gave."""

    kind: Literal["tool"] = "tool"
    call_id: str = ""
    content: str = ""


class Conversation(BaseModel):
    """A conversation as people keep it."""

    title: str = ""
    messages: list[Annotated[Asked | Answered | ToolResult, Discriminator("kind")]] = []


class Agent(BaseModel):
    """The store of an agent."""

    conversation: Conversation = Conversation()
    turn: int = 0


def conversation(folder: Path, messages: int, tokens: int = 200) -> Iterator[str]:
    """A conversation of messages of several kinds, the last one of which comes by tokens."""
    added = 0

    def talk(store: Store[Any]) -> None:
        nonlocal added
        said, turn = store["conversation"].messages, store["turn"]
        new: Any
        if turn > messages:
            said[-1].content += "token "
            added += 6
            return
        if turn % 3 == 1:
            new = Asked(content=f"a question {turn} " * 10)
        elif turn % 3 == 2 or turn == messages:
            call = {"id": f"{turn}", "name": "search", "arguments": "{}"}
            new = Answered(content=f"an answer {turn} " * 20, calls=[call])
        else:
            new = ToolResult(call_id=f"{turn - 1}", content=f"{turn} found " * 400)
        added += len(new.model_dump_json())
        said.append(new)

    memory = Memory()
    times, path = _run(folder, messages + tokens, {"conversation": Conversation()}, Agent, talk)
    peak = memory.peak()
    few = max(messages // 100, 2)
    first = statistics.median(times[:few])
    last, streamed = statistics.median(times[messages - few : messages]), times[messages:]
    size, allowed = path.stat().st_size, EMPTY + 2 * added + ALLOWED * (messages + tokens)
    yield (
        f"{messages} messages, the last in {tokens} tokens: {size / 1e6:.1f} MB on disk for "
        f"{added / 1e6:.1f} ({'ok' if size <= allowed else 'TOO MUCH'}); a step takes "
        f"{first:.0f} us at first, {last:.0f} at last, {statistics.median(streamed):.0f} for a "
        f"token; {peak:.0f} MB of memory"
    )


class _Batch(BatchNode):
    """Gives as many texts as there are items."""

    def __init__(self, items: int, characters: int) -> None:
        super().__init__()
        self.items, self.characters = items, characters

    def prep(self, store: Store[Any]) -> range:
        return range(self.items)

    def exec(self, item: int) -> str:
        return f"{item} ".ljust(self.characters, "x")

    def post(self, store: Store[Any], prep: range, results: list[str]) -> None:
        store["results"] = results


def batch(folder: Path, items: int, characters: int = 1000) -> Iterator[str]:
    """A batch whose results are put on record one by one, and then in the store."""
    path = folder / f"{next(_files)}.db"
    memory, began = Memory(), time.process_time()
    with WorkflowDB(path, synchronous="NORMAL") as database:
        Flow(start=_Batch(items, characters), db_path=database).run({})
    took, peak = (time.process_time() - began) / items * 1e6, memory.peak()
    size, payload = path.stat().st_size, items * characters
    yield (
        f"a batch of {items} results of {characters} B: {size / 1e6:.1f} MB on disk for "
        f"{payload / 1e6:.1f} ({'ok' if size <= EMPTY + 2 * payload else 'TOO MUCH'}); "
        f"{took:.0f} us an item; {peak:.0f} MB of memory"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; how many lines of them cost more than is allowed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parts = ("ways", "many", "branches", "restoring", "conversation", "batch")
    parser.add_argument("--only", default=",".join(parts), help=f"of {', '.join(parts)}")
    parser.add_argument("--steps", type=numbers, default=[300, 600, 1200, 2400])
    parser.add_argument("--characters", type=numbers, default=[100, 500, 1000, 10_000])
    parser.add_argument("--scale", type=float, default=1.0, help="of the parts but ways")
    options = parser.parse_args(arguments)
    failed, scale = 0, options.scale
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = {
            "ways": lambda: ways(folder, options.steps, options.characters),
            "many": lambda: many(folder, max(int(300 * scale), 5), max(int(MANY * scale), 5)),
            "branches": lambda: branches(folder, max(int(300 * scale), 5), int(MANY * scale)),
            "restoring": lambda: restoring(folder, max(int(10_000 * scale), 100)),
            "conversation": lambda: conversation(folder, max(int(10_000 * scale), 30)),
            "batch": lambda: batch(folder, max(int(10_000 * scale), 30)),
        }
        for part in options.only.split(","):
            for line in tables[part]():
                failed += "TOO MUCH" in line
                print(line, flush=True)
    return failed


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sys.exit(bool(main()))
