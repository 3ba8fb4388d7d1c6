"""Journaled calls that are refused are found before a run."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from pocoflow import Flow, Node, context
from pocoflow.check.findings import Finding


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
