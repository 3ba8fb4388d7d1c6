"""The step loop: a generator that runs a graph over a store and calls the nodes.

The loop itself neither waits, sleeps nor starts a thread. Where one of these is needed it yields an
effect (``effects.py``), which a driver carries out (``drivers.py``), so that synchronous and
asynchronous runs share one loop. On the plain path, a synchronous node in a synchronous run, it
yields nothing.
"""

from __future__ import annotations

from time import perf_counter
from types import CoroutineType

from pocoflow.engine.actions import action_of, report_unhandled
from pocoflow.engine.around import Skipped, Visiting, middleware_of
from pocoflow.engine.asking import Paused, Waiting, ask, check_answer, pause
from pocoflow.engine.attempts import attempt, try_again
from pocoflow.engine.batch import map_items
from pocoflow.engine.branches import run_branches
from pocoflow.engine.budgets import affordable, go_past, refuse_started, way_past
from pocoflow.engine.effects import Call, Effects, Inside, OnLoop, Steps, awaiting
from pocoflow.engine.endings import check_steps, expired_error, fail, failure_of
from pocoflow.engine.line import Line
from pocoflow.engine.outcomes import closes, opened, unwrapped
from pocoflow.engine.thread_phases import phases_in_thread
from pocoflow.errors import BudgetError, RunCancelled, RunPaused
from pocoflow.graph.graph import Vertex, label
from pocoflow.graph.routing import catch, enter, follow
from pocoflow.graph.step_records import ALONE, Finished
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.question import Question
from pocoflow.store.in_place import InPlace
from pocoflow.values.callables import check_called
from pocoflow.values.failures import Failure


def steps(run: Line) -> Steps:
    """Run a line to its end; the generator that a driver drives.

    Raises:
        RunCancelled: The run was asked to stop.
        DeadlineError: It exceeded its deadline.
        RunPaused: It waits for answers.
        MaxStepsError: ``max_steps`` was reached.
        Exception: Whatever a node raised, unchanged but for a note that says where.
    """
    context = run.context
    if run.ledger.emits or (run.listeners and run.listeners.get("emit")):
        context.emitter = run.emit
    paused: RunPaused | None = None
    context.line = run
    try:
        if run.listeners:
            run.notify("flow_start", context.flow_name, run.step)
        try:
            if run.opens:
                from pocoflow.engine.scopes import with_resources

                yield Inside(with_resources(run, _loop(run)))
            elif (
                run.only_awaits
                and not run.on_loop
                and run.ledger.storage is None
                and run.plan.executors is None
            ):
                # Driven there as a whole, as each await would cost a round trip.
                run.on_loop = True
                yield OnLoop(_loop(run))
            else:
                yield from _loop(run)
        except Paused:
            paused = yield from pause(run)
    except BaseException as exc:
        if closes(exc):  # garbage-collected without its driver: nobody carries out its effects
            raise
        expired = expired_error(run, exc)
        yield from fail(run, unwrapped(exc) if expired is None else expired)
        if expired is not None:
            raise expired from exc
        raise
    finally:
        context.line = None
    if paused is not None:
        run.notify("flow_pause", context.flow_name, run.finished, paused.questions)
        raise paused
    if run.listeners:
        run.notify("flow_end", context.flow_name, run.finished)


