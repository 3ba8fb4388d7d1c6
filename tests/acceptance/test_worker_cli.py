"""``pocoflow worker``: from the command line, until it is told to end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pocoflow import WorkflowDB
from pocoflow.cli import main
from pocoflow.views.targets import load_flow
from tests.servers import Server
from tests.waiting import wait_for

PROGRAM = '''
"""A flow whose step waits for a file "end", and says in a file "began" that it has begun."""

import time
from pathlib import Path

from pocoflow import Flow, Node, key, node, resource


class Wait(Node):
    def exec(self, prepared):
        Path("began").touch()
        while not Path("end").exists():
            time.sleep(0.01)


client = resource(dict, "client")


@node(writes=key("word"))
def look(word: str = key("word"), words: dict = client) -> str:
    return words[word]


def made():
    return {client: {"one": "eins"}}


looks = Flow(look, db_path="runs.db", flow_name="looks")


@node
def fail(word: str) -> None:
    raise SystemExit(3) if word == "leave" else ValueError(f"{word}\\n and more")


fails = Flow(fail, db_path="runs.db", flow_name="fails")
renamed = Flow(fail, db_path="runs.db", flow_name="looks")
waits = Flow(Wait(), db_path="runs.db", flow_name="waits")
other = Flow(Wait(), db_path="other.db", flow_name="other")
bare = Flow(Wait(), flow_name="bare")
PATH = "runs.db"
'''

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM to send")


@pytest.fixture
def folder(here: Path) -> Path:
    """The current folder, with a program in it."""
    (here / "waiting.py").write_text(PROGRAM, encoding="utf-8")
    return here


@contextmanager
def handlers() -> Iterator[None]:
    """Signals are handled as before, afterwards: the command sets handlers of its own."""
    known = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in known.items():
            signal.signal(number, handler)


def command(*arguments: str) -> int:
    """Call the command in this process."""
    with handlers():
        return main(["worker", *arguments])


def test_what_is_due_and_cannot_go_on_makes_the_command_fail(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ``--until-idle`` it names the runs; with what they need it ends with 0."""
    looks = load_flow("waiting.py:looks")
    looks.submit({"word": "one"}, run_id="r")
    assert command("waiting.py:looks", "--until-idle") == 1
    assert "due, but cannot go on here: r\n" in capsys.readouterr().out
    assert command("waiting.py:looks", "--until-idle", "--resources", "waiting.py:made") == 0
    assert looks.database.handle("r").status == "completed"


def test_a_misspelt_database_is_not_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever wants a worker to make it says so; that of the flow itself is made, and told."""
    assert command("waiting.py:looks", "--db", "typo.db", "--until-idle") == 2
    assert "there is no database typo.db; correct the name" in capsys.readouterr().err
    assert not Path("typo.db").exists()
    assert command("waiting.py:looks", "--db", "new.db", "--create", "--until-idle") == 0
    assert command("waiting.py:looks", "--db", "new.db", "--until-idle") == 0
    assert command("waiting.py:looks", "--until-idle") == 0
    new, own = (f"new database {folder / name}" for name in ("new.db", "runs.db"))
    told = [f"worker of looks on {path}" for path in ("new.db", "new.db", "runs.db")]
    assert capsys.readouterr().out.splitlines() == [new, *told[:2], own, told[2]]


def test_a_database_that_is_made_on_a_server_is_told(
    folder: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once; it may be that of a schema whose name is misspelt."""
    url = server.url()
    for told in (f"new database {url}\n", ""):
        assert command("waiting.py:looks", "--db", url, "--until-idle") == 0
        assert capsys.readouterr().out == f"{told}worker of looks on {url}\n"


def test_a_run_that_fails_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """In one line, as no caller is there to whom its error is raised; carry-on says it, too."""
    fails = load_flow("waiting.py:fails")
    runs = [fails.submit({"word": word}, run_id=word) for word in ("one", "leave", "two")]
    assert main(["carry-on", "two", "waiting.py:fails"]) == 0
    said = "of flow 'fails' failed"
    error = f"run 'two' {said}: ValueError: two (pocoflow runs show two --db runs.db)\n"
    assert capsys.readouterr() == ("failed\n", error)
    assert command("waiting.py:fails", "--until-idle") == 0
    told = (one.getMessage() for one in caplog.records if one.name == "pocoflow.worker")
    assert sorted(told) == [
        f"run 'leave' {said}: SystemExit: 3 (pocoflow runs show leave --db runs.db)",
        f"run 'one' {said}: ValueError: one (pocoflow runs show one --db runs.db)",
    ]
    assert statuses(runs) == ["failed"] * 3
    assert command("waiting.py:fails", "--until-idle") == 0
    left = "3 failed runs are left: pocoflow runs list --status failed --db runs.db"
    assert capsys.readouterr().out.splitlines()[-1] == left


