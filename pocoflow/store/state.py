"""The typed view of a store: its keys are attributes, and methods of its model work on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Protocol, SupportsIndex

from pydantic import BaseModel

_UNSET = object()


class Viewed(Protocol):
    """The part of a store that a view uses."""

    @property
    def schema(self) -> Any:
        """The schema as it was given: a model class, a dict of types, or ``None``."""

    def to_model(self) -> BaseModel:
        """The complete model."""

    def __iter__(self) -> Iterator[str]: ...

    def __getitem__(self, key: str, /) -> Any: ...

    def __setitem__(self, key: str, value: object, /) -> None: ...

    def __delitem__(self, key: str, /) -> None: ...


class State:
    """The typed view of a store.

    Args:
        store: Receives every write, and knows its schema.
        data: Its values.
    """

    __slots__ = ("_data", "_store")

    def __init__(self, store: Viewed, data: Mapping[str, object]) -> None:
        object.__setattr__(self, "_store", store)
        object.__setattr__(self, "_data", data)

    def __getattr__(self, name: str) -> Any:
        store: Viewed = object.__getattribute__(self, "_store")
        if name in object.__getattribute__(self, "_data"):
            return store[name]
        attribute = _of_model(store.schema, name)
        if name in getattr(store.schema, "__private_attributes__", ()):
            raise AttributeError(
                f"a store has no private attributes such as {name}: store.to_model() has them"
            )
        if attribute is _UNSET:
            return store[name]  # which raises the appropriate error
        if hasattr(BaseModel, name):  # such as model_dump: of the complete model
            return getattr(store.to_model(), name)
        if isinstance(attribute, cached_property):  # a view caches nothing
            return attribute.func(self)
        return attribute.__get__(self, store.schema) if hasattr(attribute, "__get__") else attribute

    def __setattr__(self, name: str, value: object) -> None:
        store: Viewed = object.__getattribute__(self, "_store")
        attribute = _of_model(store.schema, name)
        if isinstance(attribute, property):
            attribute.__set__(self, value)
        else:
            store[name] = value

    def __delattr__(self, name: str) -> None:
        store: Viewed = object.__getattribute__(self, "_store")
        del store[name]

    def __dir__(self) -> list[str]:
        store: Viewed = object.__getattribute__(self, "_store")
        fields = getattr(store.schema, "model_fields", store.schema) or ()
        return sorted({*fields, *store})

    # Special methods, which Python looks up in the class, are those of the complete model.

    def __str__(self) -> str:
        store: Viewed = object.__getattribute__(self, "_store")
        return str(store.to_model()) if isinstance(store.schema, type) else repr(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, State):
            mine, others = (object.__getattribute__(state, "_data") for state in (self, other))
            return bool(mine == others)
        store: Viewed = object.__getattribute__(self, "_store")
        return isinstance(other, BaseModel) and store.to_model() == other

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        store: Viewed = object.__getattribute__(self, "_store")
        return iter(store.to_model())

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        store: Viewed = object.__getattribute__(self, "_store")
        return _itself, (store.to_model(),)

    def __repr__(self) -> str:
        return f"<state of {object.__getattribute__(self, '_store')!r}>"


def _itself(model: BaseModel) -> BaseModel:
    return model


def _of_model(model: object, name: str) -> object:
    """The class attribute of a model under a name that is not a field, or ``_UNSET``."""
    if isinstance(model, type) and name not in getattr(model, "model_fields", {}):
        for owner in model.__mro__:
            if owner is not object and name in owner.__dict__:
                return owner.__dict__[name]
    return _UNSET
