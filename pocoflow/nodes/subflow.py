"""``Subflow``: a flow as a node, on a store of its own, with fields passed in and out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from pocoflow.errors import DefinitionError
from pocoflow.messages import short, users_line
from pocoflow.nodes.base import Node, NodeLike
from pocoflow.nodes.parallel import BranchEnd, SplitNode, Start
from pocoflow.store.fields import StoreField, reference_of
from pocoflow.store.store import Store
from pocoflow.values.copies import stored_copy

T = TypeVar("T")


class Link(NamedTuple):
    """A field of one store that is set to a field of another; ``bind(target).to(source)``.

    Attributes:
        target: The field that is set.
        source: The field whose value it is set to.
        written: File and line of the ``bind``.
    """

    target: StoreField
    source: StoreField
    written: tuple[str, int] | None = None

    def __repr__(self) -> str:
        return f"bind({self.target}).to({self.source})"


class Bound(Generic[T]):
    """The first half of a link: the field that is set."""

    def __init__(self, target: StoreField) -> None:
        self._target = target
        self._written = users_line()

    def to(self, source: T, /) -> Link:
        """Name the field whose value it is set to.

        Raises:
            DefinitionError: ``source`` is not a field reference.
        """
        return Link(self._target, reference_of("bind(...).to(source)", source), self._written)

    def __repr__(self) -> str:
        return f"<bind {self._target}>"


def bind(target: T, /) -> Bound[T]:
    """Declare which field of another store a field is set from: ``bind(S.text).to(A.document)``.

    A type checker sees whether the types of the two fields fit.

    Args:
        target: A reference to the field that is set, ``fields(Model).name`` or ``key("name")``.

    Raises:
        DefinitionError: ``target`` is not a field reference.
    """
    return Bound(reference_of("bind(target)", target))


class FlowLike(Protocol):
    """A flow, as far as it is needed here.

    Attributes:
        start: Its first node.
    """

    start: NodeLike


class Subflow(SplitNode[Any]):
    """Runs a flow on a store of its own, under the schema of that flow.

    The flow sees only those fields of the outer store that ``inputs`` pass in, and changes only
    those that ``outputs`` pass back; its nodes are steps of the run, and the action that ends it is
    the action of this node.

    Args:
        flow: The flow.
        inputs: Fields of its store, set from fields of the outer store when it begins:
            ``[bind(S.text).to(A.document)]``.
        outputs: Fields of the outer store, set from fields of its store when it ends:
            ``[bind(A.summary).to(S.summary)]``.
        name: The node's name; that of the flow by default.

    Raises:
        DefinitionError: An argument is invalid.
    """

    def __init__(
        self,
        flow: FlowLike,
        *,
        inputs: Iterable[Link] = (),
        outputs: Iterable[Link] = (),
        name: str | None = None,
    ) -> None:
        given: object = flow
        if not (isinstance(given, Node) and given.is_flow):
            raise DefinitionError(f"Subflow(flow) takes a flow, not {short(given)}")
        super().__init__((given,), 1, {"name": given.name if name is None else name})
        self.flow: Any = flow
        self.inputs = self._links("inputs", inputs)
        self.outputs = self._links("outputs", outputs)

    def _links(self, argument: str, links: Iterable[Link]) -> tuple[Link, ...]:
        given: Any = links
        is_several = isinstance(given, Iterable) and not isinstance(given, Link)  # a tuple, too
        several = tuple(given) if is_several else (None,)
        if not all(isinstance(link, Link) for link in several):
            raise DefinitionError(
                f"Subflow {self.name!r}: {argument} takes a list, [bind(target).to(source)], "
                f"not {short(given)}"
            )
        targets = [link.target.name for link in several]
        for target in targets:
            if targets.count(target) > 1:
                raise DefinitionError(
                    f"Subflow {self.name!r}: {argument} set {target!r} more than once"
                )
        return several

    @property
    def actions(self) -> tuple[str, ...] | None:
        """The actions that can end the flow; ``None`` if they are not known."""
        actions: tuple[str, ...] | None = self.flow.graph.final_actions()
        return actions

    def prep(self, store: Store, /) -> dict[str, Any]:
        """Read the inputs."""
        return {link.target.name: store[link.source.name] for link in self.inputs}

    def starts(self, given: Any, store: Store) -> Iterator[Start]:
        """The flow, once, on its own store."""
        under = _definitions(self.inputs, store)
        base = Store.over(dict(given), self.flow.schema, self.name, under)
        yield Start(self.name, 0, {}, base=base, handed=frozenset(given))

    def post(self, store: Store, given: Any, ends: list[BranchEnd], /) -> Any:
        """Write the outputs; returns the action that ended the flow."""
        (end,) = ends
        inner = end.store
        if inner is not None:
            results: dict[str, Any] = {}
            for target, source, _ in self.outputs:
                value = inner[source.name]
                # Fields must not share a value, as they would not after a resume.
                is_shared = any(value is other for other in results.values())
                results[target.name] = stored_copy(value) if is_shared else value
            store.put(results, _definitions(self.outputs, inner))
        return end.action


def _definitions(links: Iterable[Link], source: Store) -> dict[str, str]:
    """The definitions under which the source store accepted its values."""
    known = source.definitions
    return {
        link.target.name: known[link.source.name] for link in links if link.source.name in known
    }
