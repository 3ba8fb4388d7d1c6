"""Asking for an answer at a terminal, one field after another."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import suppress

from pocoflow.cli.output import one_line, printable
from pocoflow.values.callables import UNSET
from pocoflow.views.forms import Field

_DEFAULT = 40

_WORDS = {
    "bool": "y/n",
    "integer": "whole number",
    "number": "number",
    "text": "text",
    "json": "JSON",
}


def prepare() -> None:
    """Let lines be edited, where the terminal can."""
    with suppress(ImportError):  # not on every system; a line can be typed all the same
        importlib.import_module("readline")


def ask(field: Field) -> object:
    """Ask for a value until there is one that the schema allows.

    Raises:
        EOFError: The input is at its end.
    """
    if field.kind != "object":
        return _ask_one(field)
    return {inner.name: value for inner in field.fields if (value := _ask_one(inner)) is not UNSET}


def _ask_one(field: Field) -> object:
    from pocoflow.db.jsonschemas import misfits

    for line in _about(field):
        print(line)
    while True:
        line = input(_prompt(field))
        try:
            value = field.read(line)
        except ValueError as exc:
            print(f"  {printable(str(exc))}")
            continue
        wrong = [] if value is UNSET else misfits(field.schema, value)
        if not wrong:
            return value
        print(*(f"  {printable(one)}" for one in wrong), sep="\n")


def _about(field: Field) -> Iterator[str]:
    """What is shown once, before the line to be filled in."""
    if field.name and field.description:
        yield f"{printable(field.name)}: {printable(field.description)}"
    for number, label in enumerate(field.labels, start=1):
        yield f"  {number if field.is_numbered else '-':>2}  {one_line(label, 100)}"


def _prompt(field: Field) -> str:
    if field.kind == "choice":
        many = len(field.choices)
        parts = [f"1-{many}" if field.is_numbered and many > 1 else "one of these"]
    else:
        parts = [_WORDS[field.kind]]
    if field.limits:
        parts.append(printable(field.limits))
    if field.default is not UNSET:
        parts.append(f"empty: {_short(field)}")
    elif field.takes_null:
        parts.append("empty: null")
    elif not field.is_required:
        parts.append("empty: leave it out")
    return f"{one_line(field.name, 40) if field.name else 'answer'} ({', '.join(parts)}): "


def _short(field: Field) -> str:
    if field.kind == "choice" and field.default in field.choices:
        return one_line(field.labels[field.choices.index(field.default)], _DEFAULT)
    if field.kind == "bool":
        return "y" if field.default else "n"
    return one_line(json.dumps(field.default, ensure_ascii=False), _DEFAULT)
