"""Two processes that resume one run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pocoflow
from pocoflow import Flow, Node, Store, WorkflowDB
from pocoflow.errors import ResumeError

HOLDER = """
import sys
from pocoflow import Flow, Node

class Hold(Node):
    def exec(self, prepared):
        print("in exec", flush=True)
        sys.stdin.readline()
        return 1

    def post(self, store, prepared, result):
        store["x"] = result
        return "done"

if __name__ == "__main__":
    flow = Flow(Hold(), db_path=sys.argv[1], run_id="r", flow_name="hold")
    flow.resume("r") if sys.argv[2] == "resume" else flow.run({})
"""


def test_two_processes_cannot_resume_one_run(path: Path, tmp_path: Path) -> None:
    """While another process runs a run it is refused; once that is killed, it can be resumed."""
    program = tmp_path / "hold.py"
    program.write_text(HOLDER, encoding="utf-8")
    root = str(Path(pocoflow.__file__).parents[1])

    class Hold(Node):
        def exec(self, prepared: None) -> int:
            return 2

        def post(self, store: Store[Any], prepared: None, result: int) -> str:
            store["x"] = result
            return "done"

    Hold.__module__, Hold.__qualname__ = "__main__", "Hold"
    flow: Flow[Any] = Flow(Hold(), db_path=path, flow_name="hold")
    for how in ("run", "resume"):
        with subprocess.Popen(
            [sys.executable, str(program), str(path), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": root},
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"in exec\n"
            with pytest.raises(ResumeError, match="another process"):
                flow.resume("r")
            assert flow.recover() == {}
            process.kill()
    assert flow.recover() == {"r": None}
    with WorkflowDB(path) as db:
        assert db.load_checkpoint("r", 0)["x"] == 2
        assert [event["event"] for event in db.get_events("r")].count("flow_resume") == 2
