"""One run: its facts, graph, timeline and errors, its store, and the actions on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import streamlit as st

from pocoflow.db import WorkflowDB
from pocoflow.db.run_reports import export_run, forks, stored_values
from pocoflow.errors import DatabaseError, RunNotFoundError
from pocoflow.ui.acting import show_acting
from pocoflow.ui.details import changes_table, costs_table, events_table, steps_table, store_table
from pocoflow.ui.drawing import draw_graph
from pocoflow.ui.pages_data import RunView, changes_between, open_database, read_run, store_text
from pocoflow.ui.panel import Panel
from pocoflow.ui.questions import show_answers, show_open
from pocoflow.ui.steps import errors_of
from pocoflow.ui.tables import run_facts
from pocoflow.ui.text import LONG, SHORT, cut, file_name, pretty, visible
from pocoflow.views.runs import users_frames

_MOST_ERRORS = 20


def show_run(panel: Panel, run_id: str) -> None:
    """Show the selected run."""
    try:
        database = open_database(panel.path)
        now = database.now()
        view = read_run(database, run_id, now)
        # Each part has a container and so a fixed position as others grow: an element that replaces
        # another one at a refresh may break the page in the browser.
        with st.container():
            _head(panel, database, view, now)
        show_open(panel, view, now)
        bodies = {
            "Graph": partial(_graph, panel, view),
            "Timeline": partial(_timeline, panel, database, view),
            "Questions": partial(show_answers, panel, view),
            "Errors": partial(_errors, panel, view),
            "Store": partial(show_store, panel, database, view),
            "Resume": partial(show_acting, panel, view),
        }
        # The tabs have names in the address, so that links can lead to them.
        tabs = st.tabs(list(bodies), key=panel.name("tab"), bind="query-params")
        for tab, body in zip(tabs, bodies.values(), strict=True):
            if tab.open:
                with tab:
                    body()
    except RunNotFoundError as exc:
        panel.notice("unknown", str(exc.args[0]), tone="yellow", title="No such run")
        panel.link_button("close", "Close", None)
    except DatabaseError as exc:
        panel.notice("unreadable", str(exc), tone="red", title="Not to be read")


def show_export(panel: Panel, run_id: str) -> None:
    """A button to download the whole run as a file, which is created at the click.

    Not for a fragment that is refreshed: a click during a refresh would get nothing.
    """
    try:
        database = open_database(panel.path)
        if database.get_run(run_id) is None:
            return
    except DatabaseError:
        return  # the view of the run shows the error

    def export() -> str:
        return json.dumps(export_run(database, run_id), indent=2, ensure_ascii=False)

    panel.download("export", "Export the run as JSON", export, file_name(run_id))


def _head(panel: Panel, database: WorkflowDB, view: RunView, now: datetime) -> None:
    run = view.run
    run_id = run["run_id"]
    with st.container():
        panel.show("facts", run_facts(view, now))
        if run["status"] == "failed" and run["error_msg"]:
            about = cut(run["error_msg"], 600)
            panel.notice("why", about, title=visible(run["error_type"] or "Error"), tone="red")
    with st.container(horizontal=True, key=panel.name("doors")):
        if run["parent_run_id"]:
            panel.link_button("parent", "Open the parent", run["parent_run_id"])
        for number, fork in enumerate(forks(database, run_id)[-5:]):
            label = f"Open the fork from step {fork['parent_step']}"
            panel.link_button(f"fork{number}", label, fork["run_id"])
        panel.link_button("close", "Close the run", None)


def _graph(panel: Panel, view: RunView) -> None:
    if view.graph is None:
        panel.notice(
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


def _timeline(panel: Panel, database: WorkflowDB, view: RunView) -> None:
    if not view.events:
        panel.notice("no-events", "Nothing has happened yet.", tone="gray")
        return
    if view.steps:
        panel.show("steps", steps_table(view.steps))
    if expenses := database.get_expenses(view.run["run_id"]):
        panel.show("costs", costs_table(expenses))
    panel.show("events", events_table(view.events))


def _errors(panel: Panel, view: RunView) -> None:
    errors = errors_of(view.run, view.events)
    if not errors:
        panel.notice("no-errors", "No step of this run has failed.", tone="green")
    for number, error in enumerate(errors[:_MOST_ERRORS]):
        with st.container(border=True, key=panel.name(f"error{number}")):
            panel.notice(
                f"error-text{number}",
                cut(error.message, 2000),
                title=visible(": ".join(filter(None, [error.title, error.kind]))),
                tone="red" if error.is_final else "yellow",
            )
            if error.traceback:
                with st.expander("Traceback", expanded=error.is_final):
                    trace = visible(users_frames(error.traceback[-LONG:]))
                    st.code(trace, language=None, height=min(360, 60 + 21 * trace.count("\n")))
    if len(errors) > _MOST_ERRORS:
        st.caption(f"The last {_MOST_ERRORS} of {len(errors)} errors; the export has them all.")


# -- its store -----------------------------------------------------------------------------------


def show_store(panel: Panel, database: WorkflowDB, view: RunView) -> None:
    """The store after a step: its keys, what changed, and the whole as JSON."""
    run_id = view.run["run_id"]
    step = _slider(panel, run_id, view.stored_steps)
    values = stored_values(database, run_id, step, limit=SHORT)
    if not values:
        panel.notice("no-store", "The store is empty here.", tone="gray")
    nodes = {s.number: s.node for s in view.steps if s.number is not None}
    chosen: str | None = st.session_state.get(panel.name("shown-key"))

    def choose(key: str) -> None:
        st.session_state[panel.name("shown-key")] = None if key == chosen else key

    if values:
        panel.show("store", store_table(values, nodes, chosen), on_open=choose)
    if chosen in values:
        _value(panel, database, run_id, step, chosen)
    _changes(panel, database, view, step)
    with st.expander("Raw JSON", key=panel.name("raw"), on_change="rerun") as raw:
        if raw.open:
            whole = store_text(stored_values(database, run_id, step))
            _json(panel, "store", whole, f"{file_name(run_id)}-step{step}")


def _slider(panel: Panel, run_id: str, stored: Sequence[int]) -> int:
    """The selected step; if it is the last one, it follows the run."""
    last = max(stored, default=-1)
    if last < 0:
        st.caption("No step is finished yet: this is the store before the first one.")
        return -1
    name, last_key = panel.name(f"step.{run_id}"), panel.name(f"last.{run_id}")
    previous, value = st.session_state.get(last_key, (None, None))
    if previous != last:
        # A new slider with this default: setting the state of the old one would reset it while
        # the user moves it, and would have no effect if that redraw is lost.
        value = st.session_state.get(f"{name}.{previous}", value)
        value = last if value == previous else min(value, last)
        st.session_state[last_key] = last, value
    step: int = st.slider(
        "Store after step (-1: before the first one)",
        min_value=-1,
        max_value=last,
        value=value,
        key=f"{name}.{last}",
    )
    return step


def _value(panel: Panel, database: WorkflowDB, run_id: str, step: int, key: str) -> None:
    value = stored_values(database, run_id, step)[key]
    with st.container(border=True, key=panel.name("value")):
        if value.not_saved is not None:
            kind, reason = value.not_saved
            panel.notice(
                "not-saved",
                f"{cut(key)} holds a {kind}, which is not in the checkpoint: {reason}",
                tone="yellow",
            )
            return
        panel.notice("value-of", f"{cut(key)}, {value.size:,} characters", tone="gray")
        _json(panel, "value", value.text, f"{file_name(run_id)}-step{step}-{file_name(key)}")


def _changes(panel: Panel, database: WorkflowDB, view: RunView, step: int) -> None:
    if step < 0:
        return
    run_id = view.run["run_id"]
    earlier = [-1, *(number for number in view.stored_steps if number < step)]
    before = st.selectbox(
        "What changed since step",
        earlier[::-1],
        key=panel.name(f"since.{run_id}.{step}"),
        format_func=lambda number: "-1 (before the first step)" if number < 0 else str(number),
        width=260,
    )
    changes = changes_between(
        stored_values(database, run_id, before), stored_values(database, run_id, step)
    )
    if changes:
        panel.show("changes", changes_table(changes))
    else:
        panel.notice("no-changes", "Nothing changed.", tone="gray")


def _json(panel: Panel, what: str, text: str, name: str) -> None:
    """JSON text, cut for the page, and all of it as a file."""
    shown = pretty(text)
    st.code(visible(shown[:LONG]), language="json", height=340, wrap_lines=True)
    if len(shown) > LONG:
        st.caption(f"The first {LONG:,} of {len(shown):,} characters; the download has them all.")
    # The text itself: a file that is created at the click would be recreated by each refresh, and
    # a click during a refresh would get nothing.
    panel.download(f"{what}-file", f"Download the {what}", text, name)
