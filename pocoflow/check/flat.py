"""A flow as a run walks through it: nested flows opened up, one edge for each way to go on."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from itertools import pairwise
from operator import and_, attrgetter, or_
from typing import NamedTuple, TypeAlias

from pocoflow.check.control import Keys, solve
from pocoflow.check.node_effects import Effects, Exit, Location, location_at
from pocoflow.graph.graph import Graph, Vertex, label
from pocoflow.graph.routing import IsSpent, Position, after_catch, enter, follow
from pocoflow.nodes.edges import DEFAULT_ACTION, Catch
from pocoflow.nodes.parallel import FAILED, FanOut, SplitNode

_SHOWN = 12


class Way(NamedTuple):
    """A way on from a node.

    Attributes:
        action: The action that takes it; ``None`` is any that has no edge at the node. Where errors
            take it: ``except`` and their classes.
        target: The node that comes next; ``None`` ends the run.
        ending: The action with which it ends a nested flow or the run; ``None`` if not known.
        catch: What the edge was written with, if errors take it.
        is_unhandled: Whether it ends a flow although the node has edges, and none for the action.
        depth: How many of the nested flows around the node it does not leave.
        is_guess: Whether the edge of a flow around that it takes is likelier there for another node
            inside of that flow: nobody knows the actions of this one.
    """

    action: str | None
    target: Spot | None
    ending: str | None = None
    catch: Catch | None = None
    is_unhandled: bool = False
    depth: int = 0
    is_guess: bool = False


Actions: TypeAlias = "Callable[[Vertex], tuple[str, ...] | None]"
"""The actions that a node can return; ``None`` if they are not known."""


LimitedEdge: TypeAlias = tuple[int, str, str]
"""How many nested flows are around an edge with a limit, the name of its source, its action."""

_NONE: frozenset[LimitedEdge] = frozenset()

_MANY = 10_000


@dataclass(eq=False, slots=True)
class Spot:
    """A node that works, at its place in the flow and the nested flows around it.

    Attributes:
        vertex: The node in its graph.
        frames: The nested flows around it, outermost first.
        taken: The edges with limits that were taken on the way there: no other has reached its
            limit.
        ways: The ways on.
    """

    vertex: Vertex
    frames: tuple[Vertex, ...]
    taken: frozenset[LimitedEdge] = _NONE
    ways: list[Way] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The node's name, with the nested flows around it."""
        return label(self.vertex.name, tuple(frame.name for frame in self.frames))

    def inside(self, node: str | None) -> str:
        """The name of a node in a branch of this one; its own if that is ``None``."""
        return self.name if node is None else f"{self.name}/{node}"


