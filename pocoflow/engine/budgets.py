"""What a line of execution may spend, and how it goes on when that is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocoflow.address import Address
from pocoflow.errors import BudgetError
from pocoflow.graph.graph import GraphNode
from pocoflow.graph.routing import Stand, catch, follow
from pocoflow.graph.unfinished import ALONE, Bill
from pocoflow.nodes.spending import NO_AMOUNTS

if TYPE_CHECKING:
    from pocoflow.engine.line import Line


def refusal(run: Line, place: GraphNode, *, calls: bool = False) -> BudgetError | None:
    """Why a node may spend no more; ``None`` if it may.

    Args:
        run: The line.
        place: The node.
        calls: Whether it is about a call, for which each budget counts.
    """
    if run.budget is None:
        return None
    of_node = run.plan.node_budgets.get(id(place.node), NO_AMOUNTS)
    names, past = (*run.context.path, place.name), () if calls else run.past
    return run.account.refusal(run.context.run_id, names, run.budget, of_node, past)


def way_past(run: Line, place: GraphNode, action: str) -> Stand | None:
    """Where a line goes on after a node without a budget that is spent.

    ``None`` if none is spent, if no edge says so, or if it would not go on anyway.
    """
    if follow(place, action, run.frames).place is None or (error := refusal(run, place)) is None:
        return None
    found = catch(place, error, run.frames, run.is_spent, after=True)
    if found is None:
        return None
    go_past(run, place, error)
    return found[1]


def go_past(run: Line, place: GraphNode, error: BudgetError) -> None:
    """Go on without budgets that are spent, as the edge for that was taken."""
    run.past |= {*error.names}
    where = Address(run.context.path, place.name)
    bill = Bill(where, ALONE, run.context.attempt, dict.fromkeys(error.names))
    run.ledger.spend(run.step, bill)
    run.remark(str(error).partition("; resume the")[0])
