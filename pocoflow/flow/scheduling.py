"""Runs that a worker begins: those that were submitted, and the occurrences of schedules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
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
    """When a run that is submitted may begin.

    Attributes:
        at: From when on a worker may take it, as the database has it.
        also: What is written in the transaction that puts it on record.
    """

    at: str
    also: Callable[[Transaction], object] | None = None

    @classmethod
    def of(cls, at: datetime | None, delay: float | timedelta | None, now: str) -> Self:
        """What is given for a run that is submitted now.

        Raises:
            DefinitionError: It is no time, or both are given.
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
    """Inputs that the run, which somebody else runs, does not share with the caller."""
    if isinstance(given, Store):
        return Store(given.as_dict(), given.schema, given.name)
    return dict(given) if isinstance(given, dict) else given


def refuse_unsaved(store: Store, flow_name: str) -> None:
    """Refuse inputs that whoever begins the run would not find.

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
    """What a flow does at certain times.

    Attributes:
        name: Its name, which sets it apart from the others of its flow.
        expression: The cron expression, of five fields, or six with that of seconds first.
        inputs: What its runs are given.
        tz: The time zone that the expression is meant in.
        catch_up: Occurrences that were missed become runs if they are not older than so many
            seconds; the last one that was missed does in any case.
        labels: Those of its runs.
        where: File and line where it is made.

    Raises:
        DefinitionError: One of them makes no sense.
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
            is_second = _NAME.fullmatch(str(self.expression))
            hint = f", and comes first: schedule({self.expression!r}, {self.name!r})"
            raise DefinitionError(
                f"{about}: a name is of letters, digits, '-' and '_'{hint if is_second else ''}"
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
        """What its runs are given."""
        given: Any = self.inputs
        return (*type(given).model_fields,) if isinstance(given, BaseModel) else (*(given or ()),)

    def check_inputs(self, schema: object, flow_name: str) -> None:
        """Refuse inputs that runs of its flow could not begin with.

        Raises:
            DefinitionError: They do not fit the schema, or cannot be stored.
        """
        try:
            refuse_unsaved(open_store(copied(self.inputs), schema, flow_name), flow_name)
        except PocoflowError as exc:
            about = f"schedule {short(self.name)}: its inputs do not fit"
            raise DefinitionError(f"{about}: {exc}") from exc

    def _zone(self) -> tzinfo:
        # Windows has no data of time zones, and UTC needs none.
        return UTC if self.tz == "UTC" else ZoneInfo(self.tz)

    def _occurrences(self, after: datetime) -> Iterator[datetime]:
        from cronsim import CronSim, CronSimError

        try:
            found = CronSim(self.expression, after.astimezone(self._zone()))
        except (CronSimError, AttributeError) as exc:
            raise DefinitionError(
                f"schedule {self.name!r}: {short(self.expression)} is no cron expression: {exc}"
            ) from exc
        return (one.astimezone(UTC) for one in found)

    def after(self, moment: datetime) -> datetime:
        """The first occurrence after a time.

        Raises:
            DefinitionError: There is none.
        """
        found = next(self._occurrences(moment), None)
        if found is None:
            raise DefinitionError(
                f"schedule {self.name!r}: {short(self.expression)} has no occurrence in 50 years"
            )
        return found

    def first(self, flow_name: str, now: str) -> Scheduled:
        """It as it is stored when it is new."""
        begin = self.after(datetime.fromisoformat(now)).isoformat()
        return Scheduled(flow_name, self.name, self.expression, self.tz, begin)

    def due(self, stored: Scheduled, at: str) -> Iterator[tuple[datetime, Occurrence]]:
        """The occurrences that are to become runs now, each with what moves the schedule on."""
        now = datetime.fromisoformat(at)
        first = datetime.fromisoformat(stored.next_at)
        found = self._upto(now, max(first, now - timedelta(seconds=self.catch_up)))
        if not found:
            found = self._upto(now, first)[-1:]
        for one in found:
            next_at = self.after(one).isoformat()
            yield one, Occurrence(stored, next_at)
            stored = stored._replace(next_at=next_at)

    def _upto(self, now: datetime, first: datetime) -> list[datetime]:
        found = []
        for one in self._occurrences(first - timedelta(seconds=1)):
            if one > now:
                break
            found.append(one)
        return found

    def run_id(self, flow_name: str, moment: datetime) -> str:
        """The id of the run of an occurrence."""
        return f"{flow_name}.{self.name}.{moment:%Y%m%dT%H%M%SZ}"


Submit: TypeAlias = Callable[[Any, RunName, Due], str]
"""What puts a run on record: its inputs, how it is addressed, and when it is due."""


def submit_due(
    database: WorkflowDB,
    flow_name: str,
    schedules: Mapping[str, Schedule],
    submit: Submit,
    refused: Callable[[str, Exception], object] | None,
) -> list[str]:
    """Submit what is due of some schedules of a flow; see :meth:`Flow.submit_due`."""
    made: list[str] = []
    for stored in due_schedules(database, flow_name):
        schedule, said = schedules.get(stored.name), (stored.expression, stored.tz)
        if schedule is None or (schedule.expression, schedule.tz) != said:
            continue  # of other code, whose workers see to it, or left alone
        try:
            for moment, occurrence in schedule.due(stored, database.connection.now()):
                name = RunName(schedule.run_id(flow_name, moment), labels=schedule.labels)
                try:
                    due = Due(moment.isoformat(), occurrence.take)
                    made.append(submit(schedule.inputs, name, due))
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
    return made
