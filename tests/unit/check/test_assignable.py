"""Which annotations fit which: only what is provably wrong is refused."""

import collections
import collections.abc
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from types import GenericAlias
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Generic,
    Literal,
    LiteralString,
    NamedTuple,
    Never,
    NewType,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
    Union,
)

import numpy
import pytest
from pydantic import (
    AnyUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Json,
    PlainValidator,
    RootModel,
    SkipValidation,
    create_model,
)
from pydantic_core import core_schema
from typing_extensions import TypeAliasType

from pocoflow import Store
from pocoflow.check.assignable import fits, fits_field
from pocoflow.check.schemas import Fields
from pocoflow.errors import InvalidValueError
from pocoflow.nodes.annotations import Unknown

T = TypeVar("T")
UserId = NewType("UserId", str)
Numbers = TypeAliasType("Numbers", list[int])


class Base:
    pass


class Derived(Base):
    pass


class Box(BaseModel, Generic[T]):
    content: T


class Plain(Generic[T]):
    pass


class Pair(Plain[T], Generic[T]):
    pass


class Person(TypedDict):
    name: str


class Named:
    pass


class NamedDerived(Derived, Named):
    """Is what ``Derived`` and ``Named`` say."""


class Asks(Protocol):
    def ask(self) -> str: ...


