"""What type checkers know about the making of a ``Flow``. Never executed."""

from pathlib import Path
from typing import Any, assert_type

from pydantic import BaseModel

from pocoflow import END, AsyncNode, Flow, Node, Parallel, Store, Subflow, WorkflowDB
from pocoflow.graph.graph import Graph
from pocoflow.nodes.base import NodeLike
from pocoflow.nodes.edges import Catch, Outlet


class Article(BaseModel):
    document: str
    summary: str = ""


class Comment(BaseModel):
    text: str


class Summarise(Node[str, str]):
    pass


class Fetch(AsyncNode[str, bytes]):
    pass


summarise = Summarise()


def publish(flow: Flow[Article]) -> None:
    pass


assert_type(Flow(start=summarise), Flow[Any])
assert_type(Flow(summarise), Flow[Any])
assert_type(Flow(start=Fetch()), Flow[Any])
assert_type(Flow(start=Flow(start=Fetch(), schema=Article)), Flow[Any])
assert_type(Flow(start=Flow(start=Fetch()), schema=Article), Flow[Article])
assert_type(Flow(start=summarise, schema={"query": str}), Flow[Any])
assert_type(Flow(start=summarise, schema=None), Flow[Any])
assert_type(Flow(start=summarise, schema=Article), Flow[Article])
assert_type(
    Flow(
        start=summarise,
        flow_name="article",
        db_path=Path("pocoflow.db"),
        checkpoint_dir="/tmp/ckpt",
        max_steps=50,
        schema=Article,
        strict=True,
        run_id="article-1",
    ),
    Flow[Article],
)
assert_type(Flow(start=summarise, db_path="pocoflow.db", flow_name="x"), Flow[Any])
assert_type(Flow(start=summarise, db_path=WorkflowDB("pocoflow.db")), Flow[Any])

flow = Flow(start=summarise, schema=Article)
untyped = Flow(start=summarise)
no_type_argument: Flow = flow
from_context: Flow[Article] = Flow(start=summarise)
assert_type(flow.start, NodeLike[Any])
assert_type(flow.flow_name, str)
assert_type(flow.max_steps, int)
assert_type(flow.run_id, str | None)
assert_type(flow.graph, Graph)
flow.max_steps = 50

# A flow is a node of other flows, and has no more of a node than that.
outer = Flow(start=flow)
assert_type(flow.name, str)
assert_type(flow.when("done"), Outlet)
assert_type(flow.catch(OSError), Catch)
assert_type(flow.then("done", summarise), Flow[Article])
assert_type(outer.then(flow, END), Flow[Any])
assert_type(outer.then(flow.when("done"), summarise), Flow[Any])
assert_type(outer.then(flow.catch(OSError), flow), Flow[Any])
either: NodeLike[Any] = flow
either = summarise
summarise.then("default", flow)
Parallel(flow, summarise)
Subflow(flow)
publish(flow)
publish(untyped)

# -- mistakes ---------------------------------------------------------------------------------

Flow()  # type: ignore[call-arg]  # ty: ignore[missing-argument]
Flow(start=Summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(Summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start="Summarise")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=None)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=Flow)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=[summarise])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=Fetch)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(summarise, "article")  # type: ignore[call-arg]  # ty: ignore[too-many-positional-arguments]
Flow(start=summarise, schema=Article(document=""))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=summarise, schema=int)  # type: ignore[type-var]  # ty: ignore[invalid-argument-type]
Flow(start=summarise, schema="Article")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=summarise, max_steps="50")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=summarise, max_steps=None)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=summarise, db_path=5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=summarise, checkpoint_dir=5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=summarise, flow_name=5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=summarise, run_id=5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=summarise, strict="yes")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
Flow(start=summarise, name="article")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
publish(Flow(start=summarise, schema=Comment))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
publish(summarise)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
no_model: Flow[str]  # type: ignore[type-var]  # ty: ignore[invalid-type-arguments]
flow.max_steps = "50"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
flow.start = Summarise  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
flow.graph = flow.graph  # type: ignore[misc]  # ty: ignore[invalid-assignment]
flow.max_retries = 3  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
flow.retry_on  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
flow.timeout  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
flow.journal  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
flow.prep(Store())  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
flow.exec(None)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
flow.post(Store(), None, None)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
flow.exec_fallback(None, OSError())  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
flow.successors  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
one_step: Node = flow  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
flow.max_step = 50  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
