"""``pocoflow resume``: resume a stored run."""

from __future__ import annotations

import argparse
import json

from typing_extensions import Unpack

from pocoflow.cli.asked import PAUSED, show_paused
from pocoflow.cli.database import RUN_HELP, find_run
from pocoflow.cli.failures import hints
from pocoflow.cli.output import CommandError, printable
from pocoflow.errors import PocoflowError, RunPaused
from pocoflow.flow.flow import Flow
from pocoflow.flow.resuming import ResumeKeywords
from pocoflow.views.targets import (
    add_owner,
    add_repeated,
    add_resources,
    command,
    load_resources,
    owner_of_runs,
)


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow resume``."""
    parser.add_argument("run_id", metavar="RUN_ID", help=RUN_HELP)
    add_owner(parser)
    add_changes(parser)
    rename_help = 'a node that was renamed, or {"OLD": "NEW"}'
    add_repeated(parser, "--rename", "OLD=NEW", _renaming, rename_help)
    add_resources(parser)
    parser.set_defaults(execute=resume)


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add ``--set`` to the arguments of a command."""
    add_repeated(parser, "--set", "KEY=JSON", _change, "set a key of the store first")


def resume(args: argparse.Namespace) -> int:
    """Resume a run that failed, was cancelled or interrupted, was paused and answered, or was
    forked. Finished work is not executed again. Ends with 3 if the run pauses for an answer.
    """
    flow = owner_of_runs(args)
    args.run_id = find_run(flow.database, args.run_id)["run_id"]
    resources = None if args.resources is None else load_resources(args.resources)
    changes, rename = dict(args.set), dict(args.rename)
    return resume_and_report(flow, args, changes=changes, rename=rename, resources=resources)


def resume_and_report(flow: Flow, args: argparse.Namespace, **how: Unpack[ResumeKeywords]) -> int:
    """Resume the run of a command, print how it ended, and return the exit code.

    Args:
        flow: The flow.
        args: The arguments of the command.
        **how: As in ``Flow.resume``.

    Raises:
        CommandError: It has failed, or cannot be resumed.
    """
    run_id = args.run_id
    try:
        flow.resume(run_id, **how)
    except RunPaused as exc:
        if exc.run_id != run_id:  # another run, for which a node waits: a failure of this run
            raise
        waiting = [it for it in flow.database.get_questions(run_id) if it.is_open]
        print(*show_paused(args, waiting, flow.database.now()), sep="\n")
        return PAUSED
    except PocoflowError as exc:
        raise CommandError("\n".join((str(exc), *hints(exc, args, run_id))), code=1) from exc
    except Exception as exc:
        raise CommandError(
            f"run {run_id} failed: {type(exc).__name__}: {exc}\n"
            f"'{command('runs', 'show', run_id, path=flow.database.path)}' has the traceback",
            code=1,
        ) from exc
    print(f"run {printable(run_id)} is completed")
    return 0


def _change(text: str) -> tuple[str, object]:
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
    if text.startswith("{"):  # names with an equals sign in them
        try:
            ((old, new),) = json.loads(text).items()
        except (ValueError, AttributeError):
            old = new = ""
    if not old or not new or not isinstance(new, str):
        raise argparse.ArgumentTypeError(f'{text!r}: write OLD=NEW, or {{"OLD": "NEW"}}')
    return old, new
