"""What a store lacks, and why: a key without a value, a value that could not be saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pocoflow.errors import IncompleteStoreError, MissingKeyError, NotSavedError, NotStorableError
from pocoflow.schema import Schema
from pocoflow.wording import closest

__all__ = ["Unsaved", "check_complete", "missing_key"]


class Unsaved(NamedTuple):
    """Why the value of a key is not in a checkpoint.

    Attributes:
        type_name: The type of the part that could not be stored.
        reason: Why it could not be stored, with the place inside the value.
    """

    type_name: str
    reason: str

    @classmethod
    def because(cls, exc: NotStorableError) -> Unsaved:
        """The mark for a value that the codec refused."""
        return cls(exc.type_name, str(exc))


def missing_key(
    owner: str,
    key: str,
    schema: Schema | None,
    data: Iterable[str],
    unsaved: Mapping[str, Unsaved],
) -> MissingKeyError:
    """Why a key has no value: it was not saved, is not set yet, or is not known at all."""
    if key in unsaved:
        return NotSavedError(
            f"{owner}: key {key!r} was not saved: {unsaved[key].reason}; set it again before "
            "this node runs, or pass it as a resource"
        )
    fields = () if schema is None else tuple(schema.names())
    if key in fields:
        return MissingKeyError(f"{owner}: field {key!r} is not set yet")
    known = list(dict.fromkeys([*data, *fields]))
    return MissingKeyError(
        f"{owner} has no key {key!r}{closest(key, known)} "
        f"(keys: {', '.join(map(repr, known)) or 'none'})"
    )


def check_complete(
    owner: str, schema: Schema, data: Mapping[str, Any], unsaved: Mapping[str, Unsaved]
) -> None:
    """Refuse a store that lacks what its schema requires.

    Raises:
        IncompleteStoreError: Names what is not set.
    """
    if lost := [name for name in schema.names() if name in unsaved]:
        raise IncompleteStoreError(
            f"{owner}: {', '.join(map(repr, lost))} could not be saved: set it again"
        )
    if missing := schema.missing(data):
        raise IncompleteStoreError(
            f"{owner}: field{'s' if len(missing) > 1 else ''} of {schema.label} not set: "
            f"{', '.join(map(repr, missing))}"
        )
