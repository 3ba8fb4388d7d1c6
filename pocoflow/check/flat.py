"""A flow as a run traverses it: nested flows are flattened, with one edge for each continuation."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
    """An edge out of a node.

    Attributes:
        action: The action that takes it; ``None`` is any without an edge at the node. If errors
        take it: ``except`` and their classes.
        target: The next node; ``None`` ends the run.
        ending: The action with which it ends a nested flow or the run; ``None`` if unknown.
        catch: The source of the edge, if errors take it.
        is_unhandled: Whether it ends a flow although the node has edges, but none for the action.
        depth: The number of enclosing flows of the node that it does not leave.
        is_guess: Whether it takes an edge of an enclosing flow that is more likely meant for
        another node inside that flow: the actions of this node are unknown.
    """

    action: str | None
    target: Spot | None
    ending: str | None = None
    catch: Catch | None = None
    is_unhandled: bool = False
    depth: int = 0
    is_guess: bool = False


Actions: TypeAlias = "Callable[[Vertex], tuple[str, ...] | None]"
"""The actions that a node can return; ``None`` if they are unknown."""


LimitedEdge: TypeAlias = tuple[int, str, str]
"""An edge with a limit: the number of enclosing flows, the name of its source, its action."""

_NONE: frozenset[LimitedEdge] = frozenset()

_MANY = 10_000


@dataclass(eq=False, slots=True)
class Spot:
    """A node that is no flow, at its position in the flow and its enclosing flows.

    Attributes:
        vertex: The node in its graph.
        frames: Its enclosing flows, outermost first.
        taken: The edges with limits that were taken on the path there: no other has reached its
        limit.
        ways: The edges out of it.
    """

    vertex: Vertex
    frames: tuple[Vertex, ...]
    taken: frozenset[LimitedEdge] = _NONE
    ways: list[Way] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The node's name, with its enclosing flows."""
        return label(self.vertex.name, tuple(frame.name for frame in self.frames))

    def inside(self, node: str | None) -> str:
        """The name of a node in a branch of this one; its own name if that is ``None``."""
        return self.name if node is None else f"{self.name}/{node}"


