"""Runs that a worker begins, and carries on with: submitted, interrupted, answered, late ones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import AskNode, Flow, Node, Question, Store, WorkflowDB, fields, node, resource
from pocoflow.db import due
from pocoflow.db.due import Limits
from pocoflow.db.sql import QUERIES, row_ids
from pocoflow.errors import (
    DatabaseFileError,
    DatabaseLostError,
    DefinitionError,
    MissingInputError,
    NotStorableError,
    OtherFlowError,
    ResourceError,
    ResumeError,
    RunExistsError,
    RunNotFoundError,
    ThreadBusyError,
    TooManyRunsError,
)
from pocoflow.flow.worker import Worker
from pocoflow.nodes.importing import importing
from tests.rows import row_of
from tests.unit.clocks import set_clock
from tests.unit.gates import Gate


class Text(BaseModel):
    """What the flows of these tests work on."""

    text: str
    loud: str = ""


T = fields(Text)


@node(writes=T.loud)
def shout(text: str = T.text) -> str:
    """A step."""
    if text == "fails":
        raise ValueError("as it was told to")
    return text.upper()


def made_as(kind: Any) -> Any:
    """A class, of which a type checker knows no arguments."""
    return kind


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda flow: flow.run({"text": "a"}, resources=[1]), r"resources=\[1\]: a dict"),
        (lambda flow: flow.submit(most_open=["owner"]), r"most_open=\['owner'\]: a dict"),
        (
            lambda flow: made_as(Worker)("letters.py:flow"),
            r"Worker\('letters.py:flow'\): takes flows",
        ),
        (lambda flow: made_as(Worker)(flow, limits={"in_all": 1}), "a Limits, as in"),
        (lambda flow: made_as(Worker)(flow, resources=[1]), r"resources=\[1\]: a dict"),
        (
            lambda flow: made_as(Limits)(rates={"tenant": 10}),
            r"rates=\{'tenant': 10\}\): numbers and",
        ),
        (lambda flow: made_as(Limits)(rates={"tenant": (10, "60")}), "numbers and seconds"),
        (
            lambda flow: made_as(Limits)(per_label=["tenant"]),
            r"per_label=\['tenant'\]\): numbers by",
        ),
        (lambda flow: Flow(shout).submit(), "give it a db_path to submit, resume or fork"),
        (lambda flow: Worker(Flow(shout)), "or to have a worker run them"),
    ],
    ids=range(10),
)
def test_an_argument_of_another_kind_is_refused_where_it_is_given(
    flow: Flow[Text], call: Callable[[Any], object], said: str
) -> None:
    """With what was given, and what is taken."""
    with pytest.raises(DefinitionError, match=said):
        call(flow)


def test_a_completed_run_is_refused_before_its_resources_are_asked_for(db: WorkflowDB) -> None:
    """Whoever gave them would only hear that there is nothing to resume."""
    tool = resource(Gate, "tool")

    @node
    def use(tool: Gate = tool) -> None:
        pass

    flow = Flow(use, db_path=db)
    flow.run({}, run_id="r", resources={tool: Gate()})
    with pytest.raises(ResumeError, match="nothing to resume"):
        flow.resume("r")
    with pytest.raises(ResourceError, match=r"resume or Worker, or name them .* --resources"):
        flow.carry_on(flow.submit({}))


class Ask(AskNode[bool, str]):
    """Asks, and may have a deadline."""

    deadline: float | None = None

    def exec(self, prepared: object) -> Question[bool]:
        if self.deadline is None:
            return Question("Loud?")
        return Question("Loud?", deadline=self.deadline, default=False)

    def post(self, store: Store[Any], prepared: object, answer: bool) -> str:
        store["text"] = "yes" if answer else "no"
        return "default"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[WorkflowDB]:
    """A database."""
    with WorkflowDB(tmp_path / "runs.db") as made:
        yield made


@pytest.fixture
def flow(db: WorkflowDB) -> Flow[Text]:
    """A flow of one step."""
    return Flow(shout, schema=Text, db_path=db, flow_name="shout")


def asking(db: WorkflowDB, deadline: float | None = None) -> Flow[Text]:
    """A flow that asks first."""
    ask = Ask()
    ask.deadline = deadline
    made = Flow(ask, schema=Text, db_path=db, flow_name="asking")
    return made.then(ask, shout)


def interrupt(db: WorkflowDB, run_id: str, times: int = 0) -> None:
    """Leave a run as it is when its process is killed, so often in the first step of it."""
    run = row_of(db, run_id)
    first, _ = row_ids(run["run_no"])
    with db.writing() as raw:
        raw.executemany(
            "INSERT INTO pf_log (id, kind, line, steps, step, at, next_node) "
            "VALUES (?, 11, 0, 0, 0, 0, ?)",
            [(first + 1 + number, run["current_node"]) for number in range(times)],
        )
        raw.execute("UPDATE pf_run SET status = 'running', owned = 1 WHERE run_id = ?", (run_id,))


def loud(db: WorkflowDB, run_id: str) -> object:
    """What came of a run."""
    return db.handle(run_id).wait(timeout=60)["loud"]


Clock = Callable[[timedelta], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Moves the time on, for what looks whether something is due."""

    def move(by: timedelta) -> None:
        set_clock(monkeypatch, (datetime.now(UTC) + by).isoformat())

    return move


