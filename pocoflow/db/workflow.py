"""``WorkflowDB``: the database of runs, events and checkpoints."""

from __future__ import annotations

import json
import os
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Self

from pydantic import BaseModel
from typing_extensions import TypeVar

from pocoflow import codec
from pocoflow.db.clock import utc_now
from pocoflow.db.connection import Connection, Synchronous
from pocoflow.db.locks import RunLocks
from pocoflow.db.prune import ENDED, prune
from pocoflow.db.questions import (
    Asked,
    choose,
    keep_answer,
    open_questions,
    questions_of,
    refuse_closed,
    refuse_late,
)
from pocoflow.db.sql import QUERIES, event_ids
from pocoflow.db.values import ValueWriter, read_store
from pocoflow.errors import (
    CheckpointNotFoundError,
    DatabaseError,
    DatabaseFileError,
    DefinitionError,
    RunExistsError,
    RunNotFoundError,
)
from pocoflow.logging import get_logger
from pocoflow.schema import closest
from pocoflow.store import Store, schema_types

__all__ = ["INTERRUPTED", "STATUSES", "CheckpointRow", "WorkflowDB"]

_log = get_logger("db")

ModelT = TypeVar("ModelT", bound=BaseModel, default=Any)

STATUSES = ("queued", "running", "paused", "completed", "failed", "cancelled")

INTERRUPTED = (
    "interrupted: its process ended, or lost the database, before the end of the run was on record"
)

_SETTABLE = (
    "status",
    "flow_name",
    "started_at",
    "completed_at",
    "total_steps",
    "current_node",
    "error_msg",
    "error_type",
    "traceback",
)


class CheckpointRow(Mapping[str, Any]):
    """A row of ``pf_checkpoints``; ``store_json`` is put together only when it is read."""

    __slots__ = ("_database", "_row")

    _KEYS = ("id", "run_id", "step", "node_name", "store_json", "created_at")

    def __init__(self, database: WorkflowDB, row: dict[str, Any]) -> None:
        self._database = database
        self._row = row

    def __getitem__(self, key: str) -> Any:
        if key == "store_json" and key not in self._row:
            self._row[key] = self._database.store_json(self._row["run_id"], self._row["step"])
        return self._row[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._KEYS)

    def __len__(self) -> int:
        return len(self._KEYS)

    def __repr__(self) -> str:
        return f"<checkpoint {self['step']} of run {self['run_id']!r} after {self['node_name']!r}>"


