"""Results that wait to be committed together, and what is said of those that could not be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from pocoflow.db.log import Facts, Kind
from pocoflow.errors import DatabaseBusyError, DatabaseError, DatabaseFileError

WaitingRow: TypeAlias = tuple[int, Kind, Facts]
"""The row of an item or a call that is to be written: its step, its kind and the rest."""

_ONE_IS_LOST = "its result could not be recorded: a resume calls it again"
_SEVERAL_ARE_LOST = "their results could not be recorded: a resume calls them again"


class WaitingRows:
    """The rows of items and calls of several threads: who commits takes those of all that wait."""

    def __init__(self) -> None:
        self._rows: list[WaitingRow] = []
        self._written = 0
        self._failed: tuple[DatabaseError, str] | None = None  # with its text
        self._guard = threading.Lock()
        self._writing = threading.Lock()

    def add(self, rows: Sequence[WaitingRow]) -> int:
        """Have rows committed; how many are to be, with those that were."""
        with self._guard:
            self._rows += rows
            return self._written + len(self._rows)

    def commit(
        self, put: Callable[[Sequence[WaitingRow]], object], upto: int | None = None
    ) -> None:
        """Commit the rows that wait.

        Args:
            put: Commits some.
            upto: Not if as many were written meanwhile by another thread.

        Raises:
            DatabaseError: The database cannot be written.
        """
        with self._writing:
            if upto is not None and upto <= self._written:
                return
            if self._failed is not None:
                raise self._lost(*self._failed)  # not one busy timeout after another
            with self._guard:
                rows = self._rows.copy()
            if not rows:
                return
            try:
                put(rows)
            except DatabaseError as exc:
                self._failed = exc, str(exc)
                self._lost(*self._failed)
                raise
            with self._guard:
                # Only now: a Ctrl-C at any instant leaves them to the next call.
                del self._rows[: len(rows)]
                self._written += len(rows)

    def _lost(self, error: DatabaseError, text: str) -> DatabaseError:
        """The error, which says how many are not on record by now, as more finish after it."""
        error.args = (text, *error.args[1:])
        count = len(self._rows)
        if count == 1:
            tell_lost(error, "an item or a call has finished")
        else:
            tell_lost(error, f"{count} items or calls have finished", _SEVERAL_ARE_LOST)
        return error


def tell_lost(exc: DatabaseError, finished: str, lost: str = _ONE_IS_LOST) -> None:
    """Say in an error of the database what has finished, and is called again."""
    if isinstance(exc, DatabaseBusyError | DatabaseFileError):
        exc.args = (f"{exc}; {finished}, and {lost}", *exc.args[1:])
