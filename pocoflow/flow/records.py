"""The runs of a flow in its database: how they are found, joined, started and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel

from pocoflow.db.recorder import RunRecorder
from pocoflow.db.run_threads import UNNAMED, Named, ThreadMovedError, is_started, last_run
from pocoflow.db.stored_handle import StoredRunHandle
from pocoflow.db.workflow import WorkflowDB
from pocoflow.engine.line import Line
from pocoflow.errors import DefinitionError, RunExistsError, RunNotFoundError, ThreadBusyError
from pocoflow.flow.naming import RunName
from pocoflow.flow.resume.migrated import under_schema
from pocoflow.flow.scheduling import Due, copied, refuse_unsaved
from pocoflow.flow.starting import Given, new_run_id
from pocoflow.graph.graph import Vertex
from pocoflow.graph.routing import first_address
from pocoflow.graph.unfinished import Unfinished
from pocoflow.messages import is_same_field, short
from pocoflow.nodes.spending import Amounts
from pocoflow.store.schema import make_schema
from pocoflow.store.schema.model_facts import definitions_of
from pocoflow.store.schema.vouching import classes_of
from pocoflow.store.store import Store
from pocoflow.values.copies import copied_model

StartedT = TypeVar("StartedT")


@dataclass(frozen=True, slots=True)
class Records:
    """The runs of a flow.

    Attributes:
        database: The database of the flow.
        names: All names of the flow, the current name first.
        schema: Its schema.
        aliases: Classes of stored values that were renamed or moved, by their stored names.
    """

    database: WorkflowDB
    names: tuple[str, ...]
    schema: object
    aliases: Mapping[str, type]

    def begin(
        self,
        name: RunName,
        given: Given,
        start: Callable[[Store, Named], StartedT],
    ) -> StartedT | StoredRunHandle:
        """Start a run that its caller identifies, or join one.

        Args:
            name: What identifies it.
            given: What it is given.
            start: Starts it, with the store and the record of what identifies it.

        Raises:
            RunExistsError: A run of its id exists.
            ThreadBusyError: A run of its thread is open.
        """
        while True:
            inputs = None if name.run_id is None else given.digest
            named = Named(name.labels, inputs, name.thread, self.names, most_open=name.most_open)
            if (joined := self._join(name, named)) is not None:
                return joined
            if name.thread is not None:
                database = self.database
                last = last_run(database.connection, named, database.get_run)
                named = replace(named, last=last)
            try:
                is_next = named.thread is not None
                store = self._next_store(given.value, named) if is_next else given.store
            except RunNotFoundError:  # it was removed in the meantime
                continue
            # Another process may have been faster, with this run or another one of its thread.
            try:
                return start(store, named)
            except ThreadMovedError:
                continue
            except (ThreadBusyError, RunExistsError):
                if (joined := self._join(name, named)) is None:
                    raise
                return joined

    def _join(self, name: RunName, named: Named) -> StoredRunHandle | None:
        """A handle to an existing run with the id, if it may be joined."""
        run_id = name.run_id or ""
        if name.joins and is_started(self.database.connection, run_id, named):
            return StoredRunHandle(self.database, run_id, self._load)
        return None

    def _load(self, run_id: str, step: int) -> Store:
        classes = classes_of(self.schema, aliases=self.aliases)
        stored = self.database.load_store(run_id, step, classes)
        return under_schema(run_id, stored, self.schema, {})

    def _next_store(self, given: object, named: Named) -> Store:
        """The store that a run of a thread begins with.

        The store with which the last run ended, or an empty one, updated with the inputs: if a
        field has a reducer and a value, the input is an increment. What could not be saved is
        unset.

        Raises:
            ResumeError: The stored values do not fit the current schema.
            StoreError: An input does not fit.
            DefinitionError: The inputs are a ``Store``, or of a type that no run accepts.
        """
        name, schema, last = self.names[0], self.schema, named.last
        values, under = _inputs(given, name)
        if schema is None and isinstance(given, BaseModel):
            schema = type(given)
        if last.run_no:
            classes = classes_of(schema, aliases=self.aliases)
            stored = self.database.load_store(last.run_id, last.step, classes)
            lost = [key for key, mark in stored.unsaved.items() if mark.text is None]
            store = under_schema(last.run_id, stored, schema, {}, unset=lost)
        else:
            store = Store.over({}, schema, name)
        fields = make_schema(schema)
        definitions = {} if fields is None else fields.definitions
        reducers = () if fields is None else fields.reducers
        # A model has accepted its values: no validator of their fields sees them again.
        known = {key for key in values if is_same_field(under.get(key), definitions.get(key))}
        increments = [(key, values.pop(key)) for key in reducers if key in values and key in store]
        store.apply(values, increments, known)
        return store

    def recorder(self, run_id: str, store: Store) -> RunRecorder:
        """The recorder of a run."""
        return RunRecorder(self.database, run_id, classes_of(store.schema, aliases=self.aliases))

    def record(
        self,
        line: Line,
        named: Named | None,
        fingerprint: str,
        remarks: Iterable[str],
        emits: bool,
    ) -> None:
        """Record a run that begins here.

        Args:
            line: The run.
            named: What identifies it, if its caller said so.
            fingerprint: The fingerprint of its flow.
            remarks: What was logged about the flow.
            emits: Whether what its nodes emit is recorded, too.

        Raises:
            RunExistsError: A run of its id exists.
            ThreadBusyError: A run of its thread is open.
            ThreadMovedError: One has completed since, so it must begin with another store.
        """
        store, context = line.store, line.context
        recorder = line.ledger = self.recorder(context.run_id, store)
        if emits:
            recorder.record_emitted()
        for text in remarks:
            recorder.remark(text)
        row = {
            "flow_name": self.names[0],
            "status": "running",
            "started_at": recorder.storage.now(),
            "owned": 1,
            "token": context.token,
        }
        first = Unfinished(names=first_address(line.start).names)
        recorder.create(store, row, first, fingerprint, named or UNNAMED)

    def submit(
        self,
        name: RunName,
        inputs: object,
        due: Due,
        start: Vertex,
        prove: Callable[[Store], str],
    ) -> str:
        """Record a run for a worker to start; its id.

        Args:
            name: What identifies it.
            inputs: What it is given.
            due: When it may begin.
            start: Where it begins.
            prove: Proves that the flow can run on a store, and returns its fingerprint.

        Raises:
            NotStorableError: An input cannot be stored.
            Exception: As :meth:`record`; also whatever ``due`` and ``prove`` raise.
        """
        flow_name = self.names[0]

        def queue(store: Store, named: Named) -> str:
            refuse_unsaved(store, flow_name)
            fingerprint = prove(store)
            new_id, token = new_run_id(flow_name)
            row = {"flow_name": flow_name, "status": "queued", "due_at": due.at, "token": token}
            first = Unfinished(names=first_address(start).names)
            recorder = self.recorder(name.run_id or new_id, store)
            recorder.create(store, row, first, fingerprint, named, due.also)
            return recorder.run_id

        submitted = self.begin(name, Given(copied(inputs), self.schema, flow_name), queue)
        return submitted if isinstance(submitted, str) else submitted.run_id

    def share_budgets(
        self, line: Line, of_thread: Amounts | None, of_labels: Mapping[str, Amounts]
    ) -> None:
        """Include what other runs have spent of the budgets that a run shares with them."""
        shared = line.ledger.share_budgets(self.names, of_thread, of_labels)
        line.budget = (*(line.budget or ()), *shared)


def _inputs(given: object, flow_name: str) -> tuple[dict[str, object], Mapping[str, str]]:
    """The inputs of a run of a thread, and under which definitions a model has accepted them."""
    if given is None:
        return {}, {}
    if isinstance(given, BaseModel):
        given = copied_model(given)
        values = {name: getattr(given, name) for name in given.model_fields_set}
        return values, definitions_of(type(given))
    if isinstance(given, Store) or not isinstance(given, Mapping):
        raise DefinitionError(
            f"flow {flow_name!r}: a run of a thread begins with the store of the run before, and "
            f"takes its inputs as a dict or an instance of the schema, not {short(given)}"
        )
    return dict(given), {}
