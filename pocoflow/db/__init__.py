"""The database of runs, events and checkpoints: one SQLite file."""

import importlib
import typing

if typing.TYPE_CHECKING:
    from pocoflow.db.checkpoints import CheckpointRow
    from pocoflow.db.rows import STATUSES, EventRow, RunRow, Status
    from pocoflow.db.workflow import WorkflowDB

__all__ = ["STATUSES", "CheckpointRow", "EventRow", "RunRow", "Status", "WorkflowDB"]

if not typing.TYPE_CHECKING:
    # Imported when asked for: if two threads import a package and one of its modules at once, and
    # the package imports that module, each of them has what the other one waits for.
    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        modules = {"CheckpointRow": "checkpoints", "WorkflowDB": "workflow"}
        module = importlib.import_module(f"pocoflow.db.{modules.get(name, 'rows')}")
        return getattr(module, name)
