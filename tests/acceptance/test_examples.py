"""Each program in examples/ runs as a user would start it, and prints what it promises."""

import ast
import http.client
import importlib
import io
import itertools
import json
import random
import re
import socket
import subprocess
import sys
import threading
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from PIL import Image

from pocoflow.events import Emitted
from tests import commands

EXAMPLES = Path(__file__).parents[2] / "examples"
APPLICATION = Path(__file__).parents[1] / "browser" / "test_letters.py"
PAGE = EXAMPLES.parent / "docs" / "how-to" / "migrate-from-pocketflow.md"


def run(name: str, *arguments: str, folder: Path, typed: str = "") -> str:
    """What an example prints, started in an empty folder, of what is typed into it."""
    done = commands.execute(str(EXAMPLES / name), *arguments, folder=folder, typed=typed)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_hello_greets_and_tells_of_each_step(tmp_path: Path) -> None:
    """The smallest example runs two typed nodes, and its hooks tell what happens."""
    printed = run("hello.py", "Ada", folder=tmp_path)
    untimed = re.sub(r"\(\d+\.\d\ds\)", "(...)", printed)
    assert untimed.splitlines() == [
        "▶ Greet",
        "✓ Greet → greeted  (...)",
        "▶ Shout",
        "✓ Shout → done  (...)",
        "Done in 2 steps",
        "HELLO, ADA!",
    ]


def test_retry_fallback_retries_and_then_falls_back(tmp_path: Path) -> None:
    """A busy service is asked until it answers, one that is down is replaced by the fallback."""
    assert run("retry_fallback.py", folder=tmp_path).splitlines() == [
        "Forecast: attempt 1 failed: try again later (request 1)",
        "Forecast: attempt 2 failed: try again later (request 2)",
        "Photo: attempt 1 failed: no answer",
        "Lisbon: sunny in Lisbon (no photo of Lisbon: no answer)",
    ]


def test_agent_loop_survives_a_tool_that_is_not_there(tmp_path: Path) -> None:
    """The agent names a tool that is not there, hears of it by the wildcard edge, and answers."""
    printed = run("agent_loop.py", folder=tmp_path).splitlines()
    assert printed[1:3] == [
        "think  -> browse: sun-earth.example",
        "       <- there is no tool 'browse'; use look_up, calculate or answer",
    ]
    assert printed[-1] == "About 8.3 minutes."


def test_background_resume_repeats_no_finished_section(tmp_path: Path) -> None:
    """A run whose process died goes on in another one, and only the section it died in repeats."""
    printed = run("background_resume.py", "report.db", folder=tmp_path).splitlines()
    died = printed.index("the process ended with 9")
    sections = [line.strip() for line in printed if line.startswith("  summarising")]
    assert sections == [
        "summarising 'The ship leaves.'",
        "summarising 'A storm comes.'",
        "summarising 'The mast breaks.'",
        "summarising 'The mast breaks.'",
        "summarising 'They reach the shore.'",
    ]
    assert printed[died + 1].startswith("the run failed after 2 steps: interrupted")
    assert printed[-1] == "ship, storm, mast, reach"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """A function that imports an example, for a model of one's own."""
    loaded: list[str] = []

    def begin(name: str) -> Any:
        loaded.append(name)
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    monkeypatch.syspath_prepend(EXAMPLES)
    yield begin
    for name in loaded:
        del sys.modules[name]


def test_batch_translate_keeps_the_markdown_and_translates_the_words(tmp_path: Path) -> None:
    """Each language gets a file in which the words are translated and all else is as it was."""
    printed = run("batch_translate.py", "out", folder=tmp_path).splitlines()
    files = {path.name: path.read_text("utf-8") for path in (tmp_path / "out").iterdir()}
    assert files.keys() == {"README_GERMAN.md", "README_FRENCH.md", "README_SPANISH.md"}
    assert files["README_GERMAN.md"] == (
        "# Wetter\n\n**Regen** morgen, *Sonne* am Sonntag. siehe [Wind](wind.md)."
    )
    assert len({re.sub(r"(?<!\()\b\w+", "word", text) for text in files.values()}) == 1
    assert sorted(printed) == sorted(
        f"{name}: {text.splitlines()[2]}" for name, text in files.items()
    )


