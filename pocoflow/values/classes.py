"""The classes that names in a stored text refer to: looked up, never imported."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from inspect import get_annotations
from typing import (
    Any,
    ForwardRef,
    NamedTuple,
    NewType,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel

from pocoflow.errors import UnknownClassError
from pocoflow.messages import main_name, package_of
from pocoflow.values.objects import family_of

NO_ALIASES: Mapping[str, type] = {}

_MAIN = "__main__"

_MODULE = re.compile(r"[^\s\[\],|:]+:")
_LIBRARIES = {"abc", "builtins", "dataclasses", "enum", "pydantic", "typing"}


class Shape(NamedTuple):
    """The stored form of instances of a class.

    Attributes:
        name: The name of the class, without modules.
        fields: The names of the fields, if it has fields.
    """

    name: str
    fields: frozenset[str] | None


NO_SHAPES: Mapping[type, Shape] = {}


class Classes:
    """The classes that a reader may rebuild, in the order in which they are looked up.

    First the aliases; then the given classes, their subclasses, and every class in the annotations
    of their fields; then the loaded modules. A class of the script that was started is also found
    if it was written, or is read, under the name of its module, which the nodes of a resumed run
    show (:meth:`move`), and so is a class of a module that was renamed with its nodes. Last, as a
    class may have moved to another module, by its name alone: in the annotation of the value, then
    among the supplied classes.

    Args:
        types: Classes, or other annotations such as ``list[Message] | None``.
        supplied: Classes supplied by the user for reading stored values.
        aliases: Classes by their stored names, ``module:qualname``.
        fields: The annotations of fields, by name.
    """

    def __init__(
        self,
        types: Iterable[object] = (),
        *,
        supplied: Iterable[object] = (),
        aliases: Mapping[str, type] = NO_ALIASES,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        self._supplied = tuple(supplied)
        self._given = (*types, *self._supplied)
        self._aliases = aliases
        self._fields = fields or {}
        self._index: Mapping[str, type] | None = None
        self._around: Classes | None = None
        self._relocates: tuple[object, ...] = self._supplied
        self._moved: Mapping[str, str] = {}
        self._shapes: dict[type, Shape] = {}

    @property
    def shapes(self) -> Mapping[type, Shape]:
        """The stored forms of classes that have changed, as far as instances were read."""
        return self._shapes

    def note_shape(self, kind: type, name: str, fields: Iterable[str] | None) -> None:
        """Record the name and the fields with which an instance was stored."""
        names = None if fields is None else frozenset(fields)
        self._shapes.setdefault(kind, Shape(without_modules(name), names))

    def move(self, modules: Mapping[str, str]) -> None:
        """Look up the classes of renamed modules in their current modules."""
        self._moved = modules

    def of_field(self, name: str) -> Classes:
        """The classes for the value of a field."""
        return self.of((self._fields[name],)) if name in self._fields else self

    def of(self, hints: Iterable[object]) -> Classes:
        """The classes for a value with these annotations."""
        other = self.within(tuple(hints), self._fields)
        other._relocates = other._given
        return other

    def within(self, types: Iterable[object], fields: Mapping[str, object]) -> Classes:
        """The classes for a nested part with a schema of its own."""
        other = Classes(types, supplied=self._supplied, aliases=self._aliases, fields=fields)
        other._around, other._moved, other._shapes = self, self._moved, self._shapes
        return other

    def find(self, name: str) -> type:
        """Return the class of a name, ``module:qualname``.

        Raises:
            UnknownClassError: It is neither supplied nor in a loaded module.
        """
        if name in self._aliases:
            return self._aliases[name]
        known = self.known()
        moved = _renamed(name, self._moved) if self._moved else None
        is_of_script = moved is not None and _MAIN in (name.partition(":")[0], moved.__module__)
        kind = known.get(name) or (moved if is_of_script else None) or _loaded(name) or moved
        kind = kind or _of_script(name, known)
        kind = kind or _relocated(name, self._relocates) or _relocated(name, self._supplied)
        if kind is None:
            module = name.partition(":")[0]
            is_loaded = module in sys.modules or "<locals>" in name
            raise UnknownClassError(
                f"class {name} is not known here: supply it, as in "
                f"types=[{without_modules(name).rpartition('.')[2]}] or, if it has another name "
                f"now, aliases={{{name!r}: <class>}}"
                + ("" if is_loaded else f"; or import {module} first, if it is still there"),
                class_name=name,
            )
        return kind

    def has(self, kind: type) -> bool:
        """Whether looking up the name of a class finds that class."""
        try:
            return self.find(name_of(kind)) is kind
        except UnknownClassError:
            return False

    def known(self) -> Mapping[str, type]:
        """The given classes, and all classes reachable from them, by name."""
        if self._index is None:
            index = _index(self._given)
            self._index = index if self._around is None else {**self._around.known(), **index}
        return self._index


def _of_script(name: str, known: Mapping[str, type]) -> type | None:
    module, _, qualname = name.partition(":")
    matches = [
        cls
        for other, cls in known.items()
        if other.partition(":")[2] == qualname and _MAIN in (module, cls.__module__)
    ]
    if not matches and module == main_name():
        return _renamed(name, {module: _MAIN})
    return matches[0] if len(matches) == 1 else None


def _renamed(name: str, modules: Mapping[str, str]) -> type | None:
    """The class of a name whose modules were renamed."""
    current = {f"{old}:": f"{new}:" for old, new in modules.items()}
    return _loaded(_MODULE.sub(lambda match: current.get(match[0], match[0]), name))


def name_of(kind: type) -> str:
    """The name under which a class is stored.

    A parametrised Pydantic model is named after its origin and its arguments, because its own name
    omits their modules.
    """
    generic: Any = getattr(kind, "__pydantic_generic_metadata__", None)
    if generic and generic["origin"] is not None:
        arguments = ", ".join(map(_name_of_argument, generic["args"]))
        return f"{name_of(generic['origin'])}[{arguments}]"
    return f"{kind.__module__}:{kind.__qualname__}"


def is_found(kind: type) -> bool:
    """Whether a process that loads the same modules will find a class by its name."""
    return _loaded(name_of(kind)) is kind


def strange_names(kinds: Iterable[type], classes: Classes) -> set[str]:
    """The names of the classes that a reader with ``classes`` would not find either."""
    return {name_of(kind) for kind in kinds if not classes.has(kind)}


def _relocated(name: str, hints: Iterable[object]) -> type | None:
    """The only class of that name in another module, or ``None``."""
    short_name = without_modules(name)
    known = _index(hints, libraries=False).items()
    matches = {id(kind): kind for other, kind in known if without_modules(other) == short_name}
    return next(iter(matches.values())) if len(matches) == 1 else None


def without_modules(name: str) -> str:
    """The name of a class, and of its type arguments, without the modules."""
    return _MODULE.sub("", name)


def _name_of_argument(hint: object) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " | ".join(map(_name_of_argument, arguments))
    if origin is not None:
        shown = ", ".join(map(_name_of_argument, arguments))
        return f"{_name_of_argument(origin)}[{shown}]"
    return name_of(hint) if isinstance(hint, type) else repr(hint)


def _loaded(name: str) -> type | None:
    """The class of that name in the loaded modules, without running their attribute hooks."""
    plain, bracket, _ = name.partition("[")
    module, _, qualname = plain.partition(":")
    target: object = sys.modules.get(module)
    for part in qualname.split("."):
        target = target.__dict__.get(part) if isinstance(target, type | types.ModuleType) else None
    if not isinstance(target, type):
        return None
    if not bracket:
        return target
    return next((cls for cls in _subclasses(target) if name_of(cls) == name), None)


def _subclasses(kind: type) -> Iterator[type]:
    """The subclasses, latest first: a notebook may still have older definitions of a name."""
    return reversed(type.__subclasses__(kind))


def _index(annotations: Iterable[object], *, libraries: bool = True) -> dict[str, type]:
    """The classes reachable from annotations, by name.

    Args:
        annotations: The annotations.
        libraries: Whether every subclass of a base such as ``BaseModel`` counts.
    """
    index: dict[str, type] = {}
    queue = list(annotations)
    seen: dict[int, object] = {}
    for hint in queue:
        if id(hint) in seen:
            continue
        seen[id(hint)] = hint
        if isinstance(hint, type) and family_of(hint) is not None:
            index.setdefault(name_of(hint), hint)
        of_library = isinstance(hint, type) and package_of(hint) in _LIBRARIES
        if libraries or not of_library:
            queue.extend(_within(hint))
    return index


def _within(hint: object) -> Iterable[object]:
    """What a class or an annotation refers to."""
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
        # BaseModel itself, an annotation for any model, has none.
        yield from getattr(kind, "__pydantic_generic_metadata__", {}).get("args", ())
    try:
        yield from get_type_hints(kind, include_extras=True).values()
    except (AttributeError, NameError, SyntaxError, TypeError, ValueError):
        # A name that only type checkers see: use what needs no evaluation.
        with suppress(NameError):
            yield from get_annotations(kind).values()
