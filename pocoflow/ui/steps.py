"""The event log of a run as steps with attempts, as errors, and as a walk over its graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from pocoflow.address import plain
from pocoflow.db import EventRow, RunRow
from pocoflow.db.run_reports import names_of
from pocoflow.graph.fingerprint import Names
from pocoflow.views.runs import describe, parse_time

Edge: TypeAlias = tuple[Names, str, Names | None]
"""Source, action, target; a target of ``None`` is the end of the run."""


_STOPS = {
    "flow_cancelled": "cancelled",
    "flow_error": "failed",
    "flow_pause": "paused",
    "flow_resume": "failed",
}


@dataclass(slots=True)
class Attempt:
    """One try of a step: from when to when, and the error that ended it."""

    began: datetime
    ended: datetime
    error: str | None = None


@dataclass(slots=True)
class Step:
    """One execution of a node.

    Attributes:
        number: The step's number, if it is on record; a step that was resumed is there twice.
        node: The node, with the nested flows around it, as people read it.
        names: The same as parts.
        began: When it began.
        ended: When it ended; the last that is known of it if nobody recorded its end.
        status: ``running``, ``paused``, ``completed``, ``failed`` or ``cancelled``.
        action: What it returned.
        elapsed_ms: How long it took, as the engine measured it.
        attempts: Its tries, at least one.
    """

    number: int | None
    node: str
    names: Names
    began: datetime
    ended: datetime
    status: str = "running"
    action: str | None = None
    elapsed_ms: float | None = None
    attempts: list[Attempt] = field(default_factory=list)


THE_RUN = "The run"
"""What failed where it was no step."""


@dataclass(frozen=True, slots=True)
class Error:
    """Something that went wrong in a run.

    Attributes:
        title: What failed: the step, its node and the attempt.
        kind: The type of the exception.
        message: Its message.
        traceback: Its traceback, ``""`` if none was recorded.
        is_final: Whether it ended the run; otherwise another attempt followed.
    """

    title: str
    kind: str
    message: str
    traceback: str
    is_final: bool


def parse(text: object) -> datetime:
    """A time of the database; the beginning of time if it cannot be read."""
    return parse_time(text) or datetime.min.replace(tzinfo=UTC)


def steps_of(run: RunRow, events: Iterable[EventRow], now: datetime) -> list[Step]:
    """The steps of a run in the order in which they began."""
    found: list[Step] = []
    # By node, not by number: a step with branches inside has its last number only at its end.
    open_steps: dict[Names, Step] = {}
    last = now
    for event in events:
        last = time = parse(event["ts"])
        node, kind = names_of(event), event["event"]
        if kind == "node_start":
            step = Step(event["step"], event["node_name"] or "", node, time, time)
            step.attempts.append(Attempt(time, time))
            found.append(step)
            _end(open_steps.pop(node, None), "failed", time)
            open_steps[node] = step
        elif kind == "node_retry" and node in open_steps:
            step = open_steps[node]
            step.attempts[-1].ended = time
            step.attempts[-1].error = describe(event)
            step.attempts.append(Attempt(time, time))
        elif kind in ("node_end", "node_error") and node in open_steps:
            step = open_steps.pop(node)
            _end(step, "completed" if kind == "node_end" else "failed", time)
            step.number = event["step"]
            step.action, step.elapsed_ms = event["action"], event["elapsed_ms"]
            step.attempts[-1].error = describe(event) if kind == "node_error" else None
        elif kind in _STOPS:
            status = _STOPS[kind]
            for step in open_steps.values():
                _end(step, status, time)
            open_steps.clear()
    for step in open_steps.values():
        alive = run["status"] == "running"
        _end(step, "running" if alive else str(run["status"]), now if alive else last)
    return found


def _end(step: Step | None, status: str, time: datetime) -> None:
    if step is not None:
        step.status, step.ended = status, time
        step.attempts[-1].ended = time


def errors_of(run: RunRow, events: Sequence[EventRow]) -> list[Error]:
    """What went wrong, the last first; an error that ended the run is told once."""
    found: list[Error] = []
    for event in events:
        kind = event["event"]
        if kind not in ("node_retry", "node_error", "flow_error"):
            continue
        is_caught = kind == "node_error" and bool(event["action"])
        is_final = kind != "node_retry" and not is_caught
        trace = event["traceback"] or ""
        if kind == "flow_error" and found and found[-1].traceback == trace and trace:
            continue
        where = THE_RUN if event["node_name"] is None else f"Step {event['step']}, "
        where += event["node_name"] or ""
        attempt = f", attempt {event['attempt']}" if event.get("attempt") else ""
        found.append(
            Error(
                where + attempt + (", caught" if is_caught else ""),
                event.get("error_type") or "",
                event["error_msg"] or "",
                trace,
                is_final,
            )
        )
    if run["error_msg"] and not any(error.is_final for error in found):
        about = run.get("error_type") or "", str(run["error_msg"]), run.get("traceback") or ""
        found.append(Error(THE_RUN, *about, is_final=True))
    return found[::-1]


@dataclass(slots=True)
class Walk:
    """Where a run has been in its graph.

    Attributes:
        status: The status of the last step of each node that was reached.
        visits: How many steps each node had.
        taken: How often each edge was taken.
        current: The node that runs or comes next, while the run is not at its end.
        first_inside: The node where each nested flow began.
        questions: How many questions of each node wait for an answer.
    """

    status: dict[Names, str] = field(default_factory=dict)
    visits: dict[Names, int] = field(default_factory=dict)
    taken: dict[Edge, int] = field(default_factory=dict)
    current: Names | None = None
    first_inside: dict[Names, Names] = field(default_factory=dict)
    questions: dict[Names, int] = field(default_factory=dict)


_AHEAD = 50
"""Steps that are looked at for where an edge with a limit led; those of branches come between."""


def walk(run: RunRow, steps: Iterable[Step], edges: Iterable[Edge]) -> Walk:
    """Follow the steps of a run over the edges of its graph."""
    found = Walk()
    known: dict[tuple[Names, str], list[Names | None]] = {}
    for source, action, target in edges:
        known.setdefault((source, action), []).append(target)
    steps = list(steps)
    seen: set[tuple[Names, int | None]] = set()  # a step that a resume begins again is one
    # A flow is a path and not a step; what is a step and has nodes inside runs them as branches.
    positions = [plain(step.names) for step in steps]
    working = {*positions}
    for number, step in enumerate(steps, 1):
        node = plain(step.names)  # the graph has the branches of a node for items once
        again = (step.names, step.number) in seen
        seen.add((step.names, step.number))
        if step.attempts and found.status.get(node) != "paused" and not again:
            found.visits[node] = found.visits.get(node, 0) + 1
        found.status[node] = "retried" if _retries(step) else step.status
        for depth in range(1, len(node)):
            found.first_inside.setdefault(node[:depth], node[: depth + 1])
        if step.action is not None:
            later = positions[number : number + _AHEAD]
            for edge in _edges_of(node, step.action, known, (working, later)):
                found.taken[edge] = found.taken.get(edge, 0) + 1
    if run["status"] != "completed":
        # What a program has recorded itself may have no events.
        here = run["current_node"]
        at = [plain(step.names) for step in steps if step.node == here]
        found.current = at[-1] if at else None if here is None else (here,)
    return found


def _target(node: Names, targets: Sequence[Names | None], later: Sequence[Names]) -> Names | None:
    """Which of the targets of an edge was gone to: one with a limit has two."""
    if len(targets) == 1:
        return targets[0]
    next_names = next((one for one in later if one[: len(node) - 1] == node[:-1]), ())
    gone = (one for one in targets if one is not None and next_names[: len(one)] == one)
    return next(gone, None if None in targets else targets[0])


def _retries(step: Step) -> bool:
    return step.status == "running" and len(step.attempts) > 1


def _edges_of(
    node: Names,
    action: str,
    known: Mapping[tuple[Names, str], Sequence[Names | None]],
    steps: tuple[set[Names], Sequence[Names]],
) -> Iterable[Edge]:
    """The edges that an action takes: out of the node or, at the end of a flow, out of the flow.

    ``steps`` are the nodes that are steps, and those of the next ones.
    """
    working, later = steps
    while True:
        target = None
        for label in (action,) if action.startswith("except ") else (action, "*"):
            if (node, label) in known:
                target = _target(node, known[node, label], later)
                yield node, label, target
                break
        node = node[:-1]
        if not node or node in working or target is not None:
            return
