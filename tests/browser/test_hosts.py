"""The flow of tests/integration/hosts on a Streamlit page, in a real browser."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from pocoflow import WorkflowDB
from tests.integration.hosts.reading import TEXT, expected

if TYPE_CHECKING:
    from tests.browser.conftest import Open, Serve

PAGE = Path(__file__).parents[1] / "integration" / "hosts" / "page.py"
DEADLINE = 120.0


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[int]:
    """The end of a named pipe whose lines the page's flow waits for."""
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDWR)
    yield end
    os.write(end, b"whoever still waits\n")
    os.close(end)


@pytest.fixture
def page(
    tmp_path: Path, pipe: int, serve: Serve, visit: Open, monkeypatch: pytest.MonkeyPatch
) -> Page:
    """The page, served as a user serves it."""
    monkeypatch.setenv("READING_DB", str(tmp_path / "runs.db"))
    monkeypatch.setenv("READING_PIPE", str(tmp_path / "pipe"))
    return visit(serve(tmp_path, "streamlit", "run", str(PAGE)))


def click(page: Page, name: str) -> None:
    """Click a button of the page."""
    page.get_by_role("button", name=name, exact=True).click()


def statuses(folder: Path) -> list[tuple[str, str]]:
    """The flows of the runs and how they stand."""
    with WorkflowDB(folder / "runs.db", read_only=True) as db:
        return [(run["flow_name"], run["status"]) for run in db.list_runs()]


def test_a_page_runs_a_flow_at_each_click(page: Page, tmp_path: Path) -> None:
    """Click after click, each a rerun, a page runs and streams a flow, also one that it defines."""
    for number in (1, 2):
        click(page, "Run")
        expect(page.get_by_text(f"runs: {number}", exact=True)).to_be_visible()
        assert page.get_by_test_id("stCode").inner_text().strip() == expected(TEXT)
        click(page, "Stream")
        expect(page.get_by_text("streamed 5 steps")).to_be_visible()
        shown = page.get_by_test_id("stText").inner_text().strip().splitlines()
        assert sorted(shown) == sorted(["The", "Nobody", "The", *expected(TEXT).splitlines()])
        click(page, "Page's own")
        expect(page.get_by_text(f"5 lines, counted {number} times")).to_be_visible()
    completed = {("read", "completed"): 4, ("own", "completed"): 2}
    assert Counter(statuses(tmp_path)) == completed


def test_a_rerun_ends_a_stream_at_its_next_event(page: Page, tmp_path: Path, pipe: int) -> None:
    """Streamlit stops a script that streams when it shows the next event; that cancels the run."""
    click(page, "Wait")
    expect(page.get_by_text("waiting", exact=True)).to_be_visible()
    click(page, "Do nothing")
    expect(page.get_by_text("nothing done", exact=True)).to_be_visible()
    assert statuses(tmp_path) == [("wait", "running")]
    os.write(pipe, b"the next event\n")
    pause = threading.Event()
    for _ in range(int(DEADLINE / 0.01)):
        if statuses(tmp_path) != [("wait", "running")]:
            break
        pause.wait(0.01)
    assert statuses(tmp_path) == [("wait", "cancelled")]
    click(page, "Run")
    expect(page.get_by_text("runs: 1", exact=True)).to_be_visible()
