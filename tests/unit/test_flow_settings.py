"""Settings of flows: checked whenever they are given; where something else belongs is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import Flow, Store, WorkflowDB, fields, node
from pocoflow.errors import DefinitionError, FlowValidationError, RunExistsError


class Article(BaseModel):
    """What the flows work on."""

    document: str
    summary: str = ""


@node(writes=fields(Article).summary)
def summarise(document: str) -> str:
    """Write the summary."""
    return document[:3]


WRONG: dict[str, tuple[object, str]] = {
    "start": (summarise.name, r"Flow\(start=...\) takes a node"),
    "flow_name": ("", r"Flow\(flow_name=...\) must be a non-empty string"),
    "deadline": ("0.1", "a number of seconds above 0"),
    "budget": (5, 'as in budget={"usd": 2.0}'),
    "thread_budget": ({"usd": "5"}, r"Flow\(thread_budget\), usd='5'"),
    "node_budgets": ({"a": 3}, "a budget for each of some nodes"),
    "label_budgets": (5, "a budget for each of some labels"),
    "max_steps": ("x", "a whole number of at least 1"),
    "executor": ("there", "it must be an executor of concurrent.futures"),
    "checkpoint_dir": (3, "the path of a folder"),
    "db_path": ("", "the path of an SQLite file"),
    "schema": (3, "a store schema is a Pydantic model class"),
    "inputs": ("document", "inputs='document' is a string"),
    "outputs": (3, "outputs"),
    "strict": ("yes", "True or False"),
    "formerly": ("Old", r'formerly=\("Old",\)'),
    "aliases": ({"Old": Article}, "the class that has another name now"),
    "carry": (3, "takes context variables, not 3"),
    "record_emitted": (None, "True or False"),
    "ignore": ("PX1", "takes codes of rules"),
    "run_id": ("", "must be a non-empty string"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_is_checked_when_it_is_assigned_as_at_construction(name: str) -> None:
    """With the same words, and the flow stays as it was."""
    value, match = WRONG[name]
    flow = Flow(summarise)
    before = getattr(flow, name)
    with pytest.raises(DefinitionError, match=match) as assigned:
        setattr(flow, name, value)
    assert getattr(flow, name) == before
    given: dict[str, Any] = {"start": summarise, name: value}
    with pytest.raises(DefinitionError) as constructed:
        Flow(**given)
    assert str(assigned.value) == str(constructed.value)


def test_what_is_assigned_is_what_the_constructor_makes_of_it(tmp_path: Path) -> None:
    """One name is one input, and a folder is a path."""
    flow: Any = Flow(summarise)
    flow.inputs, flow.checkpoint_dir = fields(Article).document, str(tmp_path)
    flow.outputs = flow.inputs  # as a flow has them
    assert (flow.outputs, flow.checkpoint_dir) == (("document",), tmp_path)
    flow.run({"document": "text"})
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["", __file__])
def test_checkpoints_go_to_a_folder(value: str) -> None:
    """Neither to a place without a name, nor to a file."""
    with pytest.raises(DefinitionError, match=r"Flow\(checkpoint_dir=.*the path of a folder"):
        Flow(summarise, checkpoint_dir=value)


def test_a_database_whose_writing_is_overridden_is_refused() -> None:
    """A flow does not call what programs of 0.2.1 wrapped, such as to take out what is secret."""

    class Redacting(WorkflowDB):
        def save_checkpoint(self, run_id: str, step: int, node_name: str, store: Any) -> None:
            super().save_checkpoint(run_id, step, node_name, {})

    with Redacting(":memory:") as db:
        with pytest.raises(DefinitionError, match=r"Redacting.save_checkpoint is never called"):
            Flow(summarise, db_path=db)
        db.create_run("r")
        db.save_checkpoint("r", 0, "first", Store({"secret": 1}))
        assert dict(db.load_checkpoint("r", 0)) == {}


def test_an_empty_name_is_refused_by_the_name_of_the_argument() -> None:
    """It is not that of a node that somebody wrote."""
    with pytest.raises(DefinitionError, match=r"Flow\(flow_name=\.\.\.\) must be"):
        Flow(summarise, flow_name="")


ELSEWHERE: dict[str, str] = {
    "resources": r"takes no 'resources'; give it to the run: flow.run\(..., resources=...\)",
    "labels": r"flow.run\(..., labels=...\)",
    "thread": r"flow.run\(..., thread=...\)",
    "store": r"takes no 'store'; give it to the run: flow.run\(store\)",
    "max_retries": "takes no 'max_retries'; it is a setting of a node: max_retries = ",
    "timeout": r"a setting of a node: timeout = .*Flow\(deadline=...\)",
    "journal": "a setting of a node: journal = ",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_a_flow_does_not_take_has_its_place(name: str) -> None:
    """In the run, or on a node."""
    given: dict[str, Any] = {"start": summarise, name: 3}
    with pytest.raises(DefinitionError, match=ELSEWHERE[name]):
        Flow(**given)


OF_FLOWS: dict[str, str] = {
    "db_path": r"keyword argument 'db_path'; it belongs to the flow: Flow\(..., db_path=...\)",
    "max_steps": r"Flow\(..., max_steps=...\)",
    "timeout": r"Flow\(..., deadline=...\)",
    "document": r"it is a field of the store: put it into the dict, run\({'document': ...}\)",
    "max_retries": "it is a setting of a node",
}


@pytest.mark.parametrize("name", OF_FLOWS)
@pytest.mark.parametrize("schema", [Article, {"document": str, "summary": str}])
def test_what_a_run_does_not_take_has_its_place(name: str, schema: Any) -> None:
    """On the flow, in the store, or on a node."""
    given: dict[str, Any] = {name: 3}
    with pytest.raises(TypeError, match=OF_FLOWS[name]):
        Flow(summarise, schema=schema).run(**given)


@pytest.fixture
def kept(tmp_path: Path) -> Any:
    """A flow that has kept the run ``a``."""
    flow = Flow(summarise, db_path=tmp_path / "runs.db", flow_name="press")
    flow.run({"document": "text"}, run_id="a")
    return flow


CALLS: dict[str, tuple[Callable[[Any], object], str]] = {
    "changes": (lambda flow: flow.resume("a", changes="x"), "changes='x': values by key"),
    "keys": (lambda flow: flow.resume("a", changes=["summary"]), r"changes=\['summary'\]: values"),
    "fork": (lambda flow: flow.fork("a", 0, "x"), "changes='x': values by key"),
    "rename": (lambda flow: flow.resume("a", rename="rate"), "rename='rate': new names"),
    "types": (lambda flow: flow.resume("a", types=None), "types= are classes .*, not None"),
    "flow_was": (lambda flow: flow.resume("a", flow_was=3), "flow_was=3: the name"),
    "limits": (lambda flow: flow.carry_on("a", limits=3), "limits=3: an instance of .*Limits"),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_said_of_a_stored_run_is_looked_at_where_it_is_given(kept: Any, name: str) -> None:
    """By the name of the argument, before the run."""
    call, match = CALLS[name]
    with pytest.raises(DefinitionError, match=match):
        call(kept)


MEANT: dict[str, tuple[Callable[[Any], object], str]] = {
    "resume": (lambda flow: flow.resume("a", {"summary": ""}), r"is named: changes={...}"),
    "fork": (lambda flow: flow.fork("a", 0, run_id="b"), "the id of the new run is new_id="),
    "using": (lambda flow: flow.using(dbpath="b.db"), "did you mean 'db_path'?"),
    "use": (lambda flow: flow.use(visits=print), "did you mean 'visit'?"),
    "by position": (lambda flow: flow.use(print), r"use\(visit=...\)"),
}


@pytest.mark.parametrize("name", MEANT)
def test_a_call_of_another_shape_names_the_keyword_that_was_meant(kept: Any, name: str) -> None:
    """It is the error that Python raises, with a hint."""
    call, match = MEANT[name]
    with pytest.raises(TypeError, match=match):
        call(kept)


def test_a_dict_that_a_run_wrote_into_is_no_longer_the_inputs(tmp_path: Path) -> None:
    """Whoever joins with it is told why, and a copy joins."""
    flow, inputs = Flow(summarise, db_path=tmp_path / "runs.db"), {"document": "text"}
    flow.run(dict(inputs), run_id="r1")
    flow.run(dict(inputs), run_id="r1", if_exists="join")
    flow.run(inputs, run_id="r2")
    with pytest.raises(RunExistsError, match="a dict that a run was given sees its writes"):
        flow.run(inputs, run_id="r2", if_exists="join")


def test_a_run_is_kept_where_the_flow_says_now(tmp_path: Path) -> None:
    """Another database may be set after a run, and concerns no flow that was made of this one."""
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    flow = Flow(summarise, schema=Article, db_path=first)
    other = flow.using()
    flow.run({"document": "abc"}, run_id="a")
    flow.db_path = second
    flow.run({"document": "abc"}, run_id="b")
    other.run({"document": "abc"}, run_id="c")
    ids = [{row["run_id"] for row in WorkflowDB(one).list_runs()} for one in (first, second)]
    assert ids == [{"a", "c"}, {"b"}]
    flow.db_path = None
    with pytest.raises(DefinitionError, match="keeps no runs"):
        _ = flow.database


class Longer(Article):
    """What a flow works on later."""

    title: str


def test_what_is_set_counts_for_the_runs_that_are_submitted_after_it(tmp_path: Path) -> None:
    """A flow that cannot do any more what is asked of it has none of its runs recorded."""
    flow = Flow(summarise, schema=Longer, db_path=tmp_path / "runs.db")
    flow.submit({"document": "one"})
    flow.outputs = ("title",)
    with pytest.raises(FlowValidationError, match="title"):
        flow.submit({"document": "two"})


def test_the_schema_that_is_set_is_on_record_with_the_next_run(tmp_path: Path) -> None:
    """A run is compared, when it goes on, with the schema that it began with."""
    flow: Flow[Any] = Flow(summarise, schema=Article, db_path=tmp_path / "runs.db")
    before = flow.submit({"document": "one"})
    flow.schema = Longer
    after = flow.submit({"document": "two"})
    assert any("title" in one for one in flow.can_resume(before).changed)
    assert flow.can_resume(after).changed == ()
