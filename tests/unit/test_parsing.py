"""``parse``: the JSON in an answer of a model, or a message that the model understands."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel

from pocoflow import Retry
from pocoflow.parsing import parse


class Recipe(BaseModel):
    """What the model is asked for."""

    title: str
    minutes: int
    on: date | None = None


GOOD = '{"title": "Soup [hot]", "minutes": 20, "on": "2026-01-02"}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"  \n{GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}```",
        f"```json\n{GOOD}",
        f"Here you are [1]:\n\n```json\n{GOOD}\n```\nEnjoy {{it}}!",
        f"As [1] says, {GOOD} is {{good}}.",
        f"```python\nprint()\n```\n{GOOD}",
    ],
)
def test_json_is_found_in_what_is_around_it(text: str) -> None:
    """Fences, words and other brackets do not matter."""
    assert parse(Recipe, text) == Recipe(title="Soup [hot]", minutes=20, on=date(2026, 1, 2))


def test_any_type_that_pydantic_validates_is_read() -> None:
    """A list of models, a number, a text."""
    assert parse(list[Recipe], f"[{GOOD}]")[0].minutes == 20
    assert parse(int, "7") == 7
    assert parse(str, '"seven"') == "seven"


class Dish(BaseModel):
    """What fits a :class:`Drink` as well."""

    name: str


class Drink(BaseModel):
    """What fits a :class:`Dish` as well."""

    name: str


def test_the_first_of_alike_types_is_taken() -> None:
    """Whatever was read before, by a union of the same types in another order."""
    text = '[{"name": "Punch"}]'
    assert parse(list[Dish | Drink], text) == [Dish(name="Punch")]
    assert parse(list[Drink | Dish], text) == [Drink(name="Punch")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I cannot.", "there is no JSON in the answer, which begins with 'I cannot.'"),
        ("", "there is no JSON in the answer"),
        ('{"title": "Soup", "min', "the JSON in the answer was cut off: it ends with"),
        ('```json\n{"title": "Soup",\n', "the JSON in the answer was cut off"),
        ('{"title": "Soup" "minutes": 2}', "the JSON in the answer is wrong: Expecting ',' del"),
        ("{'title': 'Soup'}", "the JSON in the answer is wrong: Expecting property name"),
        ('{"title": "Soup"}', "the answer does not fit: minutes: Field required"),
        ('{"title": 1, "minutes": "x"}', "title: Input should be a valid string; minutes: Input"),
        ("[]", "does not fit: Input should be an object"),
        (f'{{"title": "Soup", "minutes": {"9" * 5000}}}', "the answer does not fit: "),
        ("9" * 5000, "the answer does not fit: "),
        ("[" * 100_000, "the JSON in the answer is nested too deeply. Answer with"),
    ],
)
def test_what_is_wrong_is_said_to_the_model(text: str, said: str) -> None:
    """As the message of a ``Retry``, which does not keep the answer."""
    with pytest.raises(Retry) as raised:
        parse(Recipe, text)
    assert said in str(raised.value)
    assert not raised.value.keep


def test_what_is_no_text_is_refused() -> None:
    """Arguments in the wrong order, or the ``None`` of a model that answered with a tool."""
    nothing: Any = None
    with pytest.raises(TypeError, match="takes the answer as a text, not None"):
        parse(Recipe, nothing)
    text: Any = '{"title": "Soup"}'
    model: Any = Recipe
    with pytest.raises(TypeError, match="not <class"):
        parse(text, model)


def test_of_many_problems_the_first_are_said() -> None:
    """A message that goes into a prompt does not grow without end."""
    with pytest.raises(Retry, match="and 15 more") as raised:
        parse(list[Recipe], f"[{','.join(['{}'] * 10)}]")
    assert len(str(raised.value)) < 500
