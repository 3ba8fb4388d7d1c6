"""The contract of ``Ledger``: what the engine may rely on, whichever it has been given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Store, WorkflowDB
from pocoflow.address import Address
from pocoflow.db.log import Kind
from pocoflow.db.recorder import RunRecorder
from pocoflow.engine.ledger import Ledger
from pocoflow.engine.memory import NULL
from pocoflow.errors import RunLostError
from pocoflow.graph.step_records import ALONE, Bill, Called, Finished, Identity, Numbers, Tried
from pocoflow.graph.unfinished import StartedItem, Unfinished
from pocoflow.nodes.context import Cancellation, RunContext
from pocoflow.nodes.question import NewQuestion
from pocoflow.store.branch_view import BranchStore
from pocoflow.store.watch import Watch

QUESTION = NewQuestion("Sure?", "{}", '{"type": "boolean"}', None, None)
HERE = Address((), "first")


class Run:
    """A run that has begun before its node ``first``, and its ledger."""

    def __init__(self, database: WorkflowDB | None) -> None:
        self.database = database
        self.store: Store[Any] = Store({"log": ["begun"]})
        self.context = RunContext("r", "flow", "token", Cancellation(), {})
        self.ledger: Ledger = NULL
        if database is not None:
            recorder = self.ledger = RunRecorder(database, "r")
            row = {"flow_name": "flow", "status": "running", "owned": 1, "token": "token"}
            row["started_at"] = recorder.storage.now()
            recorder.create(self.store, row, Unfinished(names=HERE.names), "{}")

    @property
    def db(self) -> WorkflowDB:
        """The database that there is."""
        assert self.database is not None
        return self.database

    def branch(
        self, *began: tuple[int, int], of: Ledger | None = None
    ) -> tuple[Ledger, Store[Any]]:
        """The ledger of a branch, by the steps and numbers of those around it, and its store."""
        context = self.context
        for one in began:
            context = context.for_branch(one, ("fork",), context.cancellation)
            context.node = "inner"
        watch = Watch.of(self.store)
        store = BranchStore(self.store, watch, {})
        parent = self.ledger if of is None else of
        return parent.branch(context, store, watch.copy(), self.numbers, None), store

    numbers = Numbers(0)

    def unfinished(self) -> Unfinished:
        """What another process finds."""
        return RunRecorder(self.db, "r").unfinished()


def finished(step: int, successor: str | None, node: str = "first", *path: str) -> Finished:
    """A step of a node."""
    return Finished(step, node, path, "default", 1, 0.5, successor, path, None)


def called(key: str, result: object, item: Identity | None = None, *given: object) -> Called:
    """A journaled call that has returned."""
    return Called(HERE, key, result, False, 1, 0.5, item, given)


def opened(request: pytest.FixtureRequest) -> Iterator[Run]:
    """A run with a ledger of the kind that is asked for."""
    Run.numbers = Numbers(0)
    if request.param == "null":
        yield Run(None)
        return
    path: str | Path = request.param
    if path == "file":
        path = request.getfixturevalue("tmp_path") / "runs.db"
    elif path == "server":
        path = request.getfixturevalue("server").url()
    with WorkflowDB(path) as database:
        yield Run(database)


KEEPING = [":memory:", "file", "server"]


@pytest.fixture(params=["null", *KEEPING])
def any_run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """A run with one of the ledgers."""
    yield from opened(request)


@pytest.fixture(params=KEEPING)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """A run with one of the ledgers that keep what they are told."""
    yield from opened(request)


# -- every ledger ---------------------------------------------------------------------------------


def test_everything_that_finishes_may_be_told(any_run: Run) -> None:
    """Results, items, failed attempts and steps are taken; nobody has asked the run to stop."""
    ledger = any_run.ledger
    ledger.take_input("given")
    ledger.retry(0, Tried(HERE, 1, ValueError("no"), None, "given"))
    ledger.journal_item(0, "first", "result", Identity(0, "mark"))
    ledger.write_items()
    ledger.call(0, called("ask a 0", "result"))
    ledger.call_again(0, "ask a 0", None)
    ledger.spend(0, Bill(HERE, ALONE, 1, {"usd": Decimal(1)}))
    ledger.begin_items(0, {1: "other"})
    ledger.remark("what people should know")
    ledger.journal(0, "first", "result")
    assert ledger.step(finished(0, "second")) == (0, False)
    assert ledger.step(finished(1, "third", "second")) == (1, False)


def test_steps_of_branches_take_the_next_numbers(any_run: Run) -> None:
    """In the order in which they are told, whichever branch they are of."""
    (one, _), (two, _) = any_run.branch((0, 0)), any_run.branch((0, 1))
    inner, _ = any_run.branch((0, 1), (0, 0), of=two)
    tellers = [one, two, inner, one]
    numbers = [each.step(finished(0, "inner", "inner", "fork"))[0] for each in tellers]
    assert numbers == [0, 1, 2, 3]


def test_an_end_is_told_once(any_run: Run) -> None:
    """The end counts if nothing has ended the run before."""
    assert any_run.ledger.end("failed", ValueError("no"), 0, HERE, 1, 0.5)


def test_only_a_ledger_that_keeps_has_storage(any_run: Run) -> None:
    """What keeps nothing need not be kept off an event loop, and need not be told of steps."""
    ledger = any_run.ledger
    assert (ledger.storage is not None) == ledger.keeps == ledger.counts
    assert any_run.branch((0, 0))[0].counts


# -- those that keep what they are told -----------------------------------------------------------


def test_a_result_is_there_until_its_step_is_finished(run: Run) -> None:
    """A result of ``exec`` is found before its step is told, and not after it."""
    run.ledger.journal(0, "first", {"a": 1})
    assert json.loads(run.unfinished().results[ALONE]) == {"a": 1}
    run.ledger.step(finished(0, "second"))
    after = run.unfinished()
    assert (after.results, after.names, after.steps, after.count) == ({}, ("second",), 1, 1)


def test_items_are_there_by_number(run: Run) -> None:
    """Their results, marks and failed attempts, until the step is finished."""
    run.ledger.journal_item(0, "first", "done", Identity(0, "m0"))
    run.ledger.retry(0, Tried(HERE, 2, ValueError("no"), Identity(1, "m1"), None))
    run.ledger.begin_items(0, {2: "m2"})
    found = run.unfinished()
    assert found.results == {0: '"done"'}
    first, second, third = (found.items[number] for number in range(3))
    assert (first, third) == (StartedItem("m0", 0), StartedItem("m2", 0))
    assert (second.mark, second.attempts) == ("m1", 2)
    assert [(one.node, one.type_name, one.message) for one in second.errors] == [
        ("first", "ValueError", "no")
    ]
    run.ledger.step(finished(0, "second"))
    assert not run.unfinished().items


def test_what_prep_gave_goes_with_the_first_row(run: Run) -> None:
    """The input is on record with a failed attempt, as it was, with what ``prep`` had changed."""
    given = ["input"]
    run.store["log"] = ["begun", "prepared"]
    run.ledger.take_input(given)
    given.append("changed by exec")
    assert run.unfinished().prepared == ()
    run.ledger.retry(0, Tried(HERE, 1, ValueError("no"), None, given))
    found = run.unfinished()
    assert found.prepared == ('["input"]',)
    assert [key for key, _, _ in found.changes] == ["log"]
    assert found.items[ALONE].attempts == 1


def test_a_run_that_has_failed_has_all_its_attempts_again(run: Run) -> None:
    """Attempts before the end do not count, what they were given does."""
    run.ledger.retry(0, Tried(HERE, 1, ValueError("no"), None, "given"))
    run.ledger.end("failed", ValueError("no"), 0, HERE, 2, 0.5)
    found = run.unfinished()
    assert (found.items[ALONE].attempts, found.prepared) == (0, ('"given"',))
    assert not found.items[ALONE].errors


def test_a_call_is_there_until_its_step_is_finished(run: Run) -> None:
    """What it returned is found by its key and item, with what ``prep`` gave."""
    run.ledger.call(0, called("ask a 0", {"a": 1}, None, ["input"]))
    run.ledger.call(0, called("ask b 0", "b")._replace(awaited=True))
    run.ledger.call(0, called("ask a 0", "of an item", Identity(3, "m3")))
    found = run.unfinished()
    alone = {"ask a 0": '{"a":1}', "ask b 0": '~"b"'}
    assert found.calls == {ALONE: alone, 3: {"ask a 0": '"of an item"'}}
    assert (found.prepared, found.items) == (('["input"]',), {3: StartedItem("m3", 0)})
    run.ledger.journal(0, "first", "result")
    run.ledger.step(finished(0, "second"))
    assert not run.unfinished().calls


def test_a_call_that_is_made_again_is_not_there(run: Run) -> None:
    """Neither after an attempt that another one follows, nor after the last one."""
    for key in ("ask a 0", "ask b 0", "ask c 0"):
        run.ledger.call(0, called(key, key))
    run.ledger.retry(0, Tried(HERE, 1, ValueError("no"), None, "given", "ask b 0"))
    run.ledger.call_again(0, "ask c 0", None)
    assert run.unfinished().calls == {ALONE: {"ask a 0": '"ask a 0"'}}
    run.ledger.call(0, called("ask b 0", "anew"))
    assert run.unfinished().calls[ALONE]["ask b 0"] == '"anew"'


def test_a_result_of_a_call_that_cannot_be_stored_is_no_row(run: Run) -> None:
    """What people should know of it is on record with the next row."""
    run.ledger.call(0, called("ask a 0", object()))
    run.ledger.step(finished(0, "second"))
    notes = [row["note"] for row in run.db.get_events("r") if row["note"]]
    assert ["the result of call ask" in note for note in notes] == [True]


def test_what_was_spent_goes_with_the_row_that_it_belongs_to(run: Run) -> None:
    """That of a call with the call, that of an attempt with its end, the rest with the step."""
    one = {"usd": Decimal("0.1")}

    def spent() -> list[str]:
        return [str(each.amounts["usd"]) for each in run.unfinished().spent]

    for item in (ALONE, 3):
        run.ledger.spend(0, Bill(HERE, item, 1, {"usd": Decimal(item + 4)}))
    run.ledger.call(0, called("ask a 0", "a")._replace(spent=one))
    assert spent() == ["0.1"]
    run.ledger.retry(0, Tried(HERE, 1, ValueError("no"), Identity(3, "m3"), None))
    assert spent() == ["0.1", "7"]
    run.ledger.spend(0, Bill(HERE, 3, 2, {"usd": Decimal(5)}))
    run.ledger.journal(0, "first", "result")
    assert spent() == ["0.1", "7", "3"]
    run.ledger.step(finished(0, "second"))
    assert spent() == ["0.1", "7", "3", "5"]
    assert run.db.get_account("r") == {"usd": Decimal("15.1")}


def test_what_was_spent_is_on_record_when_a_run_ends(run: Run) -> None:
    """Also what a branch has spent, and a result that cannot be stored has cost."""
    branch, _ = run.branch((0, 0))
    branch.spend(0, Bill(HERE, ALONE, 1, {"usd": Decimal(1)}))
    run.ledger.call(0, called("ask a 0", object())._replace(spent={"usd": Decimal(2)}))
    run.ledger.end("failed", ValueError("no"), 0, HERE, 1, 0.5)
    assert run.db.get_account("r") == {"usd": Decimal(3)}


def test_a_question_waits_until_its_step_is_finished(run: Run) -> None:
    """It is open, by item; the finished step closes it."""
    number = run.ledger.ask(0, HERE, QUESTION, Identity(3, "m3"), "given")
    found = run.unfinished()
    assert [one.question for one in found.questions()] == [number]
    assert found.asked[3].line == found.line == 0
    assert run.ledger.pause("first") is not None
    assert run.db.handle("r").status == "paused"


def test_a_pause_gives_way_to_a_wish_to_stop(run: Run) -> None:
    """Nothing is written if somebody has asked the run to stop."""
    run.ledger.ask(0, HERE, QUESTION, None, "given")
    run.db.request_cancel("r")
    assert run.ledger.pause("first") is None
    assert run.db.handle("r").status == "running"


def test_whoever_asks_a_run_to_stop_is_heard_with_its_step(run: Run) -> None:
    """The step counts, and the run is told."""
    run.db.request_cancel("r")
    assert run.ledger.step(finished(0, "second")) == (0, True)
    assert run.unfinished().steps == 1


def test_the_last_step_completes_the_run(run: Run) -> None:
    """After it nothing is unfinished, and no other end counts."""
    run.ledger.step(finished(0, None))
    assert run.unfinished().names is None
    assert run.db.handle("r").status == "completed"
    assert not run.ledger.end("cancelled", KeyboardInterrupt(), 1, None, 1, 0.0)


def test_a_branch_is_found_by_what_it_is(run: Run) -> None:
    """By its number in the step that it began in, and with what it has of its own."""
    one, store = run.branch((0, 5))
    store["log"] = ["begun", "in the branch"]
    one.step(finished(0, "inner", "inner", "fork"))
    one.journal(1, "inner", "half")
    ((number, branch),) = run.unfinished().branches.items()
    assert (number, branch.line) == (5, 1)
    assert (branch.count, branch.names, branch.results) == (1, ("fork", "inner"), {ALONE: '"half"'})
    assert [key for key, _, _ in branch.rows] == ["log"]
    run.ledger.step(finished(1, "second"))
    assert run.unfinished().branches == {}


def test_the_lines_around_a_branch_are_on_record_before_it(run: Run) -> None:
    """Where a branch began is a list of numbers: the line around it, the step there, and which."""
    outer, _ = run.branch((0, 1))
    inner, _ = run.branch((0, 1), (0, 2), of=outer)
    inner.journal(0, "inner", "done")
    begun = run.db.connection.rows(
        f"SELECT line, data FROM pf_log WHERE kind = {int(Kind.LINE)} ORDER BY id"
    )
    assert [(row["line"], json.loads(row["data"])) for row in begun] == [
        (1, [0, 0, 1]),
        (2, [1, 0, 2]),
    ]
    found = run.unfinished().branches[1]
    assert (found.names, found.branches[2].results) == ((), {ALONE: '"done"'})


def test_a_step_closes_the_questions_of_the_branches_in_it(run: Run) -> None:
    """Also those of branches in these; a question of another branch stays open."""
    outer, _ = run.branch((0, 0))
    inner, _ = run.branch((0, 0), (0, 1), of=outer)
    other, _ = run.branch((0, 1))
    place = Address(("fork",), "inner")
    inner.ask(0, place, QUESTION, None, "given")
    asked = other.ask(0, place, QUESTION, None, "given")
    first, second = run.db.get_questions("r")
    assert [len(one.branches) for one in (first, second)] == [2, 1]
    outer.step(finished(0, "inner", "inner", "fork"))
    assert [one.question for one in run.db.get_questions("r") if one.is_open] == [asked]
    run.ledger.step(finished(1, "second"))
    assert not [one for one in run.db.get_questions("r") if one.is_open]


def test_whoever_has_lost_the_run_writes_nothing(run: Run) -> None:
    """After another has claimed the run, nothing of this ledger is on record."""
    with run.db.connection.transaction() as raw:
        raw.execute("UPDATE pf_run SET fence = fence + 1")
    before = len(run.db.connection.rows("SELECT id FROM pf_log"))
    with pytest.raises(RunLostError):
        run.ledger.journal(0, "first", "result")
    with pytest.raises(RunLostError):
        run.ledger.call(0, called("ask a 0", "result"))
    with pytest.raises(RunLostError):
        run.ledger.step(finished(0, "second"))
    assert len(run.db.connection.rows("SELECT id FROM pf_log")) == before
