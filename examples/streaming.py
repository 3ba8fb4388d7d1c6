"""Streaming: the words of an answer are shown as they come, and the reader may stop at any time.

The node hands out each word with ``context().emit``; whoever runs the flow takes them from
``flow.stream``. Leaving the stream, by Ctrl-C or because one has read enough, cancels the run, and
the node stops at its next ``check_cancelled``.

The model is a resource. The one used here streams those sentences of a text that have a word in
common with the question. For a language model give the run another callable that takes a prompt
and yields text: ``resources={llm: my_client}``.

Run it with ``python examples/streaming.py [QUESTION [WORDS]]``; it stops after that many words.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Protocol

from pydantic import BaseModel

from pocoflow import Flow, context, fields, node, resource
from pocoflow.events import Emitted

TEXT = (
    "The tide is the rise and fall of the sea. It is caused by the pull of the Moon, and less by "
    "that of the Sun. When both pull along one line there is a spring tide, which is high. A week "
    "later there is a neap tide, which is low. Harbours have tables of them for every day."
)


class LLM(Protocol):
    def __call__(self, prompt: str) -> Iterator[str]: ...


class Talk(BaseModel):
    """A question and its answer."""

    question: str
    answer: str


T = fields(Talk)
llm = resource(LLM, "llm")


@node(writes=T.answer)
def answer(question: str, llm: LLM = llm) -> str:
    said = []
    for text in llm(question):
        context().check_cancelled()
        context().emit(text)
        said.append(text)
    return "".join(said)


flow = Flow(answer, flow_name="talk", schema=Talk)


def quote(prompt: str) -> Iterator[str]:
    """Yield what the text has about the question, word by word; a stand-in for a model."""
    wanted = {word for word in re.findall(r"\w+", prompt.lower()) if len(word) > 3}
    for sentence in re.findall(r"[^.]+\.", TEXT):
        if wanted & set(re.findall(r"\w+", sentence.lower())):
            yield from re.findall(r"\S+\s*", f"{sentence.strip()} ")


if __name__ == "__main__":
    question = sys.argv[1] if len(sys.argv) > 1 else "What does the Moon pull, and when is it low?"
    limit = int(sys.argv[2]) if len(sys.argv) > 2 else None
    with closing(flow.stream({"question": question}, resources={llm: quote})) as events:
        words = (event.value for event in events if isinstance(event, Emitted))
        for word in islice(words, limit):
            print(word, end="", flush=True)
    print()
