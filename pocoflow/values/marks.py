"""The substitute for a part of a value that could not be stored."""

from __future__ import annotations

from typing import ClassVar, NoReturn

from pocoflow.errors import NotSavedError

MARK = "unsaved"
"""The tag of a part that could not be stored."""


class NotSaved:
    """A part of a value that could not be stored; any use of it raises.

    Only its ``repr`` and its identity can be used.

    Args:
        type_name: The type of the part.
        reason: Its location, and why it could not be stored.

    Attributes:
        is_known: Whether any exists in this process, so that values may contain some.
    """

    __slots__ = ("_mark",)

    is_known: ClassVar[bool] = False

    def __init__(self, type_name: str, reason: str) -> None:
        object.__setattr__(self, "_mark", (type_name, reason))
        NotSaved.is_known = True

    def __repr__(self) -> str:
        return f"<not saved: {mark_of(self)[1]}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # as when copy and inspect look for special methods
        self._refuse()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise NotSavedError(
            f"{mark_of(self)[1]}; it was not saved with the checkpoint: set it again, or pass it "
            "as a resource"
        )

    __str__ = __format__ = __bool__ = __len__ = __iter__ = __next__ = __contains__ = _refuse
    __call__ = __getitem__ = __setitem__ = __delitem__ = __setattr__ = __delattr__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __int__ = __float__ = __complex__ = __index__ = __bytes__ = __fspath__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __or__ = _refuse
    __enter__ = __exit__ = __aenter__ = __aexit__ = __await__ = __aiter__ = _refuse
    __hash__ = object.__hash__

    def __copy__(self) -> NotSaved:
        return self

    def __deepcopy__(self, memo: object) -> NotSaved:
        return self

    def __reduce__(self) -> tuple[type[NotSaved], tuple[str, str]]:
        return NotSaved, mark_of(self)


def mark_of(mark: NotSaved) -> tuple[str, str]:
    """The type of the part, and its location with the reason."""
    content: tuple[str, str] = object.__getattribute__(mark, "_mark")
    return content
