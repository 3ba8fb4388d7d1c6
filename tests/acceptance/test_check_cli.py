"""``pocoflow check``, ``rule`` and ``graph``, started as a user starts them."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.commands import execute

ROOT = Path(__file__).parents[2]

PROGRAM = """\
from typing import Literal

from pydantic import BaseModel

from pocoflow import END, Flow, fields, key, node

class Article(BaseModel):
    document: str
    summary: str

A = fields(Article)

@node
def is_long(document: str) -> Literal["long", "short"]:
    return "long" if len(document) > 100 else "short"

@node(writes=A.summary)
def summarise(document: str) -> str:
    return document[:100]

@node(writes=A.summary)
def shorten(document: str) -> str:
    return document[:50]

@node
def publish(summary: str) -> None:
    print(summary)

good = Flow(start=summarise, schema=Article).then(summarise, publish)
bad = Flow(start=is_long, schema=Article)
bad.then(is_long.when("long"), summarise).then(is_long.when("short"), publish)
warned = Flow(start=summarise, schema=Article).then(summarise, shorten)

def make():
    return Flow(start=summarise, schema=Article)

async def later():
    return good

print("imported")
"""
SITUATION = "app.py:25: error PF301: flow 'is_long', node 'publish': it reads 'summary' before"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of flows: one good, one bad, one with a warning."""
    (tmp_path / "app.py").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command; these without what the module prints."""
    settings = {"COLUMNS": "100", "NO_COLOR": "1"}
    done = execute("-m", "pocoflow", *arguments, folder=folder, environment=settings)
    return done.returncode, done.stdout, done.stderr.removeprefix("imported\n")


def test_a_good_flow_passes(folder: Path) -> None:
    """Nothing to say is exit code 0 and one line."""
    assert run(folder, "check", "app:good") == (0, "1 flow checked: 0 errors, 0 warnings\n", "")
    assert run(folder, "check", "app.py:good", "app:make")[0] == 0


def test_the_bound_of_a_flow_with_limits_is_said(folder: Path) -> None:
    """What follows from limits is said behind the report, a broken rule with its path."""
    limited = """
