"""The application of ``examples/letter_app_web.py`` in a real browser, with a worker beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from examples.letter_app import words
from pocoflow import WorkflowDB
from tests.serving import ROOT, Service

SHOTS = Path(os.environ.get("POCOFLOW_SCREENSHOTS", "build/screenshots"))
DEADLINE = 120.0


class Application:
    """The service and a worker, which can be killed."""

    def __init__(self, folder: Path, pace: float) -> None:
        self.database = folder / "letters.db"
        variables = {"LETTER_DB": str(self.database), "LETTER_PACE": str(pace)}
        self._environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
        self._folder = folder
        self.service = Service("examples.letter_app_web:app", folder, variables)
        self._worker = self._work()
        self.url = f"http://127.0.0.1:{self.service.port}/"

    def _work(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pocoflow", "worker", "examples.letter_app:flow"]
        with (self._folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )

    def kill_worker(self) -> None:
        """Kill the worker, and start another one."""
        self.end()
        self._worker = self._work()

    def end(self) -> None:
        """Kill the worker."""
        self._worker.kill()
        self._worker.wait(DEADLINE)

    def letters(self) -> list[str]:
        """What was sent, the last one first."""
        with WorkflowDB(self.database, read_only=True) as db:
            runs = [run for run in db.list_runs() if run["status"] == "completed"]
            steps = [(run["run_id"], run["total_steps"] - 1) for run in runs]
            return [db.load_checkpoint(*step)["letter"] for step in steps]


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    """The application, at a pace at which there is time for something to happen."""
    started = Application(tmp_path, 0.05)
    with started.service:
        yield started
        started.end()


def write(page: Page, to: str) -> None:
    """Ask for a letter."""
    page.get_by_label("To", exact=True).fill(to)
    page.get_by_label("About").fill("the tide")
    page.get_by_role("button", name="Write").click()


def expected(to: str) -> str:
    """The letter as the stand-in for a model writes it."""
    return "".join(words(to, "the tide")).strip()


def test_a_letter_is_written_and_sent(application: Application, visit: Any) -> None:
    """Words come one by one, the page is loaded again in the middle, and the letter is sent."""
    page = visit(application.url)
    write(page, "Ada")
    paper = page.locator("#draft")
    expect(paper).to_contain_text("for your patience")
    expect(page.get_by_role("status")).to_have_text("It is being written.")
    page.reload()
    expect(paper).to_contain_text("for your patience")
    draft = page.get_by_label("Shall it be sent like this?")
    expect(draft).to_have_value(expected("Ada"), timeout=DEADLINE * 1000)
    page.reload()  # while it waits, too
    expect(draft).to_have_value(expected("Ada"))
    page.get_by_role("button", name="Send it").click()
    expect(page.get_by_role("status")).to_have_text("It was sent.")
    expect(paper).to_have_text(expected("Ada"))
    expect(page.get_by_role("listitem")).to_have_text("Adasent")
    assert application.letters() == [expected("Ada")]


def test_a_letter_survives_those_who_write_it(application: Application, visit: Any) -> None:
    """A worker and the server are killed in the middle; no word is lost, or there twice."""
    page = visit(application.url)
    write(page, "Bob")
    paper = page.locator("#draft")
    expect(paper).to_contain_text("for your patience")
    application.kill_worker()
    application.service.kill()
    draft = page.get_by_label("Shall it be sent like this?")
    expect(draft).to_have_value(expected("Bob"), timeout=DEADLINE * 1000)
    edit = page.get_by_role("button", name="Send what I have changed")
    expect(edit).to_be_disabled()
    draft.fill("Hi Bob!")
    edit.click()
    expect(page.get_by_role("status")).to_have_text("It was sent.", timeout=DEADLINE * 1000)
    expect(paper).to_have_text("Hi Bob!")
    assert application.letters() == ["Hi Bob!"]


def test_a_letter_is_stopped_and_belongs_to_its_user(application: Application, visit: Any) -> None:
    """A user stops a letter; another one neither sees it in the list nor by its address."""
    page = visit(application.url)
    write(page, "Zoe")
    expect(page.locator("#draft")).to_contain_text("Dear Zoe")
    page.get_by_label("Shall it be sent like this?").wait_for()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_have_text("The letter stopped.")
    other = visit(page.url)
    expect(other.get_by_role("status")).to_have_text("There is no such letter.")
    expect(other.get_by_role("listitem")).to_have_count(0)


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")], ids=str
)
def test_the_page_fits(application: Application, visit: Any, width: int, scheme: str) -> None:
    """Nothing is wider than the window, in light and dark; a picture of it is kept."""
    page = visit(application.url, width=width, scheme=scheme)
    write(page, "Ada Lovelace")
    draft = page.get_by_label("Shall it be sent like this?")
    draft.wait_for(timeout=DEADLINE * 1000)
    wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert wide
    page.screenshot(path=SHOTS / f"letters-{width}-{scheme}.png", full_page=True)
