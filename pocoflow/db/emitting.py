"""Recording what nodes emit: several values per row, at most one extra commit in 50 ms."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import ClassVar, NamedTuple, TypeAlias

from pocoflow.cleanup import in_child
from pocoflow.db.connection import Connection
from pocoflow.db.log import Kind, Row, RunLog, split_names
from pocoflow.db.port import Transaction
from pocoflow.db.sql import QUERIES
from pocoflow.errors import DatabaseError
from pocoflow.logging import OwnLogger

_log = OwnLogger("db")

_PERIOD = 0.05
"""The minimum number of seconds between two commits that contain only emitted values."""

_IDLE = 5.0
"""The number of seconds without a value after which the thread of a database ends."""

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


class Emitter(NamedTuple):
    """The source of a value: a phase of a step, an attempt of ``exec``, possibly on an item.

    In a journaled call, ``call`` is the name of that call.
    """

    step: int
    names: tuple[str, ...]
    phase: str
    attempt: int
    item: int | None
    call: str | None


PutsEmitted: TypeAlias = Callable[[Transaction, Emitter, Sequence[str]], object]
"""Writes emitted values of a line, in the caller's transaction."""


class _Value(NamedTuple):
    put: PutsEmitted
    emitter: Emitter
    text: str


class EmittedValues:
    """The emitted values of a run that are not written yet, in order."""

    def __init__(self, run: RunLog, connection: Connection) -> None:
        self._run, self._connection = run, connection
        self._pending: list[_Value] = []
        self._guard = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, put: PutsEmitted, emitter: Emitter, text: str) -> None:
        """Have a value written soon, before the next commit of the run; never blocks."""
        with self._guard:
            self._pending.append(_Value(put, emitter, text))
        _Writer.of(self._connection).write_soon(self)

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
        for (put, emitter), group in groupby(values, lambda value: value[:2]):
            texts = [value.text for value in group]
            for begin in range(0, len(texts), MOST_VALUES):
                put(raw, emitter, texts[begin : begin + MOST_VALUES])

    def commit(self) -> None:
        """Write the pending values, in a transaction of their own, unless the run has ended."""
        if not self._pending or self._run.is_over:
            return
        try:
            with self._connection.transaction(of=self._run.run_no) as raw:
                if not self._run.is_over:
                    self.write(raw)
        except DatabaseError as exc:
            # The next commit of the run reports it to the caller.
            _log.debug("run %r: what it emits is not written yet: %s", self._run.run_id, exc)


def append_emitted(
    raw: Transaction, run: RunLog, line: int, emitter: Emitter, texts: Sequence[str]
) -> ValueRange:
    """Append a row of values; the last has the number of the row, the others those before it.

    Raises:
        RunLostError: Another process has claimed the run, or its log was changed.
    """
    facts = (emitter.step, emitter.item, run.clock(), *split_names(emitter.names))
    data = f"[{','.join(texts)}]"
    head = (len(texts), run.end, Kind.EMITTED, line, run.steps, *facts)
    tail = (emitter.attempt, emitter.phase, emitter.call, data, run.run_no, run.fence, run.last)
    cursor = raw.execute(QUERIES["append_emitted"], (*head, *tail))
    if cursor.rowcount != 1:
        raise run.lost(raw)
    run.last = int(cursor.lastrowid or 0)
    return ValueRange.of(run, run.last, len(texts))


def mark_void(
    raw: Transaction, run: RunLog, line: int, step: int, rows: Sequence[ValueRange]
) -> None:
    """Record that values are void, as the attempt that emitted them was abandoned.

    Raises:
        RunLostError: Another process has claimed the run, or its log was changed.
    """
    raw.executemany(QUERIES["mark_void"], [(values.row,) for values in rows])
    data = json.dumps([[values.first, values.last] for values in rows])
    run.last = run.append(raw, Row(Kind.VOID, line, step, data=data))


class _Writer:
    """The thread that writes what the runs of one database emit."""

    _known: ClassVar[weakref.WeakKeyDictionary[Connection, _Writer]] = weakref.WeakKeyDictionary()
    _all: ClassVar = threading.Lock()

    def __init__(self) -> None:
        self._values: dict[EmittedValues, None] = {}
        self._guard = threading.Lock()
        self._woken = threading.Event()
        self._is_at_work = False

    @classmethod
    def of(cls, connection: Connection) -> _Writer:
        """The writer of a database."""
        writer = cls._known.get(connection)
        if writer is None:
            with cls._all:
                writer = cls._known.setdefault(connection, cls())
        return writer

    @classmethod
    def forget(cls) -> None:
        """Drop all writers, in a forked child: their threads exist in the parent only."""
        cls._known.clear()
        cls._all = threading.Lock()

    def write_soon(self, values: EmittedValues) -> None:
        """Have the thread write them at once, or at the end of the period."""
        with self._guard:
            self._values[values] = None
            starts, self._is_at_work = not self._is_at_work, True
        self._woken.set()
        if starts:
            threading.Thread(target=self._work, name="pocoflow-emitted", daemon=True).start()

    def _work(self) -> None:
        pause = threading.Event()
        while True:
            self._woken.wait(_IDLE)
            with self._guard:
                self._woken.clear()
                values, self._values = self._values, {}
                if not values:
                    self._is_at_work = False
                    return
            for emitted in values:
                emitted.commit()
            del values
            pause.wait(_PERIOD)


in_child(_Writer.forget)
