"""The ways to execute a run that is to start."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Generic, TypeAlias

from pocoflow.engine.commits import commit
from pocoflow.engine.drivers import drive, drive_async
from pocoflow.engine.effects import Commit, Storage
from pocoflow.engine.endings import exhaust, fail
from pocoflow.engine.line import Line
from pocoflow.engine.loop import steps
from pocoflow.engine.outcomes import without_own_frames
from pocoflow.errors import PocoflowError, ThreadBusyError
from pocoflow.flow.handle import JoinedHandle, RunHandle
from pocoflow.flow.stream import joined, stream, stream_async
from pocoflow.store.store import StateT, Store

if TYPE_CHECKING:
    from pocoflow.db.stored_handle import StoredRunHandle
    from pocoflow.db.workflow import WorkflowDB
    from pocoflow.graph.event_types import Event

Started: TypeAlias = "tuple[Line, WorkflowDB | None]"
"""A run that was started, and the database that records it as running, or ``None``."""

StartedOrJoined: TypeAlias = "Started | StoredRunHandle"
"""A run that was started here, or a handle to a joined run, which was started elsewhere."""


@dataclass(slots=True)
class Execution(Generic[StateT]):
    """A run that is to start: a new run, or one that is resumed.

    Attributes:
        start: Starts the run, and records that.
        home: Where the run is stored; ``None`` if it is not, so that ``start`` does not block.
        shared: Whether ``start`` may share a transaction with commits of other runs.
        waits: Whether to wait while another run of its thread is open.
    """

    start: Callable[[], StartedOrJoined]
    home: Callable[[], Storage | None]
    shared: bool = True
    waits: bool = False

    def run(self) -> Store[StateT]:
        """Run to the end in this thread."""
        started = self._start_or_wait()
        if not isinstance(started, tuple):
            return started.wait()
        line, _ = started
        try:
            drive(line.context, steps(line))
        except PocoflowError as exc:
            raise without_own_frames(exc)  # noqa: B904 - itself
        return line.store

    async def run_async(self) -> Store[StateT]:
        """Run to the end on the caller's event loop."""
        line = await self.begin_on_loop()
        del self  # so that the inputs are released while the run lasts
        if not isinstance(line, Line):
            return await line
        try:
            await drive_async(line.context, steps(line))
        except PocoflowError as exc:
            raise without_own_frames(exc)  # noqa: B904 - itself
        return line.store

    def background(self) -> RunHandle[StateT]:
        """Run in a daemon thread."""
        started = self._start_or_wait()
        return RunHandle(*started) if isinstance(started, tuple) else JoinedHandle(started)

    def stream(self) -> Generator[Event, None, None]:
        """Run in a thread and yield the events."""
        started = self._start_or_wait()
        return stream(*started) if isinstance(started, tuple) else joined(started)

    def stream_async(self) -> AsyncGenerator[Event, None]:
        """Run on the caller's event loop and yield the events."""
        return stream_async(self.begin_on_loop)

    def _start_or_wait(self) -> StartedOrJoined:
        pauses = _pauses()
        while True:
            try:
                return self.start()
            except PocoflowError as exc:
                if not self.waits or not isinstance(exc, ThreadBusyError):
                    raise exc.with_traceback(None)  # noqa: B904 - itself, without frames of ours
                time.sleep(next(pauses))

    async def begin_on_loop(self) -> Line | StoredRunHandle:
        """Start the run on the caller's event loop, without blocking it."""
        import asyncio

        pauses = _pauses()
        while True:
            try:
                return await self._start_once()
            except PocoflowError as exc:
                if not self.waits or not isinstance(exc, ThreadBusyError):
                    raise exc.with_traceback(None)  # noqa: B904 - as above
                await asyncio.sleep(next(pauses))

    async def _start_once(self) -> Line | StoredRunHandle:
        if (storage := self.home()) is None:
            started = self.start()
        else:
            results: list[StartedOrJoined] = []
            try:
                start = partial(self._start_into, results)
                await commit(Commit(storage, start, shared=self.shared))
            except GeneratorExit:
                raise  # the event loop is closed: nothing can be awaited, the run is interrupted
            except BaseException as exc:
                # Cancelled while its start was committed: the run is on record, so it needs an end.
                end = partial(_end, results, exc)  # which notifies listeners, so it runs once
                await commit(Commit(storage, end, shared=False, is_last=True))
                raise
            started = results[-1]
        if not isinstance(started, tuple):
            return started
        line, _ = started
        line.on_loop = True
        return line

    def _start_into(self, results: list[StartedOrJoined]) -> None:
        results.append(self.start())


def _pauses() -> Iterator[float]:
    """Seconds until each next check whether another run has ended."""
    yield from (0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
    yield from repeat(0.1)


def _end(results: Iterable[StartedOrJoined], exc: BaseException) -> None:
    for result in results:
        if isinstance(result, tuple):
            exhaust(fail(result[0], exc))
