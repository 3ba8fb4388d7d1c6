"""Flows of several shapes that write down all they do, outside the database, as they do it.

A ledger is the other side of the story: what a paid service would have on its bill. Its lines are
``what place detail``, in the order of what happened. The place is the step, the item of a batch,
the branch::

    start     the hook node_start
    prep      prep of the step begins
    call      the paid call begins
    paid      it is paid; detail is the idempotency key
    post      post begins: the result of exec has been acknowledged
    posted    post has written to the store
    done      the hook node_end: the step has been acknowledged
    end       the hook flow_end: the run has been acknowledged as completed
    process   another process begins to work on the run; detail is its id
    cut       from here to the next process nothing counts as acknowledged
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel

from pocoflow import (
    END,
    AskNode,
    AsyncNode,
    BatchNode,
    FanOut,
    Flow,
    Node,
    Parallel,
    Question,
    RunPaused,
    Store,
    Subflow,
    WorkflowDB,
    bind,
    context,
    fields,
    key,
)
from pocoflow.events import Event, NodeEnded, NodeFailed
from pocoflow.node import NodeLike
from pocoflow.nodes.question import Asked
from pocoflow.reducers import append

__all__ = [
    "CONCURRENT",
    "LONG",
    "SHAPES",
    "Ledger",
    "Line",
    "Oracle",
    "Shape",
    "answer_to",
    "oracle",
    "same",
]

# -- the ledger -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a ledger."""

    what: str
    place: str
    detail: str


class Ledger:
    """Appends lines to a file that outlives the process.

    They are not flushed to the disk: a killed process loses nothing that it has written, and where
    the power is cut it is that of another disk.

    Args:
        path: The file; ``None`` writes nothing.
        cut: A line, ``"paid 3"``: once it is written, this process is killed.
        cost: Seconds that a paid call takes.
    """

    def __init__(self, path: Path | None, *, cut: str = "", cost: float = 0.0) -> None:
        self._cut = cut
        self._cost = cost
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = None if path is None else os.open(path, flags, 0o600)
        if self._file is not None and path is not None:
            torn = path.read_bytes()[-1:] not in (b"", b"\n")
            os.write(self._file, b"\n" if torn else b"")

    def write(self, what: str, place: str | None = None, detail: str = "") -> None:
        """Write a line, of where the calling code is, and perhaps die of it."""
        if self._file is None:
            return
        place = here() if place is None else place
        os.write(self._file, f"{what} {place} {detail}\n".encode())
        if f"{what} {place}" == self._cut:
            os.kill(os.getpid(), signal.SIGKILL)

    def pay(self) -> None:
        """Write that the call of the calling code is paid."""
        self.write("paid", None, context().idempotency_key)

    def work(self) -> None:
        """Take the time of a paid call."""
        if self._cost:
            time.sleep(self._cost)

    @staticmethod
    def read(path: Path) -> Iterator[Line]:
        """The lines of a ledger, without what was acknowledged after a cut."""
        cut = False
        for text in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
            if text.count(" ") < 2:  # a kill may end a write where a page of the file ends
                continue
            what, place, detail = text.split(" ", 2)
            cut = what == "cut" or (cut and what != "process")
            if not cut or what not in ("post", "posted", "done", "end"):
                yield Line(what, place, detail)


def here() -> str:
    """The place of the calling code in its run."""
    run = context()
    step = f"{run.scope}-{run.count}" if run.scope else f"{run.step}"
    return step if run.item is None else f"{step}-{run.item}"


# -- nodes ----------------------------------------------------------------------------------------


