"""``pocoflow questions``: list the open questions of runs."""

from __future__ import annotations

import argparse
import json

from pocoflow.cli.asked import table_of
from pocoflow.cli.database import add_file, find_run, open_database
from pocoflow.cli.output import printable


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow questions``."""
    parser.add_argument(
        "--run", metavar="RUN", help="only those of this run; the beginning of its id will do"
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="how to list (text)"
    )
    add_file(parser)
    parser.set_defaults(execute=list_questions)


def list_questions(args: argparse.Namespace) -> int:
    """List the questions that wait for an answer, the oldest first. 'pocoflow answer RUN' answers
    them.
    """
    with open_database(args.db) as db:
        run_id = None if args.run is None else find_run(db, args.run)["run_id"]
        questions = [question for question in db.pending() if run_id in (None, question.run_id)]
        now = db.now()
    if args.format == "json":
        print(json.dumps([question.as_json() for question in questions], indent=2))
    elif questions:
        print(*table_of(questions, now, runs=run_id is None), sep="\n")
    else:
        suffix = f" of run {printable(run_id)}" if run_id is not None else ""
        print(f"no open questions{suffix} in {printable(args.db)}")
    return 0
