"""Runs that were started before under the same id, with the same inputs, are joined."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import AskNode, Flow, Node, Question, RunPaused, Store
from pocoflow.errors import DefinitionError, RunExistsError, RunFailedError, ThreadBusyError
from pocoflow.events import FlowEnded


class Article(BaseModel):
    """What is asked, and what comes of it."""

    q: str
    tags: set[str] = set()
    r: str = ""


class Work(Node):
    """Counts how often it works, and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.opened, self.entered = threading.Event(), threading.Event()
        self.opened.set()

    def prep(self, store: Store[Article]) -> str:
        return str(store["q"])

    def exec(self, prep_result: str) -> str:
        self.entered.set()
        assert self.opened.wait(60)
        self.count += 1
        if prep_result == "fail":
            raise ConnectionError("down")
        return prep_result.upper()

    def post(self, store: Store[Article], prep_result: str, exec_result: str) -> str:
        store["r"] = exec_result
        return "done"


def streamed(flow: Flow[Article], given: Any, run_id: str) -> str:
    """Follow a run by its stream to its end; what is in its store then."""
    *_, last = flow.stream(given, run_id=run_id, if_exists="join")
    assert isinstance(last, FlowEnded)
    return str(flow.database.load_checkpoint(run_id, 0)["r"])


async def streamed_async(flow: Flow[Article], given: Any, run_id: str) -> str:
    """The same on an event loop."""
    last: object = None
    async for event in flow.stream_async(given, run_id=run_id, if_exists="join"):
        last = event
    assert isinstance(last, FlowEnded)
    return str(flow.database.load_checkpoint(run_id, 0)["r"])


async def ran_async(flow: Flow[Article], given: Any, run_id: str) -> str:
    """Run on an event loop, or wait there."""
    return (await flow.run_async(given, run_id=run_id, if_exists="join")).state.r


async def awaited(flow: Flow[Article], given: Any, run_id: str) -> str:
    """Start in the background, and await the handle."""
    return (await flow.run_background(given, run_id=run_id, if_exists="join")).state.r


Way = Callable[[Flow[Article], Any, str], str]

WAYS: dict[str, Way] = {
    "run": lambda flow, given, run_id: flow.run(given, run_id=run_id, if_exists="join").state.r,
    "run_async": lambda *given: asyncio.run(ran_async(*given)),
    "run_background": lambda flow, given, run_id: (
        flow.run_background(given, run_id=run_id, if_exists="join").wait(60).state.r
    ),
    "await": lambda *given: asyncio.run(awaited(*given)),
    "stream": streamed,
    "stream_async": lambda *given: asyncio.run(streamed_async(*given)),
}


@pytest.fixture
def work() -> Work:
    """The node."""
    return Work()


@pytest.fixture
def flow(tmp_path: Path, work: Work) -> Flow[Article]:
    """A flow that answers."""
    return Flow(work, flow_name="work", schema=Article, db_path=tmp_path / "runs.db")


@pytest.mark.parametrize("way", WAYS)
def test_many_starts_of_one_id_are_one_run(flow: Flow[Article], work: Work, way: str) -> None:
    """Whoever starts it gets its store, its handle or its events; the work is done once."""
    start = WAYS[way]
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(start, flow, {"q": f"q{n % 2}"}, f"run-{n % 2}") for n in range(8)]
        assert [call.result(60) for call in calls] == ["Q0", "Q1"] * 4
    assert work.count == len(flow.database.list_runs()) == 2


