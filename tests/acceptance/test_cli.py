"""The command line, started as a user starts it."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pocoflow
from pocoflow import Flow, Node, Question, RunPaused, Store, WorkflowDB, key, node
from pocoflow.cli import COMMANDS, main
from pocoflow.cli.output import duration, printable
from tests import commands

CLEAR = "\x1b[2J"


def pocoflow_command(
    *arguments: str, folder: Path, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ``pocoflow`` in a folder."""
    about = {"PYTHONUTF8": "1", "COLUMNS": "100", "NO_COLOR": "1"}
    return commands.execute(
        *("-m", "pocoflow", *arguments), folder=folder, typed=typed, environment=about
    )


class Search(Node):
    """Fails once, then leaves what it was given, and a few things that a terminal would obey."""

    max_retries = 2

    def __init__(self) -> None:
        self.calls = 0

    def exec(self, prep_result: Any) -> list[str]:
        self.calls += 1
        if self.calls == 1:
            raise TimeoutError(f"slow{CLEAR}\nforged line")
        return ["a", "b"]

    def post(self, store: Store, prep_result: Any, found: list[str]) -> str:
        store["found"] = found
        store[f"key{CLEAR}"] = f"value{CLEAR}\u202e"
        store["long"] = "x" * 5000
        store["client"] = object()
        return "ok"


class Grade(Node):
    def exec(self, prep_result: Any) -> None:
        raise ValueError(f"no JSON in the answer{CLEAR}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a database of three runs, two of which failed."""
    database = tmp_path / "pocoflow.db"
    search, grade = Search(), Grade(name=f"Grade{CLEAR}")
    search.then("ok", grade)
    Flow(start=Node(), db_path=database, flow_name="quick", run_id="quick-1").run({})
    for flow in (
        Flow(start=search, db_path=database, flow_name="research", run_id="research-1"),
        Flow(start=Grade(), db_path=database, flow_name="first", run_id="first-1"),
    ):
        with pytest.raises(ValueError, match="no JSON"):
            flow.run({"question": "why?"})
    return tmp_path


def test_list_shows_the_newest_run_first(folder: Path) -> None:
    """Who asks for the runs sees each with its status, newest first, and where it stands."""
    lines = pocoflow_command("runs", "list", folder=folder).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["RUN", "STATUS"],
        ["first-1", "failed"],
        ["research-1", "failed"],
        ["quick-1", "completed"],
    ]
    assert lines[1].endswith(r"Grade: ValueError: no JSON in the answer\x1b[2J")


