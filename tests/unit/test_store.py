"""The store as a mapping: dict-like, observed, saved and restored."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import tempfile
import threading
from collections import UserDict
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)
from pydantic import BaseModel

from pocoflow import Store
from pocoflow.errors import (
    DecodeError,
    InvalidValueError,
    MissingKeyError,
    NotSavedError,
    PocoflowError,
    UnknownFieldError,
    UnreadableKeyError,
)


class Colour(Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    y: int = 0


def recorded(store: Store[Any]) -> list[tuple[str, Any, Any]]:
    """A list that every write of the store is appended to from now on."""
    seen: list[tuple[str, Any, Any]] = []
    store.add_observer(lambda key, old, new: seen.append((key, old, new)))
    return seen


# -- a mapping ----------------------------------------------------------------------------------


def test_a_store_is_a_complete_mutable_mapping() -> None:
    """Everything that works on a dict through the mapping interface works on a store."""
    store = Store({"a": 1})
    assert isinstance(store, MutableMapping)
    assert store.setdefault("b", 2) == 2
    assert store.setdefault("b", 3) == 2
    assert store.pop("b") == 2
    assert store.pop("b", "gone") == "gone"
    assert store.get("b") is None
    assert list(store) == ["a"]
    assert list(store.items()) == [("a", 1)]
    assert list(store.values()) == [1]
    assert "a" in store
    assert "b" not in store
    assert len(store) == 1
    assert bool(store)
    assert {**store} == {"a": 1}
    del store["a"]
    assert not store
    store.update([("c", 3)], d=4)
    assert store == {"c": 3, "d": 4}
    assert store.popitem() in (("c", 3), ("d", 4))
    store.clear()
    assert store == {}


def test_a_store_is_built_from_any_mapping_or_from_nothing() -> None:
    """Initial data may be a dict, another mapping, another store, or absent."""
    assert Store() == {}
    assert Store(None) == {}
    assert Store({}) == {}
    assert Store(UserDict({"a": 1})) == {"a": 1}
    assert Store(Store({"a": 1})) == {"a": 1}


def test_the_initial_mapping_is_copied_and_its_values_are_not() -> None:
    """A write to a store never changes the mapping that it was built from."""
    given: dict[str, Any] = {"items": [1]}
    store = Store(given)
    store["more"] = 2
    assert given == {"items": [1]}
    assert store["items"] is given["items"]


def test_as_dict_is_a_dict_of_its_own() -> None:
    """``as_dict`` gives the values, and writing to it does not write to the store."""
    store = Store({"a": [1]})
    copied = store.as_dict()
    assert type(copied) is dict
    copied["b"] = 2
    assert store == {"a": [1]}
    assert copied["a"] is store["a"]


def test_the_repr_shows_name_and_values() -> None:
    """Printing a store tells which one it is and what is in it."""
    assert repr(Store({"a": 1}, name="orders")) == "Store('orders', {'a': 1})"
    assert repr(Store({"a": 1})) == "Store({'a': 1})"


def test_a_name_that_is_no_text_is_refused_where_it_is_given() -> None:
    """Whether the store is made with it or gets it later: errors and databases show it as text."""
    wrong: Any = 5
    with pytest.raises(InvalidValueError, match="name of a store is a text, not 5"):
        Store({}, name=wrong)
    store = Store({}, name="kept")
    with pytest.raises(InvalidValueError, match="name of a store is a text, not 5"):
        store.name = wrong
    assert store.name == "kept"


def test_a_field_that_is_called_name_is_not_the_name_of_the_store() -> None:
    """What was meant for the field is refused, and not taken for the name of the store."""

    class Person(BaseModel):
        name: str = ""

    for schema in (Person, {"name": str}):
        store = Store({"name": "Ann"}, schema=schema, name="people")
        with pytest.raises(UnknownFieldError, match=r"did you mean store\['name'\] = 'Bob'\?"):
            store.name = "Bob"
        with pytest.raises(UnknownFieldError):
            del store.name
        assert (store.name, store["name"]) == ("people", "Ann")


def test_the_state_of_a_store_is_not_replaced() -> None:
    """Whoever assigns a whole model is told to write its fields, not a key of that name."""
    store: Any = Store({"score": 1}, name="orders")
    with pytest.raises(UnknownFieldError, match=r"store\.state\.field = \.\.\.") as caught:
        store.state = {"score": 2}
    assert "store['state']" not in str(caught.value)
    assert store["score"] == 1


def test_a_missing_key_is_a_key_error_that_names_store_key_and_near_miss() -> None:
    """Reading a key that is not there says which store, which key, and what was meant."""
    store = Store({"summary": "", "score": 1}, name="orders")
    with pytest.raises(KeyError) as caught:
        store["sumary"]
    assert isinstance(caught.value, MissingKeyError)
    assert isinstance(caught.value, PocoflowError)
    text = str(caught.value)
    assert "store 'orders'" in text
    assert "no key 'sumary'" in text
    assert "did you mean 'summary'?" in text
    assert "'score'" in text


def test_a_missing_key_of_an_empty_store_has_no_suggestion() -> None:
    """Nothing is suggested where nothing is near."""
    with pytest.raises(KeyError, match=r"store has no key 'x' \(keys: none\)"):
        Store()["x"]


@pytest.mark.parametrize(
    "delete",
    [lambda store: store.pop("x"), lambda store: store.__delitem__("x")],
    ids=["pop", "del"],
)
def test_deleting_a_missing_key_names_it(delete: Callable[[Store[Any]], object]) -> None:
    """``del`` and ``pop`` of a key that is not there raise the same error as reading it."""
    with pytest.raises(KeyError, match="store 'orders' has no key 'x'"):
        delete(Store({"a": 1}, name="orders"))


@pytest.mark.parametrize(
    "write",
    [
        lambda key: Store(cast(Any, {key: 1}), name="orders"),
        lambda key: Store(name="orders").__setitem__(key, 1),
        lambda key: Store(name="orders").update({key: 1}),
        lambda key: Store(name="orders").setdefault(key, 1),
        lambda key: Store.over(cast(Any, {key: 1}), name="orders"),
    ],
    ids=["build", "set", "update", "setdefault", "over"],
)
@pytest.mark.parametrize("key", [1, None, ("a", 1)])
def test_a_key_that_is_not_a_string_is_refused(write: Callable[[Any], object], key: Any) -> None:
    """A key that no snapshot could give back equal never gets into a store."""
    with pytest.raises(TypeError) as caught:
        write(key)
    assert "store 'orders'" in str(caught.value)
    assert type(key).__name__ in str(caught.value)
    assert repr(key) in str(caught.value)


def test_update_takes_what_dict_update_takes() -> None:
    """``update`` accepts a mapping, pairs and keyword arguments."""
    store = Store({"a": 1})
    store.update({"b": 2})
    store.update([("c", 3)])
    store.update(d=4)
    store.update({"a": 9}, b=8)
    store.update()
    assert store == {"a": 9, "b": 8, "c": 3, "d": 4}


def test_a_store_is_updated_by_its_operator() -> None:
    """As a dict is: all or nothing, and it is the same store afterwards."""
    store: Store[Any] = Store({"a": 1}, schema={"a": int, "b": int})
    same = store
    store |= {"a": 2, "c": 3}
    store |= [("b", 4)]
    assert same is store
    assert dict(store) == {"a": 2, "c": 3, "b": 4}
    with pytest.raises(InvalidValueError):
        store |= {"a": 5, "b": "text"}
    assert store["a"] == 2


@pytest.mark.parametrize("given", [dict, "text"])
def test_a_store_is_made_of_its_values(given: Any) -> None:
    """A schema in their place, or a text, is told what comes first."""
    with pytest.raises(InvalidValueError, match=r"the values come first, .*schema=Model"):
        Store(given)


def test_update_writes_nothing_if_its_source_fails() -> None:
    """An iterable that raises half-way leaves the store as it was."""

    def pairs() -> Any:
        yield "a", 2
        raise RuntimeError("the source is gone")

    store = Store({"a": 1})
    seen = recorded(store)
    with pytest.raises(RuntimeError, match="the source is gone"):
        store.update(pairs())
    assert store == {"a": 1}
    assert seen == []


def test_a_store_over_a_dict_writes_to_that_dict() -> None:
    """``Store.over`` keeps its values in its owner's dict, which sees each write and deletion."""
    owned: dict[str, Any] = {"a": 1}
    store = Store.over(owned, name="mine")
    store["b"] = 2
    del store["a"]
    assert owned == {"b": 2}
    owned["c"] = 3
    assert store["c"] == 3


