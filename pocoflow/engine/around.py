"""Middleware around visits of nodes and attempts of ``exec``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from pocoflow.engine.effects import Await, Effects, Steps
from pocoflow.engine.line import Line
from pocoflow.engine.outcomes import unwrapped
from pocoflow.errors import RunError
from pocoflow.graph.graph import Vertex
from pocoflow.messages import short
from pocoflow.nodes.middleware import Around, Middleware, Visit

_PROCEED: Any = object()

_YIELDED = "middleware {} may yield nothing, to proceed, or a coroutine to await; it yielded {}"


class Skipped(BaseException):
    """A middleware returned without yielding; the node is not visited."""

    def __init__(self, action: object) -> None:
        super().__init__(action)
        self.action = action


def middleware_of(run: Line) -> Middleware:
    """The middleware around the current node of a run."""
    middleware = run.middleware
    for frame in run.frames:
        if frame.inner is not None:
            middleware = frame.inner.middleware.within(middleware)
    return middleware


def wrapped(
    middleware: Sequence[Callable[[Any], Around]],
    call: Any,
    inner: Callable[[], Effects],
) -> Effects:
    """The result of a call within middleware, the outermost first."""
    if not middleware:
        return (yield from inner())
    steps = middleware[0](call)
    step: Callable[[Any], Any] = steps.send
    value: object = None
    try:
        while True:
            try:
                request = step(value)
            except StopIteration as done:
                return done.value
            try:
                if request is None:
                    value = yield from wrapped(middleware[1:], call, inner)
                elif isinstance(request, Coroutine):
                    value = yield Await(request)
                else:
                    raise RunError(_YIELDED.format(short(middleware[0]), short(request)))
                step = steps.send
            except Exception as exc:  # noqa: BLE001 - the middleware decides about it
                step, value = steps.throw, unwrapped(exc)
    finally:
        steps.close()


class Visiting:
    """One visit of a node within middleware, which the step loop enters and leaves."""

    def __init__(self, run: Line, vertex: Vertex, middleware: Middleware) -> None:
        facts = (vertex.node, vertex.name, run.context.path, run.step, run.store)
        self._steps = wrapped(middleware.visits, Visit(*facts), _inner)

    def enter(self) -> Steps:
        """Start the middleware.

        Raises:
            Skipped: It returned an action.
        """
        is_over, action = yield from self._advance(self._steps.send, None)
        if is_over:
            raise Skipped(action)

    def leave(self, action: object) -> Effects:
        """Send the action to the middleware; returns the one that it returns."""
        return (yield from self._finish(self._steps.send, action))

    def fail(self, error: Exception) -> Effects:
        """Throw an error into the middleware, which raises or returns an action."""
        return (yield from self._finish(self._steps.throw, error))

    def close(self) -> None:
        """Close the middleware of a visit that is not finished."""
        self._steps.close()

    def _finish(self, step: Callable[[Any], object], value: object) -> Effects:
        is_over, action = yield from self._advance(step, value)
        if is_over:
            return action
        raise RunError("a middleware can proceed with a visit only once, but repeat an attempt")

    def _advance(self, step: Callable[[Any], Any], value: object) -> Effects[tuple[bool, Any]]:
        while True:
            try:
                effect = step(value)
            except StopIteration as done:
                return True, done.value
            if effect is _PROCEED:
                return False, None
            try:
                value = yield effect
                step = self._steps.send
            except Exception as exc:  # noqa: BLE001 - the middleware decides about it
                step, value = self._steps.throw, exc


def _inner() -> Effects:
    return (yield _PROCEED)
