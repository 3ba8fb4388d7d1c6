"""What is proved of a flow once for its wiring, and what is left to look at for each run."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterable, Iterator
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


class Proof:
    """The findings on a flow, and the keys that a run has to begin with.

    It depends on the wiring, on the node where the run begins, on the schema, and on whether there
    is a database; not on the store of a run.

    Args:
        subject: The flow.

    Attributes:
        needs: The keys without which a run is refused.
        is_refused: Whether a run is refused whatever it begins with.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._declared = subject.inputs if subject.is_start else None
        self.needs: frozenset[str] = frozenset()
        self.is_refused = False
        self._inside: list[Subject] = []
        if not (subject.is_typed or subject.sends):
            return  # nothing is looked at before it runs
        if subject.is_typed:
            wanted = self._readers if self._declared is None else self._declared
            inputs = [key for key in self.inputs if key in wanted]
            self.needs = frozenset((*inputs, *(one.key for one, _ in self._refusing)))
        self.is_refused = bool(self._errors)

    @cached_property
    def _flow(self) -> Data:
        given = (*(self._declared or ()), *self._subject.fields.defaults)
        # A run that goes on has what its store holds, and nothing by default.
        return Data(self._subject, frozenset(given if self._subject.is_start else ()))

    @cached_property
    def silencer(self) -> Silencer:
        """Takes out what is silenced."""
        return Silencer(self._subject)

    @cached_property
    def _data(self) -> list[tuple[Missing | None, Finding]]:
        return list(self._tried(self._found_in_data()))

    def _found_in_data(self) -> Iterator[tuple[Missing | None, Finding]]:
        yield from check_data(self._subject, self._flow)

    @cached_property
    def _unwritten(self) -> list[tuple[Missing, Finding]]:
        return [(missing, finding) for missing, finding in self._data if missing is not None]

    @cached_property
    def _refusing(self) -> list[tuple[Missing, Finding]]:
        """What a run fails of, unless its store has the key from the start."""
        return [(one, found) for one, found in self._unwritten if found.severity == "error"]

    @cached_property
    def _own(self) -> list[Finding]:
        subject = self._subject
        others = [finding for missing, finding in self._data if missing is None]
        rules = (
            check_graph(subject),
            check_types(subject),
            check_items(subject),
            check_storage(subject),
            check_calls(subject),
            check_inputs(subject),
            check_handed(subject),
            check_resources_asked(subject),
            check_executors(subject),
            check_links(subject),
            check_order(subject),
        )
        found = [one for rule in rules for one in self._kept(rule)]
        return [*found, *others, *self._budgets, *self._names, *self._clashes]

    def _tried(
        self, found: Iterable[tuple[Missing | None, Finding]]
    ) -> Iterator[tuple[Missing | None, Finding]]:
        """What a rule finds and nobody silenced; if it fails itself, that is a finding."""
        try:
            yield from ((key, one) for key, one in found if not self.silencer.is_silent(one))
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must not stop a run
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
        """The findings that do not depend on what a run begins with, flows of subflows included."""
        found = [*self._own]
        if self._subject.is_inner:  # whoever looks at the flow around it goes on from here
            return found
        inside = self._inside = subflows_of(self._subject)
        for inner in inside:  # grows while it is walked through
            proof = Proof(inner)
            found += [one for one in proof.findings if not self.silencer.is_silent(one)]
            self.silencer.used |= proof.silencer.used
            inside += subflows_of(inner)
        return found

    @cached_property
    def _clashes(self) -> list[Finding]:
        """What several branches write, which a run notices only when all have been paid for."""
        return self._kept(check_branches(self._subject))

    @cached_property
    def _names(self) -> list[Finding]:
        """What a class sets, or defines, under a name that is nearly the one that was meant."""
        return self._kept(check_names(self._subject))

    @cached_property
    def _budgets(self) -> list[Finding]:
        """Budgets, and edges for them, of which nobody would see that they do nothing."""
        return self._kept(check_budgets(self._subject))

    @property
    def remarks(self) -> list[Finding]:
        """What is told before every run, also of a flow of which nothing else is looked at."""
        told = chain(
            check_namesakes(self._subject),
            check_unused_edges(self._subject),
            check_inputs(self._subject, lost_only=True),
            check_handed(self._subject, at_once=True),
        )
        return [*self._kept(told), *self._budgets, *self._names, *self._clashes]

    def _kept(self, found: Iterable[Finding]) -> list[Finding]:
        return [one for _, one in self._tried((None, one) for one in found)]

    @cached_property
    def _errors(self) -> list[Finding]:
        errors = [one for one in self._always if one.severity == "error"]
        if self._subject.is_typed:
            return errors
        return [one for one in errors if one.code == EXECUTORS]

    @cached_property
    def findings(self) -> list[Finding]:
        """Everything that was found, errors first, for a run of which nothing is known."""
        unwritten = (finding for _, finding in self._unwritten)
        # That a schedule gives its runs too little stops no other run.
        needed = [key for key in self.inputs if key in self.needs]
        scheduled = self._kept(check_schedules(self._subject, needed))
        return in_order([*self._always, *unwritten, *scheduled])

    @property
    def is_current(self) -> bool:
        """Whether what it was read from, such as the constants of modules, is as it was."""
        return all(one.is_current for one in (self._subject, *self._inside))

    @property
    def used(self) -> set[Used]:
        """What silences a finding."""
        assert self.findings is not None  # which notes it
        return self.silencer.used

    def needless(self, used: set[Used]) -> list[Finding]:
        """A finding for each code that is to be ignored and is not among those used."""
        return in_order(needless(self._subject, used))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """What the caller gives: as declared, or what is read and written by no node."""
        if self._declared is not None:
            return self._declared
        return self._flow.inputs

    @cached_property
    def _readers(self) -> dict[str, Spot]:
        """The keys that nothing has written where they have to be there, and the first reader."""
        readers: dict[str, Spot] = {}
        for one in self._flow.missing:
            if self._flow.severity(one, self._flow.flow) == "error":
                readers.setdefault(one.key, one.spot)
        return readers

    def check(self, keys: Collection[str], *, is_observed: bool = False) -> None:
        """Refuse a run that cannot work out.

        Args:
            keys: What the store of the run holds at its start.
            is_observed: Whether it has observers, which may write what nobody declared.

        Raises:
            FlowValidationError: There are errors.
            MissingInputError: An input is not there.
        """
        needs = self.needs.intersection(self._declared or ()) if is_observed else self.needs
        lacking = needs.difference(keys)
        unwritten = [finding for one, finding in self._refusing if one.key in lacking]
        if self.is_refused or unwritten:
            raise self._refusal(in_order([*self._errors, *unwritten]))
        missing = [key for key in self.inputs if key in lacking]
        if missing:
            given = ", ".join(f"{key!r}: <value>" for key in missing)
            remedy = Remedy("put it into the store", f"flow.run({{{given}}})")
            raise MissingInputError(self._say(missing, keys), keys=missing, remedies=[remedy])

    def _refusal(self, found: list[Finding]) -> FlowValidationError:
        lines = "".join(f"\n{one}" for one in found)
        return FlowValidationError(
            f"flow {self._subject.flow_name!r} has {counted(len(found), 'mistake')}, so it was "
            f"stopped before its first node ('pocoflow rule CODE' explains a code):{lines}",
            findings=found,
        )

    def _say(self, missing: list[str], keys: Collection[str]) -> str:
        told = []
        for key in missing:
            reader = self._readers.get(key)
            who = "an input of the flow"
            if reader is not None:
                who = f"node {reader.name!r} reads it{supplying(reader.vertex, key)}"
            told.append(f"{key!r} ({who}{closest(key, keys)})")
        return (
            f"flow {self._subject.flow_name!r} is run without {', '.join(told)}: put it into the "
            f"store that it is run with (keys: {', '.join(map(repr, keys)) or 'none'})"
        )
