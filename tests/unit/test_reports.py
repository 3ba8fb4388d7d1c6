"""What whoever looks at runs asks of a database, and how a run is asked to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pocoflow import Flow, Node, RunCancelled, Store, WorkflowDB
from pocoflow.db.run_reports import (
    export_run,
    flow_counts,
    forks,
    node_began,
    stored_values,
)
from pocoflow.errors import DatabaseFileError, RunNotFoundError
from tests.unit.gates import Gate


class Chat(Node):
    """Three turns: a list that grows, a key that goes, a value that cannot be stored."""

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        turn = store["turn"] = store["turn"] + 1
        store["messages"].append(f"message {turn}")
        if turn == 1:
            store["client"] = object()
        if turn == 2:
            del store["draft"]
        return "again" if turn < 3 else "done"


@pytest.fixture
def db(tmp_path: Path) -> WorkflowDB:
    """A database with the run ``chat-1`` of three steps."""
    chat = Chat()
    chat.then("again", chat)
    flow = Flow(start=chat, db_path=tmp_path / "runs.db", flow_name="chat", run_id="chat-1")
    flow.run({"turn": 0, "messages": [], "draft": "first"})
    return WorkflowDB(tmp_path / "runs.db", read_only=True)


def test_stored_values_are_text_with_the_step_that_wrote_them(db: WorkflowDB) -> None:
    """A reader sees each key's value as JSON text and which step last wrote it."""
    values = stored_values(db, "chat-1", 2)
    assert {key: (one.text, one.step) for key, one in values.items()} == {
        "turn": ("3", 2),
        "messages": ('["message 1","message 2","message 3"]', 2),
        "client": ("", 0),
    }
    assert values["messages"].size == len(values["messages"].text)
    client = values["client"].not_saved
    assert client is not None
    assert client[0] == "object"


def test_stored_values_go_back_to_the_beginning(db: WorkflowDB) -> None:
    """Step -1 is the store before the first node, and a deleted key is there until it was."""
    assert set(stored_values(db, "chat-1", -1)) == {"turn", "messages", "draft"}
    assert stored_values(db, "chat-1", 0)["draft"].step == -1
    assert "draft" not in stored_values(db, "chat-1", 1)


def test_stored_values_agree_with_the_checkpoints(db: WorkflowDB) -> None:
    """Both ways to read a store give the same values."""
    for step in (0, 1, 2):
        store = db.load_checkpoint("chat-1", step)
        texts = {k: v.text for k, v in stored_values(db, "chat-1", step).items()}
        assert texts["turn"] == str(store["turn"])
        assert texts["messages"] == str(store["messages"]).replace("'", '"').replace(", ", ",")


@pytest.mark.parametrize("limit", [3, 40, 100, 150, 1_000])
def test_the_beginning_of_a_value_that_grew_is_one(limit: int, tmp_path: Path) -> None:
    """What is cut is a beginning of the whole text: no bracket or quote closes it."""
    with WorkflowDB(tmp_path / "a.db") as db:
        db.create_run("r")
        words = [f"word {n}" for n in range(12)]
        text = "x" * 90
        for step in range(4):
            store = {"words": words[: 3 * step + 3], "text": text[: 30 * step]}
            db.save_checkpoint("r", step, "A", store)
        whole = stored_values(db, "r", 3)
        for key, value in stored_values(db, "r", 3, limit=limit).items():
            assert whole[key].text.startswith(value.text)
            assert value.size == len(whole[key].text)


def test_a_limit_cuts_long_values_and_tells_their_size(tmp_path: Path) -> None:
    """A page that shows the beginning of a value does not have to read all of it."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        db.create_run("r", "f")
        db.save_checkpoint("r", 0, "N", {"text": "x" * 5_000, "client": object()})
        value = stored_values(db, "r", 0, limit=100)["text"]
        assert (len(value.text), value.size, value.is_whole) == (100, 5_002, False)
        assert stored_values(db, "r", 0)["text"].is_whole
        assert stored_values(db, "r", 0, limit=3)["client"].not_saved is not None


def test_a_limit_cuts_a_long_value_beside_a_list_that_grew(tmp_path: Path) -> None:
    """What has to be put together does not make the other values any longer."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        db.create_run("r", "f")
        for step in range(2):
            words = [f"word {number}" for number in range(20 * step + 20)]
            db.save_checkpoint("r", step, "N", {"text": "x" * 5_000, "words": words})
        values = stored_values(db, "r", 1, limit=100)
        assert {key: len(one.text) for key, one in values.items()} == {"text": 100, "words": 100}
        assert (values["text"].size, values["text"].is_whole) == (5_002, False)


