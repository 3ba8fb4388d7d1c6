"""How a line of execution goes on when what it may spend is spent."""

from __future__ import annotations

from pocoflow.address import Address
from pocoflow.engine.line import Line
from pocoflow.errors import BudgetError
from pocoflow.graph.graph import Vertex
from pocoflow.graph.routing import Stand, catch, follow
from pocoflow.graph.step_records import ALONE, Bill
from pocoflow.graph.unfinished import Unfinished
from pocoflow.nodes.spending import TO_SPEND_MORE


def affordable(run: Line, vertex: Vertex) -> Vertex:
    """The node that comes next, or that to which an edge leads for a budget that is spent already.

    Raises:
        BudgetError: A budget of the run, or of the node, is spent, and there is no such edge.
    """
    while (error := run.refusal(vertex)) is not None:
        found = catch(vertex, error, run.frames, run.is_spent, after=True)
        if found is None or found[1].vertex is None:
            raise error
        go_past(run, vertex, error)
        vertex = run.move_to(found[1]) or vertex
    return vertex


def refuse_started(run: Line, vertex: Vertex, begun: Unfinished) -> None:
    """Refuse a step that was begun before a crash, as its next attempt would have been refused.

    Where something that may have been paid for is on record, the step goes on with that, and its
    next call is refused.

    Raises:
        BudgetError: A budget of the run, or of the node, is spent.
    """
    if begun.results or begun.calls or begun.branches or not begun.is_started:
        return
    if (error := run.refusal(vertex)) is not None:
        raise error


def way_past(run: Line, vertex: Vertex, action: str) -> Stand | None:
    """Where a line goes on after a node without a budget that is spent.

    ``None`` if none is spent, if no edge says so, or if it would not go on anyway.
    """
    if follow(vertex, action, run.frames).vertex is None or (error := run.refusal(vertex)) is None:
        return None
    found = catch(vertex, error, run.frames, run.is_spent, after=True)
    if found is None:
        return None
    go_past(run, vertex, error)
    return found[1]


def go_past(run: Line, vertex: Vertex, error: BudgetError) -> None:
    """Go on without budgets that are spent, as the edge for that was taken."""
    run.past |= {*error.names}
    where = Address(run.context.path, vertex.name)
    bill = Bill(where, ALONE, run.context.attempt, dict.fromkeys(error.names))
    run.ledger.spend(run.step, bill)
    run.remark(str(error).partition(TO_SPEND_MORE)[0])