class Walk:
    """Everything that a run can come to from one node.

    Args:
        vertex: Where the run begins or goes on.
        frames: The nested flows around it.
        actions: What nodes can return; by default what they declare.

    Attributes:
        spots: What can be reached, breadth first.
    """

    def __init__(
        self,
        vertex: Vertex,
        frames: Sequence[Vertex] = (),
        actions: Actions = attrgetter("declared"),
    ) -> None:
        self._actions = actions
        self._endings: dict[int, tuple[set[str], list[Vertex]]] = {}
        # By place, and there by the edges with limits that were taken.
        self._known: dict[object, dict[frozenset[LimitedEdge], Spot]] = {}
        self.spots: list[Spot] = []
        start = enter(vertex, frames)
        self.start = self._at(start.vertex or vertex, start.frames, _NONE)
        for spot in self.spots:  # grows while it is walked through
            self._add_ways(spot)

    def _spot(self, position: Position, taken: frozenset[LimitedEdge]) -> Spot | None:
        if position.vertex is None:
            return None
        if taken:
            taken = frozenset(edge for edge in taken if edge[0] <= position.depth)
        return self._at(position.vertex, position.frames, taken)

    def _at(
        self, vertex: Vertex, frames: tuple[Vertex, ...], taken: frozenset[LimitedEdge]
    ) -> Spot:
        key = _key(vertex, frames)
        here = self._known.get(key)
        if here is None:
            here = self._known[key] = {}
        spot = here.get(taken)
        if spot is None:
            spot = here[taken] = Spot(vertex, frames, taken)
            self.spots.append(spot)
        return spot

    def alike(self, spot: Spot) -> Collection[Spot]:
        """The same place, whichever edges with limits were taken on the way there."""
        return self._known[_key(spot.vertex, spot.frames)].values()

    def _add_ways(self, spot: Spot) -> None:
        vertex, frames, ways = spot.vertex, spot.frames, spot.ways
        known = self._actions(vertex)
        for action in vertex.targets if known is None else known:
            ways += self._leads(spot, action, vertex, action, frames)
        if known is None:
            self._add_others(spot)
        if vertex.catches or frames:
            ways += self._catching(spot)

    def _catching(self, spot: Spot) -> Iterator[Way]:
        vertex, frames = spot.vertex, spot.frames
        caught: tuple[type[Exception], ...] = ()
        for depth in range(len(frames), -1, -1):
            catching = vertex if depth == len(frames) else frames[depth]
            where = "" if catching is vertex else f" in {catching.name}"
            for one in catching.catches:
                # What is caught further inside does not come here; that a budget is spent does.
                spent, kinds = one.catch.spent, one.catch.kinds
                if spent is not None or not all(issubclass(kind, caught) for kind in kinds):
                    lead = partial(after_catch, catching, one, frames[:depth])
                    yield from self._caught(spot, one.catch, where, lead)
                caught += kinds if spent is None else ()

    def _add_others(self, spot: Spot) -> None:
        """Where any action leads that has no edge at the node: the flows around may have one."""
        vertex, frames = spot.vertex, spot.frames
        while vertex.fallback is None and frames:
            *outer, vertex = frames
            frames = tuple(outer)
            for action in vertex.targets:
                is_guess = self._is_guess(spot.vertex, vertex, action)
                found = self._leads(spot, None, vertex, action, frames)
                spot.ways += (one._replace(is_guess=is_guess) for one in found)
        spot.ways += self._leads(spot, None, spot.vertex, None, spot.frames)

    def _is_guess(self, vertex: Vertex, around: Vertex, action: str) -> bool:
        """Whether somebody else inside of a flow may be who ends it with an action."""
        known, others = self._ending(around.within[0])
        return action in known or others != [vertex]

    def _ending(self, graph: Graph) -> tuple[set[str], list[Vertex]]:
        """The actions that are known to end a graph, and the nodes that may do so with any.

        Of these, those without edges are meant to be ends.
        """
        for one in () if id(graph) in self._endings else graph.inner_first():
            if id(one) not in self._endings:
                known: set[str] = set()
                unknown: list[Vertex] = []
                for vertex in one.nodes.values():
                    given: Iterable[str] | None
                    if vertex.inner is None:
                        given, open_ = self._actions(vertex), [vertex]
                    else:
                        given, open_ = self._endings[id(vertex.inner)]
                    known.update(a for a in given or vertex.targets if vertex.next(a) is None)
                    if vertex.fallback is None and (given is None or vertex.inner is not None):
                        unknown += open_
                self._endings[id(one)] = known, [p for p in unknown if not p.targets] or unknown
        return self._endings[id(graph)]

    def _leads(
        self,
        spot: Spot,
        action: str | None,
        vertex: Vertex,
        ending: str | None,
        frames: tuple[Vertex, ...],
    ) -> tuple[Way, ...] | list[Way]:
        """Where an action leads, whether or not the limits of edges on the way are reached."""
        if not vertex.limits and not (frames and any(frame.limits for frame in frames)):
            position = follow(vertex, ending, frames)
            target, unhandled = self._spot(position, spot.taken), position.unhandled is not None
            return (Way(action, target, ending, None, unhandled, position.depth),)
        lead = partial(follow, vertex, ending, frames)
        found = []
        for position, taken in self._each_position(lead, spot.taken):
            target, unhandled = self._spot(position, taken), position.unhandled is not None
            found.append(Way(action, target, ending, None, unhandled, position.depth))
        return found

    def _caught(
        self, spot: Spot, catch: Catch, where: str, lead: Callable[[IsSpent], Position]
    ) -> Iterator[Way]:
        """Where errors lead that a node, or a nested flow, catches."""
        for position, taken in self._each_position(lead, spot.taken):
            target = self._spot(position, taken)
            yield Way(catch.label + where, target, DEFAULT_ACTION, catch, depth=position.depth)

    def _each_position(
        self, lead: Callable[[IsSpent], Position], taken: frozenset[LimitedEdge]
    ) -> Iterator[tuple[Position, frozenset[LimitedEdge]]]:
        """Where something leads, whether or not limits on its way are reached, and what it takes.

        Where that makes very many of few places, any edge may have been taken.
        """
        knows_all = len(self.spots) - len(self._known) < _MANY
        waiting: list[tuple[bool, ...]] = [()]
        for given in waiting:  # grows while it is walked through
            position, now = _one_position(lead, taken if knows_all else None, given, waiting)
            yield position, taken | now if knows_all else taken

    def leads(self, start: Spot, goals: Collection[Spot]) -> bool:
        """Whether a way leads from a node to one of some others."""
        after = {way.target: True for way in start.ways if way.target is not None}
        found = solve(
            after, lambda spot, _: [(way.target, True) for way in spot.ways if way.target], or_
        )
        return any(goal in found for goal in goals)

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
        came: dict[tuple[Spot, bool], tuple[Spot, bool, str] | None] = {start: None}
        queue = deque([start])
        while queue:
            spot, here = queue.popleft()
            if spot is goal and not here:
                break
            for way in spot.ways:
                after = change(spot, way)
                there = here if after is None else after
                if way.target is not None and (way.target, there) not in came:
                    came[way.target, there] = (spot, here, way.action or "*")
                    queue.append((way.target, there))
        steps: list[tuple[Spot, str | None]] = []
        at, here = goal, (goal, False) not in came
        while (before := came.get((at, here))) is not None:
            steps.append((at, before[2]))
            at, here, _ = before
        return [(at, None), *reversed(steps)]


