"""Answering what runs ask, in a real browser; the runs go on where their code is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Locator, Page, expect

from pocoflow import WorkflowDB
from pocoflow.errors import AnsweredError
from tests.browser.clicks import open_tab

HERE = Path(__file__).parent
DEADLINE = 120.0


def program(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run Python in a folder, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


def begin(folder: Path, run_id: str) -> None:
    """Run the flow in a process of its own until it waits for answers."""
    assert program(folder, str(HERE / "approving.py"), "runs.db", run_id) == f"{run_id}\n"


def resume(folder: Path, run_id: str, code: int) -> str:
    """Go on with a run from the command line."""
    target = f"{HERE / 'approving.py'}:flow"
    words = ("-m", "pocoflow", "resume", run_id, target, "--db", "runs.db")
    return program(folder, *words, code=code)


def card(page: Page, question: int) -> Locator:
    """What is shown of an open question, with its form."""
    return page.locator(f".st-key-question-{question}")


def settled(page: Page) -> None:
    """Wait until the page is drawn: a click while parts move may meet nothing."""
    app = page.get_by_test_id("stApp")
    expect(app).to_have_attribute("data-test-script-state", "notRunning")


def choose(page: Page, question: int, option: str) -> None:
    """Choose a decision; again if the list closed under the clicks, as the page still grew."""
    box = card(page, question).get_by_role("combobox", name="Decision")
    for _ in range(40):
        settled(page)
        try:
            box.click(timeout=3_000)
            page.get_by_role("option", name=option).click(timeout=3_000)
            expect(box).to_have_value(option, timeout=3_000)
        except (AssertionError, Error):
            continue
        return
    expect(box).to_have_value(option)


def send(page: Page, question: int) -> None:
    """Press the button of a form."""
    settled(page)
    card(page, question).get_by_role("button", name="Answer", exact=True).click()


def cancel(page: Page) -> None:
    """Cancel the run; clicked again if Streamlit drew the button anew under the click."""
    button = page.get_by_role("button", name="Cancel the run")
    for _ in range(3):
        settled(page)
        button.click()
        try:
            expect(button).to_have_count(0, timeout=10_000)
        except AssertionError:
            continue
        break


def say(page: Page, question: int, word: str) -> None:
    """Answer yes or no; once more if Streamlit drew the form anew under the clicks."""
    form = card(page, question)
    for _ in range(3):
        try:
            expect(form.get_by_role("radiogroup")).to_have_count(1)
            settled(page)
            form.get_by_text(word, exact=True).click(timeout=5_000)
            send(page, question)
            expect(form).to_have_count(0, timeout=10_000)
        except (AssertionError, Error):
            continue
        return
    expect(form).to_have_count(0)


def fact(page: Page, name: str) -> Locator:
    """A fact of the run that is looked at."""
    pair = page.get_by_label("The run", exact=True).locator("div").filter(has_text=name)
    return pair.locator("dd").first


def answers(page: Page) -> Locator:
    """The rows of what was answered."""
    open_tab(page, "Questions")
    table = page.get_by_role("table", name="Questions and answers")
    expect(table).to_be_visible()
    return table.get_by_role("row")


def is_inert(page: Page) -> None:
    """Nothing that came from a run has been carried out, or has become markup."""
    assert page.evaluate("window.hacked") is None
    main = page.locator(".stMain")
    for tag in ("script", "img", 'strong >> text="bold"', "em", "a[href*=javascript]", ".katex"):
        assert main.locator(tag).count() == 0, tag


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """A function that reads what a run has asked and was answered."""

    def read(run_id: str) -> list[dict[str, Any]]:
        with WorkflowDB(tmp_path / "runs.db", read_only=True) as db:
            return [one.as_json() for one in db.get_questions(run_id)]

    return read


def test_a_run_is_answered_in_the_browser_and_resumed(
    tmp_path: Path,
    serve: Callable[..., str],
    visit: Callable[..., Page],
    shoot: Callable[[Page, str], None],
    kept: Callable[[str], list[dict[str, Any]]],
) -> None:
    """A form takes what fits and says what does not; the run goes on to its end in a terminal."""
    begin(tmp_path, "article-1")
    url = serve(tmp_path, "pocoflow", "monitor", "runs.db", "--port", "PORT")
    page = visit(f"{url}?refresh=1+s")
    row = page.get_by_role("table", name="Runs, the newest first").get_by_role("row").nth(1)
    expect(row).to_contain_text("paused")
    expect(row).to_contain_text("waits for 1 answer")
    page.get_by_role("button", name="Open run article-1").click()
    expect(page.get_by_test_id("stGraphVizChart")).to_contain_text("paused · here")
    expect(page.get_by_test_id("stGraphVizChart")).to_contain_text("1 question")

    _fill_in(page, shoot)
    (one,) = kept("article-1")
    assert one["answered_by"] == "Ann"
    assert one["answer"] == {
        "decision": "revise",
        "comment": "Shorter,\nplease",
        "stars": 4,
        "weight": 0.25,
        "is_urgent": False,
        "tags": ["new"],
        "due": None,
    }

    assert "2 questions to be answered" in resume(tmp_path, "article-1", code=3)
    for number, said in ((2, "Yes"), (3, "No")):
        # The name is remembered.
        expect(card(page, number).get_by_label("Answered by")).to_have_value("Ann")
        say(page, number, said)
    assert resume(tmp_path, "article-1", code=0) == "run article-1 is completed\n"
    expect(fact(page, "Status")).to_have_text("✅ completed")
    assert [one["answer"] for one in kept("article-1")[1:]] == [True, False]
    with WorkflowDB(tmp_path / "runs.db", read_only=True) as db:
        last = json.loads(db.get_checkpoints("article-1")[-1]["store_json"])
    assert last["printed"] == [True, False]


def _fill_in(page: Page, shoot: Callable[[Page, str], None]) -> None:
    """Answer wrongly, wrongly in another way, and well."""
    form = card(page, 1)
    expect(form).to_contain_text("The tide comes in twice a day.")
    is_inert(page)
    shoot(page, "question-open")
    form.get_by_label("Stars (optional)").fill("9")
    form.get_by_label("Tags (optional)").fill("[new")
    send(page, 1)
    refusal = form.get_by_role("alert")
    expect(refusal).to_contain_text("the question is still open")
    expect(refusal).to_contain_text("decision: a value is needed")
    expect(refusal).to_contain_text("tags: not JSON")
    choose(page, 1, "revise")
    form.get_by_label("Tags (optional)").fill('["new"]')
    send(page, 1)
    expect(refusal).to_contain_text("stars: 9 is greater than the maximum of 5")
    shoot(page, "question-refused")
    form.get_by_label("Stars (optional)").fill("4")
    form.get_by_label("Comment (optional)").fill("Shorter,\nplease")
    form.get_by_text("No", exact=True).click()
    form.get_by_label("Answered by").fill("Ann")
    send(page, 1)
    expect(page.get_by_text("All questions are answered")).to_be_visible()
    expect(page.get_by_text("pocoflow resume article-1 FLOW --db")).to_be_visible()
    expect(answers(page).nth(1)).to_contain_text("Ann")
    shoot(page, "question-answered")


def test_who_is_second_is_told_so(
    tmp_path: Path, serve: Callable[..., str], visit: Callable[..., Page]
) -> None:
    """Of two people who answer, the second reads who was first, and the first answer stays."""
    begin(tmp_path, "article-1")
    url = serve(tmp_path, "pocoflow", "monitor", "runs.db", "--port", "PORT")
    page = visit(f"{url}?refresh=off&run=article-1")
    form = card(page, 1)
    choose(page, 1, "revise")
    with WorkflowDB(tmp_path / "runs.db") as db:
        db.answer_json("article-1", {"decision": "publish"}, by="Bob")
    send(page, 1)
    told = page.get_by_role("alert")
    expect(told).to_contain_text("Your answer was not taken")
    expect(told).to_contain_text("was answered by Bob")
    expect(form).to_have_count(0)
    with WorkflowDB(tmp_path / "runs.db") as db, pytest.raises(AnsweredError, match="by Bob"):
        db.answer_json("article-1", {"decision": "revise"})


def test_with_the_flow_a_run_goes_on_or_is_cancelled(
    tmp_path: Path, serve: Callable[..., str], visit: Callable[..., Page]
) -> None:
    """A monitor that was given the flow goes on with the run itself, and cancels one that waits."""
    begin(tmp_path, "article-1")
    target = f"{HERE / 'approving.py'}:flow"
    url = serve(tmp_path, "pocoflow", "monitor", "runs.db", "--flow", target, "--port", "PORT")
    page = visit(f"{url}?refresh=1+s&run=article-1&tab=Resume")
    choose(page, 1, "publish")
    send(page, 1)
    page.get_by_role("button", name="Go on with the run").click()
    expect(fact(page, "Questions")).to_have_text("waits for 2 answers")
    expect(card(page, 3).get_by_role("button", name="Answer", exact=True)).to_be_visible()
    cancel(page)
    expect(fact(page, "Status")).to_have_text("⏹️ cancelled")
    expect(card(page, 2)).to_have_count(0)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 420)])
def test_a_question_is_readable_on_every_page(
    tmp_path: Path,
    serve: Callable[..., str],
    visit: Callable[..., Page],
    shoot: Callable[[Page, str], None],
    scheme: str,
    width: int,
) -> None:
    """What a run asks is text, nothing of it markup, and fits the page."""
    begin(tmp_path, "article-1")
    url = serve(tmp_path, "pocoflow", "monitor", "runs.db", "--port", "PORT")
    page = visit(f"{url}?refresh=off&run=article-1", scheme=scheme, width=width)
    expect(card(page, 1).get_by_role("button", name="Answer", exact=True)).to_be_visible()
    expect(page.get_by_test_id("stGraphVizChart")).to_contain_text("1 question")
    is_inert(page)
    fits = "element => element.scrollWidth <= element.clientWidth"
    assert page.locator(".stMain").evaluate(fits)
    shoot(page, f"questions-{scheme}-{width}")
