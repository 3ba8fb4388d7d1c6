"""The frozen graph of a flow: its nodes under unique names, and its current edges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple, cast

from pocoflow.address import Address
from pocoflow.errors import BudgetError, DefinitionError
from pocoflow.graph.final_actions import ends_of
from pocoflow.graph.listed_edges import GraphEdge, conflicts_in, edges_in
from pocoflow.graph.nesting import inner_first
from pocoflow.graph.reach import NO_WIRING, Edges, Reach, composites_in, reaches_of
from pocoflow.graph.wiring import FlowEdges
from pocoflow.messages import short
from pocoflow.nodes.base import AnyNode, Composite, Node, NodeLike
from pocoflow.nodes.definitions import Phases, declared_actions, location_of, phases_of
from pocoflow.nodes.edges import ANY_ACTION, Catch, wiring_version
from pocoflow.nodes.middleware import NO_MIDDLEWARE
from pocoflow.nodes.node_kinds import AskNode
from pocoflow.nodes.phase_checks import refuse_settings
from pocoflow.nodes.resources import Resource, declared, opens_alike
from pocoflow.nodes.setting_checks import check_settings
from pocoflow.nodes.subflow import Subflow


class GraphLimit(NamedTuple):
    """The limit of an edge.

    Attributes:
        at_most: How often the edge is taken in one entry of its flow.
        then: The vertex where it leads after that; ``None`` is ``END``.
    """

    at_most: int
    then: Vertex | None


class GraphCatch(NamedTuple):
    """Where errors of a node lead.

    Attributes:
        catch: Which errors, as the edge was written.
        target: The vertex that comes next; ``None`` is ``END``.
    """

    catch: Catch
    target: Vertex | None


@dataclass(slots=True, eq=False, repr=False)
class Vertex:
    """A node in one flow's graph.

    Attributes:
        name: Unique in the graph: the node's own name, with ``_2``, ``_3``, ... for namesakes in
            the order in which the graph reaches them.
        node: The node itself, which the graph never changes.
        targets: The next vertex by action, ``"*"`` left out; ``None`` is ``END``.
        fallback: Where ``"*"`` leads; ``None`` if nowhere, or to ``END``.
        limits: The limits of its edges, by action, ``"*"`` included, or by the label of errors.
        straight: The next vertex by action, where nothing else has to be checked: it is not a
            nested flow, and the edge has no limit; else ``None``.
        straight_fallback: The same for any other action.
        catches: Where its errors lead, in the order in which the edges were written.
        ends: The actions that lead to ``END``, ``"*"`` included.
        promised: The actions that the node's class names, of which ``post`` must return one;
            ``None`` if it names none.
        reachable: Whether the start leads here.
        edges: The edges from it, as they were written.
        phases: What is known about its phases; ``None`` for a nested flow.
        declared: The actions that the node can return; ``None`` if its definition leaves them open.
            For a nested flow, the actions that can end it.
        inner: The graph of a nested flow; ``None`` for any other node.
        branches: The graphs of the branches of a parallel node, each starting with a branch.
        is_batch: Whether ``exec`` is called for each item that ``prep`` returns.
        fans_out: Whether it is a batch or has branches.
        is_bare: Whether there is neither a fallback for a failed ``exec`` nor code that makes
            journaled calls, so that the input need not be preserved as ``prep`` returned it.
        has_exec: Whether the node overrides ``exec``, so that there is a result to journal.
        is_answered: Whether what ``exec`` returns is an answer, unless it is a question.
        exec_async: Whether ``exec`` is ``async def``, or every ``exec`` inside is.
        prep_on_loop: Whether ``prep`` may be called on an event loop: it is ``async def``, or it is
            not user code; likewise ``post_on_loop``.
    """

    name: str
    node: AnyNode
    reachable: bool = True
    edges: Edges = field(default_factory=dict)
    targets: dict[str, Vertex | None] = field(default_factory=dict)
    fallback: Vertex | None = None
    limits: dict[str, GraphLimit] = field(default_factory=dict)
    straight: dict[str, Vertex | None] = field(default_factory=dict)
    straight_fallback: Vertex | None = None
    catches: tuple[GraphCatch, ...] = ()
    ends: tuple[str, ...] = ()
    phases: Phases | None = None
    promised: tuple[str, ...] | None = None
    inner: Graph | None = None
    branches: tuple[Graph, ...] = ()
    is_batch: bool = False
    fans_out: bool = False
    is_bare: bool = True
    has_exec: bool = False
    is_answered: bool = False
    exec_async: bool = False
    prep_on_loop: bool = True
    post_on_loop: bool = True

    def __post_init__(self) -> None:
        node = self.node
        if node.is_flow:
            (self.inner,) = graphs_in(node)
            self.exec_async = self.inner.is_async
            return  # it has no phases
        known = self.phases = phases_of(node)
        self.promised, self.is_batch = known.promised, known.is_batch
        self.has_exec, self.is_bare = known.has_exec, known.is_bare
        self.is_answered = isinstance(node, AskNode)
        self.prep_on_loop, self.post_on_loop = known.prep_on_loop, known.post_on_loop
        self.exec_async, self.fans_out = known.exec_async, known.is_batch
        if isinstance(node, Composite):
            self.branches, self.fans_out = graphs_in(node), True
            self.exec_async = all(graph.is_async for graph in self.branches)

    @property
    def only_awaits(self) -> bool:
        """Whether each of its phases is asynchronous, or not user code."""
        if self.inner is not None:
            return self.inner.only_awaits
        is_plain = self.is_bare and not self.fans_out
        return is_plain and self.prep_on_loop and self.exec_async and self.post_on_loop

    @property
    def only_blocks(self) -> bool:
        """Whether its phases may be called in sequence, off an event loop."""
        is_plain = self.is_bare and self.node.max_retries == 1 and self.node.timeout is None
        return is_plain and not (self.fans_out or self.exec_async or self.prep_on_loop)

    @property
    def copies_input(self) -> bool:
        """Whether ``exec`` works on a copy of what ``prep`` returned.

        It does if something that needs the same input may follow: another attempt, the fallback, or
        whatever else the run does while an abandoned attempt is still running.
        """
        node = self.node
        alone = node.max_retries == 1 and node.timeout is None and self.is_bare
        return self.has_exec and not alone

    @property
    def travels(self) -> bool:
        """Whether its ``exec`` may be called by an executor: it is overridden by user code."""
        return self.has_exec and not self.branches and type(self.node).exec is not AskNode.exec

    def connect(self, action: str, target: Vertex | None) -> None:
        """Add an edge from here, after its limit; for the graph alone, while it is being built."""
        is_straight = target is not None and target.inner is None and action not in self.limits
        straight = target if is_straight else None
        if action == ANY_ACTION:
            self.fallback, self.straight_fallback = target, straight
        else:
            self.targets[action], self.straight[action] = target, straight
        if target is None:
            self.ends = (*self.ends, action)

    def catching(self, error: BaseException) -> GraphCatch | None:
        """The first edge that matches an error; ``None`` if there is none."""
        if (match := self.when_spent(error)) is not None:
            return match
        plain = (edge for edge in self.catches if edge.catch.spent is None)
        return next((edge for edge in plain if isinstance(error, edge.catch.kinds)), None)

    def when_spent(self, error: BaseException) -> GraphCatch | None:
        """The first edge that matches a spent budget; ``None`` if there is none."""
        if not isinstance(error, BudgetError):
            return None
        for edge in self.catches:
            spent = edge.catch.spent
            if spent is not None and (not spent or not set(spent).isdisjoint(error.names)):
                return edge
        return None

    def next(self, action: str | None) -> Vertex | None:
        """The next vertex for an action; ``None`` ends this graph.

        An action of ``None`` stands for any that has no edge here.
        """
        return self.fallback if action is None else self.targets.get(action, self.fallback)

    def ends_flow(self, action: str) -> bool:
        """Whether an action ends this graph, by an edge to ``END`` or for lack of any edge."""
        if action in self.targets:
            return self.targets[action] is None
        return self.fallback is None and not self.is_open

    def edge_of(self, action: str | None) -> str:
        """The action under which the edge that an action takes was written."""
        return action if action is not None and action in self.targets else ANY_ACTION

    def leads(self, action: str | None) -> Iterator[Vertex | None]:
        """The vertices to which an action may lead in this graph, including those of limits."""
        yield self.next(action)
        limit = self.limits.get(self.edge_of(action))
        if limit is not None:
            yield limit.then

    @property
    def actions(self) -> list[str]:
        """The actions that have an edge, ``"*"`` included."""
        return [*self.targets, *([ANY_ACTION] if self._catches_all else [])]

    @property
    def within(self) -> tuple[Graph, ...]:
        """The graphs inside of this node: of a nested flow, or of parallel branches."""
        return self.branches if self.inner is None else (self.inner,)

    @property
    def is_open(self) -> bool:
        """Whether an action without an edge is unhandled: it has edges, but none for ``"*"``.

        A node without edges ends the flow.
        """
        return bool(self.targets) and not self._catches_all

    @property
    def _catches_all(self) -> bool:
        return self.fallback is not None or ANY_ACTION in self.ends

    @property
    def declared(self) -> tuple[str, ...] | None:  # noqa: D102 - see the class
        return declared_actions(self.node) if self.inner is None else self.inner.final_actions()

    @property
    def where(self) -> tuple[str, int] | None:
        """File and line of the definition of its class or function; ``None`` without a source."""
        return location_of(self.node)

    def __repr__(self) -> str:
        return f"<Vertex {self.name!r} -> {self.actions}>"


class Graph:
    """The nodes that can be reached from a start node, and those that the flow's edges name.

    It is built once and does not change; after a change of the wiring the flow builds another one.

    Attributes:
        start: The vertex where a run begins.
        nodes: The vertices by name: first those that can be reached, breadth first, then those of
            the flow's edges that cannot.
        shape: Distinguishes it from graphs of the same nodes in this order with other edges.
        conflicts: Edges that do not count, each with the one that does.
        is_async: Whether every ``exec`` in it is asynchronous.
        only_awaits: Whether each phase in it is asynchronous, or not user code.
        resources: The resources that reachable nodes take from the run, including those of nested
            flows, each with the name of the first node that does.
        middleware: The flow's middleware around visits and attempts.
        rules: The flow's rules about the order of visits.
        is_strict: Whether an action without an edge is an error.
        has_own_edges: Whether the flow itself has edges, by ``flow.then``.
        wraps: Whether it, or a flow inside of it, has middleware.
        is_limited: Whether it, or a flow inside of it on the same line, has edges with limits.
        final: The actions that can end it, once they have been computed.
        has_executors: Whether a node in it, at any depth, sets what calls its ``exec``.
    """

    def __init__(self, reach: Reach, wiring: FlowEdges) -> None:
        self.middleware, self.rules = wiring.middleware, (*wiring.rules,)
        self.is_strict = wiring.is_strict
        # By identity: a node may be a dataclass with == and so without a hash.
        self._by_node: dict[int, Vertex] = {}
        self.nodes: dict[str, Vertex] = {}
        self._numbers: dict[str, int] = {}
        self.resources: dict[Resource, str] = {}
        self.wraps, self.has_own_edges = wiring.middleware != NO_MIDDLEWARE, bool(wiring.sources)
        self.is_async = self.only_awaits = True
        self.is_limited = self.has_executors = False
        for number, (node, edges) in enumerate(reach.nodes):
            self._add(node, edges, reachable=number < reach.reached)
        self.start, self.shape = self._by_node[id(reach.nodes[0][0])], reach.shape
        for vertex in self.nodes.values():
            self._connect(vertex)
        self.conflicts = tuple(conflicts_in(self, wiring))
        self.final: tuple[tuple[str, ...] | None] | None = None

    @cached_property
    def edges(self) -> tuple[GraphEdge, ...]:
        """Every edge that counts, by source in the order of the nodes."""
        return tuple(edges_in(self))

    def name_of(self, node: NodeLike) -> str:
        """The name of a node in this graph; its own name if it is not in the graph."""
        known = self._by_node.get(id(node))
        return node.name if known is None else known.name

    def vertex(self, node: NodeLike) -> Vertex:
        """Find a node in the graph.

        Raises:
            DefinitionError: It is not a node, or cannot be reached from the start.
        """
        vertex = self._by_node.get(id(node))
        if vertex is None or not vertex.reachable:
            given: object = node
            names = ", ".join(known.name for known in self.nodes.values() if known.reachable)
            if not isinstance(given, Node):
                what = f"the class {given.__name__}" if isinstance(given, type) else short(given)
                raise DefinitionError(
                    f"resume_from takes a node of this flow, not {what}: pass the object that the "
                    f"flow was made of, or flow.graph.nodes[name].node (nodes: {names})"
                )
            raise DefinitionError(
                f"node {node.name!r} is not in this flow: it cannot be reached from the start node "
                f"{self.start.name!r} (nodes: {names})"
            )
        return vertex

    def levels(self) -> Iterator[tuple[tuple[str, ...], Graph]]:
        """This graph and those of nested flows and branches, each with the names around it."""
        waiting: list[tuple[tuple[str, ...], Graph]] = [((), self)]
        while waiting:
            path, graph = waiting.pop()
            yield path, graph
            waiting += [
                ((*path, vertex.name), inner)
                for vertex in reversed(graph.nodes.values())
                for inner in reversed(vertex.within)
            ]

    def final_actions(self) -> tuple[str, ...] | None:
        """The actions that can end the flow; ``None`` if a definition leaves them open.

        Edges for actions that the nodes cannot return do not count.
        """
        if self.final is None:
            for graph in self.inner_first():
                if graph.final is None:
                    graph.final = (ends_of(graph, attrgetter("declared")),)
        return None if self.final is None else self.final[0]

    def inner_first(self) -> Iterator[Graph]:
        """The graphs of nested flows and branches, each once and after those inside of it."""

        def inside(graph: Graph) -> Iterator[Graph]:
            return (inner for vertex in graph.nodes.values() for inner in vertex.within)

        return inner_first(self, inside)

    def to_mermaid(self, marks: Mapping[str, str] | None = None) -> str:
        """Draw the graph as a Mermaid flowchart.

        Args:
            marks: Severity by name, for nodes to be coloured: ``error``, ``warning`` or ``note``.
                A nested node is named with its path, ``outer/inner``.
        """
        from pocoflow.graph.render import to_mermaid

        return to_mermaid(self, marks or {})

    def to_dot(self, marks: Mapping[str, str] | None = None) -> str:
        """Draw the graph in the DOT language of Graphviz; ``marks`` as in :meth:`to_mermaid`."""
        from pocoflow.graph.render import to_dot

        return to_dot(self, marks or {})

    def find(self, node: NodeLike) -> tuple[tuple[str, ...], Vertex] | None:
        """A node in this graph or nested in it, with the names around it."""
        return next(
            (
                (path, vertex)
                for path, graph in self.levels()
                for vertex in graph.nodes.values()
                if vertex.node is node
            ),
            None,
        )

    # -- building -------------------------------------------------------------------------------

    def _add(self, node: NodeLike, edges: Edges, *, reachable: bool) -> None:
        check_settings(node)
        vertex = Vertex(self._unique(node.name), cast(AnyNode, node), reachable, edges)
        self._by_node[id(node)] = self.nodes[vertex.name] = vertex
        self.is_async = self.is_async and vertex.exec_async
        self.only_awaits = self.only_awaits and vertex.only_awaits
        if reachable:
            for resource in declared(node):
                self._want(resource, vertex.name)
        if vertex.branches:
            refuse_settings(node)
        elif vertex.phases is not None:
            self.has_executors = self.has_executors or vertex.node.executor is not None
            return
        self.is_limited = self.is_limited or (vertex.inner is not None and vertex.inner.is_limited)
        for graph in vertex.within:
            self.wraps = self.wraps or graph.wraps
            self.has_executors = self.has_executors or graph.has_executors
            for resource, name in graph.resources.items() if reachable else ():
                self._want(resource, label(name, (vertex.name,)))

    def _want(self, resource: Resource, name: str) -> None:
        """Record a resource that a node takes.

        Raises:
            DefinitionError: Another node opens the same resource in another way.
        """
        if resource in self.resources:
            for known, node in self.resources.items():
                if known == resource and not opens_alike(known, resource):
                    raise DefinitionError(
                        f"nodes {node!r} and {name!r} take {resource!r} by two keys, which open it "
                        "in two ways: import the key from where it is defined, or give one of "
                        "them another name"
                    )
        self.resources.setdefault(resource, name)

    def _unique(self, name: str) -> str:
        if name not in self.nodes:
            return name
        number = self._numbers.get(name, 1) + 1
        while f"{name}_{number}" in self.nodes:
            number += 1
        self._numbers[name] = number
        return f"{name}_{number}"

    def _connect(self, vertex: Vertex) -> None:
        vertices = self._by_node
        for action, edge in vertex.edges.items():
            target = vertices.get(id(edge.target))  # there is none for END
            if edge.limit is not None:
                at_most, then = edge.limit
                vertex.limits[action] = GraphLimit(at_most, vertices.get(id(then)))
                self.is_limited = True
            if edge.catch is None:
                vertex.connect(action, target)
            else:
                vertex.catches = (*vertex.catches, GraphCatch(edge.catch, target))


def label(node: str, path: tuple[str, ...]) -> str:
    """A node's path and name as one text, as the database and the monitor show it."""
    return Address(path, node).text


