"""``pocoflow questions``: what runs ask."""

from __future__ import annotations

import argparse
import json

from pocoflow.cli.asked import table_of
from pocoflow.cli.database import add_file, find_run, open_database
from pocoflow.cli.output import printable


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow questions``."""
    parser.description = (
        "List the questions that wait for an answer, the oldest first. 'pocoflow answer RUN' "
        "answers them."
    )
    parser.add_argument(
        "--run", metavar="RUN", help="only those of this run; the beginning of its id will do"
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="how to list (text)"
    )
    add_file(parser)
    parser.set_defaults(execute=list_questions)


def list_questions(args: argparse.Namespace) -> int:
    """Print the open questions."""
    with open_database(args.db) as db:
        run_id = None if args.run is None else find_run(db, args.run)["run_id"]
        asked = [one for one in db.pending() if run_id in (None, one.run_id)]
        now = db.now()
    if args.format == "json":
        print(json.dumps([one.as_json() for one in asked], indent=2))
    elif asked:
        print(*table_of(asked, now, runs=run_id is None), sep="\n")
    else:
        of = f" of run {printable(run_id)}" if run_id is not None else ""
        print(f"no open questions{of} in {printable(args.db)}")
    return 0
