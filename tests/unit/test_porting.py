"""What a program written for PocketFlow, or in a hurry, is told."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import AsyncMock, MagicMock, patch

import pytest

from pocoflow import AsyncNode, BatchNode, FanOut, Flow, Node, Parallel, context, key
from pocoflow.errors import DefinitionError


class Do(Node):
    """A node."""


class Keeps(Do):
    """Keeps what ``exec`` returns."""

    def post(self, store: Any, prep_result: Any, exec_result: Any) -> None:
        """Keep it."""
        store["kept"] = exec_result


# -- phases that are never called ---------------------------------------------------------------


async def work(self: Any, given: Any = None) -> Any:
    """Stands for any phase."""
    return given


@pytest.mark.parametrize(
    ("base", "name", "advice"),
    [
        (Node, "prep_async", "write 'async def prep'"),
        (Node, "exec_async", "write 'async def exec'"),
        (Node, "post_async", "write 'async def post'"),
        (Node, "exec_fallback_async", "write 'async def exec_fallback'"),
        (BatchNode, "exec_async", "write 'async def exec'"),
        (AsyncNode, "prep_async", "write 'async def prep'"),
        (AsyncNode, "post_async", "write 'async def post'"),
    ],
)
def test_a_phase_that_is_never_called_is_refused(base: Any, name: str, advice: str) -> None:
    """Building such a node fails, with the place of the phase and what to write."""
    kind = type("Wrong", (base,), {name: work})
    line = work.__code__.co_firstlineno
    with pytest.raises(DefinitionError) as caught:
        kind()
    text = str(caught.value)
    assert text.startswith(f"Wrong.{name} ({__file__}:{line}) is never called: {advice}")


def test_exec_async_of_an_async_node_is_called() -> None:
    """It is the documented name."""
    kind: Any = type("Right", (AsyncNode,), {"exec_async": work})
    assert Flow(start=kind()).run() == {}


def test_a_phase_that_the_class_calls_itself_is_left_alone() -> None:
    """A method of that name may be a helper, or stand beside the phase that is called."""

    class Helper(Node):
        async def exec_async(self, given: Any) -> int:
            return 2

        def exec(self, given: Any) -> int:
            return asyncio.run(self.exec_async(given))

        def post(self, store: Any, prep: Any, result: int) -> None:
            store["result"] = result

    class Called(Node):
        async def prep_async(self, given: Any) -> None:
            """Called by exec."""

        def exec(self, given: Any) -> Any:
            return asyncio.run(getattr(self, "prep_async")(given))  # noqa: B009

    class Beside(Node):
        prep_async = work

        def prep(self, store: Any) -> None:
            """Called by a flow."""

    assert Flow(start=Helper()).run() == {"result": 2}
    for kind in (Called, Beside):
        Flow(start=kind()).run()


def test_a_base_class_may_leave_the_phase_to_others() -> None:
    """What counts is the class that a node is made of."""

    class Base(Node):
        exec_async = work

    class Whole(Base):
        def prep(self, store: Any) -> int:
            return 2

        async def exec(self, given: Any) -> Any:
            return await self.exec_async(given)

        def post(self, store: Any, given: Any, result: Any) -> None:
            store["result"] = result

    assert Flow(start=Whole()).run() == {"result": 2}


# -- attributes of PocketFlow -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("next", "node.then('default', target)"),
        ("add_successor", "node.then('default', target)"),
        ("successors", "node.edges"),
        ("params", "put the values into the store"),
        ("set_params", "put the values into the store"),
        ("run", "Flow(start=node).run(store)"),
        ("run_async", "Flow(start=node).run_async(store)"),
        ("cur_retry", "pocoflow.context().attempt counts"),
        ("start_node", "flow.graph.start.node"),
    ],
)
def test_an_attribute_of_pocketflow_says_what_it_is_here(name: str, advice: str) -> None:
    """It is an AttributeError with advice, so ``hasattr`` says no."""
    with pytest.raises(AttributeError) as caught:
        getattr(Do(), name)
    assert f"Do.{name} is PocketFlow's: " in str(caught.value)
    assert advice in str(caught.value)
    assert not hasattr(Do, name)
    assert not hasattr(Do(), name)


def test_a_program_for_pocketflow_is_not_tried_again() -> None:
    """What the code has to be changed for is the same in another attempt."""
    attempts = []

    class Ask(Node):
        max_retries = 3

        def exec(self, prep_result: Any) -> Any:
            attempts.append(1)
            return self.cur_retry  # type: ignore[attr-defined]

    with pytest.raises(DefinitionError, match=r"Ask\.cur_retry is PocketFlow's"):
        Flow(Ask()).run({})
    assert attempts == [1]


def test_the_attempt_in_exec_is_told_where_it_is() -> None:
    """``self.cur_retry`` fails the attempt, with the advice; ``context().attempt`` works."""

    class Old(Node):
        def exec(self, given: Any) -> Any:
            return self.cur_retry  # type: ignore[attr-defined]

    class New(Node):
        def exec(self, given: Any) -> int:
            return context().attempt

    with pytest.raises(AttributeError, match=r"context\(\)\.attempt counts the attempts, from 1"):
        Flow(start=Old()).run()
    Flow(start=New()).run()


def test_a_node_may_have_attributes_of_these_names() -> None:
    """Set on a node, defined by a subclass, a mixin or a dataclass, they are what they are."""

    class Runs:
        params = ("mixed in",)

        @property
        def successors(self) -> str:
            return "property"

        @classmethod
        def run(cls) -> str:
            return cls.__name__

    class Mixed(Node, Runs):
        def __init__(self) -> None:
            super().__init__()
            self.cur_retry = 3

        def next(self) -> int:
            return 5

    @dataclass
    class Data(Node):
        params: dict[str, int] = field(default_factory=dict)
        run: Any = None

    node: Any = Mixed()
    assert (node.params, node.successors, node.run()) == (("mixed in",), "property", "Mixed")
    assert (Mixed.params, Mixed.run(), node.cur_retry, node.next()) == (
        ("mixed in",),
        "Mixed",
        3,
        5,
    )
    node.params = 4
    assert node.params == 4
    assert (Data().params, Data(run=1).run) == ({}, 1)
    with pytest.raises(TypeError):
        Data(unknown=1)  # type: ignore[call-arg]


# -- arguments ----------------------------------------------------------------------------------


def test_settings_as_arguments_are_shown_as_class_attributes() -> None:
    """PocketFlow's ``Node(max_retries=3, wait=1)``, and the same in ``super().__init__``."""

    class Own(Node):
        def __init__(self) -> None:
            initial: Any = super().__init__
            initial(3, 1)

    any_kind: Any = Do
    with pytest.raises(TypeError) as caught:
        any_kind(max_retries=3, wait=1)
    assert str(caught.value) == (
        "Do(...) takes no argument but name=; wait is called retry_delay; settings are class "
        "attributes: max_retries = 3; retry_delay = 1"
    )
    with pytest.raises(TypeError) as caught:
        Own()
    assert str(caught.value) == (
        "Own(...) takes no argument but name=; wait is called retry_delay; settings are class "
        "attributes: max_retries = 3; retry_delay = 1; in an __init__: super().__init__(), then "
        "self.max_retries = ..."
    )
    with pytest.raises(TypeError, match=r"retries is called max_retries; .*: max_retries = 3$"):
        any_kind(retries=3)
    with pytest.raises(TypeError, match=r"not nmae; did you mean 'name'\?"):
        any_kind(nmae="a")
    with pytest.raises(TypeError, match=r"class A\(...\) takes bases alone; .* max_retries = 3$"):

        class A(Node, max_retries=3):
            """Its setting is an argument of the class."""

    with pytest.raises(TypeError, match=r"takes no argument but name=, not colour$"):
        any_kind(colour=3)
    assert Do(name="other").name == "other"
    assert list(inspect.signature(Do.__init__).parameters) == ["self", "name"]


