"""``Parallel`` and ``FanOut``: nodes whose branches run concurrently on views of the store."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from typing_extensions import TypedDict, TypeVar, Unpack

from pocoflow.errors import DefinitionError
from pocoflow.messages import closest, users_line
from pocoflow.nodes.base import Composite, Node, NodeLike, mark_nested
from pocoflow.nodes.call_checks import not_a_node
from pocoflow.nodes.edges import DEFAULT_ACTION
from pocoflow.nodes.node_kinds import items_of
from pocoflow.nodes.phase_checks import refuse_settings
from pocoflow.nodes.setting_checks import check_items
from pocoflow.store.branch_view import BranchStore, merge
from pocoflow.store.fields import References, reference_of
from pocoflow.store.store import Store
from pocoflow.values.callables import lists_keywords
from pocoflow.values.failures import Failure

ItemT = TypeVar("ItemT")
EndT = TypeVar("EndT", bound=str | None, default=Any)

OnError = Literal["stop", "collect"]
Ended = Literal["default", "failed"]

NO_ITEM: object = object()

FAILED: Literal["failed"] = "failed"
"""The action of a node that collects failures, if there are any."""


class Start(NamedTuple):
    """A branch to be run.

    Attributes:
        name: Its name in messages.
        template: The number of the node or flow that it runs.
        private: Values that only this branch has.
        hidden: Keys whose values are not merged.
        base: The store that it works on, if it has one of its own.
        item: The item that it works on, if its branches differ by their items.
        number: The number of the item.
        origin: The field that the items are from.
        handed: The keys of ``base`` that were passed in.
    """

    name: str
    template: int
    private: Mapping[str, object]
    hidden: frozenset[str] = frozenset()
    base: Store | None = None
    item: object = NO_ITEM
    number: int | None = None
    origin: str | None = None
    handed: frozenset[str] = frozenset()

    def numbered(self, number: int) -> Start:
        """The same branch, with the number of its item in its name."""
        if self.item is NO_ITEM:
            return self
        return self._replace(name=f"{self.name}[{number}]", number=number)


class BranchEnd(NamedTuple):
    """A branch that has ended.

    Attributes:
        name: Its name.
        store: Its store; ``None`` if it failed.
        action: The action that ended it.
        failure: How it failed, if it did.
    """

    name: str
    store: BranchStore | None
    action: str = DEFAULT_ACTION
    failure: Failure | None = None


class BranchSettings(TypedDict, total=False, closed=True):
    """The settings of nodes with parallel branches; :class:`Parallel` explains them."""

    name: str | None
    on_error: OnError
    errors: list[Failure] | None
    private: References


class SplitNode(Composite, Node[Any, Any, EndT]):
    """Runs other nodes, or flows, on stores of their own: the base of all such nodes.

    Attributes:
        branches: The nodes or flows that run as branches.
        limit: How many run at once; ``None`` for all of them.
        collects: Whether failures are collected.
        private: Keys that are private to each branch.
        errors: The key that the list of failures is written to, if there is one.
    """

    def __init__(
        self, branches: tuple[NodeLike, ...], limit: int | None, settings: BranchSettings
    ) -> None:
        for setting in settings:
            if setting not in BranchSettings.__annotations__:
                near = closest(setting, BranchSettings.__annotations__)
                raise TypeError(f"{type(self).__name__}(...) takes no {setting!r}{near}")
        super().__init__(name=settings.get("name"))
        refuse_settings(self)
        on_error, errors = settings.get("on_error", "stop"), settings.get("errors")
        self.made_at = users_line()
        for branch in branches:
            given: object = branch
            if not isinstance(given, Node):
                hint = "; write it without the list" if isinstance(given, (list, tuple)) else ""
                raise DefinitionError(
                    f"{self.name}: a branch is a node or a flow, not {not_a_node(given)}{hint}"
                )
            mark_nested(given)
        check_items(f"{self.name}: ", 1 if limit is None else limit, on_error)
        if errors is not None and on_error != "collect":
            raise DefinitionError(f"{self.name}: errors= needs on_error='collect'")
        self.branches = branches
        self.limit = limit
        self.collects = on_error == "collect"
        self.private = frozenset(
            reference_of("private", field).name for field in settings.get("private", ())
        )
        self.errors = None if errors is None else reference_of("errors", errors).name

    @property
    def actions(self) -> tuple[str, ...] | None:
        """The actions that it can return; ``None`` if they are not known."""
        return (DEFAULT_ACTION, FAILED) if self.collects else (DEFAULT_ACTION,)

    @abstractmethod
    def starts(self, given: Any, store: Store) -> Iterator[Start]:
        """The branches to run, from what ``prep`` returned."""


class _Merging(SplitNode[Ended]):
    """Merges what its branches wrote."""

    def post(self, store: Store, given: Any, ends: list[BranchEnd], /) -> Ended:
        """Merge what the branches wrote."""
        merge(store, [(end.name, end.store.writes()) for end in ends if end.store is not None])
        failures = [end.failure for end in ends if end.failure is not None]
        if self.errors is not None:
            store.give(self.errors, failures)
        return FAILED if failures else "default"


class Parallel(_Merging):
    """Runs several branches concurrently, each on a view of the store, and merges their writes.

    A branch is a node, with the edges that the node has, or a flow. It sees the store as it was
    when the branches began. A key that one branch changed is set when all have ended; one that
    several changed needs a reducer, which gets their increments in the order of the branches.

    Args:
        branches: Nodes or flows with different names.
        name: The node's name.
        on_error: ``"stop"``: the first failure cancels the other branches and fails the run.
            ``"collect"``: the others continue, the writes of the failed ones are dropped, and the
            action is ``"failed"``.
        errors: The field that the list of failures is written to, with ``"collect"``.
        private: Fields that are private to each branch, for what its nodes pass to one another:
            what is written there is not merged.

    Raises:
        DefinitionError: An argument is invalid, or two branches have the same name.
    """

    @lists_keywords(BranchSettings)
    def __init__(self, *branches: NodeLike, **settings: Unpack[BranchSettings]) -> None:
        super().__init__(branches, None, settings)
        if not branches:
            raise DefinitionError(f"{self.name}: name the branches: Parallel(first, second)")
        names = [branch.name for branch in branches]
        for branch in set(names):
            if names.count(branch) > 1:
                raise DefinitionError(
                    f"{self.name}: several branches have the name {branch!r}: give them a name= of "
                    "their own"
                )

    def starts(self, given: Any, store: Store) -> Iterator[Start]:
        """Each branch once."""
        for number, branch in enumerate(self.branches):
            yield Start(branch.name, number, {}, self.private)


class FanOut(_Merging):
    """Runs the same branch for each item of a field, several at once; otherwise :class:`Parallel`.

    Args:
        branch: A node or a flow.
        each: The field that holds the items.
        as_: The field that holds the item in the branch; it is not merged.
        concurrency: How many items are processed at once.
        name: The node's name.
        on_error: As in :class:`Parallel`.
        errors: As in :class:`Parallel`.
        private: As in :class:`Parallel`.

    Raises:
        DefinitionError: An argument is invalid.
    """

    @lists_keywords(BranchSettings)
    def __init__(
        self,
        branch: NodeLike,
        *,
        each: Iterable[ItemT],
        as_: ItemT,
        concurrency: int = 10,
        **settings: Unpack[BranchSettings],
    ) -> None:
        super().__init__((branch,), concurrency, settings)
        self.each = reference_of("each", each).name
        self.item = reference_of("as_", as_).name

    def prep(self, store: Store, /) -> Any:
        """The items."""
        return items_of(self, store, self.each)

    def starts(self, given: Any, store: Store) -> Iterator[Start]:
        """The branch for each item."""
        for item in given:
            yield Start(
                self.branches[0].name,
                0,
                {self.item: item},
                self.private,
                item=item,
                origin=self.each,
            )
