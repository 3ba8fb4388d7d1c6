"""The recording of one line of execution, a run or a parallel branch of it."""

from __future__ import annotations

import json
import threading
from abc import abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

from pocoflow import values as codec
from pocoflow.address import Address
from pocoflow.db.clock import later
from pocoflow.db.emitting import EmittedValues, ValueRange, mark_void
from pocoflow.db.expenses import SharedSpending
from pocoflow.db.log import Described, Kind, Row, RunLog, dump_taken, split_names
from pocoflow.db.port import PutsOne, Transaction, put_one
from pocoflow.db.rows import dump_names
from pocoflow.db.sql import QUERIES
from pocoflow.db.values import Change, Recorded, ValueWriter, stored_text
from pocoflow.db.waiting_rows import WaitingRows, report_lost
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import DatabaseError, NotStorableError, RunLostError
from pocoflow.graph.step_records import ALONE, Bill, Called, Finished, Identity, Numbers, Tried
from pocoflow.graph.unfinished import Unfinished
from pocoflow.nodes.annotations import awaited, read_hints
from pocoflow.nodes.base import AnyNode
from pocoflow.nodes.context import RunContext
from pocoflow.nodes.phase_types import exec_types
from pocoflow.nodes.question import Asked, NewQuestion
from pocoflow.nodes.spending import Amounts, Budget, charged
from pocoflow.store.branch_view import BranchRecord, BranchStore
from pocoflow.store.schema.vouching import classes_within
from pocoflow.store.store import Store
from pocoflow.store.watch import Watch
from pocoflow.values.failures import escaped

_CHECK_ALL_EVERY = 50

_NO_ITEM = (None, None)

_APPEND_RESULT = QUERIES["append_result"]


class Unwritten:
    """What is written with the next rows of a run, whichever line appends them.

    Attributes:
        bills: What was spent: by which line, and the row that says so.
        emitted: What nodes emit; ``None`` if it is not recorded.
        shared: What other runs have spent of shared budgets; read again with each commit.
    """

    def __init__(self) -> None:
        self.bills: list[tuple[LineRecorder, Row]] = []
        self.emitted: EmittedValues | None = None
        self.shared: list[SharedSpending] = []


