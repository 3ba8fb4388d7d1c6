"""What a flow does before it runs: it proves that its graph fits together."""

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
"""Where a run begins, which a new wiring makes anew; the schema of its store; the settings."""


class Proofs:
    """The proofs of one flow, each made once for a wiring, a beginning and a database.

    What flows that are made alike share is in :mod:`pocoflow.check.alike`.

    Attributes:
        remarks: What was logged of the wiring, for the record of each run.
    """

    def __init__(self) -> None:
        self._of: tuple[Graph, dict[object, Proof]] | None = None
        self._seen: Graph | None = None
        self._told: dict[str, object] = {}
        self.remarks: tuple[str, ...] = ()
        self._last: tuple[Key, Proof | Clean] | None = None

    def find(self, subject: Subject) -> Proof:
        """The proof of a flow, made if there is none that is current."""
        if self._of is None or self._of[0] is not subject.graph:
            self._of = (subject.graph, {})
        known, facts = self._of[1], subject.facts
        proof = known.get(facts)
        if proof is None or not proof.is_current:
            from pocoflow.check.proof import Proof

            proof = known[facts] = Proof(subject)
        return proof

    def look_again(self) -> None:
        """Find the proof of the next run anew, as what it is of may have changed."""
        self._last = None

    def admits(self, key: Key, store: Store) -> bool:
        """Whether what was proved last is known by the key and lets a store pass."""
        known = self._latest(key)
        return known is not None and _passes(known, store)

    def stop(self, key: Key, store: Store, make: Callable[[], Subject]) -> None:
        """Stop a run that cannot work out.

        Args:
            key: What the proof is known by.
            store: The store of the run.
            make: Gives the flow as the rules see it.

        Raises:
            FlowValidationError: The flow has errors.
            MissingInputError: A key that it needs is not in the store.
        """
        from pocoflow.check.alike import clean_like, keep, likeness_of

        if self._latest(key) is None:
            subject = make()
            likeness = likeness_of(subject)
            clean = clean_like(likeness)
            if clean is None:
                keep(likeness, subject, self._take(key, subject))
            else:
                self._seen, self.remarks, self._last = subject.graph, (), (key, clean)
        known = self._latest(key)
        if known is None or not _passes(known, store):
            keys = (*store, *store.unsaved)
            self._take(key, make()).check(keys, is_observed=store.is_observed)

    def _latest(self, key: Key) -> Proof | Clean | None:
        last = self._last
        return last[1] if last is not None and last[0] == key else None

    def _take(self, key: Key, subject: Subject) -> Proof:
        proof = self.find(subject)
        self._tell(subject.graph, proof)
        self._last = key, proof
        return proof

    def _tell(self, graph: Graph, proof: Proof) -> None:
        """Log what a run notices too late or not at all, once, whichever thread finds it."""
        if self._seen is graph:
            return
        self.remarks = remarks = tuple(
            f"{one.where}: {one.code}: flow {one.flow!r}"
            f"{'' if one.node is None else f', node {one.node!r}'}: {one.message}"
            f"{'' if one.message.endswith('?') else '.'} Fix: {one.fix}"
            for one in (() if proof.is_refused else proof.remarks)
        )
        self._seen = graph  # only now: whoever begins another run puts them on record, too
        own = object()
        for text in remarks:
            if self._told.setdefault(text, own) is own:
                _log.warning("%s", text)


def _passes(proof: Proof | Clean, store: Store) -> bool:
    return not proof.is_refused and all(map(store.__contains__, proof.needs))
