"""``pocoflow recover``: resume every interrupted run of a flow."""

from __future__ import annotations

import argparse

from pocoflow.cli.asked import PAUSED
from pocoflow.cli.database import failed_left
from pocoflow.cli.failures import hints
from pocoflow.cli.output import one_line, printable, width
from pocoflow.errors import PocoflowError, RunPaused
from pocoflow.messages import counted
from pocoflow.views.targets import add_owner, owner_of_runs


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pocoflow recover``."""
    add_owner(parser)
    parser.set_defaults(execute=recover)


def recover(args: argparse.Namespace) -> int:
    """Resume every run of a flow whose process ended before it did, or that was paused and has an
    answer or is past the deadline of a question, one after another. Ends with 1 if one of them
    fails, else with 3 if one pauses for an answer.
    """
    flow = owner_of_runs(args)
    outcomes = flow.recover()
    columns = width()
    for run_id, error in outcomes.items():
        line = printable(f"{run_id}  {_ended(run_id, error)}")
        print(line if columns is None else one_line(line, columns))
        if isinstance(error, PocoflowError) and not _is_paused(run_id, error):
            for hint in hints(error, args, run_id):
                print(f"  {hint}")
    if not outcomes:
        print(f"no interrupted runs of flow {printable(flow.flow_name)}")
        if note := failed_left(flow.database, dict.fromkeys((flow.flow_name, *flow.formerly))):
            print(note)
    errors = [(run_id, error) for run_id, error in outcomes.items() if error is not None]
    if any(not _is_paused(run_id, error) for run_id, error in errors):
        return 1
    return PAUSED if errors else 0


def _ended(run_id: str, error: Exception | None) -> str:
    if error is None:
        return "completed"
    if isinstance(error, RunPaused) and _is_paused(run_id, error):
        return f"paused: {counted(len(error.questions), 'question')} to be answered"
    message, kind = str(error).partition("\n")[0], type(error).__name__
    return f"failed: {kind}: {message}" if message else f"failed: {kind}"


def _is_paused(run_id: str, error: Exception) -> bool:
    return isinstance(error, RunPaused) and error.run_id == run_id
