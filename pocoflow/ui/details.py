"""The steps, events and store of a run as data for ``blocks.js``; every value is plain text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pocoflow.db import EventRow
from pocoflow.db.expenses import Expense
from pocoflow.db.run_reports import StoredValue
from pocoflow.nodes.question import Asked
from pocoflow.nodes.spending import sum_of
from pocoflow.ui.pages_data import Changed
from pocoflow.ui.steps import Step, parse
from pocoflow.ui.tables import NAME, Block, column, row, table
from pocoflow.ui.text import cut, visible
from pocoflow.views.runs import costs, describe, shown

_MOST_ROWS = 400
"""Rows of steps or events that are shown, the last ones."""


def steps_table(steps: Sequence[Step]) -> Block:
    """A bar for each step, with its attempts; hatched are those that failed."""
    columns = (
        column("Step", "number"),
        column("Node"),
        column("Status", "status"),
        column("Attempts", "number", less=True),
        column("Time", "seconds"),
        column("When", "bar"),
    )
    shown = steps[-_MOST_ROWS:]
    start = min((step.began for step in shown), default=None)
    whole = max((step.ended for step in shown), default=None)
    length = 0.0 if start is None or whole is None else (whole - start).total_seconds()
    rows = []
    for place, step in enumerate(shown):
        parts = []
        for number, attempt in enumerate(step.attempts, start=1):
            is_retried = attempt.error and number < len(step.attempts)
            seconds = (attempt.ended - attempt.began).total_seconds()
            part = {
                "from": _share(attempt.began, start, length),
                "to": _share(attempt.ended, start, length),
                "tone": "retried" if is_retried else step.status,
                "title": cut(_attempt(number, len(step.attempts), seconds, attempt.error)),
            }
            parts.append(part)
        measured = None if step.elapsed_ms is None else step.elapsed_ms / 1000
        running: object = {"kind": "since", "value": step.began.isoformat()}
        rows.append(
            row(
                f"{place}-{step.number}",
                step.number,
                cut(step.node, NAME),
                step.status,
                len(step.attempts),
                running if step.status == "running" else measured,
                parts,
            )
        )
    return table("Steps in time", columns, rows)


def _attempt(number: int, attempts: int, seconds: float, error: str | None) -> str:
    title = f"{seconds:.3f} s" if attempts == 1 else f"attempt {number}: {seconds:.3f} s"
    return f"{title}, {error}" if error else title


def _share(time: datetime, start: datetime | None, length: float) -> float:
    return 0.0 if start is None or not length else (time - start).total_seconds() / length


def costs_table(expenses: Sequence[Expense]) -> Block:
    """What the attempts of a run have cost."""
    columns = (
        column("Step", "number"),
        column("Node"),
        column("Item", "number", less=True),
        column("Attempt", "number"),
        column("Calls", "number"),
        column("Spent"),
    )
    rows = (
        row(
            place,
            one.step,
            cut(one.node, NAME),
            one.item,
            one.attempt,
            one.calls or None,
            cut(one.amounts),
        )
        for place, one in enumerate(costs(expenses)[-_MOST_ROWS:])
    )
    return table(f"Spent: {shown(sum_of(one.amounts for one in expenses))}", columns, rows)


def events_table(events: Sequence[EventRow]) -> Block:
    """The event log of a run."""
    columns = (
        column("After", "seconds"),
        column("Event", "word"),
        column("Step", "number"),
        column("Node"),
        column("Action", less=True),
        column("Latency (ms)", "number"),
        column("Attempt", "number", less=True),
        column("Message"),
    )
    start = parse(events[0]["ts"]) if events else None
    rows = (
        row(
            event["id"],
            None if start is None else (parse(event["ts"]) - start).total_seconds(),
            visible(event["event"]),
            event["step"] if event["node_name"] is not None else None,
            cut(event["node_name"] or "", NAME),
            cut(event["action"] or "", NAME),
            None if event["elapsed_ms"] is None else f"{event['elapsed_ms']:,.1f}",
            event["attempt"],
            cut(describe(event)),
        )
        for event in events[-_MOST_ROWS:]
    )
    return table("Events", columns, rows)


def answers_table(asked: Sequence[Asked]) -> Block:
    """What a run has asked, and what was answered, by whom and when."""
    columns = (
        column("No.", "number"),
        column("Node", less=True),
        column("Question"),
        column("Answer", "code"),
        column("By"),
        column("When", "time", less=True),
    )
    rows = []
    for one in asked[-_MOST_ROWS:]:
        item = "" if one.item is None else f", item {one.item}"
        state = {"kind": "status", "value": "no answer" if one.is_closed else "open"}
        rows.append(
            row(
                one.question,
                one.question,
                cut(one.node, NAME) + item,
                cut(one.text),
                state if one.answer is None else cut(_readable(one.answer)),
                cut(one.answered_by or "", NAME),
                one.answered_at,
            )
        )
    return table("Questions and answers", columns, rows)


def _readable(text: str) -> str:
    return json.dumps(json.loads(text), ensure_ascii=False)


# -- its store ------------------------------------------------------------------------------------


def store_table(
    values: Mapping[str, StoredValue], nodes: Mapping[int, str], chosen: str | None
) -> Block:
    """The keys of a store; what a row opens is the whole value."""
    columns = (
        column("Key", "code"),
        column("Value", "code"),
        column("Size", "number", less=True),
        column("Last written by"),
    )
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
        rows.append(row(value.key, name, shown, f"{value.size:,}", writer) | {"name": name})
    return table("Store", columns, rows, height=460, chosen=chosen, opens="Show the value of")


def changes_table(changes: Iterable[Changed]) -> Block:
    """What differs between two steps."""
    columns = (
        column("Key", "code"),
        column("Change", "word"),
        column("Before", "code"),
        column("After", "code"),
    )
    rows = (
        row(one.key, cut(one.key, NAME), one.what, cut(one.before), cut(one.after))
        for one in changes
    )
    return table("Changes", columns, rows)
