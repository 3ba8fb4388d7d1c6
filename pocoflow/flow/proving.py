"""The proof that the graph of a flow fits together, before a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from pocoflow.logging import OwnLogger
from pocoflow.store.store import Store

if TYPE_CHECKING:
    from pocoflow.check.alike import Clean
    from pocoflow.check.proof import Proof
    from pocoflow.check.subject import Subject
    from pocoflow.graph.graph import Graph

_log = OwnLogger("flow")

Key: TypeAlias = tuple[object, object, object]
"""Where a run begins, an object that a new wiring replaces; the store's schema; the settings."""


class Proofs:
    """The proofs of one flow, each found once for a wiring, a starting vertex and a database.

    What equally built flows share is in :mod:`pocoflow.check.alike`.

    Attributes:
        remarks: What was logged about the wiring, for the record of each run.
    """

    def __init__(self) -> None:
        self._proofs: tuple[Graph, dict[object, Proof]] | None = None
        self._logged_graph: Graph | None = None
        self._logged: dict[str, object] = {}
        self.remarks: tuple[str, ...] = ()
        self._last: tuple[Key, Proof | Clean] | None = None

    def find(self, subject: Subject) -> Proof:
        """The current proof of a flow, created if there is none."""
        if self._proofs is None or self._proofs[0] is not subject.graph:
            self._proofs = (subject.graph, {})
        known, facts = self._proofs[1], subject.facts
        proof = known.get(facts)
        if proof is None or not proof.is_current:
            from pocoflow.check.proof import Proof

            proof = known[facts] = Proof(subject)
        return proof

    def forget_last(self) -> None:
        """Discard the last proof, as a setting of the flow may have changed."""
        self._last = None

    def check(self, key: Key, store: Store, make_subject: Callable[[], Subject]) -> None:
        """Refuse a run that cannot succeed.

        Args:
            key: The key of the proof.
            store: The store of the run.
            make_subject: Returns the flow as the rules see it.

        Raises:
            FlowValidationError: The flow has errors.
            MissingInputError: A key that it needs is not in the store.
        """
        known = self._latest(key)
        if known is None:
            from pocoflow.check.alike import clean_like, keep, likeness_of

            subject = make_subject()
            likeness = likeness_of(subject)
            clean = clean_like(likeness)
            if clean is None:
                keep(likeness, subject, self._prove(key, subject))
            else:
                self._logged_graph, self.remarks, self._last = subject.graph, (), (key, clean)
            known = self._latest(key)
        if known is None or known.is_refused or not all(map(store.__contains__, known.needs)):
            keys = (*store, *store.unsaved)
            self._prove(key, make_subject()).check(keys, is_observed=store.is_observed)

    def _latest(self, key: Key) -> Proof | Clean | None:
        last = self._last
        return last[1] if last is not None and last[0] == key else None

    def _prove(self, key: Key, subject: Subject) -> Proof:
        proof = self.find(subject)
        self._log_remarks(subject.graph, proof)
        self._last = key, proof
        return proof

    def _log_remarks(self, graph: Graph, proof: Proof) -> None:
        """Log once, in whichever thread, what a run would notice too late or not at all."""
        if self._logged_graph is graph:
            return
        self.remarks = remarks = tuple(
            f"{finding.where}: {finding.code}: flow {finding.flow!r}"
            f"{'' if finding.node is None else f', node {finding.node!r}'}: {finding.message}"
            f"{'' if finding.message.endswith('?') else '.'} Fix: {finding.fix}"
            for finding in (() if proof.is_refused else proof.remarks)
        )
        self._logged_graph = graph  # only now, as runs that start meanwhile record the remarks, too
        token = object()
        for text in remarks:
            if self._logged.setdefault(text, token) is token:
                _log.warning("%s", text)
