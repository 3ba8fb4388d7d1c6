"""The two drivers of the step loop: one for threads, one for event loops.

Both carry out the effects that the engine yields; neither knows anything of nodes. A synchronous
run stays in the caller's thread from its first node to its last. What it has to await runs on one
event loop in a companion thread, started at the first await and kept to the end of the run, so that
clients can be shared between nodes and a caller's own running loop (a notebook, FastAPI) is never
touched. An asynchronous run stays on the caller's loop and sends what may block to threads.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from pocoflow.context import RunContext, current
from pocoflow.engine.commits import begin_commit, commit
from pocoflow.engine.companion import Companion, CompanionLoop
from pocoflow.engine.effects import Await, Call, Commit, Effect, Gather, Job, Sleep, Steps
from pocoflow.engine.outcomes import Carried, awaited, opened, own, tried
from pocoflow.engine.threads import in_thread, to_its_end
from pocoflow.engine.waits import bounded, sleep, until_cancelled, wait

if TYPE_CHECKING:
    import asyncio

__all__ = ["drive", "drive_async"]


def drive(context: RunContext, steps: Steps) -> None:
    """Run to the end in this thread.

    Raises:
        BaseException: Whatever ended the run.
    """
    # A copy, which nobody has to put back: no Ctrl-C can leave the run's context behind.
    contextvars.copy_context().run(_drive_in, context, steps)


def _drive_in(context: RunContext, steps: Steps) -> None:
    companion, cancellation = Companion(), context.cancellation
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
        with suppress(ValueError):  # the task is gone, and this is not its context
            current.reset(token)


def _drive_here(steps: Steps, driver: _ThreadDriver) -> None:
    raised: BaseException | None = None
    try:
        effect = next(steps)
        while True:
            try:
                value = driver.carry_out(effect)
            except GeneratorExit as exc:
                effect = steps.throw(Carried(exc))
            except BaseException as exc:  # noqa: BLE001 - the step loop decides about it
                effect = steps.throw(exc)
            else:
                effect = steps.send(value)
    except StopIteration:
        return
    except (RuntimeError, Carried) as exc:
        raised = exc
    # Outside, where it gets no context that it did not have.
    if raised is not None:
        raise own(raised)


async def _drive_on_loop(steps: Steps, driver: _LoopDriver) -> None:
    try:
        effect = next(steps)
        while True:
            try:
                value = await driver.carry_out(effect)
            except GeneratorExit as exc:
                _leave(steps, exc)
                raise
            except BaseException as exc:  # noqa: BLE001 - the step loop decides about it
                effect = steps.throw(exc)
            else:
                effect = steps.send(value)
    except StopIteration:
        return
    except Carried as exc:
        raise exc.error from None


def _leave(steps: Steps, exc: GeneratorExit) -> None:
    """End a run whose task is gone, so that nothing can be awaited; what it writes is begun."""
    with suppress(StopIteration, GeneratorExit):
        effect = steps.throw(exc)
        while True:
            if isinstance(effect, Commit):
                begin_commit(effect)
                effect = steps.send(None)
            else:
                effect = steps.throw(exc)


class _ThreadDriver:
    """Carries out effects for a run, or an item of a batch, in the thread that drives it."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion

    def carry_out(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return sleep(effect.seconds)
        if isinstance(effect, Await):
            coroutine = awaited(bounded(effect.awaitable, effect.timeout))
            return opened(wait(self._companion.loop().submit(coroutine), None))
        if isinstance(effect, Gather):
            if effect.on_loop:
                return _gather_on(self._companion.loop(), effect)
            return _gather_threads(effect, self._companion)
        if isinstance(effect, Commit):
            return effect.function(*effect.arguments)
        return opened(wait(in_thread(effect.function, effect.arguments), effect.timeout))


class _LoopDriver:
    """Carries out effects on the event loop that awaits it.

    ``guarded`` ends a wait when the run is cancelled; the jobs of a batch are ended by their batch.
    """

    def __init__(self, *, guarded: bool) -> None:
        self._guarded = guarded

    async def carry_out(self, effect: Effect) -> Any:
        import asyncio

        if isinstance(effect, Commit):
            return await commit(effect, guarded=self._guarded)
        if isinstance(effect, Call) and current.get().phase != "exec":
            # These work on the store: no write of theirs may follow the run's end.
            return await to_its_end(asyncio.to_thread(tried, effect.function, *effect.arguments))
        waiting = self._waiting(effect)
        return await (until_cancelled(waiting) if self._guarded else waiting)

    def _waiting(self, effect: Await | Sleep | Gather | Call) -> Awaitable[Any]:
        import asyncio

        if isinstance(effect, Await):
            if effect.timeout is None:
                return effect.awaitable
            return bounded(effect.awaitable, effect.timeout)
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
            return opened(await asyncio.to_thread(tried, effect.function, *effect.arguments))
        future = in_thread(effect.function, effect.arguments)
        return opened(await bounded(asyncio.wrap_future(future), effect.timeout))


# -- several at once --------------------------------------------------------------------------


def _gather_on(loop: CompanionLoop, effect: Gather) -> None:
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

    future = loop.submit(awaited(gather()))
    try:
        opened(wait(future, None))
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
    companion = Companion()
    try:
        _gather_threads(effect, companion)
    finally:
        companion.close()


def _gather_threads(effect: Gather, companion: Companion) -> None:
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