limited = Flow(start=summarise, schema=Article).then(summarise, is_long)
limited.then(is_long.when("long"), summarise, at_most=3, then=publish)
limited.then(is_long.when("short"), END)
ruled = Flow(start=is_long, schema=Article)
ruled.then(is_long.when("long"), summarise).then(is_long.when("short"), shorten)
ruled.then(summarise, publish).then(shorten, publish).require(shorten).before(publish)
"""
    (folder / "app.py").write_text(PROGRAM + limited, encoding="utf-8")
    counted = "1 flow checked: 0 errors, 0 warnings\n"
    said = "app:limited: at most 9 steps and 9 calls of exec\n"
    assert run(folder, "check", "app:limited") == (0, counted + said, "")
    code, printed, _ = run(folder, "check", "app:ruled")
    assert code == 1
    assert "broken on the path is_long -long-> summarise -> publish" in printed


def test_a_bad_flow_fails_with_the_place_the_path_and_the_fix(folder: Path) -> None:
    """A finding names file, line, node, values and path, and what to do."""
    code, printed, errors = run(folder, "check", "app:good", "app:bad")
    assert (code, errors) == (1, "")
    assert f"app:bad: {SITUATION}" in printed
    assert "on the path is_long -short-> publish" in printed
    assert "    fix: write 'summary' on that path" in printed
    assert printed.endswith("2 flows checked: 1 error, 0 warnings\n")


def test_a_file_outside_of_the_folder_is_named_as_it_was_given(folder: Path) -> None:
    """From another folder the place is the short path, not the absolute one beside it."""
    (folder / "elsewhere").mkdir()
    _, printed, _ = run(folder / "elsewhere", "check", "../app.py:bad")
    assert "../app.py:bad: ../app.py:25: error PF301" in printed


def test_a_warning_fails_only_when_strict(folder: Path) -> None:
    """Warnings are shown, and end with 1 under --strict."""
    code, printed, _ = run(folder, "check", "app:warned")
    assert code == 0
    assert "warning PF302" in printed
    assert run(folder, "check", "--strict", "app:warned")[0] == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--ignore", "PF301"], 0),
        (["--ignore", "pf1,pf3"], 0),
        (["--select", "PF1"], 0),
        (["--select", "PF3", "--select", "PF1"], 1),
        (["--select", "PF3", "--ignore", "PF301"], 0),
    ],
    ids=["ignore", "families", "select", "two", "both"],
)
def test_rules_can_be_chosen(folder: Path, options: list[str], code: int) -> None:
    """Codes, or beginnings of codes, choose which rules count."""
    assert run(folder, "check", "app:bad", *options)[0] == code


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["app:godo"], "app has no 'godo'; did you mean 'good'?"),
        (["app:mak"], "app has no 'mak'; did you mean 'make'?"),
        (["app:nod"], "app has no 'nod' (flows there: good, bad, warned)"),
        (["app:later"], "app:later is an async function"),
        (["app:publish"], "app:publish is a node, not a flow (flows there: good, bad, warned)"),
        (
            ["model:flow"],
            "cannot import model: AttributeError: summary; did you mean fields(Article).summary? (",
        ),
        (["model:flow"], "model.py, line 2)"),
        (["settings:flow"], "cannot import settings: DefinitionError: "),
        (["settings:flow"], "settings.py, line 2)"),
        (["scheduled:flow"], "scheduled.py, line 2)"),
        (["edges:flow"], "edges.py:2: the target must be a node or END, not 'END'"),
        (["nope:flow"], "cannot import nope: ModuleNotFoundError: No module named 'nope'"),
        (["broken:flow"], "cannot import broken: ZeroDivisionError: division by zero"),
        (["app"], "'app' does not name a flow"),
        (["app.py"], "path/file.py:flow (flows there: good, bad, warned)"),
        (["app:A"], "app:A is of type _Fields, not a flow (flows there: good, bad, warned)"),
        ([], "name a flow, package.module:flow or path/file.py:flow"),
        (["--select", "PF9", "app:good"], "there is no rule 'PF9'"),
    ],
    ids=[
        *(
            "typo",
            "function",
            "imported",
            "async",
            "node",
            "field of a model",
            "line of the user's",
            "refused",
            "line of what is refused",
            "line behind code that was made",
            "place that is told already",
        ),
        *("module", "broken", "no colon", "a file", "no flow", "nothing", "rule"),
    ],
)
def test_what_cannot_be_checked_ends_with_2(folder: Path, arguments: list[str], says: str) -> None:
    """A target that cannot be imported, or is not there, is told in one line."""
    (folder / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    (folder / "model.py").write_text("import app\napp.Article.summary\n", encoding="utf-8")
    refused = "from pocoflow import Node\nNode(name='')\n"
    (folder / "settings.py").write_text(refused, encoding="utf-8")
    refused = "import app\napp.good.schedule('nightly', 'daily')\n"
    (folder / "scheduled.py").write_text(refused, encoding="utf-8")
    wrong = "import app\napp.good.then(app.publish, 'END')\n"
    (folder / "edges.py").write_text(wrong, encoding="utf-8")
    code, printed, errors = run(folder, "check", *arguments)
    assert (code, printed) == (2, "")
    assert says in errors
    assert len(errors.splitlines()) == 1
    assert errors.count(".py, line ") + errors.count(".py:2: ") <= 1


def test_json_has_every_part_of_a_finding(folder: Path) -> None:
    """A program reads the findings with their parts."""
    report = json.loads(run(folder, "check", "--format", "json", "app:bad")[1])
    (found,) = report["findings"]
    assert report["targets"] == ["app:bad"]
    assert found | {"message": "", "fix": ""} == {
        "target": "app:bad",
        "code": "PF301",
        "severity": "error",
        "flow": "is_long",
        "node": "publish",
        "edge": None,
        "file": "app.py",
        "line": 25,
        "message": "",
        "fix": "",
    }


def test_github_shows_annotations_at_the_lines(folder: Path) -> None:
    """Each finding is one workflow command, with the file as the repository has it."""
    printed = run(folder, "check", "--format", "github", "app:bad", "app:warned")[1]
    assert [line.partition("::app:")[0] for line in printed.splitlines()] == [
        "::error file=app.py,line=25,title=PF301 read before write",
        "::warning file=app.py,line=17,title=PF302 unread write",
    ]
    assert run(folder, "check", "--format", "github", "app:good") == (0, "", "")


def load_schema() -> Any:
    """The schema of SARIF in the unit tests."""
    path = ROOT / "tests" / "unit" / "check" / "sarif.py"
    spec = importlib.util.spec_from_file_location("sarif", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SCHEMA


@pytest.mark.parametrize("target", ["app:bad", "app:warned", "app:good"])
def test_sarif_is_valid(folder: Path, target: str) -> None:
    """Code scanning takes the report: it fits the schema, rules and results belong together."""
    log = json.loads(run(folder, "check", "--format", "sarif", target)[1])
    jsonschema.validate(log, load_schema())
    (part,) = log["runs"]
    rules = part["tool"]["driver"]["rules"]
    for result in part["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == "app.py"
    assert len(part["results"]) == (target != "app:good")


def test_flows_can_be_listed_in_pyproject(folder: Path) -> None:
    """Without arguments the flows and settings of the project are checked, wherever one is."""
    settings = '[tool.pocoflow]\nflows = ["app:good", "app:warned"]\n'
    (folder / "pyproject.toml").write_text(settings, encoding="utf-8")
    (folder / "inner").mkdir()
    assert run(folder / "inner", "check")[1].endswith("2 flows checked: 0 errors, 1 warning\n")
    (folder / "pyproject.toml").write_text(settings + "strict = true\n", encoding="utf-8")
    assert run(folder, "check")[0] == 1
    (folder / "pyproject.toml").write_text(
        settings + 'strict = true\nignore = ["PF3"]\n', encoding="utf-8"
    )
    assert run(folder, "check")[0] == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('flow = ["app:good"]', "has no setting 'flow'; did you mean 'flows'?"),
        ('flows = "app:good"', "flows is a list of strings, not 'app:good'"),
        ("strict = 1", "strict is true or false, not 1"),
        ('ignore = ["X1"]', "ignore: there is no rule 'X1'"),
        ("flows = [", "cannot be read: "),
    ],
    ids=["name", "type", "strict", "code", "toml"],
)
def test_wrong_settings_are_told(folder: Path, line: str, says: str) -> None:
    """A mistake in pyproject.toml does not make the check pass."""
    (folder / "pyproject.toml").write_text(f"[tool.pocoflow]\n{line}\n", encoding="utf-8")
    code, printed, errors = run(folder, "check")
    assert (code, printed) == (2, "")
    assert says in errors


STORED = """\
from pydantic import BaseModel

