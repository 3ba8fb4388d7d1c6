"""What to ask for, one thing after another, so that it becomes an answer: from its JSON schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Literal, TypeAlias

from pocoflow.values.callables import UNSET
from pocoflow.values.json_text import read_json

Kind: TypeAlias = Literal["bool", "choice", "integer", "number", "text", "object", "json"]
"""What kind of thing is asked for; ``json`` is whatever has no better word."""

_YES, _NO = {"y", "yes", "true"}, {"n", "no", "false"}
_NUMBERS: Mapping[str, Kind] = {"boolean": "bool", "integer": "integer", "number": "number"}
_LINE = 100
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matches {}",
    "format": "{}",
}


@dataclass(frozen=True, slots=True)
class Field:
    """What is asked for at one place of an answer.

    Attributes:
        name: The key that it is for; ``""`` for the whole answer.
        kind: What kind of thing it is.
        schema: Its JSON schema, complete in itself.
        title: A title, as far as the schema has one.
        description: What the schema says about it.
        choices: The values of a ``choice``.
        fields: The fields of an ``object``.
        default: The value if none is given, or ``UNSET``; as a value that is: it is left out.
        is_required: Whether the answer needs it.
        takes_null: Whether ``null`` is a value, too.
        limits: What the schema allows of a number or a text, in words.
        is_line: Whether a text is a short one.
    """

    name: str
    kind: Kind
    schema: Mapping[str, object]
    title: str = ""
    description: str = ""
    choices: tuple[object, ...] = ()
    fields: tuple[Field, ...] = ()
    default: object = UNSET
    is_required: bool = True
    takes_null: bool = False
    limits: str = ""
    is_line: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The choices as text, no two the same."""
        plain = [one if isinstance(one, str) else json.dumps(one) for one in self.choices]
        if len(set(plain)) < len(plain):
            plain = [json.dumps(one) for one in self.choices]
        return tuple(plain)

    @property
    def is_numbered(self) -> bool:
        """Whether a choice can be made by its number: not where one could be taken for another."""
        return not any(label.strip().isdecimal() for label in self.labels)

    def read(self, text: str) -> object:
        """The value that a line of text stands for; an empty one for the default or ``null``.

        Raises:
            ValueError: It stands for none.
        """
        given = text.strip()
        if not given:
            return self.empty()
        if self.takes_null and given == "null":
            return None
        if self.kind == "bool":
            return self._bool(given)
        if self.kind == "choice":
            return self._choice(given)
        if self.kind == "text":
            return "" if given == '""' else text
        if self.kind in ("integer", "number"):
            return self._number(given)
        return read_json(given)

    def empty(self) -> object:
        """The value that no entry stands for: the default, ``null``, or ``UNSET``.

        Raises:
            ValueError: There is none.
        """
        if self.default is not UNSET:
            return self.default
        if self.takes_null:
            return None
        if not self.is_required:
            return UNSET
        if self.kind == "text":
            raise ValueError('an empty text is written ""')
        raise ValueError("a value is needed")

    def _bool(self, given: str) -> bool:
        if given.lower() not in _YES | _NO:
            raise ValueError("y or n")
        return given.lower() in _YES

    def _choice(self, given: str) -> object:
        if given in self.labels:
            return self.choices[self.labels.index(given)]
        if not self.is_numbered:
            raise ValueError("one of the choices")
        if given.isdecimal() and 1 <= int(given) <= len(self.choices):
            return self.choices[int(given) - 1]
        raise ValueError(f"a number from 1 to {len(self.choices)}, or one of the choices")

    def _number(self, given: str) -> int | float:
        with suppress(ValueError):
            return int(given)
        if self.kind == "integer":
            raise ValueError("a whole number")
        with suppress(ValueError):
            if isfinite(number := float(given)):
                return number
        raise ValueError("a number")


def form_of(schema: Mapping[str, object]) -> Field:
    """What to ask for so that an answer fits a JSON schema."""
    return _field("", schema, schema, is_required=True)


def _field(
    name: str, given: Mapping[str, object], root: Mapping[str, object], *, is_required: bool
) -> Field:
    own = _resolved(given, root)
    takes_null = False
    options = _list(own, "anyOf")
    others = [one for one in options if not isinstance(one, Mapping) or one.get("type") != "null"]
    if len(others) == 1 and len(others) < len(options) and isinstance(others[0], Mapping):
        rest = {key: value for key, value in own.items() if key != "anyOf"}
        own, takes_null = {**_resolved(others[0], root), **rest}, True
    kind, choices = _kind(own)
    if kind == "object" and (name or takes_null):
        kind = "json"  # forms inside of forms would ask for more than a person can oversee
    fields: tuple[Field, ...] = ()
    if kind == "object":
        needed = _list(own, "required")
        fields = tuple(
            _field(inner, about, root, is_required=inner in needed)
            for inner, about in _properties(own).items()
        )
    return Field(
        name,
        kind,
        {**given, "$defs": root.get("$defs", {})} if given is not root else root,
        str(given.get("title", "")),
        str(given.get("description") or own.get("description", "")),
        choices,
        fields,
        own.get("default", UNSET),
        is_required,
        takes_null,
        ", ".join(said.format(own[key]) for key, said in _LIMITS.items() if key in own),
        bool(own.keys() & {"format", "pattern"}) or _is_short(own.get("maxLength")),
    )


def _kind(own: Mapping[str, object]) -> tuple[Kind, tuple[object, ...]]:
    if "const" in own:
        return "choice", (own["const"],)
    if choices := _list(own, "enum"):
        return "choice", tuple(choices)
    if any(key in own for key in ("anyOf", "oneOf", "allOf", "not", "if", "$ref")):
        return "json", ()
    type_ = own.get("type")
    if type_ == "null":
        return "choice", (None,)
    if type_ == "string":
        return "text", ()
    if type_ == "object" and (inner := _properties(own)):
        return "object" if all(isinstance(one, Mapping) for one in inner.values()) else "json", ()
    return (_NUMBERS.get(type_, "json") if isinstance(type_, str) else "json"), ()


def _resolved(given: Mapping[str, object], root: Mapping[str, object]) -> Mapping[str, object]:
    """A schema with what it refers to in its place; what stands beside a reference counts first."""
    seen: set[str] = set()
    while True:
        parts = _list(given, "allOf")
        only = parts[0] if len(parts) == 1 and isinstance(parts[0], Mapping) else {}
        target = given.get("$ref") or only.get("$ref")
        if not isinstance(target, str) or not target.startswith("#/$defs/") or target in seen:
            return given
        seen.add(target)
        definitions = root.get("$defs")
        name = target.removeprefix("#/$defs/")
        found = definitions.get(name) if isinstance(definitions, Mapping) else None
        if not isinstance(found, Mapping):
            return given
        own = {key: value for key, value in given.items() if key not in ("$ref", "allOf", "$defs")}
        given = {**found, **own}


def _properties(own: Mapping[str, object]) -> Mapping[str, Mapping[str, object]]:
    """The schemas of the fields of an object."""
    found = own.get("properties")
    return found if isinstance(found, Mapping) else {}


def _list(own: Mapping[str, object], key: str) -> list[object]:
    """The list under a key; an empty one if it holds something else."""
    found = own.get(key)
    return found if isinstance(found, list) else []


def _is_short(length: object) -> bool:
    return isinstance(length, int) and length <= _LINE
