"""What the parts of ``WorkflowDB`` ask of a database, whichever it is."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, TypeAlias, overload

from pocoflow.cleanup import leave
from pocoflow.errors import DatabaseError

Parameters: TypeAlias = Sequence[object] | Mapping[str, object]


class Record(Sequence[Any]):
    """A row: its columns by number and by name. That of SQLite is one, too."""

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
    """What a statement has done."""

    @property
    def rowcount(self) -> int:
        """How many rows it has written."""

    @property
    def lastrowid(self) -> int | None:
        """The number of the row that it has inserted."""

    def fetchone(self) -> Any:
        """The next row that it gives, or ``None``."""

    def fetchall(self) -> list[Record]:
        """The rows that it gives."""

    def __iter__(self) -> Iterator[Record]: ...


class Transaction(Protocol):
    """Executes statements in a transaction; they are of ``queries.sql``, for every database."""

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Cursor:
        """Execute a statement."""

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> Cursor:
        """Execute a statement for each of several rows."""


PutsOne: TypeAlias = Callable[[Transaction, str, Parameters, int], int | None]
"""Executes a statement that writes one row, or none, given the number that the row is expected to
have: the number that it has, or ``None``."""


def put_one(raw: Transaction, sql: str, parameters: Parameters, expected: int) -> int | None:
    """Execute a statement that inserts one row, or none, and wait for the number of the row."""
    cursor = raw.execute(sql, parameters)
    return int(cursor.lastrowid or expected) if cursor.rowcount == 1 else None


class UnwrittenError(DatabaseError):
    """A row was not written as expected, which was told too late for the transaction."""


class Locks(ABC):
    """Who is alive: a lock for each run that a process runs.

    Whoever takes a lock names itself as its owner, and only the owner gives it back: then a Ctrl-C
    at any instant of taking or giving back leaves nothing behind that ``release`` does not clear.
    """

    _held: dict[int, object]
    """The owners of the locks that this process has, by run."""

    @property
    @abstractmethod
    def _guard(self) -> AbstractContextManager[object]:
        """Held while locks of this process are taken or given back."""

    @abstractmethod
    def _lock(self, run_no: int, owner: object) -> bool:
        """Take it from other processes; ``False`` if one has it."""

    @abstractmethod
    def _unlock(self, run_no: int) -> None:
        """Give it back to them."""

    def hold(self, run_no: int, owner: object, patience: float = 0.0) -> bool:
        """Take the lock of a run; ``False`` if it is held already, here or in another process.

        ``patience`` is how many seconds to wait for somebody who holds it for an instant.

        Raises:
            DatabaseError: Nobody can tell.
        """
        until = time.monotonic() + patience
        while not self._hold(run_no, owner):
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        return True

    def _hold(self, run_no: int, owner: object) -> bool:
        with self._guard:
            if run_no in self._held:
                return False
            self._held[run_no] = owner
            try:
                taken = self._lock(run_no, owner)
            except BaseException:
                self.release(run_no, owner)
                raise
            if not taken:
                self._held.pop(run_no, None)
            return taken

    def has(self, run_no: int, owner: object) -> bool:
        """Whether this owner took the lock of a run, in this process, and still has it."""
        return self._held.get(run_no) is owner

    def release(self, run_no: int, owner: object) -> None:
        """Give the lock of a run back, if this owner has it."""
        with self._guard:
            if self.has(run_no, owner):
                try:
                    self._unlock(run_no)
                finally:
                    self._held.pop(run_no, None)

    def abandon(self, run_no: int, owner: object) -> None:
        """Give the lock of a run back as a finalizer may: here at once, to others very soon."""
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
            DatabaseError: Nobody can tell.
        """

    @abstractmethod
    def renew(self) -> None:
        """Look whether the locks are still there."""

    @abstractmethod
    def close(self) -> None:
        """Give all locks back that were taken through this object."""
