"""A person in the loop: questions, answers, and going on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy
import pytest
from pydantic import BaseModel, Field, field_validator

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
from pocoflow.errors import (
    AnsweredError,
    AnswerError,
    DefinitionError,
    FlowValidationError,
    QuestionExpiredError,
    ResumeError,
    RunError,
)
from pocoflow.events import FlowPaused, NodeAsked
from pocoflow.failure import Failure
from pocoflow.node import BatchNode
from pocoflow.reducers import append
from tests.rows import row_of
from tests.unit.clocks import set_clock

calls: list[str] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    """Forget what was called before."""
    calls.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database of a test."""
    return tmp_path / "runs.db"


class Review(BaseModel):
    """What a person says of a draft."""

    verdict: Literal["good", "bad"]
    comment: str = Field(default="", max_length=20)

    @field_validator("comment")
    @classmethod
    def polite(cls, comment: str) -> str:
        """Refuse what a JSON schema cannot."""
        if "damn" in comment:
            raise ValueError("mind your language")
        return comment


class State(BaseModel):
    """What the flows here work on."""

    topic: str = "cats"
    draft: str = ""
    approved: bool = False
    review: Review | None = None
    items: list[str] = []
    verdicts: list[bool] = []
    failure: Failure | None = None
    log: Annotated[list[str], append] = []


S = fields(State)


@node(writes=S.draft)
def write(topic: str) -> str:
    """Write a draft, which costs something."""
    calls.append("write")
    return f"about {topic}"


@node(writes=S.approved)
def approve(draft: str) -> Question[bool]:
    """Ask whether a draft is good."""
    calls.append("approve")
    return Question("Publish?", {"draft": draft})


@node
def publish(approved: bool) -> None:
    """The end."""
    calls.append("publish" if approved else "drop")


def approval(path: Path, **settings: Any) -> Flow[State]:
    """A draft, a question, the end."""
    flow: Flow[State] = Flow(write, schema=State, db_path=path, **settings)
    return flow.then(write, approve).then(approve, publish)


def pause(flow: Flow[Any], given: Any = None, **settings: Any) -> RunPaused:
    """Run a flow until it pauses."""
    with pytest.raises(RunPaused) as paused:
        flow.run({} if given is None else given, **settings)
    return paused.value


# -- the way of a question --------------------------------------------------------------------


def test_an_answer_is_the_result_of_exec(path: Path) -> None:
    """The run pauses, the answer is given, a resume goes on behind it; nothing runs twice."""
    flow = approval(path)
    paused = pause(flow)
    assert (paused.questions, calls) == ((1,), ["write", "approve"])
    with WorkflowDB(path) as db:
        (asked,) = db.pending()
        row = row_of(db, paused.run_id)
        assert (row["status"], row["current_node"], row["total_steps"]) == ("paused", "approve", 1)
    assert (asked.text, asked.context, asked.node) == (
        "Publish?",
        {"draft": "about cats"},
        "approve",
    )
    assert asked.schema == {"type": "boolean"}
    assert flow.answer(paused.run_id, approve.reply(True, by="ann")) == []
    assert flow.resume(paused.run_id)["approved"] is True
    assert calls == ["write", "approve", "publish"]


def test_another_process_answers_and_goes_on(path: Path) -> None:
    """Whatever opens the file can answer, and a new flow object can go on."""
    paused = pause(approval(path))
    with WorkflowDB(path) as other:
        assert other.answer_json(paused.run_id, False) == []
    approval(path).resume(paused.run_id)
    assert calls == ["write", "approve", "drop"]


@pytest.mark.parametrize("driver", ["run_async", "run_background", "stream", "stream_async"])
def test_every_way_to_run_pauses(driver: str, path: Path) -> None:
    """However a run is driven, it pauses, its caller is told, and it can go on."""
    flow = approval(path, run_id="r")

    async def streamed() -> None:
        async for _ in flow.stream_async({}):
            pass

    ways: dict[str, Callable[[], object]] = {
        "run_async": lambda: asyncio.run(flow.run_async({})),
        "run_background": lambda: flow.run_background({}).wait(),
        "stream": lambda: list(flow.stream({})),
        "stream_async": lambda: asyncio.run(streamed()),
    }
    with pytest.raises(RunPaused):
        ways[driver]()
    with WorkflowDB(path) as db:
        assert db.handle("r").status == "paused"
    flow.answer("r", approve.reply(True))
    assert asyncio.run(flow.resume_async("r"))["approved"] is True


