"""Where a run goes from a node: out of nested flows and into them, and how often by which edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from pocoflow.address import Address
from pocoflow.graph.graph import GraphCatch, GraphNode
from pocoflow.nodes.edges import ANY_ACTION, DEFAULT_ACTION


class Stand(NamedTuple):
    """Where a run goes on.

    Attributes:
        place: The node that works next; ``None`` where the run ends.
        frames: The nested flows around it, outermost first.
        unhandled: The node whose action has no edge, where that led out of its flow.
        kept: How many of the nested flows around the node before it were not left.
    """

    place: GraphNode | None
    frames: tuple[GraphNode, ...] = ()
    unhandled: GraphNode | None = None
    kept: int = 0


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

    def leave(self, kept: int) -> None:
        """Forget the edges of nested flows that were left."""
        innermost = self._around + kept
        if any(depth > innermost for depth, _, _ in self._counts):
            known = self._counts.items()
            self._counts = {edge: count for edge, count in known if edge[0] <= innermost}

    @property
    def counts(self) -> tuple[TakenEdge, ...]:
        """How often each was taken, as it is put on record."""
        return tuple((*edge, count) for edge, count in self._counts.items())


def enter(place: GraphNode, frames: Sequence[GraphNode] = ()) -> Stand:
    """Go into a nested flow, and into those that begin with one, to the first node that works."""
    around = [*frames]
    while place.inner is not None:
        around.append(place)
        place = place.inner.start
    return Stand(place, tuple(around))


def first_of(place: GraphNode) -> tuple[GraphNode, tuple[str, ...]]:
    """The node where work begins, this one or the first of the flow that it is, and its path."""
    stand = enter(place)
    return stand.place or place, tuple(frame.name for frame in stand.frames)


def first_address(place: GraphNode, frames: Sequence[GraphNode] = ()) -> Address:
    """Where work begins, under the flows around a node; as it is put on record."""
    first, path = first_of(place)
    return Address((*(one.name for one in frames), *path), first.name)


def follow(
    place: GraphNode,
    action: str | None,
    frames: Sequence[GraphNode] = (),
    is_spent: IsSpent | None = None,
) -> Stand:
    """Where an action of a node leads, out of the nested flows that it ends and into the next.

    The action that ends a nested flow is the action of its node in the flow around it. Without
    ``is_spent``, limits do not count.
    """
    depth, unhandled = len(frames), None
    while True:
        following = place.next(action)
        if is_spent is not None and (edge := place.edge_of(action)) in place.limits:
            limit = place.limits[edge]
            if is_spent(depth, place.name, edge, limit.at_most):
                following = limit.then
        if following is not None:
            break
        if unhandled is None and place.is_open and action not in place.targets:
            unhandled = place
        if not depth:
            return Stand(None, (), unhandled)
        depth -= 1
        place = frames[depth]
    around = tuple(frames[:depth])
    if following.inner is None:
        return Stand(following, around, unhandled, depth)
    return enter(following, around)._replace(unhandled=unhandled, kept=depth)


def is_expected(frames: Sequence[GraphNode], action: str) -> bool:
    """Whether a flow around has an edge for an action that ends the nested flows inside of it."""
    for frame in reversed(frames):
        if action in frame.targets or ANY_ACTION in frame.actions:
            return action in frame.targets
    return False


def catch(
    place: GraphNode,
    error: BaseException,
    frames: Sequence[GraphNode] = (),
    is_spent: IsSpent | None = None,
    *,
    after: bool = False,
) -> tuple[GraphCatch, Stand] | None:
    """Where an error of a node leads, and the edge that catches it; ``None`` if none does.

    An error that nothing inside of a nested flow catches is one of its node in the flow around it.
    With ``after`` the node is done, and takes an edge for a spent budget alone.
    """
    depth = len(frames)
    while (found := place.when_spent(error) if after else place.catching(error)) is None:
        if not depth:
            return None
        depth -= 1
        place = frames[depth]
    return found, after_catch(place, found, frames[:depth], is_spent)


def after_catch(
    place: GraphNode,
    caught: GraphCatch,
    frames: Sequence[GraphNode],
    is_spent: IsSpent | None = None,
) -> Stand:
    """Where an edge for errors leads; one to ``END`` ends a nested flow with the default action."""
    target, edge = caught.target, caught.catch.label
    if is_spent is not None and edge in place.limits:
        limit = place.limits[edge]
        if is_spent(len(frames), place.name, edge, limit.at_most):
            target = limit.then
    if target is not None:
        return enter(target, frames)._replace(kept=len(frames))
    if not frames:
        return Stand(None)
    return follow(frames[-1], DEFAULT_ACTION, frames[:-1], is_spent)
