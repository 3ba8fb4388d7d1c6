"""Going on with stored runs: what is executed again and what is not, and what is refused."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from itertools import pairwise
from operator import setitem
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from pocoflow import END, Flow, Node, Parallel, Store, WorkflowDB, context
from pocoflow.db.recorder import RunRecorder
from pocoflow.errors import (
    CheckpointNotFoundError,
    DefinitionError,
    IncompleteStoreError,
    InvalidValueError,
    MaxStepsError,
    NotSavedError,
    ResumeError,
    RunCancelled,
    RunNotFoundError,
    UnknownClassError,
    UnknownFieldError,
)
from pocoflow.events import NodeEnded
from tests.rows import row_of


class Bug(Exception):
    """What a broken phase raises."""


class Died(BaseException):
    """Stands for the end of the process: nobody records how the run ended."""


class Step(Node[Any, Any, str]):
    """Adds 1 to ``x``; keeps account of its phases, and fails in one of them while told to."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__(name=name)
        self.log = log
        self.broken = ""
        self.error: BaseException = Bug(name)

    def _in(self, phase: str) -> None:
        self.log.append(f"{self.name}.{phase}")
        if self.broken == phase:
            raise self.error

    def prep(self, store: Store[Any]) -> Any:
        store["prepared"] = self.name
        self._in("prep")
        return store["x"]

    def exec(self, x: Any) -> Any:
        self._in("exec")
        return x + 1

    def post(self, store: Store[Any], x: Any, result: Any) -> str:
        store["x"] = result
        self._in("post")
        return "go"


class Chain:
    """A flow of steps, one after another, and what they did."""

    def __init__(
        self, path: Path | WorkflowDB, names: Iterable[str] = "ABC", **settings: Any
    ) -> None:
        self.log: list[str] = []
        self.steps = {name: Step(name, self.log) for name in names}
        nodes = list(self.steps.values())
        self.flow: Flow[Any] = Flow(nodes[0], db_path=path, flow_name="chain", **settings)
        for node, successor in pairwise(nodes):
            self.flow.then(node.when("go"), successor)
        self.flow.then(nodes[-1].when("go"), END)

    def fail(self, name: str, phase: str, error: BaseException | None = None) -> str:
        """Run until a phase of a step fails, and mend it; the run's id."""
        step = self.steps[name]
        step.broken, step.error = phase, error or Bug(name)
        database = self.flow.run_background({"x": 0})
        with pytest.raises(type(step.error)):
            database.wait()
        step.broken = ""
        self.log.clear()
        return database.run_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database can be made."""
    return tmp_path / "runs.db"


@pytest.fixture
def dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Died`` leaves a run behind as the end of its process does: no last status, no lock."""
    end = RunRecorder.end

    def leave(self: RunRecorder, status: str, error: BaseException, *rest: Any) -> bool:
        if isinstance(error, Died):
            self.release()
            return True
        return end(self, status, error, *rest)

    monkeypatch.setattr(RunRecorder, "end", leave)


def kinds(db: WorkflowDB, run_id: str) -> list[tuple[str, Any, Any]]:
    """The events of a run as (event, step, node)."""
    return [(e["event"], e["step"], e["node_name"]) for e in db.get_events(run_id)]


# -- the same run goes on -------------------------------------------------------------------------


def resume(flow: Flow[Any], run_id: str, **given: Any) -> Store[Any]:
    """In this thread."""
    return flow.resume(run_id, **given)


def resume_async(flow: Flow[Any], run_id: str, **given: Any) -> Store[Any]:
    """On an event loop."""
    return asyncio.run(flow.resume_async(run_id, **given))


def resume_background(flow: Flow[Any], run_id: str, **given: Any) -> Store[Any]:
    """In the background."""
    handle = flow.resume_background(run_id, **given)
    assert handle.run_id == run_id
    return handle.wait()


Way = Callable[..., Store[Any]]

every_way = pytest.mark.parametrize("way", [resume, resume_async, resume_background])


@every_way
def test_a_resumed_run_is_the_same_run(path: Path, way: Way) -> None:
    """Resume keeps the id, goes on with the next step and ends as an undisturbed run does."""
    chain = Chain(path)
    run_id = chain.fail("B", "exec")
    store = way(chain.flow, run_id)
    assert store["x"] == 3
    assert chain.log == [f"{name}.{phase}" for name in "BC" for phase in ("prep", "exec", "post")]
    with WorkflowDB(path) as db:
        assert [run["run_id"] for run in db.list_runs()] == [run_id]
        run = row_of(db, run_id)
        assert (run["status"], run["total_steps"], run["error_msg"]) == ("completed", 3, None)
        steps = [(c["step"], c["node_name"]) for c in db.get_checkpoints(run_id)]
        assert steps == [(0, "A"), (1, "B"), (2, "C")]
        assert [db.load_checkpoint(run_id, step)["x"] for step in range(-1, 3)] == [0, 1, 2, 3]


def test_the_event_log_tells_of_the_resume(path: Path) -> None:
    """The events of both parts are in one log, with flow_resume between them."""
    chain = Chain(path, "AB")
    run_id = chain.fail("B", "exec")
    chain.flow.resume(run_id)
    with WorkflowDB(path) as db:
        assert kinds(db, run_id) == [
            ("flow_start", 0, None),
            ("node_start", 0, "A"),
            ("node_end", 0, "A"),
            ("node_start", 1, "B"),
            ("node_error", 1, "B"),
            ("flow_error", 1, None),
            ("flow_resume", 1, None),
            ("node_start", 1, "B"),
            ("node_end", 1, "B"),
            ("flow_end", 2, None),
        ]


