"""One run: its head, graph, timeline and errors, and the doors to its store and to acting on it."""

from __future__ import annotations

import json
from functools import partial

import streamlit as st

from pocoflow.db import WorkflowDB
from pocoflow.db.run_reports import export_run, forks
from pocoflow.errors import DatabaseError, RunNotFoundError
from pocoflow.ui.acting import show_acting
from pocoflow.ui.details import costs_table, events_table, steps_table
from pocoflow.ui.drawing import draw_graph
from pocoflow.ui.inspector import show_store
from pocoflow.ui.pages_data import RunView, open_database, read_run
from pocoflow.ui.place import Place
from pocoflow.ui.questions import show_answers, show_open
from pocoflow.ui.steps import THE_RUN, Error
from pocoflow.ui.tables import run_facts
from pocoflow.ui.text import LONG, cut, file_name, visible
from pocoflow.views.runs import users_frames

_MOST_ERRORS = 20


def show_run(place: Place, run_id: str) -> None:
    """The run that is looked at, as it is now."""
    try:
        database = open_database(place.path)
        view = read_run(database, run_id, place.now())
        # Each part has a container and keeps its place as others grow: one that comes in the
        # place of an element, at a refresh, may end the page in the browser.
        with st.container():
            _head(place, database, view)
        show_open(place, view)
        bodies = {
            "Graph": partial(_graph, place, view),
            "Timeline": partial(_timeline, place, view),
            "Questions": partial(show_answers, place, view),
            "Errors": partial(_errors, place, view),
            "Store": partial(show_store, place, database, view),
            "Resume": partial(show_acting, place, view),
        }
        # The tabs have names of their own in the address, so that a link leads to one of them.
        tabs = st.tabs(list(bodies), key=place.name("tab"), bind="query-params")
        for tab, body in zip(tabs, bodies.values(), strict=True):
            if tab.open:
                with tab:
                    body()
    except RunNotFoundError as exc:
        place.notice("unknown", str(exc.args[0]), tone="yellow", title="No such run")
        place.door("close", "Close", None)
    except DatabaseError as exc:
        place.notice("unreadable", str(exc), tone="red", title="Not to be read")


def show_export(place: Place, run_id: str) -> None:
    """The door to the whole run as a file, which is put together when it is asked for.

    Not for a fragment that is refreshed: a click that meets a refresh would get nothing.
    """
    try:
        database = open_database(place.path)
        if database.get_run(run_id) is None:
            return
    except DatabaseError:
        return  # the view of the run says what is wrong

    def export() -> str:
        return json.dumps(export_run(database, run_id), indent=2, ensure_ascii=False)

    place.download("export", "Export the run as JSON", export, file_name(run_id))


def _head(place: Place, database: WorkflowDB, view: RunView) -> None:
    run = view.run
    run_id = run["run_id"]
    facts = run_facts(run, view.began, place.now(), len(view.open), view.items)
    with st.container():
        place.show("facts", facts)
        if run["status"] == "failed" and run["error_msg"]:
            about = cut(run["error_msg"], 600)
            place.notice("why", about, title=visible(run["error_type"] or "Error"), tone="red")
    with st.container(horizontal=True, key=place.name("doors")):
        if run["parent_run_id"]:
            place.door("parent", "Open the parent", run["parent_run_id"])
        for number, fork in enumerate(forks(database, run_id)[-5:]):
            label = f"Open the fork from step {fork['parent_step']}"
            place.door(f"fork{number}", label, fork["run_id"])
        place.door("close", "Close the run", None)


def _graph(place: Place, view: RunView) -> None:
    if view.graph is None:
        place.notice(
            "no-graph",
            "It was written by a version before 0.3, or recorded with create_run.",
            title="This run has no recorded graph",
            tone="gray",
        )
        return
    st.graphviz_chart(
        draw_graph(view.graph, view.walk, dark=st.context.theme.type == "dark"),
        alt="The graph of the flow: nodes with their state, edges with how often each was taken",
    )
    st.caption(
        "Solid edges were taken, with how often; dashed ones were not. The node with the thick "
        "border is where the run stands."
    )


def _timeline(place: Place, view: RunView) -> None:
    if not view.events:
        place.notice("no-events", "Nothing has happened yet.", tone="gray")
        return
    if view.steps:
        place.show("steps", steps_table(view.steps))
    if view.expenses:
        place.show("costs", costs_table(view.expenses))
    place.show("events", events_table(view.events))


def _errors(place: Place, view: RunView) -> None:
    if not view.errors:
        place.notice("no-errors", "No step of this run has failed.", tone="green")
    for number, error in enumerate(view.errors[:_MOST_ERRORS]):
        with st.container(border=True, key=place.name(f"error{number}")):
            place.notice(
                f"error-text{number}",
                cut(error.message, 2000),
                title=visible(": ".join(filter(None, [_headline(error), error.kind]))),
                tone="red" if error.is_final else "yellow",
            )
            if error.traceback:
                with st.expander("Traceback", expanded=error.is_final):
                    trace = visible(users_frames(error.traceback[-LONG:]))
                    st.code(trace, language=None, height=_height(trace))
    if len(view.errors) > _MOST_ERRORS:
        st.caption(
            f"The last {_MOST_ERRORS} of {len(view.errors)} errors; the export has them all."
        )


def _headline(error: Error) -> str:
    """Where something went wrong, and what came of it."""
    if error.title == THE_RUN:
        return "The run ended"
    return f"{error.title}, {'ended the run' if error.is_final else 'was tried again'}"


def _height(text: str) -> int:
    return min(360, 60 + 21 * text.count("\n"))
