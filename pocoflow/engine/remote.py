"""What a worker does: it finds the node, calls its ``exec`` and reports the outcome.

``serve`` is the only function that executors are given. It takes and returns text, and never
raises.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pocoflow import values as codec
from pocoflow.engine.attempts import tried_here
from pocoflow.engine.calls import ExecCalls
from pocoflow.engine.drivers import drive
from pocoflow.engine.effects import Effects, Steps
from pocoflow.engine.envelopes import ONLY_HERE, MadeCall, Reply, Request, code_digest, this_process
from pocoflow.engine.executors import text_of
from pocoflow.engine.memory import NULL, NullLedger
from pocoflow.engine.relaying import relay
from pocoflow.engine.scopes import with_resources
from pocoflow.errors import BudgetError, ExecutorError, NotStorableError, UnknownClassError
from pocoflow.graph.graph import Vertex
from pocoflow.graph.references import Reference
from pocoflow.graph.step_records import ALONE, Called
from pocoflow.graph.unfinished import StartedItem, Unfinished
from pocoflow.nodes.base import Node
from pocoflow.nodes.context import Cancellation, RunContext
from pocoflow.nodes.resources import NO_RESOURCES, Resources, declared
from pocoflow.nodes.spending import Account, Amounts, Budget, Spent
from pocoflow.values.exceptions import Thrown
from pocoflow.values.failures import add_note


def serve(request: Request, given: str, objects: Resources = NO_RESOURCES) -> Reply:
    """Call ``exec`` of a node in this process.

    Args:
        request: The node, and what is needed from the run.
        given: What ``exec`` is called with, as text.
        objects: Resources that are not opened here, as this is the process of the run.

    Returns:
        The outcome, including errors before or after the call.
    """
    try:
        # The node first: its module defines the classes of the values that were sent.
        node = request.reference.find({})
        if request.state:
            node = request.reference.find(codec.loads(request.state))
        try:
            value = codec.loads(given)
        except UnknownClassError as exc:
            message = f"what prep of node {request.node!r} gave cannot be read in a worker"
            raise exc.about(f"{message} ({ONLY_HERE})") from None
        return _Work(request, _vertex(request.node, node), objects).do(value)
    except BaseException as exc:  # noqa: BLE001 - raised by the process of the run
        return Reply(error=_thrown(exc))


_MOST = 256

_vertices: dict[int, Vertex] = {}
"""The nodes that were called; cleared when they are too many."""


def _vertex(name: str, node: Node) -> Vertex:
    known = _vertices.get(id(node))
    if known is None or known.node is not node or known.name != name:
        if len(_vertices) >= _MOST:
            _vertices.clear()
        known = _vertices[id(node)] = Vertex(name, node)
    return known


def _differs(code: str, node: Node) -> bool:
    """Whether a node's code differs here, which only the same version of Python can tell."""
    own_code = code_digest(node)
    return own_code != code and own_code.rpartition(" ")[0] == code.rpartition(" ")[0]


def _thrown(error: BaseException) -> Thrown:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(
        "pocoflow."
    ):
        trace = trace.tb_next
    if trace is not None:
        error = error.with_traceback(trace)  # from the first frame of user code
    thrown = Thrown.of(error)
    lost = f"; of it, {', '.join(thrown.lost)} cannot be sent" if thrown.lost else ""
    where = f"process {os.getpid()} on {socket.gethostname()}"
    add_note(error, f"pocoflow: raised in a worker ({where}){lost}:\n{thrown.trace.rstrip()}")
    return Thrown.of(error)


class _Collected(NullLedger):
    """Collects what journaled calls return here."""

    keeps = True

    def __init__(self) -> None:
        self.calls: list[MadeCall] = []
        self.remarks: list[str] = []

    def remark(self, text: str) -> None:
        """Collect a remark for the reply."""
        self.remarks.append(text)

    def call(self, step: int, called: Called) -> None:
        """Collect the result of a call for the reply."""
        try:
            text = codec.dumps(called.result)
        except NotStorableError as exc:
            name = called.key.rsplit(" ", 2)[0]
            self.remarks.append(
                f"the result of call {name} of node {called.address.text!r} cannot be sent back, "
                f"so that the call is made again after a failure: {exc}"
            )
            return
        facts = (called.awaited, called.elapsed, dict(called.spent))
        self.calls.append(MadeCall(called.key, text, *facts))


