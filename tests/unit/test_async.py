"""Asynchronous nodes and runs: loops, threads, timeouts, cancellation, context variables."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import CORO_CLOSED, getcoroutinestate
from pathlib import Path
from typing import Any, cast

import pytest

from pocoflow import (
    AsyncNode,
    BatchNode,
    FanOut,
    Flow,
    Node,
    Parallel,
    RunCancelled,
    Store,
    WorkflowDB,
    context,
    key,
)
from pocoflow.errors import DefinitionError, NodeTimeoutError, RunError
from tests.rows import row_of
from tests.waiting import wait_for

WAIT = 30.0
"""Seconds after which something that should have happened long ago is given up."""

SHORT = 0.02
"""Seconds of a timeout that is meant to run out."""

USER: ContextVar[str] = ContextVar("USER", default="nobody")


def run_sync(flow: Flow, store: Any = None) -> Store[Any]:
    """Run in a plain script: no event loop is running."""
    return flow.run(store)


def run_on_a_loop(flow: Flow, store: Any = None) -> Store[Any]:
    """Await the run on a loop."""
    return asyncio.run(flow.run_async(store))


def run_inside_a_loop(flow: Flow, store: Any = None) -> Store[Any]:
    """Call the synchronous ``run`` where a loop is running already, as a notebook does."""

    async def main() -> Store[Any]:
        return flow.run(store)

    return asyncio.run(main())


def run_in_the_background(flow: Flow, store: Any = None) -> Store[Any]:
    """Run in a background thread and wait for it."""
    return flow.run_background(store).wait(WAIT)


Runner = Callable[..., Store[Any]]

every_way = pytest.mark.parametrize(
    "run", [run_sync, run_on_a_loop, run_inside_a_loop, run_in_the_background]
)


class Fetch(AsyncNode):
    """The documented kind of asynchronous node."""

    def prep(self, store: Store[Any]) -> list[int]:
        return cast("list[int]", store["numbers"])

    async def exec_async(self, numbers: list[int]) -> list[int]:
        return await asyncio.gather(*[self.double(number) for number in numbers])

    async def double(self, number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    def post(self, store: Store[Any], numbers: list[int], doubled: list[int]) -> str:
        store["doubled"] = doubled
        return "done"


# -- ways to run --------------------------------------------------------------------------------


@every_way
def test_an_async_node_runs_every_way(run: Runner) -> None:
    """In a script, on a loop, inside a running loop, in the background: the same result."""
    store = run(Flow(Fetch()), {"numbers": [1, 2, 3]})
    assert store == {"numbers": [1, 2, 3], "doubled": [2, 4, 6]}


@every_way
def test_an_async_node_without_work_returns_none(run: Runner) -> None:
    """``exec_async`` not overridden returns ``None``, as ``exec`` of a ``Node`` does."""
    results: list[object] = []

    class Idle(AsyncNode):
        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
            results.append(exec_result)
            return "done"

    run(Flow(Idle()))
    assert results == [None]


def phased(asynchronous: tuple[bool, bool, bool]) -> Node:
    """A node with those of its phases (prep, exec, post) asynchronous that are ``True``."""

    class Phases(Node):
        pass

    def prep(self: object, store: Store[Any]) -> int:
        return int(store["number"]) + 1

    def exec_(self: object, number: int) -> int:
        return number * 10

    def post(self: object, store: Store[Any], number: int, product: int) -> str:
        store["result"] = [number, product]
        return "next"

    def awaited(function: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapper(*arguments: Any) -> Any:
            await asyncio.sleep(0)
            return function(*arguments)

        return wrapper

    phases: dict[str, Callable[..., Any]] = {"prep": prep, "exec": exec_, "post": post}
    for (name, function), is_async in zip(phases.items(), asynchronous, strict=True):
        setattr(Phases, name, awaited(function) if is_async else function)
    return Phases()


@every_way
@pytest.mark.parametrize("asynchronous", list(itertools.product([False, True], repeat=3)))
def test_any_phase_may_be_asynchronous(run: Runner, asynchronous: tuple[bool, bool, bool]) -> None:
    """``prep``, ``exec`` and ``post`` are awaited where they are ``async def``."""
    first, second = phased(asynchronous), phased(asynchronous)
    first.then("next", second)
    assert run(Flow(first), {"number": 1}) == {"number": 1, "result": [2, 20]}


@every_way
@pytest.mark.parametrize("settings", [{}, {"max_retries": 2}, {"timeout": WAIT}], ids=str)
def test_a_coroutine_that_an_async_phase_returns_is_awaited(
    run: Runner, settings: dict[str, Any]
) -> None:
    """A forgotten ``await`` at a ``return`` hands no coroutine on to the next phase."""

    async def later(value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    class Forgets(Node):
        async def prep(self, store: Store[Any]) -> Any:
            return later(store["number"])

        async def exec(self, number: int) -> Any:
            return later(number + 1)

        async def post(self, store: Store[Any], number: int, more: int) -> Any:
            store["result"] = [number, more]
            return later("done")

    node = Forgets()
    vars(node).update(settings)
    node.then("done", None)
    assert run(Flow(node, strict=True), {"number": 1})["result"] == [1, 2]


@every_way
def test_an_exception_comes_back_as_it_was_raised(run: Runner) -> None:
    """What an awaited phase raises is what the caller gets, with a note on where."""
    error = ValueError("broken")

    class Breaks(AsyncNode):
        async def exec_async(self, prep_result: object) -> None:
            await asyncio.sleep(0)
            raise error

    with pytest.raises(ValueError, match="broken") as caught:
        run(Flow(Breaks()))
    assert caught.value is error
    assert "exec of node 'Breaks'" in "".join(caught.value.__notes__)


@every_way
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_gets_out_of_an_await(run: Runner, kind: type[BaseException]) -> None:
    """Ctrl-C and ``sys.exit`` in awaited code end the run with just that, and nothing hangs."""

    class Leaves(AsyncNode):
        async def exec_async(self, nested: bool) -> None:
            await asyncio.sleep(0)
            raise kind

    with pytest.raises(kind):
        run(Flow(Leaves()))


def test_a_task_that_ends_the_program_ends_the_run() -> None:
    """``sys.exit`` in a task that a node awaits reaches the caller of ``run``."""

    class Leaves(AsyncNode):
        async def exec_async(self, prep_result: object) -> None:
            await asyncio.gather(asyncio.sleep(0), self.leave())

        async def leave(self) -> None:
            raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        Flow(Leaves()).run()
    assert caught.value.code == 3


# -- loops --------------------------------------------------------------------------------------


class OnLoop(Node):
    """Keeps the loop of each of its phases; its first attempt fails."""

    max_retries = 2

    def __init__(self, loops: list[asyncio.AbstractEventLoop]) -> None:
        self.loops = loops

    async def prep(self, store: Store[Any]) -> None:
        self.loops.append(asyncio.get_running_loop())

    async def exec(self, prep_result: None) -> None:
        self.loops.append(asyncio.get_running_loop())
        if context().attempt == 1:
            raise ValueError("once more")

    async def post(self, store: Store[Any], prep_result: None, exec_result: None) -> str:
        self.loops.append(asyncio.get_running_loop())
        return "next"


def test_a_synchronous_run_has_one_loop_from_its_first_node_to_its_last() -> None:
    """All awaited phases and attempts share a loop, which is that of every synchronous run."""
    loops: list[asyncio.AbstractEventLoop] = []
    first = OnLoop(loops)
    first.then("next", OnLoop(loops))
    flow = Flow(first)
    flow.run()
    assert len(loops) == 8
    assert len(set(map(id, loops))) == 1
    flow.run()
    assert loops[-1] is loops[0]
    assert not loops[-1].is_closed()


def test_an_asynchronous_run_stays_on_the_callers_loop() -> None:
    """``run_async`` awaits everything where it was awaited itself, in the same task."""
    loops: list[asyncio.AbstractEventLoop] = []
    tasks: list[object] = []

    class InTask(AsyncNode):
        async def exec_async(self, prep_result: object) -> None:
            tasks.append(asyncio.current_task())

    async def main() -> None:
        first = OnLoop(loops)
        first.then("next", InTask())
        await Flow(first).run_async()
        assert loops == [asyncio.get_running_loop()] * 4
        assert tasks == [asyncio.current_task()]

    asyncio.run(main())


def test_a_run_inside_a_loop_does_not_touch_that_loop() -> None:
    """``flow.run`` in a coroutine awaits its nodes on another loop than the caller's."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> asyncio.AbstractEventLoop:
        Flow(OnLoop(loops)).run()
        return asyncio.get_running_loop()

    assert asyncio.run(main()) not in loops
    assert len(set(map(id, loops))) == 1


