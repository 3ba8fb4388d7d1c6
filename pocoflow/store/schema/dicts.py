"""Dicts of types as schemas: each value is checked separately; other keys are allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Any, Union

from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import CoreSchema, SchemaValidator
from typing_extensions import TypedDict, is_typeddict

from pocoflow.errors import DefinitionError
from pocoflow.messages import definition_label, short, type_label
from pocoflow.store.reducing import bare, reducers_of
from pocoflow.store.schema.cores import (
    ANY,
    exact,
    has_validators,
    types_only,
    without_definitions,
)
from pocoflow.store.schema.model_facts import Facts
from pocoflow.store.schema.part_checks import PartChecks
from pocoflow.values.remembering import remembered, remembered_by_type


def facts_of_types(types: Mapping[str, Any]) -> Facts:
    """The facts of a ``{"key": type}`` dict.

    Raises:
        DefinitionError: A type is none, or a key declares an invalid reducer.
    """
    return _facts_of(tuple(types.items()))


@remembered_by_type
def _facts_of(items: tuple[tuple[str, Any], ...]) -> Facts:
    types = dict(items)
    given = {key: _core(key, expected) for key, expected in types.items()}
    # Fields of records have types, so an instance may be invalidated in place.
    inside = {key: _core_of_records(_kinds(types[key])) for key in types if _is_plain(types[key])}
    fields = _together(given)
    accepted = types_only(_together(given | {key: core for key, core in inside.items() if core}))
    custom = frozenset(key for key in types if inside.get(key) or has_validators(fields, key))
    return Facts(
        "the schema",
        None,
        hints=types,
        read=partial(_read_json, types),
        definitions={key: definition_label(hint, (), ()) for key, hint in types.items()},
        reducers=reducers_of((key, hint, ()) for key, hint in types.items()),
        required=types.keys(),
        is_open=True,
        fields=fields,
        assign=SchemaValidator(exact(fields)),
        types=SchemaValidator(accepted),
        checks=PartChecks(accepted),
        custom=custom,
        assignable=frozenset(types.keys() - custom),
        alone={},
    )


def _together(cores: Mapping[str, CoreSchema]) -> CoreSchema:
    """The schema of single keys, from the schema of each."""
    named = {part["ref"]: part for core in cores.values() for part in core.get("definitions", ())}
    fields = {
        key: {"type": "model-field", "schema": without_definitions(core)}
        for key, core in cores.items()
    }
    inner = {"type": "model-fields", "fields": fields, "extra_behavior": "allow"}
    if not named:
        return inner
    return {"type": "definitions", "schema": inner, "definitions": [*named.values()]}


def _read_json(types: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """The values from JSON values, by the types of their keys; others are unchanged.

    Raises:
        ValidationError: A value does not fit.
        ValueError: It is not a JSON value.
    """
    known = {key: types[key] for key in given if key in types}
    if not known:
        return dict(given)
    text = json.dumps({key: given[key] for key in known}, allow_nan=False)
    return {**given, **typed_dict(known).validate_json(text, strict=True)}


def typed_dict(types: Mapping[str, object]) -> TypeAdapter[dict[str, object]]:
    """Reads and describes the values of keys in JSON, by their types."""
    make: Any = TypedDict
    hints = {
        key: Union[hint] if isinstance(hint, tuple) else hint  # noqa: UP007 - of a tuple
        for key, hint in types.items()
    }
    kind = make("Values", hints, total=False)
    kind.__pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)
    return TypeAdapter(kind)


def _core(key: str, expected: Any) -> CoreSchema:
    """The schema of the values of a key, as they come from outside."""
    if expected is Any or expected is object:
        return ANY
    if not (expected is None or isinstance(expected, (type, tuple)) or _is_typing_form(expected)):
        raise DefinitionError(
            f"schema key {key!r}: {short(expected)} is a value, not a type"
            + (f"; did you mean {type(expected).__name__}?" if expected is not ... else "")
        )
    if _is_plain(expected):
        return _instance_of(key, expected)
    try:
        return _generated(expected)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as exc:
        raise DefinitionError(
            f"schema key {key!r}: {short(expected)} is not a type a value can be checked against "
            f"({exc})"
        ) from exc


@remembered_by_type
def _generated(expected: Any) -> CoreSchema:
    config = ConfigDict(strict=True, arbitrary_types_allowed=True)
    adapter = TypeAdapter(expected, config=None if _has_config(bare(expected)) else config)
    return {**adapter.core_schema}  # which raises if it could not be generated


def _is_plain(expected: object) -> bool:
    """Whether the values of a type, or a tuple of types, are exactly its instances."""
    if isinstance(expected, tuple):
        return all(isinstance(kind, type) for kind in expected)
    if not isinstance(expected, type) or hasattr(expected, "__args__"):
        return False
    if expected in (int, float, str, bool, bytes, object) or is_typeddict(expected):
        return False
    # A class that defines its own schema, such as ``AwareDatetime``, may have no instances.
    return issubclass(expected, BaseModel) or not hasattr(expected, "__get_pydantic_core_schema__")


def _has_config(kind: object) -> bool:
    """Whether a class has its own configuration, so that Pydantic accepts no other."""
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
    return is_model or is_typeddict(kind) or is_dataclass(kind)


def _is_typing_form(expected: object) -> bool:
    """Whether it is a union, a generic alias, a ``Literal``, a ``NewType`` and so on."""
    return type(expected).__module__ in ("types", "typing", "typing_extensions")


def _kinds(expected: Any) -> tuple[type, ...]:
    return expected if isinstance(expected, tuple) else (expected,)


class _NoBools(type):
    """The class of a class whose instances are those of ``kinds``, but for bools."""

    kinds: tuple[type, ...]

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.kinds) and not isinstance(instance, bool)


def _instance_of(key: str, expected: object) -> CoreSchema:
    """``isinstance``, which keeps the identity of a list or a client; a bool is not an int."""
    kinds: Any = _kinds(expected)
    try:
        takes_bool = isinstance(True, kinds)
    except TypeError as exc:
        raise DefinitionError(
            f"schema key {key!r}: {type_label(expected)} cannot check a value ({exc})"
        ) from exc
    if takes_bool and bool not in kinds and object not in kinds:
        kinds = _NoBools("instance", (), {"kinds": kinds})
    return {"type": "is-instance", "cls": kinds, "cls_repr": type_label(expected)}


@remembered
def _core_of_records(kinds: tuple[type, ...]) -> CoreSchema | None:
    """The schema of instances with the fields of those that are models or dataclasses.

    ``None`` if there are none, or Pydantic cannot read their types.
    """
    records = tuple(kind for kind in kinds if issubclass(kind, BaseModel) or is_dataclass(kind))
    if not records:
        return None
    try:
        core = _generated(Union[(*records, None)])
    except Exception:  # noqa: BLE001 - annotations of a dataclass may be anything, and need not resolve
        return None
    others = tuple(kind for kind in kinds if kind not in records)
    if not others:
        return core
    choices = [without_definitions(core), {"type": "is-instance", "cls": others}]
    union = {"type": "union", "choices": choices}
    return {"type": "definitions", "schema": union, "definitions": core.get("definitions", [])}
