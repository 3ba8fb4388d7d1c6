"""Going on with a stored run, and forking one: what is needed before the step loop takes over."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pocoflow import codec
from pocoflow.db import WorkflowDB
from pocoflow.db.recorder import Position, RunRecorder
from pocoflow.errors import DecodeError, ResumeError, StoreError
from pocoflow.fingerprint import describe, differences
from pocoflow.function import FunctionNode
from pocoflow.graph import Graph, GraphNode, label
from pocoflow.logging import get_logger
from pocoflow.node import Node
from pocoflow.schema import closest
from pocoflow.store import Store, schema_types

__all__ = ["Resumption", "fork_run", "new_run_id", "rehearse", "reopen"]

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
    """

    recorder: RunRecorder
    row: Mapping[str, Any]
    store: Store[Any]
    place: GraphNode
    frames: list[GraphNode]
    step: int
    replay: dict[int, Any]


def new_run_id(flow_name: str) -> tuple[str, str]:
    """A new run id and the run's token of 128 random bits."""
    token = os.urandom(16).hex()
    return f"{flow_name}-{token[:8]}", token


def reopen(
    database: WorkflowDB,
    graph: Graph,
    schema: object,
    run_id: str,
    *,
    changes: Mapping[str, Any],
    rename: Mapping[str, str],
    types: Iterable[type],
    prove: Callable[[GraphNode, tuple[GraphNode, ...], Store[Any]], object],
) -> Resumption:
    """Claim a stored run and set it running again under the code as it is now.

    ``prove`` is called with the node that comes next, the flows around it, and the store, before
    anything is written.

    Raises:
        RunNotFoundError: There is no such run.
        ResumeError: It is completed, alive, or the code has changed where it stands.
        DecodeError: A stored value names a class that is not known here, or is damaged.
    """
    recorder = RunRecorder(database, run_id)
    position = recorder.claim()
    try:
        row = database.get_run(run_id) or {}
        fingerprint = describe(graph, schema)
        changed = _changed(database, run_id, fingerprint)
        place, frames = _pending(graph, run_id, position, rename, changed)
        known = (*schema_types(schema), *types)
        stored = database.load_checkpoint(run_id, position.step, types=known)
        store = _under_schema(run_id, stored, schema, changed)
        store.update(changes)
        prove(place, tuple(frames), store)
        replay = _replay(run_id, position, place.node, known)
        first, path = place.first()
        coming = label(first.name, (*(frame.name for frame in frames), *path))
        recorder.go_on(store, stored, position, coming, fingerprint)
    except BaseException:
        recorder.let_go()
        raise
    if changed:
        _log.warning("run %r goes on under changed code: %s", run_id, "; ".join(changed))
    return Resumption(recorder, row, store, place, frames, position.step + 1, replay)


def rehearse(
    database: WorkflowDB,
    graph: Graph,
    schema: object,
    run_id: str,
    prove: Callable[[GraphNode, tuple[GraphNode, ...], Store[Any]], object],
) -> None:
    """Read everything that going on with a run would read, and write nothing.

    Raises:
        ResumeError: The code has changed where the run stands.
        DecodeError: A stored value names a class that is not known here, or is damaged.
    """
    position = RunRecorder(database, run_id).position()
    changed = _changed(database, run_id, describe(graph, schema))
    place, frames = _pending(graph, run_id, position, {}, changed)
    known = tuple(schema_types(schema))
    stored = database.load_checkpoint(run_id, position.step, types=known)
    store = _under_schema(run_id, stored, schema, changed)
    prove(place, tuple(frames), store)
    _replay(run_id, position, place.node, known)


