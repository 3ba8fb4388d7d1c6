"""Checking an answer by its JSON schema, and what happens to one that gets past that."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, SecretStr, TypeAdapter, create_model, field_validator

from pocoflow import AskNode, Flow, Question, RunPaused, Store, WorkflowDB, fields, key, node
from pocoflow.db.jsonschemas import misfits
from pocoflow.errors import AnswerError, DefinitionError, ResumeError
from pocoflow.nodes.answer_types import AnswerType
from pocoflow.reducers import append, item as append_item


class Even(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def is_even(cls, number: int) -> int:
        if number % 2:
            raise ValueError("not even")
        return number


class Login(BaseModel):
    """A model with a secret."""

    name: str
    password: SecretStr


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


@pytest.mark.parametrize("hint", [SecretStr, list[SecretStr], Login])
def test_a_secret_cannot_be_asked_for(hint: Any) -> None:
    """An answer is on record in clear, where no secret may be."""
    with pytest.raises(DefinitionError, match="it has a secret"):
        AnswerType(hint)


def test_an_answer_that_is_of_no_use_can_be_replaced(tmp_path: Path) -> None:
    """What only a validator refuses does not leave the run stuck: the flow takes another answer."""
    flow = Flow(ask, schema=State, db_path=tmp_path / "runs.db", run_id="r")
    with pytest.raises(RunPaused):
        flow.run({})
    with WorkflowDB(tmp_path / "runs.db") as db:
        assert db.answer_json("r", {"number": 3}, by="ann") == []
        with pytest.raises(ResumeError, match=r"not even.*take another one in its place"):
            flow.resume("r")
        assert db.handle("r").status == "paused"
        flow.answer_json("r", {"number": 4}, by="bob")
        store: Store[State] = flow.resume("r")
        assert store.state.found == Even(number=4)


# -- schemas and answers that nobody has checked ------------------------------------------------


def nested(schema: dict[str, Any], depth: int) -> dict[str, Any]:
    """A schema in a schema in a schema."""
    for _ in range(depth):
        schema = {"anyOf": [schema]}
    return schema


def doubling(levels: int) -> dict[str, Any]:
    """A schema whose every part asks for the next one twice."""
    parts = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**parts, f"a{levels}": {"type": "boolean"}}}


REFUSING: dict[str, dict[str, Any]] = {
    "remote": {"$ref": "SERVER/secret"},
    "remote, inside": {"anyOf": [{"$ref": "SERVER/secret"}]},
    "relative to a remote id": {"$id": "SERVER/a/", "$ref": "b"},
    "dynamic remote": {"$id": "SERVER/a/", "allOf": [{"$ref": "b#/$defs/c"}]},
    "file": {"$ref": "file:///etc/hostname"},
    "dangling": {"$ref": "#/$defs/nope"},
    "itself": {"$ref": "#"},
    "each other": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
    "no type": {"type": "nonsense"},
    "type of types": {"type": {"a": 1}},
    "deep": nested({"type": "boolean"}, 400),
    "for ever": doubling(60),
    "no list": {"anyOf": 5},
    "no schema": {"allOf": ["x"]},
}


@pytest.mark.parametrize("schema", REFUSING.values(), ids=REFUSING)
def test_a_schema_that_is_no_use_refuses_the_answer_and_fetches_nothing(
    schema: dict[str, Any], server: tuple[str, list[str]]
) -> None:
    """Whatever a stored schema says: a check ends, in a message, and nothing is read for it."""
    address, fetched = server
    given = json.loads(json.dumps(schema).replace("SERVER", address))
    told = misfits(given, True)
    assert told
    assert all(len(one) < 400 for one in told)
    assert fetched == []


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and what was fetched from it."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", fetched
        http.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "string", "pattern": "^(a+)+$"}, "aaa", "a" * 60 + "!"),
        ({"type": "string", "pattern": "^(a|a)*$"}, "aaa", "a" * 60 + "!"),
        ({"pattern": "^[0-9]{3}$"}, "123", "12"),
        ({"properties": {"a": {"pattern": "^b"}}}, {"a": "b"}, {"a": "c"}),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            {"a": 1},
            {"a": 1, "b": 1},
        ),
        ({"additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": "b"}),
        ({"$schema": "http://127.0.0.1:1/none", "type": "boolean"}, True, 1),
    ],
)
def test_a_pattern_is_tried_in_time_that_is_bounded(
    schema: dict[str, Any], right: Any, wrong: Any
) -> None:
    """A pattern is tried as a field of a model tries it, so that none can take for ever."""
    assert misfits(schema, right) == []
    assert misfits(schema, wrong) != []


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ({"patternProperties": {"^(a+)+$": {"type": "null"}}}, {"a" * 60 + "!": 1}),
        (
            {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
            {"a" * 60 + "!": 1},
        ),
        (
            {"patternProperties": {"^(a+)+$": {}}, "unevaluatedProperties": False},
            {"a" * 60 + "!": 1},
        ),
        ({"format": "regex"}, "("),
        ({"type": "string", "pattern": "("}, "x"),
        ({"type": "string", "pattern": "(?=a)b"}, "x"),
    ],
)
def test_what_only_the_flow_can_check_is_left_to_it(schema: dict[str, Any], answer: Any) -> None:
    """Patterns of keys, and those that need Python's own engine, are not tried here."""
    assert misfits(schema, answer) == []


