"""A change is seen at any depth and exactly; what did not change is not written again."""

from __future__ import annotations

import array
import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import itertools
import json
import operator
import pathlib
import re
import struct
import sys
import threading
import uuid
import weakref
import zoneinfo
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import pydantic
import pydantic_core
import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr

from pocoflow import values as codec
from pocoflow.errors import NotStorableError
from pocoflow.values.changes.frozen import Frozen, difference, freeze, is_same
from pocoflow.values.changes.together import apply
from tests.counting import calls

T = TypeVar("T")


class Role(enum.StrEnum):
    USER = "user"


class Level(enum.IntEnum):
    ONE = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class OtherRight(enum.Flag):
    READ = 1


@dataclasses.dataclass
class Point:
    x: Any = 0
    y: Any = 0

    @functools.cached_property
    def total(self) -> Any:
        return self.x + self.y


@dataclasses.dataclass
class SubPoint(Point):
    pass


@dataclasses.dataclass
class Bare:
    x: Any = 0


class BareModel(BaseModel):
    content: Any = None


@dataclasses.dataclass(slots=True, eq=False)
class Slotted:
    x: Any = 0


@dataclasses.dataclass
class Shy:
    x: Any = 0

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {}


@dataclasses.dataclass
class Holder(Generic[T]):
    item: T


class Pair(NamedTuple):
    left: Any
    right: Any = 0


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    content: Any = None
    _hidden: Any = PrivateAttr(default=None)

    @functools.cached_property
    def shown(self) -> str:
        return str(self.content)


class SubModel(Model):
    pass


