"""Items that change between a crash and its resume: each gets what is kept of it, and no other."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel

from pocoflow import (
    BatchNode,
    FanOut,
    Flow,
    Parallel,
    Question,
    RunPaused,
    Store,
    WorkflowDB,
    fields,
    key,
    node,
)
from pocoflow.nodes.context import context
from pocoflow.reducers import extend


class Work(BaseModel):
    items: list[Any] = []
    item: Any = None
    pairs: Annotated[list[tuple[Any, Any]], extend] = []


W = fields(Work)


class Calls:
    """Counts the calls of a paid service, and breaks on some items."""

    def __init__(self) -> None:
        self.paid = Counter[Any]()
        self.broken: set[Any] = set()
        self.keys: list[str] = []
        self.asked: dict[str, set[Any]] = defaultdict(set)

    def __call__(self, item: Any) -> str:
        self.asked[context().idempotency_key].add(item)
        if item in self.broken:
            raise OSError(f"{item} is down")
        self.paid[item] += 1
        self.keys.append(context().idempotency_key)
        return f"about {item}"


def batch(calls: Calls) -> Any:
    """A batch over the items."""

    class Batch(BatchNode):
        def prep(self, store: Store[Work]) -> list[Any]:
            return store.state.items

        def exec(self, item: Any) -> Any:
            return calls(item)

        def post(self, store: Store[Work], items: list[Any], results: list[Any]) -> None:
            store.reduce("pairs", list(zip(items, results, strict=True)))

    return Batch()


def side_by_side(calls: Calls) -> Any:
    """A batch that works on three items at once."""
    made = batch(calls)
    made.concurrency = 3
    return made


def fan_out(calls: Calls) -> Any:
    """A branch for each of the items."""

    @node(writes=W.pairs)
    def one(item: Any) -> list[tuple[Any, Any]]:
        return [(item, calls(item))]

    return FanOut(one, each=W.items, as_=W.item, concurrency=1)


KINDS = pytest.mark.parametrize("kind", [batch, side_by_side, fan_out])


def attempt(flow: Flow[Any], items: list[Any], first: bool) -> Store[Any] | None:
    """Run or resume with these items; ``None`` if a call broke."""
    try:
        return flow.run({"items": items}) if first else flow.resume("r", changes={"items": items})
    except OSError:
        return None


@KINDS
@settings(max_examples=settings().max_examples // 3)  # each is some runs with a database
@given(
    lists=st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=3),
    broken=st.lists(st.sets(st.integers(0, 4)), max_size=2),
)
def test_an_item_gets_its_own_result_and_is_paid_for_once(
    kind: Any, lists: list[list[int]], broken: list[set[int]]
) -> None:
    """Whatever the items are at a resume, results and keys fit them, and none is paid for twice."""
    calls = Calls()
    rounds = [*zip(lists, [*broken, set(), set()], strict=False)]
    store: Store[Any] | None = None
    items: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        flow = Flow(kind(calls), schema=Work, db_path=Path(folder, "runs.db"), run_id="r")
        for number, (items, calls.broken) in enumerate([*rounds, (lists[-1], set())]):
            enough = Counter(calls.paid | Counter(items))
            store = attempt(flow, items, number == 0)
            assert calls.paid <= enough, "something was paid for twice"
            if store is not None:
                assert calls.paid == enough
                break
    assert store is not None
    assert store["pairs"] == [(item, f"about {item}") for item in items]
    assert len(set(calls.keys)) == len(calls.keys), "two items had one idempotency key"
    assert all(len(asked) == 1 for asked in calls.asked.values()), "a key went to another item"
    keys = Counter(item for asked in calls.asked.values() for item in asked)
    most = Counter[int]()
    for items in lists:
        most |= Counter(items)
    assert keys <= most, "an item had several idempotency keys"


def test_an_answer_to_an_item_whose_result_is_not_kept_stays_with_it(tmp_path: Path) -> None:
    """A batch that keeps no results still knows which of its items has asked what."""

    class Approve(BatchNode):
        journal = False

        def prep(self, store: Store[Work]) -> Iterator[Any]:
            yield from store.state.items

        def exec(self, item: str) -> Question[str]:
            return Question(f"What about {item}?")

        def post(self, store: Store[Work], items: Any, results: list[Any]) -> None:
            store.reduce("pairs", list(zip(store.state.items, results, strict=True)))

    flow = Flow(Approve(), schema=Work, db_path=tmp_path / "r.db", run_id="r")
    with pytest.raises(RunPaused):
        flow.run({"items": ["a", "b"]})
    with WorkflowDB(tmp_path / "r.db") as db:
        for one in db.pending():
            flow.answer_json("r", one.text, question=one.question)
    store = flow.resume("r", changes={"items": ["b", "a"]})
    assert store["pairs"] == [("b", "What about b?"), ("a", "What about a?")]


def test_items_of_a_nested_fan_out_are_known_before_a_step_of_it_is_finished(
    tmp_path: Path,
) -> None:
    """Items whose calls were under way in a branch keep their keys, whatever their order is now."""
    calls = Calls()
    calls.broken = {"a", "b"}
    outer = Parallel(fan_out(calls), name="outer")
    flow = Flow(outer, schema=Work, db_path=tmp_path / "r.db", run_id="r")
    assert attempt(flow, ["a", "b"], first=True) is None
    calls.broken = set()
    store = attempt(flow, ["b", "a"], first=False)
    assert store is not None
    assert [pair[0] for pair in store["pairs"]] == ["b", "a"]
    assert [*calls.asked.values()] == [{"a"}, {"b"}]
    with closing(sqlite3.connect(tmp_path / "r.db")) as raw:
        assert raw.execute("SELECT * FROM pf_log WHERE kind IN (3, 4, 5, 6)").fetchall() == []


@pytest.mark.parametrize("concurrency", [1, 2])
def test_items_are_known_by_what_they_were_before_the_first_one(
    tmp_path: Path, concurrency: int
) -> None:
    """What the work on an item changes in another one does not make that a new one."""
    calls = Calls()
    calls.broken = {3}

    class Chat(BatchNode):
        def prep(self, store: Store[Any]) -> list[tuple[int, list[int]]]:
            log: list[int] = []
            return [(number, log) for number in (1, 2, 3)]

        def exec(self, item: tuple[int, list[int]]) -> Any:
            number, log = item
            log.append(number)
            return calls(number)

        def post(self, store: Store[Any], items: Any, results: Any) -> None:
            store["results"] = results

    chat = Chat()
    chat.concurrency = concurrency
    flow = Flow(chat, db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="3 is down"):
        flow.run({})
    calls.broken = set()
    assert flow.resume("r")["results"] == ["about 1", "about 2", "about 3"]
    assert calls.paid == Counter([1, 2, 3])


@pytest.mark.parametrize("phase", ["fail", "ask"])
def test_an_item_that_is_a_list_is_what_it_was(tmp_path: Path, phase: str) -> None:
    """A branch that goes on sees its item as it is, also if the field for it begins as a list."""

    class Rows(BaseModel):
        rows: list[list[int]] = []
        row: list[int] = []
        sums: Annotated[list[tuple[list[int], str]], extend] = []

    R = fields(Rows)
    broken = {phase}

    @node
    def first() -> None:
        """A step before that fails or asks."""

    @node(writes=R.sums)
    def total(row: list[int]) -> Question[list[tuple[list[int], str]]]:
        if "fail" in broken:
            raise OSError("down")
        return Question(str(row))

    first.then("default", total)
    branch: Any = Flow(first, flow_name="branch") if phase == "fail" else total
    flow = Flow(FanOut(branch, each=R.rows, as_=R.row), schema=Rows, db_path=tmp_path / "r.db")
    flow.run_id = "r"
    with pytest.raises(OSError if phase == "fail" else RunPaused):
        flow.run({"rows": [[1, 2]]})
    broken.clear()
    if phase == "fail":
        with pytest.raises(RunPaused):
            flow.resume("r")
    with WorkflowDB(tmp_path / "r.db") as db:
        assert [one.text for one in db.pending()] == ["[1, 2]"]
    flow.answer_json("r", [[[1, 2], "fine"]])
    assert flow.resume("r")["sums"] == [([1, 2], "fine")]


def test_what_is_gone_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A finished item that is not among the items any more is named by its number in the log."""
    calls = Calls()
    calls.broken = {3}
    flow = Flow(batch(calls), schema=Work, db_path=tmp_path / "runs.db", run_id="r")
    assert attempt(flow, [1, 2, 3], first=True) is None
    calls.broken = set()
    with caplog.at_level(logging.WARNING, "pocoflow"):
        store = attempt(flow, [2, 3], first=False)
    assert store is not None
    assert store["pairs"] == [(2, "about 2"), (3, "about 3")]
    assert "1 items that are no longer among its items" in caplog.text
    assert "(their numbers: 0)" in caplog.text


