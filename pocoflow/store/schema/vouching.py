"""The classes that stored values may be of: those of the schema, and those that a caller adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, get_origin

from pydantic import BaseModel

from pocoflow.errors import DefinitionError
from pocoflow.messages import short

if TYPE_CHECKING:
    from pocoflow.values import Classes


def check_aliases(given: object) -> None:
    """Refuse invalid aliases of classes that were renamed or moved.

    Raises:
        DefinitionError: It is not a mapping, a name has no module, or a value is not a class.
    """
    how = "the class that has another name now, as in aliases={'old_module:Name': Name}"
    if given is not None and not isinstance(given, Mapping):
        raise DefinitionError(f"aliases={short(given)}: {how}")
    for name, kind in (given or {}).items():
        module, colon, old_name = name.partition(":") if isinstance(name, str) else ("", "", "")
        if not (module and colon and old_name and isinstance(kind, type)):
            raise DefinitionError(f"aliases={{{name!r}: {short(kind)}}}: {how}")


def types_of(given: object) -> tuple[object, ...]:
    """The classes that a caller supplies, so that stored values of them can be read.

    Raises:
        DefinitionError: One of them is not a class.
    """
    several = given if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    kinds = tuple(several)
    for kind in kinds:
        # Types in annotations contain classes, too.
        if not (isinstance(kind, type) or get_origin(kind) or hasattr(kind, "__value__")):
            raise DefinitionError(
                "types= are classes that stored values may be of, as in types=[Name], not "
                f"{short(kind)}"
            )
    return kinds


def classes_of(
    schema: object, types: Iterable[object] = (), aliases: Mapping[str, type] | None = None
) -> Classes:
    """The classes that a reader may rebuild under a schema.

    Args:
        schema: The schema, as the user gave it.
        types: Classes that the caller supplies.
        aliases: Classes by the names under which they were stored.

    Raises:
        DefinitionError: One of them is not a class, or not the name of a class.
    """
    from pocoflow.values import NO_ALIASES, Classes  # not loaded without a database

    check_aliases(aliases)
    vouched, fields = _vouched_for(schema)
    return Classes(vouched, supplied=types_of(types), aliases=aliases or NO_ALIASES, fields=fields)


def classes_within(classes: Classes, schema: object) -> Classes:
    """The classes for a part with its own schema, within what the others are for."""
    return classes.within(*_vouched_for(schema))


def _vouched_for(schema: object) -> tuple[Iterable[object], Mapping[str, object]]:
    """The types in a schema, as the user gave it; and the annotations of its fields."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return [schema], {key: field.annotation for key, field in schema.model_fields.items()}
    return (list(schema.values()), schema) if isinstance(schema, Mapping) else ([schema], {})
