"""Generated graphs: what the validation says equals what a naive search finds."""

import importlib
import inspect
import linecache
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, strategies as st

from pocoflow import END, Flow, key, node

ROOT = Path(__file__).parents[3]
FIELDS = ("f0", "f1", "f2", "f3", "f4")
ACTIONS = ("left", "right", "again")


@dataclass
class Plan:
    """A node to be made, and where its actions lead: a number, ``None`` for END."""

    name: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    edges: dict[str, int | None] = field(default_factory=dict)
    is_route: bool = False


def make(plans: list[Plan], inputs: tuple[str, ...] | None) -> Flow[Any]:
    """The flow of the plans; each node is a function, with the fields as its parameters."""
    nodes = [make_node(plan) for plan in plans]
    given_fields = None if inputs is None else tuple(key(name) for name in inputs)
    flow = Flow(start=nodes[0], inputs=given_fields)
    for source, plan in zip(nodes, plans, strict=True):
        for action, target in plan.edges.items():
            flow.then(source.when(action), END if target is None else nodes[target])
    return flow


def make_node(plan: Plan) -> Any:
    """A node from a function that is written for it."""
    returns = f"Literal{list(plan.edges)!r}" if plan.is_route else "Any"
    names: dict[str, Any] = {"Literal": Literal, "Any": Any}
    exec(f"def {plan.name}({', '.join(plan.reads)}) -> {returns}: ...", names)  # noqa: S102
    if plan.is_route:
        return node(names[plan.name])
    writes = tuple(key(name) for name in plan.writes)
    if not writes:
        names[plan.name].__annotations__["return"] = None
        return node(names[plan.name])
    return node(writes=writes if len(writes) > 1 else writes[0])(names[plan.name])


subsets = st.lists(st.sampled_from(FIELDS), unique=True, max_size=3).map(tuple)


@st.composite
def any_graph(draw: st.DrawFn) -> list[Plan]:
    """Nodes that read, write and lead wherever it may be."""
    count = draw(st.integers(1, 7))
    anywhere = st.one_of(st.none(), st.integers(0, count - 1))
    plans = []
    for number in range(count):
        plan = Plan(f"n{number}", draw(subsets), is_route=draw(st.booleans()))
        if plan.is_route:
            actions = draw(st.lists(st.sampled_from(ACTIONS), unique=True, min_size=1, max_size=3))
            plan.edges = {action: draw(anywhere) for action in actions}
        else:
            plan.writes = draw(subsets)
            plan.edges = {"default": draw(anywhere)} if draw(st.booleans()) else {}
        plans.append(plan)
    return plans


def states(plans: list[Plan], inputs: tuple[str, ...]) -> set[tuple[int, frozenset[str]]]:
    """Every way to come to a node, as the node and what has been written by then.

    What a node has read counts as written: a run that gets past it had it.
    """
    queue = [(0, frozenset(inputs))]
    seen = set(queue)
    for number, written in queue:
        plan = plans[number]
        after = written | set(plan.reads) | set(plan.writes)
        for target in plan.edges.values():
            if target is not None and (target, after) not in seen:
                seen.add((target, after))
                queue.append((target, after))
    return seen


@given(any_graph(), subsets)
def test_the_data_flow_is_that_of_every_path(plans: list[Plan], inputs: tuple[str, ...]) -> None:
    """A read is reported if and only if some path comes to it before a write, and for no other."""
    found = [one for one in make(plans, inputs).validate() if one.code == "PF301"]
    told = {
        (one.node, match[1])
        for one in found
        if (match := re.match(r"it reads '(\w+)'", one.message))
    }
    true = {
        (plans[number].name, name)
        for number, written in states(plans, inputs)
        for name in plans[number].reads
        if name not in written
    }
    assert told == true
    for one in found:
        check_path(plans, one.message)


def check_path(plans: list[Plan], message: str) -> None:
    """The path of a message is one of the graph, and nothing on it writes the field."""
    match = re.match(r"it reads '(\w+)' .* on the path (.*): n", message)
    assert match is not None
    name, path = match.groups()
    steps = re.split(r" -(\w*)-?> ", path)
    numbers = [int(step[1:]) for step in steps[::2]]
    assert numbers[0] == 0
    for source, action, target in zip(numbers[:-1], steps[1::2], numbers[1:], strict=True):
        plan = plans[source]
        assert plan.edges[action or "default"] == target
        assert name not in plan.writes + plan.reads


def reach(edges: dict[int, set[int]], starts: set[int]) -> set[int]:
    """What can be reached, start by start."""
    found = set(starts)
    while more := {target for one in found for target in edges.get(one, ())} - found:
        found |= more
    return found


