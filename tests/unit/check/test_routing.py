"""Where a run goes at the end of a nested flow: one answer for the proof, the graph and the run."""

import random
from collections import Counter
from typing import Any, Literal, cast

import pytest
from pydantic import BaseModel

from pocoflow import END, Flow, Node, Subflow, bind, fields, node
from pocoflow.errors import MaxStepsError, UnhandledActionError
from pocoflow.node import NodeLike


class S(BaseModel):
    """The store of every flow here."""

    n: int = 0
    first: str
    second: str


F = fields(S)


# Without annotations, so that there is nothing to prove, and every flow runs.
Says: Any = type("Says", (Node,), {"post": lambda self, store, prep, result: self.says})


def saying(name: str, action: str) -> Node[Any, Any, Any]:
    """A node that returns an action; its class does not tell which."""
    made = Says(name=name)
    made.says = action
    return cast("Node[Any, Any, Any]", made)


@node
def a(n: int) -> Literal["x"]:
    """Never returns another action."""
    return "x"


@node
def b(n: int) -> Literal["z"]:
    """Only an edge that is never taken leads here."""
    return "z"


def never_z() -> Flow[S]:
    """A flow with an edge that nobody takes."""
    flow = Flow(start=a, schema=S, flow_name="inner")
    flow.then(a.when("x"), END)
    return flow.then(a.when("y"), b)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


def test_an_edge_that_is_never_taken_makes_no_final_action() -> None:
    """Nested, on a store of its own and in the graph: the same single mistake."""
    inner = never_z()
    assert inner.graph.final_actions() == ("x",)
    for part in (inner, Subflow(inner, inputs=[bind(F.n).to(F.n)])):
        outer: Flow[S] = Flow(start=part, schema=S)
        outer.then(part.when("x"), END)
        assert [one.code for one in outer.validate()] == ["PF102"]


def generated(seed: int) -> Flow[Any]:
    """A flow of nodes in flows, three deep, with random edges."""
    chance = random.Random(seed)
    actions = ("p", "q", "r")

    def made(depth: int, name: str) -> NodeLike[Any]:
        if depth and chance.random() < 0.6:
            return level(depth - 1, name)
        return saying(name, chance.choice(actions))

    def level(depth: int, name: str) -> Flow[Any]:
        nodes = [made(depth, f"{name}{number}") for number in range(chance.randint(1, 3))]
        for one in nodes:
            for action in chance.sample((*actions, "*"), chance.randint(0, 3)):
                target: Any = chance.choice([*nodes, END])
                one.then(action, target)
        return Flow(nodes[0], flow_name=name, max_steps=30)

    return level(3, "f")


def told_by_calls(part: Any, trace: list[str]) -> str:
    """What a flow is: a call for each flow in it, that gives the action which ends it."""
    if isinstance(part, Says):
        trace.append(part.name)
        if len(trace) > 30:
            raise RecursionError
        return str(part.says)
    place = part.start
    while True:
        action = told_by_calls(place, trace)
        edge = place.edges.get(action) or place.edges.get("*")
        if edge is None or edge.target is END:
            return action
        place = edge.target


@pytest.mark.parametrize("seed", range(150))
def test_a_run_goes_through_nested_flows_as_calls_would(seed: int) -> None:
    """The steps of a run are those of a function that calls itself for each flow."""
    flow = generated(seed)
    seen: list[str] = []
    flow.on("node_start", lambda name, store: seen.append(name))
    expected: list[str] = []
    try:
        told_by_calls(flow, expected)
    except RecursionError:
        with pytest.raises(MaxStepsError):
            flow.run({})
    else:
        flow.run({})
    assert seen == expected[:30]


def test_what_ends_a_flow_without_an_edge_is_said_of_the_node_that_returned_it() -> None:
    """The inner node is named, also where none of the flows around it has an edge."""
    inner_node = saying("inner node", "lost")
    inner_node.then("found", END)
    inner: Flow[Any] = Flow(inner_node, flow_name="inner")
    inner.then("found", END)
    outer: Flow[Any] = Flow(inner, strict=True)
    with pytest.raises(UnhandledActionError, match="node 'inner node' returned action 'lost'"):
        outer.run({})


@pytest.mark.parametrize("form", ["nested", "in a subflow", "set later"])
def test_a_strict_flow_is_strict_inside_of_another(form: str) -> None:
    """An action without an edge in it is an error, also where the flow around has one for it."""
    start = saying("inner node", "lost")
    start.then("found", END)
    inner: Flow[Any] = Flow(start, flow_name="inner", strict=form != "set later")
    inner.strict = True
    within: Any = Subflow(inner) if form == "in a subflow" else inner
    outer: Flow[Any] = Flow(within).then(within.when("lost"), saying("after", "default"))
    with pytest.raises(UnhandledActionError, match="node 'inner node' returned action 'lost'"):
        outer.run({})


