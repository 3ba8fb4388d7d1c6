"""Parallel branches: isolated views at the fork, one merge at the join, durable in between."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import (
    FanOut,
    Flow,
    Node,
    Parallel,
    RunCancelled,
    Store,
    WorkflowDB,
    context,
    fields,
    key,
    node,
)
from pocoflow.errors import (
    BranchError,
    DefinitionError,
    InvalidValueError,
    MaxStepsError,
    MissingKeyError,
)
from pocoflow.failure import Failure
from pocoflow.node import BatchNode
from pocoflow.reducers import add, append, item
from tests.rows import row_of

WAIT = 30


class Board(BaseModel):
    log: Annotated[list[str], append] = []
    total: Annotated[int, add] = 0
    words: list[str] = []
    word: str = ""
    a: int = 0
    b: int = 0
    failures: list[Failure] = []


B = fields(Board)


class Do(Node):
    """Calls a function with the store in ``post`` and returns its action."""

    def __init__(self, name: str, function: Callable[[Store[Any]], Any]) -> None:
        super().__init__(name=name)
        self.function = function

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        return str(self.function(store) or "default")


class DoAsync(Do):
    """The same, asynchronously."""

    async def post(  # type: ignore[override]
        self, store: Store[Any], prepared: Any, result: Any
    ) -> str:
        await asyncio.sleep(0)
        return str(self.function(store) or "default")


KINDS = pytest.mark.parametrize("kind", [Do, DoAsync])
DRIVERS = pytest.mark.parametrize("driver", ["run", "run_async"])


def go(flow: Flow[Any], driver: str, store: Any) -> Store[Any]:
    """Run with one of the two drivers."""
    return flow.run(store) if driver == "run" else asyncio.run(flow.run_async(store))


def put(name: str, value: Any) -> Callable[[Store[Any]], None]:
    """A function that sets a key."""
    return lambda store: store.update({name: value})


# -- views and the merge --------------------------------------------------------------------------


@KINDS
@DRIVERS
def test_branches_run_on_views_and_are_merged(kind: type[Do], driver: str) -> None:
    """Each branch sees the store of the fork and its own writes; all are there after the join."""
    seen: dict[str, Any] = {}

    def first(store: Store[Any]) -> None:
        store["a"] = store["start"] + 1
        store["list"].append("first")

    def second(store: Store[Any]) -> None:
        seen["second"] = store.as_dict()

    def other(store: Store[Any]) -> None:
        seen["other"] = ("a" in store, list(store["kept"]))
        store["b"] = store["start"] + 2

    inner = Flow(kind("first", first).then("default", kind("second", second)), flow_name="inner")
    fork = Parallel(inner, kind("other", other), name="fork")
    after = kind("after", lambda store: seen.update(after=store.as_dict()))
    store = go(Flow(fork.then("default", after)), driver, {"start": 1, "list": [], "kept": [1]})
    whole = {"start": 1, "list": ["first"], "kept": [1], "a": 2, "b": 3}
    assert store.as_dict() == seen["after"] == whole
    assert seen["second"] == {"start": 1, "list": ["first"], "kept": [1], "a": 2}
    assert seen["other"] == (False, [1])


@DRIVERS
@pytest.mark.parametrize("last", ["one", "two"])
def test_increments_are_merged_in_the_order_of_the_branches(driver: str, last: str) -> None:
    """Whichever branch ends first, reducers get the increments branch by branch."""
    gone = threading.Event()

    def say(name: str) -> Callable[[Store[Any]], None]:
        def function(store: Store[Any]) -> None:
            if name == last:
                assert gone.wait(WAIT)
            store.reduce("log", name)
            store.reduce("log", name + "!")
            store.reduce("total", len(store["log"]))
            gone.set()

        return function

    fork = Parallel(Do("one", say("one")), Do("two", say("two")))
    store = go(Flow(fork, schema=Board), driver, {"log": ["before"], "total": 10})
    assert store["log"] == ["before", "one", "one!", "two", "two!"]
    assert store["total"] == 16


def test_functions_write_increments_in_branches() -> None:
    """``writes=`` on a field with a reducer gives an increment in each branch."""

    @node(writes=(item(B.log), B.a))
    def left() -> tuple[str, int]:
        return "left", 1

    @node(writes=(item(B.log), B.b))
    async def right() -> tuple[str, int]:
        return "right", 2

    store = Flow(Parallel(left, right), schema=Board).run({})
    assert (store["log"], store["a"], store["b"]) == (["left", "right"], 1, 2)


def test_one_key_written_by_two_branches_is_an_error() -> None:
    """Without a reducer the merge names the key and the branches, and changes nothing."""
    fork = Parallel(Do("one", put("a", 1)), Do("two", put("a", 2)), Do("three", put("b", 3)))
    store = Store({"a": 0})
    with pytest.raises(BranchError, match="key 'a' was changed by the branches 'one', 'two'"):
        Flow(fork).run(store)
    assert store.as_dict() == {"a": 0}


def test_a_clash_of_many_branches_names_a_few_and_says_that_a_field_can_be_private() -> None:
    """What only the nodes of one branch hand to each other needs no reducer."""

    def each(**more: Any) -> Flow[Any]:
        work = Do("one", put("a", 1))
        return Flow(FanOut(work, each=key("items"), as_=key("item"), **more))

    with pytest.raises(BranchError, match=r"'one\[2\]' and 997 more: .* private="):
        each().run({"items": list(range(1000))})
    private = each(private=(key("a"),))
    assert private.run({"items": [1, 2]}).as_dict() == {"items": [1, 2]}


def test_a_value_that_ends_as_it_was_is_not_changed() -> None:
    """What counts is the value: a branch that sets a key to what it was does not change it."""
    fork = Parallel(Do("one", put("a", [1])), Do("two", put("a", [2])))
    assert Flow(fork).run({"a": [1]})["a"] == [2]


def test_a_key_deleted_in_one_branch_is_deleted() -> None:
    """A deletion is merged as a write is, and clashes as one does."""

    def delete(store: Store[Any]) -> None:
        del store["a"]

    fork = Parallel(Do("one", delete), Do("two", put("b", 1)))
    assert Flow(fork).run({"a": 1}).as_dict() == {"b": 1}
    fork = Parallel(Do("one", delete), Do("two", put("a", 2)))
    with pytest.raises(BranchError, match="key 'a' was changed by the branches"):
        Flow(fork).run({"a": 1})


@pytest.mark.parametrize("database", [True, False])
@pytest.mark.parametrize("how", ["assigned", "deleted", "in place"])
def test_a_reducer_field_takes_only_increments_in_a_branch(
    how: str, database: bool, tmp_path: Path
) -> None:
    """Assignment, deletion or a change in place of a field with a reducer is refused by name."""

    def change(store: Store[Any]) -> None:
        if how == "assigned":
            store["log"] = ["x"]
        elif how == "deleted":
            del store["log"]
        else:
            store["log"].append("x")

    path = tmp_path / "runs.db" if database else None
    flow = Flow(Parallel(Do("one", change)), schema=Board, db_path=path)
    with pytest.raises(BranchError, match="field 'log' has a reducer"):
        flow.run({})


def test_a_change_in_place_before_an_increment_is_found() -> None:
    """An increment does not hide that the field was changed in place before it."""

    def change(store: Store[Any]) -> None:
        store["log"].append("x")
        store.reduce("log", "y")

    with pytest.raises(BranchError, match="changed in place"):
        Flow(Parallel(Do("one", change)), schema=Board).run({})


def test_an_increment_to_a_field_without_a_value_is_named_as_such() -> None:
    """In a branch, too, a field with a reducer and no value yet is told to need a default."""

    class Empty(BaseModel):
        log: Annotated[list[str], append]

    one = Do("one", lambda store: store.reduce("log", "x"))
    with pytest.raises(MissingKeyError, match=r"has no value yet: .* give it a default"):
        Flow(Parallel(one), schema=Empty).run({})


def test_what_a_branch_changes_in_place_is_checked() -> None:
    """At the end of each step of a branch, a list changed in place must fit the schema."""

    def change(store: Store[Any]) -> None:
        store["words"].append(3)

    with pytest.raises(InvalidValueError, match="field 'words'"):
        Flow(Parallel(Do("one", change)), schema=Board).run({})


class Document(BaseModel):
    pages: int = 1


class Library(BaseModel):
    words: list[str] = []
    word: str = ""
    counts: Annotated[list[int], append] = []
    documents: list[Document] = []


LIBRARY = fields(Library)


@pytest.mark.parametrize("kept", [False, True])
@DRIVERS
def test_a_branch_copies_what_it_reads(driver: str, kept: bool, tmp_path: Path) -> None:
    """Models that no branch reads are not copied for any; a branch that reads them has its own."""

    @node(writes=item(LIBRARY.counts))
    def count(word: str) -> int:
        return sum(type(one) is Document for one in gc.get_objects())

    @node(writes=item(LIBRARY.counts))
    def tear(documents: list[Document]) -> int:
        documents[0].pages = 0
        return len(documents)

    gc.collect()
    # Kept to the end: a thread of another test may be about to let them go.
    others = [one for one in gc.get_objects() if type(one) is Document]
    store = Store(Library(words=["a", "b", "c"], documents=[Document(), Document()]))
    before = len(others) + 2
    several = FanOut(count, each=LIBRARY.words, as_=LIBRARY.word, concurrency=1)
    flow = Flow(several, schema=Library, db_path=tmp_path / "runs.db" if kept else None)
    flow.then(several, tear)
    found = go(flow, driver, store)
    assert found["counts"] == [before, before, before, 2]
    assert found["documents"] == [Document(pages=0), Document()]


@DRIVERS
def test_a_post_of_ones_own_is_given_branches_as_they_ended(driver: str) -> None:
    """What ``post`` writes to the store is in that of no branch, read or not."""
    seen: list[list[str]] = []

    class Mine(Parallel):
        def post(self, store: Store[Any], given: Any, ends: Any, /) -> Any:
            store["log"].append("after")
            seen.extend(list(end.store["log"]) for end in ends)
            return super().post(store, given, ends)

    def read(store: Store[Any]) -> None:
        assert store["log"] == ["before"]

    store = go(Flow(Mine(Do("a", put("a", 1)), Do("b", read))), driver, {"log": ["before"]})
    assert seen == [["before"], ["before"]]
    assert store["log"] == ["before", "after"]


def test_what_cannot_be_copied_is_shared() -> None:
    """A live object in the store, such as a lock, is the same in every branch."""
    lock = threading.Lock()
    seen: list[bool] = []
    look = Do("look", lambda store: seen.append(store["lock"] is lock))
    Flow(Parallel(look)).run({"lock": lock})
    assert seen == [True]


# -- failures -------------------------------------------------------------------------------------


def fail(store: Store[Any]) -> None:
    """Fail."""
    raise ValueError("no luck")


@DRIVERS
def test_the_first_failure_cancels_the_other_branches(driver: str) -> None:
    """A branch that awaits is cancelled where it waits; its exception is not the one raised."""
    ended: list[str] = []

    class Wait(Node):
        async def exec(self, prepared: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("wait")

    class Fail(Node):
        async def exec(self, prepared: Any) -> None:
            raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck") as caught:
        go(Flow(Parallel(Wait(), Fail())), driver, {})
    assert ended == ["wait"]
    assert "in exec of 'Parallel/Fail', in a parallel branch" in caught.value.__notes__[0]


@DRIVERS
def test_a_failure_stops_synchronous_branches_between_steps(driver: str) -> None:
    """A branch in a thread can look for the cancellation, and begins no further step."""
    begun, failed, ended = threading.Event(), threading.Event(), threading.Event()
    done: list[str] = []

    class Fail(Node):
        def exec(self, prepared: Any) -> None:
            assert begun.wait(WAIT)
            failed.set()
            raise ValueError("no luck")

    class Long(Node):
        def exec(self, prepared: Any) -> None:
            begun.set()
            assert failed.wait(WAIT)
            stopped = threading.Event()
            context().cancellation.add_callback(stopped.set)
            assert stopped.wait(WAIT)
            done.append("long")
            ended.set()

    never = Do("never", lambda store: done.append("never"))
    with pytest.raises(ValueError, match="no luck"):
        go(Flow(Parallel(Long().then("default", never), Fail())), driver, {})
    assert ended.wait(WAIT)  # under run_async nobody waits for a thread that is left alone
    assert done == ["long"]


@DRIVERS
def test_failures_are_collected_on_request(driver: str) -> None:
    """With ``"collect"`` the others go on, the action is "failed", the field has the failures."""
    after: list[str] = []

    def half(store: Store[Any]) -> None:
        store["b"] = 5
        raise ValueError("no luck")

    fork = Parallel(
        Do("good", put("a", 1)), Do("bad", half), on_error="collect", errors=B.failures, name="fork"
    )
    fork.then("failed", Do("handle", lambda store: after.append("handled")))
    store = go(Flow(fork, schema=Board), driver, {})
    (failure,) = store["failures"]
    assert (failure.node, failure.type_name, failure.message) == (
        "fork/bad",
        "ValueError",
        "no luck",
    )
    assert "no luck" in failure.traceback
    assert (store["a"], store["b"], after) == (1, 0, ["handled"])


def test_collecting_without_a_failure_takes_the_default_edge() -> None:
    """The action is "failed" only if a branch failed."""
    fork = Parallel(Do("good", put("a", 1)), on_error="collect", errors=B.failures)
    after = Do("after", put("b", 2))
    store = Flow(fork.then("default", after), schema=Board).run({})
    assert (store["a"], store["b"], store["failures"]) == (1, 2, [])


@DRIVERS
def test_a_cancelled_run_ends_its_branches(driver: str) -> None:
    """Cancelling the run ends the awaits of all branches, and the run is cancelled."""
    waiting = threading.Barrier(3, timeout=WAIT)

    class Wait(Node):
        async def exec(self, prepared: Any) -> None:
            await asyncio.to_thread(waiting.wait)
            await asyncio.Event().wait()

    one, two = Wait(name="one"), Wait(name="two")
    handle = Flow(Parallel(one, two)).run_background({})
    waiting.wait()
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.wait(WAIT)
    assert handle.status == "cancelled"


# -- steps ----------------------------------------------------------------------------------------


def test_steps_are_numbered_as_they_are_committed(tmp_path: Path) -> None:
    """The steps of all branches have one row of numbers; the join is a step, after them."""
    second = threading.Event()

    def first_of_one(store: Store[Any]) -> None:
        assert second.wait(WAIT)

    one = Do("one", first_of_one)
    two = Do("two", lambda store: None).then("default", Do("more", lambda store: None))
    fork = Parallel(one, two, name="fork")
    flow = Flow(
        Do("before", lambda store: None).then(
            "default", fork.then("default", Do("after", put("a", 1)))
        ),
        db_path=tmp_path / "runs.db",
        run_id="steps",
    )
    flow.on("node_end", lambda name, action, spent, store: second.set() if name == "more" else None)
    flow.run({})
    names = ["before", "fork/two", "fork/more", "fork/one", "fork", "after"]
    with WorkflowDB(tmp_path / "runs.db") as db:
        rows = db.get_checkpoints("steps")
        assert [row["node_name"] for row in rows] == names
        assert [row["step"] for row in rows] == list(range(6))
        assert row_of(db, "steps")["total_steps"] == 6
        started = [e["node_name"] for e in db.get_events("steps") if e["event"] == "node_start"]
        assert Counter(started) == Counter(names)


class Count(Node):
    """Follows itself until it has had its number of steps."""

    steps = 0

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        self.steps += 1
        return "again" if self.steps < 20 else "enough"


def test_branches_in_threads_never_share_a_number(tmp_path: Path) -> None:
    """Each step has a number of its own, also if threads are switched right after its commit."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        branches = [Count(name=f"branch {number}") for number in range(16)]
        for branch in branches:
            branch.then("again", branch)
        flow = Flow(Parallel(*branches), db_path=tmp_path / "runs.db", run_id="many")
        flow.run({})
    finally:
        sys.setswitchinterval(interval)
    with WorkflowDB(tmp_path / "runs.db") as db:
        assert [row["step"] for row in db.get_checkpoints("many")] == list(range(16 * 20 + 1))


