"""Runs that their callers address: an id, labels, and run threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, field_validator

from pocoflow import (
    AskNode,
    Flow,
    Node,
    Question,
    RunPaused,
    Store,
    context,
    fields,
    node,
)
from pocoflow.errors import (
    DefinitionError,
    InvalidValueError,
    ResumeError,
    RunExistsError,
    ThreadBusyError,
)
from pocoflow.reducers import append, extend
from tests.rows import row_of
from tests.unit.gates import Gate


class Chat(BaseModel):
    """A conversation."""

    messages: Annotated[list[str], extend] = []
    last: str = ""


class Reply(Node):
    """Answers the last message, or fails at the word."""

    def post(self, store: Store[Chat], prep_result: Any, exec_result: Any) -> str:
        if store["messages"][-1] == "fail":
            raise ConnectionError("down")
        store.reduce("messages", [f"re: {store['messages'][-1]}"])
        return "done"


@pytest.fixture
def chat(tmp_path: Path) -> Flow[Chat]:
    """A flow that adds to its conversation."""
    return Flow(Reply(), flow_name="chat", schema=Chat, db_path=tmp_path / "runs.db")


class Article(BaseModel):
    """What is asked, and what comes of it."""

    q: str
    r: str = ""


@node(writes=fields(Article).r)
async def work(q: str) -> str:
    """Say which run has which input."""
    return f"{context().run_id} for {q}"


def streamed(flow: Flow[Article], user: str) -> str:
    """Stream a run to its end; what is in its store then."""
    for _ in flow.stream({"q": user}, run_id=user):
        pass
    return str(flow.database.load_checkpoint(user, 0)["r"])


async def streamed_async(flow: Flow[Article], user: str) -> str:
    """The same on an event loop."""
    async for _ in flow.stream_async({"q": user}, run_id=user):
        pass
    return str(flow.database.load_checkpoint(user, 0)["r"])


WAYS: dict[str, Callable[[Flow[Article], str], str]] = {
    "run": lambda flow, user: flow.run({"q": user}, run_id=user).state.r,
    "run_async": lambda flow, user: asyncio.run(flow.run_async({"q": user}, run_id=user)).state.r,
    "run_background": lambda flow, user: (
        flow.run_background({"q": user}, run_id=user).wait(60).state.r
    ),
    "stream": streamed,
    "stream_async": lambda flow, user: asyncio.run(streamed_async(flow, user)),
}


# -- an id of the caller's ------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_run_id_belongs_to_one_call(tmp_path: Path, way: str) -> None:
    """Runs that start at once on one flow are stored each under its own id, with its own input."""
    flow = Flow(work, schema=Article, db_path=tmp_path / "runs.db")
    users = [f"user{number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda user: WAYS[way](flow, user), users))
    assert results == [f"{user} for {user}" for user in users]
    assert {run["run_id"] for run in flow.database.list_runs()} == set(users)


def test_requests_of_one_loop_keep_their_ids(tmp_path: Path) -> None:
    """A service names its runs by its own ids: nothing of a call is kept on the flow."""
    flow = Flow(work, schema=Article, db_path=tmp_path / "runs.db")

    async def handle(user: str) -> str:
        return (await flow.run_async({"q": user}, run_id=user)).state.r

    async def serve() -> list[str]:
        return await asyncio.gather(*(handle(f"user{number}") for number in range(6)))

    assert asyncio.run(serve()) == [f"user{one} for user{one}" for one in range(6)]


def test_the_id_of_a_call_counts_before_that_of_the_flow(tmp_path: Path) -> None:
    """Who sets an id on the flow for one run at a time may give another run its own."""
    flow = Flow(work, schema=Article, db_path=tmp_path / "runs.db", run_id="set")
    flow.run({"q": "a"}, run_id="given")
    flow.run({"q": "b"})
    assert [run["run_id"] for run in flow.database.list_runs()] == ["set", "given"]


def test_an_id_needs_no_database() -> None:
    """A run that nobody keeps has the id that it was given."""
    assert Flow(work, schema=Article).run({"q": "a"}, run_id="mine").state.r == "mine for a"


def test_an_id_that_is_used_is_refused(chat: Flow[Chat]) -> None:
    """A second run of an id is no run."""
    chat.run({"messages": ["a"]}, run_id="one")
    with pytest.raises(RunExistsError, match="'one' already"):
        chat.run({"messages": ["b"]}, run_id="one")
    assert len(chat.database.list_runs()) == 1


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"run_id": ""}, "run_id= must be a non-empty string"),
        ({"thread": 5}, "thread= must be a non-empty string"),
        ({"labels": ["user"]}, "a dict of texts"),
        ({"labels": {"user": 5}}, "label 'user' must be a non-empty string"),
        ({"labels": {"": "a"}}, "the key of a label"),
        ({"thread": "a", "if_busy": "queue"}, "if_busy is 'refuse' or 'wait'"),
        ({"if_busy": "wait"}, "so name one"),
    ],
)
def test_what_makes_no_sense_is_refused(chat: Flow[Chat], named: Any, said: str) -> None:
    """An id, a thread and labels are texts that can be stored; a choice is one there is."""
    with pytest.raises(DefinitionError, match=said):
        chat.run({"messages": ["a"]}, **named)


def test_a_misspelt_keyword_is_refused_with_what_was_meant(chat: Flow[Chat]) -> None:
    """An argument that would have no effect starts no run."""
    misspelt: Any = {"run_idd": "a"}
    with pytest.raises(TypeError, match="did you mean 'run_id'"):
        chat.run({"messages": ["a"]}, **misspelt)
    assert chat.database.list_runs() == []


@pytest.mark.parametrize("named", [{"thread": "a"}, {"labels": {"user": "ann"}}])
def test_what_needs_a_database_is_refused_without_one(named: Any) -> None:
    """A thread, or a label, that nobody would find again is refused."""
    with pytest.raises(DefinitionError, match="give it a db_path"):
        Flow(work, schema=Article).run({"q": "a"}, **named)


# -- labels ---------------------------------------------------------------------------------------


def test_runs_are_found_by_thread_and_labels(chat: Flow[Chat]) -> None:
    """All labels that are asked for have to be there; a thread and other filters narrow further."""
    hello = {"messages": ["hello"]}
    chat.run(hello, run_id="a1", thread="ann", labels={"user": "ann", "kind": "x"})
    chat.run(hello, run_id="a2", thread="ann", labels={"user": "ann", "kind": "y"})
    chat.run(hello, run_id="b1", thread="bob", labels={"user": "bob", "kind": "x"})
    chat.run(hello, run_id="c1")
    db = chat.database

    def found(**wanted: Any) -> list[str]:
        return [run["run_id"] for run in db.list_runs(**wanted)]

    assert found(thread="ann") == ["a2", "a1"]
    assert found(labels={"kind": "x"}) == ["b1", "a1"]
    assert found(labels={"kind": "x", "user": "ann"}) == ["a1"]
    assert found(thread="ann", labels={"kind": "y"}) == ["a2"]
    assert found(thread="ann", flow_name="other") == []
    assert found(labels={"kind": "x"}, status="failed") == []
    assert found(labels={"kind": "x"}, limit=1) == ["b1"]
    assert found(labels={"user": "zoe"}) == found(thread="zoe") == []
    assert found(text="ANN") == ["a2", "a1"]
    run = row_of(db, "a1")
    assert (run["thread"], run["labels"]) == ("ann", {"kind": "x", "user": "ann"})
    assert [one["labels"] for one in db.list_runs(1)] == [{}]


@pytest.mark.parametrize("labels", [{"user": "a\0b"}, {"us\0er": "ann"}])
def test_a_label_by_which_no_run_would_be_found_is_refused(
    chat: Flow[Chat], labels: dict[str, str]
) -> None:
    """SQLite reads such text only as far as the NUL character."""
    with pytest.raises(DefinitionError, match="NUL"):
        chat.run({"messages": []}, labels=labels)


def test_a_page_of_labelled_runs_follows_another(chat: Flow[Chat]) -> None:
    """``before`` and ``limit`` work with labels as they do without."""
    for number in range(5):
        chat.run({"messages": ["m"]}, run_id=str(number), labels={"odd": str(number % 2)})
    db = chat.database
    first = db.list_runs(2, labels={"odd": "0"})
    rest = db.list_runs(2, labels={"odd": "0"}, before=first[-1]["run_no"])
    assert [run["run_id"] for run in [*first, *rest]] == ["4", "2", "0"]


def test_prune_goes_by_thread_and_labels(chat: Flow[Chat]) -> None:
    """Only runs that match are removed, and their labels with them."""
    for number in range(3):
        chat.run({"messages": ["m"]}, run_id=f"a{number}", labels={"user": "ann"})
        chat.run({"messages": ["m"]}, run_id=f"b{number}", labels={"user": "bob"})
    db = chat.database
    assert db.prune(keep=1, labels={"user": "ann"}) == 2
    assert {run["run_id"] for run in db.list_runs()} == {"a2", "b0", "b1", "b2"}
    assert db.connection.row("SELECT count(*) FROM pf_labels")[0] == 4  # type: ignore[index]
    assert db.prune(keep=0, thread="zoe") == 0


# -- run threads ----------------------------------------------------------------------------------


def test_a_run_begins_where_the_last_of_its_thread_ended(chat: Flow[Chat]) -> None:
    """Each run of a thread adds to the conversation; other threads have their own."""
    for text in ("one", "two"):
        chat.run({"messages": [text]}, thread="ann")
    store = chat.run({"messages": ["three"]}, thread="ann")
    other = chat.run({"messages": ["hello"]}, thread="bob")
    assert store["messages"] == ["one", "re: one", "two", "re: two", "three", "re: three"]
    assert other["messages"] == ["hello", "re: hello"]


class Price(BaseModel):
    """A price, from outside in euros."""

    cents: int = 0
    all_cents: Annotated[list[int], extend] = []

    @field_validator("cents", mode="before")
    @classmethod
    def of_euros(cls, euros: int) -> int:
        """What comes from outside is in euros."""
        return euros * 100


def test_what_a_model_has_accepted_is_not_validated_again(tmp_path: Path) -> None:
    """In a thread, too, a value meets its validators once: in the model, or as a dict is taken."""

    class Note(Node):
        def post(self, store: Store[Price], prep_result: Any, exec_result: Any) -> str:
            store.reduce("all_cents", [store["cents"]])
            return "done"

    flow = Flow(Note(), flow_name="prices", schema=Price, db_path=tmp_path / "runs.db")
    flow.run(Price(cents=5), thread="ann")
    flow.run(Price(cents=6), thread="ann")
    store = flow.run({"cents": 7}, thread="ann")
    assert store["all_cents"] == [500, 600, 700]


def test_a_model_gives_the_fields_that_were_set(chat: Flow[Chat]) -> None:
    """The defaults of a model do not replace what the thread has."""
    chat.run(Chat(messages=["one"], last="kept"), thread="ann")
    store = chat.run(Chat(messages=["two"]), thread="ann")
    assert store["last"] == "kept"
    assert store["messages"] == ["one", "re: one", "two", "re: two"]


def test_the_input_of_a_reducer_field_is_an_increment_from_the_first_run_on(
    tmp_path: Path,
) -> None:
    """A reducer of single elements takes one as its input, also when the thread is new."""

    class Notes(BaseModel):
        notes: Annotated[list[str], append] = []

    class Nothing(Node):
        def post(self, store: Store[Notes], prep_result: Any, exec_result: Any) -> str:
            return str(len(store["notes"]))

    flow = Flow(Nothing(), schema=Notes, db_path=tmp_path / "runs.db")
    flow.run({"notes": "a"}, thread="t")
    assert flow.run({"notes": "b"}, thread="t")["notes"] == ["a", "b"]


def test_a_failed_run_adds_nothing_to_its_thread(chat: Flow[Chat]) -> None:
    """The next run begins where the last completed one ended."""
    chat.run({"messages": ["one"]}, thread="ann")
    with pytest.raises(ConnectionError):
        chat.run({"messages": ["fail"]}, thread="ann")
    assert chat.run({"messages": ["two"]}, thread="ann")["messages"] == [
        "one",
        "re: one",
        "two",
        "re: two",
    ]


def test_a_failed_run_is_resumed_only_while_no_later_one_has_begun(chat: Flow[Chat]) -> None:
    """What a later run of the thread has begun with is not changed behind its back."""
    with pytest.raises(ConnectionError):
        chat.run({"messages": ["fail"]}, run_id="first", thread="ann")
    with pytest.raises(ConnectionError):
        chat.resume("first")
    chat.run({"messages": ["one"]}, run_id="second", thread="ann")
    with pytest.raises(ResumeError, match="'second' of its run thread 'ann' has begun"):
        chat.resume("first", changes={"messages": ["fixed"]})
    assert chat.database.handle("first").status == "failed"


def test_threads_belong_to_their_flow(tmp_path: Path) -> None:
    """Two flows use one name for a thread without noticing each other; a renamed flow goes on."""
    path = tmp_path / "runs.db"
    first = Flow(Reply(), flow_name="first", schema=Chat, db_path=path)
    second = Flow(Reply(), flow_name="second", schema=Chat, db_path=path)
    first.run({"messages": ["a"]}, thread="ann")
    assert second.run({"messages": ["b"]}, thread="ann")["messages"] == ["b", "re: b"]
    renamed = Flow(Reply(), flow_name="new", formerly=("first",), schema=Chat, db_path=path)
    assert renamed.run({"messages": ["c"]}, thread="ann")["messages"][:2] == ["a", "re: a"]


def test_the_dict_of_the_caller_is_left_as_it_is(chat: Flow[Chat]) -> None:
    """What a run of a thread is given is its input, and its store is another object."""
    given = {"messages": ["one"]}
    chat.run(given, thread="ann")
    chat.run(given, thread="ann")
    assert given == {"messages": ["one"]}


def test_a_store_is_no_input_of_a_thread(chat: Flow[Chat]) -> None:
    """Nobody could tell its values from its defaults."""
    with pytest.raises(DefinitionError, match="takes its inputs as a dict"):
        chat.run(Store(Chat(messages=["a"])), thread="ann")


def test_an_input_that_does_not_fit_starts_no_run(chat: Flow[Chat]) -> None:
    """It is refused as in any run."""
    wrong: Any = {"last": 5}
    with pytest.raises(InvalidValueError, match="'last'"):
        chat.run(wrong, thread="ann")
    assert chat.database.list_runs(thread="ann") == []


def test_a_value_that_could_not_be_saved_is_unset_in_the_next_run(tmp_path: Path) -> None:
    """A client of one run is not missed by the next, which makes its own."""

    class Client(Node):
        def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> str:
            assert "lock" not in store
            assert store.get("lock") is None
            store["lock"] = threading.Lock()
            store["count"] = store.get("count", 0) + 1
            return "done"

    flow = Flow(Client(), db_path=tmp_path / "runs.db")
    flow.run({}, thread="t")
    assert flow.run({}, thread="t")["count"] == 2


def test_a_schema_that_changed_is_treated_as_in_a_resume(tmp_path: Path) -> None:
    """What does not fit the schema as it is now is refused with what to do."""
    path = tmp_path / "runs.db"
    chat = Flow(Reply(), flow_name="chat", schema=Chat, db_path=path)
    chat.run({"messages": ["one"], "last": "long"}, thread="ann")

    class Shorter(BaseModel):
        messages: Annotated[list[str], extend] = []
        last: Annotated[str, Field(max_length=2)] = ""

    changed = Flow(Reply(), flow_name="chat", schema=Shorter, db_path=path)
    with pytest.raises(ResumeError, match="does not fit the schema as it is now"):
        changed.run({"messages": ["two"]}, thread="ann")


def test_prune_keeps_the_last_completed_run_of_a_thread(chat: Flow[Chat]) -> None:
    """The next run of the thread begins where it would have begun."""
    for text in ("one", "two"):
        chat.run({"messages": [text]}, thread="ann")
    with pytest.raises(ConnectionError):
        chat.run({"messages": ["fail"]}, thread="ann")
    chat.run({"messages": ["hello"]}, thread="bob")
    assert chat.database.prune(keep=0) == 2
    assert len(chat.run({"messages": ["three"]}, thread="ann")["messages"]) == 6
    assert chat.database.prune(keep=0, thread="ann") == 1


def test_prune_removes_a_whole_thread_where_that_is_asked_for(chat: Flow[Chat]) -> None:
    """The next run of it begins with its inputs alone; other threads stay."""
    for thread in ("ann", "ann", "bob"):
        chat.run({"messages": ["hello"]}, thread=thread)
    db = chat.database
    which: dict[str, Any] = {"keep": 0, "thread": "ann", "whole_threads": True}
    assert db.prune(**which, dry_run=True) == 2
    assert db.prune(**which) == 2
    assert len(chat.run({"messages": ["three"]}, thread="ann")["messages"]) == 2
    assert [run["thread"] for run in db.list_runs()] == ["ann", "bob"]


def test_a_fork_has_an_id_and_labels_of_its_callers(chat: Flow[Chat]) -> None:
    """They are those of the new run alone; an id that is used is refused."""
    chat.run({"messages": ["one"]}, run_id="one", labels={"user": "ann"})
    assert chat.fork("one", -1, new_id="two", labels={"user": "bob"}) == "two"
    chat.resume("two")
    assert [run["run_id"] for run in chat.database.list_runs(labels={"user": "bob"})] == ["two"]
    assert [run["run_id"] for run in chat.database.list_runs(labels={"user": "ann"})] == ["one"]
    with pytest.raises(RunExistsError, match="'two'"):
        chat.fork("one", -1, new_id="two")
    with pytest.raises(DefinitionError, match="new_id="):
        chat.fork("one", -1, new_id="")
    with pytest.raises(TypeError, match="'lables'; did you mean 'labels'"):
        chat.fork("one", -1, lables={})  # type: ignore[call-arg]


# -- one run of a thread at a time ----------------------------------------------------------------


class Ask(AskNode[bool]):
    """Waits for an answer."""

    def prep(self, store: Store[Any]) -> Question[bool]:
        return Question("Go on?")


def test_a_second_run_of_a_thread_is_refused_while_one_is_open(tmp_path: Path) -> None:
    """A paused run keeps its thread until it has ended, which the message says how to do."""
    ask = Ask()
    flow = Flow(ask, flow_name="ask", db_path=tmp_path / "runs.db")
    with pytest.raises(RunPaused):
        flow.run({}, run_id="first", thread="t")
    with pytest.raises(ThreadBusyError, match=r"flow\.answer\('first'") as caught:
        flow.run({}, thread="t")
    assert (caught.value.run_id, caught.value.thread) == ("first", "t")
    assert caught.value.status == "paused"
    flow.answer("first", ask.reply(True))
    flow.resume("first")
    with pytest.raises(RunPaused):
        flow.run({}, run_id="second", thread="t")
    assert flow.database.request_cancel("second")
    with pytest.raises(RunPaused):
        flow.run({}, run_id="third", thread="t")
    with pytest.raises(ResumeError, match="'third' of its run thread"):
        flow.resume("second")


def test_an_interrupted_run_keeps_its_thread_until_it_is_resumed_or_cancelled(
    chat: Flow[Chat],
) -> None:
    """Its messages are not lost to a run that begins without them."""
    db = chat.database
    db.insert_run({"run_id": "dead", "flow_name": "chat", "thread": "ann", "status": "running"})
    with db.connection.transaction() as raw:
        raw.execute("UPDATE pf_run SET owned = 1")
    with pytest.raises(ThreadBusyError, match=r"which is interrupted.*flow\.resume\('dead'\)"):
        chat.run({"messages": ["one"]}, thread="ann")
    assert row_of(db, "dead")["error_type"] == "Interrupted"
    assert db.request_cancel("dead")
    assert db.handle("dead").status == "cancelled"
    assert chat.run({"messages": ["one"]}, thread="ann")["messages"] == ["one", "re: one"]


class SlowReply(Gate):
    """Waits until it is opened, then adds to the conversation."""

    def post(self, store: Store[Chat], prep_result: Any, exec_result: Any) -> str:
        store.reduce("messages", ["re"])
        return "done"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_second_run_of_a_thread_waits(tmp_path: Path, is_async: bool) -> None:
    """It begins once the first has completed, with what that has written."""
    gate = SlowReply()
    flow = Flow(gate, schema=Chat, db_path=tmp_path / "runs.db")
    first = flow.run_background({"messages": ["one"]}, thread="t")
    assert gate.entered.wait(60)
    with ThreadPoolExecutor(1) as pool:
        if is_async:
            begin = flow.run_async({"messages": ["two"]}, thread="t", if_busy="wait")
            second = pool.submit(asyncio.run, begin)
        else:
            second = pool.submit(flow.run, {"messages": ["two"]}, thread="t", if_busy="wait")
        assert not second.done()
        gate.opened.set()
        assert second.result(60)["messages"] == ["one", "re", "two", "re"]
    assert first.status == "completed"


@pytest.mark.parametrize("way", ["run", "run_async"])
def test_two_writers_on_one_thread_lose_no_message(tmp_path: Path, way: str) -> None:
    """Every message of every writer is in the conversation once, with its answer behind it."""
    flow = Flow(Reply(), flow_name="chat", schema=Chat, db_path=tmp_path / "runs.db")
    texts = [f"{writer}-{number}" for writer in range(2) for number in range(10)]

    async def write_all() -> None:
        await asyncio.gather(
            *(flow.run_async({"messages": [text]}, thread="t", if_busy="wait") for text in texts)
        )

    if way == "run_async":
        asyncio.run(write_all())
    else:
        with ThreadPoolExecutor(2) as pool:
            for begun in [
                pool.submit(flow.run, {"messages": [text]}, thread="t", if_busy="wait")
                for text in texts
            ]:
                begun.result(60)
    last = flow.database.list_runs(1, thread="t")[0]
    messages = flow.database.load_checkpoint(last["run_id"], 0)["messages"]
    assert sorted(messages[::2]) == sorted(texts)
    assert messages[1::2] == [f"re: {text}" for text in messages[::2]]


def test_a_paused_run_says_what_it_lacks_to_go_on(tmp_path: Path) -> None:
    """An answer, or somebody who resumes it; to whom joins it and to whom begins another one."""

    class Ask(AskNode[bool]):
        def exec(self, prepared: object) -> Question[bool]:
            return Question("Really?")

    ask = Ask()
    flow: Flow[Any] = Flow(ask, db_path=tmp_path / "runs.db")
    with pytest.raises(RunPaused):
        flow.run({}, run_id="a", thread="t")
    with pytest.raises(ThreadBusyError, match=r"flow\.answer\('a', .* or flow\.resume\('a'\)"):
        flow.submit({}, thread="t")
    flow.answer("a", ask.reply(True))
    with pytest.raises(ThreadBusyError, match=r"does not; or end it: flow\.resume\('a'\)"):
        flow.submit({}, thread="t")
    with pytest.raises(RunPaused, match=r"'a' has its answers, .*flow\.resume\('a'\)"):
        flow.run({}, run_id="a", thread="t", if_exists="join")


def test_a_fork_is_of_no_thread(chat: Flow[Chat]) -> None:
    """Who tries something else does not change the conversation."""
    chat.run({"messages": ["one"]}, run_id="a", thread="ann")
    forked = chat.fork("a", step=-1)
    assert row_of(chat.database, forked)["thread"] is None
    chat.resume(forked)
    assert len(chat.run({"messages": ["two"]}, thread="ann")["messages"]) == 4


def test_a_queued_run_is_cancelled_at_once(chat: Flow[Chat]) -> None:
    """Nobody runs it, so nobody has to be asked."""
    chat.run({"messages": ["one"]}, run_id="a")
    forked = chat.fork("a", step=-1)
    assert chat.database.request_cancel(forked)
    assert chat.database.handle(forked).status == "cancelled"
