"""The threads that a run calls into, one at a time for each call that may block."""

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
    """A call in a context, whose outcome is a value; it knows whether it is in the context."""

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
        """Do it."""
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
        """Want nothing any more of what comes of it, or has come in this instant."""
        self._is_left = True
        close_unwanted(self._coroutine)

    def wait(self) -> None:
        """Wait until it is over."""
        waits = self._waits = SimpleQueue()
        if not self.is_over:
            waits.get()


def in_thread(work: Callable[[], object]) -> Pending:
    """Do something that does not raise, in a daemon thread that does nothing else meanwhile."""
    pending = Pending()
    _submit(pending, work)
    return pending


def in_thread_beside(work: Callable[[], object], few: Few | None = None) -> Beside:
    """The same for a coroutine, which awaits the outcome; when one of a few threads is free."""
    beside = Beside(few)
    if few is None:
        _submit(beside, work)
    else:
        few.submit(beside, work)
    return beside


class Beside:
    """What a task waits for: the outcome of a call in a thread.

    Attributes:
        is_given_up: Whether nobody waits for it any more.
    """

    __slots__ = ("_few", "_future", "_is_done", "_loop", "_outcome", "is_given_up")

    def __init__(self, few: Few | None) -> None:
        import asyncio

        self._few, self._loop = few, asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self._outcome: object = None
        self._is_done = self.is_given_up = False

    def give(self, outcome: object) -> None:
        """Give the outcome, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._take, outcome)

    def _take(self, outcome: object) -> None:
        self._outcome, self._is_done = outcome, True
        if not self._future.done():
            self._future.set_result(None)
        if self._few is not None:
            self._few.resume()

    async def came(self) -> Any:
        """The outcome; given up if this task is cancelled meanwhile."""
        try:
            await self._future
        except BaseException:
            self.is_given_up = True
            raise
        return self._outcome

    async def to_its_end(
        self, give_up: Callable[[], bool] | None = None, cancellation: Cancellation | None = None
    ) -> object:
        """What came of it; if this task is cancelled meanwhile, that goes on when it has ended.

        Args:
            give_up: Gives it up all the same, if it can.
            cancellation: That of the run: if it was asked for, what came of it is kept.
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


class Few:
    """Threads beside one event loop, of which only so many are at work at a time."""

    def __init__(self) -> None:
        self._free = _AT_ONCE
        self._waiting: deque[tuple[Beside, Callable[[], object]]] = deque()

    def submit(self, beside: Beside, work: Callable[[], object]) -> None:
        """Do something when a thread is free; to be called on the loop."""
        if self._free:
            self._free -= 1
            try:
                _submit(beside, work)
            except RuntimeError as exc:  # no thread could be started
                beside.give(Raised(exc))
        else:
            self._waiting.append((beside, work))

    def resume(self) -> None:
        """Begin with what waits, as a thread is free; to be called on the loop."""
        self._free += 1
        while self._free and self._waiting:
            beside, work = self._waiting.popleft()
            if not beside.is_given_up:
                self.submit(beside, work)


_few: WeakKeyDictionary[asyncio.AbstractEventLoop, Few] = WeakKeyDictionary()


def few_of(loop: asyncio.AbstractEventLoop) -> Few:
    """The threads beside a loop; to be called on it."""
    found = _few.get(loop)
    if found is None:
        found = _few[loop] = Few()
    return found


def _submit(taker: Pending | Beside, work: Callable[[], object]) -> None:
    """Have an idle thread do something, or a new one.

    Not one of a pool of so many: a call that outlives its timeout must neither keep others waiting
    nor the interpreter from leaving. A thread that has nothing to do waits a while for a call.
    """
    try:
        calls = _idle.pop()
    except IndexError:
        calls = SimpleQueue()
        threading.Thread(target=_serve, args=(calls,), name="pocoflow-call", daemon=True).start()
    calls.put((taker, work))


_Calls: TypeAlias = "SimpleQueue[tuple[Pending | Beside, Callable[[], object]]]"

_AT_ONCE = min(32, (os.cpu_count() or 1) + 4)
"""As many as in the pool of an event loop."""

_IDLE = 2.0
"""So many seconds without a call end a thread."""

_idle: list[_Calls] = []
"""The calls of the threads that wait for some."""


def _serve(calls: _Calls) -> None:
    while True:
        try:
            taker, work = calls.get(timeout=_IDLE)
        except Empty:
            try:
                _idle.remove(calls)
            except ValueError:
                continue  # somebody has taken it, and the call is on its way
            return
        outcome = None if taker.is_given_up else work()
        _idle.append(calls)  # before who waits goes on, and calls again
        taker.give(outcome)
        del taker, work, outcome


in_child(_idle.clear)  # the threads are not on this side
