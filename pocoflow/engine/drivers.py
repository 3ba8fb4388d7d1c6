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
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from pocoflow.context import RunContext, current
from pocoflow.engine.effects import Await, Call, Effect, Gather, Job, Sleep, Steps
from pocoflow.errors import NodeTimeoutError, RunCancelled, RunError

if TYPE_CHECKING:
    import asyncio

__all__ = ["drive", "drive_async", "in_commit_thread"]


def drive(context: RunContext, steps: Steps) -> None:
    """Run to the end in this thread.

    Raises:
        BaseException: Whatever ended the run.
    """
    # A copy, which nobody has to put back: no Ctrl-C can leave the run's context behind.
    contextvars.copy_context().run(_drive_in, context, steps)


def _drive_in(context: RunContext, steps: Steps) -> None:
    companion, cancellation = _Companion(), context.cancellation
    timer = None
    try:
        current.set(context)
        if cancellation.deadline is not None:
            timer = threading.Timer(cancellation.deadline, cancellation.expire)
            timer.daemon = True
            timer.start()
        _drive_here(steps, _ThreadDriver(companion))
    finally:
        if timer is not None:
            timer.cancel()
        companion.close()


async def drive_async(context: RunContext, steps: Steps) -> None:
    """Run to the end on the caller's event loop.

    Raises:
        BaseException: Whatever ended the run; ``asyncio.CancelledError`` if the task was cancelled.
    """
    token, timer = current.set(context), None
    if context.cancellation.deadline is not None:
        import asyncio

        expire = context.cancellation.expire
        timer = asyncio.get_running_loop().call_later(context.cancellation.deadline, expire)
    try:
        await _drive_on_loop(steps, _LoopDriver(guarded=True))
    finally:
        if timer is not None:
            timer.cancel()
        current.reset(token)


def _drive_here(steps: Steps, driver: _ThreadDriver) -> None:
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


async def _drive_on_loop(steps: Steps, driver: _LoopDriver) -> None:
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


