"""What runs have spent, as it is on record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from operator import itemgetter

from pocoflow.db.connection import Connection
from pocoflow.db.log import Kind, names_at
from pocoflow.db.port import Record
from pocoflow.db.rows import is_amounts, read_json
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.nodes.spending import NO_AMOUNTS, Amounts, sum_of


@dataclass(frozen=True, slots=True)
class Expense:
    """What was spent at once.

    Attributes:
        line: The number of the line of execution; 0 is the run itself.
        step: The number of the step; while a step of a parallel branch is not finished, that of the
            next one of the run as it began.
        names: The node, after the names of the flows and branches around it.
        item: The item, if the node works on several.
        attempt: The attempt of ``exec``.
        call: The function of the journaled call that spent it; ``""`` if none did.
        amounts: How much, by name.
        past: Budgets that the line goes on without, as the edge for their end was taken.
    """

    line: int
    step: int
    names: tuple[str, ...]
    item: int | None
    attempt: int
    call: str
    amounts: Amounts
    past: tuple[str, ...]

    def as_json(self) -> Mapping[str, object]:
        """The same as JSON; amounts are texts."""
        return {
            "step": self.step,
            "node": "/".join(self.names),
            "item": self.item,
            "attempt": self.attempt,
            "call": self.call,
            "amounts": {name: str(amount) for name, amount in self.amounts.items()},
        }


def expenses_of(connection: Connection, run_no: int) -> Iterator[Expense]:
    """What a run has spent, in the order of the record.

    Raises:
        DecodeError: A row of it is damaged.
    """
    rows = connection.rows(QUERIES["spending"], row_ids(run_no))
    inside = [row for row in rows if row["line"]]
    ends = connection.rows(QUERIES["branch_steps"], row_ids(run_no)) if inside else []
    # The steps of branches get their numbers as they are committed.
    steps, next_step = dict[int, int](), dict[int, int]()
    for row in sorted((*inside, *ends), key=itemgetter("id"), reverse=True):
        if row["kind"] != Kind.SPENT:
            next_step[row["line"]] = row["step"]
        elif row["line"] in next_step:
            steps[row["id"]] = next_step[row["line"]]
    for row in rows:
        amounts, past = _read(row)
        yield Expense(
            row["line"],
            steps.get(row["id"], row["step"] or 0),
            names_at(row["node"], row["path"]),
            row["item"],
            row["attempt"] or 1,
            (row["note"] or "").rsplit(" ", maxsplit=2)[0],
            amounts,
            past,
        )


class SharedSpending:
    """What the other runs have spent that share a budget with one, as of its last commit.

    Of a run that is completed it is read once.

    Attributes:
        amounts: How much, by name.
    """

    def __init__(self, sql: str, wanted: Mapping[str, object]) -> None:
        self.amounts: Amounts = NO_AMOUNTS
        self._sql, self._wanted = sql, wanted
        self.forget()

    def forget(self) -> None:
        """Read all of them with the next look: what was read last was undone, perhaps."""
        self._completed: Amounts = NO_AMOUNTS
        self._newest, self._open = -1, list[int]()

    def look(self, read: Callable[[str, dict[str, object]], Iterable[Record]]) -> None:
        """Read what they have spent by now.

        Args:
            read: The rows of a query.

        Raises:
            DecodeError: A row of it is damaged.
        """
        asked = {"newest": self._newest, "open": json.dumps(self._open)}
        completed, others = [self._completed], list[Amounts]()
        open_runs = set[int]()
        for row in read(self._sql, {**self._wanted, **asked}):
            self._newest = max(self._newest, row["run_no"])
            is_completed = row["status"] == "completed"
            if not is_completed:
                open_runs.add(row["run_no"])
            if row["data"] is not None:
                (completed if is_completed else others).append(_read(row)[0])
        self._completed, self._open = sum_of(completed), list(open_runs)
        self.amounts = sum_of((self._completed, *others))


def _read(row: Record) -> tuple[Amounts, tuple[str, ...]]:
    """What a row says was spent, and the budgets that its line goes on without."""
    found = read_json(row["data"], is_amounts, f"row {row['id']} of the log")
    amounts = {name: Decimal(one) for name, one in found.items() if one is not None}
    return amounts, tuple(name for name in found if name not in amounts)