@given(any_graph())
def test_what_cannot_be_reached_and_what_cannot_end_is_what_a_search_finds(
    plans: list[Plan],
) -> None:
    """A node is unreachable, and a loop endless, if and only if a naive search says so."""
    found = make(plans, FIELDS).validate()
    edges = {
        number: {target for target in plan.edges.values() if target is not None}
        for number, plan in enumerate(plans)
    }
    reached = reach(edges, {0})
    # A node that no edge of the flow names is not in the flow at all.
    named = reach(edges, {0, *(number for number, plan in enumerate(plans) if plan.edges)})
    unreachable = {one.node for one in found if one.code == "PF101"}
    assert unreachable == {plans[number].name for number in named - reached}
    ends = {n for n, plan in enumerate(plans) if not plan.edges or None in plan.edges.values()}
    backward: dict[int, set[int]] = {}
    for number, targets in edges.items():
        for target in targets:
            backward.setdefault(target, set()).add(number)
    trapped = reached - reach(backward, ends)
    loops = [one for one in found if one.code == "PF104"]
    assert bool(loops) == bool(trapped)
    assert {one.node for one in loops} <= {plans[number].name for number in trapped}


@st.composite
def correct_graph(draw: st.DrawFn) -> tuple[list[Plan], tuple[str, ...]]:
    """A graph without a mistake: each node can be reached, ends, and reads what is there."""
    count = draw(st.integers(1, 8))
    inputs = draw(subsets)
    plans: list[Plan] = []
    for number in range(count):
        ahead = (
            st.one_of(st.none(), st.integers(number + 1, count - 1))
            if number + 1 < count
            else st.none()
        )
        plan = Plan(f"n{number}", is_route=number + 1 < count and draw(st.booleans()))
        if plan.is_route:
            plan.edges = {"left": number + 1, "right": draw(ahead)}
            if draw(st.booleans()):
                plan.edges["again"] = draw(st.integers(0, number))
        else:
            plan.writes = (f"w{number}",)
            plan.edges = {"default": number + 1} if number + 1 < count else {}
        plans.append(plan)
    for number, plan in enumerate(plans):
        always = [written for place, written in states(plans, inputs) if place == number]
        there = sorted(frozenset.intersection(*always))
        if there:
            plan.reads = tuple(draw(st.lists(st.sampled_from(there), unique=True, max_size=3)))
    return plans, inputs


@given(correct_graph())
def test_a_correct_graph_has_no_findings(given_graph: tuple[list[Plan], tuple[str, ...]]) -> None:
    """Nothing is said of a graph that has no mistake, neither as an error nor as a warning."""
    plans, inputs = given_graph
    assert make(plans, inputs).validate() == []
    assert make(plans, None).validate() == []


def make_classes(plans: list[Plan]) -> Flow[Any]:
    """The flow of the plans; each node is of a class, which names its actions, or does not."""
    parts = ["from typing import Any, Literal", "from pocoflow import END, Flow, Node"]
    for number, plan in enumerate(plans):
        actions = list(plan.edges)
        named = plan.is_route and number % 2
        parts.append(f"class N{number}(Node{f'[Any, Any, Literal{actions}]' if named else ''}):")
        parts.append("    journal = False\n    model = 'small'\n    tries = 3")
        parts.append("    def post(self, store, prepared, result):")
        parts += [f"        store[{name!r}]" for name in plan.reads]
        parts += [f"        store[{name!r}] = 1" for name in plan.writes]
        if plan.is_route:
            parts.append(f"        if store.get('x') == 1:\n            return {actions[0]!r}")
            parts += [
                f"        elif store.get('x'):\n            return {one!r}" for one in actions
            ]
            parts.append(f"        else:\n            return {actions[-1]!r}")
    parts += [f"n{number} = N{number}(name='n{number}')" for number in range(len(plans))]
    for number, plan in enumerate(plans):
        for action, target in plan.edges.items():
            where = "END" if target is None else f"n{target}"
            parts.append(f"n{number}.then({action!r}, {where})")
    parts.append("flow = Flow(start=n0)")
    text = "\n".join(parts) + "\n"
    name = "<classes>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    names: dict[str, Any] = {"__name__": "generated_classes"}
    exec(compile(text, name, "exec"), names)  # noqa: S102
    flow: Flow[Any] = names["flow"]
    return flow


@given(correct_graph())
def test_a_correct_graph_of_classes_has_no_findings(
    given_graph: tuple[list[Plan], tuple[str, ...]],
) -> None:
    """Nor is anything said, or raised, of nodes of classes, be their actions named or not."""
    plans, inputs = given_graph
    flow = make_classes(plans)
    assert flow.validate() == []
    if not any("again" in plan.edges for plan in plans):
        flow.run(dict.fromkeys(inputs, 1))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem
)
def test_an_example_has_no_findings(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said of the flows in examples/, a database or not."""
    monkeypatch.syspath_prepend(path.parent)
    module = vars(importlib.import_module(path.stem))
    flows = [value for value in module.values() if isinstance(value, Flow)]
    for name in [name for name in module if name.endswith("_flow")]:
        takes = inspect.signature(module[name]).parameters
        flows.append(module[name](*[tmp_path / "runs.db" for _ in takes]))
    assert flows
    for flow in flows:
        assert [str(one) for one in flow.validate()] == []