@pytest.mark.parametrize("given", [(Do(),), (), (Do(), Do(), Do())])
def test_then_says_what_it_takes(given: tuple[Any, ...]) -> None:
    """With another number of arguments, of a node and of a flow."""
    node: Any = Do()
    flow: Any = Flow(start=node)
    for one, kind in ((node, "node"), (flow, "flow")):
        with pytest.raises(TypeError, match=rf"^{kind}\.then takes two arguments, by position: "):
            one.then(*given)
    with pytest.raises(TypeError, match=r"node.then\('default', target\)"):
        node.then("default", target=Do())


# -- what is no node ----------------------------------------------------------------------------


def plain() -> None:
    """No node."""


class PocketNode:
    """Stands for a class of PocketFlow."""

    __module__ = "pocketflow"


class Derived(PocketNode):
    """A node of a program."""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (plain, "not the function plain: write @node above it"),
        (functools.partial(plain), "not functools.partial(<function plain>)"),
        (lambda: None, "not a lambda: define a function with def, and write @node above it"),
        (Do, r"not the class Do: pass an instance, with ()"),
        (Derived(), "not Derived, which is a PocketFlow node; derive it from pocoflow.Node"),
        (object(), "not <object object>"),
        ("grade", "not 'grade'"),
    ],
)
def test_what_is_no_node_is_called_by_its_name(given: Any, told: str) -> None:
    """As a target, a source, a start and a branch; no message has an address in memory."""
    node = Do()
    flow = Flow(start=node)
    uses: list[Callable[[], object]] = [
        lambda: node.then("default", given),
        lambda: flow.then(node, given),
        lambda: Flow(start=given),
        lambda: Parallel(node, given),
        lambda: FanOut(given, each=key("items"), as_=key("item")),
        *([] if isinstance(given, str) else [lambda: flow.then(given, node)]),
    ]
    for use in uses:
        with pytest.raises(DefinitionError) as caught:
            use()
        assert str(caught.value).endswith(told)
        assert "0x" not in str(caught.value)


