"""The actions that can end a flow, as far as the definitions of its nodes declare them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pocoflow.nodes.edges import ANY_ACTION, DEFAULT_ACTION

if TYPE_CHECKING:
    from pocoflow.graph.graph import Graph, Vertex


def ends_of(
    graph: Graph, actions_of: Callable[[Vertex], tuple[str, ...] | None]
) -> tuple[str, ...] | None:
    """The actions that can end a graph, from those that each of its nodes can return."""
    final: dict[str, None] = {}
    reached: dict[int, Vertex] = {id(graph.start): graph.start}
    queue = [graph.start]
    for vertex in queue:  # grows during the iteration
        declared = actions_of(vertex)
        actions = tuple(vertex.targets) if declared is None else declared
        if declared is None and vertex.fallback is None:
            return None
        given = [*actions, *((ANY_ACTION,) if declared is None else ())]
        leads = [(action, target) for action in given for target in vertex.leads(action)]
        for edge in vertex.catches:
            limit = vertex.limits.get(edge.catch.label)
            targets = (edge.target,) if limit is None else (edge.target, limit.then)
            leads += [(DEFAULT_ACTION, target) for target in targets]
        for action, target in leads:
            if target is None:
                final[action] = None
            elif id(target) not in reached:
                reached[id(target)] = target
                queue.append(target)
    return tuple(final)
