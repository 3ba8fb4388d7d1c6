"""Calling ``exec`` elsewhere: which executor gets which node, and under which name."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from pocoflow import values as codec
from pocoflow.cleanup import in_child
from pocoflow.engine.envelopes import ONLY_HERE, Reply, Request
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

Serve = Callable[[Request, str, Resources], Reply]
"""The function that executors are given; the resources are empty except in this process."""


class Executors:
    """The executors of the runs of a flow.

    Args:
        of_flow: The executor of the flow.
        carry: The context variables that are sent along.
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
        self._of_flow, self._files, self.serve = of_flow, tuple(files), serve
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
        """The resources that nodes take from a run, each with the name of a node that does.

        A function's resources are opened where it is called; a class may use them in other phases.
        """
        taken: dict[Resource, str] = {}
        for path, level in graph.levels():
            for vertex in level.nodes.values():
                is_away = isinstance(vertex.node, FunctionNode) and self.of(vertex) is not None
                if vertex.reachable and vertex.inner is None and not is_away:
                    for key in declared(vertex.node):
                        taken.setdefault(key, label(vertex.name, path))
        return taken

    def refuse_given(self, graph: Graph, given: Resources) -> None:
        """Refuse a run that was given a resource which cannot be sent to an executor.

        Raises:
            ResourceError: A node whose ``exec`` is called in another process takes one.
        """
        for path, level in graph.levels() if given else ():
            for vertex in level.nodes.values():
                gives = self.of(vertex) if vertex.reachable and vertex.inner is None else None
                keys = () if gives is None else declared(vertex.node)
                refused = [key for key in keys if key in given]
                if gives is not None and refused and not is_local(_executor(gives)):
                    raise ResourceError(
                        f"resources={{{refused[0]!r}: ...}} cannot be sent to the executor that "
                        f"calls exec of node {label(vertex.name, path)!r}, which would open its "
                        "own by open= of the key: leave it out; or, as in a test, call exec by a "
                        "ThreadPoolExecutor, or in the process of the run, executor='here'"
                    )

    def reference(self, vertex: Vertex) -> tuple[Reference, Mapping[str, object]]:
        """The name under which other processes find a node, and its own attributes.

        Raises:
            DefinitionError: They cannot find it.
        """
        node = vertex.node
        if id(node) not in self._known:
            ref = refer(node, self._files)
            if isinstance(ref, str):
                raise DefinitionError(f"node {vertex.name!r} cannot be sent to an executor: {ref}")
            self._known[id(node)] = vertex, ref
        _, known = self._known[id(node)]
        return known, state_of(node) if known.kind == "class" else {}


def sendable(node: str, what: str, value: object) -> str:
    """A value as text.

    Raises:
        NotStorableError: It cannot be stored; names the node and the value.
    """
    reason = f"exec of node {node!r} cannot be sent to an executor, as {what} cannot be stored"
    hint = "give values; what is no value is a resource that the worker opens, resource(..., "
    return text_of(value, reason, hint + "open=...)")


def text_of(value: object, reason: str, hint: str) -> str:
    """A value as text.

    Raises:
        NotStorableError: It cannot be stored; gives the reason and the remedy.
    """
    try:
        return codec.dumps(value)
    except NotStorableError as exc:
        local = "or call it in the process of the run: executor='here'"
        exc.args = (f"{reason}: {exc}; {hint}; {local}",)
        raise


