"""The committed events of a run as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping

from pydantic_core import PydanticSerializationError
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pocoflow.address import Address
from pocoflow.errors import RunNotFoundError
from pocoflow.ext.web.owned import WebLimits
from pocoflow.graph.event_types import (
    Emitted,
    EmittedVoid,
    FlowPaused,
    Followed,
    NodeAsked,
    NodeEnded,
    NodeEvent,
    NodeFailed,
    NodeRetried,
)
from pocoflow.logging import OwnLogger
from pocoflow.values.json_text import as_json

_log = OwnLogger("web")

_HEADERS = {"X-Accel-Buffering": "no"}
"""Asks nginx and similar proxies not to buffer the stream."""

RETRY = b"retry: 1000\n\n"
"""The milliseconds after which a browser reconnects when the stream has ended."""


_PARTS: Mapping[type, tuple[str, ...]] = {
    NodeEnded: ("action",),
    NodeRetried: ("attempt", "item"),
    NodeFailed: ("is_caught",),
    NodeAsked: ("item",),
    Emitted: ("value", "item"),
    EmittedVoid: ("numbers",),
    FlowPaused: ("questions",),
}
"""What the owner of a run sees of an event, besides its time and its node."""


def shown_event(entry: Followed) -> dict[str, object]:
    """The parts of an event that the owner of a run sees: no exception, nor parts of one."""
    event = entry.event
    facts: dict[str, object] = {"number": entry.number, "at": entry.at, "kind": event.kind}
    if isinstance(event, NodeEvent):
        facts |= {"node": Address(event.path, event.node).text, "step": event.step}
    facts |= {name: _shown(getattr(event, name)) for name in _PARTS.get(type(event), ())}
    if isinstance(event, NodeAsked):
        text, context = event.question.text, _shown(dict(event.question.context))
        facts |= {"question": event.number, "text": text, "context": context}
    return facts


def _shown(value: object) -> object:
    try:
        return as_json(value)
    except (PydanticSerializationError, TypeError, ValueError) as exc:
        _log.warning("what was emitted is sent as null, as it has no form in JSON: %s", exc)
        return None


class EventStream(StreamingResponse):
    """A response that sends events until the run ends, the client disconnects, or time is up.

    Args:
        events: The events.
        limits: When a comment is sent, and when the stream ends.
        closed: Called once when the stream has ended, for whatever reason.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[Followed, None],
        limits: WebLimits,
        closed: Callable[[], object],
    ) -> None:
        super().__init__((), headers=_HEADERS)  # stream_response sends the events
        self._events, self._limits, self._closed = events, limits, closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; when this returns, all tasks have ended."""
        parts = self.stream_response(send), self.listen_for_disconnect(receive)
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            # A client that does not read is not waited for indefinitely, either.
            most = self._limits.longest + self._limits.heartbeat
            await asyncio.wait(tasks, timeout=most, return_when=asyncio.FIRST_COMPLETED)
        finally:
            try:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            finally:  # even if the task is cancelled again meanwhile
                self._closed()
        # A disconnected client is not an error; all other errors go to the log of the server.
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, OSError):
                raise error

    async def stream_response(self, send: Send) -> None:
        """Send the events, with comments between them."""
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(_part(RETRY))
        end = asyncio.get_running_loop().time() + self._limits.longest
        upcoming: asyncio.Future[Followed | None] | None = None
        try:
            while (remaining := end - asyncio.get_running_loop().time()) > 0:
                if upcoming is None:
                    upcoming = asyncio.ensure_future(anext(self._events, None))
                # A timeout of wait() does not cancel the future.
                await asyncio.wait([upcoming], timeout=min(self._limits.heartbeat, remaining))
                if not upcoming.done():
                    await send(_part(b": still here\n\n"))
                    continue
                try:
                    entry = upcoming.result()
                except RunNotFoundError:  # removed since it was read
                    entry = None
                upcoming = None
                if entry is None:
                    break
                text = f"id: {entry.number}\ndata: {json.dumps(shown_event(entry))}\n\n"
                await send(_part(text.encode()))
        finally:
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.wait([upcoming])
            await self._events.aclose()
        await send(_part(b"", more=False))


def _part(body: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}
