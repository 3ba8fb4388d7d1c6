"""Every kind of value, written in one process and read in another: equal or refused."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import importlib.util
import io
import ipaddress
import json
import logging
import operator
import pathlib
import queue
import re
import struct
import subprocess
import sys
import threading
import time
import traceback
import types
import uuid
import weakref
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, NewType, TypeVar

import pydantic
import pydantic.dataclasses
import pydantic_core
import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, SecretBytes, SecretStr
from typing_extensions import TypeAliasType, TypedDict

from pocoflow import Store, values as codec
from pocoflow.errors import DecodeError, NotStorableError, UnknownClassError
from pocoflow.values import Classes, encoding as writing

T = TypeVar("T")
generic_dict: Any = dict
generic_list: Any = list
generic_tuple: Any = tuple
named_tuple: Any = NamedTuple
new_type: Any = NewType
typed_dict: Any = TypedDict


# ----------------------------------------------------------------------------- a program's classes


class Color(enum.Enum):
    RED = 1
    GREEN = (2, "two")
    ROUGE = 1  # noqa: PIE796 - an alias


class Level(enum.IntEnum):
    LOW = 1


class Role(enum.StrEnum):
    USER = "user"


class Right(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Bits(enum.IntFlag):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: Any = 0
    y: Any = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    name: str


@dataclasses.dataclass(slots=True)
class Slotted:
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotted:
    name: str


@dataclasses.dataclass(slots=True)
class NoFields:
    pass


@dataclasses.dataclass
class ShowsOther:
    name: str

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {"name": "another"}


@dataclasses.dataclass
class Point3(Point):
    z: Any = 0


class Request:
    """What clients return that are to be awaited, and is no coroutine."""

    def __await__(self) -> Iterator[None]:
        yield


class PlainSubclass(Point):
    """Not decorated, but with the fields of its base."""


@dataclasses.dataclass
class Eager:
    """Its ``__post_init__`` must not run when an instance is restored."""

    name: str
    base: dataclasses.InitVar[int] = 1
    doubled: int = dataclasses.field(init=False)
    kept: int = dataclasses.field(init=False, default=7)
    kind: ClassVar[str] = "eager"
    made: ClassVar[int] = 0

    def __post_init__(self, base: int) -> None:
        self.doubled = base * 2
        Eager.made += 1


@dataclasses.dataclass(kw_only=True)
class Generically(Generic[T]):
    item: T


@dataclasses.dataclass
class Computing:
    side: int

    @functools.cached_property
    def area(self) -> int:
        return self.side**2


@dataclasses.dataclass
class Broken(Exception):
    code: int


@dataclasses.dataclass
class Dictlike(dict[str, int]):
    name: str = ""


@pydantic.dataclasses.dataclass
class Checked:
    when: dt.date


class Pair(NamedTuple):
    left: Any
    right: Any = 0


class SubPair(Pair):
    """A subclass that adds a method only."""

    __slots__ = ()

    def swapped(self) -> tuple[Any, Any]:
        return self.right, self.left


class LoosePair(Pair):
    """A subclass whose instances take attributes."""


Old = collections.namedtuple("Old", ["a", "b"])  # noqa: PYI024 - the older way is a kind of its own


class Pet(BaseModel):
    name: str


class Dog(Pet):
    barks: bool = True


class Owner(BaseModel):
    pet: Pet
    others: list[Pet] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str = ""


class Hidden(BaseModel):
    name: str = ""
    _token: Any = PrivateAttr(default=0)
    _later: int = PrivateAttr()


class Aliased(BaseModel):
    model_config = ConfigDict(frozen=True)
    name: str = Field(alias="Name")


class Counting(BaseModel):
    """Its validators and its ``__init__`` must not run when an instance is restored."""

    runs: ClassVar[int] = 0
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def _count(cls, value: str) -> str:
        cls.runs += 1
        return value.strip()

    @pydantic.computed_field
    def upper(self) -> str:
        return self.name.upper()

    @functools.cached_property
    def length(self) -> int:
        return len(self.name)


class Box(BaseModel, Generic[T]):
    item: T


class Numbers(RootModel[list[int]]):
    """A model that is a list."""


class Event(BaseModel):
    when: dt.datetime
    link: pydantic.HttpUrl
    kind: Literal["a", "b"] = "a"


class Movie(TypedDict):
    title: str


class Outer:
    class Inner(enum.Enum):
        ONE = 1

    @dataclasses.dataclass
    class Part:
        n: int


class MyStr(str):
    __slots__ = ()


class MyInt(int):
    pass


class MyFloat(float):
    pass


class MyList(list[int]):
    pass


class MyDict(dict[str, int]):
    pass


class MyTuple(tuple[int, ...]):
    __slots__ = ()


class MySet(set[int]):
    pass


class MyDate(dt.date):
    pass


class MyZone(dt.tzinfo):
    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)

    def dst(self, when: dt.datetime | None) -> None:
        return None

    def tzname(self, when: dt.datetime | None) -> str:
        return "mine"


class Plain:
    def __init__(self) -> None:
        self.name = "plain"


NumberBox = Box[int]
ColorBox = Box[Color]
ListBox = Box[list[Pet] | None]


# ------------------------------------------------------------------------------------------ helpers


def restored(value: object, *classes: object) -> Any:
    """There and back."""
    return codec.loads(codec.dumps(value), Classes(classes))


def after(value: T, change: Callable[[T], object]) -> T:
    """The value, once something was done to it."""
    change(value)
    return value


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    """Containers in containers."""
    value: Any = "core"
    for _ in range(depth):
        value = wrap(value)
    return value


def cycle() -> list[Any]:
    """A list that contains itself."""
    value: list[Any] = [1]
    value.append({"again": value})
    return value


def point_cycle() -> Point:
    """A dataclass that contains itself."""
    return after(Point(), lambda point: setattr(point, "x", [point]))


def no_member() -> object:
    """An instance of an enum that is not among its members."""
    made: Any = object.__new__(Color)
    made._name_, made._value_ = "BLUE", 3
    return made


def private(model: Hidden, value: object) -> Hidden:
    """The model with another private attribute."""
    model._token = value
    return model


def picture(value: object) -> list[object]:
    """A value and the type of every part of it, in one flat list that compares exactly."""
    seen: list[object] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        own, parts = taken_apart(one)
        seen += type(one), own, len(parts)
        waiting += parts
    return seen


def taken_apart(value: Any) -> tuple[object, list[Any]]:
    """What a value says of itself, and its parts."""
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes):
        return value, []
    if isinstance(value, enum.Enum):
        return value._name_, [value._value_]
    if isinstance(value, set | frozenset):
        return None, sorted(value, key=lambda member: repr(picture(member)))
    if isinstance(value, dict):
        parts = [part for item in value.items() for part in item]
        return getattr(value, "default_factory", None), parts
    if isinstance(value, BaseModel | tuple) or dataclasses.is_dataclass(value):
        state: Any = object.__getstate__(value)
        own, slots = state if type(state) is tuple else (state, None)
        own = dict(own or {})
        for name in ("__orig_class__", "area", "length"):
            own.pop(name, None)
        return None, [own, slots, *(value if isinstance(value, tuple) else ())]
    names = {
        collections.ChainMap: ["maps"],
        collections.deque: ["maxlen"],
        array.array: ["typecode"],
        complex: [],
        fractions.Fraction: ["numerator", "denominator"],
        range: ["start", "stop", "step"],
        slice: ["start", "stop", "step"],
        re.Pattern: ["pattern", "flags"],
        uuid.UUID: ["int", "is_safe"],
        dt.datetime: ["fold", "tzinfo"],
        dt.time: ["fold", "tzinfo"],
    }.get(kind, [])
    held = list(value) if kind in (list, collections.deque, array.array) else []
    shown = None if kind in (range, fractions.Fraction, list, slice) else repr(value)
    return shown, [*held, *(getattr(value, name) for name in names)]


# ---------------------------------------------------------------------------------- what comes back

EQUAL: dict[str, Callable[[], object]] = {
    # JSON
    "None": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "int": lambda: 42,
    "int-negative": lambda: -1,
    "int-smallest-of-64-bits": lambda: -(2**63),
    "int-largest-of-64-bits": lambda: 2**63 - 1,
    "int-beyond-64-bits": lambda: [2**63, -(2**63) - 1, 10**30],
    "int-of-6000-digits": lambda: [16**5000 + 7, -(16**5000)],
    "float": lambda: 0.1,
    "float-whole": lambda: 1.0,
    "float-extremes": lambda: [5e-324, 1.7976931348623157e308, 1e22, 1e-7],
    "float-negative-zero": lambda: [-0.0, 0.0],
    "float-nan": lambda: float("nan"),
    "float-inf": lambda: [float("inf"), float("-inf")],
    "float-nan-in-depth": lambda: {"a": [1.5, {"b": (float("nan"), 2)}]},
    "str": lambda: "text",
    "str-empty": lambda: "",
    "str-escapes": lambda: '"quoted" \\ back\\u0041 \n\r\t / </script>',
    "str-unicode": lambda: "Grüße, 你好, \U0001f600, e\u0301 \u2028\u2029\ufeff\uffff",
    "str-nul-and-controls": lambda: "".join(map(chr, range(32))) + "\x7f\x85",
    "str-lone-surrogates": lambda: ["\udce9caf", "\ud800", "x\udfffy"],
    "str-two-surrogates-that-look-like-one": lambda: ["\ud83d\ude00", "\U0001f600"],
    "list": lambda: [1, "a", None],
    "list-empty": list,
    "list-nested": lambda: [[[]], [[1]], {}],
    "list-one-true-float": lambda: [1, True, 1.0, "1", b"1"],
    "list-shared-part": lambda: [[1]] * 2,
    "dict": lambda: {"a": 1, "b": {"c": [None]}},
    "dict-empty": dict,
    "dict-order": lambda: {"b": 1, "a": 2, "": 3},
    "typed-dict": lambda: Movie(title="Brazil"),
    # dicts that JSON cannot hold
    "dict-int-keys": lambda: {1: "one", -(2**70): "big"},
    "dict-mixed-keys": lambda: {1: "int", "1": "str", None: "none", (1,): "tuple", b"1": "bytes"},
    "dict-bool-keys": lambda: {True: 1, False: 0},
    "dict-float-keys": lambda: {0.5: 1, float("inf"): 2},
    "dict-nan-key": lambda: {float("nan"): 1},
    "dict-enum-keys": lambda: {Color.RED: 1, Level.LOW: 2, Role.USER: 3},
    "dict-frozenset-key": lambda: {frozenset({1}): {frozenset(): 1}},
    "dict-model-like-key": lambda: {Frozen("a"): {Pair(1): 2}},
    "dict-surrogate-key": lambda: {"\udce9": 1, "b": 2},
    "dict-reserved-key": lambda: {"$type": "tuple", "value": [1]},
    "dict-reserved-key-in-depth": lambda: {"a": {"$type": {"$type": None}, "$type2": 1}},
    "dict-reserved-key-among-others": lambda: {"x": 1, "$type": 2, 3: 4},
    # builtins
    "bytes": lambda: bytes(range(256)),
    "bytes-empty": lambda: b"",
    "bytearray": lambda: bytearray(b"\x00abc"),
    "tuple": lambda: (1, (2, [3]), ()),
    "tuple-in-dict": lambda: {"a": (1,), "b": [1]},
    "set": lambda: {1, "a", None, (2, 3)},
    "set-empty": set,
    "frozenset": lambda: frozenset({frozenset(), frozenset({1.5})}),
    "complex": lambda: 1.5 - 2j,
    "complex-signs": lambda: [complex(-0.0, -0.0), complex(float("nan"), float("-inf"))],
    "range": lambda: [range(3), range(10, -(2**70), -3), range(0), range(1, 1)],
    "slice": lambda: [slice(1, None), slice("a", (1, 2), [3])],
    "ellipsis": lambda: ...,
    # collections
    "deque": lambda: collections.deque([1, (2,)]),
    "deque-maxlen": lambda: collections.deque([1, 2], maxlen=2),
    "ordered-dict": lambda: after(
        collections.OrderedDict(a=1, b=2), operator.methodcaller("move_to_end", "a")
    ),
    "ordered-dict-int-keys": lambda: collections.OrderedDict({2: 1, 1: 2}),
    "defaultdict": lambda: collections.defaultdict(list, {"a": [1]}),
    "defaultdict-without-factory": lambda: collections.defaultdict(None, {1: 2}),
    "counter": lambda: collections.Counter({"a": 2, "b": -1, "c": 0}),
    "counter-made-of-an-alias": lambda: collections.Counter[str]("abb"),
    "chain-map": lambda: collections.ChainMap({"a": 1}, collections.OrderedDict(b=2)),
    "array-of-floats": lambda: array.array("d", [1.5, -0.0, float("nan")]),
    "array-of-ints": lambda: array.array("q", [1, -(2**63)]),
    # times
    "date": lambda: dt.date(2024, 2, 29),
    "date-limits": lambda: [dt.date.min, dt.date.max],
    "datetime-naive": lambda: dt.datetime(2024, 1, 2, 3, 4, 5),  # noqa: DTZ001
    "datetime-microseconds": lambda: dt.datetime(2024, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
    "datetime-limits": lambda: [dt.datetime.min, dt.datetime.max],  # noqa: DTZ901
    "datetime-utc": lambda: dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    "datetime-offset": lambda: dt.datetime(
        2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-3, seconds=1, microseconds=1))
    ),
    "datetime-named-offset": lambda: dt.datetime(
        2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")
    ),
    "datetime-zone": lambda: dt.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    "datetime-fold": lambda: [
        dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=fold)
        for fold in (0, 1)
    ],
    "datetime-of-pydantic": lambda: dt.datetime(2024, 1, 2, tzinfo=pydantic_core.TzInfo(5400)),
    "time": lambda: [dt.time(1, 2, 3, 4), dt.time(0), dt.time(1, fold=1)],
    "time-aware": lambda: [
        dt.time(1, tzinfo=dt.UTC),
        dt.time(1, tzinfo=dt.timezone(dt.timedelta(0), "UTC")),
        dt.time(1, tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo"), fold=1),
    ],
    "timedelta": lambda: [dt.timedelta(1, 2, 3), dt.timedelta(microseconds=-1), dt.timedelta.max],
    "timezone": lambda: [
        dt.UTC,
        dt.timezone(dt.timedelta(0), "UTC"),
        dt.timezone(dt.timedelta(hours=2)),
        dt.timezone(dt.timedelta(hours=2), ""),
    ],
    "zoneinfo": lambda: zoneinfo.ZoneInfo("America/New_York"),
    # numbers, ids, paths, addresses, patterns
    "decimal": lambda: [decimal.Decimal("1.50"), decimal.Decimal("1.5"), decimal.Decimal("-0")],
    "decimal-exponents": lambda: [decimal.Decimal("1E+3"), decimal.Decimal("1e-999999")],
    "decimal-precise": lambda: decimal.Decimal("1." + "123456789" * 600),
    "decimal-special": lambda: list(map(decimal.Decimal, ("NaN", "-sNaN123", "-Infinity"))),
    "fraction": lambda: [fractions.Fraction(-1, 3), fractions.Fraction(10**5000, 7)],
    "uuid": lambda: uuid.UUID(int=2**100 + 1),
    "uuid-safe": lambda: uuid.UUID(int=5, is_safe=uuid.SafeUUID.unsafe),
    "path-posix": lambda: [pathlib.PurePosixPath("/a/../b.txt"), pathlib.PurePosixPath("")],
    "path-windows": lambda: pathlib.PureWindowsPath("c:\\a", "b"),
    "path-of-this-system": lambda: [Path("a/b"), Path("//x"), Path("caf\udce9")],
    "ipv4-address": lambda: ipaddress.IPv4Address("192.0.2.1"),
    "ipv6-address": lambda: [ipaddress.IPv6Address("::1"), ipaddress.IPv6Address("fe80::1%eth0")],
    "ipv4-network": lambda: ipaddress.IPv4Network("192.0.2.0/28"),
    "ipv6-network": lambda: ipaddress.IPv6Network("2001:db8::/96"),
    "ipv4-interface": lambda: ipaddress.IPv4Interface("192.0.2.5/24"),
    "ipv6-interface": lambda: ipaddress.IPv6Interface("2001:db8::5/64"),
    "pattern": lambda: [re.compile(r"(?i)\d+", re.MULTILINE), re.compile("x" * 300)],
    "pattern-bytes": lambda: re.compile(rb"[\x00-\xff]", re.DOTALL | re.LOCALE),
    # enums
    "enum": lambda: Color.RED,
    "enum-tuple-value": lambda: [Color.GREEN, Color.ROUGE],
    "enum-int": lambda: Level.LOW,
    "enum-str": lambda: [Role.USER, "user"],
    "enum-nested": lambda: Outer.Inner.ONE,
    "flag": lambda: Right.READ,
    "flag-composite": lambda: [Right.READ | Right.WRITE, Right.BOTH, ~Right.READ],
    "flag-zero": lambda: Right(0),
    "flag-unknown-bits": lambda: Bits(9),
    # dataclasses
    "dataclass": lambda: Point((1,), [Point(2.0)]),
    "dataclass-frozen": lambda: Frozen("a"),
    "dataclass-slots": lambda: Slotted("a"),
    "dataclass-frozen-slots": lambda: {FrozenSlotted("a")},
    "dataclass-no-fields": lambda: [NoFields()],
    "dataclass-shows-another-dict": lambda: ShowsOther("a"),
    "dataclass-inherited": lambda: Point3(1, 2, {3}),
    "dataclass-plain-subclass": lambda: PlainSubclass(1, 2),
    "dataclass-fields-not-in-init": lambda: Eager("a", base=4),
    "dataclass-generic": lambda: Generically[int](item=1),
    "dataclass-cached-property": lambda: after(Computing(3), operator.attrgetter("area")),
    "dataclass-nested-class": lambda: Outer.Part(1),
    "dataclass-of-pydantic": lambda: Checked(dt.date(2024, 1, 1)),
    # named tuples
    "named-tuple": lambda: Pair(1, (2,)),
    "named-tuple-collections": lambda: Old({}, None),
    "named-tuple-subclass": lambda: SubPair(1, 2),
    "named-tuple-loose-subclass": lambda: LoosePair(1),
    # models
    "model": lambda: Pet(name="Rex"),
    "model-subclass-in-base-field": lambda: Owner(pet=Dog(name="Rex"), others=[Dog(name="Fido")]),
    "model-fields-set": lambda: [Dog(name="a"), Dog(name="a", barks=True)],
    "model-fields-set-odd": lambda: Dog.model_construct(_fields_set={"x"}, name="a"),
    "model-extras": lambda: [Open.model_validate({"a": (1,), "$type": 2}), Open()],
    "model-private": lambda: [private(Hidden(name="a"), {1: 2}), Hidden()],
    "model-alias": lambda: Aliased(Name="a"),
    "model-with-validators": lambda: Counting.model_construct(name=" not stripped "),
    "model-cached-property": lambda: after(Counting(name="a"), operator.attrgetter("length")),
    "model-generic": lambda: [NumberBox(item=1), ColorBox(item=Color.RED)],
    "model-generic-union": lambda: ListBox(item=[Dog(name="a")]),
    "model-generic-open": lambda: Box(item=1.5),
    "model-root": lambda: Numbers([1, 2]),
    "model-validated-from-json": lambda: Event.model_validate_json(
        '{"when": "2024-01-01T00:00:00Z", "link": "http://example.com/a b?q=é#f"}'
    ),
    "model-with-wrong-content": lambda: Pet.model_construct(name=[1]),  # type: ignore[arg-type]
    # types of Pydantic
    "url": lambda: [pydantic.AnyUrl("ftp://h/x"), pydantic.HttpUrl("https://münchen.de/é")],
    "url-several-hosts": lambda: pydantic.PostgresDsn("postgres://u:p@a:1,b:2/db"),
    "url-core": lambda: [
        pydantic_core.Url("x:y"),
        pydantic_core.MultiHostUrl("mongodb://a,b/c"),
    ],
    "name-email": lambda: pydantic.NameEmail("A B", "a@b.example"),
    "byte-size": lambda: pydantic.ByteSize(1024),
    # depth
    "deep-list": lambda: nested(codec.MAX_DEPTH, lambda inner: [inner]),
    "deep-dict-of-int-keys": lambda: nested(codec.MAX_DEPTH, lambda inner: {1: inner}),
    "deep-dataclass": lambda: nested(codec.MAX_DEPTH, Point),
}

# ------------------------------------------------------------------------------- what is refused

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "lambda": (lambda: lambda: None, "a function is code"),
    "function": (lambda: nested, "a function is code"),
    "method": (lambda: "a".upper, "a function is code"),
    "builtin-function": (lambda: len, "a function is code"),
    "partial": (lambda: functools.partial(len, ""), "a function is code"),
    "class": (lambda: Point, "a class is code"),
    "builtin-class": (lambda: int, "a class is code"),
    "generic-alias": (lambda: list[int], "a class is code"),
    "module": (lambda: json, "a module is code"),
    "object": (object, "make it a dataclass"),
    "plain-instance": (Plain, "make it a dataclass"),
    "not-implemented": (lambda: NotImplemented, "make it a dataclass"),
    "lock": (threading.Lock, "what threads share is a live object"),
    "store": (Store, "as_dict"),
    "queue": (queue.Queue, "resource"),
    "thread-local": (threading.local, "resource"),
    "logger": (lambda: logging.getLogger("x"), "resource"),
    "open-file": (io.StringIO, "an open file"),
    "generator": (lambda: (n for n in [1]), "only once"),
    "iterator": (lambda: iter([1]), "only once"),
    "request": (Request, "nobody has awaited it"),
    "keys-of-dict": ({}.keys, "make it a dataclass"),
    "exception": (lambda: ValueError("x"), "store its type and text"),
    "memory-view": (lambda: memoryview(b"x"), "bytes(value)"),
    "weak-reference": (lambda: weakref.ref(Point), "make it a dataclass"),
    "struct-time": (lambda: time.gmtime(0), "subclass of tuple"),
    "struct": (lambda: struct.Struct("i"), "make it a dataclass"),
    "decimal-context": (decimal.Context, "make it a dataclass"),
    "secret": (lambda: SecretStr("hunter2"), "a secret must not be written in clear"),
    "secret-bytes": (lambda: SecretBytes(b"hunter2"), "a secret must not be written in clear"),
    "secret-generic": (lambda: pydantic.Secret[int](7), "a secret must not be written in clear"),
    "secret-as-key": (lambda: {SecretStr("hunter2"): 1}, "a secret must not be written in clear"),
    "subclass-of-date": (lambda: MyDate(2024, 1, 1), "come back as a plain date"),
    "user-dict": (lambda: collections.UserDict(a=1), "make it a dataclass"),
    "cycle": (cycle, "it contains itself"),
    "cycle-of-dataclasses": (point_cycle, "it contains itself"),
    "too-deep-list": (lambda: nested(codec.MAX_DEPTH + 1, lambda inner: [inner]), "more than 200"),
    "too-deep-tuple": (lambda: nested(100_000, lambda inner: (inner,)), "more than 200 levels"),
    "too-deep-dataclass": (lambda: nested(codec.MAX_DEPTH + 1, Point), "more than 200 levels"),
    "dataclass-extra-attribute": (
        lambda: after(Point(), lambda point: setattr(point, "z", 1)),
        "its attribute 'z' is not a field",
    ),
    "dataclass-unset-field": (
        lambda: after(Slotted("a"), lambda value: delattr(value, "name")),
        "its field 'name' has not been set",
    ),
    "dataclass-exception": (lambda: Broken(1), "built on Exception"),
    "dataclass-dict": (Dictlike, "built on dict"),
    "enum-no-member": (no_member, "not one of the members"),
    "named-tuple-too-short": (lambda: tuple.__new__(Pair, (1,)), "one element for each field"),
    "named-tuple-extra-attribute": (
        lambda: after(LoosePair(1), lambda pair: setattr(pair, "z", 1)),
        "its attribute 'z' is not a field",
    ),
    "model-unset-field": (
        lambda: operator.methodcaller("model_construct")(Pet),
        "its field 'name' has not been set",
    ),
    "model-uninitialised": (lambda: Pet.__new__(Pet), "not been initialised"),
    "model-private-lock": (lambda: private(Hidden(), threading.Lock()), "resource"),
    "model-deleted-private": (
        lambda: after(Hidden(), lambda model: delattr(model, "_token")),
        "its field '_token' has not been set",
    ),
    "defaultdict-lambda": (
        lambda: collections.defaultdict(lambda: 0),
        "its default_factory is not a builtin",
    ),
    "ordered-dict-attribute": (
        lambda: after(collections.OrderedDict[str, int](), lambda made: setattr(made, "z", 1)),
        "attributes of its own: z",
    ),
    "datetime-strange-zone": (lambda: dt.time(1, tzinfo=MyZone()), "make it a dataclass"),
    "zoneinfo-without-key": (
        lambda: zoneinfo.ZoneInfo.from_file(
            io.BytesIO(b"TZif" + bytes(32) + struct.pack(">2l", 1, 4) + bytes(10))
        ),
        "has no key",
    ),
    "pattern-debug": (lambda: silently(lambda: re.compile("a", re.DEBUG)), "re.DEBUG prints"),
    "mapping-proxy": (lambda: types.MappingProxyType({}), "store dict(value)"),
}


def silently(call: Callable[[], T]) -> T:
    """Call what prints."""
    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        return call()
    finally:
        sys.stdout = stdout


# ------------------------------------------------------------------------------- the other process

_CHILD = """
import importlib.util, sys
name, path, texts = sys.argv[1:]
spec = importlib.util.spec_from_file_location(name, path)
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
module.read_all(texts)
"""


def read_all(texts: str) -> None:
    """What the other process does: restore each text and compare it with the value made here."""
    outcomes = {}
    for name, text in json.loads(Path(texts).read_text("utf-8")).items():
        try:
            value = codec.loads(text)
        except DecodeError as exc:
            outcomes[name] = f"{type(exc).__name__}: {exc}"
        else:
            expected, got = picture(EQUAL[name]()), picture(value)
            outcomes[name] = "equal" if expected == got else f"{expected} became {got}"
    print(json.dumps(outcomes))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the other process found, by the names of the kinds."""
    texts = tmp_path_factory.mktemp("codec") / "texts.json"
    written = {name: codec.dumps(make()) for name, make in EQUAL.items()}
    texts.write_text(json.dumps(written), "utf-8")
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", _CHILD, __name__, __file__, str(texts)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.mark.parametrize("name", EQUAL)
def test_read_in_another_process(name: str, outcomes: dict[str, str]) -> None:
    """A value read in another process is equal to the one written, with every type the same."""
    assert outcomes[name] == "equal"