# -- observers ----------------------------------------------------------------------------------


def test_an_observer_is_told_key_old_and_new_of_every_write() -> None:
    """Each way to write or delete tells the observers; ``None`` stands for absent."""
    store = Store({"a": 1})
    seen = recorded(store)
    store["a"] = 2
    store["b"] = 3
    store.setdefault("b", 9)
    store.setdefault("c", 4)
    store.update(a=5, d=6)
    del store["a"]
    store.pop("b")
    assert seen == [
        ("a", 1, 2),
        ("b", None, 3),
        ("c", None, 4),
        ("a", 2, 5),
        ("d", None, 6),
        ("a", 5, None),
        ("b", 3, None),
    ]


def test_observers_are_told_after_the_whole_update() -> None:
    """An observer never sees a half-written update."""
    store = Store({"a": 1, "b": 1})
    seen: list[dict[str, Any]] = []
    store.add_observer(lambda key, old, new: seen.append(store.as_dict()))
    store.update(a=2, b=2)
    assert seen == [{"a": 2, "b": 2}, {"a": 2, "b": 2}]


def test_observers_are_told_in_the_order_in_which_they_were_added() -> None:
    """Two observers hear of a write one after the other, the first added first."""
    store = Store()
    order: list[str] = []
    store.add_observer(lambda key, old, new: order.append("first"))
    store.add_observer(lambda key, old, new: order.append("second"))
    store["a"] = 1
    assert order == ["first", "second"]