class Work(Node[Any, Any, str]):
    """A node whose three phases are on the ledger; ``read``, ``compute`` and ``write`` are its."""

    def __init__(self, ledger: Ledger, name: str | None = None) -> None:
        super().__init__(name=name)
        self.ledger = ledger

    def prep(self, store: Store[Any]) -> Any:
        self.ledger.write("prep")
        return self.read(store)

    def exec(self, prepared: Any) -> Any:
        self.ledger.write("call")
        self.ledger.work()
        result = self.compute(prepared)
        self.ledger.pay()
        return result

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        self.ledger.write("post")
        action = self.write(store, prepared, result)
        self.ledger.write("posted")
        return action

    def read(self, store: Store[Any]) -> Any:
        return store["x"]

    def compute(self, prepared: Any) -> Any:
        return prepared * 3 + 1

    def write(self, store: Store[Any], prepared: Any, result: Any) -> str:
        store["x"] = result
        return "default"


class Check(Node[None, None, str]):
    """No ``exec``: its step is one commit."""

    def __init__(self, ledger: Ledger, limit: int) -> None:
        super().__init__()
        self.ledger = ledger
        self.limit = limit

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        self.ledger.write("posted")
        store["round"] = store["round"] + 1
        return "again" if store["round"] < self.limit else "enough"


class Cheap(Work):
    """Without a journal: its ``exec`` costs nothing and may be called again after a crash."""

    journal = False

    def exec(self, prepared: Any) -> Any:
        return self.compute(prepared)


class Say(Work):
    """Appends a message to a list, in place."""

    def read(self, store: Store[Any]) -> Any:
        return len(store["messages"])

    def compute(self, prepared: Any) -> Any:
        return {"role": "assistant", "content": f"answer {prepared} " * 20, "tokens": [prepared]}

    def write(self, store: Store[Any], prepared: Any, result: Any) -> str:
        store["messages"].append(result)
        return "again" if len(store["messages"]) < store["wanted"] else "enough"


class Box(BaseModel):
    """A model that an untyped store holds."""

    items: list[int]
    label: str = ""


class Mutate(Work):
    """Changes what is in the store without assigning to it, also through an alias of its own."""

    alias: dict[str, Any]

    def read(self, store: Store[Any]) -> Any:
        self.alias = store["tree"]
        return store["flags"]["count"]

    def compute(self, prepared: Any) -> Any:
        return prepared + 1

    def write(self, store: Store[Any], prepared: Any, result: Any) -> str:
        store["flags"]["count"] = result
        store["flags"]["odd"] = result % 2 == 1 if result % 3 else result % 2
        self.alias["branches"].setdefault(result % 2, []).append((result, {"n": result}))
        store["box"].items.append(result)
        store["box"].label = f"box {result}"
        store["seen"].add(result)
        if "scratch" in store:
            del store["scratch"]
        else:
            store["scratch"] = [result]
        return "again" if result < 6 else "enough"


@dataclass
class Notes:
    """A dataclass that an untyped store holds."""

    lines: list[Any]
    seen: dict[str, int]


class Turn(BaseModel):
    """One of many in a list of a model."""

    said: str = ""
    tools: list[dict[str, Any]] = []


class Talk(BaseModel):
    """A model with a list of models."""

    turns: list[Turn] = []
    title: str = ""


LONG_TEXT = "what was said before is much longer than what is said now " * 12


class Deep(Work):
    """Changes values in depth, in each step several places, long enough to be written as that."""

    def read(self, store: Store[Any]) -> Any:
        return store["round"]

    def compute(self, prepared: Any) -> Any:
        return f"{prepared} said in round {prepared}"

    def write(self, store: Store[Any], prepared: Any, result: Any) -> str:
        tree, talk, notes = store["tree"], store["talk"], store["notes"]
        tree["branches"][prepared % 3]["leaves"].append({"n": prepared, "text": result})
        tree["by name"][f'"{prepared}\\'] = [prepared, (result, [prepared])]
        tree["by name"].pop(f'"{prepared - 2}\\', None)
        store["text"] += result
        store["window"] = [*store["window"], result][-5:]
        store["last"].append(store["last"].pop() + result)
        notes.lines.insert(prepared % (len(notes.lines) + 1), result)
        notes.seen[result] = prepared
        if prepared % 3 == 0:
            store["talk"] = talk.model_copy(update={"turns": [*talk.turns, Turn(said=result)]})
        elif prepared % 3 == 1:
            talk.turns[-1].tools.append({"name": result, "ok": prepared % 2 == 0})
        else:
            talk.turns[-1].said += result
            del talk.turns[:1]
        store["round"] = prepared + 1
        return "again" if prepared < 9 else "enough"


