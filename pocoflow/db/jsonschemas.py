"""Validating an answer by its JSON schema, where the code that asked for it is not available.

The schema comes from the database and is not trusted: no reference is fetched, regular expressions
run in linear time, and the number of checks is bounded.
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

# A format accepts what the type behind it accepts, as a resume accepts nothing else.
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
_MOST_REPORTED = 10
_LONGEST = 300

_Check = Callable[[Any, Any, Any, Mapping[str, object]], Iterator[Misfit] | None]


def check_json(asked: Asked, answer: object) -> None:
    """Refuse an answer that its schema does not allow.

    Raises:
        AnswerError: Names the parts that do not fit.
    """
    errors = misfits(asked.schema, answer)
    if errors:
        raise AnswerError(f"the answer does not fit question {asked.about}: {'; '.join(errors)}")


def misfits(schema: Mapping[str, object], answer: object) -> list[str]:
    """The parts of a JSON value that its schema does not allow, each with its location."""
    create: Any = validators.create  # its annotations allow fewer keywords
    validator = create(
        Draft202012Validator.META_SCHEMA,
        _bounded(),
        type_checker=_STRICT,
        id_of=Draft202012Validator.ID_OF,
    )
    # An empty registry: the default one fetches references.
    checker = validator(dict(schema), registry=EMPTY_REGISTRY, format_checker=_formats())
    errors = []
    try:
        for error in islice(checker.iter_errors(answer), _MOST_REPORTED):
            where = ".".join(map(str, error.absolute_path))
            errors.append(f"{where}: {error.message}" if where else error.message)
    except Exception as exc:  # noqa: BLE001 - jsonschema may raise anything for a wrong schema
        why = str(exc).partition("\n")[0]
        if isinstance(exc, RecursionError):
            why = "it is nested too deeply"
        errors.append(
            f"its JSON schema cannot be used ({type(exc).__name__}: {why}); with the flow at hand "
            "it is checked by its type"
        )
    return [text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..." for text in errors]


# JSON Schema accepts 4.0 as an integer, Pydantic does not.
_STRICT = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)


class _TooMuch(Exception):
    """The check of an answer takes too long."""


def _bounded() -> dict[str, _Check]:
    """The checks of the supported keywords, with a bound on their total number."""
    count = iter(range(_MOST_CHECKS))
    keywords = Draft202012Validator.VALIDATORS
    checks: dict[str, _Check] = {name: keywords[name] for name in _KEYWORDS}
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
    # Checked as a field of a model is: by an engine that takes linear time.
    if not isinstance(value, str):
        return
    try:
        adapter = TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])
    except SchemaError:
        return  # not supported by that engine, such as a look-ahead: the flow checks it
    try:
        adapter.validate_python(value)
    except ValidationError:
        yield Misfit(f"{value!r} does not match {pattern!r}")


def _additional(
    checker: Any, rule: object, value: object, schema: Mapping[str, object]
) -> Iterator[Misfit]:
    # With patternProperties only the flow can say which keys are additional, as in _pattern.
    if isinstance(value, dict) and "patternProperties" not in schema:
        fields = schema.get("properties")
        extras = value.keys() - (fields if isinstance(fields, dict) else {}).keys()
        for key in sorted(extras):
            if isinstance(rule, dict):
                yield from checker.descend(value[key], rule, path=key)
            elif rule is False:
                yield Misfit(f"{key!r} is not a field of it")


def _formats() -> FormatChecker:
    checker = FormatChecker(formats=())
    for name, type_ in _TYPES.items():
        checker.checks(name, raises=ValidationError)(_takes(TypeAdapter(type_)))
    return checker


def _takes(adapter: TypeAdapter[object]) -> Callable[[object], bool]:
    def takes(value: object) -> bool:
        if isinstance(value, str):
            adapter.validate_json(json.dumps(value), strict=True)
        return True

    return takes
