"""Watching a flow that runs, fails, is resumed and is cancelled, in a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from pocoflow import WorkflowDB
from tests.browser.clicks import download, open_tab

HERE = Path(__file__).parent
DEADLINE = 120.0


class Pipe:
    """Where the flow waits: a named pipe that is held open, so that no line is lost."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDWR)

    def say(self, line: str) -> None:
        """Let the node that waits go on."""
        os.write(self._end, f"{line}\n".encode())

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    """The pipe of the flow."""
    made = Pipe(tmp_path / "pipe")
    yield made
    made.close()


@pytest.fixture
def begin(tmp_path: Path, pipe: Pipe) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """A function that starts the flow in a process of its own."""
    processes = []

    def start(run_id: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(HERE / "gated.py"), "runs.db", str(pipe.path), run_id]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait(DEADLINE)


def row(page: Page, run_id: str) -> Locator:
    """The row of a run in the table."""
    return (
        page.get_by_role("table", name="Runs, the newest first")
        .get_by_role("row")
        .filter(has_text=run_id)
    )


def fact(page: Page, name: str) -> Locator:
    """A fact of the run that is looked at."""
    pair = page.get_by_label("The run", exact=True).locator("div").filter(has_text=name)
    return pair.locator("dd").first


def test_a_run_is_watched_failed_resumed_and_cancelled(
    tmp_path: Path,
    pipe: Pipe,
    begin: Callable[[str], subprocess.Popen[bytes]],
    serve: Callable[..., str],
    visit: Callable[..., Page],
    shoot: Callable[[Page, str], None],
) -> None:
    """From no file at all to a run that failed, was resumed and cancelled, without a reload."""
    flow = f"{HERE / 'gated.py'}:flow"
    # The flow's own file has to be there before the monitor can be given the flow.
    WorkflowDB(tmp_path / "runs.db").close()
    url = serve(tmp_path, "pocoflow", "monitor", "runs.db", "--flow", flow, "--port", "PORT")
    page = visit(f"{url}?refresh=1+s")
    expect(page.get_by_text("No runs yet")).to_be_visible()
    shoot(page, "empty")

    process = begin("review-1")
    expect(row(page, "review-1")).to_contain_text("running")
    expect(row(page, "review-1")).to_contain_text("Wait")
    page.get_by_role("button", name="Open run review-1").click()
    expect(fact(page, "Status")).to_have_text("🔄 running")
    elapsed = fact(page, "In this node for")
    before = elapsed.inner_text()
    expect(elapsed).not_to_have_text(before)
    graph = page.get_by_test_id("stGraphVizChart")
    expect(graph).to_contain_text("running · here")
    expect(graph).to_contain_text("drafted ×1")
    assert "run=review-1" in page.url

    pipe.say("again")
    expect(graph).to_contain_text("drafted ×2")
    expect(fact(page, "Steps")).to_have_text("3")
    expect(row(page, "review-1")).to_have_attribute("aria-current", "true")
    shoot(page, "running-graph")

    pipe.say("fail")
    assert process.wait(DEADLINE) == 1
    expect(fact(page, "Status")).to_have_text("❌ failed")
    expect(page.get_by_role("alert").first).to_contain_text("the reviewer <b>left</b>")
    _look_at_the_views(page, shoot)

    _resume_and_cancel(page, pipe)
    shoot(page, "cancelled")

    _fork(page, pipe)
    shoot(page, "fork")
    with WorkflowDB(tmp_path / "runs.db") as db:
        fork, first = db.list_runs()
    assert (first["status"], first["total_steps"]) == ("cancelled", 4)
    assert (fork["status"], fork["parent_run_id"]) == ("completed", "review-1")


def _look_at_the_views(page: Page, shoot: Callable[[Page, str], None]) -> None:
    """Every tab of the failed run, each with what a person looks for."""
    open_tab(page, "Timeline")
    steps = page.get_by_role("table", name="Steps in time")
    expect(steps.get_by_role("row")).to_have_count(5)
    expect(page.get_by_text("TimeoutError: the draft took too long").first).to_be_visible()
    shoot(page, "timeline")
    open_tab(page, "Errors")
    expect(page.get_by_text("Step 0, Draft, attempt 1, was tried again")).to_be_visible()
    expect(page.get_by_text("Traceback (most recent call last; ").first).to_be_visible()
    shoot(page, "errors")
    open_tab(page, "Store")
    expect(page.get_by_role("button", name="Show the value of drafts")).to_be_visible()
    page.get_by_role("button", name="Show the value of drafts").click()
    expect(page.get_by_text("drafts, 21 characters")).to_be_visible()
    slider = page.get_by_role("slider")
    expect(slider).to_have_value("2")
    slider.press("ArrowLeft")
    expect(page.get_by_text("drafts, 11 characters")).to_be_visible()
    expect(slider).to_have_value("1")
    shoot(page, "store")
    document = json.loads(download(page, "Export the run as JSON"))
    assert document["run"]["run_id"] == "review-1"


def _resume_and_cancel(page: Page, pipe: Pipe) -> None:
    """Resume the failed run, and cancel it while it waits."""
    open_tab(page, "Resume")
    page.get_by_role("button", name="Resume the run").click()
    expect(fact(page, "Status")).to_have_text("🔄 running")
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_text("It was asked to stop after this step.").first).to_be_visible()
    pipe.say("again")
    expect(fact(page, "Status")).to_have_text("⏹️ cancelled")


def _fork(page: Page, pipe: Pipe) -> None:
    """Fork the run from its first checkpoint and see the fork complete."""
    page.get_by_role("combobox", name="Go on from").click()
    page.get_by_role("option", name="the checkpoint of step 0: a fork").click()
    page.get_by_role("button", name="Fork and run").click()
    expect(fact(page, "Forked from")).to_have_text("review-1, step 0")
    pipe.say("good")
    expect(fact(page, "Status")).to_have_text("✅ completed")
    expect(page.get_by_role("button", name="Open the parent")).to_be_visible()
