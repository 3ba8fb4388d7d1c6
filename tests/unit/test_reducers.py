"""Reducers: fields that take increments."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, Field, create_model
from typing_extensions import TypeAliasType

from pocoflow import FanOut, Flow, Node, Parallel, Store, fields, key, node
from pocoflow.errors import (
    BranchError,
    DefinitionError,
    InvalidValueError,
    MissingKeyError,
    StoreError,
)
from pocoflow.reducers import Reducer, add, append, extend, item, latest, merge
from pocoflow.store.increments import increments_between

DICTS = st.dictionaries(st.text(max_size=2), st.integers())


class Board(BaseModel):
    log: Annotated[list[str], append] = []
    pages: Annotated[list[str], extend] = []
    total: Annotated[int, add] = 0
    seen: Annotated[dict[str, int], merge] = {}
    best: Annotated[float, max] = Field(0.0, ge=0)
    word: Annotated[str, latest] = ""
    plain: list[str] = []
    later: Annotated[list[str], append]


B = fields(Board)


def test_increments_are_reduced() -> None:
    """``reduce`` gives each reducer the old value and the update, and stores what it returns."""
    store = Store(schema=Board)
    for update in ("a", "b"):
        store.reduce("log", update)
    store.reduce("pages", ("x", "y"))
    store.reduce("total", 3)
    store.reduce("total", 4)
    store.reduce("seen", {"a": 1})
    store.reduce("seen", {"a": 2, "b": 3})
    store.reduce("best", 0.5)
    store.reduce("best", 0.25)
    store.reduce("word", "last")
    assert store.as_dict() == {
        "log": ["a", "b"],
        "pages": ["x", "y"],
        "total": 7,
        "seen": {"a": 2, "b": 3},
        "best": 0.5,
        "word": "last",
        "plain": [],
    }


def test_reducers_change_nothing_in_place() -> None:
    """The old value is left as it was, so that whoever holds it does not see it change."""
    store = Store(schema=Board)
    store.reduce("log", "a")
    before = store["log"]
    store.reduce("log", "b")
    assert (before, store["log"]) == (["a"], ["a", "b"])


def test_writes_on_a_reducer_field_gives_increments() -> None:
    """``writes=`` gives an increment, in a loop too; beside it other fields are assigned."""

    @node(writes=item(B.log))
    def say(total: int) -> str:
        return f"round {total}"

    @node(writes=(B.total, B.plain))
    def count(log: list[str]) -> tuple[int, list[str]]:
        return 1, log[-1:]

    flow = Flow(say, schema=Board)
    flow.then(say, count)
    store = flow.run({})
    flow.run(store)
    assert store["log"] == ["round 0", "round 1"]
    assert (store["total"], store["plain"]) == (2, ["round 1"])


def test_a_batch_extends() -> None:
    """The list of results of ``each=`` is one increment."""

    @node(each=B.plain, writes=B.pages)
    def fetch(url: str) -> str:
        return url.upper()

    flow = Flow(fetch, schema=Board)
    store = flow.run(Board(plain=["a", "b"], later=[]))
    assert flow.run(store)["pages"] == ["A", "B", "A", "B"]


def test_plain_assignment_sets_the_whole_value() -> None:
    """In sequence a field with a reducer can be set as a whole, such as to be emptied."""
    store = Store(schema=Board)
    store.reduce("log", "a")
    store["log"] = []
    store.reduce("log", "b")
    assert store["log"] == ["b"]


def test_a_dict_of_types_declares_reducers_too() -> None:
    """``{"log": Annotated[list, append]}`` reduces; other keys are assigned."""
    store = Store({"log": []}, schema={"log": Annotated[list, append], "n": int})
    store.reduce("log", 1)
    store.put({"log": 2, "n": 3, "free": 4})
    assert store.as_dict() == {"log": [1, 2], "n": 3, "free": 4}


def test_a_wrong_increment_changes_nothing() -> None:
    """What a reducer returns is checked like any write; all increments of a call, or none."""
    store = Store(schema=Board)
    with pytest.raises(InvalidValueError, match="field 'log' expects"):
        store.put({"total": 1, "log": 3})
    with pytest.raises(TypeError, match="not supported"):
        store.apply({"plain": ["x"]}, [("total", 1), ("best", float("inf")), ("best", "much")])
    assert (store["total"], store["log"], store["best"], store["plain"]) == (0, [], 0.0, [])


def test_a_reducer_that_fails_says_whose_it_is() -> None:
    """Its exception comes through with a note that names the reducer and the field."""
    with pytest.raises(TypeError) as caught:
        Store(schema=Board).reduce("pages", 3)
    assert caught.value.__notes__ == ["pocoflow: in reducer extend of field 'pages'"]


def test_a_text_is_not_taken_apart() -> None:
    """``extend`` takes several items; what it is given by mistake is not spread over the list."""
    store = Store(schema=Board)
    with pytest.raises(TypeError, match="not a str: put it into a list"):
        store.reduce("pages", "one")
    assert store["pages"] == []


def test_a_field_without_a_reducer_is_refused() -> None:
    """``reduce`` on another field, or without a schema, says how to declare a reducer."""
    for store in (Store(schema=Board), Store({"plain": []})):
        with pytest.raises(StoreError, match="key 'plain' has no reducer: declare one"):
            store.reduce("plain", "x")


def test_a_field_without_a_value_is_refused() -> None:
    """A field that is not set yet has nothing to reduce into: the message asks for a default."""
    with pytest.raises(MissingKeyError, match=r"'later' takes increments \(append\)"):
        Store(schema=Board).reduce("later", "x")


def test_two_reducers_on_one_field_are_refused() -> None:
    """A field declares one reducer."""

    class Twice(BaseModel):
        log: Annotated[list[str], append, extend] = []

    for schema in (Twice, {"log": Annotated[list[str], append, extend]}):
        with pytest.raises(DefinitionError, match="'log' declares several reducers"):
            Store(schema=schema)


@pytest.mark.parametrize(
    ("kind", "reducer"),
    [(int, append), (str, extend), (list[str], merge), (dict[str, int], append)],
)
def test_a_reducer_that_never_suits_its_field_is_refused(kind: Any, reducer: Reducer) -> None:
    """Where it is declared, and not by the first node that writes the field."""
    said = "its reducer (append|extend|merge) makes a (list|dict)"
    declared: Any = Annotated[kind, reducer]
    for schema in ({"it": declared}, create_model("Odd", it=(declared, ...))):
        with pytest.raises(DefinitionError, match=said):
            Flow(Node(), schema=schema)


def test_increments_are_durable(tmp_path: Path) -> None:
    """A resumed run has each increment once."""
    broken = [True]

    @node(writes=item(B.log))
    def say() -> str:
        return "said"

    @node(writes=B.total)
    def count() -> int:
        if broken:
            raise RuntimeError
        return 1

    flow = Flow(say, schema=Board, db_path=tmp_path / "runs.db", run_id="reduced")
    flow.then(say, count)
    with pytest.raises(RuntimeError):
        flow.run({})
    broken.clear()
    store: Any = flow.resume("reduced")
    assert (store["log"], store["total"]) == (["said"], 1)


@given(
    st.one_of(
        st.tuples(st.just(append), st.lists(st.integers()), st.lists(st.integers())),
        st.tuples(st.just(extend), st.lists(st.integers()), st.lists(st.lists(st.integers()))),
        st.tuples(st.just(add), st.integers(), st.lists(st.integers())),
        st.tuples(st.just(merge), DICTS, st.lists(DICTS)),
        st.tuples(st.just(latest), st.text(), st.lists(st.text())),
        st.tuples(st.just(max), st.integers(), st.lists(st.integers())),
    )
)
def test_increments_are_found_between_two_values(case: tuple[Any, Any, list[Any]]) -> None:
    """Whatever a reducer made of a value, there are increments that make the same of it again."""
    reducer, old, updates = case
    value = reduce(reducer, updates, old)
    found = increments_between(reducer, old, value)
    assert found is not None
    assert reduce(reducer, found, old) == value


class Load(Node):
    """Sets a field, as a flow does that has no reducers."""

    def __init__(self, out: Any) -> None:
        super().__init__()
        self.out = out
        self.paid: list[str] = []

    def prep(self, store: Store[Any]) -> Any:
        return store["file"]

    def exec(self, file: str) -> str:
        self.paid.append(file)
        return file.upper()

    def post(self, store: Store[Any], file: str, text: str) -> None:
        store["out"] = self.out(store, file, text)


def loading(load: Load, folder: Path, schema: Mapping[str, Any]) -> Flow[Any]:
    """A flow that runs it on two files."""
    fan_out = FanOut(load, each=key("files"), as_=key("file"), concurrency=1)
    kinds = {"files": list[str], **schema}
    return Flow(fan_out, schema=kinds, db_path=folder / "runs.db", flow_name="loading")


@pytest.mark.parametrize(
    ("kind", "reducer", "begin", "out", "wanted"),
    [
        (dict, merge, {}, lambda s, f, t: {f: t}, {"a": "A", "b": "B"}),
        (
            dict,
            merge,
            {"z": "Z"},
            lambda s, f, t: {**s["out"], f: t},
            {"z": "Z", "a": "A", "b": "B"},
        ),
        (list, extend, ["z"], lambda s, f, t: [*s["out"], t], ["z", "A", "B"]),
        (list, append, [], lambda s, f, t: [t], ["A", "B"]),
        (int, add, 5, lambda s, f, t: s["out"] + ord(t), 5 + 65 + 66),
    ],
)
def test_what_branches_set_becomes_increments_of_a_later_reducer(
    kind: Any, reducer: Any, begin: Any, out: Any, wanted: Any, tmp_path: Path
) -> None:
    """A reducer, as the error about branches that wrote one key asks for, saves what was paid."""
    load = Load(out)
    flow = loading(load, tmp_path, {"out": kind})
    flow.run_id = "r"
    with pytest.raises(BranchError, match=r"key 'out' was changed by the branches"):
        flow.run({"files": ["a", "b"], "out": begin})
    flow = loading(load, tmp_path, {"out": Annotated[kind, reducer]})
    assert flow.resume("r")["out"] == wanted
    assert load.paid == ["a", "b"]


class Logs(Node):
    """Adds its name to a list, with a reducer or without, and counts."""

    def __init__(self, name: str, fails: bool) -> None:
        super().__init__(name=name)
        self.fails = fails

    def prep(self, store: Store[Any]) -> None:
        if self.fails:
            raise OSError("down")

    def post(self, store: Store[Any], prepared: None, result: None) -> None:
        store.reduce("count", 1)
        if store.schema["log"] == list[str]:
            store["log"] = [*store["log"], self.name]
        else:
            store.reduce("log", [self.name])


@pytest.mark.parametrize("begins_with", [True, False])
def test_a_reducer_that_comes_and_goes_loses_nothing(tmp_path: Path, begins_with: bool) -> None:
    """Whatever a branch had written under each of the schemas is there at the end."""
    kinds = [Annotated[list[str], extend], list[str]]
    names = ["a", "b", "c", "d", "e"]

    def build(attempt: int) -> Flow[Any]:
        nodes = [Logs(name, number == attempt) for number, name in enumerate(names)]
        for one, successor in pairwise(nodes):
            one.then("default", successor)
        schema = {"log": kinds[(attempt + begins_with) % 2], "count": Annotated[int, add]}
        fork = Parallel(Flow(nodes[0], flow_name="inner"), name="fork")
        return Flow(fork, schema=schema, db_path=tmp_path / "runs.db", run_id="r")

    with pytest.raises(OSError, match="down"):
        build(1).run({"log": [], "count": 0})
    for attempt in (2, 3, 4):
        with pytest.raises(OSError, match="down"):
            build(attempt).resume("r")
    store = build(5).resume("r")
    assert (store["log"], store["count"]) == (names, len(names))


def test_what_became_an_increment_is_kept_by_the_next_crash(tmp_path: Path) -> None:
    """What a branch had set before there was a reducer counts however often the run goes on."""

    def build(attempt: int, kind: Any) -> Flow[Any]:
        nodes = [Logs(name, number == attempt) for number, name in enumerate("abc")]
        for one, successor in pairwise(nodes):
            one.then("default", successor)
        schema = {"log": kind, "count": Annotated[int, add]}
        fork = Parallel(Flow(nodes[0], flow_name="inner"), name="fork")
        return Flow(fork, schema=schema, db_path=tmp_path / "runs.db", run_id="r")

    with pytest.raises(OSError, match="down"):
        build(1, list[str]).run({"log": [], "count": 0})
    with pytest.raises(OSError, match="down"):
        build(2, Annotated[list[str], extend]).resume("r")
    store = build(3, Annotated[list[str], extend]).resume("r")
    assert (store["log"], store["count"]) == (["a", "b", "c"], 3)


def test_what_no_increment_gives_is_refused(tmp_path: Path) -> None:
    """What a branch had set is never dropped: where it cannot be an increment, the run says so."""
    load = Load(lambda store, file, text: [text])
    flow = loading(load, tmp_path, {"out": list})
    flow.run_id = "r"
    with pytest.raises(BranchError, match=r"key 'out' was changed by the branches"):
        flow.run({"files": ["a", "b"], "out": ["z"]})
    reduced = loading(load, tmp_path, {"out": Annotated[list[str], append]})
    with pytest.raises(BranchError, match=r"no increment makes \['A'\] of \['z'\]"):
        reduced.resume("r")
    replaced = loading(load, tmp_path, {"out": Annotated[list[str], latest]})
    assert replaced.resume("r")["out"] == ["B"]
    assert load.paid == ["a", "b"]


Item = TypeVar("Item")
Log = TypeAliasType("Log", Annotated[list[int], operator.add])
Marked = TypeAliasType("Marked", Annotated[Log, "a remark"])
Many = TypeAliasType("Many", Annotated[list[Item], append], type_params=(Item,))


class Named(BaseModel):
    """Fields whose reducers are declared by the names of types."""

    log: Log = [0]
    marked: Marked = [0]
    maybe: Log | None = [0]
    many: Many[int] = [0]


def test_a_reducer_behind_a_named_type_counts() -> None:
    """In a model and in a dict of types, also behind two names, an optional and arguments."""
    kinds = {"log": Log, "marked": Marked, "many": Many[int]}
    given = {name: [0] for name in kinds}
    for store in (Store[Any](schema=Named), Store[Any](given, schema=kinds)):
        for name in kinds:
            store.reduce(name, 1 if name == "many" else [1])
            assert store[name] == [0, 1]
    optional: Store[Any] = Store(schema=Named)
    optional.reduce("maybe", [1])
    assert optional["maybe"] == [0, 1]


def test_a_named_type_with_a_reducer_is_no_part_of_another() -> None:
    """Nothing would call it there."""
    with pytest.raises(DefinitionError, match="for a part of its value"):
        Store(schema={"logs": dict[str, Log]})


def test_a_dict_of_types_takes_a_reducer_of_a_class_with_a_configuration() -> None:
    """Of a model and of a dataclass; a value that is not one is refused."""

    @dataclass
    class Point:
        x: int = 0

    annotated: Any = Annotated
    for kind, value in ((Named, Named()), (Point, Point())):
        store: Store[Any] = Store({"it": value}, schema={"it": annotated[kind, latest]})
        store.reduce("it", value)
        assert store["it"] == value
        with pytest.raises(InvalidValueError):
            store["it"] = 3


async def later(old: Any, update: Any) -> Any:
    """Give a coroutine."""
    return update


def steps(old: Any, update: Any) -> Any:
    """Give a generator."""
    yield update


@pytest.mark.parametrize("reducer", [later, steps])
def test_a_reducer_that_gives_no_value_is_refused(reducer: Any) -> None:
    """Where it is declared, not after the node has been paid for."""
    annotated: Any = Annotated
    with pytest.raises(DefinitionError, match=r"a (coroutine|generator) function"):
        Store(schema={"log": annotated[list[int], reducer]})
