"""An error has a witness, a path on which every execution fails; anything less stops no run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
from pydantic import BaseModel, ConfigDict

from pocoflow import END, Flow, Node, Parallel, Store, context, fields, node


class Page(BaseModel):
    """The store of every flow here."""

    url: str = "x"
    text: str
    note: str
    shown: str = ""
    count: int = 0


P = fields(Page)
Made: TypeAlias = "tuple[Flow[Page], dict[str, Any]]"


@node(writes=P.text)
def load(url: str) -> str:
    """Make the text."""
    return f"text of {url}"


@node(writes=P.shown)
def show(text: str) -> str:
    """Need the text."""
    return text


def _choosing(choose: Any) -> Made:
    flow = Flow(choose, schema=Page).then(choose.when("given"), show)
    return flow.then(choose.when("load"), load).then(load, show), {}


class Look(Node[str | None, None, str]):
    """Looks first, and chooses by what it found."""

    def prep(self, store: Store[Page]) -> str | None:
        """Look."""
        found: str | None = store.get("text")
        return found

    def post(self, store: Store[Page], text: str | None, result: None) -> str:
        """Choose."""
        return "given" if text is not None else "load"


@node
def optional(text: str = "") -> Literal["given", "load"]:
    """Choose by a parameter."""
    return "given" if text else "load"


@node
def cached(store: Store[Page]) -> Literal["given", "load"]:
    """Choose by way of a variable."""
    found = store.get("text")
    if found is None:
        return "load"
    return "given"


class LookAtAll(Node["dict[str, Any]", None, str]):
    """Hands on everything."""

    def prep(self, store: Store[Page]) -> dict[str, Any]:
        """Look."""
        return dict(store)

    def post(self, store: Store[Page], found: dict[str, Any], result: None) -> str:
        """Choose."""
        return "given" if "text" in found else "load"


class Note(Node[None, None, None]):
    """Looks, and leaves a note of it."""

    def post(self, store: Store[Page], found: None, result: None) -> None:
        """Write down what there is."""
        store["count"] = 1 if "text" in store and bool(store["url"]) else 0


@node
def by_count(count: int) -> Literal["given", "load"]:
    """Choose by the note."""
    return "given" if count else "load"


def _noted() -> Made:
    looks = Note()
    flow, given = _choosing(by_count)
    return Flow(looks, schema=Page).then(looks, flow), given


@node(writes=P.text)
def draft(url: str) -> str:
    """Spend all there is."""
    context().spend(usd=1)
    return url


@node
def publish() -> None:
    """Do nothing."""


def _noted_before_a_branch() -> Made:
    looks = Note()
    parts = Parallel(_choosing(by_count)[0], name="one")
    return Flow(looks, schema=Page).then(looks, parts), {}


def _spent() -> Made:
    flow = Flow(draft, schema=Page, budget={"usd": 1}).then(draft, publish)
    return flow.then(draft.when_spent("usd"), show), {}


@node(writes=P.note)
def fails(text: str) -> str:
    """Fail."""
    raise ConnectionError(text)


def _caught() -> Made:
    inner = Flow(load, schema=Page, flow_name="inner").then(load, fails)
    flow = Flow(inner, schema=Page).then(inner, END)
    return flow.then(inner.catch(ConnectionError), show).then(show, END), {}


def _caught_and_declared() -> Made:
    inner = Flow(load, schema=Page, flow_name="inner").then(load, fails)
    flow = Flow(inner, schema=Page, outputs=(P.text,)).then(inner, END)
    return flow.then(inner.catch(ConnectionError), publish).then(publish, END), {}


class Take(Node[str, None, None]):
    """Takes what the run was given."""

    def prep(self, store: Store[Page]) -> str:
        """Remove it."""
        taken: str = store.pop("note")
        return taken

    def post(self, store: Store[Page], note: str, result: None) -> None:
        """Show it."""
        store["shown"] = note


class Follow(Node[None, None, str]):
    """Puts back another one."""

    def post(self, store: Store[Page], found: None, result: None) -> str:
        """Write, or end."""
        if len(store["shown"]) > 2:
            return "stop"
        store["note"] = store["shown"] + "!"
        return "again"


def _inbox() -> Made:
    take, successor = Take(), Follow()
    flow = Flow(take, schema=Page).then(take, successor).then(successor.when("again"), take)
    return flow.then(successor.when("stop"), END), {"note": "x"}


def _hooked() -> Made:
    flow: Flow[Page] = Flow(show, schema=Page)
    flow.on("flow_start", lambda store: store.update(text="x"))
    return flow, {}


def _hooked_and_declared() -> Made:
    flow: Flow[Page] = Flow(show, schema=Page, inputs=(P.url,))
    flow.on("flow_start", lambda store: store.update(text="x"))
    return flow, {"url": "x"}


class Speaks(Node[None, None, str]):
    """Has something to do in one language."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self.name = self.language = language

    def post(self, store: Store[Page], found: None, result: None) -> str:
        """Write, or leave it to the others."""
        if store["url"] != self.language:
            return "skip"
        store["shown"] = self.language
        return "done"


