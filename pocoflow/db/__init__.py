"""The database of runs, events and checkpoints: one SQLite file."""

from pocoflow.db.workflow import STATUSES, CheckpointRow, WorkflowDB

__all__ = ["STATUSES", "CheckpointRow", "WorkflowDB"]