def test_a_failing_observer_is_logged_and_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The write stands, the other observers are told, and the log has key and traceback."""
    store = Store(name="orders")

    def broken(key: str, old: object, new: object) -> None:
        raise ValueError("observer is broken")

    store.add_observer(broken)
    seen = recorded(store)
    with caplog.at_level(logging.ERROR, logger="pocoflow"):
        store["a"] = 1
    assert store["a"] == 1
    assert seen == [("a", None, 1)]
    (record,) = caplog.records
    assert record.name == "pocoflow.store"
    assert "store 'orders'" in record.getMessage()
    assert "'a'" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


def test_a_keyboard_interrupt_in_an_observer_is_not_swallowed() -> None:
    """Only an ``Exception`` of an observer is caught: Ctrl-C ends the program."""
    store = Store()

    def interrupted(key: str, old: object, new: object) -> None:
        raise KeyboardInterrupt

    store.add_observer(interrupted)
    with pytest.raises(KeyboardInterrupt):
        store["a"] = 1


def test_a_removed_observer_hears_nothing_more() -> None:
    """``remove_observer`` ends it, and removing one that was not added is an error."""
    store = Store()
    seen: list[str] = []

    def observer(key: str, old: object, new: object) -> None:
        seen.append(key)

    store.add_observer(observer)
    store["a"] = 1
    store.remove_observer(observer)
    store["b"] = 2
    assert seen == ["a"]
    with pytest.raises(ValueError, match=r"store: .*observer.* is not among"):
        store.remove_observer(observer)


def test_an_observer_may_remove_itself_while_it_is_told() -> None:
    """The others still hear of the write during which one observer left."""
    store = Store()
    seen: list[str] = []

    def once(key: str, old: object, new: object) -> None:
        seen.append("once")
        store.remove_observer(once)

    store.add_observer(once)
    store.add_observer(lambda key, old, new: seen.append("always"))
    store["a"] = 1
    store["a"] = 2
    assert seen == ["once", "always", "always"]


# -- snapshots ----------------------------------------------------------------------------------


def test_a_snapshot_restores_equal(tmp_path: Path) -> None:
    """Values come back with their types, and the store with its name."""
    values: dict[str, Any] = {
        "text": "Grüße 🦆",
        "numbers": [1, 2.5, True, None],
        "pair": (1, "two"),
        "kinds": {"a", "b"},
        "raw": b"\x00\xff",
        "when": datetime(2026, 2, 17, 14, 30, tzinfo=UTC),
        "price": Decimal("1.50"),
        "by_number": {1: "one", "1": "text"},
        "colour": Colour.RED,
        "point": Point(x=1),
        "path": Path("a/b"),
    }
    store = Store(values, name="orders")
    restored = Store.restore(store.snapshot(tmp_path / "store.json"))
    assert restored == values
    assert restored.name == "orders"
    assert {key: type(value) for key, value in restored.items()} == {
        key: type(value) for key, value in values.items()
    }
    assert list(restored) == list(values)


def test_a_snapshot_is_the_documented_json(tmp_path: Path) -> None:
    """Plain values are plain JSON; the encoding of the others has a version."""
    Store({"a": [1, {"b": None}]}, name="n").snapshot(tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text()) == {
        "name": "n",
        "encoding": 1,
        "data": {"a": [1, {"b": None}]},
    }


def test_snapshot_makes_the_folders_above_and_returns_the_path(tmp_path: Path) -> None:
    """A snapshot may go to a folder that is not there yet, given as text or as a path."""
    target = tmp_path / "run_42" / "deep" / "step_002.json"
    assert Store({"a": 1}).snapshot(str(target)) == target
    assert Store.restore(str(target)) == {"a": 1}


def test_a_snapshot_replaces_the_one_before_and_leaves_no_other_file(tmp_path: Path) -> None:
    """Writing to the same path again leaves one file, the new one."""
    path = tmp_path / "s.json"
    Store({"a": "long" * 1000}).snapshot(path)
    Store({"a": 1}).snapshot(path)
    assert Store.restore(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["s.json"]


def test_a_snapshot_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    """An error while writing is an ``OSError``, and no temporary file stays."""
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        Store({"a": 1}).snapshot(tmp_path / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_value_that_cannot_be_stored_is_named_when_it_is_read(tmp_path: Path) -> None:
    """A snapshot keeps the rest; reading the lost key after a restore says "not saved" and why."""
    store = Store({"lock": threading.Lock(), "deep": {"list": [1, open]}, "ok": 1}, name="orders")
    restored = Store.restore(store.snapshot(tmp_path / "s.json"))
    assert set(restored) == {"ok", "deep"}
    with pytest.raises(NotSavedError) as caught:
        restored["lock"]
    assert isinstance(caught.value, KeyError)
    assert "store 'orders'" in str(caught.value)
    assert "'lock' was not saved" in str(caught.value)
    assert "lock cannot be stored" in str(caught.value)
    assert restored["deep"]["list"][0] == 1
    with pytest.raises(NotSavedError, match=r"deep\['list'\]\[1\]"):
        restored["deep"]["list"][1]()
    assert set(restored.unsaved) == {"lock"}
    assert restored.unsaved["lock"].type_name == "_thread.lock"


def test_deleting_what_was_not_saved_says_so() -> None:
    """``del`` of a key that was not saved raises the error that reading it raises."""
    with tempfile.TemporaryDirectory() as folder:
        restored = Store.restore(Store({"f": open}).snapshot(Path(folder) / "s.json"))
    with pytest.raises(NotSavedError, match="'f' was not saved"):
        del restored["f"]


def test_a_default_does_not_hide_that_a_value_was_not_saved(tmp_path: Path) -> None:
    """``get`` and ``pop`` of what was not saved raise, with a default, too; nothing is removed."""
    restored = Store.restore(Store({"f": open, "a": 1}).snapshot(tmp_path / "s.json"))
    for ask in (restored.get, restored.pop):
        with pytest.raises(NotSavedError, match="'f' was not saved"):
            cast(Any, ask)("f", None)
    assert set(restored.unsaved) == {"f"}
    assert restored.pop("gone", None) is None


def test_a_value_that_cannot_be_read_is_not_written_over_by_a_default(tmp_path: Path) -> None:
    """``setdefault`` is for a key without a value: one whose class is not found here has one."""
    made = dataclasses.make_dataclass("Elsewhere", ["n"])
    made.__module__ = "not_here"
    restored = Store.restore(Store({"it": made(1)}).snapshot(tmp_path / "s.json"))
    with pytest.raises(UnreadableKeyError, match="Elsewhere"):
        restored.setdefault("it", 2)
    assert set(restored.unsaved) == {"it"}
    restored["it"] = 2
    assert restored.setdefault("it", 3) == 2


def test_a_value_set_again_is_no_longer_unsaved(tmp_path: Path) -> None:
    """Writing to a key that was not saved ends its mark; ``setdefault`` is a way to do it."""
    store = Store({"a": open, "b": open, "c": open})
    restored = Store.restore(store.snapshot(tmp_path / "s.json"))
    restored["a"] = 1
    assert restored.setdefault("b", 2) == 2
    assert restored == {"a": 1, "b": 2}
    assert set(restored.unsaved) == {"c"}


def test_what_was_not_saved_stays_named_in_the_next_snapshot(tmp_path: Path) -> None:
    """A snapshot of a restored store still knows what the first one could not keep."""
    first = Store.restore(Store({"a": open, "b": 1}).snapshot(tmp_path / "1.json"))
    second = Store.restore(first.snapshot(tmp_path / "2.json"))
    with pytest.raises(NotSavedError, match="'a' was not saved"):
        second["a"]
    assert second == {"b": 1}


def test_restore_of_a_file_that_is_not_there_is_file_not_found(tmp_path: Path) -> None:
    """The builtin that everybody expects, naming the file."""
    with pytest.raises(FileNotFoundError, match=r"no\.json"):
        Store.restore(tmp_path / "no.json")


@pytest.mark.parametrize("kept", [0, 1, 10, 40, 60, -1])
def test_a_cut_snapshot_is_refused_by_name(tmp_path: Path, kept: int) -> None:
    """A file that was cut anywhere is never taken for a smaller store."""
    path = Store({"a": "text", "b": [1, 2, 3]}, name="n").snapshot(tmp_path / "cut.json")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DecodeError, match=r"cut\.json is not a snapshot of a store"):
        Store.restore(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00garbage",
        b"[]",
        b"null",
        b"17",
        b'"text"',
        b"{}",
        b'{"name": "n"}',
        b'{"data": 3}',
        b'{"data": null}',
        b'{"data": {}, "unsaved": 4}',
        b'{"data": {}, "unsaved": {"a": 1}}',
        b'{"data": {}, "unsaved": {"a": ["x", "y", "z"]}}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:40].decode("latin-1"),
)
def test_a_file_that_is_no_snapshot_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """Whatever else is in the file, the error says which file it is, and is a ``ValueError``."""
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.json is not a snapshot of a store"):
        Store.restore(path)


@pytest.mark.parametrize(
    "value",
    ['{"$type": "no such kind", "value": 1}', '{"$type": "Decimal", "value": "x"}'],
    ids=["unknown kind", "damaged value"],
)
def test_a_value_that_cannot_be_read_names_file_and_key(tmp_path: Path, value: str) -> None:
    """Whoever has to repair a snapshot is told which file and which key."""
    path = tmp_path / "damaged.json"
    path.write_text(f'{{"name": "n", "encoding": 1, "data": {{"price": {value}}}}}')
    with pytest.raises(DecodeError) as caught:
        Store.restore(path)
    assert "damaged.json" in str(caught.value)
    assert "'price'" in str(caught.value)


def test_restore_with_a_schema_checks_what_comes_back(tmp_path: Path) -> None:
    """A snapshot that does not fit the schema is refused; one that fits is typed from then on."""
    path = Store({"x": 1}).snapshot(tmp_path / "s.json")
    restored = Store.restore(path, schema=Point)
    assert restored == {"x": 1, "y": 0}
    assert restored.state.x == 1
    with pytest.raises(TypeError, match="'x' expects int, got str"):
        restored["x"] = "1"
    typed = Store.restore(path, schema={"x": int})
    with pytest.raises(TypeError, match="'x' expects int, got str"):
        typed["x"] = "1"
    with pytest.raises(InvalidValueError, match="'x' expects str, got int"):
        Store.restore(path, {"x": str})


def test_a_snapshot_can_be_written_over_another_stores_file_from_many_threads(
    tmp_path: Path,
) -> None:
    """Concurrent snapshots to one path leave one of them, whole, and no temporary file."""
    path = tmp_path / "s.json"
    ready = threading.Barrier(4)

    def write(number: int) -> None:
        ready.wait(60)
        for _ in range(5):
            Store({"first": number, "filler": "x" * 10_000, "last": number}).snapshot(path)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    restored = Store.restore(path)
    assert restored["first"] == restored["last"]
    assert os.listdir(tmp_path) == ["s.json"]


# -- the store against a dict -------------------------------------------------------------------


class Typed(BaseModel):
    number: int
    text: str = ""


KEYS = st.sampled_from(["number", "text", "other", "nombre", ""])
VALUES = st.one_of(
    st.integers(), st.booleans(), st.text(max_size=3), st.lists(st.integers(), max_size=2)
)
CHANGES = st.dictionaries(KEYS, VALUES, max_size=3)
TYPES: dict[str, type] = {"number": int, "text": str}
SCHEMAS: list[Any] = [None, TYPES, Typed]


class StoreAgainstDict(RuleBasedStateMachine):
    """Does the same to a store and to a dict; a refused write must leave both alone."""

    retired = Bundle("retired")

    @initialize(schema=st.sampled_from(SCHEMAS), own=st.booleans())
    def build(self, schema: Any, own: bool) -> None:
        self.schema = schema
        self.model: dict[str, Any] = {"text": ""} if schema is Typed else {}
        self.owned: dict[str, Any] = {}
        self.own = own
        self.follow(Store.over(self.owned, schema) if own else Store({}, schema))

    def follow(self, store: Store[Any]) -> None:
        self.store = store
        self.mirror = store.as_dict()
        store.add_observer(self.told)

    def told(self, key: str, old: Any, new: Any) -> None:
        assert self.mirror.get(key) == old
        if new is None:
            self.mirror.pop(key)
        else:
            self.mirror[key] = new

    def refusal(self, changes: Mapping[str, Any]) -> type[Exception] | None:
        if self.schema is Typed and not changes.keys() <= TYPES.keys():
            return UnknownFieldError
        for key, value in changes.items():
            if self.schema is not None and key in TYPES and type(value) is not TYPES[key]:
                return InvalidValueError
        return None

    def attempt(self, changes: Mapping[str, Any], write: Callable[[], object]) -> None:
        refusal = self.refusal(changes)
        if refusal is None:
            write()
            self.model.update(changes)
        else:
            with pytest.raises(refusal):
                write()

    @rule(key=KEYS, value=VALUES)
    def set_one(self, key: str, value: Any) -> None:
        self.attempt({key: value}, lambda: self.store.__setitem__(key, value))

    @rule(changes=CHANGES)
    def update(self, changes: dict[str, Any]) -> None:
        self.attempt(changes, lambda: self.store.update(changes))

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key: str, value: Any) -> None:
        if key in self.model:
            assert self.store.setdefault(key, value) == self.model[key]
        else:
            self.attempt({key: value}, lambda: self.store.setdefault(key, value))

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        if key in self.model:
            del self.store[key]
            del self.model[key]
        else:
            with pytest.raises(MissingKeyError):
                del self.store[key]

    @rule(key=KEYS, default=VALUES)
    def pop(self, key: str, default: Any) -> None:
        assert self.store.pop(key, default) == self.model.pop(key, default)

    @rule()
    def popitem(self) -> None:
        if self.model:
            key, value = self.store.popitem()
            assert self.model.pop(key) == value
        else:
            with pytest.raises(KeyError):
                self.store.popitem()

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model.clear()

    @rule(target=retired)
    def save_and_restore(self) -> tuple[Store[Any], dict[str, Any]]:
        before = self.store
        with tempfile.TemporaryDirectory() as folder:
            path = before.snapshot(Path(folder) / "s.json")
            self.follow(Store.restore(path, schema=self.schema))
        if self.schema is Typed:
            self.model.setdefault("text", "")
        self.own = False
        return before, before.as_dict()

    @rule(pair=consumes(retired))
    def restored_stores_are_independent(self, pair: tuple[Store[Any], dict[str, Any]]) -> None:
        store, values = pair
        assert store == values

    @invariant()
    def is_the_same(self) -> None:
        assert self.store == self.model
        assert len(self.store) == len(self.model)
        assert sorted(self.store) == sorted(self.model)
        assert {key: type(value) for key, value in self.store.items()} == {
            key: type(value) for key, value in self.model.items()
        }
        assert self.mirror == self.model
        if self.own:
            assert self.owned == self.model
        for key in (*TYPES, "other", "absent"):
            assert (key in self.store) == (key in self.model)
            assert self.store.get(key, "default") == self.model.get(key, "default")


TestStoreAgainstDict = StoreAgainstDict.TestCase
TestStoreAgainstDict.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