def graphs_in(node: object) -> tuple[Graph, ...]:
    """The graphs inside of a node, as currently wired: of a flow, or of parallel branches.

    Inner graphs are built first, starting with the innermost, to any depth.

    Raises:
        DefinitionError: The flow contains itself.
    """
    if not isinstance(node, Composite):
        return ()
    if not _is_built(node):
        version, reaches = wiring_version(), reaches_of(node)
        if any(composites_in(reaches)):
            _build_inner_first(node, version)
        else:
            node.built = version, _build(node, reaches)
    return node.built[1] if node.built is not None else ()


def _build_inner_first(node: Composite, version: int) -> None:
    reaches_by_id: dict[int, list[Reach]] = {}

    def inside(composite: Composite) -> Iterator[Composite]:
        reaches_by_id[id(composite)] = reaches = reaches_of(composite)
        return composites_in(reaches)

    for composite in inner_first(node, inside):
        if not _is_built(composite):
            composite.built = version, _build(composite, reaches_by_id[id(composite)])


def _build(node: Any, reaches: list[Reach]) -> tuple[Graph, ...]:
    if isinstance(node, Subflow):
        return graphs_in(node.flow)
    wiring = node.wiring if node.is_flow else NO_WIRING
    return tuple(Graph(reach, wiring) for reach in reaches)


def _is_built(node: Any) -> bool:
    known = node.built
    if known is None or known[0] != wiring_version():
        return False
    return not node.is_flow or known[1][0].start.node is node.start
