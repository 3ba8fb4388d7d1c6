"""``RunsApp``: an application for the runs of a flow, to be mounted in Starlette or FastAPI."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from threading import Lock
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field, TypeAdapter
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pocoflow.address import check_name
from pocoflow.errors import (
    DatabaseBusyError,
    DatabaseLostError,
    DefinitionError,
    NoDatabaseError,
    RunNotFoundError,
)
from pocoflow.ext.web.openapi import describe
from pocoflow.ext.web.owned import Listing, Owned, OwnedRuns, Refusal, WebLimits, checking
from pocoflow.ext.web.sse import RETRY, EventStream
from pocoflow.flow.flow import Flow
from pocoflow.logging import OwnLogger
from pocoflow.messages import short
from pocoflow.values.callables import misfit
from pocoflow.values.json_text import read_json

Who: TypeAlias = Callable[[Request], Awaitable[str | None] | str | None]
"""Identifies the sender of a request by a permanent, unique name; ``None`` if unknown."""

_Endpoint: TypeAlias = Callable[[Request, Owned, Any], Response]
"""Responds to a request of an owner with a JSON body; called in a thread."""

_log = OwnLogger("web")

_SAFE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_SOON = 2
"""Seconds after which a client may retry while others write to the database."""

_AFTER: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=-1, lt=1 << 33)])
"""The number of an event, or -1; no run has events with greater ones."""


class RunsApp(Starlette):
    """An application for the runs of a flow, each of which belongs to the user who started it.

    A run is submitted, and a worker executes it. Its owner can start, view, follow, answer and
    cancel it; for everybody else it does not exist. Mount the application at any path::

        app.mount("/letters", RunsApp(flow, who=user_of))

    ==============================================  ================================================
    ``POST /runs``                                  start a run
    ``GET /runs``                                   the owner's runs, the newest first
    ``GET /runs/{id}``                              how a run stands, what it asks, its result
    ``GET /runs/{id}/events``                       its committed events, as server-sent events
    ``POST /runs/{id}/questions/{number}``          answer a question
    ``POST /runs/{id}/cancel``                      ask it to stop
    ``GET /openapi.json``                           all that as an OpenAPI description
    ==============================================  ================================================

    Args:
        flow: The flow, which stores its runs in a database.
        who: A function that returns the sender of a request, ``async`` or called in a thread. Its
            result is recorded as the owner of a run. ``None`` is answered with 401; it may raise an
            ``HTTPException``.
        limits: Limits for each owner.

    Raises:
        DefinitionError: There is no ``who``, it does not take a request, or another argument has
            the wrong type.
        NoDatabaseError: The flow has no ``db_path``.
    """

    def __init__(self, flow: Flow, *, who: Who, limits: WebLimits | None = None) -> None:
        _check(flow, who, limits)
        if flow.db_path is None:
            raise NoDatabaseError(
                f"flow {flow.flow_name!r} keeps no runs, so there is nothing to serve: "
                "give it a db_path"
            )
        self._who = who
        self._limits = limits or WebLimits()
        self._runs = OwnedRuns(flow, self._limits)
        self._streams: Counter[str] = Counter()
        self._lock = Lock()
        routes = [
            Route("/runs", self._owned(self._start), methods=["POST"]),
            Route("/runs", self._owned(self._list)),
            Route("/runs/{run_id}", self._owned(self._look)),
            Route("/runs/{run_id}/events", self._owned(self._follow)),
            Route(
                "/runs/{run_id}/questions/{question}", self._owned(self._answer), methods=["POST"]
            ),
            Route("/runs/{run_id}/cancel", self._owned(self._cancel), methods=["POST"]),
            Route("/openapi.json", self._owned(self._describe)),
        ]
        super().__init__(
            routes=routes,
            exception_handlers={HTTPException: _error_response},
        )

    def openapi(self, prefix: str = "") -> dict[str, Any]:
        """An OpenAPI description of the routes, from the schema of the flow and its questions.

        Args:
            prefix: The path at which the application is mounted.
        """
        return describe(self._runs, self._limits, prefix)

    # -- who may ------------------------------------------------------------------------------

    def _owned(self, endpoint: _Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint for owners; a ``POST``, which changes something, accepts only JSON.

        Another site can send a form with the cookies of its visitor, but not JSON.
        """

        async def handle(request: Request) -> Response:
            owner = await self._owner(request)
            changes = request.method == "POST"
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if changes and kind != "application/json":
                raise Refusal(415, "send this as application/json")
            body = await self._body(request) if changes else None
            try:
                return await run_in_threadpool(endpoint, request, owner, body)
            except RunNotFoundError as exc:  # removed since it was read
                raise Refusal(404, "there is no such run") from exc
            except (DatabaseBusyError, DatabaseLostError) as exc:
                accepted = request.headers.get("accept", "")
                if isinstance(exc, DatabaseLostError):
                    _log.warning("%s", exc)
                if endpoint == self._follow and EventStream.media_type in accepted:
                    # An EventSource would not reconnect after a 503.
                    return Response(RETRY, headers=_SAFE, media_type=EventStream.media_type)
                is_busy = isinstance(exc, DatabaseBusyError)
                why = "too many write at once" if is_busy else "the database cannot be reached"
                raise Refusal(503, why, _SOON) from exc

        return handle

    async def _owner(self, request: Request) -> Owned:
        if inspect.iscoroutinefunction(self._who):
            name = await self._who(request)
        else:
            name = await run_in_threadpool(self._who, request)
            if inspect.isawaitable(name):
                name = await name
        if name is None:
            raise Refusal(401, "say who you are")
        check_name("what who= returned", name)
        return Owned(name)

    # -- the routes ---------------------------------------------------------------------------

    def _start(self, request: Request, owner: Owned, body: Any) -> Response:
        run, is_new = self._runs.start(owner, body)
        return _json(run, 202 if is_new else 200)

    def _list(self, request: Request, owner: Owned, body: Any) -> Response:
        parameters: dict[str, object] = dict(request.query_params)
        if labels := request.query_params.getlist("label"):
            parameters["label"] = labels
        with checking("query"):
            listing = Listing.model_validate(parameters)
        return _json(self._runs.page(owner, listing))

    def _look(self, request: Request, owner: Owned, body: Any) -> Response:
        return _json(self._runs.look(owner, request.path_params["run_id"]))

    def _follow(self, request: Request, owner: Owned, body: Any) -> Response:
        run_id, after = request.path_params["run_id"], _after(request)
        if self._runs.is_known(owner, run_id, after):
            return Response(status_code=204, headers=_SAFE)  # so that a browser does not reconnect
        if request.method == "HEAD":
            return Response(media_type=EventStream.media_type, headers=_SAFE)
        events = self._runs.flow.follow_async(owner.stored(run_id), after)
        with self._lock:
            if self._streams[owner.name] >= self._limits.streams:
                message = f"{self._limits.streams} streams are open, and no more are: close one"
                raise Refusal(429, message, _SOON)
            self._streams[owner.name] += 1
        stream = EventStream(events, self._limits, partial(self._on_stream_end, owner.name))
        stream.headers.update(_SAFE)
        return stream

    def _on_stream_end(self, owner: str) -> None:
        with self._lock:
            self._streams[owner] -= 1
            if not self._streams[owner]:
                del self._streams[owner]

    def _answer(self, request: Request, owner: Owned, body: Any) -> Response:
        with checking("body"):
            if not isinstance(body, dict) or body.keys() != {"answer"}:
                raise ValueError("an object with the key 'answer', and no other")
        return _json(self._runs.answer(owner, **request.path_params, answer=body["answer"]))

    def _cancel(self, request: Request, owner: Owned, body: Any) -> Response:
        return _json(self._runs.cancel(owner, request.path_params["run_id"]))

    def _describe(self, request: Request, owner: Owned, body: Any) -> Response:
        return _json(self.openapi(str(request.scope.get("root_path", ""))))

    async def _body(self, request: Request) -> Any:
        """The JSON value of the body, whose size is checked as it arrives."""
        most = self._limits.body
        too_large = Refusal(413, f"the body has more than {most} bytes")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and len(length) < 20 and int(length) > most:
            raise too_large
        parts, size = [], 0
        try:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise too_large
                parts.append(part)
        except ClientDisconnect as exc:
            raise Refusal(400, "the body ends too early") from exc
        if not size:
            return {}
        with checking("body", kind="json_invalid"):
            return read_json(b"".join(parts).decode())