def test_what_cannot_be_stored_is_told_by_its_place(tmp_path: Path) -> None:
    """Items without a form that can be stored keep their results by their places."""
    handles: list[Any] = [object(), object(), object()]
    broken = {handles[2]}
    seen: list[int] = []

    class Open(BatchNode):
        def prep(self, store: Store[Any]) -> list[Any]:
            return handles

        def exec(self, item: Any) -> Any:
            if item in broken:
                raise OSError("closed")
            seen.append(handles.index(item))
            return handles.index(item)

        def post(self, store: Store[Any], items: Any, results: Any) -> None:
            store["results"] = results

    flow = Flow(Open(), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="closed"):
        flow.run({})
    broken.clear()
    assert flow.resume("r")["results"] == [0, 1, 2]
    assert seen == [0, 1, 2]


def test_an_item_whose_result_cannot_be_stored_is_worked_on_again(tmp_path: Path) -> None:
    """After a failure the others keep theirs, and a resume calls ``exec`` for that one alone."""
    seen: list[int] = []
    broken = [True]

    class Open(BatchNode):
        def prep(self, store: Store[Any]) -> list[int]:
            return [0, 1, 2]

        def exec(self, item: int) -> Any:
            seen.append(item)
            return object() if item == 1 else item

        def post(self, store: Store[Any], items: Any, results: Any) -> None:
            if broken.pop():
                raise OSError("closed")
            store["kept"] = [one for one in results if isinstance(one, int)]

    flow = Flow(Open(), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="closed"):
        flow.run({})
    broken.append(False)
    assert flow.resume("r")["kept"] == [0, 2]
    assert seen == [0, 1, 2, 1]