@pytest.mark.parametrize("name", EQUAL)
def test_text_of_every_kind(name: str) -> None:
    """Each text is valid UTF-8 and strict JSON, and tree and text hold the same."""
    text = codec.dumps(EQUAL[name]())
    text.encode("utf-8")
    tree = json.loads(text, parse_constant=pytest.fail)
    assert json.dumps(codec.encode(EQUAL[name]())) == json.dumps(tree)
    before = json.dumps(tree)
    assert picture(codec.decode(tree)) == picture(EQUAL[name]())
    assert json.dumps(tree) == before


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """What cannot come back equal is refused with a reason, also in depth, and never in clear."""
    make, reason = REFUSED[name]
    with pytest.raises(NotStorableError, match=re.escape(reason)) as caught:
        codec.dumps(make())
    assert "hunter2" not in str(caught.value)
    with pytest.raises(NotStorableError):
        codec.encode({"a": [make()]})


def test_counts() -> None:
    """The table holds the promised number of kinds, most of them restored."""
    assert len(EQUAL) >= 90
    assert len(EQUAL) + len(REFUSED) >= 115


def test_plain_json_is_written_as_itself() -> None:
    """A reader of the database sees ordinary, compact JSON wherever JSON can hold the value."""
    value = {"role": "user", "tags": ["ä", 1, 1.5, True, None], "": {}}
    assert codec.dumps(value) == '{"role":"user","tags":["ä",1,1.5,true,null],"":{}}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, 2), '{"$type":"tuple","value":[1,2]}'),
        ({1: "one", None: 2}, '{"$type":"dict","value":[1,"one",null,2]}'),
        (Color.RED, '{"$type":"enum","class":"MODULE:Color","value":"RED"}'),
        (Point(1), '{"$type":"dataclass","class":"MODULE:Point","value":{"x":1,"y":0}}'),
        (Pet(name="a"), '{"$type":"model","class":"MODULE:Pet","value":{"name":"a"}}'),
        (float("nan"), '{"$type":"float","value":"nan"}'),
        (2**64, '{"$type":"int","value":"0x10000000000000000"}'),
        (b"abc", '{"$type":"bytes","value":"YWJj"}'),
        (
            dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
            '{"$type":"datetime","value":"2024-01-02T00:00:00+00:00"}',
        ),
    ],
)
def test_format_is_stable(value: object, text: str) -> None:
    """The text of a value does not change from one version to the next."""
    text = text.replace("MODULE", __name__)
    assert codec.dumps(value) == text
    assert picture(codec.loads(text)) == picture(value)


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("value", "path", "type_name"),
    [
        (object(), "", "object"),
        ([object()], "[0]", "object"),
        ({"config": [1, {"client": object()}]}, "['config'][1]['client']", "object"),
        ((0, object()), "[1]", "object"),
        ({"a": {object()}}, "['a']{...}", "object"),
        ({object(): 1}, ".keys()", "object"),
        ({1: {(2,): object()}}, "[1][<tuple>]", "object"),
        ({"k" * 100: object()}, f"['{'k' * 56}...]", "object"),
        (Point(x=[Point(y=object())]), ".x[0].y", "object"),
        (Pair(1, {"a": object()}), ".right['a']", "object"),
        (Open.model_validate({"more": object()}), ".more", "object"),
        (private(Hidden(), [object()]), "._token[0]", "object"),
        (collections.deque([1, object()]), "[1]", "object"),
        (collections.OrderedDict(a=object()), "['a']", "object"),
        (dt.time(1, tzinfo=MyZone()), ".tzinfo", f"{__name__}.MyZone"),
        (cycle(), "[1]['again']", "list"),
        (point_cycle(), ".x[0]", f"{__name__}.Point"),
        (nested(300, lambda inner: (inner,)), "[0]" * 12 + "...", "tuple"),
    ],
)
def test_refusal_names_the_part(value: object, path: str, type_name: str) -> None:
    """A refusal says where the offending part is, as one would write it, and what it is."""
    with pytest.raises(NotStorableError) as caught:
        codec.dumps(value)
    assert (caught.value.path, caught.value.type_name) == (path, type_name)


