"""Spending: the account of a run, and what becomes of a run whose budget is spent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from pocoflow import (
    END,
    BatchNode,
    FanOut,
    Flow,
    Node,
    Parallel,
    Retry,
    Store,
    Subflow,
    WorkflowDB,
    context,
    key,
    node,
)
from pocoflow.cli import main
from pocoflow.db.run_reports import export_run
from pocoflow.errors import BudgetError, DecodeError, DefinitionError, NoRunError
from pocoflow.ui.details import costs_table

WAIT = 60


@pytest.fixture(params=[None, ":memory:", "file"], ids=["no database", "memory", "file"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkflowDB | None]:
    """A database, or none."""
    if request.param is None:
        yield None
        return
    path = tmp_path / "runs.db" if request.param == "file" else request.param
    with WorkflowDB(path) as opened:
        yield opened


def llm(prompt: str) -> str:
    """A call that costs."""
    context().spend(usd=0.1, tokens=10)
    return prompt.upper()


class Write(Node):
    """Makes a call at each visit, and comes again."""

    calls = 1

    def exec(self, prep_result: object) -> list[str]:
        return [context().call(llm, f"{number}") for number in range(self.calls)]

    def post(self, store: Store[Any], prep_result: object, exec_result: list[str]) -> str:
        store["visits"] = store.get("visits", 0) + 1
        return "again" if store["visits"] < 9 else "done"


class Note(Node):
    """Notes what the run has spent."""

    def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
        store["account"] = {name: str(amount) for name, amount in context().account.items()}
        return "noted"


def writing(**settings: Any) -> tuple[Flow, Write]:
    """A flow that writes again and again."""
    write = Write()
    return Flow(write.then("again", write), **settings), write


# -- the account ----------------------------------------------------------------------------------


def test_amounts_are_summed_as_the_numbers_that_one_sees() -> None:
    """Ten times 0.1 is 1, with ints and decimals beside it, in whichever order."""

    @node
    def pay() -> None:
        for _ in range(10):
            context().spend(usd=0.1)
        context().spend(usd=Decimal("0.05"), tokens=7)
        context().spend(usd=2)
        assert context().account == {"usd": Decimal("3.05"), "tokens": Decimal(7)}

    Flow(pay).run({})


def test_numbers_of_numpy_are_amounts() -> None:
    """What a tokenizer has counted with numpy is spent as the number that it is."""
    numpy = pytest.importorskip("numpy")

    @node
    def pay() -> None:
        context().spend(
            tokens=numpy.int64(2**60 + 1), usd=numpy.float64(0.1), euro=numpy.float32(0.5)
        )
        wanted = {"tokens": Decimal(2**60 + 1), "usd": Decimal("0.1"), "euro": Decimal("0.5")}
        assert context().account == wanted

    Flow(pay).run({})


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), True, "1", None])
def test_an_amount_that_is_none_is_refused(amount: Any) -> None:
    """A number of at least 0 is an amount."""

    @node
    def pay() -> None:
        context().spend(usd=amount)

    with pytest.raises(DefinitionError, match=r"context\(\)\.spend\(usd="):
        Flow(pay).run({})


def test_an_amount_without_a_name_is_refused_with_what_to_write() -> None:
    """An amount alone says not of what: there are tokens, money and more."""

    class Pays(Node):
        def exec(self, prep_result: None) -> None:
            pay: Any = context().spend
            pay(0.3)

    with pytest.raises(TypeError, match=r"name what it is of: spend\(usd=\.\.\.\)"):
        Flow(Pays()).run({})


def test_nothing_is_spent_outside_of_a_run() -> None:
    """A context that somebody has kept is of no run any more."""
    kept = []

    @node
    def keep() -> None:
        kept.append(context())

    Flow(keep).run({})
    with pytest.raises(NoRunError):
        kept[0].spend(usd=1)


def test_the_account_is_that_of_the_run(db: WorkflowDB | None) -> None:
    """Phases, attempts, calls, items and branches are in it, once each."""

    class Attempts(Node):
        max_retries = 2

        def prep(self, store: Store[Any]) -> None:
            context().spend(usd=1)

        def exec(self, prep_result: object) -> None:
            context().call(llm, "kept")
            context().spend(usd=10)
            if context().attempt == 1:
                raise Retry(keep=True)

    class Items(BatchNode):
        concurrency = 2

        def prep(self, store: Store[Any]) -> list[int]:
            return [1, 2, 3]

        def exec(self, item: int) -> None:
            context().call(llm, f"item {item}")
            context().spend(usd=100)

    @node
    def branch() -> None:
        context().spend(usd=1000)
        context().call(llm, "branch")

    first, items, note = Attempts(), Items(), Note()
    fan = FanOut(branch, each=key("items"), as_=key("item"))
    first.then("default", items)
    items.then("default", fan)
    fan.then("default", note)
    flow = Flow(first, db_path=db, run_id="r")
    account = flow.run({"items": [1, 2]})["account"]
    assert account == {"usd": "2321.6", "tokens": "60"}
    if db is not None:
        assert {name: str(one) for name, one in db.get_account("r").items()} == account
        spent = [(one.names[-1], one.attempt, one.call[-3:]) for one in db.get_expenses("r")]
        assert spent[:4] == [
            ("Attempts", 1, "llm"),
            ("Attempts", 1, ""),
            ("Attempts", 1, ""),
            ("Attempts", 2, ""),
        ]


def test_a_call_that_is_given_is_not_paid_again(tmp_path: Path) -> None:
    """A resume counts what is on record, and what is made now."""
    tries = []

    def fail() -> None:
        tries.append(1)
        context().spend(usd=0.5)
        if len(tries) == 1:
            raise OSError("down")

    @node
    def agent() -> None:
        context().call(llm, "a")
        context().call(fail)

    flow = Flow(agent, db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        flow.run({})
    assert flow.database.get_account("r") == {"usd": Decimal("0.6"), "tokens": Decimal(10)}
    flow.resume("r")
    assert flow.database.get_account("r") == {"usd": Decimal("1.1"), "tokens": Decimal(10)}


# -- budgets --------------------------------------------------------------------------------------


def test_a_run_stops_before_the_next_node(db: WorkflowDB | None) -> None:
    """Without an edge it fails, and says what was spent of what; what was done stays done."""
    flow, _ = writing(budget={"usd": 0.3, "tokens": 1000}, db_path=db, run_id="r")
    with pytest.raises(BudgetError, match=r"node 'Write' may spend no more: 0\.3 of 0\.3 usd") as e:
        flow.run({})
    assert e.value.names == ("usd",)
    assert e.value.account == {"usd": Decimal("0.3"), "tokens": Decimal(30)}
    if db is not None:
        assert db.load_checkpoint("r", 2)["visits"] == 3
        flow.budget = {"usd": Decimal("0.5")}
        with pytest.raises(BudgetError, match=r"0\.5 of 0\.5 usd"):
            flow.resume("r")


def test_a_spent_budget_takes_its_edge(db: WorkflowDB | None) -> None:
    """The step keeps what it wrote, and the run goes on behind the edge to its end."""
    flow, write = writing(budget={"usd": 0.3}, db_path=db, run_id="r")
    wrap_up, note = Node(name="wrap_up"), Note()
    flow.then(write.when_spent("tokens"), END)
    flow.then(write.when_spent("usd"), wrap_up)
    flow.then(wrap_up, note)
    store = flow.run({})
    assert store["visits"] == 3
    assert store["account"]["usd"] == "0.3"


def test_a_call_that_is_refused_ends_exec(db: WorkflowDB | None) -> None:
    """There is no ``post``, whatever ``exec`` has made of the refusal, and the edge is taken."""
    asked = []

    def ask(number: int) -> None:
        asked.append(number)
        context().spend(usd=1)

    class Agent(Node):
        max_retries = 3

        def exec(self, prep_result: object) -> None:
            for number in range(5):
                try:
                    context().call(ask, number)
                except RuntimeError:
                    continue

        def exec_fallback(self, prep_result: object, exc: Exception) -> None:
            raise AssertionError

        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
            raise AssertionError

    agent, note = Agent(), Note()
    flow = Flow(agent, budget={"usd": 2}, db_path=db, run_id="r")
    flow.then(agent.when_spent(), note)
    assert flow.run({})["account"] == {"usd": "2"}
    assert asked == [0, 1]


def test_the_way_behind_the_edge_makes_no_calls(db: WorkflowDB | None) -> None:
    """What is spent stays spent: a journaled call is refused there, too."""
    flow, write = writing(budget={"usd": 0.1}, db_path=db, run_id="r")
    after = Write(name="after")
    flow.then(write.when_spent("usd"), after)
    with pytest.raises(BudgetError, match="node 'after' may spend no more"):
        flow.run({})


def test_an_attempt_is_refused(db: WorkflowDB | None) -> None:
    """One that would follow, if its node has spent what it may."""
    tried = []

    class Again(Node):
        max_retries = 5

        def exec(self, prep_result: object) -> None:
            tried.append(1)
            context().spend(usd=1)
            raise OSError("down")

    again = Again()
    flow = Flow(again, node_budgets={again: {"usd": 2}}, db_path=db, run_id="r")
    with pytest.raises(BudgetError, match=r"2 of 2 usd in node 'Again'"):
        flow.run({})
    assert len(tried) == 2


def test_a_node_has_a_budget_of_its_own(db: WorkflowDB | None) -> None:
    """In a run; other nodes go on."""
    write = Write()
    flow = Flow(write, node_budgets={write: {"tokens": 25}}, db_path=db, run_id="r")
    write.then("again", write)
    note = Note()
    flow.then(write.when_spent(), note)
    store = flow.run({})
    assert (store["visits"], store["account"]["tokens"]) == (3, "30")


def test_a_budget_that_is_changed_between_two_runs_counts_in_the_next(
    db: WorkflowDB | None,
) -> None:
    """Also in the dict itself, and one that is taken away does not."""
    write = Write()
    write.then("again", write)
    flow = Flow(write, db_path=db)
    assert flow.run({})["visits"] == 9
    budgets = cast("dict[Node, dict[str, float]]", flow.node_budgets)
    budgets[write] = {"tokens": 25}
    with pytest.raises(BudgetError, match=r"30 of 25 tokens in node 'Write'"):
        flow.run({})
    budgets[write] = {"tokens": 35}
    with pytest.raises(BudgetError, match=r"40 of 35 tokens in node 'Write'"):
        flow.run({})
    budgets.clear()
    assert flow.run({})["visits"] == 9


def test_a_run_without_a_next_node_is_at_its_end(db: WorkflowDB | None) -> None:
    """The last node may spend the rest."""

    @node
    def last() -> None:
        context().spend(usd=5)

    flow = Flow(last, budget={"usd": 1}, db_path=db, run_id="r")
    flow.then(last.when_spent(), Note())
    assert "account" not in flow.run({})


def test_items_at_the_same_time_overspend_by_their_calls() -> None:
    """With three in flight a budget is overspent by at most three calls."""

    class Items(BatchNode):
        concurrency = 3
        on_error: Literal["collect"] = "collect"

        def prep(self, store: Store[Any]) -> list[int]:
            return list(range(100))

        def exec(self, item: int) -> None:
            context().call(llm, f"{item}")

    items, note = Items(), Note()
    flow = Flow(items, budget={"usd": 1})
    flow.then(items.when_spent("usd"), note)
    spent = Decimal(flow.run({})["account"]["usd"])
    assert Decimal(1) <= spent <= Decimal("1.3")
    assert Decimal(asyncio.run(flow.run_async({}))["account"]["usd"]) <= Decimal("1.3")


def test_a_resume_knows_what_was_spent_and_which_edges_were_taken(tmp_path: Path) -> None:
    """Behind the edge for the end of a budget a resumed run goes on."""
    down = [True]

    @node
    def wrap_up() -> None:
        if down:
            raise OSError(down.pop())

    flow, write = writing(budget={"usd": 0.3}, db_path=tmp_path / "runs.db", run_id="r")
    flow.then(write.when_spent("usd"), wrap_up)
    note = Note()
    flow.then(wrap_up, note)
    with pytest.raises(OSError, match="True"):
        flow.run({})
    assert flow.resume("r")["account"] == {"usd": "0.3", "tokens": "30"}


def test_a_nested_flow_takes_the_edge_of_its_node(db: WorkflowDB | None) -> None:
    """Where no edge inside is about the budget, one around the flow is."""
    write = Write()
    inner = Flow(write.then("again", write), flow_name="inner")
    note = Note()
    flow = Flow(inner, budget={"usd": 0.2}, db_path=db, run_id="r")
    flow.then(inner.when_spent("usd"), note)
    store = flow.run({})
    assert (store["visits"], store["account"]["usd"]) == (2, "0.2")


def test_branches_spend_of_one_budget(db: WorkflowDB | None) -> None:
    """A branch that may go on no more takes its edge, and so does the node after the join."""
    write, end, note = Write(), Node(name="end"), Note()
    write.then("again", write)
    branch = Flow(write, flow_name="branch")
    branch.then(write.when_spent("usd"), end)
    fan = FanOut(
        branch, each=key("items"), as_=key("item"), concurrency=1, private=(key("visits"),)
    )
    flow = Flow(fan, budget={"usd": 0.3}, db_path=db, run_id="r")
    flow.then(fan, Node(name="not reached"))
    flow.then(fan.when_spent("usd"), note)
    assert flow.run({"items": [1], "visits": 0})["account"]["usd"] == "0.3"


@pytest.mark.parametrize("collects", [True, False], ids=["collected", "caught"])
def test_what_a_branch_has_spent_that_failed_is_in_the_account(
    db: WorkflowDB | None, collects: bool
) -> None:
    """Its last attempt, too, also of a branch in a branch, and before its first commit."""

    class Fails(Node):
        def exec(self, prep_result: object) -> None:
            context().spend(usd=1)
            raise OSError

    class Twice(Fails):
        max_retries = 2

    inner = Parallel(Fails(), Twice(), name="inner", on_error="collect")
    start = Parallel(
        Flow(inner, flow_name="deep").then(inner.when("*"), Fails(name="after")),
        name="outer",
        on_error="collect" if collects else "stop",
    )
    note = Note()
    flow = Flow(start, db_path=db, run_id="r")
    flow.then(start.when("*") if collects else start.catch(OSError), note)
    assert flow.run({})["account"] == {"usd": "4"}
    if db is not None:
        assert db.get_account("r") == {"usd": 4}
        spent = {(one.names, one.attempt) for one in db.get_expenses("r")}
        inside = ("outer", "deep", "inner")
        assert spent == {
            ((*inside, "Fails"), 1),
            ((*inside, "Twice"), 1),
            ((*inside, "Twice"), 2),
            (("outer", "deep", "after"), 1),
        }


def test_a_budget_that_a_branch_goes_on_without_counts_outside_of_it(tmp_path: Path) -> None:
    """Also where the branch, and with it the run, has failed before its first commit."""
    down = [True]

    @node
    def pay(item: int) -> None:
        if item == 1:
            context().spend(usd=1)

    @node
    def go_past() -> None:
        if down:
            raise OSError(down.pop())

    branch = Flow(pay, flow_name="branch").then(pay.when_spent("usd"), go_past)
    fan = FanOut(branch, each=key("items"), as_=key("item"), concurrency=1)
    last = Node(name="last")
    flow = Flow(fan, budget={"usd": 1}, db_path=tmp_path / "runs.db", run_id="r").then(fan, last)
    with pytest.raises(OSError, match="True"):
        flow.run({"items": [1, 2]})
    with pytest.raises(BudgetError, match="'last'"):
        flow.resume("r")


@pytest.mark.parametrize(
    "settings",
    [
        {"budget": 2},
        {"budget": {"usd": -1}},
        {"budget": {1: 2}},
        {"node_budgets": {"write": {"usd": 1}}},
        {"node_budgets": {Node(): {"usd": "1"}}},
    ],
)
def test_a_budget_that_is_none_is_refused(settings: Any) -> None:
    """Where it is written."""
    with pytest.raises(DefinitionError, match="budget"):
        Flow(Node(), **settings)


@pytest.mark.parametrize("make", [lambda one: one, Parallel, Subflow])
def test_what_has_nodes_inside_has_no_budget_as_a_whole(make: Callable[[Flow], Node]) -> None:
    """A budget that nothing inside would count in is refused, also when it is assigned."""
    whole, flow = make(Flow(Node(), flow_name="inner")), Flow(Node())
    with pytest.raises(DefinitionError, match=r"'.+', which has other nodes inside"):
        flow.node_budgets = {whole: {"usd": Decimal(2)}}


def test_names_of_what_is_spent_are_texts() -> None:
    """``when_spent`` takes nothing else."""
    wrong: Any = 1
    with pytest.raises(DefinitionError, match=r"when_spent\(1\)"):
        Node().when_spent(wrong)


# -- what is shown --------------------------------------------------------------------------------


class Spender(Node):
    """Spends in each phase, in ``exec`` in a call and twice."""

    max_retries = 2

    def prep(self, store: Store[Any]) -> None:
        context().spend(searches=1)

    def exec(self, prep_result: object) -> None:
        context().call(llm, "a")
        if context().attempt == 1:
            raise Retry("not yet")

    def post(self, store: Store[Any], prep_result: object, result: object) -> None:
        context().spend(usd=1)


@pytest.mark.parametrize("make", [Parallel, Subflow])
def test_an_expense_has_the_number_of_its_step(tmp_path: Path, make: Any) -> None:
    """Also in branches, whose steps are numbered as they are committed."""

    def chain(number: int) -> Flow[Any]:
        first, second = Spender(name=f"a{number}"), Spender(name=f"b{number}")
        return Flow(first, flow_name=f"flow {number}").then(first, second)

    if make is Subflow:
        start: Any = Subflow(chain(0), name="both")
    else:
        start = Parallel(*(chain(number) for number in range(8)), name="both")
    flow = Flow(start, db_path=tmp_path / "runs.db", run_id="r")
    flow.run({})
    ended = {
        tuple(json.loads(one["path"])): one["step"]
        for one in flow.database.get_events("r")
        if one["event"] == "node_end" and one["path"]
    }
    expenses = flow.database.get_expenses("r")
    assert {(one.names, one.step) for one in expenses} == {*ended.items()}


def test_what_each_attempt_has_cost_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``runs show``, its JSON, the monitor and the export have it."""

    class Twice(Node):
        max_retries = 2

        def exec(self, prep_result: object) -> None:
            context().call(llm, "a")
            if context().attempt == 1:
                context().spend(usd=1)
                raise Retry("it lacks a title")

    path = str(tmp_path / "runs.db")
    flow = Flow(Twice(), db_path=path, run_id="r")
    flow.run({})
    assert main(["runs", "show", "r", "--db", path]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "spent 1.2 usd, 20 tokens" in lines
    assert "step 0 Twice attempt 1 1 call 1.1 usd, 10 tokens" in lines
    assert "step 0 Twice attempt 2 1 call 0.1 usd, 10 tokens" in lines
    assert any("attempt 1 failed, Retry: it lacks a title" in line for line in lines)
    assert main(["runs", "show", "r", "--db", path, "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["account"] == {"usd": "1.2", "tokens": "20"}
    expenses = flow.database.get_expenses("r")
    assert shown["expenses"] == [one.as_json() for one in expenses]
    assert export_run(flow.database, "r")["expenses"] == shown["expenses"]
    assert costs_table(expenses)["label"] == "Spent: 1.2 usd, 20 tokens"
    assert [row["cells"] for row in costs_table(expenses)["rows"]] == [
        [0, "Twice", None, 1, 1, "1.1 usd, 10 tokens"],
        [0, "Twice", None, 2, 1, "0.1 usd, 10 tokens"],
    ]


# -- budgets that runs share ----------------------------------------------------------------------


def paying(path: Path, **settings: Any) -> Flow:
    """A flow of two nodes, of which each spends 1."""

    class Pay(Node):
        def exec(self, prep_result: object) -> None:
            context().spend(usd=1)

    first = Pay(name="first")
    return Flow(first.then("default", Pay(name="second")), db_path=path, **settings)


def test_the_runs_of_a_thread_share_a_budget(tmp_path: Path) -> None:
    """What the runs before it have spent counts; a run outside of the thread has none of it."""
    flow = paying(tmp_path / "runs.db", thread_budget={"usd": 3})
    flow.run({}, thread="a")
    with pytest.raises(BudgetError, match=r"3 of 3 usd in run thread 'a'"):
        flow.run({}, thread="a", run_id="late")
    flow.run({}, thread="b")
    flow.run({})
    flow.thread_budget = {"usd": Decimal(4)}
    flow.resume("late")
    assert flow.database.get_account("late") == {"usd": Decimal(2)}


def test_the_runs_of_a_label_share_a_budget(tmp_path: Path) -> None:
    """By its value, whichever flow they are of."""
    settings: dict[str, Any] = {"label_budgets": {"customer": {"usd": 3}}}
    flow = paying(tmp_path / "runs.db", **settings)
    flow.run({}, labels={"customer": "acme"})
    other = paying(tmp_path / "runs.db", flow_name="other", **settings)
    with pytest.raises(BudgetError, match="3 of 3 usd in the runs of customer=acme"):
        other.run({}, labels={"customer": "acme"})
    other.run({}, labels={"customer": "else", "kind": "acme"})
    other.run({})


@pytest.mark.parametrize(
    "limits", [{"label_budgets": {"customer": {"usd": 1}}}, {"thread_budget": {"usd": 1}}]
)
def test_a_budget_that_is_spent_before_a_node_begins_takes_the_edge_of_that_node(
    tmp_path: Path, limits: Any
) -> None:
    """The first node of a run is not visited, and the run goes where its edge leads."""

    class Pays(Node):
        visits = 0

        def exec(self, prep_result: object) -> None:
            self.visits += 1
            context().spend(usd=1)

        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
            return "done"

    pays, short = Pays(), Note(name="short")
    flow = Flow(pays, db_path=tmp_path / "runs.db", flow_name="f", strict=False, **limits)
    flow.then(pays.when_spent("usd"), short).then(pays.when("done"), Node(name="long"))
    how: Any = {"labels": {"customer": "acme"}} if "label_budgets" in limits else {"thread": "t"}
    for _ in range(3):
        assert flow.run({}, **how)["account"] is not None
    assert pays.visits == 1
    database = flow.database
    assert database is not None
    steps = [database.get_checkpoints(row["run_id"]) for row in database.list_runs()]
    assert sorted(map(len, steps)) == [1, 1, 2]


def test_runs_of_a_label_at_the_same_time_share_a_budget(tmp_path: Path) -> None:
    """Each sees with its next commit what the other has spent, and begins no further call."""
    turns = {"a": threading.Event(), "b": threading.Event(), "over": threading.Event()}

    def pay() -> int:
        context().spend(usd=1)
        return 1

    class First(Node):
        def exec(self, prep_result: object) -> None:
            context().call(pay)
            turns["a"].set()
            assert turns["b"].wait(WAIT)
            context().call(pay)  # its commit sees the two of the other run
            turns["over"].set()
            context().call(pay)

    class Second(Node):
        def exec(self, prep_result: object) -> None:
            assert turns["a"].wait(WAIT)
            context().call(pay)
            context().call(pay)
            turns["b"].set()
            assert turns["over"].wait(WAIT)

    path, limits = tmp_path / "runs.db", {"customer": {"usd": 4}}
    both = [Flow(one(), db_path=path, label_budgets=limits) for one in (First, Second)]
    labels = {"customer": "acme"}
    first, second = (flow.run_background({}, labels=labels) for flow in both)
    second.wait(WAIT)
    with pytest.raises(BudgetError, match="4 of 4 usd in the runs of customer=acme"):
        first.wait(WAIT)
    with WorkflowDB(path) as db:
        assert db.get_account(first.run_id) == {"usd": 2}


@pytest.mark.parametrize(
    ("budget", "of"),
    [
        ({"thread_budget": {"usd": 4}}, {"thread": "t"}),
        ({"label_budgets": {"customer": {"usd": 4}}}, {"labels": {"customer": "acme"}}),
    ],
    ids=["thread", "label"],
)
def test_a_run_that_has_spent_nothing_shares_a_budget(tmp_path: Path, budget: Any, of: Any) -> None:
    """Those after it, or beside it, are not in its way, nor is it in theirs."""

    @node
    def pays() -> None:
        context().spend(usd=1)

    settings = {"db_path": tmp_path / "runs.db", "flow_name": "f", **budget}
    Flow(Node(), **settings).run({}, **of)
    flow = Flow(pays, **settings)
    flow.run({}, run_id="r", **of)
    assert flow.database.get_account("r") == {"usd": 1}


def test_a_shared_budget_counts_runs_that_failed_and_went_on(tmp_path: Path) -> None:
    """What was spent counts once, however often it is looked at and whatever became of the run."""
    broken = [True]

    class Pays(Node):
        def exec(self, prep_result: object) -> None:
            context().spend(usd=1)

        def post(self, store: Store[Any], prep_result: object, result: object) -> str:
            if broken[0]:
                raise ConnectionError
            return "default"

    labels = {"customer": "acme"}
    flow = Flow(Pays(), db_path=tmp_path / "runs.db", label_budgets={"customer": {"usd": 5}})
    with pytest.raises(ConnectionError):
        flow.run({}, run_id="late", labels=labels)
    broken[0] = False
    flow.run({}, labels=labels)
    flow.resume("late")
    for _ in range(3):
        flow.run({}, labels=labels)
    with pytest.raises(BudgetError, match="5 of 5 usd in the runs of customer=acme"):
        flow.run({}, labels=labels)


def test_runs_that_are_not_kept_share_no_budget() -> None:
    """A budget that cannot count anything is refused."""
    with pytest.raises(DefinitionError, match="give it a db_path"):
        Flow(Node(), thread_budget={"usd": 1}).run({})
    with pytest.raises(DefinitionError, match="label_budgets"):
        Flow(Node(), label_budgets={1: {}})  # type: ignore[dict-item]


@pytest.mark.parametrize("amount", [-0.0, Decimal("-0"), Decimal("-0E+3")])
def test_nothing_less_than_nothing_is_nothing(tmp_path: Path, amount: Any) -> None:
    """A zero with a sign is a zero, also on record, where it is read again."""

    @node
    def pay() -> None:
        context().spend(usd=amount)

    flow = Flow(pay, db_path=tmp_path / "runs.db", run_id="r")
    flow.run({})
    assert flow.database.get_account("r") == {"usd": 0}


def test_a_float_that_shows_itself_otherwise_is_its_number(tmp_path: Path) -> None:
    """As those of NumPy do, which are floats."""

    class Shown(float):
        def __repr__(self) -> str:
            return f"np.float64({float(self)})"

    @node
    def pay() -> None:
        context().spend(usd=Shown(0.1))

    flow = Flow(pay, db_path=tmp_path / "runs.db", run_id="r")
    flow.run({})
    assert flow.database.get_account("r") == {"usd": Decimal("0.1")}


@pytest.mark.parametrize("text", ["1.2.3", ".", "1.", "1E", "NaN"])
def test_a_damaged_amount_is_told(tmp_path: Path, text: str) -> None:
    """Whoever sums up what was spent gets an error of ours."""
    flow = paying(tmp_path / "runs.db", thread_budget={"usd": 3})
    flow.run({}, thread="a", run_id="r")
    data = json.dumps({"usd": text})
    with flow.database.connection.transaction() as raw:
        raw.execute("UPDATE pf_log SET data = ? WHERE kind = 19", (data,))
    with pytest.raises(DecodeError, match="of the log cannot be read"):
        flow.database.get_account("r")
    with pytest.raises(DecodeError, match="of the log cannot be read"):
        flow.run({}, thread="a")


class StartedItem(Node):
    """Breaks where it is told to, after it has paid for something."""

    max_retries = 2
    at = ""

    def prep(self, store: Store[Any]) -> str:
        return "a text"

    def exec(self, text: str) -> str:
        if self.at == "attempt":
            context().spend(usd=0.05)
            raise OSError("down") if context().attempt == 1 else KeyboardInterrupt
        answer = context().call(llm, text)
        if self.at == "exec":
            raise KeyboardInterrupt
        return context().call(llm, "more") if self.at == "" else answer

    def post(self, store: Store[Any], text: str, answer: str) -> None:
        if self.at == "post":
            raise KeyboardInterrupt
        store["answer"] = answer


@node(writes=key("summary"))
def sum_up(topic: str) -> str:
    """Takes what it is given, and nothing of another node's."""
    return f"about {topic}"


@pytest.mark.parametrize(
    ("breaks", "then", "answer", "spent"),
    [
        ("exec", "exec again", "A TEXT", "0.1"),
        ("exec", "", None, "0.1"),
        ("post", "", "A TEXT", "0.1"),
        ("attempt", "attempt", None, "0.1"),
    ],
    ids=["ends with its calls", "refused call", "result", "attempt"],
)
def test_a_step_that_had_begun_when_a_run_broke_goes_on_with_what_is_on_record(
    tmp_path: Path, breaks: str, then: str, answer: str | None, spent: str
) -> None:
    """What is paid for is kept, what would cost is refused, and the next node has its own input."""
    begun = StartedItem()
    flow = Flow(begun, db_path=tmp_path / "runs.db", flow_name="f", budget={"usd": 0.1})
    flow.then(begun, sum_up).then(begun.when_spent("usd"), sum_up)
    begun.at = breaks
    with pytest.raises(KeyboardInterrupt):
        flow.run({"topic": "rain"}, run_id="r")
    begun.at = then
    store = flow.resume("r")
    assert (store.get("answer"), store["summary"]) == (answer, "about rain")
    assert flow.database.get_account("r")["usd"] == Decimal(spent)


def test_finished_items_are_kept_where_a_budget_was_spent_when_a_run_broke(tmp_path: Path) -> None:
    """The step goes on with what it has, as it would have without the break."""
    broken = True

    class Batch(BatchNode):
        def prep(self, store: Store[Any]) -> list[int]:
            return [0, 1, 2]

        def exec(self, item: int) -> int:
            if item == 2 and broken:
                raise KeyboardInterrupt
            context().spend(usd=0.1)
            return item

        def post(self, store: Store[Any], items: Any, results: Any) -> None:
            store["done"] = results

    start = Batch()
    flow = Flow(start, db_path=tmp_path / "runs.db", flow_name="f", budget={"usd": 0.15})
    flow.then(start, sum_up).then(start.when_spent(), sum_up)
    with pytest.raises(KeyboardInterrupt):
        flow.run({"topic": "rain"}, run_id="r")
    broken = False
    store = flow.resume("r")
    assert (store["done"], store["summary"]) == ([0, 1, 2], "about rain")
