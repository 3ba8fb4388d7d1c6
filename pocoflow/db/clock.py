"""The one place that reads the clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


def utc_now() -> str:
    """The current time as ISO-8601 text in UTC, as every time in the database is written."""
    return datetime.now(UTC).isoformat()


def in_utc(text: str) -> datetime:
    """The time of ISO-8601 text: in UTC if it has an offset, as it is if it has none.

    Raises:
        ValueError: It is none, or none that there is in UTC.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError(str(exc)) from exc


def micros() -> int:
    """The current time in microseconds since 1970, as the log has it."""
    return time.time_ns() // 1000


def ticks() -> int:
    """Microseconds since some time, which go on evenly, whatever the clock is set to."""
    return (time.monotonic_ns() if _BOOT is None else time.clock_gettime_ns(_BOOT)) // 1000


# That of macOS goes on while the host sleeps, and time.monotonic() does not, there.
_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""A clock that goes on while the host sleeps, where there is one."""


def new_fence() -> int:
    """A number that is higher than those that were given before, as far as the clock is right."""
    return micros()


def later(moment: str, seconds: float) -> str:
    """A time some seconds after another; the last there is if it would lie beyond."""
    try:
        return (datetime.fromisoformat(moment) + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC).isoformat()
