"""Journaled calls that are refused, and budgets that count nothing, are found before a run."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from pocoflow import END, Flow, Node, context, node, resource
from pocoflow.check.findings import Finding


def llm(prompt: str) -> str:
    """A call that costs."""
    context().spend(usd=0.1)
    return prompt


def connect(to: str) -> threading.Thread:
    """A call whose result cannot be stored."""
    return threading.Thread(name=to)


def found(flow: Flow, code: str) -> list[Finding]:
    """The findings of a rule."""
    return [one for one in flow.validate() if one.code == code]


# -- calls ----------------------------------------------------------------------------------------


class Wrong(Node):
    """Calls that are refused, a line each."""

    def exec(self, prep_result: object) -> None:
        run = context()
        context().call(lambda: "text")
        run.call(lambda: "text")
        context().calling(timeout=3).call(lambda: "text")
        context().call(connect, "there")
        run.call(partial, llm)
        run.call(repr, threading)
        [context().call(sorted, [1], key=lambda one: -one) for _ in range(1)]


class Right(Node):
    """Calls that are not."""

    def exec(self, prep_result: object) -> None:
        run, other = context(), Phone()
        context().call(llm, "text")
        context().calling(name="text").call(lambda: "text")
        context().calling(name="text").call(lambda: "text")
        run.call(partial(llm, "text"))
        other.call(lambda: "text")
        connect = str
        run.call(connect, "there")


class Phone:
    """Has a method of that name, too."""

    def call(self, whom: object) -> None:
        """Call somebody."""


def test_each_call_that_is_refused_is_found_at_its_line() -> None:
    """A lambda without a name, an argument and a result that cannot be stored."""
    findings = found(Flow(Wrong()), "PF406")
    assert [one.severity for one in findings] == ["warning"] * 7
    lines = sorted(one.line or 0 for one in findings)
    assert lines == list(range(lines[0], lines[0] + 7))
    said = " ".join(one.message for one in findings)
    assert said.count("lambda, which has no name") == 3
    assert "connect, which returns Thread" in said
    assert "it hands llm to a journaled call" in said
    assert "it hands threading to a journaled call" in said


def test_calls_that_are_made_are_not() -> None:
    """Named lambdas, partials, and methods of others that are called so."""
    assert not found(Flow(Right()), "PF406")


# -- budgets --------------------------------------------------------------------------------------


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


@node
def nothing() -> None:
    """Spends nothing."""


@node
def all_of_it() -> None:
    """Spends what nobody sees."""
    context().spend(usd=1)


CLIENT = resource(Client, "client")


@node
def served(client: Client = CLIENT) -> None:
    """Has a resource that may spend."""
    client.ask()


@pytest.mark.parametrize(
    "start", [Ask(), Holds(Client()), Holds(partial(llm, "")), all_of_it, served]
)
def test_a_budget_that_something_may_spend_is_not_found(start: Any) -> None:
    """Directly, in a function that is called, in an object of the node, in a resource."""
    assert not found(Flow(start, budget={"usd": 1}), "PF115")


def test_a_budget_that_nothing_spends_is_found() -> None:
    """By its name, with the one that was probably meant."""
    (one,) = found(Flow(nothing, budget={"usd": 1}), "PF115")
    assert "a budget of 'usd', and nothing in it spends any" in one.message
    (one,) = found(Flow(Ask(), budget={"usdd": 1}), "PF115")
    assert "did you mean 'usd'?" in one.message


def test_an_edge_for_a_budget_that_is_not_there_is_found() -> None:
    """At its line; that of a flow inside of another one may be for a budget around it."""
    ask = Ask()
    flow = Flow(ask, budget={"usd": 1})
    flow.then(ask.when_spent("tokens"), END)
    (one,) = found(flow, "PF115")
    assert "the edge of 'Ask' for 'tokens' is never taken" in one.message
    assert one.line
    inner = Flow(ask)
    inner.then(ask.when_spent("usd"), END)
    assert not found(Flow(inner, budget={"usd": 1}), "PF115")
