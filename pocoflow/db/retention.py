"""Retention: which runs may go, and taking them out of the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from pocoflow.db.connection import Connection
from pocoflow.db.file import RunsFile
from pocoflow.db.port import Locks, Record
from pocoflow.db.sql import QUERIES

ENDED = ("completed", "failed", "cancelled")
"""The statuses of runs that nobody waits for."""

_AT_A_TIME = 100


def prune(
    file: RunsFile,
    *,
    older_than: timedelta | None,
    keep: int | None,
    statuses: Iterable[str],
    wanted: Mapping[str, str | bool | None],
    dry_run: bool,
) -> int:
    """Remove runs with all that belongs to them; how many. Never one that lives.

    A few at a time, so that runs that are working meanwhile need not wait.
    """
    of_status = frozenset(statuses)
    connection, locks = file.connection, file.locks
    now = datetime.fromisoformat(connection.now())
    latest = None if older_than is None else (now - older_than).isoformat()
    found = _kept(_matching(connection, locks, of_status, wanted), keep)
    numbers = [row["run_no"] for row in found if latest is None or row["last"] < latest]
    if dry_run:
        return len(numbers)
    removed = 0
    for first in range(0, len(numbers), _AT_A_TIME):
        removed += _remove(connection, locks, numbers[first : first + _AT_A_TIME], of_status)
    if removed:
        with connection.transaction() as raw:
            raw.execute(QUERIES["delete_unused_graphs"])
    return removed


def _matching(
    connection: Connection,
    locks: Locks,
    statuses: frozenset[str],
    wanted: Mapping[str, str | bool | None],
) -> Iterator[Record]:
    """The runs of these statuses that match, the newest first."""
    for row in connection.rows(QUERIES["runs_to_prune"], dict(wanted)):
        if _status(row, locks) in statuses:
            yield row


def _kept(rows: Iterable[Record], keep: int | None) -> Iterator[Record]:
    for number, row in enumerate(rows):
        if number >= (keep or 0):
            yield row


def _status(row: Record, locks: Locks) -> str:
    """What a run reads as: one whose process is gone is failed."""
    if row["status"] == "running" and row["owned"] and not locks.is_held(row["run_no"]):
        return "failed"
    return str(row["status"])


def _remove(
    connection: Connection, locks: Locks, numbers: Iterable[int], wanted: frozenset[str]
) -> int:
    """Remove those that are still what they were; nobody can take one up meanwhile."""
    claimed, owner = [], object()
    try:
        with connection.transaction() as raw:
            for run_no in numbers:
                row = raw.execute(QUERIES["run_by_number"], (run_no,)).fetchone()
                if row is None or _status(row, locks) not in wanted:
                    continue
                if locks.hold(run_no, owner):
                    claimed.append(run_no)
                    raw.execute(QUERIES["delete_run"], (run_no,))
    finally:
        for run_no in claimed:
            locks.release(run_no, owner)
    return len(claimed)
