"""What tests read of a database."""

from pocoflow import WorkflowDB
from pocoflow.db import RunRow


def row_of(db: WorkflowDB, run_id: str) -> RunRow:
    """The row of a run that is there."""
    row = db.get_run(run_id)
    assert row is not None, f"there is no run {run_id!r}"
    return row
