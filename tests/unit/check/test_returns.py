"""Where a ``post`` can end without an action: what is certain is told, and nothing else."""

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
