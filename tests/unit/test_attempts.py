"""The attempts of exec: each begins with the same input, and one that was given up is out."""

from __future__ import annotations

import asyncio
import io
import threading
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from pocoflow import (
    BatchNode,
    FanOut,
    Flow,
    Node,
    Parallel,
    Store,
    context,
    fields,
    key,
    node,
)
from pocoflow.errors import NodeTimeoutError

PATIENCE = 30


def run(flow: Flow[Any], values: dict[str, Any]) -> Store[Any]:
    """Run in this thread."""
    return flow.run(values)


def run_async(flow: Flow[Any], values: dict[str, Any]) -> Store[Any]:
    """Run on an event loop."""
    return asyncio.run(flow.run_async(values))


WAYS = pytest.mark.parametrize("go", [run, run_async])


class Message(BaseModel):
    """A part of a chat, as a model."""

    texts: list[str] = []


@dataclass
class Chat:
    """A chat with a client in it, which cannot be copied."""

    texts: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class FrozenChat:
    """A chat whose attributes cannot be set."""

    texts: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)


class Pair(NamedTuple):
    """A chat as a named tuple."""

    texts: list[str]
    lock: Any


class Live(BaseModel, arbitrary_types_allowed=True):
    """A model with a client in it."""

    texts: list[str] = []
    lock: Any = None


@dataclass
class Stream:
    """A chat that keeps what it reads from beside its fields, and perhaps itself in a field."""

    texts: list[str] = field(default_factory=list)
    first: Stream | None = None

    def __post_init__(self) -> None:
        self.source = (text for text in self.texts)

    @classmethod
    def alone(cls) -> Stream:
        """One that is the first of its own."""
        made = cls()
        made.first = made
        return made


class Reader:
    """An object that holds what it reads from."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.source = (text for text in self.texts)


def grow(texts: Any) -> int:
    """Change a list in place, as chat code does; how long it is now."""
    texts.append("be brief")
    return len(texts)


INPUTS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "list": (list, lambda value: value),
    "dict": (lambda: {"a": {"texts": []}}, lambda value: value["a"]["texts"]),
    "model": (Message, lambda value: value.texts),
    "tuple": (lambda: ([], "x"), lambda value: value[0]),
    "deque": (deque, lambda value: value),
    "list of dicts": (lambda: [{"texts": []}], lambda value: value[0]["texts"]),
    "dict with a lock": (
        lambda: {"lock": threading.Lock(), "texts": []},
        lambda value: value["texts"],
    ),
    "dataclass with a lock": (Chat, lambda value: value.texts),
    "frozen dataclass with a lock": (FrozenChat, lambda value: value.texts),
    "named tuple with a lock": (lambda: Pair([], threading.Lock()), lambda value: value.texts),
    "model with a lock": (lambda: Live(lock=threading.Lock()), lambda value: value.texts),
    "dataclass with a generator beside its fields": (Stream, lambda value: value.texts),
    "dataclass that contains itself": (Stream.alone, lambda value: value.first.texts),
    "object with a generator": (Reader, lambda value: value.texts),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("is_async", [False, True])
@WAYS
def test_every_attempt_begins_with_the_same_input(go: Any, is_async: bool, kind: str) -> None:
    """What an attempt changed in its input is seen by no later one, nor by post, nor committed."""
    make, texts = INPUTS[kind]
    seen = []

    class Ask(Node):
        max_retries = 3

        def prep(self, store: Store[Any]) -> Any:
            return store["chat"]

        def exec(self, chat: Any) -> Any:
            seen.append(grow(texts(chat)))
            if context().attempt < 3:
                raise ConnectionError
            return len(texts(chat))

        def post(self, store: Store[Any], chat: Any, result: int) -> str:
            seen.append(len(texts(chat)))
            store["result"] = result
            return "default"

    class AskAsync(Ask):
        async def exec(self, chat: Any) -> Any:
            await asyncio.sleep(0)
            return Ask.exec(self, chat)

    ask = AskAsync() if is_async else Ask()
    done = go(Flow(ask), {"chat": make()})
    assert seen == [1, 1, 1, 0]
    assert done["result"] == 1
    assert len(texts(done["chat"])) == 0


def given_to(attempts: int, value: object) -> list[Any]:
    """What each of so many attempts is given, of at most three, of which the last one succeeds."""
    seen: list[Any] = []

    class Use(Node):
        max_retries = 3

        def prep(self, store: Store[Any]) -> Any:
            return value

        def exec(self, given: Any) -> None:
            seen.append(given)
            if len(seen) < attempts:
                raise ConnectionError

    Flow(Use()).run({})
    return seen


def test_what_cannot_be_copied_is_shared() -> None:
    """A client in the input of attempts is the client itself, what is around it is a copy."""
    lock = threading.Lock()
    parts = {"lock": lock, "chats": [Chat(lock=lock)]}
    (given,) = given_to(1, parts)
    assert given is not parts
    assert given["lock"] is lock
    assert given["chats"][0].lock is lock


class Client:
    """A client that could be copied, and must not be."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, text: str) -> None:
        """Send it."""
        self.sent.append(text)

    def close(self) -> None:
        """End it."""


