"""From values to text: one function for each kind of value, chosen by its exact type."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isfinite
from typing import Any

from pocoflow.codec.classes import is_found, name_of
from pocoflow.codec.kinds import KINDS, Kind, Parts, kind_of
from pocoflow.codec.objects import Family, family_of
from pocoflow.codec.refusal import Refusal, Step, TooDeep, reason_for
from pocoflow.errors import NotStorableError

__all__ = ["MAX_DEPTH", "TAG", "dumps", "encode"]

TAG = "$type"
"""The reserved key of an object that says what it is."""

MAX_DEPTH = 200
"""How deep containers may be nested, whichever kinds they are of."""

_SIMPLE = frozenset({bool, type(None)})
_OPTIMISTIC = _SIMPLE | {str, float}

_to_json = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode


def dumps(value: object, strangers: set[type] | None = None) -> str:
    """Return the text of a value, compact and valid as UTF-8.

    Args:
        value: The value.
        strangers: Gets the classes that are written and will not be found again by their names.

    Raises:
        NotStorableError: It would not come back equal; the error says which part and why.
    """
    # Text with surrogates and floats that are not finite are rare and dear to look for one by one:
    # write as if there were none, and again with care if the text shows that there are.
    try:
        return _text(value, False, strangers)
    except ValueError:
        return _text(value, True, strangers)


def encode(value: object) -> Any:
    """Return the tree of plain JSON values whose text :func:`dumps` would return.

    Raises:
        NotStorableError: As for :func:`dumps`.
    """
    return _tree(value, True, None)


class _Writer(dict[type, "_Write"]):
    """The functions for the types seen so far, and which values are written as they are."""

    def __init__(self, careful: bool, strangers: set[type] | None) -> None:
        self.careful = careful
        self.strangers = strangers
        self.plain = _SIMPLE if careful else _OPTIMISTIC

    def __missing__(self, kind: type) -> _Write:
        write = self[kind] = _JSON_TYPES.get(kind) or self._choose(kind)
        return write

    def _choose(self, kind: type) -> _Write:
        standard = kind_of(kind)
        if standard is not None:
            return _write_standard(standard)
        family = family_of(kind)
        if family is None:
            return _refuse
        if self.strangers is not None and not is_found(kind):
            self.strangers.add(kind)
        return _write_object(family, kind)


_Write = Callable[[_Writer, Any, int], Any]


def _text(value: object, careful: bool, strangers: set[type] | None) -> str:
    tree = _tree(value, careful, strangers)
    try:
        text = _to_json(tree)
    except RecursionError:
        raise _no_stack_left(value) from None
    if not text.isascii():
        text.encode()  # UnicodeEncodeError is a ValueError, as what a float that is NaN raises
    return text


def _tree(value: object, careful: bool, strangers: set[type] | None) -> Any:
    writer = _Writer(careful, strangers)
    kind = type(value)
    try:
        return value if kind in writer.plain else writer[kind](writer, value, 1)
    except Refusal as refusal:
        raise refusal.error() from None
    except RecursionError:
        raise _no_stack_left(value) from None
    except Exception as exc:
        # Its own code failed, or another thread changes it at this moment.
        reason = f"taking it apart failed ({type(exc).__name__}: {exc})"
        raise Refusal(value, reason).error() from exc


def _no_stack_left(value: object) -> NotStorableError:
    reason = "it is nested deeper than what is left of the interpreter's stack"
    return Refusal(value, reason).error()


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_list(writer: _Writer, value: list[Any], depth: int) -> list[Any]:
    if depth > MAX_DEPTH:
        raise TooDeep(value, MAX_DEPTH)
    plain = writer.plain
    depth += 1
    tree: list[Any] = []
    try:
        for item in value:
            kind = type(item)
            tree.append(item if kind in plain else writer[kind](writer, item, depth))
    except Refusal as refusal:
        refusal.came_from(value, Step.ITEM, len(tree))
        raise
    return tree


def _write_dict(writer: _Writer, value: dict[Any, Any], depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise TooDeep(value, MAX_DEPTH)
    if TAG in value:
        return _write_pairs(writer, value, depth)
    plain, careful = writer.plain, writer.careful
    tree: dict[str, Any] = {}
    key: Any = None
    try:
        for key, item in value.items():
            if type(key) is not str or (careful and not _is_utf8(key)):
                break
            kind = type(item)
            tree[key] = item if kind in plain else writer[kind](writer, item, depth + 1)
        else:
            return tree
    except Refusal as refusal:
        refusal.came_from(value, Step.ITEM, key)
        raise
    return _write_pairs(writer, value, depth)


def _write_pairs(writer: _Writer, value: dict[Any, Any], depth: int) -> dict[str, Any]:
    """A dict whose keys are not all text, or hold the reserved one: keys and values in turn."""
    try:
        return {
            TAG: "dict",
            **{
                name: _write_list(writer, part, depth)
                for name, part in KINDS["dict"].split(value).items()
            },
        }
    except Refusal as refusal:
        flat, _, place = refusal.trail.pop()
        assert isinstance(flat, list)
        assert isinstance(place, int)
        step = Step.ITEM if place % 2 else Step.KEY
        refusal.came_from(value, step, flat[place - 1])
        raise


def _write_int(writer: _Writer, value: int, depth: int) -> Any:
    return value if -(2**63) <= value < 2**63 else {TAG: "int", **KINDS["int"].split(value)}


def _write_float(writer: _Writer, value: float, depth: int) -> Any:
    return value if isfinite(value) else {TAG: "float", **KINDS["float"].split(value)}


def _write_str(writer: _Writer, value: str, depth: int) -> Any:
    return value if _is_utf8(value) else {TAG: "str", **KINDS["str"].split(value)}


def _write_itself(writer: _Writer, value: Any, depth: int) -> Any:
    return value


_JSON_TYPES: dict[type, _Write] = {
    type(None): _write_itself,
    bool: _write_itself,
    dict: _write_dict,
    float: _write_float,
    int: _write_int,
    list: _write_list,
    str: _write_str,
}


def _refuse(writer: _Writer, value: object, depth: int) -> Any:
    raise Refusal(value, reason_for(value, lambda kind: kind is list or kind_of(kind) is not None))


def _write_standard(kind: Kind) -> _Write:
    split = kind.split
    unordered = kind.tag in ("set", "frozenset")

    def write(writer: _Writer, value: Any, depth: int) -> Any:
        tree: dict[str, Any] = {TAG: kind.tag}
        name, part = "", None
        try:
            for name, part in split(value).items():
                tree[name] = writer[type(part)](writer, part, depth)
        except Refusal as refusal:
            refusal.came_through(value, part, Step.MEMBER if unordered else None)
            if name not in ("", "value"):
                refusal.came_from(value, Step.ATTRIBUTE, name)
            raise
        return tree

    return write


def _write_object(family: Family, kind: type) -> _Write:
    split: Callable[[Any], Parts] = family.prepare(kind)
    name = name_of(kind)

    def write(writer: _Writer, value: Any, depth: int) -> Any:
        tree: dict[str, Any] = {TAG: family.tag, "class": name}
        part = None
        try:
            for key, part in split(value).items():
                tree[key] = writer[type(part)](writer, part, depth)
        except Refusal as refusal:
            refusal.came_through(value, part, Step.ATTRIBUTE)
            raise
        return tree

    return write
