"""Annotations of functions, as far as they can be resolved.

An annotation may be a string (PEP 563), may name what is defined further down or what only a type
checker imports. A part that cannot be resolved is :class:`Unknown`, never an error.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import typing
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from functools import lru_cache
from inspect import getsourcelines, unwrap
from textwrap import dedent
from types import CodeType, CoroutineType, FunctionType, NoneType, SimpleNamespace, UnionType
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Literal,
    Never,
    NoReturn,
    Union,
    get_args,
    get_origin,
)

import typing_extensions
from typing_extensions import Format, get_annotations

from pocoflow.nodes.question import Question
from pocoflow.values.callables import python_code

_ALIASES: tuple[type, ...] = (typing_extensions.TypeAliasType,)
if sys.version_info >= (3, 12):
    _ALIASES += (typing.TypeAliasType,)


_VARIABLES: tuple[type, ...] = (typing.TypeVar, typing_extensions.TypeVar)


def is_variable(hint: object) -> bool:
    """Whether it is a type variable."""
    return isinstance(hint, _VARIABLES)


class Unknown:
    """An annotation, or a part of one, that cannot be resolved.

    It stands in for classes, modules and generic types alike, so that the rest of the annotation
    around it can be read. ``str`` of it is its source text.
    """

    __slots__ = ("_source",)

    def __init__(self, source: str) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Unknown:
        if name.startswith("__"):
            raise AttributeError(name)
        return Unknown(f"{self._source}.{name}")

    def __getitem__(self, item: object) -> Unknown:
        return self

    def __or__(self, other: object) -> object:
        return Union[self, other]  # noqa: UP007 - our own operator cannot be used here

    def __ror__(self, other: object) -> object:
        return Union[other, self]  # noqa: UP007

    def __call__(self) -> None:
        """Typing accepts only callables as types."""

    def __str__(self) -> str:
        return self._source

    def __repr__(self) -> str:
        return f"<unknown {self._source}>"


def read_hints(
    function: Callable[..., object], names: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The annotations of a function by parameter, ``"return"`` included; missing ones left out.

    Args:
        function: A function or a bound method. Wrappers made with ``functools.wraps`` are looked
            through, except for the return annotation of one that does not pass the result on.
        names: Further names that may occur, such as the local names where the function is defined.
    """
    inner: Any = unwrap(function)
    inner = getattr(inner, "__func__", inner)
    if python_code(inner) is None:
        return {}  # such as a partial, which has no annotations
    try:
        raw = get_annotations(inner, format=Format.FORWARDREF)
    except (NameError, TypeError, AttributeError):
        return {}
    spaces = _spaces(inner, names or {})
    hints = {name: _resolve(hint, spaces) for name, hint in raw.items()}
    if "return" in hints:
        hints["return"] = _returned(function, hints["return"])
    return hints


def _spaces(function: Any, names: Mapping[str, object]) -> tuple[Mapping[str, object], ...]:
    """The namespaces in which the annotations of a function are resolved."""
    parameters = {kind.__name__: kind for kind in getattr(function, "__type_params__", ())}
    return (parameters, names, _closure(function), function.__globals__, vars(builtins))


def _returned(function: Any, hint: object) -> object:
    """What a function returns through its wrappers, from what it returns itself."""
    inner = getattr(function, "__wrapped__", None)
    if inner is None:
        return hint
    hint, function = _returned(inner, hint), getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):  # such as the wrapper of functools.cache
        return hint
    names = [name for name, value in _closure(function).items() if value is inner]
    hands_on, annotation = _read_returns(function.__code__, frozenset(names))
    if hands_on:
        return hint
    own = None if annotation is None else _resolve(annotation, _spaces(function, {}))
    return Unknown(f"what {function.__qualname__} gives") if _says_nothing(own) else own


def tree_of(text: str, file: str = "<source>") -> ast.Module:
    """The syntax tree of a source; like ``ast.parse``, but also while other threads parse."""
    for _ in range(_TRIES):
        with suppress(SystemError):  # of CPython 3.11, if another thread parses at the same time
            return ast.parse(text, file)
    return ast.parse(text, file)


_TRIES = 20


def _says_nothing(hint: object) -> bool:
    return hint in (None, Any, object) or is_variable(hint) or any(map(is_variable, get_args(hint)))


@lru_cache(maxsize=4096)
def _read_returns(code: CodeType, names: frozenset[str]) -> tuple[bool, str | None]:
    """Whether a wrapper passes on what it wraps returns, by its source; and its own annotation.

    Args:
        code: The wrapper.
        names: Its names for the function that it wraps.
    """
    try:
        (tree,) = tree_of(dedent("".join(getsourcelines(code)[0]))).body
    except (OSError, SyntaxError, ValueError):
        return False, None
    parts = list(ast.walk(tree))
    given: dict[str, list[ast.expr]] = {}
    for part in parts:
        if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
            given.setdefault(part.targets[0].id, []).append(part.value)

    def hands_on(value: ast.expr | None, is_named: bool = False) -> bool:
        match value.value if isinstance(value, ast.Await) else value:
            case ast.Name(id=name) if name in given and not is_named:
                return all(hands_on(part, True) for part in given[name])
            case ast.Call(func=called, args=arguments):
                used = [*ast.walk(called), *arguments]
                return any(isinstance(part, ast.Name) and part.id in names for part in used)
            case _:
                return False

    returns = [hands_on(part.value) for part in parts if isinstance(part, ast.Return)]
    annotation = getattr(tree, "returns", None)
    return bool(returns) and all(returns), None if annotation is None else ast.unparse(annotation)


