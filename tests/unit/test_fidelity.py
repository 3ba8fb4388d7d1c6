"""A value comes back as it was, or the element that cannot is named as not saved, and only that."""

from __future__ import annotations

import collections
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import Flow, Node, Store, WorkflowDB, values as codec
from pocoflow.errors import DecodeError, NotSavedError, NotStorableError
from pocoflow.values.changes.frozen import freeze, is_same
from pocoflow.values.copies import stored_copy

np = pytest.importorskip("numpy")


def generic() -> list[Any]:
    """Times without a unit, as far as this NumPy still makes them."""
    try:
        return [np.datetime64("NaT"), np.timedelta64(5)]
    except DeprecationWarning:
        return []


SCALARS = [
    *(np.float64(1.5), np.float32(0.1), np.float16(0.1), np.longdouble("0.1"), np.float64("nan")),
    *(np.float64(-0.0), np.float64("inf"), np.int8(-3), np.int64(5), np.uint64(2**64 - 1)),
    *(np.longlong(4), np.bool_(True), np.str_("ä"), np.str_(""), np.bytes_(b"a\0b\0")),
    *(np.datetime64("2026-01-01"), np.datetime64(3, "25s"), *generic()),
    *(np.datetime64("2026-01-01T00:00:00.123456789"), np.timedelta64(3, "D")),
    *(np.complex64(1 + 2j), np.complex128(complex(-0.0, 1)), np.clongdouble(1 + 2j)),
]


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_a_scalar_of_numpy_comes_back_as_it_was(value: Any) -> None:
    """Of the same type, unit and bits."""
    (back,) = codec.loads(codec.dumps([value]))
    assert type(back) is type(value)
    assert (back.dtype, back.tobytes()) == (value.dtype, value.tobytes())
    assert is_same(freeze(value), back)


@pytest.mark.parametrize(
    "text",
    [
        '"value":300,"dtype":"|i1"',
        '"value":1,"dtype":"|O"',
        '"value":"AAAA","dtype":"<f8"',
        '"value":1.5,"dtype":"<i8"',
        '"value":1,"dtype":"<M8[xx]"',
        '"value":1,"dtype":"<i8","name":"ndarray"',
        '"value":"a"',
    ],
)
def test_a_damaged_scalar_is_an_error(text: str) -> None:
    """What no scalar was written as is read as none."""
    with pytest.raises(DecodeError):
        codec.loads(f'{{"$type":"numpy",{text}}}')


class Name(str):
    """Text with an attribute."""


class Port(int):
    """A number."""


class Score(float):
    """A number."""


class Raw(bytes):
    """Bytes."""


class Pair(tuple[Any, ...]):
    """A tuple."""

    __slots__ = ()


class Row(list[Any]):
    """A list whose methods must not be called."""

    def append(self, item: Any) -> None:
        raise OSError("do not call")


