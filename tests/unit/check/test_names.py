"""PF208 and PF210: names that are nearly those of settings and phases, or of nothing."""

import linecache
import logging
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from itertools import count
from textwrap import dedent
from typing import Any

import pytest

from pocoflow import Flow, Node, Parallel, Subflow, node
from tests.unit.check.test_validate import codes

numbers = count()


def kind_of(program: str, **others: Any) -> Any:
    """The ``kind`` that a program makes of others, whose source is that of a file."""
    name = f"<names {next(numbers)}>"
    text = "from pocoflow import *\n" + dedent(program)
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    names: dict[str, Any] = {"__name__": "names_of_a_test", **others}
    exec(compile(text, name, "exec"), names)  # noqa: S102
    return names["kind"]


def found(program: str) -> list[tuple[str, int | None]]:
    """What is said of the names in a program that makes a ``kind``, with the lines."""
    every = Flow(start=kind_of(program)()).validate()
    assert {one.code for one in every} <= {"PF208"}
    return [(one.message.partition(" is ")[0], one.line) for one in every]


MISTAKES = {
    "max_retry = 3": "max_retry",
    "max_retires = 3": "max_retires",
    "retries = 3": "retries",
    "wait = 1.5": "wait",
    "time_out = 3": "time_out",
    "back_off = 2": "back_off",
    "journaled = False": "journaled",
    "retryon = ValueError": "retryon",
    "retry_onn = (OSError, ValueError)": "retry_onn",
    "concurrency = 5": "concurrency",
    "on_error = 'collect'": "on_error",
    "def exc(self, given): return given": "exc",
    "def exce(self, given): return given": "exce",
    "def pots(self, store, given, result): return None": "pots",
    "def Exec(self, given): return given": "Exec",
    "def Prep(self, store): return 1": "Prep",
    "def prepp(self, store): return 1": "prepp",
    "def pos(self, store, given, result): return None": "pos",
    "def exec_falback(self, given, exc): return None": "exec_falback",
}

CORRECT = [
    "max_retries = 3\n    def exec(self, given): return given",
    "max_retries = 3\n    max_retry = 5\n    def exec(self, given): return given",
    "max_retry = 'x'",
    "wait = True",
    "waiting = 3",
    "jornal = 5",
    "retry = ValueError",
    "concurrency = '5'",
    "concurrency = 5\n    def prep(self, store): return self.concurrency",
    "TIMEOUT = 3",
    "def stop(self): return 1",
    "model = 'small'",
    "names = ['a']",
    "posts = ['a']",
    "def posts(self): return []",
    "def prepare(self, store): return 1",
    "def execute(self, given): return 1",
    "def posted(self, store, given, result): return 1",
    "_exec = 1",
    "timeout_s = 3\n    def post(self, store, given, result): store['t'] = self.timeout_s",
    "time_out = 3\n    def help2(self): return getattr(self, 'time_out')",
    "def exc(self, given): return 1\n    def exec(self, given): return self.exc(given)",
    "def exc(self, given): return 1\n    def exec(self, given): return 1",
    "def post_(self, store, given, result): return 'x'\n    post = post_",
]


def with_body(body: str) -> str:
    """A class with this in it, and a function, so that it has a source."""
    return f"class kind(Node):\n    def help(self): return 1\n    {body}\n"


@pytest.mark.parametrize("body", MISTAKES)
def test_a_name_that_is_nearly_a_setting_or_a_phase_is_found(body: str) -> None:
    """A setting that sets nothing and a phase that is never called are told."""
    ((name, line),) = found(with_body(body))
    assert name == f"kind.{MISTAKES[body]}"
    assert (line == 4) == body.startswith("def")  # what has no source is said of the flow


@pytest.mark.parametrize("body", CORRECT)
def test_nothing_is_said_of_a_name_of_the_users_own(body: str) -> None:
    """It is used, it is of another kind, or what it is near stands beside it."""
    assert found(with_body(body)) == []


OF_ITSELF = {
    "self.wait = 5": "wait",
    "self.max_retry: int = 3": "max_retry",
    "self.time_out = 3; self.max_retries = 2": "time_out",
    "self.retryon = (OSError, ValueError)": "retryon",
    "self.journaled = False": "journaled",
    "self.concurrency = 5": "concurrency",
    "self.on_error = 'collect'": "on_error",
    "self.concurrency = 5; self.pool = self.concurrency": None,
    "self.timeout = 3; self.time_out = 3": None,
    "self.wait = 5; self.retry_delay = self.wait": None,
    "self.retries = 0; self.retries += 1": None,
    "self.wait = 'a while'": None,
    "self.waiting = 5": None,
    "self._wait = 5": None,
    "self.model = 'small'": None,
}


