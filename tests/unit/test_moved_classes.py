"""Values whose classes have other names now, or that no name leads to."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from pocoflow import (
    BatchNode,
    Flow,
    Node,
    Question,
    RunPaused,
    Store,
    WorkflowDB,
    context,
    key,
    node,
)
from pocoflow.cli import main
from pocoflow.errors import (
    DefinitionError,
    IncompleteStoreError,
    MissingKeyError,
    ResumeError,
    UnknownClassError,
    UnreadableKeyError,
)
from pocoflow.values import Classes

TYPES = """
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, TypeVar
from pydantic import BaseModel

class Model(BaseModel):
    x: int = 1

class Shape(BaseModel):
    pass

class Circle(Shape):
    r: int = 2

@dataclass
class Data:
    x: int = 1

class Colour(Enum):
    RED = 1

class Named(NamedTuple):
    x: int = 1

class Outer:
    class Inner(BaseModel):
        x: int = 1

T = TypeVar("T")

class Page(BaseModel, Generic[T]):
    item: T

class State(BaseModel):
    model: Model | None = None
    many: list[Model] = []
    by_name: dict[str, Data] = {}
    shape: Shape | None = None
    colour: Colour | None = None
    named: Named | None = None
    inner: Outer.Inner | None = None
    page: Page[Model] | None = None
    n: int = 0
"""

FLOW = (
    TYPES
    + """
from pocoflow import Flow, Node, Store

class Fill(Node[None, None, str]):
    def post(self, store: Store[State], prepared: None, result: None) -> str:
        store.state.model = Model()
        store.state.many = [Model(x=2)]
        store["many"].append(Model(x=3))
        store.state.by_name = {"a": Data()}
        store.state.shape = Circle()
        store.state.colour = Colour.RED
        store.state.named = Named()
        store.state.inner = Outer.Inner()
        store.state.page = Page[Model](item=Model())
        store.state.n = 1
        return "default"

class Paid(Node[None, Model, str]):
    fails = True

    def exec(self, prepared: None) -> Model:
        with open("paid", "a") as file:
            file.write("paid ")
        return Model(x=9)

    def post(self, store: Store[State], prepared: None, result: Model) -> str:
        if type(self).fails:
            raise OSError("down")
        assert result == Model(x=9), result
        store["many"].append(result)
        return "default"

def make(typed=True):
    fill, paid = Fill(), Paid()
    schema = State if typed else None
    return Flow(fill, schema=schema, flow_name="f", db_path="moved.db").then(fill, paid)

flow, untyped = make(), make(False)
"""
)

NAMES = ("before_it_moved", "after_it_moved")


def module(name: str, text: str) -> Any:
    """A module of that name, loaded from a file in the current folder."""
    Path(f"{name}.py").write_text(text)
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module(name)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own, and no module of these tests left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


def moved(*, typed: bool = True) -> Any:
    """The module as it is called now, after a run has failed under its former name."""
    before = module(NAMES[0], FLOW)
    flow = before.make(typed)
    flow.run_id = "r"
    with pytest.raises(OSError, match="down"):
        flow.run({})
    del sys.modules[NAMES[0]]
    after = module(NAMES[1], FLOW)
    after.Paid.fails = False
    return after


def test_the_schema_vouches_for_the_classes_of_a_module_that_was_renamed() -> None:
    """Every kind of class is found in the annotation of its field, and nothing is paid twice."""
    now = moved()
    store = now.flow.resume("r")
    assert store["model"] == now.Model()
    assert store["many"] == [now.Model(x=2), now.Model(x=3), now.Model(x=9)]
    assert store["by_name"] == {"a": now.Data()}
    assert store["shape"] == now.Circle()
    assert store["colour"] is now.Colour.RED
    assert type(store["named"]) is now.Named
    assert store["inner"] == now.Outer.Inner()
    assert store["page"] == now.Page[now.Model](item=now.Model())
    assert Path("paid").read_text() == "paid "


def test_the_nodes_of_a_module_that_was_renamed_vouch_for_its_classes() -> None:
    """Nothing has to be said where the code is the same, with no annotation of a field, too."""
    now = moved(typed=False)
    store = now.untyped.resume("r")
    assert store["many"][-1] == now.Model(x=9)
    assert store["model"] == now.Model()
    assert Path("paid").read_text() == "paid "


CALLING = """
from pocoflow import Flow, Node, context

