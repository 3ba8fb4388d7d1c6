"""Where a run goes from a node: out of nested flows and into them, and how often by which edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from pocoflow.address import Address
from pocoflow.graph.graph import GraphCatch, Vertex
from pocoflow.nodes.edges import ANY_ACTION, DEFAULT_ACTION


class Stand(NamedTuple):
    """Where a run goes on.

    Attributes:
        vertex: The node that works next; ``None`` where the run ends.
        frames: The nested flows around it, outermost first.
        unhandled: The node whose action has no edge, where that led out of its flow.
        depth: How many of the nested flows around the node before it were not left.
    """

    vertex: Vertex | None
    frames: tuple[Vertex, ...] = ()
    unhandled: Vertex | None = None
    depth: int = 0


IsSpent: TypeAlias = Callable[[int, str, str, int], bool]
"""Whether an edge with a limit was taken as often as it may be; if not, it counts as taken now.

Called with the number of nested flows around the edge, the name of its source, its action, its
limit.
"""


TakenEdge: TypeAlias = tuple[int, str, str, int]
"""How many flows and branches are around an edge, its source, its action, how often it was taken.
"""


class Taken:
    """How often a line has taken edges that have limits, since it came into their flows.

    Args:
        around: How many flows and branches are around the line.
        counts: How often each was taken: how many flows and branches are around the edge, the name
            of its source, its action, and the number.
    """

    __slots__ = ("_around", "_counts")

    def __init__(self, around: int = 0, counts: Iterable[TakenEdge] = ()) -> None:
        self._around = around
        self._counts = {one[:3]: one[3] for one in counts}

    def is_spent(self, depth: int, source: str, action: str, at_most: int) -> bool:
        """Whether an edge was taken as often as it may be; if not, it is counted."""
        edge = (self._around + depth, source, action)
        count = self._counts.get(edge, 0)
        if count >= at_most:
            return True
        self._counts[edge] = count + 1
        return False

    def leave(self, depth: int) -> None:
        """Forget the edges of nested flows that were left."""
        innermost = self._around + depth
        if any(depth > innermost for depth, _, _ in self._counts):
            known = self._counts.items()
            self._counts = {edge: count for edge, count in known if edge[0] <= innermost}

    @property
    def counts(self) -> tuple[TakenEdge, ...]:
        """How often each was taken, as it is put on record."""
        return tuple((*edge, count) for edge, count in self._counts.items())


def enter(vertex: Vertex, frames: Sequence[Vertex] = ()) -> Stand:
    """Go into a nested flow, and into those that begin with one, to the first node that works."""
    around = [*frames]
    while vertex.inner is not None:
        around.append(vertex)
        vertex = vertex.inner.start
    return Stand(vertex, tuple(around))


def first_of(vertex: Vertex) -> tuple[Vertex, tuple[str, ...]]:
    """The node where work begins, this one or the first of the flow that it is, and its path."""
    stand = enter(vertex)
    return stand.vertex or vertex, tuple(frame.name for frame in stand.frames)


def first_address(vertex: Vertex, frames: Sequence[Vertex] = ()) -> Address:
    """Where work begins, under the flows around a node; as it is put on record."""
    first, path = first_of(vertex)
    return Address((*(one.name for one in frames), *path), first.name)


def follow(
    vertex: Vertex,
    action: str | None,
    frames: Sequence[Vertex] = (),
    is_spent: IsSpent | None = None,
) -> Stand:
    """Where an action of a node leads, out of the nested flows that it ends and into the next.

    The action that ends a nested flow is the action of its node in the flow around it. Without
    ``is_spent``, limits do not count.
    """
    depth, unhandled = len(frames), None
    while True:
        successor = vertex.next(action)
        if is_spent is not None and (edge := vertex.edge_of(action)) in vertex.limits:
            limit = vertex.limits[edge]
            if is_spent(depth, vertex.name, edge, limit.at_most):
                successor = limit.then
        if successor is not None:
            break
        if unhandled is None and vertex.is_open and action not in vertex.targets:
            unhandled = vertex
        if not depth:
            return Stand(None, (), unhandled)
        depth -= 1
        vertex = frames[depth]
    around = tuple(frames[:depth])
    if successor.inner is None:
        return Stand(successor, around, unhandled, depth)
    return enter(successor, around)._replace(unhandled=unhandled, depth=depth)


def is_expected(frames: Sequence[Vertex], action: str) -> bool:
    """Whether a flow around has an edge for an action that ends the nested flows inside of it."""
    for frame in reversed(frames):
        if action in frame.targets or ANY_ACTION in frame.actions:
            return action in frame.targets
    return False


def catch(
    vertex: Vertex,
    error: BaseException,
    frames: Sequence[Vertex] = (),
    is_spent: IsSpent | None = None,
    *,
    after: bool = False,
) -> tuple[GraphCatch, Stand] | None:
    """Where an error of a node leads, and the edge that catches it; ``None`` if none does.

    An error that nothing inside of a nested flow catches is one of its node in the flow around it.
    With ``after`` the node is done, and takes an edge for a spent budget alone.
    """
    depth = len(frames)
    while (found := vertex.when_spent(error) if after else vertex.catching(error)) is None:
        if not depth:
            return None
        depth -= 1
        vertex = frames[depth]
    return found, after_catch(vertex, found, frames[:depth], is_spent)


def after_catch(
    vertex: Vertex,
    caught: GraphCatch,
    frames: Sequence[Vertex],
    is_spent: IsSpent | None = None,
) -> Stand:
    """Where an edge for errors leads; one to ``END`` ends a nested flow with the default action."""
    target, edge = caught.target, caught.catch.label
    if is_spent is not None and edge in vertex.limits:
        limit = vertex.limits[edge]
        if is_spent(len(frames), vertex.name, edge, limit.at_most):
            target = limit.then
    if target is not None:
        return enter(target, frames)._replace(depth=len(frames))
    if not frames:
        return Stand(None)
    return follow(frames[-1], DEFAULT_ACTION, frames[:-1], is_spent)
