"""Pydantic models as schemas: fields are checked one by one, and the whole once it is complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from functools import partial
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator

from pocoflow.errors import DefinitionError, InvalidValueError, StoreError, UnknownFieldError
from pocoflow.messages import (
    closest,
    defined_again,
    definition_label,
    describe,
    given_as,
    is_same_field,
    short,
    type_label,
)
from pocoflow.store.reducing import add, append, extend, latest, merge, reducers_of
from pocoflow.store.schema.cores import (
    UNKNOWN,
    cause_of,
    config_of,
    exact,
    fields_only,
    has_validators,
    items_of,
    own_validators,
    types_only,
)
from pocoflow.store.schema.part_checks import PartChecks
from pocoflow.values import has_marks
from pocoflow.values.changes import Change

__all__ = ["UNKNOWN", "ModelSchema", "definitions_of", "model_values"]


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
        self._open = model.model_config.get("extra") == "allow"
        self._required = [name for name, f in self._fields.items() if f.is_required()]
        self._frozen = {name for name, field in self._fields.items() if field.frozen}
        self.definitions = definitions_of(model)
        self.reducers = reducers_of(
            (name, f.annotation, f.metadata) for name, f in self._fields.items()
        )
        self._parts = _parts_of(model)
        self._is_by_field = not (self._parts.after or self._parts.whole)
        self._places = {name: place for place, name in enumerate(self._fields)}
        self._unlike: set[str] = set()
        self._assignable = self._fields.keys() - self._frozen - self._parts.shaped
        if not self._is_by_field:
            self._assignable = set()

    def names(self) -> Iterable[str]:
        """The model's field names (never aliases)."""
        return self._fields

    def missing(self, data: Mapping[str, object]) -> list[str]:
        """The required fields that ``data`` lacks."""
        return [name for name in self._required if name not in data]

    # -- what comes from outside ----------------------------------------------------------------

    def enter(
        self, owner: str, given: Mapping[str, object], without: Iterable[str]
    ) -> dict[str, Any]:
        """Validate what a store begins with, once, and add the defaults of what it lacks.

        Args:
            owner: What to call the store.
            given: The values.
            without: Fields that get no default.

        Raises:
            UnknownFieldError: A key that is not a field, unless the model allows extras.
            InvalidValueError: A value that does not fit, with all the fields it concerns.
        """
        self._check_names(owner, given)
        lost = set(without)
        if self._parts.whole is not None and given and not lost:
            made = self._validated(owner, given)
            if made is not None:
                return self._noted(model_values(made))
        values: dict[str, Any] = {}
        # In the order of the fields, so that a validator finds those before its own.
        for key in (*self._fields, *(key for key in given if key not in self._fields)):
            if key in given:
                values[key] = self._assigned(owner, values, key, given[key])
            elif key not in lost and not self._fields[key].is_required():
                values[key] = self._default(owner, values, key)
        return values | self._checked_whole(owner, {}, values, values)

    def from_json(self, given: Mapping[str, object]) -> BaseModel:
        """An instance of the model of JSON values, which may lack fields that are set later.

        Validators see each value once. What is lacking is unset in it, and has no default yet.

        Raises:
            ValidationError: A value does not fit.
            ValueError: It is no JSON value.
        """
        text = json.dumps(dict(given), allow_nan=False)
        try:
            return self.source.model_validate_json(text, strict=True, by_alias=False, by_name=True)
        except ValidationError as exc:
            if all(one["type"] != "missing" or len(one["loc"]) > 1 for one in exc.errors()):
                raise
        core = self._parts.fields
        inner = core["schema"] if core["type"] == "definitions" else core
        chosen = {**inner, "fields": {k: v for k, v in inner["fields"].items() if k in given}}
        core = chosen if inner is core else {**core, "schema": chosen}
        read = SchemaValidator(core, self._parts.config).validate_json
        values, *_ = read(text, strict=True, by_alias=False, by_name=True)
        return _instance(self.source, values)

    def _validated(self, owner: str, given: Mapping[str, object]) -> BaseModel | None:
        """The model of raw input; ``None`` if that only lacks fields which are set later."""
        try:
            return self.source.model_validate(
                dict(given), strict=True, by_alias=False, by_name=True
            )
        except ValidationError as exc:
            if all(one["type"] == "missing" and len(one["loc"]) == 1 for one in exc.errors()):
                return None
            raise self._explained(owner, given, exc) from cause_of(exc)
        except Exception as exc:
            raise self._broken(owner, None, exc) from exc

    def _order(self, key: str) -> int:
        return self._places.get(key, len(self._places))

    def check(
        self,
        owner: str,
        data: Mapping[str, object],
        changes: Mapping[str, object],
        accepted: Collection[str] = (),
    ) -> dict[str, Any]:
        """Validate ``changes``: types, constraints, field and (when complete) model validators.

        Those of ``accepted`` are values already: they are only held to types and constraints.

        Raises:
            UnknownFieldError: A key that is not a field, unless the model allows extras.
            InvalidValueError: A value that does not fit, with all the fields it concerns.
        """
        if self._is_by_field and len(changes) == 1 and not accepted:
            ((key, value),) = changes.items()
            if key not in self._fields:
                self._check_names(owner, changes)
            elif key in self._frozen:
                self._refuse_frozen(owner, data, key, value)
            return {key: self._assigned(owner, data, key, value)}
        self._check_names(owner, changes)
        parts, candidate = self._parts, dict[str, Any]()
        if parts.after or parts.whole or any(key in parts.shaped for key in changes):
            candidate.update((key, value) for key, value in data.items() if key not in changes)
        # In the order of the fields, so that a validator finds the earlier ones as they will be.
        for key in sorted(changes, key=self._order):
            value = changes[key]
            if key not in accepted:
                if key in self._frozen:
                    self._refuse_frozen(owner, data, key, value)
                value = self._assigned(owner, candidate, key, value)
            candidate[key] = value
        if accepted:
            self.hold(owner, candidate, accepted)
        return self._checked_whole(owner, data, candidate, changes)

    def assign(self, data: MutableMapping[str, Any], key: str, value: object) -> bool:
        """Check and write a field that has a type and constraints, and nothing else that looks.

        Returns:
            Whether that is done; if not, nothing is, and :meth:`check` does it, or says why not.
        """
        if key not in self._assignable:
            return False
        try:
            made: Any = self._parts.assign.validate_assignment({}, key, value, strict=True)
        except Exception:  # noqa: BLE001 - raised by the check that says what is wrong
            return False
        data[key] = made[0][key]
        if self._unlike:
            self._unlike.discard(key)
        return True

    def increment(self, owner: str, key: str, update: Any) -> Any:
        """Validate what a reducer is given, as far as it is known what that is: parts of a value.

        Raises:
            InvalidValueError: It does not fit.
        """
        reducer = self.reducers[key]
        if key not in self._parts.shaped or reducer not in (append, extend, add, latest, merge):
            return update
        parts = items_of(self._parts.fields, key)
        if reducer is latest or (reducer is add and parts is None):
            return self._assigned(owner, {}, key, update)
        if parts is None:
            return update
        validate = SchemaValidator(parts, self._parts.config).validate_python
        if reducer is append:
            return self._told(owner, {}, lambda: validate(update, strict=True), key)
        if reducer is merge:
            one = {
                name: self._told(owner, {}, partial(validate, each, strict=True), key)
                for name, each in dict(update).items()
            }
            return one
        return [self._told(owner, {}, partial(validate, each, strict=True), key) for each in update]

    def _check_names(self, owner: str, given: Iterable[str]) -> None:
        if self._open:
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
                f"{owner}: field {key!r} is frozen: it stays {self._shown(data[key])}, "
                f"got {type(value).__name__}: {self._shown(value)}"
            )

    def _assigned(
        self, owner: str, candidate: Mapping[str, object], key: str, value: object
    ) -> Any:
        """What one key is set to, checked by itself."""
        parts, is_field = self._parts, key in self._fields
        if not is_field and not parts.types_extras:
            return value
        known: dict[str, Any] = {}
        is_shaped = key in parts.shaped
        if is_shaped:  # its validators may look at other fields
            known = {name: candidate[name] for name in self._fields if name in candidate}
        try:
            checked: Any = parts.assign.validate_assignment(known, key, value, strict=True)
        except ValidationError as exc:
            raise self._explained(owner, {key: value}, exc) from cause_of(exc)
        except Exception as exc:
            raise self._broken(owner, key, exc) from exc
        accepted = checked[0 if is_field else 1][key]
        if is_shaped:
            self._note(key, accepted)
        elif self._unlike:
            self._unlike.discard(key)
        return accepted

    def _checked_whole(
        self,
        owner: str,
        before: Mapping[str, object],
        candidate: dict[str, Any],
        changes: Iterable[str],
    ) -> dict[str, Any]:
        """What all is set to by ``changes`` once the model's own validators have seen the whole.

        Those that read raw input see the whole once, when it becomes complete.
        """
        fields, parts = self._fields.keys(), self._parts
        # Not with a default in the place of a value that was deleted, or could not be stored.
        if not fields <= candidate.keys() or not (parts.after or parts.whole):
            return {key: candidate[key] for key in changes}
        if parts.whole is not None and not fields <= before.keys():
            validate = parts.whole.validate_python
            made = self._told(owner, tuple(changes), lambda: validate(dict(candidate), strict=True))
        elif parts.after is not None:
            check, model = parts.after.validate_python, self._instance(owner, candidate)
            made = self._told(owner, tuple(changes), lambda: check(model))
        else:
            return {key: candidate[key] for key in changes}
        whole = model_values(made)
        return self._noted(
            {
                key: value
                for key, value in whole.items()
                if key in changes or key not in candidate or value is not candidate[key]
            }
        )

    def _default(self, owner: str, values: Mapping[str, object], key: str) -> object:
        """The default of a field, made anew; validated only if the model asks for that."""
        field, known = self._fields[key], dict(values)
        get = partial(field.get_default, call_default_factory=True, validated_data=known)
        made = self._told(owner, {}, get, key)
        always = self.source.model_config.get("validate_default")
        if always if field.validate_default is None else field.validate_default:
            return self._assigned(owner, known, key, made)
        self._note(key, made)
        return made

    def _told(
        self, owner: str, given: Any, call: Callable[[], Any], field: str | None = None
    ) -> Any:
        """Call what validates; what is wrong, or goes wrong, is told with its fields."""
        try:
            return call()
        except ValidationError as exc:
            values = given if isinstance(given, Mapping) else {}
            about = owner if field or values else f"{owner}: writing {', '.join(map(repr, given))}"
            raise self._explained(about, values, exc) from cause_of(exc)
        except Exception as exc:
            raise self._broken(owner, field, exc) from exc

    def _broken(self, owner: str, field: str | None, exc: Exception) -> InvalidValueError:
        """What to raise for an exception of the user's own code, which is its cause."""
        where = self.label if field is None else f"field {field!r}"
        what = "a validator" if field is None else "its validator or default"
        return InvalidValueError(f"{owner}: {where}: {what} raised {describe(exc)}")

    def _shown(self, value: object) -> str:
        hides = self.source.model_config.get("hide_input_in_errors")
        return "(hidden)" if hides else short(value)

    def _explained(
        self, owner: str, values: Mapping[str, object], exc: ValidationError
    ) -> InvalidValueError:
        """One line per field: what it expects, what it was given, where inside that it fails."""
        reasons: dict[str, list[str]] = {}
        for error in exc.errors(include_url=False, include_context=False):
            key, *inner = error["loc"] or ("",)
            hint = self._fields[str(key)].annotation if str(key) in self._fields else None
            given = error["input"]
            reason = "".join(f"[{part!r}]" for part in inner) + (": " if inner else "")
            reason += error["msg"]
            if inner and given is not values.get(str(key)):
                reason += f", got {given_as(given, hint)}: {self._shown(given)}"
            reason += defined_again(given, hint, self.label)
            reasons.setdefault(str(key), []).append(reason)
        lines = []
        for key, found in reasons.items():
            said = "; ".join(found)
            if key in values:
                value = values[key]
                hint = self._fields[key].annotation if key in self._fields else None
                expected = "what its model says" if hint is None else type_label(hint)
                said = (
                    f"field {key!r} expects {expected}, "
                    f"got {given_as(value, hint)}: {self._shown(value)} ({said})"
                )
            else:
                said = f"{self.label} refuses the values together: {said}"
            lines.append(f"{owner}: {said}")
        return InvalidValueError("\n".join(lines))

    # -- what was accepted ----------------------------------------------------------------------

    def hold(self, owner: str, data: Mapping[str, object], keys: Iterable[str]) -> None:
        """Check accepted values against types and constraints, not by validators of fields again.

        Raises:
            InvalidValueError: One was changed in place into something that does not fit.
        """
        wrong = []
        for key in keys:
            is_typed = key in self._fields or self._parts.types_extras
            if is_typed and key not in self._unlike:
                exc = self._misfit(key, data[key])
                if exc is not None:
                    wrong.append(str(self._explained(owner, {key: data[key]}, exc)))
        if wrong:
            raise InvalidValueError("\n".join(wrong))

    def take(
        self,
        owner: str,
        values: Mapping[str, object],
        under: Mapping[str, str],
        without: Iterable[str],
    ) -> dict[str, Any]:
        """Take over values that were accepted under the definitions ``under``.

        Types and constraints are checked again; the validators of a field see the value only if the
        field is another one now, or nobody knows what it was and the value does not fit.

        Raises:
            StoreError: A value does not fit, and the model's own validators cannot read it.
        """
        own = self.definitions
        same = {key for key in values if is_same_field(under.get(key), own.get(key))}
        self._unlike.update(key for key in values if has_marks(values[key]))
        try:
            self._check_names(owner, values)
            made = dict(values)
            for key in sorted(values.keys() - self._unlike - same, key=self._order):
                if key not in own or under.get(key) != UNKNOWN or self._misfit(key, values[key]):
                    made[key] = self._assigned(owner, made, key, values[key])
            for key in same & self._parts.shaped:
                self._note(key, values[key])
            # An instance is taken as it is where the field has another definition now, too.
            self.hold(owner, made, same | (made.keys() - self._parts.shaped))
            if len(same) == len(own) == len(made):
                return {key: made[key] for key in own}
            lost = {*without, *made}
            for key in own:
                if key not in lost and not self._fields[key].is_required():
                    made[key] = self._default(owner, made, key)
            made = {key: made[key] for key in (*own, *made) if key in made}
            return made | self._checked_whole(owner, made, made, made)
        except StoreError as exc:
            return self._migrated(owner, values, same, exc)

    def _migrated(
        self, owner: str, values: Mapping[str, object], same: set[str], exc: StoreError
    ) -> dict[str, object]:
        """Let the model's own validators read what was stored under an older schema, or raise."""
        # A field that the model no longer has must be read by a validator or alias, not dropped.
        extra: Literal["forbid"] | None = None if self._open else "forbid"
        try:
            built = self.source.model_validate(
                dict(values), strict=False, by_name=True, extra=extra
            )
        except Exception:  # noqa: BLE001 - what they raise on old values is no better message
            raise exc from None
        made = model_values(built)
        # An instance is taken by them as it is, so what does not fit in one is as it was.
        old = self._fields.keys() & values.keys() - self._unlike
        wrong = {key for key in old if self._misfit(key, values[key]) is not None}
        shaped = self._parts.shaped
        for key in wrong:
            if made[key] is values[key] or (key not in shaped and self._misfit(key, made[key])):
                raise exc from None
        kept = {key: values[key] for key in (same - wrong) & self._fields.keys()}
        return self._noted({**made, **kept})

    def _noted(self, values: dict[str, object]) -> dict[str, object]:
        for key in self._parts.shaped & values.keys():
            self._note(key, values[key])
        return values

    def _note(self, key: str, accepted: object) -> None:
        """Note whether what a validator made fits the type at all; if not, it is not held to it."""
        if self._misfit(key, accepted) is None:
            self._unlike.discard(key)
        else:
            self._unlike.add(key)

    def holds(self, key: str, value: object, changes: Iterable[Change]) -> bool:
        """Whether what changed in an accepted value is known to fit; if not, :meth:`hold` says."""
        field = self._parts.checks.core["fields"].get(key)
        if field is None or key in self._unlike:
            return False
        return self._parts.checks.fit(field["schema"], value, changes)

    def _misfit(self, key: str, value: object) -> ValidationError | None:
        """Why an accepted value does not fit types and constraints, if it does not."""
        try:
            self._parts.types.validate_assignment({}, key, value, strict=True)
        except ValidationError as exc:
            # What contains itself is looked at once.
            if any(one["type"] != "recursion_loop" for one in exc.errors()):
                return exc
        return None

    def together(self, owner: str, data: Mapping[str, object]) -> None:
        """Let the model's ``after`` validators look at accepted values, if there are all.

        Raises:
            InvalidValueError: They do not fit together.
        """
        after = self._parts.after
        if after is not None and self._fields.keys() <= data.keys():
            model = self._instance(owner, data)
            self._told(owner, data, lambda: after.validate_python(model))

    def model(self, owner: str, data: Mapping[str, object]) -> BaseModel:
        """The model of data that lacks no field, which no validator sees again.

        Raises:
            InvalidValueError: Names the fields whose values do not fit.
        """
        self.hold(owner, data, data)
        return self._instance(owner, data)

    def _instance(self, owner: str, data: Mapping[str, object]) -> BaseModel:
        made: BaseModel = self._told(owner, (), partial(_instance, self.source, data))
        return made


