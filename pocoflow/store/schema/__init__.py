"""What a store may contain: the fields of a Pydantic model, or the keys of a dict of types.

A schema checks writes and adds defaults; it holds no values of a store. Fields are checked one by
one, and together once all are set. Checks are strict in Python types: an ``int`` fits a ``float``,
but neither ``"3"`` nor ``True`` fits an ``int``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator

from pocoflow.errors import DefinitionError, InvalidValueError, UnknownFieldError
from pocoflow.messages import closest, short
from pocoflow.store.reducing import add, append, extend, latest, merge
from pocoflow.store.schema.cores import items_of
from pocoflow.store.schema.explaining import explained, shown, validated
from pocoflow.store.schema.model_facts import (
    Facts,
    facts_of,
    instance_of,
    model_values,
    only_lacks,
    validates_default,
)
from pocoflow.values.copies import IMMUTABLE

if TYPE_CHECKING:
    from pocoflow.values.changes.difference import Change


def make_schema(given: object) -> Schema | None:
    """The schema from the argument of a user: a model class, a dict of types, or ``None``.

    Raises:
        DefinitionError: Anything else, such as a model *instance*.
    """
    if given is None:
        return None
    if isinstance(given, type) and issubclass(given, BaseModel):
        if given.__pydantic_root_model__:
            raise DefinitionError(
                f"{given.__name__} is a RootModel, which has no fields: a store schema is a "
                "BaseModel with one field per key"
            )
        if not given.__pydantic_complete__:
            given.model_rebuild()
        return Schema(given, facts_of(given))
    if isinstance(given, Mapping):
        from pocoflow.store.schema.dicts import facts_of_types  # which loads more of Pydantic

        return Schema(dict(given), facts_of_types(given))
    hint = f": pass the class {type(given).__name__}" if isinstance(given, BaseModel) else ""
    raise DefinitionError(
        f"a store schema is a Pydantic model class or a dict of types, not {short(given)}{hint}"
    )


class Schema:
    """The part of a store that knows its fields.

    Attributes:
        source: The model class or the dict that the user gave.
        label: Its name in error messages.
        reducers: The reducers that fields declare, by field.
        frozen: The fields that can be set only once.
        custom: The fields whose values are created by code of the user.
        definitions: The definition of each field, as text that is the same in every process.
        mistyped: The custom fields whose values do not fit their types.
    """

    def __init__(self, source: object, facts: Facts) -> None:
        self.source = source
        self._facts = facts
        self._fields = facts.hints
        self.model, self.label = facts.model, facts.label
        self.definitions, self.reducers = facts.definitions, facts.reducers
        self.custom, self.frozen, self._alone = facts.custom, facts.frozen, facts.alone
        self.mistyped: set[str] = set()

    def names(self) -> Iterable[str]:
        """The names of the fields (never aliases)."""
        return self._fields

    def missing(self, data: Mapping[str, object]) -> list[str]:
        """The required fields that ``data`` lacks."""
        return [name for name in self._facts.required if name not in data]

    # -- what comes from outside ----------------------------------------------------------------

    def enter(
        self, owner: str, given: Mapping[str, object], without: Iterable[str]
    ) -> dict[str, object]:
        """Validate the initial values of a store, once, and add the defaults of missing fields.

        Args:
            owner: The name of the store in messages.
            given: The values.
            without: Fields that get no default.

        Raises:
            UnknownFieldError: A key that is not a field, unless the model allows extras.
            InvalidValueError: A value does not fit; names all the fields concerned.
        """
        self.check_names(owner, given)
        unsaved = set(without)
        if self._facts.whole is not None and self.model and given and not unsaved:
            instance = self._validated(self.model, owner, given)
            if instance is not None:
                return self.with_types(model_values(instance))
        values: dict[str, object] = {}
        # In the order of the fields, so that a validator finds the fields before its own.
        for key in (*self._fields, *(key for key in given if key not in self._fields)):
            if key in given:
                if not self.assign(values, key, given[key]):
                    values[key] = self.assigned(owner, values, key, given[key])
            elif key not in unsaved and key not in self._facts.required:
                values[key] = self.default(owner, values, key)
        return values | self.check_whole(owner, {}, values, values)

    def from_json(self, given: Mapping[str, object]) -> Mapping[str, object] | BaseModel:
        """The values from JSON values, which may lack fields that are set later.

        Validators of a model see each value once. Missing fields are unset in its instance, and
        have no default yet.

        Raises:
            ValidationError: A value does not fit.
            ValueError: It is not a JSON value.
        """
        return self._facts.read(given)

    def _validated(
        self, model: type[BaseModel], owner: str, given: Mapping[str, object]
    ) -> BaseModel | None:
        """The model of raw input; ``None`` if it only lacks fields, which are set later."""
        validate = partial(model.model_validate, dict(given), strict=True)

        def validate_whole() -> BaseModel | None:
            try:
                return validate(by_alias=False, by_name=True)
            except ValidationError as exc:
                if only_lacks(exc):
                    return None
                raise

        return validated(self._facts, owner, given, validate_whole)

    def in_order(self, keys: Collection[str]) -> list[str]:
        """Keys in the order of the fields; other keys come last."""
        known = [key for key in self._fields if key in keys]
        return known + [key for key in keys if key not in self._fields]

    def check(
        self,
        owner: str,
        data: Mapping[str, object],
        changes: Mapping[str, object],
        accepted: Collection[str] = (),
    ) -> dict[str, object]:
        """Validate ``changes``: types, constraints, field and (when complete) model validators.

        Values of ``accepted`` are validated already: only types and constraints are checked.

        Raises:
            UnknownFieldError: A key that is not a field, unless the model allows extras.
            InvalidValueError: A value does not fit; names all the fields concerned.
        """
        self.check_names(owner, changes)
        facts, candidate = self._facts, dict[str, object]()
        if facts.after or facts.whole or any(key in facts.custom for key in changes):
            candidate.update((key, value) for key, value in data.items() if key not in changes)
        # In the order of the fields, so that a validator finds the new values of earlier fields.
        for key in self.in_order(changes):
            value = changes[key]
            if key in facts.frozen and key in data and key not in accepted:
                self._refuse_frozen(owner, data, key, value)
                accepted = {*accepted, key}  # it is the value that was accepted
            if key not in accepted:
                value = self.assigned(owner, candidate, key, value)
            candidate[key] = value
        if accepted:
            self.check_accepted(owner, candidate, accepted)
        return self.check_whole(owner, data, candidate, changes)

    def assign(self, data: MutableMapping[str, object], key: str, value: object) -> bool:
        """Check and write a field that has a type and constraints, but no validators.

        Returns:
            Whether it was written; if not, :meth:`check` writes it, or says why not.
        """
        validate = self._alone.get(key) or self._facts.validates(key)
        if validate is None:
            return False
        try:
            data[key] = validate(value, strict=True)
        except Exception:  # noqa: BLE001 - check() raises it with a message
            return False
        if self.mistyped:
            self.mistyped.discard(key)
        return True

    def increment(self, owner: str, key: str, update: Any) -> object:
        """Validate the update for a reducer, if its type is known: parts of a value.

        Raises:
            InvalidValueError: It does not fit.
        """
        reducer = self.reducers[key]
        if key not in self.custom or reducer not in (append, extend, add, latest, merge):
            return update
        parts = items_of(self._facts.fields, key)
        if reducer is latest or (reducer is add and parts is None):
            return self.assigned(owner, {}, key, update)
        if parts is None:
            return update
        validate = SchemaValidator(parts, self._facts.config).validate_python

        def validate_part(part: object) -> object:
            return validated(self._facts, owner, {}, partial(validate, part, strict=True), key)

        if reducer is append:
            return validate_part(update)
        if reducer is merge:
            return {name: validate_part(part) for name, part in dict(update).items()}
        return [validate_part(part) for part in update]

    def check_names(self, owner: str, given: Iterable[str]) -> None:
        """Refuse keys that are not fields, unless the model allows extras.

        Raises:
            UnknownFieldError: There is one.
        """
        if self._facts.is_open:
            return
        for key in given:
            if key not in self._fields:
                raise UnknownFieldError(
                    f"{owner}: {self.label} has no field {key!r}{closest(key, self._fields)} "
                    f"(fields: {', '.join(self._fields)})"
                )

    def _refuse_frozen(
        self, owner: str, data: Mapping[str, object], key: str, value: object
    ) -> None:
        old = data[key]
        # Of small numbers and some texts there is one object, of others there may be several.
        is_plain = type(old) is type(value) and type(value) in IMMUTABLE
        if old is not value and not (is_plain and old == value):
            raise InvalidValueError(
                f"{owner}: field {key!r} is frozen: it stays {shown(self._facts, old)}, "
                f"got {type(value).__name__}: {shown(self._facts, value)}"
            )

    def assigned(
        self, owner: str, candidate: Mapping[str, object], key: str, value: object
    ) -> object:
        """The validated value of one key."""
        facts, is_field = self._facts, key in self._fields
        if not is_field and not facts.types_extras:
            return value
        earlier: dict[str, object] = {}
        is_custom = key in facts.custom
        if is_custom:  # its validators may look at other fields
            earlier = {name: candidate[name] for name in self._fields if name in candidate}
        assign = partial(facts.assign.validate_assignment, earlier, key, value, strict=True)
        checked: Any = validated(self._facts, owner, {key: value}, assign, key)
        accepted = checked[0 if is_field else 1][key]
        if is_custom:
            self.record_type(key, accepted)
        elif self.mistyped:
            self.mistyped.discard(key)
        return accepted

    def check_whole(
        self,
        owner: str,
        before: Mapping[str, object],
        candidate: dict[str, object],
        changes: Iterable[str],
    ) -> dict[str, object]:
        """The values that ``changes`` set once model validators have seen all fields.

        Validators that read raw input are called once, when the store becomes complete.
        """
        fields, facts = self._fields.keys(), self._facts
        validate: Callable[[], BaseModel] | None = None
        # Not with a default instead of a value that was deleted, or could not be stored.
        if (facts.after or facts.whole) and fields <= candidate.keys():
            if facts.whole is not None and not fields <= before.keys():
                validate = partial(facts.whole.validate_python, dict(candidate), strict=True)
            elif facts.after is not None:
                validate = partial(facts.after.validate_python, self._instance(owner, candidate))
        if validate is None:
            return {key: candidate[key] for key in changes}
        whole = model_values(validated(self._facts, owner, tuple(changes), validate))
        return self.with_types(
            {
                key: value
                for key, value in whole.items()
                if key in changes or key not in candidate or value is not candidate[key]
            }
        )

    def default(self, owner: str, values: Mapping[str, object], key: str) -> object:
        """A new default of a field; validated only if the model requires that."""
        if key in self._facts.constants:
            return self._facts.constants[key]
        assert self.model is not None
        field, known = self.model.model_fields[key], dict(values)
        get_default = partial(field.get_default, call_default_factory=True, validated_data=known)
        value = validated(self._facts, owner, {}, get_default, key)
        if validates_default(self.model, field):
            return self.assigned(owner, known, key, value)
        self.record_type(key, value)
        return value

    # -- what was accepted ----------------------------------------------------------------------

    def check_accepted(self, owner: str, data: Mapping[str, object], keys: Iterable[str]) -> None:
        """Check accepted values against types and constraints, but not by field validators again.

        Raises:
            InvalidValueError: One was changed in place into something that does not fit.
        """
        mismatches = []
        for key in keys:
            is_typed = key in self._fields or self._facts.types_extras
            if is_typed and key not in self.mistyped:
                exc = self.mismatch(key, data[key])
                if exc is not None:
                    mismatches.append(str(explained(self._facts, owner, {key: data[key]}, exc)))
        if mismatches:
            raise InvalidValueError("\n".join(mismatches))

    def with_types(self, values: dict[str, object]) -> dict[str, object]:
        """The values, after recording which of them do not fit their types."""
        for key in self.custom & values.keys():
            self.record_type(key, values[key])
        return values

    def record_type(self, key: str, accepted: object) -> None:
        """Record whether the result of a validator fits the type; if not, it is never rechecked."""
        if self.mismatch(key, accepted) is None:
            self.mistyped.discard(key)
        else:
            self.mistyped.add(key)

    def fits_parts(self, key: str, value: object, changes: Iterable[Change]) -> bool:
        """Whether changes in an accepted value surely fit; else call :meth:`check_accepted`."""
        field = self._facts.checks.core["fields"].get(key)
        if field is None or key in self.mistyped:
            return False
        return self._facts.checks.fit(field["schema"], value, changes)

    def mismatch(self, key: str, value: object) -> ValidationError | None:
        """The mismatch of an accepted value with types and constraints, if any."""
        try:
            self._facts.types.validate_assignment({}, key, value, strict=True)
        except ValidationError as exc:
            # A value that contains itself is checked once.
            if any(error["type"] != "recursion_loop" for error in exc.errors()):
                return exc
        return None

    def together(self, owner: str, data: Mapping[str, object]) -> bool:
        """Call the model's ``after`` validators on accepted values, if all fields are set.

        Returns:
            Whether any was called, and may have changed values in place.

        Raises:
            InvalidValueError: They do not fit together.
        """
        after = self._facts.after
        if after is None or not self._fields.keys() <= data.keys():
            return False
        model = self._instance(owner, data)
        validated(self._facts, owner, data, lambda: after.validate_python(model))
        return True

    def instance(self, owner: str, data: Mapping[str, object]) -> BaseModel | None:
        """The model of complete data, without validating it again; ``None`` without a model.

        Raises:
            InvalidValueError: Names the fields whose values do not fit.
        """
        if self.model is None:
            return None
        self.check_accepted(owner, data, data)
        return self._instance(owner, data)

    def _instance(self, owner: str, data: Mapping[str, object]) -> BaseModel:
        assert self.model is not None
        build = partial(instance_of, self.model, data)
        return validated(self._facts, owner, (), build)