def deep() -> dict[str, Any]:
    """What :class:`Deep` begins with."""
    return {
        "round": 0,
        "tree": {"branches": [{"leaves": [LONG_TEXT]} for _ in range(3)], "by name": {}},
        "text": LONG_TEXT,
        "window": [LONG_TEXT, "one"],
        "last": [LONG_TEXT, ""],
        "notes": Notes([LONG_TEXT], {}),
        "talk": Talk(turns=[Turn(said=LONG_TEXT) for _ in range(4)]),
    }


class Flaky(Work):
    """Fails before it pays, at first; every third step fails for good and falls back."""

    max_retries = 3

    def exec(self, prepared: Any) -> Any:
        run = context()
        if run.step % 3 == 2 or run.attempt < 3:
            raise ConnectionError(f"attempt {run.attempt}")
        return super().exec(prepared)

    def exec_fallback(self, prepared: Any, exc: Exception) -> Any:
        self.ledger.pay()
        return -prepared

    def write(self, store: Store[Any], prepared: Any, result: Any) -> str:
        store["x"] = result
        store["round"] += 1
        return "again" if store["round"] < 5 else "enough"


class Fetch(AsyncNode[Any, Any, str]):
    """An asynchronous node; its paid call is between two awaits."""

    def __init__(self, ledger: Ledger, name: str | None = None) -> None:
        super().__init__(name=name)
        self.ledger = ledger

    async def prep(self, store: Store[Any]) -> Any:
        self.ledger.write("prep")
        return store["urls"][store["next"]]

    async def exec_async(self, url: Any) -> Any:
        self.ledger.write("call")
        await asyncio.sleep(0)
        self.ledger.work()
        pages = await asyncio.gather(*(self._page(url, n) for n in range(2)))
        self.ledger.pay()
        await asyncio.sleep(0)
        return tuple(pages)

    async def _page(self, url: str, number: int) -> bytes:
        await asyncio.sleep(0)
        return f"{url}#{number}".encode()

    def post(self, store: Store[Any], url: Any, pages: Any) -> str:
        self.ledger.write("post")
        store["pages"][url] = pages
        store["next"] += 1
        self.ledger.write("posted")
        return "again" if store["next"] < len(store["urls"]) else "enough"


@dataclass(frozen=True)
class Quote:
    """What the typed node's exec returns."""

    price: Decimal
    currency: str


class Order(BaseModel):
    """One line of an offer."""

    article: str
    quote: Quote


class Offer(BaseModel):
    """The typed store."""

    articles: tuple[str, ...]
    orders: list[Order] = []
    total: Decimal = Decimal(0)
    summary: str


