"""Access to the monitor: only by one of its own names, and not inside another page."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

_LOCAL = ("127.0.0.1", "localhost", "::1")

_NOT_FRAMED = [
    (b"content-security-policy", b"frame-ancestors 'self'"),
    (b"x-frame-options", b"SAMEORIGIN"),
]
_REFUSED = "This monitor does not go by that name: pocoflow monitor --allow-host NAME adds one.\n"


def is_own(host: str | None, port: int | None, others: Iterable[str] = ()) -> bool:
    """Whether a ``Host`` header names this machine as itself, or one of the other names.

    Another site can make its name resolve to this machine, so that its pages would have the origin
    of the monitor (DNS rebinding): but its name is in this header.

    Args:
        host: The header.
        port: The port of the server, if it serves this machine alone; ``None`` if it also serves
            others, which call it by its IP address, as that cannot be rebound.
        others: Further names of the server, with any port.
    """
    try:
        parts = urlsplit(f"//{host}")
        name, given = parts.hostname, parts.port
    except ValueError:
        return False
    if name is None or host is None or parts.netloc != host or parts.username is not None:
        return False
    if name in {other.lower() for other in others}:
        return True
    if port is None:
        return name == "localhost" or _is_ip_address(name)
    return name in _LOCAL and (80 if given is None else given) == port


def _is_ip_address(name: str) -> bool:
    with suppress(ValueError):
        return bool(ip_address(name))
    return False


class OwnHost:
    """Middleware of a server: refuses requests to other hosts, and framing by other pages."""

    def __init__(self, app: ASGIApp, port: int, others: Iterable[str] = ()) -> None:
        self._app = app
        self._port = port
        self._others = tuple(others)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1 or not is_own(hosts[0], self._port, self._others):
            is_socket = scope["type"] == "websocket"
            refuse = WebSocketClose(1008) if is_socket else PlainTextResponse(_REFUSED, 421)
            await refuse(scope, receive, send)
            return

        async def not_framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_NOT_FRAMED]
            await send(message)

        await self._app(scope, receive, not_framed)