up = []

def ask(question):
    with open("paid", "a") as file:
        file.write("paid ")
    return question.upper()

class Ask(Node):
    def exec(self, prepared):
        answers = [context().call(ask, one) for one in ("why?", "how?")]
        context().call(int)
        if not up:
            raise OSError("down")
        return answers

    def post(self, store, prepared, answers):
        store["answers"] = answers

flow = Flow(Ask(), flow_name="asks", db_path="moved.db")
"""


def test_the_calls_of_a_module_that_was_renamed_are_not_made_again() -> None:
    """They are known by its name, which the nodes that have moved tell."""
    with pytest.raises(OSError, match="down"):
        module(NAMES[0], CALLING).flow.run({}, run_id="r")
    del sys.modules[NAMES[0]]
    now = module(NAMES[1], CALLING)
    now.up.append(True)
    assert now.flow.resume("r")["answers"] == ["WHY?", "HOW?"]
    assert Path("paid").read_text() == "paid paid "


def test_the_calls_of_another_module_whose_name_ends_in_the_same_word_are_not_made_again() -> None:
    """A node that has moved takes along the calls of functions that are where it is now."""
    Path("others").mkdir()
    Path(f"others/{NAMES[0]}.py").write_text(CALLING.replace("ask", "look"))
    calls = "context().call(other.look, 'who?'); context().call(int)"
    code = f"from others import {NAMES[0]} as other{CALLING.replace('context().call(int)', calls)}"
    with pytest.raises(OSError, match="down"):
        module(NAMES[0], code).flow.run({}, run_id="r")
    del sys.modules[NAMES[0]]
    now = module(NAMES[1], code)
    now.up.append(True)
    assert now.flow.resume("r")["answers"] == ["WHY?", "HOW?"]
    assert Path("paid").read_text() == "paid paid paid "


def test_a_module_that_is_still_there_keeps_its_classes() -> None:
    """Nodes that have moved away from it take no class along that has the same name there."""
    before, now = (module(name, TYPES) for name in NAMES)
    classes = Classes()
    classes.move({NAMES[0]: NAMES[1]})
    assert classes.find(f"{NAMES[0]}:Model") is before.Model
    del sys.modules[NAMES[0]]
    assert classes.find(f"{NAMES[0]}:Model") is now.Model


def test_a_checkpoint_under_the_schema_finds_them_too() -> None:
    """``load_checkpoint(schema=...)`` needs no remedy either; nor does a schema of annotations."""
    now = moved()
    with WorkflowDB("moved.db") as db:
        store: Store[Any] = db.load_checkpoint("r", 0, schema=now.State)
        assert store["shape"] == now.Circle()
        loose_type: Any = list.__class_getitem__(now.Model)
        loose: Store[Any] = db.load_checkpoint("r", 0, schema={"many": loose_type})
        assert loose["many"] == [now.Model(x=2), now.Model(x=3)]
        assert loose["n"] == 1
        with pytest.raises(UnreadableKeyError):
            print(loose["model"])


def test_a_key_that_cannot_be_read_costs_itself_alone() -> None:
    """Without a schema the other keys are read; reading the key says which class to supply."""
    moved(typed=False)
    with WorkflowDB("moved.db") as db:
        store = db.load_checkpoint("r", 0)
        assert store["n"] == 1
        assert "model" not in store
        reads: list[Callable[[], Any]] = [
            lambda: store["model"],
            lambda: store.get("model"),
            lambda: store.state.model,
        ]
        for read in reads:
            with pytest.raises(UnreadableKeyError) as caught:
                read()
            assert isinstance(caught.value, UnknownClassError | MissingKeyError)
            assert caught.value.class_name == "before_it_moved:Model"
            assert "key 'model' cannot be read: class before_it_moved:Model" in str(caught.value)
            assert "types=[Model]" in str(caught.value)
            assert "aliases={'before_it_moved:Model': <class>}" in str(caught.value)


def test_every_remedy_that_the_message_names_works() -> None:
    """Importing the module, ``types=``, ``aliases=`` and setting the key again: each one helps."""
    now = moved(typed=False)
    alias = {"before_it_moved:Model": now.Model}
    with WorkflowDB("moved.db") as db:
        assert db.load_checkpoint("r", 0, types=[now.Model])["model"] == now.Model()
        assert db.load_checkpoint("r", 0, aliases=alias)["model"] == now.Model()
        store = db.load_checkpoint("r", 0)
        store["model"] = now.Model(x=5)
        assert store["model"] == now.Model(x=5)
        before = module(NAMES[0], FLOW)
        assert db.load_checkpoint("r", 0)["model"] == before.Model()


def test_an_alias_counts_before_everything_else() -> None:
    """An alias renames a class, also where one of its old name is there."""

    class Other(BaseModel):
        x: int = 0

    moved(typed=False)
    module(NAMES[0], FLOW)
    with WorkflowDB("moved.db") as db:
        store = db.load_checkpoint("r", 0, aliases={"before_it_moved:Model": Other})
        assert store["model"] == Other(x=1)


@pytest.mark.parametrize("where", ["flow", "resume"])
def test_a_result_of_a_renamed_class_is_not_paid_again(where: str) -> None:
    """A flow without a schema takes aliases, of the flow or of the call; exec is not called again.

    Its own annotations are enough for the result; the alias is what the keys need.
    """
    now = moved(typed=False)
    flow = now.make(False)
    aliases = {"before_it_moved:Model": now.Model}
    if where == "flow":
        flow.aliases = aliases
        store = flow.resume("r")
    else:
        store = flow.resume("r", aliases=aliases)
    assert store["many"][-1] == now.Model(x=9)
    assert Path("paid").read_text() == "paid "


def test_two_classes_of_one_name_are_not_guessed_between() -> None:
    """If the annotation of a field leads to two classes of that name, neither is taken."""
    before = module(NAMES[0], TYPES)
    with WorkflowDB("moved.db") as db:
        db.create_run("r")
        db.save_checkpoint("r", 0, "A", {"model": before.Model()})
        del sys.modules[NAMES[0]]
        one = module(NAMES[1], TYPES).Model

        class Model(BaseModel):
            x: int = 1

        Model.__qualname__ = "Model"
        store: Store[Any] = db.load_checkpoint("r", 0, schema={"model": one | Model})
        with pytest.raises(UnreadableKeyError):
            print(store["model"])


def test_a_class_is_not_taken_from_another_field() -> None:
    """Only the annotation of the field itself relocates: another field may mean something else."""
    before = module(NAMES[0], TYPES)
    with WorkflowDB("moved.db") as db:
        db.create_run("r")
        db.save_checkpoint("r", 0, "A", {"anything": before.Model(), "model": before.Model()})
        del sys.modules[NAMES[0]]
        now = module(NAMES[1], TYPES)
        schema = {"anything": object, "model": now.Model}
        store: Store[Any] = db.load_checkpoint("r", 0, schema=schema)
        assert store["model"] == now.Model()
        with pytest.raises(UnreadableKeyError):
            print(store["anything"])


# -- a run with such a key ------------------------------------------------------------------------


class Save(Node[None, None, str]):
    """Writes an instance of a class that is made as the program runs."""

    def post(self, store: Store[Any], prepared: None, result: None) -> str:
        store["n"], store["answer"] = 1, dynamic()(text="x")
        return "default"


class Send(Node[None, None, str]):
    """Fails until the service is up."""

    up = False
    paid = 0

    def exec(self, prepared: None) -> Any:
        if not Send.up:
            raise ConnectionError("down")


def dynamic() -> Any:
    """A model as from a JSON schema of a user."""
    return create_model("Answer", text=(str, "x"))


def saving(path: str = "runs.db", **settings: Any) -> Flow[Any]:
    """A flow of two nodes; the second fails at first."""
    save = Save()
    return Flow(save, flow_name="saving", db_path=path, **settings).then(save, Send())


@pytest.fixture(name="failed")
def failed_run(monkeypatch: pytest.MonkeyPatch) -> str:
    """A run that has written a value of a dynamic class, and failed after that."""
    monkeypatch.setattr(Send, "up", False)
    with pytest.raises(ConnectionError):
        saving(run_id="r").run({})
    Send.up = True
    return "r"


def stored_text(run_id: str, step: int) -> Any:
    """What is on record of a store, as JSON."""
    with WorkflowDB("runs.db", read_only=True) as db:
        return json.loads(db.store_json(run_id, step))


def test_resume_goes_on_without_the_key_and_leaves_its_value_on_record(
    failed: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on, says once what it cannot read, and the value stays as it was written."""
    store = saving().resume(failed)
    assert store["n"] == 1
    said = [one.getMessage() for one in caplog.records if "cannot be read here" in one.message]
    assert len(said) == 1
    assert "key 'answer'" in said[0]
    assert stored_text(failed, 1)["answer"]["value"] == {"text": "x"}
    with WorkflowDB("runs.db") as db:
        Answer = dynamic()
        assert db.load_checkpoint(failed, 1, types=[Answer])["answer"] == Answer(text="x")


