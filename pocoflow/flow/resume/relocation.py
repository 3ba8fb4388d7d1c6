"""Finding the pending nodes of a stored run in the current graph."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import chain

from pocoflow.address import Numbered, plain
from pocoflow.db.sql import number_in_run
from pocoflow.errors import Remedy, ResumeError
from pocoflow.graph.fingerprint import (
    Fingerprint,
    Names,
    differences,
    is_same_definition,
    moved_modules,
    nodes_of,
)
from pocoflow.graph.graph import Graph, Vertex
from pocoflow.graph.unfinished import Unfinished
from pocoflow.logging import OwnLogger
from pocoflow.messages import closest, is_same_field, renaming_option

_log = OwnLogger("flow")


class Relocation:
    """Finds the nodes that a stored run names, under their current names.

    Args:
        run_id: The run.
        graph: The current flow.
        before: The fingerprint of the flow that the run was started with, if it is known.
        now: The fingerprint of the current flow, as JSON text.
        rename: The current names of nodes, by their stored names.
        was_resumed: Whether the run was resumed before, perhaps with the same renamings: since
            then its record has the new names.

    Attributes:
        changed: What has changed since the run was started, one line each.
        moved: The current names of modules, by their names at that time.
        now: The fingerprint of the current flow, with these.
    """

    def __init__(
        self,
        run_id: str,
        graph: Graph,
        before: Fingerprint | None,
        now: str,
        rename: Mapping[str, str],
        was_resumed: bool = False,
    ) -> None:
        self.run_id = run_id
        self._graph, self._rename, self._was_resumed = graph, rename, was_resumed
        self._before = {} if before is None else nodes_of(before)
        current = json.loads(now)
        self._now = nodes_of(current)
        self._definitions: Mapping[str, str] | None = (before or {}).get("schema")
        self._older: list[tuple[int, Mapping[str, str]]] = (before or {}).get("older", [])
        self.changed = [] if before is None else differences(before, current)
        self.moved = {} if before is None else moved_modules(before, current)
        self.now = (
            json.dumps({**current, "modules": self.moved}, sort_keys=True) if self.moved else now
        )

    def definitions(self, row: int) -> Mapping[str, str] | None:
        """The definitions of the fields when a row of the log was written, if known."""
        if self._definitions is None:
            return None
        known = dict(self._definitions)
        for last, older in reversed(self._older):
            if number_in_run(row) <= last:
                known |= older
        return known

    def with_older(self, last: int) -> str:
        """The current fingerprint, with previous definitions of fields that branches still use.

        Args:
            last: The last row of the log.
        """
        now, old = json.loads(self.now), self._definitions or {}
        schema = now["schema"] or {}
        changed = {k: field for k, field in old.items() if not is_same_field(field, schema.get(k))}
        older = [*self._older, *([(number_in_run(last), changed)] if changed else [])]
        return json.dumps({**now, "older": older}, sort_keys=True) if older else self.now

    @property
    def listed(self) -> str:
        """The changes, for the end of a message."""
        lines = "".join(f"\n  - {line}" for line in self.changed)
        return f"\nWhat has changed since the run was started:{lines}" if lines else ""

    def pending(self, record: Unfinished) -> list[Vertex]:
        """The flows around the next node, and the node.

        Raises:
            ResumeError: No node has its name, or the node has another definition; or a renaming is
                about an unknown node.
        """
        if not record.names:
            raise ResumeError(
                f"run {self.run_id!r} does not record which node comes next (a version before 0.3 "
                "wrote it): use flow.run(store, resume_from=node) with the store of its last "
                "checkpoint"
            )
        self._rename = self._pending_renamings(record)
        nodes = self.find(self._graph, record.names, 0)
        self.refuse_another(record.names)
        return nodes

    def find(self, graph: Graph, names: tuple[str, ...], skipped: int) -> list[Vertex]:
        """The nodes of a path from a flow inwards.

        Args:
            graph: The flow; ``skipped`` of the names lead to it.
            names: Their stored names.
            skipped: How many of the names enclose the graph.

        Raises:
            ResumeError: One of them does not exist.
        """
        vertices: list[Vertex] = []
        inner: Graph | None = graph
        stored_names, names = names, plain(names)
        for number in range(skipped, len(names)):
            name = self._name_of(names[: number + 1], {} if inner is None else inner.nodes)
            vertex = None if inner is None else inner.nodes.get(name)
            if vertex is None:
                raise self._missing(stored_names, number, name, inner)
            vertices.append(vertex)
            inner = vertex.inner
        return vertices

    def branch(self, now: list[str], names: tuple[str, ...]) -> int | None:
        """The index of a stored branch among those of a node; ``None`` if it was removed.

        Args:
            now: The current names of the branches.
            names: The stored name of the branch, after those around it.

        Raises:
            ResumeError: It may have been renamed.
        """
        names = plain(names)
        around, name = names[:-1], self._name_of(names, now)
        if name in now:
            return now.index(name)
        if all((*around, name_now) in self._before for name_now in now):
            return None
        raise ResumeError(
            f"run {self.run_id!r} was in branch {'/'.join(names)!r}, and node "
            f"{'/'.join(around)!r} has no branch {name!r}{closest(name, now) or '.'} If it has "
            f"another name now, pass rename={{{names[-1]!r}: <new name>}}{self.listed}",
            remedies=[renaming(self.run_id, names[-1])],
        )

    def renamed(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The current names of the flows and branches around a node, and its own."""
        now: tuple[str, ...] = ()
        for depth, name in enumerate(names, 1):
            around = plain(now)
            known = [known_names[-1] for known_names in self._now if known_names[:-1] == around]
            new = self._name_of(plain(names[:depth]), known)
            # A renaming by name alone may be about a node of another flow.
            if new not in known:
                new = name
            elif isinstance(name, Numbered):
                new = Numbered(new, name.number)
            now = (*now, new)
        return now

    def _name_of(self, names: Names, known: Iterable[str]) -> str:
        """The current name of a node, among those of its current flow."""
        given = self._rename.get("/".join(names), self._rename.get(names[-1], names[-1]))
        if given in known:
            return given
        # The new name may have been given with the path to it.
        ends = (name for name in known if given.endswith(f"/{name}"))
        return max(ends, key=len, default=given)

    def _missing(
        self, names: tuple[str, ...], number: int, name: str, inner: Graph | None
    ) -> ResumeError:
        around = names[:number]
        flow_text = f"flow {'/'.join(around)!r}" if around else "this flow"
        known = inner.nodes if inner is not None else {}
        return ResumeError(
            f"run {self.run_id!r} stands before node {'/'.join(names)!r}, and "
            f"{flow_text} has no node {name!r}{closest(name, known) or '.'} If it has another name "
            f"now, pass rename={{{names[number]!r}: <new name>}}; if no edge leads to it any more, "
            f"write one{self.listed}",
            remedies=[renaming(self.run_id, names[number])],
        )

    def refuse_another(self, names: tuple[str, ...]) -> None:
        """Refuse to resume at a node whose definition was replaced by another one.

        Args:
            names: Its stored name, after those around it.

        Raises:
            ResumeError: It was.
        """
        now, names = plain(self.renamed(names)), plain(names)
        name, before = names[-1], "/".join(names)
        old, new = self._before.get(names), self._now.get(now)
        if old is None or new is None or {name, before} & self._rename.keys():
            return
        if not is_same_definition(old, new):
            same = ", the same name on both sides" if name == now[-1] else ""
            raise ResumeError(
                f"run {self.run_id!r} stands before node {before!r}, which was {old['class']} and "
                f"is {new['class']} now; if that is the node to go on with, say so with "
                f"rename={{{name!r}: {now[-1]!r}}}{same}{self.listed}",
                remedies=[renaming(self.run_id, name, now[-1])],
            )

    def _pending_renamings(self, record: Unfinished) -> Mapping[str, str]:
        """The renamings without those that an earlier resume has recorded.

        Raises:
            ResumeError: One is about an unknown node.
        """
        if not self._before or not self._rename:
            return self._rename
        # A fork of an early step may have a pending node whose name is not in the flow that last
        # resumed its parent.
        pending = [plain(line.names) for line in record.lines() if line.names]
        had = _known(chain(self._before, pending))
        has = _known(self._now)
        for old, new in self._rename.items():
            for name, names, when in ((old, had, "had"), (new, has, "has")):
                if name not in names and not (self._was_resumed and when == "had"):
                    raise ResumeError(
                        f"run {self.run_id!r}: rename={{{old!r}: {new!r}}}, and its flow {when} no "
                        f"node {name!r}{closest(name, names)}{self.listed}"
                    )
        if self._was_resumed and _definitions(self._before) == _definitions(self._now):
            if self._rename.keys() <= had and any(old != new for old, new in self._rename.items()):
                _log.warning(
                    "run %r: rename=%r is not used: the run was resumed before, and its record has "
                    "the names that its flow has now",
                    self.run_id,
                    dict(self._rename),
                )
            return {}
        return {old: new for old, new in self._rename.items() if old in had}


def renaming(run_id: str, old: str, new: str | None = None) -> Remedy:
    """To resume a run whose node was renamed; ``new`` is ``None`` if its name is unknown."""
    option = renaming_option(old, new or "NEW")
    value = "<new name>" if new is None else repr(new)
    what = f"if {old!r} has another name now"
    return Remedy.of_resuming(what, run_id, f"rename={{{old!r}: {value}}}", "--rename", option)


def giving(run_id: str, keys: Iterable[str]) -> Remedy:
    """To resume a run with values for these keys of its store."""
    values = ", ".join(f"{key!r}: <value>" for key in keys)
    options = (word for key in keys for word in ("--set", f"{key}=JSON"))
    return Remedy.of_resuming("give a value", run_id, f"changes={{{values}}}", *options)


def _definitions(nodes: Mapping[Names, Mapping[str, str]]) -> dict[Names, str]:
    return {names: node["class"] for names, node in nodes.items()}


def _known(addresses: Iterable[Names]) -> set[str]:
    """The names that a renaming may use for nodes and those around them."""
    paths: set[Names] = set()
    for names in addresses:
        while names and names not in paths:
            paths.add(names)
            names = names[:-1]
    return {names[-1] for names in paths} | {"/".join(names) for names in paths}
