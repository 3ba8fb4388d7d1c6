"""What a program that configured nothing is told, once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pocoflow import WorkflowDB

HEAD = """
import threading
from typing import Any
from pydantic import BaseModel
from pocoflow import FanOut, Flow, Node, Parallel, key, node

class Put(Node):
    def __init__(self, value=None, action="default", **settings):
        super().__init__(**settings)
        self.value, self.action = value, action
    def prep(self, store):
        return None
    def post(self, store, prepared, result):
        if self.value is not None:
            store["x"] = self.value
        return self.action

class Append(Node):
    def post(self, store, prepared, result):
        store["out"].append(1)

def local():
    class Hidden(BaseModel):
        n: int = 1
    return Hidden()
"""


LOCK = """
class Lock(Node):
    def exec(self, prepared):
        return threading.Lock()
"""


FACTS = {
    "did you mean 'bad'?": """
first = Put(action="bda")
first.then("bad", Put(name="fix"))
flow = Flow(first)
""",
    "store key 'x' is not saved": "flow = Flow(Put(threading.Lock()))",
    "store key 'given' is not saved": """
flow = Flow(Put())
GIVEN = {"given": threading.Lock()}
""",
    "a part of store key 'x' is not saved": "flow = Flow(Put({'a': threading.Lock()}))",
    "run 'r4': store key 'x' is not saved": """
first = Put(threading.Lock())
first.then("default", Put(threading.Lock(), name="b"))
flow = Flow(first)
""",
    "cannot be found by that name": "flow = Flow(Put(local()))",
    "the result of exec of node 'Lock' cannot be stored": f"{LOCK}flow = Flow(Lock())",
    "run 'r7': the result of exec of node 'Lock' cannot be stored": f"""{LOCK}
flow = Flow(FanOut(Lock(), each=key('items'), as_=key('item'), name='fan'))
GIVEN = {{"items": [1, 2, 3]}}
""",
    "PF303": 'flow = Flow(FanOut(Append(), each=key("items"), as_=key("item"), name="fan"))',
    "PF107": """
first = Put()
first.then("default", Put())
flow = Flow(first)
""",
}


RUN = """
import sys
from functools import partial
for number, body in enumerate(BODIES):
    GIVEN = {}
    made = {**globals(), "Flow": partial(Flow, db_path="r.db", run_id=f"r{number}")}
    exec(body, made)
    flow, GIVEN = made["flow"], made["GIVEN"]
    try:
        flow.run(GIVEN)
    except Exception as exc:
        print(type(exc).__name__)
    print("====", file=sys.stderr)
"""


def run_script(text: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A plain script, run as users run it."""
    script = folder / "script.py"
    script.write_text(text, "utf-8")
    return subprocess.run(
        [sys.executable, *options, str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_fact_is_seen_once_and_is_on_record(tmp_path: Path) -> None:
    """On standard error, where nothing is configured, and where people look; not as an error."""
    script = f"{HEAD}BODIES = {list(FACTS.values())!r}\n{RUN}"
    done = run_script(script, tmp_path, "-W", "error")
    printed = done.stderr.split("====\n")[:-1]
    for number, (said, text) in enumerate(zip(FACTS, printed, strict=True)):
        assert text.count(said) == 1
        assert len(text.splitlines()) == 1
        with WorkflowDB(tmp_path / "r.db") as db:
            events, row = db.get_events(f"r{number}"), db.get_run(f"r{number}")
        notes = "\n".join(event["note"] for event in events if event["note"])
        assert notes.count(said.removeprefix(f"run 'r{number}': ")) == 1
        if row is not None and row["status"] == "completed":
            assert {event["error_msg"] for event in events} == {None}


SETUPS = {
    "logging.basicConfig()": 1,
    "logging.getLogger('pocoflow').addHandler(logging.NullHandler())": 0,
    "disable_logging()": 0,
    "setup_logging('x')": 0,
    "setup_logging('x', console=True)": 1,
    "logging.basicConfig(level='ERROR')": 0,
}


def test_whoever_sets_logging_up_has_it_from_there(tmp_path: Path) -> None:
    """Nothing is printed twice, nor past the handlers that were set up."""
    forget = """
for logger in (logging.getLogger(), logging.getLogger("pocoflow")):
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
    logger.setLevel("NOTSET" if logger.name != "root" else "WARNING")
"""
    bodies = [f"{how}\nflow = Flow(Put(threading.Lock()))" for how in SETUPS]
    script = f"{HEAD}BODIES = {bodies!r}\n{RUN}".replace("    GIVEN =", "    exec(FORGET); GIVEN =")
    done = run_script(
        f"import logging\nfrom pocoflow.logging import *\nFORGET = {forget!r}\n{script}", tmp_path
    )
    printed = [text.count("not saved") for text in done.stderr.split("====\n")[:-1]]
    assert dict(zip(SETUPS, printed, strict=True)) == SETUPS


def test_an_error_that_is_raised_is_not_printed_as_well(tmp_path: Path) -> None:
    """A failed run, a retry and a caught error print nothing: the caller gets the error."""
    body = """
class Fails(Node):
    max_retries = 2
    def exec(self, prepared):
        1 / 0
flow = Flow(Fails())
"""
    done = run_script(f"{HEAD}BODIES = [{body!r}]\n{RUN}", tmp_path)
    assert (done.stdout, done.stderr) == ("ZeroDivisionError\n", "====\n")
