"""Two workers of one file, one of them killed each second: the short form of a command.

``python -m tests.durability.worker --seconds 60`` does the same with 1,200 runs, and measures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.durability.worker import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and SIGKILL"),
]

# In a process of its own: workers are forked from a server that is started as the process is then.
TRIAL = """
import json, sys
from pathlib import Path
from tests.durability.worker import Load, trial
outcome = trial(Load(seconds=5, queued=60, answers=8, deadlines=8), Path(sys.argv[1]))
waits = {kind: len(waits) for kind, waits in outcome.waits.items()}
print(json.dumps([outcome.problems, outcome.killed, waits]))
"""


def test_what_is_due_happens_once_though_workers_are_killed(tmp_path: Path) -> None:
    """Submitted, answered, late and scheduled runs are completed, and nothing is paid for twice."""
    done = subprocess.run(
        [sys.executable, "-c", TRIAL, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    problems, killed, waits = json.loads(done.stdout.splitlines()[-1])
    assert problems == [], done.stderr
    assert killed >= 4
    assert {**waits, "schedule": 0} == {"queued": 60, "answer": 8, "deadline": 8, "schedule": 0}
