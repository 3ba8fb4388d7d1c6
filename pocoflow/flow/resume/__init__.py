"""Going on with a stored run, and forking one: what is needed before the step loop takes over."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pocoflow.address import Address
from pocoflow.db import WorkflowDB
from pocoflow.db.positions import Position
from pocoflow.db.recorder import RunRecorder
from pocoflow.engine.run import SavedBranch
from pocoflow.errors import MissingInputError, ResumeError
from pocoflow.flow.resume.branch_lines import SavedBranches
from pocoflow.flow.resume.migrated import under_schema
from pocoflow.flow.resume.relocation import Places
from pocoflow.flow.resume.unfinished import answers, prepared, replayed, with_usable_inputs
from pocoflow.flow.starting import Resuming, new_run_id
from pocoflow.graph.fingerprint import describe, fields_of
from pocoflow.graph.graph import Graph, GraphNode
from pocoflow.logging import get_logger
from pocoflow.messages import is_same_field
from pocoflow.nodes.counting import Begun
from pocoflow.store.schema import classes_of
from pocoflow.store.store import Store
from pocoflow.values import Classes

__all__ = ["Resumption", "fork_run", "rehearse", "reopen"]

_log = get_logger("flow")


@dataclass(frozen=True, slots=True)
class Resumption:
    """A claimed run, ready to go on.

    Attributes:
        recorder: Holds the run's lock.
        row: The run's row.
        store: The store after the last committed step.
        place: The node that comes next.
        frames: The nested flows around it, outermost first.
        step: The number of its step.
        replay: Results of its ``exec`` that were finished before, by item (-1 if no batch).
        prepared: What its ``prep`` returned, as the only element, if that is on record.
        forked: The number under which that node began.
        branches: Its parallel branches that had begun, by scope.
        items: What is known of its items, by number.
    """

    recorder: RunRecorder
    row: Mapping[str, Any]
    store: Store[Any]
    place: GraphNode
    frames: list[GraphNode]
    step: int
    replay: dict[int, Any]
    prepared: tuple[Any, ...]
    forked: int
    branches: Mapping[str, SavedBranch]
    items: Mapping[int, Begun]


def reopen(
    database: WorkflowDB,
    graph: Graph,
    schema: object,
    run_id: str,
    flow_name: str,
    resuming: Resuming,
    prove: Callable[[GraphNode, tuple[GraphNode, ...], Store[Any]], object],
) -> Resumption:
    """Claim a stored run and set it running again under the code as it is now.

    ``prove`` is called with the node that comes next, the flows around it, and the store, before
    anything is written.

    Raises:
        RunNotFoundError: There is no such run.
        ResumeError: It is completed, alive, or the code has changed where it stands.
        DecodeError: A stored value is damaged, or a finished result of an unknown class.
    """
    classes = classes_of(schema, resuming.types, resuming.aliases)
    recorder = RunRecorder(database, run_id, classes)
    claimed = recorder.claim(recovering=resuming.recovering)
    position = with_usable_inputs(claimed, resuming.changes)
    try:
        row = database.get_run(run_id) or {}
        fingerprint = describe(graph, schema)
        changes, rename = resuming.changes, resuming.rename
        again = bool(rename) and recorder.was_resumed()
        places = Places(run_id, graph, database.get_graph(run_id), fingerprint, rename, again)
        place, frames = places.pending(position)
        stored = database.load_store(run_id, position.step, classes)
        paused = stored
        if position.pause is not None:
            paused = database.load_store(run_id, position.step, classes, position.pause.changes)
        store = under_schema(run_id, paused, schema, changes, places.listed)
        kept = prepared(run_id, position.pause, place, classes)
        _prove(run_id, prove, place, frames, store)
        position = with_usable_inputs(recorder.settle(position), resuming.changes)
        replay, branches = _finished(places, position, place, classes)
        first, path = place.first()
        coming = Address((*(frame.name for frame in frames), *path), first.name)
        renamed = places.renamed if rename else None
        # What prep has changed is no part of the checkpoint yet.
        amended = [] if position.pause is not None else _defined_anew(stored, store, changes)
        recorder.go_on(store, stored, position, flow_name, coming, fingerprint, renamed, amended)
    except BaseException:
        recorder.let_go()
        raise
    _tell(run_id, places.changed, changes, coming.text, bool(replay or branches))
    for key, mark in store.unsaved.items():
        if mark.text is not None:
            _log.warning("run %r: key %r cannot be read here: %s", run_id, key, mark.reason)
    coming_step = position.step + 1
    return Resumption(
        recorder,
        row,
        store,
        place,
        frames,
        coming_step,
        replay,
        kept,
        position.fork + 1,
        branches,
        position.items,
    )


def _defined_anew(before: Store[Any], now: Store[Any], changes: Mapping[str, Any]) -> list[str]:
    """The fields that had another definition when their stored values were accepted."""
    old, new = before.definitions, now.definitions
    return [
        key
        for key in now
        if key in old and key not in changes and not is_same_field(old[key], new.get(key))
    ]


def rehearse(
    database: WorkflowDB,
    graph: Graph,
    schema: object,
    run_id: str,
    resuming: Resuming,
    prove: Callable[[GraphNode, tuple[GraphNode, ...], Store[Any]], object],
) -> None:
    """Read everything that going on with a run would read, and write nothing.

    Raises:
        ResumeError: The code has changed where the run stands.
        DecodeError: A stored value is damaged, or a finished result of an unknown class.
    """
    recorder, rename = RunRecorder(database, run_id), resuming.rename
    position = recorder.position()
    fingerprint = describe(graph, schema)
    again = bool(rename) and recorder.was_resumed()
    places = Places(run_id, graph, database.get_graph(run_id), fingerprint, rename, again)
    place, frames = places.pending(position)
    classes = classes_of(schema, resuming.types, resuming.aliases)
    pending = () if position.pause is None else position.pause.changes
    stored = database.load_store(run_id, position.step, classes, pending)
    store = under_schema(run_id, stored, schema, resuming.changes, places.listed)
    prepared(run_id, position.pause, place, classes)
    prove(place, tuple(frames), store)
    _finished(places, position, place, classes)


def fork_run(
    database: WorkflowDB,
    run_id: str,
    step: int | None,
    schema: object,
    flow_name: str,
    resuming: Resuming,
) -> str:
    """Create a run from a checkpoint of another one; it is ``queued`` until it is resumed.

    Raises:
        RunNotFoundError: There is no such run.
        CheckpointNotFoundError: It has no checkpoint of that step.
        ResumeError: No node comes after that step.
    """
    parent = RunRecorder(database, run_id).position(step)
    if parent.node is None:
        raise ResumeError(
            f"run {run_id!r} ends with step {parent.step}: no node comes after it; fork from an "
            "earlier step"
        )
    classes = classes_of(schema, resuming.types, resuming.aliases)
    stored = database.load_store(run_id, parent.step, classes)
    store = under_schema(run_id, stored, schema, resuming.changes)
    graph = database.get_graph(run_id)
    if graph is not None:
        # What the store is accepted under from now on.
        graph = {**graph, "schema": fields_of(schema)}
    new_id, token = new_run_id(flow_name)
    given = {
        "flow_name": flow_name,
        "status": "queued",
        "current_node": parent.node,
        "token": token,
        "parent_run_id": run_id,
        "parent_step": parent.step,
    }
    text = None if graph is None else json.dumps(graph, sort_keys=True)
    RunRecorder(database, new_id, classes).create(store, given, parent.node, parent.path, text)
    return new_id


def _prove(
    run_id: str,
    prove: Callable[[GraphNode, tuple[GraphNode, ...], Store[Any]], object],
    place: GraphNode,
    frames: list[GraphNode],
    store: Store[Any],
) -> None:
    try:
        prove(place, tuple(frames), store)
    except MissingInputError as exc:
        raise MissingInputError(
            f"run {run_id!r} cannot go on: {exc}; a resumed run gets it with changes={{...}}"
        ) from exc


def _finished(
    places: Places, position: Position, place: GraphNode, classes: Classes
) -> tuple[dict[int, Any], Mapping[str, SavedBranch]]:
    """What is finished of the pending node: results of its ``exec``, and its parallel branches."""
    which = (places.run_id, position.step, position.node)
    replay = replayed(*which, position.journal, place.node, classes)
    replay |= answers(position.asked, place, position.read_at)
    saved = SavedBranches(places, position, classes)
    depth = len(position.path) + 1
    saved.look_into(place, f"{position.fork + 1}", depth, places.definitions)
    return replay, saved.found


def _tell(
    run_id: str,
    changed: list[str],
    changes: Mapping[str, Any],
    coming: str,
    is_begun: bool,
) -> None:
    """Log what whoever resumes a run should know."""
    if changed:
        _log.warning("run %r goes on under changed code: %s", run_id, "; ".join(changed))
    if changes and is_begun:
        _log.warning(
            "run %r: what is finished of node %r is kept as it was before %s changed; fork() "
            "begins the node anew",
            run_id,
            coming,
            ", ".join(map(repr, changes)),
        )
