"""Where a ``post`` can end without an action: what is certain is told, and nothing else."""

import functools
import linecache
from collections.abc import Callable
from itertools import count
from textwrap import dedent, indent
from typing import Any, Literal

import pytest

from pocoflow import END, Flow, Node
from pocoflow.check.store_use import read_source
from tests.unit.check.test_validate import codes

numbers = count()


def post_of(body: str) -> Callable[..., Any]:
    """A ``post`` with this body, whose source can be read."""
    name = f"<post {next(numbers)}>"
    text = "def post(self, store, prep, result):\n" + indent(dedent(body).strip(), "    ") + "\n"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    names: dict[str, Any] = {}
    exec(compile(text, name, "exec"), names)  # noqa: S102
    found: Callable[..., Any] = names["post"]
    return found


ENDS = {
    "pass": (2, False, True),
    "...": (2, False, True),
    "store['a'] = result": (2, False, True),
    "store.put({'a': result})": (2, False, True),
    "store['a'].append(result)\nprint(result)": (3, False, True),
    "return": (2, True, True),
    "return None": (2, True, True),
    "if result:\n    return\nreturn 'good'": (3, True, False),
    "return 'good' if result else None": (2, True, False),
    "if result:\n    return 'good'": (2, False, False),
    "if result:\n    return 'good'\nelse:\n    store['a'] = 1": (2, False, False),
    "for one in result:\n    return 'good'": (2, False, False),
    "while result:\n    return 'good'": (2, False, False),
    "try:\n    return result['a']\nexcept KeyError:\n    pass": (2, False, False),
    "with result:\n    store['a'] = 1": (2, False, True),
    "match result:\n    case 1:\n        store['a'] = 1\n    case _:\n        return 'bad'": (
        2,
        False,
        False,
    ),
    "if result:\n    raise ValueError\nassert result is not None": (4, False, False),
}

ENDS_WELL = [
    "return 'good'",
    "raise ValueError",
    "raise NotImplementedError",
    "if result:\n    return 'good'\nreturn 'bad'",
    "if result:\n    return 'good'\nelse:\n    return 'bad'",
    # Nothing may be left over, and a type checker knows.
    "if result == 'a':\n    return 'good'\nelif result == 'b':\n    return 'bad'",
    "if result == 'a':\n    return 'good'\nif result == 'b':\n    return 'bad'",
    "match result:\n    case 1:\n        return 'good'\n    case 2:\n        return 'bad'",
    "match result:\n    case 1:\n        return 'good'\nif result:\n    return 'bad'",
    # A call need not come back.
    "if result:\n    return 'good'\nself.fail()",
    "if result:\n    return 'good'\nassert_never(result)",
    "if result:\n    return 'good'\nassert False",
    "while True:\n    if result:\n        return 'good'",
    "try:\n    return 'good'\nexcept KeyError:\n    return 'bad'",
    "try:\n    return 'good'\nexcept KeyError:\n    pass",
    "try:\n    store['a'] = 1\nfinally:\n    return 'good'",
    "with result:\n    return 'good'",
    "def inner():\n    return\nreturn inner() or 'good'",
    "yield 1",
    "return result",
    "return (lambda: None)() or 'good'",
]


@pytest.mark.parametrize("body", ENDS)
def test_an_end_without_an_action_is_found(body: str) -> None:
    """A bare return, or the end of the function, with its line, and whether it is the only way."""
    found = read_source(post_of(body)).lacking
    assert found is not None
    assert tuple(found) == ENDS[body]


@pytest.mark.parametrize("body", ENDS_WELL)
def test_nothing_is_said_where_it_is_not_certain(body: str) -> None:
    """A function that returns an action on every way, as far as can be known, is left alone."""
    assert read_source(post_of(body)).lacking is None


OTHER = {
    "return True": (2, True),
    "return ''": (2, True),
    "return ['good']": (2, True),
    "return None, result": (2, True),
    "return not result": (2, True),
    "return len(result)": (2, True),
    "return lambda: 'good'": (2, True),
    "store['a'] = 1\nreturn store": (3, True),
    "state = store.state\nreturn state": (3, True),
    "return self": (2, True),
    "if result:\n    return {}\nreturn 0": (3, True),
    "return 'good' if result else False": (2, False),
    "if not result:\n    raise ValueError\nreturn 1": (4, False),
    "if result:\n    return 'good'\nif store:\n    return 'bad'\nreturn 3": (6, False),
}

NO_OTHER = [
    "return",
    "return None",
    "return 'good'",
    "return f'{result}'",
    "return '%s' % result",
    "return result",
    "return str(result)",
    "return result or True",
    "return bool(result) and 'good'",
    "return ['good', 'bad'][result]",
    "return {True: 'good'}.get(result)",
    "return 'good'.upper()",
    "word = 'good'\nreturn word",
    "store = 'good'\nreturn store",
    "yield True",
]


