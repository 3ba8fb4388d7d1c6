"""What was found out about classes and functions, for as long as it is likely to be asked again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

FEW = 64
"""How much is kept of what may pass."""

_MANY = 4096


def remembered(make: FunctionT) -> FunctionT:
    """A function of classes and functions, given by place, that is called once for the same ones.

    Of those that a function has made, and may make again for each request, only the last few are
    kept: with them is kept all that they enclose.
    """
    lasting: dict[tuple[object, ...], object] = {}
    passing = lru_cache(FEW)(make)

    @wraps(make)
    def known(*given: Any) -> object:
        try:
            return lasting[given]
        except KeyError:
            pass
        except TypeError:  # something cannot be hashed
            return make(*given)
        if any(map(passes, given)):
            return passing(*given)
        if len(lasting) >= _MANY:
            lasting.clear()
        found = lasting[given] = make(*given)
        return found

    return cast(FunctionT, known)


def passes(one: object) -> bool:
    """Whether it is, or has in it, a class or a function that no module has."""
    if isinstance(one, tuple):
        return any(map(passes, one))
    name, home = getattr(one, "__qualname__", None), getattr(one, "__module__", None)
    if isinstance(name, str) and isinstance(home, str):
        outermost, _, _ = name.partition(".")
        if "<locals>" in name or outermost not in getattr(sys.modules.get(home), "__dict__", ()):
            return True
    inside = getattr(one, "__args__", None)  # of list[One], which is called as list is
    return isinstance(inside, tuple) and passes((getattr(one, "__origin__", None), *inside))