def test_a_run_that_had_to_begin_again_is_joined_by_the_inputs_it_was_given(
    flow: Flow[Article],
) -> None:
    """Runs that begin at once share a transaction: if one is refused, the others begin anew."""
    flow.run({"q": "taken"}, run_id="taken")

    async def many(way: Callable[..., Any]) -> list[Any]:
        refused = (flow.run_async({"q": "other"}, run_id="taken") for _ in range(8))
        calls = (way(flow, {"q": f"q{n}"}, f"{way.__name__}-{n}") for n in range(24))
        mixed = [call for one in zip(refused, calls, calls, calls, strict=True) for call in one]
        return await asyncio.gather(*mixed, return_exceptions=True)

    for way in (ran_async, streamed_async):
        for _ in range(2):  # the second time, all of them are joined
            found = asyncio.run(many(way))
            assert all(isinstance(one, RunExistsError) for one in found[::4])
            answers = [one for n, one in enumerate(found) if n % 4]
            assert answers == [f"Q{n}" for n in range(24)]


@pytest.mark.parametrize("way", WAYS)
def test_a_run_is_joined_while_it_goes_on(flow: Flow[Article], work: Work, way: str) -> None:
    """Whoever comes second waits for the first, and follows it from its first event."""
    work.opened.clear()
    first = flow.run_background({"q": "a"}, run_id="one")
    assert work.entered.wait(60)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(WAYS[way], flow, {"q": "a"}, "one")
        work.opened.set()
        assert second.result(60) == "A"
    assert first.wait(60).state.r == "A"
    assert work.count == 1


def test_the_store_of_a_joined_run_has_the_schema(flow: Flow[Article]) -> None:
    """It is typed as that of a run that was started here."""
    flow.run({"q": "a"}, run_id="one")
    store = flow.run({"q": "a"}, run_id="one", if_exists="join")
    assert store.schema is Article
    assert store.to_model() == Article(q="a", r="A")


def test_a_handle_of_a_joined_run_shows_and_stops_it(flow: Flow[Article], work: Work) -> None:
    """It is as good as that of whoever started the run."""
    work.opened.clear()
    first = flow.run_background({"q": "a"}, run_id="one")
    assert work.entered.wait(60)
    joined = flow.run_background({"q": "a"}, run_id="one", if_exists="join")
    status: str = joined.status
    assert (joined.run_id, status, joined.is_done) == ("one", "running", False)
    assert joined.store["q"] == "a"
    assert "r" not in joined.store or joined.store["r"] == ""
    done = threading.Event()
    joined.add_done_callback(done.set)
    work.opened.set()
    assert joined.wait(60)["r"] == joined.store["r"] == "A"
    assert done.wait(60)
    assert joined.is_done
    assert [one.event.kind for one in joined.follow()][-1] == "flow_end"
    joined.cancel()
    assert joined.status == first.status == "completed"


@pytest.mark.parametrize(
    "again",
    [
        {"q": "a", "tags": {"y", "x", "z"}},
        {"tags": {"z", "y", "x"}, "q": "a"},
        Article(q="a", tags={"x", "z", "y"}),
    ],
)
def test_the_same_inputs_are_the_same_however_they_are_written(
    flow: Flow[Article], again: Any
) -> None:
    """The order of keys and of the elements of sets says nothing; a model gives what was set."""
    flow.run({"q": "a", "tags": {"x", "y", "z"}}, run_id="one")
    assert flow.run(again, run_id="one", if_exists="join").state.r == "A"


@pytest.mark.parametrize("other", [{"q": "b"}, {"q": "a", "r": ""}, Article(q="a", r="")])
def test_other_inputs_are_refused(flow: Flow[Article], other: Any) -> None:
    """What was given counts, not what the run made of it."""
    flow.run({"q": "a"}, run_id="one")
    with pytest.raises(RunExistsError, match="it was started with other inputs"):
        flow.run(other, run_id="one", if_exists="join")


def test_a_run_that_cannot_be_known_again_is_refused(flow: Flow[Article], tmp_path: Path) -> None:
    """One of another flow, or whose inputs nobody has noted."""
    flow.run({"q": "a"}, run_id="one")
    other = Flow(Work(), flow_name="other", schema=Article, db_path=tmp_path / "runs.db")
    with pytest.raises(RunExistsError, match="it is of flow 'work'"):
        other.run({"q": "a"}, run_id="one", if_exists="join")
    flow.run({"q": "a"})
    made = flow.database.list_runs(1)[0]["run_id"]
    with pytest.raises(RunExistsError, match="is not on record"):
        flow.run({"q": "a"}, run_id=made, if_exists="join")


