"""Programs with one mistake each, for ``test_mistakes.py``. Each makes a ``flow``."""

from dataclasses import dataclass

PRELUDE = """\
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pocoflow import END, Flow, Node, Parallel, Store, context, fields, key, node, resource


class Article(BaseModel):
    document: str
    summary: str
    score: float = 0.0


class Review(BaseModel):
    stars: int = 5


class Words(BaseModel):
    words: list[str] = []


class Client:
    def ask(self, text: str) -> str:
        return text


A = fields(Article)
W = fields(Words)
llm = resource(Client, "llm")


@node(writes=A.summary)
def summarise(document: str) -> str:
    return document[:100]


@node
def decide(score: float) -> Literal["good", "bad"]:
    return "good" if score > 0.8 else "bad"


@node
def publish(summary: str) -> None:
    len(summary)


class Publish(Node[str, None, None]):
    def prep(self, store: Store[Article]) -> str:
        return store.state.summary


flow = Flow(start=summarise, schema=Article)
given: Any = {"document": "a text"}

"""


@dataclass(frozen=True)
class Mistake:
    """A mistake: what it is, the program, and whether annotations can express it."""

    title: str
    program: str
    typed: bool = False


TYPED = [
    Mistake(title, program, typed=True)
    for title, program in {
        "a misspelt action of a function": """
flow.then(summarise, decide).then(decide.when("god"), publish).then(decide.when("bad"), END)
""",
        "a misspelt action of a class": """
class Grade(Node[str, float, Literal["good", "bad"]]):
    pass


grade = Grade()
grade.then("god", publish).then("bad", END)
flow.then(summarise, grade)
""",
        "an edge for the default action of a node that never returns it": """
flow.then(summarise, decide).then(decide, publish)
""",
        "a reference to a field that is not there": """
@node(writes=A.sumary)
def copy(document: str) -> str:
    return document
""",
        "a default that refers to a field of another type": """
@node
def count(number: int = A.document) -> None:
    number + 1


flow.then(summarise, count)
""",
        "a function that returns another type than the field it writes": """
@node(writes=A.summary)
def length(document: str) -> int:
    return len(document)


flow.then(summarise, length).then(length, publish)
""",
        "an async function that does": """
@node(writes=A.summary)
async def length(document: str) -> int:
    return len(document)


flow.then(summarise, length).then(length, publish)
""",
        "a tuple whose second part does not fit its field": """
@node(writes=(A.score, A.summary))
def both(document: str) -> tuple[float, float]:
    return 1.0, 2.0


flow.then(summarise, both).then(both, publish)
""",
        "a function that writes and forgets to return": """
@node(writes=A.summary)
def nothing(document: str) -> str:
    len(document)


flow.then(summarise, nothing).then(nothing, publish)
""",
        "a function that sometimes returns None for a field that has no None": """
@node(writes=A.summary)
def perhaps(document: str) -> str | None:
    return document if len(document) > 100 else None


flow.then(summarise, perhaps).then(perhaps, publish)
""",
        "a class instead of a node as a target": """
flow.then(summarise, Publish)
""",
        "a name instead of a node as a target": """
flow.then(summarise, "publish")
""",
        "a class instead of a node as the start": """
flow = Flow(start=Publish, schema=Article)
""",
        "a number as an action": """
@node
def stars(document: str) -> int:
    return 5


flow.then(summarise, stars)
""",
        "a field of the state that is not there": """
class Wrong(Node[str, None, None]):
    def prep(self, store: Store[Article]) -> str:
        return store.state.sumary


flow.then(summarise, Wrong())
""",
        "a value of the wrong type for a field of the state": """
class Wrong(Node[None, None, None]):
    def post(self, store: Store[Article], prep: None, result: None) -> None:
        store.state.score = "high"


flow.then(summarise, Wrong())
""",
        "an exec that takes something else than Node[...] says": """
class Wrong(Node[str, float, None]):
    def exec(self, words: list[str]) -> float:
        return len(words)


flow.then(summarise, Wrong())
""",
        "an exec that returns something else than Node[...] says": """
class Wrong(Node[str, float, None]):
    def exec(self, text: str) -> str:
        return text


flow.then(summarise, Wrong())
""",
        "a prep that returns something else than Node[...] says": """
class Wrong(Node[str, None, None]):
    def prep(self, store: Store[Article]) -> float:
        return store.state.score


flow.then(summarise, Wrong())
""",
        "a post that returns an action that Node[...] does not name": """
class Wrong(Node[None, None, Literal["good"]]):
    def post(self, store: Store[Article], prep: None, result: None) -> Literal["bad"]:
        return "bad"


wrong = Wrong()
wrong.then("good", publish)
flow.then(summarise, wrong)
""",
        "an instance of a model as the schema": """
flow = Flow(start=summarise, schema=Article(document="", summary=""))
""",
        "a resource for a parameter of another type": """
@node(writes=A.summary)
def ask(document: str, client: str = llm) -> str:
    return client + document


flow.then(summarise, ask)
""",
        "a setting of the wrong type": """
@node(writes=A.summary, max_retries="3")
def ask(document: str) -> str:
    return document
""",
        "a setting that is not there": """
@node(writes=A.summary, retries=3)
def ask(document: str) -> str:
    return document
""",
        "a hook for an event that is not there": """
flow.on("node_stop", print)
""",
        "a hook that takes too little": """
def told(name: str) -> None:
    len(name)


flow.on("node_end", told)
""",
        "a function that takes other items than its each= has": """
@node(each=W.words)
def show(number: int) -> None:
    number + 1


flow = Flow(start=show, schema=Words)
given = {"words": []}
""",
        "each= for a field that is no list": """
@node(each=A.score)
def show(number: float) -> None:
    number + 1


flow.then(summarise, show)
""",
        "a post that forgets to return its action": """
class Grade(Node[None, None, Literal["good", "bad"]]):
    def post(self, store: Store[Article], prep: None, result: None) -> Literal["good", "bad"]:
        store.state.score = 0.9


grade = Grade()
flow.then(summarise, grade)
flow.then(grade.when("good"), publish).then(grade.when("bad"), END)
""",
        "a call with the wrong argument, and a name for END": """
summarise(5)
flow.then(summarise, "END")
""",
        "a journaled call with the wrong argument": """
@node(writes=A.summary)
def ask(document: str) -> str:
    return context().call(Client().ask, text=7)


flow = Flow(start=ask, schema=Article)
""",
        "an amount that is no number": """
@node(writes=A.summary)
def ask(document: str) -> str:
    context().spend(usd="0.004")
    return document


flow = Flow(start=ask, schema=Article, budget={"usd": 2.0})
""",
    }.items()
]

