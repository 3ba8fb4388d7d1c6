"""The rules of the family PF2."""

from __future__ import annotations

from pocoflow.check.rules.entry import rule

__all__ = ["RULES"]

RULES = (
    rule(
        "PF201",
        "unknown field",
        "error",
        "A node reads or writes a field that the schema does not have.",
        """The read or the write fails, if the run gets there; what only some executions of a class
        do is a warning, and so is a misspelt key of `get`, `in`, or a parameter with a default,
        which is quietly never there. A parameter of a function names a field unless its default is
        a reference; `fields(Article).summary` is checked by type checkers and follows a renaming.
        In a class, `store["x"]` and `store.state.x` are read from the source.""",
        """
    @node(writes=A.summary)
    def summarise(documnet: str) -> str:
        return documnet[:100]


    flow = Flow(start=summarise, schema=Article)
    """,
        """
    @node(writes=A.summary)
    def summarise(text: str = A.document) -> str:
        return text[:100]


    flow = Flow(start=summarise, schema=Article)
    """,
        also="warning",
    ),
    rule(
        "PF202",
        "parameter and field disagree",
        "error",
        "A parameter is annotated with a type that its field, or its resource, does not fit.",
        "The function is called with something else than it says it takes.",
        """
    @node
    def publish(document: list[str]) -> None:
        print(*document)


    flow = Flow(start=publish, schema=Article)
    """,
        """
    @node
    def publish(document: str) -> None:
        print(*document.splitlines())


    flow = Flow(start=publish, schema=Article)
    """,
        also="warning",
    ),
    rule(
        "PF203",
        "written value and field disagree",
        "error",
        "A node writes a value of another type than the field holds.",
        """The store refuses the write, after the work has been done and paid for. A `bool` is no
        number to a store, although Python takes it for one. A constant is judged by the store's own
        check; a type is wrong if no value of it fits, and a type checker says more. It is a warning
        where a list that is empty, or an execution that does not come there, does not fail.""",
        """
    @node(writes=key("score"))
    def grade(document: str) -> str:
        return "very good"


    flow = Flow(start=grade, schema=Article)
    """,
        """
    @node(writes=A.score)
    def grade(document: str) -> float:
        return 0.9


    flow = Flow(start=grade, schema=Article)
    """,
        also="warning",
    ),
    rule(
        "PF204",
        "phases disagree",
        "error",
        "`prep`, `exec` and `post` do not agree on what they pass on.",
        "What one phase returns, the next is given.",
        """
    class Grade(Node):
        def prep(self, store: Store[Article]) -> str:
            return store.state.document

        def exec(self, words: list[str]) -> float:
            return 1 / len(words)

        def post(self, store: Store[Article], words: str, score: float) -> None:
            store.state.score = score


    flow = Flow(start=Grade(), schema=Article)
    """,
        """
    class Grade(Node):
        def prep(self, store: Store[Article]) -> list[str]:
            return store.state.document.split()

        def exec(self, words: list[str]) -> float:
            return 1 / len(words)

        def post(self, store: Store[Article], words: list[str], score: float) -> None:
            store.state.score = score


    flow = Flow(start=Grade(), schema=Article)
    """,
    ),
    rule(
        "PF205",
        "generic arguments and methods disagree",
        "error",
        "`Node[Prep, Exec, Post]` says something else than the annotations of the methods.",
        "Type checkers believe the arguments where the node is wired; the methods do otherwise.",
        """
    class Grade(Node[str, float, Literal["good", "bad"]]):
        def exec(self, text: str) -> str:
            return "0.9"


    flow = Flow(start=Grade())
    """,
        """
    class Grade(Node[str, float, Literal["good", "bad"]]):
        def exec(self, text: str) -> float:
            return 0.9


    flow = Flow(start=Grade())
    """,
    ),
    rule(
        "PF206",
        "another schema",
        "error",
        "A node takes the store of another schema, or a nested flow has another one.",
        """The store of a run has one schema, that of the outermost flow. A node written for a base
        class of it fits.""",
        """
    class Review(BaseModel):
        stars: int


    @node
    def publish(store: Store[Review]) -> None:
        print(store.as_dict())


    flow = Flow(start=publish, schema=Article)
    """,
        """
    @node
    def publish(store: Store[Article]) -> None:
        print(store.as_dict())


    flow = Flow(start=publish, schema=Article)
    """,
    ),
    rule(
        "PF207",
        "field without items",
        "error",
        "A node works on each item of a field that holds no list.",
        """A number has no items, and those of a text are its characters, which nobody means. A
        type checker cannot see the second.""",
        """
    @node(each=A.document)
    def publish(word: str) -> None:
        print(word)


    flow = Flow(start=publish, schema=Article)
    """,
        """
    class Words(Article):
        words: list[str] = []


    @node(each=fields(Words).words)
    def publish(word: str) -> None:
        print(word)


    flow = Flow(start=publish, schema=Words)
    """,
    ),
    rule(
        "PF208",
        "misspelt setting or phase",
        "warning",
        "A class has a name that is nearly that of a setting or a phase, and that nothing uses.",
        """Python takes any name in a class, so a misspelt `max_retries` sets nothing, and a
        misspelt `exec` is never called. A name that is read somewhere in its module, or that
        stands beside the one it is near, is left alone.""",
        """
    class Grade(Node):
        max_retry = 3

        def exec(self, nothing: None) -> float:
            return 0.9


    flow = Flow(start=Grade())
    """,
        """
    class Grade(Node):
        max_retries = 3

        def exec(self, nothing: None) -> float:
            return 0.9


    flow = Flow(start=Grade())
    """,
    ),
)
