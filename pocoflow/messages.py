"""How messages show values, types, foreign text, suggested names, and lines of code."""

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


def escape(text: str, by: Callable[[str], str] = lambda char: repr(char)[1:-1]) -> str:
    r"""Escape characters that a terminal would interpret: ``\x1b``, ``\n``, bidirectional marks.

    Stored text may come from anywhere; a terminal must show it, never execute it.
    """
    if text.isprintable():
        return text
    return "".join(by(char) if unicodedata.category(char) in _UNSAFE else char for char in text)


def command_line(*words: str) -> str:
    """A ``pocoflow`` command, ready to be pasted."""
    import shlex

    return escape(shlex.join(["pocoflow", *words]))


def renaming_option(old: str, new: str) -> str:
    """The value of ``--rename`` on the command line."""
    option = f"{old}={new}"
    is_plain = not old.startswith("{") and option.count("=") == 1
    return option if is_plain else json.dumps({old: new})


def counted(number: int, what: str) -> str:
    """A number with its noun: ``1 run``, ``2 runs``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def short(value: object, limit: int = 80) -> str:
    """The ``repr`` of a value for an error message: cut to ``limit``, and without addresses."""
    try:
        text = _ADDRESS.sub("", repr(value))
    except Exception as exc:  # noqa: BLE001 - a broken __repr__ must not hide the reported error
        text = f"<{type(value).__name__} whose repr raised {type(exc).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def type_label(expected: object) -> str:
    """The name of a type in an error message: ``float``, ``list[str]``, ``int | None``."""
    if isinstance(expected, tuple):
        return " or ".join(type_label(kind) for kind in expected)
    if isinstance(expected, type) and not hasattr(expected, "__args__"):
        return expected.__name__
    return _ADDRESS.sub("", str(expected)).replace("typing.", "")


def definition_label(hint: object, metadata: Iterable[object], validators: Iterable[str]) -> str:
    """The definition of a field, the same in every process: ``Annotated[int, Ge(ge=0)]``."""
    # A class may be in another module in another process; text in metadata is not changed.
    parts = (_OBJECT.sub(lambda match: _MODULES.sub("", match[0]), short(m, 400)) for m in metadata)
    more = [*parts, *validators]
    label = _MODULES.sub("", type_label(hint))
    return f"Annotated[{', '.join((label, *more))}]" if more else label


def is_same_field(definition: str | None, other: str | None) -> bool:
    """Whether two definitions require the same of a value; one may also allow ``None``."""
    return definition is not None and other is not None and _bare(definition) == _bare(other)


def is_item_of(definition: str, other: str) -> bool:
    """Whether a field has the same definition as the items of another one."""
    return f"[{_bare(definition)}" in other


def _bare(definition: str) -> str:
    if definition.startswith("Optional[") and definition.endswith("]"):
        return definition[len("Optional[") : -1]
    return definition.removesuffix(" | None")


def describe(error: BaseException) -> str:
    """The type of an exception, and its text if ``str()`` does not fail."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the reported error
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def problems(error: ValidationError) -> list[str]:
    """The messages of a validation error of Pydantic, with locations and without values."""
    texts = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(map(str, problem["loc"]))
        texts.append(f"{where}: {problem['msg']}" if where else problem["msg"])
    return texts


def given_as(value: object, hint: object) -> str:
    """The name of a value's class; with its module if the expected class has the same name."""
    kind = type(value)
    if kind is CoroutineType:
        return "a coroutine, which has to be awaited"
    if any(kind is not k and kind.__name__ == k.__name__ for k in _classes(hint)):
        return f"{kind.__module__}.{kind.__qualname__}"
    return kind.__name__


def defined_again(value: object, hint: object, owner: str) -> str:
    """What to add to an error if a class was redefined after the schema that names it."""
    kind = type(value)
    for expected in _classes(hint):
        if is_redefined(kind, expected):
            return (
                f"; {kind.__qualname__} was defined again after {owner}, which names the class as "
                f"it was before: define {owner} again, too (in a notebook, run its cell again)"
            )
    return ""


def redefined_among(hint: object, other: object) -> str:
    """The name of a class with different definitions in two annotations; else empty."""
    others = list(_classes(other))
    for kind in _classes(hint):
        if any(is_redefined(kind, other_kind) for other_kind in others):
            return kind.__qualname__
    return ""


def main_name() -> str:
    """The name under which other modules import the running script."""
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return str(spec.name)
    return Path(getattr(main, "__file__", None) or "__main__").stem


def package_of(definition: object) -> str:
    """The package of a class or a function; empty if unknown."""
    module = getattr(definition, "__module__", None)
    return module.partition(".")[0] if isinstance(module, str) else ""


def is_redefined(kind: object, other: object) -> bool:
    """Whether two classes are definitions of the same name in the same module."""
    if not (isinstance(kind, type) and isinstance(other, type)) or kind is other:
        return False
    return (kind.__module__, kind.__qualname__) == (other.__module__, other.__qualname__)


def _classes(hint: object) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for part in hint if isinstance(hint, tuple) else get_args(hint):
        yield from _classes(part)


def closest(name: object, known: Iterable[str]) -> str:
    """A suggestion to append to an error message, or an empty string."""
    return _closest(str(name), tuple(known))


@lru_cache  # each run needs it for an action without an edge
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
    """Refuse unknown keyword arguments.

    Args:
        what: The beginning of the message, such as ``"run() got an unexpected"``.
        given: The given keywords.
        known: The existing keywords.
        belongs: Says where a misplaced keyword belongs, to append to the message.

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
    """File and line of the user's code that has called into this package, if any."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_users(frame):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def is_users(frame: FrameType) -> bool:
    """Whether a frame is of the user's code: neither of this package, nor of its callers."""
    module: str = frame.f_globals.get("__name__", "")
    return module.partition(".")[0] not in _NOT_USERS


_NOT_USERS = ("asyncio", "concurrent", "contextlib", "functools", "pocoflow", "threading")
