"""What the rules look at: a flow's graph, its schema, and what is known of its runs."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from types import NoneType
from typing import Any, NamedTuple, TypedDict, Unpack

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

_REFUSALS = (UnknownFieldError, InvalidValueError)


class Site(NamedTuple):
    """A node of the flow under the name that messages give it: with the nested flows around it."""

    name: str
    vertex: Vertex


@dataclass(frozen=True)
class Level:
    """A graph and the nested flows around it.

    Attributes:
        graph: The graph.
        path: Names of the nested flows, outermost first.
        node: The node that the nested flow is; ``None`` for the flow itself.
    """

    graph: Graph
    path: tuple[str, ...] = ()
    node: Node | None = None

    def site(self, vertex: Vertex) -> Site:
        """A node of the graph."""
        return Site(label(vertex.name, self.path) if self.path else vertex.name, vertex)

    @cached_property
    def edges(self) -> dict[tuple[str, str], GraphEdge]:
        """The edges that count, by the names of their nodes and what they are written for."""
        return {(one.source, one.action): one for one in self.graph.edges if not one.is_after}


class About(TypedDict, total=False):
    """What a finding is about.

    Attributes:
        at: The node.
        node: Its name, if it is another one.
        edge: The edge.
        where: File and line, if it is not that of the edge, of the node, or of the flow.
        severity: How bad it is, if not as the rule has it.
        types: What does not fit what, if it is of types.
    """

    at: Site
    node: str | None
    edge: GraphEdge | None
    where: tuple[str | None, int | None] | None
    severity: Severity | None
    types: tuple[object, object]


class ScheduledRuns(NamedTuple):
    """What is known of the runs of a schedule.

    Attributes:
        name: That of the schedule.
        keys: What they are given.
        where: File and line where the schedule is made.
    """

    name: str
    keys: tuple[str, ...]
    where: tuple[str, int] | None


@dataclass(eq=False)
class Subject:
    """A flow as the rules see it.

    Args:
        flow_name: What the flow is called.
        graph: Its graph.
        schema: The schema of the store: a model class, a dict of types, or ``None``.
        inputs: The keys that a run is given, if the flow says so.
        stored: Whether runs are kept in a database.
        vertex: Where the run begins; the start of the graph by default.
        frames: The nested flows around that place.
        unused_edges: The edges of the flow as a node, if it is a node of no other flow.
        where: File and line where the flow is made.
        outputs: The keys that a run has set when it ends, if that is said, and where it is.
        is_inner: Whether it is the flow of a subflow.
        ignore: The codes of findings that are not to be told.
        ends_in_time: Whether a run has a deadline.
        is_watched: Whether somebody looks at the store between the nodes.
        has_writers: Whether a hook may write to the store between the nodes.
        budgets: The names of its budgets.
        lost_budgets: The nodes that are not in it, of those for which there is a budget.
        is_part: Whether it is a node of another flow, whose budgets count.
        is_new: Whether the run begins where it begins, and has not come there before.
        around: The classes of errors of it that are caught where it is a subflow.
        executor: What calls ``exec`` of its nodes, if it says so.
        expected: Where it is a subflow: the actions for which the flow around has an edge.
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
        """What tells it from others of the same graph that live as long as it."""
        outputs = None if self.outputs is None else (*self.outputs,)
        said = (self.inputs, outputs, self.stored, self.ends_in_time, self.ignore)
        watched = (self.is_watched, self.has_writers)
        budgets = (self.budgets, self.lost_budgets, id(self.executor))
        where = (self.vertex, self.frames, id(self.schema), self.is_new)
        return (
            *where,
            *said,
            *watched,
            *budgets,
            self.schedules,
            bool(self.unused_edges),
            self.is_part,
        )

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
        """Everything that a run can come to."""
        return self.walk_from(self.vertex or self.graph.start, self.frames)

    def walk_from(self, vertex: Vertex, frames: tuple[Vertex, ...] = ()) -> Walk:
        """Everything that a run can come to from a node."""
        return Walk(vertex, frames, self.actions)

    @cached_property
    def levels(self) -> list[Level]:
        """The graph of the flow and those of nested flows and branches, each once."""
        found = [Level(self.graph)]
        known = {id(self.graph)}
        for level in found:  # grows while it is walked through
            for vertex in level.graph.nodes.values():
                # A flow on a store of its own is looked at by itself.
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
        """Where each graph is nested: the graph around it, and its node there."""
        found: dict[int, list[tuple[Graph, Vertex]]] = {}
        for level in self.levels:
            for vertex in level.graph.nodes.values():
                for graph in vertex.within:
                    found.setdefault(id(graph), []).append((level.graph, vertex))
        return found

    def is_expected(self, graph: Graph, action: str) -> bool:
        """Whether a flow around has an edge for an action that ends a graph, wherever it is."""
        around = [graph]
        for one in () if self.is_strict else around:  # grows while it is walked through
            if one is self.graph and action not in self.expected:
                return False
            for outer, vertex in self._occurrences.get(id(one), ()):
                if action in vertex.targets:
                    continue
                if vertex.inner is None or vertex.actions[-1:] == [ANY_ACTION]:
                    return False
                if not any(outer is known for known in around):
                    around.append(outer)
        return not self.is_strict

    @cached_property
    def nodes(self) -> list[Site]:
        """The nodes that work, each once."""
        known: set[int] = set()
        found: list[Site] = []
        for level in self.levels:
            of = level.site if level.path else None
            for name, vertex in level.graph.nodes.items():
                if vertex.inner is None and id(vertex.node) not in known:
                    known.add(id(vertex.node))
                    found.append(Site(name, vertex) if of is None else of(vertex))
        return found

    @cached_property
    def variables(self) -> dict[int, str]:
        """What a node is called in the module of its definition, by its id."""
        homes = {getattr(vertex.node, "__module__", "") for _, vertex in self.nodes}
        modules = [vars(sys.modules[home]) for home in homes if sys.modules.get(home) is not None]
        return {id(one): name for known in modules for name, one in reversed([*known.items()])}

    @cached_property
    def _by_class(self) -> dict[type, list[Site]]:
        found: dict[type, list[Site]] = {}
        for one in self.nodes:
            found.setdefault(type(one.vertex.node), []).append(one)
        return found

    def _of(self, kind: type) -> Iterator[tuple[Site, Node]]:
        for made, sites in self._by_class.items():
            if issubclass(made, kind):
                yield from ((one, one.vertex.node) for one in sites)

    @cached_property
    def functions(self) -> list[tuple[Site, AnyFunctionNode]]:
        """The nodes that are functions."""
        of = self._of(FunctionNode)
        return [(at, node) for at, node in of if isinstance(node, FunctionNode)]

    @cached_property
    def fans_out(self) -> list[tuple[Site, SplitNode]]:
        """The nodes that have branches, or a flow on a store of its own."""
        return [(at, node) for at, node in self._of(SplitNode) if isinstance(node, SplitNode)]

    @cached_property
    def classes(self) -> list[Site]:
        """Each function, and the first node of each other class."""
        every = self._by_class.items()
        return [
            one
            for kind, nodes in every
            for one in (nodes if issubclass(kind, FunctionNode) else nodes[:1])
        ]

    @cached_property
    def asking(self) -> list[Site]:
        """The nodes that may ask a person."""
        kinds = {type(at.vertex.node) for at in self.classes if asks(at.vertex.node)}
        return [at for kind in kinds for at in self._by_class[kind] if asks(at.vertex.node)]

    @cached_property
    def definitions(self) -> list[Site]:
        """The nodes with definitions of their own: of a class of which there are many, the first.

        What is wrong with a class is one mistake, however many nodes there are of it.
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

        There is not in a flow of classic nodes without annotations, of which none asks or runs
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
        """Whether some node of it is called by an executor."""
        return self.executor is not None or self.graph.has_executors

    @cached_property
    def is_wrapped(self) -> bool:
        """Whether middleware may write to the store, lead elsewhere or keep an error to itself."""
        visits = (one for level in self.levels for one in level.graph.middleware.visits)
        return Exception in self.around or not all(map(lets_through, visits))

    @cached_property
    def _caught(self) -> dict[int, frozenset[type[Exception]]]:
        """What is caught of each node, by an edge of it, of a flow or of a branch around it."""
        known: dict[int, frozenset[type[Exception]]] = {}
        every = frozenset((Exception,)) if self.is_wrapped else frozenset(self.around)
        waiting = [(self.walk, every)]
        for walk, outer in waiting:  # grows while it is walked through
            for spot in walk.spots:
                node = spot.vertex.node
                caught = outer.union(*(way.catch.kinds for way in spot.ways if way.catch))
                known[id(node)] = known.get(id(node), caught) | caught
                if isinstance(node, SplitNode) and node.collects:
                    caught |= {Exception}
                branches = () if isinstance(node, Subflow) else spot.vertex.branches
                waiting += ((self.inside(graph).walk, caught) for graph in branches)
        return known

    @cached_property
    def _catches(self) -> bool:
        """Whether anything at all is caught, of whichever node."""
        vertices = (vertex for level in self.levels for vertex in level.graph.nodes.values())
        return (
            bool(self.around)
            or self.is_wrapped
            or any(p.catches or (p.branches and isinstance(p.node, SplitNode)) for p in vertices)
        )

    def caught_of(self, node: Node) -> frozenset[type[Exception]]:
        """The classes of what a node may raise without ending the run."""
        return self._caught.get(id(node), frozenset()) if self._catches else frozenset()

    def unless_caught(
        self, vertex: Vertex, errors: tuple[type[Exception], ...] = _REFUSALS
    ) -> Severity:
        """How bad it is that a store raises one of some errors: none fails if that is caught."""
        kinds = tuple(self.caught_of(vertex.node))
        return "warning" if any(issubclass(one, kinds) for one in errors) else "error"

    def actions(self, vertex: Vertex) -> tuple[str, ...] | None:
        """The actions that a node can return, as it declares them or by the source of classes.

        ``None`` if they are not known.
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
        """The actions that the definition of a node tells; ``None`` if it does not, or is wrong.

        A run holds no ``post`` to ``-> None``, so what its source returns counts.
        """
        declared = vertex.declared
        if declared is None or vertex.promised is not None:
            return declared
        if vertex.inner is not None:
            inside = (one for graph in vertex.inner.inner_first() for one in graph.nodes.values())
            own = (one for one in inside if one.inner is None)
            return declared if all(self.declared(one) == one.declared for one in own) else None
        if isinstance(vertex.node, (FunctionNode, SplitNode)) or not has_own_post(
            type(vertex.node)
        ):
            return declared
        return declared if all(map(set(declared).issuperset, self.returned(vertex))) else None

    def returned(self, vertex: Vertex) -> list[tuple[str, ...]]:
        """What a class may return at each end of its ``post``; ``("",)`` if that is not known."""
        ends = self.effects(vertex).exits
        return [(one.action,) if one.action else (*sorted(one.choices),) or ("",) for one in ends]

    def _by_source(self, vertex: Vertex) -> tuple[str, ...] | None:
        if isinstance(vertex.node, (FunctionNode, SplitNode)):
            return None
        found = tuple(dict.fromkeys(chain(*self.returned(vertex))))
        return found if found and "" not in found else None

    def effects(self, vertex: Vertex) -> Effects:
        """What a node does to the store."""
        found = self._effects.get(id(vertex.node))
        if found is None:
            if vertex.branches and self._is_flat:
                self._is_flat = False
                # The innermost branches first, so that no calls pile up, however deep they are.
                for level in reversed(self.levels):
                    for inner in level.graph.nodes.values():
                        if inner.branches:
                            self.effects(inner)
            found = self._effects[id(vertex.node)] = self._effects_of(vertex)
        return found

    def inside(self, branch: Graph) -> DataFlow:
        """What the nodes of a branch find in the store, if nothing was there before."""
        found = self._branches.get(id(branch))
        if found is None:
            walk = self.walk_from(branch.start)
            found = DataFlow(walk, lambda spot: self.effects(spot.vertex), self.exit)
            self._branches[id(branch)] = found
        return found

    @property
    def is_current(self) -> bool:
        """Whether its nodes would be read now as they were."""
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
            if node.signature.takes_store:  # which may have given a field its value itself
                return effects
            return self._with_increments(effects, [one.name for one in node.signature.writes])
        return self._of_class(node)

    def _of_class(self, node: Node) -> Effects:
        """What a classic node does: its class, with what the node has of its own in its place."""
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
        attributes = self.fields.attributes
        phases = (kind.prep, kind.post)
        if all(map(is_constant, own.values())) and all(map(inspect.isfunction, phases)):
            constants = tuple((name, type(one), one) for name, one in own.items())
            found = _of_class(kind, constants, attributes, *phases)
            if found.is_current:  # else a constant of a module has been set anew
                return found
        key = (kind, *((name, id(one)) for name, one in own.items()))
        if key not in self._classes:
            self._classes[key] = _of_phases(kind, own, attributes)
        return self._classes[key]

    def _with_increments(self, effects: Effects, written: list[str]) -> Effects:
        """With the fields among some that are reduced into, which takes a value that is there."""
        reduced = {key: effects.writes[key] for key in written if self.fields.reduces(key)}
        return replace(effects, needs={**reduced, **effects.needs}) if reduced else effects

    def exit(self, spot: Spot, way: Way) -> Exit:
        """What a node has written when a run leaves it on one of its ways."""
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
        # A budget may be spent inside of the step, or be found to be when it has ended.
        return failed if way.catch.spent is None else join((*effects.exits, failed))

    def finding(self, code: str, message: str, fix: str, **about: Unpack[About]) -> Finding:
        """A finding about this flow; it is where its edge, its node or the flow is, by default."""
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
        """PF201, if a schema does not have a field that is named."""
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
        """PF203, if no value of a type fits the field that it is written to."""
        if not fits_field(given, takes):
            about["types"] = (given, takes)
            yield self.finding("PF203", f"{said} {type_label(takes)}", fix, **about)


