"""The committed events of a run as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable

from pydantic_core import PydanticSerializationError
from starlette.responses import Response
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
"""Asks nginx and its like to pass on what comes at once."""

RETRY = b"retry: 1000\n\n"
"""After how many milliseconds a browser asks again when the stream has ended."""


def told(one: Followed) -> dict[str, object]:
    """What the owner of a run is told of an event: no exception, nor anything of one."""
    event = one.event
    found: dict[str, object] = {"number": one.number, "at": one.at, "kind": event.kind}
    if isinstance(event, NodeEvent):
        found |= {"node": Address(event.path, event.node).text, "step": event.step}
    match event:
        case NodeEnded(action=action):
            found["action"] = action
        case NodeRetried(attempt=attempt, item=item):
            found |= {"attempt": attempt, "item": item}
        case NodeFailed(is_caught=is_caught):
            found["is_caught"] = is_caught
        case Emitted(value=value, item=item):
            found |= {"value": _shown(value), "item": item}
        case EmittedVoid(numbers=numbers):
            found["numbers"] = list(numbers)
        case NodeAsked(number=question, item=item):
            text, context = event.question.text, _shown(dict(event.question.context))
            found |= {"question": question, "item": item, "text": text, "context": context}
        case FlowPaused(questions=questions):
            found["questions"] = list(questions)
        case _:
            pass
    return found


def _shown(value: object) -> object:
    try:
        return as_json(value)
    except (PydanticSerializationError, TypeError, ValueError) as exc:
        _log.warning("what was emitted is sent as null, as it has no form in JSON: %s", exc)
        return None


class EventStream(Response):
    """A response that sends events until the run has ended, the client leaves, or it is time.

    Args:
        events: The events.
        limits: When a comment is sent, and when it is time.
        closed: Called once when the stream has ended, however that was.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[Followed, None],
        limits: WebLimits,
        closed: Callable[[], object],
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._events, self._limits, self._closed = events, limits, closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them; nothing of it is left when this returns."""
        tasks = [asyncio.ensure_future(one) for one in (self._send(send), _leaves(receive))]
        try:
            # Whoever does not read is not waited for without an end, either.
            most = self._limits.longest + self._limits.heartbeat
            await asyncio.wait(tasks, timeout=most, return_when=asyncio.FIRST_COMPLETED)
        finally:
            try:
                for one in tasks:
                    one.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            finally:  # which is cancelled once more by whoever cancels until it has ended
                self._closed()
        # A client that is gone is no error; whatever else it was is for the log of the server.
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, OSError):
                raise error

    async def _send(self, send: Send) -> None:
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(_part(RETRY))
        until = asyncio.get_running_loop().time() + self._limits.longest
        upcoming: asyncio.Future[Followed | None] | None = None
        try:
            while (left := until - asyncio.get_running_loop().time()) > 0:
                if upcoming is None:
                    upcoming = asyncio.ensure_future(anext(self._events, None))
                # Waiting does not stop what is waited for when the time is over.
                await asyncio.wait([upcoming], timeout=min(self._limits.heartbeat, left))
                if not upcoming.done():
                    await send(_part(b": still here\n\n"))
                    continue
                try:
                    one = upcoming.result()
                except RunNotFoundError:  # removed since it was looked at
                    one = None
                upcoming = None
                if one is None:
                    break
                text = f"id: {one.number}\ndata: {json.dumps(told(one))}\n\n"
                await send(_part(text.encode()))
        finally:
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.wait([upcoming])
            await self._events.aclose()
        await send(_part(b"", more=False))


def _part(body: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
