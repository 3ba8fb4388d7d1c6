"""Nodes: prep | exec | post, with retries, and the edges between them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeAlias, cast, overload

from typing_extensions import TypeVar

from pocoflow.address import check_name
from pocoflow.errors import DefinitionError
from pocoflow.messages import short
from pocoflow.nodes.call_checks import (
    about_settings,
    keyword_only,
    not_a_node,
    two_arguments,
)
from pocoflow.nodes.edge_checks import make_catch, make_limit, make_spent, warn_replaced
from pocoflow.nodes.edges import DEFAULT_ACTION, END, Catch, Edge, End, Outlet, wiring_changed
from pocoflow.nodes.phase_checks import check_called, check_phases
from pocoflow.nodes.porting import OF_POCKETFLOW, refuse_dead
from pocoflow.nodes.setting_checks import check_settings
from pocoflow.nodes.settings import RetryOn, Where
from pocoflow.store.fields import References
from pocoflow.store.store import Store
from pocoflow.values.callables import UNSET
from pocoflow.values.failures import Failure

PrepT = TypeVar("PrepT", default=Any)
ExecT = TypeVar("ExecT", default=Any)
PostT = TypeVar("PostT", bound=str | None, default=str | None)
ActionT = TypeVar("ActionT", bound=str | None, default=Any)

AnyNode: TypeAlias = "Node[Any, Any, Any]"
"""A node, whatever its types."""

ErrorT = TypeVar("ErrorT", bound=Exception)
FieldT = TypeVar("FieldT")


CACHED = frozenset({"built", "_in_graph", "_described", "_known_plan"})
"""The attributes in which a node caches what it has derived."""


def mark_in_graph(node: NodeLike) -> None:
    """Mark a node as part of a graph; to be called before the node is read for the graph."""
    node._in_graph = True


def check_target(owner: str, target: object) -> NodeLike | End:
    """The target of an edge, where ``None`` is ``END``, or an error that begins with ``owner``.

    Raises:
        DefinitionError: It is neither a node nor ``END``.
    """
    if target is None or isinstance(target, End):
        return END
    if isinstance(target, Node):
        mark_nested(target)
        return target
    raise DefinitionError(f"{owner}: the target must be a node or END, not {not_a_node(target)}")


def _check_action(owner: str, action: object, hint: str = "") -> str:
    """An action as plain text, or an error that begins with ``owner``."""
    if not isinstance(action, str) or not action:
        raise DefinitionError(
            f"{owner}: the action must be a non-empty string, not {action!r}{hint}"
        )
    return str.__str__(action)


def make_edge(
    owner: str,
    action: str,
    target: object,
    location: tuple[str, int],
    limit: tuple[object, object],
    catch: Catch | None = None,
) -> Edge[NodeLike]:
    """An edge that was written, or an error that begins with ``owner``.

    Raises:
        DefinitionError: It leads nowhere, or its limit lacks a part or has no effect.
    """
    end, (at_most, then) = check_target(owner, target), limit
    if at_most is None and then is UNSET:
        return Edge(action, end, *location, catch)
    if then is not UNSET:
        then = check_target(f"{owner}, then={short(then)}", then)
    return Edge(action, end, *location, catch, make_limit(owner, end, at_most, then))


def mark_nested(node: NodeLike) -> None:
    """Mark a node as part of a flow, or of an edge; an unmarked flow is run by itself."""
    if isinstance(node, Composite) and not node.is_part:
        node.is_part = True


class Composite:
    """A node that contains other nodes: a flow, or a node with parallel branches.

    Attributes:
        made_at: File and line where it was created.
        is_part: Whether it is a part of a flow, or of an edge.
        has_hooks: Whether hooks are notified of its runs.
        built: A version of the wiring, and the graphs inside for it; built on demand.
    """

    made_at: tuple[str, int] | None = None
    is_part: bool = False
    has_hooks: bool = False
    built: tuple[int, tuple[Any, ...]] | None = None

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The state of a copy, in a dict and in slots, without what is cached here."""
        state: Any = object.__getstate__(self)
        attributes, slots = state if type(state) is tuple else (state, {})
        return {name: value for name, value in attributes.items() if name not in CACHED}, slots


