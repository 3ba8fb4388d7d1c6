"""What the messages of the library say of Python, said of commands."""

from __future__ import annotations

from collections.abc import Iterator

from pocoflow.cli.database import command
from pocoflow.errors import OtherFlowError, PocoflowError, UnknownClassError

__all__ = ["in_commands"]


def in_commands(
    exc: PocoflowError, run_id: str, target: str, path: str | None, database: str
) -> Iterator[str]:
    """A line for each way out that an error names, with the command that takes it, if one does.

    Args:
        exc: The error, whose message names functions and arguments of Python.
        run_id: The run that it is about.
        target: Where the flow of the run is.
        path: The database, if one was given.
        database: The database of the flow.
    """
    message = str(exc)
    again = ("resume", run_id, target)
    if "flow.answer_json" in message:
        yield f"answer with: {command('answer', run_id, '--flow', target, path=path)}"
    if "WorkflowDB.answer_json" in message:
        yield f"answer by the schema with: {command('answer', run_id, path=database)}"
    if isinstance(exc, OtherFlowError):
        renamed = command(*again, "--flow-was", exc.flow_name, path=path)
        yield f"if the flow was renamed: {renamed}"
    if "rename={" in message:
        renaming = command("resume", run_id, target, "--rename", "OLD=NEW", path=path)
        yield f"rename with: {renaming}"
    if "changes={" in message:
        setting = command("resume", run_id, target, "--set", "KEY=JSON", path=path)
        yield f"give a value with: {setting}"
    if "fork()" in message:
        yield f"fork with: {command('monitor', database, '--flow', target, path=None)}"
    if isinstance(exc, UnknownClassError):
        alias = command(*again, "--alias", f"{exc.class_name}=MODULE:CLASS", path=path)
        yield f"if the class has another name now: {alias}"
    if "resources=" in message:
        yield f"no command has resources=; in Python: flow.resume({run_id!r}, resources=...)"
