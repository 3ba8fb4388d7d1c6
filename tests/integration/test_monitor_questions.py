"""Questions in the monitor: the widgets of a form, and what becomes of what is entered."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field as Described, TypeAdapter
from streamlit.testing.v1 import AppTest

from pocoflow import Flow, Question, RunPaused, WorkflowDB, fields, node
from pocoflow.ui.drawing import draw_graph
from pocoflow.ui.pages_data import read_run
from pocoflow.ui.questions import EMPTY, NO, YES, answer_of, label_of, prefilled, value_of
from pocoflow.values.callables import UNSET
from pocoflow.views.forms import Field, form_of

pytestmark = pytest.mark.usefixtures("keep_main")

DEADLINE = 120.0


class Review(BaseModel):
    verdict: Literal["publish", "revise"]
    comment: str = "fine"
    stars: int = Described(3, ge=1, le=5)
    weight: float | None = None
    is_urgent: bool = False
    tags: list[str] = Described(default_factory=list)


class State(BaseModel):
    review: Review
    places: list[str] = ["a", "b"]
    printed: list[bool] = []


S = fields(State)


@node(writes=S.review)
def review() -> Question[Review]:
    """Ask for a review."""
    return Question("Good enough?", {"draft": "One.\n\nTwo.", "words": 2})


@node(each=S.places, writes=S.printed)
def permit(place: str) -> Question[bool]:
    """Ask for each place."""
    return Question(f"May {place} print it?")


def make(path: Path, run_id: str | None = None) -> Flow[Any]:
    """The flow of these tests."""
    flow = Flow(review, schema=State, db_path=path, flow_name="ask", run_id=run_id)
    flow.then(review, permit)
    return flow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a run that waits."""
    with pytest.raises(RunPaused):
        make(tmp_path / "runs.db", "r").run({})
    return tmp_path / "runs.db"


def page(path: Path, given: Flow[Any] | None = None, *, answers: bool = True) -> AppTest:
    """The monitor, looking at the run."""

    def script(path: str, given: object, answers: bool) -> None:
        from pocoflow.ui.monitor import render_workflow_monitor

        render_workflow_monitor(path, flow=given, key="m", answers=answers)  # type: ignore[arg-type]

    app = AppTest.from_function(script, default_timeout=DEADLINE, args=(str(path), given, answers))
    app.query_params["m.run"] = "r"
    app.query_params["m.tab"] = "Questions"
    app.run()
    assert not app.exception
    return app


def blocks(app: AppTest) -> list[dict[str, Any]]:
    """What the component was given, in the order of the page."""
    return [json.loads(element.proto.json) for element in app.get("bidi_component")]


def told(app: AppTest, tone: str) -> list[list[str]]:
    """The messages of a tone."""
    return [[block["title"], *block["text"]] for block in blocks(app) if block.get("tone") == tone]


def send(app: AppTest, question: int) -> None:
    """Press the button of a form."""
    (button,) = [one for one in app.button if one.key == f"m.send.{question}"]
    button.click().run()
    assert not app.exception


def asked(path: Path) -> list[dict[str, Any]]:
    """What the run has asked, as it is on record."""
    with WorkflowDB(path, read_only=True) as db:
        return [one.as_json() for one in db.get_questions("r")]


# -- entries ------------------------------------------------------------------------------------


def form(hint: Any) -> Field:
    """The form of an answer of a type."""
    return form_of(TypeAdapter(hint).json_schema())


@pytest.mark.parametrize(
    ("hint", "entry", "value"),
    [
        (bool, YES, True),
        (bool, NO, False),
        (bool | None, EMPTY, None),
        (bool | None, None, None),
        (Literal["a", "b"], "b", "b"),
        (Literal["a"] | None, None, None),
        (int, 4, 4),
        (int | None, None, None),
        (str, "a\nb", "a\nb"),
        (str, '""', ""),
        (str | None, "", None),
        (list[int], "[1]", [1]),
    ],
)
def test_an_entry_stands_for_a_value(hint: Any, entry: Any, value: Any) -> None:
    """What is chosen or typed in a widget becomes the value that it shows."""
    assert value_of(form(hint), entry) == value


@pytest.mark.parametrize(
    ("hint", "entry"), [(bool, None), (Literal["a"], None), (int, None), (str, " "), (list, "[")]
)
def test_an_entry_that_is_missing_is_refused(hint: Any, entry: Any) -> None:
    """A widget that was left alone is not taken for an answer."""
    with pytest.raises(ValueError, match=r"\w"):
        value_of(form(hint), entry)


def test_what_is_prefilled_is_the_default() -> None:
    """A form that is sent as it is gives the defaults of the model, and nothing else."""
    made = form(Review)
    entered = {field.name: prefilled(field) for field in made.fields}
    with pytest.raises(ValueError, match=r"^verdict: a value is needed$"):
        answer_of(made, entered)
    answer = answer_of(made, entered | {"verdict": "revise"})
    assert Review.model_validate(answer, strict=True) == Review(verdict="revise")
    assert "tags" not in answer
    assert answer_of(made, entered | {"verdict": "publish", "comment": ""})["comment"] == ""


def test_labels_are_words_alone() -> None:
    """Streamlit reads labels as Markdown, so nothing is left in them that it would obey."""
    evil = "**a** :smile: ![x](http://x) `b` <i>$c$ www.d.e"
    field = Field("name", "text", {}, title=evil)
    assert label_of(field) == "A smile x http x b i c www d e"
    assert label_of(Field("max_stars", "integer", {}, is_required=False)) == "Max stars (optional)"
    assert label_of(Field("***", "text", {}), 2) == "Field 3"
    assert label_of(Field("", "text", {})) == "Your answer"


