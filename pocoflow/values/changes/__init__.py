"""What changed between the last stored form of a value and the value as it is now.

:func:`freeze` remembers a value, :func:`is_same` tells whether another one, or the same one later,
is equal to it with every type in it the same: a list or model that was changed in place at any
depth is seen, and so are ``1`` and ``True``, ``0.0`` and ``-0.0``, a text and a ``StrEnum`` that
equals it, and another order of the keys of a dict. For a list that only grew, :func:`appended`
tells where the new part starts, and :func:`extend` remembers it at the cost of that part.

A remembered value is kept in columns: all parts on one level are laid out in one list and compared
type by type, so that 1,000 messages take a few operations on lists and not 1,000 calls. Immutable
parts are shared with the value, the rest is copied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pocoflow.values.changes.columns import Column, lay_out, matches

__all__ = ["Frozen", "appended", "extend", "freeze", "is_same"]


class Frozen:
    """A value as it was when it was remembered. It never changes; what is in it is private."""

    __slots__ = ("_chunks", "_grows")

    def __init__(self, chunks: tuple[_Chunk, ...], grows: bool) -> None:
        self._chunks = chunks
        self._grows = grows

    def _begins(self, items: list[Any]) -> bool:
        try:
            return all(
                matches(chunk.column, items[chunk.start : chunk.stop]) for chunk in self._chunks
            )
        except Exception:  # noqa: BLE001 - its own code failed, or another thread changes it now
            return False


class _Chunk(NamedTuple):
    """A run of the elements of a list; a value that is no list is one chunk of one element."""

    start: int
    stop: int
    column: Column


def freeze(value: object) -> Frozen:
    """Remember a value; one of a kind that the codec refuses is never the same."""
    if type(value) is list:
        return Frozen((_chunk(value, 0),), grows=True)
    return Frozen((_chunk([value], 0),), grows=False)


def is_same(frozen: Frozen, value: object) -> bool:
    """Whether a value is equal to the remembered one, with every type in it the same.

    It may be ``False`` for equal values, at the cost of storing one again, where a set holds NaN or
    where the codec would refuse the value. It is never ``True`` for values that differ.
    """
    if not frozen._grows:
        items = [value]
    elif type(value) is list and len(value) == frozen._chunks[-1].stop:
        items = value
    else:
        return False
    return frozen._begins(items)


def appended(frozen: Frozen, value: object) -> int | None:
    """Return where the new part starts if a value is the remembered list with more at its end."""
    if not frozen._grows or type(value) is not list:
        return None
    known = frozen._chunks[-1].stop
    return known if len(value) > known and frozen._begins(value) else None


def extend(frozen: Frozen, value: list[Any], start: int) -> Frozen:
    """Remember a list of which all before ``start``, as :func:`appended` gave it, is remembered.

    Chunks are merged when a later one has grown as long: a list that grows one by one has few, and
    each element is laid out again only as many times as the logarithm of the length.
    """
    chunks = frozen._chunks
    if not frozen._grows or start != chunks[-1].stop:
        raise ValueError(f"the remembered value is not a list of {start} elements")
    while chunks and chunks[-1].stop - chunks[-1].start <= len(value) - start:
        start = chunks[-1].start
        chunks = chunks[:-1]
    return Frozen((*chunks, _chunk(value, start)), grows=True)


def _chunk(items: list[Any], start: int) -> _Chunk:
    stop = len(items)
    return _Chunk(start, stop, lay_out(items[start:stop]))
