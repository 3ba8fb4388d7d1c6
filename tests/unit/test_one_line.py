"""One task and one context for one line of execution, in both drivers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar, Token
from typing import Any

import pytest

from pocoflow import BatchNode, FanOut, Flow, Node, Parallel, Store, context, key, resource
from pocoflow.errors import RunCancelled, RunError

SPAN: ContextVar[str] = ContextVar("SPAN", default="none")


def run(flow: Flow[Any], **values: Any) -> Store[Any]:
    """In this thread."""
    return flow.run(values)


def run_async(flow: Flow[Any], **values: Any) -> Store[Any]:
    """On an event loop."""
    return asyncio.run(flow.run_async(values))


def run_background(flow: Flow[Any], **values: Any) -> Store[Any]:
    """In a thread of its own."""
    return flow.run_background(values).wait(30)


WAYS = pytest.mark.parametrize("go", [run, run_async, run_background])
Phases = tuple[bool, bool, bool]
MIXED = pytest.mark.parametrize(
    "phases", [(False,) * 3, (True,) * 3, (True, False, True), (False, True, False)]
)


def spanning(phases: Phases, base: Any = Node, **settings: Any) -> Any:
    """A node that opens a span in prep and closes it in post."""

    def prep(self: Any, store: Store[Any]) -> Any:
        opened = SPAN.set("open")
        store["token"] = opened
        return [1, 2] if base is BatchNode else opened

    def exec_(self: Any, given: Any) -> str:
        return SPAN.get()

    def post(self: Any, store: Store[Any], given: Any, result: Any) -> str:
        store["saw"] = [result, SPAN.get()]
        opened: Token[str] = store.pop("token")
        SPAN.reset(opened)
        store["after"] = SPAN.get()
        return "default"

    def made_async(function: Any) -> Any:
        async def phase(*given: Any) -> Any:
            await asyncio.sleep(0)
            return function(*given)

        return phase

    functions = {"prep": prep, "exec": exec_, "post": post}
    chosen = {
        name: made_async(function) if is_async else function
        for (name, function), is_async in zip(functions.items(), phases, strict=True)
    }
    return type("Spanning", (base,), {**chosen, **settings})()


@MIXED
@pytest.mark.parametrize(
    "settings",
    [{}, {"max_retries": 3}, {"timeout": 30.0}, {"timeout": 30.0, "max_retries": 2}],
    ids=range(4),
)
@WAYS
def test_a_token_of_prep_is_good_in_post(go: Any, settings: Any, phases: Phases) -> None:
    """What prep sets is seen in exec and post, and can be reset, however phases are written."""
    done = go(Flow(spanning(phases, **settings)))
    assert done["saw"] == ["open", "open"]
    assert done["after"] == "none"
    assert SPAN.get() == "none"


@MIXED
@pytest.mark.parametrize("concurrency", [1, 2])
@WAYS
def test_items_see_what_prep_set(go: Any, concurrency: int, phases: Phases) -> None:
    """Also where they are worked on side by side."""
    done = go(Flow(spanning(phases, BatchNode, concurrency=concurrency)))
    assert done["saw"] == [["open", "open"], "open"]
    assert done["after"] == "none"


@MIXED
@WAYS
def test_branches_have_lines_of_their_own(go: Any, phases: Phases) -> None:
    """A branch sees what was set before the fork; what it sets stays with it."""
    for start in (
        Parallel(spanning(phases, name="a")),
        FanOut(spanning(phases), each=key("items"), as_=key("item")),
    ):
        done = go(Flow(start), items=[1])
        assert done["saw"] == ["open", "open"]
        assert SPAN.get() == "none"


@WAYS
def test_a_variable_that_a_node_set_is_seen_by_the_next(go: Any) -> None:
    """The context is the line's, not the node's."""

    class Set(Node):
        async def post(self, store: Store[Any], given: Any, result: Any) -> str:
            SPAN.set("set")
            return "default"

    class Get(Node):
        def prep(self, store: Store[Any]) -> Any:
            return SPAN.get()

        def post(self, store: Store[Any], given: Any, result: Any) -> str:
            store["saw"] = given
            return "default"

    flow = Flow(first := Set())
    flow.then(first, Get())
    assert go(flow)["saw"] == "set"
    assert SPAN.get() == "none"


@WAYS
def test_async_phases_of_a_line_are_one_task(go: Any) -> None:
    """A scope that belongs to a task can be entered in prep and left in post."""
    tasks: list[Any] = []

    class Scoped(Node):
        async def prep(self, store: Store[Any]) -> Any:
            scope = asyncio.timeout(30)
            await scope.__aenter__()
            tasks.append(asyncio.current_task())
            return scope

        def exec(self, scope: Any) -> str:
            return "plain"

        async def post(self, store: Store[Any], scope: Any, result: str) -> str:
            tasks.append(asyncio.current_task())
            await scope.__aexit__(None, None, None)
            return "default"

    flow = Flow(first := Scoped())
    flow.then(first, Scoped())
    go(flow)
    assert len(tasks) == 4
    assert len(set(map(id, tasks))) == 1


@WAYS
def test_an_anyio_scope_spans_phases(go: Any) -> None:
    """As that of an MCP session does, which is opened in prep and closed in post."""
    anyio = pytest.importorskip("anyio")

    class Session(Node):
        async def prep(self, store: Store[Any]) -> Any:
            self.group = anyio.create_task_group()
            await self.group.__aenter__()
            self.group.start_soon(anyio.sleep, 0)

        def exec(self, given: Any) -> str:
            return "said"

        async def post(self, store: Store[Any], given: Any, result: str) -> str:
            await self.group.__aexit__(None, None, None)
            store["said"] = result
            return "default"

    assert go(Flow(Session()))["said"] == "said"


class Client:
    """Binds itself to the loop of its first call, as connection pools do."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None

    async def get(self) -> str:
        """Answer."""
        self.loop = self.loop or asyncio.get_running_loop()
        await asyncio.wait_for(self.loop.create_task(asyncio.sleep(0)), 30)
        return "ok"


