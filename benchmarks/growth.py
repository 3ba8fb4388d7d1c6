"""What a step costs that changes a value that grows: ``python -m benchmarks.growth``.

For each way in which values grow: bytes on disk and time of a step at several numbers of steps, and
the exponent of the bytes. Then the time of a step beside data that nobody touches.
"""

from __future__ import annotations

import copy
import logging
import math
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pocoflow import END, Flow, Node, Store

PAYLOAD = 500
"""Characters that a step adds."""

ALLOWED = 400
"""Bytes that a step may cost beside twice what it adds."""

_SAID = "x" * PAYLOAD


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
    beside: list[Message] = []


def _next(it: list[str]) -> str:
    number = int(it[-1].partition(" ")[0]) + 1 if it else 0
    return f"{number} {_SAID}"


WAYS: dict[str, tuple[Any, Callable[[Any], object], Any]] = {
    "append to a list": ([], lambda it: it.append([_SAID]), None),
    "add a key to a dict": ({}, lambda it: it.update({f"key {len(it)}": _SAID}), None),
    "append to a list in a dict": ({"list": []}, lambda it: it["list"].append(_SAID), None),
    "append a model to a list in a model": (
        Talk(),
        lambda it: it.messages.append(Message(content=_SAID)),
        State,
    ),
    "append to a text": ("", lambda it: it + _SAID, None),
    "extend the last element": ([""], lambda it: it.append(it.pop() + _SAID), None),
    "the last 50 elements": ([], lambda it: [*it, _next(it)][-50:], None),
}


class _Turn(Node):
    def __init__(self, steps: int, change: Callable[[Any], object] | None) -> None:
        super().__init__()
        self.steps, self.change = steps, change
        self.then("again", self).then("done", END)

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        store["turn"] += 1
        if self.change is not None:
            made = self.change(store["it"])
            if made is not None:
                store["it"] = made
        return "again" if store["turn"] < self.steps else "done"


def measure(
    folder: Path, steps: int, initial: dict[str, Any], schema: Any, change: Any
) -> tuple[int, float]:
    """Bytes of the file, and microseconds of CPU a step."""
    path = folder / f"{len(list(folder.iterdir()))}.db"
    flow = Flow(start=_Turn(steps, change), schema=schema, db_path=path, max_steps=steps)
    began = time.process_time()
    flow.run({**copy.deepcopy(initial), "turn": 0})
    took = (time.process_time() - began) / steps * 1e6
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size, took


def main(sizes: list[int]) -> int:
    """Print the tables; how many ways cost more than is allowed."""
    logging.disable(logging.WARNING)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for way, (initial, change, schema) in WAYS.items():
            found = [measure(folder, one, {"it": initial}, schema, change) for one in sizes]
            most = [2 * PAYLOAD * one + ALLOWED * one for one in sizes]
            power = math.log(found[-1][0] / found[0][0]) / math.log(sizes[-1] / sizes[0])
            good = all(one[0] <= own for one, own in zip(found, most, strict=True))
            failed += not good
            shown = "  ".join(f"{one / 1e6:6.2f} MB {took:6.0f} us" for one, took in found)
            print(f"{way:36}{shown}  exponent {power:4.2f}  {'ok' if good else 'TOO MUCH'}")
        for kind, schema, element in (
            ("dicts", None, {"content": "x"}),
            ("models", State, Message(content="x")),
        ):
            alone = measure(folder, sizes[0], {"it": Talk()}, schema, None)[1]
            beside = [copy.copy(element) for _ in range(5000)]
            with_them = measure(folder, sizes[0], {"it": Talk(), "beside": beside}, schema, None)[1]
            print(f"beside 5,000 {kind}: {with_them:.0f} us a step, without {alone:.0f}")
    return failed


if __name__ == "__main__":
    sys.exit(bool(main([int(one) for one in sys.argv[1:]] or [300, 600, 1200, 2400])))