class Walk:
    """Everything that a run can reach from one node.

    Args:
        vertex: Where the run starts or continues.
        frames: Its enclosing flows.
        actions: The actions that nodes can return; by default those that they declare.

    Attributes:
        spots: The reachable nodes, breadth first.
    """

    def __init__(
        self,
        vertex: Vertex,
        frames: Sequence[Vertex] = (),
        actions: Actions = attrgetter("declared"),
    ) -> None:
        self._actions = actions
        self._endings: dict[int, tuple[set[str], list[Vertex]]] = {}
        # By position, and then by the edges with limits that were taken.
        self._known: dict[object, dict[frozenset[LimitedEdge], Spot]] = {}
        self.spots: list[Spot] = []
        start = enter(vertex, frames)
        self.start = self._at(start.vertex or vertex, start.frames, _NONE)
        for spot in self.spots:  # grows during iteration
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
        spots = self._known.get(key)
        if spots is None:
            spots = self._known[key] = {}
        spot = spots.get(taken)
        if spot is None:
            spot = spots[taken] = Spot(vertex, frames, taken)
            self.spots.append(spot)
        return spot

    def alike(self, spot: Spot) -> Collection[Spot]:
        """The spots of one position, whatever edges with limits were taken before."""
        return self._known[_key(spot.vertex, spot.frames)].values()

    def _add_ways(self, spot: Spot) -> None:
        vertex, frames, ways = spot.vertex, spot.frames, spot.ways
        known = self._actions(vertex)
        for action in vertex.targets if known is None else known:
            lead = partial(follow, vertex, action, frames)
            ways += self._each_target(spot, lead, Way(action, None, action))
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
            for catch in catching.catches:
                # An error that is caught further inside does not get here; a spent budget does.
                spent, kinds = catch.catch.spent, catch.catch.kinds
                if spent is not None or not all(issubclass(kind, caught) for kind in kinds):
                    lead = partial(after_catch, catching, catch, frames[:depth])
                    way = Way(catch.catch.label + where, None, DEFAULT_ACTION, catch.catch)
                    yield from self._each_target(spot, lead, way)
                caught += kinds if spent is None else ()

    def _add_others(self, spot: Spot) -> None:
        """Add the edges for actions without an edge at the node: enclosing flows may have one."""
        vertex, frames = spot.vertex, spot.frames
        while vertex.fallback is None and frames:
            *outer, vertex = frames
            frames = tuple(outer)
            for action in vertex.targets:
                way = Way(None, None, action, is_guess=self._is_guess(spot.vertex, vertex, action))
                lead = partial(follow, vertex, action, frames)
                spot.ways += self._each_target(spot, lead, way)
        lead = partial(follow, spot.vertex, None, spot.frames)
        spot.ways += self._each_target(spot, lead, Way(None, None))

    def _is_guess(self, vertex: Vertex, around: Vertex, action: str) -> bool:
        """Whether another node inside a flow may be the one that ends it with an action."""
        known, others = self._ending(around.within[0])
        return action in known or others != [vertex]

    def _ending(self, graph: Graph) -> tuple[set[str], list[Vertex]]:
        """The actions that are known to end a graph, and the nodes that may do so with any.

        If some of these have no edges, only those count.
        """
        for inner in () if id(graph) in self._endings else graph.inner_first():
            if id(inner) not in self._endings:
                known: set[str] = set()
                unknown: list[Vertex] = []
                for vertex in inner.nodes.values():
                    given: Iterable[str] | None
                    if vertex.inner is None:
                        given, open_ = self._actions(vertex), [vertex]
                    else:
                        given, open_ = self._endings[id(vertex.inner)]
                    known.update(a for a in given or vertex.targets if vertex.next(a) is None)
                    if vertex.fallback is None and (given is None or vertex.inner is not None):
                        unknown += open_
                self._endings[id(inner)] = known, [p for p in unknown if not p.targets] or unknown
        return self._endings[id(graph)]

    def _each_target(
        self, spot: Spot, lead: Callable[[IsSpent], Position], way: Way
    ) -> Iterator[Way]:
        """An edge with each of its targets, with and without the limits on the path reached.

        If that results in very many spots for few positions, any edge may have been taken.
        """
        knows_all = len(self.spots) - len(self._known) < _MANY
        waiting: list[tuple[bool, ...]] = [()]
        for given in waiting:  # grows during iteration
            position, now = _one_position(lead, spot.taken if knows_all else None, given, waiting)
            yield way._replace(
                target=self._spot(position, spot.taken | now if knows_all else spot.taken),
                is_unhandled=position.unhandled is not None and way.catch is None,
                depth=position.depth,
            )

    def leads(self, start: Spot, goals: Collection[Spot]) -> bool:
        """Whether a path leads from a node to one of the goals."""
        after = {way.target: True for way in start.ways if way.target is not None}
        reached = solve(
            after, lambda spot, _: [(way.target, True) for way in spot.ways if way.target], or_
        )
        return any(goal in reached for goal in goals)

    def path_to(
        self, goal: Spot, holds: bool, change: Callable[[Way], bool | None]
    ) -> list[tuple[Spot, str | None]]:
        """A shortest path from the start to a node at whose end something does not hold.

        Args:
            goal: The node.
            holds: Whether it holds at the start.
            change: Whether it holds after a node, on one of its edges; ``None`` if it is unchanged.

        Returns:
            The nodes, each with the action that leads to it; ``None`` for the first one.
        """
        start = (self.start, holds)
        came: dict[tuple[Spot, bool], tuple[Spot, bool, str] | None] = {start: None}
        queue = deque([start])
        while queue:
            spot, held = queue.popleft()
            if spot is goal and not held:
                break
            for way in spot.ways:
                after = change(way)
                holds_next = held if after is None else after
                if way.target is not None and (way.target, holds_next) not in came:
                    came[way.target, holds_next] = (spot, held, way.action or "*")
                    queue.append((way.target, holds_next))
        steps: list[tuple[Spot, str | None]] = []
        at, held = goal, (goal, False) not in came
        while (before := came.get((at, held))) is not None:
            steps.append((at, before[2]))
            at, held, _ = before
        return [(at, None), *reversed(steps)]


def _key(vertex: Vertex, frames: tuple[Vertex, ...]) -> object:
    return (id(vertex), *map(id, frames)) if frames else id(vertex)


