"""Runs that are followed by their committed events, in whatever process they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pocoflow import AskNode, Flow, Node, Parallel, Question, RunPaused, Store, WorkflowDB
from pocoflow.errors import (
    DatabaseFileError,
    DefinitionError,
    OtherFlowError,
    RunFailedError,
    RunNotFoundError,
)
from pocoflow.events import (
    Event,
    FlowCancelled,
    FlowEnded,
    FlowFailed,
    FlowPaused,
    FlowStarted,
    Followed,
    NodeAsked,
    NodeEnded,
    NodeFailed,
    NodeRetried,
    NodeStarted,
)
from tests.unit.gates import Gate


class Count(Node):
    """Counts in the store."""

    def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> str:
        store["n"] = store.get("n", 0) + 1
        return "default"


class Flaky(Node):
    """Fails once, then gives a result."""

    max_retries = 2
    tries = 0

    def exec(self, prep_result: Any) -> int:
        self.tries += 1
        if self.tries == 1:
            raise ConnectionError("busy")
        return self.tries


class Broken(Node):
    """Fails until it is mended."""

    works = False

    def exec(self, prep_result: Any) -> None:
        if not self.works:
            raise ValueError("broken")


def kinds(followed: Iterable[Followed]) -> list[str]:
    """What happened, in order."""
    return [one.event.kind for one in followed]


def shown(followed: Iterable[Followed]) -> list[str]:
    """All of it; an exception is equal to itself alone."""
    return list(map(repr, followed))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database."""
    return tmp_path / "runs.db"


def test_a_finished_run_is_followed_from_its_first_event(path: Path) -> None:
    """Who comes late gets every committed event, in order, and the end."""
    first, second = Flaky(name="first"), Count(name="second")
    flow = Flow(first, flow_name="f", db_path=path)
    flow.then(first, second)
    flow.run({}, run_id="a")
    followed = list(flow.follow("a"))
    assert [one.event for one in followed if not isinstance(one.event, NodeRetried)] == [
        FlowStarted("a", "f", 0),
        NodeStarted("a", "first", 0),
        NodeEnded("a", "first", 0, "default", _took(followed, 0), 2),
        NodeStarted("a", "second", 1),
        NodeEnded("a", "second", 1, "default", _took(followed, 1), 1),
        FlowEnded("a", "f", 2),
    ]
    retried = next(one.event for one in followed if isinstance(one.event, NodeRetried))
    assert (retried.node, retried.attempt, retried.delay) == ("first", 1, None)
    assert isinstance(retried.error, RunFailedError)
    assert (str(retried.error), retried.error.error_type) == ("busy", "ConnectionError")
    assert followed[0].at <= followed[-1].at


def _took(followed: Iterable[Followed], step: int) -> float:
    return next(
        one.event.elapsed
        for one in followed
        if isinstance(one.event, NodeEnded) and one.event.step == step
    )


def test_numbers_only_grow_and_each_is_a_place_to_go_on_from(path: Path) -> None:
    """Whatever number a follower has seen last, the rest follows it, once and in order."""
    flow = Flow(Flaky(), db_path=path)
    flow.run({}, run_id="a")
    whole = list(flow.follow("a"))
    numbers = [one.number for one in whole]
    assert numbers == sorted(set(numbers))
    for index, number in enumerate(numbers):
        rest = flow.follow("a", after=number)
        assert shown(rest) == shown(whole[index + 1 :])
    stored = flow.database.get_events("a")
    assert [event["id"] & (1 << 33) - 1 for event in stored] == numbers


def test_a_run_is_followed_while_it_goes_on(path: Path) -> None:
    """Another process sees what is committed, and waits for the rest."""
    gate = Gate()
    flow = Flow(gate, db_path=path)
    handle = flow.run_background({}, run_id="a")
    assert gate.entered.wait(60)
    with WorkflowDB(path) as other:
        successor = other.follow("a")
        assert [next(successor).event.kind for _ in range(2)] == ["flow_start", "node_start"]
        gate.opened.set()
        assert kinds(successor) == ["node_end", "flow_end"]
    handle.wait(60)
    assert kinds(handle.follow(after=1)) == ["node_end", "flow_end"]
    assert kinds(flow.database.handle("a").follow()) == kinds(handle.follow())


