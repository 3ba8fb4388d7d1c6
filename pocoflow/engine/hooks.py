"""The hooks of a flow: plain callables, told of events in the documented shapes."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import compress
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, overload

from pydantic import BaseModel
from typing_extensions import TypeVar

from pocoflow.engine.run import Listener
from pocoflow.errors import HookError
from pocoflow.logging import get_logger
from pocoflow.messages import closest, short
from pocoflow.nodes.question import Question
from pocoflow.store.store import Store
from pocoflow.values.callables import is_async
from pocoflow.values.failures import Shown

if TYPE_CHECKING:
    from pocoflow.engine.event_types import NodeFailed

__all__ = ["Hooked"]

StateT = TypeVar("StateT", bound=BaseModel, default=Any)

_log = get_logger("flow")

# Per event: what the callback takes, and how the event is turned into that.
_SHAPES: dict[str, tuple[str, Callable[[Callable[..., object]], Listener]]] = {
    "flow_start": ("store", lambda f: lambda e, s: f(s)),
    "node_start": ("name, store", lambda f: lambda e, s: f(e.node, s)),
    "node_retry": (
        "name, attempt, exc, store",
        lambda f: lambda e, s: f(e.node, e.attempt, e.error, s),
    ),
    "node_end": (
        "name, action, elapsed, store",
        lambda f: lambda e, s: f(e.node, e.action, e.elapsed, s),
    ),
    "node_error": ("name, exc, store", lambda f: lambda e, s: f(e.node, e.error, s)),
    "flow_end": ("steps, store", lambda f: lambda e, s: f(e.steps, s)),
    "flow_error": ("exc, store", lambda f: lambda e, s: f(e.error, s)),
    "flow_cancelled": ("steps, store", lambda f: lambda e, s: f(e.steps, s)),
    "node_ask": ("name, question, store", lambda f: lambda e, s: f(e.node, e.question, s)),
    "flow_pause": ("steps, store", lambda f: lambda e, s: f(e.steps, s)),
}


class Hooked(Generic[StateT]):
    """Something whose runs tell callbacks and the log of their events."""

    @overload
    def on(
        self, event: Literal["node_start"], callback: Callable[[str, Store[StateT]], object], /
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["node_end"],
        callback: Callable[[str, str, float, Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["node_error"],
        callback: Callable[[str, Exception, Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["node_retry"],
        callback: Callable[[str, int, Exception, Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["flow_end", "flow_cancelled", "flow_pause"],
        callback: Callable[[int, Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["flow_error"],
        callback: Callable[[BaseException, Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self,
        event: Literal["node_ask"],
        callback: Callable[[str, Question[Any], Store[StateT]], object],
        /,
    ) -> Self: ...
    @overload
    def on(
        self, event: Literal["flow_start"], callback: Callable[[Store[StateT]], object], /
    ) -> Self: ...
    def on(self, event: str, callback: Callable[..., object], /) -> Self:
        """Tell a callback of an event, after the commit that made it true.

        The events and what the callback gets::

            flow_start      (store)
            node_start      (name, store)
            node_retry      (name, attempt, exc, store)
            node_end        (name, action, elapsed_seconds, store)
            node_error      (name, exc, store)
            flow_end        (steps, store)       the run completed
            flow_error      (exc, store)         the run failed
            flow_cancelled  (steps, store)       the run was cancelled
            node_ask        (name, question, store)
            flow_pause      (steps, store)       the run waits for answers

        An ``Exception`` that a callback raises is logged and changes nothing.

        Returns:
            This object.

        Raises:
            HookError: There is no such event, or the callback cannot take what it passes.
        """
        shape = _SHAPES.get(event)
        if shape is None:
            raise HookError(
                f"there is no event {event!r}{closest(event, _SHAPES)} "
                f"(events: {', '.join(_SHAPES)})"
            )
        parameters, adapt = shape
        wanted = f"flow.on({event!r}, callback) calls callback({parameters})"
        _check_shape(wanted, callback, parameters)
        self._registered().setdefault(event, []).append(adapt(callback))
        return self

    def subscribe(self, listener: Listener, /) -> Self:
        """Tell a callable of every event: ``listener(event, store)``, the event as its dataclass.

        Returns:
            This object.

        Raises:
            HookError: It cannot be called with these, or it is ``async``: nobody awaits it.
        """
        from pocoflow.engine.event_types import KINDS

        wanted = "flow.subscribe(listener) calls listener(event, store)"
        _check_shape(wanted, listener, "event, store")
        for kind in KINDS:
            self._registered().setdefault(kind, []).append(listener)
        return self

    def listeners(self) -> Mapping[str, tuple[Listener, ...]]:
        """Who is told in a run that begins now: the callbacks, and the log where it is enabled."""
        logged = _logged(tuple(map(_log.isEnabledFor, _LEVELS)))
        # A copy, as another thread may register more.
        registered = self._registered().copy()
        if not registered:
            return logged
        told = {kind: (*logged.get(kind, ()), *those) for kind, those in registered.items()}
        return {**logged, **told}

    def _registered(self) -> dict[str, list[Listener]]:
        registered: dict[str, list[Listener]] = self.__dict__.setdefault("_listeners", {})
        return registered


def _check_shape(wanted: str, callback: Callable[..., object], parameters: str) -> None:
    if not callable(callback):
        raise HookError(f"{wanted}; {short(callback)} is not callable")
    if is_async(callback):
        raise HookError(f"{wanted} without awaiting it; {short(callback)} is a coroutine function")
    try:
        signature = inspect.signature(callback)
    except (ValueError, TypeError):
        return  # builtins such as print do not tell their signature
    try:
        signature.bind(*parameters.split(", "))
    except TypeError as exc:
        raise HookError(f"{wanted}; {short(callback)} takes {signature}: {exc}") from None


def _logs(level: int, text: str, *fields: str) -> tuple[int, Listener]:
    def listener(event: Any, store: object) -> None:
        # %r keeps a newline in a name or a message from forging a line of the log.
        facts = (getattr(event, name) for name in fields)
        _log.log(level, text, *(Shown(f) if isinstance(f, BaseException) else f for f in facts))

    return level, listener


def _log_failure(event: NodeFailed, store: object) -> None:
    facts = (event.run_id, event.step, event.phase, event.node, Shown(event.error))
    if event.is_caught:
        _log.warning("run %r: step %d: %s of %r failed and was caught: %r", *facts)
    else:
        _log.error("run %r: step %d: %s of %r failed: %r", *facts, exc_info=event.error)


_LOGGED: dict[str, tuple[int, Listener]] = {
    "flow_start": _logs(
        logging.INFO, "flow %r starts: run %r, step %d", "flow_name", "run_id", "step"
    ),
    "node_start": _logs(logging.DEBUG, "run %r: step %d: %r starts", "run_id", "step", "node"),
    "node_retry": _logs(
        logging.WARNING,
        "run %r: step %d: attempt %d of %r failed, next in %.3g s: %r",
        "run_id",
        "step",
        "attempt",
        "node",
        "delay",
        "error",
    ),
    "node_end": _logs(
        logging.INFO,
        "run %r: step %d: %r -> %r in %.3f s",
        "run_id",
        "step",
        "node",
        "action",
        "elapsed",
    ),
    "node_error": (logging.WARNING, _log_failure),
    "flow_end": _logs(
        logging.INFO, "flow %r completed: run %r, %d steps", "flow_name", "run_id", "steps"
    ),
    "flow_error": _logs(
        logging.WARNING,
        "flow %r failed: run %r after %d steps: %r",
        "flow_name",
        "run_id",
        "steps",
        "error",
    ),
    "node_ask": _logs(
        logging.INFO,
        "run %r: step %d: %r asks question %d: %r",
        "run_id",
        "step",
        "node",
        "number",
        "question",
    ),
    "flow_pause": _logs(
        logging.INFO, "flow %r paused: run %r after %d steps", "flow_name", "run_id", "steps"
    ),
    "flow_cancelled": _logs(
        logging.WARNING, "flow %r cancelled: run %r after %d steps", "flow_name", "run_id", "steps"
    ),
}

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING)


@lru_cache
def _logged(enabled: tuple[bool, ...]) -> Mapping[str, tuple[Listener, ...]]:
    """What the log is told where these levels are enabled."""
    levels = list(compress(_LEVELS, enabled))
    return {kind: (one,) for kind, (level, one) in _LOGGED.items() if level in levels}
