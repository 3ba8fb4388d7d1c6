"""``pocoflow answer``: answer what a run asks, and go on with it."""

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
from pocoflow.errors import AnswerError, OtherFlowError
from pocoflow.flow.answering import questions_now
from pocoflow.flow.flow import Flow
from pocoflow.nodes.question import Asked
from pocoflow.values.callables import UNSET
from pocoflow.values.json_text import read_json
from pocoflow.views.forms import Field, form_of
from pocoflow.views.targets import (
    DATABASE,
    RELOCATIONS,
    TARGET_HELP,
    add_database,
    add_relocations,
    command,
    owner_of_runs,
    relocations_of,
    remedies,
)

_OVER = ("completed", "cancelled")


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow answer``."""
    parser.description = (
        "Answer what a run asks: the question is shown with its context, and the answer is asked "
        "for by its JSON schema, unless --value gives it. A wrong entry is asked for again; Ctrl-D "
        "and Ctrl-C leave the question open. If several questions are open they are asked one "
        "after another; where nobody is at a terminal, or with --value, --question says which one. "
        "With --flow the answer is also checked by its type, and the run goes on when no question "
        "is open any more."
    )
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
class _Desk:
    """Where answers are handed in: the database, by the flow if there is one."""

    database: WorkflowDB
    flow: Flow | None
    by: str | None

    def keep(self, one: Asked, value: object) -> None:
        """Check an answer and put it on record.

        Raises:
            AnswerError: It does not fit, or comes too late.
        """
        taker = self.database if self.flow is None else self.flow
        taker.answer_json(one.run_id, value, question=one.question, by=self.by)

    def refuse(self, one: Asked) -> None:
        """Refuse a question that takes no answer any more.

        Raises:
            AnswerError: It was answered, its deadline has passed, or its run has ended.
        """
        run = self.database.get_run(one.run_id)
        if run is not None and run["status"] in _OVER:
            raise AnswerError(f"run {one.run_id!r} is {run['status']}: it takes no answer")
        for now in self.asked(one.run_id):
            if now.question == one.question:
                refuse_closed(now)
        refuse_expired(one, self.database.now().isoformat())

    def asked(self, run_id: str) -> list[Asked]:
        """The questions of a run; with the flow one is open if its answer does not fit any more."""
        if self.flow is None:
            return self.database.get_questions(run_id)
        return questions_now(self.database, self.flow.graph, run_id)

    def left(self, run_id: str) -> list[Asked]:
        """The questions of a run that are open."""
        return [one for one in self.asked(run_id) if one.is_open]


def answer(args: argparse.Namespace) -> int:
    """Answer one question, or all that are open, and go on with the run if the flow is given."""
    by = args.by if args.by is not None else _login()
    if args.flow:
        flow = owner_of_runs(args)
        db = flow.database
        args.run_id = find_run(db, args.run_id)["run_id"]
        try:
            flow.check_owner(args.run_id)
            return _answer(_Desk(db, flow, by), args, args.db)
        except (AnswerError, OtherFlowError) as exc:
            told = remedies(exc, args.run_id, args.flow, db.path, args.db, RELOCATIONS)
            lines = (str(exc), *told)
            raise CommandError("\n".join(lines), code=1) from exc
    path = args.db or DATABASE
    with open_database(path, read_only=False) as db:
        args.run_id = find_run(db, args.run_id)["run_id"]
        return _answer(_Desk(db, None, by), args, path)


def _answer(desk: _Desk, args: argparse.Namespace, path: str | None) -> int:
    chosen = _choose(desk, args)
    if args.value is not UNSET:
        desk.keep(chosen[0], args.value)
        print(_recorded(chosen[0]))
    else:
        _ask_all(desk, chosen)
    now = desk.database.now()
    left = [one for one in desk.left(args.run_id) if not one.is_expired(now.isoformat())]
    if left:
        print(*show_paused(args.run_id, left, now, path, args.flow), sep="\n")
        return PAUSED if desk.flow is not None else 0
    if desk.flow is not None:
        return resume_and_report(desk.flow, args.run_id, args.flow, path, relocations_of(args))
    print(f"go on with: {command('resume', args.run_id, 'FLOW', path=path)}")
    return 0


def _login() -> str | None:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a system that has no name for whoever this is
        return None


# -- which questions ------------------------------------------------------------------------------


def _choose(desk: _Desk, args: argparse.Namespace) -> list[Asked]:
    """The questions to be answered.

    Raises:
        CommandError: There is no such run or question, or it has to be said which.
        AnswerError: The question takes no answer any more.
    """
    run = find_run(desk.database, args.run_id)
    if args.question is not None:
        try:
            found = choose(desk.asked(args.run_id), args.run_id, args.question)
        except AnswerError as exc:
            raise CommandError(str(exc)) from exc
        desk.refuse(found)
        return [found]
    waiting = [] if run["status"] in _OVER else desk.left(args.run_id)
    if not waiting:
        raise CommandError(_asks_nothing(desk, run), code=1)
    if len(waiting) == 1:
        desk.refuse(waiting[0])
    elif args.value is not UNSET or not sys.stdin.isatty():
        raise CommandError(
            f"run {args.run_id!r} has {len(waiting)} open questions: say which with --question N\n"
            + "\n".join(table_of(waiting, desk.database.now()))
        )
    return waiting


def _asks_nothing(desk: _Desk, run: RunRow) -> str:
    told = f"run {run['run_id']!r} is {run['status']} and asks nothing"
    if desk.flow is None and run["status"] not in _OVER and desk.asked(run["run_id"]):
        return f"{told} (an answer that its flow cannot take is replaced with --flow)"
    return told


# -- asking ---------------------------------------------------------------------------------------


def _ask_all(desk: _Desk, chosen: Sequence[Asked]) -> None:
    with suppress(ImportError):  # lines can be edited, but not on every system
        importlib.import_module("readline")
    for number, one in enumerate(chosen):
        if number:
            print()
        try:
            _ask(desk, one)
        except (EOFError, KeyboardInterrupt) as exc:
            print()
            code = 130 if isinstance(exc, KeyboardInterrupt) else 1
            raise CommandError(
                f"no answer was given: question {one.question} stays open", code=code
            ) from None
        except AnswerError as exc:
            if len(chosen) == 1:
                raise
            print(printable(str(exc)))  # somebody was quicker, or it is too late; on to the next


def _ask(desk: _Desk, one: Asked) -> None:
    """Ask for an answer until there is one that is taken.

    Raises:
        EOFError: The input is at its end.
        AnswerError: No answer is taken any more.
    """
    desk.refuse(one)
    print(*show_question(one, desk.database.path), "", sep="\n")
    form = form_of(one.schema)
    while True:
        value = _entered(form)
        try:
            desk.keep(one, value)
        except AnswerError as exc:
            desk.refuse(one)
            print(f"  {printable(str(exc))}")
            continue
        print(_recorded(one))
        return


def _recorded(one: Asked) -> str:
    return f"question {one.question} of run {printable(one.run_id)} is answered"


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
    """Ask for a value until there is one that the schema allows.

    Raises:
        EOFError: The input is at its end.
    """
    if field.kind != "object":
        return _ask_one(field)
    return {inner.name: value for inner in field.fields if (value := _ask_one(inner)) is not UNSET}


def _ask_one(field: Field) -> object:
    for line in _about(field):
        print(line)
    while True:
        line = input(_prompt(field))
        try:
            value = field.read(line)
        except ValueError as exc:
            print(f"  {printable(str(exc))}")
            continue
        wrong = [] if value is UNSET else misfits(field.schema, value)
        if not wrong:
            return value
        print(*(f"  {printable(one)}" for one in wrong), sep="\n")


def _about(field: Field) -> Iterator[str]:
    """What is shown once, before the line to be filled in."""
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