@dataclass(eq=False)
class _Work:
    """One running ``exec``; stands in for the line of the run."""

    request: Request
    vertex: Vertex
    objects: Resources
    emitted: list[str] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)
    records: list[logging.LogRecord] = field(default_factory=list)
    spent: list[Amounts] = field(default_factory=list)
    ledger: _Collected = field(default_factory=_Collected)
    calls: ExecCalls | None = None
    completed: bool = False

    def __post_init__(self) -> None:
        request = self.request
        self.opens = tuple(key for key in declared(self.vertex.node) if key not in self.objects)
        self.context = self._context()
        names = (*request.path, request.node)
        around = ((0, names), (0, ()))
        rows = [Spent(*at, amounts) for at, amounts in zip(around, request.spent, strict=False)]
        self.account = Account(rows)

    def do(self, given: object) -> Reply:
        """Call ``exec``; returns the outcome."""
        request, results, set_here = self.request, list[object](), list[tuple[int, str]]()
        variables = [_variable(reference) for reference, _ in request.variables]

        def steps() -> Steps:
            for variable, (_, value) in zip(variables, request.variables, strict=True):
                if value:
                    variable.set(codec.loads(value))
            before = copy_context()
            results.append((yield from tried_here(self.vertex, given, inline=True)))
            set_here.extend(self._set_since(before, variables))

        error, text = None, ""
        try:
            with _logging(self), _trace(request.trace):
                drive(self.context, with_resources(self, steps()) if self.opens else steps())
            if self.calls is not None and self.calls.refused is not None:
                raise self.calls.refused
            why = f"exec of node {request.node!r} returned what cannot be sent back from a worker"
            text = text_of(results[0], why, "return values")
        except BaseException as exc:  # noqa: BLE001 - raised by the process of the run
            error = exc
        calls = self.calls
        refused = None if calls is None else calls.refused
        return Reply(
            text,
            None if error is None else _thrown(error),
            self.emitted,
            [*map(_facts, self.records)],
            self.ledger.calls,
            () if calls is None else calls.used,
            "" if calls is None else calls.last,
            _differs(request.code, self.vertex.node),
            error is not None and calls is not None and calls.is_of_call(error),
            refused is not None and refused is error,
            self.spent,
            self.ledger.remarks,
            set_here,
        )

    def _set_since(
        self, before: Context, variables: Sequence[ContextVar[object]]
    ) -> Iterator[tuple[int, str]]:
        """The numbers and values of context variables that were set."""
        for number, variable in enumerate(variables):
            value = variable.get(before)
            if value is before or (variable in before and value is before[variable]):
                continue
            try:
                yield number, codec.dumps(value)
            except NotStorableError as exc:
                name = self.request.variables[number][0].text
                self.ledger.remark(f"context variable {name} cannot be sent back: {exc}")

    def _context(self) -> RunContext:
        request = self.request
        context = RunContext(*request.run, Cancellation(), self.objects)
        context.node, context.path, context.step = request.node, request.path, request.step
        context.branches, context.count = request.branches, request.number
        context.attempt, context.item, context.mark = request.attempt, request.item, request.mark
        context.phase, context.line = "exec", self
        context.group = f"{context.token}-{id(self)}"  # the run itself may be in this process
        if request.emits:
            context.emitter = self._emit
        return context

    def compute(self, function: Callable[..., object], *arguments: object) -> Effects:
        """Call a slow function here, as no event loop drives this."""
        yield from ()
        return function(*arguments)

    def _emit(self, context: RunContext, value: object) -> None:
        text, request = codec.dumps(value), self.request
        with self.guard:  # any thread of the exec may emit
            self.emitted.append(text)
            index = len(self.emitted) - 1
            relay(request.home, request.endpoint, request.emits, index, text)

    # -- what the context needs -------------------------------------------------------------------

    def calls_of(self, context: RunContext) -> ExecCalls:
        """The journaled calls of the ``exec``."""
        if self.calls is None:
            request = self.request
            number = ALONE if request.item is None else request.item
            errors = tuple(codec.loads(request.errors)) if request.errors else ()
            unfinished = Unfinished(
                items={number: StartedItem(request.mark, len(errors), errors)},
                calls={number: request.calls},
            )
            ledger = self.ledger if request.keeps else NULL
            refusal = None if request.limits is None else self._refusal
            facts = (ledger, self.vertex, context)
            self.calls = ExecCalls(*facts, unfinished, (), refusal)
        return self.calls

    def spend(self, context: RunContext, amounts: Amounts) -> None:
        """Collect what was spent outside of calls for the reply."""
        self.spent.append(dict(amounts))

    def _refusal(self) -> BudgetError | None:
        limits, request = self.request.limits, self.request
        assert limits is not None
        budgets = [
            Budget(where, most, None if others is None else _Others(others))
            for where, most, others in limits.budgets
        ]
        names = (*request.path, request.node)
        return self.account.refusal(request.run[0], names, budgets, limits.of_node, ())