# -- submit -----------------------------------------------------------------------------------


def test_a_submitted_run_is_queued_until_a_worker_runs_it(db: WorkflowDB, flow: Flow[Text]) -> None:
    """It has its id, its store and its time from the first instant, and begins as any run does."""
    run_id = flow.submit({"text": "hello"})
    run = row_of(db, run_id)
    assert (run["status"], run["started_at"], run["total_steps"]) == ("queued", None, 0)
    assert datetime.fromisoformat(run["due_at"] or "") <= datetime.now(UTC)
    assert Worker(flow).run(until_idle=True)
    assert loud(db, run_id) == "HELLO"
    told = [one["event"] for one in db.get_events(run_id)]
    assert told == ["flow_start", "node_start", "node_end", "flow_end"]


def test_what_is_submitted_is_proved_and_stored_first(db: WorkflowDB, flow: Flow[Text]) -> None:
    """Inputs that are missing or cannot be stored are refused where they are given."""
    with pytest.raises(MissingInputError):
        flow.submit({})
    untyped: Flow[Any] = Flow(Ask(), db_path=db, flow_name="untyped")
    with pytest.raises(NotStorableError, match=r"'untyped': 'client'.*lock"):
        untyped.submit({"client": threading.Lock()})
    assert db.list_runs() == []


def test_the_inputs_stay_the_callers(flow: Flow[Text]) -> None:
    """A dict, a model and a store that were submitted are not changed by the run."""
    given, model = {"text": "a"}, Text(text="b")
    store = Store({"text": "c"}, schema=Text)
    for one in (given, model, store):
        flow.submit(one)
    Worker(flow).run(until_idle=True)
    assert (given, model.loud, store.as_dict()["loud"]) == ({"text": "a"}, "", "")


def test_an_id_that_was_given_is_used_once(flow: Flow[Text]) -> None:
    """A second submission of it is refused."""
    assert flow.submit({"text": "a"}, run_id="mine") == "mine"
    with pytest.raises(RunExistsError):
        flow.submit({"text": "a"}, run_id="mine")


def test_a_run_waits_for_its_time(db: WorkflowDB, flow: Flow[Text], clock: Clock) -> None:
    """Neither a worker nor carry_on begins it before."""
    first = flow.submit({"text": "a"}, delay=3600)
    second = flow.submit({"text": "b"}, delay=timedelta(hours=2))
    third = flow.submit({"text": "c"}, at=datetime.now(UTC) + timedelta(hours=3))
    Worker(flow).run(until_idle=True)
    assert [flow.carry_on(one) for one in (first, second, third)] == ["queued"] * 3
    clock(timedelta(hours=2, minutes=1))
    Worker(flow).run(until_idle=True)
    assert [db.handle(one).status for one in (first, second, third)] == [
        "completed",
        "completed",
        "queued",
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"at": datetime(2030, 1, 1)},  # noqa: DTZ001 - that is what is wrong with it
        {"at": "2030-01-01"},
        {"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
        {"delay": -1},
        {"delay": "1 h"},
        {"delay": timedelta(seconds=-1)},
        {"at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1},
    ],
)
def test_a_time_that_makes_no_sense_is_refused(flow: Flow[Text], given: Any) -> None:
    """A time without a zone could be meant in any; none lies before now by a delay."""
    with pytest.raises(DefinitionError, match="submit"):
        flow.submit({"text": "a"}, **given)


