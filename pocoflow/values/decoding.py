"""From text to values. Anything wrong with the text raises a ``DecodeError``."""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from pocoflow.errors import DecodeError, UnknownClassError
from pocoflow.values.classes import Classes, name_of, without_modules
from pocoflow.values.encoding import TAG
from pocoflow.values.json_text import no_number
from pocoflow.values.kinds import KINDS, Parts
from pocoflow.values.marks import MARK, NotSaved
from pocoflow.values.objects import FAMILIES, Family, field_defaults

_SHOWN = 80

_LONG = 100_000
"""The length from which on reading a text takes longer than other threads should wait."""


def loads(text: str, classes: Classes | None = None) -> Any:
    """Return the value of a text that :func:`dumps` wrote.

    Args:
        text: The text.
        classes: The classes that may be rebuilt; by default, those of the loaded modules.

    Raises:
        UnknownClassError: It names a class that cannot be looked up here, or has changed too much
            since it was written.
        DecodeError: It is damaged.
    """
    if not isinstance(text, str):
        raise DecodeError(f"a stored value is text, not {type(text).__name__}")
    reader = _Reader(classes)
    try:
        if len(text) < _LONG:
            return json.loads(text, object_hook=reader.restore, parse_constant=no_number)
        # Python functions, so that other threads can run while a long text is read.
        return json.loads(
            text,
            object_hook=reader.restore,
            parse_float=lambda digits: float(digits),  # noqa: PLW0108
            parse_int=lambda digits: int(digits),  # noqa: PLW0108
            parse_constant=no_number,
        )
    except DecodeError:
        raise
    except RecursionError:
        raise DecodeError("the stored text is nested too deeply") from None
    except ValueError as exc:
        raise DecodeError(f"the stored text is not JSON: {exc}") from exc


def decode(tree: object, classes: Classes | None = None) -> object:
    """Return the value of a tree that :func:`encode` returned, without changing the tree.

    Raises:
        UnknownClassError: As for :func:`loads`.
        DecodeError: As for :func:`loads`.
    """
    try:
        return _Reader(classes).walk(tree)
    except RecursionError:
        raise DecodeError("the stored tree is nested too deeply") from None


class _Resolved(NamedTuple):
    """The class of a name, its fields if it has any, and whether it was renamed."""

    kind: type
    fields: AbstractSet[str] | None
    is_renamed: bool


class _Reader:
    """Restores the objects of one text, innermost first."""

    def __init__(self, classes: Classes | None) -> None:
        self._classes = Classes() if classes is None else classes
        self._resolved: dict[tuple[str, str], _Resolved] = {}

    def walk(self, tree: object) -> object:
        if type(tree) is dict:
            return self.restore({key: self.walk(part) for key, part in tree.items()})
        if type(tree) is list:
            return [self.walk(part) for part in tree]
        if tree is None or type(tree) in (str, int, float, bool):
            return tree
        raise DecodeError(f"{type(tree).__name__} is not a JSON value")

    def restore(self, tree: dict[str, object]) -> object:
        """Return the value of an object whose parts are restored already."""
        if TAG not in tree:
            return tree
        tag = tree.pop(TAG)
        if tag == MARK:
            return _mark(tree)
        kind = KINDS.get(tag) if type(tag) is str else None
        family = FAMILIES.get(tag) if type(tag) is str else None
        try:
            if kind is not None:
                return kind.join(kind.load(), **tree)
            if family is not None:
                return self._instance(family, tree)
        except DecodeError:
            raise
        except Exception as exc:
            raise DecodeError(f"a stored {tag} cannot be rebuilt: {_shown(exc)}") from exc
        raise DecodeError(f"there is no kind of value called {tag!r} in this version")

    def _instance(self, family: Family, parts: Parts) -> object:
        name = parts.pop("class", None)
        if type(name) is not str:
            raise DecodeError(f"a stored {family.tag} does not name its class")
        resolved = self._resolved.get((family.tag, name))
        if resolved is None:
            kind = self._classes.find(name)
            if not family.accepts(kind):
                raise _changed(name, f"it is no {family.tag} any more")
            fields = field_defaults(kind)
            is_renamed = without_modules(name) != without_modules(name_of(kind))
            resolved = _Resolved(kind, None if fields is None else fields.keys(), is_renamed)
            self._resolved[family.tag, name] = resolved
        stored = None
        if resolved.fields is not None and type(value := parts.get("value")) is dict:
            stored = value.keys()
        if resolved.is_renamed or stored != resolved.fields:
            self._classes.note_shape(resolved.kind, name, stored)
        try:
            return family.join(resolved.kind, **parts)
        except DecodeError as exc:
            raise _changed(name, str(exc)) from None


def _changed(name: str, how: str) -> UnknownClassError:
    return UnknownClassError(
        f"class {name} has changed since a value of it was stored: {how}; let it read that, as by "
        "defaults of new fields or, in a model, a validator with mode='before', or supply a class "
        f"that does, as in aliases={{{name!r}: <class>}}",
        class_name=name,
    )


def _mark(parts: Parts) -> NotSaved:
    value = parts.get("value")
    if type(value) is not list or len(value) != 2 or not all(type(text) is str for text in value):
        raise DecodeError("the mark of a part that was not saved is damaged")
    return NotSaved(*value)


def _shown(exc: Exception) -> str:
    text = f"{type(exc).__name__}: {exc}"
    return text if len(text) <= _SHOWN * 2 else text[: _SHOWN * 2 - 3] + "..."
