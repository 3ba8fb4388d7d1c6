"""What a node with parallel branches does to the store: what its branches do, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pocoflow.check.flat import Spot, Walk, Way
from pocoflow.check.node_effects import Effects, Exit, Places, place_at
from pocoflow.graph.graph import Graph, GraphNode
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.parallel import FAILED, FanOut, Spread

__all__ = ["effects_of_branches"]


@dataclass(frozen=True, slots=True)
class _Branch:
    """What one branch does, whichever way it takes.

    Attributes:
        needs: Keys that it reads on some path before it may have written them.
        reads: Keys that it may read.
        may: Keys that it may write.
        must: Keys that it has written at its end, whichever that is.
        makes: Keys to which it can give their first value.
        reads_more: Whether it may read other keys.
        writes_more: Whether it may write other keys.
    """

    needs: Places
    reads: frozenset[str]
    may: frozenset[str]
    must: frozenset[str]
    makes: frozenset[str]
    reads_more: bool
    writes_more: bool


def effects_of_branches(
    place: GraphNode,
    node: Spread,
    effects: Callable[[GraphNode], Effects],
    out: Callable[[Spot, Way], Exit],
) -> Effects:
    """What a node with branches does, from what ``effects`` and ``out`` say of the nodes inside."""
    branches = [_of_graph(graph, effects, out) for graph in place.branches]
    here = place_at(place.where)
    items = {node.each: here} if isinstance(node, FanOut) else {}
    private = node.private.union((node.item,) if isinstance(node, FanOut) else ())
    # Written when all branches have ended, be the list empty or not.
    errors = frozenset(() if node.errors is None else (node.errors,))
    # What is there of a private field at the fork is there in the branch, the item excepted.
    given = frozenset((node.item,)) if isinstance(node, FanOut) else frozenset()
    needs = {key: at for one in branches for key, at in one.needs.items() if key not in given}
    may = (_union(one.may for one in branches) - private) | errors
    # There may be no items, and a branch that fails leaves nothing.
    must = frozenset() if items or node.collects else _union(one.must for one in branches)
    must |= errors
    unknown = any(one.writes_more for one in branches)
    ways = [Exit(DEFAULT_ACTION, may, must, unknown)]
    if node.collects:
        ways.append(Exit(FAILED, may, must, unknown))
    return Effects(
        needs={**items, **needs},
        reads=(_union(one.reads for one in branches) - given).union(items),
        writes=dict.fromkeys(sorted(may), here),
        exits=tuple(ways),
        reads_more=any(one.reads_more for one in branches),
        writes_more=unknown,
        named={**items, **dict.fromkeys(sorted(private | errors), here)},
        makes=(_union(one.makes for one in branches) - private) | errors,
    )


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)


def _of_graph(
    graph: Graph, effects: Callable[[GraphNode], Effects], out: Callable[[Spot, Way], Exit]
) -> _Branch:
    walk = Walk(graph.start)
    every = {id(spot): effects(spot.place) for spot in walk.spots}
    exits = {id(spot): {way: out(spot, way) for way in spot.ways} for spot in walk.spots}
    bits = _Bits(every.values(), (one for ways in exits.values() for one in ways.values()))
    may: dict[int, dict[Way, tuple[int, int]]] = {}
    must: dict[int, dict[Way, tuple[int, int]]] = {}
    for spot in walk.spots:
        needed = bits.of(every[id(spot)].needs)
        ways = exits[id(spot)]
        may[id(spot)] = {
            way: (-1, -1 if one.unknown else needed | bits.of(one.may | one.seen))
            for way, one in ways.items()
        }
        must[id(spot)] = {way: (-1, bits.of(one.must)) for way, one in ways.items()}
    before, written = walk.forward(0, may), walk.forward(0, must)
    at_end = -1
    for spot in walk.spots:
        for way, (_, added) in must[id(spot)].items():
            if way.target is None:
                at_end &= written[id(spot)] | added
    return _Branch(
        needs={
            key: at._replace(node=spot.inside(at.node))
            for spot in reversed(walk.spots)
            for key, at in every[id(spot)].needs.items()
            if not before[id(spot)] & bits.of((key,))
        },
        reads=_union(one.reads for one in every.values()),
        may=_union(one.may for ways in exits.values() for one in ways.values()),
        must=bits.keys(at_end),
        makes=frozenset(
            key
            for spot in walk.spots
            for key in every[id(spot)].first
            if not before[id(spot)] & bits.of((key,))
        ),
        reads_more=any(one.reads_more for one in every.values()),
        writes_more=any(one.writes_more for one in every.values()),
    )


class _Bits:
    """Sets of keys as bits of an integer."""

    def __init__(self, every: Iterable[Effects], exits: Iterable[Exit]) -> None:
        self._bits: dict[str, int] = {}
        for effects in every:
            self._add(effects.needs)
            self._add(effects.first)
        for one in exits:
            self._add(one.may | one.must | one.seen)

    def _add(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._bits.setdefault(key, 1 << len(self._bits))

    def of(self, keys: Iterable[str]) -> int:
        """The bits of keys."""
        found = 0
        for key in keys:
            found |= self._bits[key]
        return found

    def keys(self, bits: int) -> frozenset[str]:
        """The keys of bits."""
        return frozenset(key for key, bit in self._bits.items() if bits & bit)
