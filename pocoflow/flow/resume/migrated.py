"""The store of a stored run as it goes on: with what its pending node had written, and changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pocoflow.errors import ResumeError, StoreError
from pocoflow.flow.resume.relocation import giving
from pocoflow.store.missing import Unsaved
from pocoflow.store.store import Store

__all__ = ["under_schema"]


def under_schema(
    run_id: str, stored: Store[Any], schema: object, changes: Mapping[str, Any], changed: str = ""
) -> Store[Any]:
    """The stored values under the schema as it is now, migrated by it if need be, and changed.

    Args:
        run_id: The run.
        stored: Its store.
        schema: The schema.
        changes: Values to set; what they replace need not fit the schema.
        changed: What has changed since the run was started, for the end of a message.

    Raises:
        ResumeError: What is stored does not fit.
        InvalidValueError: A change does not fit.
    """
    values = {key: value for key, value in stored.as_dict().items() if key not in changes}
    unsaved = {key: mark for key, mark in stored.unsaved.items() if key not in changes}
    try:
        store = _rebuilt(stored, values, unsaved, schema, changes)
    except StoreError as exc:
        raise ResumeError(
            f"the store of run {run_id!r} does not fit the schema as it is now: {exc}; give the "
            "model a validator that reads the old values (mode='before'), or the field a new value "
            f"with changes={{...}}{changed}",
            remedies=[giving(run_id, ["KEY"])],
        ) from exc
    store.update(changes)
    return store


def _rebuilt(
    stored: Store[Any],
    values: Mapping[str, Any],
    unsaved: Mapping[str, Unsaved],
    schema: object,
    changes: Mapping[str, Any],
) -> Store[Any]:
    try:
        return Store.rebuild(values, unsaved, stored.name, schema, stored.definitions)
    except StoreError as exc:
        if not changes:
            raise
        # The model's own validators may take what is stored together with what is changed alone.
        try:
            under = {key: one for key, one in stored.definitions.items() if key not in changes}
            return Store.rebuild({**values, **changes}, unsaved, stored.name, schema, under)
        except StoreError:
            raise exc from None
