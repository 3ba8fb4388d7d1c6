"""What a database is given by mistake: refused by name, before anything is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, WorkflowDB
from pocoflow.cli import main
from pocoflow.errors import (
    DatabaseFileError,
    DefinitionError,
    ResumeError,
    RunExistsError,
    TakenError,
)

Call = Callable[[Any], object]

_NO_ID = r"^run_id is a str, such as row\['run_id'\], got dict$"


class Second(Node):
    """Another node."""


@pytest.fixture
def flow(tmp_path: Path) -> Flow[Any]:
    """A flow of two nodes, with a completed run r."""
    first = Node()
    made: Flow[Any] = Flow(first, db_path=tmp_path / "x.db", flow_name="work")
    made.then(first, Second())
    made.run({}, run_id="r")
    return made


@pytest.fixture
def db(flow: Flow[Any]) -> Iterator[WorkflowDB]:
    """Its database."""
    with WorkflowDB(flow.database.path) as database:
        yield database


@pytest.mark.parametrize(
    ("since", "found"),
    [
        ("2026-11-29T17:00:00+05:00", True),
        ("2026-11-29T17:00:01+05:00", False),
        ("2026-11-29T04:00:00-08:00", True),
        ("2026-11-29T04:00:01-08:00", False),
        ("20261129T120000Z", True),
        ("20261129T120001Z", False),
        ("20261129", True),
        ("2026-W48-7", True),
        ("2026-W49-1", False),
        ("2026-11-29T12:00", True),
        ("2026-11-29 12:00:00.000001", False),
    ],
)
@pytest.mark.parametrize("started", ["2026-11-29T12:00:00+00:00", "20261129T070000-0500"])
def test_times_of_any_form_and_offset_are_compared_as_times(
    db: WorkflowDB, started: str, since: str, found: bool
) -> None:
    """Whatever ISO-8601 text ``since=`` and ``update_run`` are given."""
    db.update_run("r", started_at=started)
    assert db.get_run("r")["started_at"] == "2026-11-29T12:00:00+00:00"  # type: ignore[index]
    assert bool(db.list_runs(since=since)) is found


def test_the_age_of_a_run_that_ended_elsewhere_is_counted_in_utc(db: WorkflowDB) -> None:
    """As a time with an offset looks later than it is; and no age is too long."""
    now = db.connection.now()
    db.update_run("r", completed_at=now.replace("+00:00", "-05:00"))
    assert db.prune(older_than=timedelta(hours=1), dry_run=True) == 0
    db.update_run("r", completed_at=now.replace("+00:00", "+05:00"))
    assert db.prune(older_than=timedelta(hours=6), dry_run=True) == 0
    assert db.prune(older_than=timedelta.max) == 0
    assert db.prune(older_than=timedelta(hours=1), dry_run=True) == 1


_OF_BOTH: list[tuple[dict[str, Any], str]] = [
    ({"thread": 3}, "thread= is a str, the name of a run thread, not 3"),
    ({"labels": {"team": 3}}, "labels= is a dict of labels, .*, not {'team': 3}"),
    ({"labels": {"team": None}}, "labels= is a dict of labels, .*, not {'team': None}"),
    ({"labels": "team"}, "labels= is a dict of labels, .*, not 'team'"),
    ({"flow_name": Node()}, "flow_name= is a str, such as flow.flow_name, not <Node"),
    ({"status": 3}, "a status is one of .*, not 3"),
]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        *_OF_BOTH,
        ({"before": "r"}, r"before= is the number of a run, such as run\['run_no'\], not 'r'"),
        ({"before": 1.5}, "before= is .* not 1.5"),
        ({"limit": -1}, "limit= is a whole number from 0 .* not -1"),
        ({"limit": 10**30}, r"limit= is a whole number from 0 to 2\*\*63 - 1, not 10000"),
        ({"limit": "5"}, "limit= is a whole number from 0 .* not '5'"),
        ({"limit": None}, "limit= is .* not None"),
        ({"text": 3}, "text= is a str, not 3"),
        ({"text": ["x"]}, r"text= is a str, not \['x'\]"),
        ({"status": ["failed"]}, r"a status is one of .*, not \['failed'\]"),
        ({"since": "yesterday"}, "since= is an ISO-8601 time .*, not 'yesterday'"),
        ({"since": "0001-01-01T00:00+05:00"}, "since= is an ISO-8601 time"),
        ({"since": 3}, "since= is an ISO-8601 time .*, not 3"),
    ],
)
def test_a_filter_of_a_wrong_type_is_refused(
    db: WorkflowDB, given: dict[str, Any], told: str
) -> None:
    """Instead of giving every run, none, or an error of SQLite."""
    with pytest.raises(DefinitionError, match=f"^list_runs: {told}"):
        db.list_runs(**given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        *_OF_BOTH,
        ({"dry_run": None}, "dry_run= is True or False, not None"),
        ({"dry_run": "no"}, "dry_run= is True or False, not 'no'"),
        ({"whole_threads": "x"}, "whole_threads= is True or False, not 'x'"),
        ({"keep": True}, "keep= is a whole number, .*, not True"),
        ({"keep": "1"}, "keep= is a whole number, .*, not '1'"),
        ({"status": None}, "a status is one of .*, not None"),
        ({"status": [["failed"]]}, r"a status is one of .*, not \['failed'\]"),
    ],
)
def test_nothing_is_removed_that_was_not_meant(
    db: WorkflowDB, given: dict[str, Any], told: str
) -> None:
    """What is no answer to yes or no, or no number, is not taken for one."""
    with pytest.raises(DefinitionError, match=f"^prune: {told}"):
        db.prune(**{"keep": 0, **given})
    assert db.get_run("r") is not None


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda db: db.list_runs(flow="x"), r"list_runs\(\) .* 'flow'; did you mean 'flow_name'\?"),
        (lambda db: db.prune(keep=0, dryrun=True), r"prune\(\) .*; did you mean 'dry_run'\?"),
        (lambda db: WorkflowDB(db.path, readonly=True), "did you mean 'read_only'"),  # type: ignore[call-arg]
        (lambda db: WorkflowDB(db_path=db.path), "did you mean 'path'"),  # type: ignore[call-arg]
    ],
)
def test_a_misspelt_argument_is_answered_with_the_nearest(
    db: WorkflowDB, call: Call, told: str
) -> None:
    """As for the arguments of a run."""
    with pytest.raises((TypeError, DefinitionError), match=told):
        call(db)
    assert db.get_run("r") is not None


@pytest.mark.parametrize(
    "name",
    [
        *("get_run", "get_events", "get_account", "get_expenses", "get_checkpoints", "handle"),
        *("get_questions", "get_graph", "request_cancel", "follow", "update_run"),
        *("load_checkpoint", "answer_json"),
    ],
)
def test_a_row_in_the_place_of_the_id_of_a_run_is_answered(db: WorkflowDB, name: str) -> None:
    """It says how to get that out of the row."""
    more = [1] if name in ("load_checkpoint", "answer_json") else []
    with pytest.raises(TypeError, match=_NO_ID):
        getattr(db, name)(db.list_runs()[0], *more)


@pytest.mark.parametrize(
    "name",
    [
        *("resume", "resume_background", "can_resume", "fork", "follow", "carry_on", "answer_json"),
    ],
)
def test_so_it_is_where_a_run_goes_on(flow: Flow[Any], name: str) -> None:
    """By the methods of a flow, too."""
    more = [1] if name == "answer_json" else []
    with pytest.raises(TypeError, match=_NO_ID):
        getattr(flow, name)(flow.database.list_runs()[0], *more)


@pytest.mark.parametrize(("name", "more"), [("load", ()), ("save", ("Node", {}))])
def test_a_text_in_the_place_of_a_step_is_refused(
    db: WorkflowDB, name: str, more: tuple[Any, ...]
) -> None:
    """By reading and by writing."""
    with pytest.raises(DefinitionError, match="step= is the number of a step, such as 2, not '0'"):
        getattr(db, f"{name}_checkpoint")("r", "0", *more)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"path": None}, r"WorkflowDB\(None\): a database is the path of a file"),
        ({"path": b"x.db"}, r"WorkflowDB\(b'x.db'\): a database is the path of a file"),
        ({"path": ""}, "'' names no database: write the path of its file"),
        ({"path": "~/runs.db"}, r"'~/runs.db' is no path from the home folder.*: write '/home"),
        ({"path": Path("~/runs.db")}, "write '/home/ann/runs.db', or Path"),
        ({"busy_timeout": "3"}, r"WorkflowDB\(busy_timeout='3'\): seconds"),
        ({"busy_timeout": -3}, r"WorkflowDB\(busy_timeout=-3\): seconds"),
    ],
)
def test_what_names_no_database_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], told: str
) -> None:
    """And so is a time that is none; no folder is made that is named ``~``."""
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.chdir(tmp_path)
    if "path" in given and given["path"] is not None:
        with pytest.raises(DefinitionError):
            Flow(Node(), db_path=given["path"])
    with pytest.raises(DefinitionError, match=told):
        WorkflowDB(**{"path": tmp_path / "y.db", **given})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("suffix", ["-lock", "-wal", "-shm"])
def test_a_file_that_belongs_to_a_database_is_not_opened_as_one(
    db: WorkflowDB, suffix: str, read_only: bool
) -> None:
    """It is named, with the one that it belongs to; a file without one is a database."""
    with pytest.raises(DatabaseFileError, match=f"x.db{suffix} is not a database but a file of"):
        WorkflowDB(db.path + suffix, read_only=read_only)
    assert db.get_run("r") is not None
    with WorkflowDB(Path(db.path).with_name(f"jobs{suffix}")) as other:
        assert other.list_runs() == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("read_only", [False, True])
def test_a_pipe_is_not_waited_for(tmp_path: Path, read_only: bool) -> None:
    """What is no file is refused at once, and nobody has to write into it first."""
    path = tmp_path / "runs.db"
    os.mkfifo(path)
    with pytest.raises(DatabaseFileError, match="is a pipe, socket or device, not a database file"):
        WorkflowDB(path, read_only=read_only)
    assert [one.name for one in tmp_path.iterdir()] == ["runs.db"]


def test_an_empty_path_is_named_by_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Not a nameless folder."""
    assert main(["runs", "list", "--db", ""]) == 2
    assert "argument --db: '' names no database" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["runs", "list"], ["prune", "--keep", "1"], ["questions"]])
