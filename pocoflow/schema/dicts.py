"""Dicts of types as schemas: each value is checked by itself, and other keys are allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from typing_extensions import is_typeddict

from pocoflow.errors import DefinitionError, InvalidValueError, StoreError
from pocoflow.reducers import metadata_of, reducers_of
from pocoflow.wording import short, type_label

__all__ = ["DictSchema"]


class DictSchema:
    """A ``{"key": type}`` dict as the schema of a store; keys outside it are allowed."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self.source = dict(types)
        self.label = "the schema"
        self._checks = {key: _checker(key, expected) for key, expected in types.items()}
        self.reducers = reducers_of((key, metadata_of(hint)) for key, hint in types.items())

    def names(self) -> Iterable[str]:
        """The keys of the dict."""
        return self.source

    def defaults(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing: a dict schema has no defaults."""
        return {}

    def check(
        self, owner: str, data: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Check each value against the type of its key.

        Raises:
            InvalidValueError: A value that is not of the type of its key.
        """
        checked = {}
        for key, value in changes.items():
            check = self._checks.get(key)
            try:
                checked[key] = value if check is None else check(value)
            except (ValidationError, TypeError) as exc:
                detail = ""
                if isinstance(exc, ValidationError):
                    first = exc.errors(include_url=False)[0]
                    place = "".join(f"[{part!r}]" for part in first["loc"])
                    detail = f" ({place + ': ' if place else ''}{first['msg']})"
                raise InvalidValueError(
                    f"{owner}: key {key!r} expects {type_label(self.source[key])}, "
                    f"got {type(value).__name__}: {short(value)}{detail}"
                ) from None
        return checked

    def missing(self, data: Mapping[str, Any]) -> list[str]:
        """The keys of the schema that ``data`` lacks."""
        return [key for key in self.source if key not in data]

    def complete(self, owner: str, data: Mapping[str, Any]) -> object:
        """Check that every value fits; no key is missing.

        Raises:
            InvalidValueError: Names the first key whose value does not fit.
        """
        self.check(owner, data, data)
        return data

    def migrate(self, owner: str, data: Mapping[str, Any], exc: StoreError) -> dict[str, Any]:
        """A dict of types cannot migrate anything: raises ``exc``."""
        raise exc


def _checker(key: str, expected: Any) -> Callable[[Any], Any] | None:
    """A function that returns the value to store, or raises; ``None`` where anything goes."""
    if expected is Any or expected is object:
        return None
    if not (expected is None or isinstance(expected, (type, tuple)) or _is_typing_form(expected)):
        raise DefinitionError(
            f"schema key {key!r}: {short(expected)} is a value, not a type"
            + (f"; did you mean {type(expected).__name__}?" if expected is not ... else "")
        )
    if isinstance(expected, tuple) and all(isinstance(one, type) for one in expected):
        return _instance_of(key, expected)
    plain = isinstance(expected, type) and not hasattr(expected, "__args__")
    if plain and expected not in (int, float, str, bool, bytes) and not is_typeddict(expected):
        return _instance_of(key, expected)
    try:
        config = ConfigDict(strict=True, arbitrary_types_allowed=True)
        adapter = TypeAdapter(expected, config=None if is_typeddict(expected) else config)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as exc:
        raise DefinitionError(
            f"schema key {key!r}: {short(expected)} is not a type a value can be checked against "
            f"({exc})"
        ) from exc
    return lambda value: adapter.validate_python(value, strict=True)


def _is_typing_form(expected: object) -> bool:
    """Whether it is a union, a generic alias, a ``Literal``, a ``NewType`` and so on."""
    return type(expected).__module__ in ("types", "typing", "typing_extensions")


def _instance_of(key: str, expected: Any) -> Callable[[Any], Any]:
    """``isinstance``, which keeps the identity of a list or a client; a bool is not an int."""
    kinds = expected if isinstance(expected, tuple) else (expected,)
    try:
        isinstance(None, kinds)
    except TypeError as exc:
        raise DefinitionError(
            f"schema key {key!r}: {type_label(expected)} cannot check a value ({exc})"
        ) from exc

    def check(value: Any) -> Any:
        if isinstance(value, kinds) and not (isinstance(value, bool) and not _takes_bool(kinds)):
            return value
        raise TypeError

    return check


def _takes_bool(kinds: tuple[type, ...]) -> bool:
    return any(kind in (bool, object) for kind in kinds)
