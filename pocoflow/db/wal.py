"""Copies the write-ahead log into the database file, in a thread beside those that commit steps.

Left alone, SQLite does that inside the commit with which the log reaches 1000 pages, and that
commit waits until some hundred pages are on the disk. Here a thread is told every few commits, and
copies while the flow works on its next step: then the next commit begins the log anew, long before
it has 1000 pages. SQLite's own way stays switched on, for what the thread cannot do: to end the log
of a writer that never pauses, and anything at all where no thread can be started.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue

from pocoflow.db.oslocks import Identity, identify
from pocoflow.logging import get_logger

__all__ = ["LOG_LIMIT", "Backfill", "is_any_at_work", "rest_all"]

_log = get_logger("db")

LOG_LIMIT = 16 << 20
"""A log that a slow reader made larger than so many bytes is cut to that when it begins anew."""

_COMMITS = 32  # at most, between two copyings while the flow pauses between its steps
_PAGES = 200  # about so many, if that is fewer commits
_STEP = 2  # commits of a step


class Backfill:
    """The thread that copies the log of one database file, shared by the process's connections.

    It starts at the first time that there is much to copy, waits without doing anything, and has
    ended when the last connection is closed. No writer and no reader waits for a lock of it.
    """

    def __init__(self, file: Path, identity: Identity | None) -> None:
        self._file = file
        self._identity = identity
        self._users = 0
        self._commits = 0
        self._every = _COMMITS
        self._next = _COMMITS
        self._seen_commits = 0
        self._seen_frames = 0
        self._thread: threading.Thread | None = None
        # Its put() may be interrupted by a finalizer that puts, too; that of other queues may not.
        self._orders: SimpleQueue[bool] = SimpleQueue()

    @classmethod
    def share(cls, file: Path, identity: Identity | None) -> Backfill:
        """The one of a database file, for one more connection that will :meth:`close` it."""
        with _guard:
            shared = _shared.setdefault((file, identity), cls(file, identity))
            shared._users += 1
        return shared

    def committed(self) -> None:
        """A commit has made the log longer."""
        self._commits += 1  # of two threads at once, one may not be counted: that does no harm
        if self._commits >= self._next:
            self._next = self._commits + self._every
            with _guard:
                if self._thread is None or not self._thread.is_alive():
                    self._start()
                self._orders.put(True)

    def _start(self) -> None:
        self._orders.put(False)  # to one whose start was interrupted
        self._orders = SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, args=(self._orders,), name="pocoflow-wal", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as exc:
            self._thread = None
            _log.debug("%s: SQLite copies the log of %s inside the commits", exc, self._file)

    def rest(self) -> None:
        """Let the thread finish what it was told, and wait until it has ended.

        The next commits start another one.
        """
        with _guard:
            thread, self._thread = self._thread, None
            orders = self._orders
        orders.put(False)
        # Not under the guard: the thread may be at a garbage collection that closes databases.
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()

    def close(self) -> None:
        """One connection needs it no more; to be called before that connection is closed.

        Then SQLite finds that connection to be the last one, and removes the log.
        """
        with _guard:
            self._users -= 1
            if self._users:
                return
            _shared.pop((self._file, self._identity), None)
        self.rest()

    # -- in the thread --------------------------------------------------------------------------

    def _work(self, orders: SimpleQueue[bool]) -> None:
        while orders.get():
            try:
                self._copy()
            except sqlite3.Error as exc:
                _log.debug("the log of %s was not copied: %s", self._file, exc)
            # A writer that never pauses ends the log itself, if nobody is at it in that instant.
            while not orders.empty():
                if not orders.get():
                    return

    def _copy(self) -> None:
        if identify(self._file) != self._identity:
            return  # deleted or replaced: whoever commits says so
        # It is not kept open: a process that waits for something has no descriptors for this.
        target = f"{self._file.as_uri()}?mode=rw"
        with closing(sqlite3.connect(target, uri=True, timeout=0, isolation_level=None)) as raw:
            commits = self._commits
            frames = _copy_once(raw)
            meanwhile = self._commits - commits
            if 0 < meanwhile <= _STEP:
                # The rest of a step came meanwhile, and now comes a pause: the log can end here.
                commits = self._commits
                frames = _copy_once(raw)
        pauses = meanwhile <= _STEP
        made, self._seen_commits = commits - self._seen_commits, commits
        grown = frames - self._seen_frames if frames >= self._seen_frames else frames
        self._seen_frames = frames
        if grown > 0:
            # Large commits are copied sooner. If SQLite began the log anew, that hides most of it.
            self._every = max(1, min(_COMMITS, 2 * self._every, _PAGES * made // grown))
        # While the writer does not pause, copying slows its commits down and cannot end the log.
        self._next = self._commits + (self._every if pauses else 2 * self._every)


def _copy_once(raw: sqlite3.Connection) -> int:
    """Copy what no reader needs; how many pages the log has."""
    # PASSIVE lets nobody wait.
    return int(raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])


_shared: dict[tuple[Path, Identity | None], Backfill] = {}
_guard = threading.RLock()


def rest_all() -> None:
    """Let the threads of all files rest, as for :meth:`Backfill.rest`."""
    for backfill in list(_shared.values()):
        backfill.rest()


def is_any_at_work() -> bool:
    """Whether there is a thread of any file."""
    with _guard:
        return any(backfill._thread is not None for backfill in _shared.values())


def _before_fork() -> None:
    # Locks inside SQLite that a thread has at the fork would stay taken in the child.
    while True:
        rest_all()
        _guard.acquire()
        if not is_any_at_work():
            return  # with the guard, so that no thread starts before the fork
        _guard.release()


def _after_fork_in_parent() -> None:
    _guard.release()


def _after_fork_in_child() -> None:
    global _guard  # noqa: PLW0603 - who waits for it is not on this side of the fork
    _guard = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
