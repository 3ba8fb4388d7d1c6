"""The event log of a run as steps with attempts, as errors, and as a walk over its graph."""

from __future__ import annotations

from collections import Counter
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
    """An attempt of a step: its start, its end, and the error that ended it."""

    began: datetime
    ended: datetime
    error: str | None = None


@dataclass(slots=True)
class Step:
    """One execution of a node.

    Attributes:
        number: The step's number, if recorded; a resumed step has two entries.
        node: The address of the node, as text for people.
        names: The same as parts.
        began: When it began.
        ended: When it ended; its last known time if its end was not recorded.
        status: ``running``, ``paused``, ``completed``, ``failed`` or ``cancelled``.
        action: What it returned.
        elapsed_ms: Its duration, as measured by the engine.
        attempts: Its attempts, at least one.
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


_ENDED = "The run ended"
"""The title of errors outside steps."""


@dataclass(frozen=True, slots=True)
class Error:
    """An error in a run.

    Attributes:
        title: What failed, the step, its node and the attempt, and the consequence.
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
    steps: list[Step] = []
    # By node, not by number: a step with branches inside has its last number only at its end.
    open_steps: dict[Names, Step] = {}
    last = now
    for event in events:
        last = time = parse(event["ts"])
        node, kind = names_of(event), event["event"]
        if kind == "node_start":
            step = Step(event["step"], event["node_name"] or "", node, time, time)
            step.attempts.append(Attempt(time, time))
            steps.append(step)
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
    return steps


def _end(step: Step | None, status: str, time: datetime) -> None:
    if step is not None:
        step.status, step.ended = status, time
        step.attempts[-1].ended = time


def errors_of(run: RunRow, events: Sequence[EventRow]) -> list[Error]:
    """The errors, the last first; an error that ended the run is included once."""
    errors: list[Error] = []
    for event in events:
        kind = event["event"]
        if kind not in ("node_retry", "node_error", "flow_error"):
            continue
        trace = event["traceback"] or ""
        if kind == "flow_error" and errors and errors[-1].traceback == trace and trace:
            continue
        is_caught = kind == "node_error" and bool(event["action"])
        is_final = kind != "node_retry" and not is_caught
        title = _ENDED
        if event["node_name"] is not None:
            attempt = f", attempt {event['attempt']}" if event.get("attempt") else ""
            after = "ended the run" if is_final else "caught" if is_caught else "was tried again"
            title = f"Step {event['step']}, {event['node_name']}{attempt}, {after}"
        about = event.get("error_type") or "", event["error_msg"] or "", trace
        errors.append(Error(title, *about, is_final))
    if run["error_msg"] and not any(error.is_final for error in errors):
        about = run.get("error_type") or "", str(run["error_msg"]), run.get("traceback") or ""
        errors.append(Error(_ENDED, *about, is_final=True))
    return errors[::-1]


@dataclass(slots=True)
class Walk:
    """The path of a run through its graph.

    Attributes:
        status: The status of the last step of each node that was reached.
        visits: How many steps each node had.
        taken: How often each edge was taken.
        current: The current or next node, until the run has ended.
        questions: How many questions of each node wait for an answer.
    """

    status: dict[Names, str] = field(default_factory=dict)
    visits: Counter[Names] = field(default_factory=Counter)
    taken: Counter[Edge] = field(default_factory=Counter)
    current: Names | None = None
    questions: Counter[Names] = field(default_factory=Counter)


_LOOKAHEAD = 50
"""How many steps are searched for the target of an edge with a limit, as branches interleave."""


def walk(run: RunRow, steps: Iterable[Step], edges: Iterable[Edge]) -> Walk:
    """Follow the steps of a run over the edges of its graph."""
    path = Walk()
    known: dict[tuple[Names, str], list[Names | None]] = {}
    for source, action, target in edges:
        known.setdefault((source, action), []).append(target)
    steps = list(steps)
    seen: set[tuple[Names, int | None]] = set()  # a step that a resume repeats counts once
    # A flow is not a step; a node that is a step and contains nodes runs them as branches.
    positions = [plain(step.names) for step in steps]
    step_nodes = {*positions}
    for number, step in enumerate(steps, 1):
        node = plain(step.names)  # the graph has the branches of a node for items only once
        is_repeated = (step.names, step.number) in seen
        seen.add((step.names, step.number))
        if step.attempts and path.status.get(node) != "paused" and not is_repeated:
            path.visits[node] += 1
        is_retrying = step.status == "running" and len(step.attempts) > 1
        path.status[node] = "retried" if is_retrying else step.status
        if step.action is not None:
            next_nodes = positions[number : number + _LOOKAHEAD]
            path.taken.update(_edges_of(node, step.action, known, (step_nodes, next_nodes)))
    if run["status"] != "completed":
        # Runs that a program has recorded itself may have no events.
        current = run["current_node"]
        candidates = [plain(step.names) for step in steps if step.node == current]
        path.current = candidates[-1] if candidates else None if current is None else (current,)
    return path


def _target(node: Names, targets: Sequence[Names | None], nexts: Sequence[Names]) -> Names | None:
    """The target that was taken: an edge with a limit has two."""
    if len(targets) == 1:
        return targets[0]
    next_names = next((names for names in nexts if names[: len(node) - 1] == node[:-1]), ())
    taken = (names for names in targets if names is not None and next_names[: len(names)] == names)
    return next(taken, None if None in targets else targets[0])


def _edges_of(
    node: Names,
    action: str,
    known: Mapping[tuple[Names, str], Sequence[Names | None]],
    steps: tuple[set[Names], Sequence[Names]],
) -> Iterable[Edge]:
    """The edges that an action takes: from the node and, at the end of a flow, from the flow.

    ``steps`` are the nodes that are steps, and the nodes of the next steps.
    """
    step_nodes, next_nodes = steps
    while True:
        target = None
        for label in (action,) if action.startswith("except ") else (action, "*"):
            if (node, label) in known:
                target = _target(node, known[node, label], next_nodes)
                yield node, label, target
                break
        node = node[:-1]
        if not node or node in step_nodes or target is not None:
            return
