"""An agent that thinks, uses a tool, looks at what it got, and thinks again.

The part that thinks is a small table of rules, so that the example needs no model and always does
the same. Put a language model in its place: the graph stays as it is. A model may name a tool that
is not there, and so does this one: the wildcard edge ``"*"`` catches that and tells it.

Run it with ``python examples/agent_loop.py``.
"""

import re
from typing import NamedTuple

from pydantic import BaseModel

from pocoflow import Flow, Node, Store

QUESTION = "How many minutes does light need from the Sun to the Earth?"

FACTS = {
    "distance from the Sun to the Earth": "149600000 km",
    "speed of light": "299792 km/s",
}


class Talk(BaseModel):
    """The question, the tool to call next, and what has been found so far."""

    question: str
    tool: str
    request: str
    notes: list[str] = []
    answer: str


class Thought(NamedTuple):
    """What the agent wants to do next."""

    tool: str
    request: str


def next_thought(notes: list[str]) -> Thought:
    """Decide on the next tool from the notes; a stand-in for a language model."""
    match len(notes):
        case 0:
            return Thought("browse", "sun-earth.example")
        case 1:
            return Thought("look_up", "distance from the Sun to the Earth")
        case 2:
            return Thought("look_up", "speed of light")
        case 3:
            distance, speed = (re.findall(r"\d+", note)[-1] for note in notes[1:])
            return Thought("calculate", f"{distance} / {speed} / 60")
        case _:
            return Thought("answer", f"About {notes[-1].rpartition(' = ')[2]} minutes.")


def divide(term: str) -> float:
    """Divide a chain of numbers; nothing that a model wrote is evaluated as code."""
    first, *divisors = (float(part) for part in term.split("/"))
    for divisor in divisors:
        first /= divisor
    return first


class Think(Node[list[str], Thought, str]):
    """Decide. The action is what the model says, so it may be anything: ``Post`` is ``str``."""

    def prep(self, store: Store[Talk]) -> list[str]:
        return [store.state.question, *store.state.notes]

    def exec(self, known: list[str]) -> Thought:
        return next_thought(known[1:])

    def post(self, store: Store[Talk], known: list[str], thought: Thought) -> str:
        store.update(tool=thought.tool, request=thought.request)
        return thought.tool


class Tool(Node[str, str, str]):
    """A tool takes the request and leaves a note."""

    def prep(self, store: Store[Talk]) -> str:
        return store.state.request

    def post(self, store: Store[Talk], request: str, note: str) -> str:
        store.state.notes.append(note)
        return "default"


class LookUp(Tool):
    """Find a fact."""

    def exec(self, request: str) -> str:
        return f"{request}: {FACTS.get(request, 'not known')}"


class Calculate(Tool):
    """Work something out."""

    def exec(self, request: str) -> str:
        return f"{request} = {divide(request):.1f}"


class NoSuchTool(Tool):
    """Tell the model what it may use."""

    def prep(self, store: Store[Talk]) -> str:
        return store.state.tool

    def exec(self, tool: str) -> str:
        return f"there is no tool {tool!r}; use look_up, calculate or answer"


class Answer(Node[str, None, str]):
    """The last request is the answer."""

    def prep(self, store: Store[Talk]) -> str:
        return store.state.request

    def post(self, store: Store[Talk], answer: str, nothing: None) -> str:
        store.state.answer = answer
        return "default"


def build_flow() -> Flow[Talk]:
    """A loop through ``Think`` with one way out."""
    think, look_up, calculate = Think(), LookUp(), Calculate()
    no_such_tool, answer = NoSuchTool(), Answer()
    think.then("look_up", look_up).then("calculate", calculate).then("answer", answer)
    think.then("*", no_such_tool)
    for tool in (look_up, calculate, no_such_tool):
        tool.then("default", think)
    flow = Flow(start=think, flow_name="agent", schema=Talk, max_steps=20)
    flow.on("node_end", show)
    return flow


def show(name: str, action: str, elapsed: float, store: Store[Talk]) -> None:
    """Print what the agent does, step by step."""
    if name == "Think":
        print(f"think  -> {action}: {store.state.request}")
    elif name != "Answer":
        print(f"       <- {store.state.notes[-1]}")


if __name__ == "__main__":
    print(QUESTION)
    print(build_flow().run({"question": QUESTION}).state.answer)