def test_refusal_of_a_value_whose_own_code_fails() -> None:
    """A value that cannot even be taken apart is refused like any other."""

    class Strange(enum.Flag):
        ON = 1

        def __eq__(self, other: object) -> bool:
            raise OSError("no")

        __hash__ = enum.Flag.__hash__

    with pytest.raises(NotStorableError, match=r"taking it apart failed \(OSError: no"):
        codec.dumps(Strange(0))


def test_deep_in_the_stack() -> None:
    """Where the interpreter's stack is nearly used up the value is refused, without a crash."""

    def descend(levels: int) -> str:
        return descend(levels - 1) if levels else codec.dumps(value)

    value = nested(150, lambda inner: [inner])
    used = len(list(traceback.walk_stack(None)))
    with pytest.raises(NotStorableError, match="stack"):
        descend(sys.getrecursionlimit() - used - 100)


@pytest.mark.parametrize("value", ["x" * 50_000_000, b"\x00" * 50_000_000], ids=["str", "bytes"])
def test_50_megabytes(value: str | bytes) -> None:
    """Text and bytes of 50 MB come back."""
    assert restored(value) == value


# ------------------------------------------------------------------------------------- classes


def test_restoring_runs_no_code_of_the_classes() -> None:
    """Neither ``__init__`` nor ``__post_init__`` nor validators run where the fields match."""
    values = [Eager("a"), Counting(name="a")]
    text = codec.dumps(values)
    before = Eager.made, Counting.runs
    codec.loads(text)
    assert (Eager.made, Counting.runs) == before


