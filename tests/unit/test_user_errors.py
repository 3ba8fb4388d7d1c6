"""Exceptions of user code, of any make: they arrive, are on record, retried and caught."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest
from pydantic import BaseModel, field_validator

from pocoflow import BatchNode, FanOut, Flow, Node, Parallel, Store, WorkflowDB, key, node
from pocoflow.errors import DefinitionError, HookError, InvalidValueError
from pocoflow.failure import Failure
from tests.rows import row_of


@dataclass(frozen=True)
class FrozenError(Exception):
    """As client libraries have them."""

    limit: int = 5


@dataclass(frozen=True, slots=True)
class SlottedError(Exception):
    """With slots, too."""

    limit: int = 5


@dataclass
class UnhashableError(Exception):
    """A dataclass has ``==``, and so no hash."""

    limit: int = 5


class StubbornError(Exception):
    """Takes no attribute, and no note."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise TypeError(name)

    def add_note(self, note: str) -> NoReturn:
        raise TypeError(note)


class OddNotesError(Exception):
    """Has notes of another kind."""

    __notes__ = 5  # type: ignore[assignment]


class UnreadableError(Exception):
    """Cannot be shown."""

    def __str__(self) -> NoReturn:
        raise ValueError("str")

    def __repr__(self) -> NoReturn:
        raise ValueError("repr")


class NoTracebackError(Exception):
    """Its traceback cannot be set."""

    __traceback__ = property(lambda self: None)


class FalseError(Exception):
    """Is false, and equal to nothing."""

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> NoReturn:
        raise ValueError("eq")

    __hash__ = None  # type: ignore[assignment]


class BrokenGroup(ExceptionGroup[ValueError]):
    """A group of errors."""

    def __new__(cls) -> Self:
        return super().__new__(cls, "several", [ValueError("one"), ValueError("two")])


ERRORS: list[type[Exception]] = [
    FrozenError,
    SlottedError,
    UnhashableError,
    StubbornError,
    OddNotesError,
    UnreadableError,
    NoTracebackError,
    FalseError,
    BrokenGroup,
    StopIteration,
    StopAsyncIteration,
    TimeoutError,
]


class Harsh(BaseException):
    """No Exception: not retried, and caught by no edge."""


def run(flow: Flow[Any]) -> Store[Any]:
    """In this thread."""
    return flow.run({})


def run_async(flow: Flow[Any]) -> Store[Any]:
    """On an event loop."""
    return asyncio.run(flow.run_async({}))


def run_background(flow: Flow[Any]) -> Store[Any]:
    """In a thread of its own."""
    return flow.run_background({}).wait(30)


WAYS = pytest.mark.parametrize("go", [run, run_async])
KINDS = pytest.mark.parametrize("kind", ERRORS)
HOW = pytest.mark.parametrize("is_async", [False, True])


def raising(phase: str, kind: type[BaseException], is_async: bool, **settings: Any) -> Any:
    """A node one of whose phases raises such an exception."""

    def raises(*_: Any) -> NoReturn:
        raise kind

    async def raises_async(*_: Any) -> NoReturn:
        raises()

    methods: dict[str, Any] = {phase: raises_async if is_async else raises}
    base: Any = BatchNode if phase in ("item", "items") else Node
    if base is BatchNode:
        # "items": two at once
        methods = {"exec": methods[phase], "prep": lambda self, store: [1, 2]}
        settings.setdefault("concurrency", 2 if phase == "items" else 1)
    elif phase == "exec_fallback":

        def fail(*_: Any) -> NoReturn:
            raise ConnectionError("down")

        methods["exec"] = fail
    return type("Raising", (base,), {**methods, **settings})()


def outcome(go: Callable[[Any], Any], flow: Flow[Any], kind: type[BaseException]) -> BaseException:
    """What the caller gets; of a coroutine, what Python makes of a StopIteration."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - of any class
        go(flow)
    error: BaseException = caught.value
    if kind is StopIteration and go is run_async:
        assert type(error) is RuntimeError
        assert error.__cause__ is not None
        return error.__cause__
    return error


@pytest.mark.parametrize("phase", ["prep", "exec", "exec_fallback", "post", "item", "items"])
@KINDS
@HOW
@WAYS
def test_an_error_arrives_and_is_on_record(
    go: Any, is_async: bool, kind: type[Exception], phase: str, tmp_path: Path
) -> None:
    """The caller gets what was raised, and the run's row names its class."""
    flow = Flow(raising(phase, kind, is_async), db_path=tmp_path / "runs.db", run_id="r")
    assert type(outcome(go, flow, kind)) is kind
    with WorkflowDB(tmp_path / "runs.db", read_only=True) as db:
        row = row_of(db, "r")
        assert row["status"] == "failed"
        assert (row["error_type"] or "").rpartition(".")[2] == kind.__name__
        assert [one["event"] for one in db.get_events("r")].count("node_error") == 1


