"""What is proved of a flow once for its wiring, and what is left to look at for each run."""

from __future__ import annotations

from collections.abc import Collection

from pocoflow.check.data_rules import DataFlow, check_data
from pocoflow.check.graph_rules import check_graph
from pocoflow.check.storage_rules import check_storage
from pocoflow.check.subject import Subject
from pocoflow.check.type_rules import check_types
from pocoflow.errors import FlowValidationError, MissingInputError
from pocoflow.findings import in_order
from pocoflow.schema import closest

__all__ = ["Proof"]


class Proof:
    """The findings on a flow, and the keys that a run has to begin with.

    It depends on the wiring, on the node where the run begins, on the schema, and on whether there
    is a database; not on the store of a run.

    Args:
        subject: The flow.

    Attributes:
        findings: Everything that was found, errors first, for a run of which nothing is known.
        needs: The keys without which a run is refused.
        inputs: Those that the caller gives: as declared, or those that are read and that no node
            writes.
        is_refused: Whether a run is refused whatever it begins with.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        declared = subject.inputs if subject.is_start else None
        initial = frozenset((*(declared or ()), *subject.fields.defaults))
        flow = DataFlow(subject, initial if subject.is_start else frozenset())
        data = list(check_data(subject, flow))
        always = [*check_graph(subject), *check_types(subject), *check_storage(subject)]
        always += [finding for missing, finding in data if missing is None]
        self._unwritten = [(one.key, found) for one, found in data if one is not None]
        self.findings = in_order([*always, *(finding for _, finding in self._unwritten)])
        self._readers = {one.key: one.spot.name for one in reversed(flow.missing)}
        unwritten = {key for key, _ in self._unwritten}
        read = [key for key in self._readers if key not in unwritten]
        self.inputs = tuple(dict.fromkeys(declared if declared is not None else read))
        self.needs = frozenset((*self.inputs, *unwritten)) if subject.is_typed else frozenset()
        self._errors = [one for one in always if one.severity == "error" and subject.is_typed]
        self.is_refused = bool(self._errors)

    def check(self, keys: Collection[str]) -> None:
        """Refuse a run that cannot work out.

        Args:
            keys: What the store of the run holds at its start.

        Raises:
            FlowValidationError: There are errors.
            MissingInputError: An input is not there.
        """
        unwritten = [found for key, found in self._unwritten if key in self.needs - set(keys)]
        if self._errors or unwritten:
            raise FlowValidationError(
                self._subject.flow_name, in_order([*self._errors, *unwritten])
            )
        missing = [key for key in self.inputs if key in self.needs and key not in keys]
        if missing:
            raise MissingInputError(self._say(missing, keys))

    def _say(self, missing: list[str], keys: Collection[str]) -> str:
        told = []
        for key in missing:
            reader = self._readers.get(key)
            who = "an input of the flow" if reader is None else f"node {reader!r} reads it"
            told.append(f"{key!r} ({who}{closest(key, keys)})")
        return (
            f"flow {self._subject.flow_name!r} is run without {', '.join(told)}: put it into the "
            f"store that it is run with (keys: {', '.join(map(repr, keys)) or 'none'})"
        )