class Attributes(dict[str, Any]):
    """A dict whose keys are its attributes, as parsers make them."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.__dict__ = self

    def __setitem__(self, key: str, value: Any) -> None:
        raise OSError("do not call")


class Slots(dict[str, Any]):
    """A dict with a slot, that answers for attributes."""

    __slots__ = ("own",)

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Tags(set[Any]):
    """A set."""


class Fixed(frozenset[Any]):
    """A frozen set."""


class Tally(collections.Counter[str]):
    """A counter."""


def named() -> Name:
    """Text with an attribute."""
    made = Name("text")
    made.source = [1]  # type: ignore[attr-defined]
    return made


def slotted() -> Slots:
    """A dict with a slot."""
    made = Slots(x=1)
    made.own = [2]  # type: ignore[attr-defined]
    return made


ATTRIBUTES: dict[type, dict[str, Any]] = {
    Name: {"source": [1]},
    Attributes: {"a": 1, "b": {"c": 2}},
    Slots: {"own": [2]},
}

SUBCLASSES: list[Callable[[], Any]] = [
    *(named, lambda: Port(80), lambda: Score(1.5), lambda: Raw(b"a"), lambda: Pair((1, [2]))),
    *(lambda: Row([1, [2]]), lambda: Attributes(a=1, b={"c": 2}), slotted, lambda: Tags({1})),
    *(lambda: Fixed({1}), lambda: Tally("aab")),
]


@pytest.mark.parametrize("make", SUBCLASSES, ids=lambda make: type(make()).__name__)
def test_a_subclass_of_a_builtin_comes_back_as_it_was(make: Callable[[], Any]) -> None:
    """Of its class, with its content and its attributes, and without calling its methods."""
    value = make()
    for back in (codec.loads(codec.dumps({"a": value}))["a"], stored_copy(value)):
        assert type(back) is type(value)
        assert back == value
        for name, there in ATTRIBUTES.get(type(value), {}).items():
            assert object.__getattribute__(back, name) == there
        assert is_same(freeze(value), back)


def test_what_holds_more_than_its_content_is_refused() -> None:
    """A subclass of something else that is made in C would come back as something less."""

    class Ordered(collections.OrderedDict[str, int]):
        pass

    with pytest.raises(NotStorableError, match="subclass of OrderedDict"):
        codec.dumps(Ordered(a=1))


@dataclass
class Box:
    """An object with a part that may not be stored."""

    part: Any
    other: int = 1


class Parcel(BaseModel):
    """A model with such a part."""

    part: Any = None
    other: int = 1


LOCK = threading.Lock()

# A value, what remains of it, and where the part is that cannot be stored.
PARTS: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "dict": ({"lock": LOCK, "n": 1}, lambda v: v["n"], lambda v: v["lock"], "x['lock']"),
    "list": ([1, LOCK], lambda v: v[0], lambda v: v[1], "x[1]"),
    "keys": ({(1, 2): LOCK, "n": 1}, lambda v: v["n"], lambda v: v[1, 2], "x[...]"),
    "dataclass": (Box(LOCK), lambda v: v.other, lambda v: v.part, "x.part"),
    "model": (Parcel(part=LOCK), lambda v: v.other, lambda v: v.part, "x.part"),
    "tuple": ((1, LOCK), lambda v: v[0], lambda v: v[1], "x[1]"),
    "subclass": (Row([1, LOCK]), lambda v: v[0], lambda v: v[1], "x[1]"),
    "array": ([1, {"a": np.arange(2)}], lambda v: v[0], lambda v: v[1]["a"], "x[1]['a']"),
    "record": ([1, np.rec.array([(1, "a")])[0]], lambda v: v[0], lambda v: v[1], "x[1]"),
    "factory": (
        [1, collections.defaultdict(lambda: 3)],
        lambda v: v[0],
        lambda v: v[1],
        "x[1]",
    ),
    "deep": (
        [Box({"a": [1, LOCK]})],
        lambda v: v[0].part["a"][0],
        lambda v: v[0].part["a"][1],
        "x[0].part['a'][1]",
    ),
}


class Keeps(Node[None, None, str]):
    """Does nothing."""


USES: list[Callable[[Any], object]] = [
    *(str, bool, iter, len, int, list, lambda one: f"{one}", lambda one: one == 1),
    *(lambda one: one(), lambda one: one["a"], lambda one: one.acquire, lambda one: one + 1),
]


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("snapshot", [True, False], ids=["snapshot", "database"])
def test_one_element_costs_itself_only(
    name: str, snapshot: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is around it is kept; whatever uses it raises and names its path; it is said once."""
    value, around, at, path = PARTS[name]
    with caplog.at_level(logging.WARNING, "pocoflow"):
        if snapshot:
            file = Store({"x": value, "y": 1}).snapshot(tmp_path / "s.json")
            store: Store[Any] = Store.restore(file)
        else:
            Flow(Keeps(), db_path=tmp_path / "r.db", run_id="r").run({"x": value, "y": 1})
            with WorkflowDB(tmp_path / "r.db") as db:
                store = db.load_checkpoint("r", 0)
            said = [one for one in caplog.messages if "is not saved" in one]
            assert len(said) == 1
            assert path in said[0]
    assert store["y"] == around(store["x"]) == 1
    element = at(store["x"])
    assert path in repr(element)
    for use in USES:
        with pytest.raises(NotSavedError) as caught:
            use(element)
        assert path in str(caught.value)