def test_a_run_is_followed_on_an_event_loop(path: Path) -> None:
    """The loop that drives the run is the loop that follows it."""

    async def both() -> list[str]:
        entered, opened = asyncio.Event(), asyncio.Event()

        class Wait(Node):
            async def exec(self, prep_result: Any) -> None:
                entered.set()
                await opened.wait()

        flow = Flow(Wait(), db_path=path)
        begun = asyncio.create_task(flow.run_async({}, run_id="a"))
        await entered.wait()
        successor = flow.follow_async("a")
        found: list[str] = [(await anext(successor)).event.kind for _ in range(2)]
        opened.set()
        found += [one.event.kind async for one in successor]
        await begun
        handle = flow.database.handle("a")
        assert found == [one.event.kind async for one in handle.follow_async()]
        return found

    assert asyncio.run(both()) == ["flow_start", "node_start", "node_end", "flow_end"]


def test_a_failed_run_ends_and_its_resume_is_followed_from_there(path: Path) -> None:
    """What is on record of the error is in its events; a resume is another call."""
    broken = Broken()
    flow = Flow(broken, flow_name="f", db_path=path)
    with pytest.raises(ValueError, match="broken"):
        flow.run({}, run_id="a")
    first = list(flow.follow("a"))
    failed, ended = first[-2].event, first[-1].event
    assert isinstance(failed, NodeFailed)
    assert isinstance(ended, FlowFailed)
    assert (failed.node, str(ended.error), failed.is_caught) == ("Broken", "broken", False)
    assert list(flow.follow("a", after=first[-1].number)) == []
    broken.works = True
    flow.resume("a")
    assert shown(flow.follow("a")) == shown(first)
    rest = flow.follow("a", after=first[-1].number)
    assert kinds(rest) == ["flow_start", "node_start", "node_end", "flow_end"]


def test_a_caught_error_is_followed(path: Path) -> None:
    """The run goes on, and the event says so."""
    broken, after = Broken(), Count()
    flow = Flow(broken, db_path=path)
    flow.then(broken.catch(ValueError), after)
    flow.run({}, run_id="a")
    caught = [one.event for one in flow.follow("a") if isinstance(one.event, NodeFailed)]
    assert [(one.node, one.is_caught) for one in caught] == [("Broken", True)]


class Ask(AskNode[bool]):
    """Asks."""

    def prep(self, store: Store[Any]) -> Question[bool]:
        return Question("Go on?", {"n": 1})


def test_a_pause_ends_it_if_that_is_asked_for(path: Path) -> None:
    """Who waits for a person stops there; who waits for the end goes on with the answer."""
    ask = Ask()
    flow = Flow(ask, db_path=path)
    with pytest.raises(RunPaused):
        flow.run({}, run_id="a")
    paused = list(flow.follow("a", until="pause"))
    asked, pause = paused[-2].event, paused[-1].event
    assert isinstance(asked, NodeAsked)
    assert isinstance(pause, FlowPaused)
    assert (asked.question.text, dict(asked.question.context)) == ("Go on?", {"n": 1})
    assert pause.questions == (asked.number,)
    assert list(flow.follow("a", after=paused[-1].number, until="pause")) == []
    flow.answer("a", ask.reply(True))
    flow.resume("a")
    assert kinds(flow.follow("a", after=paused[-1].number)) == [
        "flow_start",
        "node_start",
        "node_end",
        "flow_end",
    ]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_follower_of_a_file_that_is_gone_is_told(path: Path, read_only: bool) -> None:
    """Nothing comes any more, so it does not wait for that."""
    flow: Flow[Any] = Flow(Ask(), db_path=path)
    with pytest.raises(RunPaused):
        flow.run({}, run_id="a")
    flow.database.close()

    async def follow() -> None:
        with WorkflowDB(path, read_only=read_only) as db:
            successor = db.follow_async("a")
            while (await anext(successor)).event.kind != "flow_pause":
                pass
            coming = asyncio.ensure_future(anext(successor))
            await asyncio.to_thread(path.rename, path.with_name("moved.db"))
            with pytest.raises(DatabaseFileError):
                await asyncio.wait_for(coming, 60)

    asyncio.run(follow())


