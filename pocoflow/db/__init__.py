"""The database of runs, events and checkpoints: one SQLite file."""

from pocoflow.db.rows import STATUSES, Status
from pocoflow.db.workflow import CheckpointRow, WorkflowDB

__all__ = ["STATUSES", "CheckpointRow", "Status", "WorkflowDB"]
