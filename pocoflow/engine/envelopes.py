"""What travels between the process of a run and a worker: names, numbers, and encoded values.

These tuples contain nothing else, however an executor sends them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pocoflow.graph.fingerprint import code_of
from pocoflow.graph.references import Reference
from pocoflow.graph.step_records import Called
from pocoflow.nodes.base import Node, made_of
from pocoflow.nodes.context import RunContext
from pocoflow.nodes.spending import Amounts, Budget, Spent
from pocoflow.values.exceptions import Thrown


class Others(NamedTuple):
    """What other runs had spent of a budget when this was sent."""

    amounts: Amounts


def as_sent(budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    """The current state of budgets, for a worker."""
    rows = []
    for where, limits, others in budgets:
        spent = None if others is None else Others(dict(others.amounts))
        rows.append(Budget(where, dict(limits), spent))
    return tuple(rows)


class Endpoint(NamedTuple):
    """Where a process listens: the name of its machine, an address there, and a key."""

    host: str
    address: str
    key: str


NOWHERE = Endpoint("", "", "")


class Request(NamedTuple):
    """What a worker needs to know about a run.

    Attributes:
        reference: Where the worker finds the node.
        code: A digest of the node's code, for one version of Python.
        home: The process of the run.
        context: The context of the ``exec``, without what cannot be sent.
        state: The node's own attributes, as text; empty if they do not travel.
        keeps: Whether the results of calls are wanted.
        emits: The number by which what it emits is relayed; 0 if nobody listens.
        endpoint: Where the process of the run listens.
        calls: What calls have returned, as text by key.
        errors: What the earlier attempts raised, as text.
        spent: What the node has spent, and what the whole run has.
        budgets: The budgets of the run; ``None`` if neither it nor a node has one.
        of_node: The budget of the node.
        level: The level of the root logger.
        variables: Context variables, with their values as text; empty if it is not set.
        trace: The trace context, as the headers of OpenTelemetry.
    """

    reference: Reference
    code: str
    home: str
    context: RunContext
    state: str
    keeps: bool
    emits: int
    endpoint: Endpoint
    calls: Mapping[str, str]
    errors: str
    spent: Sequence[Spent]
    budgets: tuple[Budget, ...] | None
    of_node: Amounts
    level: int
    variables: Sequence[tuple[Reference, str]]
    trace: Mapping[str, str]


class Reply(NamedTuple):
    """What a worker reports of an ``exec`` that has ended.

    Attributes:
        result: The result, as text; empty if there is none.
        error: What was raised, if anything.
        emitted: The emitted values, as text.
        records: What was logged: the attributes of the records.
        calls: The journaled calls that have returned; their results are text.
        used: The keys of all calls that ``exec`` made.
        last: The key of the last of them; empty if there is none.
        is_of_call: Whether a call raised the error.
        is_refused: Whether the error is that a budget is spent.
        spent: What was spent outside of calls.
        remarks: Remarks about the run.
        variables: The values of context variables that were set, as text by their numbers.
    """

    result: str = ""
    error: Thrown | None = None
    emitted: Sequence[str] = ()
    records: Sequence[Mapping[str, object]] = ()
    calls: Sequence[Called] = ()
    used: Sequence[str] = ()
    last: str = ""
    is_of_call: bool = False
    is_refused: bool = False
    spent: Sequence[Amounts] = ()
    remarks: Sequence[str] = ()
    variables: Sequence[tuple[int, str]] = ()


ONLY_HERE = "define its class at the top of a module, or keep the node here, executor='here'"
"""The remedy for an instance of a class that no other process can find."""

_codes: dict[object, str] = {}
"""The digests of code, by the definitions of nodes."""


def code_digest(node: Node) -> str:
    """A digest of a node's code, for one version of Python."""
    definition = made_of(node)
    if definition not in _codes:
        _codes[definition] = f"{sys.version_info[:2]} {code_of(node)}"
    return _codes[definition]


_process = os.urandom(8).hex()


def this_process() -> str:
    """Identifies this process among all others, including those forked from it."""
    return f"{_process}-{os.getpid()}"
