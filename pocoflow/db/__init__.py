"""The database of runs, events and checkpoints: one SQLite file."""

from pocoflow.db.checkpoints import CheckpointRow
from pocoflow.db.rows import STATUSES, EventRow, RunRow, Status
from pocoflow.db.workflow import WorkflowDB

__all__ = ["STATUSES", "CheckpointRow", "EventRow", "RunRow", "Status", "WorkflowDB"]