class NodeLike(Generic[ActionT]):
    """What edges connect: a node, or a flow, which can be a node of other flows.

    Attributes:
        is_flow: Whether it is a flow.
    """

    is_flow: ClassVar[bool] = False

    _name: str | None
    _edges: dict[str, Edge[NodeLike]]
    _replaced: list[tuple[Edge, Edge]]
    _in_graph: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: D102 - see the class
        node = super().__new__(cls)
        try:
            # Set here and not in __init__, so that a subclass may omit super().__init__().
            node._name = None
            node._edges = {}
            node._replaced = []
        except Exception as exc:
            raise DefinitionError(
                f"{cls.__name__} refuses to be written to ({type(exc).__name__}): a node is given "
                "its name and its edges, so it cannot be frozen; use @dataclass(eq=False)"
            ) from exc
        check_called(cast(Any, cls))
        check_phases(node)
        check_settings(node)
        return node

    @two_arguments
    def then(
        self,
        action: ActionT | Literal["*", "default"],
        target: NodeLike | End | None,
        /,
        *,
        at_most: int | None = None,
        then: NodeLike | End | None = UNSET,
    ) -> Self:
        """Go to ``target`` when ``post`` returns ``action``; ``"*"`` catches any other action.

        The edge belongs to the node, in every flow. ``flow.then`` writes one for a single flow.

        Args:
            action: The action.
            target: The node that comes next, or ``END``.
            at_most: How often the edge is taken, counted from the beginning of the run or, in a
                nested flow or a parallel branch, of that; a resume continues counting.
            then: Where the edge leads after that, a node or ``END``; needed with ``at_most``.

        Returns:
            This node, so that its edges chain: ``a.then("ok", b).then("error", c)``.

        Raises:
            DefinitionError: ``action`` is not a non-empty string, ``target`` is neither a node nor
                ``END``, or the limit lacks a part or has no effect.
        """
        frame = sys._getframe(2)  # behind two_arguments
        location = (frame.f_code.co_filename, frame.f_lineno)
        self._add_edge(action, target, location, (at_most, then))
        return self

    def _add_edge(
        self,
        action: object,
        target: object,
        location: tuple[str, int],
        limit: tuple[object, object],
    ) -> None:
        swapped = ": the action comes first" if isinstance(target, str) else ""
        plain = _check_action(f"{self.name}.then(action, target)", action, swapped)
        where = f"{self.name}.then({plain!r}, target) at {location[0]}:{location[1]}"
        edge = make_edge(where, plain, target, location, limit)
        before = self._edges.get(edge.action)
        # New containers, so that a copy of a node that shares them is not wired along with it.
        if before is not None and not before.leads_like(edge):
            self._replaced = [*self._replaced, (before, edge)]
            warn_replaced(self.name, before, edge)
        self._edges = {**self._edges, edge.action: edge}
        wiring_changed(self._in_graph)

    def when(self, action: ActionT | Literal["*"], /) -> Outlet:
        """One action of this node, as the source of an edge: ``flow.then(node.when("bad"), fix)``.

        ``"*"`` stands for any action without an edge of its own, ``None`` for the default action.

        Raises:
            DefinitionError: ``action`` is not a non-empty string.
        """
        given = DEFAULT_ACTION if action is None else action
        return Outlet(self, _check_action(f"{self.name}.when(action)", given))

    @overload
    def catch(self, /, *kinds: type[Exception]) -> Catch: ...
    @overload
    def catch(self, /, *kinds: type[Exception], writes: Failure | None) -> Catch: ...
    @overload
    def catch(
        self, /, *kinds: type[ErrorT], writes: FieldT, value: Callable[[ErrorT], FieldT]
    ) -> Catch: ...
    def catch(self, /, *kinds: object, writes: object = None, value: object = None) -> Catch:
        """Errors of this node, as the source of an edge of a flow.

        ``flow.then(fetch.catch(TimeoutError), give_up)`` goes to ``give_up`` when ``fetch`` raises
        one, in any phase, after its retries and its fallback. For a flow that is a node, and a
        node with parallel branches, these are the errors that nothing inside of them catches. The
        step is then finished: what the node has written to the store remains, and a run that is
        resumed continues after it. The cancellation of a run, and a database that cannot be
        written, are not caught. Of several edges that match, the first that was written is taken.

        Args:
            kinds: Classes of exceptions, including their subclasses.
            writes: The field that the exception is stored in, as a
                :class:`~pocoflow.failure.Failure`, or as what ``value`` returns.
            value: A function from the exception to the value of that field.

        Raises:
            DefinitionError: An argument makes no sense.
        """
        return make_catch(self, kinds, writes, value)

    def when_spent(self, /, *names: str) -> Catch:
        """Budgets that are spent, as the source of an edge.

        ``flow.then(write.when_spent("usd"), wrap_up)`` goes to ``wrap_up`` when the run, or the
        node, has spent as much as it may. The edge is taken instead of that of the action once this
        node is done, and instead of its ``post`` if one of its journaled calls was refused. From
        there on the run continues without that budget, except for journaled calls, which are
        refused as long as it is spent.

        Args:
            names: The names of what is spent; any budget if there are none.

        Raises:
            DefinitionError: A name is no text.
        """
        return make_spent(self, names)

    @property
    def replaced(self) -> Sequence[tuple[Edge, Edge]]:
        """Edges that were replaced, each with its replacement."""
        return self._replaced

    @property
    def edges(self) -> Mapping[str, Edge[NodeLike]]:
        """The node's edges by action, read-only."""
        return MappingProxyType(self._edges)

    @property
    def name(self) -> str:
        """The node's name; its class name until it is set."""
        return self._name if self._name is not None else type(self).__name__

    @name.setter
    def name(self, name: str) -> None:
        check_name(f"the name of a node ({type(self).__name__})", name)
        self._name = name
        wiring_changed(self._in_graph)

    def __repr__(self) -> str:
        name = "" if self.name == type(self).__name__ else f" {self.name!r}"
        return f"<{type(self).__name__} node{name}>"


