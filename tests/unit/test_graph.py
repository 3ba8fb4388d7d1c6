"""The graph of a flow: nodes, edges of nodes and of flows, and pictures of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import currentframe
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, Literal, cast

import pytest
from hypothesis import given, strategies as st
from typing_extensions import TypeVar

from pocoflow import END, AsyncNode, Flow, Node, Parallel, Store, key, node
from pocoflow.errors import DefinitionError, UnhandledActionError
from pocoflow.graph.graph import Graph, Vertex, label
from pocoflow.graph.listed_edges import Conflict, GraphEdge
from pocoflow.middleware import Around, Visit
from pocoflow.nodes.annotations import type_arguments
from pocoflow.nodes.edges import Outlet


class Step(Node):
    """Goes where the store's ``go`` says, in turn, and leaves a trail."""

    def post(self, store: Store, prep: object, result: object) -> Any:
        store["trail"] = [*store.get("trail", []), self.name]
        return store["go"].pop(0) if store.get("go") else None


def step(name: str) -> Step:
    """A node of that name."""
    return Step(name=name)


def trail(flow: Flow[Any], *go: str | None) -> list[str]:
    """The names of the steps that a run takes with these actions."""
    return cast(list[str], flow.run({"go": list(go)})["trail"])


def here() -> int:
    """The line that calls this."""
    frame = currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def arrows(graph: Graph) -> list[tuple[str, str, str | None]]:
    """The edges without their places."""
    return [(edge.source, edge.action, edge.target) for edge in graph.edges]


# -- edges of the flow --------------------------------------------------------------------------


def test_an_edge_of_a_flow_is_followed() -> None:
    """``flow.then(a, b)`` is the default action, ``a.when("x")`` another one."""
    a, b, c = step("a"), step("b"), step("c")
    flow = Flow(start=a).then(a, b).then(a.when("x"), c)
    assert trail(flow) == ["a", "b"]
    assert trail(flow, "x") == ["a", "c"]


def test_an_edge_of_a_flow_is_not_in_another_flow() -> None:
    """The same nodes are wired differently in two flows, and have no edges of their own."""
    a, b, c = step("a"), step("b"), step("c")
    one, two = Flow(start=a).then(a, b), Flow(start=a).then(a, c)
    assert trail(one) == ["a", "b"]
    assert trail(two) == ["a", "c"]
    assert trail(Flow(start=a)) == ["a"]
    assert dict(a.edges) == {}


def test_edges_of_nodes_and_of_the_flow_work_in_one_graph() -> None:
    """Both kinds lead on from each other."""
    a, b, c, d = step("a"), step("b"), step("c"), step("d")
    a.then("default", b)
    c.then("default", d)
    flow = Flow(start=a).then(b, c)
    assert trail(flow) == ["a", "b", "c", "d"]
    assert [edge.written for edge in flow.graph.edges] == ["node", "flow", "node"]


def test_an_edge_that_is_added_later_counts_at_once() -> None:
    """A flow that has run is drawn anew after a change of its wiring."""
    a, b = step("a"), step("b")
    flow = Flow(start=a)
    assert trail(flow) == ["a"]
    before = flow.graph
    flow.then(a, b)
    assert trail(flow) == ["a", "b"]
    assert list(before.nodes) == ["a"]
    assert flow.graph is flow.graph


def watch(visit: Visit) -> Around:
    """A middleware."""
    return (yield)


def set_strict(flow: Flow[Any]) -> None:
    """What an assignment does."""
    flow.strict = True


def set_name(flow: Flow[Any]) -> None:
    """What an assignment does."""
    flow.start.name = "other"


@pytest.mark.parametrize(
    "change",
    [
        lambda flow: flow.then(flow.start, step("new")),
        lambda flow: flow.start.then("default", step("new")),
        lambda flow: flow.use(visit=watch),
        lambda flow: flow.require(flow.start).before(flow.start),
        set_strict,
        set_name,
    ],
    ids=["edge of the flow", "edge of a node", "middleware", "rule", "strict", "name"],
)
def test_each_change_of_a_wiring_that_has_run_counts(change: Callable[[Flow[Any]], object]) -> None:
    """The next run takes a graph drawn anew, wherever the flow is nested."""
    inner = Flow(start=step("a"))
    outer = Flow(start=Parallel(Flow(start=inner), name="both"))
    trail(inner)
    outer.run({"go": []})
    before = inner.graph, outer.graph
    change(inner)
    assert inner.graph is not before[0]
    assert outer.graph is not before[1]
    assert outer.graph.start.branches[0].start.inner is not None
    assert outer.graph.start.branches[0].start.inner.start.inner is inner.graph


