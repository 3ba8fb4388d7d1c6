"""Flows that are made of the same classes and functions and wired alike, of which one was proved.

Only that a flow has no errors, and which keys it needs, is kept for those alike: no finding is told
of another flow than it was found in, and no node is kept.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any, NamedTuple, TypeAlias

from pocoflow.check.node_effects import UNKNOWN, Effects
from pocoflow.check.source import PHASES
from pocoflow.check.subject import Subject, is_constant
from pocoflow.graph.graph import GraphNode
from pocoflow.nodes.answer_types import asks
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.signature import Signature

_MOST, _LARGE = 512, 100

Likeness: TypeAlias = tuple[object, ...]


class Clean(NamedTuple):
    """What was proved of a flow without errors, remarks and silenced findings.

    Attributes:
        needs: The keys without which a run is refused.
        effects: What its nodes were read as.
        signatures: Those of its functions, so that no others get their ids.
    """

    needs: frozenset[str]
    effects: tuple[Effects, ...]
    signatures: tuple[Signature, ...]

    @property
    def is_current(self) -> bool:
        """Whether its nodes would be read now as they were."""
        return all(one.is_current for one in self.effects)


_known: dict[Likeness, Clean] = {}


def clean_like(likeness: Likeness) -> Clean | None:
    """What was proved of a flow like this, if that would be proved now as well."""
    found = _known.get(likeness)
    return found if found is not None and found.is_current else None


def keep(likeness: Likeness, subject: Subject, needs: frozenset[str]) -> None:
    """Keep what was proved of a flow for those like it."""
    nodes = [place.node for _, place in subject.nodes]
    effects = {id(one): one for one in (subject.effects(place) for _, place in subject.nodes)}
    signatures = tuple(one.signature for one in nodes if isinstance(one, FunctionNode))
    if len(_known) >= _MOST:
        _known.clear()
    _known[likeness] = Clean(needs, tuple(effects.values()), signatures)


def likeness_of(subject: Subject) -> Likeness | None:
    """All that decides what is proved of a plain flow; ``None`` for any other."""
    graph, model = subject.graph, subject.fields.model
    special = (
        *(subject.strays, subject.ignore, subject.budgets, subject.around, subject.executor),
        *(subject.expected, subject.lost_budgets, subject.is_inner, not subject.is_start),
        *(graph.rules, graph.conflicts, graph.wraps, graph.has_executors),
    )
    if any(special) or (model is None and subject.schema is not None):
        return None
    if len(graph.nodes) > _LARGE:  # it is hardly made anew for each run
        return None
    nodes = []
    for place in graph.nodes.values():
        if (one := _node(subject, place)) is None:
            return None
        nodes.append(one)
    return (
        *(model, getattr(model, "__pydantic_validator__", None)),
        *(subject.inputs, None if subject.outputs is None else tuple(subject.outputs)),
        *(subject.stored, subject.ends_in_time, subject.is_watched, subject.is_part),
        *(subject.is_new, graph.is_strict, graph.edges),
        *(tuple(graph.resources), tuple(nodes)),
    )


def _node(subject: Subject, place: GraphNode) -> Likeness | None:
    """All of a node that any rule reads; ``None`` if that cannot be described.

    What is forgotten here, of classes or of functions, lets a flow pass that differs in it.
    """
    node: Any = place.node
    kind = type(node)
    if place.within or place.catches or asks(node):
        return None
    facts = (place.name, node.name, node.timeout is None, node.journal)
    if isinstance(node, FunctionNode):
        collects = getattr(node, "on_error", "stop") == "collect"
        return (*facts, kind, id(node.signature), node.actions, collects)
    effects, own = subject.effects(place), vars(node)
    if effects is UNKNOWN or not all(is_constant(own.get(name)) for name in effects.used):
        return None
    phases = [getattr(kind, one, None) for one in PHASES]
    if not all(isinstance(one, FunctionType | None) for one in phases):
        return None  # it may be equal to another one, or cannot be compared
    return (*facts, kind, id(effects), *phases)