def test_max_steps_counts_the_steps_of_branches() -> None:
    """A loop in a branch is stopped like any other."""
    again = Do("again", lambda store: "again")
    again.then("again", again)
    with pytest.raises(MaxStepsError, match="max_steps=20"):
        Flow(Parallel(again), max_steps=20).run({})


def test_branches_of_branches() -> None:
    """A branch may fork again; a parallel node may be inside a nested flow."""
    deep = Parallel(Do("x", put("x", 1)), Do("y", put("y", 2)), name="deep")
    inner = Flow(
        deep.then("default", Do("sum", lambda s: s.update(z=s["x"] + s["y"]))), flow_name="in"
    )
    outer = Flow(Parallel(inner, Do("w", put("w", 4)), name="fork"), flow_name="outer")
    store = Flow(outer).run({})
    assert store.as_dict() == {"x": 1, "y": 2, "z": 3, "w": 4}


def test_a_batch_in_a_branch() -> None:
    """A batch node works in a branch as elsewhere."""

    class Double(BatchNode[int, int, Literal["default"]]):
        concurrency = 3

        def prep(self, store: Store[Any]) -> list[int]:
            return [1, 2, 3]

        def exec(self, number: int) -> int:
            return number * 2

        def post(self, store: Store[Any], items: Any, results: list[int]) -> Literal["default"]:
            store["doubled"] = results
            return "default"

    assert Flow(Parallel(Double())).run({})["doubled"] == [2, 4, 6]


