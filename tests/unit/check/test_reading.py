"""Correct classes are never stopped, and what fails in each execution is found, by its source."""

import asyncio
import contextlib
import functools
import linecache
from enum import Enum, StrEnum
from itertools import count
from textwrap import dedent, indent
from typing import Any, ClassVar, Literal, NamedTuple

import pytest
from pydantic import BaseModel, Field, PrivateAttr, computed_field, field_validator

from pocoflow import END, Flow, Node, Parallel, Store, fields, key, node
from pocoflow.check import type_rules
from pocoflow.errors import FlowValidationError, MaxStepsError, PocoflowError

numbers = count()
KEY = "out"
REBOUND = "out"
REBOUND = "typo"
for name in ("typo", "out"):
    assert name


class Kind(StrEnum):
    A = "a"
    B = "b"


class Column(Enum):
    OUT = "out"
    TYPO = "otu"
    late = "later"


class Shown(Enum):
    OUT = "otu"

    @property
    def value(self) -> str:
        return "out"


class Span(NamedTuple):
    start: int
    end: int


class Doc(BaseModel):
    title: str


class S(BaseModel):
    q: str
    late: str
    out: str = ""
    n: int = 0
    score: float = Field(0.0, ge=0, le=1)
    kind: Literal["a", "b"] = "a"
    level: Kind = Kind.A
    tags: list[str] = []
    doc: Doc | None = None
    span: Span = Span(0, 0)
    even: int = 0
    shown: ClassVar[str] = "all"
    _secret: str = PrivateAttr("")

    @computed_field  # type: ignore[prop-decorator] # of Pydantic
    @property
    def size(self) -> int:
        return len(self.tags)

    @property
    def title(self) -> str:
        return self.q.title()

    def label(self) -> str:
        return f"{self.q}:{self.size}"

    @field_validator("even", mode="before")
    @classmethod
    def _even(cls, value: object) -> object:
        return int(value) if isinstance(value, str) else value


class Keys:
    OUT = "out"
    TYPO = "otu"


def made(prep: str, post: str, base: type = Node, **names: Any) -> Any:
    """A node of a class with these phases, whose source can be read."""
    file = f"<reading {next(numbers)}>"
    text = "class Made(Base):\n"
    for one, arguments in ((prep, "prep(self, store)"), (post, "post(self, store, prep, result)")):
        text += f"    def {arguments}:\n" + indent(dedent(one).strip() or "pass", " " * 8) + "\n"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    space = {
        **globals(),
        "contextlib": contextlib,
        "PocoflowError": PocoflowError,
        "__name__": "made",
        "Base": base,
        **names,
    }
    exec(compile(text, file, "exec"), space)  # noqa: S102
    return space["Made"]()


def found_in(prep: str = "", post: str = "", **more: Any) -> list[tuple[str, str]]:
    """Codes and severities of what is found in a flow of one node."""
    flow = Flow(made(prep, post, **more), schema=S, inputs=(fields(S).q,), outputs=())
    return [(one.code, one.severity) for one in flow.validate()]


