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
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from pocoflow.engine.commits import begin_commit, commit
from pocoflow.engine.companion import Companion, CompanionLoop, LineTask, on_shared_loop
from pocoflow.engine.effects import (
    Await,
    Away,
    Call,
    Commit,
    Driven,
    Finish,
    Gather,
    Job,
    Nest,
    OnLoop,
    Sleep,
    Steps,
    Visit,
)
from pocoflow.engine.outcomes import Carried, awaited, opened, own, tried, within
from pocoflow.engine.threads import Work, in_thread, to_its_end
from pocoflow.engine.waits import (
    bounded,
    is_task_cancelled,
    not_withdrawn,
    sleep,
    until_cancelled,
    wait,
    withdrawn,
)
from pocoflow.nodes.context import RunContext, current

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
    # A copy, which nobody has to put back: no Ctrl-C can leave the run's context behind.
    copy_context().run(_drive_in, context, steps, apart or on_shared_loop())


def _drive_in(context: RunContext, steps: Steps, apart: bool) -> None:
    companion, cancellation = Companion(context.group, apart), context.cancellation
    timer = None
    try:
        current.set(context)
        if cancellation.deadline is not None:
            timer = threading.Timer(cancellation.deadline, cancellation.expire)
            timer.daemon = True
            timer.start()
        _drive_here(steps, _ThreadDriver(companion, copy_context()))
    finally:
        if timer is not None:
            timer.cancel()
        companion.close()


async def drive_async(context: RunContext, steps: Steps, *, keeps: bool = True) -> None:
    """Run to the end on the caller's event loop.

    Args:
        context: The run's context.
        steps: The step loop.
        keeps: Whether what an await gives counts that makes nothing of a cancellation.

    Raises:
        BaseException: Whatever ended the run; ``asyncio.CancelledError`` if the task was cancelled.
    """
    token, timer = current.set(context), None
    if context.cancellation.deadline is not None:
        import asyncio

        expire = context.cancellation.expire
        timer = asyncio.get_running_loop().call_later(context.cancellation.deadline, expire)
    try:
        await _drive_on_loop(steps, _LoopDriver(copy_context(), guarded=True, keeps=keeps))
    finally:
        if timer is not None:
            timer.cancel()
        with suppress(ValueError):  # the task is gone, and this is not its context
            current.reset(token)


def _drive_here(steps: Steps, driver: _ThreadDriver) -> None:
    raised: BaseException | None = None
    nest = Nest(steps)
    try:
        effect = driver.go_on(nest.send, None)
        while True:
            try:
                value = driver.carry_out(effect)
            except GeneratorExit as exc:
                effect = driver.go_on(nest.throw, Carried(exc))
            except BaseException as exc:  # noqa: BLE001 - the step loop decides about it
                effect = driver.go_on(nest.throw, exc)
            else:
                effect = driver.go_on(nest.send, value)
    except StopIteration:
        return
    except (RuntimeError, Carried) as exc:
        raised = exc
    finally:
        driver.close()
    # Outside, where it gets no context that it did not have.
    if raised is not None:
        raise own(raised)


async def _drive_on_loop(steps: Steps, driver: _LoopDriver) -> None:
    nest = Nest(steps)
    try:
        effect = driver.go_on(nest.send, None)
        while True:
            try:
                value = await driver.carry_out(effect)
            except GeneratorExit as exc:
                _leave(nest, exc)
                raise
            except BaseException as exc:  # noqa: BLE001 - the step loop decides about it
                effect = driver.go_on(nest.throw, exc)
            else:
                effect = driver.go_on(nest.send, value)
    except StopIteration:
        return
    except Carried as exc:
        raise exc.error from None


def _leave(steps: Nest, exc: GeneratorExit) -> None:
    """End a run whose task is gone, so that nothing can be awaited; what it writes is begun."""
    with suppress(StopIteration, GeneratorExit):
        effect = steps.throw(exc)
        while True:
            if isinstance(effect, Commit):
                begin_commit(effect)
                effect = steps.send(None)
            elif isinstance(effect, Finish) and not effect.awaits:
                effect.function()
                effect = steps.send(None)
            else:
                effect = steps.throw(exc)


class _Driver:
    """What both drivers have in common: the context of the line that they drive.

    Everything that belongs to the line runs in this one context, in whichever thread: the step
    loop, and each phase of a node. The driver itself stays outside, so that it can go on while a
    call that was given up is in it yet.
    """

    def __init__(self, line: Context) -> None:
        self._line = line

    def go_on(self, step: Callable[[Any], Driven], value: Any) -> Driven:
        """Let the step loop go on to its next effect."""
        effect = self._line.run(step, value)
        current.set(self._line[current])  # for what is waited for here
        return effect

    def _work(self, effect: Call) -> Work:
        """What a thread is to do. One that may be given up has a context of its own."""
        context = self._line if effect.timeout is None else self._line.copy()
        return Work(context, effect.function, effect.arguments)

    def _leave(self, work: Work) -> None:
        """Leave a call that goes on alone with its context."""
        if work.context is self._line and not work.is_over:
            self._line = self._line.copy()