@pytest.mark.parametrize("body", OF_ITSELF)
def test_a_node_that_is_given_nearly_a_setting_is_told(body: str) -> None:
    """Where an attribute is set on the node itself, and nothing reads it."""
    program = f"class kind(Node):\n    def __init__(self):\n        {body}\n"
    program += "    def exec(self, given): return given\n"
    meant = OF_ITSELF[body]
    told = [] if meant is None else [f"{meant} of 'kind'"]
    assert [name for name, _ in found(program)] == told


def test_a_node_that_is_given_a_name_from_elsewhere_is_told_in_each_flow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also a function, and also if a flow like it was proved before."""
    kind = kind_of("class kind(Node):\n    def exec(self, given): return given\n")
    work = kind_of("@node\ndef work() -> None: pass\nkind = work\n")
    for one in (kind(), work):
        Flow(one).run({})
        assert "PF208" not in caplog.text
        one.timout = 5
        Flow(one).run({})
        assert f"timout of {one.name!r} is not looked at" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("name", ["timeout", "max_retries", "retry_on"])
def test_what_is_about_exec_is_told_of_a_class_without_one(name: str) -> None:
    """In the class that is the node's; one that others derive from may set it for them."""
    base = f"class Base(Node):\n    {name} = {'OSError' if name == 'retry_on' else 3}\n"
    body = "    def post(self, store, given, result): pass\n"
    assert found(base + "class kind(Base):\n" + body) == []
    ((told, _),) = found((base + body).replace("Base", "kind"))
    assert told == f"{name} of 'kind' has no effect: it has no exec"


def test_what_is_about_retries_is_told_of_a_function_that_has_none() -> None:
    """Unless it may be for the attempts of a journaled call."""
    program = "@node(retry_on=OSError{})\ndef work() -> None: {}\nkind = lambda: work\n"
    ((told, _),) = found(program.format("", "pass"))
    assert told == "retry_on of 'work' has no effect: it has no max_retries above 1"
    assert found(program.format(", max_retries=2", "pass")) == []
    assert found(program.format("", "context().calling(max_retries=2).call(print)")) == []


def test_what_has_no_effect_is_told_once_for_a_class() -> None:
    """However many nodes there are of it."""

    class Idle(Node):
        timeout = 3

        def post(self, store: Any, given: Any, result: Any) -> None:
            """Do nothing."""

    first = Idle(name="first")
    flow = Flow(first)
    flow.then(first, Idle(name="second"))
    assert codes(flow) == ["PF208"]


