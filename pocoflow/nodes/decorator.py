"""``@node``, which turns a function into a node, and its types for type checkers."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import (
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVarTuple,
    overload,
)

from typing_extensions import TypedDict, TypeVar, Unpack

from pocoflow.address import check_name
from pocoflow.errors import DefinitionError
from pocoflow.messages import closest
from pocoflow.nodes.function import AnyFunctionNode, EachNode, FunctionNode, function_node
from pocoflow.nodes.question import Question
from pocoflow.nodes.settings import ITEM_SETTINGS, ItemSettings, StepSettings, Where
from pocoflow.nodes.signature import read_signature
from pocoflow.values.callables import lists_keywords

P = ParamSpec("P")
T = TypeVar("T")
WrittenT = TypeVar("WrittenT")
ActionT = TypeVar("ActionT", bound=str | None)
ItemT = TypeVar("ItemT")
SomeT = TypeVarTuple("SomeT")

Default: TypeAlias = Literal["default"]
Coro: TypeAlias = Coroutine[Any, Any, T]


class SomeSettings(StepSettings, total=False):
    """The settings of every function node; :func:`node` explains them."""

    name: str | None
    supplied: Iterable[str]
    executor: Where


# Closed, as not every type checker refuses a misspelt name otherwise.
class FunctionSettings(SomeSettings, total=False, closed=True):
    """The settings of a function node."""


class EachSettings(SomeSettings, ItemSettings, total=False, closed=True):
    """The settings of a function node that works on items."""


class _Uses(TypedDict, total=False):
    writes: object
    actions: bool
    each: Iterable[object]


_SETTINGS = (*_Uses.__annotations__, *EachSettings.__annotations__)


class Writes(Protocol[WrittenT]):
    """Decorates a function whose result is written: it must return what the fields hold."""

    # The plain overload first: a checker that finds no match shows the first.
    @overload
    def __call__(
        self, function: Callable[P, WrittenT], /
    ) -> FunctionNode[P, WrittenT, WrittenT, Default]: ...
    @overload
    def __call__(
        self, function: Callable[P, WrittenT | Question[WrittenT]], /
    ) -> FunctionNode[P, WrittenT | Question[WrittenT], WrittenT, Default]: ...
    @overload
    def __call__(
        self, function: Callable[P, Awaitable[WrittenT]], /
    ) -> FunctionNode[P, Coro[WrittenT], WrittenT, Default]: ...
    @overload
    def __call__(
        self, function: Callable[P, Awaitable[WrittenT | Question[WrittenT]]], /
    ) -> FunctionNode[P, Coro[WrittenT | Question[WrittenT]], WrittenT, Default]: ...


class WritesAndRoutes(Protocol[WrittenT]):
    """Decorates a function that returns what is written, and its action."""

    @overload
    def __call__(
        self, function: Callable[P, tuple[WrittenT, ActionT]], /
    ) -> FunctionNode[P, tuple[WrittenT, ActionT], tuple[WrittenT, ActionT], ActionT]: ...
    @overload
    def __call__(
        self, function: Callable[P, Awaitable[tuple[WrittenT, ActionT]]], /
    ) -> FunctionNode[P, Coro[tuple[WrittenT, ActionT]], tuple[WrittenT, ActionT], ActionT]: ...


class WritesSomeAndRoutes(Protocol[*SomeT]):
    """Decorates a function that returns a value for each field, and its action."""

    @overload
    def __call__(
        self, function: Callable[P, tuple[*SomeT, ActionT]], /
    ) -> FunctionNode[P, tuple[*SomeT, ActionT], tuple[*SomeT, ActionT], ActionT]: ...
    @overload
    def __call__(
        self, function: Callable[P, Awaitable[tuple[*SomeT, ActionT]]], /
    ) -> FunctionNode[
        P,
        Coro[tuple[*SomeT, ActionT]],
        tuple[*SomeT, ActionT],
        ActionT,
    ]: ...


class WritesEach(Protocol[ItemT, WrittenT]):
    """Decorates a function that takes one item and returns one element of what is written."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[ItemT, P], WrittenT], /
    ) -> FunctionNode[Concatenate[ItemT, P], WrittenT, list[WrittenT], Default]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[ItemT, P], WrittenT | Question[WrittenT]], /
    ) -> EachNode[Concatenate[ItemT, P], WrittenT | Question[WrittenT], WrittenT, Default]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[ItemT, P], Awaitable[WrittenT]], /
    ) -> FunctionNode[Concatenate[ItemT, P], Coro[WrittenT], list[WrittenT], Default]: ...
    @overload
    def __call__(
        self,
        function: Callable[Concatenate[ItemT, P], Awaitable[WrittenT | Question[WrittenT]]],
        /,
    ) -> EachNode[
        Concatenate[ItemT, P],
        Coro[WrittenT | Question[WrittenT]],
        WrittenT,
        Default,
    ]: ...