CORRECT = {
    "a property, a method and a computed field": (
        "return store.state.title, store.state.label(), store.state.size",
        "",
    ),
    "a class variable and a private attribute": (
        "return store.state.shown, getattr(store.state, '_secret', '')",
        "",
    ),
    "a loop variable named as a global": ("", "for name in ('out', 'n'):\n    store.get(name)"),
    "a local variable in the place of a global": ("", "KEY = str(prep)\nstore[KEY] = 'x'"),
    "a member of an enum": ("", "store['level'] = Kind.B\nstore.state.kind = 'b'"),
    "the value of a member": ("", "store[Column.OUT.value] = Column.TYPO.value"),
    "a value that its class makes up": ("", "store[Shown.OUT.value] = 'x'"),
    "a constant that a validator converts": ("", "store['even'] = '4'"),
    "a dict for a model": ("", "store['doc'] = {'title': 'x'}"),
    "a tuple for a named tuple": ("", "store['span'] = (1, 2)"),
    "an int for a float": ("", "store['score'] = 1"),
    "a write that is guarded": (
        "",
        "with contextlib.suppress(PocoflowError):\n    store['trace'] = 'x'",
    ),
    "a write in a try": ("", "try:\n    store['trace'] = 'x'\nexcept PocoflowError:\n    pass"),
    "a question for the schema": (
        "",
        "if 'trace' in store.schema.model_fields:\n    store['trace'] = 'x'",
    ),
    "a return behind a question for the schema": (
        "",
        "if not hasattr(store.state, 'trace'):\n    return\nstore['trace'] = 'x'",
    ),
    "a setting of the node": ("", "if self.name == 'traced':\n    store['trace'] = 'x'"),
    "a look for a key of others": ("", "if 'trace' in store:\n    store['trace'] = 'x'"),
    "a read behind a look": ("return store['late'] if 'late' in store else ''", ""),
    "a read behind an own write": ("store['late'] = 'x'\nreturn store['late']", ""),
    "a read that is caught": (
        "try:\n    return store['late']\nexcept KeyError:\n    return ''",
        "",
    ),
    "a read in a loop that has no round": ("return [store['late'] for _ in store['tags']]", ""),
    "a read by an alias behind a write by another": (
        "s, state = store, store.state\nstate.late = 'x'\nreturn s['late']",
        "",
    ),
    "a read behind an own write of several values": (
        "name, store['late'] = str(self).split('a')\nreturn store['late']",
        "",
    ),
    "a read behind a default": ("store.setdefault('late', 'x')\nreturn store['late']", ""),
    "a read behind a match that takes all": (
        "match store['q']:\n    case 'x' | _:\n        store['late'] = ''\nreturn store['late']",
        "",
    ),
    "a read behind what may write": ("self.fill(store)\nreturn store['late']", ""),
    "a read in a lambda": ("return lambda: store['late']", ""),
    "a read behind an error that is raised": (
        "if not store['q']:\n    raise ValueError\nreturn store['late']",
        "",
    ),
    "a name that is bound twice": ("return store[REBOUND]", ""),
    "a key that is put together": ("return store[f'{KEY}']", ""),
    "an object where one is wanted": (
        "",
        "store['doc'] = Doc(title='x')\nstore['span'] = Span(1, 2)\nstore['level'] = Kind('a')",
    ),
    "text where text is wanted": (
        "",
        "store['out'] = ', '.join('ab')\nstore['out'] = '%s' % prep\nstore['even'] = 1 - prep",
    ),
    "values put in by |=": ("store |= {'late': 'x'}\nreturn store['late']", ""),
    "a dict that is no store": ("", "more = {'typo': 1}\nmore |= {'x': 2}\nstore |= {'n': 1}"),
    "a store that |= has another name for": ("s = store\ns |= {'late': 'x'}\nreturn s['late']", ""),
    "a value narrowed": ("", "if isinstance(result, str):\n    store['out'] = result"),
}


@pytest.mark.parametrize("case", CORRECT)
def test_nothing_is_found_in_a_correct_class(case: str) -> None:
    """What some execution gets past is left alone, whatever is not known of it."""
    assert found_in(*CORRECT[case]) == []


def read_late(store: Store[Any], name: str = "late") -> Any:
    """A helper that is given the store."""
    return store[name]


def read_twice(store: Store[Any]) -> Any:
    """A helper that calls another one."""
    return read_late(store=store)


def wrapped(function: Any) -> Any:
    """A decorator whose wrapper can be read."""

    @functools.wraps(function)
    def around(self: Any, store: Any) -> Any:
        return function(self, store)

    return around


class Reads(Node):
    LATE = "late"

    def prep(self, store: Store[Any]) -> Any:
        return store[self.LATE]

    def reading(self, store: Store[Any]) -> Any:
        return store[self.LATE]

    @staticmethod
    def static(store: Store[Any]) -> Any:
        return store["late"]

    @classmethod
    def of_class(cls, store: Store[Any]) -> Any:
        return store[cls.LATE]


class Wrapped(Node):
    @wrapped
    def prep(self, store: Store[Any]) -> Any:
        return store["late"]


