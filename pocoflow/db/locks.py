"""Who is alive: one lock per running run, given back by the kernel when its process ends.

A run locks one byte, at the offset of its number, of a file beside the database
(``pocoflow.db-lock``). A killed process loses its locks in that instant, a suspended one keeps
them, and no process id or heartbeat is involved. POSIX record locks have two habits that shape this
module: they belong to the process, so it cannot see its own (``held`` remembers them), and closing
*any* descriptor of the file drops them all (so a process opens it once and shares it). A forked
child does not inherit them, so an orphaned worker never keeps a dead run alive.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time
from pathlib import Path

from pocoflow.errors import DatabaseFileError

__all__ = ["RunLocks"]

_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


class _LockFile:
    """The one descriptor that this process has of a lock file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.users = 0
        self.held: set[int] = set()
        self._descriptors: list[int] = []
        self._writable = False

    def open(self, *, create: bool) -> int | None:
        if not self._descriptors or (create and not self._writable):
            flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
            try:
                # A read-only descriptor of before stays open: closing it would drop our locks.
                self._descriptors.append(os.open(self.path, flags | _CLOEXEC, 0o600))
            except FileNotFoundError:
                return None
            except OSError as exc:
                raise DatabaseFileError(
                    f"cannot open lock file {self.path}: {exc.strerror}"
                ) from exc
            self._writable = create
        return self._descriptors[-1]

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


_files: dict[str, _LockFile] = {}
_guard = threading.RLock()


def _forget_after_fork() -> None:
    global _guard  # noqa: PLW0603 - a thread that held it is not on this side of the fork
    _guard = threading.RLock()
    for file in _files.values():
        file.held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


class RunLocks:
    """The locks of the runs in one database; ``None`` for a database in memory."""

    def __init__(self, database: Path | None) -> None:
        self._file: _LockFile | None = None
        if database is not None:
            path = os.path.realpath(database) + "-lock"
            with _guard:
                self._file = _files.setdefault(path, _LockFile(path))
                self._file.users += 1

    def hold(self, run_no: int, patience: float = 0.0) -> bool:
        """Take the lock of a run; ``False`` if it is held already, here or in another process.

        ``patience`` is how many seconds to wait for a reader that holds it for an instant, while
        it records that the run was interrupted.
        """
        until = time.monotonic() + patience
        while not self._hold(run_no):
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        return True

    def _hold(self, run_no: int) -> bool:
        if self._file is None:
            return True
        with _guard:
            if run_no in self._file.held:
                return False
            descriptor = self._file.open(create=True)
            if descriptor is None or not _lock(descriptor, run_no):
                return False
            self._file.held.add(run_no)
            return True

    def release(self, run_no: int) -> None:
        """Give the lock of a run back, if this process holds it."""
        with _guard:
            if self._file is not None and run_no in self._file.held:
                descriptor = self._file.open(create=True)
                if descriptor is not None:
                    _unlock(descriptor, run_no)
                self._file.held.discard(run_no)

    def is_held(self, run_no: int) -> bool:
        """Whether a living process holds the lock of a run."""
        if self._file is None:
            return True
        with _guard:
            if run_no in self._file.held:
                return True
            descriptor = self._file.open(create=False)
            return descriptor is not None and _is_locked(descriptor, run_no)

    def close(self) -> None:
        """Stop using the lock file; the last user in the process closes it."""
        with _guard:
            file, self._file = self._file, None
            if file is not None:
                file.users -= 1
                if file.users == 0:
                    file.close()
                    _files.pop(file.path, None)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, offset: int) -> bool:
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int, offset: int) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    def _is_locked(descriptor: int, offset: int) -> bool:
        if _lock(descriptor, offset):
            _unlock(descriptor, offset)
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int, offset: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(descriptor: int, offset: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)

    def _is_locked(descriptor: int, offset: int) -> bool:
        # Ask without taking: a test that took the lock could be seen by another reader.
        darwin = sys.platform == "darwin"
        layout = "qqihh" if darwin else "hhqqi"
        wanted = (
            (offset, 1, 0, fcntl.F_RDLCK, os.SEEK_SET)
            if darwin
            else (fcntl.F_RDLCK, os.SEEK_SET, offset, 1, 0)
        )
        answer = struct.unpack(
            layout, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(layout, *wanted))
        )
        return bool(answer[3 if darwin else 0] != fcntl.F_UNLCK)
