"""The step loop: a generator that runs a graph over a store, and the only caller of user code.

The loop itself neither waits, sleeps nor starts a thread. Where one of these is needed it
yields an effect (:class:`Await`, :class:`Sleep`, :class:`Call`) and a driver carries it out, so
that there is one loop for synchronous and asynchronous runs (``drivers.py``). On the plain path,
a synchronous node in a synchronous run, it yields nothing at all.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from types import CoroutineType
from typing import Any, TypeAlias

from pocoflow.context import RunContext
from pocoflow.db.recorder import RunRecorder
from pocoflow.errors import (
    ActionError,
    MaxStepsError,
    RunCancelled,
    StoreError,
    UnhandledActionError,
)
from pocoflow.events import (
    Event,
    FlowCancelled,
    FlowEnded,
    FlowFailed,
    FlowStarted,
    NodeEnded,
    NodeFailed,
    NodeRetried,
    NodeStarted,
)
from pocoflow.graph import GraphNode
from pocoflow.logging import get_logger
from pocoflow.node import DEFAULT_ACTION, Node, retry_wait, wants_retry
from pocoflow.store import Store
from pocoflow.watch import Watch, check_in_place

__all__ = ["Await", "Call", "Effect", "Listener", "Run", "Sleep", "Steps"]

Listener: TypeAlias = Callable[[Any, Store[Any]], object]
"""Called as ``listener(event, store)``."""

_log = get_logger("flow")


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for an awaitable, at most ``timeout`` seconds, and send its result."""

    awaitable: Awaitable[Any]
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for some seconds, or until the run is cancelled."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """Call a function that may block, at most ``timeout`` seconds, and send its result.

    ``must_finish`` marks a commit: it is waited for even if the run is cancelled meanwhile.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    timeout: float | None = None
    must_finish: bool = False


Effect: TypeAlias = Await | Sleep | Call
Steps: TypeAlias = Generator[Effect, Any, None]


