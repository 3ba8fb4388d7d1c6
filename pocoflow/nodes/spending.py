"""What runs spend: amounts by name, their sums, and their limits."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable, Mapping
from contextvars import ContextVar
from decimal import Context, Decimal
from numbers import Integral, Real
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeAlias

from pocoflow.address import plain
from pocoflow.errors import BudgetError, DefinitionError
from pocoflow.messages import short

Amount: TypeAlias = int | float | Decimal
"""A float stands for the decimal number that Python shows for it, so that sums are exact."""

Amounts: TypeAlias = Mapping[str, Decimal]

NO_AMOUNTS: Amounts = MappingProxyType({})

TO_SPEND_MORE = "; set a larger budget"
"""The beginning of the remedy in the message of a spent budget."""

_SUMS = Context(prec=60)
_NONE = Decimal(0)


class CallBill(list[Amounts]):
    """What is spent inside of a journaled call.

    Args:
        key: What identifies the call.
    """

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


charged: ContextVar[CallBill | None] = ContextVar("pocoflow_charged", default=None)
"""The bill of the current journaled call; ``None`` outside of one."""


class Spent(NamedTuple):
    """What was spent at once, as it is recorded.

    Attributes:
        line: The number of the line of execution.
        names: The node, after the names of the flows and branches around it.
        amounts: How much, by name; ``None`` for a budget that the line continues without.
    """

    line: int
    names: tuple[str, ...]
    amounts: Mapping[str, Decimal | None]


def amounts_of(given: Mapping[str, Amount], where: str) -> Amounts:
    """Amounts as numbers that can be summed exactly.

    Raises:
        DefinitionError: One is not a number, or is below 0.
    """
    return {
        name: _number(amount, f"{where}({name}={short(amount)})") for name, amount in given.items()
    }


def _number(amount: object, context: str) -> Decimal:
    if type(amount) is not bool and isinstance(amount, Real | Decimal):
        if isinstance(amount, Real):  # including numpy's
            amount = int(amount) if isinstance(amount, Integral) else repr(float(amount))
        number = Decimal(amount)
        if number.is_finite() and number >= 0:
            return number.copy_abs()  # -0 is 0
    raise DefinitionError(
        f"{context}: an amount is a number of at least 0, an int, a float or a Decimal"
    )


def limits_of(given: object, where: str) -> Amounts | None:
    """The limits of a budget, ``{"usd": 2.0}``; ``None`` for none.

    Raises:
        DefinitionError: It is something else.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping) or not all(type(name) is str for name in given):
        raise DefinitionError(
            f"{where} is {short(given)}: a budget is a limit for each name that is spent, as in "
            'budget={"usd": 2.0}'
        )
    return {name: _number(most, f"{where}, {name}={short(most)}") for name, most in given.items()}


def limited_by(*budgets: Amounts | None) -> tuple[str, ...]:
    """The names that any of the budgets limit, each once."""
    return tuple(dict.fromkeys(name for limits in budgets for name in limits or ()))


def sum_of(several: Iterable[Amounts]) -> Amounts:
    """Amounts added up, by name."""
    sums: dict[str, Decimal] = {}
    for amounts in several:
        _add(sums, amounts)
    return sums


def _add(sums: dict[str, Decimal], amounts: Amounts) -> None:
    for name, amount in amounts.items():
        sums[name] = _SUMS.add(sums.get(name, _NONE), amount)


class HasSpent(Protocol):
    """What other runs have spent of a budget, up to date."""

    @property
    def amounts(self) -> Amounts:
        """How much, by name."""


class Budget(NamedTuple):
    """How much may be spent.

    Attributes:
        where: What the budget is for, as messages say it.
        limits: How much, by name.
        others: The runs that it is shared with; ``None`` if there are none.
    """

    where: str
    limits: Amounts
    others: HasSpent | None = None


class Account:
    """What one run has spent, before and after resumes; threads may add to it.

    Attributes:
        past: The budgets that lines continue without, by the number of the line, as an edge for a
            spent budget was taken there.
    """

    def __init__(self, spent: Iterable[Spent] = ()) -> None:
        self._guard = threading.Lock()
        self._sums: dict[str, Decimal] = {}
        self._by_node: dict[tuple[str, ...], dict[str, Decimal]] = {}
        self.past: dict[int, set[str]] = {}
        for line, names, amounts in spent:
            self.add(names, {name: paid for name, paid in amounts.items() if paid is not None})
            if past := {name for name, amount in amounts.items() if amount is None}:
                self.past.setdefault(line, set()).update(past)

    def add(self, names: Iterable[str], amounts: Amounts) -> None:
        """Count what a node has spent."""
        with self._guard:
            _add(self._sums, amounts)
            _add(self._by_node.setdefault(plain(names), {}), amounts)

    @property
    def sums(self) -> Amounts:
        """What was spent, by name."""
        with self._guard:
            return MappingProxyType(dict(self._sums))

    def rows(self, names: Iterable[str]) -> tuple[Spent, Spent]:
        """What a node has spent, and the rest, for an account in another process."""
        path = tuple(names)
        with self._guard:
            spent = dict(self._by_node.get(plain(path), {}))
            others = {
                name: _SUMS.subtract(amount, spent.get(name, _NONE))
                for name, amount in self._sums.items()
            }
        return Spent(0, path, spent), Spent(0, (), others)

    def refusal(
        self,
        run_id: str,
        names: tuple[str, ...],
        budgets: Iterable[Budget],
        of_node: Amounts,
        past: Container[str],
    ) -> BudgetError | None:
        """The error of a node that may spend no more; ``None`` if it may.

        Args:
            run_id: The run.
            names: The node, after the names around it.
            budgets: The budgets of the run.
            of_node: The budget of the node.
            past: The names of budgets that no longer count.
        """
        sums, node = self.sums, self._by_node.get(plain(names), {})
        shown, spent, reasons = "/".join(names), [], []
        for budget in (*budgets, Budget(f"node {'/'.join(names)!r}", of_node)):
            own = node if budget.limits is of_node else sums
            others = NO_AMOUNTS if budget.others is None else budget.others.amounts
            for name, limit in budget.limits.items():
                total = _SUMS.add(own.get(name, _NONE), others.get(name, _NONE))
                if total >= limit and name not in past:
                    spent.append(name)
                    reasons.append(f"{total} of {limit} {name} in {budget.where}")
        if not spent:
            return None
        edge = f"flow.then(node.when_spent({', '.join(map(repr, dict.fromkeys(spent)))}), target)"
        return BudgetError(
            f"run {run_id!r}: node {shown!r} may spend no more: {', '.join(reasons)}"
            f"{TO_SPEND_MORE}, with which a run on record can be resumed, or write where it goes "
            f"then: {edge}",
            names=tuple(dict.fromkeys(spent)),
            account=sums,
        )
