"""How a run ends that does not complete: what is recorded, and who is notified."""

from __future__ import annotations

from pocoflow.address import Address
from pocoflow.engine.effects import Commit, Steps
from pocoflow.engine.line import Line
from pocoflow.engine.outcomes import unwrapped
from pocoflow.engine.waits import is_cancelled_error, is_task_cancelled, withdrawn
from pocoflow.errors import DeadlineError, InvalidValueError, MaxStepsError, Remedy, StoreError
from pocoflow.graph.graph import Vertex, label
from pocoflow.nodes.function import FunctionNode
from pocoflow.values.callables import forgets_to_return
from pocoflow.values.failures import add_note


def check_steps(run: Line, vertex: Vertex, step: int) -> None:
    """Refuse a step beyond the run's limit.

    Raises:
        MaxStepsError: The run has taken ``max_steps`` steps.
    """
    limit = run.plan.max_steps
    if step >= limit:
        raise MaxStepsError(
            f"flow {run.context.flow_name!r} took max_steps={limit} steps and would continue with "
            f"node {vertex.name!r}: raise max_steps, or look for a loop without a way out",
            remedies=[Remedy("allow more steps", "Flow(<start>, max_steps=<number>)")],
        )


def failure_of(run: Line, error: BaseException) -> Exception | None:
    """The failure of a node, for edges and retries; ``None`` for what ends the run regardless.

    ``asyncio.CancelledError`` is a failure if neither the run nor its task was cancelled: the node
    awaited something that was cancelled elsewhere.
    """
    if isinstance(error, Exception):
        return unwrapped(error)
    if not is_cancelled_error(error) or run.context.cancellation.requested:
        return None
    return None if run.on_loop and is_task_cancelled() else withdrawn(run.context)


def expired_error(run: Line, error: BaseException) -> DeadlineError | None:
    """The error of a run that its deadline stopped; ``None`` if something else stopped it."""
    context, cancellation = run.context, run.context.cancellation
    if not cancellation.is_expired or not context.is_stopped_by(error):
        return None
    # The path is already that of the next node, so only the step's number identifies it.
    where = f"in {context.phase} of node {label(context.node, context.path)!r} (step {run.step})"
    if run.finished > run.step:
        where = f"after step {run.step}"
    if run.vertex is None:
        where = "while it opened its resources"
    return DeadlineError(
        f"run {context.run_id!r} has not ended within its deadline of {cancellation.deadline:g} "
        f"seconds; it stopped {where}"
    )


def fail(run: Line, exc: BaseException) -> Steps:
    """Record and report how the run ended; the caller re-raises ``exc``."""
    if run.completed:
        return
    context, vertex = run.context, run.vertex
    cancelled = is_cancelled_error(exc) or context.is_stopped_by(exc)
    if run.finished > run.step or (context.phase == "commit" and not isinstance(exc, StoreError)):
        vertex = None  # not the node's error
    if vertex is not None and not cancelled:
        where, node = label(vertex.name, context.path), vertex.node
        is_result = isinstance(node, FunctionNode) and not node.signature.takes_store
        phase = "taking the result" if is_result and context.phase == "post" else context.phase
        add_note(
            exc,
            f"pocoflow: in {phase} of node {where!r} (flow {context.flow_name!r}, run "
            f"{context.run_id!r}, step {run.step}, attempt {context.attempt})",
        )
        is_none = isinstance(exc, InvalidValueError) and "got NoneType" in str(exc)
        if is_none and phase == "post" and vertex.has_exec and forgets_to_return(type(node).exec):
            add_note(exc, f"pocoflow: exec of {where!r} returned None: is a 'return' missing?")
    status = "cancelled" if cancelled else "failed"
    address = None if vertex is None else Address(context.path, vertex.name)
    ended = (status, exc, run.step, address, context.attempt, run.elapsed())
    ledger = run.ledger
    recorded = False

    def end() -> None:
        nonlocal recorded
        recorded = ledger.end(*ended)

    try:
        if run.on_loop and ledger.storage is not None:
            hurried = cancelled or context.cancellation.requested
            yield Commit(ledger.storage, end, is_last=hurried)
        else:
            end()
    except BaseException as again:
        # The task may have been cancelled once more, as anyio does whenever it awaits. Nothing else
        # notifies: a generator that is thrown away may be in a finalizer.
        recorded = recorded and is_cancelled_error(again)
        raise
    finally:
        if recorded:
            _notify(run, exc, vertex, cancelled)


def _notify(run: Line, error: BaseException, vertex: Vertex | None, cancelled: bool) -> None:
    """Notify listeners of an end that is recorded."""
    context = run.context
    if cancelled:
        run.notify("flow_cancelled", context.flow_name, run.finished)
        return
    if vertex is not None:
        attempt = (vertex.name, run.step, context.phase, context.attempt, run.elapsed())
        run.notify("node_error", *attempt, error, context.path, False, run.was_notified(error))
    run.notify("flow_error", context.flow_name, run.finished, error)


def exhaust(ending: Steps) -> None:
    """Carry out :func:`fail` where it does not block an event loop."""
    for _ in ending:
        raise RuntimeError("the end of this run is to be recorded by the driver of an event loop")
