"""A Streamlit page: ``streamlit run page.py`` runs the flow at a click and shows its events."""

import asyncio
import os
from pathlib import Path

import streamlit as st
from pydantic import BaseModel

from pocoflow import Flow, Node, context, fields, node
from pocoflow.events import Emitted, FlowEnded
from tests.integration.hosts.reading import DATABASE, TEXT, flow


class Line(BaseModel):
    """A class of the page: Streamlit executes the page, and so this line, at each rerun."""

    text: str


class Lines(BaseModel):
    """What the flow of the page works on."""

    lines: list[Line] = []
    count: int


L = fields(Lines)


@node(writes=L.count)
def count_lines(lines: list[Line]) -> int:
    """A node that is made anew at each rerun."""
    return len(lines)


def read_line() -> str:
    """Wait for a line of the pipe."""
    with Path(os.environ["READING_PIPE"]).open(encoding="utf-8") as lines:
        return lines.readline().strip()


class Wait(Node):
    """Shows that it is there, then a line of the pipe, and goes on for ever."""

    async def exec(self, prepared: object) -> None:
        context().emit("waiting")
        context().emit(await asyncio.to_thread(read_line))
        await asyncio.Event().wait()


st.title("Reading")
text = st.text_area("Text", TEXT)

if st.button("Do nothing"):
    st.write("nothing done")

if st.button("Run"):
    st.session_state.card = flow.run({"text": text}).state.card
    st.session_state.runs = st.session_state.get("runs", 0) + 1
if "card" in st.session_state:
    st.code(st.session_state.card, language=None)
    st.write(f"runs: {st.session_state.runs}")

if st.button("Stream"):
    shown = st.empty()
    values: list[str] = []
    for event in flow.stream({"text": text}):
        if isinstance(event, Emitted):
            values.append(str(event.value))
            shown.text("\n".join(values))
        elif isinstance(event, FlowEnded):
            st.write(f"streamed {event.steps} steps")

if st.button("Page's own"):
    own = Flow(count_lines, flow_name="own", schema=Lines, db_path=DATABASE)
    given = {"lines": [Line(text=line) for line in text.splitlines()]}
    st.session_state.counted = st.session_state.get("counted", 0) + 1
    lines = own.run(given).state.count
    st.write(f"{lines} lines, counted {st.session_state.counted} times")

if st.button("Wait"):
    waiting = Flow(Wait(), flow_name="wait", db_path=DATABASE)
    for event in waiting.stream({}):
        if isinstance(event, Emitted):
            st.write(event.value)
