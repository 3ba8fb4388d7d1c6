"""What a store may hold: Pydantic models and ``{"key": type}`` dicts behind one interface.

A schema checks writes and completes data; it keeps nothing of a store. Checks are strict in Python
types: an ``int`` is fine for a ``float``, ``"3"`` is not for an ``int``, and ``True`` is not an
``int``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias, get_origin

from pydantic import BaseModel

from pocoflow.errors import DefinitionError
from pocoflow.messages import short
from pocoflow.store.schema.models import ModelSchema

if TYPE_CHECKING:
    from pocoflow.store.schema.dicts import DictSchema
    from pocoflow.values import Classes


Schema: TypeAlias = "ModelSchema | DictSchema"
"""The part of a store that knows its fields.

Attributes:
    source: The model class or the dict that the user gave.
    label: What to call it in an error message.
    reducers: The reducers that fields declare, by field.
    definitions: All that defines each field, as text that is the same in every process.
"""


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
    return Classes(
        schema_types(schema),
        supplied=types_of(types),
        aliases=aliases or NO_ALIASES,
        fields=field_types(schema),
    )
