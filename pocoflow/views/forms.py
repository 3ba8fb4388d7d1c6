"""The form of an answer, field by field, from its JSON schema."""

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
"""The kind of a field; ``json`` is any other JSON value."""

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
    """A field of the form of an answer.

    Attributes:
        name: Its key; ``""`` for the whole answer.
        kind: Its kind.
        schema: Its JSON schema, self-contained.
        title: Its title, if the schema has one.
        description: Its description in the schema.
        choices: The values of a ``choice``.
        fields: The fields of an ``object``.
        default: The value if none is given; with ``UNSET``, the field is then left out.
        is_required: Whether the answer needs it.
        takes_null: Whether ``null`` is a valid value.
        limits: The constraints of a number or a text, in words.
        is_line: Whether a text is short.
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
        plain = [value if isinstance(value, str) else json.dumps(value) for value in self.choices]
        if len(set(plain)) < len(plain):
            plain = [json.dumps(value) for value in self.choices]
        return tuple(plain)

    @property
    def is_numbered(self) -> bool:
        """Whether a choice can be given by its number: not if a label is a number itself."""
        return not any(label.strip().isdecimal() for label in self.labels)

    def read(self, text: str) -> object:
        """The value of a line of text; that of an empty line is the default or ``null``.

        Raises:
            ValueError: The line is not a valid value.
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
        """The value of an empty entry: the default, ``null``, or ``UNSET``.

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
    """The form of an answer that fits a JSON schema."""
    return _field("", schema, schema, is_required=True)


def _field(
    name: str, given: Mapping[str, object], root: Mapping[str, object], *, is_required: bool
) -> Field:
    schema = _resolved(given, root)
    takes_null = False
    options = _list(schema, "anyOf")
    others = [it for it in options if not isinstance(it, Mapping) or it.get("type") != "null"]
    if len(others) == 1 and len(others) < len(options) and isinstance(others[0], Mapping):
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        schema, takes_null = {**_resolved(others[0], root), **rest}, True
    kind, choices = _kind(schema)
    if kind == "object" and (name or takes_null):
        kind = "json"  # nested forms would be too much for a person
    fields: tuple[Field, ...] = ()
    if kind == "object":
        required = _list(schema, "required")
        fields = tuple(
            _field(inner, inner_schema, root, is_required=inner in required)
            for inner, inner_schema in _properties(schema).items()
        )
    return Field(
        name,
        kind,
        {**given, "$defs": root.get("$defs", {})} if given is not root else root,
        str(given.get("title", "")),
        str(given.get("description") or schema.get("description", "")),
        choices,
        fields,
        schema.get("default", UNSET),
        is_required,
        takes_null,
        ", ".join(text.format(schema[key]) for key, text in _LIMITS.items() if key in schema),
        bool(schema.keys() & {"format", "pattern"}) or _is_short(schema.get("maxLength")),
    )


def _kind(schema: Mapping[str, object]) -> tuple[Kind, tuple[object, ...]]:
    if "const" in schema:
        return "choice", (schema["const"],)
    if choices := _list(schema, "enum"):
        return "choice", tuple(choices)
    if any(key in schema for key in ("anyOf", "oneOf", "allOf", "not", "if", "$ref")):
        return "json", ()
    type_ = schema.get("type")
    if type_ == "null":
        return "choice", (None,)
    if type_ == "string":
        return "text", ()
    if type_ == "object" and (inner := _properties(schema)):
        return "object" if all(isinstance(it, Mapping) for it in inner.values()) else "json", ()
    return (_NUMBERS.get(type_, "json") if isinstance(type_, str) else "json"), ()


def _resolved(given: Mapping[str, object], root: Mapping[str, object]) -> Mapping[str, object]:
    """A schema with its reference resolved; keywords beside the reference take precedence."""
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
        definition = definitions.get(name) if isinstance(definitions, Mapping) else None
        if not isinstance(definition, Mapping):
            return given
        rest = {key: value for key, value in given.items() if key not in ("$ref", "allOf", "$defs")}
        given = {**definition, **rest}


def _properties(schema: Mapping[str, object]) -> Mapping[str, Mapping[str, object]]:
    """The schemas of the fields of an object."""
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _list(schema: Mapping[str, object], key: str) -> list[object]:
    """The list under a key; an empty one if it holds something else."""
    items = schema.get(key)
    return items if isinstance(items, list) else []


def _is_short(length: object) -> bool:
    return isinstance(length, int) and length <= _LINE
