"""How messages show a value, a type, foreign text, the name that was probably meant, a line."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from pydantic import ValidationError

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")
_MODULES = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")
_OBJECT = re.compile(r"<[^>]*")

_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def escape(text: str, by: Callable[[str], str] = lambda one: repr(one)[1:-1]) -> str:
    r"""Escape what would not be seen but obeyed: ``\x1b``, ``\n``, marks that turn text around.

    What a run stored comes from anywhere; a terminal must show it, never carry it out.
    """
    if text.isprintable():
        return text
    return "".join(by(char) if unicodedata.category(char) in _UNSAFE else char for char in text)


def command_line(*words: str) -> str:
    """A command of ours, ready to be pasted."""
    import shlex

    return escape(shlex.join(["pocoflow", *words]))


def renaming_option(old: str, new: str) -> str:
    """How the command line writes that a node has another name."""
    option = f"{old}={new}"
    is_plain = not old.startswith("{") and option.count("=") == 1
    return option if is_plain else json.dumps({old: new})


def counted(number: int, what: str) -> str:
    """So many of something: ``1 run``, ``2 runs``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def short(value: object, limit: int = 80) -> str:
    """The ``repr`` of a value for an error message: cut to ``limit``, and without addresses."""
    try:
        text = _ADDRESS.sub("", repr(value))
    except Exception as exc:  # noqa: BLE001 - a broken __repr__ must not hide the error we report
        text = f"<{type(value).__name__} whose repr raised {type(exc).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def type_label(expected: object) -> str:
    """How a type is called in an error message: ``float``, ``list[str]``, ``int | None``."""
    if isinstance(expected, tuple):
        return " or ".join(type_label(one) for one in expected)
    if isinstance(expected, type) and not hasattr(expected, "__args__"):
        return expected.__name__
    return _ADDRESS.sub("", str(expected)).replace("typing.", "")


def definition_label(hint: object, metadata: Iterable[object], validators: Iterable[str]) -> str:
    """All that defines a field, the same in every process: ``Annotated[int, Ge(ge=0)]``."""
    # A class may be found in another module in another process; text of metadata stays as it is.
    parts = (_OBJECT.sub(lambda one: _MODULES.sub("", one[0]), short(it, 400)) for it in metadata)
    more = [*parts, *validators]
    label = _MODULES.sub("", type_label(hint))
    return f"Annotated[{', '.join((label, *more))}]" if more else label


def is_same_field(definition: str | None, other: str | None) -> bool:
    """Whether two definitions ask the same of a value that is there: one may allow ``None``."""
    return definition is not None and other is not None and _bare(definition) == _bare(other)


def is_item_of(definition: str, other: str) -> bool:
    """Whether a field is defined as the items of another one are."""
    return f"[{_bare(definition)}" in other


def _bare(definition: str) -> str:
    if definition.startswith("Optional[") and definition.endswith("]"):
        return definition[len("Optional[") : -1]
    return definition.removesuffix(" | None")


def describe(error: BaseException) -> str:
    """The type of an exception, and its text if that can be had."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error we report
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def problems(error: ValidationError) -> list[str]:
    """What an error of a validation by Pydantic says, without the values: where, and what."""
    told = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(map(str, one["loc"]))
        told.append(f"{where}: {one['msg']}" if where else one["msg"])
    return told


def given_as(value: object, hint: object) -> str:
    """The name of a value's class; with its module where the expected one has the same name."""
    kind = type(value)
    if kind is CoroutineType:
        return "a coroutine, which has to be awaited"
    if any(kind is not one and kind.__name__ == one.__name__ for one in _classes(hint)):
        return f"{kind.__module__}.{kind.__qualname__}"
    return kind.__name__


def defined_again(value: object, hint: object, owner: str) -> str:
    """What to add to an error where a class was defined again after the schema that names it."""
    kind = type(value)
    for one in _classes(hint):
        if is_redefined(kind, one):
            return (
                f"; {kind.__qualname__} was defined again after {owner}, which names the class as "
                f"it was before: define {owner} again, too (in a notebook, run its cell again)"
            )
    return ""


def redefined_among(hint: object, other: object) -> str:
    """The name of a class of which two annotations name different definitions; else empty."""
    of_other = list(_classes(other))
    for one in _classes(hint):
        if any(is_redefined(one, two) for two in of_other):
            return one.__qualname__
    return ""


def main_name() -> str:
    """The name under which the script that was started is imported by others."""
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return str(spec.name)
    return Path(getattr(main, "__file__", None) or "__main__").stem


def package_of(definition: object) -> str:
    """The package that a class or a function is of; empty if it does not tell."""
    module = getattr(definition, "__module__", None)
    return module.partition(".")[0] if isinstance(module, str) else ""


def is_redefined(one: object, other: object) -> bool:
    """Whether two classes are definitions of the same name in the same place."""
    if not (isinstance(one, type) and isinstance(other, type)) or one is other:
        return False
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _classes(hint: object) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for part in hint if isinstance(hint, tuple) else get_args(hint):
        yield from _classes(part)


def closest(name: object, known: Iterable[str]) -> str:
    """A suggestion to append to an error message, or an empty string."""
    return _closest(str(name), tuple(known))


@lru_cache  # each run says it of an action without an edge
def _closest(name: str, known: tuple[str, ...]) -> str:
    import difflib

    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def refuse_keywords(
    what: str,
    given: Iterable[str],
    known: Collection[str],
    belongs: Callable[[str], str] = lambda key: "",
) -> None:
    """Refuse keyword arguments that there are not.

    Args:
        what: The beginning of the message, such as ``"run() got an unexpected"``.
        given: Those that are given.
        known: Those that there are.
        belongs: Says where one belongs, if not here, to append to the message.

    Raises:
        TypeError: There is one.
    """
    for key in given:
        if key not in known:
            raise TypeError(
                f"{what} keyword argument {key!r}{belongs(key) or closest(key, known)} "
                f"(there are: {', '.join(known)})"
            )


def users_line() -> tuple[str, int] | None:
    """File and line of the user's code that has called into this package, if there is some."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_users(frame):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def is_users(frame: FrameType) -> bool:
    """Whether a frame is of the user's code: not of this package, nor of what calls it."""
    home: str = frame.f_globals.get("__name__", "")
    return home.partition(".")[0] not in _NOT_USERS


_NOT_USERS = ("asyncio", "concurrent", "contextlib", "functools", "pocoflow", "threading")
