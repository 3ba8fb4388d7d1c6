"""Checks the changed parts of an accepted value, and not the rest, if its type allows that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import CoreConfig, CoreSchema, SchemaValidator

from pocoflow.store.schema.cores import ANY, without_definitions

if TYPE_CHECKING:
    from pocoflow.values.changes.difference import Change

_BOUNDS = frozenset({"min_length", "max_length"})


class PartChecks:
    """The validators of parts of values, created when such a part has changed.

    Args:
        core: The schema of the values, of types and constraints only.
        config: The configuration of their model for all of them.
    """

    def __init__(self, core: CoreSchema, config: CoreConfig | None = None) -> None:
        self._config = config
        self._definitions = core.get("definitions", ())
        self._named = {definition["ref"]: definition for definition in self._definitions}
        self._validators: dict[int, tuple[object, SchemaValidator]] = {}
        self.core = without_definitions(core)

    def fit(self, core: CoreSchema, value: object, changes: Iterable[Change]) -> bool:
        """Whether all changes in a value fit; if not, the schema of the whole decides.

        Args:
            core: The schema of the value.
            value: The current value.
            changes: What has changed in it since it was accepted.
        """
        return all(self._fits(core, value, change) for change in changes)

    def _fits(self, core: CoreSchema, value: Any, change: Change) -> bool:
        """Whether one change fits: checked in the innermost part whose schema is known."""
        path: list[Any] = list(change.path)
        while True:
            if not path and change.operation == "delete":
                return True  # it was added again, which is another change
            outer, core = core, self._bare(core)
            kind = core["type"]
            if kind == "list" and type(value) is list:
                if not path:
                    return self._has_room(core, value) and self._are_items(core, change)
                core, value = core.get("items_schema", ANY), value[path.pop(0)]
            elif kind == "dict" and type(value) is dict and _leads_to(value, path, change):
                if not self._has_room(core, value):
                    return False
                key = path.pop(0)
                if key not in value:  # it was deleted
                    return True
                if not self._is_valid(core.get("keys_schema", ANY), key):
                    return False
                core, value = core.get("values_schema", ANY), value[key]
            elif kind == "chain" and len(path) > 1 and path[0] == "value":
                inner = core["steps"][-1]["schema"]
                # The fields there may be those of a typed dict in a root model.
                field = inner["fields"].get(path[1]) if inner["type"] == "model-fields" else None
                if field is None or not hasattr(value, path[1]):
                    return self._is_valid(core, value)
                core, value = field["schema"], getattr(value, path[1])
                del path[:2]
            else:
                return self._is_valid(outer, value)

    def _bare(self, core: CoreSchema) -> CoreSchema:
        while core["type"] in ("definition-ref", "nullable", "default"):
            named = core["type"] == "definition-ref"
            core = self._named[core["schema_ref"]] if named else core["schema"]
        return core

    def _are_items(self, core: CoreSchema, change: Change) -> bool:
        """Whether the elements fit that were added to a list, or that it was set to."""
        part = core.get("items_schema", ANY)
        added = change.value[2] if change.operation == "splice" else change.value
        return part["type"] == "any" or all(self._is_valid(part, item) for item in added)

    def _has_room(self, core: CoreSchema, value: list[object] | dict[Any, object]) -> bool:
        if _BOUNDS.isdisjoint(core):
            return True
        least, most = core.get("min_length", 0), core.get("max_length")
        return least <= len(value) and (most is None or len(value) <= most)

    def _is_valid(self, core: CoreSchema, value: object) -> bool:
        if core["type"] == "any":
            return True
        known = self._validators.get(id(core))
        if known is None:
            complete = core
            if self._definitions:
                complete = {"type": "definitions", "schema": core, "definitions": self._definitions}
            known = self._validators[id(core)] = core, SchemaValidator(complete, self._config)
        try:
            known[1].validate_python(value, strict=True)
        except ValidationError:
            return False
        return True


def _leads_to(value: dict[object, object], path: list[str | int], change: Change) -> bool:
    """Whether a path leads to a key of a dict that is stored as an object."""
    if not path or (path[0] == "value" and len(path) > 1):
        return False
    return path[0] in value or (change.operation == "delete" and len(path) == 1)
