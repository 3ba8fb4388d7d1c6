"""Mistakes in what is written are answered with what to write."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy
import pandas
import pytest
from pydantic import BaseModel

import pocoflow
from pocoflow import END, Flow, Node, Store, WorkflowDB, fields, node
from pocoflow.cli import main
from pocoflow.errors import (
    CheckpointNotFoundError,
    DefinitionError,
    NoDatabaseError,
    PocoflowError,
    ReferenceMisuseError,
    ResumeError,
    RunExistsError,
    RunNotFoundError,
)


class S(BaseModel):
    """A store."""

    doc: str = ""


A: Any = fields(S)
AnyFlow: Any = Flow


class Exec3(Node):
    def exec(self, store: Any, prep: Any) -> Any:  # type: ignore[override]  # ty: ignore[invalid-method-override]
        """As post is."""


class Post2(Node):
    def post(self, store: Any) -> Any:  # type: ignore[override]  # ty: ignore[invalid-method-override]
        """As prep is."""


class Prep0(Node):
    def prep(self) -> Any:  # type: ignore[override]  # ty: ignore[invalid-method-override]
        """Without the store."""


class Keyword(Node):
    def exec(self, prep_result: Any, *, model: str) -> Any:  # type: ignore[override]  # ty: ignore[invalid-method-override]
        """Nobody gives the model."""


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (Exec3, "def exec(self, prep_result)"),
        (Post2, "def post(self, store, prep_result, exec_result)"),
        (Prep0, "def prep(self, store)"),
        (Keyword, "def exec(self, prep_result)"),
        (lambda: AnyFlow(Node(), name="x"), "did you mean 'flow_name'?"),
        (lambda: AnyFlow(Node(), db="x.db"), "did you mean 'db_path'?"),
        (lambda: AnyFlow(start=Node(), max_step=3), "did you mean 'max_steps'?"),
    ],
    ids=["exec", "post", "prep", "keyword", "name", "db", "misspelt"],
)
def test_a_definition_that_cannot_work_says_what_to_write(
    make: Callable[[], object], advice: str
) -> None:
    """When it is made, before anything is paid for."""
    with pytest.raises(DefinitionError) as caught:
        make()
    assert advice in str(caught.value)


class Loose(Node):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)

    @staticmethod
    def prep(store: Any) -> Any:  # ty: ignore[invalid-method-override]
        return 1

    def exec(this, *given: Any, model: str = "m", **more: Any) -> Any:
        return sum(given)

    def post(self, *given: Any) -> Any:
        given[0]["out"] = given[2]


def test_whatever_can_be_called_is_taken() -> None:
    """Other names, defaults, a static method, any number of arguments."""
    assert Flow(Loose()).run({})["out"] == 1


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: A.doc + "!",
        lambda: "!" + A.doc,
        lambda: A.doc * 2,
        lambda: A.doc % 2,
        lambda: -A.doc,
        lambda: int(A.doc),
        lambda: float(A.doc),
        lambda: f"Summarise this: {A.doc}",
    ],
    ids=["+", "right +", "*", "%", "-", "int", "float", "text"],
)
def test_a_reference_cannot_be_computed_with(misuse: Callable[[], object]) -> None:
    """It is no value, and says so however it is used as one, and who gets the value."""
    with pytest.raises(ReferenceMisuseError, match="only a run has, and gives to the parameter"):
        misuse()


def test_none_as_a_target_is_the_end() -> None:
    """``then(action, None)`` is ``then(action, END)``, on a node as on a flow."""
    first, second = Node(name="first"), Node(name="second")
    first.then("default", None)
    assert [one.targets for one in Flow(first).graph.nodes.values()] == [{"default": None}]
    flow: Flow[Any] = Flow(second)
    flow.then(second, None)
    assert flow.validate() == []


def test_a_run_that_others_execute_reads_running() -> None:
    """``create_run`` leaves ``running``, and nobody takes a row without an owner for dead."""
    with WorkflowDB(":memory:") as db:
        db.create_run("r", "by hand")
        run = db.get_run("r")
        assert run is not None
        assert run["status"] == "running"
        db.update_run("r", status="completed")
        assert db.list_runs()[0]["status"] == "completed"


@node
def choose(doc: str = A.doc) -> Literal["good", "bad"]:
    """Return the action that it is given."""
    return "good" if doc else "bad"


def test_an_edge_with_its_action_in_the_middle_is_answered_with_how_it_is_written() -> None:
    """The advice is the edge that was meant."""
    flow: Any = Flow(choose, schema=S)
    with pytest.raises(TypeError, match=r"write flow\.then\(choose\.when\('good'\), target\)"):
        flow.then(choose, "good", END)
    flow.then(choose.when("good"), END).then(choose.when("bad"), END)
    assert flow.validate() == []


def test_a_flow_takes_its_start_by_position_and_the_rest_by_name() -> None:
    """What was given by position is not guessed at."""
    with pytest.raises(DefinitionError, match=r"takes 1 argument by position, and got 3: name"):
        AnyFlow(choose, S, "doc")
    assert Flow(choose, schema=S, flow_name="doc").flow_name == "doc"


@pytest.mark.parametrize("url", ["sqlite:///x.db", "sqlite://x.db", "file:/x.db"])
def test_a_database_is_no_url(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder of that name is made, and the path that was meant is named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DefinitionError, match=r"not by a URL such as .*: write 'x\.db'"):
        Flow(choose, schema=S, db_path=url).run({})
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_not_there_is_not_made_to_look_for_a_run(tmp_path: Path) -> None:
    """Whatever acts on a stored run names the file, and leaves none behind."""
    flow: Flow[Any] = Flow(choose, schema=S, db_path=str(tmp_path / "typo.db"))
    acts: list[Callable[[], object]] = [
        lambda: flow.resume("r"),
        lambda: flow.fork("r"),
        lambda: flow.can_resume("r"),
        lambda: flow.check_owner("r"),
        lambda: flow.follow("r"),
    ]
    for act in acts:
        with pytest.raises(
            RunNotFoundError, match=r"there is no database .*typo\.db, and so no run"
        ):
            act()
    assert list(tmp_path.iterdir()) == []


def test_a_run_id_in_the_place_of_a_store_or_of_a_new_run_is_answered(tmp_path: Path) -> None:
    """Both say how a stored run goes on, and that works."""
    calls = []

    class Fails(Node):
        def exec(self, prep_result: Any) -> None:
            calls.append(1)
            if len(calls) == 1:
                raise OSError("down")

    flow: Any = Flow(Fails(), db_path=str(tmp_path / "x.db"))
    with pytest.raises(OSError, match="down"):
        flow.run({}, run_id="r")
    with pytest.raises(DefinitionError, match=r"goes on with flow\.resume\('r'\)"):
        flow.run("r")
    with pytest.raises(RunExistsError, match=r"or go on with that run: flow\.resume\('r'\)"):
        flow.run({}, run_id="r")
    flow.resume("r")
    with pytest.raises(RunExistsError, match="which is completed; use another id; or") as again:
        flow.run({}, run_id="r")
    assert "flow.resume" not in str(again.value)
    flow.run({}, run_id="r", if_exists="join")
    with pytest.raises(DefinitionError, match=r"step= is the number of a step, such as 2, not '0'"):
        flow.fork("r", "0")
    with pytest.raises(CheckpointNotFoundError, match=r"of step 99: it has steps 0 to 0"):
        flow.fork("r", 99)
    assert flow.fork("r", -1)


@node
def wants_what_is_not_there(nothing: str) -> None:
    """A field that the schema does not have."""


def test_a_run_that_cannot_begin_shows_three_frames_of_ours(tmp_path: Path) -> None:
    """The message is for the user, so it is not buried under how it was found."""
    stored = AnyFlow(Node(), schema=S, db_path=tmp_path / "runs.db")
    needs = AnyFlow(Node(), inputs=(A.doc,))
    unfit = AnyFlow(wants_what_is_not_there, schema=S)
    package = str(Path(pocoflow.__file__).parent)
    begins: list[Callable[[], object]] = [
        *(way for flow in (needs, unfit) for way in (flow.run, flow.run_background)),
        *(lambda flow=flow: asyncio.run(flow.run_async()) for flow in (needs, unfit)),
        lambda: stored.run({"doc": 3}),
        lambda: stored.resume("none"),
        lambda: asyncio.run(stored.resume_async("none")),
    ]
    for begin in begins:
        with pytest.raises(PocoflowError) as caught:
            begin()
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert len([one for one in frames if one.filename.startswith(package)]) <= 3


class Numbered(Node):
    """Returns what is no action."""

    def post(self, store: Store[Any], prep: object, result: object) -> Any:
        return 5


class Reads(Node):
    """Reads what is not there."""

    def prep(self, store: Store[Any]) -> Any:
        return store["nothing"]


def ways(flow: Any) -> list[Callable[[], object]]:
    """The ways to run a flow to its end."""
    return [
        lambda: flow.run({}),
        lambda: asyncio.run(flow.run_async({})),
        lambda: flow.run_background({}).wait(),
    ]


def test_an_error_of_ours_shows_the_frames_of_the_users_code_or_few() -> None:
    """Where a run fails without the user's code, how it went on tells nobody anything."""
    package = str(Path(pocoflow.__file__).parent)
    endless = Node(name="endless")
    loop = AnyFlow(endless, max_steps=3).then(endless, endless)
    for flow in (AnyFlow(Numbered()), loop.using()):
        for run in ways(flow):
            with pytest.raises(PocoflowError) as caught:
                run()
            frames = traceback.extract_tb(caught.value.__traceback__)
            assert len([one for one in frames if one.filename.startswith(package)]) <= 3
    with pytest.raises(PocoflowError) as caught:
        AnyFlow(Reads()).run({})
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert "prep" in [one.name for one in frames if one.filename == __file__]


