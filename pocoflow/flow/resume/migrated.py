"""The store with which a stored run is resumed, migrated to the current schema."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pocoflow.db.run_threads import LastRun
from pocoflow.db.workflow import WorkflowDB
from pocoflow.errors import ResumeError, StoreError, UnknownFieldError
from pocoflow.flow.naming import Inputs
from pocoflow.flow.resume.relocation import giving
from pocoflow.messages import is_same_field
from pocoflow.store.missing import Unsaved
from pocoflow.store.schema import make_schema
from pocoflow.store.store import Store
from pocoflow.values import Classes


def next_store(
    database: WorkflowDB,
    last: LastRun,
    schema: object,
    name: str,
    inputs: Inputs,
    classes: Classes,
) -> Store:
    """The store that a run of a run thread begins with.

    The store with which the last run ended, or an empty one, updated with the inputs: if a field
    has a reducer and a value, the input is an increment. What could not be saved is unset.

    Args:
        database: The database of the thread.
        last: The last completed run of it.
        schema: The schema of the flow.
        name: The name of a store that is created here.
        inputs: What the run is given.
        classes: The classes of the stored values.

    Raises:
        ResumeError: The stored values do not fit the current schema.
        StoreError: An input does not fit.
    """
    if last.run_no:
        stored = database.load_store(last.run_id, last.step, classes)
        lost = [key for key, mark in stored.unsaved.items() if mark.text is None]
        store = under_schema(last.run_id, stored, schema, {}, unset=lost)
    else:
        store = Store.over({}, schema, name)
    fields = make_schema(schema)
    values, definitions = inputs.values, {} if fields is None else fields.definitions
    reducers = () if fields is None else fields.reducers
    increments = [(key, values[key]) for key in reducers if key in values and key in store]
    given = dict(increments)
    # A model has accepted its values: no validator of their fields sees them again.
    known = {key for key in values if is_same_field(inputs.under.get(key), definitions.get(key))}
    store.apply({k: value for k, value in values.items() if k not in given}, increments, known)
    return store


def under_schema(
    run_id: str,
    stored: Store,
    schema: object,
    changes: Mapping[str, object],
    changed: str = "",
    *,
    unset: Collection[str] = (),
) -> Store:
    """The stored values under the current schema, migrated by it if need be, with changes.

    Args:
        run_id: The run.
        stored: Its store.
        schema: The schema.
        changes: Values to set; the values that they replace need not fit the schema.
        changed: What has changed since the run was started, for the end of a message.
        unset: Keys that could not be saved, to be treated as if they had never been set.

    Raises:
        ResumeError: The stored values do not fit.
        InvalidValueError: A change does not fit.
    """
    values = {key: value for key, value in stored.as_dict().items() if key not in changes}
    unset = {*changes, *unset}
    unsaved = {key: mark for key, mark in stored.unsaved.items() if key not in unset}
    try:
        store = _rebuilt(stored, values, unsaved, schema, changes)
    except StoreError as exc:
        # A removed field takes no value.
        is_gone = isinstance(exc, UnknownFieldError)
        hint = "takes or drops it" if is_gone else "reads the old values"
        keys = [] if is_gone else [*changes, *_misfits(stored, values, schema)]
        given = ", ".join(f"{key!r}: <value>" for key in keys) or "..."
        other = "" if is_gone else f", or set what does not fit, changes={{{given}}}"
        raise ResumeError(
            f"the store of run {run_id!r} does not fit the schema as it is now: {exc}; give the "
            f"model a validator that {hint} (mode='before'){other}{changed}",
            remedies=[] if is_gone else [giving(run_id, keys or ["KEY"])],
        ) from exc
    store.update(changes)
    return store


def _misfits(stored: Store, values: Mapping[str, object], schema: object) -> list[str]:
    """The keys whose values do not fit the schema by themselves."""
    misfits = []
    for key, value in values.items():
        try:
            Store.rebuild({key: value}, {}, stored.name, schema, stored.definitions)
        except StoreError:
            misfits.append(key)
    return misfits


def _rebuilt(
    stored: Store,
    values: Mapping[str, object],
    unsaved: Mapping[str, Unsaved],
    schema: object,
    changes: Mapping[str, object],
) -> Store:
    try:
        return Store.rebuild(values, unsaved, stored.name, schema, stored.definitions)
    except StoreError as exc:
        if not changes:
            raise
        # Model validators may accept the stored values only together with the changes.
        try:
            under = {key: field for key, field in stored.definitions.items() if key not in changes}
            return Store.rebuild({**values, **changes}, unsaved, stored.name, schema, under)
        except StoreError:
            raise exc from None
