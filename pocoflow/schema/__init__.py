"""What a store may hold: Pydantic models and ``{"key": type}`` dicts behind one interface.

A schema checks writes and completes data; it keeps nothing of a store. Checks are strict in Python
types: an ``int`` is fine for a ``float``, ``"3"`` is not for an ``int``, and ``True`` is not an
``int``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from pocoflow.errors import DefinitionError, StoreError
from pocoflow.reducers import Reducer
from pocoflow.schema.models import ModelSchema
from pocoflow.wording import short

if TYPE_CHECKING:
    from pocoflow.codec import Classes

__all__ = ["Schema", "classes_of", "field_types", "make_schema", "schema_types"]


class Schema(Protocol):
    """The part of a store that knows its fields."""

    @property
    def source(self) -> object:
        """The model class or the dict that the user gave."""

    @property
    def label(self) -> str:
        """What to call it in an error message."""

    @property
    def reducers(self) -> Mapping[str, Reducer]:
        """The reducers that fields declare, by field."""

    def names(self) -> Iterable[str]:
        """The fields, in the order of their definition."""

    def defaults(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults of the fields that ``data`` lacks."""

    def check(
        self, owner: str, data: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the values to store if ``changes`` are written over ``data``, or raise."""

    def missing(self, data: Mapping[str, Any]) -> list[str]:
        """The fields that must be set and are not."""

    def complete(self, owner: str, data: Mapping[str, Any]) -> object:
        """Validate data that lacks no field; the model, or ``data`` under a dict of types."""

    def migrate(self, owner: str, data: Mapping[str, Any], exc: StoreError) -> dict[str, Any]:
        """Bring data that was stored under an older schema to this one, or raise ``exc``."""


def make_schema(given: object) -> Schema | None:
    """The schema of what a user gave: a model class, a dict of types, or nothing.

    Raises:
        DefinitionError: Anything else, such as a model *instance*.
    """
    if given is None:
        return None
    if isinstance(given, type) and issubclass(given, BaseModel):
        return ModelSchema(given)
    if isinstance(given, Mapping):
        from pocoflow.schema.dicts import DictSchema  # and with it what Pydantic loads late

        return DictSchema(given)
    hint = f": pass the class {type(given).__name__}" if isinstance(given, BaseModel) else ""
    raise DefinitionError(
        f"a store schema is a Pydantic model class or a dict of types, not {short(given)}{hint}"
    )


def schema_types(given: object) -> list[object]:
    """What a schema, as the user gave it, vouches for when values are read back."""
    return list(given.values()) if isinstance(given, Mapping) else [given]


def field_types(given: object) -> Mapping[str, object]:
    """The annotations of the fields of a schema, as the user gave it."""
    if isinstance(given, type) and issubclass(given, BaseModel):
        return {name: field.annotation for name, field in given.model_fields.items()}
    return given if isinstance(given, Mapping) else {}


def classes_of(
    schema: object, types: Iterable[object] = (), aliases: Mapping[str, type] | None = None
) -> Classes:
    """The classes that a reader may rebuild under a schema.

    Args:
        schema: The schema, as the user gave it.
        types: Classes that somebody supplies.
        aliases: Classes by the names under which they were stored.

    Raises:
        DefinitionError: An alias is no class.
    """
    from pocoflow.codec import NO_ALIASES, Classes  # not loaded by those who store nothing

    for name, kind in (aliases or {}).items():
        if not isinstance(kind, type):
            raise DefinitionError(
                f"aliases={{{name!r}: {short(kind)}}}: the class that has another name now, as in "
                "aliases={'old_module:Name': Name}"
            )
    return Classes(
        schema_types(schema),
        supplied=types,
        aliases=aliases or NO_ALIASES,
        fields=field_types(schema),
    )
