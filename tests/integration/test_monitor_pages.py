"""The monitor's logic, with Streamlit's own test runner: no browser, no server."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pocoflow import Flow, Node, Store, WorkflowDB
from tests.servers import Server

pytestmark = pytest.mark.usefixtures("keep_main")

DEADLINE = 120.0


class Ask(Node):
    def post(self, store: Store[Any], prep: None, result: None) -> str:
        store["answer"] = f"to {store['question']}"
        return "done"


class Publish(Node):
    """Fails until it may not."""

    is_up = False

    def exec(self, prep_result: Any) -> None:
        if not Publish.is_up:
            raise ConnectionError("the service is down")


def make(path: Path | str, run_id: str | None = None) -> Flow[Any]:
    """The flow of these tests."""
    ask, publish = Ask(), Publish()
    ask.then("done", publish)
    return Flow(start=ask, db_path=path, flow_name="publish", run_id=run_id)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A database with a failed and a completed run."""
    Publish.is_up = False
    made = tmp_path / "runs.db"
    with pytest.raises(ConnectionError):
        make(made, "failed-1").run({"question": "why?"})
    Flow(start=Ask(), db_path=made, flow_name="ask", run_id="fine-1").run({"question": "what?"})
    yield made
    Publish.is_up = False


def page(path: Path | str, given: Flow[Any] | None = None, **query: str) -> AppTest:
    """The page of a monitor, with the query parameters of its address."""

    def script(path: str, given: object) -> None:
        from pocoflow.ui.monitor import render_workflow_monitor

        render_workflow_monitor(path, flow=given, key="m")  # type: ignore[arg-type]

    app = AppTest.from_function(script, default_timeout=DEADLINE, args=(str(path), given))
    for name, value in query.items():
        app.query_params[f"m.{name}"] = value
    app.run()
    assert not app.exception
    return app


def blocks(app: AppTest) -> list[dict[str, Any]]:
    """What the component was given, in the order of the page."""
    return [json.loads(element.proto.json) for element in app.get("bidi_component")]


def table(app: AppTest, label: str) -> list[list[Any]]:
    """The cells of a table."""
    (found,) = [block for block in blocks(app) if block.get("label") == label]
    return [row["cells"] for row in found["rows"]]


def facts(app: AppTest) -> dict[str, Any]:
    """The head of the run that is looked at."""
    (found,) = [block for block in blocks(app) if block.get("label") == "The run"]
    return {name: value for name, _, value in found["facts"]}


RUNS = "Runs, the newest first"


def test_runs_on_a_server_are_shown_and_its_password_is_not(server: Server) -> None:
    """The list, a run and what to do with it, as of a file."""
    url = server.url().replace("tester@", "tester:s3cret@")
    with pytest.raises(ConnectionError):
        make(url, "failed-1").run({"question": "why?"})
    app = page(url)
    assert [row[0] for row in table(app, RUNS)] == ["failed-1"]
    run = page(url, run="failed-1")
    assert facts(run)["Status"] == "failed"
    assert "s3cret" not in "".join(map(str, [app.main, run.main, *blocks(app), *blocks(run)]))


def test_the_runs_are_listed_and_counted(path: Path) -> None:
    """Every run is there with its status, flow, steps and node, and each flow with its counts."""
    app = page(path)
    rows = table(app, RUNS)
    assert [(row[0], row[1], row[2], row[5]) for row in rows] == [
        ("fine-1", "completed", "ask", 1),
        ("failed-1", "failed", "publish", 1),
    ]
    assert table(app, "Runs by flow") == [
        ["ask", "1", "0", "1", "0", "0", "0.0%"],
        ["publish", "1", "0", "0", "1", "0", "100.0%"],
    ]


@pytest.mark.parametrize(
    ("label", "value", "runs"),
    [
        ("Status", "failed", ["failed-1"]),
        ("Status", "cancelled", []),
        ("Flow", "ask", ["fine-1"]),
        ("Started", "in the last hour", ["fine-1", "failed-1"]),
    ],
)
def test_filters_change_what_is_listed(path: Path, label: str, value: str, runs: list[str]) -> None:
    """A choice of status, flow or time is held to at once."""
    app = page(path)
    (box,) = [box for box in app.selectbox if box.label == label]
    box.select(value).run()
    found = [block for block in blocks(app) if block.get("label") == RUNS]
    assert [row[0] for row in table(app, RUNS)] == runs if runs else found == []


