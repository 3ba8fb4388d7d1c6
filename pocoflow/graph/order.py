"""Rules that a flow states about the order in which its nodes are visited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Literal, NamedTuple, TypeAlias

from typing_extensions import TypeVar

from pocoflow.errors import DefinitionError
from pocoflow.messages import short, users_line
from pocoflow.nodes.base import Node, NodeLike
from pocoflow.nodes.call_checks import not_a_node
from pocoflow.nodes.edges import ANY_ACTION, Outlet

FlowT = TypeVar("FlowT")

Kind: TypeAlias = Literal["before", "after", "never after", "require", "forbid"]


class Visited(NamedTuple):
    """Visits of a node.

    Attributes:
        node: The node, or flow.
        action: Only those that end with this action; ``None`` for all of them.
    """

    node: NodeLike
    action: str | None = None

    def __str__(self) -> str:
        shown = self.node.name
        return shown if self.action is None else f"{shown}.when({self.action!r})"


class OrderRule(NamedTuple):
    """A rule of a flow, which must hold on each of its paths.

    Attributes:
        kind: ``before``: ``what`` is visited before each visit of ``other``. ``after``: it is
            visited after each. ``never after``: it is not. ``require``, ``forbid``: only the first
            half of the rule was written.
        what: The node that is required, or forbidden.
        other: The node that it is required before or after, or forbidden after.
        each: Whether each visit of ``other`` needs a visit of ``what`` of its own.
        where: File and line where it is written.
    """

    kind: Kind
    what: Visited
    other: Visited
    each: bool = False
    where: tuple[str, int] | None = None

    @property
    def drawn(self) -> tuple[NodeLike, ...]:
        """The two nodes that it connects in a drawing; empty if it is half a rule."""
        if self.kind in ("require", "forbid"):
            return ()
        ends = (self.what.node, self.other.node)
        return ends if self.kind == "before" else ends[::-1]

    @property
    def label(self) -> str:
        """Its label in a drawing."""
        if self.kind == "before":
            return "required before each" if self.each else "required before"
        return "forbidden after" if self.kind == "never after" else "required after"

    def __str__(self) -> str:
        if self.kind in ("require", "forbid"):
            return f"{self.kind}({self.what})"
        verb = "forbid" if self.kind == "never after" else "require"
        relation = "before" if self.kind == "before" else "after"
        return f"{verb}({self.what}).{relation}({self.other}{', each=True' * self.each})"


Add: TypeAlias = Callable[[OrderRule], object]


class _Half(Generic[FlowT]):
    def __init__(self, flow: FlowT, what: Visited, add: Add) -> None:
        self._flow, self._what, self._add = flow, what, add

    def _end(self, kind: Kind, other: Visited, *, each: bool = False) -> FlowT:
        self._add(OrderRule(kind, self._what, other, each, users_line()))
        return self._flow


class Require(_Half[FlowT]):
    """The first half of a rule; created by ``flow.require(node)``."""

    def before(self, node: NodeLike, /, *, each: bool = False) -> FlowT:
        """On every path, the required node is visited before this one.

        Args:
            node: A node or a flow.
            each: Whether it must be visited again before each further visit of this one.

        Returns:
            The flow.

        Raises:
            DefinitionError: An argument is invalid.
        """
        if type(each) is not bool:
            raise DefinitionError(f"require(...).before(..., each={short(each)}): True or False")
        other = visited("require(...).before", node, with_action=False)
        return self._end("before", other, each=each)

    def after(self, node: NodeLike | Outlet, /) -> FlowT:
        """On every path that ends the flow, the required node is visited after this one.

        Args:
            node: A node or a flow, or ``node.when(action)`` for visits that end with an action.

        Returns:
            The flow.

        Raises:
            DefinitionError: An argument is invalid.
        """
        return self._end("after", visited("require(...).after", node))


class Forbid(_Half[FlowT]):
    """The first half of a rule; created by ``flow.forbid(node)``."""

    def after(self, node: NodeLike | Outlet, /) -> FlowT:
        """On no path, the forbidden node is visited after this one.

        Args:
            node: A node or a flow, or ``node.when(action)`` for visits that end with an action. The
                forbidden node itself means that it is visited at most once.

        Returns:
            The flow.

        Raises:
            DefinitionError: An argument is invalid.
        """
        return self._end("never after", visited("forbid(...).after", node))


def visited(where: str, given: object, *, with_action: bool = True) -> Visited:
    """The visits that a rule is about.

    Raises:
        DefinitionError: It is neither a node nor, where allowed, ``node.when(action)``.
    """
    if isinstance(given, Outlet) and with_action:
        if given.action == ANY_ACTION:
            raise DefinitionError(
                f"{where}({given.node.name}.when('*')): a rule is about one action, or about the "
                "node with any of them: give the node itself"
            )
        return Visited(given.node, given.action)
    if not isinstance(given, Node):
        also = ", or node.when(action)" if with_action else ""
        raise DefinitionError(f"{where} takes a node{also}, not {not_a_node(given)}")
    return Visited(given)
