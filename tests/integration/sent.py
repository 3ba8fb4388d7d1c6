"""Nodes that executors are given; workers import them from here."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from pydantic import BaseModel

from pocoflow import BatchNode, Flow, Node, Question, Retry, Store, context, fields, node, resource

P = ParamSpec("P")
R = TypeVar("R")

request_id: ContextVar[str] = ContextVar("request_id")


class Point(BaseModel):
    x: int
    y: tuple[int, ...] = ()


class State(BaseModel):
    folder: str = ""
    number: int = 0
    text: str = ""
    point: Point = Point(x=0)
    items: list[int] = []
    results: list[int] = []
    pids: list[int] = []
    answer: Any = None


S = fields(State)


def flow_of(first: Any, **settings: Any) -> Flow[State]:
    """A flow of one node."""
    return Flow(first, schema=State, flow_name="sent", **settings)


def doubled(function: Callable[P, int]) -> Callable[P, int]:
    """A decorator as people write them."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> int:
        return 2 * function(*args, **kwargs)

    return inner


@node(writes=S.answer)
def where() -> int:
    """The process that calls it."""
    return os.getpid()


@node(writes=S.answer)
@doubled
def decorated(number: int) -> int:
    """A function in a decorator."""
    return number + 1


@node(writes=S.answer)
def typed(point: Point) -> Point:
    """Models and tuples go there and back."""
    assert type(point.y) is tuple
    return Point(x=point.x + 1, y=(*point.y, 3))


class Locked(Node):
    """A node with what cannot be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def prep(self, store: Store[State]) -> int:
        return store.state.number

    def exec(self, number: int) -> int:
        with self.lock:
            return number * 10

    def post(self, store: Store[State], number: int, answer: int) -> None:
        store["answer"] = answer


locked = flow_of(Locked())


class Scaled(Node):
    """A node with what can be sent."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def prep(self, store: Store[State]) -> int:
        return store.state.number

    def exec(self, number: int) -> int:
        return number * self.factor

    def post(self, store: Store[State], number: int, answer: int) -> None:
        store["answer"] = answer


@node(writes=S.answer)
async def awaits(number: int) -> int:
    """Tasks of its own, on a loop of the worker."""
    first, second = await asyncio.gather(_later(number), _later(number))
    return first + second


async def _later(number: int) -> int:
    await asyncio.sleep(0)
    return number


