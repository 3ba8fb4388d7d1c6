"""The edges of a graph as a list: for drawings, fingerprints and findings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pocoflow.nodes.base import NodeLike
from pocoflow.nodes.edges import DEFAULT_ACTION, Edge, End, Writer

if TYPE_CHECKING:
    from pocoflow.graph.graph import Graph
    from pocoflow.graph.wiring import FlowEdges


class GraphEdge(NamedTuple):
    """An edge of the graph.

    Attributes:
        source: Name of the vertex that it leaves.
        action: The action that takes it; ``"*"`` is any action without an edge of its own. For an
            edge that errors take, ``except`` and their classes.
        target: Name of the vertex that it leads to; ``None`` is ``END``.
        file: The file it is written in.
        line: The line in it.
        written: ``"node"`` for ``node.then``, ``"flow"`` for ``flow.then``.
        is_error: Whether errors take it.
        at_most: How often it is taken before ``then=`` counts; ``None`` if it has no limit.
        is_after: Whether it is where a limited edge leads once it has reached its limit.
    """

    source: str
    action: str
    target: str | None
    file: str
    line: int
    written: Writer
    is_error: bool = False
    at_most: int | None = None
    is_after: bool = False

    @property
    def label(self) -> str:
        """Its label in a drawing."""
        action = "" if self.action == DEFAULT_ACTION else self.action
        if self.at_most is None:
            return action
        limit = f"{'after' if self.is_after else 'at most'} {self.at_most}"
        return f"{action}, {limit}" if action else limit


class Conflict(NamedTuple):
    """Two edges for one action of one node, to different targets; one of them counts.

    Attributes:
        kept: The edge that counts: the flow's before the node's, the later before the earlier.
        dropped: The other one. Its target may be a node that is not in the graph.
    """

    kept: GraphEdge
    dropped: GraphEdge


def edges_in(graph: Graph) -> Iterator[GraphEdge]:
    """Every edge that counts, by source in the order of the nodes."""
    for vertex in graph.nodes.values():
        for edge in vertex.edges.values():
            listed = _listed(graph, vertex.name, edge)
            yield listed
            if edge.limit is not None:
                yield listed._replace(target=_name(graph, edge.limit.then), is_after=True)


def conflicts_in(graph: Graph, wiring: FlowEdges) -> Iterator[Conflict]:
    """The edges that do not count, each with the one that does; ``wiring`` is that of the flow."""
    for node, before, after in wiring.replaced:
        name = graph.name_of(node)
        yield Conflict(_listed(graph, name, after), _listed(graph, name, before))
    for vertex in graph.nodes.values():
        for before, after in vertex.node.replaced:
            yield Conflict(_listed(graph, vertex.name, after), _listed(graph, vertex.name, before))
    for node in wiring.sources:
        name = graph.name_of(node)
        for action, edge in wiring.of(node).items():
            dropped = node.edges.get(action)
            if dropped is not None and not edge.leads_like(dropped):
                yield Conflict(_listed(graph, name, edge), _listed(graph, name, dropped))


def _listed(graph: Graph, source: str, edge: Edge[NodeLike]) -> GraphEdge:
    at_most = None if edge.limit is None else edge.limit.at_most
    facts = (edge.file, edge.line, edge.written, edge.catch is not None, at_most)
    return GraphEdge(source, edge.action, _name(graph, edge.target), *facts)


def _name(graph: Graph, target: NodeLike | End) -> str | None:
    return None if isinstance(target, End) else graph.name_of(target)
