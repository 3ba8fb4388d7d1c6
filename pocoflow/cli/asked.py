"""How questions are shown: as a table, one to be answered, with the answers of a run."""

from __future__ import annotations

import argparse
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


def table_of(questions: Sequence[Asked], now: datetime, *, runs: bool = False) -> list[str]:
    """A table of open questions; ``runs`` adds the run and the flow of each."""
    head = ("QUESTION", *(("RUN", "FLOW") if runs else ()), "NODE", "ASKED (UTC)", "UNTIL", "TEXT")
    rows = [
        (
            str(question.question),
            *((printable(question.run_id), one_line(question.flow_name, 30)) if runs else ()),
            node_path(_node_text(question)),
            moment(question.asked_at),
            _until(question, now),
            one_line(question.text, _TEXT),
        )
        for question in questions
    ]
    if not any(question.deadline for question in questions):
        rows = [row[:-2] + row[-1:] for row in rows]
        head = head[:-2] + head[-1:]
    return table([head, *rows], right=(0,))


def _until(question: Asked, now: datetime) -> str:
    if question.deadline is None:
        return ""
    return "too late" if question.is_expired(now.isoformat()) else moment(question.deadline)


def _node_text(question: Asked) -> str:
    return question.node if question.item is None else f"{question.node}, item {question.item}"


# -- one question ---------------------------------------------------------------------------------


def show_question(shown: Asked, path: str) -> Iterator[str]:
    """A question as shown before it is answered: its text, its origin and its context.

    Args:
        shown: The question.
        path: Its database.
    """
    full_command = command("questions", "--run", shown.run_id, "--format", "json", path=path)
    lines = shown.text.strip().split("\n")
    yield f"question {shown.question}: {printable(lines[0])}"
    yield from (f"  {printable(line)}".rstrip() for line in lines[1:])
    origin = f"run {printable(shown.run_id)}, node {printable(_node_text(shown))}"
    yield f"  {origin}, asked {moment(shown.asked_at)} UTC"
    if shown.deadline is not None:
        default = (
            "the node fails" if shown.default is None else f"{printable(shown.default)} counts"
        )
        yield f"  until {moment(shown.deadline)} UTC; then {default}"
    for name, value in shown.context.items():
        yield ""
        yield from _value(printable(name), value, full_command)


def _value(name: str, value: object, full_command: str) -> Iterator[str]:
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
        yield f"    ... ({len(text):,} characters; '{full_command}' has all)"


def history(questions: Sequence[Asked]) -> list[str]:
    """The questions of a run with their answers."""
    rows = []
    for it in questions:
        reply = "no answer" if it.is_closed else "open"
        if it.answer is not None:
            by = f" by {it.answered_by}" if it.answered_by else ""
            answer = json.dumps(json.loads(it.answer), ensure_ascii=False)
            reply = f"{one_line(answer, 80)}{one_line(by, 40)}"
        when = moment(it.answered_at)
        about = one_line(it.text, _TEXT)
        rows.append(("", str(it.question), node_path(_node_text(it)), about, reply, when))
    return table(rows, right=(1,))


# -- a run that waits -----------------------------------------------------------------------------


def show_paused(
    args: argparse.Namespace, questions: Sequence[Asked], now: datetime
) -> Iterator[str]:
    """The questions for which the run of a command waits, and how to answer them.

    Args:
        args: The arguments of the command.
        questions: The open questions of the run.
        now: The time of its database.
    """
    run_id = args.run_id
    if not questions:
        yield f"run {printable(run_id)} is paused, and all its questions are answered: resume it"
        return
    count = counted(len(questions), "question")
    yield f"run {printable(run_id)} is paused: {count} to be answered"
    yield from table_of(questions, now)
    flow = ("--flow", args.flow) if args.flow else ()
    yield f"answer with: {command('answer', run_id, *flow, path=args.db)}"
