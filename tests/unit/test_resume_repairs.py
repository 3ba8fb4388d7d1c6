"""Going on with a run whose store or nodes have to be put right first."""

from __future__ import annotations

import dataclasses
import logging
import threading
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self, cast

import pytest
from pydantic import BaseModel, Field, create_model, field_validator, model_validator

from pocoflow import (
    AskNode,
    FanOut,
    Flow,
    Node,
    Parallel,
    Question,
    RunPaused,
    Store,
    Subflow,
    WorkflowDB,
    bind,
    key,
)
from pocoflow.db.copying import copy_runs
from pocoflow.errors import (
    BranchError,
    InvalidValueError,
    MissingInputError,
    ResumeError,
    UnreadableKeyError,
)
from pocoflow.node import NodeLike


class Asks(Node):
    """Is paid for with the model that the store names, as long as it is not down."""

    def __init__(self) -> None:
        super().__init__(name="asks")
        self.is_down = True

    def prep(self, store: Store[Any]) -> tuple[str, str]:
        return store["model"], store.get("tone", "none")

    def exec(self, prepared: tuple[str, str]) -> str:
        if self.is_down:
            raise OSError("down")
        return " ".join(prepared)

    def post(self, store: Store[Any], prepared: Any, result: str) -> str:
        store["asked"] = result
        return "default"


def test_what_a_resume_was_given_holds_for_the_next_one(tmp_path: Path) -> None:
    """A resume that fails before its first commit is followed by one with the same input."""
    asks = Asks()
    flow = Flow(asks, flow_name="f", db_path=tmp_path / "runs.db", strict=False)
    with pytest.raises(OSError, match="down"):
        flow.run({"model": "small"}, run_id="r")
    with pytest.raises(OSError, match="down"):
        flow.resume("r", changes={"model": "large", "tone": "loud"})
    with pytest.raises(OSError, match="down"):
        flow.resume("r", changes={"tone": "soft"})
    asks.is_down = False
    assert flow.resume("r")["asked"] == "large soft"
    database = flow.database
    assert database is not None
    assert database.load_checkpoint("r", -1).as_dict() == {"model": "small"}


def test_none_in_the_place_of_what_cannot_be_stored_is_on_record(tmp_path: Path) -> None:
    """A resource that is closed and set to None comes back as None, not as not saved."""

    class Sets(Node):
        def __init__(self, name: str, value: Any) -> None:
            super().__init__(name=name)
            self.value = value

        def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
            store["client"] = self.value
            return "default"

    first, second = Sets("opens", threading.Lock()), Sets("closes", None)
    flow = Flow(first, flow_name="f", db_path=tmp_path / "runs.db", strict=False)
    flow.then(first, second).run({}, run_id="r")
    database = flow.database
    assert database is not None
    assert database.load_checkpoint("r", 1)["client"] is None


@pytest.mark.parametrize("name", ["$increments", "null", "None"])
def test_a_key_of_any_name_comes_back_in_a_branch(tmp_path: Path, name: str) -> None:
    """No name is the library's own among the keys of a branch."""

    class Writes(Node):
        def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
            store[name] = "mine"
            store["ok"] = True
            return "default"

    writes, fails = Writes(), Fails("fails", "exec")
    branch = Flow(writes, flow_name="branch", strict=False).then(writes, fails)
    parallel = Parallel(branch, Node(name="other"), name="both")
    flow = Flow(parallel, flow_name="f", db_path=tmp_path / "runs.db", strict=False)
    with pytest.raises(OSError, match="down"):
        flow.run({}, run_id="r")
    fails.phase = ""
    assert flow.resume("r")[name] == "mine"


class Fails(Node):
    """Fails in a phase as long as it is told to."""

    def __init__(self, name: str, phase: str = "") -> None:
        super().__init__(name=name)
        self.phase = phase
        self.paid = 0

    def exec(self, prepared: Any) -> str:
        if self.phase == "exec":
            raise OSError("down")
        self.paid += 1
        return "paid"

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        if self.phase == "post":
            raise OSError("down")
        store["seen"] = repr(store["ok"])
        return "default"