@every_way
def test_a_client_can_be_shared_between_nodes(run: Runner) -> None:
    """An object that belongs to a loop and was made in one node works in the next."""

    class Client:
        """Like a connection pool: bound to the loop that it first waited on."""

        def __init__(self) -> None:
            self.queue: asyncio.Queue[str] = asyncio.Queue()

        async def call(self) -> str:
            waiting = asyncio.ensure_future(self.queue.get())
            await asyncio.sleep(0)
            self.queue.put_nowait("answer")
            return await waiting

    class Connect(AsyncNode):
        async def exec_async(self, prep_result: object) -> tuple[Client, str]:
            client = Client()
            return client, await client.call()

        def post(self, store: Store[Any], prep_result: object, result: Any) -> str:
            store["client"], store["first"] = result
            return "next"

    class Use(AsyncNode):
        def prep(self, store: Store[Any]) -> Client:
            return cast(Client, store["client"])

        async def exec_async(self, client: Client) -> str:
            return await client.call()

        def post(self, store: Store[Any], client: Client, answer: str) -> str:
            store["second"] = answer
            return "done"

    store = run(Flow(Connect().then("next", Use())))
    assert (store["first"], store["second"]) == ("answer", "answer")


def test_what_is_left_on_the_loop_of_a_synchronous_run_is_ended_with_it() -> None:
    """A task that a node forgot is cancelled and cleans up before ``run`` returns."""
    ended: list[str] = []

    class Forgets(AsyncNode):
        async def exec_async(self, prep_result: object) -> None:
            self.task = asyncio.create_task(self.background())
            await asyncio.sleep(0)

        async def background(self) -> None:
            try:
                await asyncio.sleep(WAIT)
            finally:
                ended.append("cleaned up")

    Flow(Forgets()).run()
    assert ended == ["cleaned up"]


