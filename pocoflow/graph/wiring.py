"""Edges: those that belong to one flow, as ``flow.then`` wrote them, and those of its graph."""

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
        """The node together with that action."""


class CanReturnNone(Protocol):
    """A node that can return ``None``, which is the action ``"default"``."""

    def when(self, action: None, /) -> Outlet:
        """The node together with that action."""


Source: TypeAlias = CanReturnDefault | CanReturnNone | Outlet | Catch
"""Where an edge of a flow begins: a node, for its default action, or ``node.when``, ``node.catch``.

Structural, so that a type checker refuses a node whose actions do not include the default one.
"""


class FlowEdges:
    """The edges of one flow, by source node and action, in the order in which they were written.

    Attributes:
        sources: The nodes that have an edge here.
        replaced: Edges that were written over, as (source, before, after).
        middleware: What wraps visits of nodes and attempts of the flow.
        rules: What the flow says of the order of visits.
        is_strict: Whether an action without an edge is an error.
        is_drawn: Whether a graph may have been drawn of them.
    """

    def __init__(self) -> None:
        # By identity: a node may be a dataclass with == and so without a hash.
        self._by_node: dict[int, Mapping[str, Edge]] = {}
        self.sources: list[NodeLike] = []
        self.replaced: list[tuple[NodeLike, Edge, Edge]] = []
        self.middleware = NO_MIDDLEWARE
        self.rules: list[OrderRule] = []
        self.is_strict = self.is_drawn = False

    def __getstate__(self) -> dict[str, Any]:
        """What a copy has, to which others can be added; its nodes may be copies, too."""
        lists = {name: [*one] for name, one in vars(self).items() if isinstance(one, list)}
        edges = [self.of(node) for node in self.sources]
        return {**vars(self), **lists, "_by_node": edges, "is_drawn": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._by_node = dict(zip(map(id, self.sources), state["_by_node"], strict=True))

    def use(self, visit: VisitMiddleware | None, attempt: AttemptMiddleware | None) -> None:
        """Put a middleware inside of those that there are.

        Raises:
            DefinitionError: It is no generator function of one argument.
        """
        for kind, given in (("visit", visit), ("attempt", attempt)):
            if given is not None:
                check_middleware(kind, given)
        visits = () if visit is None else (visit,)
        attempts = () if attempt is None else (attempt,)
        self.middleware = Middleware(visits, attempts).within(self.middleware)
        wiring_changed(self.is_drawn)

    def begin_rule(self, half: OrderRule) -> Callable[[OrderRule], None]:
        """Note the first half of a rule; what is returned notes the whole of it."""
        self.rules.append(half)
        wiring_changed(self.is_drawn)

        def add(rule: OrderRule) -> None:
            self.rules[:] = [*(one for one in self.rules if one is not half), rule]
            wiring_changed(self.is_drawn)

        return add

    def add(
        self,
        source: object,
        target: object,
        location: tuple[str, int],
        limit: tuple[object, object] = (None, UNSET),
    ) -> None:
        """Write an edge; ``limit`` is how often it is taken, and where it leads then.

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
        wiring_changed(self.is_drawn)

    def of(self, node: NodeLike) -> Mapping[str, Edge]:
        """The flow's edges from a node, by action."""
        return self._by_node.get(id(node), _NONE)
