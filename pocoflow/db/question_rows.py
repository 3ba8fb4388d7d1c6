"""Questions that runs have asked: what is open, and taking an answer, once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pocoflow.address import Address
from pocoflow.db.clock import utc_now
from pocoflow.db.connection import Connection
from pocoflow.db.log import Kind, append_foreign, placed
from pocoflow.db.rows import is_anything, is_object, read_json, read_names
from pocoflow.db.sql import QUERIES
from pocoflow.db.values import key_of
from pocoflow.errors import AnsweredError, AnswerError
from pocoflow.values.failures import escaped

__all__ = [
    "Asked",
    "NewQuestion",
    "Pause",
    "choose",
    "describe_open",
    "keep_answer",
    "open_questions",
    "questions_of",
    "refuse_closed",
    "refuse_late",
]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on record.

    Attributes:
        question: Its number, unique in the database.
        run_id: The run that asked it.
        flow_name: The run's flow.
        path: The names of the flows and branches around the node that asked it, and its own.
        step: The number of its step; in a parallel branch its number there.
        scope: The parallel branch, such as ``"12.0"``; empty outside of branches.
        item: The index of the item that it is about, or ``None``.
        text: What is asked.
        context: What a person has to know to answer it, as JSON values.
        schema: The JSON schema of the answer.
        asked_at: When, as ISO-8601 text in UTC.
        deadline: Until when it can be answered, likewise, or ``None``.
        default: JSON text of the answer that counts then, or ``None``.
        answer: JSON text of the answer, or ``None`` as long as there is none.
        answered_by: Who gave it, as far as that was said.
        answered_at: When.
        is_closed: Whether its step is finished, so that an answer would come too late.
    """

    question: int
    run_id: str
    flow_name: str
    path: tuple[str, ...]
    step: int
    scope: str
    item: int | None
    text: str
    context: Mapping[str, Any]
    schema: Mapping[str, Any]
    asked_at: str
    deadline: str | None
    default: str | None
    answer: str | None
    answered_by: str | None
    answered_at: str | None
    is_closed: bool

    @classmethod
    def of(cls, row: sqlite3.Row) -> Asked:
        """The question of a row of ``questions_of_run`` or ``open_questions``."""
        about = f"question {row['question']} of run {row['run_id']!r}: "
        for part in ("default_answer", "answer"):
            if row[part] is not None:
                read_json(row[part], is_anything, about + part)
        return cls(
            row["question"],
            row["run_id"],
            row["flow_name"],
            read_names(row["path"], f"{about}its path"),
            row["step"],
            row["scope"],
            None if row["item"] < 0 else row["item"],
            str(key_of(row["text"])),
            read_json(row["context"], is_object, f"{about}its context"),
            read_json(row["answer_schema"], is_object, f"{about}its answer_schema"),
            row["asked_at"],
            row["deadline"],
            row["default_answer"],
            row["answer"],
            row["answered_by"],
            row["answered_at"],
            bool(row["closed"]),
        )

    @property
    def node(self) -> str:
        """The node that asked it, with the flows and branches around it."""
        return Address(self.path[:-1], self.path[-1]).text

    @property
    def is_open(self) -> bool:
        """Whether it waits for an answer."""
        return self.answer is None and not self.is_closed

    def is_late(self, now: str) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and now >= self.deadline

    def as_json(self) -> dict[str, Any]:
        """Everything about it as a JSON object; default and answer as values, not as text."""
        return {
            "question": self.question,
            "run_id": self.run_id,
            "flow": self.flow_name,
            "node": self.node,
            "step": self.step,
            "item": self.item,
            "text": self.text,
            "context": dict(self.context),
            "schema": dict(self.schema),
            "asked_at": self.asked_at,
            "deadline": self.deadline,
            "default": None if self.default is None else json.loads(self.default),
            "has_default": self.default is not None,
            "answer": None if self.answer is None else json.loads(self.answer),
            "answered_by": self.answered_by,
            "answered_at": self.answered_at,
            "is_open": self.is_open,
        }

    @property
    def about(self) -> str:
        """The question in one line."""
        item = "" if self.item is None else f", item {self.item}"
        return f"{self.question} ({self.node}{item}: {self.text!r:.80})"


