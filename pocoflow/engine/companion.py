"""The event loop on which synchronous runs await: one for the process, in a thread of its own.

A run that is started on that loop, and blocks it, awaits on a second one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakSet

from pocoflow.cleanup import in_child
from pocoflow.engine.outcomes import Raised
from pocoflow.engine.waits import Pending
from pocoflow.nodes.context import RunContext, current

if TYPE_CHECKING:
    import asyncio


class _Shared:
    """The loops of the process: the first, one for runs that are started on that, and so on."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.loops: list[CompanionLoop] = []


_shared = [_Shared()]


def level_here() -> int:
    """The first of the loops for which this thread may wait: one behind its own."""
    loops = enumerate(_shared[-1].loops, 1)
    return next((level for level, loop in loops if loop.is_here), 0)


@in_child
def _forget() -> None:
    # Threads do not survive a fork. The loops are retained and never closed here, as the parent
    # watches the same descriptors.
    _shared.append(_Shared())


def _group_of(context: RunContext) -> str:
    """What identifies the tasks of a run."""
    return context.group or context.token


class Companion:
    """The loop of a run, started by whichever thread first needs it.

    Args:
        context: The context of the run.
        level: Which of the loops of the process it is.
    """

    def __init__(self, context: RunContext, level: int = 0) -> None:
        self._group = _group_of(context)
        self._level = level
        self._used: CompanionLoop | None = None

    def loop(self) -> CompanionLoop:
        """The running loop."""
        shared = _shared[-1]
        with shared.guard:
            while len(shared.loops) <= self._level:
                shared.loops.append(CompanionLoop())
            self._used = shared.loops[self._level]
            return self._used

    def close(self) -> None:
        """End the run's remaining tasks on the loop."""
        if self._used is not None and not self._used.is_elsewhere:
            self._used.end_tasks(self._group)


_Begin: TypeAlias = Callable[[], Awaitable[object]]


class LineTask:
    """The task in which one line of execution awaits, from its first await to its last.

    What is bound to a task, such as a cancel scope that ``prep`` enters and ``post`` exits, spans
    the phases.
    """

    def __init__(self, loop: CompanionLoop) -> None:
        self._loop = loop
        self._works: deque[tuple[_Begin, Pending] | None] = deque()
        self._idle: asyncio.Future[None] | None = None
        self._serves: Pending | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended: Future[BaseException | None] = Future()

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is in the parent of a forked process, where it cannot be used."""
        return self._loop.is_elsewhere

    def submit(self, begin: _Begin, pending: Pending) -> None:
        """Await what a function returns, and hand over the outcome."""
        self._loop.call(self._put, (begin, pending))

    def give_up(self, pending: Pending, close: Callable[[], object]) -> None:
        """Cancel what nobody waits for any longer; what has not started is closed instead."""
        pending.is_given_up = True

        def cancel() -> None:
            if self._serves is pending and self._task is not None:
                self._task.cancel()
            else:
                close()

        self._loop.call(cancel)

    def close(self) -> None:
        """Let what is awaited clean up, and end the task."""
        self._loop.call(self._put, None)
        self._ended.result()

    def _put(self, work: tuple[_Begin, Pending] | None) -> None:
        import asyncio

        self._works.append(work)
        if self._task is None:
            # Not one of the tasks of the run, which are cancelled at its end.
            self._task = asyncio.create_task(self._serve(), context=Context())
            self._task.add_done_callback(lambda task: self._ended.set_result(task.exception()))
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _serve(self) -> None:
        import asyncio

        loop, is_due = asyncio.get_running_loop(), False
        while True:
            if self.is_elsewhere:
                raise SystemExit  # ends the only thread of a child that was forked on it
            if not self._works:
                self._idle = loop.create_future()
                try:
                    await self._idle
                except asyncio.CancelledError:
                    is_due = True  # from a scope that a phase entered: for the next await
                continue
            work = self._works.popleft()
            if work is None:
                return
            begin, pending = work
            if pending.is_given_up:
                continue
            if is_due and self._task is not None:
                is_due = False
                self._task.cancel()
                self._task.uncancel()  # counted already
            self._serves = pending
            try:
                pending.give(await begin())
            except asyncio.CancelledError:
                pending.withdraw()
            except BaseException as exc:  # noqa: BLE001 - raised in the waiting thread
                pending.give(Raised(exc))
            self._serves = None


class CompanionLoop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(self._make_task)
        self._tasks: dict[str, WeakSet[asyncio.Task[object]]] = {}
        self._side = _shared[-1]
        self._thread = threading.Thread(target=self._serve, name="pocoflow-loop", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self.is_elsewhere:
            # A task that raises one of these stores it for what awaits the task, but asyncio also
            # raises it out of the loop, without which it would never be delivered.
            with suppress(KeyboardInterrupt, SystemExit):
                self._loop.run_forever()

    def submit(self, coroutine: Coroutine[Any, Any, object]) -> Future[object]:
        """Start a coroutine on the loop, in a copy of this thread's context."""
        import asyncio

        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    @property
    def is_elsewhere(self) -> bool:
        """Whether its thread is in the parent of a forked process."""
        return self._side is not _shared[-1]

    @property
    def is_here(self) -> bool:
        """Whether this thread is the loop's."""
        return threading.current_thread() is self._thread

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function on the loop, from any thread."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def _make_task(self, loop: Any, coroutine: Any, **settings: Any) -> asyncio.Task[Any]:
        """Create a task, and remember which run it belongs to."""
        import asyncio

        context: Context | None = settings.get("context")
        run = current.get(None) if context is None else context.get(current)
        task: asyncio.Task[object] = asyncio.Task(coroutine, loop=loop, **settings)
        if run is not None:
            self._tasks.setdefault(_group_of(run), WeakSet()).add(task)
        return task

    def end_tasks(self, group: str) -> None:
        """Cancel the remaining tasks of a run, and let them clean up."""
        if group in self._tasks:
            # Outside of the run's context, or this would be one of its tasks.
            Context().run(self.submit, self.finish(group)).result()

    async def finish(self, group: str) -> None:
        """The same, on the loop."""
        import asyncio

        while rest := self._tasks.pop(group, None):
            running = [task for task in rest if task is not asyncio.current_task()]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
