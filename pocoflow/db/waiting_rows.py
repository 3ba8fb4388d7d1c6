"""The results of items and calls until they are committed, and errors for lost ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from pocoflow.db.log import Row
from pocoflow.errors import DatabaseBusyError, DatabaseError, DatabaseFileError

_ONE_IS_LOST = "its result could not be recorded: a resume calls it again"
_SEVERAL_ARE_LOST = "their results could not be recorded: a resume calls them again"


CommitsRows: TypeAlias = Callable[[Sequence[Row]], object]
"""Commits the rows of one item or call."""


class WaitingRows:
    """The rows of items and calls that are not committed yet, of all threads of a line."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Sequence[Row]]] = []  # by thread
        self._failed: tuple[DatabaseError, str] | None = None  # with its text

    def commit(self, rows: Sequence[Row], commit: CommitsRows) -> None:
        """Commit the rows of an item or a call.

        Raises:
            DatabaseError: The database cannot be written.
        """
        entry = (threading.get_ident(), rows)
        self._waiting.append(entry)
        self._carry_out(entry, commit)

    def commit_rest(self, commit: CommitsRows) -> None:
        """Commit what a Ctrl-C in this thread, which may come at any time, has left uncommitted.

        Rows of other threads are left to them.

        Raises:
            DatabaseError: The database cannot be written.
        """
        for entry in self._waiting.copy():
            if entry[0] == threading.get_ident():
                self._carry_out(entry, commit)

    def _carry_out(self, entry: tuple[int, Sequence[Row]], commit: CommitsRows) -> None:
        if self._failed is not None:
            raise self._lost(*self._failed)  # without another busy timeout
        try:
            commit(entry[1])
        except DatabaseError as exc:
            self._failed = exc, str(exc)
            self._lost(*self._failed)
            raise
        self._waiting.remove(entry)

    def _lost(self, error: DatabaseError, text: str) -> DatabaseError:
        """The error, updated with the number of uncommitted results, which may have grown."""
        error.args = (text, *error.args[1:])
        count = len(self._waiting)
        if count == 1:
            report_lost(error, "an item or a call has finished")
        else:
            report_lost(error, f"{count} items or calls have finished", _SEVERAL_ARE_LOST)
        return error


def report_lost(exc: DatabaseError, finished: str, lost: str = _ONE_IS_LOST) -> None:
    """Add to an error of the database what has finished, and will be called again."""
    if isinstance(exc, DatabaseBusyError | DatabaseFileError):
        exc.args = (f"{exc}; {finished}, and {lost}", *exc.args[1:])
