"""What type checkers know about rules of the order of visits. Never executed."""

from typing import Literal, assert_type

from pydantic import BaseModel

from pocoflow import Flow, Node, Parallel, Store, node


class Article(BaseModel):
    score: float


@node
def approve(score: float) -> Literal["yes", "no"]:
    return "yes" if score > 0.8 else "no"


@node
def publish() -> None: ...


class Pay(Node[str, str, Literal["paid", "free"]]):
    def post(self, store: Store, prep: str, result: str) -> Literal["paid", "free"]:
        return "paid"


pay = Pay()
flow = Flow(start=approve, schema=Article)
assert_type(flow.require(approve).before(publish), Flow[Article])
assert_type(flow.require(approve.when("yes")).before(publish, each=True), Flow[Article])
assert_type(flow.forbid(publish).after(approve.when("no")), Flow[Article])
flow.require(publish).after(pay).require(Flow(start=pay)).before(Parallel(publish))

flow.require("approve")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.require(Pay)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.require(approve.when("yse")).before(publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.require(approve).before("publish")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.require(approve).before(pay.when("paid"))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.require(approve).before(publish, each="always")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.require(approve).befor(publish)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
flow.forbid(approve.when("no")).after(publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.forbid(publish).after(approve.when("noo"))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.forbid(publish).before(approve)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
flow.require(publish, pay)  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
