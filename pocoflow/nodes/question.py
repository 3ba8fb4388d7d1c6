"""A question to a person, which a node returns in place of a result that only a person can give."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, final

from typing_extensions import TypeVar

from pocoflow.address import Address
from pocoflow.errors import DefinitionError
from pocoflow.messages import short
from pocoflow.nodes.setting_checks import is_time

AnswerT = TypeVar("AnswerT", default=Any)
AnswerT_co = TypeVar("AnswerT_co", covariant=True, default=Any)


class NoDefault(Enum):
    """The type of ``NO_DEFAULT``."""

    NO_DEFAULT = "NO_DEFAULT"

    def __repr__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT: Final = NoDefault.NO_DEFAULT
"""There is no answer by default if nobody answers in time."""


# Without slots: Python 3.11 fails to build Question[bool](...) with them.
@final
@dataclass(frozen=True)
class Question(Generic[AnswerT_co]):
    """Returned by ``exec`` in place of a result: the run pauses, and the answer is the result.

    ``Question[bool]`` is answered by a ``bool``; any type that Pydantic can validate and describe
    as a JSON schema will do.

    Attributes:
        text: The question.
        context: What a person needs to know to answer, by name; it is shown as JSON.
        deadline: Seconds, from when it is asked, after which it can no longer be answered.
        default: The answer that is used when the deadline has passed. Without one the node then
            fails with :class:`~pocoflow.errors.QuestionExpiredError`, which can be caught.

    Raises:
        DefinitionError: A value is invalid.
    """

    text: str
    context: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = None
    default: AnswerT_co | NoDefault = NO_DEFAULT

    def __init_subclass__(cls) -> None:
        raise DefinitionError(f"{cls.__name__}: Question cannot be derived from: return a Question")

    def __post_init__(self) -> None:
        given: tuple[object, object, object] = (self.text, self.deadline, self.context)
        if not isinstance(given[0], str) or not given[0].strip():
            raise DefinitionError(f"Question(text={self.text!r}): the text of the question")
        if given[1] is not None and not is_time(given[1]):
            raise DefinitionError(
                f"Question(deadline={self.deadline!r}): a number of seconds above 0"
            )
        if not (isinstance(given[2], Mapping) and all(isinstance(name, str) for name in given[2])):
            raise DefinitionError(
                f"Question(context={short(self.context)}): values by name, as in "
                "context={'draft': draft}"
            )
        if self.deadline is None and self.default is not NO_DEFAULT:
            raise DefinitionError(
                "Question(default=...) is what counts after its deadline, and it has none: add "
                "deadline=, in seconds"
            )


@dataclass(frozen=True)
class Reply(Generic[AnswerT]):
    """An answer, of the type that the node asks for; created by ``node.reply(answer)``.

    Attributes:
        node: The node that asks.
        answer: The answer.
        by: Who answers, if that is to be recorded.
    """

    node: Any
    answer: AnswerT
    by: str | None = None


class NewQuestion(NamedTuple):
    """A question to be recorded.

    Attributes:
        text: What is asked.
        context: What a person needs to know, as JSON text.
        schema: The JSON schema of the answer, as JSON text.
        deadline: Seconds until it can no longer be answered, or ``None``.
        default: JSON text of the answer that is used then, or ``None``.
    """

    text: str
    context: str
    schema: str
    deadline: float | None
    default: str | None


class Asked(NamedTuple):
    """A recorded question.

    Attributes:
        question: Its number, unique in the database.
        run_id: The run that asked it.
        flow_name: The run's flow.
        path: The name of the node that asked it, after those of the flows and branches around it.
        step: The number of its step; in a parallel branch its number there.
        line: The line of its run that asked it: 0 is the run itself, the others are branches.
        item: The index of the item that it is about, or ``None``.
        text: What is asked.
        context: What a person needs to know to answer it, as JSON values.
        schema: The JSON schema of the answer.
        asked_at: When it was asked, as ISO-8601 text in UTC.
        deadline: Until when it can be answered, likewise, or ``None``.
        default: JSON text of the answer that is used then, or ``None``.
        answer: JSON text of the answer, or ``None`` if there is none yet.
        answered_by: Who answered, if known.
        answered_at: When it was answered.
        is_closed: Whether its step is finished, so that an answer would be too late.
        branches: The first node of each branch around it, outermost first, as ``path``.
    """

    question: int
    run_id: str
    flow_name: str
    path: tuple[str, ...]
    step: int
    line: int
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
    branches: tuple[tuple[str, ...], ...] = ()

    @property
    def node(self) -> str:
        """The node that asked it, with the flows and branches around it."""
        return Address(self.path[:-1], self.path[-1]).text

    @property
    def is_open(self) -> bool:
        """Whether it waits for an answer."""
        return self.answer is None and not self.is_closed

    def is_expired(self, now: str) -> bool:
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
        return f"{self.question} ({self.node}{item}: {short(self.text)})"


def describe_open(asked: Sequence[Asked]) -> str:
    """The first few questions, in one line."""
    shown = ", ".join(question.about for question in asked[:5])
    return f"{shown}, ..." if len(asked) > 5 else shown
