"""What a step records: its attempts, journaled calls and bills, and that it is finished."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import NamedTuple

from pocoflow.address import Address
from pocoflow.graph.routing import TakenEdge
from pocoflow.nodes.spending import NO_AMOUNTS, Amounts

ALONE = -1
"""The item number that stands for the input of a node that is not a batch."""


class Identity(NamedTuple):
    """The identity of an item.

    Attributes:
        number: What its result, question or branch is recorded under.
        mark: Its digest, numbered among equal items; empty if it cannot be stored.
    """

    number: int
    mark: str


class Numbers:
    """Numbers the steps of a run, in the order in which its branches commit them."""

    def __init__(self, first: int) -> None:
        self.next_step = first
        self._lock = threading.Lock()

    @contextmanager
    def next(self) -> Iterator[int]:
        """The next number, which is used up if the block is left without an error.

        Other branches wait for that: numbers that were assigned before a step is recorded could
        have gaps, and those assigned after it duplicates.
        """
        with self._lock:
            yield self.next_step
            self.next_step += 1


class Tried(NamedTuple):
    """An attempt of ``exec`` that failed and is retried.

    Attributes:
        address: The node.
        attempt: The number of the attempt, from 1.
        error: What it raised.
        item: The item, if it is one of several.
        given: What ``prep`` returned.
        again: The key of the journaled call that is made again, if there is one.
    """

    address: Address
    attempt: int
    error: Exception
    item: Identity | None
    given: object
    again: str = ""


class Called(NamedTuple):
    """A journaled call that has returned.

    Attributes:
        address: The node whose ``exec`` made it.
        key: What identifies it in the step, or item.
        result: What it returned.
        awaited: Whether that was awaited.
        attempt: The attempt of ``exec`` that made it.
        elapsed: How many seconds it took.
        item: The item, if ``exec`` works on one of several.
        given: What ``prep`` returned, as the only element; empty if that may have been changed.
        spent: What was spent in it.
        function: The function that was called, if known.
    """

    address: Address
    key: str
    result: object
    awaited: bool
    attempt: int
    elapsed: float
    item: Identity | None
    given: tuple[object, ...]
    spent: Amounts = NO_AMOUNTS
    function: Callable[..., object] | None = None


class Bill(NamedTuple):
    """What was spent outside of a call, or a budget that its line continues without.

    Attributes:
        address: The node.
        item: The number of the item; ``ALONE`` if it is not one of several.
        attempt: The attempt of ``exec``.
        amounts: How much, by name; ``None`` for a budget that its line continues without.
    """

    address: Address
    item: int
    attempt: int
    amounts: Mapping[str, Decimal | None]


class Finished(NamedTuple):
    """A finished step.

    Attributes:
        step: Its number; in a branch, it is assigned when the step is recorded.
        node: The node's name in its graph.
        path: The names of the flows and branches around it.
        action: What ``post`` returned, or what an error is caught as.
        attempts: How many attempts ``exec`` took.
        elapsed: How many seconds it took.
        successor: The next node; ``None`` if this is the end.
        successor_path: The names of the flows and branches around the next node.
        failure: The error that ended the step and was caught.
        taken: How often edges with limits were taken, in the flows where the line is now.
    """

    step: int
    node: str
    path: tuple[str, ...]
    action: str
    attempts: int
    elapsed: float
    successor: str | None
    successor_path: tuple[str, ...]
    failure: Exception | None
    taken: Sequence[TakenEdge] = ()