def test_a_flow_without_a_database_submits_nothing() -> None:
    """There is nobody who could begin the run."""
    with pytest.raises(DefinitionError, match="db_path"):
        Flow(shout, schema=Text).submit({"text": "a"})


def test_a_queued_run_can_be_cancelled(db: WorkflowDB, flow: Flow[Text]) -> None:
    """It never begins then."""
    run_id = flow.submit({"text": "a"})
    assert db.request_cancel(run_id)
    Worker(flow).run(until_idle=True)
    assert db.handle(run_id).status == "cancelled"
    assert flow.carry_on(run_id) == "cancelled"


def test_a_run_of_a_thread_is_submitted(db: WorkflowDB) -> None:
    """It begins with the last store of the thread, and keeps others of it from beginning."""
    flow = Counting(1).flow(db)
    first = flow.submit({"key": "a"}, thread="chat")
    with pytest.raises(ThreadBusyError):
        flow.submit({"key": "b"}, thread="chat")
    with pytest.raises(ThreadBusyError):
        flow.run({"key": "b"}, thread="chat")
    Worker(flow).run(until_idle=True)
    second = flow.submit(thread="chat")
    Worker(flow).run(until_idle=True)
    assert [db.handle(one).wait()["key"] for one in (first, second)] == ["a", "a"]


def test_a_submitted_run_can_be_joined(db: WorkflowDB, flow: Flow[Text]) -> None:
    """Who starts a run of its id with its inputs waits for it."""
    run_id = flow.submit({"text": "a"}, run_id="mine")
    handle = flow.run_background({"text": "a"}, run_id=run_id, if_exists="join")
    assert not handle.is_done
    Worker(flow).run(until_idle=True)
    assert handle.wait(timeout=60)["loud"] == "A"


def test_a_submission_that_is_sent_again_is_the_same_run(db: WorkflowDB, flow: Flow[Text]) -> None:
    """The id with the inputs is the run that there is, whatever its status; others are refused."""
    for _ in range(2):
        assert flow.submit({"text": "a"}, run_id="mine", if_exists="join") == "mine"
    Worker(flow).run(until_idle=True)
    assert flow.submit({"text": "a"}, run_id="mine", if_exists="join") == "mine"
    assert len(db.list_runs()) == 1
    with pytest.raises(RunExistsError, match="other inputs"):
        flow.submit({"text": "b"}, run_id="mine", if_exists="join")
    with pytest.raises(DefinitionError, match="give one"):
        flow.submit({"text": "a"}, if_exists="join")
    for _ in range(2):  # the open run of the thread is the one that is meant
        again = flow.submit({"text": "c"}, run_id="first", thread="chat", if_exists="join")
        assert again == "first"


def test_no_more_runs_are_open_than_may_be(db: WorkflowDB, tmp_path: Path) -> None:
    """Of submissions at once from two connections, exactly as many are taken as are allowed."""
    flow: Flow[Any] = Flow(Ask(), db_path=tmp_path / "runs.db", flow_name="asks")
    other = flow.using(db_path=WorkflowDB(tmp_path / "runs.db"))
    most: dict[str, Any] = {"labels": {"owner": "ann"}, "most_open": {"owner": 5}}

    told: list[str] = []

    def submit(number: int) -> str:
        try:
            return (flow if number % 2 else other).submit({}, **most)
        except TooManyRunsError as error:
            told.append(str(error))
            return ""

    with ThreadPoolExecutor(10) as pool:
        taken = [one for one in pool.map(submit, range(20)) if one]
    assert len(taken) == 5
    assert {one.partition(",")[0] for one in told} == {"5 runs with the label owner='ann' are open"}
    flow.submit({}, labels={"owner": "bob"}, most_open={"owner": 5})
    Worker(flow).run(until_idle=True)  # they wait for answers now, and are as open as before
    with pytest.raises(TooManyRunsError):
        flow.submit({}, **most)
    flow.database.request_cancel(taken[0])
    assert flow.submit({}, **most)
    for wrong in ({"owner": 0}, {"owner": "3"}, {"tenant": 3}):
        with pytest.raises(DefinitionError, match="most_open="):
            flow.submit({}, labels={"owner": "ann"}, most_open=wrong)  # type: ignore[arg-type]
    flow.database.close()
    other.database.close()


