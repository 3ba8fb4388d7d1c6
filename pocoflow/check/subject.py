"""The input of the rules: a flow's graph, its schema, and what is known about its runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack, cast

from pocoflow.check.assignable import fits_field
from pocoflow.check.findings import Finding, Severity
from pocoflow.check.flat import DataFlow, Spot, Walk, Way, effects_of_branches
from pocoflow.check.node_effects import (
    ANYTHING,
    NOTHING,
    UNKNOWN,
    Effects,
    Exit,
    Location,
    Locations,
    join,
    location_at,
)
from pocoflow.check.schemas import Fields, fields_of
from pocoflow.check.store_use import Around, read_source
from pocoflow.check.unseen import lets_through
from pocoflow.errors import InvalidValueError, UnknownFieldError
from pocoflow.graph.final_actions import ends_of
from pocoflow.graph.graph import Graph, Vertex, label
from pocoflow.graph.listed_edges import GraphEdge
from pocoflow.messages import closest, redefined_among, type_label
from pocoflow.nodes.answer_types import asks
from pocoflow.nodes.base import Node
from pocoflow.nodes.definitions import has_own_post, names_actions, overrides
from pocoflow.nodes.edges import ANY_ACTION, Edge
from pocoflow.nodes.function import AnyFunctionNode, FunctionNode
from pocoflow.nodes.parallel import SplitNode
from pocoflow.nodes.settings import Where
from pocoflow.nodes.subflow import Subflow
from pocoflow.values.remembering import remembered

NodeT = TypeVar("NodeT", bound=Node)

_REFUSALS = (UnknownFieldError, InvalidValueError)


class Site(NamedTuple):
    """A node of the flow under its name in messages, which includes its enclosing flows."""

    name: str
    vertex: Vertex


@dataclass(frozen=True)
class Level:
    """A graph and its enclosing flows.

    Attributes:
        graph: The graph.
        path: Names of the nested flows, outermost first.
        node: The node of the nested flow; ``None`` for the flow itself.
    """

    graph: Graph
    path: tuple[str, ...] = ()
    node: Node | None = None

    def site(self, vertex: Vertex) -> Site:
        """A node of the graph."""
        return Site(label(vertex.name, self.path) if self.path else vertex.name, vertex)

    @cached_property
    def edges(self) -> dict[tuple[str, str], GraphEdge]:
        """The effective edges, by the names of their sources and their actions."""
        return {(edge.source, edge.action): edge for edge in self.graph.edges if not edge.is_after}


class About(TypedDict, total=False):
    """The subject of a finding.

    Attributes:
        at: The node.
        node: Its name, if it is another one.
        edge: The edge.
        where: File and line, if it is not that of the edge, of the node, or of the flow.
        severity: The severity, if it differs from that of the rule.
        types: The two types that do not fit, if it is about types.
    """

    at: Site
    node: str | None
    edge: GraphEdge | None
    where: tuple[str | None, int | None] | None
    severity: Severity | None
    types: tuple[object, object]


class ScheduledRuns(NamedTuple):
    """What is known about the runs of a schedule.

    Attributes:
        name: The name of the schedule.
        keys: The keys of their inputs.
        where: File and line where the schedule is defined.
    """

    name: str
    keys: tuple[str, ...]
    where: tuple[str, int] | None


@dataclass(eq=False)
class Subject:
    """A flow, as input of the rules.

    Args:
        flow_name: The name of the flow.
        graph: Its graph.
        schema: The schema of the store: a model class, a dict of types, or ``None``.
        inputs: The keys of the inputs of a run, if the flow declares them.
        stored: Whether runs are stored in a database.
        vertex: The first node of the run; the start of the graph by default.
        frames: Its enclosing flows.
        unused_edges: The edges of the flow as a node, if it is not a node of another flow.
        where: File and line where the flow is created.
        outputs: The keys that a run has set when it ends, if the flow declares them, and where.
        is_inner: Whether it is the flow of a subflow.
        ignore: The codes of findings that are not reported.
        ends_in_time: Whether a run has a deadline.
        is_watched: Whether a hook may read the store between the nodes.
        has_writers: Whether a hook may write to the store between the nodes.
        budgets: The names of its budgets.
        lost_budgets: The nodes with a budget that are not in it.
        is_part: Whether it is a node of another flow, whose budgets apply.
        is_new: Whether the run is new, and not resumed.
        around: The classes of its errors that are caught where it is a subflow.
        executor: The executor of its nodes, if the flow declares one.
        expected: If it is a subflow: the actions for which the enclosing flow has an edge.
        schedules: Its schedules.

    Attributes:
        is_start: Whether the run begins at the start of the graph.
    """

    flow_name: str
    graph: Graph
    schema: object = None
    inputs: tuple[str, ...] | None = None
    stored: bool = False
    vertex: Vertex | None = None
    frames: tuple[Vertex, ...] = ()
    unused_edges: tuple[Edge, ...] = ()
    where: tuple[str, int] | None = None
    outputs: Mapping[str, tuple[str, int] | None] | None = None
    is_inner: bool = False
    ignore: tuple[str, ...] = ()
    ends_in_time: bool = False
    is_watched: bool = False
    has_writers: bool = False
    budgets: tuple[str, ...] = ()
    lost_budgets: tuple[str, ...] = ()
    is_part: bool = False
    is_new: bool = True
    around: frozenset[type[Exception]] = frozenset()
    executor: Where = None
    expected: tuple[str, ...] = ()
    schedules: tuple[ScheduledRuns, ...] = ()

    @property
    def facts(self) -> tuple[object, ...]:
        """The values that distinguish it from other subjects of the same graph."""
        outputs = None if self.outputs is None else (*self.outputs,)
        values = {given.name: getattr(self, given.name) for given in fields(self)}
        values |= {"outputs": outputs, "unused_edges": bool(self.unused_edges)}
        values |= {"schema": id(self.schema), "executor": id(self.executor)}
        return (*values.values(),)

    def __post_init__(self) -> None:
        self.fields = fields_of(self.schema)
        self.is_start = self.vertex is None or (self.vertex is self.graph.start and not self.frames)
        self._effects: dict[int, Effects] = {}
        self._branches: dict[int, DataFlow] = {}
        self._ends: dict[int, tuple[str, ...] | None] = {}
        self._is_flat = True
        self._classes: dict[object, Effects] = {}

    @cached_property
    def walk(self) -> Walk:
        """Everything that a run can reach."""
        return self.walk_from(self.vertex or self.graph.start, self.frames)

    def walk_from(self, vertex: Vertex, frames: tuple[Vertex, ...] = ()) -> Walk:
        """Everything that a run can reach from a node."""
        return Walk(vertex, frames, self.actions)

    @cached_property
    def levels(self) -> list[Level]:
        """The graph of the flow and those of nested flows and branches, each once."""
        found = [Level(self.graph)]
        known = {id(self.graph)}
        for level in found:  # grows during iteration
            for vertex in level.graph.nodes.values():
                # A flow on a separate store is checked separately.
                within = () if isinstance(vertex.node, Subflow) else vertex.within
                for graph in within:
                    if id(graph) not in known:
                        known.add(id(graph))
                        found.append(Level(graph, (*level.path, vertex.name), vertex.node))
        return found

    @cached_property
    def is_strict(self) -> bool:
        """Whether an action without an edge is an error somewhere in it."""
        return any(level.graph.is_strict for level in self.levels)

    @cached_property
    def _occurrences(self) -> dict[int, list[tuple[Graph, Vertex]]]:
        """The positions where each graph is nested: the enclosing graph, and its node there."""
        found: dict[int, list[tuple[Graph, Vertex]]] = {}
        for level in self.levels:
            for vertex in level.graph.nodes.values():
                for graph in vertex.within:
                    found.setdefault(id(graph), []).append((level.graph, vertex))
        return found

    def is_expected(self, graph: Graph, action: str) -> bool:
        """Whether enclosing flows always have an edge for an action that ends a graph."""
        around = [graph]
        for inner in () if self.is_strict else around:  # grows during iteration
            if inner is self.graph and action not in self.expected:
                return False
            for outer, vertex in self._occurrences.get(id(inner), ()):
                if action in vertex.targets:
                    continue
                if vertex.inner is None or vertex.actions[-1:] == [ANY_ACTION]:
                    return False
                if not any(outer is known for known in around):
                    around.append(outer)
        return not self.is_strict

    @cached_property
    def nodes(self) -> list[Site]:
        """The nodes that are not flows, each once."""
        known: set[int] = set()
        found: list[Site] = []
        for level in self.levels:
            for vertex in level.graph.nodes.values():
                if vertex.inner is None and id(vertex.node) not in known:
                    known.add(id(vertex.node))
                    found.append(level.site(vertex))
        return found

    @cached_property
    def variables(self) -> dict[int, str]:
        """The variables of nodes in the modules of their definitions, by id."""
        homes = {getattr(vertex.node, "__module__", "") for _, vertex in self.nodes}
        modules = [vars(sys.modules[home]) for home in homes if sys.modules.get(home) is not None]
        return {id(value): name for known in modules for name, value in reversed([*known.items()])}

    @cached_property
    def _by_class(self) -> dict[type, list[Site]]:
        found: dict[type, list[Site]] = {}
        for node in self.nodes:
            found.setdefault(type(node.vertex.node), []).append(node)
        return found

    def _of(self, kind: type[NodeT]) -> list[tuple[Site, NodeT]]:
        found = [sites for made, sites in self._by_class.items() if issubclass(made, kind)]
        return [(at, cast(NodeT, at.vertex.node)) for sites in found for at in sites]

    @cached_property
    def functions(self) -> list[tuple[Site, AnyFunctionNode]]:
        """The nodes that are functions."""
        return self._of(FunctionNode)

    @cached_property
    def fans_out(self) -> list[tuple[Site, SplitNode]]:
        """The nodes that have branches, or a flow on a separate store."""
        return self._of(SplitNode)  # type: ignore[type-abstract]

    @cached_property
    def classes(self) -> list[Site]:
        """Each function, and the first node of each other class."""
        return [
            site
            for kind, sites in self._by_class.items()
            for site in (sites if issubclass(kind, FunctionNode) else sites[:1])
        ]

    @cached_property
    def asking(self) -> list[Site]:
        """The nodes that may ask a person."""
        kinds = {type(at.vertex.node) for at in self.classes if asks(at.vertex.node)}
        return [at for kind in kinds for at in self._by_class[kind] if asks(at.vertex.node)]

    @cached_property
    def definitions(self) -> list[Site]:
        """The nodes with distinct definitions: of several nodes of a class, the first.

        A mistake in a class is one mistake, however many nodes it has.
        """
        known: set[tuple[type, int]] = set()
        found = []
        for at in self.nodes:
            node = at.vertex.node
            is_own = isinstance(node, (FunctionNode, SplitNode)) or _is_patched(node)
            read = (type(node), id(node if is_own else self.effects(at.vertex)))
            if read not in known:
                known.add(read)
                found.append(at)
        return found

    @cached_property
    def is_typed(self) -> bool:
        """Whether there is something to prove.

        There is nothing in a flow of classic nodes without annotations, none of which asks or runs
        others, without a schema, inputs and outputs, and wired by ``node.then`` alone.
        """
        if self.fields or self.inputs is not None or self.outputs is not None:
            return True
        for graph in (level.graph for level in self.levels):
            if graph.rules or graph.has_own_edges:
                return True
        return any(map(_is_typed, self._by_class))

    @property
    def sends(self) -> bool:
        """Whether an executor calls one of its nodes."""
        return self.executor is not None or self.graph.has_executors

    @cached_property
    def is_wrapped(self) -> bool:
        """Whether middleware may write to the store, change an action or suppress an error."""
        visits = (visit for level in self.levels for visit in level.graph.middleware.visits)
        return Exception in self.around or not all(map(lets_through, visits))

    @cached_property
    def _caught(self) -> dict[int, frozenset[type[Exception]]]:
        """The caught errors of each node, by its edges or those of an enclosing flow or branch."""
        known: dict[int, frozenset[type[Exception]]] = {}
        every = frozenset((Exception,)) if self.is_wrapped else frozenset(self.around)
        waiting = [(self.walk, every)]
        for walk, outer in waiting:  # grows during iteration
            for spot in walk.spots:
                node = spot.vertex.node
                caught = outer.union(*(way.catch.kinds for way in spot.ways if way.catch))
                known[id(node)] = known.get(id(node), caught) | caught
                if isinstance(node, SplitNode) and node.collects:
                    caught |= {Exception}
                branches = () if isinstance(node, Subflow) else spot.vertex.branches
                waiting += ((self.inside(graph).walk, caught) for graph in branches)
        return known

    def caught_of(self, node: Node) -> frozenset[type[Exception]]:
        """The classes of errors that a node may raise without ending the run."""
        return self._caught.get(id(node), frozenset())

    def unless_caught(
        self, vertex: Vertex, errors: tuple[type[Exception], ...] = _REFUSALS
    ) -> Severity:
        """The severity of errors that a store raises: a warning if they are caught."""
        kinds = tuple(self.caught_of(vertex.node))
        return "warning" if any(issubclass(error, kinds) for error in errors) else "error"

    def actions(self, vertex: Vertex) -> tuple[str, ...] | None:
        """The actions that a node can return, as it declares them or by the source of classes.

        ``None`` if they are unknown.
        """
        declared = self.declared(vertex)
        if declared is not None:
            return declared
        if vertex.inner is None:
            return self._by_source(vertex)
        for graph in () if id(vertex.inner) in self._ends else vertex.inner.inner_first():
            if id(graph) not in self._ends:
                self._ends[id(graph)] = ends_of(graph, self.actions)
        return self._ends[id(vertex.inner)]

    def declared(self, vertex: Vertex) -> tuple[str, ...] | None:
        """The actions that a node declares; ``None`` if it declares none, or wrong ones.

        A run does not enforce ``-> None`` of a ``post``, so its source counts.
        """
        declared = vertex.declared
        if declared is None or vertex.promised is not None:
            return declared
        if vertex.inner is not None:
            inside = (node for graph in vertex.inner.inner_first() for node in graph.nodes.values())
            plain = (node for node in inside if node.inner is None)
            return declared if all(self.declared(v) == v.declared for v in plain) else None
        if isinstance(vertex.node, (FunctionNode, SplitNode)) or not has_own_post(
            type(vertex.node)
        ):
            return declared
        return declared if all(map(set(declared).issuperset, self.returned(vertex))) else None

    def returned(self, vertex: Vertex) -> list[tuple[str, ...]]:
        """The possible actions at each end of ``post`` of a class; ``("",)`` if unknown."""
        return [(*sorted(end.choices),) or ("",) for end in self.effects(vertex).exits]

    def _by_source(self, vertex: Vertex) -> tuple[str, ...] | None:
        if isinstance(vertex.node, (FunctionNode, SplitNode)):
            return None
        found = tuple(dict.fromkeys(chain(*self.returned(vertex))))
        return found if found and "" not in found else None

    def effects(self, vertex: Vertex) -> Effects:
        """The effects of a node on the store."""
        found = self._effects.get(id(vertex.node))
        if found is None:
            if vertex.branches and self._is_flat:
                self._is_flat = False
                # The innermost branches first, which limits the recursion depth.
                for level in reversed(self.levels):
                    for inner in level.graph.nodes.values():
                        if inner.branches:
                            self.effects(inner)
            found = self._effects[id(vertex.node)] = self._effects_of(vertex)
        return found

    def inside(self, branch: Graph) -> DataFlow:
        """The data flow of a branch that starts with an empty store."""
        found = self._branches.get(id(branch))
        if found is None:
            walk = self.walk_from(branch.start)
            found = DataFlow(walk, lambda spot: self.effects(spot.vertex), self.exit)
            self._branches[id(branch)] = found
        return found

    @property
    def is_current(self) -> bool:
        """Whether the analysis of its nodes is still valid."""
        return all(effects.is_current for effects in self._effects.values())

    def _effects_of(self, vertex: Vertex) -> Effects:
        node = vertex.node
        if vertex.branches and isinstance(node, Subflow):
            return self._with_increments(
                _of_subflow(node), [link.target.name for link in node.outputs]
            )
        if vertex.branches and isinstance(node, SplitNode):
            return effects_of_branches(vertex, node, [*map(self.inside, vertex.branches)])
        if isinstance(node, FunctionNode):
            effects = _of_function(node, self.fields.attributes)
            if node.signature.takes_store:  # it may have set the field itself
                return effects
            return self._with_increments(effects, [write.name for write in node.signature.writes])
        return self._of_class(node)

    def _of_class(self, node: Node) -> Effects:
        """The effects of a classic node: of its class, with the attributes of the node."""
        if _is_patched(node):
            return UNKNOWN
        kind: type = type(node)
        found = self._classes.get(kind)
        if found is None:
            found = self._classes[kind] = self._read(kind, {})
        own = getattr(node, "__dict__", {})
        if not found.used or own.keys().isdisjoint(found.used):
            return found
        return self._read(kind, {name: own[name] for name in sorted(found.used) if name in own})

    def _read(self, kind: Any, own: Mapping[str, object]) -> Effects:
        key = (kind, *((name, id(value)) for name, value in own.items()))
        if key not in self._classes:
            self._classes[key] = _of_phases(kind, own, self.fields.attributes)
        return self._classes[key]

    def _with_increments(self, effects: Effects, written: list[str]) -> Effects:
        """The effects with a need for each written field that has a reducer."""
        reduced = {key: effects.writes[key] for key in written if self.fields.reduces(key)}
        return replace(effects, needs={**reduced, **effects.needs}) if reduced else effects

    def exit(self, spot: Spot, way: Way) -> Exit:
        """The exit of a node for one of its edges."""
        if way.is_guess:
            return ANYTHING
        effects = self.effects(spot.vertex)
        if way.catch is None:
            return effects.on(way.action)
        node, field = spot.vertex.node, way.catch.field
        whole = isinstance(node, SplitNode) or (
            isinstance(node, FunctionNode) and not node.signature.takes_store
        )
        failed = effects.on_error(whole, None if field is None else field.name)
        # A budget may be spent inside the step, or found to be spent at its end.
        return failed if way.catch.spent is None else join((*effects.exits, failed))

    def finding(self, code: str, message: str, fix: str, **about: Unpack[About]) -> Finding:
        """A finding about this flow; its default location is that of its edge, node or flow."""
        at, edge, where = about.get("at"), about.get("edge"), about.get("where")
        if where is None and edge is not None:
            where = (edge.file, edge.line)
        elif where is None and at is not None:
            where = at.vertex.where
        is_known = where is not None and where[0] is not None
        file, line = (where if is_known else self.where) or (None, None)
        severity = about.get("severity") or _severity(code)
        drawn = None if edge is None else (edge.source, edge.action, edge.target)
        node = about.get("node") or (None if at is None else at.name)
        if again := redefined_among(*about.get("types", (None, None))):
            message += f"; {again} was defined again in between"
            fix = f"define again what names {again} as it was before (in a notebook, run its cell"
            fix += " again)"
        return Finding(code, severity, self.flow_name, node, drawn, file, line, message, fix)

    def lacking(
        self, said: str, key: str, fields: Fields, advice: str = "", **about: Unpack[About]
    ) -> Iterator[Finding]:
        """PF201, if a schema does not have a field."""
        if fields.lacks(key):
            yield self.finding(
                "PF201",
                f"{said} {key!r}, which {fields.label} does not have{closest(key, fields.names)} "
                f"(fields: {', '.join(fields.names)})",
                f"correct the name, or add the field to {fields.label}{advice}",
                **about,
            )

    def misfit(
        self, said: str, given: object, takes: object, fix: str, **about: Unpack[About]
    ) -> Iterator[Finding]:
        """PF203, if no value of a type fits the field to which it is written."""
        if not fits_field(given, takes):
            about["types"] = (given, takes)
            yield self.finding("PF203", f"{said} {type_label(takes)}", fix, **about)


def _severity(code: str) -> Severity:
    from pocoflow.check.rules import RULES  # it reads files

    return RULES[code].severity


@remembered
def _is_typed(kind: type) -> bool:
    if issubclass(kind, FunctionNode):
        return True
    phases = [name for name in ("prep", "exec", "exec_async", "post") if overrides(kind, name)]
    return names_actions(kind) or any(
        getattr(getattr(kind, name), "__annotations__", None) for name in phases
    )


def _is_patched(node: Node) -> bool:
    """Whether a phase was set on the node itself, which overrides its class."""
    own = getattr(node, "__dict__", {})
    return "prep" in own or "post" in own


def _of_subflow(node: Subflow) -> Effects:
    return _plain(
        {link.source.name: location_at(link.written) for link in node.inputs},
        {},
        {link.target.name: location_at(link.written) for link in node.outputs},
    )


def _plain(needs: Locations, looks: Locations, writes: Locations) -> Effects:
    """The effects of reads at the start and writes at the end."""
    written = frozenset(writes)
    return Effects(
        needs=needs,
        reads=frozenset((*needs, *looks)),
        writes=writes,
        exits=(Exit(frozenset(), written, written, looked=frozenset(looks)),),
        named={**needs, **writes},
        looks=looks,
    )


def _of_phases(kind: type, own: Mapping[str, object], attributes: frozenset[str]) -> Effects:
    """The effects of the phases of a class, from their source."""
    phases = [_as_defined(kind, name) for name in ("prep", "post") if overrides(kind, name)]
    return read_source(*phases, kind=kind, own=own, attributes=attributes) if phases else NOTHING


def effects_of_class(kind: Any, attributes: frozenset[str]) -> Effects:
    """The effects of a class; they may be outdated."""
    return _of_class(kind, attributes, kind.prep, kind.post)


@remembered
def _of_class(kind: type, attributes: frozenset[str], *_: object) -> Effects:
    """The same; the other arguments are its current phases."""
    return _of_phases(kind, {}, attributes)


def _as_defined(kind: type, name: str) -> Any:
    """An attribute of a class, without binding; faster than ``inspect.getattr_static``."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _of_function(node: AnyFunctionNode, attributes: frozenset[str]) -> Effects:
    """The effects of a function, from its signature, and from its source if it takes the store."""
    signature = node.signature
    code = signature.function.__code__
    at = Location(code.co_filename, code.co_firstlineno)
    taken = [(param, param.field.name) for param in signature.parameters if param.field is not None]
    needs = {key: at for param, key in taken if param.required}
    if signature.each is not None:
        needs = {signature.each.name: at, **needs}
    looks = {key: at for param, key in taken if not param.required}
    writes = {field.name: at for field in signature.writes}
    if not signature.takes_store:
        return _plain(needs, looks, writes)
    return read_source(
        signature.function,
        stores=[p.name for p in signature.parameters if p.field is None and p.resource is None],
        attributes=attributes,
        around=Around(*(tuple(keys.items()) for keys in (needs, looks, writes))),
    )