class TwoArguments(Exception):
    """Cannot be made of its ``args``."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what} ({code})")
        self.what, self.code = what, code
        self.lock = threading.Lock()


@node
def raises(number: int) -> None:
    """An error with a cause, a note and what cannot be sent."""
    try:
        raise KeyError(number)
    except KeyError as exc:
        error = TwoArguments("broken", 7)
        error.add_note("look there")
        raise error from exc


@node
def raises_strangely() -> None:
    """An error of a class that nobody finds."""

    class LocalError(Exception):
        pass

    raise LocalError("only here")


@node
def raises_of_pydantic(number: int) -> None:
    """An error that pydantic makes."""
    Point.model_validate({"x": "no number"})


@node
def leaves() -> None:
    """Asks the process to end."""
    raise SystemExit(3)


@node(writes=S.answer)
def gives_lock() -> Any:
    """A result that cannot be sent."""
    return threading.Lock()


@node(writes=S.answer, max_retries=2)
def dies_once(folder: str) -> int:
    """Ends its process at the first attempt."""
    if not (marker := Path(folder, "died")).exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return context().attempt


@node(writes=S.text)
def large(text: str) -> str:
    """As much there as back."""
    return text[::-1]


@node(timeout=0.3, max_retries=9, writes=S.answer)
def hangs(number: int) -> str:
    """Takes for ever at the first attempt."""
    if context().attempt == 1:
        threading.Event().wait(30)
    return context().errors[0].type_name


@node(timeout=0.3, max_retries=9, writes=S.answer)
async def hangs_async(number: int) -> str:
    """Awaits for ever at the first attempt."""
    if context().attempt == 1:
        await asyncio.Event().wait()
    return context().errors[0].type_name


@node(writes=S.answer)
def waits(folder: str) -> str:
    """Says that it has begun, and waits until it may end."""
    Path(folder, "begun").touch()
    pause = threading.Event()
    while not Path(folder, "may-end").exists():
        pause.wait(0.01)
    Path(folder, "ended").touch()
    return "late"


@node(writes=S.answer)
def tells(number: int) -> int:
    """Shows and logs what it does."""
    log = logging.getLogger("tests.sent")
    for one in range(number):
        context().emit(("part", one))
        log.info("part %d", one, extra={"part": one})
    try:
        raise ValueError("logged")
    except ValueError:
        log.exception("failed")
    return number


@node(writes=S.answer)
def tells_early(folder: str) -> str:
    """Shows something, and ends once that is known to have come."""
    pause = threading.Event()
    for one in ("first", "second"):
        context().emit(one)
        while not Path(folder, one).exists():
            pause.wait(0.01)
    context().emit("last")
    return "told"


@node(writes=S.answer, max_retries=2)
def tells_and_fails(number: int) -> int:
    """Shows something in an attempt that fails."""
    for one in range(number):
        context().emit((context().attempt, one))
    if context().attempt == 1:
        raise ConnectionError("again")
    return number


def pay(folder: str, what: str) -> str:
    """Costs something, and is noted."""
    with Path(folder, "paid").open("a") as file:
        file.write(f"{what}\n")
    context().spend(usd=0.25)
    return what.upper()


async def pay_async(folder: str, what: str) -> str:
    """The same, awaited."""
    await asyncio.sleep(0)
    return pay(folder, what)


@node(writes=S.answer, max_retries=2)
async def calls(folder: str) -> str:
    """Pays twice, and then has to try again."""
    context().spend(steps=1)
    first = context().call(pay, folder, "first")
    second = await context().call(pay_async, folder, "second")
    if context().attempt == 1:
        raise Retry("of no use", keep=True)
    return f"{first} {second} {context().idempotency_key}"


@node(writes=S.answer)
def calls_and_fails(folder: str) -> str:
    """Fails once after two calls."""
    texts = [context().call(pay, folder, what) for what in ("first", "second")]
    if not (marker := Path(folder, "failed")).exists():
        marker.touch()
        raise ConnectionError("gone")
    return "".join(texts)


@node(writes=S.answer)
def spends(folder: str) -> str:
    """Pays as often as it may."""
    return "".join(context().call(pay, folder, str(number)) for number in range(10))


@node(writes=S.answer)
def varies() -> str:
    """Reads a context variable, and sets it."""
    found = request_id.get()
    request_id.set(f"{found}, answered")
    return found


@node(writes=S.answer)
def traced() -> int:
    """The trace that it is in."""
    from opentelemetry import trace

    return trace.get_current_span().get_span_context().trace_id


class Client:
    """Made once in a process."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Opened(Client):
    """Opened around each call."""


client = resource(Client, "client", open=Client, per="process")
opened = resource(Opened, "opened", open=Opened)


@node(each=S.items, writes=S.results, concurrency=4)
def uses(item: int, mine: Client = client) -> int:
    """How many clients there are."""
    return mine.made


@node(writes=S.answer)
def is_opened(mine: Opened = opened) -> bool:
    """Whether it has what is opened around each call, or by the run."""
    return type(mine) is Opened


class Asks(Node):
    """A class that declares what it takes."""

    resources = (client, opened)

    def exec(self, _: Any) -> bool:
        return context()[opened] is not context()[client]

    def post(self, store: Store[State], _: Any, answer: bool) -> None:
        store["answer"] = answer


@node(each=S.items, writes=S.results, concurrency=3, max_retries=2)
def squares(item: int) -> int:
    """Works on an item, at the second attempt if it is a five."""
    if item == 5 and context().attempt == 1:
        raise ConnectionError("five")
    context().emit(context().item)
    return item * item


@node(each=S.items, writes=S.results, concurrency=2)
def fails_beside(item: int, folder: str) -> int:
    """Fails at a zero, once the other item has begun, which ends after that."""
    pause, here = threading.Event(), Path(folder)
    with (here / "calls").open("a") as file:
        file.write(f"{item}\n")
    while not (here / ("calls-of-1" if item == 0 else "may-end")).exists():
        if item == 1:
            (here / "calls-of-1").touch()
        pause.wait(0.01)
    if item == 0 and not (here / "failed").exists():
        (here / "failed").touch()
        raise ConnectionError("gone")
    return item


class Halves(BatchNode[int, int, None]):
    concurrency = 4

    def prep(self, store: Store[State]) -> list[int]:
        return store.state.items

    async def exec(self, item: int) -> int:
        await asyncio.sleep(0)
        return item // 2

    def post(self, store: Store[State], items: Any, results: list[int]) -> None:
        store["results"] = results


@node(writes=S.answer)
def asks(number: int) -> Question[int]:
    """Asks a person, from a worker."""
    return Question("How many?", {"number": number})


@node(executor="here", writes=S.pids)
def stays() -> list[int]:
    """Is called in the process of the run."""
    return [os.getpid()]
