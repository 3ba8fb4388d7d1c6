"""A failure as a value: a handled or stored exception."""

from __future__ import annotations

import traceback
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that was handled, as a value that can be stored.

    Attributes:
        node: The node that failed, with its enclosing flows.
        type_name: The exception's class, with its module unless it is a builtin.
        message: Its text.
        traceback: Its traceback as text.
    """

    node: str
    type_name: str
    message: str
    traceback: str

    @classmethod
    def of(cls, node: str, error: BaseException) -> Failure:
        """The failure of a node."""
        return cls(node, *describe_error(error))


def add_note(error: BaseException, text: str) -> None:
    """Add a note to an exception, if possible: a frozen dataclass refuses it."""
    with suppress(Exception):
        error.add_note(text)


def describe_error(error: BaseException) -> tuple[str, str, str]:
    """An exception as (type name, message, traceback)."""
    kind = type(error)
    home = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    try:
        message = str(error)
    except Exception as exc:  # noqa: BLE001 - an exception whose __str__ fails is still recorded
        message = f"<its message raised {type(exc).__name__}>"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception as exc:  # noqa: BLE001 - the same if its attributes fail
        trace = f"<its traceback raised {type(exc).__name__}>"
    return home + kind.__qualname__, escaped(message or kind.__name__), escaped(trace)


def escaped(text: str) -> str:
    """A readable form of a text that any database can hold: lone surrogates and NUL are escaped."""
    if text.isascii():
        return text.replace("\0", "\\x00") if "\0" in text else text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
