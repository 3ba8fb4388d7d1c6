"""Clicks that a page may lose: Streamlit draws anew what is clicked, and nobody gets the click."""

from __future__ import annotations

from playwright.sync_api import Page, expect

__all__ = ["download", "open_tab"]


def open_tab(page: Page, name: str) -> None:
    """Open a tab; clicked again if the page was drawn anew under the click."""
    tab = page.get_by_role("tab", name=name)
    for _ in range(40):  # two minutes, as for all that a page does
        tab.click()
        try:
            expect(tab).to_have_attribute("aria-selected", "true", timeout=3_000)
        except AssertionError:
            continue
        return
    raise AssertionError(f"the tab {name!r} cannot be opened")


def download(page: Page, name: str) -> str:
    """The text of the file that a button gives; again if Streamlit removed it at a refresh."""
    failure: str | None = None
    for _ in range(5):
        with page.expect_download() as given:
            page.get_by_role("button", name=name).click()
        failure = given.value.failure()
        if failure is None:
            return given.value.path().read_text(encoding="utf-8")
    raise AssertionError(f"the button {name!r} gives no file: {failure}")
