"""The endings of a run: what its row, its events, its handle, its hooks and its caller say.

``ENDINGS`` is the table; ``docs/explanation/endings.md`` shows it to users, and a test keeps the two
the same. Every flow here is First, Middle, Last, and the ending comes about in Middle, at step 1,
unless its row says otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from pydantic import BaseModel

import pocoflow
from pocoflow import Flow, Node, RunHandle, Store, WorkflowDB
from pocoflow.context import context
from pocoflow.errors import (
    ActionError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseFileError,
    InvalidValueError,
    MaxStepsError,
    NodeTimeoutError,
    RunCancelled,
    RunError,
    RunExistsError,
    UnhandledActionError,
)

if TYPE_CHECKING:
    from tests.integration.conftest import Start

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "endings.md"

ENDING_EVENTS = ("flow_end", "flow_error", "flow_cancelled")
FAILED = ("node_error", "flow_error")


class Boom(Exception):
    """What goes wrong here."""


class Stopped(BaseException):
    """A BaseException that is neither KeyboardInterrupt nor SystemExit."""


# -- a small world for one run ------------------------------------------------------------------


class Step(Node[Any, Any, Any]):
    """A node whose phases are given; what is not given does nothing."""

    def __init__(
        self,
        name: str,
        *,
        prep: Callable[[Store[Any]], object] | None = None,
        exec: Callable[[], object] | None = None,  # noqa: A002 - the name of the phase
        post: Callable[[Store[Any]], Any] | None = None,
        fallback: Callable[[Exception], object] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(name=name)
        self._prep, self._exec, self._post, self._fallback = prep, exec, post, fallback
        for setting, value in settings.items():
            setattr(self, setting, value)

    def prep(self, store: Store[Any]) -> object:
        return self._prep(store) if self._prep is not None else None

    def exec(self, prep: object) -> object:
        return self._exec() if self._exec is not None else None

    def post(self, store: Store[Any], prep: object, result: object) -> Any:
        store["n"] = store.get("n", 0) + 1
        return self._post(store) if self._post is not None else "go"

    def exec_fallback(self, prep: object, exc: Exception) -> object:
        if self._fallback is None:
            raise exc
        return self._fallback(exc)


@dataclass
class World:
    """One run: its database, what its hooks were told, and how to cancel it from inside."""

    db: WorkflowDB | None
    path: Path
    told: list[str] = field(default_factory=list)
    handle: RunHandle[Any] | None = None
    begun: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """What a user does: ``handle.cancel()``; in other kinds of runs, the run's own request."""
        self.begun.wait(60)
        if self.handle is not None:
            self.handle.cancel()
        else:
            context().cancellation.request()

    def flow(
        self, *steps: Step, middle: Step | None = None, last: Step | None = None, **settings: Any
    ) -> Flow[Any]:
        """First, Middle and Last, wired and listened to."""
        first = Step("First")
        middle = Step("Middle") if middle is None else middle
        last = Step("Last") if last is None else last
        first.then("go", middle)
        middle.then("go", last)
        flow: Flow[Any] = Flow(
            start=first, flow_name="ending", db_path=self.db, run_id="r", **settings
        )
        self.listen(flow)
        return flow

    def listen(self, flow: Flow[Any]) -> None:
        """Keep the names of the hooks that tell of an ending."""
        flow.on("node_error", lambda name, exc, store: self.told.append("node_error"))
        flow.on("flow_end", lambda steps, store: self.told.append("flow_end"))
        flow.on("flow_error", lambda exc, store: self.told.append("flow_error"))
        flow.on("flow_cancelled", lambda steps, store: self.told.append("flow_cancelled"))


def throw(exc: BaseException) -> Callable[..., Any]:
    """A function that raises, whatever it is called with."""

    def raising(*arguments: object) -> Any:
        raise exc

    return raising


async def for_ever() -> None:
    """Wait for what never comes."""
    await asyncio.Event().wait()


# -- the flows that end in these ways -----------------------------------------------------------

