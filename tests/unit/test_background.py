"""Runs in the background: the handle's status, ``wait`` and ``cancel``."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pocoflow import AsyncNode, Flow, Node, RunCancelled, RunHandle, Store, WorkflowDB, context
from pocoflow.errors import InvalidValueError, RunExistsError

WAIT = 30.0
"""Seconds after which something that should have happened long ago is given up."""


class Gate(Node):
    """Says that it has begun, and goes on when it is released."""

    def __init__(self, name: str = "gate") -> None:
        self.name = name
        self.entered = threading.Event()
        self.released = threading.Event()

    def exec(self, prep_result: object) -> None:
        self.entered.set()
        assert self.released.wait(WAIT)

    def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
        store[self.name] = "done"
        return "next"


class Note(Node):
    """Notes in the store that it ran."""

    def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
        store["noted"] = context().run_id
        return "next"


class Raises(Node):
    """Raises what it is given."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def exec(self, prep_result: object) -> None:
        raise self.error


class AwaitRaises(AsyncNode):
    """Raises what it is given, on the loop."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def exec_async(self, prep_result: object) -> None:
        await asyncio.sleep(0)
        raise self.error


@pytest.fixture(params=["memory", "database"])
def db_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Every promise here holds with a database and without one."""
    return tmp_path / "runs.db" if request.param == "database" else None


# -- status and wait ----------------------------------------------------------------------------


def test_a_run_in_the_background_is_watched_and_waited_for(db_path: Path | None) -> None:
    """It is running until it has ended, then completed, and ``wait`` gives its store."""
    gate = Gate()
    store: Store[Any] = Store({"x": 1})
    handle = Flow(gate, db_path=db_path, flow_name="research").run_background(store)
    assert isinstance(handle, RunHandle)
    assert handle.run_id.startswith("research-")
    assert handle.store is store
    assert gate.entered.wait(WAIT)
    assert handle.status == "running"
    done_while_running = handle.is_done
    assert "running" in repr(handle)
    gate.released.set()
    assert handle.wait(timeout=WAIT) is store
    assert store == {"x": 1, "gate": "done"}
    assert str(handle.status) == "completed"
    assert (done_while_running, handle.is_done) == (False, True)
    assert handle.wait() is store
    assert repr(handle) == f"<RunHandle {handle.run_id!r} completed>"


def test_the_run_is_on_record_as_soon_as_the_handle_is_there(tmp_path: Path) -> None:
    """A reader in another place finds the run as running, and later as it ended."""
    gate = Gate()
    path = tmp_path / "runs.db"
    handle = Flow(gate, db_path=path).run_background()
    with WorkflowDB(path, read_only=True) as reader:
        run = reader.get_run(handle.run_id)
        assert run is not None
        assert run["status"] == "running"
        gate.released.set()
        handle.wait(WAIT)
        run = reader.get_run(handle.run_id)
        assert run is not None
        assert run["status"] == "completed"


def test_wait_gives_up_after_its_timeout_and_the_run_goes_on(db_path: Path | None) -> None:
    """The ``TimeoutError`` names run and seconds; waiting again works."""
    gate = Gate()
    handle = Flow(gate, db_path=db_path, flow_name="jobs").run_background()
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError) as caught:
            handle.wait(timeout)
        assert handle.run_id in str(caught.value)
        assert f"after {timeout:g} seconds" in str(caught.value)
    assert handle.status == "running"
    gate.released.set()
    assert handle.wait(WAIT)["gate"] == "done"


def test_many_threads_may_wait_for_one_run() -> None:
    """Each of them gets the store."""
    gate = Gate()
    handle = Flow(gate).run_background()
    got: list[Store[Any]] = []
    waiters = [threading.Thread(target=lambda: got.append(handle.wait(WAIT))) for _ in range(4)]
    for waiter in waiters:
        waiter.start()
    gate.released.set()
    for waiter in waiters:
        waiter.join(WAIT)
    assert got == [handle.store] * 4


