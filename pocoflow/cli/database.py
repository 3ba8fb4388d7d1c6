"""The database that a command works on, and the run in it that it names."""

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
"""So many runs are not counted any more."""

MOST_RUNS = 10**9
"""No database has as many, and SQLite takes no number that is much larger."""


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add what names the database of a command that knows no flow."""
    add_database(parser, f"the database ({DATABASE})", DATABASE)


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add ``--flow``, ``--thread`` and ``--label`` to the arguments of a command."""
    parser.add_argument("--flow", metavar="F", help="only runs of this flow")
    parser.add_argument("--thread", metavar="T", help="only runs of this run thread")
    add_repeated(parser, "--label", "KEY=VALUE", label, "only runs that have this label")


def label(text: str) -> tuple[str, str]:
    """A label that an option gives.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    key, found, value = text.partition("=")
    if not (key and found and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, as in user=ann")
    return key, value


def run_count(text: str, least: int = 1) -> int:
    """A number of runs that an option gives.

    Raises:
        argparse.ArgumentTypeError: It is none, or below ``least``.
    """
    number = int(min(float(text), MOST_RUNS)) if text.isdecimal() else -1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return number


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """What these arguments say, for ``list_runs`` and ``prune``."""
    return {"flow_name": args.flow, "thread": args.thread, "labels": dict(args.label)}


def open_database(path: str, *, read_only: bool = True) -> WorkflowDB:
    """Open a database, which must be there.

    Raises:
        CommandError: There is no such file, or it is not a database of this library.
    """
    from pocoflow.db import WorkflowDB  # not loaded by the commands that open none

    check_there(path)
    try:
        return WorkflowDB(path, read_only=read_only)
    except (DatabaseFileError, DatabaseLostError, DefinitionError) as exc:
        raise CommandError(str(exc)) from exc


def failed_left(db: WorkflowDB, flows: Iterable[str]) -> str:
    """A line on the failed runs of flows, which no process takes by itself; empty without any."""
    found = (db.list_runs(_MANY, status="failed", flow_name=flow) for flow in flows)
    failed = sum(run["error_type"] != "Interrupted" for runs in found for run in runs)
    if not failed:
        return ""
    some = "many failed runs" if failed >= _MANY else counted(failed, "failed run")
    listing = command("runs", "list", "--status", "failed", path=db.path)
    return f"{some} {'is' if failed == 1 else 'are'} left: {listing}"


def find_run(db: WorkflowDB, given: str) -> RunRow:
    """The row of the run of an id, or of the only one whose id begins so.

    Raises:
        CommandError: There is no such run, and says which id is the nearest; or there are several.
    """
    from pocoflow.db.run_reports import runs_beginning

    run = db.get_run(given)
    if run is not None:
        return run
    found = runs_beginning(db, given, _CANDIDATES + 1) if given else []
    if len(found) > 1:
        shown = [f"  {printable(one)}" for one in found[:_CANDIDATES]]
        more = ["  ..."] if len(found) > _CANDIDATES else []
        raise CommandError("\n".join([f"several runs begin with {given!r}:", *shown, *more]))
    if found:
        return _row(db, found[0])
    return _row(db, given)


def _row(db: WorkflowDB, run_id: str) -> RunRow:
    try:
        db.number(run_id)
    except RunNotFoundError as exc:  # it suggests the nearest id
        listing = command("runs", "list", path=db.path)
        raise CommandError(f"{exc} ('{listing}' shows those it has)") from exc
    run = db.get_run(run_id)
    if run is None:
        raise CommandError(f"database {db.path} has run {run_id!r} no more")
    return run