def deep(levels: int) -> list[Any]:
    """A list in a list in a list."""
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


class Opened(BaseModel):
    """A model that reads another text than it writes."""

    day: datetime.date

    @field_validator("day", mode="before")
    @classmethod
    def parse(cls, text: str) -> datetime.date:
        day, month, year = text.split(".")
        return datetime.date(int(year), int(month), int(day))


@node(writes=key("opened"))
def when() -> Question[Opened]:
    """Asks for a day."""
    return Question("When?")


def test_an_answer_that_its_own_type_does_not_read_back(tmp_path: Path) -> None:
    """The error says that it is of the type, as what it would be kept, and what is taken."""
    flow = Flow(when, db_path=tmp_path / "a.db", flow_name="f", run_id="r")
    with pytest.raises(RunPaused):
        flow.run({})
    said = r"as a Opened it is written as .*2026-02-01.* day: .*; flow.answer_json takes the JSON"
    opened = Opened.model_validate({"day": "1.2.2026"})
    with pytest.raises(AnswerError, match=said):
        flow.answer("r", when.reply(opened))
    flow.answer_json("r", {"day": "1.2.2026"})
    assert flow.resume("r")["opened"] == opened


def test_an_answer_is_kept_as_it_is_read(tmp_path: Path) -> None:
    """Who comes too late is told it in its own letters."""

    class Ask(AskNode[str]):
        def exec(self, prep_result: object) -> Question[str]:
            return Question("Where?")

    where = Ask()
    flow = Flow(where, flow_name="asks", db_path=tmp_path / "runs.db")
    with pytest.raises(RunPaused):
        flow.run({}, run_id="r")
    flow.answer("r", where.reply("Málaga"))
    with pytest.raises(AnswerError, match="Málaga"):
        flow.answer("r", where.reply("Köln"))


def test_an_answer_that_cannot_be_compared_is_refused() -> None:
    """As of a class whose ``==`` gives no answer, but an error."""

    class Unsure(BaseModel):
        def __eq__(self, other: object) -> bool:
            raise ValueError("it is neither")

        def __hash__(self) -> int:
            return 0

    with pytest.raises(AnswerError, match=r"would not come back .*: it is neither"):
        AnswerType(Unsure).from_python(Unsure())


def test_half_a_character_is_told_and_a_class_that_was_defined_again() -> None:
    """An answer is refused for what is wrong with it, not as a text that is none."""
    with pytest.raises(AnswerError, match=r"has no JSON: character 1 of .* of a surrogate pair"):
        AnswerType(list[str]).from_python(["a\ud83d"])
    kinds = [create_model("Verdict") for _ in range(2)]
    with pytest.raises(AnswerError, match="Verdict was defined again after the node that asks"):
        AnswerType(kinds[0]).from_python(kinds[1]())