@dataclass
class Adds:
    """Can be called, and has no hash."""

    n: int

    def __call__(self, *given: Any) -> None:
        """Any phase."""


@pytest.mark.parametrize("phase", ["prep", "exec", "post", "exec_fallback"])
@pytest.mark.parametrize("schema", [None, {"n": int}], ids=["untyped", "typed"])
def test_a_phase_may_be_an_object_without_a_hash(phase: str, schema: Any) -> None:
    """It runs, and is proved, as a function is."""
    kind: Any = type("Calls", (Node,), {phase: Adds(1)})
    flow = Flow(start=kind(), schema=schema)
    assert flow.run({"n": 1}) == {"n": 1}
    assert [one.code for one in flow.validate()] == (["PF208"] if phase == "exec_fallback" else [])


@pytest.mark.parametrize("mock", [MagicMock, AsyncMock])
def test_a_phase_of_a_class_may_be_a_mock(mock: Any) -> None:
    """As a test of a flow replaces what is paid for, whether it is awaited or not."""
    with patch.object(Do, "exec", mock(return_value="from the mock")):
        assert Flow(Keeps()).run({}) == {"kept": "from the mock"}


# -- names of PocketFlow ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("BatchFlow", "FanOut(flow, each="),
        ("AsyncFlow", "Flow, which has run_async"),
        ("AsyncParallelBatchNode", "BatchNode, whose exec may be async def"),
    ],
)
def test_an_import_of_a_class_of_pocketflow_says_what_it_is_here(name: str, advice: str) -> None:
    """The first line of a program that is moved over."""
    with pytest.raises(ImportError, match=rf"{name} is PocketFlow's: here it is") as caught:
        exec(f"from pocoflow import {name}")  # noqa: S102
    assert advice in str(caught.value)


def test_calls_of_pocketflow_say_what_they_are_here() -> None:
    """A flow without a start, and the store by its name there."""
    make: Any = Flow
    with pytest.raises(TypeError, match=r"made with its first node: Flow\(start=node\)"):
        make()
    with pytest.raises(
        TypeError, match=r"'shared'; the store is the first argument.*run\(shared\)"
    ):
        make(Do()).run(shared={})
