"""Where a run goes from a node: into and out of nested flows, and how often along which edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from pocoflow.address import Address
from pocoflow.graph.graph import GraphCatch, Vertex
from pocoflow.nodes.edges import ANY_ACTION, DEFAULT_ACTION


class Position(NamedTuple):
    """Where a run continues.

    Attributes:
        vertex: The next node; ``None`` if the run ends.
        frames: The nested flows around it, outermost first.
        unhandled: The node whose action has no edge, if that ended its flow.
        depth: How many of the nested flows around the previous node were not left.
    """

    vertex: Vertex | None
    frames: tuple[Vertex, ...] = ()
    unhandled: Vertex | None = None
    depth: int = 0


IsSpent: TypeAlias = Callable[[int, str, str, int], bool]
"""Whether an edge has reached its limit; if not, it is counted as taken.

Called with the number of nested flows around the edge, the name of its source, its action, its
limit.
"""


TakenEdge: TypeAlias = tuple[int, str, str, int]
"""How many flows and branches are around an edge, its source, its action, how often it was taken.
"""


class Taken:
    """How often a line has taken edges that have limits, since it entered their flows.

    Args:
        around: How many flows and branches are around the line.
        counts: How often each was taken so far.
    """

    __slots__ = ("_around", "_counts")

    def __init__(self, around: int = 0, counts: Iterable[TakenEdge] = ()) -> None:
        self._around = around
        self._counts = {edge[:3]: edge[3] for edge in counts}

    def is_spent(self, depth: int, source: str, action: str, at_most: int) -> bool:
        """Whether an edge has reached its limit; if not, it is counted as taken."""
        edge = (self._around + depth, source, action)
        count = self._counts.get(edge, 0)
        if count >= at_most:
            return True
        self._counts[edge] = count + 1
        return False

    def leave(self, depth: int) -> None:
        """Drop the counts of edges in nested flows that were left."""
        innermost = self._around + depth
        if any(depth > innermost for depth, _, _ in self._counts):
            known = self._counts.items()
            self._counts = {edge: count for edge, count in known if edge[0] <= innermost}

    @property
    def counts(self) -> tuple[TakenEdge, ...]:
        """How often each was taken, as it is recorded."""
        return tuple((*edge, count) for edge, count in self._counts.items())


def enter(vertex: Vertex, frames: Sequence[Vertex] = ()) -> Position:
    """Enter a nested flow, and the flows that it starts with, up to the first node to visit."""
    around = [*frames]
    while vertex.inner is not None:
        around.append(vertex)
        vertex = vertex.inner.start
    return Position(vertex, tuple(around))


def first_address(vertex: Vertex, frames: Sequence[Vertex] = ()) -> Address:
    """The address of the first node to visit, within the flows around it, as it is recorded."""
    first = enter(vertex, frames)
    return Address(tuple(frame.name for frame in first.frames), (first.vertex or vertex).name)


def follow(
    vertex: Vertex,
    action: str | None,
    frames: Sequence[Vertex] = (),
    is_spent: IsSpent | None = None,
) -> Position:
    """Where an action of a node leads, out of the nested flows that it ends and into the next.

    The action that ends a nested flow is the action of its node in the flow around it. Without
    ``is_spent``, limits are ignored.
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
            return Position(None, (), unhandled)
        depth -= 1
        vertex = frames[depth]
    around = tuple(frames[:depth])
    if successor.inner is None:
        return Position(successor, around, unhandled, depth)
    return enter(successor, around)._replace(unhandled=unhandled, depth=depth)


def is_expected(frames: Sequence[Vertex], action: str) -> bool:
    """Whether an outer flow has an edge for an action that ends the nested flows inside of it."""
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
) -> tuple[GraphCatch, Position] | None:
    """The edge that catches an error of a node, and where it leads; ``None`` if none does.

    An error that is not caught inside of a nested flow is an error of its node in the flow around
    it. With ``after`` the node has finished, and only edges for spent budgets are considered.
    """
    depth = len(frames)
    while (match := vertex.when_spent(error) if after else vertex.catching(error)) is None:
        if not depth:
            return None
        depth -= 1
        vertex = frames[depth]
    return match, after_catch(vertex, match, frames[:depth], is_spent)


def after_catch(
    vertex: Vertex,
    caught: GraphCatch,
    frames: Sequence[Vertex],
    is_spent: IsSpent | None = None,
) -> Position:
    """Where an edge for errors leads; one to ``END`` ends a nested flow with the default action."""
    target, edge = caught.target, caught.catch.label
    if is_spent is not None and edge in vertex.limits:
        limit = vertex.limits[edge]
        if is_spent(len(frames), vertex.name, edge, limit.at_most):
            target = limit.then
    if target is not None:
        return enter(target, frames)._replace(depth=len(frames))
    if not frames:
        return Position(None)
    return follow(frames[-1], DEFAULT_ACTION, frames[:-1], is_spent)
