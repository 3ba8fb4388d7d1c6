"""``pocoflow resume``, ``recover`` and ``prune``: runs that are stored, from the command line."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pocoflow import WorkflowDB
from pocoflow.cli import main
from tests.commands import execute

PROGRAM = '''
"""A flow that fails until there is a file "mended", and dies while there is a file "dies"."""

import os
from pathlib import Path

from pocoflow import Flow, Node


class Ask(Node):
    def prep(self, store):
        return store["question"]

    def exec(self, question):
        with open("paid", "a") as file:
            file.write(question)
        return question.upper()

    def post(self, store, question, answer):
        if Path("dies").exists():
            os._exit(9)
        if not Path("mended").exists():
            raise ValueError("not mended")
        store["answer"] = answer
        return "done"


flow = Flow(Ask(), db_path="runs.db", flow_name="ask")
bare = Flow(Ask(), flow_name="ask")


def make():
    return Flow(Ask(), db_path="runs.db", flow_name="ask")


def needs(path):
    return make()


def broken():
    return 1 / 0


if __name__ == "__main__":
    flow.run_id = "r"
    flow.run({"question": "why?"})
'''


JOBS = '''
"""A flow on values of a class of its own; each step fails until there is a file of its name."""

import sys
from dataclasses import dataclass
from pathlib import Path

from pocoflow import Flow, Node


@dataclass
class Job:
    number: int


class Count(Node):
    def prep(self, store):
        return store["job"]

    def exec(self, job):
        return Job(job.number + 1)

    def post(self, store, job, result):
        if not Path(self.name).exists():
            raise ValueError("not mended")
        store["job"] = Job(result.number + store["by"].number)
        return "done"


first, second, third = Count(name="first"), Count(name="second"), Count(name="third")
first.then("done", second)
second.then("done", third)
flow = Flow(first, db_path="runs.db", flow_name="jobs")

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["again"]:
            flow.resume("r")
        case ["show"]:
            print(flow.database.handle("r").store["job"])
        case _:
            flow.run({"job": Job(0), "by": Job(10)}, run_id="r")
'''


@pytest.fixture
def folder(here: Path) -> Path:
    """The current folder, with a program in it."""
    (here / "asking.py").write_text(PROGRAM, encoding="utf-8")
    return here


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the current folder."""
    return execute(*arguments, folder=Path.cwd(), environment={"COLUMNS": "100"})


def failed() -> None:
    """A run ``r`` that has failed."""
    assert "not mended" in program("asking.py").stderr


def status() -> str:
    """What the run reads as."""
    with WorkflowDB("runs.db") as db:
        return db.handle("r").status


def test_resume_finishes_a_run_without_paying_again(folder: Path) -> None:
    """``pocoflow resume RUN FLOW`` goes on with a failed run, in a process of its own."""
    failed()
    (folder / "mended").touch()
    done = program("-m", "pocoflow", "resume", "r", "asking:flow")
    assert (done.returncode, done.stdout, done.stderr) == (0, "run r is completed\n", "")
    assert status() == "completed"
    assert (folder / "paid").read_text() == "why?"


def test_the_classes_of_a_script_are_found_under_its_name_and_back(folder: Path) -> None:
    """A run that a script has started goes on by command, in the script, and by command again."""
    (folder / "jobs.py").write_text(JOBS, encoding="utf-8")
    by_command = ("-m", "pocoflow", "resume", "r", "jobs.py:flow")
    ways = {"first": ("jobs.py",), "second": by_command, "third": ("jobs.py", "again")}
    for step, way in ways.items():
        assert "not mended" in program(*way).stderr
        (folder / step).touch()
    done = program(*by_command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "run r is completed\n", "")
    assert program("jobs.py", "show").stdout == "Job(number=33)\n"


def test_recover_finishes_what_was_interrupted(folder: Path) -> None:
    """``pocoflow recover FLOW`` finds the runs whose process died, and finishes them."""
    (folder / "dies").touch()
    assert program("asking.py").returncode == 9
    (folder / "dies").unlink()
    failing = program("-m", "pocoflow", "recover", "asking:flow")
    assert (failing.returncode, failing.stdout) == (1, "r  failed: ValueError: not mended\n")
    nothing = program("-m", "pocoflow", "recover", "asking:flow")
    assert (nothing.returncode, nothing.stdout.splitlines()) == (
        0,
        [
            "no interrupted runs of flow ask",
            "1 failed run is left: pocoflow runs list --status failed --db runs.db",
        ],
    )
    assert (folder / "paid").read_text() == "why?"