class Price(Node[str, Quote, str]):
    """A typed node in a typed store."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def prep(self, store: Store[Offer]) -> str:
        self.ledger.write("prep")
        return store.state.articles[len(store.state.orders)]

    def exec(self, article: str) -> Quote:
        self.ledger.write("call")
        self.ledger.work()
        quote = Quote(Decimal(len(article)) + Decimal("0.10"), "EUR")
        self.ledger.pay()
        return quote

    def post(self, store: Store[Offer], article: str, quote: Quote) -> str:
        self.ledger.write("post")
        store.state.orders.append(Order(article=article, quote=quote))
        store.state.total += quote.price
        if len(store.state.orders) == len(store.state.articles):
            store.state.summary = f"{len(store.state.orders)} orders"
        self.ledger.write("posted")
        return "again" if "summary" not in store else "enough"


class Items(BatchNode[int, Any, str]):
    """A batch: each item is a paid call of its own."""

    def __init__(self, ledger: Ledger, concurrency: int = 1) -> None:
        super().__init__()
        self.ledger = ledger
        self.concurrency = concurrency

    def prep(self, store: Store[Any]) -> Iterator[int]:
        self.ledger.write("prep")
        yield from range(store["round"], store["round"] + 4)

    def exec(self, item: int) -> Any:
        self.ledger.write("call")
        self.ledger.work()
        self.ledger.pay()
        return (item, Decimal(item) / 4)

    def post(self, store: Store[Any], items: object, results: list[Any]) -> str:
        self.ledger.write("post")
        store["results"] += results
        store["round"] += 1
        self.ledger.write("posted")
        return "again" if store["round"] < 2 else "enough"


class Tasks(Items):
    """A batch whose items are tasks."""

    async def exec(self, item: int) -> Any:
        self.ledger.write("call")
        await asyncio.sleep(0)
        self.ledger.work()
        self.ledger.pay()
        await asyncio.sleep(0)
        return (item, Decimal(item) / 4)


class Tally(BaseModel):
    """The store of the parallel branches."""

    start: int = 3
    left: int = 0
    right: int = 0
    numbers: list[int] = []
    number: int = 0
    log: Annotated[list[str], append] = []
    total: int = 0


class Inner(BaseModel):
    """The store of a flow that has one of its own."""

    x: int
    log: Annotated[list[str], append] = []


class Outer(BaseModel):
    """The store around it."""

    y: int = 2
    log: Annotated[list[str], append] = []


class Branch(Work):
    """A step in a parallel branch: from one field to another, and a line for the log."""

    def __init__(self, ledger: Ledger, name: str, source: str, field: str) -> None:
        super().__init__(ledger, name)
        self.source = source
        self.field = field

    def read(self, store: Store[Any]) -> Any:
        return store[self.source]

    def write(self, store: Store[Any], prepared: Any, result: Any) -> str:
        if self.field:
            store[self.field] = result
        store.reduce("log", f"{self.name} {result}")
        return "default"


class Join(Work):
    """What comes after the branches."""

    def read(self, store: Store[Any]) -> Any:
        return store["left"] + store["right"]

    def write(self, store: Store[Any], prepared: Any, result: Any) -> str:
        store["total"] = result
        store["numbers"] = [1, 2, 3]
        return "default"


class Asking(AskNode[int, str]):
    """Asks before it works; its ``prep`` writes to the store, and must not do so twice."""

    def __init__(self, ledger: Ledger, name: str = "Asking") -> None:
        super().__init__(name=name)
        self.ledger = ledger

    def prep(self, store: Store[Any]) -> Question[int]:
        self.ledger.write("prep")
        store["x"] += 1
        return Question(f"Add to {store['x']}?", {"x": store["x"]})

    def post(self, store: Store[Any], question: Question[int], answer: int) -> str:
        self.ledger.write("post")
        store["x"] += question.context["x"] + answer
        self.ledger.write("posted")
        return "default"


class PaidAsking(AskNode[int, str]):
    """Works, pays, and then asks: the paid call is not repeated for the answer."""

    def __init__(self, ledger: Ledger, name: str = "PaidAsking", field: str = "") -> None:
        super().__init__(name=name)
        self.ledger = ledger
        self.field = field

    def prep(self, store: Store[Any]) -> int:
        self.ledger.write("prep")
        return int(store["start" if self.field else "x"])

    def exec(self, x: int) -> Question[int]:
        self.ledger.write("call")
        self.ledger.work()
        self.ledger.pay()
        return Question(f"{self.name}: and {x}?")

    def post(self, store: Store[Any], x: int, answer: int) -> str:
        self.ledger.write("post")
        store[self.field or "x"] = x + answer
        self.ledger.write("posted")
        return "default"


class AskingItems(Items):
    """A batch that asks about every other item, after its paid call."""

    def exec(self, item: int) -> Any:
        result = super().exec(item)
        return result if item % 2 else Question(f"Item {item}?")


def answer_to(asked: Asked) -> object:
    """What a person says: the same to the same question."""
    return len(asked.text)


# -- shapes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of flow: how to wire it, and the store that it begins with.

    Attributes:
        wire: Makes its nodes.
        initial: Makes the store that it begins with.
        schema: The schema of its store.
        asks: Whether it pauses and has to be answered.
        ordered: Whether its steps always come in one order, and work on the store of the run.
    """

    wire: Callable[[Ledger], NodeLike[Any]]
    initial: Callable[[], dict[str, Any]]
    schema: type[BaseModel] | None = None
    ordered: bool = True
    asks: bool = False

    def flow(self, ledger: Ledger, database: WorkflowDB | None = None) -> Flow[Any]:
        """The flow, writing to a ledger."""
        flow: Flow[Any] = Flow(
            start=self.wire(ledger), flow_name="durable", db_path=database, schema=self.schema
        )
        # The step of a hook: of the run whose phase the engine has just left.
        flow.on("node_start", lambda name, store: ledger.write("start"))
        flow.on("node_end", lambda name, action, spent, store: ledger.write("done"))
        flow.on("node_error", lambda name, exc, store: ledger.write("done"))
        flow.on("flow_end", lambda steps, store: ledger.write("end", str(steps)))
        return flow