def test_a_search_finds_an_error(path: Path) -> None:
    """Who remembers the message finds the run."""
    app = page(path)
    app.text_input[0].set_value("service is DOWN").run()
    assert [row[0] for row in table(app, RUNS)] == ["failed-1"]


def test_pages_lead_to_older_runs_and_back(tmp_path: Path) -> None:
    """Fifty runs are on a page; Older and Newer turn it."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        for number in range(60):
            db.insert_run({"run_id": f"run-{number}", "status": "completed"})
    app = page(tmp_path / "runs.db")
    assert table(app, RUNS)[0][0] == "run-59"
    app.button(key="m.older").click().run()
    assert [row[0] for row in table(app, RUNS)] == [f"run-{number}" for number in range(9, -1, -1)]
    assert app.button(key="m.older").disabled
    app.button(key="m.newer").click().run()
    assert table(app, RUNS)[0][0] == "run-59"


def test_a_link_leads_to_a_run_and_its_tab(path: Path) -> None:
    """The address of a page names the run and the tab that it shows."""
    app = page(path, run="failed-1", tab="Timeline")
    assert facts(app)["Current node"] == "Publish"
    assert [row[1] for row in table(app, "Steps in time")] == ["Ask", "Publish"]
    assert table(app, "Events")[-1][7] == "ConnectionError: the service is down"


def test_a_link_to_a_run_that_is_gone_says_so(path: Path) -> None:
    """An old link is a message, with the nearest run."""
    (told,) = [b for b in blocks(page(path, run="failed-2")) if b.get("title") == "No such run"]
    assert "failed-1" in told["text"][0]


def test_the_store_is_shown_with_who_wrote_it_and_what_changed(path: Path) -> None:
    """The inspector has each key with the step that wrote it, and the changes of the step."""
    app = page(path, run="failed-1", tab="Store")
    assert [(row[0], row[3]) for row in table(app, "Store")] == [
        ("question", "at the beginning"),
        ("answer", "step 0, Ask"),
    ]
    assert table(app, "Changes") == [["answer", "added", "", '"to why?"']]
    app.slider[0].set_value(-1).run()
    assert [row[0] for row in table(app, "Store")] == ["question"]


def test_without_a_flow_there_is_code_and_no_button(path: Path) -> None:
    """A monitor that was not given the flow changes nothing; it shows what to paste."""
    app = page(path, run="failed-1", tab="Resume")
    assert not [button for button in app.button if button.label == "Resume the run"]
    assert "flow.resume('failed-1')" in app.code[-1].value
    where = app.text_input(key="m.where")
    where.set_value("app:flow; import os").run()
    assert not app.code
    where.set_value("app:flow").run()
    assert app.code[-1].value.startswith("from pocoflow import Flow\nfrom app import flow\n")


def test_a_given_flow_resumes_its_run(path: Path) -> None:
    """With the flow the run goes on, in the background, to its end."""
    app = page(path, make(path), run="failed-1", tab="Resume")
    Publish.is_up = True
    app.button(key="m.resume").click().run()
    _threads_end("failed-1")
    app.run()
    assert facts(app)["Status"] == "completed"


def test_a_given_flow_forks_with_changed_values(path: Path) -> None:
    """A fork begins at the chosen step with the values that were changed, and is opened."""
    Publish.is_up = True
    app = page(path, make(path), run="failed-1", tab="Resume")
    app.selectbox[-1].select("the beginning: a fork").run()
    app.text_area[0].set_value("[1]").run()
    app.button(key="m.fork").click().run()
    (told,) = [block for block in blocks(app) if "JSON object" in str(block.get("text"))]
    assert told["tone"] == "red"
    app.text_area[0].set_value('{"question": "how?"}').run()
    app.button(key="m.fork").click().run()
    with WorkflowDB(path, read_only=True) as db:
        fork = db.list_runs(1)[0]["run_id"]
    _threads_end(fork)
    app.run()
    assert facts(app)["Forked from"] == "failed-1, step -1"
    with WorkflowDB(path, read_only=True) as db:
        assert db.load_checkpoint(fork, 0)["answer"] == "to how?"


def test_what_cannot_be_done_is_said(path: Path) -> None:
    """A refusal of the library is shown in its words."""
    app = page(path, make(path), run="failed-1", tab="Resume")
    Publish.is_up = True
    make(path).resume("failed-1")
    app.button(key="m.resume").click().run()
    assert any("is completed" in str(block.get("text")) for block in blocks(app))


def test_a_database_of_another_kind_is_a_message(tmp_path: Path) -> None:
    """A path without a database, or with a foreign file, is told of; nothing is made."""
    app = page(tmp_path / "none.db")
    assert blocks(app)[1]["title"] == "No runs to show"
    (tmp_path / "text.db").write_text("hello " * 1000)
    app = page(tmp_path / "text.db")
    assert "not a SQLite database" in blocks(app)[1]["text"][0]
    assert [file.name for file in tmp_path.iterdir()] == ["text.db"]


def test_an_empty_database_says_what_to_do(tmp_path: Path) -> None:
    """Where there are no runs yet, the page shows how to make one."""
    WorkflowDB(tmp_path / "runs.db").close()
    app = page(tmp_path / "runs.db")
    assert blocks(app)[1]["title"] == "No runs yet"
    assert "db_path=" in app.code[0].value


OLD = """
CREATE TABLE pf_runs (run_id TEXT PRIMARY KEY, flow_name TEXT, status TEXT NOT NULL,
    started_at TEXT, completed_at TEXT, total_steps INTEGER DEFAULT 0,
    current_node TEXT, error_msg TEXT);
