"""Each program in examples/ runs as a user would start it, and prints what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str, folder: Path) -> str:
    """What an example prints, started in an empty folder."""
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "error", str(EXAMPLES / name), *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
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


def test_every_example_is_tested() -> None:
    """An example that no test starts would rot."""
    tested = Path(__file__).read_text("utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in tested] == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_says_what_it_shows_and_how_to_start_it(path: Path) -> None:
    """Who opens an example reads at its top what it shows and how to run it."""
    text = path.read_text("utf-8")
    assert text.startswith('"""')
    assert f"``python examples/{path.name}" in text.partition('"""\n\n')[0]
