"""Following the committed events of a run, in order, whatever process runs it."""

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
"""The seconds between two polls for commits: of a lively run, and of any other."""

_LIVELY = 1.0
"""The number of seconds for which a run counts as lively after a commit."""

_AT_ONCE = 500
"""The maximum number of rows that are read at once."""

_ENDS = (FlowEnded, FlowFailed, FlowCancelled)


class CommitWatch:
    """A cheap check whether something may have been committed since the last check."""

    def __init__(self, file: RunsFile, run_no: int) -> None:
        self._connection, self._run_no = file.connection, run_no
        self._seen: Hashable = None

    def changed(self) -> bool:
        """Whether something may have been committed; never blocks."""
        before, self._seen = self._seen, self._connection.version(self._run_no)
        return self._seen is None or self._seen != before


class Following(RunsFile):
    """The part of ``WorkflowDB`` that follows runs."""

    def follow(
        self, run_id: str, after: int = -1, until: Until = "end"
    ) -> Generator[Followed, None, None]:
        """The events of a run as they are committed, whatever process runs it; past events first.

        It ends with the event that ends the run, and waits while the run is queued, running or
        interrupted; to follow a later resume, call it again with the last number. Closing it does
        not affect the run.

        Args:
            run_id: The run.
            after: The number of the last event that the caller has seen.
            until: ``"pause"`` ends it also when the run waits for answers.

        Raises:
            RunNotFoundError: There is no such run, or it was removed meanwhile.
            DefinitionError: An argument makes no sense.
        """
        return _follow(_Follower(self, run_id, after, until))

    def follow_async(
        self, run_id: str, after: int = -1, until: Until = "end"
    ) -> AsyncGenerator[Followed, None]:
        """Like :meth:`follow`, on the caller's event loop, which is not blocked."""
        return _follow_async(_Follower(self, run_id, after, until))


def _follow(follower: _Follower) -> Generator[Followed, None, None]:
    while True:
        if follower.watch.changed():
            yield from follower.poll()
            if follower.is_over:
                return
        time.sleep(follower.pause())


async def _follow_async(follower: _Follower) -> AsyncGenerator[Followed, None]:
    import asyncio

    while True:
        if follower.watch.changed():
            for event in await asyncio.to_thread(lambda: list(follower.poll())):
                yield event
            if follower.is_over:
                return
        await asyncio.sleep(follower.pause())


class _Follower:
    """The position of a follower of a run.

    Attributes:
        watch: Says when there may be new events.
        is_over: Whether no events will follow.
    """

    def __init__(self, file: RunsFile, run_id: str, after: int, until: Until) -> None:
        number: object = after
        if type(number) is not int or number < -1:
            raise DefinitionError(f"follow(after={after!r}): the number of an event, or -1")
        if until not in ("end", "pause"):
            raise DefinitionError(f"follow(until={until!r}): 'end' or 'pause'")
        self._file, self._run_id = file, run_id
        self._run_no = file.number(run_id)
        self._flow = file.flow_of(run_id)
        self._after, self._until = after, until
        self.watch = CommitWatch(file, self._run_no)
        self.is_over = False
        self._changed_at = time.monotonic()

    def pause(self) -> float:
        """The seconds until the next poll."""
        return _SOON if time.monotonic() - self._changed_at < _LIVELY else _LATER

    def poll(self) -> Iterator[Followed]:
        """The events committed since the last poll."""
        while not self.is_over:
            # Read before the rows: if the run has ended by now, its last row is among them.
            has_ended = self._has_ended()
            first, end = row_ids(self._run_no)
            begin = first + max(self._after, 0) // 2
            rows = self._file.connection.rows(QUERIES["rows_from"], (begin, end, _AT_ONCE))
            for row in rows:
                for number, event in self._events(row, row["id"] - first):
                    if number <= self._after:
                        continue
                    self._after, self._changed_at = number, time.monotonic()
                    self.is_over = self._ends(event)
                    yield Followed(number, row["ts"], event)
                    if self.is_over:
                        return
            if len(rows) < _AT_ONCE:
                self.is_over = has_ended
                return

    def _has_ended(self) -> bool:
        """Whether no events will follow the recorded ones."""
        row = self._file.connection.row(QUERIES["run_status"], (self._run_no,))
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
        for second, event in enumerate(self._plain_events(row)):
            if event is not None:
                yield 2 * sequence + second, event

    def _plain_events(self, row: Record) -> tuple[Event | None, ...]:
        """The events of a row of any other kind: two at most."""
        run_id, flow, step = self._run_id, self._flow, row["step"]
        match row["kind"]:
            case Kind.START:
                return FlowStarted(run_id, flow, 0), self._next_node(row, 0)
            case Kind.RESUMED:
                return FlowStarted(run_id, flow, step), self._next_node(row, step)
            case Kind.STEP | Kind.CAUGHT:
                return self._step_ended(row)
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
                questions = read_json(row["data"] or "[]", is_anything, "the questions of a pause")
                return (FlowPaused(run_id, flow, row["steps"], tuple(questions)),)
            case Kind.FAILED:
                return self._failed(row)
            case Kind.CANCELLED:
                return (FlowCancelled(run_id, flow, row["steps"]),)
            case Kind.VOID:
                ranges = read_json(row["data"], _is_ranges, "the numbers of emitted values")
                numbers = (number for a, b in ranges for number in range(a, b + 1, 2))
                return (EmittedVoid(run_id, tuple(numbers)),)
            case _:
                return ()

    def _step_ended(self, row: Record) -> tuple[Event | None, ...]:
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
        return event, self._next_node(row, step + 1)

    def _asked(self, row: Record) -> tuple[Event | None, ...]:
        node, path = _address(row)
        for asked in questions_of(self._file.connection, self._run_no):
            if str(asked.question) == row["data"]:
                question: Question[object] = Question(asked.text, asked.context)
                facts = (asked.question, question, asked.item, path)
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
        """The values that a node has emitted; the last has the number of the row."""
        node, path = _address(row)
        trees = read_json(row["data"], lambda value: isinstance(value, list), "emitted values")
        first = last - 2 * (len(trees) - 1)
        for index, tree in enumerate(trees):
            facts = (self._run_id, node, row["step"], decode(tree), row["item"], path)
            yield first + 2 * index, Emitted(*facts)

    def _next_node(self, row: Record, step: int) -> Event | None:
        names = names_at(row["next_node"], row["next_path"])
        return NodeStarted(self._run_id, names[-1], step, names[:-1]) if names else None

    def _error(self, row: Record) -> RunFailedError:
        facts = (row["error_msg"], self._run_id, row["error_type"], row["traceback"])
        return RunFailedError(*(text or "" for text in facts))


def _address(row: Record) -> tuple[str, tuple[str, ...]]:
    names = names_at(row["node"], row["path"]) or ("",)
    return names[-1], names[:-1]


def _is_ranges(value: object) -> bool:
    """Whether it is a list of the first and last numbers of rows of values."""
    return isinstance(value, list) and all(
        isinstance(pair, list)
        and [type(number) for number in pair] == [int, int]
        and 0 <= pair[1] - pair[0] < 2 * MOST_VALUES
        for pair in value
    )
