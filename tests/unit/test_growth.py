"""A step costs what it changed, at any depth, and every step can be restored."""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
import sqlite3
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, model_validator
from typing_extensions import TypedDict

from pocoflow import (
    END,
    AskNode,
    BatchNode,
    Flow,
    Node,
    Parallel,
    Question,
    RunPaused,
    Store,
    WorkflowDB,
    fields,
    node,
    values as codec,
)
from pocoflow.db.run_reports import export_run, stored_values
from pocoflow.errors import InvalidValueError
from pocoflow.store.watch import Watch
from pocoflow.values.changes.frozen import difference, freeze, is_same
from pocoflow.values.changes.together import apply

STEPS = 40
SAID = "something said " * 20


class Message(BaseModel):
    content: str = ""


class Talk(BaseModel):
    title: str = ""
    messages: list[Message] = []


class Topic(BaseModel):
    it: Talk = Talk()


@dataclasses.dataclass
class Notes:
    lines: list[Any] = dataclasses.field(default_factory=list)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that is not there yet."""
    return tmp_path / "runs.db"


Change = Callable[[Any, int], object]

GROWING: dict[str, tuple[Any, Change]] = {
    "list": ([], lambda it, _: [*it, {"content": SAID}]),
    "dict": ({}, lambda it, step: {**it, f"key {step}": SAID}),
    "list in a dict": ({"list": []}, lambda it, _: it["list"].append([SAID])),
    "text": ("", lambda it, _: it + SAID),
    "text in a list": ([1, ""], lambda it, _: it.append(it.pop() + SAID)),
    "window": ([], lambda it, step: [*it, f"{step} {SAID}"][-10:]),
    "window behind a prompt": ([1], lambda it, step: [1, *[*it[1:], f"{step} {SAID}"][-10:]]),
    "key that is no text": ({1: []}, lambda it, _: it[1].append(SAID)),
    "keys with quotes": ({'"\\': {"$.a": []}}, lambda it, _: it['"\\']["$.a"].append(SAID)),
    "dataclass": (Notes(), lambda it, _: it.lines.append(SAID)),
    "deque": (deque(maxlen=99), lambda it, _: it.append(SAID)),
    "list for each": (defaultdict(list), lambda it, step: it[f"{step % 3}"].append(SAID)),
    "counters beside a text": (
        {"text": SAID * 20, **dict.fromkeys("abcdefghijkl", 0)},
        lambda it, step: it.update(dict.fromkeys("abcdefghijkl", step)),
    ),
    "a list for each of many": (
        {name: [SAID, SAID] for name in "abcdefghijkl"},
        lambda it, step: [one.append(step) for one in it.values()] and None,
    ),
    "models": (Talk(), lambda it, _: it.messages.append(Message(content=SAID))),
    "a copy of a model": (
        Talk(),
        lambda it, _: it.model_copy(update={"messages": [*it.messages, Message(content=SAID)]}),
    ),
}


class Turn(Node):
    """Changes the value by a step; once, in the middle, it fails before it has done so."""

    def __init__(self, change: Change, steps: int, fails_at: int | None = None) -> None:
        super().__init__()
        self.change, self.steps, self.fails_at = change, steps, fails_at
        self.expected: list[Any] = []
        self.then("again", self).then("done", END)

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        step = len(self.expected)
        if step == self.fails_at:
            self.fails_at = None
            raise OSError("once")
        made = self.change(store["it"], step)
        if made is not None:
            store["it"] = made
        self.expected.append(copy.deepcopy(store["it"]))
        return "again" if step + 1 < self.steps else "done"


def written(path: Path) -> int:
    """How many characters of values are stored."""
    with closing(sqlite3.connect(path)) as raw:
        return int(raw.execute("SELECT sum(length(value)) FROM pf_values").fetchone()[0])


def views(path: Path) -> list[Any]:
    """What the documented view says of the value after each step, its changes put in."""
    with closing(sqlite3.connect(path)) as raw:
        found = raw.execute("SELECT store_json FROM pf_checkpoints ORDER BY step").fetchall()
    made = []
    for (text,) in found:
        tree = json.loads(text)["it"]
        if type(tree) is dict and tree.get("$type") == "changed":
            tree = apply(tree["value"], tree["changes"])
        made.append(tree)
    return made


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("schema", [None, dict[str, Any]({"it": object})], ids=["untyped", "typed"])
def test_a_step_is_stored_as_what_it_changed(path: Path, name: str, schema: Any) -> None:
    """A step costs what it changed, whichever container that is in, and every step is restored."""
    initial, change = GROWING[name]
    turn = Turn(change, STEPS, fails_at=STEPS // 2)
    flow = Flow(start=turn, db_path=path, run_id="r", schema=schema, strict=False)
    with pytest.raises(OSError, match="once"):
        flow.run({"it": copy.deepcopy(initial)})
    flow.resume("r")

    db = WorkflowDB(path)
    trees = [codec.encode(one) for one in turn.expected]
    for step, value in enumerate(turn.expected):
        assert db.load_checkpoint("r", step)["it"] == value
        assert json.loads(db.store_json("r", step))["it"] == trees[step]
        assert stored_values(db, "r", step)["it"].read() == trees[step]
        short, whole = (stored_values(db, "r", step, limit)["it"] for limit in (50, None))
        assert (short.text[:40], short.size) == (whole.text[:40], whole.size)
    assert views(path) == trees
    assert written(path) < 2 * STEPS * (len(SAID) + 60) + len(SAID) * 10
    fork = flow.fork("r", step=STEPS // 2)
    assert db.load_checkpoint(fork, -1)["it"] == turn.expected[STEPS // 2]
    assert len(export_run(db, "r")["steps"]) == STEPS + 1


class Trimmed(BaseModel):
    """What it has more of than it may is taken out in place, and counted under another key."""

    dropped: list[int] = []
    it: list[int] = []

    @model_validator(mode="after")
    def trim(self) -> Self:
        self.dropped += self.it[:-500]
        del self.it[:-500]
        return self


def test_what_validators_change_in_place_is_in_the_checkpoint_of_the_step(path: Path) -> None:
    """A step is stored as its store is after its check, whichever key validators changed."""
    turn = Turn(lambda it, step: it.append(step), 5)
    store = Store(Trimmed(it=[*range(500)]))
    Flow(start=turn, db_path=path, run_id="r").run(store)

    db = WorkflowDB(path)
    assert dict(db.load_checkpoint("r", 4)) == dict(store)
    for step in range(5):
        stored = db.load_checkpoint("r", step)
        assert (len(stored["it"]), stored["dropped"]) == (500, [*range(step + 1)])


MEDDLED: list[Any] = []


class Meddling(enum.Flag):
    """A value whose own code runs while it is written, as another thread may."""

    A, B = 1, 2

    def __eq__(self, other: object) -> bool:
        while MEDDLED:
            MEDDLED.pop()["n"] = "changed"
        return super().__eq__(other)

    __hash__ = enum.Flag.__hash__


@pytest.mark.parametrize(
    "change",
    [
        lambda it, new: it.__setitem__(slice(None), new),
        lambda it, new: it.extend(new),
        lambda it, new: it[0]["parts"].extend(new),
        lambda it, new: it[0].update(new=new),
    ],
    ids=["whole", "appended", "appended in depth", "set in depth"],
)
def test_what_changes_while_it_is_written_is_written_again(path: Path, change: Any) -> None:
    """What another thread changes in what a step writes is on record with the next one."""

    def once(it: Any, step: int) -> None:
        if step == 1:
            new: list[Any] = [{"n": 0}, Meddling.A | Meddling.B]
            change(it, new)
            MEDDLED.append(new[0])

    turn = Turn(once, 3)
    store = Flow(start=turn, db_path=path, run_id="r").run({"it": [{"text": SAID, "parts": [1]}]})
    assert "changed" in repr(store["it"])
    assert WorkflowDB(path).load_checkpoint("r", 2)["it"] == store["it"]


def test_a_typed_model_grows(path: Path) -> None:
    """A list in a model that is a field of the schema is stored by what was appended."""
    turn = Turn(lambda it, _: it.messages.append(Message(content=SAID)), STEPS)
    Flow(start=turn, db_path=path, run_id="r", schema=Topic).run(Topic())

    db = WorkflowDB(path)
    for step, value in enumerate(turn.expected):
        assert db.load_checkpoint("r", step, schema=Topic).state.it == value
    assert written(path) < 2 * STEPS * (len(SAID) + 100)


def test_a_whole_value_follows_changes_that_outweigh_it(path: Path) -> None:
    """However often something is changed, little more than the value is read for a step."""
    turn = Turn(lambda it, step: it.update(n=f"{step} {SAID}"), 60)
    initial = {"it": {"n": 0, "rest": "x" * 3000}}
    Flow(start=turn, db_path=path, run_id="r").run(initial)

    with closing(sqlite3.connect(path)) as raw:
        sizes = raw.execute("SELECT op, length(value) FROM pf_values ORDER BY step").fetchall()
    since = 0
    for op, size in sizes:
        since = since + size if op == 4 else 0
        assert since < 3 * 3400
    assert sum(op == 0 for op, _ in sizes) < 8


@pytest.mark.parametrize("name", ["list", "text", "in depth"])
def test_a_whole_value_follows_many_small_changes(path: Path, name: str) -> None:
    """However small the changes are, a step is read in the time of its value, in few more bytes."""
    values: dict[str, tuple[Any, Change]] = {
        "list": ([SAID * 20], lambda it, step: it.append(step)),
        "text": (SAID * 20, lambda it, step: f"{it}{step} "),
        "in depth": ([SAID * 20, []], lambda it, step: it[1].append(step)),
    }
    initial, change = values[name]
    turn = Turn(change, 300, fails_at=200)
    flow = Flow(start=turn, db_path=path, run_id="r", max_steps=400, strict=False)
    with pytest.raises(OSError, match="once"):
        flow.run({"it": copy.deepcopy(initial)})
    flow.resume("r")

    with closing(sqlite3.connect(path)) as raw:
        sizes = raw.execute("SELECT op, length(value) FROM pf_values ORDER BY step").fetchall()
    since, whole = 0, 0
    for op, size in sizes:
        since, whole = (0, size) if op == 0 else (since + 1, whole)
        assert since <= max(50, whole // 100)
    assert written(path) < 300 * 240
    for step in range(0, 300, 7):
        assert WorkflowDB(path).load_checkpoint("r", step)["it"] == turn.expected[step]


class Call(BaseModel):
    content: str = ""
    calls: list[dict[str, str]] = []


def test_a_token_at_the_end_of_many_messages_that_are_alike_is_found() -> None:
    """What is alike again and again has an end for whoever looks at a part of it."""
    calls = [{"name": "search", "arguments": "{}"}]
    value = [one for _ in range(100) for one in (Call(content="a"), Call(content="b", calls=calls))]
    known = freeze(value)
    for _ in range(3):
        value[-1].content += "token "
        changes, known = difference(known, value) or ([], known)
        assert [one.operation for one in changes] == ["set"]


class Texts(BatchNode):
    def prep(self, store: Store[Any]) -> range:
        return range(500)

    def exec(self, item: int) -> str:
        return f"{item} ".ljust(1000, "x")

    def post(self, store: Store[Any], prep: range, results: list[str]) -> None:
        store["results"] = results


def test_the_results_of_a_batch_take_their_room_once(path: Path) -> None:
    """A value takes the room that the results on record by item leave as their step is finished."""
    Flow(start=Texts(), db_path=path, run_id="batch").run({})
    assert path.stat().st_size < 2 * 500 * 1000
    with WorkflowDB(path, read_only=True) as database:
        assert len(database.load_checkpoint("batch", 0)["results"]) == 500


def test_small_values_are_stored_whole(path: Path) -> None:
    """What people look at in the tables stays plain JSON."""
    turn = Turn(lambda it, step: it.update(n=step), 5)
    Flow(start=turn, db_path=path, run_id="r").run({"it": {"n": 0, "m": [1]}})

    assert export_run(WorkflowDB(path), "r")["steps"][3]["set"] == {"it": {"n": 2, "m": [1]}}


def test_a_part_that_cannot_be_stored_costs_itself(path: Path) -> None:
    """A value with a part that cannot be stored is written whole and restored without it."""
    live = object()
    turn = Turn(lambda it, step: it.update({f"k{step}": SAID if step else live}), 4)
    turn.expected = []
    Flow(start=turn, db_path=path, run_id="r").run({"it": {"a": SAID * 3}})

    found = WorkflowDB(path).load_checkpoint("r", 3)["it"]
    assert list(found) == ["a", "k0", "k1", "k2", "k3"]
    assert type(found["k0"]) is codec.NotSaved
    assert found["k3"] == SAID


def test_a_class_with_other_fields_is_written_whole_once(path: Path) -> None:
    """A value that is stored in another way than it would be now is not changed in part."""
    turn = Turn(lambda it, step: it["notes"].lines.append(SAID), 12, fails_at=6)
    flow = Flow(start=turn, db_path=path, run_id="r")
    with pytest.raises(OSError, match="once"):
        flow.run({"it": {"notes": Notes()}})
    with closing(sqlite3.connect(path)) as raw, raw:
        # As if the class had had another field when this was written.
        raw.execute("UPDATE pf_value SET value = replace(value, '\"lines\":[]', '\"lines\": []')")
    flow.resume("r")

    db = WorkflowDB(path)
    for step, value in enumerate(turn.expected):
        assert db.load_checkpoint("r", step)["it"] == value


def test_damaged_changes_are_told(path: Path) -> None:
    """Changes that do not fit what is stored are told with the key, and not made up for."""
    turn = Turn(lambda it, _: it["list"].append(SAID), 6)
    Flow(start=turn, db_path=path, run_id="r").run({"it": {"list": [SAID, SAID]}})
    for damage in ("[1]", '[[["nowhere"],"append",[1]]]', '[[["list"],"add",[1]]]', "{}", "[["):
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("UPDATE pf_value SET value = ?, blob = NULL WHERE op = 4", (damage,))
        with pytest.raises(ValueError, match="'it' cannot be read"):
            WorkflowDB(path).load_checkpoint("r", 5)


leaves = st.sampled_from([None, True, 1, 1.5, -0.0, "", "a", "\ud800", "x" * 300, b"b", (1, [2])])
keys = st.sampled_from(["a", "b", '"', "$type", 1, ""])
values: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(Notes, st.lists(inner, max_size=3))
        | st.lists(inner.map(str), max_size=3).map(
            lambda texts: Talk(messages=[Message(content=text) for text in texts])
        )
    ),
    max_leaves=8,
)


def places(value: Any) -> list[Any]:
    """The containers in a value, itself included, that can be changed in place."""
    if isinstance(value, tuple):
        return [part for one in value for part in places(one)]
    if not isinstance(value, list | dict | Notes | Talk | Message):
        return []
    inner: Any = value if isinstance(value, list) else ()
    if isinstance(value, dict):
        inner = value.values()
    elif not isinstance(value, list):
        inner = vars(value).values()
    return [value, *(part for one in inner for part in places(one))]


def mutate(part: Any, new: Any, how: int) -> None:
    """Change a container in one of many ways."""
    if isinstance(part, Notes):
        part.lines = [*part.lines, new]
    elif isinstance(part, Talk):
        part.messages = [*part.messages[how % 2 :], Message(content=repr(new))]
    elif isinstance(part, Message):
        part.content += "more"
    elif isinstance(part, dict):
        key = [*part, "new", how][how % (len(part) + 2)]
        if how % 3 == 0:
            part[key] = part.pop(key, new)
        elif how % 3 == 1:
            part.pop(key, None)
        else:
            part[key] = new
    elif how % 4 == 0 or not part:
        part.append(new)
    elif how % 4 == 1:
        part[how % len(part)] = new
    elif how % 4 == 2:
        part[:1] = []
    else:
        part.insert(how % len(part), new)


@given(
    value=values,
    rounds=st.lists(
        st.lists(st.tuples(st.integers(0, 50), values, st.integers(0, 50)), max_size=2),
        min_size=1,
        max_size=6,
    ),
)
def test_law_of_restoring(tmp_path_factory: Any, value: Any, rounds: Any) -> None:
    """Every checkpoint read back equals a deep copy that was taken at that step."""

    def change(it: Any, step: int) -> None:
        for where, new, how in rounds[step]:
            found = places(it)
            mutate(found[where % len(found)], copy.deepcopy(new), how)

    path = tmp_path_factory.mktemp("law") / "runs.db"
    turn = Turn(change, len(rounds))
    # Beside it what makes it long enough to be stored by its changes.
    Flow(start=turn, db_path=path, run_id="r").run({"it": [value, "x" * 2000]})

    with WorkflowDB(path) as db:
        for step, expected in enumerate(turn.expected):
            found = db.load_checkpoint("r", step)["it"]
            assert codec.dumps(found) == codec.dumps(expected)


@given(value=values, rounds=st.lists(st.tuples(st.integers(0, 50), values, st.integers(0, 50))))
def test_law_of_comparing_again(value: Any, rounds: Any) -> None:
    """A value that was compared before is found to differ exactly when what is stored does."""
    value = [copy.deepcopy(value) for _ in range(60)]  # as many as are compared at once
    frozen, text = freeze(value), codec.dumps(value)
    assert is_same(frozen, value)
    assert is_same(frozen, value)
    for where, new, how in rounds:
        found = places(value)
        mutate(found[where * 37 % len(found)], copy.deepcopy(new), how)
        assert is_same(frozen, value) == (codec.dumps(value) == text)


class Plain:
    """An instance whose attributes a store may hold."""

    def __init__(self) -> None:
        self.lines: list[list[Any]] = [[]]
        self.n = 1


def test_the_attributes_of_an_instance_are_looked_at_as_what_they_are() -> None:
    """Also where the store has its dict, and not the instance: what is set in it is a change."""
    owner = Plain()
    changes: list[Callable[[], None]] = [
        lambda: owner.lines[0].append(1),
        lambda: setattr(owner, "n", owner.n + 1),
        lambda: vars(owner).update(new=1),
    ]
    for change in changes:
        value = [vars(owner), [vars(owner)] * 300]
        frozen = freeze(value)
        assert [is_same(frozen, value) for _ in range(4)] == [True] * 4
        change()
        assert not is_same(frozen, value)


class Tool(BaseModel):
    kind: Literal["tool"] = "tool"
    result: str = Field(default="", max_length=700)


class Said(BaseModel):
    kind: Literal["said"] = "said"
    parts: list[str | int] = []


class Named(BaseModel):
    model_config = ConfigDict(str_max_length=30)
    name: str = ""


class Tree(BaseModel):
    value: int = 0
    below: list[Tree] = []


Numbers = Annotated[dict[Annotated[str, Field(max_length=5)], list[int]], Field(max_length=4)]


class Typed(BaseModel):
    turns: Annotated[list[Annotated[Tool | Said, Discriminator("kind")]], Field(max_length=5)] = []
    numbers: Numbers = {}
    maybe: list[Named] | None = None
    tree: Tree = Tree()
    notes: Notes = Notes()
    by_number: dict[int, list[str]] = {}
    pair: tuple[list[int], str] = ([], "")


def typed_values() -> dict[str, Any]:
    """Values of all fields that fit."""
    return {
        "turns": [Tool(result="r"), Said(parts=["a", 1])],
        "numbers": {"a": [1, 2], "value": [3]},
        "maybe": [Named(name="n")],
        "tree": Tree(below=[Tree(value=1, below=[Tree()])]),
        "notes": Notes(["a"]),
        "by_number": {1: ["a"], 2: []},
        "pair": ([1], "b"),
    }


PARTS: list[Any] = [1, "a", "x" * 40, "x" * 800, None, Tool(), Said(), Named(), Tree(), [1], ["a"]]


def holders(value: Any) -> list[Any]:
    """The parts of a value that can be changed in place."""
    if isinstance(value, tuple):
        return [part for one in value for part in holders(one)]
    if not isinstance(value, list | dict | BaseModel | Notes):
        return []
    inner = (
        value
        if isinstance(value, list)
        else dict(value if isinstance(value, dict) else vars(value)).values()
    )
    return [value, *(part for one in inner for part in holders(one))]


def meddle(part: Any, new: Any, how: int) -> None:
    """Change a part in one of many ways, types or not."""
    if isinstance(part, list):
        (part.append, part.extend, lambda _: part[:1] and part.pop())[how % 3](
            [new] * (how % 5) if how % 3 == 1 else new
        )
        return
    held = part if isinstance(part, dict) else vars(part)
    name = [*held, "new", "a new key"][how % (len(held) + 2)]
    if how % 7 == 0:
        held.pop(name, None)
    elif how % 3 == 0 and isinstance(held.get(name), str):
        held[name] += "x" * 25
    elif isinstance(part, dict) or name in held:
        held[name] = new


def refused(check: Callable[[], object]) -> str | None:
    """What a check says, if it raises."""
    try:
        check()
    except InvalidValueError as exc:
        return str(exc)
    return None


@pytest.mark.parametrize("of_dict", [True, False], ids=["dict", "model"])
@given(
    key=st.sampled_from(list(typed_values())),
    changes=st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from(PARTS), st.integers(0, 200)), max_size=3
    ),
)
def test_law_of_checking_what_changed(of_dict: bool, key: str, changes: Any) -> None:
    """What changed in place is accepted, or refused in the same words, as the whole value is."""
    hints = {name: field.rebuild_annotation() for name, field in Typed.model_fields.items()}
    store = Store(typed_values(), schema=hints if of_dict else Typed)
    before = freeze(store[key])
    for where, new, how in changes:
        found = holders(store[key])
        meddle(found[where % len(found)], copy.deepcopy(new), how)
    seen = difference(before, store[key])
    if seen is not None:
        partly = refused(lambda: store.recheck(key, seen[0]))
        assert partly == refused(lambda: store.recheck(key))


class Keys(TypedDict):
    root: dict[str, Any]
    x: int


class Rooted(RootModel[Keys]):
    """A model whose only field has the name of a key of what it holds."""


class HasRooted(BaseModel):
    it: Rooted


def test_what_changed_in_a_root_model_is_checked_as_a_part_of_its_root() -> None:
    """A key of a typed dict that is called as the field around it is not taken for that."""
    store = Store(HasRooted(it=Rooted({"root": {"a": 1}, "x": 1})))
    before = freeze(store["it"])
    store["it"].root["x"] = "not a number"
    found = difference(before, store["it"])
    assert found is not None
    with pytest.raises(InvalidValueError):
        store.recheck("it", found[0])


class Lists(BaseModel):
    by_name: dict[str, list[int]] = {}
    talk: Talk = Talk()


@pytest.mark.parametrize("last", [1, "no number"])
@pytest.mark.parametrize("disk", [False, True])
def test_what_was_taken_out_and_comes_again_is_checked_as_what_comes(
    path: Path, disk: bool, last: Any
) -> None:
    """A list that comes to the end of a long dict, or that a model has again, is looked at once."""

    class Moves(Node):
        def post(self, store: Store[Lists], prep: None, result: None) -> None:
            lists, talk = store.state.by_name, vars(store.state.talk)
            lists["a"] = lists.pop("a")
            talk["title"] = talk.pop("title")
            talk["messages"] = talk.pop("messages")
            lists["a"].append(last)

    talk = Talk(messages=[Message()] * 200)
    store = Store(Lists(by_name={"a": [1], "b": [2] * 500}, talk=talk))
    flow = Flow(start=Moves(), db_path=path if disk else None, run_id="r", schema=Lists)
    if last == 1:
        flow.run(store)
        assert [*store["by_name"]] == ["b", "a"]
    else:
        with pytest.raises(InvalidValueError, match="by_name"):
            flow.run(store)


def test_only_what_changed_is_checked() -> None:
    """An element that was appended is checked by the type of elements, and no other one is."""
    looked: list[object] = []

    class Looks(BaseModel):
        model_config = ConfigDict(revalidate_instances="never")
        text: str = ""

        def __getattribute__(self, name: str) -> Any:
            if name == "__dict__":
                looked.append(self)
            return super().__getattribute__(name)

    class Many(BaseModel):
        several: list[Looks] = []

    store = Store(Many(several=[Looks() for _ in range(9)]))
    before = freeze(store["several"])
    store["several"].append(new := Looks(text="new"))
    found = difference(before, store["several"])
    assert found is not None
    looked.clear()
    store.recheck("several", found[0])
    assert looked == [new]


class Shared(BaseModel):
    log: dict[str, list[str]] = {"a": [SAID, SAID], "b": []}
    other: dict[str, list[str]] = {"a": [SAID, SAID]}


def test_branches_that_are_resumed_have_what_changed(path: Path) -> None:
    """A branch that changes something in depth, pauses and is resumed, has all of it."""
    S = fields(Shared)
    rounds = {"log": 0}

    @node
    def write(store: Store[Shared]) -> Literal["again", "ask"]:
        rounds["log"] += 1
        store.state.log["b"].append(f"{rounds['log']} {SAID}")
        return "again" if rounds["log"] < 5 else "ask"

    class Confirm(AskNode[bool, str]):
        def prep(self, store: Store[Any]) -> Question[bool]:
            store["log"]["b"].append("asked")
            return Question("Well?")

        def post(self, store: Store[Any], question: object, answer: bool) -> str:
            store["log"]["b"].append(str(answer))
            return "default"

    @node(writes=S.other)
    def beside(other: dict[str, list[str]]) -> dict[str, list[str]]:
        return {**other, "c": ["c"]}

    confirm = Confirm()
    branch = Flow(start=write, flow_name="branch")
    branch.then(write.when("again"), write)
    branch.then(write.when("ask"), confirm)
    flow = Flow(start=Parallel(branch, beside), schema=Shared, db_path=path, run_id="r")
    with pytest.raises(RunPaused):
        flow.run(Shared())
    flow.answer("r", confirm.reply(True))
    flow.resume("r")

    db = WorkflowDB(path)
    state = db.load_checkpoint("r", db.get_checkpoints("r")[-1]["step"], schema=Shared).state
    said = [f"{number} {SAID}" for number in range(1, 6)]
    assert state.log == {"a": [SAID, SAID], "b": [*said, "asked", "True"]}
    assert state.other == {"a": [SAID, SAID], "c": ["c"]}


def test_what_nobody_touched_is_not_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step looks at the keys that it has read or written; at all of them once in a while."""
    looked: list[int] = []
    among = Watch.changed_among

    def counted(watch: Watch, items: Any) -> Any:
        found = list(items)
        looked.append(len(found))
        return among(watch, found)

    turn = Turn(lambda it, _: it.append(1), 60)
    flow = Flow(start=turn, db_path=path, run_id="r")
    monkeypatch.setattr(Watch, "changed_among", counted)
    flow.run({"it": [], **{f"other {number}": [number] for number in range(30)}})

    assert looked.count(1) == 60 - 3  # not the beginning, the first, the 50th and the last
    assert looked.count(31) == 4


