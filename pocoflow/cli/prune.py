"""``pocoflow prune``: remove old runs."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from functools import partial
from pathlib import Path

from pocoflow.cli.database import add_file, add_filters, chosen, open_database, run_count
from pocoflow.cli.output import CommandError, printable
from pocoflow.db import STATUSES, WorkflowDB
from pocoflow.db.postgres import is_server
from pocoflow.db.retention import ENDED
from pocoflow.db.run_reports import flow_counts
from pocoflow.messages import closest, counted

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow prune``."""
    parser.add_argument(
        "--older-than",
        metavar="AGE",
        type=_age,
        help="runs without any event for this long: 90m, 12h, 30d, 8w",
    )
    parser.add_argument(
        "--keep",
        metavar="N",
        type=partial(run_count, least=0),
        help="all but the newest N of those that match",
    )
    parser.add_argument(
        "--status",
        metavar="S",
        choices=STATUSES,
        action="append",
        help="only runs of this status (completed, failed, cancelled); may be repeated",
    )
    add_filters(parser)
    parser.add_argument(
        "--whole-threads",
        action="store_true",
        help="also the last completed run of a run thread, which then begins with inputs alone",
    )
    parser.add_argument("--dry-run", action="store_true", help="print how many, and remove nothing")
    parser.add_argument(
        "--vacuum", action="store_true", help="rewrite the file, so that it becomes smaller"
    )
    add_file(parser)
    parser.set_defaults(execute=prune)


def prune(args: argparse.Namespace) -> int:
    """Remove runs that have ended, with their events and checkpoints. A run that is alive is never
    removed, nor, without --whole-threads, is the last completed run of a run thread. Say which with
    --older-than, --keep, or both.
    """
    if args.older_than is None and args.keep is None:
        raise CommandError("say which runs: --older-than AGE, --keep N, or both")
    which = {"status": args.status} if args.status else {}
    with open_database(args.db, read_only=False) as db:
        before = _size(args.db)
        removed = db.prune(
            older_than=args.older_than,
            keep=args.keep,
            whole_threads=args.whole_threads,
            dry_run=args.dry_run,
            **chosen(args),
            **which,
        )
        what = counted(removed, "run")
        unknown = "" if removed or args.flow is None else _unknown(db, args.flow)
        stays = unknown or ("" if args.status else _stays(db, args.flow))
        if args.dry_run:
            print(f"would remove {what}{stays}")
            return 0
        if args.vacuum:
            db.vacuum()
        size = "" if not args.vacuum or before is None else f"; {before} before, {_size(args.db)}"
        print(f"removed {what} from {printable(args.db)}{size}{stays}")
    return 0


def _unknown(db: WorkflowDB, flow: str) -> str:
    """A note if a flow has no runs, with the flow that was probably meant."""
    names = [counts.flow_name for counts in flow_counts(db)]
    text = f" (there are no runs of flow {printable(flow)}{printable(closest(flow, names))})"
    return "" if flow in names else text


def _stays(db: WorkflowDB, flow: str | None) -> str:
    """The runs that stay as they have not ended, such as `` (1 is running, 2 are paused)``."""
    counts = [each for each in flow_counts(db) if flow in (None, each.flow_name)]
    parts = []
    for status in STATUSES:
        runs = sum(each.by_status.get(status, 0) for each in counts)
        if runs and status not in ENDED:
            parts.append(f"{runs} {'is' if runs == 1 else 'are'} {status}")
    return f" ({', '.join(parts)})" if parts else ""


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+)([smhdw])", text)
    try:
        if match:
            return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        pass  # more than a timedelta can hold
    raise argparse.ArgumentTypeError(f"{text!r} is not an age: write 90m, 12h, 30d or 8w")


def _size(path: str) -> str | None:
    """The size of a file; ``None`` for a server."""
    if is_server(path):
        return None
    count = Path(path).stat().st_size
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1000:.1f} kB"