class Odd:
    """An object whose comparison fails."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise OSError("no")

    def __bool__(self) -> bool:
        raise OSError("no")


class MyStr(str):
    __slots__ = ()


class MyList(list[Any]):
    pass


class MyDict(dict[Any, Any]):
    pass


def nan() -> float:
    """Another NaN each time."""
    return float("nan")


def after(value: T, change: Callable[[T], object]) -> T:
    """The value, once something was done to it."""
    change(value)
    return value


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = "core"
    for _ in range(depth):
        value = [value]
    return value


def kinds(makes: list[Callable[[], Any]]) -> list[str]:
    """What tests on these values are called."""
    return [f"{number}-{type(make()).__name__}" for number, make in enumerate(makes)]


def appended(frozen: Frozen, value: Any) -> int | None:
    """Where the new part of a list starts, if that is all that changed."""
    found = difference(frozen, value)
    if found is None or [(one.path, one.operation) for one in found[0]] != [((), "append")]:
        return None
    return len(value) - len(found[0][0].value)


def extend(frozen: Frozen, value: Any) -> Frozen:
    """What is remembered of a value after a change."""
    found = difference(frozen, value)
    assert found is not None
    return found[1]


def stored(changes: Any) -> list[Any]:
    """Changes as they are written and read back."""
    return [
        [list(one.path), one.operation, json.loads(codec.dumps(one.value))]
        if one.operation != "splice"
        else [
            list(one.path),
            "splice",
            [*one.value[:2], json.loads(codec.dumps(one.value[2]))],
        ]
        for one in changes
    ]


def messages(count: int) -> list[dict[str, Any]]:
    """A chat."""
    return [{"role": "user", "content": f"message {number}"} for number in range(count)]


# Equal, or nearly so, and yet another value: (remembered, now).
DIFFERENT: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
    (lambda: 1, lambda: True),
    (lambda: 1, lambda: 1.0),
    (lambda: 1, lambda: Level.ONE),
    (lambda: 1, lambda: decimal.Decimal(1)),
    (lambda: 1, lambda: fractions.Fraction(1)),
    (lambda: 0.0, lambda: -0.0),
    (lambda: 0.0, nan),
    (lambda: 0j, lambda: -0j),
    (lambda: "user", lambda: Role.USER),
    (lambda: Role.USER, lambda: "user"),
    (lambda: "a", lambda: MyStr("a")),
    (lambda: "a", lambda: b"a"),
    (lambda: b"a", lambda: bytearray(b"a")),
    (lambda: None, lambda: False),
    (lambda: [1], lambda: (1,)),
    (lambda: [1], lambda: MyList([1])),
    (lambda: [1], lambda: collections.deque([1])),
    (lambda: (1, 2), lambda: Pair(1, 2)),
    (lambda: [[1], [2, 3]], lambda: [[1, 2], [3]]),
    (lambda: [[], [1]], lambda: [[1], []]),
    (lambda: [1, "a"], lambda: ["a", 1]),
    (lambda: [{"a": 1}, {}], lambda: [{}, {"a": 1}]),
    (dict, MyDict),
    (lambda: {"a": 1}, lambda: collections.OrderedDict(a=1)),
    (lambda: {"a": 1}, lambda: collections.Counter(a=1)),
    (lambda: {"a": 1}, lambda: collections.defaultdict(int, a=1)),
    (lambda: collections.defaultdict(int), lambda: collections.defaultdict(float)),
    (lambda: {"a": 1, "b": 1}, lambda: {"b": 1, "a": 1}),
    (lambda: {1: 2}, lambda: {True: 2}),
    (lambda: {"user": 2}, lambda: {Role.USER: 2}),
    (lambda: {(1,): 2}, lambda: {(1.0,): 2}),
    (lambda: {1, 2}, lambda: {True, 2}),
    (lambda: {1, 2}, lambda: {1, 3}),
    (lambda: {(1, 2)}, lambda: {Pair(1, 2)}),
    (lambda: {1}, lambda: frozenset({1})),
    (lambda: range(0), lambda: range(1, 1)),
    (lambda: slice(1, 2), lambda: slice(1, True)),
    (lambda: collections.deque([1]), lambda: collections.deque([1], maxlen=3)),
    (lambda: array.array("i", [1]), lambda: array.array("l", [1])),
    (lambda: array.array("d", [0.0]), lambda: array.array("d", [-0.0])),
    (lambda: collections.ChainMap({"a": 1}, {}), lambda: collections.ChainMap({"a": 1})),
    (lambda: decimal.Decimal("1.0"), lambda: decimal.Decimal("1.00")),
    (lambda: dt.datetime(2024, 1, 1, tzinfo=dt.UTC), lambda: dt.date(2024, 1, 1)),
    (
        lambda: dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC),
        lambda: dt.datetime(2024, 1, 1, 13, tzinfo=dt.timezone(dt.timedelta(hours=1))),
    ),
    (
        lambda: dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        lambda: dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    ),
    (
        lambda: dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        lambda: dt.datetime(2024, 1, 1, tzinfo=pydantic_core.TzInfo(0)),
    ),
    (lambda: dt.time(1), lambda: dt.time(1, fold=1)),
    (lambda: dt.timezone(dt.timedelta(0)), lambda: dt.timezone(dt.timedelta(0), "UTC")),
    (lambda: pathlib.PurePosixPath("a"), lambda: pathlib.Path("a")),
    (lambda: re.compile("a"), lambda: re.compile("a", re.IGNORECASE)),
    (lambda: re.compile("a" * 300 + "b"), lambda: re.compile("a" * 300 + "c")),
    (lambda: uuid.UUID(int=1), lambda: uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe)),
    (lambda: Right.READ, lambda: OtherRight.READ),
    (lambda: Right.READ, lambda: Right.READ | Right.WRITE),
    (lambda: Point(1), lambda: SubPoint(1)),
    (lambda: Point(1), lambda: Point(True)),
    (lambda: Point([1]), lambda: Point([1.0])),
    (lambda: Slotted(1), lambda: Slotted(2)),
    (lambda: Pair(1), lambda: Pair(1.0)),
    (lambda: Model(content=1), lambda: SubModel(content=1)),
    (Model, lambda: Model(content=None)),
    (lambda: Model(content={1: [2]}), lambda: Model(content={1: [True]})),
    (lambda: Model.model_validate({"a": 1}), lambda: Model.model_validate({"a": 1.0})),
    (Model, lambda: after(Model(), lambda model: setattr(model, "_hidden", 1))),
    (lambda: pydantic.AnyUrl("http://a"), lambda: pydantic.HttpUrl("http://a")),
    (lambda: pydantic.NameEmail("a", "b@c.d"), lambda: pydantic.NameEmail("b", "b@c.d")),
    (lambda: pydantic.ByteSize(1), lambda: 1),
]

# The same value, made twice.
SAME: list[Callable[[], Any]] = [
    nan,
    lambda: [nan(), {"a": nan()}, (nan(), 1.5)],
    lambda: "".join(["us", "er"]),
    lambda: 10**30,
    lambda: {("a", 1): {2, "b", None}},
    lambda: set(map(str, range(1000))),
    lambda: set(map(str, reversed(range(1000)))),
    lambda: complex(nan(), -0.0),
    lambda: [..., slice(1, [2], None), range(3), b"a", bytearray(b"b")],
    lambda: dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo"), fold=1),
    lambda: [dt.date(2024, 1, 1), dt.time(1), dt.timedelta(1), dt.UTC],
    lambda: [decimal.Decimal("NaN"), decimal.Decimal("1.50"), fractions.Fraction(1, 3)],
    lambda: [uuid.UUID(int=1), pathlib.Path("a"), re.compile("a"), re.compile(b"a")],
    lambda: [Role.USER, Level.ONE, Right.READ | Right.WRITE, Right(0)],
    lambda: [Point([1]), Slotted({1: 2}), Pair(1, [2]), Holder[int](1), Bare([1])],
    lambda: [BareModel(content=[1]), BareModel()],
    lambda: [collections.deque([1], 2), collections.Counter[str]("aab"), array.array("d", [nan()])],
    lambda: collections.OrderedDict({1: [2]}),
    lambda: [collections.defaultdict(list, a=[1]), collections.ChainMap({1: 2}, {})],
    lambda: after(
        Model.model_validate({"content": [Model()], "a": 1}), operator.attrgetter("shown")
    ),
    lambda: [pydantic.HttpUrl("http://a"), pydantic_core.Url("x:y"), pydantic.ByteSize(3)],
    lambda: nested(200),
    lambda: messages(1000),
]


@pytest.mark.parametrize(
    ("before", "now"), DIFFERENT, ids=kinds([before for before, _ in DIFFERENT])
)
@pytest.mark.parametrize(
    "wrap", [lambda value: value, lambda value: {"a": ["b", value]}], ids=["itself", "in-depth"]
)
def test_nearly_the_same(
    before: Callable[[], Any], now: Callable[[], Any], wrap: Callable[[Any], Any]
) -> None:
    """Values that Python calls equal, but of which a part has another type, are a change."""
    assert not is_same(freeze(wrap(before())), wrap(now()))
    assert not is_same(freeze(wrap(now())), wrap(before()))


@pytest.mark.parametrize("make", SAME, ids=kinds(SAME))
def test_the_same(make: Callable[[], Any]) -> None:
    """A value that is equal with every type the same is no change, whichever object it is."""
    value = make()
    frozen = freeze(value)
    assert is_same(frozen, value)
    assert is_same(frozen, make())


def test_order_of_a_set_does_not_matter() -> None:
    """Two sets of the same members are the same, however they were filled."""
    members = list(map(str, range(100)))
    grown = after(set(members * 2), lambda made: made.difference_update(members[1:]))
    grown.update(reversed(members))
    assert is_same(freeze([set(members), {"a"}]), [grown, {"a"}])
    assert not is_same(freeze([set(members), {"a"}]), [grown - {"5"}, {"a", "5"}])


def test_cached_property_is_no_change() -> None:
    """Computing a cached property, of a dataclass or a model, changes nothing."""
    point, model = Point(1, 2), Model(content=3)
    frozen = freeze([point, model])
    assert (point.total, model.shown) == (3, "3")
    assert is_same(frozen, [point, model])


@pytest.mark.parametrize("value", [threading.Lock(), len, [{"a": object()}], Odd()])
def test_what_is_not_stored_is_the_same_if_it_is_the_same_object(value: Any) -> None:
    """A value that the codec refuses is compared by identity; its own ``==`` is not asked."""
    assert is_same(freeze(value), value)
    assert is_same(freeze([1, value]), [1, value])
    assert not is_same(freeze([value]), [Odd()])
    assert not is_same(freeze([1, value]), [2, value])


def test_what_is_compared_is_not_kept() -> None:
    """A value that is compared by identity is kept where it is remembered, and nowhere else."""
    value: list[Any] = [collections.defaultdict(lambda: 0)]
    other: list[Any] = [collections.defaultdict(lambda: 0)]
    frozen = freeze(value)
    left, count = weakref.ref(other[0].default_factory), sys.getrefcount(value[0])
    for _ in range(3):
        assert is_same(frozen, value)
        assert not is_same(frozen, other)
    now = sys.getrefcount(value[0])
    assert now == count
    del other
    assert left() is None


def test_what_is_taken_out_of_a_list_is_not_kept() -> None:
    """Of what is compared by identity, what remembers a list keeps what is in it now."""
    value: list[Any] = [collections.defaultdict(lambda: 0) for _ in range(80)]
    frozen = freeze(value)
    while len(value) > 40:
        left = weakref.ref(value.pop(len(value) // 2).default_factory)
        found = difference(frozen, value)
        assert found is not None
        frozen = found[1]
        assert left() is None
    assert is_same(frozen, value)
    assert not is_same(frozen, [*value[1:], value[0]])


def test_what_comes_into_a_list_is_not_compared_with_what_was_there() -> None:
    """The ``==`` of what is compared by identity is not asked either where a list has grown."""
    value = [Odd()] * 40
    frozen = freeze(value)
    value += [Odd() for _ in range(20)]
    found = difference(frozen, value)
    assert found is not None
    assert [one.operation for one in found[0]] == ["append"]
    assert is_same(found[1], value)


def test_a_value_that_contains_itself_now() -> None:
    """A value into which a cycle was built since is changed, and asking comes to an end."""
    value: list[Any] = [[1]]
    frozen = freeze(value)
    value[0] = value
    assert not is_same(frozen, value)
    value.append(value)
    assert appended(frozen, value) is None


def cyclic_list(copies: int) -> list[Any]:
    """A list that contains itself, more than once."""
    return after([1, {}], lambda made: made.extend([made] * copies))


def family(children: int) -> Point:
    """A parent whose children know their parent."""
    parent = Point([], "parent")
    parent.x.extend(Point(parent, number) for number in range(children))
    return parent


@pytest.mark.parametrize(
    "value",
    [cyclic_list(1), cyclic_list(2), cyclic_list(1000), family(1), family(300), [[family(2)]]],
    ids=["once", "twice", "often", "one-child", "many-children", "in-depth"],
)
def test_cycles_are_compared_by_identity(value: object) -> None:
    """A value that contains itself cannot be stored; remembering it comes to an end."""
    assert is_same(freeze(value), value)
    assert not is_same(freeze(value), [value])


def test_shared_parts() -> None:
    """Parts that stand in several places are no cycle."""
    shared = [{"a": 1}]
    value = [[shared, [[[[[[[[[[[[[[shared]]]]]]]]]]]]]], shared, (shared, shared)]] * 3
    assert is_same(freeze(value), copy.deepcopy(value))
    rows = [shared] * 30_000
    assert is_same(freeze({"rows": rows}), {"rows": rows})


def test_a_member_whose_comparison_fails() -> None:
    """A value that cannot even be compared counts as changed."""

    class Strange:
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            raise OSError("no")

    assert not is_same(freeze({1}), {Strange()})
    assert not is_same(freeze([{Strange()}]), [{Strange()}])


def test_too_deep_for_the_stack() -> None:
    """A value nested too deeply to store is compared by identity."""
    value = nested(5_000)
    assert is_same(freeze(value), value)
    assert not is_same(freeze({"a": value}), {"a": value})


# ------------------------------------------------------------------------------------------- growth


def test_appended_messages() -> None:
    """A list that only grew tells where its new part starts."""
    chat = messages(10)
    frozen = freeze(chat)
    assert appended(frozen, chat) is None
    chat.append({"role": "assistant", "content": "hello"})
    assert not is_same(frozen, chat)
    assert appended(frozen, chat) == 10


@pytest.mark.parametrize(
    "change",
    [
        lambda chat: chat[3].update(content="another"),
        lambda chat: chat[0].update(role=Role.USER),
        lambda chat: chat.insert(0, {}),
        lambda chat: chat.__delitem__(slice(2)),
        operator.methodcaller("reverse"),
    ],
    ids=["content", "type-of-role", "insertion", "deletion", "order"],
)
def test_not_only_appended(change: Callable[[Any], object]) -> None:
    """A list of which an older part changed as well did not only grow."""
    chat = messages(10)
    frozen = freeze(chat)
    chat.append({"role": "assistant", "content": "hello"})
    change(chat)
    assert appended(frozen, chat) is None


@pytest.mark.parametrize(
    ("before", "now"),
    [("ab", "abc"), ((1,), (1, 2)), ({1: 2}, {1: 2, 3: 4}), ([1], (1, 2)), ([], MyList([1]))],
)
def test_only_lists_grow(before: object, now: object) -> None:
    """Nothing but a list is stored by its tail."""
    assert appended(freeze(before), now) is None


def test_an_empty_list_grows() -> None:
    """All of a list is new if it was empty."""
    assert appended(freeze([]), [1]) == 0
    assert appended(freeze([]), []) is None


def test_extend_leaves_the_older_form_as_it_was() -> None:
    """What was remembered before stays valid, should the new form never be committed."""
    chat = messages(3)
    first = freeze(chat)
    chat += messages(2)
    second = extend(first, chat)
    third = extend(second, [*chat, {}])
    assert is_same(first, chat[:3])
    assert is_same(second, chat)
    assert is_same(third, [*chat, {}])
    assert appended(first, chat) == 3


def test_a_list_that_grows_one_by_one() -> None:
    """Any element of a list that grew in a thousand steps is still compared."""
    chat: list[dict[str, Any]] = []
    frozen = freeze(chat)
    for message in messages(1000):
        chat.append(message)
        start = appended(frozen, chat)
        assert start == len(chat) - 1
        frozen = extend(frozen, chat)
        assert is_same(frozen, chat)
    for changed in (0, 511, 512, 998, 999):
        content = chat[changed]["content"]
        chat[changed]["content"] = content + "!"
        assert not is_same(frozen, chat)
        chat[changed]["content"] = content
    assert is_same(frozen, chat)


# ----------------------------------------------------------------------------------------- in depth


LONG = "a long text " * 20


def conversation() -> dict[str, Any]:
    """What a chat keeps, in containers of several kinds."""
    return {
        "list": messages(20),
        "dict": {str(number): {"n": number} for number in range(20)},
        "by number": {number: [number] for number in range(5)},
        "model": Model(content=[BareModel(content=LONG)] * 1),
        "point": Point([1, 2], {"a": LONG}),
        "slotted": Slotted([1, 2]),
        "tuple": (1, [2]),
        "deque": collections.deque([1, 2, 3], 9),
        "default": collections.defaultdict(list, a=[1]),
        "mine": MyDict(a=MyList([1, 2])),
    }


IN_DEPTH: list[tuple[Callable[[Any], object], list[Any]]] = [
    (lambda v: v["list"].append("new"), [["list"], "append", ["new"]]),
    (lambda v: v["list"].insert(2, "new"), [["list"], "splice", [2, 0, ["new"]]]),
    (lambda v: v["list"].__delitem__(slice(3, 5)), [["list"], "splice", [3, 2, []]]),
    (lambda v: v.update(list=[*v["list"], "new"]), [["list"], "append", ["new"]]),
    (lambda v: v["list"][7].update(role="new"), [["list", 7, "role"], "set", "new"]),
    (lambda v: v["dict"].update(new=1), [["dict", "new"], "set", 1]),
    (lambda v: v["dict"].pop("3"), [["dict", "3"], "delete", None]),
    (lambda v: v["dict"]["3"].update(n=None), [["dict", "3", "n"], "set", None]),
    (lambda v: v["by number"][2].append(3), [["by number", "value", 5], "append", [3]]),
    (
        lambda v: setattr(v["model"].content[0], "content", LONG + "and more"),
        [["model", "value", "content", 0, "value", "content"], "append", "and more"],
    ),
    (
        lambda v: v.update(
            model=v["model"].model_copy(update={"content": [*v["model"].content, 1]})
        ),
        [["model", "value", "content"], "append", [1]],
    ),
    (lambda v: setattr(v["model"], "more", 1), [["model", "extra", "more"], "set", 1]),
    (
        lambda v: setattr(v["model"], "_hidden", [1]),
        [["model", "private", "_hidden"], "set", [1]],
    ),
    (lambda v: v["point"].x.append(3), [["point", "value", "x"], "append", [3]]),
    (
        lambda v: v.update(point=dataclasses.replace(v["point"], x=[1, 2, 3])),
        [["point", "value", "x"], "append", [3]],
    ),
    (
        lambda v: v["point"].y.update(a=LONG + "!"),
        [["point", "value", "y", "a"], "append", "!"],
    ),
    (lambda v: v["slotted"].x.append(3), [["slotted", "value", "x"], "append", [3]]),
    (lambda v: v["tuple"][1].append(3), [["tuple", "value", 1], "append", [3]]),
    (lambda v: v["deque"].append(3), [["deque", "value"], "append", [3]]),
    (lambda v: v["default"]["a"].append(3), [["default", "value", "a"], "append", [3]]),
    (lambda v: v["mine"]["a"].append(3), [["mine", "value", "a", "value"], "append", [3]]),
]


@pytest.mark.parametrize(("change", "expected"), IN_DEPTH)
def test_one_place_in_depth(change: Callable[[Any], object], expected: list[Any]) -> None:
    """What changed at any depth, in any kind of container, is one change and no more."""
    value = conversation()
    frozen = freeze(value)
    tree = codec.encode(value)
    change(value)
    found = difference(frozen, value)
    assert found is not None
    changes = [one for one in stored(found[0]) if one[0] != ["model", "set"]]
    assert changes == [expected]
    again = codec.decode(apply(tree, stored(found[0])))
    assert exactly_equal(codec.encode(again), codec.encode(value))
    assert is_same(found[1], value)


AROUND: list[Callable[[Any], Any]] = [
    lambda it: Model(content=it),
    lambda it: {"a": it, "b": 1},
    lambda it: Point(it, 1),
    lambda it: [it],
    lambda it: MyDict(a=it),
    lambda it: (1, it),
]


def test_what_stands_around_a_change_adds_no_comparison() -> None:
    """A long list is compared once to find what changed in it, whatever it is in.

    Its elements have slots, so that each is taken apart by a function of Python, which is counted.
    """
    value: Any = [Slotted(number) for number in range(1000)]
    elements, numbers = value, itertools.count()
    found: tuple[list[int], list[int]] = [], []
    changes: list[Callable[[int], object]] = [
        lambda to: elements.append(Slotted(to)),
        lambda to: setattr(elements[-1], "x", [to]),
    ]
    for around in (lambda it: it, *AROUND):
        value = around(value)
        for change, counts in zip(changes, found, strict=True):
            frozen = freeze(value)
            for _ in range(2):  # what changed before is remembered apart
                change(next(numbers))
                one = difference(frozen, value)
                assert one is not None
                frozen = one[1]
            change(next(numbers))
            counts.append(calls(functools.partial(difference, frozen, value)))
    counts = [*found[0], *found[1]]
    assert max(counts) < 1.6 * min(counts)


def tree_of(*fans: int) -> Any:
    """Dicts in dicts, each of so many, down to numbers."""
    return {f"key {n}": tree_of(*fans[1:]) for n in range(fans[0])} if fans else 1


def leaves_of(tree: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Where the numbers of a tree are."""
    found: list[tuple[dict[str, Any], str]] = []
    for key, part in tree.items():
        found += leaves_of(part) if isinstance(part, dict) else [(tree, key)]
    return found


