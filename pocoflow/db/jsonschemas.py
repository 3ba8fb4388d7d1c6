"""Checking an answer where the code that asked for it is not at hand: by its JSON schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from jsonschema import FormatChecker, validators
from pydantic import TypeAdapter, ValidationError

from pocoflow.db.questions import Asked
from pocoflow.errors import AnswerError

__all__ = ["check_json", "misfits"]

# A format is what the type that it stands for takes, as no resume goes on with anything else.
_TYPES = {
    "date": date,
    "date-time": datetime,
    "duration": timedelta,
    "time": time,
    "uuid": UUID,
}


def check_json(one: Asked, answer: Any) -> None:
    """Refuse an answer that its schema does not allow.

    Raises:
        AnswerError: Names every part that does not fit.
    """
    told = misfits(one.schema, answer)
    if told:
        raise AnswerError(f"the answer does not fit question {one.about}: {'; '.join(told)}")


def misfits(schema: Mapping[str, Any], answer: Any) -> list[str]:
    """What of a JSON value a schema does not allow, each with its place in the value."""
    given: Any = dict(schema)
    found = validators.validator_for(given)
    # To JSON Schema 4.0 is an integer, to Pydantic it is none.
    strict = found.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    extend: Any = validators.extend  # which has no types
    kind = extend(found, type_checker=strict)
    told = []
    for error in kind(given, format_checker=_formats()).iter_errors(answer):
        where = ".".join(map(str, error.absolute_path))
        told.append(f"{where}: {error.message}" if where else error.message)
    return told


def _formats() -> FormatChecker:
    checker = FormatChecker(formats=())
    for name, of in _TYPES.items():
        checker.checks(name, raises=ValidationError)(_takes(TypeAdapter(of)))
    return checker


def _takes(adapter: TypeAdapter[Any]) -> Callable[[object], bool]:
    def takes(value: object) -> bool:
        if isinstance(value, str):
            adapter.validate_json(json.dumps(value), strict=True)
        return True

    return takes
