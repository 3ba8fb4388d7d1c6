"""Journaled calls that are refused, and resources that are not open, are found before a run."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

import pocoflow
from pocoflow import END, Flow, Node, Store, context, key, node, resource
from pocoflow.check.findings import Finding
from pocoflow.errors import ResourceError, RunError


def llm(prompt: str) -> str:
    """A call whose result can be stored."""
    return prompt


def connect(to: str) -> threading.Thread:
    """A call whose result cannot be stored."""
    return threading.Thread(name=to)


def found(flow: Flow) -> list[Finding]:
    """The findings of the rule."""
    return [one for one in flow.validate() if one.code == "PF406"]


class Wrong(Node):
    """Calls that are refused, a line each."""

    def exec(self, prep_result: object) -> None:
        run = context()
        context().call(lambda: "text")
        run.call(lambda: "text")
        context().calling(timeout=3).call(lambda: "text")
        context().call(connect, "there")
        run.call(partial, llm)
        run.call(repr, threading)
        [context().call(sorted, [1], key=lambda one: -one) for _ in range(1)]


class Right(Node):
    """Calls that are not."""

    def exec(self, prep_result: object) -> None:
        run, other = context(), Phone()
        context().call(llm, "text")
        context().calling(name="text").call(lambda: "text")
        context().calling(name="text").call(lambda: "text")
        run.call(partial(llm, "text"))
        other.call(lambda: "text")
        connect = str
        run.call(connect, "there")


class Phone:
    """Has a method of that name, too."""

    def call(self, whom: object) -> None:
        """Call somebody."""


def test_each_call_that_is_refused_is_found_at_its_line() -> None:
    """A lambda without a name, an argument and a result that cannot be stored."""
    findings = found(Flow(Wrong()))
    assert [one.severity for one in findings] == ["warning"] * 7
    lines = sorted(one.line or 0 for one in findings)
    assert lines == list(range(lines[0], lines[0] + 7))
    said = " ".join(one.message for one in findings)
    assert said.count("lambda, which has no name") == 3
    assert "connect, which returns Thread" in said
    assert "it hands llm to a journaled call" in said
    assert "it hands threading to a journaled call" in said


def test_calls_that_are_made_are_not() -> None:
    """Named lambdas, partials, and methods of others that are called so."""
    assert not found(Flow(Right()))


def ask_both(prompt: str) -> None:
    """Make a call that is refused, for those who call this."""
    context().call(lambda: prompt)


class Helped(Node):
    """Has others make calls that are refused."""

    def exec(self, prep_result: object) -> None:
        self.ask()
        ask_both("text")

    def ask(self) -> None:
        """Make another."""
        run = context()
        run.call(connect, "there")


def test_calls_of_helpers_are_found_where_they_are_made() -> None:
    """In methods of the node, and in functions of a module, that exec names."""
    said = {one.message.partition(",")[0] for one in found(Flow(Helped()))}
    assert said == {
        "it makes a journaled call of a lambda",
        "it makes a journaled call of connect",
    }


class Misplaced(Node):
    """Makes calls where they are refused, and hands one to exec."""

    def prep(self, store: Store[Any]) -> Any:
        context().call(llm, "prep")
        return lambda: context().call(llm, "exec")

    def exec(self, later: Any) -> Any:
        return later()

    async def post(self, store: Store[Any], prepared: Any, result: Any) -> None:
        run = context()
        run.calling(name="post").call(llm, "post")


def test_a_call_outside_of_exec_is_found() -> None:
    """In prep, in post, and in a function that takes the store, as that is called in post."""

    @node
    def keep(store: Store[Any]) -> None:
        context().call(llm, "store")

    first = Misplaced()
    flow = Flow(first, flow_name="f")
    flow.then(first, keep)
    said = [(one.node, one.message.partition(",")[0]) for one in found(flow)]
    assert sorted(said) == [
        ("Misplaced", "it makes a journaled call in post"),
        ("Misplaced", "it makes a journaled call in prep"),
        ("keep", "it makes a journaled call in post"),
    ]
    for start in (first, keep):
        with pytest.raises(RunError, match=r"context\(\)\.call .* work in exec of a node"):
            Flow(start).run({})


class Settings:
    """Stands for settings that are read when they are first asked for anything."""

    def __getattribute__(self, name: str) -> Any:
        raise OSError(f"asked for {name}")


SETTINGS: Any = Settings()


class Configured(Node):
    """Hands settings to calls."""

    def exec(self, prep_result: object) -> None:
        context().call(llm, SETTINGS.prompt)
        context().call(llm, SETTINGS)
        context().call(SETTINGS.llm, "text")
        SETTINGS.context().call(lambda: "text")


def test_an_object_that_a_call_is_handed_is_not_asked_for_anything() -> None:
    """What stands for settings is not made by the proof."""
    assert {one.code for one in Flow(Configured()).validate()}.isdisjoint({"PF001", "PF406"})


@contextmanager
def _opened() -> Generator[list[str]]:
    yield []


opened = resource(list[str], "opened", open=_opened)
given = resource(list[str], "given")


class Asks(Node):
    def prep(self, store: Any) -> Any:
        return pocoflow.context()[opened]


class Declares(Asks):
    resources = (opened,)


class AsksForGiven(Node):
    def exec(self, prep_result: Any) -> Any:
        return context()[given]


def take() -> list[str]:
    """Take it for others."""
    run = context()
    return run[opened]


class AsksByOthers(Node):
    def exec(self, prep_result: Any) -> Any:
        return self.take()

    def take(self) -> list[str]:
        """Have it taken."""
        return take()


class Shelf:
    """Has a method that is called as a helper is."""

    def take(self) -> list[str]:
        """Take what is there."""
        return []


class AsksNobody(Node):
    def exec(self, prep_result: Any) -> Any:
        return Shelf().take()


class AsksIfThere(Node):
    def exec(self, prep_result: Any) -> Any:
        try:
            return context()[opened]
        except ResourceError:
            return []


@node(writes=key("n"))
def asks() -> int:
    """Ask without a declaration."""
    return len(context()[opened])


@node
def declares(logs: list[str] = opened) -> None:
    """Make the run open it."""


def test_a_helper_that_was_defined_again_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a notebook, where the class that names it stays as it is."""
    flows = [Flow(AsksByOthers(), inputs=()) for _ in range(2)]
    assert [one.code for one in flows[0].validate()] == ["PF209"]
    monkeypatch.setitem(globals(), "take", Shelf.take)
    assert flows[1].validate() == []