@pytest.mark.parametrize("fans", [(2,) * 10, (4,) * 5, (10,) * 3, (16,) * 3])
def test_looking_for_a_change_is_one_comparison_of_a_tree(fans: tuple[int, ...]) -> None:
    """Of what has few parts in each container, but many in all, each is not looked at by itself."""
    value = tree_of(*fans)
    frozen = freeze(value)
    alone = calls(lambda: is_same(frozen, value))
    assert calls(lambda: difference(frozen, value)) < alone + 30
    for tree, key in leaves_of(value)[:300]:
        tree[key] += 1
        found = difference(frozen, value)
        assert found is not None
        frozen = found[1]
    assert calls(lambda: is_same(frozen, value)) < 10 * alone
    assert calls(lambda: difference(frozen, value)) < 20 * alone


MANY: dict[str, Callable[[], Any]] = {
    "dicts": lambda: messages(2000),
    "lists": lambda: [[number, [number]] for number in range(2000)],
    "models": lambda: [BareModel(content=[number]) for number in range(2000)],
    "keys": lambda: {str(number): {"n": number} for number in range(2000)},
    "a tree": lambda: tree_of(10, 10, 10),
    "lists in a few": lambda: {str(number): [*range(500)] for number in range(12)},
}


def other_than(value: Any) -> Any:
    """The same but for all texts and numbers in it."""
    if isinstance(value, dict):
        return {key: other_than(part) for key, part in value.items()}
    if isinstance(value, list):
        return list(map(other_than, value))
    if isinstance(value, BareModel):
        return BareModel(content=other_than(value.content))
    return value + "!" if isinstance(value, str) else value + 1000


