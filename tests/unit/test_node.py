"""Nodes by themselves: phases, attempts, settings, names and edges."""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import pytest

from pocoflow import END, AsyncNode, Flow, Node, Store
from pocoflow.errors import DefinitionError


class Transient(Exception):
    """Worth another attempt."""


class Overload(Transient):
    """A kind of it."""


class Fatal(Exception):
    """Not worth another attempt."""


class Flaky(Node[None, str, str]):
    """Raises the given exceptions one after the other, then returns ``"ok"``."""

    def __init__(self, *failures: BaseException) -> None:
        super().__init__()
        self.failures = list(failures)
        self.attempts = 0

    def exec(self, prep_result: None) -> str:
        self.attempts += 1
        if self.attempts <= len(self.failures):
            raise self.failures[self.attempts - 1]
        return "ok"

    def post(self, store: Store[Any], prep_result: None, exec_result: str) -> str:
        store["result"] = exec_result
        return "done"


def failing(count: int) -> Flaky:
    """A node whose first ``count`` attempts fail."""
    return Flaky(*(Transient(f"failure {number + 1}") for number in range(count)))


# -- the phases ---------------------------------------------------------------------------------


def test_a_node_without_phases_runs() -> None:
    """``prep`` and ``exec`` not overridden return ``None``, ``post`` returns ``"default"``."""
    node = Node[Any, Any, str]()
    store = Store({"a": 1})
    assert node.prep(store) is None
    assert node.exec(None) is None
    assert node.post(store, None, None) == "default"
    assert Flow(node).run(store) == {"a": 1}


def test_each_phase_gets_what_the_one_before_returned() -> None:
    """``exec`` gets the result of ``prep``, ``post`` gets both, and all see one store."""
    seen: list[Any] = []

    class Steps(Node[int, str, Literal["done"]]):
        def prep(self, store: Store[Any]) -> int:
            seen.append(("prep", store))
            return 20

        def exec(self, number: int) -> str:
            seen.append(("exec", number))
            return str(number + 1)

        def post(self, store: Store[Any], number: int, text: str) -> Literal["done"]:
            seen.append(("post", store, number, text))
            return "done"

    store = Store()
    Flow(Steps()).run(store)
    assert seen == [("prep", store), ("exec", 20), ("post", store, 20, "21")]
    assert all(entry[1] is store for entry in (seen[0], seen[2]))


def test_phases_can_be_called_without_a_flow() -> None:
    """A node is a plain object: its phases are methods that a unit test calls."""
    node = Flaky()
    store = Store()
    assert node.exec(None) == "ok"
    assert node.post(store, None, "ok") == "done"
    assert store["result"] == "ok"


# -- attempts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_retries", "failures", "attempts"),
    [(1, 0, 1), (3, 0, 1), (3, 1, 2), (3, 2, 3), (5, 4, 5)],
)
def test_exec_is_tried_until_it_succeeds(max_retries: int, failures: int, attempts: int) -> None:
    """``max_retries`` counts attempts: a success ends them, and its result goes to ``post``."""
    node = failing(failures)
    node.max_retries = max_retries
    assert Flow(node).run()["result"] == "ok"
    assert node.attempts == attempts


@pytest.mark.parametrize("max_retries", [1, 2, 4])
def test_the_last_failure_is_raised_as_it_was_raised(max_retries: int) -> None:
    """After ``max_retries`` attempts the very exception of the last one ends the run."""
    node = failing(10)
    node.max_retries = max_retries
    store = Store()
    with pytest.raises(Transient) as caught:
        Flow(node, flow_name="jobs").run(store)
    assert caught.value is node.failures[max_retries - 1]
    assert node.attempts == max_retries
    assert "result" not in store


def test_a_failure_is_no_consequence_of_the_one_before() -> None:
    """The traceback of the last attempt does not pretend that the first attempt caused it."""
    node = failing(10)
    node.max_retries = 3
    with pytest.raises(Transient) as caught:
        Flow(node).run()
    assert caught.value.__context__ is None


