"""How questions are shown: a table of them, one to be answered, the answers of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from pocoflow.cli.output import moment, node_path, one_line, printable, table
from pocoflow.messages import counted
from pocoflow.nodes.question import Asked
from pocoflow.views.targets import command

PAUSED = 3
"""The exit code of a command whose run waits for answers."""

_TEXT = 60
_LINE = 90
_CONTEXT = 20_000


def table_of(asked: Sequence[Asked], now: datetime, *, runs: bool = False) -> list[str]:
    """A table of open questions; ``runs`` adds the run and the flow of each."""
    head = ("QUESTION", *(("RUN", "FLOW") if runs else ()), "NODE", "ASKED (UTC)", "UNTIL", "TEXT")
    rows = [
        (
            str(one.question),
            *((printable(one.run_id), one_line(one.flow_name, 30)) if runs else ()),
            node_path(_position(one)),
            moment(one.asked_at),
            _until(one, now),
            one_line(one.text, _TEXT),
        )
        for one in asked
    ]
    if not any(one.deadline for one in asked):
        rows = [row[:-2] + row[-1:] for row in rows]
        head = head[:-2] + head[-1:]
    return table([head, *rows], right=(0,))


def _until(one: Asked, now: datetime) -> str:
    if one.deadline is None:
        return ""
    return "too late" if one.is_expired(now.isoformat()) else moment(one.deadline)


def _position(one: Asked) -> str:
    return one.node if one.item is None else f"{one.node}, item {one.item}"


# -- one question ---------------------------------------------------------------------------------


def show_question(one: Asked, path: str) -> Iterator[str]:
    """A question as a person reads it before answering: text, where it comes from, context.

    Args:
        one: The question.
        path: Its database.
    """
    whole = command("questions", "--run", one.run_id, "--format", "json", path=path)
    lines = one.text.strip().split("\n")
    yield f"question {one.question}: {printable(lines[0])}"
    yield from (f"  {printable(line)}".rstrip() for line in lines[1:])
    asked = moment(one.asked_at)
    yield f"  run {printable(one.run_id)}, node {printable(_position(one))}, asked {asked} UTC"
    if one.deadline is not None:
        default = "the node fails" if one.default is None else f"{printable(one.default)} counts"
        yield f"  until {moment(one.deadline)} UTC; then {default}"
    for name, value in one.context.items():
        yield ""
        yield from _value(printable(name), value, whole)


def _value(name: str, value: object, whole: str) -> Iterator[str]:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(name) + len(text) < _LINE and "\n" not in text:
        yield f"  {name}: {printable(text)}"
        return
    if not isinstance(value, str):
        text = json.dumps(value, indent=2, ensure_ascii=False)
    yield f"  {name}:"
    for line in text[:_CONTEXT].strip("\n").split("\n"):
        yield f"    {printable(line)}".rstrip()
    if len(text) > _CONTEXT:
        yield f"    ... ({len(text):,} characters; '{whole}' has all)"


def history(asked: Sequence[Asked]) -> list[str]:
    """The questions of a run with their answers."""
    rows = []
    for one in asked:
        told = "no answer" if one.is_closed else "open"
        if one.answer is not None:
            by = f" by {one.answered_by}" if one.answered_by else ""
            answer = json.dumps(json.loads(one.answer), ensure_ascii=False)
            told = f"{one_line(answer, 80)}{one_line(by, 40)}"
        when = moment(one.answered_at)
        about = one_line(one.text, _TEXT)
        rows.append(("", str(one.question), node_path(_position(one)), about, told, when))
    return table(rows, right=(1,))


# -- a run that waits -----------------------------------------------------------------------------


def show_paused(
    run_id: str,
    asked: Sequence[Asked],
    now: datetime,
    path: str | None,
    target: str | None = None,
) -> Iterator[str]:
    """That a run waits, for what, and how to answer.

    Args:
        run_id: The run.
        asked: Its open questions.
        now: The time of its database.
        path: Its database, if that has to be named.
        target: Where its flow is, if that is known.
    """
    if not asked:
        yield f"run {printable(run_id)} is paused, and all its questions are answered: resume it"
        return
    count = counted(len(asked), "question")
    yield f"run {printable(run_id)} is paused: {count} to be answered"
    yield from table_of(asked, now)
    flow = ("--flow", target) if target else ()
    yield f"answer with: {command('answer', run_id, *flow, path=path)}"