@pytest.mark.parametrize("kind", [Raises, AwaitRaises])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("broken"),
        KeyboardInterrupt("Ctrl-C"),
        SystemExit(3),
        TimeoutError("the server said so"),
        RunCancelled("not by us"),
        StopAsyncIteration("at the end"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_wait_raises_the_very_exception_that_ended_the_run(
    db_path: Path | None, kind: Callable[[BaseException], Node], error: BaseException
) -> None:
    """As often as one waits; the run failed, whatever the exception is."""
    handle = Flow(kind(error), db_path=db_path).run_background()
    for timeout in (math.inf, WAIT, None, 0):
        with pytest.raises(type(error)) as caught:
            handle.wait(timeout)
        assert caught.value is error
    assert handle.status == "failed"
    assert handle.is_done


def test_a_failure_of_the_start_comes_from_the_call(tmp_path: Path) -> None:
    """A store that does not fit, or an id that is used, is raised by ``run_background`` itself."""
    with pytest.raises(InvalidValueError, match="'x' expects int"):
        _ = Flow(Note(), schema={"x": int}).run_background({"x": "one"})
    flow = Flow(Note(), db_path=tmp_path / "runs.db", run_id="mine-1")
    flow.run_background().wait(WAIT)
    with pytest.raises(RunExistsError, match="'mine-1'"):
        _ = flow.run_background()


def test_a_dict_or_a_model_may_be_run_in_the_background() -> None:
    """``run_background`` takes what ``run`` takes, and a node to begin at."""
    shared: dict[str, Any] = {}
    first, second = Gate("a"), Note()
    first.then("next", second)
    handle = Flow(first).run_background(shared, resume_from=second)
    handle.wait(WAIT)
    assert shared == {"noted": handle.run_id}


# -- cancelling ---------------------------------------------------------------------------------


def cancelled(handle: RunHandle) -> RunCancelled:
    """Check that a run ended as cancelled, and return what ``wait`` raises."""
    with pytest.raises(RunCancelled) as caught:
        handle.wait(WAIT / 2)
    assert handle.is_done
    assert handle.status == "cancelled"
    assert handle.run_id in str(caught.value)
    assert isinstance(caught.value, RuntimeError)
    return caught.value


def heard(flow: Flow) -> list[str]:
    """The endings that the hooks of a flow hear of from now on."""
    events: list[str] = []
    flow.on("node_error", lambda name, exc, store: events.append("node_error"))
    flow.on("flow_end", lambda steps, store: events.append(f"end {steps}"))
    flow.on("flow_error", lambda exc, store: events.append("error"))
    flow.on("flow_cancelled", lambda steps, store: events.append(f"cancelled {steps}"))
    return events


def test_a_run_cancelled_before_its_first_node_runs_none(db_path: Path | None) -> None:
    """No node runs, and zero steps are on record."""
    began, released = threading.Event(), threading.Event()

    def hold(store: Store[Any]) -> None:
        began.set()
        assert released.wait(WAIT)

    flow = Flow(Note(), db_path=db_path).on("flow_start", hold)
    events = heard(flow)
    handle = flow.run_background()
    assert began.wait(WAIT)
    handle.cancel()
    released.set()
    assert "before step 0" in str(cancelled(handle))
    assert handle.store == {}
    assert events == ["cancelled 0"]


def test_a_run_cancelled_during_a_node_stops_after_it(db_path: Path | None) -> None:
    """The node that runs is finished and kept; the one after it does not run."""
    gate = Gate()
    gate.then("next", Note())
    flow = Flow(gate, db_path=db_path)
    events = heard(flow)
    handle = flow.run_background()
    assert gate.entered.wait(WAIT)
    handle.cancel()
    handle.cancel()
    assert handle.status == "running"
    gate.released.set()
    assert "before step 1" in str(cancelled(handle))
    assert handle.store == {"gate": "done"}
    assert events == ["cancelled 1"]
    if db_path is not None:
        with WorkflowDB(db_path) as db:
            run = db.get_run(handle.run_id)
            assert run is not None
            assert run["total_steps"] == 1
            assert db.load_checkpoint(handle.run_id, 0) == {"gate": "done"}


def test_a_run_cancelled_during_its_last_node_completes(db_path: Path | None) -> None:
    """Nothing is left to stop: the work is done, and the run says so."""
    gate = Gate()
    flow = Flow(gate, db_path=db_path)
    events = heard(flow)
    handle = flow.run_background()
    assert gate.entered.wait(WAIT)
    handle.cancel()
    gate.released.set()
    assert handle.wait(WAIT) == {"gate": "done"}
    assert handle.status == "completed"
    assert events == ["end 1"]


class Delayed(Node):
    """Fails, and would wait very long for its second attempt."""

    max_retries = 2
    retry_delay = WAIT

    def exec(self, prep_result: object) -> None:
        raise ValueError("once more")


class Awaits(AsyncNode):
    """Awaits very long."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.interrupted = threading.Event()

    async def exec_async(self, prep_result: object) -> None:
        self.entered.set()
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            self.interrupted.set()
            raise


def test_cancel_ends_a_retry_delay(db_path: Path | None) -> None:
    """A run that waits for its next attempt stops at once, and the attempt is not made."""
    waiting = threading.Event()
    flow = Flow(Delayed(), db_path=db_path)
    events = heard(flow)
    flow.on("node_retry", lambda name, attempt, exc, store: waiting.set())
    handle = flow.run_background()
    assert waiting.wait(WAIT)
    handle.cancel()
    assert "'Delayed'" in str(cancelled(handle))
    assert events == ["cancelled 0"]


@pytest.mark.parametrize("timeout", [None, WAIT * 2])
def test_cancel_ends_an_await(db_path: Path | None, timeout: float | None) -> None:
    """What the node awaits is cancelled, so that it can clean up, and the run stops at once."""
    node = Awaits()
    node.timeout = timeout
    node.max_retries = 3
    flow = Flow(node, db_path=db_path)
    events = heard(flow)
    handle = flow.run_background()
    assert node.entered.wait(WAIT)
    handle.cancel()
    assert "exec of node 'Awaits'" in str(cancelled(handle))
    assert node.interrupted.wait(WAIT)
    assert events == ["cancelled 0"]


def test_cancel_ends_the_wait_for_a_thread_with_a_timeout(db_path: Path | None) -> None:
    """A synchronous ``exec`` under a timeout runs in a thread that nobody has to wait for."""
    gate = Gate()
    gate.timeout = WAIT * 2
    handle = Flow(gate, db_path=db_path).run_background()
    assert gate.entered.wait(WAIT)
    handle.cancel()
    cancelled(handle)
    gate.released.set()
    assert handle.store == {}


def test_a_node_may_stop_at_a_place_of_its_choice(db_path: Path | None) -> None:
    """``check_cancelled`` raises once the run was asked to stop; that is no failed attempt."""
    entered = threading.Event()
    fallbacks: list[Exception] = []

    class Polite(Node):
        max_retries = 5

        def exec(self, prep_result: object) -> None:
            entered.set()
            while True:
                context().check_cancelled()

        def exec_fallback(self, prep_result: object, exc: Exception) -> None:
            fallbacks.append(exc)

    flow = Flow(Polite(), db_path=db_path)
    events = heard(flow)
    handle = flow.run_background()
    assert entered.wait(WAIT)
    handle.cancel()
    assert "exec of node 'Polite'" in str(cancelled(handle))
    assert events == ["cancelled 0"]
    assert fallbacks == []


def test_a_failure_after_a_cancel_is_a_failure(db_path: Path | None) -> None:
    """If the node that was running fails by itself, that is what happened."""
    gate = Gate()

    class Fails(Node):
        def exec(self, prep_result: object) -> None:
            gate.exec(prep_result)
            raise ValueError("broken")

    handle = Flow(Fails(), db_path=db_path).run_background()
    assert gate.entered.wait(WAIT)
    handle.cancel()
    gate.released.set()
    with pytest.raises(ValueError, match="broken"):
        handle.wait(WAIT)
    assert handle.status == "failed"


def test_cancelling_a_run_that_has_ended_changes_nothing(db_path: Path | None) -> None:
    """Completed stays completed, failed stays failed."""
    good = Flow(Note(), db_path=db_path).run_background()
    good.wait(WAIT)
    good.cancel()
    assert good.status == "completed"
    assert good.wait() is good.store
    bad = Flow(Raises(ValueError("broken")), db_path=db_path).run_background()
    with pytest.raises(ValueError, match="broken"):
        bad.wait(WAIT)
    bad.cancel()
    assert bad.status == "failed"
    with pytest.raises(ValueError, match="broken"):
        bad.wait()


# -- many of them -------------------------------------------------------------------------------


def test_many_runs_of_one_flow_each_have_their_handle(db_path: Path | None) -> None:
    """Ids, stores, cancels and histories are apart: one run is cancelled, the others complete."""
    barrier = threading.Barrier(5)
    released = threading.Event()

    class Meets(Node):
        def exec(self, prep_result: object) -> None:
            barrier.wait(WAIT)
            assert released.wait(WAIT)

        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
            store["met"] = context().run_id
            return "next"

    flow = Flow(Meets().then("next", Note()), db_path=db_path)
    handles = [flow.run_background({"number": number}) for number in range(4)]
    assert len({handle.run_id for handle in handles}) == 4
    barrier.wait(WAIT)
    assert {handle.status for handle in handles} == {"running"}
    handles[2].cancel()
    released.set()
    for number, handle in enumerate(handles):
        if number == 2:
            cancelled(handle)
            assert handle.store == {"number": 2, "met": handle.run_id}
            continue
        store = handle.wait(WAIT)
        assert store == {"number": number, "met": handle.run_id, "noted": handle.run_id}
        assert handle.status == "completed"
    if db_path is not None:
        with WorkflowDB(db_path) as db:
            for number, handle in enumerate(handles):
                steps = [row["step"] for row in db.get_checkpoints(handle.run_id)]
                assert steps == ([0] if number == 2 else [0, 1])


def test_a_cancelled_run_does_not_stop_the_next_one(db_path: Path | None) -> None:
    """The request belongs to the run, not to the flow."""
    gate = Gate()
    gate.then("next", Note())
    flow = Flow(gate, db_path=db_path)
    first = flow.run_background()
    assert gate.entered.wait(WAIT)
    first.cancel()
    gate.released.set()
    cancelled(first)
    second = flow.run_background()
    assert second.wait(WAIT)["noted"] == second.run_id
    assert flow.run()["gate"] == "done"


def test_runs_in_the_background_may_start_others() -> None:
    """A node can start a run of its own flow and wait for it."""

    class Parent(Node):
        def prep(self, store: Store[Any]) -> int:
            return int(store["depth"])

        def exec(self, depth: int) -> list[str]:
            mine = context().run_id
            inner = flow.run_background({"depth": depth - 1}).wait(WAIT)["ids"] if depth else []
            assert context().run_id == mine
            return [mine, *inner]

        def post(self, store: Store[Any], depth: int, ids: list[str]) -> str:
            store["ids"] = ids
            return "done"

    flow = Flow(Parent())
    assert len(set(flow.run_background({"depth": 3}).wait(WAIT)["ids"])) == 4


@pytest.fixture(autouse=True)
def _no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every thread that a test started ends with it, or it would disturb the next one."""
    monkeypatch.setattr("pocoflow.engine.commits._IDLE", 0.05)  # of a database that is not used
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name == "pocoflow-loop":
            continue  # that of the process, for all tests
        if thread.name.startswith("Dummy-"):
            continue  # not of threading: that of a finalizer, whenever garbage is collected
        thread.join(WAIT)
        assert not thread.is_alive(), thread.name


EVERY_CALL: list[Callable[[RunHandle], object]] = [
    lambda handle: handle.status,
    lambda handle: handle.is_done,
    lambda handle: handle.wait(WAIT),
    lambda handle: handle.cancel(),
    repr,
]


def test_a_handle_may_be_used_from_many_threads(db_path: Path | None) -> None:
    """Asking, waiting and cancelling at the same time give the same end."""
    handle = Flow(Note(), db_path=db_path).run_background()
    handle.wait(WAIT)
    barrier = threading.Barrier(len(EVERY_CALL))

    def use(call: Callable[[RunHandle], object]) -> None:
        barrier.wait(WAIT)
        for _ in range(20):
            call(handle)

    with ThreadPoolExecutor(len(EVERY_CALL)) as pool:
        for future in [pool.submit(use, call) for call in EVERY_CALL]:
            future.result(WAIT)
    assert handle.status == "completed"


def test_runs_that_only_await_share_one_loop_and_no_thread_is_made_for_each(
    db_path: Path | None,
) -> None:
    """Fifty of them at once cost at most four threads: the loop, and one that commits."""
    all_are_here = threading.Semaphore(0)
    may_go_on = threading.Event()

    class Waits(AsyncNode):
        async def exec_async(self, prep_result: object) -> None:
            all_are_here.release()
            while not may_go_on.is_set():  # noqa: ASYNC110 - set in another thread
                await asyncio.sleep(0.01)

    before = threading.active_count()
    flow = Flow(Waits(), db_path=db_path)
    handles = [flow.run_background() for _ in range(50)]
    assert all(all_are_here.acquire(timeout=WAIT) for _ in handles)
    assert threading.active_count() - before <= 4
    may_go_on.set()
    for handle in handles:
        handle.wait(WAIT)
    assert {handle.status for handle in handles} == {"completed"}


def test_a_handle_of_which_a_hook_knows_goes_with_its_flow() -> None:
    """Nothing else holds what a run has left behind that has ended."""

    def begin() -> weakref.ref[RunHandle[Any]]:
        handles: list[RunHandle[Any]] = []
        gate = Gate()
        flow = Flow(gate).on("flow_end", lambda steps, store: handles[0].cancel())
        handles.append(flow.run_background({}))
        names = [f"pocoflow-{handles[0].run_id}"]
        (thread,) = (one for one in threading.enumerate() if one.name in names)
        gate.released.set()
        thread.join(WAIT)
        assert handles[0].is_done
        return weakref.ref(handles[0])

    begun = begin()
    gc.collect()
    assert begun() is None
