"""Where a stored run stands in the graph as it is now."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from pocoflow.db.recorder import Position
from pocoflow.errors import ResumeError
from pocoflow.fingerprint import Fingerprint, differences, is_same_definition
from pocoflow.graph import Graph, GraphNode, label
from pocoflow.wording import closest

__all__ = ["Places"]

_NUMBER = re.compile(r"\[\d+\]")


class Places:
    """Finds the nodes that a stored run names, under the names that they have now.

    Args:
        run_id: The run.
        graph: The flow as it is now.
        before: The fingerprint of the flow that the run was started with, if it is known.
        now: That of the flow as it is now, as JSON text.
        rename: The names of nodes now, by those that they had.

    Attributes:
        changed: What has changed since the run was started, one line each.
    """

    def __init__(
        self,
        run_id: str,
        graph: Graph,
        before: Fingerprint | None,
        now: str,
        rename: Mapping[str, str],
    ) -> None:
        self.run_id = run_id
        self._graph, self._rename = graph, rename
        self._before: Mapping[str, Any] = {} if before is None else before["nodes"]
        now_known = json.loads(now)
        self._now: Mapping[str, Any] = now_known["nodes"]
        self.changed = [] if before is None else differences(before, now_known)

    @property
    def listed(self) -> str:
        """What has changed, for the end of a message."""
        lines = "".join(f"\n  - {line}" for line in self.changed)
        return f"\nWhat has changed since the run was started:{lines}" if lines else ""

    def pending(self, position: Position) -> tuple[GraphNode, list[GraphNode]]:
        """The node that comes next, and the flows around it.

        Raises:
            ResumeError: There is none of its name, or it is another one now; or a renaming is about
                a node that nobody knows.
        """
        if position.node is None:
            raise ResumeError(
                f"run {self.run_id!r} does not record which node comes next (a version before 0.3 "
                "wrote it): use flow.run(store, resume_from=node) with the store of its last "
                "checkpoint"
            )
        self._refuse_unknown(position)
        found = self.find(self._graph, (*position.path, position.node), 0)
        self._refuse_another(position.node, position.path)
        return found[-1], found[:-1]

    def find(self, graph: Graph, names: tuple[str, ...], skipped: int) -> list[GraphNode]:
        """The nodes of a path from a flow inwards.

        Args:
            graph: The flow; it stands after ``skipped`` of the names.
            names: The names that they had.
            skipped: How many of them are around the graph.

        Raises:
            ResumeError: One of them is not there.
        """
        found: list[GraphNode] = []
        here: Graph | None = graph
        for number in range(skipped, len(names)):
            name = self._name_of(names[: number + 1])
            place = None if here is None else here.nodes.get(name)
            if place is None:
                raise self._not_there(names, number, name, here)
            found.append(place)
            here = place.inner
        return found

    def _name_of(self, names: tuple[str, ...]) -> str:
        old = names[-1]
        given = self._rename.get(_plain(names), self._rename.get(old, old))
        return given.rpartition("/")[2]

    def _not_there(
        self, names: tuple[str, ...], number: int, name: str, here: Graph | None
    ) -> ResumeError:
        around = names[:number]
        within = f"flow {label(around[-1], around[:-1])!r}" if around else "this flow"
        known = here.nodes if here is not None else {}
        return ResumeError(
            f"run {self.run_id!r} stands before node {label(names[-1], names[:-1])!r}, and "
            f"{within} has no node {name!r}{closest(name, known) or '.'} If it has another name "
            f"now, pass rename={{{names[number]!r}: <new name>}}{self.listed}"
        )

    def _refuse_another(self, name: str, path: tuple[str, ...]) -> None:
        whole = label(name, path)
        old, new = self._before.get(whole), self._now.get(whole)
        if old is None or new is None or {name, whole} & self._rename.keys():
            return
        if not is_same_definition(old["class"], new["class"]):
            raise ResumeError(
                f"run {self.run_id!r} stands before node {whole!r}, which was {old['class']} and "
                f"is {new['class']} now; if that is the node to go on with, pass "
                f"rename={{{name!r}: {name!r}}}{self.listed}"
            )

    def _refuse_unknown(self, position: Position) -> None:
        if not self._before:
            return
        # A run that was resumed with a renaming may still stand before the old name.
        around = (name for one in position.branches.values() for name in (*one.path, one.node))
        stands = (position.node, *position.path, *around)
        had = _names(chain(self._before, (name for name in stands if name)))
        for old, new in self._rename.items():
            for name, names, when in ((old, had, "had"), (new, _names(self._now), "has")):
                if name not in names:
                    raise ResumeError(
                        f"run {self.run_id!r}: rename={{{old!r}: {new!r}}}, and its flow {when} no "
                        f"node {name!r}{closest(name, names)}{self.listed}"
                    )


def _names(labels: Iterable[str]) -> set[str]:
    """Names of nodes, alone and with the flows around them."""
    known = set(labels)
    return known | {one.rpartition("/")[2] for one in known}


def _plain(names: tuple[str, ...]) -> str:
    """A path as a graph has it, without the numbers of branches."""
    return _NUMBER.sub("", "/".join(names))
