"""What is counted: the steps of a run with parallel branches, and attempts that failed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["ALONE", "Begun", "Numbers"]

ALONE = -1
"""The number of what ``exec`` of a node that is not a batch works on."""


class Begun(NamedTuple):
    """What is known of an item of which something is on record.

    Attributes:
        mark: What tells it from others; empty if it cannot be stored.
        attempts: How many attempts of ``exec`` have failed on it.
    """

    mark: str
    attempts: int


class Numbers:
    """Gives the steps of a run their numbers, in the order in which its branches commit them."""

    def __init__(self, following: int) -> None:
        self.following = following
        self._lock = threading.Lock()

    @contextmanager
    def next(self) -> Iterator[int]:
        """The number of a step that is finished if the block is left without an error.

        Another branch waits for that: a number that is given out before the step is on record
        could be missing, one that is taken after it could be given twice.
        """
        with self._lock:
            yield self.following
            self.following += 1
