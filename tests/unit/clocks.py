"""Another time of day, for everything that reads the clock of the database."""

from __future__ import annotations

import sys

import pytest

from pocoflow.db import clock

__all__ = ["set_clock"]


def set_clock(monkeypatch: pytest.MonkeyPatch, now: str) -> None:
    """Let it be this time, wherever the clock is read."""
    read = clock.utc_now
    for name, module in tuple(sys.modules.items()):
        if name.startswith("pocoflow.db") and getattr(module, "utc_now", None) is read:
            monkeypatch.setattr(module, "utc_now", lambda: now)
