"""The families of users' classes whose instances can be stored.

Enums, dataclasses, named tuples, Pydantic models, and subclasses of builtin values such as ``str``
or ``dict``. They are rebuilt from their fields, or their content, without running their code; only
if the fields of a model have changed since it was written, its own validation migrates it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from enum import Enum, EnumType, Flag
from functools import cached_property, partial
from operator import attrgetter
from types import GetSetDescriptorType, MemberDescriptorType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from pocoflow.errors import DecodeError
from pocoflow.messages import problems
from pocoflow.values.kinds import Parts, Splitter, required
from pocoflow.values.refusal import Refusal
from pocoflow.values.remembering import remembered

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic.fields import ModelPrivateAttr

_FIELDS_SET = "__pydantic_fields_set__"
_EXTRA = "__pydantic_extra__"
_PRIVATE = "__pydantic_private__"
_HEAP_TYPE = 1 << 9  # a class defined by a class statement
_IMMUTABLE_TYPE = 1 << 8
_MODEL_SLOTS = {_FIELDS_SET, _EXTRA, _PRIVATE}


class Family(NamedTuple):
    """A family; ``prepare`` inspects a class once, and returns a splitter of its instances."""

    tag: str
    accepts: Callable[[type], bool]
    prepare: Callable[[Any], Splitter]
    join: Callable[..., object]


def family_of(kind: type) -> Family | None:
    """The family that a class belongs to."""
    return next((family for family in FAMILIES.values() if family.accepts(kind)), None)


def _prepare_enum(kind: type[Enum]) -> Splitter:
    members = kind.__members__

    def split(value: Enum) -> Parts:
        name, content = value._name_, value._value_
        if members.get(name) is value:
            return {"value": name}
        if issubclass(kind, Flag) and kind(content) == value:
            return {"value": content}
        raise Refusal(value, "it is not one of the members of its enum")

    return split


def _join_enum(cls: type[Enum], value: object) -> object:
    if type(value) is str:
        if value not in cls.__members__:
            raise DecodeError(
                f"{cls.__qualname__} has no member {value!r}, only {', '.join(cls.__members__)}"
            )
        return cls.__members__[value]
    number = required(int, value)
    with suppress(ValueError):
        flag = cls(number) if issubclass(cls, Flag) else None
        if type(flag) is cls:
            return flag
    raise DecodeError(f"{cls.__qualname__} has no member {value!r}")


def state_of(value: object) -> dict[str, Any]:
    """The attributes of an instance, including those in slots."""
    state: object = object.__getstate__(value)
    attributes, slots = state if type(state) is tuple else (state, None)
    return {**(attributes or {}), **(slots or {})}


def has_plain_dict(kind: type) -> bool:
    """Whether all attributes of an instance are in its ``__dict__``."""
    types = [(name, type(value)) for cls in kind.__mro__ for name, value in vars(cls).items()]
    slots = any(issubclass(type_, MemberDescriptorType) for _, type_ in types)
    access = {type_ for name, type_ in types if name in ("__dict__", "__getattribute__")}
    return _has_dict(kind) and not slots and access <= {GetSetDescriptorType, WrapperDescriptorType}


def _refuse_extra(value: object, state: Iterable[str], fields: Iterable[str]) -> None:
    """Refuse attributes that are not fields, except those that are computed again."""
    known = set(fields)
    for name in state:
        if name in known or name == "__orig_class__":
            continue
        if any(isinstance(vars(cls).get(name), cached_property) for cls in type(value).__mro__):
            continue
        raise Refusal(value, f"its attribute {name!r} is not a field of its class")


def _prepare_namedtuple(kind: type[NamedTuple]) -> Splitter:
    fields = kind._fields

    def split(value: tuple[object, ...]) -> Parts:
        if len(value) != len(fields):
            raise Refusal(value, "it does not have one element for each field")
        _refuse_extra(value, state_of(value), ())
        return {"value": dict(zip(fields, tuple(value), strict=True))}

    return split


def _join_namedtuple(cls: type[NamedTuple], value: object) -> object:
    return tuple.__new__(cls, _complete(cls, required(dict, value)).values())


def _prepare_dataclass(kind: type[DataclassInstance]) -> Splitter:
    base = _builtin_base(kind)
    get_state = attrgetter("__dict__") if has_plain_dict(kind) else state_of
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields]
    known = set(names)
    optional = {field.name for field in fields if field.default is not dataclasses.MISSING}

    def split(value: object) -> Parts:
        if base is not None:
            _refuse_base(value, base)
        state = get_state(value)
        if state.keys() != known:
            _refuse_extra(value, state, known)
            _refuse_unset(value, state, known - optional)
        return {"value": {name: state[name] for name in names if name in state}}

    return split


def _join_dataclass(cls: type[DataclassInstance], value: object) -> object:
    stored = required(dict, value)
    instance = object.__new__(cls)
    for name, part in _complete(cls, stored).items():
        # A default that is an attribute of the class need not be set.
        if name in stored or getattr(cls, name, dataclasses.MISSING) is not part:
            object.__setattr__(instance, name, part)
    return instance


def _builtin_base(kind: type) -> type | None:
    """A base implemented in C: it has content besides the fields."""
    bases = (base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)
    return next((base for base in bases if base is not object), None)


def _refuse_base(value: object, base: type) -> None:
    raise Refusal(value, f"its class is built on {base.__name__}, which keeps more than its fields")


def _refuse_unset(value: object, state: Mapping[str, object], names: Iterable[str]) -> None:
    unset = [name for name in names if name not in state]
    if unset:
        raise Refusal(value, f"its field {unset[0]!r} has not been set")


def _complete(cls: type, stored: dict[str, object]) -> dict[str, object]:
    """The fields of a class, in order: as they were stored, or the defaults of new ones."""
    defaults = field_defaults(cls) or {}
    removed = [name for name in stored if name not in defaults]
    new = [name for name, make in defaults.items() if make is None and name not in stored]
    if removed or new:
        raise DecodeError(f"fields {_change(removed, new)}")
    return {
        name: stored[name] if make is None or name in stored else make()
        for name, make in defaults.items()
    }


def _change(removed: list[str], new: list[str]) -> str:
    parts = (("not there any more", removed), ("new and without a default", new))
    return "; ".join(f"{label}: {', '.join(names)}" for label, names in parts if names)


def _prepare_model(kind: type[BaseModel]) -> Splitter:
    base = _builtin_base(kind)
    names = set(kind.model_fields)
    hidden = [
        name for name, attribute in kind.__private_attributes__.items() if _has_default(attribute)
    ]
    known = names | _MODEL_SLOTS

    def split(value: object) -> Parts:
        if base is not None:
            _refuse_base(value, base)
        state = state_of(value)
        if state.keys() != known:
            if not state.keys() >= _MODEL_SLOTS:
                raise Refusal(value, "it has not been initialised")
            _refuse_extra(value, state, known)
            _refuse_unset(value, state, kind.model_fields)
        extra, private, fields_set = state[_EXTRA], state[_PRIVATE], state[_FIELDS_SET]
        _refuse_unset(value, private or {}, hidden)
        parts: Parts = {"value": {name: state[name] for name in state if name in names}}
        if fields_set != (names.union(extra) if extra else names):
            parts["set"] = sorted(fields_set)
        if extra is not None:
            parts["extra"] = extra
        if private is not None:
            parts["private"] = private
        return parts

    return split


@remembered
def field_defaults(kind: Any) -> Mapping[str, Callable[[], object] | None] | None:
    """The fields of a class, each with a function that returns its default, if it has one.

    ``None`` for a class without fields.
    """
    if issubclass(kind, BaseModel):
        return {
            name: None
            if field.is_required()
            else partial(field.get_default, call_default_factory=True)
            for name, field in kind.model_fields.items()
        }
    if dataclasses.is_dataclass(kind):
        return {field.name: _default_of(field) for field in dataclasses.fields(kind)}
    if _is_namedtuple(kind):
        known = kind._field_defaults
        return {name: partial(known.get, name) if name in known else None for name in kind._fields}
    return None


def _default_of(field: dataclasses.Field[object]) -> Callable[[], object] | None:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return None if field.default is dataclasses.MISSING else partial(getattr, field, "default")


def _join_model(
    cls: type[BaseModel],
    value: object,
    set: object = None,
    extra: object = None,
    private: object = None,
) -> object:
    fields = required(dict, value)
    extras = {} if extra is None else required(dict, extra)
    hidden = None if private is None else required(dict, private)
    known = cls.model_fields
    allows = cls.model_config.get("extra") == "allow"
    if fields.keys() != known.keys() or (extras and not allows):
        return _migrate(cls, {**fields, **extras}, hidden, allows)
    names = [*known, *extras] if set is None else required(list, set)
    model = object.__new__(cls)
    BaseModel.__setstate__(
        model,
        {
            "__dict__": fields,
            _FIELDS_SET: {required(str, name) for name in names},
            _EXTRA: extra if extra is not None or not allows else {},
            _PRIVATE: _with_new_private(cls, hidden),
        },
    )
    return model


def _has_default(attribute: ModelPrivateAttr) -> bool:
    return not (attribute.default is PydanticUndefined and attribute.default_factory is None)


def _with_new_private(
    cls: type[BaseModel], private: dict[str, object] | None
) -> dict[str, object] | None:
    """The stored private attributes, and the defaults of new ones."""
    known = cls.__private_attributes__
    if private is None and not known:
        return None
    attributes = dict(private or {})
    for name, attribute in known.items():
        if name not in attributes and _has_default(attribute):
            factory: Callable[..., object] | None = attribute.default_factory
            attributes[name] = deepcopy(attribute.default) if factory is None else factory()
    return attributes


def _migrate(
    cls: type[BaseModel], fields: dict[str, object], private: dict[str, object] | None, allows: bool
) -> object:
    try:
        # A removed field must be handled by a validator or alias, not dropped.
        extra: Literal["forbid"] | None = None if allows else "forbid"
        model = cls.model_validate(fields, by_alias=True, by_name=True, extra=extra)
    except ValidationError as exc:
        raise DecodeError(
            f"its validation refuses the stored fields: {'; '.join(problems(exc))}"
        ) from None  # Its text shows the values.
    if private and model.__pydantic_private__ is not None:
        model.__pydantic_private__.update(
            {name: part for name, part in private.items() if name in cls.__private_attributes__}
        )
    return model


_CONTENTS: dict[type, Callable[[Any], object]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    bytes: bytes.__bytes__,
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    list: lambda value: list.__getitem__(value, slice(None)),
    dict: dict.copy,
    set: lambda value: set(set.__iter__(value)),
}
"""Builtin types with subclasses, each with a function that returns the content of an instance."""

_FILLERS: dict[type, Callable[[Any, Any], object]] = {
    list: list.extend,
    dict: dict.update,
    set: set.update,
}
"""Functions that fill an instance of those that can be changed."""


def is_subclass(kind: type) -> bool:
    """Whether a class is a subclass of one builtin value, and of no other class in C."""
    base = _builtin_base(kind)
    if base not in _CONTENTS or base is kind or hasattr(kind, "get_secret_value"):
        return False
    if hasattr(kind, "n_sequence_fields") or kind.__flags__ & _IMMUTABLE_TYPE:
        return False  # implemented in C after all, such as time.struct_time, with more content
    in_c = [cls for cls in kind.__mro__ if not cls.__flags__ & _HEAP_TYPE]
    return in_c == [base, object]


def _has_dict(kind: type) -> bool:
    return kind.__dictoffset__ != 0


def content_of(kind: type) -> Splitter:
    """The splitter of a subclass of a builtin, into the content and the attributes."""
    base = _builtin_base(kind)
    assert base is not None
    plain = _CONTENTS[base]

    def split(value: object) -> Parts:
        parts: Parts = {"value": plain(value)}
        if _has_dict(kind) and object.__getattribute__(value, "__dict__") is value:
            parts["own"] = True  # its keys are its attributes
        elif attributes := state_of(value):
            parts["state"] = attributes
        return parts

    return split


def _join_subclass(cls: type, value: object, state: object = None, own: bool = False) -> object:
    base = _builtin_base(cls)
    assert base is not None
    new: Callable[..., object] = base.__new__
    if type(value) is not base:
        raise DecodeError(
            f"{cls.__qualname__} is built on {base.__name__}, not {type(value).__name__}"
        )
    fill = _FILLERS.get(base)
    instance = new(cls, value) if fill is None else new(cls)
    if fill is not None:
        fill(instance, value)
    slots = {
        name
        for ancestor in cls.__mro__
        for name, attribute in vars(ancestor).items()
        if isinstance(attribute, MemberDescriptorType)
    }
    for name, part in required(dict, {} if state is None else state).items():
        if name in slots:
            object.__setattr__(instance, name, part)
        else:
            instance.__dict__[required(str, name)] = part
    if own:
        object.__setattr__(instance, "__dict__", instance)
    return instance


def _is_namedtuple(kind: type) -> bool:
    fields = getattr(kind, "_fields", None)
    return (
        issubclass(kind, tuple)
        and type(fields) is tuple
        and isinstance(getattr(kind, "_field_defaults", None), dict)
        and all(type(name) is str for name in fields)
    )


FAMILIES: dict[str, Family] = {
    family.tag: family
    for family in (
        Family("enum", lambda kind: isinstance(kind, EnumType), _prepare_enum, _join_enum),
        Family("model", lambda kind: issubclass(kind, BaseModel), _prepare_model, _join_model),
        Family("dataclass", dataclasses.is_dataclass, _prepare_dataclass, _join_dataclass),
        Family("namedtuple", _is_namedtuple, _prepare_namedtuple, _join_namedtuple),
        Family("subclass", is_subclass, content_of, _join_subclass),
    )
}
"""The families by tag; the first that accepts a class applies."""