from pocoflow import Flow, Node, Store

class Article(BaseModel):
    document: str

class Grade(Node):
    def exec(self, prep_result: object) -> None:
        raise OSError("not now")

flow = Flow(start=Grade(), schema=Article, flow_name="grades", db_path="runs.db")
"""


def test_unfinished_runs_of_a_database_are_looked_at(folder: Path) -> None:
    """A run that could not go on under this code is an error, with what has changed."""
    (folder / "old.py").write_text(STORED, encoding="utf-8")
    failing = "import old\ntry: old.flow.run({'document': 'a'})\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", failing], cwd=folder, check=True)
    before = (folder / "runs.db").read_bytes()
    assert run(folder, "check", "old:flow", "--db", "runs.db")[0] == 0
    (folder / "old.py").write_text(STORED.replace("Grade", "Review"), encoding="utf-8")
    code, printed, _ = run(folder, "check", "old:flow", "--db", "runs.db")
    assert code == 1
    assert re.search(
        r"error PF403: flow 'grades', node 'Grade': run 'grades-\w+' \(failed\)", printed
    )
    assert "this flow has no node 'Grade'" in printed
    assert "write one. What has changed since the run was started: node 'Grade' is gone" in printed
    assert "node 'Grade' is gone; node 'Review' is new" in printed
    narrowed = STORED.replace("document: str", "document: int")
    (folder / "old.py").write_text(narrowed, encoding="utf-8")
    code, printed, _ = run(folder, "check", "old:flow", "--db", "runs.db")
    assert code == 1
    assert "does not fit the schema as it is now" in printed
    assert run(folder, "check", "old:flow", "--db", "none.db")[0] == 2
    assert (folder / "runs.db").read_bytes() == before


def test_open_runs_of_other_flows_are_told(folder: Path) -> None:
    """They are those of a flow that has another name by now, perhaps, and nobody goes on with."""
    (folder / "old.py").write_text(STORED, encoding="utf-8")
    begins = """
