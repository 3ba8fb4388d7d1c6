"""What a model says of its fields, and the validators of its parts: found out once for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

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
    own_validators,
    types_only,
    without_definitions,
)
from pocoflow.store.schema.part_checks import PartChecks
from pocoflow.values.copies import IMMUTABLE
from pocoflow.values.remembering import remembered

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


class ModelFacts(NamedTuple):
    """What all stores with a model as their schema have in common.

    Attributes:
        config: What the model says about all of its values.
        is_open: Whether it takes values beyond its fields.
        types_extras: Whether it says what these are.
        required: The fields without a default.
        frozen: The fields that are set once.
        places: The fields, with their places.
        constants: The defaults that fit, and that all stores may share.
        definitions: All that defines each field, as text that is the same in every process.
        reducers: The reducers that fields declare.
        fields: The core schema of single fields.
        assign: Single fields, with all that validates them.
        types: Single fields, by types and constraints only.
        checks: Parts of them, in the same way.
        shaped: The fields that code of the user validates.
        assignable: The fields that have a type and constraints, and nothing else that looks.
        alone: What validates assignable fields, each by itself, once it was asked for.
        whole: The model's own validators; ``None`` if none of them reads raw input.
        after: Its ``after`` validators, for an instance; ``None`` if it has none.
    """

    config: CoreConfig | None
    is_open: bool
    types_extras: bool
    required: tuple[str, ...]
    frozen: frozenset[str]
    places: Mapping[str, int]
    constants: Mapping[str, object]
    definitions: Mapping[str, str]
    reducers: Mapping[str, Reducer]
    fields: CoreSchema
    assign: SchemaValidator
    types: SchemaValidator
    checks: PartChecks
    shaped: frozenset[str]
    assignable: frozenset[str]
    alone: dict[str, Callable[..., object]]
    whole: SchemaValidator | None
    after: SchemaValidator | None

    def validates(self, key: str) -> Callable[..., object] | None:
        """What validates a field by itself; ``None`` if there is more to look at."""
        found = self.alone.get(key)
        if found is None and key in self.assignable:
            alone = SchemaValidator(exact(core_of(self.fields, key)), self.config)
            found = self.alone[key] = alone.validate_python
        return found


def facts_of(model: type[BaseModel]) -> ModelFacts:
    """The facts of a model.

    Raises:
        DefinitionError: A field declares a reducer that is none.
    """
    return _found(model, model.__pydantic_validator__)


@remembered
def _found(model: type[BaseModel], _: object) -> ModelFacts:
    """The same as long as the model is not built anew, which gives it another validator."""
    core = model.__pydantic_core_schema__
    own = model.model_fields
    fields, config = fields_only(core), config_of(core)
    types = types_only(fields)
    inner = without_definitions(fields)
    raw = any(
        one.info.mode != "after" for one in model.__pydantic_decorators__.model_validators.values()
    )
    after, whole = own_validators(core), own_validators(core, partial(instance_of, model))
    whole = whole if raw else None
    is_frozen = bool(model.model_config.get("frozen"))
    frozen = frozenset(name for name, field in own.items() if is_frozen or field.frozen)
    shaped = frozenset(name for name in own if has_validators(fields, name))
    by_types = SchemaValidator(types, config)
    is_by_field = after is None and whole is None
    return ModelFacts(
        config,
        is_open=model.model_config.get("extra") == "allow",
        types_extras="extras_schema" in inner,
        required=tuple(name for name, field in own.items() if field.is_required()),
        frozen=frozen,
        places={name: place for place, name in enumerate(own)},
        constants=dict(_constants(model, by_types)),
        definitions=definitions_of(model),
        reducers=reducers_of((name, one.annotation, one.metadata) for name, one in own.items()),
        fields=fields,
        assign=SchemaValidator(exact(fields), config),
        types=by_types,
        checks=PartChecks(types, config),
        shaped=shaped,
        assignable=frozenset(own.keys() - frozen - shaped if is_by_field else ()),
        alone={},
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
    """Whether the default of a field is validated, as the field or its model asks for."""
    if field.validate_default is None:
        return bool(model.model_config.get("validate_default"))
    return field.validate_default


def definitions_of(schema: type[BaseModel]) -> dict[str, str]:
    """What defines each field: its type, its metadata, and the validators that name it."""
    validators: dict[str, list[str]] = {}
    for name, one in schema.__pydantic_decorators__.field_validators.items():
        for field in one.info.fields:
            validators.setdefault(field, []).append(f"{one.info.mode} validator {name}()")
    everywhere = validators.get("*", [])
    return {
        name: definition_label(
            field.annotation, field.metadata, [*validators.get(name, []), *everywhere]
        )
        for name, field in schema.model_fields.items()
    }


def instance_of(model: type[BaseModel], data: Mapping[str, object]) -> BaseModel:
    """The model of values that were accepted; of its code only ``model_post_init`` is called."""
    fields = {key: data[key] for key in model.model_fields if key in data}
    extra = {key: value for key, value in data.items() if key not in fields}
    is_open = model.model_config.get("extra") == "allow"
    made = model.__new__(model)
    state = {
        "__dict__": dict(fields),
        "__pydantic_fields_set__": set(data),
        "__pydantic_extra__": extra if is_open else None,
        "__pydantic_private__": None,
    }
    BaseModel.__setstate__(made, state)
    if model.__pydantic_post_init__:
        made.model_post_init(None)
        made.__dict__.update(fields)
    return made


def model_values(model: BaseModel) -> dict[str, object]:
    """The values of a model's fields, and what it holds beyond them, by name."""
    return {**model.__dict__, **(model.__pydantic_extra__ or {})}


def only_lacks(exc: ValidationError) -> bool:
    """Whether all that is wrong with raw input is that it lacks fields, which may be set later."""
    return all(one["type"] == "missing" and len(one["loc"]) == 1 for one in exc.errors())


def read_json(model: type[BaseModel], given: Mapping[str, object]) -> BaseModel:
    """An instance of a model of JSON values, in which those are unset that are lacking.

    Raises:
        ValidationError: A value does not fit.
        ValueError: It is no JSON value.
    """
    text, facts = json.dumps(dict(given), allow_nan=False), facts_of(model)
    # The model's own validators may add what is lacking; without these its fields are seen once.
    if facts.whole is not None or given.keys() >= set(facts.required):
        try:
            return model.model_validate_json(text, strict=True, by_alias=False, by_name=True)
        except ValidationError as exc:
            if all(one["type"] != "missing" or len(one["loc"]) > 1 for one in exc.errors()):
                raise
    core = facts.fields
    inner = without_definitions(core)
    chosen = {**inner, "fields": {k: v for k, v in inner["fields"].items() if k in given}}
    core = chosen if inner is core else {**core, "schema": chosen}
    read = SchemaValidator(core, facts.config).validate_json
    values, *_ = read(text, strict=True, by_alias=False, by_name=True)
    return instance_of(model, values)
