"""Locks of the operating system that belong to an open file, not to a process.

Byte-range locks on Linux and Windows, locks of whole files elsewhere. On Linux they are ``fcntl``
locks like SQLite's, so that each respects the other's, even in the same process.
"""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress
from typing import TypeAlias

from pocoflow.errors import DatabaseFileError

Identity: TypeAlias = tuple[int, int]

CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)  # a symlink would create its target


def identify(file: str | os.PathLike[str] | int) -> Identity | None:
    """The identity of the file at a path, or of an open descriptor, if it exists."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open(path: str, flags: int) -> int:
    creates, flags = flags & os.O_CREAT, flags | CLOEXEC | _NOFOLLOW
    try:
        try:
            return os.open(path, flags & ~os.O_CREAT)
        except FileNotFoundError:
            if not creates:
                raise
        descriptor = os.open(path, flags, 0o600)
    except OSError as exc:
        if isinstance(exc, FileNotFoundError) and not creates:
            raise
        remedy = ""
        if isinstance(exc, PermissionError):
            remedy = "; it must have the owner and the mode of the database"
        raise DatabaseFileError(f"cannot open lock file {path}: {exc.strerror}{remedy}") from exc
    if sys.platform != "win32":
        _give_away(descriptor, path.rpartition("-lock")[0])
    return descriptor


def _give_away(descriptor: int, database: str) -> None:
    """Give a new file the mode of a database and, as root may, its owner: SQLite does likewise."""
    with suppress(OSError):
        about = os.stat(database)
        os.fchmod(descriptor, about.st_mode & 0o777)
        if os.geteuid() == 0:
            os.fchown(descriptor, about.st_uid, about.st_gid)


def has_name(descriptor: int, path: str) -> bool:
    """Whether the open file is the one at the path."""
    status = os.fstat(descriptor)
    return identify(path) == (status.st_dev, status.st_ino)


class ByteLocks:
    """Locks of single bytes of one file, through the only descriptor of it in this process."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._writable = False

    def is_there(self) -> bool:
        """Whether the open file, if any, is still at its path."""
        # Windows does not allow removing an open file.
        return (
            self._descriptor is None
            or sys.platform == "win32"
            or has_name(self._descriptor, self.path)
        )

    def lock(self, run_no: int) -> bool:
        """Acquire the lock of a run, if not held already; ``False`` if another process has it."""
        return lock(self._opened(create=True), run_no)

    def unlock(self, run_no: int) -> None:
        """Release the lock of a run."""
        unlock(self._opened(create=True), run_no)

    def is_locked(self, run_no: int) -> bool:
        """Whether another process has the lock of a run."""
        try:
            return is_locked(self._opened(create=False), run_no)
        except FileNotFoundError:
            return False

    def _opened(self, *, create: bool) -> int:
        if self._descriptor is None or (create and not self._writable):
            self.close()  # a read-only descriptor holds no locks
            flags = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
            self._descriptor, self._writable = _open(self.path, flags), create
        return self._descriptor

    def close(self) -> None:
        """Close the open files; this releases all locks."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class FileLocks:
    """Locks of whole files, one for each run, for systems without locks of an open file's bytes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptors: dict[int, int] = {}

    def is_there(self) -> bool:
        """Whether the locked files are still at their paths."""
        return all(has_name(fd, self._name(no)) for no, fd in self._descriptors.items())

    def lock(self, run_no: int) -> bool:
        """Acquire the lock of a run, if not held already; ``False`` if another process has it."""
        if run_no in self._descriptors:
            return True
        descriptor = _open(self._name(run_no), os.O_RDWR | os.O_CREAT)
        if not lock_file(descriptor, exclusive=True):
            os.close(descriptor)
            return False
        self._descriptors[run_no] = descriptor
        return True

    def unlock(self, run_no: int) -> None:
        """Release the lock of a run."""
        descriptor = self._descriptors.pop(run_no, None)
        if descriptor is not None:
            if has_name(descriptor, self._name(run_no)):
                os.unlink(self._name(run_no))  # the next to lock it checks its path
            os.close(descriptor)

    def is_locked(self, run_no: int) -> bool:
        """Whether another process has the lock of a run."""
        try:
            descriptor = _open(self._name(run_no), os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not lock_file(descriptor, exclusive=False)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the open files; this releases all locks."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def _name(self, run_no: int) -> str:
        return f"{self.path}-{run_no}"


if sys.platform == "win32":
    import msvcrt

    HAS_OPEN_FILE_LOCKS = False

    def lock(descriptor: int, offset: int) -> bool:
        """Acquire a lock of one byte for the open file; ``False`` if another open file has it."""
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(descriptor: int, offset: int, length: int = 1) -> None:
        """Release locks of bytes."""
        os.lseek(descriptor, offset, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, length)

    def is_locked(descriptor: int, offset: int, length: int = 1) -> bool:
        """Whether another open file has a lock of one of the bytes."""
        if lock(descriptor, offset):
            unlock(descriptor, offset)
            return False
        return True

else:
    import fcntl

    HAS_OPEN_FILE_LOCKS = hasattr(fcntl, "F_OFD_SETLK")

    # The numbers are those of Linux, and used only on Linux.
    _SET = getattr(fcntl, "F_OFD_SETLK", 37)
    _GET = getattr(fcntl, "F_OFD_GETLK", 36)

    def _record(kind: int, offset: int, length: int) -> bytes:
        return struct.pack("hhqqi", kind, os.SEEK_SET, offset, length, 0)

    def lock(descriptor: int, offset: int) -> bool:
        """Acquire a lock of one byte for the open file; ``False`` if another open file has it."""
        try:
            fcntl.fcntl(descriptor, _SET, _record(fcntl.F_WRLCK, offset, 1))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def share(descriptor: int, offset: int, length: int) -> bool:
        """Acquire a shared lock; ``False`` if another open file has an exclusive one."""
        try:
            fcntl.fcntl(descriptor, _SET, _record(fcntl.F_RDLCK, offset, length))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(descriptor: int, offset: int, length: int = 1) -> None:
        """Release locks of bytes."""
        fcntl.fcntl(descriptor, _SET, _record(fcntl.F_UNLCK, offset, length))

    def is_locked(descriptor: int, offset: int, length: int = 1) -> bool:
        """Whether another open file has a lock of one of the bytes."""
        # Query without acquiring: another reader could see a lock that was acquired for a test.
        answer = fcntl.fcntl(descriptor, _GET, _record(fcntl.F_WRLCK, offset, length))
        return bool(struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK)

    def lock_file(descriptor: int, *, exclusive: bool) -> bool:
        """Acquire a lock of a whole file; ``False`` if another open file has a conflicting one."""
        how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True
