"""What a run can come to at most: steps, and calls of ``exec``, by the limits of edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from operator import or_
from typing import TypeAlias

from pocoflow.check.control import solve
from pocoflow.check.findings import Finding
from pocoflow.check.subject import Level, Subject
from pocoflow.graph.graph import Graph, Vertex, label
from pocoflow.graph.listed_edges import GraphEdge
from pocoflow.messages import counted
from pocoflow.nodes.parallel import FanOut


@dataclass(frozen=True, slots=True)
class Bound:
    """What one run can come to at most, if no crash makes it repeat a call.

    Attributes:
        steps: Steps.
        calls: Calls of ``exec``, all attempts counted.
        each: For each node that works on items, steps and calls more for each of them.
    """

    steps: int = 0
    calls: int = 0
    each: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        more = "".join(
            f", and {_said(*one)} more for each item of {name!r}" for name, one in self.each.items()
        )
        return f"at most {_said(self.steps, self.calls)}{more}"

    def plus(self, other: Bound, times: int = 1) -> Bound:
        """Both, the other one so many times."""
        steps, calls = self.steps + times * other.steps, self.calls + times * other.calls
        return Bound(steps, calls, {**self.each, **other.each})

    @classmethod
    def worst(cls, every: Iterable[Bound]) -> Bound:
        """One of several, whichever comes to most."""
        found = cls()
        for one in every:
            steps, calls = max(found.steps, one.steps), max(found.calls, one.calls)
            found = cls(steps, calls, {**found.each, **one.each})
        return found


def _said(steps: int, calls: int) -> str:
    parts = [counted(steps, "step")] if steps else []
    return " and ".join([*parts, f"{counted(calls, 'call')} of exec"])


@dataclass(frozen=True, slots=True)
class Endless:
    """There is no bound but ``max_steps``, as no limit ends a loop.

    Attributes:
        loop: The names of its nodes, in their order.
        steps: ``None``.
        calls: ``None``.
    """

    loop: tuple[str, ...]
    steps: None = None
    calls: None = None

    def __str__(self) -> str:
        return f"no bound but max_steps: no limit ends the loop {' -> '.join(self.loop)}"


_Name: TypeAlias = str


def bound_of(graph: Graph) -> Bound | Endless:
    """What a run of a graph can come to at most, or a loop without a bound."""
    paths = {id(one): path for path, one in graph.levels()}
    known: dict[int, Bound] = {}
    for one in graph.inner_first():
        path = paths[id(one)]
        weights = {
            name: _weight(vertex, path, known)
            for name, vertex in one.nodes.items()
            if vertex.reachable
        }
        found = _Loops(one, weights).longest()
        if isinstance(found, Endless):
            return Endless(tuple(label(name, path) for name in found.loop))
        known[id(one)] = found
    return known[id(graph)]


def _weight(vertex: Vertex, path: tuple[str, ...], known: Mapping[int, Bound]) -> Bound:
    """What one visit of a node comes to at most."""
    if vertex.inner is not None:
        return known[id(vertex.inner)]
    name = label(vertex.name, path)
    if vertex.branches:
        inside = Bound()
        for graph in vertex.branches:
            inside = inside.plus(known[id(graph)])
        if isinstance(vertex.node, FanOut):
            return Bound(1, 0, {name: (inside.steps, inside.calls), **inside.each})
        return Bound(1).plus(inside)
    calls = vertex.node.max_retries if vertex.has_exec else 0
    return Bound(1, 0, {name: (0, calls)}) if vertex.is_batch else Bound(1, calls)


class _Loops:
    """The longest way through a graph whose loops all have limits.

    In a set of nodes that lead to one another, a run takes edges with limits so often as they say;
    between two of these it takes a way without them, which is a simple one if they alone make
    loops.
    """

    def __init__(self, graph: Graph, weights: Mapping[_Name, Bound]) -> None:
        self._start, self._weights = graph.start.name, weights
        self._edges = [one for one in graph.edges if one.source in weights and one.target]
        self._ahead: dict[_Name, list[_Name]] = {name: [] for name in weights}
        for edge in self._edges:
            self._ahead[edge.source].append(str(edge.target))

    def longest(self) -> Bound | Endless:
        """What comes to most, or a loop without a limit."""
        best: dict[_Name, Bound] = {}
        total = Bound()
        # Each set comes after those that it leads to.
        for nodes in _components(self._start, self._ahead):
            here = self._within(nodes)
            if isinstance(here, Endless):
                return here
            ahead = [other for name in nodes for other in self._ahead[name] if other not in nodes]
            total = here.plus(Bound.worst(map(best.__getitem__, ahead)))
            best.update(dict.fromkeys(nodes, total))
        return total

    def _within(self, nodes: Sequence[_Name]) -> Bound | Endless:
        """What a stay in a set of nodes that lead to one another comes to at most."""
        inside = {*nodes}
        edges = [one for one in self._edges if one.source in inside and one.target in inside]
        limited = _limited(edges)
        free: dict[_Name, list[_Name]] = {name: [] for name in nodes}
        for edge in edges:
            if edge.at_most is None or edge.is_after:
                free[edge.source].append(str(edge.target))
        try:
            order = [*TopologicalSorter(free).static_order()]
        except CycleError as exc:
            return Endless(tuple(reversed(exc.args[1])))
        way: dict[_Name, Bound] = {}
        for name in order:
            way[name] = self._weights[name].plus(Bound.worst(way[other] for other in free[name]))
        total = Bound.worst(way.values())
        for edge in limited:
            total = total.plus(way[str(edge.target)], edge.at_most or 0)
        return total


def _components(start: _Name, ahead: Mapping[_Name, Sequence[_Name]]) -> Iterator[list[_Name]]:
    """The sets of nodes that lead to one another, each after those that it leads to.

    By the algorithm of Tarjan, without calls that pile up.
    """
    order: dict[_Name, int] = {start: 0}
    low = {start: 0}
    open_nodes, waiting = [start], {start}
    path = [(start, iter(ahead[start]))]
    while path:
        name, rest = path[-1]
        other = next(rest, None)
        if other is None:
            path.pop()
            if path:
                low[path[-1][0]] = min(low[path[-1][0]], low[name])
            if low[name] == order[name]:
                found: list[_Name] = []
                while not found or found[-1] != name:
                    found.append(open_nodes.pop())
                waiting.difference_update(found)
                yield found
        elif other not in order:
            order[other] = low[other] = len(order)
            open_nodes.append(other)
            waiting.add(other)
            path.append((other, iter(ahead[other])))
        elif other in waiting:
            low[name] = min(low[name], order[other])


# -- limits that nothing reaches ------------------------------------------------------------------


def check_limits(subject: Subject, level: Level) -> Iterator[Finding]:
    """Limits that no run reaches, so that where they lead is never come to."""
    if not level.graph.is_limited:  # nor is a flow inside of it
        return
    edges = [one for one in level.graph.edges if level.graph.nodes[one.source].reachable]
    for edge in _limited(edges):
        why = _never_reached(edge, edges)
        if why is not None:
            then = next(one.target for one in edges if one.is_after and one[:2] == edge[:2])
            yield subject.finding(
                "PF112",
                f"the edge {_shown(edge)} has the limit {edge.at_most}, which no run reaches: "
                f"{why}; then={then or 'END'} never counts",
                "take at_most and then out, or lower the limit, or write the edge that leads back",
                at=level.site(level.graph.nodes[edge.source]),
                edge=edge,
            )


def _limited(edges: Sequence[GraphEdge]) -> list[GraphEdge]:
    return [one for one in edges if one.at_most is not None and not one.is_after]


def _never_reached(edge: GraphEdge, edges: Sequence[GraphEdge]) -> str | None:
    """Why a run does not take an edge as often as its limit says; ``None`` if it may."""
    if not _leads_back(edge, edges):
        return "nothing leads back to it, so a run takes it once"
    for other in _limited(edges):
        is_lower = _at_most(other) < _at_most(edge)
        if is_lower and not _leads_back(edge, [one for one in edges if one is not other]):
            often = f"which is taken {_at_most(other)} times at most"
            return f"every way back takes the edge {_shown(other)}, {often}"
    return None


def _at_most(edge: GraphEdge) -> int:
    return edge.at_most or 0


def _shown(edge: GraphEdge) -> str:
    return f"{edge.source} -{edge.action}-> {edge.target or 'END'}"


def _leads_back(edge: GraphEdge, edges: Sequence[GraphEdge]) -> bool:
    """Whether a way leads from the target of an edge to its source, not by its own limit."""
    ahead: dict[str, list[tuple[str, bool]]] = {}
    for one in edges:
        is_own = one.is_after and one[:2] == edge[:2]
        if one.target is not None and not is_own:
            ahead.setdefault(one.source, []).append((one.target, True))
    return edge.source in solve({str(edge.target): True}, lambda name, _: ahead.get(name, ()), or_)
