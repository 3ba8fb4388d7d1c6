"""The numbers of the steps of a run with parallel branches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
