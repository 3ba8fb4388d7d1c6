"""JSON values as text, and back, for input from a person, a web page or a file."""

from __future__ import annotations

import json
from math import isinf
from typing import Any, NoReturn

from pydantic_core import to_jsonable_python

from pocoflow.messages import type_label
from pocoflow.values.kinds import kind_of

_DEEPEST = 100
_SHOWN = 40
_NUMBERS: dict[str, type] = {"b": bool, "f": float, "i": int, "u": int}  # by the kind of a dtype


def read_json(text: str) -> object:
    """Parse a JSON value.

    Raises:
        ValueError: The text is not JSON.
    """
    try:
        return json.loads(text, parse_constant=no_number, parse_float=_float, parse_int=_int)
    except ValueError as exc:
        raise ValueError(f"not JSON: {exc}") from exc
    except RecursionError:
        raise ValueError("not JSON that can be taken: it is nested too deeply") from None


def write_json(value: object) -> str:
    """A JSON value, as from ``json.loads``, as text that reads back as the same value.

    Raises:
        ValueError: It is not one, or is nested more than a hundred levels deep.
    """
    pending: list[tuple[object, int]] = [(value, 0)]
    while pending:
        part, depth = pending.pop()
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if isinstance(part, dict):
            pending += [(key, depth) for key in part if _is_key(key)]
            pending += [(inner, depth + 1) for inner in part.values()]
        elif isinstance(part, list):
            pending += [(inner, depth + 1) for inner in part]
        elif isinstance(part, str):
            _check_text(part)
        elif not isinstance(part, int | float | None):
            raise ValueError(f"{type(part).__name__} is not a kind of JSON value")
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def as_json(value: object) -> Any:
    """A readable JSON form of a value, in which NaN and infinity are ``None``.

    Raises:
        PydanticSerializationError: It has no form in JSON.
        TypeError: Likewise.
        ValueError: Likewise.
    """
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        tree = to_jsonable_python(value, fallback=scalar_as_json)
        return json.loads(json.dumps(tree), parse_constant=lambda _: None)
    return value


def scalar_as_json(value: Any) -> object:
    """The JSON form of a NumPy scalar.

    Raises:
        TypeError: It is not one.
    """
    kind = kind_of(type(value))
    if kind is None or kind.tag != "numpy":
        raise TypeError(f"{type_label(type(value))} has no form in JSON")
    return _NUMBERS.get(value.dtype.kind, str)(value)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(
            f"character {exc.start} of {text!r:.200} is half of a surrogate pair, as of an emoji "
            "that was cut"
        ) from None


def _is_key(key: object) -> bool:
    if not isinstance(key, str):
        raise ValueError(f"the key {key!r} is not a text")
    return True


def _float(digits: str) -> float:
    if isinf(number := float(digits)):
        raise ValueError(f"{digits[:_SHOWN]} is too large for a number")
    return number


def _int(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python's own limit on the number of digits
        raise ValueError(f"a number of {len(digits)} digits is too long") from None


def no_number(name: str) -> NoReturn:
    """Refuse a constant that Python accepts and JSON does not have: ``NaN``, ``Infinity``."""
    raise ValueError(f"{name} is not a number")
