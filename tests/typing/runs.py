"""What type checkers know about runs, handles and stored runs. Never executed."""

import asyncio
from typing import Any, Literal, assert_type

from pydantic import BaseModel

from pocoflow import Flow, Node, RunHandle, Store, WorkflowDB
from pocoflow.events import Event
from pocoflow.flow.worker import Worker


class Article(BaseModel):
    document: str
    summary: str = ""


class Comment(BaseModel):
    text: str


class Summarise(Node[str, str]):
    pass


summarise = Summarise()
flow = Flow(start=summarise, schema=Article)
untyped = Flow(start=summarise)
article = Article(document="...")
plain: dict[str, Any] = {"document": "..."}
texts = {"document": "..."}

# -- in this thread ---------------------------------------------------------------------------

assert_type(flow.run(), Store[Article])
assert_type(flow.run(None), Store[Article])
assert_type(flow.run({"a": 1}), Store[Article])
assert_type(flow.run(plain), Store[Article])
assert_type(flow.run(texts), Store[Article])
assert_type(flow.run(article), Store[Article])
assert_type(flow.run(Store(article)), Store[Article])
assert_type(flow.run(Store({"document": "..."}, schema=Article)), Store[Article])
assert_type(flow.run(Store({"document": "..."})), Store[Article])
assert_type(flow.run(article, resume_from=summarise).state.summary, str)
assert_type(flow.run(resume_from=None), Store[Article])
assert_type(flow.run(resume_from=untyped), Store[Article])

assert_type(untyped.run(), Store[Any])
assert_type(untyped.run({"a": 1}), Store[Any])
assert_type(untyped.run(plain), Store[Any])
assert_type(untyped.run(Store({"a": 1})), Store[Any])
assert_type(untyped.run(Store(article)), Store[Any])
assert_type(untyped.run(article), Store[Any])

# -- in the background ------------------------------------------------------------------------

handle = flow.run_background({"document": "..."})
_ = assert_type(handle, RunHandle[Article])
assert_type(handle.run_id, str)
assert_type(
    handle.status, Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
)
assert_type(handle.is_done, bool)
assert_type(handle.store, Store[Article])
assert_type(handle.wait(), Store[Article])
assert_type(handle.wait(300), Store[Article])
assert_type(handle.wait(timeout=None).state.summary, str)
_ = assert_type(untyped.run_background(), RunHandle[Any])
assert_type(untyped.run_background().wait(), Store[Any])
handle.cancel()
no_type_argument: RunHandle = handle

# -- stored runs ------------------------------------------------------------------------------

assert_type(flow.resume("run-1"), Store[Article])
assert_type(flow.resume("run-1", changes={"summary": ""}, rename={"A": "B"}), Store[Article])
assert_type(flow.resume("run-1", types=[Comment]), Store[Article])
_ = assert_type(flow.resume_background("run-1"), RunHandle[Article])
assert_type(flow.fork("run-1"), str)
assert_type(flow.fork("run-1", 2, {"summary": ""}), str)
assert_type(flow.recover(), dict[str, Exception | None])
assert_type(flow.can_resume("run-1", rename={"A": "B"}).changed, tuple[str, ...])
assert_type(flow.using(db_path="other.db"), Flow[Article])
assert_type(flow.using(formerly=["a"]).resume("run-1"), Store[Article])
assert_type(flow.database, WorkflowDB)
for told in flow.resume_stream("run-1", types=[Comment]):
    assert_type(told, Event)

# -- on the caller's event loop ---------------------------------------------------------------


