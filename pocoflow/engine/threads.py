"""The threads that a run calls into, one for each call that may block."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from typing import Any

from pocoflow.engine.outcomes import Raised, opened, tried
from pocoflow.nodes.context import current

__all__ = ["Work", "in_thread", "to_its_end"]


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
    """Do something that does not raise, in a daemon thread of its own.

    Not a pool: a call that outlives its timeout must neither occupy a worker nor keep the
    interpreter from leaving.
    """
    future: Future[Any] = Future()

    def run() -> None:
        if future.set_running_or_notify_cancel():
            future.set_result(work())

    threading.Thread(target=run, name="pocoflow-call", daemon=True).start()
    return future


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