class Anything(AskNode[Any, str]):
    """Asks for anything."""

    def prep(self, store: Store[Any]) -> Question[Any]:
        return Question("What?")

    def post(self, store: Store[Any], question: object, answer: object) -> str:
        return "done"


NO_JSON: dict[str, Any] = {
    "deep": deep(100_000),
    "deeper than it is read": deep(150),
    "nan": float("nan"),
    "infinite, inside": {"a": [float("-inf")]},
    "surrogate": "a\ud800",
    "surrogate in a key": {"a\ud800": 1},
    "key": {1: 2},
    "key, inside": [{None: 2}],
    "tuple": (1, 2),
    "set": {1},
    "bytes": b"x",
    "object": object(),
    "huge": 10**5000,
}
NO_JSON["circle"] = []
NO_JSON["circle"].append(NO_JSON["circle"])


@pytest.mark.parametrize("answer", NO_JSON.values(), ids=NO_JSON)
@pytest.mark.parametrize("way", ["database", "flow", "reply"])
def test_what_json_cannot_carry_is_no_answer(tmp_path: Path, answer: Any, way: str) -> None:
    """An answer that would not come back as it is is refused, and the question stays open."""
    ask = Anything()
    flow = Flow(start=ask, db_path=tmp_path / "a.db", flow_name="f", run_id="r")
    with pytest.raises(RunPaused):
        flow.run({})
    with WorkflowDB(tmp_path / "a.db") as db:
        takes: dict[str, Callable[[], object]] = {
            "database": lambda: db.answer_json("r", answer),
            "flow": lambda: flow.answer_json("r", answer),
            "reply": lambda: flow.answer("r", ask.reply(answer)),
        }
        with pytest.raises(AnswerError):
            takes[way]()
        assert [one.is_open for one in db.get_questions("r")] == [True]
        with pytest.raises(AnswerError, match="who answers"):
            db.answer_json("r", 1, by="\udc80")
        assert db.answer_json("r", {"a": [1, None, "ü", 2.5, True, {}]}) == []


class Order(BaseModel):
    """What a person is asked to fill in."""

    item: str
    code: Annotated[str, Field(min_length=3, pattern="^[a-z]+$")] = "abc"
    count: Annotated[int, Field(ge=1)] = 1
    notes: Annotated[list[str], append] = []


R = fields(Order)


@node(writes=R.code)
def ask_code(item: str) -> Question[str]:
    """Asks for what its field has constraints for."""
    return Question(f"Code of {item}?")


@node(writes=R.count)
def ask_count(item: str) -> Question:
    """Says no type: that of its field counts."""
    return Question("How many?")


@node(writes=append_item(R.notes))
def ask_note(item: str) -> Question[str]:
    """Its field takes an increment, which has no constraints of the field."""
    return Question("A note?")


@pytest.mark.parametrize(
    ("asker", "wrong", "right", "schema"),
    [
        (ask_code, "a", "abcd", {"type": "string", "minLength": 3, "pattern": "^[a-z]+$"}),
        (ask_code, "ABC", "abcd", {"type": "string", "minLength": 3, "pattern": "^[a-z]+$"}),
        (ask_count, "two", 2, {"type": "integer", "minimum": 1}),
        (ask_count, 0, 2, {"type": "integer", "minimum": 1}),
        (ask_note, 3, "well", {"type": "string"}),
    ],
)
def test_an_answer_that_its_field_would_refuse_is_refused_where_it_is_given(
    tmp_path: Path, asker: Any, wrong: object, right: object, schema: dict[str, object]
) -> None:
    """The question stays open, by the flow and by its JSON schema; else the run could not go on."""
    flow = Flow(asker, schema=Order, flow_name="orders", db_path=tmp_path / "o.db")
    with pytest.raises(RunPaused):
        flow.run({"item": "tea"}, run_id="r")
    (asked,) = flow.database.pending()
    assert asked.schema == schema
    for answer in (flow.answer_json, flow.database.answer_json):
        with pytest.raises(AnswerError):
            answer("r", wrong)
    flow.answer_json("r", right)
    assert flow.resume("r")[asker.signature.writes[0].name] in (right, [right])
