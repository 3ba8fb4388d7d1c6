"""The threads in which a run makes calls that may block, one call at a time per thread."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from pocoflow.cleanup import in_child
from pocoflow.engine.outcomes import Raised, close_unwanted, opened, tried
from pocoflow.engine.waits import Pending
from pocoflow.nodes.context import Cancellation

if TYPE_CHECKING:
    import asyncio


class Work:
    """A call in a context, whose outcome is a value; it knows whether it has ended."""

    __slots__ = (
        *("_coroutine", "_is_left", "_waits"),
        *("arguments", "context", "function", "has_started", "is_over"),
    )

    def __init__(
        self, context: Context, function: Callable[..., object], arguments: tuple[object, ...]
    ) -> None:
        self.context = context
        self.function = function
        self.arguments = arguments
        self.has_started = self.is_over = self._is_left = False
        self._coroutine: object = None
        self._waits: SimpleQueue[None] | None = None

    def __call__(self) -> object:
        """Make the call."""
        self.has_started = True
        outcome = self.context.run(tried, self.function, *self.arguments)
        if isinstance(outcome, CoroutineType):
            self._coroutine = outcome
        self.is_over = True
        if self._is_left:
            self.leave()
        if self._waits is not None:
            self._waits.put(None)
        return outcome

    def leave(self) -> None:
        """Discard the outcome, including one that arrives at this moment."""
        self._is_left = True
        close_unwanted(self._coroutine)

    def wait(self) -> None:
        """Wait until it is over."""
        waits = self._waits = SimpleQueue()
        if not self.is_over:
            waits.get()


def in_thread(work: Callable[[], object]) -> Pending:
    """Call a function that does not raise, in a daemon thread of its own."""
    pending = Pending()
    _submit(pending, work)
    return pending


def in_thread_async(work: Callable[[], object], limit: ThreadLimit | None = None) -> AsyncPending:
    """The same for a coroutine, which awaits the outcome; ``limit`` bounds concurrent threads."""
    pending = AsyncPending(limit)
    if limit is None:
        _submit(pending, work)
    else:
        limit.submit(pending, work)
    return pending


class AsyncPending:
    """What a task waits for: the outcome of a call in a thread.

    Attributes:
        is_given_up: Whether the wait was abandoned.
    """

    __slots__ = ("_future", "_is_done", "_limit", "_loop", "_outcome", "is_given_up")

    def __init__(self, limit: ThreadLimit | None) -> None:
        import asyncio

        self._limit, self._loop = limit, asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self._outcome: object = None
        self._is_done = self.is_given_up = False

    def give(self, outcome: object) -> None:
        """Hand over the outcome, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any longer
            self._loop.call_soon_threadsafe(self._take, outcome)

    def _take(self, outcome: object) -> None:
        self._outcome, self._is_done = outcome, True
        if not self._future.done():
            self._future.set_result(None)
        if self._limit is not None:
            self._limit.resume()

    async def outcome(self) -> Any:
        """The outcome; abandoned if this task is cancelled meanwhile."""
        try:
            await self._future
        except BaseException:
            self.is_given_up = True
            raise
        return self._outcome

    async def shielded(
        self, give_up: Callable[[], bool] | None = None, cancellation: Cancellation | None = None
    ) -> object:
        """The outcome; if this task is cancelled, the cancellation is delayed until the call ends.

        Args:
            give_up: Abandons the call nevertheless, if it can.
            cancellation: That of the run: if the run was cancelled, the outcome is used.
        """
        import asyncio

        try:
            await self._future
        except asyncio.CancelledError as exc:
            if give_up is not None and give_up():
                raise
            while not self._is_done:
                self._future = self._loop.create_future()
                with suppress(asyncio.CancelledError):  # once more, as when its loop is closed
                    await self._future
            if cancellation is None or not cancellation.requested:
                outcome = self._outcome
                close_unwanted(outcome)
                raise exc from (outcome.error if isinstance(outcome, Raised) else None)
        return opened(self._outcome)


class ThreadLimit:
    """Limits how many threads work for one event loop at a time."""

    def __init__(self) -> None:
        self._free = _AT_ONCE
        self._waiting: deque[tuple[AsyncPending, Callable[[], object]]] = deque()

    def submit(self, pending: AsyncPending, work: Callable[[], object]) -> None:
        """Make a call when a thread is free; to be called on the loop."""
        if self._free:
            self._free -= 1
            try:
                _submit(pending, work)
            except RuntimeError as exc:  # no thread could be started
                pending.give(Raised(exc))
        else:
            self._waiting.append((pending, work))

    def resume(self) -> None:
        """Start waiting calls, as a thread is free; to be called on the loop."""
        self._free += 1
        while self._free and self._waiting:
            pending, work = self._waiting.popleft()
            if not pending.is_given_up:
                self.submit(pending, work)


_limits: WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadLimit] = WeakKeyDictionary()


def limit_of(loop: asyncio.AbstractEventLoop) -> ThreadLimit:
    """The limit of a loop; to be called on it."""
    limit = _limits.get(loop)
    if limit is None:
        limit = _limits[loop] = ThreadLimit()
    return limit


def _submit(taker: Pending | AsyncPending, work: Callable[[], object]) -> None:
    """Make a call in an idle thread, or a new one.

    Not in a pool of fixed size: a call that outlives its timeout must neither delay others nor
    keep the interpreter from exiting. An idle thread waits for another call for a while.
    """
    try:
        calls = _idle.pop()
    except IndexError:
        calls = SimpleQueue()
        threading.Thread(target=_serve, args=(calls,), name="pocoflow-call", daemon=True).start()
    calls.put((taker, work))


_Calls: TypeAlias = "SimpleQueue[tuple[Pending | AsyncPending, Callable[[], object]]]"

_AT_ONCE = min(32, (os.cpu_count() or 1) + 4)
"""As many as in the default pool of an event loop."""

_IDLE = 2.0
"""Seconds without a call after which a thread ends."""

_idle: list[_Calls] = []
"""The queues of the idle threads."""


def _serve(calls: _Calls) -> None:
    while True:
        try:
            taker, work = calls.get(timeout=_IDLE)
        except Empty:
            try:
                _idle.remove(calls)
            except ValueError:
                continue  # the queue was taken just now, and a call is about to arrive
            return
        outcome = None if taker.is_given_up else work()
        _idle.append(calls)  # before the caller continues, and may call again
        taker.give(outcome)
        del taker, work, outcome


in_child(_idle.clear)  # threads do not survive a fork