@pytest.mark.parametrize("body", OTHER)
def test_what_is_no_action_is_found(body: str) -> None:
    """With its line, and whether nothing else is ever returned; a run fails there."""
    found = read_source(post_of(body)).misgiven
    assert found is not None
    assert (found.line, found.always) == OTHER[body]


@pytest.mark.parametrize("body", NO_OTHER)
def test_what_may_be_an_action_is_left_alone(body: str) -> None:
    """A text, ``None``, and whatever is not known."""
    assert read_source(post_of(body)).misgiven is None


def shown(function: Any) -> Any:
    """A decorator that makes an action of what a function returns."""

    @functools.wraps(function)
    def around(*given: Any) -> str:
        return "good" if function(*given) else "bad"

    return around


def test_what_is_no_action_is_told_of_every_class() -> None:
    """An error where each run fails that comes there, also by an annotation of its own."""

    class Annotated(Node):
        def post(self, store: Any, prep_result: Any, exec_result: Any) -> bool:  # type: ignore[override]
            return exec_result > 3  # type: ignore[no-any-return]

    class Around(Node):
        post = shown(Annotated.post)

    for made, severity in ((Node, "error"), (Annotated, "error"), (Node, "warning")):
        body = "return True" if severity == "error" else "return 0 if result else 'good'"
        kind = made if made is Annotated else type("Grade", (made,), {"post": post_of(body)})
        (found,) = Flow(start=kind()).validate()
        assert (found.code, found.severity) == ("PF109", severity)
        assert "returns what is no action" in found.message
    assert Flow(start=Around()).validate() == []


class Base(Node[Any, Any, Literal["good", "bad"]]):
    """Names its actions."""


def flow_with(base: Any, body: str) -> Flow[Any]:
    """A flow of one node with this ``post``."""
    grade = type("Grade", (base,), {"post": post_of(body)})()
    return Flow(start=grade).then(grade.when("good"), END).then(grade.when("bad"), END)


def test_a_way_without_an_action_is_a_warning_and_no_other_way_an_error() -> None:
    """A run is stopped only if every run that comes there would fail."""
    (one,) = flow_with(Base, "if result:\n    return 'good'").validate()
    assert (one.code, one.severity, one.line) == ("PF109", "warning", 2)
    assert "post of 'Grade' can come to its end without an action" in one.message
    (one,) = flow_with(Base, "store['a'] = 1").validate()
    assert (one.code, one.severity) == ("PF109", "error")
    assert "always ends without an action" in one.message


def test_a_class_that_names_the_default_action_or_none_at_all_need_not_return_one() -> None:
    """``None`` is the default action, which such a class may return."""

    class Perhaps(Node[Any, Any, Literal["good", "bad"] | None]):
        pass

    assert codes(flow_with(Perhaps, "store['a'] = 1")) == ["PF103"]
    assert "PF109" not in codes(flow_with(Node, "store['a'] = 1"))


class SaysNone(Node):
    """Denies what it returns, which nobody holds it to."""

    def post(self, store: Any, prep_result: Any, exec_result: Any) -> None:
        """Return an action."""
        return "search"  # type: ignore[return-value]


class SaysNothingOfIt(Node):
    """The same, with an action that is computed."""

    def post(self, store: Any, prep_result: Any, exec_result: Any) -> None:
        """Return what the store has."""
        return store["action"]  # type: ignore[no-any-return]


class SaysBool(Node):
    """Is annotated with what is no action, and returns one."""

    def post(self, store: Any, prep_result: Any, exec_result: Any) -> bool:  # type: ignore[override]
        """Return an action."""
        return "search"  # type: ignore[return-value]


class SaysDict(Node):
    """The same, and returns nothing."""

    def post(self, store: Any, prep_result: Any, exec_result: Any) -> dict[str, int]:  # type: ignore[override,return]
        """Return nothing."""
        store["found"] = True


@pytest.mark.parametrize("kind", [SaysNone, SaysNothingOfIt, SaysBool, SaysDict])
@pytest.mark.parametrize("wired", ["by the node", "by the flow", "around it"])
def test_an_annotation_that_the_source_contradicts_stops_no_run(kind: Any, wired: str) -> None:
    """What counts is what ``post`` returns, where a run does not hold it to its annotation."""

    class Found(Node):
        def post(self, store: Any, prep_result: Any, exec_result: Any) -> None:
            store["found"] = True

    says, found = kind(), Found()
    action = "default" if kind is SaysDict else "search"
    if wired == "by the node":
        flow: Flow[Any] = Flow(start=says.then(action, found))
    elif wired == "by the flow":
        flow = Flow(start=says).then(says.when(action), found)
    else:
        inner = Flow(start=says, flow_name="inner")
        flow = Flow(start=inner).then(inner.when(action), found)
    problems = flow.validate()
    assert [one.severity for one in problems if one.severity == "error"] == []
    told = [one.message for one in problems if one.code == "PF109"]
    if kind in (SaysBool, SaysDict):
        (message,) = told
        assert "is annotated with" in message
    else:
        assert told == []
    assert flow.run({"action": "search"})["found"] is True
