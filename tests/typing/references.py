"""Several references are a tuple or a list; a single one is not taken for several. Never executed."""

from pydantic import BaseModel

from pocoflow import FanOut, Flow, Parallel, fields, node


class Doc(BaseModel):
    text: str
    docs: list[str]
    tmp: str = ""


D = fields(Doc)


@node(writes=D.tmp)
def work(text: str) -> str:
    return text


Parallel(work, private=(D.tmp,))
FanOut(work, each=D.docs, as_=D.text, private=[D.tmp, D.text])
Flow(work, schema=Doc, inputs=(D.text,), outputs=[D.tmp])
Parallel(work, private=D.tmp)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(work, schema=Doc, inputs=D.text)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(work, schema=Doc, outputs=D.tmp)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
