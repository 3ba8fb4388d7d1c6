"""Laws of the codec, on values and damage that nobody thought of."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import json
import math
import pathlib
import re
import struct
import zoneinfo
from typing import Any, NamedTuple

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr

from pocoflow import values as codec
from pocoflow.errors import DecodeError, NotStorableError


class Color(enum.Enum):
    RED = "red"
    BLUE = (1, 2)


class Mood(enum.StrEnum):
    GOOD = "good"


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    part: Any


class Pair(NamedTuple):
    left: Any
    right: Any


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    content: Any = None
    _hidden: Any = PrivateAttr(default=None)


def model(content: Any, extra: dict[str, Any], hidden: Any) -> Model:
    """A model with something in each of its corners."""
    made = Model.model_construct(content=content, **extra)
    made._hidden = hidden
    return made


any_text = st.text(st.characters(), max_size=20)
any_offset = st.timedeltas(min_value=dt.timedelta(hours=-23), max_value=dt.timedelta(hours=23))
any_zone = st.one_of(
    st.none(),
    st.just(dt.UTC),
    any_offset.map(dt.timezone),
    st.builds(dt.timezone, any_offset, st.text(max_size=3)),
    st.sampled_from(["Europe/Berlin", "Asia/Kolkata"]).map(zoneinfo.ZoneInfo),
)
some_leaf: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    any_text,
    st.text(st.sampled_from('a\ud83d\ude00\udce9$\\"')),
    st.binary(max_size=20),
    st.sampled_from([Color.RED, Color.BLUE, Mood.GOOD, "good", Right(3), Right(0), Right(9), ...]),
    st.integers().map(lambda number: number**5),
    st.complex_numbers(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=any_zone, allow_imaginary=True),
    st.times(timezones=any_zone),
    st.timedeltas(),
    any_zone,
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
    st.ip_addresses(),
    st.ip_addresses().map(ipaddress.ip_interface),
    any_text.map(pathlib.PurePosixPath),
    any_text.map(re.escape).map(re.compile),
)


@st.composite
def leaves(draw: st.DrawFn) -> Any:
    """Values without parts; a strategy of its own, so that its description stays short."""
    return draw(some_leaf)


some_key = st.recursive(
    # A signalling NaN has no hash.
    leaves().filter(lambda leaf: not (isinstance(leaf, decimal.Decimal) and leaf.is_snan())),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Key, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=4,
)


@st.composite
def keys(draw: st.DrawFn) -> Any:
    """Values with a hash."""
    return draw(some_key)


names = st.text("$ab", min_size=1, max_size=5) | st.just("$type")
any_value = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.just("$type") | any_text, inner, max_size=4),
        st.dictionaries(keys(), inner, max_size=4),
        st.sets(keys(), max_size=4),
        st.builds(collections.deque, st.lists(inner, max_size=3), st.none() | st.just(5)),
        st.dictionaries(keys(), inner, max_size=3).map(collections.OrderedDict),
        st.dictionaries(keys(), inner, max_size=3).map(
            lambda content: collections.defaultdict(list, content)
        ),
        st.lists(st.floats(), max_size=3).map(lambda numbers: array.array("d", numbers)),
        st.binary(max_size=5).map(bytearray),
        st.builds(slice, inner, inner, inner),
        st.builds(Point, inner, inner),
        st.builds(Key, inner),
        st.builds(Pair, inner, inner),
        st.builds(model, inner, st.dictionaries(names, inner, max_size=2), inner),
    ),
    max_leaves=12,
)


def exact(value: Any) -> Any:
    """A value as nested tuples of types and contents, which compare exactly."""
    kind = type(value)
    if kind is float:
        # All NaNs are one: the bits of a NaN mean nothing.
        return kind, "nan" if math.isnan(value) else struct.pack("d", value)
    if value is None or kind in (bool, int, str, bytes):
        return kind, value
    if kind is dict or kind is collections.OrderedDict or kind is collections.defaultdict:
        return kind, [(exact(key), exact(part)) for key, part in value.items()]
    if kind in (list, tuple, collections.deque, array.array):
        return kind, [exact(part) for part in value], getattr(value, "maxlen", None)
    if kind in (set, frozenset):
        return kind, sorted((exact(part) for part in value), key=repr)
    if kind in (Point, Key):
        return kind, [exact(getattr(value, name)) for name in value.__dataclass_fields__]
    if kind is Pair:
        return kind, exact(tuple(value))
    if kind is Model:
        state = vars(value), value.__pydantic_fields_set__, value.__pydantic_extra__
        return kind, exact(state), exact(value._hidden)
    if kind is slice:
        return kind, exact((value.start, value.stop, value.step))
    if kind is re.Pattern:
        return kind, value.pattern, value.flags
    if kind in (dt.datetime, dt.time):
        return kind, repr(value), type(value.tzinfo)
    return kind, repr(value)


@given(any_value)
def test_there_and_back(value: Any) -> None:
    """Whatever is stored comes back equal, with every type in it the same."""
    text = codec.dumps(value)
    text.encode("utf-8")
    assert exact(codec.loads(text)) == exact(value)


@given(any_value)
def test_tree_and_text_agree(value: Any) -> None:
    """The tree of a value is the content of its text, and restores the same value."""
    tree = codec.encode(value)
    assert json.loads(codec.dumps(value)) == json.loads(json.dumps(tree, allow_nan=False))
    assert exact(codec.decode(tree)) == exact(value)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_is_itself(value: Any) -> None:
    """Plain JSON values without the reserved key are written as any JSON writer does."""
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if '"$type":' not in written:
        assert codec.dumps(value) == written


@given(any_value, st.sampled_from([object(), Ellipsis.__class__, NotImplemented, len]))
def test_one_bad_part_is_found_anywhere(value: Any, bad: object) -> None:
    """A part that cannot be stored is refused wherever it is, never left out or replaced."""
    for holder in (
        [value, bad],
        {"a": value, "b": (bad,)},
        Point(value, {1: bad}),
        Pair(bad, value),
    ):
        with pytest.raises(NotStorableError, match=r"^at "):
            codec.dumps(holder)


@given(any_value, st.data())
def test_damaged_text(value: Any, data: st.DataObject) -> None:
    """Text with characters lost, changed or added gives a value or a ``DecodeError``."""
    text = codec.dumps(value)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(len(text), start + 4)))
        added = data.draw(st.sampled_from(["", "0", "-", '"', "[", "}", ",", "\\", "$type", "é"]))
        text = text[:start] + added + text[stop:]
    read_or_refused(text)


@given(any_value, st.data())
def test_damaged_structure(value: Any, data: st.DataObject) -> None:
    """JSON with any part put in the place of any other gives a value or a ``DecodeError``."""
    tree = [json.loads(codec.dumps(value))]
    for _ in range(data.draw(st.integers(1, 2))):
        holder, place = data.draw(st.sampled_from(list(places(tree))))
        other, there = data.draw(st.sampled_from(list(places(tree))))
        parts: list[Any] = [None, -1, 1.5, True, "", "2024-01-01", [], {}, [[]], {"a": []}]
        tags = st.sampled_from(["tuple", "dict", "datetime", "model", "enum", "Decimal"])
        text = json.dumps(tree)
        holder[place] = data.draw(st.sampled_from(parts) | tags | st.just(other[there]))
        try:
            json.dumps(tree)
        except ValueError:  # A part was put into itself.
            tree = json.loads(text)
    read_or_refused(json.dumps(tree[0]))


def places(tree: Any) -> Any:
    """Every place in a tree, as what holds it and the key or index there."""
    for place, part in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, place
        if isinstance(part, dict | list):
            yield from places(part)


def read_or_refused(text: str) -> None:
    """Nothing but a value, which is the same once stored, or a ``DecodeError`` may come of it."""
    try:
        value = codec.loads(text)
    except DecodeError:
        return
    assert exact(codec.loads(codec.dumps(value))) == exact(value)
