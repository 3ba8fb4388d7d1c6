"""A supervisor: a research agent answers, and is sent back until the answer holds.

The agent is a flow: it thinks, searches, and answers. In the outer flow that whole flow is one
node, and a supervisor looks at its answer: what it objects to goes into the next search. After
four answers it takes what there is.

The model is a resource. The one used here is a careless stand-in that follows a few rules: it
searches for capitalised words alone, and takes the first thing it finds for the answer. For a
language model give the run another callable that takes a prompt: ``resources={llm: my_client}``.

Run it with ``python examples/supervisor.py [QUESTION]``.
"""

import re
import sys
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel

from pocoflow import END, Flow, fields, node, resource
from pocoflow.reducers import append, item

QUESTION = "Who won the Nobel Prize in Physics in 2024?"
LIBRARY = [
    "Anne L'Huillier, Pierre Agostini and Ferenc Krausz won the Nobel Prize in Physics in 2023.",
    "Victor Ambros and Gary Ruvkun won the Nobel Prize in Medicine in 2024.",
    "John Hopfield and Geoffrey Hinton won the Nobel Prize in Physics in 2024.",
]


class LLM(Protocol):
    def __call__(self, prompt: str) -> str: ...


class Research(BaseModel):
    """The question, what was found and objected to, and the answer."""

    question: str
    query: str
    notes: Annotated[list[str], append] = []
    objections: Annotated[list[str], append] = []
    answer: str


R = fields(Research)
llm = resource(LLM, "llm")


@node(writes=R.query, max_retries=3)
def think(question: str, notes: list[str], objections: list[str], llm: LLM = llm) -> str:
    found = f"Found: {notes[-1:]}" if len(notes) > len(objections) else "Found nothing new."
    return llm(f"Think: {question}\n{found}\nObjections: {' '.join(objections)}")


@node
def decide(query: str) -> Literal["search", "answer"]:
    return "search" if query else "answer"


@node(writes=item(R.notes))
def search(query: str) -> str:
    words = set(query.split())
    return max(LIBRARY, key=lambda text: len(words & set(re.findall(r"\w+", text))))


@node(writes=R.answer, max_retries=3)
def answer(question: str, notes: list[str], llm: LLM = llm) -> str:
    return llm(f"Answer: {question}\nFound: {notes[-1]}")


agent = Flow(think, flow_name="agent", schema=Research)
agent.then(think, decide).then(decide.when("search"), search).then(search, think)
agent.then(decide.when("answer"), answer)


@node(writes=item(R.objections))
def supervise(question: str, answer: str) -> str:
    wanted = re.findall(r"\b[A-Z]\w+|\d+", question)[1:]
    return " ".join(word for word in wanted if word not in answer)


@node
def judge(objections: list[str]) -> Literal["again", "done"]:
    return "again" if objections[-1] and len(objections) < 4 else "done"


flow = Flow(agent, flow_name="supervised", schema=Research)
flow.then(agent, supervise).then(supervise, judge)
flow.then(judge.when("again"), agent).then(judge.when("done"), END)


def follow_rules(prompt: str) -> str:
    """Search for names, and answer with what was found; a stand-in for a language model."""
    request, found, *objections = prompt.splitlines()
    if request.startswith("Answer"):
        return found.removeprefix("Found: ")
    names = re.findall(r"\b[A-Z]\w+", request)[2:] or request.split()
    more = objections[0].removeprefix("Objections:").split()
    return "" if found != "Found nothing new." else " ".join([*names, *more])


if __name__ == "__main__":
    question = sys.argv[1] if len(sys.argv) > 1 else QUESTION
    done = flow.run({"question": question}, resources={llm: follow_rules}).state
    for note, missing in zip(done.notes, done.objections, strict=True):
        print(f"found:    {note}")
        print(f"rejected: nothing of {missing}" if missing else "accepted")
    print(done.answer)
