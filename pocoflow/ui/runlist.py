"""The runs of a database: filters, a page of them, counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import streamlit as st

from pocoflow.db import STATUSES, WorkflowDB
from pocoflow.db.run_reports import flow_counts, waiting
from pocoflow.errors import DatabaseError
from pocoflow.ui.pages_data import Filters, open_database, read_page
from pocoflow.ui.panel import Panel
from pocoflow.ui.tables import flows_table, runs_table, summary

ChoiceT = TypeVar("ChoiceT")

PAGE = 50

_WITHIN = {
    "at any time": None,
    "in the last hour": timedelta(hours=1),
    "in the last 24 hours": timedelta(days=1),
    "in the last 7 days": timedelta(days=7),
    "in the last 30 days": timedelta(days=30),
}

_FIRST_RUN = """\
from pocoflow import Flow, Node

class Hello(Node):
    def post(self, store, prep_result, exec_result):
        store["greeting"] = f"Hello, {store['name']}!"
        return "done"

Flow(start=Hello(), db_path=DATABASE, flow_name="hello").run({"name": "World"})
"""


def show_runs(panel: Panel) -> None:
    """Show the current runs."""
    try:
        database = open_database(panel.path)
        counts = flow_counts(database)
        if not counts:
            panel.notice(
                "empty",
                "Give a flow this file as its db_path and run it; it appears here by itself.",
                title="No runs yet",
            )
            st.code(_FIRST_RUN.replace("DATABASE", repr(panel.path)), language="python")
            return
        questions = sum(waiting(database).values())
        panel.show("summary", summary(counts, questions))
        filters = _filters(panel, [flow.flow_name for flow in counts])
        _page(panel, database, filters)
        with st.expander("Counts and failure rate of each flow", key=panel.name("flows")):
            panel.show("flows-table", flows_table(counts))
    except DatabaseError as exc:
        panel.notice("bad", str(exc), _advice(panel), title="No runs to show", tone="red")


def _advice(panel: Panel) -> str:
    return (
        "Nothing was made or changed. Start the monitor with the path of a file that a flow has "
        f"written, as in Flow(..., db_path={panel.path!r}); this page looks again by itself."
    )


def _filters(panel: Panel, flows: list[str]) -> Filters:
    def first_page() -> None:
        st.session_state[panel.name("pages")] = []

    def typed(label: str, part: str, example: str, width: int) -> str:
        return st.text_input(
            label,
            key=panel.name(part),
            placeholder=example,
            on_change=first_page,
            bind="query-params",
            width=width,
        )

    def chosen(
        label: str, part: str, options: Sequence[ChoiceT], otherwise: str, width: int
    ) -> ChoiceT | None:
        return st.selectbox(
            label,
            options,
            index=None,
            key=panel.name(part),
            placeholder=otherwise,
            on_change=first_page,
            bind="query-params",
            width=width,
        )

    with st.container(horizontal=True, vertical_alignment="bottom", key=panel.name("filters")):
        text = typed("Search", "q", "run, flow, node, error", 240)
        flow = chosen("Flow", "flow", flows, "all flows", 200)
        status = chosen("Status", "status", STATUSES, "any status", 160)
        within = st.selectbox(
            "Started",
            list(_WITHIN),
            key=panel.name("started"),
            on_change=first_page,
            bind="query-params",
            width=200,
        )
        found_by = typed("Run thread or label", "by", "ann, or user=ann", 200)
    return Filters(text, flow, status, _WITHIN[within], found_by)


def _page(panel: Panel, database: WorkflowDB, filters: Filters) -> None:
    pages: list[int] = st.session_state.setdefault(panel.name("pages"), [])
    now = database.now()
    page = read_page(database, filters, pages[-1] if pages else None, PAGE, now)
    if not page.runs:
        panel.notice(
            "none", "Choose other filters, or clear them.", title="No run matches", tone="gray"
        )
    else:
        table = runs_table(page.runs, panel.run_id, now)
        panel.show("runs", table, on_open=panel.open_run)
    if not pages and page.next_before is None:
        return

    def older() -> None:
        pages.append(page.next_before or 0)

    def newer() -> None:
        pages.pop()

    with st.container(horizontal=True, vertical_alignment="center", key=panel.name("pager")):
        st.button(
            "Newer",
            icon="◀",
            key=panel.name("newer"),
            on_click=newer,
            disabled=not pages,
        )
        st.button(
            "Older",
            icon="▶",
            icon_position="right",
            key=panel.name("older"),
            on_click=older,
            disabled=page.next_before is None,
        )
        first = len(pages) * PAGE + 1
        if page.runs:
            st.text(f"{first:,} to {first + len(page.runs) - 1:,}, the newest first")
