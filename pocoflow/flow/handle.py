"""A run in the background, and the handle to it."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from pocoflow.cleanup import at_exit, in_child, leave
from pocoflow.engine.companion import Companion, CompanionLoop, level_here
from pocoflow.engine.drivers import drive, drive_async
from pocoflow.engine.effects import Steps
from pocoflow.engine.endings import exhaust, fail
from pocoflow.engine.line import Line
from pocoflow.engine.loop import steps
from pocoflow.engine.outcomes import unwrapped, without_own_frames
from pocoflow.errors import DatabaseError, DefinitionError, RunCancelled, RunPaused
from pocoflow.logging import OwnLogger
from pocoflow.nodes.context import current
from pocoflow.store.store import StateT, Store
from pocoflow.values.callables import check_callback, check_called

if TYPE_CHECKING:
    from pocoflow.db.following import Until
    from pocoflow.db.rows import Status
    from pocoflow.db.stored_handle import StoredRunHandle
    from pocoflow.db.workflow import WorkflowDB
    from pocoflow.graph.event_types import Followed


_log = OwnLogger("runner")


class RunHandle(Generic[StateT]):
    """A run in the background: watch it, wait for it, cancel it.

    Attributes:
        run_id: The run's id, as in the database.
        store: The store that the run works on.
    """

    _is_seen = False
    """Whether the failure of the run was seen, or is reported in another way."""

    def __init__(self, run: Line, database: WorkflowDB | None, *, is_read: bool = False) -> None:
        self._is_seen = is_read
        self.run_id = run.context.run_id
        self.store: Store[StateT] = run.store
        self._run = run
        self._database = database
        self._outcome: Future[None] = Future()
        self._level = level_here()
        self._steps: list[Steps] = []
        try:
            if run.only_awaits:
                self._start_on(Companion(run.context, self._level).loop())
            else:
                self._start_in_thread()
            # Not before it is active: if a Ctrl-C prevents that, it ends with its last reference.
            _active[self] = run, is_read
            self._outcome.add_done_callback(lambda _: _active.pop(self, None))
        except Exception as exc:
            exhaust(fail(run, exc))
            raise
        except BaseException as exc:
            # A Ctrl-C; the run may be active already, and nobody gets the handle to it.
            run.context.cancellation.request()
            if self._take_steps() is not None:
                exhaust(fail(run, exc))
            raise

    def _start_on(self, loop: CompanionLoop) -> None:
        """Run on the loop that all such runs share, without a thread."""
        import asyncio

        run, caller_context = self._run, copy_context()
        run.on_loop = True
        caller_context.run(current.set, run.context)

        async def work() -> None:
            try:
                try:
                    await drive_async(run.context, steps(run), keeps=False)
                finally:
                    await loop.finish(run.context.token)
            except BaseException as exc:  # noqa: BLE001 - stored for wait(), which raises it
                self._fail(unwrapped(exc))
            else:
                self._outcome.set_result(None)

        def start() -> None:
            self._task = asyncio.create_task(work())

        caller_context.run(loop.call, start)

    def _start_in_thread(self) -> None:
        self._steps.append(steps(self._run))
        # In a copy of the caller's context, as wherever the engine changes threads.
        threading.Thread(
            target=copy_context().run,
            args=(self._work,),
            name=f"pocoflow-{self.run_id}",
            daemon=True,
        ).start()

    def _take_steps(self) -> Steps | None:
        """The steps, for the first caller: the thread, or the handling of a Ctrl-C before it."""
        try:
            return self._steps.pop()
        except IndexError:
            return None

    def _work(self) -> None:
        work = self._take_steps()
        if work is None:
            return
        try:
            drive(self._run.context, work, level=self._level)
        except BaseException as exc:  # noqa: BLE001 - stored for wait(), which raises it
            _log.debug("background run %r ended with %s", self.run_id, type(exc).__name__)
            self._fail(exc)
        else:
            self._outcome.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._is_seen = self._is_seen or not _FAILURE_EVENTS.isdisjoint(self._run.listeners)
        if not (self._is_seen or isinstance(error, RunPaused) or self._is_cancelled(error)):
            _failed[id(self)] = weakref.ref(self)
        self._outcome.set_exception(error)

    def _is_cancelled(self, error: BaseException) -> bool:
        return isinstance(error, RunCancelled) and self._run.context.cancellation.requested

    def __del__(self) -> None:
        # At exit of the interpreter, the globals of this module may be gone already.
        if _failed and _failed.pop(id(self), None) is not None and not self._is_seen:
            leave(partial(_log_failure, self.run_id, self._outcome))

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when the run has ended, or at once if it has; from any thread.

        Raises:
            HookError: It cannot be called without arguments, or calling it has no effect, as it is
                ``async`` or a generator function.
        """
        check_callback("handle.add_done_callback(callback) calls callback()", callback)
        self._outcome.add_done_callback(lambda _: check_called(callback()))

    @property
    def is_done(self) -> bool:
        """Whether the run has ended, in any way."""
        return self._outcome.done()

    @property
    def status(self) -> Status:
        """The run's status, read live from the database if there is one that can be read.

        One of ``running``, ``paused``, ``completed``, ``failed`` and ``cancelled``.
        """
        status = self._status()
        self._is_seen = self._is_seen or status == "failed"
        return status

    def _status(self) -> Status:
        if self._database is not None:
            try:
                row = self._database.get_run(self.run_id)
            except DatabaseError as exc:
                _log.debug("run %r: its status could not be read: %s", self.run_id, exc)
            else:
                if row is not None:
                    return row["status"]
        if not self._outcome.done():
            return "running"
        error = self._outcome.exception()
        if error is None or self._run.completed:
            return "completed"
        return "cancelled" if self._is_cancelled(error) else "failed"

    def wait(self, timeout: float | None = None) -> Store[StateT]:
        """Block until the run has ended and return its store.

        Args:
            timeout: Seconds to wait, or ``None`` for as long as it takes.

        Raises:
            TimeoutError: The run is still active after ``timeout`` seconds; it is not stopped.
            RunCancelled: The run was cancelled.
            RunPaused: The run waits for answers.
            BaseException: The very exception that ended the run, ``KeyboardInterrupt`` and
                ``SystemExit`` included.
        """
        try:
            # Python cannot wait for longer; it is 292 years.
            error = self._outcome.exception(timeout and min(timeout, threading.TIMEOUT_MAX))
        except TimeoutError:
            if not self._outcome.done():
                raise TimeoutError(
                    f"run {self.run_id!r} still goes on after {timeout:g} seconds; wait again, or "
                    "cancel() it"
                ) from None
            error = self._outcome.exception()
        self._is_seen = True
        if error is not None:
            raise without_own_frames(error)
        return self.store

    def __await__(self) -> Generator[Any, None, Store[StateT]]:
        """Wait on an event loop without blocking it; otherwise like :meth:`wait` without a timeout.

        Cancelling the wait, as ``asyncio.wait_for`` does, does not stop the run.
        """
        return self._waiting().__await__()

    async def _waiting(self) -> Store[StateT]:
        import asyncio

        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def notify(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: nothing waits any more
                loop.call_soon_threadsafe(ended.set)

        self._outcome.add_done_callback(notify)
        await ended.wait()
        return self.wait()

    def follow(self, after: int = -1, until: Until = "end") -> Generator[Followed, None, None]:
        """The committed events of the run, as :meth:`WorkflowDB.follow` yields them.

        Raises:
            DefinitionError: The flow has no ``db_path``.
        """
        return self._stored_in().follow(self.run_id, after, until)

    def follow_async(self, after: int = -1, until: Until = "end") -> AsyncGenerator[Followed, None]:
        """Like :meth:`follow`, on the caller's event loop, without blocking it."""
        return self._stored_in().follow_async(self.run_id, after, until)

    def _stored_in(self) -> WorkflowDB:
        if self._database is None:
            raise DefinitionError(
                f"run {self.run_id!r} is not kept, so nothing of it is committed: give its flow a "
                "db_path to follow it, or stream() it"
            )
        self._is_seen = True
        return self._database

    def cancel(self) -> None:
        """Ask the run to stop: between two nodes, or at once in a retry delay or an await.

        A running synchronous ``exec`` is not interrupted; it can call
        ``context().check_cancelled()``. A paused run is cancelled at once. Has no effect on a run
        that has ended.
        """
        self._run.context.cancellation.request()
        paused = self._outcome.done() and isinstance(self._outcome.exception(), RunPaused)
        if paused and self._database is not None:
            self._database.request_cancel(self.run_id)

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id!r} {self.status}>"


