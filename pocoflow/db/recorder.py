"""The recorder of a run, from its row to its last status, which holds the run's lock."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import NamedTuple, NoReturn

from pocoflow.address import Address
from pocoflow.db.clock import later, micros
from pocoflow.db.due import Limits, interrupted_too_often, interruptions
from pocoflow.db.emitting import EmittedValues, ValueRange, mark_void
from pocoflow.db.lines import LineRecorder, Unwritten
from pocoflow.db.log import NO_ERROR, Described, Kind, Row, RunLog, dump_taken, split_names
from pocoflow.db.port import Transaction
from pocoflow.db.positions import read_unfinished
from pocoflow.db.question_rows import Answer, questions_of, record_answer
from pocoflow.db.renaming import Renamed, rename_nodes
from pocoflow.db.run_threads import UNNAMED, Named, refuse_resume
from pocoflow.db.sql import QUERIES
from pocoflow.db.values import INITIAL, Change, ValueWriter, stored_text
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import (
    AnsweredError,
    DatabaseError,
    DatabaseLostError,
    Remedy,
    ResumeError,
    RunError,
    RunLostError,
    RunNotFoundError,
    TakenError,
)
from pocoflow.graph.step_records import ALONE
from pocoflow.graph.unfinished import Unfinished
from pocoflow.logging import OwnLogger
from pocoflow.nodes.question import Asked
from pocoflow.store.store import Store
from pocoflow.values import Classes

_log = OwnLogger("db")


class ResumeState(NamedTuple):
    """The state of a resumed run in terms of the current code of its flow.

    Attributes:
        flow_name: The name of the flow.
        node: The next node.
        graph: The fingerprint of the flow.
        renamed: Maps old names of nodes to new ones, if any were renamed.
        amended: Keys whose fields have new definitions: what their validators returned is recorded
            with the new definitions, so that no later resume validates it again.
        given: Whether the store has values beyond the checkpoint: set by this resume or an earlier
            one, or by ``prep`` and validated again. They are recorded for the next resume.
        prepared: What ``prep`` returned, as text, if it has run.
    """

    flow_name: str
    node: Address
    graph: str
    renamed: Renamed | None = None
    amended: Sequence[str] = ()
    given: bool = False
    prepared: str | None = None


class RunRecorder(LineRecorder):
    """Records one run in the database, from its row to its last status, and holds its lock.

    Args:
        database: The database.
        run_id: The run.
        classes: The classes that will be known when values of the run are read back.
    """

    log = RunLog("", "")  # __del__ reads it even if __init__ was interrupted

    def __init__(self, database: WorkflowDB, run_id: str, classes: Classes | None = None) -> None:
        log = RunLog(database.path, run_id, database.connection.micros)
        values = ValueWriter(f"run {run_id!r}", log.keys)
        super().__init__(database, log, Unwritten(), values)
        if classes is not None:
            self._values.classes = classes
        self._status, self._is_new = "", False
        self._due_at: str | None = None
        self._limits: Limits | None = None

    # -- the start ----------------------------------------------------------------------------

    def create(
        self,
        store: Store,
        row: Mapping[str, object],
        start: Unfinished,
        graph: str | None,
        named: Named = UNNAMED,
        also: Callable[[Transaction], object] | None = None,
    ) -> None:
        """Create the run's row, initial store and position in one transaction.

        Args:
            store: Its store.
            row: The columns of its row; with ``owned``, this process acquires the run's lock.
            start: Its initial position.
            graph: The fingerprint of its flow.
            named: Its run thread, labels and inputs.
            also: Called in the transaction; nothing is created if it raises.

        Raises:
            RunExistsError: The run id is used already.
            ThreadBusyError: A run of its thread is open.
            ThreadMovedError: One has completed meanwhile, so it has to start with another store.
            DatabaseError: The database cannot be written.
        """
        self._store = store
        store.track()
        changes = self._values.changes(store)
        run, owned = self.log, bool(row.get("owned"))
        names, fence = start.names or (), micros()  # above all earlier fences
        columns = {
            "run_id": self.run_id,
            "store_name": stored_text(store.name),
            "fence": fence,
            "thread": named.thread,
            "inputs": named.inputs,
            "current_node": "/".join(names),
            **row,
        }
        facts = (*split_names(names), self._values.note, dump_taken(start.taken))
        try:
            with self.storage.transaction() as raw:
                if also is not None:
                    also(raw)
                if graph is not None:
                    columns["graph_no"] = graph_number(raw, graph)
                run.take(self.database.insert_run(columns, raw), fence)
                named.enter(raw, self.storage, run.run_no)
                if owned:
                    # Before the commit, so that a reader that sees the row also sees its lock.
                    self._hold()
                kind = Kind.START if owned else Kind.FORKED
                raw.execute(QUERIES["first_row"], (run.first, kind, run.clock(), *facts))
                self._values.write(raw, run.run_no, INITIAL, changes)
                accept = partial(self._values.accept, changes)
                self.storage.at_end(accept, undone=self.release)
        except BaseException:
            self.release()
            raise
        run.last = self._since = run.first

    def _hold(self) -> None:
        run = self.log
        if not self.database.locks.hold(run.run_no, run.claim):
            raise DatabaseError(
                f"run {self.run_id!r} cannot begin in database {self.database.path}: a process "
                f"still runs the run that had its number, {run.run_no}, before an older copy of "
                "the file was restored; end that process"
            )

    def claim(
        self,
        *,
        recovering: bool = False,
        flows: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> Unfinished:
        """Acquire the lock of a stored run in order to resume it, and read its position.

        From now on no other process can resume it; :meth:`resume` or :meth:`release` must follow.

        Args:
            recovering: Only if it is interrupted, due, or a fork that has not started.
            flows: The current and former names of its flow.
            limits: The limits of a worker, which does not wait for the lock, and rejects a run that
                was interrupted too often.

        Raises:
            RunNotFoundError: There is no such run.
            TakenError: It is completed, or alive in this or another process.
            ResumeError: A later run of its run thread has started.
            ThreadBusyError: Another run of its run thread is open.
        """
        run = self.log
        run.take(self.database.number(self.run_id), 0)
        if not self.database.locks.hold(run.run_no, run.claim, 0.2 if limits is None else 0):
            raise self._alive()
        try:
            self._fence_off(recovering, flows)
            if limits is not None and self._status not in ("queued", "paused"):
                times = interruptions(self.storage, run.run_no)
                if times >= limits.interruptions:
                    self._fail(interrupted_too_often(self.run_id, times))
            self._limits = limits
            return self.unfinished()
        except BaseException:
            self.release()
            raise

    def fail_overdue(self, error: ResumeError) -> None:
        """Record a queued run that the code cannot start as failed, if it has been due for long.

        Until then another worker may have the code for it, as during a deployment.

        Raises:
            TakenError: It was recorded as failed.
        """
        limits = self._limits
        if limits is None or not self._is_new or self._due_at is None:
            return
        if later(self._due_at, limits.begin_within) <= self.storage.now():
            self._fail(error)

    def _fail(self, error: RunError) -> NoReturn:
        """Record that the run has failed before it could be resumed."""
        self.end("failed", error, self.log.steps, None, 0, 0.0)
        raise TakenError(str(error)) from error

    def refuse_completed(self) -> None:
        """Refuse a completed run, as :meth:`claim` would, without claiming it.

        Raises:
            RunNotFoundError: There is no such run.
            TakenError: It is completed.
        """
        self.database.number(self.run_id)
        row = self.storage.row(QUERIES["run_by_id"], (self.run_id,))
        if row is not None and row["status"] == "completed":
            raise self._completed(row["total_steps"])

    def refuse_now(self, flows: Sequence[str]) -> None:
        """Refuse a run that :meth:`claim` would refuse with any code, without claiming it.

        Args:
            flows: The current and former names of its flow.

        Raises:
            TakenError: It is alive.
            ResumeError: A later run of its run thread has started.
            ThreadBusyError: Another run of its run thread is open.
        """
        row = self.storage.row(QUERIES["run_by_id"], (self.run_id,))
        if row is not None:
            refuse_resume(self.storage, row, (*flows, row["flow_name"]))
            if self.database.locks.is_held(row["run_no"]):
                raise self._alive()

    def _alive(self) -> TakenError:
        return TakenError(
            f"run {self.run_id!r} is running, here or in another process; a run is resumed when "
            "nobody runs it"
        )

    def _completed(self, steps: int) -> TakenError:
        return TakenError(
            f"run {self.run_id!r} is completed, so there is nothing to resume; fork() makes a new "
            "run from any step but its last",
            # The last step has none after it; -1 is before the first one.
            remedies=[Remedy.of_forking(self.run_id, max(steps - 2, -1))],
        )

    def _fence_off(self, recovering: bool, flows: Sequence[str]) -> None:
        """Fence off an earlier claimant, whose lock may have been lost with the lock file."""
        run = self.log
        with self.database.writing(run.run_no) as raw:
            row = raw.execute(QUERIES["run_by_id"], (self.run_id,)).fetchone()
            if row is None or row["run_no"] != run.run_no:
                raise RunNotFoundError(
                    f"run {self.run_id!r} was removed from database {self.database.path} in this "
                    "instant"
                )
            self._status, self._is_new = str(row["status"]), row["due_at"] is not None
            self._due_at = row["due_at"]
            self._is_new &= self._status == "queued"
            if self._status == "completed":
                raise self._completed(row["total_steps"])
            if recovering:
                self._refuse_changed(raw)
            refuse_resume(self.storage, row, (*flows, row["flow_name"]))
            fence = raw.execute(QUERIES["claim"], (micros(), run.run_no)).fetchone()[0]
            run.take(run.run_no, fence)
            run.find_last(raw)

    def _refuse_changed(self, raw: Transaction) -> None:
        parameters = {"run_no": self.log.run_no, "now": self.storage.now()}
        if raw.execute(QUERIES["can_continue"], parameters).fetchone() is None:
            raise TakenError(
                f"run {self.run_id!r} has ended, or has nothing to go on with, since it was found "
                "to be one to recover"
            )

    def unfinished(self, step: int | None = None) -> Unfinished:
        """The unfinished step of the run after a step, by default after its last.

        Raises:
            CheckpointNotFoundError: The run has no checkpoint of that step.
        """
        run = self.log
        if not run.run_no:
            run.take(self.database.number(self.run_id), 0)
        return read_unfinished(self.database, self.run_id, run.run_no, step)

    def was_resumed(self) -> bool:
        """Whether the run was resumed before."""
        run = self.log
        row = self.storage.row(QUERIES["was_resumed"], (run.first, run.end))
        return row is not None

    def resume(self, store: Store, stored: Store, unfinished: Unfinished, now: ResumeState) -> None:
        """Set a claimed run running again.

        Args:
            store: The store of the resumed run.
            stored: The store as recorded in the database.
            unfinished: Its unfinished step, as :meth:`claim` returned it.
            now: Its state in terms of the current code.

        Raises:
            TakenError: It was cancelled since it was claimed, or limits make it wait.
            DatabaseError: The database cannot be written.
        """
        self._store = store
        store.track()
        run = self.log
        self._since = unfinished.row
        self._is_open, self._has_input = True, bool(unfinished.prepared)
        self._refuse_after_end()
        with self.storage.transaction() as raw:
            self._refuse_cancelled(raw)
            if self._limits is not None:
                self._limits.admit(raw, self.database, run.run_no, begins=self._is_new)
            questions = unfinished.questions()
            taken = [q.question for q in questions if q.answer or q.is_expired(unfinished.read_at)]
            raw.executemany(QUERIES["take_answer"], [(number,) for number in taken])
            self._values.load(raw, run.run_no, stored, unfinished.steps - 1)
            amended = self._values.amend(raw, run.run_no, unfinished.steps - 1, store, now.amended)
            # Numbers that this process assigns follow those of all earlier ones.
            run.keys = self._values.numbers
            row = raw.execute(QUERIES["last_line"], (run.first, run.end)).fetchone()
            run.lines = count((row[0] or 0) + 1)
            number = graph_number(raw, now.graph)
            for line in unfinished.lines():
                if not line.prepared:
                    raw.execute(QUERIES["remove_input"], (line.row, run.end, line.line))
            if now.renamed is not None:
                rename_nodes(raw, run.run_no, now.renamed)
            facts = (now.flow_name, now.node.text, number, self.storage.now(), run.run_no)
            raw.execute(QUERIES["resume_run"], facts)
            run.steps = unfinished.steps
            if now.given:
                # Before the first row of the resume: the last row of a run is never removed.
                data = self._changes_text(now.prepared, now.amended)
                run.last = run.append(raw, Row(Kind.PREPARED, run.steps, data=data))
            kind, step = (Kind.START, INITIAL) if self._is_new else (Kind.RESUMED, run.steps)
            first = Row(kind, step, successor=now.node.names)
            run.last = run.append(raw, first._replace(note=self._values.note))
            self._void_unfinished(raw, unfinished)
        self._values.accept(amended)

    def _void_unfinished(self, raw: Transaction, unfinished: Unfinished) -> None:
        """Mark the values as void that were emitted by phases that are called again."""
        run = self.log
        lines = {line.line: line for line in unfinished.lines()}
        void: dict[int, list[ValueRange]] = {}
        for row in raw.execute(QUERIES["emitted_since"], (unfinished.row, run.end)).fetchall():
            line = lines.get(row["line"])
            if line is None or row["id"] <= line.row:
                continue
            item = ALONE if row["item"] is None else row["item"]
            counts = row["event"] == "exec" and (
                item in line.results or row["note"] in line.calls.get(item, ())
            )
            if not counts and not (row["event"] == "prep" and line.prepared):
                values = ValueRange.of(run, row["id"], row["size"])
                void.setdefault(row["line"], []).append(values)
        for number, rows in void.items():
            mark_void(raw, run, number, lines[number].count, rows)

    def record_emitted(self) -> None:
        """Record what nodes emit from now on."""
        self.unwritten.emitted = EmittedValues(self.log, self.storage)

    def apply_defaults(self, unfinished: Unfinished) -> Unfinished:
        """Answer questions that were not answered before their deadlines with their defaults.

        Returns:
            The unfinished step, with all answers recorded by now.

        Raises:
            DatabaseError: The database cannot be written.
        """
        connection, number = self.storage, self.log.run_no
        for asked in unfinished.questions():
            if asked.is_open and asked.is_expired(unfinished.read_at) and asked.default is not None:
                # An answer that was recorded just before takes precedence.
                with suppress(AnsweredError):
                    answer = Answer(asked.default, "its deadline")
                    record_answer(connection, asked, number, answer, "apply_default")
        return replace(self.unfinished(), read_at=unfinished.read_at)

    def _refuse_cancelled(self, raw: Transaction) -> None:
        status = raw.execute(QUERIES["run_state"], (self.log.run_no,)).fetchone()["status"]
        if status == "cancelled" != self._status:
            raise TakenError(
                f"run {self.run_id!r} was cancelled in this instant; resume it again to go on "
                "with it all the same"
            )

    def release(self) -> None:
        """Release the lock of the run; its status does not change."""
        if self.log.run_no:
            self.log.is_over = True
            self.database.locks.release(self.log.run_no, self.log.claim)

    def __del__(self) -> None:
        # After a Ctrl-C between the first commit and the first node nothing else releases the lock.
        run = self.log
        if run.run_no and not run.is_over:
            run.is_over = True
            self.database.locks.abandon(run.run_no, run.claim)

    # -- a step -------------------------------------------------------------------------------

    def _end_line(self, raw: Transaction, node: str, path: tuple[str, ...]) -> None:
        self._finish(raw, "completed", Address(path, node).text, NO_ERROR)

    def _finished(
        self, step: int, last: int, changes: Sequence[Change], successor: str | None
    ) -> None:
        super()._finished(step, last, changes, successor)
        if successor is None:
            self.release()

    def pause(self, node: str) -> list[Asked] | None:
        """Record that the run waits for answers, and release its lock.

        Returns:
            The open questions; ``None`` if the run was asked to stop, and nothing is written.

        Raises:
            DatabaseError: The database cannot be written.
        """
        run = self.log
        self._refuse_after_end()
        with self.storage.transaction(of=run.run_no) as raw:
            if raw.execute(QUERIES["run_state"], (run.run_no,)).fetchone()["cancel_requested"]:
                return None
            if self.unwritten.emitted:
                self.unwritten.emitted.write(raw)
            waits = raw.execute(QUERIES["open_in_run"], (run.run_no,)).fetchall()
            numbers = json.dumps([row[0] for row in waits])
            self._put_bills(raw, of_run=True)
            run.append(raw, Row(Kind.PAUSED, run.steps, data=numbers))
            raw.execute(QUERIES["pause_run"], (run.steps, node, run.run_no))
            questions = questions_of(self.storage, run.run_no)
            self.storage.at_end(self.release)
        return [asked for asked in questions if asked.is_open]

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
        """Record the end of a run that did not complete, and release its lock.

        The lock is also released when the database cannot be written: the next reader then finds
        the run interrupted. That failure is logged, not raised, so that it does not hide ``error``.

        Returns:
            Whether this end was recorded. ``False`` if the last commit had already completed or
            paused the run: a Ctrl-C during a commit is raised after it.
        """
        run = self.log
        if run.is_over:
            return False  # whoever resumes it records its end
        if isinstance(error, DatabaseLostError):
            _log.error("run %r is interrupted: %s", run.run_id, error)
            self.release()
            return True
        try:
            with self.storage.transaction(of=run.run_no) as raw:
                # Only after the commit; otherwise a reader would find the run interrupted.
                self.storage.at_end(self.release, undone=self._reopen)
                state = raw.execute(QUERIES["run_state"], (run.run_no,)).fetchone()
                self._refuse_without_lock()
                if state is not None and state["status"] in ("completed", "paused"):
                    return False
                if state is None:
                    raise run.lost(raw)
                run.is_over = True
                if self.unwritten.emitted:
                    self.unwritten.emitted.write(raw)
                row = Row(Kind.CANCELLED, run.steps)
                described = Described.of(error)
                if status == "failed":
                    row = Row(Kind.FAILED, run.steps, error=described)
                    if node is not None:
                        took = int(elapsed * 1e6)
                        names = node.names
                        row = row._replace(step=step, address=names, attempt=attempts, elapsed=took)
                self._put_bills(raw, of_run=True)
                run.append(raw, row._replace(note=self._values.note))
                self._finish(raw, status, None if node is None else node.text, described)
        except DatabaseError as exc:
            if self.storage.is_undone:
                raise  # this is called again
            message = "run %r: its end (%s) could not be recorded: %s"
            level = logging.DEBUG if isinstance(exc, RunLostError) else logging.ERROR
            _log.log(level, message, self.run_id, status, exc, exc_info=level == logging.ERROR)
            self.release()
        except BaseException:
            self.release()
            raise
        return True

    def _reopen(self) -> None:
        self.log.is_over = False

    def _finish(self, raw: Transaction, status: str, node: str | None, error: Described) -> None:
        run = self.log
        facts = {"status": status, "node": node, **error._asdict()}
        facts |= {"run_no": run.run_no, "first": run.first, "end": run.end}
        raw.execute(QUERIES["finish"], facts)


def graph_number(raw: Transaction, graph: str) -> int:
    """The number of a graph, which is stored once for all of its runs."""
    raw.execute(QUERIES["insert_graph"], (graph,))
    row = raw.execute(QUERIES["graph_number"], (graph,)).fetchone()
    return int(row[0])
