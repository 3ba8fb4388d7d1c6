"""Which class a name in a stored text means: looked up among what is there, never imported."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import Enum
from inspect import get_annotations
from typing import Any, ForwardRef, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from pocoflow.codec.objects import family_of
from pocoflow.errors import UnknownClassError

__all__ = ["Classes", "name_of"]

_MAIN = "__main__"


class Classes:
    """The classes that a reader may rebuild, in the order in which they are looked up.

    First the ones it was given, their subclasses, and every class in the annotations of their
    fields; then what is defined in the modules that are loaded. A class of the program that was
    started as a script is also found if it was written, or is read, under the name of its module.

    Args:
        types: Classes, or other annotations such as ``list[Message] | None``.
    """

    def __init__(self, types: Iterable[object] = ()) -> None:
        self._given = tuple(types)
        self._index: dict[str, type] | None = None

    def find(self, name: str) -> type:
        """Return the class of a name, ``module:qualname``.

        Raises:
            UnknownClassError: It is neither supplied nor in a loaded module.
        """
        if self._index is None:
            self._index = _index(self._given)
        found = self._index.get(name) or _loaded(name) or self._of_script(name)
        if found is None:
            short = name.rpartition(":")[2].rpartition(".")[2]
            raise UnknownClassError(
                f"class {name} is not known here: supply it, as in types=[{short}], "
                "or import its module first"
            )
        return found

    def _of_script(self, name: str) -> type | None:
        module, _, qualname = name.partition(":")
        found = [
            cls
            for known, cls in (self._index or {}).items()
            if known.partition(":")[2] == qualname and _MAIN in (module, cls.__module__)
        ]
        return found[0] if len(found) == 1 else None


def name_of(kind: type) -> str:
    """The name under which a class is stored.

    A parametrised Pydantic model is named after its origin and its arguments, because its own name
    leaves out the modules of these.
    """
    generic: Any = getattr(kind, "__pydantic_generic_metadata__", None)
    if generic and generic["origin"] is not None:
        arguments = ", ".join(map(_name_of_argument, generic["args"]))
        return f"{name_of(generic['origin'])}[{arguments}]"
    return f"{kind.__module__}:{kind.__qualname__}"


def _name_of_argument(hint: object) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " | ".join(map(_name_of_argument, arguments))
    if origin is not None:
        shown = ", ".join(map(_name_of_argument, arguments))
        return f"{_name_of_argument(origin)}[{shown}]"
    return name_of(hint) if isinstance(hint, type) else repr(hint)


def _loaded(name: str) -> type | None:
    """The class of that name in the modules that are loaded; no attribute hook of theirs is run."""
    plain, bracket, _ = name.partition("[")
    module, _, qualname = plain.partition(":")
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        if found is None:
            return None
        found = _namespace(found).get(part)
    if not isinstance(found, type):
        return None
    if not bracket:
        return found
    return next((cls for cls in _subclasses(found) if name_of(cls) == name), None)


def _namespace(owner: object) -> Any:
    return owner.__dict__ if isinstance(owner, type | types.ModuleType) else {}


def _subclasses(kind: type) -> Iterator[type]:
    """The latest definition first: in a notebook older ones of the same name may be left over."""
    return reversed(type.__subclasses__(kind))


def _index(given: Iterable[object]) -> dict[str, type]:
    index: dict[str, type] = {}
    queue = list(given)
    seen: dict[int, object] = {}
    for hint in queue:
        if id(hint) in seen:
            continue
        seen[id(hint)] = hint
        if isinstance(hint, type) and family_of(hint) is not None:
            index.setdefault(name_of(hint), hint)
        queue.extend(_within(hint))
    return index


def _within(hint: object) -> Iterable[object]:
    """What else one finds from a class or an annotation."""
    if isinstance(hint, str | ForwardRef):
        return ()
    if isinstance(hint, NewType):
        return (hint.__supertype__,)
    if isinstance(hint, TypeVar):
        return (hint.__bound__, *hint.__constraints__)
    if isinstance(hint, Enum):
        return (type(hint),)
    if type(hint).__name__ == "TypeAliasType":
        return (getattr(hint, "__value__", None), *get_args(hint))
    if not isinstance(hint, type):
        return (*get_args(hint), get_origin(hint))
    if hint.__module__ == "builtins":
        return ()
    return (*_subclasses(hint), *_annotations(hint))


def _annotations(kind: type) -> Iterator[object]:
    if issubclass(kind, BaseModel):
        yield from (field.annotation for field in kind.model_fields.values())
        yield from kind.__pydantic_generic_metadata__["args"]
    try:
        yield from get_type_hints(kind, include_extras=True).values()
    except (AttributeError, NameError, SyntaxError, TypeError, ValueError):
        # A name that only type checkers see: what can be had without evaluating the others.
        with suppress(NameError):
            yield from get_annotations(kind).values()