def _instance(model: type[BaseModel], data: Mapping[str, object]) -> BaseModel:
    """The model of values that were accepted; of its code only ``model_post_init`` is called."""
    fields = {key: data[key] for key in model.model_fields if key in data}
    extra = {key: value for key, value in data.items() if key not in fields}
    is_open = model.model_config.get("extra") == "allow"
    made = model.__new__(model)
    state = {
        "__dict__": dict(fields),
        "__pydantic_fields_set__": set(data),
        "__pydantic_extra__": extra if is_open else None,
        "__pydantic_private__": None,
    }
    BaseModel.__setstate__(made, state)
    if model.__pydantic_post_init__:
        made.model_post_init(None)
        made.__dict__.update(fields)
    return made


def model_values(model: BaseModel) -> dict[str, Any]:
    """The values of a model's fields, and what it holds beyond them, by name."""
    return {**model.__dict__, **(model.__pydantic_extra__ or {})}


class _Parts(NamedTuple):
    """Validators of parts of a model.

    Attributes:
        core: What they were made of.
        config: What the model says about all of its values.
        types_extras: Whether it says what values beyond its fields are.
        fields: The core schema of single fields.
        assign: Single fields, with all that validates them.
        types: Single fields, by types and constraints only.
        checks: Parts of them, in the same way.
        shaped: The fields that code of the user validates.
        whole: The model's own validators; ``None`` if none of them reads raw input.
        after: Its ``after`` validators, for an instance; ``None`` if it has none.
    """

    core: Any
    config: Any
    types_extras: bool
    fields: Any
    assign: SchemaValidator
    types: SchemaValidator
    checks: PartChecks
    shaped: frozenset[str]
    whole: SchemaValidator | None
    after: SchemaValidator | None


