"""What workers query: the runs that are due, the limits on runs at work, the schedules."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import Field, InstanceOf, StrictInt

from pocoflow.db.connection import Connection
from pocoflow.db.port import Transaction
from pocoflow.db.rows import of_type
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import DefinitionError, Remedy, RunInterruptedError, TakenError
from pocoflow.messages import short
from pocoflow.nodes.setting_checks import is_time


class DueRun(NamedTuple):
    """A run that can continue, and that no process is running.

    Attributes:
        flow_name: The name of its flow.
        run_no: Its number.
        run_id: Its id.
        since: The time since which it is due; empty if it was interrupted.
        interruptions: How often it was interrupted since it last made progress.
    """

    flow_name: str
    run_no: int
    run_id: str
    since: str
    interruptions: int = 0


Label: TypeAlias = tuple[str, str]


class Reached(NamedTuple):
    """The limits that are reached.

    Attributes:
        in_all: Whether the limit on all runs is reached.
        flows: The flows that have as many runs at work as they may have.
        held: As JSON, the labels, with their values, that have as many runs at work as they may
            have, with 0, and those of which no queued run may start yet, with 1.
    """

    in_all: bool
    flows: Collection[str]
    held: str


_Count: TypeAlias = Annotated[StrictInt, Field(ge=1)]
_Seconds: TypeAlias = Annotated[float, Field(strict=True, gt=0)]
_Key: TypeAlias = InstanceOf[str]

_LIMITS = {
    **dict.fromkeys(
        ("in_all", "per_flow"), (of_type(_Count | None), "a whole number of at least 1")
    ),
    "per_label": (
        of_type(Mapping[_Key, _Count]),
        "numbers by labels, at least 1, as in per_label={'tenant': 2}",
    ),
    "rates": (
        of_type(Mapping[_Key, tuple[_Count, _Seconds]]),
        "numbers and seconds by labels, as in rates={'tenant': (10, 60)}, for ten in a minute",
    ),
    "interruptions": (of_type(_Count), "a whole number of at least 1"),
    "begin_within": (is_time, "seconds, above 0"),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How many runs of a database may be at work at once, and how many may start.

    They hold for all workers with these limits together. Only runs that a process runs count.

    Attributes:
        in_all: The maximum number of runs at once.
        per_flow: The maximum number of runs of each flow.
        per_label: The maximum number of runs of each value of a label, by the key of the label.
        rates: By the key of a label, a number of runs and of seconds: of each value of it, at most
            so many queued runs start at once, and in so many seconds on average.
        interruptions: A run that was interrupted this many times in a row, without finishing an
            ``exec`` or a step in between, is recorded as failed.
        begin_within: A queued run that has been due for this many seconds is recorded as failed if
            the code it starts with has changed; until then another worker may have that code.

    Raises:
        DefinitionError: An argument makes no sense.
    """

    in_all: int | None = None
    per_flow: int | None = None
    per_label: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    interruptions: int = 10
    begin_within: float = 600.0

    def __post_init__(self) -> None:
        for name, (is_valid, wanted) in _LIMITS.items():
            if not is_valid(value := getattr(self, name)):
                raise DefinitionError(f"Limits({name}={short(value)}): {wanted}")

    def reached(self, database: WorkflowDB, besides: int = 0) -> Reached:
        """The limits that are reached now; ``besides`` is a run that does not count."""
        read = database.connection.rows
        flows: Counter[str] = Counter()
        labels: Counter[Label] = Counter()
        if self.in_all or self.per_flow or self.per_label:
            for run_no, flow_name, text in read(QUERIES["runs_at_work"]):
                if run_no != besides and database.locks.is_held(run_no):
                    flows[flow_name] += 1
                    labels.update(json.loads(text).items())
        now, spent = database.connection.micros(), set[Label]()
        if self.rates:
            for key, value, until in read(QUERIES["rates"], (now,)):
                if not self._pay(key, until, now):
                    spent.add((key, value))
        full = [n for n, count in labels.items() if count >= self.per_label.get(n[0], count + 1)]
        return Reached(
            self.in_all is not None and flows.total() >= self.in_all,
            {name for name, count in flows.items() if count >= (self.per_flow or count + 1)},
            json.dumps([*((*label, 0) for label in full), *((*label, 1) for label in spent)]),
        )

    def _pay(self, key: str, until: int, now: int) -> int:
        """The time up to which a label's value has used its rate, with one more run; 0 if too many.

        A token bucket: each run uses its share of the period, at most one period in advance.
        """
        count, seconds = self.rates.get(key, (1, inf))
        if seconds == inf:
            return now
        whole = int(seconds * 1e6)
        new = max(until, now) + whole // count
        return new if new - now <= whole else 0

    def admit(self, raw: Transaction, database: WorkflowDB, run_no: int, *, begins: bool) -> None:
        """Count a run as at work, in the transaction that claims it.

        Raises:
            TakenError: A limit would be exceeded.
        """
        if not (self.in_all or self.per_flow or self.per_label or self.rates):
            return
        read, reached = database.connection.rows, self.reached(database, run_no)
        run = {"run_no": run_no, "held": reached.held}
        ((flow_name, text, is_held),) = read(QUERIES["labels_of_run"], run)
        if reached.in_all or flow_name in reached.flows or is_held:
            raise TakenError(f"run {run_no} waits: as many as may be are at work, or have begun")
        now = database.connection.micros()
        for key, value in json.loads(text).items() if begins else ():
            if key in self.rates:
                raw.execute(QUERIES["unused_rates"], (now,))
                stored = [row["until"] for row in read(QUERIES["rate"], (key, value))]
                until = self._pay(key, stored[0] if stored else 0, now)
                raw.execute(QUERIES["use_rate"], (key, value, until))


