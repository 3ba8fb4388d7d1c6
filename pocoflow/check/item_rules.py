"""PF2 for items of ``@node(each=...)`` or ``FanOut``: their types."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin

from pocoflow.check.assignable import fits, members
from pocoflow.check.findings import Finding
from pocoflow.check.subject import Site, Subject
from pocoflow.messages import type_label
from pocoflow.nodes.function import AnyFunctionNode
from pocoflow.nodes.parallel import FanOut
from pocoflow.store.fields import StoreField

_NO_ITEMS = (int, float, complex, str, bytes, NoneType)
"""Types without items for a node, although Python can iterate over a text."""

_CONTAINERS = ("builtins", "collections", "collections.abc")


def check_items(subject: Subject) -> Iterator[Finding]:
    """Fields without items, and items that do not fit their target."""
    for at, node in subject.functions:
        if node.signature.each is not None:
            yield from _of_function(subject, at, node, node.signature.each)
    for at, split in subject.fans_out if subject.fields else ():
        if isinstance(split, FanOut):
            yield from _of_branch(subject, at, split)


def _of_function(
    subject: Subject, at: Site, node: AnyFunctionNode, field: StoreField
) -> Iterator[Finding]:
    signature = node.signature
    holds = subject.fields.held(field)
    item = item_of(holds)
    if item is None:
        yield _without(subject, at, str(field), holds)
        return
    parameter = signature.parameters[0].name
    hint = signature.hints.get(parameter, Any)
    if not fits(item, hint):
        yield subject.finding(
            "PF202",
            f"parameter {parameter!r} is annotated as {type_label(hint)} and takes each item of "
            f"field {field}, which holds {type_label(holds)}",
            f"annotate it as {type_label(item)}, or change the field",
            at=at,
            types=(item, hint),
        )
    if getattr(node, "on_error", "stop") == "collect":
        yield from _collected(subject, at, node)


def _collected(subject: Subject, at: Site, node: AnyFunctionNode) -> Iterator[Finding]:
    """Where items may fail, and the exception that takes the place of a result has none."""
    for field in node.signature.writes:
        holds = subject.fields.held(field)
        item = item_of(holds)
        if item is not None:
            yield from subject.misfit(
                "on_error='collect' puts the exception of an item that fails into the list for "
                f"field {field}, of which each item holds",
                Exception,
                item,
                "take a BatchNode class, whose post sees the exceptions before they are written",
                at=at,
            )


def _of_branch(subject: Subject, at: Site, node: FanOut) -> Iterator[Finding]:
    fields = subject.fields
    holds = fields.holds(node.each)
    item = item_of(holds)
    if item is None:
        yield _without(subject, at, repr(node.each), holds)
        return
    if fields.reduces(node.item) and node.item not in node.private:
        yield subject.finding(
            "PF203",
            f"it gives each item of {node.each!r} to field {node.item!r}, which has a reducer, so "
            "that a branch is refused anything but increments",
            "let as_= name a field without a reducer",
            at=at,
        )
        return
    yield from subject.misfit(
        f"it gives each item of {node.each!r}, {type_label(item)}, to field {node.item!r}, which "
        "holds",
        item,
        fields.takes(node.item),
        f"let as_= name a field that holds {type_label(item)}",
        at=at,
    )


def _without(subject: Subject, at: Site, field: str, holds: object) -> Finding:
    return subject.finding(
        "PF207",
        f"it works on each item of field {field}, which holds {type_label(holds)}",
        "let each= name a field that holds a list",
        at=at,
    )


def item_of(annotation: object) -> object:
    """The type of the items of a value; ``None`` if it certainly has none."""
    kinds = members(annotation)
    items = [_item(kind) for kind in kinds if not _is_plain(kind)]
    if kinds and not items:
        return None
    return Union[tuple(items)] if items else Any  # noqa: UP007 - of parts


def _is_plain(kind: object) -> bool:
    if get_origin(kind) is Literal:
        kind = type(get_args(kind)[0])
    return isinstance(kind, type) and issubclass(kind, _NO_ITEMS)


def _item(kind: object) -> object:
    origin, arguments = get_origin(kind), get_args(kind)
    if not isinstance(origin, type) or origin.__module__ not in _CONTAINERS:
        return Any
    if origin is tuple:
        parts = tuple(arg for arg in arguments if arg is not ...)
        return Union[parts] if parts else Any  # noqa: UP007 - of parts
    if origin in (enumerate, ItemsView):  # their items are pairs
        return Any
    # Of a mapping the items are the keys, its first argument.
    return arguments[0] if issubclass(origin, Iterable) and arguments else Any
