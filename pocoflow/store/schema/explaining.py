"""Calls of the validators of a user's schema; their errors are raised as errors of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from pydantic import ValidationError

from pocoflow.errors import InvalidValueError
from pocoflow.messages import defined_again, describe, given_as, short, type_label
from pocoflow.store.schema.cores import cause_of
from pocoflow.store.schema.model_facts import Facts

T = TypeVar("T")


def validated(
    facts: Facts,
    owner: str,
    given: Mapping[str, object] | Iterable[str],
    call: Callable[[], T],
    field: str | None = None,
) -> T:
    """The result of a call that validates fields.

    Args:
        facts: The facts about their schema.
        owner: The name of the store in messages.
        given: The values by field; or the names of fields, if they are written together.
        call: Validates them.
        field: The field, if the call is about a single one.

    Raises:
        InvalidValueError: They are refused, or the user's code failed.
    """
    try:
        return call()
    except ValidationError as exc:
        values = given if isinstance(given, Mapping) else {}
        written = "" if field or values else ", ".join(map(repr, given))
        about = f"{owner}: writing {written}" if written else owner
        raise explained(facts, about, values, exc) from cause_of(exc)
    except Exception as exc:
        where = facts.label if field is None else f"{facts.noun} {field!r}"
        what = "a validator" if field is None else "its validator or default"
        raise InvalidValueError(f"{owner}: {where}: {what} raised {describe(exc)}") from exc


def shown(facts: Facts, value: object) -> str:
    """A value for a message, unless the model hides it."""
    return "(hidden)" if facts.hides_input else short(value)


def explained(
    facts: Facts, owner: str, values: Mapping[str, object], exc: ValidationError
) -> InvalidValueError:
    """One line per field: what it expects, what it was given, and where in the value it fails."""
    hints = facts.hints
    reasons: dict[str, list[str]] = {}
    for error in exc.errors(include_url=False, include_context=False):
        key, *inner = error["loc"] or ("",)
        hint, given = hints.get(str(key)), error["input"]
        reason = "".join(f"[{part!r}]" for part in inner) + (": " if inner else "")
        # That it is no instance of its type is said anyway.
        reason += "" if error["type"] == "is_instance_of" and not inner else error["msg"]
        if inner and given is not values.get(str(key)):
            reason += f", got {given_as(given, hint)}: {shown(facts, given)}"
        reason += defined_again(given, hint, facts.label)
        reasons.setdefault(str(key), []).append(reason)
    lines = []
    for key, messages in reasons.items():
        text = "; ".join(messages)
        if key in values:
            value, hint = values[key], hints.get(key)
            expected = "what its model says" if hint is None else type_label(hint)
            got = f"got {given_as(value, hint)}: {shown(facts, value)}"
            got += f" ({text})" if text else ""
            lines.append(f"{owner}: {facts.noun} {key!r} expects {expected}, {got}")
        else:
            lines.append(f"{owner}: {facts.label} refuses the values together: {text}")
    return InvalidValueError("\n".join(lines))
