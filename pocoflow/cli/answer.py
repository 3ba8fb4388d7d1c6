"""``pocoflow answer``: answer the questions of a run, and resume it."""

from __future__ import annotations

import argparse
import getpass
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pocoflow.cli.asked import PAUSED, show_paused, show_question, table_of
from pocoflow.cli.database import RUN_HELP, find_run, open_database
from pocoflow.cli.output import CommandError, one_line, printable
from pocoflow.cli.resume import resume_and_report
from pocoflow.db import RunRow, WorkflowDB
from pocoflow.db.jsonschemas import misfits
from pocoflow.db.question_rows import choose, refuse_closed, refuse_expired
from pocoflow.errors import AnswerError
from pocoflow.flow.answering import questions_now
from pocoflow.flow.flow import Flow
from pocoflow.nodes.question import Asked
from pocoflow.values.callables import UNSET
from pocoflow.values.json_text import read_json
from pocoflow.views.forms import Field, form_of
from pocoflow.views.targets import (
    DATABASE,
    TARGET_HELP,
    add_database,
    add_relocations,
    command,
    owner_of_runs,
)

_OVER = ("completed", "cancelled")


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow answer``."""
    parser.add_argument("run_id", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--question", metavar="N", type=int, help="the number of the question, if several are open"
    )
    parser.add_argument(
        "--value", metavar="JSON", type=_value, default=UNSET, help="the answer, instead of asking"
    )
    parser.add_argument("--by", metavar="NAME", help="who answers (your login name)")
    parser.add_argument("--flow", metavar="TARGET", help=TARGET_HELP)
    add_database(parser, f"the database (that of the flow, or {DATABASE})")
    add_relocations(parser)
    parser.set_defaults(execute=answer)


def _value(text: str) -> object:
    try:
        return read_json(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(
            f"{text!r}: {exc}; a text is written with quotes, as in '\"yes\"'"
        ) from exc


@dataclass(frozen=True, slots=True)
class _Recipient:
    """The recipient of answers: the flow if there is one, else the database."""

    database: WorkflowDB
    flow: Flow | None
    by: str | None

    def record(self, question: Asked, value: object) -> None:
        """Check an answer and record it.

        Raises:
            AnswerError: It does not fit, or is too late.
        """
        taker = self.database if self.flow is None else self.flow
        taker.answer_json(question.run_id, value, question=question.question, by=self.by)

    def refuse(self, question: Asked) -> None:
        """Refuse a question that can no longer be answered.

        Raises:
            AnswerError: It was answered, its deadline has passed, or its run has ended.
        """
        run = self.database.get_run(question.run_id)
        if run is not None and run["status"] in _OVER:
            raise AnswerError(f"run {question.run_id!r} is {run['status']}: it takes no answer")
        for current in self.questions(question.run_id):
            if current.question == question.question:
                refuse_closed(current)
        refuse_expired(question, self.database.now().isoformat())

    def questions(self, run_id: str) -> list[Asked]:
        """The questions of a run; with a flow, one whose answer no longer fits is open."""
        if self.flow is None:
            return self.database.get_questions(run_id)
        return questions_now(self.database, self.flow.graph, run_id)

    def open(self, run_id: str) -> list[Asked]:
        """The open questions of a run."""
        return [question for question in self.questions(run_id) if question.is_open]


def answer(args: argparse.Namespace) -> int:
    """Answer the questions of a run: each question is shown with its context, and the answer is
    requested by its JSON schema, unless --value gives it. A wrong entry is requested again; Ctrl-D
    and Ctrl-C leave the question open. If several questions are open, they are asked one after
    another; without a terminal, or with --value, --question says which one. With --flow the answer
    is also checked against its type, and the run is resumed when no question is open any more.
    """
    by = args.by if args.by is not None else _login()
    if args.flow:
        flow = owner_of_runs(args)
        db = flow.database
        args.run_id = find_run(db, args.run_id)["run_id"]
        flow.check_owner(args.run_id)
        return _answer(_Recipient(db, flow, by), args)
    with open_database(args.db or DATABASE, read_only=False) as db:
        args.run_id = find_run(db, args.run_id)["run_id"]
        return _answer(_Recipient(db, None, by), args)


def _answer(recipient: _Recipient, args: argparse.Namespace) -> int:
    chosen = _choose(recipient, args)
    if args.value is not UNSET:
        recipient.refuse(chosen[0])
        recipient.record(chosen[0], args.value)
        print(_recorded(chosen[0]))
    else:
        _ask_all(recipient, chosen)
    now = recipient.database.now()
    waiting = [it for it in recipient.open(args.run_id) if not it.is_expired(now.isoformat())]
    if waiting:
        print(*show_paused(args, waiting, now), sep="\n")
        return PAUSED if recipient.flow is not None else 0
    if recipient.flow is not None:
        return resume_and_report(recipient.flow, args)
    print(f"go on with: {command('resume', args.run_id, 'FLOW', path=args.db)}")
    return 0


def _login() -> str | None:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a system without a name for the user
        return None


# -- which questions ------------------------------------------------------------------------------


def _choose(recipient: _Recipient, args: argparse.Namespace) -> list[Asked]:
    """The questions to be answered.

    Raises:
        CommandError: There is no such run or question, or it must be named.
    """
    run = find_run(recipient.database, args.run_id)
    if args.question is not None:
        try:
            return [choose(recipient.questions(args.run_id), args.run_id, args.question)]
        except AnswerError as exc:
            raise CommandError(str(exc)) from exc
    waiting = [] if run["status"] in _OVER else recipient.open(args.run_id)
    if not waiting:
        raise CommandError(_asks_nothing(recipient, run), code=1)
    if len(waiting) > 1 and (args.value is not UNSET or not sys.stdin.isatty()):
        raise CommandError(
            f"run {args.run_id!r} has {len(waiting)} open questions: say which with --question N\n"
            + "\n".join(table_of(waiting, recipient.database.now()))
        )
    return waiting


def _asks_nothing(recipient: _Recipient, run: RunRow) -> str:
    text = f"run {run['run_id']!r} is {run['status']} and asks nothing"
    if recipient.flow is None and run["status"] not in _OVER and recipient.questions(run["run_id"]):
        return f"{text} (an answer that its flow cannot take is replaced with --flow)"
    return text


# -- asking ---------------------------------------------------------------------------------------


def _ask_all(recipient: _Recipient, chosen: Sequence[Asked]) -> None:
    with suppress(ImportError):  # for editing lines; not on every system
        importlib.import_module("readline")
    for number, question in enumerate(chosen):
        if number:
            print()
        try:
            _ask(recipient, question)
        except (EOFError, KeyboardInterrupt) as exc:
            print()
            code = 130 if isinstance(exc, KeyboardInterrupt) else 1
            raise CommandError(
                f"no answer was given: question {question.question} stays open", code=code
            ) from None
        except AnswerError as exc:
            if len(chosen) == 1:
                raise
            print(printable(str(exc)))  # answered elsewhere, or too late; continue with the next


def _ask(recipient: _Recipient, question: Asked) -> None:
    """Ask for an answer until one is accepted.

    Raises:
        EOFError: The input is at its end.
        AnswerError: The question can no longer be answered.
    """
    recipient.refuse(question)
    print(*show_question(question, recipient.database.path), "", sep="\n")
    form = form_of(question.schema)
    while True:
        value = _entered(form)
        try:
            recipient.record(question, value)
        except AnswerError as exc:
            recipient.refuse(question)
            print(f"  {printable(str(exc))}")
            continue
        print(_recorded(question))
        return


def _recorded(question: Asked) -> str:
    return f"question {question.question} of run {printable(question.run_id)} is answered"


# -- at a terminal -------------------------------------------------------------------------------

_DEFAULT = 40

_WORDS = {
    "bool": "y/n",
    "integer": "whole number",
    "number": "number",
    "text": "text",
    "json": "JSON",
}


def _entered(field: Field) -> object:
    """Ask for a value until the schema allows it.

    Raises:
        EOFError: The input is at its end.
    """
    if field.kind != "object":
        return _ask_value(field)
    return {part.name: value for part in field.fields if (value := _ask_value(part)) is not UNSET}


def _ask_value(field: Field) -> object:
    for line in _about(field):
        print(line)
    while True:
        line = input(_prompt(field))
        try:
            value = field.read(line)
        except ValueError as exc:
            print(f"  {printable(str(exc))}")
            continue
        problems = [] if value is UNSET else misfits(field.schema, value)
        if not problems:
            return value
        print(*(f"  {printable(problem)}" for problem in problems), sep="\n")


def _about(field: Field) -> Iterator[str]:
    """The lines that are shown once, before the prompt."""
    if field.name and field.description:
        yield f"{printable(field.name)}: {printable(field.description)}"
    for number, label in enumerate(field.labels, start=1):
        yield f"  {number if field.is_numbered else '-':>2}  {one_line(label, 100)}"


def _prompt(field: Field) -> str:
    if field.kind == "choice":
        many = len(field.choices)
        parts = [f"1-{many}" if field.is_numbered and many > 1 else "one of these"]
    else:
        parts = [_WORDS[field.kind]]
    if field.limits:
        parts.append(printable(field.limits))
    if field.default is not UNSET:
        parts.append(f"empty: {_short(field)}")
    elif field.takes_null:
        parts.append("empty: null")
    elif not field.is_required:
        parts.append("empty: leave it out")
    return f"{one_line(field.name, 40) if field.name else 'answer'} ({', '.join(parts)}): "


def _short(field: Field) -> str:
    if field.kind == "choice" and field.default in field.choices:
        return one_line(field.labels[field.choices.index(field.default)], _DEFAULT)
    if field.kind == "bool":
        return "y" if field.default else "n"
    return one_line(json.dumps(field.default, ensure_ascii=False), _DEFAULT)
