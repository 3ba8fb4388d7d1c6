"""What a store may hold: Pydantic models and ``{"key": type}`` dicts behind one interface.

A schema checks writes and completes data; it keeps nothing of a store. Checks are strict in Python
types: an ``int`` is fine for a ``float``, ``"3"`` is not for an ``int``, and ``True`` is not an
``int``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from pocoflow.errors import DefinitionError
from pocoflow.messages import short
from pocoflow.store.reducing import Reducer
from pocoflow.store.schema.models import UNKNOWN, ModelSchema

if TYPE_CHECKING:
    from pocoflow.values import Classes

__all__ = ["UNKNOWN", "Schema", "classes_of", "field_types", "make_schema", "schema_types"]


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

    @property
    def definitions(self) -> Mapping[str, str]:
        """All that defines each field, as text that is the same in every process."""

    def enter(
        self, owner: str, given: Mapping[str, Any], without: Iterable[str], /
    ) -> dict[str, Any]:
        """Return what a store begins with, validated once, and defaults but those ``without``."""

    def check(
        self,
        owner: str,
        data: Mapping[str, Any],
        changes: Mapping[str, Any],
        accepted: Collection[str] = (),
        /,
    ) -> dict[str, Any]:
        """Return the values to store if ``changes`` are written over ``data``, or raise.

        Those of ``accepted`` are values already, which no validator of a field sees again.
        """

    def increment(self, owner: str, key: str, update: Any, /) -> Any:
        """Return what a reducer is to be given, validated, or raise."""

    def hold(self, owner: str, data: Mapping[str, Any], keys: Iterable[str], /) -> None:
        """Raise if accepted values do not fit types and constraints, as they were changed."""

    def take(
        self,
        owner: str,
        values: Mapping[str, Any],
        under: Mapping[str, str],
        without: Iterable[str],
        /,
    ) -> dict[str, Any]:
        """Take over values accepted under other definitions, or unknown ones, or raise."""

    def missing(self, data: Mapping[str, Any], /) -> list[str]:
        """The fields that must be set and are not."""

    def together(self, owner: str, data: Mapping[str, Any], /) -> None:
        """Raise if accepted values do not fit together."""

    def model(self, owner: str, data: Mapping[str, Any], /) -> BaseModel | None:
        """The model of data that lacks no field; ``None`` under a dict of types."""


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
        from pocoflow.store.schema.dicts import DictSchema  # and with it what Pydantic loads late

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
    from pocoflow.values import NO_ALIASES, Classes  # not loaded by those who store nothing

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
