"""The recipes of ``docs/how-to/deliver-runs.md``, as local processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pocoflow import Flow
from pocoflow.views.targets import load_flow

ROOT = Path(__file__).parents[2]

FENCE = re.compile(r'^```\w+ title="([\w.]+)"\n(.*?)^```$', flags=re.MULTILINE | re.DOTALL)

RECIPES = dict(FENCE.findall((ROOT / "docs" / "how-to" / "deliver-runs.md").read_text("utf-8")))

BY_CELERY = """
from by_celery import app, flow, send
from celery.contrib.testing.worker import start_worker

app.conf.broker_url = "memory://"
with start_worker(app, perform_ping_check=False):
    print(flow.database.handle(send("Ada")).wait(timeout=300)["text"])
"""

BY_PROCRASTINATE = """
from by_procrastinate import app, flow, send
from procrastinate.testing import InMemoryConnector

with app.replace_connector(InMemoryConnector()) as replaced:
    run_id = send("Ada")
    replaced.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
print(flow.database.load_checkpoint(run_id, step=0)["text"])
"""


@pytest.fixture
def flow(here: Path) -> Flow:
    """The flow of the page, in a module of the current folder."""
    for name, text in RECIPES.items():
        (here / name).write_text(text, encoding="utf-8")
    return load_flow("letters:flow")


def run(*words: str) -> str:
    """What a command prints that ends well."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": paths}
    ended = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize(
    ("library", "program"), [("celery", BY_CELERY), ("procrastinate", BY_PROCRASTINATE)]
)
def test_a_queue_carries_on_with_what_it_is_given(flow: Flow, library: str, program: str) -> None:
    """The task of the recipe, called by a worker of the library, with its broker in memory."""
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    assert run(sys.executable, "-c", program).splitlines()[-1] == "Dear Ada, ..."
    assert [one["status"] for one in flow.database.list_runs()] == ["completed"]


def test_a_job_of_ray_or_kubernetes_is_a_command(flow: Flow) -> None:
    """Each of them carries on with the run that it is given, here or in a cluster."""
    by_ray = shlex.split(RECIPES["by_ray.sh"].replace("$RUN_ID", flow.submit({"to": "Ada"})))
    by_ray = by_ray[by_ray.index("--") + 1 :]
    given = json.loads(RECIPES["by_kubernetes.yaml"].partition("command: ")[2].partition("\n")[0])
    run_id = flow.submit({"to": "Ada"}, run_id="letter-1")
    by_kubernetes = [word.replace("$(RUN_ID)", run_id) for word in given]
    for program, *words in (by_ray, by_kubernetes):
        assert program == "pocoflow"
        assert run(sys.executable, "-m", program, *words) == "completed"
    assert {one["status"] for one in flow.database.list_runs()} == {"completed"}