def model(kind: Any) -> type[BaseModel]:
    """The store, with a field of a kind that another version of the program changes."""
    return create_model("Work", ok=(kind, ...), seen=(str, ""))


def stopped(path: Path, node: Fails, schema: Any, **given: Any) -> str:
    """A run that has failed in a node; its id."""
    flow = Flow(node, schema=schema, db_path=path, flow_name="flow", run_id="r")
    with pytest.raises(OSError, match="down"):
        flow.run(given)
    return "r"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file."""
    return tmp_path / "runs.db"


def test_a_change_repairs_the_field_that_does_not_fit_any_more(path: Path) -> None:
    """``changes=`` takes the place of a stored value before that is held against the schema."""
    run_id = stopped(path, Fails("work", "exec"), model(bool), ok=False)
    flow = Flow(Fails("work"), schema=model(dict[str, int]), db_path=path, flow_name="flow")
    with pytest.raises(ResumeError, match=r"or set what does not fit, changes=\{'ok': "):
        flow.resume(run_id)
    with pytest.raises(InvalidValueError, match="'ok' expects dict"):
        flow.resume(run_id, changes={"ok": "x"})
    forked = flow.fork(run_id, changes={"ok": {"a": 1}})
    assert flow.resume(forked)["seen"] == "{'a': 1}"
    assert flow.resume(run_id, changes={"ok": {"b": 2}})["seen"] == "{'b': 2}"


def test_a_field_that_is_gone_is_dropped_by_a_validator_and_takes_no_value(path: Path) -> None:
    """The error does not send to ``changes=``, and what it says works."""
    run_id = stopped(path, Fails("work", "exec"), model(int), ok=1)

    class Without(BaseModel):
        seen: str = ""

    class Dropping(Without):
        @model_validator(mode="before")
        @classmethod
        def _without(cls, values: dict[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in values.items() if key != "ok"}

    def flow(schema: type[BaseModel]) -> Flow[Any]:
        return Flow(Node(name="work"), schema=schema, db_path=path, flow_name="flow")

    with pytest.raises(ResumeError, match=r"takes or drops it \(mode='before'\)") as refused:
        flow(Without).resume(run_id, rename={"work": "work"})
    assert refused.value.remedies == ()
    assert "changes=" not in str(refused.value)
    assert list(flow(Dropping).resume(run_id, rename={"work": "work"})) == ["seen"]


def test_an_input_that_is_new_is_asked_for_as_a_change(path: Path) -> None:
    """A field that the program needs by now, and the run lacks, is given by ``changes=``."""
    run_id = stopped(path, Fails("work", "exec"), None, ok=1)
    schema = create_model("Work", ok=(int, ...), seen=(str, ""), owner=(str, ...))
    owner: Any = key("owner")
    flow = Flow(Fails("work"), schema=schema, db_path=path, flow_name="flow", inputs=(owner,))
    with pytest.raises(MissingInputError, match=r"'owner' .* a resumed run gets it with changes="):
        flow.resume(run_id)
    assert flow.resume(run_id, changes={"owner": "ann"})["owner"] == "ann"


def test_what_is_finished_is_told_to_be_kept_when_the_store_is_changed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A result of before a change stays, and the log says so and what to do about it."""
    run_id = stopped(path, Fails("work", "post"), None, ok=1)
    node = Fails("work")
    flow = Flow(node, db_path=path, flow_name="flow")
    with caplog.at_level(logging.WARNING, "pocoflow"):
        assert flow.resume(run_id, changes={"ok": 2})["seen"] == "2"
    assert node.paid == 0
    assert "what is finished of node 'work' is kept as it was before 'ok' changed" in caplog.text
    assert "fork() begins the node anew" in caplog.text


@pytest.mark.parametrize(
    ("rename", "told"),
    [
        ({"wrok": "work"}, r"its flow had no node 'wrok'; did you mean 'work'\?"),
        ({"work": "wrok"}, r"its flow has no node 'wrok'; did you mean 'work'\?"),
    ],
)
def test_a_renaming_of_what_nobody_knows_is_refused(
    path: Path, rename: dict[str, str], told: str
) -> None:
    """Both names of a renaming are names of nodes, then and now."""
    run_id = stopped(path, Fails("work", "exec"), None, ok=1)
    flow = Flow(Fails("work"), db_path=path, flow_name="flow")
    with pytest.raises(ResumeError, match=told):
        flow.resume(run_id, rename=rename)
    assert flow.resume(run_id)["seen"] == "1"


