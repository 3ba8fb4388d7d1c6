"""The committed events of a run, in order, in whatever process it is at work."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator, Hashable, Iterator
from typing import Literal, TypeAlias

from pocoflow.db.emitting import MOST_VALUES
from pocoflow.db.file import RunsFile
from pocoflow.db.log import Kind, names_at
from pocoflow.db.port import Record
from pocoflow.db.question_rows import questions_of
from pocoflow.db.rows import is_anything, read_json
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.db.values import key_of
from pocoflow.errors import DefinitionError, RunFailedError, RunNotFoundError
from pocoflow.graph.event_types import (
    Emitted,
    EmittedVoid,
    Event,
    FlowCancelled,
    FlowEnded,
    FlowFailed,
    FlowPaused,
    FlowStarted,
    Followed,
    NodeAsked,
    NodeEnded,
    NodeFailed,
    NodeRetried,
    NodeStarted,
)
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.question import Question
from pocoflow.values import decode

Until: TypeAlias = Literal["end", "pause"]

_SOON, _LATER = 0.01, 0.025
"""Seconds between two looks at whether something was committed: while it is, and else."""

_LIVELY = 1.0
"""So many seconds after something was committed, more of it is expected."""

_AT_ONCE = 500
"""At most so many rows are read at once."""

_ENDS = (FlowEnded, FlowFailed, FlowCancelled)


class Glances:
    """Tells cheaply whether something may have been committed since it was last asked."""

    def __init__(self, file: RunsFile, run_no: int) -> None:
        self._connection, self._run_no = file.connection, run_no
        self._seen: Hashable = None

    def changed(self) -> bool:
        """Whether it may; waits for nobody."""
        seen, self._seen = self._seen, self._connection.version(self._run_no)
        return self._seen is None or self._seen != seen


class Following(RunsFile):
    """Runs as their events show them."""

    def follow(
        self, run_id: str, after: int = -1, until: Until = "end"
    ) -> Generator[Followed, None, None]:
        """The events of a run as they are committed, in whatever process it is; those so far first.

        It ends with the event that ends the run, and waits while the run is queued, running or
        interrupted; a later resume is followed by another call, from the last number on. Closing it
        changes nothing of the run.

        Args:
            run_id: The run.
            after: The number of the last event that is known already.
            until: ``"pause"`` ends it when the run waits for answers, too.

        Raises:
            RunNotFoundError: There is no such run, or it was removed meanwhile.
            DefinitionError: An argument makes no sense.
        """
        return _follow(_Follower(self, run_id, after, until))

    def follow_async(
        self, run_id: str, after: int = -1, until: Until = "end"
    ) -> AsyncGenerator[Followed, None]:
        """Like :meth:`follow`, on the caller's event loop, which stays free."""
        return _follow_async(_Follower(self, run_id, after, until))


def _follow(follower: _Follower) -> Generator[Followed, None, None]:
    while True:
        if follower.glances.changed():
            yield from follower.look()
            if follower.is_over:
                return
        time.sleep(follower.pause())


async def _follow_async(follower: _Follower) -> AsyncGenerator[Followed, None]:
    import asyncio

    while True:
        if follower.glances.changed():
            for one in await asyncio.to_thread(lambda: list(follower.look())):
                yield one
            if follower.is_over:
                return
        await asyncio.sleep(follower.pause())


