"""The store of a run, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pocoflow.db import WorkflowDB
from pocoflow.db.run_reports import stored_values
from pocoflow.ui.details import changes_table, store_table
from pocoflow.ui.pages_data import RunView, changes_between, store_text
from pocoflow.ui.place import Place
from pocoflow.ui.text import LONG, SHORT, cut, file_name, pretty, visible


def show_store(place: Place, database: WorkflowDB, view: RunView) -> None:
    """The store after a step: its keys, what changed, and the whole as JSON."""
    run_id = view.run["run_id"]
    step = _slider(place, run_id, view.stored_steps)
    values = stored_values(database, run_id, step, limit=SHORT)
    if not values:
        place.notice("no-store", "The store is empty here.", tone="gray")
    nodes = {one.number: one.node for one in view.steps if one.number is not None}
    chosen: str | None = st.session_state.get(place.name("shown-key"))

    def choose(key: str) -> None:
        st.session_state[place.name("shown-key")] = None if key == chosen else key

    if values:
        place.show("store", store_table(values, nodes, chosen), on_open=choose)
    if chosen in values:
        _value(place, database, run_id, step, chosen)
    _changes(place, database, view, step)
    with st.expander("Raw JSON", key=place.name("raw"), on_change="rerun") as raw:
        if raw.open:
            whole = store_text(stored_values(database, run_id, step))
            _json(place, "store", whole, f"{file_name(run_id)}-step{step}")


def _slider(place: Place, run_id: str, stored: Sequence[int]) -> int:
    """The step that is looked at; while it is the last one it follows the run."""
    last = max(stored, default=-1)
    if last < 0:
        st.caption("No step is finished yet: this is the store before the first one.")
        return -1
    name, seen = place.name(f"step.{run_id}"), place.name(f"last.{run_id}")
    before, at = st.session_state.get(seen, (None, None))
    if before != last:
        # A slider of its own with this default: one that is set by its state is put back under
        # the hands of whoever moves it, and not at all if that drawing is lost.
        at = st.session_state.get(f"{name}.{before}", at)
        at = last if at == before else min(at, last)
        st.session_state[seen] = last, at
    step: int = st.slider(
        "Store after step (-1: before the first one)",
        min_value=-1,
        max_value=last,
        value=at,
        key=f"{name}.{last}",
    )
    return step


def _value(place: Place, database: WorkflowDB, run_id: str, step: int, key: str) -> None:
    value = stored_values(database, run_id, step)[key]
    with st.container(border=True, key=place.name("value")):
        if value.not_saved is not None:
            kind, reason = value.not_saved
            place.notice(
                "not-saved",
                f"{cut(key)} holds a {kind}, which is not in the checkpoint: {reason}",
                tone="yellow",
            )
            return
        place.notice("value-of", f"{cut(key)}, {value.size:,} characters", tone="gray")
        _json(place, "value", value.text, f"{file_name(run_id)}-step{step}-{file_name(key)}")


def _changes(place: Place, database: WorkflowDB, view: RunView, step: int) -> None:
    if step < 0:
        return
    run_id = view.run["run_id"]
    earlier = [-1, *(one for one in view.stored_steps if one < step)]
    before = st.selectbox(
        "What changed since step",
        earlier[::-1],
        key=place.name(f"since.{run_id}.{step}"),
        format_func=lambda one: "-1 (before the first step)" if one < 0 else str(one),
        width=260,
    )
    found = changes_between(
        stored_values(database, run_id, before), stored_values(database, run_id, step)
    )
    if found:
        place.show("changes", changes_table(found))
    else:
        place.notice("no-changes", "Nothing changed.", tone="gray")


def _json(place: Place, what: str, text: str, name: str) -> None:
    """JSON text as far as a page can carry it, and all of it as a file."""
    shown = pretty(text)
    st.code(visible(shown[:LONG]), language="json", height=340, wrap_lines=True)
    if len(shown) > LONG:
        st.caption(f"The first {LONG:,} of {len(shown):,} characters; the download has them all.")
    # The text itself: what is made at the click would be made anew by each refresh, and a click
    # that meets one would get nothing.
    place.download(f"{what}-file", f"Download the {what}", text, name)