def test_batch_translate_takes_any_translator(load: Callable[[str], Any], tmp_path: Path) -> None:
    """The translator is given to the run, and only a translation that failed is asked for again."""
    example = load("batch_translate")
    asked: list[str] = []

    def shout(prompt: str) -> str:
        asked.append(re.findall(r"into (\w+)", prompt)[0])
        if asked.count("French") == 1 and asked[-1] == "French":
            raise TimeoutError("busy")
        return prompt.partition("\n")[2].upper()

    given = {"text": "the tide", "languages": ["French", "Welsh"], "folder": tmp_path}
    store = example.flow.run(given, resources={example.llm: shout})
    assert [path.read_text("utf-8") for path in store["files"]] == ["THE TIDE", "THE TIDE"]
    assert sorted(asked) == ["French", "French", "Welsh"]


def test_nested_batch_averages_students_classes_and_the_school(tmp_path: Path) -> None:
    """The averages are those of the files: of a student, of a class's students, of all students."""
    rng = random.Random(7)
    wanted: dict[str, float] = {}
    for group in ("a", "b", "c"):
        (tmp_path / "school" / group).mkdir(parents=True)
        students = {}
        for student in range(rng.randint(1, 12)):
            grades = [rng.randint(0, 20) / 2 for _ in range(rng.randint(1, 9))]
            text = "".join(f"{grade}\n" for grade in grades)
            (tmp_path / "school" / group / f"{student}.txt").write_text(text, "utf-8")
            students[f"{group}/{student}"] = sum(grades) / len(grades)
        wanted |= students
        wanted[group] = sum(students.values()) / len(students)
    everybody = [average for name, average in wanted.items() if "/" in name]
    wanted["school"] = sum(everybody) / len(everybody)
    printed = run("nested_batch.py", "school", folder=tmp_path).splitlines()
    assert sorted(printed) == sorted(f"{name}: {value:.2f}" for name, value in wanted.items())


def test_nested_batch_makes_up_a_school(tmp_path: Path) -> None:
    """Without a folder there is a school of two classes."""
    assert run("nested_batch.py", folder=tmp_path).splitlines()[-3:] == [
        "class_a: 8.25",
        "class_b: 8.86",
        "school: 8.62",
    ]


def test_parallel_images_applies_each_filter_to_each_image(tmp_path: Path) -> None:
    """Every pair of image and filter has its file, with the pixels that the filter is about."""
    rng = np.random.default_rng(7)
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("one", "two"):
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    printed = run("parallel_images.py", "album", folder=tmp_path).splitlines()
    assert [line.rpartition(":")[0] for line in printed[:2]] == [
        "6 images, 1 at once",
        "6 images, 8 at once",
    ]
    kinds = ("blur", "grayscale", "sepia")
    assert printed[2:] == [f"{name}_{kind}.png" for name in ("one", "two") for kind in kinds]
    for name in ("one", "two"):
        before = np.asarray(Image.open(folder / f"{name}.png")).astype(float)
        after = {
            kind: np.asarray(Image.open(folder / "filtered" / f"{name}_{kind}.png")).astype(float)
            for kind in kinds
        }
        assert abs(after["grayscale"] - before @ [0.299, 0.587, 0.114]).max() <= 1
        sepia = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
        assert abs(after["sepia"] - (before @ sepia.T).clip(0, 255)).max() <= 1
        ring = before[5:10, 5:10].sum((0, 1)) - before[6:9, 6:9].sum((0, 1))
        assert abs(after["blur"][7, 7] - ring / 16).max() <= 1