def test_an_export_has_everything_that_is_recorded(db: WorkflowDB) -> None:
    """An exported run has its row, graph, events and what each step changed."""
    document = export_run(db, "chat-1")
    assert document["run"]["status"] == "completed"
    assert document["graph"]["start"] == "Chat"
    assert document["events"][0]["event"] == "flow_start"
    assert [step["step"] for step in document["steps"]] == [-1, 0, 1, 2]
    first, second, third = document["steps"][0], document["steps"][1], document["steps"][2]
    assert first["set"] == {"turn": 0, "messages": [], "draft": "first"}
    assert set(second["not_saved"]) == {"client"}
    assert third["deleted"] == ["draft"]
    assert third["appended"] == {"messages": ["message 2"]}
    with pytest.raises(RunNotFoundError):
        export_run(db, "chat-2")


def test_counts_tell_the_failure_rate_of_each_flow(tmp_path: Path) -> None:
    """Counts are per flow and status, and a run whose process is gone counts as failed."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        for number, status in enumerate(("completed", "completed", "failed", "cancelled")):
            db.insert_run({"run_id": f"a{number}", "flow_name": "a", "status": status})
        db.insert_run({"run_id": "dead", "flow_name": "b", "status": "running", "owned": 1})
        first, second = flow_counts(db)
    assert (first.flow_name, first.total) == ("a", 4)
    assert first.failure_rate == pytest.approx(1 / 3)
    assert (dict(second.by_status), second.failure_rate) == ({"failed": 1}, 1.0)


def test_runs_are_paged_and_searched(tmp_path: Path) -> None:
    """A page begins where the one before it ended; text and time narrow what is listed."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        for number in range(5):
            db.insert_run({"run_id": f"run-{number}", "started_at": f"2026-01-0{number + 1}"})
        db.update_run("run-1", error_msg="Rate limit")
        page = db.list_runs(2)
        assert [run["run_id"] for run in page] == ["run-4", "run-3"]
        page = db.list_runs(2, before=page[-1]["run_no"])
        assert [run["run_id"] for run in page] == ["run-2", "run-1"]
        assert [run["run_id"] for run in db.list_runs(text="RATE LIMIT")] == ["run-1"]
        assert [run["run_id"] for run in db.list_runs(text="un-3")] == ["run-3"]
        assert db.list_runs(text="%") == []
        assert len(db.list_runs(since="2026-01-04")) == 2


def test_forks_of_a_run_are_found(db: WorkflowDB, tmp_path: Path) -> None:
    """From a run one comes to its forks, with the step that they began from."""
    chat = Chat()
    chat.then("again", chat)
    new = Flow(start=chat, db_path=tmp_path / "runs.db", flow_name="chat").fork("chat-1", 0)
    assert [(one["run_id"], one["parent_step"]) for one in forks(db, "chat-1")] == [(new, 0)]
    assert forks(db, new) == []


def test_a_run_that_was_asked_to_stop_stops_after_its_step(tmp_path: Path) -> None:
    """``request_cancel`` from another connection ends a run as cancelled after the current step."""
    gate, last = Gate(), Node(name="last")
    gate.then("default", last)
    handle = Flow(start=gate, db_path=tmp_path / "runs.db").run_background({})
    assert gate.entered.wait(60)
    with WorkflowDB(tmp_path / "runs.db") as other:
        began = node_began(other, other.number(handle.run_id))
        assert began == other.get_events(handle.run_id)[-1]["ts"]
        assert other.request_cancel(handle.run_id)
        gate.opened.set()
        with pytest.raises(RunCancelled):
            handle.wait(30)
        run = other.get_run(handle.run_id)
        assert run is not None
        assert (run["status"], run["total_steps"], run["current_node"]) == ("cancelled", 1, "last")
        assert not other.request_cancel(handle.run_id)


def test_only_a_run_that_is_there_and_a_file_that_is_writable_can_be_asked(
    db: WorkflowDB, tmp_path: Path
) -> None:
    """Asking for the impossible says what is wrong."""
    with WorkflowDB(tmp_path / "runs.db") as writable:
        assert not writable.request_cancel("chat-1")
        with pytest.raises(RunNotFoundError, match="chat-2"):
            writable.request_cancel("chat-2")
        writable.insert_run({"run_id": "by-hand", "status": "running"})
    with pytest.raises(DatabaseFileError, match="read-only"):
        db.request_cancel("by-hand")
