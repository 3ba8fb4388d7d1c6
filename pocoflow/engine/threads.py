"""The threads that a run calls into: one for each call that may block, one for all commits."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

from pocoflow.engine.effects import Call
from pocoflow.engine.outcomes import Raised, carried, opened, tried

__all__ = ["commit", "in_commit_thread", "in_thread", "to_its_end"]


def in_thread(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
    """Call a function in a daemon thread of its own, in a copy of this thread's context.

    Not a pool: a call that outlives its timeout must neither occupy a worker nor keep the
    interpreter from leaving.
    """
    future: Future[Any] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = context.run(carried, function, *arguments)
        except BaseException as exc:  # noqa: BLE001 - handed to whoever waits for the future
            future.set_exception(exc)
        else:
            future.set_result(result)

    threading.Thread(target=work, name="pocoflow-call", daemon=True).start()
    return future


async def commit(effect: Call) -> Any:
    """Carry out an effect that commits; its result, unless nobody waits for that."""
    if effect.wait:
        return await in_commit_thread(lambda: effect.function(*effect.arguments))
    # Its exception, if any, is raised by the commit that waits: nothing is dropped.
    _commits().submit(effect.function, *effect.arguments)
    return None


async def in_commit_thread(commit: Callable[[], Any]) -> Any:
    """Call a commit in the thread for commits.

    If this task is cancelled meanwhile, the commit is awaited to its end before that goes on: what
    is on record then is what has happened.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    return await to_its_end(loop.run_in_executor(_commits(), tried, commit))


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


@cache
def _commits() -> ThreadPoolExecutor:
    """The thread that commits for asynchronous runs: never starved by nodes that block."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="pocoflow-commit")


if hasattr(os, "register_at_fork"):
    # The executor's thread is not on this side of the fork, and the executor would wait for it.
    os.register_at_fork(after_in_child=_commits.cache_clear)
