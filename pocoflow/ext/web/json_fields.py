"""The inputs and outputs of a run as JSON, by the schema of its flow."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticSerializationError
from pydantic_core.core_schema import model_schema

from pocoflow.check.schemas import Fields as SchemaFields, fields_of
from pocoflow.db import RunRow
from pocoflow.flow.flow import Flow
from pocoflow.logging import OwnLogger
from pocoflow.store.schema import make_schema
from pocoflow.store.schema.cores import only
from pocoflow.store.schema.dicts import typed_dict
from pocoflow.store.schema.model_facts import facts_of
from pocoflow.store.schema.vouching import classes_of
from pocoflow.values import has_marks
from pocoflow.values.json_text import as_json, scalar_as_json, write_json

_log = OwnLogger("web")


class _Describing(GenerateJsonSchema):
    """Generates JSON schemas; what has none gets an empty one."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def handle_invalid_for_json_schema(
        self, schema: CoreSchema, error_info: str
    ) -> JsonSchemaValue:
        return {}


class _Fields:
    """Fields of the store of a flow, as JSON schemas."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    @property
    def _fields(self) -> SchemaFields:
        return fields_of(self._flow.schema)

    def _schema_of(
        self, names: tuple[str, ...], mode: JsonSchemaMode, template: str
    ) -> JsonSchemaValue:
        """The JSON schema of an object with these fields, with referenced schemas in ``$defs``."""
        model = self._fields.model
        if model is None:
            core = typed_dict({name: self._fields.type_of(name) for name in names}).core_schema
        else:
            facts = facts_of(model)
            core = model_schema(model, only(facts.fields, names), config=facts.config)
        whole = _Describing(by_alias=model is None, ref_template=template).generate(core, mode)
        known = whole.get("properties", {})
        return {
            "type": "object",
            "properties": {name: known.get(name, {}) for name in names},
            "required": whole.get("required", []),
            "additionalProperties": False,
            "$defs": whole.get("$defs", {}),
        }


class Inputs(_Fields):
    """What the owner of a run may give it: the inputs of the flow, and nothing else.

    Those that the flow names (``Flow(inputs=...)``), or those that validation finds: fields that
    are read, have no default and are written by no node.
    """

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The keys of the inputs."""
        return tuple(self._flow.proof().inputs)

    def read(self, given: Mapping[str, object]) -> Any:
        """The inputs with which the run is submitted.

        Raises:
            ValidationError: A value does not fit the schema.
            ValueError: A key is not an input, or a value cannot be read.
        """
        for key in given:
            if key not in self.names:
                known = ", ".join(map(repr, self.names)) or "none"
                raise ValueError(f"there is no input {key!r} (inputs: {known})")
        write_json(dict(given))
        schema = make_schema(self._flow.schema)
        return dict(given) if schema is None else schema.from_json(given)

    def schema(self, template: str) -> JsonSchemaValue:
        """Their JSON schema; ``template`` is that of its references."""
        return self._schema_of(self.names, "validation", template)


class Outputs(_Fields):
    """The part of the store of a completed run that its owner sees.

    The outputs that the flow names (``Flow(outputs=...)``), else all saved values. Values that
    could not be saved, and excluded fields of a model, are never shown.
    """

    @property
    def names(self) -> tuple[str, ...] | None:
        """The keys of the outputs; ``None`` for all."""
        return self._flow.outputs

    def of(self, row: RunRow) -> dict[str, object]:
        """The outputs of a completed run, as JSON values.

        They are shown as saved, as the schema may have changed since.
        """
        classes = classes_of(self._flow.schema, aliases=self._flow.aliases)
        last = row["total_steps"] - 1
        store = self._flow.database.load_store(row["run_id"], last, classes)
        outputs = {}
        for key in store if self.names is None else self.names:
            if key in store and not has_marks(store[key]) and not self._is_hidden(key):
                try:
                    outputs[key] = self._plain(key, store[key])
                except (PydanticSerializationError, TypeError, ValueError) as exc:
                    _log.warning("run %r: %r is not shown: %s", row["run_id"], key, exc)
        return outputs

    def _is_hidden(self, key: str) -> bool:
        """Whether a field is excluded, or no longer in the model, where it may have been."""
        model = self._fields.model
        field = None if model is None else model.model_fields.get(key)
        return self._fields.is_closed if field is None else bool(field.exclude)

    def _plain(self, key: str, value: object) -> object:
        model = self._fields.model
        if model is not None:
            instance = model.model_construct()
            instance.__dict__ = {key: value}
            dumped = instance.model_dump(
                mode="json", include={key}, warnings=False, fallback=scalar_as_json
            )
            if key in dumped:
                return as_json(dumped[key])
        return as_json(value)

    def schema(self, template: str) -> JsonSchemaValue:
        """Their JSON schema; ``template`` is that of its references."""
        names = self._fields if self.names is None else self.names
        shown = tuple(name for name in names if not self._is_hidden(name))
        schema = self._schema_of(shown, "serialization", template)
        return {**schema, "additionalProperties": self.names is None}
