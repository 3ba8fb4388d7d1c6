"""Values that were accepted under other definitions of their fields, under those of now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pocoflow.errors import StoreError
from pocoflow.messages import is_same_field
from pocoflow.store.schema import Schema
from pocoflow.store.schema.cores import UNKNOWN
from pocoflow.store.schema.model_facts import model_values
from pocoflow.store.schema.models import ModelSchema
from pocoflow.values import has_marks


def take(
    schema: Schema,
    owner: str,
    values: Mapping[str, object],
    under: Mapping[str, str],
    without: Iterable[str],
) -> dict[str, object]:
    """Take over values that were accepted under the definitions ``under``.

    Types and constraints are checked again; the validators of a field see the value only if the
    field is another one now, or nobody knows what it was and the value does not fit. Fields of a
    model get their defaults, except those that are ``without`` one.

    Raises:
        StoreError: A value does not fit, and the model's own validators cannot read it.
    """
    if not isinstance(schema, ModelSchema):
        return schema.take(owner, values, under)
    own, fields = schema.definitions, schema.source.model_fields
    same = {key for key in values if is_same_field(under.get(key), own.get(key))}
    schema.unlike.update(key for key in values if has_marks(values[key]))
    try:
        schema.check_names(owner, values)
        made = dict(values)
        for key in sorted(values.keys() - schema.unlike - same, key=schema.order):
            if key not in own or under.get(key) != UNKNOWN or schema.misfit(key, values[key]):
                made[key] = schema.assigned(owner, made, key, values[key])
        for key in same & schema.shaped:
            schema.note(key, values[key])
        # An instance is taken as it is where the field has another definition now, too.
        schema.hold(owner, made, same | (made.keys() - schema.shaped))
        if len(same) == len(own) == len(made):
            return {key: made[key] for key in own}
        lost = {*without, *made}
        for key in own:
            if key not in lost and not fields[key].is_required():
                made[key] = schema.default(owner, made, key)
        made = {key: made[key] for key in (*own, *made) if key in made}
        return made | schema.check_whole(owner, made, made, made)
    except StoreError as exc:
        return _migrated(schema, values, same, exc)


def _migrated(
    schema: ModelSchema, values: Mapping[str, object], same: set[str], exc: StoreError
) -> dict[str, object]:
    """Let the model's own validators read what was stored under an older schema, or raise."""
    # A field that the model no longer has must be read by a validator or alias, not dropped.
    model = schema.source
    extra: Literal["forbid"] | None = None
    if model.model_config.get("extra") != "allow":
        extra = "forbid"
    try:
        built = model.model_validate(dict(values), strict=False, by_name=True, extra=extra)
    except Exception:  # noqa: BLE001 - what they raise on old values is no better message
        raise exc from None
    made = model_values(built)
    # An instance is taken by them as it is, so what does not fit in one is as it was.
    old = model.model_fields.keys() & values.keys() - schema.unlike
    wrong = {key for key in old if schema.misfit(key, values[key]) is not None}
    for key in wrong:
        is_typed = key not in schema.shaped
        if made[key] is values[key] or (is_typed and schema.misfit(key, made[key])):
            raise exc from None
    kept = {key: values[key] for key in (same - wrong) & model.model_fields.keys()}
    return schema.noted({**made, **kept})
