"""The picture of a flow: its nodes under unique names, and its edges, as they stand now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import iscoroutinefunction, unwrap
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, cast

from pocoflow.address import Address
from pocoflow.errors import BudgetError, DefinitionError
from pocoflow.graph.wiring import Conflict, FlowEdges, GraphEdge, Writer
from pocoflow.messages import short
from pocoflow.nodes.base import AnyNode, Composite, Node, NodeLike
from pocoflow.nodes.definitions import (
    declared_actions,
    makes_calls,
    place_of,
    promised_actions,
)
from pocoflow.nodes.edges import ANY_ACTION, DEFAULT_ACTION, Catch, Edge, End, wiring_version
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.middleware import NO_MIDDLEWARE
from pocoflow.nodes.node_kinds import AskNode, BatchNode
from pocoflow.nodes.porting import check_phases
from pocoflow.nodes.resources import Resource, declared, opens_alike
from pocoflow.nodes.settings import check_settings
from pocoflow.nodes.subflow import Subflow

if TYPE_CHECKING:
    from pocoflow.graph.render import DrawnRule, Picture

_Node: TypeAlias = NodeLike

_NO_FALLBACK = (Node.exec_fallback, BatchNode.exec_fallback)

_QUICK = ("pocoflow.nodes.base", "pocoflow.nodes.node_kinds", "pocoflow.nodes.function")


class GraphLimit(NamedTuple):
    """The limit of an edge.

    Attributes:
        at_most: How often the edge is taken in one entry of its flow.
        then: The graph node where it leads after that; ``None`` is ``END``.
    """

    at_most: int
    then: GraphNode | None


class GraphCatch(NamedTuple):
    """Where errors of a node lead.

    Attributes:
        kinds: The classes of exceptions.
        target: The graph node that comes next; ``None`` is ``END``.
        catch: What the edge was written with.
    """

    kinds: tuple[type[Exception], ...]
    target: GraphNode | None
    catch: Catch


@dataclass(slots=True, eq=False, repr=False)
class GraphNode:
    """A node in one flow's graph.

    Attributes:
        name: Unique in the graph: the node's own name, with ``_2``, ``_3``, ... for namesakes in
            the order in which the graph reaches them.
        node: The node itself; the picture never changes it.
        targets: The next graph node by action, ``"*"`` left out; ``None`` is ``END``.
        fallback: Where ``"*"`` leads; ``None`` if nowhere, or to ``END``.
        limits: The limits of its edges, by action, ``"*"`` included, or by the label of errors.
        straight: The next graph node by action, where there is no more to look at: it is a node
            that works itself, and the edge has no limit; else ``None``.
        straight_fallback: The same for any other action.
        catches: Where its errors lead, in the order in which the edges were written.
        ends: The actions that lead to ``END``, ``"*"`` included.
        is_open: Whether an action without an edge is unhandled: the node has edges, none for
            ``"*"``. A node without edges is an end.
        promised: The actions that the node's class names, of which ``post`` must return one;
            ``None`` if it names none.
        reachable: Whether the start leads here.
        declared: The actions that the node can return; ``None`` if its definition does not tell.
            Those of a nested flow are the ones that can end it.
        inner: The graph of a nested flow; ``None`` for a node that works itself.
        branches: The graphs of the branches of a parallel node, of which each begins with a branch.
        is_batch: Whether ``exec`` is called for each item that ``prep`` gives.
        spreads: Whether it is a batch or has branches.
        is_bare: Whether nothing gives a result in the place of an ``exec`` that failed, and nothing
            in its code makes journaled calls, so that nothing needs its input as ``prep`` gave it.
        has_exec: Whether the node overrides ``exec``, so that there is a result to journal.
        exec_async: Whether ``exec`` is ``async def``.
        prep_on_loop: Whether ``prep`` may be called on an event loop: it is ``async def``, or it is
            none of the user's; likewise ``post_on_loop``.
    """

    name: str
    node: AnyNode
    reachable: bool = True
    targets: dict[str, GraphNode | None] = field(default_factory=dict)
    fallback: GraphNode | None = None
    limits: dict[str, GraphLimit] = field(default_factory=dict)
    straight: dict[str, GraphNode | None] = field(default_factory=dict)
    straight_fallback: GraphNode | None = None
    catches: tuple[GraphCatch, ...] = ()
    ends: tuple[str, ...] = ()
    is_open: bool = False
    promised: tuple[str, ...] | None = None
    inner: Graph | None = None
    branches: tuple[Graph, ...] = ()
    is_batch: bool = False
    spreads: bool = False
    is_bare: bool = True
    has_exec: bool = False
    exec_async: bool = False
    prep_on_loop: bool = True
    post_on_loop: bool = True

    def __post_init__(self) -> None:
        node = self.node
        if node.is_flow:
            (self.inner,) = graphs_in(node)
            return  # it has no phases
        self.promised, self.branches = promised_actions(node), graphs_in(node)
        self.is_batch = node.is_batch
        self.spreads = self.is_batch or bool(self.branches)
        self.has_exec = type(node).exec is not Node.exec
        self.is_bare = getattr(node.exec_fallback, "__func__", None) in _NO_FALLBACK
        self.is_bare = self.is_bare and not _makes_calls(node)
        # A synchronous phase must be kept off an event loop, an asynchronous one called on it.
        self.prep_on_loop = _is_quick(node.prep)
        self.exec_async = _is_async(getattr(node.exec, "__func__", node.exec))
        self.post_on_loop = _is_quick(node.post)
        if self.branches:
            self.exec_async = all(graph.is_async for graph in self.branches)

    @property
    def only_awaits(self) -> bool:
        """Whether each of its phases is asynchronous, or none of the user's."""
        is_plain = self.is_bare and not self.spreads
        return is_plain and self.prep_on_loop and self.exec_async and self.post_on_loop

    @property
    def only_blocks(self) -> bool:
        """Whether its phases may be called one after the other, off an event loop."""
        is_plain = self.is_bare and self.node.max_retries == 1 and self.node.timeout is None
        return is_plain and not (self.spreads or self.exec_async or self.prep_on_loop)

    @property
    def travels(self) -> bool:
        """Whether its ``exec`` may be called by an executor: it does work, and of its own."""
        return self.has_exec and not self.branches and type(self.node).exec is not AskNode.exec

    def connect(
        self, action: str, target: GraphNode | None, limit: GraphLimit | None = None
    ) -> None:
        """Draw an edge from here; for the graph alone, while it is being drawn."""
        if limit is not None:
            self.limits[action] = limit
        is_straight = target is not None and target.inner is None and limit is None
        straight = target if is_straight else None
        if action == ANY_ACTION:
            self.fallback, self.straight_fallback = target, straight
        else:
            self.targets[action], self.straight[action] = target, straight
        if target is None:
            self.ends = (*self.ends, action)
        self.is_open = bool(self.targets) and not self._catches_all

    def connect_errors(
        self, catch: Catch, target: GraphNode | None, limit: GraphLimit | None
    ) -> None:
        """Draw an edge that errors take; for the graph alone, while it is being drawn."""
        if limit is not None:
            self.limits[catch.label] = limit
        self.catches = (*self.catches, GraphCatch(catch.kinds, target, catch))

    def catching(self, error: BaseException) -> GraphCatch | None:
        """The first edge that an error takes, if there is one."""
        if (found := self.when_spent(error)) is not None:
            return found
        fits = (one for one in self.catches if one.catch.spent is None)
        return next((one for one in fits if isinstance(error, one.kinds)), None)

    def when_spent(self, error: BaseException) -> GraphCatch | None:
        """The first edge for a budget that is spent, if there is one, and it is about that."""
        if not isinstance(error, BudgetError):
            return None
        for one in self.catches:
            spent = one.catch.spent
            if spent is not None and (not spent or not set(spent).isdisjoint(error.names)):
                return one
        return None

    def next(self, action: str | None) -> GraphNode | None:
        """Where an action leads in this graph; ``None`` ends it.

        An action of ``None`` is any that has no edge here.
        """
        return self.fallback if action is None else self.targets.get(action, self.fallback)

    def ends_flow(self, action: str) -> bool:
        """Whether an action ends this graph, as an edge to ``END`` says, or as there is none."""
        known = self.targets
        return self.next(action) is None and (action in known or not self.is_open)

    def edge_of(self, action: str | None) -> str:
        """The action for which the edge that an action takes was written."""
        return action if action is not None and action in self.targets else ANY_ACTION

    def leads(self, action: str | None) -> Iterator[GraphNode | None]:
        """Each of the nodes where an action may lead in this graph, limits included."""
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
    def _catches_all(self) -> bool:
        return self.fallback is not None or ANY_ACTION in self.ends

    @property
    def declared(self) -> tuple[str, ...] | None:  # noqa: D102 - see the class
        return declared_actions(self.node) if self.inner is None else self.inner.final_actions()

    @property
    def where(self) -> tuple[str, int] | None:
        """File and line of the definition of its class or function, if it has a source."""
        return place_of(self.node)

    def __repr__(self) -> str:
        return f"<GraphNode {self.name!r} -> {self.actions}>"


