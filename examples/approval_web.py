"""A web app in which people decide: runs start, ask, and go on in the background when answered.

A refund above 100 needs a person. The run that asks for one takes no thread and no memory while it
waits; it is in the database, from where it goes on also after the server was restarted::

    curl localhost:8000/refunds --json '{"order": "A-7", "amount": 250}'
    curl localhost:8000/questions
    curl localhost:8000/refunds/RUN/questions/1 --json '{"by": "ann", "answer": {"verdict": "all"}}'

Run it with ``python examples/approval_web.py [PORT]``.
"""

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any, Literal

import uvicorn
from fastapi import BackgroundTasks, FastAPI, HTTPException
from pydantic import BaseModel, Field, ValidationError, model_validator

from pocoflow import Flow, Question, RunHandle, RunPaused, WorkflowDB, fields, node
from pocoflow.errors import AnsweredError, AnswerError, ResumeError, RunNotFoundError

DATABASE = os.environ.get("APPROVAL_DB", "approval_web.db")


class Decision(BaseModel):
    """What a person decides about a refund."""

    verdict: Literal["all", "part", "nothing"]
    amount: float | None = Field(default=None, gt=0, description="How much, if it is a part")

    @model_validator(mode="after")
    def has_an_amount(self) -> "Decision":
        if (self.verdict == "part") != (self.amount is not None):
            raise ValueError("an amount is given for a part, and for nothing else")
        return self


class Refund(BaseModel):
    """A refund that somebody wants, and what was decided."""

    order: str
    amount: float = Field(gt=0)
    decision: Decision
    paid: float


R = fields(Refund)


@node(writes=R.decision)
def decide(order: str, amount: float) -> Decision | Question[Decision]:
    """Small amounts are paid, for others a person is asked."""
    if amount <= 100:
        return Decision(verdict="all")
    return Question(f"Refund {amount:.2f} for order {order}?", {"order": order, "amount": amount})


@node(writes=R.paid)
def pay(amount: float, decision: Decision) -> float:
    """Pay what was decided; a stand-in for the bank."""
    return {"all": amount, "part": decision.amount or 0.0, "nothing": 0.0}[decision.verdict]


flow = Flow(decide, schema=Refund, flow_name="refund", db_path=DATABASE)
flow.then(decide, pay)


# -- runs in the background -----------------------------------------------------------------------


def go_on(run_id: str) -> None:
    """Go on with a run until it ends, or waits for an answer that is not there."""
    while True:
        try:
            flow.resume(run_id)
        except RunPaused as paused:
            if not paused.questions:
                continue  # answered between its question and its pause
        except ResumeError:
            pass  # another answer has set it going
        return


def follow(handle: RunHandle[Refund]) -> None:
    """Wait for a run that was just started."""
    try:
        handle.wait()
    except RunPaused as paused:
        if not paused.questions:
            go_on(handle.run_id)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Go on with what the last server left: runs that it was in, or that were answered since."""
    Thread(target=flow.recover, daemon=True).start()
    yield


app = FastAPI(lifespan=lifespan)


# -- what a client can do -------------------------------------------------------------------------


class Wanted(BaseModel):
    order: str
    amount: float = Field(gt=0)


class Answer(BaseModel):
    by: str
    answer: Any


@app.post("/refunds", status_code=202)
def start(wanted: Wanted, background: BackgroundTasks) -> dict[str, str]:
    """Begin a run."""
    handle = flow.run_background(wanted.model_dump())
    background.add_task(follow, handle)
    return {"run_id": handle.run_id}


@app.get("/refunds/{run_id}")
def look(run_id: str) -> dict[str, Any]:
    """How a run stands, and what was paid."""
    with WorkflowDB(DATABASE) as database:
        run = database.get_run(run_id)
        if run is None:
            raise HTTPException(404, f"there is no refund {run_id}")
        steps = database.get_checkpoints(run_id)
        last = steps[-1]["step"] if steps else -1
        store = database.load_checkpoint(run_id, last, schema=Refund)
    return {"status": run["status"], "paid": store.get("paid")}


@app.get("/questions")
def questions() -> list[dict[str, Any]]:
    """What waits for an answer: text, context, and the JSON schema to build a form from."""
    with WorkflowDB(DATABASE) as database:
        return [one.as_json() for one in database.pending()]


@app.post("/refunds/{run_id}/questions/{number}")
def answer(
    run_id: str, number: int, given: Answer, background: BackgroundTasks
) -> dict[str, list[int]]:
    """Answer a question; the run goes on when the response has been sent."""
    try:
        with WorkflowDB(DATABASE) as database:
            if all(one.question != number for one in database.get_questions(run_id)):
                raise HTTPException(404, f"refund {run_id} has no question {number}")
        left = flow.answer_json(run_id, given.answer, question=number, by=given.by)
    except RunNotFoundError as exc:
        raise HTTPException(404, str(exc)) from exc
    except AnsweredError as exc:
        raise HTTPException(409, str(exc)) from exc
    except AnswerError as exc:
        wrong = exc.__cause__
        if isinstance(wrong, ValidationError):
            detail = wrong.errors(include_url=False, include_context=False)
            raise HTTPException(422, detail) from exc
        raise HTTPException(409, str(exc)) from exc
    if not left:
        background.add_task(go_on, run_id)
    return {"open": [one.question for one in left]}


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
