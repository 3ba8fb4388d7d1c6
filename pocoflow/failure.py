"""The documented import path of an exception as a value."""

from pocoflow.values.failures import (
    Failure,
    Shown,
    add_note,
    describe_error,
    escaped,
)

__all__ = [
    "Failure",
    "Shown",
    "add_note",
    "describe_error",
    "escaped",
]
