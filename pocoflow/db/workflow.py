"""``WorkflowDB``: the database of runs, events and checkpoints."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Self, cast

from typing_extensions import TypedDict, Unpack

from pocoflow.address import check_id, check_name
from pocoflow.cleanup import at_exit, finish, leave
from pocoflow.db.checkpoints import Checkpoints
from pocoflow.db.clock import in_utc
from pocoflow.db.connection import Connection
from pocoflow.db.expenses import Expense, expenses_of
from pocoflow.db.following import Following
from pocoflow.db.locks import RunLocks
from pocoflow.db.log import Kind, append_foreign
from pocoflow.db.port import Locks, Record, Transaction
from pocoflow.db.postgres import is_server, open_server
from pocoflow.db.process_forks import close_all
from pocoflow.db.question_rows import Questions
from pocoflow.db.retention import ENDED, Retention, RunsOf, check_filters, check_status
from pocoflow.db.rows import EventRow, RunRow, Status, as_dict, check_given
from pocoflow.db.sql import INTERRUPTED, QUERIES
from pocoflow.db.sqlite import SQLiteConnection, Synchronous
from pocoflow.db.stored_handle import StoredRunHandle
from pocoflow.errors import DatabaseError, DefinitionError, RunExistsError
from pocoflow.logging import OwnLogger
from pocoflow.messages import closest, short
from pocoflow.nodes.call_checks import first_and_keywords
from pocoflow.nodes.setting_checks import is_time
from pocoflow.nodes.spending import sum_of
from pocoflow.values.callables import lists_keywords
from pocoflow.values.encoding import to_json
from pocoflow.values.failures import escaped

_log = OwnLogger("db")


class Settable(TypedDict, total=False, closed=True):
    """The columns that :meth:`WorkflowDB.update_run` sets."""

    status: Status
    flow_name: str
    started_at: str | None
    completed_at: str | None
    total_steps: int
    current_node: str | None
    error_msg: str | None
    error_type: str | None
    traceback: str | None


class Listed(RunsOf, total=False):
    """The runs that :meth:`WorkflowDB.list_runs` returns."""

    status: Status | None
    text: str | None
    since: str | None
    before: int | None


class WorkflowDB(Questions, Checkpoints, Following, Retention):
    """Runs, their events and their checkpoints in one SQLite file, or on a PostgreSQL server.

    The file is created (private, mode 0600) if it does not exist. A file of version 0.2.1 is only
    read until the first write, which migrates it, see :meth:`migrate`. One connection stays open
    until :meth:`close`; threads may share the object. Not for network file systems: SQLite's locks
    do not work there.

    Args:
        path: The file; ``":memory:"`` for a database that lives as long as this object; or the URL
            of a server, ``postgresql://user@host/database``. A password in it is never shown.
        synchronous: ``"FULL"`` (the default): committed data survives a killed process and a
            power cut. ``"NORMAL"``: it survives a killed process; a power cut may lose the last
            steps, never consistency.
        busy_timeout: Seconds to wait for another writer.
        read_only: Never write, create or migrate anything; an older layout can still be read.
        lease: On a server, seconds after which others may resume the runs of a process that has
            not renewed its leases; 15 by default.

    Raises:
        DefinitionError: An argument makes no sense, or psycopg is not installed.
        DatabaseLostError: The server cannot be reached.
        DatabaseFileError: The file cannot be opened, or is not a database of this library; or the
            server refuses the user.
    """

    @first_and_keywords
    def __init__(
        self,
        path: str | os.PathLike[str] = "pocoflow.db",
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout: float = 30.0,
        read_only: bool = False,
        lease: float | None = None,
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise DefinitionError(
                f"WorkflowDB({short(path)}): a database is the path of a file, a str or a Path, or "
                "the URL of a server"
            )
        if synchronous not in ("FULL", "NORMAL"):
            raise DefinitionError(f"synchronous is 'FULL' or 'NORMAL', not {synchronous!r}")
        if busy_timeout != 0 and not is_time(busy_timeout):
            raise DefinitionError(
                f"WorkflowDB(busy_timeout={short(busy_timeout)}): seconds, a number from 0 on"
            )
        finish()  # garbage releases its descriptors before more are needed
        self.connection: Connection
        self.locks: Locks
        if is_server(path):
            self.connection, self.locks = open_server(
                os.fspath(path),
                synchronous=synchronous,
                busy_timeout=busy_timeout,
                read_only=read_only,
                lease=lease,
            )
        else:
            if lease is not None:
                raise DefinitionError(
                    f"WorkflowDB(lease={lease!r}): for a PostgreSQL server; in a file, what a "
                    "process runs is free as soon as it ends"
                )
            file = SQLiteConnection(
                path, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only
            )
            self.connection, self.locks = file, RunLocks(file.file)
            file.when_disturbed = self.locks.renew
        close = partial(_close, self.connection, self.locks)
        self._finalizer = weakref.finalize(self, leave, close)
        self._finalizer.atexit = False

    def close(self) -> None:
        """Close the connection; garbage collection also does so, soon after."""
        if self._finalizer.detach() is not None:
            _close(self.connection, self.locks)

    @property
    def is_new(self) -> bool:
        """Whether the database did not exist, and opening this has created it."""
        return self.connection.is_new

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"WorkflowDB({self.path!r})"

    # -- runs -----------------------------------------------------------------------------------

    def create_run(self, run_id: str, flow_name: str = "") -> None:
        """Record a run that something else executes; its status is ``"running"`` until updated.

        Raises:
            DefinitionError: The id, or the name, cannot be stored.
            RunExistsError: The id is used already.
        """
        row = {"run_id": run_id, "flow_name": flow_name, "status": "running"}
        self.insert_run(row | {"started_at": self.connection.now()})

    def insert_run(self, row: Mapping[str, object], raw: Transaction | None = None) -> int:
        """Insert a run, in the caller's transaction if it has one, and return its number.

        Raises:
            RunExistsError: The id is used already.
        """
        if raw is None:
            with self.writing() as raw:
                return self.insert_run(row, raw)
        check_name("the id of a run", row["run_id"])
        if row.get("flow_name"):
            check_name("the name of a flow", row["flow_name"])
        cursor = raw.execute(QUERIES["insert_run"], {**_NEW_RUN, **row})
        if cursor.rowcount != 1:
            existing = raw.execute(QUERIES["run_by_id"], (row["run_id"],)).fetchone()
            state = ""
            if existing is not None and existing["status"] == "completed":
                state = ", which is completed"
            elif existing is not None and self.locks.is_held(existing["run_no"]):
                state = ", which is running, here or in another process"
            is_of_flow, is_new = "inputs" in row, row.get("inputs") is not None
            resuming = f", or go on with that run: flow.resume({row['run_id']!r})"
            arguments = f"run_id={row['run_id']!r}, if_exists='join'"
            joining = f"; or, if the same run is meant, run or submit with {arguments}"
            raise RunExistsError(
                f"database {self.path} has a run {row['run_id']!r} already{state}; use another id"
                f"{resuming if is_of_flow and not state else ''}{joining if is_new else ''}"
            )
        return int(cursor.lastrowid or 0)

    @lists_keywords(Settable)
    def update_run(self, run_id: str, **columns: Unpack[Settable]) -> None:
        """Set columns of a run. Times are ISO-8601 texts; those with an offset are stored in UTC.

        Raises:
            RunNotFoundError: There is no such run.
            DefinitionError: A column cannot be set, the status is not one of ``STATUSES``, or a
                time is not one.
        """
        known = Settable.__annotations__
        for column in columns:
            if column not in known:
                raise DefinitionError(
                    f"update_run: pf_runs has no settable column {column!r}"
                    f"{closest(column, known)} (columns: {', '.join(known)})"
                )
        check_status("update_run", columns.get("status", "queued"))
        values: dict[str, object] = {**columns}
        check_given("update_run", **values)
        for column in ("started_at", "completed_at"):
            if isinstance(time := columns.get(column), str):
                check_filters("update_run", {column: time}, RunRow)
                values[column] = in_utc(time).isoformat()
        texts = {column: escaped(value) for column, value in values.items() if type(value) is str}
        run_no = self.number(run_id)
        if columns:
            sets = ", ".join(f"{column} = ?" for column in columns)
            with self.writing() as raw:
                raw.execute(
                    f"UPDATE pf_run SET {sets} WHERE run_no = ?",  # noqa: S608 - names checked above
                    (*{**values, **texts}.values(), run_no),
                )

    def get_run(self, run_id: str) -> RunRow | None:
        """The run's row, or ``None``. A run whose process has ended is shown as failed."""
        check_id(run_id)
        row = self.connection.row(QUERIES["run_by_id"], (run_id,))
        return None if row is None else self._truthful(row)

    @lists_keywords(Listed)
    def list_runs(self, limit: int = 100, **only: Unpack[Listed]) -> list[RunRow]:
        """The newest runs, last created first. A run whose process has ended is shown as failed.

        Args:
            limit: The maximum number of runs.
            **only: ``status``: only runs with this one of ``STATUSES``. ``flow_name``: only
                runs of this flow. ``text``: only runs with this in their id, flow, current node,
                error, parent's id or run thread; the case of ASCII letters does not matter.
                ``since``: only runs started at or after this ISO-8601 time, which is in UTC unless
                it has an offset. ``before``: only runs created before the run of this ``run_no``:
                the next page. ``thread``: only runs of this run thread; of all flows,
                unless ``flow_name`` is given. ``labels``: only runs that have all of these.

        Raises:
            DefinitionError: There is no such status, or an argument is of another type.
        """
        check_filters("list_runs", only, Listed, limit=limit)
        status, labels, since = only.get("status"), only.get("labels"), only.get("since")
        if status is not None:
            check_status("list_runs", status)
        if all(value in (None, {}) for value in only.values()):
            rows = self.connection.rows(QUERIES["runs_newest_first"], (limit,))
            return [self._truthful(row) for row in rows]
        # A run stored as running may turn out to be failed, so it is read for both.
        stored = "running" if status == "failed" else status
        parameters: dict[str, object] = {"status": stored, "or_status": status, "limit": limit}
        parameters |= {"text": only.get("text"), "thread": only.get("thread"), "since": None}
        if since is not None:
            # A prefix of every text of the same time, or day.
            moment = in_utc(since).replace(tzinfo=None)
            parameters["since"] = moment.isoformat().removesuffix("T00:00:00")
        parameters |= {"flow": only.get("flow_name"), "labels": to_json(dict(labels or {}))}
        query = "runs_matching" if status is None else "runs_of_status"
        if parameters["thread"] is not None:
            query = "runs_of_thread"
        elif labels:
            query = "runs_labelled"
            parameters["key"], parameters["value"] = next(iter(labels.items()))
        listed: list[RunRow] = []
        before = only.get("before")
        last = (1 << 63) - 1 if before is None else before
        while len(listed) < limit:
            rows = self.connection.rows(QUERIES[query], {**parameters, "before": last})
            runs = map(self._truthful, rows)
            listed += [run for run in runs if status is None or run["status"] == status]
            if len(rows) < limit:
                break
            last = rows[-1]["run_no"]
        return listed[:limit]

    def handle(self, run_id: str) -> StoredRunHandle:
        """A handle of a run in any process: its status, its result, and a way to stop it.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return StoredRunHandle(self, run_id)

    def request_cancel(self, run_id: str) -> bool:
        """Ask a run, in any process, to stop after its current step.

        A run that no process runs, as it is queued, paused or interrupted, is cancelled at once.

        Returns:
            Whether the run was cancelled, or is running and was asked.

        Raises:
            RunNotFoundError: There is no such run.
        """
        number = self.number(run_id)
        run = self.get_run(run_id)
        if run is None or (run["status"] in ENDED and run["error_type"] != "Interrupted"):
            return False
        with self.writing(number) as raw:
            if raw.execute(QUERIES["request_cancel"], (run_id,)).fetchone() is not None:
                return True
            now = self.connection.now()
            row = raw.execute(QUERIES["cancel_waiting"], (now, number)).fetchone()
            if row is not None:
                append_foreign(raw, number, Kind.CANCELLED, row[0], at=self.connection.micros())
            return row is not None

    def _truthful(self, row: Record) -> RunRow:
        run = _run(row)
        if run["owned"] and run["status"] == "running" and not self.locks.is_held(run["run_no"]):
            # The run may have ended by itself between our read and the check of the lock.
            again = self.connection.row(QUERIES["run_by_id"], (run["run_id"],))
            run = _run(again) if again is not None else run
            if run["owned"] and run["status"] == "running":
                run["status"], run["error_type"] = "failed", "Interrupted"
                run["error_msg"] = INTERRUPTED
                self._persist_interrupted(run)
        return run

    def runs_to_recover(self, flow_name: str) -> list[str]:
        """The ids of the flow's runs that can be resumed and that no process runs, oldest first.

        Those whose process ended before they did, and those that are paused with an answer, or a
        question past its deadline.
        """
        parameters = {"flow": flow_name, "now": self.connection.now()}
        rows = self.connection.rows(QUERIES["runs_to_recover"], parameters)
        runs = [self._truthful(row) for row in rows]
        return [
            run["run_id"]
            for run in runs
            if run["status"] == "paused" or run["error_type"] == "Interrupted"
        ]

    def _persist_interrupted(self, run: RunRow) -> None:
        """Record what was derived, if possible without waiting: a read must not fail for it."""
        if self.connection.read_only:
            return
        try:
            with self.connection.transaction(patient=False) as raw:
                # A resume takes the lock of the run before it writes, so none is missed.
                if not self.locks.is_held(run["run_no"]):
                    facts = {key: run[key] for key in ("error_msg", "error_type", "run_no")}
                    raw.execute(QUERIES["interrupted"], facts)
        except DatabaseError as exc:
            _log.debug("run %r: not yet written down as interrupted: %s", run["run_id"], exc)

    def migrate(self, *, close_running: bool = False) -> Path | None:
        """Migrate a file of version 0.2.1 to the current layout, after copying it.

        The first write does the same. It is one transaction: until its end, and if it fails, the
        file is unchanged. Programs of 0.2.1 cannot use the file afterwards.

        Args:
            close_running: Record the runs with the status running as interrupted, because no
                process of 0.2.1 is at work any more.

        Returns:
            The copy, ``FILE-0.2.1``, or with a number appended; ``None`` if the file has the
            current layout already.

        Raises:
            DatabaseFileError: A run has the status running; a row is damaged; no copy can be made;
                or the database was opened read-only.
        """
        self._refuse_read_only()
        return self.connection.migrate(close_running=close_running)

    # -- events ---------------------------------------------------------------------------------

    def save_event(
        self,
        run_id: str,
        event: str,
        step: int | None = None,
        node_name: str | None = None,
        action: str | None = None,
        elapsed_ms: float | None = None,
        error_msg: str | None = None,
    ) -> None:
        """Append an event to a run's log.

        Raises:
            RunNotFoundError: There is no such run.
            DefinitionError: An argument is of another type.
        """
        check_given("save_event", event=event, step=step, node_name=node_name, action=action)
        check_given("save_event", elapsed_ms=elapsed_ms, error_msg=error_msg)
        node, shown, message = (
            None if text is None else escaped(text) for text in (node_name, action, error_msg)
        )
        number = self.number(run_id)
        elapsed = None if elapsed_ms is None else round(elapsed_ms * 1000)
        facts = {"node": node, "action": shown, "elapsed": elapsed, "message": message}
        facts["at"] = self.connection.micros()
        with self.writing(number) as raw:
            append_foreign(raw, number, Kind.EVENT, step, event=escaped(event), **facts)

    def get_account(self, run_id: str) -> dict[str, Decimal]:
        """What a run has spent by now, by name.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return dict(sum_of(expense.amounts for expense in self.get_expenses(run_id)))

    def get_expenses(self, run_id: str) -> list[Expense]:
        """The expenses of a run, each with its step, attempt and call.

        Raises:
            RunNotFoundError: There is no such run.
        """
        expenses = expenses_of(self.connection, self.number(run_id))
        return [expense for expense in expenses if expense.amounts]

    def get_events(self, run_id: str) -> list[EventRow]:
        """The events of a run in order.

        Raises:
            RunNotFoundError: There is no such run.
        """
        self.number(run_id)  # raises if there is no such run
        rows = self.connection.rows(QUERIES["events_of_run"], (run_id,))
        return cast("list[EventRow]", [as_dict(row) for row in rows])


_NEW_RUN: dict[str, object] = {
    "flow_name": "",
    "status": "queued",
    "started_at": None,
    "due_at": None,
    "current_node": None,
    "owned": 0,
    "fence": 0,
    "token": "",
    "store_name": "",
    "parent_run_id": None,
    "parent_step": None,
    "graph_no": None,
    "thread": None,
    "inputs": None,
}


def _run(row: Record) -> RunRow:
    run = as_dict(row)
    # JSON that SQLite has just generated.
    labels = row["labels"]
    run["labels"] = {} if labels == "{}" else json.loads(labels)
    return cast("RunRow", run)


def _close(connection: Connection, locks: Locks) -> None:
    connection.close()
    locks.close()


at_exit(close_all)
