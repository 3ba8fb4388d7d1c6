"""A run in any process, watched by what it leaves in its database."""

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
"""Seconds between two looks: whether something was committed, and at the process of the run."""


class StoredRunHandle:
    """One run, in whatever process it is: its status, its end, and a way to stop it.

    Args:
        database: Where it is.
        run_id: The run's id.
        load: Gives the store as it was after a step; plain values by default.

    Attributes:
        run_id: The run's id.
    """

    def __init__(
        self,
        database: WorkflowDB,
        run_id: str,
        load: Callable[[str, int], Store] | None = None,
    ) -> None:
        self._run_no = database.number(run_id)  # says so if there is no such run
        self.run_id = run_id
        self._database = database
        self._load = database.load_checkpoint if load is None else load

    @property
    def status(self) -> Status:
        """The run's status now, as :meth:`WorkflowDB.get_run` has it."""
        return self._row()["status"]

    @property
    def is_done(self) -> bool:
        """Whether nobody runs the run, nor is going to: it has ended, or is paused."""
        return self.status not in ("queued", "running")

    def wait(self, timeout: float | None = None) -> Store:
        """Block until the run has ended or pauses, and return its store.

        Args:
            timeout: Seconds to wait, or ``None`` for as long as it takes.

        Raises:
            TimeoutError: The run still goes on after ``timeout`` seconds.
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
        """Wait on an event loop, which stays free; else like :meth:`wait` without a timeout."""
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
        """The store as it is after the last step that is committed.

        Raises:
            RunNotFoundError: The run was removed.
        """
        steps = self._database.get_checkpoints(self.run_id)
        return self._load(self.run_id, steps[-1]["step"] if steps else -1)

    def follow(self, after: int = -1, until: Until = "end") -> Generator[Followed, None, None]:
        """The committed events of the run, as :meth:`WorkflowDB.follow` gives them."""
        return self._database.follow(self.run_id, after, until)

    def follow_async(self, after: int = -1, until: Until = "end") -> AsyncGenerator[Followed, None]:
        """Like :meth:`follow`, on the caller's event loop, which stays free."""
        return self._database.follow_async(self.run_id, after, until)

    def cancel(self) -> bool:
        """Ask the run to stop, as :meth:`WorkflowDB.request_cancel` does."""
        return self._database.request_cancel(self.run_id)

    def _turns(self, timeout: float | None) -> Iterator[tuple[bool, float]]:
        """The turns of waiting: whether to look at the run, and how long to wait for the next one.

        It is looked at when something was committed, and else now and then, as its process may have
        died unseen.
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
            asked = [one.question for one in self._database.get_questions(run_id) if one.is_open]
            text = f"run {run_id!r} waits for {counted(len(asked), 'answer')}"
            if not asked:
                text = (
                    f"run {run_id!r} has its answers, and nobody has gone on with it yet: "
                    f"flow.resume({run_id!r}) or a worker does"
                )
            raise RunPaused(text, run_id=run_id, questions=asked)
        if status == "failed":
            told = ": ".join(filter(None, (row["error_type"], row["error_msg"])))
            about = row["error_type"] or "", row["traceback"] or ""
            raise RunFailedError(f"run {run_id!r} failed: {told}", run_id, *about)
        return self.store

    def __repr__(self) -> str:
        return f"<StoredRunHandle {self.run_id!r} {self.status}>"
