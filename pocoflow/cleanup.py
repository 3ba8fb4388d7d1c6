"""Deferred work of finalizers: it is done in a separate thread, as finalizers must not wait.

A finalizer is called in whichever thread collects garbage, at any instant: even while that thread,
or one that waits for it, holds a lock that the finalizer would need.
"""

from __future__ import annotations

import _thread
import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from pocoflow.logging import OwnLogger

_log = OwnLogger("db")

Call = TypeVar("Call", bound=Callable[[], object])

_pending: deque[Callable[[], object]] = deque()
_at_exit: list[Callable[[], object]] = []
_lock = threading.Lock()


def leave(call: Callable[[], object]) -> None:
    """Call something soon, in another thread; takes no lock, and does not wait."""
    _pending.append(call)
    try:
        _thread.start_new_thread(finish, ())  # threading.Thread.start() would wait for it
    except RuntimeError:
        pass  # no thread can be started: the next call, or the exit, does it


def finish() -> None:
    """Make the pending calls, and wait for those that another thread makes."""
    with _lock:
        while _pending:
            call = _pending.popleft()
            try:
                call()
            except Exception:  # noqa: BLE001 - there is no caller to raise it to
                _log.exception("what was garbage could not be closed")


def at_exit(call: Call) -> Call:
    """Call something at exit of the interpreter, in the order of registration."""
    _at_exit.append(call)
    return call


@atexit.register
def _exit() -> None:
    for call in _at_exit:
        call()
    finish()


def in_child(call: Call) -> Call:
    """Call something in the child of each fork, where the other threads do not exist."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)
    return call


@in_child
def _forget_after_fork() -> None:
    global _lock  # noqa: PLW0603 - the thread that holds it does not exist in the child
    _lock = threading.Lock()
    _pending.clear()
