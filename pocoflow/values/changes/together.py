"""Assembling stored values: a whole value, and the changes since."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from pocoflow.errors import DecodeError
from pocoflow.values.encoding import to_json
from pocoflow.values.json_text import no_number
from pocoflow.values.kinds import required

_AT_ONCE = 200
"""The number of lists of changes that are read at once."""


def assemble(whole: str, changes: Sequence[str]) -> str:
    """The text of a value after applying stored lists of changes.

    Raises:
        DecodeError: They do not fit.
    """
    return to_json(tree_of(whole, changes))


def tree_of(whole: str, changes: Sequence[str]) -> object:
    """The tree of JSON values of a value after applying stored lists of changes.

    Raises:
        DecodeError: They do not fit.
    """
    try:
        tree = json.loads(whole, parse_constant=no_number)
        return apply(tree, chain.from_iterable(_lists(changes)))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        raise DecodeError(f"its changes do not fit what is stored: {exc}") from exc


def _lists(changes: Sequence[str]) -> Iterator[list[Any]]:
    """The lists in texts, read in batches that do not block other threads for long."""
    for start in range(0, len(changes), _AT_ONCE):
        batch = changes[start : start + _AT_ONCE]
        lists = json.loads(f"[{','.join(batch)}]", parse_constant=no_number)
        if len(lists) != len(batch):
            raise ValueError("a list of them is damaged")
        for item in lists:
            yield required(list, item)


def apply(tree: object, changes: Iterable[Sequence[Any]]) -> object:
    """Apply changes, as ``[path, operation, value]``, to a tree of JSON values, and return it."""
    top: Any = [tree]
    texts: list[str] = []  # to append to one text, at its path
    text_path: Any = None
    for path, operation, value in changes:
        if texts and (path != text_path or type(value) is not str or operation != "append"):
            _append(top, text_path, texts)
            texts = []
        if operation == "append" and type(value) is str:
            texts.append(value)
            text_path = path
            continue
        container, last = top, 0
        for part in path:
            container, last = container[last], part
        if operation == "append":
            container[last].extend(value)
        elif operation == "set":
            container[last] = value
        elif operation == "splice":
            start, count, inserted = value
            container[last][start : start + count] = inserted
        elif operation == "delete":
            container.pop(last, None)
        else:
            raise ValueError(f"there is no operation {operation!r}")
    if texts:
        _append(top, text_path, texts)
    return top[0]


def _append(top: Any, path: Sequence[Any], texts: list[str]) -> None:
    container, last = top, 0
    for part in path:
        container, last = container[last], part
    container[last] = required(str, container[last]) + "".join(texts)