async def loop() -> None:
    assert_type(await flow.run_async(), Store[Article])
    assert_type(await flow.run_async({"a": 1}), Store[Article])
    assert_type(await flow.run_async(article, resume_from=summarise), Store[Article])
    assert_type(await untyped.run_async(plain), Store[Any])
    assert_type(await flow.resume_async("run-1"), Store[Article])
    await flow.run_async(Store(Comment(text="")))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    await flow.run_async(Comment(text=""))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    await flow.run_async(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    await flow.run_async(article, resume_from=Summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    await flow.resume_async(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    await flow.run(article)  # type: ignore[misc]  # ty: ignore[invalid-await]
    assert_type(await flow.run_background(article), Store[Article])
    assert_type(await flow.resume_background("run-1"), Store[Article])
    assert_type(await asyncio.wait_for(handle, 5), Store[Article])
    assert_type(await flow.recover_async(), dict[str, Exception | None])
    async for event in flow.resume_stream_async("run-1", changes={"summary": ""}):
        assert_type(event, Event)
    await flow.resume_stream_async("run-1")  # type: ignore[misc]  # ty: ignore[invalid-await]
    await flow.recover()  # type: ignore[misc]  # ty: ignore[invalid-await]
    await flow.recover_async(changes={})  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    flow.run_async(article).state  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]


# -- mistakes ---------------------------------------------------------------------------------

comments = Store(Comment(text=""))

flow.run(comments)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run(Store({}, schema=Comment))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run(Comment(text=""))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run(Article)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run("document")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run([article])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run({1: 2})  # type: ignore[dict-item]  # ty: ignore[invalid-argument-type]
flow.run(document="...")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
flow.run(article, summarise)  # type: ignore[call-arg, arg-type]  # ty: ignore[too-many-positional-arguments]
flow.run(article, resume_from=Summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run(article, resume_from="Summarise")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run(article, resume_from=Flow)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run(article, resume_from=2)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
untyped.run(article, resume_from=Summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
untyped.run(article, resume_form=summarise)  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
text: str = flow.run(article)  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
same: Article = flow.run(article)  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
commented: Store[Comment] = flow.run(article)  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
flow.run(article).state.sumary  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]

flow.run_background(comments)  # type: ignore[arg-type, unused-awaitable]  # ty: ignore[invalid-argument-type]
flow.run_background(Comment(text=""))  # type: ignore[arg-type, unused-awaitable]  # ty: ignore[invalid-argument-type]
flow.run_background(5)  # type: ignore[arg-type, unused-awaitable]  # ty: ignore[invalid-argument-type]
flow.run_background(article, resume_from=Summarise)  # type: ignore[arg-type, unused-awaitable]  # ty: ignore[invalid-argument-type]
started: Store[Article] = flow.run_background(article)  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
waited: Article = handle.wait()  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
commented_later: Store[Comment] = handle.wait()  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
handle.wait("300")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
handle.wait(timeout="300")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
handle.wait().state.sumary  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
handle.status = "completed"  # type: ignore[misc]  # ty: ignore[invalid-assignment]
handle.status()  # type: ignore[operator]  # ty: ignore[not-callable]
handle.is_done()  # type: ignore[operator]  # ty: ignore[not-callable]
handle.cancel(1)  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
handle.join()  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
other_handle: RunHandle[Comment] = flow.run_background(article)  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
number: int = handle.run_id  # type: ignore[assignment]  # ty: ignore[invalid-assignment]

flow.resume(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.resume(handle)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.resume(summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.resume("run-1", changes=[1])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.resume("run-1", rename={"A": summarise})  # type: ignore[dict-item]  # ty: ignore[invalid-argument-type]
flow.resume_background(handle)  # type: ignore[arg-type, unused-awaitable]  # ty: ignore[invalid-argument-type]
flow.resume_stream(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.resume_stream("run-1", chnages={})  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
flow.can_resume("run-1", resources={})  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
flow.using("other.db")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
flow.using(max_steps=5)  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
flow.fork("run-1", "2")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
forked: Store[Article] = flow.fork("run-1")  # type: ignore[assignment]  # ty: ignore[invalid-assignment]

# Words of a fixed set: that a misspelt one can never be equal is told by the strictest settings alone.
handle = flow.run_background({})
WorkflowDB("x.db").list_runs(status="complete")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
for told in flow.stream({}):
    if told.kind == "node_error":
        assert_type(told.phase, Literal["prep", "exec", "post", "commit"] | None)

# How a run is addressed: the same keywords at every way to start.
named = {"user": "ann"}
assert_type(flow.run(article, run_id="a", thread="t", labels=named, if_busy="wait"), Store[Article])
addressed = flow.run_background(article, run_id=None, thread=None)
handled: RunHandle[Article] = addressed
flow.run(article, run_id=5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.run(article, run_idd="a")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
flow.resume("run-1", renam={})  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
flow.resume("run-1", changes=["a"])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.stream(article, if_busy="queue")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.stream_async(article, labels=["user"])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]

# -- by a worker ------------------------------------------------------------------------------

assert_type(flow.submit({"document": "..."}), str)
assert_type(flow.submit(article, delay=60, labels={"user": "ann"}), str)
assert_type(flow.schedule("nightly", "0 2 * * *", article, tz="Europe/Berlin"), Flow[Article])
assert_type(
    flow.carry_on("run"),
    Literal["queued", "running", "paused", "completed", "failed", "cancelled"],
)
assert_type(Worker(flow, untyped, concurrency=2).run(until_idle=True), bool)
flow.submit(Comment(text="..."))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.submit(article, at="noon")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
flow.schedule("nightly", 2)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Worker(article)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
