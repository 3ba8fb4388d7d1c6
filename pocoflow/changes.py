"""What changed between the last stored form of a value and the value as it is now.

:func:`freeze` remembers a value, :func:`is_same` tells whether another one, or the same one later,
is equal to it with every type in it the same: a list or model that was changed in place at any
depth is seen, and so are ``1`` and ``True``, ``0.0`` and ``-0.0``, a text and a ``StrEnum`` that
equals it, and another order of the keys of a dict. For a list that only grew, :func:`appended`
tells where the new part starts, and :func:`extend` remembers it at the cost of that part.

A remembered value is kept in columns: all parts on one level are laid out in one list and compared
type by type, so that 1,000 messages take a few operations on lists and not 1,000 calls. Immutable
parts are shared with the value, the rest is copied.
"""

from __future__ import annotations

import enum
from array import array
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from functools import cached_property, partial
from itertools import chain, compress, repeat
from operator import attrgetter, is_
from types import EllipsisType, NoneType
from typing import Any, NamedTuple, Protocol

__all__ = ["Frozen", "appended", "extend", "freeze", "is_same"]


class Frozen:
    """A value as it was when it was remembered. It never changes; what is in it is private."""

    __slots__ = ("_chunks", "_grows")

    def __init__(self, chunks: tuple[_Chunk, ...], grows: bool) -> None:
        self._chunks = chunks
        self._grows = grows

    def _begins(self, items: list[Any]) -> bool:
        return all(chunk.content.matches(items[chunk.start : chunk.stop]) for chunk in self._chunks)


class _Chunk(NamedTuple):
    """A run of the elements of a list; a value that is no list is one chunk of one element."""

    start: int
    stop: int
    content: _Group


def freeze(value: object) -> Frozen:
    """Remember a value that the codec has accepted.

    A value that it refuses may be frozen too, unless it contains itself; it is never the same.
    """
    if type(value) is list:
        return Frozen((_chunk(value, 0),), grows=True)
    return Frozen((_chunk([value], 0),), grows=False)


def is_same(frozen: Frozen, value: object) -> bool:
    """Whether a value is equal to the remembered one, with every type in it the same.

    It may be ``False`` for equal values, at the cost of storing one again, where a set holds NaN or
    where the codec would refuse the value. It is never ``True`` for values that differ.
    """
    if not frozen._grows:
        items = [value]
    elif type(value) is list and len(value) == frozen._chunks[-1].stop:
        items = value
    else:
        return False
    try:
        return frozen._begins(items)
    except RuntimeError:  # Nested too deeply, or changed by another thread at this moment.
        return False


def appended(frozen: Frozen, value: object) -> int | None:
    """Return where the new part starts if a value is the remembered list with more at its end."""
    if not frozen._grows or type(value) is not list:
        return None
    known = frozen._chunks[-1].stop
    try:
        return known if len(value) > known and frozen._begins(value) else None
    except RuntimeError:
        return None


def extend(frozen: Frozen, value: list[Any], start: int) -> Frozen:
    """Remember a list of which all before ``start``, as :func:`appended` gave it, is remembered.

    Chunks are merged when a later one has grown as long: a list that grows one by one has few, and
    each element is laid out again only as many times as the logarithm of the length.
    """
    chunks = frozen._chunks
    if not frozen._grows or start != chunks[-1].stop:
        raise ValueError(f"the remembered value is not a list of {start} elements")
    while chunks and chunks[-1].stop - chunks[-1].start <= len(value) - start:
        start = chunks[-1].start
        chunks = chunks[:-1]
    return Frozen((*chunks, _chunk(value, start)), grows=True)


def _chunk(items: list[Any], start: int) -> _Chunk:
    stop = len(items)
    try:
        return _Chunk(start, stop, _Column(items[start:stop]))
    except RuntimeError:
        return _Chunk(start, stop, _Never(()))


class _Group(Protocol):
    """What is remembered of a list of parts."""

    def matches(self, items: list[Any]) -> bool:
        """Whether as many parts, of the right types, are the same."""


