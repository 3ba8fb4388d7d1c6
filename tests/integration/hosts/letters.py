"""Flows that are served to users, on a database of the environment, and the apps around them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.requests import Request

from pocoflow import Flow, Question, WorkflowDB, context, fields, node
from pocoflow.ext.web import RunsApp, WebLimits
from pocoflow.flow.worker import Worker
from pocoflow.reducers import extend

SECRET = "the-password-is-4711"
"""What nobody may ever be sent."""

database = WorkflowDB(os.environ["LETTERS_DB"])


class Decision(BaseModel):
    """What a person says of a letter."""

    verdict: Literal["send", "edit"]
    text: str = ""


class Letter(BaseModel):
    """A letter, from what is asked for to what is sent."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    to: str = Field(min_length=1)
    day: date = date(2026, 1, 1)
    cents: int = 0
    text: str = ""
    decision: Decision
    sent: str
    inner: Annotated[str, Field(exclude=True)] = ""
    lock: Any = None

    @field_validator("cents", mode="before")
    @classmethod
    def of_euros(cls, euros: Any) -> Any:
        """What comes from outside is in euros."""
        return euros * 100 if isinstance(euros, int) else euros


L = fields(Letter)


@node(writes=L.text)
async def write(to: str, day: date) -> str:
    """Write it, word by word."""
    for token in ("Dear ", to, f", of {day}"):
        context().emit(token)
    return f"Dear {to}, of {day}"


@node(writes=(L.inner, L.lock))
def hide() -> tuple[str, Any]:
    """Keep what nobody may see."""
    return SECRET, {"password": SECRET, "lock": threading.Lock()}


@node(writes=L.decision)
def approve(text: str) -> Question[Decision]:
    """Ask whether it may go."""
    return Question("Send it?", {"text": text})


@node(writes=L.sent)
def send(text: str, decision: Decision) -> str:
    """Send what was decided."""
    return decision.text or text


letters = Flow(
    write,
    flow_name="letters",
    schema=Letter,
    inputs=(L.to, L.day, L.cents),
    db_path=database,
    record_emitted=True,
)
letters.then(write, hide).then(hide, approve).then(approve, send)


class Text(BaseModel):
    """A text."""

    text: str
    loud: str


@node(writes=fields(Text).loud)
def fail(text: str = fields(Text).text) -> str:
    """Fail with what nobody may see."""
    raise ConnectionError(f"{SECRET} {text}")


failing = Flow(fail, flow_name="failing", schema=Text, db_path=database)


class Sound(BaseModel):
    """How loud something is."""

    decibels: float


@node(writes=fields(Text).loud)
def wait(text: str = fields(Text).text) -> Question[str]:
    """Wait for somebody."""
    context().emit([float("nan"), "\ud83d", Sound(decibels=float("inf"))])
    return Question(f"How loud is {text!r}?", {"decibels": float("inf")})


waiting = Flow(wait, flow_name="waiting", schema=Text, db_path=database, record_emitted=True)


class Chat(BaseModel):
    """A conversation."""

    messages: Annotated[list[str], extend] = []


@node(writes=fields(Chat).messages)
def reply(messages: list[str]) -> list[str]:
    """Answer the last message."""
    return [f"re: {messages[-1]}"]


chat = Flow(
    reply,
    flow_name="chat",
    schema=Chat,
    inputs=(fields(Chat).messages,),
    outputs=(fields(Chat).messages,),
    db_path=database,
)

untyped = Flow(wait, flow_name="untyped", schema={"text": str, "loud": str}, db_path=database)


def who(request: Request) -> str | None:
    """The user whom a header names."""
    user = request.headers.get("x-user")
    if user == "banned":
        raise HTTPException(403, "go away")
    return user


async def who_async(request: Request) -> str | None:
    """The same, on the event loop."""
    await asyncio.sleep(0)
    return who(request)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Carry the runs on while the server is there."""
    worker = Worker(letters, failing, waiting, chat, untyped, concurrency=4)
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield
    worker.stop()
    await asyncio.to_thread(thread.join)


app = FastAPI(debug=True, lifespan=lifespan)
few = WebLimits(runs=3, streams=2, body=2000)
app.mount("/letters", RunsApp(letters, who=who))
app.mount("/failing", RunsApp(failing, who=who_async))
app.mount("/waiting", RunsApp(waiting, who=who, limits=few))
app.mount("/short", RunsApp(waiting, who=who, limits=WebLimits(heartbeat=0.05, longest=0.5)))
app.mount("/beating", RunsApp(waiting, who=who, limits=WebLimits(heartbeat=0.05)))
app.mount("/chat", RunsApp(chat, who=who))
app.mount("/untyped", RunsApp(untyped, who=who))
app.mount("/broken", RunsApp(letters, who=lambda request: 7))  # type: ignore[arg-type,return-value]


@app.get("/left")
async def left() -> dict[str, int]:
    """How many tasks there are, and how many of them send streams."""
    tasks = asyncio.all_tasks()
    streams = sum("EventStream" in repr(one.get_coro()) for one in tasks)
    return {"tasks": len(tasks), "streams": streams}


@app.post("/hold")
def hold() -> None:
    """Keep everybody in this process from the database, as a writer that waits does."""
    database.connection.alone.acquire()
    _held.set()
    _let_go.wait()
    database.connection.alone.release()


_held, _let_go = threading.Event(), threading.Event()


@app.get("/held")
async def held() -> bool:
    """Whether somebody does."""
    return _held.is_set()


@app.post("/let_go")
async def release() -> None:
    """Let them."""
    _let_go.set()
