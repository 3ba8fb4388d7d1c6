"""What a person has entered in the widgets of a form, as the JSON value of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pocoflow.values.callables import UNSET
from pocoflow.values.json_text import read_json
from pocoflow.views.forms import Field

YES, NO, EMPTY = "Yes", "No", "Empty (null)"

_SAFE_INTEGER = 2**53 - 1


def label_of(field: Field, number: int = 0) -> str:
    """The label of the widget of a field: words only, as Streamlit reads labels as Markdown."""
    if not field.name:
        return "Your answer"
    words = re.sub(r"[\W_]+", " ", field.title or field.name).strip()
    label = words[:1].upper() + words[1:60] if words else f"Field {number + 1}"
    return label if field.is_required or field.kind == "bool" else f"{label} (optional)"


def prefilled(field: Field) -> object:
    """What the widget of a field begins with; ``None`` for nothing."""
    default = None if field.default is UNSET else field.default
    if field.kind == "json":
        return "" if default is None else json.dumps(default, indent=2, ensure_ascii=False)
    if field.kind == "bool":
        return None if not isinstance(default, bool) else YES if default else NO
    if field.kind == "choice":
        known = [json.dumps(one) for one in field.choices]
        wanted = json.dumps(default)
        return known.index(wanted) if field.default is not UNSET and wanted in known else None
    if field.kind == "text":
        return default if isinstance(default, str) else ""
    if isinstance(default, bool) or not isinstance(default, (int, float)):
        return None
    return default if abs(default) <= _SAFE_INTEGER else None


def answer_of(form: Field, entered: Mapping[str, object]) -> Any:
    """The answer that the entries of a form make; an object by the names of its fields.

    Raises:
        ValueError: Names every field with an entry that stands for no value.
    """
    if form.kind != "object":
        return value_of(form, entered[form.name])
    answer: dict[str, object] = {}
    wrong = []
    for field in form.fields:
        try:
            value = value_of(field, entered[field.name])
        except ValueError as exc:
            wrong.append(f"{field.name}: {exc}")
            continue
        if value is not UNSET:
            answer[field.name] = value
    if wrong:
        raise ValueError("\n".join(wrong))
    return answer


def value_of(field: Field, entry: Any) -> object:
    """The value of an entry; ``UNSET`` if the field is left out.

    Raises:
        ValueError: It stands for none.
    """
    if entry is None or (isinstance(entry, str) and not entry.strip()) or entry == EMPTY:
        return _nothing(field)
    if field.kind == "bool":
        return entry == YES
    if field.kind == "choice":
        return field.choices[entry]
    if field.kind == "text":
        return "" if entry == '""' else entry
    return read_json(entry) if field.kind == "json" else entry


def _nothing(field: Field) -> object:
    if field.takes_null:
        return None
    if field.kind == "text" and field.default is not UNSET:
        return ""  # the default was there, and was deleted
    return field.empty()