def test_an_answer_stays_with_its_item(tmp_path: Path) -> None:
    """Branches that ask are found again by their items, whatever the order is now."""

    @node(writes=W.pairs)
    def approve(item: str) -> Question[list[tuple[str, str]]]:
        return Question(f"What about {item}?")

    flow = Flow(FanOut(approve, each=W.items, as_=W.item), schema=Work, db_path=tmp_path / "r.db")
    with pytest.raises(RunPaused) as paused:
        flow.run({"items": ["a", "b"]})
    run_id = paused.value.run_id
    with WorkflowDB(tmp_path / "r.db") as db:
        asked = {one.text: one.question for one in db.pending()}
    flow.answer_json(run_id, [["b", "fine"]], question=asked["What about b?"])
    changes = {"items": ["new", "b", "a"]}
    with pytest.raises(RunPaused) as paused:
        flow.resume(run_id, changes=changes)
    with WorkflowDB(tmp_path / "r.db") as db:
        asked = {one.text: one.question for one in db.pending()}
        assert set(asked) == {"What about a?", "What about new?"}
    flow.answer_json(run_id, [["a", "bad"]], question=asked["What about a?"])
    flow.answer_json(run_id, [["new", "nice"]], question=asked["What about new?"])
    store = flow.resume(run_id, changes=changes)
    assert store["pairs"] == [("new", "nice"), ("b", "fine"), ("a", "bad")]


def test_the_other_arguments_of_a_function_are_no_part_of_an_item(tmp_path: Path) -> None:
    """What is finished stays so where another field that the function reads has changed."""
    calls = Calls()
    calls.broken = {2}

    @node(each=W.items, writes=key("texts"))
    def about(item: Any, tone: str = key("tone")) -> str:
        return f"{calls(item)}, {tone}"

    flow = Flow(about, db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        flow.run({"items": [1, 2], "tone": "calm"})
    calls.broken = set()
    store = flow.resume("r", changes={"items": [2, 1], "tone": "loud"})
    assert store["texts"] == ["about 2, loud", "about 1, calm"]
    assert calls.paid == {1: 1, 2: 1}
