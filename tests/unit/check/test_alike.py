"""Flows that are wired alike are proved once, and each is refused as if it was the only one."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from pocoflow import END, Flow, Node, Store, fields, key, node
from pocoflow.errors import FlowValidationError, MissingInputError
from tests.unit.check.test_generated import FIELDS, Plan, any_graph, make_node


def wire(nodes: list[Any], plans: list[Plan], **how: Any) -> Flow[Any]:
    """A flow of these nodes, with the edges of the plans."""
    flow = Flow(start=nodes[0], max_steps=1, **how)
    for source, plan in zip(nodes, plans, strict=True):
        for action, target in plan.edges.items():
            flow.then(source.when(action), END if target is None else nodes[target])
    return flow


def refusal(flow: Flow[Any], given: dict[str, Any] | None = None) -> str:
    """What a run is refused with, if it is before its first node."""
    try:
        flow.run({} if given is None else given)
    except (FlowValidationError, MissingInputError) as exc:
        return str(exc)
    except Exception:  # noqa: BLE001 - a run that was begun may fail
        return ""
    return ""


@st.composite
def chains(draw: st.DrawFn) -> list[Plan]:
    """Nodes of which each leads to the next one, in which hardly anything is wrong."""
    plans = draw(any_graph())
    for number, plan in enumerate(plans):
        first = next(iter(plan.edges), "default")
        plan.edges[first] = number + 1 if number + 1 < len(plans) else None
    return plans


@given(chains(), st.data())
def test_a_flow_is_refused_as_if_no_other_had_been_proved(
    plans: list[Plan], data: st.DataObject
) -> None:
    """What was proved of a flow is taken for none that differs in its edges, start or inputs."""
    nodes = [make_node(plan) for plan in plans]
    anywhere = st.one_of(st.none(), st.integers(0, len(nodes) - 1))
    others = [
        Plan(one.name, one.reads, one.writes, {action: data.draw(anywhere) for action in one.edges})
        for one in plans
    ]
    turn = data.draw(st.integers(0, len(nodes) - 1))
    lone = [Plan(one.name) for one in plans]
    few = data.draw(st.lists(st.sampled_from(FIELDS), unique=True))
    for those, wiring, inputs in (
        (nodes, plans, FIELDS),
        (nodes, others, FIELDS),
        (nodes, plans, few),
        (nodes, plans, FIELDS),
        (nodes, lone, FIELDS),
        (nodes[turn:], lone[turn:], FIELDS),
    ):
        given = dict.fromkeys(FIELDS, 0)
        how = {"inputs": tuple(key(one) for one in inputs)}
        alone = refusal(wire(those, wiring, ignore=("PF111",), **how), given)
        assert refusal(wire(those, wiring, **how), given) == alone


class Document(BaseModel):
    text: str
    words: int = 0


D = fields(Document)


class Read(Node[Any, Any, Any]):
    """A node that reads what it is made for."""

    def __init__(self, field: str = "text") -> None:
        super().__init__()
        self.field = field

    def prep(self, store: Store[Document]) -> Any:
        return store[self.field]

    def exec(self, prep_result: Any) -> int:
        return len(prep_result)


@node(writes=D.words)
def count(text: str) -> int:
    """A function of a module, as in a program."""
    return len(text)


@node
def wants(missing: int) -> Literal["on"]:
    """A node that has no input in any schema here."""
    return "on"


class Texts(BaseModel):
    texts: list[str]
    lengths: list[int]


T = fields(Texts)


def length(text: str) -> int:
    """How long it is."""
    return len(text)


WORDS = "words"


@node
def stores(store: Store[Document]) -> None:
    """A function that names a field by a constant."""
    store[WORDS] = 1


def read_then_count(**settings: Any) -> Flow[Any]:
    """A flow that is made anew, of a class and a function."""
    flow = Flow(start=Read(**settings), schema=Document)
    return flow.then(flow.start, count)


def test_what_a_node_has_of_its_own_is_looked_at() -> None:
    """Nodes of one class are told apart by the keys that they were made with."""
    assert refusal(read_then_count(), {"text": "a"}) == ""
    assert "'txt'" in refusal(read_then_count(field="txt"), {"text": "a"})
    assert refusal(read_then_count(), {"text": "a"}) == ""
    assert "'text'" in refusal(read_then_count(), {})


def test_a_phase_that_is_set_anew_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow that is made after a method of a class was replaced is proved with the new one."""
    assert refusal(read_then_count(), {"text": "a"}) == ""

    def prep(self: Any, store: Store[Document]) -> Any:
        return store["txet"]

    monkeypatch.setattr(Read, "prep", prep)
    assert "'txet'" in refusal(read_then_count(), {"text": "a"})