def test_flows_that_are_made_meanwhile_leave_a_graph_as_it_is() -> None:
    """A program that makes a flow for each request does not have its other flows drawn again."""
    a, b = step("a"), step("b")
    flow = Flow(start=a, flow_name="known").then(a, b)
    assert trail(flow) == ["a", "b"]
    before = flow.graph
    new = step("new")
    new.then("default", step("end"))
    other = Flow(start=new, flow_name="other", strict=True).then(new.when("b"), b)
    other.use(visit=watch).require(new).before(b)
    assert trail(other) == ["new", "end"]
    assert flow.graph is before


def test_a_string_first_wires_the_flow_as_a_node() -> None:
    """``flow.then("ok", b)`` is an edge in the flow around it, as for any node."""
    a, b = step("a"), step("b")
    inner = Flow(start=a, flow_name="inner")
    assert inner.then("ok", b) is inner
    assert arrows(Flow(start=inner).graph) == [("inner", "ok", "b")]
    assert arrows(inner.graph) == []
    outer = Flow(start=inner)
    assert trail(outer.then(inner, b)) == ["a", "b"]
    assert trail(outer, "ok") == ["a", "b"]


def test_none_and_the_star_are_actions_of_when() -> None:
    """``when(None)`` is the default action, ``when("*")`` any without an edge of its own."""
    a, b, c = step("a"), step("b"), step("c")
    assert a.when(None).action == "default"
    assert (a.when("x").node, a.when("x").action) == (a, "x")
    flow = Flow(start=a).then(a.when("*"), b).then(a.when("x"), c)
    assert trail(flow, "whatever") == ["a", "b"]
    assert trail(flow, "x") == ["a", "c"]


@pytest.mark.parametrize("action", ["", 5, b"x"])
def test_when_takes_a_non_empty_string(action: Any) -> None:
    """Anything else is refused at once, with the node."""
    with pytest.raises(DefinitionError, match=r"a\.when\(action\).*non-empty string"):
        step("a").when(action)


@pytest.mark.parametrize("source", [5, None, Step, END, print, Store], ids=str)
def test_a_source_that_is_no_node_is_refused_with_its_place(source: Any) -> None:
    """The message has file and line and, for a class, the way out."""
    flow: Any = Flow(start=step("a"))
    with pytest.raises(DefinitionError) as caught:
        flow.then(source, step("b"))
    assert f"{__file__}:{here() - 1}" in str(caught.value)
    assert "the source must be a node, node.when(action) or node.catch(errors)" in str(caught.value)
    assert ("pass an instance" in str(caught.value)) == isinstance(source, type)


@pytest.mark.parametrize("target", [5, Step, "b", step("a").when("x")], ids=str)
def test_a_target_that_is_no_node_is_refused_with_its_place(target: Any) -> None:
    """Edges of nodes and of flows refuse it alike."""
    a: Any = step("a")
    flow: Any = Flow(start=a)
    with pytest.raises(DefinitionError) as caught:
        flow.then(a.when("x"), target)
    assert f"{__file__}:{here() - 1}: the target must be a node or END" in str(caught.value)
    with pytest.raises(DefinitionError) as caught:
        a.then("x", target)
    assert f"{__file__}:{here() - 1}: the target must be a node or END" in str(caught.value)


# -- END ----------------------------------------------------------------------------------------


def test_end_ends_a_run_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """An action that leads to ``END`` is handled, also where ``strict`` refuses unhandled ones."""
    a, b = step("a"), step("b")
    flow = Flow(start=a, strict=True).then(a.when("x"), END).then(a, b).then(b.when("*"), END)
    assert trail(flow, "x") == ["a"]
    assert trail(flow, None, "anything") == ["a", "b"]
    assert "no edge" not in caplog.text
    with pytest.raises(UnhandledActionError, match=r"'y'.*edges: x, default"):
        trail(flow, "y")


