"""What a store may hold: Pydantic models and ``{"key": type}`` dicts behind one interface.

A schema checks writes and adds defaults; it holds no values of a store. Checks are strict in Python
types: an ``int`` fits a ``float``, but neither ``"3"`` nor ``True`` fits an ``int``.
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
    label: Its name in error messages.
    reducers: The reducers that fields declare, by field.
    frozen: The fields that can be set only once.
    definitions: The definition of each field, as text that is the same in every process.
"""


def make_schema(given: object) -> Schema | None:
    """The schema from the argument of a user: a model class, a dict of types, or ``None``.

    Raises:
        DefinitionError: Anything else, such as a model *instance*.
    """
    if given is None:
        return None
    if isinstance(given, type) and issubclass(given, BaseModel):
        return ModelSchema(given)
    if isinstance(given, Mapping):
        from pocoflow.store.schema.dicts import DictSchema  # which loads more of Pydantic

        return DictSchema(given)
    hint = f": pass the class {type(given).__name__}" if isinstance(given, BaseModel) else ""
    raise DefinitionError(
        f"a store schema is a Pydantic model class or a dict of types, not {short(given)}{hint}"
    )