def test_a_fork_takes_the_value_along_unread(failed: str) -> None:
    """A fork has every value of its parent, those included that nobody here can read."""
    new = saving().fork(failed, 0)
    saving().resume(new)
    assert stored_text(new, 0)["answer"] == stored_text(failed, 0)["answer"]


def test_setting_the_key_again_replaces_the_value(failed: str) -> None:
    """``changes=`` takes the place of what cannot be read."""
    saving().resume(failed, changes={"answer": "again"})
    assert stored_text(failed, 1)["answer"] == "again"


def test_a_list_that_grew_is_kept_whole() -> None:
    """What was appended to a list that cannot be read stays behind what was there before."""
    with WorkflowDB("runs.db") as db:
        Answer = dynamic()
        db.create_run("r")
        for step in range(3):
            texts = [Answer(text=str(number)) for number in range(step + 1)]
            db.save_checkpoint("r", step, "A", {"answers": texts})
        copy = db.load_checkpoint("r", 2)
        copy.snapshot("copy.json")
        read: Store[Any] = Store.restore("copy.json", types=[Answer])
        assert read["answers"] == [Answer(text=str(number)) for number in range(3)]
        again: Store[Any] = Store.restore("copy.json")
        with pytest.raises(UnreadableKeyError, match="Answer"):
            print(again["answers"])


