"""The runs of a database: filters, a page of them, counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import streamlit as st

from pocoflow.db import STATUSES, WorkflowDB
from pocoflow.db.run_reports import flow_counts, waiting
from pocoflow.errors import DatabaseError
from pocoflow.ui.pages_data import Filters, open_database, read_page
from pocoflow.ui.panel import Panel
from pocoflow.ui.tables import flows_table, runs_table, summary

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
        pages: list[int] = st.session_state.setdefault(panel.name("pages"), [])
        filters = _filters(panel, [flow.flow_name for flow in counts], pages)
        _page(panel, database, filters, pages)
        with st.expander("Counts and failure rate of each flow", key=panel.name("flows")):
            panel.show("flows-table", flows_table(counts))
    except DatabaseError as exc:
        panel.notice("bad", str(exc), _advice(panel), title="No runs to show", tone="red")


def _advice(panel: Panel) -> str:
    return (
        "Nothing was made or changed. Start the monitor with the path of a file that a flow has "
        f"written, as in Flow(..., db_path={panel.path!r}); this page looks again by itself."
    )


def _filters(panel: Panel, flows: list[str], pages: list[int]) -> Filters:
    def filter_settings(part: str, width: int) -> dict[str, Any]:
        key = panel.name(part)
        return {"key": key, "on_change": pages.clear, "bind": "query-params", "width": width}

    with st.container(horizontal=True, vertical_alignment="bottom", key=panel.name("filters")):
        example = "run, flow, node, error"
        text = st.text_input("Search", placeholder=example, **filter_settings("q", 240))
        settings = filter_settings("flow", 200)
        flow = st.selectbox("Flow", flows, index=None, placeholder="all flows", **settings)
        settings = filter_settings("status", 160)
        status = st.selectbox("Status", STATUSES, index=None, placeholder="any status", **settings)
        within = st.selectbox("Started", list(_WITHIN), **filter_settings("started", 200))
        settings = filter_settings("by", 200)
        found_by = st.text_input("Run thread or label", placeholder="ann, or user=ann", **settings)
    return Filters(text, flow, status, _WITHIN[within], found_by)


def _page(panel: Panel, database: WorkflowDB, filters: Filters, pages: list[int]) -> None:
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

    def newer() -> None:
        pages.pop()

    with st.container(horizontal=True, vertical_alignment="center", key=panel.name("pager")):
        key = panel.name("newer")
        st.button("Newer", icon="◀", key=key, on_click=newer, disabled=not pages)
        st.button(
            "Older",
            icon="▶",
            icon_position="right",
            key=panel.name("older"),
            on_click=pages.append,
            args=(page.next_before,),
            disabled=page.next_before is None,
        )
        first = len(pages) * PAGE + 1
        if page.runs:
            st.text(f"{first:,} to {first + len(page.runs) - 1:,}, the newest first")
