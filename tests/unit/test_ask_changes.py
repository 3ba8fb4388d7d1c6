"""Questions and what may come between: cancellation, Ctrl-C, other code, other processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, FutureDatetime, computed_field

from pocoflow import (
    END,
    AskNode,
    FanOut,
    Flow,
    Node,
    Parallel,
    Question,
    RunPaused,
    Store,
    WorkflowDB,
    fields,
    key,
    node,
)
from pocoflow.db import clock
from pocoflow.db.recorder import RunRecorder
from pocoflow.errors import (
    AnsweredError,
    AnswerError,
    DatabaseFileError,
    DefinitionError,
    NotSavedError,
    ResumeError,
    RunCancelled,
)
from pocoflow.node import BatchNode
from pocoflow.reducers import append
from tests.unit.clocks import set_clock


class State(BaseModel):
    """What the flows here work on."""

    items: list[str] = ["x", "y"]
    item: str = ""
    ok: bool = False
    log: Annotated[list[str], append] = []


S = fields(State)


@node(writes=S.ok)
def ask() -> Question[bool]:
    """Ask for a yes or a no."""
    return Question("Well?")


@node(writes=S.ok)
def soon() -> Question[bool]:
    """Ask, and take silence for a no."""
    return Question("Well?", deadline=1e-6, default=False)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[WorkflowDB]:
    """The database of a test."""
    with WorkflowDB(tmp_path / "runs.db") as opened:
        yield opened


def paused(flow: Flow[Any]) -> str:
    """Run a flow until it pauses; the run's id."""
    with pytest.raises(RunPaused) as stopped:
        flow.run({})
    return stopped.value.run_id


def status(db: WorkflowDB, run_id: str) -> object:
    """How a run reads."""
    return db.handle(run_id).status


def before(
    monkeypatch: pytest.MonkeyPatch, name: str, what: Callable[[RunRecorder], object]
) -> None:
    """Let something happen before a recorder does what it is called for, once."""
    method = getattr(RunRecorder, name)

    def both(self: RunRecorder, *arguments: Any) -> Any:
        monkeypatch.setattr(RunRecorder, name, method)
        what(self)
        return method(self, *arguments)

    monkeypatch.setattr(RunRecorder, name, both)


class AskAlways(AskNode[str, str]):
    """Asks for a word."""

    def exec(self, prepared: Any) -> Question[str]:
        """Ask."""
        return Question("Well?")


# -- somebody stops it ------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["handle", "database"])
def test_a_run_that_is_cancelled_while_it_asks_does_not_wait(by: str, db: WorkflowDB) -> None:
    """A cancellation that comes before the pause ends the run, as ``request_cancel`` promised."""
    begun, go = threading.Event(), threading.Event()

    class Ask(AskNode[bool, str]):
        def exec(self, prepared: Any) -> Question[bool]:
            begun.set()
            go.wait()
            return Question("Well?")

    handle = Flow(Ask(), db_path=db).run_background({})
    begun.wait()
    if by == "handle":
        handle.cancel()
    else:
        assert db.request_cancel(handle.run_id)
    go.set()
    with pytest.raises(RunCancelled):
        handle.wait()
    assert (handle.status, db.pending()) == ("cancelled", [])


