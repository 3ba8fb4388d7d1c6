"""Rows that hold what they cannot hold: whatever reads them says so, and nothing else breaks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from shutil import copyfile
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from pocoflow import Flow, Question, RunPaused, WorkflowDB, fields, node
from pocoflow.cli import main
from pocoflow.db.due import due_runs
from pocoflow.db.run_reports import (
    export_run,
    finished_items,
    flow_counts,
    forks,
    node_began,
    stored_values,
    waiting,
)
from pocoflow.errors import PocoflowError
from pocoflow.flow.worker import Limits, Worker
from pocoflow.ui.details import costs_table
from pocoflow.ui.pages_data import Filters, changes_between, read_page, read_run, store_text
from pocoflow.ui.steps import errors_of
from pocoflow.views.forms import form_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)

SHARE = 2

LIMITS = Limits(rates={"user": (1, 1e6)})

VALUES: dict[str, Any] = {
    "null": None,
    "blob": b"\xff\x00",
    "text": "NONSENSE",
    "empty": "",
    "number": 7,
    "negative": -5,
    "big": 2**62,
    "real": 1e300,
    "infinite": float("inf"),
    "deep": "[" * 100_000,
    "deep and whole": "[" * 700 + "]" * 700,
    "object": "{}",
    "list": "[]",
    "list of lists": "[[1]]",
    "string": '"x"',
    "no text": "[1, null]",
    "not utf-8": sqlite3.Binary(b"\xff"),
}


class State(BaseModel):
    """What the flow of these tests works on."""

    items: list[int] = [1, 2]
    log: Annotated[list[str], "grows"] = []
    results: list[int] = []
    sure: bool = False


A = fields(State)


@node(writes=A.log)
def begin(log: list[str]) -> list[str]:
    """Let a list grow."""
    return [*log, "begun"]


@node(each=A.items, writes=A.results)
def work(item: int) -> int:
    """Work on the items."""
    return item * 2


@node(writes=A.sure)
def ask(results: list[int]) -> Question[bool]:
    """Ask a person."""
    return Question("Sure?", {"results": results}, default=False, deadline=86400.0)


def flow(path: Path | WorkflowDB) -> Flow[State]:
    """A flow that grows a list, works on items, and asks."""
    made = Flow(start=begin, schema=State, flow_name="f", db_path=path)
    made.then(begin, work)
    made.then(work, ask)
    return made


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a row in every table."""
    path = tmp_path_factory.mktemp("good") / "g.db"
    for run_id in ("r", "s"):
        named = {"user": run_id}
        with pytest.raises(RunPaused):
            flow(path).run({"log": ["a" * 1000]}, run_id=run_id, labels=named, thread=run_id)
    with closing(sqlite3.connect(path)) as raw:
        last = raw.execute("SELECT max(id) FROM pf_log WHERE id >> 32 = 1").fetchone()[0]
        raw.executemany(
            "INSERT INTO pf_log (id, kind, line, steps, step, item, at, mark, data)"
            " VALUES (?, ?, 0, 2, 2, ?, 1, ?, ?)",
            [(last + 1, 5, 0, "d", None), (last + 2, 3, None, None, "true")],
        )
        raw.commit()
    flow(path).fork("r", 0)
    made = flow(path).schedule("tick", "* * * * *")
    made.submit({"log": []}, labels={"user": "ann"})
    Worker(made, limits=LIMITS).run(until_idle=True)
    return path


def monitor(db: WorkflowDB) -> object:
    """What the monitor shows of a run."""
    view = read_run(db, "r", NOW)
    return view, errors_of(view.run, view.events), costs_table(db.get_expenses("r"))


