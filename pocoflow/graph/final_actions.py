"""The actions that can end a flow, as far as the definitions of its nodes tell them."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

from pocoflow.nodes.edges import ANY_ACTION, DEFAULT_ACTION

if TYPE_CHECKING:
    from pocoflow.graph.graph import Graph, Vertex


def final_actions(graph: Graph) -> tuple[str, ...] | None:
    """The actions that can end the flow; ``None`` if a definition leaves them open."""
    if graph.final is None:
        for other in graph.inner_first():
            if other.final is None:
                other.final = (ends_of(other, attrgetter("declared")),)
    return None if graph.final is None else graph.final[0]


def ends_of(
    graph: Graph, actions_of: Callable[[Vertex], tuple[str, ...] | None]
) -> tuple[str, ...] | None:
    """The same, by what each of its nodes can return."""
    found: dict[str, None] = {}
    met: dict[int, Vertex] = {id(graph.start): graph.start}
    queue = [graph.start]
    for vertex in queue:  # grows while it is walked through
        declared = actions_of(vertex)
        actions = tuple(vertex.targets) if declared is None else declared
        if declared is None and vertex.fallback is None:
            return None
        given = [*actions, *((ANY_ACTION,) if declared is None else ())]
        leads = [(one, target) for one in given for target in vertex.leads(one)]
        for one in vertex.catches:
            limit = vertex.limits.get(one.catch.label)
            ends = (one.target,) if limit is None else (one.target, limit.then)
            leads += [(DEFAULT_ACTION, target) for target in ends]
        for action, target in leads:
            if target is None:
                found[action] = None
            elif id(target) not in met:
                met[id(target)] = target
                queue.append(target)
    return tuple(found)
