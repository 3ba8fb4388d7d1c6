"""Checking an answer where the code that asked for it is not at hand: by its JSON schema.

The schema comes from the database, so from anywhere: nothing is fetched for it, no regular
expression of it is tried in a way that could take for ever, and a check has an end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker, ValidationError as Misfit, validators
from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError
from referencing.jsonschema import EMPTY_REGISTRY

from pocoflow.errors import AnswerError
from pocoflow.nodes.question import Asked

# A format is what the type that it stands for takes, as no resume goes on with anything else.
_TYPES = {
    "date": date,
    "date-time": datetime,
    "duration": timedelta,
    "time": time,
    "uuid": UUID,
}

_KEYWORDS = (
    *("$ref", "allOf", "anyOf", "oneOf", "not", "if", "type", "enum", "const", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "items", "prefixItems", "contains", "minItems", "maxItems"),
    *("uniqueItems", "properties", "required", "propertyNames", "minProperties"),
    *("maxProperties", "dependentRequired", "dependentSchemas"),
)
_MOST_CHECKS = 100_000
_MOST_TOLD = 10
_LONGEST = 300

_Check = Callable[[Any, Any, Any, Mapping[str, object]], Iterator[Misfit] | None]


def check_json(one: Asked, answer: object) -> None:
    """Refuse an answer that its schema does not allow.

    Raises:
        AnswerError: Names the parts that do not fit.
    """
    told = misfits(one.schema, answer)
    if told:
        raise AnswerError(f"the answer does not fit question {one.about}: {'; '.join(told)}")


def misfits(schema: Mapping[str, object], answer: object) -> list[str]:
    """What of a JSON value a schema does not allow, each with its place in the value."""
    make: Any = validators.create  # whose types are those of fewer keywords
    kind = make(
        Draft202012Validator.META_SCHEMA,
        _bounded(),
        type_checker=_STRICT,
        id_of=Draft202012Validator.ID_OF,
    )
    # The registry is empty and stays so: the one that there is by default fetches.
    checker = kind(dict(schema), registry=EMPTY_REGISTRY, format_checker=_formats())
    told = []
    try:
        for error in islice(checker.iter_errors(answer), _MOST_TOLD):
            where = ".".join(map(str, error.absolute_path))
            told.append(f"{where}: {error.message}" if where else error.message)
    except Exception as exc:  # noqa: BLE001 - what jsonschema does with a wrong schema is anything
        why = str(exc).partition("\n")[0]
        if isinstance(exc, RecursionError):
            why = "it is nested too deeply"
        told.append(
            f"its JSON schema cannot be used ({type(exc).__name__}: {why}); with the flow at hand "
            "it is checked by its type"
        )
    return [one if len(one) <= _LONGEST else f"{one[:_LONGEST]}..." for one in told]


# To JSON Schema 4.0 is an integer, to Pydantic it is none.
_STRICT = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)


class _TooMuch(Exception):
    """The check of an answer does not end."""


def _bounded() -> dict[str, _Check]:
    """The keywords that are checked, together at most so many times."""
    count = iter(range(_MOST_CHECKS))
    known = Draft202012Validator.VALIDATORS
    checks: dict[str, _Check] = {name: known[name] for name in _KEYWORDS}
    checks |= {"pattern": _pattern, "additionalProperties": _additional}

    def counted(check: _Check) -> _Check:
        def checked(*arguments: Any) -> Iterator[Misfit]:
            if next(count, None) is None:
                raise _TooMuch(f"more than {_MOST_CHECKS} checks of parts")
            yield from check(*arguments) or ()

        return checked

    return {name: counted(check) for name, check in checks.items()}


def _pattern(
    _: object, pattern: object, value: object, __: Mapping[str, object]
) -> Iterator[Misfit]:
    # As a field of a model is checked: by an engine that takes time in proportion to the text.
    if not isinstance(value, str):
        return
    try:
        adapter = TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])
    except SchemaError:
        return  # one of Python's own, such as with a look-ahead: the flow checks it
    try:
        adapter.validate_python(value)
    except ValidationError:
        yield Misfit(f"{value!r} does not match {pattern!r}")


def _additional(
    checker: Any, given: object, value: object, schema: Mapping[str, object]
) -> Iterator[Misfit]:
    # Which keys are additional beside patternProperties only the flow can say, for the same reason.
    if isinstance(value, dict) and "patternProperties" not in schema:
        fields = schema.get("properties")
        extras = value.keys() - (fields if isinstance(fields, dict) else {}).keys()
        for key in sorted(extras):
            if isinstance(given, dict):
                yield from checker.descend(value[key], given, path=key)
            elif given is False:
                yield Misfit(f"{key!r} is not a field of it")


def _formats() -> FormatChecker:
    checker = FormatChecker(formats=())
    for name, of in _TYPES.items():
        checker.checks(name, raises=ValidationError)(_takes(TypeAdapter(of)))
    return checker


def _takes(adapter: TypeAdapter[object]) -> Callable[[object], bool]:
    def takes(value: object) -> bool:
        if isinstance(value, str):
            adapter.validate_json(json.dumps(value), strict=True)
        return True

    return takes