class Graph:
    """The nodes that can be reached from a start node, and those that the flow's edges name.

    It is drawn once and does not change; a change of the wiring makes the flow draw another one.

    Attributes:
        start: Where a run begins.
        nodes: The graph nodes by name: first those that can be reached, in the order in which they
            are (breadth first), then those of the flow's edges that cannot.
        edges: Every edge that counts, by source in the order of the nodes.
        conflicts: Edges that do not count, each with the one that does.
        is_async: Whether every ``exec`` in it is asynchronous.
        only_awaits: Whether each phase in it is asynchronous, or none of the user's.
        resources: What the nodes that can be reached take from the run, those of nested flows
            included, each with the name of the first that does.
        middleware: What the flow has around visits of nodes and attempts.
        rules: What the flow says of the order of visits.
        is_strict: Whether an action without an edge is an error.
        wraps: Whether it, or a flow inside of it, has some.
        is_limited: Whether it, or a flow inside of it on the same line, has edges with limits.
        is_looked_at: Whether some runs of it have budgets.
        has_executors: Whether a node in it, or inside of one, says what calls its ``exec``.
    """

    def __init__(self, start: _Node, own: FlowEdges | None = None) -> None:
        own = FlowEdges() if own is None else own
        self.middleware, self.is_strict = own.middleware, own.is_strict
        # By identity: a node may be a dataclass with == and so without a hash.
        self._by_node: dict[int, GraphNode] = {}
        self.nodes: dict[str, GraphNode] = {}
        self._numbers: dict[str, int] = {}
        self.resources: dict[Resource, str] = {}
        reached = _closure([start], own, ())
        self._name_nodes(reached, True)
        self._name_nodes(_closure(own.sources, own, reached), False)
        self.start = self._by_node[id(start)]
        self.edges = tuple(self._draw(own))
        within = (graph for place in self.nodes.values() for graph in place.within)
        self.wraps: bool = own.middleware != NO_MIDDLEWARE or any(graph.wraps for graph in within)
        self.conflicts = tuple(self._conflicts(own))
        self.rules = tuple(own.rules)
        self.is_async: bool = all(
            all(graph.is_async for graph in place.within) if place.within else place.exec_async
            for place in self.nodes.values()
        )
        self.only_awaits: bool = all(
            place.inner.only_awaits if place.inner is not None else place.only_awaits
            for place in self.nodes.values()
        )
        self.is_limited: bool = any(
            bool(place.limits) or (place.inner is not None and place.inner.is_limited)
            for place in self.nodes.values()
        )
        self.has_executors: bool = any(
            any(graph.has_executors for graph in place.within)
            if place.within
            else place.node.executor is not None
            for place in self.nodes.values()
        )
        self._final: tuple[tuple[str, ...] | None] | None = None
        self.is_looked_at = False

    def look_at_each(self) -> None:
        """Leave no edge straight, here and inside, for runs whose budgets are looked at there."""
        if self.is_looked_at:
            return
        for place in self.nodes.values():
            place.straight, place.straight_fallback = {}, None
            for graph in place.within:
                graph.look_at_each()
        self.is_looked_at = True

    def place(self, node: _Node) -> GraphNode:
        """Find a node in the graph.

        Raises:
            DefinitionError: It is no node, or cannot be reached from the start.
        """
        found = self._by_node.get(id(node))
        if found is None or not found.reachable:
            given: object = node
            names = ", ".join(one.name for one in self.nodes.values() if one.reachable)
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
        return found

    def levels(self) -> Iterator[tuple[tuple[str, ...], Graph]]:
        """This graph and those of nested flows and branches, each with the names around it."""
        waiting: list[tuple[tuple[str, ...], Graph]] = [((), self)]
        while waiting:
            path, graph = waiting.pop()
            yield path, graph
            waiting += [
                ((*path, place.name), inner)
                for place in reversed(graph.nodes.values())
                for inner in reversed(place.within)
            ]

    def final_actions(self) -> tuple[str, ...] | None:
        """The actions that can end the flow; ``None`` if a definition leaves them open.

        Only what the actions of its nodes can lead to counts, whatever edges there are.
        """
        if self._final is None:
            for other in self.inner_first():
                if other._final is None:
                    other._final = (other._ends(),)
        return None if self._final is None else self._final[0]

    def inner_first(self) -> Iterator[Graph]:
        """The graphs of nested flows and branches, each once and after those inside of it."""

        def inside(graph: Graph) -> Iterator[Graph]:
            return (inner for place in graph.nodes.values() for inner in place.within)

        return _inner_first(self, inside)

    def _ends(self) -> tuple[str, ...] | None:
        found: dict[str, None] = {}
        met: dict[int, GraphNode] = {id(self.start): self.start}
        queue = [self.start]
        for place in queue:  # grows while it is walked through
            declared = place.declared
            actions = tuple(place.targets) if declared is None else declared
            if declared is None and place.fallback is None:
                return None
            given = [*actions, *((ANY_ACTION,) if declared is None else ())]
            leads = [(one, target) for one in given for target in place.leads(one)]
            for one in place.catches:
                limit = place.limits.get(one.catch.label)
                ends = (one.target,) if limit is None else (one.target, limit.then)
                leads += [(DEFAULT_ACTION, target) for target in ends]
            for action, target in leads:
                if target is None:
                    found[action] = None
                elif id(target) not in met:
                    met[id(target)] = target
                    queue.append(target)
        return tuple(found)

    def namesakes(self) -> list[str]:
        """Names that more than one node has by itself, in the order of the graph."""
        counts: dict[str, int] = {}
        for place in self.nodes.values():
            own = place.node.name
            counts[own] = counts.get(own, 0) + 1
        return [name for name, count in counts.items() if count > 1]

    def to_mermaid(self, marks: Mapping[str, str] | None = None) -> str:
        """Draw the graph as a Mermaid flowchart.

        Args:
            marks: Severity by name, for nodes to be coloured: ``error``, ``warning`` or ``note``.
                A node inside of another one is named with its path, ``outer/inner``.
        """
        from pocoflow.graph.render import to_mermaid

        return to_mermaid(self.picture(), marks or {})

    def to_dot(self, marks: Mapping[str, str] | None = None) -> str:
        """Draw the graph in the DOT language of Graphviz; ``marks`` as in :meth:`to_mermaid`."""
        from pocoflow.graph.render import to_dot

        return to_dot(self.picture(), marks or {})

    def picture(self) -> Picture:
        """The graph as it is drawn, with those of nested flows and branches inside of their nodes.

        An edge for the default action has no label.
        """
        from pocoflow.graph.render import Picture

        drawn: dict[int, Picture] = {}
        for graph in self.inner_first():
            drawn[id(graph)] = Picture(
                graph.start.name,
                [
                    (name, [drawn[id(one)] for one in place.within])
                    for name, place in graph.nodes.items()
                ],
                graph.edges,
                graph.drawn_rules(),
            )
        return drawn[id(self)]

    def find(self, node: _Node) -> tuple[tuple[str, ...], GraphNode] | None:
        """A node in here or inside of one of its nodes, with the names around it."""
        return next(
            (
                (path, place)
                for path, graph in self.levels()
                for place in graph.nodes.values()
                if place.node is node
            ),
            None,
        )

    def drawn_rules(self) -> list[DrawnRule]:
        """The rules of the flow as they are drawn."""
        from pocoflow.graph.render import DrawnRule

        found = []
        for rule in self.rules:
            ends = [(*one[0], one[1].name) for one in map(self.find, rule.drawn) if one is not None]
            if len(ends) == 2:
                found.append(DrawnRule(ends[0], rule.label, ends[1], rule.kind == "never after"))
        return found

    # -- drawing --------------------------------------------------------------------------------

    def _name_nodes(self, nodes: Iterable[_Node], reachable: bool) -> None:
        for node in nodes:
            check_phases(node)
            check_settings(node)
            place = GraphNode(self._unique(node.name), cast(AnyNode, node), reachable)
            self._by_node[id(node)] = place
            self.nodes[place.name] = place
            if reachable and isinstance(node, Node):
                for resource in declared(node):
                    self._want(resource, place.name)
            for graph in place.within if reachable else ():
                for resource, name in graph.resources.items():
                    self._want(resource, label(name, (place.name,)))

    def _want(self, resource: Resource, name: str) -> None:
        """Note what a node takes.

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

    def _draw(self, own: FlowEdges) -> Iterator[GraphEdge]:
        for place in self.nodes.values():
            flow_edges = own.of(place.node)
            for action, edge in {**place.node.edges, **flow_edges}.items():
                target, limit = self._drawn(edge.target), edge.limit
                drawn = (
                    None if limit is None else GraphLimit(limit.at_most, self._drawn(limit.then))
                )
                if edge.catch is None:
                    place.connect(action, target, drawn)
                else:
                    place.connect_errors(edge.catch, target, drawn)
                written: Writer = "flow" if action in flow_edges else "node"
                one = self._edge(place, edge, written)
                yield one
                if drawn is not None:
                    then = None if drawn.then is None else drawn.then.name
                    yield one._replace(target=then, is_after=True)

    def _drawn(self, target: NodeLike | End) -> GraphNode | None:
        return None if isinstance(target, End) else self._by_node[id(target)]

    def _edge(self, place: GraphNode, edge: Edge, written: Writer) -> GraphEdge:
        name = None
        if not isinstance(edge.target, End):
            known = self._by_node.get(id(edge.target))
            name = edge.target.name if known is None else known.name
        is_error, limit = edge.catch is not None, edge.limit
        at_most = None if limit is None else limit.at_most
        facts = (edge.file, edge.line, written, is_error, at_most)
        return GraphEdge(place.name, edge.action, name, *facts)

    def _conflicts(self, own: FlowEdges) -> Iterator[Conflict]:
        for node, before, after in own.replaced:
            place = self._by_node[id(node)]
            yield Conflict(self._edge(place, after, "flow"), self._edge(place, before, "flow"))
        for place in self.nodes.values():
            for before, after in place.node.replaced:
                yield Conflict(self._edge(place, after, "node"), self._edge(place, before, "node"))
            node_edges = place.node.edges
            for action, kept in own.of(place.node).items():
                edge = node_edges.get(action)
                if edge is not None and not kept.leads_like(edge):
                    yield Conflict(self._edge(place, kept, "flow"), self._edge(place, edge, "node"))


def label(node: str, path: tuple[str, ...]) -> str:
    """A node as the database and the monitor show it: the nested flows around it, and its name."""
    return Address(path, node).text


def _is_quick(phase: object) -> bool:
    """Whether a phase returns at once: a coroutine, or because it does no work of the user's."""
    if _is_async(getattr(phase, "__func__", phase)):
        return True
    owner = getattr(phase, "__self__", None)
    works = isinstance(owner, FunctionNode) and owner.signature.takes_store
    return getattr(phase, "__module__", "") in _QUICK and not works


