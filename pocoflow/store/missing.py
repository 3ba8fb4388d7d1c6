"""Errors about what a store lacks: unset keys, values that could not be saved, attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pocoflow.errors import (
    IncompleteStoreError,
    InvalidValueError,
    MissingKeyError,
    NotSavedError,
    NotStorableError,
    Remedy,
    UnknownClassError,
    UnknownFieldError,
    UnreadableKeyError,
)
from pocoflow.messages import closest, package_of, short
from pocoflow.store.schema import Schema
from pocoflow.values.remembering import remembered


class Unsaved(NamedTuple):
    """Why the value of a key is missing after it was stored.

    Attributes:
        type_name: The type of the part that could not be stored, or the unknown class.
        reason: Why it could not be stored, with the path inside the value; or not read.
        text: The stored text of a value whose class is unknown here; ``None`` if there is none.
    """

    type_name: str
    reason: str
    text: str | None = None

    @classmethod
    def because(cls, exc: NotStorableError) -> Unsaved:
        """The mark for a value that the codec refused."""
        return cls(exc.type_name, str(exc))

    @classmethod
    def unreadable(cls, exc: UnknownClassError, text: str) -> Unsaved:
        """The mark for a stored text that names an unknown class."""
        return cls(exc.class_name, str(exc), text)


def missing_key(
    owner: str,
    key: str,
    schema: Schema | None,
    data: Iterable[str],
    unsaved: Mapping[str, Unsaved],
) -> MissingKeyError:
    """The error for a key without a value: it was not saved, is not set yet, or is unknown."""
    if key in unsaved and unsaved[key].text is not None:
        return UnreadableKeyError(
            f"{owner}: key {key!r} cannot be read: {unsaved[key].reason}; or set it again",
            class_name=unsaved[key].type_name,
        )
    if key in unsaved:
        again = f"changes={{{key!r}: <value>}}"
        return NotSavedError(
            f"{owner}: key {key!r} was not saved: {unsaved[key].reason}; set it again before it is "
            f"read, as resume(run_id, {again}) does, or pass it as a resource",
            remedies=[Remedy("set it again", f"flow.resume(<run>, {again})")],
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
    owner: str,
    schema: Schema,
    data: Mapping[str, object],
    unsaved: Mapping[str, Unsaved],
    *,
    is_whole: bool,
) -> None:
    """Refuse a store that lacks required fields; with ``is_whole``, also fields with a default.

    Raises:
        IncompleteStoreError: Names what is not set.
    """
    for name in schema.names():
        if name in unsaved:
            raise IncompleteStoreError(str(missing_key(owner, name, schema, data, unsaved)))
    missing = schema.missing(data)
    if is_whole:  # a default may have been deleted
        missing = [name for name in schema.names() if name not in data]
    if missing:
        raise IncompleteStoreError(
            f"{owner}: field{'s' if len(missing) > 1 else ''} of {schema.label} not set: "
            f"{', '.join(map(repr, missing))}"
        )


@remembered
def attributes_of(kind: type) -> frozenset[str]:
    """The attributes that may be set on a store of a class: those that the class declares."""
    declared = {name for base in kind.__mro__ for name in vars(base).get("__annotations__", ())}
    assigned = {
        name
        for base in kind.__mro__
        if package_of(base) != "pocoflow"
        for name, value in vars(base).items()
        if not callable(value)
    }
    return frozenset(declared | assigned)


def no_attribute(owner: str, store: object, schema: object, name: str, given: str = "") -> str:
    """The message for a missing attribute of a store; ``given`` is the assigned value."""
    if hasattr(dict, name) and not given:
        return f"{owner} is no dict: store.as_dict().{name} is of the dict with its values"
    kind = type(store)
    if given and name == "state":
        return (
            f"{owner}: store.state is the store itself, typed, and is not replaced: write its "
            "fields, store.state.field = ..., or several at once, store.update(...)"
        )
    is_ours = package_of(kind) == "pocoflow"
    declared = "" if is_ours else f"; class {kind.__name__} does not declare it"
    typed = f" or store.state.{name}{given}" if isinstance(schema, type) else ""
    return (
        f"{owner}: store.{name}{given} is an attribute of the store, not a value in it"
        f"{declared}: did you mean store[{name!r}]{given}{typed}?"
    )


def check_name(schema: Schema | None, name: object) -> None:
    """Check a new value of ``store.name``.

    Raises:
        UnknownFieldError: The schema has a field of that name, which was probably meant.
        InvalidValueError: It is not a text.
    """
    if schema is not None and "name" in schema.names():
        raise UnknownFieldError(
            "store.name is the name of the store, and its schema has a field 'name': did you mean "
            f"store['name'] = {short(name)}? A store is given its name as it is made, "
            "Store(name=...)"
        )
    if not isinstance(name, str):
        raise InvalidValueError(f"the name of a store is a text, not {short(name)}")
