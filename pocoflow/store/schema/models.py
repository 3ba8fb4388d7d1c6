"""Pydantic models as schemas: fields are checked one by one, and the whole once it is complete."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator

from pocoflow.errors import DefinitionError, InvalidValueError, UnknownFieldError
from pocoflow.messages import closest
from pocoflow.store.reducing import add, append, extend, latest, merge
from pocoflow.store.schema.cores import items_of
from pocoflow.store.schema.explaining import explained, shown, validated
from pocoflow.store.schema.model_facts import (
    facts_of,
    instance_of,
    model_values,
    only_lacks,
    read_json,
    validates_default,
)

if TYPE_CHECKING:
    from pocoflow.values.changes.difference import Change


class ModelSchema:
    """A Pydantic model as the schema of a store."""

    def __init__(self, model: type[BaseModel]) -> None:
        if model.__pydantic_root_model__:
            raise DefinitionError(
                f"{model.__name__} is a RootModel, which has no fields: a store schema is a "
                "BaseModel with one field per key"
            )
        if not model.__pydantic_complete__:
            model.model_rebuild()
        self.source = model
        self.label = model.__name__
        self._fields = model.model_fields
        self._facts = facts = facts_of(model)
        self.definitions, self.reducers = facts.definitions, facts.reducers
        self.shaped, self.frozen, self._alone = facts.shaped, facts.frozen, facts.alone
        self.unlike: set[str] = set()

    def names(self) -> Iterable[str]:
        """The model's field names (never aliases)."""
        return self._fields

    def missing(self, data: Mapping[str, object]) -> list[str]:
        """The required fields that ``data`` lacks."""
        return [name for name in self._facts.required if name not in data]

    # -- what comes from outside ----------------------------------------------------------------

    def enter(
        self, owner: str, given: Mapping[str, object], without: Iterable[str]
    ) -> dict[str, object]:
        """Validate what a store begins with, once, and add the defaults of what it lacks.

        Args:
            owner: What to call the store.
            given: The values.
            without: Fields that get no default.

        Raises:
            UnknownFieldError: A key that is not a field, unless the model allows extras.
            InvalidValueError: A value that does not fit, with all the fields it concerns.
        """
        self.check_names(owner, given)
        lost = set(without)
        if self._facts.whole is not None and given and not lost:
            made = self._validated(owner, given)
            if made is not None:
                return self.noted(model_values(made))
        values: dict[str, object] = {}
        # In the order of the fields, so that a validator finds those before its own.
        for key in (*self._fields, *(key for key in given if key not in self._fields)):
            if key in given:
                if not self.assign(values, key, given[key]):
                    values[key] = self.assigned(owner, values, key, given[key])
            elif key not in lost and not self._fields[key].is_required():
                values[key] = self.default(owner, values, key)
        return values | self.check_whole(owner, {}, values, values)

    def from_json(self, given: Mapping[str, object]) -> BaseModel:
        """An instance of the model of JSON values, which may lack fields that are set later.

        Validators see each value once. What is lacking is unset in it, and has no default yet.

        Raises:
            ValidationError: A value does not fit.
            ValueError: It is no JSON value.
        """
        return read_json(self.source, given)

    def _validated(self, owner: str, given: Mapping[str, object]) -> BaseModel | None:
        """The model of raw input; ``None`` if that only lacks fields which are set later."""
        validate = partial(self.source.model_validate, dict(given), strict=True)

        def make() -> BaseModel | None:
            try:
                return validate(by_alias=False, by_name=True)
            except ValidationError as exc:
                if only_lacks(exc):
                    return None
                raise

        return validated(self.source, owner, given, make)

    def order(self, key: str) -> int:
        """The place of a field in the model; what is no field comes last."""
        return self._facts.places.get(key, len(self._fields))

    def check(
        self,
        owner: str,
        data: Mapping[str, object],
        changes: Mapping[str, object],
        accepted: Collection[str] = (),
    ) -> dict[str, object]:
        """Validate ``changes``: types, constraints, field and (when complete) model validators.

        Those of ``accepted`` are values already: they are only held to types and constraints.

        Raises:
            UnknownFieldError: A key that is not a field, unless the model allows extras.
            InvalidValueError: A value that does not fit, with all the fields it concerns.
        """
        self.check_names(owner, changes)
        facts, candidate = self._facts, dict[str, object]()
        if facts.after or facts.whole or any(key in facts.shaped for key in changes):
            candidate.update((key, value) for key, value in data.items() if key not in changes)
        # In the order of the fields, so that a validator finds the earlier ones as they will be.
        for key in sorted(changes, key=self.order):
            value = changes[key]
            if key not in accepted:
                if key in facts.frozen:
                    self._refuse_frozen(owner, data, key, value)
                value = self.assigned(owner, candidate, key, value)
            candidate[key] = value
        if accepted:
            self.hold(owner, candidate, accepted)
        return self.check_whole(owner, data, candidate, changes)

    def assign(self, data: MutableMapping[str, object], key: str, value: object) -> bool:
        """Check and write a field that has a type and constraints, and nothing else that looks.

        Returns:
            Whether that is done; if not, nothing is, and :meth:`check` does it, or says why not.
        """
        validate = self._alone.get(key) or self._facts.validates(key)
        if validate is None:
            return False
        try:
            data[key] = validate(value, strict=True)
        except Exception:  # noqa: BLE001 - raised by the check that says what is wrong
            return False
        if self.unlike:
            self.unlike.discard(key)
        return True

    def increment(self, owner: str, key: str, update: Any) -> object:
        """Validate what a reducer is given, as far as it is known what that is: parts of a value.

        Raises:
            InvalidValueError: It does not fit.
        """
        reducer = self.reducers[key]
        if key not in self.shaped or reducer not in (append, extend, add, latest, merge):
            return update
        parts = items_of(self._facts.fields, key)
        if reducer is latest or (reducer is add and parts is None):
            return self.assigned(owner, {}, key, update)
        if parts is None:
            return update
        validate = SchemaValidator(parts, self._facts.config).validate_python

        def one(part: object) -> object:
            return validated(self.source, owner, {}, partial(validate, part, strict=True), key)

        if reducer is append:
            return one(update)
        if reducer is merge:
            return {name: one(part) for name, part in dict(update).items()}
        return [one(part) for part in update]

    def check_names(self, owner: str, given: Iterable[str]) -> None:
        """Refuse keys that are no fields, unless the model allows extras.

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
        if data.get(key, value) is not value:
            raise InvalidValueError(
                f"{owner}: field {key!r} is frozen: it stays {shown(self.source, data[key])}, "
                f"got {type(value).__name__}: {shown(self.source, value)}"
            )

    def assigned(
        self, owner: str, candidate: Mapping[str, object], key: str, value: object
    ) -> object:
        """What one key is set to, checked by itself."""
        facts, is_field = self._facts, key in self._fields
        if not is_field and not facts.types_extras:
            return value
        known: dict[str, object] = {}
        is_shaped = key in facts.shaped
        if is_shaped:  # its validators may look at other fields
            known = {name: candidate[name] for name in self._fields if name in candidate}
        assign = partial(facts.assign.validate_assignment, known, key, value, strict=True)
        checked: Any = validated(self.source, owner, {key: value}, assign, key)
        accepted = checked[0 if is_field else 1][key]
        if is_shaped:
            self.note(key, accepted)
        elif self.unlike:
            self.unlike.discard(key)
        return accepted

    def check_whole(
        self,
        owner: str,
        before: Mapping[str, object],
        candidate: dict[str, object],
        changes: Iterable[str],
    ) -> dict[str, object]:
        """What all is set to by ``changes`` once the model's own validators have seen the whole.

        Those that read raw input see the whole once, when it becomes complete.
        """
        fields, facts = self._fields.keys(), self._facts
        see: Callable[[], BaseModel] | None = None
        # Not with a default in the place of a value that was deleted, or could not be stored.
        if (facts.after or facts.whole) and fields <= candidate.keys():
            if facts.whole is not None and not fields <= before.keys():
                see = partial(facts.whole.validate_python, dict(candidate), strict=True)
            elif facts.after is not None:
                see = partial(facts.after.validate_python, self._instance(owner, candidate))
        if see is None:
            return {key: candidate[key] for key in changes}
        whole = model_values(validated(self.source, owner, tuple(changes), see))
        return self.noted(
            {
                key: value
                for key, value in whole.items()
                if key in changes or key not in candidate or value is not candidate[key]
            }
        )

    def default(self, owner: str, values: Mapping[str, object], key: str) -> object:
        """The default of a field, made anew; validated only if the model asks for that."""
        if key in self._facts.constants:
            return self._facts.constants[key]
        field, known = self._fields[key], dict(values)
        get = partial(field.get_default, call_default_factory=True, validated_data=known)
        made = validated(self.source, owner, {}, get, key)
        if validates_default(self.source, field):
            return self.assigned(owner, known, key, made)
        self.note(key, made)
        return made

    # -- what was accepted ----------------------------------------------------------------------

    def hold(self, owner: str, data: Mapping[str, object], keys: Iterable[str]) -> None:
        """Check accepted values against types and constraints, not by validators of fields again.

        Raises:
            InvalidValueError: One was changed in place into something that does not fit.
        """
        wrong = []
        for key in keys:
            is_typed = key in self._fields or self._facts.types_extras
            if is_typed and key not in self.unlike:
                exc = self.misfit(key, data[key])
                if exc is not None:
                    wrong.append(str(explained(self.source, owner, {key: data[key]}, exc)))
        if wrong:
            raise InvalidValueError("\n".join(wrong))

    def noted(self, values: dict[str, object]) -> dict[str, object]:
        """The values, once it is noted which of them do not fit their types."""
        for key in self.shaped & values.keys():
            self.note(key, values[key])
        return values

    def note(self, key: str, accepted: object) -> None:
        """Note whether what a validator made fits the type at all; if not, it is not held to it."""
        if self.misfit(key, accepted) is None:
            self.unlike.discard(key)
        else:
            self.unlike.add(key)

    def holds(self, key: str, value: object, changes: Iterable[Change]) -> bool:
        """Whether what changed in an accepted value is known to fit; if not, :meth:`hold` says."""
        field = self._facts.checks.core["fields"].get(key)
        if field is None or key in self.unlike:
            return False
        return self._facts.checks.fit(field["schema"], value, changes)

    def misfit(self, key: str, value: object) -> ValidationError | None:
        """Why an accepted value does not fit types and constraints, if it does not."""
        try:
            self._facts.types.validate_assignment({}, key, value, strict=True)
        except ValidationError as exc:
            # What contains itself is looked at once.
            if any(one["type"] != "recursion_loop" for one in exc.errors()):
                return exc
        return None

    def together(self, owner: str, data: Mapping[str, object]) -> bool:
        """Let the model's ``after`` validators look at accepted values, if there are all.

        Returns:
            Whether any did, which may have changed them in place.

        Raises:
            InvalidValueError: They do not fit together.
        """
        after = self._facts.after
        if after is None or not self._fields.keys() <= data.keys():
            return False
        model = self._instance(owner, data)
        validated(self.source, owner, data, lambda: after.validate_python(model))
        return True

    def model(self, owner: str, data: Mapping[str, object]) -> BaseModel:
        """The model of data that lacks no field, which no validator sees again.

        Raises:
            InvalidValueError: Names the fields whose values do not fit.
        """
        self.hold(owner, data, data)
        return self._instance(owner, data)

    def _instance(self, owner: str, data: Mapping[str, object]) -> BaseModel:
        made: BaseModel = validated(self.source, owner, (), partial(instance_of, self.source, data))
        return made