class JoinedHandle(RunHandle[StateT]):
    """A run that was started earlier, in any process; a thread waits for it.

    Its ``store`` is that of the last committed step when it was joined, and the final store once
    the run has ended.
    """

    def __init__(self, joined: StoredRunHandle) -> None:
        self.run_id = joined.run_id
        self.store = joined.store
        self._joined = joined
        self._outcome = Future()
        name = f"pocoflow-join-{self.run_id}"
        threading.Thread(target=self._wait, name=name, daemon=True).start()

    def _wait(self) -> None:
        try:
            self.store = self._joined.wait()
        except BaseException as exc:  # noqa: BLE001 - stored for wait(), which raises it
            self._outcome.set_exception(exc)
        else:
            self._outcome.set_result(None)

    @property
    def status(self) -> Status:
        """The run's status, read live from the database."""
        return self._joined.status

    def follow(self, after: int = -1, until: Until = "end") -> Generator[Followed, None, None]:
        """The committed events of the run, as :meth:`WorkflowDB.follow` yields them."""
        return self._joined.follow(after, until)

    def follow_async(self, after: int = -1, until: Until = "end") -> AsyncGenerator[Followed, None]:
        """Like :meth:`follow`, on the caller's event loop, without blocking it."""
        return self._joined.follow_async(after, until)

    def cancel(self) -> None:
        """Ask the run to stop, in whichever process it is."""
        self._joined.cancel()


