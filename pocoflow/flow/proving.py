"""What a flow does before it runs: it proves that its graph fits together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pocoflow.errors import DefinitionError
from pocoflow.graph.graph import Graph, GraphNode
from pocoflow.logging import get_logger
from pocoflow.messages import short
from pocoflow.nodes.edges import Edge
from pocoflow.store.fields import FieldRef, field_of, is_fields
from pocoflow.store.store import Store

if TYPE_CHECKING:
    from pocoflow.check import Proof
    from pocoflow.check.findings import Finding

__all__ = ["Validated", "names_of"]

_log = get_logger("flow")


class Validated:
    """The part of a flow that validates it.

    Attributes:
        inputs: The keys that a run has to be given, as the flow declares them; ``None`` if it does
            not say: then they are the keys that are read and that no node writes, or whoever
            writes them needs them first.
        outputs: The keys that are set wherever a run ends, as the flow declares them; ``None`` if
            it does not say.
    """

    schema: Any
    inputs: tuple[str, ...] | None
    outputs: tuple[str, ...] | None
    ignore: tuple[str, ...]
    deadline: float | None
    checkpoint_dir: Any
    _db_path: Any
    _made_at: tuple[str, int] | None
    _proofs: tuple[Graph, dict[Any, Proof]] | None = None
    _told: Graph | None = None
    _last: tuple[GraphNode, object, object, Proof] | None = None

    @property
    @abstractmethod
    def flow_name(self) -> str:
        """The flow's name."""

    @property
    @abstractmethod
    def graph(self) -> Graph:
        """The graph as it is wired now."""

    @property
    @abstractmethod
    def _strays(self) -> tuple[Edge[Any], ...]:
        """The edges that the flow has as a node, if it is a node of no other flow."""

    def validate(self) -> list[Finding]:
        """Look for everything that is provably wrong with the flow; no node is run.

        Every run does it, too, once for a wiring, and is stopped by errors before its first node.
        The codes are explained in ``docs/reference/rules.md``.

        Returns:
            All findings, errors first; empty if there is nothing to say.
        """
        return list(self._proof(self.graph.start, (), self.schema).findings)

    def _prove(self, place: GraphNode, frames: tuple[GraphNode, ...], store: Store[Any]) -> None:
        """Stop a run that cannot work out.

        Raises:
            FlowValidationError: The flow has errors.
            MissingInputError: A key that it needs is not in the store.
        """
        given = store.schema
        schema = given if isinstance(given, type) else self.schema
        last = self._last
        # A change of the wiring makes a graph of new places.
        if (
            last is not None
            and last[0] is place
            and last[1] is schema
            and last[2] is self._db_path
            and not frames
        ):
            proof = last[3]
        else:
            proof = self._proof(place, frames, schema)
            self._tell(proof)
            self._last = None if frames else (place, schema, self._db_path, proof)
        if proof.is_refused:
            proof.check((*store, *store.unsaved))
        for key in proof.needs:
            if key not in store:
                proof.check((*store, *store.unsaved))
                break

    def _tell(self, proof: Proof) -> None:
        """Log what branches may clash in, once for a wiring, before any of them is paid for."""
        if self._told is not self.graph:
            self._told = self.graph
            for one in () if proof.is_refused else proof.clashes:
                text = f"{one.where}: {one.code}: flow {one.flow!r}, node {one.node!r}"
                _log.warning("%s: %s. Fix: %s", text, one.message, one.fix)

    def _proof(self, place: GraphNode, frames: tuple[GraphNode, ...], schema: object) -> Proof:
        graph = self.graph
        if self._proofs is None or self._proofs[0] is not graph:
            self._proofs = (graph, {})
        known = self._proofs[1]
        # The proof keeps the schema, so its id stays its own.
        strays = self._strays
        stored = self._db_path is not None
        # Hooks are given the store, and checkpoints have it.
        watched = stored or self.checkpoint_dir is not None or bool(vars(self).get("_listeners"))
        known_by = (self.inputs, self.outputs, stored, watched, bool(strays))
        facts = (place, frames, id(schema), *known_by)
        proof = known.get(facts)
        if proof is None:
            from pocoflow.check import Proof, Subject

            subject = Subject(
                self.flow_name,
                graph,
                schema,
                self.inputs,
                stored,
                place,
                frames,
                strays,
                self._made_at,
                None if self.outputs is None else dict.fromkeys(self.outputs, self._made_at),
                ignore=self.ignore,
                ends_in_time=self.deadline is not None,
                is_watched=watched,
            )
            proof = known[facts] = Proof(subject)
        return proof


def names_of(argument: str, given: Iterable[Any] | None) -> tuple[str, ...] | None:
    """The keys that ``Flow(inputs=...)`` or ``Flow(outputs=...)`` names.

    Raises:
        DefinitionError: It is not a tuple of references to fields.
    """
    if given is None:
        return None
    several: Any = (given,) if isinstance(given, FieldRef | str) or is_fields(given) else given
    names = []
    for one in several:
        if not isinstance(one, FieldRef):
            hint = f": write fields(Model).{one} or key({one!r})" if isinstance(one, str) else ""
            raise DefinitionError(
                f"Flow({argument}=...) takes references to fields, not {short(one)}{hint}"
            )
        names.append(field_of(one).name)
    return tuple(dict.fromkeys(names))