class Plain:
    """An object of a class that says nothing of itself."""

    def __init__(self) -> None:
        self.texts: list[str] = []


LIVE: dict[str, Callable[[], Any]] = {
    "client": Client,
    "method": lambda: Client().send,
    "queue": asyncio.Queue,
    "lock": asyncio.Lock,
    "event": asyncio.Event,
}


@dataclass(slots=True)
class Slotted:
    """A dataclass with slots."""

    held: list[Any]


class Private(BaseModel):
    """A model with a private attribute."""

    _held: Any = None

    def keep(self, one: object) -> Private:
        """Hold it."""
        self._held = one
        return self


AROUND: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "alone": (lambda one: one, lambda given: given),
    "in a list": (lambda one: [one, one], lambda given: given[1]),
    "in a set in a dict": (lambda one: {"a": {one}}, lambda given: next(iter(given["a"]))),
    "in a deque": (lambda one: deque([one]), lambda given: given[0]),
    "in a dataclass": (lambda one: Chat(lock=one), lambda given: given.lock),
    "in a model": (lambda one: Live(lock=one), lambda given: given.lock),
    "in a store": (lambda one: Store({"a": [one]}), lambda given: given["a"][0]),
    "in a slot": (lambda one: Slotted([one]), lambda given: given.held[0]),
    "in a private attribute": (lambda one: Private().keep(one), lambda given: given._held),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", LIVE)
def test_a_client_is_the_same_in_every_attempt(kind: str, around: str) -> None:
    """Also where it could be copied: nobody would read from the copy of a queue."""
    one = LIVE[kind]()
    wrap, unwrap = AROUND[around]
    assert [unwrap(given) is one for given in given_to(3, wrap(one))] == [True] * 3


class Own(dict[str, Any]):
    """A dict of the user's."""


class Written:
    """A value that says how it is copied."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __deepcopy__(self, memo: dict[int, object]) -> Written:
        made = Written()
        made.texts = [*self.texts]
        return made


class Compared:
    """A value that says when another one is equal."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compared) and other.texts == self.texts

    __hash__ = None  # type: ignore[assignment]


class Pages(Sequence[str]):
    """A row of the user's, which reads what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: Any) -> Any:
        self.asked.append(place)
        return "page"


class Lazy(Mapping[str, str]):
    """A mapping that fetches its values."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(("a",))

    def __getitem__(self, key: str) -> str:
        self.asked.append(key)
        return key


@pytest.mark.parametrize(
    "make", [Own, Written, Plain, Compared, Pages, Lazy, io.BytesIO, SimpleNamespace, Namespace]
)
def test_what_is_no_client_is_copied_for_each_attempt(make: Callable[[], Any]) -> None:
    """It cannot be closed or entered, has no asynchronous method, or says how it is copied."""
    one = make()
    (given,) = given_to(1, one)
    assert given is not one
    assert not getattr(one, "asked", None)


