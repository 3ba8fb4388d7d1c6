"""Pages of other sites that reach the port of the monitor."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from pocoflow import WorkflowDB

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture
def address(tmp_path: Path, serve: Callable[..., str]) -> str:
    """A monitor of a database with a run."""
    with WorkflowDB(tmp_path / "runs.db") as db:
        db.create_run("secret-run")
    return serve(tmp_path, "pocoflow", "monitor", "runs.db", "--port", "PORT")


def ask(address: str, host: str, path: str, headers: dict[str, str]) -> int:
    """The status of the answer to a request that is addressed to a host."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    try:
        connection.putrequest("GET", path, skip_host=True)
        for name, value in {"Host": host, **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_server_answers_to_its_own_names_only(address: str) -> None:
    """Page, health and stream are refused to whoever calls the server by another name."""
    own = urlsplit(address).netloc
    for path, headers, status in (("/", {}, 200), ("/_stcore/stream", UPGRADE, 101)):
        assert ask(address, own, path, headers) == status
        assert ask(address, own.replace("127.0.0.1", "localhost"), path, headers) == status
        for host in ("evil.example", own.replace("127.0.0.1", "evil.example"), "127.0.0.1:1"):
            assert ask(address, host, path, headers) in (403, 421)


@pytest.fixture
def framing(address: str) -> Iterator[str]:
    """A page of another site with the monitor in a frame."""
    page = f"<iframe id=f src='{address}'></iframe>".encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_another_site_does_not_show_it_in_a_frame(browser: Browser, framing: str) -> None:
    """What is clicked on a page of another site is never the monitor beneath."""
    page = browser.new_page()
    try:
        page.goto(framing)
        inner = page.frames[1]
        inner.wait_for_load_state()
        assert inner.url.startswith("chrome-error:")
    finally:
        page.close()
