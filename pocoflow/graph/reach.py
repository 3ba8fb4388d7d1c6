"""The nodes of a graph: those that can be reached from a start, and those that a flow names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from pocoflow.graph.wiring import FlowEdges
from pocoflow.nodes.base import Composite, NodeLike, mark_in_graph
from pocoflow.nodes.edges import END, Edge, End

Edges: TypeAlias = Mapping[str, Edge[NodeLike]]
"""The effective edges from a node, by action, as they were written."""

NO_WIRING = FlowEdges()
"""The edges of branches, which have none of their own, unlike flows."""


class Reach(NamedTuple):
    """The nodes of a graph.

    Attributes:
        nodes: Each once, with its edges: first what can be reached from the start, breadth first,
            then what the flow has edges for but cannot be reached.
        reached: How many can be reached.
        shape: The edges of each, with their targets by number; equal for flows that are wired
            alike.
    """

    nodes: list[tuple[NodeLike, Edges]]
    reached: int
    shape: list[object]

    @classmethod
    def of(cls, start: NodeLike, wiring: FlowEdges) -> Reach:
        """The nodes that can be reached from a start, and those of a flow's edges."""
        nodes: list[tuple[NodeLike, Edges]] = []
        shape: list[object] = []
        numbers, reached = {id(END): -1}, 0
        wiring.in_graph = True
        for first in (start, *wiring.sources):
            queue = [] if id(first) in numbers else [first]
            numbers.setdefault(id(first), len(numbers) - 1)
            for node in queue:  # grows during the iteration
                mark_in_graph(node)
                edges: Edges = node.edges
                if own_edges := wiring.of(node):
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
    """The nodes inside of a flow, or of each parallel branch."""
    if node.is_flow:
        return [Reach.of(node.start, node.wiring)]
    return [Reach.of(branch, NO_WIRING) for branch in node.branches]


def composites_in(reaches: Iterable[Reach]) -> Iterator[Composite]:
    """The nodes that contain others, each as often as it is reached."""
    for reach in reaches:
        for node, _ in reach.nodes:
            if isinstance(node, Composite):
                yield node
