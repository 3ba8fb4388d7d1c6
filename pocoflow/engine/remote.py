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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from dataclasses import replace
from functools import cache
from typing import Any

from pocoflow import values as codec
from pocoflow.engine.attempts import tried_here
from pocoflow.engine.drivers import drive
from pocoflow.engine.effects import Steps
from pocoflow.engine.envelopes import ONLY_HERE, Reply, Request, code_digest, this_process
from pocoflow.engine.executors import text_of
from pocoflow.engine.line import Line, Plan
from pocoflow.engine.memory import NullLedger
from pocoflow.engine.relaying import relay
from pocoflow.engine.scopes import with_resources
from pocoflow.errors import ExecutorError, NotStorableError, UnknownClassError
from pocoflow.graph.graph import Graph, Vertex
from pocoflow.graph.reach import NO_WIRING, Reach
from pocoflow.graph.references import Reference
from pocoflow.graph.step_records import ALONE, Bill, Called
from pocoflow.graph.unfinished import StartedItem, Unfinished
from pocoflow.nodes.base import Node
from pocoflow.nodes.context import RunContext
from pocoflow.nodes.resources import NO_RESOURCES, Resources, declared
from pocoflow.nodes.spending import Account, Amounts
from pocoflow.store.store import Store
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
            message = f"what prep of node {request.context.node!r} gave cannot be read in a worker"
            raise exc.about(f"{message} ({ONLY_HERE})") from None
        return _called(request, Vertex(request.context.node, node), value, objects)
    except BaseException as exc:  # noqa: BLE001 - raised by the process of the run
        return Reply(error=_thrown(exc))


_reported: set[tuple[str, str]] = set()
"""The names of nodes whose code differs here, each with the digest of the other code."""


def _other_code(request: Request, node: Node) -> Iterator[str]:
    """A remark, once, on a node's code that differs from that of the run.

    Only the same version of Python can tell.
    """
    code, own_code, name = request.code, code_digest(node), request.context.node
    is_alike = own_code == code or own_code.rpartition(" ")[0] != code.rpartition(" ")[0]
    if not is_alike and (name, code) not in _reported:
        _reported.add((name, code))
        yield (
            f"run {request.context.run_id!r}: a worker has other code of node {name!r} than this "
            "process, and calls that; deploy both together"
        )


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
    """Collects what an ``exec`` does here, for the reply."""

    emits = True

    def __init__(self, request: Request) -> None:
        self.keeps = request.keeps
        self.calls: list[Called] = []
        self.remarks: list[str] = []
        self.spent: list[Amounts] = []
        self.emitted: list[str] = []
        self._request, self._guard = request, threading.Lock()

    def remark(self, text: str) -> None:
        """Collect a remark for the reply."""
        self.remarks.append(text)

    def spend(self, step: int, bill: Bill) -> None:
        """Collect what was spent outside of calls for the reply."""
        self.spent.append({name: paid for name, paid in bill.amounts.items() if paid is not None})

    def emit(self, context: RunContext, value: object) -> None:
        """Relay an emitted value, and collect it for the reply."""
        text, request = codec.dumps(value), self._request
        with self._guard:  # any thread of the exec may emit
            self.emitted.append(text)
            index = len(self.emitted) - 1
            relay(request.home, request.endpoint, request.emits, index, text)

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
        sent = called._replace(result=text, spent=dict(called.spent), function=None)
        self.calls.append(sent)


_GRAPH = Graph(Reach.of(Node(), NO_WIRING), NO_WIRING)
"""Stands for the graph of the flow, of which a worker knows one node."""


def _line(request: Request, vertex: Vertex, objects: Resources, ledger: _Collected) -> Line:
    """The line of execution that consists of one ``exec``."""
    context = replace(request.context, resources=objects)
    of_nodes = {id(vertex.node): request.of_node}
    plan = Plan(None, _GRAPH, context.flow_name, 0, None, request.budgets, of_nodes, None)
    line = Line(context, Store(), vertex, plan, False, {}, ledger)
    line.vertex, line.step, line.budget = vertex, context.step, request.budgets
    line.opens = tuple(key for key in declared(vertex.node) if key not in objects)
    line.sums = Account(request.spent)
    number = ALONE if context.item is None else context.item
    errors = tuple(codec.loads(request.errors)) if request.errors else ()
    started = StartedItem(context.mark, len(errors), errors)
    line.unfinished = Unfinished(items={number: started}, calls={number: request.calls})
    context.line = line
    context.group = f"{context.token}-{id(line)}"  # the run itself may be in this process
    if request.emits:
        context.emitter = line.emit
    return line


def _called(request: Request, vertex: Vertex, given: object, objects: Resources) -> Reply:
    """The outcome of ``exec``."""
    ledger, records = _Collected(request), list[logging.LogRecord]()
    line = _line(request, vertex, objects, ledger)
    calls = line.calls_of(line.context)
    results, set_here = list[object](), list[tuple[int, str]]()
    variables = [_variable(reference) for reference, _ in request.variables]
    result = ""

    def steps() -> Steps:
        for variable, (_, text) in zip(variables, request.variables, strict=True):
            if text:
                variable.set(codec.loads(text))
        before = copy_context()
        results.append((yield from tried_here(vertex, given, inline=True)))
        for number, variable in enumerate(variables):
            value = variable.get(before)
            if value is before or value is before.get(variable, before):
                continue
            try:
                set_here.append((number, codec.dumps(value)))
            except NotStorableError as exc:
                name = request.variables[number][0].text
                ledger.remark(f"context variable {name} cannot be sent back: {exc}")

    error: BaseException | None = None
    try:
        with _logging(request, records), _trace(request.trace):
            drive(line.context, with_resources(line, steps()) if line.opens else steps())
        calls.check_record(line.context)
        why = f"exec of node {vertex.name!r} returned what cannot be sent back from a worker"
        result = text_of(results[0], why, "return values")
    except BaseException as exc:  # noqa: BLE001 - raised by the process of the run
        error = exc
    return Reply(
        result,
        None if error is None else _thrown(error),
        ledger.emitted,
        [*map(_facts, records)],
        ledger.calls,
        calls.used,
        calls.last,
        error is not None and calls.is_of_call(error),
        error is not None and calls.refused is error,
        ledger.spent,
        [*ledger.remarks, *_other_code(request, vertex.node)],
        set_here,
    )


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

_collecting: ContextVar[list[logging.LogRecord] | None] = ContextVar(
    "pocoflow_collecting", default=None
)

_PLAIN = (str, int, float, bool, type(None))


@contextmanager
def _logging(request: Request, records: list[logging.LogRecord]) -> Iterator[None]:
    """Collect log records for the process of the run, if that is another one."""
    if request.home == this_process():
        yield
        return
    _prepare()
    root = logging.getLogger()
    if root.level > request.level:
        root.setLevel(request.level)
    token = _collecting.set(records)
    try:
        yield
    finally:
        _collecting.reset(token)


@cache
def _prepare() -> None:
    """Set a record factory that collects the records of an ``exec`` instead of handling them.

    They are shown once, in the process of the run: a forked worker has the same handlers.
    """
    make = logging.getLogRecordFactory()

    def make_record(*facts: object, **more: object) -> logging.LogRecord:
        record = make(*facts, **more)
        if (records := _collecting.get()) is not None:
            records.append(record)
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
