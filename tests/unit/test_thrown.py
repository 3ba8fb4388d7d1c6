"""Exceptions as values: what another process raised is the same class here."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from pocoflow import values as codec
from pocoflow.errors import NodeTimeoutError, NotStorableError, Retry
from pocoflow.values.exceptions import Thrown


class Model(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        """Refuse large numbers."""
        if number > 3:
            raise ValueError("too large")
        return number


class TwoArguments(Exception):
    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what} ({code})")
        self.what, self.code = what, code


class Refusing(Exception):
    def __new__(cls, *_: object) -> Self:
        raise RuntimeError("not made so")


class OfSystem(OSError):
    def __init__(self, what: str) -> None:
        super().__init__(7, what)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


def there_and_back(error: BaseException) -> BaseException:
    """What comes of an error on its way through text."""
    thrown: Thrown = codec.loads(codec.dumps(Thrown.of(error)))
    return thrown.raised(lambda one: RuntimeError(one.type_name, one.message))


def raised(function: Callable[..., object], *arguments: object) -> BaseException:
    """What a function raises."""
    try:
        function(*arguments)
    except BaseException as exc:  # noqa: BLE001 - looked at
        return exc
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        KeyError(("a", 1)),
        TwoArguments("broken", 7),
        OfSystem("gone"),
        Frozen(3),
        SystemExit(3),
        StopIteration(4),
        NodeTimeoutError("late"),
        Retry("again", keep=True),
        NotStorableError("['a']", "Lock", "it is live"),
        ExceptionGroup("several", [ValueError("a"), TwoArguments("b", 1)]),
        raised(open, "/no/such/file"),
        raised(json.loads, "{"),
        raised(b"\xff".decode),
        raised(lambda: Model(number="x")),  # type: ignore[arg-type]
        raised(lambda: Model(number=5)),
    ],
    ids=lambda one: f"{type(one).__name__} {str(one)[-20:]}",
)
def test_an_exception_comes_back_as_its_class(error: BaseException) -> None:
    """With its text, its arguments and its attributes."""
    back = there_and_back(error)
    assert type(back) is type(error)
    assert (str(back), repr(back)) == (str(error), repr(error))
    assert vars(back).keys() == vars(error).keys()
    if isinstance(error, OSError):
        assert isinstance(back, OSError)
        assert (back.errno, back.filename) == (error.errno, error.filename)
    if isinstance(error, ValidationError):
        assert isinstance(back, ValidationError)
        assert str(back.errors()) == str(error.errors())


def test_causes_and_notes_come_back() -> None:
    """As far as they were shown."""

    def fail() -> None:
        try:
            raise KeyError("k")
        except KeyError as exc:
            raise ValueError("v") from exc

    error = raised(fail)
    error.add_note("look there")
    back = there_and_back(error)
    assert back.__notes__ == ["look there"]
    assert isinstance(back.__cause__, KeyError)
    assert back.__suppress_context__


def test_what_cannot_be_stored_of_it_is_named() -> None:
    """The class is what counts, so the rest comes without that."""
    error = TwoArguments("broken", 7)
    held: Any = error
    held.lock, held.parts = threading.Lock(), [1, threading.Lock()]
    thrown = Thrown.of(error)
    assert thrown.lost == ("lock", "parts[1]")
    back: Any = there_and_back(error)
    assert not hasattr(back, "lock")
    assert back.parts[0] == 1


def test_what_is_not_found_or_made_is_told_otherwise() -> None:
    """A class of a function, and one that refuses."""

    class Local(Exception):
        pass

    assert there_and_back(Local("x")).args[0].endswith("Local")
    refusing = Exception.__new__(Refusing)
    assert type(there_and_back(refusing)) is Refusing  # its own code is not asked
    renamed = dataclasses.replace(Thrown.of(ValueError("v")), kind="builtins:dict")
    assert type(renamed.raised(lambda one: RuntimeError(one.message))) is RuntimeError


def test_a_cycle_of_causes_ends() -> None:
    """Only so many are kept."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert str(there_and_back(first)) == "a"
