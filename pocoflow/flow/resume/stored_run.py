"""Resuming a stored run, or forking one, up to the point where the step loop takes over."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator
from typing import TypeAlias

from pocoflow.address import check_name
from pocoflow.db.recorder import ResumeState, RunRecorder
from pocoflow.db.run_threads import Named
from pocoflow.db.values import key_of
from pocoflow.db.workflow import WorkflowDB
from pocoflow.engine.line import Line
from pocoflow.errors import (
    DefinitionError,
    MissingInputError,
    ResumeError,
    RunError,
    RunNotFoundError,
)
from pocoflow.flow.naming import given_labels
from pocoflow.flow.resume.migrated import under_schema
from pocoflow.flow.resume.reading import Reader
from pocoflow.flow.resume.relocation import Relocation, giving
from pocoflow.flow.resuming import ForkKeywords, Resumable, Resuming
from pocoflow.flow.starting import new_run_id
from pocoflow.graph.fingerprint import describe, fields_of
from pocoflow.graph.graph import Graph, Vertex
from pocoflow.graph.routing import Taken, first_address
from pocoflow.graph.unfinished import Unfinished
from pocoflow.logging import OwnLogger
from pocoflow.messages import is_same_field, short
from pocoflow.nodes.spending import Account
from pocoflow.store.schema.vouching import classes_of
from pocoflow.store.store import Store

_log = OwnLogger("flow")

Prove: TypeAlias = Callable[[Vertex, tuple[Vertex, ...], Store], object]


class StoredRun:
    """A stored run under the current code.

    Args:
        database: The database.
        run_id: The run.
        graph: The flow.
        schema: Its schema.
        resuming: The arguments of the resume.

    Attributes:
        run_id: The run.
        graph: The flow.
        recorder: Holds the run's lock once it is reopened.
        store: The store with which it is resumed.
        token: The run's token.
    """

    store: Store
    token: str
    _fingerprint: str

    def __init__(
        self, database: WorkflowDB, run_id: str, graph: Graph, schema: object, resuming: Resuming
    ) -> None:
        self._db, self.run_id = database, run_id
        self.graph, self._schema, self._resuming = graph, schema, resuming
        self._classes = classes_of(schema, resuming.types, resuming.aliases)
        self.recorder = RunRecorder(database, run_id, self._classes)

    def rehearse(self, prove: Prove) -> Resumable:
        """Whether it could be resumed: read everything that a resume would read; write nothing.

        After a refusal that does not depend on the code, such as a process that is running it, the
        pending node and the changes are in the result, too.

        Raises:
            RunNotFoundError: There is no such run.
        """
        try:
            return self._rehearsed(prove)
        except RunNotFoundError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever would stop a resume
            return Resumable(self.run_id, refusal=exc)

    def _rehearsed(self, prove: Prove) -> Resumable:
        self._resuming.refuse_other(self._db, self.run_id)
        self.recorder.refuse_completed()
        unfinished = self.recorder.unfinished()
        relocation, nodes, _ = self._read(unfinished, prove)
        Reader(relocation, unfinished.read_at).line(unfinished, nodes, 0, self._classes)
        refusal = None
        try:
            self.recorder.refuse_now(self._resuming.names)
        except RunError as exc:
            refusal = exc
        node = first_address(nodes[-1], nodes[:-1]).text
        unsaved, changed = tuple(map(str, self.store.unsaved)), tuple(relocation.changed)
        return Resumable(self.run_id, node, unfinished.steps, changed, refusal, unsaved)

    def reopen(self, prove: Prove) -> Unfinished:
        """Claim the run and record it as running; the record of its unfinished step.

        ``prove`` is called with the next node, the flows around it, and the store, before anything
        is written.

        Raises:
            RunNotFoundError: There is no such run.
            ResumeError: It is completed, alive, or the code of its pending node has changed.
            DecodeError: A stored value is damaged, or a finished result of an unknown class.
        """
        recorder, resuming = self.recorder, self._resuming
        changes = resuming.changes
        claimed = recorder.claim(
            recovering=resuming.recovering, flows=resuming.names, limits=resuming.limits
        )
        claimed = self._usable(claimed)
        try:
            run = self._db.get_run(self.run_id)
            if run is None:
                raise RunNotFoundError(f"run {self.run_id!r} is not in {self._db.path} any more")
            self.token = run["token"]
            try:
                relocation, nodes, stored = self._read(claimed, prove)
            except ResumeError as exc:
                recorder.fail_overdue(exc)
                raise
            resolved = self._usable(recorder.apply_defaults(claimed))
            line = Reader(relocation, resolved.read_at).line(resolved, nodes, 0, self._classes)
            node = first_address(nodes[-1], nodes[:-1])
            # Changes by prep, or by arguments of a resume, are not part of the checkpoint yet.
            known = {*changes, *(key_of(row[0]) for row in line.changes)}
            redefined = _redefined(stored, self.store, changes)
            amended = [key for key in redefined if key not in known]
            renamed = relocation.renamed if resuming.rename else None
            changed = bool(changes) or not known.isdisjoint(redefined if line.prepared else known)
            prepared = resolved.prepared[0] if resolved.prepared else None
            if resolved.branches:
                self._fingerprint = relocation.with_older(recorder.log.last)
            names = (resuming.names[0], node, self._fingerprint, renamed)
            now = ResumeState(*names, amended, changed, prepared)
            remarks = list(self._remarks(relocation.changed, node.text, line))
            for text in remarks:
                recorder.remark(text)
            recorder.resume(self.store, stored, line, now)
        except BaseException:
            recorder.release()
            raise
        for text in remarks:
            _log.warning("run %r: %s", self.run_id, text)
        return line

    def fork(self, step: int | None, given: ForkKeywords) -> str:
        """Create a run from a checkpoint of this one; it is ``queued`` until it is resumed.

        Raises:
            RunExistsError: A run of its id exists.
            RunNotFoundError: There is no such run.
            OtherFlowError: It is a run of another flow.
            CheckpointNotFoundError: It has no checkpoint of that step.
            ResumeError: No node comes after that step.
            DefinitionError: ``step`` is not a number.
        """
        database, run_id, resuming = self._db, self.run_id, self._resuming
        if step is not None and type(step) is not int:
            raise DefinitionError(f"step= is the number of a step, such as 2, not {short(step)}")
        resuming.refuse_other(database, run_id)
        new_id, labels = given.get("new_id"), given_labels(given.get("labels"))
        if new_id is not None:
            check_name("new_id=", new_id)
        parent = self.recorder.unfinished(step)
        last, graph = parent.steps - 1, database.get_graph(run_id)
        if not parent.names and graph is None:
            raise ResumeError(
                f"run {run_id!r}: its record, as that of version 0.2.1, does not say which node "
                f"comes after step {last}; run the flow on a copy of the store, from a node that "
                f"you name: flow.run(flow.database.load_checkpoint({run_id!r}, {last}), "
                "resume_from=<node>)"
            )
        if not parent.names:
            raise ResumeError(
                f"run {run_id!r} ends with step {last}: no node comes after it; fork from an "
                "earlier step"
            )
        stored = database.load_store(run_id, last, self._classes)
        store = under_schema(run_id, stored, self._schema, resuming.changes)
        if graph is not None:
            # The definitions under which the store is accepted from now on.
            graph = {**graph, "schema": fields_of(self._schema)}
            graph.pop("older", None)
        text = None if graph is None else json.dumps(graph, sort_keys=True)
        generated, token = new_run_id(resuming.names[0])
        row: dict[str, object] = {"parent_run_id": run_id, "parent_step": last}
        row |= {"flow_name": resuming.names[0], "status": "queued", "token": token}
        recorder = RunRecorder(database, new_id or generated, self._classes)
        recorder.create(store, row, parent, text, Named(labels=labels))
        return recorder.run_id

    def continue_in(self, line: Line, record: Unfinished, emits: bool) -> None:
        """Continue the reopened run in a line; ``emits`` records what its nodes emit."""
        line.ledger, line.unfinished, line.frames = self.recorder, record, record.vertices[:-1]
        if emits:
            self.recorder.record_emitted()
        line.step = line.finished = record.steps
        line.sums = Account(record.spent)
        line.past = frozenset(line.sums.past.get(0, ()))
        if self.graph.is_limited:
            line.taken = Taken(0, record.taken)

    def _remarks(self, changed: list[str], next_name: str, record: Unfinished) -> Iterator[str]:
        """Remarks on a resume: changed code, finished work that is not repeated, lost values."""
        changes = self._resuming.changes
        if changed:
            yield f"it goes on under changed code: {'; '.join(changed)}"
        if changes and (record.results or record.branches):
            keys = ", ".join(map(repr, changes))
            yield (
                f"what is finished of node {next_name!r} is kept as it was before {keys} changed; "
                "fork() begins the node anew"
            )
        for key, mark in self.store.unsaved.items():
            if mark.text is not None:
                yield f"key {key!r} cannot be read here: {mark.reason}"

    def _usable(self, record: Unfinished) -> Unfinished:
        """Without the result of ``prep`` if it must run again, as the caller changes values."""
        return record.without_inputs() if self._resuming.changes else record

    def _read(self, record: Unfinished, prove: Prove) -> tuple[Relocation, list[Vertex], Store]:
        """Look up the next node, and read and check the store; the latter as it is stored."""
        database, run_id, resuming = self._db, self.run_id, self._resuming
        current = describe(self.graph, self._schema)
        was_resumed = bool(resuming.rename) and self.recorder.was_resumed()
        before = database.get_graph(run_id)
        relocation = Relocation(run_id, self.graph, before, current, resuming.rename, was_resumed)
        self._fingerprint = relocation.now
        self._classes.move(relocation.moved)
        nodes = relocation.pending(record)
        stored = database.load_store(run_id, record.steps - 1, self._classes)
        paused = stored
        if record.changes:
            paused = database.load_store(run_id, record.steps - 1, self._classes, record.changes)
        changes, listed = resuming.changes, relocation.listed
        self.store = under_schema(run_id, paused, self._schema, changes, listed)
        Reader(relocation, record.read_at).prepared(record, nodes[-1], self._classes)
        try:
            prove(nodes[-1], tuple(nodes[:-1]), self.store)
        except MissingInputError as exc:
            raise MissingInputError(
                f"run {run_id!r} cannot go on: {exc}; a resumed run gets it with changes={{...}}",
                keys=exc.keys,
                remedies=[giving(run_id, exc.keys)],
            ) from exc
        return relocation, nodes, stored


def _redefined(before: Store, now: Store, changes: Container[str]) -> list[str]:
    """The fields whose definition has changed since their stored values were accepted."""
    old, new = before.definitions, now.definitions
    return [
        key
        for key in now
        if key in old and key not in changes and not is_same_field(old[key], new.get(key))
    ]
