"""What nodes emit, on record: several values a row, at most one commit more in 50 ms."""

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
"""At least so many seconds between two commits that hold nothing else."""

_IDLE = 5.0
"""So many seconds without a value end the thread of a database."""

MOST_VALUES = 1000
"""At most so many values are in a row."""


class ValueRange(NamedTuple):
    """A row of values: its number, and those of its first and last value among the run's events."""

    row: int
    first: int
    last: int

    @classmethod
    def of(cls, run: RunLog, row: int, count: int) -> ValueRange:
        """That of a row of a run, which holds so many values."""
        last = 2 * (row - run.first)
        return cls(row, last - 2 * (count - 1), last)


class Emitter(NamedTuple):
    """What emits: a phase of a step, an attempt of ``exec``, on an item if it is one of several.

    In a journaled call, ``call`` is what that is known by.
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
    """The emitted values of a run that are not written yet, in their order."""

    def __init__(self, run: RunLog, connection: Connection) -> None:
        self._run, self._connection = run, connection
        self._waiting: list[_Value] = []
        self._guard = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, put: PutsEmitted, emitter: Emitter, text: str) -> None:
        """Have a value written soon, before what is committed of the run; waits for nobody."""
        with self._guard:
            self._waiting.append(_Value(put, emitter, text))
        _Writer.of(self._connection).write_soon(self)

    def write(self, raw: Transaction) -> None:
        """Write what waits, in the caller's transaction.

        Raises:
            RunLostError: Somebody else has the run now.
        """
        with self._guard:
            values, self._waiting = self._waiting, []
        if not values:
            return

        def put_back() -> None:
            with self._guard:
                self._waiting[:0] = values

        self._connection.at_end(undone=put_back)
        for (put, emitter), those in groupby(values, lambda one: one[:2]):
            texts = [one.text for one in those]
            for begin in range(0, len(texts), MOST_VALUES):
                put(raw, emitter, texts[begin : begin + MOST_VALUES])

    def commit(self) -> None:
        """Write what waits, in a transaction of its own, unless the run has ended."""
        if not self._waiting or self._run.is_over:
            return
        try:
            with self._connection.transaction(of=self._run.run_no) as raw:
                if not self._run.is_over:
                    self.write(raw)
        except DatabaseError as exc:
            # The next commit of the run says so, to who has to know.
            _log.debug("run %r: what it emits is not written yet: %s", self._run.run_id, exc)


def append_emitted(
    raw: Transaction, run: RunLog, line: int, emitter: Emitter, texts: Sequence[str]
) -> ValueRange:
    """Append a row of values; the numbers before its own are those of all but the last value.

    Raises:
        RunLostError: Somebody else has the run now, or it is not there as it was left.
    """
    facts = (emitter.step, emitter.item, run.clock(), *split_names(emitter.names))
    data = f"[{','.join(texts)}]"
    given = (len(texts), run.end, Kind.EMITTED, line, run.steps, *facts)
    claim = (emitter.attempt, emitter.phase, emitter.call, data, run.run_no, run.fence, run.last)
    cursor = raw.execute(QUERIES["append_emitted"], (*given, *claim))
    if cursor.rowcount != 1:
        raise run.lost(raw)
    run.last = int(cursor.lastrowid or 0)
    return ValueRange.of(run, run.last, len(texts))


def mark_void(
    raw: Transaction, run: RunLog, line: int, step: int, rows: Sequence[ValueRange]
) -> None:
    """Put on record that values do not count, as the attempt that emitted them was given up.

    Raises:
        RunLostError: Somebody else has the run now, or it is not there as it was left.
    """
    raw.executemany(QUERIES["mark_void"], [(one.row,) for one in rows])
    data = json.dumps([[one.first, one.last] for one in rows])
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
        """That of a database."""
        found = cls._known.get(connection)
        if found is None:
            with cls._all:
                found = cls._known.setdefault(connection, cls())
        return found

    @classmethod
    def forget(cls) -> None:
        """The threads are not on this side of a fork."""
        cls._known.clear()
        cls._all = threading.Lock()

    def write_soon(self, values: EmittedValues) -> None:
        """Write them at once, or at the end of the period."""
        with self._guard:
            self._values[values] = None
            begins, self._is_at_work = not self._is_at_work, True
        self._woken.set()
        if begins:
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
            for one in values:
                one.commit()
            del values
            pause.wait(_PERIOD)


in_child(_Writer.forget)