def test_a_cancelled_run_ends(path: Path) -> None:
    """Whoever cancels a paused run ends what others follow."""
    flow = Flow(Ask(), db_path=path)
    with pytest.raises(RunPaused):
        flow.run({}, run_id="a")
    flow.database.request_cancel("a")
    assert isinstance(list(flow.follow("a"))[-1].event, FlowCancelled)


def test_an_interrupted_run_does_not_end(path: Path) -> None:
    """A follower waits for whoever resumes it, and then sees that."""
    flow = Flow(Count(), db_path=path)
    flow.run({}, run_id="a")
    forked = flow.fork("a", step=-1)
    db = flow.database
    facts = "status = 'failed', error_type = 'Interrupted'"
    with db.connection.transaction() as raw:
        raw.execute(f"UPDATE pf_run SET {facts} WHERE run_id = ?", (forked,))
    found: list[str] = []
    with WorkflowDB(path) as other:
        thread = threading.Thread(target=lambda: found.extend(kinds(other.follow(forked))))
        thread.start()
        flow.resume(forked)
        thread.join(60)
    assert found == ["flow_start", "node_start", "node_end", "flow_end"]


def test_parallel_branches_are_followed_with_their_paths(path: Path) -> None:
    """The events of all branches come in the order of their commits."""
    both = Parallel(Count(name="left"), Flaky(name="right"), name="both")
    flow = Flow(both, db_path=path)
    flow.run({}, run_id="a")
    ended = [one.event for one in flow.follow("a") if isinstance(one.event, NodeEnded)]
    assert {one.path for one in ended} == {("both",), ()}
    assert [one.step for one in ended] == [0, 1, 2]


def test_the_events_of_a_stream_are_those_that_are_followed(path: Path) -> None:
    """A follower gets what a listener in the process got, but for what is not committed."""
    flow = Flow(Count(), db_path=path)
    streamed: list[Event] = list(flow.stream({}, run_id="a"))
    followed = [one.event for one in flow.follow("a")]
    assert [one.kind for one in streamed] == [one.kind for one in followed]
    assert followed[0] == streamed[0]
    assert followed[-1] == streamed[-1]


def test_a_run_that_something_else_executes_is_followed_to_its_status(path: Path) -> None:
    """A row that is updated by hand ends, though no event says so."""
    with WorkflowDB(path) as db:
        db.create_run("a")
        db.update_run("a", status="completed")
        assert list(db.follow("a")) == []


def test_what_cannot_be_followed_is_refused(path: Path) -> None:
    """At the call, not at the first event."""
    flow = Flow(Count(), flow_name="f", db_path=path)
    flow.run({}, run_id="a")
    with pytest.raises(RunNotFoundError, match="no run 'b'"):
        flow.follow("b")
    with pytest.raises(OtherFlowError, match="is of flow 'f'"):
        Flow(Count(), flow_name="g", db_path=path).follow("a")
    wrong: Any = "stop"
    for arguments in ({"until": wrong}, {"after": -2}, {"after": True}):
        with pytest.raises(DefinitionError, match="follow"):
            flow.database.follow("a", **arguments)
    kept_nowhere = Flow(Count()).run_background({})
    with pytest.raises(DefinitionError, match="give its flow a db_path"):
        kept_nowhere.follow()
    kept_nowhere.wait(60)


def test_a_run_that_is_removed_meanwhile_ends_with_an_error(path: Path) -> None:
    """Nobody waits for what is not there."""
    with WorkflowDB(path) as db:
        db.create_run("a")
        successor = db.follow("a")
        db.update_run("a", status="paused")
        assert db.prune(keep=0, status="paused") == 1
        with pytest.raises(RunNotFoundError, match="any more"):
            next(successor)


def test_a_reader_that_may_not_write_follows(path: Path) -> None:
    """The monitor, or a service that only shows runs, needs no right to write."""
    flow = Flow(Count(), db_path=path)
    flow.run({}, run_id="a")
    with WorkflowDB(path, read_only=True) as db:
        assert kinds(db.follow("a")) == kinds(flow.follow("a"))
