"""Hostile values, bad files and pages of other people, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import pocoflow
from pocoflow import Flow, Node, Store, WorkflowDB
from tests.browser.clicks import open_tab

MONITOR = Path(pocoflow.__file__).parent / "ui" / "monitor.py"
EVIL = (
    '<script>window.hacked=1</script><img src=x onerror="window.hacked=1"> **bold** _it_ '
    "[link](javascript:hacked) :smile: :red[red] $x^2$ `code`"
)
TURNED = "abc\u202edef"


class Hostile(Node):
    max_retries = 2

    def __init__(self, name: str, *, fails: bool) -> None:
        super().__init__(name=name)
        self.fails = fails

    def exec(self, prep_result: Any) -> None:
        if self.fails:
            raise ValueError(EVIL + TURNED)

    def post(self, store: Store[Any], prep: None, result: None) -> str:
        store[f"key {EVIL}"] = EVIL
        store["turned"] = TURNED
        store["huge"] = "<b>x</b>" * 625_000  # 5 MB
        store["client"] = object()
        return f"action {EVIL}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database whose every name and value is hostile."""
    made = tmp_path_factory.mktemp("hostile")
    first, last = Hostile(f"node {EVIL}", fails=False), Hostile(f"last {TURNED}", fails=True)
    first.then(f"action {EVIL}", last)
    flow = Flow(
        start=first,
        flow_name=f"flow {EVIL}{TURNED}",
        db_path=made / "runs.db",
        run_id=f"run {EVIL}",
    )
    with pytest.raises(ValueError, match="script"):
        flow.run({})
    Flow(start=Node(), flow_name="plain", db_path=made / "runs.db", run_id="plain-1").run({})
    return made


@pytest.fixture(scope="module")
def url(folder: Path, serve: Callable[..., str]) -> str:
    """The monitor on that database, started by the documented command."""
    return serve(folder, "streamlit", "run", str(MONITOR), "--", "runs.db")


def is_inert(page: Page) -> None:
    """Nothing that came from a run has been carried out, or has become markup."""
    assert page.evaluate("window.hacked") is None
    main = page.locator(".stMain")
    for tag in ("script", "img", "strong >> text=bold", "em", "a[href*=javascript]", ".katex"):
        assert main.locator(tag).count() == 0, tag
    assert "\u202e" not in main.inner_text()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 420)])
def test_values_of_runs_are_shown_as_text(
    url: str,
    visit: Callable[..., Page],
    shoot: Callable[[Page, str], None],
    scheme: str,
    width: int,
) -> None:
    """Script tags, Markdown, 5 MB strings and marks that turn text around are inert everywhere."""
    page = visit(f"{url}?refresh=off", scheme=scheme, width=width)
    table = page.get_by_role("table", name="Runs, the newest first")
    expect(table.get_by_role("row")).to_have_count(3)
    _unfold(page, "Counts and failure rate of each flow")
    expect(page.get_by_role("table", name="Runs by flow")).to_be_visible()
    is_inert(page)
    shoot(page, f"runs-{scheme}-{width}")
    page.get_by_role("button", name=f"Open run run {EVIL}").click()
    expect(page.get_by_test_id("stGraphVizChart").locator("svg")).to_contain_text("failed · here")
    for tab, text in {
        "Graph": "Solid edges were taken",
        "Timeline": "node_retry",
        "Errors": "ended the run",
        "Store": "turned",
        "Resume": "Ready to be pasted",
    }.items():
        open_tab(page, tab)
        expect(page.locator(".stMain")).to_contain_text(text)
        if tab == "Store":
            _values(page)
        is_inert(page)
        shoot(page, f"{tab.lower()}-{scheme}-{width}")


def _unfold(page: Page, title: str) -> None:
    """Open an expander; clicked again if Streamlit drew it anew under the click, closed."""
    folded = page.locator("details").filter(has=page.get_by_text(title, exact=True))
    for _ in range(3):
        expect(page.get_by_test_id("stApp")).to_have_attribute(
            "data-test-script-state", "notRunning"
        )
        if folded.get_attribute("open") is None:
            folded.locator("summary").click()
        try:
            expect(folded).to_have_attribute("open", "", timeout=5_000)
        except AssertionError:
            continue
        return
    expect(folded).to_have_attribute("open", "")


def _values(page: Page) -> None:
    page.get_by_role("button", name="Show the value of huge").click()
    expect(page.get_by_text("huge, 5,000,002 characters")).to_be_visible()
    expect(page.get_by_text("abc\\u202edef").first).to_be_visible()
    expect(page.get_by_text("not saved").first).to_be_visible()
    _unfold(page, "Raw JSON")
    expect(page.get_by_role("button", name="Download the store")).to_be_visible()


