"""Locks that keep the log of an open database in its place, and one name for its file."""

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
from pocoflow.db.oslocks import Identity, identify
from pocoflow.errors import DatabaseFileError


class Shield:
    """Keeps other processes from taking a database for one that nobody has open.

    A connection says that it is there with two locks, one on the file and one on the index of its
    log. They are gone once any code of the process closes another descriptor of the files, as a
    program does that reads its own folder. Then a process that closes the database removes the log,
    and one that opens it clears the index, under the connection that goes on. So the same bytes are
    locked here once more, by locks that belong to descriptors of our own.

    Its descriptors also tell whether somebody has written over the file, as ``cp`` does: SQLite
    writes into it only what it copies there from its log, and notes that in the index.

    Attributes:
        users: How many connections of this process it shields.
        is_overwritten: Whether somebody has written over the file, as far as was looked.
    """

    def __init__(self, file: Path, identity: Identity | None) -> None:
        self.users = 0
        self.is_overwritten = False
        self._look_from = 0.0
        self._head = self._copied = b""
        self._file = file
        self._identity = identity
        self._descriptors: list[tuple[int, int, int]] = []

    @classmethod
    def share(cls, file: Path) -> Shield:
        """The one of a database in WAL mode that SQLite has just opened."""
        with _guard:
            identity = identify(file)
            made = _shields.setdefault(identity, cls(file, identity))
            if not made.users:
                made._raise()
            elif not made._has_its_index():
                raise FileNotFoundError
            made.users += 1
        return made

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
            # Not before: SQLite's locks, which it has by now, are gone with them.
            for descriptor, *_ in before:
                os.close(descriptor)
        self.is_overwritten, self._look_from, self._head = False, 0.0, b""
        self.look()

    def _has_its_index(self) -> bool:
        # SQLite shares that with all connections of the process, whatever has its name by now.
        found = [identify(descriptor) for descriptor, *_ in self._descriptors[1:]]
        return found in ([], [identify(f"{self._file}-shm")])

    def look(self) -> bool:
        """Whether somebody has written over the file; looks at most once a millisecond."""
        now = time.monotonic()
        if self._descriptors and now >= self._look_from:
            # One thread at a time: each look compares with what the one before it has seen.
            with _guard, suppress(OSError):  # of a disk that cannot be read, whoever writes tells
                self._look_from = now + _PAUSE
                (file, *_), (index, *_) = self._descriptors
                self.is_overwritten = self.is_overwritten or self._look(file, index)
        return self.is_overwritten

    def _look(self, file: int, index: int) -> bool:
        # What was kept of the index is older than what was kept of the file, and looked at again
        # after it: whatever SQLite has written in between is noted there.
        copied = _copied(index)
        if _is_copying(copied, index):
            return False
        head, known = os.pread(file, _HEAD, 0), self._head
        if known and head != known:
            if _is_copying(_copied(index), index):
                return False
            if _changes(head) < _changes(known) or self._copied == _copied(index):
                return True
        self._head, self._copied = head, copied
        return False

    @contextmanager
    def closing(self, *, keeps_log: bool) -> Iterator[None]:
        """Around the closing of one connection; the last one may then copy and remove the log."""
        with _guard:
            self.users -= 1
            if not self.users and not keeps_log:
                for one in self._descriptors:
                    oslocks.unlock(*one)
        try:
            yield
        finally:
            with _guard:
                for other in list(_shields.values()):
                    other._drop()

    def _drop(self) -> None:
        # A connection that is not ours would lose its locks, so what it needs is closed later.
        if not self.users and not any(oslocks.is_locked(*one) for one in self._descriptors):
            self.forget()
            _shields.pop(self._identity, None)

    def forget(self) -> None:
        """Close the descriptors, whoever needs them."""
        while self._descriptors:
            os.close(self._descriptors.pop()[0])


_PAUSE = 0.001
_HEAD = 100
_COPYING = 121
"""The byte of the index that is locked by whoever copies the log into the file."""


def _copied(index: int) -> bytes:
    """Which log it is, how much of it is in the file, and how much was to be."""
    found = os.pread(index, 132, 0)
    return found[32:40] + found[96:100] + found[128:132]


def _is_copying(copied: bytes, index: int) -> bool:
    """Whether not all is in the file that was to be, and whoever copies it was not killed."""
    return copied[8:12] != copied[12:] and oslocks.is_locked(index, _COPYING)