def _excluding() -> Made:
    return Flow(Parallel(Speaks("x"), Speaks("y"), name="both"), schema=Page), {}


@node
def is_x(url: str) -> Literal["y", "n"]:
    """Choose."""
    return "y" if url == "x" else "n"


@node
def is_y(url: str) -> Literal["y", "n"]:
    """Choose."""
    return "y" if url == "y" else "n"


@node(writes=P.shown)
def say(url: str) -> str:
    """Write."""
    return url


def _choosing_to_say(choose: Any) -> Flow[Page]:
    flow = Flow(choose, schema=Page, flow_name=choose.name)
    return flow.then(choose.when("y"), say).then(choose.when("n"), END)


def _excluding_flows() -> Made:
    both = Parallel(_choosing_to_say(is_x), _choosing_to_say(is_y), name="both")
    return Flow(both, schema=Page), {}


class Settings(Node[None, None, None]):
    """Writes where a setting of the run says."""

    target = "nowhere"

    def prep(self, store: Store[Page]) -> None:
        """Take the settings over."""
        for name, value in {"target": "shown"}.items():
            setattr(self, name, value)

    def post(self, store: Store[Page], found: None, result: None) -> None:
        """Write."""
        store[self.target] = "x"


class Vars(Settings):
    """Does it in another way."""

    def prep(self, store: Store[Page]) -> None:
        """Take the settings over."""
        vars(self).update(target="shown")


class Trouble(Exception):
    """One from which no class that can be stored is derived, as other tests do from Exception."""


class Supers(Settings):
    """Does it in a third way."""

    def prep(self, store: Store[Page]) -> None:
        """Take the settings over."""
        super().__setattr__("target", "shown")


class OfClass(Settings):
    """Does it for all nodes of the class."""

    def prep(self, store: Store[Page]) -> None:
        """Take the settings over."""
        setattr(type(self), "".join(["tar", "get"]), "shown")


