"""Questions to a person: what a type checker sees of asking and answering. Never executed."""

from typing import Any, Literal, assert_type

from pydantic import BaseModel

from pocoflow import AskNode, Flow, Question, Store, fields, key, node
from pocoflow.nodes.question import Reply


class State(BaseModel):
    draft: str = ""
    ok: bool = False
    calls: list[str] = []
    oks: list[bool] = []


A = fields(State)


@node(writes=A.ok)
def approve(draft: str) -> Question[bool]:
    return Question("Publish?", {"draft": draft})


@node(writes=A.ok)
def approve_some(draft: str) -> bool | Question[bool]:
    return Question("Publish?", deadline=3, default=False) if draft else False


@node(writes=A.ok)
async def approve_later(draft: str) -> Question[bool]:
    return Question("Publish?")


@node
def route(draft: str) -> Question[Literal["yes", "no"]]:
    return Question("Which way?")


@node(writes=A.ok)
def plain(draft: str) -> bool:
    return bool(draft)


@node(each=A.calls, writes=A.oks)
def each(call: str) -> bool | Question[bool]:
    return Question(f"Call {call}?") if call else False


@node(writes=key("number"))
def untyped(draft: str) -> Question[int]:
    return Question("How many?")


class Approve(AskNode[bool, Literal["yes", "no"]]):
    def prep(self, store: Store[State]) -> bool | Question[bool]:
        return Question("Publish?")

    def post(self, store: Store[State], question: Any, answer: bool) -> Literal["yes", "no"]:
        return "yes" if answer else "no"


flow: Flow[State] = Flow(approve, schema=State, db_path="runs.db")

# The functions can be called as before, and an answer is of the type that is asked for.
assert_type(approve("draft"), bool | Question[bool])
assert_type(approve.reply(True), Reply[bool])
assert_type(approve_some.reply(True, by="ann"), Reply[bool])
assert_type(approve_later.reply(False), Reply[bool])
assert_type(route.reply("yes"), Reply[Literal["yes", "no"]])
assert_type(each.reply(True), Reply[bool])
assert_type(Approve().reply(True), Reply[bool])
untyped.reply(3)
flow.answer("run", approve.reply(True))
flow.then(approve, route).then(route.when("yes"), each)

# A wrong answer is an error where it is written.
approve.reply("yes")  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
approve_some.reply("yes")  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
approve_later.reply("yes")  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
route.reply("maybe")  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
each.reply("yes")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
plain.reply(True)  # type: ignore[misc]  # ty: ignore[no-matching-overload]
Approve().reply("yes")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.answer("run", True)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]

# So is an action that is no answer.
route.when("maybe")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Approve().then("maybe", approve)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


# An answer of another type than the field, than the default, than post takes.
@node(writes=A.ok)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def wrong(draft: str) -> Question[str]:
    return Question("Publish?")


def late() -> Question[bool]:
    return Question("Publish?", deadline=1, default="no")  # type: ignore[arg-type]  # ty: ignore[invalid-explicit-return]


class Wrong(AskNode[bool, Literal["yes", "no"]]):
    def post(self, store: Store[State], question: Any, answer: str) -> Literal["yes", "no"]:  # type: ignore[override]  # ty: ignore[incompatible-method-override]
        return "yes"
