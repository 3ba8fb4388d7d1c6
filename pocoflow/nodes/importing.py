"""A target is imported to be looked at: no flow of it runs meanwhile."""

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
        target: What the user calls it.
        others: The threads that have nothing to do with the import.
        only: The one thread that has to do with it, if that is known.
        refused: What was said to runs that were to start meanwhile.
        begun: The threads that imported targets have started, and the name of each target; ``None``
            if there are none.
        guard: One target is imported at a time.
    """

    target: ClassVar[str | None] = None
    others: ClassVar[frozenset[int | None]] = frozenset()
    only: ClassVar[int | None] = None
    refused: ClassVar[list[str]] = []
    begun: ClassVar[WeakKeyDictionary[threading.Thread, str] | None] = None
    guard: ClassVar[threading.RLock] = threading.RLock()


@contextmanager
def importing_alone(target: str) -> Iterator[None]:
    """Refuse every run that this thread begins while it imports a target.

    For a process whose other threads may begin runs meanwhile, such as a worker of a cluster.

    Raises:
        DefinitionError: It has begun one, whatever the module made of the refusal.
    """
    own = threading.get_ident()
    with _Importing.guard:
        before = _Importing.target, _Importing.only, _Importing.refused
        _Importing.target, _Importing.only, _Importing.refused = target, own, []
        try:
            with _telling():
                yield
        finally:
            _Importing.target, _Importing.only, _Importing.refused = before


@contextmanager
def importing(target: str) -> Iterator[None]:
    """Refuse every run that begins while a target is imported, or that the import has left behind.

    Left behind is what a thread runs that the import has started, such as a timer, and what it has
    registered to be called at the end of the process.

    Raises:
        DefinitionError: One was to begin, whatever the module made of the refusal.
    """
    own = threading.get_ident()
    others = {one.ident for one in threading.enumerate()} - {own}
    _Importing.target, _Importing.others, _Importing.refused = target, frozenset(others), []
    try:
        with _telling():
            yield
    finally:
        _Importing.target = None
        begun = _Importing.begun or WeakKeyDictionary()
        for one in threading.enumerate():
            if one.ident != own and one.ident not in others:
                begun[one] = target
        _Importing.begun = begun or None
        atexit.unregister(_leave)
        atexit.register(_leave, target)  # called before what the import has registered


@contextmanager
def _telling() -> Iterator[None]:
    """Raise what was said to runs that were to start meanwhile, whatever became of that."""
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
    """Refuse what is left, at the end of the process."""
    _Importing.target, _Importing.others = target, frozenset()


def refuse_while_importing(flow: Named) -> None:
    """Refuse to run a flow while its module is imported only to be looked at.

    Raises:
        DefinitionError: A target is being imported by this thread or by one that started it, or was
            imported by the one that started this.
    """
    target, begun = _Importing.target, _Importing.begun
    if target is None and begun is None:
        return
    own = threading.get_ident()
    if target is None or own in _Importing.others or _Importing.only not in (None, own):
        target = None if begun is None else begun.get(threading.current_thread())
    if target is None:
        return
    place = users_line()
    where = "" if place is None else f" at {place[0]}:{place[1]}"
    said = (
        f"flow {flow.name!r} is run{where} by the import of {target}, and no node runs then: "
        'put what runs it under if __name__ == "__main__":'
    )
    _Importing.refused.append(said)
    raise DefinitionError(said)
