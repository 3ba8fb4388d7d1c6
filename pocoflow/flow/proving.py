"""What a flow does before it runs: it proves that its graph fits together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from pocoflow.graph.graph import Graph
from pocoflow.logging import OwnLogger
from pocoflow.store.store import Store

if TYPE_CHECKING:
    from pocoflow.check import Proof, Subject

_log = OwnLogger("flow")

Find: TypeAlias = "Callable[[], tuple[Graph, Proof]]"


class Proofs:
    """The proofs of a flow, each made once for a wiring.

    Attributes:
        remarks: What was logged of the wiring, for the record of each run.
    """

    def __init__(self) -> None:
        self._of: tuple[Graph, dict[Any, Proof]] | None = None
        self._told: Graph | None = None
        self.remarks: tuple[str, ...] = ()
        self._last: tuple[object, object, object, Proof] | None = None

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

    def stop(
        self, place: object, schema: object, home: object, store: Store[Any], find: Find
    ) -> None:
        """Stop a run that cannot work out.

        Args:
            place: Where it begins, which a change of the wiring makes anew.
            schema: The schema of its store.
            home: Where it is kept.
            store: Its store.
            find: Gives the proof, and the graph that it is of; the last one is at hand.

        Raises:
            FlowValidationError: The flow has errors.
            MissingInputError: A key that it needs is not in the store.
        """
        last = self._last
        if last is not None and last[0] is place and last[1] is schema and last[2] is home:
            proof = last[3]
        else:
            graph, proof = find()
            self._tell(graph, proof)
            self._last = place, schema, home, proof
        if proof.is_refused or any(key not in store for key in proof.needs):
            if not proof.is_current:
                graph, proof = find()
                self._tell(graph, proof)
                self._last = place, schema, home, proof
            proof.check((*store, *store.unsaved))

    def _tell(self, graph: Graph, proof: Proof) -> None:
        """Log what a run notices too late, once for a wiring: what branches may clash in."""
        if self._told is not graph:
            self._told = graph
            self.remarks = tuple(
                f"{one.where}: {one.code}: flow {one.flow!r}, node {one.node!r}: {one.message}. "
                f"Fix: {one.fix}"
                for one in (() if proof.is_refused else proof.remarks)
            )
            for text in self.remarks:
                _log.warning("%s", text)