def _key(vertex: Vertex, frames: tuple[Vertex, ...]) -> object:
    return (id(vertex), *map(id, frames)) if frames else id(vertex)


def _one_position(
    lead: Callable[[IsSpent], Position],
    before: frozenset[LimitedEdge] | None,
    given: tuple[bool, ...],
    others: list[tuple[bool, ...]],
) -> tuple[Position, set[LimitedEdge]]:
    """Where something leads, and the edges with limits that it takes.

    Args:
        lead: Says where, and asks of the edges on the way whether their limits are reached.
        before: The edges that were taken before, of which alone a limit can be reached; ``None`` if
            that is not known.
        given: The answers where both are possible, in this order; of more edges, that they are not.
        others: Gets what else might be answered.
    """
    said, taken = [*given], set[LimitedEdge]()
    left = iter(given)

    def is_spent(depth: int, source: str, action: str, at_most: int) -> bool:
        edge = (depth, source, action)
        if before is not None and (edge not in before or at_most == 1):
            spent = edge in before
        else:
            known = next(left, None)
            if known is None:
                others.append((*said, True))
                said.append(False)
            spent = bool(known)
        if not spent:
            taken.add(edge)
        return spent

    return lead(is_spent), taken


def path_text(steps: Sequence[tuple[str, str | None]]) -> str:
    """A path as text: the names of its nodes, each with the action that leads to it."""
    parts = [steps[0][0]]
    for name, action in steps[1:]:
        parts += ["->" if action == DEFAULT_ACTION else f"-{action}->", name]
    if len(parts) > 2 * _SHOWN:
        parts = [*parts[:_SHOWN], "...", *parts[-_SHOWN:]]
    return " ".join(parts)


