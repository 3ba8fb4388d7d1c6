"""What is proved of a flow once for its wiring, and what is left to look at for each run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pocoflow.check.data_rules import DataFlow, Missing, check_data
from pocoflow.check.findings import Finding, in_order
from pocoflow.check.graph_rules import check_graph
from pocoflow.check.storage_rules import check_storage
from pocoflow.check.subject import Subject
from pocoflow.check.type_rules import check_types
from pocoflow.errors import FlowValidationError, MissingInputError
from pocoflow.graph import GraphNode
from pocoflow.schema import closest
from pocoflow.store import Store

__all__ = ["Proof"]


class Proof:
    """The findings on a flow, and the keys that a run has to begin with.

    It depends on the wiring, on the node where the run begins, on the schema, and on whether there
    is a database; not on the store of a run.

    Args:
        subject: The flow.

    Attributes:
        findings: Everything that was found, errors first, for a run of which nothing is known.
        needs: The keys without which a run fails, or is refused; empty for a flow of which nothing
            is known.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        inputs = frozenset(subject.inputs or ())
        self._data = DataFlow(subject, inputs | subject.fields.defaults)
        self.findings = tuple(
            in_order(
                [
                    *check_graph(subject),
                    *check_types(subject),
                    *check_data(subject, self._data),
                    *check_storage(subject),
                ]
            )
        )
        self._missing = self._data.missing
        self._given = inputs if subject.is_start else frozenset()
        self.needs = self._given | {one.key for one in self._missing}
        self._errors = tuple(
            one for one in self.findings if one.severity == "error" and one.code != "PF301"
        )
        if not subject.is_typed:
            self.needs, self._errors = frozenset(), ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The keys that a run has to be given: as declared, or as no node writes them."""
        if self._subject.inputs is not None:
            return self._subject.inputs
        names = (one.key for one in self._missing if one.key not in self._data.written)
        return tuple(dict.fromkeys(names))

    def check(self, keys: Collection[str]) -> None:
        """Refuse a run that cannot work out.

        Args:
            keys: What the store of the run holds at its start.

        Raises:
            FlowValidationError: There are errors.
            MissingInputError: An input is not there.
        """
        lacking = [one for one in self._missing if one.key not in keys]
        unwritten = [one for one in self.findings if one.code == "PF301"]
        before = self._subject.fields
        del before
        found = list(self._errors)
        names = {(one.spot.name, one.key) for one in lacking}
        found += [one for one in unwritten if self._is_about(one, names)]
        if found:
            raise FlowValidationError(self._subject.flow_name, in_order(found))
        missing = [key for key in self.inputs if key in self.needs and key not in keys]
        if missing:
            raise MissingInputError(self._say(missing, keys))

    def _is_about(self, finding: Finding, names: set[tuple[str, str]]) -> bool:
        return any(
            finding.node == name and finding.message.startswith(f"it reads {key!r} ")
            for name, key in names
        )

    def _say(self, missing: list[str], keys: Collection[str]) -> str:
        readers = {one.key: one for one in self._missing}
        told = []
        for key in missing:
            reader = readers.get(key)
            who = "an input of the flow" if reader is None else f"read by {reader.spot.name!r}"
            told.append(f"{key!r} ({who}){closest(key, keys)}")
        return (
            f"flow {self._subject.flow_name!r} is run without {', '.join(told)}: put it into the "
            f"store (keys: {', '.join(map(repr, keys)) or 'none'})"
        )


def prove(
    flow_name: str,
    place: GraphNode,
    frames: tuple[GraphNode, ...],
    **facts: Any,
) -> Proof:
    raise NotImplementedError


_ = (Missing, Store)