def test_one_attempt_works_on_the_objects_of_the_store() -> None:
    """An exec that is tried once, without a timeout, gets what prep gave and no copy."""
    given = [1, 2]

    class Once(Node):
        def prep(self, store: Store[Any]) -> Any:
            return given

        def exec(self, items: Any) -> bool:
            return items is given

        def post(self, store: Store[Any], items: Any, same: bool) -> str:
            store["same"] = same
            return "default"

    assert Flow(Once()).run({})["same"] is True


@pytest.mark.parametrize("attempts", [1, 2])
@WAYS
def test_the_fallback_gets_what_prep_gave(go: Any, attempts: int) -> None:
    """No attempt has changed what exec_fallback gets, and what it changes is not committed."""

    class Ask(Node):
        max_retries = attempts

        def prep(self, store: Store[Any]) -> Any:
            return store["texts"]

        def exec(self, texts: list[str]) -> int:
            grow(texts)
            raise ConnectionError

        def exec_fallback(self, texts: list[str], exc: Exception) -> int:
            return grow(texts)

        def post(self, store: Store[Any], texts: list[str], result: int) -> str:
            store["result"] = result
            return "default"

    done = go(Flow(Ask()), {"texts": []})
    assert (done["result"], done["texts"]) == (1, [])


@WAYS
def test_what_a_failed_attempt_changed_is_not_committed_by_an_edge_for_errors(
    go: Any, tmp_path: Path
) -> None:
    """The store after a caught error is as it was before the attempts."""

    @node(writes=key("n"), max_retries=2)
    def ask(texts: list[str]) -> int:
        grow(texts)
        raise ConnectionError

    flow = Flow(ask, db_path=tmp_path / "runs.db")
    flow.then(ask.catch(ConnectionError), Node())
    assert go(flow, {"texts": ["hi"]})["texts"] == ["hi"]


@pytest.mark.parametrize("concurrency", [1, 3])
@WAYS
def test_every_attempt_at_an_item_begins_with_the_item(go: Any, concurrency: int) -> None:
    """Items of a batch are the same for each attempt, and in what post gets."""
    seen = []

    class Ask(BatchNode):
        max_retries = 2

        def prep(self, store: Store[Any]) -> Any:
            return store["chats"]

        def exec(self, chat: list[str]) -> int:
            seen.append(grow(chat))
            if context().attempt == 1:
                raise ConnectionError
            return len(chat)

    made = Ask()
    made.concurrency = concurrency
    done = go(Flow(made), {"chats": [[], [], []]})
    assert seen == [1] * 6
    assert done["chats"] == [[], [], []]


def test_the_other_arguments_of_a_function_over_items_are_the_same_for_each() -> None:
    """A list that a function takes beside its item is not grown by attempts at other items."""
    K = {name: key(name) for name in ("urls", "log", "pages")}

    @node(each=K["urls"], writes=K["pages"], max_retries=2)
    def fetch(url: str, log: list[str] = K["log"]) -> int:
        log.append(url)
        if context().attempt == 1:
            raise ConnectionError
        return len(log)

    done = Flow(fetch).run({"urls": ["a", "b"], "log": []})
    assert (done["pages"], done["log"]) == ([1, 1], [])


@pytest.mark.parametrize("kind", ["parallel", "fan out"])
def test_attempts_in_branches_begin_with_the_same_input(kind: str) -> None:
    """A node of a parallel branch has the same input for each of its attempts."""

    class State(BaseModel):
        texts: list[str] = []
        items: list[int] = [1]
        item: int = 0
        n: int = 0

    S = fields(State)

    @node(writes=S.n, max_retries=3)
    def ask(texts: list[str]) -> int:
        grow(texts)
        if context().attempt < 3:
            raise ConnectionError
        return len(texts)

    start: Any = Parallel(ask) if kind == "parallel" else FanOut(ask, each=S.items, as_=S.item)
    done = Flow(start, schema=State).run({"texts": []})
    assert (done["n"], done["texts"]) == (1, [])


