"""The numbers of the steps of a run with parallel branches."""

from __future__ import annotations

import threading

__all__ = ["Numbers"]


class Numbers:
    """Gives the steps of a run their numbers, in the order in which its branches commit them."""

    def __init__(self, following: int) -> None:
        self.following = following
        self._lock = threading.Lock()

    def take(self) -> int:
        """The number of a step that is finished."""
        with self._lock:
            number = self.following
            self.following = number + 1
        return number
