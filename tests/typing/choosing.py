"""What type checkers know about functions that write and choose an action. Never executed."""

from asyncio import run
from enum import StrEnum
from typing import Literal, assert_type

from pydantic import BaseModel

from pocoflow import END, Flow, fields, node
from pocoflow.nodes.edges import Outlet


class Article(BaseModel):
    summary: str
    score: float = 0.0


class Route(StrEnum):
    UP = "up"
    DOWN = "down"


A = fields(Article)


@node(writes=A.score, actions=True)
def grade(summary: str) -> tuple[float, Literal["good", "bad"]]:
    return 1.0, "good"


@node(writes=A.score, actions=True, max_retries=3)
async def grade_later(summary: str) -> tuple[float, Literal["good", "bad"]]:
    return 1.0, "bad"


@node(writes=A.score, actions=True)
def route(summary: str) -> tuple[int, Route]:
    return 1, Route.UP


@node(writes=(A.summary, A.score), actions=True)
def both(summary: str) -> tuple[str, float, Literal["good", "bad"]]:
    return summary, 1.0, "good"


@node(writes=(A.summary, A.score), actions=True)
async def both_later(summary: str) -> tuple[str, float, Literal["good"]]:
    return summary, 1.0, "good"


@node(writes=A.score, actions=True)
def perhaps(summary: str) -> tuple[float, Literal["again"] | None]:
    return 1.0, None


flow = Flow(start=grade, schema=Article)
assert_type(grade("text"), tuple[float, Literal["good", "bad"]])
assert_type(run(grade_later("text")), tuple[float, Literal["good", "bad"]])
assert_type(both("text"), tuple[str, float, Literal["good", "bad"]])
assert_type(grade.when("good"), Outlet)
flow.then(grade.when("good"), END).then(grade.when("bad"), grade_later)
flow.then(both.when("bad"), grade).then(both_later.when("good"), END)
flow.then(route.when(Route.UP), END).then(perhaps, END).then(perhaps.when("again"), grade)

grade.when("god")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
grade_later.when("god")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
both.when("god")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
route.when("up")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(grade, END)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


@node(writes=A.score, actions=True)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def wrong_value(summary: str) -> tuple[str, Literal["good", "bad"]]:
    return summary, "good"


@node(writes=A.score, actions=True)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def no_action(summary: str) -> float:
    return 1.0


@node(writes=(A.summary, A.score), actions=True)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def wrong_order(summary: str) -> tuple[float, str, Literal["good", "bad"]]:
    return 1.0, summary, "good"


@node(writes=(A.summary, A.score), actions=True)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def one_is_missing(summary: str) -> tuple[str, Literal["good", "bad"]]:
    return summary, "good"


@node(writes=A.score)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def without_actions(summary: str) -> tuple[float, Literal["good", "bad"]]:
    return 1.0, "good"


@node(actions=True)  # type: ignore[call-overload, untyped-decorator]  # ty: ignore[no-matching-overload]
def writes_nothing(summary: str) -> Literal["good", "bad"]:
    return "good"
