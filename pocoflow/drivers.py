"""The two drivers of the step loop: one for threads, one for event loops.

Both carry out the effects that the engine yields; neither knows anything of nodes. A synchronous
run stays in the caller's thread from its first node to its last. What it has to await runs on one
event loop in a companion thread, started at the first await and kept to the end of the run, so that
clients can be shared between nodes and a caller's own running loop (a notebook, FastAPI) is never
touched. An asynchronous run stays on the caller's loop and sends what may block to threads.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from pocoflow.context import current
from pocoflow.engine import Await, Call, Effect, Run, Sleep, Steps
from pocoflow.errors import NodeTimeoutError, RunCancelled, RunError

if TYPE_CHECKING:
    pass

__all__ = ["drive", "drive_async", "in_commit_thread"]


def drive(run: Run, steps: Steps) -> None:
    """Run to the end in this thread.

    Raises:
        BaseException: Whatever ended the run.
    """
    token = current.set(run.context)
    driver = _ThreadDriver(run)
    try:
        effect = next(steps)
        while True:
            try:
                value = driver.carry_out(effect)
            except BaseException as exc:  # noqa: BLE001 - the step loop decides about it
                effect = steps.throw(exc)
            else:
                effect = steps.send(value)
    except StopIteration:
        return
    finally:
        driver.close()
        current.reset(token)


async def drive_async(run: Run, steps: Steps) -> None:
    """Run to the end on the caller's event loop.

    Raises:
        BaseException: Whatever ended the run; ``asyncio.CancelledError`` if the task was cancelled.
    """
    token = current.set(run.context)
    driver = _LoopDriver(run)
    try:
        effect = next(steps)
        while True:
            try:
                value = await driver.carry_out(effect)
            except BaseException as exc:  # noqa: BLE001 - the step loop decides about it
                effect = steps.throw(exc)
            else:
                effect = steps.send(value)
    except StopIteration:
        return
    finally:
        current.reset(token)


class _ThreadDriver:
    """Carries out effects for a run in the caller's thread."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._loop: _CompanionLoop | None = None

    def carry_out(self, effect: Effect) -> Any:
        cancellation = self._run.context.cancellation
        if isinstance(effect, Sleep):
            woken = threading.Event()
            cancellation.add_callback(woken.set)
            try:
                woken.wait(effect.seconds)
            finally:
                cancellation.remove_callback(woken.set)
            return None
        if isinstance(effect, Await):
            if self._loop is None:
                self._loop = _CompanionLoop()
            future = self._loop.submit(_bounded(self._run, effect.awaitable, effect.timeout))
            return self._wait(future, None)
        return self._wait(in_thread(effect.function, effect.arguments), effect.timeout)

    def _wait(self, future: Future[Any], timeout: float | None) -> Any:
        """The future's result; gives up on it at a timeout, a cancellation or a Ctrl-C."""
        cancellation = self._run.context.cancellation
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        cancellation.add_callback(done.set)
        try:
            if not done.wait(timeout):
                raise timed_out(self._run, timeout)
            if not future.done():
                raise cancelled(self._run)
            return future.result()
        except CancelledError:
            if cancellation.requested:
                raise cancelled(self._run) from None
            raise withdrawn(self._run) from None
        finally:
            cancellation.remove_callback(done.set)
            future.cancel()

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()


