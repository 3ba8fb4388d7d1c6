"""What runs have spent, according to their logs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from pocoflow.db.connection import Connection
from pocoflow.db.log import names_at
from pocoflow.db.port import Record
from pocoflow.db.rows import is_amounts, read_json
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.nodes.spending import NO_AMOUNTS, Amounts, sum_of


@dataclass(frozen=True, slots=True)
class Expense:
    """One recorded expense.

    Attributes:
        line: The number of the line of execution; 0 is the run itself.
        step: The number of the step; for an unfinished step of a parallel branch, the number of
            steps that the run had when the step started.
        names: The names of the enclosing flows and branches, then that of the node.
        item: The item, if the node works on several.
        attempt: The attempt of ``exec``.
        call: The function of the journaled call that spent it, or ``""``.
        amounts: How much, by name.
        past: Budgets that no longer bind the line, as it took the edge for their exhaustion.
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
        """The expense as JSON; amounts are texts."""
        return {
            "step": self.step,
            "node": "/".join(self.names),
            "item": self.item,
            "attempt": self.attempt,
            "call": self.call,
            "amounts": {name: str(amount) for name, amount in self.amounts.items()},
        }


def expenses_of(connection: Connection, run_no: int) -> Iterator[Expense]:
    """What a run has spent, in the order of its log.

    Raises:
        DecodeError: A row of it is damaged.
    """
    first, end = row_ids(run_no)
    for row in connection.rows(QUERIES["spending"], {"first": first, "end": end}):
        amounts, past = _read(row)
        yield Expense(
            row["line"],
            row["step"] or 0,
            names_at(row["node"], row["path"]),
            row["item"],
            row["attempt"] or 1,
            (row["note"] or "").rsplit(" ", maxsplit=2)[0],
            amounts,
            past,
        )


class SharedSpending:
    """What other runs that share a budget with a run have spent, as of its last commit.

    The expenses of a completed run are read once.

    Attributes:
        amounts: How much, by name.
    """

    def __init__(self, connection: Connection, sql: str, parameters: Mapping[str, object]) -> None:
        self.amounts: Amounts = NO_AMOUNTS
        self._connection, self._sql, self._parameters = connection, sql, parameters
        self.forget()
        self.refresh()

    def forget(self) -> None:
        """Have the next refresh read everything: the last read may have been rolled back."""
        self._completed: Amounts = NO_AMOUNTS
        self._newest, self._open = -1, list[int]()

    def refresh(self) -> None:
        """Read what they have spent by now.

        Raises:
            DecodeError: A row of it is damaged.
        """
        progress = {"newest": self._newest, "open": json.dumps(self._open)}
        completed, unfinished = [self._completed], list[Amounts]()
        open_runs = set[int]()
        for row in self._connection.rows(self._sql, {**self._parameters, **progress}):
            self._newest = max(self._newest, row["run_no"])
            is_completed = row["status"] == "completed"
            if not is_completed:
                open_runs.add(row["run_no"])
            if row["data"] is not None:
                (completed if is_completed else unfinished).append(_read(row)[0])
        self._completed, self._open = sum_of(completed), list(open_runs)
        self.amounts = sum_of((self._completed, *unfinished))


def _read(row: Record) -> tuple[Amounts, tuple[str, ...]]:
    """The amounts of a row, and the budgets that no longer bind its line."""
    data = read_json(row["data"], is_amounts, f"row {row['id']} of the log")
    amounts = {name: Decimal(text) for name, text in data.items() if text is not None}
    return amounts, tuple(name for name in data if name not in amounts)
