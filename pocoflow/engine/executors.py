"""What calls ``exec`` elsewhere: which executor is given which node, and under which name."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from pocoflow import values as codec
from pocoflow.cleanup import in_child
from pocoflow.engine.envelopes import ONLY_HERE, Letter, Reply
from pocoflow.errors import (
    DecodeError,
    DefinitionError,
    ExecutorError,
    NotStorableError,
    ResourceError,
    UnknownClassError,
)
from pocoflow.graph.graph import Graph, Vertex, label
from pocoflow.graph.references import Reference, refer, refer_to_variable, state_of
from pocoflow.logging import OwnLogger
from pocoflow.nodes.function import FunctionNode
from pocoflow.nodes.resources import Resource, Resources, declared
from pocoflow.nodes.settings import GivesExecutor, Where, where_to
from pocoflow.values.exceptions import Thrown
from pocoflow.values.failures import add_note

_log = OwnLogger("flow")

Serve = Callable[[Letter, str, Resources], Reply]
"""The function that executors are given; the resources are empty but in this process."""


_LONG = 10_000
"""A text of so many characters is read in more time than an event loop is held up."""


class Executors:
    """The executors of the runs of a flow.

    Args:
        of_flow: That of the flow.
        carry: The context variables that travel along.
        files: The files of the modules in which nodes may be found.
        serve: The function that executors are given.
    """

    def __init__(
        self,
        of_flow: Where,
        carry: Iterable[ContextVar[object]],
        files: Iterable[str],
        serve: Serve,
    ) -> None:
        self._of_flow, self._files, self._serve = of_flow, tuple(files), serve
        self._told: set[str] = set()
        self._known: dict[int, tuple[Vertex, Reference]] = {}
        self.variables: list[tuple[ContextVar[object], Reference]] = []
        for variable in carry:
            reference = refer_to_variable(variable)
            if isinstance(reference, str):
                raise DefinitionError(f"Flow(carry=...), {variable.name!r}: {reference}")
            self.variables.append((variable, reference))

    def of(self, vertex: Vertex) -> GivesExecutor | None:
        """What calls ``exec`` of a node; ``None`` for this process."""
        return where_to(vertex.node.executor, self._of_flow) if vertex.travels else None

    def resources(self, graph: Graph) -> Mapping[Resource, str]:
        """What the nodes of a run take from it, each with the name of a node that does.

        What a function takes is opened where it is called; a class may ask for it in other phases.
        """
        found: dict[Resource, str] = {}
        for path, level in graph.levels():
            for vertex in level.nodes.values():
                is_away = isinstance(vertex.node, FunctionNode) and self.of(vertex) is not None
                if vertex.reachable and vertex.inner is None and not is_away:
                    for key in declared(vertex.node):
                        found.setdefault(key, label(vertex.name, path))
        return found

    def refuse_given(self, graph: Graph, given: Resources) -> None:
        """Refuse a run that was given a resource which an executor cannot be given.

        Raises:
            ResourceError: A node whose ``exec`` is called in another process takes one.
        """
        for path, level in graph.levels() if given else ():
            for vertex in level.nodes.values():
                gives = self.of(vertex) if vertex.reachable and vertex.inner is None else None
                found = () if gives is None else declared(vertex.node)
                wrong = [one for one in found if one in given]
                if gives is not None and wrong and not is_here(_executor(gives)):
                    raise ResourceError(
                        f"resources={{{wrong[0]!r}: ...}} cannot be sent to the executor that "
                        f"calls exec of node {label(vertex.name, path)!r}, which would open its "
                        "own by open= of the key: leave it out; or, as in a test, call exec by a "
                        "ThreadPoolExecutor, or in the process of the run, executor='here'"
                    )

    def reference(self, vertex: Vertex) -> tuple[Reference, Mapping[str, object]]:
        """Under which name a node is found elsewhere, and what it has of its own.

        Raises:
            DefinitionError: It is not found.
        """
        known = self._known.get(id(vertex.node))
        if known is not None:
            is_made = known[1].kind == "class"
            return known[1], state_of(vertex.node) if is_made else {}
        found = refer(vertex.node, self._files)
        if isinstance(found, str):
            raise DefinitionError(f"node {vertex.name!r} cannot be sent to an executor: {found}")
        self._known[id(vertex.node)] = vertex, found[0]
        return found

    def other_code(self, run_id: str, vertex: Vertex) -> Iterator[str]:
        """What to say of a worker that has other code of a node, if it was not said before."""
        if vertex.name not in self._told:
            self._told.add(vertex.name)
            yield (
                f"run {run_id!r}: a worker has other code of node {vertex.name!r} than this "
                "process, and calls that; deploy both together"
            )

    def trip(self, gives: GivesExecutor, letter: Letter, given: object, objects: Resources) -> Trip:
        """A call of ``exec`` that is to be made, with the resources that the run was given."""
        return Trip(self._serve, gives, letter, given, objects)


def sendable(node: str, what: str, value: object) -> str:
    """A value as text.

    Raises:
        NotStorableError: It cannot be stored; says of which node it is, and what.
    """
    said = f"exec of node {node!r} cannot be sent to an executor, as {what} cannot be stored"
    hint = "give values; what is no value is a resource that the worker opens, resource(..., "
    return text_of(value, said, hint + "open=...)")


def text_of(value: object, said: str, hint: str) -> str:
    """A value as text.

    Raises:
        NotStorableError: It cannot be stored; says what that is, and what to do.
    """
    try:
        return codec.dumps(value)
    except NotStorableError as exc:
        here = "or call it in the process of the run: executor='here'"
        exc.args = (f"{said}: {exc}; {hint}; {here}",)
        raise


class Trip:
    """One call of ``exec`` by an executor.

    Args:
        serve: The function that the executor is given.
        gives: The executor, or what gives it.
        letter: What the worker is told of the run.
        given: What ``exec`` is called with.
        objects: The resources that the run was given, for threads of this process.
    """

    def __init__(
        self,
        serve: Serve,
        gives: GivesExecutor,
        letter: Letter,
        given: object,
        objects: Resources,
    ) -> None:
        self._serve, self._gives = serve, gives
        self._letter, self._given, self._objects = letter, given, objects
        self._is_given_up = False
        self._executor: Executor | None = None
        self._future: Future[Reply | BaseException] = Future()

    def begin(self) -> Future[Reply | BaseException]:
        """Send it; the future of what the executor gives, or raises.

        Raises:
            NotStorableError: What ``exec`` is called with cannot be stored.
            ExecutorError: The executor takes nothing any more.
        """
        inner = self._submit(sendable(self._letter.node, "what prep gave", self._given))
        outer, sent = self._future, [inner]

        def back(done: Future[Reply]) -> None:
            sent.clear()  # nothing is held in a cycle: Dask calls again what it believes is wanted
            if outer.set_running_or_notify_cancel():
                outer.set_result(_outcome(done))
            elif not done.cancelled():
                _log.warning(
                    "%s: what an executor brought back is ignored, as the run does not wait for "
                    "it any more",
                    self._said,
                )

        def stop(done: Future[Reply | BaseException]) -> None:
            if done.cancelled() and any(one.cancel() for one in [*sent]):
                _log.info(
                    "%s was taken back from the executor; if a worker had begun with it, what "
                    "comes of it is ignored",
                    self._said,
                )

        outer.add_done_callback(stop)
        inner.add_done_callback(back)
        if self._is_given_up:
            outer.cancel()
        return outer

    def give_up(self) -> None:
        """Ignore what comes of it."""
        self._is_given_up = True
        self._future.cancel()

    @property
    def _said(self) -> str:
        letter = self._letter
        item = "" if letter.item is None else f", item {letter.item}"
        return (
            f"run {letter.run[0]!r}: exec of node {letter.node!r} (step {letter.step}{item}, "
            f"attempt {letter.attempt})"
        )

    def _submit(self, given: str) -> Future[Reply]:
        gives = self._gives
        for is_last in (False, True):
            executor = self._executor = _executor(gives)
            objects = self._objects if is_here(executor) else {}
            try:
                return executor.submit(self._serve, self._letter, given, objects)
            except Exception as exc:
                _forget(gives, executor)
                if is_last or isinstance(gives, Executor):
                    raise self._lost(exc) from exc
        raise AssertionError

    def is_quick(self, reply: Reply | BaseException) -> bool:
        """Whether what came is read in a moment."""
        return not isinstance(reply, Reply) or len(reply.result) < _LONG

    def finish(self, reply: Reply | BaseException) -> tuple[Reply, object, BaseException | None]:
        """What came of it: what the worker tells, the result, and what was raised.

        Raises:
            ExecutorError: The executor has not brought it back.
        """
        if not isinstance(reply, Reply):
            if isinstance(reply, BrokenExecutor):
                _forget(self._gives, self._executor)
            raise self._lost(reply) from reply
        if reply.error is not None:
            return reply, None, reply.error.raised(self._strange)
        try:
            return reply, codec.loads(reply.result), None
        except DecodeError as exc:
            said = f"{self._said}: its result cannot be read here"
            way = f" ({ONLY_HERE})" if isinstance(exc, UnknownClassError) else ""
            return reply, None, exc.about(said + way)

    def _lost(self, exc: BaseException) -> ExecutorError:
        why = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        if isinstance(exc, BrokenExecutor) and isinstance(self._gives, Executor):
            why += (
                "; this executor takes nothing any more: give the flow a function that gives one, "
                "which is called again then"
            )
        if type(exc).__name__ == "BrokenProcessPool":
            why += (
                "; if no process of it could begin, the program lacks if __name__ == '__main__': "
                "around what it starts, which each spawned process imports"
            )
        elif isinstance(exc, RuntimeError) and "shutdown" in str(exc):
            why += (
                "; it was shut down: keep it open until the run has ended, as with a 'with' around "
                "the run, or give the flow a function that makes one"
            )
        return ExecutorError(f"{self._said} was not brought back by its executor: {why}")

    def _strange(self, thrown: Thrown) -> ExecutorError:
        error = ExecutorError(
            f"{self._said} raised {thrown.type_name}, which cannot be made again here: "
            f"{thrown.message}; define the class at the top of a module, with an __init__ that "
            "takes its args",
            thrown.type_name,
        )
        add_note(error, f"pocoflow: raised in a worker:\n{thrown.trace.rstrip()}")
        return error


def _outcome(done: Future[Reply]) -> Reply | BaseException:
    try:
        return done.result()
    except BaseException as exc:  # noqa: BLE001 - raised by whoever waits
        return exc


_given: dict[Callable[[], Executor], Executor] = {}
"""What functions have given in this process."""

_guard = threading.Lock()


@in_child
def _forget_after_fork() -> None:
    global _guard  # noqa: PLW0603 - a thread that held it is not on this side of the fork
    _guard = threading.Lock()
    _given.clear()  # nor are the threads that serve these


_INTERPRETERS: Any = getattr(concurrent.futures, "InterpreterPoolExecutor", ())


def is_here(executor: Executor) -> bool:
    """Whether it calls in threads of this process, which have its objects."""
    return isinstance(executor, ThreadPoolExecutor) and not isinstance(executor, _INTERPRETERS)


def _executor(gives: GivesExecutor) -> Executor:
    if isinstance(gives, Executor):
        return gives
    with _guard:
        if gives not in _given:
            made: object = gives()
            if not isinstance(made, Executor):
                raise DefinitionError(
                    f"executor={gives!r} gave {type(made).__name__}, which is no executor of "
                    "concurrent.futures"
                )
            _given[gives] = made
        return _given[gives]


def _forget(gives: GivesExecutor, executor: Executor | None) -> None:
    """Ask for another one next time, unless there is another one by now."""
    if not isinstance(gives, Executor):
        with _guard:
            if _given.get(gives) is executor:
                _given.pop(gives, None)
