"""Copies of flows: shallow ones share the nodes, deep ones have nodes of their own."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import (
    FanOut,
    Flow,
    Node,
    Parallel,
    Store,
    Subflow,
    WorkflowDB,
    bind,
    context,
    fields,
)
from pocoflow.errors import BudgetError


class State(BaseModel):
    items: list[int] = [1, 2]
    item: int = 0
    visits: list[str] = []


S = fields(State)


class Visit(Node[None, None, str]):
    """Notes that it was there, and goes on, or round and round."""

    def __init__(self, name: str, action: str = "default") -> None:
        super().__init__(name=name)
        self.action = action
        self.visited = 0

    def post(self, store: Store[State], prepared: None, result: None) -> str:
        self.visited += 1
        store["visits"] = [*store["visits"], self.name]
        if self.action == "fail":
            raise ValueError("no")
        return self.action


def by_nodes() -> Flow[Any]:
    """Its edges are those of the nodes."""
    first, last = Visit("first"), Visit("last")
    first.then("default", last)
    return Flow(first)


def by_flow() -> Flow[Any]:
    """Its edges, one of them with a limit and one for errors, and a rule are its own."""
    first, middle, last = Visit("first", "again"), Visit("middle", "fail"), Visit("last")
    flow = Flow(first, schema=State)
    flow.then(first.when("again"), first, at_most=2, then=middle)
    flow.then(middle.catch(ValueError), last)
    flow.require(first).before(last)
    return flow


def nested() -> Flow[Any]:
    """One in another."""
    before, inner = Visit("before"), by_flow()
    return Flow(before, schema=State).then(before, inner)


def branches() -> Flow[Any]:
    """Nodes that have others inside."""
    own = Flow(Visit("own"), schema=State)
    links = [bind(S.visits).to(S.visits)]
    apart = Subflow(own, inputs=links, outputs=links)
    fan = FanOut(Node[None, None, str](name="each"), each=S.items, as_=S.item)
    fork = Parallel(Node[None, None, str](name="beside"), name="fork")
    return Flow(apart, schema=State).then(apart, fan).then(fan, fork)


def pickled(flow: Flow[Any]) -> Flow[Any]:
    """As another process gets it."""
    other: Flow[Any] = pickle.loads(pickle.dumps(flow))  # noqa: S301 - made here
    return other


@pytest.mark.parametrize("ran", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("how", [copy, deepcopy, pickled])
@pytest.mark.parametrize("make", [by_nodes, by_flow, nested, branches])
def test_a_copy_runs_as_the_flow_does(
    make: Callable[[], Flow[Any]], how: Callable[[Flow[Any]], Flow[Any]], ran: bool
) -> None:
    """With its edges, limits, rules and nested flows, whether the flow has run before or not."""
    flow = make()
    if ran:
        flow.run({"visits": []})
    other = how(flow)
    shown = flow.graph.to_mermaid()
    assert other.graph.to_mermaid() == shown
    assert other.run({"visits": []})["visits"] == flow.run({"visits": []})["visits"] != []


def test_a_deep_copy_has_nodes_of_its_own() -> None:
    """What a run of one leaves on its nodes is not on those of the other."""
    flow = nested()
    other = deepcopy(flow)
    other.run({})
    counts = [
        [one.node.visited for one in each.graph.nodes.values() if isinstance(one.node, Visit)]
        for each in (flow, other)
    ]
    assert counts[0] == [0] * len(counts[0])
    assert sum(counts[1]) > 0


@pytest.mark.parametrize("how", [copy, deepcopy])
def test_what_is_wired_later_concerns_one_of_them(how: Callable[[Flow[Any]], Flow[Any]]) -> None:
    """Neither the edges nor the hooks of a copy are those of the flow."""
    flow = by_flow()
    other, heard = how(flow), list[str]()
    last = next(one.node for one in other.graph.nodes.values() if one.node.name == "last")
    other.then(last, Visit("more"))
    other.on("node_end", lambda name, action, elapsed, store: heard.append(name))
    assert "more" not in flow.run({})["visits"]
    assert not heard
    assert other.run({})["visits"][-1] == "more"
    assert heard[-1] == "more"


def test_copies_keep_their_runs_in_the_same_place(tmp_path: Path) -> None:
    """Also in one that is in memory, or was opened with settings of its own."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        for place in (":memory:", db):
            flow = Flow(Visit("first"), db_path=place, flow_name="kept")
            flow.run({"visits": []}, run_id="a")
            deepcopy(flow).run({"visits": []}, run_id="b")
            copy(flow).run({"visits": []}, run_id="c")
            assert {row["run_id"] for row in flow.database.list_runs()} == {"a", "b", "c"}


def test_budgets_of_nodes_go_with_the_copies_of_the_nodes() -> None:
    """A node of a deep copy has the budget of the one that it is a copy of."""

    class Pay(Node[None, None, str]):
        def exec(self, prepared: None) -> None:
            context().spend(usd=2)

    pay = Pay()
    pay.then("default", pay)
    other = deepcopy(Flow(pay, node_budgets={pay: {"usd": 1}}, max_steps=5))
    with pytest.raises(BudgetError):
        other.run({})
