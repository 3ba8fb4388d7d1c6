"""Who the monitor talks to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pocoflow.ui.guard import OwnHost, is_own

OWN = [
    "127.0.0.1:8501",
    "localhost:8501",
    "LOCALHOST:8501",
    "[::1]:8501",
    "proxy.lan",
    "proxy.lan:1",
]
FOREIGN = [
    "evil.example",
    "evil.example:8501",
    "127.0.0.1",
    "127.0.0.1:8502",
    "localhost.evil.example:8501",
    "127.0.0.1.evil.example:8501",
    "127.0.0.1:8501@evil.example",
    "evil@127.0.0.1:8501",
    "evil.example/127.0.0.1:8501",
    "evil.example#@127.0.0.1:8501",
    "evil.example?127.0.0.1:8501",
    "127.0.0.1:8501x",
    "127.0.0.1:99999",
    "[::1",
    "not-proxy.lan",
    "",
    " ",
]


def talk(kind: str, *hosts: str) -> list[dict[str, Any]]:
    """What a server behind the guard sends for a request with these Host headers."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"secret"})
        else:
            await send({"type": "websocket.accept"})

    async def receive() -> dict[str, Any]:
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", host.encode()) for host in hosts]
    guard = OwnHost(app, port=8501, others=["Proxy.lan"])
    asyncio.run(guard({"type": kind, "headers": headers}, receive, send))
    return sent


@pytest.mark.parametrize("host", OWN)
def test_who_calls_the_monitor_by_its_name_is_answered(host: str) -> None:
    """This machine's names for itself with the port of the monitor, and those that were allowed."""
    start, body = talk("http", host)
    assert start["status"] == 200
    assert (b"content-security-policy", b"frame-ancestors 'self'") in start["headers"]
    assert (b"x-frame-options", b"SAMEORIGIN") in start["headers"]
    assert body["body"] == b"secret"
    assert talk("websocket", host) == [{"type": "websocket.accept"}]


@pytest.mark.parametrize("host", FOREIGN)
def test_who_calls_it_by_another_name_is_refused(host: str) -> None:
    """A page whose name was made to point here sends its own name, and gets nothing."""
    start, body = talk("http", host)
    assert start["status"] == 421
    assert b"--allow-host" in body["body"]
    assert [message["type"] for message in talk("websocket", host)] == ["websocket.close"]


def test_a_server_for_others_is_called_by_numbers_and_given_names() -> None:
    """Started for a network, the page is shown by its address, as no site can take that over."""
    assert is_own("192.168.1.5:8501", None)
    assert is_own("[fe80::1]:8501", None)
    assert is_own("localhost:1", None)
    assert is_own("box.lan", None, ["box.lan"])
    assert not is_own("evil.example:8501", None, ["box.lan"])
    assert not is_own("1.2.3.4.evil.example", None)


def test_two_names_or_none_are_refused() -> None:
    """Which of two names counts would be a matter of taste."""
    assert talk("http")[0]["status"] == 421
    assert talk("http", "127.0.0.1:8501", "evil.example")[0]["status"] == 421
    assert talk("websocket")[0]["type"] == "websocket.close"


def test_the_life_of_the_server_goes_through() -> None:
    """What is no request is not looked at."""
    assert talk("lifespan") == [{"type": "websocket.accept"}]
