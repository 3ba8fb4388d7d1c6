"""``exec`` by executors: the same on threads, processes, loky and Dask, or a clear error."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import zipapp
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import ReferenceType, ref

import pytest
from pydantic import ValidationError, create_model

from pocoflow import Flow, Node, Parallel, node
from pocoflow.errors import (
    BudgetError,
    ExecutorError,
    NotStorableError,
    RunCancelled,
    RunPaused,
    UnknownClassError,
)
from pocoflow.events import Emitted
from tests.integration import sent
from tests.integration.clusters import DEADLINE, ROOT, cluster, wait_for
from tests.integration.sent import State, flow_of

# Ray is large, and tried where it is installed.
ENGINES = ("threads", "processes", "loky", "dask", *(["ray"] if find_spec("ray") else []))

pytestmark = pytest.mark.slow


def spawning(workers: int = 2) -> ProcessPoolExecutor:
    """Processes that import all they need."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def executors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Executor]]:
    """The executors by name, each made when it is first asked for."""
    made: dict[str, Executor] = {}
    closes: list[Callable[[], object]] = []

    def get(name: str) -> Executor:
        if name not in made:
            if name == "threads":
                made[name] = ThreadPoolExecutor(4)
            elif name == "processes":
                made[name] = spawning()
            elif name == "loky":
                loky: Any = pytest.importorskip("loky")
                # Not the one that other tests reuse; and its workers stay, however long they wait.
                made[name] = loky.ProcessPoolExecutor(2, timeout=None)
            elif name == "ray":
                made[name] = by_ray(closes)
            else:
                distributed = pytest.importorskip("distributed")
                around = cluster(tmp_path_factory.mktemp("dask"))
                one = around.__enter__()
                client = distributed.Client(one.address)
                made[name] = client.get_executor()
                closes.extend((client.close, lambda: around.__exit__(None, None, None)))
        return made[name]

    yield get
    for executor in made.values():
        executor.shutdown()
    for close in closes:
        close()


