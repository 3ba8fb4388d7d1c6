"""``pocoflow recover``: go on with every interrupted run of a flow."""

from __future__ import annotations

import argparse

from pocoflow.cli.output import one_line, printable
from pocoflow.cli.target import TARGET_HELP, load_flow, stored_in

__all__ = ["register"]


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow recover``."""
    parser.description = (
        "Go on with every run of a flow whose process ended before it did, one after another."
    )
    parser.add_argument("flow", metavar="FLOW", help=TARGET_HELP)
    parser.add_argument("--db", metavar="PATH", help="the database (that of the flow)")
    parser.set_defaults(execute=recover)


def recover(args: argparse.Namespace) -> int:
    """Recover the runs and say how each ended; 1 if one of them failed again."""
    flow = stored_in(load_flow(args.flow), args.db)
    outcomes = flow.recover()
    for run_id, error in outcomes.items():
        ended = "completed" if error is None else f"failed: {type(error).__name__}: {error}"
        print(f"{printable(run_id)}  {one_line(ended, 100)}")
    if not outcomes:
        print(f"no interrupted runs of flow {printable(flow.flow_name)}")
    return 1 if any(outcomes.values()) else 0