class Page2(Page):
    """Has a field that is seldom what cannot be stored."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    error: Trouble | None = None


def either(text: str) -> str | Exception:
    """Give a text."""
    return text.upper()


class Calls(Node[None, "str | Exception", None]):
    """Makes a journaled call."""

    def exec(self, given: None) -> str | Exception:
        """Make it."""
        return context().call(either, "x")


class ByWord(Node[None, str, str]):
    """Chooses by what nobody knows before."""

    def exec(self, given: None) -> str:
        """Find a word."""
        return "go"

    def post(self, store: Store[Page], given: None, word: str) -> str:
        """Choose by it."""
        return word


class ByConstants(ByWord):
    """Chooses between two words that its source has."""

    def post(self, store: Store[Page], given: None, word: str) -> str:
        """Choose."""
        return "empty" if word == "" else "go"


class Ready(Node[None, None, str]):
    """Writes, and ends the flow that it is in."""

    def post(self, store: Store[Page], given: None, result: None) -> str:
        """Write."""
        store["text"] = "x"
        return "ready"


class ReadyByWord(Ready):
    """Ends it with what nobody knows before."""

    def post(self, store: Store[Page], given: None, result: None) -> str:
        """Write."""
        return super().post(store, given, result).casefold()


def _ended_inside(first: Node[Any, Any, str], last: Node[Any, Any, str]) -> Made:
    """Only the last node of a nested flow ends it with the action that the flow around is for."""
    inner = Flow(first, flow_name="inner").then(first.when("go"), last)
    middle = Flow(inner, flow_name="middle").then(inner.when("empty"), publish)
    return Flow(middle, schema=Page).then(middle.when("ready"), show), {}


class Refuses(Node[None, None, str]):
    """Comes to no end, so that nobody is behind its action."""

    def post(self, store: Store[Page], prepared: None, result: None) -> str:
        """Refuse."""
        raise LookupError


def _refused() -> Made:
    """A node that always fails, with an edge for that and one that is never taken."""
    refuses = Refuses()
    flow = Flow(refuses, schema=Page).then(refuses, show)
    return flow.then(refuses.catch(LookupError), load).then(load, show), {}


@node(writes=P.note)
def note(text: str) -> str:
    """Make a note of the text."""
    return text


@node(writes=P.text)
def write_anew(note: str) -> str:
    """Make the text of the note."""
    return note


def _written_anew() -> Made:
    """The text is given, as whoever writes it needs what is made of it."""
    return Flow(note, schema=Page).then(note, write_anew).then(write_anew, show), {"text": "x"}


class Static(Node[str, str, None]):
    """Has phases that are given no node."""

    @staticmethod
    def prep(store: Store[Page], /) -> str:
        """Take the address."""
        return store.state.url

    @staticmethod
    def exec(url: str, /) -> str:
        """Hand it on."""
        return url

    @staticmethod
    def exec_fallback(url: str, exc: Exception, /) -> str:
        """Hand it on, too."""
        return url

    @staticmethod
    def post(store: Store[Page], url: str, text: str, /) -> None:
        """Write it."""
        store["text"] = text


WORKS: dict[str, Callable[[], Made]] = {
    "an input that is written anew": _written_anew,
    "static phases": lambda: (Flow(static := Static(), schema=Page).then(static, show), {}),
    "constants of a nested flow": lambda: _ended_inside(ByConstants(), Ready()),
    "unknown actions of a nested flow": lambda: _ended_inside(ByWord(), Ready()),
    "only unknown actions of a nested flow": lambda: _ended_inside(ByWord(), ReadyByWord()),
    "a look in prep": lambda: _choosing(Look()),
    "a look at all there is": lambda: _choosing(LookAtAll()),
    "an optional parameter": lambda: _choosing(optional),
    "a look by way of a name": lambda: _choosing(cached),
    "a note of a look": _noted,
    "a note of a look before a branch": _noted_before_a_branch,
    "a look in a branch": lambda: (
        Flow(Parallel(_choosing(optional)[0], name="one"), schema=Page),
        {},
    ),
    "a budget that is spent": _spent,
    "a node that always fails": _refused,
    "an error of a nested flow": _caught,
    "an output after an error of a nested flow": _caught_and_declared,
    "an input that is taken": _inbox,
    "a hook": _hooked,
    "a hook beside declared inputs": _hooked_and_declared,
    "branches that exclude each other": _excluding,
    "flows that exclude each other": _excluding_flows,
    "setattr of a node": lambda: (Flow(Settings(), schema=Page), {}),
    "setattr of a base class": lambda: (Flow(Supers(), schema=Page), {}),
    "setattr of a class": lambda: (Flow(OfClass(), schema=Page), {}),
    "vars of a node": lambda: (Flow(Vars(), schema=Page), {}),
    "a call that may give what cannot be stored": lambda: (Flow(Calls(), schema=Page), {}),
}


@pytest.mark.parametrize("make", WORKS.values(), ids=WORKS)
def test_a_flow_that_works_is_not_stopped(make: Callable[[], Made]) -> None:
    """What depends on a look, on where an error comes from or on a hook is a warning at most."""
    flow, given = make()
    assert [one for one in flow.validate() if one.severity == "error"] == []
    assert flow.run(given)["url"] == "x"


def test_a_field_that_may_be_storable_is_a_warning(tmp_path: Path) -> None:
    """One type of a union that cannot be stored stops no run, which may well hold another."""
    flow = Flow(publish, schema=Page2, db_path=tmp_path / "runs.db")
    assert [(one.code, one.severity) for one in flow.validate()] == [("PF401", "warning")]
    assert flow.run({})["url"] == "x"


@node(writes=fields(Page2).error)
def troubles() -> Trouble:
    """Give what cannot be stored."""
    return Trouble()


@node(writes=fields(Page2).error)
def may_trouble() -> Trouble | None:
    """Give it, or not."""


class Troubles(Node[None, None, None]):
    """Writes what cannot be stored."""

    def post(self, store: Store[Page2], found: None, result: None) -> None:
        """Write."""
        store["error"] = Trouble()


@pytest.mark.parametrize(
    ("start", "severity"),
    [(troubles, "error"), (Troubles(), "error"), (may_trouble, "warning")],
)
def test_a_field_that_a_node_writes_what_cannot_be_stored_to(
    start: Any, severity: str, tmp_path: Path
) -> None:
    """A node that always does is reason enough."""
    found = Flow(start, schema=Page2, db_path=tmp_path / "runs.db").validate()
    assert [one.severity for one in found if one.code == "PF401"] == [severity]


def test_an_observer_may_write_what_a_run_is_not_given() -> None:
    """A store that tells somebody of its writes is not refused for what no node writes."""

    @node(writes=P.count)
    def begin() -> int:
        return 1

    @node(writes=P.shown)
    def reads(note: str) -> str:
        return note

    store = Store({"url": "x"}, schema=Page)
    store.add_observer(lambda key, old, new: store.setdefault("note", "seen"))
    assert Flow(begin, schema=Page).then(begin, reads).run(store)["shown"] == "seen"


@node
def unlooked(url: str) -> Literal["given", "load"]:
    """Choose by something else."""
    return "given" if url else "load"


@node
def glance(text: str = "") -> None:
    """Look, where only one way goes on."""
    print(text)


class GlanceAtAll(Node["dict[str, Any]", None, None]):
    """Looks at everything, where only one way goes on."""

    def prep(self, store: Store[Page]) -> dict[str, Any]:
        """Look."""
        return dict(store)


def _glancing(look: Any) -> Flow[Page]:
    return Flow(look, schema=Page).then(look, show).then(show, load)


def _glancing_in_a_branch() -> Flow[Page]:
    branch = Flow(glance, flow_name="b").then(glance, show)
    both = Parallel(branch, name="one")
    return Flow(both, schema=Page).then(both, load)


@node
def absent(store: Store[Page]) -> Literal["given", "load"]:
    """Choose the wrong way."""
    return "load" if "text" in store else "given"


def _first_fails() -> Flow[Page]:
    inner = Flow(fails, schema=Page, flow_name="inner").then(fails, publish)
    last: Any = Flow(inner, schema=Page, inputs=(P.url,)).then(inner, load).then(load, END)
    return last.then(inner.catch(ConnectionError), show).then(show, END)  # type: ignore[no-any-return]


def _both_write() -> Flow[Page]:
    return Flow(Parallel(say, Flow(say, flow_name="b"), name="both"), schema=Page)


def _one_always_writes() -> Flow[Page]:
    return Flow(Parallel(say, _choosing_to_say(is_x), name="both"), schema=Page)


def shown(name: str, store: Store[Page]) -> None:
    """A hook that only looks."""
    print(name, store.get("text"))


def _watched(hook: Callable[[str, Store[Any]], object]) -> Flow[Page]:
    flow = _choosing(unlooked)[0]
    flow.on("node_start", hook)
    return flow


def _only_one_ends() -> Flow[Page]:
    first = ByWord()
    inner = Flow(first, flow_name="inner").then(first.when("go"), first)
    return Flow(inner, schema=Page).then(inner.when("ready"), show).then(inner.when("b"), load)


FAILS: dict[str, tuple[Callable[[], Flow[Page]], str]] = {
    "no look": (lambda: _choosing(unlooked)[0], "PF301"),
    "a look before no choice": (lambda: _glancing(glance), "PF301"),
    "a look at all there is before no choice": (lambda: _glancing(GlanceAtAll()), "PF301"),
    "a look before no choice in a branch": (_glancing_in_a_branch, "PF301"),
    "a look that tells": (lambda: _choosing(absent)[0], "PF301"),
    "a hook that looks": (lambda: _watched(shown), "PF301"),
    "a hook without the store": (lambda: _watched(lambda name, store: print(name)), "PF301"),
    "no write in a nested flow": (_first_fails, "PF301"),
    "an action that only one node of a nested flow can give": (_only_one_ends, "PF301"),
    "two branches": (_both_write, "PF303"),
    "a branch beside one that always writes": (_one_always_writes, "PF303"),
}


@pytest.mark.parametrize(("make", "code"), FAILS.values(), ids=FAILS)
def test_a_path_that_always_fails_is_an_error(make: Callable[[], Flow[Page]], code: str) -> None:
    """Without a look, with one that tells, and where no node inside has written, nothing helps."""
    assert [one.code for one in make().validate() if one.severity == "error"] == [code]
