"""The rules of the family PF3."""

from __future__ import annotations

from pocoflow.check.rules.rule import rule

__all__ = ["RULES"]

RULES = (
    rule(
        "PF301",
        "read before write",
        "error",
        "A path leads to a node that reads a field which nothing on the path has written.",
        """The run fails there with a missing key, after everything before it has been paid for. The
        message has the path. A field is there from the start if it has a default or is an input;
        without `inputs=` the inputs are the fields that no node writes. What the store of a run
        holds at its start is never reported.""",
        """
    @node
    def is_long(document: str) -> Literal["long", "short"]:
        return "long" if len(document) > 100 else "short"


    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document[:100]


    @node
    def publish(summary: str) -> None:
        print(summary)


    flow = Flow(start=is_long, schema=Article)
    flow.then(is_long.when("long"), summarise).then(is_long.when("short"), publish)
    flow.then(summarise, publish)
    """,
        """
    @node
    def is_long(document: str) -> Literal["long", "short"]:
        return "long" if len(document) > 100 else "short"


    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document[:100]


    @node(writes=A.summary)
    def copy(document: str) -> str:
        return document


    @node
    def publish(summary: str) -> None:
        print(summary)


    flow = Flow(start=is_long, schema=Article)
    flow.then(is_long.when("long"), summarise).then(is_long.when("short"), copy)
    flow.then(summarise, publish).then(copy, publish)
    """,
    ),
    rule(
        "PF302",
        "unread write",
        "warning",
        "What a node writes is overwritten on every path before anything reads it.",
        "The work for it is done, and perhaps paid for, for nothing.",
        """
    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document[:100]


    @node(writes=A.summary)
    def shorten(document: str) -> str:
        return document[:50]


    flow = Flow(start=summarise, schema=Article)
    flow.then(summarise, shorten)
    """,
        """
    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document[:100]


    @node(writes=A.summary)
    def shorten(summary: str) -> str:
        return summary[:50]


    flow = Flow(start=summarise, schema=Article)
    flow.then(summarise, shorten)
    """,
    ),
)
