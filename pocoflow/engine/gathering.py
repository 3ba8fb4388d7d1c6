"""Concurrent jobs of a line: as tasks of an event loop, or each in a thread."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING

from pocoflow.engine.companion import CompanionLoop
from pocoflow.engine.effects import Gather, Job
from pocoflow.engine.outcomes import Carried, opened
from pocoflow.engine.threads import in_thread
from pocoflow.engine.waits import Pending, awaited, wait
from pocoflow.nodes.context import RunContext, current

if TYPE_CHECKING:
    import asyncio


class Entered:
    """Makes the context of an item or a branch the current one, in a ``with`` block."""

    __slots__ = ("_around", "_own")

    def __init__(self, context: RunContext) -> None:
        self._own = context

    def __enter__(self) -> None:
        self._around = current.get()
        current.set(self._own)

    def __exit__(self, *error: object) -> None:
        # No token: an abandoned call may still have its context, and a run that never ends may be
        # garbage-collected in another one.
        if current.get(None) is self._own:
            current.set(self._around)


async def gather_tasks(
    effect: Gather, line: Context, drive: Callable[[Context, Job], Awaitable[None]]
) -> None:
    """Drive jobs as tasks; each task takes the next job when it has finished one."""
    import asyncio

    async def work(job: Job | None) -> None:
        try:
            while job is not None:
                await drive(line.copy(), job)
                job = line.run(next, effect.jobs, None)
        except (KeyboardInterrupt, SystemExit) as exc:
            raise Carried(exc) from None  # asyncio would raise it out of the loop, and never here

    tasks: list[asyncio.Future[None]] = []
    try:
        while len(tasks) < effect.limit and (job := line.run(next, effect.jobs, None)) is not None:
            tasks.append(asyncio.ensure_future(work(job)))
        if tasks:
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            except GeneratorExit:
                tasks.clear()  # the loop is gone, so that nothing can be awaited
                raise
            for task in done:
                task.result()
    except Carried as exc:
        raise exc.error from None
    finally:
        effect.stop()
        await _end_all(tasks)


async def _end_all(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancel tasks and wait until they have ended; cancel them again if this is cancelled."""
    import asyncio

    cancellation: asyncio.CancelledError | None = None
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as exc:
            cancellation = exc
    for task in tasks:
        if not task.cancelled():
            task.exception()  # was raised already, or follows from what was
    if cancellation is not None:
        raise cancellation


def gather_on(
    loop: CompanionLoop,
    effect: Gather,
    line: Context,
    drive: Callable[[Context, Job], Awaitable[None]],
) -> None:
    """Drive jobs as tasks of the loop, and wait for them even if the run is cancelled.

    Writes that they have started are then recorded before the run can be resumed.
    """
    import asyncio

    started = list[asyncio.Task[object] | None]()

    async def gather() -> None:
        started.append(asyncio.current_task())
        await gather_tasks(effect, line, drive)

    async def ended() -> None:
        for task in started:
            if task is not None:
                await asyncio.wait([task])

    # The tasks belong to this run; a copy, as the loop may be running in the line's own context.
    future = line.copy().run(loop.submit, awaited(gather()))
    try:
        opened(opened(wait(future, line[current])))
    except BaseException:
        Context().run(loop.submit, ended()).result()
        raise


def gather_threads(effect: Gather, line: Context, drive: Callable[[Context, Job], None]) -> None:
    """Drive jobs in threads; each thread takes the next job when it has finished one.

    If one fails, waits for those that are running: their results are finished work.
    """
    guard = threading.Lock()
    failures: list[BaseException] = []

    def take() -> Job | None:
        with guard:
            return None if failures else line.run(next, effect.jobs, None)

    def work(job: Job | None) -> None:
        try:
            while job is not None:
                drive(line.copy(), job)
                job = take()
        except BaseException as exc:  # noqa: BLE001 - raised by the thread that waits
            failures.append(exc)
            effect.stop()

    started: list[Pending] = []
    try:
        try:
            while len(started) < effect.limit and (job := take()) is not None:
                started.append(in_thread(partial(work, job)))
        except Exception as exc:  # noqa: BLE001 - raised below, when all have ended
            failures.append(exc)
            effect.stop()
        for pending in started:
            pending.outcome()
    except BaseException:
        effect.stop()
        raise
    if failures:
        raise failures[0]