class Await(Node):
    """Needs a running event loop and a task, as clients of services do."""

    async def exec(self, prepared: object) -> str:
        return await asyncio.wait_for(asyncio.to_thread(lambda: "came"), WAIT)

    async def post(self, store: Store[Any], prepared: object, result: str) -> str:
        await asyncio.get_running_loop().create_task(asyncio.sleep(0))
        store[self.name] = result
        return "default"


@DRIVERS
@pytest.mark.parametrize(
    "make",
    [
        lambda: Parallel(Await(name="a"), name="both"),
        lambda: Parallel(Await(name="a"), Node(name="b"), name="both"),
        lambda: Parallel(Flow(Await(name="a"), flow_name="inner"), name="both"),
        lambda: Parallel(Parallel(Await(name="a"), name="inner"), name="both"),
        lambda: Parallel(
            FanOut(Await(name="a"), each=key("items"), as_=key("item"), concurrency=1), name="both"
        ),
        lambda: FanOut(Parallel(Await(name="a"), name="inner"), each=key("items"), as_=key("item")),
    ],
    ids=["one", "two", "a flow", "one in one", "items in one", "one for each item"],
)
def test_a_branch_awaits_on_an_event_loop(make: Callable[[], Node], driver: str) -> None:
    """However many branches there are, asynchronous phases find a running event loop."""
    assert go(Flow(make()), driver, {"items": [1]})["a"] == "came"


