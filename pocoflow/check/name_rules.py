"""PF2 where a class has a name that is nearly that of a setting or a phase, and nothing uses it."""

from __future__ import annotations

import difflib
import inspect
import linecache
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import FunctionType
from typing import Any, NamedTuple

from pocoflow.check.findings import Finding
from pocoflow.check.subject import Subject
from pocoflow.nodes.base import Node
from pocoflow.nodes.definitions import class_place
from pocoflow.nodes.signature import definition_place

__all__ = ["check_names"]

_SETTINGS = ("max_retries", "retry_delay", "backoff", "jitter", "timeout", "concurrency")
_PHASES = ("prep", "exec", "exec_async", "post", "exec_fallback")
_CALLED_ELSEWHERE = {"max_retry": "max_retries", "retries": "max_retries", "wait": "retry_delay"}
_ALIKE = 0.85


class _Name(NamedTuple):
    """A name in a class, what it is nearly, and where it stands."""

    owner: str
    given: str
    meant: str
    where: tuple[str, int] | None


def check_names(subject: Subject) -> Iterator[Finding]:
    """Every name of a class that is nearly a setting or a phase, once for each class."""
    for name, place in subject.definitions:
        kind: Any = type(place.node)
        for one in _near(kind):
            yield subject.finding(
                "PF208",
                f"{one.owner}.{one.given} is not looked at, neither by a run nor by the code "
                f"around it; did you mean {one.meant!r}?",
                f"call it {one.meant}, or use it",
                node=name,
                where=one.where,
            )


@lru_cache(maxsize=1024)
def _near(kind: type) -> tuple[_Name, ...]:
    classes = [base for base in kind.__mro__ if issubclass(base, Node) and not _is_ours(base)]
    return tuple(one for base in classes for one in _names(kind, base))


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "pocoflow"


def _names(kind: type, owner: type) -> Iterator[_Name]:
    elsewhere = {name for base in kind.__mro__ if base is not owner for name in vars(base)}
    theirs = {name for base in kind.__mro__ if not _is_ours(base) for name in vars(base)}
    for given, value in vars(owner).items():
        if given in elsewhere or given.startswith("_") or not given.isidentifier():
            continue
        meant = _meant(kind, given, value)
        if meant is not None and meant not in theirs and not _is_used(owner, given):
            is_function = isinstance(value, FunctionType)
            where = definition_place(value) if is_function else class_place(owner)
            yield _Name(owner.__name__, given, meant, where)


def _meant(kind: type, given: str, value: object) -> str | None:
    """The setting, or the phase, that a name is nearly, if its value could be one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        alike: tuple[str, ...] = _SETTINGS
        if given in _CALLED_ELSEWHERE:
            return _CALLED_ELSEWHERE[given]
    elif isinstance(value, FunctionType):
        count = value.__code__.co_argcount
        alike = tuple(one for one in _PHASES if _takes(kind, one) == count)
    else:
        return None
    found = difflib.get_close_matches(given, alike, n=1, cutoff=_ALIKE)
    return found[0] if found and hasattr(kind, found[0]) else None


def _takes(kind: type, phase: str) -> int | None:
    function = getattr(kind, phase, None)
    return len(inspect.signature(function).parameters) if callable(function) else None


def _is_used(owner: type, name: str) -> bool:
    """Whether something in the file of a class reads an attribute of that name, or may."""
    functions = (one for one in vars(owner).values() if isinstance(one, FunctionType))
    files = {one.__code__.co_filename for one in functions}
    files.add(getattr(sys.modules.get(owner.__module__), "__file__", None) or "")
    text = "".join(line for file in files if file for line in linecache.getlines(file))
    return not text or re.search(rf"""[.'"]{name}\b""", text) is not None
