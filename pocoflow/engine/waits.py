"""Waiting, as long as the run is not cancelled and the time that a node has is not over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from queue import Empty, SimpleQueue
from typing import Any

from pocoflow.errors import NodeTimeoutError, RunCancelled, RunError
from pocoflow.nodes.context import Cancellation, current


def _alarm() -> tuple[Callable[[], None], Callable[[float | None], bool]]:
    """What ends a wait, and what waits; not an ``Event``, as a signal handler may end it."""
    queue: SimpleQueue[None] = SimpleQueue()

    def wake() -> None:
        queue.put(None)

    def wait_for_it(seconds: float | None) -> bool:
        try:
            queue.get(timeout=None if seconds is None else max(seconds, 0))
        except Empty:
            return False
        return True

    return wake, wait_for_it


def sleep(seconds: float) -> None:
    """Wait in this thread; a cancellation of the run ends it."""
    cancellation = current.get().cancellation
    wake, woken = _alarm()
    cancellation.add_callback(wake)
    try:
        woken(seconds)
    finally:
        cancellation.remove_callback(wake)


def wait(future: Future[Any], timeout: float | None, until: Cancellation | None = None) -> Any:
    """The future's result; gives up on it at a timeout, a cancellation or a Ctrl-C.

    The cancellation is ``until``, or that of the context.
    """
    cancellation = current.get().cancellation if until is None else until
    wake, woken = _alarm()
    future.add_done_callback(lambda _: wake())
    cancellation.add_callback(wake)
    try:
        if not woken(timeout):
            raise _timed_out(timeout)
        if not future.done():
            raise cancelled()
        return future.result()
    except CancelledError:
        raise (cancelled() if cancellation.requested else withdrawn()) from None
    finally:
        cancellation.remove_callback(wake)
        future.cancel()


async def until_cancelled(waiting: Awaitable[Any], *, keeps: bool = True) -> Any:
    """Await it in this task; a cancellation of the run ends the wait, not the task.

    If what is awaited makes nothing of that, its result is kept, or the run cancelled all the same.
    """
    import asyncio

    cancellation = current.get().cancellation
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if task is not None and waits:
            interrupted = task.cancel()

    def request() -> None:
        loop.call_soon_threadsafe(interrupt)

    waits = True
    cancellation.add_callback(request)
    try:
        result = await waiting
        if interrupted and task is not None:
            task.uncancel()  # what was awaited took the interruption for itself
            if not keeps:
                raise cancelled()
        return result
    except asyncio.CancelledError:
        if task is None:
            raise
        if interrupted and task.uncancel() == 0:
            raise cancelled() from None
        if not interrupted and not task.cancelling():
            raise withdrawn() from None
        raise
    finally:
        waits = False
        cancellation.remove_callback(request)


async def not_withdrawn(waiting: Awaitable[Any]) -> Any:
    """Await it in this task; it has failed where something else was cancelled, not the task."""
    import asyncio

    try:
        return await waiting
    except asyncio.CancelledError:
        if is_task_cancelled():
            raise
        raise withdrawn() from None


def is_task_cancelled() -> bool:
    """Whether this task itself is cancelled, and not only what it awaits."""
    import asyncio

    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def bounded(awaitable: Awaitable[Any], timeout: float | None) -> Any:
    """Await with a timeout whose error names the node."""
    if timeout is None:
        return await awaitable
    import asyncio

    bound = asyncio.timeout(timeout)
    try:
        async with bound:
            return await awaitable
    except TimeoutError as exc:
        if bound.expired():
            raise _timed_out(timeout) from exc
        raise


def _timed_out(timeout: float | None) -> NodeTimeoutError:
    """The error of an attempt that took longer than the node's timeout."""
    context = current.get()
    return NodeTimeoutError(
        f"{context.phase} of node {context.node!r} (run {context.run_id!r}, step {context.step}, "
        f"attempt {context.attempt}) took longer than its timeout of {timeout:g} seconds"
    )


def cancelled() -> RunCancelled:
    """The error of a wait that the run's cancellation ended."""
    context = current.get()
    where = f"in {context.phase} of node {context.node!r} (step {context.step})"
    if not context.node:
        where = "while it opened its resources"
    return RunCancelled(f"run {context.run_id!r} was cancelled {where}")


def withdrawn() -> RunError:
    """The error of an await that was cancelled although nobody cancelled the run."""
    context = current.get()
    return RunError(
        f"{context.phase} of node {context.node!r} (run {context.run_id!r}, step {context.step}) "
        "awaited something that was cancelled; the run itself was not"
    )
