"""The questions that runs have asked, and their answers, which are recorded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pocoflow.db.connection import Connection
from pocoflow.db.file import RunsFile
from pocoflow.db.log import Begin, Kind, append_foreign, read_begin, split_names
from pocoflow.db.port import Record
from pocoflow.db.rows import is_anything, is_object, read_json, read_names
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.db.values import key_of
from pocoflow.errors import AnsweredError, AnswerError
from pocoflow.nodes.question import Asked, describe_open
from pocoflow.values.encoding import is_utf8
from pocoflow.values.failures import escaped
from pocoflow.values.json_text import write_json


def _read(row: Record, lines: Mapping[int, Begin]) -> Asked:
    """The question of a row of ``questions_of_run`` or ``open_questions``."""
    about = f"question {row['question']} of run {row['run_id']!r}: "
    for part in ("default_answer", "answer"):
        if row[part] is not None:
            read_json(row[part], is_anything, about + part)
    branches: tuple[tuple[str, ...], ...] = ()
    line = row["line"]
    while line in lines:
        line, _, _, names = lines[line]
        branches = (names, *branches)
    return Asked(
        row["question"],
        row["run_id"],
        row["flow_name"],
        read_names(row["path"], f"{about}its path"),
        row["step"],
        row["line"],
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
        branches,
    )


def questions_of(connection: Connection, run_no: int) -> list[Asked]:
    """Every question of a run, in the order in which they were asked."""
    rows = connection.rows(QUERIES["questions_of_run"], (run_no,))
    lines: dict[int, Begin] = {}
    if any(row["line"] for row in rows):
        starts = connection.rows(QUERIES["lines_of_run"], row_ids(run_no))
        lines = {row["line"]: read_begin(row) for row in starts}
    return [_read(row, lines) for row in rows]


class Answer(NamedTuple):
    """An answer, its author, and the answer that it replaces."""

    text: str
    by: str | None
    instead_of: str | None = None


def record_answer(
    connection: Connection,
    asked: Asked,
    run_no: int,
    answer: Answer,
    query: str = "answer_question",
) -> None:
    """Record the answer to a question; the first counts, unless the node cannot accept it.

    Raises:
        AnswerError: It is too late: after another answer, the deadline, or the end of the run.
        DatabaseError: The database cannot be written.
    """
    now = connection.now()
    with connection.transaction(of=run_no) as raw:
        row = (answer.text, answer.by, now, asked.question, answer.instead_of)
        if raw.execute(QUERIES[query], row).fetchone() is not None:
            note = escaped(f"{answer.text}, by {answer.by}" if answer.by else answer.text)
            node, path = split_names(asked.path)
            facts = {"node": node, "path": path, "note": note, "at": connection.micros()}
            append_foreign(raw, run_no, Kind.EVENT, asked.step, event="answer", **facts)
            raw.execute(QUERIES["answered_run"], (now, run_no))
            return
    for current in questions_of(connection, run_no):
        if current.question == asked.question:
            refuse_closed(current)
    raise AnswerError(f"question {asked.about}: run {asked.run_id!r} has ended")


def refuse_expired(asked: Asked, now: str) -> None:
    """Refuse an answer after the deadline.

    Raises:
        AnswerError: The deadline has passed.
    """
    if asked.is_expired(now):
        rest = f"the default counts: {asked.default}" if asked.default else "it has no default"
        raise AnswerError(
            f"question {asked.about} of run {asked.run_id!r} could be answered until "
            f"{asked.deadline}; {rest}"
        )


def choose(
    asked: Sequence[Asked], run_id: str, question: int | None, node: str | None = None
) -> Asked:
    """The question that an answer is meant for.

    Args:
        asked: Every question of the run, or of one node of it.
        run_id: The run.
        question: Its number, or ``None`` if it is the only open one.
        node: The node that is meant, for messages.

    Raises:
        AnswerError: There is no such question, or there are several.
    """
    whose = f"run {run_id!r}" if node is None else f"node {node!r} of run {run_id!r}"
    if question is not None:
        for candidate in asked:
            if candidate.question == question:
                return candidate
        numbers = ", ".join(str(candidate.question) for candidate in asked) or "none"
        raise AnswerError(f"{whose} has not asked question {question} (its questions: {numbers})")
    waiting = [candidate for candidate in asked if candidate.is_open]
    if len(waiting) == 1:
        return waiting[0]
    if waiting:
        raise AnswerError(
            f"{whose} has {len(waiting)} open questions, say which one with question=: "
            f"{describe_open(waiting)}"
        )
    last = max(asked, key=lambda candidate: candidate.answered_at or "", default=None)
    if last is not None:
        refuse_closed(last)
    raise AnswerError(f"{whose} has no open question")


def refuse_closed(asked: Asked) -> None:
    """Refuse an answer to a question that is not open.

    Raises:
        AnsweredError: It was answered.
        AnswerError: Its step is finished.
    """
    if asked.answer is not None:
        who = f" by {asked.answered_by}" if asked.answered_by else ""
        raise AnsweredError(
            f"question {asked.about} of run {asked.run_id!r} was answered{who} at "
            f"{asked.answered_at}: {asked.answer:.200}"
        )
    if asked.is_closed:
        raise AnswerError(
            f"question {asked.about} of run {asked.run_id!r} is closed: the run has gone on "
            "without an answer"
        )


class Questions(RunsFile):
    """The part of ``WorkflowDB`` that deals with questions and answers."""

    def pending(self) -> list[Asked]:
        """The questions that wait for an answer, of all runs, the oldest first.

        A question whose deadline has passed is included until its run is resumed; its
        ``is_expired`` is then true.
        """
        rows = self.connection.rows(QUERIES["open_questions"])
        return [_read(row, {}) for row in rows]

    def get_questions(self, run_id: str) -> list[Asked]:
        """Every question that a run has asked, with its answer if there is one.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return questions_of(self.connection, self.number(run_id))

    def answer_json(
        self,
        run_id: str,
        answer: object,
        *,
        question: int | None = None,
        by: str | None = None,
    ) -> list[Asked]:
        """Answer a question of a paused run with a JSON value; then it can be resumed.

        The value is checked against the JSON schema of the answer. ``Flow.answer_json`` also checks
        what a schema cannot say, such as the validators of a model.

        Args:
            run_id: The run.
            answer: A JSON value, such as ``json.loads`` gives.
            question: The number of the question; needed if several are open.
            by: The author of the answer.

        Returns:
            The questions of the run that are still open.

        Raises:
            RunNotFoundError: There is no such run.
            AnswerError: The value does not fit, and the question stays open; or there is no such
                open question.
            AnsweredError: It was answered already.
        """
        from pocoflow.db.jsonschemas import check_json

        asked = choose(self.get_questions(run_id), run_id, question)
        refuse_closed(asked)
        try:
            text = write_json(answer)
        except ValueError as exc:
            raise AnswerError(
                f"the answer to question {asked.about} is not a JSON value: {exc}"
            ) from exc
        check_json(asked, answer)
        return self.keep_answer(asked, text, by)

    def keep_answer(
        self, one: Asked, text: str, by: str | None, *, instead_of: str | None = None
    ) -> list[Asked]:
        """Record an answer that was checked; the first one counts.

        Args:
            one: The question.
            text: The answer as JSON text.
            by: The author of the answer.
            instead_of: The answer that it replaces, which the node cannot accept.

        Returns:
            The questions of the run that are still open.

        Raises:
            AnswerError: It is too late.
            DatabaseError: The database cannot be written.
        """
        self._refuse_read_only()
        refuse_expired(one, self.connection.now())
        if by is not None and not _is_text(by):
            raise AnswerError(f"who answers cannot be recorded: {by!r:.80} is not a text")
        answer = Answer(text, by, instead_of)
        record_answer(self.connection, one, self.number(one.run_id), answer)
        return [asked for asked in self.get_questions(one.run_id) if asked.is_open]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_utf8(value)
