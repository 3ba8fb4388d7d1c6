"""A flow that waits at its second node for a line from a pipe, so that a test can look meanwhile.

``python gated.py DB PIPE RUN_ID`` runs it; the monitor is given ``gated.py:flow``.
"""

import sys
from pathlib import Path
from typing import Any

from pocoflow import Flow, Node, Store


class Draft(Node):
    """Fails once in each run, so that there is a retry to be seen."""

    max_retries = 2

    def prep(self, store: Store[Any]) -> int:
        return len(store["drafts"])

    def exec(self, drafts: int) -> str:
        if drafts == 0 and not hasattr(self, "failed"):
            self.failed = True
            raise TimeoutError("the draft took too long")
        return f"draft {drafts + 1}"

    def post(self, store: Store[Any], drafts: int, text: str) -> str:
        store["drafts"].append(text)
        return "drafted"


class Wait(Node):
    """Does what the next line of the pipe says: ``again``, ``good``, or ``fail``."""

    def prep(self, store: Store[Any]) -> str:
        return str(store["pipe"])

    def exec(self, pipe: str) -> str:
        with Path(pipe).open(encoding="utf-8") as lines:
            line = lines.readline().strip()
        if line == "fail":
            raise ValueError("the reviewer <b>left</b>")
        return line

    def post(self, store: Store[Any], pipe: str, line: str) -> str:
        store["review"] = line
        return line


class Publish(Node):
    def post(self, store: Store[Any], prep: None, result: None) -> str:
        store["published"] = True
        return "done"


def flow(path: str | None = None, run_id: str | None = None) -> Flow[Any]:
    """The flow: drafts until the review is good."""
    draft, wait, publish = Draft(), Wait(), Publish()
    draft.then("drafted", wait)
    wait.then("again", draft).then("good", publish)
    return Flow(start=draft, flow_name="review", db_path=path, run_id=run_id)


if __name__ == "__main__":
    flow(sys.argv[1], sys.argv[3]).run({"drafts": [], "pipe": sys.argv[2]})
