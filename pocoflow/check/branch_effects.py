"""What a node with parallel branches does to the store: what its branches do, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pocoflow.check.flat import DataFlow, Spot, Walk, Way
from pocoflow.check.node_effects import Effects, Exit, place_at
from pocoflow.graph.graph import GraphNode
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.parallel import FAILED, FanOut, Spread

__all__ = ["effects_of_branches"]


def effects_of_branches(
    place: GraphNode,
    node: Spread,
    effects: Callable[[GraphNode], Effects],
    out: Callable[[Spot, Way], Exit],
) -> Effects:
    """What a node with branches does, from what ``effects`` and ``out`` say of the nodes inside."""
    branches = [
        DataFlow(Walk(graph.start), lambda spot: effects(spot.place), out)
        for graph in place.branches
    ]
    inside = [one for branch in branches for one in branch.effects.values()]
    here = place_at(place.where)
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
        if key not in given
    }
    makes = _union(
        [key for key in one.first if not branch.has(spot, key)]
        for branch in branches
        for spot, one in branch.effects.items()
    )
    ends = [way for branch in branches for ways in branch.out.values() for way in ways.values()]
    may = (_union(one.may for one in ends) - private) | errors
    # There may be no items, and a branch that fails leaves nothing.
    must = frozenset() if items or node.collects else _union(one.at_ends for one in branches)
    must |= errors
    unknown = any(one.writes_more for one in inside)
    ways = [Exit(DEFAULT_ACTION, may, must, unknown)]
    if node.collects:
        ways.append(Exit(FAILED, may, must, unknown))
    return Effects(
        needs={**items, **needs},
        reads=(_union(one.reads for one in inside) - given).union(items),
        writes=dict.fromkeys(sorted(may), here),
        exits=tuple(ways),
        reads_more=any(one.reads_more for one in inside),
        writes_more=unknown,
        named={**items, **dict.fromkeys(sorted(private | errors), here)},
        makes=(makes - private) | errors,
    )


def _union(sets: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)
