"""A web app: ``uvicorn web:app`` serves the flow in each way that FastAPI has.

It has a second flow, which shows one value and then waits for ``/open``: what a client that leaves
does to a run can be seen with it.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from pocoflow import Flow, Node, Store, context
from pocoflow.events import Emitted
from tests.integration.hosts.reading import DATABASE, flow

app = FastAPI()
AT_ONCE = 20
tasks = asyncio.Barrier(AT_ONCE)
threads = threading.Barrier(AT_ONCE, timeout=30)


class Job(BaseModel):
    """What a client sends: a text, and whether it comes together with others."""

    text: str
    together: bool = False


class Answer(BaseModel):
    """What a client gets."""

    card: str


@app.post("/run")
def run(job: Job) -> Answer:
    """A synchronous endpoint: FastAPI calls it in a thread."""
    if job.together:
        threads.wait()
    return Answer(card=flow.run({"text": job.text}).state.card)


@app.post("/run_async")
async def run_async(job: Job) -> Answer:
    """An asynchronous endpoint: the run is a part of its task, and the event loop stays free."""
    if job.together:
        await tasks.wait()
    store = await flow.run_async({"text": job.text})
    return Answer(card=store.state.card)


@app.post("/run_in_loop")
async def run_in_loop(job: Job) -> Answer:
    """A synchronous run inside of the running loop: it works, and blocks the loop meanwhile."""
    return Answer(card=flow.run({"text": job.text}).state.card)


async def shown(of: Flow[Any], store: dict[str, object]) -> AsyncIterator[str]:
    """What the nodes of a run show, line by line."""
    async with aclosing(of.stream_async(store)) as events:
        async for event in events:
            if isinstance(event, Emitted):
                yield f"{event.value}\n"


@app.post("/stream")
async def stream(job: Job) -> StreamingResponse:
    """A response that is sent while the flow runs."""
    return StreamingResponse(shown(flow, {"text": job.text}))


# -- a client that leaves ---------------------------------------------------------------------

gate = asyncio.Event()
waiting: list[Request] = []


class Wait(Node):
    """Shows that it is there, and waits on the event loop."""

    async def exec(self, prepared: object) -> None:
        context().emit("waiting")
        await gate.wait()

    def post(self, store: Store, prepared: object, result: None) -> str:
        store["opened"] = True
        return "done"


class Work(Node):
    """Shows that it is there, and works in a thread, where it asks whether it is to stop."""

    def exec(self, prepared: object) -> None:
        context().emit("working")
        pause = threading.Event()
        while not gate.is_set():
            context().check_cancelled()
            pause.wait(0.01)


@app.get("/wait/{name}")
async def wait(name: str, request: Request) -> dict[str, bool]:
    """A run that lasts until ``/open``."""
    waiting.append(request)
    of = Flow(Wait(), flow_name=name, db_path=DATABASE)
    return {"opened": (await of.run_async({}))["opened"]}


@app.get("/stream/{kind}/{name}")
async def stream_forever(kind: str, name: str) -> StreamingResponse:
    """The same as a stream."""
    of = Flow(Wait() if kind == "wait" else Work(), flow_name=name, db_path=DATABASE)
    return StreamingResponse(shown(of, {}))


@app.post("/open")
async def open_gate() -> None:
    """Let go on what waits, as soon as the server knows that all who asked for it have left."""
    for request in waiting:
        while not await request.is_disconnected():  # noqa: ASYNC110 - it can only be asked
            await asyncio.sleep(0.01)
    gate.set()
