"""A flow as the rules of validation see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from pocoflow.check.store_use import may_write
from pocoflow.check.subject import ScheduledRuns, Subject
from pocoflow.graph.graph import Graph, Vertex
from pocoflow.nodes.spending import limited_by

if TYPE_CHECKING:
    from pocoflow.flow.flow import Flow

Beginning: TypeAlias = tuple[Graph, Vertex, tuple[Vertex, ...]]
"""A graph, and the vertex of it where a run begins, with the nested flows around it."""


def subject_of(
    flow: Flow[Any],
    where: Beginning,
    schema: object,
    callbacks: Iterable[Callable[..., object]],
    *,
    is_new: bool,
) -> Subject:
    """The subject of the rules.

    Args:
        flow: The flow.
        where: Where a run of it begins.
        schema: The schema of the store of the run.
        callbacks: Its hooks.
        is_new: Whether the run begins there, and has not arrived there before.
    """
    graph, vertex, frames = where
    stored = flow.db_path is not None
    shared = (flow.thread_budget, *flow.label_budgets.values())
    schedules = flow.schedules.values()
    return Subject(
        flow.flow_name,
        graph,
        schema,
        flow.inputs,
        stored,
        vertex,
        frames,
        () if flow.is_part else tuple(flow.edges.values()),
        flow.made_at,
        None if flow.outputs is None else dict.fromkeys(flow.outputs, flow.made_at),
        ignore=flow.ignore,
        ends_in_time=flow.deadline is not None,
        # Hooks are passed the store, and checkpoints contain it.
        is_watched=stored or flow.checkpoint_dir is not None or flow.has_hooks,
        has_writers=any(map(may_write, callbacks)),
        budgets=limited_by(flow.budget, *flow.node_budgets.values(), *shared),
        lost_budgets=tuple(node.name for node in flow.node_budgets if graph.find(node) is None),
        is_part=flow.is_part,
        is_new=is_new,
        executor=flow.executor,
        schedules=tuple(ScheduledRuns(each.name, each.keys, each.where) for each in schedules),
    )