def inside(node: NodeLike[Any], path: Path) -> Flow[Any]:
    """A flow with a flow of that node in each of its branches."""
    inner = Flow(node, flow_name="inner")
    fan_out = FanOut(inner, each=key("items"), as_=key("item"), private=[key("seen")])
    return Flow(fan_out, db_path=path, flow_name="flow", run_id="r")


@pytest.mark.parametrize("rename", [{"old": "new"}, {"FanOut/inner/old": "FanOut/inner/new"}])
def test_a_node_in_a_branch_is_renamed_by_its_name_or_its_path(
    path: Path, rename: dict[str, str]
) -> None:
    """The error names the flow around the node; the path that it shows is a name, too."""
    first = Fails("first")
    first.then("default", Fails("old", "exec"))
    with pytest.raises(OSError, match="down"):
        inside(first, path).run({"items": [1, 2], "ok": True})
    first = Fails("first")
    first.then("default", Fails("new"))
    flow = inside(first, path)
    with pytest.raises(
        ResumeError, match=r"and flow 'FanOut\[\d\]/inner' has no node 'old'"
    ) as told:
        flow.resume("r")
    assert "; if no edge leads to it any more, write one\nWhat has changed" in str(told.value)
    flow.resume("r", rename=rename)
    assert first.paid <= 1


class Pays(Fails):
    """Another definition of a node."""


def chain(path: Path, *nodes: NodeLike[Any], schema: Any = None) -> Flow[Any]:
    """A flow of nodes, one after another."""
    for one, successor in pairwise(nodes):
        one.then("default", successor)
    return Flow(nodes[0], schema=schema, db_path=path, flow_name="flow", run_id="r")


@pytest.mark.parametrize("again", [True, False], ids=["given again", "given once"])
@pytest.mark.parametrize("now", [("b", "a"), ("b", "c")], ids=["swapped", "moved on"])
def test_a_renaming_is_put_on_record(path: Path, now: tuple[str, str], again: bool) -> None:
    """A run that fails once more stands before the same node, whether it is told again or not."""
    flow = chain(path, Pays("first"), Fails("a", "exec"), Pays("b"))
    with pytest.raises(OSError, match="down"):
        flow.run({"ok": 1})
    rename = dict(zip(("a", "b"), now, strict=True))
    with pytest.raises(OSError, match="down"):
        chain(path, Pays("first"), Fails(now[0], "exec"), Pays(now[1])).resume("r", rename=rename)
    nodes = Pays("first"), Fails(now[0]), Pays(now[1])
    chain(path, *nodes).resume("r", rename=rename if again else None)
    assert [one.paid for one in nodes] == [0, 1, 1]


def test_a_run_can_be_forked_from_before_a_renaming(path: Path) -> None:
    """Earlier steps are under the names of now, too; a namesake in another flow keeps its own."""

    def build(name: str, fails: str) -> Flow[Any]:
        inner = Flow(Pays("a"), flow_name="inner")
        return chain(path, Pays("first"), Fails(name), inner, Fails("last", fails))

    with pytest.raises(OSError, match="down"):
        build("a", "exec").run({"ok": 1})
    flow = build("b", "")
    flow.resume("r", rename={"a": "b"})
    for step in (0, 1, 2):
        flow.resume(flow.fork("r", step=step))


def test_flows_that_have_swapped_their_names_are_told_apart(path: Path) -> None:
    """The node that comes next is compared with that of the flow which it is in now."""

    def build(first: str, second: str, fails: str) -> Flow[Any]:
        one = Flow(Fails("n", fails), flow_name=first)
        return chain(path, one, Flow(Pays("n"), flow_name=second))

    with pytest.raises(OSError, match="down"):
        build("x", "y", "exec").run({"ok": 1})
    with pytest.raises(ResumeError, match=r"before node 'x/n', which was .*Fails and is .*Pays"):
        build("y", "x", "").resume("r")
    assert build("y", "x", "").resume("r", rename={"x": "y", "y": "x"})["seen"] == "1"