def test_end_works_as_the_target_of_an_edge_of_a_node() -> None:
    """``a.then("x", END)`` is the same without a flow."""
    a, b = step("a"), step("b")
    a.then("x", END).then("*", b)
    flow = Flow(start=a, strict=True)
    assert trail(flow, "x") == ["a"]
    assert trail(flow, "y") == ["a", "b"]
    place = flow.graph.start
    assert (place.ends, place.actions, place.next("x")) == (("x",), ["x", "*"], None)
    assert repr(END) == "END"


def test_an_action_without_an_edge_beside_one_that_ends_is_still_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """``END`` for one action does not make the others handled."""
    a = step("a")
    flow = Flow(start=a).then(a.when("x"), END)
    assert trail(flow, "y") == ["a"]
    assert "'y', which has no edge" in caplog.text


def test_the_action_that_ends_a_nested_flow_is_its_action() -> None:
    """``END`` inside a nested flow goes on outside, with the action that led to it."""
    a, b, c = step("a"), step("b"), step("c")
    inner = Flow(start=a, flow_name="inner").then(a.when("x"), END).then(a.when("*"), END)
    outer = Flow(start=inner).then(inner.when("x"), b).then(inner.when("*"), c)
    assert trail(outer, "x") == ["a", "b"]
    assert trail(outer, "y") == ["a", "c"]


# -- what the graph holds -----------------------------------------------------------------------


def test_the_graph_names_nodes_edges_and_their_places() -> None:
    """Every edge is there once, with where it was written and by whom."""
    a, b, other = step("a"), step("b"), step("b")
    flow = Flow(start=a)
    line = here() + 1
    flow.then(a, b)
    b.then("x", other)
    flow.then(other, END)
    graph = flow.graph
    assert list(graph.nodes) == ["a", "b", "b_2"]
    assert graph.edges == (
        GraphEdge("a", "default", "b", __file__, line, "flow"),
        GraphEdge("b", "x", "b_2", __file__, line + 1, "node"),
        GraphEdge("b_2", "default", None, __file__, line + 2, "flow"),
    )
    assert graph.conflicts == ()
    assert [place.is_open for place in graph.nodes.values()] == [True, True, True]
    assert graph.vertex(other).name == "b_2"
    assert repr(graph.start) == "<Vertex 'a' -> ['default']>"


def test_nodes_that_only_the_flow_names_are_in_the_graph_but_not_reachable() -> None:
    """A node that no path leads to can be reported and drawn, but a run cannot begin there."""
    a, b, c, d = step("a"), step("b"), step("c"), step("d")
    c.then("default", d)
    flow = Flow(start=a).then(b, c)
    graph = flow.graph
    assert {name: place.reachable for name, place in graph.nodes.items()} == {
        "a": True,
        "b": False,
        "c": False,
        "d": False,
    }
    assert arrows(graph) == [("b", "default", "c"), ("c", "default", "d")]
    for lost in (b, d):
        with pytest.raises(DefinitionError, match=r"cannot be reached from.*'a' \(nodes: a\)"):
            flow.run({"go": []}, resume_from=lost)


def test_nodes_are_told_apart_by_identity() -> None:
    """Nodes that are equal, or have no hash, are still different nodes."""

    @dataclass
    class Equal(Node):
        value: int

    one, two = Equal(1), Equal(1)
    flow = Flow(start=one).then(one, two).then(two, END)
    assert arrows(flow.graph) == [("Equal", "default", "Equal_2"), ("Equal_2", "default", None)]


def test_an_edge_that_is_written_over_is_recorded() -> None:
    """The later edge counts, in a node and in a flow; the earlier one is kept for the report."""
    a, b, c = step("a"), step("b"), step("c")
    flow = Flow(start=a).then(a, b).then(a, c)
    c.then("x", a).then("x", b)
    conflicts = flow.graph.conflicts
    assert arrows(flow.graph) == [("a", "default", "c"), ("c", "x", "b")]
    assert [(one.kept.target, one.dropped.target, one.kept.written) for one in conflicts] == [
        ("c", "b", "flow"),
        ("b", "a", "node"),
    ]
    assert all(one.kept.written == one.dropped.written for one in conflicts)


