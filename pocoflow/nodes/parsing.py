"""Parsing the answer of a language model into a value: ``parse(Recipe, answer)``."""

from __future__ import annotations

import re
from contextlib import suppress
from json import JSONDecodeError, JSONDecoder
from typing import Any, TypeVar, overload

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypeForm

from pocoflow.errors import Retry
from pocoflow.messages import problems, short
from pocoflow.values.remembering import remembered_by_type

T = TypeVar("T")

_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_CUT = re.compile(r"(-|t|tr|tru|f|fa|fal|fals|n|nu|nul)?\s*\Z")
_BEGIN = re.compile(r"[{\[]")

_PROBLEMS, _BEGINNINGS, _SHOWN = 5, 100, 40
"""How many problems are listed, beginnings tried and characters shown at most."""

_AGAIN = "Answer with the whole corrected JSON"


@overload
def parse(kind: type[T], text: str) -> T: ...
@overload
def parse(kind: TypeForm[T], text: str) -> T: ...
def parse(kind: Any, text: str) -> Any:
    """Read the JSON in an answer of a language model, and validate it.

    Code fences around it, and text before and after it, are ignored.

    Args:
        kind: A Pydantic model, or any other type that Pydantic validates.
        text: The answer.

    Raises:
        TypeError: The answer is not a string, such as the ``None`` of a model that called a tool.
        Retry: There is no JSON, it was cut off, or it does not fit; the message explains this to
            the model, so that the next attempt can pass it on.
    """
    answer: object = text
    if not isinstance(answer, str):
        raise TypeError(f"parse(kind, text) takes the answer as a text, not {short(answer)}")
    try:
        json_text = _json(text)
    except RecursionError as exc:
        raise Retry(f"the JSON in the answer is nested too deeply. {_AGAIN}") from exc
    try:
        return _adapter(kind).validate_json(json_text)
    except ValidationError as exc:
        errors = problems(exc)
        shown, more = errors[:_PROBLEMS], len(errors) - _PROBLEMS
        shown += [f"and {more} more"] if more > 0 else []
        raise Retry(f"the answer does not fit: {'; '.join(shown)}. {_AGAIN}") from exc


@remembered_by_type
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _json(text: str) -> str:
    """The JSON in a text: in its first fence that has any, else the longest in it."""
    # Numbers stay text: only the end is needed, and Python refuses to convert 5,000 digits.
    decode = JSONDecoder(parse_int=str, parse_float=str).raw_decode
    fenced = [match.group(1) for match in _FENCE.finditer(text)]
    failed: tuple[str, JSONDecodeError] | None = None
    for part in (*fenced, text):
        with suppress(JSONDecodeError):  # the whole part may be a number or string, without bracket
            if decode(stripped := part.strip())[1] == len(stripped):
                return stripped
        longest, end = "", 0
        for start in [match.start() for match in _BEGIN.finditer(part)][:_BEGINNINGS]:
            if start < end:
                continue
            try:
                end = decode(part, start)[1]
            except JSONDecodeError as exc:
                failed = failed or (part[start:].rstrip(), exc)
            else:
                longest = max(longest, part[start:end], key=len)
        if longest:
            return longest
    if failed is None:
        shown = text.strip()[:_SHOWN]
        raise Retry(f"there is no JSON in the answer, which begins with {shown!r}. {_AGAIN}")
    raise Retry(_problem(*failed)) from failed[1]


def _problem(text: str, error: JSONDecodeError) -> str:
    """What is wrong with a text that is not JSON."""
    if error.msg.startswith("Unterminated string") or _CUT.match(error.doc, error.pos):
        return (
            f"the JSON in the answer was cut off: it ends with {text[-_SHOWN:]!r}. Answer with all "
            "of it, and make it shorter if need be"
        )
    near = error.doc[max(error.pos - _SHOWN // 2, 0) :][:_SHOWN]
    return f"the JSON in the answer is wrong: {error.msg}, near {near!r}. {_AGAIN}"