def _chain(ledger: Ledger) -> NodeLike[Any]:
    nodes = [Work(ledger, name=f"Work{n}") for n in range(5)]
    nodes.insert(3, Cheap(ledger))
    for one, successor in pairwise(nodes):
        one.then("default", successor)
    return nodes[0]


def _loop(ledger: Ledger) -> NodeLike[Any]:
    work, check = Work(ledger), Check(ledger, 3)
    work.then("*", check)
    check.then("again", work)
    return work


def _nested(ledger: Ledger) -> NodeLike[Any]:
    inner_work, check = Work(ledger, "InnerWork"), Check(ledger, 2)
    inner: Flow[Any] = Flow(inner_work, flow_name="inner")
    inner.then(inner_work, check)
    inner.then(check.when("again"), inner_work)
    middle: Flow[Any] = Flow(inner, flow_name="middle")
    first, last = Work(ledger, "First"), Work(ledger, "Last")
    first.then("default", middle)
    middle.then("enough", last)
    return first


def _parallel(ledger: Ledger) -> NodeLike[Any]:
    one = Branch(ledger, "One", "start", "left")
    one.then("default", Branch(ledger, "Two", "left", "left"))
    both = Parallel(one, Branch(ledger, "Three", "start", "right"), name="Both")
    join = Join(ledger)
    both.then("default", join)
    each = FanOut(
        Branch(ledger, "Each", "number", ""),
        each=fields(Tally).numbers,
        as_=fields(Tally).number,
        concurrency=2,
    )
    join.then("default", each)
    return both


class Trip(Work):
    """Pays, and then fails in ``post`` until the number is large; what it had is in its error."""

    def write(self, store: Store[Any], prepared: Any, result: Any) -> str:
        if result < 100:
            raise ValueError(result)
        store["x"] = result
        return "default"


def _caught(ledger: Ledger) -> NodeLike[Any]:
    first, trip, last = Work(ledger, "First"), Trip(ledger), Work(ledger, "Last")
    inner: Flow[Any] = Flow(first, flow_name="inner")
    inner.then(first, trip).then(trip, last)
    inner.then(trip.catch(ValueError, writes=key("x"), value=lambda exc: exc.args[0]), trip)
    return inner


