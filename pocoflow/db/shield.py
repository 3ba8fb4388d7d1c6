"""Locks that protect the log of an open database, and the rule of one name per file."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from pocoflow.cleanup import in_child
from pocoflow.db import oslocks
from pocoflow.db.clock import tries
from pocoflow.db.oslocks import Identity, identify
from pocoflow.errors import DatabaseFileError


class Shield:
    """Keeps other processes from believing that no connection to a database is open.

    A connection announces itself with two locks, one on the file and one on the index of its log.
    They are lost once any code of the process closes another descriptor of the files, as a program
    does that reads its own folder. Then a process that closes the database removes the log, and one
    that opens it clears the index, under the open connection. So the same bytes are locked here a
    second time, by locks that belong to our own descriptors.

    Its descriptors also show whether the file was overwritten, as by ``cp``: SQLite itself writes
    to it only by checkpointing its log, and records that in the index.

    Attributes:
        users: The number of connections of this process that it protects.
        is_overwritten: Whether the file was overwritten, as of the last check.
    """

    def __init__(self, file: Path, identity: Identity | None) -> None:
        self.users = 0
        self.is_overwritten = False
        self._check_from = 0.0
        self._head = self._copied = b""
        self._file = file
        self._identity = identity
        self._descriptors: list[tuple[int, int, int]] = []

    @classmethod
    def share(cls, file: Path) -> Shield:
        """The shield of a database in WAL mode that SQLite has just opened."""
        with _guard:
            identity = identify(file)
            other = _shields.setdefault(identity, cls(file, identity))
            if not other.users:
                other._raise()
            elif not other._has_its_index():
                raise FileNotFoundError
            other.users += 1
        return other

    def _raise(self) -> None:
        if not _is_mapped(f"{self._file}-shm"):
            raise FileNotFoundError
        before, self._descriptors = self._descriptors, []
        try:
            for path, first, length in _shielded(self._file):
                descriptor = os.open(path, os.O_RDONLY | oslocks.CLOEXEC)
                self._descriptors.append((descriptor, first, length))
                if not oslocks.share(descriptor, first, length):
                    raise BlockingIOError
        finally:
            # Only now: closing them releases locks of SQLite's, which the new locks replace.
            for descriptor, *_ in before:
                os.close(descriptor)
        self.is_overwritten, self._check_from, self._head = False, 0.0, b""
        self.check()

    def _has_its_index(self) -> bool:
        # SQLite shares the index among all connections of the process, even if it was replaced.
        identities = [identify(descriptor) for descriptor, *_ in self._descriptors[1:]]
        return identities in ([], [identify(f"{self._file}-shm")])

    def check(self) -> bool:
        """Whether the file was overwritten; checked at most once per millisecond."""
        now = time.monotonic()
        if self._descriptors and now >= self._check_from:
            # One thread at a time: each check compares with the state that the last one has seen.
            with _guard, suppress(OSError):  # if the disk cannot be read, a write reports it
                self._check_from = now + _PAUSE
                (file, *_), (index, *_) = self._descriptors
                self.is_overwritten = self.is_overwritten or self._compare(file, index)
        return self.is_overwritten

    def _compare(self, file: int, index: int) -> bool:
        # The index was read before the file, and is read again after it: so it shows any checkpoint
        # of SQLite in between.
        copied = _copied(index)
        if _is_copying(copied, index):
            return False
        head, before = os.pread(file, _HEAD, 0), self._head
        if before and head != before:
            if _is_copying(_copied(index), index):
                return False
            if _changes(head) < _changes(before) or self._copied == _copied(index):
                return True
        self._head, self._copied = head, copied
        return False

    @contextmanager
    def closing(self, *, keeps_log: bool) -> Iterator[None]:
        """The context to close one connection in; the last may checkpoint and remove the log."""
        with _guard:
            self.users -= 1
            if not self.users and not keeps_log:
                for locked in self._descriptors:
                    oslocks.unlock(*locked)
        try:
            yield
        finally:
            with _guard:
                for other in list(_shields.values()):
                    other._drop()

    def _drop(self) -> None:
        # Closing them would release the locks of connections that are not ours; so wait for those.
        if not self.users and not any(oslocks.is_locked(*locked) for locked in self._descriptors):
            self.forget()
            _shields.pop(self._identity, None)

    def forget(self) -> None:
        """Close the descriptors unconditionally."""
        while self._descriptors:
            os.close(self._descriptors.pop()[0])


_PAUSE = 0.001
_HEAD = 100
_COPYING = 121
"""The byte of the index that is locked during a checkpoint."""


def _copied(index: int) -> bytes:
    """The identity of the log, how much of it is checkpointed, and how much was to be."""
    head = os.pread(index, 132, 0)
    return head[32:40] + head[96:100] + head[128:132]


def _is_copying(copied: bytes, index: int) -> bool:
    """Whether a checkpoint is incomplete, and the process that runs it is alive."""
    return copied[8:12] != copied[12:] and oslocks.is_locked(index, _COPYING)


def _changes(head: bytes) -> int:
    """The change counter of the file header, which only grows."""
    return int.from_bytes(head[24:28], "big")


def _shielded(file: Path) -> Iterator[tuple[str, int, int]]:
    """The locks of SQLite while a connection in WAL mode is open: file, first byte, length."""
    if oslocks.HAS_OPEN_FILE_LOCKS:
        yield os.fspath(file), 0x40000002, 510
        yield f"{file}-shm", 128, 1


def is_open_somewhere(file: Path) -> bool:
    """Whether a connection in WAL mode is open to a file, under any name.

    Unshielded connections of this process lose their locks by this.
    """
    for path, first, length in islice(_shielded(file), 1):
        descriptor = os.open(path, os.O_RDONLY | oslocks.CLOEXEC)
        try:
            return oslocks.is_locked(descriptor, first, length)
        finally:
            os.close(descriptor)
    return False


def inherit(raw: sqlite3.Connection, file: Path | None, *, at_rest: bool) -> None:
    """Register a connection of the parent, which must not be used in the forked child."""
    can_close = oslocks.HAS_OPEN_FILE_LOCKS and at_rest and not raw.in_transaction
    if can_close and file is not None:
        _inherited.setdefault(file, []).append(raw)
    else:
        _abandoned.append(raw)


def close_inherited(file: Path, patience: float) -> None:
    """Close inherited connections, before this process opens the file.

    Otherwise SQLite would share the index of the log that it has mapped for the parent with all new
    connections, even after the parent has ended. The closed connection must not count as the last
    one, upon which SQLite checkpoints and removes the log: so another lock is held meanwhile. If
    the path names another file by now, SQLite notices, and leaves it alone.
    """
    with _guard, suppress(FileNotFoundError, PermissionError):  # SQLite reports it
        raws = _inherited.get(file)
        if not raws:
            return
        (_, first, length), *_ = _shielded(file)
        with open(file, "rb") as locked:
            if any(oslocks.share(locked.fileno(), first, length) for _ in tries(patience)):
                while raws:
                    raws.pop().close()


def _is_mapped(index: str) -> bool:
    """Whether SQLite has the index at this path open; true if it cannot be determined."""
    if not _is_forked or not _DESCRIPTORS:
        return True
    opened = [identify(int(name)) for name in os.listdir(_DESCRIPTORS)]
    return identify(index) in opened


_DESCRIPTORS = {"linux": "/proc/self/fd", "darwin": "/dev/fd"}.get(sys.platform)
_is_forked = False
_inherited: dict[Path, list[sqlite3.Connection]] = {}
_abandoned: list[sqlite3.Connection] = []
_shields: dict[Identity | None, Shield] = {}
_guard = threading.RLock()


@in_child
def _forget_after_fork() -> None:
    global _guard, _is_forked  # noqa: PLW0603
    _guard = threading.RLock()  # a thread that held it exists in the parent only
    _is_forked = True
    for shield in _shields.values():
        shield.forget()
    _shields.clear()


# -- one file, one name --------------------------------------------------------------------------


def refuse_companion(file: Path, label: str) -> None:
    """Refuse a companion file of a database, such as its log.

    Raises:
        DatabaseFileError: It is a companion file.
    """
    for suffix in ("-wal", "-shm", "-journal", "-lock"):
        main = file.with_name(file.name.removesuffix(suffix) or file.name)
        if main != file and main.is_file():
            raise DatabaseFileError(
                f"{label} is not a database but a file of one, of {main}: open that one"
            )


def refuse_second_name(file: Path, label: str, *, read_only: bool) -> None:
    """Refuse a database file that has more than one name.

    Reading is refused only while it is open under another name.

    Raises:
        DatabaseFileError: It has hard links, or is mounted as a single file.
    """
    try:
        links = os.stat(file).st_nlink
    except OSError:
        return  # opening it reports the error
    if links > 1:
        why = f"has {links} names (hard links), and SQLite keeps a log for each"
        cure = (
            f"Remove all but the one with {file.name}-lock beside it; find FOLDER -samefile {file} "
            "shows them"
        )
    elif _is_mounted(file):
        why = f"is mounted at {file} as a single file, without its log and its locks"
        cure = "Mount the folder that it is in instead"
    else:
        return
    if not read_only:
        raise DatabaseFileError(
            f"database {label} {why}: what is written under one name would damage what is written "
            f"under another. {cure}"
        )
    if not os.path.exists(f"{file}-wal") and is_open_somewhere(file):
        raise DatabaseFileError(
            f"database {label} {why}: a process has it open under another name, so what is "
            f"on record cannot be read here. {cure}"
        )


def _is_mounted(file: Path) -> bool:
    """Whether a path is a mount point itself, as with ``docker run -v ./x.db:/data/x.db``."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return False
    name = re.sub(rb"[ \t\n\\]", lambda match: b"\\%03o" % match[0][0], os.fsencode(file))
    return any(line.split(b" ", 5)[4] == name for line in mounts.splitlines())