# -- fan-out --------------------------------------------------------------------------------------


@DRIVERS
@pytest.mark.parametrize("concurrency", [1, 3])
def test_fan_out_runs_the_branch_for_each_item(driver: str, concurrency: int) -> None:
    """Each item has a branch of its own; increments are merged in the order of the items."""

    @node(writes=B.a)
    def measure(word: str) -> int:
        return len(word)

    @node(writes=(item(B.log), B.total))
    async def report(word: str, a: int) -> tuple[str, int]:
        return f"{word}: {a}", a

    # The field a is written in every branch, so it must be private to one: a flow that cleans up.
    @node(writes=B.a)
    def clean() -> int:
        return 0

    branch = Flow(measure, flow_name="branch")
    branch.then(measure, report).then(report, clean)
    fan = FanOut(branch, each=B.words, as_=B.word, concurrency=concurrency, name="fan")
    store = go(Flow(fan, schema=Board), driver, {"words": ["aaa", "b", "cc"]})
    assert store["log"] == ["aaa: 3", "b: 1", "cc: 2"]
    assert (store["total"], store["word"]) == (6, "")


def test_fan_out_is_bounded() -> None:
    """No more than ``concurrency`` branches run at once."""
    barrier = threading.Barrier(2, timeout=WAIT)
    guard = threading.Lock()
    now = most = 0

    def meet(store: Store[Any]) -> None:
        nonlocal now, most
        with guard:
            now += 1
            most = max(most, now)
        barrier.wait()
        with guard:
            now -= 1

    fan = FanOut(Do("meet", meet), each=key("items"), as_=key("item"), concurrency=2)
    Flow(fan).run({"items": list(range(6))})
    assert most == 2