@pytest.mark.parametrize("phase", ["prep", "exec", "post", "exec_fallback"])
def test_a_synchronous_phase_leaves_the_loop_free(phase: str) -> None:
    """While a phase of a node waits in a thread, the loop of ``run_async`` goes on."""
    entered, released = threading.Event(), threading.Event()

    def blocks(self: object, *arguments: object) -> None:
        entered.set()
        assert released.wait(WAIT)

    def fails(self: object, prep_result: object) -> None:
        raise ValueError

    phases = {phase: blocks, **({"exec": fails} if phase == "exec_fallback" else {})}
    node = type("Blocks", (Node,), phases)()

    async def main() -> None:
        async def other() -> None:
            while not entered.is_set():  # noqa: ASYNC110 - set by a thread
                await asyncio.sleep(0.001)
            released.set()

        async with asyncio.timeout(WAIT):
            await asyncio.gather(Flow(node).run_async(), other())

    asyncio.run(main())


@every_way
def test_sub_tasks_of_a_node_run_in_parallel(run: Runner) -> None:
    """Three coroutines that wait for each other all get through ``asyncio.gather``."""

    class Meets(AsyncNode):
        async def exec_async(self, prep_result: object) -> list[int]:
            barrier = asyncio.Barrier(3)
            async with asyncio.timeout(WAIT):
                return await asyncio.gather(*[barrier.wait() for _ in range(3)])

        def post(self, store: Store[Any], prep_result: object, positions: list[int]) -> str:
            store["positions"] = sorted(positions)
            return "done"

    assert run(Flow(Meets()))["positions"] == [0, 1, 2]


# -- timeouts -----------------------------------------------------------------------------------


class Slow(Node):
    """Waits in a thread until it is released, in as many attempts as it is told.

    After those it has all the time that it needs, so that a busy machine changes nothing.
    """

    timeout = SHORT

    def __init__(self, slow_attempts: int = 10**6) -> None:
        self.slow_attempts = slow_attempts
        self.released = threading.Event()
        self.timeout = SHORT if slow_attempts else WAIT

    def retry_on(self, exc: Exception) -> bool:
        self.slow_attempts -= 1
        if self.slow_attempts == 0:
            self.timeout = WAIT
        return True

    def exec(self, prep_result: object) -> str:
        if self.timeout == SHORT:
            self.released.wait(WAIT)
            return "too late"
        return "in time"

    def post(self, store: Store[Any], prep_result: object, exec_result: str) -> str:
        store["result"] = exec_result
        return "done"


class SlowAsync(Slow):
    """Waits on the loop, and notes that it was cancelled."""

    async def exec(self, prep_result: object) -> str:  # type: ignore[override]
        if self.timeout == SHORT:
            try:
                await asyncio.sleep(WAIT)
            except asyncio.CancelledError:
                self.released.set()
                raise
        return "in time"


@contextmanager
def releasing(node: Slow) -> Iterator[Slow]:
    """End the threads that outlive their timeout when the test is over."""
    try:
        yield node
    finally:
        node.released.set()


@every_way
@pytest.mark.parametrize("kind", [Slow, SlowAsync])
def test_an_attempt_that_takes_too_long_is_a_timeout_error(run: Runner, kind: type[Slow]) -> None:
    """The error is a ``TimeoutError`` that names node, run, step, attempt and the timeout."""
    with releasing(kind()) as node:
        with pytest.raises(TimeoutError) as caught:
            run(Flow(node, run_id="jobs-1"))
        assert isinstance(caught.value, NodeTimeoutError)
        for part in (f"exec of node '{kind.__name__}'", "'jobs-1'", "step 0", "attempt 1", "0.02"):
            assert part in str(caught.value)


@every_way
@pytest.mark.parametrize("kind", [Slow, SlowAsync])
def test_a_timeout_is_a_failed_attempt(run: Runner, kind: type[Slow]) -> None:
    """It is told and retried like any other failure."""
    with releasing(kind(slow_attempts=2)) as node:
        node.max_retries = 3
        told: list[tuple[int, type]] = []
        flow = Flow(node)
        flow.on("node_retry", lambda name, n, exc, store: told.append((n, type(exc))))
        assert run(flow)["result"] == "in time"
        assert told == [(1, NodeTimeoutError), (2, NodeTimeoutError)]


@every_way
@pytest.mark.parametrize("kind", [Slow, SlowAsync])
def test_a_fallback_answers_for_a_timeout(run: Runner, kind: type[Slow]) -> None:
    """``exec_fallback`` gets the timeout error of the last attempt."""

    class Backed(kind):  # type: ignore[misc, valid-type]
        def exec_fallback(self, prep_result: object, exc: Exception) -> str:
            assert isinstance(exc, NodeTimeoutError)
            return "instead"

    with releasing(Backed()) as node:
        assert run(Flow(node))["result"] == "instead"


@every_way
def test_an_asynchronous_attempt_is_cancelled_at_its_timeout(run: Runner) -> None:
    """The coroutine sees ``CancelledError``, so that it can close what it had opened."""
    node = SlowAsync()
    with pytest.raises(NodeTimeoutError):
        run(Flow(node))
    assert node.released.wait(WAIT)


@every_way
def test_the_late_result_of_a_synchronous_attempt_is_dropped(run: Runner) -> None:
    """A thread that outlives its timeout can no longer change the outcome."""
    with releasing(Slow(slow_attempts=1)) as node:
        node.max_retries = 2
        store = run(Flow(node))
        node.released.set()
        assert store["result"] == "in time"