@pytest.mark.parametrize("how", ["read", "state", "get", "values", "parameter", "update", "pop"])
def test_whatever_reaches_a_value_touches_it(path: Path, how: str) -> None:
    """Whichever way a node came to a value, what it changed in it is on record with its step."""

    class State(BaseModel):
        it: list[int] = []
        turn: int = 0

    @node
    def by_parameter(it: list[int]) -> Literal["again", "done"]:
        it.append(1)
        return "again" if len(it) < 3 else "done"

    class Reach(Node):
        def post(self, store: Store[State], prep: None, result: None) -> str:
            if how == "read":
                store["it"].append(1)
            elif how == "state":
                store.state.it.append(1)
            elif how == "get":
                store.get("it", []).append(1)
            elif how == "values":
                next(value for value in store.values() if isinstance(value, list)).append(1)
            elif how == "update":
                store.update(it=[*store["it"], 1])
            else:
                it = store.pop("it")
                store["it"] = [*it, 1]
            return "again" if len(store._data["it"]) < 3 else "done"

    first: Any = by_parameter if how == "parameter" else Reach()
    flow = Flow(start=first, schema=State, db_path=path, run_id="r")
    flow.then(first.when("again"), first)
    flow.then(first.when("done"), END)
    flow.run(State())

    db = WorkflowDB(path)
    for step in range(3):
        assert db.load_checkpoint("r", step)["it"] == [1] * (step + 1)


