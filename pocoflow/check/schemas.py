"""The fields of a store's schema, for the rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from enum import Enum
from functools import cached_property
from types import GenericAlias
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from pocoflow.check.assignable import converts
from pocoflow.check.findings import Severity
from pocoflow.errors import InvalidValueError, PocoflowError
from pocoflow.nodes.annotations import plain
from pocoflow.store.fields import StoreField
from pocoflow.store.reducing import append, extend, latest, merge
from pocoflow.store.schema import Schema, make_schema
from pocoflow.values.remembering import remembered


def fields_of(schema: object) -> Fields:
    """The fields of a schema; cached, except for a dict."""
    return _fields_of(schema, getattr(schema, "__pydantic_validator__", None))


@remembered
def _fields_of(schema: object, _: object) -> Fields:
    """Cached until a model is rebuilt, which gives it another validator."""
    return Fields(schema)


_READS_ANYTHING = ("before", "plain", "wrap")


class Fields:
    """The fields of a flow's schema: a model class, a dict of types, or none.

    Args:
        schema: The schema as it was passed to the flow.
    """

    def __init__(self, schema: object) -> None:
        self.schema = schema
        self.model: type[BaseModel] | None = None
        self._types: Mapping[str, object] = {}
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            self.model = schema
            self._types = {name: field.annotation for name, field in schema.model_fields.items()}
        elif isinstance(schema, Mapping):
            self._types = dict(schema)

    @property
    def label(self) -> str:
        """Its name in messages."""
        return "the schema" if self.model is None else self.model.__name__

    @cached_property
    def names(self) -> list[str]:
        """The fields in the order of their definition."""
        return list(self._types)

    @cached_property
    def is_closed(self) -> bool:
        """Whether other keys are refused."""
        return self.model is not None and self.model.model_config.get("extra") != "allow"

    @cached_property
    def defaults(self) -> frozenset[str]:
        """The fields that are set from the start."""
        if self.model is None:
            return frozenset()
        known = self.model.model_fields.items()
        return frozenset(name for name, field in known if not field.is_required())

    @property
    def required(self) -> tuple[str, ...]:
        """The fields of a model that have to be set for it to be complete."""
        return () if self.model is None else tuple(n for n in self.names if n not in self.defaults)

    def __bool__(self) -> bool:
        return self.schema is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._types

    def lacks(self, name: str) -> bool:
        """Whether a store with this schema can never have the key."""
        return self.is_closed and name not in self

    @cached_property
    def attributes(self) -> frozenset[str]:
        """The attributes of ``store.state`` besides the fields: those that the model defines."""
        if self.model is None:
            return frozenset()
        return frozenset((*dir(self.model), *self.model.__private_attributes__)).difference(self)

    def refuses(self, name: str, value: object) -> tuple[Severity, str] | None:
        """The severity and the message if the store refuses a value; ``None`` if it accepts it."""
        if self._checked is None or name not in self:
            return None
        try:
            self._checked.check(self.label, {}, {name: deepcopy(value)})
        except InvalidValueError as exc:
            return "warning" if name in self._checked.custom else "error", str(exc)
        except Exception:  # noqa: BLE001 - a user's validator that needs more
            return None
        return None

    @cached_property
    def _checked(self) -> Schema | None:
        try:
            return make_schema(self.schema)
        except PocoflowError:
            return None

    def type_of(self, name: str) -> object:
        """The declared type of a field; ``Any`` if there is none."""
        return self._types.get(name, Any)

    def held(self, field: StoreField) -> object:
        """The type of the values of a field; without a schema, by the model of its reference."""
        return (self if self or field.model is None else fields_of(field.model)).holds(field.name)

    def holds(self, name: str) -> object:
        """The type that is read from a field; ``Any`` if the model stores values of enums."""
        kind = self.type_of(name)
        is_value = self.model is not None and self.model.model_config.get("use_enum_values")
        return Any if is_value and _has_enum(kind) else kind

    def takes(self, name: str) -> object:
        """The type that may be written to a field; ``Any`` if values are converted or reduced."""
        return Any if name in self._converted or self.reduces(name) else self.type_of(name)

    def increment(self, name: str) -> object:
        """The type that may be written to a field as a result, as far as its reducer is known."""
        if self._checked is None or name in self._converted or not self.reduces(name):
            return self.takes(name)
        reducer, kind = self._checked.reducers[name], plain(self.type_of(name))
        held, parts = get_origin(kind), get_args(kind)
        if reducer is append and held is list:
            return parts[0]
        if reducer is extend and held is list:
            return GenericAlias(Iterable, parts)
        if reducer is merge and held is dict:
            return GenericAlias(Mapping, parts)
        return kind if reducer is latest else Any

    @cached_property
    def frozen(self) -> frozenset[str]:
        """The fields that can be set once."""
        return frozenset() if self._checked is None else self._checked.frozen

    def reduces(self, name: str) -> bool:
        """Whether a field has a reducer, so that writes to it are increments."""
        return self._checked is not None and name in self._checked.reducers

    @cached_property
    def _converted(self) -> frozenset[str]:
        if self.model is None:
            return frozenset()
        found: set[str] = set()
        for validator in self.model.__pydantic_decorators__.field_validators.values():
            if validator.info.mode in _READS_ANYTHING:
                found.update(self.names if "*" in validator.info.fields else validator.info.fields)
        for name, field in self.model.model_fields.items():
            if converts(field.metadata):
                found.add(name)
        return frozenset(found)


def _has_enum(kind: object) -> bool:
    if isinstance(kind, Enum) or (isinstance(kind, type) and issubclass(kind, Enum)):
        return True
    return any(map(_has_enum, get_args(kind)))