def _severity(code: str) -> Severity:
    from pocoflow.check.rules import RULES  # which reads files

    return RULES[code].severity


@remembered
def _is_typed(kind: type) -> bool:
    if issubclass(kind, FunctionNode):
        return True
    own = [one for one in ("prep", "exec", "exec_async", "post") if overrides(kind, one)]
    return names_actions(kind) or any(
        getattr(getattr(kind, one), "__annotations__", None) for one in own
    )


def is_constant(value: object) -> bool:
    """Whether a value that a node has of its own is equal to another one only if it is alike."""
    return type(value) in (str, int, float, bool, NoneType)


def _is_patched(node: Node) -> bool:
    """Whether a phase was set on the node itself, so that its class does not tell."""
    own = getattr(node, "__dict__", {})
    return "prep" in own or "post" in own


def _of_subflow(node: Subflow) -> Effects:
    return _plain(
        {link.source.name: location_at(link.written) for link in node.inputs},
        {},
        {link.target.name: location_at(link.written) for link in node.outputs},
    )


def _plain(needs: Locations, looks: Locations, writes: Locations) -> Effects:
    """What something does that reads first and writes at its end."""
    written = frozenset(writes)
    return Effects(
        needs=needs,
        reads=frozenset((*needs, *looks)),
        writes=writes,
        exits=(Exit(None, written, written, looked=frozenset(looks)),),
        named={**needs, **writes},
        looks=looks,
    )