def _check(flow: object, who: object, limits: object) -> None:
    if not isinstance(flow, Flow):
        raise DefinitionError(f"RunsApp({short(flow)}, who=...): a Flow is needed")
    if not isinstance(limits, WebLimits | None):
        raise DefinitionError(f"RunsApp(flow, limits={short(limits)}): WebLimits(...) is needed")
    wanted = "a function that is given a request and returns who sends it, or None"
    if not callable(who):
        raise DefinitionError(
            f"RunsApp(flow, who={who!r}): {wanted}; without one, everybody could do everything"
        )
    wrong = misfit(who, Request({"type": "http"}))
    if wrong is not None:
        raise DefinitionError(
            f"RunsApp(flow, who=...): {wanted}; this one cannot be called with a request: {wrong}"
        )


def _after(request: Request) -> int:
    """The number of the last known event; the header of a reconnecting browser takes precedence."""
    known = request.headers.get("last-event-id")
    with checking(*(("header", "last-event-id") if known else ("query", "after"))):
        return _AFTER.validate_python(known or request.query_params.get("after") or "-1")


def _json(value: object, status: int = 200, **headers: str) -> Response:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    content = json.dumps(value, allow_nan=False)
    return Response(content, status, {**_SAFE, **headers}, "application/json")


async def _error_response(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return _json({"detail": exc.detail}, exc.status_code, **(exc.headers or {}))
