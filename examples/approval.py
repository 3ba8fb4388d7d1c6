"""A person approves a draft: the run waits without a process, and goes on with the answer.

This writes a draft, asks for approval, and ends; the run waits in a database. Answer it from any
terminal: the run is revised as you say and asks again, or it is published::

    pocoflow answer RUN --flow examples/approval.py:flow

``pocoflow questions --db approval.db`` lists what waits, and ``pocoflow monitor approval.db`` shows
it with a form in the browser.

Run it with ``python examples/approval.py [TOPIC]``.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field

from pocoflow import END, AskNode, Flow, Question, RunPaused, Store, fields, node
from pocoflow.reducers import append

Verdict: TypeAlias = Literal["publish", "revise", "drop"]


class Review(BaseModel):
    """What a person says to a draft."""

    verdict: Verdict
    comment: str = Field("", description="What is to change")


class Post(BaseModel):
    """A post from its topic to its last draft."""

    topic: str
    comments: Annotated[list[str], append] = []
    draft: str


P = fields(Post)


@node(writes=P.draft)
def write(topic: str, comments: list[str]) -> str:
    """Write about the topic, as the comments want it; a stand-in for a language model."""
    changes = "".join(f"\nChanged: {comment}." for comment in comments)
    return f"About {topic}\n\nThere is much to be said about {topic}.{changes}"


class Approve(AskNode[Review, Verdict]):
    """Ask a person; a retried or resumed run does not ask twice."""

    def prep(self, store: Store[Post]) -> Question[Review]:
        versions = len(store.state.comments) + 1
        return Question(
            f"Publish this about {store.state.topic}?",
            {"draft": store.state.draft, "version": versions},
        )

    def post(self, store: Store[Post], question: Question[Review], review: Review) -> Verdict:
        if review.verdict == "revise":
            store.reduce("comments", review.comment or "shorter")
        return review.verdict


@node
def publish(topic: str, draft: str) -> None:
    path = Path(f"{topic.replace(' ', '_')}.txt")
    path.write_text(draft + "\n", "utf-8")
    print(f"published as {path}")


approve = Approve()
flow = Flow(write, schema=Post, flow_name="approval", db_path="approval.db")
flow.then(write, approve)
flow.then(approve.when("revise"), write)
flow.then(approve.when("publish"), publish).then(approve.when("drop"), END)


if __name__ == "__main__":
    try:
        flow.run({"topic": sys.argv[1] if len(sys.argv) > 1 else "the tide"})
    except RunPaused as paused:
        print("The draft waits for you:")
        print(f"pocoflow answer {paused.run_id} --flow {__file__}:flow")