class Coroutines(Node):
    """Gives a coroutine of a synchronous ``exec``, once it is released."""

    def __init__(self, timeout: float) -> None:
        self.timeout, self.given = timeout, list[Coroutine[Any, Any, object]]()
        self.released = threading.Event()

    def exec(self, prep_result: object) -> Coroutine[Any, Any, object]:
        self.released.wait(WAIT)
        self.given.append(asyncio.Event().wait())
        return self.given[0]

    @property
    def is_closed(self) -> bool:
        """Whether the coroutine is there, and nobody has to await it any more."""
        return bool(self.given) and getcoroutinestate(self.given[0]) == CORO_CLOSED


@every_way
def test_a_coroutine_that_comes_too_late_is_closed(run: Runner) -> None:
    """Python has nothing to complain of where an attempt was given up before it gave one."""
    node = Coroutines(SHORT)
    with pytest.raises(NodeTimeoutError):
        run(Flow(node))
    node.released.set()
    wait_for(lambda: node.is_closed, "it is not closed")


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
def test_a_coroutine_of_a_phase_in_a_thread_is_closed_if_the_task_was_cancelled(phase: str) -> None:
    """Also where the task waits for the phase, and for those that would follow it there."""
    entered, released = threading.Event(), threading.Event()
    given: list[Coroutine[Any, Any, object]] = []

    def late(*arguments: object) -> object:
        entered.set()
        released.wait(WAIT)
        given.append(asyncio.Event().wait())
        return given[0]

    async def main() -> None:
        task = asyncio.create_task(Flow(type("Late", (Node,), {phase: late})()).run_async())
        await until(entered)
        task.cancel()
        await asyncio.sleep(0)
        released.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    wait_for(lambda: given and getcoroutinestate(given[0]) == CORO_CLOSED, "it is not closed")


def test_a_coroutine_that_was_cancelled_before_it_began_is_closed() -> None:
    """Also one that has a timeout, and waits for the loop of synchronous runs to be free."""
    node, holds, free = Coroutines(WAIT), threading.Event(), threading.Event()
    node.released.set()

    class Busy(Node):
        async def exec(self, prep_result: object) -> None:
            holds.set()
            free.wait(WAIT)

    busy = Flow(Busy()).run_background()
    assert holds.wait(WAIT)
    handle = Flow(node).run_background()
    wait_for(lambda: node.given, "there is no coroutine")
    handle.cancel()
    free.set()
    with pytest.raises(RunCancelled):
        handle.wait(WAIT)
    busy.wait(WAIT)
    wait_for(lambda: node.is_closed, "it is not closed")


@every_way
def test_a_node_that_keeps_its_timeout_is_left_alone(run: Runner) -> None:
    """A generous timeout changes nothing, for synchronous and asynchronous nodes."""
    for kind in (Slow, SlowAsync):
        node = kind(slow_attempts=0)
        node.timeout = WAIT
        assert run(Flow(node))["result"] == "in time"


@every_way
def test_a_timeout_error_of_the_nodes_own_stays_what_it_is(run: Runner) -> None:
    """A ``TimeoutError`` that ``exec`` raises itself is not taken for the node's timeout."""
    error = TimeoutError("the server said so")

    class Own(AsyncNode):
        timeout = WAIT

        async def exec_async(self, prep_result: object) -> None:
            raise error

    with pytest.raises(TimeoutError, match="the server said so") as caught:
        run(Flow(Own()))
    assert caught.value is error


@every_way
def test_a_timeout_bounds_exec_and_nothing_else(run: Runner) -> None:
    """``prep`` and ``post`` may take longer than the timeout."""

    class Patient(Node):
        timeout = SHORT
        max_retries = 100  # on a busy machine even nothing may take too long

        def prep(self, store: Store[Any]) -> None:
            threading.Event().wait(SHORT * 2)

        async def post(self, store: Store[Any], prep_result: None, exec_result: None) -> str:
            await asyncio.sleep(SHORT * 2)
            store["result"] = "in time"
            return "done"

    assert run(Flow(Patient()))["result"] == "in time"


# -- cancellation of the task -------------------------------------------------------------------


class Waiting(Node):
    """Says when one of its phases has begun, and waits there for the test."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.entered = threading.Event()
        self.released = threading.Event()

    def _wait(self, phase: str) -> None:
        if phase == self.phase:
            self.entered.set()
            assert self.released.wait(WAIT)

    def prep(self, store: Store[Any]) -> None:
        self._wait("prep")
        store["prep"] = True

    def exec(self, prep_result: None) -> None:
        self._wait("exec")

    def post(self, store: Store[Any], prep_result: None, exec_result: None) -> str:
        self._wait("post")
        store["post"] = True
        return "next"


class WaitingAsync(AsyncNode):
    """Says when it has begun to await."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.cancelled = False

    async def exec_async(self, prep_result: object) -> None:
        self.entered.set()
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class WaitingDelay(Node):
    """Fails and waits very long for its second attempt."""

    max_retries = 2
    retry_delay = WAIT

    def __init__(self) -> None:
        self.entered = threading.Event()

    def exec(self, prep_result: object) -> None:
        self.entered.set()
        raise ValueError("once more")


