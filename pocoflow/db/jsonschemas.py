"""Checking an answer where the code that asked for it is not at hand: by its JSON schema."""

from __future__ import annotations

from typing import Any

from jsonschema.validators import validator_for

from pocoflow.db.questions import Asked
from pocoflow.errors import AnswerError

__all__ = ["check_json"]


def check_json(one: Asked, answer: Any) -> None:
    """Refuse an answer that its schema does not allow.

    Raises:
        AnswerError: Names every part that does not fit.
    """
    schema: Any = dict(one.schema)
    kind = validator_for(schema)
    told = []
    for error in kind(schema).iter_errors(answer):
        where = ".".join(map(str, error.absolute_path))
        told.append(f"{where}: {error.message}" if where else error.message)
    if told:
        raise AnswerError(f"the answer does not fit question {one.about}: {'; '.join(told)}")
