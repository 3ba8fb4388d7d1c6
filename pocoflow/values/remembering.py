"""Memoising functions of classes and functions, without keeping short-lived arguments alive."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

FEW = 64
"""The number of cached results for arguments that may be short-lived."""

_MANY = 4096


def remembered(make: FunctionT) -> FunctionT:
    """Memoise a function of classes and functions, which are positional arguments.

    For arguments that are created inside a function, perhaps for each request, only the last
    few results are cached, as the cache keeps alive everything that they reference.
    """
    permanent: dict[tuple[object, ...], object] = {}
    transient = lru_cache(FEW)(make)

    @wraps(make)
    def cached(*args: Any) -> object:
        try:
            return permanent[args]
        except KeyError:
            pass
        except TypeError:  # an argument is not hashable
            return make(*args)
        if any(map(is_transient, args)):
            return transient(*args)
        if len(permanent) >= _MANY:
            permanent.clear()
        result = permanent[args] = make(*args)
        return result

    return cast(FunctionT, cached)


def remembered_by_type(make: FunctionT) -> FunctionT:
    """Memoise a function of a type annotation, or a tuple with some, as unions have an order.

    ``A | B == B | A``, but Pydantic tries ``A`` first, or ``B``.
    """

    def make_in_order(hint: Any, _: object) -> object:
        return make(hint)

    ordered = remembered(make_in_order)

    @wraps(make)
    def cached(hint: Any) -> object:
        return ordered(hint, _members(hint))

    return cast(FunctionT, cached)


def _members(hint: object) -> tuple[object, ...]:
    inside = hint if isinstance(hint, tuple) else getattr(hint, "__args__", None)
    return tuple((one, _members(one)) for one in inside) if isinstance(inside, tuple) else ()


def is_transient(value: object) -> bool:
    """Whether it is, or contains, a class or function that no module defines: short-lived."""
    if isinstance(value, tuple):
        return any(map(is_transient, value))
    name, home = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    if isinstance(name, str) and isinstance(home, str):
        outermost, _, _ = name.partition(".")
        if "<locals>" in name or outermost not in getattr(sys.modules.get(home), "__dict__", ()):
            return True
    inside = getattr(value, "__args__", None)  # of list[X], which is callable like list
    return isinstance(inside, tuple) and is_transient((getattr(value, "__origin__", None), *inside))
