"""The database of a command, and the run in it that the command names."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pocoflow.cli.output import CommandError, printable
from pocoflow.errors import (
    DatabaseFileError,
    DatabaseLostError,
    DefinitionError,
    RunNotFoundError,
)
from pocoflow.messages import counted
from pocoflow.views.targets import DATABASE, add_database, add_repeated, check_there, command

if TYPE_CHECKING:
    from pocoflow.db import RunRow, WorkflowDB

RUN_HELP = "the run's id, as 'runs list' shows it, or its beginning"

_CANDIDATES = 10

_MANY = 1000
"""From this number on, runs are not counted exactly."""

MOST_RUNS = 10**9
"""More than any database has, but not too large for SQLite."""


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the database of a command without a flow."""
    add_database(parser, f"the database ({DATABASE})", DATABASE)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add ``--flow``, ``--thread`` and ``--label`` to the arguments of a command."""
    parser.add_argument("--flow", metavar="F", help="only runs of this flow")
    parser.add_argument("--thread", metavar="T", help="only runs of this run thread")
    add_repeated(parser, "--label", "KEY=VALUE", label, "only runs that have this label")


def label(text: str) -> tuple[str, str]:
    """The label in the value of an option.

    Raises:
        argparse.ArgumentTypeError: It is not a label.
    """
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, as in user=ann")
    return key, value


def run_count(text: str, least: int = 1) -> int:
    """The number of runs in the value of an option.

    Raises:
        argparse.ArgumentTypeError: It is not a number, or below ``least``.
    """
    number = int(min(float(text), MOST_RUNS)) if text.isdecimal() else -1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return number


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """The filters in these arguments, for ``list_runs`` and ``prune``."""
    return {"flow_name": args.flow, "thread": args.thread, "labels": dict(args.label)}


def open_database(path: str, *, read_only: bool = True, creates: bool = False) -> WorkflowDB:
    """Open a database, which exists unless the command ``creates`` it.

    Raises:
        CommandError: There is no such file, or it is not a database of this library.
    """
    from pocoflow.db import WorkflowDB  # not loaded by commands without a database

    if not creates:
        check_there(path)
    try:
        return WorkflowDB(path, read_only=read_only)
    except (DatabaseFileError, DatabaseLostError, DefinitionError) as exc:
        raise CommandError(str(exc)) from exc


def failed_left(db: WorkflowDB, flows: Iterable[str]) -> str:
    """A line about failed runs of flows, which no worker resumes; empty if there are none."""
    pages = (db.list_runs(_MANY, status="failed", flow_name=flow) for flow in flows)
    failed = sum(run["error_type"] != "Interrupted" for runs in pages for run in runs)
    if not failed:
        return ""
    number = "many failed runs" if failed >= _MANY else counted(failed, "failed run")
    listing = command("runs", "list", "--status", "failed", path=db.path)
    return f"{number} {'is' if failed == 1 else 'are'} left: {listing}"


def find_run(db: WorkflowDB, given: str) -> RunRow:
    """The row of the run with this id, or of the only run whose id begins with it.

    Raises:
        CommandError: There is no such run (the message suggests the closest id), or several.
    """
    from pocoflow.db.run_reports import runs_beginning

    run = db.get_run(given)
    if run is not None:
        return run
    candidates = runs_beginning(db, given, _CANDIDATES + 1) if given else []
    if len(candidates) > 1:
        shown = [f"  {printable(run_id)}" for run_id in candidates[:_CANDIDATES]]
        more = ["  ..."] if len(candidates) > _CANDIDATES else []
        raise CommandError("\n".join([f"several runs begin with {given!r}:", *shown, *more]))
    run_id = candidates[0] if candidates else given
    try:
        db.number(run_id)
    except RunNotFoundError as exc:  # it suggests the nearest id
        listing = command("runs", "list", path=db.path)
        raise CommandError(f"{exc} ('{listing}' shows those it has)") from exc
    run = db.get_run(run_id)
    if run is None:
        raise CommandError(f"database {db.path} has run {run_id!r} no more")
    return run