class Node(NodeLike[PostT], Generic[PrepT, ExecT, PostT]):
    """One step of a flow: ``prep`` reads the store, ``exec`` works, ``post`` writes and routes.

    ``Node[Prep, Exec, Post]`` names the type that ``prep`` returns and ``exec`` takes, the type
    that ``exec`` returns, and the actions of ``post`` as a ``Literal``, which is also checked in a
    run. All have defaults, so ``class A(Node)`` is fine. Each phase may be ``async def``.

    Attributes:
        name: The node's name in graphs, logs and the database; the class name by default.
        max_retries: Attempts of ``exec``, at least 1. ``3`` means: one call and two more.
        retry_delay: Seconds between two attempts.
        backoff: Factor by which the delay grows from attempt to attempt, at least 1.
        jitter: Share of the delay, 0 to 1, that is added at random so that clients do not retry in
            step.
        retry_on: Exceptions that are retried: a class, a tuple of classes, or a function from the
            exception to a bool. A ``DefinitionError`` never is.
        timeout: Seconds that one attempt of ``exec`` may take, or ``None``. An ``async`` exec is
            cancelled; a synchronous one runs in a thread of its own that Python cannot stop, so
            after the timeout it continues unobserved and its result is dropped.
        journal: Whether, in a flow with a database, the result of ``exec`` is committed before
            ``post`` runs, so that a crash or a bug in ``post`` does not pay for it twice. Turn it
            off for a cheap ``exec``: a step is then one commit instead of two.
        resources: The keys of the :func:`resource` objects that the node takes from
            ``context()[key]``; a run must have been given them, or opens them, before its first
            node.
        executor: Where ``exec`` is called: an executor of ``concurrent.futures``, or a function
            that returns one; ``"here"`` for the process of the run; ``None`` as set by the flow.
            The node is found there by its name; its input and result travel as stored values.

    Raises:
        DefinitionError: When the node is built with ``max_retries`` below 1 or another invalid
            setting, or with a phase that is never called, such as ``prep_async``.
    """

    max_retries: int = 1
    retry_delay: float = 0.0
    backoff: float = 1.0
    jitter: float = 0.0
    retry_on: RetryOn = Exception
    timeout: float | None = None
    journal: bool = True
    resources: References = ()
    executor: Where = None

    is_batch: ClassVar[bool] = False

    def __init_subclass__(cls, **settings: Any) -> None:
        try:
            super().__init_subclass__(**settings)
        except TypeError as exc:
            if cls.is_flow or "takes no keyword arguments" not in str(exc):
                raise
            what = f"class {cls.__name__}(...) takes bases alone"
            raise TypeError(about_settings(what, cls, settings)) from None
        refuse_dead(cls)

    @keyword_only
    def __init__(self, *, name: str | None = None) -> None:
        """Build a node; ``name`` distinguishes it from others of its class in one flow."""
        if name is not None:
            self.name = name

    # -- the three phases ---------------------------------------------------------------------

    def prep(self, store: Store, /) -> PrepT | Awaitable[PrepT]:
        """Read from the store what ``exec`` needs. Returns ``None`` unless overridden."""
        return cast(PrepT, None)

    def exec(self, prep_result: PrepT, /) -> ExecT | Awaitable[ExecT]:
        """Do the work, without the store; retried on failure. ``None`` unless overridden."""
        return cast(ExecT, None)

    def post(
        self, store: Store, prep_result: PrepT, exec_result: ExecT, /
    ) -> PostT | Awaitable[PostT]:
        """Write results to the store and return the action; ``"default"`` unless overridden."""
        return cast(PostT, DEFAULT_ACTION)

    def exec_fallback(self, prep_result: PrepT, exc: Exception, /) -> ExecT | Awaitable[ExecT]:
        """Return a result when the last attempt of ``exec`` failed; raises ``exc`` by default."""
        raise exc

    if not TYPE_CHECKING:  # a type checker should refuse PocketFlow's attributes
        vars().update(OF_POCKETFLOW)


def made_of(node: AnyNode) -> Any:
    """What a node is made of: the function that ``@node`` decorates, or its class."""
    return vars(node).get("__wrapped__", type(node))  # no attribute hook of a class is run
