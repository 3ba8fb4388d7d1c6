"""Errors carry what can be done about them as data; each remedy is tried as it is written."""

from __future__ import annotations

import pickle
import re
import shlex
import sys
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Self

import pytest
from pydantic import BaseModel, model_validator

from pocoflow import AskNode, Flow, Node, Question, RunPaused, WorkflowDB, context, key, resource
from pocoflow.cli import main
from pocoflow.errors import (
    AnswerError,
    FlowValidationError,
    Gap,
    InvalidValueError,
    MaxStepsError,
    MissingInputError,
    NotSavedError,
    OtherFlowError,
    PocoflowError,
    Remedy,
    ResourceError,
    ResumeError,
    ThreadBusyError,
    UnknownClassError,
)
from pocoflow.views.targets import remedies

MODULE = "remedied"
"""The module from which commands take the flow."""


class Asked(AskNode[bool, str]):
    def prep(self, store: Any) -> Question[bool]:
        return Question("Go on?")

    def post(self, store: Any, prep_result: Any, exec_result: bool) -> str:
        store["answer"] = exec_result
        return "default"


class Fails(Node):
    """Fails as long as there is no file ``mended``."""

    def exec(self, prep_result: Any) -> Any:
        if not Path("mended").exists():
            raise OSError("down")
        return 1

    def post(self, store: Any, prep_result: Any, exec_result: Any) -> str:
        store["done"] = True
        return "default"


class Renamed(Fails):
    """The same work under another name."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, for the database; commands look for flows there, and not afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def kept(start: Node[Any, Any, Any], **settings: Any) -> Flow:
    """A flow with a database."""
    return Flow(start, **{"db_path": "runs.db", "flow_name": "work", **settings})


def failed(start: Node[Any, Any, Any], **settings: Any) -> None:
    """Leave a run ``r`` that failed; by now, what it failed of is mended."""
    with pytest.raises((OSError, RunPaused)):
        kept(start, run_id="r", **settings).run({})
    Path("mended").touch()


def python(flow: Flow, remedy: Remedy, **filled: Any) -> Any:
    """Do what the remedy says in Python, with its gaps filled in by name."""
    code = re.sub(r"<(\w+)[^>]*>", r"\1", remedy.python)
    return eval(code, {"flow": flow, "WorkflowDB": WorkflowDB, "Flow": Flow, **filled})  # noqa: S307


def typed(monkeypatch: pytest.MonkeyPatch, flow: Flow, exc: PocoflowError, n: int = 0) -> list[str]:
    """The words of the command of a remedy, as a person would copy them."""
    module = ModuleType(MODULE)
    module.flow = flow  # type: ignore[attr-defined]  # ty: ignore[unresolved-attribute]
    monkeypatch.setitem(sys.modules, MODULE, module)
    line = list(remedies(exc, "r", f"{MODULE}:flow", "runs.db", "runs.db"))[n]
    return line.partition(": pocoflow ")[2].split()


def refused(kind: type[PocoflowError], flow: Flow, **settings: Any) -> PocoflowError:
    """What a resume of the run is refused with."""
    with pytest.raises(kind) as caught:
        flow.resume("r", **settings)
    return caught.value


def test_a_paused_run_names_the_answer_and_the_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each open question has a remedy; the last one goes on."""
    flow = kept(Asked(), run_id="r")
    with pytest.raises(RunPaused) as caught:
        flow.run({})
    answer, resume = caught.value.remedies
    python(flow, answer, answer=True)
    assert python(flow, resume)["answer"] is True
    flow = kept(Asked())
    flow.run_id = "q"
    with pytest.raises(RunPaused) as caught:
        flow.run({})
    words = typed(monkeypatch, flow, caught.value)
    assert main([*words, "--value", "false"]) == 0
    assert flow.database.handle("q").wait()["answer"] is False


def test_a_renamed_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy gives the name that is on record."""
    failed(Fails(), flow_name="before")
    flow = kept(Fails())
    exc = refused(OtherFlowError, flow)
    words = typed(monkeypatch, flow, exc)
    assert python(flow, exc.remedies[0])["done"]
    assert words == ["resume", "r", f"{MODULE}:flow", "--flow-was", "before", "--db", "runs.db"]


@pytest.mark.parametrize(
    "words",
    [
        ["fork", "r", "--step", "-1", "--new-id", "forked"],
        ["carry-on", "r"],
        ["answer", "r", "--value", "true", "--flow"],
    ],
)
def test_a_renamed_flow_of_another_command(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is given the option, and does then what it was to do; nothing else is resumed."""
    with pytest.raises(RunPaused):
        kept(Asked(), flow_name="before", run_id="r").run({})
    module = ModuleType(MODULE)
    module.flow = flow = kept(Asked())  # type: ignore[attr-defined]  # ty: ignore[unresolved-attribute]
    monkeypatch.setitem(sys.modules, MODULE, module)
    assert main([*words, f"{MODULE}:flow"]) == 1
    _, way = capsys.readouterr().err.splitlines()
    assert way == "if the flow was renamed: the same with --flow-was before"
    assert main([*words, f"{MODULE}:flow", *way.rpartition(" with ")[2].split()]) == 0
    done = {"fork": [("forked", "queued"), ("r", "paused")], "answer": [("r", "completed")]}
    runs = [(one["run_id"], one["status"]) for one in flow.database.list_runs()]
    assert runs == done.get(words[0], [("r", "paused")])


