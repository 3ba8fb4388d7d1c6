"""One execution of a flow: everything that belongs to it and to no other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeAlias

from pocoflow.context import RunContext
from pocoflow.db.recorder import RunRecorder
from pocoflow.engine.effects import Call, Effect
from pocoflow.events import Emitted, Event
from pocoflow.graph import GraphNode
from pocoflow.logging import get_logger
from pocoflow.store import Store

__all__ = ["Listener", "Run"]

Listener: TypeAlias = Callable[[Any, Store[Any]], object]
"""Called as ``listener(event, store)``."""

_log = get_logger("flow")


@dataclass(slots=True)
class Run:
    """The state of one execution of a flow.

    Attributes:
        context: What ``pocoflow.context()`` returns inside the run.
        store: The shared state.
        max_steps: How many steps the run may take, those before a resume included.
        strict: Whether an action without an edge is an error.
        inline: Whether synchronous code may be called in the driver's own thread.
        listeners: Who is told of events, by kind of event.
        recorder: Keeps the run in the database, if there is one.
        snapshot: Writes a JSON checkpoint after a step, if the flow asked for it.
        step: The number of the step that runs or comes next.
        finished: How many steps are finished, those before a resume included.
        replay: Results of ``exec`` of the first step that were finished before a crash, by item
            (-1 for a node that is not a batch).
        completed: Whether its last step is committed; what a listener raises then is no failure.
        place: The node that runs or comes next.
        frames: The nested flows around it, outermost first.
        began: When it began, by ``perf_counter``; 0 if nobody asks.
    """

    context: RunContext
    store: Store[Any]
    max_steps: int
    strict: bool
    inline: bool
    listeners: Mapping[str, Sequence[Listener]]
    recorder: RunRecorder | None = None
    snapshot: Callable[[int, str], object] | None = None
    step: int = 0
    finished: int = 0
    replay: dict[int, Any] = field(default_factory=dict)
    completed: bool = False
    place: GraphNode | None = None
    frames: list[GraphNode] = field(default_factory=list)
    began: float = 0.0

    def elapsed(self) -> float:
        """Seconds since the current step began; 0 if nobody asked for times."""
        return perf_counter() - self.began if self.began else 0.0

    def commit(
        self, inline: bool, function: Callable[..., Any], *arguments: Any
    ) -> Generator[Effect, Any, Any]:
        """Call something that writes, here or, off an event loop, through the driver."""
        if inline:
            return function(*arguments)
        return (yield Call(function, arguments, must_finish=True))

    def emit(self, context: RunContext, value: object) -> None:
        """Tell listeners what a node emits."""
        self.tell(Emitted, context.node, context.step, value, context.item, context.path)

    def tell(self, kind: type[Event], *facts: Any) -> None:
        """Build an event if somebody listens to its kind, and tell them.

        An ``Exception`` of a listener is logged with its traceback and changes nothing.
        """
        listeners = self.listeners.get(kind.kind)
        if not listeners:
            return
        event: Any = kind(self.context.run_id, *facts)
        for listener in listeners:
            try:
                listener(event, self.store)
            except Exception:  # noqa: BLE001 - a reader of events must not break the run
                _log.exception(
                    "flow %r, run %r: a listener of %r failed; the run goes on",
                    self.context.flow_name,
                    self.context.run_id,
                    kind.kind,
                )