def _loop(run: Line) -> Steps:  # noqa: C901, PLR0915 - the hot path
    context, store, wraps = run.context, run.store, run.plan.graph.wraps
    cancellation, ledger = context.cancellation, run.ledger
    keeps, counts = ledger.keeps, ledger.counts
    on_start, on_end = run.listeners.get("node_start"), run.listeners.get("node_end")
    timed = counts or on_end is not None
    on_loop, budget = run.on_loop, run.budget
    # With a budget, a call may have been refused.
    is_plain = not wraps and budget is None and run.plan.executors is None
    # A resumed step goes through attempt(), which reports recorded calls that it did not repeat.
    direct = is_plain and run.unfinished is None
    in_place, visiting = None, None
    if not counts and store.schema is not None:
        in_place = InPlace(store)
        run.known = in_place.watch
    vertex = run.start
    if vertex.inner is not None or run.frames:
        depth = len(run.frames)
        vertex = run.move_to(enter(vertex, run.frames)._replace(depth=depth)) or vertex
    step, last = run.step, run.plan.max_steps
    if budget is not None:
        last = 0  # the budget is checked before each node
    action: object = DEFAULT_ACTION
    began, phase, unfinished = 0.0, "", run.unfinished
    # Not "while vertex is not None": CPython 3.11 specializes a loop that jumps back without a
    # condition in its first iterations, one with a condition only after 8 calls.
    while True:
        if cancellation.requested:
            raise RunCancelled(f"run {context.run_id!r} was cancelled before step {step}")
        if step >= last:
            check_steps(run, vertex, step)
            if unfinished is None or not unfinished.is_started:
                vertex = affordable(run, vertex)
        node = vertex.node
        run.vertex = vertex
        run.step = context.step = step
        context.node = vertex.name
        context.attempt = 1
        context.phase = "prep"
        if timed:
            began = run.began = perf_counter()
        if on_start is not None:
            run.notify("node_start", vertex.name, step, context.path)

        path = context.path
        failure = phases = None
        try:
            if wraps:
                visiting = Visiting(run, vertex, middleware_of(run))
                yield from visiting.enter()
            if unfinished is not None:
                refuse_started(run, vertex, unfinished)
            if unfinished is not None and unfinished.prepared:
                (prepared,) = unfinished.prepared
            else:
                if on_loop and direct and vertex.only_blocks:
                    phases = yield from phases_in_thread(run, vertex)
                    prepared = phases.prepared
                elif not on_loop or vertex.prep_on_loop:
                    prepared = node.prep(store)
                else:
                    prepared = yield Call(node.prep, (store,))
                if type(prepared) is CoroutineType:
                    prepared = yield from awaiting(prepared, on_loop)

            context.phase = "exec"
            result: object
            if unfinished is not None and ALONE in unfinished.items and not vertex.fans_out:
                context.attempt += unfinished.items[ALONE].attempts
            if vertex.fans_out:
                result = yield from _fan_out(run, vertex, prepared)
                step = run.step
            elif unfinished is not None and unfinished.results:
                result = unfinished.results[ALONE]
                if type(result) is Waiting:
                    result.stop()
            else:
                error = None
                try:
                    if phases is not None and phases.outcome:
                        result = opened(phases.outcome[0])
                        if type(result) is CoroutineType:
                            result = yield from awaiting(result, on_loop)
                    elif (
                        direct
                        and (not on_loop or vertex.exec_async)
                        and node.max_retries == 1
                        and node.timeout is None
                        and vertex.is_bare
                    ):
                        result = node.exec(prepared)
                        if type(result) is CoroutineType:
                            result = yield from awaiting(result, on_loop)
                    else:
                        result = yield from attempt(run, vertex, prepared, not on_loop)
                except BaseException as exc:
                    error = failure_of(run, exc)
                    if error is None:
                        raise
                if error is not None:
                    # Not in the except clause, which would become the context of later errors.
                    result = yield from try_again(run, vertex, prepared, error, not on_loop)
                if type(result) is Question:
                    yield from ask(run, vertex, prepared, result)
                    raise Paused
                if vertex.is_answered:
                    check_answer(node, result)
                if keeps and vertex.has_exec and node.journal:
                    context.phase = "commit"
                    if on_loop:
                        done = (step, vertex.name, result, node)
                        yield from run.commit(False, ledger.journal, *done)
                    else:
                        ledger.journal(step, vertex.name, result, node)

            context.phase = "post"
            if phases is not None and phases.action:
                action = phases.action[0]
            elif not on_loop or vertex.post_on_loop:
                action = node.post(store, prepared, result)
            else:
                action = yield Call(node.post, (store, prepared, result))
            if type(action) is CoroutineType:
                action = yield from awaiting(action, on_loop)
            promised = vertex.promised
            if (
                type(action) is not str
                or not action
                or (promised is not None and action not in promised)
            ):
                action = action_of(vertex, action)
            if visiting is not None:
                action = action_of(vertex, (yield from visiting.leave(action)))
        except Skipped as skipped:
            action = action_of(vertex, skipped.action)
            successor = _cross(run, vertex, action)
        except BaseException as exc:
            phase = context.phase
            caught = yield from _after(run, vertex, visiting, exc)
            if caught is None:
                raise
            failure, action, successor = caught
            step = run.step
        else:
            successor = None
            if budget is None:  # otherwise another edge may be taken
                successor = vertex.straight.get(action, vertex.straight_fallback)
            if successor is None:
                successor = _cross(run, vertex, action)
        if in_place is not None:
            if successor is None:
                in_place.end()
            else:
                in_place.check(successor.fans_out)
        context.phase = "commit"
        elapsed = perf_counter() - began if timed else 0.0
        if run.snapshot is not None:
            yield from run.compute(run.snapshot, step, vertex.name)
        if counts:
            name = None if successor is None else successor.name
            facts = (step, vertex.name, path, action, context.attempt, elapsed, name, context.path)
            row = Finished(*facts, failure, () if run.taken is None else run.taken.counts)
            if on_loop:
                step, asked = yield from run.commit(False, ledger.step, row)
            else:
                step, asked = ledger.step(row)
            if asked:
                run.cancel()
        run.finished = step + 1
        run.completed = successor is None
        if failure is not None:
            error_facts = (phase, context.attempt, elapsed, failure, path, True)
            run.notify("node_error", vertex.name, step, *error_facts)
        elif on_end is not None:
            run.notify("node_end", vertex.name, step, action, elapsed, context.attempt, path)
        step += 1
        if unfinished is not None:
            unfinished = run.unfinished = None
            direct = is_plain
        if successor is None:
            break
        vertex = successor
    run.action = action


