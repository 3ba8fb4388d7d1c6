"""The base of all parts of ``WorkflowDB``: the connection, the locks, the numbers of runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from pocoflow.address import check_id
from pocoflow.db.connection import Connection
from pocoflow.db.port import Locks, Transaction
from pocoflow.errors import DatabaseFileError, RunNotFoundError
from pocoflow.messages import closest


class RunsFile:
    """A database of runs.

    Attributes:
        connection: The connection to it.
        locks: The locks of its live runs.
    """

    connection: Connection
    locks: Locks

    @property
    def path(self) -> str:
        """The file, as it was given."""
        return self.connection.label

    def now(self) -> datetime:
        """The time of the database's clock, in UTC: the clock of the server, if it is on one."""
        return datetime.fromisoformat(self.connection.now())

    def number(self, run_id: str) -> int:
        """The number of a run, on which all of its integer keys are based.

        Raises:
            RunNotFoundError: There is no such run.
            TypeError: The id is not a text.
        """
        check_id(run_id)
        row = self.connection.row("SELECT run_no FROM pf_runs WHERE run_id = ?", (run_id,))
        if row is None:
            ids = [id_ for (id_,) in self.connection.rows("SELECT run_id FROM pf_runs LIMIT 1000")]
            raise RunNotFoundError(
                f"database {self.path} has no run {run_id!r}{closest(run_id, ids)}"
            )
        return int(row[0])

    def flow_of(self, run_id: str) -> str:
        """The name of the flow that a run is of.

        Raises:
            RunNotFoundError: There is no such run.
        """
        row = self.connection.row(
            "SELECT flow_name FROM pf_runs WHERE run_no = ?", (self.number(run_id),)
        )
        return "" if row is None else str(row[0])

    def writing(self, of: int = 0) -> AbstractContextManager[Transaction]:
        """A write transaction; ``of`` a run, if it concerns no other.

        Raises:
            DatabaseFileError: The file was opened read-only, or cannot be written.
        """
        self._refuse_read_only()
        return self.connection.transaction(of=of)

    def _refuse_read_only(self) -> None:
        if self.connection.read_only:
            raise DatabaseFileError(f"database {self.path} was opened read-only")