@pytest.mark.parametrize(
    ("zone", "said", "shown"),
    [
        ("Australia/Darwin", "Australia/Darwin (now UTC+9:30)", "2026-01-01 21:30:00"),
        ("America/Caracas", "America/Caracas (now UTC-4)", "2026-01-01 08:00:00"),
        ("UTC", "UTC", "2026-01-01 12:00:00"),
    ],
)
def test_the_page_says_in_which_zone_its_times_are(
    zone: str,
    said: str,
    shown: str,
    tmp_path: Path,
    serve: Callable[..., str],
    visit: Callable[..., Page],
) -> None:
    """Times are in the zone of the browser, and the head of the page names it, once."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        begun = {"started_at": "2026-01-01T12:00:00+00:00", "status": "completed"}
        db.insert_run({"run_id": "r", **begun})
    page = visit(serve(tmp_path, "streamlit", "run", str(MONITOR), "--", "runs.db"), zone=zone)
    head = page.get_by_label("The database")
    expect(head.locator("dt", has_text="Times in").locator("~ dd")).to_have_text(said)
    expect(page.get_by_role("row").get_by_text(shown)).to_be_visible()


def test_filters_and_links_lead_to_the_same_page(url: str, visit: Callable[..., Page]) -> None:
    """What was filtered and opened is in the address, and the address leads back to it."""
    page = visit(f"{url}?refresh=off")
    table = page.get_by_role("table", name="Runs, the newest first")
    page.get_by_role("combobox", name="Status").click()
    page.get_by_role("option", name="completed").click()
    expect(table.get_by_role("row")).to_have_count(2)
    page.get_by_role("button", name="Open run plain-1").click()
    open_tab(page, "Timeline")
    expect(page.get_by_role("table", name="Events")).to_be_visible()
    again = visit(page.url)
    expect(again.get_by_role("table", name="Events")).to_be_visible()
    expect(
        again.get_by_role("table", name="Runs, the newest first").get_by_role("row")
    ).to_have_count(2)
    again.get_by_role("textbox", name="Search").fill("no such run")
    again.get_by_role("textbox", name="Search").press("Enter")
    expect(again.get_by_text("No run matches")).to_be_visible()


HOST = """
import streamlit as st
from pocoflow.ui.monitor import render_workflow_monitor

st.session_state.setdefault("count", 0)
st.session_state.count += 1
st.text(f"the host ran {st.session_state.count} times")
render_workflow_monitor("runs.db")
render_workflow_monitor("missing.db")
st.text(f"host state: {sorted(key for key in st.session_state if '.' not in key)}")
st.text(f"host query: {st.query_params.get('run')}")
"""


def test_two_monitors_live_in_a_page_of_somebody_else(
    folder: Path,
    serve: Callable[..., str],
    visit: Callable[..., Page],
    shoot: Callable[[Page, str], None],
) -> None:
    """Embedded twice it takes no name of the host, does not run it again, and makes no file."""
    (folder / "host.py").write_text(HOST, encoding="utf-8")
    page = visit(serve(folder, "streamlit", "run", "host.py") + "?run=of-the-host")
    expect(page.get_by_text("there is no database missing.db")).to_be_visible()
    page.get_by_role("button", name="Open run plain-1").click()
    expect(page.get_by_role("tab", name="Graph")).to_be_visible()
    open_tab(page, "Store")
    expect(page.get_by_text("The store is empty here.")).to_be_visible()
    expect(page.get_by_text("the host ran 1 times")).to_be_visible()
    expect(page.get_by_text("host state: ['count']")).to_be_visible()
    expect(page.get_by_text("host query: of-the-host")).to_be_visible()
    assert "run=of-the-host" in page.url
    shoot(page, "embedded")
    assert not (folder / "missing.db").exists()


def test_a_refresh_keeps_selection_scroll_and_focus(
    tmp_path: Path, serve: Callable[..., str], visit: Callable[..., Page]
) -> None:
    """New runs come in at the top while somebody reads further down, and nothing is lost."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        for number in range(60):
            db.insert_run({"run_id": f"run-{number}", "status": "completed"})
    address = serve(tmp_path, "pocoflow", "monitor", "runs.db", "--port", "PORT")
    page = visit(f"{address}?refresh=1+s")
    page.get_by_role("button", name="Open run run-20", exact=True).click()
    chosen = page.get_by_role("row").filter(has_text="run-20")
    expect(chosen).to_have_attribute("aria-current", "true")
    region = page.get_by_role("region", name="Runs, the newest first")
    region.evaluate("element => { element.scrollTop = 300 }")
    page.get_by_role("button", name="Open run run-30", exact=True).focus()
    scrolled = region.evaluate("element => element.scrollTop")
    assert scrolled >= 300
    with WorkflowDB(tmp_path / "runs.db") as db:
        db.insert_run({"run_id": "newest", "status": "completed"})
    expect(page.get_by_role("row").filter(has_text="newest")).to_have_count(1)
    expect(chosen).to_have_attribute("aria-current", "true")
    expect(page.get_by_role("button", name="Open run run-30", exact=True)).to_be_focused()
    assert region.evaluate("element => element.scrollTop") >= scrolled
