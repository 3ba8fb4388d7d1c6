"""Liveness: one lock per running run, released by the kernel when its process ends.

A run locks one byte, at the offset of its number, of a file next to the database
(``pocoflow.db-lock``). A killed process loses its locks immediately, a suspended one keeps them,
and no process id or heartbeat is involved. The locks belong to the open file, not to the process:
files that other code of the process closes do not release them, and a process finds its own locks
only in its memory (``held``). A forked child closes the inherited file, so an orphaned worker
never keeps a dead run alive. Where there are no such byte-range locks (macOS, BSD), each run has
a file of its own, locked as a whole.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path

from pocoflow.cleanup import in_child
from pocoflow.db import oslocks
from pocoflow.db.port import Locks


class _LockFile:
    """The locks that this process holds for one database."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.users = 0
        self.held: dict[int, object] = {}
        has_bytes = oslocks.HAS_OPEN_FILE_LOCKS or sys.platform == "win32"
        self.locks = oslocks.ByteLocks(path) if has_bytes else oslocks.FileLocks(path)

    def renew(self) -> None:
        """Take the locks again if the lock file was removed or replaced.

        If another process holds one by now, the lock and its run are lost.
        """
        while not self.locks.is_there():
            self.locks.close()
            for run_no in list(self.held):
                if not self.locks.lock(run_no):
                    self.held.pop(run_no, None)  # a finalizer may have released it

    def lock(self, run_no: int) -> bool:
        while self.locks.lock(run_no):
            if self.locks.is_there():
                return True
            self.renew()
        return False


_files: dict[str, _LockFile] = {}
guard = threading.RLock()
"""Held while locks of this process are taken or released; nothing blocks while holding it."""


@in_child
def _forget_after_fork() -> None:
    global guard  # noqa: PLW0603 - a thread that held it exists in the parent only
    guard = threading.RLock()
    for file in _files.values():
        file.held.clear()
        file.locks.close()


class RunLocks(Locks):
    """The locks of the runs in one database; for one in memory, they exist in this process only."""

    def __init__(self, database: Path | None) -> None:
        path = "" if database is None else os.path.realpath(database) + "-lock"
        with guard:
            self._file = _files.setdefault(path, _LockFile(path)) if path else _LockFile(path)
            self._file.users += 1
        self._held = self._file.held
        self._taken: dict[int, object] = {}

    @property
    def _guard(self) -> AbstractContextManager[object]:
        return guard

    def _lock(self, run_no: int, owner: object) -> bool:
        self._taken[run_no] = owner
        if not self._file.path or self._file.lock(run_no):
            return True
        del self._taken[run_no]
        return False

    def _unlock(self, run_no: int) -> None:
        try:
            if self._file.path:
                self._file.locks.unlock(run_no)
        finally:
            self._taken.pop(run_no, None)

    def renew(self) -> None:
        """Take the locks again if the lock file was removed or replaced."""
        if self._held:
            with guard:
                self._file.renew()

    def is_held(self, run_no: int) -> bool:
        """Whether a living process holds the lock of a run."""
        with guard:
            if self._file.path:
                self._file.renew()
            if run_no in self._held:
                return True
            return bool(self._file.path) and self._file.locks.is_locked(run_no)

    def close(self) -> None:
        """Release all locks that were taken through this object, and stop using the lock file.

        The last user in the process closes the file.
        """
        with guard:
            for run_no, owner in list(self._taken.items()):
                self.release(run_no, owner)
            self._file.users -= 1
            if self._file.users == 0:
                self._file.locks.close()
                _files.pop(self._file.path, None)
