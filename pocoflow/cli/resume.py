"""``pocoflow resume``: go on with one stored run."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pocoflow.cli.output import CommandError, printable
from pocoflow.cli.target import TARGET_HELP, load_flow, stored_in
from pocoflow.errors import PocoflowError, RunNotFoundError

__all__ = ["register"]


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow resume``."""
    parser.description = (
        "Go on with a run that failed, was cancelled or interrupted, or was forked. What was "
        "finished is not executed again."
    )
    parser.add_argument("run_id", metavar="RUN_ID", help="the run's id, as 'runs list' shows it")
    parser.add_argument("flow", metavar="FLOW", help=TARGET_HELP)
    parser.add_argument("--db", metavar="PATH", help="the database (that of the flow)")
    parser.add_argument(
        "--set",
        metavar="KEY=JSON",
        type=_change,
        action="append",
        default=[],
        help="set a key of the store first; may be repeated",
    )
    parser.add_argument(
        "--rename",
        metavar="OLD=NEW",
        type=_renaming,
        action="append",
        default=[],
        help="a node that has another name now; may be repeated",
    )
    parser.set_defaults(execute=resume)


def resume(args: argparse.Namespace) -> int:
    """Resume a run and say how it ended."""
    flow = stored_in(load_flow(args.flow), args.db)
    try:
        flow.resume(args.run_id, changes=dict(args.set), rename=dict(args.rename))
    except RunNotFoundError as exc:
        raise CommandError(f"{exc} ('pocoflow runs list' shows those it has)") from exc
    except PocoflowError:
        raise
    except Exception as exc:
        raise CommandError(
            f"run {args.run_id} failed: {type(exc).__name__}: {exc}\n"
            f"'pocoflow runs show {args.run_id}' has the traceback",
            code=1,
        ) from exc
    print(f"run {printable(args.run_id)} is completed")
    return 0


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    try:
        if not key or not equals:
            raise ValueError("write KEY=JSON")
        return key, json.loads(value)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(
            f"{text!r}: {exc}; a text is written with quotes, as in 'name=\"Ada\"'"
        ) from exc


def _renaming(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"{text!r}: write OLD=NEW")
    return old, new