@pytest.mark.parametrize("name", MANY)
def test_another_value_altogether_is_found_to_be_that_at_once(name: str) -> None:
    """Where all differs, that takes a look at a few elements."""
    value = MANY[name]()
    frozen, other = freeze(value), other_than(value)
    assert calls(lambda: difference(frozen, other)) < 100_000
    assert difference(frozen, other) is None


@pytest.mark.parametrize("name", ["dicts", "lists", "models"])
def test_two_changes_far_apart_are_found_as_fast_as_two(name: str) -> None:
    """What stands between two elements that changed is not searched for a window that moved on."""
    value = MANY[name]()
    frozen = freeze(value)
    for place in (3, -3):
        value[place] = other_than(value[place])
    assert calls(lambda: difference(frozen, value)) < 50_000
    found = difference(frozen, value)
    assert found is not None
    assert {one.path[0] for one in found[0]} == {3, len(value) - 3}


def test_many_changes_are_written_if_that_is_less_than_what_they_are_in() -> None:
    """Counters beside a document are set; most of a list of numbers is set with the whole list."""
    value: dict[str, Any] = {"document": LONG * 10, **{f"n{number}": 0 for number in range(12)}}
    value |= {"talks": {f"t{number}": [LONG, LONG] for number in range(12)}}
    value |= {"numbers": [*range(20)]}
    frozen = freeze(value)
    for number in range(12):
        value[f"n{number}"] = 1
        value["talks"][f"t{number}"].append("new")
        value["numbers"][number] = -1
    found = difference(frozen, value)
    assert found is not None
    assert [(one.path, one.operation) for one in found[0]] == [
        *(((f"n{number}",), "set") for number in range(12)),
        *((("talks", f"t{number}"), "append") for number in range(12)),
        (("numbers",), "set"),
    ]