def test_the_mark_of_an_appended_element_has_its_place_in_the_whole_list(tmp_path: Path) -> None:
    """What is written is the end of the list; what people read is where the element is in it."""

    class Appends(Node):
        def post(self, store: Any, prep_result: Any, exec_result: Any) -> None:
            store["x"].append({"lock": LOCK})

    Flow(Appends(), db_path=tmp_path / "r.db", run_id="r").run({"x": [1, 2]})
    with WorkflowDB(tmp_path / "r.db") as db:
        assert "x[2]['lock']: _thread.lock" in repr(db.load_checkpoint("r", 0)["x"])


def test_an_element_under_a_key_that_is_no_utf_8_costs_itself_only(tmp_path: Path) -> None:
    """The mark shows the key escaped, in a snapshot and in a database."""
    key = "a\ud800"
    Flow(Keeps(), db_path=tmp_path / "r.db", run_id="r").run({key: [1, LOCK]})
    with WorkflowDB(tmp_path / "r.db") as db:
        stores = [db.load_checkpoint("r", 0)]
    stores.append(Store.restore(Store({key: [1, LOCK]}).snapshot(tmp_path / "s.json")))
    for store in stores:
        assert store[key][0] == 1
        assert "a\\ud800[1]: _thread.lock cannot be stored" in repr(store[key][1])


def test_the_mark_of_an_element_outlives_every_further_copy(tmp_path: Path) -> None:
    """A store that was read back is saved again with the same mark, and under a schema, too."""
    first = Store({"x": {"lock": LOCK, "n": 1}}).snapshot(tmp_path / "1.json")

    class Typed(BaseModel):
        x: dict[str, int]

    store = Store.restore(first, schema=Typed)
    store.recheck("x")
    second = store.snapshot(tmp_path / "2.json")
    assert json.loads(first.read_text())["data"] == json.loads(second.read_text())["data"]
    store["x"] = {"n": 2}
    store["x"]["n"] = "two"
    with pytest.raises(TypeError):
        store.recheck("x")


class Means(Node[None, Any, str]):
    """Computes a scalar, which is paid for."""

    calls = 0
    broken = True

    def exec(self, prepared: None) -> Any:
        type(self).calls += 1
        return {"mean": np.array([1.0, 2.0]).mean(), "of": [Name("a")]}

    def post(self, store: Store[Any], prepared: None, result: Any) -> str:
        if self.broken:
            raise OSError("down")
        store["mean"] = result
        return "default"


def test_a_result_with_a_scalar_is_not_paid_for_again(tmp_path: Path) -> None:
    """It is on record as it is, so a resume does not call ``exec``."""
    flow = Flow(Means(), db_path=tmp_path / "r.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        flow.run({})
    Means.broken = False
    mean = flow.resume("r")["mean"]
    assert (Means.calls, mean["mean"], type(mean["mean"])) == (1, 1.5, np.float64)
    assert type(mean["of"][0]) is Name


@pytest.mark.parametrize(
    "data",
    [
        {"a": {"$type": "tuple", "value": [1]}, "lock": "<non-serialisable: lock>"},
        {"post": {"$type": "app.post", "text": "hi"}},
        {
            "a": {"$type": "unsaved", "value": ["x", "y"]},
            "b": [{"$type": "model", "class": "os:x"}],
        },
    ],
)
def test_a_snapshot_of_0_2_1_is_what_is_in_the_file(data: Any, tmp_path: Path) -> None:
    """It has no version of an encoding, so that nothing in it is taken for one of ours."""
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"name": "s", "data": data}))
    store: Store[Any] = Store.restore(path)
    assert store == data
    again: Store[Any] = Store.restore(store.snapshot(tmp_path / "new.json"))
    assert again == data


def test_a_snapshot_of_a_later_encoding_is_refused(tmp_path: Path) -> None:
    """What this version cannot read is an error that says so, not a value."""
    path = tmp_path / "later.json"
    path.write_text('{"name": "s", "encoding": 99, "data": {}}')
    with pytest.raises(DecodeError, match=r"later\.json.*encoding 99"):
        Store.restore(path)