MISSED_BEFORE = {
    "a helper": ("return read_late(store)", "", ("PF301", "error")),
    "a helper that calls another": ("return read_twice(store)", "", ("PF301", "error")),
    "super": ("return super().prep(store)", "", ("PF301", "error")),
    "the base class by name": ("return Reads.prep(self, store)", "", ("PF301", "error")),
    "a method": ("return self.reading(store)", "", ("PF301", "error")),
    "a static method": ("return self.static(store)", "", ("PF301", "error")),
    "a class method": ("return self.of_class(store)", "", ("PF301", "error")),
    "an alias": ("s = store\nview = s.state\nreturn view.late", "", ("PF301", "error")),
    "removed, then read": ("del store['q']\nreturn store['q']", "", ("PF301", "error")),
    "taken, then read": ("store.pop('q')", "return store['q']", ("PF301", "error")),
    "cleared, then read": ("store.clear()\nreturn store['out']", "", ("PF301", "error")),
    "both ways": ("return store['late'] if self else store.state.late", "", ("PF301", "error")),
    "in a finally": ("try:\n    return 1\nfinally:\n    store['late']", "", ("PF301", "error")),
    "in a loop that has a round": (
        "for _ in range(2):\n    store['late']\nreturn 1",
        "",
        ("PF301", "error"),
    ),
    "in a loop over a display": (
        "for _ in ('x', 'y'):\n    store['late']\nreturn 1",
        "",
        ("PF301", "error"),
    ),
    "caught by others": (
        "try:\n    return store['late']\nexcept ValueError:\n    return ''",
        "",
        ("PF301", "error"),
    ),
    "a key of another class": ("", "store[Keys.TYPO] = ''", ("PF201", "error")),
    "the value of a member as a key": ("", "store[Column.TYPO.value] = ''", ("PF201", "error")),
    "the name of a member": ("return store[Column.late.name]", "", ("PF301", "error")),
    "the value of a member": ("", "store['n'] = Column.OUT.value", ("PF203", "error")),
    "a key in a loop's head": ("", "for store['otu'] in 'ab':\n    pass", ("PF201", "warning")),
    "a look for a misspelt key": ("return store.get('outt')", "", ("PF201", "warning")),
    "a misspelt key in a question": ("return 'outt' in store", "", ("PF201", "warning")),
    "a misspelt key on one way": ("", "if prep:\n    store['outt'] = ''", ("PF201", "warning")),
    "a constant out of bounds": ("", "store['score'] = 10.0", ("PF203", "error")),
    "a constant by another name": ("", "text = 'c'\nstore['kind'] = text", ("PF203", "error")),
    "a display": ("", "store['tags'] = {'a': prep}", ("PF203", "error")),
    "a text that is put together": ("", "store.update(n=f'{prep}')", ("PF203", "error")),
    "a misspelt key that is put in by |=": ("", "store |= {'otu': 'x'}", ("PF201", "error")),
    "a value put in by |=": ("", "store |= {'out': prep, 'n': 'x'}", ("PF203", "error")),
    "a read behind a |=": (
        "store |= {'out': 'x'}\nreturn store['late']",
        "",
        ("PF301", "error"),
    ),
    "an object of a class": ("", "store['out'] = Doc(title='x')", ("PF203", "error")),
    "an exception": ("", "store['out'] = ValueError('x')", ("PF203", "error")),
    "a class": ("", "store['doc'] = Doc", ("PF203", "error")),
    "a function": ("", "store['out'] = read_late", ("PF203", "error")),
    "a lambda": ("", "store['n'] = lambda: 1", ("PF203", "error")),
    "what is not so": ("", "store['out'] = not prep", ("PF203", "error")),
    "text that is joined": ("", "store['tags'] = ','.join(prep)", ("PF203", "error")),
    "text that is filled in": ("", "store['n'] = '%d' % prep", ("PF203", "error")),
    "a constant that a validator refuses": ("", "store['even'] = []", ("PF203", "warning")),
    "removed if it is there, then read": (
        "try:\n    del store['q']\nexcept KeyError:\n    pass\nreturn store['q']",
        "",
        ("PF301", "error"),
    ),
    "an attribute of the store": ("", "store.out = ''", ("PF201", "warning")),
    "an attribute that is read": ("return store.late", "", ("PF201", "warning")),
    "an attribute that is counted up": ("", "store.n += 1", ("PF201", "warning")),
    "a method that stores do not have": ("return store.take('q')", "", ("PF201", "warning")),
    "a misspelt attribute by name": ("", "getattr(store.state, 'outt')", ("PF201", "error")),
    "a value set by name": ("", "setattr(store.state, 'n', 'x')", ("PF203", "error")),
    "a value removed by name": (
        "delattr(store.state, 'q')\nreturn store['q']",
        "",
        ("PF301", "error"),
    ),
    "a question by name": ("return hasattr(store.state, 'outt')", "", ("PF201", "warning")),
}


