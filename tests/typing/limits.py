"""What type checkers know about limits of edges. Never executed."""

from typing import Literal, assert_type

from pocoflow import END, Flow, Node, Store, node
from pocoflow.check.bounds import Bound, Endless


@node
def grade(score: float) -> Literal["good", "bad"]:
    return "good" if score > 0.8 else "bad"


@node
def write() -> None: ...


@node
def give_up() -> None: ...


class Publish(Node[str, str, Literal["done", "again"]]):
    def post(self, store: Store, prep: str, result: str) -> Literal["done", "again"]:
        return "done"


publish = Publish()
flow = Flow(start=write)
assert_type(flow.then(grade.when("bad"), write, at_most=3, then=give_up), Flow)
assert_type(publish.then("again", publish, at_most=3, then=END), Publish)
flow.then(write, grade, at_most=1, then=None).then(grade.when("good"), publish)
flow.then(grade.catch(TimeoutError), write, at_most=2, then=Flow(start=give_up))
assert_type(flow.bound(), Bound | Endless)
assert_type(flow.bound().steps, int | None)

flow.then(grade.when("bad"), write, at_most="3", then=END)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(grade.when("bad"), write, at_most=2.5, then=END)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(grade.when("bad"), write, at_most=3, then="give_up")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(grade.when("bad"), write, at_most=3, then=Publish)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.then(grade.when("bad"), write, at_least=3, then=END)  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
flow.then(grade.when("bda"), write, at_most=3, then=END)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
publish.then("agian", publish, at_most=3, then=END)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
publish.then("again", publish, at_most="3", then=END)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
publish.then("again", publish, at_most=3, then="END")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