import old
for _ in range(2):
    old.flow.submit({"document": "a"})
try:
    old.flow.run({"document": "a"})
except OSError:
    pass
"""
    subprocess.run([sys.executable, "-c", begins], cwd=folder, check=True)
    command = "check", "old:flow", "--db", "runs.db"
    assert "not looked at" not in run(folder, *command)[1]
    renamed = STORED.replace('"grades"', '"marks"')
    (folder / "old.py").write_text(renamed, encoding="utf-8")
    code, printed, _ = run(folder, *command)
    assert (code, "of other flows: the open runs of 'grades' (2); if a" in printed) == (0, True)
    known = renamed.replace('"marks"', '"marks", formerly=("grades",)')
    (folder / "old.py").write_text(known, encoding="utf-8")
    assert "not looked at" not in run(folder, *command)[1]


def test_a_value_that_was_not_saved_is_a_warning(folder: Path) -> None:
    """A run that goes on without it is named with the key; with changes= it goes on to its end."""
    text = """
from pocoflow import Flow, Node

class Open(Node):
    def post(self, store, prepared, result):
        store["connection"] = open(__file__)

class Use(Node):
    def prep(self, store):
        return store["connection"].name

    def exec(self, name):
        raise OSError("down")

    def exec_fallback(self, name, exc):
        if name != "new":
            raise exc

start = Open()
flow = Flow(start, flow_name="used", db_path="runs.db").then(start, Use())
"""
    (folder / "used.py").write_text(text, encoding="utf-8")
    failing = "import used\ntry: used.flow.run({}, run_id='r')\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", failing], cwd=folder, check=True, capture_output=True)
    code, printed, _ = run(folder, "check", "used:flow", "--db", "runs.db")
    assert code == 0
    assert "warning PF403: flow 'used', node 'Use': run 'r' (failed) would go on" in printed
    assert "without 'connection', which was not saved" in printed
    assert "fix: resume it with changes={'connection': ...}" in printed
    advised = (
        "import types, used\n"
        "new = types.SimpleNamespace(name='new')\n"
        "print(used.flow.resume('r', changes={'connection': new}))"
    )
    subprocess.run([sys.executable, "-c", advised], cwd=folder, check=True, capture_output=True)
    assert run(folder, "check", "used:flow", "--db", "runs.db")[0] == 0


def test_a_rule_is_explained(folder: Path) -> None:
    """``pocoflow rule`` explains a code, or lists all of them."""
    assert run(folder, "rule", "pf301")[1].startswith(
        "PF301: read before write (error or warning)\n"
    )
    assert run(folder, "rule")[1].count("\n") >= 18
    code, _, errors = run(folder, "rule", "PF300")
    assert code == 2
    assert "there is no rule 'PF300'; did you mean" in errors


def test_a_flow_is_drawn_with_its_findings(folder: Path) -> None:
    """``pocoflow graph`` prints Mermaid or DOT, and colours what is wrong."""
    drawn = run(folder, "graph", "app:bad")[1]
    assert drawn.startswith("flowchart TD\n")
    assert "classDef error" not in drawn
    assert "class n2 error" in run(folder, "graph", "app:bad", "--findings")[1]
    dot = run(folder, "graph", "app:bad", "--format", "dot", "--findings")[1]
    assert dot.startswith("digraph flow {")
    assert 'label="publish", fillcolor="#fde2e1"' in dot


def test_the_hook_for_pre_commit_runs_in_the_environment_of_the_user() -> None:
    """The hook imports the user's modules, so it takes the command that is installed there."""
    text = (ROOT / ".pre-commit-hooks.yaml").read_text("utf-8")
    assert re.search(r"^- id: pocoflow-check$", text, re.MULTILINE)
    assert "entry: pocoflow check" in text
    assert "language: system" in text
    assert "pass_filenames: false" in text