@dataclass(slots=True)
class Run:
    """One execution of a flow: everything that belongs to it and to no other run.

    Attributes:
        context: What ``pocoflow.context()`` returns inside the run.
        store: The shared state.
        max_steps: How many steps this execution may take.
        strict: Whether an action without an edge is an error.
        inline: Whether synchronous code may be called in the driver's own thread.
        listeners: Who is told of events, by kind of event.
        recorder: Keeps the run in the database, if there is one.
        snapshot: Writes a JSON checkpoint after a step, if the flow asked for it.
        step: The number of the step that runs or comes next.
        finished: How many steps are finished, those before a resume included.
        replay: The result of ``exec`` of the first step, if it was finished before a crash.
        completed: Whether its last step is committed; what a listener raises then is no failure.
        place: The node that runs or comes next.
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
    replay: list[Any] = field(default_factory=list)
    completed: bool = False
    place: GraphNode | None = None
    began: float = 0.0

    def steps(self, start: GraphNode) -> Steps:
        """Run from ``start`` to the end; the generator that a driver drives.

        Raises:
            RunCancelled: The run was asked to stop.
            MaxStepsError: ``max_steps`` was reached.
            Exception: Whatever a node raised, as it was raised, with a note on where.
        """
        try:
            self.tell(FlowStarted, self.context.flow_name, self.step)
            yield from self._loop(start)
        except BaseException as exc:
            self.fail(exc)
            raise
        self.tell(FlowEnded, self.context.flow_name, self.finished)

    def _loop(self, start: GraphNode) -> Steps:  # noqa: C901, PLR0915 - inlined: this is the hot path
        context, store, inline = self.context, self.store, self.inline
        cancellation, recorder = context.cancellation, self.recorder
        on_start, on_end = self.listeners.get("node_start"), self.listeners.get("node_end")
        timed = recorder is not None or on_end is not None
        watch = None
        if recorder is None and store.schema is not None:
            watch = Watch()
            check_in_place(store, watch)
        step, last = self.step, self.max_steps
        place: GraphNode | None = start
        began = 0.0
        while place is not None:
            if cancellation.requested:
                raise RunCancelled(f"run {context.run_id!r} was cancelled before step {step}")
            if step >= last:
                raise self._too_many(place)
            node = place.node
            self.place = place
            self.step = context.step = step
            context.node = place.name
            context.attempt = 1
            context.phase = "prep"
            if timed:
                began = self.began = perf_counter()
            if on_start is not None:
                self.tell(NodeStarted, place.name, step)

            direct = inline or place.prep_async
            prepared = node.prep(store) if direct else (yield Call(node.prep, (store,)))
            if prepared.__class__ is CoroutineType:
                prepared = yield Await(prepared)

            context.phase = "exec"
            if self.replay:
                result = self.replay.pop()
            else:
                try:
                    if inline and node.timeout is None:
                        result = node.exec(prepared)
                        if result.__class__ is CoroutineType:
                            result = yield Await(result)
                    else:
                        result = yield from self._attempt(place, prepared)
                except Exception as exc:  # noqa: BLE001 - retry_on and exec_fallback decide
                    result = yield from self._try_again(place, prepared, exc)
                if recorder is not None and place.has_exec and node.journal:
                    context.phase = "commit"
                    if inline:
                        recorder.journal(step, place.name, result)
                    else:
                        finished = (step, place.name, result)
                        yield Call(recorder.journal, finished, must_finish=True)

            context.phase = "post"
            arguments = (store, prepared, result)
            direct = inline or place.post_async
            action: Any = node.post(*arguments) if direct else (yield Call(node.post, arguments))
            if action.__class__ is CoroutineType:
                action = yield Await(action)
            if action.__class__ is not str:
                action = self._action(place, action)

            following = place.targets.get(action, place.fallback)
            note = self._unhandled(place, action) if following is None and place.targets else None
            if watch is not None:
                check_in_place(store, watch)
            context.phase = "commit"
            elapsed = perf_counter() - began if timed else 0.0
            if self.snapshot is not None:
                yield from self._commit(self.snapshot, (step, place.name))
            if recorder is not None:
                name = None if following is None else following.name
                row = (step, place.name, action, context.attempt, elapsed, name, note)
                if inline:
                    asked = recorder.step(*row)
                else:
                    asked = yield Call(recorder.step, row, must_finish=True)
                if asked:
                    cancellation.request()
            self.finished = step + 1
            self.completed = following is None
            if on_end is not None:
                self.tell(NodeEnded, place.name, step, action, elapsed, context.attempt)
            step += 1
            place = following

    # -- exec -----------------------------------------------------------------------------------

    def _attempt(self, place: GraphNode, prepared: Any) -> Generator[Effect, Any, Any]:
        """One attempt of ``exec`` that may need a thread, a timeout or the event loop."""
        node = place.node
        if place.exec_async or (self.inline and node.timeout is None):
            result: Any = node.exec(prepared)
        else:
            result = yield Call(node.exec, (prepared,), node.timeout)
        if result.__class__ is CoroutineType:
            result = yield Await(result, node.timeout)
        return result

    def _try_again(
        self, place: GraphNode, prepared: Any, error: Exception
    ) -> Generator[Effect, Any, Any]:
        """The attempts after the first, and the fallback after the last."""
        node, context = place.node, self.context
        while not self._stops(error) and context.attempt < node.max_retries:
            if not wants_retry(node, error):
                break
            delay = retry_wait(node, context.attempt)
            if self.recorder is not None:
                failed = (self.step, place.name, context.attempt, error)
                yield from self._commit(self.recorder.retry, failed)
            self.tell(NodeRetried, place.name, self.step, context.attempt, delay, error)
            if delay > 0:
                yield Sleep(delay)
            context.check_cancelled()
            context.attempt += 1
            try:
                return (yield from self._attempt(place, prepared))
            except Exception as exc:  # noqa: BLE001 - kept for retry_on and exec_fallback
                error = exc
        if self._stops(error):
            raise error
        return (yield from self._fallback(node, prepared, error))

    def _stops(self, error: Exception) -> bool:
        """Whether the error is the run's own cancellation, which is never retried."""
        return isinstance(error, RunCancelled) and self.context.cancellation.requested

    def _fallback(
        self, node: Node[Any, Any, Any], prepared: Any, error: Exception
    ) -> Generator[Effect, Any, Any]:
        result: Any = (
            node.exec_fallback(prepared, error)
            if self.inline
            else (yield Call(node.exec_fallback, (prepared, error)))
        )
        if result.__class__ is CoroutineType:
            result = yield Await(result)
        return result

    # -- actions --------------------------------------------------------------------------------

    def _action(self, place: GraphNode, action: object) -> str:
        if action is None:
            return DEFAULT_ACTION
        if isinstance(action, str):
            return str.__str__(action)
        raise ActionError(
            f"post of node {place.name!r} returned {type(action).__name__} {action!r:.80}: an "
            f"action is a string (edges: {', '.join(place.actions) or 'none'}) or None for "
            f"{DEFAULT_ACTION!r}"
        )

    def _unhandled(self, place: GraphNode, action: str) -> str:
        text = (
            f"flow {self.context.flow_name!r}: node {place.name!r} returned action {action!r}, "
            f"which has no edge; the run ends here (edges: {', '.join(place.actions) or 'none'})"
        )
        if self.strict:
            raise UnhandledActionError(text)
        _log.warning("%s", text)
        return text

    def _too_many(self, place: GraphNode) -> MaxStepsError:
        return MaxStepsError(
            f"flow {self.context.flow_name!r} took max_steps={self.max_steps} steps and would go "
            f"on with node {place.name!r}: raise max_steps, or look for a loop without a way out"
        )

    def _commit(
        self, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Generator[Effect, Any, Any]:
        if self.inline:
            return function(*arguments)
        return (yield Call(function, arguments, must_finish=True))

    # -- endings and events ---------------------------------------------------------------------

    def fail(self, exc: BaseException) -> None:
        """Record and report how the run ended; the caller raises ``exc`` on."""
        if self.completed:
            return
        context, place = self.context, self.place
        cancelled = _is_task_cancelled(exc) or (isinstance(exc, Exception) and self._stops(exc))
        unfinished = place is not None and self.finished <= self.step
        in_node = unfinished and (context.phase != "commit" or isinstance(exc, StoreError))
        name = place.name if place is not None else None
        if not cancelled and in_node:
            exc.add_note(
                f"pocoflow: in {context.phase} of node {name!r} (flow {context.flow_name!r}, run "
                f"{context.run_id!r}, step {self.step}, attempt {context.attempt})"
            )
        if self.recorder is not None:
            status = "cancelled" if cancelled else "failed"
            node = name if in_node else None
            ended = (status, exc, self.step, node, context.attempt, self._elapsed())
            if not self.recorder.end(*ended):
                return
        if cancelled:
            self.tell(FlowCancelled, context.flow_name, self.finished)
            return
        if in_node and name is not None:
            self.tell(
                NodeFailed, name, self.step, context.phase, context.attempt, self._elapsed(), exc
            )
        self.tell(FlowFailed, context.flow_name, self.finished, exc)

    def _elapsed(self) -> float:
        return perf_counter() - self.began if self.began else 0.0

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


def _is_task_cancelled(exc: BaseException) -> bool:
    """Whether it is ``asyncio.CancelledError``; asyncio is not imported for it."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(exc, asyncio.CancelledError)