@pytest.mark.parametrize(("action", "said"), [("*", True), ("lost", False)])
def test_where_a_run_goes_without_an_edge_is_said(
    caplog: pytest.LogCaptureFixture, action: str, said: bool
) -> None:
    """Where the flow around has one for any action, the run does not end; one for it is meant."""
    start = saying("inner node", "lost")
    start.then("found", END)
    inner: Flow[Any] = Flow(start, flow_name="inner")
    Flow(inner).then(inner.when(action), saying("after", "default")).run({})
    assert ("action 'lost', which has no edge; 'after' comes next" in caplog.text) is said


def test_where_the_branch_of_a_run_ends_without_an_edge_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run itself goes on."""
    start = saying("inner node", "lost")
    start.then("found", END)
    Flow(Subflow(Flow(start, flow_name="inner"))).run({})
    assert "action 'lost', which has no edge; the branch ends here" in caplog.text


@node
def go(n: int) -> Literal["again", "out"]:
    """Leaves its flow, or not."""
    return "out"


@node
def after() -> None:
    """Comes behind it."""


def leaving(action: str, **options: Any) -> Flow[Any]:
    """A flow around one that is left by an action without an edge in it."""
    inner = Flow(go, flow_name="inner").then(go.when("again"), go)
    middle = Flow(inner, flow_name="middle")
    part: Any = Subflow(middle, inputs=[bind(F.n).to(F.n)]) if options.pop("apart", 0) else middle
    outer: Flow[Any] = Flow(part, schema=S, **options)
    return outer.then(part.when(action), after).then(part.when("nobody"), END)


def test_an_action_that_leaves_a_nested_flow_needs_an_edge_in_a_flow_around() -> None:
    """It is no mistake that the flow inside has none, unless one of them is strict."""
    for apart in (False, True):
        found = leaving("out", apart=apart).validate()
        assert [(one.code, "nobody" in one.message) for one in found] == [("PF102", True)]
        for flow in (leaving("*", apart=apart), leaving("out", apart=apart, strict=True)):
            assert "PF103" in [one.code for one in flow.validate()]
    seen: list[str] = []
    flow = leaving("out", ignore=("PF102",))
    flow.on("node_start", lambda name, store: seen.append(name))
    flow.run({"n": 1})
    assert seen == ["go", "after"]


def test_an_action_without_an_edge_is_reported_where_one_flow_around_has_none() -> None:
    """A flow that two others nest needs its edge in both."""
    inner = Flow(go, flow_name="inner").then(go.when("again"), go)
    second = Flow(inner, flow_name="second")
    flow = Flow(inner, schema=S).then(inner.when("out"), second)
    assert [one.node for one in flow.validate() if one.code == "PF103"] == ["inner/go"]
    flow.then(second.when("out"), END)
    assert not flow.validate()


@node(writes=F.first)
def one(n: int) -> str:
    """Writes."""
    return "1"


@node(writes=F.second)
def two(first: str) -> str:
    """Reads and writes."""
    return first


@node
def choose(n: int) -> Literal["x", "y"]:
    """Decides."""
    return "x" if n else "y"


@node
def show(first: str, second: str) -> None:
    """Reads."""


PARTS = (one, two, choose, show)


def wired(seed: int) -> Flow[S]:
    """A flow of the nodes above with random edges, good and bad."""
    chance = random.Random(seed)
    flow: Flow[S] = Flow(chance.choice(PARTS), schema=S, flow_name="inner", inputs=(F.n,))
    for part in PARTS:
        for action in chance.sample(("default", "x", "y", "z"), chance.randint(0, 2)):
            source: Any = part
            flow.then(source.when(action), chance.choice((*PARTS, END)))
    return flow


@pytest.mark.parametrize("seed", range(150))
def test_a_nested_flow_and_a_subflow_are_judged_alike(seed: int) -> None:
    """The same findings on what is inside, whether it works on its own store or another's."""
    inner = wired(seed)
    nested: Flow[S] = Flow(inner, schema=S, inputs=(F.n,))
    apart: Flow[S] = Flow(Subflow(inner, inputs=[bind(F.n).to(F.n)]), schema=S, inputs=(F.n,))
    assert told(nested) == told(apart)


def told(flow: Flow[S]) -> Counter[tuple[str, str, str | None, int | None]]:
    """The findings, without the names of the flows around."""
    return Counter(
        (it.code, it.severity, it.file, it.line) for it in flow.validate() if it.code != "PF304"
    )


def test_the_advice_to_an_edge_names_an_action_that_there_is() -> None:
    """To lead to a node that nobody reaches, and of a flow that comes to no end."""
    flow: Flow[S] = Flow(a, schema=S, flow_name="inner").then(a.when("x"), a)
    flow.then(b.when("z"), END)
    fixes = {one.code: one.fix for one in flow.validate()}
    assert "such as flow.then(a.when('x'), b)" in fixes["PF101"]
    outer: Flow[S] = Flow(flow, schema=S, flow_name="outer").then(flow, END)
    (found,) = [one for one in outer.validate() if one.code == "PF102"]
    assert "which 'inner' never returns as it comes to no end" in found.message
    assert found.fix == "let it come to an end, or take the edge out"