@KINDS
@HOW
def test_an_error_arrives_at_whoever_waits(kind: type[Exception], is_async: bool) -> None:
    """``handle.wait()`` raises what was raised, also if that is false."""
    flow = Flow(raising("exec", kind, is_async))
    assert type(outcome(run_background, flow, kind)) is kind


@pytest.mark.parametrize("phase", ["prep", "exec", "exec_fallback", "post", "item", "items"])
@KINDS
@HOW
@WAYS
def test_an_error_takes_its_edge(
    go: Any, is_async: bool, kind: type[Exception], phase: str
) -> None:
    """An edge for its class is taken, and gets what is left of it."""
    node = raising(phase, kind, is_async)
    seen: list[Any] = []

    class Last(Node):
        def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
            seen.append(store["why"])
            return "default"

    flow = Flow(node)
    flow.then(node.catch(kind, writes=key("why")), Last())
    go(flow)
    assert isinstance(seen[0], Failure)
    assert seen[0].type_name.rpartition(".")[2] == kind.__name__


@pytest.mark.parametrize("timeout", [None, 30.0])
@KINDS
@HOW
@WAYS
def test_an_error_is_retried_and_falls_back(
    go: Any, is_async: bool, kind: type[Exception], timeout: float | None, tmp_path: Path
) -> None:
    """``retry_on`` knows its class, and the fallback gets the exception itself."""
    told: list[Any] = []

    def fallback(self: Any, prepared: Any, exc: Exception) -> str:
        return type(exc).__name__

    def post(self: Any, store: Store[Any], prepared: Any, result: str) -> str:
        store["result"] = result
        return "default"

    facts = {"max_retries": 3, "retry_on": kind, "timeout": timeout}
    node = raising("exec", kind, is_async, exec_fallback=fallback, post=post, **facts)
    flow = Flow(node, db_path=tmp_path / "runs.db")
    flow.on("node_retry", lambda name, attempt, exc, store: told.append(type(exc)))
    assert go(flow)["result"] == kind.__name__
    assert told == [kind, kind]


@KINDS
@HOW
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_collecting_batch_has_the_error_itself(
    kind: type[Exception], is_async: bool, concurrency: int
) -> None:
    """In the place of a result stands what was raised."""

    def post(self: Any, store: Store[Any], items: Any, results: Any) -> str:
        store["kinds"] = [type(one) for one in results]
        return "default"

    facts = {"on_error": "collect", "concurrency": concurrency, "post": post}
    node = raising("item", kind, is_async, **facts)
    assert run(Flow(node))["kinds"] == [kind, kind]
    assert run_async(Flow(node))["kinds"] == [kind, kind]


@KINDS
@HOW
@WAYS
def test_an_error_in_a_branch_arrives(
    go: Any, is_async: bool, kind: type[Exception], tmp_path: Path
) -> None:
    """That of a parallel branch ends the run as it was raised."""
    branch = raising("exec", kind, is_async)
    for start in (
        Parallel(branch, Node()),
        FanOut(branch, each=key("items"), as_=key("item")),
    ):
        flow = Flow(start, db_path=tmp_path / f"{start.name}.db", run_id="r")

        def given(made: Flow[Any], go: Any = go) -> Any:
            if go is run_async:
                return asyncio.run(made.run_async({"items": [1]}))
            return made.run({"items": [1]})

        if go is run_async and kind is StopIteration:
            with pytest.raises(RuntimeError, match="StopIteration"):
                given(flow)
        else:
            assert type(outcome(given, flow, kind)) is kind
        with WorkflowDB(tmp_path / f"{start.name}.db", read_only=True) as db:
            row = row_of(db, "r")
            assert (row["error_type"] or "").rpartition(".")[2] == kind.__name__


