"""What a flow does before it runs: it proves that its graph fits together."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import TYPE_CHECKING, TypeAlias

from pocoflow.graph.graph import Graph
from pocoflow.logging import OwnLogger
from pocoflow.store.store import Store

if TYPE_CHECKING:
    from pocoflow.check import Proof, Subject

_log = OwnLogger("flow")

Key: TypeAlias = tuple[object, object, object]
"""Where a run begins, which a change of wiring makes anew; the schema of its store; its home."""


class Proofs:
    """The proofs of one flow, each made once for a wiring, a beginning and a database.

    What flows that are made alike share is kept by :class:`Proof` itself.

    Attributes:
        remarks: What was logged of the wiring, for the record of each run.
    """

    def __init__(self) -> None:
        self._of: tuple[Graph, dict[object, Proof]] | None = None
        self._told: Graph | None = None
        self.remarks: tuple[str, ...] = ()
        self._last: tuple[Key, Proof] | None = None

    def find(self, graph: Graph, facts: tuple[object, ...], make: Callable[[], Subject]) -> Proof:
        """The proof for what the facts say, made if there is none that is current."""
        if self._of is None or self._of[0] is not graph:
            self._of = (graph, {})
        known = self._of[1]
        proof = known.get(facts)
        if proof is None or not proof.is_current:
            from pocoflow.check import Proof

            proof = known[facts] = Proof(make())
        return proof

    def look_again(self) -> None:
        """Find the proof of the next run anew, as what it is of may have changed."""
        self._last = None

    def admits(self, key: Key, store: Store) -> bool:
        """Whether the proof that was asked for last is known by the key and lets a store pass."""
        proof = self._latest(key)
        return proof is not None and _passes(proof, store)

    def stop(self, key: Key, graph: Graph, store: Store, find: Callable[[], Proof]) -> None:
        """Stop a run that cannot work out.

        Args:
            key: What the proof is known by.
            graph: The graph.
            store: The store of the run.
            find: Gives the proof; the last one is at hand.

        Raises:
            FlowValidationError: The flow has errors.
            MissingInputError: A key that it needs is not in the store.
        """
        proof = self._latest(key) or self._take(key, graph, find)
        if not _passes(proof, store):
            if not proof.is_current:
                proof = self._take(key, graph, find)
            proof.check((*store, *store.unsaved))

    def _latest(self, key: Key) -> Proof | None:
        last = self._last
        return last[1] if last is not None and all(map(is_, last[0], key)) else None

    def _take(self, key: Key, graph: Graph, find: Callable[[], Proof]) -> Proof:
        proof = find()
        self._tell(graph, proof)
        self._last = key, proof
        return proof

    def _tell(self, graph: Graph, proof: Proof) -> None:
        """Log what a run notices too late or not at all, once for a wiring."""
        if self._told is not graph:
            self._told = graph
            self.remarks = tuple(
                f"{one.where}: {one.code}: flow {one.flow!r}, node {one.node!r}: {one.message}"
                f"{'' if one.message.endswith('?') else '.'} Fix: {one.fix}"
                for one in (() if proof.is_refused else proof.remarks)
            )
            for text in self.remarks:
                _log.warning("%s", text)


def _passes(proof: Proof, store: Store) -> bool:
    return not proof.is_refused and all(map(store.__contains__, proof.needs))
