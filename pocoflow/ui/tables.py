"""What the tables of the monitor have in them, as data for ``blocks.js``; values are plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from pocoflow.db.reports import FlowCounts, StoredValue
from pocoflow.ui.data import Changed
from pocoflow.ui.steps import Step, describe, parse
from pocoflow.ui.text import cut, visible

__all__ = [
    "Block",
    "changes_table",
    "events_table",
    "flows_table",
    "run_facts",
    "runs_table",
    "steps_table",
    "store_table",
    "summary",
]

Block: TypeAlias = dict[str, Any]
"""What ``blocks.js`` is given."""

MOST_ROWS = 400
"""Rows of steps or events that are shown, the last ones."""

_NAME = 120


def _column(label: str, kind: str = "text", *, less: bool = False) -> dict[str, Any]:
    return {"label": label, "kind": kind, "less": less}


def _table(label: str, columns: Sequence[Mapping[str, Any]], rows: list[Block]) -> Block:
    return {"layout": "table", "label": label, "columns": list(columns), "rows": rows}


# -- runs -----------------------------------------------------------------------------------------


def runs_table(runs: Iterable[Mapping[str, Any]], chosen: str | None, now: datetime) -> Block:
    """The runs of a page; what a row opens is its run."""
    columns = (
        _column("Run"),
        _column("Status", "status"),
        _column("Flow", less=True),
        _column("Started", "time", less=True),
        _column("Duration", "seconds"),
        _column("Steps", "number", less=True),
        _column("Current node"),
        _column("Parent", less=True),
    )
    rows = [
        {
            "id": run["run_id"],
            "name": visible(run["run_id"]),
            "cells": [
                cut(run["run_id"], _NAME),
                run["status"],
                cut(run["flow_name"], _NAME),
                _started(run),
                duration(run),
                run["total_steps"],
                _node(run),
                cut(run["parent_run_id"] or "", _NAME),
            ],
        }
        for run in runs
    ]
    about = {"chosen": chosen, "opens": "Open run", "now": now.isoformat(), "height": 460}
    return _table("Runs, the newest first", columns, rows) | about


def _started(run: Mapping[str, Any]) -> str | None:
    return None if run["status"] == "queued" else run["started_at"]


def duration(run: Mapping[str, Any]) -> Any:
    """How long a run took, or since when it runs."""
    if run["status"] == "running" and run["started_at"]:
        return {"kind": "since", "value": run["started_at"]}
    if not run["started_at"] or not run["completed_at"] or run["status"] == "queued":
        return None
    return (parse(run["completed_at"]) - parse(run["started_at"])).total_seconds()


def _node(run: Mapping[str, Any]) -> Any:
    name = cut(run["current_node"] or "", _NAME)
    if run.get("node_began"):
        return [name, {"kind": "text", "value": "·"}, {"kind": "since", "value": run["node_began"]}]
    if run["status"] == "failed" and run["error_msg"]:
        return [name, {"kind": "text", "value": cut(f"· {describe(run)}", 80)}]
    return name


def summary(path: str, counts: Sequence[FlowCounts]) -> Block:
    """The database, how many runs it has, and how they went."""
    everything = _totals(counts)
    facts = [["Database", "code", visible(path)], ["Runs", "number", f"{everything.total:,}"]]
    for status in ("running", "paused", "queued", "completed", "failed", "cancelled"):
        if everything.by_status.get(status):
            facts.append([status.capitalize(), "number", f"{everything.by_status[status]:,}"])
    facts.append(["Failure rate", "text", rate(everything)])
    return {"layout": "facts", "label": "All runs", "facts": facts}


def _totals(counts: Iterable[FlowCounts]) -> FlowCounts:
    total: dict[str, int] = {}
    for flow in counts:
        for status, runs in flow.by_status.items():
            total[status] = total.get(status, 0) + runs
    return FlowCounts("", total)


def rate(counts: FlowCounts) -> str:
    """The failure rate as text."""
    return "–" if counts.failure_rate is None else f"{counts.failure_rate:.1%}"


def flows_table(counts: Sequence[FlowCounts]) -> Block:
    """Counts and failure rate of each flow."""
    statuses = ("running", "completed", "failed", "cancelled")
    columns = [_column("Flow"), _column("Runs", "number")]
    columns += [
        _column(status.capitalize(), "number", less=status in ("running", "cancelled"))
        for status in statuses
    ]
    columns += [_column("Failure rate", "number")]
    rows = [
        {
            "id": flow.flow_name,
            "cells": [
                cut(flow.flow_name, _NAME),
                f"{flow.total:,}",
                *(f"{flow.by_status.get(status, 0):,}" for status in statuses),
                rate(flow),
            ],
        }
        for flow in counts
    ]
    return _table("Runs by flow", columns, rows)


# -- a run ----------------------------------------------------------------------------------------


def run_facts(run: Mapping[str, Any], began: str | None, now: datetime) -> Block:
    """The head of a run."""
    facts: list[list[Any]] = [
        ["Run", "code", visible(run["run_id"])],
        ["Status", "status", run["status"]],
        ["Flow", "text", cut(run["flow_name"], _NAME)],
        ["Started", "time", _started(run)],
        ["Duration", "seconds", duration(run)],
        ["Steps", "number", run["total_steps"]],
    ]
    label = "Last node" if run["status"] == "completed" else "Current node"
    facts.append([label, "text", cut(run["current_node"] or "", _NAME)])
    if began is not None:
        facts.append(["In this node for", "since", began])
    if run["status"] == "running" and run["cancel_requested"]:
        facts.append(["Cancel", "text", "asked to stop after this step"])
    if run["parent_run_id"]:
        parent = f"{cut(run['parent_run_id'], _NAME)}, step {run['parent_step']}"
        facts.append(["Forked from", "code", parent])
    facts = [fact for fact in facts if fact[2] not in (None, "")]
    return {"layout": "facts", "label": "The run", "facts": facts, "now": now.isoformat()}


def steps_table(steps: Sequence[Step]) -> Block:
    """A bar for each step, with its attempts; hatched are those that failed."""
    columns = (
        _column("Step", "number"),
        _column("Node"),
        _column("Status", "status"),
        _column("Attempts", "number", less=True),
        _column("Time", "seconds"),
        _column("When", "bar"),
    )
    shown = steps[-MOST_ROWS:]
    start = min((step.began for step in shown), default=None)
    whole = max((step.ended for step in shown), default=None)
    length = 0.0 if start is None or whole is None else (whole - start).total_seconds()
    rows = []
    for place, step in enumerate(shown):
        parts = []
        for number, attempt in enumerate(step.attempts, start=1):
            seconds = (attempt.ended - attempt.began).total_seconds()
            parts.append(
                {
                    "from": _share(attempt.began, start, length),
                    "to": _share(attempt.ended, start, length),
                    "tone": "retried"
                    if attempt.error and number < len(step.attempts)
                    else step.status,
                    "title": cut(_attempt(number, len(step.attempts), seconds, attempt.error)),
                }
            )
        measured = None if step.elapsed_ms is None else step.elapsed_ms / 1000
        running: Any = {"kind": "since", "value": step.began.isoformat()}
        rows.append(
            {
                "id": f"{place}-{step.number}",
                "cells": [
                    step.number,
                    cut(step.node, _NAME),
                    step.status,
                    len(step.attempts),
                    running if step.status == "running" else measured,
                    parts,
                ],
            }
        )
    return _table("Steps in time", columns, rows) | {"height": 420}


def _attempt(number: int, attempts: int, seconds: float, error: str | None) -> str:
    title = f"{seconds:.3f} s" if attempts == 1 else f"attempt {number}: {seconds:.3f} s"
    return f"{title}, {error}" if error else title


def _share(time: datetime, start: datetime | None, length: float) -> float:
    return 0.0 if start is None or not length else (time - start).total_seconds() / length


def events_table(events: Sequence[Mapping[str, Any]]) -> Block:
    """The event log of a run."""
    columns = (
        _column("After", "seconds"),
        _column("Event", "word"),
        _column("Step", "number"),
        _column("Node"),
        _column("Action", less=True),
        _column("Latency (ms)", "number"),
        _column("Attempt", "number", less=True),
        _column("Error"),
    )
    start = parse(events[0]["ts"]) if events else None
    rows = [
        {
            "id": str(event["id"]),
            "cells": [
                None if start is None else (parse(event["ts"]) - start).total_seconds(),
                visible(event["event"]),
                event["step"] if event["node_name"] is not None else None,
                cut(event["node_name"] or "", _NAME),
                cut(event["action"] or "", _NAME),
                None if event["elapsed_ms"] is None else f"{event['elapsed_ms']:,.1f}",
                event.get("attempt"),
                cut(describe(event)),
            ],
        }
        for event in events[-MOST_ROWS:]
    ]
    return _table("Events", columns, rows) | {"height": 420}


# -- its store ------------------------------------------------------------------------------------


def store_table(
    values: Mapping[str, StoredValue], nodes: Mapping[int, str], chosen: str | None
) -> Block:
    """The keys of a store; what a row opens is the whole value."""
    columns = (
        _column("Key", "code"),
        _column("Value", "code"),
        _column("Size", "number", less=True),
        _column("Last written by"),
    )
    rows = []
    for value in values.values():
        shown: Any = cut(value.text, size=value.size)
        if value.not_saved is not None:
            mark = {"kind": "status", "value": "not saved"}
            shown = [mark, {"kind": "text", "value": cut(value.not_saved[0])}]
        writer = "at the beginning"
        if value.step >= 0:
            writer = f"step {value.step}, {cut(nodes.get(value.step, ''), _NAME)}"
        rows.append(
            {
                "id": value.key,
                "name": cut(value.key, _NAME),
                "cells": [cut(value.key, _NAME), shown, f"{value.size:,}", writer],
            }
        )
    about = {"chosen": chosen, "opens": "Show the value of", "height": 460}
    return _table("Store", columns, rows) | about


def changes_table(changes: Iterable[Changed]) -> Block:
    """What differs between two steps."""
    columns = (
        _column("Key", "code"),
        _column("Change", "word"),
        _column("Before", "code"),
        _column("After", "code"),
    )
    rows = [
        {
            "id": one.key,
            "cells": [cut(one.key, _NAME), one.what, cut(one.before), cut(one.after)],
        }
        for one in changes
    ]
    return _table("Changes", columns, rows) | {"height": 420}