def _closure(function: FunctionType) -> Mapping[str, object]:
    values = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with suppress(ValueError):  # a cell that is still empty, such as the function's own
            values[name] = cell.cell_contents
    return values


def _resolve(hint: object, spaces: tuple[Mapping[str, object], ...]) -> object:
    texts = [getattr(part, "__forward_arg__", part) for part in _parts(hint)]
    local = {
        name: next((space[name] for space in spaces if name in space), Unknown(name))
        for text in texts
        if isinstance(text, str)
        for name in _NAME.findall(text)  # also in strings inside of it
    }
    shim = SimpleNamespace(__annotations__={"it": hint})
    try:
        return typing.get_type_hints(shim, {}, local, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - whatever the reason, it cannot be resolved
        return Unknown(str(getattr(hint, "__forward_arg__", hint)))


_NAME = re.compile(r"[^\W\d]\w*")


def _parts(hint: object) -> Iterator[object]:
    """An annotation and all of its parts, except for the values of literals."""
    yield hint
    if get_origin(hint) is not Literal:
        for part in hint if isinstance(hint, (list, tuple)) else get_args(hint):
            yield from _parts(part)


def is_unknown(annotation: object) -> bool:
    """Whether an annotation, or any part of it, could not be resolved."""
    return any(isinstance(part, (Unknown, ForwardRef)) for part in _parts(annotation))


def unknown_names(annotation: object) -> Iterator[str]:
    """The names in an annotation that could not be resolved, each up to its first dot."""
    for part in _parts(annotation):
        name = str(part).partition(".")[0] if isinstance(part, Unknown) else ""
        if name.isidentifier():
            yield name


def plain(annotation: Any) -> object:
    """The annotation without ``Annotated`` around it and without type aliases.

    An alias that contains itself, such as a type of JSON values, is unknown. A generic alias
    without arguments, such as ``typing.List``, is replaced by its class.
    """
    while True:
        origin = get_origin(annotation)
        if type(annotation) in _ALIASES:
            try:
                if _is_recursive(annotation):
                    return Unknown(str(annotation))
                annotation = annotation.__value__
            except Exception:  # noqa: BLE001 - evaluated lazily: it may name anything
                return Unknown(str(annotation))
        elif origin is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(origin, type) and not hasattr(annotation, "__args__"):
            return origin
        else:
            return annotation


def _is_recursive(alias: Any) -> bool:
    parts, seen = [alias.__value__], {alias}
    for part in parts:  # grows during the iteration
        if part is alias:
            return True
        if type(part) in _ALIASES and part not in seen:
            seen.add(part)
            parts.append(part.__value__)
        parts += get_args(part)
    return False


def awaited(annotation: object) -> object:
    """The type of an annotated value once awaited: ``X`` for ``Awaitable[X]``, else itself."""
    inner = plain(annotation)
    if (get_origin(inner) or inner) in (Awaitable, Coroutine, CoroutineType):
        return (Any, *get_args(inner))[-1]
    return inner


def answered(annotation: object) -> tuple[object, bool]:
    """An annotation with questions replaced by their answers, and whether it had any.

    ``Question[X]`` becomes ``X``, ``X | Question[X]`` as well.
    """
    inner = plain(annotation)
    if inner is Question or get_origin(inner) is Question:
        return (*get_args(inner), Any)[0], True
    if get_origin(inner) not in (Union, UnionType):
        return annotation, False
    parts = [answered(part) for part in get_args(inner)]
    if not any(asks for _, asks in parts):
        return annotation, False
    return Union[tuple(part for part, _ in parts)], True  # noqa: UP007 - of parts


def actions_of(annotation: object) -> tuple[str, ...] | None:
    """The actions that an annotation allows: ``None``, a ``Literal``, a ``StrEnum`` or a union.

    Returns:
        Each action once, in the order of the annotation, ``None`` as ``"default"``; ``None`` if a
        part of the annotation is unknown.

    Raises:
        TypeError: The annotation is known and allows something else.
    """
    if is_unknown(annotation := plain(annotation)):
        return None
    origin = get_origin(annotation)
    if annotation is None or annotation is NoneType:
        return ("default",)
    if annotation is Never or annotation is NoReturn:
        return ()
    if origin is Union or origin is UnionType:
        parts = [actions_of(part) for part in get_args(annotation)]
        known = [part for part in parts if part is not None]
        return _once(*known) if len(known) == len(parts) else None
    if origin is Literal:
        return _once(*(_literal(value) for value in get_args(annotation)))
    if (
        isinstance(annotation, type)
        and issubclass(annotation, Enum)
        and issubclass(annotation, str)
    ):
        return tuple(str.__str__(member) for member in annotation)
    raise TypeError(annotation)


def _literal(value: object) -> tuple[str]:
    if value is None:
        return ("default",)
    if isinstance(value, str):
        return (str.__str__(value),)
    raise TypeError(value)


def _once(*groups: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(action for group in groups for action in group))


def type_arguments(kind: type, parent: type) -> tuple[object, ...]:
    """The arguments of a generic class, as a subclass specifies them.

    A missing argument is the type variable itself; a forward reference is left as it is.
    """
    for base in kind.__dict__.get("__orig_bases__", kind.__bases__):
        origin = get_origin(base) or base
        if origin is parent:
            return get_args(base) or variables_of(parent)
        if isinstance(origin, type) and issubclass(origin, parent):
            given = dict(zip(variables_of(origin), get_args(base), strict=False))
            return tuple(given.get(kind, kind) for kind in type_arguments(origin, parent))
    return variables_of(parent)


def variables_of(kind: type) -> tuple[object, ...]:
    """The type variables of a generic class; empty for any other class."""
    return tuple(getattr(kind, "__parameters__", ()))
