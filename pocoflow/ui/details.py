"""The steps, events and store of a run as data for ``blocks.js``; every value is plain text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from pocoflow.db import EventRow
from pocoflow.db.expenses import Expense
from pocoflow.db.run_reports import StoredValue
from pocoflow.nodes.question import Asked
from pocoflow.nodes.spending import sum_of
from pocoflow.ui.pages_data import Changed
from pocoflow.ui.steps import Step, parse
from pocoflow.ui.tables import NAME, Block, Cell, row, table
from pocoflow.ui.text import cut, visible
from pocoflow.views.runs import costs, describe, shown

_MOST_ROWS = 400
"""Rows of steps or events that are shown, the last ones."""


def steps_table(steps: Sequence[Step]) -> Block:
    """A bar for each step, with its attempts; hatched are those that failed."""
    shown = steps[-_MOST_ROWS:]
    start = min((step.began for step in shown), default=parse(None))
    end = max((step.ended for step in shown), default=start)
    length = (end - start).total_seconds() or 1.0
    rows = []
    for panel, step in enumerate(shown):
        parts = []
        for number, attempt in enumerate(step.attempts, start=1):
            is_retried = attempt.error and number < len(step.attempts)
            seconds = (attempt.ended - attempt.began).total_seconds()
            part = {
                "from": (attempt.began - start).total_seconds() / length,
                "to": (attempt.ended - start).total_seconds() / length,
                "tone": "retried" if is_retried else step.status,
                "title": cut(_attempt(number, len(step.attempts), seconds, attempt.error)),
            }
            parts.append(part)
        measured = None if step.elapsed_ms is None else step.elapsed_ms / 1000
        running: object = {"kind": "since", "value": step.began.isoformat()}
        rows.append(
            row(
                f"{panel}-{step.number}",
                Cell("Step", step.number, "number"),
                Cell("Node", cut(step.node, NAME)),
                Cell("Status", step.status, "status"),
                Cell("Attempts", len(step.attempts), "number", less=True),
                Cell("Time", running if step.status == "running" else measured, "seconds"),
                Cell("When", parts, "bar"),
            )
        )
    return table("Steps in time", rows)


def _attempt(number: int, attempts: int, seconds: float, error: str | None) -> str:
    title = f"{seconds:.3f} s" if attempts == 1 else f"attempt {number}: {seconds:.3f} s"
    return f"{title}, {error}" if error else title


def costs_table(expenses: Sequence[Expense]) -> Block:
    """What the attempts of a run have cost."""
    rows = (
        row(
            panel,
            Cell("Step", one.step, "number"),
            Cell("Node", cut(one.node, NAME)),
            Cell("Item", one.item, "number", less=True),
            Cell("Attempt", one.attempt, "number"),
            Cell("Calls", one.calls or None, "number"),
            Cell("Spent", cut(one.amounts)),
        )
        for panel, one in enumerate(costs(expenses)[-_MOST_ROWS:])
    )
    return table(f"Spent: {shown(sum_of(one.amounts for one in expenses))}", rows)


def events_table(events: Sequence[EventRow]) -> Block:
    """The event log of a run."""
    start = parse(events[0]["ts"] if events else None)
    rows = (
        row(
            event["id"],
            Cell("After", (parse(event["ts"]) - start).total_seconds(), "seconds"),
            Cell("Event", visible(event["event"]), "word"),
            Cell("Step", event["step"] if event["node_name"] is not None else None, "number"),
            Cell("Node", cut(event["node_name"] or "", NAME)),
            Cell("Action", cut(event["action"] or "", NAME), less=True),
            Cell("Latency (ms)", _grouped(event["elapsed_ms"]), "number"),
            Cell("Attempt", event["attempt"], "number", less=True),
            Cell("Message", cut(describe(event))),
        )
        for event in events[-_MOST_ROWS:]
    )
    return table("Events", rows)


def _grouped(number: float | None) -> str | None:
    return None if number is None else f"{number:,.1f}"


def answers_table(asked: Sequence[Asked]) -> Block:
    """What a run has asked, and what was answered, by whom and when."""
    rows = []
    for one in asked[-_MOST_ROWS:]:
        item = "" if one.item is None else f", item {one.item}"
        state = {"kind": "status", "value": "no answer" if one.is_closed else "open"}
        rows.append(
            row(
                one.question,
                Cell("No.", one.question, "number"),
                Cell("Node", cut(one.node, NAME) + item, less=True),
                Cell("Question", cut(one.text)),
                Cell("Answer", state if one.answer is None else cut(_readable(one.answer)), "code"),
                Cell("By", cut(one.answered_by or "", NAME)),
                Cell("When", one.answered_at, "time", less=True),
            )
        )
    return table("Questions and answers", rows)


def _readable(text: str) -> str:
    return json.dumps(json.loads(text), ensure_ascii=False)


# -- its store ------------------------------------------------------------------------------------


def store_table(
    values: Mapping[str, StoredValue], nodes: Mapping[int, str], chosen: str | None
) -> Block:
    """The keys of a store; what a row opens is the whole value."""
    rows = []
    for value in values.values():
        shown: object = cut(value.text, size=value.size)
        if value.not_saved is not None:
            mark = {"kind": "status", "value": "not saved"}
            shown = [mark, {"kind": "text", "value": cut(value.not_saved[0])}]
        writer = "at the beginning"
        if value.step >= 0:
            writer = f"step {value.step}, {cut(nodes.get(value.step, ''), NAME)}"
        name = cut(value.key, NAME)
        cells = (
            Cell("Key", name, "code"),
            Cell("Value", shown, "code"),
            Cell("Size", f"{value.size:,}", "number", less=True),
            Cell("Last written by", writer),
        )
        rows.append(row(value.key, *cells) | {"name": name})
    return table("Store", rows, height=460, chosen=chosen, opens="Show the value of")


def changes_table(changes: Iterable[Changed]) -> Block:
    """What differs between two steps."""
    rows = (
        row(
            one.key,
            Cell("Key", cut(one.key, NAME), "code"),
            Cell("Change", one.what, "word"),
            Cell("Before", cut(one.before), "code"),
            Cell("After", cut(one.after), "code"),
        )
        for one in changes
    )
    return table("Changes", rows)