def _makes_calls(node: AnyNode) -> bool:
    """Whether the code of its ``exec`` shows that it makes journaled calls."""
    functions: list[Any] = [getattr(type(node), name, None) for name in ("exec", "exec_async")]
    if isinstance(node, FunctionNode):
        functions = [node.signature.function]
    codes = [getattr(unwrap(one), "__code__", None) for one in functions if one is not None]
    return any(makes_calls(code) for code in codes if code is not None)


def _is_async(function: object) -> bool:
    # An object that can be called need not have a hash.
    return (_is_coroutine if isinstance(function, FunctionType) else iscoroutinefunction)(function)


_is_coroutine = lru_cache(maxsize=4096)(iscoroutinefunction)


def graphs_in(node: object) -> tuple[Graph, ...]:
    """The graphs inside of a node, as it is wired now: of a flow, or of parallel branches.

    What is inside of it is drawn first, the innermost first of all, however deep that is.

    Raises:
        DefinitionError: The flow contains itself.
    """
    if not isinstance(node, Composite):
        return ()
    if not _is_drawn(node):
        for one in _inner_first(node, _composites):
            if not _is_drawn(one):
                version = wiring_version()
                one.drawn = version, _draw_inside(one)
    return node.drawn[1] if node.drawn is not None else ()