def test_a_path_that_cannot_be_looked_at_is_told_as_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """As a name that is too long, or a folder that is closed; not as a file that is gone."""
    path = tmp_path / ("x" * 300)
    assert main([*command, "--db", str(path)]) == 2
    assert "File name too long" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_prune_says_that_a_flow_has_no_runs(
    db: WorkflowDB, capsys: pytest.CaptureFixture[str]
) -> None:
    """And which one was probably meant; runs that are kept are another matter."""
    for options in (["--dry-run"], []):
        assert main(["prune", "--keep", "0", "--flow", "wrok", "--db", db.path, *options]) == 0
        told = capsys.readouterr().out
        assert "(there are no runs of flow wrok; did you mean 'work'?)" in told
    assert main(["prune", "--keep", "9", "--flow", "work", "--db", db.path]) == 0
    assert capsys.readouterr().out == f"removed 0 runs from {db.path}\n"


def test_the_advice_on_an_id_that_is_taken_can_be_followed(flow: Flow[Any]) -> None:
    """Only ``run`` and ``submit`` join a run; what something else executes is not resumed."""
    with pytest.raises(RunExistsError) as forked:
        flow.fork("r", 0, new_id="r")
    with pytest.raises(RunExistsError) as created:
        flow.database.create_run("r")
    with pytest.raises(RunExistsError, match="submit with run_id='r', if_exists='join'"):
        flow.run({}, run_id="r")
    assert flow.run({}, run_id="r", if_exists="join").name == "work"
    for one in (forked, created):
        assert str(one.value).endswith("has a run 'r' already, which is completed; use another id")
    flow.fork("r", 0, new_id="f")
    with pytest.raises(RunExistsError, match=r"use another id, or go on .*resume\('f'\)$"):
        flow.fork("r", 0, new_id="f")
    with pytest.raises(RunExistsError, match=r"; use another id$"):
        flow.database.create_run("f")


def test_the_id_of_a_run_that_is_running_is_not_to_be_resumed(tmp_path: Path) -> None:
    """Nobody can resume it, so the advice is another id, or to join it."""

    class Again(Node):
        def exec(self, prep_result: Any) -> None:
            made.run({}, run_id="r")

    made: Flow[Any] = Flow(Again(), db_path=tmp_path / "x.db")
    with pytest.raises(RunExistsError, match=r"which is running, here or .* if_exists=") as caught:
        made.run({}, run_id="r")
    assert "resume" not in str(caught.value)


def test_that_a_run_is_taken_has_a_public_error(flow: Flow[Any]) -> None:
    """A completed run is refused with a ``TakenError``, which is a ``ResumeError``."""
    assert issubclass(TakenError, ResumeError)
    with pytest.raises(TakenError, match="is completed"):
        flow.resume("r")