class LineRecorder:
    """Records the steps of one line of execution.

    A step is two commits: the result of its ``exec``, then its changes and the successor of its
    node. The start of a node is part of the commit before it.

    Attributes:
        keeps: Whether a resume can read what is written.
        line: The number of the line; 0 is the run itself.
        database: The database that it writes to.
        storage: The connection to the database.
        log: The log of the run, shared by its lines.
        unwritten: What else they share.
    """

    keeps = counts = True

    line = 0
    _is_started = True

    def __init__(
        self, database: WorkflowDB, log: RunLog, unwritten: Unwritten, values: ValueWriter
    ) -> None:
        self.database, self.storage = database, database.connection
        self.log, self.unwritten = log, unwritten
        self._values = values
        self._store: Recorded | None = None
        self._checks_all = True  # after the start, or a split into branches
        self._result = 0  # the row of the result of exec, if no other row of the step exists
        self._since = 0  # the row of the last step of this line
        self._is_open = False  # whether other rows of the step exist
        self._input: str | None = None
        self._has_input, self._input_lock = False, threading.RLock()
        self._waiting = WaitingRows()

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.log.run_id

    @property
    def known(self) -> Watch:
        """The store of the line as recorded."""
        return self._values.watch

    def branch(
        self,
        context: RunContext,
        store: BranchStore,
        base: Watch,
        numbers: Numbers,
        stored: Unfinished | None,
    ) -> BranchRecorder:
        """The recorder of a branch that starts, or is resumed, in this line.

        Args:
            context: The branch's context.
            store: Its store.
            base: A watch on the values that it started with.
            numbers: Assigns its steps their numbers.
            stored: Its recorded state, if it is resumed.
        """
        self._is_open = self._checks_all = True
        values = ValueWriter(f"run {self.run_id!r}", self.log.keys, base, store.unsaved)
        values.remarked = self._values.remarked
        values.classes = classes_within(self._values.classes, store.schema)
        return BranchRecorder(self, values, context, store, numbers, stored)

    @abstractmethod
    def pause(self, node: str) -> list[Asked] | None:
        """Record that the run waits for answers."""

    @abstractmethod
    def end(self, *facts: Any) -> bool:
        """Record the end of a run that did not complete; whether it was recorded."""

    # -- the result of exec -------------------------------------------------------------------

    def journal(
        self, step: int, node: str, result: object, definition: AnyNode | None = None
    ) -> None:
        """Commit the result of a finished ``exec``, so that it is not computed again.

        A result that cannot be stored is reported, once per node: after a crash its ``exec`` is
        called again. So is a class in it that no reader will find.

        Raises:
            DatabaseError: The database cannot be written.
        """
        text = self._encoded(node, result, definition)
        if text is None:
            return
        unwritten = self.unwritten
        pending = self._input is not None or unwritten.emitted or unwritten.bills
        is_alone = self._is_started and not pending
        write = partial(self._write_result, step, node, text, is_alone)
        try:
            self.storage.commit(write, self.log.run_no, is_statement=is_alone)
        except DatabaseError as exc:
            if not self._is_after_end(exc):
                report_lost(exc, f"exec of node {node!r} has finished")
                raise

    def _write_result(
        self, step: int, node: str, text: str, is_alone: bool, raw: Transaction, put: PutsOne
    ) -> None:
        run = self.log
        if is_alone:
            self._enter(after_end=True)
        else:
            self._begin(raw, step, after_end=True)
            self._put_input(raw, step)
            self._put_bills(raw, (None,))
        row = (run.end, self.line, run.steps, step, run.clock(), node, text)
        claim = (run.run_no, run.fence, run.last)
        number = put(raw, _APPEND_RESULT, (*row, *claim), run.last + 1)
        if number is None:
            raise run.lost(raw)
        run.last = self._result = number

    def _encoded(
        self,
        node: str,
        result: object,
        definition: AnyNode | None,
        called: Called | None = None,
    ) -> str | None:
        """The text of what ``exec``, or a call in it, returned; ``None`` if it cannot be stored."""
        call = "" if called is None else called.key.rsplit(" ", 2)[0]
        what = f"the result of {f'call {call}' if call else 'exec'} of node {node!r}"
        strangers: set[type] = set()
        try:
            text = codec.dumps(result, strangers)
        except NotStorableError as exc:
            about = f"call {call} of node {node}" if call else f"node {node}"
            self._values.remark(
                about, f"{what} cannot be stored and would be computed again after a crash: {exc}"
            )
            return None
        if strangers:
            hints = [] if definition is None else exec_types(definition)
            if called is not None and called.function is not None:
                hints.append(awaited(read_hints(called.function).get("return", Any)))
            self._values.report_strangers(strangers, what, self._values.classes.of(hints))
        return text

    def journal_item(
        self,
        step: int,
        node: str,
        result: object,
        item: Identity,
        definition: AnyNode | None = None,
    ) -> None:
        """Commit the result of an item, together with what other threads wait to commit.

        Raises:
            DatabaseError: The database cannot be written.
        """
        text = self._encoded(node, result, definition)
        if text is None:
            return
        row = Row(Kind.ITEM, step, item=item.number, mark=item.mark, data=text)
        self._write(f"exec of item {item.number} of node {node!r} has finished", [row])

    def call(self, step: int, called: Called) -> None:
        """Commit what a call returned, together with what other threads wait to commit.

        Raises:
            DatabaseError: The database cannot be written.
        """
        for prepared in called.given:
            self.take_input(prepared)
        node, (item, mark) = called.address.node, called.item or _NO_ITEM
        rows: list[Row] = []
        if called.spent:
            bill = _of_bill(step, called.address, item, called.attempt, called.spent)
            rows.append(bill._replace(note=called.key))
        text = self._encoded(node, called.result, None, called)
        if text is not None:
            row = Row(
                Kind.CALL,
                step,
                item=item,
                address=called.address.names,
                attempt=called.attempt,
                elapsed=int(called.elapsed * 1e6),
                note=called.key,
                mark=mark,
                data=f"~{text}" if called.awaited else text,
            )
            rows.append(row)
        if rows:
            self._write(f"a call of node {node!r} has returned", rows)

    def call_again(self, step: int, key: str, item: Identity | None) -> None:
        """Commit that a call will be repeated.

        Raises:
            DatabaseError: The database cannot be written.
        """
        with self._writing(step) as raw:
            number, mark = item or _NO_ITEM
            self.put(raw, Row(Kind.CALL, step, item=number, note=key, mark=mark))

    def _write(self, finished: str, rows: Sequence[Row]) -> None:
        """Commit the rows of an item or a call, together with what other threads wait to commit."""
        if not self.storage.is_shared:
            self._waiting.commit(rows, self._commit_rows)
            return
        try:
            self._commit_rows(rows)
        except DatabaseError as exc:
            report_lost(exc, finished)
            raise

    def write_items(self) -> None:
        """Commit the items and calls whose commits a Ctrl-C has prevented.

        Raises:
            DatabaseError: The database cannot be written.
        """
        self._waiting.commit_rest(self._commit_rows)

    def _commit_rows(self, rows: Sequence[Row]) -> None:
        try:
            self.storage.commit(partial(self._write_rows, rows), self.log.run_no)
        except RunLostError as exc:
            if not self._is_after_end(exc):
                raise

    def _write_rows(self, rows: Sequence[Row], raw: Transaction, put: PutsOne) -> None:
        self._is_open, step = True, rows[0].step or 0
        self._begin(raw, step, after_end=True)
        self._put_input(raw, step)
        self._put_bills(raw, [row.item for row in rows if row.kind is Kind.ITEM])
        for row in rows:
            self.put(raw, row, put)

    def begin_items(self, step: int, marks: Mapping[int, str]) -> None:
        """Commit what identifies the items of parallel branches, by number, before these start.

        Raises:
            DatabaseError: The database cannot be written.
        """
        with self._writing(step) as raw:
            self._put_marks(raw, step, marks)

    def _put_marks(self, raw: Transaction, step: int, marks: Mapping[int, str]) -> None:
        self._is_open = True
        for item, mark in marks.items():
            self.put(raw, Row(Kind.MARK, step, item=item, mark=mark))

    # -- what prep returned, questions, and failed attempts --------------------------------------

    def take_input(self, prepared: object) -> None:
        """Capture what ``prep`` returned, to write it before the first row of the step.

        A resume uses it, with the changes that ``prep`` made to the store, and does not call
        ``prep`` again. It does call ``prep`` if the value cannot be stored, as a generator, or has
        a class that no reader will find.

        Raises:
            InvalidValueError: ``prep`` changed a value in place into one that does not fit.
        """
        with self._input_lock:  # a concurrent caller writes no row before it is captured
            if self._has_input:
                return
            self._has_input = True
            strangers: set[type] = set()
            try:
                text = codec.dumps(prepared, strangers)
            except NotStorableError:
                return
            if strangers and codec.strange_names(strangers, self._values.classes):
                return
            self._input = self._changes_text(text)

    def _changes_text(self, prepared: str | None, amended: Container[str] = ()) -> str:
        """What ``prep`` returned, if it has run, and the changes since the last step, as JSON text.

        Keys in ``amended`` are recorded with that step.
        """
        changes = [c for c in self._values.changes(self._recorded()) if c.key not in amended]
        return json.dumps([prepared, [[c.stored_key, c.op, c.text] for c in changes]])

    def _put_input(self, raw: Transaction, step: int) -> None:
        text, self._input = self._input, None  # written once per transaction
        if text is not None:
            self.storage.at_end(undone=partial(setattr, self, "_input", text))
            # Before the row that it belongs to: the last row of a run is never removed.
            self.put(raw, Row(Kind.PREPARED, step, data=text))
            self._is_open = True

    def ask(
        self,
        step: int,
        address: Address,
        question: NewQuestion,
        item: Identity | None,
        prepared: object,
    ) -> int:
        """Commit a question, and what its node had changed before; returns the question's number.

        Args:
            step: The step's number.
            address: The node.
            question: The question.
            item: The item that it concerns, if the node works on several.
            prepared: What ``prep`` returned.

        Raises:
            DatabaseError: The database cannot be written.
        """
        now, run = self.storage.now(), self.log
        until = None if question.deadline is None else later(now, question.deadline)
        self.take_input(prepared)
        with self._writing(step) as raw:
            facts = (stored_text(question.text), question.context, question.schema, now, until)
            of_item = ALONE if item is None else item.number
            key = (run.run_no, self.line, self._local(step), of_item, dump_names(address.names))
            row = (*key, *facts, question.default)
            number = raw.execute(QUERIES["insert_question"], row).lastrowid
            if item is not None:
                self._put_marks(raw, step, {item.number: item.mark})
            self._put_input(raw, step)
            self._put_bills(raw, (None if item is None else item.number,))
            note, data = escaped(question.text), str(number)
            self.put(raw, Row(Kind.ASKED, step, address=address.names, note=note, data=data))
        self._is_open = True
        return int(number or 0)

    def spend(self, step: int, bill: Bill) -> None:
        """Record what was spent with the next row of its attempt, or of the step."""
        item = None if bill.item == ALONE else bill.item
        row = _of_bill(step, bill.address, item, bill.attempt, bill.amounts)
        self.unwritten.bills.append((self, row))

    def share_budgets(
        self, flows: Sequence[str], of_thread: Amounts | None, of_labels: Mapping[str, Amounts]
    ) -> Sequence[Budget]:
        """The budgets that the run shares with others, including what these spend later."""
        budgets: list[Budget] = []
        row = self.database.get_run(self.run_id)
        if row is None:  # it was removed meanwhile, which its next commit reports
            return budgets
        thread, labels = row["thread"], row["labels"]
        if of_thread is not None and thread is not None:
            # No other run of the thread is at work while this one is.
            of_runs: dict[str, object] = {"thread": thread, "flows": json.dumps(list(flows))}
            spending = self._spending_of("thread", of_runs)
            budgets.append(Budget(f"run thread {thread!r}", of_thread, spending))
        for key in of_labels.keys() & labels.keys():
            spending = self._spending_of("label", {"key": key, "value": labels[key]})
            self.unwritten.shared.append(spending)
            budgets.append(Budget(f"the runs of {key}={labels[key]}", of_labels[key], spending))
        return budgets

    def _spending_of(self, what: str, of_runs: Mapping[str, object]) -> SharedSpending:
        parameters = {**of_runs, "besides": self.log.run_no}
        return SharedSpending(self.storage, QUERIES[f"spending_of_{what}"], parameters)

    def _put_bills(
        self,
        raw: Transaction,
        items: Container[int | None] | None = None,
        *,
        of_run: bool = False,
    ) -> None:
        """Record what was spent, on ``items`` or all, by this line with its branches, or by any.

        When everything is recorded, the branches have ended, perhaps without a commit.
        """

        def is_due(owner: LineRecorder, row: Row) -> bool:
            if items is None:
                return of_run or owner.is_within(self)
            return owner is self and row.item in items

        bills = self.unwritten.bills
        due = [entry for entry in bills if is_due(*entry)]
        if due:
            # Immediately: other parts of the same transaction must not record them again.
            for entry in due:
                bills.remove(entry)
            self.storage.at_end(undone=partial(bills.extend, due))
        for owner, row in due:
            owner.begin_line(raw, row.step or 0)
            owner.put(raw, row)

    def retry(self, step: int, tried: Tried) -> None:
        """Commit a failed attempt, possibly of an item, after which another attempt is made.

        Raises:
            DatabaseError: The database cannot be written.
        """
        described = Described.of(tried.error)
        item, mark = tried.item or _NO_ITEM
        row = Row(Kind.RETRY, step, item=item, address=tried.address.names, attempt=tried.attempt)
        row = row._replace(mark=mark, error=described)
        if item is None:
            self.take_input(tried.given)
        with self._writing(step) as raw:
            self._put_input(raw, step)
            self._put_bills(raw, (item,))
            if tried.again:
                self.put(raw, Row(Kind.CALL, step, item=item, note=tried.again, mark=mark))
            self.put(raw, row)
            self._put_void(raw, step, item)

    # -- what nodes emit ----------------------------------------------------------------------

    @property
    def emits(self) -> bool:
        """Whether what nodes emit is recorded."""
        return self.unwritten.emitted is not None

    def emit(self, context: RunContext, value: object) -> None:
        """Have an emitted value written within 50 ms, and before the commit of its step.

        Raises:
            NotStorableError: It cannot be stored.
        """
        text, names = codec.dumps(value), (*context.path, context.node)
        bill = charged.get()
        call = None if bill is None else bill.key
        row = Row(Kind.EMITTED, context.step, item=context.item, address=names)
        row = row._replace(attempt=context.attempt, event=context.phase, note=call)
        if self.unwritten.emitted is not None:
            self.unwritten.emitted.add(self.put_emitted, row, text)

    def put_emitted(self, raw: Transaction, row: Row, texts: Sequence[str]) -> None:
        """Write values, in the caller's transaction; the last has the number of their row.

        Raises:
            RunLostError: Another process has claimed the run.
        """
        self.begin_line(raw, row.step or 0)
        self.put(raw, row._replace(data=f"[{','.join(texts)}]"), ids=len(texts))

    def _put_void(self, raw: Transaction, step: int, item: int | None) -> None:
        """Mark what a failed attempt has emitted as void, except in recorded calls."""
        if self.emits:
            of_exec = {"line": self.line, "item": ALONE if item is None else item}
            of_exec |= {"since": self._since, "end": self.log.end}
            rows = raw.execute(QUERIES["emitted_by_exec"], of_exec).fetchall()
            if rows:
                void = [ValueRange.of(self.log, row["id"], row["size"]) for row in rows]
                mark_void(raw, self.log, self.line, step, void)

    # -- a step -------------------------------------------------------------------------------

    def step(self, finished: Finished) -> tuple[int, bool]:
        """Commit a finished step: its changes, and the successor of its node.

        Returns:
            The step's number, and whether the run was asked to stop through the database.

        Raises:
            InvalidValueError: A value was changed in place into one that does not fit.
            DatabaseError: The database cannot be written.
        """
        successor = finished.successor
        changes = self._changes(successor is None or finished.step % _CHECK_ALL_EVERY == 0)
        # Before the transaction, which makes other writers wait.
        columns = _columns(finished)
        write = partial(self._step, finished, changes, columns)
        return self.storage.commit(write, self.log.run_no)

    def _step(
        self,
        finished: Finished,
        changes: Sequence[Change],
        columns: tuple[object, ...],
        raw: Transaction,
        put: PutsOne,
    ) -> tuple[int, bool]:
        step, node, path = finished[:3]
        successor, failure = finished.successor, finished.failure
        run = self.log
        self._begin(raw, step, (*path, node))
        if self.unwritten.bills:
            self._put_bills(raw)
        step = self._number(step)
        note = self._values.note or ""
        row = (self.line, step + 1, step, run.clock(), note, *columns)
        error = None if failure is None else Described.of(failure)
        last, is_stopping = run.append_step(raw, self._result, row, error, put)
        if self._is_open or (self._result and last != self._result):
            self._close(raw, last)  # before the values, which reuse the space that it frees
        self._values.write(raw, run.run_no, step, changes)
        if successor is None:
            self._end_line(raw, node, path)
        run.last, run.steps = last, step + 1
        self.storage.at_end(partial(self._finished, step, last, changes, successor))
        return step, is_stopping

    def remark(self, text: str) -> None:
        """Record a remark with the next row."""
        self._values.remarks.append(text)

    def _changes(self, whole: bool) -> list[Change]:
        """The changes of a step; values that it did not touch are only compared now and then."""
        store = self._recorded()
        touched = store if isinstance(store, Store) else None
        if touched is not None and not self._checks_all and not whole:
            return self._values.changes(store, touched)
        return self._values.changes(store)

    def _close(self, raw: Transaction, last: int) -> None:
        """Remove the rows of the unfinished step, and of the branches in it."""
        raw.execute(QUERIES["remove_open"], (self._since, last, self.line, self.line))
        span = {"run_no": self.log.run_no, "line": self.line, "since": self._since, "last": last}
        raw.execute(QUERIES["close_questions"], span)

    @contextmanager
    def _writing(self, step: int) -> Iterator[Transaction]:
        """A transaction that appends rows of an unfinished step."""
        with self.storage.transaction(of=self.log.run_no) as raw:
            self._begin(raw, step)
            yield raw

    def _begin(
        self, raw: Transaction, step: int, address: Sequence[str] = (), *, after_end: bool = False
    ) -> None:
        """Write what precedes the rows of a commit."""
        self._enter(after_end=after_end)
        if not self._is_started:
            self.begin_line(raw, step, address)
        if self.unwritten.emitted:
            self.unwritten.emitted.write(raw)
        for spending in self.unwritten.shared:
            self.storage.at_end(undone=spending.forget)
            spending.refresh()

    def _enter(self, *, after_end: bool = False) -> None:
        """Check that this process still has the run, and restore its state on a rollback.

        Called in a transaction, where no other thread appends a row of the run. ``after_end``
        allows what finishes after its run has ended, see :meth:`_is_after_end`.
        """
        run = self.log
        self._refuse_after_end(after_end=after_end)
        state = (run.last, run.steps, self.line, self._since, self._result)
        self.storage.at_end(undone=partial(self._restore, *state))

    def _restore(self, last: int, steps: int, line: int, since: int, result: int) -> None:
        self.log.last, self.log.steps = last, steps
        self.line, self._since, self._result = line, since, result

    def put(self, raw: Transaction, row: Row, puts: PutsOne = put_one, ids: int = 1) -> int:
        """Append a row of the line, in the caller's transaction; returns its number."""
        run = self.log
        run.last = number = run.append(raw, row._replace(line=self.line), puts, ids)
        return number

    def _is_after_end(self, error: DatabaseError) -> bool:
        """Whether the run was lost only after it ended here, so that others may have resumed it."""
        return isinstance(error, RunLostError) and self.log.is_over

    def begin_line(self, raw: Transaction, step: int, address: Sequence[str] = ()) -> None:
        """Record the start of the line, with its first row."""

    def is_within(self, line: LineRecorder) -> bool:
        """Whether it is that line, or a descendant of it."""
        return self is line

    def _end_line(self, raw: Transaction, node: str, path: tuple[str, ...]) -> None:
        """Record the end of the line with its last step."""

    def _finished(
        self, step: int, last: int, changes: Sequence[Change], successor: str | None
    ) -> None:
        """Update the state after the commit of a step."""
        self._values.accept(changes)
        if isinstance(self._store, Store):
            self._store.forget_touched()
            self._checks_all = False
        self._since, self._result = last, 0
        self._is_open, self._has_input, self._input = False, False, None

    def _refuse_after_end(self, *, after_end: bool = False) -> None:
        if not self.log.is_over:
            self._refuse_without_lock()
        elif not after_end:
            raise DatabaseError(f"run {self.run_id!r} has ended, so no step of it is written now")

    def _refuse_without_lock(self) -> None:
        if not self.database.locks.has(self.log.run_no, self.log.claim):
            raise RunLostError(
                f"run {self.run_id!r} is not this process's: it was forked off the one that runs "
                "it, or another one took its lock when the lock file was removed, or after its "
                "lease on a server had ended; it writes nothing more"
            )

    def _recorded(self) -> Recorded:
        if self._store is None:
            raise DatabaseError(f"run {self.run_id!r} has not begun")
        return self._store

    def _local(self, step: int) -> int:
        """The number of a step in its own line of execution."""
        return step

    def _number(self, step: int) -> int:
        """The number of a step that is being committed."""
        return step


