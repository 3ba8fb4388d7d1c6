"""Revalidating values that were accepted under other definitions of their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel

from pocoflow.errors import StoreError
from pocoflow.messages import is_same_field
from pocoflow.store.schema import Schema
from pocoflow.store.schema.cores import UNKNOWN
from pocoflow.store.schema.model_facts import model_values
from pocoflow.values import has_marks


def revalidate(
    schema: Schema,
    owner: str,
    values: Mapping[str, object],
    under: Mapping[str, str],
    without: Iterable[str],
) -> dict[str, object]:
    """Revalidate values that were accepted under the definitions ``under``.

    Types and constraints are checked again; the validators of a field see the value only if its
    definition has changed, or if the definition is unknown and the value does not fit. Fields of a
    model get their defaults, except those that are ``without`` one.

    Raises:
        StoreError: A value does not fit, and the model's validators cannot read it.
    """
    known = schema.definitions
    same = {key for key in values if is_same_field(under.get(key), known.get(key))}
    schema.mistyped.update(key for key in values if has_marks(values[key]))
    try:
        schema.check_names(owner, values)
        result = dict(values)
        for key in schema.in_order(values.keys() - schema.mistyped - same):
            if key not in known or under.get(key) != UNKNOWN or schema.mismatch(key, values[key]):
                result[key] = schema.assigned(owner, result, key, values[key])
        for key in same & schema.custom:
            schema.record_type(key, values[key])
        # An instance stays unchanged even if the field has another definition now.
        schema.check_accepted(owner, result, same | (result.keys() - schema.custom))
        if len(same) == len(known) == len(result):
            return {key: result[key] for key in known}
        excluded = {*without, *result, *schema.missing({})}
        for key in known:
            if key not in excluded:
                result[key] = schema.default(owner, result, key)
        result = {key: result[key] for key in (*known, *result) if key in result}
        return result | schema.check_whole(owner, result, result, result)
    except StoreError as exc:
        if schema.model is None:
            raise
        return _migrated(schema, schema.model, values, same, exc)


def _migrated(
    schema: Schema,
    model: type[BaseModel],
    values: Mapping[str, object],
    same: set[str],
    exc: StoreError,
) -> dict[str, object]:
    """Let the model's validators read values that were stored under an older schema, or raise."""
    # A field that the model no longer has must be read by a validator or alias, not dropped.
    extra: Literal["forbid"] | None = None
    if model.model_config.get("extra") != "allow":
        extra = "forbid"
    try:
        instance = model.model_validate(dict(values), strict=False, by_name=True, extra=extra)
    except Exception:  # noqa: BLE001 - their errors on old values are no better messages
        raise exc from None
    migrated = model_values(instance)
    # Validators accept an instance unchanged, so a mismatch inside one remains.
    old = model.model_fields.keys() & values.keys() - schema.mistyped
    mismatched = {key for key in old if schema.mismatch(key, values[key]) is not None}
    for key in mismatched:
        is_typed = key not in schema.custom
        if migrated[key] is values[key] or (is_typed and schema.mismatch(key, migrated[key])):
            raise exc from None
    unchanged = {key: values[key] for key in (same - mismatched) & model.model_fields.keys()}
    return schema.with_types({**migrated, **unchanged})
