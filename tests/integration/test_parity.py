"""What is done to a database, in whatever order, has the same outcome in a file and on a server."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pocoflow import AskNode, BatchNode, Flow, Node, Question, Store, WorkflowDB, context
from pocoflow.db.run_reports import stored_values
from pocoflow.errors import PocoflowError
from tests.rows import known
from tests.servers import Server

TEXTS = ("", "a", "ü\n", "NUL \0", "half \ud800", '"%s\\', "long " * 400, "longer " * 2000)
KEYS = ("b", "a", "", "k\0", "half \ud800", "$type", "'")
IDS = ("one", "ü'%s", "One")
LABELS: tuple[dict[str, str], ...] = (
    {},
    {"user": "ann"},
    {"z": "1", "user": "ann", "a": "ü"},
    {"user": "bob"},
)
ABSENT = ({"user": "\ud800"}, {"user": "ann", "a": "\0"})
STEPS = (None, -1, 0, 0, 1, 2, 40, 2**40, 2**70)

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00")
_VARIES = re.compile(r'"(elapsed_ms|fence|token)": [^,}]+')


def value(chance: Random, depth: int = 0) -> Any:
    """Anything."""
    kinds: list[Callable[[], Any]] = [
        partial(chance.choice, TEXTS),
        partial(chance.choice, (None, True, 0, -1, 2**80, 0.1, -0.0, float("nan"), b"\0", (1, 2))),
        partial(chance.choice, (Decimal("1.10"), {1, 2}, Path("p"), threading.Lock(), TEXTS)),
        lambda: [value(chance, depth + 1) for _ in range(chance.randrange(4))],
        lambda: {chance.choice(KEYS): value(chance, depth + 1) for _ in range(3)},
    ]
    return chance.choice(kinds[: 3 if depth > 2 else 5])()


class Work(Node[int, Any, str]):
    """Changes its store, spends and calls; sometimes it fails, or asks to stop."""

    max_retries = 2
    seed = 0

    def prep(self, store: Store[Any]) -> int:
        store["n"] = store.get("n", 0) + 1
        return int(store["n"])

    def exec(self, n: int) -> Any:
        chance = Random(f"{self.seed} {self.name} {n} {context().attempt}")
        context().spend(usd=0.1)
        called = context().call(str, n)
        if chance.random() < 0.2:
            raise ValueError(chance.choice(TEXTS))
        return called, value(chance)

    def post(self, store: Store[Any], n: int, result: Any) -> str:
        chance = Random(f"{self.seed} {self.name} {n}")
        for _ in range(2):
            held = store.get(key := chance.choice(KEYS))
            if isinstance(held, list):
                held.append(value(chance))
            elif isinstance(held, dict):
                held[chance.choice(KEYS)] = value(chance)
            else:
                store[key] = held + "more" if isinstance(held, str) else value(chance)
        store["result"] = result
        if chance.random() < 0.1:
            context().cancellation.request()
        return chance.choice(("work", "ask", "items")) if n < 8 else "end"


class Asks(AskNode[Any]):
    def prep(self, store: Store[Any]) -> Question[Any]:
        return Question(f"What of {store['n']}?", {"n": store["n"]})

    def post(self, store: Store[Any], question: Any, answer: Any) -> str:
        store["answer"] = answer
        return "work"


class Items(BatchNode[int, int, str]):
    def prep(self, store: Store[Any]) -> list[int]:
        return list(range(store["n"] % 4))

    def exec(self, item: int) -> int:
        return item * 10

    def post(self, store: Store[Any], items: Any, results: list[int]) -> str:
        store["items"] = results
        return "work"


def make_flow(db: WorkflowDB, seed: int) -> Flow[Any]:
    """Work that goes on to each of them, and to the end."""
    work, asks, items = Work(), Asks(), Items()
    work.seed = seed
    work.then("work", work).then("ask", asks).then("items", items)
    asks.then("work", work)
    items.then("work", work)
    return Flow(work, db_path=db, flow_name="any")


def do(flow: Flow[Any], chance: Random) -> Any:
    """One thing, by chance."""
    db = flow.database
    run_id, step = chance.choice(IDS), chance.choice(STEPS)
    new: Any = {"run_id": run_id, "labels": chance.choice(LABELS)}
    if chance.random() < 0.3:
        new["thread"] = "t'"
    inputs = {key: value(chance) for key in chance.sample(KEYS, 2)}
    asked = db.pending()
    some: Any = {"labels": chance.choice((*LABELS, *ABSENT)), "thread": chance.choice((None, "t'"))}
    things: list[Callable[[], Any]] = [
        lambda: flow.run(inputs, **new),
        lambda: flow.submit(inputs, **new),
        lambda: flow.resume(run_id, changes=inputs if step == 0 else None),
        lambda: flow.resume(run_id),
        lambda: flow.carry_on(run_id),
        lambda: flow.fork(run_id, step, new_id=chance.choice(IDS)),
        lambda: db.answer_json((asked[0].run_id if asked else run_id), chance.choice(TEXTS)),
        lambda: db.request_cancel(run_id),
        lambda: db.prune(keep=2, dry_run=chance.random() < 0.5, **some),
        lambda: [run["run_id"] for run in db.list_runs(3, text=chance.choice(TEXTS), **some)],
        lambda: db.create_run(run_id, "other"),
        lambda: db.update_run(run_id, status=chance.choice(("failed", "completed"))),
        lambda: db.save_event(run_id, "note", step=3, error_msg=chance.choice(TEXTS)),
        lambda: db.save_checkpoint(run_id, step or 0, "Node", inputs),
        lambda: db.load_checkpoint(run_id, step or 0),
        lambda: {key: one.text for key, one in stored_values(db, run_id, step or 0, 9).items()},
    ]
    return chance.choice(things)()


def outcomes(path: str, seed: int) -> list[str]:
    """What comes of things that are done in an order, and all that is on record at last."""
    chance, found = Random(seed), []
    with WorkflowDB(path) as db:
        flow = make_flow(db, seed)
        for _ in range(30):
            try:
                found.append(repr(do(flow, chance)))
            except (PocoflowError, ValueError) as exc:
                found.append(f"{type(exc).__name__}: {exc}")
        found += [f"{name} {json.dumps(run)}" for name, run in known(db).items()]
        shown = (one.replace(db.path, "...") for one in found)
        return [_VARIES.sub("", _TIME.sub("time", re.sub("0x[0-9a-f]+", "", one))) for one in shown]


@pytest.mark.parametrize("seed", range(8))
def test_what_is_done_has_one_outcome(seed: int, server: Server, tmp_path: Path) -> None:
    """Results, errors, rows, events and stores are the same, to the letter."""
    expected = outcomes(str(tmp_path / "runs.db"), seed)
    assert outcomes(server.url(), seed) == outcomes(":memory:", seed) == expected