def test_a_store_that_lacks_such_a_field_says_why() -> None:
    """``to_model()`` names the class to supply, instead of saying that the field is not set."""
    before = module(NAMES[0], TYPES)

    class Strict(BaseModel):
        model: object

    with WorkflowDB("moved.db") as db:
        db.create_run("r")
        db.save_checkpoint("r", 0, "A", {"model": before.Model()})
        del sys.modules[NAMES[0]]
        store = db.load_checkpoint("r", 0, schema=Strict)
        with pytest.raises(IncompleteStoreError, match="before_it_moved:Model"):
            store.to_model()


# -- said when it is written ----------------------------------------------------------------------


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings in the log."""
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


def test_a_value_that_will_not_be_found_is_said_when_it_is_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A dynamic class, and one inside of a function, are named once in a run."""

    class Local(BaseModel):
        x: int = 1

    class Writes(Node[None, None, str]):
        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            store["answer"] = [dynamic()(), Local()]
            store["more"] = Local()
            return "default"

    again = Writes()
    flow: Flow[Any] = Flow(again, flow_name="w", db_path="runs.db").then(again, Writes(name="B"))
    flow.run({})
    said = [text for text in warned(caplog) if "cannot be found by that name" in text]
    assert len(said) == 2
    assert "store key 'answer' holds an instance of" in said[0]
    assert any("test_moved_classes:Answer" in text for text in said)
    assert any("<locals>.Local" in text for text in said)


