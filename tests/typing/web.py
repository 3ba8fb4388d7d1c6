"""Who may use a flow that is served: what the hook returns. Never executed."""

from collections.abc import Awaitable

from starlette.applications import Starlette
from starlette.requests import Request

from pocoflow import Flow, Node
from pocoflow.ext.web import RunsApp, WebLimits

flow = Flow(Node(), flow_name="served", db_path="runs.db")


def name(request: Request) -> str | None:
    return request.headers.get("x-user")


async def name_async(request: Request) -> str | None:
    return name(request)


def waits(request: Request) -> Awaitable[str | None]:
    return name_async(request)


def number(request: Request) -> int:
    return 7


def app() -> Starlette:
    RunsApp(flow, who=name_async)
    RunsApp(flow, who=waits, limits=WebLimits(runs=3))
    RunsApp(flow, who=number)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    RunsApp(flow, who=None)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    RunsApp(flow)  # type: ignore[call-arg]  # ty: ignore[missing-argument]
    WebLimits(runs="3")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    return RunsApp(flow, who=name)
