"""The rules of the family PF3."""

from __future__ import annotations

from pocoflow.check.rules.entry import rule

__all__ = ["RULES"]

RULES = (
    rule(
        "PF301",
        "read before write",
        "error",
        "A path leads to a node that reads a field which nothing on the path has written.",
        """The run fails there with a missing key, after everything before it has been paid for. The
        message has the path. A field is there from the start if it has a default or is an input;
        without `inputs=` the inputs are the fields that no node writes, and those that whoever
        writes them needs first, such as a text that a loop improves. What the store of a run holds
        at its start is never reported.""",
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
        also="warning",
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
    rule(
        "PF303",
        "branches write one field",
        "error",
        "Two parallel branches write one field, and nothing says how the writes are put together.",
        """Which of the two counts would depend on who is quicker, so the run fails at the join,
        after both have been paid for. A reducer on the field puts them together; what each branch
        writes to a field of its own is fine. It is a warning where a branch may not write after
        all, for what it changes in place, and for the items of a `FanOut`, of which there may be
        only one. Such a warning is logged, too, before a run begins.""",
        """
    from pocoflow import Parallel


    @node(writes=A.summary)
    def shorten(document: str) -> str:
        return document[:100]


    @node(writes=A.summary)
    def translate(document: str) -> str:
        return document.upper()


    flow = Flow(start=Parallel(shorten, translate, name="both"), schema=Article)
    """,
        """
    from typing import Annotated

    from pocoflow import Parallel
    from pocoflow.store.reducing import item
    from pocoflow.store.reducing import append


    class Drafts(BaseModel):
        document: str
        drafts: Annotated[list[str], append] = []


    D = fields(Drafts)


    @node(writes=item(D.drafts))
    def shorten(document: str) -> str:
        return document[:100]


    @node(writes=item(D.drafts))
    def translate(document: str) -> str:
        return document.upper()


    flow = Flow(start=Parallel(shorten, translate, name="both"), schema=Drafts)
    """,
        also="warning",
    ),
    rule(
        "PF304",
        "not set at the end",
        "error",
        "A way to the end leaves out a field that is to be set there.",
        """Whoever works with the result has not got it, after everything has been paid for. With
        `outputs=` a flow says what is set wherever it ends. Without, it is what its model requires,
        and a warning, as only `to_model()` and `validate()` need all of that: what one way to an
        end leaves out, and, if the flow names its `inputs=`, what no node writes. Nothing is said
        where unknown code may have written it.""",
        """
    @node
    def is_long(document: str) -> Literal["long", "short"]:
        return "long" if len(document) > 100 else "short"


    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document[:100]


    flow = Flow(start=is_long, schema=Article, outputs=(A.summary,))
    flow.then(is_long.when("long"), summarise).then(is_long.when("short"), END)
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


    flow = Flow(start=is_long, schema=Article, outputs=(A.summary,))
    flow.then(is_long.when("long"), summarise).then(is_long.when("short"), copy)
    """,
        also="warning",
    ),
)
