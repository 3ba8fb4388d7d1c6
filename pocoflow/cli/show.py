"""``pocoflow runs show``: one run, for a person or a program."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from pocoflow.cli.asked import history
from pocoflow.cli.database import find_run, open_database
from pocoflow.cli.output import duration, moment, node_path, one_line, printable, table, width
from pocoflow.db import EventRow, RunRow, WorkflowDB
from pocoflow.db.expenses import Expense
from pocoflow.db.run_reports import StoredValue, finished_items, stored_values
from pocoflow.messages import counted
from pocoflow.nodes.question import Asked
from pocoflow.nodes.spending import sum_of
from pocoflow.views.runs import (
    costs,
    describe,
    finished,
    labels_of,
    parse_time,
    seconds,
    shown,
    users_frames,
    waits_for_resume,
)
from pocoflow.views.targets import command

_WIDTH = 100
_LEAST = 30
_OTHERS = 62
"""The width of the other columns, in characters."""

_READ = 100_000
_VALUE = 200


def show_run(args: argparse.Namespace) -> int:
    """Show one run: its row, its events with their times, its attempts, its questions and answers,
    errors with traceback, and the store after its last finished step.
    """
    with open_database(args.db) as db:
        run = find_run(db, args.run_id)
        if args.format == "json":
            print(json.dumps(_json_object(db, run), indent=2))
        else:
            print(*_text(db, run), sep="\n")
    return 0


def _json_object(db: WorkflowDB, run: RunRow) -> dict[str, object]:
    step, _ = _last_step(db, run["run_id"])
    values = stored_values(db, run["run_id"], step)
    return as_json(run) | {
        "traceback": run["traceback"],
        "finished_items": finished_items(db, run["run_no"]),
        "account": {name: str(each) for name, each in db.get_account(run["run_id"]).items()},
        "expenses": [each.as_json() for each in db.get_expenses(run["run_id"])],
        "events": db.get_events(run["run_id"]),
        "questions": [each.as_json() for each in db.get_questions(run["run_id"])],
        "store_after_step": step,
        "store": {key: value.read() for key, value in values.items()},
    }


def as_json(run: RunRow) -> dict[str, object]:
    """The row of a run, for programs; ``error`` is the message of its error."""
    cells: Mapping[str, object] = run
    return {name: cells[_COLUMNS.get(name, name)] for name in _SHOWN}


_SHOWN = (
    *("run_id", "flow", "status", "started_at", "completed_at", "steps", "node", "error_type"),
    *("error", "parent_run_id", "parent_step", "due_at", "thread", "labels"),
)
_COLUMNS = {
    "flow": "flow_name",
    "steps": "total_steps",
    "node": "current_node",
    "error": "error_msg",
}


# -- as text --------------------------------------------------------------------------------------


def _text(db: WorkflowDB, run: RunRow) -> Iterator[str]:
    events = db.get_events(run["run_id"])
    questions = db.get_questions(run["run_id"])
    expenses = db.get_expenses(run["run_id"])
    account = shown(sum_of(expense.amounts for expense in expenses))
    yield from _row(run, finished_items(db, run["run_no"]), account, db.now())
    if next_command := _next_command(run, questions):
        yield f"go on with: {command(*next_command, path=db.path)}"
    yield from ("", "events", *_timeline(events))
    if expenses:
        yield from ("", "spent", *_costs(expenses))
    if questions:
        yield from ("", "questions", *history(questions))
    remarks = [(_title(event), event["note"] or "") for event in events if _is_remark(event)]
    if remarks:
        yield from ("", "remarks")
    for title, remark in remarks:
        yield from (f"  {title}", *_indented(remark))
    for event in events:
        if event["traceback"] and event["event"] != "flow_error":
            yield from ("", _title(event), *_indented(users_frames(event["traceback"])))
    if run["traceback"] and not any(e["event"] == "node_error" for e in events):
        yield from ("", "error", *_indented(users_frames(run["traceback"])))
    yield from ("", *_last_store(db, run["run_id"]))


def _costs(expenses: Iterable[Expense]) -> list[str]:
    rows = []
    for cost in costs(expenses):
        item = "" if cost.item is None else f"item {cost.item}"
        calls = counted(cost.calls, "call") if cost.calls else ""
        node = node_path(cost.node)
        attempt = f"attempt {cost.attempt}"
        rows.append(("", f"step {cost.step}", node, item, attempt, calls, printable(cost.amounts)))
    return table(rows)


def _row(run: RunRow, items: int, account: str, now: datetime) -> Iterator[str]:
    facts = {
        "run": run["run_id"],
        "flow": run["flow_name"],
        "thread": run["thread"],
        "labels": labels_of(run["labels"]),
        "status": run["status"],
        "due": _utc(run["due_at"]) if run["status"] in ("queued", "paused") else "",
        "started": _utc(run["started_at"]),
        "ended": _utc(run["completed_at"]),
        "time": duration(seconds(run, now)),
        "steps": str(run["total_steps"]),
        "node": run["current_node"],
        "items": finished(items),
        "spent": account,
        "error": describe(run, module=True),
        "forked": f"from step {run['parent_step']} of {run['parent_run_id']}"
        if run["parent_run_id"]
        else "",
    }
    for name, value in facts.items():
        if value:
            yield f"{name:<9}{printable(value)}"


def _next_command(run: RunRow, questions: Sequence[Asked]) -> tuple[str, ...]:
    """The words of the command that continues a run, if it needs one."""
    run_id, status = run["run_id"], run["status"]
    if status == "paused" and any(question.is_open for question in questions):
        return ("answer", run_id)
    if waits_for_resume(run) or status in ("paused", "failed", "cancelled"):
        return ("resume", run_id, "FLOW")
    return ()


def _utc(text: object) -> str:
    time = moment(text)
    return f"{time} UTC" if time else ""


def _timeline(events: Sequence[EventRow]) -> list[str]:
    first = parse_time(events[0]["ts"]) if events else None
    rows = []
    for event in events:
        time = parse_time(event["ts"])
        after = "" if time is None or first is None else f"{(time - first).total_seconds():.3f} s"
        step = event["step"]
        about_node = event["node_name"] is not None
        rows.append(
            (
                "",
                after,
                printable(event["event"]),
                f"step {step}" if about_node and step is not None else "",
                node_path(event["node_name"] or ""),
                _details(event),
                duration(None if event["elapsed_ms"] is None else event["elapsed_ms"] / 1000),
            )
        )
    return table(rows, right=(1, 6))


def _details(event: EventRow) -> str:
    parts = []
    if event["action"] is not None:
        parts.append(f"-> {event['action']}")
    attempts = event["attempt"]
    if event["event"] in ("node_retry", "node_error"):
        parts.append(f"attempt {attempts} failed" if attempts else "failed")
    elif attempts is not None and attempts > 1:
        parts.append(f"{attempts} attempts")
    note = event["note"] if not _is_remark(event) else "remark: see below"
    parts += filter(None, (describe(event), note))
    columns = width()
    return one_line(", ".join(parts), _WIDTH if columns is None else max(_LEAST, columns - _OTHERS))


def _is_remark(event: EventRow) -> bool:
    return event["note"] is not None and event["event"] != "node_ask"


def _title(event: EventRow) -> str:
    attempt = f", attempt {event['attempt']}" if event["attempt"] else ""
    node = f" in step {event['step']}, {node_path(event['node_name'] or '')}"
    return f"{printable(event['event'])}{node if event['node_name'] else ''}{attempt}"


def _indented(text: str) -> list[str]:
    return [f"    {printable(line)}".rstrip() for line in text.rstrip("\n").split("\n")]


def _last_step(db: WorkflowDB, run_id: str) -> tuple[int, str]:
    """The last finished step and its node; -1 if there is none."""
    checkpoints = db.get_checkpoints(run_id)
    return (checkpoints[-1]["step"], checkpoints[-1]["node_name"]) if checkpoints else (-1, "")


def _last_store(db: WorkflowDB, run_id: str) -> Iterator[str]:
    step, node = _last_step(db, run_id)
    before = "store before the first step"
    yield before if step < 0 else f"store after step {step}, {node_path(node)}"
    values = stored_values(db, run_id, step, _READ)
    rows = [("", one_line(key, 40), _shown(value)) for key, value in values.items()]
    yield from table(rows) or ["  (empty)"]
    if any(value.size > _VALUE for value in values.values()):
        whole = command("runs", "show", run_id, "--format", "json", path=db.path)
        yield from ("", f"whole values: {whole}")


def _shown(value: StoredValue) -> str:
    """A stored value in its JSON form, cut if it is long."""
    if value.not_saved is not None:
        return one_line(f"(not saved: {value.not_saved[1]})", _VALUE)
    text = json.dumps(value.read(), ensure_ascii=False) if value.is_whole else value.text
    size = len(text) if value.is_whole else value.size
    cut = f" ... ({size:,} characters)" if size > _VALUE else ""
    return printable(text[:_VALUE]) + cut
