"""What type checkers know about reducers and increments. Never executed."""

from typing import Annotated, assert_type

from pydantic import BaseModel

from pocoflow import Flow, Store, fields, node
from pocoflow.reducers import Reducer, add, append, extend, item, latest, merge


def longest(old: str, update: str) -> str:
    return max(old, update, key=len)


class Board(BaseModel):
    log: Annotated[list[str], append] = []
    pages: Annotated[list[str], extend] = []
    total: Annotated[int, add] = 0
    seen: Annotated[dict[str, int], merge] = {}
    word: Annotated[str, longest] = ""


B = fields(Board)


@node(writes=item(B.log))
def say() -> str:
    return "said"


@node(writes=B.pages)
def fetch() -> list[str]:
    return ["page"]


@node(writes=(item(B.log), B.total))
def both() -> tuple[str, int]:
    return "said", 1


assert_type(append([1], 2), list[int])
assert_type(extend(["a"], ("b",)), list[str])
total: int = add(1, 2)
assert_type(merge({"a": 1}, {"b": 2}), dict[str, int])
word: str = latest("a", "b")
assert_type(Board().log, list[str])
Store(schema=Board).reduce("log", "said")
mine: Reducer = longest
Flow(say, schema=Board).then(say, fetch).then(fetch, both)

# -- mistakes ---------------------------------------------------------------------------------


@node(writes=B.log)  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def writes_the_list() -> str:
    return "said"


@node(writes=item(B.log))  # type: ignore[arg-type]  # ty: ignore[no-matching-overload]
def writes_another() -> int:
    return 1


item(B.total)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
wrong: Reducer = 3  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
