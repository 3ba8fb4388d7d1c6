"""The part of ``WorkflowDB`` that removes runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeAlias

from pydantic import Field, InstanceOf, StrictBool, StrictInt
from typing_extensions import TypedDict, Unpack

from pocoflow.db.clock import in_utc
from pocoflow.db.file import RunsFile
from pocoflow.db.port import Record
from pocoflow.db.rows import STATUSES, Status, of_type
from pocoflow.db.sql import QUERIES
from pocoflow.errors import DefinitionError
from pocoflow.messages import refuse_keywords, short
from pocoflow.values.callables import lists_keywords
from pocoflow.values.encoding import to_json

ENDED = ("completed", "failed", "cancelled")
"""The statuses of runs that have ended."""

_AT_A_TIME = 100


class RunsOf(TypedDict, total=False):
    """The flow, run thread and labels of runs; any by default."""

    flow_name: str | None
    thread: str | None
    labels: Mapping[str, str] | None


class Prunable(RunsOf, total=False):
    """The runs that :meth:`WorkflowDB.prune` may remove."""

    status: Status | Iterable[Status]


def _is_time(value: object) -> bool:
    try:
        return value is None or (isinstance(value, str) and in_utc(value) is not None)
    except ValueError:
        return False


_Count: TypeAlias = Annotated[StrictInt, Field(ge=0, lt=1 << 63)]
_COUNT = of_type(_Count | None)
_AGE = of_type(Annotated[timedelta, Field(strict=True, ge=timedelta())] | None)
_TEXT, _FLAG = of_type(InstanceOf[str] | None), of_type(StrictBool)

_WANTED: dict[str, tuple[Callable[[object], bool], str]] = {
    "limit": (of_type(_Count), "a whole number from 0 to 2**63 - 1"),
    "keep": (_COUNT, "a whole number, not below zero"),
    "before": (_COUNT, "the number of a run, such as run['run_no']"),
    "older_than": (_AGE, "a timedelta, such as timedelta(days=30), not below zero"),
    "flow_name": (_TEXT, "a str, such as flow.flow_name"),
    "thread": (_TEXT, "a str, the name of a run thread"),
    "text": (_TEXT, "a str"),
    "labels": (
        of_type(Mapping[InstanceOf[str], InstanceOf[str]] | None),
        "a dict of labels, which are texts, as in {'user': 'ann'}",
    ),
    **dict.fromkeys(
        ("since", "started_at", "completed_at"),
        (_is_time, "an ISO-8601 time in UTC, such as '2026-01-31'"),
    ),
    "whole_threads": (_FLAG, "True or False"),
    "dry_run": (_FLAG, "True or False"),
}


_ANYTHING: tuple[Callable[[object], bool], str] = (lambda _: True), ""


def check_filters(what: str, only: Mapping[str, object], known: type, **given: object) -> None:
    """Refuse invalid arguments of a function that selects runs.

    Args:
        what: The name of the function.
        only: The arguments of a ``TypedDict``.
        known: That ``TypedDict``.
        **given: The other arguments.

    Raises:
        TypeError: There is no such argument.
        DefinitionError: A value is of another type, or out of range.
    """
    names = (*given, *known.__annotations__)
    refuse_keywords(f"{what}() got an unexpected", only, names)
    for name, value in (*given.items(), *only.items()):
        is_valid, wanted = _WANTED.get(name, _ANYTHING)
        if not is_valid(value):
            raise DefinitionError(f"{what}: {name}= is {wanted}, not {short(value)}")


def check_status(what: str, status: object) -> None:
    """Refuse what is not one of ``STATUSES``.

    Raises:
        DefinitionError: It is not.
    """
    if status not in STATUSES:
        raise DefinitionError(f"{what}: a status is one of {', '.join(STATUSES)}, not {status!r}")


class Retention(RunsFile):
    """The part of ``WorkflowDB`` that removes runs."""

    @lists_keywords(Prunable)
    def prune(
        self,
        *,
        older_than: timedelta | None = None,
        keep: int | None = None,
        whole_threads: bool = False,
        dry_run: bool = False,
        **only: Unpack[Prunable],
    ) -> int:
        """Remove old runs with their events and checkpoints; a live run is never removed.

        Nor is the last completed run of a run thread, with whose store the next one starts, unless
        requested. A few are removed at a time, so that other writers need not wait for long. The
        file keeps its size, and new runs use the space: :meth:`vacuum` releases it.

        Args:
            older_than: Only runs that have not changed for this long.
            keep: Only runs beyond the newest ``keep`` that match ``status`` and ``flow_name``.
            whole_threads: Also the last completed run of a run thread; the next one then starts
                with its inputs alone.
            dry_run: Remove nothing.
            **only: ``status``: only runs with this status, or one of these; those that have ended,
                by default. ``flow_name``: only runs of this flow. ``thread``: only runs of
                this run thread. ``labels``: only runs that have all of these.

        Returns:
            How many runs were removed, or would be.

        Raises:
            DefinitionError: Neither ``older_than`` nor ``keep`` is given, there is no such status,
                or an argument is of another type, or negative; nothing is removed.
        """
        check_filters(
            "prune",
            only,
            Prunable,
            older_than=older_than,
            keep=keep,
            whole_threads=whole_threads,
            dry_run=dry_run,
        )
        status: object = only.get("status", ENDED)
        values: list[object] = [status]
        if isinstance(status, Iterable) and not isinstance(status, str):
            values = [*status]
        for value in values:
            check_status("prune", value)
        statuses = frozenset(map(str, values))
        if older_than is None and keep is None:
            raise DefinitionError("prune: name older_than= or keep=; keep=0 removes every run")
        self._refuse_read_only()
        parameters = {
            "flow": only.get("flow_name"),
            "thread": only.get("thread"),
            "labels": to_json(dict(only.get("labels") or {})),
            "whole": whole_threads,
        }
        # The newest first.
        rows = self.connection.rows(QUERIES["runs_to_prune"], parameters)
        matching = [row for row in rows if self._status(row) in statuses][keep or 0 :]
        now = self.now()
        most = now - datetime.min.replace(tzinfo=UTC)
        latest = None if older_than is None else (now - min(older_than, most)).isoformat()
        numbers = [row["run_no"] for row in matching if latest is None or row["last"] < latest]
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
        """The status as a reader sees it: failed, if the process of the run has ended."""
        if row["status"] == "running" and row["owned"] and not self.locks.is_held(row["run_no"]):
            return "failed"
        return str(row["status"])

    def _remove(self, numbers: Iterable[int], statuses: frozenset[str]) -> int:
        """Remove the runs whose status is unchanged; their locks keep others from resuming them."""
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
        """Rewrite the file without unused space, which is released.

        Needs as much free space as the size of the file; runs at work wait meanwhile.

        Raises:
            DatabaseBusyError: Another writer held the database for longer than the busy timeout.
            DatabaseFileError: The file was opened read-only, or the disk is full.
        """
        self._refuse_read_only()
        self.connection.vacuum()