def test_a_flow_without_a_database_can_be_looked_at() -> None:
    """``hasattr`` and what goes through all attributes find that it has none."""
    flow = Flow(Node())
    assert not hasattr(flow, "database")
    assert "flow_name" in dict(inspect.getmembers(flow))
    with pytest.raises(NoDatabaseError, match="give it a db_path"):
        _ = flow.database


@pytest.mark.parametrize(
    "call",
    [
        lambda db: db.list_runs(status="complete"),
        lambda db: db.list_runs(since="yesterday"),
        lambda db: db.prune(),
        lambda db: db.prune(older_than=30),
        lambda db: db.update_run("r", stat=1),
    ],
    ids=["status", "since", "prune", "older_than", "update_run"],
)
def test_a_database_refuses_what_makes_no_sense(call: Any, tmp_path: Path) -> None:
    """With an error of this library, which is a ``ValueError``, too."""
    with WorkflowDB(tmp_path / "x.db") as db, pytest.raises(DefinitionError):
        call(db)


def test_a_journal_setting_is_true_or_false() -> None:
    """Text such as ``"no"`` is not taken for true."""
    with pytest.raises(DefinitionError, match="journal is 'no'"):
        type("J", (Node,), {"journal": "no"})()


def test_an_id_that_is_taken_is_to_be_another_one(tmp_path: Path) -> None:
    """Also where an id has to be given."""
    with WorkflowDB(tmp_path / "x.db") as db:
        db.create_run("c")
        with pytest.raises(RunExistsError, match="use another id"):
            db.create_run("c")


