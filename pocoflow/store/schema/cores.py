"""Parts of the validation of a model by Pydantic, derived from its core schema.

A value from outside is validated by the validators of its field, once. Values in a store were
accepted, so only types and constraints are checked: no code of the user sees them again as if they
were raw input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping
from functools import partial
from numbers import Integral, Rational, Real
from operator import attrgetter
from typing import Any

from pydantic import ValidationError
from pydantic_core import CoreConfig, CoreSchema, MultiHostUrl, Url

UNKNOWN = "?"
"""The definition of a field if it is unknown under which a value was accepted."""

ANY = {"type": "any"}
_NOT_SCHEMAS = frozenset({"metadata", "config", "serialization", "default", "expected", "cls"})


def fields_only(core: CoreSchema) -> CoreSchema:
    """The part that checks single fields, without model validators.

    Its ``validate_assignment`` takes the values set so far as a plain dict, so that one field can
    be checked, validators included, before the others are set.
    """
    *_, inner = _levels(core)
    # A frozen field may be set once; the schema of the model would refuse even that.
    fields = {
        name: {part: value for part, value in field.items() if part != "frozen"}
        for name, field in inner["fields"].items()
    }
    return _within(core, {**inner, "fields": fields})


def without_definitions(core: CoreSchema) -> CoreSchema:
    """The inner schema of one that may have definitions to which it refers."""
    inner: CoreSchema = core["schema"] if core["type"] == "definitions" else core
    return inner


def _within(core: CoreSchema, inner: CoreSchema) -> CoreSchema:
    """A schema from another one, with the definitions to which both may refer."""
    return {**core, "schema": inner} if core["type"] == "definitions" else inner


def config_of(core: CoreSchema) -> CoreConfig | None:
    """The configuration of a model for all of its values, such as the maximum length of texts."""
    return next((node["config"] for node in _levels(core) if "config" in node), None)


def _levels(core: CoreSchema) -> Iterator[CoreSchema]:
    """The schema of a model and the schemas nested in it, down to that of its fields."""
    known = {definition["ref"]: definition for definition in core.get("definitions", ())}
    node = core
    while node["type"] != "model-fields":
        yield node
        node = known[node["schema_ref"]] if node["type"] == "definition-ref" else node["schema"]
    yield node


def cause_of(exc: ValidationError) -> Exception | None:
    """The first exception of a validator in an error, if there is one."""
    causes = (error.get("ctx", {}).get("error") for error in exc.errors(include_url=False))
    return next((cause for cause in causes if isinstance(cause, Exception)), None)


def types_only(core: CoreSchema) -> CoreSchema:
    """The schema without validators of the user.

    Nested models are checked by their fields: validation accepts an instance unchanged, so changes
    in one would not be found.
    """
    types: CoreSchema = _types_only(core, [])
    return types


def exact(core: object) -> Any:
    """The schema without two lax conversions of Pydantic; itself if it has none.

    Even in strict mode, Pydantic converts whatever supports ``float()``: a ``Decimal`` would
    silently lose digits. And it turns the value of an ``Iterable[int]`` into an iterator: the items
    would be checked when they are read, which is possible only once. A nested model is created by
    its own class.
    """
    if isinstance(core, list | tuple):
        items = [exact(item) for item in core]
        is_same = all(new is old for new, old in zip(items, core, strict=True))
        return core if is_same else type(core)(items)
    if not isinstance(core, dict):
        return core
    if core.get("type") == "float" and core.get("strict") is not False:
        return {"type": "chain", "steps": [_MACHINE_NUMBER, core]}
    parts = {key: part if key in _NOT_SCHEMAS else exact(part) for key, part in core.items()}
    if core.get("type") == "generator":
        return _eager(parts)
    return core if all(parts[key] is core[key] for key in core) else parts


_OF_ITEMS: Mapping[type, Callable[[list[object]], object]] = {
    kind: kind for kind in (list, tuple, set, frozenset)
}


def _eager(core: CoreSchema) -> CoreSchema:
    function = {"type": "no-info", "function": _all_items}
    return {"type": "function-wrap", "function": function, "schema": core}


def _all_items(given: object, check: Callable[[object], Iterator[object]]) -> object:
    """A collection with all items checked; for an iterator, one that checks each item."""
    checked = check(given)
    if not isinstance(given, Collection):
        return checked
    items, make = [*checked], _OF_ITEMS.get(type(given))
    return given if make is None else make(items)


def is_machine_number(kind: type) -> bool:
    """Whether a ``float`` accepts the numbers of a class: of Python, NumPy and the like."""
    if issubclass(kind, (float, Integral)):
        return True
    return issubclass(kind, Real) and not issubclass(kind, Rational)


class _Numbers(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return is_machine_number(type(instance))


class _MachineNumber(metaclass=_Numbers):
    """Every machine number is an instance of it."""


_MACHINE_NUMBER = {
    "type": "custom-error",
    "schema": {"type": "is-instance", "cls": (float, int, _MachineNumber)},
    "custom_error_type": "float_type",
}


def has_validators(core: CoreSchema, field: str | None = None) -> bool:
    """Whether code of the user creates values: anywhere, or in a field of :func:`fields_only`."""
    inner = without_definitions(core)
    definitions = {definition["ref"]: definition for definition in core.get("definitions", ())}
    found: list[CoreSchema] = []
    _types_only(inner if field is None else inner["fields"][field], found)
    seen = set()
    for node in found:  # grows during the iteration
        if node["type"] != "definition-ref":
            return True
        if (ref := node["schema_ref"]) in definitions and ref not in seen:
            seen.add(ref)
            _types_only(definitions[ref], found)
    return False


def core_of(fields: CoreSchema, field: str) -> CoreSchema:
    """The schema of one field of :func:`fields_only`, by itself."""
    return _within(fields, without_definitions(fields)["fields"][field]["schema"])


def only(fields: CoreSchema, names: Container[str]) -> CoreSchema:
    """The schema of some fields of :func:`fields_only`."""
    inner = without_definitions(fields)
    chosen = {name: field for name, field in inner["fields"].items() if name in names}
    return _within(fields, {**inner, "fields": chosen})


def items_of(fields: CoreSchema, field: str) -> CoreSchema | None:
    """The schema of the items, or the values, of a list or dict field of :func:`fields_only`."""
    node = core = core_of(fields, field)
    while node["type"] not in ("list", "dict") and isinstance(node.get("schema"), dict):
        node = node["schema"]
    part = node.get("items_schema") if node["type"] == "list" else node.get("values_schema")
    return None if part is None else _within(core, part)


def _types_only(node: object, found: list[CoreSchema]) -> Any:
    """The schema without validators; ``found`` gets these, and what refers to definitions."""
    if isinstance(node, list):
        return [_types_only(part, found) for part in node]
    if isinstance(node, tuple):
        return tuple(_types_only(part, found) for part in node)
    if not isinstance(node, dict):
        return node
    if not isinstance(node.get("type"), str):
        return {key: _types_only(part, found) for key, part in node.items()}
    accepted = _accepted(node, found)
    if accepted is not node:
        result = _types_only(accepted, found)
    else:
        result = {
            key: part if key in _NOT_SCHEMAS else _types_only(part, found)
            for key, part in node.items()
        }
        if node["type"] in _changes:
            result = _changes[node["type"]](result)
    return {**result, "ref": node["ref"]} if "ref" in node else result


def _accepted(node: CoreSchema, found: list[CoreSchema]) -> CoreSchema:
    """The schema of accepted values, from the schema of their input."""
    kind = node["type"]
    if kind.startswith("function-") and _is_users(node["function"]["function"]):
        found.append(node)
        return ANY if kind == "function-plain" else node["schema"]
    if kind == "tagged-union":  # the tag may come from a function that reads raw input
        return {"type": "union", "choices": list(node["choices"].values())}
    if kind == "chain":
        found.append(node)
        last: CoreSchema = node["steps"][-1]
        return last
    if kind == "json":
        found.append(node)
        parsed: CoreSchema = node.get("schema", ANY)
        return parsed
    if kind == "definition-ref":
        found.append(node)
    return node


def _is_users(function: object) -> bool:
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None) or ""
    if module == "pydantic.networks" and "Url." in getattr(function, "__qualname__", ""):
        return False  # an existing URL passes unchanged
    # Its public modules also have functions for input only, such as decoders or FilePath.
    return not module.startswith(("pydantic._internal", "pydantic_core"))


def _model(node: CoreSchema) -> CoreSchema:
    """Check the fields of an instance, and pass the instance on unchanged.

    Its container, such as a set or the keys of a dict, has to hash it.
    """
    is_root = node.get("root_model", False)
    fields = _configured(node["schema"], node, is_root)
    return _instance(node, attrgetter("root" if is_root else "__dict__"), fields)


def _dataclass(node: CoreSchema) -> CoreSchema:
    """The same for a dataclass; parameters of ``__init__`` alone are not fields of an instance."""
    schemas = [f for f in node["schema"]["fields"] if not f.get("init_only")]
    fields = {f["name"]: {"type": "model-field", "schema": f["schema"]} for f in schemas}
    checked = _configured({"type": "model-fields", "fields": fields}, node)
    return _instance(node, partial(_attributes, tuple(fields)), checked)


def _attributes(names: tuple[str, ...], instance: object) -> dict[str, object]:
    return {name: getattr(instance, name) for name in names if hasattr(instance, name)}


def _instance(node: CoreSchema, view: Callable[[object], object], fields: CoreSchema) -> CoreSchema:
    def passed(instance: object, check: Callable[[object], object]) -> object:
        check(view(instance))
        return instance

    is_instance = {"type": "is-instance", "cls": node.get("generic_origin") or node["cls"]}
    checked = {"type": "function-wrap", "function": {"type": "no-info", "function": passed}}
    return {"type": "chain", "steps": [is_instance, {**checked, "schema": fields}]}


def _configured(fields: CoreSchema, node: CoreSchema, is_root: object = False) -> CoreSchema:
    if len(config := node.get("config", {})) > 1:  # more than a title
        fields = {"type": "model", "cls": _Scratch, "schema": fields, "config": config}
        fields["root_model"] = is_root
    return fields


class _Scratch:
    """Receives values validated under the configuration of a model, and is discarded."""

    __slots__ = (
        "__dict__",
        "__pydantic_extra__",
        "__pydantic_fields_set__",
        "__pydantic_private__",
    )


def _call(function: Callable[[object], object]) -> dict[str, object]:
    return {"type": "function-plain", "function": {"type": "no-info", "function": function}}


def _model_fields(node: CoreSchema) -> CoreSchema:
    # An instance of a subclass may have more.
    is_open = "extras_schema" in node or node.get("extra_behavior") == "allow"
    return {**node, "extra_behavior": "allow" if is_open else "ignore"}


def _named(node: CoreSchema) -> CoreSchema:
    return {key: part for key, part in node.items() if key not in ("validation_alias", "frozen")}


def _only(kind: type, _: CoreSchema) -> CoreSchema:
    return {"type": "is-instance", "cls": kind}


_changes: Mapping[str, Callable[[CoreSchema], CoreSchema]] = {
    "model": _model,
    "model-fields": _model_fields,
    "model-field": _named,
    "typed-dict-field": _named,
    "dataclass": _dataclass,
    "generator": _eager,
    "url": partial(_only, Url),
    "multi-host-url": partial(_only, MultiHostUrl),
}


def own_validators(
    core: CoreSchema, build: Callable[[Any], object] | None = None
) -> CoreSchema | None:
    """The validators of a model itself, for fields that are not validated again.

    Args:
        core: The schema of the model.
        build: Creates an instance from the values by name; without it only the ``after`` validators
            are included, which receive an instance.

    Returns:
        A schema, or ``None`` if the model has no such validators.
    """
    validators = [
        node
        for node in _levels(core)
        if node["type"] == "function-after" or (build and node["type"].startswith("function-"))
    ]
    schema: CoreSchema = ANY if build is None else _call(build)
    for node in reversed(validators):
        schema = {"type": node["type"], "function": node["function"], "schema": schema}
    return schema if validators else None