def _subflow(ledger: Ledger) -> NodeLike[Any]:
    links = [bind(key("x")).to(key("y"))], [bind(key("y")).to(key("x"))]
    sub = Subflow(_flow(_caught(ledger)), inputs=links[0], outputs=links[1], name="Sub")
    sub.then("default", Branch(ledger, "After", "y", "y"))
    return sub


def _limits(ledger: Ledger) -> NodeLike[Any]:
    work, trip, last = Work(ledger), Trip(ledger), Work(ledger, "Last")
    inner: Flow[Any] = Flow(work, flow_name="inner")
    inner.then(work, work, at_most=2, then=END)
    outer: Flow[Any] = Flow(inner, flow_name="outer")
    outer.then(inner, trip)
    outer.then(trip, inner, at_most=1, then=END)
    outer.then(trip.catch(ValueError), inner, at_most=3, then=last)
    return outer


def _limits_aside(ledger: Ledger) -> NodeLike[Any]:
    each = Branch(ledger, "Each", "number", "number")
    each.then("default", each, at_most=3, then=END)
    many = FanOut(each, each=fields(Tally).numbers, as_=fields(Tally).number, concurrency=2)
    one = Branch(ledger, "One", "start", "left")
    one.then("default", one, at_most=2, then=Branch(ledger, "Two", "left", "left"))
    both = Parallel(one, Branch(ledger, "Three", "start", "right"), name="Both")
    both.then("default", many)
    many.then("default", both, at_most=1, then=Join(ledger))
    return both


def _flow(start: NodeLike[Any]) -> Flow[Any]:
    """A flow that works on what its caller hands in."""
    return Flow(start, flow_name="outer", schema=Inner)


def _asking(ledger: Ledger) -> NodeLike[Any]:
    first, ask, paid = Work(ledger, "First"), Asking(ledger), PaidAsking(ledger)
    items, last = AskingItems(ledger), Work(ledger, "Last")
    first.then("default", ask)
    ask.then("default", paid)
    paid.then("default", items)
    items.then("again", items).then("enough", last)
    return first


def _asking_aside(ledger: Ledger) -> NodeLike[Any]:
    one = PaidAsking(ledger, "One", "left")
    one.then("default", Branch(ledger, "Two", "left", "left"))
    both = Parallel(one, PaidAsking(ledger, "Three", "right"), name="Both")
    both.then("default", Join(ledger))
    return both


def _again(node: NodeLike[Any]) -> NodeLike[Any]:
    return node.then("again", node)


class Many(Work):
    """200 paid calls, for measuring how often one is repeated."""

    def write(self, store: Store[Any], prepared: Any, result: Any) -> str:
        store["x"] = result % 1_000_003
        store["round"] += 1
        return "again" if store["round"] < 200 else "enough"


SHAPES: dict[str, Shape] = {
    "chain": Shape(_chain, lambda: {"x": 1}),
    "loop": Shape(_loop, lambda: {"x": 2, "round": 0, "text": "unchanged " * 2000}),
    "growing list": Shape(
        lambda ledger: _again(Say(ledger)), lambda: {"messages": [], "wanted": 6}
    ),
    "in place": Shape(
        lambda ledger: _again(Mutate(ledger)),
        lambda: {
            "tree": {"branches": {}},
            "flags": {"count": 0, "odd": 0},
            "box": Box(items=[]),
            "seen": set(),
        },
    ),
    "in depth": Shape(lambda ledger: _again(Deep(ledger)), deep),
    "retries": Shape(lambda ledger: _again(Flaky(ledger)), lambda: {"x": 5, "round": 0}),
    "async": Shape(
        lambda ledger: _again(Fetch(ledger)),
        lambda: {"urls": [f"https://example.org/{n}" for n in range(4)], "pages": {}, "next": 0},
    ),
    "typed": Shape(
        lambda ledger: _again(Price(ledger)),
        lambda: {"articles": ("pen", "ink", "paper", "blotter")},
        Offer,
    ),
    "nested": Shape(_nested, lambda: {"x": 2, "round": 0}),
    "batch": Shape(lambda ledger: _again(Items(ledger)), lambda: {"round": 0, "results": []}),
    "batch in threads": Shape(
        lambda ledger: _again(Items(ledger, 3)), lambda: {"round": 0, "results": []}
    ),
    "batch of tasks": Shape(
        lambda ledger: _again(Tasks(ledger, 3)), lambda: {"round": 0, "results": []}
    ),
    "parallel": Shape(_parallel, dict, Tally, ordered=False),
    "caught": Shape(_caught, lambda: {"x": 2}),
    "asking": Shape(_asking, lambda: {"x": 1, "round": 0, "results": []}, asks=True),
    "asking side by side": Shape(_asking_aside, dict, Tally, ordered=False, asks=True),
    "subflow": Shape(_subflow, dict, Outer, ordered=False),
    "limits": Shape(_limits, lambda: {"x": 0}),
    "limits in branches": Shape(_limits_aside, lambda: {"numbers": [1, 2]}, Tally, ordered=False),
}

