"""``pocoflow fork``: create a new run from a step of another one."""

from __future__ import annotations

import argparse

from pocoflow.cli.database import RUN_HELP, find_run, label
from pocoflow.cli.output import printable
from pocoflow.cli.resume import add_changes
from pocoflow.views.targets import add_owner, add_repeated, command, owner_of_runs


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow fork``."""
    parser.add_argument("run_id", metavar="RUN_ID", help=RUN_HELP)
    add_owner(parser)
    step = "the step after which it begins, -1 for before the first node (the last one)"
    parser.add_argument("--step", metavar="N", type=int, help=step)
    add_changes(parser)
    parser.add_argument("--new-id", metavar="ID", help="the id of the new run (generated)")
    add_repeated(parser, "--label", "KEY=VALUE", label, "a label of the new run")
    parser.set_defaults(execute=fork)


def fork(args: argparse.Namespace) -> int:
    """Create a new run that begins after a step of another one, which stays unchanged. The new run
    waits until 'pocoflow resume' runs it.
    """
    flow = owner_of_runs(args)
    parent = args.run_id = find_run(flow.database, args.run_id)["run_id"]
    changes, labels = dict(args.set), dict(args.label)
    new_id = flow.fork(parent, args.step, changes, new_id=args.new_id, labels=labels)
    run = find_run(flow.database, new_id)
    step = run["parent_step"]
    begins = "before the first node" if step == -1 else f"after step {step}"
    print(f"run {printable(new_id)} begins {begins} of {printable(parent)}")
    print(f"begin it with: {command('resume', new_id, args.flow, path=args.db)}")
    return 0