def test_what_vouches_for_a_class_keeps_it_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A schema, an alias of the flow and a module that has the class: nothing is said."""
    Answer = dynamic()

    class Local(BaseModel):
        x: int = 1

    class Mine(BaseModel):
        local: Local | None = None

    class Writes(Node[None, None, str]):
        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            store["local"] = Local()
            return "default"

    class Aliased(Node[None, None, str]):
        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            store["answer"], store["fine"] = Answer(), Top()
            return "default"

    Flow(Writes(), schema=Mine, db_path="runs.db").run({})
    aliases = {f"{__name__}:Answer": Answer}
    Flow(Aliased(), aliases=aliases, db_path="runs.db").run({})
    assert not [text for text in warned(caplog) if "cannot be found by that name" in text]


def asked() -> Any:
    """What a paid service returns."""
    Send.paid += 1
    return dynamic()(text="paid")


class Result(Send):
    """Returns it from ``exec``; fails after that until the service is up."""

    def exec(self, prepared: Any) -> Any:
        return asked()

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        super().exec(None)
        store["text"] = result.text
        return "default"


class Items(Result, BatchNode[int, Any, str]):
    """The same for the result of an item."""

    def prep(self, store: Store[Any]) -> list[int]:  # type: ignore[override]
        return [1]

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        return super().post(store, prepared, result[0])


class Calls(Send):
    """The same for what a journaled call returned."""

    def exec(self, prepared: None) -> Any:
        answer = context().call(asked)
        context().call(int)
        super().exec(prepared)
        return answer.text

    def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
        store["text"] = result
        return "default"


@pytest.mark.parametrize("kind", [Result, Items, Calls])
def test_a_result_that_will_not_be_found_is_said_and_is_not_paid_for_again(
    kind: type[Send], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said as it is written; a resume that cannot read it pays nothing, and says how to."""
    monkeypatch.setattr(Send, "up", False)
    monkeypatch.setattr(Send, "paid", 0)
    flow = Flow(kind(), flow_name="f", db_path="runs.db")
    with pytest.raises(ConnectionError):
        flow.run({}, run_id="r")
    (said,) = (one for one in warned(caplog) if "cannot be found by that name" in one)
    assert said.startswith("run 'r': the result of ")
    Send.up = True
    with pytest.raises(UnknownClassError, match=r"cannot be read.*types=") as caught:
        flow.resume("r")
    assert ("a fork calls it again" in str(caught.value)) is (kind is not Calls)
    assert flow.resume("r", types=[dynamic()])["text"] == "paid"
    assert Send.paid == 1
    assert flow.resume(flow.fork("r", -1))["text"] == "paid"