class _ThreadDriver(_Driver):
    """Carries out effects for a run, or an item of a batch, in the thread that drives it."""

    def __init__(self, companion: Companion, line: Context) -> None:
        super().__init__(line)
        self._companion = companion
        self._task: LineTask | None = None

    def carry_out(self, effect: Driven) -> Any:
        if isinstance(effect, Sleep):
            return sleep(effect.seconds)
        if isinstance(effect, Await):
            return self._await(effect)
        if isinstance(effect, Visit):
            return self._line.run(effect.phases)
        if isinstance(effect, OnLoop):
            return self._hand_over(effect.steps)
        if isinstance(effect, Gather):
            if effect.on_loop:
                return _gather_on(self._companion.loop(), effect, self._line)
            return _gather_threads(effect, self._companion, self._line)
        if isinstance(effect, Commit):
            return effect.function(*effect.arguments)
        if isinstance(effect, Finish):
            return self._finish(effect)
        if isinstance(effect, Away):
            return _away(effect)
        work = self._work(effect)
        try:
            return opened(wait(in_thread(work), effect.timeout))
        finally:
            self._leave(work)

    def _finish(self, effect: Finish) -> Any:
        line, task = self._line, self._task

        async def work() -> Any:
            return await effect.function() if effect.awaits else None

        if task is not None:
            # Also where nothing is awaited: what was given up in the task comes to its end first.
            future: Future[Any] = Future()
            task.submit(lambda: awaited(within(line, work())), future)
            outcome = future.result()
            if effect.awaits:
                return opened(outcome)
        return line.run(effect.function)

    def _await(self, effect: Await) -> Any:
        line = self._line
        return self._in_task(
            lambda: bounded(within(line, effect.awaitable), effect.timeout), effect.awaitable.close
        )

    def _hand_over(self, steps: Steps) -> None:
        driver = _AwayDriver(self._line, guarded=False)
        self._in_task(lambda: _drive_on_loop(steps, driver), steps.close, driver.leave)

    def _in_task(
        self,
        work: Callable[[], Coroutine[Any, Any, Any]],
        close: Callable[[], None],
        leave: Callable[[], None] | None = None,
    ) -> Any:
        """Have the task of the line do something, and wait for it as long as anybody wants it."""
        if self._task is None:
            self._task = LineTask(self._companion.loop())
        task, line, here = self._task, self._line, current.get()

        def begin() -> Coroutine[Any, Any, Any]:
            current.set(here)
            return awaited(work())

        future: Future[Any] = Future()
        try:
            # In here: what a Ctrl-C finds begun must be given up, also before anybody waits.
            task.submit(begin, future)
            return opened(wait(future, None))
        finally:
            if not future.done():
                if leave is not None:
                    leave()
                self._line = line.copy()
                task.give_up(future, close)

    def close(self) -> None:
        """End the task of the line, if there is one."""
        if self._task is not None:
            self._task.close()


