"""What a step puts on record: its attempts, journaled calls and bills, and that it is finished."""

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
"""The number of what ``exec`` of a node that is not a batch works on."""


class Identity(NamedTuple):
    """Which item it is.

    Attributes:
        number: What its result, question or branch is kept by.
        mark: Its digest, and which of equal items it is; empty if it cannot be stored.
    """

    number: int
    mark: str


class Numbers:
    """Gives the steps of a run their numbers, in the order in which its branches commit them."""

    def __init__(self, first: int) -> None:
        self.next_step = first
        self._lock = threading.Lock()

    @contextmanager
    def next(self) -> Iterator[int]:
        """The number of a step that is finished if the block is left without an error.

        Another branch waits for that: a number that is given out before the step is on record
        could be missing, one that is taken after it could be given twice.
        """
        with self._lock:
            yield self.next_step
            self.next_step += 1


class Tried(NamedTuple):
    """An attempt of ``exec`` that failed, and that another one follows.

    Attributes:
        address: The node.
        attempt: Which attempt, from 1.
        error: What it raised.
        item: The item, if it is one of several.
        given: What ``prep`` gave.
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
        key: What it is known by in the step, or item.
        result: What it returned.
        awaited: Whether that was awaited.
        attempt: The attempt of ``exec`` that made it.
        elapsed: Seconds that it took.
        item: The item, if ``exec`` works on one of several.
        given: What ``prep`` gave, as the only element, if it is as ``prep`` gave it.
        spent: What was spent in it.
        function: What was called, if that is known.
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
    """What was spent outside of a call, or a budget that its line goes on without.

    Attributes:
        address: The node.
        item: The number of the item; ``ALONE`` if it is not one of several.
        attempt: The attempt of ``exec``.
        amounts: How much, by name; ``None`` for a budget that its line goes on without.
    """

    address: Address
    item: int
    attempt: int
    amounts: Mapping[str, Decimal | None]


class Finished(NamedTuple):
    """A finished step.

    Attributes:
        step: Its number; in a branch it gets the next one when it is recorded.
        node: The node's name in its graph.
        path: The names of the flows and branches around it.
        action: What ``post`` returned, or what an error is caught as.
        attempts: How often ``exec`` was tried.
        elapsed: Seconds that it took.
        successor: The node that comes next; ``None`` if this is the end.
        successor_path: The names around that.
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
