"""PF4: values that a database cannot store."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from pocoflow.check.assignable import members
from pocoflow.check.findings import Finding, Severity
from pocoflow.check.subject import Site, Subject
from pocoflow.errors import DefinitionError
from pocoflow.graph.graph import Vertex
from pocoflow.messages import type_label
from pocoflow.nodes.annotations import answered, awaited, is_unknown, plain
from pocoflow.nodes.answer_types import answer_type
from pocoflow.nodes.definitions import class_location
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.phase_types import exec_types
from pocoflow.values.kinds import kind_of
from pocoflow.values.objects import family_of

_PLAIN: tuple[type, ...] = (str, int, float, bool, types.NoneType, list, dict)
_CODE: tuple[object, ...] = (
    *(Callable, type, types.FunctionType, types.ModuleType, types.CoroutineType),
)


def check_storage(subject: Subject) -> Iterator[Finding]:
    """Every finding of the family PF4: about questions, and about storage."""
    yield from _questions(subject)
    if not subject.stored:
        return
    model = subject.fields.model
    where = None if model is None else class_location(model)
    for name in subject.fields.names:
        bad = not_storable(subject.fields.type_of(name))
        if bad is not None:
            yield subject.finding(
                "PF401",
                f"field {name!r} of {subject.fields.label} holds {type_label(bad)}, which cannot "
                "be stored, and the flow has a database",
                "let it hold the name under which the program finds it"
                if hasattr(bad, "get_secret_value") or (get_origin(bad) or bad) in _CODE
                else "give the object to the run as a resource, or make its class a dataclass or a "
                "Pydantic model",
                where=where,
                severity=_severity(subject, name),
            )
    asking = {id(at) for at in subject.asking}
    for at in subject.nodes:
        # An answer is stored as JSON, which is checked with the question.
        if at.vertex.has_exec and at.vertex.node.journal and id(at) not in asking:
            yield from _results(subject, at)


def _severity(subject: Subject, name: str) -> Severity:
    """The severity of a field: the worst of its own type and of certain writes to it."""
    given = [subject.fields.type_of(name)]
    for at in subject.nodes:
        node, values = at.vertex.node, subject.effects(at.vertex).values
        given += [value.value.kind for value in values if value.key == name and value.is_certain]
        if isinstance(node, FunctionNode) and [ref.name for ref in node.signature.writes] == [name]:
            given += result_types(at.vertex)
    return "error" if "error" in map(how_bad, given) else "warning"


def _questions(subject: Subject) -> Iterator[Finding]:
    for at in subject.asking:
        if not subject.stored:
            yield subject.finding(
                "PF404",
                "it asks a person, and the flow has no database: a run that is not kept cannot "
                "wait for the answer",
                "give the flow a db_path",
                at=at,
            )
        try:
            answer_type(at.vertex.node)
        except DefinitionError as exc:
            yield subject.finding(
                "PF405",
                str(exc).removeprefix(f"node {at.vertex.node.name!r}: "),
                "ask for a bool, a string, a number, a Literal, a Pydantic model or a list of "
                "these",
                at=at,
            )


def _results(subject: Subject, at: Site) -> Iterator[Finding]:
    for hint in result_types(at.vertex):
        bad = not_storable(hint)
        if bad is not None:
            yield subject.finding(
                "PF402",
                f"exec returns {type_label(bad)}, which cannot be stored: after a crash it is "
                "called again, and paid for again",
                "return a value that can be stored, or say that it does not matter: journal=False",
                at=at,
            )
            return


def result_types(vertex: Vertex) -> list[object]:
    """The types of the results of ``exec`` of a node, as far as they are declared."""
    return [answered(awaited(hint))[0] for hint in exec_types(vertex.node)]


def how_bad(hint: object) -> Severity:
    """The severity of a type with a part that cannot be stored: no value may have that part."""
    return "warning" if not_storable(hint, is_whole=True) is None else "error"


def not_storable(hint: object, seen: tuple[object, ...] = (), *, is_whole: bool = False) -> object:
    """The part of a type whose values can never be stored; ``None`` if there is none.

    Protocols, abstract classes and classes with a storable subclass may be storable.

    Args:
        hint: The type.
        seen: The enclosing types.
        is_whole: Whether a union is storable if one of its types is.
    """
    if hint in seen or is_unknown(hint):
        return None
    bare = plain(hint)
    parts = get_args(bare) if get_origin(bare) in (Union, types.UnionType) else (bare,)
    kinds = [member for part in parts for member in _members(part)]
    found = [_bad_member(kind, (*seen, hint), is_whole) for kind in kinds]
    bad = [part for part in found if part is not None]
    return bad[0] if bad and (not is_whole or len(bad) == len(kinds)) else None


def _members(hint: object) -> Iterable[object]:
    """Its members; a secret type is a member, although it accepts and converts other values."""
    # Importing these takes as long as the whole proof of a small flow.
    from pydantic import Secret, SecretBytes, SecretStr

    kind = get_origin(plain(hint)) or plain(hint)
    is_secret = isinstance(kind, type) and issubclass(kind, (Secret, SecretStr, SecretBytes))
    return (kind,) if is_secret else members(hint)


def _bad_member(member: object, seen: tuple[object, ...], is_whole: bool) -> object:
    origin = get_origin(member)
    kind = origin or member
    if kind in _CODE:
        return member
    if not isinstance(kind, type) or kind in (Any, object):
        return None
    if not _may_be_stored(kind):
        return member
    parts = [part for part in get_args(member) if part is not ... and not isinstance(part, list)]
    if not issubclass(kind, Enum):
        parts += _parts(kind)
    for part in parts:
        bad = not_storable(part, seen, is_whole=is_whole)
        if bad is not None:
            return bad
    return None


def _may_be_stored(kind: type) -> bool:
    if kind in _PLAIN or kind_of(kind) is not None or family_of(kind) is not None:
        return True
    if getattr(kind, "__abstractmethods__", None) or kind.__module__ == "collections.abc":
        return kind.__name__ not in ("AsyncIterator", "AsyncGenerator", "Generator", "Iterator")
    children: list[type] = type.__subclasses__(kind)
    return any(map(_may_be_stored, children))


def _parts(kind: type) -> list[object]:
    """The types of the fields of a model or a dataclass, as far as they are known."""
    if issubclass(kind, BaseModel):
        return [field.annotation for field in kind.model_fields.values()]
    if dataclasses.is_dataclass(kind):
        given: dict[str, dataclasses.Field[object]] = kind.__dataclass_fields__
        return [f.type for f in given.values() if not isinstance(f.type, str)]
    return []
