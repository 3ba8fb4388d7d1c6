"""Dicts of types as schemas: each value is checked separately; other keys are allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Any, NamedTuple, Union

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import SchemaValidator
from typing_extensions import TypedDict, is_typeddict

from pocoflow.errors import DefinitionError, InvalidValueError
from pocoflow.messages import (
    defined_again,
    definition_label,
    describe,
    given_as,
    is_same_field,
    short,
    type_label,
)
from pocoflow.store.reducing import bare, reducers_of
from pocoflow.store.schema.cores import UNKNOWN, cause_of, exact, has_validators, types_only
from pocoflow.store.schema.part_checks import PartChecks
from pocoflow.values import has_marks
from pocoflow.values.changes.difference import Change
from pocoflow.values.remembering import remembered


class DictSchema:
    """A ``{"key": type}`` dict as the schema of a store; keys outside it are allowed."""

    def __init__(self, types: Mapping[str, object]) -> None:
        self.source = dict(types)
        self.label = "the schema"
        self._checks = {key: _checker(key, expected) for key, expected in types.items()}
        self.definitions = {key: definition_label(hint, (), ()) for key, hint in types.items()}
        self.frozen: frozenset[str] = frozenset()
        self.reducers = reducers_of((key, hint, ()) for key, hint in types.items())
        self._mistyped: set[str] = set()

    assign = None

    def names(self) -> Iterable[str]:
        """The keys of the dict."""
        return self.source

    def missing(self, data: Mapping[str, object]) -> list[str]:
        """The keys of the schema that ``data`` lacks."""
        return [key for key in self.source if key not in data]

    def enter(
        self, owner: str, given: Mapping[str, object], without: Iterable[str]
    ) -> dict[str, object]:
        """Check the initial values of a store; the keys of the schema come first.

        Raises:
            InvalidValueError: A value is not of the type of its key.
        """
        return self.check(
            owner, {}, {key: given[key] for key in (*self.source, *given) if key in given}
        )

    def from_json(self, given: Mapping[str, object]) -> dict[str, object]:
        """The values from JSON values, by the types of their keys; others are unchanged.

        Raises:
            ValidationError: A value does not fit.
            ValueError: It is not a JSON value.
        """
        values = dict(given)
        types = {key: self.source[key] for key in given if key in self.source}
        if types:
            text = json.dumps({key: given[key] for key in types}, allow_nan=False)
            values |= typed_dict(types).validate_json(text, strict=True)
        return values

    def check(
        self,
        owner: str,
        data: Mapping[str, object],
        changes: Mapping[str, object],
        accepted: Collection[str] = (),
    ) -> dict[str, object]:
        """Check each value against the type of its key; those of ``accepted`` are validated.

        Raises:
            InvalidValueError: A value is not of the type of its key.
        """
        self.check_accepted(owner, changes, accepted)
        return {
            key: value if key in accepted else self._accepted(owner, key, value)
            for key, value in changes.items()
        }

    def increment(self, owner: str, key: str, update: object) -> object:
        """The update for a reducer, unchanged."""
        return update

    def _accepted(self, owner: str, key: str, value: object) -> object:
        check = self._checks.get(key)
        if check is None:
            return value
        accepted = self._checked(owner, key, value, check.accepts)
        if check.is_custom:
            self._record_type(key, accepted)
        return accepted

    def _checked(
        self, owner: str, key: str, value: object, check: Callable[[object], object]
    ) -> object:
        try:
            return check(value)
        except (ValidationError, _WrongType) as exc:
            hint, detail, failed = self.source[key], "", value
            if isinstance(exc, ValidationError):
                first = exc.errors(include_url=False)[0]
                location = "".join(f"[{part_key!r}]" for part_key in first["loc"])
                failed = first["input"]
                detail = f" ({location + ': ' if location else ''}{first['msg']})"
            raise InvalidValueError(
                f"{owner}: key {key!r} expects {type_label(hint)}, got {given_as(value, hint)}: "
                f"{short(value)}{detail}{defined_again(failed, hint, self.label)}"
            ) from (cause_of(exc) if isinstance(exc, ValidationError) else None)
        except Exception as exc:
            raise InvalidValueError(
                f"{owner}: key {key!r}: its validator raised {describe(exc)}"
            ) from exc

    def check_accepted(self, owner: str, data: Mapping[str, object], keys: Iterable[str]) -> None:
        """Check accepted values against types and constraints, but not by validators again.

        Raises:
            InvalidValueError: One was changed in place into something that does not fit.
        """
        for key in keys:
            check = self._checks.get(key)
            if check is not None and key not in self._mistyped:
                self._checked(owner, key, data[key], check.holds)

    def fits_parts(self, key: str, value: object, changes: Iterable[Change]) -> bool:
        """Whether changes in an accepted value surely fit; else call :meth:`check_accepted`."""
        check = self._checks.get(key)
        if check is None or check.parts is None or key in self._mistyped:
            return False
        return check.parts.fit(check.parts.core, value, changes)

    def revalidate(
        self, owner: str, values: Mapping[str, object], under: Mapping[str, str]
    ) -> dict[str, object]:
        """Revalidate values that were accepted under the definitions ``under``.

        Raises:
            InvalidValueError: A value does not fit.
        """
        self._mistyped.update(key for key in values if has_marks(values[key]))
        result = dict(values)
        for key, definition in self.definitions.items():
            previous = under.get(key)
            if key in values and previous != UNKNOWN and not is_same_field(previous, definition):
                result[key] = self._accepted(owner, key, values[key])
            elif key in values and (check := self._checks[key]) is not None and check.is_custom:
                self._record_type(key, values[key])
        self.check_accepted(owner, result, result)
        return result

    def _record_type(self, key: str, accepted: object) -> None:
        """Record whether the result of a validator fits the type; if not, it is never rechecked."""
        check = self._checks[key]
        assert check is not None
        try:
            check.holds(accepted)
        except (ValidationError, _WrongType):
            self._mistyped.add(key)
        else:
            self._mistyped.discard(key)

    def together(self, owner: str, data: Mapping[str, object]) -> bool:
        """Do nothing, as values do not depend on each other."""
        return False

    def model(self, owner: str, data: Mapping[str, object]) -> None:
        """``None``, as there is no model."""
        return None


def typed_dict(types: Mapping[str, object]) -> TypeAdapter[dict[str, object]]:
    """Reads and describes the values of keys in JSON, by their types."""
    make: Any = TypedDict
    kind = make("Values", {key: _hint(expected) for key, expected in types.items()}, total=False)
    kind.__pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)
    return TypeAdapter(kind)


class _WrongType(Exception):
    """A value is not an instance of the expected type."""


class _Check(NamedTuple):
    """How the values of a key are checked.

    Attributes:
        accepts: Returns the value to store for a value from outside, or raises.
        holds: Raises if an accepted value does not fit.
        is_custom: Whether code of the user creates the stored value, which may then not fit.
        parts: The checks of parts of an accepted value.
    """

    accepts: Callable[[object], object]
    holds: Callable[[object], object]
    is_custom: bool
    parts: PartChecks | None = None


def _checker(key: str, expected: Any) -> _Check | None:
    """The check of a key; ``None`` if it accepts anything."""
    if expected is Any or expected is object:
        return None
    if not (expected is None or isinstance(expected, (type, tuple)) or _is_typing_form(expected)):
        raise DefinitionError(
            f"schema key {key!r}: {short(expected)} is a value, not a type"
            + (f"; did you mean {type(expected).__name__}?" if expected is not ... else "")
        )
    if isinstance(expected, tuple) and all(isinstance(kind, type) for kind in expected):
        return _instance_of(key, expected)
    if _is_plain(expected):
        return _instance_of(key, expected)
    try:
        config = ConfigDict(strict=True, arbitrary_types_allowed=True)
        adapter = TypeAdapter(expected, config=None if _has_config(bare(expected)) else config)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as exc:
        raise DefinitionError(
            f"schema key {key!r}: {short(expected)} is not a type a value can be checked against "
            f"({exc})"
        ) from exc
    core = exact(adapter.core_schema)
    reads = adapter if core is adapter.core_schema else SchemaValidator(core)
    accepts = partial(reads.validate_python, strict=True)
    types = types_only(adapter.core_schema)
    holds = partial(SchemaValidator(types).validate_python, strict=True)
    return _Check(accepts, holds, has_validators(adapter.core_schema), PartChecks(types))


def _is_plain(expected: object) -> bool:
    """Whether the values of a type are exactly its instances."""
    if not isinstance(expected, type) or hasattr(expected, "__args__"):
        return False
    if expected in (int, float, str, bool, bytes) or is_typeddict(expected):
        return False
    # A class that defines its own schema, such as ``AwareDatetime``, may have no instances.
    return issubclass(expected, BaseModel) or not hasattr(expected, "__get_pydantic_core_schema__")


def _has_config(kind: object) -> bool:
    """Whether a class has its own configuration, so that Pydantic accepts no other."""
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
    return is_model or is_typeddict(kind) or is_dataclass(kind)


def _is_typing_form(expected: object) -> bool:
    """Whether it is a union, a generic alias, a ``Literal``, a ``NewType`` and so on."""
    return type(expected).__module__ in ("types", "typing", "typing_extensions")


def _instance_of(key: str, expected: object) -> _Check:
    """``isinstance``, which keeps the identity of a list or a client; a bool is not an int.

    The fields of a model or a dataclass are checked, too, if they fit when it was accepted.
    """
    kinds = expected if isinstance(expected, tuple) else (expected,)
    try:
        isinstance(None, kinds)
    except TypeError as exc:
        raise DefinitionError(
            f"schema key {key!r}: {type_label(expected)} cannot check a value ({exc})"
        ) from exc
    takes_bool = bool in kinds or object in kinds

    def check(value: object) -> object:
        # In Python, a bool is an int.
        if isinstance(value, kinds) and (takes_bool or not isinstance(value, bool)):
            return value
        raise _WrongType

    # Fields of these have types, so an instance may be invalidated in place.
    records = tuple(kind for kind in kinds if issubclass(kind, BaseModel) or is_dataclass(kind))
    inside = _field_checks(records) if records else None
    if inside is None:
        return _Check(check, check, is_custom=False)

    def holds(value: object) -> object:
        return inside.holds(value) if isinstance(value, records) else check(value)

    return _Check(check, holds, is_custom=True, parts=inside.parts)


@remembered
def _field_checks(records: tuple[type, ...]) -> _Check | None:
    """The check of the fields of instances; ``None`` if Pydantic cannot read their types."""
    try:
        return _checker("", Union[(*records, None)])
    except Exception:  # noqa: BLE001 - annotations of a dataclass may be anything, and need not resolve
        return None


def _hint(expected: object) -> Any:
    return Union[expected] if isinstance(expected, tuple) else expected  # noqa: UP007 - of a tuple
