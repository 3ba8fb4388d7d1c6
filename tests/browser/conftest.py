"""A real Chromium, the monitor served as a user serves it, and a folder for what was seen."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from playwright.sync_api import (
    Browser,
    Page,
    Playwright,
    TimeoutError,
    expect,
    sync_playwright,
)

import pocoflow

ROOT = Path(pocoflow.__file__).parents[1]
SHOTS = Path(os.environ.get("POCOFLOW_SCREENSHOTS", "build/screenshots"))
DEADLINE = 120.0

expect.set_options(timeout=120_000)

Serve: TypeAlias = Callable[..., str]
Open: TypeAlias = Callable[..., Page]
Shoot: TypeAlias = Callable[[Page, str], None]


def _chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return found
    raise AssertionError(
        "the browser tests need Chromium: apt-get install chromium, or put google-chrome on PATH"
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a module, which reaches nothing but this machine.

    Not for all tests: while it is there, an event loop runs in this thread.
    """
    with sync_playwright() as playwright:
        try:
            started = _launch(playwright)
        except TimeoutError:
            started = _launch(playwright)  # on a busy machine Chromium may hang before it begins
        yield started
        started.close()


def _launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(
        executable_path=_chromium(),
        timeout=60_000,
        args=[
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ],
    )


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """A function that opens an address; nothing outside may be asked for, nothing may go wrong."""
    contexts = []
    outside: list[str] = []
    errors: list[str] = []

    def begin(
        url: str, *, width: int = 1280, scheme: str = "light", zone: str | None = None
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            accept_downloads=True,
            timezone_id=zone,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"a dialog: {dialog.message}"))
        page.on("request", lambda request: outside.append(request.url))
        page.goto(url)
        return page

    yield begin
    for context in contexts:
        context.close()
    local = ("http://127.0.0.1:", "ws://127.0.0.1:", "blob:", "data:")
    assert [url for url in outside if not url.startswith(local)] == []
    assert errors == []


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """A function that starts a server of Streamlit and returns its address."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, *command: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = [part.replace("PORT", str(port)) for part in command]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "STREAMLIT_SERVER_HEADLESS": "true",
            "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
            "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
            "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
            "STREAMLIT_SERVER_PORT": str(port),
        }
        log = (folder / f"server-{port}.log").open("wb")
        with log:
            server = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        servers.append(server)
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, Path(log.name))
        return f"http://127.0.0.1:{port}/"

    yield start
    for server in servers:
        server.terminate()
        server.wait(DEADLINE)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    pause = threading.Event()
    for _ in range(int(DEADLINE / 0.1)):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE):
                return
        except (urllib.error.URLError, ConnectionError):
            pause.wait(0.1)
    raise AssertionError(f"no server at {url} after {DEADLINE} s: {log.read_text()}")


@pytest.fixture
def shoot() -> Shoot:
    """A function that keeps a picture of the whole page, for people to look at."""
    SHOTS.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str) -> None:
        width = (page.viewport_size or {"width": 1280})["width"]
        # Streamlit scrolls inside of the page: make the window as high as what is in it.
        height = page.locator(".stMain").evaluate("element => element.scrollHeight")
        page.set_viewport_size({"width": width, "height": min(int(height) + 8, 6000)})
        page.screenshot(path=SHOTS / f"{name}.png")
        page.set_viewport_size({"width": width, "height": 900})

    return take
