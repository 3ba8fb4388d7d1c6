"""The event log of a run as steps, errors, and a walk over its graph."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from pocoflow import Flow, Node, Parallel, Store, WorkflowDB
from pocoflow.db import EventRow
from pocoflow.ui.drawing import draw_graph
from pocoflow.ui.pages_data import RunView, read_run
from pocoflow.ui.snippet import resume_snippet
from pocoflow.ui.steps import errors_of, parse, steps_of, walk
from pocoflow.views.runs import describe
from tests.rows import run_row

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def event(kind: str, seconds: float, step: int = 0, **columns: object) -> EventRow:
    """A row of the event log."""
    node = "A" if kind.startswith("node") else None
    row: dict[str, object] = dict.fromkeys(EventRow.__annotations__)
    row |= {"event": kind, "step": step, "node_name": node}
    row |= {"ts": (NOW + timedelta(seconds=seconds)).isoformat()}
    return cast("EventRow", row | columns)


def test_attempts_of_a_step_are_told_apart() -> None:
    """A step that was retried has one attempt for each try, with its time and error."""
    events = [
        event("flow_start", 0),
        event("node_start", 0),
        event("node_retry", 1, attempt=1, error_type="TimeoutError", error_msg="slow"),
        event("node_end", 3, attempt=2, action="ok", elapsed_ms=3000.0),
    ]
    (step,) = steps_of(run_row(status="completed"), events, NOW)
    assert (step.status, step.action, step.elapsed_ms) == ("completed", "ok", 3000.0)
    assert [(one.error, (one.ended - one.began).seconds) for one in step.attempts] == [
        ("TimeoutError: slow", 1),
        (None, 2),
    ]


@pytest.mark.parametrize(
    ("status", "last", "shown"),
    [
        ("running", None, "running"),
        ("failed", None, "failed"),
        ("cancelled", "flow_cancelled", "cancelled"),
        ("failed", "flow_error", "failed"),
    ],
)
def test_a_step_without_an_end_reads_as_its_run(status: str, last: str | None, shown: str) -> None:
    """A step that runs, was cancelled, or whose process is gone says so."""
    events = [event("node_start", 0), *([event(last, 2)] if last else [])]
    (step,) = steps_of(run_row(status=status), events, NOW + timedelta(seconds=9))
    assert step.status == shown
    expected = 9 if status == "running" else 2 if last else 0
    assert (step.ended - step.began).seconds == expected


def test_a_resumed_step_is_there_twice() -> None:
    """What failed and what went on after a resume are two bars."""
    events = [
        event("node_start", 0),
        event("node_error", 1, error_msg="boom"),
        event("flow_resume", 5),
        event("node_start", 5),
        event("node_end", 6, action="ok"),
    ]
    steps = steps_of(run_row(status="completed"), events, NOW)
    assert [(one.number, one.status) for one in steps] == [(0, "failed"), (0, "completed")]


def test_a_time_that_cannot_be_read_is_no_error() -> None:
    """Files of older versions may have times in other forms."""
    assert parse("2026-01-01T00:00:00") == NOW
    assert parse("yesterday") == datetime.min.replace(tzinfo=UTC)


class Turn(Node):
    max_retries = 2

    def exec(self, prep_result: Any) -> None:
        if not hasattr(self, "tried"):
            self.tried = True
            raise TimeoutError("slow")

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        store["turn"] += 1
        return "again" if store["turn"] < 3 else "good"


class Boom(Node):
    def exec(self, prep_result: Any) -> None:
        raise ValueError("no JSON\nin the answer")


def read(path: Path, flow: Flow[Any]) -> RunView:
    """Run a flow, which may fail, and read its run."""
    try:
        flow.run({"turn": 0})
    except ValueError:
        pass
    with WorkflowDB(path, read_only=True) as db:
        return read_run(db, db.list_runs()[0]["run_id"], datetime.now(UTC))


@pytest.fixture
def view(tmp_path: Path) -> RunView:
    """A failed run: three turns, the first retried, then a node that raises."""
    turn, boom, never = Turn(), Boom(), Node(name='ne"ver\\')
    turn.then("again", turn).then("good", boom).then("bad", never)
    return read(tmp_path / "a.db", Flow(start=turn, db_path=tmp_path / "a.db"))


def test_a_walk_counts_visits_and_edges(view: RunView) -> None:
    """The graph tells how often each node ran and each edge was taken, and where the run stands."""
    assert view.walk.visits == {("Turn",): 3, ("Boom",): 1}
    assert view.walk.status == {("Turn",): "completed", ("Boom",): "failed"}
    assert view.walk.taken == {
        (("Turn",), "again", ("Turn",)): 2,
        (("Turn",), "good", ("Boom",)): 1,
    }
    assert view.walk.current == ("Boom",)


def test_a_step_that_a_resume_begins_again_is_one_visit(tmp_path: Path) -> None:
    """A node that was interrupted and then completed is not drawn as two steps of it."""

    class Interrupted(Node):
        down = True

        def exec(self, prep_result: Any) -> None:
            if Interrupted.down:
                raise KeyboardInterrupt

    path = tmp_path / "a.db"
    with pytest.raises(KeyboardInterrupt):
        Flow(Interrupted(), db_path=path, flow_name="f").run({}, run_id="r")
    Interrupted.down = False
    Flow(Interrupted(), db_path=path, flow_name="f").resume("r")
    with WorkflowDB(path, read_only=True) as db:
        found = read_run(db, "r", datetime.now(UTC)).walk
    assert found.visits == {("Interrupted",): 1}
    assert found.status == {("Interrupted",): "completed"}


def test_errors_are_told_once_with_their_traceback(view: RunView) -> None:
    """The error that ended the run comes first, then the attempt that was tried again."""
    errors = errors_of(view.run, view.events)
    assert [(one.title, one.kind, one.is_final) for one in errors] == [
        ("Step 3, Boom, attempt 1, ended the run", "ValueError", True),
        ("Step 0, Turn, attempt 1, was tried again", "TimeoutError", False),
    ]
    assert "in exec" in errors[0].traceback


def test_a_drawing_has_states_counts_and_the_current_node(view: RunView) -> None:
    """The DOT text names what a person has to see, without relying on colours alone."""
    assert view.graph is not None
    dot = draw_graph(view.graph, view.walk)
    assert 'label="Turn\\n✓ completed ×3"' in dot
    assert 'label="Boom\\n✗ failed · here"' in dot
    assert "penwidth=3" in dot
    assert 'label=" again ×2 "' in dot
    assert 'label="ne\\"ver\\\\"' in dot
    assert draw_graph(view.graph, view.walk, dark=True) != dot


def test_a_limit_is_written_at_both_ways_of_its_edge(tmp_path: Path) -> None:
    """How often the edge may be taken, how often it was, and where it led after that."""
    again, last = Node(name="again"), Node(name="last")
    again.then("default", again, at_most=2, then=last)
    flow = Flow(again, db_path=tmp_path / "runs.db", run_id="r")
    flow.run({})
    view = read_run(flow.database, "r", datetime.now(UTC))
    assert view.graph is not None
    dot = draw_graph(view.graph, view.walk)
    flow.database.close()
    assert 'label=" at most 2 ×2 "' in dot
    assert 'label=" after 2 ×1 "' in dot


def test_a_nested_flow_is_a_box_and_its_edges_are_followed(tmp_path: Path) -> None:
    """The way into and out of a nested flow is counted, and drawn as a cluster."""
    inner, first, last = Turn(), Node(name="first"), Node(name="last")
    inner.then("again", inner)
    middle = Flow(start=inner, flow_name="middle")
    first.then("default", middle)
    middle.then("good", last)
    view = read(tmp_path / "a.db", Flow(start=first, db_path=tmp_path / "a.db"))
    assert view.walk.taken == {
        (("first",), "default", ("middle",)): 1,
        (("middle", "Turn"), "again", ("middle", "Turn")): 2,
        (("middle",), "good", ("last",)): 1,
    }
    assert view.graph is not None
    dot = draw_graph(view.graph, view.walk)
    assert "subgraph cluster_" in dot
    assert "lhead=cluster_" in dot
    assert "ltail=cluster_" in dot


def test_parallel_branches_are_steps_of_their_own(tmp_path: Path) -> None:
    """Branches overlap in time, the node around them ends after them, and edges count once."""
    path = tmp_path / "a.db"
    inner = Flow(start=Node(name="deep"), flow_name="sub")
    both, last = Parallel(Node(name="one"), inner, name="both"), Node(name="last")
    flow = Flow(start=both, db_path=path)
    view = read(path, flow.then(both, last))
    assert {step.node: step.status for step in view.steps} == dict.fromkeys(
        ("both", "both/one", "both/sub/deep", "last"), "completed"
    )
    assert view.walk.taken == {(("both",), "default", ("last",)): 1}
    assert view.graph is not None
    assert 'label="both\\n✓ completed"' in draw_graph(view.graph, view.walk)
    code = resume_snippet(str(path), view.run, view.graph, view.walk, step=0)
    assert "from my_module import flow" in code


def test_a_name_with_a_slash_is_not_taken_for_a_nested_flow(tmp_path: Path) -> None:
    """A slash in a name draws a node as any other."""
    path = tmp_path / "a.db"
    view = read(path, Flow(start=Node(name="a/b"), db_path=path))
    assert view.graph is not None
    assert 'label="a/b\\n✓ completed"' in draw_graph(view.graph, view.walk)


def test_a_run_without_steps_walks_nowhere() -> None:
    """A queued run stands before its first node."""
    found = walk(run_row(status="queued", current_node="A"), [], [])
    assert (found.visits, found.current) == ({}, ("A",))


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("ValueError", "ValueError: no"), ("pkg.far.Gone", "Gone: no"), ("Interrupted", "no")],
)
def test_an_error_in_a_line_has_its_class_without_the_module(kind: str, shown: str) -> None:
    """Where room is short, what is said of an error begins with what matters."""
    assert describe({"error_type": kind, "error_msg": "no"}) == shown