def test_inputs_that_cannot_be_stored_cannot_be_joined(tmp_path: Path) -> None:
    """The first start has them; nobody can tell whether those of the second are the same."""
    flow = Flow(Node(), db_path=tmp_path / "runs.db")
    lock = threading.Lock()
    flow.run({"lock": lock}, run_id="one", if_exists="join")
    with pytest.raises(RunExistsError, match="cannot be stored"):
        flow.run({"lock": lock}, run_id="one", if_exists="join")


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_run_raises_its_recorded_error_and_is_not_resumed(
    flow: Flow[Article], work: Work, way: str
) -> None:
    """Joining never does the work again."""
    with pytest.raises(ConnectionError):
        flow.run({"q": "fail"}, run_id="one")
    with pytest.raises(RunFailedError, match="ConnectionError: down") as caught:
        WAYS[way](flow, {"q": "fail"}, "one")
    assert caught.value.run_id == "one"
    assert work.count == 1


class Ask(AskNode[bool]):
    """Asks."""

    def prep(self, store: Store[Any]) -> Question[bool]:
        return Question("Go on?")


def test_a_paused_run_is_joined_as_far_as_it_is(tmp_path: Path) -> None:
    """Whoever joins it is told what it waits for."""
    flow = Flow(Ask(), db_path=tmp_path / "runs.db")
    for _ in range(2):
        with pytest.raises(RunPaused) as caught:
            flow.run({}, run_id="one", if_exists="join")
        assert len(caught.value.questions) == 1
    stream = flow.stream({}, run_id="one", if_exists="join")
    kinds = [next(stream).kind for _ in range(4)]
    assert kinds == ["flow_start", "node_start", "node_ask", "flow_pause"]
    with pytest.raises(RunPaused):
        next(stream)


def test_a_run_of_a_thread_is_joined_and_others_wait(flow: Flow[Article], work: Work) -> None:
    """The run itself does not count as another one of its thread."""
    work.opened.clear()
    first = flow.run_background({"q": "a"}, run_id="one", thread="t")
    assert work.entered.wait(60)
    joined = flow.run_background({"q": "a"}, run_id="one", thread="t", if_exists="join")
    with pytest.raises(ThreadBusyError):
        flow.run({"q": "b"}, run_id="two", thread="t", if_exists="join")
    work.opened.set()
    assert joined.wait(60)["r"] == first.wait(60)["r"] == "A"


def test_leaving_the_stream_of_a_joined_run_does_not_stop_it(
    flow: Flow[Article], work: Work
) -> None:
    """It belongs to whoever started it."""
    work.opened.clear()
    first = flow.run_background({"q": "a"}, run_id="one")
    assert work.entered.wait(60)
    stream = flow.stream({"q": "a"}, run_id="one", if_exists="join")
    assert next(stream).kind == "flow_start"
    stream.close()
    work.opened.set()
    assert first.wait(60)["r"] == "A"


def test_what_cannot_be_joined_is_refused(flow: Flow[Article]) -> None:
    """An id has to be given, and a database to find it in."""
    with pytest.raises(DefinitionError, match="so give one"):
        flow.run({"q": "a"}, if_exists="join")
    wrong: Any = "replace"
    with pytest.raises(DefinitionError, match="if_exists is 'refuse' or 'join'"):
        flow.run({"q": "a"}, run_id="a", if_exists=wrong)
    with pytest.raises(DefinitionError, match="give it a db_path"):
        Flow(Work(), schema=Article).run({"q": "a"}, run_id="a", if_exists="join")