def test_what_is_due_is_found_by_indexes(db: WorkflowDB) -> None:
    """Among any number of runs, so that looking costs the same."""
    plan = db.connection.rows(
        f"EXPLAIN QUERY PLAN {QUERIES['due_runs']}",
        {"flow": "f", "now": "", "most": 1, "held": "[]"},
    )
    steps = [row["detail"] for row in plan if "pf_run" in row["detail"]]
    assert [step.partition(" INDEX ")[2] for step in steps] == [
        "pf_run_due (flow_name=? AND due_at<?)",
        "pf_run_by_flow (flow_name=? AND status=?)",
        "pf_run_interrupted (flow_name=?)",
    ]


# -- carry_on ---------------------------------------------------------------------------------


def test_carry_on_gives_the_status_of_whatever_there_is(db: WorkflowDB, flow: Flow[Text]) -> None:
    """A run that can go on does, and one that has ended, or failed, or waits is left as it is."""
    run_id = flow.submit({"text": "a"})
    assert [flow.carry_on(run_id) for _ in range(3)] == ["completed"] * 3
    failing = flow.submit({"text": "fails"})
    assert [flow.carry_on(failing) for _ in range(2)] == ["failed"] * 2
    assert [one["event"] for one in db.get_events(failing)].count("node_start") == 1
    other = asking(db)
    paused = other.submit({"text": "a"})
    assert [other.carry_on(paused) for _ in range(2)] == ["paused"] * 2
    other.answer_json(paused, True)
    assert other.carry_on(paused) == "completed"


def test_a_web_app_submits_and_carries_on_without_holding_its_loop_up(
    db: WorkflowDB, flow: Flow[Text]
) -> None:
    """While another connection writes for a while, the loop is free; the nodes await on it."""
    loops: list[object] = []

    @node(writes=T.loud)
    async def shout_later(text: str = T.text) -> str:
        loops.append(asyncio.get_running_loop())
        return text.upper()

    later = Flow(shout_later, schema=Text, db_path=db, flow_name="later")

    async def main() -> tuple[object, ...]:
        with db.writing():
            submitting = asyncio.ensure_future(later.submit_async({"text": "a"}, run_id="a"))
            await asyncio.sleep(0)  # which comes back, although the database is taken
            assert not submitting.done()
        run_id = await submitting
        first = await later.carry_on_async(run_id)
        again = await later.carry_on_async(run_id)
        fails = await flow.submit_async({"text": "fails"})
        assert loops == [asyncio.get_running_loop()]
        return run_id, first, again, await flow.carry_on_async(fails)

    assert asyncio.run(main()) == ("a", "completed", "completed", "failed")
    assert loud(db, "a") == "A"
    with pytest.raises(RunNotFoundError):
        asyncio.run(flow.carry_on_async("nowhere"))
    with pytest.raises(OtherFlowError):
        asyncio.run(flow.carry_on_async("a"))


