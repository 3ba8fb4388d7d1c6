"""How messages show a value, a type, foreign text, and the name that was probably meant."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")

_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}

__all__ = ["closest", "escape", "short", "type_label"]


def _by_python(char: str) -> str:
    return char.encode("unicode_escape").decode()


def escape(text: str, by: Callable[[str], str] = _by_python) -> str:
    r"""Escape what would not be seen but obeyed: ``\x1b``, ``\n``, marks that turn text around.

    What a run stored comes from anywhere; a terminal must show it, never carry it out.
    """
    if text.isprintable():
        return text
    return "".join(by(char) if unicodedata.category(char) in _UNSAFE else char for char in text)


def short(value: object, limit: int = 80) -> str:
    """The ``repr`` of a value for an error message: cut to ``limit``, and without addresses."""
    try:
        text = _ADDRESS.sub("", repr(value))
    except Exception as exc:  # noqa: BLE001 - a broken __repr__ must not hide the error we report
        text = f"<{type(value).__name__} whose repr raised {type(exc).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def type_label(expected: object) -> str:
    """How a type is called in an error message: ``float``, ``list[str]``, ``int | None``."""
    if isinstance(expected, tuple):
        return " or ".join(type_label(one) for one in expected)
    if isinstance(expected, type) and not hasattr(expected, "__args__"):
        return expected.__name__
    return str(expected).replace("typing.", "")


def closest(name: object, known: Iterable[str]) -> str:
    """A suggestion to append to an error message, or an empty string."""
    import difflib

    matches = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""