class _Column:
    """Parts of any types: their types in order, and for each type the parts of it."""

    __slots__ = ("groups", "kinds")

    def __init__(self, items: list[Any]) -> None:
        self.kinds = kinds = list(map(type, items))
        self.groups = {
            kind: _group_of(kind)(_of_kind(kind, kinds, items)) for kind in dict.fromkeys(kinds)
        }

    def matches(self, items: list[Any]) -> bool:
        kinds = list(map(type, items))
        if kinds != self.kinds:
            return False
        if len(self.groups) == 1:
            return self.groups[kinds[0]].matches(items)
        return all(
            group.matches(_of_kind(kind, kinds, items)) for kind, group in self.groups.items()
        )


def _of_kind(kind: type, kinds: list[type], items: list[Any]) -> list[Any]:
    return list(compress(items, map(is_, kinds, repeat(kind))))


class _Never:
    """Parts of a type that the codec does not store."""

    def __init__(self, items: Iterable[Any]) -> None:
        pass

    def matches(self, items: list[Any]) -> bool:
        return False


class _Equal:
    """Immutable parts whose equality says it all, as they are of the same type."""

    __slots__ = ("items",)

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def matches(self, items: list[Any]) -> bool:
        return items == self.items


class _Floats:
    """Floats by their bits: ``-0.0`` is not ``0.0``, and NaN is NaN."""

    __slots__ = ("bits",)

    def __init__(self, items: list[float]) -> None:
        self.bits = array("d", items).tobytes()

    def matches(self, items: list[float]) -> bool:
        return array("d", items).tobytes() == self.bits


class _Signed:
    """Immutable parts that are the same object or have the same signature."""

    __slots__ = ("items", "signature")

    def __init__(self, signature: Callable[[Any], object], items: list[Any]) -> None:
        self.signature = signature
        self.items = items

    def matches(self, items: list[Any]) -> bool:
        if all(map(is_, items, self.items)):
            return True
        return list(map(self.signature, items)) == list(map(self.signature, self.items))


class _Split:
    """Parts that consist of further parts, laid out in a column of their own."""

    __slots__ = ("content", "split")

    def __init__(self, split: Callable[[Any], object], items: list[Any]) -> None:
        self.split = split
        self.content = _Column(list(map(split, items)))

    def matches(self, items: list[Any]) -> bool:
        return self.content.matches(list(map(self.split, items)))


class _Sequences:
    """Lists, or tuples: their lengths, and the elements of all of them."""

    __slots__ = ("content", "lengths")

    def __init__(self, items: list[Any]) -> None:
        self.lengths = list(map(len, items))
        self.content = _Column(list(chain.from_iterable(items)))

    def matches(self, items: list[Any]) -> bool:
        return list(map(len, items)) == self.lengths and self.content.matches(
            list(chain.from_iterable(items))
        )


class _Dicts:
    """Dicts: their lengths, and the keys and the values of all of them."""

    __slots__ = ("keys", "lengths", "values")

    def __init__(self, items: list[dict[Any, Any]]) -> None:
        self.lengths = list(map(len, items))
        self.keys = _Column(list(chain.from_iterable(items)))
        self.values = _Column(list(chain.from_iterable(map(dict.values, items))))

    def matches(self, items: list[dict[Any, Any]]) -> bool:
        return (
            list(map(len, items)) == self.lengths
            and self.keys.matches(list(chain.from_iterable(items)))
            and self.values.matches(list(chain.from_iterable(map(dict.values, items))))
        )


class _Sets(_Sequences):
    """Sets: a set that was not touched has its elements in the same order, another may not."""

    __slots__ = ("members",)

    def __init__(self, items: list[Any]) -> None:
        super().__init__(items)
        self.members = list(map(tuple, items))

    def matches(self, items: list[Any]) -> bool:
        return super().matches(items) or (
            list(map(len, items)) == self.lengths
            and self.content.matches(list(chain.from_iterable(map(_in_order, self.members, items))))
        )


