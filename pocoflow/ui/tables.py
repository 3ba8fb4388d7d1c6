"""The runs and the head of a run as data for ``blocks.js``; every value is plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from pocoflow.db import RunRow
from pocoflow.db.run_reports import FlowCounts
from pocoflow.nodes.question import Asked
from pocoflow.ui.pages_data import ListedRun
from pocoflow.ui.text import cut, visible
from pocoflow.views.runs import describe, finished, labels_of, seconds, waits_for

Block: TypeAlias = dict[str, Any]
"""What ``blocks.js`` is given."""

NAME = 120
"""How many characters of a name a table shows."""


class Cell(NamedTuple):
    """What a table shows of a row in one of its columns.

    Attributes:
        column: The head of the column.
        value: What is shown.
        kind: How ``blocks.js`` shows what is in the column.
        less: Whether the column is hidden on a narrow page.
    """

    column: str
    value: object
    kind: str = "text"
    less: bool = False


def row(own: object, *cells: Cell) -> Block:
    """A row with its cells, and an ``id`` that stays."""
    return {"id": str(own), "cells": cells}


def table(label: str, rows: Iterable[Block], *, height: int | None = 420, **about: object) -> Block:
    """A table of rows with the same columns; one with a ``name`` can be opened."""
    given = list(rows)
    heads: Sequence[Cell] = given[0]["cells"] if given else ()
    columns = [{"label": one.column, "kind": one.kind, "less": one.less} for one in heads]
    shown = [{**one, "cells": [cell.value for cell in one["cells"]]} for one in given]
    made = {"layout": "table", "label": label, "columns": columns, "rows": shown}
    return {**made, "height": height, **about}


# -- runs -----------------------------------------------------------------------------------------


def runs_table(runs: Iterable[ListedRun], chosen: str | None, now: datetime) -> Block:
    """The runs of a page; what a row opens is its run."""
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
    """How long a run took, or since when it runs."""
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
    """Facts, each with its kind; those of which nothing is known are left out."""
    known = [[*fact] for fact in facts if fact[2] not in (None, "")]
    return {"layout": "facts", "label": label, "facts": known, **about}


def database_facts(path: str) -> Block:
    """Which database is looked at, and in which zone the browser writes the times of all of it."""
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


def run_facts(
    run: RunRow, began: str | None, now: datetime, questions: int = 0, items: int = 0
) -> Block:
    """The head of a run.

    Args:
        run: Its row.
        began: When the node that runs now began.
        now: The time.
        questions: How many of its questions are open.
        items: How many items are finished of the batch that it is at.
    """
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
        ("Items", "text", finished(items)),
        ("In this node for", "since", began),
        ("Cancel", "text", "asked to stop after this step" if is_cancelled else None),
        ("Questions", "text", waits_for(questions) if is_waiting else None),
        ("Run thread", "code", cut(run["thread"] or "", NAME)),
        ("Labels", "text", cut(labels_of(run["labels"]), 200)),
        ("Forked from", "code", parent if run["parent_run_id"] else None),
    )
    return _facts("The run", facts, now=now.isoformat())


def question_facts(one: Asked, now: datetime) -> Block:
    """Which question it is, and until when it can be answered."""
    facts = (
        ("Question", "number", one.question),
        ("Node", "text", cut(one.node, NAME)),
        ("Item", "number", one.item),
        ("Asked", "time", one.asked_at),
        ("Until", "time", one.deadline),
        ("Then", "text", _afterwards(one)),
    )
    return _facts(f"Question {one.question}", facts, now=now.isoformat())


def _afterwards(one: Asked) -> str:
    if one.deadline is None:
        return ""
    return "the node fails" if one.default is None else f"{cut(one.default, 80)} counts"
