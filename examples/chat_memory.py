"""A chat that remembers: the last three turns as they are, older ones by what they are about.

A turn that leaves the window goes to an archive. Before each answer the archived turn that is most
like the question is recalled and put in front of the window.

Both the model and the embedding are stand-ins. The embedding counts words; the model quotes what
it finds about the question in its context. For a language model give the run another callable that
takes the messages: ``resources={llm: my_client}``.

Run it with ``python examples/chat_memory.py`` and type; an empty line ends the chat.
"""

import re
import sys
from collections import Counter
from math import sqrt
from typing import Literal, NamedTuple, Protocol

from pydantic import BaseModel

from pocoflow import END, Flow, fields, node, resource

WINDOW = 3
COMMON = {"about", "and", "are", "called", "does", "the", "what", "where", "who", "with", "you"}


class LLM(Protocol):
    def __call__(self, messages: list[str]) -> str: ...


class Turn(NamedTuple):
    """What was asked and answered."""

    question: str
    answer: str


class Chat(BaseModel):
    """The question, the turns of the window and of the archive, and what was recalled."""

    question: str
    window: list[Turn] = []
    archive: list[Turn] = []
    recalled: list[Turn] = []


C = fields(Chat)
llm = resource(LLM, "llm")


def embed(text: str) -> Counter[str]:
    """Count the words of a text; a stand-in for an embedding."""
    return Counter(word for word in re.findall(r"\w{3,}", text.lower()) if word not in COMMON)


def likeness(one: Counter[str], other: Counter[str]) -> float:
    """The cosine of two embeddings."""
    lengths = sqrt(sum(n * n for n in one.values()) * sum(n * n for n in other.values()))
    return sum(one[word] * other[word] for word in one) / lengths if lengths else 0.0


@node(writes=C.question)
def ask() -> str:
    print("you: ", end="", flush=True)
    return sys.stdin.readline().strip()


@node
def goes_on(question: str) -> Literal["talk", "bye"]:
    return "talk" if question else "bye"


@node(writes=C.recalled)
def recall(question: str, archive: list[Turn]) -> list[Turn]:
    asked = embed(question)
    scores = [(likeness(asked, embed(" ".join(turn))), turn) for turn in archive]
    return [turn for score, turn in sorted(scores)[-1:] if score > 0]


@node(writes=(C.window, C.archive), max_retries=3)
def answer(
    question: str,
    window: list[Turn],
    archive: list[Turn],
    recalled: list[Turn],
    llm: LLM = llm,
) -> tuple[list[Turn], list[Turn]]:
    messages = [text for turn in recalled + window for text in turn]
    turns = [*window, Turn(question, llm([*messages, question]))]
    print(f"bot: {turns[-1].answer}")
    return turns[-WINDOW:], archive + turns[:-WINDOW]


flow = Flow(ask, flow_name="chat", schema=Chat)
flow.then(ask, goes_on).then(goes_on.when("bye"), END).then(goes_on.when("talk"), recall)
flow.then(recall, answer).then(answer, ask)


def quote(messages: list[str]) -> str:
    """Quote what was said about the question; a stand-in for a language model."""
    *earlier, question = messages
    said = [text for text in earlier if embed(text) & embed(question) and "?" not in text]
    return f"You said: {said[0]}" if "?" in question and said else "I see."


if __name__ == "__main__":
    chat = flow.run(resources={llm: quote}).state
    print(f"\n{len(chat.window)} turns in the window, {len(chat.archive)} in the archive")