def test_fan_out_refuses_what_is_no_list() -> None:
    """A text where items are expected is refused by name."""
    fan = FanOut(Do("one", put("a", 1)), each=key("items"), as_=key("item"))
    with pytest.raises(InvalidValueError, match="field 'items', which holds str"):
        Flow(fan).run({"items": "text"})


# -- resume ---------------------------------------------------------------------------------------


class Trace:
    """Nodes that write down each ``exec``, and fail while they are told to."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.calls: list[str] = []
        self.keys: dict[str, set[str]] = {}

    def node(self, name: str, field: str | None = None) -> Node[Any, Any, Any]:
        trace = self

        class Step(Node):
            def exec(self, prepared: Any) -> str:
                where = "/".join((*context().path, name))
                trace.calls.append(where)
                trace.keys.setdefault(where, set()).add(context().idempotency_key)
                if where in trace.broken:
                    raise RuntimeError(where)
                return where

            def post(self, store: Store[Any], prepared: Any, where: str) -> str:
                store.reduce("log", where)
                if field is not None:
                    store[field] = [*store.get(field, []), where]
                return "default"

        return Step(name=name)


class Log(BaseModel):
    log: Annotated[list[str], append] = []
    left: list[str] = []
    right: list[str] = []
    items: list[str] = []
    item: str = ""


L = fields(Log)


def forked(trace: Trace) -> Flow[Any]:
    """``before``, two branches of two and three nodes, ``after``."""
    a, b = trace.node("a", "left"), trace.node("b", "left")
    c, d, e = (trace.node(name, "right") for name in "cde")
    a.then("default", b)
    inner = Flow(d.then("default", e), flow_name="inner")
    c.then("default", inner)
    fork = Parallel(a, c, name="fork")
    before, after = trace.node("before"), trace.node("after")
    return Flow(before.then("default", fork.then("default", after)), flow_name="forked")


STEPS = ["before", "fork/a", "fork/b", "fork/c", "fork/inner/d", "fork/inner/e", "after"]


@DRIVERS
@pytest.mark.parametrize("broken", STEPS)
def test_a_resume_goes_on_inside_the_branches(broken: str, driver: str, tmp_path: Path) -> None:
    """Whichever step failed, the finished steps of all branches are not executed again."""
    trace = Trace()
    trace.broken = {broken}
    flow = Flow(
        forked(trace).start,
        flow_name="forked",
        schema=Log,
        db_path=tmp_path / "runs.db",
        run_id="resumed",
    )
    with pytest.raises(RuntimeError, match=broken):
        go(flow, driver, {})
    with WorkflowDB(tmp_path / "runs.db") as db:
        finished = [row["node_name"] for row in db.get_checkpoints("resumed")]
    assert broken not in finished
    trace.broken.clear()
    trace.calls.clear()
    store = flow.resume("resumed") if driver == "run" else asyncio.run(flow.resume_async("resumed"))
    assert not set(trace.calls) & set(finished)
    assert store["log"] == STEPS
    assert store["left"] == ["fork/a", "fork/b"]
    assert store["right"] == ["fork/c", "fork/inner/d", "fork/inner/e"]
    assert all(len(keys) == 1 for keys in trace.keys.values())
    with WorkflowDB(tmp_path / "runs.db") as db:
        rows = db.get_checkpoints("resumed")
        assert sorted(row["node_name"] for row in rows) == sorted([*STEPS, "fork"])
        assert [row["step"] for row in rows] == list(range(8))


def test_the_result_of_an_exec_in_a_branch_is_replayed(tmp_path: Path) -> None:
    """After a bug in ``post`` in a branch, ``exec`` is not called again; its result is taken."""
    calls: list[str] = []
    broken = [True]

    class Pay(Node):
        def exec(self, prepared: Any) -> str:
            calls.append(self.name)
            return self.name

        def post(self, store: Store[Any], prepared: Any, result: str) -> str:
            if broken:
                raise RuntimeError(result)
            store[self.name] = result
            return "default"

    fork = Parallel(Pay(name="one"), Pay(name="two"))
    flow = Flow(fork, db_path=tmp_path / "runs.db", run_id="replayed")
    with pytest.raises(RuntimeError):
        flow.run({})
    first = sorted(calls)
    broken.clear()
    assert flow.resume("replayed").as_dict() == {"one": "one", "two": "two"}
    assert sorted(calls) == ["one", "two"]
    assert first


@pytest.mark.parametrize("times", [1, 3])
def test_a_resume_goes_on_inside_branches_of_branches(times: int, tmp_path: Path) -> None:
    """Each of several failures deep inside leaves what was finished, at every level."""
    trace = Trace()
    x, y, z = trace.node("x", "left"), trace.node("y"), trace.node("z")
    deep = Parallel(x, y.then("default", z), name="deep")
    start, end = trace.node("start"), trace.node("end")
    inner = Flow(start.then("default", deep.then("default", end)), flow_name="inner")
    fork = Parallel(inner, trace.node("other", "right"), name="fork")
    flow = Flow(fork, schema=Log, db_path=tmp_path / "runs.db", run_id="deep")
    path = "fork/inner/deep/"
    for number, broken in enumerate((path + "y", path + "z", "fork/inner/end")[:times]):
        trace.broken = {broken}
        with pytest.raises(RuntimeError, match=broken):
            flow.resume("deep") if number else flow.run({})
    trace.broken.clear()
    store = flow.resume("deep")
    wanted = [path + "x", path + "y", path + "z"]
    assert store["log"] == ["fork/inner/start", *wanted, "fork/inner/end", "fork/other"]
    assert (store["left"], store["right"]) == ([path + "x"], ["fork/other"])
    assert trace.calls.count("fork/inner/start") == 1
    assert all(len(keys) == 1 for keys in trace.keys.values())


def test_a_resume_goes_on_where_a_branch_begins_with_branches(tmp_path: Path) -> None:
    """A branch whose first node is parallel has no step of its own yet; those inside it have."""
    trace = Trace()
    deep = Parallel(trace.node("x", "left"), trace.node("y").then("default", trace.node("z")))
    inner = Flow(Flow(deep, flow_name="in"), flow_name="inner")
    flow = Flow(Parallel(inner, name="fork"), schema=Log, db_path=tmp_path / "r.db", run_id="first")
    where = "fork/inner/in/Parallel/"
    trace.broken = {where + "z"}
    with pytest.raises(RuntimeError):
        flow.run({})
    with WorkflowDB(tmp_path / "r.db") as db:
        finished = [row["node_name"] for row in db.get_checkpoints("first")]
    trace.broken.clear()
    trace.calls.clear()
    assert flow.resume("first")["log"] == [where + name for name in "xyz"]
    assert where + "y" in finished
    assert not set(trace.calls) & set(finished)


def test_a_resume_goes_on_inside_a_fan_out(tmp_path: Path) -> None:
    """Only the items that were not finished are worked on again, each from its own step on."""
    trace = Trace()
    branch = trace.node("one").then("default", trace.node("two"))
    fan = FanOut(branch, each=L.items, as_=L.item, concurrency=1, name="fan")
    flow = Flow(fan, schema=Log, db_path=tmp_path / "runs.db", run_id="fanned")
    trace.broken = {"fan[3]/two"}
    with pytest.raises(RuntimeError):
        flow.run({"items": list("abcde")})
    trace.broken.clear()
    trace.calls.clear()
    store = flow.resume("fanned")
    assert trace.calls == ["fan[3]/two", "fan[4]/one", "fan[4]/two"]
    assert store["log"] == [f"fan[{n}]/{name}" for n in range(5) for name in ("one", "two")]
    assert store["item"] == ""


def test_a_fork_inside_the_branches_begins_them_anew(tmp_path: Path) -> None:
    """A run forked from a step of a branch begins at the parallel node, on the store before."""
    trace = Trace()
    flow = Flow(
        forked(trace).start,
        flow_name="forked",
        schema=Log,
        db_path=tmp_path / "runs.db",
        run_id="parent",
    )
    flow.run({})
    trace.calls.clear()
    assert flow.resume(flow.fork("parent", 3))["log"] == STEPS
    assert sorted(trace.calls) == sorted(STEPS[1:])


# -- definitions ----------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused() -> None:
    """Branches without a name of their own, no branches, a class, a wrong setting: all refused."""
    one: Any = Do("one", put("a", 1))
    parallel: Any = Parallel
    fan: Any = FanOut
    refs = {"each": key("items"), "as_": key("item")}
    cases: tuple[tuple[Callable[[], Any], str], ...] = (
        (lambda: parallel(one, Do("one", put("b", 1))), "several branches have the name 'one'"),
        (parallel, "name the branches"),
        (lambda: parallel(Do), r"pass an instance, with \(\)"),
        (lambda: parallel([one]), "write it without the list"),
        (lambda: parallel(one, on_error="ignore"), "must be 'stop' or 'collect'"),
        (lambda: parallel(one, errors=key("e")), "needs on_error='collect'"),
        (lambda: fan(one, each="items", as_=key("item")), "each='items' is a string"),
        (lambda: fan(one, concurrency=0, **refs), "whole number of at least 1"),
    )
    for make, match in cases:
        with pytest.raises(DefinitionError, match=match):
            make()


def test_a_parallel_node_inside_itself_is_refused() -> None:
    """A branch that leads back to its own parallel node is refused by name."""
    one = Do("one", put("a", 1))
    fork = Parallel(one, name="fork")
    one.then("default", fork)
    with pytest.raises(DefinitionError, match="parallel node 'fork' contains itself"):
        Flow(fork).run({})


class Scratch(BaseModel):
    """Fields of which some are only of use inside a branch."""

    numbers: list[int] = []
    number: int
    half: float
    notes: Annotated[list[str], append] = []
    halves: Annotated[list[float], append] = []


C = fields(Scratch)


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("driver", ["run", "run_async"])
def test_private_fields_are_not_merged(concurrency: int, driver: str, tmp_path: Path) -> None:
    """What branches write to a private field stays with them, increments included; no clash."""

    @node(writes=C.half)
    def halve(number: int) -> float:
        return number / 2

    @node(writes=(key("halves"), key("notes")))
    def keep(half: float) -> tuple[float, str]:
        return half, f"half is {half}"

    inner: Flow[Any] = Flow(halve, flow_name="inner")
    inner.then(halve, keep)
    fan = FanOut(
        inner, each=C.numbers, as_=C.number, concurrency=concurrency, private=(C.half, C.notes)
    )
    flow: Flow[Scratch] = Flow(fan, schema=Scratch, db_path=tmp_path / "runs.db")
    assert flow.validate() == []
    given = {"numbers": [1, 2, 3]}
    store = flow.run(given) if driver == "run" else asyncio.run(flow.run_async(given))
    assert store["halves"] == [0.5, 1.0, 1.5]
    assert store["notes"] == []
    assert "half" not in store


def test_a_private_field_is_not_there_after_the_join() -> None:
    """A node behind the branches that reads one is found before the run."""

    @node(writes=C.half)
    def halve(number: int) -> float:
        return number / 2

    @node
    def after(half: float) -> None:
        pass

    fan = FanOut(halve, each=C.numbers, as_=C.number, private=(C.half,))
    flow: Flow[Scratch] = Flow(fan, schema=Scratch, inputs=(C.numbers,))
    assert [one.code for one in flow.then(fan, after).validate()] == ["PF301", "PF302"]


def test_threads_that_outlive_a_ctrl_c_write_no_step(tmp_path: Path) -> None:
    """Once the run has ended, whoever resumes it has the record for himself."""
    begun, go, struck = threading.Barrier(2), threading.Event(), threading.Event()
    workers: list[threading.Thread] = []
    main = threading.main_thread().ident or 0

    def interrupt(*_: object) -> None:
        if not struck.is_set():
            struck.set()
            raise KeyboardInterrupt

    @node(writes=B.log)
    def work(word: str) -> Any:
        if not go.is_set():
            workers.append(threading.current_thread())
            if begun.wait(WAIT) == 0:
                # Once more where it came right before the main thread began to wait.
                while not struck.wait(0.01):
                    signal.pthread_kill(main, signal.SIGINT)
            go.wait(WAIT)
        return word

    fan = FanOut(work, each=B.words, as_=B.word, name="fan")
    flow = Flow(fan, schema=Board, db_path=tmp_path / "runs.db", run_id="r")
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            flow.run({"words": ["x", "y"]})
    finally:
        signal.signal(signal.SIGINT, before)
    go.set()
    for worker in workers:
        worker.join(WAIT)
    with WorkflowDB(tmp_path / "runs.db") as db:
        assert db.get_checkpoints("r") == []
    assert flow.resume("r")["log"] == ["x", "y"]


def test_a_setting_that_there_is_not_is_refused() -> None:
    """A misspelt setting is answered with the one that was probably meant."""
    kind: Any = Parallel
    with pytest.raises(TypeError, match=r"Parallel\(\.\.\.\) takes no 'on_eror'.*'on_error'"):
        kind(Node(), on_eror="collect")


@pytest.mark.parametrize(
    ("name", "value"),
    [("timeout", 3), ("max_retries", 3), ("retry_on", OSError), ("exec", print)],
)
def test_what_only_single_steps_have_is_refused(name: str, value: object) -> None:
    """It would have no effect on branches, whether the class has it or it is set later."""
    kind = type("Mine", (Parallel,), {name: value})
    with pytest.raises(DefinitionError, match=rf"Mine has {name}, .* runs branches"):
        kind(Node())
    both = Parallel(Node(), name="both")
    setattr(both, name, value)
    with pytest.raises(DefinitionError, match=rf"both has {name}, .* runs branches"):
        Flow(both).run({})