def test_a_run_that_the_code_cannot_begin_is_told_with_the_command_that_begins_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker has no argument for a new name."""
    load_flow("waiting.py:looks").submit({"word": "one"}, run_id="r")
    assert command("waiting.py:renamed", "--until-idle") == 1
    assert "pocoflow resume r FLOW --rename look=NEW --db runs.db" in caplog.text


def submitted() -> list[str]:
    """The ids of two runs that are submitted."""
    with WorkflowDB("runs.db") as db:
        flow = load_flow("waiting.py:waits").using(db_path=db)
        return [flow.submit(), flow.submit()]


def statuses(runs: list[str]) -> list[str]:
    """Of runs."""
    with WorkflowDB("runs.db") as db:
        return [db.handle(run_id).status for run_id in runs]


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own, which has begun with a run; at last it is killed."""
    made = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "pocoflow", "worker", "waiting.py:waits", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(Path("began").exists, "no run has begun", 60)
        yield made
    finally:
        made.kill()
        print(*made.communicate())


def test_a_worker_ends_when_nothing_is_due(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--until-idle`` does what there is."""
    runs = submitted()
    Path("end").touch()
    assert command("waiting.py:waits", "--until-idle") == 0
    assert capsys.readouterr().out == "worker of waits on runs.db\n"
    assert statuses(runs) == ["completed", "completed"]


def test_a_worker_that_is_told_to_end_lets_its_runs_end(folder: Path) -> None:
    """After SIGTERM the run at work is completed, and the other one stays queued."""
    runs = submitted()
    with started("--concurrency", "1") as worker:
        worker.send_signal(signal.SIGTERM)
        Path("end").touch()
        assert worker.communicate(timeout=300)[0] == "worker of waits on runs.db\n"
    assert worker.returncode == 0
    assert statuses(runs) == ["completed", "queued"]


def test_what_does_not_end_in_time_is_left_to_others(folder: Path) -> None:
    """It reads as interrupted, and the next worker completes it."""
    runs = submitted()
    with started("--concurrency", "1", "--grace", "0.1") as worker:
        worker.send_signal(signal.SIGINT)
        said, _ = worker.communicate(timeout=300)
        assert "1 run has not ended, and is left to other workers" in said
    assert worker.returncode == 1
    assert statuses(runs) == ["failed", "queued"]
    Path("end").touch()
    assert command("waiting.py:waits", "--until-idle") == 0
    assert statuses(runs) == ["completed", "completed"]


def test_a_second_signal_ends_a_worker_at_once(folder: Path) -> None:
    """It does not wait for its runs."""
    runs = submitted()
    with started("--concurrency", "1") as worker:
        worker.send_signal(signal.SIGTERM)
        until = time.monotonic() + 60
        while worker.poll() is None and time.monotonic() < until:
            worker.send_signal(signal.SIGTERM)
            time.sleep(0.01)
    assert worker.returncode == -signal.SIGTERM
    assert statuses(runs) == ["failed", "queued"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["waiting.py:waits", "waiting.py:other"], "a worker is of one database"),
        (["waiting.py:bare"], "keeps no runs"),
        (["waiting.py:waits", "--concurrency", "0"], "'0' is not a whole number of at least 1"),
        (["waiting.py:waits", "--per-label", "tenant"], "write KEY=N"),
        (["waiting.py:waits", "--per-label", "tenant=x"], "'x' is not a whole number"),
        (["waiting.py:waits", "--rate", "tenant=10"], "write KEY=N/SECONDS"),
        (["waiting.py:waits", "--rate", "tenant=10/0"], "'0' is not a number of seconds above 0"),
        (["waiting.py:waits", "--grace", "-1"], "'-1' is not a number of seconds"),
        (["waiting.py:none"], "has no 'none'"),
        (["waiting.py:waits", "--resources", "made"], "'made' does not name resources"),
        (["waiting.py:waits", "--resources", "waiting.py:PATH"], "of type str, not a dict of"),
    ],
)
def test_what_cannot_be_understood_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """In one line, with the exit code 2."""
    assert command(*arguments) == 2
    assert said in capsys.readouterr().err


def test_resources_are_given(folder: Path) -> None:
    """By a function, which makes them once."""
    with WorkflowDB("runs.db") as db:
        run_id = load_flow("waiting.py:looks").using(db_path=db).submit({"word": "one"})
    assert command("waiting.py:looks", "--resources", "waiting.py:made", "--until-idle") == 0
    with WorkflowDB("runs.db") as db:
        assert db.handle(run_id).wait()["word"] == "eins"


def test_limits_and_a_database_are_given(folder: Path) -> None:
    """Flows of several databases work on the one that is named."""
    runs = submitted()
    Path("end").touch()
    limits = ["--in-all", "2", "--per-flow", "1", "--per-label", "a=1", "--rate", "a=10/60"]
    both = ("waiting.py:waits", "waiting.py:other")
    assert command(*both, "--db", "runs.db", *limits, "--until-idle") == 0
    assert statuses(runs) == ["completed", "completed"]