def test_hooks_are_told_of_the_steps_that_are_left(path: Path) -> None:
    """Hooks of a resumed run hear of its beginning, of the steps that remain and of its end."""
    chain = Chain(path)
    run_id = chain.fail("B", "exec")
    told: list[object] = []
    chain.flow.on("flow_start", lambda store: told.append(store["x"]))
    chain.flow.on("node_end", lambda name, action, spent, store: told.append(name))
    chain.flow.on("flow_end", lambda steps, store: told.append(steps))
    chain.flow.resume(run_id)
    assert told == [1, "B", "C", 3]


def test_json_checkpoints_go_on_with_their_numbers(path: Path, tmp_path: Path) -> None:
    """The files of a resumed run continue those of its first part."""
    chain = Chain(path, checkpoint_dir=tmp_path / "steps")
    chain.flow.resume(chain.fail("B", "exec"))
    names = sorted(file.name for file in (tmp_path / "steps").iterdir())
    assert names == ["step_000_A.json", "step_001_B.json", "step_002_C.json"]


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
def test_a_run_goes_on_with_the_node_that_raised(path: Path, phase: str) -> None:
    """Whichever phase of a node raised, the run goes on with that node, on the store before it."""
    chain = Chain(path)
    run_id = chain.fail("B", phase)
    with WorkflowDB(path) as db:
        assert db.load_checkpoint(run_id, 0).as_dict() == {"x": 1, "prepared": "A"}
    assert chain.flow.resume(run_id)["x"] == 3
    assert chain.log[0] == "B.prep"


def test_a_run_whose_first_node_failed_goes_on_from_its_initial_store(path: Path) -> None:
    """The input of a run is kept with it: it can go on although no step was finished."""
    chain = Chain(path)
    run_id = chain.fail("A", "exec")
    assert chain.flow.resume(run_id)["x"] == 3


def test_a_cancelled_run_goes_on(path: Path) -> None:
    """A cancelled run is resumed like any other; the request to stop is not repeated."""
    chain = Chain(path)
    inside, wait = threading.Event(), threading.Event()

    def hold(store: Store[Any]) -> None:
        inside.set()
        wait.wait()

    chain.flow.on("node_start", lambda name, store: hold(store) if name == "B" else None)
    handle = chain.flow.run_background({"x": 0})
    inside.wait()
    handle.cancel()
    wait.set()
    with pytest.raises(RunCancelled):
        handle.wait()
    assert handle.status == "cancelled"
    assert chain.flow.resume(handle.run_id)["x"] == 3
    assert str(handle.status) == "completed"


def test_a_run_can_be_resumed_as_often_as_it_fails(path: Path) -> None:
    """A resumed run that fails again is resumed again, from where it then stands."""
    chain = Chain(path, "ABCD")
    run_id = chain.fail("B", "post")
    chain.steps["C"].broken = "exec"
    with pytest.raises(Bug):
        chain.flow.resume(run_id)
    with WorkflowDB(path) as db:
        run = row_of(db, run_id)
        assert (run["status"], run["current_node"], run["total_steps"]) == ("failed", "C", 2)
    chain.steps["C"].broken = ""
    assert chain.flow.resume(run_id)["x"] == 4


def test_max_steps_counts_the_steps_before_the_resume(path: Path) -> None:
    """The guard against loops holds for the whole run, however often it is resumed."""
    chain = Chain(path, max_steps=2)
    run_id = chain.fail("B", "exec")
    with pytest.raises(MaxStepsError, match="max_steps=2"):
        chain.flow.resume(run_id)
    chain.flow.max_steps = 3
    assert chain.flow.resume(run_id)["x"] == 3


def test_the_initial_store_is_kept_and_is_no_checkpoint(path: Path) -> None:
    """``step=-1`` is the store before the first node; the checkpoints begin with step 0."""
    chain = Chain(path)
    run_id = chain.fail("A", "exec")
    with WorkflowDB(path) as db:
        assert db.get_checkpoints(run_id) == []
        assert db.load_checkpoint(run_id, -1).as_dict() == {"x": 0}
    chain.flow.resume(run_id)
    with WorkflowDB(path) as db:
        assert [c["step"] for c in db.get_checkpoints(run_id)] == [0, 1, 2]
        assert db.load_checkpoint(run_id, -1).as_dict() == {"x": 0}


# -- what is executed again -----------------------------------------------------------------------


@every_way
def test_a_finished_exec_is_not_called_again(path: Path, way: Way) -> None:
    """After a bug in post, resume takes the result of exec from the database."""
    chain = Chain(path, "AB")
    run_id = chain.fail("B", "post")
    assert way(chain.flow, run_id)["x"] == 2
    assert chain.log == ["B.prep", "B.post"]


def test_a_result_of_none_counts_as_finished(path: Path) -> None:
    """An exec that returned None, or anything that is false, is not called again either."""
    calls = []

    class Quiet(Node):
        def exec(self, prepared: None) -> None:
            calls.append("exec")

        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            store["tried"]
            return "done"

    flow: Flow[Any] = Flow(Quiet(), db_path=path, run_id="r")
    with pytest.raises(KeyError):
        flow.run({})
    flow.resume("r", changes={"tried": True})
    assert calls == ["exec"]


