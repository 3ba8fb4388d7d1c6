"""Importing a target only to inspect it: no flow of it runs meanwhile."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

from pocoflow.errors import DefinitionError
from pocoflow.messages import users_line

if TYPE_CHECKING:
    from pocoflow.nodes.base import NodeLike


class _Import(NamedTuple):
    """A target that is being imported.

    Attributes:
        target: The user's name for it.
        involves: Whether the thread with an identifier is involved in the import.
        refused: The messages of the runs that were refused meanwhile.
    """

    target: str
    involves: Callable[[int], bool]
    refused: list[str]


class _State:
    """What is being imported, and what remains of earlier imports.

    Attributes:
        current: The import that is under way, if one is.
        started: The threads that imported targets have started, and the name of each target;
            ``None`` if there are none.
        guard: Serialises imports.
    """

    current: ClassVar[_Import | None] = None
    started: ClassVar[WeakKeyDictionary[threading.Thread, str] | None] = None
    guard: ClassVar[threading.RLock] = threading.RLock()


@contextmanager
def importing_alone(target: str) -> Iterator[None]:
    """Refuse every run that this thread starts while it imports a target.

    For a process whose other threads may start runs meanwhile, such as a worker of a cluster.

    Raises:
        DefinitionError: A run was refused, even if the module has caught that.
    """
    with _State.guard, _refusing(target, threading.get_ident().__eq__):
        yield


@contextmanager
def importing(target: str) -> Iterator[None]:
    """Refuse every run that starts while a target is imported, or later because of the import.

    The latter are runs in threads that the import has started, such as timers, and in functions
    that it has registered for the exit of the process.

    Raises:
        DefinitionError: A run was refused, even if the module has caught that.
    """
    ident = threading.get_ident()
    others = {thread.ident for thread in threading.enumerate()} - {ident}
    try:
        with _refusing(target, lambda other: other not in others):
            yield
    finally:
        started = _State.started or WeakKeyDictionary()
        for thread in threading.enumerate():
            if thread.ident != ident and thread.ident not in others:
                started[thread] = target
        _State.started = started or None
        atexit.unregister(_leave)
        atexit.register(_leave, target)  # called before what the import has registered


@contextmanager
def _refusing(target: str, involves: Callable[[int], bool]) -> Iterator[None]:
    """Refuse runs; raises the first refusal at the end, even if it was caught meanwhile."""
    before = _State.current
    current = _State.current = _Import(target, involves, [])
    failed: BaseException | None = None
    try:
        yield
    except BaseException as exc:
        failed = exc
        raise
    finally:
        _State.current = before
        if current.refused:
            raise DefinitionError(current.refused[0]) from failed


def _leave(target: str) -> None:
    """Refuse remaining runs, at the exit of the process."""
    _State.current = _Import(target, lambda _: True, [])


def refuse_while_importing(flow: NodeLike) -> None:
    """Refuse to run a flow while its module is imported only to be inspected.

    Raises:
        DefinitionError: A target is being imported by this thread or by one that started it, or was
            imported by the one that started this.
    """
    current, started = _State.current, _State.started
    if current is None and started is None:
        return
    if current is not None and current.involves(threading.get_ident()):
        target: str | None = current.target
    else:
        current = None
        target = None if started is None else started.get(threading.current_thread())
    if target is None:
        return
    location = users_line()
    where = "" if location is None else f" at {location[0]}:{location[1]}"
    message = (
        f"flow {flow.name!r} is run{where} by the import of {target}, and no node runs then: "
        'put what runs it under if __name__ == "__main__":'
    )
    if current is not None:
        current.refused.append(message)
    raise DefinitionError(message)
