"""Budgets that count nothing, and edges for budgets that there are not, are found before a run."""

from __future__ import annotations

from decimal import Decimal
from functools import cache, cached_property, partial
from importlib import import_module
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import END, Flow, Node, Subflow, context, node, resource
from pocoflow.check.findings import Finding
from pocoflow.errors import BudgetError, FlowValidationError


def llm(prompt: str) -> str:
    """A call that costs."""
    context().spend(usd=0.1)
    return prompt


def found(flow: Flow) -> list[Finding]:
    """The findings of the rule."""
    return [one for one in flow.validate() if one.code == "PF115"]


class Ask(Node):
    """Calls a function that spends."""

    def exec(self, prep_result: object) -> str:
        return context().call(llm, "text")


class Holds(Node):
    """Has an object that may spend."""

    def __init__(self, client: Any) -> None:
        super().__init__()
        self.client = client

    def exec(self, prep_result: object) -> Any:
        return self.client.ask()


class Client:
    """Spends."""

    def ask(self) -> None:
        """Ask something."""
        context().spend(usd=1)


class Slotted:
    """Spends, and has nothing in it."""

    __slots__ = ()

    def ask(self) -> None:
        """Ask something."""
        context().spend(usd=1)


def has(member: Any) -> Any:
    """A node whose class has something of that name."""
    names = {"member": member, "exec": lambda self, _: self.member}
    return type("Has", (Node,), names)()


def answered(prompt: str, call: Any = [llm][0]) -> None:
    """Calls its default."""
    call(prompt)


LLMS = {"small": llm}


@node
def from_a_table() -> None:
    """Finds who spends in a table."""
    LLMS["small"]("text")


@node
def nothing() -> None:
    """Spends nothing."""


@node
def all_of_it() -> None:
    """Spends what nobody sees."""
    context().spend(usd=1)


@node
def imported_late() -> None:
    """Imports what may spend when it is called."""
    from tests.unit import clocks

    print(clocks)


@node
def imported_by_name() -> None:
    """Imports what may spend, whichever it is."""
    print(import_module("tests.unit.clocks"))


CLIENT = resource(Client, "client")


@node
def served(client: Client = CLIENT) -> None:
    """Has a resource that may spend."""
    client.ask()


@pytest.mark.parametrize(
    "start",
    [
        Ask(),
        Holds(Client()),
        Holds(partial(llm, "")),
        all_of_it,
        imported_late,
        imported_by_name,
        served,
    ],
)
def test_a_budget_that_something_may_spend_is_not_found(start: Any) -> None:
    """Directly, in a function that is called, in an object of the node, in a resource."""
    assert not found(Flow(start, budget={"usd": 1}))


def test_a_budget_that_nothing_spends_is_logged_before_a_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also of a flow of which nothing else is looked at."""
    Flow(Ask(), budget={"eur": 1}).run({})
    assert "PF115: flow 'Ask': there is a budget of 'eur', and nothing in the flow" in caplog.text


WAYS = {
    "a table": from_a_table,
    "a list of the node": Holds([llm]),
    "an argument of a partial": Holds(partial(map, func=llm)),
    "an object without attributes": Holds(Slotted()),
    "a default": has(answered),
    "a property": has(property(lambda self: llm(self.name))),
    "a cached property": has(cached_property(lambda self: llm(self.name))),
    "a class method": has(classmethod(lambda cls: llm(cls.__name__))),
    "a static method": has(staticmethod(llm)),
    "a function that is cached": has(cache(llm)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_function_that_spends_is_seen_wherever_it_is(way: str) -> None:
    """In collections, in what wraps functions, and in what belongs to a class."""
    assert not found(Flow(WAYS[way], budget={"usd": 1}))


def test_what_a_subflow_spends_counts() -> None:
    """It has a store of its own, and no account."""
    inner = Subflow(Flow(all_of_it))
    flow = Flow(inner, budget={"usd": 0.5}).then(inner, nothing)
    assert not found(flow)
    with pytest.raises(BudgetError):
        flow.run()


class Note(BaseModel):
    """A model, of whose library nothing spends."""

    text: str = ""


@node
def notes() -> None:
    """Makes a model."""
    Note()


def test_what_models_are_made_of_spends_nothing() -> None:
    """A flow that names a model is looked at to its end."""
    assert found(Flow(notes, budget={"usd": 1}))


def test_a_budget_that_nothing_spends_is_found() -> None:
    """By its name, with the one that was probably meant."""
    (one,) = found(Flow(nothing, budget={"usd": 1}))
    assert "a budget of 'usd', and nothing in the flow spends any" in one.message
    (one,) = found(Flow(Ask(), budget={"usdd": 1}))
    assert "did you mean 'usd'?" in one.message


def test_an_edge_for_a_budget_that_is_not_there_is_found() -> None:
    """At its line; that of a flow inside of another one may be for a budget around it."""
    ask = Ask()
    flow = Flow(ask, budget={"usd": 1})
    flow.then(ask.when_spent("tokens"), END)
    (one,) = found(flow)
    assert "the edge of 'Ask' for 'tokens' is never taken" in one.message
    assert one.line
    inner = Flow(ask)
    inner.then(ask.when_spent("usd"), END)
    assert not found(Flow(inner, budget={"usd": 1}))


def test_an_edge_for_a_budget_is_named_as_others_are() -> None:
    """With the flows around its node, and where it leads, whatever its limit is."""
    ask = Ask()
    inner = Flow(ask, flow_name="inner")
    inner.then(ask.when_spent("tokens"), nothing, at_most=2, then=END)
    (one,) = found(Flow(inner, budget={"usd": 1}))
    assert one.node == "inner/Ask"
    assert one.edge == ("Ask", "spent tokens", "nothing")


def test_a_budget_of_a_node_that_is_not_in_the_flow_stops_the_run() -> None:
    """Also one that is set after a run; nested flows and branches are looked into."""
    ask, other = Ask(), Ask(name="other")
    flow = Flow(Subflow(Flow(ask)), node_budgets={ask: {"usd": 1}})
    flow.run()
    flow.node_budgets = {other: {"usd": Decimal(1)}}
    (one,) = found(flow)
    assert one.severity == "error"
    assert "node_budgets= has one of node 'other', which is not in the flow" in one.message
    with pytest.raises(FlowValidationError, match="node 'other', which is not in the flow"):
        flow.run()
