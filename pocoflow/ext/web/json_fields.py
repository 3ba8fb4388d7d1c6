"""What a run is given as JSON, and what has come of it as JSON, by the schema of its flow."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticSerializationError

from pocoflow.check.schemas import Fields as SchemaFields, fields_of
from pocoflow.db import RunRow
from pocoflow.flow.flow import Flow
from pocoflow.logging import OwnLogger
from pocoflow.store.schema import make_schema
from pocoflow.store.schema.vouching import classes_of
from pocoflow.values import has_marks
from pocoflow.values.json_text import as_json, scalar_as_json, write_json

_log = OwnLogger("web")


class _Describing(GenerateJsonSchema):
    """Describes what can be described; nothing is said of the rest."""

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

    def _schema_of(self, names: tuple[str, ...], mode: JsonSchemaMode) -> JsonSchemaValue:
        """The JSON schema of an object of some fields, with what it refers to as ``$defs``."""
        model = self._fields.model
        known: JsonSchemaValue = {}
        definitions: JsonSchemaValue = {}
        needed: list[str] = []
        if model is not None:
            told = model.model_json_schema(by_alias=False, mode=mode, schema_generator=_Describing)
            definitions = told.get("$defs", {})
            if "$ref" in told:  # of a model that contains itself
                told = definitions[told["$ref"].rpartition("/")[2]]
            known, needed = told.get("properties", {}), told.get("required", [])
        else:
            for name in names:
                known[name], found = _described(self._fields.type_of(name), mode)
                definitions |= found
        made: JsonSchemaValue = {
            "type": "object",
            "properties": {name: known.get(name, {}) for name in names},
            "additionalProperties": False,
            "$defs": definitions,
        }
        if required := [name for name in names if name in needed]:
            made["required"] = required
        return made


def _described(hint: Any, mode: JsonSchemaMode) -> tuple[JsonSchemaValue, JsonSchemaValue]:
    try:
        adapter: TypeAdapter[object] = TypeAdapter(hint)
        told = adapter.json_schema(mode=mode, schema_generator=_Describing)
    except PydanticUserError:
        return {}, {}
    return told, told.pop("$defs", {})


class Inputs(_Fields):
    """What the owner of a run may give it: the inputs of the flow, and nothing else.

    Those that the flow names (``Flow(inputs=...)``), or those that validation finds: what is read,
    has no default and is written by no node.
    """

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The keys of the inputs."""
        return tuple(self._flow.proof().inputs)

    def read(self, given: Mapping[str, object]) -> Any:
        """What the run is submitted with.

        Raises:
            ValidationError: A value does not fit the schema.
            ValueError: A key is no input, or a value is nothing that can be read.
        """
        for key in given:
            if key not in self.names:
                known = ", ".join(map(repr, self.names)) or "none"
                raise ValueError(f"there is no input {key!r} (inputs: {known})")
        write_json(dict(given))
        schema = make_schema(self._flow.schema)
        return dict(given) if schema is None else schema.from_json(given)

    def schema(self) -> JsonSchemaValue:
        """Their JSON schema."""
        return self._schema_of(self.names, "validation")


class Outputs(_Fields):
    """What the owner of a run is shown of its store once it is completed.

    The outputs that the flow names (``Flow(outputs=...)``), or else whatever was saved. What could
    not be saved, and fields of a model that are excluded, are never shown.
    """

    @property
    def names(self) -> tuple[str, ...] | None:
        """The keys of the outputs; ``None`` for all."""
        return self._flow.outputs

    def of(self, row: RunRow) -> dict[str, object]:
        """The outputs of a completed run, as JSON values.

        They are shown as they were saved: the schema may have changed since.
        """
        classes = classes_of(self._flow.schema, aliases=self._flow.aliases)
        last = row["total_steps"] - 1
        store = self._flow.database.load_store(row["run_id"], last, classes)
        found = {}
        for key in store if self.names is None else self.names:
            if key in store and not has_marks(store[key]) and not self._is_hidden(key):
                try:
                    found[key] = self._plain(key, store[key])
                except (PydanticSerializationError, TypeError, ValueError) as exc:
                    _log.warning("run %r: %r is not shown: %s", row["run_id"], key, exc)
        return found

    def _is_hidden(self, key: str) -> bool:
        """Whether a field is excluded, or is none of the model any more, which may have been."""
        model = self._fields.model
        field = None if model is None else model.model_fields.get(key)
        return self._fields.is_closed if field is None else bool(field.exclude)

    def _plain(self, key: str, value: object) -> object:
        model = self._fields.model
        if model is not None:
            made = model.model_construct()
            made.__dict__ = {key: value}
            told = made.model_dump(
                mode="json", include={key}, warnings=False, fallback=scalar_as_json
            )
            if key in told:
                return as_json(told[key])
        return as_json(value)

    def schema(self) -> JsonSchemaValue:
        """Their JSON schema."""
        if self.names is not None:
            return self._schema_of(self._shown(self.names), "serialization")
        made = self._schema_of(self._shown(tuple(self._fields)), "serialization")
        return {**made, "additionalProperties": True}

    def _shown(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if not self._is_hidden(name))