class Mood(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Colour(Enum):
    RED = 1


FIT = [
    (int, int),
    (int, float),
    (int, complex),
    (float, complex),
    (bool, int),
    (Derived, Base),
    (None, Optional[int]),  # noqa: UP045
    (int, int | None),
    (int, Union[str, int]),  # noqa: UP007
    (int | str, str | int | None),
    (int, float | None),
    (Any, int),
    (int, Any),
    (int, object),
    (object, int),
    (Never, int),
    (list[int], list),
    (list, list[int]),
    (list[Any], list[int]),
    (list[bool], list[int]),
    (list[int], list[float]),
    (list[list[Any]], list[list[int]]),
    (list[str], Sequence[str]),
    (str, Sequence[str]),
    (list[str], Sequence[Sequence[str]]),
    (dict[str, int], Mapping[str, float]),
    (dict[str, int], Iterable[str]),
    (tuple[int, str], tuple[int, str]),
    (tuple[int, int], tuple[int, ...]),
    (tuple[int, ...], tuple[int, int]),
    (tuple[int, str], Sequence[int | str]),
    (Iterator[int], Iterable[int]),
    (collections.abc.Generator[int, None, None], Iterator[int]),
    (Literal["a"], str),
    (Literal["a"], Literal["a", "b"]),
    (Literal["a", 1], str | int),
    (Mood, str),
    (Mood, Literal[Mood.GOOD, Mood.BAD]),
    (Literal[Mood.GOOD], Mood),
    (bool, Literal[True, False]),
    (LiteralString, str),
    (Annotated[int, "note"], int),
    (list[Annotated[int, "note"]], list[int]),
    (int, Annotated[int, "note"]),
    (UserId, str),
    (str, UserId),
    (Numbers, list[int]),
    (list[int], Numbers),
    (T, int),
    (int, T),
    (Derived, Asks),
    (Asks, int),
    (Person, dict),
    (Person, Mapping[str, object]),
    (dict[str, str], Person),
    (str, EmailStr),
    (EmailStr, str),
    (str, AnyUrl),
    (Box[int], Box[int]),
    (Box[int], Box),
    (Box[int], Box[Any]),
    (Plain[int], Plain[int]),
    (Pair[int], Plain[int]),
    (Callable[[int], str], Callable[[bool], object]),
    (Unknown("Later"), int),
    (int, Unknown("Later")),
    (list[Unknown("Later")], list[int]),  # type: ignore[misc]
    ("Soon", int),
    (ForwardRef("Later"), int),
    (type[Derived], type),
    (int, (str, int)),
    (int, bool),
    *((typing.List, list[int]), (list[int], typing.List)),  # noqa: UP006
    (list[typing.List], list[list[int]]),  # type: ignore[type-arg] # noqa: UP006
    *((typing.Dict, dict[str, int]), (typing.Tuple, tuple[int, str]), (typing.Type, type[int])),  # noqa: UP006
    (Base, Named),
    (Named, Derived),
    (list[Named], list[Base]),
    (Enum, str),
    (numpy.floating, float),
]

DO_NOT_FIT = [
    (str, int),
    (float, int),
    (int, str),
    (bytes, str),
    (None, int),
    (list[int], list[str]),
    (list[str], int),
    (list[str], dict),
    (list[int], Sequence[str]),
    (dict[str, int], dict[str, str]),
    (tuple[int, str], tuple[int, int]),
    (tuple[int, str], tuple[int, ...]),
    (tuple[int], tuple[int, int]),
    (tuple[int, ...], list[int]),
    (str, list[str]),
    (set[int], list[int]),
    (Literal["c"], Literal["a", "b"]),
    (Literal["a"], int),
    (Literal[1], Literal[True]),
    (Colour, str),
    (Derived, Mood),
    (Named, Mood),
    (typing.List, str),  # noqa: UP006
    (Person, list),
    (UserId, int),
    (Numbers, str),
    (Annotated[int, "note"], str),
    (Box[int], str),
    (Plain[int], Plain[str]),
    (int, (str, bytes)),
]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is of Python 3.12")
def test_an_alias_that_is_a_part_of_itself_is_taken() -> None:
    """What has no end is not compared to its end."""
    names: dict[str, Any] = {}
    aliases = "One = list[One] | dict[str, One]", "Other = list[Other] | None"
    exec("\n".join(f"type {one}" for one in aliases), names)  # noqa: S102
    one, other = names["One"], names["Other"]
    ones = GenericAlias(list, (one,))
    for given, wanted in ((one, other), (other, one), (ones, other)):
        assert fits(given, wanted)
        assert fits_field(given, wanted)
    assert not fits(int, ones)


@pytest.mark.parametrize(("given", "wanted"), FIT, ids=str)
def test_what_fits_or_cannot_be_known_is_taken(given: Any, wanted: Any) -> None:
    """Nothing is refused that could be right at run time."""
    assert fits(given, wanted)


@pytest.mark.parametrize(("given", "wanted"), DO_NOT_FIT, ids=str)
def test_what_is_provably_wrong_is_refused(given: Any, wanted: Any) -> None:
    """No value of the one type is one of the other."""
    assert not fits(given, wanted)


@pytest.mark.parametrize("wanted", [int, float, int | None, str | int], ids=str)
def test_a_truth_value_is_no_number_to_a_field(wanted: Any) -> None:
    """A store refuses ``True`` for an ``int``, so the rules do, too."""
    assert fits(bool, int)
    assert not fits_field(bool, wanted)
    assert fits_field(bool, bool | int)
    assert fits_field(int, wanted)
    assert fits_field(bool, Any)
    assert fits_field(bool, object)


class Priced:
    def __float__(self) -> float:
        return 1.5


class Point(NamedTuple):
    x: int = 0


class Level(IntEnum):
    HIGH = 1


class Spot(BaseModel):
    x: int = 0


class Row(Spot, from_attributes=True):
    """Takes whatever has its fields as attributes."""


class Pages(RootModel[list[int]]):
    """Takes a list."""


class Trimmed:
    """Says of a type beside it that text is read."""

    def __repr__(self) -> str:
        return "Trimmed()"  # the name of a test, the same in each process

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_before_validator_function(int, handler(source))


AsInt = TypeAliasType("AsInt", Annotated[int, BeforeValidator(int)])


GIVEN: list[tuple[Any, Any]] = [
    (Decimal, Decimal("0.1")),
    (Fraction, Fraction(1, 3)),
    (numpy.int64, numpy.int64(3)),
    (numpy.float32, numpy.float32(3)),
    (Priced, Priced()),
    (Level, Level.HIGH),
    (Literal[Level.HIGH], Level.HIGH),
    (int, 1),
    (float, 1.0),
    (bool, True),
    (str, "a"),
    (bytes, b"a"),
    (Mood, Mood.GOOD),
    (type(None), None),
    (Mapping[str, int], {"x": 1}),
    (collections.OrderedDict[str, int], collections.OrderedDict(x=1)),
    (collections.Counter[str], collections.Counter({"x": 1})),
    (dict[str, int], {"x": 1}),
    (dict[str, Decimal], {"x": Decimal(1)}),
    (Spot, Spot()),
    (Point, Point()),
    (list[int], [1]),
    (list[str], ["a"]),
    (list[Decimal], [Decimal(1)]),
    (list[dict[str, int]], [{"x": 1}]),
    (tuple[dict[str, int]], ({"x": 1},)),
    (tuple[int, ...], (1,)),
    (set[int], {1}),
    (collections.deque[int], collections.deque([1])),
    (Iterator[int], iter([1])),
    (re.Pattern[str], re.compile("a")),
]
WANTED: list[Any] = [
    *(int, float, complex, bool, str, bytes, Decimal, Spot, Point, Mood, Level, re.Pattern[str]),
    *(list[int], list[float], list[Spot], list[Point], list[re.Pattern[str]], set[int], set[float]),
    *(tuple[int, ...], tuple[Spot], tuple[float, ...], collections.deque[int], dict[str, int]),
    *(dict[str, float], Mapping[str, int], collections.OrderedDict[str, int], Sequence[int]),
    *(Iterable[int], collections.abc.Collection[int], Iterator[int], float | None),
    *(Literal["good"], Literal[1], type(None), Row, list[Row], Pages, list[Pages]),
    *(list[AsInt], AsInt | None, dict[str, Annotated[int, Trimmed()]], SkipValidation[int] | None),
    *(list[Annotated[str, PlainValidator(str)]], list[Json[int]]),
]


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_what_a_store_takes_fits(wanted: Any) -> None:
    """Each value that a field takes is of a type that is not told to be wrong for it."""
    allowing = create_model("S", __config__=ConfigDict(arbitrary_types_allowed=True))
    held = create_model("Held", __base__=allowing, field=(wanted, ...))
    schemas: tuple[Any, ...] = (held, {"field": wanted})
    for schema in schemas:
        store: Store[Any] = Store(schema=schema)
        for kind, value in GIVEN:
            try:
                store["field"] = value
            except InvalidValueError:
                continue
            assert fits_field(kind, Fields(schema).takes("field")), (kind, wanted)
