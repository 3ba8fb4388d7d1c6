"""The interface to a database, a file or a server, that the parts of ``WorkflowDB`` use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, TypeAlias, overload

from pocoflow.cleanup import leave
from pocoflow.db.clock import tries
from pocoflow.errors import DatabaseError

Parameters: TypeAlias = Sequence[object] | Mapping[str, object]


class Record(Sequence[Any]):
    """A row, whose columns are accessed by number and by name; ``sqlite3.Row`` is compatible."""

    @overload
    def __getitem__(self, column: int | str) -> Any: ...

    @overload
    def __getitem__(self, column: slice) -> Sequence[Any]: ...

    @abstractmethod
    def __getitem__(self, column: int | str | slice) -> Any: ...

    @abstractmethod
    def keys(self) -> list[str]:
        """The names of the columns."""


class Cursor(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """The number of rows that it has written."""

    @property
    def lastrowid(self) -> int | None:
        """The id of the row that it has inserted."""

    def fetchone(self) -> Any:
        """The next row of the result, or ``None``."""

    def fetchall(self) -> list[Record]:
        """The rows of the result."""

    def __iter__(self) -> Iterator[Record]: ...


class Transaction(Protocol):
    """Executes statements of ``queries.sql`` in a transaction, on any database."""

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Cursor:
        """Execute a statement."""

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> Cursor:
        """Execute a statement for each of several rows."""


PutsOne: TypeAlias = Callable[[Transaction, str, Parameters, int], int | None]
"""Executes a statement that writes one row, or none, given the expected id of the row; returns the
id of the row, or ``None``."""


def put_one(raw: Transaction, sql: str, parameters: Parameters, expected: int) -> int | None:
    """Execute a statement that inserts one row, or none, and wait for the id of the row."""
    cursor = raw.execute(sql, parameters)
    return int(cursor.lastrowid or expected) if cursor.rowcount == 1 else None


class UnwrittenError(DatabaseError):
    """A row was not written as expected, which the transaction learned too late."""


class Locks(ABC):
    """Liveness: a lock for each run that a process runs.

    A lock is acquired in the name of an owner, and only that owner can release it: so whenever a
    Ctrl-C interrupts acquiring or releasing, a later ``release`` cleans up.
    """

    _held: dict[int, object]
    """The owners of the locks that this process holds, by run."""

    @property
    @abstractmethod
    def _guard(self) -> AbstractContextManager[object]:
        """Held while locks of this process are acquired or released."""

    @abstractmethod
    def _lock(self, run_no: int, owner: object) -> bool:
        """Acquire it among processes; ``False`` if another process has it."""

    @abstractmethod
    def _unlock(self, run_no: int) -> None:
        """Release it to other processes."""

    def hold(self, run_no: int, owner: object, patience: float = 0.0) -> bool:
        """Acquire the lock of a run; ``False`` if it is held, by this or another process.

        ``patience`` is the number of seconds to wait for a short-lived holder.

        Raises:
            DatabaseError: It cannot be determined.
        """
        return any(self._hold(run_no, owner) for _ in tries(patience))

    def _hold(self, run_no: int, owner: object) -> bool:
        with self._guard:
            if run_no in self._held:
                return False
            self._held[run_no] = owner
            try:
                is_acquired = self._lock(run_no, owner)
            except BaseException:
                self.release(run_no, owner)
                raise
            if not is_acquired:
                self._held.pop(run_no, None)
            return is_acquired

    def has(self, run_no: int, owner: object) -> bool:
        """Whether this owner acquired the lock of a run, in this process, and still holds it."""
        return self._held.get(run_no) is owner

    def release(self, run_no: int, owner: object) -> None:
        """Release the lock of a run, if this owner holds it."""
        with self._guard:
            if self.has(run_no, owner):
                try:
                    self._unlock(run_no)
                finally:
                    self._held.pop(run_no, None)

    def abandon(self, run_no: int, owner: object) -> None:
        """Release the lock of a run from a finalizer: here immediately, to other processes soon."""
        if self.has(run_no, owner):
            self._held.pop(run_no, None)
            leave(partial(self._drop, run_no))

    def _drop(self, run_no: int) -> None:
        with self._guard:
            if run_no not in self._held:
                self._unlock(run_no)

    @abstractmethod
    def is_held(self, run_no: int) -> bool:
        """Whether a living process holds the lock of a run.

        Raises:
            DatabaseError: It cannot be determined.
        """

    @abstractmethod
    def renew(self) -> None:
        """Check that the locks still exist, and renew them if not."""

    @abstractmethod
    def close(self) -> None:
        """Release all locks that were acquired through this object."""