def test_a_long_question_is_cut_where_it_is_told_in_a_line(path: Path) -> None:
    """It ends with dots, so that nobody takes the beginning for all of it."""

    @node(writes=key("price"))
    def price() -> Question[float]:
        return Question("What does it cost, " + "in francs, " * 20)

    with pytest.raises(RunPaused, match=r"What does it cost, .*\.\.\.\); flow"):
        Flow(price, db_path=path).run({})


def test_a_handle_of_a_paused_run(path: Path) -> None:
    """Its status is paused, and cancel ends the run although no process runs it."""
    handle = approval(path).run_background({})
    with pytest.raises(RunPaused):
        handle.wait()
    assert handle.status == "paused"
    handle.cancel()
    assert str(handle.status) == "cancelled"


def test_resume_without_an_answer_waits_on(path: Path) -> None:
    """A resume that finds no answer pauses again at once: the same question, nothing is run."""
    flow = approval(path)
    paused = pause(flow)
    with pytest.raises(RunPaused) as again:
        flow.resume(paused.run_id)
    assert again.value.questions == paused.questions
    assert calls == ["write", "approve"]


def test_prep_of_a_node_that_asks_runs_once(path: Path) -> None:
    """What ``prep`` returned and what it wrote to the store is kept with the question."""

    class Approve(AskNode[bool, Literal["yes", "no"]]):
        def prep(self, store: Store[State]) -> Question[bool]:
            calls.append("prep")
            store["topic"] = "dogs"
            store.reduce("log", "asked")
            return Question("Sure?", {"topic": "dogs"})

        def post(
            self, store: Store[State], question: Question[bool], answer: bool
        ) -> Literal["yes", "no"]:
            calls.append(f"{question.text} {answer}")
            return "yes" if answer else "no"

    ask = Approve()
    flow: Flow[State] = Flow(ask, schema=State, db_path=path)
    flow.then(ask.when("yes"), publish).then(ask.when("no"), END)
    paused = pause(flow)
    flow.answer(paused.run_id, ask.reply(True))
    store = flow.resume(paused.run_id)
    assert calls == ["prep", "Sure? True", "drop"]
    assert (store["topic"], store["log"]) == ("dogs", ["asked"])
    with WorkflowDB(path) as db:
        assert db.load_checkpoint(paused.run_id, 0, schema=State)["topic"] == "dogs"


def test_a_question_is_asked_only_where_it_is_needed(path: Path) -> None:
    """A function, or a class, that returns an answer itself is not paused."""

    @node(writes=S.approved)
    async def check(topic: str) -> bool | Question[bool]:
        return True if topic == "cats" else Question("Really?")

    flow: Flow[State] = Flow(check, schema=State, db_path=path)
    assert flow.run({})["approved"] is True
    paused = pause(flow, {"topic": "war"})
    flow.answer(paused.run_id, check.reply(False))
    assert flow.resume(paused.run_id)["approved"] is False


def test_work_before_the_question_is_not_repeated(path: Path) -> None:
    """``exec`` may do work, pay for it, and then ask; the answer is its result."""

    class Call(AskNode[str, str]):
        def prep(self, store: Store[State]) -> str:
            return str(store["topic"])

        def exec(self, topic: str) -> str | Question[str]:
            calls.append("paid")
            return Question(f"What about {topic}?")

        def post(self, store: Store[State], topic: str, answer: str) -> str:
            store["draft"] = f"{topic}: {answer}"
            return "default"

    call = Call()
    flow: Flow[State] = Flow(call, schema=State, db_path=path)
    paused = pause(flow)
    flow.answer(paused.run_id, call.reply("nice"))
    assert flow.resume(paused.run_id)["draft"] == "cats: nice"
    assert calls == ["paid"]


