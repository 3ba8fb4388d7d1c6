"""The rules of the family PF4."""

from __future__ import annotations

from pocoflow.check.rules.entry import rule

__all__ = ["RULES"]

RULES = (
    rule(
        "PF401",
        "field that cannot be stored",
        "error",
        "In a flow with a database, a field holds something that cannot be stored.",
        """Checkpoints record it as not saved, and a resumed run lacks it. A live object is given to
        the run as a resource instead.""",
        """
    from pydantic import ConfigDict


    class Client:
        def ask(self, text: str) -> str:
            return text


    class Talk(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

        question: str
        client: Client


    @node
    def ask(question: str, client: Client) -> None:
        print(client.ask(question))


    flow = Flow(start=ask, schema=Talk, db_path="runs.db")
    """,
        """
    from pocoflow import resource


    class Client:
        def ask(self, text: str) -> str:
            return text


    class Talk(BaseModel):
        question: str


    llm = resource(Client, "llm")


    @node
    def ask(question: str, client: Client = llm) -> None:
        print(client.ask(question))


    flow = Flow(start=ask, schema=Talk, db_path="runs.db")
    """,
    ),
    rule(
        "PF402",
        "result that cannot be stored",
        "warning",
        "In a flow with a database, `exec` returns something that cannot be stored.",
        "After a crash between `exec` and `post` it is called again, and paid for again.",
        """
    class Answer:
        def __init__(self, text: str) -> None:
            self.text = text


    class Ask(Node):
        def exec(self, prep_result: object) -> Answer:
            return Answer("42")


    flow = Flow(start=Ask(), db_path="runs.db")
    """,
        """
    class Answer(BaseModel):
        text: str


    class Ask(Node):
        def exec(self, prep_result: object) -> Answer:
            return Answer(text="42")


    flow = Flow(start=Ask(), db_path="runs.db")
    """,
    ),
    rule(
        "PF403",
        "stored run that cannot go on",
        "error",
        "A run in the database of `pocoflow check --db` could not be resumed under this code.",
        """Its pending node is gone or is another one, its store does not fit the schema any more,
        or a class of a stored value is not found. The message has what changed since the run
        began. Resume such runs before the new code is deployed, keep the old name, or resume them
        with `rename=`.""",
        """
    # A run of the release before stands before the node Grade.
    class Review(Node):
        pass


    flow = Flow(start=Review(), db_path="runs.db")
    """,
        """
    class Review(Node):
        pass


    flow = Flow(start=Review(name="Grade"), db_path="runs.db")
    """,
    ),
    rule(
        "PF404",
        "question without a database",
        "error",
        "A node asks a person, and the flow has no database.",
        """The run pauses until somebody answers, which may take days, and goes on in another
        process. A run that is not kept anywhere cannot.""",
        """
    from pocoflow import Question


    @node(writes=A.score)
    def grade(document: str) -> Question[float]:
        return Question("How good is it?", {"document": document})


    flow = Flow(start=grade, schema=Article)
    """,
        """
    from pocoflow import Question


    @node(writes=A.score)
    def grade(document: str) -> Question[float]:
        return Question("How good is it?", {"document": document})


    flow = Flow(start=grade, schema=Article, db_path="runs.db")
    """,
    ),
    rule(
        "PF405",
        "answer without a schema",
        "error",
        "A node asks for an answer of a type that cannot be described as a JSON schema.",
        """Whoever answers, in a terminal, the monitor or a web page, needs to know what an answer
        looks like, and the answer is kept as JSON.""",
        """
    from types import ModuleType

    from pocoflow import Question


    @node(writes=key("module"))
    def choose() -> Question[ModuleType]:
        return Question("Which module?")


    flow = Flow(start=choose, db_path="runs.db")
    """,
        """
    from pocoflow import Question


    @node(writes=key("module"))
    def choose() -> Question[Literal["json", "tomllib"]]:
        return Question("Which module?")


    flow = Flow(start=choose, db_path="runs.db")
    """,
    ),
)
