"""The traversal of nested things: flows in flows, branches in nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pocoflow.errors import DefinitionError

ThingT = TypeVar("ThingT")


def inner_first(start: ThingT, inside: Callable[[ThingT], Iterable[ThingT]]) -> Iterator[ThingT]:
    """A thing and everything inside of it, each once, in post-order.

    Raises:
        DefinitionError: Something contains itself.
    """
    done: set[int] = set()
    around = {id(start)}
    path = [(start, iter(inside(start)))]
    while path:
        thing, rest = path[-1]
        part = next((inner for inner in rest if id(inner) not in done), None)
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