@pytest.mark.parametrize("kind", [Harsh, GeneratorExit, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("phase", ["prep", "exec", "exec_fallback", "post", "item", "items"])
@pytest.mark.parametrize("timeout", [None, 30.0])
def test_what_is_no_exception_ends_the_run_as_it_is(
    kind: type[BaseException], phase: str, timeout: float | None, tmp_path: Path
) -> None:
    """A BaseException is neither retried nor caught, and is on record."""
    node = raising(phase, kind, False, max_retries=3, timeout=timeout)
    flow = Flow(node, db_path=tmp_path / "runs.db", run_id="r")
    flow.then(node.catch(Exception), Node())
    assert type(outcome(run, flow, kind)) is kind
    with WorkflowDB(tmp_path / "runs.db", read_only=True) as db:
        row = row_of(db, "r")
        assert row["status"] == "failed"
        assert (row["error_type"] or "").rpartition(".")[2] == kind.__name__


@KINDS
@WAYS
def test_listeners_and_observers_may_raise_anything(go: Any, kind: type[Exception]) -> None:
    """What a reader of events or of a store raises changes nothing."""

    def raises(*_: Any) -> NoReturn:
        raise kind

    class Write(Node):
        def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
            store.add_observer(raises)
            store["done"] = True
            return "default"

    flow = Flow(Write())
    flow.subscribe(raises)
    flow.on("node_start", raises)
    assert go(flow)["done"] is True


@KINDS
@WAYS
def test_what_a_retry_rule_raises_arrives(go: Any, kind: type[Exception]) -> None:
    """An error of ``retry_on`` itself ends the run, with that of exec as its context."""

    def rule(exc: Exception) -> bool:
        raise kind

    node = raising("exec", ConnectionError, False, max_retries=2)
    node.retry_on = rule
    assert type(outcome(go, Flow(node), kind)) is kind


def test_a_generator_of_the_users_is_not_taken_for_ours() -> None:
    """What Python makes of a StopIteration in a helper generator stays what the user sees."""

    def helper() -> Any:
        yield next(iter(()))

    class Read(Node):
        def exec(self, prepared: Any) -> Any:
            return list(helper())

    with pytest.raises(RuntimeError, match="generator raised StopIteration"):
        Flow(Read()).run({})


def test_a_validator_may_raise_a_frozen_error() -> None:
    """An error of a validator is told with its field, whatever it is made of; it is the cause."""

    class Strict(BaseModel):
        n: int = 0

        @field_validator("n")
        @classmethod
        def check(cls, value: int) -> int:
            if value > 0:
                raise FrozenError(value)
            return value

    class Write(Node):
        def post(self, store: Store[Strict], prepared: Any, result: Any) -> str:
            store["n"] = 1
            return "default"

    with pytest.raises(InvalidValueError, match=r"field 'n': .* raised FrozenError") as caught:
        Flow(Write(), schema=Strict).run({})
    assert isinstance(caught.value.__cause__, FrozenError)


def quiet() -> None:
    """Do nothing."""


async def nobody_awaits(*given: Any) -> bool:
    """Give a coroutine."""
    return False


def nobody_goes_through(*given: Any) -> Any:
    """Give a generator."""
    yield given


@pytest.mark.parametrize("callback", [nobody_awaits, nobody_goes_through])
def test_what_a_call_alone_does_not_run_is_refused(callback: Any) -> None:
    """Wherever a function is called for what it does or returns, when it is given."""
    work = Node[Any, Any, Any](name="work")
    flow: Flow[Any] = Flow(work)
    said = "a (coroutine|generator) function"
    with pytest.raises(DefinitionError, match=said):
        node(retry_on=callback)(quiet)
    with pytest.raises(DefinitionError, match=said):
        work.catch(OSError, writes=key("o"), value=callback)
    with pytest.raises(DefinitionError, match=said):
        Flow(work, executor=callback)
    with pytest.raises(HookError, match=said):
        flow.on("flow_end", callback)
    with pytest.raises(HookError, match=said):
        flow.subscribe(callback)
    with pytest.raises(HookError, match=said):
        Store().add_observer(callback)
    handle = flow.run_background({})
    with pytest.raises(HookError, match=said):
        handle.add_done_callback(callback)
    handle.wait()