class _LoopDriver:
    """Carries out effects for a run on the event loop that awaits it."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def carry_out(self, effect: Effect) -> Any:
        import asyncio

        if isinstance(effect, Call) and effect.must_finish:
            return await in_commit_thread(lambda: effect.function(*effect.arguments))
        if isinstance(effect, Call) and self._run.context.phase != "exec":
            # prep and post work on the store: none of their writes may come after the run's end.
            return await _to_its_end(
                asyncio.to_thread(_carried, effect.function, *effect.arguments)
            )
        if isinstance(effect, Sleep):
            waiting: Awaitable[Any] = asyncio.sleep(effect.seconds)
        elif isinstance(effect, Await):
            waiting = _bounded(self._run, effect.awaitable, effect.timeout)
        else:
            waiting = self._call(effect)
        return await self._until_cancelled(waiting)

    async def _call(self, effect: Call) -> Any:
        import asyncio

        if effect.timeout is None:
            return await asyncio.to_thread(_carried, effect.function, *effect.arguments)
        future = asyncio.wrap_future(in_thread(effect.function, effect.arguments))
        return await _bounded(self._run, future, effect.timeout)

    async def _until_cancelled(self, waiting: Awaitable[Any]) -> Any:
        """Await it in this task; a cancellation of the run ends the wait, not the task."""
        import asyncio

        cancellation = self._run.context.cancellation
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
            return await waiting
        except asyncio.CancelledError:
            if task is None:
                raise
            if interrupted and task.uncancel() == 0:
                raise cancelled(self._run) from None
            if not interrupted and not task.cancelling():
                raise withdrawn(self._run) from None
            raise
        finally:
            waits = False
            cancellation.remove_callback(request)


async def _bounded(run: Run, awaitable: Awaitable[Any], timeout: float | None) -> Any:
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
            raise timed_out(run, timeout) from exc
        raise


async def in_commit_thread(commit: Callable[[], Any]) -> Any:
    """Call a commit in the thread for commits.

    If this task is cancelled meanwhile, the commit is awaited to its end before that goes on: what
    is on record then is what has happened.
    """
    import asyncio

    return await _to_its_end(asyncio.get_running_loop().run_in_executor(_commits(), commit))


async def _to_its_end(awaitable: Awaitable[Any]) -> Any:
    """Await it; if this task is cancelled meanwhile, await it all the same before that goes on."""
    import asyncio

    future = asyncio.ensure_future(awaitable)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as exc:
        await asyncio.wait([future])
        raise exc from future.exception()


def timed_out(run: Run, timeout: float | None) -> NodeTimeoutError:
    """The error of an attempt that took longer than the node's timeout."""
    context = run.context
    return NodeTimeoutError(
        f"{context.phase} of node {context.node!r} (run {context.run_id!r}, step {context.step}, "
        f"attempt {context.attempt}) took longer than its timeout of {timeout:g} seconds"
    )


def cancelled(run: Run) -> RunCancelled:
    """The error of a wait that the run's cancellation ended."""
    context = run.context
    return RunCancelled(
        f"run {context.run_id!r} was cancelled in {context.phase} of node {context.node!r} "
        f"(step {context.step})"
    )


def withdrawn(run: Run) -> RunError:
    """The error of an await that was cancelled although nobody cancelled the run."""
    context = run.context
    return RunError(
        f"{context.phase} of node {context.node!r} (run {context.run_id!r}, step {context.step}) "
        "awaited something that was cancelled; the run itself was not"
    )


class _CompanionLoop:
    """An event loop in a thread of its own, for the awaits of a synchronous run."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.new_event_loop()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="pocoflow-loop", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing:
            # A task that raises one of these keeps it for whoever awaits the task, and asyncio
            # raises it out of the loop too: without the loop nobody would ever hear of it.
            with suppress(KeyboardInterrupt, SystemExit):
                self._loop.run_forever()

    def submit(self, coroutine: Any) -> Future[Any]:
        """Start a coroutine on the loop, in a copy of this thread's context."""
        import asyncio

        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Cancel what is left, let it clean up, and end the thread."""
        import asyncio

        async def finish() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            await self._loop.shutdown_asyncgens()
            await self._loop.shutdown_default_executor()

        asyncio.run_coroutine_threadsafe(finish(), self._loop).result()
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


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
            result = context.run(_carried, function, *arguments)
        except BaseException as exc:  # noqa: BLE001 - handed to whoever waits for the future
            future.set_exception(exc)
        else:
            future.set_result(result)

    threading.Thread(target=work, name="pocoflow-call", daemon=True).start()
    return future


def _carried(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function whose exception goes into a future, which refuses to hold StopIteration.

    A generator, such as the step loop of a synchronous run, turns it into the same RuntimeError.
    """
    try:
        return function(*arguments)
    except StopIteration as exc:
        raise RuntimeError("generator raised StopIteration") from exc


@cache
def _commits() -> ThreadPoolExecutor:
    """The thread that commits for asynchronous runs: never starved by nodes that block."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="pocoflow-commit")


if hasattr(os, "register_at_fork"):
    # The executor's thread is not on this side of the fork, and the executor would wait for it.
    os.register_at_fork(after_in_child=_commits.cache_clear)