RUNS = {
    "run": "flow.run({})",
    "swallowed": "try:\n    flow.run({})\nexcept BaseException:\n    pass",
    "async": "import asyncio\nasyncio.run(flow.run_async({}))",
    "background": "flow.run_background({}).wait()",
    "stream": "for event in flow.stream({}):\n    print(event)",
    "thread": (
        "import threading\nthreading.excepthook = lambda _: None\n"
        "thread = threading.Thread(target=flow.run)\nthread.start()\nthread.join()"
    ),
    "made": "def make():\n    flow.run({})\n    return flow",
}


@pytest.mark.parametrize("command", ["check", "graph"])
@pytest.mark.parametrize("how", RUNS)
def test_no_node_runs_while_a_target_is_imported(folder: Path, how: str, command: str) -> None:
    """However a module runs its flow, whatever it makes of the refusal: said with the remedy."""
    (folder / "runs.py").write_text(
        "from pocoflow import Flow, node\n\n@node\ndef pay() -> None:\n    print('PAID')\n\n"
        f"flow = Flow(pay)\n{RUNS[how]}\n",
        "utf-8",
    )
    target = f"runs:{'make' if how == 'made' else 'flow'}"
    done = subprocess.run(
        [sys.executable, "-m", "pocoflow", command, target],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "PAID" not in done.stdout
    assert "flow 'pay' is run" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr
    if how in ("run", "swallowed", "async"):
        assert "runs.py:" in done.stderr


LATER = {
    "timer": "import threading\nthreading.Timer(0.05, flow.run, args=({},)).start()",
    "atexit": "import atexit\natexit.register(flow.run, {})",
}


@pytest.mark.parametrize("how", LATER)
def test_no_node_runs_later_that_an_import_has_left_behind(folder: Path, how: str) -> None:
    """Neither in a thread that goes on, nor at the end of the process: it is refused there."""
    (folder / "later.py").write_text(
        "from pocoflow import Flow, node\n\n@node\ndef pay() -> None:\n    print('PAID')\n\n"
        f"flow = Flow(pay)\n{LATER[how]}\n",
        "utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pocoflow", "check", "later:flow"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "PAID" not in done.stdout
    assert "by the import of later:flow, and no node runs then" in done.stderr


@pytest.mark.parametrize("ending", ["raise SystemExit(0)", "import sys; sys.exit()"])
def test_a_module_that_exits_is_not_taken_for_checked(folder: Path, ending: str) -> None:
    """A target that ends the process while it is imported is an error, not a clean check."""
    (folder / "ends.py").write_text(f"{ending}\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pocoflow", "check", "ends:flow"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "cannot import ends: SystemExit" in done.stderr
