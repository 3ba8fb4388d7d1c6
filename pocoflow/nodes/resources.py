"""Resources: live objects, such as clients, that nodes use and that are never stored.

``client = resource(Client, "llm")`` is a key. A run is given the object with
``run(store, resources={client: Client(...)})``; a node gets it by the default of a parameter, or
as ``context()[client]``. To a type checker the key is a ``Client`` itself. With ``open=`` the
object need not be given: a run with a node that declares it opens it, and closes it at its end.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import MappingProxyType
from typing import (
    Any,
    Literal,
    NamedTuple,
    NoReturn,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    get_origin,
)

from pocoflow.errors import DefinitionError, Gap, Remedy, ResourceError
from pocoflow.messages import defined_again, short, type_label
from pocoflow.store.fields import Reference
from pocoflow.values.callables import is_generator, misfit, unrun

T = TypeVar("T")

Per: TypeAlias = Literal["run", "process"]
"""How often a resource is opened: once in each run that needs it, or once in the process."""

Manager: TypeAlias = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]

Resources: TypeAlias = Mapping[Any, object]
"""The objects of a run, each by what ``resource(Class, name)`` returned."""

NO_RESOURCES: Resources = MappingProxyType({})


class Facts(NamedTuple):
    """What a key states about its resource.

    Attributes:
        kind: The class of the object.
        name: What distinguishes it from others of the class.
        open: Returns the context manager to enter for it; ``None`` if runs are given the object.
        per: How often it is opened.
    """

    kind: object
    name: str
    open: Callable[[], Manager] | None
    per: Per


class Resource(Reference):
    """The key of a resource: the class of the object and a name; equal keys are one resource."""

    # Underscores: client.name must not be taken for an attribute of the client.
    __slots__ = ("__facts__",)
    __facts__: Facts

    def __init__(
        self,
        kind: object,
        name: str,
        open: Callable[[], Manager] | None = None,
        per: Per = "run",
    ) -> None:
        object.__setattr__(self, "__facts__", Facts(kind, name, open, per))

    def _misused(self, how: str) -> NoReturn:
        super()._misused(f"{how}; in a node, context()[key] is the object")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self._misused("cannot be written to")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resource) and other.__facts__[:2] == self.__facts__[:2]

    def __hash__(self) -> int:
        return hash(self.__facts__.name)

    def __repr__(self) -> str:
        return f"<resource {self.__facts__.name!r}: {type_label(self.__facts__.kind)}>"

    def __reduce__(self) -> tuple[type[Resource], Facts]:
        return type(self), self.__facts__


# Not type[T]: mypy refuses a protocol or an abstract class there.
def resource(
    kind: Callable[..., T],
    name: str,
    /,
    *,
    open: Callable[[], AbstractContextManager[T] | AbstractAsyncContextManager[T]] | None = None,
    per: Per = "run",
) -> T:
    """A key for an object of the class ``kind``; the name distinguishes it from others of it.

    Args:
        kind: The class of the object.
        name: What distinguishes it from others of the class.
        open: Called without arguments, returns a context manager, synchronous or asynchronous. A
            run that was not given the object enters it before its first node, and exits it when it
            ends, for whatever reason, or pauses. ``None``: each run is given the object.
        per: ``"run"`` opens it in each run that needs it; ``"process"`` once, for all runs, and
            closes it when the program ends. An asynchronous one is opened once on each event loop,
            and closed when that ends.

    Returns:
        To a type checker a ``kind``, at run time a :class:`Resource`.

    Raises:
        DefinitionError: ``kind`` is not a class, ``name`` is not a non-empty string, ``open`` does
            not return a context manager or needs arguments, or ``per`` is neither of the two, or is
            given without ``open``.
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
    _check_opening(f"resource({type_label(kind)}, {name!r})", open, per)
    return cast(T, Resource(kind, name, open, per))


def _check_opening(owner: str, given: object, per: object) -> None:
    if per not in get_args(Per):
        raise DefinitionError(f"{owner}: per is 'run' or 'process', not {short(per)}")
    if given is None:
        if per != "run":
            raise DefinitionError(
                f"{owner}: per={per!r} says how often it is opened, so it needs open=, a function "
                "that gives a context manager"
            )
        return
    what = "nothing that can be called"
    if callable(given):
        kind = unrun(given)
        if kind is None:
            wrong = misfit(given)
            if wrong is not None:
                raise DefinitionError(f"{owner}: open is called without arguments; {wrong}")
            return
        manager = "asynccontextmanager" if inspect.isasyncgenfunction(given) else "contextmanager"
        if inspect.iscoroutinefunction(given):
            manager = "asynccontextmanager, with a yield of the object"
        what = f"{kind}; write @contextlib.{manager} above it"
    raise DefinitionError(
        f"{owner}: open is a function without arguments that gives a context manager, and "
        f"{short(given)} is {what}"
    )


def opens_alike(first: Resource, second: Resource) -> bool:
    """Whether two equal keys open the object in the same way."""
    return first.__facts__[2:] == second.__facts__[2:]


def is_opened(key: Resource) -> bool:
    """Whether the object is opened if a run is not given it."""
    return key.__facts__.open is not None


def is_of_process(key: Resource) -> bool:
    """Whether it is opened once for all runs of the process."""
    return key.__facts__.per == "process"


