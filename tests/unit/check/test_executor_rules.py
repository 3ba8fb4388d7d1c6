"""Which nodes an executor can be given is known before a run."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic import BaseModel

from pocoflow import AskNode, Flow, Node, Parallel, Store, Subflow, context, fields, node, resource
from pocoflow.errors import (
    DefinitionError,
    ExecutorError,
    FlowValidationError,
    NotStorableError,
    ResourceError,
)
from pocoflow.nodes.settings import where_to


class State(BaseModel):
    text: str = ""
    size: int = 0


S = fields(State)


class Client:
    """Cannot be stored."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


bare = resource(Client, "bare")
made = resource(Client, "made", open=Client)


@node(writes=S.size)
def count(text: str) -> int:
    """Can be sent."""
    return len(text)


class Counts(Node):
    def prep(self, store: Store[State]) -> str:
        return store.state.text

    def exec(self, text: str) -> int:
        return len(text)


class Holds(Node):
    def __init__(self, name: str = "Holds") -> None:
        super().__init__(name=name)
        self.lock = threading.Lock()

    def exec(self, _: Any) -> int:
        return 1


class Takes(Node):
    def prep(self, store: Store[State]) -> threading.Event:
        return threading.Event()

    def exec(self, event: threading.Event) -> None:
        event.set()


class Gives(Node):
    def exec(self, _: Any) -> asyncio.Queue[str]:
        return asyncio.Queue()


class MayGive(Node):
    def exec(self, _: Any) -> threading.Event | str:
        return ""


class Uses(Node):
    def exec(self, _: Any) -> None:
        context()[bare]


class UsesMade(Node):
    resources = (made,)

    def exec(self, _: Any) -> None:
        context()[made]


class Asks(AskNode[bool]):
    pass


@node
def with_bare(text: str, client: Client = bare) -> None:
    """Needs what no worker can make."""


@node
def with_made(text: str, client: Client = made) -> None:
    """Needs what each worker can make."""


@node
def of_store(store: Store[State]) -> None:
    """Works in post."""


holds = Holds()
flow_that_holds = Flow(Holds("Held"), flow_name="holds")


def found(first: Any, executor: Any = ThreadPoolExecutor, **settings: Any) -> list[tuple[str, str]]:
    """The findings about a node on an executor, by severity."""
    flow = Flow(first, executor=executor, flow_name="checked", **settings)
    return [(one.severity, one.message) for one in flow.validate() if one.code == "PF407"]


@pytest.mark.parametrize(
    "fine",
    [count, Counts(), holds, flow_that_holds.start, UsesMade(), with_made, of_store, Asks()],
    ids=lambda one: one.name,
)
def test_what_can_be_sent_is_not_told_of(fine: Any) -> None:
    """Functions and nodes of modules, nodes of their flows, classes whose attributes are values."""
    assert found(fine) == []


def local_function() -> Any:
    """A node that no module has."""

    @node(writes=S.size)
    def local(text: str) -> int:
        return 1

    return local


def local_class() -> Any:
    """A node of a class that no module has."""

    class Local(Node):
        def exec(self, _: Any) -> int:
            return 1

    return Local()


@pytest.mark.parametrize(
    ("bad", "said", "severity"),
    [
        (local_function, "local_function.<locals>.local of module", "error"),
        (local_class, "local_class.<locals>.Local of module", "error"),
        (Holds, "whose attribute 'lock' cannot be sent: ", "error"),
        (Takes, "is called with Event: that cannot be sent", "error"),
        (Gives, "returns asyncio.queues.Queue[str]: that cannot be sent", "error"),
        (MayGive, "returns Event: that cannot be sent", "warning"),
        (Uses, "needs <resource 'bare': Client>: no worker opens it", "error"),
        (lambda: with_bare, "needs <resource 'bare': Client>: no worker opens it", "error"),
    ],
)
def test_what_cannot_be_sent_is_told_before_the_run(bad: Any, said: str, severity: str) -> None:
    """Each says why, and an error stops the run; without an executor there is nothing to tell."""
    one = bad()
    ((was, message),) = found(one)
    assert (was, said in message) == (severity, True), message
    if severity == "error":
        with pytest.raises(FlowValidationError, match="PF407"):
            Flow(one, executor=ThreadPoolExecutor).run({"text": ""}, resources={bare: Client()})
    assert found(one, None) == []


@node(writes=S.text)
def name_of(client: Client = made) -> str:
    """Of the class of the client that it gets."""
    return type(client).__name__


class NamesMade(Node):
    resources = (made,)

    def exec(self, _: Any) -> str:
        return type(context()[made]).__name__

    def post(self, store: Store[State], _: Any, name: str) -> None:
        store["text"] = name


class Sends(Node):
    def prep(self, store: Store[Any]) -> Any:
        return threading.Lock()

    def exec(self, lock: Any) -> None:
        pass


class StandIn(Client):
    """Given by a test; nobody opens it."""

    def __enter__(self) -> Self:
        raise AssertionError("opened")