CLIENT = resource(Client, "client")


class Get(Node):
    """Uses the client."""

    async def exec(self, given: None) -> str:
        return await context()[CLIENT].get()

    def post(self, store: Store[Any], given: None, result: str) -> str:
        store["got"] = result
        return "default"


def test_a_client_serves_all_synchronous_runs() -> None:
    """One after another, at once, and in the background: their loop is that of the process."""
    one = {CLIENT: Client()}
    flow = Flow(Get())
    for _ in range(2):
        assert flow.run({}, resources=one)["got"] == "ok"
    handles = [flow.run_background({}, resources=one) for _ in range(5)]
    assert [handle.wait(30)["got"] for handle in handles] == ["ok"] * 5


@pytest.mark.parametrize("how", ["run", "background", "stream"])
def test_a_run_inside_of_an_async_node_does_not_wait_for_itself(how: str) -> None:
    """A run that is begun on the shared loop awaits on one of its own."""

    class Outer(Node):
        async def exec(self, given: None) -> Any:
            inner = Flow(Get())
            one = {CLIENT: Client()}
            if how == "run":
                return inner.run({}, resources=one)["got"]
            if how == "background":
                return inner.run_background({}, resources=one).wait(30)["got"]
            return "ok" if list(inner.stream({}, resources=one)) else "nothing"

        def post(self, store: Store[Any], given: None, result: str) -> str:
            store["got"] = result
            return "default"

    assert Flow(Outer()).run({})["got"] == "ok"


def test_what_an_await_raises_does_not_end_the_loop() -> None:
    """A SystemExit of one run ends that run alone."""

    class Leave(Node):
        async def exec(self, given: None) -> None:
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        Flow(Leave()).run({})
    assert Flow(Get()).run({}, resources={CLIENT: Client()})["got"] == "ok"


