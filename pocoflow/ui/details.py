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
"""The maximum number of steps or events that are shown, from the end."""


def steps_table(steps: Sequence[Step]) -> Block:
    """A bar for each step, with its attempts; failed attempts are hatched."""
    shown = steps[-_MOST_ROWS:]
    start = min((step.began for step in shown), default=parse(None))
    end = max((step.ended for step in shown), default=start)
    length = (end - start).total_seconds() or 1.0
    rows = []
    for index, step in enumerate(shown):
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
                f"{index}-{step.number}",
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
    """The costs of the attempts of a run."""
    rows = (
        row(
            index,
            Cell("Step", cost.step, "number"),
            Cell("Node", cut(cost.node, NAME)),
            Cell("Item", cost.item, "number", less=True),
            Cell("Attempt", cost.attempt, "number"),
            Cell("Calls", cost.calls or None, "number"),
            Cell("Spent", cut(cost.amounts)),
        )
        for index, cost in enumerate(costs(expenses)[-_MOST_ROWS:])
    )
    return table(f"Spent: {shown(sum_of(expense.amounts for expense in expenses))}", rows)


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


def answers_table(questions: Sequence[Asked]) -> Block:
    """The questions of a run and their answers, by whom and when."""
    rows = []
    for it in questions[-_MOST_ROWS:]:
        item = "" if it.item is None else f", item {it.item}"
        answer: object = {"kind": "status", "value": "no answer" if it.is_closed else "open"}
        if it.answer is not None:
            answer = cut(json.dumps(json.loads(it.answer), ensure_ascii=False))
        rows.append(
            row(
                it.question,
                Cell("No.", it.question, "number"),
                Cell("Node", cut(it.node, NAME) + item, less=True),
                Cell("Question", cut(it.text)),
                Cell("Answer", answer, "code"),
                Cell("By", cut(it.answered_by or "", NAME)),
                Cell("When", it.answered_at, "time", less=True),
            )
        )
    return table("Questions and answers", rows)


# -- its store ------------------------------------------------------------------------------------


def store_table(
    values: Mapping[str, StoredValue], nodes: Mapping[int, str], chosen: str | None
) -> Block:
    """The keys of a store; a row opens the whole value."""
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
    """The changes between two steps."""
    rows = (
        row(
            change.key,
            Cell("Key", cut(change.key, NAME), "code"),
            Cell("Change", change.what, "word"),
            Cell("Before", cut(change.before), "code"),
            Cell("After", cut(change.after), "code"),
        )
        for change in changes
    )
    return table("Changes", rows)