def is_awaited(key: Resource) -> bool:
    """Whether opening it has to be awaited, as far as that is known without calling ``open``."""
    facts = key.__facts__
    for asynchronous in (True, False):
        if is_generator(facts.open, asynchronous=asynchronous):
            return asynchronous
    kind = facts.open if isinstance(facts.open, type) else facts.kind
    return hasattr(get_origin(kind) or kind, "__aenter__")


def manager_of(key: Resource) -> Any:
    """The context manager to enter for the object.

    Raises:
        ResourceError: It is not a context manager.
        Exception: Whatever ``open`` raised.
    """
    opens = key.__facts__.open
    assert opens is not None  # called only for resources that are opened
    manager = opens()
    kind = type(manager)
    if hasattr(kind, "__enter__") or hasattr(kind, "__aenter__"):
        return manager
    raise ResourceError(
        f"open of {key!r} gave {short(manager)}, a {kind.__name__}, which is no context manager: "
        "it needs __enter__ and __exit__, or __aenter__ and __aexit__; "
        "contextlib.closing(<object>) makes one of what has a close()"
    )


def declared(node: Any) -> tuple[Resource, ...]:
    """The keys that a node names in ``resources``; none if that is an unrelated attribute.

    Raises:
        DefinitionError: It is one key and not a tuple, a name, or contains something else.
    """
    given = node.resources
    if given.__class__ is tuple and not given:  # as in most nodes
        return given
    several = given if isinstance(given, (tuple, list)) else ()
    keys = tuple(key for key in several if isinstance(key, Resource))
    texts = given if isinstance(given, tuple) else (given,)
    are_names = bool(texts) and all(isinstance(key, str) for key in texts)
    # Anything else that has no key in it is an attribute of a program for 0.2.1.
    if isinstance(given, Resource) or are_names or (keys and len(keys) < len(several)):
        raise DefinitionError(
            f"{node.name}.resources is {short(given)}: it is a tuple of keys, which "
            "resource(Class, name) returned, and not of their names; write resources = (<key>,), "
            "with the comma"
        )
    return keys


def check_resources(
    given: Resources | None, wanted: Mapping[Resource, str]
) -> tuple[Resources, tuple[Resource, ...]]:
    """The resources of a run, if they are those that its nodes declare, and those to be opened.

    Args:
        given: What the run was given, by key.
        wanted: What nodes declare, with the name of one node that does.

    Raises:
        ResourceError: One is missing or of another type, or something is given without a key.
    """
    if not given and not wanted:
        return NO_RESOURCES, ()
    if given is not None and not isinstance(given, Mapping):
        raise not_resources(given)
    objects = dict(given or {})
    for key, value in objects.items():
        if not isinstance(key, Resource):
            raise ResourceError(
                f"resources={{...}} has the key {short(key)}: the keys are what "
                "resource(Class, name) returned"
            )
        check_kind(key, value, "was given")
    opens = []
    for key, node in wanted.items():
        if key not in objects:
            if not is_opened(key):
                raise _missing(key, objects, f"node {node!r} asks for")
            opens.append(key)
    return objects, tuple(opens)


def not_resources(given: object) -> DefinitionError:
    """The error for what is not a mapping of resources."""
    return DefinitionError(
        f"resources={short(given)}: a dict of objects by what resource(Class, name) returned, as "
        "in resources={client: Client()}"
    )


def check_kind(key: Resource, value: object, how: str) -> None:
    """Refuse an object that is not of the class of its key.

    Raises:
        ResourceError: It is of another one.
    """
    if not _is_a(value, key.__facts__.kind):
        of = "a class" if isinstance(value, type) else f"of class {type(value).__name__}"
        raise ResourceError(
            f"{key!r} {how} {short(value)}, {of}: it has to be of class "
            f"{type_label(key.__facts__.kind)}"
            f"{'; pass an instance, with ()' if isinstance(value, type) else ''}"
            f"{defined_again(value, key.__facts__.kind, repr(key))}"
        )


def find_resource(given: Resources, key: object) -> object:
    """The object that a run was given under a key.

    Raises:
        ResourceError: There is none.
    """
    if not isinstance(key, Resource):
        raise ResourceError(f"context()[...] takes what resource(...) returned, not {short(key)}")
    try:
        return given[key]
    except KeyError:
        raise _missing(key, given, "this node asks for") from None


def _missing(key: Resource, given: Iterable[object], asker: str) -> ResourceError:
    if is_opened(key):
        return ResourceError(
            f"{asker} {key!r}, which is not open: a run opens what its nodes declare before its "
            "first node, and none that it can reach declares this; name it in the node's class, "
            "resources = (<key>,), with what resource(...) returned and not its name; a function "
            "takes it as a parameter, client: Client = <key>",
            remedies=[
                Remedy("declare it in the class of the node", "resources = (<key>,)"),
                Remedy("take it as a parameter of the function", "client: Client = <key>"),
            ],
        )
    return ResourceError(
        f"{asker} {key!r}, which the run was not given: pass resources={{key: object}} to run, "
        "resume or Worker, or name them to a command with --resources (given: "
        f"{', '.join(map(repr, given)) or 'none'})",
        remedies=[
            Remedy("give it to a new run", "flow.run(<store>, resources={<key>: <object>})"),
            Remedy(
                "give it to a stored run",
                "flow.resume(<run>, resources={<key>: <object>})",
                ("resume", Gap.RUN, Gap.FLOW, "--resources", "MODULE:NAME"),
            ),
        ],
    )


def _is_a(value: object, kind: Any) -> bool:
    try:
        return isinstance(value, get_origin(kind) or kind)
    except TypeError:
        return True  # a protocol that cannot be checked at run time