Make: TypeAlias = Callable[[World], Flow[Any]]


def completes(world: World) -> Flow[Any]:
    return world.flow()


def unhandled(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", post=lambda store: "nowhere"))


def unhandled_strict(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", post=lambda store: "nowhere"), strict=True)


def no_action(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", post=lambda store: 42))


def fails_in_prep(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", prep=throw(Boom("no paper"))))


def fails_in_exec(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", exec=throw(Boom("no paper")), max_retries=2))


def fails_in_async_exec(world: World) -> Flow[Any]:
    async def fail() -> None:
        raise Boom("no paper")

    return world.flow(middle=Step("Middle", exec=fail))


def fails_in_fallback(world: World) -> Flow[Any]:
    middle = Step("Middle", exec=throw(OSError("first")), fallback=throw(Boom("no paper")))
    return world.flow(middle=middle)


def fails_in_post(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", post=throw(Boom("no paper"))))


def times_out(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", exec=for_ever, timeout=0.01))


def writes_what_does_not_fit(world: World) -> Flow[Any]:
    class Schema(BaseModel):
        n: int = 0

    return world.flow(
        middle=Step("Middle", post=lambda store: store.update(n="many")), schema=Schema
    )


def stops_iteration(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", exec=lambda: next(iter(()))))


def awaits_what_was_cancelled(world: World) -> Flow[Any]:
    async def lose() -> None:
        task = asyncio.ensure_future(for_ever())
        task.cancel()
        await task

    return world.flow(middle=Step("Middle", exec=lose))


def takes_too_many_steps(world: World) -> Flow[Any]:
    middle = Step("Middle")
    flow = world.flow(middle=middle, max_steps=7)
    middle.then("go", middle)
    return flow


def fails_in_a_hook(world: World) -> Flow[Any]:
    flow = world.flow()
    flow.on("node_start", throw(Boom("in the hook")))
    flow.on("node_end", throw(Boom("in the hook")))
    flow.on("flow_end", throw(Boom("in the hook")))
    return flow


def fails_in_an_observer(world: World) -> Flow[Any]:
    def observe(store: Store[Any]) -> None:
        store.add_observer(throw(Boom("in the observer")))

    return world.flow(middle=Step("Middle", prep=observe))


def leaves_in_a_hook(world: World) -> Flow[Any]:
    flow = world.flow()
    flow.on("node_end", lambda name, *_: sys.exit(3) if name == "First" else None)
    return flow


def leaves_in_the_last_hook(world: World) -> Flow[Any]:
    flow = world.flow()
    flow.on("node_end", lambda name, *_: sys.exit(3) if name == "Last" else None)
    return flow


def leaves_in_exec(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", exec=throw(SystemExit(3))))


def is_interrupted_in_exec(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", exec=throw(KeyboardInterrupt())))


def raises_a_base_exception(world: World) -> Flow[Any]:
    return world.flow(middle=Step("Middle", exec=throw(Stopped("enough"))))


def cannot_write_its_snapshot(world: World) -> Flow[Any]:
    folder = world.path.with_name("snapshots")

    def spoil() -> None:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        folder.write_text("a file where the folder was")

    return world.flow(middle=Step("Middle", exec=spoil), checkpoint_dir=folder)


def cannot_write_its_last_snapshot(world: World) -> Flow[Any]:
    flow = cannot_write_its_snapshot(world)
    first, middle = flow.start, flow.start.edges["go"].target
    last = middle.edges["go"].target
    first.then("go", last)
    last.then("go", middle)
    middle._edges.clear()
    return flow


def is_cancelled_before_it_begins(world: World) -> Flow[Any]:
    flow = world.flow()
    flow.on("flow_start", lambda store: world.cancel())
    return flow


def is_cancelled_in_synchronous_exec(world: World) -> Flow[Any]:
    def work() -> None:
        world.cancel()
        world.release.wait(60)

    return world.flow(middle=Step("Middle", exec=work))


def is_cancelled_in_post(world: World) -> Flow[Any]:
    def post(store: Store[Any]) -> str:
        world.cancel()
        return "go"

    return world.flow(middle=Step("Middle", post=post))


def is_cancelled_in_an_await(world: World) -> Flow[Any]:
    async def work() -> None:
        world.cancel()
        await for_ever()

    return world.flow(middle=Step("Middle", exec=work))


def is_cancelled_in_a_retry_delay(world: World) -> Flow[Any]:
    middle = Step("Middle", exec=throw(Boom("again")), max_retries=2, retry_delay=3600.0)
    flow = world.flow(middle=middle)
    flow.on("node_retry", lambda *_: world.cancel())
    return flow


def looks_at_its_cancellation(world: World) -> Flow[Any]:
    def work() -> None:
        world.cancel()
        context().check_cancelled()

    return world.flow(middle=Step("Middle", exec=work, max_retries=3))


def is_cancelled_in_the_last_await(world: World) -> Flow[Any]:
    async def work() -> None:
        world.cancel()
        await for_ever()

    return world.flow(last=Step("Last", exec=work))


def is_cancelled_in_the_last_post(world: World) -> Flow[Any]:
    def post(store: Store[Any]) -> str:
        world.cancel()
        return "go"

    return world.flow(last=Step("Last", post=post))


def is_cancelled_through_the_database(world: World) -> Flow[Any]:
    def ask() -> None:
        with closing(sqlite3.connect(world.path)) as raw:
            raw.execute("UPDATE pf_runs SET cancel_requested = 1")
            raw.commit()

    return world.flow(middle=Step("Middle", exec=ask))


def has_its_task_cancelled(world: World) -> Flow[Any]:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await for_ever()

    return world.flow(middle=Step("Middle", exec=work))


def loses_its_database(world: World) -> Flow[Any]:
    def close() -> None:
        assert world.db is not None
        world.db.close()

    return world.flow(middle=Step("Middle", exec=close))


# -- the table ----------------------------------------------------------------------------------

RUN, BACKGROUND, ASYNC, MEMORY = "run", "background", "run_async", "no database"
ALL = (RUN, BACKGROUND, ASYNC, MEMORY)
STORED = (RUN, BACKGROUND, ASYNC)


@dataclass(frozen=True)
class Ending:
    """One row of the table.

    Attributes:
        title: What ends the run.
        status: The status that every reader sees from then on.
        error: The class of the exception on record; "interrupted" where nobody could write it.
        caller: What ``run``, ``run_async`` and ``handle.wait`` raise; None if they return.
        hooks: The hooks that are told of the ending, in order.
        make: The flow that ends so; None for an ending that takes a process of its own.
        modes: The ways to run to which it applies.
        steps: Finished steps, each with a checkpoint; where an asynchronous run has others, two.
        node: Whether the error is on record at the node, too.
        says: What the message on record says.
    """

    title: str
    status: str
    error: type[BaseException] | str | None = None
    caller: type[BaseException] | None = None
    hooks: tuple[str, ...] = ()
    make: Make | None = None
    modes: tuple[str, ...] = ALL
    steps: int | tuple[int, int] = 1
    says: str = ""

    def row(self) -> str:
        """The row as the page for users shows it."""
        kind = self.error if isinstance(self.error, str | None) else f"`{named(self.error)}`"
        gets = "nothing: it is gone" if self.error == "interrupted" else "the store"
        if self.caller is not None:
            gets = f"`{named(self.caller)}`"
        hooks = ", ".join(f"`{hook}`" for hook in self.hooks)
        return f"| {self.title} | {self.status} | {kind or ''} | {gets} | {hooks} |"


def named(kind: type[BaseException]) -> str:
    """The class as a user knows it: an example stands for any exception of the user's own."""
    return {Boom: "ValueError", Stopped: "GeneratorExit"}.get(kind, kind).__name__


ENDINGS = [
    Ending("the last node returns", "completed", None, None, ("flow_end",), completes, steps=3),
]
