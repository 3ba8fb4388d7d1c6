"""What runs have spent, as it is on record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from pocoflow.db.connection import Connection
from pocoflow.db.log import names_at
from pocoflow.db.rows import is_amounts, read_json
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.nodes.spending import Amounts, sum_of


@dataclass(frozen=True, slots=True)
class Expense:
    """What was spent at once.

    Attributes:
        line: The number of the line of execution; 0 is the run itself.
        step: The number of the step; in a parallel branch, that in the branch.
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
    for row in connection.rows(QUERIES["spending"], row_ids(run_no)):
        found = read_json(row["data"], is_amounts, f"row {row['id']} of the log")
        yield Expense(
            row["line"],
            row["step"] or 0,
            names_at(row["node"], row["path"]),
            row["item"],
            row["attempt"] or 1,
            (row["note"] or "").rsplit(" ", maxsplit=2)[0],
            {name: Decimal(one) for name, one in found.items() if one is not None},
            tuple(name for name, one in found.items() if one is None),
        )


def spent_by(connection: Connection, query: str, wanted: Mapping[str, object]) -> Amounts:
    """What several runs have spent, by name.

    Raises:
        DecodeError: A row of it is damaged.
    """
    found = []
    for row in connection.rows(QUERIES[query], dict(wanted)):
        amounts = read_json(row["data"], is_amounts, f"row {row['id']} of the log")
        found.append({name: Decimal(one) for name, one in amounts.items() if one is not None})
    return sum_of(found)
