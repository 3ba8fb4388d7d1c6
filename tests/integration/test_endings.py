"""The endings of a run: what its row, its events, its handle, its hooks and its caller say.

``ENDINGS`` is the table; ``docs/explanation/endings.md`` shows it to users, and a test keeps the
two the same. Every flow here is First, Middle, Last, and the ending comes about in Middle, at step
1, unless its row says otherwise.
"""

from __future__ import annotations

import asyncio
import os
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

from pocoflow import Flow, Node, RunHandle, Store, WorkflowDB
from pocoflow.db import EventRow, RunRow
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
from pocoflow.nodes.context import context

if TYPE_CHECKING:
    from tests.integration.conftest import Start

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "endings.md"

ENDED = {"completed": "flow_end", "failed": "flow_error", "cancelled": "flow_cancelled"}
ENDING_EVENTS = tuple(ENDED.values())


class Boom(Exception):
    """Any exception of a user's own."""


class Stopped(BaseException):
    """An exception that is no Exception, and neither KeyboardInterrupt nor SystemExit."""


# -- a small world for one run ------------------------------------------------------------------


class Step(Node[Any, Any, Any]):
    """A node whose phases are given; what is not given does nothing."""

    def __init__(
        self,
        name: str,
        *,
        prep: Callable[[Store[Any]], object] | None = None,
        exec: Callable[[], object] | None = None,
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

    @property
    def folder(self) -> Path:
        """Where JSON snapshots go."""
        return self.path.with_name("snapshots")

    def spoil(self) -> None:
        """Put a file where the folder of the snapshots is."""
        for file in self.folder.iterdir():
            file.unlink()
        self.folder.rmdir()
        self.folder.touch()

    def flow(
        self, *, middle: Step | None = None, last: Step | None = None, **settings: Any
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


class Ends:
    """The flows of the table, each by what ends it."""

    @staticmethod
    def completes(world: World) -> Flow[Any]:
        return world.flow()

    @staticmethod
    def unhandled(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", post=lambda store: "nowhere"))

    @staticmethod
    def unhandled_strict(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", post=lambda store: "nowhere"), strict=True)

    @staticmethod
    def no_action(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", post=lambda store: 42))

    @staticmethod
    def fails_in_prep(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", prep=throw(Boom("no paper"))))

    @staticmethod
    def fails_in_exec(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", exec=throw(Boom("no paper")), max_retries=2))

    @staticmethod
    def fails_in_async_exec(world: World) -> Flow[Any]:
        async def fail() -> None:
            raise Boom("no paper")

        return world.flow(middle=Step("Middle", exec=fail))

    @staticmethod
    def fails_in_fallback(world: World) -> Flow[Any]:
        middle = Step("Middle", exec=throw(OSError("first")), fallback=throw(Boom("no paper")))
        return world.flow(middle=middle)

    @staticmethod
    def fails_in_post(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", post=throw(Boom("no paper"))))

    @staticmethod
    def times_out(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", exec=for_ever, timeout=0.01))

    @staticmethod
    def writes_what_does_not_fit(world: World) -> Flow[Any]:
        class Schema(BaseModel):
            n: int = 0

        return world.flow(
            middle=Step("Middle", post=lambda store: store.update(n="many")), schema=Schema
        )

    @staticmethod
    def changes_in_place_what_does_not_fit(world: World) -> Flow[Any]:
        class Schema(BaseModel):
            n: int = 0
            words: list[str] = []

        def post(store: Store[Any]) -> str:
            store["words"].append(42)
            return "go"

        return world.flow(middle=Step("Middle", post=post), schema=Schema)

    @staticmethod
    def stops_iteration(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", exec=lambda: next(iter(()))))

    @staticmethod
    def awaits_what_was_cancelled(world: World) -> Flow[Any]:
        async def lose() -> None:
            task = asyncio.ensure_future(for_ever())
            task.cancel()
            await task

        return world.flow(middle=Step("Middle", exec=lose))

    @staticmethod
    def takes_too_many_steps(world: World) -> Flow[Any]:
        middle = Step("Middle", post=lambda store: "again")
        middle.then("again", middle)
        return world.flow(middle=middle, max_steps=7)

    @staticmethod
    def fails_in_a_hook(world: World) -> Flow[Any]:
        flow = world.flow()
        flow.on("node_start", throw(Boom("in the hook")))
        flow.on("node_end", throw(Boom("in the hook")))
        flow.on("flow_end", throw(Boom("in the hook")))
        return flow

    @staticmethod
    def fails_in_an_observer(world: World) -> Flow[Any]:
        def observe(store: Store[Any]) -> None:
            store.add_observer(throw(Boom("in the observer")))

        return world.flow(middle=Step("Middle", prep=observe))

    @staticmethod
    def leaves_in_a_hook(world: World) -> Flow[Any]:
        flow = world.flow()
        flow.on("node_end", lambda name, *_: sys.exit(3) if name == "First" else None)
        return flow

    @staticmethod
    def leaves_in_the_last_hook(world: World) -> Flow[Any]:
        flow = world.flow()
        flow.on("node_end", lambda name, *_: sys.exit(3) if name == "Last" else None)
        return flow

    @staticmethod
    def leaves_in_exec(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", exec=throw(SystemExit(3))))

    @staticmethod
    def is_interrupted_in_exec(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", exec=throw(KeyboardInterrupt())))

    @staticmethod
    def raises_a_base_exception(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", exec=throw(Stopped("enough"))))

    @staticmethod
    def cannot_write_its_snapshot(world: World) -> Flow[Any]:
        return world.flow(middle=Step("Middle", exec=world.spoil), checkpoint_dir=world.folder)

    @staticmethod
    def cannot_write_its_last_snapshot(world: World) -> Flow[Any]:
        return world.flow(last=Step("Last", exec=world.spoil), checkpoint_dir=world.folder)

    @staticmethod
    def is_cancelled_before_it_begins(world: World) -> Flow[Any]:
        flow = world.flow()
        flow.on("flow_start", lambda store: world.cancel())
        return flow

    @staticmethod
    def is_cancelled_in_synchronous_exec(world: World) -> Flow[Any]:
        def work() -> None:
            world.cancel()
            world.release.wait(60)

        return world.flow(middle=Step("Middle", exec=work))

    @staticmethod
    def is_cancelled_in_post(world: World) -> Flow[Any]:
        def post(store: Store[Any]) -> str:
            world.cancel()
            return "go"

        return world.flow(middle=Step("Middle", post=post))

    @staticmethod
    def is_cancelled_in_an_await(world: World) -> Flow[Any]:
        async def work() -> None:
            world.cancel()
            await for_ever()

        return world.flow(middle=Step("Middle", exec=work))

    @staticmethod
    def is_cancelled_in_a_retry_delay(world: World) -> Flow[Any]:
        middle = Step("Middle", exec=throw(Boom("again")), max_retries=2, retry_delay=3600.0)
        flow = world.flow(middle=middle)
        flow.on("node_retry", lambda *_: world.cancel())
        return flow

    @staticmethod
    def looks_at_its_cancellation(world: World) -> Flow[Any]:
        def work() -> None:
            world.cancel()
            context().check_cancelled()

        return world.flow(middle=Step("Middle", exec=work, max_retries=3))

    @staticmethod
    def is_cancelled_in_the_last_await(world: World) -> Flow[Any]:
        async def work() -> None:
            world.cancel()
            await for_ever()

        return world.flow(last=Step("Last", exec=work))

    @staticmethod
    def is_cancelled_in_the_last_post(world: World) -> Flow[Any]:
        def post(store: Store[Any]) -> str:
            world.cancel()
            return "go"

        return world.flow(last=Step("Last", post=post))

    @staticmethod
    def is_cancelled_through_the_database(world: World) -> Flow[Any]:
        def ask() -> None:
            with closing(sqlite3.connect(world.path)) as raw:
                raw.execute("UPDATE pf_run SET cancel_requested = 1")
                raw.commit()

        return world.flow(middle=Step("Middle", exec=ask))

    @staticmethod
    def has_its_task_cancelled(world: World) -> Flow[Any]:
        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await for_ever()

        return world.flow(middle=Step("Middle", exec=work))

    @staticmethod
    def loses_its_database(world: World) -> Flow[Any]:
        def close() -> None:
            assert world.db is not None
            world.db.close()
            with WorkflowDB(world.path, read_only=True) as other:
                assert other.list_runs()[0]["status"] == "failed"

        return world.flow(middle=Step("Middle", exec=close))


# -- the table ----------------------------------------------------------------------------------

RUN, BACKGROUND, ASYNC, MEMORY = "run", "background", "run_async", "no database"
ALL = (RUN, BACKGROUND, ASYNC, MEMORY)
STORED = (RUN, BACKGROUND, ASYNC)

INTERRUPTED = "interrupted"

Kind: TypeAlias = type[BaseException]


@dataclass(frozen=True)
class Ending:
    """One row of the table.

    Attributes:
        title: What ends the run.
        status: The status that every reader sees from then on.
        error: The class of the exception on record; INTERRUPTED where nobody could write one.
        caller: What ``run``, ``run_async`` and ``handle.wait`` raise; None if they return.
        hooks: The hooks that are told of the ending, in order.
        make: The flow that ends so; None for an ending that needs more than a flow.
        modes: The ways to run to which it applies.
        steps: Finished steps, each with a checkpoint; a pair where an asynchronous run has others.
        says: What the message on record says.
    """

    title: str
    status: str
    error: Kind | str | None = None
    caller: Kind | str | None = None
    hooks: tuple[str, ...] = ()
    make: Make | None = None
    modes: tuple[str, ...] = ALL
    steps: int | tuple[int, int] = 1
    says: str = ""

    def row(self) -> str:
        """The row as the page for users shows it."""
        cells = (
            self.title,
            self.status,
            shown(self.error),
            "the store" if self.caller is None else shown(self.caller),
            ", ".join(f"`{hook}`" for hook in self.hooks),
        )
        return "| " + " | ".join(cells) + " |"


def shown(kind: Kind | str | None) -> str:
    """An exception as the page for users shows it."""
    if kind is None or isinstance(kind, str):
        return kind or ""
    return "the exception" if kind in (Boom, Stopped) else f"`{kind.__name__}`"


GONE = "nothing, it is gone"
NODE_FAILED = ("node_error", "flow_error")
FAILED = ("flow_error",)


def completed(title: str, make: Make, steps: int = 3, **more: Any) -> Ending:
    """A run that came to its end."""
    return Ending(title, "completed", **{"hooks": ("flow_end",), **more}, make=make, steps=steps)


def failed(title: str, make: Make | None, kind: Kind, says: str, **more: Any) -> Ending:
    """A run that an exception ended; its caller gets the same one."""
    more = {"caller": kind, "hooks": NODE_FAILED, **more}
    return Ending(title, "failed", kind, make=make, says=says, **more)


def cancelled(title: str, make: Make | None, says: str, **more: Any) -> Ending:
    """A run that somebody asked to stop."""
    more = {"error": RunCancelled, "caller": RunCancelled, **more}
    return Ending(title, "cancelled", hooks=("flow_cancelled",), make=make, says=says, **more)


def interrupted(title: str, caller: Kind | str = GONE, **more: Any) -> Ending:
    """A run whose end nobody could write down."""
    return Ending(title, "failed", INTERRUPTED, caller, **more)


ENDINGS = [
    completed("the last node returns", Ends.completes),
    completed("an action has no edge", Ends.unhandled, 2),
    completed("an exception in a hook", Ends.fails_in_a_hook),
    completed("an exception in an observer of the store", Ends.fails_in_an_observer),
    completed(
        "`cancel()` in `post` of the last node, too late", Ends.is_cancelled_in_the_last_post
    ),
    completed(
        "`SystemExit` in a hook after the last step",
        Ends.leaves_in_the_last_hook,
        caller=SystemExit,
        hooks=(),
    ),
    failed("an exception in `prep`", Ends.fails_in_prep, Boom, "no paper"),
    failed("an exception in `exec`, in its last attempt", Ends.fails_in_exec, Boom, "no paper"),
    failed("an exception in `async def exec`", Ends.fails_in_async_exec, Boom, "no paper"),
    failed("an exception in `exec_fallback`", Ends.fails_in_fallback, Boom, "no paper"),
    failed("an exception in `post`", Ends.fails_in_post, Boom, "no paper"),
    failed(
        "`exec` takes longer than its `timeout`",
        Ends.times_out,
        NodeTimeoutError,
        "longer than its timeout of 0.01 seconds",
    ),
    failed(
        "a write that does not fit the schema",
        Ends.writes_what_does_not_fit,
        InvalidValueError,
        "'n'",
    ),
    failed(
        "a change in place that does not fit the schema",
        Ends.changes_in_place_what_does_not_fit,
        InvalidValueError,
        "words",
    ),
    failed("`post` returns what is no action", Ends.no_action, ActionError, "returned int 42"),
    failed(
        "an action has no edge, with `strict=True`",
        Ends.unhandled_strict,
        UnhandledActionError,
        "'nowhere'",
    ),
    failed(
        "`StopIteration` in a node",
        Ends.stops_iteration,
        StopIteration,
        "StopIteration",
        modes=(RUN, BACKGROUND, MEMORY),
    ),
    failed(
        "`StopIteration` in a node, where a coroutine cannot raise it",
        Ends.stops_iteration,
        StopIteration,
        "StopIteration",
        caller=RuntimeError,
        modes=(ASYNC,),
    ),
    failed(
        "`exec` awaits what somebody else cancelled",
        Ends.awaits_what_was_cancelled,
        RunError,
        "the run itself was not",
    ),
    failed("`SystemExit` in a node", Ends.leaves_in_exec, SystemExit, "3"),
    failed(
        "`KeyboardInterrupt` in a node",
        Ends.is_interrupted_in_exec,
        KeyboardInterrupt,
        "KeyboardInterrupt",
    ),
    failed("any other exception in a node", Ends.raises_a_base_exception, Stopped, "enough"),
    failed("`SystemExit` in a hook", Ends.leaves_in_a_hook, SystemExit, "3", hooks=FAILED),
    failed(
        "`max_steps` is reached",
        Ends.takes_too_many_steps,
        MaxStepsError,
        "max_steps=7",
        hooks=FAILED,
        steps=7,
    ),
    failed(
        "a JSON snapshot cannot be written",
        Ends.cannot_write_its_snapshot,
        OSError,
        "snapshots",
        hooks=FAILED,
    ),
    failed(
        "the last JSON snapshot cannot be written",
        Ends.cannot_write_its_last_snapshot,
        OSError,
        "snapshots",
        hooks=FAILED,
        steps=2,
    ),
    failed(
        "no thread for a background run can be started",
        Ends.completes,
        RuntimeError,
        "can't start new thread",
        hooks=FAILED,
        modes=(BACKGROUND,),
        steps=0,
    ),
    failed(
        "the disk is full: no room for a step",
        None,
        DatabaseFileError,
        "cannot grow: the disk is full",
        hooks=FAILED,
    ),
    failed(
        "Ctrl-C in a node, in an await, in a retry delay",
        None,
        KeyboardInterrupt,
        "KeyboardInterrupt",
    ),
    cancelled(
        "`cancel()` before the first node",
        Ends.is_cancelled_before_it_begins,
        "before step 0",
        steps=0,
    ),
    cancelled(
        "`cancel()` in a synchronous `exec`",
        Ends.is_cancelled_in_synchronous_exec,
        "was cancelled",
        steps=(2, 1),
    ),
    cancelled("`cancel()` in `post`", Ends.is_cancelled_in_post, "before step 2", steps=2),
    cancelled("`cancel()` in an await", Ends.is_cancelled_in_an_await, "in exec of node 'Middle'"),
    cancelled(
        "`cancel()` in the delay before the next attempt",
        Ends.is_cancelled_in_a_retry_delay,
        "'Middle'",
    ),
    cancelled(
        "`cancel()`, seen by `check_cancelled()`",
        Ends.looks_at_its_cancellation,
        "in exec of node 'Middle'",
    ),
    cancelled(
        "`cancel()` in an await of the last node",
        Ends.is_cancelled_in_the_last_await,
        "in exec of node 'Last'",
        steps=2,
    ),
    cancelled(
        "`cancel_requested` is set in the database",
        Ends.is_cancelled_through_the_database,
        "before step 2",
        modes=STORED,
        steps=2,
    ),
    cancelled(
        "the task that awaits `run_async` is cancelled",
        Ends.has_its_task_cancelled,
        "CancelledError",
        error=asyncio.CancelledError,
        caller=asyncio.CancelledError,
        modes=(ASYNC,),
    ),
    cancelled(
        "Ctrl-C under `asyncio.run(flow.run_async())`",
        None,
        "CancelledError",
        error=asyncio.CancelledError,
        caller=KeyboardInterrupt,
    ),
    interrupted("Ctrl-C in the main thread of a background run", KeyboardInterrupt),
    interrupted("the interpreter exits before a background run"),
    interrupted("SIGTERM"),
    interrupted("SIGKILL, a crash, `os._exit`"),
    interrupted("the database is locked for too long", DatabaseBusyError, hooks=FAILED),
    interrupted("the disk is full to the last byte", DatabaseFileError, hooks=FAILED),
    interrupted("no file may grow any more (`ulimit -f`)", DatabaseFileError, hooks=FAILED),
    interrupted(
        "the `WorkflowDB` is closed under the run",
        DatabaseError,
        hooks=FAILED,
        make=Ends.loses_its_database,
        modes=STORED,
    ),
]

BY_TITLE = {ending.title: ending for ending in ENDINGS}


# -- checking one -------------------------------------------------------------------------------


def go(world: World, flow: Flow[Any], mode: str) -> BaseException | None:
    """Run it in one of the ways there are; what the caller gets, if it is an exception."""
    try:
        if mode == ASYNC:
            world.begun.set()
            asyncio.run(awaited(world, flow))
        elif mode == RUN:
            world.begun.set()
            world.release.set()
            flow.run({})
        else:
            world.handle = flow.run_background({})
            world.begun.set()
            world.release.set()
            world.handle.wait(60)
    except BaseException as exc:  # noqa: BLE001 - this is what the tests are about
        return exc
    return None


async def awaited(world: World, flow: Flow[Any]) -> None:
    """Run it on this event loop, and let its synchronous nodes go afterwards."""
    try:
        await flow.run_async({})
    finally:
        world.release.set()


def check_caller(ending: Ending, world: World, raised: BaseException | None) -> None:
    """The caller, the handle and the hooks have been told what the table says."""
    if ending.caller is None:
        assert raised is None, repr(raised)
    else:
        assert isinstance(ending.caller, type)
        assert isinstance(raised, ending.caller), repr(raised)
    assert world.told == list(ending.hooks)
    if world.handle is not None:
        assert world.handle.is_done
        assert world.handle.status == ending.status
        if raised is not None:
            with pytest.raises(type(raised)) as again:
                world.handle.wait(0)
            assert again.value is raised


def check_record(ending: Ending, path: Path, steps: int, raised: BaseException | None) -> None:
    """Every reader of the database finds what the table says; nothing reads as running."""
    for read_only in (True, False):
        with WorkflowDB(path, read_only=read_only) as db:
            (run,) = db.list_runs()
            events = db.get_events("r")
            checkpoints = db.get_checkpoints("r")
            stores = [db.load_checkpoint("r", row["step"])["n"] for row in checkpoints]

        assert run["status"] == ending.status
        assert run["total_steps"] == steps
        assert [row["step"] for row in checkpoints] == list(range(steps))
        assert stores == list(range(1, steps + 1))
        endings = [event for event in events if event["event"] in ENDING_EVENTS]
        if ending.error == INTERRUPTED:
            assert endings == []
            assert run["error_type"] == "Interrupted"
            assert (run["error_msg"] or "").startswith("interrupted: ")
        else:
            check_last_events(ending, run, events, endings, raised)


def check_last_events(
    ending: Ending,
    run: RunRow,
    events: list[EventRow],
    endings: list[EventRow],
    raised: BaseException | None,
) -> None:
    """One event tells of the ending, it is the last one, and the error is on record in full."""
    assert [event["event"] for event in endings] == [ENDED[ending.status]]
    assert endings[-1] == events[-1]
    assert run["completed_at"] == events[-1]["ts"]
    if ending.error is None:
        assert (run["error_type"], run["error_msg"], run["traceback"]) == (None, None, None)
        return
    assert isinstance(ending.error, type)
    name, said, traceback = run["error_type"], run["error_msg"], run["traceback"]
    assert name is not None
    assert said is not None
    assert traceback is not None
    if raised is not None and ending.error is ending.caller:
        assert name.split(".")[-1] == type(raised).__name__
    else:
        assert name.split(".")[-1] == ending.error.__name__
    assert ending.says in said
    assert traceback.startswith("Traceback (most recent call last)")
    assert name.split(".")[-1] in traceback
    told = [event for event in events if event["event"] == "node_error"]
    assert len(told) == ending.hooks.count("node_error")
    for event in (*told, *(events[-1:] if ending.status == "failed" else ())):
        for column in ("error_type", "error_msg", "traceback"):
            assert event[column] == run[column]
    for event in told:
        assert (event["node_name"], event["step"]) == ("Middle", 1)
        assert "pocoflow: in " in (event["traceback"] or "")


@pytest.fixture
def world(path: Path) -> Iterator[World]:
    """A database, and nothing told yet."""
    with WorkflowDB(path, synchronous="NORMAL", busy_timeout=0.05) as db:
        yield World(db, path)


# -- the endings that a flow brings about by itself ---------------------------------------------


@pytest.mark.parametrize(
    ("ending", "mode"),
    [
        pytest.param(ending, mode, id=f"{ending.title}-{mode}")
        for ending in ENDINGS
        if ending.make is not None
        for mode in ending.modes
    ],
)
def test_an_ending_is_what_the_table_says(
    ending: Ending, mode: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row, events, checkpoints, handle, hooks and caller agree on how a run ended, in any mode."""
    if mode == MEMORY:
        world.db = None
    assert ending.make is not None
    flow = ending.make(world)
    if "no thread" in ending.title:
        monkeypatch.setattr(
            threading.Thread, "start", throw(RuntimeError("can't start new thread"))
        )
    raised = go(world, flow, mode)
    monkeypatch.undo()

    check_caller(ending, world, raised)
    if mode != MEMORY:
        steps = ending.steps
        if isinstance(steps, tuple):
            steps = steps[mode == ASYNC]
        check_record(ending, world.path, steps, raised)


def test_the_page_for_users_shows_the_table() -> None:
    """Every row of docs/explanation/endings.md is a row that these tests keep true, in order."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")][2:]
    assert rows == [ending.row() for ending in ENDINGS]


def test_a_run_that_cannot_begin_leaves_no_row_and_runs_no_node(world: World) -> None:
    """A used id and a store that does not fit are refused before anything is recorded."""
    ran: list[int] = []
    flow: Flow[Any] = Flow(Step("Only", exec=lambda: ran.append(1)), db_path=world.db, run_id="r")
    flow.run({})
    with pytest.raises(RunExistsError):
        flow.run({})
    with pytest.raises(InvalidValueError):
        Flow(flow.start, db_path=world.db, schema={"n": int}).run({"n": "many"})

    assert world.db is not None
    assert [run["status"] for run in world.db.list_runs()] == ["completed"]
    assert ran == [1]


def test_an_error_whose_message_fails_is_on_record(world: World) -> None:
    """An exception whose __str__ raises ends the run as any other, and is what the caller gets."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise Boom("no message")

    flow = world.flow(middle=Step("Middle", exec=throw(Mute())))
    assert isinstance(go(world, flow, RUN), Mute)
    assert world.db is not None
    (run,) = world.db.list_runs()
    assert run["status"] == "failed"
    assert (run["error_type"] or "").endswith("Mute")
    assert run["error_msg"] == "<its message raised Boom>"


def test_the_cause_of_an_error_is_in_its_traceback(world: World) -> None:
    """The traceback on record shows the chain of causes and the line of the user's own code."""

    def fail() -> None:
        try:
            throw(OSError("the first"))()
        except OSError as exc:
            raise Boom("the second") from exc

    go(world, world.flow(middle=Step("Middle", exec=fail)), RUN)
    assert world.db is not None
    (run,) = world.db.list_runs()
    assert run["error_msg"] == "the second"
    for part in ("OSError: the first", "direct cause", "in fail", "in exec of node 'Middle'"):
        assert part in (run["traceback"] or "")


# -- the endings that need a process of their own -----------------------------------------------


def ends_as(title: str, path: Path, output: str, steps: int = 1) -> None:
    """What the program printed, and what it left behind, are as the row of the table says."""
    ending = BY_TITLE[title]
    lines = [f"hook {hook}" for hook in ending.hooks]
    if isinstance(ending.caller, type):
        lines.append(f"raised {ending.caller.__name__}")
    assert output.splitlines() == lines
    check_record(ending, path, steps, None)


@pytest.mark.parametrize("program", ["hang", "hang_in_retry", "hang_in_await"])
def test_ctrl_c_is_a_failure_on_record(path: Path, start: Start, program: str) -> None:
    """SIGINT ends a run in a node, in a retry delay and in an await; it is recorded and raised."""
    child = start(program, path)
    assert child.line() == ("in retry" if program == "hang_in_retry" else "in exec")
    child.send(signal.SIGINT)
    code, output, errors = child.finish()

    assert (code, errors) == (0, "")
    ends_as("Ctrl-C in a node, in an await, in a retry delay", path, output)


def test_ctrl_c_under_asyncio_run_is_a_cancellation(path: Path, start: Start) -> None:
    """asyncio.run answers SIGINT by cancelling its task, so the run is cancelled and cleaned up."""
    child = start("hang_async", path)
    assert child.line() == "in exec"
    child.send(signal.SIGINT)
    code, output, errors = child.finish()

    assert (code, errors) == (0, "")
    ends_as("Ctrl-C under `asyncio.run(flow.run_async())`", path, output)


def test_ctrl_c_for_a_background_run_ends_the_wait_and_then_the_run(
    path: Path, start: Start
) -> None:
    """SIGINT goes to the main thread: wait() raises it, and the run ends with the interpreter."""
    child = start("hang_in_background", path)
    assert {child.line(), child.line()} == {"in exec", "in wait"}
    child.send(signal.SIGINT)
    assert child.line() == "raised KeyboardInterrupt"
    child.wait()

    check_record(BY_TITLE["Ctrl-C in the main thread of a background run"], path, 1, None)


def test_sigterm_ends_the_process_and_the_run_reads_as_interrupted(
    path: Path, start: Start
) -> None:
    """No signal handler is installed: SIGTERM ends the process as ever, and readers see it."""
    child = start("hang", path)
    assert child.line() == "in exec"
    child.send(signal.SIGTERM)
    code, output, _ = child.finish()

    assert code == -signal.SIGTERM
    ends_as("SIGTERM", path, output)


@pytest.mark.parametrize("how", ["_exit", "crash", "kill"])
def test_a_process_that_is_gone_leaves_an_interrupted_run(
    path: Path, start: Start, how: str
) -> None:
    """os._exit, a segmentation fault and kill -9 are all seen by the next reader."""
    child = start("hang", path) if how == "kill" else start("die", path, how)
    assert child.line() == "in exec"
    if how == "kill":
        child.send(signal.SIGKILL)
    code, output, _ = child.finish()

    assert code == {"_exit": 7, "crash": -signal.SIGSEGV, "kill": -signal.SIGKILL}[how]
    ends_as("SIGKILL, a crash, `os._exit`", path, output)


def test_an_interpreter_that_leaves_takes_its_background_run_along(
    path: Path, start: Start
) -> None:
    """A run in a daemon thread ends with its interpreter, without a word to anybody's hooks."""
    child = start("leave", path, "end")
    assert child.line() == "running"
    code, output, errors = child.finish()

    assert (code, errors) == (0, "")
    ends_as("the interpreter exits before a background run", path, output)


# -- the endings that need a database in trouble ------------------------------------------------


@pytest.mark.parametrize("mode", STORED)
def test_a_database_locked_for_too_long_fails_the_run(
    world: World, start: Start, mode: str
) -> None:
    """A commit that another program's lock outlasts ends the run; readers see it at once."""
    locker = start("lock", world.path)

    def lock() -> None:
        locker.tell()
        assert locker.line() == "locked"

    flow = world.flow(middle=Step("Middle", exec=lock))
    raised = go(world, flow, mode)

    ending = BY_TITLE["the database is locked for too long"]
    check_caller(ending, world, raised)
    assert str(world.path) in str(raised)
    check_record(ending, world.path, 1, raised)
    locker.tell()
    assert locker.line() == "unlocked"
    check_record(ending, world.path, 1, raised)


def test_a_lock_that_is_given_back_in_time_costs_nothing(path: Path, start: Start) -> None:
    """A commit waits for another program's lock for as long as busy_timeout allows."""
    locker = start("lock", path)

    def lock() -> None:
        locker.tell()
        assert locker.line() == "locked"
        locker.tell()

    with WorkflowDB(path, busy_timeout=60.0) as db:
        world = World(db, path)
        raised = go(world, world.flow(middle=Step("Middle", exec=lock)), RUN)
        assert locker.line() == "unlocked"
    check_record(BY_TITLE["the last node returns"], path, 3, raised)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("mode", STORED)
def test_a_step_for_which_the_disk_has_no_room_fails_the_run(small: Path, mode: str) -> None:
    """A commit that does not fit on the disk ends the run, which is on record with that error."""
    path = small / "runs.db"

    def grow(store: Store[Any]) -> str:
        store["big"] = "x" * 2_000_000
        return "go"

    with WorkflowDB(path) as db:
        world = World(db, path)
        raised = go(world, world.flow(middle=Step("Middle", post=grow)), mode)
        ending = BY_TITLE["the disk is full: no room for a step"]
        check_caller(ending, world, raised)
        assert str(path) in str(raised)
        check_record(ending, path, 1, raised)


@pytest.mark.parametrize("mode", STORED)
def test_a_full_disk_fails_the_run_and_loses_no_finished_step(small: Path, mode: str) -> None:
    """On a disk without a free byte the run ends, reads as interrupted, and its steps are there."""
    path = small / "runs.db"
    ballast = small / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    with WorkflowDB(path) as db:
        world = World(db, path)
        raised = go(world, world.flow(middle=Step("Middle", exec=fill)), mode)
        ending = BY_TITLE["the disk is full to the last byte"]
        check_caller(ending, world, raised)
        assert "disk is full" in str(raised)
        assert db.list_runs()[0]["status"] == "failed"
        ballast.unlink()
        check_record(ending, path, 1, raised)
        Flow(start=Step("Only"), db_path=db).run({})
        assert db.list_runs()[0]["status"] == "completed"


def test_a_limit_on_the_size_of_files_fails_the_run(path: Path, start: Start) -> None:
    """Under a limit that lets no file grow the run ends with an error that names the file."""
    child = start("full", path)
    code, output, errors = child.finish()

    assert code == 0
    assert "its end (failed) could not be recorded" in errors
    ends_as("no file may grow any more (`ulimit -f`)", path, output)
