"""Middleware: what wraps visits of nodes and attempts of exec."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pocoflow import BatchNode, Flow, Node, Parallel, Store, Subflow, bind, key
from pocoflow.errors import DefinitionError, RunError
from pocoflow.nodes.middleware import Around, Attempt, Visit


def run(flow: Flow[Any], **values: Any) -> Store[Any]:
    """In this thread."""
    return flow.run(values)


def run_async(flow: Flow[Any], **values: Any) -> Store[Any]:
    """On an event loop."""
    return asyncio.run(flow.run_async(values))


WAYS = pytest.mark.parametrize("go", [run, run_async])


class Work(Node):
    """Doubles a number."""

    def prep(self, store: Store[Any]) -> Any:
        return store["n"]

    def exec(self, n: int) -> Any:
        if n < 0:
            raise ValueError(n)
        return n * 2

    def post(self, store: Store[Any], n: int, result: int) -> str:
        store["n"] = result
        return "default"


class WorkAsync(Work):
    """Doubles a number, asynchronously."""

    async def exec(self, n: int) -> Any:
        await asyncio.sleep(0)
        return Work.exec(self, n)


NODES = pytest.mark.parametrize("kind", [Work, WorkAsync])


@NODES
@WAYS
def test_middleware_is_around_visits_and_attempts(go: Any, kind: Any) -> None:
    """The first that is used is outermost; each sees what comes of what it wraps."""
    log: list[str] = []

    def traced(name: str) -> Any:
        def around(call: Visit | Attempt) -> Around:
            log.append(f"{name} in {call.name}")
            result = yield
            log.append(f"{name} out {result}")
            return result

        return around

    flow = Flow(kind(name="work")).use(visit=traced("outer"), attempt=traced("try"))
    flow.use(visit=traced("inner"))
    assert go(flow, n=2)["n"] == 4
    assert log == [
        "outer in work",
        "inner in work",
        "try in work",
        "try out 4",
        "inner out default",
        "outer out default",
    ]


@NODES
@WAYS
def test_a_middleware_changes_what_is_given_and_what_comes(go: Any, kind: Any) -> None:
    """As redaction does; ``post`` still has what prep gave."""

    def redacted(attempt: Attempt) -> Around:
        attempt.given += 1
        result = yield
        return result + 100

    assert go(Flow(kind()).use(attempt=redacted), n=2)["n"] == 106


@NODES
@WAYS
def test_a_middleware_need_not_go_on(go: Any, kind: Any) -> None:
    """A cache gives the result itself; a visit is left out by its action."""
    cache = {5: 50}

    def cached(attempt: Attempt) -> Around:
        if attempt.given not in cache:
            cache[attempt.given] = yield
        return cache[attempt.given]

    assert go(Flow(kind()).use(attempt=cached), n=5)["n"] == 50
    assert go(Flow(kind()).use(attempt=cached), n=6)["n"] == 12
    assert cache[6] == 12

    def left_out(visit: Visit) -> Around:
        if visit.store["n"] == 5:
            return "default"
        return (yield)

    assert go(Flow(kind()).use(visit=left_out), n=5)["n"] == 5
    assert go(Flow(kind()).use(visit=left_out), n=6)["n"] == 12


@NODES
@WAYS
def test_a_middleware_awaits_in_every_run(go: Any, kind: Any) -> None:
    """As a limit of a rate does, before it goes on."""
    waited: list[str] = []

    async def acquire() -> str:
        await asyncio.sleep(0)
        return "token"

    def limited(call: Visit | Attempt) -> Around:
        waited.append((yield acquire()))
        return (yield)

    assert go(Flow(kind()).use(visit=limited, attempt=limited), n=1)["n"] == 2
    assert waited == ["token", "token"]


@NODES
@WAYS
def test_a_middleware_sees_errors_and_may_take_them(go: Any, kind: Any) -> None:
    """Each attempt by itself; what it raises is retried and caught as any other."""
    seen: list[Any] = []

    def observed(attempt: Attempt) -> Around:
        try:
            return (yield)
        except ValueError as exc:
            seen.append((attempt.number, str(exc)))
            raise

    def mended(visit: Visit) -> Around:
        try:
            return (yield)
        except ValueError:
            visit.store["n"] = 0
            return "default"

    node = kind()
    node.max_retries = 2
    with pytest.raises(ValueError, match="-1"):
        go(Flow(node).use(attempt=observed), n=-1)
    assert seen == [(1, "-1"), (2, "-1")]
    assert go(Flow(node).use(visit=mended), n=-1)["n"] == 0


@WAYS
def test_an_edge_catches_what_a_middleware_raises(go: Any) -> None:
    """It is an error of the node."""

    def refuses(visit: Visit) -> Around:
        if visit.name == "Work":
            raise KeyError(visit.name)
        return (yield)

    work = Work()
    with pytest.raises(KeyError):
        go(Flow(work).use(visit=refuses), n=1)
    flow = Flow(work).use(visit=refuses)
    flow.then(work.catch(KeyError), Node())
    assert go(flow, n=1)["n"] == 1


@WAYS
def test_an_attempt_may_be_gone_on_with_again(go: Any) -> None:
    """A rule of one's own for attempts; a visit is gone on with once."""
    tries: list[int] = []

    class Flaky(Work):
        def exec(self, n: int) -> Any:
            tries.append(n)
            if len(tries) < 3:
                raise ConnectionError
            return n

    def stubborn(attempt: Attempt) -> Around:
        while True:
            try:
                return (yield)
            except ConnectionError:
                continue

    assert go(Flow(Flaky()).use(attempt=stubborn), n=1)["n"] == 1
    assert tries == [1, 1, 1]

    def twice(visit: Visit) -> Around:
        yield
        return (yield)

    with pytest.raises(RuntimeError, match="once"):
        go(Flow(Work()).use(visit=twice), n=1)


