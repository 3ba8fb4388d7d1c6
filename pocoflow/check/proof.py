"""The proof of a flow, made once for its wiring, and the checks that remain for each run."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

from pocoflow.check.branch_rules import check_branches, check_links, subflows_of
from pocoflow.check.budget_rules import check_budgets
from pocoflow.check.call_rules import (
    EXECUTORS,
    check_calls,
    check_executors,
    check_resources_asked,
)
from pocoflow.check.class_rules import check_names
from pocoflow.check.data_rules import Data, Missing, check_data, check_schedules
from pocoflow.check.findings import Finding, in_order
from pocoflow.check.flat import Spot
from pocoflow.check.graph_rules import check_graph, check_namesakes, check_unused_edges
from pocoflow.check.input_rules import check_handed, check_inputs
from pocoflow.check.item_rules import check_items
from pocoflow.check.order_rules import check_order
from pocoflow.check.silence import Silencer, Used, needless
from pocoflow.check.storage_rules import check_storage
from pocoflow.check.subject import Subject
from pocoflow.check.type_rules import check_types, supplying
from pocoflow.errors import FlowValidationError, MissingInputError, Remedy
from pocoflow.logging import OwnLogger
from pocoflow.messages import closest, counted

_log = OwnLogger("check")

_RULES: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    *(check_graph, check_types, check_items, check_storage, check_calls, check_inputs),
    *(check_handed, check_resources_asked, check_executors, check_links, check_order),
)


class Proof:
    """The findings on a flow, and the keys that a run has to start with.

    It depends on the wiring, the first node, the schema, and whether there is a database; not on
    the store of a run.

    Args:
        subject: The flow.

    Attributes:
        needs: The keys without which a run is refused.
        is_refused: Whether a run is refused whatever its inputs.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._declared = subject.inputs if subject.is_start else None
        self.needs: frozenset[str] = frozenset()
        self.is_refused = False
        self._inside: list[Subject] = []
        if not (subject.is_typed or subject.sends):
            return  # nothing is checked before it runs
        if subject.is_typed:
            wanted = self._readers if self._declared is None else self._declared
            inputs = [key for key in self.inputs if key in wanted]
            self.needs = frozenset((*inputs, *(missing.key for missing, _ in self._refusing)))
        self.is_refused = bool(self._errors)

    @cached_property
    def _flow(self) -> Data:
        given = (*(self._declared or ()), *self._subject.fields.defaults)
        # A run that is resumed has the keys of its store, and no defaults.
        return Data(self._subject, frozenset(given if self._subject.is_start else ()))

    @cached_property
    def silencer(self) -> Silencer:
        """Removes silenced findings."""
        return Silencer(self._subject)

    @cached_property
    def _data(self) -> list[tuple[Missing | None, Finding]]:
        return list(self._tried(check_data(self._subject, self._flow)))

    @cached_property
    def _unwritten(self) -> list[tuple[Missing, Finding]]:
        return [(missing, finding) for missing, finding in self._data if missing is not None]

    @cached_property
    def _refusing(self) -> list[tuple[Missing, Finding]]:
        """The errors of a run, unless its store has the key from the start."""
        return [pair for pair in self._unwritten if pair[1].severity == "error"]

    def _tried(
        self, found: Iterable[tuple[Missing | None, Finding]]
    ) -> Iterator[tuple[Missing | None, Finding]]:
        """The findings of a rule that are not silenced; if the rule fails, that is a finding."""
        try:
            yield from (pair for pair in found if not self.silencer.is_silent(pair[1]))
        except Exception as exc:  # noqa: BLE001 - no error of a rule may stop a run
            _log.warning("a rule of the validation failed", exc_info=True)
            last = traceback.extract_tb(exc.__traceback__)[-1]
            where = f"{Path(last.filename).name}, line {last.lineno}, in {last.name}"
            yield (
                None,
                self._subject.finding(
                    "PF001",
                    f"a rule failed with {type(exc).__name__}: {exc} ({where}), so a part of the "
                    "flow was not looked at",
                    "the flow runs all the same; please report it with the traceback, which logger "
                    "'pocoflow.check' has",
                ),
            )

    @cached_property
    def _always(self) -> list[Finding]:
        """The findings that do not depend on the inputs of a run, including those of subflows."""
        found = [finding for missing, finding in self._data if missing is None]
        found += [finding for rule in _RULES for finding in self._reported(rule(self._subject))]
        found += self._logged
        # The proof of the enclosing flow continues from an inner one.
        inside = self._inside = [] if self._subject.is_inner else subflows_of(self._subject)
        for inner in inside:  # grows during iteration
            proof = Proof(inner)
            found += [finding for finding in proof.findings if not self.silencer.is_silent(finding)]
            self.silencer.used |= proof.silencer.used
            inside += subflows_of(inner)
        return found

    @cached_property
    def _logged(self) -> list[Finding]:
        """Conflicts of branches, misspelt names, and budgets without effect."""
        rules = (check_budgets, check_names, check_branches)
        return [finding for rule in rules for finding in self._reported(rule(self._subject))]

    @property
    def remarks(self) -> list[Finding]:
        """The findings that are logged before every run, even for a flow without other checks."""
        found = chain(
            check_namesakes(self._subject),
            check_unused_edges(self._subject),
            check_inputs(self._subject, lost_only=True),
            check_handed(self._subject, at_once=True),
        )
        return [*self._reported(found), *self._logged]

    def _reported(self, found: Iterable[Finding]) -> list[Finding]:
        return [finding for _, finding in self._tried((None, finding) for finding in found)]

    @cached_property
    def _errors(self) -> list[Finding]:
        errors = [finding for finding in self._always if finding.severity == "error"]
        if self._subject.is_typed:
            return errors
        return [error for error in errors if error.code == EXECUTORS]

    @cached_property
    def findings(self) -> list[Finding]:
        """All findings, errors first, for a run with unknown inputs."""
        unwritten = (finding for _, finding in self._unwritten)
        # A schedule that lacks an input stops no other run.
        needed = [key for key in self.inputs if key in self.needs]
        scheduled = self._reported(check_schedules(self._subject, needed))
        return in_order([*self._always, *unwritten, *scheduled])

    @property
    def is_current(self) -> bool:
        """Whether the code that it depends on, such as constants of modules, is unchanged."""
        return all(subject.is_current for subject in (self._subject, *self._inside))

    @property
    def used(self) -> set[Used]:
        """The comments and codes that silence a finding."""
        assert self.findings is not None  # which records them
        return self.silencer.used

    def needless(self, used: set[Used]) -> list[Finding]:
        """A finding for each code that is to be ignored and silences nothing."""
        return in_order(needless(self._subject, used))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The inputs: as declared, or the keys that are read and that no node writes."""
        if self._declared is not None:
            return self._declared
        return self._flow.inputs

    @cached_property
    def _readers(self) -> dict[str, Spot]:
        """The keys that are required and that nothing has written, each with its first reader."""
        readers: dict[str, Spot] = {}
        for read in self._flow.missing:
            if self._flow.severity(read, self._flow.flow) == "error":
                readers.setdefault(read.key, read.spot)
        return readers

    def check(self, keys: Collection[str], *, is_observed: bool = False) -> None:
        """Refuse a run that cannot succeed.

        Args:
            keys: The keys of the store of the run at its start.
            is_observed: Whether it has observers, which may write undeclared keys.

        Raises:
            FlowValidationError: There are errors.
            MissingInputError: An input is missing.
        """
        needs = self.needs.intersection(self._declared or ()) if is_observed else self.needs
        lacking = needs.difference(keys)
        unwritten = [finding for read, finding in self._refusing if read.key in lacking]
        if self.is_refused or unwritten:
            raise self._refusal(in_order([*self._errors, *unwritten]))
        missing = [key for key in self.inputs if key in lacking]
        if missing:
            given = ", ".join(f"{key!r}: <value>" for key in missing)
            remedy = Remedy("put it into the store", f"flow.run({{{given}}})")
            raise MissingInputError(self._say(missing, keys), keys=missing, remedies=[remedy])

    def _refusal(self, found: list[Finding]) -> FlowValidationError:
        lines = "".join(f"\n{finding}" for finding in found)
        return FlowValidationError(
            f"flow {self._subject.flow_name!r} has {counted(len(found), 'mistake')}, so it was "
            f"stopped before its first node ('pocoflow rule CODE' explains a code):{lines}",
            findings=found,
        )

    def _say(self, missing: list[str], keys: Collection[str]) -> str:
        parts = []
        for key in missing:
            reader = self._readers.get(key)
            who = "an input of the flow"
            if reader is not None:
                who = f"node {reader.name!r} reads it{supplying(reader.vertex, key)}"
            parts.append(f"{key!r} ({who}{closest(key, keys)})")
        return (
            f"flow {self._subject.flow_name!r} is run without {', '.join(parts)}: put it into the "
            f"store that it is run with (keys: {', '.join(map(repr, keys)) or 'none'})"
        )