def _after(
    run: Line, vertex: Vertex, visiting: Visiting | None, exc: BaseException
) -> Effects[tuple[Exception | None, str, Vertex | None] | None]:
    """What follows the exception of a phase: the failure, the action, and the next node.

    The failure is ``None`` if middleware turned it into an action; the result is ``None`` if
    nothing catches it.
    """
    failure = failure_of(run, exc)
    if failure is None:
        if visiting is not None:
            visiting.close()
        return None
    if visiting is not None:
        try:
            action = yield from visiting.fail(failure)
        except Exception as replaced:  # noqa: BLE001 - edges for errors decide about it
            failure = unwrapped(replaced)
        else:
            action = action_of(vertex, action)
            return None, action, _cross(run, vertex, action)
    caught = _caught(run, vertex, failure)
    if caught is not None:
        return failure, *caught
    if failure is unwrapped(exc):
        return None
    raise failure  # raised by the middleware


def _fan_out(run: Line, vertex: Vertex, prepared: object) -> Effects:
    """The ``exec`` of a node that fans out: over items, or into parallel branches."""
    if vertex.branches:
        return (yield from run_branches(run, vertex, prepared, _loop))
    return (yield from map_items(run, vertex, prepared))


# -- where a run continues --------------------------------------------------------------------


def _cross(run: Line, vertex: Vertex, action: str) -> Vertex | None:
    """The next node where a flow begins or ends, an edge has a limit, or there is a budget."""
    if not run.frames and run.taken is None and vertex.ends_flow(action):
        return None
    if run.budget is not None and (past := way_past(run, vertex, action)) is not None:
        return run.move_to(past)
    position = follow(vertex, action, run.frames, run.is_spent)
    if position.unhandled is not None:
        report_unhandled(run, position.unhandled, action, position.vertex)
    return run.move_to(position)


def _caught(run: Line, vertex: Vertex, error: Exception) -> tuple[str, Vertex | None] | None:
    """The label of the edge that catches an error, and the next node; ``None`` if none fits."""
    context = run.context
    if context.phase == "commit" or context.is_stopped_by(error) or run.cannot_write(error):
        return None
    match = catch(vertex, error, run.frames, run.is_spent)
    if match is None:
        return None
    caught, position = match
    edge = caught.catch
    if edge.spent is not None and isinstance(error, BudgetError):
        go_past(run, vertex, error)
    if edge.field is not None:
        name = label(context.node, context.path)
        value = Failure.of(name, error) if edge.value is None else edge.value(error)
        check_called(value)
        run.store.give(edge.field.name, value)
    return edge.label, run.move_to(position)
