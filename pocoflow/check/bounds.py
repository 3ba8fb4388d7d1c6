"""The upper bound of a run by the limits of edges: steps, and calls of ``exec``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from operator import or_

from pocoflow.check.control import solve
from pocoflow.check.findings import Finding
from pocoflow.check.subject import Level, Subject
from pocoflow.graph.graph import Graph, Vertex, label
from pocoflow.graph.listed_edges import GraphEdge
from pocoflow.messages import counted
from pocoflow.nodes.parallel import FanOut


@dataclass(frozen=True, slots=True)
class Bound:
    """The upper bound of one run, if no crash makes it repeat a call.

    Attributes:
        steps: Steps.
        calls: Calls of ``exec``, all attempts counted.
        each: For each node that works on items, the additional steps and calls for each item.
    """

    steps: int = 0
    calls: int = 0
    each: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        each = self.each.items()
        items = "".join(f", and {_counts(*n)} more for each item of {name!r}" for name, n in each)
        return f"at most {_counts(self.steps, self.calls)}{items}"

    def plus(self, other: Bound, times: int = 1) -> Bound:
        """The sum of both, with the other one multiplied."""
        steps, calls = self.steps + times * other.steps, self.calls + times * other.calls
        return Bound(steps, calls, {**self.each, **other.each})

    @classmethod
    def worst(cls, bounds: Iterable[Bound]) -> Bound:
        """The maximum of several bounds."""
        maximum = cls()
        for bound in bounds:
            steps, calls = max(maximum.steps, bound.steps), max(maximum.calls, bound.calls)
            maximum = cls(steps, calls, {**maximum.each, **bound.each})
        return maximum


def _counts(steps: int, calls: int) -> str:
    parts = [counted(steps, "step")] if steps else []
    return " and ".join([*parts, f"{counted(calls, 'call')} of exec"])


@dataclass(frozen=True, slots=True)
class Endless:
    """There is no bound but ``max_steps``, because no limit ends a loop.

    Attributes:
        loop: The names of its nodes, in order.
        steps: ``None``.
        calls: ``None``.
    """

    loop: tuple[str, ...]
    steps: None = None
    calls: None = None

    def __str__(self) -> str:
        return f"no bound but max_steps: no limit ends the loop {' -> '.join(self.loop)}"


def bound_of(graph: Graph) -> Bound | Endless:
    """The upper bound of a run of a graph, or a loop without a bound."""
    paths = {id(level): path for path, level in graph.levels()}
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
    """The upper bound of one visit of a node."""
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
    """The longest path through a graph whose loops all have limits.

    In a strongly connected component, a run takes each edge with a limit as often as its limit
    allows; between two of these it takes a path without them, which is simple if all loops contain
    one.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, Bound]) -> None:
        self._start, self._weights = graph.start.name, weights
        self._edges = [one for one in graph.edges if one.source in weights and one.target]
        self._ahead: dict[str, list[str]] = {name: [] for name in weights}
        for edge in self._edges:
            self._ahead[edge.source].append(str(edge.target))

    def longest(self) -> Bound | Endless:
        """The bound of the longest path, or a loop without a limit."""
        best: dict[str, Bound] = {}
        total = Bound()
        # In reverse topological order.
        for nodes in _components(self._start, self._ahead):
            here = self._within(nodes)
            if isinstance(here, Endless):
                return here
            ahead = [other for name in nodes for other in self._ahead[name] if other not in nodes]
            total = here.plus(Bound.worst(map(best.__getitem__, ahead)))
            best.update(dict.fromkeys(nodes, total))
        return total

    def _within(self, nodes: Sequence[str]) -> Bound | Endless:
        """The bound for the steps within a strongly connected component."""
        inside = {*nodes}
        edges = [one for one in self._edges if one.source in inside and one.target in inside]
        limited = _limited(edges)
        free: dict[str, list[str]] = {name: [] for name in nodes}
        for edge in edges:
            if edge.at_most is None or edge.is_after:
                free[edge.source].append(str(edge.target))
        try:
            order = [*TopologicalSorter(free).static_order()]
        except CycleError as exc:
            return Endless(tuple(reversed(exc.args[1])))
        way: dict[str, Bound] = {}
        for name in order:
            way[name] = self._weights[name].plus(Bound.worst(way[other] for other in free[name]))
        total = Bound.worst(way.values())
        for edge in limited:
            total = total.plus(way[str(edge.target)], edge.at_most or 0)
        return total


def _components(start: str, ahead: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """The strongly connected components, in reverse topological order.

    By Tarjan's algorithm, without recursion.
    """
    order: dict[str, int] = {start: 0}
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
                found: list[str] = []
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
    """Limits that no run reaches, so that their ``then=`` is never taken."""
    if not level.graph.is_limited:  # nor is a flow inside it
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
    return [edge for edge in edges if edge.at_most is not None and not edge.is_after]


def _never_reached(edge: GraphEdge, edges: Sequence[GraphEdge]) -> str | None:
    """Why a run does not take an edge as often as its limit says; ``None`` if it may."""
    if not _leads_back(edge, edges):
        return "nothing leads back to it, so a run takes it once"
    for other in _limited(edges):
        is_lower = (other.at_most or 0) < (edge.at_most or 0)
        if is_lower and not _leads_back(edge, [one for one in edges if one is not other]):
            often = f"which is taken {other.at_most} times at most"
            return f"every way back takes the edge {_shown(other)}, {often}"
    return None


def _shown(edge: GraphEdge) -> str:
    return f"{edge.source} -{edge.action}-> {edge.target or 'END'}"


def _leads_back(edge: GraphEdge, edges: Sequence[GraphEdge]) -> bool:
    """Whether a path leads from the target of an edge to its source, except by its own limit."""
    ahead: dict[str, list[tuple[str, bool]]] = {}
    for one in edges:
        is_own = one.is_after and one[:2] == edge[:2]
        if one.target is not None and not is_own:
            ahead.setdefault(one.source, []).append((one.target, True))
    return edge.source in solve({str(edge.target): True}, lambda name, _: ahead.get(name, ()), or_)