class ForEach(Protocol[ItemT]):
    """Decorates a function that takes one item and writes nothing."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[ItemT, P], None], /
    ) -> FunctionNode[Concatenate[ItemT, P], None, list[None], Default]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[ItemT, P], Awaitable[None]], /
    ) -> FunctionNode[Concatenate[ItemT, P], Coro[None], list[None], Default]: ...


class Routes(Protocol):
    """Decorates a function that writes nothing: it returns ``None`` or its action."""

    @overload
    def __call__(self, function: Callable[P, None], /) -> FunctionNode[P, None, None, Default]: ...
    @overload
    def __call__(
        self, function: Callable[P, ActionT], /
    ) -> FunctionNode[P, ActionT, ActionT, ActionT]: ...
    @overload
    def __call__(
        self, function: Callable[P, Awaitable[None]], /
    ) -> FunctionNode[P, Coro[None], None, Default]: ...
    @overload
    def __call__(
        self, function: Callable[P, Awaitable[ActionT]], /
    ) -> FunctionNode[P, Coro[ActionT], ActionT, ActionT]: ...
    @overload
    def __call__(
        self, function: Callable[P, ActionT | Question[ActionT]], /
    ) -> FunctionNode[P, ActionT | Question[ActionT], ActionT, ActionT]: ...
    @overload
    def __call__(
        self, function: Callable[P, Awaitable[ActionT | Question[ActionT]]], /
    ) -> FunctionNode[P, Coro[ActionT | Question[ActionT]], ActionT, ActionT]: ...


@overload
def node(function: Callable[P, None], /) -> FunctionNode[P, None, None, Default]: ...
@overload
def node(function: Callable[P, ActionT], /) -> FunctionNode[P, ActionT, ActionT, ActionT]: ...
@overload
def node(
    function: Callable[P, Awaitable[None]], /
) -> FunctionNode[P, Coro[None], None, Default]: ...
@overload
def node(
    function: Callable[P, Awaitable[ActionT]], /
) -> FunctionNode[P, Coro[ActionT], ActionT, ActionT]: ...
@overload
def node(
    function: Callable[P, ActionT | Question[ActionT]], /
) -> FunctionNode[P, ActionT | Question[ActionT], ActionT, ActionT]: ...
@overload
def node(
    function: Callable[P, Awaitable[ActionT | Question[ActionT]]], /
) -> FunctionNode[P, Coro[ActionT | Question[ActionT]], ActionT, ActionT]: ...
@overload
def node(
    *, each: Iterable[ItemT], writes: list[WrittenT] | None, **settings: Unpack[EachSettings]
) -> WritesEach[ItemT, WrittenT]: ...
@overload
def node(*, each: Iterable[ItemT], **settings: Unpack[EachSettings]) -> ForEach[ItemT]: ...
@overload
def node(
    *, writes: tuple[*SomeT], actions: Literal[True], **settings: Unpack[FunctionSettings]
) -> WritesSomeAndRoutes[*SomeT]: ...
@overload
def node(
    *, writes: WrittenT, actions: Literal[True], **settings: Unpack[FunctionSettings]
) -> WritesAndRoutes[WrittenT]: ...
@overload
def node(*, writes: WrittenT, **settings: Unpack[FunctionSettings]) -> Writes[WrittenT]: ...
@overload
def node(**settings: Unpack[FunctionSettings]) -> Routes: ...
@lists_keywords(_Uses, EachSettings)
def node(function: Any = None, /, **settings: object) -> Any:
    """Turn a function into a node: ``@node``, or ``@node(writes=..., max_retries=...)``.

    Each parameter is a field of the store: by its name, or by a reference as its default
    (``text: str = A.summary``). With an ordinary default it is read if it is set. A parameter
    annotated as ``Store`` is the store itself; one whose default is a ``resource(...)`` is that
    object. The result is written to ``writes``. Without ``writes`` it is the action: ``None``, a
    ``Literal`` or a ``StrEnum``; with both ``writes`` and ``actions=True``, the action is the last
    element of a tuple. The function may be ``async def``.

    A function that returns a :class:`~pocoflow.question.Question` asks a person: the run pauses,
    and the answer is its result.

    With ``each`` it maps over the items of a field: its first parameter takes one item, ``writes``
    gets the list of the results in the order of the items, and retries, timeout and journal are per
    item.

    Args:
        function: The function, when used without arguments.
        settings: ``writes``, a field reference or a tuple of them, one per value of the tuple that
            the function returns; ``actions``, whether its action is the last of these values;
            ``name``; ``supplied``, the names of parameters whose arguments a decorator below
            ``@node`` supplies; ``max_retries``, ``retry_delay``, ``backoff``, ``jitter``,
            ``retry_on``, ``timeout``, ``journal``, ``executor`` as in :class:`Node`, which a
            function that takes the store cannot have: it runs in ``post``. With ``each``, a
            reference to a field: ``concurrency`` and ``on_error`` as in :class:`BatchNode`.

    Raises:
        DefinitionError: The function or a setting is invalid; the message names its location.
    """
    for setting in settings:
        if setting not in _SETTINGS:
            meant = closest(setting, _SETTINGS)
            if setting == "resources":
                meant = ": a function takes one as a parameter whose default is resource(...)"
            raise DefinitionError(
                f"@node has no setting {setting!r}{meant} (settings: {', '.join(_SETTINGS)})"
            )
    if function is not None:
        return _make(function, settings, sys._getframe(1).f_locals)

    def decorate(function: object, /) -> AnyFunctionNode:
        return _make(function, settings, sys._getframe(1).f_locals)

    return decorate


def _make(function: Any, given: Mapping[str, Any], names: Mapping[str, object]) -> AnyFunctionNode:
    settings = dict(given)
    writes, each, name = (settings.pop(key, None) for key in ("writes", "each", "name"))
    supplied, actions = settings.pop("supplied", ()), settings.pop("actions", False)
    signature = read_signature(function, writes, names, each, supplied, actions)
    if name is not None:
        check_name(f"the name of a node, @node(name=...) on {function.__name__},", name)
    for setting in settings:
        if setting in ITEM_SETTINGS and each is None:
            raise DefinitionError(
                f"@node({setting}=...) on {function.__name__} is for a node that works on items: "
                f"add each=..., or leave {setting} out"
            )
        if signature.takes_store:
            raise DefinitionError(
                f"@node({setting}=...) on {function.__name__}, which takes the whole store: it "
                "runs in post, where it can write, and post is neither repeated nor journaled; "
                f"take fields as parameters, or leave {setting} out"
            )
    return function_node(signature, name, settings)
