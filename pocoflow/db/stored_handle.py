"""A handle of a run in any process, which reads the database."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from pocoflow.db.following import CommitWatch
from pocoflow.errors import RunCancelled, RunFailedError, RunNotFoundError, RunPaused
from pocoflow.messages import counted

if TYPE_CHECKING:
    from pocoflow.db.following import Until
    from pocoflow.db.rows import RunRow, Status
    from pocoflow.db.workflow import WorkflowDB
    from pocoflow.graph.event_types import Followed
    from pocoflow.store.store import Store

_SOON, _LONGEST = 0.02, 0.5
"""The seconds between two checks: for commits, and of the process of the run."""


class StoredRunHandle:
    """A run in any process: its status, its result, and a way to stop it.

    Args:
        database: The database of the run.
        run_id: The run's id.
        load: Loads the store after a step; with plain values by default.

    Attributes:
        run_id: The run's id.
    """

    def __init__(
        self,
        database: WorkflowDB,
        run_id: str,
        load: Callable[[str, int], Store] | None = None,
    ) -> None:
        self._run_no = database.number(run_id)  # raises if there is no such run
        self.run_id = run_id
        self._database = database
        self._load = database.load_checkpoint if load is None else load

    @property
    def status(self) -> Status:
        """The current status of the run, as :meth:`WorkflowDB.get_run` returns it."""
        return self._row()["status"]

    @property
    def is_done(self) -> bool:
        """Whether the run is neither at work nor going to be: it has ended, or is paused."""
        return self.status not in ("queued", "running")

    def wait(self, timeout: float | None = None) -> Store:
        """Block until the run has ended or pauses, and return its store.

        Args:
            timeout: Seconds to wait, or ``None`` for as long as it takes.

        Raises:
            TimeoutError: The run is still at work after ``timeout`` seconds.
            RunCancelled: It was cancelled.
            RunPaused: It waits for answers.
            RunFailedError: It failed, or was interrupted.
            RunNotFoundError: It was removed meanwhile.
        """
        for is_due, pause in self._turns(timeout):
            if is_due and self.is_done:
                break
            time.sleep(pause)
        return self._end()

    def __await__(self) -> Generator[Any, None, Store]:
        """Like :meth:`wait` without a timeout, on an event loop, which is not blocked."""
        return self._waiting().__await__()

    async def _waiting(self) -> Store:
        import asyncio

        for is_due, pause in self._turns(None):
            if is_due and await asyncio.to_thread(lambda: self.is_done):
                break
            await asyncio.sleep(pause)
        return await asyncio.to_thread(self._end)

    @property
    def store(self) -> Store:
        """The store after the last committed step.

        Raises:
            RunNotFoundError: The run was removed.
        """
        steps = self._database.get_checkpoints(self.run_id)
        return self._load(self.run_id, steps[-1]["step"] if steps else -1)

    def follow(self, after: int = -1, until: Until = "end") -> Generator[Followed, None, None]:
        """The committed events of the run, as :meth:`WorkflowDB.follow` yields them."""
        return self._database.follow(self.run_id, after, until)

    def follow_async(self, after: int = -1, until: Until = "end") -> AsyncGenerator[Followed, None]:
        """Like :meth:`follow`, on the caller's event loop, which is not blocked."""
        return self._database.follow_async(self.run_id, after, until)

    def cancel(self) -> bool:
        """Ask the run to stop, as :meth:`WorkflowDB.request_cancel` does."""
        return self._database.request_cancel(self.run_id)

    def _turns(self, timeout: float | None) -> Iterator[tuple[bool, float]]:
        """The turns of waiting: whether to check the run, and the pause until the next turn.

        It is checked after commits, and otherwise from time to time, as its process may have died
        unnoticed.
        """
        watch, due = CommitWatch(self._database, self._run_no), 0.0
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            now = time.monotonic()
            left = _LONGEST if until is None else until - now
            is_due = watch.changed() or now >= due
            due = now + _LONGEST if is_due else due
            yield is_due, max(0.0, min(_SOON, left))
            if left <= 0:
                raise TimeoutError(
                    f"run {self.run_id!r} is {self.status} after {timeout:g} seconds; wait again, "
                    "or cancel() it"
                )

    def _row(self) -> RunRow:
        row = self._database.get_run(self.run_id)
        if row is None:
            raise RunNotFoundError(f"run {self.run_id!r} is not in {self._database.path} any more")
        return row

    def _end(self) -> Store:
        row = self._row()
        status, run_id = row["status"], self.run_id
        if status == "cancelled":
            raise RunCancelled(f"run {run_id!r} was cancelled")
        if status == "paused":
            asked = [q.question for q in self._database.get_questions(run_id) if q.is_open]
            text = f"run {run_id!r} waits for {counted(len(asked), 'answer')}"
            if not asked:
                text = (
                    f"run {run_id!r} has its answers, and nobody has gone on with it yet: "
                    f"flow.resume({run_id!r}) or a worker does"
                )
            raise RunPaused(text, run_id=run_id, questions=asked)
        if status == "failed":
            reason = ": ".join(filter(None, (row["error_type"], row["error_msg"])))
            about = row["error_type"] or "", row["traceback"] or ""
            raise RunFailedError(f"run {run_id!r} failed: {reason}", run_id, *about)
        return self.store

    def __repr__(self) -> str:
        return f"<StoredRunHandle {self.run_id!r} {self.status}>"
