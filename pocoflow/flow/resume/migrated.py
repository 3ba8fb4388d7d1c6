"""The store with which a stored run is resumed, migrated to the current schema."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pocoflow.errors import ResumeError, StoreError, UnknownFieldError
from pocoflow.flow.resume.relocation import giving
from pocoflow.store.missing import Unsaved
from pocoflow.store.store import Store


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
