"""A run that is to begin, and the ways to carry it out: each is written here, once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from pydantic import BaseModel
from typing_extensions import TypeVar

from pocoflow.engine.commits import commit
from pocoflow.engine.drivers import drive, drive_async
from pocoflow.engine.effects import Commit, Ledger, Steps
from pocoflow.engine.endings import exhaust, fail
from pocoflow.engine.loop import steps
from pocoflow.engine.run import Run
from pocoflow.flow.handle import RunHandle
from pocoflow.flow.stream import stream, stream_async
from pocoflow.graph.graph import GraphNode
from pocoflow.store.store import Store

if TYPE_CHECKING:
    from pocoflow.db import WorkflowDB
    from pocoflow.engine.event_types import Event

__all__ = ["Execution", "Started"]

StateT = TypeVar("StateT", bound=BaseModel, default=Any)


@dataclass(frozen=True, slots=True)
class Started:
    """A run that is on record as running, and the node where it begins."""

    run: Run
    place: GraphNode
    database: WorkflowDB | None

    def steps(self) -> Steps:
        """The step loop."""
        return steps(self.run, self.place)


@dataclass(slots=True)
class Execution(Generic[StateT]):
    """A run that is to begin: a new one, or one that goes on.

    Attributes:
        start: Writes the beginning.
        home: Where the run is kept; ``None`` if it is not, and nothing in ``start`` may block.
        shared: Whether the beginning may share a transaction with what other runs commit.
    """

    start: Callable[[], Started]
    home: Callable[[], Ledger | None]
    shared: bool

    def run(self) -> Store[StateT]:
        """Run to the end in this thread."""
        started = self.start()
        drive(started.run.context, started.steps())
        return started.run.store

    async def run_async(self) -> Store[StateT]:
        """Run to the end on the caller's event loop."""
        started = await self._begin()
        await drive_async(started.run.context, started.steps())
        return started.run.store

    def background(self) -> RunHandle[StateT]:
        """Run in a daemon thread."""
        started = self.start()
        return RunHandle(started.run, started.steps(), started.database)

    def stream(self) -> Generator[Event, None, None]:
        """Run in a thread and give the events."""
        started = self.start()
        return stream(started.run, started.steps(), started.database)

    def stream_async(self) -> AsyncGenerator[Event, None]:
        """Run on the caller's event loop and give the events."""

        async def begin() -> tuple[Run, Steps]:
            started = await self._begin()
            return started.run, started.steps()

        return stream_async(begin)

    async def _begin(self) -> Started:
        if (ledger := self.home()) is None:
            started = self.start()
        else:
            begun: list[Started] = []
            try:
                start = partial(self._start, begun)
                await commit(Commit(ledger, start, shared=self.shared))
            except BaseException as exc:
                # Cancelled while the run was being written: it is on record, so it needs an end.
                await commit(Commit(ledger, partial(_end, begun, exc), is_last=True))
                raise
            started = begun[-1]
        started.run.inline, started.run.on_loop = False, True
        return started

    def _start(self, begun: list[Started]) -> None:
        begun.append(self.start())


def _end(begun: Iterable[Started], exc: BaseException) -> None:
    for one in begun:
        exhaust(fail(one.run, exc))
