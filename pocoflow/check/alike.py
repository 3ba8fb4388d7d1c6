"""The cached proof of flows that consist of the same classes and functions and are wired alike.

Only the fact that a flow has no errors, and the keys it needs, is cached: a finding is reported
only for the flow in which it was found, and no node is kept alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pocoflow.check.class_rules import idle_retries, misnamed
from pocoflow.check.node_effects import Effects
from pocoflow.check.store_use import is_constant
from pocoflow.check.subject import Subject, effects_of_class
from pocoflow.graph.graph import Vertex
from pocoflow.nodes.answer_types import asks
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.signature import Signature
from pocoflow.values.remembering import FEW, is_transient

if TYPE_CHECKING:
    from pocoflow.check.proof import Proof

_MOST = 512

Likeness: TypeAlias = tuple[object, ...]


class Clean(NamedTuple):
    """The proof of a flow without errors, remarks and silenced findings.

    Attributes:
        needs: The keys without which a run is refused.
        effects: The effects of its nodes, as read.
        signatures: Those of its functions, kept alive so that their ids are not reused.
        is_refused: Whether a run is refused whatever its inputs.
    """

    needs: frozenset[str]
    effects: tuple[Effects, ...]
    signatures: tuple[Signature, ...]
    is_refused: bool = False


_known: dict[Likeness, Clean] = {}
_passing: dict[Likeness, Clean] = {}


def clean_like(likeness: Likeness | None) -> Clean | None:
    """The proof of a flow like this, if it still holds."""
    clean = None if likeness is None else _known.get(likeness) or _passing.get(likeness)
    if clean is None or not all(effects.is_current for effects in clean.effects):
        return None
    return clean


def keep(likeness: Likeness | None, subject: Subject, proof: Proof) -> None:
    """Cache the proof of a flow for flows like it, if it has no findings at all."""
    if likeness is None or proof.is_refused or proof.remarks or proof.silencer.used:
        return
    vertices = [vertex for _, vertex in subject.nodes]
    if any(asks(vertex.node) for vertex in vertices):
        return
    effects = {id(effect): effect for effect in map(subject.effects, vertices)}
    nodes = (vertex.node for vertex in vertices)
    signatures = tuple(node.signature for node in nodes if isinstance(node, FunctionNode))
    is_passing = is_transient(
        (subject.fields.model, *(signature.function for signature in signatures))
    )
    cache, most = (_passing, FEW) if is_passing else (_known, _MOST)
    if len(cache) >= most:
        cache.clear()
    cache[likeness] = Clean(proof.needs, tuple(effects.values()), signatures)


def likeness_of(subject: Subject) -> Likeness | None:
    """Everything that the proof of a plain flow depends on; ``None`` for any other flow."""
    graph, model = subject.graph, subject.fields.model
    special = (
        *(subject.unused_edges, subject.ignore, subject.budgets, subject.around, subject.executor),
        *(subject.expected, subject.lost_budgets, subject.is_inner, not subject.is_start),
        *(graph.rules, graph.conflicts, graph.wraps, graph.has_executors),
    )
    if any(special) or (model is None and subject.schema is not None):
        return None
    nodes = [_node(vertex, subject.fields.attributes) for vertex in graph.nodes.values()]
    if None in nodes:
        return None
    return (
        *(model, getattr(model, "__pydantic_validator__", None)),
        *(subject.inputs, None if subject.outputs is None else tuple(subject.outputs)),
        *(subject.stored, subject.ends_in_time, subject.is_watched, subject.has_writers),
        *(subject.is_part, subject.is_new, graph.is_strict),
        *(*graph.shape, *nodes, *graph.resources),
    )


def _node(vertex: Vertex, attributes: frozenset[str]) -> Likeness | None:
    """Everything that any rule reads of a node; ``None`` if that cannot be described.

    An attribute that is missing here lets a flow pass that differs in it.
    """
    node = vertex.node
    phases = vertex.phases
    if phases is None or phases.is_own or vertex.branches or vertex.catches:
        return None
    if any(misnamed(node)):
        return None
    facts = (phases, node.name, node.timeout is None, node.journal, vertex.copies_input)
    if isinstance(node, FunctionNode):
        collects = getattr(node, "on_error", "stop") == "collect"
        return (*facts, id(node.signature), node.actions, collects, *idle_retries(node))
    effects, settings = effects_of_class(type(node), attributes), node.__dict__
    if not effects.is_current:
        return None
    if not effects.used or effects.used.isdisjoint(settings):
        return facts
    values = [(n, type(settings[n]), settings[n]) for n in sorted(effects.used) if n in settings]
    return (*facts, *values) if all(is_constant(value) for _, _, value in values) else None