@pytest.mark.parametrize(
    ("filters", "runs"),
    [
        (["--status", "failed"], ["first-1", "research-1"]),
        (["--status", "completed"], ["quick-1"]),
        (["--flow", "research"], ["research-1"]),
        (["--flow", "research", "--status", "failed"], ["research-1"]),
        (["--limit", "1"], ["first-1"]),
        (["--limit", "1", "--flow", "quick"], ["quick-1"]),
        (["--limit", "9" * 30, "--flow", "quick"], ["quick-1"]),
    ],
    ids=str,
)
def test_list_takes_filters(
    folder: Path, filters: list[str], runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs can be asked for by status, flow and number."""
    assert main(["runs", "list", "--db", str(folder / "pocoflow.db"), *filters]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:] if not line.startswith("...")] == runs
    assert printed[-1].startswith("... and older ones") == (filters == ["--limit", "1"])


def test_list_finds_what_reads_as_failed_behind_what_runs(tmp_path: Path) -> None:
    """An interrupted run is listed as failed and not as running, however few are asked for."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        for number in range(3):
            db.insert_run({"run_id": f"dead-{number}", "status": "running", "owned": 1})
            db.insert_run({"run_id": f"alive-{number}", "status": "running"})
    with WorkflowDB(tmp_path / "runs.db", read_only=True) as db:
        failed = db.list_runs(2, status="failed")
        running = db.list_runs(2, status="running")
        assert [run["run_id"] for run in failed] == ["dead-2", "dead-1"]
        assert [run["run_id"] for run in running] == ["alive-2", "alive-1"]
        with pytest.raises(ValueError, match=r"a status is one of .*, not 'faild'"):
            db.list_runs(status="faild")  # type: ignore[arg-type]


class Gone(Exception):
    """Its module has a long name, which says nothing to who reads a list."""


Gone.__module__ = "pocoflow.somewhere.far.down"


class Lose(Node):
    def exec(self, prep_result: Any) -> None:
        raise Gone("what matters is said at the end: " + "x" * 60 + " the end")


def lose_and_stop(database: Path) -> None:
    """A run that fails with a long message, and one that is cancelled."""
    with pytest.raises(Gone):
        Flow(start=Lose(), db_path=database, flow_name="lose", run_id="lose-1").run({})
    with WorkflowDB(database) as db:
        db.create_run("stop-1", "stop")
        db.update_run("stop-1", status="cancelled", current_node="Stop")
        cancelled = "pocoflow.errors.RunCancelled"
        db.update_run("stop-1", error_type=cancelled, error_msg="run was cancelled")


def test_list_cuts_nothing_where_it_is_not_a_terminal(tmp_path: Path) -> None:
    """Through a pipe the whole error is there, without the module of its class."""
    lose_and_stop(tmp_path / "pocoflow.db")
    _, stopped, lost = pocoflow_command("runs", "list", folder=tmp_path).stdout.splitlines()
    assert stopped.endswith("  Stop")
    assert "  Lose: Gone: what matters" in lost
    assert lost.endswith("x the end")


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal")
def test_list_takes_the_width_of_the_terminal(tmp_path: Path) -> None:
    """At a terminal each run is one line, cut where the terminal ends."""
    lose_and_stop(tmp_path / "pocoflow.db")
    ours, theirs = os.openpty()
    lengths = []
    for columns in ("90", "120", "10"):
        command = [sys.executable, "-m", "pocoflow", "runs", "list"]
        about = {**os.environ, "COLUMNS": columns}
        subprocess.run(command, cwd=tmp_path, stdout=theirs, check=True, timeout=300, env=about)
        lost = os.read(ours, 10_000).decode().splitlines()[2]
        assert "Lose: Gone: " in lost
        assert lost.endswith("...")
        lengths.append(len(lost))
    os.close(ours)
    os.close(theirs)
    assert lengths[:2] == [90, 120]


def test_runs_are_listed_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--format json`` gives a program the runs with their whole errors."""
    database = ("--db", str(folder / "pocoflow.db"), "--format", "json")
    assert main(["runs", "list", *database, "--limit", "1"]) == 0
    printed = capsys.readouterr().out
    (run,) = json.loads(printed)
    assert (run["run_id"], run["flow"], run["status"]) == ("first-1", "first", "failed")
    assert (run["error_type"], run["error"]) == ("ValueError", f"no JSON in the answer{CLEAR}")
    assert (run["steps"], run["node"], run["open_questions"]) == (0, "Grade", 0)
    assert CLEAR not in printed
    assert main(["runs", "list", *database, "--status", "paused"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ([], "no runs in {db}"),
        (["--status", "paused"], "no paused runs in {db}"),
        (["--status", "failed", "--flow", "x"], "no failed runs of flow x in {db}"),
    ],
    ids=["none", "status", "flow"],
)
def test_list_says_that_there_is_nothing(
    tmp_path: Path, filters: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty answer says what was looked for and where."""
    database = str(tmp_path / "runs.db")
    WorkflowDB(database).close()
    assert main(["runs", "list", "--db", database, *filters]) == 0
    assert capsys.readouterr().out == says.format(db=database) + "\n"


def test_show_tells_the_story_of_a_run(folder: Path) -> None:
    """Who asks for a run sees its row, its events, each failure with traceback, its last store."""
    printed = pocoflow_command("runs", "show", "research-1", folder=folder).stdout
    assert re.search(r"^status   failed$", printed, re.MULTILINE)
    assert re.search(r"^started  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", printed, re.MULTILINE)
    events = re.findall(r"^ +[\d.]+ s  (\w+)", printed, re.MULTILINE)
    assert events == [
        "flow_start",
        "node_start",
        "node_retry",
        "node_end",
        "node_start",
        "node_error",
        "flow_error",
    ]
    assert "-> ok, 2 attempts" in printed
    assert (
        "node_retry in step 0, Search, attempt 1\n    Traceback (most recent call last; " in printed
    )
    assert re.search(r"node_error in step 1, Grade.*\n    Traceback", printed)
    assert re.search(r'^store after step 0, Search\n  question +"why\?"\n', printed, re.MULTILINE)
    assert re.search(r'^  found +\["a", "b"\]$', printed, re.MULTILINE)
    assert re.search(r"^  long +\"x{199} \.\.\. \(5,002 characters\)$", printed, re.MULTILINE)
    assert re.search(r"^  client +\(not saved: object cannot be stored: ", printed, re.MULTILINE)


def test_what_a_run_waits_for_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that goes on with a fork, which no worker takes, or with a paused run."""
    database = tmp_path / "runs.db"

    @node(writes=key("answer"))
    def ask(question: str) -> Question[str]:
        return Question(question)

    flow = Flow(ask, db_path=database, flow_name="asks", run_id="paused")
    with pytest.raises(RunPaused):
        flow.run({"question": "why?"})
    flow.fork("paused", new_id="forked")
    submitted = flow.submit({"question": "why?"})

    def way(run_id: str) -> str:
        assert main(["runs", "show", run_id, "--db", str(database)]) == 0
        return capsys.readouterr().out.partition("go on with: ")[2].partition("\n")[0]

    given = f"--db {database}"
    assert way("paused") == f"pocoflow answer paused {given}"
    assert way("forked") == f"pocoflow resume forked FLOW {given}"
    assert way(submitted) == ""
    flow.answer_json("paused", "42")
    assert way("paused") == f"pocoflow resume paused FLOW {given}"
    assert main(["runs", "list", "--db", str(database)]) == 0
    said = capsys.readouterr().out
    assert [said.count(one) for one in ("queued", "a fork, waits for pocoflow resume")] == [2, 1]


def test_a_run_is_shown_as_json(folder: Path) -> None:
    """``--format json`` has the story of a run and its whole store, and the text says so."""
    shown = pocoflow_command("runs", "show", "research-1", "--format", "json", folder=folder)
    run = json.loads(shown.stdout)
    assert (run["run_id"], run["steps"], run["store_after_step"]) == ("research-1", 1, 0)
    assert run["store"]["long"] == "x" * 5000
    assert run["store"]["found"] == ["a", "b"]
    assert run["store"]["client"]["$type"] == "not saved"
    assert "no JSON in the answer" in run["traceback"]
    assert run["events"][0]["event"] == "flow_start"
    assert (run["questions"], run["finished_items"]) == ([], 0)
    assert shown.stdout.isascii()
    text = pocoflow_command("runs", "show", "research-1", folder=folder).stdout
    assert text.endswith("whole values: pocoflow runs show research-1 --format json\n")
    short = pocoflow_command("runs", "show", "quick-1", folder=folder).stdout
    assert "whole values" not in short


BATCH = '''
"""A batch of forty whose process dies at the twenty-fifth item."""

import os

from pocoflow import BatchNode, Flow


class Count(BatchNode):
    def prep(self, store):
        return range(40)

    def exec(self, item):
        if item == 24:
            os._exit(9)
        return item


Flow(start=Count(), db_path="pocoflow.db", flow_name="count", run_id="count-1").run({})
'''


def test_show_says_how_far_a_batch_is(tmp_path: Path) -> None:
    """Of a batch that was killed the items are counted that a resume will not work on again."""
    (tmp_path / "batch.py").write_text(BATCH, encoding="utf-8")
    subprocess.run([sys.executable, "batch.py"], cwd=tmp_path, check=False, timeout=300)
    shown = pocoflow_command("runs", "show", "count-1", folder=tmp_path).stdout
    assert "items    24 are finished\n" in shown
    assert "go on with: pocoflow resume count-1 FLOW\n" in shown
    as_json = pocoflow_command("runs", "show", "count", "--format", "json", folder=tmp_path)
    assert json.loads(as_json.stdout)["finished_items"] == 24


def test_show_has_the_first_store_when_no_step_finished(folder: Path) -> None:
    """A run whose first node failed still shows what it was given."""
    printed = pocoflow_command("runs", "show", "first-1", folder=folder).stdout
    assert printed.endswith('store before the first step\n  question  "why?"\n')


@pytest.mark.parametrize("command", [["list"], ["show", "research-1"]], ids=" ".join)
def test_nothing_that_a_run_stored_reaches_the_terminal_unescaped(
    folder: Path, command: list[str]
) -> None:
    """Keys, values, names and messages of a run are shown, never obeyed by a terminal."""
    printed = pocoflow_command("runs", *command, folder=folder).stdout
    assert [char for char in printed if not char.isprintable() and char != "\n"] == []
    assert "\n    forged line" in printed or "forged line" not in printed


def test_looking_writes_nothing(folder: Path) -> None:
    """Listing and showing leave a database as it was, and make none that is not there."""
    before = (folder / "pocoflow.db").read_bytes()
    pocoflow_command("runs", "list", folder=folder)
    pocoflow_command("runs", "show", "research-1", folder=folder)
    assert (folder / "pocoflow.db").read_bytes() == before
    (folder / "empty").mkdir()
    assert pocoflow_command("runs", "list", folder=folder / "empty").returncode == 2
    assert list((folder / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["rnus"], 2, "pocoflow: there is no command 'rnus'; did you mean 'runs'? (commands: "),
        (["runs"], 2, "pocoflow runs: the following arguments are required: list|show|"),
        (["runs", "lst"], 2, "pocoflow runs: argument list|show|cancel: invalid choice: 'lst'"),
        (["runs", "show"], 2, "pocoflow runs show: the following arguments are required: RUN_ID "),
        (["runs", "list", "--lmit", "3"], 2, "pocoflow runs list: unrecognized arguments: --lmit "),
        (["--vresion"], 2, "pocoflow: unrecognized arguments: --vresion; did you mean '--version'"),
        (["runs", "list", "--limit", "0"], 2, "pocoflow runs list: argument --limit: '0' is not "),
        (["runs", "list", "--status", "x"], 2, "pocoflow runs list: argument --status: invalid "),
        (
            ["runs", "list", "--status", "interrupted"],
            2,
            "pocoflow runs list: argument --status: runs that were interrupted are ",
        ),
        (
            ["runs", "list", "other.db"],
            2,
            "pocoflow runs list: unrecognized arguments: other.db; did you mean '--db other.db'?",
        ),
        (
            ["answer", "x", "app.py:flow"],
            2,
            "pocoflow answer: unrecognized arguments: app.py:flow; did you mean '--flow ",
        ),
        (
            ["answer", "app.py:flow", "x"],
            2,
            "pocoflow answer: unrecognized arguments: x; did you mean 'x --flow app.py:flow'? (see",
        ),
        (
            ["answer", "x", "y"],
            2,
            "pocoflow answer: unrecognized arguments: y; an answer is given by ",
        ),
        (["runs", "list", "--db", "no.db"], 2, "pocoflow runs: there is no database no.db; --db "),
        (["runs", "list", "--db", "."], 2, "pocoflow runs: . is a folder, not a database file"),
        (["runs", "list", "--db", "text.txt"], 2, "pocoflow runs: database text.txt is not a "),
        (["runs", "list", "--db", "other.db"], 2, "pocoflow runs: other.db is a SQLite database, "),
        (["runs", "show", "research-2"], 2, "pocoflow runs: database pocoflow.db has no run "),
        (["demo", "no.txt"], 2, "pocoflow demo: no.txt cannot be read: No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_of_the_user_is_one_line_on_stderr(
    folder: Path,
    arguments: list[str],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mistake in a command is told in one line that names it; there is never a traceback."""
    monkeypatch.chdir(folder)
    Path("text.txt").write_text("no database\n" * 100, "utf-8")
    with sqlite3.connect("other.db") as other:
        other.execute("CREATE TABLE cats (name)")
    other.close()
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(says)
    assert printed.err.count("\n") == 1


def test_an_option_that_is_not_there_suggests_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A misspelt option is told by the command that does not know it, with what was meant."""
    assert main(["runs", "list", "--lmit", "3"]) == 2
    assert main(["prune", "--kep=3", "x"]) == 2
    assert main(["runs", "list", "x"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("pocoflow runs list: unrecognized arguments: --lmit 3; did you mean")
    assert first.endswith("'--limit'? (see pocoflow runs list --help)")
    assert second.startswith("pocoflow prune: unrecognized arguments: --kep=3 x; did you mean")
    assert third.endswith("unrecognized arguments: x (see pocoflow runs list --help)")


def test_the_beginning_of_a_run_id_will_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run is named by the beginning of its id; several are listed, and a whole id always wins."""
    database = ("--db", str(folder / "pocoflow.db"))
    assert main(["runs", "show", "res", *database]) == 0
    assert "run      research-1" in capsys.readouterr().out
    assert main(["questions", "--run", "qui", *database]) == 0
    assert "no open questions of run quick-1" in capsys.readouterr().out
    with WorkflowDB(folder / "pocoflow.db") as db:
        for number in range(12):
            db.create_run(f"research-1{number:02}", "f")
    assert main(["runs", "show", "research-1", "--format", "json", *database]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == "research-1"
    assert main(["runs", "cancel", "research-10", *database]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pocoflow runs: several runs begin with 'research-10':"
    assert lines[1:] == [f"  research-1{number:02}" for number in range(9, -1, -1)]
    assert main(["runs", "show", "r", *database]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "  ..."
    assert main(["runs", "show", "", *database]) == 2
    assert "has no run ''" in capsys.readouterr().err


def test_a_run_id_that_is_not_there_suggests_the_nearest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt run id is answered with the one that was meant."""
    assert main(["runs", "show", "reserch-1", "--db", str(folder / "pocoflow.db")]) == 2
    assert "did you mean 'research-1'?" in capsys.readouterr().err


def test_version_and_help_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """What was asked for goes to standard output, and the exit code says that all is well."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pocoflow {pocoflow.__version__}\n"
    assert main(["--help"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    for name, summary in COMMANDS.items():
        assert re.search(rf"^    {name} +{re.escape(summary)}$", printed.out, re.MULTILINE)


def test_no_command_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Who types nothing more is shown what there is, and the exit code says that it was nothing."""
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: pocoflow")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command can be asked what it does."""
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: pocoflow {name}")


def test_a_reader_that_stops_early_is_no_error(folder: Path) -> None:
    """``pocoflow runs list | head -1`` ends quietly."""
    command = f"'{sys.executable}' -m pocoflow runs list | true"
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, check=False, timeout=300
    )
    assert done.stderr == b""


def test_an_old_terminal_is_shown_escapes(folder: Path) -> None:
    """Where the terminal's encoding lacks a character, it is escaped instead of failing."""
    Flow(start=Node(name="Übung"), db_path=folder / "pocoflow.db", run_id="u-1").run({})
    done = subprocess.run(
        [sys.executable, "-m", "pocoflow", "runs", "show", "u-1"],
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert rb"\xdcbung" in done.stdout


def test_the_library_does_not_import_the_command_line() -> None:
    """Importing pocoflow, and running a flow, loads nothing of its command line."""
    assert loaded("pocoflow.cli", "argparse") == []


def test_executors_are_not_imported_before_a_flow_has_one() -> None:
    """Importing pocoflow, and running a flow, loads nothing of what calls ``exec`` elsewhere."""
    away = ("away", "envelopes", "executors", "remote")
    assert loaded(*(f"pocoflow.engine.{one}" for one in away)) == []


def loaded(*names: str) -> list[str]:
    """The modules whose names begin so, after a run of a plain flow in a new process."""
    code = (
        "import sys, pocoflow\n"
        "pocoflow.Flow(start=pocoflow.Node(), db_path=':memory:').run({})\n"
        f"print(*[n for n in sys.modules if n.startswith({names!r})])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_help_imports_no_command() -> None:
    """``pocoflow --help`` loads the modules of no command, so that it stays quick."""
    code = (
        "import sys\nfrom pocoflow.cli import main\nmain(['--help'])\n"
        "print(sorted(n for n in sys.modules if n.startswith('pocoflow.cli')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    assert done.stdout.endswith("['pocoflow.cli', 'pocoflow.cli.output']\n")


def test_help_costs_little_more_than_the_import() -> None:
    """``pocoflow --help`` takes at most 0.1 s longer than ``import pocoflow``."""

    def seconds(*arguments: str) -> float:
        # Of the processor, which others that use it do not lengthen.
        before = os.times()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True, timeout=300)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    runs = [
        (seconds("-m", "pocoflow", "--help"), seconds("-c", "import pocoflow")) for _ in range(5)
    ]
    of_help, of_import = (min(times) for times in zip(*runs, strict=True))
    assert of_help - of_import < 0.1


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain – text ü 漢", "plain – text ü 漢"),
        ("\x1b[31mred\x07\x00\x7f\x9b", r"\x1b[31mred\x07\x00\x7f\x9b"),
        ("a\tb\r\n", r"a\tb\r\n"),
        ("\u202edlrow", r"\u202edlrow"),
        ("\u2028 \ud800", r"\u2028 \ud800"),
    ],
)
def test_printable_escapes_what_would_be_obeyed(given: str, shown: str) -> None:
    """Control characters, line breaks and marks that turn text around are shown as escapes."""
    assert printable(given) == shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (0.0004, "0 ms"),
        (0.113, "113 ms"),
        (0.9996, "1.00 s"),
        (59.99, "59.99 s"),
        (59.999, "1 min 0 s"),
        (184, "3 min 4 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_said_as_one_would(seconds: float | None, said: str) -> None:
    """A time span is shown in the unit that fits it."""
    assert duration(seconds) == said


def test_cancel_asks_a_run_that_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``runs cancel`` leaves the request in the database, and refuses where nothing runs."""
    path = str(folder / "pocoflow.db")
    with WorkflowDB(path) as db:
        db.insert_run({"run_id": "by-hand", "status": "running"})
    assert main(["runs", "cancel", "by-hand", "--db", path]) == 0
    assert "was asked to stop" in capsys.readouterr().out
    with WorkflowDB(path) as db:
        run = db.get_run("by-hand")
    assert run is not None
    assert run["cancel_requested"] == 1
    assert main(["runs", "cancel", "quick-1", "--db", path]) == 1
    assert "is completed, not running" in capsys.readouterr().err
    assert main(["runs", "cancel", "quick-2", "--db", path]) == 2
    assert "quick-1" in capsys.readouterr().err


def test_the_monitor_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Streamlit the command names what to install; a port is a number."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["monitor"]) == 1
    assert "pip install 'pocoflow[ui]'" in capsys.readouterr().err
    assert main(["monitor", "--port", "0"]) == 2
    assert "not a port" in capsys.readouterr().err
