"""What type checkers know about ``WorkflowDB``. Never executed."""

from pathlib import Path
from typing import Any, assert_type

from pydantic import BaseModel

from pocoflow import Flow, Node, Store, WorkflowDB
from pocoflow.db import CheckpointRow, EventRow, RunRow, Status


class Article(BaseModel):
    document: str
    summary: str = ""


class Comment(BaseModel):
    text: str


with WorkflowDB("pocoflow.db") as db:
    assert_type(db, WorkflowDB)

assert_type(WorkflowDB(Path("pocoflow.db"), synchronous="NORMAL", read_only=True), WorkflowDB)
assert_type(db.list_runs(), list[RunRow])
assert_type(db.list_runs(10)[0]["run_id"], str)
assert_type(db.list_runs(10)[0]["status"], Status)
assert_type(db.list_runs(10)[0]["labels"], dict[str, str])
assert_type(db.get_run("run-1"), RunRow | None)
assert_type(db.get_events("run-1"), list[EventRow])
assert_type(db.get_events("run-1")[0]["event"], str)
assert_type(db.get_events("run-1")[0]["step"], int | None)
assert_type(db.get_checkpoints("run-1"), list[CheckpointRow])
assert_type(db.get_checkpoints("run-1")[-1]["step"], int)
assert_type(db.get_checkpoints("run-1")[-1]["store_json"], str)
assert_type(db.load_checkpoint("run-1", 2), Store[Any])
assert_type(db.load_checkpoint("run-1", step=2), Store[Any])
assert_type(db.load_checkpoint("run-1", 2, schema={"query": str}), Store[Any])
assert_type(db.load_checkpoint("run-1", 2, schema=Article), Store[Article])
assert_type(db.load_checkpoint("run-1", -1, schema=Article, types=[Comment]), Store[Article])
db.create_run("run-1")
db.create_run("run-1", "article")
db.update_run("run-1", status="paused", error_msg=None)
db.prune(keep=1, status="failed")
db.prune(keep=1, status=["failed", "completed"])
db.save_checkpoint("run-1", 0, "Summarise", Store({"a": 1}))
db.save_checkpoint("run-1", 0, "Summarise", {"a": 1})
db.save_event("run-1", "node_end", step=1, node_name="Summarise", action="done", elapsed_ms=1.5)

runs = [row for row in db.list_runs() if row["status"] == "failed"]
last = db.get_checkpoints(runs[0]["run_id"])[-1]
restored = db.load_checkpoint(runs[0]["run_id"], step=last["step"])
Flow(start=Node(), db_path="pocoflow.db").run(restored, resume_from=Node())
Flow(start=Node(), schema=Article).run(db.load_checkpoint("run-1", 2))
Flow(start=Node(), schema=Article).run(db.load_checkpoint("run-1", 2, schema=Article))

# -- mistakes ---------------------------------------------------------------------------------

WorkflowDB(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
WorkflowDB("pocoflow.db", synchronous="OFF")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
WorkflowDB("pocoflow.db", True)  # type: ignore[call-arg, arg-type]  # ty: ignore[too-many-positional-arguments]
db.load_checkpoint("run-1")  # type: ignore[call-arg]  # ty: ignore[missing-argument]
db.load_checkpoint("run-1", "2")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.load_checkpoint(1, 2)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.load_checkpoint("run-1", 2, schema=Article(document=""))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.load_checkpoint("run-1", 2, schema=int)  # type: ignore[type-var]  # ty: ignore[invalid-argument-type]
db.load_checkpoint("run-1", 2, schema=Article).state.sumary  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
Flow(start=Node(), schema=Article).run(db.load_checkpoint("run-1", 2, schema=Comment))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.get_run("run-1")["status"]  # type: ignore[index]  # ty: ignore[not-subscriptable]
runs[0]["state"]  # type: ignore[typeddict-item]  # ty: ignore[invalid-typed-dict-key]
db.list_runs(status="complete")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
wrong: Status = "complete"  # type: ignore[assignment]  # ty: ignore[invalid-assignment]
runs[0]["status"] = "complete"  # type: ignore[typeddict-item]  # ty: ignore[invalid-assignment]
db.get_events("run-1")[0]["node"]  # type: ignore[typeddict-item]  # ty: ignore[invalid-typed-dict-key]
db.get_run(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.prune(keep=1, labels=3)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.prune(keep=1, status="complete")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.prune(keep=1, status=["failed", "complete"])  # type: ignore[list-item]  # ty: ignore[invalid-argument-type]
db.update_run("run-1", status="complete")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.update_run("run-1", stat="completed")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
db.list_runs("10")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.list_runs().run_id  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]
db.get_events(5)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.save_checkpoint("run-1", 0, "Summarise", [1])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
db.save_event("run-1", "node_end", step="1")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
WorkflowDB("pocoflow.db", readonly=True)  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