def _changes(head: bytes) -> int:
    """How often the size of the file has changed, about; it only grows."""
    return int.from_bytes(head[24:28], "big")


def _shielded(file: Path) -> Iterator[tuple[str, int, int]]:
    """What SQLite locks as long as a connection in WAL mode is open: file, first byte, how many."""
    if oslocks.HAS_OPEN_FILE_LOCKS:
        yield os.fspath(file), 0x40000002, 510
        yield f"{file}-shm", 128, 1


def is_open_somewhere(file: Path) -> bool:
    """Whether a connection in WAL mode is open to a file, under whichever name.

    Other connections of this process that are not shielded lose their locks by this.
    """
    for path, first, length in islice(_shielded(file), 1):
        descriptor = os.open(path, os.O_RDONLY | oslocks.CLOEXEC)
        try:
            return oslocks.is_locked(descriptor, first, length)
        finally:
            os.close(descriptor)
    return False


def inherit(raw: sqlite3.Connection, file: Path | None, *, at_rest: bool) -> None:
    """Know a connection of the parent, which nobody may use on this side of a fork."""
    can_close = oslocks.HAS_OPEN_FILE_LOCKS and at_rest and not raw.in_transaction
    if can_close and file is not None:
        _inherited.setdefault(file, []).append(raw)
    else:
        _abandoned.append(raw)


def close_inherited(file: Path, patience: float) -> None:
    """Close what was inherited, before this process opens the file.

    SQLite would let all that is opened here share the index of the log that it has mapped for the
    parent, also when that is long gone. A connection that is closed must not be taken for the last
    one, with which SQLite copies the log and removes it: the lock is that of another one. If the
    name is that of another file by now, SQLite sees that, and lets it be.
    """
    until = time.monotonic() + patience
    with _guard, suppress(FileNotFoundError, PermissionError):  # SQLite says so itself
        raws = _inherited.get(file)
        if not raws:
            return
        (_, first, length), *_ = _shielded(file)
        with open(file, "rb") as held:
            while not oslocks.share(held.fileno(), first, length):
                if time.monotonic() >= until:
                    return
                time.sleep(0.01)
            while raws:
                raws.pop().close()


def _is_mapped(index: str) -> bool:
    """Whether SQLite has the index of that name open, as far as can be told."""
    if not _is_forked or not _DESCRIPTORS:
        return True
    those = [identify(int(one)) for one in os.listdir(_DESCRIPTORS)]
    return identify(index) in those


_DESCRIPTORS = {"linux": "/proc/self/fd", "darwin": "/dev/fd"}.get(sys.platform)
_is_forked = False
_inherited: dict[Path, list[sqlite3.Connection]] = {}
_abandoned: list[sqlite3.Connection] = []
_shields: dict[Identity | None, Shield] = {}
_guard = threading.RLock()


@in_child
def _forget_after_fork() -> None:
    global _guard, _is_forked  # noqa: PLW0603
    _guard = threading.RLock()  # a thread that held it is not on this side of the fork
    _is_forked = True
    for shield in _shields.values():
        shield.forget()
    _shields.clear()


# -- one file, one name --------------------------------------------------------------------------


def refuse_companion(file: Path, label: str) -> None:
    """Refuse a file that lies beside a database and is named after it.

    Raises:
        DatabaseFileError: It is one.
    """
    for suffix in ("-wal", "-shm", "-journal", "-lock"):
        main = file.with_name(file.name.removesuffix(suffix) or file.name)
        if main != file and main.is_file():
            raise DatabaseFileError(
                f"{label} is not a database but a file of one, of {main}: open that one"
            )


def refuse_second_name(file: Path, label: str, *, read_only: bool) -> None:
    """Refuse a database file that has more than one name.

    To read it is refused only while somebody has it open under the other name.

    Raises:
        DatabaseFileError: It has hard links, or is mounted at its path by itself.
    """
    try:
        links = os.stat(file).st_nlink
    except OSError:
        return  # whoever opens it says what is wrong
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
    """Whether a path is a mount point of its own, as of ``docker run -v ./x.db:/data/x.db``."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return False
    name = re.sub(rb"[ \t\n\\]", lambda found: b"\\%03o" % found[0][0], os.fsencode(file))
    return any(line.split(b" ", 5)[4] == name for line in mounts.splitlines())
