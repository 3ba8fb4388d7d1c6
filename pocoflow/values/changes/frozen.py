"""Remembering a value, comparing it with another one, and the changes since."""

from __future__ import annotations

from pocoflow.values.changes.columns import lay_out, matches
from pocoflow.values.changes.difference import Change, Difference
from pocoflow.values.changes.groups import SIMPLE, Column
from pocoflow.values.changes.parts import Part, part_matches, weight

__all__ = ["Frozen", "difference", "freeze", "freeze_parts", "is_same"]


class Frozen:
    """A remembered value; its representation is private."""

    __slots__ = ("part",)

    def __init__(self, part: Part) -> None:
        self.part = part

    @property
    def weight(self) -> int:
        """The number of its parts, on all levels."""
        return weight(self.part)


def freeze(value: object) -> Frozen:
    """Remember a value; one of a kind that the codec refuses is compared by identity."""
    return Frozen(lay_out([value]))


def freeze_parts(value: object) -> Frozen | None:
    """Remember a value; ``None`` for one of a simple type, which is compared directly."""
    return None if type(value) in SIMPLE else freeze(value)


def is_same(frozen: Frozen, value: object) -> bool:
    """Whether a value is equal to the remembered one, with every type in it the same.

    It may be ``False`` for equal values, which are then stored again, if a set contains NaN or the
    codec would refuse the value. It is never ``True`` for values that differ.
    """
    try:
        return part_matches(frozen.part, value)
    except Exception:  # noqa: BLE001 - its own code failed, or another thread is changing it
        return False


def difference(before: object, value: object) -> tuple[list[Change], Frozen] | None:
    """The changes of a value since it was remembered, and the new remembered value.

    Applied in order to the tree of the remembered value, the changes yield that of the value; there
    are none if it is the same. ``None`` if it has to be stored as a whole, or ``before`` is not a
    remembered value.
    """
    if type(before) is not Frozen:
        return None
    compared = Difference()
    try:
        if isinstance(before.part, Column) and matches(before.part, [value]):
            return [], before
        part = compared.part(before.part, value)
    except Exception:  # noqa: BLE001 - it cannot be stored, or another thread is changing it
        return None
    if any(not change.path and change.operation == "set" for change in compared.changes):
        return None
    return compared.changes, Frozen(part)