def fork_run(
    database: WorkflowDB,
    run_id: str,
    step: int | None,
    changes: Mapping[str, Any],
    schema: object,
    types: Iterable[type],
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
    row = database.get_run(run_id) or {}
    known = (*schema_types(schema), *types)
    stored = database.load_checkpoint(run_id, parent.step, types=known)
    store = _under_schema(run_id, stored, schema, [])
    store.update(changes)
    new_id, token = new_run_id(row["flow_name"])
    given = {
        "flow_name": row["flow_name"],
        "status": "queued",
        "current_node": parent.node,
        "token": token,
        "parent_run_id": run_id,
        "parent_step": parent.step,
        "graph_no": row["graph_no"],
    }
    RunRecorder(database, new_id).create(store, given, parent.node, parent.path, None)
    return new_id


def _changed(database: WorkflowDB, run_id: str, fingerprint: str) -> list[str]:
    before = database.get_graph(run_id)
    return [] if before is None else differences(before, json.loads(fingerprint))


def _pending(
    graph: Graph,
    run_id: str,
    position: Position,
    rename: Mapping[str, str],
    changed: Iterable[str],
) -> tuple[GraphNode, list[GraphNode]]:
    """The node that comes next, under the name that it has now, and the flows around it."""
    if position.node is None:
        raise ResumeError(
            f"run {run_id!r} does not record which node comes next (a version before 0.3 wrote "
            "it): use flow.run(store, resume_from=node) with the store of its last checkpoint"
        )
    found: list[GraphNode] = []
    here: Graph | None = graph
    for number, old in enumerate((*position.path, position.node)):
        name = rename.get(old, old)
        place = None if here is None else here.nodes.get(name)
        if place is None:
            before = label(position.node, position.path)
            within = f"flow {label(old, position.path[:number])!r}" if number else "this flow"
            known = here.nodes if here is not None else {}
            raise ResumeError(
                f"run {run_id!r} stands before node {before!r}, and {within} has no node "
                f"{name!r}{closest(name, known) or '.'} If it has another name now, pass "
                f"rename={{{old!r}: <new name>}}{_listed(changed)}"
            )
        found.append(place)
        here = place.inner
    _same_definition(run_id, position, rename, changed)
    return found[-1], found[:-1]


def _same_definition(
    run_id: str, position: Position, rename: Mapping[str, str], changed: Iterable[str]
) -> None:
    name = position.node or ""
    for line in changed:
        if line.startswith(f"node {label(name, position.path)!r} was ") and name not in rename:
            raise ResumeError(
                f"run {run_id!r} stands before {line}; if that is the node to go on with, "
                f"pass rename={{{name!r}: {name!r}}}{_listed(changed)}"
            )


def _listed(changed: Iterable[str]) -> str:
    lines = "".join(f"\n  - {line}" for line in changed)
    return f"\nWhat has changed since the run was started:{lines}" if lines else ""


def _under_schema(
    run_id: str, stored: Store[Any], schema: object, changed: Iterable[str]
) -> Store[Any]:
    """The stored values under the schema as it is now, migrated by it if need be."""
    try:
        return Store.rebuild(stored.as_dict(), stored.unsaved, stored.name, schema)
    except StoreError as exc:
        raise ResumeError(
            f"the store of run {run_id!r} does not fit the schema as it is now: {exc}; give the "
            "model a validator that reads the old values (mode='before')" + _listed(changed)
        ) from exc


def _replay(
    run_id: str, position: Position, node: Node[Any, Any, Any], known: Iterable[object]
) -> dict[int, Any]:
    classes = codec.Classes((*known, *_exec_types(node)))
    try:
        return {item: codec.loads(text, classes) for item, text in position.journal.items()}
    except DecodeError as exc:
        raise type(exc)(
            f"run {run_id!r}: the finished result of exec of node {position.node!r} (step "
            f"{position.step + 1}) cannot be read: {exc}"
        ) from exc


def _exec_types(node: Node[Any, Any, Any]) -> list[object]:
    """What ``exec`` returns, by its annotation and the type parameters of the class."""
    if isinstance(node, FunctionNode):
        return [hint for name, hint in node.signature.hints.items() if name == "return"]
    found: list[object] = []
    for name in ("exec", "exec_async"):
        function = getattr(type(node), name, None)
        try:
            found.append(get_type_hints(function).get("return") if function else None)
        except (NameError, TypeError):
            continue  # an annotation that cannot be evaluated vouches for nothing
    for base in getattr(type(node), "__orig_bases__", ()):
        found += getattr(base, "__args__", ())[1:2]
    return [hint for hint in found if hint is not None]