@pytest.mark.parametrize("name", ["Fails", "a=b", "{x}"])
def test_a_renamed_node(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The remedy has the old name, whatever is in it, and takes the new one."""
    failed(Fails(name=name))
    flow = kept(Renamed())
    exc = refused(ResumeError, flow)
    assert [one.what for one in exc.remedies] == [f"if {name!r} has another name now"]
    module = ModuleType(MODULE)
    module.flow = flow  # type: ignore[attr-defined]  # ty: ignore[unresolved-attribute]
    monkeypatch.setitem(sys.modules, MODULE, module)
    words = [f"{MODULE}:flow" if one is Gap.FLOW else one for one in exc.remedies[0].command]
    assert main([one.replace("NEW", "Renamed") for one in words]) == 0


def test_a_command_that_was_given_something_keeps_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each remedy goes on from what was said before, so that following them leads to the end."""
    failed(Fails(), flow_name="before")
    module = ModuleType(MODULE)
    module.flow = kept(Renamed())  # type: ignore[attr-defined]  # ty: ignore[unresolved-attribute]
    monkeypatch.setitem(sys.modules, MODULE, module)
    words = ["resume", "r", f"{MODULE}:flow", "--set", 'said="so"']
    for _ in range(2):
        assert main(words) == 1
        line = capsys.readouterr().err.splitlines()[-1]
        words = shlex.split(line.partition(": pocoflow ")[2].replace("NEW", "Renamed"))
    assert main(words) == 0
    assert module.flow.database.load_checkpoint("r", 0)["said"] == "so"


def test_fields_of_other_types() -> None:
    """The remedy names all that do not fit, in Python and for the command."""
    flow = kept(Fails(), schema={"a": int, "b": int}, run_id="s")
    with pytest.raises(OSError, match="down"):
        flow.run({"a": 1, "b": 2, "c": 3})
    Path("mended").touch()
    flow = kept(Fails(), schema={"a": str, "b": list[int], "c": int})
    with pytest.raises(ResumeError) as caught:
        flow.resume("s")
    assert "changes={'a': <value>, 'b': <value>}" in str(caught.value)
    with pytest.raises(ResumeError) as caught:
        flow.resume("s", changes={"a": "x"})
    (remedy,) = caught.value.remedies
    assert remedy.command[3:] == ("--set", "a=JSON", "--set", "b=JSON")
    code = remedy.python.replace("<value>", "'x'", 1).replace("<value>", "[2]")
    assert eval(code, {"flow": flow})["b"] == [2]  # noqa: S307


def test_the_ways_to_end_the_open_run_of_a_thread() -> None:
    """Each of them is a call of the flow."""
    flow = kept(Asked())
    with pytest.raises(RunPaused):
        flow.run({}, thread="t", run_id="r")
    with pytest.raises(ThreadBusyError) as caught:
        flow.run({}, thread="t")
    *_, cancel = caught.value.remedies
    assert python(flow, cancel)
    with pytest.raises(RunPaused):
        flow.run({}, thread="t", run_id="s")


def test_a_value_that_was_not_saved() -> None:
    """The remedy gives it again to the run."""

    class Reads(Fails):
        def prep(self, store: Any) -> Any:
            return store["lock"]

    flow = kept(Reads(), run_id="r")
    with pytest.raises(OSError, match="down"):
        flow.run({"lock": Lock()})
    Path("mended").touch()
    exc = refused(NotSavedError, flow)
    assert python(flow, exc.remedies[0], run="r", value=Lock())["done"]


def test_a_renamed_node_in_python() -> None:
    """The call is complete but for the new name; for a class that has changed it has that, too."""
    failed(Fails())
    flow = kept(Renamed())
    exc = refused(ResumeError, flow)
    code = exc.remedies[0].python.replace("<new name>", "new")
    assert eval(code, {"flow": flow, "new": "Renamed"})["done"]  # noqa: S307


def test_a_class_that_took_the_place_of_another() -> None:
    """Under the same name, the remedy is complete."""
    failed(Fails(name="step"))
    flow = kept(Renamed(name="step"))
    assert python(flow, refused(ResumeError, flow).remedies[0])["done"]


def test_a_value_that_a_run_lacks_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy names the key."""
    failed(Fails())
    flow = kept(Fails(), inputs=(key("owner"),))
    exc = refused(MissingInputError, flow)
    assert isinstance(exc, MissingInputError)
    assert exc.keys == ("owner",)
    words = typed(monkeypatch, flow, exc)
    assert main([one.replace("JSON", "1") for one in words]) == 0
    with pytest.raises(MissingInputError) as caught:
        kept(Fails(), inputs=(key("owner"),), db_path=None).run({})
    assert python(flow, caught.value.remedies[0], value="ann")["owner"] == "ann"


def test_a_completed_run_can_be_forked() -> None:
    """From the step before its last one."""
    Path("mended").touch()
    flow = kept(Fails(), run_id="r")
    flow.run({})
    exc = refused(ResumeError, flow)
    assert flow.resume(python(flow, exc.remedies[0]))["done"]
    assert list(remedies(exc, "r", "", "runs.db", None)) == [
        "fork it: pocoflow fork r FLOW --step -1"
    ]


def test_a_resource_that_was_not_given() -> None:
    """For a new run and for a stored one."""
    client: Any = resource(dict, "client")

    class Call(Node):
        def exec(self, prep_result: Any) -> Any:
            context()[client]["calls"] = 1

    flow = kept(Call(), run_id="r")
    with pytest.raises(ResourceError) as caught:
        flow.run({})
    given: dict[str, int] = {}
    new, stored = caught.value.remedies
    python(flow, stored, run="r", key=client, object=given)
    assert given == {"calls": 1}
    flow.run_id = "s"
    python(flow, new, store={}, key=client, object=given)


def test_a_class_that_has_another_name_now() -> None:
    """The remedy has the name that is on record, also behind the key that cannot be read."""
    exc = UnknownClassError("no class", class_name="old:Doc")
    assert exc.about("key 'doc'").remedies == exc.remedies
    told = list(remedies(exc, "r", "m:flow", "runs.db", None))
    alias = "pocoflow resume r m:flow --alias old:Doc=MODULE:CLASS"
    assert told == [f"if the class has another name now: {alias}"]


def test_a_question_of_a_node_that_is_not_there() -> None:
    """It is answered by its schema, and its node renamed."""
    failed(Asked())
    flow = kept(Asked(name="Other"))
    with pytest.raises(AnswerError) as caught:
        flow.answer_json("r", True)
    answer, rename = caught.value.remedies
    python(flow, answer, answer=True)
    code = rename.python.replace("<new name>", "new")
    assert eval(code, {"flow": flow, "new": "Other"})["answer"] is True  # noqa: S307


def test_too_many_steps() -> None:
    """A larger ``max_steps``."""
    node = Node()
    node.then("default", node)
    with pytest.raises(MaxStepsError) as caught:
        Flow(node, max_steps=3).run({})
    assert python(Flow(node), caught.value.remedies[0], start=node, number=9).max_steps == 9


def test_the_fixes_of_findings_are_remedies() -> None:
    """One for each fix, once."""
    node = Node()
    node.then("default", node)
    with pytest.raises(FlowValidationError) as caught:
        Flow(node, inputs=()).then(node.when("*"), node).run({})
    fixes = {one.fix for one in caught.value.findings}
    assert {one.what for one in caught.value.remedies} == fixes


def test_a_users_own_text_is_not_searched() -> None:
    """An error whose text names functions of ours has no remedies for it."""
    exc = PocoflowError("flow.answer_json, rename={, changes={, fork(), resources=")
    assert exc.remedies == ()
    assert not list(remedies(exc, "r", "m:flow", "runs.db", None))


def test_remedies_survive_pickling() -> None:
    """An error that crosses processes keeps them."""
    exc = OtherFlowError("no", run_id="r", flow_name="f")
    assert pickle.loads(pickle.dumps(exc)).remedies == exc.remedies  # noqa: S301 - made here


def test_values_that_do_not_fit_together() -> None:
    """Under rules that are new, a resume says so of the store, and not of what it writes."""

    class Before(BaseModel):
        said: str = "no"
        done: bool = False

    class Now(Before):
        @model_validator(mode="after")
        def says_so(self) -> Self:
            if self.said == "no":
                raise ValueError("nothing is said")
            return self

    failed(Fails(), schema=Before)
    exc = refused(InvalidValueError, kept(Fails(), schema=Now))
    assert str(exc).endswith("': Now refuses the values together: Value error, nothing is said")