@pytest.mark.parametrize("phase", ["prep", "exec"])
def test_what_is_no_question_is_an_answer_only_if_it_fits(phase: str, path: Path) -> None:
    """A text that was to be asked does not answer itself, and the error says what to return."""

    class Approve(AskNode[bool, str]):
        pass

    setattr(Approve, phase, lambda self, given: "Publish?")
    flow: Flow[Any] = Flow(Approve(), db_path=path)
    with pytest.raises(AnswerError, match=rf"its {phase} returned .* not a bool.*Question\(text\)"):
        flow.run({})


@pytest.mark.parametrize("phase", ["prep", "exec"])
def test_post_is_not_called_with_what_is_no_answer(phase: str, path: Path) -> None:
    """Nor on an event loop, where the phases of a node are called in one thread."""
    given: list[object] = []

    class Approve(AskNode[bool, str]):
        journal = False

        def prep(self, store: Store[Any]) -> Any:
            return Question("Publish?")

        def post(self, store: Store[Any], prepared: Any, answer: bool) -> str:
            given.append(answer)
            return "default"

    setattr(Approve, phase, lambda self, given: "Publish?")
    flow: Flow[Any] = Flow(Approve(), db_path=path)
    with pytest.raises(AnswerError, match=f"its {phase} returned no question"):
        flow.run({})
    with pytest.raises(AnswerError, match=f"its {phase} returned no question"):
        asyncio.run(flow.run_async({}))
    assert given == []


def test_what_a_node_asks_is_held_against_its_annotations() -> None:
    """A ``prep`` that is to return text, where the answer is a ``bool``, is found by the proof."""

    class Approve(AskNode[bool, str]):
        def prep(self, store: Store[State]) -> str:
            return "Publish?"

    class Right(AskNode[bool, str]):
        def prep(self, store: Store[State]) -> bool | Question[bool]:
            return Question("Publish?")

    right = Right()
    flow: Flow[State] = Flow(right, schema=State).then(right, Approve())
    (found,) = [one for one in flow.validate() if one.code == "PF205"]
    assert "return Question[bool]" in found.fix


def test_an_answer_can_be_the_action(path: Path) -> None:
    """A question without ``writes`` is answered by one of its actions."""

    @node
    def route(draft: str) -> Question[Literal["again", "done"]]:
        return Question("Again?")

    flow: Flow[State] = Flow(write, schema=State, db_path=path)
    flow.then(write, route).then(route.when("again"), write).then(route.when("done"), END)
    assert flow.validate() == []
    paused = pause(flow)
    flow.answer(paused.run_id, route.reply("again"))
    with pytest.raises(RunPaused):
        flow.resume(paused.run_id)
    flow.answer(paused.run_id, route.reply("done"))
    flow.resume(paused.run_id)
    assert calls == ["write", "write"]


def test_a_crash_after_the_answer_does_not_lose_it(path: Path) -> None:
    """A bug in ``post`` or in what follows leaves the answer where it is."""
    broken = [True]

    class Ask(AskNode[int, str]):
        def prep(self, store: Store[Any]) -> Question[int]:
            calls.append("prep")
            return Question("How many?")

        def post(self, store: Store[Any], question: object, answer: int) -> str:
            if broken:
                raise RuntimeError("bug")
            store["n"] = answer
            return "default"

    ask = Ask()
    flow: Flow[Any] = Flow(ask, db_path=path)
    paused = pause(flow)
    flow.answer(paused.run_id, ask.reply(3))
    with pytest.raises(RuntimeError, match="bug"):
        flow.resume(paused.run_id)
    broken.clear()
    assert flow.resume(paused.run_id)["n"] == 3
    assert calls == ["prep"]


# -- answers ----------------------------------------------------------------------------------