def test_a_constant_that_is_set_anew_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow that is made after a constant of its module was set anew is proved with that."""

    def make() -> Flow[Any]:
        flow = Flow(start=stores, schema=Document)
        return flow.then(stores, END)

    assert refusal(make(), {"text": "a"}) == ""
    monkeypatch.setitem(globals(), "WORDS", "wrods")
    assert "'wrods'" in refusal(make(), {"text": "a"})


def test_a_setting_of_a_node_is_looked_at() -> None:
    """What a batch does with items that fail is part of what is proved of it."""
    each = node(each=T.texts, writes=T.lengths)(length)
    found = []
    for on_error in ("stop", "collect", "stop"):
        vars(each)["on_error"] = on_error
        flow = Flow(start=each, schema=Texts)
        flow.then(each, END)
        found.append("PF203" in refusal(flow, {"texts": ["a"], "lengths": [0]}))
    assert found == [False, True, False]


@pytest.mark.parametrize(
    ("change", "given"),
    [
        ({"schema": Document}, {"text": "a"}),
        ({"inputs": (D.words,)}, {"missing": 1}),
        ({"outputs": (D.words,)}, {"missing": 1}),
    ],
)
def test_what_the_flow_says_is_part_of_it(change: dict[str, Any], given: dict[str, Any]) -> None:
    """Schema, inputs and outputs make another flow of the same wiring."""

    def make(**how: Any) -> Flow[Any]:
        flow = Flow(start=wants, **how)
        return flow.then(wants.when("on"), END)

    assert refusal(make(), {"missing": 1}) == ""
    alone = refusal(make(ignore=("PF111",), **change), given)
    assert refusal(make(**change), given) == alone != ""


@dataclass(frozen=True)
class Alike:
    """A phase that is equal to others of its class."""

    def __call__(self, *given: Any) -> None:
        """Do nothing."""


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
def test_a_phase_that_is_an_object_is_proved_by_itself(phase: str) -> None:
    """Any object that can be called may be a phase."""
    for _ in range(2):
        kind = type("Odd", (Node,), {phase: Alike()})
        flow = Flow(start=kind(), schema=Document)
        flow.then(flow.start, count)
        assert refusal(flow, {"text": "a"}) == ""
        assert flow.validate() == []


def test_no_node_is_kept() -> None:
    """What is kept of a proof does not hold the nodes of its flow."""
    flow = read_then_count()
    assert refusal(flow, {"text": "a"}) == ""
    left = weakref.ref(flow.start)
    del flow
    gc.collect()
    assert left() is None


def test_a_silenced_error_is_silenced_for_its_line_alone() -> None:
    """A flow whose error is silenced does not let one through where nobody silenced it."""

    def silenced() -> Flow[Any]:
        flow = Flow(start=wants, schema=Document, ignore=("PF201",))
        return flow.then(wants.when("on"), END)

    def plain() -> Flow[Any]:
        flow = Flow(start=wants, schema=Document)
        return flow.then(wants.when("on"), END)

    makers: list[Callable[[], Flow[Any]]] = [silenced, plain, silenced, plain]
    assert ["PF201" in refusal(make(), {}) for make in makers] == [False, True, False, True]