@pytest.mark.parametrize("dropped", [1, 3])
@pytest.mark.parametrize("kept", [0, 1])
def test_a_window_that_moves_on(dropped: int, kept: int) -> None:
    """A list that loses elements near its beginning and gets others at its end is not set."""
    value = messages(50)
    frozen = freeze(value)
    moved = [*value[:kept], *value[kept + dropped :], *messages(3)]
    found = difference(frozen, moved)
    assert found is not None
    assert stored(found[0]) == [
        [[], "splice", [kept, dropped, []]],
        [[], "append", messages(3)],
    ]


def test_what_cannot_be_stored_is_no_change_in_depth() -> None:
    """An object that could not be stored any more is left to whoever writes the whole value."""
    point = Point([1], LONG)
    frozen = freeze({"point": point})
    vars(point)["foreign"] = 1
    point.x.append(2)
    assert difference(frozen, {"point": point}) is None


# --------------------------------------------------------------------------------------------- laws

leaves: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, False, True, 0, 1, 2**70, 0.0, -0.0, 1.0, 1.5, nan(), nan(), float("inf")),
        *("", "user", Role.USER, Level.ONE, Right.READ, b"", b"a", ..., 0j, complex(0.0, -0.0)),
        *(decimal.Decimal("1"), decimal.Decimal("1.0"), fractions.Fraction(1), range(0)),
        *(dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.time(1, fold=1)),
        *(uuid.UUID(int=1), pathlib.PurePosixPath("a"), re.compile("a")),
    ]
)
# NaN is left out of sets: a set that holds another one may count as changed.
members = st.recursive(
    leaves.filter(lambda leaf: leaf == leaf),
    lambda inner: st.builds(Pair, inner, inner) | st.frozensets(inner, max_size=2),
    max_leaves=3,
)
names = st.sampled_from(["a", "b", "role", "content"])
values: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(names | members, inner, max_size=4),
        st.lists(st.fixed_dictionaries({"role": inner, "content": inner}), max_size=3),
        st.sets(members, max_size=4),
        st.lists(inner, max_size=3).map(collections.deque),
        st.dictionaries(names, inner, max_size=3).map(collections.OrderedDict),
        st.binary(max_size=2).map(bytearray),
        st.builds(Point, inner, inner),
        st.builds(Slotted, inner),
        st.builds(Pair, inner, inner),
        st.builds(Bare, inner),
        st.builds(Model, content=inner),
        st.builds(BareModel, content=inner),
    ),
    max_leaves=10,
)


