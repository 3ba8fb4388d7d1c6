"""The code to be pasted: it runs as it stands, goes on at the right node, and cannot be forged."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pocoflow import WorkflowDB
from pocoflow.ui.pages_data import RunView, read_run
from pocoflow.ui.snippet import cancel_snippet, is_reference, resume_snippet
from pocoflow.ui.steps import Walk
from tests import commands
from tests.rows import run_row

# The program of somebody who uses the library; FAIL says where it fails.
APP = """
import os
from typing import Literal
from pocoflow import END, BatchNode, Flow, Node, node


class Ask(Node):
    def post(self, store, prep_result, exec_result):
        store.setdefault("trace", []).append("Ask")
        return "done"


class Outer:
    class Parts(BatchNode):
        def prep(self, store):
            return [1, 2]

        def exec(self, item):
            return item * 2

        def post(self, store, items, results):
            store["trace"].append("Parts")
            store["parts"] = results


@node
def decide(trace: list) -> Literal["again", "good"]:
    if os.environ.get("FAIL") == "decide":
        raise ValueError("not today")
    return "again" if len(trace) < 4 else "good"


class Publish(Node):
    def exec(self, prep_result):
        if os.environ.get("FAIL") == "publish":
            raise ValueError("the service is down")

    def post(self, store, prep_result, exec_result):
        store["trace"].append(self.name)
        return "over"


def build(path="runs.db"):
    ask, second, parts, publish, last = Ask(), Ask(), Outer.Parts(), Publish(), Publish(name="last")
    ask.then("done", second)
    second.then("done", parts)
    inner = Flow(start=ask, flow_name="inner")
    publish.then("over", last)
    flow = Flow(start=inner, flow_name="demo", db_path=path)
    flow.then(inner.when("default"), decide)
    flow.then(decide.when("again"), publish).then(decide.when("good"), publish)
    return flow.then(last.when("over"), END)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the program ``app.py``."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    return tmp_path


