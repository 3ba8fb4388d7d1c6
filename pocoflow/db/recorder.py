"""What a running run writes: one transaction per step, on a connection that stays open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from pocoflow.address import Address
from pocoflow.codec import Classes
from pocoflow.db.clock import new_fence, utc_now
from pocoflow.db.positions import INITIAL, Position, asked_in, read_position
from pocoflow.db.questions import Asked, Pause, keep_answer, questions_of
from pocoflow.db.renaming import Renamed, rename_places
from pocoflow.db.sql import QUERIES, event_ids
from pocoflow.db.steps import StepWriter
from pocoflow.db.values import Change, ValueWriter, stored_text
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import (
    AnsweredError,
    DatabaseError,
    ResumeError,
    RunNotFoundError,
)
from pocoflow.failure import describe_error
from pocoflow.logging import get_logger
from pocoflow.store import Store

__all__ = ["RunRecorder", "TakenError"]

_log = get_logger("db")


class TakenError(ResumeError):
    """Somebody else goes on with the run, or has ended it."""


class RunRecorder(StepWriter):
    """Keeps one run in the database, from its row to its last status, under the run's lock.

    Args:
        database: The database.
        run_id: The run.
        classes: Those that will be found when values of the run are read back.
    """

    _run_no = 0  # __del__ looks at it even if __init__ was interrupted

    def __init__(self, database: WorkflowDB, run_id: str, classes: Classes | None = None) -> None:
        super().__init__(database, run_id, ValueWriter(f"run {run_id!r}"))
        if classes is not None:
            self._values.classes = classes
        self._status = ""
        self._steps = 0

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
            "current_node": Address(first[1], first[0]).text,
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
                given = {"run_id": self.run_id, "store_name": stored_text(store.name), **row}
                self._progress.fence = given["fence"] = new_fence()
                if graph is not None:
                    given["graph_no"] = _graph_number(raw, graph)
                self._run_no = self._db.insert_run(given, raw)
                if owned:
                    # Before the commit: a reader that sees the row sees its lock, too.
                    self._hold()
                raw.execute(QUERIES["insert_step"], (self._run_no, INITIAL, "", now))
                self._values.write(raw, self._run_no, INITIAL, changes)
                if first is not None:
                    self._position(raw, INITIAL, first, path, 0)
                if owned:
                    self._event(raw, now, "flow_start", 0, None)
                    self._event(raw, now, "node_start", 0, Address(path, first or ""))
                accept = partial(self._values.accept, changes)
                self._db.connection.at_end(accept, undone=self.let_go)
        except BaseException:
            self.let_go()
            raise

    def _hold(self) -> None:
        if not self._db.locks.hold(self._run_no, self._progress.claim):
            raise DatabaseError(
                f"run {self.run_id!r} cannot begin in database {self._db.path}: a process still "
                f"runs the run that had its number, {self._run_no}, before an older copy of the "
                "file was restored; end that process"
            )

    def claim(self, *, recovering: bool = False) -> Position:
        """Take the lock of a stored run that this process wants to go on with, and read where.

        From here on no other process can go on with it; :meth:`go_on` or :meth:`let_go` follows.

        Args:
            recovering: Only if it is still one of ``runs_to_recover``.

        Raises:
            RunNotFoundError: There is no such run.
            TakenError: It is completed, or alive in this or another process.
        """
        self._run_no = self._db.number(self.run_id)
        if not self._db.locks.hold(self._run_no, self._progress.claim, patience=0.2):
            raise TakenError(
                f"run {self.run_id!r} is running, here or in another process; a run is resumed "
                "when nobody runs it"
            )
        try:
            self._fence_off(recovering)
            position = self.position()
            self._progress.last = position.step
            return position
        except BaseException:
            self.let_go()
            raise

    def _fence_off(self, recovering: bool) -> None:
        """Turn away whoever claimed the run before; its lock may have been lost with the file."""
        with self._db.writing() as raw:
            row = raw.execute(QUERIES["run_by_id"], (self.run_id,)).fetchone()
            if row is None or row["run_no"] != self._run_no:
                raise RunNotFoundError(
                    f"run {self.run_id!r} was removed from database {self._db.path} in this instant"
                )
            self._status = str(row["status"])
            if self._status == "completed":
                raise TakenError(
                    f"run {self.run_id!r} is completed, so there is nothing to resume; fork() "
                    "makes a new run from any of its steps"
                )
            if recovering:
                self._refuse_changed(raw, row["flow_name"])
            claim = raw.execute(QUERIES["claim"], (new_fence(), self._run_no)).fetchone()
        self._progress.fence = claim[0]

    def _refuse_changed(self, raw: sqlite3.Connection, flow_name: str) -> None:
        wanted = {"flow": flow_name, "now": utc_now(), "run_no": self._run_no}
        if raw.execute(QUERIES["runs_to_recover"], wanted).fetchone() is None:
            raise TakenError(
                f"run {self.run_id!r} has ended, or has nothing to go on with, since it was found "
                "to be one to recover"
            )

    def position(self, step: int | None = None) -> Position:
        """Where the run goes on after a step; after its last one by default.

        Raises:
            CheckpointNotFoundError: The run has no checkpoint of that step.
        """
        self._run_no = self._run_no or self._db.number(self.run_id)
        return read_position(self._db, self.run_id, self._run_no, step)

    def was_resumed(self) -> bool:
        """Whether somebody has gone on with the run before."""
        row = self._db.connection.row(QUERIES["resumes_of_run"], event_ids(self._run_no))
        return row is not None and row[0] > 0

    def go_on(
        self,
        store: Store[Any],
        stored: Store[Any],
        position: Position,
        flow_name: str,
        node: Address,
        graph: str,
        renamed: Renamed | None = None,
        amended: Iterable[str] = (),
    ) -> None:
        """Set a claimed run running again.

        Args:
            store: The store of the run from now on.
            stored: The store as it is in the database.
            position: Where it goes on, as :meth:`claim` gave it.
            flow_name: The name of the flow now.
            node: The node that comes next, as it is called now.
            graph: The fingerprint of the flow as it is now.
            renamed: Gives the names that nodes have now, if some have other ones.
            amended: Keys whose fields are defined in another way since: what their validators made
                is recorded with the new definitions, so that no later resume validates it again.

        Raises:
            TakenError: It was cancelled since it was claimed.
            DatabaseError: The database cannot be written.
        """
        self._store = store
        self._steps = position.step + 1
        self._journaled, self._begun = bool(position.journal), True
        self._knows_input = position.pause is not None
        self._numbers_items = bool(position.items)
        self._forks = f"{position.fork + 1}." if position.branches else ""
        now = utc_now()
        with self._committing() as raw:
            self._refuse_cancelled(raw)
            asked = asked_in(position)
            seen = [one for one in asked if one.answer or one.is_late(position.read_at)]
            raw.executemany(QUERIES["take_answer"], [(one.question,) for one in seen])
            self._values.load(raw, self._run_no, stored)
            made = self._values.amend(raw, self._run_no, position.step, store, amended)
            number = _graph_number(raw, graph)
            for scope, local, kept in _inputs(position):
                if kept is None:
                    raw.execute(QUERIES["clear_pauses"], (self._run_no, scope, local))
            if renamed is not None:
                rename_places(raw, self._run_no, renamed)
            raw.execute(QUERIES["go_on"], (flow_name, node.text, number, now, self._run_no))
            self._event(raw, now, "flow_resume", self._steps, None)
            self._event(raw, now, "node_start", self._steps, node)
        self._values.accept(made)

    def settle(self, position: Position) -> Position:
        """Let the defaults count of the questions that were not answered before their deadlines.

        Returns:
            The position with all answers that are there by now.

        Raises:
            DatabaseError: The database cannot be written.
        """
        connection, number = self._db.connection, self._run_no
        for one in asked_in(position):
            if one.is_open and one.is_late(position.read_at) and one.default is not None:
                # An answer that was given in the last instant counts.
                with suppress(AnsweredError):
                    facts = (one, number, one.default, "its deadline")
                    keep_answer(connection, *facts, query="settle_question")
        return replace(self.position(), read_at=position.read_at)

    def _refuse_cancelled(self, raw: sqlite3.Connection) -> None:
        status = raw.execute(QUERIES["standing"], (self._run_no,)).fetchone()["status"]
        if status == "cancelled" != self._status:
            raise TakenError(
                f"run {self.run_id!r} was cancelled in this instant; resume it again to go on "
                "with it all the same"
            )

    def let_go(self) -> None:
        """Give the lock of the run back; its status stays what it was."""
        if self._run_no:
            self._progress.is_over = True
            self._db.locks.release(self._run_no, self._progress.claim)

    def __del__(self) -> None:
        # A Ctrl-C between the first commit and the first node leaves nobody to record it.
        self.let_go()

    # -- a step -------------------------------------------------------------------------------

    def _advance(
        self,
        raw: sqlite3.Connection,
        now: str,
        step: int,
        node: Address,
        following: str | None,
        path: tuple[str, ...],
    ) -> bool:
        if following is not None:
            return super()._advance(raw, now, step, node, following, path)
        self._finish(raw, now, "completed", step + 1, node, None)
        return False

    def _follow(
        self,
        raw: sqlite3.Connection,
        now: str,
        step: int,
        action: str,
        following: str | None,
        path: tuple[str, ...],
    ) -> None:
        if following is not None:
            super()._follow(raw, now, step, action, following, path)
        else:
            self._event(raw, now, "flow_end", step + 1, None)

    def _finished(self, step: int, changes: Sequence[Change], following: str | None) -> None:
        super()._finished(step, changes, following)
        self._steps = step + 1
        if following is None:
            self.let_go()

    def pause(self, node: str) -> list[Asked] | None:
        """Record that the run waits for answers, and give its lock back.

        Returns:
            The open questions; ``None`` if somebody asked the run to stop, and nothing is written.

        Raises:
            DatabaseError: The database cannot be written.
        """
        now = utc_now()
        with self._committing() as raw:
            row = raw.execute(QUERIES["standing"], (self._run_no,)).fetchone()
            if row["cancel_requested"]:
                return None
            self._event(raw, now, "flow_pause", row["total_steps"], None)
            raw.execute(QUERIES["pause_run"], (row["total_steps"], node, self._run_no))
        asked = questions_of(self._db.connection, self._run_no)
        self.let_go()
        return [one for one in asked if one.is_open]

    # -- the end ------------------------------------------------------------------------------

    def end(
        self,
        status: str,
        error: BaseException,
        step: int,
        node: Address | None,
        attempts: int,
        elapsed: float,
    ) -> bool:
        """Record how the run ended if it did not complete, and give its lock back.

        The lock is given back also when the database cannot be written: the next reader then finds
        the run interrupted. That failure is logged, not raised, so that it does not hide ``error``.

        Returns:
            Whether the run ended so. ``False`` if its last commit had completed or paused it
            already: a Ctrl-C during a commit is raised after it.
        """
        if self._progress.is_over:
            return False  # whoever goes on with it now says how it ends
        try:
            now = utc_now()
            with self._db.connection.transaction() as raw:
                # Not before it is committed: or somebody would find the run interrupted.
                self._db.connection.at_end(self.let_go, undone=self._still_goes_on)
                row = raw.execute(QUERIES["standing"], (self._run_no,)).fetchone()
                self._refuse_without_lock()
                if row is not None and row["status"] in ("completed", "paused"):
                    return False
                if row is None:
                    raise self._lost(raw)
                self._progress.is_over = True
                self._steps = row["total_steps"]
                if status == "failed":
                    raw.execute(QUERIES["forget_attempts"], (self._run_no,))
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
            self.let_go()
        except BaseException:
            self.let_go()
            raise
        return True

    def _still_goes_on(self) -> None:
        self._progress.is_over = False

    # -- rows ---------------------------------------------------------------------------------

    def _finish(
        self,
        raw: sqlite3.Connection,
        now: str,
        status: str,
        steps: int,
        node: Address | None,
        error: BaseException | None,
    ) -> None:
        kind, message, trace = describe_error(error)
        facts = {
            "status": status,
            "now": now,
            "steps": steps,
            "node": None if node is None else node.text,
            "error_type": kind,
            "error_msg": message,
            "traceback": trace,
            "run_no": self._run_no,
            "fence": self._progress.fence,
            "last": self._progress.last,
        }
        if not raw.execute(QUERIES["finish"], facts).rowcount:
            raise self._lost(raw)


def _inputs(position: Position) -> Iterator[tuple[str, int, Pause | None]]:
    """What the unfinished steps of a run go on with, by scope and number."""
    yield "", position.fork + 1, position.pause
    for scope, branch in position.branches.items():
        yield scope, branch.count, branch.pause


def _graph_number(raw: sqlite3.Connection, graph: str) -> int:
    row = raw.execute(QUERIES["graph_number"], (graph,)).fetchone()
    if row is None:
        raw.execute(QUERIES["insert_graph"], (graph,))
        row = raw.execute(QUERIES["graph_number"], (graph,)).fetchone()
    return int(row[0])
