"""Which nodes a graph is drawn of: what can be reached from a start, and what a flow names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from pocoflow.graph.wiring import FlowEdges
from pocoflow.nodes.base import Composite, NodeLike, note_drawn
from pocoflow.nodes.edges import END, Edge, End

Edges: TypeAlias = Mapping[str, Edge[NodeLike]]
"""The edges from a node that count, by action, as they were written."""

NO_WIRING = FlowEdges()
"""Those of branches, which are no flows with edges of their own."""


class Reach(NamedTuple):
    """The nodes that a graph is drawn of.

    Attributes:
        nodes: Each once, with its edges: first what can be reached from the start, breadth first,
            then what the flow has edges for and cannot be reached.
        reached: How many can be reached.
        shape: The edges of each, with their targets by number, so that two flows are wired alike if
            it is equal.
    """

    nodes: list[tuple[NodeLike, Edges]]
    reached: int
    shape: list[object]

    @classmethod
    def of(cls, start: NodeLike, own: FlowEdges) -> Reach:
        """What a start leads to, and the edges of a flow."""
        nodes: list[tuple[NodeLike, Edges]] = []
        shape: list[object] = []
        numbers, reached = {id(END): -1}, 0
        own.is_drawn = True
        for first in (start, *own.sources):
            queue = [] if id(first) in numbers else [first]
            numbers.setdefault(id(first), len(numbers) - 1)
            for node in queue:  # grows while it is walked through
                note_drawn(node)
                edges: Edges = node.edges
                if own_edges := own.of(node):
                    edges = {**edges, **own_edges}
                nodes.append((node, edges))
                shape.append(len(edges))
                for edge in edges.values():
                    limit = edge.limit
                    shape += (edge.action, edge.written, limit and limit.at_most)
                    for target in (edge.target,) if limit is None else edge.targets:
                        if id(target) not in numbers and not isinstance(target, End):
                            numbers[id(target)] = len(numbers) - 1
                            queue.append(target)
                        shape.append(numbers[id(target)])
            reached = reached or len(nodes)
        return cls(nodes, reached, shape)


def reaches_of(node: Any) -> list[Reach]:
    """What is inside of a flow, or of each of parallel branches."""
    if node.is_flow:
        return [Reach.of(node.start, node.wiring)]
    return [Reach.of(branch, NO_WIRING) for branch in node.branches]


def composites_in(reaches: Iterable[Reach]) -> Iterator[Composite]:
    """The nodes that have others inside, each as often as it is reached."""
    for reach in reaches:
        for node, _ in reach.nodes:
            if isinstance(node, Composite):
                yield node