@node(writes=S.review)
def judge(draft: str) -> Question[Review]:
    """Ask for a review."""
    return Question("Well?", {"draft": draft})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"verdict": "ok"}, "verdict: Input should be 'good' or 'bad'"),
        ({"verdict": "good", "comment": "x" * 21}, "comment: String should have at most 20"),
        ({"verdict": "good", "comment": "damn"}, "comment: Value error, mind your language"),
        ({"comment": 1}, "verdict: Field required; comment: Input should be a valid string"),
        ("good", "Input should be an object"),
    ],
)
def test_a_wrong_answer_is_refused_and_the_question_stays_open(
    answer: object, said: str, path: Path
) -> None:
    """The error names each field; a right answer can still be given."""
    flow: Flow[State] = Flow(judge, schema=State, db_path=path)
    paused = pause(flow)
    with pytest.raises(AnswerError) as refused:
        flow.answer_json(paused.run_id, answer)
    assert said in str(refused.value)
    assert "Review" in str(refused.value)
    flow.answer_json(paused.run_id, {"verdict": "bad", "comment": "dull"})
    assert flow.resume(paused.run_id)["review"] == Review(verdict="bad", comment="dull")


def test_the_database_alone_checks_by_the_schema(path: Path) -> None:
    """Without the code of the flow, an answer is held against the JSON schema on record."""
    flow: Flow[State] = Flow(judge, schema=State, db_path=path)
    paused = pause(flow)
    with WorkflowDB(path) as db:
        with pytest.raises(AnswerError, match=r"'ok' is not one of \['good', 'bad'\]"):
            db.answer_json(paused.run_id, {"verdict": "ok"})
        db.answer_json(paused.run_id, {"verdict": "good", "comment": "damn"})
    with pytest.raises(ResumeError, match="mind your language"):
        flow.resume(paused.run_id)  # what a schema cannot say shows when it goes on


def test_a_typed_reply_is_checked_as_well(path: Path) -> None:
    """Where no type checker ran, a reply of the wrong type is refused like any other."""
    flow = approval(path)
    paused = pause(flow)
    wrong: Any = "yes"
    with pytest.raises(AnswerError, match="'yes' is not a bool"):
        flow.answer(paused.run_id, approve.reply(wrong))
    with pytest.raises(AnswerError, match=r"takes node\.reply"):
        flow.answer(paused.run_id, wrong)
    flow.answer(paused.run_id, approve.reply(True))


def test_the_second_answer_is_refused(path: Path) -> None:
    """The first answer counts; the second one learns who gave it, when, and what."""
    flow = approval(path)
    paused = pause(flow)
    flow.answer(paused.run_id, approve.reply(True, by="ann"))
    with pytest.raises(AnsweredError, match=r"was answered by ann at 20.*: true"):
        flow.answer(paused.run_id, approve.reply(False, by="bob"))
    with WorkflowDB(path) as db:
        (asked,) = db.get_questions(paused.run_id)
        assert (asked.answer, asked.answered_by) == ("true", "ann")
        with pytest.raises(AnsweredError):
            db.answer_json(paused.run_id, False, question=asked.question)


