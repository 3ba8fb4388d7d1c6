"""Jobs of a line at the same time: as tasks of an event loop, or each in a thread."""

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

    def __init__(self, own: RunContext) -> None:
        self._own = own

    def __enter__(self) -> None:
        self._around = current.get()
        current.set(self._own)

    def __exit__(self, *error: object) -> None:
        # No token: a call that was given up may have kept its context. A run that never ends may
        # be thrown away in another one.
        if current.get(None) is self._own:
            current.set(self._around)


async def gather_tasks(
    effect: Gather, line: Context, drive: Callable[[Context, Job], Awaitable[None]]
) -> None:
    """Drive jobs as tasks; each task takes the next job when it has ended one."""
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


def gather_on(
    loop: CompanionLoop,
    effect: Gather,
    line: Context,
    drive: Callable[[Context, Job], Awaitable[None]],
) -> None:
    """Drive jobs as tasks of the loop, and wait for them also if the run is cancelled.

    What they have begun to write is on record then, before anybody can go on with the run.
    """
    import asyncio

    begun = list[asyncio.Task[object] | None]()

    async def gather() -> None:
        begun.append(asyncio.current_task())
        await gather_tasks(effect, line, drive)

    async def ended() -> None:
        for task in begun:
            if task is not None:
                await asyncio.wait([task])

    # Its tasks are of this run; a copy, as the loop may be in the context of the line by then.
    future = line.copy().run(loop.submit, awaited(gather()))
    try:
        opened(opened(wait(future, line[current])))
    except BaseException:
        Context().run(loop.submit, ended()).result()
        raise


def gather_threads(effect: Gather, line: Context, drive: Callable[[Context, Job], None]) -> None:
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
                drive(line.copy(), job)
                job = take()
        except BaseException as exc:  # noqa: BLE001 - raised by the thread that waits
            failures.append(exc)
            effect.stop()

    begun: list[Pending] = []
    try:
        try:
            while len(begun) < effect.limit and (job := take()) is not None:
                begun.append(in_thread(partial(work, job)))
        except Exception as exc:  # noqa: BLE001 - raised below, when nothing runs any more
            failures.append(exc)
            effect.stop()
        for pending in begun:
            pending.came()
    except BaseException:
        effect.stop()
        raise
    if failures:
        raise failures[0]
