"""A flow that asks: for a review of its draft, and whether each of two places may print it.

``python approving.py DB RUN_ID`` runs it until it pauses; the monitor is given
``approving.py:flow``.
"""

import sys
from typing import Any, Literal

from pydantic import BaseModel, Field

from pocoflow import Flow, Question, RunPaused, fields, node

EVIL = (
    '<script>window.hacked=1</script><img src=x onerror="window.hacked=1"> **bold** _it_ '
    "[link](javascript:hacked) :smile: :red[red] $x^2$ `code`"
)
DRAFT = f"The tide comes in twice a day.\n\nWho reads this is not the one who wrote it: {EVIL}"


class Review(BaseModel):
    """What a reviewer says."""

    decision: Literal["publish", "revise"]
    comment: str = Field("", description=f"What is to change. {EVIL}")
    stars: int = Field(3, ge=1, le=5, description="How good it is")
    weight: float = 0.25
    is_urgent: bool | None = None
    tags: list[str] = Field(default_factory=list)
    due: str | None = Field(None, max_length=20, title="**Due** :smile: <b>date</b>")


class Article(BaseModel):
    draft: str = DRAFT
    review: Review | None = None
    places: list[str] = ["the daily", "the weekly"]
    printed: list[bool] = []


A = fields(Article)


@node(writes=A.review)
def review(draft: str) -> Question[Review]:
    """Ask for a review."""
    about = {"draft": draft, "words": 14, "sources": [{"name": EVIL, "year": 2024}]}
    return Question(f"Is this good enough? {EVIL}", about, deadline=86_400)


@node(each=A.places, writes=A.printed)
def permit(place: str) -> Question[bool]:
    """Ask whether a place may print it."""
    return Question(f"May {place} print it?")


def flow(path: str | None = None, run_id: str | None = None) -> Flow[Any]:
    """The flow: a review, then a permission for each place."""
    made = Flow(review, schema=Article, flow_name="article", db_path=path, run_id=run_id)
    made.then(review, permit)
    return made


if __name__ == "__main__":
    try:
        flow(sys.argv[1], sys.argv[2]).run({})
    except RunPaused as paused:
        print(paused.run_id)
