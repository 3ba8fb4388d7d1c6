"""The two drivers of the step loop: one for threads, one for event loops.

Both carry out the effects that the engine yields; neither knows anything of nodes. A synchronous
run stays in the caller's thread from its first node to its last. What it has to await runs on the
event loop of all synchronous runs, in a thread that the first await starts, so that clients can be
shared and a caller's own running loop (a notebook, FastAPI) is never touched. An asynchronous run
stays on the caller's loop and sends what may block to threads. In both, a line of execution has one
context, and awaits in one task.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType, coroutine
from typing import TYPE_CHECKING, Any

from pocoflow.engine.commits import begin_commit, commit
from pocoflow.engine.companion import Companion, CompanionLoop, LineTask, on_shared_loop
from pocoflow.engine.effects import (
    Await,
    Away,
    Call,
    Commit,
    Driven,
    Effect,
    Finish,
    Gather,
    Inside,
    Job,
    OnLoop,
    Sleep,
    Steps,
    Visit,
)
from pocoflow.engine.gathering import gather_tasks, gather_threads
from pocoflow.engine.outcomes import Carried, awaited, opened, own, tried, within
from pocoflow.engine.threads import Beside, Few, Work, few_of, in_thread, in_thread_beside
from pocoflow.engine.waits import (
    Pending,
    bounded,
    cancelled,
    is_cancelled_error,
    is_task_cancelled,
    sleep,
    wait,
    withdrawn,
)
from pocoflow.nodes.context import Cancellation, RunContext, current

if TYPE_CHECKING:
    import asyncio


def drive(context: RunContext, steps: Steps, *, apart: bool = False) -> None:
    """Run to the end in this thread.

    Args:
        context: The run's context.
        steps: The step loop.
        apart: Whether to await on a loop of its own: who waits for the run holds up the shared one.

    Raises:
        BaseException: Whatever ended the run.
    """
    line, cancellation = _line_of(context), context.cancellation
    if cancellation.deadline is None:
        _drive_here(line, steps, apart=apart)
        return
    timer = threading.Timer(cancellation.deadline, cancellation.expire)
    timer.daemon = True
    try:
        timer.start()
        _drive_here(line, steps, apart=apart)
    finally:
        timer.cancel()


def drive_async(context: RunContext, steps: Steps, *, keeps: bool = True) -> Awaitable[None]:
    """Run to the end on the event loop, as part of the task that awaits it.

    Args:
        context: The run's context.
        steps: The step loop.
        keeps: Whether what an await gives counts that makes nothing of a cancellation.

    Raises:
        BaseException: Whatever ended the run; ``asyncio.CancelledError`` if the task was cancelled.
    """
    return _drive_on_loop(_RunDriver(_line_of(context), steps, context.cancellation, keeps))


def _line_of(context: RunContext) -> Context:
    """The context of a line that begins; a copy, which nobody has to put back after a Ctrl-C."""
    line = copy_context()
    line.run(current.set, context)
    return line


def _drive_here(
    line: Context, steps: Steps, companion: Companion | None = None, *, apart: bool = False
) -> None:
    raised: BaseException | None = None
    driver: _ThreadDriver | None = None
    try:
        first = line.run(next, steps, None)
        if first is None:  # as of most runs of synchronous nodes: there was nothing to carry out
            return
        driver = _ThreadDriver(line, steps, companion, apart)
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
    # Outside, where it gets no context that it did not have.
    if raised is not None:
        raise own(raised)


@coroutine
def _drive_on_loop(driver: _LoopDriver) -> Generator[Any, Any, None]:
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
                driver.leave_alone(exc)
                raise
            except BaseException as exc:  # noqa: BLE001 - the step loop decides about it
                effect = driver.throw(exc)
            else:
                effect = driver.send(value)
    except Carried as exc:
        raise exc.error from None
    finally:
        driver.close()


class _Driver:
    """What both drivers have in common: the context of the line that they drive.

    Everything that belongs to the line runs in this one context, in whichever thread: the step
    loop, and each phase of a node. The driver itself stays outside, so that it can go on while a
    call that was given up is in it yet.
    """

    def __init__(self, line: Context, steps: Steps) -> None:
        self.line = line
        self._steps = steps
        self._around: list[Steps] | None = None

    def send(self, value: object) -> Driven | None:
        """Let the step loop go on with what came of its effect; the next one, ``None`` at the end.

        Steps inside of others are carried out here, without recursion.
        """
        return self.line.run(self._go_on, self._steps.send, value)

    def throw(self, exc: BaseException) -> Driven | None:
        """The same, with an error."""
        return self.line.run(self._go_on, self._steps.throw, exc)

    def take(self, effect: Effect) -> Driven | None:
        """The same, from an effect that the steps have yielded before they were given to this."""
        if not isinstance(effect, Inside):
            return effect
        self._enter(effect)
        return self.send(None)

    def _go_on(self, step: Callable[[Any], Effect], value: object) -> Driven | None:
        while True:
            effect: Effect | None = None
            try:
                # next() makes no exception of the end, which costs more than a step.
                effect = next(self._steps, None) if value is None else step(value)
                value = None
            except StopIteration:
                value = None
            except BaseException as exc:
                value = None  # no cycle through this frame
                if not self._around:
                    raise
                self._steps = self._around.pop()
                step, value = self._steps.throw, exc
                continue
            if isinstance(effect, Inside):
                self._enter(effect)
            elif effect is not None or not self._around:
                return effect
            else:
                self._steps = self._around.pop()

    def _enter(self, effect: Inside) -> None:
        """Let steps inside be those that go on now."""
        if self._around is None:
            self._around = []
        self._around.append(self._steps)
        self._steps = effect.steps

    @property
    def context(self) -> RunContext:
        """That of the run, or of the item of a batch that the line is at."""
        return self.line[current]

    def _work(self, effect: Call) -> Work:
        """What a thread is to do."""
        return Work(effect.context or self.line, effect.function, effect.arguments)

    def _leave(self, work: Work) -> bool:
        """Leave a call alone with the context of the line if it goes on; whether it does."""
        goes_on = work.context is self.line and not work.is_over
        if goes_on:
            self.line = self.line.copy()
        return goes_on


class _ThreadDriver(_Driver):
    """Carries out effects for a run, or an item of a batch, in the thread that drives it.

    Args:
        line: The context of the line.
        steps: The step loop.
        companion: The loop of the run; ``None`` to have one, which ends with this.
        apart: Whether that is none that others share.
    """

    def __init__(
        self, line: Context, steps: Steps, companion: Companion | None, apart: bool
    ) -> None:
        super().__init__(line, steps)
        self._ends_companion = companion is None
        group = line[current].group
        self._companion = companion or Companion(group, apart or on_shared_loop())
        self._task: LineTask | None = None

    def carry_out(self, effect: Driven) -> Any:
        if isinstance(effect, Await):
            return self._await(effect)
        if isinstance(effect, Sleep):
            return sleep(effect.seconds, self.context.cancellation)
        if isinstance(effect, Visit):
            return self.line.run(effect.phases)
        if isinstance(effect, OnLoop):
            return self._hand_over(effect.steps)
        if isinstance(effect, Gather):
            if effect.on_loop:
                return self._gather_on(self._companion.loop(), effect)
            return gather_threads(
                effect, self.line, partial(_drive_here, companion=self._companion)
            )
        if isinstance(effect, Commit):
            return effect.function(*effect.arguments)
        if isinstance(effect, Finish):
            return self._finish(effect)
        if isinstance(effect, Away):
            return self._away(effect)
        work = self._work(effect)
        try:
            return opened(in_thread(work).wait(self.context, effect.timeout))
        finally:
            self._leave(work)

    def _away(self, effect: Away) -> Any:
        try:
            came = opened(wait(effect.begin(), self.context, until=effect.cancellation))
        except BaseException:
            effect.give_up()
            raise
        return effect.finish(came)

    def _finish(self, effect: Finish) -> Any:
        line, task = self.line, self._task

        async def work() -> Any:
            return await effect.function() if effect.awaits else None

        if task is not None:
            # Also where nothing is awaited: what was given up in the task comes to its end first.
            pending = Pending()
            task.submit(lambda: within(line, work()), pending)
            outcome = pending.came()
            if effect.awaits:
                return opened(outcome)
        return line.run(effect.function)

    def _await(self, effect: Await) -> Any:
        line, context = self.line, self.context

        def begin() -> Awaitable[object]:
            waits = within(line, effect.awaitable)
            return waits if effect.timeout is None else bounded(waits, effect.timeout, context)

        return self._in_task(begin, effect.awaitable.close)

    def _hand_over(self, steps: Steps) -> None:
        driver = _AwayDriver(self.line, steps)
        self._in_task(lambda: _drive_on_loop(driver), steps.close, driver.leave)

    def _in_task(
        self,
        begin: Callable[[], Awaitable[object]],
        close: Callable[[], None],
        leave: Callable[[], None] | None = None,
    ) -> Any:
        """Have the task of the line do something, and wait for it as long as anybody wants it."""
        if self._task is None:
            self._task = LineTask(self._companion.loop())
        task, line, pending = self._task, self.line, Pending()
        try:
            # In here: what a Ctrl-C finds begun must be given up, also before anybody waits.
            task.submit(begin, pending)
            return opened(pending.wait(self.context))
        finally:
            if not pending.is_done:
                if leave is not None:
                    leave()
                self.line = line.copy()
                task.give_up(pending, close)

    def _gather_on(self, loop: CompanionLoop, effect: Gather) -> None:
        """Drive jobs as tasks of the loop, and wait for them also if the run is cancelled.

        What they have begun to write is on record then, before anybody can go on with the run.
        """
        import asyncio

        line, begun = self.line, list[asyncio.Task[object] | None]()

        async def gather() -> None:
            begun.append(asyncio.current_task())
            await gather_tasks(effect, line, _drive_task)

        async def ended() -> None:
            for task in begun:
                if task is not None:
                    await asyncio.wait([task])

        # Its tasks are of this run; a copy, as the loop may be in the context of the line by then.
        future = line.copy().run(loop.submit, awaited(gather()))
        try:
            opened(opened(wait(future, self.context)))
        except BaseException:
            Context().run(loop.submit, ended()).result()
            raise

    def close(self) -> None:
        """End the task of the line, if there is one, and what the run has left on its loop."""
        try:
            if self._task is not None:
                self._task.close()
        finally:
            if self._ends_companion:
                self._companion.close()


class _LoopDriver(_Driver):
    """Carries out effects on the event loop that awaits it: this one, a job, which its batch ends.

    It awaits within itself, as a context manager that says what a cancellation means.
    """

    _is_guarded = False
    """Whether a cancellation of the run ends the wait for a commit."""

    def open(self) -> None:
        """Begin, in the task that the line is part of."""

    def close(self) -> None:
        """Take no notice of a cancellation any more."""

    def leave_alone(self, exc: GeneratorExit) -> None:
        """End a run whose task is gone, so that nothing can be awaited; what it writes is begun."""
        gone = Carried(exc)
        with suppress(Carried, GeneratorExit):
            effect = self._go_on(self._steps.throw, gone)
            while effect is not None:
                if isinstance(effect, Commit):
                    begin_commit(effect)
                elif isinstance(effect, Finish) and not effect.awaits:
                    effect.function()
                else:
                    effect = self._go_on(self._steps.throw, gone)
                    continue
                effect = self._go_on(self._steps.send, None)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None and is_cancelled_error(exc) and not is_task_cancelled():
            raise withdrawn(self.context) from None

    async def carry_out(self, effect: Driven) -> Any:
        if isinstance(effect, Commit):
            return await commit(effect, self.context if self._is_guarded else None)
        if isinstance(effect, Call) and self.context.phase != "exec":
            # These work on the store: no write of theirs may follow the run's end.
            return await self._beside(self._work(effect)).to_its_end()
        if isinstance(effect, Finish):
            if effect.awaits:
                return await within(self.line, effect.function())
            return await self._beside(Work(self.line, effect.function, ())).to_its_end()
        with self:
            return await self._waiting(effect)

    def _beside(self, work: Callable[[], object]) -> Beside:
        """Do something beside the loop, in a thread for which no other job has to wait."""
        return in_thread_beside(work)

    def _waiting(self, effect: Driven) -> Awaitable[object]:
        import asyncio

        if isinstance(effect, Await):
            return bounded(within(self.line, effect.awaitable), effect.timeout, self.context)
        if isinstance(effect, Sleep):
            return asyncio.sleep(effect.seconds)
        if isinstance(effect, Gather):
            if effect.on_loop:
                return gather_tasks(effect, self.line, _drive_task)
            return self._gather_beside(effect)
        if isinstance(effect, Away):
            return _away_async(effect)
        if isinstance(effect, Visit):
            return self._visit(effect)
        assert isinstance(effect, Call)
        return self._call(effect)

    async def _visit(self, effect: Visit) -> Any:
        work = Work(self.line, effect.phases, ())
        try:
            cancellation = self.context.cancellation
            return await self._beside(work).to_its_end(effect.give_up, cancellation)
        finally:
            self._leave(work)

    async def _gather_beside(self, effect: Gather) -> None:
        """Drive jobs in threads beside the event loop; no more are begun once it is cancelled."""
        import asyncio

        work = Work(copy_context(), _gather_apart, (effect, self.line))
        try:
            opened(await self._beside(work).came())
        except asyncio.CancelledError:
            effect.stop()
            self._abandon(work)
            raise

    def _abandon(self, work: Work) -> None:
        """Let a call go on in its thread, for which nobody waits here any more."""

    async def _call(self, effect: Call) -> Any:
        work = self._work(effect)
        try:
            if effect.timeout is None:
                return opened(await self._beside(work).came())
            # Not in the pool, of which it may occupy a thread for longer than anybody waits.
            return opened(
                await bounded(in_thread_beside(work).came(), effect.timeout, self.context)
            )
        finally:
            self._leave(work)


class _RunDriver(_LoopDriver):
    """Drives a run; a cancellation of that ends what is awaited, and not the task.

    If what is awaited makes nothing of it, its result is kept, or the run cancelled all the same.
    """

    _is_guarded = True

    def __init__(
        self, line: Context, steps: Steps, cancellation: Cancellation, keeps: bool
    ) -> None:
        super().__init__(line, steps)
        self._cancellation, self._keeps = cancellation, keeps
        self._waits = self._is_interrupted = False
        self._few: Few | None = None
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        import asyncio

        cancellation = self._cancellation
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if cancellation.deadline is not None:
            self._timer = self._loop.call_later(cancellation.deadline, cancellation.expire)
        cancellation.add_callback(self._request)

    def close(self) -> None:
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
        if (not self._keeps) if exc is None else (is_only and is_cancelled_error(exc)):
            raise cancelled(self.context) from None

    def _beside(self, work: Callable[[], object]) -> Beside:
        if self._few is None:
            self._few = few_of(self._loop)
        return in_thread_beside(work, self._few)

    def _leave(self, work: Work) -> bool:
        goes_on = super()._leave(work)
        if goes_on:
            self._abandon(work)
        return goes_on

    def _abandon(self, work: Work) -> None:
        if work.has_begun:
            with suppress(RuntimeError):  # the loop is being closed
                # ``asyncio.run`` waits for the threads of its loop, and so for this one.
                _ = self._loop.run_in_executor(None, work.wait)


class _AwayDriver(_LoopDriver):
    """Drives a line on the shared loop, in its task, while its own thread waits for that."""

    is_given_up = False

    def leave(self) -> None:
        """Let nothing follow what is awaited now."""
        self.is_given_up = True

    def __exit__(
        self, kind: object, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.is_given_up:
            super().__exit__(kind, exc, trace)
        elif exc is None:  # what was awaited has made nothing of that
            import asyncio

            raise asyncio.CancelledError


async def _away_async(effect: Away) -> Any:
    import asyncio

    try:
        # Whatever these take, encoding and decoding included, no loop is held up.
        future = opened(await in_thread_beside(partial(tried, effect.begin)).came())
        came = await asyncio.wrap_future(future)
    except BaseException:
        effect.give_up()
        raise
    if effect.is_quick(came):
        return effect.finish(came)
    return opened(await in_thread_beside(partial(tried, effect.finish, came)).came())


def _drive_task(line: Context, job: Job) -> Awaitable[None]:
    return _drive_on_loop(_LoopDriver(line, job))


def _gather_apart(effect: Gather, line: Context) -> None:
    companion = Companion(line[current].group)
    try:
        gather_threads(effect, line, partial(_drive_here, companion=companion))
    finally:
        companion.close()
