"""Items and branches of sets, which each process has in an order of its own, after kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL")

PROGRAM = """
import os, signal, sys
from pocoflow import FanOut, Flow, BatchNode, Parallel, Store, key, node

class Each(BatchNode):
    def prep(self, store):
        return [frozenset({name, name * 2, name * 3}) for name in store["names"]]

    def exec(self, item):
        return pay(min(item, key=len), "batch")

    def post(self, store, items, results):
        store["batch"] = sorted(results)

class One(Each):
    prep = None

def pay(name, what):
    with open("ledger", "a") as ledger:
        print(what, name, file=ledger)
    if sys.argv[1] == what and sum(1 for line in open("ledger")) % 5 == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return name.upper()

@node(writes=key("result"))
def work(name: str):
    return pay(name, "branch")

fan_out = FanOut(work, each=key("names"), as_=key("name"), private=[key("result")], concurrency=1)
each = Each()
each.then("default", fan_out)
flow = Flow(each, db_path="runs.db", run_id="r")
names = {"ada", "bob", "cyd", "dan", "eve"}
print(sorted((flow.run({"names": names}) if sys.argv[2] == "run" else flow.resume("r"))["batch"]))
"""


def test_the_order_of_a_set_does_not_matter(tmp_path: Path) -> None:
    """Each process iterates a set in an order of its own; its items are found again."""
    (tmp_path / "program.py").write_text(PROGRAM)
    codes, said = [], ""
    for seed, (kill, how) in enumerate([("batch", "run"), ("branch", "resume"), ("", "resume")]):
        ended = subprocess.run(
            [sys.executable, "program.py", kill, how],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": str(seed + 1)},
            capture_output=True,
            text=True,
            check=False,
        )
        codes.append(ended.returncode)
        said = ended.stdout or ended.stderr
    assert codes == [-9, -9, 0], said
    assert json.loads(said.replace("'", '"')) == ["ADA", "BOB", "CYD", "DAN", "EVE"]
    paid = Counter((tmp_path / "ledger").read_text().splitlines())
    names = ("ada", "bob", "cyd", "dan", "eve")
    assert set(paid) == {f"{what} {name}" for what in ("batch", "branch") for name in names}
    assert sum(paid.values()) == len(paid) + 2, "the two that were killed are paid again"
