"""Names hold any text: they are kept apart in memory and on disk, or refused where given."""

from __future__ import annotations

import importlib
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import (
    END,
    FanOut,
    Flow,
    Node,
    Parallel,
    Question,
    RunPaused,
    Store,
    Subflow,
    WorkflowDB,
    context,
    fields,
    key,
    node,
)
from pocoflow.address import Address, Numbered, plain
from pocoflow.cli import main
from pocoflow.db.rows import dump_names, read_names
from pocoflow.errors import DefinitionError, RunNotFoundError

ODD = [
    "search/web",
    "/",
    "a/",
    "/a",
    "a//b",
    "..",
    "../../x",
    "a[0]",
    "a[3]/b",
    "[1]",
    "12.0/3.1",
    "a.b",
    "two words",
    " ",
    "line\nbreak",
    "tab\t",
    "it's",
    'quo"te',
    "back\\slash",
    "nul\0byte",
    "🌀",
    "Ünïcode",
    "a=b",
    "--flag",
    "END",
    "*",
    "$key:x",
    "<script>",
    "%s {x}",
    "\u202eright to left",
]

HALF = "cut \ud83d"


class Quiet(Node[None, None, str]):
    """Fails as Work does, and writes nothing."""

    def exec(self, prepared: None) -> None:
        if not Work.up:
            raise ConnectionError("down")


class Work(Node[None, str, str]):
    """Fails until the service is up."""

    up = False

    def exec(self, prepared: None) -> str:
        if not Work.up:
            raise ConnectionError("down")
        here = context()
        return Address(here.path, here.node).text

    def post(self, store: Store[Any], prepared: None, result: str) -> str:
        store["done"] = [*store.get("done", []), result]
        return "default"


@pytest.fixture(autouse=True)
def down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work fails when a test begins."""
    monkeypatch.setattr(Work, "up", False)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A database that is not there yet."""
    return str(tmp_path / "runs.db")


def fail(flow: Flow[Any]) -> str:
    """Let a run of the flow fail; its id."""
    flow.run_id = "r"
    with pytest.raises(ConnectionError):
        flow.run({})
    Work.up = True
    return "r"


SHAPES = {
    "alone": lambda name, path: Flow(Work(name=name), flow_name="f", db_path=path),
    "in a flow": lambda name, path: Flow(
        Flow(Work(name=name), flow_name=name), flow_name="f", db_path=path
    ),
    "deep": lambda name, path: Flow(
        Flow(Flow(Work(name="w"), flow_name=name), flow_name=name), flow_name="f", db_path=path
    ),
    "parallel": lambda name, path: Flow(
        Parallel(Node(name="x"), Flow(Work(name=name), flow_name=name), name=name),
        flow_name="f",
        db_path=path,
    ),
    "flow name": lambda name, path: Flow(Work(), flow_name=name, db_path=path),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ODD)
def test_a_run_goes_on_whatever_its_names_hold(name: str, shape: str, path: str) -> None:
    """A node, a flow or a branch of any name is found again by resume, check and fork."""
    run_id = fail(SHAPES[shape](name, path))
    flow = SHAPES[shape](name, path)
    assert flow.can_resume(run_id)
    if shape != "parallel":  # what its branches have finished is not in a checkpoint of the run
        assert flow.resume(flow.fork(run_id, -1))["done"]
    assert len(flow.resume(run_id)["done"]) == 1


@pytest.mark.parametrize("name", ODD)
def test_items_are_told_apart_from_names_with_brackets(name: str, path: str) -> None:
    """A fan-out of any name goes on with the items that are left, and renames as a whole."""

    def flow(own: str) -> Flow[Any]:
        fan: Any = FanOut(Quiet(name=own), each=key("items"), as_=key("item"), name=own)
        return Flow(fan, flow_name="f", db_path=path)

    first = flow(name)
    first.run_id = "r"
    with pytest.raises(ConnectionError):
        first.run({"items": [1, 2]})
    Work.up = True
    assert flow(name).can_resume("r")
    flow(name).resume("r")


