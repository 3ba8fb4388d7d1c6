"""Pydantic models as schemas: fields are checked one by one, and the whole once it is complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator

from pocoflow.errors import DefinitionError, InvalidValueError, StoreError, UnknownFieldError
from pocoflow.reducers import reducers_of
from pocoflow.wording import closest, short, type_label

__all__ = ["ModelSchema", "check_models", "model_values"]


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
        self.source = model
        self.label = model.__name__
        self._fields = model.model_fields
        self._open = model.model_config.get("extra") == "allow"
        self._assign = SchemaValidator(_fields_only(model.__pydantic_core_schema__))
        self._whole = bool(model.__pydantic_decorators__.model_validators)
        self._types = _type_labels(model)
        self._required = [name for name, f in self._fields.items() if f.is_required()]
        self.reducers = reducers_of((name, f.metadata) for name, f in self._fields.items())

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
            candidate[key] = self._assigned(owner, candidate, key, value)
        # Not with a default in the place of a value that was deleted, or could not be stored.
        if self._whole and self._fields.keys() <= candidate.keys():
            return self._check_whole(owner, candidate, changes)
        return {key: candidate[key] for key in changes}

    def _assigned(self, owner: str, candidate: dict[str, Any], key: str, value: Any) -> Any:
        """What one key is set to, checked by itself; Pydantic may set it in ``candidate``."""
        field = self._fields.get(key)
        if field is None:
            if self._open:
                return value
            raise UnknownFieldError(
                f"{owner}: {self.label} has no field {key!r}{closest(key, self._fields)} "
                f"(fields: {', '.join(self._fields)})"
            )
        if field.frozen and candidate.get(key, value) is not value:
            raise InvalidValueError(
                f"{owner}: field {key!r} is frozen: it stays {short(candidate[key])}, "
                f"got {type(value).__name__}: {short(value)}"
            )
        known = candidate
        if self._open:  # then there may be keys that are no fields
            known = {name: candidate[name] for name in self._fields if name in candidate}
        try:
            checked: Any = self._assign.validate_assignment(known, key, value, strict=True)
        except ValidationError as exc:
            raise _explain(owner, self._types, {key: value}, exc) from None
        return checked[0][key]

    def _check_whole(
        self, owner: str, candidate: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What all is set to by ``changes`` once the model's own validators have seen the whole."""
        writing = f"{owner}: writing {', '.join(map(repr, changes))}"
        whole = model_values(self.complete(writing, candidate))
        # Validation copies lists and dicts: what it left equal keeps its identity.
        same = {key for key, value in whole.items() if _is_alike(value, candidate.get(key))}
        return {
            key: candidate[key] if key in same else value
            for key, value in whole.items()
            if key in changes or key not in same
        }

    def missing(self, data: Mapping[str, Any]) -> list[str]:
        """The required fields that ``data`` lacks."""
        return [name for name in self._required if name not in data]

    def complete(self, owner: str, data: Mapping[str, Any]) -> BaseModel:
        """The model of data that lacks no field, validated.

        Raises:
            InvalidValueError: Names the fields whose values do not fit.
        """
        try:
            return self.source.model_validate(dict(data), strict=True, by_alias=False, by_name=True)
        except ValidationError as exc:
            raise _explain(owner, self._types, data, exc) from None

    def migrate(self, owner: str, data: Mapping[str, Any], exc: StoreError) -> dict[str, Any]:
        """Let the model's own validators read data that was stored under an older schema.

        Raises:
            StoreError: ``exc``, if they cannot: it names the fields.
        """
        # A field that the model no longer has must be read by a validator or alias, not dropped.
        extra: Literal["forbid"] | None = None if self._open else "forbid"
        try:
            built = self.source.model_validate(dict(data), strict=False, by_name=True, extra=extra)
        except ValidationError:
            raise exc from None
        return model_values(built)


def model_values(model: BaseModel) -> dict[str, Any]:
    """The values of a model's fields, and what it holds beyond them, by name."""
    return {**model.__dict__, **(model.__pydantic_extra__ or {})}


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


def check_models(place: str, value: object) -> None:
    """Validate every Pydantic model in a value again, at any depth.

    Validation takes an instance of a model as it is, so what was changed inside it is found here.

    Raises:
        InvalidValueError: A model no longer fits; the message says which.
    """
    if isinstance(value, BaseModel):
        kind = type(value)
        try:
            kind.model_validate(dict(value.__dict__), strict=True, by_alias=False, by_name=True)
        except ValidationError as exc:
            raise _explain(
                f"{place}: {kind.__name__}", _type_labels(kind), value.__dict__, exc
            ) from None
        value = value.__dict__
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_models(f"{place}[{key!r}]", inner)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            check_models(f"{place}[{number}]", inner)


def _type_labels(model: type[BaseModel]) -> dict[str, str]:
    return {name: type_label(field.annotation) for name, field in model.model_fields.items()}


def _is_alike(new: object, old: object) -> bool:
    return new is old or (type(new) is type(old) and bool(new == old))


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
