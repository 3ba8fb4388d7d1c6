"""How both the command line and the monitor describe runs: times, errors, pending answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pocoflow.messages import counted
from pocoflow.nodes.spending import Amounts, sum_of

if TYPE_CHECKING:
    from pocoflow.db.expenses import Expense  # which would load SQLite for --help


def parse_time(text: object) -> datetime | None:
    """A time of the database; ``None`` if there is none or it cannot be read."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def seconds(run: Mapping[str, object], now: datetime) -> float | None:
    """The duration of a run, or of an active run until now, by the time of its database."""
    started, ended = parse_time(run["started_at"]), parse_time(run["completed_at"])
    if ended is None and run["status"] == "running":
        ended = now
    if started is None or ended is None or run["status"] == "queued":
        return None
    return (ended - started).total_seconds()


def describe(row: Mapping[str, object], *, module: bool = False) -> str:
    """The error of an event or a run in one line; ``module`` keeps the module of its class."""
    kind, message = (str(row.get(key) or "") for key in ("error_type", "error_msg"))
    kind = kind if module else kind.rpartition(".")[2]
    return message if kind in ("", "Interrupted", message) else f"{kind}: {message}"


def labels_of(labels: Mapping[str, str]) -> str:
    """The labels of a run in one line: ``user=ann, kind=chat``."""
    return ", ".join(f"{key}={value}" for key, value in labels.items())


def waits_for_resume(run: Mapping[str, object]) -> bool:
    """Whether it is a fork that has not started, which no worker takes."""
    return run["status"] == "queued" and run["due_at"] is None


def waits_for(questions: int) -> str:
    """What a paused run is waiting for."""
    if not questions:
        return "can go on"
    return f"waits for {counted(questions, 'answer')}"


def finished(items: int) -> str:
    """How many items of the current batch are finished; empty for none."""
    return f"{items:,} {'is' if items == 1 else 'are'} finished" if items else ""


class Cost(NamedTuple):
    """The cost of an attempt.

    Attributes:
        step: The number of the step; in a parallel branch, its number in the branch.
        node: The address of the node.
        item: The item, if the node works on several.
        attempt: The number of the attempt.
        calls: How many journaled calls in it have spent something.
        amounts: The amounts, in one line.
    """

    step: int
    node: str
    item: int | None
    attempt: int
    calls: int
    amounts: str


def costs(expenses: Iterable[Expense]) -> list[Cost]:
    """The cost of each attempt, in the order of the first expenses."""
    by_attempt: dict[tuple[int, int, tuple[str, ...], int | None, int], list[Expense]] = {}
    for expense in expenses:
        attempt = (expense.line, expense.step, expense.names, expense.item, expense.attempt)
        by_attempt.setdefault(attempt, []).append(expense)
    return [
        Cost(
            step,
            "/".join(names),
            item,
            attempt,
            sum(bool(expense.call) for expense in several),
            shown(sum_of(expense.amounts for expense in several)),
        )
        for (_, step, names, item, attempt), several in by_attempt.items()
    ]


def shown(amounts: Amounts) -> str:
    """Amounts in one line: ``0.004 usd, 812 tokens``."""
    return ", ".join(f"{amount:f} {name}" for name, amount in amounts.items())


_FRAME = re.compile(r'(?P<margin>[ |+-]*)  File "(?P<file>[^"]+)", line \d+')
_HEAD = "most recent call last"
_PACKAGE = Path(__file__).parents[1]
_OURS = tuple(
    str(_PACKAGE / room)
    for room in ("check", "db", "engine", "flow", "graph", "nodes", "store", "values")
)
_INSTALLED = re.compile(r"site-packages[/\\]pocoflow[/\\](?!cli[/\\]demo)")


def users_frames(trace: str) -> str:
    """A recorded traceback without the frames of this library, but with their number.

    If there are only such frames, all are shown. The record has the whole traceback in any case.
    """
    lines: list[str] = []
    left_out, margin = 0, None
    for line in trace.split("\n"):
        frame = _FRAME.match(line)
        if frame is not None:
            is_ours = frame["file"].startswith(_OURS) or _INSTALLED.search(frame["file"])
            margin = frame["margin"] if is_ours else None
            left_out += margin is not None
        elif margin is not None and not line.startswith((f"{margin}    ", f"{margin}  [")):
            margin = None
        if margin is None:
            lines.append(line)
    if not left_out or not any(map(_FRAME.match, lines)):
        return trace
    frames = f"{counted(left_out, 'frame')} of pocoflow left out"
    return "\n".join(lines).replace(_HEAD, f"{_HEAD}; {frames}", 1)
