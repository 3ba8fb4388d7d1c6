"""Edges as they are written: where they lead, and the sources that ``flow.then`` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, TypeAlias

from typing_extensions import TypeVar

from pocoflow.store.fields import StoreField

AnyNode: TypeAlias = Any
"""A ``Node``, which is defined above this module."""

NodeT = TypeVar("NodeT", default=Any)

DEFAULT_ACTION = "default"
ANY_ACTION = "*"


class End(Enum):
    """The type of ``END``."""

    END = "END"

    def __repr__(self) -> str:
        return "END"


END: Final = End.END
"""The target of an edge where the run ends on purpose."""


@dataclass(frozen=True, slots=True, eq=False)
class Outlet:
    """One action of a node, as the source of an edge; created by ``node.when(action)``."""

    node: AnyNode
    action: str


@dataclass(frozen=True, slots=True, eq=False)
class Catch:
    """Errors of a node, as the source of an edge of a flow; created by ``node.catch(...)``.

    Attributes:
        node: The node.
        kinds: The classes of exceptions.
        field: The field that the exception is stored in, if there is one.
        value: Converts the exception; ``None`` for a :class:`~pocoflow.failure.Failure`.
        spent: For a spent budget: the names of what is spent, empty for any; ``None`` for other
            edges.
    """

    node: AnyNode
    kinds: tuple[type[Exception], ...]
    field: StoreField | None = None
    value: Callable[[Any], object] | None = None
    spent: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """The label of such an edge, where other edges have their action."""
        if self.spent is not None:
            return " ".join(("spent", *self.spent))
        return f"except {' | '.join(self.names)}"

    @property
    def names(self) -> list[str]:
        """The names of the classes."""
        return [kind.__qualname__ for kind in self.kinds]


class Limit(NamedTuple, Generic[NodeT]):
    """How often an edge is taken while a run is in the flow of the edge, and what follows.

    Attributes:
        at_most: How often.
        then: Where the edge leads after that.
    """

    at_most: int
    then: NodeT | End


Writer: TypeAlias = Literal["node", "flow"]


class Edge(NamedTuple, Generic[NodeT]):
    """An edge as it was written.

    Attributes:
        action: The action that takes it.
        target: Where it leads.
        file: The file that it is written in.
        line: The line in that file.
        catch: The errors that take it; ``None`` for an edge that an action takes.
        limit: How often it is taken, and where it leads after that; ``None`` if it has no limit.
        written: ``"node"`` for ``node.then``, ``"flow"`` for ``flow.then``.
    """

    action: str
    target: NodeT | End
    file: str
    line: int
    catch: Catch | None = None
    limit: Limit[NodeT] | None = None
    written: Writer = "node"

    @property
    def targets(self) -> tuple[NodeT | End, ...]:
        """Where it may lead."""
        return (self.target,) if self.limit is None else (self.target, self.limit.then)

    def leads_like(self, other: Edge[NodeT]) -> bool:
        """Whether another edge has the same targets and the same limit."""
        own, theirs = (
            (*map(id, edge.targets), edge.limit and edge.limit.at_most) for edge in (self, other)
        )
        return own == theirs


class _Wiring:
    """Counts changes of edges and names, so that a flow knows when to rebuild its graph."""

    version: ClassVar[int] = 0


def wiring_version() -> int:
    """A number that grows with every change of an edge or a name in any graph that was built."""
    return _Wiring.version


def wiring_changed(in_graph: bool) -> None:
    """Invalidate the graphs of all flows, if what has changed may be in one.

    A change is made before this call, and nodes are marked as parts of a graph before they are
    read, so that of two threads at least one sees the other.
    """
    if in_graph:
        _Wiring.version += 1