@pytest.mark.parametrize("case", MISSED_BEFORE)
def test_what_fails_is_found(case: str) -> None:
    """An error if every execution fails, else a warning."""
    prep, post, expected = MISSED_BEFORE[case]
    is_method = any(one in prep for one in ("self.", "super", "Reads"))
    assert found_in(prep, post, base=Reads if is_method else Node) == [expected]


@pytest.mark.parametrize(
    ("post", "fix"),
    [
        ("store.updat(out='x')", "correct the name"),
        ("store.out = 'x'", "write store['out'] for a value in the store"),
        ("store['out'] = read_late", "call it, or change the field"),
        ("store['out'] = later('x')", "await it in an async def, or change the field"),
    ],
)
def test_the_advice_is_for_what_was_written(post: str, fix: str) -> None:
    """Who follows it is not led to the next mistake."""
    (found,) = Flow(made("", post, later=later), schema=S, inputs=(), outputs=()).validate()
    assert found.fix == fix


async def later(text: str) -> str:
    """Is to be awaited."""
    return text


class Named(Node):
    """Takes the name of the store for that of the schema."""

    def prep(self, store: Store[Any]) -> str:
        return store.name


@pytest.mark.parametrize(("schema", "told"), [({"name": str}, ["PF201"]), ({"n": int}, [])])
def test_the_name_of_a_store_is_no_field(schema: dict[str, Any], told: list[str]) -> None:
    """Where the schema has a field that is called so, it is told that this is not that field."""
    found = Flow(Named(), schema=schema).validate()
    assert [one.code for one in found] == told
    assert all("the name of the store, and not the field" in one.message for one in found)


def test_a_wrapper_that_can_be_read_is_read() -> None:
    """A decorated phase is what its wrapper does."""
    (found,) = Flow(Wrapped(), schema=S, inputs=(fields(S).q,), outputs=()).validate()
    assert (found.code, found.file) == ("PF301", __file__)


class Keyed(Node):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.key = name

    def post(self, store: Store[Any], prep_result: Any, exec_result: Any) -> None:
        store[self.key] = ""


def test_a_key_that_a_node_has_of_its_own_is_that_of_the_node() -> None:
    """Each node of a class is read with the key that it was given."""
    good, bad = Keyed("out"), Keyed("otu")
    flow = Flow(good, schema=S, outputs=()).then(good, bad).then(bad, END)
    assert [(one.code, one.node) for one in flow.validate()] == [("PF201", "Keyed_2")]


def test_what_a_node_before_has_removed_is_missing() -> None:
    """The message names the node that removes the key."""
    writes, removes = made("", "store['late'] = 'x'"), made("", "del store['late']")
    reads = made("return store['late']", "")
    writes.name, removes.name, reads.name = "writes", "removes", "reads"
    flow = Flow(writes, schema=S, outputs=()).then(writes, removes).then(removes, reads)
    (found,) = flow.validate()
    assert (found.code, found.node) == ("PF301", "reads")
    assert found.message.endswith("on the path writes -> removes -> reads: 'removes' removes it")


