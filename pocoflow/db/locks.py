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
        self.held: dict[int, object] = {}
        self._descriptors: list[int] = []
        self._writable = False

    def open(self, *, create: bool) -> int:
        if not self._descriptors or (create and not self._writable):
            flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
            try:
                # A read-only descriptor of before stays open: closing it would drop our locks.
                self._descriptors.append(os.open(self.path, flags | _CLOEXEC, 0o600))
            except OSError as exc:
                if isinstance(exc, FileNotFoundError) and not create:
                    raise
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
    """The locks of the runs in one database; those of a database in memory are this process's own.

    Whoever takes a lock names itself as its owner, and only the owner gives it back: then a Ctrl-C
    at any instant of taking or giving back leaves nothing behind that ``release`` does not clear.
    """

    def __init__(self, database: Path | None) -> None:
        path = "" if database is None else os.path.realpath(database) + "-lock"
        with _guard:
            self._file = _files.setdefault(path, _LockFile(path)) if path else _LockFile(path)
            self._file.users += 1
        self._taken: dict[int, object] = {}

    def hold(self, run_no: int, owner: object, patience: float = 0.0) -> bool:
        """Take the lock of a run; ``False`` if it is held already, here or in another process.

        ``patience`` is how many seconds to wait for somebody who holds it for an instant.

        Raises:
            DatabaseFileError: The lock file cannot be opened.
        """
        until = time.monotonic() + patience
        while not self._hold(run_no, owner):
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        return True

    def _hold(self, run_no: int, owner: object) -> bool:
        held = self._file.held
        with _guard:
            if run_no in held:
                return False
            held[run_no] = self._taken[run_no] = owner
            try:
                taken = not self._file.path or _lock(self._file.open(create=True), run_no)
            except BaseException:
                self.release(run_no, owner)
                raise
            if not taken:
                del held[run_no], self._taken[run_no]
            return taken

    def release(self, run_no: int, owner: object) -> None:
        """Give the lock of a run back, if this owner has it."""
        with _guard:
            if self._file.held.get(run_no) is not owner:
                return
            try:
                if self._file.path:
                    _unlock(self._file.open(create=True), run_no)
            finally:
                self._file.held.pop(run_no, None)
                self._taken.pop(run_no, None)

    def is_held(self, run_no: int) -> bool:
        """Whether a living process holds the lock of a run."""
        with _guard:
            if run_no in self._file.held:
                return True
            if not self._file.path:
                return False
            try:
                descriptor = self._file.open(create=False)
            except FileNotFoundError:
                return False
            return _is_locked(descriptor, run_no)

    def close(self) -> None:
        """Give all locks back that were taken through this object, and stop using the lock file.

        The last user in the process closes the file.
        """
        with _guard:
            for run_no, owner in list(self._taken.items()):
                self.release(run_no, owner)
            self._file.users -= 1
            if self._file.users == 0:
                self._file.close()
                _files.pop(self._file.path, None)


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
