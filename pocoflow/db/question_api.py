"""The part of ``WorkflowDB`` that deals with questions."""

from __future__ import annotations

from pocoflow.db.file import RunsFile
from pocoflow.db.question_rows import (
    Answer,
    Asked,
    choose,
    keep_answer,
    open_questions,
    questions_of,
    refuse_closed,
    refuse_late,
)
from pocoflow.errors import AnswerError
from pocoflow.values.json_text import write_json


class Questions(RunsFile):
    """What runs have asked, and the answers."""

    def pending(self) -> list[Asked]:
        """The questions that wait for an answer, of all runs, the oldest first.

        One whose deadline has passed is among them until its run goes on; its ``is_late`` says so.
        """
        return open_questions(self.connection)

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
            by: Who answers.

        Returns:
            The questions of the run that are still open.

        Raises:
            RunNotFoundError: There is no such run.
            AnswerError: The value does not fit, which leaves the question open; or there is no such
                open question.
            AnsweredError: It was answered already.
        """
        from pocoflow.db.jsonschemas import check_json

        one = choose(self.get_questions(run_id), run_id, question)
        refuse_closed(one)
        try:
            text = write_json(answer)
        except ValueError as exc:
            raise AnswerError(
                f"the answer to question {one.about} is not a JSON value: {exc}"
            ) from exc
        check_json(one, answer)
        return self.keep_answer(one, text, by)

    def keep_answer(
        self, one: Asked, text: str, by: str | None, *, instead_of: str | None = None
    ) -> list[Asked]:
        """Put an answer that was checked on record; the first one counts.

        Args:
            one: The question.
            text: The answer as JSON text.
            by: Who gives it.
            instead_of: The answer that it replaces, which the node cannot take.

        Returns:
            The questions of the run that are still open.

        Raises:
            AnswerError: It came too late.
            DatabaseError: The database cannot be written.
        """
        self._refuse_read_only()
        refuse_late(one, self.connection.now())
        if by is not None and not _is_text(by):
            raise AnswerError(f"who answers cannot be recorded: {by!r:.80} is not a text")
        given = Answer(text, by, instead_of)
        keep_answer(self.connection, one, self.number(one.run_id), given)
        return [it for it in self.get_questions(one.run_id) if it.is_open]


def _is_text(given: object) -> bool:
    try:
        return isinstance(given, str) and given.encode() is not None
    except UnicodeEncodeError:
        return False
