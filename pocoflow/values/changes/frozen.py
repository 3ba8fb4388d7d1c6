"""A value as it was, whether another one is the same, and what has changed since."""

from __future__ import annotations

from pocoflow.values.changes.columns import lay_out, matches
from pocoflow.values.changes.difference import Change, Difference
from pocoflow.values.changes.groups import SIMPLE, Column
from pocoflow.values.changes.parts import Part, part_matches, part_weight

__all__ = ["Frozen", "difference", "freeze", "freeze_parts", "is_same"]


class Frozen:
    """A value as it was when it was remembered; what comparing it notes beside that is private."""

    __slots__ = ("part",)

    def __init__(self, part: Part) -> None:
        self.part = part

    @property
    def weight(self) -> int:
        """How many parts it has, on all levels."""
        return part_weight(self.part)


def freeze(value: object) -> Frozen:
    """Remember a value; one of a kind that the codec refuses is the same if it is that object."""
    return Frozen(lay_out([value]))


def freeze_parts(value: object) -> Frozen | None:
    """The same; ``None`` for a value of a simple type, which is compared by itself."""
    return None if type(value) in SIMPLE else freeze(value)


def is_same(frozen: Frozen, value: object) -> bool:
    """Whether a value is equal to the remembered one, with every type in it the same.

    It may be ``False`` for equal values, at the cost of storing one again, where a set holds NaN or
    where the codec would refuse the value. It is never ``True`` for values that differ.
    """
    try:
        return part_matches(frozen.part, value)
    except Exception:  # noqa: BLE001 - its own code failed, or another thread changes it now
        return False


def difference(before: object, value: object) -> tuple[list[Change], Frozen] | None:
    """What changed in a value since it was remembered, and the value remembered as it is now.

    Applied one after the other to the tree of the remembered value, the changes give that of the
    value; there are none if it is the same. ``None`` if it has to be stored as a whole, or what was
    before is not remembered.
    """
    if type(before) is not Frozen:
        return None
    found = Difference()
    try:
        if isinstance(before.part, Column) and matches(before.part, [value]):
            return [], before
        part = found.part(before.part, value)
    except Exception:  # noqa: BLE001 - it cannot be stored, or another thread changes it now
        return None
    if any(not one.path and one.operation == "set" for one in found.found):
        return None
    return found.found, Frozen(part)
