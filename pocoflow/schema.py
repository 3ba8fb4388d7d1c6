"""What a store may hold: Pydantic models and ``{"key": type}`` dicts behind one interface.

A schema checks writes and completes data; it keeps nothing of a store. Checks are strict in Python
types: an ``int`` is fine for a ``float``, ``"3"`` is not for an ``int``, and ``True`` is not an
``int``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import SchemaValidator
from typing_extensions import is_typeddict

from pocoflow.errors import (
    DefinitionError,
    IncompleteStoreError,
    InvalidValueError,
    StoreError,
    UnknownFieldError,
)
from pocoflow.reducers import Reducer, annotated_reducer, declared_reducer
from pocoflow.wording import closest, short, type_label

__all__ = [
    "DictSchema",
    "ModelSchema",
    "Schema",
    "check_models",
    "make_schema",
]


class Schema(Protocol):
    """The part of a store that knows its fields."""

    @property
    def source(self) -> object:
        """The model class or the dict that the user gave."""

    @property
    def reducers(self) -> Mapping[str, Reducer]:
        """The reducers that fields declare, by field."""

    def names(self) -> Iterable[str]:
        """The fields, in the order of their definition."""

    def defaults(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults of the fields that ``data`` lacks."""

    def check(
        self, owner: str, data: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the values to store if ``changes`` are written over ``data``, or raise."""

    def missing(self, data: Mapping[str, Any]) -> list[str]:
        """The fields that must be set and are not."""

    def complete(self, owner: str, data: Mapping[str, Any]) -> object:
        """Validate everything; the complete model, or ``data`` under a dict schema."""

    def migrate(self, owner: str, data: Mapping[str, Any], exc: StoreError) -> dict[str, Any]:
        """Bring data that was stored under an older schema to this one, or raise ``exc``."""


def _explain(
    owner: str, expected: Mapping[str, str], values: Mapping[str, Any], exc: ValidationError
) -> InvalidValueError:
    """One line per field: what it expects, what it was given, and where inside that it fails."""
    reasons: dict[str, list[str]] = {}
    for error in exc.errors(include_url=False, include_context=False):
        key, *inner = error["loc"] or ("",)
        given = error["input"]
        reason = "".join(f"[{part!r}]" for part in inner) + (": " if inner else "") + error["msg"]
        if inner and given is not values.get(str(key)):
            reason += f", got {type(given).__name__}: {short(given)}"
        reasons.setdefault(str(key), []).append(reason)
    lines = []
    for key, found in reasons.items():
        said = "; ".join(found)
        if key in values:
            value = values[key]
            said = (
                f"field {key!r} expects {expected.get(key, 'what its model says')}, "
                f"got {type(value).__name__}: {short(value)} ({said})"
            )
        else:
            said = f"{exc.title} refuses the values together: {said}"
        lines.append(f"{owner}: {said}")
    return InvalidValueError("\n".join(lines))


class ModelSchema:
    """A Pydantic model as the schema of a store."""

    def __init__(self, model: type[BaseModel]) -> None:
        if model.__pydantic_root_model__:
            raise DefinitionError(
                f"{model.__name__} is a RootModel, which has no fields: a store schema is a "
                "BaseModel with one field per key"
            )
        if not model.__pydantic_complete__:
            model.model_rebuild()
        self.model = model
        self._fields = model.model_fields
        self._open = model.model_config.get("extra") == "allow"
        self._assign = SchemaValidator(_fields_only(model.__pydantic_core_schema__))
        self._whole = bool(model.__pydantic_decorators__.model_validators)
        self._labels = {name: type_label(f.annotation) for name, f in self._fields.items()}
        self._required = [name for name, f in self._fields.items() if f.is_required()]
        self.reducers = _only_found(
            (name, declared_reducer(name, field.metadata)) for name, field in self._fields.items()
        )

    @property
    def source(self) -> type[BaseModel]:
        """The model class."""
        return self.model

    def names(self) -> Iterable[str]:
        """The model's field names (never aliases)."""
        return self._fields

    def defaults(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults of the fields that ``data`` lacks, each made anew."""
        made: dict[str, Any] = {}
        for name, field in self._fields.items():
            if name not in data and not field.is_required():
                known = {**data, **made}
                made[name] = field.get_default(call_default_factory=True, validated_data=known)
        return made

    def check(
        self, owner: str, data: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Validate ``changes``: types, constraints, field and (when complete) model validators.

        Raises:
            UnknownFieldError: A key that is not a field, unless the model allows extras.
            InvalidValueError: A value that does not fit, with all the fields it concerns.
        """
        candidate = dict(data)
        for key, value in changes.items():
            if key not in self._fields:
                self._check_extra(owner, key)
                candidate[key] = value
                continue
            if self._fields[key].frozen and data.get(key, value) is not value:
                raise InvalidValueError(
                    f"{owner}: field {key!r} is frozen: it stays {short(data[key])}, "
                    f"got {type(value).__name__}: {short(value)}"
                )
            known = {name: candidate[name] for name in self._fields if name in candidate}
            try:
                checked: Any = self._assign.validate_assignment(known, key, value, strict=True)
                candidate[key] = checked[0][key]
            except ValidationError as exc:
                raise _explain(owner, self._labels, {key: value}, exc) from None
        # Not with a default in the place of a value that was deleted, or could not be stored.
        if self._whole and self._fields.keys() <= candidate.keys():
            writing = f"{owner}: writing {', '.join(map(repr, changes))}"
            whole = self._validate_whole(writing, candidate)
            # Validation copies lists and dicts: what it left equal keeps its identity.
            same = {key for key, value in whole.items() if _is_alike(value, candidate.get(key))}
            return {
                key: candidate[key] if key in same else value
                for key, value in whole.items()
                if key in changes or key not in same
            }
        return {key: candidate[key] for key in changes}

    def missing(self, data: Mapping[str, Any]) -> list[str]:
        """The required fields that ``data`` lacks."""
        return [name for name in self._required if name not in data]

    def complete(self, owner: str, data: Mapping[str, Any]) -> BaseModel:
        """The complete, validated model.

        Raises:
            IncompleteStoreError: Names the fields that have not been set.
            InvalidValueError: Names the fields whose values do not fit.
        """
        if missing := self.missing(data):
            raise IncompleteStoreError(
                f"{owner}: {_plural(missing)} of {self.model.__name__} not set: "
                f"{', '.join(map(repr, missing))}"
            )
        return self._build(owner, data)

    def migrate(self, owner: str, data: Mapping[str, Any], exc: StoreError) -> dict[str, Any]:
        """Let the model's own validators read data that was stored under an older schema.

        Raises:
            StoreError: ``exc``, if they cannot: it names the fields.
        """
        # A field that the model no longer has must be read by a validator or alias, not dropped.
        extra: Literal["forbid"] | None = None if self._open else "forbid"
        try:
            built = self.model.model_validate(dict(data), strict=False, by_name=True, extra=extra)
        except ValidationError:
            raise exc from None
        return {**built.__dict__, **(built.__pydantic_extra__ or {})}

    def _check_extra(self, owner: str, key: str) -> None:
        if not self._open:
            raise UnknownFieldError(
                f"{owner}: {self.model.__name__} has no field {key!r}{closest(key, self._fields)} "
                f"(fields: {', '.join(self._fields)})"
            )

    def _validate_whole(self, owner: str, data: Mapping[str, Any]) -> dict[str, Any]:
        built = self._build(owner, data)
        return {**built.__dict__, **(built.__pydantic_extra__ or {})}

    def _build(self, owner: str, data: Mapping[str, Any]) -> BaseModel:
        try:
            return self.model.model_validate(dict(data), strict=True, by_alias=False, by_name=True)
        except ValidationError as exc:
            raise _explain(owner, self._labels, data, exc) from None


class DictSchema:
    """A ``{"key": type}`` dict as the schema of a store; keys outside it are allowed."""

    def __init__(self, types: Mapping[str, Any]) -> None:
        self._types = dict(types)
        self._checks = {key: _checker(key, expected) for key, expected in self._types.items()}
        self.reducers = _only_found(
            (key, annotated_reducer(key, expected)) for key, expected in self._types.items()
        )

    @property
    def source(self) -> dict[str, Any]:
        """The dict of types."""
        return self._types

    def names(self) -> Iterable[str]:
        """The keys of the dict."""
        return self._types

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
                    f"{owner}: key {key!r} expects {type_label(self._types[key])}, "
                    f"got {type(value).__name__}: {short(value)}{detail}"
                ) from None
        return checked

    def missing(self, data: Mapping[str, Any]) -> list[str]:
        """The keys of the schema that ``data`` lacks."""
        return [key for key in self._types if key not in data]

    def complete(self, owner: str, data: Mapping[str, Any]) -> object:
        """Check that every key is there and fits.

        Raises:
            IncompleteStoreError: Names the keys that are not set.
            InvalidValueError: Names the first key whose value does not fit.
        """
        if missing := self.missing(data):
            raise IncompleteStoreError(
                f"{owner}: {_plural(missing)} of the schema not set: "
                f"{', '.join(map(repr, missing))}"
            )
        self.check(owner, data, data)
        return data

    def migrate(self, owner: str, data: Mapping[str, Any], exc: StoreError) -> dict[str, Any]:
        """A dict of types cannot migrate anything: raises ``exc``."""
        raise exc


def check_models(place: str, value: object) -> None:
    """Validate every Pydantic model in a value again, at any depth.

    Validation takes an instance of a model as it is, so what was changed inside it is found here.

    Raises:
        InvalidValueError: A model no longer fits; the message says which.
    """
    if isinstance(value, BaseModel):
        kind = type(value)
        labels = {name: type_label(f.annotation) for name, f in kind.model_fields.items()}
        try:
            kind.model_validate(dict(value.__dict__), strict=True, by_alias=False, by_name=True)
        except ValidationError as exc:
            raise _explain(f"{place}: {kind.__name__}", labels, value.__dict__, exc) from None
        value = value.__dict__
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_models(f"{place}[{key!r}]", inner)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            check_models(f"{place}[{number}]", inner)


def _only_found(pairs: Iterable[tuple[str, Reducer | None]]) -> dict[str, Reducer]:
    return {name: reducer for name, reducer in pairs if reducer is not None}


def _is_alike(new: object, old: object) -> bool:
    return new is old or (type(new) is type(old) and bool(new == old))


def _plural(names: list[str]) -> str:
    return "field" if len(names) == 1 else "fields"


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


def _fields_only(core: Any) -> Any:
    """The part of a model's core schema that checks single fields, without model validators.

    ``validate_assignment`` on it takes the values set so far as a plain dict, so that one field can
    be checked, validators included, before the others are there.
    """
    definitions = core.get("definitions", []) if core["type"] == "definitions" else []
    known = {one["ref"]: one for one in definitions}
    inner = core
    while inner["type"] != "model-fields":
        inner = known[inner["schema_ref"]] if inner["type"] == "definition-ref" else inner["schema"]
    # A frozen field may be set once; the schema of the model would refuse that, too.
    fields = {
        name: {part: value for part, value in field.items() if part != "frozen"}
        for name, field in inner["fields"].items()
    }
    inner = {**inner, "fields": fields}
    if not definitions:
        return inner
    return {"type": "definitions", "schema": inner, "definitions": definitions}


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
        return DictSchema(given)
    hint = f": pass the class {type(given).__name__}" if isinstance(given, BaseModel) else ""
    raise DefinitionError(
        f"a store schema is a Pydantic model class or a dict of types, not {short(given)}{hint}"
    )
