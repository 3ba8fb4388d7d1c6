"""The database of runs, events and checkpoints: one SQLite file."""

from pocoflow.db.rows import STATUSES, EventRow, RunRow, Status
from pocoflow.db.workflow import CheckpointRow, WorkflowDB

__all__ = ["STATUSES", "CheckpointRow", "EventRow", "RunRow", "Status", "WorkflowDB"]