class DataFlow:
    """What has been written where a node begins, and what may still be read.

    What a node needs counts as written behind it: a run that gets past it had the key.

    Args:
        walk: The nodes.
        effects: What each does.
        out: What it has done on one of its ways.
        initial: What is there from the start.

    Attributes:
        keys: The keys, as bits.
        effects: What each node does.
        out: What each has done on each of its ways, in their order.
        behind: What each leaves of what is there, and what it adds, likewise.
    """

    def __init__(
        self,
        walk: Walk,
        effects: Callable[[Spot], Effects],
        out: Callable[[Spot, Way], Exit],
        initial: Iterable[str] = (),
    ) -> None:
        self.walk, self.keys = walk, Keys()
        self._initial = self.keys.of(initial)
        self.effects = {spot: effects(spot) for spot in walk.spots}
        self.out: dict[Spot, tuple[Exit, ...]] = {}
        self.behind: dict[Spot, tuple[tuple[int, int], ...]] = {}
        known: dict[tuple[int, ...], Spot] = {}  # most nodes of a class do the same
        for spot in walk.spots:
            does, ends = self.effects[spot], tuple([out(spot, way) for way in spot.ways])
            same = known.setdefault((id(does), *map(id, ends)), spot)
            if same is spot:
                self.out[spot] = ends
                self.behind[spot] = tuple(self._change(does, one) for one in ends)
            else:
                self.out[spot], self.behind[spot] = self.out[same], self.behind[same]

    def _change(self, does: Effects, out: Exit) -> tuple[int, int]:
        if out.unknown:
            return -1, -1
        kept = ~self.keys.of(out.gone) if out.kept is None else self.keys.of(out.kept)
        return kept, self.keys.of(does.needs) & kept | self.keys.of(out.may | out.seen)

    @cached_property
    def before(self) -> dict[Spot, int]:
        """What may have been written on every path to a node."""
        return self._on_paths(self._initial, self.behind, and_)

    @cached_property
    def had(self) -> dict[Spot, int]:
        """What was there at some time on every path to a node, removed since or not."""
        of = self.keys.of
        behind = {
            spot: [(-1, added | of(self.effects[spot].needs)) for _, added in changes]
            for spot, changes in self.behind.items()
        }
        return self._on_paths(self._initial, behind, and_)

    def is_set_again(self, spot: Spot, key: str) -> bool:
        """Whether a node writes a key for certain, and some path to it has set the key before."""
        does = self.effects[spot]
        if not does.exits or not all(key in one.must for one in does.exits):
            return False
        return key in does.needs or bool(self._sure[spot] & self.keys.of((key,)))

    @cached_property
    def _sure(self) -> dict[Spot, int]:
        """What some path to a node has set for certain."""
        of = self.keys.of
        behind = {
            spot: [
                (kept, of(one.must.union(self.effects[spot].needs)) & kept)
                for one, (kept, _) in zip(self.out[spot], changes, strict=True)
            ]
            for spot, changes in self.behind.items()
        }
        return self._on_paths(self._initial, behind, or_)

    @cached_property
    def _hoped_behind(self) -> dict[Spot, list[tuple[int, int]]]:
        """As ``behind``, if what is not seen is as it should be.

        What was looked for may be what a choice depends on, and an error that a nested flow catches
        may be one of those nodes inside that come after a write.
        """
        some = self._on_paths(self._initial, self.behind, or_)
        caught: dict[tuple[int, Spot | None], int] = {}
        looks: dict[Spot, list[tuple[int, int]]] = {}
        for spot, changes in self.behind.items():
            looks[spot] = []
            for way, one, (kept, added) in zip(spot.ways, self.out[spot], changes, strict=True):
                sees_all = self.effects[spot].reads_more
                looks[spot].append((kept, kept if sees_all else self.keys.of(one.looked)))
                own = (one.catch for one in spot.vertex.catches)
                if way.catch is not None and all(one is not way.catch for one in own):
                    at = (id(way.catch), way.target)
                    caught[at] = caught.get(at, 0) | some[spot] & kept | added
        looked = self._on_paths(0, looks, or_)
        behind: dict[Spot, list[tuple[int, int]]] = {}
        for spot, changes in self.behind.items():
            is_choice = len({way.target for way in spot.ways}) > 1
            behind[spot] = []
            for way, (kept, added), (_, new) in zip(spot.ways, changes, looks[spot], strict=True):
                counts = is_choice or (way.target is not None and way.target.vertex.branches)
                asked = looked[spot] & kept | new if counts else 0
                around = caught.get((id(way.catch), way.target), 0)
                behind[spot].append((kept, added | asked | around))
        return behind

    @cached_property
    def _hoped(self) -> dict[Spot, int]:
        return self._on_paths(self._initial, self._hoped_behind, and_)

    @cached_property
    def _doubted(self) -> int:
        """The keys of which more is hoped than is seen."""
        every = {id(ends): (spot, ends) for spot, ends in self.out.items()}
        if any(self.effects[spot].reads_more for spot, _ in every.values()):
            return -1
        if any(frame.catches for spot in self.walk.spots for frame in spot.frames):
            return -1
        return self.keys.of(key for _, ends in every.values() for one in ends for key in one.looked)

    def lacks(self, spot: Spot, key: str, way: Way | None = None) -> bool:
        """Whether on some path a key is certainly not there: at a node, or behind it on a way."""
        bit = self.keys.of((key,))
        is_doubted = self._doubted & bit
        here = (self._hoped if is_doubted else self.before)[spot]
        changes = (self._hoped_behind if is_doubted else self.behind)[spot]
        for one, (kept, added) in zip(spot.ways, changes, strict=True):
            if one is way:
                here = here & kept | added
        return not here & bit

    def _on_paths(
        self,
        start: int,
        behind: Mapping[Spot, Sequence[tuple[int, int]]],
        join: Callable[[int, int], int],
    ) -> dict[Spot, int]:
        """What holds on the paths to a node, from what each keeps and adds on each of its ways."""

        def leads(spot: Spot, here: int) -> list[tuple[Spot, int]]:
            return [
                (way.target, here & kept | added)
                for way, (kept, added) in zip(spot.ways, behind[spot], strict=True)
                if way.target is not None
            ]

        return solve({self.walk.start: start}, leads, join)

    def _at_every_end(self, change: Callable[[Exit], tuple[int, int]]) -> int | None:
        """What holds wherever the walk ends; ``None`` if it does not."""
        behind = {spot: [change(one) for one in ends] for spot, ends in self.out.items()}
        known = self._on_paths(0, behind, and_)
        ends = [
            known[spot] & kept | added
            for spot, changes in behind.items()
            for way, (kept, added) in zip(spot.ways, changes, strict=True)
            if way.target is None
        ]
        return reduce(and_, ends) if ends else None

    @cached_property
    def at_ends(self) -> frozenset[str]:
        """What has been written for certain wherever the walk ends."""
        found = self._at_every_end(lambda one: (-1, self.keys.of(one.must)))
        return self.keys.names(-1 if found is None else found)

    @cached_property
    def hoped_at_ends(self) -> frozenset[str]:
        """What may have been written on each way to an end of the walk."""
        ends = [
            self._hoped[spot] & kept | added
            for spot, changes in self._hoped_behind.items()
            for way, (kept, added) in zip(spot.ways, changes, strict=True)
            if way.target is None
        ]
        return self.keys.names(reduce(and_, ends, -1))

    @cached_property
    def gone_at_ends(self) -> int:
        """What has been removed, and not been written again, wherever the walk ends; as bits."""
        of = self.keys.of
        return (
            self._at_every_end(
                lambda one: (
                    0 if one.unknown else ~of(one.may),
                    of(one.gone) if one.kept is None else ~of(one.kept),
                )
            )
            or 0
        )

    @cached_property
    def unwritten(self) -> list[tuple[Spot, str, Location]]:
        """Each read of a key that some path comes to before anything may have written it."""
        return [
            (spot, key, location)
            for spot, does in self.effects.items()
            for key, location in does.needs.items()
            if not self.has(spot, key)
        ]

    def has(self, spot: Spot, key: str) -> bool:
        """Whether every path to a node may have written a key."""
        return bool(self.before[spot] & self.keys.of((key,)))

    @cached_property
    def live(self) -> dict[Spot, int]:
        """What may be read from the beginning of each node on, before it is written."""
        start: dict[Spot, int] = {}
        callers: dict[Spot, list[tuple[Spot, int]]] = {}
        for spot, ends in self.out.items():
            does = self.effects[spot]
            start[spot] = -1 if does.reads_more else self.keys.of(does.reads)
            for way, one in zip(spot.ways, ends, strict=True):
                left = ~self.keys.of(one.must)
                if way.target is None:
                    start[spot] |= left
                else:
                    callers.setdefault(way.target, []).append((spot, left))
        return solve(
            start,
            lambda spot, here: [(one, here & left) for one, left in callers.get(spot, ())],
            or_,
        )

    def is_read(self, spot: Spot, key: str) -> bool:
        """Whether some path may read a key after a node has written it, or ends with it."""
        bit = self.keys.of((key,))
        return any(
            not one.ways
            or any(way.target is None or self.live[way.target] & bit for way in one.ways)
            for one in self.walk.alike(spot)
        )

    def writers_after(self, spot: Spot, key: str) -> list[str]:
        """The nodes that write a key next, on each path from a node that has written it."""
        met = dict.fromkeys(way.target for way in spot.ways)
        for target in (queue := list(met)):  # grows while it is walked through
            for way, one in (
                () if target is None else zip(target.ways, self.out[target], strict=True)
            ):
                if key not in one.must and way.target not in met:
                    met[way.target] = None
                    queue.append(way.target)
        return [one.name for one in met if one is not None and key in self.effects[one].writes]

    def path(self, key: str, spot: Spot) -> tuple[list[tuple[Spot, str | None]], str | None]:
        """A path to a node on which a key is not there, and who removes it there."""
        bit = self.keys.of((key,))

        def change(at: Spot, way: Way) -> bool | None:
            kept, added = next(
                change for one, change in zip(at.ways, self.behind[at], strict=True) if one is way
            )
            return True if added & bit else (None if kept & bit else False)

        steps = self.walk.path_to(spot, bool(self._initial & bit), change)
        removed = None
        for (one, _), (_, action) in pairwise(steps):
            ways = [way for way in one.ways if (way.action or "*") == action]
            if all(change(one, way) is False for way in ways):
                removed = one.name
        return steps, removed