def test_the_result_of_a_fallback_counts_as_finished(path: Path) -> None:
    """What exec_fallback gave after the last attempt is kept like a result of exec."""
    calls = []

    class Offline(Node):
        max_retries = 2
        broken = True

        def exec(self, prepared: None) -> str:
            calls.append("exec")
            raise ConnectionError

        def exec_fallback(self, prepared: None, exc: Exception) -> str:
            return "fallback"

        def post(self, store: Store[Any], prepared: None, result: str) -> str:
            if self.broken:
                raise Bug
            store["text"] = result
            return "done"

    node = Offline()
    flow: Flow[Any] = Flow(node, db_path=path, run_id="r")
    with pytest.raises(Bug):
        flow.run({})
    node.broken = False
    assert flow.resume("r")["text"] == "fallback"
    assert calls == ["exec", "exec"]


def test_attempts_are_counted_anew_after_a_resume(path: Path) -> None:
    """A step whose attempts were used up has all of them again when the run is resumed."""
    attempts = []

    class Offline(Node):
        max_retries = 3

        def exec(self, prepared: None) -> None:
            attempts.append(context().attempt)
            raise ConnectionError

    flow: Flow[Any] = Flow(Offline(), db_path=path, run_id="r")
    with pytest.raises(ConnectionError):
        flow.run({})
    with pytest.raises(ConnectionError):
        flow.resume("r")
    assert attempts == [1, 2, 3, 1, 2, 3]


def test_a_node_without_a_journal_is_executed_again(path: Path) -> None:
    """``journal = False`` saves a commit, and its exec is called again after a bug in post."""
    chain = Chain(path, "AB")
    chain.steps["B"].journal = False
    run_id = chain.fail("B", "post")
    assert chain.flow.resume(run_id)["x"] == 2
    assert chain.log == ["B.prep", "B.exec", "B.post"]


