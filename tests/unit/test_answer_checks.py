"""Checking an answer by its JSON schema, and what happens to one that gets past that."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, TypeAdapter, field_validator

from pocoflow import Flow, Question, RunPaused, Store, WorkflowDB, fields, node
from pocoflow.db.jsonschemas import misfits
from pocoflow.errors import ResumeError


class Even(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def is_even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("not even")
        return number


class State(BaseModel):
    found: Even
    prepared: int = 0


@node(writes=fields(State).found)
def ask() -> Question[Even]:
    """Ask for an even number."""
    return Question("Which?")


@pytest.mark.parametrize(
    ("hint", "right", "wrong"),
    [
        (int, 3, 3.0),
        (int, 3, True),
        (float, 3, "3"),
        (datetime.datetime, "2026-01-01T10:00:00Z", "yesterday"),
        (datetime.date, "2026-01-01", "2026-13-01"),
        (datetime.time, "10:00", "25:00"),
        (datetime.timedelta, "PT5M", "five minutes"),
        (UUID, "12345678-1234-5678-1234-567812345678", "12"),
    ],
)
def test_a_schema_takes_what_its_type_takes(hint: Any, right: Any, wrong: Any) -> None:
    """Where the code is not at hand, an answer is checked as strictly as a schema can say."""
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    assert misfits(adapter.json_schema(), right) == []
    assert misfits(adapter.json_schema(), wrong) != []
    adapter.validate_json(TypeAdapter(Any).dump_json(right), strict=True)


def test_an_answer_that_is_of_no_use_can_be_replaced(tmp_path: Path) -> None:
    """What only a validator refuses does not leave the run stuck: the flow takes another answer."""
    flow = Flow(ask, schema=State, db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(RunPaused):
        flow.run({})
    with WorkflowDB(tmp_path / "runs.db") as db:
        assert db.answer_json("r", {"number": 3}, by="ann") == []
        with pytest.raises(ResumeError, match=r"not even.*take another one in its place"):
            flow.resume("r")
        assert (db.get_run("r") or {})["status"] == "paused"
        flow.answer_json("r", {"number": 4}, by="bob")
        store: Store[State] = flow.resume("r")
        assert store.state.found == Even(number=4)
