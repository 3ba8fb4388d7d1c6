"""``pocoflow carry-on``: carry on with one run, for queues that deliver ids."""

from __future__ import annotations

import argparse
import sys

from pocoflow.flow.worker import failure
from pocoflow.views.targets import add_owner, add_resources, load_resources, owner_of_runs


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow carry-on``."""
    parser.add_argument("run_id", metavar="RUN_ID", help="the run, by its whole id")
    add_owner(parser)
    add_resources(parser)
    parser.set_defaults(execute=carry_on)


def carry_on(args: argparse.Namespace) -> int:
    """Carry on with one run if it is due and no process runs it, and print its status. A queue, a
    cluster or a job may deliver an id twice, or late: it is not a failure if another process runs
    the run, or if it has ended. Ends with 0 whatever the status is, and with another code if the
    run has to be delivered again.
    """
    flow = owner_of_runs(args)
    resources = None if args.resources is None else load_resources(args.resources)
    print(flow.carry_on(args.run_id, resources=resources), flush=True)
    if message := failure(flow.database, args.run_id):
        print(message, file=sys.stderr)
    return 0