def interrupted_too_often(run_id: str, times: int) -> RunInterruptedError:
    """The error of a run that was interrupted that many times in a row."""
    return RunInterruptedError(
        f"run {run_id!r} was interrupted {times} times in a row, and has not finished an exec or "
        "a step between: it may be what ends the processes that run it; "
        f"flow.resume({run_id!r}) tries once more",
        remedies=[Remedy.of_resuming("try once more", run_id)],
    )


def interruptions(connection: Connection, run_no: int) -> int:
    """How often a run was started or resumed since it last made progress."""
    first, end = row_ids(run_no)
    row = connection.row(QUERIES["interruptions"], {"first": first, "end": end})
    return 0 if row is None else int(row[0])


def due_runs(
    database: WorkflowDB, flow_names: Iterable[str], limits: Limits, most: int
) -> list[DueRun]:
    """The runs that can continue and that no process runs: first interrupted, then oldest due.

    The interrupted runs most likely to have ended their processes themselves come last.

    Args:
        database: The database.
        flow_names: The names of the flows.
        limits: Runs that have to wait because of them are left out.
        most: The maximum number for each flow; interrupted runs do not count.
    """
    connection, locks = database.connection, database.locks
    reached = limits.reached(database)
    if reached.in_all:
        return []
    interrupted: list[DueRun] = []
    due: list[DueRun] = []
    for name in flow_names:
        if name in reached.flows:
            continue
        parameters = {"flow": name, "now": connection.now(), "most": most, "held": reached.held}
        for row in connection.rows(QUERIES["due_runs"], parameters):
            if not locks.is_held(row["run_no"]):
                is_due = row["status"] in ("queued", "paused")
                run = DueRun(name, row["run_no"], row["run_id"], row["due_at"] if is_due else "")
                if is_due:
                    due.append(run)
                    continue
                times = interruptions(connection, run.run_no)
                interrupted.append(run._replace(interruptions=times))
    interrupted.sort(key=lambda due_run: due_run.interruptions)
    return [*interrupted, *sorted(due, key=lambda due_run: (due_run.since, due_run.run_no))]


# -- schedules ------------------------------------------------------------------------------------


class Scheduled(NamedTuple):
    """A schedule as it is stored.

    Attributes:
        flow_name: The flow.
        name: Its name there.
        expression: The cron expression.
        tz: The time zone of the expression.
        next_at: The first occurrence without a run, as ISO-8601 text in UTC.
    """

    flow_name: str
    name: str
    expression: str
    tz: str
    next_at: str


class Occurrence(NamedTuple):
    """An occurrence of a schedule that is about to become a run.

    Attributes:
        schedule: The schedule as it was read.
        next_at: The next occurrence.
    """

    schedule: Scheduled
    next_at: str

    def take(self, raw: Transaction) -> None:
        """Advance the schedule, in the transaction that records the run.

        Raises:
            TakenError: Another worker advanced it, or the schedule was changed or removed.
        """
        if raw.execute(QUERIES["move_schedule"], (self.next_at, *self.schedule)).rowcount != 1:
            raise TakenError(f"schedule {self.schedule.name!r} was moved on by somebody else")


def store_schedules(
    database: WorkflowDB, flow_names: Iterable[str], schedules: Iterable[Scheduled]
) -> None:
    """Replace the stored schedules of flows; an unchanged schedule keeps its next occurrence.

    An occurrence that is later than the next one from now on was computed while the clock was
    ahead, and is replaced.
    """
    with database.writing() as raw:
        missing = {schedule[:2]: schedule for schedule in schedules}
        for name in flow_names:
            for row in raw.execute(QUERIES["schedules_of_flow"], (name,)).fetchall():
                stored = Scheduled(*row)
                new = missing.get(stored[:2])
                if new and new[2:4] == stored[2:4] and stored.next_at <= new.next_at:
                    del missing[stored[:2]]
                else:
                    raw.execute(QUERIES["delete_schedule"], stored[:2])
        raw.executemany(QUERIES["insert_schedule"], missing.values())


def due_schedules(database: WorkflowDB, flow_name: str) -> Iterator[Scheduled]:
    """The schedules of a flow that have a due occurrence."""
    connection = database.connection
    for row in connection.rows(QUERIES["due_schedules"], (flow_name, connection.now())):
        yield Scheduled(*row)
