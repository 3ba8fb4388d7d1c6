"""Which monitor on a page: its database, its flow, and the names of its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import streamlit as st

from pocoflow.errors import PocoflowError
from pocoflow.flow.flow import Flow
from pocoflow.ui.blocks import Tone, notice
from pocoflow.views.targets import remedies

_SAID_FOR = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Place:
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
        self.redraw()

    def redraw(self) -> None:
        """Draw this monitor again, and nothing else of the page; for callbacks."""
        st.rerun(self.name("monitor"))

    def say(self, where: str, tone: Tone, text: str) -> None:
        """Show what came of a click for a while, where :meth:`said` is called with that name."""
        st.session_state[self.name(where)] = (tone, text, self.now() + _SAID_FOR)

    def said(self, where: str) -> None:
        """Show what is to be said there, unless that was a while ago."""
        tone, text, until = st.session_state.get(self.name(where), ("blue", "", self.now()))
        if self.now() < until:
            notice(text, tone=tone, key=self.name(f"{where}-text"))

    def act(self, where: str, run_id: str, what: Callable[[], str]) -> None:
        """Do something to a run, say there what came of it, and draw the monitor again."""
        try:
            self.say(where, "green", what())
        except (PocoflowError, ValueError) as exc:
            self.say(where, "red", self.told(exc, run_id))
        self.redraw()

    @staticmethod
    def now() -> datetime:
        """The time, in UTC as the database has it."""
        return datetime.now(UTC)