class _Follower:
    """Where somebody is who follows a run.

    Attributes:
        glances: Whether there may be something to see.
        is_over: Whether nothing follows.
    """

    def __init__(self, file: RunsFile, run_id: str, after: int, until: Until) -> None:
        given: object = after
        if type(given) is not int or given < -1:
            raise DefinitionError(f"follow(after={after!r}): the number of an event, or -1")
        if until not in ("end", "pause"):
            raise DefinitionError(f"follow(until={until!r}): 'end' or 'pause'")
        self._file, self._run_id = file, run_id
        self._run_no = file.number(run_id)
        self._flow = file.flow_of(run_id)
        self._after, self._until = after, until
        self.glances = Glances(file, self._run_no)
        self.is_over = False
        self._moved = time.monotonic()

    def pause(self) -> float:
        """Seconds until the next look."""
        return _SOON if time.monotonic() - self._moved < _LIVELY else _LATER

    def look(self) -> Iterator[Followed]:
        """What has been committed since the last look."""
        while not self.is_over:
            # Before the rows: an end that is seen has its row below.
            stands = self._stands()
            first, end = row_ids(self._run_no)
            begin = first + max(self._after, 0) // 2
            rows = self._file.connection.rows(QUERIES["rows_from"], (begin, end, _AT_ONCE))
            for row in rows:
                for number, event in self._events(row, row["id"] - first):
                    if number <= self._after:
                        continue
                    self._after, self._moved = number, time.monotonic()
                    self.is_over = self._ends(event)
                    yield Followed(number, row["ts"], event)
                    if self.is_over:
                        return
            if len(rows) < _AT_ONCE:
                self.is_over = stands
                return

    def _stands(self) -> bool:
        """Whether nothing follows what is on record."""
        row = self._file.connection.row(QUERIES["run_standing"], (self._run_no,))
        if row is None:
            raise RunNotFoundError(f"run {self._run_id!r} is not in {self._file.path} any more")
        if row["status"] == "paused":
            return self._until == "pause"
        interrupted = row["status"] == "failed" and row["error_type"] == "Interrupted"
        return row["status"] not in ("queued", "running") and not interrupted

    def _ends(self, event: Event) -> bool:
        return isinstance(event, _ENDS) or (
            self._until == "pause" and isinstance(event, FlowPaused)
        )

    def _events(self, row: Record, sequence: int) -> Iterator[tuple[int, Event]]:
        """The events of a row of the log, with their numbers."""
        if row["kind"] == Kind.EMITTED:
            yield from self._emitted(row, 2 * sequence)
            return
        for second, event in enumerate(self._made(row)):
            if event is not None:
                yield 2 * sequence + second, event

    def _made(self, row: Record) -> tuple[Event | None, ...]:
        """What a row of any other kind tells: two events at most."""
        run_id, flow, step = self._run_id, self._flow, row["step"]
        match row["kind"]:
            case Kind.START:
                return FlowStarted(run_id, flow, 0), self._following(row, 0)
            case Kind.RESUMED:
                return FlowStarted(run_id, flow, step), self._following(row, step)
            case Kind.STEP | Kind.CAUGHT:
                return self._ended(row)
            case Kind.RETRY:
                node, path = _address(row)
                facts = (row["attempt"] or 1, None, self._error(row), path, row["item"])
                return (NodeRetried(run_id, node, step, *facts),)
            case Kind.ASKED:
                return self._asked(row)
            case Kind.LINE:
                node, path = _address(row)
                return (NodeStarted(run_id, node, step, path),)
            case Kind.PAUSED:
                asked = read_json(row["data"] or "[]", is_anything, "the questions of a pause")
                return (FlowPaused(run_id, flow, row["steps"], tuple(asked)),)
            case Kind.FAILED:
                return self._failed(row)
            case Kind.CANCELLED:
                return (FlowCancelled(run_id, flow, row["steps"]),)
            case Kind.VOID:
                ranges = read_json(row["data"], _is_ranges, "the numbers of emitted values")
                numbers = (one for first, last in ranges for one in range(first, last + 1, 2))
                return (EmittedVoid(run_id, tuple(numbers)),)
            case _:
                return ()

    def _ended(self, row: Record) -> tuple[Event | None, ...]:
        node, path = _address(row)
        step, tried, took = row["step"], row["attempt"] or 1, (row["elapsed"] or 0) / 1e6
        event: Event
        if row["kind"] == Kind.CAUGHT:
            facts = (self._run_id, node, step, None, tried, took, self._error(row), path)
            event = NodeFailed(*facts, is_caught=True)
        else:
            action = row["action"] if row["data"] is None else str(key_of(row["data"]))
            event = NodeEnded(self._run_id, node, step, action or DEFAULT_ACTION, took, tried, path)
        if row["next_node"] == "" and row["line"] == 0:
            return event, FlowEnded(self._run_id, self._flow, step + 1)
        return event, self._following(row, step + 1)

    def _asked(self, row: Record) -> tuple[Event | None, ...]:
        node, path = _address(row)
        for one in questions_of(self._file.connection, self._run_no):
            if str(one.question) == row["data"]:
                question: Question[object] = Question(one.text, one.context)
                facts = (one.question, question, one.item, path)
                return (NodeAsked(self._run_id, node, row["step"], *facts),)
        return ()

    def _failed(self, row: Record) -> tuple[Event | None, ...]:
        error, first = self._error(row), None
        if row["node"] is not None:
            node, path = _address(row)
            took = (row["elapsed"] or 0) / 1e6
            facts = (row["step"], None, row["attempt"] or 1, took, error, path)
            first = NodeFailed(self._run_id, node, *facts)
        end = FlowFailed(self._run_id, self._flow, row["steps"], error)
        return (end,) if first is None else (first, end)

    def _emitted(self, row: Record, last: int) -> Iterator[tuple[int, Event]]:
        """Values that a node has emitted; the numbers before its own are theirs, too."""
        node, path = _address(row)
        trees = read_json(row["data"], lambda given: isinstance(given, list), "emitted values")
        first = last - 2 * (len(trees) - 1)
        for index, tree in enumerate(trees):
            facts = (self._run_id, node, row["step"], decode(tree), row["item"], path)
            yield first + 2 * index, Emitted(*facts)

    def _following(self, row: Record, step: int) -> Event | None:
        names = names_at(row["next_node"], row["next_path"])
        return NodeStarted(self._run_id, names[-1], step, names[:-1]) if names else None

    def _error(self, row: Record) -> RunFailedError:
        facts = (row["error_msg"], self._run_id, row["error_type"], row["traceback"])
        return RunFailedError(*(one or "" for one in facts))


def _address(row: Record) -> tuple[str, tuple[str, ...]]:
    names = names_at(row["node"], row["path"]) or ("",)
    return names[-1], names[:-1]


def _is_ranges(value: object) -> bool:
    """A list of the first and the last number of rows of values."""
    return isinstance(value, list) and all(
        isinstance(one, list)
        and [type(number) for number in one] == [int, int]
        and 0 <= one[1] - one[0] < 2 * MOST_VALUES
        for one in value
    )