def test_what_a_node_has_removed_is_missing_whatever_a_run_is_given() -> None:
    """An input, or a field with a default, is gone behind who takes it out; the run is refused."""
    for gone, inputs in (("q", ()), ("q", (fields(S).q,)), ("n", ())):
        removes, reads = made("", f"store.pop({gone!r})"), made(f"return store[{gone!r}]", "")
        removes.name, reads.name = "removes", "reads"
        given: dict[str, Any] = {"inputs": inputs} if inputs else {}
        flow = Flow(removes, schema=S, outputs=(), **given).then(removes, reads)
        (found,) = flow.validate()
        assert (found.code, found.node) == ("PF301", "reads")
        assert found.message.endswith("on the path removes -> reads: 'removes' removes it")
        assert "do not remove it" in found.fix
        with pytest.raises(FlowValidationError):
            flow.run({"q": "x"})


def test_what_is_removed_behind_its_last_reader_is_missed_by_nobody() -> None:
    """Also in a loop, if it is given again before it is read again."""
    take, give = made("return store['q']", "store.pop('q')"), made("", "store['q'] = 'x'")
    flow = Flow(take, schema=S, inputs=(fields(S).q,), outputs=(), max_steps=5)
    flow.then(take, give).then(give, take)
    assert not [one for one in flow.validate() if one.code == "PF301"]
    with pytest.raises(MaxStepsError):
        flow.run({"q": "x"})


REMOVED = {
    "if it is there": "try:\n    del store['q']\nexcept KeyError:\n    pass",
    "or the error is told": "try:\n    store.pop('q')\nexcept KeyError as exc:\n    print(exc)",
    "as an attribute": "try:\n    del store.state.q\nexcept AttributeError:\n    pass",
    "whatever goes wrong": "try:\n    del store['q']\nexcept Exception:\n    pass",
    "in a loop": "while 1:\n    try:\n        del store['q']\n    except KeyError:\n        break",
    "if it was asked for": "if 'q' in store:\n    del store['q']",
    "or nothing": "store.pop('q', None)",
    "and the error suppressed": "with contextlib.suppress(KeyError):\n    del store['q']",
    "with all": "store.clear()",
    "with all but another": "store.clear()\nstore['late'] = 'x'",
    "in one of two ways": "if store['n']:\n    store.clear()\nelse:\n    del store['q']",
}


@pytest.mark.parametrize("how", REMOVED)
@pytest.mark.parametrize("where", ["a node", "a branch", "one of two branches"])
def test_what_is_not_there_on_any_way_is_missing_later(how: str, where: str) -> None:
    """However it was removed, also in a parallel branch, the next node that reads it is told."""
    removes, reads = made("", REMOVED[how]), made("return store['q']", "")
    first: Any = Parallel(removes, name="p") if where == "a branch" else removes
    if where == "one of two branches":
        first = Parallel(removes, Node(name="other"), name="p")
    flow = Flow(first, schema=S, inputs=(fields(S).q,), outputs=()).then(first, reads)
    assert [(one.code, one.severity) for one in flow.validate()] == [("PF301", "error")]
    flow = Flow(first, schema=S, inputs=(fields(S).q,), outputs=(), ignore=("PF",))
    with pytest.raises(KeyError):
        flow.then(first, reads).run({"q": "x"})


KEPT = {
    "renamed": "store.name = 'x'\nprint(store.name)",
    "taken and given": "try:\n    store.pop('q')\nfinally:\n    store['q'] = 'x'",
    "given in another way": "store.popitem()\nstore['q'] = 'x'",
    "given again": "try:\n    del store['q']\nexcept KeyError:\n    store['q'] = 'x'",
    "given after all was removed": "store.clear()\nstore['q'] = 'x'",
    "removed on one way": "if store['n']:\n    store.clear()",
    "removed by somebody else, perhaps": "try:\n    int('x')\nexcept Exception:\n    pass",
    "looked for": "try:\n    store['q']\nexcept KeyError:\n    store['q'] = 'x'",
}


