"""Mistakes in what is written are answered with what to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import Flow, Node, WorkflowDB, fields
from pocoflow.errors import DefinitionError, ReferenceMisuseError


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
    ],
    ids=["+", "right +", "*", "%", "-", "int", "float"],
)
def test_a_reference_cannot_be_computed_with(misuse: Callable[[], object]) -> None:
    """It is no value, and says so however it is used as one."""
    with pytest.raises(ReferenceMisuseError, match="stands for a value that only a run has"):
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
