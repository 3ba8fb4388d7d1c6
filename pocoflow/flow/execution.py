"""A run that is to begin, and the ways to carry it out: each is written here, once."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeAlias

from pocoflow.engine.commits import commit
from pocoflow.engine.drivers import drive, drive_async
from pocoflow.engine.effects import Commit, Storage
from pocoflow.engine.endings import exhaust, fail
from pocoflow.engine.line import Line
from pocoflow.engine.loop import steps
from pocoflow.engine.outcomes import without_ours
from pocoflow.errors import PocoflowError, ThreadBusyError
from pocoflow.flow.handle import JoinedHandle, RunHandle
from pocoflow.flow.stream import joined, stream, stream_async
from pocoflow.store.store import StateT, Store

if TYPE_CHECKING:
    from pocoflow.db.stored_handle import StoredRunHandle
    from pocoflow.db.workflow import WorkflowDB
    from pocoflow.graph.event_types import Event

_FIRST_PAUSE = 0.002

Begun: TypeAlias = "tuple[Line, WorkflowDB | None]"
"""A run that has begun, and the database that has it on record as running, or ``None``."""

Started: TypeAlias = "Begun | StoredRunHandle"
"""A run that has begun here, or one that somebody else has started and that is joined."""


@dataclass(slots=True)
class Execution(Generic[StateT]):
    """A run that is to begin: a new one, or one that goes on.

    Attributes:
        start: Writes the beginning.
        home: Where the run is kept; ``None`` if it is not, and nothing in ``start`` may block.
        shared: Whether the beginning may share a transaction with what other runs commit.
        waits: Whether to wait while another run of its thread is open.
    """

    start: Callable[[], Started]
    home: Callable[[], Storage | None]
    shared: bool = True
    waits: bool = False

    def run(self) -> Store[StateT]:
        """Run to the end in this thread."""
        started = self._started()
        if not isinstance(started, tuple):
            return started.wait()
        line, _ = started
        try:
            drive(line.context, steps(line))
        except PocoflowError as exc:
            raise without_ours(exc)  # noqa: B904 - itself
        return line.store

    async def run_async(self) -> Store[StateT]:
        """Run to the end on the caller's event loop."""
        line = await self.begin_on_loop()
        del self  # what the run began with is not kept while it lasts
        if not isinstance(line, Line):
            return await line
        try:
            await drive_async(line.context, steps(line))
        except PocoflowError as exc:
            raise without_ours(exc)  # noqa: B904 - itself
        return line.store

    def background(self) -> RunHandle[StateT]:
        """Run in a daemon thread."""
        started = self._started()
        return RunHandle(*started) if isinstance(started, tuple) else JoinedHandle(started)

    def stream(self) -> Generator[Event, None, None]:
        """Run in a thread and give the events."""
        started = self._started()
        return stream(*started) if isinstance(started, tuple) else joined(started)

    def stream_async(self) -> AsyncGenerator[Event, None]:
        """Run on the caller's event loop and give the events."""
        return stream_async(self.begin_on_loop)

    def _started(self) -> Started:
        pause = _FIRST_PAUSE
        while True:
            try:
                return self.start()
            except PocoflowError as exc:
                if not self.waits or not isinstance(exc, ThreadBusyError):
                    raise exc.with_traceback(None)  # noqa: B904 - itself, without frames of ours
                time.sleep(pause)
                pause = _longer(pause)

    async def begin_on_loop(self) -> Line | StoredRunHandle:
        """Begin the run on the caller's event loop, which stays free meanwhile."""
        import asyncio

        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._begin_once()
            except PocoflowError as exc:
                if not self.waits or not isinstance(exc, ThreadBusyError):
                    raise exc.with_traceback(None)  # noqa: B904 - as above
                await asyncio.sleep(pause)
                pause = _longer(pause)

    async def _begin_once(self) -> Line | StoredRunHandle:
        if (storage := self.home()) is None:
            started = self.start()
        else:
            begun: list[Started] = []
            try:
                start = partial(self._start, begun)
                await commit(Commit(storage, start, shared=self.shared))
            except GeneratorExit:
                raise  # the event loop is gone: nobody can be awaited, and the run is interrupted
            except BaseException as exc:
                # Cancelled while the run was being written: it is on record, so it needs an end.
                end = partial(_end, begun, exc)  # which tells listeners, so it is done once
                await commit(Commit(storage, end, shared=False, is_last=True))
                raise
            started = begun[-1]
        if not isinstance(started, tuple):
            return started
        line, _ = started
        line.on_loop = True
        return line

    def _start(self, begun: list[Started]) -> None:
        begun.append(self.start())


def _longer(pause: float) -> float:
    """Seconds between the next two looks whether another run has ended."""
    return min(2 * pause, 0.1)


def _end(begun: Iterable[Started], exc: BaseException) -> None:
    for one in begun:
        if isinstance(one, tuple):
            exhaust(fail(one[0], exc))
