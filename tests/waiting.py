"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(found: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: It is not so after so many seconds; what is wrong then.
    """
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until, f"after {seconds:g} s: {what}"
        time.sleep(0.01)