def test_a_flow_that_differs_in_what_is_about_retries_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One like it was proved before, of a node that is tried again."""
    program = "@node(retry_on=OSError, max_retries=2)\ndef work() -> None: pass\nkind = work\n"
    work = kind_of(program)
    for tries, told in ((2, False), (1, True)):
        work.max_retries = tries
        caplog.clear()
        Flow(work).run({})
        assert ("PF208" in caplog.text) is told


@pytest.mark.parametrize("make", [lambda flow: flow, Subflow, Parallel])
def test_what_is_of_runs_is_told_of_a_flow_inside_of_another(make: Any) -> None:
    """They count where it is run by itself, and there is nothing to say of it there."""
    work = Node()
    inner = Flow(work, flow_name="inner", node_budgets={work: {"usd": 3}}, max_steps=5)
    inner.on("flow_end", lambda steps, store: None)
    (told,) = [one for one in Flow(make(inner)).validate() if one.code == "PF208"]
    assert told.message.startswith(
        "what flow 'inner' says of node_budgets and max_steps and hooks counts only"
    )
    assert "PF208" not in codes(inner)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("deadline", 60),
        ("budget", {"usd": 3}),
        ("thread_budget", {"usd": 3}),
        ("label_budgets", {"customer": {"usd": 3}}),
        ("executor", ThreadPoolExecutor),
        ("carry", (ContextVar("request"),)),
        ("record_emitted", True),
    ],
)
def test_a_limit_or_setting_that_is_not_in_force_inside_of_another_flow_is_told(
    setting: str, value: Any
) -> None:
    """Who has set it on a flow that is a part of another one relies on what does not hold there."""
    inner: Flow[Any] = Flow(Node(), flow_name="inner", **{setting: value})
    (told,) = [one for one in Flow(inner).validate() if one.code == "PF208"]
    assert told.message.startswith(f"what flow 'inner' says of {setting} counts only")


class Traced(Flow[Any]):
    """Does something around each run of its own."""

    def run(self, store: Any = None, **how: Any) -> Any:
        """Run it."""
        return super().run(store, **how)


def test_a_run_of_a_class_that_is_not_called_is_told() -> None:
    """Where the flow is a part of another one, it is walked through, and not run."""
    inner = Traced(Node(), flow_name="inner")
    assert codes(inner) == []
    (told,) = [one for one in Flow(inner).validate() if one.code == "PF208"]
    assert told.message.startswith("Traced.run is called where flow 'inner' is run by itself")


def test_a_name_that_another_base_has_is_left_alone() -> None:
    """Who overrides something knows its name; who reads it elsewhere in the file uses it."""
    mixin = "class Mixin:\n    def exc(self, given): return 1\n"
    assert found(mixin + "class kind(Node, Mixin):\n    def exc(self, given): return 2\n") == []
    outside = "def limit(node): return node.timeouts\n"
    assert found(outside + with_body("timeouts = 3")) == []


@pytest.mark.parametrize("bases", ["(Node)", ""])
def test_a_name_that_a_base_in_another_file_reads_is_left_alone(bases: str) -> None:
    """A base class, or a mixin, may declare a name that each class below gives a value."""
    reads = "    max_retry: int\n    def exec(self, given): return self.max_retry\n"
    base = kind_of(f"class kind{bases}:\n{reads}")
    given = "max_retry = 3\n    def prep(self, store): return 1"
    for body in (given, "def __init__(self): self.max_retry = 3"):
        kind = kind_of(f"class kind(base, Node):\n    {body}\n", base=base)
        assert codes(Flow(kind())) == []


def test_concurrency_is_a_setting_of_a_batch_alone() -> None:
    """A class that has no such setting is not told to write it."""
    body = "(Node):\n    concurency = 3\n    def help(self): return 1\n"
    assert found("class kind" + body) == []
    ((told, _),) = found("class kind" + body.replace("Node", "BatchNode"))
    assert told == "kind.concurency"


def test_a_function_has_no_such_names() -> None:
    """The node of a function is ours."""

    @node
    def work(given: int = 0) -> None:
        """A function."""

    assert codes(Flow(start=work)) == []


@pytest.mark.parametrize("schema", [None, {"n": int}], ids=["untyped", "typed"])
def test_a_run_tells_of_such_a_name_once(schema: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Also where nothing else is proved of the flow; not again, and not where it is silenced."""
    kind = kind_of(with_body("max_retry = 3\n    def exce(self, given): return given"))
    flow = Flow(kind(), schema=schema)
    with caplog.at_level(logging.WARNING, "pocoflow"):
        flow.run({"n": 1})
        flow.run({"n": 1})
        Flow(kind(), schema=schema, ignore=("PF208",)).run({"n": 1})
    told = [one for one in caplog.messages if "PF208" in one]
    assert [one.partition("did you mean ")[2].partition("?")[0] for one in told] == [
        "'max_retries'",
        "'exec'",
    ]


def unknown(program: str) -> list[str]:
    """What is said of the annotations of the function that a program makes."""
    found = Flow(kind_of(program), schema={"n": int}).validate()
    return [one.message.partition(", ")[0] for one in found if one.code == "PF210"]


def test_an_annotation_that_names_nothing_is_found() -> None:
    """Otherwise the parameter, or the action, would not be looked at, without a word."""
    taken = "@node\ndef kind(n: 'list[Nope] | None' = None) -> None: ..."
    told = "names 'Nope'"
    assert unknown(taken) == [f"the annotation of parameter 'n' {told}"]
    assert unknown("@node\ndef kind() -> 'Nope': ...") == [
        f"the annotation of what it returns {told}"
    ]
    for known in (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import Nope\n",
        "if 0:\n    from a import *\n",
        "if 0:\n    class Nope: ...\n",
    ):
        assert unknown(known + taken) == []
    assert unknown("@node\ndef kind(n: 'int') -> None: ...") == []
