"""PF303: what parallel branches write at the same time."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from pocoflow import FanOut, Flow, Node, Parallel, Store, fields, node
from pocoflow.errors import FlowValidationError
from pocoflow.findings import Finding
from pocoflow.reducers import append


class Work(BaseModel):
    document: str = ""
    items: list[int] = []
    one: int = 0
    summary: str = ""
    title: str = ""
    log: Annotated[list[str], append] = []


W = fields(Work)


@node(writes=W.summary)
def shorten(document: str) -> str:
    """Writes the summary."""
    return document


@node(writes=W.summary)
def translate(document: str) -> str:
    """Writes the summary, too."""
    return document


@node(writes=W.title)
def name(document: str) -> str:
    """Writes the title."""
    return document


class Perhaps(Node):
    """Writes the summary only now and then."""

    def post(self, store: Store[Any], prepared: Any, result: Any) -> None:
        if store["document"]:
            store["summary"] = "perhaps"


def clashes(start: Node[Any, Any, Any]) -> list[Finding]:
    """What PF303 finds in a flow."""
    return [one for one in Flow(start, schema=Work).validate() if one.code == "PF303"]


def test_two_branches_that_write_one_field_are_an_error() -> None:
    """The finding names the node, the branches and the field; the run does not start."""
    start = Parallel(shorten, translate, name="both")
    (found,) = clashes(start)
    assert (found.severity, found.node) == ("error", "both")
    assert all(part in found.message for part in ("'shorten'", "'translate'", "'summary'"))
    assert found.file == __file__
    with pytest.raises(FlowValidationError, match="PF303"):
        Flow(start, schema=Work).run({})


def test_branches_with_fields_of_their_own_are_fine() -> None:
    """Different fields need no reducer."""
    assert clashes(Parallel(shorten, name, name="both")) == []


def test_a_flow_and_a_node_as_branches_clash_too() -> None:
    """What a flow writes somewhere on its way counts as written by the branch that it is."""
    flow = Flow(name, flow_name="inner", schema=Work)
    flow.then(name, translate)
    (found,) = clashes(Parallel(shorten, flow, name="both"))
    assert found.severity == "error"
    assert "'inner'" in found.message


def test_branches_in_branches_count() -> None:
    """What a nested parallel node writes is written by the branch that it is in."""
    inner = Parallel(name, translate, name="inner")
    (found,) = clashes(Parallel(shorten, inner, name="both"))
    assert (found.node, found.severity) == ("both", "error")


def test_a_write_that_depends_on_values_is_a_warning() -> None:
    """A branch that may not write after all does not keep a run from starting."""
    start = Parallel(shorten, Perhaps(), name="both")
    (found,) = clashes(start)
    assert found.severity == "warning"
    assert Flow(start, schema=Work).run({}).state.summary == ""


def test_the_items_of_a_fan_out_are_a_warning() -> None:
    """The same branch for several items clashes with itself, but one item works."""
    (found,) = clashes(FanOut(shorten, each=W.items, as_=W.one, name="each"))
    assert (found.severity, found.node) == ("warning", "each")
    assert "'summary'" in found.message
