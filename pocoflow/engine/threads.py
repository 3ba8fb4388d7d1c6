"""The threads that a run calls into, one at a time for each call that may block."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from pocoflow.engine.outcomes import Raised, opened, tried
from pocoflow.nodes.context import current


class Work:
    """A call in a context, whose outcome is a value; it knows whether it has left the context."""

    __slots__ = ("arguments", "context", "function", "is_over")

    def __init__(
        self, context: Context, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        self.context = context
        self.function = function
        self.arguments = arguments
        self.is_over = False

    def __call__(self) -> Any:
        """Do it."""
        outcome = self.context.run(tried, self.function, *self.arguments)
        self.is_over = True
        return outcome


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Do something that does not raise, in a daemon thread that does nothing else meanwhile.

    Not a pool of so many: a call that outlives its timeout must neither keep others waiting nor the
    interpreter from leaving. A thread that has nothing to do waits a while for the next call.
    """
    future: Future[Any] = Future()
    try:
        calls = _idle.pop()
    except IndexError:
        calls = SimpleQueue()
        threading.Thread(target=_serve, args=(calls,), name="pocoflow-call", daemon=True).start()
    calls.put((future, work))
    return future


_Calls: TypeAlias = "SimpleQueue[tuple[Future[Any], Callable[[], Any]]]"

_IDLE = 2.0
"""So many seconds without a call end a thread."""

_idle: list[_Calls] = []
"""The calls of the threads that wait for some."""


def _serve(calls: _Calls) -> None:
    while True:
        try:
            future, work = calls.get(timeout=_IDLE)
        except Empty:
            try:
                _idle.remove(calls)
            except ValueError:
                continue  # somebody has taken it, and the call is on its way
            return
        outcome = work() if future.set_running_or_notify_cancel() else None
        _idle.append(calls)  # before who waits goes on, and calls again
        if not future.cancelled():
            future.set_result(outcome)
        del future, work, outcome


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # the threads are not on this side


async def to_its_end(tried: Awaitable[Any], give_up: Callable[[], bool] | None = None) -> Any:
    """Await it; if this task is cancelled meanwhile, await it all the same before that goes on.

    Unless it can be given up. If it is the run that is cancelled, what came of it is kept.
    """
    import asyncio

    future = asyncio.ensure_future(tried)
    try:
        outcome = await asyncio.shield(future)
    except asyncio.CancelledError as exc:
        if give_up is not None and give_up():
            raise
        while not future.done():
            with suppress(asyncio.CancelledError):  # once more, as when its loop is closed
                await asyncio.wait([future])
        outcome = future.result()
        if give_up is not None and current.get().cancellation.requested:
            return opened(outcome)
        raise exc from (outcome.error if isinstance(outcome, Raised) else None)
    return opened(outcome)