def test_annotations_vouch_for_results(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of a class with which the node, or the called function, is annotated."""

    class Local(BaseModel):
        x: int = 1

    def call() -> Local:
        return Local()

    call.__annotations__["return"] = Local

    class Gives(Node[None, Local, str]):
        def exec(self, prepared: None) -> Local:
            return context().call(call)

    class Several(BatchNode[int, Local, str]):
        def prep(self, store: Store[Any]) -> list[int]:
            return [1]

        def exec(self, item: int) -> Local:
            return Local(x=item)

    gives = Gives()
    flow: Flow[Any] = Flow(gives, db_path="runs.db").then(gives, Several())
    flow.run({})
    assert not warned(caplog)


def test_what_prep_gives_of_a_class_that_is_not_found_it_gives_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failed attempt does not put on record what no resume could read."""
    monkeypatch.setattr(Send, "up", False)

    class Given(Send):
        max_retries = 2

        def prep(self, store: Store[Any]) -> Any:
            return dynamic()(text="given")

        def post(self, store: Store[Any], prepared: Any, result: Any) -> str:
            store["text"] = prepared.text
            return "default"

    flow = Flow(Given(), flow_name="given", db_path="runs.db")
    with pytest.raises(ConnectionError):
        flow.run({}, run_id="r")
    Send.up = True
    assert flow.resume("r")["text"] == "given"


class Top(BaseModel):
    """A model at the top level of its module."""


@pytest.mark.parametrize("aliases", [{"a:B": "B"}, {"a:B": Top()}])
def test_an_alias_that_is_no_class_is_refused(failed: str, aliases: Any) -> None:
    """What an alias means is a class."""
    with pytest.raises(DefinitionError, match=r"aliases=\{'a:B'"):
        saving().resume(failed, aliases=aliases)


# -- what a person was asked ----------------------------------------------------------------------


@node(writes=key("ok"))
def approve(text: str) -> Question[bool]:
    """Ask a person."""
    return Question(f"{text}?")


def test_a_paused_run_is_answered_and_goes_on_without_a_key_that_cannot_be_read() -> None:
    """A question stays answerable though a value of the store cannot be read."""
    flow: Flow[Any] = Flow(approve, flow_name="asks", db_path="runs.db", run_id="q")
    with pytest.raises(RunPaused):
        flow.run({"text": "x", "answer": dynamic()()})
    flow.answer("q", approve.reply(True))
    assert flow.resume("q")["ok"] is True
    assert stored_text("q", 0)["answer"]["class"].endswith(":Answer")


# -- the command line -----------------------------------------------------------------------------


def test_the_command_that_resume_prints_works(capsys: pytest.CaptureFixture[str]) -> None:
    """``pocoflow resume`` names ``--alias`` for a result of a class that has another name now."""
    moved()
    text = FLOW.replace("class Model(", "class Model2(").replace("Model()", "Model2()")
    text = text.replace("Model(x", "Model2(x").replace("Model]", "Model2]")
    text = text.replace(", Model,", ", Model2,").replace("-> Model:", "-> Model2:")
    text = text.replace("result: Model)", "result: Model2)").replace("Model |", "Model2 |")
    module(NAMES[1], text.replace("fails = True", "fails = False"))
    words = ["resume", "r", f"{NAMES[1]}:flow", "--rename", "Paid=Paid"]
    assert main(words) == 1
    assert "--alias before_it_moved:Model=MODULE:CLASS" in capsys.readouterr().err
    assert main([*words, "--alias", f"before_it_moved:Model={NAMES[1]}:Model2"]) == 0
    assert Path("paid").read_text() == "paid "


@pytest.mark.parametrize("alias", ["a:B", "a:B=", "=a:B", "a:B=c", "a:B=no_such_module:C"])
def test_an_alias_that_makes_no_sense_is_refused(
    alias: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line says what an alias is made of."""
    moved()
    try:
        code = main(["resume", "r", f"{NAMES[1]}:flow", "--alias", alias])
    except SystemExit as exc:
        code = int(exc.code or 0)
    assert code == 2
    assert capsys.readouterr().err


def test_a_damaged_value_is_still_an_error(failed: str) -> None:
    """Only a class that is not known is a matter of its key: damage is told at once."""
    import sqlite3

    with sqlite3.connect("runs.db") as raw:
        raw.execute("UPDATE pf_value SET value = '{' WHERE op = 0")
    raw.close()
    with WorkflowDB("runs.db") as db, pytest.raises(ValueError, match="not JSON"):
        db.load_checkpoint(failed, 0)
    with pytest.raises((ValueError, ResumeError)):
        saving().resume(failed)


WORKERS = """
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple
from pydantic import BaseModel, Field
from pocoflow import BatchNode, FanOut, Flow, Node, context, fields, node
from pocoflow.reducers import append

ITEM

class Work(BaseModel):
    items: list[Item] = []
    item: Item | None = None
    told: Annotated[list[str], append] = []
    texts: list[str] = []

W = fields(Work)
down = {"b"}

def ask(one: Item) -> str:
    if one.name in down:
        raise OSError(one.name)
    with open("paid", "a") as file:
        file.write(one.name)
    return one.name

class Make(Node):
    def post(self, store, prepared, result):
        store["items"] = [Item(name=name) for name in "abc"]

class Batch(BatchNode):
    def prep(self, store):
        return store["items"]

    def exec(self, one):
        return ask(one)

@node(each=W.items, writes=W.texts)
def each(one: Item) -> str:
    return ask(one)

@node(writes=W.told)
def branch(item: Item | None) -> str:
    return ask(item)

class Calls(Node):
    def prep(self, store):
        return store["items"]

    def exec(self, items):
        return [context().call(ask, one) for one in items]

def make(kind):
    nodes = {"batch": Batch(name="n"), "each": each, "calls": Calls(name="n")}
    if kind == "fan-out":
        nodes[kind] = FanOut(branch, each=W.items, as_=W.item, concurrency=1, name="n")
    start = Make()
    flow = Flow(start, schema=Work, flow_name="f", db_path="moved.db", outputs=())
    return flow.then(start, nodes[kind])
"""

MODEL = "class Item(BaseModel):\n    name: str\n"
DATA = "@dataclass\nclass Item:\n    name: str\n"
TUPLE = "class Item(NamedTuple):\n    name: str\n"


@pytest.mark.parametrize("kind", ["batch", "each", "fan-out", "calls"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (MODEL, MODEL + "    rank: int = 3\n"),
        (
            MODEL + "    rank: int = 3\n",
            MODEL + "    tags: list[str] = Field([], max_length=9)\n    rank: int = 3\n",
        ),
        (DATA, DATA + "    tags: list[str] = field(default_factory=list)\n"),
        (TUPLE, TUPLE + "    rank: int = 3\n"),
        (MODEL, MODEL.replace("Item", "Thing") + "    rank: int = 3\n\nItem = Thing\n"),
        (DATA, DATA.replace("Item", "Thing") + "\nItem = Thing\n"),
    ],
    ids=["model", "field in the middle", "dataclass", "tuple", "renamed model", "renamed"],
)
def test_what_is_finished_is_known_again_after_its_class_was_changed(
    kind: str, before: str, after: str
) -> None:
    """Items and calls are known by what they were stored as; a new field has its default then."""
    was = module("before_it_moved", WORKERS.replace("ITEM", before))
    with pytest.raises(OSError, match="b"):
        was.make(kind).run({}, run_id="r")
    for down in ({"c"}, set()):  # what is on record of the first resume is known, too
        now = module("before_it_moved", WORKERS.replace("ITEM", after))
        now.down = down
        flow = now.make(kind)
        given = {"aliases": {"before_it_moved:Item": now.Item}} if "Thing" in after else {}
        if down:
            with pytest.raises(OSError, match="c"):
                flow.resume("r", **given)
        else:
            flow.resume("r", **given)
    assert Path("paid").read_text() == "abc"


def test_an_item_whose_new_field_has_another_value_is_another_item() -> None:
    """What is finished of an item is given to none that it could not have become."""
    was = module("before_it_moved", WORKERS.replace("ITEM", MODEL))
    with pytest.raises(OSError, match="b"):
        was.make("batch").run({}, run_id="r")
    now = module("before_it_moved", WORKERS.replace("ITEM", MODEL + "    rank: int = 3\n"))
    now.down = set()
    items = [now.Item(name="a", rank=4), now.Item(name="a", rank=3), now.Item(name="b")]
    now.make("batch").resume("r", changes={"items": items})
    assert sorted(Path("paid").read_text()) == ["a", "a", "b"]