def test_local_class_is_stored_and_read_when_supplied() -> None:
    """A class inside a function can be stored; its reader has to supply it, and is told so."""

    @dataclasses.dataclass
    class Local:
        n: int

    text = codec.dumps([Local(1)])
    assert codec.loads(text, Classes([Local])) == [Local(1)]
    with pytest.raises(UnknownClassError, match=r"Local is not known here.*types=\[Local\]"):
        codec.loads(text)


def test_classes_are_found_from_the_supplied_ones() -> None:
    """Subclasses, and classes anywhere in the annotations of fields, need not be supplied."""
    # Made by calls, they are in no module.
    make: Any = pydantic.create_model
    base = make("Base")
    derived = make("Derived", __base__=base)
    kind: Any = enum.Enum("kind", "A")
    leaf: Any = dataclasses.make_dataclass("leaf", [("kind", Literal[kind.A])])
    entry: Any = named_tuple("entry", [("leaf", leaf)])
    row = typed_dict("row", {"entries": generic_tuple[entry, ...]})
    rows = generic_dict[str, generic_list[row] | None]
    root = make("root", rows=(rows, ...), base=(base | None, None))
    for value in (kind.A, leaf(kind.A), entry(leaf(kind.A)), derived(), root(rows={})):
        with pytest.raises(UnknownClassError):
            restored(value)
        assert picture(restored(value, generic_list[root])) == picture(value)


