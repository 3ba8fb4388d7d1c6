"""Reading the source of a function that is given a store: which keys it reads and writes.

What is not seen for certain is left open: a store that is passed on, given another name or used in
an inner function may be written in any way. A read counts as needed only if every call comes to it
and nothing looks first whether the key is there (``in``, ``get``, ``try``).
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pocoflow.check.effects import UNKNOWN, Effects, Place, Places
from pocoflow.check.statements import Statements
from pocoflow.check.uses import Uses

__all__ = ["definition_of", "read_source"]


def read_source(function: Callable[..., Any], stores: Sequence[str] | None = None) -> Effects:
    """What a function does to the store.

    Args:
        function: A function, or a method of a class.
        stores: The parameters that are the store; by default the one after ``self``.
    """
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__"):
        return UNKNOWN  # a decorator may do anything around it
    given = None if stores is None else tuple(stores)
    return _read(function, given)


@lru_cache(maxsize=4096)
def _read(function: Any, stores: tuple[str, ...] | None) -> Effects:
    node = definition_of(function)
    if node is None:
        return UNKNOWN
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
    if stores is None:
        if len(names) < 2:
            return UNKNOWN
        stores = (names[1],)
    uses = Uses(node, frozenset(stores), _constants(function))
    statements = Statements(uses, node)
    file = function.__code__.co_filename

    def placed(lines: Mapping[str, int]) -> Places:
        return {key: Place(file, line) for key, line in lines.items()}

    return Effects(
        needs=placed(uses.needs),
        reads=frozenset(uses.reads),
        writes=placed(uses.writes),
        exits=statements.exits,
        reads_more=uses.reads_more,
        writes_more=uses.writes_more,
        named=placed(uses.named),
        values=tuple(replace(one, place=Place(file, one.place.line)) for one in uses.values),
        changes=placed(uses.changes),
    )


def _constants(function: Any) -> Mapping[str, str]:
    """The names of the module that are text, for ``store[KEY]``."""
    names = function.__globals__
    return {
        name: names[name] for name in function.__code__.co_names if type(names.get(name)) is str
    }


def definition_of(function: Any) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The function in its source; ``None`` if there is none, or if it is another one by now."""
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    text = "".join(lines)
    indented = text[:1].isspace()
    try:
        tree = ast.parse("if 1:\n" + text if indented else text)
    except (SyntaxError, ValueError, RecursionError, SystemError):
        return None  # SystemError: CPython 3.11, when two threads parse at once
    inner: Any = tree.body[0]
    node = inner.body[0] if indented else inner
    code = function.__code__
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.name != code.co_name:
        return None
    count = code.co_argcount + code.co_kwonlyargcount
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    if tuple(one.arg for one in arguments) != code.co_varnames[:count]:
        return None
    ast.increment_lineno(node, first - (2 if indented else 1))
    return node