def test_map_reduce_counts_who_qualifies(tmp_path: Path) -> None:
    """A degree, three years and a skill: who has them all is counted, who has not is told why."""
    made = itertools.product(["BSc", "nothing"], [1, 3, 20], ["SQL", "singing"])
    (tmp_path / "resumes").mkdir()
    wanted = []
    for number, (degree, years, skill) in enumerate(made):
        text = f"Name{number:02}\n{degree}, {years} years of {skill}"
        (tmp_path / "resumes" / f"{number:02}.txt").write_text(text, "utf-8")
        wanted.append(degree == "BSc" and years >= 3 and skill == "SQL")
    printed = run("map_reduce.py", "resumes", folder=tmp_path).splitlines()
    assert [line.startswith("✓") for line in printed[:-1]] == wanted
    assert printed[0] == "✗ Name00, 1 years of experience"
    assert printed[-1] == "2 of 12 qualify (16.7%)"
    assert run("map_reduce.py", folder=tmp_path).splitlines()[-1] == "2 of 4 qualify (50.0%)"


def test_map_reduce_asks_again_for_an_answer_that_is_none(
    load: Callable[[str], Any], tmp_path: Path
) -> None:
    """A judge that does not answer in JSON is asked again, for that candidate alone."""
    example = load("map_reduce")
    retries: list[str] = []

    def chatter(prompt: str) -> str:
        sound: str = example.look_for_keywords(prompt)
        return sound if len(retries) == 1 or "Dan" not in prompt else f"Certainly! {sound}"

    example.flow.on("node_retry", lambda name, attempt, exc, store: retries.append(name))
    folder = example.write_resumes(tmp_path)
    found = example.flow.run({"folder": folder}, resources={example.llm: chatter}).state
    assert retries == ["evaluate"]
    assert found.qualified == ["Ada Byron", "Dan Reed"]


def test_supervisor_sends_the_agent_back_until_the_answer_holds(tmp_path: Path) -> None:
    """The first answer is about another year; what is missing leads the agent to the right one."""
    printed = run("supervisor.py", folder=tmp_path).splitlines()
    assert [line.split()[0] for line in printed[:-1]] == [
        "found:",
        "rejected:",
        "found:",
        "accepted",
    ]
    assert printed[1] == "rejected: nothing of 2024"
    assert (
        printed[-1] == "John Hopfield and Geoffrey Hinton won the Nobel Prize in Physics in 2024."
    )
    question = "Who won the Nobel Prize in Chemistry in 1911?"
    printed = run("supervisor.py", question, folder=tmp_path).splitlines()
    assert sum(line == "rejected: nothing of Chemistry 1911" for line in printed) == 4


def test_streaming_shows_words_until_one_has_enough(tmp_path: Path) -> None:
    """The words of the sentences about the question come in order; after some of them it stops."""
    said = run("streaming.py", "Neap or spring?", folder=tmp_path)
    assert said == (
        "When both pull along one line there is a spring tide, which is high. "
        "A week later there is a neap tide, which is low. \n"
    )
    assert run("streaming.py", "Neap or spring?", "5", folder=tmp_path).split() == said.split()[:5]


def test_streaming_that_is_left_stops_the_model(load: Callable[[str], Any]) -> None:
    """A model that would talk for ever is stopped by leaving the stream."""
    example = load("streaming")
    cancelled = threading.Event()

    def talk(prompt: str) -> Iterator[str]:
        for number in itertools.count():
            yield f"{number} "

    example.flow.on("flow_cancelled", lambda steps, store: cancelled.set())
    events = example.flow.stream({"question": "?"}, resources={example.llm: talk})
    heard = itertools.islice((e.value for e in events if isinstance(e, Emitted)), 3)
    assert list(heard) == ["0 ", "1 ", "2 "]
    events.close()
    assert cancelled.wait(60)


