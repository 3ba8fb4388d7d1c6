"""A plain function as a node, with its arguments taken from the store by name.

The arguments are collected in ``prep``, the function is called in ``exec`` (so it is retried and
journaled), and ``post`` writes its result or returns it as the action. A function with a ``Store``
parameter writes to the store itself, so it is called in ``post``: one commit, and no retry.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Mapping
from functools import update_wrapper
from typing import Any, Generic, Literal, ParamSpec, TypeAlias, overload

from typing_extensions import TypeVar

from pocoflow.errors import ActionError, DefinitionError, InvalidValueError, ReferenceMisuseError
from pocoflow.messages import closest, short
from pocoflow.nodes.base import ExecT, Node, PostT
from pocoflow.nodes.context import context
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.node_kinds import items_of
from pocoflow.nodes.question import AnswerT, Question, Reply
from pocoflow.nodes.setting_checks import check_settings
from pocoflow.nodes.signature import Signature
from pocoflow.store.store import Store

# Contravariant, so that FunctionNode[[str], ...], as a factory returns it, is any function that can
# be called with a string. mypy treats every ParamSpec so, and has no syntax for it.
P = ParamSpec("P", contravariant=True)  # type: ignore[misc]  # noqa: PLC0105
CallT = TypeVar("CallT")

Arguments: TypeAlias = dict[str, Any]
"""What a function is called with, by parameter."""

AnyFunctionNode: TypeAlias = "FunctionNode[..., Any, Any, Any]"

_UNREAD: Any = ...


class FunctionNode(Node[Arguments, ExecT, PostT], Generic[P, CallT, ExecT, PostT]):
    """A node made from a function by ``@node``; calling it calls the function.

    Attributes:
        signature: What the function reads, writes and returns.
        by_parameter: The resources that it takes, by parameter.
    """

    def __init__(
        self, signature: Signature, name: str | None, settings: Mapping[str, object]
    ) -> None:
        function = signature.function
        update_wrapper(self, function, updated=())
        super().__init__(name=function.__name__ if name is None else name)
        self.signature = signature
        self._function = function
        taken = signature.parameters
        self.by_parameter = {it.name: it.resource for it in taken if it.resource is not None}
        self._read = [(it.name, it.field.name, it.required) for it in taken if it.field is not None]
        self._stores = [it.name for it in taken if it.takes_store]
        self.resources = tuple(self.by_parameter.values())
        self._written = [field.name for field in signature.writes]
        self._declared: tuple[str, ...] | None = _UNREAD
        for setting, value in settings.items():
            setattr(self, setting, value)
        check_settings(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> CallT:
        """Call the function itself, as in a unit test: no store, no run, no retry.

        Raises:
            ReferenceMisuseError: An argument is missing whose default is a reference to a field or
                a resource (a ``TypeError``).
        """
        for position, param in enumerate(self.signature.parameters):
            is_reference = param.by_reference or param.resource is not None
            if is_reference and position >= len(args) and param.name not in kwargs:
                source = f"field {param.field}" if param.resource is None else repr(param.resource)
                raise ReferenceMisuseError(
                    f"{self._function.__name__}() is called as a plain function without "
                    f"{param.name!r}, which only a run takes from {source}: give it as an argument"
                )
        result: CallT = self._function(*args, **kwargs)
        return result

    def prep(self, store: Store, /) -> Arguments:
        """Take the arguments from the store, by parameter."""
        arguments: Arguments = {}
        for name, field, required in self._read:
            # store[...] says what was not saved
            if required or field in store or field in store.unsaved:
                arguments[name] = store[field]
        return arguments

    def post(self, store: Store, prep_result: Arguments, exec_result: ExecT, /) -> Any:
        """Write the result, or return it as the action."""
        written, result = self._written, exec_result
        chooses, unpacks = self.signature.chooses, self.signature.unpacks
        if not written:
            return DEFAULT_ACTION if self.is_batch else self._action(result)
        if not (chooses or unpacks):
            try:
                store.give(written[0], result)
            except InvalidValueError as exc:
                if result is not None:
                    raise
                raise InvalidValueError(
                    f"function {self._function.__name__!r} of node {self.name!r} returned None; is "
                    f"a 'return' missing? {exc}"
                ) from None
            return DEFAULT_ACTION
        count = len(written) + chooses
        if not isinstance(result, tuple) or len(result) != count:
            given = len(result) if isinstance(result, tuple) else f"{type(result).__name__}:"
            what, last = (" and chooses its action", ", the action last") if chooses else ("", "")
            raise InvalidValueError(
                f"node {self.name!r} writes {', '.join(map(repr, written))}{what}, so it returns a "
                f"tuple of {count}{last}, not {given} {short(result)}"
            )
        action = self._action(result[-1]) if chooses else DEFAULT_ACTION
        if unpacks:
            store.put(dict(zip(written, result, strict=False)))
        else:
            store.give(written[0], result[0])
        return action

    @property
    def actions(self) -> tuple[str, ...] | None:
        """The actions that the function can return; ``None`` if its annotation is unknown.

        Raises:
            DefinitionError: A name in its annotation is known by now and is not a set of actions.
        """
        if self._declared is _UNREAD or self._declared is None:
            try:
                self._declared = self.signature.actions()
            except TypeError as exc:
                other = "" if self.signature.chooses else ", or use writes="
                raise DefinitionError(
                    f"node {self.name!r} returns {exc}, which would be an action: declare the "
                    f"actions as a Literal or a StrEnum{other}"
                ) from None
        return self._declared

    @overload
    def reply(
        self: FunctionNode[..., AnswerT | Question[AnswerT], AnswerT, Any],
        answer: AnswerT,
        /,
        *,
        by: str | None = None,
    ) -> Reply[AnswerT]: ...
    @overload
    def reply(
        self: FunctionNode[..., Coroutine[Any, Any, AnswerT | Question[AnswerT]], AnswerT, Any],
        answer: AnswerT,
        /,
        *,
        by: str | None = None,
    ) -> Reply[AnswerT]: ...
    def reply(self, answer: object, /, *, by: str | None = None) -> Reply:
        """An answer for ``flow.answer(run_id, node.reply(answer))``, if the function asks."""
        return Reply(self, answer, by)

    def _arguments(self, prepared: Arguments, store: object = None) -> Arguments:
        run: Any = context() if self.by_parameter else None
        objects = {name: run[key] for name, key in self.by_parameter.items()}
        return {**prepared, **objects, **dict.fromkeys(self._stores, store)}

    def _action(self, result: object) -> object:
        declared = self.actions if self._declared is _UNREAD else self._declared
        action = DEFAULT_ACTION if result is None else result
        if declared is None:
            return action
        if isinstance(action, str) and action in declared:
            return str.__str__(action)
        shown = short(result)
        if "return" not in self.signature.hints:
            is_action = isinstance(result, str) and result.isidentifier()
            declare = f"-> Literal[{result!r}]" if is_action else "-> Literal[...]"
            raise ActionError(
                f"function {self._function.__name__!r} of node {self.name!r} has no return "
                f"annotation, so that it has the action None only, and it returned {shown}: write "
                f"a result to the store, @node(writes=...), or declare the actions, {declare}"
            )
        allowed = ", ".join("None" if name == DEFAULT_ACTION else repr(name) for name in declared)
        near = closest(result, declared) if isinstance(result, str) else ""
        if result is None:
            near = "; is a 'return' missing?"
        raise ActionError(
            f"node {self.name!r} returned {shown}, which is not among its actions "
            f"({allowed or 'none'}){near or '; a result for the store needs @node(writes=...)'}"
        )

    def __repr__(self) -> str:
        return f"<node {self.name!r} from {self.__module__}.{self._function.__qualname__}>"


class EachNode(FunctionNode[P, CallT, Any, PostT], Generic[P, CallT, AnswerT, PostT]):
    """A node made from a function that may ask about each item; an answer is for one item."""

    def reply(self, answer: AnswerT, /, *, by: str | None = None) -> Reply[AnswerT]:
        """An answer for ``flow.answer(run_id, node.reply(answer), question=...)``."""
        return Reply(self, answer, by)


class _Function(FunctionNode[P, CallT, ExecT, PostT]):
    def exec(self, prep_result: Arguments, /) -> ExecT | Awaitable[ExecT]:
        given = self._arguments(prep_result) if self.by_parameter else prep_result
        result: ExecT | Awaitable[ExecT] = self._function(**given)
        return result


class _Mapped(_Function[P, CallT, ExecT, PostT]):
    """Maps the function over the items of a field: ``prep`` returns the arguments for each."""

    is_batch = True
    concurrency: int = 1
    on_error: Literal["stop", "collect"] = "stop"

    def prep(self, store: Store, /) -> Any:
        field, item_name = self.signature.each, self.signature.parameters[0].name
        assert field is not None  # of a function that works on items
        rest = super().prep(store)
        return ({item_name: item, **rest} for item in items_of(self, store, field.name))


class _StoreFunction(FunctionNode[P, CallT, ExecT, PostT]):
    def post(self, store: Store, prep_result: Arguments, _: ExecT, /) -> Any:
        result = self._function(**self._arguments(prep_result, store))
        if self.signature.is_async:
            return self._post(store, prep_result, result)
        return super().post(store, prep_result, result)

    async def _post(self, store: Store, prep_result: Arguments, result: Awaitable[ExecT]) -> Any:
        return super().post(store, prep_result, await result)


def function_node(
    signature: Signature, name: str | None, settings: Mapping[str, object]
) -> AnyFunctionNode:
    """The node of a function, of the class that its signature requires."""
    kind: type[AnyFunctionNode] = _Function
    if signature.each is not None:
        kind = _Mapped
    elif signature.takes_store:
        kind = _StoreFunction
    return kind(signature, name, settings)
