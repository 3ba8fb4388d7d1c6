"""What is remembered of parts of one type, and how they are taken apart."""

from __future__ import annotations

import enum
import gc
from array import array
from collections.abc import Callable, Iterable, Sequence, Set as AbstractSet
from dataclasses import is_dataclass
from functools import cached_property, partial
from itertools import accumulate, chain
from operator import attrgetter, countOf, is_
from types import EllipsisType, MemberDescriptorType, NoneType
from typing import Any, NamedTuple, Self, TypeAlias

from pocoflow.values.changes.repeated import MANY, Repeated, joined, shortened, total
from pocoflow.values.kinds import kind_of
from pocoflow.values.objects import content_of, has_plain_dict, is_subclass, state_of
from pocoflow.values.remembering import remembered

SIMPLE: frozenset[type] = frozenset({str, int, bool, NoneType, EllipsisType, bytes})
"""Immutable types whose equality says it all, once the types are the same.

Not float: 0.0 and -0.0 are equal, and NaN is not equal to itself.
"""

Items: TypeAlias = list[Any]
"""Parts in a row, of any types."""


class OfKind(NamedTuple):
    """The parts in a column that are of one type.

    Attributes:
        kind: The type; ``None`` for all simple ones.
        mask: Which parts are of it; ``None`` if all are.
        group: What is remembered of them.
        below: The columns of their own parts.
    """

    kind: type | None
    mask: bytes | None
    group: Group
    below: list[Column]


class Column:
    """Parts of any types: their types in order, and what is remembered of them.

    Attributes:
        kinds: The types.
        groups: The parts of each type.
    """

    __slots__ = ("groups", "kinds")

    def __init__(self) -> None:
        self.kinds: Sequence[type] = ()
        self.groups: list[OfKind] = []

    def fits(self, items: Items) -> bool:
        """Whether parts are of these types."""
        return list(map(type, items)) == self.kinds

    def all_of(self, kind: type) -> Sequence[object] | None:
        """The parts, if there are many and all of them are of one simple type."""
        kinds = self.kinds
        if type(kinds) is not Repeated or kinds.few != [kind] or not self.groups:
            return None
        group = self.groups[0].group
        return group.items if type(group) is Equal else None


Pairs: TypeAlias = Iterable[tuple[Column, Items]]


class Group:
    """What is remembered of parts of one type, in order; here that their number is all there is."""

    __slots__ = ()

    def __init__(self, items: Items) -> None:
        pass

    def same(self, items: Items) -> bool:
        """Whether as many parts of that type are the same, but for their own parts."""
        return True

    def parts(self, items: Items) -> Sequence[Items]:
        """The parts of all of them, for as many columns below."""
        return ()

    def first_parts(self, items: Items) -> Sequence[Items]:
        """The same of the items that are remembered."""
        return self.parts(items)

    def compared(self, items: Items, below: list[Column]) -> Pairs | None:
        """What has still to be compared with what, or ``None`` if they are not the same."""
        if not self.same(items):
            return None
        return zip(below, self.parts(items), strict=True) if below else ()

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:
        """The same of a few of them in a row, and which parts in the columns below are theirs."""
        return self, ()

    def joined(self, other: Self) -> Self:
        """The same of them and of others, which are of the same type."""
        return self


