"""``pocoflow questions``: what runs ask."""

from __future__ import annotations

import argparse
import json

from pocoflow.cli.asked import table_of
from pocoflow.cli.output import CommandError, printable
from pocoflow.cli.runs import open_database, unknown_run

__all__ = ["register"]


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow questions``."""
    parser.description = (
        "List the questions that wait for an answer, the oldest first. 'pocoflow answer RUN' "
        "answers them."
    )
    parser.add_argument("--run", metavar="RUN", help="only those of this run")
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="how to list (text)"
    )
    parser.add_argument(
        "--db", metavar="PATH", default="pocoflow.db", help="the database (pocoflow.db)"
    )
    parser.set_defaults(execute=list_questions)


def list_questions(args: argparse.Namespace) -> int:
    """Print the open questions."""
    with open_database(args.db) as db:
        if args.run is not None and db.get_run(args.run) is None:
            raise CommandError(unknown_run(db, args.run))
        asked = [one for one in db.pending() if args.run in (None, one.run_id)]
    if args.format == "json":
        print(json.dumps([one.as_json() for one in asked], indent=2))
    elif asked:
        print(*table_of(asked, runs=args.run is None), sep="\n")
    else:
        of = f" of run {printable(args.run)}" if args.run is not None else ""
        print(f"no open questions{of} in {printable(args.db)}")
    return 0
