"""The picture of a flow: its nodes under unique names, and its edges, as they stand now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import Any

from pocoflow.errors import DefinitionError
from pocoflow.node import ANY_ACTION, Node, check_settings

__all__ = ["Graph", "GraphNode", "label"]


class GraphNode:
    """A node in one flow's graph.

    Attributes:
        name: Unique in the graph: the node's own name, with ``_2``, ``_3``, ... for namesakes in
            the order in which the graph reaches them.
        node: The node itself; the picture never changes it.
        targets: The next graph node by action, ``"*"`` left out.
        fallback: Where ``"*"`` leads, or ``None``.
        inner: The graph of a nested flow; ``None`` for a node that works itself.
        is_batch: Whether ``exec`` is called for each item that ``prep`` gives.
        has_exec: Whether the node overrides ``exec``, so that there is a result to journal.
        prep_async: Whether ``prep`` is ``async def``; likewise ``exec_async``, ``post_async``.
    """

    __slots__ = (
        "exec_async",
        "fallback",
        "has_exec",
        "inner",
        "is_batch",
        "name",
        "node",
        "post_async",
        "prep_async",
        "targets",
    )

    def __init__(self, name: str, node: Node[Any, Any, Any]) -> None:
        self.name = name
        self.node = node
        self.targets: dict[str, GraphNode] = {}
        self.fallback: GraphNode | None = None
        self.is_batch = node.is_batch
        self.inner: Graph | None = _inner_graph(node)
        self.has_exec = type(node).exec is not Node.exec
        # A synchronous phase must be kept off an event loop, an asynchronous one called on it.
        self.prep_async = iscoroutinefunction(node.prep)
        self.exec_async = iscoroutinefunction(node.exec)
        self.post_async = iscoroutinefunction(node.post)

    def first(self) -> tuple[GraphNode, tuple[str, ...]]:
        """The node where work begins: itself, or the start of the flow that it is; and the path."""
        place: GraphNode = self
        path: tuple[str, ...] = ()
        while place.inner is not None:
            place, path = place.inner.start, (*path, place.name)
        return place, path

    def next(self, action: str) -> GraphNode | None:
        """Where an action leads; ``None`` ends the run."""
        return self.targets.get(action, self.fallback)

    @property
    def actions(self) -> list[str]:
        """The actions that have an edge, ``"*"`` included."""
        return [*self.targets, *([ANY_ACTION] if self.fallback is not None else [])]

    def __repr__(self) -> str:
        return f"<GraphNode {self.name!r} -> {self.actions}>"


class Graph:
    """All nodes that can be reached from a start node.

    Attributes:
        start: Where a run begins.
        nodes: The graph nodes by name, in the order in which they are reached (breadth first).
    """

    __slots__ = ("_by_node", "nodes", "start")

    def __init__(self, start: Node[Any, Any, Any]) -> None:
        # By identity: a node may be a dataclass with == and so without a hash.
        self._by_node: dict[int, GraphNode] = {}
        self.nodes: dict[str, GraphNode] = {}
        for node in _reachable(start):
            check_settings(node)
            place = GraphNode(self._unique(node.name), node)
            self._by_node[id(node)] = place
            self.nodes[place.name] = place
        for place in self.nodes.values():
            for action, edge in place.node.edges.items():
                if action == ANY_ACTION:
                    place.fallback = self._by_node[id(edge.target)]
                else:
                    place.targets[action] = self._by_node[id(edge.target)]
        self.start = self._by_node[id(start)]

    def place(self, node: Node[Any, Any, Any]) -> GraphNode:
        """Find a node in the graph.

        Raises:
            DefinitionError: The node cannot be reached from the start.
        """
        try:
            return self._by_node[id(node)]
        except KeyError:
            raise DefinitionError(
                f"node {node.name!r} is not in this flow: it cannot be reached from the start node "
                f"{self.start.name!r} (nodes: {', '.join(self.nodes)})"
            ) from None

    def namesakes(self) -> list[str]:
        """Names that more than one node has by itself, in the order of the graph."""
        counts: dict[str, int] = {}
        for place in self.nodes.values():
            own = place.node.name
            counts[own] = counts.get(own, 0) + 1
        return [name for name, count in counts.items() if count > 1]

    def edges(self) -> Iterator[tuple[str, str, str]]:
        """Every edge as (source name, action, target name)."""
        for place in self.nodes.values():
            for action, target in place.targets.items():
                yield place.name, action, target.name
            if place.fallback is not None:
                yield place.name, ANY_ACTION, place.fallback.name

    def _unique(self, name: str) -> str:
        if name not in self.nodes:
            return name
        number = 2
        while f"{name}_{number}" in self.nodes:
            number += 1
        return f"{name}_{number}"


def label(node: str, path: tuple[str, ...]) -> str:
    """A node as the database and the monitor show it: the nested flows around it, and its name."""
    return "/".join((*path, node)) if path else node


def _inner_graph(node: Node[Any, Any, Any]) -> Graph | None:
    if not node.is_flow:
        return None
    if any(outer is node for outer in _being_drawn.get()):
        raise DefinitionError(f"flow {node.name!r} contains itself")
    token = _being_drawn.set((*_being_drawn.get(), node))
    try:
        graph: Graph = getattr(node, "graph")  # noqa: B009 - the property of Flow, a room above
    finally:
        _being_drawn.reset(token)
    return graph


_being_drawn: ContextVar[tuple[Node[Any, Any, Any], ...]] = ContextVar("being_drawn", default=())


def _reachable(start: Node[Any, Any, Any]) -> Iterable[Node[Any, Any, Any]]:
    """The nodes reachable from ``start``, each once, breadth first in the order of the edges."""
    found, queue = {id(start)}, [start]
    for node in queue:
        for edge in node.edges.values():
            if id(edge.target) not in found:
                found.add(id(edge.target))
                queue.append(edge.target)
    return queue
