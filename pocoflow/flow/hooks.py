"""The hooks of a flow: plain callables that are called for events."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import compress
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from pocoflow.errors import HookError
from pocoflow.logging import OwnLogger
from pocoflow.messages import closest, short
from pocoflow.nodes.question import Question
from pocoflow.store.store import StateT, Store
from pocoflow.values.callables import check_callback

if TYPE_CHECKING:
    from pocoflow.engine.line import Listener
    from pocoflow.graph.event_types import NodeFailed

_log = OwnLogger("flow")


OnFlow: TypeAlias = Callable[[Store[StateT]], object]
OnFlowEnd: TypeAlias = Callable[[int, Store[StateT]], object]
OnFlowError: TypeAlias = Callable[[BaseException, Store[StateT]], object]
OnNode: TypeAlias = Callable[[str, Store[StateT]], object]
OnNodeEnd: TypeAlias = Callable[[str, str, float, Store[StateT]], object]
OnNodeError: TypeAlias = Callable[[str, Exception, Store[StateT]], object]
OnRetry: TypeAlias = Callable[[str, int, Exception, Store[StateT]], object]
OnQuestion: TypeAlias = Callable[[str, Question, Store[StateT]], object]
FlowEnding: TypeAlias = Literal["flow_end", "flow_cancelled", "flow_pause"]

_SHAPES: dict[str, str] = {
    "flow_start": "store",
    "node_start": "name, store",
    "node_retry": "name, attempt, exc, store",
    "node_end": "name, action, elapsed, store",
    "node_error": "name, exc, store",
    "flow_end": "steps, store",
    "flow_error": "exc, store",
    "flow_cancelled": "steps, store",
    "node_ask": "name, question, store",
    "flow_pause": "steps, store",
}
"""The arguments of the callbacks of an event: attributes of it, and the store."""

_FACTS = {"name": "node", "exc": "error"}
"""The attributes of events whose names differ from the parameter."""


def _adapted(callback: Callable[..., object], parameters: Iterable[str]) -> Listener:
    names = [_FACTS.get(parameter, parameter) for parameter in parameters if parameter != "store"]
    if not names:
        return lambda event, store: callback(store)
    facts = attrgetter(*names)
    if len(names) == 1:
        return lambda event, store: callback(facts(event), store)
    return lambda event, store: callback(*facts(event), store)


class Hooks:
    """The listeners to the events of a flow's runs: callbacks, and the log.

    Attributes:
        registered: The listeners, by event.
        callbacks: The callbacks as they were given, each with the store as its last argument.
    """

    def __init__(self, others: Hooks | None = None) -> None:
        self.registered: dict[str, list[Listener]] = {}
        self.callbacks: list[Callable[..., object]] = []
        if others is not None:
            known = others.registered.copy()  # another thread may register more
            self.registered = {event: [*listeners] for event, listeners in known.items()}
            self.callbacks = [*others.callbacks]

    def add(self, event: str, callback: Callable[..., object]) -> None:
        """Call a callback for an event, with the documented arguments.

        Raises:
            HookError: There is no such event, or the callback cannot take its arguments.
        """
        shape = _SHAPES.get(event)
        if shape is None:
            raise HookError(
                f"there is no event {event!r}{closest(event, _SHAPES)} "
                f"(events: {', '.join(_SHAPES)})"
            )
        wanted = f"flow.on({event!r}, callback) calls callback({shape})"
        parameters = shape.split(", ")
        check_callback(wanted, callback, *parameters)
        self.registered.setdefault(event, []).append(_adapted(callback, parameters))
        self.callbacks.append(callback)

    def subscribe(self, listener: Listener) -> None:
        """Call a listener for every event.

        Raises:
            HookError: It cannot be called with an event and a store, or it is ``async``.
        """
        from pocoflow.graph.event_types import KINDS

        wanted = "flow.subscribe(listener) calls listener(event, store)"
        check_callback(wanted, listener, "event", "store")
        self.callbacks.append(listener)
        for kind in KINDS:
            self.registered.setdefault(kind, []).append(listener)

    def listeners(self) -> Mapping[str, tuple[Listener, ...]]:
        """The listeners to a run that begins now: the callbacks, and the log if it is set up."""
        logged: Mapping[str, tuple[Listener, ...]] = _NOBODY
        if _log.logger.hasHandlers():
            logged = _logged(tuple(map(_log.isEnabledFor, _LEVELS)))
        if not self.registered:
            return logged
        # A copy, as another thread may register more.
        registered = self.registered.copy()
        merged = {kind: (*logged.get(kind, ()), *added) for kind, added in registered.items()}
        return {**logged, **merged}


def _logs(level: int, text: str) -> tuple[int, Listener]:
    names = re.findall(r"%\((\w+)\)", text)

    def listener(event: object, store: object) -> None:
        facts = {name: getattr(event, name) for name in names}
        if (error := facts.get("error")) is not None:
            facts["error"] = short(error, _LONGEST)
        _log.log(level, text, facts)

    return level, listener


def _log_failure(event: NodeFailed, store: object) -> None:
    facts = (event.run_id, event.step, event.phase, event.node, short(event.error, _LONGEST))
    if event.is_caught:
        _log.warning("run %r: step %d: %s of %r failed and was caught: %s", *facts)
    else:
        traceback = None if event.is_told else event.error  # once is enough
        _log.error("run %r: step %d: %s of %r failed: %s", *facts, exc_info=traceback)


_LONGEST = 10_000
_INFO, _WARNING = logging.INFO, logging.WARNING
_STEP = "run %(run_id)r: step %(step)d: "  # %r keeps a newline in a name from forging a line
_AFTER = "run %(run_id)r after %(steps)d steps"

_LOGGED: dict[str, tuple[int, Listener]] = {
    "flow_start": _logs(_INFO, "flow %(flow_name)r starts: run %(run_id)r, step %(step)d"),
    "node_start": _logs(logging.DEBUG, _STEP + "%(node)r starts"),
    "node_retry": _logs(
        _WARNING,
        _STEP + "attempt %(attempt)d of %(node)r failed, next in %(delay).3g s: %(error)s",
    ),
    "node_end": _logs(_INFO, _STEP + "%(node)r -> %(action)r in %(elapsed).3f s"),
    "node_error": (_WARNING, _log_failure),
    "flow_end": _logs(_INFO, "flow %(flow_name)r completed: run %(run_id)r, %(steps)d steps"),
    "flow_error": _logs(_WARNING, "flow %(flow_name)r failed: " + _AFTER + ": %(error)s"),
    "node_ask": _logs(_INFO, _STEP + "%(node)r asks question %(number)d: %(question)r"),
    "flow_pause": _logs(_INFO, "flow %(flow_name)r paused: " + _AFTER),
    "flow_cancelled": _logs(_WARNING, "flow %(flow_name)r cancelled: " + _AFTER),
}

_NOBODY: Mapping[str, tuple[Listener, ...]] = MappingProxyType({})

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING)


@lru_cache
def _logged(enabled: tuple[bool, ...]) -> Mapping[str, tuple[Listener, ...]]:
    """The listeners of the log if these levels are enabled."""
    levels = list(compress(_LEVELS, enabled))
    return {kind: (listener,) for kind, (level, listener) in _LOGGED.items() if level in levels}
