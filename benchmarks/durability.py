"""What each contender has on disk when a step ends, and what a kill loses."""

from __future__ import annotations

from collections.abc import Iterator, Set as AbstractSet

from benchmarks.work import LABELS

PACKAGES: dict[str, tuple[str, ...]] = {
    "pocoflow": ("pydantic",),
    "pocketflow": ("pocketflow",),
    "langgraph": ("langgraph", "langgraph-checkpoint-sqlite"),
    "burr": ("apache-burr",),
    "pydantic_graph": ("pydantic-graph",),
    "workflows": ("llama-index-workflows", "llama-agents-server"),
    "dbos": ("dbos", "sqlalchemy"),
}

_OWN = (
    "WAL, `synchronous` as the work says",
    "the result of exec; then what changed, two events and the run's row",
    "the step under way; its result is kept once exec has returned",
)

# How the file is opened, what is written when, what a kill -9 loses.
FACTS: dict[str, tuple[str, str, str]] = {
    "by_hand": _OWN,
    "by_pocoflow": _OWN,
    "by_langgraph": (
        "WAL (its own choice), `synchronous` as the work says on the connection that we hand it",
        "the writes of a task; then the whole state as a checkpoint (`durability='sync'`)",
        "the step under way; its result is kept once its writes are",
    ),
    "by_burr": (
        "WAL and `synchronous` set by us on its connection (by itself: rollback journal, FULL)",
        "the whole state, after the step",
        "the step under way, with its result",
    ),
    "by_workflows": (
        "WAL (its own choice), always FULL: it opens a connection for each write",
        "each tick of its loop; the state when it is edited",
        "the step under way, with its result",
    ),
    "by_dbos": (
        "WAL and `synchronous` set by us on an engine of ours (by itself: rollback journal, FULL)",
        "the result of a step; no state beside it, a resume computes it again from the results",
        "the step under way, with its result",
    ),
}


def table(labels: AbstractSet[str]) -> Iterator[str]:
    """The facts about those contenders that took part."""
    yield "\n## How durable each is\n"
    yield "| contender | SQLite | commits for each step | a kill loses |"
    yield "| --- | --- | --- | --- |"
    for name, facts in FACTS.items():
        if any(label.split(",")[0] == LABELS[name] for label in labels):
            yield f"| {LABELS[name]} | {' | '.join(facts)} |"
    yield (
        "\nPower cuts are another matter: with FULL none of them loses what it had committed; with "
        "NORMAL the last commits may be gone. How often each really flushes is in the tables."
    )