def test_carrying_on_from_a_loop_opens_and_reads_the_database_elsewhere(
    flow: Flow[Text], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes its time holds no event loop up."""
    run_id, threads = flow.submit({"text": "a"}), set[int]()
    elsewhere = flow.using(db_path=tmp_path / "runs.db")
    for name in ("__init__", "get_run", "number", "flow_of"):
        method = getattr(WorkflowDB, name)

        def noted(*given: Any, method: Any = method, **more: Any) -> Any:
            threads.add(threading.get_ident())
            return method(*given, **more)

        monkeypatch.setattr(WorkflowDB, name, noted)
    assert asyncio.run(elsewhere.carry_on_async(run_id)) == "completed"
    assert threads
    assert threading.get_ident() not in threads


def test_carry_on_begins_a_fork(db: WorkflowDB, flow: Flow[Text]) -> None:
    """A worker leaves it to whoever has made it."""
    fork = flow.fork(flow.submit({"text": "a"}), -1, {"text": "b"})
    Worker(flow).run(until_idle=True)
    assert db.handle(fork).status == "queued"
    assert flow.carry_on(fork) == "completed"
    assert loud(db, fork) == "B"


def test_carry_on_leaves_a_run_alone_that_somebody_has(db: WorkflowDB) -> None:
    """It says that the run is running, and does nothing."""
    gate = Gate()
    flow: Flow[Any] = Flow(gate, db_path=db, flow_name="waits")
    run_id = flow.submit()
    handle = flow.resume_background(run_id)
    assert gate.entered.wait(60)
    assert flow.carry_on(run_id) == "running"
    gate.opened.set()
    handle.wait()
    assert flow.carry_on(run_id) == "completed"


def test_carry_on_says_what_is_no_run_of_the_flow(db: WorkflowDB, flow: Flow[Text]) -> None:
    """An id that was delivered to the wrong place is an error of whoever delivers."""
    with pytest.raises(RunNotFoundError):
        flow.carry_on("none")
    other: Flow[Any] = Flow(Ask(), db_path=db, flow_name="other")
    with pytest.raises(OtherFlowError):
        other.carry_on(flow.submit({"text": "a"}))


# -- a worker ---------------------------------------------------------------------------------


def test_a_worker_takes_what_can_go_on(db: WorkflowDB, flow: Flow[Text], clock: Clock) -> None:
    """Queued, interrupted, answered, and late runs are completed; what waits, waits."""
    ask, late = asking(db), asking(db, deadline=3600)
    late = Flow(late.start, schema=Text, db_path=db, flow_name="late").then(late.start, shout)
    worker = Worker(flow, ask, late)
    queued = flow.submit({"text": "a"})
    interrupted = flow.submit({"text": "b"})
    interrupt(db, interrupted)
    answered, waiting = ask.submit({"text": ""}), ask.submit({"text": ""})
    unanswered = late.submit({"text": ""})
    worker.run(until_idle=True)
    assert db.handle(answered).status == db.handle(unanswered).status == "paused"
    ask.answer_json(answered, True)
    clock(timedelta(hours=1, minutes=1))
    Worker(flow, ask, late).run(until_idle=True)
    assert [loud(db, one) for one in (queued, interrupted, answered, unanswered)] == [
        "A",
        "B",
        "YES",
        "NO",
    ]
    assert db.handle(waiting).status == "paused"


def test_a_reader_that_found_a_run_interrupted_does_not_hide_it(
    db: WorkflowDB, flow: Flow[Text]
) -> None:
    """What is on record as interrupted is taken as well."""
    run_id = flow.submit({"text": "a"})
    interrupt(db, run_id)
    assert db.handle(run_id).status == "failed"
    Worker(flow).run(until_idle=True)
    assert loud(db, run_id) == "A"


def test_workers_share_what_is_due(db: WorkflowDB, flow: Flow[Text], tmp_path: Path) -> None:
    """Two of them with four threads each run each run once."""
    runs = [flow.submit({"text": str(number)}) for number in range(60)]
    with WorkflowDB(tmp_path / "runs.db") as second:
        workers = [Worker(flow.using(db_path=one), concurrency=4) for one in (db, second)]
        threads = [threading.Thread(target=one.run, kwargs={"until_idle": True}) for one in workers]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    for number, run_id in enumerate(runs):
        assert loud(db, run_id) == str(number)
        told = [one["event"] for one in db.get_events(run_id)]
        assert told == ["flow_start", "node_start", "node_end", "flow_end"]


def test_the_oldest_run_comes_first(db: WorkflowDB, flow: Flow[Text]) -> None:
    """By the time from which on it is due, not by that of its submission."""
    now = datetime.now(UTC)
    later = flow.submit({"text": "a"}, at=now - timedelta(hours=1))
    earlier = flow.submit({"text": "b"}, at=now - timedelta(hours=2))
    found = due.due_runs(db, ["shout"], Limits(), 10)
    assert [one.run_id for one in found] == [earlier, later]
    assert [one.run_id for one in due.due_runs(db, ["shout"], Limits(), 1)] == [earlier]


def test_runs_of_other_flows_are_left_alone(db: WorkflowDB, flow: Flow[Text]) -> None:
    """A worker carries on with the runs of its flows, under their former names, too."""
    run_id = flow.submit({"text": "a"})
    other = Flow(shout, schema=Text, db_path=db, flow_name="other")
    Worker(other).run(until_idle=True)
    assert db.handle(run_id).status == "queued"
    Worker(other.using(formerly=("shout",))).run(until_idle=True)
    assert loud(db, run_id) == "A"


def test_a_run_that_cannot_go_on_holds_nobody_up(
    db: WorkflowDB, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, stays as it is, and is tried again later."""
    client: dict[str, str] = resource(dict, "client")

    @node(writes=T.loud)
    def use(text: str = T.text, given: dict[str, str] = client) -> str:
        return given[text]

    flow = Flow(use, schema=Text, db_path=db, flow_name="use")
    run_id = flow.submit({"text": "a"})
    Worker(flow).run(until_idle=True)
    assert db.handle(run_id).status == "queued"
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "'client'" in caplog.text
    with pytest.raises(ResourceError):
        flow.carry_on(run_id)
    Worker(flow, resources={client: {"a": "b"}}).run(until_idle=True)
    assert loud(db, run_id) == "b"


def test_a_run_whose_database_was_away_goes_on_soon_after(
    db: WorkflowDB, flow: Flow[Text], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it was tried: each pause until the next time is as short as the first."""
    monkeypatch.setattr("pocoflow.flow.worker._FIRST_PAUSE", 0.01)
    tries: list[str] = []

    def deliver(flow: Flow[Any], run_id: str) -> None:
        tries.append(run_id)
        if len(tries) < 15:  # which would come to minutes if each pause was twice the last one
            raise DatabaseLostError("away")
        assert flow.carry_on(run_id) == "completed"

    worker = Worker(flow, deliver=deliver)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        run_id = flow.submit({"text": "a"})
        assert db.handle(run_id).wait(timeout=60)["loud"] == "A"
    finally:
        worker.stop()
        thread.join()
    assert len(tries) == 15


def test_what_the_database_refuses_for_many_runs_is_logged_once(
    flow: Flow[Text], caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is no news with each run that waits for it; after one that could, it is."""
    is_full = True

    def deliver(flow: Flow[Any], run_id: str) -> object:
        if is_full:
            raise DatabaseFileError("the disk is full")
        return flow.carry_on(run_id)

    def warnings(runs: int) -> list[str]:
        caplog.clear()
        for _ in range(runs):
            flow.submit({"text": "a"})
        worker.run(until_idle=True)
        return [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]

    worker = Worker(flow, deliver=deliver)
    assert len(warnings(5)) == 1
    is_full = False
    assert warnings(1) == []
    is_full = True
    assert len(warnings(5)) == 1


@pytest.mark.parametrize("how", ["carry_on", "worker"])
def test_a_queued_run_that_the_code_cannot_begin_fails_once_and_in_time(
    db: WorkflowDB, flow: Flow[Text], clock: Clock, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits for a worker that has the code, then it is failed, with what to do."""

    @node(writes=T.loud)
    def whisper(text: str = T.text) -> str:
        return text.lower()

    run_id = flow.submit({"text": "A"})
    newer = Flow(whisper, schema=Text, db_path=db, flow_name="shout")
    Worker(newer).run(until_idle=True)
    assert db.handle(run_id).status == "queued"
    clock(timedelta(seconds=601))
    for _ in range(2):
        if how == "carry_on":
            assert newer.carry_on(run_id) == "failed"
        else:
            Worker(newer).run(until_idle=True)
    run = row_of(db, run_id)
    assert (run["status"], run["error_type"]) == ("failed", "pocoflow.errors.ResumeError")
    assert "rename={'shout':" in (run["error_msg"] or "")
    assert len([one for one in db.get_events(run_id) if one["event"] == "flow_error"]) == 1
    assert newer.resume(run_id, rename={"shout": "whisper"})["loud"] == "a"


def test_a_worker_that_was_stopped_lets_its_runs_end(db: WorkflowDB) -> None:
    """It takes no more, and returns when they have; or says that they have not in time."""
    gate = Gate()
    flow: Flow[Any] = Flow(gate, db_path=db, flow_name="waits")
    first, second = flow.submit(), flow.submit()
    worker = Worker(flow, concurrency=1)
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(worker.run(grace=0.05)))
    thread.start()
    assert gate.entered.wait(60)
    worker.stop()
    thread.join(60)
    assert (outcome, worker.active) == ([False], [first])
    gate.opened.set()
    db.handle(first).wait(timeout=60)
    assert db.handle(second).status == "queued"


def test_what_may_end_its_process_is_run_one_at_a_time(db: WorkflowDB) -> None:
    """So what was interrupted with it is not given up for its sake."""
    counting = Counting(1)
    flow = counting.flow(db)
    runs = [flow.submit({"key": "x"}) for _ in range(6)]
    for run_id in runs:
        interrupt(db, run_id, times=1)
    found = due.due_runs(db, ["counting"], Limits(), 10)
    assert [one.interruptions for one in found] == [1] * 6
    Worker(flow, concurrency=4, limits=Limits(interruptions=2)).run(until_idle=True)
    assert counting.highest == {"x": 1}
    assert [db.handle(one).status for one in runs] == ["completed"] * 6


def test_a_worker_may_work_again(db: WorkflowDB, flow: Flow[Text]) -> None:
    """After it was idle; not once it was stopped, also if that was before it began."""
    worker = Worker(flow)
    for text in ("a", "b"):
        run_id = flow.submit({"text": text})
        assert worker.run(until_idle=True)
        assert loud(db, run_id) == text.upper()
    worker.stop()
    last = flow.submit({"text": "c"})
    assert worker.run()
    assert db.handle(last).status == "queued"


def test_a_worker_whose_database_is_gone_says_so(tmp_path: Path) -> None:
    """It does not look for ever."""
    flow = Flow(shout, schema=Text, db_path=tmp_path / "gone.db", flow_name="shout")
    worker = Worker(flow)
    (tmp_path / "gone.db").unlink()
    with pytest.raises(DatabaseFileError, match=r"gone\.db was deleted"):
        worker.run()
    flow.database.close()


def test_nothing_is_submitted_while_a_module_is_imported(flow: Flow[Text]) -> None:
    """Or each worker that starts would submit it once more."""
    with pytest.raises(DefinitionError, match="by the import of app:flow"), importing("app:flow"):
        flow.submit({"text": "a"})
    assert flow.database.list_runs() == []


def test_a_run_that_ends_its_process_again_and_again_is_given_up(
    db: WorkflowDB, flow: Flow[Text]
) -> None:
    """After so many interruptions without a finished step it has failed, and says why."""
    run_id = flow.submit({"text": "a"})
    interrupt(db, run_id, times=3)
    assert flow.carry_on(run_id, limits=Limits(interruptions=3)) == "failed"
    run = row_of(db, run_id)
    assert run["error_type"] == "pocoflow.errors.RunInterruptedError"
    assert "interrupted 3 times in a row" in (run["error_msg"] or "")
    assert flow.resume(run_id)["loud"] == "A"


def test_a_worker_is_of_one_database(tmp_path: Path, db: WorkflowDB, flow: Flow[Text]) -> None:
    """Flows of two files, or of one name, or none, are refused."""
    elsewhere = Flow(shout, schema=Text, db_path=tmp_path / "other.db", flow_name="other")
    with pytest.raises(DefinitionError, match=r"other\.db"):
        Worker(flow, elsewhere)
    with pytest.raises(DefinitionError, match="bear the name 'shout'"):
        Worker(flow, flow.using())
    with pytest.raises(DefinitionError, match="takes the flows"):
        Worker()
    with pytest.raises(DefinitionError, match="concurrency=0"):
        Worker(flow, concurrency=0)


# -- limits -----------------------------------------------------------------------------------


class Counting:
    """Counts how many runs are at work at once, and ends them when as many as expected are."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now: dict[str, int] = {}
        self.highest: dict[str, int] = {}
        self.guard = threading.Condition()

    def flow(self, db: WorkflowDB, name: str = "counting") -> Flow[Any]:
        """A flow whose runs count."""
        counting = self

        class Count(Node):
            def prep(self, store: Store[Any]) -> str:
                return str(store["key"])

            def exec(self, key: str) -> None:
                with counting.guard:
                    counting.now[key] = counting.now.get(key, 0) + 1
                    now = counting.highest[key] = max(
                        counting.now[key], counting.highest.get(key, 0)
                    )
                    counting.guard.notify_all()
                    if now < counting.most:
                        counting.guard.wait_for(
                            lambda: counting.highest[key] >= counting.most, timeout=30
                        )
                time.sleep(0.01)  # for one too many, if there is one, to be seen
                with counting.guard:
                    counting.now[key] -= 1

        return Flow(Count(), db_path=db, flow_name=name)


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        (Limits(), 4),
        (Limits(in_all=2), 2),
        (Limits(per_flow=3), 3),
        (Limits(per_label={"tenant": 2}), 2),
    ],
)
def test_no_more_runs_are_at_work_than_may_be(
    db: WorkflowDB, tmp_path: Path, limits: Limits, most: int
) -> None:
    """In all workers of the database together."""
    counting = Counting(most)
    flow = counting.flow(db)
    for _ in range(8):
        flow.submit({"key": "x"}, labels={"tenant": "ann"})
    with WorkflowDB(tmp_path / "runs.db") as second:
        workers = [
            Worker(flow.using(db_path=one), concurrency=2, limits=limits) for one in (db, second)
        ]
        threads = [threading.Thread(target=one.run) for one in workers]
        for one in threads:
            one.start()
        for run in db.list_runs():
            db.handle(run["run_id"]).wait(timeout=60)
        for worker in workers:
            worker.stop()
        for one in threads:
            one.join()
    assert counting.highest == {"x": most}


@pytest.mark.parametrize(
    "limits",
    [Limits(in_all=1), Limits(per_flow=1), Limits(per_label={"tenant": 1})],
)
def test_a_run_that_would_be_one_too_many_waits(db: WorkflowDB, limits: Limits) -> None:
    """Also if whoever delivers it has not counted, and until one of the others has ended."""
    gate = Gate()
    flow: Flow[Any] = Flow(gate, db_path=db, flow_name="waits")
    first, second = (flow.submit(labels={"tenant": "ann"}) for _ in range(2))
    handle = flow.resume_background(first)
    assert gate.entered.wait(60)
    assert flow.carry_on(second, limits=limits) == "queued"
    assert due.due_runs(db, ["waits"], limits, 10) == []
    gate.opened.set()
    handle.wait()
    assert flow.carry_on(second, limits=limits) == "completed"


def test_one_label_at_its_limit_does_not_hold_the_others_up(db: WorkflowDB) -> None:
    """Runs behind those that wait are taken."""
    flow = Counting(1).flow(db)
    for _ in range(100):
        flow.submit({"key": "a"}, labels={"tenant": "ann"})
    last = flow.submit({"key": "b"}, labels={"tenant": "bob"})
    limits = Limits(rates={"tenant": (2, 3600.0)})
    Worker(flow, limits=limits).run(until_idle=True)
    assert db.handle(last).status == "completed"
    assert len(db.list_runs(200, status="completed")) == 3


def test_a_rate_holds_over_workers_and_gives_back_with_time(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many begin at once, and then one for each part of the time."""
    flow = Counting(1).flow(db)
    for _ in range(10):
        flow.submit({"key": "a"}, labels={"tenant": "ann"})
    limits = Limits(rates={"tenant": (2, 60.0)})
    now = datetime.now(UTC)
    completed = []
    for minutes in (0, 0, 0.5, 1, 10):
        set_clock(monkeypatch, (now + timedelta(minutes=minutes)).isoformat())
        Worker(flow, limits=limits).run(until_idle=True)
        completed.append(len(db.list_runs(status="completed")))
    assert completed == [2, 2, 3, 4, 6]


@pytest.mark.parametrize(
    "given",
    [
        {"in_all": 0},
        {"per_flow": True},
        {"per_label": {"tenant": 0}},
        {"rates": {"tenant": (0, 1.0)}},
        {"rates": {"tenant": (1, 0.0)}},
        {"interruptions": 0},
        {"begin_within": 0},
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(given: Any) -> None:
    """A limit of nothing would keep every run waiting for ever."""
    with pytest.raises(DefinitionError, match="Limits"):
        Limits(**given)