def _is_drawn(node: Any) -> bool:
    known = node.drawn
    if known is None or known[0] != wiring_version():
        return False
    return not node.is_flow or known[1][0].start.node is node.start


def _draw_inside(node: Any) -> tuple[Graph, ...]:
    if node.is_flow:
        return (Graph(node.start, node.wiring),)
    if isinstance(node, Subflow):
        return graphs_in(node.flow)
    return tuple(Graph(branch) for branch in node.branches)


def _composites(node: Any) -> Iterator[Composite]:
    """The nodes directly inside of a flow, or of parallel branches, that have others inside."""
    if node.is_flow:
        own, starts = node.wiring, [node.start]
    else:
        own, starts = FlowEdges(), node.branches
    for one in _closure([*starts, *own.sources], own, ()):
        if isinstance(one, Composite):
            yield one


ThingT = TypeVar("ThingT")


def _inner_first(start: ThingT, inside: Callable[[ThingT], Iterable[ThingT]]) -> Iterator[ThingT]:
    """A thing and all that is inside of it, each once, after what is inside of itself.

    Raises:
        DefinitionError: Something is inside of itself.
    """
    done: set[int] = set()
    around = {id(start)}
    path = [(start, iter(inside(start)))]
    while path:
        thing, rest = path[-1]
        part = next((one for one in rest if id(one) not in done), None)
        if part is None:
            path.pop()
            around.discard(id(thing))
            done.add(id(thing))
            yield thing
        elif id(part) in around:
            kind = "flow" if getattr(part, "is_flow", False) else "parallel node"
            raise DefinitionError(f"{kind} {getattr(part, 'name', part)!r} contains itself")
        else:
            around.add(id(part))
            path.append((part, iter(inside(part))))


def _closure(starts: Iterable[_Node], own: FlowEdges, known: Iterable[_Node]) -> list[_Node]:
    """What can be reached from ``starts``, each node once, breadth first, without the known."""
    found = {id(node) for node in known}
    queue: list[_Node] = []
    for start in starts:
        position = len(queue)
        if id(start) not in found:
            found.add(id(start))
            queue.append(start)
        while position < len(queue):
            node = queue[position]
            edges = node.edges
            if flow_edges := own.of(node):
                edges = {**edges, **flow_edges}
            for edge in edges.values():
                for target in edge.targets:
                    if not isinstance(target, End) and id(target) not in found:
                        found.add(id(target))
                        queue.append(target)
            position += 1
    return queue