class _ThreadDriver:
    """Carries out effects for a run, or an item of a batch, in the thread that drives it."""

    def __init__(self, companion: _Companion) -> None:
        self._companion = companion

    def carry_out(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return _sleep(effect.seconds)
        if isinstance(effect, Await):
            coroutine = _awaited(_bounded(effect.awaitable, effect.timeout))
            return _opened(_wait(self._companion.loop().submit(coroutine), None))
        if isinstance(effect, Gather):
            if effect.on_loop:
                return _gather_on(self._companion.loop(), effect)
            return _gather_threads(effect, self._companion)
        if effect.must_finish:
            return effect.function(*effect.arguments)
        return _wait(in_thread(effect.function, effect.arguments), effect.timeout)


def _sleep(seconds: float) -> None:
    cancellation = current.get().cancellation
    woken = threading.Event()
    cancellation.add_callback(woken.set)
    try:
        woken.wait(seconds)
    finally:
        cancellation.remove_callback(woken.set)


def _wait(future: Future[Any], timeout: float | None) -> Any:
    """The future's result; gives up on it at a timeout, a cancellation or a Ctrl-C."""
    cancellation = current.get().cancellation
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    cancellation.add_callback(done.set)
    try:
        if not done.wait(timeout):
            raise timed_out(timeout)
        if not future.done():
            raise cancelled()
        return future.result()
    except CancelledError:
        raise (cancelled() if cancellation.requested else withdrawn()) from None
    finally:
        cancellation.remove_callback(done.set)
        future.cancel()


class _LoopDriver:
    """Carries out effects on the event loop that awaits it.

    ``guarded`` ends a wait when the run is cancelled; the jobs of a batch are ended by their batch.
    """

    def __init__(self, *, guarded: bool) -> None:
        self._guarded = guarded

    async def carry_out(self, effect: Effect) -> Any:
        import asyncio

        if isinstance(effect, Call):
            if effect.must_finish:
                return await _commit(effect)
            if current.get().phase != "exec":
                # prep and post work on the store: no write of theirs may follow the run's end.
                return await _to_its_end(
                    asyncio.to_thread(_tried, effect.function, *effect.arguments)
                )
        waiting = self._waiting(effect)
        return await (_until_cancelled(waiting) if self._guarded else waiting)

    def _waiting(self, effect: Effect) -> Awaitable[Any]:
        import asyncio

        if isinstance(effect, Await):
            if effect.timeout is None:
                return effect.awaitable
            return _bounded(effect.awaitable, effect.timeout)
        if isinstance(effect, Sleep):
            return asyncio.sleep(effect.seconds)
        if isinstance(effect, Gather):
            if effect.on_loop:
                return _gather_tasks(effect)
            return _gather_beside(effect)
        return self._call(effect)

    async def _call(self, effect: Call) -> Any:
        import asyncio

        if effect.timeout is None:
            return _opened(await asyncio.to_thread(_tried, effect.function, *effect.arguments))
        future = in_thread(_tried, (effect.function, *effect.arguments))
        return _opened(await _bounded(asyncio.wrap_future(future), effect.timeout))


async def _commit(effect: Call) -> Any:
    if effect.wait:
        return await in_commit_thread(lambda: effect.function(*effect.arguments))
    # Its exception, if any, is raised by the commit that waits: nothing is dropped.
    _commits().submit(effect.function, *effect.arguments)
    return None


async def _until_cancelled(waiting: Awaitable[Any]) -> Any:
    """Await it in this task; a cancellation of the run ends the wait, not the task."""
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


# -- several at once --------------------------------------------------------------------------


def _gather_on(loop: _CompanionLoop, effect: Gather) -> None:
    """Drive jobs as tasks of the companion loop, and wait for them also if the run is cancelled.

    What they have begun to write is on record then, before anybody can go on with the run.
    """
    import asyncio

    begun: list[asyncio.Task[Any] | None] = []

    async def gather() -> None:
        begun.append(asyncio.current_task())
        await _gather_tasks(effect)

    async def ended() -> None:
        for task in begun:
            if task is not None:
                await asyncio.wait([task])

    future = loop.submit(gather())
    try:
        _wait(future, None)
    except BaseException:
        loop.submit(ended()).result()
        raise


async def _gather_tasks(effect: Gather) -> None:
    """Drive jobs as tasks; each task takes the next job when it has ended one."""
    import asyncio

    async def work(job: Job | None) -> None:
        while job is not None:
            await _drive_on_loop(job, _LoopDriver(guarded=False))
            job = next(effect.jobs, None)

    tasks: list[asyncio.Future[None]] = []
    try:
        for job in islice(effect.jobs, effect.limit):
            tasks.append(asyncio.ensure_future(work(job)))
        if tasks:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
    finally:
        effect.stop()
        await _end_all(tasks)


async def _end_all(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancel tasks and wait until they have ended; if this is cancelled meanwhile, once more."""
    import asyncio

    again: asyncio.CancelledError | None = None
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as exc:
            again = exc
    for task in tasks:
        if not task.cancelled():
            task.exception()  # it was raised, or is a consequence of what was
    if again is not None:
        raise again


async def _gather_beside(effect: Gather) -> None:
    """Drive jobs in threads beside the event loop; no more are begun once it is cancelled."""
    import asyncio

    try:
        await asyncio.to_thread(_gather_apart, effect)
    except asyncio.CancelledError:
        effect.stop()
        raise


def _gather_apart(effect: Gather) -> None:
    companion = _Companion()
    try:
        _gather_threads(effect, companion)
    finally:
        companion.close()


def _gather_threads(effect: Gather, companion: _Companion) -> None:
    """Drive jobs in threads; each thread takes the next job when it has ended one.

    Waits for those that run when one fails: their results are finished work.
    """
    guard = threading.Lock()
    failures: list[BaseException] = []

    def take() -> Job | None:
        with guard:
            return None if failures else next(effect.jobs, None)

    def work(job: Job | None) -> None:
        try:
            while job is not None:
                _drive_here(job, _ThreadDriver(companion))
                job = take()
        except BaseException as exc:  # noqa: BLE001 - raised by the thread that waits
            failures.append(exc)
            effect.stop()

    futures: list[Future[None]] = []
    try:
        try:
            while len(futures) < effect.limit and (job := take()) is not None:
                futures.append(in_thread(work, (job,)))
        except Exception as exc:  # noqa: BLE001 - raised below, when nothing runs any more
            failures.append(exc)
            effect.stop()
        for future in futures:
            future.result()
    except BaseException:
        effect.stop()
        raise
    if failures:
        raise failures[0]


async def _bounded(awaitable: Awaitable[Any], timeout: float | None) -> Any:
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
            raise timed_out(timeout) from exc
        raise


async def in_commit_thread(commit: Callable[[], Any]) -> Any:
    """Call a commit in the thread for commits.

    If this task is cancelled meanwhile, the commit is awaited to its end before that goes on: what
    is on record then is what has happened.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    return await _to_its_end(loop.run_in_executor(_commits(), _tried, commit))


async def _to_its_end(tried: Awaitable[Any]) -> Any:
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
        raise exc from (outcome.error if isinstance(outcome, _Raised) else None)
    return _opened(outcome)


def timed_out(timeout: float | None) -> NodeTimeoutError:
    """The error of an attempt that took longer than the node's timeout."""
    context = current.get()
    return NodeTimeoutError(
        f"{context.phase} of node {context.node!r} (run {context.run_id!r}, step {context.step}, "
        f"attempt {context.attempt}) took longer than its timeout of {timeout:g} seconds"
    )


def cancelled() -> RunCancelled:
    """The error of a wait that the run's cancellation ended."""
    context = current.get()
    return RunCancelled(
        f"run {context.run_id!r} was cancelled in {context.phase} of node {context.node!r} "
        f"(step {context.step})"
    )


def withdrawn() -> RunError:
    """The error of an await that was cancelled although nobody cancelled the run."""
    context = current.get()
    return RunError(
        f"{context.phase} of node {context.node!r} (run {context.run_id!r}, step {context.step}) "
        "awaited something that was cancelled; the run itself was not"
    )


class _Companion:
    """The companion loop of a run, started when it is first needed, by whichever thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._loop: _CompanionLoop | None = None

    def loop(self) -> _CompanionLoop:
        with self._guard:
            if self._loop is None:
                self._loop = _CompanionLoop()
            return self._loop

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()


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


class _Raised:
    """An exception on its way through a future of asyncio, which would copy a TimeoutError."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call, or what it raised."""
    try:
        return _carried(function, *arguments)
    except BaseException as exc:  # noqa: BLE001 - raised by whoever opens the outcome
        return _Raised(exc)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    """The result of an await, or what it raised."""
    try:
        return await awaitable
    except Exception as exc:  # noqa: BLE001 - raised by whoever opens the outcome
        return _Raised(exc)


def _opened(outcome: Any) -> Any:
    """Return what was returned, or raise what was raised."""
    if isinstance(outcome, _Raised):
        raise outcome.error
    return outcome


@cache
def _commits() -> ThreadPoolExecutor:
    """The thread that commits for asynchronous runs: never starved by nodes that block."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="pocoflow-commit")


if hasattr(os, "register_at_fork"):
    # The executor's thread is not on this side of the fork, and the executor would wait for it.
    os.register_at_fork(after_in_child=_commits.cache_clear)
