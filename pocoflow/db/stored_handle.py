"""A run in any process, watched by what it leaves in its database."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, cast

from pocoflow.errors import RunCancelled, RunFailedError, RunNotFoundError, RunPaused

if TYPE_CHECKING:
    from pocoflow.db.rows import Status
    from pocoflow.db.workflow import WorkflowDB
    from pocoflow.store.store import Store

__all__ = ["StoredRunHandle"]

_FIRST, _LONGEST = 0.02, 0.5
"""Seconds between two looks: at first, and when nothing has happened for a while."""


class StoredRunHandle:
    """One run, in whatever process it is: its status, its end, and a way to stop it.

    Attributes:
        run_id: The run's id.
    """

    def __init__(self, database: WorkflowDB, run_id: str) -> None:
        database.number(run_id)  # says so if there is no such run
        self.run_id = run_id
        self._database = database

    @property
    def status(self) -> Status:
        """The run's status now, as :meth:`WorkflowDB.get_run` has it."""
        return cast("Status", self._row()["status"])

    @property
    def is_done(self) -> bool:
        """Whether nobody runs the run, nor is going to: it has ended, or is paused."""
        return self.status not in ("queued", "running")

    def wait(self, timeout: float | None = None) -> Store[Any]:
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
        for pause in self._pauses(timeout):
            if self.is_done:
                break
            time.sleep(pause)
        return self._end()

    def __await__(self) -> Generator[Any, None, Store[Any]]:
        """Wait on an event loop, which stays free; else like :meth:`wait` without a timeout."""
        return self._waiting().__await__()

    async def _waiting(self) -> Store[Any]:
        import asyncio

        for pause in self._pauses(None):
            if await asyncio.to_thread(lambda: self.is_done):
                break
            await asyncio.sleep(pause)
        return await asyncio.to_thread(self._end)

    def cancel(self) -> bool:
        """Ask the run to stop, as :meth:`WorkflowDB.request_cancel` does."""
        return self._database.request_cancel(self.run_id)

    def _pauses(self, timeout: float | None) -> Iterator[float]:
        until = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST
        while True:
            left = _LONGEST if until is None else until - time.monotonic()
            yield max(0.0, min(pause, left))
            if left <= 0:
                raise TimeoutError(
                    f"run {self.run_id!r} is {self.status} after {timeout:g} seconds; wait again, "
                    "or cancel() it"
                )
            pause = min(2 * pause, _LONGEST)

    def _row(self) -> dict[str, Any]:
        row = self._database.get_run(self.run_id)
        if row is None:
            raise RunNotFoundError(f"run {self.run_id!r} is not in {self._database.path} any more")
        return row

    def _end(self) -> Store[Any]:
        row = self._row()
        status, run_id = row["status"], self.run_id
        if status == "cancelled":
            raise RunCancelled(f"run {run_id!r} was cancelled")
        if status == "paused":
            asked = [one.question for one in self._database.get_questions(run_id) if one.is_open]
            text = f"run {run_id!r} waits for {len(asked)} answer{'' if len(asked) == 1 else 's'}"
            raise RunPaused(text, run_id=run_id, questions=asked)
        if status == "failed":
            told = ": ".join(filter(None, (row["error_type"], row["error_msg"])))
            about = row["error_type"] or "", row["traceback"] or ""
            raise RunFailedError(f"run {run_id!r} failed: {told}", run_id, *about)
        steps = self._database.get_checkpoints(run_id)
        return self._database.load_checkpoint(run_id, steps[-1]["step"] if steps else -1)

    def __repr__(self) -> str:
        return f"<StoredRunHandle {self.run_id!r} {self.status}>"