# -- given up at the timeout ------------------------------------------------------------------


SPAN: ContextVar[str] = ContextVar("SPAN", default="none")


@WAYS
def test_an_attempt_that_was_given_up_is_out(go: Any) -> None:
    """After its timeout an attempt reaches neither the store nor the context nor listeners."""
    late, told, raised = threading.Event(), threading.Event(), []
    emitted = []

    class Slow(Node):
        timeout = 0.05
        max_retries = 2

        def prep(self, store: Store[Any]) -> Any:
            return store["texts"]

        def exec(self, texts: list[str]) -> str:
            run_of_mine = context()
            if run_of_mine.attempt == 2:
                return f"{SPAN.get()}, {len(texts)}"
            SPAN.set("of the first attempt")
            grow(texts)
            late.wait(PATIENCE)
            grow(texts)
            for call in (context, lambda: run_of_mine.emit(1), run_of_mine.check_cancelled):
                try:
                    call()
                except NodeTimeoutError as exc:
                    raised.append(str(exc))
            told.set()
            return "late"

        def post(self, store: Store[Any], texts: list[str], result: str) -> str:
            late.set()
            assert told.wait(PATIENCE)
            store["result"] = (result, SPAN.get(), context().attempt)
            return "default"

    flow = Flow(Slow())
    flow.subscribe(lambda event, store: emitted.append(event))
    done = go(flow, {"texts": []})
    assert done["result"] == ("none, 0", "none", 2)
    assert done["texts"] == []
    assert len(raised) == 3
    assert all("took longer than its timeout" in one for one in raised)
    assert not [event for event in emitted if type(event).__name__ == "Emitted"]


@pytest.mark.parametrize("is_async", [False, True])
@WAYS
def test_what_an_attempt_in_time_set_is_taken_over(go: Any, is_async: bool) -> None:
    """A context variable that a successful attempt with a timeout set is seen in post."""

    class Quick(Node):
        timeout = PATIENCE

        def exec(self, given: None) -> Any:
            SPAN.set("open")

        def post(self, store: Store[Any], given: None, result: None) -> str:
            store["span"] = SPAN.get()
            return "default"

    class QuickAsync(Quick):
        async def exec(self, given: None) -> Any:
            await asyncio.sleep(0)
            SPAN.set("open")

    assert SPAN.get() == "none"
    assert go(Flow(QuickAsync() if is_async else Quick()), {})["span"] == "open"
    assert SPAN.get() == "none"


@WAYS
def test_an_async_attempt_that_goes_on_after_its_timeout_is_out(go: Any) -> None:
    """A task that an attempt began and that outlives it has no run any more."""
    outcome: list[str] = []
    begun: list[asyncio.Future[None]] = []
    again = asyncio.Event()

    class Slow(Node):
        timeout = 0.3
        max_retries = 2

        async def exec(self, given: None) -> Any:
            if context().attempt == 2:
                again.set()
                await asyncio.wait(begun)
                return "second"

            async def rest() -> None:
                await again.wait()
                try:
                    context()
                except NodeTimeoutError:
                    outcome.append("refused")

            begun.append(asyncio.ensure_future(rest()))
            await asyncio.sleep(PATIENCE)
            return "first"

    go(Flow(Slow()), {})
    assert outcome == ["refused"]


# -- after a crash ----------------------------------------------------------------------------


def test_changed_values_are_another_input(tmp_path: Path) -> None:
    """``resume(changes=...)`` runs prep again, on the values as they are then."""
    given = []

    class Ask(Node):
        max_retries = 2

        def prep(self, store: Store[Any]) -> Any:
            return store["question"]

        def exec(self, question: str) -> None:
            given.append(question)
            if question == "bad":
                raise ValueError("bad question")

    flow = Flow(Ask(), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(ValueError, match="bad question"):
        flow.run({"question": "bad"})
    with pytest.raises(ValueError, match="bad question"):
        flow.resume("r")
    flow.resume("r", changes={"question": "good"})
    assert given == ["bad"] * 4 + ["good"]