OTHERS = [
    Mistake(title, program)
    for title, program in {
        "a text as an action": """
@node
def ask(document: str) -> str:
    return document
""",
        "each= for a text": """
@node(each=A.document)
def show(letter: str) -> None:
    len(letter)


flow.then(summarise, show)
""",
        "a class that returns an action that it does not name": """
class Grade(Node[None, None, Literal["good", "bad"]]):
    def post(self, store: Store[Article], prep: None, result: None) -> Literal["good", "bad"]:
        answer: Any = "goood"
        return answer


grade = Grade()
flow.then(summarise, grade)
flow.then(grade.when("good"), publish).then(grade.when("bad"), END)
""",
        "an edge of the flow itself instead of one of its nodes": """
flow.then("default", publish)
""",
        "a phase of PocketFlow": """
class Fetch(Node[None, None, None]):
    async def exec_async(self, nothing: None) -> None:
        pass


flow.then(summarise, Fetch())
""",
        "a misspelt setting in a class": """
class Fetch(Node[None, None, None]):
    max_retry = 3


flow.then(summarise, Fetch())
""",
        "a misspelt phase": """
class Fetch(Node[None, None, None]):
    def exc(self, nothing: None) -> None:
        pass


flow.then(summarise, Fetch())
""",
        "branches that collect in one dict": """
class Fetch(Node[None, None, None]):
    def post(self, store: Store[Any], prep: None, result: None) -> None:
        store["pages"][self.name] = ""


flow = Flow(start=Parallel(Fetch(name="a"), Fetch(name="b")))
given = {"pages": {}}
""",
        "an action that is computed": """
action: Any = "god"
flow.then(summarise, decide).then(decide.when(action), publish)
flow.then(decide.when("good"), publish).then(decide.when("bad"), END)
""",
        "a parameter that is no field": """
@node
def read(documnet: str) -> None:
    len(documnet)


flow.then(summarise, read)
""",
        "a parameter annotated with another type than its field": """
@node
def read(document: list[str]) -> None:
    document.copy()


flow.then(summarise, read)
""",
        "a key() for a field of another type": """
@node(writes=key("score"))
def grade(document: str) -> str:
    return "high"


flow.then(summarise, grade)
""",
        "a truth value for a number": """
@node(writes=A.score)
def grade(document: str) -> bool:
    return True


flow.then(summarise, grade)
""",
        "an action without an edge": """
flow.then(summarise, decide).then(decide.when("good"), publish)
""",
        "a node that nobody reaches": """
flow.then(publish, END)
""",
        "a loop without a way out": """
flow.then(summarise, decide)
flow.then(decide.when("good"), summarise).then(decide.when("bad"), summarise)
""",
        "two edges for one action": """
flow.then(summarise, decide).then(decide.when("good"), END).then(decide.when("bad"), END)
flow.then(decide.when("good"), publish)
""",
        "an edge of the flow against one of the node": """
decide.then("good", END)
flow.then(summarise, decide).then(decide.when("good"), publish).then(decide.when("bad"), END)
""",
        "a field that one branch does not write": """
start = Flow(start=decide, schema=Article)
start.then(decide.when("good"), summarise).then(decide.when("bad"), publish)
flow = start.then(summarise, publish)
""",
        "two steps in the wrong order": """
flow = Flow(start=publish, schema=Article).then(publish, summarise)
""",
        "a class that reads before anybody wrote": """
flow = Flow(start=Publish(), schema=Article)
flow.start.then("default", summarise)
""",
        "a misspelt key that a class reads": """
class Wrong(Node[str, None, None]):
    def prep(self, store: Store[Article]) -> str:
        return str(store["sumary"])


flow.then(summarise, Wrong())
""",
        "a misspelt key that a class writes": """
class Wrong(Node[None, None, None]):
    def post(self, store: Store[Article], prep: None, result: None) -> None:
        store["sumary"] = ""


flow.then(summarise, Wrong())
""",
        "a value of the wrong type that a class writes by key": """
class Wrong(Node[None, None, None]):
    def post(self, store: Store[Article], prep: None, result: None) -> None:
        store["score"] = "high"


flow.then(summarise, Wrong())
""",
        "a result of exec that does not fit the key it is written to": """
class Wrong(Node[None, str, None]):
    def exec(self, nothing: None) -> str:
        return "high"

    def post(self, store: Store[Article], prep: None, grade: str) -> None:
        store["score"] = grade


flow.then(summarise, Wrong())
""",
        "a prep and an exec that disagree, without Node[...]": """
class Wrong(Node):
    def prep(self, store: Store[Article]) -> str:
        return store.state.document

    def exec(self, words: list[str]) -> int:
        return len(words.copy())


flow.then(summarise, Wrong())
""",
        "an exec and a post that disagree, without Node[...]": """
class Wrong(Node):
    def exec(self, nothing: None) -> str:
        return "high"

    def post(self, store: Store[Article], prep: None, score: float) -> None:
        store.state.score = score + 1


flow.then(summarise, Wrong())
""",
        "the store of another schema": """
@node
def rate(store: Store[Review]) -> None:
    store.state.stars = 1


flow.then(summarise, rate)
""",
        "a nested flow of another schema": """
@node
def rate(store: Store[Review]) -> None:
    store.as_dict()


flow.then(summarise, Flow(start=rate, schema=Review))
""",
        "an action that a nested flow never ends with": """
inner = Flow(start=decide, flow_name="inner")
inner.then(decide.when("good"), END).then(decide.when("bad"), END)
inner.then("god", publish).then("good", publish).then("bad", publish)
flow.then(summarise, inner)
flow = Flow(start=inner, schema=Article)
""",
        "an input that is no field": """
flow = Flow(start=summarise, schema=Article, inputs=(key("documnet"), A.document))
""",
        "a field that is neither written nor an input": """
flow = Flow(start=summarise, schema=Article, inputs=())
""",
        "a run without its input": """
given = {}
""",
        "a field that a database cannot keep": """
class Talk(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    document: str
    summary: str = ""
    client: Client = Client()


flow = Flow(start=summarise, schema=Talk, db_path="runs.db")
""",
        "a result of exec that a database cannot keep": """
class Ask(Node[None, Client, None]):
    def exec(self, nothing: None) -> Client:
        return Client()


flow = Flow(start=Ask(), schema=Article, db_path="runs.db")
""",
        "an exec that writes to the store": """
class Rate(Node[Store[Article], int, None]):
    def prep(self, store: Store[Article]) -> Store[Article]:
        return store

    def exec(self, store: Store[Article]) -> int:
        store.state.score = 1.0
        return 1


flow.then(summarise, Rate())
""",
        "two nodes of one name, with a database": """
first, second = Publish(), Publish()
first.then("default", second)
flow = Flow(start=summarise, schema=Article, db_path="runs.db").then(summarise, first)
""",
        "a journaled call of a lambda without a name": """
@node(writes=A.summary)
def ask(document: str) -> str:
    return context().call(lambda: document[:100])


flow = Flow(start=ask, schema=Article)
""",
        "a journaled call with an argument that cannot be stored": """
def apply(function: Any, text: str) -> str:
    return str(function(text))


@node(writes=A.summary)
def ask(document: str) -> str:
    return context().call(apply, str.upper, document) + context().call(apply, Client, document)


flow = Flow(start=ask, schema=Article)
""",
        "a journaled call whose result cannot be stored": """
def connect(to: str) -> Client:
    return Client()


@node(writes=A.summary)
def ask(document: str) -> str:
    return context().call(connect, document).ask(document)


flow = Flow(start=ask, schema=Article)
""",
        "a budget that nothing spends": """
flow = Flow(start=summarise, schema=Article, budget={"usd": 2.0})
""",
        "an edge for a budget that is not there": """
@node(writes=A.summary)
def ask(document: str) -> str:
    context().spend(usd=0.004)
    return document


flow = Flow(start=ask, schema=Article, budget={"usd": 2.0})
flow.then(ask.when_spent("dollars"), END)
""",
        "a result that nobody reads": """
@node(writes=A.summary)
def shorten(document: str) -> str:
    return document[:50]


flow.then(summarise, shorten)
""",
    }.items()
]

MISTAKES = [*TYPED, *OTHERS]
