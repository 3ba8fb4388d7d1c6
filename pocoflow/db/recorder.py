"""What a running run writes: one transaction per step, on a connection that stays open."""

from __future__ import annotations

import json
import sqlite3
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocoflow import codec
from pocoflow.db.sql import QUERIES, event_ids
from pocoflow.db.values import ValueWriter
from pocoflow.db.workflow import WorkflowDB, utc_now
from pocoflow.errors import (
    CheckpointNotFoundError,
    DatabaseError,
    NotStorableError,
    ResumeError,
)
from pocoflow.graph import label
from pocoflow.logging import get_logger
from pocoflow.store import Store

__all__ = ["Position", "RunRecorder"]

_log = get_logger("db")

_INITIAL = -1


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stored run goes on.

    Attributes:
        step: The last committed step; -1 if none is.
        node: The node that comes next; ``None`` if the run is at its end.
        path: Names of the flow nodes around it.
        journal: Results of ``exec`` of the next step that are finished, encoded, by item (-1 for
            a node that is not a batch).
    """

    step: int
    node: str | None
    path: tuple[str, ...]
    journal: Mapping[int, str]


class RunRecorder:
    """Keeps one run in the database, from its row to its last status, under the run's lock.

    The event of a node's start is part of the commit before it, so that a step costs one commit,
    and one more for the result of its ``exec``.
    """

    _run_no = 0  # __del__ looks at it even if __init__ was interrupted

    def __init__(self, database: WorkflowDB, run_id: str) -> None:
        self.run_id = run_id
        self._db = database
        self._values = ValueWriter(f"run {run_id!r}")
        self._store: Store[Any] = Store()
        self._claim = object()
        self._steps = 0
        self._journaled = False
        self._told: set[str] = set()
        self._items: list[tuple[int, int, int, str]] = []
        self._items_due = False
        self._items_guard = threading.Lock()
        self._items_writing = threading.Lock()

    # -- the beginning ------------------------------------------------------------------------

    def begin(
        self,
        store: Store[Any],
        flow_name: str,
        token: str,
        first: tuple[str, tuple[str, ...]],
        graph: str,
    ) -> None:
        """Create the run with its initial store and its first position, and take its lock.

        Raises:
            RunExistsError: The run id is used already.
            DatabaseError: The database cannot be written.
        """
        row = {
            "status": "running",
            "started_at": utc_now(),
            "current_node": label(*first),
            "owned": 1,
            "token": token,
        }
        self.create(store, {**row, "flow_name": flow_name}, *first, graph)

    def create(
        self,
        store: Store[Any],
        row: Mapping[str, Any],
        first: str | None,
        path: tuple[str, ...],
        graph: str | None,
    ) -> None:
        """Create the run's row, initial store and position in one transaction.

        Raises:
            RunExistsError: The run id is used already.
            DatabaseError: The database cannot be written.
        """
        self._store = store
        now = utc_now()
        changes = self._values.changes(store)
        owned = bool(row.get("owned"))
        try:
            with self._db.connection.transaction() as raw:
                given = {"run_id": self.run_id, "store_name": store.name, **row}
                if graph is not None:
                    given["graph_no"] = _graph_number(raw, graph)
                self._run_no = self._db.insert_run(given, raw)
                if owned:
                    # Before the commit: a reader that sees the row sees its lock, too.
                    self._db.locks.hold(self._run_no, self._claim)
                raw.execute(QUERIES["insert_step"], (self._run_no, _INITIAL, "", now))
                self._values.write(raw, self._run_no, _INITIAL, changes)
                if first is not None:
                    self._position(raw, _INITIAL, first, path)
                if owned:
                    self._event(raw, now, "flow_start", 0, None)
                    self._event(raw, now, "node_start", 0, label(first or "", path))
        except BaseException:
            self.let_go()
            raise
        self._values.accept(changes)

    def claim(self) -> Position:
        """Take the lock of a stored run that this process wants to go on with, and read where.

        From here on no other process can go on with it; :meth:`go_on` or :meth:`let_go` follows.

        Raises:
            RunNotFoundError: There is no such run.
            ResumeError: It is completed, or alive in this or another process.
        """
        self._run_no = self._db.number(self.run_id)
        if not self._db.locks.hold(self._run_no, self._claim, patience=0.2):
            raise ResumeError(
                f"run {self.run_id!r} is running, here or in another process; a run is resumed "
                "when nobody runs it"
            )
        try:
            row = self._db.get_run(self.run_id) or {}
            if row.get("status") == "completed":
                raise ResumeError(
                    f"run {self.run_id!r} is completed, so there is nothing to resume; fork() "
                    "makes a new run from any of its steps"
                )
            return self.position()
        except BaseException:
            self.let_go()
            raise

    def position(self, step: int | None = None) -> Position:
        """Where the run goes on after a step; after its last one by default.

        Raises:
            CheckpointNotFoundError: The run has no checkpoint of that step.
            ResumeError: It was written by a version that did not record where a run goes on.
        """
        self._run_no = self._run_no or self._db.number(self.run_id)
        connection = self._db.connection
        last = connection.row(QUERIES["last_step"], (self._run_no,))
        if step is None:
            step = last[0] if last is not None and last[0] is not None else _INITIAL
        if connection.row(QUERIES["has_step"], (self._run_no, step)) is None:
            raise CheckpointNotFoundError(
                f"run {self.run_id!r} in database {self._db.path} has no checkpoint of step {step}"
            )
        rows = connection.rows(QUERIES["positions_at"], (self._run_no, step))
        journal = connection.rows(QUERIES["journal_of_step"], (self._run_no, step + 1))
        return Position(
            step,
            rows[0]["node"] if rows else None,
            tuple(json.loads(rows[0]["path"])) if rows else (),
            {one["item"]: one["value"] for one in journal},
        )

    def go_on(
        self, store: Store[Any], stored: Store[Any], position: Position, node: str, graph: str
    ) -> None:
        """Set a claimed run running again.

        Args:
            store: The store of the run from now on.
            stored: The store as it is in the database.
            position: Where it goes on, as :meth:`claim` gave it.
            node: The label, now, of the node that comes next.
            graph: The fingerprint of the flow as it is now.

        Raises:
            DatabaseError: The database cannot be written.
        """
        self._store = store
        self._steps = position.step + 1
        self._journaled = bool(position.journal)
        now = utc_now()
        with self._db.connection.transaction() as raw:
            self._values.load(raw, self._run_no, stored)
            number = _graph_number(raw, graph)
            raw.execute(QUERIES["claim"], (node, number, now, self._run_no))
            self._event(raw, now, "flow_resume", self._steps, None)
            self._event(raw, now, "node_start", self._steps, node)

    def let_go(self) -> None:
        """Give the lock of the run back; its status stays what it was."""
        if self._run_no:
            self._db.locks.release(self._run_no, self._claim)

    def __del__(self) -> None:
        # A Ctrl-C between the first commit and the first node leaves nobody to record it.
        self.let_go()

    # -- a step -------------------------------------------------------------------------------

    def journal(self, step: int, node: str, result: Any, item: int = -1) -> None:
        """Commit the result of a finished ``exec``, so that nobody pays for it again.

        A result that cannot be stored is told to the log, once per node: after a crash its
        ``exec`` is called again.

        Raises:
            DatabaseError: The database cannot be written.
        """
        text = self._encoded(node, result)
        if text is None:
            return
        with self._db.connection.transaction() as raw:
            raw.execute(QUERIES["insert_journal"], (self._run_no, step, item, text))
        self._journaled = True

    def _encoded(self, node: str, result: Any) -> str | None:
        try:
            return codec.dumps(result)
        except NotStorableError as exc:
            if node not in self._told:
                self._told.add(node)
                _log.warning(
                    "run %r: the result of exec of node %r cannot be stored and would be computed "
                    "again after a crash: %s",
                    self.run_id,
                    node,
                    exc,
                )
        return None

    def keep_item(self, step: int, node: str, result: Any, item: int) -> bool:
        """Keep the result of an item for the next commit; ``True`` if a commit must be begun."""
        text = self._encoded(node, result)
        if text is None:
            return False
        with self._items_guard:
            self._items.append((self._run_no, step, item, text))
            begin, self._items_due = not self._items_due, True
        return begin

    def write_items(self) -> None:
        """Commit all items that were kept, together; also those kept while it commits.

        Waits for a commit that another thread has begun.

        Raises:
            DatabaseError: The database cannot be written; the items are kept for the next call.
        """
        with self._items_writing:
            while rows := self._take_items():
                try:
                    with self._db.connection.transaction() as raw:
                        raw.executemany(QUERIES["insert_journal"], rows)
                except BaseException:
                    with self._items_guard:
                        self._items, self._items_due = rows + self._items, False
                    raise
                self._journaled = True

    def _take_items(self) -> list[tuple[int, int, int, str]]:
        with self._items_guard:
            rows, self._items = self._items, []
            self._items_due = bool(rows)
        return rows

    def step(
        self,
        step: int,
        node: str,
        path: tuple[str, ...],
        action: str,
        attempts: int,
        elapsed: float,
        following: str | None,
        following_path: tuple[str, ...],
        note: str | None,
    ) -> bool:
        """Commit a finished step: its checkpoint, events, position and the run's row.

        Args:
            step: The step's number.
            node: The node's name in its graph.
            path: Names of the nested flows around it.
            action: What ``post`` returned.
            attempts: How often ``exec`` was tried.
            elapsed: Seconds the step took.
            following: The node that comes next; ``None`` completes the run.
            following_path: Names of the nested flows around that.
            note: What a reader of the event log should know, such as an action without an edge.

        Returns:
            Whether somebody asked the run to stop through the database.

        Raises:
            InvalidValueError: A value was changed in place into something that does not fit.
            DatabaseError: The database cannot be written.
        """
        now = utc_now()
        run_no = self._run_no
        changes = self._values.changes(self._store)
        asked = False
        node = label(node, path)
        with self._db.connection.transaction() as raw:
            raw.execute(QUERIES["insert_step"], (run_no, step, node, now))
            self._values.write(raw, run_no, step, changes)
            if self._journaled:
                raw.execute(QUERIES["clear_journal"], (run_no, step))
            self._event(raw, now, "node_end", step, node, action, elapsed, attempts, note=note)
            if following is None:
                self._event(raw, now, "flow_end", step + 1, None)
                self._finish(raw, now, "completed", step + 1, node, None)
            else:
                self._position(raw, step, following, following_path)
                coming = label(following, following_path)
                self._event(raw, now, "node_start", step + 1, coming)
                row = raw.execute(QUERIES["progress"], (step + 1, coming, run_no)).fetchone()
                asked = bool(row[0])
        self._values.accept(changes)
        self._journaled = False
        self._steps = step + 1
        if following is None:
            self.let_go()
        return asked

    def retry(self, step: int, node: str, attempt: int, error: Exception) -> None:
        """Commit a failed attempt that another one follows."""
        with self._db.connection.transaction() as raw:
            self._event(raw, utc_now(), "node_retry", step, node, attempt=attempt, error=error)

    # -- the end ------------------------------------------------------------------------------

    def end(
        self,
        status: str,
        error: BaseException,
        step: int,
        node: str | None,
        attempts: int,
        elapsed: float,
    ) -> bool:
        """Record how the run ended if it did not complete, and give its lock back.

        The lock is given back also when the database cannot be written: the next reader then finds
        the run interrupted. That failure is logged, not raised, so that it does not hide ``error``.

        Returns:
            Whether the run ended so. ``False`` if its last commit had completed it already: a
            Ctrl-C during a commit is raised after it.
        """
        try:
            now = utc_now()
            with self._db.connection.transaction() as raw:
                row = raw.execute(QUERIES["standing"], (self._run_no,)).fetchone()
                if row is None or row["status"] == "completed":
                    return False
                self._steps = row["total_steps"]
                if status == "failed":
                    if node is not None:
                        self._event(
                            raw, now, "node_error", step, node, None, elapsed, attempts, error
                        )
                    self._event(raw, now, "flow_error", self._steps, None, error=error)
                else:
                    self._event(raw, now, f"flow_{status}", self._steps, None)
                self._finish(raw, now, status, self._steps, node, error)
        except DatabaseError as exc:
            _log.exception(
                "run %r: its end (%s) could not be recorded: %s", self.run_id, status, exc
            )
        finally:
            self.let_go()
        return True

    # -- rows ---------------------------------------------------------------------------------

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
        first, last = event_ids(self._run_no)
        raw.execute(
            QUERIES["insert_event"],
            (
                first,
                first,
                last,
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
        row = (self._run_no, step, node, json.dumps(list(path)) if path else "[]")
        raw.execute(QUERIES["insert_position"], row)

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


def _graph_number(raw: sqlite3.Connection, graph: str) -> int:
    row = raw.execute(QUERIES["graph_number"], (graph,)).fetchone()
    if row is None:
        raw.execute(QUERIES["insert_graph"], (graph,))
        row = raw.execute(QUERIES["graph_number"], (graph,)).fetchone()
    return int(row[0])


def describe_error(error: BaseException | None) -> tuple[str | None, str | None, str | None]:
    """An exception as (type name, message, traceback), all ``None`` without one."""
    if error is None:
        return None, None, None
    kind = type(error)
    home = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    try:
        message = str(error)
    except Exception as exc:  # noqa: BLE001 - an exception whose __str__ fails is still recorded
        message = f"<its message raised {type(exc).__name__}>"
    trace = "".join(traceback.format_exception(error))
    return home + kind.__qualname__, _text(message or kind.__name__), _text(trace)


def _text(text: str) -> str:
    """Text that SQLite can hold: a lone surrogate is written as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()