@pytest.mark.parametrize("how", KEPT)
def test_what_may_be_there_is_not_missing(how: str) -> None:
    """Nothing is said of a key that some way leaves there, or gives again."""
    gives, reads = made("", KEPT[how]), made("return store['q']", "")
    for first in (gives, Parallel(gives, Node(name="other"), name="p")):
        start: Any = first
        flow = Flow(start, schema=S, inputs=(fields(S).q,), outputs=()).then(start, reads)
        assert [one for one in flow.validate() if one.code == "PF301"] == []


class Told(Node):
    def exec(self, prep_result: Any) -> str:
        return "r"

    def post(self, store: Store[S], prep_result: Any, exec_result: Any) -> None:
        store["n"] = exec_result


class Prepared(Node):
    def prep(self, store: Store[S]) -> list[str]:
        return []

    def post(self, store: Store[S], given: Any, exec_result: Any) -> None:
        store.state.n = given


class Declared(Node[Any, str, str]):
    def exec(self, prep_result: Any):  # type: ignore[no-untyped-def]
        return "r"

    def post(self, store, prep_result, exec_result):  # type: ignore[no-untyped-def]
        store["n"] = exec_result


class Saved(Told):
    def exec_fallback(self, prep_result: Any, exc: Exception) -> str:
        return "x"


class Perhaps(Told):
    def exec_fallback(self, prep_result: Any, exc: Exception) -> Any:
        return 1


class OfTwo(Told):
    def exec_fallback(self, prep_result: Any, exc: Exception) -> int:
        return 1


@pytest.mark.parametrize("kind", [Told, Prepared, Declared, Saved])
def test_a_parameter_of_post_is_what_the_phase_before_says_that_it_returns(
    kind: type[Node],
) -> None:
    """An annotation of ``exec``, ``prep`` or the class counts where ``post`` has none."""
    flow = Flow(kind(), schema=S, inputs=(), outputs=())
    assert [(one.code, one.severity) for one in flow.validate()] == [("PF203", "error")]


@pytest.mark.parametrize("kind", [Perhaps, OfTwo])
def test_nothing_is_known_of_a_result_that_another_phase_may_give(kind: type[Node]) -> None:
    """A fallback that may give what fits makes it no error, and so does middleware."""
    flow = Flow(kind(), schema=S, inputs=(), outputs=())
    assert [one for one in flow.validate() if one.severity == "error"] == []

    def counted(attempt: Any) -> Any:
        yield
        return 1

    flow = Flow(Told(), schema=S, inputs=(), outputs=()).use(attempt=counted)
    assert flow.validate() == []
    assert flow.run({"q": "", "late": ""})["n"] == 1


def test_an_action_that_a_class_never_returns_is_a_warning() -> None:
    """Where the source of ``post`` has all of its actions, an edge for another one is told."""
    decides = made("", "return 'sucess' if prep else 'failure'")
    flow = Flow(decides, schema=S, outputs=()).then(decides.when("success"), END)
    (found,) = flow.then(decides.when("failure"), END).validate()
    assert (found.code, found.severity) == ("PF102", "warning")
    assert "did you mean 'sucess'?" in found.message

    assert found_in("", "return self.unheard_of(store)") == []


async def counted() -> int:
    """Count, by and by."""
    return 1


@pytest.mark.parametrize("post", ["store['n'] = counted()", "n = counted()\nstore.state.n = n"])
def test_a_coroutine_that_is_written_is_found(post: str) -> None:
    """What an ``async`` function gives is no value of a field, if nobody awaits it."""
    flow = Flow(made("", post, counted=counted), schema=S, inputs=(fields(S).q,), outputs=())
    (found,) = flow.validate()
    assert (found.code, found.severity) == ("PF203", "error")
    assert "a coroutine" in found.message


@pytest.mark.parametrize("post", ["store['n'] = run(counted())", "return counted()"])
def test_a_coroutine_that_something_awaits_is_left_alone(post: str) -> None:
    """A function may await what it is given, and a run awaits what a phase returns."""
    assert found_in("", post, counted=counted, run=asyncio.run) == []


