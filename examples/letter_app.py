"""Letters that a model writes and a person approves: the flow of ``letter_app_web.py``.

It is run by workers, any number of them::

    pocoflow worker examples.letter_app:flow
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from pocoflow import Flow, Question, context, fields, node

PACE = float(os.environ.get("LETTER_PACE", "0.06"))


class Decision(BaseModel):
    """What a person says of a draft."""

    verdict: Literal["send", "edit"]
    text: str = Field(default="", max_length=5000)

    @model_validator(mode="after")
    def has_a_text(self) -> Self:
        if (self.verdict == "edit") != bool(self.text.strip()):
            raise ValueError("a text is given to edit the letter, and for nothing else")
        return self


class Letter(BaseModel):
    """A letter, from what is asked for to what is sent."""

    to: str = Field(min_length=1, max_length=100)
    about: str = Field(min_length=1, max_length=500)
    draft: str
    decision: Decision
    letter: str


L = fields(Letter)


def words(to: str, about: str) -> list[str]:
    """What the stand-in for a model says: the tokens of a letter."""
    text = (
        f"Dear {to},\n\nthank you for your patience. I am writing to you about {about}. "
        "It has taken us longer than we said, and I am sorry for that. We have looked into it "
        "since, and know what went wrong and what we are going to change.\n\n"
        "If there is anything else, please write to me.\n\nYours sincerely"
    )
    return [f"{word} " for word in text.split(" ")]


async def model(to: str, about: str) -> AsyncIterator[str]:
    """A stand-in for a model, which takes its time for each token."""
    for word in words(to, about):
        await asyncio.sleep(PACE)
        yield word


@node(writes=L.draft)
async def write(to: str, about: str) -> str:
    """Write a draft, which is shown while it is written."""
    draft = ""
    async for token in model(to, about):
        context().emit(token)
        draft += token
    return draft.strip()


@node(writes=L.decision)
def approve(draft: str) -> Question[Decision]:
    """Ask whoever wants the letter."""
    return Question("Shall it be sent like this?", {"draft": draft})


@node(writes=L.letter)
def send(draft: str, decision: Decision) -> str:
    """Send what was decided; a stand-in for the post."""
    return draft if decision.verdict == "send" else decision.text


flow = Flow(
    write,
    flow_name="letters",
    schema=Letter,
    inputs=(L.to, L.about),
    outputs=(L.letter,),
    db_path=os.environ.get("LETTER_DB", "letters.db"),
    record_emitted=True,
)
flow.then(write, approve).then(approve, send)
