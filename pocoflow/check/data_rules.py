"""PF3: reads before writes, and useless writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import cache, cached_property
from typing import NamedTuple

from pocoflow.check.findings import Finding, Severity
from pocoflow.check.flat import DataFlow, Spot, Way, path_text
from pocoflow.check.node_effects import ANYTHING, Effects, Exit, Location
from pocoflow.check.subject import Subject
from pocoflow.errors import MissingKeyError
from pocoflow.graph.graph import Vertex
from pocoflow.messages import closest
from pocoflow.nodes.function import FunctionNode


class Missing(NamedTuple):
    """A key that some path reads before anything wrote it.

    Attributes:
        key: The key.
        spot: The node that reads it.
        location: Where in the source.
    """

    key: str
    spot: Spot
    location: Location


class Data:
    """The contents of the store at the nodes of a flow.

    Args:
        subject: The flow.
        initial: The keys that are set from the start.
    """

    def __init__(self, subject: Subject, initial: frozenset[str]) -> None:
        self._subject = subject
        self._initial = initial
        self._unneeding: dict[int, Effects] = {}

    @cached_property
    def flow(self) -> DataFlow:
        """The reads and writes on the paths."""
        return DataFlow(self._subject.walk, self._of, self._subject.exit, self._initial)

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The keys that have to be set wherever a run ends: as declared, or as the schema requires.

        Not included: keys that the schema lacks, as PF201 reports them better; required keys that
        no node writes if the flow does not declare its inputs; private keys of branches, and keys
        that only errors set.
        """
        subject = self._subject
        if subject.outputs is not None:
            return tuple(key for key in subject.outputs if not subject.fields.lacks(key))
        fans_out = [(*node.private, getattr(node, "item", None)) for _, node in subject.fans_out]
        own = {key for keys in fans_out for key in keys}
        effects = self.flow.effects.values()
        own |= {key for key in self._caught if not any(key in effect.writes for effect in effects)}
        every = subject.inputs is not None
        required = [key for key in subject.fields.required if key not in own]
        return tuple(key for key in required if every or key in self.written)

    def unset(self) -> Iterator[tuple[str, Spot, Way]]:
        """The keys that have to be set at an end and are not, each with the first such end.

        A key that only an unreachable node writes is not included: that is the mistake. After an
        error, or where a choice ends the run, only declared outputs are required.
        """
        subject = self._subject
        aside = (at.vertex for at in subject.nodes if at.vertex not in self._walked)
        written = {key for vertex in aside for key in subject.effects(vertex).writes}
        wanted = {key for key in self.wanted if key in self.written or key not in written}
        given = frozenset(() if subject.inputs is not None else self.inputs)
        flow = self.calm
        bits = flow.keys.of
        for spot, way, _, kept, added in flow.passings if wanted else ():
            if way.target is None and not self._is_excused(spot, way):
                there = bits(given) | flow.before[spot] & kept | added
                for key in sorted(wanted):
                    if not there & bits((key,)):
                        wanted.discard(key)
                        yield key, spot, way

    def _is_excused(self, spot: Spot, way: Way) -> bool:
        """Whether nothing has to be set at an end."""
        subject = self._subject
        if way.is_unhandled or subject.outputs is not None:
            return way.is_unhandled
        # If neither flow nor node declares anything, a choice may end the run in any state.
        is_silent = subject.inputs is None and subject.declared(spot.vertex) is None
        return way.catch is not None or (is_silent and _ends_early(spot.vertex, way.action))

    @cached_property
    def _walked(self) -> set[Vertex]:
        """The reachable vertices, and those in their branches."""
        found = [spot.vertex for spot in self._subject.walk.spots]
        for vertex in found:  # grows during iteration
            found += (inner for graph in vertex.within for inner in graph.nodes.values())
        return set(found)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The inputs if the flow declares none: keys that are read and never written first."""
        keys = dict.fromkeys(read.key for read in self.missing)
        return tuple(key for key in keys if key not in self.made and key not in self._initial)

    @cached_property
    def given(self) -> DataFlow:
        """The same for a run whose inputs include all keys that are read too early."""
        initial = self._initial.union(read.key for read in self.missing)
        return DataFlow(self._subject.walk, self._of, self._subject.exit, initial)

    @cached_property
    def late(self) -> list[Missing]:
        """Each read of a key that some path has removed before, whatever the inputs."""
        if not any(at.end.gone or at.end.kept is not None for at in self.flow.passings):
            return []
        return _each(self.given.unwritten)

    def _of(self, spot: Spot) -> Effects:
        subject, vertex = self._subject, spot.vertex
        effects = subject.effects(vertex)
        if subject.fields or subject.inputs is not None or isinstance(vertex.node, FunctionNode):
            return effects
        # Without a schema the caller defines the store of a classic flow.
        found = self._unneeding.get(id(effects))
        if found is None:
            found = replace(effects, needs={}, makes=effects.first)
            self._unneeding[id(effects)] = found
        return found

    @cached_property
    def _caught(self) -> set[str]:
        spots = (spot for spot in self._subject.walk.spots if spot.frames or spot.vertex.catches)
        ways = (way for spot in spots for way in spot.ways)
        return {way.catch.field.name for way in ways if way.catch and way.catch.field}

    @cached_property
    def written(self) -> frozenset[str]:
        """The keys that some node of the flow writes."""
        found = {key for effects in self.flow.effects.values() for key in effects.writes}
        return frozenset(found.union(self._caught))

    @cached_property
    def made(self) -> frozenset[str]:
        """The keys that are read too early although a node elsewhere gives them their first value.

        That node writes them, does not need them, and either some path leads to it without a write,
        or no path leads back to their readers and it does not need values derived from them. A key
        that every writer needs first, or that only cycles in a loop, can only come from the caller.
        """
        readers: dict[str, list[Spot]] = {read.key: [] for read in self.missing}
        for read in self.missing:
            readers[read.key].append(read.spot)
        found = readers.keys() & self._caught
        made_of = cache(self._made_of)
        for spot, effects in self.flow.effects.items():
            for key in effects.first & (readers.keys() - found):
                was_there = self.flow.had[spot] & self.flow.keys.of((key,))
                needs = effects.needs.keys()
                if not was_there or not (
                    needs & made_of(key) or self.flow.walk.leads(spot, readers[key])
                ):
                    found.add(key)
        return frozenset(found)

    def _made_of(self, key: str) -> set[str]:
        """A key, and the keys that only nodes write which need it, or a key derived from it."""
        found, effects = {key}, {id(e): e for e in self.flow.effects.values()}.values()
        others = self._initial | self._caught
        while True:
            free = {k for e in effects if not e.needs.keys() & found for k in e.writes}
            new = self.written - found - free - others
            if not new:
                return found
            found |= new

    @cached_property
    def missing(self) -> list[Missing]:
        """Each read of a key that some path reaches before anything may have written it."""
        return _each(self.flow.unwritten)

    @cached_property
    def calm(self) -> DataFlow:
        """The flow, except that after an error nothing is missing, unless outputs are declared."""
        subject, walk = self._subject, self._subject.walk
        if subject.outputs is not None or not any(way.catch for s in walk.spots for way in s.ways):
            return self.flow

        def out(spot: Spot, way: Way) -> Exit:
            return subject.exit(spot, way) if way.catch is None else ANYTHING

        return DataFlow(walk, self._of, out, self._initial)

    def increments(self) -> Iterator[Missing]:
        """Each field without a value to which an edge for errors applies an increment."""
        sources: dict[tuple[int, str], list[Spot]] = {}
        reduced = {key for key in self._caught if self._subject.fields.reduces(key)}
        for spot in self._subject.walk.spots if reduced else ():
            for way in spot.ways:
                if way.catch and way.catch.field and way.catch.field.name in reduced:
                    sources.setdefault((id(way.catch), way.catch.field.name), []).append(spot)
        for (_, key), spots in sources.items():
            writes = (key in self.flow.effects[s].writes for s in spots)
            if not any(writes) and all(self.flow.lacks(s, key) for s in spots):
                yield Missing(key, spots[0], Location())

    def severity(self, missing: Missing, flow: DataFlow) -> Severity:
        """The severity of a missing key: a warning if not every execution fails.

        That is so if the error is caught, if other code may have written the key, or if a choice
        before may depend on whether it is present.
        """
        if self._subject.has_writers or not flow.lacks(missing.spot, missing.key):
            return "warning"
        reader = self._vertices.get(missing.spot.inside(missing.location.node), missing.spot.vertex)
        return self._subject.unless_caught(reader, (MissingKeyError,))

    @cached_property
    def _vertices(self) -> dict[str, Vertex]:
        return dict(self._subject.nodes)

    def path(self, key: str, spot: Spot, flow: DataFlow) -> tuple[str, str | None]:
        """A path to a node on which a key is missing, as text, and the node that removes it."""
        steps, removed = flow.path(key, spot)
        return path_text([(one.name, action) for one, action in steps]), removed


def _each(unwritten: Iterable[tuple[Spot, str, Location]]) -> list[Missing]:
    """Each key that a node reads too early, once."""
    found: dict[tuple[int, str], Missing] = {}
    for spot, key, location in unwritten:
        found.setdefault((id(spot.vertex.node), key), Missing(key, spot, location))
    return list(found.values())


def _ends_early(vertex: Vertex, action: str | None) -> bool:
    """Whether an action ends the run on purpose, where other actions do not."""
    targets = vertex.targets
    return targets.get(action or "", vertex) is None and any(targets.values())


def check_schedules(subject: Subject, needed: Collection[str]) -> Iterator[Finding]:
    """PF305: schedules whose runs would be refused, as a required input is missing."""
    for schedule in subject.schedules:
        for key in needed:
            if key not in (*schedule.keys, *subject.fields.defaults):
                yield subject.finding(
                    "PF305",
                    f"schedule {schedule.name!r} gives its runs no {key!r}, without which each "
                    f"of them is refused{closest(key, schedule.keys)}",
                    f"give it to them: flow.schedule({schedule.name!r}, ..., {{{key!r}: ...}})",
                    where=schedule.where,
                )


def check_data(subject: Subject, flow: Data) -> Iterator[tuple[Missing | None, Finding]]:
    """Every finding of the family PF3, each with its missing key, if it has one.

    A missing key without a finding is an input: the flow declares none, and no node writes it, or
    its writers need it first.
    """
    yield from ((None, finding) for finding in _removed(subject))
    late = {(id(one.spot.vertex.node), one.key) for one in flow.late}
    missing = [read for read in flow.missing if (id(read.spot.vertex.node), read.key) not in late]
    for read in (*missing, *flow.late):
        is_late = read not in missing
        is_known = not subject.fields.lacks(read.key)  # of the others, PF201 says it better
        if is_known and (is_late or read.key in flow.made or subject.inputs is not None):
            data = flow.given if is_late else flow.flow
            yield None if is_late else read, _read_before(subject, flow, read, data)
    for increment in flow.increments():
        yield increment, _read_before(subject, flow, increment, flow.flow)
    for key, spot, way in flow.unset():
        found = _unset(subject, flow, key, spot, way)
        yield None if found.severity == "warning" else Missing(key, spot, Location()), found
    yield from ((None, finding) for finding in _set_again(subject, flow.flow))
    yield from ((None, finding) for finding in _unread(subject, flow.flow))


def _removed(subject: Subject) -> Iterator[Finding]:
    """Keys that a node reads after it has removed them itself."""
    for name, vertex in subject.definitions:
        for key, at in subject.effects(vertex).lost.items():
            yield subject.finding(
                "PF301",
                f"it reads {key!r} where it has removed it, or found that it is not there",
                f"read {key!r} before that, or write it again",
                node=name if at.node is None else at.node,
                where=at.where,
                severity=subject.unless_caught(vertex, (MissingKeyError,)),
            )


def _read_before(subject: Subject, flow: Data, read: Missing, data: DataFlow) -> Finding:
    inputs = subject.inputs or ()
    path, removed = flow.path(read.key, read.spot, data)
    why = "nothing on it writes the field"
    if removed is not None:
        why = f"{removed!r} removes it"
    elif read.key not in flow.written:
        declared = ", ".join(inputs) or "none"
        why = f"no node writes it, and it is not among the inputs ({declared})"
        why += closest(read.key, inputs)
    message = f"it reads {read.key!r} before anything wrote it, on the path {path}: {why}"
    fix = f"write {read.key!r} on that path, give it a default in the schema, or "
    if read.key not in subject.effects(read.spot.vertex).reads:
        message = f"it gives an increment to {read.key!r}, which has no value yet"
        message += f" on the path {path}"
        fix = f"give {read.key!r} a default in the schema, such as an empty list, or "
    if subject.is_inner:
        known = subject.fields.model is not None
        field = f"fields({subject.fields.label}).{read.key}" if known else f"key({read.key!r})"
        fix += f"hand it in: Subflow(..., inputs=[bind({field}).to(...)])"
    else:
        fix += "name it among Flow(..., inputs=...), if runs are given it"
    return subject.finding(
        "PF301",
        message,
        fix if removed is None else f"write {read.key!r} again on that path, or do not remove it",
        node=read.spot.inside(read.location.node),
        where=read.location.where,
        severity=flow.severity(read, data),
    )


def _unset(subject: Subject, flow: Data, key: str, spot: Spot, way: Way) -> Finding:
    """A key that is not set at an end; an error if it is declared."""
    path, removed = flow.path(key, spot, flow.calm)
    path += " -> END" if way.action == "default" else f" -{way.action or '*'}-> END"
    why = "" if key in flow.written else ", and no node writes it"
    why = why if removed is None else f"; {removed!r} removes it"
    wanted = subject.outputs
    is_open = subject.is_wrapped or subject.has_writers or not flow.calm.lacks(spot, key, way)
    if wanted is None:
        counts = f"{subject.fields.label} requires it, so to_model() and validate() would fail then"
        fix = "give it a default in the schema, or name what is set at the end, Flow(outputs=...)"
    elif subject.is_inner:
        counts, fix = f"the flow hands back {key!r}", "take the output out"
    else:
        counts, fix = "it is among the outputs", "take it out of Flow(outputs=...)"
    return subject.finding(
        "PF301" if subject.is_inner else "PF304",
        f"{key!r} is not set where the run ends on the path {path}: {counts}{why}",
        f"write {key!r} on that path, or {fix}",
        node=spot.name,
        where=None if wanted is None else wanted[key],
        severity="warning" if wanted is None or is_open else "error",
    )


def _set_again(subject: Subject, flow: DataFlow) -> Iterator[Finding]:
    """Writes to frozen fields that already have a value, which may be the same."""
    reported: set[tuple[int, str]] = set()
    for spot, effects in flow.effects.items() if subject.fields.frozen else ():
        for key in subject.fields.frozen & effects.writes.keys():
            if (id(spot.vertex.node), key) not in reported and flow.is_set_again(spot, key):
                reported.add((id(spot.vertex.node), key))
                at = effects.writes[key]
                yield subject.finding(
                    "PF203",
                    f"it writes {key!r}, which has a value by then and is frozen: the store "
                    "refuses another one",
                    "write to a field that is not frozen, or leave frozen=True out",
                    node=spot.inside(at.node),
                    where=at.where,
                    severity="warning",
                )


def _unread(subject: Subject, flow: DataFlow) -> Iterator[Finding]:
    """Writes that every path overwrites before any read, by backward liveness."""
    spots = () if subject.is_watched else subject.walk.spots
    reported: set[tuple[int, str]] = set()
    for spot in spots:
        effects = flow.effects[spot]
        for key, at in effects.writes.items():
            once = (id(spot.vertex.node), key)
            if once in reported or key in effects.reads or subject.fields.reduces(key):
                continue
            if flow.is_read(spot, key):
                continue
            writers = ", ".join(map(repr, flow.writers_after(spot, key)))
            if not writers:
                continue  # it never ends, which is another finding (PF104)
            reported.add(once)
            yield subject.finding(
                "PF302",
                f"what it writes to {key!r} is overwritten on every path before anything reads it, "
                f"by {writers}",
                "read it somewhere, or take the write out",
                node=spot.inside(at.node),
                where=at.where,
            )
