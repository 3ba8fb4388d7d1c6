"""A question to a person: what a node returns in place of a result that only a person can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from threading import TIMEOUT_MAX
from typing import Any, Final, Generic, cast, final

from typing_extensions import TypeVar

from pocoflow.errors import DefinitionError

__all__ = ["NO_DEFAULT", "NoDefault", "Question", "Reply"]

AnswerT = TypeVar("AnswerT", default=Any)
AnswerT_co = TypeVar("AnswerT_co", covariant=True, default=Any)


class NoDefault(Enum):
    """The type of ``NO_DEFAULT``."""

    NO_DEFAULT = "NO_DEFAULT"

    def __repr__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT: Final = NoDefault.NO_DEFAULT
"""No answer counts as given when nobody has answered in time."""


# Without slots: Python 3.11 fails to build Question[bool](...) with them.
@final
@dataclass(frozen=True)
class Question(Generic[AnswerT_co]):
    """Returned by ``exec`` in place of a result: the run pauses, and the answer is the result.

    ``Question[bool]`` is answered by a ``bool``; any type that Pydantic can validate and describe
    as a JSON schema will do.

    Attributes:
        text: The question.
        context: What a person has to know to answer, by name; it is shown as JSON.
        deadline: Seconds, from when it is asked, after which it cannot be answered any more.
        default: The answer that counts when the deadline has passed. Without one the node fails
            then with :class:`~pocoflow.errors.QuestionExpiredError`, which can be caught.

    Raises:
        DefinitionError: A value makes no sense.
    """

    text: str
    context: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = None
    default: AnswerT_co | NoDefault = NO_DEFAULT

    def __init_subclass__(cls) -> None:
        raise DefinitionError(f"{cls.__name__}: Question cannot be derived from: return a Question")

    def __post_init__(self) -> None:
        given: tuple[object, object] = (self.text, self.deadline)
        if not isinstance(given[0], str) or not given[0].strip():
            raise DefinitionError(f"Question(text={self.text!r}): the text of the question")
        if given[1] is not None and not _is_time(given[1]):
            raise DefinitionError(
                f"Question(deadline={self.deadline!r}): a number of seconds above 0"
            )
        if self.deadline is None and self.default is not NO_DEFAULT:
            raise DefinitionError(
                "Question(default=...) is what counts after its deadline, and it has none: add "
                "deadline=, in seconds"
            )


@dataclass(frozen=True)
class Reply(Generic[AnswerT]):
    """An answer, of the type that the node asks for; ``node.reply(answer)`` makes it.

    Attributes:
        node: The node that asks.
        answer: The answer.
        by: Who gives it, if that is to be on record.
    """

    node: Any
    answer: AnswerT
    by: str | None = None


def _is_time(seconds: object) -> bool:
    numeric = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    return numeric and 0 < cast(float, seconds) <= TIMEOUT_MAX
