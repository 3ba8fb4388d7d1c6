"""The part of ``WorkflowDB`` that removes runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from typing_extensions import TypedDict, Unpack

from pocoflow.db.file import RunsFile
from pocoflow.db.port import Record
from pocoflow.db.rows import STATUSES
from pocoflow.db.sql import QUERIES
from pocoflow.errors import DefinitionError

ENDED = ("completed", "failed", "cancelled")
"""The statuses of runs that nobody waits for."""

_AT_A_TIME = 100


class RunsOf(TypedDict, total=False):
    """Of which flow, run thread and labels runs are; of any where nothing is said."""

    flow_name: str | None
    thread: str | None
    labels: Mapping[str, str] | None


class Prunable(RunsOf, total=False):
    """Which runs :meth:`WorkflowDB.prune` may remove."""

    status: str | Iterable[str]


def refuse_unknown(what: str, given: Iterable[str], known: type) -> None:
    """Refuse arguments by names that a function does not know.

    Raises:
        TypeError: There is one.
    """
    for name in given:
        if name not in known.__annotations__:
            raise TypeError(f"{what}() got an unexpected keyword argument {name!r}")


class Retention(RunsFile):
    """How long runs are kept."""

    def prune(
        self,
        *,
        older_than: timedelta | None = None,
        keep: int | None = None,
        whole_threads: bool = False,
        dry_run: bool = False,
        **only: Unpack[Prunable],
    ) -> int:
        """Remove old runs with their events and checkpoints; a run that lives is never removed.

        Nor is the last completed run of a run thread, with whose store the next one begins, unless
        that is asked for. A few are removed at a time, so that runs that are working need not wait.
        The file keeps its size, and new runs use the room: :meth:`vacuum` gives it back.

        Args:
            older_than: Only runs in which nothing has happened for so long.
            keep: Only runs beyond the newest ``keep`` that match ``status`` and ``flow_name``.
            whole_threads: Also the last completed run of a run thread; the next one then begins
                with its inputs alone.
            dry_run: Remove nothing.
            **only: ``status``: only runs that read as this, or as one of these; those that have
                ended, by default. ``flow_name``: only runs of this flow. ``thread``: only runs of
                this run thread. ``labels``: only runs that have all of these.

        Returns:
            How many runs were removed, or would be.

        Raises:
            DefinitionError: Neither ``older_than`` nor ``keep`` is given, or one of them is
                negative, there is no such status, or ``older_than`` is no ``timedelta``.
        """
        refuse_unknown("prune", only, Prunable)
        status = only.get("status", ENDED)
        statuses = frozenset([status] if isinstance(status, str) else status)
        for one in statuses - {*STATUSES}:
            raise DefinitionError(f"prune: a status is one of {', '.join(STATUSES)}, not {one!r}")
        if older_than is None and keep is None:
            raise DefinitionError("prune: name older_than= or keep=; keep=0 removes every run")
        if older_than is not None and not isinstance(older_than, timedelta):
            raise DefinitionError(
                f"prune: older_than= is a timedelta, such as timedelta(days=30), not {older_than!r}"
            )
        if (keep or 0) < 0 or (older_than or timedelta()) < timedelta():
            raise DefinitionError(f"prune: older_than={older_than}, keep={keep}: not below zero")
        self._refuse_read_only()
        wanted = {
            "flow": only.get("flow_name"),
            "thread": only.get("thread"),
            "labels": json.dumps(dict(only.get("labels") or {})),
            "whole": whole_threads,
        }
        # The newest first.
        rows = self.connection.rows(QUERIES["runs_to_prune"], wanted)
        found = [row for row in rows if self._status(row) in statuses][keep or 0 :]
        now = datetime.fromisoformat(self.connection.now())
        latest = None if older_than is None else (now - older_than).isoformat()
        numbers = [row["run_no"] for row in found if latest is None or row["last"] < latest]
        if dry_run:
            return len(numbers)
        removed = 0
        for first in range(0, len(numbers), _AT_A_TIME):
            removed += self._remove(numbers[first : first + _AT_A_TIME], statuses)
        if removed:
            with self.connection.transaction() as raw:
                raw.execute(QUERIES["delete_unused_graphs"])
        return removed

    def _status(self, row: Record) -> str:
        """What a run reads as: one whose process is gone is failed."""
        if row["status"] == "running" and row["owned"] and not self.locks.is_held(row["run_no"]):
            return "failed"
        return str(row["status"])

    def _remove(self, numbers: Iterable[int], statuses: frozenset[str]) -> int:
        """Remove those that are still what they were; nobody can take one up meanwhile."""
        claimed, owner = [], object()
        try:
            with self.connection.transaction() as raw:
                for run_no in numbers:
                    row = raw.execute(QUERIES["run_by_number"], (run_no,)).fetchone()
                    if row is None or self._status(row) not in statuses:
                        continue
                    if self.locks.hold(run_no, owner):
                        claimed.append(run_no)
                        raw.execute(QUERIES["delete_run"], (run_no,))
        finally:
            for run_no in claimed:
                self.locks.release(run_no, owner)
        return len(claimed)

    def vacuum(self) -> None:
        """Write the file anew without the room that removed runs left, and give that back.

        Needs as much free space as the file takes; runs that are working wait meanwhile.

        Raises:
            DatabaseBusyError: Another writer held the database for longer than the busy timeout.
            DatabaseFileError: The file was opened read-only, or the disk is full.
        """
        self._refuse_read_only()
        self.connection.vacuum()