def test_a_default_that_a_widget_cannot_hold_is_left_out() -> None:
    """A number beyond what a browser counts exactly is typed by whoever wants it."""
    big = Field("n", "integer", {}, default=2**60, is_required=False)
    assert prefilled(big) is None
    assert value_of(big, None) == 2**60
    assert value_of(Field("n", "integer", {}, is_required=False), None) is UNSET


# -- the page -----------------------------------------------------------------------------------


def test_a_question_is_shown_with_a_widget_for_each_field(path: Path) -> None:
    """Text, context and the fields of the answer with their defaults are on the page of the run."""
    app = page(path)
    assert ["Good enough?"] in told(app, "yellow")
    assert ["draft", "One.\n\nTwo."] in told(app, "quote")
    assert json.loads(app.code[0].value) == {"words": 2}
    assert [box.label for box in app.selectbox if box.label == "Verdict"] == ["Verdict"]
    assert {box.label: box.value for box in app.number_input} == {
        "Stars (optional)": 3,
        "Weight (optional)": None,
    }
    assert {box.label: box.value for box in app.text_area} == {
        "Comment (optional)": "fine",
        "Tags (optional)": "",
    }
    assert [(box.label, box.value) for box in app.radio] == [("Is Urgent", NO)]
    (facts,) = [block for block in blocks(app) if block.get("label") == "The run"]
    assert ["Questions", "text", "waits for 1 answer"] in facts["facts"]
    (row,) = next(b for b in blocks(app) if b.get("label") == "Runs, the newest first")["rows"]
    assert row["cells"][6][1]["value"] == "· waits for 1 answer"


def test_an_answer_is_refused_and_then_taken(path: Path) -> None:
    """What does not fit is said at the form, which stays; what fits is put on record."""
    app = page(path)
    send(app, 1)
    assert told(app, "red") == [
        ["Not taken: the question is still open", "verdict: a value is needed"]
    ]
    app.selectbox(key="m.answer.1.0").select_index(1)
    app.number_input(key="m.answer.1.2").set_value(9)
    send(app, 1)
    assert told(app, "red")[0][1:] == ["stars: 9 is greater than the maximum of 5"]
    assert asked(path)[0]["is_open"]
    app.number_input(key="m.answer.1.2").set_value(5)
    app.text_input(key="m.answer.1.by").set_value(" Ann ")
    send(app, 1)
    assert told(app, "red") == []
    (one,) = asked(path)
    assert (one["answered_by"], one["answer"]["stars"]) == ("Ann", 5)
    assert "All questions are answered" in [block[0] for block in told(app, "blue")]
    assert app.code[0].value == f"pocoflow resume r FLOW --db {path}"
    (answers,) = [block for block in blocks(app) if block.get("label") == "Questions and answers"]
    assert answers["rows"][0]["cells"][4] == "Ann"


def test_a_given_flow_checks_by_the_type_and_goes_on(path: Path) -> None:
    """With the flow, the last answer is followed by a button that goes on with the run."""
    app = page(path, make(path))
    app.selectbox(key="m.answer.1.0").select_index(0)
    send(app, 1)
    app.button(key="m.go-on").click().run()
    _threads_end()
    app.run()
    assert [box.label for box in app.radio] == ["Your answer", "Your answer"]
    app.radio(key="m.answer.2.0").set_value(YES)
    send(app, 2)
    assert [one["answer"] for one in asked(path)[1:]] == [True, None]


def test_the_second_answer_is_told_of_the_first(path: Path) -> None:
    """Who comes second reads who was first, although the form is gone."""
    app = page(path)
    app.selectbox(key="m.answer.1.0").select_index(0)
    with WorkflowDB(path) as db:
        db.answer_json("r", {"verdict": "revise"}, by="Bob")
    send(app, 1)
    (message,) = told(app, "red")
    assert "Your answer was not taken" in message[1]
    assert "was answered by Bob" in message[1]
    assert asked(path)[0]["answer"] == {"verdict": "revise"}


def test_a_page_may_show_questions_without_taking_answers(path: Path) -> None:
    """With ``answers=False`` there is no form, and the command that answers instead."""
    app = page(path, answers=False)
    assert not [one for one in app.button if one.label == "Answer"]
    assert f"pocoflow answer r --db {path}" in [code.value for code in app.code]


def test_a_paused_run_is_cancelled(path: Path) -> None:
    """A run that waits is cancelled at once, and asks nothing any more."""
    app = page(path, make(path))
    app.query_params["m.tab"] = "Resume"
    app.run()
    app.button(key="m.cancel").click().run()
    assert told(app, "green") == [["", "It is cancelled."]]
    with WorkflowDB(path) as db:
        assert db.handle("r").status == "cancelled"
    assert not [one for one in app.button if one.label == "Answer"]


def test_the_graph_and_the_timeline_show_what_waits(path: Path) -> None:
    """A node that has asked is paused, with its open questions, and counts as visited once."""
    flow = make(path)
    flow.answer_json("r", {"verdict": "publish"})
    with pytest.raises(RunPaused):
        flow.resume("r")
    with WorkflowDB(path, read_only=True) as db:
        view = read_run(db, "r", db.now())
    assert view.graph is not None
    dot = draw_graph(view.graph, view.walk)
    assert 'label="permit\\n‖ paused · here\\n2 questions"' in dot
    assert 'label="review\\n✓ completed"' in dot
    assert [(step.node, step.status) for step in view.steps] == [
        ("review", "paused"),
        ("review", "completed"),
        ("permit", "paused"),
    ]


def _threads_end() -> None:
    for thread in threading.enumerate():
        if thread.name == "pocoflow-r":
            thread.join(DEADLINE)