def test_of_many_answers_at_once_one_counts(path: Path) -> None:
    """Threads that answer at the same instant: one is taken, each other is told."""
    paused = pause(approval(path))
    start = threading.Barrier(8)
    outcomes: list[str] = []

    def answer(number: int) -> None:
        with WorkflowDB(path) as db:
            (one,) = db.pending()
            start.wait()
            try:
                db.keep_answer(one, "true", f"n{number}")
            except AnsweredError:
                outcomes.append("late")
            else:
                outcomes.append("first")

    threads = [threading.Thread(target=answer, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["first", *["late"] * 7]
    with WorkflowDB(path) as db:
        told = [e for e in db.get_events(paused.run_id) if e["event"] == "answer"]
        assert len(told) == 1


def test_an_answer_to_nothing_is_refused(path: Path) -> None:
    """A node that has asked nothing, a number that is not there, a run that has ended."""
    flow = approval(path)
    paused = pause(flow)
    with pytest.raises(AnswerError, match="is not in this flow"):
        flow.answer(paused.run_id, judge.reply(Review(verdict="good")))
    with pytest.raises(AnswerError, match=r"has not asked question 99 \(its questions: 1\)"):
        flow.answer_json(paused.run_id, True, question=99)
    with WorkflowDB(path) as db:
        assert db.request_cancel(paused.run_id)
        assert db.pending() == []
        with pytest.raises(AnswerError, match="has ended"):
            db.answer_json(paused.run_id, True)


def test_a_type_that_no_schema_describes_cannot_be_asked_for(path: Path) -> None:
    """The node and the type are named, when it asks."""

    @node(writes=key("x"))
    def ask() -> Question[threading.Lock]:
        return Question("Which?")

    flow: Flow[Any] = Flow(ask, db_path=path)
    with pytest.raises(DefinitionError, match="node 'ask'"):
        flow.run({})


def test_a_run_that_is_not_kept_cannot_wait() -> None:
    """Without a database a flow that asks is stopped before it runs, or where it does ask."""
    with pytest.raises(FlowValidationError, match="PF404"):
        Flow(approve).run({"draft": "d"})

    class Sly(Node):
        def exec(self, prepared: None) -> Any:
            return Question("?")

    with pytest.raises(RunError, match="give the flow a db_path"):
        Flow(Sly()).run({})


@pytest.mark.parametrize(
    "settings",
    [
        {"text": ""},
        {"deadline": 0},
        {"deadline": True},
        {"default": True},
        {"context": ["draft"]},
        {"context": {1: "draft", "1": "another"}},
    ],
)
def test_a_question_without_sense_is_refused(settings: dict[str, Any]) -> None:
    """A text, a deadline above 0, a default only with a deadline, and a context with names."""
    with pytest.raises(DefinitionError, match="Question"):
        Question(**{"text": "?", **settings})


class Loud(BaseModel):
    decibels: float


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), None),
        ([Loud(decibels=float("inf"))], [{"decibels": None}]),
        ({"cut \ud83d": "cut \ud83d"}, {"cut \ud83d": "cut \ud83d"}),
        (numpy.int64(3), 3),
        ([numpy.bool_(True), numpy.float32(0.5)], [True, 0.5]),
        (numpy.datetime64("2026-02-03"), "2026-02-03"),
    ],
    ids=["nan", "in a model", "half a character", "int64", "bool and float32", "datetime64"],
)
def test_the_context_of_a_question_is_json(path: Path, value: Any, shown: object) -> None:
    """What a store may hold and JSON has no word for does not stop a question from being asked."""

    @node(writes=key("ok"))
    def ask() -> Question[bool]:
        return Question("?", {"value": value})

    pause(Flow(ask, db_path=path))
    with WorkflowDB(path) as db:
        (asked,) = db.pending()
    assert asked.context == {"value": shown}
    assert json.loads(json.dumps(asked.as_json(), allow_nan=False))["context"] == {"value": shown}


def test_a_context_that_no_json_shows_is_refused(path: Path) -> None:
    """The error names the node, and what has no form in JSON."""

    @node(writes=key("ok"))
    def ask() -> Question[bool]:
        return Question("?", {"value": numpy.zeros(2)})

    with pytest.raises(DefinitionError, match=r"'ask'.*JSON: ndarray has no form"):
        Flow(ask, db_path=path).run({})


# -- deadlines --------------------------------------------------------------------------------


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the clock be ahead."""
    set_clock(monkeypatch, clock.later(clock.utc_now(), seconds))


@node(writes=S.approved)
def soon(draft: str) -> Question[bool]:
    """Ask, and take silence for a no."""
    return Question("Publish?", deadline=60, default=False)


@node(writes=S.approved)
def strict(draft: str) -> Question[bool]:
    """Ask, and take silence for a failure."""
    return Question("Publish?", deadline=60)


def test_a_default_counts_after_the_deadline(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers in time: the default is the answer, and is on record as such."""
    flow: Flow[State] = Flow(soon, schema=State, db_path=path)
    paused = pause(flow, {"approved": True})
    later(monkeypatch, 61)
    with pytest.raises(AnswerError, match="the default counts: false"):
        flow.answer(paused.run_id, soon.reply(True))
    assert flow.recover() == {paused.run_id: None}
    with WorkflowDB(path) as db:
        (asked,) = db.get_questions(paused.run_id)
        assert (asked.answer, asked.answered_by) == ("false", "its deadline")


