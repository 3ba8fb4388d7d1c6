"""Who vouches for the classes of stored values: the schema, and whoever has them read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, get_origin

from pydantic import BaseModel

from pocoflow.errors import DefinitionError
from pocoflow.messages import short

if TYPE_CHECKING:
    from pocoflow.values import Classes


def check_aliases(given: object) -> None:
    """Refuse what does not name classes that have other names now.

    Raises:
        DefinitionError: It is no mapping, a name has no module, or there is no class.
    """
    how = "the class that has another name now, as in aliases={'old_module:Name': Name}"
    if given is not None and not isinstance(given, Mapping):
        raise DefinitionError(f"aliases={short(given)}: {how}")
    for name, kind in (given or {}).items():
        module, colon, kept = name.partition(":") if isinstance(name, str) else ("", "", "")
        if not (module and colon and kept and isinstance(kind, type)):
            raise DefinitionError(f"aliases={{{name!r}: {short(kind)}}}: {how}")


def types_of(given: object) -> tuple[object, ...]:
    """The classes that somebody supplies, so that stored values of them are read.

    Raises:
        DefinitionError: There is something else among them.
    """
    several = given if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    kinds = tuple(several)
    for one in kinds:
        # What annotations name has classes in it, too.
        if not (isinstance(one, type) or get_origin(one) or hasattr(one, "__value__")):
            raise DefinitionError(
                "types= are classes that stored values may be of, as in types=[Name], not "
                f"{short(one)}"
            )
    return kinds


def classes_of(
    schema: object, types: Iterable[object] = (), aliases: Mapping[str, type] | None = None
) -> Classes:
    """The classes that a reader may rebuild under a schema.

    Args:
        schema: The schema, as the user gave it.
        types: Classes that somebody supplies.
        aliases: Classes by the names under which they were stored.

    Raises:
        DefinitionError: One of them is no class, or no name of a class.
    """
    from pocoflow.values import NO_ALIASES, Classes  # not loaded by those who store nothing

    check_aliases(aliases)
    vouched, fields = _vouched_for(schema)
    return Classes(vouched, supplied=types_of(types), aliases=aliases or NO_ALIASES, fields=fields)


def classes_within(classes: Classes, schema: object) -> Classes:
    """The classes of what has a schema of its own inside of what the others are for."""
    return classes.within(*_vouched_for(schema))


def _vouched_for(schema: object) -> tuple[Iterable[object], Mapping[str, object]]:
    """What a schema, as the user gave it, has classes in; and the annotations of its fields."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return [schema], {name: one.annotation for name, one in schema.model_fields.items()}
    return (list(schema.values()), schema) if isinstance(schema, Mapping) else ([schema], {})
