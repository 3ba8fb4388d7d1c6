"""The log of a run: one row a commit, appended by the process that has the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from itertools import count
from typing import NamedTuple, TypedDict

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
    """What a row of ``pf_log`` says."""

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
"""The rows that say where a line goes on."""


class Described(NamedTuple):
    """An exception as the columns of a row."""

    error_type: str | None = None
    error_msg: str | None = None
    traceback: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Described:
        """Those of an exception."""
        return cls(*describe_error(error))


class Begin(NamedTuple):
    """Where a branch began.

    Attributes:
        parent: The line that it branched off.
        step: The number of the step there.
        number: Which branch of that step it is.
        names: Its first node, after the names of the flows and branches around it.
    """

    parent: int
    step: int
    number: int
    names: tuple[str, ...]


def read_begin(row: Record) -> Begin:
    """Where the branch of a row began.

    Raises:
        DecodeError: The row does not say.
    """
    parent, step, number = read_json(row["data"], is_begin, f"row {row['id']} of the log")
    begin = Begin(parent, step, number, names_at(row["node"], row["path"]))
    if begin.parent >= row["line"]:
        raise DecodeError(f"row {row['id']} of the log cannot be read: its line began before it")
    return begin


def data_of(row: Record) -> str:
    """The data of a row that has some.

    Raises:
        DecodeError: It has none.
    """
    if not isinstance(row["data"], str):
        raise DecodeError(f"row {row['id']} of the log cannot be read: it has no data")
    return row["data"]


def split_names(names: Sequence[str]) -> tuple[str, str | None]:
    """A node as the log has it: what people read, and all its names if there are several."""
    return (names[0], None) if len(names) == 1 else ("/".join(names), dump_names(names))


def names_at(node: str | None, path: str | None) -> tuple[str, ...]:
    """The names of a node and of what is around it, from the log; empty for an end.

    Raises:
        DecodeError: They are none.
    """
    if path is not None:
        return read_names(path, "the names of a node in the log")
    return (node,) if node else ()


def dump_taken(taken: Sequence[TakenEdge]) -> str | None:
    """How often edges with limits were taken, as the log has it."""
    return json.dumps(taken) if taken else None


def read_taken(text: str | None) -> tuple[TakenEdge, ...]:
    """How often edges with limits were taken, from the log.

    Raises:
        DecodeError: The text does not say.
    """
    if text is None:
        return ()
    found = read_json(text, is_taken, "how often edges with limits were taken")
    return tuple((depth, source, action, count) for depth, source, action, count in found)


NO_ERROR = Described()

_NOWHERE = (None, None)

# As SQLite takes them at once.
_STEP, _CAUGHT = int(Kind.STEP), int(Kind.CAUGHT)


class Row(NamedTuple):
    """A row that is to be appended; the columns are explained in ``schema.sql``."""

    kind: Kind
    line: int
    step: int | None
    item: int | None = None
    at: int | None = None
    address: Sequence[str] = ()
    attempt: int | None = None
    elapsed: int | None = None
    successor: Sequence[str] = ()
    note: str | None = None
    error: Described = NO_ERROR
    mark: str | None = None
    data: str | None = None


class Facts(TypedDict, total=False):
    """The columns of a row that not every one has."""

    item: int | None
    mark: str | None
    at: int
    address: Sequence[str]
    attempt: int
    elapsed: int
    note: str
    error: Described
    data: str


class RunLog:
    """The log of one run in this process, shared by the run and its branches.

    Attributes:
        database: The file, for messages.
        run_id: The run.
        clock: The time of the database in microseconds.
        run_no: Its number; 0 as long as it is not known.
        claim: The owner of the run's lock.
        fence: The number of this process's claim, which a later one makes invalid.
        last: The last row that this process has written, or found.
        steps: How many of its steps are committed.
        is_over: The run has ended, or waits, for this process. A thread of it that still works, as
            after a Ctrl-C, must not write a step any more.
        keys: Numbers the keys of its stores.
        lines: Numbers its branches.
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
        """Know which run it is, and under which fence this process has it."""
        self.run_no, self.fence = run_no, fence
        self.first, self.end = row_ids(run_no)

    def look(self, raw: Transaction) -> None:
        """Go on behind the last row that is there."""
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
            replaced: The row of its result, whose place it takes if nothing came after that.
            row: ``line, steps, step, at, note, node, path, action, elapsed, attempt, next_node,
                next_path, mark, data``, with empty texts for what is not there.
            error: The error that ended the step and was caught.
            put: Executes what writes one row, or none, and gives its number.

        Returns:
            The row's number, and whether somebody asked the run to stop.

        Raises:
            RunLostError: Somebody else has the run now, or it is not there as it was left.
        """
        claim = (self.run_no, self.fence)
        if replaced and replaced == self.last and error is None:
            old_row = (replaced, replaced + 1, *claim)
            if put(raw, _END_STEP, (*row, *old_row), replaced) is not None:
                return replaced, False
        caught = (*NO_ERROR, _STEP) if error is None else (*error, _CAUGHT)
        given = (self.end, *row, *caught, *claim)
        # 0: only if nobody has asked the run to stop; 1: all the same, and the caller is told.
        number = put(raw, _APPEND_STEP, (*given, 0, self.last), self.last + 1)
        asked = False
        if number is None:
            number = put_one(raw, _APPEND_STEP, (*given, 1, self.last), self.last + 1)
            if number is None:
                raise self.lost(raw)
            run = raw.execute(QUERIES["claim_of_run"], (self.run_no,)).fetchone()
            asked = bool(run["cancel_requested"])
            if not run["owned"]:
                raw.execute(QUERIES["works_on"], (self.run_no,))
        return number, asked

    def append(self, raw: Transaction, row: Row, put: PutsOne = put_one) -> int:
        """Append any other row, in the caller's transaction; its number.

        Raises:
            RunLostError: Somebody else has the run now, or it is not there as it was left.
        """
        given = (
            self.end,
            row.kind,
            row.line,
            self.steps,
            row.step,
            row.item,
            self.clock() if row.at is None else row.at,
            *(split_names(row.address) if row.address else _NOWHERE),
            row.attempt,
            row.elapsed,
            *(split_names(row.successor) if row.successor else _NOWHERE),
            row.note,
            *row.error,
            row.mark,
            row.data,
            self.run_no,
            self.fence,
            self.last,
        )
        number = put(raw, _APPEND, given, self.last + 1)
        if number is None:
            raise self.lost(raw)
        return number

    def lost(self, raw: Transaction) -> RunLostError:
        """Why nothing was written."""
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
    """Append a row in the caller's transaction, for somebody who may not have the run."""
    first, end = row_ids(run_no)
    given = {
        "at": micros(),
        **_NOTHING,
        **facts,
        "first": first,
        "end": end,
        "kind": kind,
        "step": step,
    }
    raw.execute(QUERIES["append_foreign"], given)


_NOTHING = dict.fromkeys(("node", "path", "action", "elapsed", "event", "message", "note"))