def test_a_cancelled_wait_leaves_the_line_to_clean_up() -> None:
    """A run that is cancelled in an await ends when the await has cleaned up."""
    began, cleaned = threading.Event(), threading.Event()

    class Slow(Node):
        async def exec(self, given: None) -> None:
            try:
                began.set()
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0)
                cleaned.set()

    handle = Flow(Slow()).run_background({})
    assert began.wait(30)
    handle.cancel()
    with pytest.raises(Exception, match="cancelled"):
        handle.wait(30)
    assert cleaned.is_set()


def test_a_given_up_call_does_not_hold_the_line_up() -> None:
    """A synchronous exec that outlives the cancellation of an asynchronous run is left behind."""
    late = threading.Event()
    began = threading.Event()

    class Slow(Node):
        def exec(self, given: None) -> None:
            began.set()
            late.wait(30)

    async def main() -> None:
        task = asyncio.ensure_future(Flow(Slow()).run_async({}))
        await asyncio.to_thread(began.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        late.set()

    asyncio.run(main())


@asynccontextmanager
async def opened(log: list[str]) -> AsyncIterator[str]:
    """A session."""
    log.append("in")
    yield "session"
    log.append("out")


@WAYS
def test_a_context_manager_spans_phases(go: Callable[..., Any]) -> None:
    """An async context manager that prep enters is left in post, in the same task and context."""
    log: list[str] = []

    class Use(Node):
        async def prep(self, store: Store[Any]) -> Any:
            session = opened(log)
            return session, await session.__aenter__()

        async def exec(self, given: Any) -> str:
            return str(given[1])

        async def post(self, store: Store[Any], given: Any, result: str) -> str:
            await given[0].__aexit__(None, None, None)
            log.append(result)
            return "default"

    go(Flow(Use()))
    assert log == ["in", "out", "session"]


class Counting(Node):
    """Three asynchronous phases, until the store says that it is enough."""

    async def prep(self, store: Store[Any], /) -> int:
        """Note the thread."""
        store["threads"].add(threading.current_thread().name)
        return int(store["n"])

    async def exec(self, number: int, /) -> int:
        """One more."""
        await asyncio.sleep(0)
        return number + 1

    async def post(self, store: Store[Any], given: int, number: int, /) -> str:
        """Say whether it is enough."""
        store["n"] = number
        return "again" if number < 5 else "default"


def counting() -> Node[Any, Any, Any]:
    """Such a node, in a loop."""
    node = Counting()
    return node.then("again", node)


@pytest.mark.parametrize("go", [run, run_background])
def test_what_only_awaits_runs_on_the_loop_and_what_hears_of_it_does_not(go: Any) -> None:
    """Asynchronous steps of a synchronous run are made on the loop, hooks called in its thread."""
    threads: set[str] = set()
    assert go(Flow(counting()), n=0, threads=threads)["n"] == 5
    assert threads == {"pocoflow-loop"}
    heard: set[str] = set()
    flow = Flow(counting())
    flow.on("node_end", lambda *facts: heard.add(threading.current_thread().name))
    assert go(flow, n=0, threads=threads)["n"] == 5
    assert len(heard) == 1
    assert "pocoflow-loop" not in heard


def test_an_exec_that_takes_a_cancellation_for_itself_writes_nothing_after_it() -> None:
    """The run is cancelled all the same, and post is not called."""
    begun = threading.Event()

    class Stubborn(Counting):
        async def exec(self, number: int, /) -> int:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return 1
            return 2

    handle = Flow(Stubborn()).run_background({"n": 0, "threads": set()})
    assert begun.wait(30)
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.wait(30)
    assert handle.store["n"] == 0


def test_an_await_that_somebody_cancelled_fails_the_run_that_only_awaits() -> None:
    """It says that what was awaited was cancelled, and not the run."""

    class Withdrawn(Counting):
        async def exec(self, number: int, /) -> int:
            task = asyncio.ensure_future(asyncio.sleep(60))
            task.cancel()
            await task
            return 1

    with pytest.raises(RunError, match=r"exec of node 'Withdrawn' .* the run itself was not"):
        run(Flow(Withdrawn()), n=0, threads=set())


class Blocking(Node):
    """Three synchronous phases, which note their threads; some wait until they may go on."""

    def __init__(self, waits: str = "") -> None:
        super().__init__()
        self.waits, self.begun, self.may_go_on = waits, threading.Event(), threading.Event()
        self.calls: list[tuple[str, int]] = []

    def work(self, phase: str) -> None:
        """Note the thread, and wait if this is the phase to wait in."""
        self.calls.append((phase, threading.get_ident()))
        if phase == self.waits:
            self.begun.set()
            assert self.may_go_on.wait(30)

    def prep(self, store: Store[Any], /) -> None:
        """Work."""
        self.work("prep")

    def exec(self, given: None, /) -> Any:
        """Work."""
        self.work("exec")

    def post(self, store: Store[Any], given: None, result: Any, /) -> str:
        """Work, and say so."""
        self.work("post")
        store["written"] = result
        return "default"

    @property
    def phases(self) -> list[str]:
        """The phases that were called."""
        return [phase for phase, _ in self.calls]


def test_the_phases_of_a_synchronous_node_are_one_way_off_the_loop() -> None:
    """Under run_async they are called one after the other in one thread beside the loop's."""
    node = Blocking()
    run_async(Flow(node))
    assert node.phases == ["prep", "exec", "post"]
    assert len({thread for _, thread in node.calls}) == 1
    assert threading.get_ident() not in {thread for _, thread in node.calls}


@pytest.mark.parametrize("waits", ["prep", "exec", "post"])
def test_a_cancelled_task_waits_for_what_works_on_the_store_and_nothing_follows(waits: str) -> None:
    """Nothing is called after the phase in which the task was cancelled, also when that returns."""
    node = Blocking(waits)
    store = Store({})

    async def go() -> list[str]:
        task = asyncio.ensure_future(Flow(node).run_async(store))
        assert await asyncio.to_thread(node.begun.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        if waits != "exec":  # which is given up at once, and nobody waits for it
            node.may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        written = list(store)
        node.may_go_on.set()
        return written

    written = asyncio.run(go())  # which joins the threads of its pool
    assert node.phases[-1] == waits
    assert written == list(store) == (["written"] if waits == "post" else [])


@pytest.mark.parametrize("waits", ["prep", "exec", "post"])
def test_a_cancelled_run_finishes_the_step_whose_post_is_at_work(waits: str) -> None:
    """And calls nothing after prep or exec; the run is cancelled in every case."""
    node = Blocking(waits)
    after = Blocking()
    flow = Flow(node.then("default", after))
    finished: list[int] = []
    flow.on("flow_cancelled", lambda steps, store: finished.append(steps))
    cancels: list[Any] = []

    def prep(store: Store[Any]) -> None:
        cancels.append(context().cancellation)
        node.work("prep")

    vars(node)["prep"] = prep

    async def go() -> None:
        task = asyncio.ensure_future(flow.run_async())
        assert await asyncio.to_thread(node.begun.wait, 30)
        cancels[0].request()
        if waits != "exec":
            node.may_go_on.set()
        with pytest.raises(RunCancelled):
            await task
        node.may_go_on.set()

    asyncio.run(go())
    assert node.phases[-1] == waits
    assert after.phases == []
    assert finished == [1 if waits == "post" else 0]


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
def test_a_synchronous_phase_may_give_something_to_await(phase: str) -> None:
    """A phase that is not async def, and returns a coroutine, is awaited on the loop."""

    async def later(value: str) -> str:
        await asyncio.sleep(0)
        return value

    node = Blocking()
    plain = {"prep": "default", "exec": "default", "post": "default"}
    for name in plain:
        given: Any = later("default") if name == phase else "default"
        setattr(node, name, lambda *facts, given=given: given)
    seen: list[str] = []
    flow = Flow(node)
    flow.on("node_end", lambda name, action, elapsed, store: seen.append(action))
    run_async(flow)
    assert seen == ["default"]
