"""Pipelined statements to a server, and their results: several take one round trip.

This uses libpq directly, as cursors of psycopg would take five times the processor time of a step.
"""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import md5
from typing import Any

import psycopg
from psycopg import errors, pq

from pocoflow.db.port import Parameters, Record
from pocoflow.db.postgres.dialect import statement

_NUMBERS = dict.fromkeys((20, 21, 23, 26), int)
_READ: dict[int, Callable[[bytes], object]] = {
    **_NUMBERS,
    16: lambda value: value == b"t",
    **dict.fromkeys((700, 701, 1700), float),
}
"""How to read values, by the OID of their type; all others are texts."""

# One without a descriptor of its own.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)

_DONE = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class ServerRow(Record):
    """A row from a server."""

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: dict[str, int], values: Sequence[object]) -> None:
        self._columns, self._values = columns, values

    def __getitem__(self, column: Any) -> Any:
        if isinstance(column, str):
            column = self._columns[column]
        return self._values[column]

    def __iter__(self) -> Iterator[object]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> list[str]:
        """The names of the columns."""
        return list(self._columns)


class Outcome:
    """The result of a statement; reading it waits for the server."""

    __slots__ = ("_count", "_pipeline", "_rows", "is_ready", "prepares")

    def __init__(self, pipeline: Pipeline, prepares: str | None = None) -> None:
        self._pipeline = pipeline
        self._rows: list[Record] = []
        self._count = 0
        self.is_ready = False
        self.prepares = prepares

    def take(self, result: pq.abc.PGresult) -> None:
        """Store the answer of the server."""
        self._count = result.command_tuples or 0
        if count := result.ntuples:
            fields = range(result.nfields)
            columns = {_name(result, field): field for field in fields}
            read = [_READ.get(result.ftype(field), bytes.decode) for field in fields]
            for row in range(count):
                values = tuple(
                    None if (value := result.get_value(row, field)) is None else read[field](value)
                    for field in fields
                )
                self._rows.append(ServerRow(columns, values))
        self.is_ready = True

    @property
    def rowcount(self) -> int:
        """The number of rows that it has written."""
        self._pipeline.wait(self)
        return self._count

    @property
    def lastrowid(self) -> int | None:
        """The id of the row that it has inserted."""
        self._pipeline.wait(self)
        return self._rows[0][0] if self._rows else None

    def fetchone(self) -> Any:
        """The next row of the result, or ``None``."""
        self._pipeline.wait(self)
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[Record]:
        """The rows of the result."""
        self._pipeline.wait(self)
        return self._rows

    def __iter__(self) -> Iterator[Record]:
        return iter(self.fetchall())


def _name(result: pq.abc.PGresult, field: int) -> str:
    return (result.fname(field) or b"").decode()


class Pipeline:
    """The statements of one connection, which are sent without waiting for earlier ones.

    Args:
        connection: A connection in autocommit mode, which nothing else uses.
    """

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self._server = connection.pgconn
        self._server.nonblocking = 1
        self._server.enter_pipeline_mode()
        self._selector = _Selector()
        self._selector.register(self._server.socket, selectors.EVENT_READ)
        self._known: dict[str, bytes] = {}
        self._waiting: deque[Outcome | None] = deque()  # None is the end of a batch
        self._failed: errors.Error | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the connection is lost."""
        return self._server.status != pq.ConnStatus.OK

    @property
    def is_idle(self) -> bool:
        """Whether the server is in no transaction, after everything that was sent."""
        return self._server.transaction_status == pq.TransactionStatus.IDLE

    def check(self) -> None:
        """Detect whether the server has closed the connection since its last use; never blocks."""
        if not self._waiting:
            with suppress(psycopg.Error):
                while not self.is_lost and self._selector.select(0):
                    self._server.consume_input()

    def execute(self, sql: str, parameters: Parameters = (), /) -> Outcome:
        """Send a statement."""
        prepared = statement(sql)
        values = prepared.encoded(parameters)
        try:
            name = self._known.get(sql)
            if name is None:
                # The name identifies the statement even if a pooler mixes up sessions.
                name = b"pf_" + md5(sql.encode(), usedforsecurity=False).hexdigest().encode()
                self._known[sql] = name
                self._server.send_prepare(name, prepared.text)
                self._waiting.append(Outcome(self, sql))
            self._server.send_query_prepared(name, values)
        except BaseException:
            self.close()
            raise
        outcome = Outcome(self)
        self._waiting.append(outcome)
        return outcome

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> Outcome:
        """Send a statement for each of several rows; returns the result of the last."""
        outcome = Outcome(self)
        outcome.is_ready = True
        for row in parameters:
            outcome = self.execute(sql, row)
        return outcome

    def wait(self, outcome: Outcome) -> None:
        """Wait for the result of a statement, in an open transaction.

        Raises:
            psycopg.Error: It, or an earlier one, has failed; later ones were not executed.
        """
        if outcome.is_ready:
            return
        self._read_until(lambda: outcome not in self._waiting or self._failed is not None)
        if not outcome.is_ready:
            self.sync()
            raise errors.OperationalError("the connection was lost before the answer came")

    def sync(self) -> None:
        """Wait until everything sent is executed and, outside a transaction, committed.

        Raises:
            psycopg.Error: A statement has failed; later ones were not executed.
        """
        self._read_until(lambda: not self._waiting)
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def _read_until(self, is_done: Callable[[], bool]) -> None:
        """Send everything that is buffered, and read answers until a condition holds."""
        try:
            # Not a flush, after which the server would wait for more for ever.
            self._server.pipeline_sync()
            self._waiting.append(None)
            self._send()
            while not is_done():
                self._read()
        except BaseException as exc:
            failed = self._failed
            self.close()
            if failed is not None and failed.diag.severity_nonlocalized == "FATAL":
                # Why the server has closed the connection; libpq only knows that it is closed.
                raise errors.OperationalError(str(failed)) from exc
            raise

    def _send(self) -> None:
        if not self._server.flush():
            return
        with _Selector() as selector:
            selector.register(self._server.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while self._server.flush():
                for _, events in selector.select():
                    if events & selectors.EVENT_READ:
                        self._server.consume_input()

    def _read(self) -> None:
        """Read the next answer."""
        expected, result = self._waiting[0], self._next()
        if expected is None:
            if result is not None and result.status != pq.ExecStatus.PIPELINE_SYNC:
                raise errors.OperationalError("the server has answered something else")
            self._waiting.popleft()
            return
        if result is None:
            raise errors.OperationalError("the server has not answered")
        if result.status in _DONE:
            expected.take(result)
        else:
            if result.status != pq.ExecStatus.PIPELINE_ABORTED and self._failed is None:
                self._failed = errors.error_from_result(result)
            if expected.prepares is not None:
                self._known.pop(expected.prepares, None)
        if self._next() is not None:
            raise errors.OperationalError("the server has answered twice")
        self._waiting.popleft()

    def _next(self) -> pq.abc.PGresult | None:
        server = self._server
        while server.is_busy():
            self._selector.select()
            server.consume_input()
        return server.get_result()

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back."""
        self._waiting.clear()
        self._failed = None
        self.connection.close()
