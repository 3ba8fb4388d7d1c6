"""Waiting, until the run is cancelled or a node's timeout has passed."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextvars import Context
from functools import partial
from queue import Empty, SimpleQueue
from types import coroutine
from typing import Any, TypeVar

from pocoflow.engine.effects import NOT_STARTED, Await
from pocoflow.engine.outcomes import Raised
from pocoflow.errors import NodeTimeoutError, RunCancelled, RunError
from pocoflow.nodes.context import Cancellation, RunContext

T = TypeVar("T")


def sleep(seconds: float, cancellation: Cancellation) -> None:
    """Wait in this thread; a cancellation ends the wait."""
    _is_woken(SimpleQueue(), seconds, cancellation)


def _is_woken(queue: SimpleQueue[None], seconds: float | None, cancellation: Cancellation) -> bool:
    """Wait for a queue entry, or a cancellation; returns whether one arrived in time.

    A queue and not an ``Event``, as a signal handler may end the wait.
    """
    wake = partial(queue.put, None)
    cancellation.add_callback(wake)
    try:
        queue.get(timeout=None if seconds is None else max(seconds, 0))
    except Empty:
        return False
    finally:
        cancellation.remove_callback(wake)
    return True


_WITHDRAWN = object()


class Pending:
    """What a thread waits for: the outcome of a call, which another thread hands over.

    Attributes:
        is_done: Whether the outcome is available.
        is_given_up: Whether the wait was abandoned.
    """

    __slots__ = ("_outcome", "_queue", "is_done", "is_given_up")

    def __init__(self) -> None:
        self._queue: SimpleQueue[None] = SimpleQueue()
        self._outcome: object = None
        self.is_done = self.is_given_up = False

    def give(self, outcome: object) -> None:
        """Hand over the outcome, from any thread."""
        self._outcome, self.is_done = outcome, True
        self._queue.put(None)

    def withdraw(self) -> None:
        """Signal that there will be no outcome, as the call was cancelled."""
        self.give(_WITHDRAWN)

    def outcome(self) -> object:
        """The outcome, an error if the call was cancelled; waits unconditionally."""
        self._queue.get()
        return Raised(CancelledError()) if self._outcome is _WITHDRAWN else self._outcome

    def wait(
        self,
        context: RunContext,
        timeout: float | None = None,
        until: Cancellation | None = None,
    ) -> object:
        """The outcome; the wait is abandoned at a timeout, a cancellation or a Ctrl-C.

        Args:
            context: The context that errors name.
            timeout: Seconds.
            until: The cancellation; that of the context by default.

        Raises:
            NodeTimeoutError: It took longer than ``timeout``.
            RunCancelled: The run was cancelled meanwhile.
            RunError: The call was cancelled.
        """
        cancellation = context.cancellation if until is None else until
        try:
            if not _is_woken(self._queue, timeout, cancellation):
                raise _timed_out(context, timeout)
        finally:
            self.is_given_up = not self.is_done
        if self.is_given_up or (self._outcome is _WITHDRAWN and cancellation.requested):
            raise cancelled(context)
        if self._outcome is _WITHDRAWN:
            raise withdrawn(context)
        return self._outcome


def wait(future: Future[object], context: RunContext, until: Cancellation | None = None) -> object:
    """The outcome of a future, as :meth:`Pending.wait` returns it."""
    pending = Pending()

    def take(done: Future[object]) -> None:
        if done.cancelled():
            pending.withdraw()
        else:
            error = done.exception()
            pending.give(done.result() if error is None else Raised(error))

    future.add_done_callback(take)
    try:
        return pending.wait(context, until=until)
    finally:
        future.cancel()


def is_cancelled_error(exc: BaseException) -> bool:
    """Whether it is ``asyncio.CancelledError``, without importing asyncio."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(exc, asyncio.CancelledError)


def is_task_cancelled() -> bool:
    """Whether this task itself is being cancelled, and not only what it awaits."""
    import asyncio

    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def awaited(awaitable: Awaitable[T]) -> T | Raised:
    """The result of an await, or what it raised."""
    try:
        return await awaitable
    except Exception as exc:  # noqa: BLE001 - raised when the outcome is opened
        return Raised(exc)


@coroutine
def within(
    context: Context, awaited: Coroutine[Any, Any, object], waits_for: object = NOT_STARTED
) -> Generator[Any, Any, Any]:
    """Await a coroutine as part of the calling task, with the variables of another context."""
    given: object = None
    raised: BaseException | None = None
    has_started = waits_for is not NOT_STARTED
    while True:
        if not has_started:
            try:
                if raised is None:
                    waits_for = context.run(awaited.send, given)
                else:
                    waits_for = context.run(awaited.throw, raised)
            except StopIteration as done:
                return done.value
        has_started = False
        try:
            given, raised = (yield waits_for), None
        except GeneratorExit:
            context.run(awaited.close)
            raise
        except BaseException as exc:  # noqa: BLE001 - the coroutine decides about it
            raised = exc


def awaited_by(effect: Await) -> Coroutine[Any, Any, object]:
    """What an effect awaits, in its own context if it has one."""
    context, awaitable = effect.context, effect.awaitable
    return awaitable if context is None else within(context, awaitable)


async def bounded(awaitable: Awaitable[T], timeout: float | None, context: RunContext) -> T:
    """Await with a timeout whose error names the node."""
    import asyncio

    bound = asyncio.timeout(timeout)
    try:
        async with bound:
            return await awaitable
    except TimeoutError as exc:
        if bound.expired():
            raise _timed_out(context, timeout) from exc
        raise


def _timed_out(context: RunContext, timeout: float | None) -> NodeTimeoutError:
    """The error of an attempt that took longer than the node's timeout."""
    return NodeTimeoutError(
        f"{context.phase} of node {context.node!r} (run {context.run_id!r}, step {context.step}, "
        f"attempt {context.attempt}) took longer than its timeout of {timeout:g} seconds"
    )


def cancelled(context: RunContext) -> RunCancelled:
    """The error of a wait that was ended by the cancellation of the run."""
    where = f"in {context.phase} of node {context.node!r} (step {context.step})"
    if not context.node:
        where = "while it opened its resources"
    return RunCancelled(f"run {context.run_id!r} was cancelled {where}")


def withdrawn(context: RunContext) -> RunError:
    """The error of an await that was cancelled although the run was not."""
    return RunError(
        f"{context.phase} of node {context.node!r} (run {context.run_id!r}, step {context.step}) "
        "awaited something that was cancelled; the run itself was not"
    )
