"""Resuming stored runs without raising what ends them: for workers, and for ``recover``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from pocoflow.db.rows import Status
from pocoflow.db.workflow import WorkflowDB
from pocoflow.engine.drivers import drive, drive_async
from pocoflow.engine.line import Line
from pocoflow.engine.loop import steps
from pocoflow.errors import DatabaseError, RunLostError, RunNotFoundError, RunPaused, TakenError
from pocoflow.flow.execution import Execution
from pocoflow.flow.resuming import Resuming
from pocoflow.logging import OwnLogger

_log = OwnLogger("flow")

Outcomes: TypeAlias = dict[str, Exception | None]
"""What ended each run, by id; ``None`` for a completed run."""


def carry_on(execution: Execution, database: WorkflowDB, run_id: str) -> Status:
    """Run to the end in this thread, unless another process does; the status after that.

    What ends the run is recorded, and not raised.

    Raises:
        ResumeError: It cannot be resumed: the code of its pending node has changed, for example.
        DatabaseError: Its end could not be recorded.
    """
    try:
        started = execution.start()
        if isinstance(started, tuple):
            with _recorded(database, run_id):
                drive(started[0].context, steps(started[0]))
    except TakenError as exc:
        _log.debug("%s", exc)
    return database.handle(run_id).status


async def carry_on_async(
    execution: Execution, database: Callable[[], WorkflowDB], run_id: str
) -> Status:
    """The same, on the caller's event loop, on which the database is neither opened nor read."""
    import asyncio

    try:
        line = await execution.begin_on_loop()
        if isinstance(line, Line):
            with _recorded(database(), run_id):
                await drive_async(line.context, steps(line))
    except TakenError as exc:
        _log.debug("%s", exc)
    return await asyncio.to_thread(lambda: database().handle(run_id).status)


@contextmanager
def _recorded(database: WorkflowDB, run_id: str) -> Iterator[None]:
    """Log what ends a run instead of raising it.

    Raises:
        DatabaseError: Its end could not be recorded.
    """
    try:
        yield
    except RunLostError as exc:
        _log.warning("%s", exc)
    except Exception as exc:
        run = database.get_run(run_id) if isinstance(exc, DatabaseError) else None
        if run and run["error_type"] == "Interrupted":
            raise
        _log.info("run %r ended with %s: %s", run_id, type(exc).__name__, exc)


def recover(
    resuming: Resuming, database: WorkflowDB, resume: Callable[[str], Execution]
) -> Outcomes:
    """Resume every run of a flow that can be resumed, one after another, in this thread."""
    outcomes: Outcomes = {}
    for run_id in _to_recover(resuming, database):
        with _recorded_in(outcomes, run_id):
            resume(run_id).run()
    return outcomes


async def recover_async(
    resuming: Resuming, database: Callable[[], WorkflowDB], resume: Callable[[str], Execution]
) -> Outcomes:
    """The same, on the caller's event loop, on which the database is neither opened nor read."""
    import asyncio

    outcomes: Outcomes = {}
    for run_id in await asyncio.to_thread(lambda: _to_recover(resuming, database())):
        with _recorded_in(outcomes, run_id):
            await resume(run_id).run_async()
    return outcomes


def _to_recover(resuming: Resuming, database: WorkflowDB) -> list[str]:
    names = dict.fromkeys(resuming.names)
    return [run_id for name in names for run_id in database.runs_to_recover(name)]


@contextmanager
def _recorded_in(outcomes: Outcomes, run_id: str) -> Iterator[None]:
    """Store how a recovered run ended, so that the others can be resumed."""
    try:
        yield
    except (TakenError, RunNotFoundError) as exc:
        # Another process may have resumed it while the runs before it were executed.
        _log.info("run %r is left to others: %s", run_id, exc)
    except RunPaused as exc:
        outcomes[run_id] = exc
    except Exception as exc:  # noqa: BLE001 - returned; the others are resumed
        _log.warning("run %r could not be recovered: %s", run_id, exc)
        outcomes[run_id] = exc
    else:
        outcomes[run_id] = None
