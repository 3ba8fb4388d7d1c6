"""Journaled calls, answers of models and budgets: what a type checker sees. Never executed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal, assert_type

from pydantic import BaseModel, Field

from pocoflow import END, Flow, Node, Retry, context
from pocoflow.failure import Failure
from pocoflow.nodes.edges import Catch
from pocoflow.parsing import parse


class Recipe(BaseModel):
    title: str


class Search(BaseModel):
    action: Literal["search"]


class Answer(BaseModel):
    action: Literal["answer"]


Step = Annotated[Search | Answer, Field(discriminator="action")]


class Model:
    def ask(self, prompt: str, *, warmth: float = 0.0) -> str:
        return prompt * int(warmth)

    async def ask_async(self, prompt: str) -> list[str]:
        return [prompt]


def count(text: str) -> int:
    return len(text)


class Cook(Node[str, Recipe]):
    max_retries = 3

    def exec(self, wish: str) -> Recipe:
        answer = context().call(Model().ask, wish, warmth=0.5)
        return parse(Recipe, answer)


# A call is that of the function, its arguments included.
assert_type(context().call(count, "text"), int)
assert_type(context().call(Model().ask, "?", warmth=0.5), str)
assert_type(context().calling(timeout=3, max_retries=2, name="count").call(count, "text"), int)


async def several() -> None:
    assert_type(await context().call(Model().ask_async, "?"), list[str])
    both = await asyncio.gather(*(context().call(Model().ask_async, one) for one in "ab"))
    assert_type(both, list[list[str]])


context().call(count)  # type: ignore[call-arg]  # ty: ignore[missing-argument]
context().call(count, 1)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
context().call(Model().ask, "?", warm=0.5)  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
context().call("count", "text")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
context().calling(retries=2)  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
context().calling(timeout="3")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
number: str = context().call(count, "text")  # type: ignore[assignment]  # ty: ignore[invalid-assignment]

# Attempts that learn.
assert_type(context().errors, tuple[Failure, ...])
assert_type(parse(Recipe, "{}"), Recipe)
assert_type(parse(list[Recipe], "[]"), list[Recipe])
assert_type(parse(Search | Answer, "{}"), Search | Answer)
assert_type(parse(Step, "{}"), Search | Answer)
assert_type(parse(Literal["yes", "no"], "{}"), Literal["yes", "no"])
error = Retry("no title", keep=True)
Retry("no title", kep=True)  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
parse(Recipe, b"{}")  # type: ignore[call-overload]  # ty: ignore[no-matching-overload]

# Budgets.
cook = Cook()
flow = Flow(cook, budget={"usd": 2.0, "tokens": 900}, node_budgets={cook: {"usd": Decimal("0.5")}})
assert_type(cook.when_spent("usd"), Catch)
flow.then(cook.when_spent(), END)
context().spend(usd=0.004, tokens=812, pages=Decimal(3))
assert_type(context().account, Mapping[str, Decimal])

context().spend(usd="0.004")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
context().spend(0.004)  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
cook.when_spent(2)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(cook, budget=2.0)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(cook, node_budgets={"cook": {"usd": 1}})  # type: ignore[dict-item]  # ty: ignore[invalid-argument-type]
