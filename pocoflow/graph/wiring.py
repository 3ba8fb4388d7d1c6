"""The edges that belong to one flow, as ``flow.then`` writes them, and its other wiring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

from pocoflow.errors import DefinitionError
from pocoflow.graph.order import OrderRule
from pocoflow.nodes.base import Node, NodeLike, make_edge, mark_nested
from pocoflow.nodes.call_checks import not_a_node
from pocoflow.nodes.edges import DEFAULT_ACTION, Catch, Edge, Outlet, wiring_changed
from pocoflow.nodes.middleware import (
    NO_MIDDLEWARE,
    AttemptMiddleware,
    Middleware,
    VisitMiddleware,
    check_middleware,
)
from pocoflow.values.callables import UNSET

_NONE: Mapping[str, Edge] = MappingProxyType({})


class CanReturnDefault(Protocol):
    """A node that can return the action ``"default"``."""

    def when(self, action: Literal["default"], /) -> Outlet:
        """The node with that action."""


class CanReturnNone(Protocol):
    """A node that can return ``None``, which is the action ``"default"``."""

    def when(self, action: None, /) -> Outlet:
        """The node with that action."""


Source: TypeAlias = CanReturnDefault | CanReturnNone | Outlet | Catch
"""The source of a flow's edge: a node, for its default action, or ``node.when``, ``node.catch``.

Structural, so that a type checker refuses a node whose actions do not include the default one.
"""


class FlowEdges:
    """The edges of one flow, by source node and action, in the order in which they were written.

    Attributes:
        sources: The nodes that have an edge here.
        replaced: Edges that were replaced, as (source, before, after).
        middleware: What wraps visits and attempts in the flow.
        rules: The flow's rules about the order of visits.
        is_strict: Whether an action without an edge is an error.
        in_graph: Whether a graph may have been built with them.
    """

    def __init__(self) -> None:
        # By identity: a node may be a dataclass with == and so without a hash.
        self._by_node: dict[int, Mapping[str, Edge]] = {}
        self.sources: list[NodeLike] = []
        self.replaced: list[tuple[NodeLike, Edge, Edge]] = []
        self.middleware = NO_MIDDLEWARE
        self.rules: list[OrderRule] = []
        self.is_strict = self.in_graph = False

    def __getstate__(self) -> dict[str, Any]:
        """The state of an independent copy; its nodes may be copies, too."""
        lists = {name: [*value] for name, value in vars(self).items() if isinstance(value, list)}
        edges = [self.of(node) for node in self.sources]
        return {**vars(self), **lists, "_by_node": edges, "in_graph": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._by_node = dict(zip(map(id, self.sources), state["_by_node"], strict=True))

    def use(self, visit: VisitMiddleware | None, attempt: AttemptMiddleware | None) -> None:
        """Add a middleware inside of the existing ones.

        Raises:
            DefinitionError: It is not a generator function of one argument.
        """
        for kind, given in (("visit", visit), ("attempt", attempt)):
            if given is not None:
                check_middleware(kind, given)
        visits = () if visit is None else (visit,)
        attempts = () if attempt is None else (attempt,)
        self.middleware = Middleware(visits, attempts).within(self.middleware)
        wiring_changed(self.in_graph)

    def begin_rule(self, first_half: OrderRule) -> Callable[[OrderRule], None]:
        """Add the first half of a rule; returns a function that replaces it with the whole rule."""
        self.rules.append(first_half)
        wiring_changed(self.in_graph)

        def add(rule: OrderRule) -> None:
            self.rules[:] = [*(other for other in self.rules if other is not first_half), rule]
            wiring_changed(self.in_graph)

        return add

    def add(
        self,
        source: object,
        target: object,
        location: tuple[str, int],
        limit: tuple[object, object] = (None, UNSET),
    ) -> None:
        """Add an edge; ``limit`` is how often it is taken, and where it leads after that.

        Raises:
            DefinitionError: ``source`` is neither a node nor ``node.when(...)`` nor
                ``node.catch(...)``, ``target`` is neither a node nor ``END``, or the limit lacks a
                part or has no effect.
        """
        written = f"{location[0]}:{location[1]}"
        outlet = Outlet(source, DEFAULT_ACTION) if isinstance(source, Node) else source
        if not isinstance(outlet, (Outlet, Catch)):
            raise DefinitionError(
                f"flow.then(source, target) at {written}: the source must be a node, "
                f"node.when(action) or node.catch(errors), not {not_a_node(source)}"
            )
        node: NodeLike = outlet.node
        catch = outlet if isinstance(outlet, Catch) else None
        action = outlet.action if isinstance(outlet, Outlet) else outlet.label
        shown = f"when({action!r})" if catch is None else f"catch({', '.join(catch.names)})"
        where = f"flow.then({node.name}.{shown}, target) at {written}"
        edge = make_edge(where, action, target, location, limit, catch)._replace(written="flow")
        mark_nested(node)
        known = self.of(node)
        before = known.get(action)
        if not known:
            self.sources.append(node)
        elif before is not None and not before.leads_like(edge):
            self.replaced.append((node, before, edge))
        self._by_node[id(node)] = {**known, action: edge}
        wiring_changed(self.in_graph)

    def of(self, node: NodeLike) -> Mapping[str, Edge]:
        """The flow's edges from a node, by action."""
        return self._by_node.get(id(node), _NONE)