@dataclass(eq=False)
class RemoteCall:
    """One call of ``exec`` by an executor.

    Attributes:
        serve: The function that the executor is given.
        gives: The executor, or a function that returns it.
        request: What the worker needs to know about the run.
        given: What ``exec`` is called with.
        objects: The resources that the run was given, for threads of this process.
    """

    serve: Serve
    gives: GivesExecutor
    request: Request
    given: object
    objects: Resources

    _is_given_up = False
    _executor: Executor | None = field(default=None, init=False)
    _future: Future[Reply | BaseException] = field(default_factory=Future, init=False)

    def begin(self) -> Future[Reply | BaseException]:
        """Submit the call; returns the future of its reply, or of what the executor raised.

        Raises:
            NotStorableError: What ``exec`` is called with cannot be stored.
            ExecutorError: The executor accepts no more work.
        """
        inner = self._submit(sendable(self.request.context.node, "what prep gave", self.given))
        outer, sent = self._future, [inner]

        def back(done: Future[Reply]) -> None:
            sent.clear()  # breaks a cycle: Dask repeats a call whose future is still referenced
            if outer.set_running_or_notify_cancel():
                outer.set_result(_outcome(done))
            elif not done.cancelled():
                _log.warning(
                    "%s: the reply of an executor is ignored, as the run no longer waits for it",
                    self._description,
                )

        def stop(done: Future[Reply | BaseException]) -> None:
            if done.cancelled() and any(future.cancel() for future in [*sent]):
                _log.info(
                    "%s was cancelled; if a worker had started it, its outcome is ignored",
                    self._description,
                )

        outer.add_done_callback(stop)
        inner.add_done_callback(back)
        if self._is_given_up:
            outer.cancel()
        return outer

    def give_up(self) -> None:
        """Ignore the outcome."""
        self._is_given_up = True
        self._future.cancel()

    @property
    def _description(self) -> str:
        context = self.request.context
        item = "" if context.item is None else f", item {context.item}"
        return (
            f"run {context.run_id!r}: exec of node {context.node!r} (step {context.step}{item}, "
            f"attempt {context.attempt})"
        )

    def _submit(self, given: str) -> Future[Reply]:
        gives = self.gives
        for is_last in (False, True):
            executor = self._executor = _executor(gives)
            objects = self.objects if is_local(executor) else {}
            try:
                return executor.submit(self.serve, self.request, given, objects)
            except Exception as exc:
                _forget(gives, executor)
                if is_last or isinstance(gives, Executor):
                    raise self._lost(exc) from exc
        raise AssertionError

    def finish(self, reply: Reply | BaseException) -> tuple[Reply, object, BaseException | None]:
        """The outcome: the worker's reply, the result, and what was raised.

        Raises:
            ExecutorError: The executor did not return a reply.
        """
        if not isinstance(reply, Reply):
            if isinstance(reply, BrokenExecutor):
                _forget(self.gives, self._executor)
            raise self._lost(reply) from reply
        if reply.error is not None:
            return reply, None, reply.error.raised(self._strange)
        try:
            return reply, codec.loads(reply.result), None
        except DecodeError as exc:
            message = f"{self._description}: its result cannot be read here"
            hint = f" ({ONLY_HERE})" if isinstance(exc, UnknownClassError) else ""
            return reply, None, exc.about(message + hint)

    def _lost(self, exc: BaseException) -> ExecutorError:
        why = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        if isinstance(exc, BrokenExecutor) and isinstance(self.gives, Executor):
            why += (
                "; this executor accepts no more work: give the flow a function that returns one, "
                "which is then called again"
            )
        if type(exc).__name__ == "BrokenProcessPool":
            why += (
                "; if none of its processes could start, the program lacks "
                "if __name__ == '__main__': around what it runs, as each spawned process imports it"
            )
        elif isinstance(exc, RuntimeError) and "shutdown" in str(exc):
            why += (
                "; it was shut down: keep it open until the run has ended, as with a 'with' around "
                "the run, or give the flow a function that returns one"
            )
        return ExecutorError(f"{self._description} was not returned by its executor: {why}")

    def _strange(self, thrown: Thrown) -> ExecutorError:
        error = ExecutorError(
            f"{self._description} raised {thrown.type_name}, which cannot be re-created here: "
            f"{thrown.message}; define the class at the top of a module, with an __init__ that "
            "takes its args",
            thrown.type_name,
        )
        add_note(error, f"pocoflow: raised in a worker:\n{thrown.trace.rstrip()}")
        return error


def _outcome(done: Future[Reply]) -> Reply | BaseException:
    try:
        return done.result()
    except BaseException as exc:  # noqa: BLE001 - raised by the waiting run
        return exc


_given: dict[Callable[[], Executor], Executor] = {}
"""What functions have returned in this process."""

_guard = threading.Lock()


@in_child
def _forget_after_fork() -> None:
    global _guard  # noqa: PLW0603 - a thread that held it did not survive the fork
    _guard = threading.Lock()
    _given.clear()  # nor did the threads of these executors


_INTERPRETERS: Any = getattr(concurrent.futures, "InterpreterPoolExecutor", ())


def is_local(executor: Executor) -> bool:
    """Whether it calls in threads of this process, which share its objects."""
    return isinstance(executor, ThreadPoolExecutor) and not isinstance(executor, _INTERPRETERS)


def _executor(gives: GivesExecutor) -> Executor:
    if isinstance(gives, Executor):
        return gives
    with _guard:
        if gives not in _given:
            created: object = gives()
            if not isinstance(created, Executor):
                raise DefinitionError(
                    f"executor={gives!r} gave {type(created).__name__}, which is no executor of "
                    "concurrent.futures"
                )
            _given[gives] = created
        return _given[gives]


def _forget(gives: GivesExecutor, executor: Executor | None) -> None:
    """Request another executor next time, unless it has been replaced already."""
    if not isinstance(gives, Executor):
        with _guard:
            if _given.get(gives) is executor:
                _given.pop(gives, None)
