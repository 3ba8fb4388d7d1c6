"""A failure as a value: what is left of an exception once it is handled, or stored."""

from __future__ import annotations

import traceback
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that was handled, as a value that can be stored.

    Attributes:
        node: The node that failed, with the nested flows around it.
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
        return cls(node, *_described(error))


def describe_error(error: BaseException | None) -> tuple[str | None, str | None, str | None]:
    """An exception as (type name, message, traceback), all ``None`` without one."""
    return (None, None, None) if error is None else _described(error)


def add_note(error: BaseException, text: str) -> None:
    """Add a note to an exception, if it takes one: that of a frozen dataclass does not."""
    with suppress(Exception):
        error.add_note(text)


class Shown:
    """An exception in a line of the log, where its own ``__repr__`` must not fail."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __repr__(self) -> str:
        try:
            return repr(self._error)
        except Exception as exc:  # noqa: BLE001 - the line is about another error
            kind = type(self._error).__name__
            return f"<{kind}, whose __repr__ raised {type(exc).__name__}>"


def _described(error: BaseException) -> tuple[str, str, str]:
    kind = type(error)
    home = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    try:
        message = str(error)
    except Exception as exc:  # noqa: BLE001 - an exception whose __str__ fails is still recorded
        message = f"<its message raised {type(exc).__name__}>"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception as exc:  # noqa: BLE001 - likewise, of one whose attributes fail
        trace = f"<its traceback raised {type(exc).__name__}>"
    return home + kind.__qualname__, escaped(message or kind.__name__), escaped(trace)


def escaped(text: str) -> str:
    """Text that any database can hold, for people: with escapes for lone surrogates and NUL."""
    if text.isascii():
        return text.replace("\0", "\\x00") if "\0" in text else text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