class WorkflowDB:
    """Runs, their events and their checkpoints in one SQLite file.

    The file is created (private, mode 0600) if it is not there, and brought to this version's
    layout if an older one wrote it. One connection stays open until :meth:`close`; threads may
    share the object. Not for network file systems: SQLite's locks do not hold there.

    Args:
        path: The file; ``":memory:"`` for a database that lives as long as this object.
        synchronous: ``"FULL"`` (the default): what was committed survives a killed process and a
            power cut. ``"NORMAL"``: it survives a killed process; a power cut may lose the last
            steps, never consistency.
        busy_timeout: Seconds to wait for another writer.
        read_only: Never write, create or migrate anything; an older layout is read all the same.

    Raises:
        DatabaseFileError: The file cannot be opened, or is not a database of this library.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "pocoflow.db",
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout: float = 30.0,
        read_only: bool = False,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise DefinitionError(f"synchronous is 'FULL' or 'NORMAL', not {synchronous!r}")
        self.connection = Connection(
            path, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only
        )
        self.locks = RunLocks(self.connection.file)
        self._finalizer = weakref.finalize(self, _close, self.connection, self.locks)

    @property
    def path(self) -> str:
        """The file, as it was given."""
        return self.connection.label

    def close(self) -> None:
        """Close the connection; also done when the object is garbage."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"WorkflowDB({self.path!r})"

    # -- runs -----------------------------------------------------------------------------------

    def create_run(self, run_id: str, flow_name: str = "") -> None:
        """Record a run that something else executes; its status is ``"queued"``.

        Raises:
            RunExistsError: The id is used already.
        """
        self.insert_run({"run_id": run_id, "flow_name": flow_name, "started_at": utc_now()})

    def insert_run(self, row: Mapping[str, Any], raw: sqlite3.Connection | None = None) -> int:
        """Insert a run, in the caller's transaction if it has one, and return its number.

        Raises:
            RunExistsError: The id is used already.
        """
        if raw is None:
            with self._writing() as raw:
                return self.insert_run(row, raw)
        try:
            return int(raw.execute(QUERIES["insert_run"], {**_NEW_RUN, **row}).lastrowid or 0)
        except sqlite3.IntegrityError as exc:
            raise RunExistsError(
                f"database {self.path} has a run {row['run_id']!r} already; leave run_id out to "
                "get a new id"
            ) from exc

    def update_run(self, run_id: str, **columns: Any) -> None:
        """Set columns of a run.

        Raises:
            RunNotFoundError: There is no such run.
            ValueError: A column cannot be set, or the status is none of ``STATUSES``.
        """
        for column in columns:
            if column not in _SETTABLE:
                raise ValueError(
                    f"update_run: pf_runs has no settable column {column!r}"
                    f"{closest(column, _SETTABLE)} (columns: {', '.join(_SETTABLE)})"
                )
        if columns.get("status", "queued") not in STATUSES:
            raise ValueError(
                f"update_run: a status is one of {', '.join(STATUSES)}, not {columns['status']!r}"
            )
        run_no = self.number(run_id)
        if columns:
            sets = ", ".join(f"{column} = ?" for column in columns)
            with self._writing() as raw:
                raw.execute(
                    f"UPDATE pf_runs SET {sets} WHERE run_no = ?",  # noqa: S608 - names checked above
                    (*columns.values(), run_no),
                )

    def get_run(self, run_id: str) -> dict[str, Any] | None:
        """The run's row, or ``None``. A run whose process is gone reads as failed."""
        row = self.connection.row(QUERIES["run_by_id"], (run_id,))
        return None if row is None else self._truthful(row)

    def list_runs(
        self,
        limit: int = 100,
        *,
        status: str | None = None,
        flow_name: str | None = None,
        text: str | None = None,
        since: str | None = None,
        before: int | None = None,
    ) -> list[dict[str, Any]]:
        """The newest runs, last created first. A run whose process is gone reads as failed.

        Args:
            limit: At most so many runs.
            status: Only runs that read as this one of ``STATUSES``.
            flow_name: Only runs of this flow.
            text: Only runs with this in their id, flow, current node, error or parent's id;
                upper and lower case ASCII letters are the same.
            since: Only runs started at or after this ISO-8601 time in UTC.
            before: Only runs created before the run of this ``run_no``: the page that follows.

        Raises:
            ValueError: There is no such status.
        """
        if status is not None and status not in STATUSES:
            raise ValueError(f"list_runs: a status is one of {', '.join(STATUSES)}, not {status!r}")
        if (status, flow_name, text, since, before) == (None,) * 5:
            rows = self.connection.rows(QUERIES["runs_newest_first"], (limit,))
            return [self._truthful(row) for row in rows]
        # What is stored as running may read as failed, so it is looked at for both.
        stored = ("running", status) if status == "failed" else (status, status)
        wanted = {"status": stored[0], "or_status": stored[1], "flow": flow_name, "limit": limit}
        wanted |= {"text": text, "since": since}
        found: list[dict[str, Any]] = []
        last = (1 << 63) - 1 if before is None else before
        while len(found) < limit:
            rows = self.connection.rows(QUERIES["runs_matching"], {**wanted, "before": last})
            runs = map(self._truthful, rows)
            found += [run for run in runs if status is None or run["status"] == status]
            if len(rows) < limit:
                break
            last = rows[-1]["run_no"]
        return found[:limit]

    def request_cancel(self, run_id: str) -> bool:
        """Ask a run, in whatever process it is, to stop after the step that it is at.

        A paused run, which nobody runs, is cancelled at once.

        Returns:
            Whether the run was running, and so was asked, or paused.

        Raises:
            RunNotFoundError: There is no such run.
        """
        status = (self.get_run(run_id) or {}).get("status")
        if status not in ("running", "paused"):
            self.number(run_id)  # says so if there is no such run
            return False
        with self._writing() as raw:
            if status == "paused":
                return self._cancel_paused(raw, run_id)
            return raw.execute(QUERIES["request_cancel"], (run_id,)).fetchone() is not None

    def _cancel_paused(self, raw: sqlite3.Connection, run_id: str) -> bool:
        now, number = utc_now(), self.number(run_id)
        row = raw.execute(QUERIES["cancel_paused"], (now, number)).fetchone()
        if row is None:
            return False
        first, last = event_ids(number)
        facts = (run_id, row[0], None, "flow_cancelled", None, None, None, now, None, None, None)
        raw.execute(QUERIES["insert_event"], (first, first, last, *facts))
        return True

    def _truthful(self, row: sqlite3.Row) -> dict[str, Any]:
        run = dict(row)
        if run["owned"] and run["status"] == "running" and not self.locks.is_held(run["run_no"]):
            # Between our read and our look at the lock the run may have ended by itself.
            again = self.connection.row(QUERIES["run_by_id"], (run["run_id"],))
            run = dict(again) if again is not None else run
            if run["owned"] and run["status"] == "running":
                run.update(status="failed", error_msg=INTERRUPTED, error_type="Interrupted")
                self._persist_interrupted(run)
        return run

    def get_graph(self, run_id: str) -> dict[str, Any] | None:
        """What the run's flow looked like when it was last started or resumed, or ``None``.

        A dict with ``start``, ``nodes`` (name to class and digest of the code), ``edges`` (lists
        of source, action, target) and ``schema`` (field to type).
        """
        row = self.connection.row(QUERIES["graph_of_run"], (run_id,))
        return None if row is None else dict(json.loads(row[0]))

    def runs_to_recover(self, flow_name: str) -> list[str]:
        """The ids of the flow's runs that can go on although nobody runs them, first created first.

        Those whose process ended before they did, and those that are paused and have an answer by
        now, or whose question has passed its deadline.
        """
        rows = self.connection.rows(QUERIES["runs_to_recover"], (flow_name, utc_now()))
        runs = [self._truthful(row) for row in rows]
        return [
            run["run_id"]
            for run in runs
            if run["status"] == "paused" or run["error_type"] == "Interrupted"
        ]

    # -- questions ------------------------------------------------------------------------------

    def pending(self) -> list[Asked]:
        """The questions that wait for an answer, of all runs, the oldest first."""
        return open_questions(self.connection)

    def get_questions(self, run_id: str) -> list[Asked]:
        """Every question that a run has asked, with its answer if there is one.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return questions_of(self.connection, self.number(run_id))

    def answer_json(
        self,
        run_id: str,
        answer: object,
        *,
        question: int | None = None,
        by: str | None = None,
    ) -> list[Asked]:
        """Answer a question of a paused run with a JSON value; then it can be resumed.

        The value is checked against the JSON schema of the answer. ``Flow.answer_json`` also checks
        what a schema cannot say, such as the validators of a model.

        Args:
            run_id: The run.
            answer: A JSON value, such as ``json.loads`` gives.
            question: The number of the question; needed if several are open.
            by: Who answers.

        Returns:
            The questions of the run that are still open.

        Raises:
            RunNotFoundError: There is no such run.
            AnswerError: The value does not fit, which leaves the question open; or there is no such
                open question.
            AnsweredError: It was answered already.
        """
        from pocoflow.db.jsonschemas import check_json

        one = choose(self.get_questions(run_id), run_id, question)
        refuse_closed(one)
        check_json(one, answer)
        return self.keep_answer(one, json.dumps(answer), by)

    def keep_answer(
        self, one: Asked, text: str, by: str | None, *, instead_of: str | None = None
    ) -> list[Asked]:
        """Put an answer that was checked on record; the first one counts.

        Args:
            one: The question.
            text: The answer as JSON text.
            by: Who gives it.
            instead_of: The answer that it replaces, which the node cannot take.

        Returns:
            The questions of the run that are still open.

        Raises:
            AnswerError: It came too late.
            DatabaseError: The database cannot be written.
        """
        if self.connection.read_only:
            raise DatabaseFileError(f"database {self.path} was opened read-only")
        refuse_late(one)
        keep_answer(self.connection, one, self.number(one.run_id), text, by, instead_of)
        return [it for it in self.get_questions(one.run_id) if it.is_open]

    def _persist_interrupted(self, run: Mapping[str, Any]) -> None:
        """Write down what was derived, if that is possible at once: a read must not fail for it."""
        if self.connection.read_only:
            return
        try:
            with self.connection.transaction(patient=False) as raw:
                # Whoever goes on with the run takes its lock before writing, so nobody is missed.
                if not self.locks.is_held(run["run_no"]):
                    raw.execute(
                        QUERIES["interrupted"],
                        (run["error_msg"], run["error_type"], run["run_no"]),
                    )
        except DatabaseError as exc:
            _log.debug("run %r: not yet written down as interrupted: %s", run["run_id"], exc)

    def number(self, run_id: str) -> int:
        """The number of a run, the stem of all integer keys.

        Raises:
            RunNotFoundError: There is no such run.
        """
        row = self.connection.row("SELECT run_no FROM pf_runs WHERE run_id = ?", (run_id,))
        if row is None:
            known = [r[0] for r in self.connection.rows("SELECT run_id FROM pf_runs LIMIT 1000")]
            raise RunNotFoundError(
                f"database {self.path} has no run {run_id!r}{closest(run_id, known)}"
            )
        return int(row[0])

    def prune(
        self,
        *,
        older_than: timedelta | None = None,
        keep: int | None = None,
        status: str | Iterable[str] = ENDED,
        flow_name: str | None = None,
        dry_run: bool = False,
    ) -> int:
        """Remove old runs with their events and checkpoints; a run that lives is never removed.

        The file keeps its size, and new runs use the room: :meth:`vacuum` gives it back.

        Args:
            older_than: Only runs in which nothing has happened for so long.
            keep: Only runs beyond the newest ``keep`` that match ``status`` and ``flow_name``.
            status: Only runs that read as one of these; those that have ended, by default.
            flow_name: Only runs of this flow.
            dry_run: Remove nothing.

        Returns:
            How many runs were removed, or would be.

        Raises:
            ValueError: Neither ``older_than`` nor ``keep`` is given, or one of them is negative,
                or there is no such status.
        """
        statuses = [status] if isinstance(status, str) else list(status)
        for one in statuses:
            if one not in STATUSES:
                raise ValueError(f"prune: a status is one of {', '.join(STATUSES)}, not {one!r}")
        if older_than is None and keep is None:
            raise ValueError("prune: name older_than= or keep=; keep=0 removes every run")
        if (keep or 0) < 0 or (older_than or timedelta()) < timedelta():
            raise ValueError(f"prune: older_than={older_than}, keep={keep}: not below zero")
        if self.connection.read_only:
            raise DatabaseFileError(f"database {self.path} was opened read-only")
        return prune(
            self.connection,
            self.locks,
            older_than=older_than,
            keep=keep,
            statuses=statuses,
            flow_name=flow_name,
            dry_run=dry_run,
        )

    def vacuum(self) -> None:
        """Write the file anew without the room that removed runs left, and give that back.

        Needs as much free space as the file takes; runs that are working wait meanwhile.

        Raises:
            DatabaseBusyError: Another writer held the database for longer than the busy timeout.
            DatabaseFileError: The file was opened read-only, or the disk is full.
        """
        if self.connection.read_only:
            raise DatabaseFileError(f"database {self.path} was opened read-only")
        self.connection.vacuum()

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
        """
        row = (step, node_name, event, action, elapsed_ms, error_msg, utc_now(), None, None, None)
        number = self.number(run_id)
        with self._writing() as raw:
            first, last = event_ids(number)
            raw.execute(QUERIES["insert_event"], (first, first, last, run_id, *row))

    def get_events(self, run_id: str) -> list[dict[str, Any]]:
        """The events of a run in their order.

        Raises:
            RunNotFoundError: There is no such run.
        """
        rows = self.connection.rows(QUERIES["events_of_run"], event_ids(self.number(run_id)))
        return [dict(row) for row in rows]

    # -- checkpoints ----------------------------------------------------------------------------

    def save_checkpoint(
        self, run_id: str, step: int, node_name: str, store: Mapping[str, Any]
    ) -> None:
        """Keep the store as the checkpoint of a step; a checkpoint of that step is replaced.

        Raises:
            RunNotFoundError: There is no such run.
        """
        run_no = self.number(run_id)
        given = store if isinstance(store, Store) else Store(store)
        plain = codec.Classes()
        with self._writing() as raw:
            later = raw.execute(QUERIES["next_step"], (run_no, step)).fetchone()[0]
            following = None if later is None else self._read(run_no, later, "", None, plain)
            raw.execute(QUERIES["delete_values"], (run_no, step))
            writer = ValueWriter(f"run {run_id!r}")
            writer.load(raw, run_no, self._read(run_no, step, "", None, plain))
            raw.execute(QUERIES["replace_step"], (run_no, step, node_name, utc_now()))
            changes = writer.changes(given)
            writer.write(raw, run_no, step, changes)
            if following is not None:
                # The step after it is stored as what it changed, so that is another thing now.
                writer.accept(changes)
                raw.execute(QUERIES["delete_values"], (run_no, later))
                writer.write(raw, run_no, later, writer.changes(following))

    def get_checkpoints(self, run_id: str) -> list[CheckpointRow]:
        """The checkpoints of a run by step, without putting any store together.

        Each row is a mapping with the columns of ``pf_checkpoints``; ``row["store_json"]`` is made
        when it is read. The store before the first node is not listed (it is ``step=-1`` of
        :meth:`load_checkpoint`).

        Raises:
            RunNotFoundError: There is no such run.
        """
        run_no = self.number(run_id)
        return [
            CheckpointRow(self, {"id": (run_no << 32) + row["step"], "run_id": run_id, **dict(row)})
            for row in self.connection.rows(QUERIES["steps_of_run"], (run_no,))
        ]

    def store_json(self, run_id: str, step: int) -> str:
        """The store after a step as JSON text: plain JSON where the values are plain.

        Raises:
            CheckpointNotFoundError: The run has no checkpoint of that step.
        """
        row = self.connection.row(QUERIES["store_json"], (run_id, step))
        if row is None:
            raise self._no_checkpoint(run_id, step)
        return str(row[0])

    def load_checkpoint(
        self,
        run_id: str,
        step: int,
        *,
        schema: type[ModelT] | Mapping[str, Any] | None = None,
        types: Iterable[type] = (),
    ) -> Store[ModelT]:
        """The store as it was after a step; ``step=-1`` is the store before the first node.

        Args:
            run_id: The run.
            step: The step, from 0.
            schema: A schema that validates what comes back and vouches for its classes.
            types: More classes that stored values may be instances of.

        Raises:
            RunNotFoundError: There is no such run.
            CheckpointNotFoundError: The run has no checkpoint of that step.
            DecodeError: A value is damaged, or of a class that is not known here.
            InvalidValueError: A value does not fit the schema.
        """
        run_no = self.number(run_id)
        if self.connection.row(QUERIES["has_step"], (run_no, step)) is None:
            raise self._no_checkpoint(run_id, step)
        row = self.connection.row(QUERIES["run_by_id"], (run_id,))
        classes = codec.Classes((*schema_types(schema), *types))
        return self._read(run_no, step, row["store_name"] if row else "", schema, classes)

    def _read(
        self, run_no: int, step: int, name: str, schema: Any, classes: codec.Classes
    ) -> Store[Any]:
        rows = self.connection.rows(QUERIES["values_at"], {"run_no": run_no, "step": step})
        return read_store(rows, f"database {self.path}, step {step}", name, schema, classes)

    def _no_checkpoint(self, run_id: str, step: int) -> CheckpointNotFoundError:
        steps = [row["step"] for row in self.get_checkpoints(run_id)]
        there = f"it has steps {steps[0]} to {steps[-1]}" if steps else "it has none yet"
        return CheckpointNotFoundError(f"run {run_id!r} has no checkpoint of step {step}: {there}")

    def _writing(self) -> Any:
        if self.connection.read_only:
            raise DatabaseFileError(f"database {self.path} was opened read-only")
        return self.connection.transaction()


_NEW_RUN: dict[str, Any] = {
    "flow_name": "",
    "status": "queued",
    "started_at": None,
    "current_node": None,
    "owned": 0,
    "token": "",
    "store_name": "",
    "parent_run_id": None,
    "parent_step": None,
    "graph_no": None,
}


def _close(connection: Connection, locks: RunLocks) -> None:
    connection.close()
    locks.close()