READS: dict[str, Callable[[WorkflowDB], object]] = {
    "list_runs": lambda db: db.list_runs(),
    "list_runs by status": lambda db: db.list_runs(status="failed", text="r"),
    "list_runs by label": lambda db: db.list_runs(labels={"user": "r"}, thread="r"),
    "get_run": lambda db: db.get_run("r"),
    "follow": lambda db: list(db.follow("r", until="pause")),
    "get_events": lambda db: db.get_events("r"),
    "get_checkpoints": lambda db: [dict(row) for row in db.get_checkpoints("r")],
    "load_checkpoint": lambda db: db.load_checkpoint("r", 1, schema=State).as_dict(),
    "load_checkpoint -1": lambda db: db.load_checkpoint("r", -1).as_dict(),
    "get_graph": lambda db: db.get_graph("r"),
    "get_questions": lambda db: [
        (one.as_json(), one.about, form_of(one.schema)) for one in db.get_questions("r")
    ],
    "pending": lambda db: db.pending(),
    "answer_json": lambda db: db.answer_json("r", {}),
    "runs_to_recover": lambda db: db.runs_to_recover("f"),
    "due_runs": lambda db: due_runs(db, ["f"], LIMITS, 9),
    "prune": lambda db: db.prune(older_than=timedelta(days=1), dry_run=True),
    "export_run": lambda db: export_run(db, "r"),
    "flow_counts": flow_counts,
    "forks": lambda db: forks(db, "r"),
    "waiting": waiting,
    "stored_values": lambda db: store_text(stored_values(db, "r", 1)),
    "changes": lambda db: changes_between(
        stored_values(db, "r", 0, 50), stored_values(db, "r", 1, 50)
    ),
    "read_page": lambda db: read_page(db, Filters(), None, 10, NOW),
    "monitor": monitor,
    "node_began": lambda db: node_began(db, 1),
    "finished_items": lambda db: finished_items(db, 1),
}

GO_ON: dict[str, Callable[[Flow[State]], object]] = {
    "resume": lambda made: made.resume("r"),
    "recover": lambda made: made.recover(),
    "carry_on": lambda made: made.carry_on("r"),
    "worker": lambda made: Worker(made).run(until_idle=True),
}

COMMANDS = (
    ("runs", "list"),
    ("runs", "show", "r"),
    ("runs", "show", "r", "--format", "json"),
    ("runs", "show", "r", "--step", "1"),
    ("questions",),
    ("questions", "--run", "r", "--format", "json"),
    ("answer", "r", "--value", "{}"),
    ("prune", "--older-than", "1d", "--dry-run"),
)


def columns(path: Path) -> list[tuple[str, str]]:
    """Every column of every table of ours."""
    with closing(sqlite3.connect(path)) as raw:
        tables = raw.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'pf_%'"
        ).fetchall()
        return [
            (table, column[1])
            for (table,) in tables
            for column in raw.execute(f"PRAGMA table_info({table})")
        ]


def damaged(good: Path, path: Path, table: str) -> Iterator[str]:
    """The file, again and again, with another column of a table that holds something else."""
    own = [column for owner, column in columns(good) if owner == table]
    for number, column in enumerate(own):
        # Each column has its share of the values, and each table all of them.
        for name in islice(cycle(VALUES), 3 * number, 3 * number + SHARE):
            copyfile(good, path)
            with closing(sqlite3.connect(path)) as raw:
                raw.execute("PRAGMA ignore_check_constraints = ON")
                with suppress(sqlite3.Error):  # what cannot be written need not be read
                    raw.execute(f"UPDATE OR IGNORE {table} SET {column} = ?", (VALUES[name],))
                raw.commit()
            yield f"{column}, {name}"


TABLES = (
    *("pf_graphs", "pf_run", "pf_log", "pf_key", "pf_value", "pf_blob", "pf_questions"),
    *("pf_labels", "pf_schedules", "pf_rates"),
)


def test_every_table_is_damaged(good: Path) -> None:
    """No table is left out here, and none is empty."""
    assert {table for table, _ in columns(good)} == set(TABLES)
    with closing(sqlite3.connect(good)) as raw:
        for table in TABLES:
            assert raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_column_is_told_by_whatever_reads_it(
    good: Path, tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value of another kind in any column of any table gives an error of ours, or none."""
    wrong = []
    path = tmp_path / "d.db"
    for told in damaged(good, path, table):
        with WorkflowDB(path) as db:
            for name, read in READS.items():
                wrong += _try(f"{told}: {name}", partial(read, db))
        for command in COMMANDS:
            named = f"{told}: {' '.join(command)}"
            wrong += _try(named, partial(main, [*command, "--db", str(path)]))
        for name, go_on in GO_ON.items():
            # Closed before the file is replaced, and not some time after the flow is garbage.
            with WorkflowDB(path) as db:
                wrong += _try(f"{told}: {name}", partial(go_on, flow(db)))
    capsys.readouterr()
    assert wrong == []


def _try(told: str, read: Callable[[], object]) -> list[str]:
    try:
        with suppress(PocoflowError):
            read()
    except Exception as exc:  # noqa: BLE001 - this is what must not be
        return [f"{told}: {type(exc).__name__}: {exc!s:.150}"]
    return []
