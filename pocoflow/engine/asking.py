"""Asking a person: a question is recorded, and the run waits without a process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NoReturn

from pydantic_core import PydanticSerializationError

from pocoflow.address import Address
from pocoflow.engine.effects import Effects, Steps
from pocoflow.engine.line import Line
from pocoflow.errors import AnswerError, DefinitionError, QuestionExpiredError, RunError, RunPaused
from pocoflow.graph.graph import Vertex, label
from pocoflow.graph.step_records import Identity
from pocoflow.messages import counted
from pocoflow.nodes.base import AnyNode
from pocoflow.nodes.context import current
from pocoflow.nodes.node_kinds import AskNode
from pocoflow.nodes.question import NO_DEFAULT, Asked, NewQuestion, Question, describe_open
from pocoflow.values.json_text import as_json


class Paused(BaseException):
    """A run, or a parallel branch, cannot proceed before a question is answered.

    Not an ``Exception``, so that no retry, fallback or edge for errors takes it for a failure.
    """


@dataclass(frozen=True, slots=True)
class Waiting:
    """Stands for the missing answer in a resumed run.

    Attributes:
        asked: The question.
        is_expired: Whether its deadline has passed, without a default.
    """

    asked: Asked
    is_expired: bool

    def stop(self) -> NoReturn:
        """Keep waiting, or fail.

        Raises:
            Paused: The question can still be answered.
            QuestionExpiredError: Its deadline has passed.
        """
        if not self.is_expired:
            raise Paused
        raise QuestionExpiredError(
            f"question {self.asked.about} of run {self.asked.run_id!r} was not answered until "
            f"{self.asked.deadline}, and it has no default; a fork asks again: "
            f"flow.fork({self.asked.run_id!r})"
        )


def is_waiting(result: object) -> bool:
    """Whether a result is a question, new or asked earlier."""
    return isinstance(result, (Question, Waiting))


def ask(
    run: Line,
    vertex: Vertex,
    prepared: object,
    result: Question | Waiting,
    item: Identity | None = None,
) -> Steps:
    """Record a question; one that was asked earlier keeps waiting.

    Raises:
        RunError: The run is not stored, so it cannot wait.
        DefinitionError: The answer or the context cannot be described as JSON.
        QuestionExpiredError: It was asked earlier, and not answered in time.
    """
    if isinstance(result, Waiting):
        if result.is_expired:
            result.stop()
        return
    context = current.get()  # that of the item, if it is one of several that ask at once
    if not run.ledger.keeps:
        where = Address(context.path, vertex.name).text
        raise RunError(
            f"node {where!r} of flow {context.flow_name!r} asks a question, and a run that is not "
            "stored cannot wait for the answer: give the flow a db_path"
        )
    new = _described(vertex, result)
    phase, context.phase = context.phase, "commit"
    facts = (run.step, Address(context.path, vertex.name), new, item, prepared)
    number = yield from run.commit(not run.on_loop, run.ledger.ask, *facts)
    context.phase = phase
    number_of_item = None if item is None else item.number
    run.notify("node_ask", vertex.name, run.step, number, result, number_of_item, context.path)


def pause(run: Line) -> Effects[RunPaused]:
    """Record that the run waits for answers; returns the error for its caller."""
    context = run.context
    if not context.cancellation.is_expired:
        context.check_cancelled()
    asker = label(context.node, context.path)
    questions = yield from run.commit(not run.on_loop, run.ledger.pause, asker)
    if questions is None:  # the run was asked to stop
        run.cancel()
        context.check_cancelled()
        questions = []
    resume = f"flow.resume({context.run_id!r}) continues"
    message = f"all is answered by now; {resume}"
    if questions:
        message = f"{counted(len(questions), 'open question')}: {describe_open(questions)}; "
        message += f"flow.answer({context.run_id!r}, ...) answers, then {resume}"
    return RunPaused(
        f"run {context.run_id!r} is paused: {message}",
        run_id=context.run_id,
        questions=[asked.question for asked in questions],
    )


def check_answer(node: AnyNode, answer: object) -> None:
    """Refuse a result that an asking node returns without a question, if it is no valid answer.

    Raises:
        AnswerError: It is of another type.
    """
    from pocoflow.nodes.answer_types import answer_type

    try:
        answer_type(node).check(answer)
    except AnswerError as exc:
        phase = "prep" if type(node).exec is AskNode.exec else "exec"
        raise AnswerError(
            f"node {node.name!r} asks nobody: its {phase} returned no question, and {exc}; to ask "
            f"a person, return Question(text)"
        ) from None


def _described(vertex: Vertex, question: Question[object]) -> NewQuestion:
    from pocoflow.nodes.answer_types import answer_type

    kind = answer_type(vertex.node)
    try:
        context = json.dumps(as_json(dict(question.context)))
    except (PydanticSerializationError, TypeError, ValueError) as exc:
        raise DefinitionError(
            f"node {vertex.name!r}: the context of its question cannot be shown as JSON: {exc}"
        ) from exc
    default = None
    if question.default is not NO_DEFAULT:
        try:
            default = kind.from_python(question.default)
        except AnswerError as exc:
            text = f"node {vertex.name!r}: the default of its question: {exc}"
            raise DefinitionError(text) from exc
    return NewQuestion(question.text, context, json.dumps(kind.schema), question.deadline, default)
