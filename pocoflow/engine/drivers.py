"""Driving a run: in the caller's thread, with the driver of threads, or on the caller's event loop.

Drivers carry out the effects that the engine yields; none knows anything about nodes. A synchronous
run stays in the caller's thread from its first node to its last. What it has to await runs on the
event loop of all synchronous runs, in a thread that the first await starts, so that clients can be
shared and a caller's own running loop (a notebook, FastAPI) is never touched. A line of execution
has one context, and awaits in one task.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Any

from pocoflow.engine.companion import Companion, LineTask, level_here
from pocoflow.engine.driving import Driver, line_of
from pocoflow.engine.effects import (
    Await,
    Away,
    Call,
    Commit,
    Driven,
    Finish,
    Gather,
    OnLoop,
    Sleep,
    Steps,
)
from pocoflow.engine.gathering import gather_on, gather_threads
from pocoflow.engine.loop_drivers import AwayDriver, RunDriver, drive_job, drive_on_loop
from pocoflow.engine.outcomes import Carried, opened, unwrapped
from pocoflow.engine.threads import in_thread
from pocoflow.engine.waits import Pending, awaited_by, bounded, sleep, wait, within
from pocoflow.nodes.context import RunContext, current


def drive(context: RunContext, steps: Steps, *, level: int = 0) -> None:
    """Run to the end in this thread.

    Args:
        context: The run's context.
        steps: The step loop.
        level: Which loop to await on, at least, as the caller blocks those before it.

    Raises:
        BaseException: Whatever ended the run.
    """
    line, cancellation = line_of(context), context.cancellation
    if cancellation.deadline is None:
        drive_here(line, steps, level=level)
        return
    timer = threading.Timer(cancellation.deadline, cancellation.expire)
    timer.daemon = True
    try:
        timer.start()
        drive_here(line, steps, level=level)
    finally:
        timer.cancel()


def drive_async(context: RunContext, steps: Steps, *, keeps: bool = True) -> Awaitable[None]:
    """Run to the end on the event loop, as part of the task that awaits it.

    Args:
        context: The run's context.
        steps: The step loop.
        keeps: Whether the result of an await that ignores a cancellation counts.

    Raises:
        BaseException: Whatever ended the run; ``asyncio.CancelledError`` if the task was cancelled.
    """
    return drive_on_loop(RunDriver(line_of(context), steps, _gather_apart, keeps))


def drive_here(
    line: Context, steps: Steps, companion: Companion | None = None, *, level: int = 0
) -> None:
    """Carry out steps in this thread, in the context of their line.

    Args:
        line: The context.
        steps: The steps.
        companion: Where the run awaits; ``None`` to start one on demand, and end it.
        level: Which loop a companion that is started so has, at least.
    """
    raised: BaseException | None = None
    driver: _ThreadDriver | None = None
    try:
        first = line.run(next, steps, None)
        if first is None:  # no effects, as in most runs of synchronous nodes
            return
        driver = _ThreadDriver(line, steps, companion, level)
        effect = driver.take(first)
        while effect is not None:
            try:
                value = driver.carry_out(effect)
            except GeneratorExit as exc:
                effect = driver.throw(Carried(exc))
            except BaseException as exc:  # noqa: BLE001 - the step loop decides about it
                effect = driver.throw(exc)
            else:
                effect = driver.send(value)
    except (RuntimeError, Carried) as exc:
        raised = exc
    finally:
        if driver is not None:
            driver.close()
    # Outside the except clause, which would add a context to it.
    if raised is not None:
        raise unwrapped(raised)


class _ThreadDriver(Driver):
    """Carries out effects for a run, or an item of a batch, in the thread that drives it."""

    def __init__(
        self, line: Context, steps: Steps, companion: Companion | None, level: int
    ) -> None:
        super().__init__(line, steps)
        self._ends_companion = companion is None
        self._companion = companion or Companion(line[current], level or level_here())
        self._task: LineTask | None = None

    def carry_out(self, effect: Driven) -> Any:
        if isinstance(effect, Await):
            return self._await(effect)
        if isinstance(effect, Sleep):
            return sleep(effect.seconds, self.context.cancellation)
        if isinstance(effect, OnLoop):
            return self._hand_over(effect.steps)
        if isinstance(effect, Gather):
            if effect.on_loop:
                drive = partial(drive_job, _gather_apart)
                return gather_on(self._companion.loop(), effect, self.line, drive)
            return gather_threads(effect, self.line, partial(drive_here, companion=self._companion))
        if isinstance(effect, Commit):
            return effect.function(*effect.arguments)
        if isinstance(effect, Finish):
            return self._finish(effect)
        if isinstance(effect, Away):
            return self._away(effect)
        assert isinstance(effect, Call)  # phases are visited off an event loop only
        work = self._work(effect)
        try:
            return opened(in_thread(work).wait(self.context, effect.timeout))
        except BaseException:
            work.leave()
            raise
        finally:
            self._leave(work)

    def _away(self, effect: Away) -> object:
        try:
            outcome = opened(wait(effect.begin(), self.context, until=effect.cancellation))
        except BaseException:
            effect.give_up()
            raise
        return effect.finish(outcome)

    def _finish(self, effect: Finish) -> object:
        line, task = self.line, self._needed() if effect.awaits else self._started()

        async def work() -> object:
            return await effect.function() if effect.awaits else None

        if task is not None:
            # Even if nothing is awaited: what was abandoned in the task ends first.
            pending = Pending()
            task.submit(lambda: within(line, work()), pending)
            outcome = pending.outcome()
            if effect.awaits:
                return opened(outcome)
        return line.run(effect.function)

    def _await(self, effect: Await) -> object:
        line, context = self.line, self.context

        def begin() -> Awaitable[object]:
            waits = within(line, awaited_by(effect))
            return waits if effect.timeout is None else bounded(waits, effect.timeout, context)

        return self._in_task(begin, effect.awaitable.close, Pending())

    def _hand_over(self, steps: Steps) -> None:
        pending = Pending()
        driver = AwayDriver(self.line, steps, _gather_apart, pending)
        self._in_task(partial(drive_on_loop, driver), steps.close, pending)

    def _started(self) -> LineTask | None:
        """The task of the line, if it was started in this process and not before a fork."""
        return None if self._task is None or self._task.is_elsewhere else self._task

    def _needed(self) -> LineTask:
        self._task = self._started() or LineTask(self._companion.loop())
        return self._task

    def _in_task(
        self, begin: Callable[[], Awaitable[object]], close: Callable[[], None], pending: Pending
    ) -> object:
        """Do something in the task of the line, and wait for it until it is cancelled."""
        task: LineTask | None = None
        try:
            # Inside the try: after a Ctrl-C, what was started must be abandoned, awaited or not.
            task = self._needed()
            task.submit(begin, pending)
            return opened(pending.wait(self.context))
        finally:
            if not pending.is_done:
                self.line = self.line.copy()
                give_up = close if task is None else partial(task.give_up, pending, close)
                give_up()

    def close(self) -> None:
        """End the task of the line, if it has one, and what the run has left on its loop."""
        try:
            if (task := self._started()) is not None:
                task.close()
        finally:
            if self._ends_companion:
                self._companion.close()


def _gather_apart(effect: Gather, line: Context) -> None:
    companion = Companion(line[current])
    try:
        gather_threads(effect, line, partial(drive_here, companion=companion))
    finally:
        companion.close()
