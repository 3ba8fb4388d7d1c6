"""A monitor on a page: its database, its flow, and the names of its state."""

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

_MESSAGE_SECONDS = 20.0
"""Seconds for which the message about a click is shown."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One monitor.

    Attributes:
        path: The database.
        key: The prefix of its keys and query parameters; ``""`` if it is alone on the page.
        flow: The flow whose runs it may resume, fork and cancel.
        reference: The target of that flow, ``module:name``, if known.
        answers: Whether questions can be answered here.
    """

    path: str
    key: str
    flow: Flow | None = None
    reference: str = ""
    answers: bool = True

    def refusal(self, run_id: str) -> str:
        """Why the flow of this monitor may not act on a run; empty if it may, or without a flow."""
        if self.flow is None:
            return ""
        try:
            self.flow.check_owner(run_id)
        except PocoflowError as exc:
            return self.error_text(exc, run_id)
        return ""

    def flow_of(self, run_id: str) -> Flow | None:
        """The flow of this monitor, if there is one and it may act on a run."""
        return None if self.refusal(run_id) else self.flow

    def error_text(self, exc: Exception, run_id: str) -> str:
        """The text of an error with its remedies, a line for each."""
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
            part: Its name.
            block: The data from ``tables``.
            on_open: Called with the id of a row that was opened, before the page is redrawn.
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
        """The run that is shown: it is in the address of the page, so that links include it."""
        return st.query_params.get(self.name("run"))

    def open_run(self, run_id: str | None) -> None:
        """Show a run, or none; for callbacks, as it redraws this monitor."""
        if run_id is None:
            st.query_params.pop(self.name("run"), None)
        else:
            st.query_params[self.name("run")] = run_id
        st.rerun(self.name("monitor"))

    def link_button(self, part: str, label: str, run_id: str | None) -> None:
        """A button that opens a run, or none."""
        st.button(label, key=self.name(part), on_click=self.open_run, args=(run_id,))

    def download(self, part: str, label: str, data: str | Callable[[], str], name: str) -> None:
        """A button that saves JSON text, or the result of a function at the click, as a file."""
        kind, key = "application/json", self.name(part)
        st.download_button(label, data, f"{name}.json", kind, key=key, on_click="ignore")

    def set_message(self, where: str, tone: Tone, text: str) -> None:
        """Set the message about a click, which :meth:`show_message` shows under that name."""
        st.session_state[self.name(where)] = (tone, text, time.monotonic() + _MESSAGE_SECONDS)

    def show_message(self, where: str) -> None:
        """Show the message of that name, unless it is outdated."""
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
        """A button for an operation on a run.

        Args:
            part: Its name.
            label: Its label.
            run_id: The run.
            act: Executes the operation, and returns the message about it.
            where: The name under which the message is shown.
            advice: The tooltip.
        """

        def clicked() -> None:
            try:
                self.set_message(where, "green", act())
            except (PocoflowError, ValueError) as exc:
                self.set_message(where, "red", self.error_text(exc, run_id))
            if self.run_id != run_id:
                self.open_run(self.run_id)

        st.button(label, type="primary", key=self.name(part), on_click=clicked, help=advice)


_HERE = Path(__file__).parent

component = st.components.v2.component(
    "pocoflow_block",
    js=(_HERE / "blocks.js").read_text(encoding="utf-8"),
    css=(_HERE / "blocks.css").read_text(encoding="utf-8"),
)