@pytest.mark.parametrize("new", ["find/web", "b[0]", "x=y", "END", "deep/er"])
@pytest.mark.parametrize("by", ["name", "path"])
def test_a_renaming_takes_any_name(new: str, by: str, path: str) -> None:
    """Old and new names hold any text; in a nested flow the name will do, or the path."""

    def flow(own: str) -> Flow[Any]:
        return Flow(Flow(Work(name=own), flow_name="in/ner"), flow_name="f", db_path=path)

    run_id = fail(flow("search/web"))
    old = "search/web" if by == "name" else "in/ner/search/web"
    for to in (new, f"in/ner/{new}"):
        assert flow(new).can_resume(run_id, rename={old: to})
    assert flow(new).resume(run_id, rename={old: new})["done"] == [f"in/ner/{new}"]
    with WorkflowDB(path, read_only=True) as db:
        assert db.get_run(run_id)["current_node"] == f"in/ner/{new}"  # type: ignore[index]


def test_a_node_and_a_path_that_read_alike_are_two_places(path: str) -> None:
    """The node ``a/b`` is not the node ``b`` of a flow ``a``: each run goes on where it stood."""

    def flow() -> Flow[Any]:
        flat, deep = Work(name="a/b"), Flow(Work(name="b"), flow_name="a")
        return Flow(deep, flow_name="f", db_path=path).then(deep, flat)

    run_id = fail(flow())
    assert flow().resume(run_id)["done"] == ["a/b", "a/b"]
    with WorkflowDB(path, read_only=True) as db:
        events = db.get_events(run_id)
        graph = db.get_graph(run_id)
    ended = [one["path"] for one in events if one["event"] == "node_end"]
    assert ended == ['["a", "b"]', None]
    assert graph is not None
    assert sorted(one["path"] for one in graph["nodes"]) == [["a"], ["a", "b"], ["a/b"]]


@pytest.mark.parametrize("action", [*ODD, HALF])
def test_an_action_holds_any_text(action: str, path: str) -> None:
    """An action leads along its edge and ends a branch, whatever text it is."""

    class Acts(Node[None, None, str]):
        def post(self, store: Store[Any], prepared: None, result: None) -> str:
            return action

    first, last = Acts(), Work()
    Work.up = True
    flow: Flow[Any] = Flow(first, flow_name="f", db_path=path)
    if action == "*":
        first.then("*", last)
    else:
        flow.then(first.when(action), last)
    assert flow.run({})["done"] == ["Work"]
    both = Parallel(Acts(name="one"), Node(name="two"))
    Flow(both, flow_name="g", db_path=path).run({})
    Flow(Acts(), flow_name="unhandled", db_path=path).run({})


@node(writes=key("ok"))
def approve(draft: str) -> Question[bool]:
    """Ask a person."""
    return Question(f"Publish {draft!s}?", context={"draft": draft})


@pytest.mark.parametrize("draft", [*ODD, HALF, "\udcff", "a\ud83d\nb"])
def test_a_question_holds_any_text(draft: str, path: str, tmp_path: Path) -> None:
    """The run pauses, the text comes back as it was, and every command shows it."""
    flow: Flow[Any] = Flow(approve, flow_name="f", db_path=path, run_id="q")
    with pytest.raises(RunPaused):
        flow.run({"draft": draft})
    with WorkflowDB(path) as db:
        (asked,) = db.pending()
        assert asked.text == f"Publish {draft}?"
        assert asked.context == {"draft": draft}
    assert main(["questions", "--db", path]) == 0
    assert main(["questions", "--db", path, "--format", "json"]) == 0
    flow.answer("q", approve.reply(True))
    assert flow.resume("q")["ok"] is True
    for words in (["runs", "show", "q"], ["runs", "show", "q", "--format", "json"]):
        assert main([*words, "--db", path]) == 0