def test_another_name_of_an_untouched_value_is_found_in_a_while(path: Path) -> None:
    """What is changed by a name that somebody kept is on record at the end, and every 50 steps."""
    kept: list[int] = []

    class Keeps(Node):
        def post(self, store: Store[Any], prep: None, result: None) -> str:
            store["turn"] += 1
            kept.append(store["turn"])
            return "again" if store["turn"] < 104 else "done"

    keeps = Keeps()
    keeps.then("again", keeps).then("done", END)
    Flow(start=keeps, db_path=path, run_id="r", max_steps=200).run({"turn": 0, "kept": kept})

    db = WorkflowDB(path)
    for step in (50, 100, 103):
        assert len(db.load_checkpoint("r", step)["kept"]) == step + 1


def test_deleted_keys_are_gone_with_their_step(path: Path) -> None:
    """A key that a step removed is not in its checkpoint, and those after it keep their order."""

    class Moves(Node):
        def post(self, store: Store[Any], prep: None, result: None) -> str:
            store.get("z")
            del store["a"]
            store["y"], store["z"] = 1, 2
            return "again" if "b" not in store else "done"

    class Next(Node):
        def post(self, store: Store[Any], prep: None, result: None) -> str:
            store["b"] = store.pop("y")
            return "default"

    moves, last = Moves(), Next()
    moves.then("again", last)
    last.then("default", Turn(lambda it, _: it.append(1), 1))
    Flow(start=moves, db_path=path, run_id="r").run({"a": 0, "it": []})

    db = WorkflowDB(path)
    assert list(db.load_checkpoint("r", 0).items()) == [("it", []), ("y", 1), ("z", 2)]
    assert list(db.load_checkpoint("r", 1).items()) == [("it", []), ("z", 2), ("b", 1)]


class Loaded(BaseModel):
    data: Any = None
    others: Any = None
    turn: int = 0


class Load(Node[None, None, Literal["again", "done"]]):
    """Puts objects into the store, takes them out two turns later, and asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[weakref.ref[Thing]] = []
        self.gone: list[list[bool]] = []

    def post(
        self, store: Store[Loaded], prep_result: None, exec_result: None
    ) -> Literal["again", "done"]:
        turn = store["turn"] = store["turn"] + 1
        if turn == 1:
            things = Thing(), Thing()
            self.left = list(map(weakref.ref, things))
            store["data"], store["others"] = things[0], [things[1]]
        if turn == 3:
            store["data"] = None
            del store["others"]
        if turn > 3:
            self.gone.append([one() is None for one in self.left])
        return "again" if turn < 5 else "done"


class Thing:
    """What the codec does not store."""


def test_what_was_taken_out_of_a_store_is_let_go() -> None:
    """A typed run without a database keeps nothing of a value that is not in the store any more."""
    load = Load()
    flow = Flow(start=load, schema=Loaded)
    flow.then(load.when("again"), load)
    flow.then(load.when("done"), END)
    flow.run({})
    assert load.gone == [[True, True], [True, True]]
