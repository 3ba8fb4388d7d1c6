"""Going on with a run in parallel branches, of which the code has others by now."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

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
    bind,
    context,
    fields,
)
from pocoflow.errors import ResumeError
from pocoflow.node import NodeLike
from pocoflow.reducers import append


class Says(Node):
    """Notes in a branch that it was called."""

    def __init__(self, name: str, fails: bool = False) -> None:
        super().__init__(name=name)
        self.fails, self.keys = fails, list[str]()

    def exec(self, prepared: Any) -> str:
        self.keys.append(context().idempotency_key)
        if self.fails:
            raise OSError("down")
        return self.name

    def post(self, store: Store[Any], prepared: Any, result: str) -> str:
        store.reduce("notes", result)
        return "default"


class Notes(BaseModel):
    notes: Annotated[list[str], append] = []
    items: list[int] = []
    item: int = 0


N = fields(Notes)


def branching(path: Path, *branches: NodeLike[Any]) -> Flow[Any]:
    """A flow of these branches, one after another, and nothing else."""
    both = Parallel(*branches, name="both")
    return Flow(both, schema=Notes, db_path=path, flow_name="flow", run_id="r")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file."""
    return tmp_path / "runs.db"


@pytest.fixture
def one_done(path: Path) -> tuple[Says, Says]:
    """The branches of a run of which the first is finished, and the second has failed."""
    done, fails = Says("done"), Says("fails", fails=True)
    gate = threading.Event()
    fails.prep = lambda store: gate.wait(30)  # type: ignore[method-assign]
    flow = branching(path, done, fails)
    flow.on("node_end", lambda name, action, elapsed, store: gate.set())
    with pytest.raises(OSError, match="down"):
        flow.run({})
    return done, fails


def test_branches_are_known_by_their_names_wherever_they_stand(
    path: Path, one_done: tuple[Says, Says]
) -> None:
    """Each has what it had finished, and its idempotency key, also beside one that is new."""
    done, fails, new = Says("done"), Says("fails", fails=True), Says("new")
    with pytest.raises(OSError, match="down"):
        branching(path, fails, done).resume("r")
    again = Says("fails")
    assert branching(path, again, new, done).resume("r")["notes"] == ["fails", "new", "done"]
    assert done.keys == []
    assert one_done[1].keys == fails.keys == again.keys
    assert len({*one_done[0].keys, *again.keys, *new.keys}) == 3


def test_a_branch_that_is_gone_gives_nothing_to_those_that_are_left(
    path: Path, one_done: tuple[Says, Says]
) -> None:
    """It was removed; the others are called for what they have not done themselves."""
    left = Says("fails")
    assert branching(path, left).resume("r")["notes"] == ["fails"]
    assert left.keys == one_done[1].keys


@pytest.mark.parametrize("rename", [{"done": "made"}, {"both/done": "both/made"}])
@pytest.mark.parametrize("times", [1, 2])
def test_a_branch_that_has_another_name_is_told_of(
    path: Path, one_done: tuple[Says, Says], rename: dict[str, str], times: int
) -> None:
    """Nobody can tell it from one that is new, which would be called for what is on record."""
    made = Says("made")
    flow = branching(path, made, Says("fails"))
    with pytest.raises(ResumeError, match="node 'both' has no branch 'done'") as told:
        flow.resume("r")
    assert [one.python for one in told.value.remedies] == [
        "flow.resume('r', rename={'done': <new name>})"
    ]
    if times == 2:
        with pytest.raises(OSError, match="down"):
            branching(path, made, Says("fails", fails=True)).resume("r", rename=rename)
        rename = {}
    assert flow.resume("r", rename=rename)["notes"] == ["done", "fails"]
    assert made.keys == []


def test_a_question_of_a_branch_is_answered_wherever_that_stands(path: Path) -> None:
    """The node of the branch that asked takes the answer, also beside a namesake."""

    def asking(name: str, kind: Any) -> Flow[Any]:
        class Ask(AskNode[kind, str]):
            def prep(self, store: Store[Any]) -> Question[Any]:
                return Question(name)

            def post(self, store: Store[Any], question: Any, answer: Any) -> str:
                store.reduce("notes", f"{name} {answer}")
                return "default"

        return Flow(Ask(name="ask"), flow_name=name)

    with pytest.raises(RunPaused):
        branching(path, asking("first", bool), asking("second", str)).run({})
    flow = branching(path, asking("new", int), asking("second", str), asking("first", bool))
    for one in flow.database.get_questions("r"):
        flow.answer_json("r", {"first": True, "second": "yes"}[one.text], question=one.question)
    with pytest.raises(RunPaused):
        flow.resume("r")
    flow.answer_json("r", 3)
    assert flow.resume("r")["notes"] == ["new 3", "second yes", "first True"]


class Slips(Says):
    """Fails once its result is on record."""

    def post(self, store: Store[Any], prepared: Any, result: str) -> str:
        raise OSError("down")


@pytest.mark.parametrize("kind", [Parallel, FanOut, Subflow])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "second"])
def test_a_node_in_a_branch_that_is_made_from_something_else_is_refused(
    path: Path, kind: Any, is_first: bool
) -> None:
    """As one outside of branches, unless whoever resumes says that it is the one to go on with."""

    def build(work: Says) -> Flow[Any]:
        first = Says("before").then("default", work)
        inner = Flow(work if is_first else first, schema=Notes, flow_name="inner")
        settings: dict[Any, Any] = {
            Parallel: {},
            FanOut: {"each": N.items, "as_": N.item},
            Subflow: {"inputs": [bind(N.items).to(N.items)]},
        }
        both = kind(inner, name="both", **settings[kind])
        return Flow(both, schema=Notes, db_path=path, flow_name="flow", run_id="r")

    with pytest.raises(OSError, match="down"):
        build(Slips("work")).run({"items": [1]})
    work = Says("work")
    refused = f"work', which was {__name__}:Slips and is {__name__}:Says now"
    with pytest.raises(ResumeError, match=refused):
        build(work).resume("r")
    build(work).resume("r", rename={"work": "work"})
    assert work.keys == []