@pytest.mark.parametrize("target", ["asking:flow", "asking:make", "asking.py:flow", "bare"])
def test_a_flow_is_named_by_its_module_or_its_file(
    folder: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flow is found in a module or a file, or made by a function; ``--db`` names a database."""
    failed()
    (folder / "mended").touch()
    named = ["asking:bare", "--db", "runs.db"] if target == "bare" else [target]
    assert main(["resume", "r", *named]) == 0
    assert status() == "completed"
    assert capsys.readouterr().out == "run r is completed\n"


def test_a_file_in_a_package_is_imported_under_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of a package is the module that the rest of the package imports."""
    package = folder / "app" / "flows"
    package.mkdir(parents=True)
    for part in (package, package.parent):
        (part / "__init__.py").touch()
    (package / "asking.py").write_text(PROGRAM, encoding="utf-8")
    (folder / "mended").touch()
    code = "import app.flows.asking as a; a.flow.run_id = 'r'; a.flow.run({'question': 'why?'})"
    (folder / "mended").unlink()
    assert "not mended" in program("-c", code).stderr
    (folder / "mended").touch()
    assert main(["resume", "r", "app/flows/asking.py:flow"]) == 0
    assert "changed" not in capsys.readouterr().err


def test_resume_sets_values_and_takes_new_names(folder: Path) -> None:
    """``--set`` corrects the store, ``--rename`` says what a node is called now."""
    failed()
    (folder / "mended").touch()
    text = PROGRAM.replace("Ask(", "Question(").replace("class Ask", "class Question")
    (folder / "renamed.py").write_text(text, encoding="utf-8")
    named = ["resume", "r", "renamed.py:flow", "--set", 'note="by hand"']
    assert main(named) == 1
    assert main([*named, "--rename", "Ask=Question"]) == 0
    with WorkflowDB("runs.db") as db:
        assert db.load_checkpoint("r", 0)["note"] == "by hand"


def test_a_run_that_fails_again_is_told_in_two_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error of a node is one line, and where its traceback is another."""
    failed()
    assert main(["resume", "r", "asking:flow"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "pocoflow resume: run r failed: ValueError: not mended",
        "'pocoflow runs show r --db runs.db' has the traceback",
    ]


def test_what_a_message_names_can_be_pasted(folder: Path) -> None:
    """A command in a message names its database, quoted for the shell, and works as it is."""
    failed()
    (folder / "my runs").mkdir()
    (folder / "runs.db").rename(folder / "my runs" / "runs.db")
    database = ("--db", "my runs/runs.db")
    told = program("-m", "pocoflow", "resume", "r", "asking:flow", *database).stderr
    named = re.findall(r"'(pocoflow .*)' has the traceback", told)[0]
    assert named == "pocoflow runs show r --db 'my runs/runs.db'"
    assert "not mended" in program("-m", *shlex.split(named)).stdout
    told = program("-m", "pocoflow", "runs", "show", "qqq", *database).stderr
    named = re.findall(r"\('(pocoflow .*)' shows", told)[0]
    assert "not mended" in program("-m", *shlex.split(named)).stdout


RESOURCES = """
from pocoflow import Flow, Node, context, resource

client = resource(dict, "the client")
given = {client: {"calls": 0}}


class Call(Node):
    def exec(self, prep_result):
        context()[client]["calls"] += 1


flow = Flow(Call(), db_path="runs.db", flow_name="call")
"""


def test_resources_of_a_run_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A resume that lacks one says how it is given; a completed run needs none."""
    (folder / "calling.py").write_text(RESOURCES, encoding="utf-8")
    program("-c", "from calling import flow; flow.run_id = 'r'; flow.run({})")
    assert main(["resume", "r", "calling.py:flow"]) == 1
    hint = capsys.readouterr().err.splitlines()[-1]
    command = "pocoflow resume r calling.py:flow --resources MODULE:NAME"
    assert hint == f"give it to a stored run: {command}"
    assert main(["resume", "r", "calling.py:flow", "--resources", "calling:given"]) == 0
    assert main(["resume", "r", "calling.py:flow"]) == 1
    assert "is completed, so there is nothing to resume" in capsys.readouterr().err


OWNED = """
from pocoflow import Flow, Node, key

class Work(Node):
    def exec(self, given):
        if OWNER is None:
            raise OSError("down")

OWNER = None
first = Flow(Work(), db_path="runs.db", flow_name="owned", run_id="r")
flow = Flow(Work(), db_path="runs.db", flow_name="owned", inputs=(key("owner"),))
"""


def test_what_a_run_lacks_can_be_given_by_a_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that needs a value by now is told the command that gives it one."""
    (folder / "owned.py").write_text(OWNED, encoding="utf-8")
    program("-c", "from owned import first\ntry: first.run({})\nexcept OSError: pass")
    (folder / "owned.py").write_text(OWNED.replace("OWNER = None", "OWNER = 1"), encoding="utf-8")
    assert main(["resume", "r", "owned.py:flow"]) == 1
    hint = capsys.readouterr().err.splitlines()[-1]
    assert hint == "give a value: pocoflow resume r owned.py:flow --set owner=JSON"
    assert main(["resume", "r", "owned.py:flow", "--set", 'owner="ann"']) == 0


def test_what_a_message_says_of_python_is_said_as_a_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where an error names an argument or a function, the command for it is another line."""
    failed()
    (folder / "mended").touch()
    text = PROGRAM.replace("Ask(", "Question(").replace("class Ask", "class Question")
    (folder / "renamed.py").write_text(text, encoding="utf-8")
    assert main(["resume", "r", "renamed.py:flow"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "rename={'Ask': <new name>}" in lines[0]
    renaming = "if 'Ask' has another name now: pocoflow resume r renamed.py:flow --rename Ask=NEW"
    assert lines[-1] == renaming
    with WorkflowDB("runs.db") as db:
        db.update_run("r", error_type="Interrupted")
    assert main(["recover", "renamed.py:flow", "--db", "./runs.db"]) == 1
    told, hint = capsys.readouterr().out.splitlines()
    assert "pass rename={'Ask': <new name>}; " in told
    assert hint.strip() == f"{renaming} --db ./runs.db"
    assert main(["resume", "r", "asking:flow"]) == 0
    assert main(["resume", "r", "asking:flow"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "fork it: pocoflow fork r asking:flow --step -1"
    assert main(["fork", "r", "asking:flow", "--step", "-1"]) == 0


def test_fork_makes_a_run_that_resume_begins(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It begins after the step that is named, with the values, the id and the labels given."""
    (folder / "mended").touch()
    program("asking.py")
    given = ["--set", 'question="how?"', "--new-id", "other", "--label", "why=try"]
    assert main(["fork", "r", "asking:flow", "--step", "-1", *given]) == 0
    begun, hint = capsys.readouterr().out.splitlines()
    assert begun == "run other begins before the first node of r"
    assert hint == "begin it with: pocoflow resume other asking:flow"
    assert main(["resume", "other", "asking:flow"]) == 0
    with WorkflowDB("runs.db") as db:
        (made,) = db.list_runs(labels={"why": "try"})
        assert (made["run_id"], made["status"]) == ("other", "completed")
        assert db.handle("other").store["answer"] == "HOW?"
        assert db.handle("r").store["answer"] == "WHY?"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 1, "run 'r' ends with step 0: no node comes after it; fork from an earlier step"),
        (["--step", "7"], 2, "run 'r' has no checkpoint of step 7"),
        (["--step", "-1", "--new-id", "r"], 1, "'r'"),
        (["--step", "-1", "--label", "why"], 2, "'why' is not KEY=VALUE, as in user=ann"),
        (["--step", "one"], 2, "--step"),
    ],
)
def test_a_fork_that_cannot_be_made_is_refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    """It says why, and makes nothing."""
    (folder / "mended").touch()
    program("asking.py")
    assert main(["fork", "r", "asking:flow", *arguments]) == code
    assert told in capsys.readouterr().err
    with WorkflowDB("runs.db") as db:
        assert len(db.list_runs()) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["x", "asking"], "'asking' does not name a flow: write package.module:flow or"),
        (["x", "asking.py"], "path/file.py:flow (flows there: flow, bare)"),
        (["asking.py:flow", "x"], "the run comes first: pocoflow resume x asking.py:flow"),
        (["x", "asking:flow", "runs.db"], "runs.db; did you mean '--db runs.db'? (see"),
        (["x", "nowhere:flow"], "cannot import nowhere: ModuleNotFoundError"),
        (["x", "nowhere.py:flow"], "there is no file nowhere.py"),
        (["x", "asking:flwo"], "has no 'flwo'; did you mean 'flow'? (flows there: flow, bare)"),
        (["x", "asking:Ask"], "asking:Ask is the class Ask, not a flow (flows there: flow, bare)"),
        (["x", "asking:os"], "asking:os is of type module, not a flow"),
        (["x", "asking:needs"], "cannot be called without arguments: missing a required argument"),
        (["x", "asking:broken"], "failed: ZeroDivisionError: division by zero ("),
        (["x", "spoilt:flow"], "cannot import spoilt: SyntaxError"),
        (["x", "asking:bare"], "flow 'ask' has no db_path: name its database with --db"),
        (["x", "asking:flow", "--db", "no.db"], "there is no database no.db"),
        (["x", "asking:flow"], "database runs.db has no run 'x'"),
        (["r", "asking:flow", "--set", "a=b"], "a text is written with quotes"),
        (["r", "asking:flow", "--rename", "Ask"], "'Ask': write OLD=NEW"),
        (["r", "asking:flow", "--alias", "a:B=asking:broken"], "is of type function, not a class"),
        (["r", "asking:flow", "--alias", "a:B=runs.py:B"], "and no node runs then"),
    ],
)
def test_what_cannot_be_found_is_told_in_one_line(
    folder: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target that cannot be understood or imported, or a run that is not there, exits with 2."""
    (folder / "spoilt.py").write_text("flow =", encoding="utf-8")
    (folder / "runs.py").write_text(
        "import asking\n\nasking.bare.run({'question': '?'})\n", "utf-8"
    )
    WorkflowDB("runs.db").close()
    assert main(["resume", *arguments]) == 2
    output = capsys.readouterr()
    assert told in output.err
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert not (folder / "no.db").exists()


def test_prune_removes_old_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``pocoflow prune`` removes what the options name, and says how many and how much."""
    failed()
    with WorkflowDB("runs.db") as db:
        for number in range(3):
            db.create_run(f"old-{number}", "other")
            db.update_run(f"old-{number}", status="completed", completed_at="2020-01-01T00:00:00")
            db.save_checkpoint(f"old-{number}", 0, "A", {"text": "x" * 300_000})
    assert main(["prune", "--older-than", "30d", "--dry-run", "--db", "runs.db"]) == 0
    assert main(["prune", "--keep", "2", "--flow", "other", "--db", "runs.db"]) == 0
    assert (
        main(["prune", "--keep", "0", "--status", "completed", "--vacuum", "--db", "runs.db"]) == 0
    )
    assert main(["prune", "--older-than", "30d", "--db", "runs.db"]) == 0
    first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert first == "would remove 3 runs"
    assert second == "removed 1 run from runs.db"
    assert re.fullmatch(r"removed 2 runs from runs.db; \d\.\d MB before, [\d.]+ [kM]B", third)
    assert fourth == "removed 0 runs from runs.db"
    assert status() == "failed"


def test_prune_says_what_stays_because_it_has_not_ended(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who removes every run is told of those that stay: they run, wait, or have not begun."""
    failed()
    with WorkflowDB("runs.db") as db:
        for number, status in enumerate(("running", "paused", "paused", "queued")):
            db.insert_run({"run_id": f"{status}-{number}", "flow_name": "f", "status": status})
    for arguments in (["--dry-run"], ["--status", "failed", "--dry-run"], ["--flow", "ask"], []):
        assert main(["prune", "--keep", "0", "--db", "runs.db", *arguments]) == 0
    stays = " (1 is queued, 1 is running, 2 are paused)"
    assert capsys.readouterr().out.splitlines() == [
        f"would remove 1 run{stays}",
        "would remove 1 run",
        "removed 1 run from runs.db",
        f"removed 0 runs from runs.db{stays}",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "say which runs: --older-than AGE, --keep N, or both"),
        (["--keep", "0"], "there is no database pocoflow.db"),
        (["--older-than", "soon"], "'soon' is not an age: write 90m, 12h, 30d or 8w"),
        (["--older-than", "999999999999w"], "is not an age"),
        (["--keep", "some"], "'some' is not a whole number"),
    ],
)
def test_prune_asks_for_what_it_needs(
    folder: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a limit, or where there is no database, prune exits with 2 and removes nothing."""
    assert main(["prune", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert list(folder.iterdir()) == [folder / "asking.py"]
