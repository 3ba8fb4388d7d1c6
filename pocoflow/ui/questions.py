"""The questions of a run: a form for each open one, and the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from datetime import datetime
from functools import partial
from typing import Any, Literal

import streamlit as st

from pocoflow.db import WorkflowDB
from pocoflow.db.jsonschemas import misfits
from pocoflow.errors import PocoflowError
from pocoflow.flow.flow import Flow
from pocoflow.nodes.question import Asked
from pocoflow.ui.acting import resume_here
from pocoflow.ui.details import answers_table
from pocoflow.ui.pages_data import RunView, open_database
from pocoflow.ui.panel import Panel
from pocoflow.ui.tables import question_facts
from pocoflow.ui.text import LONG, cut, visible
from pocoflow.values.callables import UNSET
from pocoflow.values.json_text import read_json
from pocoflow.views.forms import Field, form_of
from pocoflow.views.targets import command

_MOST = 5
_POSITIONS = 100
_LONG_TEXT = 80
_HIGH = 1200


def show_open(panel: Panel, view: RunView, now: datetime) -> None:
    """The open questions of a run, each with a form; and how to resume it after the last answer."""
    with st.container():
        panel.show_message("heard")
    waiting = [question for question in view.open if not question.is_expired(now.isoformat())]
    expired = len(view.open) - len(waiting)
    # At fixed positions, as Streamlit shows replaced elements together for a while.
    with st.container():
        positions = [st.container() for _ in view.questions[:_POSITIONS]]
    shown = {question.question for question in waiting[:_MOST]}
    for number, question in enumerate(view.questions):
        if question.question in shown:
            key = panel.name(f"question.{question.question}")
            with positions[number % len(positions)], st.container(border=True, key=key):
                _question(panel, view, question, now)
    with st.container():
        if len(waiting) > _MOST:
            st.caption(f"{len(waiting) - _MOST} more questions follow when these are answered.")
        if view.run["status"] == "paused" and not waiting:
            _show_resuming(panel, view, expired)


def _question(panel: Panel, view: RunView, question: Asked, now: datetime) -> None:
    panel.notice(f"asks.{question.question}", title=visible(question.text), tone="yellow")
    panel.show(f"about.{question.question}", question_facts(question, now))
    _context(panel, question)
    if not panel.answers:
        st.caption("This command answers it.")
        st.code(command("answer", question.run_id, path=panel.path), language="bash")
        return
    form = form_of(question.schema)
    with st.form(
        panel.name(f"form.{question.question}"),
        border=False,
        enter_to_submit=False,
        clear_on_submit=False,
    ):
        for number, field in enumerate(form.fields or (form,)):
            _widget(panel, question, field, number)
        _by(panel, question)
        st.form_submit_button(
            "Answer",
            type="primary",
            key=panel.name(f"send.{question.question}"),
            on_click=_send,
            args=(panel, panel.flow_of(view.run["run_id"]), question, form),
        )
        refused = st.session_state.get(panel.name(f"refused.{question.question}"))
        if refused:
            panel.notice(
                f"refusal.{question.question}",
                *refused.split("\n"),
                title="Not taken: the question is still open",
                tone="red",
            )


def _context(panel: Panel, question: Asked) -> None:
    """The context of a question: long texts unchanged, the rest as JSON."""
    texts = {
        name: value
        for name, value in question.context.items()
        if isinstance(value, str) and ("\n" in value or len(value) > _LONG_TEXT)
    }
    for number, (name, text) in enumerate(texts.items()):
        panel.notice(
            f"context.{question.question}.{number}", cut(text, LONG), title=cut(name), tone="quote"
        )
    rest = {name: value for name, value in question.context.items() if name not in texts}
    if rest:
        shown = visible(json.dumps(rest, indent=2, ensure_ascii=False))
        height: int | Literal["content"] = 320 if len(shown) > _HIGH else "content"
        st.code(shown[:LONG], language="json", wrap_lines=True, height=height)


# -- the form -------------------------------------------------------------------------------------


def _name(panel: Panel, question: Asked, number: int | str) -> str:
    return panel.name(f"answer.{question.question}.{number}")


def _widget(panel: Panel, question: Asked, field: Field, number: int) -> None:
    label, key = label_of(field, number), _name(panel, question, number)
    st.session_state.setdefault(key, prefilled(field))
    about = ", ".join(filter(None, [field.description, field.limits])) if field.name else ""
    choices = list(_choices(field))
    if field.kind == "bool":
        st.radio(label, choices, index=None, key=key, horizontal=True)
    elif field.kind == "choice":
        shown = "Choose"
        st.selectbox(
            label, choices, index=None, key=key, format_func=cut, placeholder=shown, width=360
        )
    elif field.kind == "integer":
        st.number_input(label, value=None, step=1, key=key, width=360)
    elif field.kind == "number":
        st.number_input(label, value=None, step=0.1, format="%.6g", key=key, width=360)
    elif field.kind == "text" and field.is_line:
        st.text_input(label, key=key, width=360)
    elif field.kind == "text":
        st.text_area(label, key=key, height=90)
    else:
        example = '["one", "two"]' if field.schema.get("type") == "array" else '{"key": "value"}'
        st.text_area(label, key=key, height=90, placeholder=f"JSON, as in {example}")
    if about:
        panel.notice(f"help.{question.question}.{number}", about, tone="plain")


def _by(panel: Panel, question: Asked) -> None:
    key = _name(panel, question, "by")
    st.session_state.setdefault(key, st.session_state.get(panel.name("answered-by"), ""))
    st.text_input("Answered by", key=key, placeholder="your name, to be on record", width=360)


def _send(panel: Panel, flow: Flow | None, question: Asked, form: Field) -> None:
    """Record an answer, and set the message about it."""
    entered = {
        field.name: st.session_state.get(_name(panel, question, number))
        for number, field in enumerate(form.fields or (form,))
    }
    by = str(st.session_state.get(_name(panel, question, "by")) or "").strip()
    st.session_state[panel.name("answered-by")] = by
    refused = panel.name(f"refused.{question.question}")
    st.session_state.pop(refused, None)
    try:
        answer = answer_of(form, entered)
        problems = misfits(question.schema, answer)
        if problems:
            raise ValueError("\n".join(problems))
        number = question.question
        with WorkflowDB(panel.path) if flow is None else nullcontext(flow) as recipient:
            recipient.answer_json(question.run_id, answer, question=number, by=by or None)
        panel.set_message("heard", "green", f"Question {question.question} is answered.")
    except (PocoflowError, ValueError) as exc:
        # The form still shows it, unless the question was answered elsewhere.
        text = st.session_state[refused] = panel.error_text(exc, question.run_id)
        if _is_closed(panel, question):
            panel.set_message("heard", "red", f"Your answer was not taken: {text}")


def _is_closed(panel: Panel, asked: Asked) -> bool:
    """Whether a question is no longer open, so that its form is not shown."""
    with suppress(PocoflowError):
        pending = open_database(panel.path).pending()
        return not any(it.question == asked.question and it.is_open for it in pending)
    return False


# -- afterwards -----------------------------------------------------------------------------------


def _show_resuming(panel: Panel, view: RunView, expired: int) -> None:
    """How to resume a run that has no open question."""
    run_id = view.run["run_id"]
    passed = f"{expired} deadline{'s have' if expired != 1 else ' has'} passed" if expired else ""
    title = f"Nothing more can be answered: {passed}" if expired else "All questions are answered"
    flow = panel.flow_of(view.run["run_id"])
    if flow is not None:
        panel.notice("can-go-on", "The run can go on.", title=title)
        act, advice = partial(resume_here, flow, run_id), "It runs in the process of this monitor."
        panel.button("go-on", "Go on with the run", run_id, act, "heard", advice)
        return
    panel.notice(
        "can-go-on",
        "The run goes on where the code of its flow is: with this command, where FLOW is "
        "package.module:flow or path/file.py:flow, or by flow.recover() in a program.",
        title=title,
    )
    st.code(command("resume", run_id, "FLOW", path=panel.path), language="bash")


def show_answers(panel: Panel, view: RunView) -> None:
    """All questions of a run and their answers, by whom and when."""
    if not view.questions:
        panel.notice("no-questions", "This run has asked nothing.", tone="gray")
        return
    panel.show("answers", answers_table(view.questions))


# -- entries -------------------------------------------------------------------------------------

YES, NO, EMPTY = "Yes", "No", "Empty (null)"

_SAFE_INTEGER = 2**53 - 1


def _choices(field: Field) -> dict[str, object]:
    """The values that are chosen in the widget of a field, by their labels."""
    if field.kind == "bool":
        return {YES: True, NO: False, **({EMPTY: None} if field.takes_null else {})}
    return dict(zip(field.labels, field.choices, strict=True))


def label_of(field: Field, number: int = 0) -> str:
    """The label of the widget of a field: words only, as Streamlit reads labels as Markdown."""
    if not field.name:
        return "Your answer"
    words = re.sub(r"[\W_]+", " ", field.title or field.name).strip()
    label = words[:1].upper() + words[1:60] if words else f"Field {number + 1}"
    return label if field.is_required or field.kind == "bool" else f"{label} (optional)"


def prefilled(field: Field) -> object:
    """The initial entry in the widget of a field; ``None`` for nothing."""
    default = None if field.default is UNSET else field.default
    if field.kind == "json":
        return "" if default is None else json.dumps(default, indent=2, ensure_ascii=False)
    if choices := _choices(field):
        wanted = None if field.default is UNSET else json.dumps(default)
        return next((label for label in choices if json.dumps(choices[label]) == wanted), None)
    if field.kind == "text":
        return default if isinstance(default, str) else ""
    if isinstance(default, bool) or not isinstance(default, (int, float)):
        return None
    return default if abs(default) <= _SAFE_INTEGER else None


def answer_of(form: Field, entered: Mapping[str, object]) -> Any:
    """The answer from the entries of a form; an object by the names of its fields.

    Raises:
        ValueError: Names every field with an invalid entry.
    """
    if form.kind != "object":
        return value_of(form, entered[form.name])
    answer: dict[str, object] = {}
    problems = []
    for field in form.fields:
        try:
            value = value_of(field, entered[field.name])
        except ValueError as exc:
            problems.append(f"{field.name}: {exc}")
            continue
        if value is not UNSET:
            answer[field.name] = value
    if problems:
        raise ValueError("\n".join(problems))
    return answer


def value_of(field: Field, entry: Any) -> object:
    """The value of an entry; ``UNSET`` if the field is left out.

    Raises:
        ValueError: It is invalid.
    """
    if entry in (choices := _choices(field)):
        return choices[entry]
    if entry is None or (isinstance(entry, str) and not entry.strip()):
        return _empty_value(field)
    if field.kind == "text":
        return "" if entry == '""' else entry
    return read_json(entry) if field.kind == "json" else entry


def _empty_value(field: Field) -> object:
    if field.takes_null:
        return None
    if field.kind == "text" and field.default is not UNSET:
        return ""  # the default was deleted by the user
    return field.empty()
