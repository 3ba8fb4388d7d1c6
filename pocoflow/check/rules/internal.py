"""The rule of the family PF0."""

from __future__ import annotations

from pocoflow.check.rules.entry import rule

__all__ = ["RULES"]

RULES = (
    rule(
        "PF001",
        "rule that failed",
        "warning",
        "A rule of the validation raised an exception itself.",
        """What that rule looks for was not looked for in this flow; all other rules were tried, and
        a run is not stopped. It is a fault of pocoflow, or of code that it has to ask, such as the
        metaclass of an annotation. The traceback is in the log, under `pocoflow.check`.""",
        """
    class Moody(type):
        def __subclasscheck__(cls, other: type) -> bool:
            raise LookupError("not today")


    class Text(metaclass=Moody):
        pass


    @node
    def publish(document: Text) -> None:
        print(document)


    flow = Flow(start=publish, schema=Article)
    """,
        """
    @node
    def publish(document: str) -> None:
        print(document)


    flow = Flow(start=publish, schema=Article)
    """,
    ),
)
