"""The flow that a script, a notebook, a web app and a Streamlit page run, each as it stands.

It has what a host could trip over: synchronous and asynchronous nodes, items worked on in threads
and as tasks, a nested flow, values that a node shows while it works, and a database.
"""

import asyncio
import os
from collections import Counter
from typing import Literal

from pydantic import BaseModel

from pocoflow import BatchNode, Flow, Store, context, fields, node

DATABASE = os.environ.get("READING_DB", "reading.db")
TEXT = """\
The tide turned at noon. The boats came in.

Nobody on the quay had seen so many herrings.

The harbourmaster counted the baskets twice.
"""


class Passage(BaseModel):
    """What was found out about one passage; a model, so that the database has to know its class."""

    words: int
    longest: str


class Reading(BaseModel):
    """The text, and what was read in it."""

    text: str
    passages: list[str] = []
    words: list[int] = []
    longest: list[str] = []
    found: list[Passage] = []
    card: str


R = fields(Reading)


@node(writes=R.passages)
def split(text: str) -> list[str]:
    """Synchronous: runs in the caller's thread, or in a thread beside the event loop."""
    return [part.strip() for part in text.split("\n\n") if part.strip()]


class CountWords(BatchNode[str, int, Literal["counted"]]):
    """Items in threads."""

    concurrency = 3

    def prep(self, store: Store[Reading]) -> list[str]:
        return store.state.passages

    def exec(self, passage: str) -> int:
        context().emit(passage.split(maxsplit=1)[0])
        return len(passage.split())

    def post(
        self, store: Store[Reading], passages: list[str], words: list[int]
    ) -> Literal["counted"]:
        store.state.words = words
        return "counted"


@node(each=R.passages, writes=R.longest, concurrency=3)
async def find_longest(passage: str) -> str:
    """Items as tasks on the event loop, each of which waits so that the others get their turn."""
    await asyncio.sleep(0)
    return max(passage.replace(".", "").split(), key=len)


@node(writes=R.found)
async def put_together(words: list[int], longest: list[str]) -> list[Passage]:
    """Asynchronous, outside of the nested flow."""
    await asyncio.sleep(0)
    return [Passage(words=n, longest=word) for n, word in zip(words, longest, strict=True)]


@node(writes=R.card)
def write_card(found: list[Passage]) -> str:
    """The result, which is the same wherever the flow runs."""
    lines = []
    for number, passage in enumerate(found, 1):
        lines.append(f"{number}. {passage.words} words, {passage.longest}")
        context().emit(lines[-1])
    return "\n".join(lines)


count = CountWords()
look_closer = Flow(count, flow_name="look_closer", schema=Reading)
look_closer.then(count.when("counted"), find_longest)

flow = Flow(split, flow_name="read", schema=Reading, db_path=DATABASE)
flow.then(split, look_closer).then(look_closer, put_together).then(put_together, write_card)


def expected(text: str) -> str:
    """The card, worked out without a flow."""
    lines: list[str] = []
    for passage in filter(None, map(str.strip, text.split("\n\n"))):
        lengths = Counter({word.replace(".", ""): len(word) for word in passage.split()})
        longest = next(word for word in lengths if len(word) == max(map(len, lengths)))
        lines.append(f"{len(lines) + 1}. {len(passage.split())} words, {longest}")
    return "\n".join(lines)