@pytest.mark.parametrize(
    "wrong", [["runs", "show", "c", "--step", "0"], ["answer", "c", "--json", "5"]]
)
def test_an_option_is_not_corrected_to_one_that_is_not_alike(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Dashes alone make no likeness, and nobody means ``--help``."""
    assert main(wrong) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_a_value_of_an_array_library_is_told_a_method_that_it_has(tmp_path: Path) -> None:
    """Each advice names a method that gives something that can be stored."""
    values = {"a": pandas.Timestamp("2020-01-01"), "b": numpy.zeros(2), "c": pandas.DataFrame()}
    Store(values).snapshot(tmp_path / "s.json")
    unsaved = Store.restore(tmp_path / "s.json").unsaved
    for name, value in values.items():
        method = unsaved[name].reason.rpartition("value.")[2].removesuffix("()")
        Store({name: getattr(value, method)()}).snapshot(tmp_path / "t.json")
        assert not Store.restore(tmp_path / "t.json").unsaved


def test_a_changed_table_is_not_said_to_be_missing(tmp_path: Path) -> None:
    """A table with one more column has changed; one that is gone is lacking."""
    path = tmp_path / "x.db"
    WorkflowDB(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("ALTER TABLE pf_run ADD COLUMN note")
    with pytest.raises(PocoflowError, match="pf_run is not as it was"):
        WorkflowDB(path)


def test_a_fork_of_an_old_record_is_told_how_to_go_on(tmp_path: Path) -> None:
    """A record without the nodes that come next does not send one to an earlier step."""
    flow = Flow(Node(), db_path=tmp_path / "x.db", flow_name="f")
    flow.database.create_run("r", "f")
    flow.database.save_checkpoint("r", 0, "Node", Store({"n": 1}))
    with pytest.raises(ResumeError, match=r"resume_from=<node>"):
        flow.fork("r", 0)
    store = flow.run(flow.database.load_checkpoint("r", 0), resume_from=flow.start)
    assert store["n"] == 1
