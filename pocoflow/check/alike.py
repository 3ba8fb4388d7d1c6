"""Flows that are made of the same classes and functions and wired alike, of which one was proved.

Only that a flow has no errors, and which keys it needs, is kept for those alike: no finding is told
of another flow than it was found in, and no node is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pocoflow.check.class_rules import idle_retries, misnamed
from pocoflow.check.node_effects import Effects
from pocoflow.check.subject import Subject, effects_of_class, is_constant
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
    """What was proved of a flow without errors, remarks and silenced findings.

    Attributes:
        needs: The keys without which a run is refused.
        effects: What its nodes were read as.
        signatures: Those of its functions, so that no others get their ids.
        is_refused: Whether a run is refused whatever it begins with.
    """

    needs: frozenset[str]
    effects: tuple[Effects, ...]
    signatures: tuple[Signature, ...]
    is_refused: bool = False


_known: dict[Likeness, Clean] = {}
_passing: dict[Likeness, Clean] = {}


def clean_like(likeness: Likeness | None) -> Clean | None:
    """What was proved of a flow like this, if that would be proved now as well."""
    found = None if likeness is None else _known.get(likeness) or _passing.get(likeness)
    if found is None or not all(one.is_current for one in found.effects):
        return None
    return found


def keep(likeness: Likeness | None, subject: Subject, proof: Proof) -> None:
    """Keep what was proved of a flow for those like it, if there is nothing to say of it."""
    if likeness is None or proof.is_refused or proof.remarks or proof.silencer.used:
        return
    vertices = [vertex for _, vertex in subject.nodes]
    if any(asks(one.node) for one in vertices):
        return
    effects = {id(one): one for one in map(subject.effects, vertices)}
    nodes = (vertex.node for vertex in vertices)
    signatures = tuple(one.signature for one in nodes if isinstance(one, FunctionNode))
    is_passing = is_transient((subject.fields.model, *(one.function for one in signatures)))
    known, most = (_passing, FEW) if is_passing else (_known, _MOST)
    if len(known) >= most:
        known.clear()
    known[likeness] = Clean(proof.needs, tuple(effects.values()), signatures)


def likeness_of(subject: Subject) -> Likeness | None:
    """All that decides what is proved of a plain flow; ``None`` for any other."""
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
    """All of a node that any rule reads; ``None`` if that cannot be described.

    What is forgotten here, of classes or of functions, lets a flow pass that differs in it.
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
    read, own = effects_of_class(type(node), attributes), node.__dict__
    if not read.is_current:
        return None
    if not read.used or read.used.isdisjoint(own):
        return facts
    values = [(name, type(own[name]), own[name]) for name in sorted(read.used) if name in own]
    return (*facts, *values) if all(is_constant(one) for _, _, one in values) else None