def test_any_annotation_leads_to_classes() -> None:
    """Type aliases, new types, bounds and wrappers are gone through as well."""
    kind: Any = enum.Enum("kind", "A")
    bound: Any = TypeVar("bound", bound=kind)  # type: ignore[misc]
    choice: Any = TypeVar("choice", int, kind)  # type: ignore[misc]
    new: Any = new_type("new", kind)
    alias: Any = TypeAliasType("alias", generic_list[kind])
    for hint in (bound, choice, new, alias, type[kind], Annotated[kind, "x"], kind | None):
        assert restored(kind.A, "unknown", hint) is kind.A


def test_annotations_that_cannot_be_evaluated() -> None:
    """A name that only type checkers know hides no other class."""
    kind: Any = enum.Enum("kind", "A")

    class Half:
        known: Any
        unknown: Any

    Half.__annotations__ = {"known": kind, "unknown": "OnlyForTypeCheckers"}
    assert restored(kind.A, Half) is kind.A


def test_supplied_class_wins() -> None:
    """A supplied class comes before one of the same name in a loaded module."""

    @dataclasses.dataclass
    class Other:
        x: Any
        y: Any

    Other.__module__, Other.__qualname__ = Point.__module__, Point.__qualname__
    assert type(restored(Point(), Other)) is Other
    assert type(restored(Point())) is Point