def test_a_failure_is_annotated_with_its_place() -> None:
    """The traceback says flow, run, node, phase, step and attempt, without changing the error."""
    node = failing(10)
    node.max_retries = 2
    with pytest.raises(Transient) as caught:
        Flow(node, flow_name="jobs", run_id="jobs-1").run()
    assert str(caught.value) == "failure 2"
    (note,) = caught.value.__notes__
    for part in ("exec", "'Flaky'", "'jobs'", "'jobs-1'", "step 0", "attempt 2"):
        assert part in note


def test_every_failed_attempt_but_the_last_is_told() -> None:
    """``node_retry`` gives name, attempt and error of each attempt that another one follows."""
    node = failing(10)
    node.max_retries = 3
    told: list[tuple[str, int, Exception]] = []
    flow = Flow(node)
    flow.on("node_retry", lambda name, attempt, exc, store: told.append((name, attempt, exc)))
    with pytest.raises(Transient):
        flow.run()
    assert told == [("Flaky", 1, node.failures[0]), ("Flaky", 2, node.failures[1])]


@pytest.mark.parametrize("phase", ["prep", "post"])
def test_only_exec_is_retried(phase: str) -> None:
    """A failing ``prep`` or ``post`` ends the run at once, whatever ``max_retries`` says."""
    calls: list[str] = []

    def fails(self: Node, *arguments: object) -> None:
        calls.append(phase)
        raise Transient

    node = cast(Node, type("Fails", (Node,), {phase: fails, "max_retries": 5})())
    with pytest.raises(Transient):
        Flow(node).run()
    assert calls == [phase]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_not_retried(kind: type[BaseException]) -> None:
    """Ctrl-C and ``sys.exit`` in ``exec`` end the run: no further attempt, no fallback."""

    class Stubborn(Flaky):
        max_retries = 5

        def exec_fallback(self, prep_result: None, exc: Exception) -> str:
            raise AssertionError("not for this")

    node = Stubborn(kind())
    with pytest.raises(kind) as caught:
        Flow(node).run()
    assert caught.value is node.failures[0]
    assert node.attempts == 1


def test_a_node_starts_each_step_with_its_first_attempt() -> None:
    """Attempts of one step do not count against the next step of the same node."""
    node = Flaky(Transient(), Transient())
    node.max_retries = 3
    node.then("done", node)
    flow = Flow(node, max_steps=2)
    told: list[int] = []
    flow.on("node_retry", lambda name, attempt, exc, store: told.append(attempt))
    with pytest.raises(RuntimeError, match="max_steps"):
        flow.run()
    assert told == [1, 2]
    assert node.attempts == 4


# -- retry_on -----------------------------------------------------------------------------------


def is_overload(exc: Exception) -> bool:
    """Decide as a function may: whether the server said that it has too much to do."""
    return isinstance(exc, Overload)


class ByMethod(Flaky):
    def retry_on(self, exc: Exception) -> bool:
        return is_overload(exc)


class ByFunction(Flaky):
    retry_on = cast(Any, is_overload)


class ByStaticMethod(Flaky):
    retry_on = staticmethod(is_overload)


class ByClass(Flaky):
    retry_on = Overload


class ByTuple(Flaky):
    retry_on = (KeyError, Overload)


class ByInstance(Flaky):
    def __init__(self, *failures: BaseException) -> None:
        super().__init__(*failures)
        self.retry_on = lambda exc: isinstance(exc, Overload)


@pytest.mark.parametrize(
    "kind", [ByClass, ByTuple, ByFunction, ByStaticMethod, ByMethod, ByInstance]
)
def test_retry_on_decides_which_failures_get_another_attempt(kind: type[Flaky]) -> None:
    """A class, a tuple of classes or a function, set on the class or on the node."""
    node = kind(Overload(), Overload(), Fatal("stop"), Overload())
    node.max_retries = 10
    with pytest.raises(Fatal, match="stop"):
        Flow(node).run()
    assert node.attempts == 3


def test_a_failure_that_is_not_retried_reaches_the_fallback() -> None:
    """``exec_fallback`` answers for the last attempt, also if ``retry_on`` made it the last."""

    class Backed(ByClass):
        max_retries = 10

        def exec_fallback(self, prep_result: None, exc: Exception) -> str:
            return f"instead of {exc}"

    node = Backed(Fatal("stop"))
    assert Flow(node).run()["result"] == "instead of stop"
    assert node.attempts == 1


