"""Nested flows: a flow is a node, its nodes are steps of the run, its last action is its own."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, Store, WorkflowDB, context
from pocoflow.errors import DefinitionError, ResumeError
from pocoflow.node import NodeLike


class Say(Node):
    """Writes its name and path to ``store["log"]`` and returns an action."""

    def __init__(self, name: str, action: str = "default") -> None:
        super().__init__(name=name)
        self.action = action

    def exec(self, prepared: Any) -> str:
        return "/".join((*context().path, context().node))

    def post(self, store: Store[Any], prepared: Any, said: str) -> str:
        store["log"] = [*store.get("log", []), said]
        return self.action


def chain(*nodes: NodeLike[Any]) -> NodeLike[Any]:
    """Wire nodes by the default action; the first one."""
    for before, after in pairwise(nodes):
        before.then("default", after)
    return nodes[0]


def nested(broken: list[str] | None = None) -> Flow:
    """``before``, then a flow of two whose first is a flow of two, then ``after``."""

    class Break(Say):
        def exec(self, prepared: Any) -> str:
            if broken:
                raise RuntimeError(broken[0])
            return super().exec(prepared)

    innermost = Flow(chain(Say("a"), Break("b")), flow_name="innermost")
    inner = Flow(chain(innermost, Say("c")), flow_name="inner")
    return Flow(chain(Say("before"), inner, Say("after")), flow_name="outer")


WHOLE = ["before", "inner/innermost/a", "inner/innermost/b", "inner/c", "after"]


@pytest.mark.parametrize("driver", ["run", "run_async"])
def test_a_nested_flow_runs_in_its_place(driver: str) -> None:
    """Inner nodes run where their flow is wired, on the same store, and know their path."""
    flow = nested()
    store = flow.run({}) if driver == "run" else asyncio.run(flow.run_async({}))
    assert store["log"] == WHOLE


def test_inner_nodes_are_steps_of_the_run(tmp_path: Path) -> None:
    """Steps number all node executions; the database shows each with its path; no step is added."""
    flow = nested()
    flow = Flow(flow.start, flow_name="outer", db_path=tmp_path / "runs.db", run_id="nested")
    flow.run({})
    with WorkflowDB(tmp_path / "runs.db") as db:
        events = [(e["step"], e["node_name"]) for e in db.get_events("nested")]
        checkpoints = [row["node_name"] for row in db.get_checkpoints("nested")]
    assert checkpoints == WHOLE
    assert [pair for pair in events if pair[1]] == [
        (step, name) for step, name in enumerate(WHOLE) for _ in range(2)
    ]


def test_the_last_action_of_a_flow_is_its_action() -> None:
    """The action that ends a nested flow routes in the flow around it."""
    inner = Flow(Say("choose", "left"), flow_name="inner")
    inner.then("left", Say("L")).then("right", Say("R"))
    assert Flow(inner, flow_name="outer").run({})["log"] == ["inner/choose", "L"]


def test_a_flow_runs_on_its_own_and_in_others() -> None:
    """One flow is a node in two flows and still runs by itself."""
    child = Flow(Say("child"), flow_name="shared")
    first = Flow(chain(Say("one"), child), flow_name="first")
    assert first.run({})["log"] == ["one", "shared/child"]
    assert child.run({})["log"] == ["child"]


@pytest.mark.parametrize("driver", ["resume", "resume_async"])
def test_resume_goes_back_into_the_inner_step(driver: str, tmp_path: Path) -> None:
    """A run that failed two flows deep goes on at that node, and its flows go on after it."""
    broken = ["not yet"]
    inner = nested(broken)
    flow = Flow(inner.start, flow_name="outer", db_path=tmp_path / "runs.db", run_id="deep")
    with pytest.raises(RuntimeError, match="not yet"):
        flow.run({})
    with WorkflowDB(tmp_path / "runs.db") as db:
        run = db.get_run("deep")
        assert run is not None
        assert run["current_node"] == "inner/innermost/b"
    broken.clear()
    if driver == "resume":
        store = flow.resume("deep")
    else:
        store = asyncio.run(flow.resume_async("deep"))
    assert store["log"] == WHOLE


def test_resume_refuses_when_a_flow_around_the_step_is_gone(tmp_path: Path) -> None:
    """The message says which flow or node is missing and how to name it now."""
    inner = nested(["broken"])
    flow = Flow(inner.start, flow_name="outer", db_path=tmp_path / "runs.db", run_id="gone")
    with pytest.raises(RuntimeError):
        flow.run({})
    other = Flow(
        chain(Say("before"), Flow(chain(Say("a"), Say("b")), flow_name="inner")),
        flow_name="outer",
        db_path=tmp_path / "runs.db",
    )
    with pytest.raises(ResumeError, match=r"'inner/innermost/b'.*no node 'innermost'"):
        other.resume("gone")


def test_the_recorded_graph_holds_the_inner_nodes(tmp_path: Path) -> None:
    """What a run's flow looked like is on record with its nested nodes and edges."""
    inner = nested()
    Flow(inner.start, flow_name="outer", db_path=tmp_path / "runs.db", run_id="seen").run({})
    with WorkflowDB(tmp_path / "runs.db") as db:
        graph = db.get_graph("seen")
    assert graph is not None
    inside = ["inner", "innermost"]
    assert [*inside, "b"] in [node["path"] for node in graph["nodes"]]
    assert [[*inside, "a"], "default", [*inside, "b"]] in graph["edges"]
    json.dumps(graph)


def test_a_flow_that_contains_itself_is_refused() -> None:
    """A flow inside itself would never end; it is refused when the graph is drawn."""
    start = Say("start")
    flow = Flow(start, flow_name="ouroboros")
    start.then("default", flow)
    with pytest.raises(DefinitionError, match="'ouroboros' contains itself"):
        flow.run({})


def test_max_steps_counts_inner_steps() -> None:
    """The guard against endless loops counts the steps of nested flows."""
    inner = nested()
    with pytest.raises(RuntimeError, match="max_steps=4"):
        Flow(inner.start, max_steps=4).run({})


def test_a_flow_with_phases_of_its_own_is_refused() -> None:
    """A flow whose class defines phases, as one of PocketFlow does, is not built to ignore them."""

    class Batch(Flow):
        def prep(self, store: Store[Any]) -> list[str]:
            return ["a"]

        async def post_async(self, store: Store[Any], prepared: Any, result: Any) -> None:
            store["done"] = True

    with pytest.raises(DefinitionError, match=r"Batch defines prep and post_async, .* FanOut\("):
        Batch(Say("a"))


def test_a_flow_may_be_derived_from() -> None:
    """A class of flows that defines no phase is built and run as any other."""

    class Logged(Flow):
        def __init__(self, start: NodeLike[Any]) -> None:
            super().__init__(start, flow_name="logged")

        def exec_all(self) -> list[str]:
            return list(self.run({})["log"])

    assert Logged(Say("a")).exec_all() == ["a"]
