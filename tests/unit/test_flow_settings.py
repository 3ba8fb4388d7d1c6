"""Settings of flows: checked whenever they are given; where something else belongs is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import Flow, fields, node
from pocoflow.errors import DefinitionError


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


def test_an_empty_name_is_refused_by_the_name_of_the_argument() -> None:
    """It is not that of a node that somebody wrote."""
    with pytest.raises(DefinitionError, match=r"Flow\(flow_name=\.\.\.\) must be"):
        Flow(summarise, flow_name="")
