"""Trying ``exec``: one attempt, the attempts after a failure, and the fallback."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import CoroutineType
from typing import Any

from pocoflow.context import RunContext
from pocoflow.engine.effects import Await, Call, Effect, Sleep
from pocoflow.engine.run import Run
from pocoflow.graph import GraphNode, label
from pocoflow.settings import retry_wait, wants_retry

__all__ = ["attempt", "try_again"]


def attempt(place: GraphNode, given: Any, inline: bool) -> Generator[Effect, Any, Any]:
    """One attempt of ``exec``, which may need a thread, a timeout or the event loop."""
    node = place.node
    if place.exec_async or (inline and node.timeout is None):
        result: Any = node.exec(given)
    else:
        result = yield Call(node.exec, (given,), node.timeout)
    if result.__class__ is CoroutineType:
        result = yield Await(result, node.timeout)
    return result


def try_again(
    run: Run, place: GraphNode, context: RunContext, given: Any, error: Exception, inline: bool
) -> Generator[Effect, Any, Any]:
    """The attempts after the first, which raised ``error``, and the fallback after the last."""
    node = place.node
    while not context.is_stopped_by(error) and context.attempt < node.max_retries:
        with _dealing_with(error):
            retries = wants_retry(node, error)
        if not retries:
            break
        context.check_cancelled()  # no attempt follows, so none is announced
        delay = retry_wait(node, context.attempt)
        if run.recorder is not None:
            context.phase = "commit"
            node_label = label(place.name, context.path)
            facts = (run.step, node_label, context.attempt, error, context.item)
            yield from run.commit(inline, run.recorder.retry, *facts)
            context.phase = "exec"
        run.tell(
            "node_retry",
            place.name,
            run.step,
            context.attempt,
            delay,
            error,
            context.path,
            context.item,
        )
        if delay > 0:
            yield Sleep(delay)
        context.check_cancelled()
        context.attempt += 1
        try:
            return (yield from attempt(place, given, inline))
        except Exception as exc:  # noqa: BLE001 - kept for retry_on and exec_fallback
            error = exc
    if context.is_stopped_by(error):
        raise error
    with _dealing_with(error):
        result: Any = (
            node.exec_fallback(given, error)
            if inline
            else (yield Call(node.exec_fallback, (given, error)))
        )
        if result.__class__ is CoroutineType:
            result = yield Await(result)
    return result


@contextmanager
def _dealing_with(error: Exception) -> Iterator[None]:
    """Let what is raised meanwhile show the failure of ``exec`` as its context."""
    try:
        yield
    except BaseException as exc:
        if exc is not error and exc.__context__ is None:
            exc.__context__ = error
        raise