@pytest.mark.parametrize(
    "given", [staticmethod(lambda: True), staticmethod(lambda node, exc: True)], ids=["none", "two"]
)
def test_a_retry_on_that_cannot_take_the_exception_is_refused_when_the_node_is_made(
    given: Any,
) -> None:
    """It would fail at the first failure, when its error hides that."""
    kind = type("Asks", (Flaky,), {"retry_on": given})
    with pytest.raises(DefinitionError, match=r"Asks\.retry_on is to be called with the exception"):
        kind(0)


def test_a_retry_on_that_fails_does_not_hide_the_failure() -> None:
    """The exception of the function has the exception of ``exec`` as its context."""

    def broken(exc: Exception) -> bool:
        raise ZeroDivisionError

    node = failing(1)
    node.max_retries = 2
    node.retry_on = broken
    with pytest.raises(ZeroDivisionError) as caught:
        Flow(node).run()
    assert caught.value.__context__ is node.failures[0]


# -- delays -------------------------------------------------------------------------------------


def delays(node: Flaky, caplog: pytest.LogCaptureFixture) -> list[float]:
    """The delays that the log of a run reports for its retries."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="pocoflow.flow"):
        Flow(node).run()
    found = []
    for record in caplog.records:
        assert isinstance(record.args, Mapping)
        assert "next in" in record.getMessage()
        found.append(cast(float, record.args["delay"]))
    return found


def test_the_delay_is_the_same_without_backoff(caplog: pytest.LogCaptureFixture) -> None:
    """``retry_delay`` is waited before each further attempt."""
    node = failing(3)
    node.max_retries, node.retry_delay = 4, 0.001
    assert delays(node, caplog) == [0.001, 0.001, 0.001]


def test_backoff_multiplies_the_delay(caplog: pytest.LogCaptureFixture) -> None:
    """With ``backoff`` 3 each delay is three times the one before."""
    node = failing(3)
    node.max_retries, node.retry_delay, node.backoff = 4, 0.0005, 3
    assert delays(node, caplog) == pytest.approx([0.0005, 0.0015, 0.0045])


def test_jitter_adds_a_random_share(caplog: pytest.LogCaptureFixture) -> None:
    """``jitter`` 0.5 makes each delay up to half as long again, and not all the same."""
    node = failing(8)
    node.max_retries, node.retry_delay, node.jitter = 9, 0.001, 0.5
    found = delays(node, caplog)
    assert len(found) == 8
    assert all(0.001 <= delay <= 0.0015 for delay in found)
    assert len(set(found)) > 1


def test_without_a_delay_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """Backoff and jitter of nothing are nothing."""
    node = failing(2)
    node.max_retries, node.backoff, node.jitter = 3, 2.0, 1.0
    assert delays(node, caplog) == [0, 0]


def test_a_very_long_backoff_does_not_overflow() -> None:
    """Four hundred attempts with a growing factor are four hundred attempts."""
    node = failing(399)
    node.max_retries, node.backoff = 400, 10.0
    assert Flow(node).run()["result"] == "ok"
    assert node.attempts == 400


# -- exec_fallback ------------------------------------------------------------------------------


def test_the_fallback_gives_the_result_after_the_last_attempt() -> None:
    """It is called once, with the result of ``prep`` and the last error, and ``post`` goes on."""
    calls: list[tuple[object, Exception]] = []

    class Backed(Flaky):
        max_retries = 2

        def prep(self, store: Store[Any]) -> Any:
            return "prepared"

        def exec_fallback(self, prep_result: object, exc: Exception) -> str:
            calls.append((prep_result, exc))
            return "second best"

    node = Backed(Transient("1"), Transient("2"), Transient("3"))
    assert Flow(node).run()["result"] == "second best"
    assert calls == [("prepared", node.failures[1])]


def test_a_fallback_may_be_asynchronous() -> None:
    """``async def exec_fallback`` is awaited, of an ``AsyncNode`` and of a ``Node``."""

    class Backed(AsyncNode):
        async def exec_async(self, prep_result: object) -> str:
            raise Transient

        async def exec_fallback(self, prep_result: object, exc: Exception) -> str:
            return "second best"

        def post(self, store: Store[Any], prep_result: object, exec_result: str) -> str:
            store["result"] = exec_result
            return "done"

    class Mixed(Flaky):
        async def exec_fallback(self, prep_result: None, exc: Exception) -> str:
            return "second best"

    for node in (Backed(), Mixed(Transient())):
        assert Flow(node).run()["result"] == "second best"


def test_a_fallback_that_raises_ends_the_run_with_its_exception() -> None:
    """What the fallback raises is what the caller gets, with the last failure as its context."""

    class Backed(Flaky):
        max_retries = 2

        def exec_fallback(self, prep_result: None, exc: Exception) -> str:
            raise Fatal("both are gone")

    node = Backed(Transient("first"), Transient("last"))
    with pytest.raises(Fatal, match="both are gone") as caught:
        Flow(node).run()
    assert caught.value.__context__ is node.failures[1]
    with pytest.raises(Fatal, match="both are gone") as caught:
        asyncio.run(Flow(node := Backed(*map(Transient, "ab"))).run_async())
    assert caught.value.__context__ is node.failures[1]


# -- settings -----------------------------------------------------------------------------------

BAD_SETTINGS: list[tuple[str, Any]] = [
    ("max_retries", 0),
    ("max_retries", -1),
    ("max_retries", 1.5),
    ("max_retries", True),
    ("max_retries", "3"),
    ("max_retries", None),
    ("retry_delay", -0.1),
    ("retry_delay", "1"),
    ("retry_delay", None),
    ("retry_delay", float("nan")),
    ("retry_delay", float("inf")),
    ("backoff", 0.5),
    ("backoff", True),
    ("jitter", -0.1),
    ("jitter", 1.1),
    ("timeout", -1),
    ("timeout", 0),
    ("timeout", "1"),
    ("timeout", False),
    ("timeout", float("inf")),
    ("retry_on", "Transient"),
    ("retry_on", None),
    ("retry_on", KeyboardInterrupt),
    ("retry_on", Transient("an instance")),
    ("retry_on", (Transient, "Fatal")),
    ("retry_on", [Transient]),
    ("retry_on", int),
]


@pytest.mark.parametrize(("setting", "value"), BAD_SETTINGS)
def test_a_class_with_a_setting_that_makes_no_sense_cannot_be_built(
    setting: str, value: Any
) -> None:
    """The error comes when the node is built and names class, setting and value."""
    kind = type("Odd", (Node,), {setting: value})
    with pytest.raises(DefinitionError) as caught:
        kind()
    assert isinstance(caught.value, ValueError)
    assert f"Odd.{setting} is {value!r}" in str(caught.value)


@pytest.mark.parametrize(("setting", "value"), BAD_SETTINGS)
def test_a_node_with_a_setting_that_makes_no_sense_does_not_run(setting: str, value: Any) -> None:
    """A setting of one node is checked before any node of its flow runs."""
    first, second = failing(0), failing(0)
    first.then("done", second)
    setattr(second, setting, value)
    with pytest.raises(DefinitionError, match=f"Flaky.{setting} is "):
        Flow(first).run()
    assert first.attempts == 0


def test_sensible_settings_are_taken() -> None:
    """The least, the most and the usual values are all accepted."""
    for settings in (
        {"max_retries": 1, "retry_delay": 0, "backoff": 1, "jitter": 0, "timeout": None},
        {"max_retries": 10**6, "retry_delay": 3600, "backoff": 2.5, "jitter": 1, "timeout": 1},
        {"retry_on": Transient},
        {"retry_on": (Transient, OSError)},
        {"retry_on": ()},
        {"retry_on": is_overload},
    ):
        type("Fine", (Node,), settings)()


# -- building and names -------------------------------------------------------------------------


def test_a_node_that_does_not_call_super_init_works() -> None:
    """Name, edges and settings are there without ``super().__init__()``."""

    class Bare(Node):
        def __init__(self, text: str, *, times: int = 1) -> None:
            self.text = text * times

        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
            store[self.text] = True
            return "next"

    first = Bare("a", times=2)
    assert first.name == "Bare"
    second = Bare("b")
    second.name = "second"
    first.then("next", second)
    assert Flow(first).run() == {"aa": True, "b": True}


def test_a_dataclass_can_be_a_node() -> None:
    """A node that is a dataclass has ``==`` and no hash; two equal ones stay two nodes."""

    @dataclass
    class Add(Node):
        amount: int

        def post(self, store: Store[Any], prep_result: object, exec_result: object) -> str:
            store["sum"] = store.get("sum", 0) + self.amount
            return "next"

    first, second = Add(2), Add(2)
    assert first == second
    with pytest.raises(TypeError, match="unhashable"):
        hash(first)
    flow = Flow(first.then("next", second))
    assert flow.run() == {"sum": 4}
    names: list[str] = []
    flow.on("node_start", lambda name, store: names.append(name))
    flow.run({}, resume_from=second)
    assert names == ["Add_2"]


class Wrapping(Node):
    """Is what it wraps, but for its own ``post``."""

    def __init__(self, inner: Flaky) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def post(self, store: Store, prep_result: object, exec_result: object) -> str:
        store["attempts"] = self.attempts
        return self.inner.post(store, None, "")


def test_a_node_that_passes_on_what_it_does_not_have_is_asked_for_nothing_too_early() -> None:
    """Its ``__getattr__`` needs what its ``__init__`` sets."""
    assert Flow(Wrapping(Flaky())).run({})["attempts"] == 0


def test_a_node_is_called_like_its_class_until_it_gets_a_name() -> None:
    """By keyword, by assignment or on the class."""

    class Named(Node):
        name = "by class"

    assert Flaky().name == "Flaky"
    assert Node(name="by keyword").name == "by keyword"
    node = Node[Any, Any, str]()
    assert node.name == "Node"
    node.name = "by assignment"
    assert node.name == "by assignment"
    assert Named().name == "by class"
    names: list[str] = []
    flow = Flow(Named())
    flow.on("node_start", lambda name, store: names.append(name))
    flow.run()
    assert names == ["by class"]
    assert flow.flow_name == "by class"


@pytest.mark.parametrize("name", ["", None, 3, b"x", ["x"]])
def test_a_name_is_a_non_empty_string(name: Any) -> None:
    """Anything else is refused, naming class and value."""
    node = failing(0)
    with pytest.raises(DefinitionError, match="must be a non-empty string") as caught:
        node.name = name
    assert repr(name) in str(caught.value)
    assert "Flaky" in str(caught.value)
    assert node.name == "Flaky"


def test_the_repr_shows_class_and_name() -> None:
    """Printing a node tells what it is and how it is called."""
    assert repr(failing(0)) == "<Flaky node>"
    assert repr(Node(name="x")) == "<Node node 'x'>"


# -- edges --------------------------------------------------------------------------------------


def test_then_returns_its_node_so_that_edges_chain() -> None:
    """``a.then("ok", b).then("error", c)`` draws two edges from ``a``."""
    a, b, c = failing(0), failing(0), failing(0)
    assert a.then("ok", b).then("error", c) is a
    assert {action: edge.target for action, edge in a.edges.items()} == {"ok": b, "error": c}
    assert not b.edges


def test_edges_are_read_only() -> None:
    """``then`` is the one way to draw an edge."""
    node = failing(0)
    with pytest.raises(TypeError):
        cast(Any, node.edges)["ok"] = node


def test_an_edge_knows_where_it_was_written() -> None:
    """File and line of the call of ``then``, for whoever has to find it."""
    a, b = failing(0), failing(0)
    a.then("ok", b)
    edge = a.edges["ok"]
    assert edge.file == __file__
    with open(__file__, encoding="utf-8") as source:
        assert source.readlines()[edge.line - 1].strip() == 'a.then("ok", b)'


def test_the_last_edge_of_an_action_counts() -> None:
    """Wiring an action again replaces where it leads."""
    first, old, new = failing(0), Flaky(), Flaky()
    first.then("done", old).then("done", new)
    Flow(first).run()
    assert (old.attempts, new.attempts) == (0, 1)


class Routed(Node):
    """Returns the action that it is given."""

    def __init__(self, action: Any) -> None:
        self.action = action

    def post(self, store: Store[Any], prep_result: object, exec_result: object) -> Any:
        return self.action


@pytest.mark.parametrize(
    ("action", "expected"), [("ok", "b"), ("error", "c"), ("other", "rest"), (None, "rest")]
)
def test_the_wildcard_catches_what_has_no_edge(action: str | None, expected: str) -> None:
    """``"*"`` is taken for any other action, and never before an edge of its own."""
    a = Routed(action)
    a.then("*", Node(name="rest")).then("ok", Node(name="b")).then("error", Node(name="c"))
    names: list[str] = []
    Flow(a).on("node_start", lambda name, store: names.append(name)).run()
    assert names == ["Routed", expected]


def test_an_edge_that_is_written_over_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A chain that was meant, and is none, is logged as it is wired, with both targets."""
    a, b, c = (Node(name=name) for name in "abc")
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    a.then("default", b).then("default", c)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("pocoflow.flow", "WARNING")
    place = f"{__file__}:{line}"
    assert record.getMessage() == (
        f"a.then('default', c) at {place} replaces the edge to b at {place}. then returns its "
        "source, so a chain is a.then('default', b); b.then('default', c)"
    )
    caplog.clear()
    a.then("default", c).then("other", b)
    assert not caplog.records
    a.then("other", END)
    assert "replaces the edge to b" in caplog.text
    caplog.clear()
    b.then("ok", END).then("ok", c)
    assert "replaces the edge to END" in caplog.text
    assert "a chain is" not in caplog.text


