"""Another time of day, for everything that reads the clock of the database."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from importlib import import_module

import pytest

from pocoflow.db import clock

__all__ = ["set_clock"]


def set_clock(monkeypatch: pytest.MonkeyPatch, now: str) -> None:
    """Let it be this time, wherever the clock is read; as often as time moves on."""
    # What is imported later would keep this time when the test has ended.
    import_module("pocoflow.flow.scheduling")
    at = int(datetime.fromisoformat(now).timestamp() * 1_000_000)
    shown: dict[str, Callable[[], object]] = {"utc_now": lambda: now, "micros": lambda: at}
    for name, show in shown.items():
        read = getattr(clock, name)
        for key, module in tuple(sys.modules.items()):
            if key.startswith("pocoflow.") and getattr(module, name, None) is read:
                monkeypatch.setattr(module, name, show)
