"""A persistent connection to a database, shared by threads: its transactions, its errors."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pocoflow.db.clock import micros, utc_now
from pocoflow.db.port import Parameters, PutsOne, Record, Transaction, put_one
from pocoflow.db.rows import checked
from pocoflow.errors import DatabaseError, DatabaseLostError

T = TypeVar("T")


class _Ends:
    """What to call once a transaction is committed, or rolled back."""

    __slots__ = ("committed", "undone")

    def __init__(self) -> None:
        self.committed: list[Callable[[], object]] = []
        self.undone: list[Callable[[], object]] = []

    def commit(self) -> None:
        for call in self.committed:
            call()

    def undo(self) -> None:
        while self.undone:
            self.undone.pop()()


class _Group(_Ends):
    """Transactions that are committed as one."""

    __slots__ = ("has_started", "is_lost", "refused", "thread")

    def __init__(self) -> None:
        super().__init__()
        self.has_started = False
        self.is_lost = False
        self.refused: Exception | None = None
        self.thread = threading.get_ident()


class _Waiting(Generic[T]):
    """A call that a thread has queued for another thread to make."""

    __slots__ = ("_call", "error", "is_done", "result")

    result: T

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.error: BaseException | None = None
        self.is_done = False

    def __call__(self) -> None:
        self.error = None
        try:
            self.result = self._call()
        except BaseException as exc:  # noqa: BLE001 - raised by the waiting thread
            self.error = exc


class Connection(ABC):
    """A connection to one database, shared by the threads of this process.

    A transaction waits for other writers at its start, not in the middle.

    Attributes:
        label: The database, as messages name it; without a password.
        read_only: Whether nothing is written.
        alone: The lock of the connection.
        waiting: Calls that other threads have queued for it.
        is_new: Whether there was no database, and opening this has created it.
        home: The same for all connections to one database.
    """

    label: str
    read_only: bool
    alone: threading.RLock
    waiting: deque[_Waiting[Any]]
    is_new: bool = False
    home: Hashable

    _errors: ClassVar[tuple[type[Exception], ...]] = ()
    """What the underlying library raises."""

    _in_no_database: ClassVar[tuple[type[Exception], ...]] = ()
    """The errors for a parameter that no text or number in a database can equal."""

    _ends: _Ends | None = None
    _group: _Group | None = None

    def micros(self) -> int:
        """The time of the database in microseconds since 1970."""
        return micros()

    def now(self) -> str:
        """The time of the database as ISO-8601 text in UTC."""
        return utc_now()

    # -- what each kind of database implements ----------------------------------------------------

    @abstractmethod
    def close(self) -> None:
        """Close the connection; using it again raises :class:`DatabaseError`."""

    @abstractmethod
    def _read(self, sql: str, parameters: Parameters) -> list[Record]:
        """The rows of a read, in a transaction or not."""

    @abstractmethod
    def version(self, run_no: int) -> Hashable:
        """A token that every commit of a run changes; ``None`` if it is unknown.

        Never blocks: it is unknown while another thread of this process uses the connection.
        """

    @abstractmethod
    def vacuum(self) -> None:
        """Release unused space."""

    def migrate(self, *, close_running: bool = False) -> Path | None:
        """Migrate a database of version 0.2.1 to the current layout; returns the path of its copy.

        ``None`` if it has the current layout already.
        """
        return None

    @abstractmethod
    def _to_write(self) -> Transaction:
        """What statements are written to; the database has the current layout by then."""

    @abstractmethod
    def _begin(self, *, patient: bool, of: int) -> None:
        """Begin a transaction, after those of other writers."""

    @abstractmethod
    def _begin_statement(self, of: int) -> None:
        """Prepare for one statement that is a transaction by itself."""

    @abstractmethod
    def _end_statement(self) -> None:
        """Make sure that it is committed."""

    @abstractmethod
    def _join(self, of: int) -> None:
        """Begin a part of a shared transaction."""

    @abstractmethod
    def _commit(self) -> None:
        """Commit the transaction."""

    @abstractmethod
    def _undo(self) -> bool:
        """Roll the transaction back; ``False`` if there is none."""

    @abstractmethod
    def explain(self, exc: Exception) -> DatabaseError:
        """Our error for an error of the underlying library."""

    @abstractmethod
    def _be_patient(self) -> None:
        """Wait for other writers again."""

    @property
    def _is_inside(self) -> bool:
        """Whether an open transaction of this thread is still open on the connection."""
        return True

    def reset_after_fork(self, *, at_rest: bool) -> None:
        """Reset the connection in a forked child, whose parent owns what is open.

        Args:
            at_rest: Whether no other thread of the parent was using it.
        """
        self.alone = threading.RLock()
        self.waiting.clear()
        self._ends = self._group = None

    # -- transactions -----------------------------------------------------------------------------

    @contextmanager
    def transaction(self, *, patient: bool = True, of: int = 0) -> Iterator[Transaction]:
        """A write transaction, committed as a whole at the end, or not at all.

        Args:
            patient: Whether to wait for another writer.
            of: The number of the run to whose log it appends, if it concerns no other run: then it
                need not wait for their writers.

        Raises:
            DatabaseBusyError: Another writer held the lock for longer than the busy timeout.
            DatabaseFileError: The database is full, read-only, damaged or gone.
            DatabaseError: This thread is in the middle of one.
        """
        with self.alone:
            self._refuse_nested()
            interrupted, ends = self._ends, _Ends()
            self._ends = ends
            try:
                yield self._start(of, patient=patient)
                self._finish(ends)
            except BaseException as exc:
                self._fail(ends, exc)
                raise
            finally:
                self._ends = interrupted
                if not patient:
                    self._be_patient()

    def _refuse_nested(self) -> None:
        if self._ends is not None and self._is_inside:
            raise DatabaseError(
                f"database {self.label}: nothing was written by what a signal handler, or a "
                "__del__, has called while its thread is in the middle of a commit; leave that to "
                "another thread"
            )

    def _start(self, of: int, *, patient: bool = True, is_statement: bool = False) -> Transaction:
        """Begin a transaction, or a part of the transaction of a group."""
        raw = self._to_write()
        if self._group is not None:
            self._begin_group(self._group, of)
            self._join(of)
        elif is_statement:
            self._begin_statement(of)
        else:
            self._begin(patient=patient, of=of)
        return raw

    def _finish(self, ends: _Ends, *, is_statement: bool = False) -> None:
        """Commit the transaction, or leave that to the end of the group."""
        group = self._group
        if group is not None:
            group.committed += ends.committed
            group.undone += ends.undone
            return
        if is_statement:
            self._end_statement()
        else:
            self._commit()
        ends.commit()

    def _fail(self, ends: _Ends, exc: BaseException) -> None:
        """Roll back; an error of the underlying library is raised as one of ours."""
        if self._group is not None:
            self._group.is_lost = self._group.has_started
            ends.undo()
        elif self._undo() or isinstance(exc, self._errors):
            ends.undo()  # not after a Ctrl-C right after the commit
        if isinstance(exc, self._errors):
            raise self.explain(exc) from exc

    def at_end(
        self,
        committed: Callable[[], object] | None = None,
        undone: Callable[[], object] | None = None,
    ) -> None:
        """Register what to call once the open transaction is committed, or rolled back."""
        assert self._ends is not None
        if committed is not None:
            self._ends.committed.append(committed)
        if undone is not None:
            self._ends.undone.append(undone)

    def together(self, commits: Sequence[Callable[[], object]], /) -> None:
        """Call functions that do not raise; their transactions are merged and committed at the end.

        If one of them fails, or the commit does, everything is rolled back, and each half of them
        is called again, in a transaction of its own.

        Raises:
            DatabaseLostError: It is unknown whether it was committed.
        """
        with self.alone:
            self._refuse_nested()
            if len(commits) == 1:
                commits[0]()
            elif not self._commit_together(commits):
                half = len(commits) // 2
                self.together(commits[:half])
                self.together(commits[half:])

    def commit(
        self, write: Callable[[Transaction, PutsOne], T], of: int, *, is_statement: bool = False
    ) -> T:
        """Have a function append to the log of a run, and commit that, as a :meth:`transaction`.

        Group commit: what several threads wait to commit is one commit. So the function may be
        called more than once, and by another thread. The main thread takes no part in this, as a
        Ctrl-C may interrupt it anywhere.

        Args:
            write: The function.
            of: The number of the run.
            is_statement: It executes one statement, which is a transaction by itself.
        """
        if threading.current_thread() is threading.main_thread():
            return self._carry_out(write, of, put_one, is_statement=is_statement)
        if self.alone.acquire(blocking=False):
            try:
                # Queued calls must not join a group, or a commit, that this thread is in.
                is_inside = self._group is not None or self._ends is not None
                if is_inside or not self.waiting:
                    return self._carry_out(write, of, put_one, is_statement=is_statement)
            finally:
                self.alone.release()
        queued = _Waiting(partial(self._carry_out, write, of, put_one))
        self.waiting.append(queued)
        with self.alone:
            if not queued.is_done:
                calls = [self.waiting.popleft() for _ in range(len(self.waiting))]
                try:
                    self.together(calls)
                except BaseException as exc:  # noqa: BLE001 - raised by each waiting thread
                    for call in calls:
                        call.error = exc
                for call in calls:
                    call.is_done = True
        if queued.error is not None:
            raise queued.error
        return queued.result

    def _carry_out(
        self,
        write: Callable[[Transaction, PutsOne], T],
        of: int,
        put: PutsOne,
        *,
        is_statement: bool = False,
    ) -> T:
        """Commit what a function writes."""
        with self.alone:
            self._refuse_nested()
            interrupted, ends = self._ends, _Ends()
            self._ends = ends
            try:
                written = write(self._start(of, is_statement=is_statement), put)
                self._finish(ends, is_statement=is_statement)
            except BaseException as exc:
                self._fail(ends, exc)
                raise
            finally:
                self._ends = interrupted
            return written

    def _commit_together(self, commits: Sequence[Callable[[], object]]) -> bool:
        """Whether everything that the functions wrote was committed together."""
        group = self._group = _Group()
        try:
            for call in commits:
                call()
                if group.is_lost:
                    break
            else:
                if group.has_started:
                    self._commit()
        except Exception as exc:
            if not isinstance(exc, (DatabaseError, *self._errors)):
                raise
            if self._undo() or isinstance(exc, self._errors):
                group.undo()
            if isinstance(lost := self.explain(exc), DatabaseLostError):
                raise lost from exc
            return False
        finally:
            self._group = None
        if group.is_lost:
            self._undo()
            group.undo()
            return False
        group.commit()
        return True

    def _begin_group(self, group: _Group, of: int) -> None:
        """Begin at the first part; if that fails, the others fail at once."""
        if group.refused is not None:
            raise group.refused
        if not group.has_started:
            try:
                self._begin(patient=True, of=of)
            except self._errors as exc:
                group.refused = exc
                raise
            group.has_started = True

    @property
    def is_shared(self) -> bool:
        """Whether this thread is writing a part of a group's transaction."""
        group = self._group  # another thread may own it, and end it now
        return group is not None and group.thread == threading.get_ident()

    @property
    def is_undone(self) -> bool:
        """Whether the group's transaction is rolled back, and will be written again."""
        group = self._group
        return self.is_shared and group is not None and group.is_lost

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Record]:
        """The rows of a read; each value has the type of its column.

        There are none for a parameter that no text or number in a database can equal.

        Raises:
            DatabaseFileError: A value has another type, or the database cannot be read.
        """
        with self.alone, self._translated():
            try:
                rows = self._read(sql, parameters)
            except self._in_no_database:
                return []
        return checked(rows, f"database {self.label}")

    def row(self, sql: str, parameters: Parameters = ()) -> Record | None:
        """The first row of a read, or ``None``."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._errors as exc:
            raise self.explain(exc) from exc
