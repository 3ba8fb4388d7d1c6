"""Parts of what Pydantic checks for a model, taken from its core schema.

A value that comes from outside meets the validators of its field, once. What is in a store was
accepted, so it is held to types and constraints only: no code of the user sees it again as if it
were raw input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from numbers import Integral, Rational, Real
from operator import attrgetter
from typing import Any

from pydantic import ValidationError
from pydantic_core import CoreConfig, CoreSchema, MultiHostUrl, Url

UNKNOWN = "?"
"""The definition of a field under which nobody knows any more that a value was accepted."""

_ANY = {"type": "any"}
_NOT_SCHEMAS = frozenset({"metadata", "config", "serialization", "default", "expected", "cls"})


def fields_only(core: CoreSchema) -> CoreSchema:
    """The part that checks single fields, without model validators.

    ``validate_assignment`` on it takes the values set so far as a plain dict, so that one field can
    be checked, validators included, before the others are there.
    """
    definitions = core.get("definitions", []) if core["type"] == "definitions" else []
    *_, inner = _down(core)
    # A frozen field may be set once; the schema of the model would refuse that, too.
    fields = {
        name: {part: value for part, value in field.items() if part != "frozen"}
        for name, field in inner["fields"].items()
    }
    inner = {**inner, "fields": fields}
    if not definitions:
        return inner
    return {"type": "definitions", "schema": inner, "definitions": definitions}


def without_definitions(core: CoreSchema) -> CoreSchema:
    """The schema itself, of one that may come with definitions that it refers to."""
    inner: CoreSchema = core["schema"] if core["type"] == "definitions" else core
    return inner


def config_of(core: CoreSchema) -> CoreConfig | None:
    """What a model says about all of its values, such as how long a text may be."""
    return next((node["config"] for node in _down(core) if "config" in node), None)


def _down(core: CoreSchema) -> Iterator[CoreSchema]:
    """The schema of a model, and what is inside of it, down to that of its fields."""
    known = {one["ref"]: one for one in core.get("definitions", ())}
    node = core
    while node["type"] != "model-fields":
        yield node
        node = known[node["schema_ref"]] if node["type"] == "definition-ref" else node["schema"]
    yield node


def cause_of(exc: ValidationError) -> Exception | None:
    """The exception of a validator that is the first to be told in an error, if one is."""
    found = (one.get("ctx", {}).get("error") for one in exc.errors(include_url=False))
    return next((one for one in found if isinstance(one, Exception)), None)


def types_only(core: CoreSchema) -> CoreSchema:
    """The schema without validators of the user.

    Models inside are looked into: validation takes an instance as it is, so what was changed in one
    would not be found.
    """
    made: CoreSchema = _types_only(core, [])
    return made


def exact(core: object) -> Any:
    """The schema without two liberties of Pydantic; itself if it takes none.

    Pydantic calls ``float()`` of whatever has it, in its strict mode, too: a ``Decimal`` would lose
    the digits for which it was used, in silence. And it makes an iterator of what is given for an
    ``Iterable[int]``: the items would be checked when they are read, which could be done once. A
    model inside is made by its own class.
    """
    if isinstance(core, list | tuple):
        made = [exact(one) for one in core]
        is_same = all(new is old for new, old in zip(made, core, strict=True))
        return core if is_same else type(core)(made)
    if not isinstance(core, dict):
        return core
    if core.get("type") == "float" and core.get("strict") is not False:
        return {"type": "chain", "steps": [_MACHINE_NUMBER, core]}
    parts = {key: one if key in _NOT_SCHEMAS else exact(one) for key, one in core.items()}
    if core.get("type") == "generator":
        return _at_once(parts)
    return core if all(parts[key] is core[key] for key in core) else parts


_OF_ITEMS: Mapping[type, Callable[[list[object]], object]] = {
    one: one for one in (list, tuple, set, frozenset)
}


def _at_once(core: CoreSchema) -> CoreSchema:
    function = {"type": "no-info", "function": _all_items}
    return {"type": "function-wrap", "function": function, "schema": core}


def _all_items(given: object, check: Callable[[object], Iterator[object]]) -> object:
    """A collection with all items checked; of what is gone through once, an iterator that does."""
    checked = check(given)
    if not isinstance(given, Collection):
        return checked
    items, make = [*checked], _OF_ITEMS.get(type(given))
    return given if make is None else make(items)


def is_machine_number(kind: type) -> bool:
    """Whether a ``float`` takes the numbers of a class: of Python, NumPy and the like."""
    if issubclass(kind, (float, Integral)):
        return True
    return issubclass(kind, Real) and not issubclass(kind, Rational)


class _Numbers(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return is_machine_number(type(instance))


class _MachineNumber(metaclass=_Numbers):
    """Has every machine number as an instance."""


_MACHINE_NUMBER = {
    "type": "custom-error",
    "schema": {"type": "is-instance", "cls": (float, int, _MachineNumber)},
    "custom_error_type": "float_type",
}


def has_validators(core: CoreSchema, field: str | None = None) -> bool:
    """Whether code of the user makes values: anywhere, or in a field of :func:`fields_only`."""
    inner = without_definitions(core)
    known = {one["ref"]: one for one in core.get("definitions", ())}
    had: list[object] = []
    queue, seen = [inner if field is None else inner["fields"][field]], set()
    for node in queue:
        _types_only(node, had)
        for ref in _refs(node):
            if ref not in seen and ref in known:
                seen.add(ref)
                queue.append(known[ref])
    return bool(had)


def core_of(fields: CoreSchema, field: str) -> CoreSchema:
    """The schema of one field of :func:`fields_only`, by itself."""
    inner = without_definitions(fields)
    core: CoreSchema = inner["fields"][field]["schema"]
    return core if fields is inner else {**fields, "schema": core}


def items_of(fields: CoreSchema, field: str) -> CoreSchema | None:
    """The schema of the items, or the values, of a list or dict field of :func:`fields_only`."""
    node = core = core_of(fields, field)
    while node["type"] not in ("list", "dict") and isinstance(node.get("schema"), dict):
        node = node["schema"]
    part: CoreSchema | None
    part = node.get("items_schema") if node["type"] == "list" else node.get("values_schema")
    if part is None or core["type"] != "definitions":
        return part
    return {**core, "schema": part}


def _refs(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") == "definition-ref":
            yield node["schema_ref"]
        for key, one in node.items():
            if key not in _NOT_SCHEMAS:
                yield from _refs(one)
    elif isinstance(node, (list, tuple)):
        for one in node:
            yield from _refs(one)


def _types_only(node: object, had: list[object]) -> Any:
    if isinstance(node, list):
        return [_types_only(one, had) for one in node]
    if isinstance(node, tuple):
        return tuple(_types_only(one, had) for one in node)
    if not isinstance(node, dict):
        return node
    if not isinstance(node.get("type"), str):
        return {key: _types_only(one, had) for key, one in node.items()}
    instead = _accepted(node, had)
    if instead is not node:
        made = _types_only(instead, had)
    else:
        made = {
            key: one if key in _NOT_SCHEMAS else _types_only(one, had) for key, one in node.items()
        }
        if node["type"] in _changes:
            made = _changes[node["type"]](made)
    return {**made, "ref": node["ref"]} if "ref" in node else made


def _accepted(node: CoreSchema, had: list[object]) -> CoreSchema:
    """What an accepted value is checked against where its input was checked against this."""
    kind = node["type"]
    if kind.startswith("function-") and _is_users(node["function"]["function"]):
        had.append(node)
        return _ANY if kind == "function-plain" else node["schema"]
    if kind == "tagged-union":  # the tag may be found by a function that reads raw input
        return {"type": "union", "choices": list(node["choices"].values())}
    if kind == "chain":
        had.append(node)
        last: CoreSchema = node["steps"][-1]
        return last
    if kind == "json":
        had.append(node)
        parsed: CoreSchema = node.get("schema", _ANY)
        return parsed
    return node


def _is_users(function: object) -> bool:
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None) or ""
    if module == "pydantic.networks" and "Url." in getattr(function, "__qualname__", ""):
        return False  # what is a URL already passes as it is
    # What its public modules have, such as a decoder or "the file is there", is for input, too.
    return not module.startswith(("pydantic._internal", "pydantic_core"))


def _model(node: CoreSchema) -> CoreSchema:
    """An instance whose fields are looked at, and which is passed on as it is.

    What it is in, such as a set or the keys of a dict, has to hash it.
    """
    is_root = node.get("root_model", False)
    fields = _configured(node["schema"], node, is_root)
    return _instance(node, attrgetter("root" if is_root else "__dict__"), fields)


def _dataclass(node: CoreSchema) -> CoreSchema:
    """The same; what only ``__init__`` takes is no field of an instance."""
    kept = [one for one in node["schema"]["fields"] if not one.get("init_only")]
    fields = {one["name"]: {"type": "model-field", "schema": one["schema"]} for one in kept}
    checked = _configured({"type": "model-fields", "fields": fields}, node)
    return _instance(node, partial(_attributes, tuple(fields)), checked)


def _attributes(names: tuple[str, ...], instance: object) -> dict[str, object]:
    return {name: getattr(instance, name) for name in names if hasattr(instance, name)}


def _instance(node: CoreSchema, look: Callable[[object], object], fields: CoreSchema) -> CoreSchema:
    def passed(instance: object, check: Callable[[object], object]) -> object:
        check(look(instance))
        return instance

    is_one = {"type": "is-instance", "cls": node.get("generic_origin") or node["cls"]}
    looked = {"type": "function-wrap", "function": {"type": "no-info", "function": passed}}
    return {"type": "chain", "steps": [is_one, {**looked, "schema": fields}]}


def _configured(fields: CoreSchema, node: CoreSchema, is_root: object = False) -> CoreSchema:
    if len(config := node.get("config", {})) > 1:  # more than a title
        fields = {"type": "model", "cls": _Scratch, "schema": fields, "config": config}
        fields["root_model"] = is_root
    return fields


class _Scratch:
    """Takes what is found right under the configuration of a model, and is thrown away."""

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
    return {key: one for key, one in node.items() if key not in ("validation_alias", "frozen")}


def _only(kind: type, _: CoreSchema) -> CoreSchema:
    return {"type": "is-instance", "cls": kind}


_changes: Mapping[str, Callable[[CoreSchema], CoreSchema]] = {
    "model": _model,
    "model-fields": _model_fields,
    "model-field": _named,
    "typed-dict-field": _named,
    "dataclass": _dataclass,
    "generator": _at_once,
    "url": partial(_only, Url),
    "multi-host-url": partial(_only, MultiHostUrl),
}


def own_validators(
    core: CoreSchema, build: Callable[[Any], object] | None = None
) -> CoreSchema | None:
    """The validators of a model itself, for fields that are taken as they are.

    Args:
        core: The schema of the model.
        build: Makes an instance of the values by name; without it only the ``after`` validators are
            meant, which are given an instance.

    Returns:
        A schema, or ``None`` if the model has no such validators.
    """
    found = [
        node
        for node in _down(core)
        if node["type"] == "function-after" or (build and node["type"].startswith("function-"))
    ]
    made: CoreSchema = _ANY if build is None else _call(build)
    for node in reversed(found):
        made = {"type": node["type"], "function": node["function"], "schema": made}
    return made if found else None