def test_chat_memory_recalls_what_has_left_the_window(tmp_path: Path) -> None:
    """What was said five turns ago is recalled by what it is about; what never was said is not."""
    lines = ["My dog is Rex.", "I live in Porto.", "It rains.", "I like tea.", "I read a book."]
    asked = ["What is my dog called?", "Do I live somewhere?", "Have I got a boat?", ""]
    printed = run("chat_memory.py", folder=tmp_path, typed="\n".join([*lines, *asked]))
    assert re.findall("bot: (.*)", printed) == [
        *["I see."] * 5,
        "You said: My dog is Rex.",
        "You said: I live in Porto.",
        "I see.",
    ]
    assert printed.splitlines()[-1] == "3 turns in the window, 5 in the archive"


def command(*words: str, folder: Path, typed: str = "", code: int = 0) -> str:
    """What ``pocoflow`` prints in a folder, of what is typed into it."""
    done = commands.execute("-m", "pocoflow", *words, folder=folder, typed=typed)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


def test_approval_is_answered_from_another_process(tmp_path: Path) -> None:
    """The draft waits without a process, is revised as a person says, and then published."""
    flow = f"{EXAMPLES / 'approval.py'}:flow"
    printed = run("approval.py", "the moon", folder=tmp_path).splitlines()
    assert printed[-1].endswith(f"--flow {flow}")
    run_id = printed[-1].split()[2]
    assert "Publish this about the moon?" in command(
        "questions", "--db", "approval.db", folder=tmp_path
    )
    answering = ("answer", run_id, "--flow", flow)
    asked = command(*answering, folder=tmp_path, typed="revise\nmore stars\n", code=3)
    assert "There is much to be said about the moon." in asked
    assert f"run {run_id} is paused: 1 question to be answered" in asked
    assert not list(tmp_path.glob("*.txt"))
    asked = command(*answering, folder=tmp_path, typed="1\n\n")
    assert "Changed: more stars." in asked
    assert asked.endswith(f"published as the_moon.txt\nrun {run_id} is completed\n")
    assert (tmp_path / "the_moon.txt").read_text("utf-8").endswith("Changed: more stars.\n")


