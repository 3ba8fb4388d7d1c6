"""Resources that a run opens itself, and closes in whichever way it ends."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self, cast

import pytest

from pocoflow import (
    BatchNode,
    FanOut,
    Flow,
    Node,
    Parallel,
    Question,
    RunCancelled,
    RunPaused,
    Subflow,
    context,
    key,
    node,
    resource,
)
from pocoflow.errors import DeadlineError, DefinitionError, ResourceError
from pocoflow.flow.worker import Worker
from tests.unit.gates import Gate


class Client:
    """Says in a list when it was opened and closed, and by what it was ended."""

    def __init__(self, log: list[str], name: str = "client") -> None:
        self.log, self.name = log, name
        self.is_open = False

    def use(self) -> str:
        """Work, which a client does that is open."""
        assert self.is_open, f"{self.name} is not open"
        return self.name

    @contextmanager
    def opened(self) -> Generator[Client]:
        """Open and close it."""
        self._begin()
        try:
            yield self
        except BaseException as exc:
            self.log.append(type(exc).__name__)
            raise
        finally:
            self._end()

    @asynccontextmanager
    async def opened_async(self) -> AsyncGenerator[Client]:
        """Open and close it where something is awaited, in one and the same task."""
        task = asyncio.current_task()
        await asyncio.sleep(0)
        with self.opened():
            yield self
            assert asyncio.current_task() is task

    def _begin(self) -> None:
        assert not self.is_open
        self.is_open = True
        self.log.append(f"open {self.name}")

    def _end(self) -> None:
        assert self.is_open
        self.is_open = False
        self.log.append(f"close {self.name}")


def opening(log: list[str], how: str, name: str = "client", per: Any = "run") -> Client:
    """The key of a client that is opened in a synchronous or an asynchronous way."""
    client = Client(log, name)
    return resource(
        Client, name, open=client.opened_async if how == "async" else client.opened, per=per
    )


HOW = pytest.mark.parametrize("how", ["sync", "async"])


def using(client: Client, does: Callable[[], object] = lambda: None) -> Node[Any, Any, Any]:
    """A node of a function that uses a client, and then does something."""

    @node
    def use(one: Client = client) -> None:
        one.use()
        does()
        one.use()

    return use


async def _heard(flow: Flow[Any]) -> None:
    async for _ in flow.stream_async({}):
        pass


WAYS: dict[str, Callable[[Flow[Any]], object]] = {
    "run": lambda flow: flow.run({}),
    "run_async": lambda flow: asyncio.run(flow.run_async({})),
    "run_background": lambda flow: flow.run_background({}).wait(),
    "stream": lambda flow: list(flow.stream({})),
    "stream_async": lambda flow: asyncio.run(_heard(flow)),
}


@HOW
@pytest.mark.parametrize("way", WAYS)
def test_a_run_opens_it_once_and_closes_it_at_its_end(way: str, how: str) -> None:
    """In every way to run it is open in each node, and closed when the run is over."""
    log: list[str] = []
    client = opening(log, how)
    first, second = using(client), using(client)
    WAYS[way](Flow(first).then(first, second))
    assert log == ["open client", "close client"]


@HOW
@pytest.mark.parametrize("way", WAYS)
def test_it_is_closed_with_the_error_that_ends_the_run(way: str, how: str) -> None:
    """The context manager is left as ``with`` leaves it, and the caller gets the error."""
    log: list[str] = []

    def fail() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError):
        WAYS[way](Flow(using(opening(log, how), fail)))
    assert log == ["open client", "KeyError", "close client"]


@HOW
def test_asynchronous_phases_use_it(how: str) -> None:
    """A run of which every phase is awaited opens and closes it, too."""
    log: list[str] = []
    client = opening(log, how)

    @node(writes=key("name"))
    async def use(one: Client = client) -> str:
        await asyncio.sleep(0)
        return one.use()

    for way in WAYS.values():
        way(Flow(use))
    assert log == ["open client", "close client"] * len(WAYS)


@HOW
def test_a_class_of_nodes_declares_what_it_takes_from_the_context(how: str) -> None:
    """``resources`` of a node names what is open when ``context()[key]`` asks."""
    log: list[str] = []
    client = opening(log, how)

    class Use(Node[Any, str, str]):
        resources = (client,)

        def exec(self, prep_result: Any) -> str:
            return context()[client].use()

    Flow(Use()).run({})
    assert log == ["open client", "close client"]


def test_what_no_node_declares_is_not_open() -> None:
    """The error says where to declare it, as nothing can be opened in the middle of a node."""
    client = opening([], "sync")

    class Use(Node):
        def exec(self, prep_result: Any) -> str:
            return context()[client].use()

    with pytest.raises(ResourceError, match=r"not open.*resources = \(<key>,\)"):
        Flow(Use()).run({})


@pytest.mark.parametrize(
    "wrong", [lambda key: key, lambda key: (key, "llm")], ids=["a key", "a text"]
)
def test_what_a_node_declares_are_keys(wrong: Callable[[Any], Any]) -> None:
    """A key without its comma, and something else among keys, is refused by name."""
    one = Node()
    one.resources = wrong(opening([], "sync"))
    with pytest.raises(DefinitionError, match=r"Node\.resources"):
        Flow(one).run({})


@pytest.mark.parametrize("name", ["llm", ("llm",)])
def test_the_name_of_a_resource_is_no_key(name: Any) -> None:
    """It is refused when the node is made, not when the resource is asked for."""
    kind: Any = type("Ask", (Node,), {"resources": name})
    with pytest.raises(DefinitionError, match=r"Ask\.resources is .*llm.*not of their names"):
        kind()


@pytest.mark.parametrize("own", [{"a": 1}, None, ["a.txt"], 5])
def test_an_attribute_that_holds_no_key_is_the_programs_own(own: Any) -> None:
    """A program of 0.2.1 may have called anything so."""
    one = Node()
    one.resources = own
    Flow(one).run({})


def test_a_declared_resource_without_an_opening_must_be_given() -> None:
    """A class of nodes is looked at before the first node, as function nodes are."""
    given = resource(Client, "given")

    class Use(Node):
        resources = (given,)

    with pytest.raises(ResourceError, match="node 'Use' asks for"):
        Flow(Use()).run({})


@HOW
def test_what_a_run_is_given_is_neither_opened_nor_closed(how: str) -> None:
    """So a test gives another object, which stays its own."""
    log: list[str] = []
    client, mine = opening(log, how), Client([], "mine")
    mine.is_open = True
    Flow(using(client)).run({}, resources={client: mine})
    assert (log, mine.is_open) == ([], True)


@HOW
def test_they_are_closed_in_the_reverse_order_and_one_may_use_another(how: str) -> None:
    """An opening finds in ``context()`` the run and what was opened before."""
    log: list[str] = []
    pool = opening(log, how, "pool")

    @contextmanager
    def session() -> Generator[Client]:
        with Client(log, context()[pool].use() + " of " + context().run_id).opened() as one:
            yield one

    client = resource(Client, "session", open=session)

    @node
    def use(one: Client = pool, two: Client = client) -> None:
        two.use()

    Flow(use, run_id="r").run({})
    assert log == ["open pool", "open pool of r", "close pool of r", "close pool"]


@HOW
def test_branches_items_and_nested_flows_share_what_the_run_opened(how: str) -> None:
    """One object for all of a run, however deep the node is that asks."""
    log: list[str] = []
    client = opening(log, how)

    class Each(BatchNode[int, str, str]):
        resources = (client,)
        concurrency = 3

        def prep(self, store: Any) -> list[int]:
            return [1, 2, 3]

        def exec(self, item: int) -> str:
            return context()[client].use()

    nested, inner = Flow(using(client), flow_name="nested"), Flow(Each(), flow_name="inner")
    both = Parallel(using(client), Subflow(inner, name="sub"), nested, name="both")
    spread = FanOut(using(client), each=key("items"), as_=key("item"), name="spread")
    first = using(client)
    flow = Flow(first)
    flow.then(first, both).then(both, spread).then(spread, cast(Any, inner))
    for way in ("run", "run_async"):
        given = {"items": [1, 2]}
        flow.run(given) if way == "run" else asyncio.run(flow.run_async(given))
    assert log == ["open client", "close client"] * 2


@HOW
@pytest.mark.parametrize("way", ["run_background", "run_async"])
def test_a_cancelled_run_closes_it(way: str, how: str) -> None:
    """What is closed is closed to its end, although the run is cancelled."""
    log: list[str] = []
    gate = Gate()
    client = opening(log, how)
    gate.resources = (client,)
    gate.then("default", Node())
    flow = Flow(gate)

    async def cancelled() -> None:
        task = asyncio.ensure_future(flow.run_async({}))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        task.cancel()
        gate.opened.set()
        await task

    if way == "run_async":
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancelled())
    else:
        handle = flow.run_background({})
        assert gate.entered.wait(60)
        handle.cancel()
        gate.opened.set()
        with pytest.raises(RunCancelled):
            handle.wait()
    ended = "CancelledError" if way == "run_async" else "RunCancelled"
    assert log == ["open client", ended, "close client"]


def test_a_run_whose_thread_is_stopped_from_outside_closes_it() -> None:
    """An exception that somebody sets in the thread of a run is an end as any other."""
    log: list[str] = []
    entered = threading.Event()

    class Stopped(BaseException):
        pass

    def work() -> None:
        entered.set()
        while True:
            pass

    flow, caught = Flow(using(opening(log, "async"), work)), []

    def run() -> None:
        try:
            flow.run({})
        except Stopped as exc:
            caught.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(60)
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped)
    )
    thread.join(60)
    assert (len(caught), log) == (1, ["open client", "Stopped", "close client"])


@pytest.mark.parametrize("way", ["run_background", "run_async"])
def test_what_is_being_opened_ends_before_what_was_opened_first_is_closed(way: str) -> None:
    """A run that is cancelled in an opening waits until that has cleaned up."""
    log: list[str] = []
    entered = threading.Event()
    first = opening(log, "sync")

    @asynccontextmanager
    async def hangs() -> AsyncGenerator[Client]:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("cleaned up")
        yield Client([])

    second = resource(Client, "second", open=hangs)

    @node
    def use(one: Client = first, two: Client = second) -> None: ...

    async def cancelled() -> None:
        task = asyncio.ensure_future(Flow(use).run_async({}))
        assert await asyncio.to_thread(entered.wait, 60)
        task.cancel()
        await task

    if way == "run_async":
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancelled())
    else:
        handle = Flow(use).run_background({})
        assert entered.wait(60)
        handle.cancel()
        with pytest.raises(RunCancelled, match="while it opened its resources"):
            handle.wait()
    ended = "CancelledError" if way == "run_async" else "RunCancelled"
    assert log == ["open client", "cleaned up", ended, "close client"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_opened_too_late_is_closed_at_once() -> None:
    """An opening that holds up its event loop is not waited for by a run that is cancelled."""
    entered, goes_on, left = threading.Event(), threading.Event(), threading.Event()

    class Blocks(Client):
        async def __aenter__(self) -> Self:
            entered.set()
            goes_on.wait(60)
            return self

        async def __aexit__(self, *exc_info: object) -> None:
            await asyncio.sleep(0)
            left.set()

    blocks = resource(Blocks, "blocks", open=lambda: Blocks([]))

    @node
    def use(one: Blocks = blocks) -> None: ...

    flow = Flow(use)
    flow.on("flow_cancelled", lambda steps, store: goes_on.set())  # all is closed by then
    handle = flow.run_background({})
    assert entered.wait(60)
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.wait()
    assert left.wait(60)


def test_a_run_whose_task_is_destroyed_closes_what_needs_no_loop() -> None:
    """Where nothing can be awaited any more; each of several, and no generator is in the way."""
    log: list[str] = []
    clients = [opening(log, "sync", name) for name in ("a", "b")]

    class Waits(Node):
        resources = tuple(clients)

        async def exec(self, prep_result: Any) -> None:
            entered.set()
            await asyncio.Event().wait()

    entered = asyncio.Event()

    async def leave() -> None:
        tasks.append(asyncio.ensure_future(Flow(Waits()).run_async({})))
        await entered.wait()

    tasks: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(leave())
    loop.close()
    tasks.pop().get_coro().close()
    assert log == [
        *("open a", "open b", "GeneratorExit", "close b", "GeneratorExit", "close a"),
    ]


@HOW
def test_a_paused_run_closes_it_and_a_resume_opens_it_again(how: str, tmp_path: Path) -> None:
    """A pause is no error, and nobody holds a connection while a person thinks."""
    log: list[str] = []
    client = opening(log, how)

    @node(writes=key("ok"))
    def ask(one: Client = client) -> Question[bool]:
        one.use()
        return Question("Go on?")

    last = using(client)
    flow: Flow[Any] = Flow(ask, db_path=tmp_path / "runs.db", flow_name="f").then(ask, last)
    with pytest.raises(RunPaused):
        flow.run({}, run_id="r")
    assert log == ["open client", "close client"]
    flow.answer("r", ask.reply(True))
    flow.resume("r")
    assert log == ["open client", "close client"] * 2


@HOW
def test_a_run_fails_if_it_cannot_be_opened_and_can_be_resumed(how: str, tmp_path: Path) -> None:
    """No node has run, the error says what was opened, and what was open before is closed."""
    log: list[str] = []
    down = [True]
    first = opening(log, how)

    @contextmanager
    def shaky() -> Generator[Client]:
        if down:
            raise ConnectionError("down")
        with Client(log, "second").opened() as one:
            yield one

    second = resource(Client, "second", open=shaky)

    @node
    def use(one: Client = first, two: Client = second) -> None:
        log.append(two.use())

    flow = Flow(use, db_path=tmp_path / "runs.db", flow_name="f")
    with pytest.raises(ConnectionError) as caught:
        flow.run({}, run_id="r")
    assert caught.value.__notes__ == ["pocoflow: in the opening of <resource 'second': Client>"]
    row = flow.database.get_run("r")
    assert row is not None
    assert (row["status"], row["total_steps"]) == ("failed", 0)
    assert log == ["open client", "ConnectionError", "close client"]
    down.clear()
    log.clear()
    flow.resume("r")
    assert log == ["open client", "open second", "second", "close second", "close client"]


def test_an_opening_that_takes_too_long_ends_at_the_deadline_of_the_run() -> None:
    """The error says that no node has begun."""

    @asynccontextmanager
    async def slow() -> AsyncGenerator[Client]:
        await asyncio.Event().wait()
        yield Client([])

    flow = Flow(using(resource(Client, "slow", open=slow)), deadline=0.05)
    for way in ("run", "run_async"):
        with pytest.raises(DeadlineError, match="while it opened its resources"):
            WAYS[way](flow)


@HOW
def test_what_fails_in_closing_is_on_record_and_changes_no_end(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are closed all the same, and the caller gets what the run ended with."""
    log: list[str] = []

    @contextmanager
    def torn() -> Generator[Client]:
        with Client(log, "torn").opened() as one:
            try:
                yield one
            finally:
                raise OSError("torn off")

    client, other = resource(Client, "torn", open=torn), opening(log, how)
    down = [True]

    @node
    def use(one: Client = other, two: Client = client) -> None:
        if down:
            raise KeyError("no")

    flow = Flow(use, db_path=tmp_path / "runs.db", flow_name="f")
    with pytest.raises(KeyError):
        flow.run({}, run_id="r")
    assert log[-1] == "close client"
    assert any("torn off" in str(event["note"]) for event in flow.database.get_events("r"))
    down.clear()
    flow.resume("r")
    row = flow.database.get_run("r")
    assert row is not None
    assert row["status"] == "completed"
    assert caplog.text.count("could not be closed (OSError: torn off)") == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_close_that_is_cancelled_is_told_of(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """It may be open yet, so nobody takes that for a close that succeeded; the run has its end."""

    @asynccontextmanager
    async def torn() -> AsyncGenerator[Client]:
        with Client([]).opened() as one:
            yield one
        raise asyncio.CancelledError

    WAYS[way](Flow(using(resource(Client, "torn", open=torn), lambda: None)))
    assert "'torn': Client> could not be closed (CancelledError" in caplog.text


def test_an_error_of_the_run_that_comes_back_in_a_group_is_no_failure_of_the_closing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As from a client that has a task group; the caller gets the error itself."""

    @asynccontextmanager
    async def grouped() -> AsyncGenerator[Client]:
        async with asyncio.TaskGroup():
            with Client([]).opened() as one:
                yield one

    def fail() -> None:
        raise KeyError("no")

    flow = Flow(using(resource(Client, "grouped", open=grouped), fail))
    for way in WAYS.values():
        with pytest.raises(KeyError):
            way(flow)
    assert "could not be closed" not in caplog.text


@pytest.mark.parametrize("opened", [nullcontext("text"), "no context manager"])
def test_what_is_opened_is_a_context_manager_of_the_class(opened: Any) -> None:
    """Anything else ends the run before its first node, and names the resource."""
    client = resource(Client, "llm", open=lambda: opened)
    with pytest.raises(ResourceError, match=r"'llm'.*(of class Client|no context manager)"):
        Flow(using(client)).run({})


async def _connect() -> Client:
    return Client([])


def _begin() -> Generator[Client]:
    yield Client([])


async def _begin_async() -> AsyncGenerator[Client]:
    yield Client([])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"open": _connect}, "asynccontextmanager"),
        ({"open": _begin}, "@contextlib.contextmanager"),
        ({"open": _begin_async}, "@contextlib.asynccontextmanager"),
        ({"open": 5}, "nothing that can be called"),
        ({"open": lambda url: nullcontext([url])}, "without arguments; .* missing .* 'url'"),
        ({"per": "process"}, "needs open="),
        ({"open": Client([]).opened, "per": "step"}, "'run' or 'process'"),
    ],
)
def test_an_opening_that_cannot_work_is_refused_when_it_is_declared(
    given: dict[str, Any], says: str
) -> None:
    """The error says how to write it."""
    with pytest.raises(DefinitionError, match=says):
        resource(Client, "llm", **given)


def test_two_ways_to_open_one_resource_are_refused() -> None:
    """Equal keys are one resource, so none of the two openings would be ignored in silence."""
    one, two = using(opening([], "sync")), using(opening([], "sync"))
    with pytest.raises(DefinitionError, match="two ways"):
        Flow(one).then(one, two).run({})


def test_the_class_itself_may_be_the_opening() -> None:
    """A client that is a context manager needs no function around it, nor one with a close()."""
    closed: list[str] = []

    class Plain:
        def close(self) -> None:
            closed.append("plain")

    class Both:
        def __init__(self, name: str = "") -> None: ...

        async def __aenter__(self) -> Self:
            asyncio.get_running_loop()
            return self

        async def __aexit__(self, *error: object) -> None:
            closed.append("both")

        def __enter__(self) -> Self:
            raise TypeError("use async with")

        def __exit__(self, *error: object) -> None: ...

    plain = resource(Plain, "plain", open=lambda: closing(Plain()))
    both = resource(Both, "both", open=Both)
    made = resource(Both, "made", open=lambda: Both("given"))

    @node
    def use(a: Plain = plain, b: Both = both, c: Both = made) -> None: ...

    Flow(use).run({})
    asyncio.run(Flow(use).run_async({}))
    assert closed == ["both", "both", "plain"] * 2


def test_a_context_variable_that_an_opening_sets_holds_for_the_run() -> None:
    """What is opened for a run is opened in its context, and closed in it."""
    span = ContextVar("span", default="none")

    @contextmanager
    def opened() -> Generator[Client]:
        token = span.set("open")
        yield Client([])
        span.reset(token)

    @asynccontextmanager
    async def opened_async() -> AsyncGenerator[Client]:
        with opened() as one:
            yield one

    for how in (opened, opened_async):
        client = resource(Client, "span", open=how)

        @node(writes=key("span"))
        def see(one: Client = client) -> str:
            return span.get()

        assert Flow(see).run({})["span"] == "open"
        assert asyncio.run(Flow(see).run_async({}))["span"] == "open"
        assert span.get() == "none"


def test_a_resource_of_the_process_is_opened_once_for_all_runs() -> None:
    """Also where many runs ask for it at the same time; another opening of it is refused."""
    log: list[str] = []
    client = opening(log, "sync", "of the process", "process")
    flow = Flow(using(client))
    handles = [flow.run_background({}) for _ in range(8)]
    for handle in handles:
        handle.wait()
    asyncio.run(flow.run_async({}))
    assert log == ["open of the process"]
    with pytest.raises(ResourceError, match="opens it in another way"):
        Flow(using(opening(log, "sync", "of the process", "process"))).run({})


@HOW
def test_the_runs_of_a_worker_open_what_they_need_and_nobody_gives_it(
    how: str, tmp_path: Path
) -> None:
    """Submitted, recovered and resumed runs do; one of the process is shared by all of them."""
    log: list[str] = []
    own, shared = opening(log, how), opening(log, how, f"shared {how}", "process")
    down = [True]

    @node
    def use(one: Client = own, two: Client = shared) -> None:
        assert one.use() != two.use()
        if down:
            raise ConnectionError("down")

    flow = Flow(use, db_path=tmp_path / "runs.db", flow_name="f")
    first = flow.submit({})
    Worker(flow).run(until_idle=True)
    down.clear()
    flow.resume(first)
    flow.submit({})
    Worker(flow).run(until_idle=True)
    assert [run["status"] for run in flow.database.list_runs()] == ["completed"] * 2
    assert log.count("open client") == log.count("close client") == 3
    assert log.count(f"open shared {how}") == 1


def test_one_that_is_awaited_is_opened_once_on_each_event_loop() -> None:
    """The one of synchronous runs stays open; that of a loop is closed, in its task, with it."""
    log: list[str] = []
    client = opening(log, "async", "on a loop", "process")
    flow = Flow(using(client))
    for _ in range(2):
        flow.run({})
    assert log == ["open on a loop"]
    other = opening(log, "async", "on another", "process")
    second = Flow(using(other))

    async def main() -> None:
        await asyncio.gather(*(second.run_async({}) for _ in range(5)))

    log.clear()
    for _ in range(2):
        asyncio.run(main())
    assert log == ["open on another", "close on another"] * 2


def test_what_opens_one_that_is_awaited_is_called_once_on_each_event_loop() -> None:
    """Also where only what it gives says that it has to be awaited."""
    log: list[str] = []

    def open_client() -> Any:
        log.append("called")
        return Client(log).opened_async()

    flow = Flow(using(resource(Client, "seen late", open=open_client, per="process")))

    async def main() -> None:
        await asyncio.gather(*(flow.run_async({}) for _ in range(5)))

    for _ in range(2):
        asyncio.run(main())
    assert log == ["called", "open client", "close client"] * 2


@HOW
def test_a_resource_of_the_process_that_cannot_be_opened_is_tried_again_by_the_next_run(
    how: str,
) -> None:
    """A run fails with the error of the opening, and no later one because of it."""
    log: list[str] = []
    down = [True]
    client = Client(log, "shaky")

    @contextmanager
    def opened() -> Generator[Client]:
        if down:
            raise ConnectionError("down")
        with client.opened():
            yield client

    @asynccontextmanager
    async def opened_async() -> AsyncGenerator[Client]:
        with opened():
            yield client

    made = opened if how == "sync" else opened_async
    flow = Flow(using(resource(Client, f"shaky {how}", open=made, per="process")))
    with pytest.raises(ConnectionError, match="down"):
        flow.run({})
    down.clear()
    flow.run({})
    assert log == ["open shaky"]
