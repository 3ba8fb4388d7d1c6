"""What is remembered of parts of one type, and how they are taken apart."""

from __future__ import annotations

import enum
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass
from functools import cached_property, partial
from itertools import chain
from operator import attrgetter, is_
from types import EllipsisType, MemberDescriptorType, NoneType
from typing import Any

from pocoflow.values.kinds import CONTAINERS, kind_of
from pocoflow.values.objects import content_of, is_subclass

__all__ = ["SIMPLE", "Group", "Identical", "Never", "group_of"]

SIMPLE: frozenset[type] = frozenset({str, int, bool, NoneType, EllipsisType, bytes})
"""Immutable types whose equality says it all, once the types are the same."""


class Group:
    """What is remembered of parts of one type, in order; here that their number is all there is."""

    __slots__ = ()

    def __init__(self, items: list[Any]) -> None:
        pass

    def same(self, items: list[Any]) -> bool:
        """Whether as many parts of that type are the same, but for their own parts."""
        return True

    def parts(self, items: list[Any]) -> Sequence[list[Any]]:
        """The parts of all of them, for as many columns below."""
        return ()


class Never(Group):
    """Nothing is the same as what was there."""

    __slots__ = ()

    def same(self, items: list[Any]) -> bool:  # noqa: D102
        return False


class Identical(Group):
    """Parts of a type that the codec does not store: the same if they are the same objects.

    Their own ``==`` is not asked: it may raise, be slow, or return what is no truth value.
    """

    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def same(self, items: list[Any]) -> bool:  # noqa: D102
        return all(map(is_, items, self.items))


class _Equal(Group):
    """Immutable parts whose equality says it all, as they are of the same type."""

    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def same(self, items: list[Any]) -> bool:
        return items == self.items


class _Floats(Group):
    """Floats by their bits: ``-0.0`` is not ``0.0``, and NaN is NaN."""

    __slots__ = ("bits",)

    def __init__(self, items: list[float]) -> None:
        self.bits = array("d", items).tobytes()

    def same(self, items: list[float]) -> bool:
        return array("d", items).tobytes() == self.bits


class _Signed(Group):
    """Immutable parts that are the same object or have the same signature."""

    __slots__ = ("items", "signature")

    def __init__(self, signature: Callable[[Any], object], items: list[Any]) -> None:
        self.signature = signature
        self.items = items

    def same(self, items: list[Any]) -> bool:
        if all(map(is_, items, self.items)):
            return True
        return list(map(self.signature, items)) == list(map(self.signature, self.items))


class _Split(Group):
    """Parts that a function takes apart; one that it refuses, as the codec does, by identity."""

    __slots__ = ("alive", "split")

    def __init__(self, split: Callable[[Any], object], items: list[Any]) -> None:
        self.split = split
        self.alive: list[Any] = []

    def parts(self, items: list[Any]) -> Sequence[list[Any]]:
        try:
            return (list(map(self.split, items)),)
        except Exception:  # noqa: BLE001 - also its own code may fail
            return (list(map(self._part, items)),)

    def _part(self, item: Any) -> object:
        try:
            return self.split(item)
        except Exception:  # noqa: BLE001 - the same
            self.alive.append(item)  # so that no other object gets its identity
            return id(item)


class _Sequences(Group):
    """Lists, or tuples: their lengths, and the elements of all of them."""

    __slots__ = ("lengths",)

    def __init__(self, items: list[Any]) -> None:
        self.lengths = list(map(len, items))

    def same(self, items: list[Any]) -> bool:
        return list(map(len, items)) == self.lengths

    def parts(self, items: list[Any]) -> Sequence[list[Any]]:
        return (list(chain.from_iterable(items)),)


class _Dicts(_Sequences):
    """Dicts: their lengths, and the keys and the values of all of them."""

    __slots__ = ()

    def parts(self, items: list[Any]) -> Sequence[list[Any]]:
        values = chain.from_iterable(map(dict.values, items))
        return list(chain.from_iterable(items)), list(values)


class _Sets(_Sequences):
    """Sets: their members in the order in which they were when they were remembered."""

    __slots__ = ("all", "members")

    def __init__(self, items: list[Any]) -> None:
        super().__init__(items)
        self.members = list(map(tuple, items))
        self.all = list(chain.from_iterable(items))

    def parts(self, items: list[Any]) -> Sequence[list[Any]]:
        parts = list(chain.from_iterable(items))
        if parts != self.all:
            parts = list(chain.from_iterable(map(_in_order, self.members, items)))
        return (parts,)


def _in_order(members: tuple[Any, ...], live: Iterable[Any]) -> list[Any]:
    own = {member: member for member in live}
    return [own.get(member, Never) for member in members]


# What typing leaves on what Box[int](1) makes; it is no part of the value.
_ORIGIN = frozenset({"__orig_class__"})

_MODEL = "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"


def _split_of(kind: type) -> Callable[[Any], object]:
    """What gives the attributes of an instance of a dataclass or a model."""
    computed: set[str] = set()
    slots: set[str] = set()
    for cls in kind.__mro__:
        for name, attribute in vars(cls).items():
            if isinstance(attribute, cached_property):
                computed.add(name)
            elif isinstance(attribute, MemberDescriptorType):
                slots.add(name)
    if not computed and not hasattr(kind, "__parameters__"):
        if not slots:
            return attrgetter("__dict__")
        if slots == {*_MODEL}:
            return attrgetter("__dict__", *_MODEL)
    return partial(_state, computed=_ORIGIN | computed)


def _state(value: object, computed: frozenset[str] = _ORIGIN) -> list[dict[str, Any] | None]:
    """The attributes of an instance, those in slots too, but not those that are computed again."""
    state: Any = object.__getstate__(value)
    own, slots = state if type(state) is tuple else (state, None)
    if own and not computed.isdisjoint(own):
        own = {name: part for name, part in own.items() if name not in computed}
    return [own or None, slots]


_GetGroup = Callable[[list[Any]], Group]

_GROUPS: dict[type, _GetGroup] = {
    **dict.fromkeys(SIMPLE, _Equal),
    **dict.fromkeys((list, tuple), _Sequences),
    **dict.fromkeys((set, frozenset), _Sets),
    **dict.fromkeys((complex, range), partial(_Signed, repr)),
    dict: _Dicts,
    float: _Floats,
    bytearray: partial(_Split, bytes),
    slice: partial(_Split, lambda value: [value.start, value.stop, value.step]),
}


def group_of(kind: type) -> _GetGroup:
    """How parts of a type are remembered."""
    known = _GROUPS.get(kind)
    if known is not None:
        return known
    standard = kind_of(kind)
    if standard is not None:
        if standard.tag == "numpy":
            return partial(_Signed, lambda value: (value.dtype.str, value.tobytes()))
        return partial(_Split if standard.tag in CONTAINERS else _Signed, standard.split)
    if issubclass(kind, enum.Enum):
        return partial(_Signed, attrgetter("_value_") if issubclass(kind, enum.Flag) else id)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return partial(_Split, lambda value: [_state(value), tuple(value)])
    if is_dataclass(kind) or hasattr(kind, "__pydantic_fields_set__"):
        return partial(_Split, _split_of(kind))
    return partial(_Split, content_of(kind)) if is_subclass(kind) else Identical