class Shop:
    """The web app of ``approval_web.py``, served by a real uvicorn."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log = folder / "server.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", str(EXAMPLES / "approval_web.py"), str(self.port)],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The status and the JSON that a request is answered with, when the server is up."""
        pause = threading.Event()
        for _ in range(600):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
            try:
                headers = {"Content-Type": "application/json"}
                connection.request(method, path, json.dumps(body), headers)
                response = connection.getresponse()
                return response.status, json.load(response)
            except ConnectionRefusedError:
                assert self._process.poll() is None, self.log.read_text("utf-8")
                pause.wait(0.1)
            finally:
                connection.close()
        raise AssertionError(self.log.read_text("utf-8"))

    def until(self, run_id: str, wanted: dict[str, Any]) -> None:
        """Wait until a refund stands as it should."""
        pause = threading.Event()
        found: Any = None
        for _ in range(600):
            status, found = self.ask("GET", f"/refunds/{run_id}")
            if (status, found) == (200, wanted):
                return
            pause.wait(0.1)
        raise AssertionError(f"{found}, not {wanted}: {self.log.read_text('utf-8')}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(60)


def test_approval_web_takes_answers_and_goes_on(tmp_path: Path) -> None:
    """``approval_web.py`` asks, says what is wrong with an answer, takes one, and pays."""
    with Shop(tmp_path) as shop:
        _, small = shop.ask("POST", "/refunds", {"order": "A-1", "amount": 20})
        shop.until(small["run_id"], {"status": "completed", "paid": 20.0})
        status, begun = shop.ask("POST", "/refunds", {"order": "A-7", "amount": 250})
        run_id = begun["run_id"]
        assert status == 202
        shop.until(run_id, {"status": "paused", "paid": None})
        _, (asked,) = shop.ask("GET", "/questions")
        assert asked["text"] == "Refund 250.00 for order A-7?"
        assert asked["context"] == {"order": "A-7", "amount": 250}
        assert asked["schema"]["properties"]["verdict"]["enum"] == ["all", "part", "nothing"]
        door = f"/refunds/{run_id}/questions/{asked['question']}"
        wrong = {"by": "ann", "answer": {"verdict": "some", "amount": -1}}
        status, refused = shop.ask("POST", door, wrong)
        assert status == 422
        assert [one["loc"] for one in refused["detail"]] == [["verdict"], ["amount"]]
        status, refused = shop.ask("POST", door, {"by": "ann", "answer": {"verdict": "part"}})
        assert status == 422
        assert "an amount is given for a part" in refused["detail"][0]["msg"]
        right = {"by": "ann", "answer": {"verdict": "part", "amount": 120}}
        assert shop.ask("POST", door, right) == (200, {"open": []})
        status, refused = shop.ask("POST", door, right | {"by": "bob"})
        assert status == 409
        assert "was answered by ann" in refused["detail"]
        shop.until(run_id, {"status": "completed", "paid": 120.0})
        assert shop.ask("POST", f"/refunds/{run_id}/questions/99", right)[0] == 404
        assert shop.ask("POST", "/refunds/none/questions/1", right)[0] == 404
        assert shop.ask("GET", "/questions") == (200, [])
    assert shop.log.read_text("utf-8") == ""


def test_approval_web_goes_on_after_a_restart(tmp_path: Path) -> None:
    """What was answered while no server was there goes on when there is one."""
    with Shop(tmp_path) as shop:
        _, begun = shop.ask("POST", "/refunds", {"order": "B-2", "amount": 300})
        shop.until(begun["run_id"], {"status": "paused", "paid": None})
    answering = ("answer", begun["run_id"], "--db", "approval_web.db", "--value")
    command(*answering, '{"verdict": "nothing"}', folder=tmp_path)
    with Shop(tmp_path) as shop:
        shop.until(begun["run_id"], {"status": "completed", "paid": 0.0})
        assert shop.ask("GET", "/questions") == (200, [])
    assert shop.log.read_text("utf-8") == ""


@pytest.mark.parametrize("name", ["approval.py", "approval_web.py"])
def test_the_flows_that_ask_have_no_findings(name: str, tmp_path: Path) -> None:
    """``pocoflow check --strict`` finds nothing in them."""
    said = command("check", "--strict", f"{EXAMPLES / name}:flow", folder=tmp_path)
    assert said == "1 flow checked: 0 errors, 0 warnings\n"


def lines_of_code(path: Path) -> int:
    """The lines of a program without blank ones, comments and docstrings."""
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    left_out = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in left_out:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for part in ast.walk(tree):
        if isinstance(part, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = part.body[0]
            if ast.get_docstring(part) is not None:
                lines -= set(range(first.lineno, (first.end_lineno or 0) + 1))
    text = source.splitlines()
    return sum(1 for line in lines if line <= len(text) and text[line - 1].strip())


def test_the_table_of_patterns_counts_the_lines() -> None:
    """What the page about PocketFlow says of the length of our examples is so, and not longer."""
    rows = re.findall(r"\| ([\d; ]+) \| \[(\w+\.py)\][^|]*\| (\d+) \|", PAGE.read_text("utf-8"))
    assert len(rows) == 8
    for theirs, name, ours in rows:
        assert lines_of_code(EXAMPLES / name) == int(ours)
        assert int(ours) <= min(map(int, theirs.split(";")))


def test_every_example_is_tested() -> None:
    """An example that no test starts would rot; those of an application are in a trial of it."""
    tested = Path(__file__).read_text("utf-8") + APPLICATION.read_text("utf-8")
    missing = [
        path.name
        for path in EXAMPLES.glob("*.py")
        if f'"{path.name}"' not in tested and f'"examples.{path.stem}:' not in tested
    ]
    assert missing == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_says_what_it_shows_and_how_to_start_it(path: Path) -> None:
    """Who opens an example reads at its top what it shows and how to run it."""
    text = path.read_text("utf-8")
    assert text.startswith('"""')
    script, module = f"``python examples/{path.name}", f"examples.{path.stem}"
    starts = (script, f"uvicorn {module}:app", f"pocoflow worker {module}:flow")
    assert any(start in text.partition('"""\n\n')[0] for start in starts)
