"""The threads that a run calls into, one for each call that may block."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from pocoflow.engine.outcomes import Raised, opened, tried

__all__ = ["in_thread", "to_its_end"]


def in_thread(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
    """The outcome of a call in a daemon thread of its own, in a copy of this thread's context.

    Not a pool: a call that outlives its timeout must neither occupy a worker nor keep the
    interpreter from leaving.
    """
    future: Future[Any] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        # No exception of the future's: it takes one that is false for none.
        future.set_result(context.run(tried, function, *arguments))

    threading.Thread(target=work, name="pocoflow-call", daemon=True).start()
    return future


async def to_its_end(tried: Awaitable[Any]) -> Any:
    """Await it; if this task is cancelled meanwhile, await it all the same before that goes on."""
    import asyncio

    future = asyncio.ensure_future(tried)
    try:
        outcome = await asyncio.shield(future)
    except asyncio.CancelledError as exc:
        while not future.done():
            with suppress(asyncio.CancelledError):  # once more, as when its loop is closed
                await asyncio.wait([future])
        outcome = future.result()
        raise exc from (outcome.error if isinstance(outcome, Raised) else None)
    return opened(outcome)