def test_a_result_that_cannot_be_stored_is_computed_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A client or a lock as the result of exec is told once, and exec is called after a crash."""
    calls = []

    class Connect(Node):
        broken = True

        def exec(self, prepared: None) -> Any:
            calls.append("exec")
            return threading.Lock()

        def post(self, store: Store[Any], prepared: None, result: Any) -> str:
            assert hasattr(result, "acquire")
            store["rounds"] += 1
            if self.broken and store["rounds"] == 3:
                raise Bug
            return "again" if store["rounds"] < 4 else "done"

    node = Connect()
    node.then("again", node)
    flow: Flow[Any] = Flow(node, db_path=path, run_id="r")
    with pytest.raises(Bug):
        flow.run({"rounds": 0})
    warnings = [r for r in caplog.records if "result of exec of node 'Connect'" in r.getMessage()]
    assert len(warnings) == 1
    assert "computed again after a crash" in warnings[0].getMessage()
    node.broken = False
    assert flow.resume("r")["rounds"] == 4
    assert len(calls) == 5


def test_the_idempotency_key_is_the_same_after_a_resume_and_another_after_a_fork(
    path: Path,
) -> None:
    """A paid service sees one key for a call that is repeated, and a new one in another run."""
    keys: list[str] = []

    class Pay(Step):
        def exec(self, x: Any) -> Any:
            keys.append(context().idempotency_key)
            return super().exec(x)

    node = Pay("Pay", [])
    node.broken = "exec"
    flow: Flow[Any] = Flow(node, db_path=path, run_id="r")
    with pytest.raises(Bug):
        flow.run({"x": 0})
    with pytest.raises(Bug):
        flow.resume("r")
    node.broken = ""
    other = flow.fork("r")
    flow.resume("r")
    flow.resume(other)
    first, second, third, forked = keys
    assert first == second == third != forked
    assert first.rpartition("-")[2] == forked.rpartition("-")[2] == "0"
    assert len(first) >= 32


class Forks:
    """Step, fork, step, fork, step: with branches that pay."""

    def __init__(self, path: Path | None) -> None:
        self.paid: list[str] = []
        self.log: list[str] = []
        self.steps = {name: Step(name, self.log) for name in ("Before", "Between", "After")}
        self.branches = [Branch(name, self.paid) for name in ("One", "Two", "Three", "Four")]
        first = Parallel(*self.branches[:2], name="First")
        second = Parallel(*self.branches[2:], name="Second")
        self.flow: Flow[Any] = Flow(self.steps["Before"], db_path=path, run_id="r")
        self.flow.then(self.steps["Before"].when("go"), first)
        self.flow.then(first, self.steps["Between"])
        self.flow.then(self.steps["Between"].when("go"), second)
        self.flow.then(second, self.steps["After"])
        self.flow.then(self.steps["After"].when("go"), END)


class Branch(Node[None, str, str]):
    """A branch that pays; fails in post while told to."""

    broken = False

    def __init__(self, name: str, paid: list[str]) -> None:
        super().__init__(name=name)
        self.paid = paid

    def exec(self, prepared: None) -> str:
        run = context()
        self.paid.append(run.idempotency_key.removeprefix(run.token))
        return self.name

    def post(self, store: Store[Any], prepared: None, result: str) -> str:
        if self.broken:
            raise Bug(self.name)
        store[self.name] = result
        return "default"


@pytest.mark.parametrize("kept", [True, False], ids=["database", "memory"])
def test_the_steps_of_several_forks_are_numbered_in_one_line(path: Path, kept: bool) -> None:
    """Steps before, in, between and after parallel branches each have a number of their own."""
    forks = Forks(path if kept else None)
    seen: list[int] = []
    forks.flow.subscribe(
        lambda event, store: seen.append(event.step) if isinstance(event, NodeEnded) else None
    )
    forks.flow.run({"x": 0})
    assert sorted(seen) == list(range(9))
    assert sorted(forks.paid) == ["-1.0-0", "-1.1-0", "-5.0-0", "-5.1-0"]


def test_branches_have_the_same_keys_in_a_run_that_was_resumed_before(path: Path) -> None:
    """A run that fails between two forks and in the second one pays for each branch once."""
    forks = Forks(path)
    between, last = forks.steps["Between"], forks.branches[-1]
    between.broken, last.broken = "exec", True
    with pytest.raises(Bug):
        forks.flow.run({"x": 0})
    between.broken = ""
    with pytest.raises(Bug):
        forks.flow.resume("r")
    last.broken = False
    store = forks.flow.resume("r")
    assert (store["x"], store["Four"]) == (3, "Four")
    assert sorted(forks.paid) == ["-1.0-0", "-1.1-0", "-5.0-0", "-5.1-0"]


# -- what cannot go on ----------------------------------------------------------------------------


def test_a_completed_run_has_nothing_to_resume(path: Path) -> None:
    """Resuming a completed run is refused, and fork is named as the way to repeat a part of it."""
    chain = Chain(path)
    run_id = chain.flow.run_background({"x": 0})
    run_id.wait()
    with pytest.raises(ResumeError, match=r"is completed.*fork\(\)"):
        chain.flow.resume(run_id.run_id)


def test_an_unknown_run_is_named_with_its_nearest_neighbour(path: Path) -> None:
    """A misspelt run id is an error that names the database and the id that was meant."""
    chain = Chain(path, run_id="report-2024")
    chain.flow.run({"x": 0})
    for way in (chain.flow.resume, chain.flow.fork):
        with pytest.raises(RunNotFoundError, match="did you mean 'report-2024'") as caught:
            way("report-2042")
        assert str(path) in str(caught.value)


def test_a_flow_without_a_database_cannot_resume() -> None:
    """resume, recover and fork of a flow that keeps nothing say that it needs a db_path."""
    flow: Flow[Any] = Flow(Step("A", []))
    for way in (lambda: flow.resume("r"), flow.recover, lambda: flow.fork("r")):
        with pytest.raises(DefinitionError, match="db_path"):
            way()


def test_a_run_that_something_else_executes_cannot_be_resumed(path: Path) -> None:
    """A run recorded by hand has no position: the error says how to go on from its store."""
    chain = Chain(path)
    with WorkflowDB(path) as db:
        db.create_run("bare")
        db.create_run("by-hand")
        db.save_checkpoint("by-hand", 0, "A", Store({"x": 1}))
    with pytest.raises(CheckpointNotFoundError, match="bare"):
        chain.flow.resume("bare")
    with pytest.raises(ResumeError, match="resume_from=node"):
        chain.flow.resume("by-hand")


def test_two_threads_cannot_resume_one_run(path: Path) -> None:
    """While a thread runs a run, nobody else in the process resumes it."""
    chain = Chain(path)
    run_id = chain.fail("B", "exec")
    inside, wait = threading.Event(), threading.Event()

    def hold(name: str, store: Store[Any]) -> None:
        inside.set()
        wait.wait()

    chain.flow.on("node_start", hold)
    handle = chain.flow.resume_background(run_id)
    inside.wait()
    other = Chain(path)
    for flow in (chain.flow, other.flow):
        with pytest.raises(ResumeError, match="is running"):
            flow.resume(run_id)
    assert other.flow.recover() == {}
    wait.set()
    assert handle.wait()["x"] == 3
    assert other.log == []


def test_of_many_threads_that_resume_a_run_one_does(path: Path) -> None:
    """A run is claimed by exactly one of those who try at the same time."""
    chain = Chain(path, "AB")
    run_id = chain.fail("B", "exec")
    barrier, outcomes = threading.Barrier(8), list[str]()

    def attempt() -> None:
        flow = chain.flow
        barrier.wait()
        try:
            flow.resume(run_id)
        except ResumeError:
            outcomes.append("refused")
        else:
            outcomes.append("resumed")

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["resumed"]
    assert chain.log == ["B.prep", "B.exec", "B.post"]


# -- recover --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("dies")
def test_recover_finishes_the_interrupted_runs_of_the_flow(path: Path) -> None:
    """Recover resumes every run of the flow whose process is gone, and leaves all others alone."""
    chain = Chain(path)
    dead = [chain.fail("B", "exec", Died()), chain.fail("C", "post", Died())]
    failed = chain.fail("B", "exec")
    other: Flow[Any] = Flow(Step("A", []), db_path=path, flow_name="other")
    stranger = other.run_background({"x": 0})
    stranger.wait()
    with WorkflowDB(path) as db:
        assert [row_of(db, run_id)["error_type"] for run_id in dead] == ["Interrupted"] * 2
    assert chain.flow.recover() == {dead[0]: None, dead[1]: None}
    assert chain.flow.recover() == {}
    with WorkflowDB(path) as db:
        assert row_of(db, failed)["status"] == "failed"
        assert [db.load_checkpoint(run_id, 2)["x"] for run_id in dead] == [3, 3]
    assert other.recover() == {}


@pytest.mark.usefixtures("dies")
def test_recover_goes_on_after_a_run_that_fails(path: Path) -> None:
    """One run that fails again does not keep recover from the others; it returns the exception."""
    chain = Chain(path)
    dead = [chain.fail(name, "exec", Died()) for name in "BCC"]
    chain.steps["B"].broken, chain.steps["B"].error = "exec", Bug("again")
    outcomes = chain.flow.recover()
    assert list(outcomes) == dead
    assert [type(error) for error in outcomes.values()] == [Bug, type(None), type(None)]
    with WorkflowDB(path) as db:
        statuses = [row_of(db, run_id)["status"] for run_id in dead]
    assert statuses == ["failed", "completed", "completed"]


# -- values for the run that goes on --------------------------------------------------------------


def test_changes_are_set_before_the_pending_node(path: Path) -> None:
    """``changes=`` corrects the store of a failed run; the next checkpoint has them."""
    chain = Chain(path)
    run_id = chain.fail("B", "exec")
    assert chain.flow.resume(run_id, changes={"x": 10, "note": "by hand"})["x"] == 12
    with WorkflowDB(path) as db:
        assert db.load_checkpoint(run_id, 0).as_dict() == {"x": 1, "prepared": "A"}
        assert db.load_checkpoint(run_id, 1)["note"] == "by hand"


class Numbers(BaseModel):
    """The schema of a chain."""

    x: int
    prepared: str = ""


def test_changes_that_do_not_fit_the_schema_leave_the_run_as_it_was(path: Path) -> None:
    """A wrong value in ``changes=`` is refused before anything runs, and the run can go on."""
    chain = Chain(path, schema=Numbers)
    run_id = chain.fail("B", "exec")
    with pytest.raises(InvalidValueError, match="'x' expects int"):
        chain.flow.resume(run_id, changes={"x": "ten"})
    with pytest.raises(UnknownFieldError, match="'xx'"):
        chain.flow.resume(run_id, changes={"xx": 1})
    assert chain.log == []
    with WorkflowDB(path) as db:
        assert row_of(db, run_id)["status"] == "failed"
    assert chain.flow.resume(run_id, changes={"x": 10})["x"] == 12


def test_a_class_that_nobody_vouches_for_is_asked_for(path: Path) -> None:
    """A value of a class that cannot be looked up costs its key, and is read with ``types=``."""

    class Local(BaseModel):
        n: int

    chain = Chain(path)
    chain.steps["B"].broken = "exec"
    handle = chain.flow.run_background({"x": 0, "local": Local(n=1)})
    with pytest.raises(Bug):
        handle.wait()
    chain.steps["B"].broken = ""
    unknown = chain.flow.resume(chain.flow.fork(handle.run_id))
    assert unknown["x"] == 3
    with pytest.raises(UnknownClassError, match=r"key 'local'.*Local.*types="):
        unknown["local"]
    forked = chain.flow.fork(handle.run_id)
    for run_id in (handle.run_id, forked):
        store = chain.flow.resume(run_id, types=[Local])
        assert (store["x"], store["local"]) == (3, Local(n=1))


def test_a_value_that_was_not_saved_is_asked_for(path: Path) -> None:
    """Reading a key that could not be stored says so; ``changes=`` supplies it again."""

    class Use(Step):
        def prep(self, store: Store[Any]) -> Any:
            super().prep(store)
            with store["client"]:
                return store["x"]

    node, first = Use("Use", []), Step("First", [])
    first.then("go", node)
    flow: Flow[Any] = Flow(first, db_path=path, run_id="r")
    node.broken = "exec"
    with pytest.raises(Bug):
        flow.run({"x": 0, "client": threading.Lock(), "other": threading.Lock()})
    node.broken = ""
    with pytest.raises(NotSavedError, match=r"'client' was not saved.*set it again"):
        flow.resume("r")
    store = flow.resume("r", changes={"client": threading.Lock()})
    assert store["x"] == 2
    assert "other" in store.unsaved
    with WorkflowDB(path) as db:
        last = db.load_checkpoint("r", 1)
        assert set(last.unsaved) == {"client", "other"}
        with pytest.raises(NotSavedError, match="'other'"):
            last["other"]


class Session(BaseModel):
    """A typed store with a live object in a field that has a default."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    x: int
    prepared: str = ""
    client: Any = None

    @model_validator(mode="after")
    def _needs_a_client(self) -> Self:
        if self.client is None:
            raise ValueError("no client")
        return self


