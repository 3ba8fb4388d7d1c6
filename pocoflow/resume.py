"""Going on with a stored run, and forking one: what is needed before the step loop takes over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pocoflow import codec
from pocoflow.answers import answer_type
from pocoflow.db import WorkflowDB
from pocoflow.db.questions import Asked, Pause
from pocoflow.db.recorder import Position, RunRecorder
from pocoflow.db.steps import StoredBranch
from pocoflow.db.values import read_values
from pocoflow.engine.asking import Waiting
from pocoflow.engine.run import SavedBranch
from pocoflow.errors import AnswerError, DecodeError, ResumeError, StoreError
from pocoflow.fingerprint import describe, differences
from pocoflow.function import FunctionNode
from pocoflow.graph import Graph, GraphNode, label
from pocoflow.hints import read_hints
from pocoflow.logging import get_logger
from pocoflow.node import Node
from pocoflow.opening import new_run_id
from pocoflow.schema import schema_types
from pocoflow.store import Store
from pocoflow.subflow import Subflow
from pocoflow.wording import closest

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
        prepared: What its ``prep`` returned, as the only element, if it had asked after that.
        forked: The number under which that node began.
        branches: Its parallel branches that had begun, by scope.
        items: The digests of its items, by number.
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
    items: Mapping[int, str]


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
    recovering: bool = False,
) -> Resumption:
    """Claim a stored run and set it running again under the code as it is now.

    ``prove`` is called with the node that comes next, the flows around it, and the store, before
    anything is written. ``recovering`` refuses a run that somebody has gone on with, or ended,
    since it was found to be one to recover.

    Raises:
        RunNotFoundError: There is no such run.
        ResumeError: It is completed, alive, or the code has changed where it stands.
        DecodeError: A stored value names a class that is not known here, or is damaged.
    """
    recorder = RunRecorder(database, run_id)
    position = recorder.claim(recovering=recovering)
    try:
        row = database.get_run(run_id) or {}
        fingerprint = describe(graph, schema)
        changed = _changed(database, run_id, fingerprint)
        place, frames = _pending(graph, run_id, position, rename, changed)
        known = (*schema_types(schema), *types)
        stored = database.load_checkpoint(run_id, position.step, types=known)
        paused = _with_pause(run_id, position, stored, known)
        store = _under_schema(run_id, paused, schema, changed)
        prepared = _prepared(run_id, position.pause, place, known)
        store.update(changes)
        prove(place, tuple(frames), store)
        position = recorder.settle(position)
        replay, branches = _finished(run_id, position, place, rename, changed, known)
        first, path = place.first()
        coming = label(first.name, (*(frame.name for frame in frames), *path))
        recorder.go_on(store, stored, position, coming, fingerprint)
    except BaseException:
        recorder.let_go()
        raise
    if changed:
        _log.warning("run %r goes on under changed code: %s", run_id, "; ".join(changed))
    coming_step = position.step + 1
    return Resumption(
        recorder,
        row,
        store,
        place,
        frames,
        coming_step,
        replay,
        prepared,
        position.fork + 1,
        branches,
        position.items,
    )


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
    stored = _with_pause(run_id, position, stored, known)
    store = _under_schema(run_id, stored, schema, changed)
    _prepared(run_id, position.pause, place, known)
    prove(place, tuple(frames), store)
    _finished(run_id, position, place, {}, changed, known)


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
    names = (*position.path, position.node)
    found = _places(graph, names, 0, run_id, rename, changed)
    _same_definition(run_id, position, rename, changed)
    return found[-1], found[:-1]


def _places(
    graph: Graph,
    names: tuple[str, ...],
    skipped: int,
    run_id: str,
    rename: Mapping[str, str],
    changed: Iterable[str],
) -> list[GraphNode]:
    """The nodes of a path from a flow inwards; the graph stands after ``skipped`` of the names."""
    found: list[GraphNode] = []
    here: Graph | None = graph
    for number, old in enumerate(names[skipped:], skipped):
        name = rename.get(old, old)
        place = None if here is None else here.nodes.get(name)
        if place is None:
            before = label(names[-1], names[:-1])
            within = f"flow {label(old, names[:number])!r}" if number else "this flow"
            known = here.nodes if here is not None else {}
            raise ResumeError(
                f"run {run_id!r} stands before node {before!r}, and {within} has no node "
                f"{name!r}{closest(name, known) or '.'} If it has another name now, pass "
                f"rename={{{old!r}: <new name>}}{_listed(changed)}"
            )
        found.append(place)
        here = place.inner
    return found


class _Saved:
    """The parallel branches of a stored run, looked up in the graph as it is now."""

    def __init__(
        self,
        run_id: str,
        position: Position,
        rename: Mapping[str, str],
        changed: Iterable[str],
        known: Iterable[object],
    ) -> None:
        self._run_id = run_id
        self._stored = position.branches
        self._step, self._now = position.step, position.read_at
        self._rename, self._changed = rename, changed
        self._known = tuple(known)
        self.found: dict[str, SavedBranch] = {}

    def look_into(self, place: GraphNode, fork: str, depth: int) -> None:
        """Find the branches that begin in a node, which is ``depth`` names deep, and in those."""
        for scope, stored in self._stored.items():
            before, _, number = scope.rpartition(".")
            if before != fork:
                continue
            graphs = place.branches
            if not graphs:
                raise ResumeError(
                    f"run {self._run_id!r} stands in the parallel branches of {place.name!r}, "
                    f"which has none now{_listed(self._changed)}"
                )
            # The branches of FanOut are all of one graph.
            number_of_graph = 0 if len(graphs) == 1 else int(number)
            if number_of_graph < len(graphs):
                node = place.node
                own = schema_types(node.flow.schema) if isinstance(node, Subflow) else ()
                known = (*self._known, *own)
                self._add(scope, stored, graphs[number_of_graph], depth, known)

    def _add(
        self,
        scope: str,
        stored: StoredBranch,
        graph: Graph,
        depth: int,
        known: tuple[object, ...],
    ) -> None:
        classes = codec.Classes(known)
        label_of = f"run {self._run_id!r}, branch {scope}"
        own = read_values(stored.rows, label_of, classes)
        places: list[GraphNode] = [graph.start]
        if stored.node:
            names = (*stored.path, stored.node)
            places = _places(graph, names, depth, self._run_id, self._rename, self._changed)
        place = None if stored.node is None else places[-1]
        replay: dict[int, Any] = {}
        prepared: tuple[Any, ...] = ()
        pending = None
        if place is not None:
            leaf, path = place.first()
            name = stored.node or leaf.name
            replay = _replay(self._run_id, self._step, name, stored.journal, leaf.node, known)
            replay |= _answers(stored.asked, leaf, self._now)
            prepared = _prepared(self._run_id, stored.pause, leaf, known)
            if stored.pause is not None:
                pending = read_values(stored.pause.changes, label_of, classes)
            deeper = len(stored.path) + 1 if stored.node else depth + len(path) + 1
            self.look_into(leaf, f"{scope}/{stored.count}", deeper)
        self.found[scope] = SavedBranch(
            stored, place, places[:-1], own, replay, prepared, pending, stored.items
        )


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


def _finished(
    run_id: str,
    position: Position,
    place: GraphNode,
    rename: Mapping[str, str],
    changed: Iterable[str],
    known: Iterable[object],
) -> tuple[dict[int, Any], Mapping[str, SavedBranch]]:
    """What is finished of the pending node: results of its ``exec``, and its parallel branches."""
    replay = _replay(run_id, position.step, position.node, position.journal, place.node, known)
    replay |= _answers(position.asked, place, position.read_at)
    saved = _Saved(run_id, position, rename, changed, known)
    saved.look_into(place, f"{position.fork + 1}", len(position.path) + 1)
    return replay, saved.found


def _answers(asked: Mapping[int, Asked], place: GraphNode, now: str) -> dict[int, Any]:
    """What people have answered, as results of ``exec``; what stands for it where they have not."""
    found: dict[int, Any] = {}
    kind = None
    for item, one in asked.items():
        _same_items(one.run_id, place.node, item < 0)
        if one.answer is None:
            found[item] = Waiting(one, one.is_late(now))
            continue
        try:
            kind = kind or answer_type(place.node)
            found[item] = kind.read(one.answer)
        except AnswerError as exc:
            raise ResumeError(
                f"run {one.run_id!r}: question {one.about} cannot go on with its answer: {exc}; "
                "it was given under another type, or checked by its JSON schema alone; flow.answer "
                "and flow.answer_json take another one in its place"
            ) from exc
    return found


def _with_pause(
    run_id: str, position: Position, stored: Store[Any], known: Iterable[object]
) -> Store[Any]:
    """The stored values with what the pending node had changed before it asked."""
    if position.pause is None:
        return stored
    label_of = f"run {run_id!r}, step {position.step + 1}"
    made = read_values(position.pause.changes, label_of, codec.Classes(tuple(known)))
    tails = {key: [*stored[key], *tail] for key, tail in made.tails.items()}
    values = {**stored.as_dict(), **made.values, **tails}
    for key in (*made.deleted, *made.unsaved):
        values.pop(key, None)
    gone = {*values, *made.deleted}
    unsaved = {key: mark for key, mark in stored.unsaved.items() if key not in gone}
    return Store.rebuild(values, unsaved | made.unsaved, stored.name)


def _prepared(
    run_id: str, pause: Pause | None, place: GraphNode, known: Iterable[object]
) -> tuple[Any, ...]:
    """What ``prep`` of a node that asked had returned, as the only element; nothing otherwise."""
    if pause is None:
        return ()
    classes = codec.Classes((*known, *_prep_types(place.node)))
    try:
        return (codec.loads(pause.prepared, classes),)
    except DecodeError as exc:
        raise type(exc)(
            f"run {run_id!r}: what prep of node {place.name!r} returned before it asked cannot be "
            f"read: {exc}"
        ) from exc


def _replay(
    run_id: str,
    step: int,
    name: str | None,
    journal: Mapping[int, str],
    node: Node[Any, Any, Any],
    known: Iterable[object],
) -> dict[int, Any]:
    alone = next((item < 0 for item in journal), None)
    if alone is not None:
        _same_items(run_id, node, alone)
    classes = codec.Classes((*known, *_exec_types(node)))
    try:
        return {item: codec.loads(text, classes) for item, text in journal.items()}
    except DecodeError as exc:
        raise type(exc)(
            f"run {run_id!r}: the finished result of exec of node {name!r} (step "
            f"{step + 1}) cannot be read: {exc}"
        ) from exc


def _same_items(run_id: str, node: Node[Any, Any, Any], alone: bool) -> None:
    if alone == node.is_batch:
        was = "had one result" if alone else "worked on several items"
        now = "works on several items" if alone else "has one result"
        raise ResumeError(
            f"run {run_id!r}: node {node.name!r} {was} when it was run before, and {now} now, so "
            "what is finished of it cannot be used; fork() makes a new run that begins it anew"
        )


def _prep_types(node: Node[Any, Any, Any]) -> list[object]:
    """What ``prep`` gives and ``exec`` makes a question of, as far as annotations tell."""
    if isinstance(node, FunctionNode):
        return [hint for name, hint in node.signature.hints.items() if name != "return"]
    return _returned(node, ("prep", "exec"), 0)


def _exec_types(node: Node[Any, Any, Any]) -> list[object]:
    """What ``exec`` returns, as far as annotations tell."""
    if isinstance(node, FunctionNode):
        return [hint for name, hint in node.signature.hints.items() if name == "return"]
    return _returned(node, ("exec", "exec_async"), 1)


def _returned(node: Node[Any, Any, Any], phases: Iterable[str], argument: int) -> list[object]:
    """What phases of a class return, and a type argument of its bases."""
    kind: Any = type(node)
    found = [
        read_hints(getattr(kind, name)).get("return") for name in phases if hasattr(kind, name)
    ]
    for base in getattr(kind, "__orig_bases__", ()):
        found += getattr(base, "__args__", ())[argument : argument + 1]
    return [hint for hint in found if hint is not None]
