"""Values that grow: what a step adds to them, and how that is measured.

Workers of every contender need it, so it needs the standard library alone.
"""

from __future__ import annotations

import json
import statistics
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, TypeAlias

from benchmarks.task import (
    Clock,
    Measures,
    Memory,
    Task,
    Worker,
    expect,
    size_on_disk,
    slope,
    text_of,
)

CHARACTERS = (100, 1000, 10_000)
"""Of what a step adds."""

LAST = 50
"""Elements of a list that forgets the others."""

ALLOWED = 400
"""Bytes that a step may take beside twice what it adds."""


WAITS = 0.05
"""Seconds for which an asynchronous branch waits."""


@dataclass
class Message:
    """An element that is no dict."""

    content: str = ""


@dataclass
class Talk:
    """A value of a class, with a list of such elements."""

    messages: list[Message] = field(default_factory=list)


as_json = json.JSONEncoder(default=vars).encode
"""A value as JSON, objects as dicts."""


def plain(value: Any) -> Any:
    """The same value without classes."""
    return json.loads(as_json(value))


# -- ways to grow ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A way to grow, as one would write it by hand.

    Attributes:
        title: In words.
        initial: Makes the value that is there before the first step.
        added: What a step adds, of its number and a text.
        apply: The value with that, which may be the same object.
    """

    title: str
    initial: Callable[[], Any]
    added: Callable[[int, str], Any]
    apply: Callable[[Any, Any], Any]

    def after(self, steps: int, characters: int) -> Any:
        """The value at the end."""
        value = self.initial()
        for number in range(steps):
            value = self.apply(value, self.added(number, text_of(number, characters)))
        return value


def _text(number: int, text: str) -> str:
    return text


def _append(value: list[Any], added: Any) -> list[Any]:
    value.append(added)
    return value


def _append_to_list(value: dict[str, Any], added: Any) -> dict[str, Any]:
    value["list"].append(added)
    return value


def _append_to_talk(value: Talk, added: Message) -> Talk:
    value.messages.append(added)
    return value


def _extend_last(value: list[str], added: str) -> list[str]:
    value[-1] += added
    return value


WAYS = {
    "list": Way("appends to a list", list, _text, _append),
    "longer": Way("sets a list that is one longer", list, _text, lambda it, new: [*it, new]),
    "dict": Way(
        "adds a key to a dict",
        dict,
        lambda number, text: {f"key {number}": text},
        lambda it, new: it | new,
    ),
    "inner": Way("appends to a list in a dict", lambda: {"list": []}, _text, _append_to_list),
    "model": Way(
        "appends a model to a list in a model",
        Talk,
        lambda number, text: Message(text),
        _append_to_talk,
    ),
    "text": Way("appends to a text", str, _text, lambda it, new: it + new),
    "last": Way("extends the last element of a list", lambda: [""], _text, _extend_last),
    "window": Way(
        f"keeps the last {LAST} elements of a list",
        list,
        _text,
        lambda it, new: [*it, new][-LAST:],
    ),
}

Grow: TypeAlias = Callable[[Path, int, int], tuple[Clock, Any]]
"""Takes steps that add so many characters each, in a file; the time, and the value at the end."""


def ways(way: Way, task: Task, grow: Grow) -> Measures:
    """What a step takes that adds some characters, and the bytes that it leaves on disk."""
    files, steps = iter(range(100)), task.sizes["steps"]
    half = steps // 2

    def grown(count: int, characters: int) -> tuple[Clock, int]:
        path = task.folder / f"{next(files)}.db"
        clock, value = grow(path, count, characters)
        expect(plain(value), plain(way.after(count, characters)), "the value")
        return clock, size_on_disk(path)

    found: Measures = {}
    _, one = grown(1, min(CHARACTERS))
    for characters in CHARACTERS:
        _, first = grown(half, characters)
        clock, size = grown(steps, characters)
        payload = steps * characters
        found |= {
            f"{characters}_us": clock.wall / steps * 1e6,
            f"{characters}_times": (size - one) / payload,
            f"{characters}_to_allowed": (size - one) / (2 * payload + steps * ALLOWED),
            f"{characters}_exponent": slope((half, steps), (first, size)),
        }
    for what in ("to_allowed", "exponent"):
        found[what] = max(found[f"{characters}_{what}"] for characters in CHARACTERS)
    return found


# -- beside what nobody touches -------------------------------------------------------------------

KINDS = ("dicts", "models")


def elements(kind: str, count: int) -> list[Any]:
    """Dicts, or objects of a class."""
    texts = (f"said {number}" for number in range(count))
    if kind == "dicts":
        return [{"role": "user", "content": text} for text in texts]
    return [Message(text) for text in texts]


Beside: TypeAlias = Callable[[Path, str, int, bool], Sequence[float]]
"""Takes steps beside elements of a kind, and appends one in each if it is told to; when each began,
by the clock of the processor."""


def untouched(task: Task, run: Beside) -> Measures:
    """What a step takes beside many elements, and one that appends to them."""
    many, files = task.sizes["elements"], iter(range(100))

    def steps(kind: str, count: int, *, append: bool = False) -> list[float]:
        return between(run(task.folder / f"{next(files)}.db", kind, count, append))

    found = {"us": statistics.median(steps("dicts", 0))}
    for kind in KINDS:
        times = steps(kind, many)
        found |= {f"{kind}_us": statistics.median(times), f"{kind}_mean_us": statistics.mean(times)}
        to_many, to_none = (
            statistics.median(steps(kind, count, append=True)) for count in (many, 0)
        )
        found[f"append_{kind}_ms"] = (to_many - to_none) / 1e3
    return found


def between(begun: Sequence[float]) -> list[float]:
    """Microseconds of each step, from its beginning to that of the next."""
    return [(after - before) * 1e6 for before, after in pairwise(begun)]


# -- branches -------------------------------------------------------------------------------------


class Traced:
    """Measures how much Python allocates in a ``with`` block, at most."""

    peak = 0

    def __enter__(self) -> Self:
        tracemalloc.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


SplitNode: TypeAlias = Callable[[Path, int, int, AbstractContextManager[object]], object]
"""Works on the items beside so many dicts, so many at once, and measures that; the results."""


def branches(task: Task, spread: SplitNode) -> Measures:
    """The time and the memory of a branch, alone and beside dicts that nobody touches."""
    found, files, items = Measures(), iter(range(100)), task.sizes["items"]
    for name, at_once in (("one", 1), ("hundred", 100)):
        for beside, many in (("", 0), ("beside_", task.sizes["elements"])):

            def measured(by: Clock | Traced, many: int = many, at_once: int = at_once) -> None:
                results = spread(task.folder / f"{next(files)}.db", many, at_once, by)
                expect(results, list(range(1, items + 1)), "results")

            clocks, traced = [Clock(), Clock(), Clock()], Traced()
            for clock in clocks:
                measured(clock)
            measured(traced)
            found |= {
                f"{name}_{beside}us": min(clock.cpu for clock in clocks) / items * 1e6,
                f"{name}_{beside}mb": traced.peak / 1e6,
            }
    return found


# -- a batch, and a conversation ------------------------------------------------------------------


def batch(task: Task, run: Callable[[Sequence[int]], Sequence[str]]) -> Measures:
    """What an item of a batch takes whose results are texts, in time and on disk."""
    items, characters = range(task.sizes["items"]), task.sizes["characters"]
    memory = Memory()
    with Clock() as clock:
        results = run(items)
    peak = memory.peak()
    expect(results, [text_of(item, characters) for item in items], "results")
    found = clock.each(len(items), task.path)
    return {**found, "times": found["mb"] * 1e6 / (len(items) * characters), "peak_mb": peak}


Said: TypeAlias = dict[str, Any]

TOKEN = "token "


def said(turn: int, turns: Mapping[str, int]) -> Said | str:
    """The message of a turn, of one of three kinds; after the last one, a token of it."""
    if turn >= turns["messages"]:
        return TOKEN
    last = turn + 1 == turns["messages"]
    if turn % 3 == 0 and not last:
        return {"kind": "user", "content": f"a question {turn} " * 10}
    if turn % 3 == 1 or last:
        calls = [{"id": f"{turn}", "name": "search", "arguments": "{}"}]
        return {"kind": "assistant", "content": f"an answer {turn} " * 20, "calls": calls}
    return {"kind": "tool", "call_id": f"{turn - 1}", "content": f"{turn} found " * 400}


def tell(messages: list[Said], change: Said | str) -> None:
    """Add a message, or a token to the last one."""
    if isinstance(change, str):
        messages[-1]["content"] += change
    else:
        messages.append(change)


def conversation(
    task: Task, talk: Callable[[int], tuple[Sequence[float], Sequence[Any]]]
) -> Measures:
    """A long conversation: what its steps take, early, late and by tokens, and what they leave.

    Args:
        task: What to do.
        talk: Takes so many turns; when each began, by the clock of the processor, and the messages.
    """
    messages, turns = task.sizes["messages"], sum(task.sizes.values())
    memory = Memory()
    begun, told = talk(turns)
    peak, times = memory.peak(), between(begun)
    payload, wanted = 0, list[Said]()
    for turn in range(turns):
        change = said(turn, task.sizes)
        payload += len(change if isinstance(change, str) else json.dumps(change))
        tell(wanted, change)
    expect(plain(told), wanted, "messages")
    few, size = max(messages // 100, 1), size_on_disk(task.path)
    return {
        "first_us": statistics.median(times[:few]),
        "last_us": statistics.median(times[messages - few : messages]),
        "token_us": statistics.median(times[messages:]),
        "mb": size / 1e6,
        "times": size / payload,
        "to_allowed": size / (2 * payload + turns * ALLOWED),
        "peak_mb": peak,
    }


def workers(
    ways: Callable[[str, Task], Measures], *, in_memory: bool = True, **others: Callable[..., Any]
) -> dict[str, Worker]:
    """The workers of a contender by their names; two of them work in memory, too, if it can."""
    found: dict[str, Worker] = {f"grow-{name}": partial(ways, name) for name in WAYS}
    for name in ("untouched", "branches") if in_memory else ():
        found[f"{name}-memory"] = partial(others[name], on_disk=False)
    return found | others