@pytest.mark.parametrize("first", [name_of, NamesMade()], ids=lambda one: one.name)
@pytest.mark.parametrize("branched", [False, True])
def test_a_stand_in_is_used_by_threads_of_this_process(first: Any, branched: bool) -> None:
    """What a run was given is used as it is; without one, each call opens its own."""
    with ThreadPoolExecutor(1) as pool:
        for executor in (pool, lambda: pool):
            inner = Flow(first, schema=State)
            start: Any = Parallel(inner, name="both") if branched else inner
            flow = Flow(start, schema=State, executor=executor)
            assert flow.run(State(), resources={made: StandIn()})["text"] == "StandIn"
            assert flow.run(State())["text"] == "Client"


@pytest.mark.parametrize("first", [name_of, NamesMade()], ids=lambda one: one.name)
def test_a_stand_in_that_cannot_travel_is_refused_before_the_run(first: Any) -> None:
    """Otherwise a test that gives one would call the real service; the advice, followed, helps."""
    with ProcessPoolExecutor(1) as pool:
        flow = Flow(first, schema=State, executor=pool)
        with pytest.raises(ResourceError, match=f"'made': Client.*exec of node {first.name!r}"):
            flow.run(State(), resources={made: StandIn()})


def test_a_stand_in_is_refused_in_a_resume(tmp_path: Path) -> None:
    """As in a new run."""
    with ProcessPoolExecutor(1) as pool:
        flow = Flow(name_of, schema=State, executor=pool, db_path=tmp_path / "runs.db")
        run_id = flow.submit(State())
        with pytest.raises(ResourceError, match="cannot be sent to the executor"):
            flow.resume(run_id, resources={made: StandIn()})


def test_what_a_node_needs_there_is_told_as_its_kind_has_it() -> None:
    """A function has no class to name a key in, and what is named already is not asked for."""

    def fixes(one: Any) -> list[str]:
        flow = Flow(one, executor=ThreadPoolExecutor)
        return [found.fix.partition(", or call")[0] for found in flow.validate()]

    assert fixes(with_bare) == ["give the key open=..."]
    assert fixes(Uses()) == ["give the key open=..., and name it in resources of the node's class"]


def test_what_is_no_value_is_a_resource_that_the_worker_opens() -> None:
    """What is advised can be done where an executor calls exec; a lock is no dataclass."""
    with ThreadPoolExecutor(1) as pool, pytest.raises(NotStorableError) as caught:
        Flow(Sends(), executor=pool).run({})
    assert "is a resource that the worker opens" in str(caught.value)
    assert "dataclass" not in str(caught.value)


def test_a_pool_that_was_shut_down_says_so() -> None:
    """With what to do."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ExecutorError, match="it was shut down: keep it open until the run has"):
        Flow(count, executor=pool).run({"text": ""})


def test_a_flow_of_classic_nodes_is_stopped_for_that_alone() -> None:
    """Nothing else is looked at before it runs, as ever."""
    first = Counts().then("a", local_class()).then("b", Counts(name="Counts"))
    flow = Flow(first, executor=ThreadPoolExecutor, flow_name="classic")
    with pytest.raises(FlowValidationError) as caught:
        flow.run({})
    assert {one.code for one in caught.value.findings} == {"PF407"}


def test_nodes_in_branches_and_subflows_are_looked_at() -> None:
    """The executor of the run is that of all that is in it."""
    assert len(found(Parallel(local_class(), count, name="both"))) == 1
    inner = Flow(local_function(), schema=State, flow_name="inner")
    assert len(found(Subflow(inner))) == 1


def test_the_executor_of_a_node_comes_first() -> None:
    """``"here"`` keeps it in the process of the run, and one of its own needs none of the flow."""

    class Stays(Node):
        executor = "here"

        def exec(self, _: Any) -> threading.Lock:
            return threading.Lock()

    class Goes(Node):
        executor = ThreadPoolExecutor

        def exec(self, _: Any) -> int:
            return 1

    assert found(Stays()) == []
    assert len(found(Goes(), None)) == 1


def test_an_executor_without_effect_is_an_error() -> None:
    """A node that has no work of its own, or works in post, is called nowhere else."""

    class Nothing(Node):
        executor = ThreadPoolExecutor

    assert "no exec that could be called there" in found(Nothing(), None)[0][1]
    with pytest.raises(DefinitionError, match=r"@node\(executor=...\) on .*whole store"):

        @node(executor=ThreadPoolExecutor)
        def whole(store: Store[State]) -> None: ...


def gives() -> Executor:
    """Gives an executor."""
    return ThreadPoolExecutor(1)


@pytest.mark.parametrize("given", [3, "threads", len], ids=str)
def test_what_is_no_executor_is_refused(given: Any) -> None:
    """Where it is written, with what may be given."""
    with pytest.raises(DefinitionError, match=r"Flow\(executor=...\) is .*concurrent.futures"):
        Flow(count, executor=given)

    class Own(Node):
        executor = given

    with pytest.raises(DefinitionError, match=r"Own.executor is .*or 'here'"):
        Own()


def test_a_function_of_a_class_is_called_without_self() -> None:
    """As it is written there."""

    class Own(Node):
        executor = gives

        def exec(self, _: Any) -> int:
            return 1

    own: Node = Own()
    assert where_to(own.executor, None) is gives


def test_only_context_variables_are_carried() -> None:
    """Anything else is refused where it is given."""
    wrong: Any = ["request_id"]
    with pytest.raises(DefinitionError, match=r"carry=...\) takes context variables"):
        Flow(count, carry=wrong)