def test_a_disagreement_of_flow_and_node_is_recorded_and_the_flow_counts() -> None:
    """For one action the flow's edge is followed; the node's is in the conflicts."""
    a, b, lost = step("a"), step("b"), step("lost")
    a.then("default", lost)
    flow = Flow(start=a).then(a, b)
    (conflict,) = flow.graph.conflicts
    assert arrows(flow.graph) == [("a", "default", "b")]
    assert isinstance(conflict, Conflict)
    assert (conflict.kept.target, conflict.kept.written) == ("b", "flow")
    assert (conflict.dropped.target, conflict.dropped.written) == ("lost", "node")
    assert (conflict.dropped.file, conflict.dropped.line > 0) == (__file__, True)
    assert "lost" not in flow.graph.nodes


def test_the_same_edge_twice_is_no_conflict() -> None:
    """Writing an edge again, in the flow or in the node, changes nothing."""
    a, b = step("a"), step("b")
    a.then("default", b).then("default", b)
    flow = Flow(start=a).then(a, b).then(a, b)
    assert flow.graph.conflicts == ()
    assert arrows(flow.graph) == [("a", "default", "b")]


# -- what definitions tell ----------------------------------------------------------------------

ActionT = TypeVar("ActionT", bound=str)
ValueT = TypeVar("ValueT")


class ByArgument(Node[str, float, Literal["good", "bad"]]):
    def post(self, store: Store, prep: str, result: float) -> Any: ...


class ByAnnotation(Node):
    def post(self, store: Store, prep: object, result: object) -> Literal["x", "y"] | None: ...


class Both(Node[str, float, Literal["good", "bad"]]):
    def post(self, store: Store, prep: str, result: float) -> Literal["good"]:
        return "good"


class Untold(Node):
    def post(self, store, prep, result):  # type: ignore[no-untyped-def] # the classic way
        return "anything"


class Text(Node[str, str, str]):
    def post(self, store: Store, prep: str, result: str) -> str:
        return result


class NoPost(Node[str, str, Literal["never"]]):
    pass


class Base(Node[ValueT, int, ActionT], Generic[ActionT, ValueT]):
    def post(self, store: Store, prep: ValueT, result: int) -> ActionT:
        raise NotImplementedError


class Derived(Base[Literal["left", "right"], bytes]):
    pass


class Inherited(ByAnnotation):
    pass


class Later(AsyncNode[str, str, Literal["done"]]):
    async def post(self, store: Store, prep: str, result: str) -> Literal["done"]:
        return "done"


class Unresolved(Node):
    def post(self, store: Store, prep: object, result: object) -> NotThere:  # type: ignore[name-defined] # noqa: F821
        ...


@pytest.mark.parametrize(
    ("kind", "actions"),
    [
        (ByArgument, ("good", "bad")),
        (ByAnnotation, ("x", "y", "default")),
        (Both, ("good",)),
        (Untold, None),
        (Text, None),
        (NoPost, ("default",)),
        (Node, ("default",)),
        (Derived, ("left", "right")),
        (Base, None),
        (Inherited, ("x", "y", "default")),
        (Later, ("done",)),
        (Unresolved, None),
    ],
)
def test_a_class_declares_its_actions(kind: type[Node], actions: object) -> None:
    """By the annotation of ``post``, by its type argument, or by not overriding ``post``."""
    assert Vertex("a", kind()).declared == actions


def test_a_post_that_an_instance_brings_declares_nothing() -> None:
    """What is set on an instance is not what the class says."""
    one = ByArgument()
    one.__dict__["post"] = lambda store, prep, result: "x"
    assert Vertex("a", one).declared is None


@node(writes=key("x"))
def function_node() -> int:
    """One."""
    return 1


