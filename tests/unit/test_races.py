"""What runs at the same time: nothing is left behind, done twice, or lost between two looks."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pocoflow import (
    AskNode,
    BatchNode,
    Flow,
    Node,
    Parallel,
    Question,
    RunCancelled,
    RunPaused,
    Store,
    WorkflowDB,
    context,
)
from pocoflow.db.lines import LineRecorder
from pocoflow.db.recorder import RunRecorder
from pocoflow.errors import DatabaseError, RunNotFoundError
from pocoflow.events import Emitted
from tests.rows import row_of


@pytest.fixture
def db(tmp_path: Path) -> Iterator[WorkflowDB]:
    """A database."""
    with WorkflowDB(tmp_path / "runs.db") as opened:
        yield opened


def paused(flow: Flow[Any], run_id: str = "r") -> str:
    """The id of a run of the flow that waits for an answer."""
    flow.run_id = run_id
    with pytest.raises(RunPaused):
        flow.run({})
    return run_id


class Items(BatchNode[int, int, str]):
    """Works on items of which so many are there before the next one cannot be had."""

    concurrency = 3

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.Event()
        self.begun: list[int] = []
        self.ended: list[int] = []

    def prep(self, store: Store[Any]) -> Iterator[int]:
        yield from (0, 1)
        raise ConnectionError("no more")

    def exec(self, item: int) -> int:
        self.begun.append(item)
        self.seen.wait(0.2)  # by what comes next: in vain, as that waits for this
        self.ended.append(item)
        return item


class ItemsAsync(Items):
    """The same, asynchronously."""

    async def exec(self, item: int) -> int:  # type: ignore[override]
        self.begun.append(item)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(item)
        return item


@pytest.mark.parametrize("kind", [Items, ItemsAsync])
@pytest.mark.parametrize("driver", ["run", "run_async"])
def test_a_batch_that_failed_has_ended_when_its_error_is_caught(
    kind: type[Items], driver: str
) -> None:
    """No item is at work any more when the next node is, also if it was the items that failed."""
    batch = kind()
    left: list[int] = []

    class Next(Node):
        async def exec(self, given: None) -> None:
            await asyncio.sleep(0)  # a turn for every other task
            left.extend(set(batch.begun) - set(batch.ended))
            batch.seen.set()

    flow = Flow(batch).then(batch.catch(ConnectionError), Next())
    flow.run({}) if driver == "run" else asyncio.run(flow.run_async({}))
    assert left == []


def test_no_item_is_begun_after_the_task_of_its_run_was_cancelled() -> None:
    """A batch in threads begins no more items once the task of its run was cancelled."""
    begun: list[int] = []
    at_work, go_on = threading.Event(), threading.Event()

    class Work(BatchNode[int, int, str]):
        concurrency = 2

        def prep(self, store: Store[Any]) -> range:
            return range(50)

        def exec(self, item: int) -> int:
            begun.append(item)
            if len(begun) == self.concurrency:
                at_work.set()
            go_on.wait()
            return item

    async def cancel() -> None:
        task = asyncio.ensure_future(Flow(Work()).run_async({}))
        await asyncio.to_thread(at_work.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(cancel())  # waits for the threads of its executor
    assert sorted(begun) == [0, 1]


class Paid(Node):
    """Calls something, asynchronously."""

    def __init__(self, calls: list[str], name: str = "Paid") -> None:
        super().__init__(name=name)
        self.calls = calls

    async def exec(self, prepared: None) -> str:
        self.calls.append(self.name)
        return self.name


class Held:
    """Holds up the commits of finished calls; put in the place of ``LineRecorder.journal``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.done = threading.Event()
        journal = LineRecorder.journal

        def hold(*facts: Any) -> None:
            self.entered.set()
            self.go_on.wait(0.2)
            journal(*facts)
            self.done.set()

        monkeypatch.setattr(LineRecorder, "journal", hold)