def by_ray(closes: list[Callable[[], object]]) -> Executor:
    """The executor of the documentation, on Ray."""
    ray: Any = importlib.import_module("ray")
    page = (ROOT / "docs" / "how-to" / "call-exec-elsewhere.md").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(page.partition('```py title="by_ray.py"\n')[2].partition("```")[0], names)  # noqa: S102
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    settings = {"num_cpus": 2, "include_dashboard": False, "log_to_driver": False}
    ray.init(**settings, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    closes.append(ray.shutdown)
    made: Executor = names["RayExecutor"]()
    return made


@pytest.fixture(params=ENGINES)
def executor(request: pytest.FixtureRequest, executors: Callable[[str], Executor]) -> Executor:
    """Each of the executors."""
    return executors(request.param)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """The name of the executor."""
    return str(request.node.callspec.params["executor"])


def answer(first: Any, executor: Executor, state: State | None = None, **settings: Any) -> Any:
    """What a flow of one node gives."""
    store = flow_of(first, executor=executor, **settings).run(state or State(number=3))
    return store["answer"]


def paid(folder: Path) -> list[str]:
    """What was paid for."""
    return (folder / "paid").read_text().split()


# -- the same everywhere --------------------------------------------------------------------------


def test_exec_is_called_by_the_executor(executor: Executor, engine: str) -> None:
    """A worker calls it, and what a node says comes before what the flow says."""
    flow = flow_of(sent.where, executor=executor).then(sent.where, sent.stays)
    state = flow.run(State()).state
    assert (state.answer == os.getpid()) == (engine == "threads")
    assert state.pids == [os.getpid()]


def some_threads() -> Executor:
    """An executor that the flow asks for."""
    return ThreadPoolExecutor(1)


def test_what_a_node_takes_is_opened_where_its_exec_is_called_from_now_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An executor that a node is given, or that is taken from it, counts in the next run."""
    with ThreadPoolExecutor(1) as pool:
        flow = flow_of(sent.is_opened, executor=pool)
        for _ in range(2):
            assert flow.run(State()).state.answer is True
        monkeypatch.setattr(sent.is_opened, "executor", "here")
        assert flow.run(State()).state.answer is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_asks_for_an_executor_of_its_own() -> None:
    """What a function has given to the parent has no threads in the child."""
    flow = flow_of(sent.where, executor=some_threads)
    assert flow.run(State()).state.answer == os.getpid()
    child = os.fork()
    if not child:
        signal.alarm(60)
        os._exit(0 if flow.run(State()).state.answer == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nodes_of_all_kinds_are_found(executor: Executor) -> None:
    """Decorated and asynchronous functions, classes with values and with live objects."""
    assert answer(sent.decorated, executor) == 8
    assert answer(sent.awaits, executor) == 6
    assert answer(sent.Scaled(7), executor) == 21
    assert sent.locked.using(executor=executor).run(State(number=3))["answer"] == 30


def test_values_come_back_equal_with_their_types(executor: Executor) -> None:
    """A model with a tuple in it is the same there and here."""
    given = State(point=sent.Point(x=1, y=(2,)))
    assert answer(sent.typed, executor, given) == sent.Point(x=2, y=(2, 3))


@pytest.mark.filterwarnings("ignore:Sending large graph")
def test_a_large_payload_goes_there_and_back(executor: Executor) -> None:
    """Ten megabytes each way."""
    text = "ab" * 5_000_000
    state = flow_of(sent.large, executor=executor).run(State(text=text)).state
    assert state.text == text[::-1]


def test_an_error_comes_back_as_what_it_was(executor: Executor) -> None:
    """The same class, with its attributes, notes and cause, and the traceback of the worker."""
    with pytest.raises(sent.TwoArguments, match=r"^broken \(7\)") as caught:
        answer(sent.raises, executor)
    error = caught.value
    assert (error.what, error.code, hasattr(error, "lock")) == ("broken", 7, False)
    assert isinstance(error.__cause__, KeyError)
    assert error.__cause__.args == (3,)
    notes = error.__notes__
    assert notes[0] == "look there"
    assert "raised in a worker" in notes[1]
    assert "lock cannot be sent" in notes[1]
    assert "in raises" in notes[1]


def test_an_error_that_cannot_be_made_again_is_told(executor: Executor) -> None:
    """It is an ExecutorError that names its class and has its traceback."""
    with pytest.raises(ExecutorError, match="only here") as caught:
        answer(sent.raises_strangely, executor)
    assert caught.value.error_type.endswith("LocalError")
    assert "raise LocalError" in caught.value.__notes__[0]


def test_errors_of_pydantic_and_exits_come_back(executor: Executor) -> None:
    """Retries and edges find the class that they name."""
    with pytest.raises(ValidationError, match="valid integer"):
        answer(sent.raises_of_pydantic, executor)
    with pytest.raises(SystemExit) as caught:
        answer(sent.leaves, executor)
    assert caught.value.code == 3


def test_what_cannot_be_sent_is_refused_clearly(executor: Executor) -> None:
    """A result and an input that are no values: the error says what, and what to do."""
    with pytest.raises(NotStorableError, match=r"returned what cannot be sent back.*lock"):
        answer(sent.gives_lock, executor)
    flow = Flow(sent.decorated, flow_name="untyped", executor=executor)
    with pytest.raises(NotStorableError, match=r"what prep gave cannot be stored.*executor='here'"):
        flow.run({"number": threading.Lock()})


def test_a_module_that_the_worker_lacks_is_named(
    executor: Executor, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be imported there, and the error says which."""
    module: Any = ModuleType("only_here")
    monkeypatch.setitem(sys.modules, "only_here", module)
    module.lost = node(lost)
    lost.__module__ = "only_here"
    if engine == "threads":
        flow_of(module.lost, executor=executor).run(State())
        return
    with pytest.raises(ExecutorError, match=r"cannot import only_here.*PYTHONPATH"):
        flow_of(module.lost, executor=executor).run(State())


def lost() -> None:
    """Of a module that is only here."""


@pytest.mark.parametrize("hanging", [sent.hangs, sent.hangs_async], ids=["sync", "async"])
def test_the_timeout_holds_in_the_worker(executor: Executor, hanging: Any) -> None:
    """The attempt is given up there, and the next one knows why."""
    assert answer(hanging, executor).endswith("NodeTimeoutError")


def test_what_a_cancelled_call_brings_is_ignored_and_said_so(
    executor: Executor, engine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run ends at once, and the log says what becomes of the call."""
    caplog.set_level(logging.INFO, "pocoflow")
    state = State(folder=str(tmp_path))
    handle = flow_of(sent.waits, executor=executor).run_background(state)
    wait_for((tmp_path / "begun").exists, "beginning")
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.wait()
    (tmp_path / "may-end").touch()
    wait_for((tmp_path / "ended").exists, "end")
    said = "was cancelled; if" if engine in ("dask", "ray") else "is ignored, as the run no longer"
    wait_for(lambda: said in caplog.text, "message")


def test_emitted_values_and_log_lines_come_back(
    executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    """In their order and once, with their level, attributes and traceback."""
    caplog.set_level(logging.INFO)
    flow = flow_of(sent.tells, executor=executor)
    emitted = [one.value for one in flow.stream(State(number=3)) if isinstance(one, Emitted)]
    assert emitted == [("part", 0), ("part", 1), ("part", 2)]
    records = [one for one in caplog.records if one.name == "tests.sent"]
    assert [one.getMessage() for one in records] == ["part 0", "part 1", "part 2", "failed"]
    assert [one.levelname for one in records] == ["INFO", "INFO", "INFO", "ERROR"]
    assert vars(records[1])["part"] == 1
    assert "ValueError: logged" in caplog.text


@pytest.mark.parametrize("recorded", [False, True], ids=["memory", "database"])
def test_emitted_values_of_this_machine_come_at_once(
    executor: Executor, tmp_path: Path, recorded: bool
) -> None:
    """While exec is at work, each once and in order, whichever process it is in."""
    db = tmp_path / "runs.db" if recorded else None
    flow = flow_of(sent.tells_early, executor=executor, db_path=db, record_emitted=recorded)
    found = []
    for event in flow.stream(State(folder=str(tmp_path)), run_id="told"):
        if isinstance(event, Emitted):
            found.append(event.value)
            (tmp_path / str(event.value)).touch()
    assert found == ["first", "second", "last"]
    if recorded:
        events = [one.event for one in flow.database.follow("told")]
        assert [one.value for one in events if isinstance(one, Emitted)] == found


def test_emitted_values_of_a_failed_attempt_come_before_those_of_the_next(
    executor: Executor,
) -> None:
    """As in the process of the run, also on an event loop."""
    flow = flow_of(sent.tells_and_fails, executor=executor)
    wanted = [(attempt, one) for attempt in (1, 2) for one in range(300)]

    async def stream() -> list[Any]:
        events = flow.stream_async(State(number=300))
        return [one.value async for one in events if isinstance(one, Emitted)]

    assert asyncio.run(stream()) == wanted


def test_emitted_values_come_with_the_result_where_no_socket_can_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As from another machine: none is missing, and none is there twice."""
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    with spawning(1) as pool:
        flow = flow_of(sent.tells, executor=pool)
        emitted = [one.value for one in flow.stream(State(number=3)) if isinstance(one, Emitted)]
    assert emitted == [("part", 0), ("part", 1), ("part", 2)]


def test_journaled_calls_are_not_paid_for_twice(executor: Executor, tmp_path: Path) -> None:
    """An attempt that failed has brought what its calls returned, and the next one has it."""
    state = State(folder=str(tmp_path))
    flow = flow_of(sent.calls, executor=executor, db_path=":memory:")
    handle = flow.run_background(state)
    store = handle.wait()
    assert paid(tmp_path) == ["first", "second"]
    first, second, key = store["answer"].split()
    assert (first, second) == ("FIRST", "SECOND")
    stored = flow.database.get_run(handle.run_id)
    assert stored is not None
    assert key.startswith(stored["token"])
    account = flow.database.get_account(handle.run_id)
    assert account == {"usd": Decimal("0.5"), "steps": 2}


def test_a_resume_has_what_calls_returned_in_a_worker(executor: Executor, tmp_path: Path) -> None:
    """A run that failed in a worker goes on there; what had returned is not paid for again.

    The last call is, as its answer was of no use.
    """
    flow = flow_of(sent.calls_and_fails, executor=executor, db_path=tmp_path / "runs.db")
    with pytest.raises(ConnectionError):
        flow.run(State(folder=str(tmp_path)), run_id="one")
    assert flow.resume("one")["answer"] == "FIRSTSECOND"
    assert paid(tmp_path) == ["first", "second", "second"]


def test_a_budget_holds_in_the_worker(executor: Executor, tmp_path: Path) -> None:
    """A call is refused there as soon as what was spent, there and before, is all."""
    flow = flow_of(sent.spends, executor=executor, budget={"usd": 0.6})
    with pytest.raises(BudgetError, match=r"0\.75 of 0\.6 usd in the run"):
        flow.run(State(folder=str(tmp_path)))
    assert paid(tmp_path) == ["0", "1", "2"]


def test_context_variables_travel_both_ways(executor: Executor) -> None:
    """Those that the flow names: their values are there, and what is set there is here."""
    found: list[str] = []

    class Looks(Node):
        executor = "here"

        def exec(self, _: Any) -> None:
            found.append(sent.request_id.get())

    flow = flow_of(sent.varies, executor=executor, carry=[sent.request_id])
    flow.then(sent.varies, Looks())
    token = sent.request_id.set("r1")
    try:
        assert flow.run(State())["answer"] == "r1"
    finally:
        sent.request_id.reset(token)
    assert found == ["r1, answered"]


def test_the_trace_of_opentelemetry_goes_on_in_the_worker(executor: Executor) -> None:
    """A span that is begun there has the trace of the run."""
    trace = pytest.importorskip("opentelemetry.trace")
    tracing = pytest.importorskip("opentelemetry.context")
    facts = {"trace_id": 0xABC, "span_id": 0xDEF, "is_remote": False}
    span = trace.NonRecordingSpan(trace.SpanContext(**facts, trace_flags=trace.TraceFlags(1)))
    token = tracing.attach(trace.set_span_in_context(span))
    try:
        assert answer(sent.traced, executor) == 0xABC
    finally:
        tracing.detach(token)


def test_a_resource_is_made_once_in_each_worker(executor: Executor) -> None:
    """However many items ask for it; one of a run is opened around each call."""
    state = flow_of(sent.uses, executor=executor).run(State(items=[*range(12)])).state
    assert state.results == [1] * 12
    assert answer(sent.Asks(), executor) is True


def test_items_are_sent_each_and_tried_each(executor: Executor) -> None:
    """Results in the order of the items, retries and events by item."""
    items = [*range(12)]
    flow = flow_of(sent.squares, executor=executor, db_path=":memory:")
    events = [*flow.stream(State(items=items), run_id="items")]
    stored = flow.database.load_checkpoint("items", step=0)
    assert stored["results"] == [one * one for one in items]
    assert {one.value for one in events if isinstance(one, Emitted)} == {*items}
    halves = flow_of(sent.Halves(), executor=executor).run(State(items=items)).state
    assert halves.results == [one // 2 for one in items]


def test_what_is_in_flight_when_an_item_fails_is_kept(executor: Executor, tmp_path: Path) -> None:
    """It was paid for, so it is on record before the run ends, and a resume does not ask again."""
    flow = flow_of(sent.fails_beside, executor=executor, db_path=tmp_path / "runs.db")
    ended = flow.run_background(State(folder=str(tmp_path), items=[0, 1]), run_id="one")
    wait_for((tmp_path / "failed").exists, "failure")
    (tmp_path / "may-end").touch()
    with pytest.raises(ConnectionError):
        ended.wait()
    assert flow.resume("one")["results"] == [0, 1]
    assert sorted((tmp_path / "calls").read_text().split()) == ["0", "0", "1"]


def test_a_node_asks_from_a_worker(executor: Executor) -> None:
    """The run pauses, and the answer is the result."""
    flow = flow_of(sent.asks, executor=executor, db_path=":memory:")
    with pytest.raises(RunPaused) as caught:
        flow.run(State(number=3), run_id="asking")
    assert caught.value.run_id == "asking"
    flow.answer("asking", sent.asks.reply(5))
    assert flow.resume("asking")["answer"] == 5


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "database"])
def test_a_run_on_an_event_loop_waits_for_the_executor(
    executor: Executor, tmp_path: Path, kept: bool
) -> None:
    """What is awaited there holds no loop up."""
    db = tmp_path / "runs.db" if kept else None
    flow = flow_of(sent.decorated, executor=executor, db_path=db)
    flow.then(sent.decorated, sent.squares)
    store = asyncio.run(flow.run_async(State(number=3, items=[1, 2, 5])))
    assert (store.state.answer, store.state.results) == (8, [1, 4, 25])


# -- what is told of executors alone --------------------------------------------------------------


class Counting(ThreadPoolExecutor):
    """Threads that count what is in flight."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.futures: list[ReferenceType[Future[Any]]] = []
        self.most = self.sent = self._now = 0
        self._guard = threading.Lock()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        with self._guard:
            self.sent += 1
            self._now += 1
            self.most = max(self.most, self._now)
        future = super().submit(fn, *args, **kwargs)
        self.futures.append(ref(future))
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: Future[Any]) -> None:
        with self._guard:
            self._now -= 1


def test_no_more_items_are_in_flight_than_the_node_says() -> None:
    """``concurrency`` is the bound, whatever the executor could take."""
    with Counting(16) as executor:
        flow_of(sent.squares, executor=executor).run(State(items=[*range(6, 106)]))
    assert executor.sent == 100
    assert 1 < executor.most <= 3


def test_a_call_that_is_over_is_let_go() -> None:
    """Without the garbage collector: Dask calls again what it believes is wanted yet."""
    gc.collect()
    gc.disable()
    try:
        with Counting(4) as executor:
            flow = flow_of(sent.squares, executor=executor).then(sent.squares, sent.decorated)
            flow.run(State(items=[*range(6, 30)]))
            asyncio.run(flow.run_async(State(items=[*range(6, 30)])))
        assert len(executor.futures) == 50
        assert [one() for one in executor.futures if one() is not None] == []
    finally:
        gc.enable()


def test_branches_and_nested_flows_are_sent(executors: Callable[[str], Executor]) -> None:
    """The executor of the run is that of all in it; that of a nested flow does not count."""
    counting = Counting(4)
    inner = Flow(sent.locked.start, flow_name="inner", executor=ThreadPoolExecutor)
    both = Parallel(sent.large, inner, name="both")
    with counting:
        state = flow_of(both, executor=counting).run(State(text="ab", number=2)).state
    assert (state.text, state.answer, counting.sent) == ("ba", 20, 2)


@pytest.mark.parametrize("name", ["processes", "loky"])
def test_a_killed_worker_is_a_failed_attempt(name: str, tmp_path: Path) -> None:
    """The next one has a new pool, if a function gives it."""
    given: list[Executor] = []

    def gives() -> Executor:
        if name == "loky":
            loky: Any = pytest.importorskip("loky")
            given.append(loky.get_reusable_executor(max_workers=1, timeout=DEADLINE))
        else:
            given.append(spawning(1))
        return given[-1]

    assert answer(sent.dies_once, gives, State(folder=str(tmp_path))) == 2  # type: ignore[arg-type]
    assert len(given) == 2
    for one in given:
        one.shutdown()


def test_a_pool_that_is_broken_says_what_to_do(tmp_path: Path) -> None:
    """A pool that takes nothing any more fails each attempt, and the error has the way out."""
    with spawning(1) as pool, pytest.raises(ExecutorError, match="a function that returns one"):
        answer(sent.dies_once, pool, State(folder=str(tmp_path)))


def test_a_killed_worker_of_dask_holds_nothing_up(tmp_path: Path) -> None:
    """Dask gives the call to another worker, and the run notices nothing."""
    distributed = pytest.importorskip("distributed")
    with cluster(tmp_path) as around, distributed.Client(around.address) as client:
        client.wait_for_workers(2)
        state = State(folder=str(tmp_path))
        assert answer(sent.dies_once, client.get_executor(), state) == 1
        assert sum(one.poll() is None for one in around.workers) == 1


@pytest.mark.skipif("ray" not in ENGINES, reason="needs Ray")
def test_a_killed_worker_of_ray_holds_nothing_up(
    executors: Callable[[str], Executor], tmp_path: Path
) -> None:
    """Ray gives the call to another worker, and the run notices nothing."""
    assert answer(sent.dies_once, executors("ray"), State(folder=str(tmp_path))) == 1


def test_a_worker_with_other_code_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It calls what it has, and nobody has to wonder."""
    program = tmp_path / "deployed.py"
    text = "from pocoflow import key, node\n@node(writes=key('answer'))\ndef f() -> int:\n"
    program.write_text(f"{text}    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    deployed = importlib.import_module("deployed")
    program.write_text(f"{text}    return 2000\n")
    with spawning(1) as pool:
        flow = Flow(deployed.f, executor=pool, flow_name="deployed")
        assert [flow.run({})["answer"] for _ in range(2)] == [2000, 2000]
    assert caplog.text.count("a worker has other code of node 'f'") == 1


def test_the_program_that_was_started_is_found_in_its_workers(tmp_path: Path) -> None:
    """A script whose nodes are in itself, with processes that import it by its name."""
    program = tmp_path / "script.py"
    program.write_text(
        "import multiprocessing, os\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from pocoflow import Flow, key, node\n"
        "@node(writes=key('answer'))\n"
        "def where() -> int:\n"
        "    return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:\n"
        "        store = Flow(where, executor=pool).run({})\n"
        "    print(store['answer'] not in (0, os.getpid()))\n"
    )
    words = [sys.executable, "-W", "error", str(program)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.stdout, ended.stderr) == ("True\n", "")


@pytest.mark.parametrize("archived", [True, False])
def test_a_program_whose_module_is_no_file(archived: bool, tmp_path: Path) -> None:
    """An archive is found by the name of its file; the name of a module of Python's own is told."""
    folder = tmp_path / "app"
    folder.mkdir()
    program = folder / ("__main__.py" if archived else "gc.py")
    program.write_text(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from pocoflow import Flow, key, node\n"
        "from pocoflow.errors import FlowValidationError\n"
        "@node(writes=key('answer'))\n"
        "def work() -> int:\n"
        "    return 1\n"
        "if __name__ == '__main__':\n"
        "    with ThreadPoolExecutor(1) as pool:\n"
        "        try:\n"
        "            print(Flow(work, executor=pool).run({})['answer'])\n"
        "        except FlowValidationError as exc:\n"
        "            print(exc.findings[0].code)\n"
    )
    if archived:
        zipapp.create_archive(folder, program := tmp_path / "app.pyz")
    words = [sys.executable, str(program)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.stdout, ended.stderr) == ("1\n" if archived else "PF407\n", "")


class Dynamic(Node):
    """Gives an instance of a class that is made as the program runs."""

    def prep(self, store: Any) -> Any:
        return create_model("Answer")() if store.get("given") else None

    def exec(self, prepared: Any) -> Any:
        return create_model("Answer")()


@pytest.mark.parametrize(
    ("store", "said"),
    [({}, "its result cannot be read"), ({"given": 1}, "what prep .*gave cannot")],
)
def test_what_no_name_leads_to_does_not_travel(store: dict[str, Any], said: str) -> None:
    """The error says where that can be worked on, and it can."""
    flow = Flow(dynamic := Dynamic())
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(UnknownClassError, match=f"{said}.*or keep the node here, executor='h"):
            flow.using(executor=pool).run(dict(store))
        dynamic.executor = "here"
        flow.using(executor=pool).run(dict(store))
