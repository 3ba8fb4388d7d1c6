"""What people should know and is no error: printed once if no logging is set up, and on record."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pocoflow import FanOut, Flow, Node, WorkflowDB, key, node
from pocoflow.cli import main


class Grade(Node):
    """Returns an action that has no edge."""

    def post(self, store: Any, prepared: Any, result: Any) -> str:
        store["lock"] = object()
        return "bda"


def graded(db: WorkflowDB | Path) -> Flow[Any]:
    """A flow with two remarks on one step."""
    grade = Grade()
    grade.then("bad", Node(name="fix"))
    return Flow(grade, db_path=db, run_id="r")


def test_remarks_are_shown_whole_by_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``runs show`` has the whole text of each, and calls none of them an error."""
    path = tmp_path / "r.db"
    graded(path).run({})
    assert main(["runs", "show", "r", "--db", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "node_end in step 0, Grade" in shown
    assert "which has no edge; did you mean 'bad'?; the run ends here (edges: bad)" in shown
    assert "store key 'lock' is not saved" in shown
    assert "error " not in shown


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_remark_of_many_steps_is_logged_once_for_each_run(
    concurrency: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is on the record of each of these steps, and told once of all branches and loops."""
    grade = Node(name="grade")
    grade.then("bad", Node(name="fix"))
    each = FanOut(grade, each=key("texts"), as_=key("text"), concurrency=concurrency)
    flow = Flow(each, db_path=":memory:")
    for run_id in ("a", "b"):
        caplog.clear()
        flow.run({"texts": [1, 2, 3]}, run_id=run_id)
        assert sum("has no edge" in record.message for record in caplog.records) == 1
        notes = [event["note"] or "" for event in flow.database.get_events(run_id)]
        assert sum("has no edge" in note for note in notes) == 3


def test_a_node_deep_inside_is_shown_by_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a path that is too long the end is shown, which names the node."""
    path, start = tmp_path / "r.db", Node(name="the_node_that_matters")
    flow: Flow[Any] = Flow(start, flow_name="a_flow_around_0")
    for number in range(1, 4):
        flow = Flow(flow, flow_name=f"a_flow_around_{number}")
    flow.using(db_path=path).run({}, run_id="r")
    assert main(["runs", "show", "r", "--db", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("...a_flow_around_0/the_node_that_matters") == 3


def test_a_remark_of_a_step_that_fails_is_on_record_with_the_failure(tmp_path: Path) -> None:
    """What was said before the run failed is not lost, and the error stays the error."""

    class Fails(Node):
        def exec(self, prepared: Any) -> Any:
            return object()

        def post(self, store: Any, prepared: Any, result: Any) -> str:
            raise ValueError("broken")

    with WorkflowDB(tmp_path / "r.db") as db:
        with pytest.raises(ValueError, match="broken"):
            Flow(Fails(), db_path=db, run_id="r").run({})
        (event,) = [one for one in db.get_events("r") if one["event"] == "node_error"]
    assert event["error_msg"] == "broken"
    assert "cannot be stored" in (event["note"] or "")


def test_a_remark_of_a_resume_is_on_record_with_the_resume(tmp_path: Path) -> None:
    """Under changed code a run goes on; the record says what has changed."""
    fails = True

    class First(Node):
        def exec(self, prepared: Any) -> None:
            if fails:
                raise ValueError("no")

    @node(writes=key("n"))
    def more() -> int:
        return 1

    with WorkflowDB(tmp_path / "r.db") as db:
        first = First()
        with pytest.raises(ValueError, match="no"):
            Flow(first, db_path=db, run_id="r").run({})
        fails = False
        changed: Flow[Any] = Flow(first, db_path=db)
        changed.then(first, more)
        changed.resume("r")
        (event,) = [one for one in db.get_events("r") if one["event"] == "flow_resume"]
    assert "changed code" in (event["note"] or "")
    assert event["error_msg"] is None


def test_what_is_told_of_a_flow_is_on_record_for_runs_that_begin_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of the first runs has it, whichever thread has found it; it is logged once."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(8):
            flow: Flow[Any] = Flow(Node(), db_path=tmp_path / f"{number}.db")
            flow.then("done", Node())  # the flow is a node of none
            assert flow.database.list_runs() == []
            begin = partial(at_once, threading.Barrier(8), flow)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(begin, range(8)))
            events = [flow.database.get_events(f"r{place}")[0] for place in range(8)]
            assert all("PF110" in (event["note"] or "") for event in events)
    finally:
        sys.setswitchinterval(before)
    assert caplog.text.count("PF110") == 8


def at_once(ready: threading.Barrier, flow: Flow[Any], place: int) -> None:
    """Begin a run when all others are ready to."""
    ready.wait(60)
    flow.run({}, run_id=f"r{place}")