def _one_position(
    lead: Callable[[IsSpent], Position],
    before: frozenset[LimitedEdge] | None,
    given: tuple[bool, ...],
    others: list[tuple[bool, ...]],
) -> tuple[Position, set[LimitedEdge]]:
    """The target of a step, and the edges with limits that it takes.

    Args:
        lead: Computes the target, and asks for each edge on the path whether its limit is reached.
        before: The edges that were taken before, the only ones whose limits can be reached;
        ``None`` if unknown.
        given: The answers where both are possible, in order; for further edges the answer is no.
        others: Receives the alternative answers.
    """
    answers, taken = [*given], set[LimitedEdge]()
    pending = iter(given)

    def is_spent(depth: int, source: str, action: str, at_most: int) -> bool:
        edge = (depth, source, action)
        if before is not None and (edge not in before or at_most == 1):
            spent = edge in before
        else:
            known = next(pending, None)
            if known is None:
                others.append((*answers, True))
                answers.append(False)
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


class Passing(NamedTuple):
    """A node that is left by one of its edges.

    Attributes:
        spot: The node.
        way: The edge.
        end: What the node has done.
        kept: The keys that it preserves, as bits.
        added: The keys that it may have written, as bits.
    """

    spot: Spot
    way: Way
    end: Exit
    kept: int
    added: int