def exactly_equal(one: Any, other: Any) -> bool:
    """The plain definition of what the module under test computes by columns."""
    kind = type(one)
    if type(other) is not kind:
        return False
    if kind is float:
        return (one != one and other != other) or struct.pack("d", one) == struct.pack("d", other)
    if kind in (list, tuple, collections.deque, Pair):
        return len(one) == len(other) and all(map(exactly_equal, one, other))
    if kind in (dict, collections.OrderedDict):
        return exactly_equal(list(one.items()), list(other.items()))
    if kind in (set, frozenset):
        return len(one) == len(other) and all(
            any(exactly_equal(member, twin) for twin in other) for member in one
        )
    if kind in (Point, Slotted, Bare):
        names = [field.name for field in dataclasses.fields(kind)]
        return all(exactly_equal(getattr(one, name), getattr(other, name)) for name in names)
    if kind in (Model, BareModel):
        return all(
            exactly_equal(getattr(one, name, None), getattr(other, name, None))
            for name in ("content", "_hidden", "model_fields_set", "model_extra")
        )
    return repr(one) == repr(other)


def mutable_parts(value: Any) -> list[Any]:
    """Everything in a value that can be changed in place."""
    found = [value] if isinstance(value, CHANGEABLE) else []
    if isinstance(value, dict):
        inner: Any = value.values()
    elif isinstance(value, list | tuple | collections.deque):
        inner = value
    else:
        inner = [
            getattr(value, name)
            for name in ("x", "y", "content", "_hidden")
            if hasattr(value, name)
        ]
    return found + [part for item in inner for part in mutable_parts(item)]