def python(folder: Path, code: str, fail: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in the folder, as who pastes it does."""
    return commands.execute("-c", code, folder=folder, environment={"FAIL": fail})


def view_of(folder: Path, run_id: str | None = None) -> RunView:
    """The newest run, or another one."""
    with WorkflowDB(folder / "runs.db", read_only=True) as db:
        return read_run(db, run_id or db.list_runs()[0]["run_id"], datetime.now(UTC))


def snippet(folder: Path, view: RunView, **settings: Any) -> str:
    """The code that the monitor shows."""
    path = str(folder / "runs.db")
    return resume_snippet(path, view.run, view.graph, view.walk, **settings)


@pytest.mark.parametrize("fail", ["decide", "publish"])
@pytest.mark.parametrize("reference", ["", "app:build"])
def test_the_snippet_goes_on_at_the_node_that_failed(
    folder: Path, fail: str, reference: str
) -> None:
    """Pasted as it stands, it ends the failed run without running a finished step again."""
    failed = python(folder, "import app; app.build().run({})", fail=fail)
    assert "ValueError" in failed.stderr
    before = view_of(folder)
    assert before.run["status"] == "failed"
    done = python(folder, snippet(folder, before, reference=reference))
    assert done.returncode == 0, done.stderr
    after = view_of(folder)
    assert (after.run["run_id"], after.run["status"]) == (before.run["run_id"], "completed")
    trace = [step.node for step in after.steps if step.status == "completed"]
    assert trace == [
        "inner/Ask",
        "inner/Ask_2",
        "inner/Parts",
        "decide",
        "Publish",
        "last",
    ]
    assert "['Ask', 'Ask', 'Parts', 'Publish', 'last']" in done.stdout


def test_the_snippet_forks_from_the_chosen_step(folder: Path) -> None:
    """Pasted for a checkpoint of a completed run, it makes a new run from there."""
    assert python(folder, "import app; app.build().run({})").returncode == 0
    parent = view_of(folder)
    done = python(folder, snippet(folder, parent, step=2))
    assert done.returncode == 0, done.stderr
    fork = view_of(folder)
    assert (fork.run["parent_run_id"], fork.run["parent_step"]) == (parent.run["run_id"], 2)
    assert [step.node for step in fork.steps] == ["decide", "Publish", "last"]
    assert fork.run["status"] == "completed"


def test_the_snippet_for_a_script_is_pasted_below_it(folder: Path) -> None:
    """Where the nodes were defined in a script, the code says so and runs at its end."""
    script = APP + '\nif __name__ == "__main__":\n    build().run({})\n'
    (folder / "script.py").write_text(script, encoding="utf-8")
    subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, "FAIL": "publish"},
        check=False,
        capture_output=True,
        timeout=300,
    )
    code = snippet(folder, view_of(folder))
    assert "# Paste it below the definitions of: Ask, Outer.Parts, Publish, decide." in code
    done = python(folder, APP + code)
    assert done.returncode == 0, done.stderr
    assert view_of(folder).run["status"] == "completed"


def test_a_file_in_the_place_of_a_module_is_imported_from_its_folder(folder: Path) -> None:
    """The code works wherever it is pasted: with a file of a package, and with one of a script."""
    package = folder / "it's here" / "pack"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for file in (folder / "app.py", package / "flows.py"):
        file.write_text(APP, encoding="utf-8")
        python(folder, "import app; app.build().run({})", fail="publish")
        before = view_of(folder)
        code = snippet(folder, before, reference=f"{file}:build")
        root = folder if file.stem == "app" else package.parent
        assert f"sys.path.insert(0, {str(root)!r})" in code
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        code = code.replace("else build()", f"else build({str(folder / 'runs.db')!r})")
        done = python(elsewhere, code)
        assert done.returncode == 0, done.stderr
        assert view_of(folder, before.run["run_id"]).run["status"] == "completed"


def test_a_schema_that_the_record_has_no_class_of_is_asked_for() -> None:
    """The code says where it goes, if the flow had one."""
    graph = {
        "start": "A",
        "nodes": [{"path": ["A"], "class": "app:A", "code": ""}],
        "edges": [],
        "schema": {"text": "str"},
    }
    run = run_row(run_id="r", flow_name="f", status="failed")
    code = resume_snippet("runs.db", run, graph, Walk())
    assert "# Add schema=, the model of its store" in code.partition("flow = Flow(")[0]
    assert "schema" not in resume_snippet("runs.db", run, {**graph, "schema": None}, Walk())


def test_a_run_without_a_graph_goes_on_from_its_checkpoint(folder: Path) -> None:
    """For a run of an older version the code takes the documented way: checkpoint and node."""
    python(folder, "import app; app.build().run({})", fail="publish")
    view = view_of(folder)
    code = resume_snippet(str(folder / "runs.db"), view.run, None, view.walk, reference="app:build")
    done = python(folder, code)
    assert done.returncode == 0, done.stderr
    fresh = view_of(folder)
    assert [step.node for step in fresh.steps] == ["Publish", "last"]


def test_nothing_that_was_recorded_becomes_code() -> None:
    """Names that are no names are never written as code, values only as literals."""
    evil = "x'); import os; os.system('true') #"
    graph = {
        "start": evil,
        "nodes": [
            {"path": [evil], "class": f"os:{evil}", "code": ""},
            {"path": ["other\nimport os"], "class": "a b:c", "code": ""},
        ],
        "edges": [[[evil], evil, ["other\nimport os"]]],
        "schema": None,
    }
    run = run_row(run_id=evil, flow_name=evil, status="failed")
    view = RunView(run, [], [], graph, Walk(), [])
    for code in (
        resume_snippet(evil, view.run, graph, view.walk),
        resume_snippet(evil, view.run, graph, view.walk, step=1),
        cancel_snippet(evil, evil),
    ):
        tree = ast.parse(code)
        imported = [one for one in ast.walk(tree) if isinstance(one, ast.Import | ast.ImportFrom)]
        assert [one.module for one in imported if isinstance(one, ast.ImportFrom)] == ["pocoflow"]
        assert len(imported) == 1
        names = {one.attr for one in ast.walk(tree) if isinstance(one, ast.Attribute)}
        assert "system" not in names


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("app:flow", True),
        ("my_app.flows:build.it", True),
        ("app", False),
        ("app:", False),
        ("app:flow; import os", False),
        ("app.py:flow", True),
        ("some folder/app.py:build.it", True),
        ("my-app.py:flow", False),
        ("app.py:flow; import os", False),
        ("app.py", False),
        ("import:flow", False),
        ("a-b:flow", False),
    ],
)
def test_a_reference_is_a_module_and_a_name(text: str, fits: bool) -> None:
    """What is typed into the field is put into code only if it is no more than a reference."""
    assert is_reference(text) is fits
