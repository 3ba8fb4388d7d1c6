"""The only module that reads the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta


def utc_now() -> str:
    """The current time as ISO-8601 text in UTC, the form of every time in the database."""
    return datetime.now(UTC).isoformat()


def in_utc(text: str) -> datetime:
    """Parse ISO-8601 text: converted to UTC if it has an offset, unchanged if it has none.

    Raises:
        ValueError: It is not a time, or UTC has no such time.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError(str(exc)) from exc


def micros() -> int:
    """The current time in microseconds since 1970, the form of times in the log."""
    return time.time_ns() // 1000


def ticks() -> int:
    """Microseconds of a monotonic clock, which setting the system time does not affect."""
    return (time.monotonic_ns() if _BOOT is None else time.clock_gettime_ns(_BOOT)) // 1000


# On macOS CLOCK_MONOTONIC counts while the host sleeps; time.monotonic() does not.
_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""A monotonic clock that counts while the host sleeps, if the platform has one."""


def tries(patience: float) -> Iterator[bool]:
    """Tries for some seconds, 10 ms apart; each says whether it is the last."""
    until, is_last = time.monotonic() + patience, False
    while not is_last:
        is_last = time.monotonic() >= until
        yield is_last
        if not is_last:
            time.sleep(0.01)


def later(moment: str, seconds: float) -> str:
    """A time some seconds after another, or the last representable time if that is earlier."""
    try:
        return (datetime.fromisoformat(moment) + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC).isoformat()
