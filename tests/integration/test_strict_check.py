"""``pocoflow check --strict`` on a program."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """\
from pydantic import BaseModel
from pocoflow import Flow, node, fields

class Doc(BaseModel):
    text: str = ""
    out: str = ""

@node(writes=fields(Doc).out)  # pocoflow: ignore[PF302]
def first(text: str) -> str:
    return text  # pocoflow: ignore[PF203]

@node(writes=fields(Doc).out)  # pocoflow: ignore
def second(text: str) -> str:
    return text

flow = Flow(first, schema=Doc, ignore=("PF106",)).then(first, second)
alone = Flow(first, schema=Doc)
"""


def test_the_strict_check_tells_what_silences_nothing(tmp_path: Path) -> None:
    """A code that no finding has, of a comment or a flow, is a warning; not so without --strict."""
    (tmp_path / "app.py").write_text(PROGRAM, "utf-8")

    def check(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pocoflow", "check", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout

    code, said = check("app:flow", "app:alone")
    assert (code, "0 errors, 0 warnings" in said) == (0, True)
    code, said = check("--strict", "app:flow", "app:alone")
    assert code == 1
    assert "app.py:10: warning PF111" in said  # in the body of a node
    assert "app.py:12: warning PF111" in said  # names no code
    assert "app.py:16: warning PF111: flow 'first': Flow(ignore=...) names PF106" in said
    assert "app.py:8:" not in said  # is used by one of the two