def test_a_commit_that_is_begun_is_awaited_however_often_its_task_is_cancelled(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on with a cancelled run finds what its last call has returned."""
    calls: list[str] = []
    held = Held(monkeypatch)
    flow: Flow[Any] = Flow(Paid(calls), db_path=db, run_id="r")

    async def cancel() -> None:
        task = asyncio.ensure_future(flow.run_async({}))
        await asyncio.to_thread(held.entered.wait)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert held.done.is_set()

    asyncio.run(cancel())
    flow.resume("r")
    assert calls == ["Paid"]


def test_a_run_has_not_ended_before_its_branches_have(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled run can be gone on with once all that its branches have called is on record."""
    calls: list[str] = []
    order: list[str] = []
    held = Held(monkeypatch)
    flow: Flow[Any] = Flow(Parallel(Paid(calls, "a"), Paid(calls, "b")), db_path=db, run_id="r")

    def note(steps: int, store: Store[Any]) -> None:
        order.append("committed" if held.done.is_set() else "not yet committed")
        held.go_on.set()

    flow.on("flow_cancelled", note)
    handle = flow.run_background({})
    held.entered.wait()
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.wait()
    assert order == ["committed"]
    flow.resume("r")
    assert sorted(calls) == ["a", "b"]


def test_a_finished_item_is_kept_if_the_user_stops_the_run_in_that_instant(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C between the end of an item and the commit of its result does not lose that."""
    calls: list[int] = []

    class Work(BatchNode[int, int, str]):
        def prep(self, store: Store[Any]) -> range:
            return range(2)

        def exec(self, item: int) -> int:
            calls.append(item)
            return item

    def stop(recorder: LineRecorder, rows: object, *facts: object) -> None:
        monkeypatch.undo()
        assert rows
        raise KeyboardInterrupt

    monkeypatch.setattr(LineRecorder, "_write_rows", stop)
    flow: Flow[Any] = Flow(Work(), db_path=db, run_id="r")
    with pytest.raises(KeyboardInterrupt):
        flow.run({})
    flow.resume("r")
    assert calls == [0, 1]


class Late:
    """A batch in threads; the first of its items is at work when the run is cancelled."""

    def __init__(self, db: WorkflowDB, run_id: str) -> None:
        self.calls: list[Any] = []
        self.fails = True
        self.at_work, self.go_on = threading.Event(), threading.Event()
        late = self

        class Work(BatchNode[Any, Any, str]):
            concurrency = 2

            def prep(self, store: Store[Any]) -> list[Any]:
                return list(store["items"])

            def exec(self, item: Any) -> Any:
                late.calls.append(item)
                if item == "slow" and not late.at_work.is_set():
                    late.at_work.set()
                    late.go_on.wait()
                elif late.fails:
                    raise OSError("down")
                return f"{item} of {run_id}"

            def post(self, store: Store[Any], items: list[Any], results: list[Any]) -> str:
                store["results"] = results
                return "default"

        self.flow: Flow[Any] = Flow(Work(), db_path=db, run_id=run_id)

    def run(self, meanwhile: Callable[[], object]) -> None:
        """Run, cancel, do something, and let the item end."""

        async def cancel() -> None:
            task = asyncio.ensure_future(self.flow.run_async({"items": ["slow"]}))
            await asyncio.to_thread(self.at_work.wait)
            task.cancel()
            try:
                with pytest.raises(asyncio.CancelledError):
                    await task
                meanwhile()
            finally:
                self.go_on.set()

        asyncio.run(cancel())  # waits for the threads of its executor


def test_what_ends_after_its_run_was_cancelled_is_kept(db: WorkflowDB) -> None:
    """A call that nobody could stop is paid for: its result is there for the resume."""
    late = Late(db, "r")
    late.run(lambda: None)
    assert late.flow.resume("r")["results"] == ["slow of r"]
    assert late.calls == ["slow"]


def test_what_ends_after_somebody_has_gone_on_with_its_run_is_not_kept(db: WorkflowDB) -> None:
    """Its number may be that of another item by now, whose result it must not take the place of."""
    late = Late(db, "r")

    def kept() -> list[tuple[Any, ...]]:
        rows = db.connection.rows("SELECT kind, data FROM pf_log WHERE kind IN (3, 4, 5, 6)")
        return [tuple(row) for row in rows]

    def go_on() -> None:
        with pytest.raises(OSError, match="down"):
            late.flow.resume("r", changes={"items": ["other"]})
        assert kept() == given

    given = [(6, '[null, [["items", 0, "[\\"other\\"]"]]]')]  # what the resume was given
    late.run(go_on)
    assert kept() == given


def test_what_ends_after_its_run_was_removed_is_no_result_of_a_new_one(db: WorkflowDB) -> None:
    """The newest run was pruned, and the next one has its number: it pays for its own items."""
    late, new = Late(db, "old"), Late(db, "new")
    new.at_work.set()

    def begin() -> None:
        assert db.prune(keep=0, status="cancelled") == 1
        with pytest.raises(OSError, match="down"):
            new.flow.run({"items": ["slow"]})

    late.run(begin)
    new.fails = False
    assert new.flow.resume("new")["results"] == ["slow of new"]


# -- events ----------------------------------------------------------------------------------


class Questions(BatchNode[int, Question[bool], str]):
    """Asks about two items at once."""

    concurrency = 2

    def prep(self, store: Store[Any]) -> range:
        return range(2)

    def exec(self, item: int) -> Question[bool]:
        return Question(f"{item}?")


def test_a_branch_that_begins_with_several_questions_begins_once(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that ask at the same instant in the first node of a branch log one start of it."""
    ask = LineRecorder.ask
    both = threading.Barrier(2, timeout=60)

    def together(recorder: LineRecorder, *facts: Any) -> int:
        both.wait()  # neither has committed before the other one is here, too
        return ask(recorder, *facts)

    monkeypatch.setattr(LineRecorder, "ask", together)
    flow: Flow[Any] = Flow(Parallel(Questions()), db_path=db)
    run_id = paused(flow)
    logged = [(e["event"], e["node_name"]) for e in db.get_events(run_id)[2:]]
    assert logged == [
        ("node_start", "Parallel/Questions"),
        ("node_ask", "Parallel/Questions"),
        ("node_ask", "Parallel/Questions"),
        ("flow_pause", None),
    ]


@pytest.mark.parametrize("around", [Flow, Parallel])
def test_a_retry_is_logged_after_the_start_and_under_the_name_of_its_node(
    around: Callable[..., Node[Any, Any, Any]], db: WorkflowDB
) -> None:
    """In a nested flow or a branch, too, a retry is found by the node that it is of."""

    class Flaky(Node):
        max_retries = 2

        def exec(self, prepared: None) -> None:
            if context().attempt == 1:
                raise ConnectionError("down")

    outer = around(Flaky())
    outer.name = "outer"
    Flow(outer, db_path=db, run_id="r").run({})
    events = [e for e in db.get_events("r") if e["node_name"] == "outer/Flaky"]
    assert [e["event"] for e in events] == ["node_start", "node_retry", "node_end"]


def test_a_database_that_was_closed_is_not_opened_again_by_a_read(tmp_path: Path) -> None:
    """A reader that is closed says so, also if another file has taken the place of its own."""
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    WorkflowDB(second).close()
    with WorkflowDB(first) as writer:
        writer.create_run("r")
        reader = WorkflowDB(first, read_only=True)
        assert len(reader.list_runs()) == 1
        reader.close()
    second.replace(first)
    with pytest.raises(DatabaseError, match="is closed"):
        reader.list_runs()


def test_an_attempt_that_fails_after_the_cancellation_announces_no_other_one(
    db: WorkflowDB,
) -> None:
    """No retry is told or logged if the run was asked to stop meanwhile, as none follows."""
    told: list[int] = []

    class Flaky(Node):
        max_retries = 3

        def exec(self, prepared: None) -> None:
            context().cancellation.request()
            raise ConnectionError("down")

    flow: Flow[Any] = Flow(Flaky(), db_path=db, run_id="r")
    flow.on("node_retry", lambda name, attempt, exc, store: told.append(attempt))
    with pytest.raises(RunCancelled):
        flow.run({})
    assert told == []
    assert [event["event"] for event in db.get_events("r")][-1] == "flow_cancelled"
    assert "node_retry" not in [event["event"] for event in db.get_events("r")]


class Registering(list[Any]):
    """Listeners that let more be registered while they are read."""

    def __init__(self, register: Callable[[], object]) -> None:
        super().__init__()
        self.register = register

    def __iter__(self) -> Iterator[Any]:
        self.register()
        return super().__iter__()


def test_a_run_can_begin_while_another_thread_registers_a_hook() -> None:
    """Registering for one more event disturbs no run that begins in that instant."""
    flow: Flow[Any] = Flow(Node())
    later: list[int] = []
    more = Registering(lambda: flow.on("flow_end", lambda steps, store: later.append(steps)))
    flow._hooks.registered["flow_start"] = more
    flow.run({})
    assert later == []  # it counts from the next run


def test_a_run_that_fails_when_its_events_are_read_no_more_is_no_error_of_the_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a run raises after its reader has left is on record, not in asyncio's log."""
    caplog.set_level(logging.CRITICAL, "pocoflow")  # pytest keeps what is logged, and so the task

    class Fails(Node):
        async def exec(self, prepared: None) -> None:
            try:
                context().emit("waits")
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionError("lost") from None

    async def leave() -> list[Any]:
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: reported.append(what))
        events = Flow(Fails()).stream_async({})
        async for event in events:
            if isinstance(event, Emitted):
                break
        await events.aclose()
        gc.collect()
        return reported

    assert asyncio.run(leave()) == []


# -- stored runs ------------------------------------------------------------------------------


class Ask(AskNode[bool, str]):
    """Asks, and keeps the answer."""

    def __init__(self, deadline: float | None = None) -> None:
        super().__init__()
        self.deadline = deadline
        self.then_do: Callable[[str], object] = lambda run_id: None

    def exec(self, prepared: None) -> Question[bool]:
        if self.deadline is None:
            return Question("Well?")
        return Question("Well?", deadline=self.deadline, default=True)

    def post(self, store: Store[Any], prepared: None, answer: Any) -> str:
        self.then_do(context().run_id)
        store["answer"] = answer
        return "default"


def test_recover_leaves_a_run_alone_that_was_cancelled_while_it_was_at_another_one(
    db: WorkflowDB,
) -> None:
    """What was a run to recover when recover began may be ended by somebody before its turn."""
    ask = Ask()
    flow: Flow[Any] = Flow(ask, db_path=db)
    for run_id in ("first", "second"):
        flow.answer_json(paused(flow, run_id), True)
    ask.then_do = lambda run_id: db.request_cancel("second")
    assert flow.recover() == {"first": None}
    assert [run["status"] for run in db.list_runs()] == ["cancelled", "completed"]


def test_recover_does_not_do_again_what_another_worker_has_done(db: WorkflowDB) -> None:
    """A run that another worker has gone on with, and that has failed there, is not run again."""
    ask = Ask()
    flow: Flow[Any] = Flow(ask, db_path=db)
    for run_id in ("first", "second"):
        flow.answer_json(paused(flow, run_id), True)
    called: list[str] = []

    def do(run_id: str) -> None:
        called.append(run_id)
        if run_id == "second":
            raise ConnectionError("down")
        with pytest.raises(ConnectionError):
            flow.resume("second")  # the other worker

    ask.then_do = do
    assert flow.recover() == {"first": None}
    assert called == ["first", "second"]


def test_recover_leaves_out_a_run_that_is_cancelled_in_that_instant(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that somebody ends while recover reads it is not reported as a failure."""
    flow: Flow[Any] = Flow(Ask(), db_path=db)
    flow.answer_json(paused(flow), True)
    apply_defaults = RunRecorder.apply_defaults

    def cancelled(recorder: RunRecorder, position: Any) -> Any:
        assert db.request_cancel("r")
        return apply_defaults(recorder, position)

    monkeypatch.setattr(RunRecorder, "apply_defaults", cancelled)
    assert flow.recover() == {}
    assert db.handle("r").status == "cancelled"


def test_recover_leaves_out_a_run_that_was_removed(db: WorkflowDB) -> None:
    """A run that is pruned before its turn is not reported as a failure."""
    ask = Ask()
    flow: Flow[Any] = Flow(ask, db_path=db)
    for run_id in ("first", "second"):
        flow.answer_json(paused(flow, run_id), True)
    ask.then_do = lambda run_id: db.prune(keep=0, status="paused")
    assert flow.recover() == {"first": None}
    assert db.get_run("second") is None


def test_a_request_to_cancel_counts_if_the_run_pauses_in_that_instant(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was seen running, and waits when the request is written, is cancelled at once."""
    run_id = paused(Flow(Ask(), db_path=db))
    seen = {**row_of(db, run_id), "status": "running"}
    monkeypatch.setattr(db, "get_run", lambda run_id: seen)
    assert db.request_cancel(run_id)
    monkeypatch.undo()
    assert db.handle(run_id).status == "cancelled"


def test_a_request_to_cancel_counts_if_the_run_goes_on_in_that_instant(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was seen paused, and runs when the request is written, is asked to stop."""
    ask = Ask()
    flow: Flow[Any] = Flow(ask, db_path=db)
    flow.answer_json(paused(flow), True)

    def cancel(run_id: str) -> None:
        seen = {**row_of(db, run_id), "status": "paused"}
        with monkeypatch.context() as patch:
            patch.setattr(db, "get_run", lambda run_id: seen)
            assert db.request_cancel(run_id)

    ask.then_do = cancel
    flow.then(ask, Ask())
    with pytest.raises(RunCancelled):
        flow.resume("r")
    assert db.handle("r").status == "cancelled"


def test_a_cancelled_run_goes_on_after_the_deadline_of_its_question(db: WorkflowDB) -> None:
    """A run that was cancelled while it waited, and is resumed all the same, takes the default."""
    flow: Flow[Any] = Flow(Ask(deadline=1e-6), db_path=db)
    run_id = paused(flow)
    assert db.request_cancel(run_id)
    assert flow.resume(run_id)["answer"] is True


def test_the_number_of_what_was_removed_is_not_given_again(db: WorkflowDB) -> None:
    """Runs and questions that come after a removed one have numbers that nobody has had."""
    flow: Flow[Any] = Flow(Ask(), db_path=db)
    first = paused(flow)
    (asked,) = db.pending()
    number = row_of(db, first)["run_no"]
    assert db.request_cancel(first)
    assert db.prune(keep=0) == 1
    second = paused(flow)
    (again,) = db.pending()
    assert row_of(db, second)["run_no"] > number
    assert again.question > asked.question


def test_a_run_that_is_removed_while_it_is_claimed_is_not_found(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who resumes a run in the instant in which it is pruned is told that there is no such run."""
    flow: Flow[Any] = Flow(Ask(), db_path=db)
    run_id = paused(flow)
    number = db.number(run_id)
    db.prune(keep=0, status="paused")
    monkeypatch.setattr(db, "number", lambda run_id: number)
    with pytest.raises(RunNotFoundError, match="in this instant"):
        flow.resume(run_id)
    assert not db.locks.is_held(number)


def test_the_first_runs_of_a_flow_share_its_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that begin the first runs of a flow at once keep them all in the same database."""
    both = threading.Barrier(2, timeout=60)

    class Together(WorkflowDB):
        def __init__(self, path: Any) -> None:
            super().__init__(path)
            both.wait()

    monkeypatch.setattr("pocoflow.db.WorkflowDB", Together)
    flow: Flow[Any] = Flow(Node(), db_path=":memory:")
    threads = [threading.Thread(target=flow.run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    database = flow.database
    assert [run["status"] for run in database.list_runs()] == ["completed"] * 2
    database.close()


class Shared(dict[str, Any]):
    """Another thread writes to it as soon as somebody goes through it."""

    def items(self) -> Any:
        for pair in super().items():
            self[f"written beside {pair[0]}"] = True
            yield pair


def test_a_dict_to_which_others_write_is_the_store_of_a_run() -> None:
    """Several runs at once may have one dict; what others write while a run begins stays there."""
    shared = Shared(first=1, second=2)
    Flow(Node()).run(shared)
    assert list(shared)[:2] == ["first", "second"]


class Busy(dict[str, Any]):
    """A dict to which something is written whenever a key is looked for, as others may do."""

    def __contains__(self, key: object) -> bool:
        self[f"written at {len(self)}"] = True
        return super().__contains__(key)


def test_a_store_to_which_others_write_is_looked_at_as_it_was() -> None:
    """Several runs at once may have one store, of which each looks at what was changed."""
    store = Store.over(Busy(a=[1], b=[2]))
    store.track()
    assert (store["a"], store["b"]) == ([1], [2])
    assert store.touched() == ([("a", [1]), ("b", [2])], [])

    class Writes(set[object]):
        def __contains__(self, kind: object) -> bool:
            store["c"] = [3]
            return False

    assert sorted(store.take_touched(Writes(), ())) == [("a", [1]), ("b", [2])]
    assert store.take_touched((), ()) == [("c", [3])]
    for key, _ in store.own_items():
        store[f"{key} is seen"] = True
