"""A persistent SQLite connection, its transactions, and errors that name the file."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, cast

from pocoflow.db import process_forks
from pocoflow.db.clock import micros, tries
from pocoflow.db.connection import Connection
from pocoflow.db.migrate import copy_of_old, create, layout_of, migrate, protect
from pocoflow.db.oslocks import Identity, identify
from pocoflow.db.port import Parameters, Record, Transaction
from pocoflow.db.postgres import refuse_other_names
from pocoflow.db.shield import (
    Shield,
    close_inherited,
    inherit,
    refuse_companion,
    refuse_second_name,
)
from pocoflow.db.wal import put_away, refuse_other_log
from pocoflow.errors import DatabaseBusyError, DatabaseError, DatabaseFileError
from pocoflow.logging import OwnLogger

_log = OwnLogger("db")

LOG_LIMIT = 16 << 20
"""The size in bytes to which a log that a slow reader made larger is truncated on a reset."""

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

_State: TypeAlias = tuple[tuple[int, int, int] | None, ...]
_Names: TypeAlias = tuple[Identity | None, ...]


class SQLiteConnection(Connection):
    """A connection to one database file, shared by the threads of this process.

    A transaction takes the write lock at its start (``BEGIN IMMEDIATE``), so writers queue for the
    busy timeout instead of failing in the middle.

    Nothing here opens an existing database file except SQLite: on POSIX, closing any descriptor of
    a file releases the process's locks on it, and SQLite would not know. Another process could then
    remove the write-ahead log under an open connection.

    Attributes:
        alone: The lock of the connection.
        when_disturbed: Called when something else has tampered with the files of the database.
    """

    _errors: ClassVar[tuple[type[Exception], ...]] = (sqlite3.Error,)
    _in_no_database = (UnicodeEncodeError, OverflowError)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous,
        busy_timeout: float,
        read_only: bool,
    ) -> None:
        self.label = os.fspath(path)
        refuse_other_names(self.label)
        # Without symlinks: SQLite follows them, and places its log next to the real file.
        try:
            self.file = None if self.label == ":memory:" else Path(os.path.realpath(path))
        except ValueError as exc:
            raise DatabaseFileError(f"{self.label!r} cannot be the name of a file: {exc}") from exc
        if self.file is not None:
            refuse_companion(self.file, self.label)
        self._log, self._index = f"{self.file}-wal", f"{self.file}-shm"
        self._folder = "" if self.file is None else str(self.file.parent)
        self._quiet_since = 0
        self._changed_at, self._check_from = 0, 0.0
        self.when_disturbed: Callable[[], object] = lambda: None
        self.read_only = read_only
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self.alone, self.waiting = threading.RLock(), deque()
        self._raw: sqlite3.Connection | None = None
        self._is_inherited = False
        self._seen: _State | None = None
        self._is_old = False
        self._identity: _Names = ()
        self._shield: Shield | None = None
        process_forks.register(self)
        with self.alone, self._translated():
            self._open()

    # -- opening and closing --------------------------------------------------------------------

    def reset_after_fork(self, *, at_rest: bool) -> None:  # noqa: D102 - see the base class
        super().reset_after_fork(at_rest=at_rest)
        if self._raw is not None:
            inherit(self._raw, self.file, at_rest=at_rest)
            self._raw, self._is_inherited = None, True

    def _open(self) -> sqlite3.Connection:
        if self.file is not None:
            close_inherited(self.file, self._busy_timeout)
        raw = None if self.read_only else self._open_to_write()
        if raw is None:
            raw = self._open_to_read()
        else:
            self._seen = None
        if self.file is not None and not self.read_only and not self._is_old:
            try:
                self._shield = Shield.share(self.file)
            except OSError as exc:
                raw.close()
                raise DatabaseFileError(
                    f"cannot open database {self.label}: its log was removed under another "
                    "connection of this process, which is to be closed first; if it was open when "
                    "this process was forked, close it before the fork, or start processes by spawn"
                ) from exc
        self._raw, self._is_inherited = raw, False
        self._identity = self._identify()
        self.home = (self.file, *self._identity[:1]) if self.file is not None else id(self)
        return raw

    def _open_to_write(self) -> sqlite3.Connection | None:
        """``None`` for a file of 0.2.1, which is opened read-only until it is written to."""
        state = self._state()
        raw = self._connect(self._target(None))
        try:
            layout = layout_of(raw, self.label)
            self._is_old = layout == "0.2.1"
            if self._is_old:
                self._close(raw, keeps_log=not _has_no_log(state))
                return None
            if layout == "empty":
                create(raw, self.label)
                self.is_new = True
            self._prepare(raw)
        except BaseException:
            raw.close()
            raise
        return raw

    def _open_to_read(self) -> sqlite3.Connection:
        state = self._state()
        raw = self._connect(self._target(state))
        try:
            layout = layout_of(raw, self.label)
            self._is_old = layout == "0.2.1"
            if layout == "empty":
                raise DatabaseFileError(
                    f"database {self.label} is empty: no flow has written to it yet"
                )
            if self._is_old:
                with closing(raw):
                    raw = copy_of_old(raw, self.label)
        except BaseException:
            raw.close()
            raise
        # A connection that does not see changes of the file is reopened once its state differs.
        self._seen = state if _has_no_log(state) or self._is_old else None
        return raw

    def _connect(self, target: str) -> sqlite3.Connection:
        raw = sqlite3.connect(
            target,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            uri=target.startswith("file:"),
            cached_statements=256,
        )
        raw.row_factory = sqlite3.Row
        protect(raw)
        return raw

    def migrate(self, *, close_running: bool = False) -> Path | None:
        """Migrate a file of 0.2.1 to the current layout; returns the path of its copy.

        ``None`` if it has the current layout already.
        """
        with self.alone, self._translated():
            self._current()
            if not self._is_old or self.file is None:
                return None
            with closing(self._connect(self._target(None))) as raw:
                copy = migrate(raw, self.label, self.file, close_running=close_running)
            self._reopen()
        if copy is not None:
            _log.warning(
                "database %s, of version 0.2.1, has the layout of this version now; a copy of it "
                "as it was is kept as %s",
                self.label,
                copy,
            )
        return copy

    def _identify(self) -> _Names:
        if self.file is None:
            return ()
        if self.read_only or self._is_old:
            return (identify(self.file),)
        return identify(self.file), identify(self._log), identify(self._index)

    def _check_files(self) -> None:
        # SQLite would keep writing to files that were removed.
        if self.file is None:
            return
        if self._shield is not None and self._shield.check():
            raise DatabaseFileError(
                f"database {self.label} was written over while it was open, such as by cp, so what "
                "is on record is damaged or gone, and nothing more is written. To put a copy in "
                f"its place, end all programs that use it, remove {self._log}, and copy it again; "
                "while programs are at work, restore with the .restore command of sqlite3"
            )
        try:
            folder = os.stat(self._folder)
        except OSError:
            changed_at = 0
        else:
            # Creating, removing or moving a file in a folder changes the time of the folder.
            changed_at = folder.st_mtime_ns
            if changed_at == self._quiet_since:
                return
            if changed_at == self._changed_at and time.monotonic() < self._check_from:
                return
        identity = self._identify()
        if identity == self._identity:
            self.when_disturbed()
            self._changed_at, self._check_from = changed_at, time.monotonic() + _PAUSE
            # Two changes within one tick of the file system's clock have the same time.
            self._quiet_since = changed_at if micros() - changed_at // 1000 > _TICK else 0
            return
        if identity[0] != self._identity[0]:
            raise DatabaseFileError(
                f"database {self.label} was deleted, moved or replaced while it was open: what was "
                "written to it is no longer there"
            )
        # A new connection has another index of the log, and would write to the same pages.
        lost = (
            f"its write-ahead log {self._log}"
            if identity[1] != self._identity[1]
            else f"the index of its write-ahead log, {self._index},"
        )
        raise DatabaseFileError(
            f"database {self.label}: {lost} was deleted, moved or replaced while it was open, so "
            "nothing more is written; open the database again to see what is on record"
        )

    def _target(self, state: _State | None) -> str:
        if self.file is None:
            return ":memory:"
        # Not by pathlib, which raises for a name that is too long.
        if os.path.exists(self.file) and not os.path.isfile(self.file):
            kind = "folder" if os.path.isdir(self.file) else "pipe, socket or device"
            raise DatabaseFileError(f"{self.label} is a {kind}, not a database file")
        if state is not None:
            if state[0] is None:
                raise DatabaseFileError(self._why_missing())
            refuse_second_name(self.file, self.label, read_only=True)
            refuse_other_log(self.file, self.label)
            # Without a log nobody writes. Then SQLite need not create the files of the log, which
            # it would leave behind, and cannot create in a read-only folder.
            mode = "?mode=ro&immutable=1" if _has_no_log(state) else "?mode=ro"
            return self.file.as_uri() + mode
        left = {name: identify(name) for name in (self._log, self._index)}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # Private from the start; SQLite gives its -wal and -shm files the same mode.
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            for name, identity in left.items():
                # They belong to a file that was moved or removed, and is still in use.
                if identity is not None and identify(name) == identity:
                    put_away(name, self.label)
        except OSError as exc:
            folder = self.file.parent
            if isinstance(exc, FileExistsError) and os.path.isdir(folder):
                # It is not opened here, see the class.
                refuse_second_name(self.file, self.label, read_only=False)
                refuse_other_log(self.file, self.label)
                return os.fspath(self.file)
            why = (
                exc.strerror
                if os.path.isdir(folder)
                else f"{folder} cannot be made: {exc.strerror}"
            )
            raise DatabaseFileError(f"cannot open database {self.label}: {why}") from exc
        return os.fspath(self.file)

    def _why_missing(self) -> str:
        try:
            os.stat(str(self.file))
        except OSError as exc:
            if not isinstance(exc, FileNotFoundError | NotADirectoryError):
                return f"database {self.label} cannot be opened ({exc.strerror})"
        return f"there is no database {self.label}"

    def _state(self) -> _State:
        """The state of the file and its logs in the file system, which a write would change."""
        stats: list[tuple[int, int, int] | None] = []
        for suffix in ("", "-wal", "-journal"):
            try:
                stat = os.stat(f"{self.file}{suffix}")
            except OSError:
                stats.append(None)
            else:
                stats.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(stats)

    def _prepare(self, raw: sqlite3.Connection) -> None:
        raw.execute("PRAGMA foreign_keys = ON")
        if self.file is not None:
            self._use_log(raw)
            raw.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
            raw.execute("SELECT 1 FROM sqlite_master").fetchall()  # creates the log, if necessary
        raw.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _use_log(self, raw: sqlite3.Connection) -> None:
        # Wait for another process that is opening the file, as SQLite itself does not.
        for is_last in tries(self._busy_timeout):
            try:
                raw.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as exc:
                if is_last or not exc.sqlite_errorname.startswith("SQLITE_BUSY"):
                    raise

    def close(self) -> None:
        """Close the connection; using it again raises :class:`DatabaseError`."""
        with self.alone:
            raw, self._raw, self._is_inherited = self._raw, None, False
            if raw is not None and self._shield is not None:
                shield, self._shield = self._shield, None
                # Connections opened after the log was removed cannot remove theirs, which is kept.
                log, index = self._identify()[1:]
                is_new = log not in (None, self._identity[1])
                is_new |= index not in (None, self._identity[2])
                with shield.closing(keeps_log=is_new or shield.is_overwritten):
                    raw.close()
            elif raw is not None:
                raw.close()

    def _close(self, raw: sqlite3.Connection, *, keeps_log: bool) -> None:
        # The last connection to close checkpoints the log, unless it is read-only.
        with ExitStack() as stack:
            if keeps_log:
                with suppress(sqlite3.Error):  # an unreadable file is closed like any other
                    reader = self._connect(f"{Path(str(self.file)).as_uri()}?mode=ro")
                    stack.callback(reader.close)
                    reader.execute("PRAGMA user_version").fetchone()
            raw.close()

    def _current(self) -> sqlite3.Connection:
        if self._raw is not None:
            return self._raw
        if not self._is_inherited:
            raise DatabaseError(f"database {self.label} is closed")
        return self._open()

    # -- statements -----------------------------------------------------------------------------

    def _to_write(self) -> Transaction:
        if self._is_old:
            self.migrate()
        return self._current()

    def _begin(self, *, patient: bool, of: int) -> None:
        raw = self._raw
        assert raw is not None
        if not patient:
            raw.execute("PRAGMA busy_timeout = 0")
        raw.execute("BEGIN IMMEDIATE")

    def _begin_statement(self, of: int) -> None:
        self._check_files()

    def _end_statement(self) -> None:
        """Nothing to do: it is committed."""

    def _join(self, of: int) -> None:
        """Nothing to do: a file has one writer."""

    def _be_patient(self) -> None:
        self._current().execute(f"PRAGMA busy_timeout = {self._busy_timeout * 1000:.0f}")

    def _commit(self) -> None:
        self._check_files()
        assert self._raw is not None
        self._raw.execute("COMMIT")

    def _undo(self) -> bool:
        if self._raw is None or not self._raw.in_transaction:
            return False
        self._raw.execute("ROLLBACK")
        return True

    @property
    def _is_inside(self) -> bool:
        # Not before a statement that is a transaction by itself, and not after a commit.
        return self._group is not None or (self._raw is not None and self._raw.in_transaction)

    def vacuum(self) -> None:
        """Rewrite the file without unused space."""
        with self.alone, self._translated():
            self.migrate()
            raw = self._current()
            raw.execute("VACUUM")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _read(self, sql: str, parameters: Parameters) -> list[Record]:
        self._current()
        if not self.read_only and not self._is_old:
            self._check_files()
        elif self._seen is None and self._identify() != self._identity:
            self._reopen()
        tries = _TRIES
        while True:
            try:
                rows = self._current().execute(sql, parameters).fetchall()
            except sqlite3.DatabaseError:
                if not tries or not self._changed():
                    raise
            else:
                if not tries or not self._changed():
                    return cast("list[Record]", rows)
            # The file was written after all: the rows may be stale, or torn.
            self._reopen()
            tries -= 1

    def _changed(self) -> bool:
        return self._seen is not None and self._seen != self._state()

    def _reopen(self) -> None:
        old = self._current()  # fails for a closed connection; never one from before a fork
        self._open()
        old.close()

    def version(self, run_no: int) -> tuple[int, int] | None:
        """A token that every commit, of any run, changes; ``None`` if it is unknown.

        Never blocks: it is unknown while another thread of this process uses the connection.
        """
        if self._seen is not None or self._is_old or not self.alone.acquire(blocking=False):
            return None
        try:
            raw = self._current()
            # A moved file shows no changes: have the caller read it, which reports the move.
            if raw.in_transaction or self._identify() != self._identity:
                return None
            return raw.execute("PRAGMA data_version").fetchone()[0], raw.total_changes
        except sqlite3.Error:
            return None
        finally:
            self.alone.release()

    def _is_unreadable(self) -> bool:
        # Without opening the file, which would release the locks of this process on it.
        file = self.file
        return file is not None and os.path.exists(file) and not os.access(file, os.R_OK)

    def explain(self, exc: Exception) -> DatabaseError:
        """Our error for an error of SQLite."""
        if self._raw is not None:
            try:
                self._check_files()
            except DatabaseFileError as lost:
                return lost
        name = getattr(exc, "sqlite_errorname", "")
        text = str(exc)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return DatabaseBusyError(
                f"database {self.label} was locked by another writer for more than "
                f"{self._busy_timeout:g} seconds"
            )
        if name.startswith("SQLITE_CANTOPEN") and self._is_unreadable():
            text = os.strerror(errno.EACCES)
        for code, meaning in _MEANINGS.items():
            if name.startswith(code):
                return DatabaseFileError(f"database {self.label} {meaning} ({text})")
        return DatabaseError(f"database {self.label}: {text}")


def _has_no_log(state: _State) -> bool:
    """Whether the file exists, without a log."""
    return state[0] is not None and not any(state[1:])


_TRIES = 5

_PAUSE = 0.001

_TICK = 50_000  # microseconds; the clock of a file system has steps of 4 to 10 ms

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
