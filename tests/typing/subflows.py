"""Flows on stores of their own: what a type checker sees of ``bind``. Never executed."""

from typing import assert_type

from pydantic import BaseModel

from pocoflow import END, Flow, Subflow, bind, fields, node
from pocoflow.nodes.subflow import Bound, Link


class Article(BaseModel):
    document: str
    summary: str = ""
    count: int = 0


class Short(BaseModel):
    text: str
    hint: str | None = None
    score: float = 0.0
    result: str = ""


A, S = fields(Article), fields(Short)


@node(writes=S.result)
def cut(text: str) -> str:
    return text[:3]


inner: Flow[Short] = Flow(cut, schema=Short)

assert_type(bind(S.text), Bound[str])
assert_type(bind(S.text).to(A.document), Link)
sub = Subflow(
    inner,
    inputs=[bind(S.text).to(A.document), bind(S.hint).to(A.summary), bind(S.score).to(A.count)],
    outputs=[bind(A.summary).to(S.result)],
)
Flow(sub, schema=Article).then(sub, END).then(sub.when("good"), END)

# What is handed in must fit, what is handed back, too.
bind(S.text).to(A.count)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
bind(A.summary).to(S.hint)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
bind(A.count).to(S.score)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
bind(S.text).to(A.documnet)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]

# A pair that is not bound.
Subflow(inner, inputs=[(S.text, A.document)])  # type: ignore[list-item]  # ty: ignore[invalid-argument-type]

# A node that is no flow, and an action that is none.
Subflow(cut)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
inner.when(3)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
