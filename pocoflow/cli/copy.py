"""``pocoflow copy``: copy runs from one database to another."""

from __future__ import annotations

import argparse

from pocoflow.cli.database import MOST_RUNS, add_filters, chosen, open_database
from pocoflow.cli.output import printable
from pocoflow.db import STATUSES
from pocoflow.db.copying import copy_runs
from pocoflow.messages import counted
from pocoflow.views.targets import check_there, named_database


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow copy``."""
    where = "a path, a postgresql:// URL, or env:NAME for the environment variable that has it"
    parser.add_argument("source", metavar="FROM", type=named_database, help=where)
    parser.add_argument("target", metavar="TO", type=named_database, help="likewise")
    add_filters(parser)
    parser.add_argument("--status", choices=STATUSES, help="only runs that read as this")
    parser.set_defaults(execute=copy)


def copy(args: argparse.Namespace) -> int:
    """Copy runs from one database to another, a file or a PostgreSQL server, with their whole
    record: they can be resumed there like here. A run that is active is left out, and so is a run
    whose id is in the target already, so the command may be repeated. Ends with 1 if a run was
    active. If both databases have a run, make sure that it is resumed in only one of them.
    """
    check_there(args.source, "FROM is a file that is there, or a server")
    with (
        open_database(args.source) as source,
        open_database(args.target, read_only=False, creates=True) as target,
    ):
        runs = source.list_runs(MOST_RUNS, status=args.status, **chosen(args))
        result = copy_runs(source, target, [run["run_id"] for run in reversed(runs)])
    copied = counted(len(result.copied), "run")
    print(f"copied {copied} from {printable(args.source)} to {printable(args.target)}")
    if not runs:
        print("no run there matches: pocoflow runs list shows the flows, threads and labels")
    if result.existing:
        print(f"{counted(len(result.existing), 'run')} left out: there already")
    for run_id in result.at_work:
        print(f"run {printable(run_id)} is at work, and was left out")
    return 1 if result.at_work else 0