class DataFlow:
    """The keys that have been written before a node, and those that may still be read.

    A key that a node needs counts as written after it: a run that gets past it had the key.

    Args:
        walk: The nodes.
        effects: The effects of each node.
        out: Its effects on one of its edges.
        initial: The keys that are set from the start.

    Attributes:
        keys: The keys, as bits.
        effects: What each node does.
        passings: Each node with each of its edges, in their order.
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
        self.passings: list[Passing] = []
        known: dict[tuple[int, int], Passing] = {}  # most nodes of a class have the same effects
        for spot, does in self.effects.items():
            for way in spot.ways:
                end = out(spot, way)
                same = known.get((id(does), id(end)))
                if same is None:
                    same = Passing(spot, way, end, *self._change(does, end))
                    known[id(does), id(end)] = same
                self.passings.append(Passing(spot, way, *same[2:]))

    def _change(self, does: Effects, out: Exit) -> tuple[int, int]:
        if out.unknown:
            return -1, -1
        kept = ~self.keys.of(out.gone) if out.kept is None else self.keys.of(out.kept)
        return kept, self.keys.of(does.needs) & kept | self.keys.of(out.may | out.seen)

    @cached_property
    def _ahead(self) -> dict[Spot, list[Passing]]:
        return _by_spot(self.passings)

    @cached_property
    def before(self) -> dict[Spot, int]:
        """The keys that may have been written on every path to a node."""
        return self._on_paths(self._initial, self.passings, and_)

    @cached_property
    def had(self) -> dict[Spot, int]:
        """The keys that were present at some time on every path to a node, removed since or not."""
        passings = [
            at._replace(kept=-1, added=at.added | self.keys.of(self.effects[at.spot].needs))
            for at in self.passings
        ]
        return self._on_paths(self._initial, passings, and_)

    def is_set_again(self, spot: Spot, key: str) -> bool:
        """Whether a node writes a key for certain, and some path to it has set the key before."""
        does = self.effects[spot]
        if not does.exits or not all(key in end.must for end in does.exits):
            return False
        return key in does.needs or bool(self._sure[spot] & self.keys.of((key,)))

    @cached_property
    def _sure(self) -> dict[Spot, int]:
        """The keys that some path to a node has certainly set."""
        passings = [
            at._replace(
                added=self.keys.of(at.end.must.union(self.effects[at.spot].needs)) & at.kept
            )
            for at in self.passings
        ]
        return self._on_paths(self._initial, passings, or_)

    @cached_property
    def _hoped_passings(self) -> list[Passing]:
        """The same under the optimistic assumption about everything unknown.

        A choice may depend on a key that was tested for, and an error that a nested flow catches
        may come from an inner node after a write.
        """
        reachable = self._on_paths(self._initial, self.passings, or_)
        caught: dict[tuple[int, Spot | None], int] = {}
        looks: list[Passing] = []
        for at in self.passings:
            sees_all = self.effects[at.spot].reads_more
            looks.append(at._replace(added=at.kept if sees_all else self.keys.of(at.end.looked)))
            own = (catch.catch for catch in at.spot.vertex.catches)
            if at.way.catch is not None and all(catch is not at.way.catch for catch in own):
                edge = (id(at.way.catch), at.way.target)
                caught[edge] = caught.get(edge, 0) | reachable[at.spot] & at.kept | at.added
        looked = self._on_paths(0, looks, or_)
        hoped = []
        for at, look in zip(self.passings, looks, strict=True):
            added = at.added | caught.get((id(at.way.catch), at.way.target), 0)
            is_choice = len({way.target for way in at.spot.ways}) > 1
            if is_choice or (at.way.target is not None and at.way.target.vertex.branches):
                added |= looked[at.spot] & at.kept | look.added
            hoped.append(at._replace(added=added))
        return hoped

    @cached_property
    def _hoped(self) -> dict[Spot, int]:
        return self._on_paths(self._initial, self._hoped_passings, and_)

    def lacks(self, spot: Spot, key: str, way: Way | None = None) -> bool:
        """Whether on some path a key is certainly absent: at a node, or after it on an edge."""
        keys = self._hoped[spot]
        for at in () if way is None else self._hoped_passings:
            if at.way is way:
                keys = keys & at.kept | at.added
        return not keys & self.keys.of((key,))

    def _on_paths(
        self, start: int, passings: Iterable[Passing], join: Callable[[int, int], int]
    ) -> dict[Spot, int]:
        """The keys on the paths to each node."""
        ahead = _by_spot(passings)

        def leads(spot: Spot, keys: int) -> list[tuple[Spot, int]]:
            return [
                (at.way.target, keys & at.kept | at.added)
                for at in ahead.get(spot, ())
                if at.way.target is not None
            ]

        return solve({self.walk.start: start}, leads, join)

    def _at_every_end(self, passings: Sequence[Passing]) -> int | None:
        """The keys wherever the walk ends; ``None`` if it does not end."""
        known = self._on_paths(0, passings, and_)
        ends = [known[at.spot] & at.kept | at.added for at in passings if at.way.target is None]
        return reduce(and_, ends) if ends else None

    @cached_property
    def at_ends(self) -> frozenset[str]:
        """The keys that have certainly been written wherever the walk ends."""
        sure = [at._replace(kept=-1, added=self.keys.of(at.end.must)) for at in self.passings]
        found = self._at_every_end(sure)
        return self.keys.names(-1 if found is None else found)

    @cached_property
    def hoped_at_ends(self) -> frozenset[str]:
        """The keys that may have been written on each path to an end of the walk."""
        found = self._at_every_end(self._hoped_passings)
        return self.keys.names(-1 if found is None else found)

    @cached_property
    def gone_at_ends(self) -> int:
        """The keys that have been removed, and not rewritten, wherever the walk ends; as bits."""
        of = self.keys.of
        gone = [
            at._replace(
                kept=0 if at.end.unknown else ~of(at.end.may),
                added=of(at.end.gone) if at.end.kept is None else ~of(at.end.kept),
            )
            for at in self.passings
        ]
        return self._at_every_end(gone) or 0

    @cached_property
    def unwritten(self) -> list[tuple[Spot, str, Location]]:
        """Each read of a key that some path reaches before anything may have written it."""
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
        """The live keys of each node: those that may be read from its start on, before a write."""
        start = {
            spot: -1 if does.reads_more else self.keys.of(does.reads)
            for spot, does in self.effects.items()
        }
        callers: dict[Spot, list[tuple[Spot, int]]] = {}
        for at in self.passings:
            unset = ~self.keys.of(at.end.must)
            if at.way.target is None:
                start[at.spot] |= unset
            else:
                callers.setdefault(at.way.target, []).append((at.spot, unset))
        return solve(
            start,
            lambda spot, keys: [(at, keys & unset) for at, unset in callers.get(spot, ())],
            or_,
        )

    def is_read(self, spot: Spot, key: str) -> bool:
        """Whether some path may read a key after a node has written it, or ends with it."""
        bit = self.keys.of((key,))
        return any(
            not other.ways
            or any(way.target is None or self.live[way.target] & bit for way in other.ways)
            for other in self.walk.alike(spot)
        )

    def writers_after(self, spot: Spot, key: str) -> list[str]:
        """The nodes that write a key next, on each path from a node that has written it."""
        met = dict.fromkeys(way.target for way in spot.ways)
        for target in (queue := list(met)):  # grows during iteration
            for at in () if target is None else self._ahead.get(target, ()):
                if key not in at.end.must and at.way.target not in met:
                    met[at.way.target] = None
                    queue.append(at.way.target)
        return [spot.name for spot in met if spot is not None and key in self.effects[spot].writes]

    def path(self, key: str, spot: Spot) -> tuple[list[tuple[Spot, str | None]], str | None]:
        """A path to a node on which a key is missing, and the node that removes it there."""
        bit = self.keys.of((key,))
        passings = {id(at.way): at for at in self.passings}

        def change(way: Way) -> bool | None:
            at = passings[id(way)]
            return True if at.added & bit else (None if at.kept & bit else False)

        steps = self.walk.path_to(spot, bool(self._initial & bit), change)
        removed = None
        for (at, _), (_, action) in pairwise(steps):
            ways = [way for way in at.ways if (way.action or "*") == action]
            if all(change(way) is False for way in ways):
                removed = at.name
        return steps, removed


def _by_spot(passings: Iterable[Passing]) -> dict[Spot, list[Passing]]:
    found: dict[Spot, list[Passing]] = {}
    for at in passings:
        found.setdefault(at.spot, []).append(at)
    return found


def effects_of_branches(vertex: Vertex, node: SplitNode, branches: Sequence[DataFlow]) -> Effects:
    """The effects of a node with branches, from those inside the branches."""
    inner = [effects for branch in branches for effects in branch.effects.values()]
    location = location_at(vertex.where)
    items = {node.each: location} if isinstance(node, FanOut) else {}
    private = node.private.union((node.item,) if isinstance(node, FanOut) else ())
    # Written when all branches have ended, even if the list is empty.
    errors = frozenset(() if node.errors is None else (node.errors,))
    # A branch starts with the values of private fields at the split, the item excepted.
    given = frozenset((node.item,)) if isinstance(node, FanOut) else frozenset()
    needs = {
        key: at._replace(node=spot.inside(at.node))
        for branch in branches
        for spot, key, at in reversed(branch.unwritten)
        if key not in given and branch.lacks(spot, key)
    }
    makes = _union(
        [key for key in effects.first if not branch.has(spot, key)]
        for branch in branches
        for spot, effects in branch.effects.items()
    )
    writes, changes = _written(branches, private, dict.fromkeys(errors, location))
    each = [_union(at.end.may for at in branch.passings) for branch in branches]
    may = (_union(each) - private) | errors
    # There may be no items, and a branch that fails writes nothing.
    must = frozenset() if items or node.collects else _union(branch.at_ends for branch in branches)
    must = (must - private) | errors
    looked = _union(at.end.looked for b in branches for at in b.passings) - given
    unknown = any(effects.writes_more for effects in inner)
    gone, kept = _removed(branches, may | private)
    if items or node.collects or unknown:
        gone, kept = frozenset(), None
    else:  # Each has ended. Two may write on edges of which one is always taken.
        counts = Counter(key for keys in each for key in keys)
        made = {key for key, count in counts.items() if count > 1} | errors
        made |= _union(branch.hoped_at_ends for branch in branches)
        may, looked = may & made, looked | (may - made)
    end = Exit(
        frozenset((DEFAULT_ACTION,)), may, must, unknown, gone=gone, kept=kept, looked=looked
    )
    failed = end._replace(choices=frozenset((FAILED,)))
    return Effects(
        needs={**items, **needs},
        reads=(_union(effects.reads for effects in inner) - given).union(items),
        writes=writes,
        exits=(end, failed) if node.collects else (end,),
        reads_more=any(effects.reads_more for effects in inner),
        writes_more=unknown,
        named={**items, **dict.fromkeys(sorted(private | errors), location)},
        changes=changes,
        makes=(makes - private) | errors,
    )


def _written(
    branches: Iterable[DataFlow], private: frozenset[str], writes: dict[str, Location]
) -> tuple[dict[str, Location], dict[str, Location]]:
    """The writes of branches and their changes in place, with locations."""
    changes: dict[str, Location] = {}
    for branch in branches:
        for spot, effects in branch.effects.items():
            for keys, found in ((effects.changes, changes), (effects.writes, writes)):
                for key, at in keys.items():
                    if key not in private:
                        found.setdefault(key, at._replace(node=spot.inside(at.node)))
    return writes, changes


def _union(sets: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)


def _removed(
    branches: Iterable[DataFlow], others: frozenset[str]
) -> tuple[frozenset[str], frozenset[str] | None]:
    """The keys that are absent when branches have ended, except ``others``; as in an exit."""
    ends = [(branch.keys, branch.gone_at_ends) for branch in branches]
    gone = _union(keys.names(bits) for keys, bits in ends) - others
    emptied = [keys.names(~bits) for keys, bits in ends if bits < 0]
    if not emptied:
        return gone, None
    return frozenset(), (frozenset.intersection(*emptied) - gone) | others