NAMED = {
    "one of two": "action = 'sucess' if prep else 'failure'\nreturn action",
    "one after the other": "action = 'sucess'\nif not prep:\n    action = 'failure'\nreturn action",
    "a name for a name": "good, bad = 'sucess', 'failure'\nname = good\nif prep:\n    name = bad\n"
    "return name",
    "in a loop": "action = None\nfor one in prep:\n    if one == 'x':\n        action = 'sucess'\n"
    "        break\nelse:\n    action = 'failure'\nreturn action",
    "where it was called": "return pick(store)",
}
NOT_KNOWN = [
    "action = 'sucess'\nfor action in prep:\n    pass\nreturn action",
    "action = 'suc'\naction += 'cess'\nreturn action",
    "action = 'sucess'\nif prep:\n    action = prep\nreturn action",
    "action = 'sucess'\ntry:\n    pass\nexcept KeyError as action:\n    pass\nreturn action",
    "action = 'sucess'\ndef to():\n    nonlocal action\n    action = 'x'\nto()\nreturn action",
    "action = 'sucess'\nmatch prep:\n    case [action]:\n        pass\nreturn action",
    "if not result:\n    result = 'sucess'\nreturn result",
    "action = again = 'sucess'\nreturn action or again",
]


def pick(store: Any) -> str:
    """Choose an action."""
    action = "sucess"
    if store["q"]:
        action = "failure"
    return action


@pytest.mark.parametrize("way", NAMED)
def test_an_action_that_has_a_name_is_known(way: str) -> None:
    """A name that only ever stands for constants is one of them; one of these may have no edge."""
    decides = made("", NAMED[way])
    flow = Flow(decides, schema=S, outputs=()).then(decides.when("success"), END)
    (found,) = flow.then(decides.when("failure"), END).validate()
    assert (found.code, found.severity) == ("PF102", "warning")
    assert "did you mean 'sucess'?" in found.message


@pytest.mark.parametrize("post", NOT_KNOWN)
def test_nothing_is_said_of_a_name_that_may_stand_for_another_action(post: str) -> None:
    """A name that anything else is given, too, may be any action."""
    decides = made("", post)
    flow = Flow(decides, schema=S, outputs=()).then(decides.when("success"), END)
    assert [one.code for one in flow.validate()] == []


def test_an_action_that_is_only_there_before_a_choice_ends_no_run() -> None:
    """What a name stands for at first is no way out of its own."""
    decides = made(
        "",
        "action = ''\nif prep:\n    action = 'good'\nelse:\n    action = 'bad'\n"
        "store['late'] = 'x'\nreturn action",
    )
    reads = made("return store['late']", "")
    flow = Flow(decides, schema=S, inputs=(fields(S).q,), outputs=(fields(S).late,))
    flow.then(decides.when("good"), reads).then(decides.when("bad"), reads)
    assert flow.validate() == []


def test_an_error_that_an_edge_takes_stops_no_run() -> None:
    """Whoever catches what the store raises has a run that goes on."""

    @node
    def other(q: str) -> None:
        """Take over."""

    reads = made("return store['late']", "")
    flow = Flow(reads, schema=S, inputs=(fields(S).q,), outputs=()).then(
        reads.catch(KeyError), other
    )
    assert [(one.code, one.severity) for one in flow.validate()] == [("PF301", "warning")]
    flow.run({"q": "x"})


def test_what_hooks_and_checkpoints_see_is_read() -> None:
    """A value that the next node overwrites is written for somebody who looks in between."""

    @node(writes=key("out"))
    def one(q: str) -> str:
        return q

    @node(writes=key("out"))
    def two(q: str) -> str:
        return q

    def flow(**settings: Any) -> Flow[Any]:
        return Flow(one, schema=S, outputs=(), **settings).then(one, two)

    assert [found.code for found in flow().validate()] == ["PF302"]
    assert flow().on("node_end", lambda *_: None).validate() == []
    assert flow(checkpoint_dir="steps").validate() == []


def test_a_function_without_a_module_is_no_error() -> None:
    """What was made by ``exec`` may do anything."""
    names: dict[str, Any] = {}
    exec("def post(self, store, prep, result): store['typo'] = 1", names)  # noqa: S102
    kind = type("Made", (Node,), {"post": names["post"]})
    names["post"].__module__ = None
    flow = Flow(kind(), schema=S, outputs=())
    assert flow.validate() == []


