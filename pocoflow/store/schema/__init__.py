"""What a store may hold: Pydantic models and ``{"key": type}`` dicts behind one interface.

A schema checks writes and completes data; it keeps nothing of a store. Checks are strict in Python
types: an ``int`` is fine for a ``float``, ``"3"`` is not for an ``int``, and ``True`` is not an
``int``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from pydantic import BaseModel

from pocoflow.errors import DefinitionError
from pocoflow.messages import short
from pocoflow.store.schema.models import ModelSchema

if TYPE_CHECKING:
    from pocoflow.store.schema.dicts import DictSchema

Schema: TypeAlias = "ModelSchema | DictSchema"
"""The part of a store that knows its fields.

Attributes:
    source: The model class or the dict that the user gave.
    label: What to call it in an error message.
    reducers: The reducers that fields declare, by field.
    frozen: The fields that are set once.
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
