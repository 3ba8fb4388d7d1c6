"""Stored values put together: a whole one and what changed since."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import Any

from pocoflow.errors import DecodeError
from pocoflow.values.encoding import to_json
from pocoflow.values.kinds import required


def put_together(whole: str, changes: Iterable[str]) -> str:
    """The text of a value, of which lists of changes are stored, too.

    Raises:
        DecodeError: They do not fit.
    """
    try:
        lists = [required(list, json.loads(text)) for text in changes]
        tree = apply(json.loads(whole), chain.from_iterable(lists))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as exc:
        raise DecodeError(f"its changes do not fit what is stored: {exc}") from exc
    return to_json(tree)


def apply(tree: Any, changes: Iterable[Sequence[Any]]) -> Any:
    """Apply changes, as ``[path, operation, value]``, to a tree of JSON values, and return it."""
    top = [tree]
    for (path, operation), several in groupby(changes, lambda one: (tuple(one[0]), one[1])):
        place: Any = top
        last: Any = 0
        for part in path:
            place, last = place[last], part
        values = [one[2] for one in several]
        if operation == "append" and isinstance(place[last], str):
            place[last] += "".join(values)
            continue
        for value in values:
            if operation == "append":
                place[last].extend(value)
            elif operation == "splice":
                start, count, come = value
                place[last][start : start + count] = come
            elif operation == "delete":
                place.pop(last, None)
            elif operation == "set":
                place[last] = value
            else:
                raise ValueError(f"there is no operation {operation!r}")
    return top[0]
