"""Every beginning of a run combines with every way to carry it out; a flow is no single step."""

from __future__ import annotations

import asyncio
import copy
from abc import ABC
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, Parallel, RunCancelled, Store, WorkflowDB
from pocoflow.errors import DefinitionError, OtherFlowError, ResumeError, RunNotFoundError
from pocoflow.flow.resuming import Resumable


class Count(Node):
    def prep(self, store: Store[Any]) -> int:
        return int(store.get("count", 0))

    def exec(self, prep_result: int) -> int:
        return prep_result + 1

    def post(self, store: Store[Any], prep_result: Any, exec_result: int) -> str:
        store["count"] = exec_result
        return "done"


class Shaky(Node):
    up = False

    def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> str:
        if not Shaky.up:
            raise ConnectionError("down")
        store["shaken"] = True
        return "done"


@pytest.fixture(autouse=True)
def down() -> None:
    """Begin with what fails."""
    Shaky.up = False


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the runs are kept."""
    return str(tmp_path / "runs.db")


def flow(path: str | None, name: str = "counting") -> Flow[Any]:
    """Two steps, of which the second fails until it is up."""
    count, shaky = Count(), Shaky()
    made: Flow[Any] = Flow(count, flow_name=name, db_path=path)
    return made.then(count.when("done"), shaky)


async def listed(events: Any) -> list[str]:
    """The kinds of events of an asynchronous stream."""
    return [type(event).__name__ async for event in events]


async def awaited(handle: Any) -> object:
    """What awaiting a handle gives."""
    return await handle


def names(events: Any) -> list[str]:
    """The kinds of events of a stream."""
    return [type(event).__name__ for event in events]


WAYS: dict[str, Callable[[Flow[Any], str], object]] = {
    "resume": lambda f, run_id: f.resume(run_id),
    "resume_async": lambda f, run_id: asyncio.run(f.resume_async(run_id)),
    "resume_background": lambda f, run_id: f.resume_background(run_id).wait(),
    "await resume_background": lambda f, run_id: asyncio.run(awaited(f.resume_background(run_id))),
    "resume_stream": lambda f, run_id: names(f.resume_stream(run_id)),
    "resume_stream_async": lambda f, run_id: asyncio.run(listed(f.resume_stream_async(run_id))),
    "recover": lambda f, run_id: f.recover(),
    "recover_async": lambda f, run_id: asyncio.run(f.recover_async()),
}


@pytest.mark.parametrize("way", [name for name in WAYS if "recover" not in name])
@pytest.mark.parametrize("beginning", ["failed", "forked", "forked from the beginning"])
def test_a_stored_run_goes_on_in_every_way(way: str, beginning: str, path: str) -> None:
    """What failed or was forked goes on where it stood, and what was finished is not done again."""
    made = flow(path)
    made.run_id = "r"
    with pytest.raises(ConnectionError):
        made.run({})
    run_id = "r"
    if beginning != "failed":
        run_id = made.fork("r", -1 if "beginning" in beginning else None, {"given": 1})
    Shaky.up = True
    found = WAYS[way](flow(path), run_id)
    database = flow(path).database
    last = database.get_checkpoints(run_id)[-1]["step"]
    stored = database.load_checkpoint(run_id, last)
    assert stored["count"] == 1
    assert stored["shaken"] is True
    if isinstance(found, Store):
        assert found.as_dict() == stored.as_dict()
    else:
        assert isinstance(found, list)
        assert found[-1] == "FlowEnded"


@pytest.mark.parametrize("way", [name for name in WAYS if "stream" in name or "async" in name])
def test_every_way_refuses_what_another_flow_has_run(way: str, path: str) -> None:
    """The refusal is the same whichever way the run was to go on."""
    made = flow(path)
    made.run_id = "r"
    with pytest.raises(ConnectionError):
        made.run({})
    other = flow(path, "another")
    if "recover" in way:
        assert WAYS[way](other, "r") == {}
        return
    with pytest.raises(OtherFlowError):
        WAYS[way](other, "r")


@pytest.mark.parametrize("way", ["resume_stream", "resume_stream_async"])
def test_a_stream_of_a_resumed_run_raises_what_ends_it(way: str, path: str) -> None:
    """The events come first, then the exception."""
    made = flow(path)
    made.run_id = "r"
    with pytest.raises(ConnectionError):
        made.run({})
    with pytest.raises(ConnectionError):
        WAYS[way](made, "r")
    assert made.database.get_run("r")["status"] == "failed"  # type: ignore[index]


# -- a handle that is awaited ---------------------------------------------------------------------


def test_an_awaited_handle_raises_what_ended_the_run() -> None:
    """As ``wait`` does; also for somebody who comes late, or twice."""

    async def main() -> None:
        handle = flow(None).run_background({})
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await handle

    asyncio.run(main())


def test_giving_up_on_a_handle_does_not_stop_its_run() -> None:
    """``wait_for`` ends, the run goes on, and can be waited for again."""

    class Slow(Node):
        async def exec(self, prep_result: object) -> None:
            await go.wait()

    go = asyncio.Event()

    async def main() -> str:
        handle = Flow(Slow()).run_background({})
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(handle, 0)
        assert not handle.is_done
        handle.cancel()
        with pytest.raises(RunCancelled):
            await handle
        return handle.status

    assert asyncio.run(main()) == "cancelled"


def test_many_wait_for_one_handle() -> None:
    """Each of them gets the store."""
    Shaky.up = True

    async def main() -> list[Store[Any]]:
        handle = flow(None).run_background({})
        return await asyncio.gather(*(awaited(handle) for _ in range(5)))  # type: ignore[return-value]

    assert [one["count"] for one in asyncio.run(main())] == [1] * 5


# -- on another database --------------------------------------------------------------------------


def test_a_flow_on_another_database_keeps_its_wiring_and_hooks(path: str, tmp_path: Path) -> None:
    """Runs go to the other file, hooks are called, and the first flow is as it was."""
    Shaky.up = True
    heard: list[str] = []
    made = flow(path).on("node_end", lambda name, action, elapsed, store: heard.append(name))
    made.run({})
    other = made.using(db_path=tmp_path / "other.db")
    other.run({})
    with WorkflowDB(tmp_path / "more.db") as db:
        made.using(db_path=db).run({})
        assert len(db.list_runs()) == 1
    assert heard == ["Count", "Shaky"] * 3
    assert len(made.database.list_runs()) == len(other.database.list_runs()) == 1
    assert made.database.path != other.database.path


def test_what_is_wired_or_registered_later_concerns_one_of_the_two(path: str) -> None:
    """Neither flow sees what the other is given."""
    Shaky.up = True
    made = flow(path)
    made.run({})
    other = made.using(db_path=path)
    shaky = other.graph.nodes["Shaky"].node
    other.then(shaky, Count(name="again"))
    other.then(shaky.when("done"), Count(name="once more"))
    heard: list[int] = []
    other.on("flow_end", lambda steps, store: heard.append(steps))
    assert [*made.graph.nodes] == ["Count", "Shaky"]
    assert "once more" in other.graph.nodes
    made.run({})
    assert heard == []
    other.run({})
    assert heard == [3]


def test_names_of_before_are_added(path: str) -> None:
    """``using`` takes what a command says of a flow that was renamed."""
    made = flow(path)
    made.run_id = "r"
    with pytest.raises(ConnectionError):
        made.run({})
    Shaky.up = True
    renamed = flow(path, "tallying")
    assert not renamed.can_resume("r")
    assert renamed.using(formerly=["counting"]).resume("r")["count"] == 1
    with pytest.raises(DefinitionError, match="formerly"):
        renamed.using(formerly="counting")
    with pytest.raises(DefinitionError, match="db_path"):
        renamed.using(db_path="")


# -- whether a run can go on ----------------------------------------------------------------------


def test_whether_a_run_can_go_on_is_a_value(path: str) -> None:
    """It tells the node, the step and what has changed, and nothing is written."""
    made = flow(path)
    made.run_id = "r"
    with pytest.raises(ConnectionError):
        made.run({})
    before = made.database.list_runs()
    found = flow(path).can_resume("r")
    assert found
    assert (found.run_id, found.node, found.step) == ("r", "Shaky", 1)
    assert (found.changed, found.refusal) == ((), None)
    extra: Flow[Any] = flow(path)
    extra.then(extra.graph.nodes["Shaky"].node.when("more"), Count(name="new"))
    changed = extra.can_resume("r")
    assert changed
    assert any("new" in one for one in changed.changed)
    assert made.database.list_runs() == before
    with pytest.raises(AttributeError):
        found.node = "x"  # type: ignore[misc]


def test_a_run_that_is_completed_or_at_work_cannot_go_on(path: str) -> None:
    """Its refusal is what resuming it would raise; of one at work the node is told all the same."""
    made = flow(path)
    found: list[Resumable] = []

    class Look(Node[None, None, str]):
        def exec(self, prepared: None) -> None:
            found.append(whole.can_resume("r"))
            with pytest.raises(ResumeError) as caught:
                whole.resume("r")
            assert str(caught.value) == str(found[0].refusal)

    whole: Flow[Any] = Flow(Look(), flow_name="looking", db_path=path)
    whole.run({}, run_id="r")
    assert not found[0]
    assert (found[0].node, found[0].step) == ("Look", 0)
    assert "is running, here or in another process" in str(found[0].refusal)
    ended = whole.can_resume("r")
    assert (bool(ended), ended.node) == (False, "")
    with pytest.raises(ResumeError) as caught:
        whole.resume("r")
    assert str(caught.value) == str(ended.refusal)
    assert "is completed, so there is nothing to resume" in str(ended.refusal)
    assert not made.database.list_runs(flow_name="counting")


def test_a_run_after_which_its_thread_went_on_cannot_go_on(path: str) -> None:
    """The refusal is what resuming it would raise."""
    made = flow(path)
    with pytest.raises(ConnectionError):
        made.run({}, run_id="r", thread="t")
    Shaky.up = True
    made.run({}, run_id="later", thread="t")
    found = made.can_resume("r")
    assert (bool(found), found.node) == (False, "Shaky")
    with pytest.raises(ResumeError) as caught:
        made.resume("r")
    assert str(caught.value) == str(found.refusal)


def test_why_a_run_cannot_go_on_is_in_the_value(path: str) -> None:
    """The refusal is what resuming it would raise."""
    made = flow(path)
    made.run_id = "r"
    with pytest.raises(ConnectionError):
        made.run({})
    without: Flow[Any] = Flow(Count(), flow_name="counting", db_path=path)
    refused = without.can_resume("r")
    assert not refused
    assert isinstance(refused.refusal, ResumeError)
    with pytest.raises(ResumeError) as caught:
        without.resume("r")
    assert str(caught.value) == str(refused.refusal)
    with pytest.raises(RunNotFoundError):
        made.can_resume("s")
    with pytest.raises(DefinitionError, match="db_path"):
        flow(None).can_resume("r")


# -- a flow is not one step -----------------------------------------------------------------------

OF_STEPS = (
    *("prep", "exec", "post", "exec_fallback"),
    *("max_retries", "retry_delay", "backoff", "jitter", "retry_on", "timeout", "journal"),
)
OF_POCKETFLOW = ("next", "add_successor", "successors", "params", "set_params", "cur_retry")


@pytest.mark.parametrize("name", [*OF_STEPS, *OF_POCKETFLOW])
def test_a_flow_has_nothing_that_is_of_a_single_step(name: str) -> None:
    """Reading it raises AttributeError, on the class and on a flow, and neither lists it."""
    made = flow(None)
    for owner in (made, Flow, type("Own", (Flow,), {})):
        assert not hasattr(owner, name)
        assert name not in dir(owner)
    assert name not in dir(made)


@pytest.mark.parametrize("name", OF_STEPS)
def test_a_setting_of_a_flow_is_refused_where_it_is_made(name: str) -> None:
    """It would have no effect, so it is an error on the flow as well as on its class."""
    with pytest.raises(AttributeError, match=name):
        setattr(flow(None), name, 3)
    with pytest.raises(DefinitionError, match=name):
        type("Own", (Flow,), {name: 3})(Count())
    with pytest.raises(DefinitionError, match=name):
        type("Own", (Flow, type("Mixin", (), {name: 3})), {})(Count())


def test_a_flow_is_a_node_at_run_time() -> None:
    """It has a name and edges, can be a target, a source, a start and a branch, and be copied."""
    made = flow(None)
    assert isinstance(made, Node)
    assert issubclass(Flow, Node)
    Shaky.up = True
    outer: Flow[Any] = Flow(made, flow_name="outer")
    outer.then(made.when("done"), Count(name="last"))
    assert outer.run({})["count"] == 2
    assert Flow(Parallel(flow(None), name="both")).run({})["count"] == 1
    assert copy.copy(made).run({})["count"] == 1


def test_what_a_class_of_flows_has_of_its_own_is_its_own() -> None:
    """PocketFlow's names are free, and so is another base."""

    class Own(Flow[Any], ABC):
        params = ("a",)

        def __init__(self) -> None:
            super().__init__(Count())
            self.next = 5

    assert (Own().params, Own().next) == (("a",), 5)
    assert {"params", "next"} <= {*dir(Own())}
