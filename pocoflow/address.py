"""Where something happens, as parts: names hold any text, so joined names are never parsed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

from pocoflow.errors import DefinitionError


class Numbered(str):
    """The name of a node that runs branches for items, with the number of an item: ``each[3]``.

    It is the text for people; its parts are attributes.

    Attributes:
        name: The name of the node.
        number: The number of the item.
    """

    name: str
    number: int

    def __new__(cls, name: str, number: int) -> Self:
        """Join the two."""
        numbered = super().__new__(cls, f"{name}[{number}]")
        numbered.name, numbered.number = name, number
        return numbered

    def __getnewargs__(self) -> tuple[str, int]:  # type: ignore[override]
        return self.name, self.number


class Address(NamedTuple):
    """The address of a node in a flow.

    Attributes:
        path: The names of the flows and branches around it, outermost first.
        node: Its own name.
    """

    path: tuple[str, ...]
    node: str

    @property
    def names(self) -> tuple[str, ...]:
        """The path and the node."""
        return (*self.path, self.node)

    @property
    def text(self) -> str:
        """The address as text for people."""
        return "/".join((*self.path, self.node)) if self.path else self.node


def plain(names: Iterable[str]) -> tuple[str, ...]:
    """The names as they are in a graph, without the numbers of items."""
    return tuple(name.name if isinstance(name, Numbered) else name for name in names)


def check_id(run_id: object) -> None:
    """Refuse an invalid id of a run.

    Raises:
        TypeError: It is not a text.
    """
    if not isinstance(run_id, str):
        raise TypeError(f"run_id is a str, such as row['run_id'], got {type(run_id).__name__}")


def check_name(what: str, name: object) -> None:
    """Refuse an invalid name.

    Raises:
        DefinitionError: It is not a text, is empty, or cannot be stored as text by a database.
    """
    if type(name) is not str or not name:
        raise DefinitionError(
            f"{what} must be a non-empty string, not {name!r} ({type(name).__name__})"
        )
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError as exc:
            raise DefinitionError(
                f"{what} is {name!r}, which cannot be stored: character {exc.start} is half of a "
                "surrogate pair, as of an emoji that was cut; leave it out"
            ) from None
