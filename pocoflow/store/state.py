"""The typed view of a store: its keys are attributes, and methods of its model work on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex

from pydantic import BaseModel

if TYPE_CHECKING:
    from pocoflow.store.store import Store

_UNSET = object()


class State:
    """The typed view of a store.

    Args:
        store: Receives every write, and knows its schema.
        data: Its values.
    """

    __slots__ = ("_data", "_store")

    _data: Mapping[str, object]
    _store: Store[Any]

    def __init__(self, store: Store[Any], data: Mapping[str, object]) -> None:
        object.__setattr__(self, "_store", store)
        object.__setattr__(self, "_data", data)

    def __getattr__(self, name: str) -> Any:
        store = self._store
        if name in self._data:
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
        attribute = _of_model(self._store.schema, name)
        if isinstance(attribute, property):
            attribute.__set__(self, value)
        else:
            self._store[name] = value

    def __delattr__(self, name: str) -> None:
        del self._store[name]

    def __dir__(self) -> list[str]:
        store = self._store
        fields = getattr(store.schema, "model_fields", store.schema) or ()
        return sorted({*fields, *store})

    # Special methods, which Python looks up in the class, are those of the complete model.

    def __str__(self) -> str:
        return str(self._store.to_model()) if isinstance(self._store.schema, type) else repr(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, State):
            return bool(self._data == other._data)
        return isinstance(other, BaseModel) and self._store.to_model() == other

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._store.to_model())

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return _itself, (self._store.to_model(),)

    def __repr__(self) -> str:
        return f"<state of {self._store!r}>"


def _itself(model: BaseModel) -> BaseModel:
    return model


def _of_model(model: object, name: str) -> object:
    """The class attribute of a model under a name that is not a field, or ``_UNSET``."""
    if isinstance(model, type) and name not in getattr(model, "model_fields", {}):
        for owner in model.__mro__:
            if owner is not object and name in owner.__dict__:
                return owner.__dict__[name]
    return _UNSET