def effects_of_branches(vertex: Vertex, node: SplitNode, branches: Sequence[DataFlow]) -> Effects:
    """What a node with branches does, from what is written and read inside of them."""
    inside = [one for branch in branches for one in branch.effects.values()]
    here = location_at(vertex.where)
    items = {node.each: here} if isinstance(node, FanOut) else {}
    private = node.private.union((node.item,) if isinstance(node, FanOut) else ())
    # Written when all branches have ended, be the list empty or not.
    errors = frozenset(() if node.errors is None else (node.errors,))
    # What is there of a private field at the fork is there in the branch, the item excepted.
    given = frozenset((node.item,)) if isinstance(node, FanOut) else frozenset()
    needs = {
        key: at._replace(node=spot.inside(at.node))
        for branch in branches
        for spot, key, at in reversed(branch.unwritten)
        if key not in given and branch.lacks(spot, key)
    }
    makes = _union(
        [key for key in one.first if not branch.has(spot, key)]
        for branch in branches
        for spot, one in branch.effects.items()
    )
    writes, changes = _written(branches, private, dict.fromkeys(errors, here))
    ends = [one for branch in branches for ways in branch.out.values() for one in ways]
    each = [_union(one.may for ways in b.out.values() for one in ways) for b in branches]
    may = (_union(each) - private) | errors
    # There may be no items, and a branch that fails leaves nothing.
    must = frozenset() if items or node.collects else _union(one.at_ends for one in branches)
    must = (must - private) | errors
    looked = _union(one.looked for one in ends) - given
    unknown = any(one.writes_more for one in inside)
    gone, kept = _removed(branches, may | private)
    if items or node.collects or unknown:
        gone, kept = frozenset(), None
    else:  # Each has come to an end. Two may write on ways of which one is always taken.
        counts = Counter(key for keys in each for key in keys)
        made = {key for key, count in counts.items() if count > 1} | errors
        made |= _union(one.hoped_at_ends for one in branches)
        may, looked = may & made, looked | (may - made)
    ways = [Exit(DEFAULT_ACTION, may, must, unknown, gone=gone, kept=kept, looked=looked)]
    if node.collects:
        ways.append(Exit(FAILED, may, must, unknown, looked=looked))
    return Effects(
        needs={**items, **needs},
        reads=(_union(one.reads for one in inside) - given).union(items),
        writes=writes,
        exits=tuple(ways),
        reads_more=any(one.reads_more for one in inside),
        writes_more=unknown,
        named={**items, **dict.fromkeys(sorted(private | errors), here)},
        changes=changes,
        makes=(makes - private) | errors,
    )


def _written(
    branches: Iterable[DataFlow], private: frozenset[str], writes: dict[str, Location]
) -> tuple[dict[str, Location], dict[str, Location]]:
    """What branches write, what they change in place, and where."""
    changes: dict[str, Location] = {}
    for branch in branches:
        for spot, one in branch.effects.items():
            for done, found in ((one.changes, changes), (one.writes, writes)):
                for key, at in done.items():
                    if key not in private:
                        found.setdefault(key, at._replace(node=spot.inside(at.node)))
    return writes, changes


def _union(sets: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)


def _removed(
    branches: Iterable[DataFlow], others: frozenset[str]
) -> tuple[frozenset[str], frozenset[str] | None]:
    """What is not there when branches have ended, ``others`` left out; as an exit has it."""
    ends = [(one.keys, one.gone_at_ends) for one in branches]
    gone = _union(keys.names(bits) for keys, bits in ends) - others
    emptied = [keys.names(~bits) for keys, bits in ends if bits < 0]
    if not emptied:
        return gone, None
    return frozenset(), (frozenset.intersection(*emptied) - gone) | others
