"""What workers ask of a database: which runs are due, how many may be at work, which schedules."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, TypeAlias, cast

from pocoflow.db.port import Record, Transaction
from pocoflow.db.rows import checked
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import DefinitionError, Remedy, RunInterruptedError, TakenError
from pocoflow.messages import short
from pocoflow.nodes.setting_checks import is_time


class DueRun(NamedTuple):
    """A run that can go on, and that nobody runs.

    Attributes:
        flow_name: The name of its flow.
        run_no: Its number.
        run_id: Its id.
        since: From when on it is due; empty if it was interrupted.
        interruptions: How often it was interrupted since something of it was last finished.
    """

    flow_name: str
    run_no: int
    run_id: str
    since: str
    interruptions: int = 0


Label: TypeAlias = tuple[str, str]

Read: TypeAlias = Callable[[str, Sequence[object]], Sequence[Record]]
"""Gives the rows of a query."""


class Reached(NamedTuple):
    """What has as many runs as it may have.

    Attributes:
        in_all: Whether there are as many as there may be.
        flows: Flows.
        labels: Labels with their values.
        spent: Those of which no queued run may begin yet.
    """

    in_all: bool
    flows: Collection[str]
    labels: Collection[Label]
    spent: Collection[Label]

    def holds(self, flow_name: str, labels: Collection[Label], *, begins: bool) -> bool:
        """Whether a run has to wait.

        Args:
            flow_name: Its flow.
            labels: Its labels.
            begins: Whether it is one that has not begun.
        """
        held = {*self.labels, *(self.spent if begins else ())}
        return self.in_all or flow_name in self.flows or not held.isdisjoint(labels)


def _is_rate(given: object) -> bool:
    """Whether it is a number of runs and one of seconds."""
    return (
        isinstance(given, tuple | list)
        and len(given) == 2
        and isinstance(given[1], int | float)
        and not isinstance(given[1], bool)
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """How many runs of a database may be at work at once, and how many may begin.

    They hold for all workers together that were given them. What nobody runs does not count.

    Attributes:
        in_all: At most so many runs at once.
        per_flow: At most so many of each flow.
        per_label: At most so many of each value that a label has, by the key of the label.
        rates: By the key of a label: of each value that it has, at most so many queued runs begin
            at once, and no more than so many in so many seconds on average.
        interruptions: A run that was interrupted so many times in a row, without finishing an
            ``exec`` or a step between, is recorded as failed.
        begin_within: A queued run that was due so many seconds ago is recorded as failed if the
            code has changed where it begins; until then another worker may have the code for it.

    Raises:
        DefinitionError: One makes no sense.
    """

    in_all: int | None = None
    per_flow: int | None = None
    per_label: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    interruptions: int = 10
    begin_within: float = 600.0

    def __post_init__(self) -> None:
        per_label, rates = cast("tuple[object, object]", (self.per_label, self.rates))
        if not isinstance(per_label, Mapping):
            told = f"Limits(per_label={short(per_label)})"
            raise DefinitionError(f"{told}: numbers by labels, as in per_label={{'tenant': 2}}")
        if not isinstance(rates, Mapping) or not all(map(_is_rate, rates.values())):
            raise DefinitionError(
                f"Limits(rates={short(rates)}): numbers and seconds by labels, as in "
                "rates={'tenant': (10, 60)}, for ten in a minute"
            )
        counts = {"in_all": self.in_all, "per_flow": self.per_flow}
        counts |= {f"per_label[{key!r}]": count for key, count in self.per_label.items()}
        counts |= {f"rates[{key!r}]": count for key, (count, _) in self.rates.items()}
        for name, count in {**counts, "interruptions": self.interruptions}.items():
            if count is not None and (type(count) is not int or count < 1):
                raise DefinitionError(f"Limits({name}={count!r}): a whole number of at least 1")
        if not is_time(self.begin_within):
            raise DefinitionError(f"Limits(begin_within={self.begin_within!r}): seconds, above 0")
        for key, (_, seconds) in self.rates.items():
            if not seconds > 0:
                raise DefinitionError(f"Limits(rates[{key!r}]): in {seconds!r} seconds; above 0")

    def reached(self, read: Read, database: WorkflowDB, besides: int = 0) -> Reached:
        """What has as many runs as it may have now.

        Args:
            read: Reads from the database.
            database: The database.
            besides: A run that does not count.
        """
        flows: Counter[str] = Counter()
        labels: Counter[Label] = Counter()
        if self.in_all or self.per_flow or self.per_label:
            for run_no, flow_name, found in read(QUERIES["runs_at_work"], ()):
                if run_no != besides and database.locks.is_held(run_no):
                    flows[flow_name] += 1
                    labels.update(json.loads(found).items())
        now, spent = database.connection.micros(), set[Label]()
        if self.rates:
            for key, value, until in read(QUERIES["rates"], (now,)):
                if not self._pay(key, until, now):
                    spent.add((key, value))
        return Reached(
            self.in_all is not None and flows.total() >= self.in_all,
            {name for name, count in flows.items() if count >= (self.per_flow or count + 1)},
            {
                one
                for one, count in labels.items()
                if count >= self.per_label.get(one[0], count + 1)
            },
            spent,
        )

    def _pay(self, key: str, until: int, now: int) -> int:
        """Until when the runs of a label's value have used their rate with one more; 0 if too many.

        Each run uses its part of the time, and as much as all of them use may be used in advance.
        """
        count, seconds = self.rates.get(key, (1, inf))
        if seconds == inf:
            return now
        whole = int(seconds * 1e6)
        new = max(until, now) + whole // count
        return new if new - now <= whole else 0

    def admit(self, raw: Transaction, database: WorkflowDB, run_no: int, *, begins: bool) -> None:
        """Count a run among those at work, in the transaction in which it becomes one of them.

        Raises:
            TakenError: It would be one too many.
        """
        if not (self.in_all or self.per_flow or self.per_label or self.rates):
            return

        def read(sql: str, parameters: Sequence[object]) -> list[Record]:
            return checked(raw.execute(sql, parameters).fetchall(), "the database")

        ((flow_name, found),) = read(QUERIES["labels_of_run"], (run_no,))
        labels = json.loads(found).items()
        reached = self.reached(read, database, run_no)
        if reached.holds(flow_name, labels, begins=begins):
            raise TakenError(f"run {run_no} waits: as many as may be are at work, or have begun")
        now = database.connection.micros()
        for key, value in labels if begins else ():
            if key in self.rates:
                raw.execute(QUERIES["unused_rates"], (now,))
                known = [row["until"] for row in read(QUERIES["rate"], (key, value))]
                until = self._pay(key, known[0] if known else 0, now)
                raw.execute(QUERIES["use_rate"], (key, value, until))

    def refuse_interrupted(self, raw: Transaction, run_no: int, run_id: str) -> None:
        """Refuse a run that was interrupted too often.

        Raises:
            RunInterruptedError: It was.
        """
        (count,) = raw.execute(QUERIES["interruptions"], _range(run_no)).fetchone()
        if count >= self.interruptions:
            raise RunInterruptedError(
                f"run {run_id!r} was interrupted {count} times in a row, and has not finished an "
                "exec or a step between: it may be what ends the processes that run it; "
                f"flow.resume({run_id!r}) tries once more",
                remedies=[Remedy.of_resuming("try once more", run_id)],
            )


def due_runs(
    database: WorkflowDB, flow_names: Iterable[str], limits: Limits, most: int
) -> list[DueRun]:
    """The runs of flows that can go on and that nobody runs: interrupted ones, then the oldest due.

    Of those that were interrupted, what may be ending the processes that run it comes last.

    Args:
        database: The database.
        flow_names: The names of the flows.
        limits: Leave out those that have to wait for others.
        most: At most so many of each flow, and all interrupted ones.
    """
    connection, locks = database.connection, database.locks
    reached = limits.reached(connection.rows, database)
    if reached.in_all:
        return []
    held = [(*one, 0) for one in reached.labels] + [(*one, 1) for one in reached.spent]
    interrupted: list[DueRun] = []
    due: list[DueRun] = []
    for name in flow_names:
        if name in reached.flows:
            continue
        wanted = {"flow": name, "now": connection.now(), "most": most, "held": json.dumps(held)}
        for row in connection.rows(QUERIES["due_runs"], wanted):
            if not locks.is_held(row["run_no"]):
                is_due = row["status"] in ("queued", "paused")
                found = DueRun(name, row["run_no"], row["run_id"], row["due_at"] if is_due else "")
                if is_due:
                    due.append(found)
                    continue
                counted = connection.row(QUERIES["interruptions"], _range(found.run_no))
                times = 0 if counted is None else counted[0]
                interrupted.append(found._replace(interruptions=times))
    interrupted.sort(key=lambda one: one.interruptions)
    return [*interrupted, *sorted(due, key=lambda one: (one.since, one.run_no))]


def _range(run_no: int) -> dict[str, int]:
    first, end = row_ids(run_no)
    return {"first": first, "end": end}


# -- schedules ------------------------------------------------------------------------------------


class Scheduled(NamedTuple):
    """A schedule as it is stored.

    Attributes:
        flow_name: The flow.
        name: Its name there.
        expression: The cron expression.
        tz: The time zone in which that is meant.
        next_at: The first occurrence that is not a run yet, as ISO-8601 text in UTC.
    """

    flow_name: str
    name: str
    expression: str
    tz: str
    next_at: str


class Occurrence(NamedTuple):
    """An occurrence of a schedule that is to become a run.

    Attributes:
        schedule: The schedule as it was read.
        next_at: The occurrence after it.
    """

    schedule: Scheduled
    next_at: str

    def take(self, raw: Transaction) -> None:
        """Move the schedule on, in the transaction that records the run.

        Raises:
            TakenError: Somebody else has done so, or has changed or removed the schedule.
        """
        if raw.execute(QUERIES["move_schedule"], (self.next_at, *self.schedule)).rowcount != 1:
            raise TakenError(f"schedule {self.schedule.name!r} was moved on by somebody else")


def store_schedules(
    database: WorkflowDB, flow_names: Iterable[str], schedules: Iterable[Scheduled]
) -> None:
    """Make the schedules of flows those of their code; what is unchanged keeps its next time."""
    with database.writing() as raw:
        wanted = {one[:2]: one for one in schedules}
        for name in flow_names:
            for row in raw.execute(QUERIES["schedules_of_flow"], (name,)).fetchall():
                known = Scheduled(*row)
                new = wanted.get(known[:2])
                if new is not None and new[2:4] == known[2:4]:
                    del wanted[known[:2]]
                else:
                    raw.execute(QUERIES["delete_schedule"], known[:2])
        raw.executemany(QUERIES["insert_schedule"], wanted.values())


def due_schedules(database: WorkflowDB, flow_name: str) -> Iterator[Scheduled]:
    """The schedules of a flow of which an occurrence is due."""
    connection = database.connection
    for row in connection.rows(QUERIES["due_schedules"], (flow_name, connection.now())):
        yield Scheduled(*row)