def test_a_function_declares_its_actions() -> None:
    """A function node tells by its annotation, or that it always ends in the default action."""

    @node
    def decide() -> Literal["a", "b"]:
        return "a"

    assert Vertex("a", decide).declared == ("a", "b")
    assert Vertex("a", function_node).declared == ("default",)


def test_a_nested_flow_declares_the_actions_that_can_end_it() -> None:
    """Those of its nodes that lead to no node; unknown if a node that may end it does not tell."""
    one, two = ByAnnotation(), ByArgument()
    inner = Flow(start=one).then(one.when("x"), two).then(one.when("y"), END)
    inner.then(two.when("bad"), one)
    assert Flow(start=inner).graph.start.declared == ("y", "default", "good")
    assert Flow(start=Flow(start=inner)).graph.start.declared == ("y", "default", "good")
    assert Flow(start=Flow(start=Untold())).graph.start.declared is None
    free = Untold()
    inner = Flow(start=free).then(free.when("*"), two).then(cast(Any, free).when("stop"), END)
    assert Flow(start=inner).graph.start.declared == ("stop", "good", "bad")


def test_type_arguments_are_found_through_generic_bases() -> None:
    """``Prep``, ``Exec`` and ``Post`` are those that a class or its bases gave."""
    assert type_arguments(Derived, Node) == (bytes, int, Literal["left", "right"])
    assert type_arguments(ByArgument, Node) == (str, float, Literal["good", "bad"])
    prep, _, post = type_arguments(Untold, Node)
    assert (prep, post) == (type_arguments(Node, Node)[0], type_arguments(Node, Node)[2])


def test_a_node_knows_where_it_is_defined() -> None:
    """File and line of the class or function; nothing for what has no source."""
    file, line = Vertex("a", ByArgument()).where or ("", 0)
    assert file == __file__
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert source[line - 1].startswith("class ByArgument")
    file, line = Vertex("a", function_node).where or ("", 0)
    assert (file, source[line - 1]) == (__file__, '@node(writes=key("x"))')
    made: Any = type("Made", (Node,), {"__module__": "nowhere"})
    assert Vertex("a", made()).where is None


# -- pictures -----------------------------------------------------------------------------------


def picture() -> Graph:
    """A graph with a name that needs escapes, a loop and an end."""
    a, b = step("fetch page"), step('say "hi"\n#1')
    flow = Flow(start=a).then(a, b).then(a.when("no"), END).then(b.when("*"), a)
    return flow.graph


def test_mermaid_is_what_it_is() -> None:
    """Labels are escaped, the default action has none, marks colour nodes by severity."""
    assert picture().to_mermaid({"fetch page": "warning"}) == (
        "flowchart TD\n"
        "    begin(( )) --> n0\n"
        '    n0["fetch page"]\n'
        '    n1["say #34;hi#34;#92;n#35;1"]\n'
        "    n0 --> n1\n"
        '    n0 -->|"no"| finish\n'
        '    n1 -->|"#42;"| n0\n'
        "    finish((( )))\n"
        "    classDef warning fill:#fff4d6,stroke:#b26a00,stroke-width:2px\n"
        "    class n0 warning\n"
    )


def test_dot_is_what_it_is() -> None:
    """Quotes and newlines of a name stay inside its label."""
    assert picture().to_dot({'say "hi"\n#1': "error", "not there": "error"}) == (
        "digraph flow {\n"
        '    node [shape=box, style="rounded,filled", fillcolor="#ffffff", '
        'fontname="sans-serif"]\n'
        '    edge [fontname="sans-serif"]\n'
        '    begin [shape=circle, style=filled, fillcolor="#000000", width=0.15, label=""]\n'
        '    n0 [label="fetch page"]\n'
        '    n1 [label="say \\"hi\\"\\\\n#1", fillcolor="#fde2e1", color="#c62828", penwidth=2]\n'
        "    begin -> n0\n"
        "    n0 -> n1\n"
        '    n0 -> finish [label="no"]\n'
        '    n1 -> n0 [label="*"]\n'
        '    finish [shape=doublecircle, width=0.15, label=""]\n'
        "}\n"
    )