async def until(event: threading.Event) -> None:
    """Wait on the loop for an event that a thread sets."""
    async with asyncio.timeout(WAIT):
        while not event.is_set():  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "make", [WaitingAsync, WaitingDelay, lambda: Waiting("exec")], ids=["await", "delay", "thread"]
)
def test_cancelling_the_task_cancels_the_run(tmp_path: Path, make: Callable[[], Any]) -> None:
    """The caller gets ``CancelledError`` at once; hooks and database say cancelled, not failed."""
    node = make()
    last = Waiting("never")
    node.then("next", last)
    heard: list[str] = []

    async def main(db: WorkflowDB) -> None:
        flow = Flow(node, db_path=db, run_id="jobs-1")
        flow.on("node_error", lambda name, exc, store: heard.append("node_error"))
        flow.on("flow_error", lambda exc, store: heard.append("flow_error"))
        flow.on("flow_cancelled", lambda steps, store: heard.append(f"cancelled after {steps}"))
        task = asyncio.create_task(flow.run_async())
        await until(node.entered)
        task.cancel()
        async with asyncio.timeout(WAIT / 2):
            with pytest.raises(asyncio.CancelledError):
                await task
        run = db.get_run("jobs-1")
        assert run is not None
        assert run["status"] == "cancelled"
        getattr(node, "released", threading.Event()).set()

    with WorkflowDB(tmp_path / "runs.db") as db:
        asyncio.run(main(db))
        assert [row["event"] for row in db.get_events("jobs-1")][-1] == "flow_cancelled"
    assert heard == ["cancelled after 0"]
    assert not last.entered.is_set()


