"""Text of runs, escaped for display, and cut to a length that a page can show."""

from __future__ import annotations

import json
import re

from pocoflow.messages import escape

SHORT = 240
"""The maximum length of values in tables."""

LONG = 50_000
"""The maximum length of values on pages; the whole value can be downloaded."""

# Joiners of scripts and emoji; they neither change the direction of text nor hide any.
_HARMLESS = {"\n", "\t", "\u200c", "\u200d"}


def visible(text: str) -> str:
    r"""Escape characters that would be interpreted instead of shown: ``\x1b``, ``\u202e``."""
    return escape(text, lambda char: char if char in _HARMLESS else escape(char))


def cut(text: str, limit: int = SHORT, size: int | None = None) -> str:
    """The beginning of a text, with a note of its length if there is more of it."""
    size = len(text) if size is None else size
    shown = visible(text[:limit])
    return shown if size <= limit else f"{shown} … ({size:,} characters)"


def file_name(text: str) -> str:
    """A text as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:80]


def pretty(text: str) -> str:
    """Stored JSON text, indented; unchanged if it is long, or only a beginning."""
    if len(text) > LONG:
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
