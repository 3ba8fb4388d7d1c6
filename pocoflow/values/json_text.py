"""JSON values as text, and back: what a person, a web page or a file may give."""

from __future__ import annotations

import json
from typing import NoReturn

_DEEPEST = 100


def read_json(text: str) -> object:
    """A JSON value.

    Raises:
        ValueError: The text is none.
    """
    try:
        return json.loads(text, parse_constant=_not_json)
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON: {exc}") from exc
    except RecursionError:
        raise ValueError("not JSON that can be taken: it is nested too deeply") from None


def write_json(value: object) -> str:
    """A JSON value, such as ``json.loads`` gives, as text that reads back as the same value.

    Raises:
        ValueError: It is none, or nested more than a hundred deep.
    """
    found: list[tuple[object, int]] = [(value, 0)]
    while found:
        part, depth = found.pop()
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if isinstance(part, dict):
            found += [(key, depth) for key in part if _is_key(key)]
            found += [(inner, depth + 1) for inner in part.values()]
        elif isinstance(part, list):
            found += [(inner, depth + 1) for inner in part]
        elif isinstance(part, str):
            part.encode()  # a lone surrogate is no text
        elif not isinstance(part, int | float | None):
            raise ValueError(f"{type(part).__name__} is not a kind of JSON value")
    return json.dumps(value, allow_nan=False)


def _is_key(key: object) -> bool:
    if not isinstance(key, str):
        raise ValueError(f"the key {key!r} is not a text")
    return True


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"not JSON: {constant}")