class FailsAsItIsCancelled(Node):
    """Fails, and its task is cancelled while that is put on record."""

    async def exec(self, prep_result: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        raise ValueError("failed")


@pytest.mark.parametrize(
    ("make", "ending"), [(WaitingAsync, "flow_cancelled"), (FailsAsItIsCancelled, "flow_error")]
)
def test_hooks_hear_of_the_end_however_often_the_task_is_cancelled(
    tmp_path: Path, make: Callable[[], Any], ending: str
) -> None:
    """A task that is cancelled while its run ends, as by anyio at each await, has told its end."""
    node, heard = make(), []

    async def main() -> None:
        flow = Flow(node, db_path=tmp_path / "runs.db", run_id="r")
        flow.on("flow_error", lambda exc, store: heard.append("flow_error"))
        flow.on("flow_cancelled", lambda steps, store: heard.append("flow_cancelled"))
        task = asyncio.create_task(flow.run_async())
        if isinstance(node, WaitingAsync):
            await until(node.entered)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert flow.database.get_events("r")[-1]["event"] == ending

    asyncio.run(main())
    assert heard == [ending]


def test_cancelling_the_task_cancels_what_the_node_awaits() -> None:
    """The coroutine of the node sees the cancellation and can clean up."""
    node = WaitingAsync()

    async def main() -> None:
        task = asyncio.create_task(Flow(node).run_async())
        await until(node.entered)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert node.cancelled


@pytest.mark.parametrize("phase", ["prep", "post"])
def test_a_phase_that_has_the_store_is_waited_for(phase: str) -> None:
    """After a cancelled ``run_async`` has ended, no thread of it writes to the store any more."""
    node = Waiting(phase)
    store: Store[Any] = Store()

    async def main() -> None:
        task = asyncio.create_task(Flow(node).run_async(store))
        await until(node.entered)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        node.released.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert phase in store

    asyncio.run(main())


def test_a_failure_of_a_phase_that_was_waited_for_is_kept() -> None:
    """If ``post`` fails while the task is cancelled, its exception is the cause of the other."""
    node = Waiting("post")

    async def main() -> None:
        task = asyncio.create_task(Flow(Fails(node)).run_async())
        await until(node.entered)
        task.cancel()
        await asyncio.sleep(0)
        node.released.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert str(caught.value.__cause__) == "post failed"

    class Fails(Node):
        def __init__(self, inner: Waiting) -> None:
            self.inner = inner

        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
            self.inner.post(store, None, None)
            raise ValueError("post failed")

    asyncio.run(main())


def test_a_timeout_around_a_run_is_the_callers_timeout() -> None:
    """``asyncio.timeout`` works around ``run_async`` as around anything else."""
    node = WaitingAsync()

    async def expire(bound: asyncio.Timeout) -> None:
        await until(node.entered)
        bound.reschedule(asyncio.get_running_loop().time())

    async def bounded() -> None:
        async with asyncio.timeout(WAIT) as bound:
            async with asyncio.TaskGroup() as group:
                group.create_task(expire(bound))
                await Flow(node).run_async()

    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            await bounded()
        assert not isinstance(caught.value, NodeTimeoutError)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(main())
    assert node.cancelled


def test_a_run_ends_when_a_sibling_in_its_task_group_fails() -> None:
    """A task group cancels the run and reports the failure of the sibling alone."""
    node = WaitingAsync()

    async def fail() -> None:
        await until(node.entered)
        raise ValueError("the sibling")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(Flow(node).run_async())
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert [str(one) for one in caught.value.exceptions] == ["the sibling"]
    assert node.cancelled


@every_way
def test_an_await_that_is_cancelled_from_within_is_a_failure(run: Runner) -> None:
    """If what a node awaits is cancelled and the run is not, the attempt failed, and says so."""

    class Withdrawn(AsyncNode):
        max_retries = 2

        async def exec_async(self, prep_result: object) -> None:
            inner = asyncio.ensure_future(asyncio.sleep(WAIT))
            inner.cancel()
            await inner

    flow = Flow(Withdrawn())
    told: list[str] = []
    flow.on("node_retry", lambda name, attempt, exc, store: told.append(f"retry {attempt}"))
    flow.on("flow_error", lambda exc, store: told.append("failed"))
    flow.on("flow_cancelled", lambda steps, store: told.append("cancelled"))
    with pytest.raises(RunError, match=r"node 'Withdrawn'.*awaited something that was") as caught:
        run(flow)
    assert not isinstance(caught.value, RunCancelled)
    assert told == ["retry 1", "failed"]


class CancelsItself(AsyncNode):
    """Asks its own run to stop, and awaits; may refuse to be interrupted."""

    def __init__(self, stubborn: bool) -> None:
        self.stubborn = stubborn

    async def exec_async(self, prep_result: object) -> None:
        asyncio.get_running_loop().call_soon(context().cancellation.request)
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            if not self.stubborn:
                raise


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_run_that_is_asked_to_stop_ends_its_await_and_not_the_callers_task(
    stubborn: bool,
) -> None:
    """The caller gets ``RunCancelled``, and its task does not count as cancelled afterwards."""

    async def main() -> None:
        node = CancelsItself(stubborn)
        node.then("default", Waiting("never"))
        with pytest.raises(RunCancelled):
            await Flow(node).run_async()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(main())


class BreaksOff(CancelsItself):
    """Makes an error of its own of it, as a client does whose connection is gone by then."""

    async def exec_async(self, prep_result: object) -> None:
        try:
            await super().exec_async(prep_result)
        except asyncio.CancelledError:
            raise ConnectionError("the connection is closed") from None


@pytest.mark.parametrize(
    "run",
    [
        lambda flow: asyncio.run(flow.run_async()),
        lambda flow: flow.run(),
        lambda flow: flow.run_background().wait(WAIT),
        lambda flow: flow.on("node_start", lambda name, store: None).run_background().wait(WAIT),
    ],
    ids=["on the loop", "in the thread", "in the background", "in the background, with a hook"],
)
def test_an_error_that_a_node_makes_of_a_cancellation_does_not_fail_the_run(
    run: Callable[[Flow], object], tmp_path: Path
) -> None:
    """It is cancelled, whoever drives it."""
    flow = Flow(BreaksOff(stubborn=False), db_path=tmp_path / "jobs.db", run_id="jobs-1")
    with pytest.raises(RunCancelled) as caught:
        run(flow)
    assert isinstance(caught.value.__cause__, ConnectionError | None)
    assert row_of(flow.database, "jobs-1")["status"] == "cancelled"


# -- context variables --------------------------------------------------------------------------


class Asking(Node):
    """Keeps what it sees of two context variables in each phase, and in a task of its own."""

    def __init__(self, timeout: float | None, asynchronous: bool) -> None:
        self.timeout = timeout
        self.seen: list[tuple[str, str, int]] = []
        if asynchronous:
            cast(Any, self).exec = self.exec_async

    def look(self) -> None:
        self.seen.append((USER.get(), context().run_id, context().step))

    def prep(self, store: Store[Any]) -> None:
        self.look()

    def exec(self, prep_result: None) -> None:
        self.look()

    async def exec_async(self, prep_result: None) -> None:
        self.look()
        await asyncio.create_task(self.task())
        await asyncio.to_thread(self.look)

    async def task(self) -> None:
        self.look()

    def post(self, store: Store[Any], prep_result: None, exec_result: None) -> str:
        self.look()
        return "next"


@every_way
@pytest.mark.parametrize("timeout", [None, WAIT])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_context_variables_reach_threads_and_tasks(
    run: Runner, timeout: float | None, asynchronous: bool
) -> None:
    """The caller's variables and the run's context are seen in every phase, wherever it runs."""
    token = USER.set("ada")
    try:
        nodes = [Asking(timeout, asynchronous) for _ in range(2)]
        nodes[0].then("next", nodes[1])
        run(Flow(nodes[0], run_id="jobs-1"))
    finally:
        USER.reset(token)
    for step, node in enumerate(nodes):
        assert node.seen == [("ada", "jobs-1", step)] * (5 if asynchronous else 3)


# -- many at once -------------------------------------------------------------------------------

TASKS = 200


def test_many_asynchronous_runs_of_one_flow_do_not_mix() -> None:
    """Two hundred runs meet inside a node; each sees its own store, context and hooks."""
    heard: dict[str, list[str]] = {}

    class Meets(AsyncNode):
        barrier: asyncio.Barrier

        def prep(self, store: Store[Any]) -> int:
            return cast(int, store["number"])

        async def exec_async(self, number: int) -> tuple[int, str, int]:
            before = context()
            await self.barrier.wait()
            assert context() is before
            return number, context().run_id, context().step

        def post(self, store: Store[Any], number: int, result: tuple[int, str, int]) -> str:
            assert result == (number, context().run_id, context().step)
            store["visits"] = [*store.get("visits", []), result]
            return "next"

    first, second = Meets(name="a"), Meets(name="b")
    first.then("next", second)
    flow = Flow(first)
    flow.on("node_start", lambda name, store: heard.setdefault(context().run_id, []).append(name))

    async def main() -> list[Store[Any]]:
        first.barrier = second.barrier = asyncio.Barrier(TASKS)
        runs: list[Awaitable[Store[Any]]] = [
            flow.run_async({"number": number}) for number in range(TASKS)
        ]
        async with asyncio.timeout(WAIT):
            return await asyncio.gather(*runs)

    ids = set()
    for number, store in enumerate(asyncio.run(main())):
        run_id = store["visits"][0][1]
        assert store["visits"] == [(number, run_id, 0), (number, run_id, 1)]
        assert heard[run_id] == ["a", "b"]
        ids.add(run_id)
    assert len(ids) == TASKS


def test_asynchronous_runs_at_once_are_kept_apart_in_one_database(tmp_path: Path) -> None:
    """Runs that overlap write their own checkpoints and events into one file."""

    class Meets(AsyncNode):
        barrier: asyncio.Barrier

        async def exec_async(self, prep_result: object) -> None:
            await self.barrier.wait()

        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
            store["run"] = context().run_id
            return "next"

    node = Meets()

    async def main(db: WorkflowDB) -> None:
        node.barrier = asyncio.Barrier(10)
        flow = Flow(node, db_path=db)
        async with asyncio.timeout(WAIT):
            await asyncio.gather(*[flow.run_async({"number": n}) for n in range(10)])

    with WorkflowDB(tmp_path / "runs.db", synchronous="NORMAL") as db:
        asyncio.run(main(db))
        numbers = set()
        for run in db.list_runs():
            assert run["status"] == "completed"
            store = db.load_checkpoint(run["run_id"], 0)
            assert store["run"] == run["run_id"]
            numbers.add(store["number"])
    assert numbers == set(range(10))


def test_synchronous_runs_with_awaits_overlap_in_threads() -> None:
    """Runs in threads await on one loop, none waiting for another's."""
    barrier = threading.Barrier(4)

    class Meets(AsyncNode):
        async def exec_async(self, prep_result: object) -> int:
            await asyncio.to_thread(barrier.wait, WAIT)
            return id(asyncio.get_running_loop())

        def post(self, store: Store[Any], prep_result: object, loop: int) -> str:
            store["loop"] = loop
            return "done"

    flow = Flow(Meets())
    handles = [flow.run_background() for _ in range(4)]
    assert len({handle.wait(WAIT)["loop"] for handle in handles}) == 1


def test_no_thread_of_a_synchronous_run_is_left_behind() -> None:
    """When ``run`` returns, no thread is left but that of the loop, which is there once."""
    Flow(Fetch()).run({"numbers": [1]})
    before = set(threading.enumerate())
    Flow(Fetch()).run({"numbers": [1]})
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert left == set()
    assert time.monotonic() > 0


def test_exec_async_without_async_is_refused_where_its_annotation_says_so() -> None:
    """The node is not made; one that may give something to be awaited is."""

    class Plain(AsyncNode):
        def exec_async(self, prep_result: Any) -> str:  # type: ignore[override]  # ty: ignore[invalid-method-override]
            return "text"

    class Nothing(AsyncNode):
        def exec_async(self, prep_result: Any) -> None:  # type: ignore[override]  # ty: ignore[invalid-method-override]
            return None

    class Handed(AsyncNode):
        def exec_async(self, prep_result: Any) -> Any:
            return asyncio.sleep(0, "slept")

        def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> None:
            store["slept"] = exec_result

    for kind, given in ((Plain, "str"), (Nothing, "None")):
        with pytest.raises(DefinitionError, match=rf"returns {given}\w*, which cannot be awaited"):
            kind()
    assert Flow(Handed()).run({})["slept"] == "slept"


def test_exec_async_without_async_has_one_attempt() -> None:
    """Where nothing says it before, the first attempt does, and no other one follows."""
    calls = []

    class Bare(AsyncNode):
        max_retries = 3

        def exec_async(self, prep_result):  # type: ignore[no-untyped-def]
            calls.append(1)
            return "text"

    with pytest.raises(DefinitionError, match="returned str, which cannot be awaited"):
        Flow(Bare()).run({})
    assert calls == [1]


MANY = 40
"""More branches than the pool of an event loop has threads."""


@pytest.mark.parametrize("go", [run_sync, run_on_a_loop, run_inside_a_loop])
@pytest.mark.parametrize("how", ["Parallel", "FanOut", "batches"])
def test_branches_that_wait_for_each_other_all_run_at_once(go: Any, how: str) -> None:
    """As many as there are, or as ``concurrency`` says, whatever threads the loop's pool has."""
    barrier = threading.Barrier(MANY, timeout=WAIT)

    class Meet(Node):
        def exec(self, prep_result: Any) -> Any:
            barrier.wait()

        def post(self, store: Any, prep_result: Any, exec_result: Any) -> None:
            barrier.wait()

    class Meetings(BatchNode):
        concurrency = 2

        def prep(self, store: Any) -> list[int]:
            return [0, 1]

        def exec(self, item: int) -> None:
            barrier.wait()

    if how == "FanOut":
        each = FanOut(Meet(), each=key("l"), as_=key("i"), name="p", concurrency=MANY)
        go(Flow(each), {"l": list(range(MANY))})
    elif how == "Parallel":
        go(Flow(Parallel(*(Meet(name=f"n{i}") for i in range(MANY)), name="p")), {})
    else:
        go(Flow(Parallel(*(Meetings(name=f"n{i}") for i in range(MANY // 2)), name="p")), {})
    assert not barrier.broken


class Exits(Node):
    """Ends the process."""

    def exec(self, prep_result: Any) -> Any:
        raise SystemExit(3)


class ExitsInABatch(BatchNode):
    """Ends the process in one of several items at once."""

    concurrency = 3

    def prep(self, store: Any) -> Any:
        return [1, 2, 3]

    async def exec(self, item: int) -> None:
        raise SystemExit(3)


@pytest.mark.parametrize("go", [run_sync, run_on_a_loop, run_inside_a_loop])
@pytest.mark.parametrize(
    "make", [lambda: Parallel(Exits(name="a"), Node(name="b"), name="p"), ExitsInABatch]
)
def test_the_end_of_the_process_in_one_of_several_at_once(
    go: Any, make: Any, tmp_path: Path
) -> None:
    """The caller gets ``SystemExit``, and the run has failed with it, not been cancelled."""
    flow = Flow(make(), db_path=tmp_path / "x.db", flow_name="f", run_id="r")
    with pytest.raises(SystemExit):
        go(flow, {})
    (row,) = flow.database.list_runs()
    assert (row["status"], row["error_type"]) == ("failed", "SystemExit")


@pytest.mark.parametrize("go", [run_sync, run_on_a_loop, run_inside_a_loop])
@pytest.mark.parametrize("phase", ["prep", "exec", "post", "branch", "item"])
@pytest.mark.parametrize("catches", [False, True])
def test_what_was_cancelled_elsewhere_is_a_failure_in_each_phase(
    go: Any, phase: str, catches: bool, tmp_path: Path
) -> None:
    """A plain phase that raises ``CancelledError`` fails the run, or takes the edge for that."""

    def cancelled(*_: Any) -> Any:
        raise asyncio.CancelledError

    body = {"prep": lambda *_: [1, 2], "exec": cancelled, "concurrency": 2}
    items = type("Items", (BatchNode,), body)
    kind = type("C", (Node,), {"exec" if phase == "branch" else phase: cancelled})
    node: Any = items(name="c") if phase == "item" else kind(name="c")
    if phase == "branch":
        node = Parallel(node, Node(name="other"), name="p")
    flow = Flow(node, db_path=tmp_path / "x.db", flow_name="f", run_id="r")
    if catches:
        flow.then(node.catch(RunError), Node(name="after"))
        go(flow, {})
    else:
        with pytest.raises(RunError, match="awaited something that was cancelled"):
            go(flow, {})
    status = "completed" if catches else "failed"
    assert flow.database.list_runs()[0]["status"] == status


class Connection:
    """A client whose pool cancels what is awaited, at first."""

    def __init__(self, losses: int) -> None:
        self.losses = losses

    async def ask(self, item: int) -> int:
        """The item itself."""
        if self.losses:
            self.losses -= 1
            lost = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost
        return item


@pytest.mark.parametrize("go", [run_sync, run_on_a_loop, run_inside_a_loop])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_item_that_awaits_what_was_cancelled_elsewhere_is_tried_again(
    go: Any, concurrency: int
) -> None:
    """That is a failure of the item, also where items are awaited at the same time."""
    asked = Connection(losses=1)

    class Items(BatchNode):
        on_error = "collect"
        max_retries = 2

        def prep(self, store: Store[Any]) -> list[int]:
            return [1, 2, 3]

        async def exec(self, item: int) -> int:
            return await asked.ask(item)

        def post(self, store: Store[Any], items: Any, results: list[Any]) -> str:
            store["found"] = [str(one) for one in results]
            return "default"

    items = Items()
    items.concurrency = concurrency
    assert go(Flow(items), {})["found"] == ["1", "2", "3"]
    asked.losses = 6
    found = go(Flow(items), {})["found"]
    assert all("awaited something that was cancelled" in one for one in found)


def test_so_many_synchronous_phases_are_called_at_once_beside_a_loop() -> None:
    """Runs on a loop call phases in as many threads as its pool has, however many they are."""
    limit = min(32, (os.cpu_count() or 1) + 4)
    guard, full = threading.Lock(), threading.Event()
    at_work = 0
    most: list[int] = []

    class Work(Node):
        def exec(self, prep_result: object) -> None:
            nonlocal at_work
            with guard:
                at_work += 1
                most.append(at_work)
            if at_work == limit:
                full.set()
            full.wait(WAIT)
            with guard:
                at_work -= 1

    async def main() -> None:
        flow = Flow(Work())
        async with asyncio.timeout(WAIT):
            await asyncio.gather(*[flow.run_async() for _ in range(3 * limit)])

    asyncio.run(main())
    assert len(most) == 3 * limit
    assert max(most) == limit


def test_a_coroutine_of_a_phase_may_wait_for_nothing_at_first() -> None:
    """A bare wait, an await that is over at once and one that is not give what they give."""

    class Waits(Node):
        async def prep(self, store: Store[Any]) -> int:
            await asyncio.sleep(0)
            return 1

        async def exec(self, number: int) -> int:
            done = asyncio.get_running_loop().create_future()
            done.set_result(number + 1)
            result: int = await done
            return result

        async def post(self, store: Store[Any], number: int, result: int) -> None:
            await asyncio.sleep(0.001)
            store["found"] = number, result

    for store in (asyncio.run(Flow(Waits()).run_async()), Flow(Waits()).run()):
        assert store["found"] == (1, 2)