_EXIT_WAIT = 0.5
"""Seconds that the exit of the interpreter waits for cancelled runs."""

_active: dict[RunHandle, tuple[Line, bool]] = {}
"""The lines of active runs; and whether a stream reads the run, which ends with its reader."""


@atexit.register
def _end_cancelled() -> None:
    # Their threads end with the interpreter: the cancellation of these runs would not be recorded.
    deadline, remaining = time.monotonic() + _EXIT_WAIT, []
    for handle, (run, is_read) in list(_active.items()):
        cancellation = run.context.cancellation
        if is_read and not handle.is_done:
            cancellation.request()
        if cancellation.requested and not handle.is_done:
            remaining.append((handle, run))
    for handle, run in remaining:
        with suppress(BaseException):  # whatever ends it
            handle.wait(max(0.0, deadline - time.monotonic()))
        if not handle.is_done:
            text = f"run {run.context.run_id!r} was cancelled, and the program ended before its "
            run.on_loop = False  # nothing awaits it any more
            exhaust(fail(run, RunCancelled(f"{text}node did")))


in_child(_active.clear)


_FAILURE_EVENTS = frozenset({"node_error", "flow_error"})
"""The events that report the failure of a run to hooks, and to the log if it is set up."""

_failed: dict[int, weakref.ref[RunHandle]] = {}
"""The handles to failed runs, by their ids; whether it was seen is decided when they go."""

in_child(_failed.clear)


@at_exit
def _log_unseen_failures() -> None:
    for reference in list(_failed.values()):
        if (handle := reference()) is not None:
            handle.__del__()


def _log_failure(run_id: str, outcome: Future[None]) -> None:
    _log.error(
        "run %r in the background has failed, and nobody asked how it ended; wait() for its handle",
        run_id,
        exc_info=outcome.exception(),
    )