def _in_order(members: tuple[Any, ...], live: Iterable[Any]) -> list[Any]:
    own = {member: member for member in live}
    return [own.get(member, _Never) for member in members]


# typing leaves it on what Box[int](1) makes; it is no part of the value.
_ORIGIN = frozenset({"__orig_class__"})


def _computed(kind: type) -> frozenset[str]:
    """The attributes that are no part of the value, as they are computed again."""
    names = (
        name
        for cls in kind.__mro__
        for name, attribute in vars(cls).items()
        if isinstance(attribute, cached_property)
    )
    return _ORIGIN.union(names)


def _state(value: object, computed: frozenset[str] = _ORIGIN) -> list[dict[str, Any] | None]:
    """The attributes of an instance: the plain ones and those in slots."""
    state: Any = object.__getstate__(value)
    own, slots = state if type(state) is tuple else (state, None)
    if own and not computed.isdisjoint(own):
        own = {name: part for name, part in own.items() if name not in computed}
    return [own or None, slots]


_GetGroup = Callable[[list[Any]], _Group]

_GROUPS: dict[type, _GetGroup] = {
    **dict.fromkeys((str, int, bool, NoneType, EllipsisType, bytes), _Equal),
    **dict.fromkeys((list, tuple), _Sequences),
    **dict.fromkeys((set, frozenset), _Sets),
    **dict.fromkeys((complex, range), partial(_Signed, repr)),
    dict: _Dicts,
    float: _Floats,
    bytearray: partial(_Split, bytes),
    slice: partial(_Split, lambda value: [value.start, value.stop, value.step]),
}

_BY_REPR = partial(_Signed, repr)

# By name, so that nothing is imported for types that no value has.
_NAMED: dict[str, _GetGroup] = {
    **dict.fromkeys(
        [
            *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
            *("zoneinfo.ZoneInfo", "decimal.Decimal", "fractions.Fraction"),
            *(f"pathlib.{name}" for name in ("PosixPath", "PurePosixPath")),
            *(f"pathlib.{name}" for name in ("WindowsPath", "PureWindowsPath")),
            *(
                f"ipaddress.IPv{v}{name}"
                for v in "46"
                for name in ("Address", "Network", "Interface")
            ),
            *("pydantic_core.TzInfo", "pydantic_core.Url", "pydantic_core.MultiHostUrl"),
            "pydantic.ByteSize",
        ],
        _BY_REPR,
    ),
    "uuid.UUID": partial(_Signed, lambda value: (value.int, value.is_safe)),
    "re.Pattern": partial(_Signed, lambda value: (type(value.pattern), value.pattern, value.flags)),
    "pydantic.NameEmail": partial(_Split, lambda value: [value.name, value.email]),
    "array.array": partial(_Split, lambda value: [value.typecode, value.tobytes()]),
    "collections.deque": partial(_Split, lambda value: [value.maxlen, list(value)]),
    "collections.OrderedDict": partial(_Split, lambda value: [_state(value), list(value.items())]),
    "collections.Counter": partial(_Split, lambda value: [_state(value), dict(value)]),
    "collections.defaultdict": partial(
        _Split, lambda value: [repr(value.default_factory), dict(value)]
    ),
    "collections.ChainMap": partial(_Split, _state),
}


def _group_of(kind: type) -> _GetGroup:
    """How parts of a type are remembered."""
    known = _GROUPS.get(kind)
    if known is not None:
        return known
    module = kind.__module__.partition(".")[0]
    named = _NAMED.get(f"{module}.{kind.__qualname__}")
    if named is not None:
        return named
    if issubclass(kind, enum.Enum):
        return partial(_Signed, attrgetter("_value_") if issubclass(kind, enum.Flag) else id)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return partial(_Split, lambda value: [_state(value), tuple(value)])
    if is_dataclass(kind) or hasattr(kind, "__pydantic_fields_set__"):
        return partial(_Split, partial(_state, computed=_computed(kind)))
    # What is left there are the URLs.
    return _BY_REPR if kind.__module__ == "pydantic.networks" else _Never
