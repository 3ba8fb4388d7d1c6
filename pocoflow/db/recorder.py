"""What a running run writes: one transaction per step, on a connection that stays open."""

from __future__ import annotations

import json
import sqlite3
import traceback
from typing import Any

from pocoflow.db.sql import QUERIES
from pocoflow.db.values import ValueWriter
from pocoflow.db.workflow import WorkflowDB, utc_now
from pocoflow.errors import DatabaseBusyError, DatabaseError
from pocoflow.logging import get_logger
from pocoflow.store import Store

__all__ = ["RunRecorder"]

_log = get_logger("db")

_INITIAL = -1


class RunRecorder:
    """Keeps one run in the database, from its row to its last status, under the run's lock.

    The event of a node's start is part of the commit before it, so that a step costs one commit.
    """

    def __init__(self, database: WorkflowDB, run_id: str, store: Store[Any]) -> None:
        self.run_id = run_id
        self._db = database
        self._store = store
        self._values = ValueWriter(f"run {run_id!r}")
        self._run_no = 0
        self._steps = 0

    def begin(self, flow_name: str, token: str, first: str, started: bool = True) -> None:
        """Create the run with its initial store and its first position, and take its lock.

        Raises:
            RunExistsError: The run id is used already.
            DatabaseError: The database cannot be written.
        """
        now = utc_now()
        changes = self._values.changes(self._store, self._store.unsaved)
        try:
            with self._db.connection.transaction() as raw:
                self._run_no = self._db.insert_run(
                    {
                        "run_id": self.run_id,
                        "flow_name": flow_name,
                        "status": "running",
                        "started_at": now,
                        "current_node": first,
                        "owned": 1,
                        "token": token,
                        "store_name": self._store.name,
                    },
                    raw,
                )
                # Before the commit: a reader that sees the row sees its lock, too.
                self._db.locks.hold(self._run_no)
                raw.execute(QUERIES["insert_step"], (self._run_no, _INITIAL, "", now))
                self._values.write(raw, self._run_no, _INITIAL, changes)
                self._position(raw, _INITIAL, first, ())
                self._event(raw, now, "flow_start", _INITIAL + 1, None)
                self._event(raw, now, "node_start", _INITIAL + 1, first)
        except BaseException:
            self._db.locks.release(self._run_no)
            raise
        self._values.accept(changes)

    def step(
        self,
        step: int,
        node: str,
        action: str,
        attempts: int,
        elapsed: float,
        following: str | None,
        note: str | None,
    ) -> bool:
        """Commit a finished step: its checkpoint, events, position and the run's row.

        Args:
            step: The step's number.
            node: The node's name in the graph.
            action: What ``post`` returned.
            attempts: How often ``exec`` was tried.
            elapsed: Seconds the step took.
            following: The node that comes next; ``None`` completes the run.
            note: What a reader of the event log should know, such as an action without an edge.

        Returns:
            Whether somebody asked the run to stop through the database.
        """
        now = utc_now()
        run_no = self._run_no
        changes = self._values.changes(self._store, self._store.unsaved)
        asked = False
        with self._db.connection.transaction() as raw:
            raw.execute(QUERIES["insert_step"], (run_no, step, node, now))
            self._values.write(raw, run_no, step, changes)
            self._event(raw, now, "node_end", step, node, action, elapsed, attempts, note=note)
            if following is None:
                self._event(raw, now, "flow_end", step + 1, None)
                self._finish(raw, now, "completed", step + 1, node, None)
            else:
                self._position(raw, step, following, ())
                self._event(raw, now, "node_start", step + 1, following)
                row = raw.execute(QUERIES["progress"], (step + 1, following, run_no)).fetchone()
                asked = bool(row[0])
        self._values.accept(changes)
        self._steps = step + 1
        if following is None:
            self._db.locks.release(run_no)
        return asked

    def retry(self, step: int, node: str, attempt: int, error: Exception) -> None:
        """Commit a failed attempt that another one follows."""
        with self._db.connection.transaction() as raw:
            self._event(raw, utc_now(), "node_retry", step, node, None, None, attempt, error)

    def end(
        self,
        status: str,
        error: BaseException,
        step: int,
        node: str | None,
        attempts: int,
        elapsed: float,
    ) -> None:
        """Record how the run ended if it did not complete, and give its lock back.

        The lock is given back also when the database cannot be written: the next reader then finds
        the run interrupted. That failure is logged, not raised, so that it does not hide ``error``.
        """
        try:
            now = utc_now()
            with self._db.connection.transaction() as raw:
                if status == "failed":
                    if node is not None:
                        self._event(
                            raw, now, "node_error", step, node, None, elapsed, attempts, error
                        )
                    self._event(raw, now, "flow_error", self._steps, None, error=error)
                else:
                    self._event(raw, now, f"flow_{status}", self._steps, None)
                self._finish(raw, now, status, self._steps, node, error)
        except (DatabaseError, DatabaseBusyError) as exc:
            _log.exception(
                "run %r: its end (%s) could not be recorded: %s", self.run_id, status, exc
            )
        finally:
            self._db.locks.release(self._run_no)

    # -- rows -----------------------------------------------------------------------------------

    def _event(
        self,
        raw: sqlite3.Connection,
        now: str,
        event: str,
        step: int,
        node: str | None,
        action: str | None = None,
        elapsed: float | None = None,
        attempt: int | None = None,
        error: BaseException | None = None,
        note: str | None = None,
    ) -> None:
        kind, message, trace = describe_error(error)
        raw.execute(
            QUERIES["insert_event"],
            (
                self._run_no,
                self.run_id,
                step,
                node,
                event,
                action,
                None if elapsed is None else round(elapsed * 1000, 3),
                note or message,
                now,
                attempt,
                kind,
                trace,
            ),
        )

    def _position(
        self, raw: sqlite3.Connection, step: int, node: str, path: tuple[str, ...]
    ) -> None:
        raw.execute(QUERIES["insert_position"], (self._run_no, step, node, json.dumps(list(path))))

    def _finish(
        self,
        raw: sqlite3.Connection,
        now: str,
        status: str,
        steps: int,
        node: str | None,
        error: BaseException | None,
    ) -> None:
        kind, message, trace = describe_error(error)
        raw.execute(
            QUERIES["finish"],
            {
                "status": status,
                "now": now,
                "steps": steps,
                "node": node,
                "error_type": kind,
                "error_msg": message,
                "traceback": trace,
                "run_no": self._run_no,
            },
        )


def describe_error(error: BaseException | None) -> tuple[str | None, str | None, str | None]:
    """An exception as (type name, message, traceback), all ``None`` without one."""
    if error is None:
        return None, None, None
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = str(error)
    except Exception as exc:  # noqa: BLE001 - an exception whose __str__ fails is still recorded
        message = f"<its message raised {type(exc).__name__}>"
    text = "".join(traceback.format_exception(error))
    return name, message or kind.__name__, text.encode("utf-8", "backslashreplace").decode()
