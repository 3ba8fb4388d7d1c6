"""The actions that a class declares: what ``post`` returns is one of them, or the step fails."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from functools import partial
from typing import Any, Literal
from unittest.mock import MagicMock

import pytest

from pocoflow import END, AskNode, BatchNode, Flow, Node, Store
from pocoflow.errors import ActionError
from pocoflow.nodes.definitions import phases_of


class Mood(StrEnum):
    """Actions as an enum."""

    HAPPY = "happy"
    SAD = "sad"


class ByArgument(Node[None, None, Literal["good", "bad"]]):
    """Names its actions as the argument of ``Node``."""

    given: Any = "good"

    def post(self, store: Store[Any], prep: Any, result: Any) -> Any:
        return self.given


class ByAnnotation(Node):
    """Names its actions at ``post``."""

    given: Any = "good"

    def post(self, store: Store[Any], prep: Any, result: Any) -> Literal["good", "bad"]:
        answer: Any = self.given
        return answer  # type: ignore[no-any-return]


class ByEnum(Node[Any, Any, Mood]):
    """Names its actions as an enum."""

    given: Any = Mood.HAPPY

    async def post(self, store: Store[Any], prep: Any, result: Any) -> Any:
        return self.given


class Inherited(ByArgument):
    """Names none; the class that it comes from does."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> Any:
        return self.given


def run(node: Any) -> Store[Any]:
    """Run a flow of one node."""
    return Flow(start=node).run()


def ended_by(node: Any) -> str:
    """The action that ends a flow of one node."""
    seen: list[str] = []
    flow = Flow(start=node)
    flow.on("node_end", lambda name, action, spent, store: seen.append(action))
    flow.run()
    (action,) = seen
    return action


@pytest.mark.parametrize("kind", [ByArgument, ByAnnotation, Inherited])
@pytest.mark.parametrize("wrong", ["goood", None, "", "default"])
def test_an_action_that_is_not_declared_fails_the_step(kind: Any, wrong: object) -> None:
    """A misspelt action, or a forgotten return, does not end the run as completed."""
    node = kind()
    node.given = wrong
    node.then("good", END).then("bad", END).then("*", END)
    with pytest.raises(ActionError, match="not among its actions \\('good', 'bad'\\)") as caught:
        run(node)
    assert f"post of node {kind.__name__!r} returned {wrong!r}" in str(caught.value)
    assert ("is a 'return' missing?" in str(caught.value)) == (wrong is None)
    assert ("did you mean 'good'?" in str(caught.value)) == (wrong == "goood")


def test_an_empty_string_is_no_action() -> None:
    """It fails the step, also where an edge takes any action."""

    class Nothing(Node):
        def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> str:
            return self.name[:0]

    nothing, after = Nothing(), Node()
    for flow in (Flow(nothing), Flow(nothing).then(nothing.when("*"), after)):
        with pytest.raises(ActionError, match="returned an empty string: an action is a non-empty"):
            flow.run({})


def test_the_members_of_an_enum_are_actions_and_their_texts_are() -> None:
    """A member, or its text, is one of the actions; another text is none."""
    node = ByEnum()
    for given in (Mood.SAD, "sad"):
        node.given = given
        assert Flow(start=node).run() == {}
    node.given = "angry"
    with pytest.raises(ActionError, match="'happy', 'sad'"):
        asyncio.run(Flow(start=node).run_async())


def test_an_action_that_is_not_declared_is_an_error_of_the_node() -> None:
    """It leads where errors of the node lead."""
    node, told = ByArgument(), ByAnnotation(name="told")
    node.given = "ugly"
    flow = Flow(start=node).then(node.when("good"), END).then(node.when("bad"), END)
    flow.then(node.catch(ActionError), told).then(told.when("good"), END)
    flow.then(told.when("bad"), END)
    seen: list[str] = []
    flow.on("node_start", lambda name, store: seen.append(name))
    flow.run()
    assert seen == ["ByArgument", "told"]


def test_none_is_an_action_where_the_default_one_is_declared() -> None:
    """``None`` stands for ``"default"``, also in a Literal and in a union."""

    class Perhaps(Node[Any, Any, Literal["good"] | None]):
        given: Any = None

        def post(self, store: Store[Any], prep: Any, result: Any) -> Any:
            return self.given

    class Default(Perhaps, Node[Any, Any, Literal["good", "default"] | None]):
        pass

    for kind in (Perhaps, Default):
        for given in (None, "default", "good"):
            node = kind()
            node.given = given
            assert ended_by(node) == (given or "default")


class Silent(Node):
    """Says nothing of its actions."""

    def post(self, store: Any, prep: Any, result: Any) -> Any:
        return "whatever"


class SaysText(Node[Any, Any, str]):
    """Says that any text is one."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> str:
        return "whatever"


class SaysNone(Node):
    """Says that it returns nothing."""

    def post(self, store: Store[Any], prep: Any, result: Any) -> None:
        return "whatever"  # type: ignore[return-value]


@pytest.mark.parametrize("kind", [Silent, SaysText, SaysNone])
def test_a_class_that_names_no_actions_returns_what_it_likes(kind: Any) -> None:
    """An action without an edge is the documented way to end such a flow."""
    node = kind()
    assert phases_of(node).promised is None
    run(node)


def test_a_post_that_is_set_on_a_node_is_not_that_of_its_class() -> None:
    """What the class says of its actions does not hold for it."""
    node = ByArgument()
    node.post = lambda store, prep, result: "other"  # type: ignore[method-assign]
    assert ended_by(node) == "other"


class Called:
    """Can be called, and is no function."""

    def __call__(self, store: Store[Any], prep: Any, result: Any) -> str:
        return "whatever"


# A partial in a class is going to be a method, and since 3.13 Python says so.
PARTIAL = staticmethod(partial("{2}".format, "a"))


@pytest.mark.parametrize("post", [PARTIAL, Called(), MagicMock()], ids=type)
def test_a_post_that_is_no_function_tells_nothing(post: Any) -> None:
    """A partial, an object or a mock is called, and a flow with it can be validated."""
    if isinstance(post, MagicMock):
        post.return_value = "whatever"
    kind: Any = type("Odd", (Node,), {"post": post})
    assert phases_of(kind()).promised is None
    run(kind())
    for schema in (None, {"a": int}):
        assert Flow(start=kind(), schema=schema).validate() == []


@pytest.mark.parametrize("base", [AskNode, BatchNode])
def test_a_class_without_a_post_returns_the_default_action(base: Any) -> None:
    """The check knows it, whatever the class says: its edges for other actions are never taken."""

    class Ask(base):  # type: ignore[misc]
        pass

    node = Ask()
    flow = Flow(start=node).then(node.when("yes"), END)
    assert [one.code for one in flow.validate()][:2] == ["PF102", "PF103"]
