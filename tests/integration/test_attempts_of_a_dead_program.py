"""Attempts, and the input that they share, after the program that began them has died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
    import json, os, signal, sys, uuid
    from pathlib import Path
    from typing import Any
    from pocoflow import BatchNode, FanOut, Flow, Node, Parallel, Question, context, key, node

    LOG = Path({log!r})

    def note(text):
        with LOG.open("a") as file:
            print(text, file=file)

    class Ask(Node):
        max_retries = 3
        def prep(self, store):
            note("prep")
            store["seen"] = "by prep"
            return str(uuid.uuid4())
        def exec(self, given):
            note(f"exec {{context().attempt}} {{given}}")
            if context().attempt == 3 and {dies}:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ConnectionError("busy")
        def exec_fallback(self, given, exc):
            return given
        def post(self, store, given, result):
            store["result"] = [given, result]
            return "default"

    class AskAsync(Ask):
        async def exec(self, given):
            return Ask.exec(self, given)

    class AskItems(Ask, BatchNode):
        def prep(self, store):
            return [Ask.prep(self, store), "other"]
        def exec(self, item):
            if item == "other":
                note("other")
                return item
            return Ask.exec(self, item)

    class Side(AskItems):
        concurrency = 2

    class Items(BatchNode):
        def prep(self, store):
            return [Ask.prep(self, store) for _ in range(3)]
        def exec(self, item):
            note(f"item {{item}}")
            if context().item == 1 and {dies}:
                os.kill(os.getpid(), signal.SIGKILL)
            return item
        def post(self, store, items, results):
            store["result"] = [items, results]
            return "default"

    KIND = {kind!r}
    if KIND == "branch":
        start = Parallel(Ask())
    else:
        start = {{"plain": Ask, "async": AskAsync, "items": AskItems, "side": Side,
                 "finished": Items}}[KIND]()
    flow = Flow(start, db_path={path!r}, run_id="r")
"""


def crashed(tmp_path: Path, kind: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """Kill a run, resume it; its values, and what was noted before and after."""
    log, path = tmp_path / "log.txt", str(tmp_path / "runs.db")
    facts = {"log": str(log), "path": path, "kind": kind}
    noted, printed = [], b""
    for dies, last in (
        (True, "flow.run({})"),
        (False, "print(json.dumps(dict(flow.resume('r'))))"),
    ):
        program = textwrap.dedent(PROGRAM).format(**facts, dies=dies) + last
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, timeout=120, check=False
        )
        assert done.returncode == (-signal.SIGKILL if dies else 0), done.stderr.decode()
        noted.append(log.read_text().splitlines())
        log.write_text("")
        printed = done.stdout
    return json.loads(printed), noted[0], noted[1]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("kind", ["plain", "async", "items", "side", "branch"])
def test_attempts_go_on_counting_after_a_crash(tmp_path: Path, kind: str) -> None:
    """A run killed in its third attempt of three has one left, with the input of the first two."""
    values, before, after = crashed(tmp_path, kind)
    (given,) = {line.split()[2] for line in before if line.startswith("exec")}
    assert [line for line in after if line != "other"] == [f"exec 3 {given}"]
    assert values["seen"] == "by prep"
    assert given in str(values["result"])


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_the_items_of_a_resumed_batch_are_those_that_prep_gave(tmp_path: Path) -> None:
    """With the first finished item what prep gave is on record, so prep does not run again."""
    values, before, after = crashed(tmp_path, "finished")
    first, second = (line for line in before if line.startswith("item"))
    assert after[0] == second
    assert "prep" not in after
    assert first not in after
    items, results = values["result"]
    assert items == results
    assert len(items) == 3
