"""The order of what is inside of one another: flows in flows, branches in nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pocoflow.errors import DefinitionError

ThingT = TypeVar("ThingT")


def inner_first(start: ThingT, inside: Callable[[ThingT], Iterable[ThingT]]) -> Iterator[ThingT]:
    """A thing and all that is inside of it, each once, after what is inside of itself.

    Raises:
        DefinitionError: Something is inside of itself.
    """
    done: set[int] = set()
    around = {id(start)}
    path = [(start, iter(inside(start)))]
    while path:
        thing, rest = path[-1]
        part = next((one for one in rest if id(one) not in done), None)
        if part is None:
            path.pop()
            around.discard(id(thing))
            done.add(id(thing))
            yield thing
        elif id(part) in around:
            kind = "flow" if getattr(part, "is_flow", False) else "parallel node"
            raise DefinitionError(f"{kind} {getattr(part, 'name', part)!r} contains itself")
        else:
            around.add(id(part))
            path.append((part, iter(inside(part))))
