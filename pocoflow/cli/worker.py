"""``pocoflow worker``: carry on with the runs of flows that are due."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable, Sequence

from pocoflow.cli.database import failed_left, run_count
from pocoflow.cli.output import CommandError, printable
from pocoflow.db.postgres import is_server
from pocoflow.errors import DefinitionError
from pocoflow.flow.flow import Flow
from pocoflow.flow.worker import Limits, Worker
from pocoflow.nodes.resources import Resources
from pocoflow.views.targets import (
    TARGET_HELP,
    add_database,
    add_repeated,
    add_resources,
    check_there,
    load_flow,
    load_resources,
)

_SHOWN = 5
"""The maximum number of runs that are named."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow worker``."""
    add_arguments(parser, 8, "runs at once in this process")
    parser.set_defaults(execute=work)


def add_arguments(parser: argparse.ArgumentParser, at_once: int, what: str) -> None:
    """Add the arguments for the flows, the limits on their runs, and the end of the process.

    Args:
        parser: The parser.
        at_once: The default of ``--concurrency``.
        what: The help for ``--concurrency``.
    """
    parser.add_argument("flow", metavar="FLOW", nargs="+", help=TARGET_HELP)
    add_database(parser, "the database (that of the flows)")
    parser.add_argument(
        "--create", action="store_true", help="create the file of --db, if it does not exist"
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=run_count,
        default=at_once,
        help=f"{what} ({at_once})",
    )
    add_resources(parser)
    parser.add_argument("--in-all", metavar="N", type=run_count, help="runs at once in all workers")
    parser.add_argument("--per-flow", metavar="N", type=run_count, help="runs at once of each flow")
    per_label_help = "runs at once of each value of a label"
    add_repeated(parser, "--per-label", "KEY=N", _per_label, per_label_help)
    rate_help = "queued runs of each value of a label that may begin in this many seconds"
    add_repeated(parser, "--rate", "KEY=N/SECONDS", _rate, rate_help)
    parser.add_argument(
        "--grace",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long active runs may take to end after the worker was stopped (30)",
    )
    parser.add_argument(
        "--until-idle", action="store_true", help="end as soon as no run is due or active"
    )


def work(args: argparse.Namespace) -> int:
    """Execute the due runs of flows, on one database: submitted runs whose time has come, the
    occurrences of schedules, interrupted runs, and paused runs that have an answer or have passed
    the deadline of a question. Any number of workers may do so concurrently. The first SIGTERM or
    Ctrl-C lets the active runs end and takes no more; a second one ends the process. Limits hold
    for all workers of the database that have them.
    """
    resources = None if args.resources is None else load_resources(args.resources)
    worker = worker_of(args, flows_of(args), resources=resources)
    return run_until_stopped(worker, "worker", args)


def flows_of(args: argparse.Namespace) -> list[Flow]:
    """The flows, on the given database.

    Raises:
        TargetError: There is no such file.
    """
    if args.db is not None and not args.create:
        check_there(args.db, "correct the name, or have it made with --create")
    flows = [load_flow(target) for target in args.flow]
    if args.db is not None:
        flows = [flow.using(db_path=args.db) for flow in flows]
    return flows


def worker_of(
    args: argparse.Namespace,
    flows: Sequence[Flow],
    *,
    resources: Resources | None = None,
    deliver: Callable[[Flow, str], object] | None = None,
) -> Worker:
    """The worker of some flows.

    Raises:
        CommandError: An argument is invalid.
    """
    try:
        return Worker(
            *flows,
            concurrency=args.concurrency,
            limits=Limits(args.in_all, args.per_flow, dict(args.per_label), dict(args.rate)),
            resources=resources,
            deliver=deliver,
        )
    except DefinitionError as exc:
        raise CommandError(str(exc)) from exc


def run_until_stopped(worker: Worker, what: str, args: argparse.Namespace) -> int:
    """Print what is running, and work until stopped; the exit code."""
    names = ", ".join(printable(name) for name in worker.flow_names)
    path = worker.database.path
    if worker.database.is_new:
        full_path = path if is_server(path) else os.path.abspath(path)
        print(f"new database {printable(full_path)}", flush=True)
    print(f"{what} of {names} on {printable(path)}", flush=True)
    if failed := failed_left(worker.database, worker.flow_names):
        print(failed, flush=True)

    def stop(*_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if worker.run(until_idle=args.until_idle, grace=args.grace):
        refused = worker.refused if args.until_idle else ()
        if refused:
            first = ", ".join(printable(run_id) for run_id in refused[:_SHOWN])
            more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
            print(f"due, but cannot go on here: {first}{more}", flush=True)
        return 1 if refused else 0
    count = len(worker.active)
    text = "1 run has not ended, and is" if count == 1 else f"{count} runs have not ended, and are"
    print(f"{text} left to other workers", flush=True)
    return 1


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _above_zero(text: str) -> float:
    if not (seconds := _seconds(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _per_label(text: str) -> tuple[str, int]:
    key, equals, count = text.rpartition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: write KEY=N, as in tenant=2")
    return key, run_count(count)


def _rate(text: str) -> tuple[str, tuple[int, float]]:
    key, equals, rate = text.rpartition("=")
    count, slash, seconds = rate.partition("/")
    if not (key and equals and slash):
        raise argparse.ArgumentTypeError(f"{text!r}: write KEY=N/SECONDS, as in tenant=10/60")
    return key, (run_count(count), _above_zero(seconds))