@dataclass(frozen=True, slots=True)
class NewQuestion:
    """A question that is to be put on record.

    Attributes:
        text: What is asked.
        context: What a person has to know, as JSON text.
        schema: The JSON schema of the answer, as JSON text.
        deadline: Seconds until it cannot be answered any more, or ``None``.
        default: JSON text of the answer that counts then, or ``None``.
    """

    text: str
    context: str
    schema: str
    deadline: float | None
    default: str | None


@dataclass(frozen=True, slots=True)
class Pause:
    """What a node had done before the first row of its unfinished step.

    Attributes:
        prepared: What ``prep`` returned, encoded.
        changes: What it had changed in the store by then: key, operation, text.
    """

    prepared: str
    changes: Sequence[tuple[str, int, str | None]] = ()


def questions_of(connection: Connection, run_no: int) -> list[Asked]:
    """Every question of a run, in the order in which they were asked."""
    return [Asked.of(row) for row in connection.rows(QUERIES["questions_of_run"], (run_no,))]


def open_questions(connection: Connection) -> list[Asked]:
    """Every question that waits for an answer, the oldest first."""
    return [Asked.of(row) for row in connection.rows(QUERIES["open_questions"])]


def keep_answer(
    connection: Connection,
    one: Asked,
    run_no: int,
    text: str,
    by: str | None,
    instead_of: str | None = None,
    query: str = "answer_question",
) -> None:
    """Put the answer to a question on record; the first counts, unless the node cannot take it.

    Raises:
        AnswerError: It came too late: after another one, or its deadline, or the end of the run.
        DatabaseError: The database cannot be written.
    """
    now = utc_now()
    with connection.transaction() as raw:
        row = (text, by, now, one.question, instead_of)
        taken = raw.execute(QUERIES[query], row).fetchone()
        if taken is not None:
            told = escaped(f"{text}, by {by}" if by else text)
            node, path = placed(one.path)
            facts = {"node": node, "path": path, "message": told}
            append_foreign(raw, run_no, Kind.EVENT, one.step, event="answer", **facts)
            return
    for known in questions_of(connection, run_no):
        if known.question == one.question:
            refuse_closed(known)
    raise AnswerError(f"question {one.about}: run {one.run_id!r} has ended")


def refuse_late(one: Asked) -> None:
    """Refuse an answer after the deadline.

    Raises:
        AnswerError: The deadline has passed.
    """
    if one.is_late(utc_now()):
        rest = f"the default counts: {one.default}" if one.default else "it has no default"
        raise AnswerError(
            f"question {one.about} of run {one.run_id!r} could be answered until {one.deadline}; "
            f"{rest}"
        )


def choose(
    asked: Sequence[Asked], run_id: str, question: int | None, node: str | None = None
) -> Asked:
    """The question that an answer is for.

    Args:
        asked: Every question of the run, or of one node of it.
        run_id: The run.
        question: Its number, or ``None`` if it is the only open one.
        node: The node that the answer is for, for messages.

    Raises:
        AnswerError: There is none, or there are several.
    """
    whose = f"run {run_id!r}" if node is None else f"node {node!r} of run {run_id!r}"
    if question is not None:
        for one in asked:
            if one.question == question:
                return one
        numbers = ", ".join(str(one.question) for one in asked) or "none"
        raise AnswerError(f"{whose} has not asked question {question} (its questions: {numbers})")
    waiting = [one for one in asked if one.is_open]
    if len(waiting) == 1:
        return waiting[0]
    if waiting:
        raise AnswerError(
            f"{whose} has {len(waiting)} open questions, say which one with question=: "
            f"{describe_open(waiting)}"
        )
    last = max(asked, key=lambda one: one.answered_at or "", default=None)
    if last is not None:
        refuse_closed(last)
    raise AnswerError(f"{whose} has no open question")


def describe_open(asked: Sequence[Asked]) -> str:
    """Questions in one line, a few of them."""
    shown = ", ".join(one.about for one in asked[:5])
    return f"{shown}, ..." if len(asked) > 5 else shown


def refuse_closed(one: Asked) -> None:
    """Refuse an answer for a question that waits for none.

    Raises:
        AnsweredError: It was answered.
        AnswerError: Its step is finished.
    """
    if one.answer is not None:
        who = f" by {one.answered_by}" if one.answered_by else ""
        raise AnsweredError(
            f"question {one.about} of run {one.run_id!r} was answered{who} at {one.answered_at}: "
            f"{one.answer:.200}"
        )
    if one.is_closed:
        raise AnswerError(
            f"question {one.about} of run {one.run_id!r} is closed: the run has gone on without "
            "an answer"
        )
