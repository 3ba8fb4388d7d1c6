"""Runs that are copied from a database to another one, a file or a server, are the same there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pocoflow import AskNode, Flow, Node, Parallel, Question, RunPaused, Store, WorkflowDB, cli
from pocoflow.db.copying import copy_runs
from pocoflow.errors import DatabaseError
from tests.integration.programs import Act, three
from tests.rows import known, row_of
from tests.servers import Server


class Fill(Node[None, None, str]):
    """Changes short and long values, inside and at their ends, and deletes one."""

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        n = store["n"] = store.get("n", 0) + 1
        store["long"] = [*store.get("long", []), "ü" * 700]
        store.setdefault("deep", {"a": ["x" * 100] * 20})["a"][n % 20] = f"step {n}"
        store["text"] = store.get("text", "NUL \0 " * 300) + "more"
        if n == 3:
            del store["gone"]
        return "again" if n < 8 else "ask"


class Fail(Node[str, str, str]):
    """Fails if the store names it."""

    max_retries = 2

    def prep(self, store: Store[Any]) -> str:
        return str(store["fails"])

    def exec(self, fails: str) -> str:
        if fails == self.name:
            raise ZeroDivisionError("no")
        return fails


class Ask(AskNode[bool]):
    def prep(self, store: Store[Any]) -> Question[bool]:
        return Question("Sure?")


def filled(db: WorkflowDB) -> Flow[Any]:
    """A flow that fills its store, and asks."""
    fill = Fill()
    fill.then("again", fill).then("ask", Ask())
    return Flow(fill, db_path=db, flow_name="filled")


def make_runs(db: WorkflowDB) -> None:
    """Runs of every status, with all that may be on record."""
    with pytest.raises(RunPaused):
        filled(db).run({"gone": 1}, run_id="paused", labels={"user": "ann", "kind": "ü"})
    with pytest.raises(RunPaused):
        filled(db).run({"gone": 1}, run_id="answered")
    db.answer_json("answered", True)

    def fail() -> None:
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError):
        three(db, Act(fail), "failed").run({})
    three(db, Act(lambda: None), "done").run({})
    split = Parallel(Fail(name="one"), Fail(name="other"), name="split")
    with pytest.raises(ZeroDivisionError):
        Flow(split, db_path=db, flow_name="split", run_id="split").run({"fails": "other"})
    filled(db).submit({"gone": 1}, run_id="queued")
    db.create_run("foreign", "other")
    db.save_event("foreign", "note", error_msg="something")
    db.save_checkpoint("foreign", 3, "There", {"a": [1, 2]})


@pytest.fixture(params=["file", "server"])
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, server: Server
) -> Iterator[tuple[WorkflowDB, WorkflowDB]]:
    """A database, and one of the other kind, in which there is a run already."""
    url, file = server.url(), str(tmp_path / "runs.db")
    paths = (file, url) if request.param == "file" else (url, file)
    with WorkflowDB(paths[0]) as source, WorkflowDB(paths[1]) as target:
        with pytest.raises(RunPaused):
            filled(target).run({"gone": 1}, run_id="before")
        yield source, target


def ids(db: WorkflowDB) -> list[str]:
    """The runs, in the order in which they were created."""
    return [run["run_id"] for run in reversed(db.list_runs())]


def test_runs_are_the_same_in_the_other_database(
    pair: tuple[WorkflowDB, WorkflowDB], tmp_path: Path
) -> None:
    """Each with everything; and so they are when they are copied back."""
    source, target = pair
    make_runs(source)
    before = known(source)
    assert copy_runs(source, target, ids(source)).copied == list(before)
    after = known(target)
    del after["before"]
    assert after == before
    with WorkflowDB(tmp_path / "back.db") as back:
        copy_runs(target, back, list(before))
        assert known(back) == before


def test_a_copied_run_goes_on_as_it_would(pair: tuple[WorkflowDB, WorkflowDB]) -> None:
    """What is answered there, before or after, is used; what failed is resumed where it was."""
    source, target = pair
    make_runs(source)
    copy_runs(source, target, ids(source))
    assert filled(target).resume("answered")["n"] == 8
    target.answer_json("paused", True)
    assert filled(target).resume("paused")["n"] == 8
    assert three(target, Act(lambda: None)).resume("failed")["n"] == 3
    assert target.pending()[0].run_id == "before"
    paused = [one.event for one in target.follow("paused") if one.event.kind == "flow_pause"]
    assert paused[0].questions == (target.get_questions("paused")[0].question,)


def test_a_run_that_is_there_or_at_work_is_left_out(pair: tuple[WorkflowDB, WorkflowDB]) -> None:
    """Copying again changes nothing; what somebody runs is told."""
    source, target = pair
    three(source, Act(lambda: None), "done").run({})
    left: list[list[str]] = []

    def copy() -> None:
        done = copy_runs(source, target, ids(source))
        left.extend([done.copied, done.existing, done.at_work])

    three(source, Act(copy), "live").run({})
    assert left == [["done"], [], ["live"]]
    done = copy_runs(source, target, ids(source))
    assert (done.copied, done.existing, done.at_work) == (["live"], ["done"], [])
    assert row_of(target, "live")["status"] == "completed"


def test_a_run_thread_keeps_its_order(pair: tuple[WorkflowDB, WorkflowDB]) -> None:
    """A run is not put after a later one of its thread, nor an open one beside another."""
    source, target = pair
    for name in ("first", "second"):
        three(source, Act(lambda: None)).run({}, run_id=name, thread="T")
    assert copy_runs(source, target, ["second"]).copied == ["second"]
    with pytest.raises(DatabaseError, match=r"'first' of run thread 'T' is not copied.*'second'"):
        copy_runs(source, target, ["first"])
    assert target.get_run("first") is None
    filled(source).submit({"gone": 1}, run_id="waits", thread="U")
    filled(target).submit({"gone": 1}, run_id="waits too", thread="U")
    with pytest.raises(DatabaseError, match="'waits' of run thread 'U' is not copied"):
        copy_runs(source, target, ["waits"])


def test_what_is_not_there_to_be_copied_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there, and filters that no run matches."""
    path, other = str(tmp_path / "runs.db"), str(tmp_path / "other.db")
    assert cli.main(["copy", path, other]) == 2
    told = capsys.readouterr().err
    assert f"there is no database {path}; FROM is a file that is there, or a server" in told
    with WorkflowDB(path) as db:
        db.create_run("a", "flow")
    assert cli.main(["copy", path, other, "--flow", "typo"]) == 0
    assert "no run there matches" in capsys.readouterr().out


def test_the_command_says_what_became_of_the_runs(
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes filters, and a variable for a URL that is not to be seen."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        for name in ("a", "b"):
            three(db, Act(lambda: None), name).run({})
        db.create_run("c", "other")
    url = server.url().replace("tester@", "tester:s3cret@")
    monkeypatch.setenv("THERE", url)
    copy = ["copy", str(tmp_path / "runs.db"), "env:THERE", "--flow", "three"]
    assert cli.main(copy) == 0
    assert cli.main(copy) == 0
    told = capsys.readouterr().out
    assert "copied 2 runs from" in told
    assert "2 runs left out: there already" in told
    assert "s3cret" not in told
    with WorkflowDB(url) as db:
        assert ids(db) == ["a", "b"]
