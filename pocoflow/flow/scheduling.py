"""Runs that a worker starts: submitted runs, and the occurrences of schedules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import Any, NamedTuple, Self, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from pocoflow.db.clock import later, utc_now
from pocoflow.db.due import Occurrence, Scheduled, due_schedules
from pocoflow.db.port import Transaction
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import (
    DatabaseBusyError,
    DatabaseLostError,
    DefinitionError,
    NotStorableError,
    PocoflowError,
    RunExistsError,
    TakenError,
)
from pocoflow.flow.naming import RunName
from pocoflow.flow.starting import open_store
from pocoflow.logging import OwnLogger
from pocoflow.messages import short, users_line
from pocoflow.nodes.setting_checks import is_time
from pocoflow.store.store import Store
from pocoflow.values import dumps

_log = OwnLogger("flow")

_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Due(NamedTuple):
    """When a submitted run may begin.

    Attributes:
        at: The earliest time at which a worker may take it, as the database stores it.
        also: What else is written in the transaction that records it.
    """

    at: str
    also: Callable[[Transaction], object] | None = None

    @classmethod
    def of(cls, at: datetime | None, delay: float | timedelta | None, now: str) -> Self:
        """From the arguments for a run that is submitted now.

        Raises:
            DefinitionError: One is not a time, or both are given.
        """
        if at is not None and delay is not None:
            raise DefinitionError("submit: at= is a time and delay= one from now; give one of them")
        if at is not None:
            given: object = at
            with suppress(OverflowError):  # there is no such time in UTC
                if isinstance(given, datetime) and given.utcoffset() is not None:
                    return cls(given.astimezone(UTC).isoformat())
            raise DefinitionError(
                f"submit(at={short(at)}): a datetime with a time zone, as datetime.now(UTC) is, in "
                "the years 1 to 9999 of UTC"
            )
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        if seconds is not None and seconds != 0 and not is_time(seconds):
            raise DefinitionError(
                f"submit(delay={short(delay)}): seconds, or a timedelta, from now on"
            )
        return cls(later(now, float(seconds or 0)))


def copied(given: object) -> Any:
    """A copy of the inputs, so that the run, in a worker, does not share them with the caller."""
    if isinstance(given, Store):
        return Store(given.as_dict(), given.schema, given.name)
    return dict(given) if isinstance(given, dict) else given


def refuse_unsaved(store: Store, flow_name: str) -> None:
    """Refuse inputs that the worker would not find.

    Raises:
        NotStorableError: One cannot be stored.
    """
    for key, value in store.items():
        try:
            dumps(value)
        except NotStorableError as exc:
            path = f"the inputs of a run of flow {flow_name!r}: {key!r}{exc.path}"
            raise NotStorableError(path, exc.type_name, exc.reason) from exc


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times at which workers start runs of a flow.

    Attributes:
        name: Its name, unique in its flow.
        expression: The cron expression, of five fields, or six with the seconds first.
        inputs: What its runs are given.
        tz: The time zone of the expression.
        catch_up: Missed occurrences become runs if they are at most this many seconds old; the
            last missed one does in any case.
        labels: The labels of its runs.
        where: File and line of its definition.

    Raises:
        DefinitionError: One of them is invalid.
    """

    name: str
    expression: str
    inputs: object = None
    tz: str = "UTC"
    catch_up: float = 60.0
    labels: Mapping[str, str] = field(default_factory=dict)
    where: tuple[str, int] | None = field(default_factory=users_line)

    def __post_init__(self) -> None:
        about = f"schedule {short(self.name)}"
        if type(self.name) is not str or not _NAME.fullmatch(self.name):
            is_swapped = _NAME.fullmatch(str(self.expression))
            hint = f", and comes first: schedule({self.expression!r}, {self.name!r})"
            raise DefinitionError(
                f"{about}: a name is of letters, digits, '-' and '_'{hint if is_swapped else ''}"
            )
        if self.catch_up != 0 and not is_time(self.catch_up):
            raise DefinitionError(f"{about}: catch_up={short(self.catch_up)}: seconds")
        try:
            self._zone()
        except (ValueError, TypeError, OSError, KeyError) as exc:
            raise DefinitionError(
                f"{about}: tz={short(self.tz)}: no time zone of that name is known here"
            ) from exc
        self.after(datetime.fromisoformat(utc_now()))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that its runs are given."""
        given: Any = self.inputs
        return (*type(given).model_fields,) if isinstance(given, BaseModel) else (*(given or ()),)

    def check_inputs(self, schema: object, flow_name: str) -> None:
        """Refuse inputs with which runs of its flow could not begin.

        Raises:
            DefinitionError: They do not fit the schema, or cannot be stored.
        """
        try:
            refuse_unsaved(open_store(copied(self.inputs), schema, flow_name), flow_name)
        except PocoflowError as exc:
            about = f"schedule {short(self.name)}: its inputs do not fit"
            raise DefinitionError(f"{about}: {exc}") from exc

    def _zone(self) -> tzinfo:
        # Windows has no time zone data, and UTC needs none.
        return UTC if self.tz == "UTC" else ZoneInfo(self.tz)

    def _occurrences(self, after: datetime) -> Iterator[datetime]:
        from cronsim import CronSim, CronSimError

        try:
            times = CronSim(self.expression, after.astimezone(self._zone()))
        except (CronSimError, AttributeError) as exc:
            raise DefinitionError(
                f"schedule {self.name!r}: {short(self.expression)} is no cron expression: {exc}"
            ) from exc
        return (time.astimezone(UTC) for time in times)

    def after(self, moment: datetime) -> datetime:
        """The first occurrence after a time.

        Raises:
            DefinitionError: There is none.
        """
        occurrence = next(self._occurrences(moment), None)
        if occurrence is None:
            raise DefinitionError(
                f"schedule {self.name!r}: {short(self.expression)} has no occurrence in 50 years"
            )
        return occurrence

    def first(self, flow_name: str, now: str) -> Scheduled:
        """The stored form of a new schedule."""
        begin = self.after(datetime.fromisoformat(now)).isoformat()
        return Scheduled(flow_name, self.name, self.expression, self.tz, begin)

    def due(self, stored: Scheduled, at: str) -> Iterator[tuple[datetime, Occurrence]]:
        """The occurrences that are due, each with what advances the schedule."""
        now = datetime.fromisoformat(at)
        first = datetime.fromisoformat(stored.next_at)
        occurrences = self._until(now, max(first, now - timedelta(seconds=self.catch_up)))
        if not occurrences:
            occurrences = self._until(now, first)[-1:]
        for moment in occurrences:
            next_at = self.after(moment).isoformat()
            yield moment, Occurrence(stored, next_at)
            stored = stored._replace(next_at=next_at)

    def _until(self, now: datetime, first: datetime) -> list[datetime]:
        occurrences = self._occurrences(first - timedelta(seconds=1))
        return list(takewhile(lambda moment: moment <= now, occurrences))

    def run_id(self, flow_name: str, moment: datetime) -> str:
        """The id of the run of an occurrence."""
        return f"{flow_name}.{self.name}.{moment:%Y%m%dT%H%M%SZ}"


Submit: TypeAlias = Callable[[Any, RunName, Due], str]
"""Records a run: takes its inputs, what identifies it, and when it is due."""


def submit_due(
    database: WorkflowDB,
    flow_name: str,
    schedules: Mapping[str, Schedule],
    submit: Submit,
    refused: Callable[[str, Exception], object] | None,
) -> list[str]:
    """Submit the due runs of some schedules of a flow; see :meth:`Flow.submit_due`."""
    run_ids: list[str] = []
    for stored in due_schedules(database, flow_name):
        schedule, timing = schedules.get(stored.name), (stored.expression, stored.tz)
        if schedule is None or (schedule.expression, schedule.tz) != timing:
            continue  # of other code, whose workers submit it, or skipped
        try:
            for moment, occurrence in schedule.due(stored, database.connection.now()):
                name = RunName(schedule.run_id(flow_name, moment), labels=schedule.labels)
                try:
                    due = Due(moment.isoformat(), occurrence.take)
                    run_ids.append(submit(schedule.inputs, name, due))
                except RunExistsError as exc:
                    _log.warning("schedule %r: %s", schedule.name, exc)
                    with database.writing() as raw:
                        occurrence.take(raw)
        except TakenError as exc:
            _log.debug("%s", exc)
        except (DatabaseBusyError, DatabaseLostError):
            raise
        except Exception as exc:
            if refused is None:
                raise
            refused(schedule.name, exc)
    return run_ids