@pytest.mark.parametrize("concurrency", [1, 2])
@WAYS
def test_items_branches_and_flows_inside_are_wrapped(go: Any, concurrency: int) -> None:
    """An attempt at an item has its number; flows inside have their own middleware, too."""
    seen: list[tuple[str, str, int | None]] = []

    class Items(BatchNode):
        def prep(self, store: Store[Any]) -> Any:
            return [1, 2]

        def exec(self, item: int) -> int:
            return item

    Items.concurrency = concurrency

    def noted(label: str) -> Any:
        def around(call: Any) -> Around:
            seen.append((label, call.name, getattr(call, "item", None)))
            return (yield)

        return around

    inner = Flow(Work(name="in"), flow_name="inner").use(attempt=noted("inner"))
    batch, fork = Items(), Parallel(Work(name="branch"), name="fork")
    sub = Subflow(inner, inputs=[bind(key("n")).to(key("n"))], name="sub")
    nested = Flow(Work(name="nested"), flow_name="flow").use(visit=noted("nested"))
    flow = Flow(batch).then(batch, fork).then(fork, sub).then(sub, nested)
    go(flow.use(attempt=noted("outer")), n=1)
    assert sorted(seen[:2]) == [("outer", "Items", 0), ("outer", "Items", 1)]
    assert seen[2:] == [
        ("outer", "branch", None),
        ("outer", "in", None),
        ("inner", "in", None),
        ("nested", "nested", None),
        ("outer", "nested", None),
    ]


@WAYS
def test_what_a_middleware_changes_in_place_is_of_one_attempt(go: Any) -> None:
    """The next attempt, the fallback and the store begin with what ``prep`` gave."""
    seen: list[Any] = []

    def system(attempt: Attempt) -> Around:
        attempt.given.insert(0, f"system {attempt.number}")
        return (yield)

    class Ask(Node):
        max_retries = 2

        def prep(self, store: Store[Any]) -> Any:
            return store["messages"]

        def exec(self, messages: list[str]) -> None:
            seen.append(messages)
            raise OSError

        def exec_fallback(self, messages: list[str], error: Exception) -> None:
            seen.append(messages)

    store = go(Flow(Ask()).use(attempt=system), messages=["hello"])
    assert seen == [["system 1", "hello"], ["system 2", "hello"], ["hello"]]
    assert store["messages"] == ["hello"]


def test_a_span_is_closed_however_a_run_ends() -> None:
    """``finally`` of a middleware runs when the visit is cut short."""
    closed: list[str] = []

    class Leave(Node):
        def exec(self, given: None) -> None:
            raise KeyboardInterrupt

    def traced(visit: Visit) -> Around:
        try:
            return (yield)
        finally:
            closed.append(visit.name)

    with pytest.raises(KeyboardInterrupt):
        Flow(Leave()).use(visit=traced).run({})
    assert closed == ["Leave"]


def plain(call: Any) -> Any:
    """No generator."""


async def asynchronous(call: Any) -> Any:
    """A generator that nobody drives."""
    yield


def two(call: Any, more: Any) -> Iterator[None]:
    """Takes two."""
    yield


@pytest.mark.parametrize("wrong", [plain, asynchronous, two, 5])
def test_what_is_no_middleware_is_refused(wrong: Any) -> None:
    """Where it is given."""
    for kind in ("visit", "attempt"):
        with pytest.raises(DefinitionError, match="generator function of one argument"):
            Flow(Node()).use(**{kind: wrong})


def odd(call: Any) -> Around:
    """Yields what nobody can await."""
    yield 5
    return (yield)


@pytest.mark.parametrize("kind", ["visit", "attempt"])
@WAYS
def test_a_middleware_that_yields_what_is_no_coroutine_is_told_so(go: Any, kind: str) -> None:
    """The error names the middleware, what it yielded, and what it may yield."""
    with pytest.raises(RunError, match=r"odd.* or a coroutine to await; it yielded 5"):
        go(Flow(Node()).use(**{kind: odd}))