class _Kept(Group):
    """Parts that are remembered themselves."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[object]) -> None:
        self.items = items

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:
        return type(self)(self.items[start:stop]), ()

    def joined(self, other: Self) -> Self:
        return type(self)([*self.items, *other.items])


class Identical(_Kept):
    """Parts of a type that the codec does not store: the same if they are the same objects.

    Their own ``==`` is not asked: it may raise, be slow, or return what is no truth value.
    """

    __slots__ = ()

    def same(self, items: Items) -> bool:  # noqa: D102
        return all(map(is_, items, self.items))


class Equal(_Kept):
    """Immutable parts whose equality says it all, as they are of the same types."""

    __slots__ = ()

    def same(self, items: Items) -> bool:  # noqa: D102
        return items == self.items

    def joined(self, other: Self) -> Self:  # noqa: D102
        return type(self)(joined(self.items, other.items))


class Floats(Group):
    """Floats by their bits: ``-0.0`` is not ``0.0``, and NaN is NaN."""

    __slots__ = ("bits",)

    def __init__(self, items: list[float]) -> None:
        self.bits = array("d", items).tobytes()

    def same(self, items: list[float]) -> bool:  # noqa: D102
        return array("d", items).tobytes() == self.bits

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:  # noqa: D102
        made = Floats([])
        made.bits = self.bits[8 * start : 8 * stop]
        return made, ()

    def joined(self, other: Floats) -> Floats:  # noqa: D102
        made = Floats([])
        made.bits = self.bits + other.bits
        return made


class Signed(Group):
    """Immutable parts that are the same object or have the same signature."""

    __slots__ = ("items", "signature")

    def __init__(self, signature: Callable[[Any], object], items: Items) -> None:
        self.signature = signature
        self.items = items

    def same(self, items: Items) -> bool:  # noqa: D102
        if all(map(is_, items, self.items)):
            return True
        return list(map(self.signature, items)) == list(map(self.signature, self.items))

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:  # noqa: D102
        return Signed(self.signature, self.items[start:stop]), ()

    def joined(self, other: Signed) -> Signed:  # noqa: D102
        return Signed(self.signature, self.items + other.items)


class Split(Group):
    """Parts that a function takes apart; one that it refuses, as the codec does, by identity."""

    __slots__ = ("split",)

    columns = 1

    def __init__(self, split: Callable[[Any], object], items: Items) -> None:
        self.split = split

    def parts(self, items: Items) -> Sequence[Items]:  # noqa: D102
        try:
            return (list(map(self.split, items)),)
        except Exception:  # noqa: BLE001 - also its own code may fail
            return (list(map(self._part, items)),)

    def _part(self, item: object) -> object:
        try:
            return self.split(item)
        except Exception:  # noqa: BLE001 - the same
            return _Refused(item)

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:  # noqa: D102
        return self, ((start, stop),) * self.columns


class _Refused:
    """What stands for a part that was not taken apart: kept, so that no other gets its identity."""

    __slots__ = ("item",)

    def __init__(self, item: object) -> None:
        self.item = item


class Models(Split):
    """Models: their fields, which of them were set, what is beyond them, private attributes."""

    __slots__ = ()

    columns = 4

    def parts(self, items: Items) -> Sequence[Items]:  # noqa: D102
        if len(items) > MANY and type(self.split) is attrgetter:
            # The collector is told of the same four, and of the class, without a call for each.
            held = gc.get_referents(*items)
            if len(held) == 5 * len(items):
                extra, names, private, own, kind = (held[index::5] for index in range(5))
                first = items[0]
                known = *self.split(first), type(first)
                if all(map(is_, known, (own[0], names[0], extra[0], private[0], kind[0]))):
                    return own, names, extra, private
        (found,) = super().parts(items)
        whole = [one if type(one) is tuple else (one, None, None, None) for one in found]
        return list(map(list, zip(*whole, strict=True))) or [[], [], [], []]

    def compared(self, items: Items, below: list[Column]) -> Pairs:  # noqa: D102
        # Beyond the fields, and of private attributes, there is a dict or ``None``, which is equal
        # to nothing else.
        pairs = zip(below, self.parts(items), strict=True)
        return [(column, held) for column, held in pairs if held != column.all_of(NoneType)]


class Sequences(Group):
    """Lists, or tuples: their lengths, and the elements of all of them."""

    __slots__ = ("lengths",)

    columns = 1

    def __init__(self, items: Items) -> None:
        self.lengths = shortened(list(map(len, items)))

    def same(self, items: Items) -> bool:  # noqa: D102
        return list(map(len, items)) == self.lengths

    def parts(self, items: Items) -> Sequence[Items]:  # noqa: D102
        return (list(items[0] if len(items) == 1 else chain.from_iterable(items)),)

    def of_lengths(self, lengths: Sequence[int]) -> Self:
        """The same but for the lengths."""
        made = object.__new__(type(self))
        made.lengths = lengths
        return made

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:  # noqa: D102
        first, last = total(self.lengths, start), total(self.lengths, stop)
        return self.of_lengths(self.lengths[start:stop]), ((first, last),) * self.columns

    def joined(self, other: Self) -> Self:  # noqa: D102
        return self.of_lengths(joined(self.lengths, other.lengths))


class Dicts(Sequences):
    """Dicts: their lengths, and the keys and the values of all of them."""

    __slots__ = ("is_told",)

    columns = 2

    def __init__(self, items: Items) -> None:
        super().__init__(items)
        self.is_told = False

    def first_parts(self, items: Items) -> Sequence[Items]:  # noqa: D102
        keys, values = self.parts(items)
        # Of the dict of an instance the collector tells in the order in which its class came to
        # know the attributes, which need not be that of the dict.
        held = gc.get_referents(*items)
        self.is_told = len(held) == len(values) and _in_one_order(held, values)
        return keys, values

    def of_lengths(self, lengths: Sequence[int]) -> Self:  # noqa: D102
        made = super().of_lengths(lengths)
        made.is_told = self.is_told
        return made

    def joined(self, other: Self) -> Self:  # noqa: D102
        made = super().joined(other)
        made.is_told = self.is_told and other.is_told
        return made

    def parts(self, items: Items) -> Sequence[Items]:  # noqa: D102
        values = chain.from_iterable(map(dict.values, items))
        return list(chain.from_iterable(items)), list(values)

    def compared(self, items: Items, below: list[Column]) -> Pairs | None:  # noqa: D102
        keys, values = below
        texts = keys.all_of(str)
        if texts is None:
            return super().compared(items, below)
        # The same keys again and again, as often as there are items, have these lengths.
        is_regular = type(texts) is Repeated and texts.times == len(items)
        if list(chain.from_iterable(items)) != texts or not (is_regular or self.same(items)):
            return None
        # The collector is told of the values, and of the keys only if one of them is no text. It
        # may not be told of the values of a dict that belongs to an instance.
        if self.is_told and len(held := gc.get_referents(*items)) == len(texts):
            return ((values, held),)
        return super().compared(items, below)


def _in_one_order(some: Items, same: Items) -> bool:
    """Whether parts come in the order of the same parts, in which equal texts are alike."""
    kind = type(some[0]) if some else None
    if kind in SIMPLE and countOf(map(type, some), kind) == len(some):
        return some == same
    return all(map(is_, some, same))


class _Sets(Sequences):
    """Sets: their members in the order in which they were when they were remembered."""

    __slots__ = ("members",)

    def __init__(self, items: Items) -> None:
        super().__init__(items)
        self.members: Sequence[object] = ()

    def first_parts(self, items: Items) -> Sequence[Items]:
        parts = list(chain.from_iterable(items))
        self.members = shortened(parts)
        return (parts,)

    def parts(self, items: Items) -> Sequence[Items]:
        parts = list(chain.from_iterable(items))
        if parts != self.members:
            ends = list(accumulate(self.lengths, initial=0))
            before = map(self.members.__getitem__, map(slice, ends, ends[1:]))
            parts = list(chain.from_iterable(map(_in_order, before, items)))
        return (parts,)

    def cut(self, start: int, stop: int) -> tuple[Group, Sequence[tuple[int, int]]]:
        made, below = super().cut(start, stop)
        assert isinstance(made, _Sets)
        made.members = self.members[slice(*below[0])]
        return made, below

    def joined(self, other: Self) -> Self:
        made = super().joined(other)
        made.members = joined(self.members, other.members)
        return made


def _in_order(members: Iterable[object], live: Iterable[object]) -> Items:
    own = {member: member for member in live}
    return [own.get(member, _GONE) for member in members]


_GONE = object()


# What typing leaves on what Box[int](1) makes; it is no part of the value.
_ORIGIN = frozenset({"__orig_class__"})

_MODEL = "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"


def _split_of(kind: type) -> tuple[Callable[[Any], object], bool]:
    """What gives the attributes of an instance of a dataclass or a model, and whether it is one."""
    found = [(name, one) for cls in kind.__mro__ for name, one in vars(cls).items()]
    computed = {name for name, one in found if isinstance(one, cached_property)}
    slots = {name for name, one in found if isinstance(one, MemberDescriptorType)}
    is_plain = not computed and not hasattr(kind, "__parameters__")
    if slots == {*_MODEL}:
        get = attrgetter("__dict__", *_MODEL)
        return (get if is_plain else partial(_model_state, _ORIGIN | computed)), True
    if is_plain and has_plain_dict(kind):
        return attrgetter("__dict__"), False
    return partial(_attributes, _ORIGIN | computed), False


def _model_state(computed: AbstractSet[str], value: object) -> tuple[object, ...]:
    own, *others = attrgetter("__dict__", *_MODEL)(value)
    return _without(computed, own), *others


def _attributes(computed: AbstractSet[str], value: object) -> dict[str, object]:
    """The attributes of an instance but for those that are computed again."""
    return _without(computed, state_of(value))


def _without(computed: AbstractSet[str], own: dict[str, object]) -> dict[str, object]:
    if computed.isdisjoint(own):
        return own
    return {name: part for name, part in own.items() if name not in computed}


_GetGroup = Callable[[Items], Group]

_GROUPS: dict[type, _GetGroup] = {
    **dict.fromkeys(SIMPLE, Equal),
    **dict.fromkeys((list, tuple), Sequences),
    **dict.fromkeys((set, frozenset), _Sets),
    **dict.fromkeys((complex, range), partial(Signed, repr)),
    dict: Dicts,
    float: Floats,
    bytearray: partial(Split, bytes),
    slice: partial(Split, lambda value: [value.start, value.stop, value.step]),
    _Refused: partial(Signed, lambda refused: id(refused.item)),
}


def group_of(kind: type) -> _GetGroup:
    """How parts of a type are remembered."""
    return _GROUPS.get(kind) or _group_of_class(kind)


@remembered
def _group_of_class(kind: type) -> _GetGroup:
    standard = kind_of(kind)
    if standard is not None:
        if standard.tag == "numpy":
            return partial(Signed, lambda value: (value.dtype.str, value.tobytes()))
        return partial(Split if standard.is_container else Signed, standard.split)
    if issubclass(kind, enum.Enum):
        return partial(Signed, attrgetter("_value_") if issubclass(kind, enum.Flag) else id)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return partial(Split, lambda value: [_attributes(_ORIGIN, value), tuple(value)])
    if is_dataclass(kind) or hasattr(kind, "__pydantic_fields_set__"):
        split, is_model = _split_of(kind)
        return partial(Models if is_model else Split, split)
    return partial(Split, content_of(kind)) if is_subclass(kind) else Identical