REFUSED: dict[str, Any] = {
    "node": lambda: Node(name=HALF),
    "node, set later": lambda: setattr(Node(), "name", HALF),
    "node, by its class": lambda: Flow(type("Named", (Node,), {"name": HALF})()).run({}),
    "flow": lambda: Flow(Node(), flow_name=HALF),
    "run": lambda: Flow(Node(), run_id=HALF),
    "run, empty": lambda: Flow(Node(), run_id=""),
    "run, a number": lambda: Flow(Node(), run_id=5),  # type: ignore[arg-type]
    "parallel": lambda: Parallel(Node(), name=HALF),
    "former name": lambda: Flow(Node(), formerly=(HALF,)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_name_that_cannot_be_stored_is_refused_where_it_is_given(what: str) -> None:
    """Half of a surrogate pair is no text for a database, and the message says where it is."""
    with pytest.raises(DefinitionError) as caught:
        REFUSED[what]()
    assert str(caught.value).encode()  # it can be printed


def test_a_run_id_set_later_is_refused_where_it_is_set(path: str) -> None:
    """``flow.run_id`` is checked as ``Flow(run_id=...)`` is; no row is made."""
    flow: Flow[Any] = Flow(Work(), db_path=path)
    with pytest.raises(DefinitionError, match="surrogate"):
        flow.run_id = HALF
    with WorkflowDB(path) as db:
        with pytest.raises(DefinitionError, match="surrogate"):
            db.create_run(HALF)
        with pytest.raises(DefinitionError, match="surrogate"):
            db.create_run("fine", HALF)
        assert db.list_runs() == []


def test_what_cannot_be_stored_is_nowhere(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A run, a flow or a text that no database can hold is not found, in plain words."""
    with WorkflowDB(path) as db:
        db.create_run("r")
        assert db.get_run(HALF) is None
        assert db.list_runs(flow_name=HALF) == []
        assert db.list_runs(text=HALF) == []
        assert db.runs_to_recover(HALF) == []
        with pytest.raises(RunNotFoundError, match=re.escape(ascii(HALF)[1:-1])):
            db.number(HALF)
        db.save_event("r", "note", node_name=HALF, action=HALF, error_msg=HALF)
        db.save_checkpoint("r", 0, HALF, {HALF: HALF})
        db.update_run("r", error_msg=HALF, current_node=HALF)
        row = db.get_run("r")
        assert row is not None
        assert row["error_msg"] == row["current_node"] == "cut \\ud83d"
        assert db.load_checkpoint("r", 0)[HALF] == HALF
        assert db.get_events("r")[0]["node_name"] == "cut \\ud83d"
    assert main(["runs", "show", HALF, "--db", path]) == 2
    assert "has no run" in capsys.readouterr().err


def test_the_name_of_a_store_comes_back(path: str) -> None:
    """The name of a store is text as any other."""
    Work.up = True
    for number, name in enumerate([*ODD, HALF]):
        flow: Flow[Any] = Flow(Work(), db_path=path, run_id=f"r{number}")
        flow.run(Store({}, name=name))
        with WorkflowDB(path) as db:
            assert db.load_checkpoint(f"r{number}", 0).name == name


@pytest.mark.parametrize("name", ODD)
def test_a_run_id_holds_any_text(name: str, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of any id is listed, shown, resumed and pruned; commands that are printed quote it."""
    flow: Flow[Any] = Flow(Work(), db_path=path, run_id=name)
    with pytest.raises(ConnectionError):
        flow.run({})
    Work.up = True
    for words in (["runs", "list"], ["runs", "list", "--format", "json"], ["runs", "show"]):
        given = ["--", name] if words[-1] == "show" else []
        assert main([*words, "--db", path, *given]) == 0
    flow.resume(name)
    with WorkflowDB(path, read_only=True) as db:
        assert [run["status"] for run in db.list_runs()] == ["completed"]
        assert db.get_run(name) is not None


@pytest.mark.parametrize("name", ODD)
def test_files_and_logs_hold_any_name(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A snapshot is in its folder under a name that any system takes; a log line is a line."""
    folder = tmp_path / "steps"
    Work.up = True
    Flow(Work(name=name), flow_name=name, checkpoint_dir=folder).run({})
    (file,) = folder.rglob("*.json")
    assert file.parent == folder
    assert re.fullmatch(r"step_000_[A-Za-z0-9_-]+\.json", file.name)
    assert all("\n" not in one.getMessage() for one in caplog.records)


def test_a_subflow_of_any_name_goes_on(path: str) -> None:
    """A flow on a store of its own is found again, too."""

    def flow() -> Flow[Any]:
        inner: Flow[Any] = Flow(Work(name="a[0]/b"), flow_name="x/y")
        sub: Any = Subflow(inner, inputs={}, outputs={}, name="s/u[1]")
        return Flow(sub, flow_name="f", db_path=path)

    run_id = fail(flow())
    flow().resume(run_id)


@pytest.mark.parametrize("name", ODD)
def test_a_graph_is_drawn_whatever_its_names_hold(name: str, tmp_path: Path) -> None:
    """Mermaid and DOT have one node for each, and a mark of a finding finds its own."""
    inner = Flow(Work(name=name), flow_name=name)
    flow: Flow[Any] = Flow(inner, flow_name=name).then(inner, Work(name=f"{name}2"))
    flow.then(inner.when("x"), END)
    marks = {Address((name,), name).text: "error"}
    assert flow.graph.to_mermaid(marks).count("subgraph ") == 1
    assert "class n1 error" in flow.graph.to_mermaid(marks)
    assert flow.graph.to_dot(marks).count("subgraph ") == 1


@pytest.mark.parametrize("names", [("a", "b"), ("a/b",), ("a[0]", "b"), (Numbered("a", 0), "b")])
def test_names_come_back_as_the_parts_that_they_were(names: tuple[str, ...]) -> None:
    """What is written is read as the same parts; a number is no part of a name."""
    read = read_names(dump_names(names), "a path")
    assert read == names
    assert [type(one) for one in read] == [type(one) for one in names]
    assert plain(read) == (("a", "b") if isinstance(names[0], Numbered) else names)


def test_the_record_of_a_branch_tells_its_number_from_its_name(path: str) -> None:
    """On disk a branch for an item is a pair of name and number, whatever the name ends in."""
    F = fields_of_items()
    fan: Any = FanOut(Quiet(name="w"), each=F.items, as_=F.item, name="each[7]")
    with pytest.raises(ConnectionError):
        Flow(fan, schema=Items, flow_name="f", db_path=path, run_id="r").run({"items": [5]})
    with closing(sqlite3.connect(path)) as raw:
        rows = raw.execute("SELECT path FROM pf_events WHERE path IS NOT NULL").fetchall()
    assert [json.loads(row[0]) for row in rows] == [[["each[7]", 0], "w"]] * len(rows)


class Items(BaseModel):
    """A list to work on."""

    items: list[int] = []
    item: int = 0
    done: list[str] = []


def fields_of_items() -> Items:
    """References to its fields."""
    return fields(Items)


def test_the_command_line_renames_a_node_with_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--rename`` takes a JSON object for names that hold what stands between the two."""
    monkeypatch.chdir(tmp_path)
    program = (
        "from pocoflow import Flow, Node\n"
        "class Fails(Node):\n"
        "    def exec(self, prepared):\n"
        "        if self.name == 'a=b':\n"
        "            raise OSError('down')\n"
        "def make(name):\n"
        "    return Flow(Fails(name=name), flow_name='f', db_path='runs.db', run_id='r')\n"
        "now = make('c=d')\n"
    )
    Path("renames.py").write_text(program)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(OSError, match="down"):
        importlib.import_module("renames").make("a=b").run({})
    for wrong in ("{", "{}", '{"a": 1}', '{"a": "b", "c": "d"}', "a"):
        assert main(["resume", "r", "renames:now", "--rename", wrong]) == 2
    assert main(["resume", "r", "renames:now", "--rename", '{"a=b": "c=d"}']) == 0