CHANGEABLE = (list, dict, set, collections.deque, bytearray, Point, Slotted, Bare, BaseModel)


def change_in_place(part: Any, new: Any, member: Any, place: int) -> None:
    """Do something to a part; it may turn out to change nothing."""
    if isinstance(part, dict):
        keys = [*part, "new"]
        key = keys[place % len(keys)]
        if place % 3 == 0 and key in part:
            part[key] = part.pop(key)
        elif place % 3 == 1 and key in part:
            part[member] = part.pop(key)
        else:
            part[key] = new
    elif isinstance(part, list | collections.deque):
        if len(part) and place % 4:
            part[place % len(part)] = new
        else:
            part.append(new)
    elif isinstance(part, set):
        part.discard(member)
        if place % 3:
            part.add(member)
    elif isinstance(part, bytearray):
        part += bytes(place % 2)
    elif isinstance(part, Model):
        setattr(part, ("content", "_hidden", "more")[place % 3], new)
    elif isinstance(part, BareModel):
        part.content = new
    else:
        part.x = new


def changes_give_it(frozen: Frozen, before: Any, value: Any) -> None:
    """What changed, put into what is stored of the value before, gives the value."""
    try:
        tree = codec.encode(before)
        codec.encode(value)
    except NotStorableError:
        return
    found = difference(frozen, value)
    if is_same(frozen, value):
        assert found is not None
        assert not found[0]
    if found is not None:
        again = codec.decode(apply(tree, stored(found[0])))
        assert exactly_equal(again, value)
        assert bool(found[0]) is not is_same(frozen, value)
        assert is_same(found[1], value)
        assert is_same(frozen, before)


@given(st.lists(values, max_size=6), st.lists(values, max_size=6), st.lists(values, max_size=6))
def test_law_of_another_list(head: list[Any], middle: list[Any], tail: list[Any]) -> None:
    """Whatever a list becomes, its changes give that."""
    before = {"a": [head, *head, *middle, *tail]}
    for now in ([head, *tail], [*middle, *tail, *head], [*middle, middle, *tail], [head, *middle]):
        changes_give_it(freeze(before), before, copy.deepcopy({"a": now}))


@given(values, values)
def test_law_of_two_values(one: Any, other: Any) -> None:
    """Two values are the same exactly if they are equal with every type the same."""
    assert is_same(freeze(one), other) == exactly_equal(one, other)


@given(values, leaves | values, members, st.integers(0, 20), st.data())
def test_law_of_a_change_in_place(
    value: Any, new: Any, member: Any, place: int, data: st.DataObject
) -> None:
    """A change in place, at any depth, is seen, and undoing it is no change."""
    parts = mutable_parts(value)
    before = copy.deepcopy(value)
    frozen = freeze(value)
    assert is_same(frozen, value)
    assert is_same(frozen, before)
    if parts:
        change_in_place(data.draw(st.sampled_from(parts)), copy.deepcopy(new), member, place)
    assert is_same(frozen, value) == exactly_equal(before, value)
    assert is_same(frozen, before)
    changes_give_it(frozen, before, value)


@given(values, leaves | values, members, st.integers(0, 20), st.data())
def test_law_of_a_change_in_one_of_many(
    one: Any, new: Any, member: Any, place: int, data: st.DataObject
) -> None:
    """A change in one of many values that are alike is seen, and is all that changed."""
    value, before = ([copy.deepcopy(one) for _ in range(60)] for _ in range(2))
    frozen = freeze(value)
    assert is_same(frozen, value)
    assert is_same(frozen, before)
    if parts := mutable_parts(value[data.draw(st.sampled_from([0, 30, 59]))]):
        change_in_place(data.draw(st.sampled_from(parts)), copy.deepcopy(new), member, place)
    assert is_same(frozen, value) == exactly_equal(before, value)
    assert is_same(frozen, before)
    changes_give_it(frozen, before, value)


@given(st.lists(values, max_size=8), st.lists(values, max_size=3))
def test_law_of_growth(value: list[Any], tail: list[Any]) -> None:
    """A list grew exactly if its beginning is the remembered list and there is more."""
    frozen = freeze(value)
    grown = copy.deepcopy(value) + tail
    assert appended(frozen, grown) == (len(value) if tail else None)
    for place in range(len(value)):
        other = [*grown[:place], [grown[place]], *grown[place + 1 :]]
        assert appended(frozen, other) is None


