"""What the monitor reads, and what it says of a file that it cannot read."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pocoflow import BatchNode, Flow, Node, Store, WorkflowDB
from pocoflow.db.run_reports import StoredValue, flow_counts
from pocoflow.errors import DatabaseFileError, RunNotFoundError
from pocoflow.ui.details import events_table, steps_table, store_table
from pocoflow.ui.pages_data import (
    Filters,
    changes_between,
    open_database,
    read_page,
    read_run,
    store_text,
)
from pocoflow.ui.tables import flows_table, run_facts, runs_table, summary
from pocoflow.ui.text import cut, pretty, visible

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Numbers(BatchNode[int, int, None]):
    def prep(self, store: Store[Any]) -> range:
        return range(9)

    def exec(self, number: int) -> int:
        return 10 // (4 - number)


def test_the_head_of_a_run_counts_the_finished_items_of_its_batch(tmp_path: Path) -> None:
    """Who looks at a run that ended in a batch sees how much of it a resume does not repeat."""
    flow = Flow(start=Numbers(), db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(ZeroDivisionError):
        flow.run({})
    with WorkflowDB(tmp_path / "runs.db", read_only=True) as db:
        view = read_run(db, "r", NOW)
    assert view.items == 4
    assert ["Items", "text", "4 are finished"] in run_facts(view, NOW)["facts"]
    other = dataclasses.replace(view, items=0)
    assert not any(fact[0] == "Items" for fact in run_facts(other, NOW)["facts"])


def test_a_wrong_path_is_an_error_and_no_new_file(tmp_path: Path) -> None:
    """Looking at a database that is not there does not make one."""
    with pytest.raises(DatabaseFileError, match="there is no database"):
        open_database(str(tmp_path / "runs.db"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is not a database file at all" * 100, "not a SQLite database"),
        (b"SQLite format 3\x00" + b"\xff" * 4096, "database"),
    ],
    ids=["empty", "text", "damaged"],
)
def test_a_file_that_is_no_database_is_left_alone(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """An empty, foreign or damaged file is told of, and not changed."""
    path = tmp_path / "runs.db"
    path.write_bytes(content)
    with pytest.raises(DatabaseFileError, match=message):
        open_database(str(path))
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["runs.db"]


def test_another_database_is_refused(tmp_path: Path) -> None:
    """A SQLite file of another program is named as such."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()
    with pytest.raises(DatabaseFileError, match="not of pocoflow"):
        open_database(str(path))


def test_a_database_that_was_replaced_is_opened_again(tmp_path: Path) -> None:
    """Who deletes the file and runs again sees the new runs, not the old ones."""
    path = tmp_path / "runs.db"
    for name in ("first", "second"):
        Flow(start=Node(), db_path=path, flow_name=name).run({})
        assert [run["flow_name"] for run in open_database(str(path)).list_runs()] == [name]
        assert open_database(str(path)) is open_database(str(path))
        for file in tmp_path.glob("runs.db*"):
            os.rename(file, file.with_name(f"{name}-{file.name}"))
    with pytest.raises(DatabaseFileError):
        open_database(str(path))


def test_pages_follow_one_another_to_the_last(tmp_path: Path) -> None:
    """Every run is on one page, the newest first, and the last page says that it is."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        for number in range(5):
            db.insert_run({"run_id": str(number), "status": "completed"})
        seen, before = [], None
        while True:
            page = read_page(db, Filters(), before, 2, NOW)
            seen += [run["run_id"] for run in page.runs]
            before = page.next_before
            if before is None:
                break
    assert seen == ["4", "3", "2", "1", "0"]


def test_filters_narrow_a_page(tmp_path: Path) -> None:
    """Text, flow, status and time are all held to."""
    old = (NOW - timedelta(days=2)).isoformat()
    with WorkflowDB(tmp_path / "runs.db") as db:
        row = {"flow_name": "a", "status": "failed", "started_at": NOW.isoformat()}
        db.insert_run(row | {"run_id": "wanted"})
        db.insert_run(row | {"run_id": "unwanted"})
        db.insert_run(row | {"run_id": "wanted-other", "flow_name": "b"})
        db.insert_run(row | {"run_id": "wanted-fine", "status": "completed"})
        db.insert_run(row | {"run_id": "wanted-old", "started_at": old})
        filters = Filters("wanted", "a", "failed", timedelta(days=1))
        page = read_page(db, filters, None, 10, NOW)
        assert [run["run_id"] for run in page.runs] == ["unwanted", "wanted"]


def test_a_run_thread_and_labels_narrow_a_page(tmp_path: Path) -> None:
    """What is typed is a run thread, or labels where it has the form of some."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        flow = Flow(Node(), db_path=db)
        flow.run({}, run_id="a", thread="t", labels={"user": "ann", "kind": "x"})
        flow.run({}, run_id="b", thread="u", labels={"user": "ann"})
        for typed, wanted in {
            "t": ["a"],
            " user=ann": ["b", "a"],
            "user=ann, kind=x": ["a"],
            "user=bob": [],
        }.items():
            page = read_page(db, Filters(found_by=typed), None, 10, NOW)
            assert [run["run_id"] for run in page.runs] == wanted


