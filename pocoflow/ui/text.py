"""Text of runs made safe to look at, and cut to a length that a page can carry."""

from __future__ import annotations

import json
import re

from pocoflow.messages import escape

SHORT = 240
"""How many characters of a value a table shows."""

LONG = 50_000
"""How many characters of a value a page shows; all of it can be downloaded."""

# Joiners that scripts and emoji are written with; they turn nothing around and hide nothing.
_HARMLESS = {"\n", "\t", "\u200c", "\u200d"}


def visible(text: str) -> str:
    r"""Write what would be obeyed instead of seen as an escape: ``\x1b``, ``\u202e``."""
    return escape(text, lambda one: one if one in _HARMLESS else escape(one))


def cut(text: str, limit: int = SHORT, size: int | None = None) -> str:
    """The beginning of a text, with a note of its length if there is more of it."""
    size = len(text) if size is None else size
    shown = visible(text[:limit])
    return shown if size <= limit else f"{shown} … ({size:,} characters)"


def file_name(text: str) -> str:
    """A part of the name of a file that says what it is of."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:80]


def pretty(text: str) -> str:
    """Stored JSON text over several lines; as it is if it is long, or only a beginning."""
    if len(text) > LONG:
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