@given(st.lists(st.lists(values, min_size=1, max_size=4), max_size=8), values, st.data())
def test_law_of_extension(tails: list[list[Any]], new: Any, data: st.DataObject) -> None:
    """A list remembered tail by tail is remembered as one that was remembered at once."""
    value: list[Any] = []
    frozen = freeze(value)
    for tail in tails:
        value += tail
        frozen = extend(frozen, value)
    assert is_same(frozen, value)
    if value:
        place = data.draw(st.integers(0, len(value) - 1))
        other = [*value[:place], new, *value[place + 1 :]]
        assert is_same(frozen, other) == exactly_equal(value[place], new)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: Any = None
    b: Any = None
    _own: Any = PrivateAttr(default=0)


TEXT = "a text" * 2


def moved(value: Any) -> None:
    """One element goes from the end of a list to the beginning of the next."""
    value[1].insert(0, value[0].pop())


UNSEEN: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "a number of another type": (lambda: [1], lambda it: it.__setitem__(0, True)),
    "the sign of zero": (lambda: {"a": [0.0]}, lambda it: it["a"].__setitem__(0, -0.0)),
    "another text that is equal": (lambda: ["user"], lambda it: it.__setitem__(0, Role.USER)),
    "another key of one value": (
        lambda: {"a": TEXT, "b": 1},
        lambda it: (it.update(c=it.pop("a")), it.update(b=it.pop("b"))),
    ),
    "another order of keys": (lambda: {"a": TEXT, "b": TEXT}, lambda it: it.update(a=it.pop("a"))),
    "a key that is equal": (
        lambda: {"user": TEXT},
        lambda it: it.update({Role.USER: it.pop("user")}),
    ),
    "a key of another type": (lambda: {1: TEXT}, lambda it: it.update({True: it.pop(1)})),
    "a part of the next list": (lambda: [[1, TEXT], [2]], moved),
    "a part of the next dict": (
        lambda: [{"a": 1, "b": TEXT}, {"c": 2}],
        lambda it: (it[1].update(b=it[0].pop("b")), it[1].update(c=it[1].pop("c"))),
    ),
    "in a tuple": (lambda: ([1], 2), lambda it: it[0].append(1)),
    "in a set": (lambda: {TEXT}, lambda it: it.add(1)),
    "a field of a model": (lambda: [Open(a=1)], lambda it: setattr(it[0], "a", 2)),
    "below a field": (lambda: Open(a={"b": [1]}), lambda it: it.a["b"].append(1)),
    "the values of two fields": (
        lambda: Open(a=TEXT, b=1),
        lambda it: it.__dict__.update(a=it.b, b=it.a),
    ),
    "which fields were set": (Open, lambda it: setattr(it, "a", None)),
    "a field beyond the others": (
        lambda: Open.model_validate({"c": [1]}),
        lambda it: it.model_extra["c"].append(2),
    ),
    "a private attribute": (Open, lambda it: setattr(it, "_own", 1)),
    "of a dataclass": (lambda: [Point(1, [1])], lambda it: it[0].y.append(1)),
    "what the dict of an instance does not show": (lambda: Shy(1), lambda it: setattr(it, "x", 2)),
    "an attribute of a dataclass": (lambda: Point(1, 2), lambda it: setattr(it, "x", 3)),
    "an attribute less": (lambda: Point(1, 2), lambda it: delattr(it, "x")),
    "another class": (lambda: [Point(1, 2)], lambda it: it.__setitem__(0, Open(a=1))),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_many_that_are_alike_are_compared_as_exactly(name: str) -> None:
    """Of many values that are alike one has changed, in a way that equality or a count misses."""
    make, change = UNSEEN[name]
    for place in (0, 30, 99):
        value = [make() for _ in range(100)]  # as many as are compared at once
        frozen = freeze(value)
        assert is_same(frozen, value)
        assert is_same(frozen, [make() for _ in range(100)])
        change(value[place])
        assert not is_same(frozen, value)
        assert not is_same(freeze(value), [make() for _ in range(100)])
        changes_give_it(frozen, [make() for _ in range(100)], value)


def test_attributes_in_another_order_than_the_class_knows_them() -> None:
    """The values of instances are those of their names, in whichever order they were set."""

    def late(x: int, y: int) -> Point:
        made = object.__new__(Point)
        made.y, made.x = y, x
        return made

    assert list(vars(Point(1, 2))) != list(vars(late(1, 2)))
    for part in (late, lambda x, y: vars(late(x, y)).copy()):
        value: list[Any] = [part(1, 1) for _ in range(60)]
        value[7] = part(1, 2)
        frozen = freeze(value)
        assert is_same(frozen, value)
        assert is_same(frozen, copy.deepcopy(value))
        value[7] = part(2, 1)
        assert not is_same(frozen, value)


def test_equal_values_are_the_same_though_other_objects() -> None:
    """However often a value is set to an equal one, it is found to be the same."""
    value = [{"a": [1, "b", 2.5]}, (1, {"c"})] * 300
    frozen = freeze(value)
    for _ in range(6):
        assert is_same(frozen, value)
        assert is_same(frozen, value)
        value = copy.deepcopy(value)


def test_many_equal_parts_do_not_look_like_a_cycle() -> None:
    """Parts that are the same text again and again are laid out; a value in itself is not."""
    value: Any = [{"role": "user", "ok": True, "n": number} for number in range(6000)]
    assert is_same(freeze(value), copy.deepcopy(value))
    value[7]["n"] = value
    frozen = freeze(value)
    assert is_same(frozen, value)
    assert not is_same(frozen, list(value))