CREATE TABLE pf_checkpoints (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL,
    step INTEGER NOT NULL, node_name TEXT, store_json TEXT NOT NULL, created_at TEXT,
    UNIQUE(run_id, step));
CREATE TABLE pf_events (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, step INTEGER,
    node_name TEXT, event TEXT NOT NULL, action TEXT, elapsed_ms REAL, error_msg TEXT, ts TEXT);
INSERT INTO pf_runs VALUES ('old-1', 'old', 'failed', '2026-02-17T14:30:00', '2026-02-17T14:30:09',
    1, 'Publish', 'boom');
INSERT INTO pf_events (run_id, step, node_name, event, action, elapsed_ms, error_msg, ts) VALUES
    ('old-1', 0, 'Ask', 'node_start', NULL, NULL, NULL, '2026-02-17T14:30:00'),
    ('old-1', 0, 'Ask', 'node_end', 'done', 12.5, NULL, '2026-02-17T14:30:01'),
    ('old-1', 1, 'Publish', 'node_start', NULL, NULL, NULL, NULL),
    ('old-1', 1, 'Publish', 'node_error', NULL, NULL, 'boom', '2026-02-17T14:30:09');
INSERT INTO pf_checkpoints (run_id, step, node_name, store_json, created_at)
    VALUES ('old-1', 0, 'Ask', '{"answer": "42"}', '2026-02-17T14:30:01');
"""


@pytest.mark.parametrize("tab", ["Graph", "Timeline", "Errors", "Store", "Resume"])
def test_a_file_of_an_older_version_is_shown_and_left_as_it_is(tmp_path: Path, tab: str) -> None:
    """Runs of 0.2.1 have every view, without their file being migrated."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(OLD)
    before = path.read_bytes()
    app = page(path, run="old-1", tab=tab)
    shown = json.dumps(blocks(app)) + "".join(code.value for code in app.code)
    assert facts(app)["Status"] == "failed"
    expected = {
        "Graph": "no recorded graph",
        "Timeline": "12.5",
        "Errors": "Step 1, Publish",
        "Store": "answer",
        "Resume": "load_checkpoint('old-1', step=0)",
    }
    assert expected[tab] in shown
    assert path.read_bytes() == before


def _threads_end(run_id: str) -> None:
    for thread in threading.enumerate():
        if thread.name == f"pocoflow-{run_id}":
            thread.join(DEADLINE)
