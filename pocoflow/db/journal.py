"""What is kept of a step that is not finished: results of ``exec``, items, questions."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from pocoflow import codec
from pocoflow.address import Address, dump_names
from pocoflow.counting import ALONE
from pocoflow.db.clock import later, utc_now
from pocoflow.db.connection import Connection
from pocoflow.db.questions import NewQuestion
from pocoflow.db.sql import QUERIES, event_ids
from pocoflow.db.values import Recorded, ValueWriter, stored_text
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import (
    DatabaseBusyError,
    DatabaseError,
    DatabaseFileError,
    NotStorableError,
    RunLostError,
)
from pocoflow.failure import describe_error, escaped
from pocoflow.logging import get_logger

__all__ = ["INITIAL", "Journal", "Progress"]

_log = get_logger("db")

INITIAL = -1
"""The step of the store before the first node."""

_Item: TypeAlias = tuple[int, str, int, int, str, str]

_OF_BRANCHES = (
    "clear_branches",
    "clear_items_of_branches",
    "clear_pauses_of_branches",
    "close_branches",
)


@dataclass(slots=True)
class Progress:
    """What a run and its branches have in common as long as one process works on them.

    Attributes:
        is_over: The run has ended, or waits, for this process. A thread of it that still works, as
            after a Ctrl-C, must not write a step any more: another process may go on with the run.
        fence: The number of this process's claim, which a later one makes invalid.
        last: The last step that is committed.
        claim: The owner of the run's lock.
    """

    is_over: bool = False
    fence: int = 0
    last: int = INITIAL
    claim: object = field(default_factory=object)


class Journal:
    """Keeps what one line of execution has done of its step, until the step is committed."""

    _scope = ""

    def __init__(self, database: WorkflowDB, run_id: str, values: ValueWriter) -> None:
        self.run_id = run_id
        self._db = database
        self._run_no = 0
        self._values = values
        self._progress = Progress()
        self._store: Recorded | None = None
        self._journaled = False
        self._begun = False
        self._input: tuple[str, str] | None = None
        self._knows_input = False
        self._numbers_items = False
        self._forks = ""
        self._told: set[str] = set()
        self._items: list[_Item] = []
        self._items_error: DatabaseError | None = None
        self._written = 0
        self._items_guard = threading.Lock()
        self._items_writing = threading.Lock()

    # -- the result of exec -------------------------------------------------------------------

    def journal(self, step: int, node: str, result: Any) -> None:
        """Commit the result of a finished ``exec``, so that nobody pays for it again.

        A result that cannot be stored is told to the log, once per node: after a crash its
        ``exec`` is called again.

        Raises:
            DatabaseError: The database cannot be written.
        """
        text = self._encoded(node, result)
        if text is None:
            return
        with _told_of(f"exec of node {node!r} has finished"):
            self._put_journal([(self._run_no, self._scope, self._local(step), ALONE, text, "")])

    @property
    def ledger(self) -> Connection:
        """Where it writes."""
        return self._db.connection

    def _put_journal(self, rows: Sequence[_Item]) -> None:
        """Commit results that are finished.

        Also after the run has ended here, as a thread of it may be at an item yet, but not once
        somebody has gone on with it, or removed it: who does so knows nothing of these results.
        """
        progress = self._progress
        claim = (self._run_no, progress.fence, progress.last)
        with self._db.connection.transaction() as raw:
            if not progress.is_over:
                self._refuse_without_lock()
            for row in rows:
                if not raw.execute(QUERIES["insert_journal"], (*row[1:], *claim)).rowcount:
                    if progress.is_over:
                        return
                    raise self._lost(raw)
            self._put_input(raw, rows[0][2])
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

    def journal_item(self, step: int, node: str, result: Any, item: int, mark: str) -> None:
        """Commit the result of an item, with those of threads that wait for their commits, too.

        Raises:
            DatabaseError: The database cannot be written.
        """
        text = self._encoded(node, result)
        if text is None:
            return
        row = (self._run_no, self._scope, self._local(step), item, text, mark)
        if self._db.connection.is_shared:
            with _told_of(f"exec of item {item} of node {node!r} has finished"):
                self._put_journal([row])
            return
        with self._items_guard:
            self._items.append(row)
            upto = self._written + len(self._items)
        self.write_items(upto)

    def write_items(self, upto: int | None = None) -> None:
        """Commit the items of all threads that wait.

        Args:
            upto: Not if as many were written meanwhile by another thread.

        Raises:
            DatabaseError: The database cannot be written.
        """
        with self._items_writing:
            if upto is not None and upto <= self._written:
                return
            if self._items_error is not None:
                raise self._items_error  # not one busy timeout after another
            with self._items_guard:
                rows = self._items.copy()
            if not rows:
                return
            try:
                with _told_of(f"exec of {len(rows)} items has finished"):
                    self._put_journal(rows)
            except DatabaseError as exc:
                self._items_error = exc
                raise
            with self._items_guard:
                # Only now: a Ctrl-C at any instant leaves them to the next call.
                del self._items[: len(rows)]
                self._written += len(rows)

    def begin_items(self, step: int, marks: Mapping[int, str]) -> None:
        """Commit what the items of parallel branches are, by number, before the branches begin.

        Raises:
            DatabaseError: The database cannot be written.
        """
        where = (self._run_no, self._scope, self._local(step))
        with self._committing() as raw:
            self._put_items(raw, [(*where, item, mark, 0) for item, mark in marks.items()])

    def _put_items(self, raw: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        raw.executemany(QUERIES["insert_item"], rows)
        self._numbers_items = True

    # -- what prep gave, and attempts that failed -----------------------------------------------

    def take_input(self, prepared: Any) -> None:
        """Keep what ``prep`` gave, as it is now, for the first row of the step that is written.

        Whoever goes on with the run gets it instead of running ``prep`` again, with what ``prep``
        had changed in the store. What cannot be stored, such as a generator, ``prep`` gives again.

        Raises:
            InvalidValueError: ``prep`` changed a value in place into something that does not fit.
        """
        if self._knows_input:
            return
        self._knows_input = True
        try:
            text = codec.dumps(prepared)
        except NotStorableError:
            return
        changes = self._values.changes(self._recorded())
        self._input = text, json.dumps([[one.stored_key, one.op, one.text] for one in changes])

    def _put_input(self, raw: sqlite3.Connection, local: int) -> None:
        if self._input is not None:
            raw.execute(QUERIES["insert_pause"], (self._run_no, self._scope, local, *self._input))
            self._begun = True
            self._db.connection.at_end(partial(setattr, self, "_input", None))

    def retry(
        self,
        step: int,
        node: Address,
        attempt: int,
        error: Exception,
        item: int | None,
        mark: str,
        given: Any,
    ) -> None:
        """Commit a failed attempt, of an item if it is one of several, that another one follows.

        Raises:
            DatabaseError: The database cannot be written.
        """
        note = None if item is None else f"item {item}: {describe_error(error)[1]}"
        told = (utc_now(), "node_retry", step, node, None, None, attempt, error, note)
        local = self._local(step)
        if item is None:
            self.take_input(given)
        with self._committing() as raw:
            self._event(raw, *told)
            which = (ALONE if item is None else item, mark, attempt)
            self._put_items(raw, [(self._run_no, self._scope, local, *which)])
            self._put_input(raw, local)

    # -- questions ----------------------------------------------------------------------------

    def ask(
        self,
        step: int,
        place: Address,
        question: NewQuestion,
        item: int,
        mark: str,
        prepared: Any,
    ) -> int:
        """Commit a question, and what its node had done before; the question's number.

        Args:
            step: The step's number.
            place: The node.
            question: The question.
            item: The number of the item that it is about; -1 if it is about none.
            mark: What tells that item from others.
            prepared: What ``prep`` returned.

        Raises:
            DatabaseError: The database cannot be written.
        """
        now, local = utc_now(), self._local(step)
        until = None if question.deadline is None else later(now, question.deadline)
        self.take_input(prepared)
        with self._committing() as raw:
            facts = (stored_text(question.text), question.context, question.schema, now, until)
            where = (self._run_no, self._scope, local, item, dump_names(place.names))
            row = (*where, *facts, question.default)
            number = raw.execute(QUERIES["insert_question"], row).lastrowid
            if item >= 0:
                self._put_items(raw, [(self._run_no, self._scope, local, item, mark, 0)])
            self._put_input(raw, local)
            self._event(raw, now, "node_ask", step, place, note=question.text)
        return int(number or 0)

    # -- the end of the step --------------------------------------------------------------------

    def _clear(self, raw: sqlite3.Connection, step: int) -> None:
        """Remove what was kept of the step, and of the branches in it, until now."""
        row = (self._run_no, self._scope, self._local(step))
        if self._journaled:
            raw.execute(QUERIES["clear_journal"], row)
        if self._begun:
            raw.execute(QUERIES["clear_pauses"], row)
            raw.execute(QUERIES["close_questions"], row)
        if self._numbers_items:
            raw.execute(QUERIES["clear_items"], row)
        if self._forks:
            for query in _OF_BRANCHES:
                raw.execute(QUERIES[query], {"run_no": self._run_no, "forks": self._forks})

    # -- the claim ------------------------------------------------------------------------------

    @contextmanager
    def _committing(self) -> Iterator[sqlite3.Connection]:
        """A transaction of whoever still has the claim of the run.

        Raises:
            RunLostError: Somebody else has it now, or the run is not there as it was left.
        """
        with self._db.connection.transaction() as raw:
            self._refuse_late()
            progress = self._progress
            claim = {"run_no": self._run_no, "fence": progress.fence, "last": progress.last}
            if raw.execute(QUERIES["owned"], claim).fetchone() is None:
                raise self._lost(raw)
            yield raw

    def _refuse_late(self) -> None:
        if self._progress.is_over:
            raise DatabaseError(f"run {self.run_id!r} has ended, so no step of it is written now")
        self._refuse_without_lock()

    def _refuse_without_lock(self) -> None:
        if not self._db.locks.keep(self._run_no, self._progress.claim):
            raise RunLostError(
                f"run {self.run_id!r} is not this process's: it was forked off the one that runs "
                "it, or another one took its lock when the lock file was removed; it writes "
                "nothing more"
            )

    def _lost(self, raw: sqlite3.Connection) -> RunLostError:
        """Why a commit is refused."""
        progress = self._progress
        row = raw.execute(QUERIES["fence"], (self._run_no,)).fetchone()
        if row is None or row["run_id"] != self.run_id:
            why = "it was removed from it"
        elif row["fence"] > progress.fence:
            why = "another process goes on with it"
        else:
            why = (
                f"an older copy of the file was restored (step {progress.last}, which was "
                "committed, is not there)"
            )
        return RunLostError(
            f"run {self.run_id!r} of database {self._db.path} is not this process's any more: "
            f"{why}. It stops here, and writes nothing more"
        )

    def _recorded(self) -> Recorded:
        if self._store is None:
            raise DatabaseError(f"run {self.run_id!r} has not begun")
        return self._store

    # -- rows ---------------------------------------------------------------------------------

    def _local(self, step: int) -> int:
        """The number of a step in its own line of execution."""
        return step

    def _event(
        self,
        raw: sqlite3.Connection,
        now: str,
        event: str,
        step: int,
        node: Address | None,
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
                None if node is None else node.text,
                event,
                None if action is None else escaped(action),
                None if elapsed is None else round(elapsed * 1000, 3),
                message if note is None else escaped(note),
                now,
                attempt,
                kind,
                trace,
                dump_names(node.names) if node is not None and node.path else None,
            ),
        )


@contextmanager
def _told_of(finished: str) -> Iterator[None]:
    """Say what a result costs that could not be recorded."""
    try:
        yield
    except (DatabaseBusyError, DatabaseFileError) as exc:
        what = f"{finished}, and its result could not be recorded: a resume calls it again"
        exc.args = (f"{exc}; {what}", *exc.args[1:])
        raise
