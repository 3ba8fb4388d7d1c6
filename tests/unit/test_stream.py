"""Streaming: the events of a run as they happen, and what nodes emit on the way."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from pocoflow import BatchNode, Flow, Node, Store, WorkflowDB, context
from pocoflow.events import Emitted, Event, FlowEnded, FlowFailed, NodeEnded, NodeStarted


class Talk(Node):
    """Emits tokens from ``exec``, and one from a thread of its own."""

    def exec(self, prepared: Any) -> str:
        run = context()
        for token in ("a", "b"):
            run.emit(token)
        thread = threading.Thread(target=run.emit, args=("from a thread",))
        thread.start()
        thread.join()
        return "ab"

    def post(self, store: Store[Any], prepared: Any, said: str) -> str:
        context().emit({"said": said})
        store["said"] = said
        return "done"


async def gathered(flow: Flow[Any], store: dict[str, Any]) -> list[Event]:
    """The events of an asynchronous stream."""
    return [event async for event in flow.stream_async(store)]


def values(events: list[Event]) -> list[object]:
    """What was emitted, in order."""
    return [event.value for event in events if isinstance(event, Emitted)]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_gives_the_events_in_their_order(asynchronous: bool) -> None:
    """Starts, tokens and ends come in the order in which they happened, typed."""
    flow = Flow(Talk())
    store: dict[str, Any] = {}
    events = asyncio.run(gathered(flow, store)) if asynchronous else list(flow.stream(store))
    assert values(events) == ["a", "b", "from a thread", {"said": "ab"}]
    kinds = [event.kind for event in events]
    assert kinds[:2] == ["flow_start", "node_start"]
    assert kinds[-2:] == ["node_end", "flow_end"]
    assert isinstance(events[1], NodeStarted)
    assert isinstance(events[-2], NodeEnded)
    assert isinstance(events[-1], FlowEnded)
    assert store == {"said": "ab"}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_exception_of_a_run_follows_its_last_event(asynchronous: bool) -> None:
    """Events come to the end, then the very exception is raised."""

    class Fail(Node):
        def exec(self, prepared: Any) -> None:
            raise LookupError("no luck")

    seen: list[Event] = []

    async def read() -> None:
        async for event in Flow(Fail()).stream_async({}):
            seen.append(event)

    def read_here() -> None:
        for event in Flow(Fail()).stream({}):
            seen.append(event)

    with pytest.raises(LookupError, match="no luck"):
        asyncio.run(read()) if asynchronous else read_here()
    assert isinstance(seen[-1], FlowFailed)


def test_a_slow_reader_does_not_hold_the_run_up(tmp_path: Path) -> None:
    """The run completes while nobody reads; every event is still there afterwards."""
    ended = threading.Event()
    flow = Flow(Talk(), db_path=tmp_path / "runs.db", run_id="slow")
    flow.on("flow_end", lambda steps, store: ended.set())
    events = flow.stream({})
    assert ended.wait(30)
    with WorkflowDB(tmp_path / "runs.db") as db:
        run = db.get_run("slow")
        assert run is not None
        assert run["status"] == "completed"
    assert values(list(events)) == ["a", "b", "from a thread", {"said": "ab"}]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_leaving_a_stream_cancels_the_run(asynchronous: bool, tmp_path: Path) -> None:
    """Who breaks out of the loop ends the run; it is recorded as cancelled."""
    gone = threading.Event()

    class Wait(Node):
        async def exec(self, prepared: Any) -> None:
            context().emit("waiting")
            await asyncio.Event().wait()

    flow = Flow(Wait(), db_path=tmp_path / "runs.db", run_id="left")
    flow.on("flow_cancelled", lambda steps, store: gone.set())

    async def leave() -> None:
        events = flow.stream_async({})
        async for event in events:
            if isinstance(event, Emitted):
                break
        await events.aclose()

    if asynchronous:
        asyncio.run(leave())
    else:
        stream = flow.stream({})
        for event in stream:
            if isinstance(event, Emitted):
                break
        stream.close()
    assert gone.wait(30)
    with WorkflowDB(tmp_path / "runs.db") as db:
        run = db.get_run("left")
        assert run is not None
        assert run["status"] == "cancelled"


def test_a_stream_that_nobody_reads_cancels_the_run(tmp_path: Path) -> None:
    """Who is interrupted between the call and the first event has left the stream, too."""
    gone = threading.Event()

    class Wait(Node):
        async def exec(self, prepared: Any) -> None:
            await asyncio.Event().wait()

    flow = Flow(Wait(), db_path=tmp_path / "runs.db", run_id="unread")
    flow.on("flow_cancelled", lambda steps, store: gone.set())
    stream = flow.stream({})
    del stream
    assert gone.wait(30)


def test_items_of_a_batch_emit_with_their_index() -> None:
    """What an item of a batch emits says which item it was."""

    class Each(BatchNode[int, int, str]):
        concurrency = 3

        def prep(self, store: Store[Any]) -> list[int]:
            return [10, 11, 12]

        def exec(self, item: int) -> int:
            context().emit(item)
            return item

    events = [event for event in Flow(Each()).stream({}) if isinstance(event, Emitted)]
    assert sorted((event.item, event.value) for event in events) == [(0, 10), (1, 11), (2, 12)]


def test_emitting_without_a_listener_is_fine() -> None:
    """A node that emits works the same in a run that nobody streams."""
    assert Flow(Talk()).run({})["said"] == "ab"