@pytest.mark.parametrize("action", ["", None, 3, b"ok", ["ok"], Routed("x")])
def test_an_action_is_a_non_empty_string(action: Any) -> None:
    """An edge for anything else is refused, naming node and action; nothing is wired."""
    node = failing(0)
    with pytest.raises(DefinitionError, match="the action must be a non-empty string") as caught:
        node.then(action, failing(0))
    assert "Flaky.then" in str(caught.value)
    assert repr(action) in str(caught.value)
    assert not node.edges


@pytest.mark.parametrize("target", ["b", 3, Flaky, lambda: None])
def test_a_target_is_a_node(target: Any) -> None:
    """A class or anything else is refused; a class gets the hint that ``()`` is missing."""
    node = failing(0)
    with pytest.raises(DefinitionError, match=r"Flaky.then\('ok', target\)") as caught:
        node.then("ok", target)
    assert ("pass an instance" in str(caught.value)) == isinstance(target, type)
    assert not node.edges


def test_one_node_serves_in_two_flows() -> None:
    """A flow keeps nothing on its nodes, so that they can be shared."""
    shared = failing(0)
    first, second = Routed("go"), Routed("go")
    first.then("go", shared)
    second.then("go", shared)
    Flow(first, flow_name="one").run()
    Flow(second, flow_name="two").run()
    assert shared.attempts == 2
    assert shared.name == "Flaky"


