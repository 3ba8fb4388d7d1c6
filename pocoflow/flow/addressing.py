"""Runs that their callers address: by an id, by a run thread; what they begin with, or join."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import BaseModel

from pocoflow.db import WorkflowDB
from pocoflow.db.run_threads import Named, is_started, last_run
from pocoflow.db.stored_handle import StoredRunHandle
from pocoflow.flow.naming import RunName, digest, inputs_of
from pocoflow.flow.resume.migrated import next_store, under_schema
from pocoflow.flow.starting import open_store
from pocoflow.store.schema import classes_of
from pocoflow.store.store import Store


@dataclass(frozen=True, slots=True)
class Addressed:
    """Addresses runs of a flow that are to begin.

    Attributes:
        database: Where the flow keeps its runs.
        names: All names that it has and had, that of now first.
        schema: Its schema.
        aliases: Classes of stored values that have other names now, by those on record.
    """

    database: WorkflowDB
    names: tuple[str, ...]
    schema: object
    aliases: Mapping[str, type]

    def find(
        self, name: RunName, given: object, run_id: str | None
    ) -> tuple[Named, StoredRunHandle | None]:
        """What is put on record of how a run is addressed, and the run that is joined instead."""
        inputs = None if run_id is None else digest(given)
        named = Named(name.labels, inputs, name.thread, self.names, most_open=name.most_open)
        joined = self.join(name, named)
        if joined is None and name.thread is not None:
            named = replace(named, last=last_run(self.database.connection, named))
        return named, joined

    def join(self, name: RunName, named: Named) -> StoredRunHandle | None:
        """A handle to the run that has the id already, if there is one and it may be joined."""
        run_id = name.run_id or ""
        if name.joins and is_started(self.database.connection, run_id, named):
            return StoredRunHandle(self.database, run_id, self._load)
        return None

    def _load(self, run_id: str, step: int) -> Store:
        classes = classes_of(self.schema, aliases=self.aliases)
        stored = self.database.load_store(run_id, step, classes)
        return under_schema(run_id, stored, self.schema, {})

    def first_store(self, given: object, named: Named) -> Store:
        """The store that a run begins with: in a run thread, that of the run before it."""
        name, schema = self.names[0], self.schema
        if named.thread is None:
            return open_store(given, schema, name)
        inputs = inputs_of(given, name)
        if schema is None and isinstance(given, BaseModel):
            schema = type(given)
        classes = classes_of(schema, aliases=self.aliases)
        return next_store(self.database, named.last, schema, name, inputs, classes)