def test_a_graph_without_an_end_draws_none() -> None:
    """The end is drawn only where an edge leads to ``END``; unknown severities are notes."""
    graph = Flow(start=step("a")).graph
    assert "finish" not in graph.to_mermaid() + graph.to_dot()
    assert "class n0 note" in graph.to_mermaid({"a": "whatever"})
    assert graph.to_mermaid() == graph.to_mermaid({})


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_name_breaks_out_of_a_picture(name: str, action: str) -> None:
    """Whatever a node or an action is called, a picture has the lines of its nodes and edges."""
    a = step(name)
    graph = Flow(start=a).then(a.when(cast(Any, action)), END).graph
    mermaid, dot = graph.to_mermaid(), graph.to_dot()
    assert len(mermaid.splitlines()) == 5
    assert len(dot.splitlines()) == 9
    arrow = r"-->" if action == "default" else r'-->\|"[^"`<>&|]*"\|'
    assert re.fullmatch(r'    n0\["[^"`<>&|]*"\]', mermaid.splitlines()[2])
    assert re.fullmatch(rf"    n0 {arrow} finish", mermaid.splitlines()[3])
    assert re.fullmatch(r'    n0 \[label="(?:[^"\\]|\\.)*"\]', dot.splitlines()[4])


def test_a_label_has_the_flows_around_a_node() -> None:
    """The path and the name, as the database shows them."""
    assert label("a", ()) == "a"
    assert label("a", ("outer", "inner")) == "outer/inner/a"


def test_an_outlet_is_a_node_and_an_action() -> None:
    """``when`` does nothing by itself."""
    a = step("a")
    outlet = a.when("x")
    assert isinstance(outlet, Outlet)
    assert dict(a.edges) == {}
    assert repr(outlet) == "Outlet(node=<Step node 'a'>, action='x')"


def test_a_large_graph_is_drawn_whole() -> None:
    """Ten thousand nodes, wired one after another by the flow, are one graph with as many edges."""
    nodes = [step(f"n{number}") for number in range(10_000)]
    flow = Flow(start=nodes[0])
    for source, target in pairwise(nodes):
        flow.then(source, target)
    assert len(flow.graph.edges) == 9_999
    assert len(flow.graph.to_dot().splitlines()) == 4 + 10_000 + 1 + 9_999 + 1


def nested_picture() -> Graph:
    """A node with branches, one of them a flow, and edges that errors take."""
    a, b = Step(name="a"), Step(name="b")
    inner: Flow[Any] = Flow(a, flow_name="inner").then(a, b)
    both, last = Parallel(inner, Step(name="use"), name="both"), Step(name="last")
    flow: Flow[Any] = Flow(both).then(both, END).then(both.catch(ValueError), last)
    return flow.graph


def test_mermaid_draws_what_is_inside() -> None:
    """Nested flows and branches are drawn inside of their nodes, edges of errors with dots."""
    assert nested_picture().to_mermaid({"both/inner/b": "error"}) == (
        """\
flowchart TD
    begin(( )) --> n0
    subgraph n0["both"]
        begin_n1(( )) --> n1
        subgraph n1["inner"]
            begin_n2(( )) --> n2
            n2["a"]
            n3["b"]
            n2 --> n3
        end
        begin_n4(( )) --> n4
        n4["use"]
    end
    n5["last"]
    n0 --> finish
    n0 -.->|"except ValueError"| n5
    finish((( )))
    classDef error fill:#fde2e1,stroke:#c62828,stroke-width:2px
    class n3 error
"""
    )


def test_dot_draws_what_is_inside() -> None:
    """The same as clusters, at whose borders the edges end."""
    dot = nested_picture().to_dot({"both/inner": "warning"})
    assert "    compound=true\n" in dot
    assert "    subgraph cluster_n0 {\n" in dot
    assert 'label="inner", style="rounded", fontname="sans-serif", fillcolor="#fff4d6"' in dot
    assert "    begin -> n2 [lhead=cluster_n0]\n" in dot
    assert "        begin_n1 -> n2 [lhead=cluster_n1]\n" in dot
    assert "    n2 -> finish [ltail=cluster_n0]\n" in dot
    assert '    n2 -> n5 [label="except ValueError", style=dashed, ltail=cluster_n0]\n' in dot
