"""``pocoflow questions`` and ``answer``, and the commands around them, as a person uses them."""

from __future__ import annotations

import codecs
import getpass
import json
import os
import re
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pocoflow import WorkflowDB
from tests.commands import execute

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal")

DEADLINE = 60

PROGRAM = '''
"""Flows that ask. ``python asking.py FLOW RUN_ID`` runs one until it waits."""

import sys
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from pocoflow import Flow, Question, RunPaused, fields, node


class Review(BaseModel):
    verdict: Literal["publish", "revise"]
    comment: str = Field("", description="What is to change")
    stars: int = Field(3, ge=1, le=5)
    weight: float
    nick: str | None = None
    is_urgent: bool = False
    tags: list[str] = []
    about: dict[str, int] = {}

    @field_validator("comment")
    @classmethod
    def is_polite(cls, comment):
        if "stupid" in comment:
            raise ValueError("be polite")
        return comment


class State(BaseModel):
    review: Review
    places: list[str] = ["a", "b"]
    printed: list[bool] = []
    found: bool


S = fields(State)


@node(writes=S.review)
def review() -> Question[Review]:
    return Question(
        "Good enough?\\nSay so.",
        {"draft": "One.\\n\\x1b[31mTwo.", "words": 2, "sources": [{"name": "x" * 90}]},
        deadline=86400,
    )


@node(each=S.places, writes=S.printed)
def permit(place: str) -> Question[bool]:
    return Question(f"May {place} print it?")


@node(writes=S.found)
def late() -> Question[bool]:
    return Question("Quick?", deadline=0.001, default=True)


@node
def breaks(printed: list[bool]) -> None:
    raise ValueError("broken")


one = Flow(review, schema=State, db_path="runs.db", flow_name="one")
many = Flow(permit, schema=State, db_path="runs.db", flow_name="many")
both = Flow(review, schema=State, db_path="runs.db", flow_name="both")
both.then(review, permit)
fails = Flow(permit, schema=State, db_path="runs.db", flow_name="fails")
fails.then(permit, breaks)
slow = Flow(late, schema=State, db_path="runs.db", flow_name="slow")

if __name__ == "__main__":
    flow = globals()[sys.argv[1]]
    flow.run_id = sys.argv[2]
    try:
        flow.run({})
    except RunPaused as paused:
        print(paused.run_id)
'''

