"""The runs of a database: filters, a page of them, counts."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from pocoflow.db import STATUSES, WorkflowDB
from pocoflow.db.run_reports import flow_counts, waiting
from pocoflow.errors import DatabaseError
from pocoflow.ui.blocks import notice, show
from pocoflow.ui.pages_data import Filters, open_database, read_page
from pocoflow.ui.place import Place
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


def show_runs(place: Place) -> None:
    """The body of the fragment that is drawn again while flows run."""
    try:
        database = open_database(place.path)
        counts = flow_counts(database)
        if not counts:
            notice(
                "Give a flow this file as its db_path and run it; it appears here by itself.",
                title="No runs yet",
                key=place.name("empty"),
            )
            st.code(_FIRST_RUN.replace("DATABASE", repr(place.path)), language="python")
            return
        questions = sum(waiting(database).values())
        show(summary(counts, questions), key=place.name("summary"))
        filters = _filters(place, [flow.flow_name for flow in counts])
        _page(place, database, filters)
        with st.expander("Counts and failure rate of each flow", key=place.name("flows")):
            show(flows_table(counts), key=place.name("flows-table"))
    except DatabaseError as exc:
        notice(str(exc), _advice(place), title="No runs to show", tone="red", key=place.name("bad"))


def _advice(place: Place) -> str:
    return (
        "Nothing was made or changed. Start the monitor with the path of a file that a flow has "
        f"written, as in Flow(..., db_path={place.path!r}); this page looks again by itself."
    )


def _filters(place: Place, flows: list[str]) -> Filters:
    def first_page() -> None:
        st.session_state[place.name("pages")] = []

    with st.container(horizontal=True, vertical_alignment="bottom", key=place.name("filters")):
        text = st.text_input(
            "Search",
            key=place.name("q"),
            placeholder="run, flow, node, error",
            on_change=first_page,
            bind="query-params",
            width=240,
        )
        flow = st.selectbox(
            "Flow",
            flows,
            index=None,
            key=place.name("flow"),
            placeholder="all flows",
            on_change=first_page,
            bind="query-params",
            width=200,
        )
        status = st.selectbox(
            "Status",
            STATUSES,
            index=None,
            key=place.name("status"),
            placeholder="any status",
            on_change=first_page,
            bind="query-params",
            width=160,
        )
        within = st.selectbox(
            "Started",
            list(_WITHIN),
            key=place.name("started"),
            on_change=first_page,
            bind="query-params",
            width=200,
        )
        found_by = st.text_input(
            "Run thread or label",
            key=place.name("by"),
            placeholder="ann, or user=ann",
            on_change=first_page,
            bind="query-params",
            width=200,
        )
    return Filters(text or "", flow, status, _WITHIN[within], found_by or "")


def _page(place: Place, database: WorkflowDB, filters: Filters) -> None:
    pages: list[int] = st.session_state.setdefault(place.name("pages"), [])
    now = place.now()
    page = read_page(database, filters, pages[-1] if pages else None, PAGE, now)
    if not page.runs:
        notice(
            "Choose other filters, or clear them.",
            title="No run matches",
            tone="gray",
            key=place.name("none"),
        )
    else:
        table = runs_table(page.runs, place.run_id, now)
        show(table, key=place.name("runs"), on_open=place.open_run)
    if not pages and page.following is None:
        return

    def older() -> None:
        pages.append(page.following or 0)

    def newer() -> None:
        pages.pop()

    with st.container(horizontal=True, vertical_alignment="center", key=place.name("pager")):
        st.button(
            "Newer",
            icon="◀",
            key=place.name("newer"),
            on_click=newer,
            disabled=not pages,
        )
        st.button(
            "Older",
            icon="▶",
            icon_position="right",
            key=place.name("older"),
            on_click=older,
            disabled=page.following is None,
        )
        first = len(pages) * PAGE + 1
        if page.runs:
            st.text(f"{first:,} to {first + len(page.runs) - 1:,}, the newest first")