@pytest.mark.parametrize("script_writes", [True, False])
def test_class_of_a_script(script_writes: bool) -> None:
    """A class of a program that ran as a script is found when its module is imported, and back."""

    @dataclasses.dataclass
    class Job:
        n: int

    Job.__qualname__ = "Job"
    names = ("__main__", "jobs") if script_writes else ("jobs", "__main__")
    Job.__module__ = names[0]
    text = codec.dumps(Job(1))
    Job.__module__ = names[1]
    assert codec.loads(text, Classes([Job])) == Job(1)


def test_nothing_is_imported() -> None:
    """A module that the text names and that is not loaded stays so."""
    name = "this"
    assert name not in sys.modules
    with pytest.raises(UnknownClassError):
        codec.loads(f'{{"$type":"enum","class":"{name}:A","value":"B"}}')
    assert name not in sys.modules


def test_module_attribute_hooks_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that makes its attributes on demand is not asked for them."""
    module = types.ModuleType("lazy_one")
    module.__getattr__ = pytest.fail  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_one", module)
    with pytest.raises(UnknownClassError):
        codec.loads('{"$type":"enum","class":"lazy_one:A","value":"B"}')


@pytest.mark.parametrize(
    "name",
    ["os:system", "subprocess:Popen", "builtins:dict", "MODULE:Plain", "MODULE:Color", "os:", ""],
)
def test_no_other_class_is_instantiated(name: str) -> None:
    """A text cannot make anything but the four kinds of classes, each under its own kind."""
    name = name.replace("MODULE", __name__)
    with pytest.raises(DecodeError):
        codec.loads(json.dumps({"$type": "dataclass", "class": name, "value": {}}))


def test_generic_model_that_is_not_there() -> None:
    """A parametrised model that the reader never made has to be supplied."""
    text = codec.dumps(NumberBox(item=1)).replace("builtins:int", "builtins:bytes")
    with pytest.raises(UnknownClassError, match="Box"):
        codec.loads(text)


# ------------------------------------------------------------------------------- changed classes


def test_changed_model_is_migrated_by_its_own_validation() -> None:
    """If the fields of a model have changed, its validators migrate the stored ones."""

    class Person(BaseModel):
        name: str
        _seen: int = PrivateAttr(default=0)

    text = codec.dumps(after(Person(name="Ada Lovelace"), lambda one: setattr(one, "_seen", 3)))

    class NewPerson(BaseModel):
        first: str = Field(alias="First")
        last: str
        _seen: int = PrivateAttr(default=0)

        @pydantic.model_validator(mode="before")
        @classmethod
        def _split(cls, data: dict[str, Any]) -> dict[str, Any]:
            first, _, last = data.pop("name").partition(" ")
            return {"First": first, "last": last, **data}

    NewPerson.__qualname__ = Person.__qualname__
    made = codec.loads(text, Classes([NewPerson]))
    assert (made.first, made.last, made._seen) == ("Ada", "Lovelace", 3)


def test_changed_model_that_refuses_lists_its_fields() -> None:
    """If a changed model cannot be migrated, the error names the fields and no values."""

    class Account(BaseModel):
        password: str

    text = codec.dumps(Account(password="hunter2"))

    class NewAccount(BaseModel):
        model_config = ConfigDict(extra="forbid")
        owner: str

    NewAccount.__qualname__ = Account.__qualname__
    with pytest.raises(DecodeError, match=r"owner: Field required; password: Extra") as caught:
        codec.loads(text, Classes([NewAccount]))
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_new_private_attribute_has_its_default() -> None:
    """A private attribute that is new in a model has its default when an older one is read."""

    class Job(BaseModel):
        n: int

    text = codec.dumps(Job(n=1))

    class NewJob(BaseModel):
        n: int
        _tries: list[int] = PrivateAttr(default_factory=list)
        _none: int = PrivateAttr()

    NewJob.__qualname__ = Job.__qualname__
    made = codec.loads(text, Classes([NewJob]))
    assert (made, made._tries) == (NewJob(n=1), [])


def test_changed_dataclass() -> None:
    """New fields of a dataclass take their defaults; without one, or if one is gone, it is said."""

    @dataclasses.dataclass
    class Job:
        n: int

    text = codec.dumps(Job(1))

    @dataclasses.dataclass
    class Grown(Job):
        tags: list[str] = dataclasses.field(default_factory=list)
        name: str = "x"

    @dataclasses.dataclass
    class Other:
        m: int
        k: int

    Grown.__qualname__ = Other.__qualname__ = Job.__qualname__
    assert codec.loads(text, Classes([Grown])) == Grown(1)
    with pytest.raises(DecodeError, match=r"any more: n; new and without a default: m, k; let it"):
        codec.loads(text, Classes([Other]))


def test_changed_named_tuple() -> None:
    """A named tuple follows its field names, not their order."""

    class Job(NamedTuple):
        a: int
        b: int

    text = codec.dumps(Job(1, 2))

    class Turned(NamedTuple):
        b: int
        a: int
        c: int = 3

    Turned.__qualname__ = Job.__qualname__
    assert codec.loads(text, Classes([Turned])) == Turned(2, 1, 3)


def test_renamed_field_of_a_model_is_not_dropped() -> None:
    """A stored field that a model no longer has is refused, unless its validation reads it."""

    class Job(BaseModel):
        user: int = 0

    text = codec.dumps(Job(user=42))

    class Renamed(BaseModel):
        uid: int = 0

    class Aliased(BaseModel):
        uid: int = Field(default=0, validation_alias="user")

    Renamed.__qualname__ = Aliased.__qualname__ = Job.__qualname__
    with pytest.raises(UnknownClassError, match="user: Extra inputs"):
        codec.loads(text, Classes([Renamed]))
    assert codec.loads(text, Classes([Aliased])).uid == 42


def test_changed_class_is_named() -> None:
    """A class that cannot read what is stored of it is named by the error, as one not found is."""
    texts = {
        "Color": codec.dumps(Color.RED).replace("RED", "BLUE"),
        "Point": codec.dumps(Color.RED).replace(":Color", ":Point"),
        "Bits": codec.dumps(Color.RED).replace(":Color", ":Bits"),
    }
    for name, text in texts.items():
        with pytest.raises(UnknownClassError, match="has changed") as caught:
            codec.loads(text)
        assert caught.value.class_name == f"{__name__}:{name}"


def test_class_found_from_any_model() -> None:
    """An annotation that is ``BaseModel`` itself vouches for every model."""

    class Tool(BaseModel):
        name: str = "t"

    for hint in (BaseModel, list[BaseModel], BaseModel | None):
        assert codec.loads(codec.dumps(Tool()), Classes([hint])) == Tool()


def test_member_that_is_gone() -> None:
    """A member that its enum has no more is an error that names those it has."""
    text = codec.dumps(Color.RED).replace("RED", "BLUE")
    with pytest.raises(DecodeError, match="no member 'BLUE', only RED, GREEN, ROUGE"):
        codec.loads(text)


# --------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1] 2", "not JSON"),
        ("\ufeff[]", "not JSON"),
        ("NaN", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("1" * 5000, "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ('{"$type":1}', "no kind of value called 1"),
        ('{"$type":["tuple"]}', "no kind of value called"),
        ('{"$type":"wormhole"}', "no kind of value called 'wormhole'"),
        ('{"$type":"tuple"}', "a stored tuple cannot be rebuilt"),
        ('{"$type":"tuple","value":"ab"}', "list expected, not str"),
        ('{"$type":"tuple","value":[],"more":1}', "a stored tuple cannot be rebuilt"),
        ('{"$type":"set","value":[[]]}', "unhashable"),
        ('{"$type":"set","value":[1,true]}', "equal elements"),
        ('{"$type":"dict","value":[1]}', "a stored dict cannot be rebuilt"),
        ('{"$type":"dict","value":[1,2,1.0,3]}', "equal elements"),
        ('{"$type":"int","value":"0x_1"}', "not hexadecimal"),
        ('{"$type":"int","value":"pi"}', "a stored int cannot be rebuilt"),
        ('{"$type":"float","value":"1.5"}', "not one of nan"),
        ('{"$type":"str","value":"AA=A"}', "a stored str cannot be rebuilt"),
        ('{"$type":"bytes","value":"AA"}', "a stored bytes cannot be rebuilt"),
        ('{"$type":"date","value":"2024-02-30"}', "a stored date cannot be rebuilt"),
        ('{"$type":"datetime","value":"2024-02-03","fold":2}', "a stored datetime"),
        ('{"$type":"ZoneInfo","value":"../../etc/passwd"}', "a stored ZoneInfo"),
        ('{"$type":"ZoneInfo","value":"Mars/Olympus"}', "Mars/Olympus"),
        ('{"$type":"Pattern","value":"(","flags":32}', "a stored Pattern cannot be rebuilt"),
        ('{"$type":"Pattern","value":"a","flags":0}', "flags do not fit"),
        ('{"$type":"defaultdict","value":{},"factory":"eval"}', "a stored defaultdict"),
        ('{"$type":"Decimal","value":1.5}', "str expected, not float"),
        ('{"$type":"dataclass","value":{}}', "does not name its class"),
        ('{"$type":"dataclass","class":[],"value":{}}', "does not name its class"),
        ('{"$type":"model","class":"MODULE:Point","value":{}}', "it is no model any more"),
        ('{"$type":"dataclass","class":"MODULE:Point","value":[]}', "dict expected"),
        ('{"$type":"enum","class":"MODULE:Right","value":64}', "has no member 64"),
        ('{"$type":"enum","class":"MODULE:Color","value":1}', "has no member 1"),
        ('{"$type":"enum","class":"MODULE:Bits","value":true}', "int expected"),
    ],
)
def test_damaged_text(text: str, reason: str) -> None:
    """Whatever is wrong with a text, the error is a ``DecodeError`` that says what."""
    with pytest.raises(DecodeError, match=re.escape(reason)):
        codec.loads(text.replace("MODULE", __name__))


@pytest.mark.parametrize("text", [None, b"[]", 1])
def test_text_that_is_none(text: Any) -> None:
    """What is not text at all is damage too."""
    with pytest.raises(DecodeError, match="a stored value is text"):
        codec.loads(text)


def test_tree_that_is_none() -> None:
    """A tree with anything but JSON in it, or without an end, is damage too."""
    with pytest.raises(DecodeError, match="tuple is not a JSON value"):
        codec.decode([(1,)])
    with pytest.raises(DecodeError, match="nested too deeply"):
        codec.decode(cycle())


def test_public_names() -> None:
    """What the package offers is what it says it offers."""
    names = {"Classes", "MAX_DEPTH", "NO_ALIASES", "decode", "dumps", "encode", "loads"}
    names |= {"strange_names", "NotSaved", "has_marks", "identity", "keep", "NO_SHAPES", "Shape"}
    assert set(codec.__all__) == names
    assert importlib.util.find_spec("pocoflow.values") is not None


def _grown(size: int) -> list[Any]:
    """Values with containers of a size, at several depths."""
    words: Any = [f'word "{number}"\n\u017e' for number in range(size)]
    rows = [{"n": number, "x": number / 7, "tags": ["a", None]} for number in range(size)]
    deep = {"a": {"b": rows, "": []}, "c": {}, "d": words}
    return [words, rows, deep, dict.fromkeys(words, True), [words, [], 1.5, deep], [rows] * 3]


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 2500])
def test_a_long_value_has_the_text_that_it_would_have_at_once(size: int) -> None:
    """What becomes text in pieces is the same text, and the value comes back equal."""
    for value in _grown(size):
        text = codec.dumps(value)
        assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        assert codec.loads(text) == value


def test_another_thread_has_its_turn_while_a_long_value_becomes_text() -> None:
    """A long value does not become text in one call during which no other thread works."""
    value = {"vectors": [[column * 1.0001 for column in range(500)] for _ in range(300)]}
    lengths: list[int] = []
    piece = writing.to_json

    def counted(tree: object) -> str:
        text = piece(tree)
        lengths.append(len(text))
        return text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "to_json", counted)
        assert codec.loads(codec.dumps(value)) == value
    assert max(lengths) < 50_000