def test_a_question_is_answered_under_the_name_of_now(path: Path) -> None:
    """A run that was resumed under a new name, and waits on, takes the reply of its node."""

    class Asks(AskNode[bool, str]):
        def exec(self, prepared: object) -> Question[bool]:
            return Question("Well?")

        def post(self, store: Store[Any], prepared: object, answer: bool) -> str:
            store["answer"] = answer
            return "default"

    with pytest.raises(RunPaused):
        chain(path, Asks(name="old")).run({})
    new = Asks(name="new")
    flow = chain(path, new)
    with pytest.raises(RunPaused):
        flow.resume("r", rename={"old": "new"})
    flow.answer("r", new.reply(True))
    assert flow.resume("r")["answer"] is True


class Before(BaseModel):
    """The store of a flow, in its first version."""

    ok: int = 0
    texts: list[int] = []
    title: str = ""
    seen: str = ""


class After(BaseModel):
    """The same in its second version, which reads what the first one has left."""

    ok: str = ""
    texts: list[str] = []
    name: str = ""
    seen: str = ""

    @model_validator(mode="before")
    @classmethod
    def read(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Take the values of the first version."""
        ok, texts = str(data.get("ok", "")), [str(one) for one in data.get("texts", ())]
        known = {key: value for key, value in data.items() if key != "title"}
        name = data["title"] if "title" in data else data.get("name", "")
        return {**known, "ok": ok, "texts": texts, "name": name}


class Writes(Node):
    """Writes what the versions of the store have in common, and fails."""

    def __init__(self, name: str, text: Any, fails: bool = False, **values: Any) -> None:
        super().__init__(name=name)
        self.text, self.fails, self.values = text, fails, values

    def exec(self, prepared: Any) -> None:
        if self.fails:
            raise OSError("down")

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        store["texts"] = [*store["texts"], self.text]
        store.update(self.values)
        return "default"


@pytest.mark.parametrize("kind", [Parallel, Subflow])
def test_what_a_branch_had_set_is_migrated_with_the_store(path: Path, kind: Any) -> None:
    """The values of a parallel branch are read by the validators of the schema, each time."""

    def build(schema: Any, *nodes: NodeLike[Any]) -> Flow[Any]:
        inner = chain(path, *nodes)
        place: Any = Parallel(inner, name="fork")
        if kind is Subflow:
            around = Flow(nodes[0], flow_name="fork", schema=schema)
            back = [bind(cast(Any, key(one))).to(key(one)) for one in ("ok", "texts")]
            place = Subflow(around, outputs=back)
        return Flow(place, schema=schema, db_path=path, run_id="r", flow_name="flow")

    first = Writes("first", 1, ok=5, title="t")
    with pytest.raises(OSError, match="down"):
        build(Before, first, Writes("second", 2, True), Writes("third", 3)).run({})
    second, fails = Writes("second", "2"), Writes("third", "3", True)
    with pytest.raises(OSError, match="down"):
        build(After, Writes("first", "1"), second, fails).resume("r")
    store = build(After, Writes("first", "1"), second, Writes("third", "3")).resume("r")
    assert (store["ok"], store["texts"]) == ("5", ["1", "2", "3"])
    assert kind is Subflow or store["name"] == "t"


class Priced(BaseModel):
    """A store whose prices were texts."""

    price: str = "3 EUR"
    prices: list[str] = ["4 EUR"] * 200
    shown: str = ""


class Exact(Priced):
    """The same with prices that one can count with, which are read from texts once."""

    price: Decimal = Decimal(0)  # type: ignore[assignment]
    prices: list[Decimal] = []  # type: ignore[assignment]

    @field_validator("price", "prices", mode="before")
    @classmethod
    def read(cls, value: Any) -> Any:
        """Read what the first version has left, and nothing else."""
        many = value if isinstance(value, list) else [value]
        read = [Decimal(one.removesuffix(" EUR")) for one in many]
        return read if isinstance(value, list) else read[0]


class Sells(AskNode[bool, str]):
    """Asks before it shows the prices; ``sets`` are the keys that it raises before."""

    def __init__(self, *sets: str) -> None:
        super().__init__(name="sells")
        self.sets = sets

    def prep(self, store: Store[Any]) -> Question[bool]:
        for one in self.sets:
            store[one] = ["5 EUR", *store[one]] if one == "prices" else "6 EUR"
        return Question("Well?")

    def post(self, store: Store[Any], question: object, answer: bool) -> str:
        assert {type(one) for one in (store["price"], *store["prices"])} == {Decimal}
        store["shown"] = f"{store['price']} {store['prices'][0]} {len(store['prices'])}"
        return "default"


@pytest.mark.parametrize(
    ("sets", "shown"),
    [
        ((), "3 4 200"),
        (("price",), "6 4 200"),
        (("prices",), "3 5 201"),
        (("price", "prices"), "6 5 201"),
    ],
)
@pytest.mark.parametrize("resumes", [0, 1, 3])
def test_what_was_migrated_stays_so_while_a_step_waits(
    path: Path, sets: tuple[str, ...], shown: str, resumes: int
) -> None:
    """A node whose prep has run finds its fields as the schema has them, however often it waits."""
    with pytest.raises(RunPaused):
        chain(path, Sells(*sets), schema=Priced).run({})
    sells = Sells(*sets)
    flow = chain(path, sells, schema=Exact)
    for _ in range(resumes):
        with pytest.raises(RunPaused):
            flow.resume("r")
    flow.answer("r", sells.reply(True))
    assert flow.resume("r")["shown"] == shown


@pytest.mark.parametrize("sets", [(), ("price",), ("price", "prices")])
@pytest.mark.parametrize("resumes", [0, 1, 3])
@pytest.mark.parametrize("is_copied", [False, True])
def test_what_branches_have_is_migrated_once(
    path: Path, sets: tuple[str, ...], resumes: int, is_copied: bool
) -> None:
    """What the steps of a branch have written, and its prep, is read by the schema of now."""

    class Raises(Node):
        def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
            store["prices"] = ["8 EUR"] * 200
            return "default"

    def build(schema: Any) -> tuple[Flow[Any], Sells]:
        first, sells = Raises(name="first"), Sells(*sets)
        inner = Flow(first, schema=schema, flow_name="inner").then(first, sells)
        deep = Parallel(inner, Node(name="beside"), name="deep")
        place = Parallel(deep, Node(name="other"), name="both")
        return chain(path, place, schema=schema), sells

    with pytest.raises(RunPaused):
        build(Priced)[0].run({})
    flow, sells = build(Exact)
    for _ in range(resumes):
        with pytest.raises(RunPaused):
            flow.resume("r")
    if is_copied:
        flow, before = flow.using(db_path=path.with_name("there.db")), flow.database
        Flow(Node(), db_path=flow.database, run_id="another").run({})
        copy_runs(before, flow.database, ["r"])
    flow.answer("r", sells.reply(True))
    store = flow.resume("r")
    many = "5 201" if "prices" in sets else "8 200"
    assert store["shown"] == f"{6 if 'price' in sets else 3} {many}"
    assert {type(one) for one in (store["price"], *store["prices"])} == {Decimal}


@pytest.mark.parametrize("sets", [(), ("price",)])
@pytest.mark.parametrize("schema", [Priced, Exact])
def test_what_a_resume_was_given_holds_while_a_step_waits(
    path: Path, sets: tuple[str, ...], schema: Any
) -> None:
    """A run that goes on waiting has it when it is answered, and what its prep has set."""

    class Keeps(Sells):
        def post(self, store: Store[Any], question: object, answer: bool) -> str:
            return "default"

    sells = Keeps(*sets)
    with pytest.raises(RunPaused):
        chain(path, sells, schema=Priced).run({})
    flow = chain(path, sells, schema=schema)
    several: list[dict[str, Any]] = [{"shown": "a"}, {}, {"prices": []}, {}]
    for changes in several:
        with pytest.raises(RunPaused):
            flow.resume("r", changes=changes)
    flow.answer("r", sells.reply(True))
    store = flow.resume("r")
    assert (store["prices"], store["shown"]) == ([], "a")
    price = "6 EUR" if sets else "3 EUR"
    assert store["price"] == (price if schema is Priced else Decimal(price[0]))


@pytest.mark.parametrize("resumes", [0, 1, 3])
def test_what_was_migrated_stays_so_with_values_that_are_given(path: Path, resumes: int) -> None:
    """What a resume was given and what it migrated are both there for the next one."""
    fails = Fails("n", "exec")
    with pytest.raises(OSError, match="down"):
        chain(path, fails, schema=Priced).run({})
    for _ in range(resumes):
        with pytest.raises(OSError, match="down"):
            chain(path, fails, schema=Exact).resume("r", changes={"shown": "no"})
    store = chain(path, Node(name="n"), schema=Exact).resume("r", rename={"n": "n"})
    assert store.as_dict() == {
        "price": Decimal(3),
        "prices": [Decimal(4)] * 200,
        "shown": "no" if resumes else "",
    }


class Fast(BaseModel):
    """The store of a subflow."""

    mode: str = "fast"
    modes: list[str] = ["fast"]
    seen: str = ""


class Slow(Fast):
    """The same with other defaults."""

    mode: str = "slow"
    modes: list[str] = ["slow"]


class Shows(Node):
    """Shows what the subflow works with."""

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        store["seen"] = f"{store['mode']} {store['modes']}"
        return "default"


class Sets(Node):
    """Writes what is there, reads it, adds to it, or leaves it alone."""

    def __init__(self, does: str) -> None:
        super().__init__(name="sets")
        self.does = does

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        if self.does == "writes":
            store.update(mode="fast", modes=["fast"])
        elif self.does == "reads":
            assert [store["mode"]] == store["modes"]
        elif self.does == "adds":
            store["modes"].append("more")
        return "default"


@pytest.mark.parametrize("does", ["writes", "reads", "adds", "leaves"])
def test_a_subflow_goes_on_with_the_values_that_it_began_with(path: Path, does: str) -> None:
    """A schema that has other defaults by then changes none of them."""

    def build(schema: Any, shows: Node) -> Flow[Any]:
        first = Sets(does)
        inner = Flow(first, schema=schema, flow_name="inner").then(first, shows)
        return chain(path, Subflow(inner, outputs=[bind(key("seen")).to(key("seen"))]))

    with pytest.raises(OSError, match="down"):
        build(Fast, Fails("shows", "exec")).run({})
    store = build(Slow, Shows(name="shows")).resume("r", rename={"shows": "shows"})
    assert store["seen"] == f"fast {['fast', 'more'] if does == 'adds' else ['fast']}"


def test_what_a_branch_had_set_and_nobody_can_read_is_told(path: Path) -> None:
    """The error names the field and what to do, instead of a branch with a value that is none."""

    def build(schema: type[BaseModel], fails: bool) -> Flow[Any]:
        inner = chain(path, Writes("first", 1, ok=5), Writes("second", 2, fails))
        return Flow(Parallel(inner, name="fork"), schema=schema, db_path=path, run_id="r")

    with pytest.raises(OSError, match="down"):
        build(Before, True).run({})
    text: Any = (str, "")
    changed = create_model(
        "Changed", ok=(bool, False), texts=(list[int], []), title=text, seen=text
    )
    flow = build(changed, False)
    with pytest.raises(BranchError, match=r"'ok' expects bool, got int: 5.*mode='before'"):
        flow.resume("r", changes={"ok": True})


def test_changes_count_when_the_values_are_checked_together(path: Path) -> None:
    """A new field whose default contradicts what is stored can be given by ``changes=``."""

    class Limited(BaseModel):
        ok: int
        seen: str = ""
        least: int = 10

        @model_validator(mode="after")
        def check_least(self) -> Self:
            if self.ok < self.least:
                raise ValueError("too few")
            return self

    run_id = stopped(path, Fails("work", "exec"), model(int), ok=3)
    flow = Flow(Fails("work"), schema=Limited, db_path=path, flow_name="flow")
    with pytest.raises(ResumeError, match="too few"):
        flow.resume(run_id)
    with pytest.raises(InvalidValueError, match="'least' expects int"):
        flow.resume(run_id, changes={"least": "1"})
    assert flow.resume(run_id, changes={"least": 1})["seen"] == "3"


class Colour(Enum):
    """A class that another version of the program changes."""

    RED = 1


class Point(BaseModel):
    x: str = "a"


@pytest.mark.parametrize(
    ("value", "now"),
    [
        (Colour.RED, Enum("Colour", {"BLUE": 1})),
        (Point(), create_model("Point", y=(str, "b"))),
        (Point(), create_model("Point", x=(str, ...), y=(int, ...))),
        (Point(), dataclasses.make_dataclass("Point", [("x", str)])),
    ],
)
def test_a_changed_class_costs_the_key_of_its_value_alone(
    path: Path, value: Any, now: type, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on without it, with another value for it, or forked; the log names the class."""
    run_id = stopped(path, Fails("work", "exec"), model(Any), ok=value, seen="kept")
    alias = {f"{__name__}:{type(value).__name__}": now}
    flow = Flow(Fails("work"), schema=model(Any), db_path=path, flow_name="flow", aliases=alias)
    assert flow.can_resume(run_id).unsaved == ("ok",)
    with WorkflowDB(path) as db:
        store = db.load_checkpoint(run_id, -1, aliases=alias)
        assert store["seen"] == "kept"
        with pytest.raises(UnreadableKeyError, match="has changed since a value of it was stored"):
            print(store["ok"])
    forked = flow.fork(run_id, changes={"ok": 1})
    assert flow.resume(forked)["seen"] == "1"
    with pytest.raises(UnreadableKeyError):
        flow.resume(run_id)
    assert "key 'ok' cannot be read here: class" in caplog.text
    assert flow.resume(run_id, changes={"ok": 2})["seen"] == "2"


@pytest.mark.parametrize("kind", [(int, 1), (Annotated[str, Field(min_length=2)], "bb")])
def test_what_is_inside_of_a_value_fits_the_classes_of_now(path: Path, kind: Any) -> None:
    """A run does not go on with a model in its store whose fields have other types now."""
    now = create_model("Point", x=kind)
    run_id = stopped(path, Fails("work", "exec"), model(Point), ok=Point())
    alias = {f"{__name__}:Point": now}
    flow = Flow(Fails("work"), schema=model(now), db_path=path, flow_name="flow", aliases=alias)
    refusal = flow.can_resume(run_id).refusal
    assert isinstance(refusal, ResumeError)
    with pytest.raises(ResumeError, match=r"'ok' expects Point.*\['x'\]"):
        flow.resume(run_id)
    assert flow.resume(run_id, changes={"ok": now()})["seen"] == repr(now())


@dataclass
class Spot:
    """A dataclass that another version of the program changes."""

    x: str = "a"
    later: list[str] = field(default_factory=list, init=False)
    seed: InitVar[int] = 0

    def __post_init__(self, seed: int) -> None:
        self.later.append(str(seed))


def spot(hint: Any, **settings: Any) -> Any:
    """The class as it is now."""
    return dataclasses.make_dataclass("Spot", [("x", hint), ("later", list[str])], **settings)


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        (Spot, True),
        (spot(str), True),
        (spot(str, slots=True), True),
        (spot(int), False),
        (spot(Annotated[str, Field(min_length=2)]), False),
        (dataclasses.make_dataclass("Spot", [("x", str), ("later", list[int])]), False),
    ],
    ids=["the same", "alike", "with slots", "a number", "a longer text", "numbers in a list"],
)
@pytest.mark.parametrize("where", ["alone", "in a list"])
def test_a_dataclass_fits_its_class_of_now(path: Path, kind: Any, holds: bool, where: str) -> None:
    """Its fields are looked at, as those of a model are, and nothing of it is made anew."""

    def schema(of: Any) -> Any:
        return model(list[of] if where == "in a list" else of)

    given = [Spot()] if where == "in a list" else Spot()
    run_id = stopped(path, Fails("work", "exec"), schema(Spot), ok=given)
    alias = {f"{__name__}:Spot": kind}
    flow = Flow(Fails("work"), schema=schema(kind), db_path=path, flow_name="flow", aliases=alias)
    assert bool(flow.can_resume(run_id)) is holds
    if not holds:
        with pytest.raises(ResumeError, match="'ok' expects"):
            flow.resume(run_id)
