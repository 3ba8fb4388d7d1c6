"""A run that is to begin, and the ways to carry it out: each is written here, once."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

from pydantic import BaseModel
from typing_extensions import TypeVar

from pocoflow.engine.commits import commit
from pocoflow.engine.drivers import drive, drive_async
from pocoflow.engine.effects import Commit, Storage
from pocoflow.engine.endings import exhaust, fail
from pocoflow.engine.line import Line
from pocoflow.engine.loop import steps
from pocoflow.errors import ThreadBusyError
from pocoflow.flow.handle import RunHandle
from pocoflow.flow.stream import stream, stream_async
from pocoflow.store.store import Store

if TYPE_CHECKING:
    from pocoflow.db import WorkflowDB
    from pocoflow.engine.event_types import Event

__all__ = ["Begun", "Execution"]

StateT = TypeVar("StateT", bound=BaseModel, default=Any)


Begun: TypeAlias = "tuple[Line, WorkflowDB | None]"
"""A run that is on record as running, if there is a database, and that."""


@dataclass(slots=True)
class Execution(Generic[StateT]):
    """A run that is to begin: a new one, or one that goes on.

    Attributes:
        start: Writes the beginning.
        home: Where the run is kept; ``None`` if it is not, and nothing in ``start`` may block.
        shared: Whether the beginning may share a transaction with what other runs commit.
        waits: Whether to wait while another run of its thread is open.
    """

    start: Callable[[], Begun]
    home: Callable[[], Storage | None]
    shared: bool
    waits: bool = False

    def run(self) -> Store[StateT]:
        """Run to the end in this thread."""
        line, _ = self._started()
        drive(line.context, steps(line))
        return line.store

    async def run_async(self) -> Store[StateT]:
        """Run to the end on the caller's event loop."""
        line = await self._begin()
        await drive_async(line.context, steps(line))
        return line.store

    def background(self) -> RunHandle[StateT]:
        """Run in a daemon thread."""
        return RunHandle(*self._started())

    def stream(self) -> Generator[Event, None, None]:
        """Run in a thread and give the events."""
        return stream(*self._started())

    def stream_async(self) -> AsyncGenerator[Event, None]:
        """Run on the caller's event loop and give the events."""
        return stream_async(self._begin)

    def _started(self) -> Begun:
        if not self.waits:
            return self.start()
        pauses = _pauses()
        while True:
            try:
                return self.start()
            except ThreadBusyError:
                time.sleep(next(pauses))

    async def _begin(self) -> Line:
        import asyncio

        pauses = _pauses()
        while True:
            try:
                return await self._begin_now()
            except ThreadBusyError:
                if not self.waits:
                    raise
                await asyncio.sleep(next(pauses))

    async def _begin_now(self) -> Line:
        if (storage := self.home()) is None:
            line, _ = self.start()
        else:
            begun: list[Line] = []
            try:
                start = partial(self._start, begun)
                await commit(Commit(storage, start, shared=self.shared))
            except BaseException as exc:
                # Cancelled while the run was being written: it is on record, so it needs an end.
                await commit(Commit(storage, partial(_end, begun, exc), is_last=True))
                raise
            line = begun[-1]
        line.inline, line.on_loop = False, True
        return line

    def _start(self, begun: list[Line]) -> None:
        begun.append(self.start()[0])


def _pauses() -> Iterator[float]:
    """Seconds between two looks whether another run has ended."""
    pause = 0.002
    while True:
        yield pause
        pause = min(2 * pause, 0.1)


def _end(begun: Iterable[Line], exc: BaseException) -> None:
    for one in begun:
        exhaust(fail(one, exc))
