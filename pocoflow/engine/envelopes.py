"""What travels between the process of a run and a worker: names, numbers, and values as text.

Nothing else is in these tuples, however an executor sends them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from pocoflow.graph.fingerprint import code_of
from pocoflow.graph.references import Reference
from pocoflow.nodes.base import Node, made_of
from pocoflow.nodes.spending import Amounts, Budget
from pocoflow.values.exceptions import Thrown


class Limits(NamedTuple):
    """The budgets of a run, for a worker.

    Attributes:
        budgets: Those of the run: in what, how much, and what others have spent.
        of_node: That of the node.
    """

    budgets: Sequence[tuple[str, Amounts, Amounts | None]]
    of_node: Amounts

    @classmethod
    def of(cls, budgets: Sequence[Budget], of_node: Amounts) -> Limits:
        """Budgets as they stand now."""
        own = [
            (one.where, dict(one.limits), None if one.others is None else dict(one.others.amounts))
            for one in budgets
        ]
        return cls(own, dict(of_node))


class Door(NamedTuple):
    """Where a process listens: the name of its machine, an address there, and a key."""

    host: str
    address: str
    key: str


NO_DOOR = Door("", "", "")


class Letter(NamedTuple):
    """What a worker is told of a run.

    Attributes:
        reference: Where the node is found there.
        code: What tells the code of the node from other code, in one version of Python.
        home: The process of the run.
        run: Its id, the name of its flow, and its token.
        node: The name of the node, and those of the flows and branches around it.
        path: The latter.
        step: As in the context of the run; likewise ``branches``, ``attempt``, ``item``
            and ``mark``.
        state: What the node has of its own, as text; empty if that does not travel.
        number: The number of the step among those of its branch.
        keeps: Whether what calls return is wanted.
        emits: The number of the call for whoever wants what it emits; 0 if nobody does.
        door: Where the process of the run listens.
        calls: What calls have returned, as text by key.
        errors: What the attempts before have raised, as text.
        spent: What the node has spent, and all others.
        limits: The budgets; ``None`` without any.
        level: The level of the root logger.
        variables: Context variables, with their values as text; without one, it is not set.
        trace: The trace context, as the headers of OpenTelemetry.
    """

    reference: Reference
    code: str
    home: str
    run: tuple[str, str, str]
    node: str
    path: tuple[str, ...]
    step: int
    branches: tuple[tuple[int, int], ...]
    number: int
    attempt: int
    item: int | None
    mark: str
    state: str
    keeps: bool
    emits: int
    door: Door
    calls: Mapping[str, str]
    errors: str
    spent: tuple[Mapping[str, Decimal | None], ...]
    limits: Limits | None
    level: int
    variables: Sequence[tuple[Reference, str]]
    trace: Mapping[str, str]


class MadeCall(NamedTuple):
    """A journaled call that has returned in a worker.

    Attributes:
        key: What it is known by in the step, or item.
        result: What it returned, as text.
        awaited: Whether that was awaited.
        elapsed: Seconds that it took.
        spent: What was spent in it.
    """

    key: str
    result: str
    awaited: bool
    elapsed: float
    spent: Amounts


class Reply(NamedTuple):
    """What a worker tells of an ``exec`` that is over.

    Attributes:
        result: The result, as text; empty if there is none.
        error: What was raised, if anything.
        emitted: What was emitted, each as text.
        records: What was logged: the attributes of the records.
        calls: The journaled calls that have returned.
        used: The keys of all calls that ``exec`` has asked for.
        last: The key of the last of them; empty if there is none.
        has_other_code: Whether the node of the worker has other code than that of the run.
        is_of_call: Whether a call has raised the error.
        is_refused: Whether the error says that a budget is spent.
        spent: What was spent outside of calls.
        remarks: What people should know.
        variables: The values of context variables that were set, as text by their numbers.
    """

    result: str = ""
    error: Thrown | None = None
    emitted: Sequence[str] = ()
    records: Sequence[Mapping[str, object]] = ()
    calls: Sequence[MadeCall] = ()
    used: Sequence[str] = ()
    last: str = ""
    has_other_code: bool = False
    is_of_call: bool = False
    is_refused: bool = False
    spent: Sequence[Amounts] = ()
    remarks: Sequence[str] = ()
    variables: Sequence[tuple[int, str]] = ()


ONLY_HERE = "define its class at the top of a module, or keep the node here, executor='here'"
"""What to do where something of a class that no other process finds was to travel."""

_codes: dict[object, str] = {}
"""What is known of the definitions of nodes."""


def code_here(node: Node) -> str:
    """What tells the code of a node from other code, in one version of Python."""
    definition = made_of(node)
    if definition not in _codes:
        _codes[definition] = f"{sys.version_info[:2]} {code_of(node)}"
    return _codes[definition]


_process = os.urandom(8).hex()


def here() -> str:
    """What tells this process from all others, those forked from it included."""
    return f"{_process}-{os.getpid()}"
