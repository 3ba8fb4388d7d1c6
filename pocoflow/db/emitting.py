"""Recording what nodes emit: several values per row, at most one extra commit in 50 ms."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeAlias

from pocoflow.db.connection import Connection
from pocoflow.db.log import Kind, Row, RunLog
from pocoflow.db.port import Transaction
from pocoflow.db.sql import QUERIES
from pocoflow.errors import DatabaseError
from pocoflow.logging import OwnLogger

_log = OwnLogger("db")

_PERIOD = 0.05
"""The minimum number of seconds between two commits that contain only emitted values."""

MOST_VALUES = 1000
"""The maximum number of values in a row."""


class ValueRange(NamedTuple):
    """A row of values: its id, and the event numbers of its first and last value."""

    row: int
    first: int
    last: int

    @classmethod
    def of(cls, run: RunLog, row: int, count: int) -> ValueRange:
        """The range of a row with this many values."""
        last = 2 * (row - run.first)
        return cls(row, last - 2 * (count - 1), last)


PutsEmitted: TypeAlias = Callable[[Transaction, Row, Sequence[str]], object]
"""Writes emitted values of a line, in the caller's transaction; the row names their source."""


class EmittedValues:
    """The emitted values of a run that are not written yet, in order."""

    def __init__(self, run: RunLog, connection: Connection) -> None:
        self._run, self._connection = run, connection
        self._pending: list[tuple[PutsEmitted, Row, str]] = []
        self._guard = threading.Lock()
        self._is_due, self._not_before = False, 0.0

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, put: PutsEmitted, source: Row, text: str) -> None:
        """Have a value written soon, before the next commit of the run; never blocks."""
        with self._guard:
            self._pending.append((put, source, text))
            starts, self._is_due = not self._is_due, True
        if starts:
            timer = threading.Timer(max(0.0, self._not_before - time.monotonic()), self._commit)
            timer.name, timer.daemon = "pocoflow-emitted", True
            timer.start()

    def write(self, raw: Transaction) -> None:
        """Write the pending values, in the caller's transaction.

        Raises:
            RunLostError: Another process has claimed the run.
        """
        with self._guard:
            values, self._pending = self._pending, []
        if not values:
            return

        def put_back() -> None:
            with self._guard:
                self._pending[:0] = values

        self._connection.at_end(undone=put_back)
        for (put, source), group in groupby(values, lambda value: value[:2]):
            texts = [text for _, _, text in group]
            for begin in range(0, len(texts), MOST_VALUES):
                put(raw, source, texts[begin : begin + MOST_VALUES])

    def _commit(self) -> None:
        """Write the pending values, in a transaction of their own, unless the run has ended."""
        with self._guard:
            self._is_due = bool(self._pending) and not self._run.is_over
        if not self._is_due:
            return
        try:
            with self._connection.transaction(of=self._run.run_no) as raw:
                # Only now: while this waits for other writers, no other thread is started.
                self._is_due, self._not_before = False, time.monotonic() + _PERIOD
                if not self._run.is_over:
                    self.write(raw)
        except DatabaseError as exc:
            # The next commit of the run reports it to the caller.
            self._is_due = False
            _log.debug("run %r: what it emits is not written yet: %s", self._run.run_id, exc)


def mark_void(
    raw: Transaction, run: RunLog, line: int, step: int, rows: Sequence[ValueRange]
) -> None:
    """Record that values are void, as the attempt that emitted them was abandoned.

    Raises:
        RunLostError: Another process has claimed the run, or its log was changed.
    """
    raw.executemany(QUERIES["mark_void"], [(values.row,) for values in rows])
    data = json.dumps([[values.first, values.last] for values in rows])
    run.last = run.append(raw, Row(Kind.VOID, step, line, data=data))
