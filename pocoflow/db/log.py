"""The log of a run: one row per commit, appended by the process that has claimed the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from itertools import count
from typing import NamedTuple

from pocoflow.db.clock import micros
from pocoflow.db.port import PutsOne, Record, Transaction, put_one
from pocoflow.db.rows import dump_names, is_begin, is_taken, read_json, read_names
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.errors import DecodeError, RunLostError
from pocoflow.graph.routing import TakenEdge
from pocoflow.values.failures import describe_error

_APPEND_STEP, _APPEND = QUERIES["append_step"], QUERIES["append"]
_END_STEP = QUERIES["end_step"]


class Kind(IntEnum):
    """The kind of a row of ``pf_log``."""

    START = 0
    STEP = 1
    CAUGHT = 2
    RESULT = 3
    ITEM = 4
    MARK = 5
    PREPARED = 6
    RETRY = 7
    ASKED = 8
    LINE = 9
    PAUSED = 10
    RESUMED = 11
    FAILED = 12
    CANCELLED = 13
    EVENT = 14
    CHECKPOINT = 15
    FORKED = 16
    CALL = 18
    SPENT = 19
    EMITTED = 20
    VOID = 21


ENDS_STEP = (Kind.START, Kind.STEP, Kind.CAUGHT, Kind.FORKED)
"""The kinds of rows that name the next node of a line."""


class Described(NamedTuple):
    """The columns that describe an exception."""

    error_type: str | None = None
    error_msg: str | None = None
    traceback: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Described:
        """The columns for an exception."""
        return cls(*describe_error(error))


class Begin(NamedTuple):
    """The point at which a branch started.

    Attributes:
        parent: The line that it branched off.
        step: The number of the step in that line.
        number: The number of the branch in that step.
        names: The names of the enclosing flows and branches, then that of its first node.
    """

    parent: int
    step: int
    number: int
    names: tuple[str, ...]


def read_begin(row: Record) -> Begin:
    """The point at which the branch of a row started.

    Raises:
        DecodeError: The row is damaged.
    """
    parent, step, number = read_json(row["data"], is_begin, f"row {row['id']} of the log")
    begin = Begin(parent, step, number, names_at(row["node"], row["path"]))
    if begin.parent >= row["line"]:
        raise DecodeError(f"row {row['id']} of the log cannot be read: its line began before it")
    return begin


def data_of(row: Record) -> str:
    """The data of a row that must have some.

    Raises:
        DecodeError: It has none.
    """
    if not isinstance(row["data"], str):
        raise DecodeError(f"row {row['id']} of the log cannot be read: it has no data")
    return row["data"]


def split_names(names: Sequence[str]) -> tuple[str, str | None]:
    """The columns that name a node: a readable text, and its names if there are several."""
    return (names[0], None) if len(names) == 1 else ("/".join(names), dump_names(names))


def names_at(node: str | None, path: str | None) -> tuple[str, ...]:
    """The names of a node and of what encloses it, from the log; empty for an end.

    Raises:
        DecodeError: They are damaged.
    """
    if path is not None:
        return read_names(path, "the names of a node in the log")
    return (node,) if node else ()


def dump_taken(taken: Sequence[TakenEdge]) -> str | None:
    """How often edges with limits were taken, as the text in the log."""
    return json.dumps(taken) if taken else None


def read_taken(text: str | None) -> tuple[TakenEdge, ...]:
    """How often edges with limits were taken, from the log.

    Raises:
        DecodeError: The text is damaged.
    """
    if text is None:
        return ()
    edges = read_json(text, is_taken, "how often edges with limits were taken")
    return tuple((depth, source, action, count) for depth, source, action, count in edges)


NO_ERROR = Described()

_NO_NODE = (None, None)

# As plain integers, which SQLite binds without an adapter.
_STEP, _CAUGHT = int(Kind.STEP), int(Kind.CAUGHT)


class Row(NamedTuple):
    """A row to append; the columns are explained in ``schema.sql``."""

    kind: Kind
    step: int | None
    line: int = 0
    item: int | None = None
    at: int | None = None
    address: Sequence[str] = ()
    attempt: int | None = None
    elapsed: int | None = None
    successor: Sequence[str] = ()
    event: str | None = None
    note: str | None = None
    error: Described = NO_ERROR
    mark: str | None = None
    data: str | None = None


class RunLog:
    """The log of one run in this process, shared by the run and its branches.

    Attributes:
        database: The file, for messages.
        run_id: The run.
        clock: The time of the database in microseconds.
        run_no: Its number; 0 until it is known.
        claim: The owner of the run's lock.
        fence: The number of this process's claim, which a later claim invalidates.
        last: The last row that this process has written, or found.
        steps: The number of its committed steps.
        is_over: Whether the run has ended, or waits, for this process. A thread of it that still
            works, as after a Ctrl-C, must not write another step.
        keys: Assigns numbers to the keys of its stores.
        lines: Assigns numbers to its branches.
    """

    def __init__(self, database: str, run_id: str, clock: Callable[[], int] = micros) -> None:
        self.database = database
        self.run_id = run_id
        self.clock = clock
        self.run_no = 0
        self.claim = object()
        self.fence = 0
        self.last = 0
        self.steps = 0
        self.is_over = False
        self.keys: Iterator[int] = count()
        self.lines: Iterator[int] = count(1)

    def take(self, run_no: int, fence: int) -> None:
        """Set the number of the run, and the fence of this process's claim."""
        self.run_no, self.fence = run_no, fence
        self.first, self.end = row_ids(run_no)

    def find_last(self, raw: Transaction) -> None:
        """Read the last row, to append after it."""
        row = raw.execute(QUERIES["last_row"], (self.first, self.end)).fetchone()
        if row is not None:
            self.last, self.steps = row[0], row[1]

    def append_step(
        self,
        raw: Transaction,
        replaced: int,
        row: tuple[object, ...],
        error: Described | None,
        put: PutsOne,
    ) -> tuple[int, bool]:
        """Append the row of a finished step.

        Args:
            raw: The connection, in a transaction or not.
            replaced: The row of its result, which it replaces if that is the last row.
            row: ``line, steps, step, at, note, node, path, action, elapsed, attempt, next_node,
                next_path, mark, data``, with empty texts for missing values.
            error: The error that ended the step and was caught.
            put: Executes a statement that writes one row, or none; returns the row's number.

        Returns:
            The row's number, and whether the run was asked to stop.

        Raises:
            RunLostError: Another process has claimed the run, or its log was changed.
        """
        claim = (self.run_no, self.fence)
        if replaced and replaced == self.last and error is None:
            old_row = (replaced, replaced + 1, *claim)
            if put(raw, _END_STEP, (*row, *old_row), replaced) is not None:
                return replaced, False
        caught = (*NO_ERROR, _STEP) if error is None else (*error, _CAUGHT)
        head = (self.end, *row, *caught, *claim)
        # 0: only if the run was not asked to stop; 1: in any case, and the caller learns of it.
        number = put(raw, _APPEND_STEP, (*head, 0, self.last), self.last + 1)
        is_stopping = False
        if number is None:
            number = put_one(raw, _APPEND_STEP, (*head, 1, self.last), self.last + 1)
            if number is None:
                raise self.lost(raw)
            run = raw.execute(QUERIES["claim_of_run"], (self.run_no,)).fetchone()
            is_stopping = bool(run["cancel_requested"])
            if not run["owned"]:
                raw.execute(QUERIES["reopen_run"], (self.run_no,))
        return number, is_stopping

    def append(self, raw: Transaction, row: Row, put: PutsOne = put_one, ids: int = 1) -> int:
        """Append any other row, in the caller's transaction; returns its number.

        It uses a number of ids, and has the last of them.

        Raises:
            RunLostError: Another process has claimed the run, or its log was changed.
        """
        columns = (
            ids,
            self.end,
            row.kind,
            row.line,
            self.steps,
            row.step,
            row.item,
            self.clock() if row.at is None else row.at,
            *(split_names(row.address) if row.address else _NO_NODE),
            row.attempt,
            row.elapsed,
            *(split_names(row.successor) if row.successor else _NO_NODE),
            row.event,
            row.note,
            *row.error,
            row.mark,
            row.data,
            self.run_no,
            self.fence,
            self.last,
        )
        number = put(raw, _APPEND, columns, self.last + ids)
        if number is None:
            raise self.lost(raw)
        return number

    def lost(self, raw: Transaction) -> RunLostError:
        """The error that says why nothing was written."""
        row = raw.execute(QUERIES["claim_of_run"], (self.run_no,)).fetchone()
        if row is None or row["run_id"] != self.run_id:
            why = "it was removed from it"
        elif row["fence"] > self.fence:
            why = "another process goes on with it"
        else:
            why = (
                f"an older copy of the file was restored (row {self.last - self.first} of its log, "
                "which was committed, is not there)"
            )
        return RunLostError(
            f"run {self.run_id!r} of database {self.database} is not this process's any more: "
            f"{why}. It stops here, and writes nothing more"
        )


def append_foreign(
    raw: Transaction, run_no: int, kind: Kind, step: int | None, **facts: object
) -> None:
    """Append a row in the caller's transaction, without a claim on the run."""
    first, end = row_ids(run_no)
    columns = {
        "at": micros(),
        **_NO_COLUMNS,
        **facts,
        "first": first,
        "end": end,
        "kind": kind,
        "step": step,
    }
    raw.execute(QUERIES["append_foreign"], columns)


_NO_COLUMNS = dict.fromkeys(("node", "path", "action", "elapsed", "event", "message", "note"))
