"""Acting on a run: with the flow that the monitor was given, or by a snippet to paste."""

from __future__ import annotations

import json
from functools import partial

import streamlit as st

from pocoflow.db import WorkflowDB
from pocoflow.flow.flow import Flow
from pocoflow.ui.pages_data import RunView
from pocoflow.ui.panel import Panel
from pocoflow.ui.snippet import cancel_snippet, is_reference, resume_snippet


def show_acting(panel: Panel, view: RunView) -> None:
    """Show what can be done with the run."""
    panel.show_message("said")
    if view.run["status"] in ("running", "paused"):
        _stopping(panel, view)
    if view.run["status"] == "running":
        return
    step = _choose_step(panel, view)
    refusal = panel.refusal(view.run["run_id"])
    if panel.flow is not None and not refusal:
        _buttons(panel, panel.flow, view, step)
    elif refusal:
        panel.notice("other-flow", refusal, tone="gray")
    _snippet(panel, view, step)


def _stopping(panel: Panel, view: RunView) -> None:
    run_id = view.run["run_id"]
    is_paused = view.run["status"] == "paused"
    if view.run["cancel_requested"] and not is_paused:
        panel.notice("asked", "It was asked to stop after this step.")
        return
    if panel.flow is not None:
        act = partial(_cancel, panel.path, run_id)
        advice = f"It stops {_when(is_paused)}, and can be resumed."
        panel.button("cancel", "Cancel the run", run_id, act, "said", advice)
    else:
        st.caption(f"This code stops the run {_when(is_paused)}.")
        st.code(cancel_snippet(panel.path, run_id), language="python")


def _when(is_paused: bool) -> str:
    return "at once" if is_paused else "after the step that it is at"


def _cancel(path: str, run_id: str) -> str:
    with WorkflowDB(path) as database:
        was_requested = database.request_cancel(run_id)
        status = database.handle(run_id).status
    if not was_requested:
        return "It had ended already."
    return "It is cancelled." if status == "cancelled" else "Asked it to stop after this step."


# -- resume and fork ------------------------------------------------------------------------------


def _choose_step(panel: Panel, view: RunView) -> int | None:
    """The step to fork from; ``None`` to resume the run itself."""
    steps = [-1, *view.stored_steps]
    resume_label = "where the run stopped: the same run"
    is_completed = view.run["status"] == "completed"
    # No node comes after the last step of a run that is completed.
    choices = {_fork_label(step): step for step in reversed(steps[:-1] if is_completed else steps)}
    chosen = st.selectbox(
        "Go on from",
        [*([] if is_completed else [resume_label]), *choices],
        key=panel.name(f"from.{view.run['run_id']}.{view.run['status']}"),
        help="A fork is a new run from a checkpoint; the run that it comes from stays as it is.",
        width=360,
    )
    return choices.get(chosen)


def _fork_label(step: int) -> str:
    return "the beginning: a fork" if step < 0 else f"the checkpoint of step {step}: a fork"


def _buttons(panel: Panel, flow: Flow, view: RunView, step: int | None) -> None:
    run_id = view.run["run_id"]
    if step is None:
        act = partial(resume_here, flow, run_id)
        panel.button("resume", "Resume the run", run_id, act, "said")
        return
    changes = st.text_area(
        "Values to change first, as a JSON object",
        key=panel.name("fork-values"),
        placeholder='{"question": "why?"}',
        height=80,
    )
    act = partial(_fork, panel, flow, run_id, step, changes)
    panel.button("fork", "Fork and run", run_id, act, "said")


def resume_here(flow: Flow, run_id: str) -> str:
    """Resume a run in this process; returns the text that says so."""
    _ = flow.resume_background(run_id)
    return "It goes on, in the process of this monitor."


def _fork(panel: Panel, flow: Flow, run_id: str, step: int, changes: str) -> str:
    values = json.loads(changes) if changes.strip() else {}
    if not isinstance(values, dict):
        raise ValueError('the values to change are a JSON object, as in {"question": "why?"}')
    fork_id = flow.fork(run_id, step, values)
    _ = flow.resume_background(fork_id)
    st.query_params[panel.name("run")] = fork_id
    return f"This is the fork, {fork_id}; it runs in the process of this monitor."


def _snippet(panel: Panel, view: RunView, step: int | None) -> None:
    reference = st.text_input(
        "Where your flow is (module:name or path/file.py:name); empty: wired as it was recorded",
        value=panel.reference if is_reference(panel.reference) else "",
        key=panel.name("where"),
        placeholder="my_app.flows:flow",
        width=560,
    )
    if reference and not is_reference(reference):
        panel.notice(
            "not-a-reference",
            "Write module:name or path/file.py:name, as in my_app.flows:flow; the name of a flow, "
            "or of a function that makes one.",
            tone="yellow",
        )
        return
    wired = "" if reference else "arguments of your own constructors, a schema, "
    st.caption(
        "Ready to be pasted; nothing that was finished is executed again. Add what only your "
        f"program knows: {wired}resources."
    )
    code = resume_snippet(
        panel.path, view.run, view.graph, view.walk, step=step, reference=reference
    )
    st.code(code, language="python")
