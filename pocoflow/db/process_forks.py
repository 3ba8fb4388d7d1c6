"""The connections that this process has open, whose locks are to be free when it forks."""

from __future__ import annotations

import os
import threading
import time
import weakref

from pocoflow.db.connection import Connection

_open_ones: weakref.WeakSet[Connection] = weakref.WeakSet()
_guard = threading.RLock()  # of the set
_PATIENCE = 5.0


class _Locked(threading.local):
    """The locks that a thread has taken for its fork."""

    def __init__(self) -> None:
        self.locks: list[threading.RLock] = []


_locked = _Locked()


def keep(connection: Connection) -> None:
    """Know a connection as long as it is there."""
    with _guard:
        _open_ones.add(connection)


def close_all() -> None:
    """Close the connections that are open yet, as the interpreter ends."""
    for connection in list(_open_ones):
        connection.close()


def _before_fork() -> None:
    # A lock inside SQLite that a thread has at the fork stays taken in the child, which would wait
    # for ever: so let no thread be there, if that can be had before long.
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if _lock_all():
            return
        _unlock_all()


def _lock_all() -> bool:
    # Whoever has one of these locks may wait for another one, in a finalizer: no waiting here.
    _guard.acquire()
    _locked.locks.append(_guard)
    for connection in list(_open_ones):
        if not connection.alone.acquire(timeout=0.05):
            return False
        _locked.locks.append(connection.alone)
    return True


def _unlock_all() -> None:
    while _locked.locks:
        _locked.locks.pop().release()


def _after_fork_in_child() -> None:
    # A thread that held one of these is not on this side of the fork to give it back.
    global _guard  # noqa: PLW0603
    _guard = threading.RLock()
    for connection in _open_ones:
        connection.begin_anew(at_rest=bool(_locked.locks))
    _locked.locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_unlock_all,
        after_in_child=_after_fork_in_child,
    )