_known: WeakKeyDictionary[type[BaseModel], _Parts] = WeakKeyDictionary()


def _parts_of(model: type[BaseModel]) -> _Parts:
    """The parts of a model, made once for each."""
    known = _known.get(model)
    core: object = model.__pydantic_core_schema__
    if known is None or known.core is not core:
        fields, config = fields_only(core), config_of(core)
        types = types_only(fields)
        inner = fields["schema"] if fields["type"] == "definitions" else fields
        raw = any(
            one.info.mode != "after"
            for one in model.__pydantic_decorators__.model_validators.values()
        )
        after, whole = own_validators(core), own_validators(core, partial(_instance, model))
        known = _known[model] = _Parts(
            core,
            config,
            "extras_schema" in inner,
            fields,
            SchemaValidator(exact(fields), config),
            SchemaValidator(types, config),
            PartChecks(types, config),
            frozenset(name for name in model.model_fields if has_validators(fields, name)),
            SchemaValidator(whole) if raw and whole is not None else None,
            None if after is None else SchemaValidator(after),
        )
    return known


def definitions_of(schema: type[BaseModel]) -> dict[str, str]:
    """What defines each field: its type, its metadata, and the validators that name it."""
    validators: dict[str, list[str]] = {}
    for name, one in schema.__pydantic_decorators__.field_validators.items():
        for field in one.info.fields:
            validators.setdefault(field, []).append(f"{one.info.mode} validator {name}()")
    everywhere = validators.get("*", [])
    return {
        name: definition_label(
            field.annotation, field.metadata, [*validators.get(name, []), *everywhere]
        )
        for name, field in schema.model_fields.items()
    }
