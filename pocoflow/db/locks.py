"""Who is alive: one lock per running run, given back by the kernel when its process ends.

A run locks one byte, at the offset of its number, of a file beside the database
(``pocoflow.db-lock``). A killed process loses its locks in that instant, a suspended one keeps
them, and no process id or heartbeat is involved. The locks belong to the open file, not to the
process: what other code of the process closes does not drop them, and a process sees its own only
in what it remembers (``held``). A forked child closes what it inherited, so an orphaned worker
never keeps a dead run alive. Where there are no such locks of bytes (macOS, BSD), each run has a
file of its own, locked as a whole.
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
    """The locks that this process has beside one database."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.users = 0
        self.held: dict[int, object] = {}
        self.locks = _make(path)

    def renew(self) -> None:
        """Take the locks again if somebody has removed or replaced the lock file.

        One that another process has by now is lost, with the run.
        """
        while not self.locks.is_there():
            self.locks.close()
            for run_no in list(self.held):
                if not self.locks.lock(run_no):
                    self.held.pop(run_no, None)  # a finalizer may have given it back

    def lock(self, run_no: int) -> bool:
        while self.locks.lock(run_no):
            if self.locks.is_there():
                return True
            self.renew()
        return False


def _make(path: str) -> oslocks.ByteLocks | oslocks.FileLocks:
    has_bytes = oslocks.HAS_OPEN_FILE_LOCKS or sys.platform == "win32"
    return oslocks.ByteLocks(path) if has_bytes else oslocks.FileLocks(path)


_files: dict[str, _LockFile] = {}
guard = threading.RLock()
"""Held while locks of this process are taken or given back; nobody waits for anything with it."""


@in_child
def _forget_after_fork() -> None:
    global guard  # noqa: PLW0603 - a thread that held it is not on this side of the fork
    guard = threading.RLock()
    for file in _files.values():
        file.held.clear()
        file.locks.close()


class RunLocks(Locks):
    """The locks of the runs in one database; of one in memory they are this process's own."""

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
        """Take the locks again if somebody has removed or replaced the lock file."""
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
        """Give all locks back that were taken through this object, and stop using the lock file.

        The last user in the process closes the file.
        """
        with guard:
            for run_no, owner in list(self._taken.items()):
                self.release(run_no, owner)
            self._file.users -= 1
            if self._file.users == 0:
                self._file.locks.close()
                _files.pop(self._file.path, None)
