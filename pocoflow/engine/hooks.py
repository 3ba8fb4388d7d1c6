"""The hooks of a flow: plain callables, told of events in the documented shapes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import compress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pocoflow.engine.line import Listener
from pocoflow.errors import HookError
from pocoflow.logging import OwnLogger
from pocoflow.messages import closest
from pocoflow.values.callables import check_callback
from pocoflow.values.failures import Shown

if TYPE_CHECKING:
    from pocoflow.graph.event_types import NodeFailed

_log = OwnLogger("flow")

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


class Hooks:
    """Who is told of the events of a flow's runs: callbacks, and the log.

    Attributes:
        registered: The callbacks by event.
    """

    def __init__(self, registered: Mapping[str, Iterable[Listener]] | None = None) -> None:
        self.registered = {event: [*those] for event, those in (registered or {}).items()}

    def add(self, event: str, callback: Callable[..., object]) -> None:
        """Tell a callback of an event, in the shape that is documented.

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
        check_callback(wanted, callback, *parameters.split(", "))
        self.registered.setdefault(event, []).append(adapt(callback))

    def subscribe(self, listener: Listener) -> None:
        """Tell a callable of every event.

        Raises:
            HookError: It cannot be called with an event and a store, or it is ``async``.
        """
        from pocoflow.graph.event_types import KINDS

        wanted = "flow.subscribe(listener) calls listener(event, store)"
        check_callback(wanted, listener, "event", "store")
        for kind in KINDS:
            self.registered.setdefault(kind, []).append(listener)

    def listeners(self) -> Mapping[str, tuple[Listener, ...]]:
        """Who is told in a run that begins now: the callbacks, and the log where it is set up."""
        logged: Mapping[str, tuple[Listener, ...]] = _NOBODY
        if _log.hasHandlers():
            logged = _logged(tuple(map(_log.isEnabledFor, _LEVELS)))
        if not self.registered:
            return logged
        # A copy, as another thread may register more.
        registered = self.registered.copy()
        told = {kind: (*logged.get(kind, ()), *those) for kind, those in registered.items()}
        return {**logged, **told}


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
        traceback = None if event.is_told else event.error  # once is enough
        _log.error("run %r: step %d: %s of %r failed: %r", *facts, exc_info=traceback)


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

_NOBODY: Mapping[str, tuple[Listener, ...]] = MappingProxyType({})

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING)


@lru_cache
def _logged(enabled: tuple[bool, ...]) -> Mapping[str, tuple[Listener, ...]]:
    """What the log is told where these levels are enabled."""
    levels = list(compress(_LEVELS, enabled))
    return {kind: (one,) for kind, (level, one) in _LOGGED.items() if level in levels}