def test_a_cancellation_in_the_instant_of_a_resume_counts(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paused run that is cancelled after it was claimed does not go on."""
    flow: Flow[State] = Flow(ask, schema=State, db_path=db)
    run_id = paused(flow)
    flow.answer(run_id, ask.reply(True))
    before(monkeypatch, "resume", lambda recorder: db.request_cancel(run_id))
    with pytest.raises(ResumeError, match="was cancelled in this instant"):
        flow.resume(run_id)
    assert status(db, run_id) == "cancelled"
    assert flow.resume(run_id)["ok"] is True


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_ctrl_c_behind_the_pause_changes_nothing(
    is_resumed: bool, db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends a process after its run is paused is not written over it, or over who goes on."""
    flow: Flow[State] = Flow(ask, schema=State, db_path=db, run_id="r")
    pause = RunRecorder.pause

    def interrupted(self: RunRecorder, name: str) -> Any:
        monkeypatch.setattr(RunRecorder, "pause", pause)
        pause(self, name)
        if is_resumed:
            self.other = RunRecorder(db, "r")  # type: ignore[attr-defined]
            self.other.claim()  # type: ignore[attr-defined]
            db.update_run("r", status="running")
        raise KeyboardInterrupt

    monkeypatch.setattr(RunRecorder, "pause", interrupted)
    with pytest.raises(KeyboardInterrupt):
        flow.run({})
    assert status(db, "r") == ("running" if is_resumed else "paused")


def test_an_answer_in_the_last_instant_counts(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A default does not take the place of an answer that was given meanwhile, nor does it fail."""
    flow: Flow[State] = Flow(soon, schema=State, db_path=db)
    run_id = paused(flow)

    def answer(recorder: RunRecorder) -> None:
        with db.connection.transaction() as raw:
            raw.execute("UPDATE pf_questions SET answer = 'true'")

    before(monkeypatch, "apply_defaults", answer)
    assert flow.resume(run_id)["ok"] is True


def test_a_deadline_in_the_instant_of_a_resume_is_looked_at_once(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question in time when the resume began waits on; the next one takes its default."""

    @node(writes=S.ok)
    def hour() -> Question[bool]:
        return Question("Well?", deadline=3600, default=True)

    flow: Flow[State] = Flow(hour, schema=State, db_path=db)
    run_id = paused(flow)
    tomorrow = clock.later(clock.utc_now(), 86400)

    def pass_time(self: object) -> None:
        set_clock(monkeypatch, tomorrow)

    before(monkeypatch, "apply_defaults", pass_time)
    with pytest.raises(RunPaused):
        flow.resume(run_id)
    assert flow.recover() == {run_id: None}
    assert db.load_checkpoint(run_id, 0)["ok"] is True


# -- recover ----------------------------------------------------------------------------------


def test_recover_leaves_a_run_alone_that_has_nothing_new(db: WorkflowDB) -> None:
    """With one of two answers, a run is resumed once, not by every call of ``recover``."""
    calls: list[str] = []

    class Check(BatchNode[str, str]):
        on_error = "collect"

        def prep(self, store: Store[Any]) -> list[str]:
            return ["a", "b", "fails"]

        def exec(self, item: str) -> Any:
            calls.append(item)
            if item == "fails":
                raise ValueError(item)
            return Question(item)

        def post(self, store: Store[Any], items: object, results: list[Any]) -> str:
            store["results"] = [str(one) for one in results]
            return "default"

    flow: Flow[Any] = Flow(Check(), db_path=db)
    run_id = paused(flow)
    first, second = (one.question for one in db.pending())
    flow.answer_json(run_id, "A", question=first)
    assert [type(one) for one in flow.recover().values()] == [RunPaused]
    assert flow.recover() == {}
    flow.answer_json(run_id, "B", question=second)
    assert flow.recover() == {run_id: None}
    assert db.load_checkpoint(run_id, 0)["results"] == ["A", "B", "fails"]
    assert calls.count("a") == calls.count("b") == 1


def test_recover_leaves_out_what_somebody_else_has_finished(
    db: WorkflowDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two workers, the slower one does not report a failure where the other one was faster."""
    flow: Flow[State] = Flow(ask, schema=State, db_path=db)
    run_id = paused(flow)
    flow.answer(run_id, ask.reply(True))
    flow.resume(run_id)
    monkeypatch.setattr(WorkflowDB, "runs_to_recover", lambda *names: [run_id])
    assert flow.recover() == {}


# -- answers ----------------------------------------------------------------------------------


class Aliased(BaseModel):
    """Called otherwise in JSON than in Python."""

    verdict: str = Field(alias="Verdict")


class Computed(BaseModel):
    """With a field that nobody may give."""

    model_config = ConfigDict(extra="forbid")
    verdict: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        """Made from the other one."""
        return len(self.verdict)


@pytest.mark.parametrize(
    ("kind", "value", "answer"),
    [
        (Aliased, {"Verdict": "good"}, Aliased(Verdict="good")),
        (Computed, {"verdict": "good"}, Computed(verdict="good")),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_model_is_read_back_as_it_was_answered(
    kind: Any, value: object, answer: Any, as_json: bool, db: WorkflowDB
) -> None:
    """Aliases and computed fields do not make an answer that was taken one that cannot be read."""

    class Ask(AskNode[kind, str]):
        def exec(self, prepared: Any) -> Any:
            return Question("Well?")

        def post(self, store: Store[Any], prepared: object, answer: Any) -> str:
            assert isinstance(answer, kind)
            store["verdict"] = answer.verdict
            return "default"

    judge = Ask()
    flow: Flow[Any] = Flow(judge, db_path=db)
    run_id = paused(flow)
    if as_json:
        flow.answer_json(run_id, value)
    else:
        flow.answer(run_id, judge.reply(answer))
    assert flow.resume(run_id)["verdict"] == "good"


def test_a_default_of_the_wrong_type_is_named(db: WorkflowDB) -> None:
    """A default that does not fit the answer says that it is one, and of which node."""

    @node(writes=S.ok)
    def wrong() -> Question[bool]:
        unfit: Any = "no"
        return Question("Well?", deadline=60, default=unfit)

    with pytest.raises(DefinitionError, match="node 'wrong': the default of its question"):
        Flow(wrong, schema=State, db_path=db).run({})


def test_a_question_may_name_its_type_and_is_not_derived_from() -> None:
    """``Question[bool](...)`` is one; a class derived from it would not be taken for a question."""
    assert Question[bool]("Well?") == Question("Well?")
    with pytest.raises(DefinitionError, match="cannot be derived from"):
        type("Own", (Question,), {})


class Report(BaseModel):
    """An answer that is more than JSON."""

    verdict: Literal["good", "bad"]


@pytest.mark.parametrize("kind", ["Parallel", "FanOut"])
def test_a_branch_that_begins_with_a_nested_flow_gets_its_typed_answer(
    kind: str, db: WorkflowDB
) -> None:
    """The answer is of the type that the node inside asks for, not what JSON makes of it."""

    class Ask(AskNode[Report, str]):
        def exec(self, prepared: Any) -> Question[Report]:
            return Question("Well?")

        def post(self, store: Store[Any], prepared: object, answer: Report) -> str:
            store.reduce("log", answer.verdict)
            return "default"

    judge = Ask()
    branch = Flow(Flow(judge, flow_name="inner"), flow_name="branch")
    fork = Parallel(branch) if kind == "Parallel" else FanOut(branch, each=S.items, as_=S.item)
    flow: Flow[State] = Flow(fork, schema=State, db_path=db)
    run_id = paused(flow)
    for one in db.pending():
        flow.answer(run_id, judge.reply(Report(verdict="good")), question=one.question)
    assert set(flow.resume(run_id)["log"]) == {"good"}


# -- other code -------------------------------------------------------------------------------


def test_a_renamed_node_says_how_its_question_is_answered(db: WorkflowDB) -> None:
    """By the database, which needs no code; then the run goes on under the new name."""
    run_id = paused(Flow(ask, schema=State, db_path=db, flow_name="f"))

    @node(writes=S.ok, name="confirm")
    def confirm() -> Question[bool]:
        return Question("Well?")

    flow: Flow[State] = Flow(confirm, schema=State, db_path=db, flow_name="f")
    said = r"ask: 'Well\?'.*WorkflowDB\.answer_json.*rename="
    with pytest.raises(AnswerError, match=said):
        flow.answer(run_id, confirm.reply(True))
    with pytest.raises(AnswerError, match=said):
        flow.answer_json(run_id, True)
    db.answer_json(run_id, True)
    assert flow.resume(run_id, rename={"ask": "confirm"})["ok"] is True


def test_a_reply_of_another_node_of_the_name_is_told_so(db: WorkflowDB) -> None:
    """A flow that is built anew has nodes of its own; those of another one have asked nothing."""

    class Ask(AskNode[bool, str]):
        def exec(self, prepared: Any) -> Question[bool]:
            return Question("Well?")

    run_id = paused(Flow(Ask(), db_path=db))
    with pytest.raises(AnswerError, match="'Ask' that is not in this flow"):
        Flow(Ask(), db_path=db).answer(run_id, Ask().reply(True))


@pytest.mark.parametrize("as_json", [True, False])
def test_an_answer_that_the_node_cannot_take_is_replaced(as_json: bool, db: WorkflowDB) -> None:
    """The code asks for another type now: a resume says so, and a right answer can be given."""

    def asking(kind: Any) -> Any:
        @node(writes=key("ok"), name="ask")
        def asks() -> Question[kind]:
            return Question("Well?")

        return asks

    first, second = asking(bool), asking(str)
    flow: Flow[Any] = Flow(first, db_path=db, flow_name="f")
    run_id = paused(flow)
    flow.answer(run_id, first.reply(True))
    changed: Flow[Any] = Flow(second, db_path=db, flow_name="f")
    with pytest.raises(ResumeError, match=r"true is not a str.*take another one in its place"):
        changed.resume(run_id)
    with pytest.raises(AnsweredError):
        flow.answer(run_id, first.reply(False))
    if as_json:
        changed.answer_json(run_id, "yes")
    else:
        changed.answer(run_id, second.reply("yes"))
    with pytest.raises(AnsweredError):
        changed.answer_json(run_id, "no")
    assert changed.resume(run_id)["ok"] == "yes"


def test_an_answer_that_only_the_schema_allows_is_replaced(db: WorkflowDB) -> None:
    """A JSON schema does not tell the past from the future; the flow that goes on does."""

    @node(writes=key("when"))
    def ask_when() -> Question[FutureDatetime]:
        return Question("When?")

    flow: Flow[Any] = Flow(ask_when, db_path=db)
    run_id = paused(flow)
    db.answer_json(run_id, "1999-01-02T03:04:05Z")
    with pytest.raises(ResumeError, match="should be in the future"):
        flow.resume(run_id)
    flow.answer_json(run_id, "2999-01-02T03:04:05Z")
    assert flow.resume(run_id)["when"] == datetime(2999, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("was_batch", [True, False])
def test_items_are_not_taken_for_a_single_result(was_batch: bool, db: WorkflowDB) -> None:
    """A node that asked for each item and is no batch now, or the other way, cannot go on."""

    class Items(BatchNode[str, str]):
        def prep(self, store: Store[Any]) -> list[str]:
            return ["a"]

        def exec(self, item: str) -> Any:
            return Question(item)

    class One(AskNode[str, str]):
        def exec(self, prepared: Any) -> Any:
            return Question("one")

    old, new = (Items, One) if was_batch else (One, Items)
    run_id = paused(Flow(old(name="n"), db_path=db, flow_name="f"))
    changed: Flow[Any] = Flow(new(name="n"), db_path=db, flow_name="f")
    with pytest.raises(ResumeError, match=r"several items.*fork\(\)"):
        changed.resume(run_id, rename={"n": "n"})


def test_what_prep_returned_is_known_by_its_annotation(db: WorkflowDB) -> None:
    """A class that only ``prep`` names is found, also where the schema does not know it."""

    def build() -> tuple[Any, Flow[Any]]:
        class Local(BaseModel):
            number: int

        class Ask(Node[Local, str, str]):
            def prep(self, store: Store[Any]) -> Local:
                return Local(number=3)

            def exec(self, prepared: Local) -> Any:
                return Question("Well?")

            def post(self, store: Store[Any], prepared: Local, answer: str) -> str:
                assert isinstance(prepared, Local)
                store["answer"] = f"{answer} {prepared.number}"
                return "default"

        return Local, Flow(Ask(name="ask"), db_path=db, flow_name="f")

    run_id = paused(build()[1])
    _, flow = build()
    flow.answer_json(run_id, "yes")
    assert flow.resume(run_id)["answer"] == "yes 3"


def test_a_live_value_that_prep_set_is_missed_by_name(db: WorkflowDB) -> None:
    """A resume says of it that it was not saved, not that nobody has set it."""

    class Ask(AskNode[bool, str]):
        def prep(self, store: Store[Any]) -> Question[bool]:
            store["lock"] = threading.Lock()
            return Question("Well?")

        def post(self, store: Store[Any], question: object, answer: bool) -> str:
            return str(store["lock"])

    asks = Ask()
    flow: Flow[Any] = Flow(asks, db_path=db)
    run_id = paused(flow)
    flow.answer(run_id, asks.reply(True))
    with pytest.raises(NotSavedError, match="'lock' was not saved"):
        flow.resume(run_id)


def test_a_live_value_of_a_branch_is_missed_by_name(db: WorkflowDB) -> None:
    """What a branch set before another one asked is merged, or known as not saved."""

    class Set(Node):
        def post(self, store: Store[Any], prepared: Any, result: Any) -> None:
            store["lock"], store["plain"] = threading.Lock(), 1

    class Use(Node):
        def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
            return str(store["lock"])

    fork = Parallel(Set(), AskAlways(), name="fork")
    flow: Flow[Any] = Flow(fork, db_path=db)
    flow.then(fork, Use())
    run_id = paused(flow)
    flow.answer_json(run_id, "yes")
    with pytest.raises(NotSavedError, match="'lock' was not saved"):
        flow.resume(run_id)
    assert db.load_checkpoint(run_id, 2)["plain"] == 1


def test_questions_of_branches_that_are_given_up_are_closed(db: WorkflowDB) -> None:
    """A resume whose node fails before its branches go on, and is caught, leaves none open."""
    broken: list[bool] = []

    class Ask(AskNode[str, str]):
        def exec(self, prepared: Any) -> Question[str]:
            return Question("Well?")

        def post(self, store: Store[Any], prepared: object, answer: str) -> str:
            store.reduce("log", answer)
            return "default"

    class Fragile(FanOut):
        def prep(self, store: Store[Any], /) -> Any:
            if broken:
                raise ValueError("no items")
            return super().prep(store)

    first = Fragile(Ask(), each=S.items, as_=S.item, name="first")
    second = FanOut(Ask(), each=S.items, as_=S.item, name="second")
    flow: Flow[State] = Flow(first, schema=State, db_path=db)
    flow.then(first, END).then(first.catch(ValueError), second)
    run_id = paused(flow)
    flow.answer_json(run_id, "of the first", question=db.pending()[0].question)
    broken.append(True)
    with pytest.raises(RunPaused):
        flow.resume(run_id)
    assert {one.path[0][:6] for one in db.pending()} == {"second"}
    for one in db.pending():
        flow.answer_json(run_id, "of the second", question=one.question)
    assert flow.resume(run_id)["log"] == ["of the second"] * 2


def test_a_file_of_an_unpublished_layout_is_refused_in_words(tmp_path: Path) -> None:
    """A file of a layout that was never released is named, instead of an error of SQLite."""
    path = tmp_path / "old.db"
    with WorkflowDB(path) as db, db.connection.transaction() as raw:
        raw.execute("PRAGMA user_version = 1")
    for read_only in (False, True):
        with pytest.raises(DatabaseFileError, match="never published"):
            WorkflowDB(path, read_only=read_only)


def test_an_answer_before_the_pause_is_told(db: WorkflowDB) -> None:
    """A run that pauses although all is answered by now says that a resume is all it needs."""
    asked, go = threading.Event(), threading.Event()

    class Work(Node):
        def exec(self, prepared: Any) -> None:
            go.wait()

    flow: Flow[Any] = Flow(Parallel(AskAlways(), Work(), name="fork"), db_path=db)
    flow.on("node_ask", lambda name, question, store: asked.set())
    handle = flow.run_background({})
    asked.wait()
    flow.answer_json(handle.run_id, "yes")
    go.set()
    with pytest.raises(RunPaused, match=r"paused: all is answered by now; flow\.resume") as paused:
        handle.wait()
    assert paused.value.questions == ()
    assert flow.recover() == {handle.run_id: None}
