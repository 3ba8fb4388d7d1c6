"""The drivers of event loops: for a run, for a job of it, for steps that a thread hands over.

An asynchronous run stays on the caller's loop, in its task, and moves what may block to threads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import CancelledError
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType, coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from pocoflow.engine.commits import begin_commit, commit
from pocoflow.engine.driving import Driver
from pocoflow.engine.effects import (
    Await,
    Away,
    Call,
    Commit,
    Driven,
    Finish,
    Gather,
    Job,
    Sleep,
    Steps,
    Visit,
)
from pocoflow.engine.gathering import gather_tasks
from pocoflow.engine.outcomes import Carried, opened, tried
from pocoflow.engine.threads import AsyncPending, ThreadLimit, Work, in_thread_async, limit_of
from pocoflow.engine.waits import (
    Pending,
    awaited_by,
    bounded,
    cancelled,
    is_cancelled_error,
    is_task_cancelled,
    withdrawn,
    within,
)

if TYPE_CHECKING:
    import asyncio

GatherApart: TypeAlias = "Callable[[Gather, Context], None]"
"""Drives the jobs of a line in threads; itself called in a thread."""


@coroutine
def drive_on_loop(driver: LoopDriver) -> Generator[Any, Any, None]:
    """Run to the end on the event loop, as part of the task that awaits it."""
    try:
        driver.open()
        effect = driver.send(None)
        while effect is not None:
            try:
                if isinstance(effect, Await) and effect.timeout is None:
                    with driver:
                        value = yield from within(driver.line, effect.awaitable, effect.first)
                else:
                    value = yield from driver.carry_out(effect)
            except GeneratorExit as exc:
                driver.finish(exc)
                raise
            except BaseException as exc:  # noqa: BLE001 - the step loop decides about it
                effect = driver.throw(exc)
            else:
                effect = driver.send(value)
    except Carried as exc:
        raise exc.error from None
    finally:
        driver.close()


class LoopDriver(Driver):
    """Carries out effects on the event loop that awaits it; this class drives a job of a batch.

    It awaits within itself, as a context manager that interprets cancellations.

    Args:
        line: The context of the line.
        steps: The step loop.
        gather_apart: Drives jobs where they may block.
    """

    _is_guarded = False
    """Whether a cancellation of the run ends the wait for a commit."""

    def __init__(self, line: Context, steps: Steps, gather_apart: GatherApart) -> None:
        super().__init__(line, steps)
        self._gather_apart = gather_apart

    def open(self) -> None:
        """Start, in the task that the line is part of."""

    def close(self) -> None:
        """Stop reacting to cancellations."""

    def finish(self, exc: GeneratorExit) -> None:
        """End a run whose task is gone: its writes are started, as nothing can be awaited."""
        gone = Carried(exc)
        with suppress(Carried, GeneratorExit):
            effect = self._advance(self._steps.throw, gone)
            while effect is not None:
                if isinstance(effect, Commit):
                    begin_commit(effect)
                elif isinstance(effect, Finish) and not effect.awaits:
                    effect.function()
                else:
                    effect = self._advance(self._steps.throw, gone)
                    continue
                effect = self._advance(self._steps.send, None)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None and is_cancelled_error(exc) and not is_task_cancelled():
            raise withdrawn(self.context) from None

    async def carry_out(self, effect: Driven) -> Any:
        """Carry out an effect; returns its result."""
        if isinstance(effect, Commit):
            return await commit(effect, self.context if self._is_guarded else None)
        if isinstance(effect, Call) and self.context.phase != "exec":
            # Other phases work on the store, to which they must not write after the run's end.
            return await self._in_thread(self._work(effect)).shielded()
        if isinstance(effect, Finish):
            if effect.awaits:
                return await self._finishing(effect)
            return await self._in_thread(Work(self.line, effect.function, ())).shielded()
        with self:
            return await self._waiting(effect)

    async def _finishing(self, effect: Finish) -> object:
        try:
            return await within(self.line, effect.function())
        except BaseException as exc:
            if is_cancelled_error(exc) and not is_task_cancelled():
                raise CancelledError from None  # as in a thread: an error, not a cancellation
            raise

    def _in_thread(self, work: Callable[[], object]) -> AsyncPending:
        """Call a function off the loop, in a thread that delays no other job."""
        return in_thread_async(work)

    def _waiting(self, effect: Driven) -> Awaitable[object]:
        import asyncio

        if isinstance(effect, Await):
            return bounded(within(self.line, awaited_by(effect)), effect.timeout, self.context)
        if isinstance(effect, Sleep):
            return asyncio.sleep(effect.seconds)
        if isinstance(effect, Gather):
            if effect.on_loop:
                return gather_tasks(effect, self.line, partial(drive_job, self._gather_apart))
            return self._gather_in_thread(effect)
        if isinstance(effect, Away):
            return _away_async(effect)
        if isinstance(effect, Visit):
            return self._visit(effect)
        assert isinstance(effect, Call)
        return self._call(effect)

    async def _visit(self, effect: Visit) -> object:
        work = Work(self.line, effect.phases, ())
        try:
            cancellation = self.context.cancellation
            return await self._in_thread(work).shielded(effect.give_up, cancellation)
        finally:
            self._leave(work)

    async def _gather_in_thread(self, effect: Gather) -> None:
        """Drive jobs in threads off the event loop; no more are started once it is cancelled."""
        import asyncio

        work = Work(copy_context(), self._gather_apart, (effect, self.line))
        try:
            opened(await self._in_thread(work).outcome())
        except asyncio.CancelledError:
            effect.stop()
            self._abandon(work)
            raise

    def _abandon(self, work: Work) -> None:
        """Let a call continue in its thread, although nobody waits for it any longer."""

    async def _call(self, effect: Call) -> object:
        work = self._work(effect)
        try:
            if effect.timeout is None:
                return opened(await self._in_thread(work).outcome())
            # Not limited: the call may occupy its thread for longer than anybody waits.
            return opened(
                await bounded(in_thread_async(work).outcome(), effect.timeout, self.context)
            )
        except BaseException:
            work.leave()
            raise
        finally:
            self._leave(work)


class RunDriver(LoopDriver):
    """Drives a run, whose cancellation ends what is awaited, and not the task.

    If what is awaited ignores the cancellation, its result is used, or the run is cancelled
    nevertheless. If it turns the cancellation into an error, that is the cause.
    """

    _is_guarded = True

    def __init__(
        self,
        line: Context,
        steps: Steps,
        gather_apart: GatherApart,
        keeps: bool,
    ) -> None:
        super().__init__(line, steps, gather_apart)
        self._cancellation, self._keeps = self.context.cancellation, keeps
        self._waits = self._is_interrupted = False
        self._limit: ThreadLimit | None = None
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Start reacting to cancellations, and to the deadline."""
        import asyncio

        cancellation = self._cancellation
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if cancellation.deadline is not None:
            self._timer = self._loop.call_later(cancellation.deadline, cancellation.expire)
        cancellation.add_callback(self._request)

    def close(self) -> None:
        """Stop reacting to cancellations."""
        self._cancellation.remove_callback(self._request)
        if self._timer is not None:
            self._timer.cancel()

    def _request(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and with it what was awaited
            self._loop.call_soon_threadsafe(self._interrupt)

    def _interrupt(self) -> None:
        if self._waits and not self._is_interrupted and self._task is not None:
            self._is_interrupted = self._task.cancel()

    def __enter__(self) -> None:
        self._waits = True
        if self._cancellation.requested:
            self._loop.call_soon(self._interrupt)

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waits = False
        if not self._is_interrupted or self._task is None:
            super().__exit__(kind, exc, trace)
            return
        self._is_interrupted = False
        is_only = self._task.uncancel() == 0
        failure = exc if isinstance(exc, Exception) else None
        if exc is None:
            is_over = not self._keeps
        else:
            is_over = is_only and (failure is not None or is_cancelled_error(exc))
        if is_over:
            raise cancelled(self.context) from failure

    def _in_thread(self, work: Callable[[], object]) -> AsyncPending:
        if self._limit is None:
            self._limit = limit_of(self._loop)
        return in_thread_async(work, self._limit)

    def _leave(self, work: Work) -> bool:
        continues = super()._leave(work)
        if continues:
            self._abandon(work)
        return continues

    def _abandon(self, work: Work) -> None:
        if work.has_started:
            with suppress(RuntimeError):  # the loop is being closed
                # ``asyncio.run`` waits for the default pool of its loop, and so for this call.
                _ = self._loop.run_in_executor(None, work.wait)


class AwayDriver(LoopDriver):
    """Drives a line on the shared loop, in its task, while the line's own thread waits.

    When that gives up, nothing follows the current await.
    """

    def __init__(
        self, line: Context, steps: Steps, gather_apart: GatherApart, pending: Pending
    ) -> None:
        super().__init__(line, steps, gather_apart)
        self._pending = pending

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._pending.is_given_up:
            super().__exit__(kind, exc, trace)
        elif exc is None:  # what was awaited has ignored the cancellation
            import asyncio

            raise asyncio.CancelledError


async def _away_async(effect: Away) -> object:
    import asyncio

    try:
        # In threads: encoding and decoding may take long, and must not block the loop.
        future = opened(await in_thread_async(partial(tried, effect.begin)).outcome())
        reply = await asyncio.wrap_future(future)
    except BaseException:
        effect.give_up()
        raise
    return opened(await in_thread_async(partial(tried, effect.finish, reply)).outcome())


def drive_job(gather_apart: GatherApart, line: Context, job: Job) -> Awaitable[None]:
    """Drive a job on the event loop, as part of the task that awaits it."""
    return drive_on_loop(LoopDriver(line, job, gather_apart))
