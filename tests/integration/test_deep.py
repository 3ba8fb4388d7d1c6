"""Flows in flows, a thousand deep: drawn, proved, described and run, with no end of the stack."""

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import (
    Flow,
    Node,
    Parallel,
    RunCancelled,
    RunHandle,
    Subflow,
    bind,
    context,
    fields,
    node,
)
from pocoflow.errors import DefinitionError
from pocoflow.graph.fingerprint import describe

DEEP = 1000

DEEP_ENOUGH = 300
"""Levels that are deeper than the stack, where each of them takes several calls."""


class Text(BaseModel):
    """The store of every flow here."""

    text: str = ""


T = fields(Text)


@node(writes=T.text)
def louder(text: str) -> str:
    """The innermost node."""
    return text + "!"


def alone(inner: Flow[Any], number: int) -> Flow[Any]:
    """The inner flow is all there is."""
    return Flow(inner, schema=Text, flow_name=f"level {number}")


def between(inner: Flow[Any], number: int) -> Flow[Any]:
    """There is a node before and one behind the inner flow."""
    first, last = Node[Any, Any, Any](name="first"), Node[Any, Any, Any](name="last")
    return (
        Flow(first, schema=Text, flow_name=f"level {number}").then(first, inner).then(inner, last)
    )


def on_its_own(inner: Flow[Any], number: int) -> Flow[Any]:
    """The inner flow has a store of its own."""
    links = [bind(T.text).to(T.text)]
    return Flow(Subflow(inner, inputs=links, outputs=links), schema=Text, flow_name=f"l{number}")


def in_parallel(inner: Flow[Any], number: int) -> Flow[Any]:
    """The inner flow is a branch."""
    return Flow(Parallel(inner, name=f"fork {number}"), schema=Text)


def nested(make: Callable[[Flow[Any], int], Flow[Any]], depth: int) -> Flow[Any]:
    """As many flows in one another."""
    flow: Flow[Any] = Flow(louder, schema=Text, flow_name="innermost")
    for number in range(depth):
        flow = make(flow, number)
    return flow


WAYS = [(alone, DEEP), (between, DEEP_ENOUGH), (on_its_own, DEEP), (in_parallel, DEEP_ENOUGH)]


@pytest.mark.parametrize(("make", "depth"), WAYS)
def test_many_levels_are_proved_and_drawn(
    make: Callable[[Flow[Any], int], Flow[Any]], depth: int
) -> None:
    """The graph, the proof, the drawings and the fingerprint do not count levels by calls."""
    flow = nested(make, depth)
    assert flow.validate() == []
    assert flow.graph.to_mermaid().count("louder") == 1
    assert flow.graph.to_dot().count("louder") == 1
    assert "louder" in describe(flow.graph, Text)


@pytest.mark.parametrize(("make", "depth"), WAYS)
@pytest.mark.parametrize("is_kept", [False, True])
def test_many_nested_flows_run(
    make: Callable[[Flow[Any], int], Flow[Any]], depth: int, is_kept: bool, tmp_path: Path
) -> None:
    """A run goes into all of them and comes out again, in memory and in a database."""
    inner = nested(make, depth - 1)
    flow = Flow(inner, schema=Text, db_path=tmp_path / "runs.db" if is_kept else None)
    assert flow.run({"text": "a"})["text"] == "a!"


@pytest.mark.parametrize("make", [on_its_own, in_parallel])
def test_branches_deeper_than_the_stack_fail_and_are_resumed(
    make: Callable[[Flow[Any], int], Flow[Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An error comes out of all of them, and a resume goes into all of them again."""
    caplog.set_level(logging.CRITICAL, "pocoflow")  # each level logs its error with the traceback

    @node(writes=T.text, name="once")
    def fails_once(text: str) -> str:
        if not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise OSError("down")
        return text + "!"

    inner: Flow[Any] = Flow(fails_once, schema=Text)
    for number in range(DEEP_ENOUGH):
        inner = make(inner, number)
    flow = Flow(inner, schema=Text, db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(OSError, match="down"):
        flow.run({"text": "a"})
    assert flow.resume("r")["text"] == "a!"


def test_a_thousand_levels_are_cancelled() -> None:
    """The request gets through to the innermost one."""
    begun, asked = Event(), Event()

    @node
    def waits() -> None:
        begun.set()
        assert asked.wait(60)
        context().check_cancelled()

    inner: Flow[Any] = Flow(waits, schema=Text)
    for number in range(DEEP):
        inner = in_parallel(inner, number)
    handle: RunHandle[Any] = inner.run_background({"text": "a"})
    assert begun.wait(60)
    handle.cancel()
    asked.set()
    with pytest.raises(RunCancelled):
        handle.wait()


def test_a_deep_flow_that_contains_itself_is_told() -> None:
    """A circle of flows is found however long it is."""
    first: Flow[Any] = Flow(louder, schema=Text, flow_name="outermost")
    flow = first
    for number in range(DEEP):
        flow = alone(flow, number)
    first.then(louder, flow)
    with pytest.raises(DefinitionError, match="contains itself"):
        flow.validate()
