"""The record of the unfinished steps of a stored run, read under the current code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from pocoflow import values as codec
from pocoflow.db.renaming import rename_taken
from pocoflow.db.values import WHOLE, read_values
from pocoflow.engine.asking import Waiting
from pocoflow.errors import AnswerError, DecodeError, Remedy, ResumeError
from pocoflow.flow.resume.relocation import Relocation
from pocoflow.graph.graph import Graph, Vertex
from pocoflow.graph.routing import enter
from pocoflow.graph.unfinished import Unfinished
from pocoflow.messages import main_name
from pocoflow.nodes.answer_types import answer_type
from pocoflow.nodes.base import AnyNode
from pocoflow.nodes.parallel import Parallel
from pocoflow.nodes.phase_types import exec_types, prep_types
from pocoflow.nodes.question import Asked
from pocoflow.nodes.subflow import Subflow
from pocoflow.store.schema.vouching import classes_within


class Reader:
    """Reads the lines of a stored run under the current code.

    Args:
        relocation: Finds nodes by their stored names.
        now: The time with which deadlines are compared.
    """

    def __init__(self, relocation: Relocation, now: str) -> None:
        self._relocation, self._run_id, self._now = relocation, relocation.run_id, now

    def prepared(
        self, record: Unfinished, vertex: Vertex, classes: codec.Classes
    ) -> tuple[object, ...]:
        """The recorded result of ``prep`` as the only element, if there is one."""
        if not record.prepared:
            return ()
        known = classes.of(prep_types(vertex.node))
        try:
            return tuple(codec.loads(text, known) for text in record.prepared)
        except DecodeError as exc:
            raise exc.about(
                f"run {self._run_id!r}: what prep of node {vertex.name!r} returned cannot be read"
            ) from exc

    def line(
        self,
        record: Unfinished,
        nodes: list[Vertex],
        depth: int,
        classes: codec.Classes,
        is_known: bool = True,
    ) -> Unfinished:
        """A line, and those of the branches in its step.

        Args:
            record: The line as it is in the log.
            nodes: The flows around the next node, and the node.
            depth: How many names enclose its graph.
            classes: The classes of its values.
            is_known: Whether the definitions of the fields of its store are known.

        Raises:
            ResumeError: The code of its pending node has changed.
            DecodeError: A value is damaged.
        """
        first = enter(nodes[-1])
        leaf = first.vertex or nodes[-1]
        depth = (len(record.names) if record.names else depth + 1) + len(first.frames)
        results = self._results(record, leaf, classes) | answers(record.asked, leaf, self._now)
        templates = self._templates(record, leaf, depth)
        return replace(
            record,
            vertices=tuple(nodes),
            taken=rename_taken(record.taken, record.names or (), self._relocation.renamed),
            classes=classes,
            results=results,
            calls=_calls_now(record.calls, self._relocation.moved),
            prepared=self.prepared(record, leaf, classes),
            templates=templates,
            branches=self._branches(record, leaf, templates, depth, classes, is_known),
        )

    def _templates(self, record: Unfinished, vertex: Vertex, depth: int) -> dict[int, int | None]:
        """The index of the current branch for each started branch, by its number."""
        if record.branches and not vertex.branches:
            raise ResumeError(
                f"run {self._run_id!r} stands in the parallel branches of {vertex.name!r}, "
                f"which has none now{self._relocation.listed}"
            )
        if not isinstance(vertex.node, Parallel):
            return dict.fromkeys(record.branches, 0)  # they are all of one graph
        starts = [graph.start.name for graph in vertex.branches]
        return {
            number: self._relocation.branch(starts, branch.began[: depth + 1])
            for number, branch in record.branches.items()
        }

    def _branches(
        self,
        record: Unfinished,
        vertex: Vertex,
        templates: Mapping[int, int | None],
        depth: int,
        classes: codec.Classes,
        is_known: bool,
    ) -> dict[int, Unfinished]:
        node = vertex.node
        if isinstance(node, Subflow):
            classes = classes_within(classes, node.flow.schema)
            is_known = False  # its schema is not recorded
        branches: dict[int, Unfinished] = {}
        for number, branch in record.branches.items():
            which = templates[number]
            if which is None:
                continue
            graph: Graph = vertex.branches[which]
            label = f"run {self._run_id!r}, branch {number} of node {vertex.name!r}"
            under = self._relocation.definitions(branch.row) if is_known else None
            branch = replace(
                branch, own=read_values(branch.rows, label, classes)._replace(under=under)
            )
            if branch.names is not None:
                nodes = [graph.start]
                if branch.names:
                    nodes = self._relocation.find(graph, branch.names, depth)
                self._relocation.refuse_another(branch.names or branch.began)
                branch = self.line(branch, nodes, depth, classes, is_known)
                if branch.prepared:
                    under = self._relocation.definitions(branch.changed_at) if is_known else None
                    # A change there applies to the values that are the branch's own.
                    known = {row[0] for row in branch.rows if row[1] == WHOLE}
                    known &= {row[0] for row in branch.changes}
                    rows = [row for row in branch.rows if row[0] in known]
                    pending = read_values([*rows, *branch.changes], label, classes)
                    branch = replace(branch, pending=pending._replace(under=under))
            branches[number] = branch
        return branches

    def _results(
        self, record: Unfinished, vertex: Vertex, classes: codec.Classes
    ) -> dict[int, object]:
        """The finished results of ``exec``, by item.

        Raises:
            ResumeError: The node works on items now and did not before, or vice versa.
            DecodeError: A result cannot be read.
        """
        if not record.results:
            return {}
        _same_items(self._run_id, vertex.node, next(item < 0 for item in record.results))
        known = classes.of(exec_types(vertex.node))
        try:
            return {item: codec.loads(text, known) for item, text in record.results.items()}
        except DecodeError as exc:
            name = record.names[-1] if record.names else vertex.name
            raise exc.about(
                f"run {self._run_id!r}: the finished result of exec of node {name!r} (step "
                f"{record.steps}) cannot be read (a fork calls it again)"
            ) from exc


def _calls_now(
    calls: Mapping[int, Mapping[str, str]], moved: Mapping[str, str]
) -> Mapping[int, Mapping[str, str]]:
    """Journaled calls by their current keys, which begin with the name of a module."""
    new_names = {
        old.rpartition(".")[2]: new
        for old, new in moved.items()
        if old not in sys.modules  # else its functions are still in it
    }

    def new_key(key: str) -> str:
        module, _, rest = key.partition(".")
        new, name = new_names.get(module), rest.partition(" ")[0].partition(".")[0]
        # The last part of a module's name is not unique: a function that the new module lacks is
        # of another one.
        if new is None or not hasattr(sys.modules.get(new), name):
            return key
        return f"{(main_name() if new == '__main__' else new).rpartition('.')[2]}.{rest}"

    return {item: {new_key(key): text for key, text in calls[item].items()} for item in calls}


def answers(asked: Mapping[int, Asked], vertex: Vertex, now: str) -> dict[int, object]:
    """The answers of people as results of ``exec``, with a ``Waiting`` for each open question."""
    results: dict[int, object] = {}
    kind = None
    for item, it in asked.items():
        _same_items(it.run_id, vertex.node, item < 0)
        if it.answer is None:
            results[item] = Waiting(it, it.is_expired(now))
            continue
        try:
            kind = kind or answer_type(vertex.node)
            results[item] = kind.read(it.answer)
        except AnswerError as exc:
            raise ResumeError(
                f"run {it.run_id!r}: question {it.about} cannot go on with its answer: "
                f"{exc}; it was given under another type, or checked by its JSON schema alone; "
                "flow.answer and flow.answer_json take another one in its place",
                remedies=[Remedy.of_answering("answer it anew", it.run_id, it.question)],
            ) from exc
    return results


def _same_items(run_id: str, node: AnyNode, alone: bool) -> None:
    if alone == node.is_batch:
        was = "had one result" if alone else "worked on several items"
        now = "works on several items" if alone else "has one result"
        raise ResumeError(
            f"run {run_id!r}: node {node.name!r} {was} when it was run before, and {now} now, so "
            "what is finished of it cannot be used; fork() makes a new run that begins it anew",
            remedies=[Remedy.of_forking(run_id)],
        )