@dataclass(frozen=True, slots=True)
class _Others:
    amounts: Amounts


# -- context variables and traces -----------------------------------------------------------------


def _variable(reference: Reference) -> ContextVar[object]:
    """A context variable, in this process.

    Raises:
        ExecutorError: There is none.
    """
    _, variable = reference.attribute()
    if not isinstance(variable, ContextVar):
        raise ExecutorError(
            f"a worker has no context variable {reference.text}: does it have the same code?"
        )
    return variable


@contextmanager
def _trace(headers: Mapping[str, str]) -> Iterator[None]:
    """Make OpenTelemetry spans part of the trace of the run."""
    if not headers:
        yield
        return
    try:
        tracing: Any = importlib.import_module("opentelemetry.context")
        propagate: Any = importlib.import_module("opentelemetry.propagate")
    except ImportError:
        yield
        return
    token = tracing.attach(propagate.extract(headers))
    try:
        yield
    finally:
        tracing.detach(token)


# -- logging --------------------------------------------------------------------------------------

_at_work: ContextVar[_Work | None] = ContextVar("pocoflow_work", default=None)

_PLAIN = (str, int, float, bool, type(None))


@contextmanager
def _logging(work: _Work) -> Iterator[None]:
    """Collect log records for the process of the run, if that is another one."""
    if work.request.home == this_process():
        yield
        return
    _prepare()
    root = logging.getLogger()
    if root.level > work.request.level:
        root.setLevel(work.request.level)
    token = _at_work.set(work)
    try:
        yield
    finally:
        _at_work.reset(token)


@cache
def _prepare() -> None:
    """Set a record factory that collects the records of an ``exec`` instead of handling them.

    They are shown once, in the process of the run: a forked worker has the same handlers.
    """
    make = logging.getLogRecordFactory()

    def make_record(*facts: object, **more: object) -> logging.LogRecord:
        record = make(*facts, **more)
        if (work := _at_work.get()) is not None:
            work.records.append(record)
            record.pf_level = record.levelno
            record.levelno = -1  # below the level of any handler
        return record

    logging.setLogRecordFactory(make_record)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    """The attributes of a record: plain ones as they are, its message and traceback as text."""
    facts: dict[str, object] = dict(vars(record))
    with suppress(Exception):  # a message that does not match its arguments
        facts["msg"] = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        facts["exc_text"] = logging.Formatter().formatException(record.exc_info)
    facts["args"] = facts["exc_info"] = None
    facts["levelno"] = facts.pop("pf_level")
    return {name: value if type(value) in _PLAIN else str(value) for name, value in facts.items()}