RIGHT = {"verdict": "publish", "weight": 1.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the program in it."""
    (tmp_path / "asking.py").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


def python(folder: Path, *arguments: str, typed: str = "") -> tuple[int, str, str]:
    """Run Python in a folder: exit code, output, errors."""
    done = execute(*arguments, folder=folder, typed=typed, environment={"COLUMNS": "100"})
    return done.returncode, done.stdout, done.stderr


def command(folder: Path, *words: str, typed: str = "") -> tuple[int, str, str]:
    """Run ``pocoflow`` on the database of the folder."""
    given = () if "--flow" in words or words[0] in ("resume", "recover") else ("--db", "runs.db")
    return python(folder, "-m", "pocoflow", *words, *given, typed=typed)


def begin(folder: Path, flow: str, run_id: str = "r") -> None:
    """Run a flow until it waits for answers."""
    assert python(folder, "asking.py", flow, run_id) == (0, f"{run_id}\n", "")


def asked(folder: Path, run_id: str = "r") -> list[dict[str, Any]]:
    """What a run has asked, as it is on record."""
    with WorkflowDB(folder / "runs.db", read_only=True) as db:
        return [one.as_json() for one in db.get_questions(run_id)]


def status(folder: Path, run_id: str = "r") -> str:
    """How a run stands."""
    with WorkflowDB(folder / "runs.db", read_only=True) as db:
        return db.handle(run_id).status


class Terminal:
    """``pocoflow`` at a pseudo-terminal of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._end, other = os.openpty()
        # The session of the command is ruled by this terminal, so that Ctrl-C reaches it, also
        # where the tests run in the background of a shell, which ignores SIGINT for them.
        rule = (
            "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
            "signal.signal(signal.SIGINT, signal.SIG_DFL); "
            "os.execv(sys.executable, [sys.executable, '-W', 'error', '-m', 'pocoflow', "
            "*sys.argv[1:]])"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", rule, *words],
            cwd=folder,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb", "PYTHONUTF8": "1"},
        )
        os.close(other)
        self.shown = ""
        self._seen = 0
        # A character may come in two parts.
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def until(self, text: str) -> str:
        """Wait until a text is shown after what was waited for before; all up to it.

        Raises:
            AssertionError: The command ended, or showed nothing for a minute.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._end, selectors.EVENT_READ)
            while text not in self.shown[self._seen :]:
                assert selector.select(DEADLINE), self.shown
                assert self._read(), f"no {text!r} in {self.shown}"
        before = self._seen
        self._seen = self.shown.index(text, self._seen) + len(text)
        return self.shown[before : self._seen]

    def _read(self) -> bool:
        try:
            some = os.read(self._end, 65536)
        except OSError:  # how Linux says that nobody is at the other end
            return False
        self.shown += self._decode(some).replace("\r\n", "\n")
        return bool(some)

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._end, text.encode())

    def say(self, prompt: str, line: str) -> None:
        """Wait for a prompt and fill the line in."""
        self.until(prompt)
        self.type(f"{line}\n")

    def finish(self, key: str = "") -> int:
        """Wait for the end and return the exit code.

        Args:
            key: Pressed before that, and again if the command does not react: CPython does not see
                a Ctrl-C in the instant between its prompt and its wait for input.
        """
        self.type(key)
        with selectors.DefaultSelector() as selector:
            selector.register(self._end, selectors.EVENT_READ)
            for _ in range(DEADLINE):
                # Long enough that one which reacts slowly gets no second one in the middle of that.
                if not selector.select(10):
                    self.type(key)
                elif not self._read():
                    break
        return self._process.wait(DEADLINE)

    def close(self) -> None:
        """Leave."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(DEADLINE)
        os.close(self._end)


@pytest.fixture
def terminal(folder: Path) -> Iterator[Callable[..., Terminal]]:
    """A function that starts a command at a terminal."""
    opened: list[Terminal] = []

    def start(*words: str) -> Terminal:
        opened.append(Terminal(folder, *words))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


# -- questions ------------------------------------------------------------------------------------


def test_questions_are_listed(folder: Path) -> None:
    """Every open question is in the list, with its run, node, item and deadline, on one line."""
    begin(folder, "one", "r-1")
    begin(folder, "many", "r-2")
    code, shown, errors = command(folder, "questions")
    assert (code, errors) == (0, "")
    head, *rows = [re.split(r" {2,}", line.strip()) for line in shown.splitlines()]
    assert head == ["QUESTION", "RUN", "FLOW", "NODE", "ASKED (UTC)", "UNTIL", "TEXT"]
    assert [[*row[:4], row[-1]] for row in rows] == [
        ["1", "r-1", "one", "review", r"Good enough?\nSay so."],
        ["2", "r-2", "many", "permit, item 0", "May a print it?"],
        ["3", "r-2", "many", "permit, item 1", "May b print it?"],
    ]
    assert command(folder, "questions", "--run", "r-2")[1].count("May") == 2
    assert command(folder, "questions", "--run", "r-3")[0] == 2


def test_questions_are_listed_as_json(folder: Path) -> None:
    """``--format json`` has all that a program needs to ask somebody, safe to be printed."""
    begin(folder, "one")
    code, shown, _ = command(folder, "questions", "--format", "json")
    (one,) = json.loads(shown)
    assert (code, one["context"]["draft"], "\x1b" in shown) == (0, "One.\n\x1b[31mTwo.", False)
    assert one["schema"]["required"] == ["verdict", "weight"]
    command(folder, "answer", "r", "--value", json.dumps(RIGHT))
    assert command(folder, "questions", "--format", "json")[1] == "[]\n"
    assert command(folder, "questions")[1] == "no open questions in runs.db\n"


# -- answer, with a value -------------------------------------------------------------------------


def test_a_value_answers_and_the_run_goes_on(folder: Path) -> None:
    """``--value`` answers; without the flow the command says how the run goes on."""
    begin(folder, "one")
    code, shown, errors = command(folder, "answer", "r", "--value", json.dumps(RIGHT))
    assert (code, errors) == (0, "")
    assert shown == (
        "question 1 of run r is answered\ngo on with: pocoflow resume r FLOW --db runs.db\n"
    )
    assert asked(folder)[0]["answered_by"] == getpass.getuser()
    assert command(folder, "resume", "r", "asking.py:one") == (0, "run r is completed\n", "")


def test_a_wrong_value_leaves_the_question_open(folder: Path) -> None:
    """A value that does not fit, by schema or by type, is refused with each wrong field."""
    begin(folder, "one")
    wrong = json.dumps({"verdict": "burn", "stars": 9, "weight": 1})
    code, shown, errors = command(folder, "answer", "r", "--value", wrong)
    assert (code, shown) == (1, "")
    assert "verdict: 'burn' is not one of" in errors
    assert "stars: 9 is greater than the maximum of 5" in errors
    rude = json.dumps(RIGHT | {"comment": "stupid"})
    code, _, errors = command(folder, "answer", "r", "--value", rude, "--flow", "asking.py:one")
    assert (code, "comment: Value error, be polite" in errors) == (1, True)
    assert command(folder, "answer", "r", "--value", "{no")[0] == 2
    assert asked(folder)[0]["is_open"]


def test_with_the_flow_the_run_goes_on_at_once(folder: Path) -> None:
    """``--flow`` resumes when the last question is answered, and says how the run stands."""
    begin(folder, "both")
    answering = ("answer", "r", "--flow", "asking.py:both", "--by", "ann", "--value")
    code, shown, errors = command(folder, *answering, json.dumps(RIGHT))
    assert (code, errors) == (3, "")
    assert "run r is paused: 2 questions to be answered" in shown
    assert shown.endswith("answer with: pocoflow answer r --flow asking.py:both\n")
    code, shown, _ = command(folder, *answering, "true", "--question", "2")
    assert (code, "1 question to be answered" in shown, status(folder)) == (3, True, "paused")
    code, shown, _ = command(folder, *answering, "false", "--question", "3")
    assert (code, shown) == (0, "question 3 of run r is answered\nrun r is completed\n")
    assert {one["answered_by"] for one in asked(folder)} == {"ann"}


def test_a_run_that_fails_after_the_answer_says_so(folder: Path) -> None:
    """The answer is kept, and the failure is told as ``pocoflow resume`` tells it."""
    begin(folder, "fails")
    answering = ("answer", "r", "--flow", "asking.py:fails", "--value", "true", "--question")
    command(folder, *answering, "1")
    code, shown, errors = command(folder, *answering, "2")
    assert (code, shown) == (1, "question 2 of run r is answered\n")
    assert errors.startswith("pocoflow answer: run r failed: ValueError: broken\n")


def test_of_several_questions_one_has_to_be_named(folder: Path) -> None:
    """Where nobody is at a terminal, several open questions are listed and none is answered."""
    begin(folder, "many")
    for words in (("--value", "true"), ()):
        code, shown, errors = command(folder, "answer", "r", *words, typed="y\ny\n")
        assert (code, shown) == (2, "")
        assert "run 'r' has 2 open questions: say which with --question N" in errors
        assert "May a print it?" in errors
    code, _, errors = command(folder, "answer", "r", "--question", "7")
    assert (code, "its questions: 1, 2" in errors) == (2, True)
    assert all(one["is_open"] for one in asked(folder))


def test_what_cannot_be_answered_says_why(folder: Path) -> None:
    """An answered or late question, a run that has ended or is not there: each has its message."""
    begin(folder, "one")
    command(folder, "answer", "r", "--value", json.dumps(RIGHT), "--by", "ann")
    code, _, errors = command(folder, "answer", "r", "--question", "1", "--value", "1")
    assert (code, "was answered by ann" in errors) == (1, True)
    assert "is paused and asks nothing" in command(folder, "answer", "r", "--value", "1")[2]
    command(folder, "resume", "r", "asking.py:one")
    assert "is completed and asks nothing" in command(folder, "answer", "r")[2]
    assert command(folder, "answer", "q")[0] == 2
    begin(folder, "slow", "s")
    code, _, errors = command(folder, "answer", "s", "--value", "false")
    assert (code, "the default counts: true" in errors) == (1, True)
    assert command(folder, "resume", "s", "asking.py:slow")[0] == 0
    code, _, errors = python(folder, "-m", "pocoflow", "answer", "r", "--db", "none.db")
    assert (code, (folder / "none.db").exists()) == (2, False)


def change_the_type(folder: Path) -> None:
    """Let the nodes that ask for a ``bool`` ask for one of two words instead."""
    changed = PROGRAM.replace("Question[bool]", 'Question[Literal["c", "d"]]')
    changed = changed.replace("list[bool]", "list[str]").replace("default=True", 'default="c"')
    (folder / "asking.py").write_text(changed, encoding="utf-8")


def test_an_answer_that_does_not_fit_any_more_is_replaced(folder: Path) -> None:
    """When the type of a question has changed, ``resume`` names the command that repairs it."""
    begin(folder, "many")
    for number in ("1", "2"):
        command(folder, "answer", "r", "--question", number, "--value", "true")
    change_the_type(folder)
    code, _, errors = command(folder, "resume", "r", "asking.py:many")
    named = "answer it anew: pocoflow answer r --flow asking.py:many --question 1"
    assert (code, errors.splitlines()[-1]) == (1, named)
    assert "with --flow" in command(folder, "answer", "r", "--value", '"c"')[2]
    answering = ("answer", "r", "--flow", "asking.py:many", "--value", '"c"')
    code, _, errors = command(folder, *answering)
    assert (code, "has 2 open questions" in errors) == (2, True)
    assert command(folder, *answering, "--question", "1")[0] == 3
    code, shown, errors = command(folder, *answering)
    assert code == 0
    told = "it goes on under changed code: field 'printed' was list[bool], is list[str]"
    assert told in errors
    assert errors.count("\n") == 1
    assert shown == "question 2 of run r is answered\nrun r is completed\n"
    assert [one["answer"] for one in asked(folder)] == ["c", "c"]
    code, _, errors = command(folder, *answering, "--question", "2")
    assert (code, "is completed: it takes no answer" in errors) == (1, True)


def test_who_asked_has_another_name_now(folder: Path) -> None:
    """When the flow has not the node that asked, the commands that answer and go on are named."""
    begin(folder, "many")
    command(folder, "answer", "r", "--question", "1", "--value", "true")
    renamed = PROGRAM.replace("permit", "allow")
    (folder / "asking.py").write_text(renamed, encoding="utf-8")
    answering = ("answer", "r", "--value", "true")
    code, _, errors = command(folder, *answering, "--flow", "asking.py:many")
    resuming = "pocoflow resume r asking.py:many"
    assert (code, errors.splitlines()[1:]) == (
        1,
        [
            "answer question 2 by the schema: pocoflow answer r --question 2 --db runs.db",
            f"if 'permit' has another name now: {resuming} --rename permit=NEW",
        ],
    )
    assert command(folder, *answering)[0] == 0
    assert command(folder, "resume", "r", "asking.py:many", "--rename", "permit=allow")[0] == 0


def test_a_replaced_answer_is_asked_for_by_its_new_type(folder: Path) -> None:
    """Who is asked again for what does not fit any more chooses among what fits now."""
    begin(folder, "many")
    for number in ("1", "2"):
        command(folder, "answer", "r", "--question", number, "--value", "true")
    change_the_type(folder)
    answering = ("answer", "r", "--flow", "asking.py:many", "--question")
    assert command(folder, *answering, "1", typed="2\n")[0] == 3
    code, shown, errors = command(folder, *answering, "2", typed="c\n")
    assert (code, "   2  d\n" in shown) == (0, True)
    assert "it goes on under changed code" in errors
    assert errors.count("\n") == 1
    assert [one["answer"] for one in asked(folder)] == ["d", "c"]


# -- answer, at a terminal ------------------------------------------------------------------------


def test_a_person_is_asked_field_by_field(folder: Path, terminal: Callable[..., Terminal]) -> None:
    """Question and context are shown, wrong entries said and asked again, defaults taken."""
    begin(folder, "one")
    desk = terminal("answer", "r", "--flow", "asking.py:one", "--by", "ann")
    shown = desk.until("verdict (1-2): ")
    assert "question 1: Good enough?\n  Say so.\n" in shown
    assert "  draft:\n    One.\n    \\x1b[31mTwo.\n" in shown
    assert "\x1b[31m" not in shown
    assert "  words: 2\n" in shown
    assert " 1  publish\n" in shown
    desk.type("3\n")
    desk.until("a number from 1 to 2, or one of the choices")
    desk.say("verdict (1-2): ", "2")
    assert "comment: What is to change\n" in desk.until('comment (text, empty: ""): ')
    desk.type("shorter, ünlike this\n")
    desk.say("stars (whole number, at least 1, at most 5, empty: 3): ", "9")
    desk.until("9 is greater than the maximum of 5")
    desk.say("stars (", "4")
    desk.say("weight (number): ", "")
    desk.until("a value is needed")
    desk.say("weight (number): ", "0.5")
    desk.say("nick (text, empty: null): ", "")
    desk.say("is_urgent (y/n, empty: n): ", "y")
    desk.say("tags (JSON, empty: []): ", "[1")
    desk.until("not JSON")
    desk.say("tags (JSON, empty: []): ", '["a"]')
    desk.say("about (JSON, empty: {}): ", "")
    assert desk.finish() == 0
    assert desk.shown.endswith("question 1 of run r is answered\nrun r is completed\n")
    assert asked(folder)[0]["answer"] == {
        "verdict": "revise",
        "comment": "shorter, ünlike this",
        "stars": 4,
        "weight": 0.5,
        "nick": None,
        "is_urgent": True,
        "tags": ["a"],
        "about": {},
    }


def test_what_only_the_type_refuses_is_asked_again(
    folder: Path, terminal: Callable[..., Terminal]
) -> None:
    """An answer that a validator of the model refuses is entered once more, from the beginning."""
    begin(folder, "one")
    desk = terminal("answer", "r", "--flow", "asking.py:one")
    for comment in ("stupid", "fine"):
        for line in ("publish", comment, "", "1", "", "", "", ""):
            desk.say("): ", line)
    assert desk.finish() == 0
    assert "comment: Value error, be polite" in desk.shown
    assert asked(folder)[0]["answer"]["comment"] == "fine"


def test_several_questions_are_asked_one_after_another(
    folder: Path, terminal: Callable[..., Terminal]
) -> None:
    """At a terminal all open questions are asked; one that another answers meanwhile is passed."""
    begin(folder, "many")
    desk = terminal("answer", "r", "--flow", "asking.py:many")
    desk.until("May a print it?")
    assert command(folder, "answer", "r", "--question", "1", "--value", "false")[0] == 0
    desk.say("answer (y/n): ", "y")
    desk.until("was answered by")
    desk.until("May b print it?")
    desk.say("answer (y/n): ", "perhaps")
    desk.say("answer (y/n): ", "yes")
    assert desk.finish() == 0
    assert desk.shown.endswith("run r is completed\n")
    assert [one["answer"] for one in asked(folder)] == [False, True]


@pytest.mark.parametrize(("key", "code"), [("\x04", 1), ("\x03", 130)], ids=["ctrl-d", "ctrl-c"])
def test_leaving_gives_no_answer(
    folder: Path, terminal: Callable[..., Terminal], key: str, code: int
) -> None:
    """Ctrl-D and Ctrl-C leave the question open, with exit codes of their own and no traceback."""
    begin(folder, "many")
    desk = terminal("answer", "r", "--db", "runs.db")
    desk.say("answer (y/n): ", "n")
    desk.until("May b print it?")
    desk.until("answer (y/n): ")
    assert desk.finish(key) == code
    assert "no answer was given: question 2 stays open" in desk.shown
    assert "Traceback" not in desk.shown
    assert [one["is_open"] for one in asked(folder)] == [False, True]


def test_answers_may_come_through_a_pipe(folder: Path) -> None:
    """One question is also answered by lines on standard input; their end leaves it open."""
    begin(folder, "one")
    code, shown, errors = command(folder, "answer", "r", typed="publish\n")
    assert (code, "comment" in shown) == (1, True)
    assert errors == "pocoflow answer: no answer was given: question 1 stays open\n"
    assert command(folder, "answer", "r", typed="publish\n\n\n2\n\n\n\n\n")[0] == 0
    assert asked(folder)[0]["answer"]["weight"] == 2


# -- the other commands ---------------------------------------------------------------------------


def test_a_resume_that_pauses_says_for_what(folder: Path) -> None:
    """``pocoflow resume`` of a run that waits lists its questions and ends with 3."""
    begin(folder, "many")
    code, shown, errors = command(folder, "resume", "r", "asking.py:many")
    assert (code, errors) == (3, "")
    lines = shown.splitlines()
    assert lines[0] == "run r is paused: 2 questions to be answered"
    assert [line.split()[0] for line in lines[2:4]] == ["1", "2"]
    assert lines[-1] == "answer with: pocoflow answer r --flow asking.py:many"
    command(folder, "answer", "r", "--question", "1", "--value", "true")
    code, shown, _ = command(folder, "resume", "r", "asking.py:many", "--db", "./runs.db")
    assert (code, "1 question to be answered" in shown) == (3, True)
    assert shown.endswith("pocoflow answer r --flow asking.py:many --db ./runs.db\n")


def test_recover_goes_on_with_what_is_answered(folder: Path) -> None:
    """``pocoflow recover`` finishes runs that were answered, and tells those that wait again."""
    begin(folder, "both", "r-1")
    assert command(folder, "recover", "asking.py:both")[1] == "no interrupted runs of flow both\n"
    command(folder, "answer", "r-1", "--value", json.dumps(RIGHT))
    code, shown, errors = command(folder, "recover", "asking.py:both")
    assert (code, errors) == (3, "")
    assert shown == "r-1  paused: 2 questions to be answered\n"
    for number in ("2", "3"):
        command(folder, "answer", "r-1", "--question", number, "--value", "true")
    code, shown, _ = command(folder, "recover", "asking.py:both")
    assert (code, shown) == (0, "r-1  completed\n")


def test_runs_show_what_was_asked_and_answered(folder: Path) -> None:
    """A paused run is listed with what it waits for, and shown with its questions and answers."""
    begin(folder, "many")
    assert "permit: waits for 2 answers" in command(folder, "runs", "list")[1]
    answering = ("answer", "r", "--value", "true", "--by", "ann", "--question")
    command(folder, *answering, "1")
    shown = command(folder, "runs", "show", "r")[1]
    (first, second) = shown.partition("\nquestions\n")[2].splitlines()[:2]
    assert re.split(r" {2,}", first.strip())[:4] == [
        "1",
        "permit, item 0",
        "May a print it?",
        "true by ann",
    ]
    assert re.split(r" {2,}", second.strip())[-1] == "open"
    command(folder, *answering, "2")
    listed = command(folder, "runs", "list", "--status", "paused")[1]
    assert "permit: can go on" in listed


def test_a_paused_run_is_cancelled(folder: Path) -> None:
    """``pocoflow runs cancel`` ends a run that waits, which then asks nothing any more."""
    begin(folder, "one")
    assert command(folder, "runs", "cancel", "r") == (0, "run r is cancelled\n", "")
    assert status(folder) == "cancelled"
    assert command(folder, "questions")[1] == "no open questions in runs.db\n"
    code, _, errors = command(folder, "answer", "r", "--question", "1", "--value", "1")
    assert (code, "is cancelled" in errors) == (1, True)


def test_two_answers_at_once_are_one(folder: Path) -> None:
    """Of two processes that answer together one is taken, and the other reads who was first."""
    begin(folder, "one")
    done: list[tuple[int, str, str]] = []
    words = ("answer", "r", "--question", "1", "--value", json.dumps(RIGHT), "--by")
    people = [
        threading.Thread(target=lambda name=name: done.append(command(folder, *words, name)))
        for name in ("ann", "bob")
    ]
    for person in people:
        person.start()
    for person in people:
        person.join(DEADLINE)
    assert sorted(code for code, _, _ in done) == [0, 1]
    first = asked(folder)[0]["answered_by"]
    (refused,) = [errors for code, _, errors in done if code]
    assert f"was answered by {first}" in refused
