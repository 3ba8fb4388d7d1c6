"""Importing a target only to inspect it: no flow of it runs meanwhile."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary

from pocoflow.errors import DefinitionError
from pocoflow.messages import users_line


class Named(Protocol):
    """A flow."""

    @property
    def name(self) -> str:
        """Its name."""


class _Importing:
    """The target that is being imported, if one is.

    Attributes:
        target: The user's name for it.
        others: The threads that are not involved in the import.
        only: The only thread that is involved, if it is known.
        refused: The messages of the runs that were refused meanwhile.
        started: The threads that imported targets have started, and the name of each target;
            ``None`` if there are none.
        guard: Serialises imports.
    """

    target: ClassVar[str | None] = None
    others: ClassVar[frozenset[int | None]] = frozenset()
    only: ClassVar[int | None] = None
    refused: ClassVar[list[str]] = []
    started: ClassVar[WeakKeyDictionary[threading.Thread, str] | None] = None
    guard: ClassVar[threading.RLock] = threading.RLock()


@contextmanager
def importing_alone(target: str) -> Iterator[None]:
    """Refuse every run that this thread starts while it imports a target.

    For a process whose other threads may start runs meanwhile, such as a worker of a cluster.

    Raises:
        DefinitionError: A run was refused, even if the module has caught that.
    """
    ident = threading.get_ident()
    with _Importing.guard:
        before = _Importing.target, _Importing.only, _Importing.refused
        _Importing.target, _Importing.only, _Importing.refused = target, ident, []
        try:
            with _reporting():
                yield
        finally:
            _Importing.target, _Importing.only, _Importing.refused = before


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
    _Importing.target, _Importing.others, _Importing.refused = target, frozenset(others), []
    try:
        with _reporting():
            yield
    finally:
        _Importing.target = None
        started = _Importing.started or WeakKeyDictionary()
        for thread in threading.enumerate():
            if thread.ident != ident and thread.ident not in others:
                started[thread] = target
        _Importing.started = started or None
        atexit.unregister(_leave)
        atexit.register(_leave, target)  # called before what the import has registered


@contextmanager
def _reporting() -> Iterator[None]:
    """Raise the first refusal of a run at the end, even if it was caught meanwhile."""
    failed: BaseException | None = None
    try:
        yield
    except BaseException as exc:
        failed = exc
        raise
    finally:
        if _Importing.refused:
            raise DefinitionError(_Importing.refused[0]) from failed


def _leave(target: str) -> None:
    """Refuse remaining runs, at the exit of the process."""
    _Importing.target, _Importing.others = target, frozenset()


def refuse_while_importing(flow: Named) -> None:
    """Refuse to run a flow while its module is imported only to be inspected.

    Raises:
        DefinitionError: A target is being imported by this thread or by one that started it, or was
            imported by the one that started this.
    """
    target, started = _Importing.target, _Importing.started
    if target is None and started is None:
        return
    ident = threading.get_ident()
    if target is None or ident in _Importing.others or _Importing.only not in (None, ident):
        target = None if started is None else started.get(threading.current_thread())
    if target is None:
        return
    location = users_line()
    where = "" if location is None else f" at {location[0]}:{location[1]}"
    message = (
        f"flow {flow.name!r} is run{where} by the import of {target}, and no node runs then: "
        'put what runs it under if __name__ == "__main__":'
    )
    _Importing.refused.append(message)
    raise DefinitionError(message)