class _LoopDriver(_Driver):
    """Carries out effects on the event loop that awaits it.

    ``guarded`` ends a wait when the run is cancelled; the jobs of a batch are ended by their batch.
    """

    def __init__(self, line: Context, *, guarded: bool, keeps: bool = True) -> None:
        super().__init__(line)
        self._guarded, self._keeps = guarded, keeps

    async def carry_out(self, effect: Driven) -> Any:
        if isinstance(effect, Commit):
            return await commit(effect, guarded=self._guarded)
        if isinstance(effect, Call) and current.get().phase != "exec":
            # These work on the store: no write of theirs may follow the run's end.
            return await to_its_end(self._beside(self._work(effect)))
        assert not isinstance(effect, OnLoop)  # it is on one
        if isinstance(effect, Visit):
            return await self._visit(effect)
        if isinstance(effect, Finish):
            if effect.awaits:
                return await within(self._line, effect.function())
            return await to_its_end(self._beside(Work(self._line, effect.function, ())))
        waiting = self._waiting(effect)
        if not self._guarded:
            return await not_withdrawn(waiting)
        return await until_cancelled(waiting, keeps=self._keeps)

    def _beside(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Do something beside the loop: one of several at once is not kept waiting by the others.

        The pool of the loop has a few threads for all; those that wait for each other may be more.
        """
        import asyncio

        if self._guarded:
            return asyncio.get_running_loop().run_in_executor(None, work)
        return asyncio.wrap_future(in_thread(work))

    async def _visit(self, effect: Visit) -> Any:
        work = Work(self._line, effect.phases, ())
        waiting = to_its_end(self._beside(work), effect.give_up)
        try:
            return await (until_cancelled(waiting) if self._guarded else waiting)
        finally:
            self._leave(work)

    def _waiting(self, effect: Await | Away | Sleep | Gather | Call) -> Awaitable[Any]:
        import asyncio

        if isinstance(effect, Await):
            return bounded(within(self._line, effect.awaitable), effect.timeout)
        if isinstance(effect, Sleep):
            return asyncio.sleep(effect.seconds)
        if isinstance(effect, Gather):
            if effect.on_loop:
                return _gather_tasks(effect, self._line)
            return self._gather_beside(effect)
        if isinstance(effect, Away):
            return _away_async(effect)
        return self._call(effect)

    async def _gather_beside(self, effect: Gather) -> None:
        """Drive jobs in threads beside the event loop; no more are begun once it is cancelled."""
        import asyncio

        work = Work(copy_context(), _gather_apart, (effect, self._line))
        try:
            opened(await self._beside(work))
        except asyncio.CancelledError:
            effect.stop()
            raise

    async def _call(self, effect: Call) -> Any:
        import asyncio

        work = self._work(effect)
        try:
            if effect.timeout is None:
                return opened(await self._beside(work))
            # Not in the pool, of which it may occupy a thread for longer than anybody waits.
            future = asyncio.wrap_future(in_thread(work))
            return opened(await bounded(future, effect.timeout))
        finally:
            self._leave(work)


class _AwayDriver(_LoopDriver):
    """Drives a line on the shared loop, in its task, while its own thread waits for that."""

    is_given_up = False

    def leave(self) -> None:
        """Let nothing follow what is awaited now."""
        self.is_given_up = True

    async def carry_out(self, effect: Driven) -> Any:
        import asyncio

        assert not isinstance(effect, Commit | Finish | OnLoop | Visit)  # of a run that only awaits
        try:
            value = await self._waiting(effect)
        except asyncio.CancelledError:
            if self.is_given_up or is_task_cancelled():
                raise
            raise withdrawn() from None
        if self.is_given_up:  # and what was awaited has made nothing of that
            raise asyncio.CancelledError
        return value


# -- by an executor ---------------------------------------------------------------------------


def _away(effect: Away) -> Any:
    try:
        came = wait(effect.begin(), None, effect.cancellation)
    except BaseException:
        effect.give_up()
        raise
    return effect.finish(came)


async def _away_async(effect: Away) -> Any:
    import asyncio

    try:
        # Whatever these take, encoding and decoding included, no loop is held up.
        future = opened(await asyncio.wrap_future(in_thread(partial(tried, effect.begin))))
        came = await asyncio.wrap_future(future)
    except BaseException:
        effect.give_up()
        raise
    if effect.is_quick(came):
        return effect.finish(came)
    return opened(await asyncio.wrap_future(in_thread(partial(tried, effect.finish, came))))


# -- several at once --------------------------------------------------------------------------


def _gather_on(loop: CompanionLoop, effect: Gather, line: Context) -> None:
    """Drive jobs as tasks of the companion loop, and wait for them also if the run is cancelled.

    What they have begun to write is on record then, before anybody can go on with the run.
    """
    import asyncio

    begun: list[asyncio.Task[Any] | None] = []

    async def gather() -> None:
        begun.append(asyncio.current_task())
        await _gather_tasks(effect, line)

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


async def _gather_tasks(effect: Gather, line: Context) -> None:
    """Drive jobs as tasks; each task takes the next job when it has ended one."""
    import asyncio

    async def work(job: Job | None) -> None:
        try:
            while job is not None:
                await _drive_on_loop(job, _LoopDriver(line.copy(), guarded=False))
                job = line.run(next, effect.jobs, None)
        except (KeyboardInterrupt, SystemExit) as exc:
            raise Carried(exc) from None  # asyncio would raise it out of the loop, and never here

    tasks: list[asyncio.Future[None]] = []
    try:
        while len(tasks) < effect.limit and (job := line.run(next, effect.jobs, None)) is not None:
            tasks.append(asyncio.ensure_future(work(job)))
        if tasks:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
    except Carried as exc:
        raise exc.error from None
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


def _gather_apart(effect: Gather, line: Context) -> None:
    companion = Companion(line[current].group)
    try:
        _gather_threads(effect, companion, line)
    finally:
        companion.close()


def _gather_threads(effect: Gather, companion: Companion, line: Context) -> None:
    """Drive jobs in threads; each thread takes the next job when it has ended one.

    Waits for those that run when one fails: their results are finished work.
    """
    guard = threading.Lock()
    failures: list[BaseException] = []

    def take() -> Job | None:
        with guard:
            return None if failures else line.run(next, effect.jobs, None)

    def work(job: Job | None) -> None:
        try:
            while job is not None:
                _drive_here(job, _ThreadDriver(companion, line.copy()))
                job = take()
        except BaseException as exc:  # noqa: BLE001 - raised by the thread that waits
            failures.append(exc)
            effect.stop()

    futures: list[Future[None]] = []
    try:
        try:
            while len(futures) < effect.limit and (job := take()) is not None:
                futures.append(in_thread(partial(line.copy().run, work, job)))
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