# -- copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_wired_by_itself(copied: Callable[[Node], Node]) -> None:
    """A new edge or name of a copy is not one of the original, nor the other way round."""
    original, target = Routed("go"), Flaky()
    original.then("go", target)
    original.name = "original"
    twin = copied(original)
    assert twin.name == "original"
    assert set(twin.edges) == {"go"}
    twin.name = "twin"
    twin.then("only twin", failing(0)).then("go", failing(0))
    original.then("only original", failing(0))
    assert original.name == "original"
    assert set(original.edges) == {"go", "only original"}
    assert set(twin.edges) == {"go", "only twin"}
    assert original.edges["go"].target is target


def test_a_shallow_copy_leads_to_the_same_nodes_and_a_deep_copy_to_copies() -> None:
    """``copy`` shares the targets, ``deepcopy`` copies the graph, cycles included."""
    original, target = Routed("go"), failing(0)
    original.then("go", target)
    target.then("again", original)
    shallow, deep = copy.copy(original), copy.deepcopy(original)
    assert shallow.edges["go"].target is target
    inner = cast(Flaky, deep.edges["go"].target)
    assert inner is not target
    assert inner.edges["again"].target is deep
    Flow(deep).run()
    assert (target.attempts, inner.attempts) == (0, 1)


def test_a_copy_of_a_node_with_arguments_keeps_its_attributes() -> None:
    """Copying does not call ``__init__``."""
    node = copy.copy(Flaky(Transient("kept")))
    assert [str(failure) for failure in node.failures] == ["kept"]
