"""How a line of execution continues once a budget is spent."""

from __future__ import annotations

from pocoflow.address import Address
from pocoflow.engine.line import Line
from pocoflow.errors import BudgetError
from pocoflow.graph.graph import Vertex
from pocoflow.graph.routing import Position, catch, follow
from pocoflow.graph.step_records import ALONE, Bill
from pocoflow.graph.unfinished import Unfinished
from pocoflow.nodes.spending import TO_SPEND_MORE


def affordable(run: Line, vertex: Vertex) -> Vertex:
    """The next node, or the one to which an edge for a spent budget leads.

    Raises:
        BudgetError: A budget of the run, or of the node, is spent, and there is no such edge.
    """
    while (error := run.refusal(vertex)) is not None:
        match = catch(vertex, error, run.frames, run.is_spent, after=True)
        if match is None or match[1].vertex is None:
            raise error
        go_past(run, vertex, error)
        vertex = run.move_to(match[1]) or vertex
    return vertex


def refuse_started(run: Line, vertex: Vertex, unfinished: Unfinished) -> None:
    """Refuse a step that was started before a crash, as its next attempt would have been.

    If something that may have been paid for is recorded, the step continues with that, and its next
    call is refused.

    Raises:
        BudgetError: A budget of the run, or of the node, is spent.
    """
    if unfinished.results or unfinished.calls or unfinished.branches or not unfinished.is_started:
        return
    if (error := run.refusal(vertex)) is not None:
        raise error


def way_past(run: Line, vertex: Vertex, action: str) -> Position | None:
    """Where a line continues after a node, without a budget that is spent.

    ``None`` if none is spent, if no edge is taken for that, or if the line ends here anyway.
    """
    if follow(vertex, action, run.frames).vertex is None or (error := run.refusal(vertex)) is None:
        return None
    match = catch(vertex, error, run.frames, run.is_spent, after=True)
    if match is None:
        return None
    go_past(run, vertex, error)
    return match[1]


def go_past(run: Line, vertex: Vertex, error: BudgetError) -> None:
    """Continue without budgets that are spent, as the edge for them was taken."""
    run.past |= {*error.names}
    where = Address(run.context.path, vertex.name)
    bill = Bill(where, ALONE, run.context.attempt, dict.fromkeys(error.names))
    run.ledger.spend(run.step, bill)
    run.remark(str(error).partition(TO_SPEND_MORE)[0])
