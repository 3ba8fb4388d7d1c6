"""Results of items and calls until they are on record, and what is said of those that are lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from pocoflow.db.log import Facts, Kind
from pocoflow.errors import DatabaseBusyError, DatabaseError, DatabaseFileError

WaitingRow: TypeAlias = tuple[int, Kind, Facts]
"""A row of an item or a call: its step, its kind and the rest."""

_ONE_IS_LOST = "its result could not be recorded: a resume calls it again"
_SEVERAL_ARE_LOST = "their results could not be recorded: a resume calls them again"


CommitsRows: TypeAlias = Callable[[Sequence[WaitingRow]], object]
"""Commits the rows of one item or call."""


class WaitingRows:
    """The rows of items and calls that are not committed yet, of all threads of a line."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Sequence[WaitingRow]]] = []  # by thread
        self._failed: tuple[DatabaseError, str] | None = None  # with its text

    def commit(self, rows: Sequence[WaitingRow], commit: CommitsRows) -> None:
        """Commit the rows of an item or a call.

        Raises:
            DatabaseError: The database cannot be written.
        """
        one = (threading.get_ident(), rows)
        self._waiting.append(one)
        self._carry_out(one, commit)

    def commit_rest(self, commit: CommitsRows) -> None:
        """Commit what a Ctrl-C in this thread, which may come at any instant, has left.

        What other threads are committing is theirs.

        Raises:
            DatabaseError: The database cannot be written.
        """
        for one in self._waiting.copy():
            if one[0] == threading.get_ident():
                self._carry_out(one, commit)

    def _carry_out(self, one: tuple[int, Sequence[WaitingRow]], commit: CommitsRows) -> None:
        if self._failed is not None:
            raise self._lost(*self._failed)  # not one busy timeout after another
        try:
            commit(one[1])
        except DatabaseError as exc:
            self._failed = exc, str(exc)
            self._lost(*self._failed)
            raise
        self._waiting.remove(one)

    def _lost(self, error: DatabaseError, text: str) -> DatabaseError:
        """The error, which says how many are not on record by now, as more finish after it."""
        error.args = (text, *error.args[1:])
        count = len(self._waiting)
        if count == 1:
            report_lost(error, "an item or a call has finished")
        else:
            report_lost(error, f"{count} items or calls have finished", _SEVERAL_ARE_LOST)
        return error


def report_lost(exc: DatabaseError, finished: str, lost: str = _ONE_IS_LOST) -> None:
    """Say in an error of the database what has finished, and is called again."""
    if isinstance(exc, DatabaseBusyError | DatabaseFileError):
        exc.args = (f"{exc}; {finished}, and {lost}", *exc.args[1:])
