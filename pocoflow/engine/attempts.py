"""Trying ``exec``: one attempt, the attempts after a failure, and the fallback."""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from types import CoroutineType

from pocoflow.address import Address
from pocoflow.engine.around import middleware_of, wrapped
from pocoflow.engine.effects import Await, Call, Effects, Sleep
from pocoflow.engine.line import Line
from pocoflow.engine.outcomes import unwrapped
from pocoflow.errors import NodeTimeoutError, RunCancelled
from pocoflow.graph.graph import Vertex
from pocoflow.graph.step_records import Tried
from pocoflow.nodes.context import current
from pocoflow.nodes.middleware import Attempt
from pocoflow.nodes.settings import retry_wait, wants_retry
from pocoflow.values.copies import copied


def attempt(run: Line, vertex: Vertex, given: object, inline: bool) -> Effects:
    """One attempt of ``exec``, within the middleware of the flow, if it has any."""
    copies = vertex.copies_input
    if copies and not vertex.is_batch:
        run.given = (run.step, given)
    if run.plan.graph.wraps and (middleware := middleware_of(run).attempts):
        context = current.get()
        facts = (context.path, context.step, context.attempt, context.item)
        # What the middleware changes in place belongs to this attempt, too.
        call = Attempt(vertex.node, vertex.name, *facts, copied(given) if copies else given)
        around = wrapped(middleware, call, lambda: _attempt(run, vertex, call.given, inline))
        result = yield from around
    else:
        result = yield from _attempt(run, vertex, given, inline)
    if run.unfinished is not None or (run.calls is not None and run.calls[0] == run.step):
        run.after_exec(current.get())
    return result


def _attempt(run: Line, vertex: Vertex, given: object, inline: bool) -> Effects:
    """One attempt of ``exec``, by an executor or in this process."""
    executors = run.plan.executors
    if executors is not None and (gives := executors.of(vertex)) is not None:
        from pocoflow.engine.away import call_away

        return call_away(run, vertex, given, gives, inline)
    return tried_here(vertex, given, inline)


def tried_here(vertex: Vertex, given: object, inline: bool) -> Effects:
    """One attempt of ``exec`` in this process."""
    node = vertex.node
    if vertex.copies_input:
        given = copied(given)
    if node.timeout is not None:
        return (yield from _limited(vertex, given, node.timeout))
    if vertex.exec_async or inline:
        result: object = node.exec(given)
    else:
        result = yield Call(node.exec, (given,))
    while result.__class__ is CoroutineType:
        result = yield Await(result)
    return result


def _limited(vertex: Vertex, given: object, timeout: float) -> Effects:
    """An attempt that is abandoned at its timeout, although it may still be running.

    It has a context of its own, so that it cannot affect the run after that: the context variables
    that it sets are copied to the run once it has succeeded.
    """
    inner, separate = current.get().for_attempt(), copy_context()
    separate.run(current.set, inner)
    try:
        if vertex.exec_async:
            result: object = separate.run(vertex.node.exec, given)
        else:
            result = yield Call(vertex.node.exec, (given,), timeout, separate)
        while result.__class__ is CoroutineType:
            result = yield Await(result, timeout, context=separate)
    except (NodeTimeoutError, RunCancelled) as exc:
        inner.given_up = exc
        raise
    except BaseException as exc:
        if not isinstance(exc, Exception):
            inner.given_up = RunCancelled(f"run {inner.run_id!r} has ended: {type(exc).__name__}")
        raise
    outer = copy_context()
    for variable, value in separate.items():
        if variable is not current and outer.get(variable, separate) is not value:
            variable.set(value)
    return result


def try_again(run: Line, vertex: Vertex, given: object, error: Exception, inline: bool) -> Effects:
    """Retry after a first attempt that raised ``error``, and fall back after the last attempt."""
    node, context = vertex.node, current.get()
    calls = run.calls_of(context)
    while not context.is_stopped_by(error) and context.attempt < node.max_retries:
        calls.check_record(context)
        with _DealingWith(error):
            retries = wants_retry(node.retry_on, error)
        if not retries:
            break
        context.check_cancelled()  # before a retry is announced that would not take place
        delay = retry_wait(node, context.attempt)
        context.phase = "commit"
        where = Address(context.path, vertex.name)
        again = calls.fail(context.attempt, error)
        tried = Tried(where, context.attempt, error, calls.item, given, again)
        yield from run.commit(inline, run.ledger.retry, run.step, tried)
        context.phase = "exec"
        facts = (run.step, context.attempt, delay, error, context.path, context.item)
        run.notify("node_retry", vertex.name, *facts)
        if delay > 0:
            yield Sleep(delay)
        context.check_cancelled()
        if run.budget is not None and (refused := run.refusal(vertex)) is not None:
            raise refused from error
        context.attempt += 1
        try:
            return (yield from attempt(run, vertex, given, inline))
        except Exception as exc:  # noqa: BLE001 - handed to retry_on and exec_fallback
            error = unwrapped(exc)
    if context.is_stopped_by(error):
        raise error
    calls.check_record(context)
    if again := calls.fail(context.attempt, error):
        # A resume, which begins with the first attempt, makes it again, too.
        yield from run.commit(inline, run.ledger.call_again, run.step, again, calls.item)
    with _DealingWith(error):
        last = (given if vertex.is_bare else copied(given), error)
        direct = inline or vertex.is_bare  # it only raises
        fallback = node.exec_fallback
        result: object = fallback(*last) if direct else (yield Call(fallback, last))
        while result.__class__ is CoroutineType:
            result = yield Await(result)
    return result


class _DealingWith:
    """Makes the failure of ``exec`` the context of any exception raised in the block.

    Not a ``contextlib`` generator, as that would modify the exception in passing.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        with suppress(Exception):  # a frozen exception cannot be modified
            if exc is not None and exc is not self._error and exc.__context__ is None:
                exc.__context__ = self._error