class BranchRecorder(LineRecorder):
    """Records a parallel branch, whose steps are numbered when they are committed."""

    def __init__(
        self,
        parent: LineRecorder,
        values: ValueWriter,
        context: RunContext,
        store: BranchStore,
        numbers: Numbers,
        stored: Unfinished | None,
    ) -> None:
        super().__init__(parent.database, parent.log, parent.unwritten, values)
        self.parent = parent
        self._context = context
        self._numbers = numbers
        self._store = BranchRecord(store)
        self._began = self.log.clock()
        if stored is not None:
            self.line = values.line = stored.line
            values.load_branch(stored.keys, self._store, stored.rows, store.migrated)
            self._since = stored.row
            self._is_open, self._has_input = True, bool(stored.prepared)

    @property
    def _is_started(self) -> bool:  # type: ignore[override]
        return self.line > 0

    def pause(self, node: str) -> list[Asked] | None:
        """Pause the run."""
        return self.parent.pause(node)

    def end(self, *facts: Any) -> bool:
        """End the run."""
        return self.parent.end(*facts)

    def is_within(self, line: LineRecorder) -> bool:
        """Whether it is that line, or a descendant of it."""
        recorder: LineRecorder = self  # no recursion: branches may be a thousand deep
        while recorder is not line and isinstance(recorder, BranchRecorder):
            recorder = recorder.parent
        return recorder is line

    def _local(self, step: int) -> int:
        return self._context.count

    def _number(self, step: int) -> int:
        # The steps of other branches count, also those in the same transaction.
        return self.log.steps

    def begin_line(self, raw: Transaction, step: int, address: Sequence[str] = ()) -> None:
        """Record the start of the line, with its first row, and that of its parent before it.

        Args:
            raw: The transaction.
            step: The step in which it writes.
            address: The names of its current node; by default, those of its first node.
        """
        if self.line:
            return
        around = [self]  # no recursion: branches may be a thousand deep
        while isinstance(parent := around[-1].parent, BranchRecorder) and not parent.line:
            around.append(parent)
        for recorder in reversed(around[1:]):
            recorder.begin_alone(raw, step)
        self.begin_alone(raw, step, address)

    def begin_alone(self, raw: Transaction, step: int, address: Sequence[str] = ()) -> None:
        """Record the start of the line, after that of its parent."""
        run, context = self.log, self._context
        undo = partial(self._restore, run.last, run.steps, 0, self._since, self._result)
        self.storage.at_end(undone=undo)
        self.line = self._values.line = next(run.lines)
        began, number = context.branches[-1]
        names = address or (*context.path, context.node)
        data = json.dumps([self.parent.line, began, number])
        self._since = self.put(raw, Row(Kind.LINE, step, at=self._began, address=names, data=data))

    def _finished(
        self, step: int, last: int, changes: Sequence[Change], successor: str | None
    ) -> None:
        super()._finished(step, last, changes, successor)
        self._context.count += 1
        self._numbers.next_step = max(self._numbers.next_step, step + 1)


def _columns(finished: Finished) -> tuple[object, ...]:
    """The columns of a finished step, other than its number, line, time and note."""
    _, node, path, action, attempts, elapsed, successor, successor_path, _, taken = finished
    at, names = split_names((*path, node))
    next_at, next_names = split_names((*successor_path, successor)) if successor else ("", "")
    shown = escaped(action)
    return (
        at,
        names or "",
        shown,
        int(elapsed * 1e6),
        attempts,
        next_at,
        next_names or "",
        (successor and dump_taken(taken)) or "",
        "" if shown == action else stored_text(action),
    )


def _of_bill(
    step: int,
    address: Address,
    item: int | None,
    attempt: int,
    amounts: Mapping[str, Decimal | None],
) -> Row:
    """The row of an expense."""
    texts = {name: None if spent is None else str(spent) for name, spent in amounts.items()}
    names, data = address.names, json.dumps(texts)
    return Row(Kind.SPENT, step, item=item, address=names, attempt=attempt, data=data)
