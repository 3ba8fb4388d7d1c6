"""What one line of execution writes, a run or a parallel branch of it: one transaction per step."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pocoflow.address import Address, dump_names
from pocoflow.branches import BranchRecord, BranchStore
from pocoflow.context import RunContext
from pocoflow.counting import Begun, Numbers
from pocoflow.db.clock import utc_now
from pocoflow.db.journal import Journal
from pocoflow.db.questions import Asked, Pause
from pocoflow.db.sql import QUERIES
from pocoflow.db.values import Change, ValueWriter, stored_text
from pocoflow.edges import DEFAULT_ACTION
from pocoflow.schema import field_types, schema_types
from pocoflow.watch import Watch

__all__ = ["BranchRecorder", "StepWriter", "StoredBranch"]


@dataclass(frozen=True, slots=True)
class StoredBranch:
    """A branch of a stored run that had finished a step, or the ``exec`` of one.

    Attributes:
        count: How many steps it has finished.
        node: The node that comes next in it; empty for its first, ``None`` at its end.
        path: Names of the flow nodes around that.
        action: The action of its last step.
        journal: Results of its ``exec`` that are finished, encoded, by item.
        keys: The numbers of its keys.
        rows: Its values as stored: key, operation, text.
        asked: The questions of its step, by item.
        pause: What its node had done before the first row of its step.
        items: What is known of the items of its step, by number.
    """

    count: int
    node: str | None
    path: tuple[str, ...]
    action: str = DEFAULT_ACTION
    journal: Mapping[int, str] = field(default_factory=dict)
    keys: Mapping[str, int] = field(default_factory=dict)
    rows: Sequence[tuple[str, int, str | None]] = ()
    asked: Mapping[int, Asked] = field(default_factory=dict)
    pause: Pause | None = None
    items: Mapping[int, Begun] = field(default_factory=dict)


class StepWriter(Journal):
    """Writes the steps of one line of execution.

    The event of a node's start is part of the commit before it, so that a step costs one commit,
    and one more for the result of its ``exec``.

    Attributes:
        keeps: What is written is there for a resume.
    """

    keeps = True

    def branch(
        self,
        context: RunContext,
        store: BranchStore,
        fork: Watch,
        numbers: Numbers,
        stored: StoredBranch | None,
    ) -> BranchRecorder:
        """What records a branch that begins, or goes on, here.

        Args:
            context: The branch's context.
            store: Its store.
            fork: The values at the fork, remembered.
            numbers: Gives its steps their numbers.
            stored: How it stood, if it goes on.
        """
        values = ValueWriter(f"run {self.run_id!r}", context.scope, self._values.numbers, fork)
        own = store.schema
        values.classes = self._values.classes.within(schema_types(own), field_types(own))
        made = BranchRecorder(self._db, self.run_id, values)
        made._progress = self._progress
        made.begin_branch(self._run_no, context, store, numbers)
        self._forks = context.scope.rpartition(".")[0] + "."
        if stored is not None:
            made.go_on_branch(stored)
        return made

    # -- a step -------------------------------------------------------------------------------

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
        failure: Exception | None = None,
    ) -> tuple[int, bool]:
        """Commit a finished step: its checkpoint, events, position and the run's row.

        Args:
            step: The step's number; a branch takes the next one.
            node: The node's name in its graph.
            path: Names of the nested flows around it.
            action: What ``post`` returned, or what an error is caught as.
            attempts: How often ``exec`` was tried.
            elapsed: Seconds the step took.
            following: The node that comes next; ``None`` if this is the end.
            following_path: Names of the nested flows around that.
            note: What a reader of the event log should know, such as an action without an edge.
            failure: The error that ended the step and was caught.

        Returns:
            The step's number, and whether somebody asked the run to stop through the database.

        Raises:
            InvalidValueError: A value was changed in place into something that does not fit.
            DatabaseError: The database cannot be written.
        """
        now = utc_now()
        changes = self._values.changes(self._recorded())
        place = Address(path, node)
        with self._db.connection.transaction() as raw:
            self._refuse_late()
            step = self._number(raw, step)
            asked = self._advance(raw, now, step, place, following, following_path)
            raw.execute(QUERIES["insert_step"], (self._run_no, step, place.text, now))
            self._values.write(raw, self._run_no, step, changes)
            self._clear(raw, step)
            kind = "node_end" if failure is None else "node_error"
            self._event(raw, now, kind, step, place, action, elapsed, attempts, failure, note)
            self._follow(raw, now, step, action, following, following_path)
            self._db.connection.at_end(partial(self._finished, step, changes, following))
        return step, asked

    def _advance(
        self,
        raw: sqlite3.Connection,
        now: str,
        step: int,
        node: Address,
        following: str | None,
        path: tuple[str, ...],
    ) -> bool:
        """Set the run's row to what it is after a step; whether somebody asked the run to stop.

        Raises:
            RunLostError: The run is not this process's any more.
        """
        coming = node if following is None else Address(path, following)
        claim = (self._run_no, self._progress.fence, self._progress.last)
        row = raw.execute(QUERIES["progress"], (step + 1, coming.text, *claim)).fetchone()
        if row is None:
            raise self._lost(raw)
        if not row[1]:
            raw.execute(QUERIES["works_on"], (self._run_no,))
        return bool(row[0])

    def _follow(
        self,
        raw: sqlite3.Connection,
        now: str,
        step: int,
        action: str,
        following: str | None,
        path: tuple[str, ...],
    ) -> None:
        """Write what comes after a step."""
        local = self._local(step) + 1
        self._position(raw, step, following or "", path, local, action)
        if following is not None:
            self._event(raw, now, "node_start", step + 1, Address(path, following))

    def _finished(self, step: int, changes: Sequence[Change], following: str | None) -> None:
        """A step is committed."""
        self._progress.last = step
        self._values.accept(changes)
        self._journaled = self._begun = self._numbers_items = self._knows_input = False
        self._input = None
        self._forks = ""

    # -- rows ---------------------------------------------------------------------------------

    def _number(self, raw: sqlite3.Connection, step: int) -> int:
        """The number of a step that is committed now."""
        return step

    def _position(
        self,
        raw: sqlite3.Connection,
        step: int,
        node: str,
        path: tuple[str, ...],
        count: int,
        action: str | None = None,
    ) -> None:
        where = dump_names(path) if path else "[]"
        led = None if action is None else stored_text(action)
        row = (self._run_no, step, self._scope, count, node, where, led)
        raw.execute(QUERIES["insert_position"], row)


class BranchRecorder(StepWriter):
    """Writes the steps of a parallel branch, which takes their numbers as it commits them."""

    def begin_branch(
        self, run_no: int, context: RunContext, store: BranchStore, numbers: Numbers
    ) -> None:
        """Begin at the branch's first node."""
        self._run_no = run_no
        self._scope = context.scope
        self._context = context
        self._numbers = numbers
        self._store = BranchRecord(store)
        self._migrated = store.migrated
        self._values.expect_unsaved(store.unsaved)
        self._first: str | None = utc_now()

    def go_on_branch(self, stored: StoredBranch) -> None:
        """Go on where a stored branch stood."""
        self._values.load_branch(stored.keys, self._recorded(), self._migrated)
        self._forks = f"{self._scope}/{stored.count}."
        self._journaled, self._begun = bool(stored.journal), True
        self._knows_input = stored.pause is not None
        self._numbers_items = bool(stored.items)

    def _local(self, step: int) -> int:
        return self._context.count

    def _number(self, raw: sqlite3.Connection, step: int) -> int:
        # What other branches have written counts, also what is committed together with this step.
        last = raw.execute(QUERIES["last_step"], (self._run_no,)).fetchone()[0]
        return (self._progress.last if last is None else int(last)) + 1

    def _event(
        self,
        raw: sqlite3.Connection,
        now: str,
        event: str,
        step: int,
        node: Address | None,
        *rest: Any,
        **facts: Any,
    ) -> None:
        if self._first is not None:
            # The start of the branch's first node: no commit before it was the branch's own. Items
            # that ask at once come here one after another, as each is in a transaction.
            first, self._first = self._first, None
            self._db.connection.at_end(undone=partial(setattr, self, "_first", first))
            super()._event(raw, first, "node_start", step, node)
        super()._event(raw, now, event, step, node, *rest, **facts)

    def _finished(self, step: int, changes: Sequence[Change], following: str | None) -> None:
        super()._finished(step, changes, following)
        self._context.count += 1
        self._numbers.following = max(self._numbers.following, step + 1)