CONCURRENT = (
    *("batch in threads", "batch of tasks", "parallel", "asking side by side"),
    "limits in branches",
)
"""Where, at any instant, other items or branches may be between a paid call and its commit."""

LONG = Shape(lambda ledger: _again(Many(ledger)), lambda: {"x": 1, "round": 0})


# -- what ought to come out -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Oracle:
    """What an undisturbed run does.

    Attributes:
        stores: The store after each step, and before the first under -1.
        lines: What it writes to the ledger, ``"paid 3"``.
    """

    stores: dict[int, dict[str, Any]]
    lines: tuple[str, ...]

    @property
    def paid(self) -> list[str]:
        """The places with a paid call."""
        words = (line.split() for line in self.lines)
        return [place for what, place in words if what == "paid"]

    @property
    def steps(self) -> int:
        """How many steps the run takes."""
        return len(self.stores) - 1


def oracle(shape: Shape) -> Oracle:
    """Run a shape in memory, without a database, and keep every store on the way."""
    stores: dict[int, dict[str, Any]] = {}
    lines: list[str] = []

    class Watching(Ledger):
        def write(self, what: str, place: str | None = None, detail: str = "") -> None:
            lines.append(f"{what} {here() if place is None else place}")

    folder = Path(tempfile.mkdtemp(prefix="pocoflow-oracle-"))
    database = WorkflowDB(folder / "runs.db") if shape.asks else None
    flow = shape.flow(Watching(None), database)
    flow.on("flow_start", lambda store: stores.setdefault(-1, copy.deepcopy(store.as_dict())))

    def note(event: Event, store: Store[Any]) -> None:
        if isinstance(event, NodeEnded | NodeFailed):
            stores[event.step] = copy.deepcopy(store.as_dict())

    flow.subscribe(note)
    if database is None:
        flow.run(shape.initial())
    else:
        with database:
            _answered(flow, database, shape)
    shutil.rmtree(folder)
    return Oracle(stores, tuple(dict.fromkeys(lines)))


def _answered(flow: Flow[Any], database: WorkflowDB, shape: Shape) -> None:
    """Run to the end, with an answer to every question."""
    run_id = None
    while True:
        try:
            flow.run(shape.initial()) if run_id is None else flow.resume(run_id)
        except RunPaused as paused:
            run_id = paused.run_id
            for asked in database.pending():
                flow.answer_json(run_id, answer_to(asked), question=asked.question)
        else:
            return


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal with every type in them the same."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(
            same(left, right) for left, right in zip(_items(one), _items(other), strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, BaseModel):
        return same(one.__dict__, other.__dict__)
    if is_dataclass(one):
        return all(
            same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one)
        )
    return bool(one == other)


def _items(mapping: dict[Any, Any]) -> list[Any]:
    return [part for pair in mapping.items() for part in pair]
