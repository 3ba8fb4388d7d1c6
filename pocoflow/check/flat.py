"""A flow as a run walks through it: nested flows opened up, one edge for each way to go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pocoflow.graph.graph import GraphNode, Stand, after_catch, enter, follow, label
from pocoflow.nodes.edges import DEFAULT_ACTION, Catch

__all__ = ["Spot", "Walk", "Way"]


class Way(NamedTuple):
    """A way on from a node.

    Attributes:
        action: The action that takes it; ``None`` is any that has no edge at the node. Where errors
            take it: ``except`` and their classes.
        target: The node that comes next; ``None`` ends the run.
        ending: The action with which it ends a nested flow or the run; ``None`` if not known.
        catch: What the edge was written with, if errors take it.
        is_unhandled: Whether it ends a flow although the node has edges, and none for the action.
    """

    action: str | None
    target: Spot | None
    ending: str | None = None
    catch: Catch | None = None
    is_unhandled: bool = False


class Spot:
    """A node that works, at its place in the flow and the nested flows around it.

    Attributes:
        place: The node in its graph.
        frames: The nested flows around it, outermost first.
        ways: The ways on.
    """

    __slots__ = ("frames", "place", "ways")

    def __init__(self, place: GraphNode, frames: tuple[GraphNode, ...]) -> None:
        self.place = place
        self.frames = frames
        self.ways: list[Way] = []

    @property
    def name(self) -> str:
        """The node's name, with the nested flows around it."""
        return label(self.place.name, tuple(frame.name for frame in self.frames))

    def inside(self, node: str | None) -> str:
        """The name of a node in a branch of this one; its own if that is ``None``."""
        return self.name if node is None else f"{self.name}/{node}"


class Walk:
    """Everything that a run can come to from one node.

    Args:
        place: Where the run begins or goes on.
        frames: The nested flows around it.

    Attributes:
        spots: What can be reached, breadth first.
    """

    def __init__(self, place: GraphNode, frames: Sequence[GraphNode] = ()) -> None:
        self._known: dict[tuple[int, ...], Spot] = {}
        self.spots: list[Spot] = []
        start = enter(place, frames)
        self.start = Spot(start.place or place, start.frames)
        self._known[id(self.start.place), *map(id, start.frames)] = self.start
        self.spots.append(self.start)
        for spot in self.spots:  # grows while it is walked through
            spot.ways = list(self._ways(spot))

    def _spot(self, stand: Stand) -> Spot | None:
        place, frames, _ = stand
        if place is None:
            return None
        key = (id(place), *map(id, frames)) if frames else (id(place),)
        spot = self._known.get(key)
        if spot is None:
            spot = self._known[key] = Spot(place, frames)
            self.spots.append(spot)
        return spot

    def _ways(self, spot: Spot) -> Iterator[Way]:
        place, frames = spot.place, spot.frames
        declared = place.declared
        for action in place.targets if declared is None else declared:
            yield self._way(action, follow(place, action, frames), action)
        if declared is None:
            yield from self._others(place, frames)
        yield from self._errors(place, "", frames)
        for depth in range(len(frames) - 1, -1, -1):
            frame = frames[depth]
            if frame.catches:
                yield from self._errors(frame, f" in {frame.name}", frames[:depth])

    def _others(self, place: GraphNode, frames: tuple[GraphNode, ...]) -> Iterator[Way]:
        """Where any action leads that has no edge at the node: the flows around may have one."""
        while place.fallback is None and frames:
            *outer, place = frames
            frames = tuple(outer)
            for action in place.targets:
                yield self._way(None, follow(place, action, frames), action)
        yield self._way(None, follow(place, None, frames), None)

    def _way(self, action: str | None, stand: Stand, ending: str | None) -> Way:
        unhandled = stand.unhandled is not None
        return Way(action, self._spot(stand), ending, is_unhandled=unhandled)

    def _errors(self, place: GraphNode, where: str, frames: tuple[GraphNode, ...]) -> Iterator[Way]:
        """Where errors lead that a node, or a nested flow, catches."""
        for one in place.catches:
            target = self._spot(after_catch(one, frames))
            yield Way(one.catch.label + where, target, DEFAULT_ACTION, one.catch)

    def forward(
        self, initial: int, changes: Mapping[int, Mapping[Way, tuple[int, int]]]
    ) -> dict[int, int]:
        """What holds on every path to a node, as bits, by the id of its spot.

        Args:
            initial: What holds at the start.
            changes: What a node leaves of that on each of its ways, and what it adds, by the id of
                its spot.
        """
        known: dict[int, int] = {id(self.start): initial}
        queue, waiting = [self.start], {id(self.start)}
        while queue:
            following: list[Spot] = []
            for spot in queue:
                waiting.discard(id(spot))
                here = known[id(spot)]
                for way, (kept, added) in changes[id(spot)].items():
                    target = way.target
                    if target is None:
                        continue
                    seen = known.get(id(target), -1)
                    new = seen & (here & kept | added)
                    if id(target) not in known or new != seen:
                        known[id(target)] = new
                        if id(target) not in waiting:
                            waiting.add(id(target))
                            following.append(target)
            queue = following
        return known

    def leads(self, start: Spot, goals: Iterable[Spot]) -> bool:
        """Whether a way leads from a node to one of some others."""
        wanted = set(map(id, goals))
        met = {id(way.target): way.target for way in start.ways}
        for target in (queue := list(met.values())):  # grows while it is walked through
            for way in () if target is None else target.ways:
                if id(way.target) not in met:
                    met[id(way.target)] = way.target
                    queue.append(way.target)
        return not wanted.isdisjoint(met)

    def path_to(
        self, goal: Spot, holds: bool, change: Callable[[Spot, Way], bool | None]
    ) -> list[tuple[Spot, str | None]]:
        """A shortest way from the start to a node on which something does not hold there.

        Args:
            goal: The node.
            holds: Whether it holds at the start.
            change: Whether it holds behind a node, on one of its ways; ``None`` if as before it.

        Returns:
            The nodes, each with the action that leads to it; ``None`` for the first one.
        """
        start = (self.start, holds)
        came: dict[tuple[int, bool], tuple[Spot, bool, str] | None] = {(id(start[0]), holds): None}
        queue = deque([start])
        while queue:
            spot, here = queue.popleft()
            if spot is goal and not here:
                break
            for way in spot.ways:
                after = change(spot, way)
                there = here if after is None else after
                if way.target is not None and (id(way.target), there) not in came:
                    came[id(way.target), there] = (spot, here, way.action or "*")
                    queue.append((way.target, there))
        steps: list[tuple[Spot, str | None]] = []
        at, here = goal, (id(goal), False) not in came
        while (before := came.get((id(at), here))) is not None:
            steps.append((at, before[2]))
            at, here, _ = before
        return [(at, None), *reversed(steps)]
