"""One SQLite connection that stays open, its transactions, and errors that name the file."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pocoflow.db.migrate import migrate
from pocoflow.errors import DatabaseBusyError, DatabaseError, DatabaseFileError

__all__ = ["Connection", "Synchronous"]

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

_abandoned: list[sqlite3.Connection] = []


class Connection:
    """A connection to one database file, shared by the threads of this process.

    A transaction takes the write lock at its start (``BEGIN IMMEDIATE``), so writers queue for the
    busy timeout instead of failing in the middle.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous,
        busy_timeout: float,
        read_only: bool,
    ) -> None:
        self.label = os.fspath(path)
        self.file = None if self.label == ":memory:" else Path(path)
        self.read_only = read_only
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._lock = threading.RLock()
        self._raw: sqlite3.Connection | None = None
        self._pid = os.getpid()
        with self._translated():
            self._open()

    # -- opening and closing --------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        target = self._target()
        raw = sqlite3.connect(
            target,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            uri=target.startswith("file:"),
            cached_statements=256,
        )
        try:
            raw = self._prepare(raw)
        except BaseException:
            raw.close()
            raise
        self._raw, self._pid = raw, os.getpid()
        return raw

    def _target(self) -> str:
        if self.file is None:
            return ":memory:"
        if self.file.is_dir():
            raise DatabaseFileError(f"{self.label} is a folder, not a database file")
        if self.read_only:
            if not self.file.exists():
                raise DatabaseFileError(f"there is no database {self.label}")
            return self.file.absolute().as_uri() + "?mode=ro"
        try:
            # Private from the first byte; SQLite gives its -wal and -shm files the same mode.
            os.close(os.open(self.file, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as exc:
            raise DatabaseFileError(f"cannot open database {self.label}: {exc.strerror}") from exc
        return os.fspath(self.file)

    def _prepare(self, raw: sqlite3.Connection) -> sqlite3.Connection:
        raw.row_factory = sqlite3.Row
        if self.read_only:
            return migrate(raw, self.label, read_only=True)
        raw.execute("PRAGMA foreign_keys = ON")
        raw = migrate(raw, self.label, read_only=False)
        if self.file is not None:
            raw.execute("PRAGMA journal_mode = WAL")
        raw.execute(f"PRAGMA synchronous = {self._synchronous}")
        return raw

    def close(self) -> None:
        """Close the connection; using it again raises :class:`DatabaseError`."""
        with self._lock:
            raw, self._raw = self._raw, None
            if raw is not None and self._pid == os.getpid():
                raw.close()

    def _current(self) -> sqlite3.Connection:
        if self._raw is None:
            raise DatabaseError(f"database {self.label} is closed")
        if self._pid != os.getpid():
            # SQLite forbids using, or closing, a connection on the other side of a fork.
            _abandoned.append(self._raw)
            return self._open()
        return self._raw

    # -- statements -----------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it is committed at the end, or nothing of it.

        Raises:
            DatabaseBusyError: Another writer held the lock for longer than the busy timeout.
            DatabaseFileError: The file is full, read-only, damaged or gone.
        """
        with self._lock, self._translated():
            raw = self._current()
            raw.execute("BEGIN IMMEDIATE")
            try:
                yield raw
                raw.execute("COMMIT")
            except BaseException:
                if raw.in_transaction:
                    raw.execute("ROLLBACK")
                raise

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """The rows of a read."""
        with self._lock, self._translated():
            return self._current().execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Row | None:
        """The first row of a read, or ``None``."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise self._explain(exc) from exc

    def _explain(self, exc: sqlite3.Error) -> DatabaseError:
        name = getattr(exc, "sqlite_errorname", "")
        text = str(exc)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return DatabaseBusyError(
                f"database {self.label} was locked by another writer for more than "
                f"{self._busy_timeout:g} seconds"
            )
        for code, meaning in _MEANINGS.items():
            if name.startswith(code):
                return DatabaseFileError(f"database {self.label} {meaning} ({text})")
        return DatabaseError(f"database {self.label}: {text}")


_MEANINGS = {
    "SQLITE_FULL": "cannot grow: the disk is full",
    "SQLITE_READONLY": "is read-only",
    "SQLITE_CANTOPEN": "cannot be opened",
    "SQLITE_NOTADB": "is not a SQLite database",
    "SQLITE_CORRUPT": "is damaged",
    "SQLITE_IOERR": "cannot be read or written",
    "SQLITE_PERM": "may not be opened",
    "SQLITE_AUTH": "may not be opened",
}