def test_a_default_does_not_stand_in_for_a_value_that_was_not_saved(path: Path) -> None:
    """A field that could not be stored is missing after a resume, although it has a default."""
    seen: list[object] = []

    class Look(Step):
        def post(self, store: Store[Any], x: Any, result: Any) -> str:
            seen.append(store.unsaved.keys())
            with pytest.raises(NotSavedError, match="'client' was not saved"):
                store["client"]
            with pytest.raises(IncompleteStoreError, match="'client'"):
                store.validate()
            return super().post(store, x, result)

    node = Look("Look", [])
    node.broken = "exec"
    flow: Flow[Any] = Flow(node, db_path=path, run_id="r", schema=Session)
    with pytest.raises(Bug):
        flow.run({"x": 0, "client": threading.Lock()})
    node.broken = ""
    store = flow.resume("r")
    assert seen == [{"client"}]
    store["client"] = threading.Lock()
    store.validate()


# -- a changed program ----------------------------------------------------------------------------


def warned(caplog: pytest.LogCaptureFixture) -> str:
    """What was logged as a warning."""
    return "\n".join(r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)


def test_an_unchanged_program_goes_on_without_a_word(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same code, built anew, is not reported as changed."""
    run_id = Chain(path, schema=Numbers).fail("B", "exec")
    caplog.clear()
    Chain(path, schema=Numbers).flow.resume(run_id)
    assert warned(caplog) == ""


def test_a_pending_node_that_is_gone_is_refused_and_can_be_renamed(path: Path) -> None:
    """The error names the node, the nearest one and ``rename=``; with that the run goes on."""
    run_id = Chain(path, ["Read", "Summarise", "Send"]).fail("Summarise", "exec")
    now = Chain(path, ["Read", "Summarize", "Send"])
    with pytest.raises(ResumeError) as caught:
        now.flow.resume(run_id)
    told = str(caught.value)
    assert "stands before node 'Summarise'" in told
    assert "did you mean 'Summarize'" in told
    assert "rename={'Summarise': <new name>}" in told
    assert "node 'Summarise' is gone" in told
    assert "edge 'Summarize' - 'go' -> 'Send' is new" in told
    assert now.log == []
    with pytest.raises(ResumeError, match="no node 'Send_it'"):
        now.flow.resume(run_id, rename={"Summarise": "Send_it"})
    assert now.flow.resume(run_id, rename={"Summarise": "Summarize"})["x"] == 3
    assert now.log[0] == "Summarize.prep"


def test_a_pending_node_of_another_definition_is_refused(path: Path) -> None:
    """A node of the same name made from another class is not taken for the old one."""

    class Other(Step):
        pass

    run_id = Chain(path).fail("B", "exec")
    now = Chain(path)
    log: list[str] = []
    other = Other("B", log)
    flow: Flow[Any] = Flow(now.steps["A"], db_path=path, flow_name="chain")
    flow.then(now.steps["A"].when("go"), other)
    flow.then(other.when("go"), now.steps["C"])
    with pytest.raises(
        ResumeError, match=r"'B', which was .*Step and is .*Other now.*rename=\{'B': 'B'\}"
    ):
        flow.resume(run_id)
    assert log == []
    assert flow.resume(run_id, rename={"B": "B"})["x"] == 3
    assert log == ["B.prep", "B.exec", "B.post"]


def test_changes_elsewhere_in_the_graph_are_logged(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A new edge, a new node or one that is gone elsewhere is told, and the run goes on with it."""
    run_id = Chain(path, "ABC").fail("B", "exec")
    now = Chain(path, "ABD")
    assert now.flow.resume(run_id)["x"] == 3
    assert now.log[-1] == "D.post"
    told = warned(caplog)
    assert f"run {run_id!r}: it goes on under changed code" in told
    for line in ("node 'C' is gone", "node 'D' is new", "edge 'B' - 'go' -> 'D' is new"):
        assert line in told
    with WorkflowDB(path) as db:
        graph = db.get_graph(run_id)
    assert graph is not None
    assert [node["path"] for node in graph["nodes"]] == [["A"], ["B"], ["D"]]


def test_changed_code_of_a_node_is_told_and_goes_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Mending a bug is the reason for most resumes: changed code is told, never refused."""

    def flow(body: str) -> Flow[Any]:
        source = f"class Work(Node):\n    def exec(self, prepared):\n        {body}\n"
        space: dict[str, Any] = {"Node": Node, "__name__": "program"}
        exec(compile(source, "program.py", "exec"), space)  # noqa: S102 - a program that changes
        return Flow(space["Work"](), db_path=path, run_id="r", flow_name="work")

    with pytest.raises(ZeroDivisionError):
        flow("return 1 / 0").run({})
    flow("return 1 / 1").resume("r")
    assert "code of node 'Work' changed" in warned(caplog)


class Smaller(BaseModel):
    """``Numbers`` without one of its fields."""

    x: int


class Forbidding(Smaller):
    """It says itself that nothing else may be there."""

    model_config = ConfigDict(extra="forbid")


@pytest.mark.parametrize("schema", [Smaller, Forbidding])
def test_a_field_that_is_gone_is_refused_with_its_name(path: Path, schema: type[BaseModel]) -> None:
    """A stored field that the schema no longer has is never dropped in silence."""
    run_id = Chain(path, schema=Numbers).fail("B", "exec")
    with pytest.raises(ResumeError) as caught:
        Chain(path, schema=schema).flow.resume(run_id)
    told = str(caught.value)
    assert "'prepared'" in told
    assert "field 'prepared' is gone" in told
    assert "mode='before'" in told
    with WorkflowDB(path) as db:
        assert row_of(db, run_id)["status"] == "failed"
        assert db.load_checkpoint(run_id, 0)["prepared"] == "A"


class Renamed(BaseModel):
    """``prepared`` has another name now; the old one is read."""

    x: int
    prepared_by: str = Field(default="", validation_alias="prepared")


class Computed(BaseModel):
    """``prepared`` has become a part of another field."""

    x: int
    history: list[str]

    @model_validator(mode="before")
    @classmethod
    def _from_before(cls, values: Any) -> Any:
        if "prepared" in values:
            values = {**values, "history": [values["prepared"]]}
            del values["prepared"]
        return values


@pytest.mark.parametrize(
    ("schema", "key", "value"), [(Renamed, "prepared_by", "A"), (Computed, "history", ["A"])]
)
def test_a_field_that_moved_is_migrated_by_the_model(
    path: Path, schema: type[BaseModel], key: str, value: object
) -> None:
    """An alias or a validator of the model reads a field that has another name or place now."""

    class Look(Node[None, None, str]):
        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            assert store[key] == value
            assert "prepared" not in store
            return "done"

    run_id = Chain(path, schema=Numbers).fail("B", "exec")
    flow: Flow[Any] = Flow(Look(name="B"), db_path=path, schema=schema, flow_name="chain")
    store = flow.resume(run_id, rename={"B": "B"})
    assert store[key] == value
    with WorkflowDB(path) as db:
        assert db.load_checkpoint(run_id, 1).as_dict() == {"x": 1, key: value}


def test_a_field_of_another_type_is_migrated_by_the_models_own_validator(path: Path) -> None:
    """A retyped field is refused, unless the model has a validator that reads the old values."""

    class Strict(BaseModel):
        x: list[int]
        prepared: str = ""

    class Migrating(Strict):
        @field_validator("x", mode="before")
        @classmethod
        def _from_before(cls, value: Any) -> Any:
            return [value] if type(value) is int else value

    class Grow(Node[None, None, str]):
        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            store["x"].append(5)
            return "done"

    run_id = Chain(path, schema=Numbers).fail("B", "exec")
    with pytest.raises(ResumeError) as caught:
        Chain(path, schema=Strict).flow.resume(run_id)
    assert "'x' expects list[int]" in str(caught.value)
    assert "field 'x' was int, is list[int]" in str(caught.value)
    flow: Flow[Any] = Flow(Grow(name="B"), db_path=path, schema=Migrating, flow_name="chain")
    assert flow.resume(run_id, rename={"B": "B"})["x"] == [1, 5]
    with WorkflowDB(path) as db:
        assert db.load_checkpoint(run_id, 1)["x"] == [1, 5]


def test_a_new_field_with_a_default_is_there_after_a_resume(path: Path) -> None:
    """A field that was added with a default needs no migration."""

    class Now(Numbers):
        tags: list[str] = Field(default_factory=lambda: ["new"])

    run_id = Chain(path, schema=Numbers).fail("B", "exec")
    store = Chain(path, schema=Now).flow.resume(run_id)
    assert store["tags"] == ["new"]
    with WorkflowDB(path) as db:
        assert db.load_checkpoint(run_id, 1)["tags"] == ["new"]


# -- fork -----------------------------------------------------------------------------------------


def test_a_fork_starts_from_any_step_of_a_run(path: Path) -> None:
    """From every checkpoint, the initial store included, a fork ends as its parent did."""
    chain = Chain(path, run_id="parent")
    chain.flow.run({"x": 0})
    chain.flow.run_id = None
    for step, first in ((-1, "A"), (0, "B"), (1, "C")):
        run_id = chain.flow.fork("parent", step)
        with WorkflowDB(path) as db:
            run = row_of(db, run_id)
            assert (run["status"], run["current_node"]) == ("queued", first)
            assert (run["parent_run_id"], run["parent_step"]) == ("parent", step)
            assert run["flow_name"] == "chain"
        chain.log.clear()
        assert chain.flow.resume(run_id)["x"] == 3
        assert chain.log[0] == f"{first}.prep"
        with WorkflowDB(path) as db:
            assert [c["step"] for c in db.get_checkpoints(run_id)] == list(range(2 - step))


def test_a_fork_changes_nothing_of_its_parent(path: Path) -> None:
    """A fork with other values has its own history; the parent's is as it was."""
    chain = Chain(path, run_id="parent")
    chain.flow.run({"x": 0, "box": [1]})
    with WorkflowDB(path) as db:
        before = (row_of(db, "parent"), kinds(db, "parent"))
    run_id = chain.flow.fork("parent", 0, {"x": 100})
    assert chain.flow.resume(run_id)["x"] == 102
    with WorkflowDB(path) as db:
        assert (row_of(db, "parent"), kinds(db, "parent")) == before
        assert [db.load_checkpoint("parent", step)["x"] for step in range(3)] == [1, 2, 3]
        assert [db.load_checkpoint(run_id, step)["x"] for step in range(-1, 2)] == [100, 101, 102]


def test_a_fork_of_a_failed_run_starts_where_that_stands(path: Path) -> None:
    """Without a step, a fork begins at the last checkpoint; exec is called, the key is new."""
    chain = Chain(path)
    parent = chain.fail("B", "post")
    run_id = chain.flow.fork(parent)
    assert chain.flow.resume(run_id)["x"] == 3
    assert chain.log[:2] == ["B.prep", "B.exec"]
    assert chain.flow.resume(parent)["x"] == 3


def test_a_fork_can_be_forked(path: Path) -> None:
    """Each fork records its own parent, so that their tree can be followed."""
    chain = Chain(path, run_id="root")
    chain.flow.run({"x": 0})
    child = chain.flow.fork("root", 0)
    grandchild = chain.flow.fork(child, changes={"x": 5})
    assert chain.flow.resume(grandchild)["x"] == 7
    with WorkflowDB(path) as db:
        assert row_of(db, grandchild)["parent_run_id"] == child
        assert row_of(db, child)["parent_run_id"] == "root"


def test_there_is_nothing_to_fork_after_the_last_step(path: Path) -> None:
    """A fork from a step after which no node comes, or that is not there, is refused."""
    chain = Chain(path, run_id="r")
    chain.flow.run({"x": 0})
    with pytest.raises(ResumeError, match="ends with step 2"):
        chain.flow.fork("r")
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint of step 7"):
        chain.flow.fork("r", 7)


def test_a_fork_with_values_that_do_not_fit_makes_no_run(path: Path) -> None:
    """Changes are checked against the schema before there is a new run."""
    chain = Chain(path, schema=Numbers, run_id="r")
    chain.flow.run({"x": 0})
    with pytest.raises(InvalidValueError, match="'x' expects int"):
        chain.flow.fork("r", 0, {"x": "ten"})
    with WorkflowDB(path) as db:
        assert len(db.list_runs()) == 1


# -- changes in place -----------------------------------------------------------------------------


class Item(BaseModel):
    """A model inside a store."""

    tags: list[str] = []
    n: int = 0


class Basket(BaseModel):
    """A typed store whose values can be changed in place."""

    numbers: list[int] = []
    table: dict[str, dict[str, list[int]]] = {}
    item: Item = Item()
    flag: dict[str, bool | int] = {}


Change = Callable[[Store[Any]], object]

CHANGES: dict[str, Change] = {
    "append": lambda store: store["numbers"].append(4),
    "replace": lambda store: setitem(store["numbers"], 0, 7),
    "nested": lambda store: store["table"]["a"]["b"].append(2),
    "list of a model": lambda store: store["item"].tags.append("new"),
    "field of a model": lambda store: setattr(store["item"], "n", 9),
    "1 to True": lambda store: setitem(store["flag"], "on", True),
    "delete": lambda store: store["table"]["a"].clear(),
}


class Mutate(Node[None, None, str]):
    """Changes values in place: in prep, in post, or later through an alias."""

    def __init__(self, change: Change, where: str = "post") -> None:
        super().__init__(name=f"Mutate in {where}")
        self.change = change
        self.where = where

    def prep(self, store: Store[Any]) -> None:
        if self.where == "prep":
            self.change(store)

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        if self.where == "post":
            self.change(store)
        return "go"


def basket() -> dict[str, Any]:
    """What a typed store begins with."""
    return {
        "numbers": [1, 2, 3],
        "table": {"a": {"b": [1]}},
        "item": Item(tags=["old"]),
        "flag": {"on": 1},
    }


@pytest.mark.parametrize("schema", [None, Basket])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_in_place_is_in_the_next_checkpoint(
    path: Path, change: str, schema: type[BaseModel] | None
) -> None:
    """However deep it is and whether it was assigned or not: what changed is stored."""
    changed, idle = Mutate(CHANGES[change]), Mutate(lambda store: None, "prep")
    idle.then("go", changed)
    flow: Flow[Any] = Flow(idle, db_path=path, run_id="r", schema=schema)
    live = flow.run(basket())
    with WorkflowDB(path) as db:
        first = db.load_checkpoint("r", 0, types=[Item])
        second = db.load_checkpoint("r", 1, types=[Item])
    assert first.as_dict() == basket()
    assert repr(second.as_dict()) == repr(live.as_dict())
    assert repr(second.as_dict()) != repr(first.as_dict())


def test_a_change_through_an_alias_is_in_the_next_checkpoint_that_looks(path: Path) -> None:
    """A list that a node keeps, and changes in a later step, is found when its key is touched."""

    class Keep(Node[None, None, str]):
        kept: list[int]

        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            if store["round"] == 0:
                self.kept = store["numbers"]
            else:
                self.kept.append(store["round"])
            if store["round"] == 2:
                store["numbers"]
            store["round"] += 1
            return "again" if store["round"] < 5 else "done"

    node = Keep()
    node.then("again", node)
    Flow(node, db_path=path, run_id="r").run({"numbers": [], "round": 0})
    with WorkflowDB(path) as db:
        found = [db.load_checkpoint("r", step)["numbers"] for step in range(5)]
    assert found == [[], [], [1, 2], [1, 2], [1, 2, 3, 4]]


SPOILERS: dict[str, Change] = {
    "numbers": lambda store: store["numbers"].append("four"),
    "table": lambda store: store["table"]["a"]["b"].append(None),
    "item": lambda store: setattr(store["item"], "n", "nine"),
}


@pytest.mark.parametrize("kept", [True, False], ids=["database", "memory"])
@pytest.mark.parametrize("key", SPOILERS)
def test_a_change_in_place_is_checked_at_the_end_of_the_step(
    path: Path, key: str, kept: bool
) -> None:
    """With and without a database, a value changed into something that does not fit is an error."""
    node, successor = Mutate(SPOILERS[key]), Mutate(lambda store: None, "prep")
    node.then("go", successor)
    flow: Flow[Any] = Flow(
        node, db_path=path if kept else None, run_id="r", schema=Basket, flow_name="spoil"
    )
    failures = []
    flow.on("node_error", lambda name, exc, store: failures.append(name))
    with pytest.raises(InvalidValueError, match=f"'{key}'"):
        flow.run(basket())
    assert failures == ["Mutate in post"]
    if kept:
        with WorkflowDB(path) as db:
            assert row_of(db, "r")["status"] == "failed"
            assert db.get_checkpoints("r") == []
            assert db.load_checkpoint("r", -1, types=[Item]).as_dict() == basket()


def test_a_spoilt_step_can_be_mended_and_resumed(path: Path) -> None:
    """A step whose values did not fit has not happened; after the fix the run goes on with it."""
    node = Mutate(SPOILERS["numbers"])
    flow: Flow[Any] = Flow(node, db_path=path, run_id="r", schema=Basket)
    with pytest.raises(InvalidValueError):
        flow.run(basket())
    node.change = CHANGES["append"]
    assert flow.resume("r")["numbers"] == [1, 2, 3, 4]
