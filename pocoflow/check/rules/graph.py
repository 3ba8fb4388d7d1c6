"""The rules of the family PF1."""

from __future__ import annotations

from pocoflow.check.rules.entry import rule

__all__ = ["RULES"]

_STEPS = """
    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document[:100]


    @node
    def decide(summary: str) -> Literal["good", "bad"]:
        return "good" if summary else "bad"


    @node
    def publish(summary: str) -> None:
        print(summary)


    flow = Flow(start=summarise, schema=Article)
    flow.then(summarise, decide)
"""

RULES = (
    rule(
        "PF101",
        "unreachable node",
        "error",
        "A node has edges in the flow, but no edge leads to it.",
        "It never runs. Mostly an edge was forgotten, or names the wrong target.",
        _STEPS
        + """
    flow.then(decide.when("good"), END).then(decide.when("bad"), summarise)
    flow.then(publish, END)
    """,
        _STEPS
        + """
    flow.then(decide.when("good"), publish).then(decide.when("bad"), summarise)
    flow.then(publish, END)
    """,
    ),
    rule(
        "PF102",
        "impossible action",
        "error",
        "An edge is for an action that its node cannot return.",
        """It is never taken, and the action that was meant has no edge. A type checker says the
        same of `decide.when("god")`; this finds it where the action is computed, or where no
        checker runs. For a class without a `post` that is wired by `node.then` it is a warning.""",
        _STEPS
        + """
    action: str = "god"
    flow.then(decide.when(action), publish).then(decide.when("bad"), summarise)
    flow.then(decide.when("good"), publish)
    """,
        _STEPS
        + """
    flow.then(decide.when("good"), publish).then(decide.when("bad"), summarise)
    """,
        also="warning",
    ),
    rule(
        "PF103",
        "unhandled action",
        "error",
        "A node can return an action that has no edge, although it has other edges.",
        """The run would end there as completed, with half of the work not done. An edge to `END`
        says that it is meant. For a class that is wired by `node.then` alone it is a warning, since
        an action without an edge is the documented way to end such a flow.""",
        _STEPS
        + """
    flow.then(decide.when("good"), publish)
    """,
        _STEPS
        + """
    flow.then(decide.when("good"), publish).then(decide.when("bad"), END)
    """,
        also="warning",
    ),
    rule(
        "PF104",
        "endless loop",
        "error",
        "A loop has no way out.",
        """Every run that comes there goes on, and pays, until `max_steps` ends it as failed. It is
        a warning if a node of the loop raises something, or takes `input()`, which may end it, and
        nothing is said if one asks a question or the flow has a deadline.""",
        _STEPS
        + """
    flow.then(decide.when("good"), summarise).then(decide.when("bad"), summarise)
    """,
        _STEPS
        + """
    flow.then(decide.when("good"), END).then(decide.when("bad"), summarise)
    """,
        also="warning",
    ),
    rule(
        "PF105",
        "two edges for one action",
        "error",
        "Two edges are written for one action of one node, to different targets.",
        """Only the later one counts, so one of the two lines does nothing. For two edges written by
        `node.then` it is a warning: that is the documented way to lead a node elsewhere.""",
        _STEPS
        + """
    flow.then(decide.when("good"), publish).then(decide.when("bad"), summarise)
    flow.then(decide.when("good"), END)
    """,
        _STEPS
        + """
    flow.then(decide.when("good"), publish).then(decide.when("bad"), summarise)
    """,
        also="warning",
    ),
    rule(
        "PF106",
        "flow and node disagree",
        "error",
        "An edge of the flow and an edge of the node are for one action, to different targets.",
        """The flow's edge counts. Who reads the module of the node sees an edge that this flow does
        not take.""",
        _STEPS
        + """
    decide.then("good", summarise)
    flow.then(decide.when("good"), publish).then(decide.when("bad"), summarise)
    """,
        _STEPS
        + """
    decide.then("good", publish)
    flow.then(decide.when("bad"), summarise)
    """,
    ),
    rule(
        "PF107",
        "name clash",
        "warning",
        "In a flow with a database, several nodes have one name.",
        """They are told apart by numbers, in the order in which the graph reaches them. After a
        change of the graph a stored run may go on at the wrong one.""",
        """
    class Ask(Node):
        pass


    first, second = Ask(), Ask()
    first.then("default", second)
    flow = Flow(start=first, db_path="runs.db")
    """,
        """
    class Ask(Node):
        pass


    first, second = Ask(name="first"), Ask(name="second")
    first.then("default", second)
    flow = Flow(start=first, db_path="runs.db")
    """,
    ),
    rule(
        "PF108",
        "error caught twice",
        "error",
        "An edge catches errors that an edge of the same node before it takes already.",
        "Of several edges that fit an error the first is taken, so this one never is.",
        _STEPS
        + """
    flow.then(decide.when("good"), END).then(decide.when("bad"), summarise)
    flow.then(summarise.catch(OSError), END)
    flow.then(summarise.catch(TimeoutError), summarise)
    """,
        _STEPS
        + """
    flow.then(decide.when("good"), END).then(decide.when("bad"), END)
    flow.then(summarise.catch(TimeoutError), summarise)
    flow.then(summarise.catch(OSError), END)
    """,
    ),
    rule(
        "PF109",
        "missing action",
        "error",
        "A class names its actions, and its `post` can end without one of them.",
        """No `return` means `None`, which is the action `"default"`. Where that is not among the
        actions that are named, the step fails, after its work has been paid for. If other ways
        through `post` return an action it is a warning.""",
        """
    class Grade(Node[None, float, Literal["good", "bad"]]):
        def exec(self, nothing: None) -> float:
            return 0.9

        def post(self, store, nothing, score):
            store["score"] = score


    grade = Grade()
    flow = Flow(start=grade).then(grade.when("good"), END).then(grade.when("bad"), END)
    """,
        """
    class Grade(Node[None, float, Literal["good", "bad"]]):
        def exec(self, nothing: None) -> float:
            return 0.9

        def post(self, store, nothing, score):
            store["score"] = score
            return "good" if score > 0.5 else "bad"


    grade = Grade()
    flow = Flow(start=grade).then(grade.when("good"), END).then(grade.when("bad"), END)
    """,
        also="warning",
    ),
    rule(
        "PF110",
        "edge of the flow itself",
        "warning",
        "A flow has an edge as a node of another flow, and is a node of none.",
        """`flow.then("default", publish)`, with a text first, says what comes after the whole flow
        where it is nested; where it is run by itself nothing comes after it. Mostly an edge from a
        node of the flow was meant.""",
        """
    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document[:100]


    @node
    def publish(summary: str) -> None:
        print(summary)


    flow = Flow(start=summarise, schema=Article)
    flow.then("default", publish)
    """,
        """
    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document[:100]


    @node
    def publish(summary: str) -> None:
        print(summary)


    flow = Flow(start=summarise, schema=Article)
    flow.then(summarise, publish)
    """,
    ),
    rule(
        "PF111",
        "nothing to ignore",
        "warning",
        "A code that is to be ignored silences nothing.",
        """What was wrong there is mended, or the code is misspelt: the comment would silence the
        next mistake at that place. It is looked for by `pocoflow check --strict` alone, in the
        flow, its edges and the definitions of its nodes.""",
        """
    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document[:100]


    flow = Flow(start=summarise, schema=Article, ignore=("PF302",))
    """,
        """
    @node(writes=A.summary)
    def summarise(document: str) -> str:
        return document[:100]


    flow = Flow(start=summarise, schema=Article)
    """,
    ),
)
