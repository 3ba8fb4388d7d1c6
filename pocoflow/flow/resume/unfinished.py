"""What is kept of a step that a stored run has begun, read back under the code as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pocoflow import values as codec
from pocoflow.db.positions import Position
from pocoflow.db.question_rows import Asked, Pause
from pocoflow.engine.asking import Waiting
from pocoflow.errors import AnswerError, DecodeError, ResumeError
from pocoflow.graph.graph import GraphNode
from pocoflow.nodes.annotations import read_hints
from pocoflow.nodes.answer_types import answer_type
from pocoflow.nodes.base import Node
from pocoflow.nodes.function import FunctionNode

__all__ = ["answers", "prepared", "replayed", "with_usable_inputs"]


def answers(asked: Mapping[int, Asked], place: GraphNode, now: str) -> dict[int, Any]:
    """What people have answered, as results of ``exec``; what stands for it where they have not."""
    found: dict[int, Any] = {}
    kind = None
    for item, one in asked.items():
        _same_items(one.run_id, place.node, item < 0)
        if one.answer is None:
            found[item] = Waiting(one, one.is_late(now))
            continue
        try:
            kind = kind or answer_type(place.node)
            found[item] = kind.read(one.answer)
        except AnswerError as exc:
            raise ResumeError(
                f"run {one.run_id!r}: question {one.about} cannot go on with its answer: {exc}; "
                "it was given under another type, or checked by its JSON schema alone; flow.answer "
                "and flow.answer_json take another one in its place"
            ) from exc
    return found


def prepared(
    run_id: str, pause: Pause | None, place: GraphNode, classes: codec.Classes
) -> tuple[Any, ...]:
    """What ``prep`` had returned, as the only element, if that is on record; nothing otherwise."""
    if pause is None:
        return ()
    try:
        return (codec.loads(pause.prepared, classes.of(_prep_types(place.node))),)
    except DecodeError as exc:
        raise exc.about(
            f"run {run_id!r}: what prep of node {place.name!r} returned cannot be read"
        ) from exc


def with_usable_inputs(position: Position, changes: Mapping[str, Any]) -> Position:
    """A position without what ``prep`` gave where it has to run again.

    That is where the caller changes values: it may give something else by then. What was asked
    stays as it was asked, and so does what was given to whoever asked it.
    """
    if not changes:
        return position
    branches = {
        scope: one if one.asked else replace(one, pause=None)
        for scope, one in position.branches.items()
    }
    pause = position.pause if position.asked else None
    return replace(position, pause=pause, branches=branches)


def replayed(
    run_id: str,
    step: int,
    name: str | None,
    journal: Mapping[int, str],
    node: Node[Any, Any, Any],
    classes: codec.Classes,
) -> dict[int, Any]:
    """The results of ``exec`` that were finished, by item.

    Raises:
        ResumeError: The node works on items now and did not before, or the other way round.
        DecodeError: A result cannot be read.
    """
    alone = next((item < 0 for item in journal), None)
    if alone is not None:
        _same_items(run_id, node, alone)
    known = classes.of(_exec_types(node))
    try:
        return {item: codec.loads(text, known) for item, text in journal.items()}
    except DecodeError as exc:
        raise exc.about(
            f"run {run_id!r}: the finished result of exec of node {name!r} (step {step + 1}) "
            "cannot be read"
        ) from exc


def _same_items(run_id: str, node: Node[Any, Any, Any], alone: bool) -> None:
    if alone == node.is_batch:
        was = "had one result" if alone else "worked on several items"
        now = "works on several items" if alone else "has one result"
        raise ResumeError(
            f"run {run_id!r}: node {node.name!r} {was} when it was run before, and {now} now, so "
            "what is finished of it cannot be used; fork() makes a new run that begins it anew"
        )


def _prep_types(node: Node[Any, Any, Any]) -> list[object]:
    """What ``prep`` gives and ``exec`` makes a question of, as far as annotations tell."""
    if isinstance(node, FunctionNode):
        return [hint for name, hint in node.signature.hints.items() if name != "return"]
    return _returned(node, ("prep", "exec"), 0)


def _exec_types(node: Node[Any, Any, Any]) -> list[object]:
    """What ``exec`` returns, as far as annotations tell."""
    if isinstance(node, FunctionNode):
        return [hint for name, hint in node.signature.hints.items() if name == "return"]
    return _returned(node, ("exec", "exec_async"), 1)


def _returned(node: Node[Any, Any, Any], phases: Iterable[str], argument: int) -> list[object]:
    """What phases of a class return, and a type argument of its bases."""
    kind: Any = type(node)
    found = [
        read_hints(getattr(kind, name)).get("return") for name in phases if hasattr(kind, name)
    ]
    for base in getattr(kind, "__orig_bases__", ()):
        found += getattr(base, "__args__", ())[argument : argument + 1]
    return [hint for hint in found if hint is not None]