def test_what_no_node_declares_is_told_before_it_is_missing() -> None:
    """A warning, as whoever starts a run may give it; a declaration anywhere in the flow counts."""
    inner: Any = Flow(Declares(name="inside"), flow_name="inner")
    flows = {
        "a class": (Flow(Asks(), inputs=()), ["Asks"]),
        "many of a class": (Flow(Asks(name="a"), inputs=()).then(Asks(name="b"), END), ["a"]),
        "a function": (Flow(asks), ["asks"]),
        "by a helper": (Flow(AsksByOthers(), inputs=()), ["AsksByOthers"]),
        "by the name of a helper": (Flow(AsksNobody(), inputs=()), []),
        "if it is there": (Flow(AsksIfThere(), inputs=()), []),
        "given": (Flow(AsksForGiven(), inputs=()), []),
        "declared": (Flow(Declares(), inputs=()), []),
        "by another": (Flow(declares).then(declares, asks), []),
        "inside": (
            Flow(declares).then(declares, inner).then(inner, asks),
            [],
        ),
    }
    for name, (flow, nodes) in flows.items():
        found = [one for one in flow.validate() if one.code == "PF209"]
        assert [one.node for one in found] == nodes, name
        assert all(one.severity == "warning" for one in found)
        if name in ("a class", "a function"):
            with pytest.raises(ResourceError, match=r"resources = \(<key>,\)"):
                flow.run({})
            flow.run({}, resources={opened: []})
