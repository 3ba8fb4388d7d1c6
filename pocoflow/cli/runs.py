"""``pocoflow runs``: list the runs in a database, and cancel them."""

from __future__ import annotations

import argparse
import json
from datetime import datetime

from pocoflow.cli.database import (
    RUN_HELP,
    add_file,
    add_filters,
    chosen,
    find_run,
    open_database,
    run_count,
)
from pocoflow.cli.output import CommandError, cut_last, duration, moment, printable, table, width
from pocoflow.cli.show import as_json, show_run
from pocoflow.db import STATUSES, RunRow
from pocoflow.db.run_reports import waiting
from pocoflow.views.runs import describe, labels_of, seconds, waits_for, waits_for_resume


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow runs``."""
    parser.description = "List the runs in a database, show one, or ask one to stop."
    parts = parser.add_subparsers(metavar="list|show|cancel", required=True, dest="part")

    listing = parts.add_parser("list", help="the newest runs")
    listing.add_argument(
        "--limit", metavar="N", type=run_count, default=20, help="at most N runs (20)"
    )
    listing.add_argument(
        "--status",
        metavar="S",
        type=_status,
        choices=STATUSES,
        help=f"only runs of this status: {', '.join(STATUSES)}",
    )
    add_filters(listing)
    listing.set_defaults(execute=list_runs)

    what = "one run: its events, questions, errors and last store"
    showing = parts.add_parser("show", help=what)
    showing.add_argument("run_id", metavar="RUN_ID", help=RUN_HELP)
    showing.set_defaults(execute=show_run)

    cancelling = parts.add_parser("cancel", help="ask a run to stop")
    cancelling.add_argument("run_id", metavar="RUN_ID", help=RUN_HELP)
    cancelling.set_defaults(execute=cancel_run)

    for part, what in ((listing, "list"), (showing, "show")):
        part.add_argument(
            "--format", choices=("text", "json"), default="text", help=f"how to {what} (text)"
        )
    for part in (listing, showing, cancelling):
        add_file(part)


def _status(text: str) -> str:
    if text == "interrupted":
        raise argparse.ArgumentTypeError("runs that were interrupted are failed: --status failed")
    return text


# -- cancel ---------------------------------------------------------------------------------------


def cancel_run(args: argparse.Namespace) -> int:
    """Ask a run, in any process, to stop after its current step; a run that no process runs, as it
    is queued, paused or interrupted, is cancelled at once. It can be resumed.
    """
    with open_database(args.db) as db:
        run = find_run(db, args.run_id)
    run_id = run["run_id"]
    waits = run["status"] in ("queued", "paused") or run["error_type"] == "Interrupted"
    if run["status"] != "running" and not waits:
        raise CommandError(f"run {run_id!r} is {run['status']}, not running", code=1)
    with open_database(args.db, read_only=False) as db:
        was_requested = db.request_cancel(run_id)
    done = "is cancelled" if waits else "was asked to stop after its step"
    outcome = done if was_requested else "has just gone on" if waits else "has just ended"
    print(f"run {printable(run_id)} {outcome}")
    return 0


# -- list -----------------------------------------------------------------------------------------


def list_runs(args: argparse.Namespace) -> int:
    """List runs, the newest first."""
    with open_database(args.db) as db:
        runs = db.list_runs(args.limit + 1, status=args.status, **chosen(args))
        is_paused = any(run["status"] == "paused" for run in runs)
        questions = waiting(db) if is_paused else {}
        now = db.now()
    listed = [(run, questions.get(run["run_id"], 0)) for run in runs[: args.limit]]
    if args.format == "json":
        objects = [as_json(run) | {"open_questions": count} for run, count in listed]
        print(json.dumps(objects, indent=2))
        return 0
    if not runs:
        kind = f"{args.status} runs" if args.status else "runs"
        flow = f" of flow {printable(args.flow)}" if args.flow is not None else ""
        thread = f" of run thread {printable(args.thread)}" if args.thread is not None else ""
        labels = f" with {printable(labels_of(dict(args.label)))}" if args.label else ""
        print(f"no {kind}{flow}{thread}{labels} in {printable(args.db)}")
        return 0
    head = ("RUN", "STATUS", "STARTED (UTC)", "TIME", "STEPS", "NODE")
    rows = cut_last([head, *(_listed(*pair, now) for pair in listed)], width())
    print(*table(rows, right=(3, 4)), sep="\n")
    if len(runs) > args.limit:
        print(f"... and older ones: --limit N shows more than {args.limit}")
    return 0


def _listed(run: RunRow, questions: int, now: datetime) -> tuple[str, ...]:
    return (
        printable(run["run_id"]),
        run["status"],
        moment(run["started_at"]),
        duration(seconds(run, now)),
        str(run["total_steps"]),
        printable(": ".join(filter(None, (run["current_node"], _note(run, questions))))),
    )


def _note(run: RunRow, questions: int) -> str:
    """A note about the current node of a run."""
    if run["status"] == "failed":
        return describe(run)
    if waits_for_resume(run):
        return "a fork, waits for pocoflow resume"
    return waits_for(questions) if run["status"] == "paused" else ""
