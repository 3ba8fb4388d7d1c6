"""What is read from the source of a classic node: its reads, its writes, its ways out."""

import ast
import contextlib
import functools
import gc
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import Flow, Node, Store
from pocoflow.check.store_use import read_source

KEY = "named"


class Phases:
    """What a phase may look like."""

    def plain(self: Any, store: Store) -> None:
        store["a"] = store["b"] + store.state.c

    def once(self: Any, store: Store) -> None:
        if self:
            store["x"]
        store["y"]
        while self:
            store["z"]

    def after_a_return(self: Any, store: Store) -> str:
        if self:
            return "early"
        store["late"]
        store["w"] = 1
        return "done"

    def guarded(self: Any, store: Store) -> None:
        if "a" in store:
            store["a"]
        store.get("b")
        store["b"]
        try:
            store["c"]
        except KeyError:
            pass
        with contextlib.suppress(KeyError):
            store["d"]
        hasattr(store.state, "e") and store.state.e
        store.pop("f", None)

    def try_without_handler(self: Any, store: Store) -> None:
        try:
            store["a"]
        finally:
            store["b"]

    def after_a_write(self: Any, store: Store) -> None:
        store["a"] = 1
        store["a"] += store["b"]
        store["c"] += 1

    def many_writes(self: Any, store: Store) -> None:
        store.update({"a": 1, KEY: 2}, b=3)
        store.setdefault("c", 4)
        store.state.d = 5
        state = store.state
        state.e = state.f

    def escapes(self: Any, store: Store) -> None:
        self.keep(store)
        store["a"]

    def dynamic(self: Any, store: Store) -> None:
        for key in "abc":
            store[key] = 1

    def closes_over(self: Any, store: Store) -> Any:
        return lambda: store["a"]

    def reads_all(self: Any, store: Store) -> None:
        print(dict(store), len(store), store.as_dict())

    def another_name(self: Any, store: Store) -> None:
        other = store
        other["a"] = 1
        view = other.state
        view.b = 2

    def by_action(self: Any, store: Store) -> str | None:
        if self:
            store["good"] = 1
            return "ok"
        elif store["x"]:
            return None
        return "a" if self else "b"

    def matched(self: Any, store: Store) -> None:
        match store["kind"]:
            case "a":
                store["w"] = 1
            case _:
                store["w"] = 2

    def comprehended(self: Any, store: Store) -> None:
        [store["inner"] for _ in store["outer"]]

    def short_circuit(self: Any, store: Store) -> Any:
        return store["first"] and store["second"]

    def endless(self: Any, store: Store) -> None:
        while True:
            store["a"]


