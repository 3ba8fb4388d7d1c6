"""The open connections of this process, whose locks must be free when it forks."""

from __future__ import annotations

import os
import threading
import time
import weakref

from pocoflow.db.connection import Connection

_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_guard = threading.RLock()  # of the set
_PATIENCE = 5.0


class _Locked(threading.local):
    """The locks that a thread has acquired for its fork."""

    def __init__(self) -> None:
        self.locks: list[threading.RLock] = []


_locked = _Locked()


def register(connection: Connection) -> None:
    """Register a connection, weakly."""
    with _guard:
        _connections.add(connection)


def close_all() -> None:
    """Close the connections that are still open, as the interpreter exits."""
    for connection in list(_connections):
        connection.close()


def _before_fork() -> None:
    # A lock inside SQLite that a thread holds during the fork stays locked in the child, and would
    # block it for ever: so wait until no thread is inside SQLite, for a limited time.
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if _lock_all():
            return
        _unlock_all()


def _lock_all() -> bool:
    # The holder of one of these locks may wait for another, in a finalizer: so use timeouts.
    _guard.acquire()
    _locked.locks.append(_guard)
    for connection in list(_connections):
        if not connection.alone.acquire(timeout=0.05):
            return False
        _locked.locks.append(connection.alone)
    return True


def _unlock_all() -> None:
    while _locked.locks:
        _locked.locks.pop().release()


def _after_fork_in_child() -> None:
    # A thread that held one of these locks does not exist in the child to release it.
    global _guard  # noqa: PLW0603
    _guard = threading.RLock()
    for connection in _connections:
        connection.reset_after_fork(at_rest=bool(_locked.locks))
    _locked.locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_unlock_all,
        after_in_child=_after_fork_in_child,
    )
