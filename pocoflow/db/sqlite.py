"""One SQLite connection that stays open, its transactions, and errors that name the file."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, cast

from pocoflow.db import process_forks
from pocoflow.db.clock import micros
from pocoflow.db.connection import Connection
from pocoflow.db.migrate import Layout, copy_of_old, create, layout_of, migrate, protect
from pocoflow.db.oslocks import Identity, identify
from pocoflow.db.port import Parameters, Record, Transaction
from pocoflow.db.postgres import refuse_other_names
from pocoflow.db.rows import checked
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
"""A log that a slow reader made larger than so many bytes is cut to that when it begins anew."""

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

_Look: TypeAlias = tuple[tuple[int, int, int] | None, ...]
_Names: TypeAlias = tuple[Identity | None, ...]


class SQLiteConnection(Connection):
    """A connection to one database file, shared by the threads of this process.

    A transaction takes the write lock at its start (``BEGIN IMMEDIATE``), so writers queue for the
    busy timeout instead of failing in the middle.

    Nothing here opens an existing database file beside SQLite: on POSIX, closing any descriptor of
    a file drops the process's locks on it, and SQLite would not know. Another process could then
    take the write-ahead log away from under an open connection.

    Attributes:
        alone: Keeps other threads away from the connection, as a context manager.
    """

    _errors: ClassVar[tuple[type[Exception], ...]] = (sqlite3.Error,)

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
        # Without links, as SQLite follows them to put its log beside the file itself.
        try:
            self.file = None if self.label == ":memory:" else Path(os.path.realpath(path))
        except ValueError as exc:
            raise DatabaseFileError(f"{self.label!r} cannot be the name of a file: {exc}") from exc
        if self.file is not None:
            refuse_companion(self.file, self.label)
        self._log, self._index = f"{self.file}-wal", f"{self.file}-shm"
        self._folder = "" if self.file is None else str(self.file.parent)
        self._quiet_since = 0
        self._changed_at, self._look_from = 0, 0.0
        self.when_disturbed: Callable[[], object] = lambda: None
        self.read_only = read_only
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self.alone, self.waiting = threading.RLock(), deque()
        self._raw: sqlite3.Connection | None = None
        self._is_inherited = False
        self._seen: _Look | None = None
        self._is_old = False
        self._identity: _Names = ()
        self._shield: Shield | None = None
        process_forks.keep(self)
        with self.alone, self._translated():
            self._open()

    # -- opening and closing --------------------------------------------------------------------

    def begin_anew(self, *, at_rest: bool) -> None:  # noqa: D102 - see the base class
        super().begin_anew(at_rest=at_rest)
        if self._raw is not None:
            inherit(self._raw, self.file, at_rest=at_rest)
            self._raw, self._is_inherited = None, True

    def _open(self) -> sqlite3.Connection:
        if self.file is not None:
            close_inherited(self.file, self._busy_timeout)
        raw = None if self.read_only else self._open_to_write()
        if raw is None:
            raw = self._open_to_look()
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
        return raw

    def _open_to_write(self) -> sqlite3.Connection | None:
        """``None`` if the file is one of 0.2.1, which is only looked at until it is written to."""
        look = self._look()
        raw = self._connect(self._target(None))
        try:
            layout = layout_of(raw, self.label)
            self._is_old = layout is Layout.OLD
            if self._is_old:
                self._close(raw, keeps_log=not _at_rest(look))
                return None
            if layout is Layout.EMPTY:
                create(raw, self.label)
                self.is_new = True
            self._prepare(raw)
        except BaseException:
            raw.close()
            raise
        return raw

    def _open_to_look(self) -> sqlite3.Connection:
        look = self._look()
        raw = self._connect(self._target(look))
        try:
            layout = layout_of(raw, self.label)
            self._is_old = layout is Layout.OLD
            if layout is Layout.EMPTY:
                raise DatabaseFileError(
                    f"database {self.label} is empty: no flow has written to it yet"
                )
            if self._is_old:
                with closing(raw):
                    raw = copy_of_old(raw, self.label)
        except BaseException:
            raw.close()
            raise
        # What does not follow the file by itself is opened anew once the file looks different.
        self._seen = look if _at_rest(look) or self._is_old else None
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
        """Bring a file of 0.2.1 to the layout of this version; where the copy of it is.

        ``None`` if it has the layout of this version already.
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

    def _check_there(self) -> None:
        # SQLite would go on writing to files that have no name any more.
        if self.file is None:
            return
        if self._shield is not None and self._shield.look():
            raise DatabaseFileError(
                f"database {self.label} was written over while it was open, such as by cp, so what "
                "is on record is damaged or gone, and nothing more is written. To put a copy in "
                f"its place, end all programs that use it, remove {self._log}, and copy it again; "
                "while programs are at work, restore with the .restore command of sqlite3"
            )
        try:
            folder = os.stat(self._folder)
        except OSError:
            looked = 0
        else:
            # Whoever makes, removes or moves a file in a folder changes the time of the folder.
            looked = folder.st_mtime_ns
            if looked == self._quiet_since:
                return
            if looked == self._changed_at and time.monotonic() < self._look_from:
                return
        found = self._identify()
        if found == self._identity:
            self.when_disturbed()
            self._changed_at, self._look_from = looked, time.monotonic() + _PAUSE
            # Two changes within one tick of the file system's clock have one time.
            self._quiet_since = looked if micros() - looked // 1000 > _TICK else 0
            return
        if found[0] != self._identity[0]:
            raise DatabaseFileError(
                f"database {self.label} was deleted, moved or replaced while it was open: what was "
                "written to it is no longer there"
            )
        # Who opens it now has another index of its log, and writes where this process does.
        lost = (
            f"its write-ahead log {self._log}"
            if found[1] != self._identity[1]
            else f"the index of its write-ahead log, {self._index},"
        )
        raise DatabaseFileError(
            f"database {self.label}: {lost} was deleted, moved or replaced while it was open, so "
            "nothing more is written; open the database again to see what is on record"
        )

    def _target(self, look: _Look | None) -> str:
        if self.file is None:
            return ":memory:"
        if os.path.exists(self.file) and not os.path.isfile(self.file):  # however long the name is
            kind = "folder" if os.path.isdir(self.file) else "pipe, socket or device"
            raise DatabaseFileError(f"{self.label} is a {kind}, not a database file")
        if look is not None:
            if look[0] is None:
                raise DatabaseFileError(self._why_unseen())
            refuse_second_name(self.file, self.label, read_only=True)
            refuse_other_log(self.file, self.label)
            # Without a log beside it nobody writes. SQLite then need not make the log's files,
            # which it would leave behind, and which a read-only folder has no place for.
            mode = "?mode=ro&immutable=1" if _at_rest(look) else "?mode=ro"
            return self.file.as_uri() + mode
        left = {name: identify(name) for name in (self._log, self._index)}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # Private from the first byte; SQLite gives its -wal and -shm files the same mode.
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            for name, what in left.items():
                # Of a file that was moved away or removed, and is still in use.
                if what is not None and identify(name) == what:
                    put_away(name, self.label)
        except OSError as exc:
            folder = self.file.parent
            if isinstance(exc, FileExistsError) and os.path.isdir(folder):
                # It is not opened here, see above.
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

    def _why_unseen(self) -> str:
        try:
            os.stat(str(self.file))
        except OSError as exc:
            if not isinstance(exc, FileNotFoundError | NotADirectoryError):
                return f"database {self.label} cannot be opened ({exc.strerror})"
        return f"there is no database {self.label}"

    def _look(self) -> _Look:
        """How the file and its logs look from outside: what a write would change."""
        found: list[tuple[int, int, int] | None] = []
        for suffix in ("", "-wal", "-journal"):
            try:
                about = os.stat(f"{self.file}{suffix}")
            except OSError:
                found.append(None)
            else:
                found.append((about.st_ino, about.st_size, about.st_mtime_ns))
        return tuple(found)

    def _prepare(self, raw: sqlite3.Connection) -> None:
        raw.execute("PRAGMA foreign_keys = ON")
        if self.file is not None:
            self._use_log(raw)
            raw.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
            raw.execute("SELECT 1 FROM sqlite_master").fetchall()  # makes the log, if it must
        raw.execute(f"PRAGMA synchronous = {self._synchronous}")

    def _use_log(self, raw: sqlite3.Connection) -> None:
        # Another process that opens the file now is worth waiting for, but SQLite does not wait.
        until = time.monotonic() + self._busy_timeout
        while True:
            try:
                raw.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as exc:
                busy = exc.sqlite_errorname.startswith("SQLITE_BUSY")
                if not busy or time.monotonic() >= until:
                    raise
                time.sleep(0.01)
            else:
                return

    def close(self) -> None:
        """Close the connection; using it again raises :class:`DatabaseError`."""
        with self.alone:
            raw, self._raw, self._is_inherited = self._raw, None, False
            if raw is not None and self._shield is not None:
                shield, self._shield = self._shield, None
                # Who came since the log was removed cannot remove its own, as the shield stands.
                log, index = self._identify()[1:]
                is_new = log not in (None, self._identity[1])
                is_new |= index not in (None, self._identity[2])
                with shield.closing(keeps_log=is_new or shield.is_overwritten):
                    raw.close()
            elif raw is not None:
                raw.close()

    def _close(self, raw: sqlite3.Connection, *, keeps_log: bool) -> None:
        # The last one to be closed writes the log into the file, unless it may only read.
        with ExitStack() as stack:
            if keeps_log:
                with suppress(sqlite3.Error):  # what cannot be read is closed as any other
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
        self._check_there()

    def _end_statement(self) -> None:
        """It is committed."""

    def _join(self, of: int) -> None:
        """It is alone in the file anyway."""

    def _be_patient(self) -> None:
        self._current().execute(f"PRAGMA busy_timeout = {self._busy_timeout * 1000:.0f}")

    def _commit(self) -> None:
        self._check_there()
        assert self._raw is not None
        self._raw.execute("COMMIT")

    def _undo(self) -> bool:
        if self._raw is None or not self._raw.in_transaction:
            return False
        self._raw.execute("ROLLBACK")
        return True

    @property
    def _is_inside(self) -> bool:
        # Not before the one statement that is a transaction, and not after a commit.
        return self._group is not None or (self._raw is not None and self._raw.in_transaction)

    @property
    def _can_share(self) -> bool:
        return not self._is_old

    @property
    def home(self) -> Hashable:
        """The same for all connections to one file."""
        return (self.file, self._identity[0]) if self.file is not None else id(self)

    def vacuum(self) -> None:
        """Write the file anew, without the room that is not used."""
        with self.alone, self._translated():
            self.migrate()
            raw = self._current()
            raw.execute("VACUUM")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Record]:
        """The rows of a read, which hold what their columns say.

        There is none for what no text or number in a database can be equal to.

        Raises:
            DatabaseFileError: They do not, or the file cannot be read.
        """
        try:
            return self._rows(sql, parameters)
        except (UnicodeEncodeError, OverflowError):
            return []

    def _rows(self, sql: str, parameters: Parameters) -> list[Record]:
        with self.alone, self._translated():
            self._current()
            if not self.read_only and not self._is_old:
                self._check_there()
            elif self._seen is None and self._identify() != self._identity:
                self._reopen()
            for _ in range(_LOOKS):
                try:
                    found = self._current().execute(sql, parameters).fetchall()
                except sqlite3.DatabaseError:
                    if not self._changed():
                        raise
                else:
                    if not self._changed():
                        return checked(cast("list[Record]", found), f"database {self.label}")
                # Somebody writes after all: what was read may be old, or torn.
                self._reopen()
            found = self._current().execute(sql, parameters).fetchall()
            return checked(cast("list[Record]", found), f"database {self.label}")

    def _changed(self) -> bool:
        return self._seen is not None and self._seen != self._look()

    def _reopen(self) -> None:
        old = self._current()  # which a closed one does not have, and not that of before a fork
        self._open()
        old.close()

    def version(self, run_no: int) -> tuple[int, int] | None:
        """What is another one after every commit, of any run; ``None`` if nobody knows.

        Waits for nobody: nobody knows while a thread of this process is at the connection.
        """
        if self._seen is not None or self._is_old or not self.alone.acquire(blocking=False):
            return None
        try:
            raw = self._current()
            # Nothing would be seen of a file that was moved away: a look says that it is gone.
            if raw.in_transaction or self._identify() != self._identity:
                return None
            return raw.execute("PRAGMA data_version").fetchone()[0], raw.total_changes
        except sqlite3.Error:
            return None
        finally:
            self.alone.release()

    def _is_unreadable(self) -> bool:
        # Without opening the file, which would end the locks that this process has on it.
        file = self.file
        return file is not None and os.path.exists(file) and not os.access(file, os.R_OK)

    def explain(self, exc: Exception) -> DatabaseError:
        """The error of ours for one of SQLite."""
        if self._raw is not None:
            try:
                self._check_there()
            except DatabaseFileError as gone:
                return gone
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


def _at_rest(look: _Look) -> bool:
    """Whether there is a file and no log beside it."""
    return look[0] is not None and not any(look[1:])


_LOOKS = 5

_PAUSE = 0.001

_TICK = 50_000  # microseconds; the clock of a file system goes in steps of 4 to 10 ms

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