def test_without_a_default_it_is_an_error_with_an_edge(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that expired fails its node; an edge for that leads on, or a fork asks anew."""
    flow: Flow[State] = Flow(strict, schema=State, db_path=path)
    paused = pause(flow)
    caught: Flow[State] = Flow(strict, schema=State, db_path=path)
    caught.then(strict, END).then(strict.catch(QuestionExpiredError, writes=S.failure), END)
    second = pause(caught)
    with pytest.raises(RunPaused):
        flow.resume(paused.run_id)
    later(monkeypatch, 61)
    with pytest.raises(QuestionExpiredError, match="was not answered until") as expired:
        flow.resume(paused.run_id)
    again = f"flow.fork({paused.run_id!r})"
    assert again in str(expired.value)
    with pytest.raises(RunPaused):
        flow.resume(flow.fork(paused.run_id))
    failure = caught.resume(second.run_id).state.failure
    assert failure is not None
    assert "QuestionExpiredError" in failure.type_name


def test_in_time_an_answer_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the deadline nothing is different."""
    flow: Flow[State] = Flow(soon, schema=State, db_path=path)
    paused = pause(flow)
    later(monkeypatch, 59)
    flow.answer(paused.run_id, soon.reply(True))
    assert flow.resume(paused.run_id)["approved"] is True


# -- several at once --------------------------------------------------------------------------


@node(each=S.items, writes=S.verdicts, concurrency=3)
def check(item: str) -> bool | Question[bool]:
    """Ask about each item that is not plain."""
    calls.append(item)
    return True if item == "plain" else Question(f"Is {item} fine?")


@pytest.mark.parametrize("concurrency", [1, 3])
def test_items_ask_side_by_side(concurrency: int, path: Path) -> None:
    """Every item gets its say; answers come one by one, and no item is worked on twice."""

    class Check(BatchNode[str, bool]):
        def prep(self, store: Store[State]) -> list[str]:
            calls.append("prep")
            return list(store["items"])

        def exec(self, item: str) -> Any:
            calls.append(item)
            return True if item == "plain" else Question(f"Is {item} fine?")

        def post(self, store: Store[State], items: Any, results: list[bool]) -> str:
            store["verdicts"] = results
            return "default"

    batch = Check()
    batch.concurrency = concurrency
    flow: Flow[State] = Flow(batch, schema=State, db_path=path)
    paused = pause(flow, {"items": ["a", "plain", "b"]})
    assert len(paused.questions) == 2
    with WorkflowDB(path) as db:
        first, second = db.pending()
        assert {first.item, second.item} == {0, 2}
        with pytest.raises(AnswerError, match="has 2 open questions"):
            flow.answer_json(paused.run_id, True)
        left = flow.answer_json(paused.run_id, first.item == 0, question=first.question)
        assert [one.question for one in left] == [second.question]
        with pytest.raises(RunPaused) as again:
            flow.resume(paused.run_id)
        assert again.value.questions == (second.question,)
        flow.answer_json(paused.run_id, second.item == 0, question=second.question)
        assert flow.resume(paused.run_id)["verdicts"] == [True, True, False]
    assert sorted(calls) == ["a", "b", "plain", "prep"]


def test_a_mapped_function_asks_about_items(path: Path) -> None:
    """``@node(each=...)`` asks per item; a reply is the answer for one item."""
    flow: Flow[State] = Flow(check, schema=State, db_path=path)
    paused = pause(flow, {"items": ["a", "plain", "b"]})
    for number in paused.questions:
        flow.answer(paused.run_id, check.reply(True), question=number)
    assert flow.resume(paused.run_id)["verdicts"] == [True, True, True]
    assert sorted(calls) == ["a", "b", "plain"]


class Ask(AskNode[str, str]):
    """Asks for a word, and puts it on the log."""

    def prep(self, store: Store[State]) -> Question[str]:
        calls.append(f"prep {self.name}")
        return Question(f"{self.name}?")

    def post(self, store: Store[State], question: object, answer: str) -> str:
        store.reduce("log", f"{self.name}={answer}")
        return "default"


@node(writes=key("log"))
def note(topic: str) -> str:
    """Write a line, without asking."""
    calls.append("note")
    return topic


@pytest.mark.parametrize("driver", ["run", "run_async"])
def test_branches_ask_side_by_side(driver: str, path: Path) -> None:
    """Each branch goes on by itself: what has ended is not run again, what waits, waits."""
    one, two = Ask(name="one"), Ask(name="two")
    deeper: Flow[Any] = Flow(note, flow_name="deeper")
    deeper.then(note, two)
    fork = Parallel(one, deeper, note_only(), name="fork")
    flow: Flow[State] = Flow(fork, schema=State, db_path=path)
    with pytest.raises(RunPaused) as paused:
        flow.run({}) if driver == "run" else asyncio.run(flow.run_async({}))
    run_id = paused.value.run_id
    with WorkflowDB(path) as db:
        asked = {one.text: one for one in db.pending()}
    assert set(asked) == {"one?", "two?"}
    assert asked["two?"].path == ("fork", "deeper", "two")
    flow.answer(run_id, two.reply("b"))
    with pytest.raises(RunPaused) as again:
        flow.resume(run_id)
    assert again.value.questions == (asked["one?"].question,)
    flow.answer(run_id, one.reply("a"))
    assert sorted(flow.resume(run_id)["log"]) == ["cats", "cats", "one=a", "two=b"]
    assert sorted(calls) == ["note", "note", "prep one", "prep two"]


def note_only() -> Flow[Any]:
    """A branch that does not ask."""
    return Flow(note, flow_name="plain")


def test_a_fan_out_asks_for_each_item(path: Path) -> None:
    """Questions of the same node in several branches are told apart by their numbers."""

    class Item(AskNode[str, str]):
        def prep(self, store: Store[Any]) -> Question[str]:
            return Question(f"{store['topic']}?")

        def post(self, store: Store[Any], question: object, answer: str) -> str:
            store.reduce("log", f"{store['topic']}={answer}")
            return "default"

    item = Item()
    fan = FanOut(item, each=S.items, as_=S.topic, concurrency=2, name="fan")
    flow: Flow[State] = Flow(fan, schema=State, db_path=path)
    paused = pause(flow, {"items": ["x", "y", "z"]})
    assert len(paused.questions) == 3
    with pytest.raises(AnswerError, match="node 'Item' of run"):
        flow.answer(paused.run_id, item.reply("?"))
    for asked in WorkflowDB(path).pending():
        flow.answer(paused.run_id, item.reply(asked.text[0] * 2), question=asked.question)
    assert flow.resume(paused.run_id)["log"] == ["x=xx", "y=yy", "z=zz"]


def test_a_nested_flow_pauses_as_a_whole(path: Path) -> None:
    """The run goes on inside, at the node that asked."""
    ask = Ask(name="ask")
    inner: Flow[Any] = Flow(note, flow_name="inner")
    inner.then(note, ask)
    flow: Flow[State] = Flow(inner, schema=State, db_path=path)
    flow.then(inner, note_again)
    paused = pause(flow)
    with WorkflowDB(path) as db:
        assert row_of(db, paused.run_id)["current_node"] == "inner/ask"
    flow.answer(paused.run_id, ask.reply("a"))
    assert flow.resume(paused.run_id)["log"] == ["cats", "ask=a", "again"]


@node(writes=key("log"))
def note_again(topic: str) -> str:
    """Write another line."""
    return "again"


def test_a_failing_branch_does_not_lose_the_others_answer(path: Path) -> None:
    """A branch fails while another waits: the run fails; resumed, it takes the answer."""
    ask = Ask(name="ask")
    broken = [True]

    @node(writes=key("log"))
    def fragile(topic: str) -> str:
        if broken:
            raise OSError("no")
        return "fragile"

    fork = Parallel(ask, fragile, name="fork")
    flow: Flow[State] = Flow(fork, schema=State, db_path=path, run_id="r")
    with pytest.raises(OSError, match="no"):
        flow.run({})
    broken.clear()
    with pytest.raises(RunPaused):
        flow.resume("r")
    flow.answer("r", ask.reply("a"))
    assert flow.resume("r")["log"] == ["ask=a", "fragile"]


# -- the record -------------------------------------------------------------------------------


def test_recover_goes_on_with_what_was_answered(path: Path) -> None:
    """A worker that calls ``recover`` finishes answered runs and leaves the others waiting."""
    flow = approval(path)
    first, second = pause(flow), pause(flow)
    flow.answer(first.run_id, approve.reply(True))
    assert flow.recover() == {first.run_id: None}
    with WorkflowDB(path) as db:
        assert db.handle(second.run_id).status == "paused"


def test_a_cancelled_run_can_be_asked_again(path: Path) -> None:
    """Cancelled while it was paused, a run is no longer pending; resumed, it waits again."""
    flow = approval(path)
    paused = pause(flow)
    with WorkflowDB(path) as db:
        assert db.request_cancel(paused.run_id)
        assert not db.request_cancel(paused.run_id)
        assert db.handle(paused.run_id).status == "cancelled"
        assert [e["event"] for e in db.get_events(paused.run_id)][-1] == "flow_cancelled"
        with pytest.raises(RunPaused):
            flow.resume(paused.run_id)
        assert len(db.pending()) == 1


def test_a_fork_of_a_paused_run_asks_for_itself(path: Path) -> None:
    """A fork begins before the node that asks; the answers of its parent are not its own."""
    flow = approval(path)
    paused = pause(flow)
    child = flow.fork(paused.run_id)
    with pytest.raises(RunPaused):
        flow.resume(child)
    flow.answer(paused.run_id, approve.reply(True))
    with WorkflowDB(path) as db:
        assert [one.run_id for one in db.pending()] == [child]


def test_events_tell_of_questions(path: Path) -> None:
    """Hooks, listeners and the log of events hear what is asked, and that the run pauses."""
    flow = approval(path)
    told: list[object] = []
    flow.on("node_ask", lambda name, question, store: told.append((name, question.text)))
    flow.on("flow_pause", lambda steps, store: told.append(steps))
    events: list[object] = []
    flow.subscribe(lambda event, store: events.append(event))
    paused = pause(flow)
    assert told == [("approve", "Publish?"), 1]
    (asked,) = [one for one in events if isinstance(one, NodeAsked)]
    assert (asked.number, asked.node) == (1, "approve")
    assert isinstance(events[-1], FlowPaused)
    flow.answer(paused.run_id, approve.reply(True, by="ann"))
    with WorkflowDB(path) as db:
        events_kept = {e["event"]: e for e in db.get_events(paused.run_id)}
    assert events_kept["node_ask"]["note"] == "Publish?"
    assert events_kept["answer"]["note"] == "true, by ann"


def test_nothing_is_left_behind(path: Path) -> None:
    """Once the step is finished its pause is gone, and its question is closed history."""
    flow = approval(path)
    paused = pause(flow)
    flow.answer(paused.run_id, approve.reply(True))
    flow.resume(paused.run_id)
    with WorkflowDB(path) as db:
        assert db.connection.rows("SELECT * FROM pf_log WHERE kind IN (3, 4, 5, 6)") == []
        assert db.pending() == []
        (asked,) = db.get_questions(paused.run_id)
        assert asked.is_closed
        db.prune(keep=0)
        assert db.connection.rows("SELECT * FROM pf_questions") == []


def test_a_question_as_an_action_names_the_type_of_its_answer() -> None:
    """Without it nobody knows what may be answered, and the message shows how it is written."""

    def ask(text: str) -> Question:
        return Question(text)

    def sure(text: str) -> Question[bool]:
        return Question(text)

    with pytest.raises(DefinitionError, match=r"Question needs the type of its answer: Question\["):
        node(ask)
    with pytest.raises(DefinitionError, match=r"returns Question\[bool\] .* is no Literal needs"):
        node(sure)  # type: ignore[arg-type]
    assert node(writes=key("ok"))(ask).signature.asks
