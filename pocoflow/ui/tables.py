"""The runs and the head of a run as data for ``blocks.js``; every value is plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from pocoflow.db import RunRow
from pocoflow.db.run_reports import FlowCounts
from pocoflow.nodes.question import Asked
from pocoflow.ui.pages_data import ListedRun, RunView
from pocoflow.ui.text import cut, visible
from pocoflow.views.runs import describe, finished, labels_of, seconds, waits_for

Block: TypeAlias = dict[str, Any]
"""The data for ``blocks.js``."""

NAME = 120
"""The maximum length of names in tables."""


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        column: The head of the column.
        value: The value.
        kind: How ``blocks.js`` shows the values of the column.
        less: Whether the column is hidden on a narrow page.
    """

    column: str
    value: object
    kind: str = "text"
    less: bool = False


def row(row_id: object, *cells: Cell) -> Block:
    """A row with its cells, and a permanent ``id``."""
    return {"id": str(row_id), "cells": cells}


def table(label: str, rows: Iterable[Block], *, height: int | None = 420, **about: object) -> Block:
    """A table of rows with the same columns; one with a ``name`` can be opened."""
    given = list(rows)
    heads: Sequence[Cell] = given[0]["cells"] if given else ()
    columns = [{"label": head.column, "kind": head.kind, "less": head.less} for head in heads]
    shown = [{**it, "cells": [cell.value for cell in it["cells"]]} for it in given]
    block = {"layout": "table", "label": label, "columns": columns, "rows": shown}
    return {**block, "height": height, **about}


# -- runs -----------------------------------------------------------------------------------------


def runs_table(runs: Iterable[ListedRun], chosen: str | None, now: datetime) -> Block:
    """The runs of a page; a row opens its run."""
    rows = (
        row(
            run["run_id"],
            Cell("Run", cut(run["run_id"], NAME)),
            Cell("Status", run["status"], "status"),
            Cell("Flow", cut(run["flow_name"], NAME), less=True),
            Cell("Started", _started(run), "time", less=True),
            Cell("Duration", duration(run, now), "seconds"),
            Cell("Steps", run["total_steps"], "number", less=True),
            Cell("Current node", _node(run)),
            Cell("Parent", cut(run["parent_run_id"] or "", NAME), less=True),
        )
        | {"name": visible(run["run_id"])}
        for run in runs
    )
    about = {"chosen": chosen, "opens": "Open run", "now": now.isoformat()}
    return table("Runs, the newest first", rows, height=460, **about)


def _started(run: RunRow) -> str | None:
    return None if run["status"] == "queued" else run["started_at"]


def duration(run: RunRow, now: datetime) -> object:
    """The duration of a run, or the start of an active one."""
    if run["status"] == "running" and run["started_at"]:
        return {"kind": "since", "value": run["started_at"]}
    return seconds(run, now)


def _node(run: ListedRun) -> object:
    name = cut(run["current_node"] or "", NAME)
    if run["node_began"]:
        return [name, {"kind": "text", "value": "·"}, {"kind": "since", "value": run["node_began"]}]
    if run["status"] == "paused":
        return [name, {"kind": "text", "value": f"· {waits_for(run['questions'])}"}]
    if run["status"] == "failed" and run["error_msg"]:
        return [name, {"kind": "text", "value": cut(f"· {describe(run)}", 120)}]
    return name


def _facts(label: str, facts: Iterable[tuple[str, str, object]], **about: object) -> Block:
    """Facts, each with its kind; unknown ones are left out."""
    known = [[*fact] for fact in facts if fact[2] not in (None, "")]
    return {"layout": "facts", "label": label, "facts": known, **about}


def database_facts(path: str) -> Block:
    """The database, and the time zone of the browser, in which all times are shown."""
    facts = [("Database", "code", visible(path)), ("Times in", "zone", "of the browser")]
    return _facts("The database", facts)


def summary(counts: Iterable[FlowCounts], questions: int = 0) -> Block:
    """How many runs there are, how they went, and how many questions are open."""
    total: Counter[str] = Counter()
    for flow in counts:
        total.update(flow.by_status)
    everything = FlowCounts("", total)
    numbers = {"Runs": everything.total}
    for status in ("running", "paused", "queued", "completed", "failed", "cancelled"):
        if total[status]:
            numbers[status.capitalize()] = total[status]
    if questions:
        numbers["Open questions"] = questions
    facts = [(name, "number", f"{number:,}") for name, number in numbers.items()]
    return _facts("All runs", [*facts, ("Failure rate", "text", rate(everything))])


def rate(counts: FlowCounts) -> str:
    """The failure rate as text."""
    return "–" if counts.failure_rate is None else f"{counts.failure_rate:.1%}"


def flows_table(counts: Sequence[FlowCounts]) -> Block:
    """Counts and failure rate of each flow."""
    rows = (
        row(
            flow.flow_name,
            Cell("Flow", cut(flow.flow_name, NAME)),
            Cell("Runs", f"{flow.total:,}", "number"),
            *(
                Cell(
                    status.capitalize(),
                    f"{flow.by_status.get(status, 0):,}",
                    "number",
                    less=status in ("running", "cancelled"),
                )
                for status in ("running", "completed", "failed", "cancelled")
            ),
            Cell("Failure rate", rate(flow), "number"),
        )
        for flow in counts
    )
    return table("Runs by flow", rows, height=None)


# -- a run ----------------------------------------------------------------------------------------


def run_facts(view: RunView, now: datetime) -> Block:
    """The facts of a run."""
    run, questions = view.run, len(view.open)
    is_cancelled = run["status"] == "running" and run["cancel_requested"]
    is_waiting = run["status"] == "paused" or questions
    parent = f"{cut(run['parent_run_id'] or '', NAME)}, step {run['parent_step']}"
    label = "Last node" if run["status"] == "completed" else "Current node"
    facts = (
        ("Run", "code", visible(run["run_id"])),
        ("Status", "status", run["status"]),
        ("Flow", "text", cut(run["flow_name"], NAME)),
        ("Started", "time", _started(run)),
        ("Duration", "seconds", duration(run, now)),
        ("Steps", "number", run["total_steps"]),
        (label, "text", cut(run["current_node"] or "", NAME)),
        ("Items", "text", finished(view.items)),
        ("In this node for", "since", view.began),
        ("Cancel", "text", "asked to stop after this step" if is_cancelled else None),
        ("Questions", "text", waits_for(questions) if is_waiting else None),
        ("Run thread", "code", cut(run["thread"] or "", NAME)),
        ("Labels", "text", cut(labels_of(run["labels"]), 200)),
        ("Forked from", "code", parent if run["parent_run_id"] else None),
    )
    return _facts("The run", facts, now=now.isoformat())


def question_facts(question: Asked, now: datetime) -> Block:
    """The facts of a question, with its deadline."""
    facts = (
        ("Question", "number", question.question),
        ("Node", "text", cut(question.node, NAME)),
        ("Item", "number", question.item),
        ("Asked", "time", question.asked_at),
        ("Until", "time", question.deadline),
        ("Then", "text", _afterwards(question)),
    )
    return _facts(f"Question {question.question}", facts, now=now.isoformat())


def _afterwards(question: Asked) -> str:
    if question.deadline is None:
        return ""
    return "the node fails" if question.default is None else f"{cut(question.default, 80)} counts"
