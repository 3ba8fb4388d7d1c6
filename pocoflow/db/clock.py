"""The one place that reads the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["later", "utc_now"]


def utc_now() -> str:
    """The current time as ISO-8601 text in UTC, as every time in the database is written."""
    return datetime.now(UTC).isoformat()


def later(time: str, seconds: float) -> str:
    """A time some seconds after another; the last there is if it would lie beyond."""
    try:
        return (datetime.fromisoformat(time) + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC).isoformat()