@pytest.mark.parametrize(
    ("function", "needs"),
    [
        (Phases.plain, {"b", "c"}),
        (Phases.once, {"y"}),
        (Phases.after_a_return, set()),
        (Phases.guarded, {"b"}),
        (Phases.try_without_handler, {"a", "b"}),
        (Phases.after_a_write, {"b", "c"}),
        (Phases.many_writes, {"f"}),
        (Phases.escapes, set()),
        (Phases.dynamic, set()),
        (Phases.closes_over, set()),
        (Phases.reads_all, set()),
        (Phases.another_name, set()),
        (Phases.by_action, set()),
        (Phases.matched, {"kind"}),
        (Phases.comprehended, {"outer"}),
        (Phases.short_circuit, {"first"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_read_counts_if_every_call_comes_to_it(function: Any, needs: set[str]) -> None:
    """Only a read that is unconditional, unguarded and before any write of it is needed."""
    assert set(read_source(function).needs) == needs


@pytest.mark.parametrize(
    ("function", "writes", "more"),
    [
        (Phases.plain, {"a"}, False),
        (Phases.after_a_write, {"a", "c"}, False),
        (Phases.many_writes, {"a", "named", "b", "c", "d", "e"}, False),
        (Phases.escapes, set(), True),
        (Phases.dynamic, set(), True),
        (Phases.closes_over, set(), True),
        (Phases.reads_all, set(), False),
        (Phases.another_name, {"a", "b"}, False),
        (Phases.matched, {"w"}, False),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_writes_are_seen_or_left_open(function: Any, writes: set[str], more: bool) -> None:
    """A store that is passed on, or used with a computed key, may be written in any way."""
    effects = read_source(function)
    assert (set(effects.writes), effects.writes_more) == (writes, more)


def test_what_is_written_depends_on_the_action() -> None:
    """What is written before one return is not written before another."""
    effects = read_source(Phases.by_action)
    assert effects.on("ok").must == {"good"}
    for action in ("default", "a", "b"):
        assert effects.on(action).may == set()
    assert effects.on("unheard of").may == {"good"}
    assert read_source(Phases.matched).on("default").must == {"w"}
    assert read_source(Phases.after_a_return).on("early").may == set()
    assert read_source(Phases.after_a_return).on("done").must == {"w"}


def test_a_function_that_never_returns_has_no_way_out() -> None:
    """An endless loop writes nothing for anybody."""
    assert read_source(Phases.endless).exits == ()


def test_without_a_source_anything_is_possible() -> None:
    """A function that was made by ``exec``, or is wrapped, may read and write everything."""
    names: dict[str, Any] = {}
    exec("def made(self, store): store['a'] = store['b']", names)  # noqa: S102

    @functools.wraps(Phases.plain)
    def wrapped(*arguments: Any) -> None:
        Phases.plain(*arguments)

    for function in (names["made"], wrapped, print):
        effects = read_source(function)
        assert (dict(effects.needs), effects.writes_more, effects.reads_more) == ({}, True, True)


class Article(BaseModel):
    document: str
    summary: str


class Multiline(Node):
    def prep(self, store: Store[Article]) -> str:
        """A docstring
        that is not indented.
        """
        return store.state.summary

    def post(self, store: Store[Article], text: str, nothing: None) -> None:
        store.state.summary = text


class OfAnInstance(Node):
    def __init__(self) -> None:
        vars(self)["post"] = lambda store, prep, result: store["summary"]


def test_a_finding_on_a_class_has_the_line_of_the_read() -> None:
    """The place of a finding is that of the read in the source."""
    flow = Flow(Multiline(), schema=Article, inputs=())
    (found,) = [one for one in flow.validate() if one.severity == "error"]
    with open(__file__, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert found.code == "PF301"
    assert found.file == __file__
    assert found.line is not None
    assert lines[found.line - 1].strip() == "return store.state.summary"


@pytest.fixture
def disturbed() -> Iterator[list[str]]:
    """Parse something while something else is parsed, as another thread may; tells of it."""
    told: list[str] = []

    def disturb(phase: str, about: object) -> None:
        frame = sys._getframe()
        while frame.f_back is not None and frame.f_code is not ast.parse.__code__:
            frame = frame.f_back
        if frame.f_code is ast.parse.__code__ and not told:
            told.append(phase)
            ast.parse("1")

    before = gc.get_threshold()
    gc.callbacks.append(disturb)
    gc.set_threshold(50)
    yield told
    gc.set_threshold(*before)
    gc.callbacks.remove(disturb)


def test_a_source_is_read_while_another_thread_parses(
    disturbed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake is found whatever other threads do; CPython 3.11 may fail to parse then."""
    lines = ["from pocoflow import Node", "class Read(Node):", "    def prep(self, store):"]
    lines += ["        return store['sumary']", *["def f(a): return [a, {1: a}]"] * 60]
    (tmp_path / "parsed_at_once.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    node = importlib.import_module("parsed_at_once").Read()
    assert [one.code for one in Flow(node, schema=Article).validate()] == ["PF201"]
    assert disturbed


def test_phases_of_an_instance_are_not_guessed() -> None:
    """A node whose phase was replaced on the object may do anything."""
    assert Flow(OfAnInstance(), schema=Article).validate() == []
