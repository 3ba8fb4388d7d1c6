"""A run in the background, a process that dies in the middle of it, and the run going on.

``Summarise`` loops over the sections of a text. This script starts a second process that runs the
flow in the background and dies without a word at the third section. Then it finds the interrupted
run in the database and resumes it, in the background again: no section that was finished is
summarised a second time.

Run it with ``python examples/background_resume.py [DATABASE]``.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import BaseModel

from pocoflow import Flow, Node, Store, WorkflowDB

TEXT = ["The ship leaves.", "A storm comes.", "The mast breaks.", "They reach the shore."]


class Report(BaseModel):
    """The sections, and the summaries made so far."""

    sections: list[str]
    summaries: list[str] = []
    report: str


class Summarise(Node[str, str, Literal["more", "done"]]):
    """Summarise the next section; a stand-in for a call that takes long and costs money."""

    def __init__(self, dies_at: str = "") -> None:
        super().__init__()
        self.dies_at = dies_at

    def prep(self, store: Store[Report]) -> str:
        return store.state.sections[len(store.state.summaries)]

    def exec(self, section: str) -> str:
        print(f"  summarising {section!r}", flush=True)
        if section == self.dies_at:
            os._exit(9)  # like kill -9: nothing is cleaned up, nothing is said
        return section.split()[1]

    def post(self, store: Store[Report], section: str, summary: str) -> Literal["more", "done"]:
        store.state.summaries.append(summary)
        more = len(store.state.summaries) < len(store.state.sections)
        return "more" if more else "done"


class Join(Node[list[str], str, Literal["done"]]):
    """Make one line of the summaries."""

    def prep(self, store: Store[Report]) -> list[str]:
        return list(store.state.summaries)

    def exec(self, summaries: list[str]) -> str:
        return ", ".join(summaries)

    def post(self, store: Store[Report], summaries: list[str], line: str) -> Literal["done"]:
        store.state.report = line
        return "done"


def build_flow(database: Path, dies_at: str = "") -> Flow[Report]:
    """A loop over the sections, then the report."""
    summarise, join = Summarise(dies_at), Join()
    summarise.then("more", summarise).then("done", join)
    return Flow(start=summarise, flow_name="report", schema=Report, db_path=database)


def run_and_die(database: Path) -> None:
    """What the second process does: start in the background, wait, and never come back."""
    print("starting a run in the background", flush=True)
    build_flow(database, dies_at=TEXT[2]).run_background({"sections": TEXT}).wait()


def resume(database: Path) -> Store[Report]:
    """Find the run that was interrupted and go on with the node that comes next."""
    with WorkflowDB(database, read_only=True) as db:
        failed = next(run for run in db.list_runs() if run["status"] == "failed")
    print(f"the run {failed['status']} after {failed['total_steps']} steps: {failed['error_msg']}")
    print(f"resuming it with node {failed['current_node']}")
    return build_flow(database).resume_background(failed["run_id"]).wait(timeout=60)


def main(database: Path) -> None:
    """Start the process that dies; then finish its work."""
    command = [sys.executable, __file__, "--die", os.fspath(database)]
    print(f"the process ended with {subprocess.run(command, check=False).returncode}")
    print(resume(database).state.report)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--die"]:
        run_and_die(Path(sys.argv[2]))
    elif len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as folder:
            main(Path(folder, "report.db"))
