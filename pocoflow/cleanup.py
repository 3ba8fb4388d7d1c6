"""What garbage collection leaves to be done: in a thread of its own, as it must wait for nothing.

A finalizer is called in whichever thread collects, at whichever instant: also while that thread, or
one that waits for it, holds a lock that the finalizer would need.
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

_left: deque[Callable[[], object]] = deque()
_at_exit: list[Callable[[], object]] = []
_turn = threading.Lock()


def leave(call: Callable[[], object]) -> None:
    """Call something soon, in another thread; takes no lock, and waits for nothing."""
    _left.append(call)
    try:
        _thread.start_new_thread(finish, ())  # threading.Thread.start() would wait for it
    except RuntimeError:
        pass  # no thread can be started: whoever leaves something next, or the exit, does it


def finish() -> None:
    """Do what was left, and wait for what another thread does of it."""
    with _turn:
        while _left:
            call = _left.popleft()
            try:
                call()
            except Exception:  # noqa: BLE001 - nobody is there who could be told otherwise
                _log.exception("what was garbage could not be closed")


def at_exit(call: Call) -> Call:
    """Call something as the interpreter ends, in the order in which this was called."""
    _at_exit.append(call)
    return call


@atexit.register
def _exit() -> None:
    for call in _at_exit:
        call()
    finish()


def in_child(call: Call) -> Call:
    """Call something on the other side of each fork, where what threads do is not going on."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)
    return call


@in_child
def _forget_after_fork() -> None:
    global _turn  # noqa: PLW0603 - the thread that has it is not on this side of the fork
    _turn = threading.Lock()
    _left.clear()
