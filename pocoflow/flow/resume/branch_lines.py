"""The parallel branches of a stored run, in the graph as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pocoflow import values as codec
from pocoflow.db.lines import StoredBranch
from pocoflow.db.positions import Position
from pocoflow.db.values import read_values
from pocoflow.engine.run import SavedBranch
from pocoflow.errors import ResumeError
from pocoflow.flow.resume.relocation import Places
from pocoflow.flow.resume.unfinished import answers, prepared, replayed
from pocoflow.graph.graph import Graph, GraphNode
from pocoflow.nodes.subflow import Subflow
from pocoflow.store.schema import field_types, schema_types

__all__ = ["SavedBranches"]


class SavedBranches:
    """The parallel branches of a stored run, looked up in the graph as it is now.

    Attributes:
        found: Those that were found, by scope.
    """

    def __init__(self, places: Places, position: Position, classes: codec.Classes) -> None:
        self._places, self._run_id = places, places.run_id
        self._stored = position.branches
        self._step, self._now = position.step, position.read_at
        self._classes = classes
        self.found: dict[str, SavedBranch] = {}

    def look_into(
        self,
        place: GraphNode,
        fork: str,
        depth: int,
        under: Mapping[str, str] | None,
    ) -> None:
        """Find the branches that begin in a node, which is ``depth`` names deep, and in those.

        ``under`` is what defined the fields of the store around them, if that is known.
        """
        for scope, stored in self._stored.items():
            before, _, number = scope.rpartition(".")
            if before != fork:
                continue
            graphs = place.branches
            if not graphs:
                raise ResumeError(
                    f"run {self._run_id!r} stands in the parallel branches of {place.name!r}, "
                    f"which has none now{self._places.listed}"
                )
            # The branches of FanOut are all of one graph.
            number_of_graph = 0 if len(graphs) == 1 else int(number)
            if number_of_graph < len(graphs):
                node = place.node
                classes, inside = self._classes, under
                if isinstance(node, Subflow):
                    own = node.flow.schema
                    classes = classes.within(schema_types(own), field_types(own))
                    inside = None  # nobody knows what its schema was
                self._add(scope, stored, graphs[number_of_graph], depth, classes, inside)

    def _add(
        self,
        scope: str,
        stored: StoredBranch,
        graph: Graph,
        depth: int,
        classes: codec.Classes,
        under: Mapping[str, str] | None,
    ) -> None:
        label_of = f"run {self._run_id!r}, branch {scope}"
        own = read_values(stored.rows, label_of, classes)._replace(under=under)
        places: list[GraphNode] = [graph.start]
        if stored.node:
            names = (*stored.path, stored.node)
            places = self._places.find(graph, names, depth)
        place = None if stored.node is None else places[-1]
        replay: dict[int, Any] = {}
        kept: tuple[Any, ...] = ()
        pending = None
        if place is not None:
            leaf, path = place.first()
            name = stored.node or leaf.name
            replay = replayed(self._run_id, self._step, name, stored.journal, leaf.node, classes)
            replay |= answers(stored.asked, leaf, self._now)
            kept = prepared(self._run_id, stored.pause, leaf, classes)
            if stored.pause is not None:
                pending = read_values(stored.pause.changes, label_of, classes)
                pending = pending._replace(under=under)
            deeper = len(stored.path) + 1 if stored.node else depth + len(path) + 1
            self.look_into(leaf, f"{scope}/{stored.count}", deeper, under)
        self.found[scope] = SavedBranch(
            stored, place, places[:-1], own, replay, kept, pending, stored.items
        )
