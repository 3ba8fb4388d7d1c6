"""What a flow has to be given: the check, ``flow.validate()`` and a run hold the same premise."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

from pocoflow import END, FanOut, Flow, Node, Parallel, Store, Subflow, bind, fields, node
from pocoflow.errors import MissingInputError
from pocoflow.failure import Failure
from pocoflow.reducers import append, item


class Draft(BaseModel):
    """The store of every flow here."""

    text: str
    title: str
    words: list[str]
    log: Annotated[list[str], append]
    left: Failure | None = None
    count: int = 0


D = fields(Draft)


@node(writes=D.text)
def improve(text: str) -> str:
    """Add to what is there."""
    return text + "!"


@node
def enough(text: str) -> Literal["yes", "no"]:
    """Look at it."""
    return "yes" if len(text) > 3 else "no"


@node(writes=D.text)
def begin() -> str:
    """Make a first text."""
    return "new"


@node(writes=D.title)
def name(text: str) -> str:
    """Make the title."""
    return text.title()


class Chat(Node[list[str], str, Literal["again", "stop"]]):
    """Adds to a history."""

    def prep(self, store: Store[Draft]) -> list[str]:
        """Look at it."""
        return store.state.words

    def exec(self, words: list[str]) -> str:
        """Answer."""
        return str(len(words))

    def post(self, store: Store[Draft], words: list[str], answer: str) -> Literal["again", "stop"]:
        """Add the answer."""
        store.state.words = [*words, answer]
        return "again" if len(words) < 3 else "stop"


def loop() -> Flow[Draft]:
    """The last node leads back to the one that writes what the first reads."""
    flow = Flow(improve, schema=Draft).then(improve, enough)
    return flow.then(enough.when("no"), improve).then(enough.when("yes"), END)


def written_behind() -> Flow[Draft]:
    """The writer needs nothing, and is come to only from the node that needs the text."""

    @node
    def look(text: str) -> Literal["again", "done"]:
        return "again" if text != "new" else "done"

    flow = Flow(look, schema=Draft).then(look.when("again"), begin)
    return flow.then(begin, look).then(look.when("done"), END)


def two_writers() -> Flow[Draft]:
    """Each of two nodes writes it, and both need it."""

    @node(writes=D.text)
    def shout(text: str) -> str:
        return text.upper()

    return Flow(improve, schema=Draft).then(improve, shout).then(shout, name)


def history() -> Flow[Draft]:
    """A class reads and writes a list."""
    chat = Chat()
    return Flow(chat, schema=Draft).then(chat.when("again"), chat).then(chat.when("stop"), END)


def increments() -> Flow[Draft]:
    """Increments to a list without a default."""

    @node(writes=item(D.log))
    def note() -> str:
        return "a"

    return Flow(note, schema=Draft)


def nested() -> Flow[Draft]:
    """The loop as a nested flow."""
    inner = loop()
    return Flow(inner, schema=Draft).then(inner.when("yes"), name)


def in_a_branch() -> Flow[Draft]:
    """A branch improves what it is given."""
    return Flow(Parallel(improve, name="both"), schema=Draft)


def of_items() -> Flow[Draft]:
    """The branch of an item keeps a count of the field that it needs."""

    @node(writes=item(D.log))
    def note(text: str, title: str) -> str:
        return text + title

    return Flow(FanOut(note, each=D.words, as_=D.title), schema=Draft)


def in_a_subflow() -> Flow[Draft]:
    """What is handed in comes back under the same name."""

    class Inner(BaseModel):
        text: str

    inner = fields(Inner)

    @node(writes=inner.text)
    def louder(text: str) -> str:
        return text.upper()

    handed = [bind(inner.text).to(D.text)]
    back = [bind(D.text).to(inner.text)]
    return Flow(Subflow(Flow(louder, schema=Inner), inputs=handed, outputs=back), schema=Draft)


def caught() -> Flow[Draft]:
    """An edge for errors leads back to the node that needs the text."""
    flow = Flow(improve, schema=Draft)
    return flow.then(improve.catch(ValueError, writes=D.left), name).then(improve, name)


GIVEN: dict[Callable[[], Flow[Draft]], dict[str, Any]] = {
    loop: {"text": "a"},
    written_behind: {"text": "a"},
    two_writers: {"text": "a"},
    history: {"words": ["hi"]},
    increments: {"log": []},
    nested: {"text": "a"},
    in_a_branch: {"text": "a"},
    of_items: {"text": "a", "words": ["x"], "log": []},
    in_a_subflow: {"text": "a"},
    caught: {"text": "a"},
}


@pytest.mark.parametrize("make", GIVEN)
def test_what_every_writer_needs_first_is_an_input(make: Callable[[], Flow[Draft]]) -> None:
    """It can only come from the caller: no finding, a run with it passes, one without is told."""
    given = GIVEN[make]
    errors = [one for one in make().validate() if one.severity == "error"]
    assert errors == []
    make().run(dict(given))
    for key in given:
        with pytest.raises(MissingInputError, match=f"without '{key}'"):
            make().run({name: value for name, value in given.items() if name != key})


def test_what_a_node_makes_on_one_way_only_is_no_input() -> None:
    """A first value that somebody makes elsewhere means that the other way lacks it: an error."""

    @node
    def choose(count: int) -> Literal["new", "old"]:
        return "new" if count else "old"

    flow = Flow(choose, schema=Draft).then(choose.when("new"), begin).then(begin, improve)
    flow.then(choose.when("old"), improve)
    (found,) = [one for one in flow.validate() if one.code == "PF301"]
    assert (found.severity, found.node) == ("error", "improve")
    both = Flow(Parallel(begin, name, name="both"), schema=Draft)
    (sibling,) = [one for one in both.validate() if one.code == "PF301"]
    assert sibling.node == "both/name"


def test_a_node_that_reads_before_the_one_that_makes_it_is_told() -> None:
    """Nodes in the wrong order: no path leads from the writer to the reader."""
    flow = Flow(enough, schema=Draft).then(enough.when("no"), begin).then(begin, name)
    flow.then(enough.when("yes"), END)
    (found,) = [one for one in flow.validate() if one.severity == "error"]
    assert (found.code, found.node) == ("PF301", "enough")


def test_inputs_that_are_declared_are_all_of_them() -> None:
    """What every writer needs first is an error where the flow says that it is not given."""
    flow = Flow(improve, schema=Draft, inputs=(D.title,))
    (found,) = [one for one in flow.validate() if one.code == "PF301"]
    assert "it reads 'text' before anything wrote it" in found.message