def test_a_class_without_a_module_runs_and_is_read() -> None:
    """Neither the proof nor a run asks where a class is from, of a node with branches neither."""
    writes = made("return store['q']", "store['out'] = prep")

    class Joins(Parallel):
        """Has a method of its own."""

        def post(self, *given: Any) -> Any:
            return super().post(*given)

    kinds: list[Any] = [type(writes), Joins]
    for kind in kinds:
        kind.__module__ = kind.post.__module__ = None
    flow = Flow(Joins(writes, Node(name="other"), name="p"), schema=S, outputs=())
    assert flow.validate() == []
    assert flow.run({"q": "x"})["out"] == "x"


def test_a_rule_that_fails_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stops neither the check nor a run; what the other rules find is told."""

    def fails(*_: object) -> None:
        raise IndexError("of a rule")

    monkeypatch.setattr(type_rules, "check_class", fails)
    flow = Flow(made("return store['late']", ""), schema=S, inputs=(fields(S).q,), outputs=())
    found = {one.code: one for one in flow.validate()}
    assert found.keys() == {"PF001", "PF301"}
    assert found["PF001"].severity == "warning"
    assert "a rule failed with IndexError: of a rule (test_reading.py" in found["PF001"].message
    assert "IndexError: of a rule" in caplog.text
    flow.run({"q": "x", "late": ""})


class Lazy:
    """Stands for something that is made when it is first asked for anything."""

    def __getattribute__(self, name: str) -> Any:
        raise OSError(f"asked for {name}")


LAZY: Any = Lazy()


def test_an_object_that_is_named_is_not_asked_for_anything() -> None:
    """What stands for settings or a session of a request is not made by the proof."""

    def call(store: Store[Any]) -> Any:
        return LAZY(store)

    class Asks(Node):
        settings: ClassVar[Any] = LAZY
        retries = 3

        def prep(self, store: Store[Any]) -> Any:
            if store.state.n > 5:
                try:
                    with LAZY(store["n"]):
                        return store["out"]
                except LAZY:
                    pass
                store["out"] = LAZY
                store["out"] = LAZY.name
                return store[LAZY], store.get(LAZY.key), LAZY.get("x"), self.settings
            return None

        def exec(self, prepared: Any) -> Any:
            return call(prepared) if prepared else LAZY is None

    flow = Flow(Asks(), schema=S, budget={"usd": 1})
    assert "PF001" not in {one.code for one in flow.validate()}
    flow.run({"q": "x", "n": 1})


DEEP = {
    "elif": "if store['n'] < 0: pass\n"
    + "".join(f"elif store['n'] == {n}: store['n'] = {n}\n" for n in range(900)),
    "terms": f"store['out'] = {' + '.join(['str()'] * 900)}",
    "calls": f"store['out'] = ''{'.strip()' * 600}",
    "not": f"if {'not ' * 600} store['n']: store['out'] = 'x'",
}


@pytest.mark.parametrize("deep", DEEP)
def test_a_source_that_is_nested_deep_stops_no_run(deep: str) -> None:
    """However long a chain is that Python itself compiles, the flow is validated and runs."""
    kind = made("", DEEP[deep])
    flow = Flow(kind, schema=S)
    assert flow.validate() == []
    flow.run({"q": "x", "n": 3})


@pytest.mark.parametrize("calls", [0, 200])
def test_a_chain_of_elif_is_read_to_its_end(calls: int) -> None:
    """What the last of a thousand branches writes is seen, however many calls are around that."""
    chain = "".join(f"elif store['n'] == {number}: pass\n" for number in range(900))
    start = made("", f"if store['n'] < 0: pass\n{chain}else: store['typo'] = 1")

    def found(calls: int) -> list[str]:
        if calls:
            return found(calls - 1)
        return [one.code for one in Flow(start, schema=S).validate()]

    assert found(calls) == ["PF201"]
