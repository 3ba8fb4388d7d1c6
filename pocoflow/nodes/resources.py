"""Resources: live objects, such as clients, that nodes use and that are never stored.

``client = resource(Client, "llm")`` is a key. A run is given the object with
``run(store, resources={client: Client(...)})``; a node gets it by the default of a parameter, or
as ``context()[client]``. To a type checker the key is a ``Client`` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar, cast, get_origin

from pocoflow.errors import DefinitionError, Remedy, ResourceError
from pocoflow.messages import short, type_label
from pocoflow.store.fields import Reference

T = TypeVar("T")

NO_RESOURCES: Mapping[Any, object] = MappingProxyType({})


class Resource(Reference):
    """The key of a resource: the class of the object and a name; equal keys are one resource."""

    # Underscores: client.name must not be taken for an attribute of the client.
    __slots__ = ("_kind", "_name")
    _kind: Any
    _name: str

    def __init__(self, kind: Any, name: str) -> None:
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_name", name)

    def _misused(self, how: str) -> NoReturn:
        super()._misused(f"{how}; in a node, context()[key] is the object")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self._misused("cannot be written to")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Resource) and other._name == self._name and other._kind == self._kind
        )

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"<resource {self._name!r}: {type_label(self._kind)}>"

    def __reduce__(self) -> tuple[type[Resource], tuple[Any, str]]:
        return type(self), (self._kind, self._name)


# Not type[T]: mypy refuses a protocol or an abstract class there.
def resource(kind: Callable[..., T], name: str, /) -> T:
    """A key for an object of the class ``kind``; the name sets it apart from others of the class.

    Returns:
        To a type checker a ``kind``, at run time a :class:`Resource`.

    Raises:
        DefinitionError: ``kind`` is not a class, or ``name`` is not a non-empty string.
    """
    if not isinstance(kind, type) and get_origin(kind) is None:
        raise DefinitionError(
            f"resource(kind, name): the kind is the class of the object, not {short(kind)}"
        )
    given: object = name
    if not isinstance(given, str) or not given:
        raise DefinitionError(
            f"resource({type_label(kind)}, name): the name is a non-empty string, not {short(name)}"
        )
    return cast(T, Resource(kind, name))


def check_resources(
    given: Mapping[Any, object] | None, wanted: Mapping[Resource, str]
) -> Mapping[Any, object]:
    """The resources of a run, if they are what its nodes ask for.

    Args:
        given: What the run was given, by key.
        wanted: What function nodes declare, with the name of one node that does.

    Raises:
        ResourceError: One is missing or of another type, or something is given under no key.
    """
    if not given and not wanted:
        return NO_RESOURCES
    objects = dict(given or {})
    for name, thing in objects.items():
        if not isinstance(name, Resource):
            raise ResourceError(
                f"resources={{...}} has the key {short(name)}: the keys are what "
                "resource(Class, name) returned"
            )
        if not _is_a(thing, name._kind):
            raise ResourceError(
                f"{name!r} was given {short(thing)}, a {type(thing).__name__}, which is not a "
                f"{type_label(name._kind)}"
            )
    for name, node in wanted.items():
        if name not in objects:
            raise _missing(name, objects, f"node {node!r} asks for")
    return objects


def find_resource(given: Mapping[Any, object], name: object) -> object:
    """The object that a run was given under a key.

    Raises:
        ResourceError: There is none.
    """
    if not isinstance(name, Resource):
        raise ResourceError(f"context()[...] takes what resource(...) returned, not {short(name)}")
    try:
        return given[name]
    except KeyError:
        raise _missing(name, given, "this node asks for") from None


def _missing(name: Resource, given: Iterable[object], who: str) -> ResourceError:
    return ResourceError(
        f"{who} {name!r}, which the run was not given: pass resources={{key: object}} to run or "
        f"resume (given: {', '.join(map(repr, given)) or 'none'})",
        remedies=[
            Remedy("give it to a new run", "flow.run(<store>, resources={<key>: <object>})"),
            Remedy("give it to a stored run", "flow.resume(<run>, resources={<key>: <object>})"),
        ],
    )


def _is_a(thing: object, kind: Any) -> bool:
    try:
        return isinstance(thing, get_origin(kind) or kind)
    except TypeError:
        return True  # a protocol that cannot be checked at run time
