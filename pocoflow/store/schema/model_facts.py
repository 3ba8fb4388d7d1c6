"""Facts about the fields of a schema, and validators of its parts, created once per model."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import CoreConfig, CoreSchema, SchemaValidator

from pocoflow.messages import definition_label
from pocoflow.store.reducing import Reducer, reducers_of
from pocoflow.store.schema.cores import (
    config_of,
    core_of,
    exact,
    fields_only,
    has_validators,
    only,
    own_validators,
    types_only,
    without_definitions,
)
from pocoflow.store.schema.part_checks import PartChecks
from pocoflow.values.copies import IMMUTABLE
from pocoflow.values.remembering import remembered

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class Facts(NamedTuple):
    """What all stores with the same schema share.

    Attributes:
        label: The name of the schema in messages.
        model: The model; ``None`` for a dict of types.
        hints: The types of the fields.
        read: Returns the values of JSON values.
        definitions: The definition of each field, as text that is the same in every process.
        reducers: The reducers that fields declare.
        required: The fields without a default.
        is_open: Whether it accepts values beyond its fields.
        fields: The core schema of single fields.
        assign: Validates single fields, by all their validators.
        types: Validates single fields, by types and constraints only.
        checks: Validates parts of fields, likewise.
        custom: The fields whose values are created by code of the user, and may not fit.
        assignable: The fields that have a type and constraints, but no validators.
        alone: Validators of single assignable fields, created on first use.
        config: The configuration of the model for all of its values.
        types_extras: Whether it declares a type for values beyond its fields.
        frozen: The fields that can be set only once.
        constants: The valid defaults that all stores may share.
        whole: The model's own validators; ``None`` if none of them reads raw input.
        after: Its ``after`` validators, for an instance; ``None`` if it has none.
    """

    label: str
    model: type[BaseModel] | None
    hints: Mapping[str, Any]
    read: Callable[[Mapping[str, object]], Mapping[str, object] | BaseModel]
    definitions: Mapping[str, str]
    reducers: Mapping[str, Reducer]
    required: Collection[str]
    is_open: bool
    fields: CoreSchema
    assign: SchemaValidator
    types: SchemaValidator
    checks: PartChecks
    custom: frozenset[str]
    assignable: frozenset[str]
    alone: dict[str, Callable[..., object]]
    config: CoreConfig | None = None
    types_extras: bool = False
    frozen: frozenset[str] = frozenset()
    constants: Mapping[str, object] = MappingProxyType({})
    whole: SchemaValidator | None = None
    after: SchemaValidator | None = None

    @property
    def noun(self) -> str:
        """What a field is called in messages."""
        return "key" if self.model is None else "field"

    @property
    def hides_input(self) -> bool:
        """Whether messages must not show values."""
        return self.model is not None and bool(self.model.model_config.get("hide_input_in_errors"))

    def validates(self, key: str) -> Callable[..., object] | None:
        """The validator of a field by itself; ``None`` if there is more to check."""
        validate = self.alone.get(key)
        if validate is None and key in self.assignable:
            validator = SchemaValidator(exact(core_of(self.fields, key)), self.config)
            validate = self.alone[key] = validator.validate_python
        return validate


def facts_of(model: type[BaseModel]) -> Facts:
    """The facts of a model.

    Raises:
        DefinitionError: A field declares an invalid reducer.
    """
    return _facts_of(model, model.__pydantic_validator__)


@remembered
def _facts_of(model: type[BaseModel], _: object) -> Facts:
    """The facts, until the model is rebuilt, which gives it another validator."""
    core = model.__pydantic_core_schema__
    model_fields = model.model_fields
    fields, config = fields_only(core), config_of(core)
    types = types_only(fields)
    inner = without_definitions(fields)
    validators = model.__pydantic_decorators__.model_validators.values()
    raw = any(validator.info.mode != "after" for validator in validators)
    after, whole = own_validators(core), own_validators(core, partial(instance_of, model))
    whole = whole if raw else None
    is_frozen = bool(model.model_config.get("frozen"))
    frozen = frozenset(name for name, field in model_fields.items() if is_frozen or field.frozen)
    custom = frozenset(name for name in model_fields if has_validators(fields, name))
    by_types = SchemaValidator(types, config)
    is_by_field = after is None and whole is None
    return Facts(
        model.__name__,
        model,
        hints={name: field.annotation for name, field in model_fields.items()},
        read=partial(_read_json, model),
        definitions=definitions_of(model),
        reducers=reducers_of((k, f.annotation, f.metadata) for k, f in model_fields.items()),
        required=dict.fromkeys(name for name, f in model_fields.items() if f.is_required()),
        is_open=model.model_config.get("extra") == "allow",
        fields=fields,
        assign=SchemaValidator(exact(fields), config),
        types=by_types,
        checks=PartChecks(types, config),
        custom=custom,
        assignable=frozenset(model_fields.keys() - frozen - custom if is_by_field else ()),
        alone={},
        config=config,
        types_extras="extras_schema" in inner,
        frozen=frozen,
        constants=dict(_constants(model, by_types)),
        whole=None if whole is None else SchemaValidator(whole),
        after=None if after is None else SchemaValidator(after),
    )


def _constants(model: type[BaseModel], types: SchemaValidator) -> Iterator[tuple[str, object]]:
    for name, field in model.model_fields.items():
        if type(field.default) in IMMUTABLE and not validates_default(model, field):
            with suppress(ValidationError):
                types.validate_assignment({}, name, field.default, strict=True)
                yield name, field.default


def validates_default(model: type[BaseModel], field: FieldInfo) -> bool:
    """Whether the default of a field is validated, as configured for the field or its model."""
    if field.validate_default is None:
        return bool(model.model_config.get("validate_default"))
    return field.validate_default


def definitions_of(schema: type[BaseModel]) -> dict[str, str]:
    """The definition of each field: its type, its metadata, and the validators that name it."""
    validators: dict[str, list[str]] = {}
    for name, validator in schema.__pydantic_decorators__.field_validators.items():
        for field in validator.info.fields:
            validators.setdefault(field, []).append(f"{validator.info.mode} validator {name}()")
    everywhere = validators.get("*", [])
    return {
        name: definition_label(
            field.annotation, field.metadata, [*validators.get(name, []), *everywhere]
        )
        for name, field in schema.model_fields.items()
    }


def instance_of(model: type[BaseModel], data: Mapping[str, object]) -> BaseModel:
    """The model of accepted values; of its code only ``model_post_init`` is called."""
    fields = {key: data[key] for key in model.model_fields if key in data}
    extra = {key: value for key, value in data.items() if key not in fields}
    is_open = model.model_config.get("extra") == "allow"
    instance = model.__new__(model)
    state = {
        "__dict__": dict(fields),
        "__pydantic_fields_set__": set(data),
        "__pydantic_extra__": extra if is_open else None,
        "__pydantic_private__": None,
    }
    BaseModel.__setstate__(instance, state)
    if model.__pydantic_post_init__:
        instance.model_post_init(None)
        instance.__dict__.update(fields)
    return instance


def model_values(model: BaseModel) -> dict[str, object]:
    """The values of a model's fields, and its extra values, by name."""
    return {**model.__dict__, **(model.__pydantic_extra__ or {})}


def only_lacks(exc: ValidationError) -> bool:
    """Whether the only errors in raw input are missing fields, which may be set later."""
    return all(error["type"] == "missing" and len(error["loc"]) == 1 for error in exc.errors())


def _read_json(model: type[BaseModel], given: Mapping[str, object]) -> BaseModel:
    """An instance of a model from JSON values, in which missing fields are unset.

    Raises:
        ValidationError: A value does not fit.
        ValueError: It is not a JSON value.
    """
    text, facts = json.dumps(dict(given), allow_nan=False), facts_of(model)
    # Validators of the model may add missing fields; without them, each field is validated once.
    if facts.whole is not None or given.keys() >= set(facts.required):
        try:
            return model.model_validate_json(text, strict=True, by_alias=False, by_name=True)
        except ValidationError as exc:
            if all(error["type"] != "missing" or len(error["loc"]) > 1 for error in exc.errors()):
                raise
    read = SchemaValidator(only(facts.fields, given), facts.config).validate_json
    values, *_ = read(text, strict=True, by_alias=False, by_name=True)
    return instance_of(model, values)