@remembered
def _of_class(
    kind: type, own: tuple[tuple[str, type, object], ...], attributes: frozenset[str], *_: object
) -> Effects:
    """The same for all nodes of a class; the other arguments are what its phases are now."""
    return _of_phases(kind, {name: one for name, _, one in own}, attributes)


def _of_phases(kind: type, own: Mapping[str, object], attributes: frozenset[str]) -> Effects:
    """What the phases of a class do, from their source."""
    phases = [_as_defined(kind, one) for one in ("prep", "post") if overrides(kind, one)]
    return read_source(*phases, kind=kind, own=own, attributes=attributes) if phases else NOTHING


def effects_of_class(kind: Any, attributes: frozenset[str]) -> Effects:
    """What a class does whose phases are functions; it may be what it did before."""
    return _of_class(kind, (), attributes, kind.prep, kind.post)


def _as_defined(kind: type, name: str) -> Any:
    """An attribute of a class as it stands there; quicker than ``inspect.getattr_static``."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _of_function(node: AnyFunctionNode, attributes: frozenset[str]) -> Effects:
    """What a function does, from its signature, and from its source if it takes the store."""
    signature = node.signature
    code = signature.function.__code__
    at = Location(code.co_filename, code.co_firstlineno)
    taken = [(one, one.field.name) for one in signature.parameters if one.field is not None]
    needs = {key: at for one, key in taken if one.required}
    if signature.each is not None:
        needs = {signature.each.name: at, **needs}
    looks = {key: at for one, key in taken if not one.required}
    writes = {field.name: at for field in signature.writes}
    if not signature.takes_store:
        return _plain(needs, looks, writes)
    return read_source(
        signature.function,
        stores=[p.name for p in signature.parameters if p.field is None and p.resource is None],
        attributes=attributes,
        around=Around(*(tuple(one.items()) for one in (needs, looks, writes))),
    )
