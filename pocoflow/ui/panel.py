"""Which monitor on a page: its database, its flow, and the names of its state."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import streamlit as st

from pocoflow.errors import PocoflowError
from pocoflow.flow.flow import Flow
from pocoflow.ui.tables import Block
from pocoflow.ui.text import visible
from pocoflow.views.targets import remedies

Tone: TypeAlias = Literal["red", "yellow", "blue", "green", "gray", "quote", "plain"]

_SAID_FOR = 20.0
"""Seconds for which what came of a click is shown."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One monitor.

    Attributes:
        path: The database.
        key: What its keys and query parameters begin with; ``""`` where it has the page for itself.
        flow: The flow that it may resume, fork and cancel runs of.
        reference: Where that flow is, as ``module:name``, if it is known.
        answers: Whether questions can be answered here.
    """

    path: str
    key: str
    flow: Flow | None = None
    reference: str = ""
    answers: bool = True

    def refusal(self, run_id: str) -> str:
        """Why the flow of this monitor may not act on a run; empty if it may, or there is none."""
        if self.flow is None:
            return ""
        try:
            self.flow.check_owner(run_id)
        except PocoflowError as exc:
            return self.told(exc, run_id)
        return ""

    def told(self, exc: Exception, run_id: str) -> str:
        """An error with what can be done about it, a line for each."""
        if not isinstance(exc, PocoflowError):
            return str(exc)
        return "\n".join((str(exc), *remedies(exc, run_id, self.reference, self.path, self.path)))

    def name(self, part: str) -> str:
        """The name of a widget, a fragment or a query parameter of this monitor."""
        return f"{self.key}.{part}" if self.key else part

    def notice(self, part: str, *text: str, title: str = "", tone: Tone = "blue") -> None:
        """Put a message on the page, as plain text."""
        role = "alert" if tone == "red" else "status"
        block = {"layout": "notice", "title": title, "tone": tone, "role": role}
        component(key=self.name(part), data=block | {"text": [visible(line) for line in text]})

    def show(
        self, part: str, block: Block, *, on_open: Callable[[str], None] | None = None
    ) -> None:
        """Put a table or facts on the page.

        Args:
            part: What it is called.
            block: What ``tables`` made.
            on_open: Called with the id of a row that was opened, before the page is drawn again.
        """
        key = self.name(part)

        def opened() -> None:
            given: Any = st.session_state.get(key)
            row = None if given is None else given.get("open")
            if on_open is not None and isinstance(row, str):
                on_open(row)

        component(key=key, data=block, on_open_change=opened)

    @property
    def run_id(self) -> str | None:
        """The run that is looked at: it is in the address of the page, so it can be passed on."""
        return st.query_params.get(self.name("run"))

    def open_run(self, run_id: str | None) -> None:
        """Look at a run, or at none; for callbacks, as it draws this monitor again."""
        if run_id is None:
            st.query_params.pop(self.name("run"), None)
        else:
            st.query_params[self.name("run")] = run_id
        st.rerun(self.name("monitor"))

    def door(self, part: str, label: str, run_id: str | None) -> None:
        """A button that opens a run, or none."""
        st.button(label, key=self.name(part), on_click=self.open_run, args=(run_id,))

    def download(self, part: str, label: str, data: str | Callable[[], str], name: str) -> None:
        """A button that saves JSON text, or what a function makes of it at the click, as a file."""
        kind, key = "application/json", self.name(part)
        st.download_button(label, data, f"{name}.json", kind, key=key, on_click="ignore")

    def say(self, where: str, tone: Tone, text: str) -> None:
        """Show what came of a click for a while, where :meth:`said` is called with that name."""
        st.session_state[self.name(where)] = (tone, text, time.monotonic() + _SAID_FOR)

    def said(self, where: str) -> None:
        """Show what is to be said there, unless that was a while ago."""
        tone, text, until = st.session_state.get(self.name(where), ("blue", "", 0.0))
        if time.monotonic() < until:
            self.notice(f"{where}-text", text, tone=tone)

    def button(
        self,
        part: str,
        label: str,
        run_id: str,
        act: Callable[[], str],
        where: str,
        advice: str | None = None,
    ) -> None:
        """A button for something that is done to a run.

        Args:
            part: What it is called.
            label: What is written on it.
            run_id: The run.
            act: Does it, and gives what is to be said of it.
            where: The name under which that is said.
            advice: More about it.
        """

        def clicked() -> None:
            try:
                self.say(where, "green", act())
            except (PocoflowError, ValueError) as exc:
                self.say(where, "red", self.told(exc, run_id))
            if self.run_id != run_id:
                self.open_run(self.run_id)

        st.button(label, type="primary", key=self.name(part), on_click=clicked, help=advice)


_HERE = Path(__file__).parent

component = st.components.v2.component(
    "pocoflow_block",
    js=(_HERE / "blocks.js").read_text(encoding="utf-8"),
    css=(_HERE / "blocks.css").read_text(encoding="utf-8"),
)