def test_changes_between_two_steps_are_told_by_kind() -> None:
    """Who compares two steps sees what came, went, grew and changed."""

    def store(**texts: str) -> dict[str, StoredValue]:
        return {key: StoredValue(key, 0, text, len(text)) for key, text in texts.items()}

    before = store(gone="1", grown="[1]", new_list="[]", other="[1]", same="2", text='"a"')
    after = store(grown="[1,2]", new_list="[3]", other="[12]", same="2", text='"b"', came="3")
    found = {one.key: (one.what, one.before, one.after) for one in changes_between(before, after)}
    assert found == {
        "gone": ("removed", "1", ""),
        "grown": ("appended", "[1]", "[2]"),
        "new_list": ("appended", "[]", "[3]"),
        "other": ("changed", "[1]", "[12]"),
        "text": ("changed", '"a"', '"b"'),
        "came": ("added", "", "3"),
    }


def test_of_a_long_text_the_change_is_shown(tmp_path: Path) -> None:
    """The part around the first difference is shown, not the same beginning twice."""
    same = "x" * 10_000
    (one,) = changes_between(
        {"k": StoredValue("k", 0, f'"{same}old"')}, {"k": StoredValue("k", 1, f'"{same}new"')}
    )
    assert one.before.endswith('xold"')
    assert len(one.before) < 100
    assert one.after.endswith('xnew"')


def test_a_value_that_was_not_saved_is_named_and_not_shown() -> None:
    """In the table, the changes and the JSON a value that was not saved is only its type."""
    values = {"client": StoredValue("client", 0, not_saved=("Client", "it is open"))}
    (row,) = store_table(values, {0: "Ask"}, None)["rows"]
    assert row["cells"][1][0] == {"kind": "status", "value": "not saved"}
    assert "not saved" in store_text(values)
    (change,) = changes_between({}, values)
    assert change.after == "not saved: Client"


class Hostile(Node):
    def exec(self, prep_result: Any) -> None:
        raise ValueError("<img src=x onerror=alert(1)>\x1b[2J\u202e")

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        raise AssertionError


def test_tables_hold_plain_text_of_bounded_length(tmp_path: Path) -> None:
    """No cell has a control mark in it, or more than a page can carry."""
    path = tmp_path / "runs.db"
    flow = Flow(start=Hostile(name="<b>\u202e" + "n" * 500), db_path=path, flow_name="**f**" * 100)
    with pytest.raises(ValueError, match="onerror"):
        flow.run({"key\u202e": "v" * 1_000_000})
    database = open_database(str(path))
    page = read_page(database, Filters(), None, 10, NOW)
    view = read_run(database, page.runs[0]["run_id"], NOW)
    counts = flow_counts(database)
    for block in (
        runs_table(page.runs, None, NOW),
        flows_table(counts),
        summary(counts),
        run_facts(view, NOW),
        steps_table(view.steps),
        events_table(view.events),
    ):
        for text in _texts(block):
            assert len(text) < 1000
            assert not set(text) & {"\x1b", "\u202e"}


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part)]


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    """An old link says which run is missing and which is near."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        db.create_run("article-1")
        with pytest.raises(RunNotFoundError, match=r"article-2.*article-1"):
            read_run(db, "article-2", NOW)


def test_text_is_made_visible_and_cut() -> None:
    """Marks that turn text around are shown as escapes, long text says how long it is."""
    assert visible("a\u202eb\x1b\nc") == "a\\u202eb\\x1b\nc"
    assert visible("👩\u200d🔬") == "👩\u200d🔬"
    assert cut("x" * 10, 4) == "xxxx … (10 characters)"
    assert pretty('{"a":1}') == '{\n  "a": 1\n}'
    assert pretty('{"a":') == '{"a":'
